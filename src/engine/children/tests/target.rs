use std::sync::Arc;

use super::{
    Node, child, child_of, emit, epoch, id, kind, member, news, order, owned, run, says, spec,
};
use crate::{
    engine::{
        children::{Offer, phase::Phase},
        core::{News, Timer},
        handover::{TargetInput, TargetStage},
        io::{BuildFailure, ChildOrder, Effect},
    },
    model::{
        child::{ChildFailure, ChildOrigin, ChildSpec, Entry, Epoch, Ownership, Taken, TakenIn},
        event::HubEvent,
        id::NodeRun,
        member::{MemberState, ViewId},
        message::{Copy, HandoverWord, RefuseReason},
        settings::Settings,
    },
};

const ATTEMPT: Epoch = Epoch { term: 1, attempt: 1 };
const LATER: Epoch = Epoch { term: 1, attempt: 2 };

fn offered(attempt: Epoch) -> Ownership {
    Ownership { epoch: attempt, ..owned(epoch(1, 0)) }
}

impl Node {
    /// What node 2 offers at this attempt, by the same view.
    fn offer(&self, attempt: Epoch) -> Offer {
        Offer {
            ownership: offered(attempt),
            state: epoch(1, 0),
            state_version: 3,
            with_state: true,
            view: self.core.view_id,
        }
    }

    fn offers(&mut self, from: NodeRun, offer: Offer) -> Vec<Effect> {
        self.children.offered(&mut self.core, from, offer);
        self.effects()
    }

    fn at_target(&mut self, input: &TargetInput) -> bool {
        self.children.target_input(&mut self.core, &child(), ATTEMPT, input)
    }

    /// A successor that is in this stage.
    fn taking(stage: TargetStage) -> Self {
        let mut node = Self::new(&[1]);
        node.log_says(2, Entry::Owned(owned(epoch(1, 0))));
        let offer = node.offer(ATTEMPT);
        node.offers(run(2), offer);
        if stage >= TargetStage::Building {
            node.at_target(&TargetInput::State);
        }
        if stage >= TargetStage::Ready {
            node.at_target(&TargetInput::Built(Ok(())));
        }
        if stage >= TargetStage::Opening {
            node.at_target(&TargetInput::Committed);
        }
        assert_eq!(node.children.successor_stage(&child()), Some(stage));
        node.forget();
        node
    }

    fn refuses(&mut self, from: NodeRun, offer: Offer, reason: RefuseReason) {
        let (child, epoch) = (child(), offer.ownership.epoch);
        let word = HandoverWord::Refuse { child, epoch, reason };
        let Effect::Send { message, .. } = says(2, word) else { return };
        assert_eq!(self.offers(from, offer), [Effect::Send { to: from.node, message }]);
    }
}

fn accept(epoch: Epoch) -> Effect {
    says(2, HandoverWord::Accept { child: child(), epoch })
}

fn discard(epoch: Epoch) -> Effect {
    order(ChildOrder::Discard { child: child(), epoch })
}

fn failed(reason: &str, gone: bool) -> Effect {
    let (child, reason) = (child(), reason.to_owned());
    says(2, HandoverWord::Failed { child, epoch: ATTEMPT, reason, gone, lasts: false })
}

#[test]
fn a_successor_is_built_stands_ready_opens_and_owns() {
    let mut node = Node::new(&[1]);
    let offer = node.offer(ATTEMPT);
    assert_eq!(node.offers(run(2), offer), [accept(ATTEMPT)]);
    assert_eq!(node.timers(), [Timer::Target(child(), ATTEMPT)]);
    assert!(node.at_target(&TargetInput::State));
    let (epoch, from, with_state) = (ATTEMPT, run(2), true);
    let build = ChildOrder::Build { spec: spec(), epoch, from, with_state };
    assert_eq!(node.effects(), [order(build)]);
    node.at_target(&TargetInput::Built(Ok(())));
    let ready = HandoverWord::Ready { child: child(), epoch };
    assert_eq!(node.effects(), [says(2, ready)]);
    node.log_says(2, Entry::Moved { to: run(1), ownership: offered(ATTEMPT) });
    node.children.child_changed(&mut node.core, &child());
    let open = ChildOrder::Open { child: child(), built: ATTEMPT, epoch };
    assert_eq!(node.effects(), [order(open)]);
    assert_eq!(node.entry(), None, "it owns nothing that does not run");
    node.children.opened(&mut node.core, &child(), ATTEMPT, Ok(()));
    assert_eq!(node.entry(), Some(Entry::Owned(offered(ATTEMPT))));
    let (kind, from) = (kind(), id(2));
    let taken_over = HubEvent::TakenOver { child: child(), kind, from, epoch };
    assert_eq!(node.effects(), [emit(taken_over)]);
    assert_eq!(node.news(), news(&[News::Changed { child: child() }]));
    assert_eq!(node.instance().came(), Some((id(2), ATTEMPT)));
    assert_eq!(node.children.successor_stage(&child()), None);
}

