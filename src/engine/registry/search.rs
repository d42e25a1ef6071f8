//! A search for children in steps: each looks at a bounded number of them.

use std::collections::BTreeSet;

use crate::model::{
    child::Ownership,
    id::{ChildId, NodeRun, Tag},
};

/// The most children that one step looks at: as many as the longest page has.
pub(crate) const LOOKED_AT: usize = 1_000;

/// The children among which others are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Among<'a> {
    /// All.
    All,
    /// Those with this tag.
    Tagged(&'a Tag),
    /// Those of these runs.
    OwnedBy(&'a BTreeSet<NodeRun>),
}

/// What one step of a search has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Searched<T> {
    /// What was taken, by id.
    pub(crate) found: Vec<T>,
    /// The id behind which the next step begins; `None`: all were looked at.
    pub(crate) next: Option<ChildId>,
}

/// Looks at these children, by id: `most` are taken at most, [`LOOKED_AT`] looked at.
pub(super) fn step<'a, T>(
    ids: impl Iterator<Item = &'a ChildId>,
    owner: impl Fn(&ChildId) -> Option<(NodeRun, &'a Ownership)>,
    most: usize,
    mut take: impl FnMut(&'a ChildId, NodeRun, &'a Ownership) -> Option<T>,
) -> Searched<T> {
    let mut found = Vec::new();
    for (number, id) in ids.enumerate() {
        // One that is removed is looked at, too.
        found.extend(owner(id).and_then(|(owner, ownership)| take(id, owner, ownership)));
        if found.len() >= most || number + 1 == LOOKED_AT {
            return Searched { found, next: Some(id.clone()) };
        }
    }
    Searched { found, next: None }
}
