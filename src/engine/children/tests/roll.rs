use super::{Node, child, child_of, emit, epoch, id, member, order, owned, run, spec};
use crate::{
    engine::{
        children::{Offer, phase::Phase},
        handover::{SourceInput, TargetInput, TargetStage},
        io::{BuildFailure, ChildOrder, Effect},
    },
    model::{
        child::{ChildOrigin, Entry, Epoch, Ownership},
        event::HubEvent,
        id::ChildId,
        message::{Claim, Copy, Held, PeerMessage, RollWord},
    },
};

const ATTEMPT: Epoch = Epoch { term: 1, attempt: 1 };
/// What a roll call gives.
const GIVEN: Epoch = Epoch { term: 5, attempt: 0 };

/// A node for whose child another node is home, and that one.
fn home_of(node: &Node) -> u8 {
    let home = node.core.home(&child()).expect("there is one");
    (1..4).find(|n| id(*n) == home).expect("it is a member")
}

impl Node {
    fn called(&mut self, home: u8, term: u64) -> Vec<Effect> {
        let claims = vec![Claim { child: child(), term }];
        self.children.called(&mut self.core, run(home), 7, claims);
        match home {
            1 => self.core.loopback.drain(..).map(|message| to(1, message)).collect(),
            _ => self.effects(),
        }
    }

    fn given(&mut self, home: u8, given: Ownership, holds: Copy) {
        self.children.take(&mut self.core, run(home), given, holds);
    }

    /// What it says to the home that nothing came of a term.
    fn again(&self, term: u64) -> Effect {
        to(home_of(self), PeerMessage::Roll(RollWord::Again { child: child(), term }))
    }

    /// All that is said and done, on this node, too.
    fn all(&mut self) -> Vec<Effect> {
        let own: Vec<_> = self.core.loopback.drain(..).map(|message| to(1, message)).collect();
        self.effects().into_iter().chain(own).collect()
    }

    /// A successor of node 2's child, after these inputs.
    fn successor(inputs: &[TargetInput]) -> Self {
        let mut node = Self::new(&[1]);
        let view = node.core.view_id;
        let ownership = Ownership { epoch: ATTEMPT, ..owned(epoch(1, 0)) };
        let (state, state_version, with_state) = (epoch(1, 0), 3, true);
        let offer = Offer { ownership, state, state_version, with_state, view };
        node.children.offered(&mut node.core, run(2), offer);
        for input in inputs {
            node.children.target_input(&mut node.core, &child(), ATTEMPT, input);
        }
        node.forget();
        node
    }

    fn stopping() -> Self {
        let mut node = Self::running(&[1]);
        node.children.halt(&mut node.core, id(3), &child(), epoch(1, 0));
        node.forget();
        node
    }
}

fn to(n: u8, message: PeerMessage) -> Effect {
    Effect::Send { to: id(n), message }
}

fn ready() -> [TargetInput; 2] {
    [TargetInput::State, TargetInput::Built(Ok(()))]
}

fn opening() -> [TargetInput; 3] {
    [TargetInput::State, TargetInput::Built(Ok(())), TargetInput::Committed]
}

fn given() -> Ownership {
    Ownership { epoch: GIVEN, ..owned(epoch(1, 0)) }
}

#[test]
fn a_copy_counts_by_the_epoch_of_its_state_and_not_by_that_of_the_attempt() {
    let starting = || {
        let mut node = Node::new(&[1]);
        node.children.begin(&mut node.core, spec(), epoch(1, 0));
        node
    };
    use SourceInput::*;
    let state = epoch(1, 0);
    for (node, expected) in [
        (Node::new(&[1]), (Copy::Nothing, Epoch::ZERO, Epoch::ZERO)),
        (starting(), (Copy::Live, state, state)),
        (Node::running(&[1]), (Copy::Live, state, state)),
        (Node::on_its_way(&[]), (Copy::Live, state, state)),
        (Node::on_its_way(&[Accepted, Frozen(Ok(8))]), (Copy::Live, state, state)),
        (Node::committed(), (Copy::Frozen, state, state)),
        // It ends, whatever the home decides.
        (Node::stopping(), (Copy::Nothing, state, state)),
        (Node::successor(&[]), (Copy::Nothing, state, state)),
        (Node::successor(&ready()[..1]), (Copy::Nothing, state, state)),
        (Node::successor(&ready()), (Copy::Ready, state, state)),
        (Node::successor(&opening()), (Copy::Live, ATTEMPT, state)),
    ] {
        assert_eq!(node.children.hold(&child()), expected, "{:?}", node.children);
    }
}