#[test]
fn an_offer_made_under_another_view_is_refused() {
    let mut node = Node::new(&[1]);
    let offer = Offer { view: ViewId(7), ..node.offer(ATTEMPT) };
    node.refuses(run(2), offer, RefuseReason::View);
    node.core.settled = false;
    let offer = node.offer(ATTEMPT);
    node.refuses(run(2), offer, RefuseReason::View);
    assert_eq!(node.children.successor_stage(&child()), None);
}

#[test]
fn an_offer_of_a_child_that_does_not_belong_here_is_refused_unless_it_was_sent_here() {
    let mut node = Node::new(&[3]);
    let offer = node.offer(ATTEMPT);
    node.refuses(run(2), offer, RefuseReason::NotMine);
    let mut offer = node.offer(ATTEMPT);
    offer.ownership.pinned = Some(id(1));
    assert_eq!(node.offers(run(2), offer), [accept(ATTEMPT)]);
}

#[test]
fn an_offer_to_a_node_that_is_emptying_is_refused() {
    let mut node = Node::new(&[1]);
    let mut me = member(1);
    me.state = MemberState::Leaving;
    node.adopt([me, member(2), member(3)]);
    let offer = node.offer(ATTEMPT);
    node.refuses(run(2), offer, RefuseReason::Leaving);
}

#[test]
fn an_offer_of_what_this_node_cannot_read_is_refused() {
    let mut node = Node::new(&[1]);
    for version in [1, 4] {
        let offer = Offer { state_version: version, ..node.offer(ATTEMPT) };
        let reason = RefuseReason::StateVersion { oldest: 2, newest: 3 };
        node.refuses(run(2), offer, reason);
    }
    // Without a state there is nothing to be read.
    let offer = Offer { state_version: 4, with_state: false, ..node.offer(ATTEMPT) };
    assert_eq!(node.offers(run(2), offer)[0], accept(ATTEMPT));
    let mut node = Node::new(&[1]);
    node.core.config.kinds.clear();
    let offer = node.offer(ATTEMPT);
    node.refuses(run(2), offer, RefuseReason::UnknownKind);
}

#[test]
fn an_offer_is_refused_while_something_of_the_child_is_here() {
    let mut running = Node::running(&[1]);
    let offer = running.offer(LATER);
    running.refuses(run(2), offer, RefuseReason::Busy);
    let mut bound = Node::new(&[1]);
    bound.promise(3, 5);
    let offer = bound.offer(ATTEMPT);
    bound.refuses(run(2), offer, RefuseReason::Busy);
    for stage in [TargetStage::Accepted, TargetStage::Ready, TargetStage::Opening] {
        let mut taking = Node::taking(stage);
        let offer = taking.offer(LATER);
        taking.refuses(run(3), offer, RefuseReason::Busy);
        let offer = taking.offer(ATTEMPT);
        taking.refuses(run(2), offer, RefuseReason::Busy);
        assert_eq!(taking.children.successor_stage(&child()), Some(stage));
    }
    let mut opening = Node::taking(TargetStage::Opening);
    let offer = opening.offer(LATER);
    opening.refuses(run(2), offer, RefuseReason::Busy);
}

#[test]
fn an_offer_at_an_epoch_that_cannot_be_is_refused() {
    let mut node = Node::new(&[1]);
    let offer = node.offer(epoch(u64::MAX, 0));
    node.refuses(run(2), offer, RefuseReason::Busy);
}

#[test]
fn a_later_attempt_of_the_same_source_replaces_what_has_not_begun() {
    for stage in [TargetStage::Accepted, TargetStage::Building, TargetStage::Ready] {
        let mut node = Node::taking(stage);
        let offer = node.offer(LATER);
        assert_eq!(node.offers(run(2), offer), [discard(ATTEMPT), accept(LATER)]);
        // What comes of the attempt before is awaited no more.
        assert!(!node.at_target(&TargetInput::State));
        assert_eq!(node.children.successor_stage(&child()), Some(TargetStage::Accepted));
    }
}

