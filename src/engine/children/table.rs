//! Who runs on this node, and who is about to: an instance or a successor in the making of each child,
//! and never both.

use std::collections::BTreeMap;

use super::{instance::Instance, instances::Instances, moving::Move, successor::Successor};
use crate::model::id::ChildId;

/// The instances and successors of one node.
///
/// A child has one of the two at most: what is held of it, and what is answered to a roll call, is one
/// thing. Whoever puts an instance in gets the successor that had its place, to be discarded.
#[derive(Debug, Default)]
pub(crate) struct Table {
    instances: Instances<Instance>,
    successors: BTreeMap<ChildId, Successor>,
}

/// The instances.
impl Table {
    pub(super) fn instance(&self, child: &ChildId) -> Option<&Instance> {
        self.instances.get(child)
    }

    pub(super) fn instance_mut(&mut self, child: &ChildId) -> Option<&mut Instance> {
        self.instances.get_mut(child)
    }

    /// The instances by child.
    pub(super) fn instances(&self) -> impl Iterator<Item = (&ChildId, &Instance)> {
        self.instances.iter()
    }

    /// The children behind this one that have an instance.
    pub(super) fn behind(&self, child: Option<&ChildId>) -> impl Iterator<Item = &ChildId> {
        self.instances.behind(child)
    }

    /// Puts an instance in. Gives the successor that had its place: whoever made it discards it.
    #[must_use]
    pub(super) fn put(&mut self, child: ChildId, instance: Instance) -> Option<Successor> {
        let superseded = self.successors.remove(&child);
        self.instances.insert(child, instance);
        superseded
    }

    /// Takes an instance out, whose actor ends or has ended.
    pub(super) fn remove(&mut self, child: &ChildId) -> Option<Instance> {
        self.instances.remove(child)
    }
}

/// Their moves.
impl Table {
    /// The move of a child that is under way.
    pub(super) fn moving(&self, child: &ChildId) -> Option<&Move> {
        self.instances.get(child)?.moving()
    }

    /// The same, to be changed.
    pub(super) fn moving_mut(&mut self, child: &ChildId) -> Option<&mut Move> {
        // Whoever is handed out is counted anew: most that are asked for here move.
        self.instances.get_mut(child)?.moving_mut()
    }

    /// The children that are being handed over, by id.
    pub(super) fn moves(&self) -> impl Iterator<Item = (&ChildId, &Move)> {
        let moving = self.instances.moving().into_iter();
        moving.filter_map(|child| {
            let (child, instance) = self.instances.get_key_value(&child)?;
            Some((child, instance.moving()?))
        })
    }

    /// How many are being handed over.
    pub(super) fn move_count(&self) -> usize {
        self.instances.moving_count()
    }
}

/// The successors in the making.
impl Table {
    pub(super) fn successor(&self, child: &ChildId) -> Option<&Successor> {
        self.successors.get(child)
    }

    pub(super) fn successor_mut(&mut self, child: &ChildId) -> Option<&mut Successor> {
        self.successors.get_mut(child)
    }

    /// The successors by child.
    pub(super) fn successors(&self) -> impl Iterator<Item = (&ChildId, &Successor)> {
        self.successors.iter()
    }

    pub(super) fn successor_count(&self) -> usize {
        self.successors.len()
    }

    /// Puts a successor in. Gives what is to be discarded instead: an older one, or this one if the
    /// child has an instance here.
    #[must_use]
    pub(super) fn expect(&mut self, child: ChildId, successor: Successor) -> Option<Successor> {
        if self.instances.contains_key(&child) {
            return Some(successor);
        }
        self.successors.insert(child, successor)
    }

    pub(super) fn remove_successor(&mut self, child: &ChildId) -> Option<Successor> {
        self.successors.remove(child)
    }
}

/// What is counted.
impl Table {
    /// Whether nothing is here that would be lost with this node.
    pub(super) fn is_spent(&self) -> bool {
        // When this node is gone, the homes of those without an actor start them elsewhere.
        self.instances.is_spent() && self.successors.is_empty()
    }

    /// How many instances would be lost with this node, and are its own to hand over.
    pub(super) fn to_hand_over(&self) -> usize {
        self.instances.to_hand_over()
    }

    /// Whether this is true of any instance that is to be handed over.
    pub(super) fn any_to_hand_over(&self, is_true: impl Fn(&Instance) -> bool) -> bool {
        self.instances.any_to_hand_over(is_true)
    }
}
