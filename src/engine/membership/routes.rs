//! By whom words go to a node without a link of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use xxhash_rust::xxh3::xxh3_64;

use super::contact::{Contact, Timing};
use crate::model::id::NodeId;

/// The most nodes between the two ends. Two would do for one missing link; four members that cuts
/// have left in a line, and a newcomer at its end, need more.
pub(crate) const HOPS: u8 = 4;

/// Next hops by target, as long as nothing changes that they depend on.
#[derive(Clone, Debug, Default)]
pub(super) struct Routes {
    known: BTreeMap<NodeId, Option<NodeId>>,
}

impl Routes {
    /// A link or a status changed.
    pub(super) fn changed(&mut self) {
        self.known.clear();
    }

    /// The neighbour by which words for `to` go, on a shortest way.
    pub(super) fn next_hop(
        &mut self,
        now: Instant,
        timing: &Timing,
        contacts: &BTreeMap<NodeId, Contact>,
        to: NodeId,
    ) -> Option<NodeId> {
        if let Some(hop) = self.known.get(&to) {
            return *hop;
        }
        let works = |node: &NodeId| {
            contacts.get(node).is_some_and(|contact| contact.link_works(now, timing))
        };
        let hop = search(contacts, to, works);
        self.known.insert(to, hop);
        hop
    }
}

/// Breadth first, back from the target. Of several ways of one length the target's own hash chooses,
/// so that not all pairs take the same node between.
fn search(
    contacts: &BTreeMap<NodeId, Contact>,
    to: NodeId,
    works: impl Fn(&NodeId) -> bool,
) -> Option<NodeId> {
    let mut reached = BTreeSet::from([to]);
    let mut edge = reached.clone();
    for _ in 0..HOPS {
        let next: BTreeSet<NodeId> = contacts
            .iter()
            .filter(|(node, contact)| {
                !reached.contains(*node) && edge.iter().any(|target| contact.links_to(*target))
            })
            .map(|(node, _)| *node)
            .collect();
        let first = next.iter().filter(|node| works(node)).max_by_key(|node| rank(**node, to));
        if let Some(hop) = first {
            return Some(*hop);
        }
        if next.is_empty() {
            return None;
        }
        reached.extend(next.iter().copied());
        edge = next;
    }
    None
}

/// Shares targets out among the nodes that could be between.
pub(super) fn rank(node: NodeId, to: NodeId) -> u64 {
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(node.key());
    bytes[32..].copy_from_slice(to.key());
    xxh3_64(&bytes)
}
