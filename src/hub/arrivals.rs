//! States that came from other nodes and of which the engine has not said yet what becomes of them.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::parcel::Parcel;
use crate::model::{
    child::Epoch,
    id::{ChildId, NodeId, NodeRun},
    message::BulkHeader,
    parked::{ParkedInfo, ParkedKey},
    quota::Quota,
    settings::Settings,
};

/// How long a state may wait for the engine to want it when its peer needs the room.
const AGE: Duration = Duration::from_secs(300);

/// Whether a state that arrived is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    Yes,
    NoRoom,
    /// One of another node stands at the same epoch, or it cannot be read; this one is sent again.
    Not,
}

/// For a move, or to be merged.
pub(crate) struct Arrived {
    pub(crate) parcel: Parcel,
    pub(crate) from: NodeRun,
    at: Instant,
    /// The bytes that came, with the marks before it.
    size: usize,
}

/// What has arrived, with room for each peer: one that sends too much keeps nobody else's out.
pub(crate) struct Arrivals {
    states: BTreeMap<(ChildId, Epoch), Arrived>,
    /// Copies of parked states.
    copies: BTreeMap<(ParkedKey, NodeRun), (ParkedInfo, Bytes)>,
    quota: Quota,
    /// Of all peers. Above it each has an equal share, or one state.
    limit: usize,
    largest: usize,
}

impl Arrivals {
    /// Of each peer twice as much as it may have on its way, of all four times as much.
    pub(crate) fn new(settings: &Settings) -> Self {
        let on_its_way = settings.move_bytes.max(settings.state_limit);
        let quota = Quota::new(on_its_way.saturating_mul(2));
        let limit = on_its_way.saturating_mul(4);
        let largest = settings.state_limit;
        Self { states: BTreeMap::new(), copies: BTreeMap::new(), quota, limit, largest }
    }

    /// Keeps a state until the engine has disposed of it.
    pub(crate) fn keep(
        &mut self,
        now: Instant,
        from: NodeRun,
        header: &BulkHeader,
        bytes: Bytes,
    ) -> Kept {
        if !self.take_room(now, from, header, bytes.len()) {
            return Kept::NoRoom;
        }
        let parcel = match header {
            BulkHeader::Parked { info, .. } => {
                let key = (info.key.clone(), from);
                if let Some((_, before)) = self.copies.insert(key, (info.clone(), bytes)) {
                    self.quota.give(from.node, before.len());
                }
                return Kept::Yes;
            }
            BulkHeader::State { .. } | BulkHeader::Diverged { .. } => {
                Parcel::unpack(header, bytes.clone())
            }
        };
        let parcel = match parcel {
            Ok(parcel) => parcel,
            Err(error) => {
                tracing::warn!(child = %header.child(), peer = %from, %error, "a state is not taken");
                self.quota.give(from.node, bytes.len());
                return Kept::Not;
            }
        };
        let key = (header.child().clone(), header.epoch());
        if self.states.get(&key).is_some_and(|arrived| arrived.from != from) {
            self.quota.give(from.node, bytes.len());
            return Kept::Not;
        }
        self.take(&key);
        self.states.insert(key, Arrived { parcel, from, at: now, size: bytes.len() });
        Kept::Yes
    }

    fn take_room(
        &mut self,
        now: Instant,
        from: NodeRun,
        header: &BulkHeader,
        bytes: usize,
    ) -> bool {
        if self.reserve(from.node, bytes) {
            return true;
        }
        let Self { states, quota, .. } = self;
        states.retain(|_, arrived| {
            let is_old =
                arrived.from.node == from.node && now.saturating_duration_since(arrived.at) > AGE;
            if is_old {
                quota.give(from.node, arrived.size);
            }
            !is_old
        });
        let has_room = self.reserve(from.node, bytes);
        if !has_room {
            let kept = self.quota.used(from.node);
            tracing::warn!(child = %header.child(), peer = %from, bytes, kept, "no room for a state");
        }
        has_room
    }

    fn reserve(&mut self, peer: NodeId, bytes: usize) -> bool {
        let (all, peers) = self.quota.total();
        let kept = self.quota.used(peer);
        let is_fair = if all + bytes <= self.limit {
            true
        } else if kept == 0 {
            bytes <= self.largest.max(self.limit / (peers + 1))
        } else {
            kept + bytes <= self.limit / peers
        };
        is_fair && self.quota.take(peer, bytes).is_ok()
    }

    /// Takes one for a move, or that has been merged.
    pub(crate) fn take(&mut self, key: &(ChildId, Epoch)) -> Option<Arrived> {
        let arrived = self.states.remove(key)?;
        self.quota.give(arrived.from.node, arrived.size);
        Some(arrived)
    }

    /// One that is being merged: it stays here, as it may have to be parked.
    pub(crate) fn find(&self, key: &(ChildId, Epoch)) -> Option<&Arrived> {
        self.states.get(key)
    }

