//! What a node runs, by child, with the sets that are asked for after every event.
//!
//! An instance changes in many places, and nobody should have to remember to count it anew: each one
//! that was handed out to be changed is sorted again before the sets are read. So no step walks all of
//! them, and the sets cannot be wrong.

use std::{
    cell::{RefCell, RefMut},
    collections::{BTreeMap, BTreeSet, btree_map},
    ops::Bound::{Excluded, Unbounded},
};

use crate::model::id::ChildId;

/// Instances that were handed out and are not sorted yet; one more, and all are.
const MOST_CHANGED: usize = 64;

/// What an instance is counted as.
pub(crate) trait Counted {
    /// Whether it would be lost with its node, and is the node's to hand over.
    fn is_to_hand_over(&self) -> bool;

    /// Whether there is nothing that would be lost with its node.
    fn is_waiting(&self) -> bool;

    /// Whether it is being handed over.
    fn is_moving(&self) -> bool;
}

/// Instances of one node.
#[derive(Debug)]
pub(crate) struct Instances<I> {
    map: BTreeMap<ChildId, I>,
    sorted: RefCell<Sorted>,
}

#[derive(Debug, Default)]
struct Sorted {
    changed: BTreeSet<ChildId>,
    to_hand_over: BTreeSet<ChildId>,
    waiting: BTreeSet<ChildId>,
    moving: BTreeSet<ChildId>,
    /// Where the last search has ended.
    found: Option<ChildId>,
}

impl<I> Default for Instances<I> {
    fn default() -> Self {
        Self { map: BTreeMap::new(), sorted: RefCell::default() }
    }
}

impl<'a, I> IntoIterator for &'a Instances<I> {
    type Item = (&'a ChildId, &'a I);
    type IntoIter = btree_map::Iter<'a, ChildId, I>;

    fn into_iter(self) -> Self::IntoIter {
        self.map.iter()
    }
}

impl<I: Counted> Instances<I> {
    pub(crate) fn get(&self, child: &ChildId) -> Option<&I> {
        self.map.get(child)
    }

    pub(crate) fn get_key_value(&self, child: &ChildId) -> Option<(&ChildId, &I)> {
        self.map.get_key_value(child)
    }

    pub(crate) fn contains_key(&self, child: &ChildId) -> bool {
        self.map.contains_key(child)
    }

