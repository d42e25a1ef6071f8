//! Single rules of a door, each event by event.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    Body, Gone, How, Limits, Payload, SendFailure, Side,
    door::{Door, Item, Signal},
};
use crate::{
    error::{MaybeHandled, NotHandled},
    model::{
        child::{Epoch, Route},
        frame::{DataFrame, Refusal, ReplyFailure},
        id::{ChildId, LaneId, NodeId, NodeRun},
        report::StartFailed,
    },
};

pub(super) const DOWN: Gone = Gone { left: false, answered: false };
const LEFT: Gone = Gone { left: true, answered: true };

#[derive(Debug, Clone)]
pub(super) struct Call(u8, Arc<Mutex<Option<Instant>>>);

impl Payload for Call {
    fn body(&mut self) -> Result<Body, NotHandled> {
        // From 200 on two are too large for the window.
        let length = if self.0 < 200 { 1 } else { 700 };
        Ok(Body { name: "call".into(), bytes: vec![self.0; length].into(), trace: None })
    }

    fn deadline(&self) -> Option<Instant> {
        *self.1.lock().expect("nobody panics with it")
    }

    /// Those from 240 on are for the child where they were let in.
    fn stays(&self) -> bool {
        self.0 >= 240
    }
}

pub(super) fn call(number: u8) -> Call {
    Call(number, Arc::default())
}

pub(super) fn run_of(node: u8) -> NodeRun {
    NodeRun { node: NodeId::from_key([node; 32]), nonce: u64::from(node) }
}

pub(super) fn door(node: u8) -> Door<Call> {
    let limits = Limits {
        mailbox: 8,
        waiting: 8,
        window_messages: 4,
        window_bytes: 1_024,
        reply_cache: 8,
        reply_cache_bytes: 1_024,
    };
    Door::new(run_of(node), ChildId::new("c").expect("an id"), LaneId(u64::from(node)), limits)
}

pub(super) fn epoch(attempt: u64) -> Epoch {
    Epoch { term: 1, attempt }
}

pub(super) fn owned_by(node: u8, attempt: u64) -> Option<Route> {
    Some(Route { owner: run_of(node), epoch: epoch(attempt) })
}

const SIDES: [Side; 2] = [Side::Answers, Side::Calls];
/// The number of every path: one link at a time.
pub(super) const PATH: u64 = 1;

pub(super) fn link(door: &mut Door<Call>, node: u8) {
    for side in SIDES {
        door.linked(side, run_of(node), PATH);
    }
}

pub(super) fn unlink(door: &mut Door<Call>, node: u8) {
    for side in SIDES {
        door.unlinked(side, run_of(node), PATH);
    }
}

/// What the door wants, but for wake-ups and readiness.
pub(super) fn wants(door: &mut Door<Call>) -> Vec<String> {
    let mut wants = Vec::new();
    while let Some(signal) = door.next_signal() {
        match signal {
            Signal::Locate => wants.push("locate".to_owned()),
            Signal::Resolved { payload, outcome } => {
                wants.push(match outcome {
                    Ok(_) => format!("{}: ok", payload.0),
                    Err(SendFailure::NotHandled(why)) => format!("{}: not: {why:?}", payload.0),
                    Err(SendFailure::MaybeHandled(why)) => format!("{}: maybe: {why:?}", payload.0),
                });
            }
            Signal::Wake | Signal::Ready(..) | Signal::Sweep(_) => {}
        }
    }
    wants
}

fn written(from: &mut Door<Call>, now: Instant, to: u8) -> Vec<DataFrame> {
    let mut frames = Vec::new();
    for side in SIDES {
        from.write(now, side, (run_of(to), PATH), 10_000, &mut |frame| frames.push(frame));
    }
    frames
}

pub(super) fn carry(from: &mut Door<Call>, now: Instant, pair: (u8, u8), to: &mut Door<Call>) {
    for frame in written(from, now, pair.1) {
        to.frame(now, (run_of(pair.0), PATH), frame).expect("the protocol is kept");
    }
}

pub(super) fn handle(door: &mut Door<Call>, now: Instant) -> Option<u8> {
    let task = door.next_task(now)?;
    let (number, outcome) = match task.item {
        Item::Local(Call(number, _)) => (number, None),
        Item::Remote { body, .. } => (body[0], Some(Ok(body))),
    };
    door.resolved(task.ticket, outcome);
    Some(number)
}

#[test]
fn a_message_for_an_unknown_child_waits_for_its_home_and_is_refused_if_there_is_none() {
    let mut door = door(1);
    door.enter(call(1), true, How::Send).expect("it waits");
    assert_eq!(wants(&mut door), ["locate"]);
    door.located(false);
    assert_eq!(wants(&mut door), ["1: not: NoSuchChild"]);
    assert!(door.is_idle());
}

#[test]
fn an_answer_says_nothing_of_messages_that_came_after_the_question() {
    let mut door = door(1);
    door.enter(call(1), true, How::Send).expect("it waits");
    assert_eq!(wants(&mut door), ["locate"]);
    // The answer is on its way; the child is started meanwhile.
    door.enter(call(2), true, How::Send).expect("it waits");
    assert_eq!(wants(&mut door), [""; 0]);
    door.located(false);
    assert_eq!(wants(&mut door), ["1: not: NoSuchChild", "locate"]);
    door.route(owned_by(1, 0));
    door.open(epoch(0), &[]);
    door.located(true);
    assert_eq!(wants(&mut door), [""; 0]);
    assert_eq!(handle(&mut door, Instant::now()), Some(2));
}

