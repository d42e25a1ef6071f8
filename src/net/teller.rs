//! What the hub is told beside the events of links: who was refused, once for each reason.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{NetEvent, greet::GreetFailure, streak::Streak};
use crate::model::id::NodeId;

/// How many refusals are remembered, so that each is told once.
const TOLD: usize = 1_024;
/// For so long at least they are remembered: strangers cannot make a node tell more of them.
const REMEMBERED: Duration = Duration::from_secs(600);

/// A refusal that was told: of a node if it is known, else of an address.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Told {
    node: Option<NodeId>,
    address: Option<String>,
    reason: String,
}

/// The refusals that were told.
struct Memory {
    told: BTreeSet<Told>,
    since: Instant,
}

impl Memory {
    fn new(now: Instant) -> Self {
        Self { told: BTreeSet::new(), since: now }
    }

    /// Whether this is to be told: it was not, and there is room to remember it.
    fn is_news(&mut self, refusal: Told, now: Instant) -> bool {
        if self.told.len() >= TOLD && now.saturating_duration_since(self.since) >= REMEMBERED {
            *self = Self::new(now);
        }
        self.told.len() < TOLD && self.told.insert(refusal)
    }
}

fn is_news(memory: &Mutex<Memory>, refusal: Told) -> bool {
    // The memory is whole after every statement.
    let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
    memory.is_news(refusal, Instant::now())
}

/// Tells the hub, until this node stops.
pub(super) struct Teller {
    events: mpsc::Sender<NetEvent>,
    stop: CancellationToken,
    memory: Mutex<Memory>,
    /// Other processes with this node's key, apart: strangers fill the first.
    twins: Mutex<Memory>,
    /// Connections to these nodes that they closed before they said anything.
    unanswered: Streak<NodeId>,
}

/// What is told of a node that does so again and again.
const UNANSWERED: &str = "it closes connections of this node before it says anything: it does not \
                          admit this node, or it stops";

impl Teller {
    pub(super) fn new(events: mpsc::Sender<NetEvent>, stop: CancellationToken) -> Self {
        let memory = || Mutex::new(Memory::new(Instant::now()));
        let (memory, twins) = (memory(), memory());
        Self { events, stop, memory, twins, unanswered: Streak::new() }
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
        if is_news(&self.memory, Told { node, address: known_as, reason: reason.clone() }) {
            let peer = node.map(|node| node.short());
            tracing::debug!(peer, address, reason, "not admitted");
            self.tell(NetEvent::Refused { node, address, reason }).await;
        }
    }

    /// Tells that another process runs with this node's key, and whether this one is to end for it,
    /// once for each address and who says so.
    pub(super) async fn twin(&self, address: &str, by: Option<NodeId>, is_second: bool) {
        let address = address.to_owned();
        let reason = format!("it has this node's own key, second: {is_second}");
        if is_news(&self.twins, Told { node: by, address: Some(address.clone()), reason }) {
            let peer = by.map(|node| node.short());
            tracing::debug!(address, peer, is_second, "another process runs with this node's key");
            self.tell(NetEvent::Twin { address, by, is_second }).await;
        }
    }

    /// A greeting came to a good end.
    pub(super) fn greeted(&self, node: NodeId) {
        self.unanswered.broken(&node);
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
            GreetFailure::Twin(other) => self.twin(other, Some(node), true).await,
            GreetFailure::Duplicate => {
                tracing::debug!(peer = %node.short(), address, "another connection is in use");
            }
            GreetFailure::Unanswered if self.unanswered.failed(node) => {
                self.refused(Some(node), Some(address.to_owned()), UNANSWERED.to_owned()).await;
            }
            GreetFailure::Unanswered => {
                tracing::debug!(peer = %node.short(), address, "closed before it said anything");
            }
            GreetFailure::Broken(reason) => {
                tracing::debug!(peer = %node.short(), address, reason, "no link");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_once_and_strangers_cannot_make_it_many() {
        let now = Instant::now();
        let mut memory = Memory::new(now);
        let refusal = |n: usize| Told {
            node: None,
            address: Some(format!("10.0.{}.{}", n / 256, n % 256)),
            reason: "the secrets differ".to_owned(),
        };
        assert!(memory.is_news(refusal(0), now));
        assert!(!memory.is_news(refusal(0), now));
        let told = (0..10_000).filter(|n| memory.is_news(refusal(*n), now)).count();
        assert_eq!(told, TOLD - 1);
        // Later there is room again, and nothing is forgotten before it is needed.
        let later = now + REMEMBERED;
        assert!(memory.is_news(refusal(9_999), later));
        assert!(memory.is_news(refusal(0), later));
    }
}