    /// All for moves, and to be merged.
    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&(ChildId, Epoch), &Parcel)> {
        self.states.iter().map(|(key, arrived)| (key, &arrived.parcel))
    }

    /// Takes the copy of a parked state.
    pub(crate) fn take_copy(
        &mut self,
        key: ParkedKey,
        from: NodeRun,
    ) -> Option<(ParkedInfo, Bytes)> {
        let (info, bytes) = self.copies.remove(&(key, from))?;
        self.quota.give(from.node, bytes.len());
        Some((info, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{id::KindName, parked::ParkedUse};

    const ROOM: usize = 2_000;

    fn arrivals() -> Arrivals {
        let half = ROOM / 2;
        Arrivals::new(&Settings { move_bytes: half, state_limit: half, ..Settings::default() })
    }

    fn run(n: u8) -> NodeRun {
        NodeRun { node: NodeId::from_key([n; 32]), nonce: 1 }
    }

    fn key(n: usize) -> (ChildId, Epoch) {
        (ChildId::new(format!("c{n}")).expect("a valid id"), Epoch { term: 1, attempt: 0 })
    }

    fn state(n: usize) -> BulkHeader {
        let (child, epoch) = key(n);
        BulkHeader::State { child, epoch, state_version: 1, lanes: Vec::new(), marks: 0 }
    }

    fn parked(n: usize) -> BulkHeader {
        let (child, epoch) = key(n);
        let info = ParkedInfo {
            key: ParkedKey { child, run: run(7), epoch },
            kind: KindName::new("k").expect("a valid name"),
            state_version: 1,
            at: 0,
            reason: String::new(),
        };
        BulkHeader::Parked { info, purpose: ParkedUse::Keep }
    }

    fn bytes(size: usize) -> Bytes {
        Bytes::from(vec![0; size])
    }

    #[test]
    fn each_peer_has_room_of_its_own_that_is_given_back() {
        let (mut arrivals, now) = (arrivals(), Instant::now());
        assert_eq!(arrivals.keep(now, run(1), &state(1), bytes(1_500)), Kept::Yes);
        assert_eq!(arrivals.keep(now, run(1), &state(2), bytes(501)), Kept::NoRoom);
        let again = NodeRun { nonce: 2, ..run(1) };
        assert_eq!(arrivals.keep(now, again, &parked(2), bytes(501)), Kept::NoRoom);
        assert_eq!(arrivals.keep(now, run(2), &state(2), bytes(ROOM)), Kept::Yes);
        assert_eq!(arrivals.take(&key(1)).map(|it| it.parcel.bytes.len()), Some(1_500));
        assert!(arrivals.take(&key(1)).is_none());
        assert_eq!(arrivals.keep(now, run(1), &parked(2), bytes(ROOM)), Kept::Yes);
        let BulkHeader::Parked { info, .. } = parked(2) else { panic!("it is one") };
        assert!(arrivals.take_copy(info.key.clone(), run(2)).is_none(), "it came from another");
        assert!(arrivals.take_copy(info.key, run(1)).is_some());
        arrivals.take(&key(2));
        assert_eq!([1, 2].map(|n| arrivals.quota.used(run(n).node)), [0, 0]);
    }

    #[test]
    fn when_all_have_no_more_room_each_has_a_share() {
        let (mut arrivals, now) = (arrivals(), Instant::now());
        for n in [1, 2] {
            assert_eq!(arrivals.keep(now, run(n), &state(n.into()), bytes(ROOM)), Kept::Yes);
        }
        assert_eq!(arrivals.keep(now, run(3), &state(3), bytes(2 * ROOM / 3)), Kept::Yes);
        assert_eq!(arrivals.keep(now, run(3), &state(4), bytes(1)), Kept::NoRoom);
        assert_eq!(arrivals.keep(now, run(4), &state(4), bytes(ROOM / 2 + 1)), Kept::NoRoom);
        assert_eq!(arrivals.keep(now, run(4), &state(4), bytes(ROOM / 2)), Kept::Yes);
        assert_eq!(arrivals.keep(now, run(1), &state(5), bytes(1)), Kept::NoRoom);
        arrivals.take(&key(2));
        arrivals.take(&key(4));
        assert_eq!(arrivals.keep(now, run(3), &state(5), bytes(1)), Kept::Yes);
    }

    #[test]
    fn what_comes_again_takes_its_own_place_and_no_other_node_can() {
        let (mut arrivals, now) = (arrivals(), Instant::now());
        for _ in 0..2 {
            assert_eq!(arrivals.keep(now, run(1), &state(1), bytes(900)), Kept::Yes);
            assert_eq!(arrivals.keep(now, run(3), &parked(1), bytes(900)), Kept::Yes);
            assert_eq!(arrivals.keep(now, run(2), &state(1), bytes(900)), Kept::Not);
        }
        assert_eq!([1, 2, 3].map(|n| arrivals.quota.used(run(n).node)), [900, 0, 900]);
        assert!(arrivals.find(&key(1)).is_some_and(|it| it.parcel.bytes.len() == 900));
        // Its header says that marks stand before it, and none do.
        let (child, epoch) = key(2);
        let torn =
            BulkHeader::State { child, epoch, state_version: 1, lanes: Vec::new(), marks: 10 };
        assert_eq!(arrivals.keep(now, run(2), &torn, bytes(100)), Kept::Not);
        assert_eq!(arrivals.quota.used(run(2).node), 0);
    }

    #[test]
    fn what_nobody_has_wanted_for_long_gives_way_to_what_its_own_peer_sends() {
        let (mut arrivals, now) = (arrivals(), Instant::now());
        for n in [1, 2] {
            assert_eq!(arrivals.keep(now, run(n as u8), &state(n), bytes(ROOM)), Kept::Yes);
        }
        assert_eq!(arrivals.keep(now + AGE, run(1), &state(3), bytes(1)), Kept::NoRoom);
        let later = now + AGE + Duration::from_millis(1);
        assert_eq!(arrivals.keep(later, run(1), &state(3), bytes(1)), Kept::Yes);
        assert!(arrivals.find(&key(1)).is_none() && arrivals.find(&key(2)).is_some());
    }
}
