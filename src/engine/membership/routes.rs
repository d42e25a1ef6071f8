//! By whom words go to a node without a link of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use xxhash_rust::xxh3::xxh3_64;

use super::{contact::Contact, timing::Timing};
use crate::model::id::{NodeId, NodeRun};

/// The most nodes between the two ends. Two would do for one missing link; four members that cuts
/// have left in a line, and a newcomer at its end, need more.
pub(crate) const HOPS: u8 = 4;

/// Ways to so many targets are remembered at most.
const REMEMBERED: usize = 1_024;

/// The way to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// By this neighbour, which has a link to it. It is used as long as both links work: of many
    /// ways that are as short none need be looked for each time that anything changes.
    Near(NodeId),
    /// By this neighbour and others.
    Far(NodeId),
    /// There is none.
    None,
}

/// Ways by target, as long as nothing changes that they depend on.
#[derive(Clone, Debug, Default)]
pub(super) struct Routes {
    known: BTreeMap<NodeId, Way>,
    /// Something has changed that ways depend on.
    is_changed: bool,
}

impl Routes {
    /// A link or a status changed, of this node or of another.
    pub(super) fn changed(&mut self) {
        self.known.retain(|_, way| matches!(way, Way::Near(_)));
        self.is_changed = true;
    }

    /// Whether ways may differ since this was asked before.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }

    /// The neighbour by which words for `to` go, on a shortest way.
    pub(super) fn next_hop(
        &mut self,
        now: Instant,
        timing: &Timing,
        contacts: &BTreeMap<NodeId, Contact>,
        to: NodeId,
    ) -> Option<NodeId> {
        let works = |node: &NodeId| {
            contacts.get(node).is_some_and(|contact| contact.link_works(now, timing))
        };
        let links = |node: &NodeId| contacts.get(node).is_some_and(|it| it.links_to(to));
        match self.known.get(&to) {
            Some(Way::Near(hop)) if works(hop) && links(hop) => return Some(*hop),
            Some(Way::Near(_)) | None => {}
            Some(Way::Far(hop)) => return Some(*hop),
            Some(Way::None) => return None,
        }
        let hop = search(contacts, to, works);
        let way = match hop {
            Some(hop) if links(&hop) => Way::Near(hop),
            Some(hop) => Way::Far(hop),
            None => Way::None,
        };
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert(to, way);
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
    let own: Vec<(&NodeId, &Contact)> = contacts.iter().filter(|(node, _)| works(node)).collect();
    if own.is_empty() {
        return None;
    }
    let mut reached = BTreeSet::from([to]);
    let mut edge = reached.clone();
    for _ in 0..HOPS {
        let leads = |contact: &Contact| edge.iter().any(|target| contact.links_to(*target));
        let first = own.iter().filter(|(node, it)| !reached.contains(*node) && leads(it));
        if let Some((hop, _)) = first.max_by_key(|(node, _)| rank(**node, to)) {
            return Some(**hop);
        }
        // None of them works here, but somebody may be reached by who has a link to one.
        let next = contacts.iter().filter(|(node, it)| !reached.contains(*node) && leads(it));
        let next: BTreeSet<NodeId> = next.map(|(node, _)| *node).collect();
        if next.is_empty() {
            return None;
        }
        reached.extend(next.iter().copied());
        edge = next;
    }
    None
}

/// Nodes with a link that works to this one and, as they say, to that one; those come first that
/// it shares out as the target's hash says, so that not all pairs take the same.
pub(super) fn go_betweens(
    now: Instant,
    timing: &Timing,
    contacts: &BTreeMap<NodeId, Contact>,
    to: NodeId,
) -> impl Iterator<Item = NodeRun> {
    let between = |other: &&Contact| passes_on(now, timing, other, to);
    let mut others: Vec<&Contact> = contacts.values().filter(between).collect();
    others.sort_by_cached_key(|other| std::cmp::Reverse(rank(other.life().node, to)));
    others.into_iter().map(Contact::run)
}

/// Whether this node has a link that works to both ends.
pub(super) fn passes_on(now: Instant, timing: &Timing, other: &Contact, to: NodeId) -> bool {
    other.life().node != to && other.link_works(now, timing) && other.links_to(to)
}

/// Shares targets out among the nodes that could be between.
fn rank(node: NodeId, to: NodeId) -> u64 {
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(node.key());
    bytes[32..].copy_from_slice(to.key());
    xxh3_64(&bytes)
}

#[cfg(test)]
mod tests {
    use super::{
        super::bench::{SECOND, TIMING, Told, contacts, id},
        *,
    };

