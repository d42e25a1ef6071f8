//! A counter: how often each update was applied, and how far each client is.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::model::{child::Epoch, id::NodeRun};

/// What a counter has taken in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// How often each update was applied.
    pub(super) counts: BTreeMap<u64, u32>,
    /// The last update of each client whose handler has started.
    last: BTreeMap<u64, u64>,
    /// The states of owners that gave way, by run and epoch, that are in this one.
    merged: BTreeSet<(u64, Epoch)>,
}

impl State {
    /// A handler starts. `Err`: the client has sent it before one that was handled already.
    pub(super) fn start(&mut self, client: NodeRun, update: u64) -> Result<(), u64> {
        let last = self.last.entry(client.nonce).or_default();
        let before = *last;
        *last = before.max(update);
        if before >= update { Err(before) } else { Ok(()) }
    }

    pub(super) fn apply(&mut self, update: u64) {
        *self.counts.entry(update).or_default() += 1;
    }

    /// `merge_diverged_state`. `false`: it is in already.
    pub(super) fn merge(&mut self, (run, epoch): (NodeRun, Epoch), other: Self) -> bool {
        for (update, times) in other.counts {
            let own = self.counts.entry(update).or_default();
            *own = times.max(*own);
        }
        for (client, update) in other.last {
            let last = self.last.entry(client).or_default();
            *last = update.max(*last);
        }
        let is_new = self.merged.insert((run.nonce, epoch));
        self.merged.extend(other.merged);
        is_new
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut bytes = Vec::new();
        ciborium::into_writer(self, &mut bytes).expect("plain numbers");
        bytes.into()
    }

    pub(super) fn decode(bytes: &[u8]) -> Self {
        ciborium::from_reader(bytes).expect("only states are sent")
    }
}
