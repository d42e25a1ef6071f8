//! Children that wait for their turn to move.

use std::collections::{BTreeSet, VecDeque};

use crate::model::id::ChildId;

/// Children that wait for their turn to move, each once as what it waits for: those that somebody asked
/// to move, in the order asked, and then those that belong elsewhere, by id.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    asked: VecDeque<ChildId>,
    is_asked: BTreeSet<ChildId>,
    elsewhere: BTreeSet<ChildId>,
}

impl Turns {
    /// Somebody asked for a move.
    pub(crate) fn ask(&mut self, child: &ChildId) {
        if !self.is_asked.contains(child) {
            self.is_asked.insert(child.clone());
            self.asked.push_back(child.clone());
        }
    }

    /// It belongs elsewhere.
    pub(crate) fn belongs_elsewhere(&mut self, child: &ChildId) {
        if !self.elsewhere.contains(child) {
            self.elsewhere.insert(child.clone());
        }
    }

    /// It belongs here.
    pub(crate) fn belongs_here(&mut self, child: &ChildId) {
        self.elsewhere.remove(child);
    }

    /// Whose turn it is; it waits no longer.
    pub(crate) fn next(&mut self) -> Option<ChildId> {
        let Some(child) = self.asked.pop_front() else { return self.elsewhere.pop_first() };
        self.is_asked.remove(&child);
        Some(child)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(n: usize) -> ChildId {
        ChildId::new(format!("c{n}")).expect("a valid id")
    }

    #[test]
    fn who_was_asked_goes_first_in_the_order_asked_and_each_once() {
        let mut turns = Turns::default();
        for n in [5, 4, 6] {
            turns.belongs_elsewhere(&child(n));
        }
        for n in [3, 1, 2, 1, 3] {
            turns.ask(&child(n));
        }
        turns.belongs_here(&child(6));
        let all: Vec<_> = std::iter::from_fn(|| turns.next()).collect();
        assert_eq!(all, [3, 1, 2, 4, 5].map(child));
        turns.ask(&child(1));
        assert_eq!(turns.next(), Some(child(1)), "it may be asked for again");
    }
}