#[test]
fn what_nobody_waits_for_ends_when_no_home_answers_and_the_rest_is_asked_for_again() {
    let (mut door, later) = (door(1), Instant::now() + Duration::from_secs(60));
    door.enter(call(1), false, How::Send).expect("it waits");
    let asked = call(2);
    *asked.1.lock().expect("nobody panics with it") = Some(later);
    door.enter(asked, true, How::Send).expect("it waits");
    assert_eq!(wants(&mut door), ["locate"]);
    door.enter(call(3), false, How::Send).expect("it waits");
    door.unanswered();
    assert_eq!(wants(&mut door), ["1: not: Timeout", "locate"]);
    door.unanswered();
    assert_eq!(wants(&mut door), ["3: not: Timeout", "locate"], "it has waited as long");
    door.route(owned_by(1, 0));
    door.open(epoch(0), &[]);
    door.unanswered();
    assert_eq!(handle(&mut door, Instant::now()), Some(2), "its caller waits");
    assert_eq!(wants(&mut door), [""; 0]);
}

#[test]
fn messages_for_a_child_that_an_old_owner_forgot_are_not_kept_until_their_deadline() {
    let now = Instant::now();
    let (mut caller, mut owner) = (door(1), door(2));
    link(&mut caller, 2);
    link(&mut owner, 1);
    caller.route(owned_by(2, 0));
    caller.enter(call(1), true, How::Send).expect("it is taken");
    // The owner has stopped the child and forgotten that it ever had it.
    carry(&mut caller, now, (1, 2), &mut owner);
    caller.route(None);
    carry(&mut owner, now, (2, 1), &mut caller);
    assert_eq!(wants(&mut caller), ["locate"]);
    caller.located(false);
    assert_eq!(wants(&mut caller), ["1: not: NoSuchChild"]);
}

#[test]
fn messages_for_a_stopped_child_do_not_wait_for_a_dead_node_that_once_had_it() {
    let now = Instant::now();
    let mut door = door(1);
    link(&mut door, 2);
    // It was here, went to another node, and was stopped there; then that node died.
    door.open(epoch(0), &[]);
    door.close();
    door.move_away(owned_by(2, 1).expect("a route"));
    door.route(None);
    door.gone(now, run_of(2), DOWN);
    door.enter(call(1), true, How::Send).expect("it waits");
    assert_eq!(wants(&mut door), ["locate"]);
    door.located(false);
    assert_eq!(wants(&mut door), ["1: not: NoSuchChild"]);
}

#[test]
fn messages_do_not_wait_for_a_child_that_was_started_and_stopped_while_its_home_was_asked() {
    let mut door = door(1);
    door.enter(call(1), true, How::Send).expect("it waits");
    assert_eq!(wants(&mut door), ["locate"]);
    // On a node without a link.
    door.route(owned_by(2, 0));
    door.route(None);
    door.located(false);
    assert_eq!(wants(&mut door), ["1: not: NoSuchChild"]);
}

/// A message waits for a child that is to be started for it.
fn demanded() -> Door<Call> {
    let mut door = door(1);
    door.enter(call(1), true, How::Send).expect("it waits");
    assert_eq!(wants(&mut door), ["locate"]);
    door.demand();
    door
}

#[test]
fn what_was_given_to_a_child_that_did_not_start_on_demand_is_told_why() {
    let why = StartFailed::NoNode;
    let told = ["1: not: NotStarted { reason: NoNode }", "2: not: NotStarted { reason: NoNode }"];
    // It was to run here.
    let mut here = demanded();
    here.route(owned_by(1, 0));
    here.enter(call(2), true, How::Send).expect("it waits");
    here.route(None);
    assert!(wants(&mut here).is_empty() && !here.is_idle(), "its home says why");
    here.not_started(why.clone());
    assert_eq!(wants(&mut here), told);
    assert!(here.is_idle());
    // It was to run elsewhere.
    let now = Instant::now();
    let mut caller = demanded();
    link(&mut caller, 2);
    caller.route(owned_by(2, 0));
    caller.enter(call(2), true, How::Send).expect("it waits");
    let opened = written(&mut caller, now, 2);
    let Some(DataFrame::Open { lane, session, .. }) = opened.first().cloned() else {
        panic!("no session in {opened:?}");
    };
    let refused = DataFrame::Refused { lane, session, why: Refusal::Stopped };
    caller.frame(now, (run_of(2), PATH), refused).expect("the protocol is kept");
    caller.route(None);
    assert!(wants(&mut caller).is_empty() && !caller.is_idle());
    caller.not_started(why);
    assert_eq!(wants(&mut caller), told);
    assert!(caller.is_idle());
}

