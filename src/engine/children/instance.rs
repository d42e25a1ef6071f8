//! One actor of this node, and what it is doing.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    attempts::{Attempts, STAY_AFTER},
    immovable::Immovable,
    instances::Counted,
    moving::{Move, Wait},
    phase::{Answered, Begin, Doing, Life, Phase, StartOrder, StopOrder},
};
use crate::{
    engine::{
        backoff::Backoff,
        core::{Core, News, Timer},
        io::{ChildOrder, Exit, FreezeFailure},
        restart::{Decision, Restarts},
    },
    model::{
        child::{ChildFailure, ChildSpec, Epoch, Ownership, Taken, TakenIn},
        id::{NodeId, RequestId},
        member::ViewId,
        parked::ParkedKey,
    },
};

/// What is left to be said once an instance has stopped.
#[derive(Debug)]
pub(super) struct Stopped {
    pub(super) epoch: Epoch,
    pub(super) stops: Vec<StopOrder>,
    /// Who waits for a migration of it.
    pub(super) waiters: Option<Vec<(NodeId, RequestId)>>,
    /// Whether anybody was ever told that it ran.
    pub(super) was_refused: bool,
    pub(super) then: Option<StartOrder>,
}

/// An actor that this node owns, or has owned and still holds.
#[derive(Debug)]
pub(crate) struct Instance {
    ownership: Ownership,
    phase: Phase,
    /// The highest attempt number that was used in this term.
    burnt: u64,
    restarts: Restarts,
    backoff: Backoff,
    /// How often it was started again here, or is to be.
    restarted: u64,
    /// Its first start was refused: nobody was told that it ran.
    refused: bool,
    /// Since when it has been on this node.
    since: Instant,
    /// Who handed it over to this node, and at which epoch, if somebody did.
    came: Option<(NodeId, Epoch)>,
    attempts: Attempts,
    /// Whether its state could go, when that was last seen.
    immovable: Immovable,
    stops: Vec<StopOrder>,
    /// What a home ordered to be started when this one has ended.
    then: Option<StartOrder>,
    /// The latest roll call that was told of its frozen copy.
    answered: Option<Answered>,
}

/// What is known of it.
impl Instance {
    /// The ownership, as it was last written.
    pub(crate) fn ownership(&self) -> &Ownership {
        &self.ownership
    }

    /// Its epoch.
    pub(crate) fn epoch(&self) -> Epoch {
        self.ownership.epoch
    }

    /// How it is started from nothing.
    pub(crate) fn spec(&self) -> &Arc<ChildSpec> {
        &self.ownership.spec
    }

    /// What it is doing.
    pub(crate) fn phase(&self) -> &Phase {
        &self.phase
    }

    /// The same, as the table of two owners sees it.
    pub(crate) fn doing(&self) -> Doing {
        self.phase.doing()
    }

    /// The move that is under way.
    pub(crate) fn moving(&self) -> Option<&Move> {
        match &self.phase {
            Phase::Moving(moving) => Some(moving),
            _ => None,
        }
    }

    /// How often it was started again here, or is to be.
    pub(crate) fn restarted(&self) -> u64 {
        self.restarted
    }

    /// Since when it has been on this node.
    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    /// Who handed it over to this node, and at which epoch, if somebody did.
    pub(crate) fn came(&self) -> Option<(NodeId, Epoch)> {
        self.came
    }

    /// Why its state could not go, when that was last seen.
    pub(crate) fn immovable(&self) -> Option<&str> {
        self.immovable.reason()
    }

    /// What came of the attempts to move it.
    pub(crate) fn attempts(&self) -> &Attempts {
        &self.attempts
    }

    pub(super) fn attempts_mut(&mut self) -> &mut Attempts {
        &mut self.attempts
    }

    /// The epoch at which its state is offered to the owner that goes on, if it yields.
    pub(crate) fn offered(&self) -> Option<Epoch> {
        match self.phase {
            Phase::Yielding { offered, .. } => Some(offered),
            _ => None,
        }
    }

    /// The term of the latest roll call of this view that was told of its frozen copy; 0: none was.
    pub(super) fn answered(&self, view: ViewId) -> u64 {
        Answered::term_in(self.answered, view)
    }

    /// A roll call is told of its frozen copy.
    pub(super) fn note_answer(&mut self, answered: Answered) {
        Answered::note(&mut self.answered, answered);
    }

    /// Whether this node is the owner, as far as this instance knows.
    pub(crate) fn owns(&self) -> bool {
        !self.moving().is_some_and(Move::is_committed)
    }

