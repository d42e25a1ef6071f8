//! Single rules of a gate and a lane against frames that come late, come twice, or are made up.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    Side,
    door::Door,
    tests::{
        Call, DOWN, PATH, call, carry, door, epoch, handle, link, owned_by, run_of, unlink, wants,
    },
};
use crate::{
    error::NotHandled,
    model::{
        child::{Epoch, Route},
        frame::{DataFrame, Refusal},
        id::{ChildId, LaneId},
        message::LaneMark,
    },
};

/// The lane of node 1.
const LANE: LaneId = LaneId(1);

fn open(session: u64, at: Epoch) -> DataFrame {
    let child = ChildId::new("c").expect("an id");
    DataFrame::Open { lane: LANE, session, child, epoch: at }
}

fn message(session: u64, number: u64, size: usize) -> DataFrame {
    let mut body = vec![0; size.max(1)];
    body[0] = u8::try_from(number).expect("few messages");
    DataFrame::Message {
        lane: LANE,
        session,
        number,
        acknowledged: 0,
        wants_reply: true,
        budget: Some(Duration::from_secs(10)),
        trace: None,
        name: Arc::from("call"),
        body: Bytes::from(body),
    }
}

/// The owner, at node 2, hears a frame of the lane of node 1.
fn hears(owner: &mut Door<Call>, frame: DataFrame) {
    owner.frame(Instant::now(), (run_of(1), PATH), frame).expect("the protocol is kept");
}

/// The caller, at node 1, hears a frame of this node.
fn is_told(caller: &mut Door<Call>, from: u8, frame: DataFrame) {
    caller.frame(Instant::now(), (run_of(from), PATH), frame).expect("the protocol is kept");
}

/// What a door has for the lane of node 1, written so many bytes at a time.
fn answers(owner: &mut Door<Call>, budget: usize) -> Vec<DataFrame> {
    let mut frames = Vec::new();
    let mut out = |frame| frames.push(frame);
    while owner.write(Instant::now(), Side::Answers, (run_of(1), PATH), budget, &mut out) {}
    frames
}

/// What the caller has for a node.
fn calls(caller: &mut Door<Call>, to: u8) -> Vec<DataFrame> {
    let mut frames = Vec::new();
    let mut out = |frame| frames.push(frame);
    while caller.write(Instant::now(), Side::Calls, (run_of(to), PATH), 10_000, &mut out) {}
    frames
}

fn numbers(frames: &[DataFrame]) -> Vec<u64> {
    let number = |frame: &DataFrame| match frame {
        DataFrame::Message { number, .. } => Some(*number),
        _ => None,
    };
    frames.iter().filter_map(number).collect()
}

fn owner() -> Door<Call> {
    let mut owner = door(2);
    link(&mut owner, 1);
    owner.open(epoch(5), &[]);
    owner
}

/// A caller that has written one message to node 2, and the session in which it did.
fn written() -> (Door<Call>, u64) {
    let mut caller = door(1);
    for node in [2, 3] {
        link(&mut caller, node);
    }
    caller.route(owned_by(2, 0));
    caller.enter(call(1), true, super::How::Send).expect("it is taken");
    let frames = calls(&mut caller, 2);
    assert_eq!(numbers(&frames), [1]);
    let Some(DataFrame::Open { session, .. }) = frames.first() else { panic!("{frames:?}") };
    let session = *session;
    (caller, session)
}

fn refused(session: u64, why: Refusal) -> DataFrame {
    DataFrame::Refused { lane: LANE, session, why }
}

#[test]
fn what_is_for_the_child_here_alone_ends_when_the_child_goes_and_passes_nothing_on() {
    let mut owner = owner();
    owner.enter(call(1), true, super::How::Send).expect("it is taken");
    owner.enter_here(call(240)).expect("the child is here");
    owner.close();
    owner.enter_here(call(241)).expect("a frozen child may go on");
    owner.move_away(Route { owner: run_of(1), epoch: epoch(6) });
    let told = ["240: not: Stopped", "241: not: Stopped"];
    assert_eq!(wants(&mut owner), told, "the other one goes to the child's node");
    let rejected = owner.enter_here(call(242)).expect_err("the child has gone");
    assert_eq!(rejected.reason, NotHandled::Stopped);
    assert_eq!(numbers(&calls(&mut owner, 1)), [1]);
}

