//! What children's runtimes tell.

use std::time::Duration;

#[cfg(doc)]
use super::ChildOrder;
use crate::model::{
    child::Epoch,
    id::ChildId,
    parked::{ApplyFailed, ParkedKey},
};

/// What a child's runtime tells. `epoch` is that of the order it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChildReport {
    /// Answers [`ChildOrder::Start`]; on `Ok` its gate is open.
    Started {
        /// The child.
        child: ChildId,
        /// From the order.
        epoch: Epoch,
        /// Why it could not.
        outcome: Result<(), String>,
    },
    /// Answers [`ChildOrder::Freeze`]. On failure the gate is still closed: a Thaw follows.
    Frozen {
        /// The child.
        child: ChildId,
        /// From the order.
        epoch: Epoch,
        /// Bytes of state, or why not.
        outcome: Result<u64, FreezeFailure>,
    },
    /// The state of a child that runs was encoded, to see whether it could go.
    Tried {
        /// The child.
        child: ChildId,
        /// The epoch it runs at.
        epoch: Epoch,
        /// Bytes of state, or why not.
        outcome: Result<u64, FreezeFailure>,
    },
    /// Answers [`ChildOrder::Build`]; on `Ok` its gate queues messages of this epoch.
    Built {
        /// The child.
        child: ChildId,
        /// From the order.
        epoch: Epoch,
        /// Why it could not.
        outcome: Result<(), BuildFailure>,
    },
    /// Answers [`ChildOrder::Open`]: `started()` has returned and the gate is open.
    Opened {
        /// The child.
        child: ChildId,
        /// From the order.
        epoch: Epoch,
        /// Why it could not.
        outcome: Result<(), String>,
    },
    /// Answers [`ChildOrder::Stop`]; nothing of it is left.
    Stopped {
        /// The child.
        child: ChildId,
        /// From the order.
        epoch: Epoch,
    },
    /// The actor ended unasked. Its queue is kept for a restart.
    Exited {
        /// The child.
        child: ChildId,
        /// The epoch it ran at.
        epoch: Epoch,
        /// How.
        exit: Exit,
    },
    /// Answers [`ChildOrder::Merge`].
    Merged {
        /// The child.
        child: ChildId,
        /// The loser's epoch, from the order.
        epoch: Epoch,
        /// Why it could not.
        outcome: Result<(), String>,
    },
    /// Answers [`ChildOrder::Apply`].
    Applied {
        /// From the order.
        key: ParkedKey,
        /// Why it could not; the child goes on with the state that it had.
        outcome: Result<(), ApplyFailed>,
    },
}

/// Why a successor could not be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildFailure {
    /// What was said.
    pub reason: String,
    /// Whether it will be so for as long as the node runs what it runs: it cannot read the state.
    pub lasts: bool,
}

impl BuildFailure {
    /// It may be otherwise a while later.
    pub fn passing(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), lasts: false }
    }

    /// The node cannot read the state.
    pub fn lasting(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), lasts: true }
    }
}

/// Why a child could not be frozen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FreezeFailure {
    /// A started handler was not resolved within `retention`.
    #[error(
        "{unresolved} started handlers were not resolved within retention, one has run for {:.1} s",
        longest.as_secs_f64()
    )]
    Retention {
        /// How many.
        unresolved: usize,
        /// How long the one has run that was started first.
        longest: Duration,
    },
    /// `prepare_handover_state` panicked.
    #[error("prepare_handover_state panicked: {message}")]
    Panicked {
        /// What it said.
        message: String,
    },
    /// The state is larger than the limit.
    #[error("the state has {size} bytes, the limit is {limit}")]
    TooLarge {
        /// Its bytes.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// The state could not be encoded.
    #[error("the state could not be encoded: {message}")]
    Encode {
        /// What the encoder said.
        message: String,
    },
    /// The state was encoded and is another one, or none, when it is read back.
    #[error("the state does not come back as it was: {message}")]
    NotReadBack {
        /// What is wrong with it.
        message: String,
    },
    /// There is no such running instance.
    #[error("the child does not run here")]
    Gone,
}

impl FreezeFailure {
    /// Whether it is the state that cannot go, and not the moment that was wrong.
    pub fn is_of_state(&self) -> bool {
        match self {
            Self::Panicked { .. }
            | Self::TooLarge { .. }
            | Self::Encode { .. }
            | Self::NotReadBack { .. } => true,
            Self::Retention { .. } | Self::Gone => false,
        }
    }
}

/// How an actor ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It stopped itself.
    Stopped,
    /// It panicked.
    Panicked {
        /// What it said.
        message: String,
    },
}
