//! What users ask of an engine, and how it answers.

use std::{sync::Arc, time::Duration};

use crate::model::{
    child::ChildSpec,
    id::{ChildId, NodeId},
    parked::{ApplyFailed, ParkedKey},
    report::{ChildLeft, MigrateOutcome, StartReport, StopReport, late, named},
    settings::OnFailure,
};

/// What users of the hub can ask of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Start children.
    Start {
        /// The children.
        specs: Vec<Arc<ChildSpec>>,
        /// What happens when one fails.
        on_failure: OnFailure,
        /// How long to wait.
        timeout: Duration,
    },
    /// Stop children for good.
    Stop {
        /// The children.
        children: Vec<ChildId>,
        /// How long to wait.
        timeout: Duration,
    },
    /// Move a child.
    Migrate {
        /// The child.
        child: ChildId,
        /// Where to.
        to: NodeId,
        /// Whether started handlers are cut off at `retention`.
        forced: bool,
        /// How long to wait.
        timeout: Duration,
    },
    /// Bind a child to no node any more: it goes where the distribution has it. Answered like `Migrate`.
    Release {
        /// The child.
        child: ChildId,
        /// How long to wait.
        timeout: Duration,
    },
    /// Give a parked state to its child.
    ApplyParked {
        /// Its name.
        key: ParkedKey,
        /// Whether the child's own state is parked in exchange; else the two are merged.
        replace: bool,
        /// How long to wait.
        timeout: Duration,
    },
    /// Keep a parked state nowhere any more.
    DiscardParked {
        /// Its name.
        key: ParkedKey,
    },
    /// Hand every child over and go.
    Leave {
        /// How long the requester waits.
        timeout: Duration,
    },
    /// Leave no more: take children again, unless it is drained.
    Stay,
    /// Hand every child over, take none, and stay in.
    Drain {
        /// How long the requester waits.
        timeout: Duration,
    },
    /// Be drained no more.
    Undrain,
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To `Start`.
    Started(StartReport),
    /// To `Stop`.
    Stopped(StopReport),
    /// To `Migrate`.
    Migrated(MigrateOutcome),
    /// To `ApplyParked`.
    Applied(ApplyOutcome),
    /// To `DiscardParked`. If it was not held here: a node that holds it, if one is known.
    Discarded(Result<(), Option<NodeId>>),
    /// To `Leave`.
    Left(Result<(), LeaveFailed>),
    /// To `Stay`: whether it stays. `false`: everything is handed over, and it goes.
    Stays(bool),
    /// To `Drain`.
    Drained(Result<(), LeaveFailed>),
    /// To `Undrain`.
    Undrained,
}

/// What became of a parked state that was to be given to its child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyOutcome {
    /// The child has it; nobody keeps it any more.
    Applied,
    /// This node does not hold it.
    NotHeld {
        /// A node that does, if one is known.
        holder: Option<NodeId>,
    },
    /// The child goes on as before.
    Failed(ApplyFailed),
    /// Nothing was heard of it: the child may have it, or get it still.
    NoAnswer,
}

/// Why a node did not leave, or is not drained. If it had begun to, it takes no children and goes on
/// handing over what it can.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaveFailed {
    /// No other node takes children, or has the kinds of those that are here.
    #[error("no other node can take its {children} children{}", named(*children, left))]
    NoSuccessor {
        /// How many children are here.
        children: usize,
        /// The first of them.
        left: Vec<ChildLeft>,
    },
    /// The deadline passed.
    #[error("{}", late(*children, left, waits_for.as_deref()))]
    Timeout {
        /// How many children are still here; none if not everybody knows yet where they went.
        children: usize,
        /// The first of them.
        left: Vec<ChildLeft>,
        /// What keeps the cluster unsettled, if it is.
        waits_for: Option<String>,
    },
    /// It was told to take children again.
    #[error("it was told to take children again")]
    Stayed,
}

impl LeaveFailed {
    /// How many children are left, and the first of them.
    pub(crate) fn left(&self) -> (usize, &[ChildLeft]) {
        match self {
            Self::NoSuccessor { children, left } | Self::Timeout { children, left, .. } => {
                (*children, left)
            }
            Self::Stayed => (0, &[]),
        }
    }
}
