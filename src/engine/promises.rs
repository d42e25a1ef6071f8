//! What this node has promised to roll calls: a term of a child to a home, and so to obey no other
//! claim that is not above it. Until an owner of that term, or of a higher one, is known, who promised
//! neither offers, commits nor opens the child, nor goes on with a copy that it holds: its answer stays
//! true for as long as it may be acted on.
//!
//! A change of the view ends no promise. The home may have decided by then, and what it gave away may
//! be on its way. If the child has a live owner in the new view, and its call came to nothing, a new
//! call gives that owner a term at which all promises are kept.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use crate::model::{
    id::{ChildId, NodeRun},
    quota::{OverQuota, Quota},
};

/// Bytes of promises to one home.
const KEPT: usize = 128 << 20;
/// About what is kept of a promise besides its child's id.
const EACH: usize = 128;

/// A term that was promised, and to whom.
#[derive(Clone, Copy, Debug)]
struct Promise {
    term: u64,
    /// The home's run: a term belongs to one home. Two homes of one child follow each other when the
    /// view changes, or one of them restarts and does not know what it claimed before; were one term
    /// promised to both, each could make an owner of the same epoch.
    home: NodeRun,
}

/// The promises of one node: at most one for each child.
#[derive(Debug)]
pub(crate) struct Promises {
    given: BTreeMap<ChildId, Promise>,
    /// Bytes of `given`, by the homes that asked for them.
    quota: Quota,
    /// Those whose child has a live owner of a lower term: no home calls the roll for it by itself.
    unmet: BTreeSet<ChildId>,
}

impl Default for Promises {
    fn default() -> Self {
        Self { given: BTreeMap::new(), quota: Quota::new(KEPT), unmet: BTreeSet::new() }
    }
}

impl Promises {
    /// Promises a term of a child to a home, unless that term or a higher one was promised to
    /// another: then that is given instead. To ask again for what was promised changes nothing.
    ///
    /// # Errors
    /// [`OverQuota`] when there is no room for it. What was promised before stands.
    pub(crate) fn give(
        &mut self,
        home: NodeRun,
        child: &ChildId,
        term: u64,
    ) -> Result<Option<u64>, OverQuota> {
        let before = self.given.get(child).copied();
        if let Some(before) = before
            && (before.term > term || before.term == term && before.home != home)
        {
            return Ok(Some(before.term));
        }
        if before.is_none_or(|before| before.home.node != home.node) {
            self.quota.take(home.node, bytes(child))?;
            self.release(child);
        }
        self.given.insert(child.clone(), Promise { term, home });
        Ok(None)
    }

    /// The highest term that was promised for a child.
    pub(crate) fn term(&self, child: &ChildId) -> Option<u64> {
        self.given.get(child).map(|promise| promise.term)
    }

    /// Whether a promise for this child stands.
    pub(crate) fn binds(&self, child: &ChildId) -> bool {
        self.given.contains_key(child)
    }

    /// Whether this term, and none above it, was promised to this home.
    pub(crate) fn is_given(&self, home: NodeRun, child: &ChildId, term: u64) -> bool {
        self.given.get(child).is_some_and(|given| given.term == term && given.home == home)
    }

    /// What is known of a child changed: its promise is kept by an owner of its term, and pointless
    /// when the child was removed. `lives`: whether it has an owner that lives, in a settled view.
    pub(crate) fn child_changed(
        &mut self,
        child: &ChildId,
        highest: u64,
        is_removed: bool,
        lives: bool,
    ) {
        let Some(term) = self.term(child) else { return };
        if highest >= term || is_removed {
            self.release(child);
        } else if lives {
            self.unmet.insert(child.clone());
        } else {
            self.unmet.remove(child);
        }
    }