    /// A node of the line 1 - 2 - ... - 7, all in one view, as it tells its links.
    fn on_the_line(node: u8) -> ([u8; 7], Vec<u8>) {
        let far = (1..=7).filter(|other| *other != node && other.abs_diff(node) > 1);
        ([1, 2, 3, 4, 5, 6, 7], far.collect())
    }

    fn line(now: Instant) -> BTreeMap<NodeId, Contact> {
        let lines: Vec<_> = (2..=7).map(|node| (node, on_the_line(node))).collect();
        let told: Vec<Told<'_>> = lines
            .iter()
            .map(|(node, (view, unlinked))| Told {
                is_linked: *node == 2,
                unlinked,
                ..Told::of(*node, view)
            })
            .collect();
        contacts(now, &told)
    }

    #[test]
    fn in_a_line_the_next_one_is_the_way_as_far_as_words_may_go() {
        let now = Instant::now();
        let (mut routes, line) = (Routes::default(), line(now));
        let hops: Vec<Option<NodeId>> =
            (3..=7).map(|to| routes.next_hop(now, &TIMING, &line, id(to))).collect();
        let by = Some(id(2));
        assert_eq!(hops, [by, by, by, by, None], "four between, not five");
        assert_eq!(routes.next_hop(now, &TIMING, &line, id(99)), None);
    }

    #[test]
    fn a_way_is_kept_until_something_changes() {
        let now = Instant::now();
        let (mut routes, mut line) = (Routes::default(), line(now));
        assert_eq!(routes.next_hop(now, &TIMING, &line, id(4)), Some(id(2)));
        line.remove(&id(3));
        assert_eq!(routes.next_hop(now, &TIMING, &line, id(4)), Some(id(2)));
        routes.changed();
        assert_eq!(routes.next_hop(now, &TIMING, &line, id(4)), None);
    }

    #[test]
    fn the_shortest_way_is_taken_by_a_link_that_works_and_different_ones_by_different_pairs() {
        let now = Instant::now();
        let view: Vec<u8> = (1..=40).collect();
        let far: Vec<u8> = (11..=40).collect();
        let mut told: Vec<Told<'_>> = (2..=9).map(|node| Told::of(node, &view)).collect();
        told.push(Told { unlinked: &far, ..Told::of(10, &view) });
        let mut known = contacts(now, &told);
        let mut routes = Routes::default();
        let used: BTreeSet<Option<NodeId>> =
            (11..=40).map(|to| routes.next_hop(now, &TIMING, &known, id(to))).collect();
        assert!(used.len() > 3 && !used.contains(&None), "{used:?}");
        assert!(!used.contains(&Some(id(10))), "it has no link to them");
        for node in 2..=9 {
            known.get_mut(&id(node)).expect("it is there").unlinked(now);
        }
        routes.changed();
        // On a longer one now: by node 10 and one of the others.
        assert_eq!(routes.next_hop(now, &TIMING, &known, id(11)), Some(id(10)));
        routes.changed();
        assert_eq!(routes.next_hop(now + 2 * SECOND, &TIMING, &known, id(11)), None);
    }

    #[test]
    fn nobody_is_a_way_to_whom_it_does_not_know_or_does_not_hear() {
        let now = Instant::now();
        let hop = |told: Told<'_>| {
            Routes::default().next_hop(now, &TIMING, &contacts(now, &[told]), id(3))
        };
        assert_eq!(hop(Told::of(2, &[1, 2, 3])), Some(id(2)));
        assert_eq!(hop(Told::of(2, &[1, 2])), None);
        assert_eq!(hop(Told { joining: &[3], ..Told::of(2, &[1, 2]) }), Some(id(2)));
        assert_eq!(hop(Told { silent: &[3], ..Told::of(2, &[1, 2, 3]) }), None);
        assert_eq!(hop(Told { unlinked: &[3], ..Told::of(2, &[1, 2, 3]) }), None);
    }
}
