//! The table of what an owner does about what the registry says of its child.
//!
//! The table is pure: what the owner is doing and what it sees give what it does next and a step.
//! Two owners meet when a split heals. One of them goes on, by [`rank`]; the other is frozen and
//! offers its state, and ends only when that was taken.

use std::cmp::Reverse;

use crate::model::{
    child::{Epoch, Ownership},
    id::NodeRun,
};

/// The order of owners that meet: the least goes on.
///
/// Who has an actor first, as one that failed has nothing that could go on. Then the lower `born`,
/// then the lower `copied`, then the higher epoch, then the lower node: an actor that lived on beats
/// one that began anew.
pub(crate) fn rank(run: NodeRun, ownership: &Ownership) -> impl Ord {
    let failed = ownership.failure.is_some();
    (failed, ownership.born, ownership.copied, Reverse(ownership.epoch), run)
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

/// What an owner is doing.
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
    /// It is frozen and offers its state.
    Yielding {
        /// To whom.
        to: Life,
    },
}

/// Who goes on, of two owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Winner {
    /// This node.
    Here,
    /// The other one.
    There,
}

/// What an owner sees in the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Nothing that may be acted on yet.
    Nothing,
    /// Its own entry is the highest.
    Own,
    /// The child was stopped for good.
    Removed,
    /// The successor of a committed move runs, or has handed the child on: the same life.
    Successor,
    /// The state that it offers is in another owner's, or is kept there.
    Taken {
        /// Whose.
        by: NodeRun,
    },
    /// Another live node owns the child too; of a committed one, in another life.
    Other {
        /// Who.
        life: Life,
        /// Who goes on.
        winner: Winner,
    },
}

/// What an owner does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing.
    Nothing,
    /// Stop the actor.
    End,
    /// Stop the old actor that was kept for the successor's sake.
    Drop,
    /// The move is complete: end the old actor.
    Finish,
    /// Give the move up, then look again.
    Abort,
    /// Take an epoch above all others, and open.
    GoOn,
    /// Freeze, and offer the state.
    Offer,
    /// End the frozen actor: its state was taken.
    GiveWay,
}

