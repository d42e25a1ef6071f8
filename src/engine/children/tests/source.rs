use std::time::Duration;

use super::{Node, child, child_of, emit, epoch, id, kind, member, news, order, owned, run, says};
use crate::{
    engine::{
        children::attempts::MoveBackoff,
        core::{News, Timer},
        handover::{SourceInput, SourceStage},
        io::{ChildOrder, Effect, FreezeFailure},
    },
    model::{
        child::{Entry, Epoch, Ownership},
        event::{HandoverPhases, HubEvent},
        id::{NodeRun, RequestId},
        member::MemberState,
        message::{HandoverWord, RefuseReason},
        report::MigrateOutcome,
        settings::{HotSwapOptions, Migration, Settings},
    },
};

/// The attempt of the first move.
const ATTEMPT: Epoch = Epoch { term: 1, attempt: 1 };

fn stages() -> [SourceStage; 5] {
    use SourceStage::*;
    [Offered, Freezing, Frozen, Sent, Committed]
}

fn inputs() -> Vec<SourceInput> {
    vec![
        SourceInput::Accepted,
        SourceInput::Refused(RefuseReason::Busy),
        SourceInput::Frozen(Ok(8)),
        SourceInput::Frozen(Err(FreezeFailure::Gone)),
        SourceInput::SendFailed("x".to_owned()),
        SourceInput::Ready,
        failed("x"),
    ]
}

fn failed(reason: &str) -> SourceInput {
    SourceInput::Failed { reason: reason.to_owned(), gone: true, lasts: false }
}

impl Node {
    fn input(&mut self, epoch: Epoch, from: Option<NodeRun>, input: &SourceInput) {
        self.children.source_input(&mut self.core, &child(), epoch, from, input);
    }

    fn target_says(&mut self, input: &SourceInput) {
        self.input(ATTEMPT, Some(run(2)), input);
    }

    fn reported(&mut self, input: &SourceInput) {
        self.input(ATTEMPT, None, input);
    }

    /// A move to node 2 that is in this stage. Nothing else has come of it since.
    fn moving(stage: SourceStage) -> Self {
        let mut node = Self::running(&[2]);
        node.move_to(stage);
        node
    }

    fn move_to(&mut self, stage: SourceStage) {
        self.children.enqueue(&self.core, &child());
        self.children.pump(&mut self.core);
        if stage >= SourceStage::Freezing {
            self.target_says(&SourceInput::Accepted);
        }
        // Another state has all the room.
        if stage == SourceStage::Frozen {
            self.core.config.settings.move_bytes = 0;
            self.children.pacing.wait_for_room(&child_of(9));
            self.children.pacing.next_to_send(0, |_| Some(1));
        }
        if stage >= SourceStage::Frozen {
            self.reported(&SourceInput::Frozen(Ok(8)));
        }
        if stage >= SourceStage::Committed {
            self.target_says(&SourceInput::Ready);
        }
        self.forget();
        assert_eq!(self.stage(), Some(stage));
    }

    fn stage(&self) -> Option<SourceStage> {
        self.instance().moving().map(|moving| moving.stage())
    }

    /// The child goes on here at this epoch, and nothing of the move is left.
    fn assert_aborted(&mut self, at: Epoch) {
        assert!(self.instance().is_running());
        assert_eq!(self.entry(), Some(Entry::Owned(Ownership { epoch: at, ..owned(epoch(1, 0)) })));
        assert_eq!(self.children.pacing.bytes(), 0);
    }
}

fn moved() -> Ownership {
    Ownership { epoch: ATTEMPT, ..owned(epoch(1, 0)) }
}

fn phases(stage: SourceStage) -> HandoverPhases {
    let took = |from| (stage >= from).then_some(Duration::ZERO);
    HandoverPhases {
        offer: took(SourceStage::Offered),
        freeze: took(SourceStage::Freezing),
        wait: took(SourceStage::Frozen),
        transfer: took(SourceStage::Sent),
        open: took(SourceStage::Committed),
    }
}

fn failed_event(stage: SourceStage, reason: &str) -> Effect {
    emit(HubEvent::HandoverFailed {
        child: child(),
        kind: kind(),
        to: id(2),
        epoch: ATTEMPT,
        reason: reason.to_owned(),
        may_have_run: false,
        bytes: if stage >= SourceStage::Frozen { 8 } else { 0 },
        phases: phases(stage),
    })
}

