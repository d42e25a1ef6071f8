use super::{Node, child, epoch, kind, member, news, order, owned, run, spec};
use crate::{
    engine::{
        children::{Offer, phase::Phase},
        core::{News, OtherHolder},
        handover::{TargetInput, TargetStage},
        io::{ChildOrder, Effect},
    },
    model::{
        child::{Entry, Epoch, Ownership},
        parked::ParkedKey,
    },
};

const ATTEMPT: Epoch = Epoch { term: 1, attempt: 1 };

/// A later entry of the life that began at 1.0.
fn same_life(epoch: Epoch) -> Ownership {
    Ownership { epoch, ..owned(super::epoch(1, 0)) }
}

impl Node {
    fn looked(&mut self) -> Vec<Effect> {
        self.children.child_changed(&mut self.core, &child());
        self.effects()
    }

    /// A successor of node 2's child that stands ready.
    fn ready() -> Self {
        let mut node = Self::new(&[1]);
        node.log_says(2, Entry::Owned(owned(epoch(1, 0))));
        let offer = Offer {
            ownership: same_life(ATTEMPT),
            state: epoch(1, 0),
            state_version: 3,
            with_state: true,
            view: node.core.view_id,
        };
        node.children.offered(&mut node.core, run(2), offer);
        for input in [TargetInput::State, TargetInput::Built(Ok(()))] {
            node.children.target_input(&mut node.core, &child(), ATTEMPT, &input);
        }
        node.forget();
        assert_eq!(node.children.successor_stage(&child()), Some(TargetStage::Ready));
        node
    }
}

fn discard() -> Effect {
    order(ChildOrder::Discard { child: child(), epoch: ATTEMPT })
}

fn is_ended(effects: &[Effect]) -> bool {
    effects.contains(&order(ChildOrder::End { child: child() }))
}

#[test]
fn a_copy_that_is_held_ends_for_its_successor_and_for_whoever_has_it_from_that_one() {
    let moved = |epoch| Entry::Moved { to: run(3), ownership: same_life(epoch) };
    for (by, entry, expected) in [
        (2, Entry::Owned(same_life(ATTEMPT)), true),
        // It runs and was raised since, was handed on, or was given to another by a roll call.
        (2, Entry::Owned(same_life(epoch(1, 4))), true),
        (2, moved(epoch(1, 4)), true),
        (3, Entry::Owned(same_life(epoch(2, 0))), true),
        // What is said of an earlier time is no successor.
        (3, Entry::Owned(same_life(epoch(1, 0))), false),
    ] {
        let mut node = Node::committed();
        node.log_says(by, entry.clone());
        assert_eq!(is_ended(&node.looked()), expected, "{by} {entry:?}");
        assert_eq!(node.children.instance(&child()).is_none(), expected, "{by} {entry:?}");
    }
}

#[test]
fn a_copy_that_is_held_does_not_end_for_an_owner_that_began_from_nothing() {
    for (by, epoch) in [(2, epoch(1, 4)), (3, epoch(2, 0))] {
        let mut node = Node::committed();
        node.log_says(by, Entry::Owned(owned(epoch)));
        assert!(!is_ended(&node.looked()));
        // It was born first: it goes on, above the other, which gives way.
        assert!(node.instance().is_running(), "{by} {epoch}");
        assert!(node.instance().epoch() > epoch, "{by} {epoch}");
    }
}

#[test]
fn what_an_owner_says_counts_in_a_settled_view_and_while_it_lives() {
    let other = Entry::Owned(owned(epoch(2, 0)));
    let mut node = Node::committed();
    node.log_says(3, other.clone());
    node.core.settled = false;
    assert_eq!(node.looked(), []);
    let mut node = Node::committed();
    node.log_says(3, other.clone());
    node.adopt([1, 2].map(member));
    assert_eq!(node.looked(), []);
    let mut node = Node::running(&[1]);
    node.log_says(3, other.clone());
    node.core.settled = false;
    assert_eq!(node.looked(), []);
    let mut node = Node::running(&[1]);
    node.log_says(3, other);
    node.adopt([1, 2].map(member));
    assert_eq!(node.looked(), []);
    assert!(node.instance().is_running());
}