#[test]
fn what_was_refused_while_a_start_on_demand_was_asked_for_ends_with_any_answer() {
    let refused = || {
        let mut door = demanded();
        door.route(owned_by(1, 0));
        for number in 2..=8 {
            door.enter(call(number), true, How::Send).expect("there is room");
        }
        door.route(None);
        assert_eq!(wants(&mut door), [""; 0]);
        door
    };
    let stopped: Vec<String> = (1..=8).map(|number| format!("{number}: not: Stopped")).collect();
    for found in [true, false] {
        let mut door = refused();
        door.located(found);
        assert_eq!(wants(&mut door), stopped);
    }
    let mut door = refused();
    door.unanswered();
    assert_eq!(wants(&mut door), stopped);
    let mut door = refused();
    door.abandon();
    assert_eq!(wants(&mut door).len(), 8, "the hub has stopped");
    // No more are kept than the child's queue holds.
    let mut door = refused();
    door.route(owned_by(1, 1));
    door.enter(call(9), true, How::Send).expect("there is room");
    door.route(None);
    assert_eq!(wants(&mut door), ["9: not: Stopped"]);
    // The next question is another one.
    door.not_started(StartFailed::NoNode);
    assert_eq!(wants(&mut door).len(), 8);
    door.enter(call(10), true, How::Send).expect("it waits");
    assert_eq!(wants(&mut door), ["locate"]);
    door.route(owned_by(1, 2));
    door.route(None);
    assert_eq!(wants(&mut door), ["10: not: Stopped"], "nobody has asked for a start");
}

/// A caller whose message was refused by an owner before, which names one that knows nothing.
fn sent_on_to_nobody(now: Instant) -> (Door<Call>, Door<Call>) {
    let (mut caller, mut old, mut new) = (door(1), door(2), door(3));
    link(&mut caller, 2);
    link(&mut caller, 3);
    link(&mut old, 1);
    link(&mut new, 1);
    old.open(epoch(0), &[]);
    caller.route(owned_by(2, 0));
    caller.enter(call(1), true, How::Send).expect("it is taken");
    carry(&mut caller, now, (1, 2), &mut old);
    old.close();
    old.move_away(owned_by(3, 1).expect("a route"));
    carry(&mut old, now, (2, 1), &mut caller);
    assert_eq!(wants(&mut caller), [""; 0]);
    carry(&mut caller, now, (1, 3), &mut new);
    carry(&mut new, now, (3, 1), &mut caller);
    (caller, new)
}

#[test]
fn a_refusal_that_names_an_owner_which_has_forgotten_the_child_is_checked_with_its_home() {
    let now = Instant::now();
    let (mut caller, _) = sent_on_to_nobody(now);
    assert_eq!(wants(&mut caller), ["locate"]);
    caller.located(false);
    assert_eq!(wants(&mut caller), ["1: not: NoSuchChild"]);
    assert!(caller.is_idle());
}

#[test]
fn a_child_that_its_home_knows_is_waited_for_where_a_refusal_says_that_it_comes() {
    let mut now = Instant::now();
    let (mut caller, mut new) = sent_on_to_nobody(now);
    for _ in 0..3 {
        assert_eq!(wants(&mut caller), ["locate"]);
        // It has an owner, but the news of the last move have not come that far.
        caller.located(true);
        assert_eq!(wants(&mut caller), [""; 0], "not asked for again until something is heard");
        now += Duration::from_secs(1);
        caller.sweep(now);
        carry(&mut caller, now, (1, 3), &mut new);
        carry(&mut new, now, (3, 1), &mut caller);
    }
    assert_eq!(wants(&mut caller), ["locate"]);
    new.open(epoch(1), &[]);
    now += Duration::from_secs(1);
    caller.sweep(now);
    carry(&mut caller, now, (1, 3), &mut new);
    assert_eq!(handle(&mut new, now), Some(1));
    carry(&mut new, now, (3, 1), &mut caller);
    assert_eq!(wants(&mut caller), ["1: ok"]);
}

#[test]
fn a_longer_wait_is_told_to_the_owner_after_the_message_has_gone() {
    let began = Instant::now();
    let (mut caller, mut owner) = (door(1), door(2));
    link(&mut caller, 2);
    link(&mut owner, 1);
    owner.open(epoch(0), &[]);
    caller.route(owned_by(2, 0));
    let second = Duration::from_secs(1);
    let (short, long) = (call(1), call(2));
    for call in [&short, &long] {
        *call.1.lock().expect("nobody panics with it") = Some(began + second);
        caller.enter(call.clone(), true, How::Send).expect("it is taken");
    }
    carry(&mut caller, began, (1, 2), &mut owner);
    *long.1.lock().expect("nobody panics with it") = Some(began + 60 * second);
    caller.redate();
    carry(&mut caller, began, (1, 2), &mut owner);
    let later = began + 2 * second;
    assert_eq!(handle(&mut owner, later), Some(2), "the first one's time is over");
    let replies: Vec<_> = written(&mut owner, later, 1)
        .into_iter()
        .filter_map(|frame| match frame {
            DataFrame::Reply { number, outcome, .. } => Some((number, outcome)),
            _ => None,
        })
        .collect();
    let two = Bytes::from_static(&[2]);
    assert_eq!(replies, [(1, Err(ReplyFailure::Expired)), (2, Ok(two))]);
}

