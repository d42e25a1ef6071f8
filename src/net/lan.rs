//! Dials a node that was seen on the LAN.

use super::{
    backoff::{Backoff, HIGHER_WAITS},
    links::Links,
};
use crate::model::id::NodeId;

/// Dials one node at one address, with backoff, whenever there is no link to it.
pub(super) async fn dial(links: Links, node: NodeId, address: String) {
    let mut backoff = Backoff::new();
    let mut changes = links.peers().watch();
    if node < links.me() {
        // The other one dials at once.
        tokio::time::sleep(HIGHER_WAITS).await;
    }
    loop {
        changes.mark_unchanged();
        if links.peers().is_linked(node) {
            backoff = Backoff::new();
            if changes.changed().await.is_err() {
                return;
            }
            // Whoever keeps the link to that node dials it first.
            tokio::time::sleep(2 * HIGHER_WAITS).await;
            continue;
        }
        if let Ok(connection) = links.dial(Some(node), vec![address.clone()]).await {
            let _ = links.admit(connection).await;
        }
        tokio::time::sleep(backoff.next()).await;
    }
}