    pub(crate) fn iter(&self) -> btree_map::Iter<'_, ChildId, I> {
        self.map.iter()
    }

    /// The children with ids behind this one.
    pub(crate) fn behind(&self, child: Option<&ChildId>) -> impl Iterator<Item = &ChildId> {
        let behind = child.map_or(Unbounded, Excluded);
        self.map.range::<ChildId, _>((behind, Unbounded)).map(|(child, _)| child)
    }

    /// Hands an instance out, to be changed or not.
    pub(crate) fn get_mut(&mut self, child: &ChildId) -> Option<&mut I> {
        if self.map.contains_key(child) {
            self.note(child);
        }
        self.map.get_mut(child)
    }

    pub(crate) fn insert(&mut self, child: ChildId, instance: I) -> Option<I> {
        self.note(&child);
        self.map.insert(child, instance)
    }

    pub(crate) fn remove(&mut self, child: &ChildId) -> Option<I> {
        self.note(child);
        self.map.remove(child)
    }

    fn note(&mut self, child: &ChildId) {
        let changed = &mut self.sorted.get_mut().changed;
        if changed.contains(child) {
            return;
        }
        changed.insert(child.clone());
        if changed.len() > MOST_CHANGED {
            // This one is about to change.
            self.sort();
            self.sorted.get_mut().changed.insert(child.clone());
        }
    }

    fn sort(&self) -> RefMut<'_, Sorted> {
        let mut sorted = self.sorted.borrow_mut();
        for child in std::mem::take(&mut sorted.changed) {
            let instance = self.map.get(&child);
            let is = |what: fn(&I) -> bool| instance.is_some_and(what);
            let Sorted { to_hand_over, waiting, moving, .. } = &mut *sorted;
            for (set, is) in [
                (to_hand_over, is(I::is_to_hand_over)),
                (waiting, is(I::is_waiting)),
                (moving, is(I::is_moving)),
            ] {
                if !is {
                    set.remove(&child);
                } else if !set.contains(&child) {
                    set.insert(child.clone());
                }
            }
        }
        sorted
    }

    /// How many would be lost with this node, and are its own to hand over.
    pub(crate) fn to_hand_over(&self) -> usize {
        self.sort().to_hand_over.len()
    }

    /// Whether nothing would be lost with this node.
    pub(crate) fn is_spent(&self) -> bool {
        self.sort().waiting.len() == self.map.len()
    }

    /// The children that are being handed over.
    pub(crate) fn moving(&self) -> Vec<ChildId> {
        self.sort().moving.iter().cloned().collect()
    }

    /// How many are being handed over.
    pub(crate) fn moving_count(&self) -> usize {
        self.sort().moving.len()
    }

    /// Whether this is true of any instance that is to be handed over. Asked first of the one of which
    /// it was true last.
    pub(crate) fn any_to_hand_over(&self, is_true: impl Fn(&I) -> bool) -> bool {
        let mut sorted = self.sort();
        let all = &sorted.to_hand_over;
        let from = sorted.found.as_ref().filter(|found| all.contains(*found)).or(all.first());
        let Some(from) = from else { return false };
        let found = all
            .range::<ChildId, _>(from..)
            .chain(all.range::<ChildId, _>(..from))
            .find(|child| self.map.get(*child).is_some_and(&is_true))
            .cloned();
        let is_found = found.is_some();
        sorted.found = found;
        is_found
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Doing {
        Running,
        Waiting,
        Moving,
        Moved,
    }

    impl Counted for Doing {
        fn is_to_hand_over(&self) -> bool {
            matches!(self, Self::Running | Self::Moving)
        }

        fn is_waiting(&self) -> bool {
            *self == Self::Waiting
        }

        fn is_moving(&self) -> bool {
            matches!(self, Self::Moving | Self::Moved)
        }
    }

    fn child(n: usize) -> ChildId {
        ChildId::new(format!("c{n:03}")).expect("a valid id")
    }

    fn doing() -> impl Strategy<Value = Option<Doing>> {
        proptest::option::of(prop_oneof![
            Just(Doing::Running),
            Just(Doing::Waiting),
            Just(Doing::Moving),
            Just(Doing::Moved)
        ])
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn the_sets_are_what_a_walk_over_all_would_find(
            steps in proptest::collection::vec((0..150_usize, doing(), any::<bool>()), 0..400),
        ) {
            let mut all = Instances::default();
            for (n, doing, is_read) in steps {
                match (doing, all.get_mut(&child(n))) {
                    (Some(doing), Some(known)) => *known = doing,
                    (Some(doing), None) => drop(all.insert(child(n), doing)),
                    (None, _) => drop(all.remove(&child(n))),
                }
                if !is_read {
                    continue;
                }
                let count = |what: fn(&Doing) -> bool| {
                    all.iter().filter(|(_, doing)| what(doing)).count()
                };
                prop_assert_eq!(all.to_hand_over(), count(Doing::is_to_hand_over));
                prop_assert_eq!(all.is_spent(), count(|doing| !doing.is_waiting()) == 0);
                let moving = all.iter().filter(|(_, doing)| doing.is_moving());
                prop_assert_eq!(all.moving_count(), moving.clone().count());
                prop_assert_eq!(all.moving(), moving.map(|(n, _)| n.clone()).collect::<Vec<_>>());
                let is_running = |doing: &Doing| *doing == Doing::Running;
                prop_assert_eq!(all.any_to_hand_over(is_running), count(is_running) > 0);
            }
        }
    }

    #[test]
    fn what_is_asked_after_every_event_walks_over_nobody() {
        let mut all = Instances::default();
        for n in 0..100_000 {
            all.insert(child(n), if n < 99_000 { Doing::Moving } else { Doing::Running });
        }
        let asked = Cell::new(0);
        let is_running = |doing: &Doing| {
            asked.set(asked.get() + 1);
            *doing == Doing::Running
        };
        for n in (99_000..99_900).rev() {
            assert!(all.any_to_hand_over(is_running));
            assert_eq!(all.to_hand_over(), 100_000 - (99_899 - n));
            assert!(!all.is_spent());
            assert_eq!(all.sorted.borrow().changed.len(), 0);
            all.remove(&child(n));
            assert_eq!(all.sorted.borrow().changed.len(), 1);
        }
        assert!(asked.get() < 200_000, "{} were asked", asked.get());
    }
}