#[test]
fn a_stop_that_was_ordered_meanwhile_ends_a_successor_once_it_runs() {
    let mut node = Node::taking(TargetStage::Opening);
    node.children.halt(&mut node.core, id(3), &child(), epoch(2, 0));
    node.children.halt(&mut node.core, id(3), &child(), epoch(2, 0));
    assert_eq!(node.effects(), []);
    node.children.opened(&mut node.core, &child(), ATTEMPT, Ok(()));
    let stop = ChildOrder::Stop { child: child(), epoch: ATTEMPT };
    assert_eq!(node.effects().last(), Some(&order(stop)));
    node.children.stopped(&mut node.core, &child());
    let text = node.news();
    assert_eq!(text.matches("Halted").count(), 1, "{text}");
}

#[test]
fn a_node_that_takes_no_more_gives_back_what_it_has_accepted_and_warns_of_what_stands_ready() {
    for stage in [TargetStage::Accepted, TargetStage::Building] {
        let mut node = Node::taking(stage);
        node.children.take_no_more(&mut node.core);
        let reason = "the node is leaving";
        assert_eq!(node.effects(), [discard(ATTEMPT), failed(reason, true)]);
        assert_eq!(node.children.successor_stage(&child()), None);
    }
    let mut node = Node::taking(TargetStage::Ready);
    node.children.take_no_more(&mut node.core);
    // The source may have committed it by now.
    assert_eq!(node.effects(), [failed("the node is leaving", false)]);
    assert_eq!(node.children.successor_stage(&child()), Some(TargetStage::Ready));
}

#[test]
fn a_successor_that_could_not_be_made_is_said_to_be_gone() {
    let mut node = Node::taking(TargetStage::Building);
    node.at_target(&TargetInput::Built(Err(BuildFailure::passing("boom"))));
    assert_eq!(node.effects(), [discard(ATTEMPT), failed("boom", true)]);
    assert_eq!(node.children.successor_stage(&child()), None);
}

#[test]
fn a_query_is_asked_and_answered_by_what_is_held() {
    let query = |mut node: Node, attempt| {
        node.children.queried(&mut node.core, run(2), child(), attempt);
        node.effects()
    };
    let gone = |epoch| {
        let reason = "nothing is left of the successor".to_owned();
        let child = child();
        vec![says(2, HandoverWord::Failed { child, epoch, reason, gone: true, lasts: false })]
    };
    assert_eq!(query(Node::new(&[1]), ATTEMPT), gone(ATTEMPT));
    for stage in [TargetStage::Accepted, TargetStage::Ready, TargetStage::Opening] {
        assert_eq!(query(Node::taking(stage), ATTEMPT), [], "{stage:?}");
        // What is here is of another attempt.
        assert_eq!(query(Node::taking(stage), LATER), gone(LATER), "{stage:?}");
    }
    assert_eq!(query(Node::running(&[1]), ATTEMPT), [], "it runs");
    // Somebody's higher entry tells the source: nothing here is to be said of an attempt below it.
    let mut node = Node::new(&[1]);
    node.log_says(3, Entry::Owned(owned(epoch(2, 0))));
    assert_eq!(query(node, ATTEMPT), []);
}

#[test]
fn what_is_lost_with_its_source_and_committed_here_begins_anew_above_all_that_is_known() {
    let moved = Entry::Moved { to: run(1), ownership: offered(ATTEMPT) };
    let lost = || {
        let mut node = Node::new(&[1]);
        node.log_says(2, moved.clone());
        node
    };
    let mut node = lost();
    node.children.revive_lost(&mut node.core, &child());
    assert_eq!(node.effects(), [], "its source holds it");
    let mut node = lost();
    node.adopt([1, 3].map(member));
    node.promise(3, 5);
    node.children.revive_lost(&mut node.core, &child());
    assert_eq!(node.effects(), [], "its home decides");
    let mut node = lost();
    node.adopt([1, 3].map(member));
    node.children.revive_lost(&mut node.core, &child());
    let (epoch, origin) = (LATER, ChildOrigin::TakenOver);
    assert_eq!(node.effects(), [order(ChildOrder::Start { spec: spec(), epoch, origin })]);
    assert!(matches!(node.instance().phase(), Phase::Starting { .. }));
    assert_eq!(node.instance().ownership().born, LATER, "it begins from nothing");
}

