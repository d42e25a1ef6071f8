//! The children on this node: started, stopped, restarted; and what else is held of a child.
//!
//! An *instance* is an actor that this node owns, or has owned and still holds. A *target* is a
//! successor in the making. A node never has both for one child.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
    time::{Duration, Instant},
};

pub(crate) mod divergence;
mod heal;
mod immovable;
mod instances;
pub(crate) mod left;
pub(crate) mod merges;
pub(crate) mod moves;
mod passed_over;
mod turns;

use self::{
    divergence::{Doing, Life},
    immovable::Immovable,
    instances::{Counted, Instances},
    merges::Merges,
    passed_over::PassedOver,
    turns::Turns,
};
use super::{
    backoff::Backoff,
    core::{Core, Fault, News, Timer},
    handover::{SourceStage, TargetStage},
    io::{ChildOrder, Exit},
    restart::{Decision, Restarts},
};
use crate::model::{
    child::{ChildFailure, ChildOrigin, ChildSpec, Entry, Epoch, Ownership, Role, TakenIn},
    event::{HandoverPhases, HubEvent},
    id::{ChildId, NodeId, NodeRun, Origin, RequestId},
    message::{Claim, Copy, Held, PeerMessage, RollWord},
    parked::ParkedKey,
    report::{MigrateOutcome, StartFailed, StartOutcome, StopOutcome},
    words::brief,
};

/// The outcome of a start of a child that has an owner, for the request that asks.
pub(crate) fn begun(node: NodeId, ownership: &Ownership, asked: Origin) -> StartOutcome {
    let epoch = ownership.epoch;
    match ownership.origin == asked {
        true => StartOutcome::Started { node, epoch },
        false => StartOutcome::Exists { node, epoch },
    }
}

/// Why an instance begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// A home ordered it.
    Ordered(NodeId),
    /// A home ordered it, and it had been given up.
    Again(NodeId),
    /// It ended and is started again.
    Restart,
    /// Nothing was left of it anywhere.
    Recovered,
}

impl Begin {
    /// The same, as the actor is told.
    fn origin(self) -> ChildOrigin {
        match self {
            Self::Ordered(_) | Self::Again(_) => ChildOrigin::Fresh,
            Self::Restart => ChildOrigin::Restarted,
            Self::Recovered => ChildOrigin::TakenOver,
        }
    }
}

/// A move under way, at its source.
#[derive(Clone, Debug)]
pub(crate) struct Move {
    pub(crate) to: NodeRun,
    /// As the successor will have it.
    pub(crate) ownership: Ownership,
    pub(crate) stage: SourceStage,
    /// When each stage began.
    pub(crate) entered: BTreeMap<SourceStage, Instant>,
    pub(crate) with_state: bool,
    pub(crate) forced: bool,
    pub(crate) started: Instant,
    pub(crate) bytes: u64,
    /// Ready came before the state was on its way, as none is needed.
    pub(crate) ready: bool,
    pub(crate) waiters: Vec<(NodeId, RequestId)>,
    /// There is no actor to be handed over: this one waits for its next start, should the move fail.
    pub(crate) waits: Option<Wait>,
}

impl Move {
    /// How long each phase took until `now`.
    pub(crate) fn phases(&self, now: Instant) -> HandoverPhases {
        let took = |stage: SourceStage| {
            let begun = self.entered.get(&stage)?;
            let ended = self.entered.range((Excluded(stage), Unbounded)).next();
            Some(ended.map_or(now, |(_, at)| *at).saturating_duration_since(*begun))
        };
        HandoverPhases {
            offer: took(SourceStage::Offered),
            freeze: took(SourceStage::Freezing),
            wait: took(SourceStage::Frozen),
            transfer: took(SourceStage::Sent),
            open: took(SourceStage::Committed),
        }
    }
}

/// An owner without an actor waits for its next start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    /// When it is started. `None`: it was given up, until something changes.
    pub(crate) until: Option<Instant>,
}

