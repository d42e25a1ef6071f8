//! Steps that several machines take: an instance begins or is told to end, and a move's bookkeeping
//! ends.

use std::sync::Arc;

use super::{
    instance::Instance,
    lineage::supersede,
    moving::Move,
    pacing::Pacing,
    phase::{Begin, StopOrder},
    table::Table,
};
use crate::{
    engine::{
        core::{Core, News, Timer},
        io::ChildOrder,
    },
    model::{
        child::{ChildSpec, Entry, Epoch, Ownership, Role, TakenIn},
        event::HubEvent,
        id::{ChildId, NodeId, Origin},
        report::MigrateOutcome,
    },
};

/// The steps, and what they touch.
pub(super) struct Steps<'a> {
    pub(super) table: &'a mut Table,
    pub(super) pacing: &'a mut Pacing,
    pub(super) core: &'a mut Core,
}

/// What an instance begins from, besides the reason.
pub(super) struct Start {
    pub(super) spec: Arc<ChildSpec>,
    /// Above every other epoch of the child.
    pub(super) epoch: Epoch,
    pub(super) pinned: Option<NodeId>,
    pub(super) origin: Origin,
    /// Stops that were ordered before.
    pub(super) stops: Vec<StopOrder>,
}

impl Steps<'_> {
    /// Begins an instance from nothing. A successor in the making that it supersedes is discarded.
    pub(super) fn begin(&mut self, start: Start, why: Begin) {
        let Start { spec, epoch, pinned, origin, stops } = start;
        let child = spec.id().clone();
        let ownership = Ownership {
            epoch,
            born: epoch,
            copied: epoch,
            role: Role::Active,
            pinned,
            origin,
            taken: TakenIn::default(),
            failure: None,
            spec: spec.clone(),
        };
        let mut instance = Instance::starting(self.core, ownership.clone(), why);
        stops.into_iter().for_each(|stop| instance.add_stop(stop));
        if let Some(superseded) = self.table.put(child.clone(), instance) {
            supersede(self.core, child.clone(), &superseded);
        }
        self.core.write(&child, Entry::Owned(ownership));
        self.core.order(ChildOrder::Start { spec, epoch, origin: why.origin() });
        self.core.timer(self.core.config.settings.start_timeout, Timer::Start(child, epoch));
    }

    /// Stops an instance for good, whatever it is doing.
    pub(super) fn stop(&mut self, child: &ChildId) {
        self.drop_move(child, "the child is stopped");
        let Some(instance) = self.table.instance_mut(child) else { return };
        if instance.is_stopping() {
            return;
        }
        instance.stop();
        let epoch = instance.epoch();
        self.core.order(ChildOrder::Stop { child: child.clone(), epoch });
    }

    /// Gives a child of this node that was given up another try, once its first pause is over. By then
    /// it is known whether another owner has been met.
    pub(super) fn try_again(&mut self, child: &ChildId) {
        if let Some(instance) = self.table.instance_mut(child) {
            instance.try_again(self.core);
        }
    }

    /// Takes a move out of the counts. Its child is left as it was before: it runs, or waits for its
    /// next start.
    pub(super) fn end_move(&mut self, child: &ChildId) -> Option<Move> {
        let moving = self.table.instance_mut(child)?.end_move()?;
        self.pacing.ended(child, &moving);
        Some(moving)
    }

    /// Ends the bookkeeping of a move whose child is stopped or has ended, or that a roll call or
    /// another owner has overtaken.
    pub(super) fn drop_move(&mut self, child: &ChildId, why: &'static str) {
        let Some(mut moving) = self.end_move(child) else { return };
        let waiters = moving.take_waiters();
        self.core.emit(HubEvent::HandoverFailed {
            child: child.clone(),
            kind: moving.kind().clone(),
            to: moving.to().node,
            epoch: moving.epoch(),
            reason: why.to_owned(),
            may_have_run: moving.is_committed(),
            bytes: moving.bytes(),
            phases: moving.phases(self.core.now),
        });
        if !waiters.is_empty() {
            let (child, reason) = (child.clone(), why.to_owned());
            let outcome = MigrateOutcome::Failed { reason };
            self.core.news.push_back(News::Migrated { waiters, child, outcome });
        }
    }
}
