//! The times by which nodes are judged.

use std::time::Duration;

/// The times by which nodes are judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    pub(super) heartbeat: Duration,
    /// How long a node may be silent before it is suspected.
    pub(super) window: Duration,
    /// How long a pair may be without a link, or a node outside, before that is told.
    pub(super) join_timeout: Duration,
}

impl Timing {
    /// How long nothing may come over a link before words go by others as well: so early that these
    /// arrive before the window is over.
    pub(super) fn link_patience(&self) -> Duration {
        self.window * 2 / 3
    }
}