#[test]
fn a_successor_that_did_not_start_is_tried_again_when_its_source_has_nothing_left() {
    for (from, attempt, counts) in [(2, ATTEMPT, true), (3, ATTEMPT, false), (2, LATER, false)] {
        let mut node = Node::taking(TargetStage::Opening);
        node.children.opened(&mut node.core, &child(), ATTEMPT, Err("it panicked".to_owned()));
        let said = node.effects();
        assert!(said.contains(&failed("it panicked", true)), "its source is to go on: {said:?}");
        node.children.source_lost(&mut node.core, run(from), &child(), attempt);
        node.children.target_expired(&mut node.core, &child(), ATTEMPT);
        let rebuilds = |effect: &Effect| matches!(effect, Effect::Child(ChildOrder::Build { .. }));
        assert_eq!(node.effects().iter().any(rebuilds), counts, "{from} {attempt:?}");
    }
}

#[test]
fn a_child_without_state_begins_anew_where_it_was_committed_when_its_source_has_nothing_left() {
    let mut node = Node::new(&[1]);
    let ownership = offered(ATTEMPT);
    node.log_says(2, Entry::Moved { to: node.core.me, ownership });
    node.effects();
    let starts = |node: &mut Node| {
        let is_start = |effect: &Effect| matches!(effect, Effect::Child(ChildOrder::Start { .. }));
        node.effects().iter().any(is_start)
    };
    node.children.source_lost(&mut node.core, run(2), &child(), LATER);
    assert!(!starts(&mut node), "of another attempt");
    node.children.source_lost(&mut node.core, run(2), &child(), ATTEMPT);
    assert!(starts(&mut node));
    node.children.source_lost(&mut node.core, run(2), &child(), ATTEMPT);
    assert!(!starts(&mut node), "it has begun");
}

#[test]
fn a_successor_that_a_roll_call_took_keeps_the_states_in_it_and_no_failure_of_another() {
    let mut node = Node::taking(TargetStage::Ready);
    node.promise(3, 5);
    let failure = Some(ChildFailure::new("x", 1, true));
    let taken = TakenIn::default();
    let ownership = Ownership { failure, taken, copied: epoch(5, 0), ..offered(epoch(5, 0)) };
    let other = Taken { from: run(3), epoch: epoch(1, 9) };
    let kept = node.children.successor_ownership(&child()).expect("it stands");
    kept.taken.add(other, &TakenIn::default());
    node.children.take(&mut node.core, run(3), ownership, Copy::Ready);
    let open = ChildOrder::Open { child: child(), built: ATTEMPT, epoch: epoch(5, 0) };
    assert_eq!(node.effects(), [order(open)]);
    node.children.opened(&mut node.core, &child(), epoch(5, 0), Ok(()));
    let Some(Entry::Owned(own)) = node.entry() else { panic!("it owns it") };
    assert!(own.taken.contains(other) && own.failure.is_none());
    assert_eq!((own.epoch, own.copied), (epoch(5, 0), epoch(5, 0)));
    assert_eq!(node.instance().came(), None);
    let (from, epoch, with_state) = (Some(run(2).node), epoch(5, 0), true);
    let recovered = HubEvent::Recovered { child: child(), from, epoch, with_state };
    assert_eq!(node.effects(), [emit(recovered)]);
}

#[test]
fn no_more_successors_are_made_at_a_time_than_so_many_for_each_move_that_is_allowed() {
    let mut node = Node::with(&[1], Settings { moves: 2, ..Settings::default() });
    let offer = |node: &Node, n| {
        let mut offer = node.offer(ATTEMPT);
        let spec = ChildSpec::from_parts(child_of(n), kind(), bytes::Bytes::new());
        offer.ownership.spec = Arc::new(spec);
        offer
    };
    for n in 0..128 {
        let offer = offer(&node, n);
        node.offers(run(2), offer);
        assert!(node.children.successor_stage(&child_of(n)).is_some());
    }
    let (offer, epoch, reason) = (offer(&node, 128), ATTEMPT, RefuseReason::Busy);
    let word = HandoverWord::Refuse { child: child_of(128), epoch, reason };
    assert_eq!(node.offers(run(2), offer), [says(2, word)]);
}