    /// The children for which a promise stands, with ids behind this one.
    pub(crate) fn behind(&self, id: Option<&ChildId>) -> impl Iterator<Item = &ChildId> {
        let behind = id.map_or(Bound::Unbounded, Bound::Excluded);
        self.given.range::<ChildId, _>((behind, Bound::Unbounded)).map(|(child, _)| child)
    }

    /// Whether the child has a live owner of a term below the promised one.
    pub(crate) fn is_unmet(&self, child: &ChildId) -> bool {
        self.unmet.contains(child)
    }

    /// Children with a live owner of a term below the promised one: their homes are to call the roll.
    pub(crate) fn unmet(&self) -> impl Iterator<Item = &ChildId> {
        self.unmet.iter()
    }

    /// Whether all promises that stand are waited for by a home.
    pub(crate) fn are_called(&self) -> bool {
        self.unmet.is_empty()
    }

    /// Gives a promise and its room back.
    pub(crate) fn release(&mut self, child: &ChildId) {
        self.unmet.remove(child);
        if let Some(promise) = self.given.remove(child) {
            self.quota.give(promise.home.node, bytes(child));
        }
    }
}

fn bytes(child: &ChildId) -> usize {
    EACH + child.as_str().len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::NodeId;

    fn run(n: u8) -> NodeRun {
        NodeRun { node: NodeId::from_key([n; 32]), nonce: n.into() }
    }

    /// The same node, begun anew.
    fn later(n: u8) -> NodeRun {
        NodeRun { nonce: u64::from(n) + 100, ..run(n) }
    }

    fn child(n: usize) -> ChildId {
        ChildId::new(format!("c{n}")).expect("a valid id")
    }

    fn small(limit: usize) -> Promises {
        Promises { quota: Quota::new(limit), ..Promises::default() }
    }

    #[test]
    fn a_term_is_promised_to_one_home() {
        let mut promises = Promises::default();
        assert_eq!(promises.give(run(1), &child(1), 5), Ok(None));
        for other in [run(2), later(1)] {
            assert_eq!(promises.give(other, &child(1), 5), Ok(Some(5)));
            assert!(!promises.is_given(other, &child(1), 5));
        }
        assert!(promises.is_given(run(1), &child(1), 5));
        assert_eq!(promises.give(run(2), &child(2), 5), Ok(None));
    }

    #[test]
    fn whoever_asks_again_is_promised_the_same() {
        let mut promises = Promises::default();
        for _ in 0..2 {
            assert_eq!(promises.give(run(1), &child(1), 5), Ok(None));
        }
        assert_eq!(promises.quota.used(run(1).node), bytes(&child(1)));
    }

    #[test]
    fn a_lower_claim_is_refused_and_a_higher_one_outbids_whoever_had_it() {
        let mut promises = Promises::default();
        assert_eq!(promises.give(run(1), &child(1), 5), Ok(None));
        assert_eq!(promises.give(run(2), &child(1), 4), Ok(Some(5)));
        assert_eq!(promises.give(run(1), &child(1), 4), Ok(Some(5)));
        assert_eq!(promises.give(run(2), &child(1), 6), Ok(None));
        assert_eq!(promises.term(&child(1)), Some(6));
        assert!(!promises.is_given(run(1), &child(1), 5));
        assert_eq!(promises.quota.used(run(1).node), 0);
    }

    #[test]
    fn who_is_promised_too_much_is_refused_and_what_stands_goes_on_standing() {
        let mut promises = small(bytes(&child(1)));
        assert_eq!(promises.give(run(1), &child(1), 5), Ok(None));
        assert!(promises.give(run(1), &child(2), 5).is_err());
        assert_eq!(promises.give(run(2), &child(2), 5), Ok(None));
        assert!(promises.give(run(1), &child(2), 6).is_err());
        assert!(promises.is_given(run(2), &child(2), 5));
        promises.release(&child(1));
        assert_eq!(promises.give(run(1), &child(2), 6), Ok(None));
        assert_eq!(promises.quota.used(run(2).node), 0);
    }
}
