//! The face of the children of a node: what engine, homes and peers say, and to which machine it goes.
//!
//! A move that ends makes room for others. They begin when the machine that ended it is through, here,
//! and not in the middle of its step.

use std::sync::Arc;

use super::{
    Children,
    phase::StartOrder,
    rebalance, roll,
    target::{Offer, call_again},
};
use crate::{
    engine::{
        core::Core,
        handover::{SourceInput, TargetInput},
        io::{BuildFailure, Exit, FreezeFailure},
    },
    model::{
        child::{ChildSpec, Epoch, Ownership},
        id::{ChildId, NodeId, NodeRun, Origin, RequestId},
        message::{Claim, Copy},
        parked::{ParkedInfo, ParkedKey},
    },
};

/// Actors.
impl Children {
    /// A home orders a start.
    pub(crate) fn run(
        &mut self,
        core: &mut Core,
        home: NodeId,
        spec: Arc<ChildSpec>,
        epoch: Epoch,
        origin: Origin,
    ) {
        self.lifecycle(core).run(StartOrder { home, spec, epoch, origin });
    }

    /// A start has ended, one way or the other.
    pub(crate) fn started(
        &mut self,
        core: &mut Core,
        child: &ChildId,
        epoch: Epoch,
        outcome: Result<(), String>,
    ) {
        self.lifecycle(core).started(child, epoch, outcome);
    }

    /// A start was not answered in time.
    pub(crate) fn start_expired(&mut self, core: &mut Core, child: &ChildId, epoch: Epoch) {
        self.lifecycle(core).start_expired(child, epoch);
    }

    /// Starts a child that has waited long enough.
    pub(crate) fn start_again(&mut self, core: &mut Core, child: &ChildId) {
        self.lifecycle(core).start_again(child);
    }

    /// A home orders a stop.
    pub(crate) fn halt(&mut self, core: &mut Core, home: NodeId, child: &ChildId, epoch: Epoch) {
        self.lifecycle(core).halt(home, child, epoch);
    }

    /// Nothing is left of an instance that was to stop.
    pub(crate) fn stopped(&mut self, core: &mut Core, child: &ChildId) {
        self.lifecycle(core).stopped(child);
    }

    /// The actor ended unasked.
    pub(crate) fn exited(&mut self, core: &mut Core, child: &ChildId, epoch: Epoch, exit: &Exit) {
        self.lifecycle(core).exited(child, epoch, exit);
    }
}

/// Moves to others.
impl Children {
    /// A word or report for a move at its source. What another run of the target says is of no
    /// consequence.
    pub(crate) fn source_input(
        &mut self,
        core: &mut Core,
        child: &ChildId,
        epoch: Epoch,
        from: Option<NodeRun>,
        input: &SourceInput,
    ) {
        self.source(core).input(child, epoch, from, input);
        self.pump(core);
    }

    /// The deadline of a move at its source passed.
    pub(crate) fn source_expired(&mut self, core: &mut Core, child: &ChildId, epoch: Epoch) {
        self.source(core).expired(child, epoch);
        self.pump(core);
    }

    /// A source whose commit is not answered asks after its successor.
    pub(crate) fn query(&mut self, core: &mut Core, child: &ChildId, epoch: Epoch) {
        self.source(core).query(child, epoch);
    }

    /// The state of a child that runs here was encoded, or could not be.
    pub(crate) fn tried(
        &mut self,
        core: &mut Core,
        child: &ChildId,
        epoch: Epoch,
        outcome: &Result<u64, FreezeFailure>,
    ) {
        self.source(core).tried(child, epoch, outcome);
    }

    /// The link to this run broke.
    pub(crate) fn link_lost(&mut self, core: &mut Core, run: NodeRun) {
        self.source(core).link_lost(run);
        self.pump(core);
    }

    /// A member went, or began to leave: moves to and from it.
    pub(crate) fn peer_changed(&mut self, core: &mut Core, node: NodeId) {
        self.source(core).peer_changed(node);
        self.target(core).peer_changed(node);
        self.pump(core);
    }
}

/// Which of them begin, and when.
impl Children {
    /// Starts as many moves as are allowed.
    pub(crate) fn pump(&mut self, core: &mut Core) {
        self.rebalance(core).pump();
    }

