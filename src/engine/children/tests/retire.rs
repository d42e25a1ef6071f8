//! Children that were stopped while this node was away.

use super::*;

/// Which rest was ordered, if one was.
fn rest(effects: &[Effect]) -> Option<Epoch> {
    effects.iter().find_map(|effect| match effect {
        Effect::Child(ChildOrder::Rest { epoch, .. }) => Some(*epoch),
        _ => None,
    })
}

#[test]
fn what_is_to_be_parked_is_said_to_be_here_until_it_is() {
    let mut node = Node::running(&[1]);
    node.children.retire(&mut node.core, &child());
    let Some(Entry::Owned(said)) = node.entry() else { panic!("{:?}", node.entry()) };
    assert_eq!(said.epoch, epoch(2, 0), "above all that others may remember");
    assert_eq!(rest(&node.effects()), Some(epoch(2, 0)));
    // It is doubted again when the next view settles.
    node.children.retire(&mut node.core, &child());
    assert_eq!((node.entry(), rest(&node.effects())), (Some(Entry::Owned(said)), None));
    node.children.rested(&mut node.core, &child(), epoch(2, 0), &Ok(8));
    let key = ParkedKey { child: child(), run: run(1), epoch: epoch(2, 0) };
    let parks = |effect: &Effect| matches!(effect, Effect::Child(ChildOrder::ParkFrozen { key: of, .. }) if *of == key);
    assert!(node.effects().iter().any(parks));
    node.children.retired(&mut node.core, &key);
    node.children.stopped(&mut node.core, &child());
    assert_eq!(node.entry(), Some(Entry::Removed { epoch: epoch(3, 0) }));
}

#[test]
fn a_copy_that_was_committed_leaves_no_ghost_of_its_successor() {
    let mut node = Node::committed();
    node.children.retire(&mut node.core, &child());
    assert!(matches!(node.entry(), Some(Entry::Owned(said)) if said.epoch == epoch(2, 0)));
    let (owner, _) = node.core.registry.owner(&child()).expect("it is here");
    assert_eq!(owner, run(1));
}
