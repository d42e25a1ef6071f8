//! Two owners of one child: the table of what an owner does about what the registry says, and the
//! steps that carry it out.
//!
//! The table is pure: what the owner is doing and what it sees give what it does next and a step.
//! Two owners meet when a split heals. One of them goes on, by [`rank`]; the other is frozen and
//! offers its state, and ends only when that was taken.

use std::{cmp::Reverse, time::Duration};

use super::{
    merges::Merges,
    merging,
    pacing::Pacing,
    phase::{Doing, Life},
    source::Source,
    steps::Steps,
    table::Table,
};
use crate::{
    engine::{
        core::{Core, Timer},
        handover::SourceInput,
        io::ChildOrder,
    },
    model::{
        child::{Entry, Epoch, Ownership, Route},
        event::HubEvent,
        id::{ChildId, KindName, NodeRun},
        parked::ParkedKey,
    },
};

/// How often a yielding owner offers its state until it is taken.
const OFFER_EVERY: Duration = Duration::from_secs(2);

/// Why a committed move has failed.
const BEGUN_ANEW: &str =
    "another node began the child anew and had not heard that the successor ran";

/// The order of owners that meet: the least goes on.
///
/// Who has an actor first, as one that failed has nothing that could go on. Then the lower `born`,
/// then the lower `copied`, then the higher epoch, then the lower node: an actor that lived on beats
/// one that began anew.
pub(crate) fn rank(run: NodeRun, ownership: &Ownership) -> impl Ord {
    let failed = ownership.failure.is_some();
    (failed, ownership.born, ownership.copied, Reverse(ownership.epoch), run)
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
        (
            D::Running | D::Committed | D::Retiring | D::Yielding { .. },
            Seen::Other { life, winner: There },
        ) => (D::Yielding { to: life }, Step::Offer),
    }
}

/// An owner that meets another, or sees what has become of its child.
pub(super) struct Divergence<'a> {
    pub(super) table: &'a mut Table,
    pub(super) pacing: &'a mut Pacing,
    pub(super) merges: &'a mut Merges,
    pub(super) core: &'a mut Core,
}

