//! Nodes that are no contacts and are dialled: because somebody named them, or because they went
//! down and may come back.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::outputs::Outputs;
use crate::model::{
    id::{Incarnation, NodeId, NodeRun},
    member::Member,
};

/// At most this many nodes of each kind.
pub(super) const LIMIT: usize = 1_024;
/// For how many suspicion windows a node that somebody named is dialled before it is forgotten; it
/// is dialled again when it is named again.
const NAMED_WINDOWS: u32 = 10;
/// After so many suspicion windows without another crash a node is steady again.
const STEADY_WINDOWS: u32 = 10;

#[derive(Clone, Debug)]
struct Dialled {
    incarnation: Incarnation,
    addresses: Vec<String>,
    since: Instant,
}

/// Nodes that are dialled and are no contacts.
#[derive(Clone, Debug)]
pub(super) struct Dialling {
    window: Duration,
    forget_after: Duration,
    named: BTreeMap<NodeId, Dialled>,
    lost: BTreeMap<NodeId, Dialled>,
    /// How often in a row nodes ended without a word, and when last.
    crashes: BTreeMap<NodeId, (u32, Instant)>,
}

impl Dialling {
    pub(super) fn new(window: Duration, forget_after: Duration) -> Self {
        Self {
            window,
            forget_after,
            named: BTreeMap::new(),
            lost: BTreeMap::new(),
            crashes: BTreeMap::new(),
        }
    }

    /// Somebody names a node. Whether it has to be dialled, at other addresses than before.
    pub(super) fn name(&mut self, now: Instant, told: &Member) -> bool {
        let known = self.named.get(&told.id);
        let is_news = match known {
            Some(known) => {
                told.incarnation > known.incarnation || told.addresses != known.addresses
            }
            None => self.named.len() < LIMIT,
        };
        if !is_news || told.addresses.is_empty() {
            return false;
        }
        let (incarnation, addresses) = (told.incarnation, told.addresses.clone());
        let dial = known.is_none_or(|known| known.addresses != addresses);
        let since = known.map_or(now, |known| known.since);
        self.named.insert(told.id, Dialled { incarnation, addresses, since });
        dial
    }

    /// A node went down: it is dialled for a long time, so that a split heals whoever comes back
    /// first. `false`: there is no room, or no address.
    pub(super) fn lose(
        &mut self,
        now: Instant,
        node: NodeId,
        incarnation: Incarnation,
        addresses: Vec<String>,
    ) -> bool {
        let takes = self.lost.len() < LIMIT && !addresses.is_empty();
        if takes {
            self.lost.insert(node, Dialled { incarnation, addresses, since: now });
        }
        takes
    }

    /// The same, and dials it.
    pub(super) fn dial_lost(&mut self, now: Instant, member: &Member, out: &mut Outputs) {
        let addresses = member.addresses.clone();
        if self.lose(now, member.id, member.incarnation, addresses.clone()) {
            out.connect(member.id, addresses);
        }
    }

    /// Whether the node is dialled.
    pub(super) fn holds(&self, node: NodeId) -> bool {
        self.named.contains_key(&node) || self.lost.contains_key(&node)
    }

    /// It was met. Where it was dialled.
    pub(super) fn met(&mut self, node: NodeId) -> Option<Vec<String>> {
        let lost = self.lost.remove(&node);
        self.named.remove(&node).or(lost).map(|dialled| dialled.addresses)
    }

    /// A member ended without a word.
    pub(super) fn note_crash(&mut self, now: Instant, node: NodeId) {
        if self.crashes.len() >= LIMIT {
            let recent = self.window * STEADY_WINDOWS;
            self.crashes.retain(|_, (_, at)| now.saturating_duration_since(*at) < recent);
        }
        if self.crashes.len() < LIMIT {
            let before = if self.is_recent(now, node) { self.crashes[&node].0 } else { 0 };
            self.crashes.insert(node, (before + 1, now));
        }
    }

    /// Whether the node crashed more than once lately.
    pub(super) fn is_unsteady(&self, now: Instant, node: NodeId) -> bool {
        self.is_recent(now, node) && self.crashes.get(&node).is_some_and(|(count, _)| *count > 1)
    }

    fn is_recent(&self, now: Instant, node: NodeId) -> bool {
        let crash = self.crashes.get(&node);
        crash.is_some_and(|(_, at)| {
            now.saturating_duration_since(*at) < self.window * STEADY_WINDOWS
        })
    }

    /// Nodes that were not met within `patience`: greeted by way of others. Of whom one was put out
    /// it may hear in no other way that its life is over here.
    pub(super) fn unmet(
        &self,
        now: Instant,
        patience: Duration,
    ) -> impl Iterator<Item = NodeRun> + '_ {
        self.named
            .iter()
            .chain(&self.lost)
            .filter(move |(_, named)| now.saturating_duration_since(named.since) >= patience)
            .map(|(node, named)| named.incarnation.run_of(*node))
    }

    /// Forgets whoever was not met for long; they are dialled no more.
    pub(super) fn forget_old(&mut self, now: Instant) -> Vec<NodeId> {
        let mut old = take_older(&mut self.named, now, self.window * NAMED_WINDOWS);
        old.extend(take_older(&mut self.lost, now, self.forget_after));
        old.retain(|node| !self.lost.contains_key(node) && !self.named.contains_key(node));
        old
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let named = self.named.values().map(|named| named.since + self.window * NAMED_WINDOWS);
        named.chain(self.lost.values().map(|lost| lost.since + self.forget_after)).min()
    }

    #[cfg(test)]
    pub(super) fn named_addresses(&self) -> Vec<usize> {
        self.named.values().map(|named| named.addresses.len()).collect()
    }
}

