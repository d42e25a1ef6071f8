//! One move under way, as the child's source keeps it.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
    time::Instant,
};

use crate::{
    engine::{core::Core, handover::SourceStage},
    model::{
        child::{Epoch, Ownership},
        event::HandoverPhases,
        id::{KindName, NodeId, NodeRun, RequestId},
        settings::{HotSwapOptions, Migration},
    },
};

/// The next start of an owner without an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    /// When it is started. `None`: it was given up, until something changes.
    pub(crate) until: Option<Instant>,
}

/// What a move is for, fixed when it is offered.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) to: NodeRun,
    /// As the successor will have it; its epoch is the attempt's.
    pub(super) ownership: Ownership,
    pub(super) with_state: bool,
    /// Handlers that are not resolved in time are cut off.
    pub(super) forced: bool,
    /// Who asked for it.
    pub(super) waiters: Vec<(NodeId, RequestId)>,
    /// There is no actor to be handed over: this one waits for its next start, should the move fail.
    pub(super) waits: Option<Wait>,
}

/// A move under way, at its source.
#[derive(Clone, Debug)]
pub(crate) struct Move {
    plan: Plan,
    stage: SourceStage,
    /// When each stage began.
    entered: BTreeMap<SourceStage, Instant>,
    started: Instant,
    /// The size of the state, once it is known.
    bytes: u64,
    /// Ready came before the state was on its way, as none is needed.
    ready: bool,
}

impl Move {
    /// A move that is offered now.
    pub(super) fn new(plan: Plan, now: Instant) -> Self {
        Self {
            plan,
            stage: SourceStage::Offered,
            entered: [(SourceStage::Offered, now)].into(),
            started: now,
            bytes: 0,
            ready: false,
        }
    }

    /// The run that is to own the child.
    pub(crate) fn to(&self) -> NodeRun {
        self.plan.to
    }

    /// The attempt: the epoch of the successor.
    pub(crate) fn epoch(&self) -> Epoch {
        self.plan.ownership.epoch
    }

    /// The child's kind.
    pub(crate) fn kind(&self) -> &KindName {
        self.plan.ownership.spec.kind()
    }

    /// The ownership of the successor.
    pub(crate) fn ownership(&self) -> &Ownership {
        &self.plan.ownership
    }

    /// How far it is.
    pub(crate) fn stage(&self) -> SourceStage {
        self.stage
    }

    /// Since when it has been in its stage.
    pub(crate) fn in_stage_since(&self) -> Instant {
        self.entered.get(&self.stage).copied().unwrap_or(self.started)
    }

    /// When it was offered.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// The size of the state; zero before it is known.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the successor owns the child.
    pub(super) fn is_committed(&self) -> bool {
        self.stage == SourceStage::Committed
    }

    /// Whether its bytes count among those that are on their way.
    pub(super) fn is_sent(&self) -> bool {
        matches!(self.stage, SourceStage::Sent | SourceStage::Committed)
    }

    pub(super) fn with_state(&self) -> bool {
        self.plan.with_state
    }

    pub(super) fn is_forced(&self) -> bool {
        self.plan.forced
    }

    /// What its child goes back to without an actor, if it has none.
    pub(super) fn waits(&self) -> Option<Wait> {
        self.plan.waits
    }

    /// Whether the target stands ready before the state is on its way.
    pub(super) fn is_ready(&self) -> bool {
        self.ready
    }

    /// The target said Ready early.
    pub(super) fn set_ready(&mut self) {
        self.ready = true;
    }

    /// The size of the state is known.
    pub(super) fn set_bytes(&mut self, bytes: u64) {
        self.bytes = bytes;
    }

    /// Goes on to a stage, or stays in it.
    pub(super) fn enter(&mut self, stage: SourceStage, now: Instant) {
        self.stage = stage;
        self.entered.entry(stage).or_insert(now);
    }

    /// Somebody asked for this very move, which is under way.
    pub(super) fn add_waiter(&mut self, waiter: (NodeId, RequestId)) {
        if !self.plan.waiters.contains(&waiter) {
            self.plan.waiters.push(waiter);
        }
    }

    /// Who is to be told how it ended; each once.
    pub(super) fn take_waiters(&mut self) -> Vec<(NodeId, RequestId)> {
        std::mem::take(&mut self.plan.waiters)
    }

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

/// The options of a move by the node's settings, and whether it takes the state along.
pub(super) fn options(core: &Core) -> (HotSwapOptions, bool) {
    match &core.config.settings.migration {
        Migration::HotSwap(options) => (options.clone(), options.handover),
        Migration::ColdSwap => (HotSwapOptions::default(), false),
    }
}