#[test]
fn what_the_owner_before_has_handled_is_not_handled_again_by_its_successor() {
    let now = Instant::now();
    let (mut caller, mut old, mut new) = (door(1), door(2), door(3));
    link(&mut caller, 2);
    link(&mut caller, 3);
    link(&mut old, 1);
    link(&mut new, 1);
    old.open(epoch(0), &[]);
    caller.route(owned_by(2, 0));
    caller.enter(call(1), false, How::Try).expect("it is taken");
    caller.enter(call(2), false, How::Try).expect("it is taken");
    carry(&mut caller, now, (1, 2), &mut old);
    assert_eq!(handle(&mut old, now), Some(1));
    old.close();
    let marks = old.marks();
    assert_eq!(marks.len(), 1);
    assert_eq!(marks[0].accepted, 1);
    new.expect(epoch(1), &marks);
    old.move_away(owned_by(3, 1).expect("a route"));
    new.open(epoch(1), &marks);
    // The old owner leaves; what it said last is lost.
    caller.gone(now, run_of(2), LEFT);
    caller.route(owned_by(3, 1));
    carry(&mut caller, now, (1, 3), &mut new);
    assert_eq!(handle(&mut new, now), Some(2));
    assert_eq!(handle(&mut new, now), None);
    carry(&mut new, now, (3, 1), &mut caller);
    assert_eq!(wants(&mut caller), [""; 0]);
    assert!(caller.is_idle());
}

#[test]
fn a_bye_that_passed_an_answer_does_not_say_that_nothing_was_handled() {
    let now = Instant::now();
    let written = || {
        let mut caller = door(1);
        link(&mut caller, 2);
        caller.route(owned_by(2, 0));
        caller.enter(call(1), true, How::Send).expect("it is taken");
        let mut frames = 0;
        caller.write(now, Side::Calls, (run_of(2), 1), 1 << 16, &mut |_| frames += 1);
        assert!(frames > 1, "the session and the message");
        while caller.next_signal().is_some() {}
        caller
    };
    let mut caller = written();
    caller.gone(now, run_of(2), Gone { left: true, answered: false });
    let Some(Signal::Resolved { outcome, .. }) = caller.next_signal() else {
        panic!("the caller is told");
    };
    assert_eq!(outcome, Err(SendFailure::MaybeHandled(MaybeHandled::NodeDown)));
    // With the last word of the one that left it is known that the message was not handled.
    let mut caller = written();
    caller.gone(now, run_of(2), LEFT);
    assert!(caller.is_calling(), "it goes to the next owner");
}

#[test]
fn a_node_that_seemed_dead_sends_again_and_is_not_handled_twice() {
    let now = Instant::now();
    let (mut caller, mut owner) = (door(1), door(2));
    for _ in 0..2 {
        link(&mut caller, 2);
        link(&mut owner, 1);
        owner.open(epoch(0), &[]);
        caller.route(owned_by(2, 0));
        if caller.queued() == 0 {
            caller.enter(call(1), false, How::Try).expect("it is taken");
        }
        carry(&mut caller, now, (1, 2), &mut owner);
        // What the owner says is lost: it takes the caller for dead.
        unlink(&mut caller, 2);
        let handled = handle(&mut owner, now);
        owner.gone(now, run_of(1), DOWN);
        assert!(handled.is_none_or(|number| number == 1));
    }
    assert_eq!(handle(&mut owner, now), None);
    assert_eq!(owner.marks()[0].accepted, 1);
}

#[test]
fn a_full_queue_refuses_a_message_and_keeps_its_order() {
    let mut door = door(1);
    door.open(epoch(0), &[]);
    for number in 0..8 {
        door.enter(call(number), false, How::Try).expect("there is room");
    }
    let refused = door.enter(call(8), false, How::Try).expect_err("it is full");
    assert_eq!(refused.reason, NotHandled::Busy);
    door.enter(call(9), true, How::Send).expect("who waits has room");
    let now = Instant::now();
    let handled: Vec<u8> = std::iter::from_fn(|| handle(&mut door, now)).collect();
    assert_eq!(handled, [0, 1, 2, 3, 4, 5, 6, 7, 9]);
}

#[test]
fn frames_of_a_path_that_is_not_the_current_one_are_ignored_at_both_ends() {
    let now = Instant::now();
    let (mut caller, mut owner) = (door(1), door(2));
    link(&mut caller, 2);
    link(&mut owner, 1);
    owner.open(epoch(0), &[]);
    caller.route(owned_by(2, 0));
    caller.enter(call(1), true, How::Send).expect("it is taken");
    let old = written(&mut caller, now, 2);
    assert_eq!(old.len(), 2);
    // The caller goes over to another path before anything has arrived.
    let path = PATH + 1;
    caller.linked(Side::Calls, run_of(2), path);
    assert_eq!(written(&mut caller, now, 2), [], "the old path is not written to any more");
    let mut new = Vec::new();
    caller.write(now, Side::Calls, (run_of(2), path), 10_000, &mut |frame| new.push(frame));
    assert_eq!(new.len(), 2);
    owner.linked(Side::Answers, run_of(1), path);
    for frame in new {
        owner.frame(now, (run_of(1), path), frame).expect("the protocol is kept");
    }
    // What was on the old one arrives late, and once more by what is no path at all.
    for (path, frame) in old.iter().flat_map(|frame| [(PATH, frame), (9, frame)]) {
        owner.frame(now, (run_of(1), path), frame.clone()).expect("it is ignored");
    }
    assert_eq!(handle(&mut owner, now), Some(1));
    assert_eq!(handle(&mut owner, now), None);
    let mut answers = Vec::new();
    owner.write(now, Side::Answers, (run_of(1), path), 10_000, &mut |f| answers.push(f));
    for frame in &answers {
        caller.frame(now, (run_of(2), PATH), frame.clone()).expect("it is ignored");
    }
    assert_eq!(wants(&mut caller), [""; 0]);
    for frame in answers {
        caller.frame(now, (run_of(2), path), frame).expect("the protocol is kept");
    }
    assert_eq!(wants(&mut caller), ["1: ok"]);
}

