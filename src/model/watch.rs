//! Watched children: what is known of one, and which change that is for who knew something else before.

use super::{
    child::Epoch,
    id::{NodeId, Origin},
};

/// Which watch of a child is meant. Those who watch one child on one node share it; later ones have higher
/// numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(pub u64);

/// What a node knows of a watched child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// There is such a child.
    There(ChildStatus),
    /// There is none, or none any more: the watch is over.
    Gone,
}

/// What a node knows of a child that there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildStatus {
    /// Which start it goes back to: with another one it is another child of the same id.
    pub life: Origin,
    /// Who owns it.
    pub node: NodeId,
    /// The epoch at which its state last began from nothing.
    pub born: Epoch,
    /// How it is.
    pub condition: Condition,
}

/// How a child is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It runs, or is about to.
    Runs,
    /// It has failed and waits for its next start.
    Waits {
        /// Why it failed.
        reason: String,
    },
    /// It has failed too often, and is not started again by itself.
    GivenUp {
        /// Why it failed last.
        reason: String,
    },
    /// Its owner is not in.
    NodeDown,
}

/// What happened to a watched child; see [`ChildRef::watch`](crate::ChildRef::watch).
///
/// Wherever it says *runs*: the node named has the child, and its actor runs there or is about to start.
///
/// [`Failed`](Self::Failed) and [`GivenUp`](Self::GivenUp) say how the child is, and are told again, with
/// another node, when it goes to that node while it has no actor.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChildChange {
    /// It runs, with the state that it had. The first item of most watches; later, when a node that was taken
    /// for dead is back with it.
    Running {
        /// Where it runs.
        node: NodeId,
        /// The epoch at which its state last began from nothing: while that is the same, it is the same life.
        born: Epoch,
    },
    /// Its actor has ended by a panic or by itself, or could not start, and is started again after a pause.
    Failed {
        /// Where it was, and waits.
        node: NodeId,
        /// Why it ended, of at most [`ChildFailure::MOST`](crate::ChildFailure::MOST) bytes.
        reason: String,
    },
    /// It runs and has begun anew, with a state that is not the one of before: after a failure, after its node
    /// went down, after somebody has started one that was given up, or after a move without state. Or a split
    /// has ended, and the child of the other side goes on.
    Restarted {
        /// Where it runs.
        node: NodeId,
        /// The epoch at which its state began.
        born: Epoch,
    },
    /// It runs elsewhere, with its state.
    Moved {
        /// Where it ran.
        from: NodeId,
        /// Where it runs.
        to: NodeId,
    },
    /// Its node is not in any more, and nobody else has the child yet. One of the others is about to start it.
    NodeDown {
        /// The node.
        node: NodeId,
    },
    /// It has failed too often. It is started again by hand, or when a node comes or goes.
    GivenUp {
        /// Where it was.
        node: NodeId,
        /// Why it failed last, of at most [`ChildFailure::MOST`](crate::ChildFailure::MOST) bytes.
        reason: String,
    },
    /// There is no such child any more, or there was none: it was stopped for good. Nothing comes after this.
    Stopped,
}

