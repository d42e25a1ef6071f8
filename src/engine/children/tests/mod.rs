//! What tests change and see that nobody else may.

use std::sync::Arc;

use super::{
    Children,
    phase::Begin,
    roll::hold,
    steps::{Start, Steps},
};
use crate::{
    engine::{core::Core, handover::TargetStage},
    model::{
        child::{ChildSpec, Epoch, Ownership},
        id::{ChildId, Origin},
        message::Copy,
    },
};

impl Children {
    /// Begins an instance from nothing.
    pub(crate) fn begin(&mut self, core: &mut Core, spec: Arc<ChildSpec>, epoch: Epoch) {
        let (pinned, origin, stops) = (None, Origin::default(), Vec::new());
        let start = Start { spec, epoch, pinned, origin, stops };
        let (table, pacing) = (&mut self.table, &mut self.pacing);
        Steps { table, pacing, core }.begin(start, Begin::Recovered);
    }

    /// Loses an instance, as if it had never been there.
    pub(crate) fn lose(&mut self, child: &ChildId) {
        self.table.remove(child);
    }

    /// What is answered to a roll call.
    pub(crate) fn hold(&self, child: &ChildId) -> (Copy, Epoch, Epoch) {
        hold(&self.table, child)
    }

    /// How far the successor of a child is.
    pub(crate) fn successor_stage(&self, child: &ChildId) -> Option<TargetStage> {
        self.table.successor(child).map(|successor| successor.stage())
    }

    /// The ownership that the successor of a child will have.
    pub(crate) fn successor_ownership(&mut self, child: &ChildId) -> Option<&mut Ownership> {
        self.table.successor_mut(child).map(|successor| successor.ownership_mut())
    }

    /// States of others that are not answered.
    pub(crate) fn merge_count(&self) -> usize {
        self.merges.len()
    }

    /// Drops what would be merged into a child.
    pub(crate) fn forget_merges(&mut self, child: &ChildId) -> Vec<Epoch> {
        self.merges.forget(child)
    }
}