fn take_older(dialled: &mut BTreeMap<NodeId, Dialled>, now: Instant, age: Duration) -> Vec<NodeId> {
    let mut old = Vec::new();
    dialled.retain(|node, dialled| {
        let keep = now.saturating_duration_since(dialled.since) < age;
        if !keep {
            old.push(*node);
        }
        keep
    });
    old
}

#[cfg(test)]
mod tests {
    use super::{
        super::bench::{SECOND, id, member},
        *,
    };

    const WINDOW: Duration = Duration::from_secs(3);

    fn dialling() -> Dialling {
        Dialling::new(WINDOW, 100 * SECOND)
    }

    #[test]
    fn a_named_node_is_dialled_at_each_new_address_until_it_is_met_or_forgotten() {
        let now = Instant::now();
        let mut dialling = dialling();
        assert!(dialling.name(now, &member(2)) && !dialling.name(now, &member(2)));
        let moved = Member { addresses: vec!["/memory/9".to_owned()], ..member(2) };
        assert!(dialling.name(now, &moved) && dialling.holds(id(2)));
        assert_eq!(dialling.deadline(), Some(now + WINDOW * NAMED_WINDOWS));
        let mut met = dialling.clone();
        assert_eq!(met.met(id(2)), Some(moved.addresses));
        assert!(!met.holds(id(2)) && met.deadline().is_none());
        assert!(dialling.forget_old(now + WINDOW).is_empty());
        assert_eq!(dialling.forget_old(now + WINDOW * NAMED_WINDOWS), [id(2)]);
        let nowhere = Member { addresses: vec![], ..member(3) };
        assert!(!dialling.name(now, &nowhere) && !dialling.holds(id(3)));
    }

    #[test]
    fn a_lost_node_is_dialled_for_long_also_when_it_was_named_too() {
        let now = Instant::now();
        let mut dialling = dialling();
        let lost = member(2);
        assert!(dialling.lose(now, lost.id, lost.incarnation, lost.addresses.clone()));
        dialling.name(now, &lost);
        assert!(dialling.forget_old(now + WINDOW * NAMED_WINDOWS).is_empty());
        assert_eq!(dialling.forget_old(now + 100 * SECOND), [id(2)]);
        assert!(!dialling.lose(now, id(3), lost.incarnation, vec![]));
    }

    #[test]
    fn who_was_named_and_not_met_in_time_is_greeted_in_the_run_that_was_named() {
        let now = Instant::now();
        let mut dialling = dialling();
        dialling.name(now, &member(2));
        assert_eq!(dialling.unmet(now, SECOND).count(), 0);
        let greeted: Vec<NodeRun> = dialling.unmet(now + SECOND, SECOND).collect();
        assert_eq!(greeted, [member(2).run()]);
        let lost = member(3);
        dialling.lose(now, lost.id, lost.incarnation, lost.addresses);
        let greeted: Vec<NodeRun> = dialling.unmet(now + SECOND, SECOND).collect();
        assert_eq!(greeted, [member(2).run(), member(3).run()], "and who was put out");
    }

    #[test]
    fn two_crashes_in_ten_windows_make_a_node_unsteady_and_ten_quiet_ones_steady() {
        let now = Instant::now();
        let mut dialling = dialling();
        dialling.note_crash(now, id(2));
        assert!(!dialling.is_unsteady(now, id(2)));
        dialling.note_crash(now + SECOND, id(2));
        assert!(dialling.is_unsteady(now + SECOND, id(2)) && !dialling.is_unsteady(now, id(3)));
        let later = now + SECOND + WINDOW * STEADY_WINDOWS;
        assert!(!dialling.is_unsteady(later, id(2)));
        dialling.note_crash(later, id(2));
        assert!(!dialling.is_unsteady(later, id(2)), "it counts from the beginning");
    }

    #[test]
    fn no_more_than_so_many_are_kept() {
        let now = Instant::now();
        let mut dialling = dialling();
        for n in 0..2_000_u32 {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&n.to_be_bytes());
            let told = Member { id: NodeId::from_key(key), ..member(2) };
            dialling.name(now, &told);
            dialling.lose(now, told.id, told.incarnation, told.addresses);
            dialling.note_crash(now, told.id);
        }
        let kept = (dialling.named.len(), dialling.lost.len(), dialling.crashes.len());
        assert_eq!(kept, (LIMIT, LIMIT, LIMIT));
        dialling.note_crash(now + WINDOW * STEADY_WINDOWS, id(2));
        assert_eq!(dialling.crashes.len(), 1, "old ones give way");
    }
}
