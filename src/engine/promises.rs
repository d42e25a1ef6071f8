//! What this node has promised to roll calls: to obey no lower claim. Until the child has an owner
//! again, or the view changes, who promised neither offers, commits nor opens it.

use std::collections::BTreeMap;

use crate::model::{
    id::{ChildId, NodeId},
    message::Claim,
    quota::{OverQuota, Quota},
};

/// Bytes of promises to one home in one view.
const KEPT: usize = 128 << 20;
/// About what is kept of a promise besides its child's id.
const EACH: usize = 128;

/// The promises of one node.
#[derive(Debug)]
pub(crate) struct Promises {
    /// The highest term that was promised and is not settled yet.
    terms: BTreeMap<ChildId, u64>,
    /// What was promised in this view, by the homes that asked for it.
    quota: Quota,
}

impl Default for Promises {
    fn default() -> Self {
        Self { terms: BTreeMap::new(), quota: Quota::new(KEPT) }
    }
}

impl Promises {
    /// Promises what a home claims. Gives for each claim the term that was promised before, if that
    /// is above it.
    ///
    /// # Errors
    /// [`OverQuota`] when there is no room for them. Nothing was promised.
    pub(crate) fn give(
        &mut self,
        home: NodeId,
        claims: &[Claim],
    ) -> Result<Vec<Option<u64>>, OverQuota> {
        for Claim { child, .. } in claims {
            if !self.terms.contains_key(child) {
                self.quota.take(home, EACH + child.as_str().len())?;
            }
        }
        let mut above = Vec::with_capacity(claims.len());
        for Claim { child, term } in claims {
            let higher = self.term(child).filter(|promised| promised > term);
            if higher.is_none() {
                self.terms.insert(child.clone(), *term);
            }
            above.push(higher);
        }
        Ok(above)
    }

    /// The term that was promised for a child.
    pub(crate) fn term(&self, child: &ChildId) -> Option<u64> {
        self.terms.get(child).copied()
    }

    /// Whether a promise for this child stands.
    pub(crate) fn binds(&self, child: &ChildId) -> bool {
        self.terms.contains_key(child)
    }

    /// The child has an owner of this term: a promise of no higher one is kept.
    pub(crate) fn owned(&mut self, child: &ChildId, term: u64) {
        if self.term(child).is_some_and(|promised| promised <= term) {
            self.terms.remove(child);
        }
    }

    /// The home that asked for it has given the child to this node.
    pub(crate) fn taken(&mut self, child: &ChildId) {
        self.terms.remove(child);
    }

    /// The view changed: what was promised to homes of the last one is void.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }
}