/// What an instance is doing.
///
/// Answers are matched by the epoch at which they were asked for, which the phase keeps: the epoch
/// of the ownership may be raised meanwhile.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    Starting {
        why: Begin,
        /// The epoch that the runtime's answer will name.
        ordered: Epoch,
    },
    Running,
    /// There is no actor: it ended, or could not start. The ownership says why.
    Waiting(Wait),
    Moving(Box<Move>),
    Stopping,
    /// It lost a divergence and offers its state to the owner that goes on.
    Yielding {
        to: Life,
        /// The epoch that the answer will name.
        offered: Epoch,
    },
}

impl Phase {
    /// As the table of two owners sees it.
    pub(crate) fn doing(&self) -> Doing {
        match self {
            Self::Starting { .. } | Self::Waiting(_) => Doing::Starting,
            Self::Running => Doing::Running,
            Self::Moving(moving) if moving.stage == SourceStage::Committed => Doing::Committed,
            Self::Moving(_) => Doing::Moving,
            Self::Stopping => Doing::Stopping,
            Self::Yielding { to, .. } => Doing::Yielding { to: *to },
        }
    }
}

/// Until when a child whose move failed is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Until [`Timer::Retry`].
    Retry,
    /// Until the view changes, or somebody asks for another move.
    View,
}

/// How a move failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// Where the child should have gone.
    pub(crate) to: NodeId,
    /// At most about 1,000 bytes.
    pub(crate) reason: String,
}

/// A migration that somebody asked for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) to: NodeId,
    pub(crate) forced: bool,
    pub(crate) waiters: Vec<(NodeId, RequestId)>,
}

/// An actor that this node owns, or has owned and still holds.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) ownership: Ownership,
    pub(crate) phase: Phase,
    /// The highest attempt number that was used in this term.
    pub(crate) burnt: u64,
    restarts: Restarts,
    backoff: Backoff,
    /// How often it was started again here, or is to be.
    pub(crate) restarted: u64,
    /// Its first start was refused: nobody was told that it ran.
    pub(crate) refused: bool,
    /// Since when it has been on this node.
    pub(crate) since: Instant,
    /// Who handed it over to this node, and at which epoch, if somebody did.
    pub(crate) came: Option<(NodeId, Epoch)>,
    /// Moves that failed since the view last changed.
    pub(crate) retries: u32,
    /// Its last move failed.
    pub(crate) rest: Option<Rest>,
    /// How the last move failed that did, since the child came to this node.
    pub(crate) trouble: Option<Trouble>,
    /// Whether its state could go, when that was last seen.
    pub(crate) immovable: Immovable,
    /// Nodes that refused it, or could not make it; this one, too, if it could not start it.
    pub(crate) not: PassedOver,
    pub(crate) halts: Vec<(NodeId, Epoch)>,
    pub(crate) wanted: Option<Wanted>,
    /// What a home ordered to be started when this one has ended.
    pub(crate) then: Option<(NodeId, Arc<ChildSpec>, Epoch, Origin)>,
}

