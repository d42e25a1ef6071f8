//! The children on this node: started, stopped, restarted; and what else is held of a child.
//!
//! An *instance* is an actor that this node owns, or has owned and still holds. A *target* is a
//! successor in the making. A node never has both for one child.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
    time::Instant,
};

use super::{
    core::{Core, News, Timer},
    divergence::{Doing, Life},
    handover::{SourceStage, TargetStage},
    io::{ChildOrder, Exit},
    merges::Merges,
    restart::{Decision, Restarts},
};
use crate::model::{
    child::{ChildSpec, Entry, Epoch, Ownership, Role, TakenIn},
    event::{HandoverPhases, HubEvent},
    id::{ChildId, NodeId, NodeRun, Origin, RequestId},
    message::Copy,
    quota::{OverQuota, Quota},
    report::{StartFailed, StartOutcome, StopOutcome},
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
    /// It ended and is started again.
    Restart,
    /// Nothing was left of it anywhere.
    Recovered,
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
            Self::Starting { .. } => Doing::Starting,
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
    pub(crate) restarts: Restarts,
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
    /// Nodes that cannot take it.
    pub(crate) not: BTreeSet<NodeId>,
    pub(crate) halts: Vec<(NodeId, Epoch)>,
    pub(crate) wanted: Option<Wanted>,
    /// What a home ordered to be started when this one has ended.
    pub(crate) then: Option<(NodeId, Arc<ChildSpec>, Epoch, Origin)>,
}

impl Instance {
    pub(crate) fn new(now: Instant, ownership: Ownership, phase: Phase) -> Self {
        Self {
            burnt: ownership.epoch.attempt,
            restarts: Restarts::new(ownership.spec.restart_intensity()),
            ownership,
            phase,
            restarted: 0,
            refused: false,
            since: now,
            came: None,
            retries: 0,
            rest: None,
            not: BTreeSet::new(),
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
}

/// A successor in the making.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) from: NodeRun,
    /// The attempt's epoch: that of the offer.
    pub(crate) attempt: Epoch,
    /// As this node will have it.
    pub(crate) ownership: Ownership,
    pub(crate) with_state: bool,
    pub(crate) stage: TargetStage,
    pub(crate) recovered: bool,
    pub(crate) halts: Vec<(NodeId, Epoch)>,
}

/// Bytes of promises to one home in one view.
const PROMISES: usize = 128 << 20;

/// What is kept of promises, for each home that asked for them, until the view changes.
#[derive(Debug)]
pub(crate) struct Promises(Quota);

impl Default for Promises {
    fn default() -> Self {
        Self(Quota::new(PROMISES))
    }
}

impl Promises {
    /// Room for one promise more.
    pub(crate) fn take(&mut self, home: NodeId, child: &ChildId) -> Result<(), OverQuota> {
        self.0.take(home, 128 + child.as_str().len())
    }
}

/// The children on this node.
#[derive(Debug, Default)]
pub(crate) struct Children {
    pub(crate) instances: BTreeMap<ChildId, Instance>,
    pub(crate) targets: BTreeMap<ChildId, Target>,
    /// The highest term that was promised to a roll call and is not settled yet.
    pub(crate) promised: BTreeMap<ChildId, u64>,
    /// Promises that were given in this view, by the homes that asked for them.
    pub(crate) promises: Promises,
    /// Children that belong elsewhere, and those that somebody asked to move.
    pub(crate) queue: BTreeSet<ChildId>,
    pub(crate) urgent: VecDeque<ChildId>,
    /// States that others offered, while they are merged.
    pub(crate) merges: Merges,
    pub(crate) moving: usize,
    pub(crate) allowed: usize,
    pub(crate) bytes_moving: u64,
    pub(crate) room: VecDeque<ChildId>,
}

impl Children {
    /// The view changed: what was promised to homes of the last one is void.
    pub(crate) fn forget_promises(&mut self) {
        self.promised.clear();
        self.promises = Promises::default();
    }

    /// Whether nothing is left on this node.
    pub(crate) fn is_empty(&self) -> bool {
        self.instances.is_empty() && self.targets.is_empty()
    }

