//! Children of this node that were stopped while it was away: each comes to rest, its state is parked, and
//! then it ends like any child that is stopped.

use std::time::Duration;

use super::{
    instance::Instance, pacing::Pacing, phase::Doing, steps::Steps, table::Table, target::Target,
};
use crate::{
    engine::{
        core::{Core, News, OtherHolder, Timer},
        handover::{TargetInput, TargetStage},
        io::{ChildOrder, FreezeFailure},
    },
    model::{
        child::{Entry, Epoch},
        id::ChildId,
        parked::ParkedKey,
    },
};

/// How often the state of one is tried that could not be parked.
const AGAIN: Duration = Duration::from_secs(2);

/// Why the state is parked.
const STOPPED: &str = "the child was stopped while its node was away";

/// What it takes to park what was stopped.
pub(super) struct Retire<'a> {
    pub(super) table: &'a mut Table,
    pub(super) pacing: &'a mut Pacing,
    pub(super) core: &'a mut Core,
}

impl Retire<'_> {
    /// A child was stopped while this node was away.
    pub(super) fn begin(&mut self, child: &ChildId) {
        if self.table.successor(child).is_some() && !self.ends_successor(child) {
            return;
        }
        self.steps().drop_move(child, STOPPED);
        let Some(instance) = self.table.instance_mut(child) else {
            let epoch = self.core.next_term(child);
            return self.core.write(child, Entry::Removed { epoch });
        };
        if instance.retires().is_some() {
            return;
        }
        instance.stop_yielding(self.core);
        if instance.doing() != Doing::Stopping {
            // The others know nothing of it, and settle: until it is parked somebody would start it anew, and
            // that one would end with it.
            instance.raise(self.core.next_term(child));
            self.core.write(child, Entry::Owned(instance.ownership().clone()));
        }
        match instance.doing() {
            Doing::Stopping => {}
            // There is no state that would be lost.
            Doing::Starting => self.steps().stop(child),
            _ => {
                let epoch = instance.begin_retiring();
                self.rest(child, epoch);
            }
        }
    }

    /// Parks a successor that stands ready, or drops one that has no state yet. `false`: its source speaks of
    /// it, or it is about to run.
    fn ends_successor(&mut self, child: &ChildId) -> bool {
        let Some(successor) = self.table.successor(child) else { return true };
        let is_opening = successor.stage() == TargetStage::Opening;
        if is_opening || self.core.is_live(successor.from()) {
            return false;
        }
        let holds_state = successor.holds_state();
        let (table, pacing, core) = (&mut *self.table, &mut *self.pacing, &mut *self.core);
        let mut target = Target { table, pacing, core };
        match holds_state {
            true => target.park(child, STOPPED),
            false => target.step(child, &TargetInput::Aborted),
        }
        true
    }

    /// Brings a child to rest that is to be parked, if it still is.
    pub(super) fn rest(&mut self, child: &ChildId, epoch: Epoch) {
        if self.is_retiring(child, epoch) {
            self.core.order(ChildOrder::Rest { child: child.clone(), epoch });
            self.core.timer(AGAIN, Timer::Rest(child.clone(), epoch));
        }
    }

    /// It is at rest, or could not be: its state is parked.
    pub(super) fn rested(
        &mut self,
        child: &ChildId,
        epoch: Epoch,
        outcome: &Result<u64, FreezeFailure>,
    ) {
        let Some(instance) = self.table.instance(child) else { return };
        if outcome.is_ok() && instance.retires() == Some(epoch) {
            let key = ParkedKey { child: child.clone(), run: self.core.me, epoch };
            let (kind, reason) = (instance.ownership().spec.kind().clone(), STOPPED.to_owned());
            self.core.news.push_back(News::Parks { key: key.clone(), other: OtherHolder::None });
            self.core.order(ChildOrder::ParkFrozen { key, kind, reason, at: None });
        }
    }

    /// A state is parked: if it is that of a child that was stopped, it ends.
    pub(super) fn parked(&mut self, key: &ParkedKey) {
        if key.run == self.core.me && self.is_retiring(&key.child, key.epoch) {
            self.steps().stop(&key.child);
        }
    }

    fn is_retiring(&self, child: &ChildId, epoch: Epoch) -> bool {
        self.table.instance(child).and_then(Instance::retires) == Some(epoch)
    }

    fn steps(&mut self) -> Steps<'_> {
        Steps { table: self.table, pacing: self.pacing, core: self.core }
    }
}