impl Instance {
    pub(crate) fn new(core: &Core, ownership: Ownership, phase: Phase) -> Self {
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
            retries: 0,
            rest: None,
            trouble: None,
            immovable: Immovable::default(),
            not: PassedOver::default(),
            halts: Vec::new(),
            wanted: None,
            then: None,
        }
    }

    /// Burns an attempt number: the epoch of the next attempt, abort or restart.
    pub(crate) fn burn(&mut self) -> Epoch {
        self.burnt = self.burnt.saturating_add(1);
        Epoch { term: self.ownership.epoch.term, attempt: self.burnt }
    }

    /// Takes on another epoch, from which attempts count on. What was ordered before is awaited as
    /// ever: the phase keeps the epoch that its answer names.
    pub(crate) fn raise(&mut self, epoch: Epoch) {
        self.ownership.epoch = epoch;
        self.burnt = epoch.attempt;
    }

    /// Whether this node is the owner, as far as this instance knows.
    pub(crate) fn owns(&self) -> bool {
        !matches!(&self.phase, Phase::Moving(moving) if moving.stage == SourceStage::Committed)
    }

    /// Whether there is an actor, or one is being started: something that is lost with this node.
    pub(crate) fn has_actor(&self) -> bool {
        match &self.phase {
            Phase::Waiting(_) => false,
            Phase::Moving(moving) => moving.waits.is_none(),
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

    /// Its state is not offered to another owner any more.
    pub(crate) fn stop_yielding(&mut self, core: &mut Core) {
        if let Phase::Yielding { offered, .. } = self.phase {
            self.phase = Phase::Running;
            let child = self.ownership.spec.id().clone();
            let key = ParkedKey { child, run: core.me, epoch: offered };
            core.news.push_back(News::TakenBack { key });
        }
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

    /// The state is gone: whatever comes next begins from nothing, at an epoch of its own.
    fn begin_anew(&mut self) {
        let epoch = self.burn();
        let own = &mut self.ownership;
        (own.epoch, own.born, own.copied) = (epoch, epoch, epoch);
        own.taken = TakenIn::default();
        self.immovable = Immovable::default();
    }

    /// This node could not make the child: it goes to others first, for a while.
    pub(crate) fn pass_over(&mut self, core: &mut Core, node: NodeId) {
        let settings = &core.config.settings;
        let first = if core.emptying { STAY_AFTER } else { settings.pass_over };
        self.not.failed(core.now, node, first);
        self.look_again(core);
    }

    /// A timer runs for the first of those that are passed over, and for no other.
    pub(crate) fn look_again(&mut self, core: &mut Core) {
        if let Some(wait) = self.not.arm(core.now) {
            core.timer(wait, Timer::PassedOver(self.ownership.spec.id().clone()));
        }
    }

    /// What was counted of its failures is void.
    fn forgive(&mut self, core: &Core) {
        self.restarts = Restarts::new(self.ownership.spec.restart_intensity());
        self.backoff = backoff(core, &self.ownership.spec);
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

/// A successor in the making.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) from: NodeRun,
    /// The attempt's epoch: that of the offer.
    pub(crate) attempt: Epoch,
    /// The epoch of the owner whose state comes.
    pub(crate) state: Epoch,
    /// As this node will have it.
    pub(crate) ownership: Ownership,
    pub(crate) with_state: bool,
    pub(crate) stage: TargetStage,
    pub(crate) recovered: bool,
    pub(crate) halts: Vec<(NodeId, Epoch)>,
}

/// How long a child that would be started again waits on while its node is emptying; and how long a node
/// is passed over then, at first.
const STAY_AFTER: Duration = Duration::from_secs(1);

/// The children on this node.
#[derive(Debug, Default)]
pub(crate) struct Children {
    pub(crate) instances: Instances<Instance>,
    pub(crate) targets: BTreeMap<ChildId, Target>,
    /// Children that are to move.
    pub(crate) turns: Turns,
    /// Those that had their turn when no state could go to this run.
    pub(crate) without_way: BTreeMap<NodeRun, BTreeSet<ChildId>>,
    /// States that others offered and that are not answered.
    pub(crate) merges: Merges,
    pub(crate) moving: usize,
    pub(crate) allowed: usize,
    pub(crate) bytes_moving: u64,
    pub(crate) room: VecDeque<ChildId>,
}

impl Children {
    /// Whether nothing is left on this node that would be lost with it.
    pub(crate) fn is_empty(&self) -> bool {
        // When this node is gone, the homes of those without an actor start them elsewhere.
        self.instances.is_spent() && self.targets.is_empty()
    }

    /// Begins an instance from nothing, at an epoch that is above every other.
    pub(crate) fn begin(
        &mut self,
        core: &mut Core,
        spec: Arc<ChildSpec>,
        epoch: Epoch,
        pinned: Option<NodeId>,
        origin: Origin,
        why: Begin,
    ) {
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
        core.write(&child, Entry::Owned(ownership.clone()));
        let phase = Phase::Starting { why, ordered: epoch };
        self.instances.insert(child.clone(), Instance::new(core, ownership, phase));
        core.order(ChildOrder::Start { spec, epoch, origin: why.origin() });
        core.timer(core.config.settings.start_timeout, Timer::Start(child, epoch));
    }

    /// A home orders a start.
    pub(crate) fn run(
        &mut self,
        core: &mut Core,
        home: NodeId,
        spec: Arc<ChildSpec>,
        epoch: Epoch,
        origin: Origin,
    ) {
        let child = spec.id().clone();
        let answer = |core: &mut Core, outcome| {
            core.news.push_back(News::Ran { home, child: child.clone(), epoch, outcome });
        };
        let me = core.me.node;
        if let Some(instance) = self.instances.get(&child) {
            let at = instance.ownership.epoch;
            match &instance.phase {
                // The order was repeated; its answer comes when the start has ended.
                Phase::Starting { why: Begin::Ordered(_) | Begin::Again(_), ordered }
                    if *ordered == epoch => {}
                Phase::Waiting(_) if instance.ownership.is_given_up() && at < epoch => {
                    self.start_by_hand(core, home, spec, epoch, origin);
                }
                // The order was repeated, and what it started has failed meanwhile.
                Phase::Waiting(_) if instance.ownership.is_given_up() => {
                    let failure = instance.ownership.failure.as_ref();
                    let reason = failure.map(|failure| failure.reason().to_owned());
                    let reason = StartFailed::Refused { reason: reason.unwrap_or_default() };
                    answer(core, StartOutcome::Failed { reason });
                }
                // It begins when nothing is left of the one that ends.
                Phase::Stopping if at < epoch => {
                    if let Some(instance) = self.instances.get_mut(&child) {
                        instance.then = Some((home, spec, epoch, origin));
                    }
                }
                _ => answer(core, begun(me, &instance.ownership, origin)),
            }
            return;
        }
        if core.registry.highest_epoch(&child) >= epoch {
            let outcome = match core.registry.owner(&child) {
                Some((run, ownership)) => begun(run.node, ownership, origin),
                None => StartOutcome::Failed { reason: StartFailed::Timeout { waits_for: None } },
            };
            answer(core, outcome);
            return;
        }
        // The order is older than the owner's latest move, which raised its attempt and no term: its
        // home thought that nobody had the child, or that one had it that was given up. Had it been
        // removed meanwhile, that were a term between.
        if let Some((run, ownership)) = core.registry.owner(&child)
            && run != core.me
            && core.is_live(run)
            && ownership.epoch.term.saturating_add(1) == epoch.term
        {
            answer(core, begun(run.node, ownership, origin));
            return;
        }
        if !core.config.kinds.contains_key(spec.kind()) {
            answer(core, StartOutcome::Failed { reason: StartFailed::UnknownKind { node: me } });
            return;
        }
        if core.emptying {
            answer(core, StartOutcome::Failed { reason: StartFailed::Leaving });
            return;
        }
        // A successor in the making of an attempt that this start supersedes.
        if let Some(target) = self.targets.remove(&child) {
            core.order(ChildOrder::Discard { child: child.clone(), epoch: target.attempt });
        }
        self.begin(core, spec, epoch, None, origin, Begin::Ordered(home));
    }

    /// A start has ended, one way or the other.
    pub(crate) fn started(
        &mut self,
        core: &mut Core,
        child: &ChildId,
        epoch: Epoch,
        outcome: Result<(), String>,
    ) {
        let Some(instance) = self.instances.get_mut(child) else { return };
        let Phase::Starting { why, ordered } = instance.phase else { return };
        if ordered != epoch {
            return;
        }
        let node = core.me.node;
        let owned = instance.ownership.epoch;
        match outcome {
            Ok(()) => {
                instance.phase = Phase::Running;
                instance.backoff.runs(core.now);
                instance.not.works(node);
                if instance.ownership.failure.take().is_some() {
                    core.write(child, Entry::Owned(instance.ownership.clone()));
                }
                let halted = !instance.halts.is_empty();
                match why {
                    Begin::Ordered(home) | Begin::Again(home) => {
                        core.emit(HubEvent::ChildStarted {
                            child: child.clone(),
                            kind: instance.ownership.spec.kind().clone(),
                            epoch: owned,
                        });
                        core.news.push_back(News::Ran {
                            home,
                            child: child.clone(),
                            epoch,
                            outcome: StartOutcome::Started { node, epoch: owned },
                        });
                    }
                    Begin::Recovered => core.emit(HubEvent::Recovered {
                        child: child.clone(),
                        epoch: owned,
                        with_state: false,
                    }),
                    Begin::Restart => {}
                }
                if halted {
                    self.end(core, child);
                } else {
                    core.news.push_back(News::Look { child: child.clone() });
                }
            }
            Err(reason) => match why {
                Begin::Ordered(home) => {
                    instance.refused = true;
                    // The removal is written before the answer: whoever asks again finds no trace.
                    core.write(child, Entry::Removed { epoch: owned.next_term() });
                    core.news.push_back(News::Ran {
                        home,
                        child: child.clone(),
                        epoch,
                        outcome: StartOutcome::Failed { reason: StartFailed::Refused { reason } },
                    });
                    self.end(core, child);
                }
                Begin::Again(home) => {
                    core.news.push_back(News::Ran {
                        home,
                        child: child.clone(),
                        epoch,
                        outcome: StartOutcome::Failed {
                            reason: StartFailed::Refused { reason: reason.clone() },
                        },
                    });
                    self.failed(core, child, Decision::GiveUp, reason);
                }
                Begin::Restart | Begin::Recovered => {
                    let decision = instance.restarts.failed(core.now);
                    // Another node may be able to.
                    instance.pass_over(core, node);
                    self.failed(core, child, decision, format!("it could not start: {reason}"));
                }
            },
        }
    }

    /// Starts a child of this node that was given up, as a home orders.
    fn start_by_hand(
        &mut self,
        core: &mut Core,
        home: NodeId,
        spec: Arc<ChildSpec>,
        epoch: Epoch,
        origin: Origin,
    ) {
        let child = spec.id().clone();
        let me = core.me.node;
        let refused = match () {
            () if !core.config.kinds.contains_key(spec.kind()) => {
                Some(StartFailed::UnknownKind { node: me })
            }
            () if core.emptying => Some(StartFailed::Leaving),
            () => None,
        };
        if let Some(reason) = refused {
            let outcome = StartOutcome::Failed { reason };
            core.news.push_back(News::Ran { home, child, epoch, outcome });
            return;
        }
        let Some(instance) = self.instances.get_mut(&child) else { return };
        instance.raise(epoch);
        let own = &mut instance.ownership;
        (own.born, own.copied, own.origin, own.spec) = (epoch, epoch, origin, spec.clone());
        own.taken = TakenIn::default();
        instance.forgive(core);
        instance.phase = Phase::Starting { why: Begin::Again(home), ordered: epoch };
        core.write(&child, Entry::Owned(instance.ownership.clone()));
        core.order(ChildOrder::Start { spec, epoch, origin: Begin::Again(home).origin() });
        core.timer(core.config.settings.start_timeout, Timer::Start(child, epoch));
    }

    /// A child of this node ended, or could not start: it waits for its next start, or is given up.
    /// Its node goes on owning it, so that messages wait here and nobody takes it for an orphan.
    fn failed(&mut self, core: &mut Core, child: &ChildId, decision: Decision, reason: String) {
        self.forget_merges(core, child);
        let Some(instance) = self.instances.get_mut(child) else { return };
        if !instance.halts.is_empty() || decision == Decision::Leave {
            return self.end(core, child);
        }
        // A library or a user's code may have said it.
        let reason = brief(reason);
        let given_up = decision == Decision::GiveUp;
        instance.begin_anew();
        if given_up {
            core.emit(HubEvent::ChildGivenUp { child: child.clone(), reason: reason.clone() });
            instance.phase = Phase::Waiting(Wait { until: None });
        } else {
            instance.restarted += 1;
            let after = instance.backoff.ended(core.now, child);
            core.emit(HubEvent::ChildRestarted {
                child: child.clone(),
                reason: reason.clone(),
                restarts: instance.restarted,
                after,
            });
            instance.phase = Phase::Waiting(Wait { until: Some(core.now + after) });
            core.timer(after, Timer::Restart(child.clone()));
        }
        let failure = ChildFailure::new(&reason, instance.restarted, given_up);
        instance.ownership.failure = Some(failure);
        core.write(child, Entry::Owned(instance.ownership.clone()));
        core.order(instance.go_on());
        core.news.push_back(News::Look { child: child.clone() });
    }

    /// Starts a child that has waited long enough.
    pub(crate) fn start_again(&mut self, core: &mut Core, child: &ChildId) {
        let Some(instance) = self.instances.get(child) else { return };
        let goes = core.closing || core.emptying && self.has_successor(core, instance);
        let Some(instance) = self.instances.get_mut(child) else { return };
        let Phase::Waiting(wait) = &mut instance.phase else { return };
        if wait.until.is_none_or(|until| until > core.now) {
            return;
        }
        if goes {
            // It is started where it goes, or by its home when this node is gone.
            wait.until = Some(core.now + STAY_AFTER);
            core.timer(STAY_AFTER, Timer::Restart(child.clone()));
            return;
        }
        let epoch = instance.ownership.epoch;
        instance.phase = Phase::Starting { why: Begin::Restart, ordered: epoch };
        let (spec, origin) = (instance.ownership.spec.clone(), Begin::Restart.origin());
        core.order(ChildOrder::Start { spec, epoch, origin });
        core.timer(core.config.settings.start_timeout, Timer::Start(child.clone(), epoch));
    }

    /// The view changed: whoever was given up is started again, after its first pause. By then it is
    /// known whether another owner has been met.
    pub(crate) fn give_another_try(&mut self, core: &mut Core, child: &ChildId) {
        let Some(instance) = self.instances.get_mut(child) else { return };
        if matches!(instance.phase, Phase::Waiting(Wait { until: None })) {
            instance.forgive(core);
            let after = instance.backoff.ended(core.now, child);
            instance.phase = Phase::Waiting(Wait { until: Some(core.now + after) });
            core.timer(after, Timer::Restart(child.clone()));
        }
    }

    /// A start was not answered in time.
    pub(crate) fn start_expired(&mut self, core: &mut Core, child: &ChildId, epoch: Epoch) {
        let timeout = core.config.settings.start_timeout;
        self.started(core, child, epoch, Err(format!("it did not start within {timeout:?}")));
    }

    /// A home orders a stop.
    pub(crate) fn halt(&mut self, core: &mut Core, home: NodeId, child: &ChildId, epoch: Epoch) {
        if let Some(target) = self.targets.get_mut(child) {
            target.halts.push((home, epoch));
            return;
        }
        let Some(instance) = self.instances.get_mut(child) else {
            if core.registry.owner(child).is_none() {
                core.news.push_back(News::Halted {
                    home,
                    child: child.clone(),
                    epoch,
                    outcome: StopOutcome::NotFound,
                });
            }
            return;
        };
        if !instance.owns() {
            return;
        }
        if !instance.halts.contains(&(home, epoch)) {
            instance.halts.push((home, epoch));
        }
        if !matches!(instance.phase, Phase::Starting { .. } | Phase::Stopping) {
            self.end(core, child);
        }
    }

    /// Stops an instance for good, whatever it is doing.
    pub(crate) fn end(&mut self, core: &mut Core, child: &ChildId) {
        self.drop_move(core, child, "the child is stopped");
        let Some(instance) = self.instances.get_mut(child) else { return };
        if matches!(instance.phase, Phase::Stopping) {
            return;
        }
        instance.phase = Phase::Stopping;
        let epoch = instance.ownership.epoch;
        core.order(ChildOrder::Stop { child: child.clone(), epoch });
    }

    /// Forgets an instance whose actor ends or has ended.
    pub(crate) fn remove(&mut self, core: &mut Core, child: &ChildId) -> Option<Instance> {
        self.forget_merges(core, child);
        self.instances.remove(child)
    }

    /// The actor has ended: what was to be merged into it is offered again.
    fn forget_merges(&mut self, core: &mut Core, child: &ChildId) {
        for epoch in self.merges.forget(child) {
            core.order(ChildOrder::Discard { child: child.clone(), epoch });
        }
    }

    /// Nothing is left of an instance that was to stop.
    pub(crate) fn stopped(&mut self, core: &mut Core, child: &ChildId) {
        let stopping = |instance: &Instance| matches!(instance.phase, Phase::Stopping);
        if !self.instances.get(child).is_some_and(stopping) {
            return;
        }
        let Some(instance) = self.remove(core, child) else { return };
        let asked = instance.halts.iter().map(|(_, epoch)| *epoch).max().unwrap_or(Epoch::ZERO);
        let removed = core.registry.owner(child).is_none();
        let elsewhere = core.registry.owner(child).is_some_and(|(run, ownership)| {
            run != core.me && ownership.epoch >= instance.ownership.epoch
        });
        if !removed && !elsewhere {
            let epoch = asked.max(core.next_term(child));
            core.write(child, Entry::Removed { epoch });
        }
        if let Some(wanted) = instance.wanted.filter(|_| !elsewhere) {
            let (waiters, outcome) = (wanted.waiters, MigrateOutcome::NotFound);
            core.news.push_back(News::Migrated { waiters, child: child.clone(), outcome });
        }
        let node = core.me.node;
        for (home, epoch) in instance.halts {
            core.news.push_back(News::Halted {
                home,
                child: child.clone(),
                epoch,
                outcome: StopOutcome::Stopped { node },
            });
        }
        if !elsewhere && !instance.refused {
            core.emit(HubEvent::ChildStopped { child: child.clone() });
        }
        core.news.push_back(News::Look { child: child.clone() });
        if let Some((home, spec, epoch, origin)) = instance.then {
            self.run(core, home, spec, epoch, origin);
        }
    }

    /// The actor ended unasked.
    pub(crate) fn exited(&mut self, core: &mut Core, child: &ChildId, epoch: Epoch, exit: &Exit) {
        let Some(instance) = self.instances.get(child) else { return };
        let ends = matches!(instance.phase, Phase::Stopping) || !instance.has_actor();
        if ends || instance.ownership.epoch < epoch {
            return;
        }
        if !instance.owns() {
            // The copy that was kept for the successor's sake is lost.
            self.drop_move(core, child, "the actor kept until the successor ran has ended");
            self.remove(core, child);
            return;
        }
        self.drop_move(core, child, "the child ended");
        let Some(instance) = self.instances.get_mut(child) else { return };
        let reason = match exit {
            Exit::Stopped => "it stopped itself".to_owned(),
            Exit::Panicked { message } => format!("it panicked: {message}"),
        };
        let rule = instance.ownership.spec.restart_rule();
        let decision = instance.restarts.ended(core.now, rule, exit);
        self.failed(core, child, decision, reason);
    }

    /// A home calls the roll: says what is held here and promises to obey no lower claim.
    pub(crate) fn called(&mut self, core: &mut Core, from: NodeRun, roll: u64, claims: Vec<Claim>) {
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
            core.look_at_promise(&child);
            let (copy, epoch, born) = self.hold(&child);
            holds.push(Held { child, term, promised, copy, epoch, born });
        }
        core.send(from.node, PeerMessage::Roll(RollWord::Answer { roll, holds }));
    }

    /// What this node holds of a child, for a roll call; the epoch of the owner whose state that is;
    /// and that at which its life began.
    pub(crate) fn hold(&self, child: &ChildId) -> (Copy, Epoch, Epoch) {
        if let Some(instance) = self.instances.get(child) {
            let Ownership { epoch, born, .. } = instance.ownership;
            let copy = match instance.phase.doing() {
                Doing::Starting | Doing::Running | Doing::Moving => Copy::Live,
                // By the attempt's epoch a copy that was handed on long ago would seem to be as new
                // as what has become of it since.
                Doing::Committed | Doing::Yielding { .. } => Copy::Frozen,
                // It ends, whatever the home decides.
                Doing::Stopping => Copy::Nothing,
            };
            return (copy, epoch, born);
        }
        if let Some(target) = self.targets.get(child) {
            let (copy, epoch) = match target.stage {
                TargetStage::Ready => (Copy::Ready, target.state),
                TargetStage::Opening => (Copy::Live, target.ownership.epoch),
                TargetStage::Accepted | TargetStage::Building => (Copy::Nothing, target.state),
            };
            return (copy, epoch, target.ownership.born);
        }
        (Copy::Nothing, Epoch::ZERO, Epoch::ZERO)
    }

    /// A roll call gave the child to this node: to be made of what it `holds`, as it has answered.
    /// Of a home to which it has not promised this very term it takes nothing.
    ///
    /// The promise stands until there is an owner of its term: a start may fail, and then what
    /// another node holds counts.
    pub(crate) fn take(
        &mut self,
        core: &mut Core,
        home: NodeRun,
        ownership: Ownership,
        holds: Copy,
    ) {
        let child = ownership.spec.id().clone();
        let term = ownership.epoch.term;
        if core.registry.highest_epoch(&child) >= ownership.epoch {
            return;
        }
        // A node that is about to say Bye would answer for it and forget it.
        let can = !core.closing
            && core.promises.is_given(home, &child, term)
            && match holds {
                Copy::Live | Copy::Frozen => self.take_instance(core, ownership),
                Copy::Ready => self.take_target(core, ownership),
                Copy::Nothing => self.take_anew(core, ownership),
            };
        if !can {
            self.call_again(core, &child, term);
        }
    }

    /// Asks the homes to call the roll for children of which nobody else wants it, and this node
    /// waits for it.
    pub(crate) fn call_unmet(&self, core: &mut Core) {
        let unmet: Vec<ChildId> = core.promises.unmet().cloned().collect();
        for child in unmet {
            self.call_again(core, &child, 0);
        }
    }

    /// Tells a child's home that what was to become of it in this term does not.
    pub(crate) fn call_again(&self, core: &mut Core, child: &ChildId, term: u64) {
        let term = core.promises.term(child).unwrap_or(0).max(term);
        if let Some(home) = core.home(child) {
            let word = RollWord::Again { child: child.clone(), term };
            core.send(home, PeerMessage::Roll(word));
        }
    }

    /// Goes on with an actor that runs or is held. `false`: there is none.
    fn take_instance(&mut self, core: &mut Core, ownership: Ownership) -> bool {
        let child = ownership.spec.id().clone();
        let epoch = ownership.epoch;
        let Some(instance) = self.instances.get(&child) else {
            // What is being started is taken when it runs: the home says it again.
            let opening = |target: &Target| target.stage == TargetStage::Opening;
            return self.targets.get(&child).is_some_and(opening);
        };
        if matches!(instance.phase, Phase::Stopping) {
            // It is said again when there is nothing left.
            return true;
        }
        let held = matches!(instance.phase.doing(), Doing::Committed | Doing::Yielding { .. });
        let why = match held {
            true => "the node went away and had not said that the successor ran",
            false => "a roll call has confirmed the child here",
        };
        self.drop_move(core, &child, why);
        let Some(instance) = self.instances.get_mut(&child) else { return true };
        instance.stop_yielding(core);
        instance.raise(epoch);
        instance.ownership.copied = ownership.copied;
        instance.ownership.pinned = ownership.pinned;
        core.write(&child, Entry::Owned(instance.ownership.clone()));
        core.order(instance.go_on());
        if held && instance.has_actor() {
            core.emit(HubEvent::Recovered { child, epoch, with_state: true });
        }
        true
    }

    /// Opens a successor that stands ready. `false`: there is none.
    fn take_target(&mut self, core: &mut Core, ownership: Ownership) -> bool {
        let child = ownership.spec.id().clone();
        let Some(target) = self.targets.get_mut(&child) else { return false };
        match target.stage {
            TargetStage::Ready => {
                let taken = std::mem::take(&mut target.ownership.taken);
                target.ownership = Ownership { taken, ..ownership };
                target.recovered = true;
                self.target_step(core, &child, &super::handover::TargetInput::Taken);
                true
            }
            TargetStage::Opening => true,
            TargetStage::Accepted | TargetStage::Building => false,
        }
    }

    /// Begins from nothing. `false`: there is something here by now.
    fn take_anew(&mut self, core: &mut Core, ownership: Ownership) -> bool {
        let child = ownership.spec.id().clone();
        if let Some(instance) = self.instances.get(&child) {
            // It begins when nothing is left of the one that ends.
            return matches!(instance.phase, Phase::Stopping);
        }
        let waits = |target: &Target| target.stage >= TargetStage::Ready;
        if self.targets.get(&child).is_some_and(waits) {
            return false;
        }
        if let Some(target) = self.targets.remove(&child) {
            core.order(ChildOrder::Discard { child, epoch: target.attempt });
        }
        let Ownership { spec, epoch, pinned, origin, .. } = ownership;
        self.begin(core, spec, epoch, pinned, origin, Begin::Recovered);
        true
    }
}
