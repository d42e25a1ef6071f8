//! Who asks a home for something, and what is kept for it.

use crate::model::id::{NodeRun, RequestId};

/// Bytes of starts, stops and questions that are kept for one node until they are answered.
pub(super) const KEPT: usize = 128 << 20;
/// About what is kept with each of them besides its texts and arguments.
pub(super) const EACH: usize = 256;

/// Who asked for something, and under which number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Asker {
    pub(super) run: NodeRun,
    pub(super) request: RequestId,
}