    /// Whether it is a copy that another owner may make superfluous: frozen until that is known.
    pub(super) fn is_held(&self) -> bool {
        matches!(self.doing(), Doing::Committed | Doing::Yielding { .. })
    }

    /// Whether there is an actor, or one is being started: something that is lost with this node.
    pub(crate) fn has_actor(&self) -> bool {
        match &self.phase {
            Phase::Waiting(_) => false,
            Phase::Moving(moving) => moving.waits().is_none(),
            _ => true,
        }
    }

    /// Whether it is still to be handed over if this node is to be empty. What has no actor has
    /// nothing that would be lost.
    pub(crate) fn is_to_go(&self) -> bool {
        self.owns() && self.has_actor()
    }

    /// Whether it may be offered to another node: with its state, or to be started there.
    pub(crate) fn may_move(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Waiting(_))
    }

    /// Whether its actor runs, and nothing is being done with it.
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running)
    }

    /// Whether its actor is being stopped.
    pub(crate) fn is_stopping(&self) -> bool {
        matches!(self.phase, Phase::Stopping)
    }

    /// Whether a home has ordered it to stop.
    pub(super) fn is_to_stop(&self) -> bool {
        !self.stops.is_empty()
    }

    /// Whether there is a place for it elsewhere. Who could not make it may be able to later.
    pub(super) fn has_successor(&self, core: &Core) -> bool {
        let mut not = self.attempts.passed_over().lasting();
        // A node that is emptying is not among those that take children.
        if !core.emptying {
            not.insert(core.me.node);
        }
        core.belongs(&self.ownership, &not).is_some()
    }

    /// Where it belongs now, nodes that are passed over left out.
    pub(super) fn belongs(&self, core: &Core) -> Option<NodeId> {
        core.belongs(&self.ownership, self.attempts.passed_over().nodes())
    }

    /// What its door is told when it stays here, at a new epoch.
    pub(crate) fn go_on(&self) -> ChildOrder {
        let (child, epoch) = (self.ownership.spec.id().clone(), self.ownership.epoch);
        match self.phase {
            Phase::Waiting(_) if self.ownership.is_given_up() => {
                ChildOrder::GiveUp { child, epoch }
            }
            Phase::Waiting(_) => ChildOrder::Wait { child, epoch },
            _ => ChildOrder::Thaw { child, epoch },
        }
    }
}

/// How it begins, ends and begins again.
impl Instance {
    fn new(core: &Core, ownership: Ownership, phase: Phase) -> Self {
        let now = core.now;
        let mut backoff = backoff(core, &ownership.spec);
        if matches!(phase, Phase::Running) {
            backoff.runs(now);
        }
        Self {
            burnt: ownership.epoch.attempt,
            restarts: Restarts::new(ownership.spec.restart_intensity()),
            backoff,
            ownership,
            phase,
            restarted: 0,
            refused: false,
            since: now,
            came: None,
            attempts: Attempts::default(),
            immovable: Immovable::default(),
            stops: Vec::new(),
            then: None,
            answered: None,
        }
    }

    /// One that is being started at the epoch of its ownership.
    pub(super) fn starting(core: &Core, ownership: Ownership, why: Begin) -> Self {
        let ordered = ownership.epoch;
        Self::new(core, ownership, Phase::Starting { why, ordered })
    }

    /// A successor that runs. `came`: who handed it over, if somebody did.
    pub(super) fn opened(
        core: &Core,
        ownership: Ownership,
        came: Option<(NodeId, Epoch)>,
        stops: Vec<StopOrder>,
    ) -> Self {
        Self { came, stops, ..Self::new(core, ownership, Phase::Running) }
    }

    /// Its start has succeeded on this node. Tells whether it had failed before, which its entry is to
    /// say no more.
    pub(super) fn runs(&mut self, core: &Core) -> bool {
        self.phase = Phase::Running;
        self.backoff.runs(core.now);
        self.attempts.works(core.me.node);
        self.ownership.failure.take().is_some()
    }

    /// Its first start was refused.
    pub(super) fn refuse(&mut self) {
        self.refused = true;
    }

    /// It could not be started again, or not taken over.
    pub(super) fn could_not_start(&mut self, now: Instant) -> Decision {
        self.restarts.failed(now)
    }

    /// Its actor ended.
    pub(super) fn exited(&mut self, now: Instant, exit: &Exit) -> Decision {
        let rule = self.ownership.spec.restart_rule();
        self.restarts.ended(now, rule, exit)
    }

