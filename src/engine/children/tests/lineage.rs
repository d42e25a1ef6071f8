//! Copies that another owner of the same life was not made of.

use super::*;
use crate::engine::{children::target::Offer, handover::TargetInput};

const ATTEMPT: Epoch = Epoch { term: 1, attempt: 3 };

/// An owner of the child's first life, made of a copy at this epoch.
fn made_of_a_copy(copied: Epoch) -> Ownership {
    Ownership { born: epoch(1, 0), copied, ..owned(copied) }
}

/// A successor of a child that node 3 had, which is gone, stands ready.
fn ready() -> Node {
    let mut node = Node::new(&[1]);
    node.log_says(3, Entry::Owned(owned(epoch(1, 0))));
    let offer = Offer {
        ownership: Ownership { epoch: ATTEMPT, ..owned(epoch(1, 0)) },
        state: epoch(1, 2),
        state_version: 3,
        with_state: true,
        view: node.core.view_id,
    };
    node.children.offered(&mut node.core, run(3), offer);
    for input in [TargetInput::State, TargetInput::Built(Ok(()))] {
        node.children.target_input(&mut node.core, &child(), ATTEMPT, &input);
    }
    node.adopt([1, 2].map(member));
    node.forget();
    assert_eq!(node.children.successor_stage(&child()), Some(TargetStage::Ready));
    node
}

/// A roll call gave the child to node 2 at this term, and this node was told of calls up to `told`.
fn taken_over(node: &mut Node, told: Option<u64>, copy: Copy) -> Vec<Effect> {
    if let Some(term) = told {
        let Node { core, children } = node;
        super::super::lineage::note_answer(core, &mut children.table, &child(), copy, term);
    }
    node.log_says(2, Entry::Owned(made_of_a_copy(epoch(2, 0))));
    node.children.child_changed(&mut node.core, &child());
    node.effects()
}

/// A copy whose successor on that node, which is gone, has not said that it runs.
fn committed_to(n: u8) -> Node {
    use SourceInput::*;
    let mut node = Node::running(&[n]);
    node.children.enqueue(&node.core, &child());
    node.children.pump(&mut node.core);
    for input in [Accepted, Frozen(Ok(8)), Ready] {
        node.children.source(&mut node.core).step(&child(), input);
    }
    node.adopt([1, 2].map(member));
    node.forget();
    node
}

fn parked(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| match effect {
        Effect::Child(ChildOrder::ParkBuilt { key, built, .. }) => {
            assert_eq!((key.run, key.epoch, *built), (run(3), epoch(1, 2), ATTEMPT));
            true
        }
        _ => false,
    })
}

#[test]
fn a_copy_that_stands_is_dropped_if_the_roll_call_was_told_of_it_and_parked_if_not() {
    let discard = order(ChildOrder::Discard { child: child(), epoch: ATTEMPT });
    for (told, parks) in [(None, true), (Some(1), true), (Some(2), false), (Some(3), false)] {
        let mut node = ready();
        let effects = taken_over(&mut node, told, Copy::Ready);
        assert_eq!((parked(&effects), effects.contains(&discard)), (parks, !parks), "{told:?}");
        assert_eq!(node.children.successor_stage(&child()), None);
    }
}

#[test]
fn a_start_from_nothing_parks_a_copy_that_stands() {
    let mut node = ready();
    node.children.begin(&mut node.core, spec(), epoch(2, 0));
    let effects = node.effects();
    assert!(parked(&effects), "{effects:?}");
}

#[test]
fn a_committed_copy_ends_if_the_roll_call_was_told_of_it_and_is_offered_if_not() {
    for (told, ends) in [(None, false), (Some(1), false), (Some(2), true)] {
        let mut node = committed_to(3);
        let effects = taken_over(&mut node, told, Copy::Frozen);
        let is_ended = effects.contains(&order(ChildOrder::End { child: child() }));
        let is_offered = effects.iter().any(|effect| {
            matches!(effect, Effect::Child(ChildOrder::SendDiverged { to, .. }) if *to == run(2))
        });
        assert_eq!((is_ended, is_offered), (ends, !ends), "told at {told:?}: {effects:?}");
    }
}

#[test]
fn before_the_view_is_settled_no_copy_is_given_up_for_one_that_passed_it() {
    let mut node = ready();
    node.core.settled = false;
    assert_eq!(taken_over(&mut node, None, Copy::Ready), []);
    assert_eq!(node.children.successor_stage(&child()), Some(TargetStage::Ready));
    for handed_on in [false, true] {
        let mut node = committed_to(3);
        node.core.settled = false;
        let ownership = made_of_a_copy(epoch(2, 0));
        let entry = match handed_on {
            true => Entry::Moved { to: run(2), ownership },
            false => Entry::Owned(ownership),
        };
        node.log_says(2, entry);
        node.children.child_changed(&mut node.core, &child());
        assert_eq!(node.effects(), [], "handed on: {handed_on}");
        assert!(!node.instance().owns(), "it is held");
    }
}

#[test]
fn what_an_earlier_view_was_told_counts_no_more() {
    let mut node = ready();
    let Node { core, children } = &mut node;
    super::super::lineage::note_answer(core, &mut children.table, &child(), Copy::Ready, 2);
    node.adopt([1, 2, 4].map(member));
    let effects = taken_over(&mut node, None, Copy::Ready);
    assert!(parked(&effects), "{effects:?}");
}

#[test]
fn who_offers_its_copy_to_an_owner_that_passed_it_does_not_turn_round() {
    let mut node = committed_to(3);
    let offered = |effects: &[Effect]| {
        effects.iter().any(|effect| {
            matches!(effect, Effect::Child(ChildOrder::SendDiverged { to, .. }) if *to == run(2))
        })
    };
    assert!(offered(&taken_over(&mut node, None, Copy::Frozen)));
    for _ in 0..3 {
        node.children.child_changed(&mut node.core, &child());
        let effects = node.effects();
        let goes_on =
            effects.iter().any(|effect| matches!(effect, Effect::Child(ChildOrder::Thaw { .. })));
        assert!(!goes_on, "{effects:?}");
    }
}
