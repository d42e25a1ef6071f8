//! States of other owners that are being merged into children of this node.

use std::collections::BTreeMap;

use crate::model::{
    child::Epoch,
    id::{ChildId, NodeRun},
};

/// So many are merged at a time; one more is dropped, and offered again.
pub(crate) const MOST_MERGES: usize = 4_096;

/// By child and by the epoch at which the state was offered, who offered it.
#[derive(Debug, Default)]
pub(crate) struct Merges {
    under_way: BTreeMap<ChildId, BTreeMap<Epoch, NodeRun>>,
    count: usize,
}

impl Merges {
    /// Begins one. `false`: there are too many, or one is under way at that epoch already.
    pub(crate) fn begin(&mut self, child: &ChildId, epoch: Epoch, from: NodeRun) -> bool {
        if self.count >= MOST_MERGES || self.is_under_way(child, epoch) {
            return false;
        }
        self.count += 1;
        self.under_way.entry(child.clone()).or_default().insert(epoch, from);
        true
    }

    /// Whether the state that was offered at this epoch is being merged.
    pub(crate) fn is_under_way(&self, child: &ChildId, epoch: Epoch) -> bool {
        self.under_way.get(child).is_some_and(|merges| merges.contains_key(&epoch))
    }

    /// Whether any state is being merged into this child.
    pub(crate) fn is_merging(&self, child: &ChildId) -> bool {
        self.under_way.contains_key(child)
    }

    /// One has ended. Whose it was, if it had begun and its child has not ended.
    pub(crate) fn end(&mut self, child: &ChildId, epoch: Epoch) -> Option<NodeRun> {
        let merges = self.under_way.get_mut(child)?;
        let from = merges.remove(&epoch)?;
        if merges.is_empty() {
            self.under_way.remove(child);
        }
        self.count -= 1;
        Some(from)
    }

    /// The actor of this child has ended: nothing is merged into it any more. At which epochs the
    /// states were offered.
    pub(crate) fn forget(&mut self, child: &ChildId) -> Vec<Epoch> {
        let merges = self.under_way.remove(child).unwrap_or_default();
        self.count -= merges.len();
        merges.into_keys().collect()
    }

    /// How many are under way.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.count
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
}
