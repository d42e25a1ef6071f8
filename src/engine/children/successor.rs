//! One successor in the making: what its node keeps of it until it runs.

use super::phase::{Answered, StopOrder};
use crate::{
    engine::{core::Core, handover::TargetStage},
    model::{
        child::{Epoch, Ownership},
        id::{NodeId, NodeRun},
        member::ViewId,
    },
};

/// A successor in the making.
#[derive(Debug)]
pub(super) struct Successor {
    from: NodeRun,
    /// The attempt's epoch: that of the offer.
    attempt: Epoch,
    /// The epoch of the owner whose state comes.
    state: Epoch,
    /// As this node will have it.
    ownership: Ownership,
    with_state: bool,
    stage: TargetStage,
    /// A roll call gave the child to this node.
    recovered: bool,
    /// The actor that the source kept has ended, too.
    is_all: bool,
    /// How often it could not start, with its state.
    tries: u32,
    /// The latest roll call that was told of it.
    answered: Option<Answered>,
    stops: Vec<StopOrder>,
}

impl Successor {
    /// One that was offered and accepted.
    pub(super) fn new(from: NodeRun, ownership: Ownership, state: Epoch, with_state: bool) -> Self {
        let attempt = ownership.epoch;
        Self {
            from,
            attempt,
            state: state.min(attempt),
            ownership,
            with_state,
            stage: TargetStage::Accepted,
            recovered: false,
            is_all: false,
            tries: 0,
            answered: None,
            stops: Vec::new(),
        }
    }

    /// Who hands it over.
    pub(super) fn from(&self) -> NodeRun {
        self.from
    }

    /// The attempt: the epoch of the offer.
    pub(super) fn attempt(&self) -> Epoch {
        self.attempt
    }

    /// The epoch of the owner whose state it is.
    pub(super) fn state(&self) -> Epoch {
        self.state
    }

    /// As this node will have it.
    pub(super) fn ownership(&self) -> &Ownership {
        &self.ownership
    }

    /// Whether it is made of a state, and not of its arguments.
    pub(super) fn with_state(&self) -> bool {
        self.with_state
    }

    /// How far it is.
    pub(super) fn stage(&self) -> TargetStage {
        self.stage
    }

    /// Whether a roll call gave the child to this node.
    pub(super) fn is_recovered(&self) -> bool {
        self.recovered
    }

    /// Whether a state is here that nobody runs.
    pub(super) fn holds_state(&self) -> bool {
        matches!(self.stage, TargetStage::Ready | TargetStage::Kept | TargetStage::Rebuilding)
    }

    /// The term of the latest roll call of this view that was told of it; 0: none was.
    pub(super) fn answered(&self, view: ViewId) -> u64 {
        Answered::term_in(self.answered, view)
    }

    /// A roll call is told of it.
    pub(super) fn note_answer(&mut self, answered: Answered) {
        Answered::note(&mut self.answered, answered);
    }

    /// How often it could not start, with its state.
    pub(super) fn tries(&self) -> u32 {
        self.tries
    }

    /// It could not start once more.
    pub(super) fn could_not_start(&mut self) {
        self.tries += 1;
    }

    /// Whether the source is there, and goes on with its actor when it hears that this one does not start. A
    /// roll call gives a child away when its source is gone.
    pub(super) fn source_lives(&self, core: &Core) -> bool {
        core.is_live(self.from) && !self.recovered && !self.is_all
    }

    /// The source has nothing left.
    pub(super) fn lose_source(&mut self) {
        self.is_all = true;
    }

    /// Goes on to a stage, or stays in it.
    pub(super) fn enter(&mut self, stage: TargetStage) {
        self.stage = stage;
    }

    /// A home orders a stop: it ends when it has begun.
    pub(super) fn add_stop(&mut self, stop: StopOrder) {
        // An order is repeated until it is answered.
        if !self.stops.contains(&stop) {
            self.stops.push(stop);
        }
    }

    /// A roll call gives the child to this node. The states of others that are in this one still are.
    pub(super) fn recover(&mut self, ownership: Ownership) {
        let taken = std::mem::take(&mut self.ownership.taken);
        self.ownership = Ownership { taken, ..ownership };
        self.recovered = true;
    }

    /// Who handed it over, and at which epoch, if a roll call did not.
    pub(super) fn came(&self) -> Option<(NodeId, Epoch)> {
        (!self.recovered).then_some((self.from.node, self.ownership.epoch))
    }

    /// What this node owns once it runs, and the stops that were ordered meanwhile.
    pub(super) fn into_owner(self) -> (Ownership, Vec<StopOrder>) {
        (self.ownership, self.stops)
    }

    /// The ownership, for a test that changes what is in the state.
    #[cfg(test)]
    pub(super) fn ownership_mut(&mut self) -> &mut Ownership {
        &mut self.ownership
    }
}
