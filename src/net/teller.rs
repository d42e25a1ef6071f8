//! What the hub is told beside the events of links: who was refused, once for each reason.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{NetEvent, greet::GreetFailure};
use crate::model::id::NodeId;

/// How many refusals are remembered, so that each is told once.
const TOLD: usize = 1_024;

/// A refusal that was told: of a node if it is known, else of an address.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Told {
    node: Option<NodeId>,
    address: Option<String>,
    reason: String,
}

/// Tells the hub, until this node stops.
pub(super) struct Teller {
    events: mpsc::Sender<NetEvent>,
    stop: CancellationToken,
    told: Mutex<BTreeSet<Told>>,
}

impl Teller {
    pub(super) fn new(events: mpsc::Sender<NetEvent>, stop: CancellationToken) -> Self {
        Self { events, stop, told: Mutex::default() }
    }

    /// Tells the hub, unless this node stops first.
    pub(super) async fn tell(&self, event: NetEvent) {
        tokio::select! {
            biased;
            _ = self.events.send(event) => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Tells of a refusal, once for each peer and reason.
    pub(super) async fn refused(
        &self,
        node: Option<NodeId>,
        address: Option<String>,
        reason: String,
    ) {
        let known_as = if node.is_some() { None } else { address.clone() };
        let is_new = {
            // The set is whole after every statement.
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            if told.len() >= TOLD {
                told.clear();
            }
            told.insert(Told { node, address: known_as, reason: reason.clone() })
        };
        if is_new {
            let peer = node.map(|node| node.short());
            tracing::warn!(peer, address, reason, "not admitted");
            self.tell(NetEvent::Refused { node, address, reason }).await;
        }
    }

    /// Tells of a greeting that failed.
    pub(super) async fn failed(&self, node: NodeId, address: &str, failure: &GreetFailure) {
        match failure {
            GreetFailure::Refused(reason) => {
                self.refused(Some(node), Some(address.to_owned()), reason.clone()).await;
            }
            GreetFailure::Fenced(incarnation) => {
                tracing::warn!(peer = %node.short(), address, "this node's incarnation is fenced");
                self.tell(NetEvent::Fenced { incarnation: *incarnation }).await;
            }
            GreetFailure::Duplicate => {
                tracing::debug!(peer = %node.short(), address, "another connection is in use");
            }
            GreetFailure::Broken(reason) => {
                tracing::debug!(peer = %node.short(), address, reason, "no link");
            }
        }
    }
}