#[test]
fn what_is_for_the_child_here_alone_goes_on_with_it_and_waits_for_no_lane() {
    let mut owner = owner();
    owner.close();
    owner.enter_here(call(240)).expect("the child is here");
    owner.reopen(epoch(7));
    assert_eq!(handle(&mut owner, Instant::now()), Some(240));
    // Eight have room.
    let taken = (241..=255).filter(|number| owner.enter_here(call(*number)).is_ok()).count();
    assert_eq!(taken, 8);
    let rejected = owner.enter_here(call(240)).expect_err("its queue is full");
    assert_eq!(rejected.reason, NotHandled::Busy);
    owner.vacate(&NotHandled::Stopped);
    assert_eq!(wants(&mut owner).len(), 8);
}

#[test]
fn what_does_not_wait_in_the_queue_starts_while_the_gate_is_open_and_a_freeze_waits_for_it() {
    let mut owner = owner();
    while owner.enter_here(call(241)).is_ok() {}
    let now = Instant::now();
    assert!(owner.own_task(now, || None).is_none(), "there is nothing");
    let task = owner.own_task(now, || Some(call(1))).expect("a full queue is not in its way");
    owner.close();
    assert_eq!(owner.unresolved(), 1);
    owner.resolved(task.ticket, None);
    assert_eq!(owner.unresolved(), 0);
    let taken = |owner: &mut Door<_>| {
        let mut taken = false;
        let task = owner.own_task(now, || {
            taken = true;
            Some(call(2))
        });
        assert_eq!(taken, task.is_some(), "it is not lost");
        taken
    };
    assert!(!taken(&mut owner), "it is frozen");
    owner.reopen(epoch(7));
    owner.suspend(true);
    assert!(!taken(&mut owner), "whether the node counts is not known");
    owner.suspend(false);
    assert!(taken(&mut owner));
    owner.move_away(Route { owner: run_of(1), epoch: epoch(8) });
    assert!(!taken(&mut owner));
}

#[test]
fn of_two_owners_at_one_epoch_a_lane_takes_the_one_that_the_registry_names() {
    // Two sides of a split have taken the child over, and the one that this node was told of gives way.
    for why in [Refusal::NotHere, Refusal::Stopped, Refusal::GivenUp] {
        let (mut caller, session) = written();
        caller.route(owned_by(3, 0));
        assert_eq!(numbers(&calls(&mut caller, 3)), [0; 0], "node 2 may have it");
        is_told(&mut caller, 2, refused(session, why));
        assert_eq!(numbers(&calls(&mut caller, 3)), [1]);
        assert_eq!(wants(&mut caller), [""; 0]);
    }
}

#[test]
fn a_gate_that_handed_its_child_on_lets_messages_follow_another_owner_at_that_epoch() {
    let mut caller = door(1);
    for node in [2, 3] {
        link(&mut caller, node);
    }
    caller.open(epoch(0), &[]);
    caller.close();
    caller.move_away(owned_by(2, 1).expect("a route"));
    caller.route(owned_by(3, 1));
    caller.enter(call(1), true, super::How::Send).expect("it is taken");
    assert_eq!(numbers(&calls(&mut caller, 2)), [0; 0]);
    assert_eq!(numbers(&calls(&mut caller, 3)), [1]);
}

#[test]
fn a_gate_takes_no_frame_of_an_older_session() {
    let mut owner = owner();
    hears(&mut owner, open(1, epoch(5)));
    hears(&mut owner, message(1, 1, 1));
    // The next session begins with what is not accepted; what the last one brought is void.
    hears(&mut owner, open(2, epoch(5)));
    assert_eq!(owner.queued(), 0);
    hears(&mut owner, message(1, 2, 1));
    assert_eq!(owner.queued(), 0);
    hears(&mut owner, message(2, 1, 1));
    // Whoever waits for it has changed its mind in the session before, and again in this one.
    let budget = Duration::from_millis(1);
    hears(&mut owner, DataFrame::Budget { lane: LANE, session: 1, number: 1, budget });
    assert_eq!(handle(&mut owner, Instant::now() + Duration::from_secs(5)), Some(1));
    assert_eq!(handle(&mut owner, Instant::now()), None);
}

