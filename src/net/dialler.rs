//! Dials within the deadline, a bounded number at a time, and tells what it says of secrets.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Semaphore, time::timeout};

use super::{
    carrier::{Carrier, Connection, DialFailure},
    streak::Streak,
    teller::Teller,
};
use crate::model::id::NodeId;

/// How many dials may be under way; further ones wait for their turn.
const PENDING_DIALS: usize = 16;
/// How many of them may be to addresses of which no node is known: a name with many dead addresses
/// must not keep this node from its members.
const PENDING_UNKNOWN: usize = 8;

/// Dials for one node.
pub(super) struct Dialler {
    carrier: Arc<dyn Carrier>,
    teller: Arc<Teller>,
    deadline: Duration,
    turns: Semaphore,
    unknown: Semaphore,
    /// Dials to these addresses that were accepted and came to nothing.
    silent: Streak<String>,
}

impl Dialler {
    pub(super) fn new(carrier: Arc<dyn Carrier>, teller: Arc<Teller>, deadline: Duration) -> Self {
        let turns = Semaphore::new(PENDING_DIALS);
        let unknown = Semaphore::new(PENDING_UNKNOWN);
        Self { carrier, teller, deadline, turns, unknown, silent: Streak::new() }
    }

    /// Dials; one of at most [`PENDING_DIALS`], within the deadline.
    pub(super) async fn dial(
        &self,
        node: Option<NodeId>,
        addresses: Vec<String>,
    ) -> Result<Connection, DialFailure> {
        let _unknown = match node {
            Some(_) => None,
            None => Some(self.unknown.acquire().await),
        };
        let _turn = self.turns.acquire().await;
        let text = addresses.join(" ");
        let dial = timeout(self.deadline, self.carrier.dial(node, addresses));
        let outcome = match dial.await {
            Ok(outcome) => outcome,
            Err(_) => Err(DialFailure::Unreachable("no answer within the deadline".to_owned())),
        };
        if let Err(failure) = &outcome {
            tracing::debug!(address = text, %failure, "dial failed");
        }
        let reason = match &outcome {
            Err(DialFailure::Insecure(_)) => Some(
                "no secure channel could be agreed: the secrets differ, or it is no node of a hub",
            ),
            // Secrets that differ can look like a node that hangs; one that hangs for so long is
            // worth a word as well.
            Err(DialFailure::Silent) if self.silent.failed(text.clone()) => Some(
                "it accepts connections and agrees on no secure channel: the secrets differ, or \
                 it hangs",
            ),
            Err(DialFailure::NotAdmitted(reason)) => Some(*reason),
            _ => None,
        };
        match reason {
            Some(reason) => self.teller.refused(node, Some(text), reason.to_owned()).await,
            None if matches!(outcome, Err(DialFailure::Silent)) => {}
            None => self.silent.broken(&text),
        }
        outcome
    }
}