    /// Waits for its next start, from nothing. Gives the time until then.
    pub(super) fn wait(&mut self, core: &mut Core, reason: &str) -> Duration {
        self.begin_anew();
        self.restarted += 1;
        let failure = ChildFailure::new(reason, self.restarted, false);
        self.ownership.failure = Some(failure);
        self.wait_for_start(core)
    }

    /// Is not started again by itself: what comes next begins from nothing.
    pub(super) fn give_up(&mut self, reason: &str) {
        self.begin_anew();
        self.ownership.failure = Some(ChildFailure::new(reason, self.restarted, true));
        self.phase = Phase::Waiting(Wait { until: None });
    }

    fn wait_for_start(&mut self, core: &mut Core) -> Duration {
        let child = self.ownership.spec.id();
        let after = self.backoff.ended(core.now, child);
        self.phase = Phase::Waiting(Wait { until: Some(core.now + after) });
        core.timer(after, Timer::Restart(child.clone()));
        after
    }

    /// Whether it waits, and the time for its next start has come.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        matches!(self.phase, Phase::Waiting(Wait { until: Some(until) }) if until <= now)
    }

    /// Waits for its next start for another while.
    pub(super) fn postpone(&mut self, core: &mut Core) {
        self.phase = Phase::Waiting(Wait { until: Some(core.now + STAY_AFTER) });
        core.timer(STAY_AFTER, Timer::Restart(self.ownership.spec.id().clone()));
    }

    /// Is started again at the epoch that it has.
    pub(super) fn restart(&mut self) {
        let ordered = self.ownership.epoch;
        self.phase = Phase::Starting { why: Begin::Restart, ordered };
    }

    /// Is started by a home's order, after it was given up: as anew, at the order's epoch.
    pub(super) fn start_by_hand(&mut self, core: &Core, order: &StartOrder) {
        let epoch = order.epoch;
        self.raise(epoch);
        let own = &mut self.ownership;
        (own.born, own.copied, own.origin) = (epoch, epoch, order.origin);
        own.spec = order.spec.clone();
        own.taken = TakenIn::default();
        self.forgive(core);
        self.phase = Phase::Starting { why: Begin::Again(order.home), ordered: epoch };
    }

    /// Gets another try if it was given up, once its first pause is over.
    pub(super) fn try_again(&mut self, core: &mut Core) {
        if matches!(self.phase, Phase::Waiting(Wait { until: None })) {
            self.forgive(core);
            self.wait_for_start(core);
        }
    }

    /// The state is gone: whatever comes next begins from nothing, at an epoch of its own.
    fn begin_anew(&mut self) {
        let epoch = self.burn();
        let own = &mut self.ownership;
        (own.epoch, own.born, own.copied) = (epoch, epoch, epoch);
        own.taken = TakenIn::default();
        self.immovable = Immovable::default();
    }

    /// What was counted of its failures is void.
    fn forgive(&mut self, core: &Core) {
        self.restarts = Restarts::new(self.ownership.spec.restart_intensity());
        self.backoff = backoff(core, &self.ownership.spec);
    }

    /// A home orders it to stop, perhaps once more.
    pub(super) fn add_stop(&mut self, stop: StopOrder) {
        if !self.stops.contains(&stop) {
            self.stops.push(stop);
        }
    }

    /// A home orders a start that waits until nothing is left of this one, or its move has ended.
    pub(super) fn start_after(&mut self, order: StartOrder) {
        self.then = Some(order);
    }

    /// Whether a start waits.
    #[cfg(test)]
    pub(crate) fn starts_later(&self) -> bool {
        self.then.is_some()
    }

    /// The start that waits, which is carried out now.
    pub(super) fn take_start(&mut self) -> Option<News> {
        let StartOrder { home, spec, epoch, origin } = self.then.take()?;
        Some(News::StartNow { home, spec, epoch, origin })
    }

    /// Its actor is being stopped.
    pub(super) fn stop(&mut self) {
        self.phase = Phase::Stopping;
    }

    /// Nothing is left of it.
    pub(super) fn into_stopped(mut self) -> Stopped {
        Stopped {
            epoch: self.ownership.epoch,
            stops: self.stops,
            waiters: self.attempts.take_wanted().map(|wanted| wanted.waiters),
            was_refused: self.refused,
            then: self.then,
        }
    }
}

/// Its epochs, and what its entry says.
impl Instance {
    /// Burns an attempt number: the epoch of the next attempt, abort or restart.
    pub(super) fn burn(&mut self) -> Epoch {
        self.burnt = self.burnt.saturating_add(1);
        Epoch { term: self.ownership.epoch.term, attempt: self.burnt }
    }