#[test]
fn a_gate_opens_no_older_session_and_none_twice() {
    let mut owner = owner();
    hears(&mut owner, open(2, epoch(5)));
    hears(&mut owner, message(2, 1, 1));
    for session in [1, 2] {
        hears(&mut owner, open(session, epoch(5)));
        assert_eq!(owner.queued(), 1, "session {session}");
    }
    hears(&mut owner, message(1, 2, 1));
    assert_eq!(owner.queued(), 1);
    hears(&mut owner, message(2, 2, 1));
    assert_eq!(owner.queued(), 2);
}

/// What became of a session of this epoch: `None` if it was taken.
fn refusal(owner: &mut Door<Call>, at: Epoch) -> Option<Refusal> {
    hears(owner, open(1, at));
    let refusal = answers(owner, 10_000).into_iter().find_map(|frame| match frame {
        DataFrame::Refused { session: 1, why, .. } => Some(why),
        _ => None,
    });
    let before = owner.queued();
    hears(owner, message(1, 1, 1));
    assert_eq!(owner.queued() > before, refusal.is_none(), "{at}: what is refused is not taken");
    refusal
}

#[test]
fn a_gate_takes_sessions_of_the_epochs_that_it_has_held_and_of_no_other() {
    type Life = fn(&mut Door<Call>);
    let to = |attempt| Route { owner: run_of(3), epoch: epoch(attempt) };
    let opened: Life = |_| {};
    let aborted: Life = |door| {
        door.close();
        door.reopen(epoch(7));
    };
    let restarted: Life = |door| {
        door.crashed();
        door.wait(epoch(7));
        door.open(epoch(7), &[]);
    };
    let moved: Life = |door| {
        door.close();
        door.move_away(Route { owner: run_of(3), epoch: epoch(6) });
    };
    // It came back: what was sent to its life here before went elsewhere since.
    let back: Life = |door| {
        door.close();
        door.move_away(Route { owner: run_of(3), epoch: epoch(6) });
        door.expect(epoch(8), &[]);
        door.open(epoch(8), &[]);
    };
    let held: Life = |door| {
        door.close();
        door.move_away(Route { owner: run_of(3), epoch: epoch(6) });
        door.reopen(epoch(8));
    };
    let stopped: Life = |door| door.vacate(&NotHandled::Stopped);
    let given_up: Life = |door| door.give_up(epoch(6));
    let (no, stale) = (Some(Refusal::NotHere), |n| Some(Refusal::Stale(epoch(n))));
    for (name, life, expected) in [
        ("opened", opened, [(4, stale(5)), (5, None), (6, no)].to_vec()),
        ("aborted", aborted, [(4, stale(7)), (5, None), (6, None), (7, None), (8, no)].to_vec()),
        ("restarted", restarted, [(6, stale(7)), (7, None), (8, no)].to_vec()),
        ("moved", moved, [(5, Some(Refusal::Moved(to(6)))), (6, no)].to_vec()),
        ("back", back, [(5, stale(8)), (7, stale(8)), (8, None), (9, no)].to_vec()),
        ("held", held, [(5, stale(8)), (7, stale(8)), (8, None), (9, no)].to_vec()),
        (
            "stopped",
            stopped,
            [(4, Some(Refusal::Stopped)), (5, Some(Refusal::Stopped)), (6, no)].to_vec(),
        ),
        ("given up", given_up, [(5, Some(Refusal::GivenUp)), (6, Some(Refusal::GivenUp))].to_vec()),
    ] {
        for (at, expected) in expected {
            let mut owner = owner();
            life(&mut owner);
            assert_eq!(refusal(&mut owner, epoch(at)), expected, "{name} at {at}");
        }
    }
}

