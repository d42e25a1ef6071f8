//! What this node has promised to roll calls: a term of a child to a home, and so to obey no other
//! claim that is not above it. Until the child has an owner again, or the view changes, who promised
//! neither offers, commits nor opens it.

use std::collections::BTreeMap;

use crate::model::{
    id::{ChildId, NodeRun},
    quota::{OverQuota, Quota},
};

/// Bytes of promises to one home in one view.
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
}

impl Default for Promises {
    fn default() -> Self {
        Self { given: BTreeMap::new(), quota: Quota::new(KEPT) }
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

    /// The child has an owner of this term: a promise of no higher one is kept.
    pub(crate) fn owned(&mut self, child: &ChildId, term: u64) {
        if self.term(child).is_some_and(|promised| promised <= term) {
            self.release(child);
        }
    }

    /// Nothing is promised any more, and its room is given back.
    pub(crate) fn release(&mut self, child: &ChildId) {
        if let Some(promise) = self.given.remove(child) {
            self.quota.give(promise.home.node, bytes(child));
        }
    }

    /// The view changed: what was promised to homes of the last one is void.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
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
    fn a_promise_binds_until_there_is_an_owner_of_its_term() {
        let mut promises = Promises::default();
        assert_eq!(promises.give(run(1), &child(1), 5), Ok(None));
        promises.owned(&child(1), 4);
        assert!(promises.binds(&child(1)));
        promises.owned(&child(1), 5);
        assert!(!promises.binds(&child(1)));
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
        promises.owned(&child(1), 5);
        assert_eq!(promises.give(run(1), &child(2), 6), Ok(None));
        assert_eq!(promises.quota.used(run(2).node), 0);
    }
}