fn thaw(epoch: Epoch) -> Effect {
    order(ChildOrder::Thaw { child: child(), epoch })
}

#[test]
fn a_move_is_offered_frozen_sent_committed_and_ended() {
    let mut node = Node::running(&[2]);
    node.children.enqueue(&node.core, &child());
    node.children.pump(&mut node.core);
    let (state, view) = (epoch(1, 0), node.core.view_id);
    let (ownership, state_version, with_state) = (moved(), 3, true);
    let word = HandoverWord::Offer { ownership, state, state_version, with_state, view };
    assert_eq!(node.effects(), [says(2, word)]);
    assert_eq!(node.timers(), [Timer::Source(child(), ATTEMPT)]);

    node.target_says(&SourceInput::Accepted);
    let (to, epoch) = (id(2), ATTEMPT);
    let started = HubEvent::HandoverStarted { child: child(), kind: kind(), to, epoch };
    let retention = HotSwapOptions::default().retention;
    let (forced, with_state) = (false, true);
    let freeze = ChildOrder::Freeze { child: child(), epoch, retention, forced, with_state };
    assert_eq!(node.effects(), [emit(started), order(freeze)]);

    node.reported(&SourceInput::Frozen(Ok(8)));
    let send = ChildOrder::SendState { child: child(), epoch, to: run(2) };
    assert_eq!(node.effects(), [order(send)]);
    assert_eq!(node.timers(), [Timer::Source(child(), ATTEMPT)]);
    assert_eq!(node.children.pacing.bytes(), 8);

    node.target_says(&SourceInput::Ready);
    assert_eq!(node.entry(), Some(Entry::Moved { to: run(2), ownership: moved() }));
    let away = ChildOrder::MovedAway { child: child(), to: run(2), epoch };
    assert_eq!(node.effects(), [order(away)]);
    assert_eq!(node.timers(), [Timer::Query(child(), ATTEMPT)]);

    node.log_says(2, Entry::Owned(moved()));
    node.children.child_changed(&mut node.core, &child());
    let handed_over = HubEvent::HandedOver {
        child: child(),
        kind: kind(),
        to,
        epoch,
        bytes: 8,
        took: Duration::ZERO,
        phases: phases(SourceStage::Committed),
    };
    assert_eq!(node.effects(), [order(ChildOrder::End { child: child() }), emit(handed_over)]);
    assert!(node.children.instance(&child()).is_none());
    assert_eq!(node.children.pacing.bytes(), 0);
}

#[test]
fn words_of_an_older_attempt_and_of_another_run_are_ignored_by_the_source() {
    let older = epoch(1, 0);
    let later = NodeRun { nonce: 7, ..run(2) };
    for stage in stages() {
        for input in inputs() {
            for (epoch, from) in
                [(older, run(2)), (epoch(1, 2), run(2)), (ATTEMPT, later), (ATTEMPT, run(3))]
            {
                let mut node = Node::moving(stage);
                let (entry, before) = (node.entry(), node.stage());
                node.input(epoch, Some(from), &input);
                assert_eq!(node.effects(), [], "{stage:?} {input:?} {epoch} {from:?}");
                assert_eq!((node.entry(), node.stage()), (entry, before));
            }
        }
    }
}

#[test]
fn an_abort_raises_the_epoch_above_the_attempt_and_says_so_before_the_child_goes_on() {
    let reason = "the link to the node broke";
    for stage in [SourceStage::Freezing, SourceStage::Sent] {
        let mut node = Node::moving(stage);
        node.children.link_lost(&mut node.core, run(2));
        node.assert_aborted(epoch(1, 2));
        assert_eq!(node.effects(), [thaw(epoch(1, 2)), failed_event(stage, reason)]);
        assert_eq!(node.timers(), [Timer::Retry(child())]);
        // The next attempt has a number of its own.
        node.children.retry(&mut node.core, &child());
        assert_eq!(node.instance().moving().expect("it is offered").epoch(), epoch(1, 3));
    }
    // What was merely offered has run on: nothing has changed for anybody.
    let mut node = Node::moving(SourceStage::Offered);
    node.children.link_lost(&mut node.core, run(2));
    node.assert_aborted(epoch(1, 0));
    assert_eq!(node.effects(), []);
}