#[test]
fn a_removal_ends_what_is_here_unless_it_is_older() {
    let removed = |term| Entry::Removed { epoch: epoch(term, 0) };
    let stop = |at| order(ChildOrder::Stop { child: child(), epoch: at });
    let mut node = Node::running(&[1]);
    node.log_says(3, removed(2));
    assert_eq!(node.looked(), [stop(epoch(1, 0))]);
    assert!(node.instance().is_stopping());
    assert_eq!(node.looked(), [], "it is being stopped");
    // The copy is dropped at once: its successor is what is stopped.
    let mut node = Node::committed();
    node.log_says(3, removed(2));
    assert_eq!(node.looked().last(), Some(&stop(epoch(2, 0))));
    assert!(node.children.instance(&child()).is_none());
    let mut node = Node::new(&[1]);
    node.children.begin(&mut node.core, spec(), epoch(5, 0));
    node.children.started(&mut node.core, &child(), epoch(5, 0), Ok(()));
    node.forget();
    node.log_says(3, removed(2));
    assert_eq!(node.looked(), []);
    // A successor in the making obeys it, whatever its source has said before.
    let mut node = Node::ready();
    node.log_says(2, Entry::Moved { to: run(1), ownership: same_life(ATTEMPT) });
    node.log_says(3, removed(2));
    assert_eq!(node.looked(), [discard()]);
}

#[test]
fn a_successor_opens_when_its_sources_entry_names_this_node_at_this_attempt() {
    let moved = |to, epoch| Entry::Moved { to: run(to), ownership: same_life(epoch) };
    let open = order(ChildOrder::Open { child: child(), built: ATTEMPT, epoch: ATTEMPT });
    for (entry, expected) in [
        (moved(1, ATTEMPT), vec![open]),
        // It went elsewhere, or the attempt was given up.
        (moved(3, ATTEMPT), vec![discard()]),
        (moved(1, epoch(1, 2)), vec![discard()]),
        (Entry::Owned(same_life(epoch(1, 2))), vec![discard()]),
        // It says nothing of this attempt yet.
        (Entry::Owned(same_life(epoch(1, 0))), vec![]),
    ] {
        let mut node = Node::ready();
        node.log_says(2, entry.clone());
        assert_eq!(node.looked(), expected, "{entry:?}");
    }
}

#[test]
fn a_successor_does_not_open_while_a_roll_call_is_under_way() {
    let mut node = Node::ready();
    node.promise(3, 5);
    node.log_says(2, Entry::Moved { to: run(1), ownership: same_life(ATTEMPT) });
    assert_eq!(node.looked(), []);
    assert_eq!(node.children.successor_stage(&child()), Some(TargetStage::Ready));
    node.core.promises.release(&child());
    assert_eq!(node.looked().len(), 1);
}

#[test]
fn a_state_that_came_is_parked_if_its_source_is_gone_and_another_life_goes_on() {
    // The attempt is given up, and the source has its state.
    let mut node = Node::ready();
    node.log_says(3, Entry::Owned(owned(epoch(2, 0))));
    assert_eq!(node.looked(), [discard()]);
    let lost = |other: Ownership, members: &[u8]| {
        let mut node = Node::ready();
        node.log_says(3, Entry::Owned(other));
        node.adopt(members.iter().copied().map(member));
        node
    };
    // The life that came goes on at another node.
    let mut node = lost(same_life(epoch(2, 0)), &[1, 3]);
    assert_eq!(node.looked(), [discard()]);
    // Neither the source nor the other owner is there: a roll call may want what stands here.
    let mut node = lost(owned(epoch(2, 0)), &[1]);
    assert_eq!(node.looked(), []);
    // Before the view is settled, the source may merely not have been heard yet.
    let mut node = lost(owned(epoch(2, 0)), &[1, 3]);
    node.core.settled = false;
    assert_eq!(node.looked(), []);
    node.core.settled = true;
    let key = ParkedKey { child: child(), run: run(2), epoch: epoch(1, 0) };
    let reason =
        "its owner went down while it moved here, and another node began it anew".to_owned();
    let (kind, built) = (kind(), ATTEMPT);
    let park = ChildOrder::ParkBuilt { key: key.clone(), kind, built, reason };
    assert_eq!(node.looked(), [order(park)]);
    assert_eq!(node.news(), news(&[News::Parks { key, other: OtherHolder::None }]));
    assert_eq!(node.children.successor_stage(&child()), None);
}

#[test]
fn a_copy_that_is_held_goes_on_for_no_other_life_while_a_roll_call_is_under_way() {
    let mut node = Node::committed();
    node.promise(3, 5);
    node.log_says(3, Entry::Owned(owned(epoch(2, 0))));
    assert_eq!(node.looked(), []);
    assert!(!node.instance().owns());
    node.core.promises.release(&child());
    node.looked();
    assert!(matches!(node.instance().phase(), Phase::Running));
    // Above what was promised, too.
    let mut node = Node::running(&[1]);
    node.promise(2, 9);
    node.log_says(3, Entry::Owned(owned(epoch(2, 0))));
    node.looked();
    assert_eq!(node.instance().epoch(), epoch(10, 0));
}
