//! Dials over a switchboard.

use std::sync::Arc;

use async_trait::async_trait;

use super::board::{Attempt, Board, Life, port};
use crate::{
    model::id::NodeId,
    net::carrier::{Carrier, Connection, DialFailure},
};

/// One node's way to the switchboard.
pub(super) struct Dialler {
    board: Arc<Board>,
    life: Life,
}

impl Dialler {
    pub(super) fn new(board: Arc<Board>, life: Life) -> Self {
        Self { board, life }
    }
}

#[async_trait]
impl Carrier for Dialler {
    async fn dial(
        &self,
        node: Option<NodeId>,
        addresses: Vec<String>,
    ) -> Result<Connection, DialFailure> {
        let mut changes = self.board.watch();
        loop {
            changes.mark_unchanged();
            let mut failure = None;
            let mut is_held = false;
            for address in &addresses {
                let attempt = match port(address) {
                    Ok(port) => self.board.attempt(&self.life, node, address, port),
                    Err(reason) => Attempt::Failed(DialFailure::Unreachable(reason)),
                };
                match attempt {
                    Attempt::Connected(connection) => return Ok(connection),
                    Attempt::Held => is_held = true,
                    // One address that did not refuse is enough to say no more than that.
                    Attempt::Failed(DialFailure::Refused) if failure.is_some() => {}
                    Attempt::Failed(other) => failure = Some(other),
                }
            }
            if !is_held || changes.changed().await.is_err() {
                let none = || DialFailure::Unreachable("no address".to_owned());
                return Err(failure.unwrap_or_else(none));
            }
        }
    }

    async fn resolve(&self, seed: &str) -> Result<Vec<String>, String> {
        self.board.resolve(seed)
    }

    async fn stop(&self) {
        self.board.end(&self.life);
    }
}