#[test]
fn a_path_that_is_told_late_does_not_replace_a_newer_one() {
    let now = Instant::now();
    let mut caller = door(1);
    caller.route(owned_by(2, 0));
    caller.enter(call(1), true, How::Send).expect("it is taken");
    caller.linked(Side::Calls, run_of(2), 7);
    caller.linked(Side::Calls, run_of(2), 6);
    caller.unlinked(Side::Calls, run_of(2), 6);
    let mut frames = 0;
    caller.write(now, Side::Calls, (run_of(2), 6), 10_000, &mut |_| frames += 1);
    assert_eq!(frames, 0);
    caller.write(now, Side::Calls, (run_of(2), 7), 10_000, &mut |_| frames += 1);
    assert_eq!(frames, 2);
}

#[test]
fn a_reply_that_was_lost_with_a_path_is_sent_again_on_the_next() {
    let now = Instant::now();
    let (mut caller, mut owner) = (door(1), door(2));
    link(&mut caller, 2);
    link(&mut owner, 1);
    owner.open(epoch(0), &[]);
    caller.route(owned_by(2, 0));
    caller.enter(call(1), true, How::Send).expect("it is taken");
    carry(&mut caller, now, (1, 2), &mut owner);
    assert_eq!(handle(&mut owner, now), Some(1));
    assert!(!written(&mut owner, now, 1).is_empty(), "it is lost");
    owner.linked(Side::Answers, run_of(1), 2);
    caller.linked(Side::Calls, run_of(2), 2);
    let mut answers = Vec::new();
    owner.write(now, Side::Answers, (run_of(1), 2), 10_000, &mut |f| answers.push(f));
    for frame in answers {
        caller.frame(now, (run_of(2), 2), frame).expect("the protocol is kept");
    }
    assert_eq!(wants(&mut caller), ["1: ok"]);
    assert_eq!(handle(&mut owner, now), None);
}

/// A caller whose message the owner, node 2, refused with this word. Then that node went down, and
/// node 3 took the child over.
fn lied_to(why: Refusal) -> Vec<String> {
    let now = Instant::now();
    let (mut caller, mut next) = (door(1), door(3));
    link(&mut caller, 2);
    link(&mut caller, 3);
    link(&mut next, 1);
    caller.route(owned_by(2, 0));
    caller.enter(call(1), true, How::Send).expect("it is taken");
    let opened = written(&mut caller, now, 2);
    let Some(DataFrame::Open { lane, session, .. }) = opened.first().cloned() else {
        panic!("no session in {opened:?}");
    };
    let refused = DataFrame::Refused { lane, session, why };
    caller.frame(now, (run_of(2), PATH), refused).expect("the protocol is kept");
    caller.gone(now, run_of(2), DOWN);
    let taken_over = Epoch { term: 2, attempt: 0 };
    caller.route(Some(Route { owner: run_of(3), epoch: taken_over }));
    next.open(taken_over, &[]);
    carry(&mut caller, now, (1, 3), &mut next);
    assert_eq!(handle(&mut next, now), Some(1), "after {why:?}");
    carry(&mut next, now, (3, 1), &mut caller);
    wants(&mut caller).into_iter().filter(|want| want != "locate").collect()
}

#[test]
fn an_owner_that_lied_about_the_epoch_is_not_believed_when_it_is_gone() {
    let far = [Epoch::LIMIT, Epoch::JUMP].map(|term| Epoch { term, attempt: 9 });
    for epoch in far {
        assert_eq!(lied_to(Refusal::Stale(epoch)), ["1: ok"]);
        for owner in [2, 3, 4].map(run_of) {
            let moved = Refusal::Moved(Route { owner, epoch });
            assert_eq!(lied_to(moved), ["1: ok"]);
        }
    }
}

#[test]
fn a_session_ends_with_its_path_and_what_it_brought_is_taken_from_the_next_one() {
    let now = Instant::now();
    let (mut caller, mut owner) = (door(1), door(2));
    link(&mut caller, 2);
    link(&mut owner, 1);
    owner.open(epoch(0), &[]);
    caller.route(owned_by(2, 0));
    caller.enter(call(1), true, How::Send).expect("it is taken");
    carry(&mut caller, now, (1, 2), &mut owner);
    assert_eq!(owner.queued(), 1);
    owner.linked(Side::Answers, run_of(1), PATH + 1);
    assert_eq!(handle(&mut owner, now), None);
    caller.linked(Side::Calls, run_of(2), PATH + 1);
    let mut frames = Vec::new();
    caller.write(now, Side::Calls, (run_of(2), PATH + 1), 10_000, &mut |f| frames.push(f));
    for frame in frames {
        owner.frame(now, (run_of(1), PATH + 1), frame).expect("the protocol is kept");
    }
    assert_eq!(handle(&mut owner, now), Some(1));
    assert_eq!(handle(&mut owner, now), None);
}