#[test]
fn a_gate_that_expects_a_successor_takes_sessions_of_its_epoch_alone() {
    for (at, expected) in [(2, Some(Refusal::NotHere)), (3, None), (4, Some(Refusal::NotHere))] {
        let mut target = door(2);
        link(&mut target, 1);
        target.expect(epoch(3), &[]);
        assert_eq!(refusal(&mut target, epoch(at)), expected, "at {at}");
        assert_eq!(handle(&mut target, Instant::now()), None, "nothing runs before the commit");
    }
}

#[test]
fn a_gate_takes_no_more_of_a_lane_than_its_window() {
    let mut owner = owner();
    hears(&mut owner, open(1, epoch(5)));
    let breaks = |owner: &mut Door<Call>, frame| {
        owner.frame(Instant::now(), (run_of(1), PATH), frame).is_err()
    };
    for number in 1..=4 {
        hears(&mut owner, message(1, number, 1));
    }
    assert!(breaks(&mut owner, message(1, 5, 1)), "four messages are on their way");
    assert_eq!(owner.queued(), 4);
    // Each that is started makes room for one.
    assert_eq!(handle(&mut owner, Instant::now()), Some(1));
    hears(&mut owner, message(1, 5, 1));
    assert!(breaks(&mut owner, message(1, 6, 1)));
    // In bytes: one message of any size, and no second above the window.
    hears(&mut owner, open(2, epoch(5)));
    hears(&mut owner, message(2, 2, 2_000));
    assert!(breaks(&mut owner, message(2, 3, 1)));
    assert_eq!(handle(&mut owner, Instant::now()), Some(2));
    hears(&mut owner, message(2, 3, 600));
    assert!(breaks(&mut owner, message(2, 4, 600)));
    hears(&mut owner, message(2, 4, 400));
}

/// The registry says that the child is on another node: does what was written go there?
fn goes_elsewhere(caller: &mut Door<Call>) -> bool {
    caller.route(owned_by(3, 9));
    assert_eq!(wants(caller), [""; 0]);
    !calls(caller, 3).is_empty()
}

#[test]
fn a_lane_ignores_refusals_of_older_sessions_and_of_others_than_its_owner() {
    let (mut caller, session) = written();
    is_told(&mut caller, 2, refused(session, Refusal::Stale(epoch(1))));
    assert_eq!(numbers(&calls(&mut caller, 2)), [1], "it goes again, at the epoch that was named");
    // The same once more: the owner may have what was written since.
    is_told(&mut caller, 2, refused(session, Refusal::NotHere));
    assert!(!goes_elsewhere(&mut caller));
    is_told(&mut caller, 2, refused(session + 1, Refusal::NotHere));
    assert_eq!(numbers(&calls(&mut caller, 3)), [1]);

    let (mut caller, session) = written();
    is_told(&mut caller, 3, refused(session, Refusal::NotHere));
    assert!(!goes_elsewhere(&mut caller));
}

#[test]
fn what_was_written_is_not_redirected_by_the_registry_and_nothing_overtakes_it() {
    let (mut caller, session) = written();
    assert!(!goes_elsewhere(&mut caller));
    caller.enter(call(2), true, super::How::Send).expect("it is taken");
    assert_eq!(calls(&mut caller, 3), []);
    // Nor does it end there: whoever has it may have handled it.
    caller.route(None);
    assert_eq!(wants(&mut caller), [""; 0]);
    caller.route(owned_by(3, 9));
    let route = Route { owner: run_of(3), epoch: epoch(9) };
    is_told(&mut caller, 2, refused(session, Refusal::Moved(route)));
    assert_eq!(numbers(&calls(&mut caller, 3)), [1, 2]);
}

#[test]
fn what_a_dead_owner_may_have_is_not_sent_to_the_next_one() {
    let (mut caller, _) = written();
    // This one was never written.
    caller.unlinked(Side::Calls, run_of(2), PATH);
    caller.enter(call(2), true, super::How::Send).expect("it is taken");
    caller.gone(Instant::now(), run_of(2), DOWN);
    assert_eq!(wants(&mut caller), ["1: maybe: NodeDown"]);
    caller.route(owned_by(3, 9));
    assert_eq!(numbers(&calls(&mut caller, 3)), [2]);
}

