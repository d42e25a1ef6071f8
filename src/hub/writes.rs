//! A door as those see it who write its frames.

use std::{sync::Arc, time::Instant};

use crate::{
    delivery::Side,
    model::{
        frame::DataFrame,
        id::{ChildId, NodeRun},
    },
};

/// A door, as far as an exchange needs it.
pub(crate) trait Writes: Send + Sync + 'static {
    /// Whose door it is.
    fn child(&self) -> &ChildId;

    /// Gives the frames of one side for a peer; see [`Door::write`](crate::delivery::door::Door::write).
    fn write(
        self: &Arc<Self>,
        now: Instant,
        side: Side,
        to: (NodeRun, u64),
        budget: usize,
        out: &mut dyn FnMut(DataFrame),
    ) -> bool;
}