#[test]
fn a_committed_move_is_not_given_up_when_its_target_goes_or_its_link_breaks() {
    let mut node = Node::moving(SourceStage::Committed);
    node.children.link_lost(&mut node.core, run(2));
    node.adopt([1, 3].map(member));
    node.children.peer_changed(&mut node.core, id(2));
    node.children.source_expired(&mut node.core, &child(), ATTEMPT);
    assert_eq!((node.effects(), node.stage()), (vec![], Some(SourceStage::Committed)));
}

#[test]
fn a_move_is_committed_only_to_a_target_that_is_live_and_not_leaving() {
    let mut leaving = member(2);
    leaving.state = MemberState::Leaving;
    let mut drained = member(2);
    drained.draining = true;
    let mut later = member(2);
    later.incarnation.nonce = 7;
    let (leaves, gone) = ("the node hands its own children over", "the node went away");
    for (two, reason) in
        [(Some(leaving), leaves), (Some(drained), leaves), (Some(later), gone), (None, gone)]
    {
        let mut node = Node::moving(SourceStage::Sent);
        node.adopt([member(1), member(3)].into_iter().chain(two));
        node.target_says(&SourceInput::Ready);
        node.assert_aborted(epoch(1, 2));
        let expected = [thaw(epoch(1, 2)), failed_event(SourceStage::Sent, reason)];
        assert_eq!(node.effects()[..2], expected);
    }
}

#[test]
fn who_has_promised_the_child_to_a_roll_call_does_not_commit_it() {
    let mut node = Node::moving(SourceStage::Sent);
    node.promise(3, 5);
    node.target_says(&SourceInput::Ready);
    node.assert_aborted(epoch(1, 2));
    let reason = "a roll call is under way";
    let expected = [thaw(epoch(1, 2)), failed_event(SourceStage::Sent, reason)];
    assert_eq!(node.effects(), expected);
    // Nor is it offered again before that has ended.
    node.children.retry(&mut node.core, &child());
    assert_eq!(node.effects(), []);
}

#[test]
fn a_held_copy_goes_on_when_nothing_is_left_of_its_successor_unless_a_roll_call_decides() {
    let mut node = Node::moving(SourceStage::Committed);
    node.promise(3, 5);
    node.target_says(&failed("boom"));
    assert_eq!((node.effects(), node.stage()), (vec![], Some(SourceStage::Committed)));
    let mut node = Node::moving(SourceStage::Committed);
    // A successor that merely warns has seen the commit, or will.
    let (reason, gone, lasts) = ("it leaves".to_owned(), false, false);
    node.target_says(&SourceInput::Failed { reason, gone, lasts });
    assert_eq!((node.effects(), node.stage()), (vec![], Some(SourceStage::Committed)));
    node.target_says(&failed("boom"));
    node.assert_aborted(epoch(1, 2));
    let failed = failed_event(SourceStage::Committed, "boom");
    assert_eq!(node.effects(), [thaw(epoch(1, 2)), failed]);
}

#[test]
fn a_committed_source_asks_after_its_successor_until_it_sees_it() {
    let mut node = Node::moving(SourceStage::Committed);
    let word = HandoverWord::Query { child: child(), epoch: ATTEMPT };
    for _ in 0..2 {
        node.children.query(&mut node.core, &child(), ATTEMPT);
        assert_eq!(node.effects(), [says(2, word.clone())]);
        assert_eq!(node.timers(), [Timer::Query(child(), ATTEMPT)]);
    }
    node.children.query(&mut node.core, &child(), epoch(1, 0));
    assert_eq!((node.effects(), node.timers()), (vec![], vec![]), "an older attempt");
    let mut node = Node::moving(SourceStage::Sent);
    node.children.query(&mut node.core, &child(), ATTEMPT);
    assert_eq!((node.effects(), node.timers()), (vec![], vec![]), "it is not committed");
}

#[test]
fn a_ready_that_comes_before_the_state_is_wanted_is_kept() {
    let options = HotSwapOptions { handover: false, ..Default::default() };
    let migration = Migration::HotSwap(options);
    let mut node = Node::with(&[2], Settings { migration, ..Default::default() });
    node.run_child();
    node.move_to(SourceStage::Freezing);
    // The target needs no state: it stands while a handler still runs here.
    node.target_says(&SourceInput::Ready);
    assert_eq!((node.effects(), node.stage()), (vec![], Some(SourceStage::Freezing)));
    node.reported(&SourceInput::Frozen(Ok(0)));
    let away = ChildOrder::MovedAway { child: child(), to: run(2), epoch: ATTEMPT };
    assert_eq!(node.effects(), [order(away)], "and no state is sent");
    assert_eq!(node.stage(), Some(SourceStage::Committed));
}

