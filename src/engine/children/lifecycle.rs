//! Actors of this node: started, started again, stopped, ended.

use super::{
    instance::Instance,
    merges::Merges,
    merging,
    moving::Wait,
    pacing::Pacing,
    phase::{Begin, Phase, StartOrder, StopOrder},
    steps::{Start, Steps},
    table::Table,
};
use crate::{
    engine::{
        core::{Core, News, Timer},
        io::{ChildOrder, Exit},
        restart::Decision,
    },
    model::{
        child::{Entry, Epoch, Ownership},
        event::HubEvent,
        id::{ChildId, NodeId, Origin},
        report::{MigrateOutcome, StartFailed, StartOutcome, StopOutcome},
        words::brief,
    },
};

/// It was given up.
const GIVEN_UP: Wait = Wait { until: None };

/// The outcome of a start of a child that has an owner, for the request that asks.
pub(crate) fn begun(node: NodeId, ownership: &Ownership, asked: Origin) -> StartOutcome {
    let epoch = ownership.epoch;
    match ownership.origin == asked {
        true => StartOutcome::Started { node, epoch },
        false => StartOutcome::Exists { node, epoch },
    }
}

/// What orders of homes and reports of the runtime do to the actors of this node.
pub(super) struct Lifecycle<'a> {
    pub(super) table: &'a mut Table,
    pub(super) pacing: &'a mut Pacing,
    pub(super) merges: &'a mut Merges,
    pub(super) core: &'a mut Core,
}

