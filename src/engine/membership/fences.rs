//! Lives that are over.

use std::collections::BTreeMap;

use super::outputs::Outputs;
use crate::model::{
    id::{Incarnation, NodeId},
    message::MemberWord,
};

/// At most this many nodes are remembered; the fence raised longest ago is forgotten first.
const LIMIT: usize = 1_024;
/// As long as no more are remembered, one is added of which others tell.
const GOSSIP_LIMIT: usize = LIMIT / 2;

/// For each node the highest life that is over: it and every earlier one are refused.
#[derive(Clone, Debug, Default)]
pub(super) struct Fences {
    lives: BTreeMap<NodeId, (Incarnation, u64)>,
    raised: u64,
}

impl Fences {
    /// Ends this life of the node and every earlier one; tells whether that is news.
    pub(super) fn raise(&mut self, node: NodeId, incarnation: Incarnation) -> bool {
        if self.covers(node, incarnation) {
            return false;
        }
        self.raised += 1;
        self.lives.insert(node, (incarnation, self.raised));
        if self.lives.len() > LIMIT {
            let oldest = self.lives.iter().min_by_key(|(_, (_, raised))| *raised);
            if let Some(oldest) = oldest.map(|(node, _)| *node) {
                self.lives.remove(&oldest);
            }
        }
        true
    }

    /// The same by what another node says, which voted for it. It drives out no fence that this node knows
    /// of itself.
    pub(super) fn hear_of(&mut self, node: NodeId, incarnation: Incarnation) -> bool {
        let has_room = self.lives.len() < GOSSIP_LIMIT || self.lives.contains_key(&node);
        has_room && self.raise(node, incarnation)
    }

    pub(super) fn covers(&self, node: NodeId, incarnation: Incarnation) -> bool {
        self.of(node).is_some_and(|fenced| incarnation <= fenced)
    }

    pub(super) fn of(&self, node: NodeId) -> Option<Incarnation> {
        self.lives.get(&node).map(|(incarnation, _)| *incarnation)
    }

    /// Tells a life that it is over, if it is. It is no contact any more, so it is named by its run.
    pub(super) fn tell(&self, node: NodeId, incarnation: Incarnation, out: &mut Outputs) {
        if let Some(fenced) = self.of(node).filter(|fenced| incarnation <= *fenced) {
            let word = MemberWord::Fenced { incarnation: fenced };
            out.greet(incarnation.run_of(node), word);
        }
    }

    pub(super) fn list(&self) -> Vec<(NodeId, Incarnation)> {
        self.lives.iter().map(|(node, (incarnation, _))| (*node, *incarnation)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(started: u64) -> Incarnation {
        Incarnation { started, nonce: 1 }
    }

    #[test]
    fn a_fence_covers_its_life_and_all_before_it_and_is_never_lowered() {
        let (mut fences, node) = (Fences::default(), NodeId::from_key([1; 32]));
        assert!(fences.raise(node, life(5)));
        assert!(!fences.raise(node, life(3)));
        assert_eq!(fences.of(node), Some(life(5)));
        assert!(fences.covers(node, life(5)) && fences.covers(node, life(4)));
        assert!(!fences.covers(node, life(6)));
    }

    #[test]
    fn what_others_tell_drives_out_no_fence() {
        let mut fences = Fences::default();
        let node = |n: usize| {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&n.to_be_bytes());
            NodeId::from_key(key)
        };
        for n in 0..2 * LIMIT {
            assert_eq!(fences.hear_of(node(n), life(1)), n < GOSSIP_LIMIT);
        }
        assert_eq!(fences.list().len(), GOSSIP_LIMIT);
        assert!(fences.hear_of(node(0), life(2)) && fences.raise(node(LIMIT), life(1)));
    }

    #[test]
    fn the_fence_raised_longest_ago_gives_way_when_there_are_too_many() {
        let mut fences = Fences::default();
        let node = |n: usize| {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&n.to_be_bytes());
            NodeId::from_key(key)
        };
        for n in 0..LIMIT {
            fences.raise(node(n), life(1));
        }
        fences.raise(node(0), life(2));
        fences.raise(node(LIMIT), life(1));
        assert_eq!(fences.list().len(), LIMIT);
        assert_eq!(fences.of(node(1)), None);
        assert_eq!(fences.of(node(0)), Some(life(2)));
    }
}