    /// Queues a child for a move if it belongs elsewhere.
    pub(crate) fn enqueue(&mut self, core: &Core, child: &ChildId) {
        rebalance::enqueue(&self.table, &mut self.pacing, core, child);
    }

    /// What was found out of a child of this node under an earlier view is void. Where it belongs now is
    /// looked at next.
    pub(crate) fn view_settled(&mut self, core: &mut Core, child: &ChildId) {
        self.rebalance(core).view_settled(child);
    }

    /// Who could be reached by a state is asked anew for every child.
    pub(crate) fn forget_ways(&mut self) {
        self.pacing.forget_ways();
    }

    /// Somebody asked for a move, on this node or another; without a place to go to: that the child is bound
    /// to no node any more.
    pub(crate) fn migrate(
        &mut self,
        core: &mut Core,
        child: &ChildId,
        to: Option<NodeId>,
        forced: bool,
        waiter: (NodeId, RequestId),
    ) {
        self.rebalance(core).migrate(child, to, forced, waiter);
        self.pump(core);
    }

    /// Somebody asks this node once more to hand its children over: those that are left alone after a
    /// move that failed are offered at once.
    pub(crate) fn try_again(&mut self, core: &mut Core) {
        self.rebalance(core).try_again();
        self.pump(core);
    }

    /// A move that failed is tried again.
    pub(crate) fn retry(&mut self, core: &mut Core, child: &ChildId) {
        self.rebalance(core).retry(child);
        self.pump(core);
    }

    /// The time is over for which a node was passed over.
    pub(crate) fn try_passed_over(&mut self, core: &mut Core, child: &ChildId) {
        self.rebalance(core).try_passed_over(child);
        self.pump(core);
    }

    /// This run is reached: what belongs there goes.
    pub(crate) fn reached(&mut self, core: &mut Core, run: NodeRun) {
        self.rebalance(core).reached(run);
        self.pump(core);
    }
}

/// Moves from others.
impl Children {
    /// A node offers a child.
    pub(crate) fn offered(&mut self, core: &mut Core, from: NodeRun, offer: Offer) {
        self.target(core).offered(from, offer);
    }

    /// A report or arrival for a move at its target. Tells whether it was awaited.
    pub(crate) fn target_input(
        &mut self,
        core: &mut Core,
        child: &ChildId,
        attempt: Epoch,
        input: &TargetInput,
    ) -> bool {
        self.target(core).input(child, attempt, input)
    }

    /// A successor was built, or could not be.
    pub(crate) fn built(
        &mut self,
        core: &mut Core,
        child: &ChildId,
        attempt: Epoch,
        outcome: Result<(), BuildFailure>,
    ) {
        self.target(core).built(child, attempt, outcome);
    }

    /// The time of a successor in the making is over, or it is tried again.
    pub(crate) fn target_expired(&mut self, core: &mut Core, child: &ChildId, attempt: Epoch) {
        self.target(core).expired(child, attempt);
    }

    /// A successor runs, or its `started` failed.
    pub(crate) fn opened(
        &mut self,
        core: &mut Core,
        child: &ChildId,
        epoch: Epoch,
        outcome: Result<(), String>,
    ) {
        self.target(core).opened(child, epoch, outcome);
    }

    /// A source asks after its successor.
    pub(crate) fn queried(&mut self, core: &mut Core, from: NodeRun, child: ChildId, epoch: Epoch) {
        self.target(core).queried(from, child, epoch);
    }

    /// A target says that a successor is gone: it is told if nothing is left here either.
    pub(crate) fn tell_lost(
        &mut self,
        core: &mut Core,
        to: NodeRun,
        child: &ChildId,
        epoch: Epoch,
    ) {
        self.source(core).tell_lost(to, child, epoch);
    }

    /// A source has nothing left of a child that it has committed to this node.
    pub(crate) fn source_lost(
        &mut self,
        core: &mut Core,
        from: NodeRun,
        child: &ChildId,
        epoch: Epoch,
    ) {
        self.target(core).source_lost(from, child, epoch);
    }

    /// This node takes no children any more: not even those that it has said it would.
    pub(crate) fn take_no_more(&mut self, core: &mut Core) {
        self.target(core).take_no_more();
    }