/// Starts.
impl Lifecycle<'_> {
    fn steps(&mut self) -> Steps<'_> {
        Steps { table: self.table, pacing: self.pacing, core: self.core }
    }

    /// Tells a home how the start ended that it has ordered.
    fn answer(&mut self, order: &StartOrder, outcome: StartOutcome) {
        let (home, child, epoch) = (order.home, order.spec.id().clone(), order.epoch);
        self.core.news.push_back(News::Ran { home, child, epoch, outcome });
    }

    fn refuse(&mut self, order: &StartOrder, reason: StartFailed) {
        self.answer(order, StartOutcome::Failed { reason });
    }

    /// A home orders a start.
    pub(super) fn run(&mut self, order: StartOrder) {
        match self.table.instance(order.spec.id()) {
            Some(_) => self.run_again(order),
            None => self.run_anew(order),
        }
    }

    /// A home orders the start of a child that is here.
    fn run_again(&mut self, order: StartOrder) {
        let (child, epoch) = (order.spec.id().clone(), order.epoch);
        let Some(instance) = self.table.instance(&child) else { return };
        let at = instance.epoch();
        match instance.phase() {
            // The order was repeated; its answer comes when the start has ended.
            Phase::Starting { why: Begin::Ordered(_) | Begin::Again(_), ordered }
                if *ordered == epoch => {}
            Phase::Waiting(_) if instance.ownership().is_given_up() && at < epoch => {
                self.start_by_hand(order);
            }
            // It is handed over without an actor.
            Phase::Moving(moving) if moving.waits() == Some(GIVEN_UP) && at < epoch => {
                let is_committed = moving.is_committed();
                if !is_committed {
                    self.steps().drop_move(&child, "the child is started by hand");
                    return self.start_by_hand(order);
                }
                // Its new owner starts it; if it cannot, it is started here.
                if let Some(instance) = self.table.instance_mut(&child) {
                    instance.start_after(order);
                }
            }
            // The order was repeated, and what it started has failed meanwhile.
            Phase::Waiting(_) if instance.ownership().is_given_up() => {
                let failure = instance.ownership().failure.as_ref();
                let reason = failure.map(|failure| failure.reason().to_owned());
                let reason = StartFailed::Refused { reason: reason.unwrap_or_default() };
                self.refuse(&order, reason);
            }
            // It begins when nothing is left of the one that ends.
            Phase::Stopping if at < epoch => {
                if let Some(instance) = self.table.instance_mut(&child) {
                    instance.start_after(order);
                }
            }
            _ => {
                let outcome = begun(self.core.me.node, instance.ownership(), order.origin);
                self.answer(&order, outcome);
            }
        }
    }

    /// A home orders the start of a child that is not here.
    fn run_anew(&mut self, order: StartOrder) {
        let (child, epoch) = (order.spec.id(), order.epoch);
        let owner = self.core.registry.owner(child);
        if self.core.registry.highest_epoch(child) >= epoch {
            let outcome = match owner {
                Some((run, ownership)) => begun(run.node, ownership, order.origin),
                None => StartOutcome::Failed { reason: StartFailed::Timeout { waits_for: None } },
            };
            return self.answer(&order, outcome);
        }
        // The order is older than the owner's latest move, which raised its attempt and no term: its
        // home thought that nobody had the child, or that one had it that was given up. Had it been
        // removed meanwhile, that were a term between.
        if let Some((run, ownership)) = owner
            && run != self.core.me
            && self.core.is_live(run)
            && ownership.epoch.term.saturating_add(1) == epoch.term
        {
            let outcome = begun(run.node, ownership, order.origin);
            return self.answer(&order, outcome);
        }
        if let Some(reason) = self.cannot_start(&order) {
            return self.refuse(&order, reason);
        }
        let StartOrder { home, spec, epoch, origin } = order;
        let start = Start { spec, epoch, pinned: None, origin, stops: Vec::new() };
        self.steps().begin(start, Begin::Ordered(home));
    }

    /// Why this node starts nothing that it is ordered to.
    fn cannot_start(&self, order: &StartOrder) -> Option<StartFailed> {
        if !self.core.config.kinds.contains_key(order.spec.kind()) {
            return Some(StartFailed::UnknownKind { node: self.core.me.node });
        }
        self.core.emptying.then_some(StartFailed::Leaving)
    }

    /// Starts a child of this node that was given up, as a home orders.
    fn start_by_hand(&mut self, order: StartOrder) {
        if let Some(reason) = self.cannot_start(&order) {
            return self.refuse(&order, reason);
        }
        let child = order.spec.id().clone();
        let Some(instance) = self.table.instance_mut(&child) else { return };
        instance.start_by_hand(self.core, &order);
        let StartOrder { home, spec, epoch, .. } = order;
        self.core.write(&child, Entry::Owned(instance.ownership().clone()));
        let origin = Begin::Again(home).origin();
        self.core.order(ChildOrder::Start { spec, epoch, origin });
        self.core.timer(self.core.config.settings.start_timeout, Timer::Start(child, epoch));
    }

    /// A start has ended, one way or the other.
    pub(super) fn started(&mut self, child: &ChildId, epoch: Epoch, outcome: Result<(), String>) {
        let Some(instance) = self.table.instance(child) else { return };
        let Phase::Starting { why, ordered } = *instance.phase() else { return };
        if ordered != epoch {
            return;
        }
        match outcome {
            Ok(()) => self.runs(child, epoch, why),
            Err(reason) => self.did_not_start(child, epoch, why, reason),
        }
    }

    fn ran(&mut self, home: NodeId, child: &ChildId, epoch: Epoch, outcome: StartOutcome) {
        let child = child.clone();
        self.core.news.push_back(News::Ran { home, child, epoch, outcome });
    }

    fn runs(&mut self, child: &ChildId, ordered: Epoch, why: Begin) {
        let Some(instance) = self.table.instance_mut(child) else { return };
        let had_failed = instance.runs(self.core);
        if had_failed {
            self.core.write(child, Entry::Owned(instance.ownership().clone()));
        }
        let (node, epoch) = (self.core.me.node, instance.epoch());
        let is_to_stop = instance.is_to_stop();
        match why {
            Begin::Ordered(home) | Begin::Again(home) => {
                let kind = instance.spec().kind().clone();
                self.core.emit(HubEvent::ChildStarted { child: child.clone(), kind, epoch });
                self.ran(home, child, ordered, StartOutcome::Started { node, epoch });
            }
            Begin::Recovered => {
                self.core.recovered(child.clone(), epoch, false);
            }
            Begin::Restart => {}
        }
        // A stop that was ordered while it started waited for this: what is half started cannot be
        // told to stop.
        if is_to_stop {
            self.steps().stop(child);
        } else {
            self.core.news.push_back(News::Changed { child: child.clone() });
        }
    }

    fn did_not_start(&mut self, child: &ChildId, ordered: Epoch, why: Begin, reason: String) {
        let now = self.core.now;
        let Some(instance) = self.table.instance_mut(child) else { return };
        match why {
            Begin::Ordered(home) => {
                instance.refuse();
                let epoch = instance.epoch().next_term();
                // The removal is written before the answer: whoever asks again finds no trace.
                self.core.write(child, Entry::Removed { epoch });
                let reason = StartFailed::Refused { reason };
                self.ran(home, child, ordered, StartOutcome::Failed { reason });
                self.steps().stop(child);
            }
            Begin::Again(home) => {
                let refused = StartFailed::Refused { reason: reason.clone() };
                self.ran(home, child, ordered, StartOutcome::Failed { reason: refused });
                self.failed(child, Decision::GiveUp, reason);
            }
            Begin::Restart | Begin::Recovered => {
                let decision = instance.could_not_start(now);
                // Another node may be able to.
                let node = self.core.me.node;
                instance.attempts_mut().pass_over(self.core, child, node);
                self.failed(child, decision, format!("it could not start: {reason}"));
            }
        }
    }

    /// A start was not answered in time.
    pub(super) fn start_expired(&mut self, child: &ChildId, epoch: Epoch) {
        let timeout = self.core.config.settings.start_timeout;
        self.started(child, epoch, Err(format!("it did not start within {timeout:?}")));
    }

    /// Starts a child that has waited long enough.
    pub(super) fn start_again(&mut self, child: &ChildId) {
        let core = &mut *self.core;
        let Some(instance) = self.table.instance(child) else { return };
        if !instance.is_due(core.now) {
            return;
        }
        let goes = core.closing || core.emptying && instance.has_successor(core);
        let Some(instance) = self.table.instance_mut(child) else { return };
        if goes {
            // It is started where it goes, or by its home when this node is gone.
            return instance.postpone(core);
        }
        instance.restart();
        let (spec, epoch) = (instance.spec().clone(), instance.epoch());
        core.order(ChildOrder::Start { spec, epoch, origin: Begin::Restart.origin() });
        core.timer(core.config.settings.start_timeout, Timer::Start(child.clone(), epoch));
    }
}