    /// How many children this node still has to hand over.
    pub(crate) fn owned(&self) -> usize {
        self.instances.values().filter(|instance| instance.owns()).count()
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
            spec: spec.clone(),
        };
        core.write(&child, Entry::Owned(ownership.clone()));
        let phase = Phase::Starting { why, ordered: epoch };
        self.instances.insert(child.clone(), Instance::new(core.now, ownership, phase));
        core.order(ChildOrder::Start { spec, epoch });
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
                Phase::Starting { why: Begin::Ordered(_), ordered } if *ordered == epoch => {}
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
        if !core.config.kinds.contains_key(spec.kind()) {
            answer(core, StartOutcome::Failed { reason: StartFailed::UnknownKind { node: me } });
            return;
        }
        if core.leaving {
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
                let halted = !instance.halts.is_empty();
                match why {
                    Begin::Ordered(home) => {
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
                Begin::Restart | Begin::Recovered => {
                    self.exited(core, child, owned, &Exit::Panicked { message: reason });
                }
            },
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
        let highest = core.registry.highest_epoch(child);
        let asked = instance.halts.iter().map(|(_, epoch)| *epoch).max().unwrap_or(Epoch::ZERO);
        let removed = core.registry.owner(child).is_none();
        let elsewhere = core.registry.owner(child).is_some_and(|(run, ownership)| {
            run != core.me && ownership.epoch >= instance.ownership.epoch
        });
        if !removed && !elsewhere {
            let epoch = asked.max(highest.next_term());
            core.write(child, Entry::Removed { epoch });
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
        if matches!(instance.phase, Phase::Stopping) || instance.ownership.epoch < epoch {
            return;
        }
        if !instance.owns() {
            // The copy that was kept for the successor's sake is lost.
            self.drop_move(core, child, "the actor kept until the successor ran has ended");
            self.remove(core, child);
            return;
        }
        self.drop_move(core, child, "the child ended");
        self.forget_merges(core, child);
        let Some(instance) = self.instances.get_mut(child) else { return };
        let reason = match exit {
            Exit::Stopped => "it stopped itself".to_owned(),
            Exit::Panicked { message } => format!("it panicked: {message}"),
        };
        match instance.restarts.ended(core.now, instance.ownership.spec.restart_rule(), exit) {
            Decision::Restart if instance.halts.is_empty() => {
                let epoch = instance.burn();
                instance.ownership.epoch = epoch;
                instance.ownership.born = epoch;
                instance.ownership.copied = epoch;
                instance.ownership.taken = TakenIn::default();
                instance.phase = Phase::Starting { why: Begin::Restart, ordered: epoch };
                instance.restarted += 1;
                let spec = instance.ownership.spec.clone();
                core.emit(HubEvent::ChildRestarted {
                    child: child.clone(),
                    reason,
                    restarts: instance.restarted,
                });
                core.write(child, Entry::Owned(instance.ownership.clone()));
                core.order(ChildOrder::Start { spec, epoch });
                core.timer(core.config.settings.start_timeout, Timer::Start(child.clone(), epoch));
            }
            Decision::GiveUp => {
                core.emit(HubEvent::ChildGivenUp { child: child.clone(), reason });
                self.end(core, child);
            }
            Decision::Restart | Decision::Leave => self.end(core, child),
        }
    }

    /// What this node holds of a child, for a roll call.
    pub(crate) fn hold(&self, child: &ChildId) -> (Copy, Epoch, Epoch) {
        if let Some(instance) = self.instances.get(child) {
            let ownership = &instance.ownership;
            return match &instance.phase {
                Phase::Moving(moving) if moving.stage == SourceStage::Committed => {
                    (Copy::Frozen, moving.ownership.epoch, ownership.born)
                }
                Phase::Yielding { .. } => (Copy::Frozen, ownership.epoch, ownership.born),
                _ => (Copy::Live, ownership.epoch, ownership.born),
            };
        }
        if let Some(target) = self.targets.get(child) {
            let copy = match target.stage {
                TargetStage::Ready => Copy::Ready,
                TargetStage::Opening => Copy::Live,
                TargetStage::Accepted | TargetStage::Building => Copy::Nothing,
            };
            return (copy, target.attempt, target.ownership.born);
        }
        (Copy::Nothing, Epoch::ZERO, Epoch::ZERO)
    }

    /// A roll call gave the child to this node.
    pub(crate) fn take(&mut self, core: &mut Core, ownership: Ownership, from: Copy) {
        let child = ownership.spec.id().clone();
        if self.promised.get(&child).is_some_and(|term| *term > ownership.epoch.term)
            || core.registry.highest_epoch(&child) >= ownership.epoch
        {
            return;
        }
        self.promised.remove(&child);
        let epoch = ownership.epoch;
        match from {
            Copy::Live | Copy::Frozen => {
                let Some(instance) = self.instances.get_mut(&child) else { return };
                if matches!(instance.phase, Phase::Stopping) {
                    return;
                }
                let frozen = !matches!(instance.phase, Phase::Running | Phase::Starting { .. });
                instance.raise(epoch);
                instance.ownership.copied = ownership.copied;
                instance.ownership.pinned = ownership.pinned;
                core.write(&child, Entry::Owned(instance.ownership.clone()));
                core.order(ChildOrder::Thaw { child: child.clone(), epoch });
                if frozen {
                    self.drop_move(
                        core,
                        &child,
                        "the node went away and had not said that the successor ran",
                    );
                    if let Some(instance) = self.instances.get_mut(&child) {
                        instance.phase = Phase::Running;
                    }
                    core.emit(HubEvent::Recovered { child, epoch, with_state: true });
                }
            }
            Copy::Ready => {
                let Some(target) = self.targets.get_mut(&child) else { return };
                let taken = std::mem::take(&mut target.ownership.taken);
                target.ownership = Ownership { taken, ..ownership };
                target.recovered = true;
                self.target_step(core, &child, &super::handover::TargetInput::Taken);
            }
            Copy::Nothing => {
                if self.instances.contains_key(&child) {
                    return;
                }
                if let Some(target) = self.targets.remove(&child) {
                    core.order(ChildOrder::Discard { child, epoch: target.attempt });
                }
                let Ownership { spec, pinned, origin, .. } = ownership;
                self.begin(core, spec, epoch, pinned, origin, Begin::Recovered);
            }
        }
    }
}