#[test]
fn a_roll_call_is_answered_with_what_is_held_and_with_a_promise() {
    let mut node = Node::running(&[1]);
    let home = home_of(&node);
    let (term, copy, epoch, born) = (5, Copy::Live, epoch(1, 0), epoch(1, 0));
    let held = |promised| Held { child: child(), term, promised, copy, epoch, born };
    let answer = |promised| {
        let holds = vec![held(promised)];
        vec![to(home, PeerMessage::Roll(RollWord::Answer { roll: 7, holds }))]
    };
    assert_eq!(node.called(home, 5), answer(None));
    assert!(node.core.promises.is_given(run(home), &child(), 5));
    // A claim above it outbids it; the same one is answered as before.
    assert_eq!(node.called(home, 5), answer(None));
    let lower = node.called(home, 4);
    let [Effect::Send { message: PeerMessage::Roll(RollWord::Answer { holds, .. }), .. }] =
        &lower[..]
    else {
        panic!("{lower:?}");
    };
    assert_eq!(holds[0].promised, Some(5), "another term was promised");
}

#[test]
fn a_call_for_a_term_that_has_an_owner_is_told_so_and_nothing_is_promised() {
    let mut node = Node::running(&[1]);
    let home = home_of(&node);
    node.log_says(2, Entry::Owned(owned(epoch(8, 0))));
    let answer = node.called(home, 5);
    let [Effect::Send { message: PeerMessage::Roll(RollWord::Answer { holds, .. }), .. }] =
        &answer[..]
    else {
        panic!("{answer:?}");
    };
    assert_eq!(holds[0].promised, Some(8));
    assert!(!node.core.promises.binds(&child()));
}

#[test]
fn a_call_of_anybody_but_the_home_is_not_answered() {
    let mut node = Node::running(&[1]);
    let home = home_of(&node);
    for other in (1..4).filter(|n| *n != home) {
        assert_eq!(node.called(other, 5), []);
    }
    // One claim that is not the caller's voids the others.
    let foreign = (1..100).map(child_of);
    let foreign = foreign.into_iter().find(|child| node.core.home(child) != Some(id(home)));
    let claim = |child: ChildId| Claim { child, term: 5 };
    let claims = vec![claim(child()), claim(foreign.expect("there is one"))];
    node.children.called(&mut node.core, run(home), 7, claims);
    assert_eq!(node.all(), []);
    assert!(!node.core.promises.binds(&child()));
}

#[test]
fn what_was_not_promised_to_this_very_home_and_term_is_not_taken() {
    for (home, term) in [(3, 5), (2, 4), (2, 6)] {
        let mut node = Node::running(&[1]);
        node.promise(home, term);
        node.given(2, given(), Copy::Live);
        assert_eq!(node.all(), [node.again(term.max(5))], "{home} {term}");
        assert_eq!(node.instance().epoch(), epoch(1, 0));
    }
    let mut node = Node::running(&[1]);
    node.given(2, given(), Copy::Live);
    assert_eq!(node.all(), [node.again(5)], "nothing was promised");
}

#[test]
fn what_is_older_than_what_is_known_is_not_taken() {
    let mut node = Node::running(&[1]);
    node.promise(2, 5);
    node.log_says(3, Entry::Owned(owned(GIVEN)));
    node.given(2, given(), Copy::Live);
    assert_eq!(node.all(), []);
    assert_eq!(node.instance().epoch(), epoch(1, 0));
}

#[test]
fn a_node_that_is_about_to_say_bye_takes_nothing() {
    let mut node = Node::new(&[1]);
    node.promise(2, 5);
    node.core.closing = true;
    node.given(2, given(), Copy::Nothing);
    assert_eq!(node.all(), [node.again(5)]);
    assert!(node.children.instance(&child()).is_none());
}

#[test]
fn an_actor_that_runs_or_is_held_goes_on_at_the_epoch_that_was_given() {
    let thaw = order(ChildOrder::Thaw { child: child(), epoch: GIVEN });
    for (mut node, holds) in [(Node::running(&[1]), Copy::Live), (Node::committed(), Copy::Frozen)]
    {
        node.promise(2, 5);
        let copied = epoch(1, 9);
        node.given(2, Ownership { copied, ..given() }, holds);
        let effects = node.effects();
        assert!(effects.contains(&thaw), "{effects:?}");
        let recovered = emit(HubEvent::Recovered {
            child: child(),
            from: None,
            epoch: GIVEN,
            with_state: true,
        });
        assert_eq!(effects.contains(&recovered), holds == Copy::Frozen, "{effects:?}");
        assert!(node.instance().is_running());
        let expected = Ownership { copied, ..given() };
        assert_eq!(node.entry(), Some(Entry::Owned(expected)));
    }
}

#[test]
fn a_successor_that_stands_ready_is_opened_and_one_that_does_not_is_not_taken() {
    let mut node = Node::successor(&ready());
    node.promise(2, 5);
    node.given(2, given(), Copy::Ready);
    let open = ChildOrder::Open { child: child(), built: ATTEMPT, epoch: GIVEN };
    assert_eq!(node.effects(), [order(open)]);
    let mut node = Node::successor(&ready()[..1]);
    node.promise(2, 5);
    node.given(2, given(), Copy::Ready);
    assert_eq!(node.all(), [node.again(5)]);
    // It is said again when what is being started runs.
    for holds in [Copy::Ready, Copy::Live] {
        let mut node = Node::successor(&opening());
        node.promise(2, 5);
        node.given(2, given(), holds);
        assert_eq!(node.all(), [], "{holds:?}");
    }
}

