//! Roll calls, as a node answers them: what it holds of a child, what it promises, and what it makes of
//! what it is given.

use super::{
    lineage::note_answer,
    pacing::Pacing,
    phase::{Begin, Doing},
    steps::{Start, Steps},
    table::Table,
    target::{Target, call_again},
};
use crate::{
    engine::{
        core::{Core, Fault},
        handover::{TargetInput, TargetStage},
    },
    model::{
        child::{Entry, Epoch, Ownership},
        id::{ChildId, NodeRun},
        message::{Claim, Copy, Held, PeerMessage, RollWord},
    },
};

/// What this node holds of a child, for a roll call; the epoch of the owner whose state that is;
/// and that at which its life began.
pub(super) fn hold(table: &Table, child: &ChildId) -> (Copy, Epoch, Epoch) {
    if let Some(instance) = table.instance(child) {
        let Ownership { epoch, born, .. } = *instance.ownership();
        let copy = match instance.doing() {
            Doing::Starting | Doing::Running | Doing::Moving => Copy::Live,
            // By the attempt's epoch a copy that was handed on long ago would seem to be as new
            // as what has become of it since.
            Doing::Committed | Doing::Yielding { .. } => Copy::Frozen,
            // It ends, whatever the home decides.
            Doing::Stopping | Doing::Retiring => Copy::Nothing,
        };
        return (copy, epoch, born);
    }
    if let Some(successor) = table.successor(child) {
        let own = successor.ownership();
        let (copy, epoch) = match successor.stage() {
            TargetStage::Ready | TargetStage::Kept | TargetStage::Rebuilding => {
                (Copy::Ready, successor.state())
            }
            TargetStage::Opening => (Copy::Live, own.epoch),
            TargetStage::Accepted | TargetStage::Building => (Copy::Nothing, successor.state()),
        };
        return (copy, epoch, own.born);
    }
    (Copy::Nothing, Epoch::ZERO, Epoch::ZERO)
}

/// Asks the homes to call the roll for children of which nobody else wants it, and this node
/// waits for it.
pub(super) fn call_unmet(core: &mut Core) {
    let unmet: Vec<ChildId> = core.promises.unmet().cloned().collect();
    for child in unmet {
        call_again(core, &child, 0);
    }
}

/// A node that a roll call asks, and gives to.
pub(super) struct Roll<'a> {
    pub(super) table: &'a mut Table,
    pub(super) pacing: &'a mut Pacing,
    pub(super) core: &'a mut Core,
}