/// Ends.
impl Lifecycle<'_> {
    /// A child of this node ended, or could not start: it waits for its next start, or is given up.
    /// Its node goes on owning it, so that messages wait here and nobody takes it for an orphan.
    fn failed(&mut self, child: &ChildId, decision: Decision, reason: String) {
        merging::forget(self.merges, self.core, child);
        let Some(instance) = self.table.instance_mut(child) else { return };
        if instance.is_to_stop() || decision == Decision::Leave {
            return self.steps().stop(child);
        }
        // A library or a user's code may have said it.
        let reason = brief(reason);
        if decision == Decision::GiveUp {
            instance.give_up(&reason);
            self.core.emit(HubEvent::ChildGivenUp { child: child.clone(), reason });
        } else {
            let after = instance.wait(self.core, &reason);
            let (child, restarts) = (child.clone(), instance.restarted());
            self.core.emit(HubEvent::ChildRestarted { child, reason, restarts, after });
        }
        self.core.write(child, Entry::Owned(instance.ownership().clone()));
        self.core.order(instance.go_on());
        self.core.news.push_back(News::Changed { child: child.clone() });
    }

    /// A home orders a stop.
    pub(super) fn halt(&mut self, home: NodeId, child: &ChildId, epoch: Epoch) {
        let stop = StopOrder { home, epoch };
        if let Some(successor) = self.table.successor_mut(child) {
            return successor.add_stop(stop);
        }
        let Some(instance) = self.table.instance_mut(child) else {
            if self.core.registry.owner(child).is_none() {
                let (child, outcome) = (child.clone(), StopOutcome::NotFound);
                self.core.news.push_back(News::Halted { home, child, epoch, outcome });
            }
            return;
        };
        if !instance.owns() {
            return;
        }
        instance.add_stop(stop);
        if !matches!(instance.phase(), Phase::Starting { .. } | Phase::Stopping) {
            self.steps().stop(child);
        }
    }

    /// Forgets an instance whose actor ends or has ended.
    fn remove(&mut self, child: &ChildId) -> Option<Instance> {
        merging::forget(self.merges, self.core, child);
        self.table.remove(child)
    }

    /// Nothing is left of an instance that was to stop.
    pub(super) fn stopped(&mut self, child: &ChildId) {
        if !self.table.instance(child).is_some_and(Instance::is_stopping) {
            return;
        }
        let Some(instance) = self.remove(child) else { return };
        let stopped = instance.into_stopped();
        let core = &mut *self.core;
        let asked = stopped.stops.iter().map(|stop| stop.epoch).max().unwrap_or(Epoch::ZERO);
        let owner = core.registry.owner(child);
        let removed = owner.is_none();
        let elsewhere = owner
            .is_some_and(|(run, ownership)| run != core.me && ownership.epoch >= stopped.epoch);
        if !removed && !elsewhere {
            let epoch = asked.max(core.next_term(child));
            core.write(child, Entry::Removed { epoch });
        }
        if let Some(waiters) = stopped.waiters.filter(|_| !elsewhere) {
            let (child, outcome) = (child.clone(), MigrateOutcome::NotFound);
            core.news.push_back(News::Migrated { waiters, child, outcome });
        }
        let outcome = StopOutcome::Stopped { node: core.me.node };
        for StopOrder { home, epoch } in stopped.stops {
            let (child, outcome) = (child.clone(), outcome.clone());
            core.news.push_back(News::Halted { home, child, epoch, outcome });
        }
        if !elsewhere && !stopped.was_refused {
            core.emit(HubEvent::ChildStopped { child: child.clone() });
        }
        core.news.push_back(News::Changed { child: child.clone() });
        if let Some(order) = stopped.then {
            self.run(order);
        }
    }

    /// The actor ended unasked.
    pub(super) fn exited(&mut self, child: &ChildId, epoch: Epoch, exit: &Exit) {
        let Some(instance) = self.table.instance(child) else { return };
        let ends = instance.is_stopping() || !instance.has_actor();
        // A report of a later epoch is not about the actor that this node knows.
        if ends || instance.epoch() < epoch {
            return;
        }
        if instance.retires().is_some() {
            return self.steps().stop(child);
        }
        if !instance.owns() {
            // The copy that was kept for the successor's sake is lost.
            self.steps().drop_move(child, "the actor kept until the successor ran has ended");
            self.remove(child);
            return;
        }
        self.steps().drop_move(child, "the child ended");
        let now = self.core.now;
        let Some(instance) = self.table.instance_mut(child) else { return };
        let reason = match exit {
            Exit::Stopped => "it stopped itself".to_owned(),
            Exit::Panicked { message } => format!("it panicked: {message}"),
        };
        let decision = instance.exited(now, exit);
        self.failed(child, decision, reason);
    }
}
