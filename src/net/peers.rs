//! The peers of one node: those that are linked, wanted, or have a connection to be judged.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use super::{outbox::Outbox, peer::Peer};
use crate::model::id::NodeId;

/// The peers by id, and word of each link that comes or goes.
pub(super) struct Peers {
    peers: Mutex<BTreeMap<NodeId, Arc<Peer>>>,
    /// Rises whenever a link stands or is closed.
    changes: watch::Sender<u64>,
}

impl Peers {
    pub(super) fn new() -> Self {
        Self { peers: Mutex::default(), changes: watch::Sender::new(0) }
    }

    fn peers(&self) -> MutexGuard<'_, BTreeMap<NodeId, Arc<Peer>>> {
        // The map is whole after every statement.
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with this peer, which is made by `new` if it is not there. Nobody forgets it
    /// meanwhile.
    pub(super) fn with<T>(
        &self,
        node: NodeId,
        new: impl FnOnce() -> Arc<Peer>,
        act: impl FnOnce(&Peer) -> T,
    ) -> T {
        act(self.peers().entry(node).or_insert_with(new))
    }

    pub(super) fn get(&self, node: NodeId) -> Option<Arc<Peer>> {
        self.peers().get(&node).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Peer>> {
        self.peers().values().cloned().collect()
    }

    /// Forgets a peer that has nothing to keep, unless `is_idle` is false by now.
    pub(super) fn forget(&self, node: NodeId, is_idle: impl FnOnce() -> bool) -> bool {
        let mut peers = self.peers();
        let idle = is_idle();
        if idle {
            peers.remove(&node);
        }
        idle
    }

    /// What waits to be sent to this node, if a link stands.
    pub(super) fn outbox(&self, node: NodeId) -> Option<Arc<Outbox>> {
        self.get(node)?.outbox()
    }

    /// Whether a link to anybody stands.
    pub(super) fn is_any_linked(&self) -> bool {
        self.all().iter().any(|peer| peer.outbox().is_some())
    }

    pub(super) fn is_linked(&self, node: NodeId) -> bool {
        self.outbox(node).is_some()
    }

    /// A link stands or is closed.
    pub(super) fn changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Sees every [`changed`](Self::changed) from now on.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
