//! What became of requests.

use serde::{Deserialize, Serialize};

use super::{
    child::Epoch,
    id::{ChildId, NodeId},
};

/// So many of the children that are left on a node are named in an error or event.
pub const MOST_LEFT: usize = 16;

/// A child that was not handed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ChildLeft {
    /// The child.
    pub child: ChildId,
    /// Why, in at most about 250 bytes.
    pub reason: String,
}

/// Names children that are left, for an error; nothing if there are none.
pub(crate) fn named(children: usize, left: &[ChildLeft]) -> String {
    if left.is_empty() {
        return String::new();
    }
    let mut names: Vec<String> =
        left.iter().map(|left| format!("{} ({})", left.child, left.reason)).collect();
    if let more @ 1.. = children.saturating_sub(left.len()) {
        names.push(format!("{more} more"));
    }
    format!(": {}", names.join(", "))
}

/// Says that a node is not empty in time.
pub(crate) fn late(children: usize, left: &[ChildLeft], waits_for: Option<&str>) -> String {
    let what = match children {
        0 => "not every node knows yet where the children went".to_owned(),
        1 => "1 child could not be handed over within the deadline".to_owned(),
        _ => format!("{children} children could not be handed over within the deadline"),
    };
    let cluster = waits_for.map(|reason| format!("; the cluster {reason}")).unwrap_or_default();
    format!("{what}{cluster}{}", named(children, left))
}

/// What became of one child that should start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StartOutcome {
    /// It runs.
    Started {
        /// Where.
        node: NodeId,
        /// At which epoch.
        epoch: Epoch,
    },
    /// A child of this id was there already; it was left as it is.
    Exists {
        /// Where it is.
        node: NodeId,
        /// At which epoch.
        epoch: Epoch,
    },
    /// It does not run.
    Failed {
        /// Why.
        reason: StartFailed,
    },
}

/// Why a child was not started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum StartFailed {
    /// No node was told to start it, or its node went down; it may be tried again.
    #[error(
        "no answer within the deadline{}",
        waits_for.as_ref().map(|reason| format!(": the cluster {reason}")).unwrap_or_default()
    )]
    Timeout {
        /// What kept the cluster unsettled, if it was.
        waits_for: Option<String>,
    },
    /// No node that takes children has registered the kind.
    #[error("no node that takes children has registered the kind; {node}, for one, has not")]
    UnknownKind {
        /// One of them.
        node: NodeId,
    },
    /// No member takes children.
    #[error("no node takes children")]
    NoNode,
    /// `from_args` or `started` refused or panicked.
    #[error("the child could not start: {reason}")]
    Refused {
        /// What it said.
        reason: String,
    },
    /// The node hands its children over, or its hub has stopped.
    #[error("the node takes no children any more, or its hub has stopped")]
    Leaving,
    /// As many starts and questions of this node wait on the child's home as it keeps for one node
    /// (128 MiB). Nothing was started; try again when others have been answered.
    #[error("node {node} keeps as many requests of this one as it may")]
    Busy {
        /// The child's home.
        node: NodeId,
    },
    /// It was started, and stopped again since another child of the request failed.
    #[error("rolled back, as another child of the request failed")]
    RolledBack,
}

/// What became of one child that should stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StopOutcome {
    /// It was stopped for good.
    Stopped {
        /// Where it was.
        node: NodeId,
    },
    /// There was none.
    NotFound,
    /// It could not be reached in time; it may still run.
    Timeout,
    /// As many requests of this node wait on the child's home as it keeps for one node (128 MiB).
    /// The child runs on; try again when others have been answered.
    Busy {
        /// The child's home.
        node: NodeId,
    },
}

/// What became of a child that should move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MigrateOutcome {
    /// It runs there.
    Moved {
        /// Where.
        node: NodeId,
        /// At which epoch.
        epoch: Epoch,
    },
    /// It goes on where it was, with its whole queue.
    Failed {
        /// Why.
        reason: String,
    },
    /// There is no such child.
    NotFound,
    /// There is no such node in the cluster, or it takes no children.
    NoSuchNode,
    /// No outcome within the deadline; it may still move.
    Timeout,
}

/// What became of each child of a `start_children`, in the order asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StartReport {
    /// Child and outcome.
    pub outcomes: Vec<(ChildId, StartOutcome)>,
}

impl StartReport {
    /// How many of them run now.
    #[must_use]
    pub fn started(&self) -> usize {
        self.outcomes.iter().filter(|(_, o)| matches!(o, StartOutcome::Started { .. })).count()
    }

    /// Those that do not run, and why.
    pub fn failures(&self) -> impl Iterator<Item = (&ChildId, &StartFailed)> {
        self.outcomes.iter().filter_map(|(child, outcome)| match outcome {
            StartOutcome::Failed { reason } => Some((child, reason)),
            _ => None,
        })
    }
}

/// What became of each child of a `stop_children`, in the order asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StopReport {
    /// Child and outcome.
    pub outcomes: Vec<(ChildId, StopOutcome)>,
}

impl StopReport {
    /// How many were stopped.
    #[must_use]
    pub fn stopped(&self) -> usize {
        self.outcomes.iter().filter(|(_, o)| matches!(o, StopOutcome::Stopped { .. })).count()
    }
}