#[test]
fn a_lane_whose_next_message_finds_no_room_is_ready_when_there_is_some_and_not_before() {
    let now = Instant::now();
    let (mut owner, mut caller) = (door(2), lane_of(run_of(1), 1));
    owner.open(epoch(0), &[]);
    link(&mut owner, 1);
    let is_ready = |caller: &mut Door<Call>| {
        let signals = std::iter::from_fn(|| caller.next_signal());
        signals.filter(|signal| matches!(signal, Signal::Ready(..))).count() > 0
    };
    for number in [200, 201] {
        caller.enter(call(number), true, How::Send).expect("it is taken");
    }
    assert!(is_ready(&mut caller));
    bring(&mut caller, run_of(1), now, &mut owner);
    assert!(!is_ready(&mut caller));
    assert_eq!(written(&mut caller, now, 2).len(), 0);
    assert!(!is_ready(&mut caller));
    assert_eq!(handle(&mut owner, now), Some(200));
    for frame in written(&mut owner, now, 1) {
        caller.frame(now, (run_of(2), PATH), frame).expect("the protocol is kept");
    }
    assert!(is_ready(&mut caller));
    bring(&mut caller, run_of(1), now, &mut owner);
    assert_eq!([(); 2].map(|()| handle(&mut owner, now)), [Some(201), None]);
}

/// Another lane of the child `c`: of an earlier or later door of a node, or of another run of it.
fn lane_of(run: NodeRun, lane: u64) -> Door<Call> {
    let limits = Limits {
        mailbox: 8,
        waiting: 8,
        window_messages: 4,
        window_bytes: 1_024,
        reply_cache: 8,
        reply_cache_bytes: 1_024,
    };
    let mut door = Door::new(run, ChildId::new("c").expect("an id"), LaneId(lane), limits);
    link(&mut door, 2);
    door.route(owned_by(2, 0));
    door
}

/// Carries what a lane has for the owner, at node 2.
fn bring(lane: &mut Door<Call>, run: NodeRun, now: Instant, owner: &mut Door<Call>) {
    for frame in written(lane, now, 2) {
        owner.frame(now, (run, PATH), frame).expect("the protocol is kept");
    }
}

fn kept(owner: &Door<Call>) -> Vec<(NodeRun, LaneId, u64)> {
    owner.marks().iter().map(|mark| (mark.run, mark.lane, mark.accepted)).collect()
}

#[test]
fn a_later_lane_of_a_run_ends_the_earlier_ones_and_nobody_elses() {
    let now = Instant::now();
    let mut owner = door(2);
    owner.open(epoch(0), &[]);
    let (run, other) = (run_of(1), run_of(3));
    for node in [1, 3] {
        link(&mut owner, node);
    }
    let mut lanes = [(run, 5), (other, 5), (run, 6)].map(|(run, lane)| lane_of(run, lane));
    for (number, lane) in (1..).zip(&mut lanes) {
        lane.enter(call(number), true, How::Send).expect("it is taken");
    }
    let [earlier, others, later] = &mut lanes;
    bring(earlier, run, now, &mut owner);
    assert_eq!(handle(&mut owner, now), Some(1));
    earlier.enter(call(4), true, How::Send).expect("it is taken");
    bring(earlier, run, now, &mut owner);
    bring(others, other, now, &mut owner);
    bring(later, run, now, &mut owner);
    // What the earlier one had queued goes with it: nobody waits for the answer.
    assert_eq!([(); 3].map(|()| handle(&mut owner, now)), [Some(2), Some(3), None]);
    assert_eq!(kept(&owner), [(run, LaneId(6), 1), (other, LaneId(5), 1)]);
    // A lane does not come back after a later one.
    let child = ChildId::new("c").expect("an id");
    let open = DataFrame::Open { lane: LaneId(5), session: 9, child, epoch: epoch(0) };
    owner.frame(now, (run, PATH), open).expect_err("the run breaks the protocol");
}

#[test]
fn a_lane_that_is_closed_is_forgotten_with_what_it_has_queued() {
    let now = Instant::now();
    let mut owner = door(2);
    owner.open(epoch(0), &[]);
    link(&mut owner, 1);
    let run = run_of(1);
    let mut lane = lane_of(run, 5);
    for number in 1..=2 {
        lane.enter(call(number), true, How::Send).expect("it is taken");
    }
    bring(&mut lane, run, now, &mut owner);
    assert_eq!(handle(&mut owner, now), Some(1));
    // Not its own, and its own.
    for (closed, left) in [(4, 1), (5, 0), (5, 0)] {
        let frame = DataFrame::Closed { lane: LaneId(closed) };
        owner.frame(now, (run, PATH), frame).expect("the protocol is kept");
        assert_eq!(kept(&owner).len(), left);
    }
    assert_eq!(handle(&mut owner, now), None);
}

#[test]
fn the_next_run_of_a_node_ends_the_lanes_of_the_one_before() {
    let now = Instant::now();
    let mut owner = door(2);
    owner.open(epoch(0), &[]);
    link(&mut owner, 1);
    let run = run_of(1);
    let mut lane = lane_of(run, 5);
    for number in 1..=2 {
        lane.enter(call(number), true, How::Send).expect("it is taken");
    }
    bring(&mut lane, run, now, &mut owner);
    assert_eq!(handle(&mut owner, now), Some(1));
    unlink(&mut owner, 1);
    assert_eq!(kept(&owner), [(run, LaneId(5), 1)], "it may come back and send again");
    let next = NodeRun { nonce: 99, ..run };
    owner.linked(Side::Answers, next, PATH);
    assert_eq!(kept(&owner), []);
    let mut lane = lane_of(next, 1);
    lane.enter(call(3), true, How::Send).expect("it is taken");
    bring(&mut lane, next, now, &mut owner);
    assert_eq!([handle(&mut owner, now), handle(&mut owner, now)], [Some(3), None]);
}

