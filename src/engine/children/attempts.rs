//! What came of the attempts to move one child, and what somebody wants of the next.

use std::time::Duration;

use super::passed_over::PassedOver;
use crate::{
    engine::core::{Core, Timer},
    model::id::{ChildId, NodeId, RequestId},
};

/// The time that a child without an actor waits on while its node is emptying; and for which a node is
/// passed over then, at first.
pub(super) const STAY_AFTER: Duration = Duration::from_secs(1);

/// Until when a child whose move failed is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MoveBackoff {
    /// Until [`Timer::Retry`].
    Retry,
    /// Until the view changes, or somebody asks for another move.
    View,
}

/// How a move failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// Where the child should have gone.
    pub(super) to: NodeId,
    /// At most about 1,000 bytes.
    pub(super) reason: String,
}

/// A migration that somebody asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// `None`: it is to be bound to no node any more.
    pub(super) to: Option<NodeId>,
    pub(super) forced: bool,
    pub(super) waiters: Vec<(NodeId, RequestId)>,
}

/// The attempts to move one child, since it came to this node.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    /// Moves that failed since the view last changed, for reasons that do not pass by themselves.
    failures: u32,
    /// Its last move failed.
    backoff: Option<MoveBackoff>,
    /// How the last move failed that did.
    trouble: Option<Trouble>,
    /// Nodes that refused it, or could not make it; this one, too, if it could not start it.
    passed_over: PassedOver,
    wanted: Option<Wanted>,
}

impl Attempts {
    /// The nodes that are passed over for it.
    pub(crate) fn passed_over(&self) -> &PassedOver {
        &self.passed_over
    }

    /// How the last move failed that did.
    pub(super) fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    /// Until when it is left alone after a move that failed.
    pub(super) fn backoff(&self) -> Option<MoveBackoff> {
        self.backoff
    }

    /// The migration that somebody asked for.
    pub(super) fn wanted(&self) -> Option<&Wanted> {
        self.wanted.as_ref()
    }

    /// Moves that failed since the view last changed, for reasons that do not pass by themselves.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// A move failed.
    pub(super) fn note_trouble(&mut self, to: NodeId, reason: String) {
        self.trouble = Some(Trouble { to, reason });
    }

    /// Counts a move that failed for a reason that does not pass by itself.
    pub(super) fn count_failure(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// It is left alone for a while, as its move failed.
    pub(super) fn back_off(&mut self, until: MoveBackoff) {
        self.backoff = Some(until);
    }

    /// [`Timer::Retry`] has come.
    pub(super) fn retry(&mut self) {
        self.backoff = self.backoff.filter(|until| *until != MoveBackoff::Retry);
    }

    /// Another move is offered.
    pub(super) fn begin(&mut self) {
        self.backoff = None;
    }

    /// Moves that failed count no more.
    pub(super) fn forget_failures(&mut self) {
        (self.failures, self.backoff) = (0, None);
    }

    /// The view changed: what was found out under an earlier one is void.
    pub(super) fn view_settled(&mut self) {
        self.forget_failures();
        self.passed_over.clear();
    }

    /// This node refuses the child for a reason that stays while it runs.
    pub(super) fn refused_by(&mut self, node: NodeId) {
        self.passed_over.refused(node);
    }

    /// This node could not make the child: it goes to others first, for a while.
    pub(super) fn pass_over(&mut self, core: &mut Core, child: &ChildId, node: NodeId) {
        let settings = &core.config.settings;
        let first = if core.emptying { STAY_AFTER } else { settings.pass_over };
        self.passed_over.failed(core.now, node, first);
        self.arm(core, child);
    }

    /// [`Timer::PassedOver`] has come. Tells whether a node may be tried again.
    pub(super) fn try_passed_over(&mut self, core: &mut Core, child: &ChildId) -> bool {
        let is_over = self.passed_over.try_again(core.now);
        self.arm(core, child);
        is_over
    }

    /// A timer runs for the first of those that are passed over, and for no other.
    fn arm(&mut self, core: &mut Core, child: &ChildId) {
        if let Some(wait) = self.passed_over.arm(core.now) {
            core.timer(wait, Timer::PassedOver(child.clone()));
        }
    }

    /// It runs on this node.
    pub(super) fn works(&mut self, node: NodeId) {
        self.passed_over.works(node);
    }

    /// Somebody asks for a migration, or that the child is released (`to` is `None`). Gives what was asked
    /// for before, if that was another, which comes to nothing by that.
    pub(super) fn want(
        &mut self,
        to: Option<NodeId>,
        forced: bool,
        waiter: (NodeId, RequestId),
    ) -> Option<Wanted> {
        match &mut self.wanted {
            Some(wanted) if wanted.to == to => {
                if !wanted.waiters.contains(&waiter) {
                    wanted.waiters.push(waiter);
                }
                None
            }
            wanted => wanted.replace(Wanted { to, forced, waiters: vec![waiter] }),
        }
    }

    /// A migration that was not made for a passing reason is asked for as before.
    pub(super) fn want_again(&mut self, wanted: Wanted) {
        self.wanted = Some(wanted);
    }

    /// The migration that somebody asked for is made now, or can never be.
    pub(super) fn take_wanted(&mut self) -> Option<Wanted> {
        self.wanted.take()
    }
}
