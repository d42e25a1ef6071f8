//! Which lives this node has voted against.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::id::{Incarnation, Life, NodeId};

/// At most this many nodes are remembered; above it no vote is given.
const LIMIT: usize = 4_096;

/// Votes given: a verdict that counts on one binds this node.
///
/// A vote is not a word but a state: it stands in each status as *silent* until the life is heard
/// again. So no ballot has a number, nothing is asked twice, and no two timers race. What has been
/// said once is remembered beyond that, since a verdict that rests on it may be under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Votes {
    given: BTreeMap<NodeId, Incarnation>,
}

impl Votes {
    /// Gives a vote against this life; `false` when there is no room to remember it, and so none is
    /// given.
    pub(super) fn give(&mut self, life: Life) -> bool {
        if !self.given.contains_key(&life.node) && self.given.len() >= LIMIT {
            return false;
        }
        let given = self.given.entry(life.node).or_insert(life.incarnation);
        *given = (*given).max(life.incarnation);
        true
    }

    /// Gives a vote against each of these lives, and leaves out those that it cannot remember. What
    /// was given on nodes that are neither among them nor members may be forgotten.
    pub(super) fn vote(&mut self, silent: &mut Vec<Life>, is_member: impl Fn(NodeId) -> bool) {
        silent.retain(|life| self.give(*life));
        let about: BTreeSet<NodeId> = silent.iter().map(|life| life.node).collect();
        self.keep(|node| is_member(node) || about.contains(&node));
    }

    /// Whether a verdict on this life, in the name of this node, rests on a vote that it gave.
    pub(super) fn binds(&self, life: Life) -> bool {
        self.given.get(&life.node).is_some_and(|given| life.incarnation <= *given)
    }

    /// The life is over: there is nothing left to be bound to.
    pub(super) fn forget(&mut self, node: NodeId) {
        self.given.remove(&node);
    }

    /// Nodes that are neither known nor asked about any more need not be remembered.
    pub(super) fn keep(&mut self, wanted: impl Fn(NodeId) -> bool) {
        if self.given.len() > LIMIT / 2 {
            self.given.retain(|node, _| wanted(*node));
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.given.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(node: u32, started: u64) -> Life {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&node.to_be_bytes());
        Life { node: NodeId::from_key(key), incarnation: Incarnation { started, nonce: 1 } }
    }

    #[test]
    fn a_vote_binds_to_a_verdict_on_that_life_or_an_earlier_one() {
        let mut votes = Votes::default();
        assert!(votes.give(life(1, 5)) && votes.give(life(1, 3)));
        assert!(votes.binds(life(1, 5)) && votes.binds(life(1, 4)));
        assert!(!votes.binds(life(1, 6)) && !votes.binds(life(2, 5)));
        votes.forget(life(1, 5).node);
        assert!(!votes.binds(life(1, 5)));
    }

    #[test]
    fn a_vote_that_cannot_be_remembered_is_not_given() {
        let mut votes = Votes::default();
        assert!((0..LIMIT as u32).all(|node| votes.give(life(node, 1))));
        assert!(!votes.give(life(LIMIT as u32, 1)));
        assert!(votes.give(life(0, 2)));
        votes.keep(|node| node == life(0, 1).node);
        assert!(votes.give(life(LIMIT as u32, 1)) && votes.binds(life(0, 2)));
    }
}
