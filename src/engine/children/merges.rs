//! States of other owners that are being merged into children of this node, and those that nobody
//! merged until they are safe: an owner that gives way is answered then, and not before.

use std::collections::BTreeMap;

use crate::model::{
    child::Epoch,
    id::{ChildId, NodeRun},
    parked::ParkedKey,
    quota::Quota,
};

/// Bytes that are kept for the offers of one peer; one more is dropped, and offered again.
const KEPT: usize = 1 << 20;
/// Bytes that one costs to keep.
const COST: usize = 256;
/// So many of one peer are merged at a time.
#[cfg(test)]
pub(crate) const MOST_MERGES: usize = KEPT / COST;

/// One that is not answered.
#[derive(Debug)]
struct Merge {
    /// Who offered it.
    from: NodeRun,
    /// Whether it is parked, and its child's actor has done with it.
    is_parked: bool,
}

/// By child and by the epoch at which the state was offered.
#[derive(Debug)]
pub(crate) struct Merges {
    under_way: BTreeMap<ChildId, BTreeMap<Epoch, Merge>>,
    quota: Quota,
}

impl Default for Merges {
    fn default() -> Self {
        Self { under_way: BTreeMap::new(), quota: Quota::new(KEPT) }
    }
}

impl Merges {
    /// Begins one. `false`: its peer has too many, or one is under way at that epoch already.
    pub(crate) fn begin(&mut self, child: &ChildId, epoch: Epoch, from: NodeRun) -> bool {
        if self.find(child, epoch).is_some() || self.quota.take(from.node, COST).is_err() {
            return false;
        }
        let merge = Merge { from, is_parked: false };
        self.under_way.entry(child.clone()).or_default().insert(epoch, merge);
        true
    }

    /// Whether the state that was offered at this epoch is with the child's actor.
    pub(crate) fn is_under_way(&self, child: &ChildId, epoch: Epoch) -> bool {
        self.find(child, epoch).is_some_and(|merge| !merge.is_parked)
    }

    /// Whether any state of this child is not answered.
    pub(crate) fn is_merging(&self, child: &ChildId) -> bool {
        self.under_way.contains_key(child)
    }

    /// Who offered one that is parked.
    pub(crate) fn parked(&self, child: &ChildId, epoch: Epoch) -> Option<NodeRun> {
        self.find(child, epoch).filter(|merge| merge.is_parked).map(|merge| merge.from)
    }

    /// One was not merged, and is answered when it is safe. Whose it was, if it had begun and its child
    /// has not ended.
    pub(crate) fn park(&mut self, child: &ChildId, epoch: Epoch) -> Option<NodeRun> {
        let merge = self.under_way.get_mut(child)?.get_mut(&epoch)?;
        let is_told = std::mem::replace(&mut merge.is_parked, true);
        (!is_told).then_some(merge.from)
    }

    /// One has ended. Whose it was, if it had begun and its child has not ended.
    pub(crate) fn end(&mut self, child: &ChildId, epoch: Epoch) -> Option<NodeRun> {
        let merges = self.under_way.get_mut(child)?;
        let merge = merges.remove(&epoch)?;
        if merges.is_empty() {
            self.under_way.remove(child);
        }
        self.quota.give(merge.from.node, COST);
        Some(merge.from)
    }

    /// One that is parked is answered, or here no more. `false`: it was not parked for its owner.
    pub(crate) fn end_parked(&mut self, key: &ParkedKey) -> bool {
        self.parked(&key.child, key.epoch) == Some(key.run)
            && self.end(&key.child, key.epoch).is_some()
    }

    /// The actor of this child has ended: nothing is merged into it any more. At which epochs the
    /// states were offered; those that are parked need no actor.
    pub(crate) fn forget(&mut self, child: &ChildId) -> Vec<Epoch> {
        let Some(merges) = self.under_way.get_mut(child) else { return Vec::new() };
        let with_actor = merges.iter().filter(|(_, merge)| !merge.is_parked);
        let epochs: Vec<Epoch> = with_actor.map(|(epoch, _)| *epoch).collect();
        for epoch in &epochs {
            self.end(child, *epoch);
        }
        epochs
    }

    fn find(&self, child: &ChildId, epoch: Epoch) -> Option<&Merge> {
        self.under_way.get(child)?.get(&epoch)
    }

    /// How many are not answered.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.under_way.values().map(BTreeMap::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::NodeId;

    fn run(n: u8) -> NodeRun {
        NodeRun { node: NodeId::from_key([n; 32]), nonce: n.into() }
    }

    fn epoch(term: u64) -> Epoch {
        Epoch { term, attempt: 0 }
    }

    fn child(n: usize) -> ChildId {
        ChildId::new(format!("c{n}")).expect("a valid id")
    }

    #[test]
    fn one_epoch_of_a_child_is_merged_once_at_a_time() {
        let mut merges = Merges::default();
        assert!(merges.begin(&child(1), epoch(1), run(1)));
        assert!(!merges.begin(&child(1), epoch(1), run(1)));
        assert!(!merges.begin(&child(1), epoch(1), run(2)));
        assert!(merges.begin(&child(1), epoch(2), run(2)));
        assert!(merges.begin(&child(2), epoch(1), run(2)));
        assert_eq!(merges.end(&child(1), epoch(1)), Some(run(1)));
        assert_eq!(merges.end(&child(1), epoch(1)), None);
        assert!(merges.is_merging(&child(1)));
        assert_eq!(merges.end(&child(1), epoch(2)), Some(run(2)));
        assert!(!merges.is_merging(&child(1)));
        assert_eq!(merges.len(), 1);
    }

    #[test]
    fn what_is_merged_ends_with_its_child_and_gives_its_room_back() {
        let mut merges = Merges::default();
        assert!((0..MOST_MERGES).all(|n| merges.begin(&child(n / 2), epoch(n as u64), run(1))));
        assert!(!merges.begin(&child(MOST_MERGES), epoch(1), run(1)));
        assert_eq!(merges.forget(&child(3)), [epoch(6), epoch(7)]);
        assert_eq!(merges.end(&child(3), epoch(6)), None);
        assert_eq!(merges.forget(&child(3)), []);
        assert!(merges.begin(&child(MOST_MERGES), epoch(1), run(1)));
        assert_eq!(merges.len(), MOST_MERGES - 1);
    }

    #[test]
    fn what_is_parked_outlives_its_childs_actor_and_keeps_its_epoch() {
        let mut merges = Merges::default();
        assert_eq!(merges.park(&child(1), epoch(1)), None, "it has not begun");
        assert!(merges.begin(&child(1), epoch(1), run(1)));
        assert!(merges.begin(&child(1), epoch(2), run(2)));
        assert!(merges.is_under_way(&child(1), epoch(1)));
        assert_eq!(merges.parked(&child(1), epoch(1)), None);
        assert_eq!(merges.park(&child(1), epoch(1)), Some(run(1)));
        assert_eq!(merges.park(&child(1), epoch(1)), None, "it is told once");
        assert!(!merges.is_under_way(&child(1), epoch(1)));
        assert_eq!(merges.parked(&child(1), epoch(1)), Some(run(1)));
        assert!(!merges.begin(&child(1), epoch(1), run(3)));
        assert_eq!(merges.forget(&child(1)), [epoch(2)]);
        assert!(merges.is_merging(&child(1)), "it is not answered");
        assert_eq!(merges.end(&child(1), epoch(1)), Some(run(1)));
        assert!(!merges.is_merging(&child(1)));
        assert_eq!(merges.len(), 0);
    }
}
