//! Before a node comes in: is there another process with its key already?

use std::{collections::BTreeSet, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use crate::{
    model::{address::SeedOutcome, id::NodeId},
    net::NetEvent,
};

/// So many events are kept for the engine; then it begins.
const KEPT: usize = 1_024;

/// Another process with this node's key, which was there first.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Twin {
    /// Where it is.
    pub(super) address: String,
    /// The node that has a link to it; `None`: this one has met it.
    pub(super) by: Option<NodeId>,
}

/// What the network has told of a node's seeds so far.
#[derive(Debug)]
struct FirstContact {
    /// Seeds from which something may still come.
    open: BTreeSet<String>,
    is_linked: bool,
    twin: Option<Twin>,
}

impl FirstContact {
    fn new(seeds: &[String]) -> Self {
        Self { open: seeds.iter().cloned().collect(), is_linked: false, twin: None }
    }

    fn take(&mut self, event: &NetEvent) {
        match event {
            // A peer that has a live link to an earlier run refuses this one before that.
            NetEvent::Linked { .. } => self.is_linked = true,
            NetEvent::Seed { seed, outcome: SeedOutcome::Failed(_) | SeedOutcome::Itself } => {
                self.open.remove(seed);
            }
            NetEvent::Twin { address, by, is_second: true } => {
                self.twin = Some(Twin { address: address.clone(), by: *by });
            }
            _ => {}
        }
    }

    /// Whether nothing more is to be waited for.
    fn is_over(&self) -> bool {
        self.twin.is_some() || self.is_linked || self.open.is_empty()
    }
}

/// Waits until a link stands, or all seeds have failed, for at most `patience`. Gives what the network
/// told meanwhile, for the engine.
pub(super) async fn first_contact(
    events: &mut mpsc::Receiver<NetEvent>,
    seeds: &[String],
    patience: Duration,
) -> Result<Vec<NetEvent>, Twin> {
    let until = Instant::now() + patience;
    let mut contact = FirstContact::new(seeds);
    let mut told = Vec::new();
    while !contact.is_over() && told.len() < KEPT {
        let Ok(Some(event)) = timeout_at(until, events.recv()).await else { break };
        contact.take(&event);
        told.push(event);
    }
    contact.twin.map_or(Ok(told), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed(name: &str, outcome: SeedOutcome) -> NetEvent {
        NetEvent::Seed { seed: name.to_owned(), outcome }
    }

    fn twin(is_second: bool) -> NetEvent {
        let by = Some(NodeId::from_key([2; 32]));
        NetEvent::Twin { address: "a".to_owned(), by, is_second }
    }

    fn contact() -> FirstContact {
        FirstContact::new(&["one".to_owned(), "two".to_owned(), "one".to_owned()])
    }

    #[test]
    fn it_is_over_when_no_seed_is_left_from_which_anything_may_come() {
        let mut contact = contact();
        contact.take(&seed("one", SeedOutcome::Failed("refused".to_owned())));
        assert!(!contact.is_over());
        // The link to it is still to be agreed on.
        contact.take(&seed("two", SeedOutcome::Reached(NodeId::from_key([1; 32]))));
        assert!(!contact.is_over());
        contact.take(&seed("two", SeedOutcome::Itself));
        assert!(contact.is_over() && contact.twin.is_none());
        assert!(FirstContact::new(&[]).is_over());
    }

    #[test]
    fn another_process_counts_if_it_was_there_first() {
        let mut contact = contact();
        contact.take(&twin(false));
        assert!(!contact.is_over());
        contact.take(&twin(true));
        assert!(contact.is_over());
        let by = Some(NodeId::from_key([2; 32]));
        assert_eq!(contact.twin, Some(Twin { address: "a".to_owned(), by }));
    }

    #[tokio::test]
    async fn what_was_told_meanwhile_is_kept_in_order() {
        let (sender, mut events) = mpsc::channel(8);
        let (one, two) = (["one".to_owned()], SeedOutcome::Failed("refused".to_owned()));
        sender.send(twin(false)).await.expect("room");
        sender.send(seed("one", two)).await.expect("room");
        sender.send(twin(true)).await.expect("room");
        let told = first_contact(&mut events, &one, Duration::from_secs(30)).await;
        let told = told.expect("nobody was there first");
        assert!(matches!(told[..], [NetEvent::Twin { .. }, NetEvent::Seed { .. }]), "{told:?}");
        assert!(first_contact(&mut events, &one, Duration::from_secs(30)).await.is_err());
    }
}
