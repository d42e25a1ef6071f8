//! The children on this node: who runs here, how each begins, moves, meets another owner and ends.
//!
//! An *instance* is an actor that this node owns, or has owned and still holds. A *successor* is one in
//! the making, of a child that another node hands over. A node never has both for one child.
//!
//! [`Children`] is the face of the room: it routes, and hands each machine what it may touch. Machines
//! use what stands below them, never what stands beside or above:
//!
//! | | |
//! |---|---|
//! | who runs here | `table` of `instance` (`phase`, `attempts`, `moving`) and `successor`; `pacing`; `merges` |
//! | steps that several take | `steps`; which copies are in what became of a child, `lineage`; the table of moves that failed, `retry` |
//! | machines | `lifecycle`, `source`, `target`, `merging`, `retire` |
//! | machines that use these | `divergence`, `rebalance`, `roll` |
//! | on top | `registry_says`, `left`; the face: here, and `routes` |

mod attempts;
mod divergence;
mod immovable;
mod instance;
mod instances;
mod left;
mod lifecycle;
mod lineage;
mod merges;
mod merging;
mod moving;
mod pacing;
mod passed_over;
mod phase;
mod rebalance;
mod registry_says;
mod reopen;
mod retire;
mod retry;
mod roll;
mod routes;
mod source;
mod steps;
mod successor;
mod table;
mod target;
#[cfg(test)]
mod tests;
mod turns;

use self::{
    divergence::Divergence, left::Remaining, lifecycle::Lifecycle, merges::Merges,
    merging::Merging, pacing::Pacing, rebalance::Rebalance, registry_says::RegistrySays,
    retire::Retire, roll::Roll, source::Source, table::Table, target::Target,
};
pub(crate) use self::{
    divergence::rank, instance::Instance, left::Left, lifecycle::begun, moving::Move, phase::Phase,
    target::Offer,
};
#[cfg(test)]
pub(crate) use self::{merges::MOST_MERGES, phase::Begin};
use super::core::Core;
use crate::model::{
    id::{ChildId, KindName},
    parked::ParkedKey,
};

/// The children on this node.
#[derive(Debug, Default)]
pub(crate) struct Children {
    /// Who runs here.
    table: Table,
    /// How many moves and bytes at a time, and whose turn is next.
    pacing: Pacing,
    /// States that others offered and that are not answered.
    merges: Merges,
}

/// Each machine with what it may touch.
impl Children {
    fn lifecycle<'a>(&'a mut self, core: &'a mut Core) -> Lifecycle<'a> {
        let Self { table, pacing, merges } = self;
        Lifecycle { table, pacing, merges, core }
    }

    fn source<'a>(&'a mut self, core: &'a mut Core) -> Source<'a> {
        Source { table: &mut self.table, pacing: &mut self.pacing, core }
    }

    fn target<'a>(&'a mut self, core: &'a mut Core) -> Target<'a> {
        Target { table: &mut self.table, pacing: &mut self.pacing, core }
    }

    fn roll<'a>(&'a mut self, core: &'a mut Core) -> Roll<'a> {
        Roll { table: &mut self.table, pacing: &mut self.pacing, core }
    }

    fn retiring<'a>(&'a mut self, core: &'a mut Core) -> Retire<'a> {
        Retire { table: &mut self.table, pacing: &mut self.pacing, core }
    }

    fn rebalance<'a>(&'a mut self, core: &'a mut Core) -> Rebalance<'a> {
        let Self { table, pacing, merges } = self;
        Rebalance { table, pacing, merges, core }
    }

    fn merging<'a>(&'a mut self, core: &'a mut Core) -> Merging<'a> {
        Merging { table: &mut self.table, merges: &mut self.merges, core }
    }

    fn divergence<'a>(&'a mut self, core: &'a mut Core) -> Divergence<'a> {
        let Self { table, pacing, merges } = self;
        Divergence { table, pacing, merges, core }
    }

    fn registry_says<'a>(&'a mut self, core: &'a mut Core) -> RegistrySays<'a> {
        let Self { table, pacing, merges } = self;
        RegistrySays { table, pacing, merges, core }
    }

    fn remaining<'a>(&'a self, core: &'a Core, waits_for: Option<&'a str>) -> Remaining<'a> {
        Remaining { table: &self.table, merges: &self.merges, core, waits_for }
    }
}

/// What is asked of them.
impl Children {
    /// The instance of a child.
    pub(crate) fn instance(&self, child: &ChildId) -> Option<&Instance> {
        self.table.instance(child)
    }

    /// The same, for a machine that goes on with the actor as it is.
    pub(crate) fn instance_mut(&mut self, child: &ChildId) -> Option<&mut Instance> {
        self.table.instance_mut(child)
    }

    /// All instances, by child.
    pub(crate) fn instances(&self) -> impl Iterator<Item = (&ChildId, &Instance)> {
        self.table.instances()
    }

    /// The children behind this one that have an instance.
    pub(crate) fn behind(&self, child: Option<&ChildId>) -> impl Iterator<Item = &ChildId> {
        self.table.behind(child)
    }

    /// The moves that are under way, by child.
    pub(crate) fn moves(&self) -> impl Iterator<Item = (&ChildId, &Move)> {
        self.table.moves()
    }

    /// The children that have a successor in the making here.
    pub(crate) fn successors(&self) -> impl Iterator<Item = &ChildId> {
        self.table.successors().map(|(child, _)| child)
    }

    /// Whether nothing is left on this node that would be lost with it.
    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_spent()
    }

    /// Whether children are here, and no other node would take any of them.
    pub(crate) fn is_stranded(&self, core: &Core) -> bool {
        rebalance::is_stranded(&self.table, core)
    }

    /// What is left here, and why. `waits_for`: what keeps this node from acting.
    pub(crate) fn left(&self, core: &Core, waits_for: Option<&str>) -> Left {
        self.remaining(core, waits_for).left()
    }

    /// Why a child is still on this node.
    pub(crate) fn why_left(
        &self,
        core: &Core,
        child: &ChildId,
        instance: &Instance,
        waits_for: Option<&str>,
    ) -> String {
        self.remaining(core, waits_for).why_left(child, instance)
    }

    /// The kind of a child whose state this node offers under that name.
    pub(crate) fn offers(&self, core: &Core, key: &ParkedKey) -> Option<&KindName> {
        divergence::offers(&self.table, core, key)
    }
}