#[test]
fn what_waits_for_a_child_that_is_started_again_is_handled_then_in_order() {
    let now = Instant::now();
    let (mut owner, mut caller) = (door(1), door(2));
    link(&mut owner, 2);
    link(&mut caller, 1);
    owner.open(epoch(1), &[]);
    caller.route(owned_by(1, 1));
    owner.crashed();
    owner.wait(epoch(2));
    // Whoever knows the new epoch and whoever does not is let in.
    caller.enter(call(1), true, How::Send).expect("there is room");
    carry(&mut caller, now, (2, 1), &mut owner);
    carry(&mut owner, now, (1, 2), &mut caller);
    owner.enter(call(2), true, How::Send).expect("there is room");
    caller.route(owned_by(1, 2));
    caller.enter(call(3), true, How::Send).expect("there is room");
    carry(&mut caller, now, (2, 1), &mut owner);
    assert_eq!(handle(&mut owner, now), None, "nothing is started without an actor");
    assert_eq!((wants(&mut owner), wants(&mut caller)), (vec![], vec![]));
    owner.open(epoch(2), &[]);
    let handled: Vec<u8> = std::iter::from_fn(|| handle(&mut owner, now)).collect();
    assert_eq!(handled.len(), 3, "{handled:?}");
    let at = |number| handled.iter().position(|one| *one == number);
    assert!(at(1) < at(3), "{handled:?}");
}

#[test]
fn a_child_that_waits_where_it_never_ran_takes_messages() {
    let now = Instant::now();
    let (mut owner, mut caller) = (door(1), door(2));
    link(&mut owner, 2);
    link(&mut caller, 1);
    owner.route(owned_by(1, 5));
    owner.wait(epoch(5));
    caller.route(owned_by(1, 5));
    caller.enter(call(1), true, How::Send).expect("there is room");
    owner.enter(call(2), true, How::Send).expect("there is room");
    carry(&mut caller, now, (2, 1), &mut owner);
    carry(&mut owner, now, (1, 2), &mut caller);
    assert_eq!(owner.waiting().0, 2, "both are in its queue");
    assert!(!owner.is_idle(), "its door is kept");
}

#[test]
fn what_is_sent_to_a_child_that_was_given_up_is_answered_at_once() {
    let now = Instant::now();
    let (mut owner, mut caller) = (door(1), door(2));
    link(&mut owner, 2);
    link(&mut caller, 1);
    owner.open(epoch(1), &[]);
    caller.route(owned_by(1, 1));
    caller.enter(call(1), true, How::Send).expect("there is room");
    carry(&mut caller, now, (2, 1), &mut owner);
    owner.crashed();
    owner.enter(call(2), true, How::Send).expect("there is room");
    owner.give_up(epoch(2));
    // What waited.
    assert_eq!(wants(&mut owner), ["2: not: GivenUp"]);
    carry(&mut owner, now, (1, 2), &mut caller);
    assert_eq!(wants(&mut caller), ["1: not: GivenUp"]);
    // What comes, from here, and from who knows the last epoch or the one before.
    let refused = owner.enter(call(3), true, How::Send).expect_err("it is refused");
    assert_eq!(refused.reason, NotHandled::GivenUp);
    for (number, route) in [(4, owned_by(1, 1)), (5, owned_by(1, 2))] {
        caller.route(route);
        caller.enter(call(number), true, How::Send).expect("it is sent");
        carry(&mut caller, now, (2, 1), &mut owner);
        carry(&mut owner, now, (1, 2), &mut caller);
        assert_eq!(wants(&mut caller), [format!("{number}: not: GivenUp")]);
    }
    assert!(!owner.is_idle(), "its door is kept");
    // It stays refused until its next start has succeeded.
    owner.wait(epoch(3));
    let refused = owner.enter(call(6), true, How::Send).expect_err("it is refused");
    assert_eq!(refused.reason, NotHandled::GivenUp);
    owner.open(epoch(3), &[]);
    caller.route(owned_by(1, 3));
    caller.enter(call(7), true, How::Send).expect("it is sent");
    carry(&mut caller, now, (2, 1), &mut owner);
    owner.enter(call(8), true, How::Send).expect("there is room");
    assert_eq!((handle(&mut owner, now), handle(&mut owner, now)), (Some(7), Some(8)));
}

#[test]
fn what_was_on_its_way_elsewhere_is_refused_when_the_child_is_given_up_here() {
    let mut owner = door(1);
    owner.route(owned_by(3, 1));
    owner.enter(call(1), true, How::Send).expect("it waits for a link");
    owner.give_up(epoch(2));
    assert_eq!(wants(&mut owner), ["1: not: GivenUp"]);
}

#[test]
fn a_start_that_ends_after_its_child_was_removed_opens_the_door_of_nobody() {
    let mut door = door(1);
    door.route(owned_by(1, 3));
    door.enter(call(1), true, How::Send).expect("it waits for the start");
    // The start took too long: the child is removed while it still goes on.
    door.route(None);
    assert_eq!(wants(&mut door), ["1: not: Stopped"]);
    assert!(!door.open(epoch(3), &[]));
    door.enter(call(2), false, How::Try).expect("its home is asked");
    assert_eq!(wants(&mut door), ["locate"]);
    assert_eq!(handle(&mut door, Instant::now()), None);
    door.vacate(&NotHandled::Stopped);
    door.located(false);
    assert_eq!(wants(&mut door), ["2: not: NoSuchChild"]);
    // The next life of the child has a door.
    door.route(owned_by(1, 4));
    door.enter(call(3), true, How::Send).expect("it waits for the start");
    assert!(door.open(epoch(4), &[]));
    assert_eq!(handle(&mut door, Instant::now()), Some(3));
}