#[test]
fn a_deadline_grows_with_the_state_that_it_is_for() {
    let mut node = Node::moving(SourceStage::Freezing);
    // A minute for its size.
    node.reported(&SourceInput::Frozen(Ok(60 * (8 << 20))));
    node.forget();
    node.pass(Duration::from_secs(69));
    node.children.source_expired(&mut node.core, &child(), ATTEMPT);
    assert_eq!((node.effects(), node.timers()), (vec![], vec![Timer::Source(child(), ATTEMPT)]));
    node.pass(Duration::from_secs(1));
    node.children.source_expired(&mut node.core, &child(), epoch(1, 0));
    assert_eq!(node.effects(), [], "an older attempt");
    node.children.source_expired(&mut node.core, &child(), ATTEMPT);
    assert_eq!(node.effects()[0], thaw(epoch(1, 2)));
}

#[test]
fn a_state_that_cannot_go_is_told_once_and_only_of_the_actor_that_has_it() {
    let failure = FreezeFailure::Encode { message: "x".to_owned() };
    let reason = failure.to_string();
    let told = emit(HubEvent::ChildCannotMove { child: child(), reason });
    let mut node = Node::running(&[1]);
    let outcome = Err(failure.clone());
    node.children.tried(&mut node.core, &child(), epoch(1, 9), &outcome);
    assert_eq!((node.effects(), node.instance().immovable()), (vec![], None));
    node.children.tried(&mut node.core, &child(), epoch(1, 0), &outcome);
    node.children.tried(&mut node.core, &child(), epoch(1, 0), &outcome);
    assert_eq!(node.effects(), [told]);
    let mut node = Node::moving(SourceStage::Freezing);
    node.reported(&SourceInput::Frozen(Err(failure)));
    assert!(node.instance().immovable().is_some());
}

#[test]
fn who_asked_for_a_move_is_told_that_it_failed_unless_it_is_asked_for_again_by_itself() {
    let waiter = (id(3), RequestId(5));
    let asked = |input: &SourceInput| {
        let mut node = Node::running(&[1]);
        node.children.migrate(&mut node.core, &child(), Some(id(2)), false, waiter);
        node.forget();
        node.target_says(input);
        node
    };
    let mut node = asked(&SourceInput::Refused(RefuseReason::Busy));
    assert_eq!(node.news(), news(&[]));
    let wanted = node.instance().attempts().wanted().expect("it is asked for again");
    assert_eq!((wanted.to, &wanted.waiters[..]), (Some(id(2)), &[waiter][..]));
    let mut node = asked(&failed("boom"));
    let outcome = MigrateOutcome::Failed { reason: "boom".to_owned() };
    let migrated = News::Migrated { waiters: vec![waiter], child: child(), outcome };
    assert_eq!(node.news(), news(&[migrated]));
    // It did not ask to go: it stays, and nothing is tried again.
    assert_eq!(node.instance().attempts().backoff(), None);
    assert_eq!(node.timers(), [Timer::PassedOver(child())]);
}

impl Node {
    /// The target refuses the child, which is offered to it once more. Tells what is to follow.
    fn refuse(&mut self, reason: RefuseReason) -> Option<MoveBackoff> {
        self.children.retry(&mut self.core, &child());
        let attempt = self.instance().moving().expect("it is offered").epoch();
        self.forget();
        self.input(attempt, Some(run(2)), &SourceInput::Refused(reason));
        self.instance().attempts().backoff()
    }
}

#[test]
fn a_move_that_failed_is_tried_again_by_itself_or_when_the_view_changes() {
    use MoveBackoff::{Retry, View};
    let version = RefuseReason::StateVersion { oldest: 7, newest: 9 };
    for (reason, is_emptying, expected) in [
        (RefuseReason::Busy, false, Retry),
        (RefuseReason::View, false, Retry),
        (RefuseReason::NoRoom, false, Retry),
        (RefuseReason::UnknownKind, false, Retry),
        (version, false, Retry),
        (RefuseReason::NotMine, false, View),
        (RefuseReason::Leaving, false, View),
        (RefuseReason::NotMine, true, Retry),
        (RefuseReason::Leaving, true, Retry),
    ] {
        let mut node = Node::running(&[2]);
        node.core.emptying = is_emptying;
        assert_eq!(node.refuse(reason.clone()), Some(expected), "{reason:?} {is_emptying}");
        let timers = if expected == Retry { vec![Timer::Retry(child())] } else { vec![] };
        assert_eq!(node.timers(), timers, "{reason:?} {is_emptying}");
    }
}