    /// Begins a child anew that a node which is gone has committed to this one, if nothing of it is here.
    pub(crate) fn revive_lost(&mut self, core: &mut Core, child: &ChildId) {
        self.target(core).revive_lost(child);
    }
}

/// The registry, and roll calls.
impl Children {
    /// Looks at one child after what is known of it changed.
    pub(crate) fn child_changed(&mut self, core: &mut Core, child: &ChildId) {
        self.registry_says(core).changed(child);
        self.lifecycle(core).start_again(child);
        rebalance::want_again(&self.table, &mut self.pacing, child);
        self.pump(core);
    }

    /// A home calls the roll: says what is held here and promises to obey no lower claim.
    pub(crate) fn called(&mut self, core: &mut Core, from: NodeRun, roll: u64, claims: Vec<Claim>) {
        self.roll(core).called(from, roll, claims);
    }

    /// A roll call gave the child to this node, to be made of what it `holds`.
    pub(crate) fn take(
        &mut self,
        core: &mut Core,
        home: NodeRun,
        ownership: Ownership,
        holds: Copy,
    ) {
        self.roll(core).take(home, ownership, holds);
    }

    /// Asks a child's home to call the roll for it once more.
    pub(crate) fn call_again(&self, core: &mut Core, child: &ChildId) {
        call_again(core, child, 0);
    }

    /// Asks the homes to call the roll for children of which nobody else wants it, and this node
    /// waits for it.
    pub(crate) fn call_unmet(&self, core: &mut Core) {
        roll::call_unmet(core);
    }
}

/// Children that were stopped while this node was away.
impl Children {
    /// A child was stopped while this node was away.
    pub(crate) fn retire(&mut self, core: &mut Core, child: &ChildId) {
        self.retiring(core).begin(child);
        self.pump(core);
    }

    /// The state of one could not be parked, or nothing was heard of it.
    pub(crate) fn rest(&mut self, core: &mut Core, child: &ChildId, epoch: Epoch) {
        self.retiring(core).rest(child, epoch);
    }

    /// One is at rest, or could not be.
    pub(crate) fn rested(
        &mut self,
        core: &mut Core,
        child: &ChildId,
        epoch: Epoch,
        outcome: &Result<u64, FreezeFailure>,
    ) {
        self.retiring(core).rested(child, epoch, outcome);
    }

    /// A state is parked: if it is one of theirs, its actor ends.
    pub(crate) fn retired(&mut self, core: &mut Core, key: &ParkedKey) {
        self.retiring(core).parked(key);
    }
}

/// Other owners.
impl Children {
    /// A yielding owner has heard nothing: it offers its state again, to whoever owns it now.
    pub(crate) fn yield_again(&mut self, core: &mut Core, child: &ChildId, epoch: Epoch) {
        self.divergence(core).yield_again(child, epoch);
    }

    /// The owner that goes on has taken this node's state.
    pub(crate) fn yielded(
        &mut self,
        core: &mut Core,
        from: NodeRun,
        child: &ChildId,
        epoch: Epoch,
    ) {
        self.divergence(core).yielded(from, child, epoch);
    }

    /// The state of an owner that gave way to this `life` arrived.
    pub(crate) fn diverged(
        &mut self,
        core: &mut Core,
        from: NodeRun,
        child: &ChildId,
        epoch: Epoch,
        life: Epoch,
    ) {
        self.merging(core).arrived(from, child, epoch, life);
    }

    /// The state of an owner that gave way was merged, or could not be.
    pub(crate) fn merged(
        &mut self,
        core: &mut Core,
        child: &ChildId,
        epoch: Epoch,
        outcome: Result<(), String>,
    ) {
        self.merging(core).merged(child, epoch, outcome);
    }

    /// Tells who offered this state, and is not answered, that it is parked here: it parks it, too.
    pub(crate) fn tell_parked(&mut self, core: &mut Core, info: &ParkedInfo) {
        self.merging(core).tell_parked(info);
    }

    /// A state that nobody merged is safe without the owner that offered it.
    pub(crate) fn parked(&mut self, core: &mut Core, key: &ParkedKey) {
        self.merging(core).parked(key);
    }

    /// A state that nobody merged is here no more: its owner offers it again.
    pub(crate) fn not_parked(&mut self, key: &ParkedKey) {
        self.merges.end_parked(key);
    }
}