type Ending = fn(&mut Door<Call>);

/// Each way in which a gate refuses all that waits, and whether its caller is told so at once.
const ENDINGS: [(&str, Ending); 5] = [
    ("stopped", |door| door.vacate(&NotHandled::Stopped)),
    ("given up", |door| door.give_up(epoch(6))),
    ("moved", |door| {
        door.close();
        door.move_away(Route { owner: run_of(3), epoch: epoch(6) });
    }),
    ("expected", |door| {
        door.close();
        door.move_away(Route { owner: run_of(3), epoch: epoch(6) });
        door.expect(epoch(8), &[]);
    }),
    ("stopped and begun anew", |door| {
        door.vacate(&NotHandled::Stopped);
        door.route(None);
        door.route(Some(Route { owner: run_of(2), epoch: epoch(9) }));
        door.open(epoch(9), &[]);
    }),
];

#[test]
fn a_refusal_never_passes_the_word_of_what_was_accepted() {
    for (name, ends) in ENDINGS {
        for budget in [1, 40, 10_000] {
            let mut owner = owner();
            hears(&mut owner, open(1, epoch(5)));
            for number in 1..=4 {
                hears(&mut owner, message(1, number, 1));
            }
            // Two have their reply, one is being handled, one waits.
            let now = Instant::now();
            assert_eq!([(); 2].map(|()| handle(&mut owner, now)), [Some(1), Some(2)]);
            let _third = owner.next_task(now).expect("it starts");
            ends(&mut owner);
            let frames = answers(&mut owner, budget);
            let refused = |frame: &DataFrame| matches!(frame, DataFrame::Refused { .. });
            let at = frames.iter().position(refused).expect("the last one is refused");
            let accepted = |frame: &DataFrame| match frame {
                DataFrame::Accepted { upto, .. } => Some(*upto),
                DataFrame::Reply { number, .. } => Some(*number),
                _ => None,
            };
            let told = frames[..at].iter().filter_map(accepted).max();
            assert_eq!(told, Some(3), "{name}, {budget} bytes at a time: {frames:?}");
            assert!(!frames[at..].iter().any(|f| accepted(f).is_some()), "{name}: {frames:?}");
        }
    }
}

#[test]
fn who_is_refused_after_its_message_was_handled_is_not_told_that_it_was_not() {
    for (name, ends) in ENDINGS {
        let now = Instant::now();
        let (mut caller, mut owner) = (door(1), owner());
        link(&mut caller, 2);
        caller.route(owned_by(2, 5));
        for number in 1..=3 {
            caller.enter(call(number), true, super::How::Send).expect("it is taken");
        }
        carry(&mut caller, now, (1, 2), &mut owner);
        assert_eq!(handle(&mut owner, now), Some(1));
        let _second = owner.next_task(now).expect("it starts");
        ends(&mut owner);
        carry(&mut owner, now, (2, 1), &mut caller);
        let wants = wants(&mut caller);
        assert_eq!(wants.first().map(String::as_str), Some("1: ok"), "{name}: {wants:?}");
        assert!(!wants.iter().any(|want| want.starts_with("2: not")), "{name}: {wants:?}");
    }
}

