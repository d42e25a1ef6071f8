//! What a child is told of one that it watches, when that has ended.

use actix::prelude::*;

use crate::model::{
    id::{ChildId, NodeId},
    watch::{Condition, Sighting},
};

/// A child that another one watches has ended: what
/// [`ChildContext::watch`](crate::ChildContext::watch) has a child told.
///
/// Moves and restarts are no ends: a reference to the child outlives them.
#[derive(Clone, Debug, PartialEq, Eq, Message)]
#[rtype(result = "()")]
#[non_exhaustive]
pub struct Terminated {
    /// The child that was watched.
    pub child: ChildId,
    /// How it ended.
    pub reason: TerminatedReason,
}

impl Terminated {
    /// This child has ended for this reason; for tests of a handler.
    #[must_use]
    pub fn new(child: ChildId, reason: TerminatedReason) -> Self {
        Self { child, reason }
    }
}

/// How a child that was watched has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TerminatedReason {
    /// It was stopped for good, or there was no such child.
    Stopped,
    /// It failed too often and is not started again by itself; it may be by hand, and when a node comes or
    /// goes.
    GivenUp {
        /// Why it failed last.
        reason: String,
    },
    /// Its node is not in any more, and its state is lost with it, unless a copy was under way. It is started
    /// anew elsewhere, if any node takes it: whoever goes on with it watches it again.
    NodeDown {
        /// The node.
        node: NodeId,
    },
}

/// Whether what is known of a child is an end of it for who watches it. `was_up`: whether it was known to
/// have a node since it is watched; what began while its node was down waits for the next end.
pub(super) fn end_of(sighting: &Sighting, was_up: &mut bool) -> Option<TerminatedReason> {
    let status = match sighting {
        Sighting::Gone => return Some(TerminatedReason::Stopped),
        Sighting::There(status) => status,
    };
    match &status.condition {
        Condition::GivenUp { reason } => Some(TerminatedReason::GivenUp { reason: reason.clone() }),
        Condition::NodeDown => was_up.then_some(TerminatedReason::NodeDown { node: status.node }),
        Condition::Runs | Condition::Waits { .. } => {
            *was_up = true;
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{child::Epoch, id::Origin, watch::ChildStatus};

    #[test]
    fn a_node_that_was_down_before_the_watch_is_no_end() {
        let node = NodeId::from_key([1; 32]);
        let there = |condition| {
            let (life, born) = (Origin(1), Epoch::ZERO);
            Sighting::There(ChildStatus { life, node, born, condition })
        };
        let reason = || "it panicked".to_owned();
        let down = || there(Condition::NodeDown);
        let mut was_up = false;
        assert_eq!(end_of(&down(), &mut was_up), None);
        assert_eq!(end_of(&there(Condition::Waits { reason: reason() }), &mut was_up), None);
        assert_eq!(end_of(&down(), &mut was_up), Some(TerminatedReason::NodeDown { node }));
        let given_up = there(Condition::GivenUp { reason: reason() });
        let told = Some(TerminatedReason::GivenUp { reason: reason() });
        assert_eq!(end_of(&given_up, &mut false), told);
        assert_eq!(end_of(&Sighting::Gone, &mut false), Some(TerminatedReason::Stopped));
    }
}
