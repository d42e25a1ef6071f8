//! What became of the children of one request.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::id::ChildId;

/// The outcomes of one request's children, as they come.
///
/// Each of them costs the same however many there are.
#[derive(Debug)]
pub(crate) struct Outcomes<T> {
    open: BTreeSet<ChildId>,
    known: BTreeMap<ChildId, T>,
}

impl<T> Outcomes<T> {
    /// Nothing is known of these yet.
    pub(crate) fn new<'a>(children: impl IntoIterator<Item = &'a ChildId>) -> Self {
        Self { open: children.into_iter().cloned().collect(), known: BTreeMap::new() }
    }

    /// Whether nothing is known of a child, and it is one of the request.
    pub(crate) fn is_open(&self, child: &ChildId) -> bool {
        self.open.contains(child)
    }

    /// Whether something is known of all.
    pub(crate) fn is_complete(&self) -> bool {
        self.open.is_empty()
    }

    /// Notes what became of a child. The latest word counts; one about a child of which nothing was
    /// asked does not.
    pub(crate) fn note(&mut self, child: ChildId, outcome: T) {
        if self.open.remove(&child) || self.known.contains_key(&child) {
            self.known.insert(child, outcome);
        }
    }

    /// What became of a child, if it is known. A request may name it twice.
    pub(crate) fn get(&self, child: &ChildId) -> Option<&T> {
        self.known.get(child)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(n: usize) -> ChildId {
        ChildId::new(format!("c{n}")).expect("a valid id")
    }

    #[test]
    fn a_request_is_complete_when_each_of_its_children_has_an_outcome() {
        let asked = [child(1), child(2), child(1)];
        let mut outcomes = Outcomes::new(&asked);
        assert!(outcomes.is_open(&child(1)) && !outcomes.is_open(&child(3)));
        outcomes.note(child(3), "nobody asked");
        outcomes.note(child(1), "first");
        assert!(!outcomes.is_complete() && !outcomes.is_open(&child(1)));
        outcomes.note(child(1), "later");
        outcomes.note(child(2), "two");
        assert!(outcomes.is_complete());
        let known = [1, 2, 3, 1].map(|n| outcomes.get(&child(n)).copied());
        assert_eq!(known, [Some("later"), Some("two"), None, Some("later")]);
    }

    #[test]
    fn a_request_for_nothing_is_complete() {
        assert!(Outcomes::<()>::new([]).is_complete());
    }
}