#[test]
fn what_comes_while_a_child_ends_is_not_for_the_next_one_of_its_id() {
    let mut door = door(1);
    door.route(owned_by(1, 3));
    assert!(door.open(epoch(3), &[]));
    door.vacate(&NotHandled::Stopped);
    door.enter(call(1), false, How::Try).expect("the registry still has the child");
    door.route(None);
    assert_eq!(wants(&mut door), ["1: not: Stopped"]);
    door.route(owned_by(1, 4));
    assert!(door.open(epoch(4), &[]));
    assert_eq!(handle(&mut door, Instant::now()), None);
}

#[test]
fn a_node_that_leaves_waits_for_what_was_sent_before_and_not_for_what_comes_later() {
    let now = Instant::now();
    let (mut caller, mut owner) = (door(1), door(2));
    owner.open(epoch(1), &[]);
    caller.route(owned_by(2, 1));
    for (end, other) in [(&mut caller, 2), (&mut owner, 1)] {
        link(end, other);
    }
    caller.enter(call(1), true, How::Send).expect("it is sent");
    caller.enter(call(2), false, How::Send).expect("it is sent");
    let next = caller.next_call();
    assert!(caller.is_calling_below(next));
    caller.enter(call(3), true, How::Send).expect("it is sent");
    for expected in [1, 2] {
        // That it is accepted is not enough for one that waits for its reply.
        assert!(caller.is_calling_below(next), "{expected}");
        carry(&mut caller, now, (1, 2), &mut owner);
        assert_eq!(handle(&mut owner, now), Some(expected));
        carry(&mut owner, now, (2, 1), &mut caller);
    }
    assert!(!caller.is_calling_below(next) && caller.is_calling());
    assert_eq!(wants(&mut caller), ["1: ok"]);
}

#[test]
fn the_handler_that_has_run_longest_is_the_first_that_is_not_resolved() {
    let (mut door, now) = (door(1), Instant::now());
    let at = |seconds| now + Duration::from_secs(seconds);
    door.open(epoch(1), &[]);
    for number in 0..3 {
        door.enter(call(number), true, How::Send).expect("it is let in");
    }
    assert_eq!(door.longest(now), None);
    let tickets: Vec<_> =
        (0..3).map(|n| door.next_task(at(n)).expect("one is there").ticket).collect();
    assert_eq!(door.longest(at(10)), Some(Duration::from_secs(10)));
    door.resolved(tickets[1], None);
    assert_eq!(door.longest(at(10)), Some(Duration::from_secs(10)));
    door.resolved(tickets[0], None);
    assert_eq!(door.longest(at(10)), Some(Duration::from_secs(8)));
    door.cut_off();
    assert_eq!(door.longest(at(10)), None);
}

#[test]
fn a_successor_that_cannot_start_leaves_nobody_waiting_at_its_gate() {
    let now = Instant::now();
    let (mut caller, mut old, mut new) = (door(1), door(2), door(3));
    for node in [2, 3] {
        link(&mut caller, node);
    }
    link(&mut old, 1);
    link(&mut new, 1);
    new.expect(epoch(1), &[]);
    new.route(owned_by(3, 1));
    new.enter(call(7), true, How::Send).expect("it is taken");
    caller.route(owned_by(3, 1));
    caller.enter(call(1), true, How::Send).expect("it is taken");
    carry(&mut caller, now, (1, 3), &mut new);
    // Another attempt at the same node before the first is dropped.
    new.expect(epoch(3), &[]);
    new.unexpect(epoch(1));
    let mut later = door(4);
    link(&mut later, 3);
    link(&mut new, 4);
    later.route(owned_by(3, 3));
    later.enter(call(2), true, How::Send).expect("it is taken");
    carry(&mut later, now, (4, 3), &mut new);
    old.open(epoch(2), &[]);
    caller.route(owned_by(2, 2));
    carry(&mut new, now, (3, 1), &mut caller);
    carry(&mut caller, now, (1, 2), &mut old);
    assert_eq!(handle(&mut old, now), Some(1));
    new.route(owned_by(2, 2));
    new.enter(call(8), true, How::Send).expect("it is taken");
    assert_eq!(new.waiting(), (1, 2), "what came first goes first, by the lane");
    new.open(epoch(3), &[]);
    assert_eq!(handle(&mut new, now), Some(2), "the later one is still expected");
    assert_eq!(handle(&mut new, now), Some(7));
    assert_eq!(handle(&mut new, now), Some(8));
}

#[test]
fn what_waits_for_a_successor_is_refused_when_its_child_is_stopped() {
    let now = Instant::now();
    let mut new = door(3);
    new.expect(epoch(1), &[]);
    new.route(owned_by(3, 1));
    new.enter(call(7), true, How::Send).expect("it is taken");
    new.route(None);
    assert_eq!(wants(&mut new), ["7: not: Stopped"]);
    new.unexpect(epoch(1));
    assert!(new.is_idle());
    assert_eq!(handle(&mut new, now), None);
}
