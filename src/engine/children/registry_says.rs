//! What the registry says of a child of this node: a move is committed or given up, its successor runs,
//! the child was removed, its state was taken, or there is another owner.

use super::{
    divergence::{Divergence, Seen, Winner, rank},
    instance::Instance,
    lineage::{passes_instance, passes_successor},
    merges::Merges,
    pacing::Pacing,
    phase::Life,
    table::Table,
    target::Target,
};
use crate::{
    engine::{core::Core, handover::TargetInput, registry::Best},
    model::{
        child::{Entry, Epoch, Ownership, Taken},
        id::{ChildId, NodeRun},
    },
};

/// What follows from entries, whatever route they came by.
pub(super) struct RegistrySays<'a> {
    pub(super) table: &'a mut Table,
    pub(super) pacing: &'a mut Pacing,
    pub(super) merges: &'a mut Merges,
    pub(super) core: &'a mut Core,
}

impl RegistrySays<'_> {
    /// What is known of a child changed.
    pub(super) fn changed(&mut self, child: &ChildId) {
        if let Some(input) = self.of_successor(child) {
            let (table, pacing, core) = (&mut *self.table, &mut *self.pacing, &mut *self.core);
            Target { table, pacing, core }.step(child, &input);
        }
        if let Some((seen, above)) = self.of_instance(child) {
            let (table, pacing, core) = (&mut *self.table, &mut *self.pacing, &mut *self.core);
            let merges = &mut *self.merges;
            Divergence { table, pacing, merges, core }.meet(child, seen, above);
        }
    }

    /// What the entries say of a successor in the making.
    fn of_successor(&self, child: &ChildId) -> Option<TargetInput> {
        let core = &*self.core;
        let successor = self.table.successor(child)?;
        let (attempt, from) = (successor.attempt(), successor.from());
        let highest = core.registry.highest_epoch(child);
        let owner = core.registry.owner(child);
        let said = core.registry.entries_of(child).find(|(run, _)| *run == from);
        match said {
            _ if owner.is_none() && highest >= attempt => return Some(TargetInput::Aborted),
            Some((_, Entry::Moved { to, ownership }))
                if *to == core.me && ownership.epoch == attempt =>
            {
                // The home was told that it stands ready and not that it runs: it may have given the
                // child to another by now.
                return (!core.promises.binds(child)).then_some(TargetInput::Committed);
            }
            Some((_, entry)) if entry.epoch() >= attempt => {}
            // The source's entry may have been dropped as a higher one of another log stands.
            _ if highest > attempt => {}
            _ => return None,
        }
        // It is given up. Is there another life, which nobody but this node could tell what came?
        let other_life = owner
            .filter(|(_, theirs)| theirs.born != successor.ownership().born)
            .map(|(owner, _)| owner)
            .filter(|_| successor.holds_state());
        // Or an owner of the same life, that went on from a copy without this one?
        let passed =
            || owner.map(|(by, _)| by).filter(|_| passes_successor(core, child, successor));
        let Some(owner) = other_life.or_else(passed) else { return Some(TargetInput::Aborted) };
        let is_from_live = core.is_live(from);
        // Who has just come back may hear of the owner before it hears that the source is
        // gone; and then a roll call may still want what stands here.
        if !core.settled || !is_from_live && !core.is_live(owner) {
            return None;
        }
        Some(if is_from_live { TargetInput::Aborted } else { TargetInput::BegunAnew })
    }

    /// What the entries say of an instance, and the highest epoch there.
    fn of_instance(&self, child: &ChildId) -> Option<(Seen, Epoch)> {
        let core = &*self.core;
        let instance = self.table.instance(child)?;
        let Best { owner, epoch, entry, .. } = core.registry.best(child)?;
        if let Some(by) = self.taken_by(child) {
            return Some((Seen::Taken { by }, epoch));
        }
        let own = instance.ownership();
        let seen = match instance.moving().filter(|moving| moving.is_committed()) {
            Some(moving) => {
                let (to, attempt) = (moving.to(), moving.epoch());
                let born = moving.with_state().then_some(own.born);
                self.of_committed(instance, to, attempt, born, (owner, epoch, entry))
            }
            None => self.of_owner(instance, (owner, epoch, entry)),
        };
        let seen = match seen {
            // A roll call may be about to give the child to another that holds a newer state.
            Seen::Own | Seen::Other { winner: Winner::Here, .. }
                if instance.is_held() && core.promises.binds(child) =>
            {
                Seen::Nothing
            }
            seen => seen,
        };
        Some((seen, epoch))
    }

    /// The same, of a copy that is held until its successor at this `attempt` runs.
    ///
    /// An epoch alone does not tell whether anything of this copy is in what runs there: while this node
    /// was away, it may have begun from nothing. `born`: when the life of this copy began; `None`:
    /// without a state to hand over, every successor begins from nothing.
    fn of_committed(
        &self,
        held: &Instance,
        to: NodeRun,
        attempt: Epoch,
        born: Option<Epoch>,
        (owner, epoch, entry): (NodeRun, Epoch, &Entry),
    ) -> Seen {
        let core = &*self.core;
        let is_same = |theirs: &Ownership| born.is_none_or(|born| born == theirs.born);
        let is_live = core.is_live(owner);
        match entry {
            // Of one that has died since, by way of others: it has taken everything with it, and what
            // is held here is what the roll call finds.
            Entry::Owned(theirs)
                if owner == to && epoch >= attempt && is_live && is_same(theirs) =>
            {
                Seen::Successor
            }
            _ if owner == core.me || epoch <= attempt => Seen::Nothing,
            Entry::Removed { .. } => Seen::Removed,
            // Before the view is settled, too, it is no successor: a node that comes back hears the logs first.
            Entry::Owned(theirs) | Entry::Moved { ownership: theirs, .. }
                if born.is_some() && passes_instance(core, held, theirs) =>
            {
                if is_live && core.settled { there(owner, theirs) } else { Seen::Nothing }
            }
            // Taken over elsewhere, or already handed on by the successor.
            Entry::Owned(theirs) | Entry::Moved { ownership: theirs, .. }
                if is_live && is_same(theirs) =>
            {
                Seen::Successor
            }
            Entry::Owned(theirs) if is_live && core.settled => {
                self.other(held.ownership(), owner, theirs)
            }
            Entry::Owned(_) | Entry::Moved { .. } => Seen::Nothing,
        }
    }

    /// The same, of an instance that this node owns.
    fn of_owner(
        &self,
        instance: &Instance,
        (owner, epoch, entry): (NodeRun, Epoch, &Entry),
    ) -> Seen {
        let core = &*self.core;
        let own = instance.ownership();
        match entry {
            Entry::Owned(_) | Entry::Moved { .. } if owner == core.me => {
                if core.settled {
                    Seen::Own
                } else {
                    Seen::Nothing
                }
            }
            _ if epoch < own.epoch => Seen::Nothing,
            Entry::Removed { .. } => Seen::Removed,
            // It has offered its state to who went on without it, and is not to turn round by its rank.
            Entry::Owned(theirs)
                if core.is_live(owner)
                    && core.settled
                    && instance.offered().is_some()
                    && passes_instance(core, instance, theirs) =>
            {
                there(owner, theirs)
            }
            Entry::Owned(theirs) if core.is_live(owner) && core.settled => {
                self.other(own, owner, theirs)
            }
            Entry::Owned(_) | Entry::Moved { .. } => Seen::Nothing,
        }
    }

    /// Another owner: which of the two goes on.
    fn other(&self, own: &Ownership, owner: NodeRun, theirs: &Ownership) -> Seen {
        let is_here = rank(self.core.me, own) < rank(owner, theirs);
        let life = Life { run: owner, born: theirs.born };
        Seen::Other { life, winner: if is_here { Winner::Here } else { Winner::There } }
    }

    /// Which live owner has taken the state that this node offers, by its entry.
    fn taken_by(&self, child: &ChildId) -> Option<NodeRun> {
        let core = &*self.core;
        let epoch = self.table.instance(child)?.offered()?;
        let mine = Taken { from: core.me, epoch };
        let has_it = |entry: &Entry| entry.ownership().is_some_and(|own| own.taken.contains(mine));
        let mut entries = core.registry.entries_of(child);
        let found = entries.find(|(run, entry)| core.is_live(*run) && has_it(entry));
        found.map(|(run, _)| run)
    }
}

/// Another owner that goes on.
fn there(owner: NodeRun, theirs: &Ownership) -> Seen {
    let life = Life { run: owner, born: theirs.born };
    Seen::Other { life, winner: Winner::There }
}
