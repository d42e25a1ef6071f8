//! The parked states that a node holds: how many, how many bytes, of whom, and which goes first.

use std::collections::BTreeMap;

use crate::model::{
    id::NodeId,
    parked::{ParkedInfo, ParkedKey},
};

/// The most parked states that a node holds, and that another node is believed to hold.
pub(crate) const MOST_PARKED: usize = 1_024;
/// One peer's copies take at most this part of the room: one in so many.
pub(super) const SHARE: usize = 2;

/// A parked state that this node holds.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) info: ParkedInfo,
    pub(super) size: u64,
    /// Rises with each that is taken in.
    number: u64,
    /// Who sent it; `None`: it was parked here.
    by: Option<NodeId>,
}

/// What this node holds. The bytes are with the hub.
#[derive(Debug)]
pub(super) struct Store {
    held: BTreeMap<ParkedKey, Held>,
    bytes: u64,
    /// The most bytes that are held.
    limit: u64,
    count: u64,
}

impl Store {
    /// Room for so many bytes.
    pub(super) fn new(limit: u64) -> Self {
        Self { held: BTreeMap::new(), bytes: 0, limit, count: 0 }
    }

    pub(super) fn get(&self, key: &ParkedKey) -> Option<&Held> {
        self.held.get(key)
    }

    pub(super) fn contains(&self, key: &ParkedKey) -> bool {
        self.held.contains_key(key)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &ParkedKey> {
        self.held.keys()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ParkedKey, &Held)> {
        self.held.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether anything was ever held.
    pub(super) fn was_used(&self) -> bool {
        self.count > 0
    }

    /// Whether there is room for one more copy of this peer.
    pub(super) fn has_room(&self, peer: NodeId, size: u64) -> bool {
        let its = self.held.values().filter(|held| held.by == Some(peer));
        let (count, bytes) = its.fold((0, 0), |(n, bytes), held| (n + 1, bytes + held.size));
        let share = self.limit / SHARE as u64;
        // One that is larger than a share is taken all the same.
        let fits = count == 0 || count < MOST_PARKED / SHARE && bytes + size <= share;
        fits && self.held.len() < MOST_PARKED && self.bytes.saturating_add(size) <= self.limit
    }

    /// Holds it, whether there is room or not.
    pub(super) fn insert(&mut self, info: ParkedInfo, size: u64, by: Option<NodeId>) {
        let key = info.key.clone();
        self.count += 1;
        let held = Held { info, size, number: self.count, by };
        self.bytes += size;
        if let Some(before) = self.held.insert(key, held) {
            self.bytes -= before.size;
        }
    }

    /// Holds it no more. `false`: it did not.
    pub(super) fn remove(&mut self, key: &ParkedKey) -> bool {
        let held = self.held.remove(key);
        if let Some(held) = &held {
            self.bytes -= held.size;
        }
        held.is_some()
    }

    /// What is given up, if more is held than there is room for: the oldest that another node holds, too,
    /// else the oldest; never this one.
    pub(super) fn surplus(
        &self,
        but: &ParkedKey,
        is_elsewhere: impl Fn(&ParkedKey) -> bool,
    ) -> Option<ParkedKey> {
        if self.held.len() <= MOST_PARKED && self.bytes <= self.limit {
            return None;
        }
        let others = self.held.iter().filter(|(key, _)| *key != but);
        let least = others.min_by_key(|(key, held)| (!is_elsewhere(key), held.number));
        least.map(|(key, _)| key.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{info, key, run},
        *,
    };

    const LIMIT: u64 = 1_000;

    fn peer(n: u8) -> Option<NodeId> {
        Some(run(n).node)
    }

    #[test]
    fn one_peer_fills_its_share_and_no_more_but_for_one_large_state() {
        let mut store = Store::new(LIMIT);
        assert!(store.has_room(run(2).node, LIMIT) && !store.has_room(run(2).node, LIMIT + 1));
        for n in 0..4 {
            assert!(store.has_room(run(2).node, LIMIT / 8));
            store.insert(info(n), LIMIT / 8, peer(2));
        }
        assert!(!store.has_room(run(2).node, 1));
        assert!(store.has_room(run(3).node, LIMIT / 2), "the other half is not the first one's");
        let mut store = Store::new(LIMIT);
        for n in 0..MOST_PARKED / SHARE {
            assert!(store.has_room(run(2).node, 0));
            store.insert(info(n), 0, peer(2));
        }
        assert!(!store.has_room(run(2).node, 0));
    }

    #[test]
    fn room_is_given_back_and_what_is_held_again_is_counted_once() {
        let mut store = Store::new(LIMIT);
        store.insert(info(0), 10, None);
        store.insert(info(0), 30, None);
        assert_eq!(store.bytes, 30);
        assert!(store.remove(&key(0)) && !store.remove(&key(0)));
        assert!(store.bytes == 0 && store.is_empty() && store.was_used());
    }

    #[test]
    fn what_another_holds_goes_first_and_then_the_oldest() {
        let mut store = Store::new(LIMIT);
        for n in [3, 1, 2] {
            store.insert(info(n), LIMIT / 2, None);
        }
        let elsewhere = |held: usize| move |other: &ParkedKey| *other == key(held);
        assert_eq!(store.surplus(&key(2), elsewhere(1)), Some(key(1)));
        assert_eq!(store.surplus(&key(2), elsewhere(2)), Some(key(3)), "never the new one");
        store.remove(&key(3));
        assert_eq!(store.surplus(&key(2), elsewhere(1)), None, "there is room");
    }
}