#[test]
fn a_successor_that_a_roll_call_took_and_that_never_starts_is_parked_and_told_to_the_home() {
    let mut node = Node::successor(&ready());
    node.promise(2, 5);
    node.given(2, given(), Copy::Ready);
    node.forget();
    node.children.opened(&mut node.core, &child(), GIVEN, Err("boom".to_owned()));
    assert_eq!(node.all(), [], "its state is kept");
    for _ in 0..4 {
        assert_eq!(node.children.successor_stage(&child()), Some(TargetStage::Kept));
        node.children.target_expired(&mut node.core, &child(), ATTEMPT);
        let built = node.effects();
        assert!(
            matches!(&built[..], [Effect::Child(ChildOrder::Build { with_state: true, .. })]),
            "{built:?}"
        );
        let failed = Err(BuildFailure::passing("boom"));
        node.children.built(&mut node.core, &child(), ATTEMPT, failed);
    }
    let effects = node.all();
    let is_parked = |effect: &Effect| matches!(effect, Effect::Child(ChildOrder::ParkBuilt { built, .. }) if *built == ATTEMPT);
    assert!(effects.iter().any(is_parked), "{effects:?}");
    assert!(effects.contains(&node.again(5)), "another node may hold an older copy: {effects:?}");
    assert_eq!(node.children.successor_stage(&child()), None);
}

#[test]
fn a_child_of_which_nothing_is_left_begins_anew_unless_something_is_here_by_now() {
    let start = || {
        let (spec, origin) = (spec(), ChildOrigin::TakenOver);
        order(ChildOrder::Start { spec, epoch: GIVEN, origin })
    };
    let mut node = Node::new(&[1]);
    node.promise(2, 5);
    node.given(2, given(), Copy::Nothing);
    assert_eq!(node.effects(), [start()]);
    assert_eq!(node.instance().ownership().born, GIVEN);
    // What is merely on its way here is dropped.
    let mut node = Node::successor(&ready()[..1]);
    node.promise(2, 5);
    node.given(2, given(), Copy::Nothing);
    let discard = order(ChildOrder::Discard { child: child(), epoch: ATTEMPT });
    assert_eq!(node.effects(), [discard, start()]);
    assert_eq!(node.children.successor_stage(&child()), None);
    for mut node in [Node::running(&[1]), Node::successor(&ready())] {
        node.promise(2, 5);
        node.given(2, given(), Copy::Nothing);
        assert_eq!(node.all(), [node.again(5)]);
    }
    // One that ends is waited for: it is said again when nothing is left.
    let mut node = Node::stopping();
    node.promise(2, 5);
    node.given(2, given(), Copy::Nothing);
    assert_eq!(node.all(), []);
    assert!(matches!(node.instance().phase(), Phase::Stopping));
}

#[test]
fn homes_are_asked_to_call_the_roll_for_promises_that_nobody_wants_any_more() {
    let mut node = Node::running(&[1]);
    node.promise(2, 5);
    node.core.review_promise(&child());
    node.children.call_unmet(&mut node.core);
    assert_eq!(node.all(), [node.again(5)]);
    // Its owner is gone: its home calls by itself.
    let mut node = Node::new(&[1]);
    node.log_says(3, Entry::Owned(owned(epoch(1, 0))));
    node.promise(2, 5);
    node.adopt([1, 2].map(member));
    node.core.review_promise(&child());
    node.children.call_unmet(&mut node.core);
    assert_eq!(node.all(), []);
}

#[test]
fn a_copy_that_ends_is_not_taken_and_the_home_says_it_again() {
    let mut node = Node::stopping();
    node.promise(2, 5);
    node.given(2, given(), Copy::Live);
    assert_eq!(node.all(), []);
    assert_eq!(node.instance().epoch(), epoch(1, 0));
}

#[test]
fn a_promise_to_a_call_that_came_late_is_not_waited_for_for_ever() {
    let mut node = Node::running(&[1]);
    let home = home_of(&node);
    node.called(home, 5);
    // The child has an owner that lives: its home does not call by itself.
    node.children.call_unmet(&mut node.core);
    assert_eq!(node.all(), [node.again(5)]);
}

#[test]
fn a_call_for_a_term_that_cannot_be_is_not_answered() {
    let mut node = Node::running(&[1]);
    let home = home_of(&node);
    let effects = node.called(home, u64::MAX);
    let is_answer = |effect: &Effect| matches!(effect, Effect::Send { .. });
    assert!(!effects.iter().any(is_answer), "{effects:?}");
    assert!(!node.core.promises.binds(&child()));
}
