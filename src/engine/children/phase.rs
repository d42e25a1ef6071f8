//! What an actor of this node is doing, and the orders of homes for it.

use std::sync::Arc;

use super::moving::{Move, Wait};
use crate::model::{
    child::{ChildOrigin, ChildSpec, Epoch},
    id::{NodeId, NodeRun, Origin},
    member::ViewId,
};

/// Why an instance begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// A home ordered it.
    Ordered(NodeId),
    /// A home ordered it, and it had been given up.
    Again(NodeId),
    /// It ended and is started again.
    Restart,
    /// Nothing was left of it anywhere.
    Recovered,
}

impl Begin {
    /// The same, as the actor is told.
    pub(super) fn origin(self) -> ChildOrigin {
        match self {
            Self::Ordered(_) | Self::Again(_) => ChildOrigin::Fresh,
            Self::Restart => ChildOrigin::Restarted,
            Self::Recovered => ChildOrigin::TakenOver,
        }
    }
}

/// One life of a child: the actor of one node, and what became of its state, since it last began
/// from nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    /// Who owns it.
    pub(crate) run: NodeRun,
    /// When it began.
    pub(crate) born: Epoch,
}

/// What an owner is doing, as the table of [`divergence`](super::divergence) sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    /// Its actor is being started from nothing, or will be.
    Starting,
    /// Its actor runs.
    Running,
    /// A move is under way and not committed.
    Moving,
    /// It has handed the child over and holds the old actor.
    Committed,
    /// Its actor is being stopped.
    Stopping,
    /// Its child was stopped while this node was away; its state is being parked.
    Retiring,
    /// It is frozen and offers its state.
    Yielding {
        /// To whom.
        to: Life,
    },
}

/// What an instance is doing.
///
/// Answers are matched by the epoch at which they were asked for, which the phase keeps: the epoch
/// of the ownership may be raised meanwhile.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    Starting {
        why: Begin,
        /// The epoch that the runtime's answer will name.
        ordered: Epoch,
    },
    Running,
    /// There is no actor: it ended, or could not start. The ownership says why.
    Waiting(Wait),
    Moving(Box<Move>),
    Stopping,
    /// It was stopped while this node was away, and its state is being parked.
    Retiring {
        /// Under which name, and which the answer will name.
        epoch: Epoch,
    },
    /// It lost a divergence and offers its state to the owner that goes on.
    Yielding {
        to: Life,
        /// The epoch that the answer will name.
        offered: Epoch,
    },
}

impl Phase {
    /// As the table of two owners sees it.
    pub(crate) fn doing(&self) -> Doing {
        match self {
            Self::Starting { .. } | Self::Waiting(_) => Doing::Starting,
            Self::Running => Doing::Running,
            Self::Moving(moving) if moving.is_committed() => Doing::Committed,
            Self::Moving(_) => Doing::Moving,
            Self::Stopping => Doing::Stopping,
            Self::Retiring { .. } => Doing::Retiring,
            Self::Yielding { to, .. } => Doing::Yielding { to: *to },
        }
    }
}

/// The latest roll call that was told of a copy.
///
/// By another view it counts no more: it may never have been decided, and its term was another's then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answered {
    pub(super) view: ViewId,
    pub(super) term: u64,
}

impl Answered {
    /// The term in this view; 0: none was told.
    pub(super) fn term_in(answered: Option<Self>, view: ViewId) -> u64 {
        answered.filter(|it| it.view == view).map_or(0, |it| it.term)
    }

    /// A later one is told.
    pub(super) fn note(answered: &mut Option<Self>, later: Self) {
        let before = Self::term_in(*answered, later.view);
        *answered = Some(Self { term: later.term.max(before), ..later });
    }
}

/// A home's order to stop a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StopOrder {
    pub(super) home: NodeId,
    pub(super) epoch: Epoch,
}

/// A home's order to start a child.
#[derive(Clone, Debug)]
pub(super) struct StartOrder {
    pub(super) home: NodeId,
    pub(super) spec: Arc<ChildSpec>,
    pub(super) epoch: Epoch,
    pub(super) origin: Origin,
}