#[test]
fn each_try_that_sends_the_state_is_counted() {
    let mut node = Node::running(&[2]);
    for expected in [MoveBackoff::Retry, MoveBackoff::Retry, MoveBackoff::View] {
        assert_eq!(node.refuse(RefuseReason::NoRoom), Some(expected));
    }
}

#[test]
fn a_node_that_is_emptying_tries_again_less_and_less_often_what_does_not_pass() {
    let mut node = Node::running(&[2]);
    node.core.emptying = true;
    let waits = |node: &mut Node, reason| {
        node.refuse(reason);
        (node.core.next_timer().expect("it is tried again") - node.core.now).as_millis() / 200
    };
    let all: Vec<u128> = (0..10).map(|_| waits(&mut node, RefuseReason::NotMine)).collect();
    assert_eq!(all, [1, 2, 4, 8, 16, 32, 64, 128, 256, 256]);
    assert_eq!(waits(&mut node, RefuseReason::Busy), 1, "this passes");
}

#[test]
fn a_move_that_ends_well_allows_one_more() {
    let mut node = Node::moving(SourceStage::Committed);
    node.children.source(&mut node.core).step(&child(), SourceInput::Opened);
    let pacing = &mut node.children.pacing;
    (0..100).for_each(|n| pacing.belongs_elsewhere(&child_of(n)));
    let begun = (0..).take_while(|moves| pacing.next(*moves, 512).is_some()).count();
    assert_eq!(begun, 17);
}

#[test]
fn a_link_that_breaks_ends_the_moves_over_it_and_no_others() {
    let mut node = Node::moving(SourceStage::Sent);
    node.children.link_lost(&mut node.core, run(3));
    assert_eq!((node.effects(), node.stage()), (vec![], Some(SourceStage::Sent)));
}

#[test]
fn a_move_to_a_node_that_goes_is_given_up_and_one_to_a_node_that_leaves_if_it_was_merely_offered() {
    let mut leaving = member(2);
    leaving.state = MemberState::Leaving;
    for stage in stages() {
        let mut node = Node::moving(stage);
        node.adopt([member(1), leaving.clone(), member(3)]);
        node.children.peer_changed(&mut node.core, id(2));
        // What is on its way is refused, or comes to its end, there.
        let expected = Some(stage).filter(|stage| *stage != SourceStage::Offered);
        assert_eq!(node.stage(), expected, "{stage:?}");
        let mut node = Node::moving(stage);
        node.adopt([1, 3].map(member));
        node.children.peer_changed(&mut node.core, id(3));
        assert_eq!(node.stage(), Some(stage), "{stage:?}: another node");
        node.children.peer_changed(&mut node.core, id(2));
        let expected = Some(stage).filter(|stage| *stage == SourceStage::Committed);
        assert_eq!(node.stage(), expected, "{stage:?}");
    }
}

#[test]
fn a_source_that_has_nothing_left_says_so_of_what_it_has_committed_alone() {
    let told = |node: &mut Node, to: NodeRun, epoch: Epoch| {
        node.effects();
        node.children.tell_lost(&mut node.core, to, &child(), epoch);
        node.effects()
    };
    let mut node = Node::new(&[1]);
    assert_eq!(told(&mut node, run(2), ATTEMPT), [], "it knows of nothing");
    let ownership = Ownership { epoch: ATTEMPT, ..owned(epoch(1, 0)) };
    node.core.write(&child(), Entry::Moved { to: run(2), ownership });
    let lost = says(2, HandoverWord::Lost { child: child(), epoch: ATTEMPT });
    assert_eq!(told(&mut node, run(2), ATTEMPT), [lost]);
    assert_eq!(told(&mut node, run(3), ATTEMPT), [], "that one was committed nothing");
    assert_eq!(told(&mut node, run(2), epoch(1, 2)), [], "nor at another attempt");
}
