//! The bytes of parked states on this node. Which of them are held is decided by the engine.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;

use crate::model::{
    id::{ChildId, KindName, NodeId},
    parked::{ParkedInfo, ParkedKey},
};

/// A state that nobody merged: that of an owner that gave way after a split, and whose kind does not
/// say how to merge it, or could not.
///
/// It is held in memory, on two nodes if there are two, until it is discarded or applied. A node
/// holds 1,024 at most, and as many bytes as the larger of `Settings::move_bytes` and
/// `Settings::state_limit`; beyond that it gives up the oldest that another node holds, too, else the
/// oldest ([`HubEvent::ParkedStateDropped`](crate::HubEvent::ParkedStateDropped)).
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParkedState {
    /// Its name, which says whose state it was: of which child, on which node, at which epoch.
    pub key: ParkedKey,
    /// The child's kind.
    pub kind: KindName,
    /// The version of its form: `HotSwap::STATE_VERSION` of the node that wrote it.
    pub state_version: u32,
    /// Its CBOR.
    pub state: Bytes,
    /// When it was parked, by the clock of the node that did, in whole milliseconds.
    pub parked_at: SystemTime,
    /// Why it was not merged.
    pub reason: String,
    /// The other nodes that hold it, as far as this one knows.
    pub copies: Vec<NodeId>,
}

impl ParkedState {
    /// The child.
    #[must_use]
    pub fn child(&self) -> &ChildId {
        &self.key.child
    }
}

impl fmt::Debug for ParkedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParkedState")
            .field("key", &format_args!("{}", self.key))
            .field("kind", &self.kind)
            .field("state_version", &self.state_version)
            .field("bytes", &self.state.len())
            .field("parked_at", &self.parked_at)
            .field("reason", &self.reason)
            .field("copies", &self.copies)
            .finish()
    }
}

/// The parked states of this node.
#[derive(Debug, Default)]
pub(crate) struct ParkedStore {
    held: BTreeMap<ParkedKey, (ParkedInfo, Bytes)>,
    held_bytes: usize,
}

impl ParkedStore {
    /// Bytes that are held.
    #[cfg(any(test, feature = "admin"))]
    pub(crate) fn bytes(&self) -> usize {
        self.held_bytes
    }

    /// How many are held.
    #[cfg(any(test, feature = "admin"))]
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// All that are held, by their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ParkedInfo, &Bytes)> {
        self.held.values().map(|(info, bytes)| (info, bytes))
    }

    /// One that is held.
    pub(crate) fn find(&self, key: &ParkedKey) -> Option<(&ParkedInfo, &Bytes)> {
        self.held.get(key).map(|(info, bytes)| (info, bytes))
    }

    /// Holds one from now on.
    pub(crate) fn hold(&mut self, info: ParkedInfo, bytes: Bytes) {
        self.held_bytes += bytes.len();
        if let Some((_, before)) = self.held.insert(info.key.clone(), (info, bytes)) {
            self.held_bytes -= before.len();
        }
    }

    /// Holds one no more.
    pub(crate) fn forget(&mut self, key: &ParkedKey) {
        if let Some((_, bytes)) = self.held.remove(key) {
            self.held_bytes -= bytes.len();
        }
    }
}

/// A parked state as users see it.
pub(crate) fn shown(info: &ParkedInfo, state: &Bytes, copies: Vec<NodeId>) -> ParkedState {
    let at = UNIX_EPOCH.checked_add(Duration::from_millis(info.at));
    ParkedState {
        key: info.key.clone(),
        kind: info.kind.clone(),
        state_version: info.state_version,
        state: state.clone(),
        parked_at: at.unwrap_or(UNIX_EPOCH),
        reason: info.reason.clone(),
        copies,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{child::Epoch, id::NodeRun};

    fn info(n: u64) -> ParkedInfo {
        let run = NodeRun { node: NodeId::from_key([1; 32]), nonce: n };
        let child = ChildId::new("c").expect("a valid id");
        ParkedInfo {
            key: ParkedKey { child, run, epoch: Epoch { term: 1, attempt: 0 } },
            kind: KindName::new("k").expect("a valid name"),
            state_version: 1,
            at: u64::MAX,
            reason: String::new(),
        }
    }

    #[test]
    fn bytes_are_counted_and_given_back_also_when_a_state_comes_twice() {
        let mut store = ParkedStore::default();
        for size in [10, 4] {
            store.hold(info(1), Bytes::from(vec![0; size]));
        }
        assert_eq!((store.bytes(), store.len()), (4, 1));
        store.hold(info(2), Bytes::from(vec![0; 4]));
        assert_eq!((store.bytes(), store.len()), (8, 2));
        for _ in 0..2 {
            store.forget(&info(1).key);
            store.forget(&info(2).key);
        }
        assert_eq!((store.bytes(), store.len()), (0, 0));
    }

    #[test]
    fn a_state_is_shown_without_its_bytes_and_whatever_its_time_is() {
        let state = shown(&info(1), &Bytes::from_static(b"secret"), Vec::new());
        let text = format!("{state:?}");
        assert!(text.contains("bytes: 6") && !text.contains("secret"), "{text}");
    }
}