impl ChildStatus {
    /// What this is for who knew `before` of the child. `None`: nothing that is told.
    pub(crate) fn change_from(&self, before: Option<&Self>) -> Option<ChildChange> {
        if before == Some(self) {
            return None;
        }
        let (node, born) = (self.node, self.born);
        let had_failed = |before: &Self| {
            matches!(before.condition, Condition::Waits { .. } | Condition::GivenUp { .. })
        };
        Some(match (&self.condition, before) {
            // One that was given up is still so while somebody starts it.
            (Condition::NodeDown | Condition::GivenUp { .. }, Some(before))
                if before.condition == self.condition && before.node == node =>
            {
                return None;
            }
            (Condition::NodeDown, _) => ChildChange::NodeDown { node },
            (Condition::Waits { reason }, _) => {
                ChildChange::Failed { node, reason: reason.clone() }
            }
            (Condition::GivenUp { reason }, _) => {
                ChildChange::GivenUp { node, reason: reason.clone() }
            }
            (Condition::Runs, None) => ChildChange::Running { node, born },
            (Condition::Runs, Some(before))
                if had_failed(before) || before.life != self.life || before.born != born =>
            {
                ChildChange::Restarted { node, born }
            }
            (Condition::Runs, Some(before)) if before.node != node => {
                ChildChange::Moved { from: before.node, to: node }
            }
            (Condition::Runs, Some(_)) => ChildChange::Running { node, born },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u8) -> NodeId {
        NodeId::from_key([n; 32])
    }

    fn born(term: u64) -> Epoch {
        Epoch { term, attempt: 0 }
    }

    fn status(n: u8, term: u64, condition: Condition) -> ChildStatus {
        ChildStatus { life: Origin(7), node: node(n), born: born(term), condition }
    }

    fn waits() -> Condition {
        Condition::Waits { reason: "it panicked".to_owned() }
    }

    fn given_up() -> Condition {
        Condition::GivenUp { reason: "it panicked".to_owned() }
    }

    #[test]
    fn what_is_told_depends_on_what_was_known() {
        let runs = |n, term| status(n, term, Condition::Runs);
        let reason = || "it panicked".to_owned();
        let restarted = |n, term| ChildChange::Restarted { node: node(n), born: born(term) };
        let running = |n, term| ChildChange::Running { node: node(n), born: born(term) };
        let down = |n, term| status(n, term, Condition::NodeDown);
        for (before, now, told) in [
            (None, runs(1, 1), Some(running(1, 1))),
            (Some(runs(1, 1)), runs(1, 1), None),
            (Some(runs(1, 1)), runs(2, 1), Some(ChildChange::Moved { from: node(1), to: node(2) })),
            // Without its state.
            (Some(runs(1, 1)), runs(2, 2), Some(restarted(2, 2))),
            (
                Some(runs(1, 1)),
                status(1, 2, waits()),
                Some(ChildChange::Failed { node: node(1), reason: reason() }),
            ),
            // What it was born at was told when it failed.
            (Some(status(1, 2, waits())), runs(1, 2), Some(restarted(1, 2))),
            // The failure itself was not seen.
            (Some(runs(1, 1)), runs(1, 2), Some(restarted(1, 2))),
            (
                Some(status(1, 2, waits())),
                status(1, 3, given_up()),
                Some(ChildChange::GivenUp { node: node(1), reason: reason() }),
            ),
            (
                None,
                status(1, 3, given_up()),
                Some(ChildChange::GivenUp { node: node(1), reason: reason() }),
            ),
            // It is being started by hand.
            (Some(status(1, 3, given_up())), status(1, 4, given_up()), None),
            (Some(status(1, 3, given_up())), runs(1, 4), Some(restarted(1, 4))),
            (Some(runs(1, 1)), down(1, 1), Some(ChildChange::NodeDown { node: node(1) })),
            (Some(down(1, 1)), down(1, 2), None),
            (Some(down(1, 1)), down(2, 2), Some(ChildChange::NodeDown { node: node(2) })),
            (Some(down(1, 1)), runs(2, 2), Some(restarted(2, 2))),
            // A copy of its state was at hand.
            (Some(down(1, 1)), runs(2, 1), Some(ChildChange::Moved { from: node(1), to: node(2) })),
            // It was not dead.
            (Some(down(1, 1)), runs(1, 1), Some(running(1, 1))),
        ] {
            assert_eq!(now.change_from(before.as_ref()), told, "{before:?} -> {now:?}");
        }
        let other = ChildStatus { life: Origin(8), ..runs(1, 1) };
        assert_eq!(other.change_from(Some(&runs(1, 1))), Some(restarted(1, 1)));
    }
}