/// The table.
pub(crate) fn step(doing: Doing, seen: Seen) -> (Doing, Step) {
    use Doing as D;
    use Winner::{Here, There};
    match (doing, seen) {
        (_, Seen::Nothing) | (D::Stopping, _) => (doing, Step::Nothing),
        // Whoever it yielded to is not known any more: nobody would ever take its state.
        (D::Yielding { .. }, Seen::Own) => (D::Running, Step::GoOn),
        (_, Seen::Own) => (doing, Step::Nothing),
        (D::Committed, Seen::Removed) => (doing, Step::Drop),
        (D::Committed, Seen::Successor) => (doing, Step::Finish),
        (D::Yielding { .. }, Seen::Taken { .. }) => (doing, Step::GiveWay),
        (_, Seen::Taken { .. }) => (doing, Step::Nothing),
        (_, Seen::Successor) => (doing, Step::Nothing),
        (_, Seen::Removed) => (D::Stopping, Step::End),
        (D::Moving, Seen::Other { .. }) => (D::Running, Step::Abort),
        // What its start was ordered at is awaited as ever.
        (D::Starting, Seen::Other { winner: Here, .. }) => (doing, Step::GoOn),
        // Also who yields: the other one began anew meanwhile, and yields now. And who holds a copy
        // for a successor that never ran: the other one has nothing of it.
        (_, Seen::Other { winner: Here, .. }) => (D::Running, Step::GoOn),
        (D::Starting, Seen::Other { winner: There, .. }) => (D::Stopping, Step::End),
        (D::Yielding { to }, Seen::Other { life, winner: There }) if to == life => {
            (doing, Step::Nothing)
        }
        (D::Running | D::Committed | D::Yielding { .. }, Seen::Other { life, winner: There }) => {
            (D::Yielding { to: life }, Step::Offer)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::NodeId;

    fn run(n: u8) -> NodeRun {
        NodeRun { node: NodeId::from_key([n; 32]), nonce: n.into() }
    }

    fn life(n: u8) -> Life {
        Life { run: run(n), born: Epoch { term: 1, attempt: 0 } }
    }

    /// The same node, begun anew.
    fn later(n: u8) -> Life {
        Life { born: Epoch { term: 1, attempt: 1 }, ..life(n) }
    }

    fn all_doing() -> [Doing; 8] {
        use Doing::*;
        [
            Starting,
            Running,
            Moving,
            Committed,
            Stopping,
            Yielding { to: life(1) },
            Yielding { to: later(1) },
            Yielding { to: life(2) },
        ]
    }

    fn other(winner: Winner) -> Seen {
        Seen::Other { life: life(1), winner }
    }

    fn all_seen() -> [Seen; 7] {
        [
            Seen::Nothing,
            Seen::Own,
            Seen::Taken { by: run(3) },
            Seen::Removed,
            Seen::Successor,
            other(Winner::Here),
            other(Winner::There),
        ]
    }

    #[test]
    fn whoever_sees_nothing_goes_on_with_what_it_does() {
        for doing in all_doing() {
            assert_eq!(step(doing, Seen::Nothing), (doing, Step::Nothing));
        }
    }

    #[test]
    fn an_actor_ends_only_when_its_child_was_removed_or_its_state_was_taken() {
        for doing in [Doing::Running, Doing::Moving, Doing::Yielding { to: life(1) }] {
            for seen in all_seen() {
                let (_, step) = step(doing, seen);
                let ends = matches!(step, Step::End | Step::Drop | Step::Finish | Step::GiveWay);
                let yields = matches!(doing, Doing::Yielding { .. });
                let taken = yields && matches!(seen, Seen::Taken { .. });
                assert_eq!(ends, seen == Seen::Removed || taken, "{doing:?} {seen:?}");
            }
        }
    }

    #[test]
    fn an_actor_that_is_being_stopped_is_left_to_end() {
        for seen in all_seen() {
            assert_eq!(step(Doing::Stopping, seen), (Doing::Stopping, Step::Nothing));
        }
    }

    #[test]
    fn nobody_yields_to_somebody_who_yields() {
        for doing in all_doing() {
            let (next, _) = step(doing, other(Winner::Here));
            let yields = matches!(next, Doing::Yielding { .. });
            assert!(!yields, "{doing:?} sees that it goes on");
        }
        // Of two that do, whoever sees that it goes on ends it.
        let (next, made) = step(Doing::Yielding { to: life(1) }, other(Winner::Here));
        assert_eq!((next, made), (Doing::Running, Step::GoOn));
    }

    #[test]
    fn whoever_yields_to_nobody_goes_on() {
        for doing in all_doing() {
            let yields = matches!(doing, Doing::Yielding { .. });
            let expected =
                if yields { (Doing::Running, Step::GoOn) } else { (doing, Step::Nothing) };
            assert_eq!(step(doing, Seen::Own), expected);
        }
    }

    #[test]
    fn whoever_is_being_started_and_goes_on_is_still_awaited() {
        let (next, made) = step(Doing::Starting, other(Winner::Here));
        assert_eq!((next, made), (Doing::Starting, Step::GoOn));
    }

    #[test]
    fn a_committed_copy_ends_only_for_a_successor_of_its_life_or_a_removal() {
        for seen in all_seen() {
            let (_, made) = step(Doing::Committed, seen);
            let ends = matches!(made, Step::End | Step::Drop | Step::Finish);
            assert_eq!(ends, matches!(seen, Seen::Successor | Seen::Removed), "{seen:?}");
        }
        let (next, made) = step(Doing::Committed, other(Winner::Here));
        assert_eq!((next, made), (Doing::Running, Step::GoOn));
        let (next, made) = step(Doing::Committed, other(Winner::There));
        assert_eq!((next, made), (Doing::Yielding { to: life(1) }, Step::Offer));
    }

    #[test]
    fn an_offer_is_made_once_to_each_life() {
        for doing in all_doing() {
            let (next, made) = step(doing, other(Winner::There));
            if made == Step::Offer {
                assert_eq!(next, Doing::Yielding { to: life(1) });
                assert_eq!(step(next, other(Winner::There)), (next, Step::Nothing));
            }
        }
    }
}
