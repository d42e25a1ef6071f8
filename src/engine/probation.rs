//! Orders that come before this node has settled with others for the first time.
//!
//! Until then it hosts nothing: cut off now, it would go back to waiting as if it had never been in.
//! What it is told to run meanwhile waits, and is void if it is cut off.

use std::collections::VecDeque;

use crate::model::{
    id::NodeRun,
    message::{HomeWord, PeerMessage, RollWord},
};

/// Bytes of orders that wait, counted with what each costs to keep. Further ones are dropped: who
/// ordered says it again.
const LIMIT: usize = 16 << 20;
/// What an order costs besides what its child is started from.
const OVERHEAD: usize = 512;

/// Orders that wait.
#[derive(Debug, Default)]
pub(crate) struct Probation {
    held: VecDeque<(NodeRun, PeerMessage)>,
    bytes: usize,
}

impl Probation {
    /// Whether this is an order to run, or to end, something here.
    pub(crate) fn concerns(message: &PeerMessage) -> bool {
        matches!(
            message,
            PeerMessage::Home(
                HomeWord::Run { .. } | HomeWord::Halt { .. } | HomeWord::Migrate { .. }
            ) | PeerMessage::Handover(_)
                | PeerMessage::Roll(RollWord::Take { .. })
        )
    }

    /// Keeps an order.
    pub(crate) fn hold(&mut self, from: NodeRun, message: PeerMessage) {
        let size = size(&message);
        if self.bytes + size <= LIMIT {
            self.bytes += size;
            self.held.push_back((from, message));
        }
    }

    /// The next of the orders that were kept: this node has settled.
    pub(crate) fn release(&mut self) -> Option<(NodeRun, PeerMessage)> {
        let next = self.held.pop_front();
        if let Some((_, message)) = &next {
            self.bytes -= size(message);
        }
        next
    }

    /// This node was cut off.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

fn size(message: &PeerMessage) -> usize {
    let spec = match message {
        PeerMessage::Home(HomeWord::Run { spec, .. }) => Some(spec),
        PeerMessage::Roll(RollWord::Take { ownership, .. }) => Some(&ownership.spec),
        PeerMessage::Handover(crate::model::message::HandoverWord::Offer { ownership, .. }) => {
            Some(&ownership.spec)
        }
        _ => None,
    };
    OVERHEAD + spec.map_or(0, |spec| spec.size())
}
