//! Dials addresses whose node is not known or not a member: seeds, and nodes seen on the LAN.

use super::{
    backoff::{Backoff, HIGHER_WAITS},
    carrier::DialFailure,
    links::Links,
};
use crate::model::id::NodeId;

/// Dials one address, with backoff, until a node answers there; and again whenever there is no
/// link to that node.
pub(super) async fn seek(links: Links, node: Option<NodeId>, address: String) {
    let mut backoff = Backoff::new();
    let mut changes = links.peers().watch();
    let mut answered = node;
    if node.is_some_and(|node| node < links.me()) {
        // The other one dials at once.
        tokio::time::sleep(HIGHER_WAITS).await;
    }
    loop {
        changes.mark_unchanged();
        if answered.is_some_and(|node| links.peers().is_linked(node)) {
            backoff = Backoff::new();
            if changes.changed().await.is_err() {
                return;
            }
            // Whoever keeps the link to that node dials it first.
            tokio::time::sleep(2 * HIGHER_WAITS).await;
            continue;
        }
        match links.dial(node, vec![address.clone()]).await {
            Ok(connection) => {
                if let Ok(node) = links.admit(connection).await {
                    answered = Some(node);
                }
            }
            Err(DialFailure::Itself) => {
                tracing::debug!(address, "a seed is this node itself");
                return;
            }
            Err(_) => {}
        }
        let wait = tokio::time::sleep(backoff.next());
        tokio::pin!(wait);
        // A link may come about otherwise meanwhile.
        loop {
            tokio::select! {
                () = &mut wait => break,
                Ok(()) = changes.changed() => {
                    if answered.is_some_and(|node| links.peers().is_linked(node)) {
                        break;
                    }
                }
            }
        }
    }
}