/// Who has ended or given its child away is the only one that can tell what it handled.
#[test]
fn a_gate_whose_child_is_gone_is_kept_until_each_lane_has_heard_what_was_handled_here() {
    for (name, ends) in ENDINGS.iter().filter(|(name, _)| ["stopped", "moved"].contains(name)) {
        for cut in [false, true] {
            let now = Instant::now();
            let (mut caller, mut owner) = (door(1), owner());
            link(&mut caller, 2);
            caller.route(owned_by(2, 5));
            caller.enter(call(1), false, super::How::Send).expect("it is taken");
            carry(&mut caller, now, (1, 2), &mut owner);
            assert_eq!(handle(&mut owner, now), Some(1));
            if cut {
                unlink(&mut caller, 2);
                unlink(&mut owner, 1);
            }
            ends(&mut owner);
            if cut {
                assert_eq!(answers(&mut owner, 10_000), [], "there is no path");
                assert!(!owner.is_idle(), "{name}: it may be asked");
                link(&mut caller, 2);
                link(&mut owner, 1);
            }
            carry(&mut owner, now, (2, 1), &mut caller);
            assert!(!owner.is_idle(), "{name}, cut {cut}: its word may be lost on its way");
            assert_eq!(wants(&mut caller), [""; 0], "{name}, cut {cut}: it was handled");
            assert!(!caller.is_idle(), "{name}, cut {cut}: it is to say that it has heard");
            let later = now + Duration::from_millis(100);
            caller.sweep(later);
            carry(&mut caller, later, (1, 2), &mut owner);
            for door in [&mut caller, &mut owner] {
                wants(door);
                assert!(door.is_idle(), "{name}, cut {cut}: {door:?}");
            }
        }
    }
}

/// It lost its path once while another went, and is long back.
#[test]
fn what_was_handled_of_a_lane_is_not_forgotten_for_an_absence_that_is_over() {
    let (mut owner, then) = (owner(), Instant::now());
    let later = then + Duration::from_secs(7_200);
    let sends = |owner: &mut Door<Call>, session, number| {
        hears(owner, open(session, epoch(5)));
        hears(owner, message(session, number, 1));
        handle(owner, then)
    };
    assert_eq!(sends(&mut owner, 1, 1), Some(1));
    unlink(&mut owner, 1);
    owner.gone(then, run_of(3), DOWN);
    link(&mut owner, 1);
    assert_eq!(sends(&mut owner, 2, 2), Some(2));
    unlink(&mut owner, 1);
    owner.gone(later, run_of(4), DOWN);
    link(&mut owner, 1);
    assert_eq!(sends(&mut owner, 3, 2), None, "it was handled");
}

#[test]
fn a_gate_waits_for_no_word_of_a_node_that_is_gone() {
    let mut owner = owner();
    hears(&mut owner, open(1, epoch(5)));
    hears(&mut owner, message(1, 1, 1));
    assert_eq!(handle(&mut owner, Instant::now()), Some(1));
    owner.vacate(&NotHandled::Stopped);
    assert!(!owner.is_idle());
    owner.gone(Instant::now(), run_of(1), DOWN);
    wants(&mut owner);
    assert!(owner.is_idle());
}

/// The child was handed over and is on its way back, with more of the lane in its state than this node has
/// told: what it had started itself is told before it refuses the rest.
#[test]
fn what_was_started_here_is_told_though_the_state_that_comes_back_is_ahead_of_it() {
    let mut owner = owner();
    hears(&mut owner, open(1, epoch(5)));
    for number in 1..=2 {
        hears(&mut owner, message(1, number, 1));
    }
    let _first = owner.next_task(Instant::now()).expect("it starts");
    owner.close();
    owner.move_away(Route { owner: run_of(3), epoch: epoch(6) });
    let marks = [LaneMark { run: run_of(1), lane: LANE, accepted: 2 }];
    owner.expect(epoch(8), &marks);
    let frames = answers(&mut owner, 10_000);
    let route = Route { owner: run_of(3), epoch: epoch(6) };
    assert_eq!(
        frames,
        [DataFrame::Accepted { lane: LANE, upto: 1 }, refused(1, Refusal::Moved(route))]
    );
}

#[test]
fn what_is_in_the_state_of_a_successor_that_is_given_up_is_told_before_it_refuses() {
    let mut target = door(2);
    link(&mut target, 1);
    target.expect(epoch(3), &[LaneMark { run: run_of(1), lane: LANE, accepted: 2 }]);
    hears(&mut target, open(1, epoch(3)));
    hears(&mut target, message(1, 3, 1));
    target.unexpect(epoch(3));
    let frames = answers(&mut target, 10_000);
    assert_eq!(frames, [DataFrame::Accepted { lane: LANE, upto: 2 }, refused(1, Refusal::NotHere)]);
}