    /// Takes on another epoch, from which attempts count on. What was ordered before is awaited as
    /// ever: the phase keeps the epoch that its answer names.
    pub(super) fn raise(&mut self, epoch: Epoch) {
        self.ownership.epoch = epoch;
        self.burnt = epoch.attempt;
    }

    /// Goes on at the next epoch that nothing of this term has had.
    pub(crate) fn raise_attempt(&mut self) {
        let epoch = self.burn();
        self.raise(epoch);
    }

    /// A roll call has confirmed it here, as this ownership says.
    pub(super) fn confirm(&mut self, ownership: &Ownership) {
        self.raise(ownership.epoch);
        self.ownership.copied = ownership.copied;
        self.ownership.pinned = ownership.pinned;
    }

    /// Is bound to a node. `false`: it was already.
    pub(super) fn pin(&mut self, node: NodeId) -> bool {
        self.ownership.pinned.replace(node) != Some(node)
    }

    /// Is bound to no node any more. `false`: it was bound to none.
    pub(super) fn unpin(&mut self) -> bool {
        self.ownership.pinned.take().is_some()
    }

    /// The state of another owner is in it, or kept, and so are those that were in that one.
    pub(super) fn take_in(&mut self, taken: Taken, with: &TakenIn) {
        self.ownership.taken.add(taken, with);
    }
}

/// Its moves.
impl Instance {
    /// A move is offered.
    pub(super) fn begin_move(&mut self, moving: Move) {
        self.phase = Phase::Moving(Box::new(moving));
    }

    pub(super) fn moving_mut(&mut self) -> Option<&mut Move> {
        match &mut self.phase {
            Phase::Moving(moving) => Some(moving),
            _ => None,
        }
    }

    /// Its move is over, one way or the other. It is as before: it runs, or waits for its next start.
    pub(super) fn end_move(&mut self) -> Option<Move> {
        match std::mem::replace(&mut self.phase, Phase::Running) {
            Phase::Moving(moving) => {
                if let Some(wait) = moving.waits() {
                    self.phase = Phase::Waiting(wait);
                }
                Some(*moving)
            }
            other => {
                self.phase = other;
                None
            }
        }
    }

    /// Its state was encoded, or could not be. Gives the reason if that is news.
    pub(super) fn note_state(&mut self, outcome: &Result<u64, FreezeFailure>) -> Option<String> {
        self.immovable.note(outcome)
    }
}

/// How it gives way to another owner.
impl Instance {
    /// Freezes, and offers its state to this life. Gives the epoch at which it does.
    pub(super) fn begin_yielding(&mut self, to: Life) -> Epoch {
        let offered = self.ownership.epoch;
        self.phase = Phase::Yielding { to, offered };
        offered
    }

    /// Offers its state to another life, under the same name.
    pub(super) fn yield_to(&mut self, life: Life) {
        if let Phase::Yielding { to, .. } = &mut self.phase {
            *to = life;
        }
    }

    /// It was stopped while this node was away: its state is to be parked. Gives the epoch under which.
    pub(super) fn begin_retiring(&mut self) -> Epoch {
        let epoch = self.ownership.epoch;
        self.phase = Phase::Retiring { epoch };
        epoch
    }

    /// The epoch under which its state is parked, if it was stopped while this node was away.
    pub(super) fn retires(&self) -> Option<Epoch> {
        match self.phase {
            Phase::Retiring { epoch } => Some(epoch),
            _ => None,
        }
    }

    /// Its state is not offered to another owner any more, nor parked.
    pub(super) fn stop_yielding(&mut self, core: &mut Core) {
        if let Some(epoch) = self.offered().or(self.retires()) {
            self.phase = Phase::Running;
            let child = self.ownership.spec.id().clone();
            let key = ParkedKey { child, run: core.me, epoch };
            core.news.push_back(News::TakenBack { key });
        }
    }
}

impl Counted for Instance {
    fn is_to_hand_over(&self) -> bool {
        self.is_to_go()
    }

    fn is_waiting(&self) -> bool {
        matches!(self.phase, Phase::Waiting(_))
    }

    fn is_moving(&self) -> bool {
        matches!(self.phase, Phase::Moving(_))
    }
}

fn backoff(core: &Core, spec: &ChildSpec) -> Backoff {
    Backoff::new(spec.restart_pauses().unwrap_or(core.config.settings.restart_pauses))
}