impl Roll<'_> {
    fn steps(&mut self) -> Steps<'_> {
        Steps { table: self.table, pacing: self.pacing, core: self.core }
    }

    /// A home calls the roll: says what is held here and promises to obey no lower claim.
    pub(super) fn called(&mut self, from: NodeRun, roll: u64, claims: Vec<Claim>) {
        let core = &mut *self.core;
        // By another view the caller is not the home. Silence: it calls again, or its view changes.
        if !claims.iter().all(|claim| core.home(&claim.child) == Some(from.node)) {
            return;
        }
        let epoch = |claim: &Claim| Epoch { term: claim.term, attempt: 0 };
        if !claims.iter().all(|claim| core.is_possible(from.node, &claim.child, epoch(claim))) {
            return;
        }
        let mut holds = Vec::with_capacity(claims.len());
        for Claim { child, term } in claims {
            let owned = core.registry.highest_epoch(&child).term;
            // The home may not have heard of an owner yet that is here already: its term is another's.
            let promised = if owned >= term {
                Some(owned)
            } else {
                match core.promises.give(from, &child, term) {
                    Ok(promised) => promised,
                    Err(over) => return core.fault(from.node, Fault::Quota, || over.to_string()),
                }
            };
            // A call may come late, by another node: then nobody acts on the promise any more, and
            // nothing that this node hears of the child will end it.
            core.review_promise(&child);
            // After the promise: what is said to be held stays so until the home has decided.
            let (copy, epoch, born) = hold(self.table, &child);
            note_answer(core, self.table, &child, copy, term);
            holds.push(Held { child, term, promised, copy, epoch, born });
        }
        core.send(from.node, PeerMessage::Roll(RollWord::Answer { roll, holds }));
    }

    /// A roll call gave the child to this node: to be made of what it `holds`, as it has answered.
    /// Of a home to which it has not promised this very term it takes nothing.
    ///
    /// The promise stands until there is an owner of its term: a start may fail, and then what
    /// another node holds counts.
    pub(super) fn take(&mut self, home: NodeRun, ownership: Ownership, holds: Copy) {
        let child = ownership.spec.id().clone();
        let term = ownership.epoch.term;
        if self.core.registry.highest_epoch(&child) >= ownership.epoch {
            return;
        }
        // A node that is about to say Bye would answer for it and forget it.
        let can = !self.core.closing
            && self.core.promises.is_given(home, &child, term)
            && match holds {
                Copy::Live | Copy::Frozen => self.take_instance(&ownership),
                Copy::Ready => self.take_successor(ownership),
                Copy::Nothing => self.take_anew(ownership),
            };
        if !can {
            call_again(self.core, &child, term);
        }
    }

    /// Goes on with an actor that runs or is held. `false`: there is none.
    fn take_instance(&mut self, ownership: &Ownership) -> bool {
        let child = ownership.spec.id();
        let Some(instance) = self.table.instance(child) else {
            // What is being started is taken when it runs: the home says it again.
            let successor = self.table.successor(child);
            return successor.is_some_and(|s| s.stage() == TargetStage::Opening);
        };
        if instance.is_stopping() {
            // It is said again when there is nothing left.
            return true;
        }
        let held = instance.is_held();
        let why = match held {
            true => "the node went away and had not said that the successor ran",
            false => "a roll call has confirmed the child here",
        };
        self.steps().drop_move(child, why);
        let Some(instance) = self.table.instance_mut(child) else { return true };
        self.core.news.extend(instance.take_start());
        instance.stop_yielding(self.core);
        instance.confirm(ownership);
        self.core.write(child, Entry::Owned(instance.ownership().clone()));
        self.core.order(instance.go_on());
        if held && instance.has_actor() {
            let (child, epoch) = (child.clone(), ownership.epoch);
            self.core.recovered(child, epoch, true);
        }
        true
    }

    /// Opens a successor that stands ready. `false`: there is none.
    fn take_successor(&mut self, ownership: Ownership) -> bool {
        let child = ownership.spec.id().clone();
        let Some(successor) = self.table.successor_mut(&child) else { return false };
        match successor.stage() {
            TargetStage::Ready => {
                successor.recover(ownership);
                let (table, pacing, core) = (&mut *self.table, &mut *self.pacing, &mut *self.core);
                Target { table, pacing, core }.step(&child, &TargetInput::Taken);
                true
            }
            TargetStage::Opening => true,
            // It is tried again, at this epoch from now on.
            TargetStage::Kept | TargetStage::Rebuilding => {
                successor.recover(ownership);
                true
            }
            TargetStage::Accepted | TargetStage::Building => false,
        }
    }

    /// Begins from nothing. `false`: there is something here by now.
    fn take_anew(&mut self, ownership: Ownership) -> bool {
        let child = ownership.spec.id();
        if let Some(instance) = self.table.instance(child) {
            // It begins when nothing is left of the one that ends.
            return instance.is_stopping();
        }
        let stands = |stage| stage >= TargetStage::Ready;
        if self.table.successor(child).is_some_and(|successor| stands(successor.stage())) {
            return false;
        }
        let Ownership { spec, epoch, pinned, origin, .. } = ownership;
        let start = Start { spec, epoch, pinned, origin, stops: Vec::new() };
        self.steps().begin(start, Begin::Recovered);
        true
    }
}