impl Divergence<'_> {
    fn steps(&mut self) -> Steps<'_> {
        Steps { table: self.table, pacing: self.pacing, core: self.core }
    }

    fn source(&mut self) -> Source<'_> {
        Source { table: self.table, pacing: self.pacing, core: self.core }
    }

    /// Does what the table says about what is seen at the epoch `above`.
    pub(super) fn meet(&mut self, child: &ChildId, seen: Seen, above: Epoch) {
        let Some(instance) = self.table.instance(child) else { return };
        match step(instance.doing(), seen) {
            (_, Step::Nothing) => {}
            (_, Step::End) => self.steps().stop(child),
            (_, Step::Finish) => self.source().step(child, SourceInput::Opened),
            (_, Step::Drop) => {
                self.steps().drop_move(child, "the child is stopped");
                self.table.remove(child);
                self.core.order(ChildOrder::Stop { child: child.clone(), epoch: above });
            }
            (_, Step::Abort) => {
                // The target may have said Ready: a commit now would give the child to a third owner.
                let why = SourceInput::Overtaken("another node owns it too");
                self.source().step(child, why);
                // The child runs now. Seen as Moving it would be given up for ever and never frozen.
                self.meet(child, seen, above);
            }
            (_, Step::GoOn) => self.go_on(child, above),
            (Doing::Yielding { to }, Step::Offer) => self.offer(child, to),
            (_, Step::Offer) => {}
            (_, Step::GiveWay) => {
                let offered = instance.offered();
                if let (Seen::Taken { by }, Some(offered)) = (seen, offered) {
                    self.yielded(by, child, offered);
                }
            }
        }
    }

    /// Takes an epoch above all others. Who yielded runs again; who is being started is awaited as ever.
    fn go_on(&mut self, child: &ChildId, above: Epoch) {
        let Some(instance) = self.table.instance(child) else { return };
        let is_committed = instance.doing() == Doing::Committed;
        self.steps().drop_move(child, BEGUN_ANEW);
        let Some(instance) = self.table.instance_mut(child) else { return };
        // Before the epoch is raised: what was offered has the old one in its name, and whoever has
        // parked it would keep it for ever.
        instance.stop_yielding(self.core);
        self.core.news.extend(instance.take_start());
        // Also above what is promised: that term is for the home to give.
        let promised = Epoch { term: self.core.promises.term(child).unwrap_or(0), attempt: 0 };
        instance.raise(above.max(promised).next_term());
        self.core.write(child, Entry::Owned(instance.ownership().clone()));
        self.core.order(instance.go_on());
        if is_committed && instance.has_actor() {
            let (child, epoch) = (child.clone(), instance.epoch());
            self.core.recovered(child, epoch, true);
        }
    }

    /// Freezes, and offers the state to this life.
    fn offer(&mut self, child: &ChildId, to: Life) {
        let Some(instance) = self.table.instance(child) else { return };
        if !instance.has_actor() {
            // It was handed over without one: there is no state to offer.
            return self.steps().stop(child);
        }
        self.steps().drop_move(child, BEGUN_ANEW);
        let Some(instance) = self.table.instance_mut(child) else { return };
        let epoch = instance.begin_yielding(to);
        let (run, life) = (to.run, to.born);
        self.core.order(ChildOrder::SendDiverged { child: child.clone(), epoch, to: run, life });
        self.core.timer(OFFER_EVERY, Timer::Yield(child.clone(), epoch));
    }

    /// A yielding owner has heard nothing: it offers its state again, to whoever owns it now.
    pub(super) fn yield_again(&mut self, child: &ChildId, epoch: Epoch) {
        let Some(instance) = self.table.instance_mut(child) else { return };
        if instance.offered() != Some(epoch) {
            return;
        }
        let core = &mut *self.core;
        if let Some((owner, theirs)) = core.registry.owner(child)
            && owner != core.me
            && core.is_live(owner)
        {
            let life = theirs.born;
            instance.yield_to(Life { run: owner, born: life });
            core.order(ChildOrder::SendDiverged { child: child.clone(), epoch, to: owner, life });
        }
        core.timer(OFFER_EVERY, Timer::Yield(child.clone(), epoch));
    }

    /// The owner that goes on has taken this node's state.
    pub(super) fn yielded(&mut self, from: NodeRun, child: &ChildId, epoch: Epoch) {
        // What was offered before it went on, and froze again, is not what it has now.
        if self.table.instance(child).and_then(|instance| instance.offered()) != Some(epoch) {
            return;
        }
        let owner = self.core.registry.owner(child);
        let route = owner.map_or(Route { owner: from, epoch }, |(owner, theirs)| Route {
            owner,
            epoch: theirs.epoch,
        });
        merging::forget(self.merges, self.core, child);
        self.table.remove(child);
        let Route { owner: to, epoch } = route;
        self.core.order(ChildOrder::MovedAway { child: child.clone(), to, epoch });
        self.core.order(ChildOrder::End { child: child.clone() });
        self.core.emit(HubEvent::DivergenceYielded { child: child.clone(), to: from.node });
    }
}

/// The kind of a child whose state this node offers under that name.
pub(super) fn offers<'a>(table: &'a Table, core: &Core, key: &ParkedKey) -> Option<&'a KindName> {
    let instance = table.instance(&key.child)?;
    let is_it = instance.offered() == Some(key.epoch) && key.run == core.me;
    is_it.then(|| instance.spec().kind())
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

    fn all_doing() -> [Doing; 9] {
        use Doing::*;
        [
            Starting,
            Running,
            Moving,
            Committed,
            Stopping,
            Retiring,
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
        let yields = Doing::Yielding { to: life(1) };
        for doing in [Doing::Running, Doing::Moving, Doing::Retiring, yields] {
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
