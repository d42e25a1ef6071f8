//! A move at its new owner: carries out what the target's table of [`handover`] says.

use super::{
    instance::Instance,
    moving::options,
    pacing::Pacing,
    phase::{Begin, StopOrder},
    steps::{Start, Steps},
    successor::Successor,
    table::Table,
};
use crate::{
    engine::{
        core::{Core, News, OtherHolder, Timer},
        handover::{self, TargetInput, TargetStage, TargetStep},
        io::{BuildFailure, ChildOrder},
    },
    model::{
        child::{Entry, Epoch, Ownership},
        event::HubEvent,
        id::{ChildId, NodeId, NodeRun},
        member::ViewId,
        message::{HandoverWord, PeerMessage, RefuseReason, RollWord},
        parked::ParkedKey,
    },
};

/// Successors in the making, for each move that the settings allow at a time; they may come from many
/// nodes.
const SUCCESSORS_PER_MOVE: usize = 64;

/// Why a successor that stands ready is parked.
const BEGUN_ANEW: &str = "its owner went down while it moved here, and another node began it anew";

/// What a node offers: see [`HandoverWord::Offer`].
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) ownership: Ownership,
    pub(crate) state: Epoch,
    pub(crate) state_version: u32,
    pub(crate) with_state: bool,
    pub(crate) view: ViewId,
}

/// Tells a child's home that what was to become of it in this term does not.
pub(super) fn call_again(core: &mut Core, child: &ChildId, term: u64) {
    let term = core.promises.term(child).unwrap_or(0).max(term);
    if let Some(home) = core.home(child) {
        let word = RollWord::Again { child: child.clone(), term };
        core.send(home, PeerMessage::Roll(word));
    }
}

/// The moves of children of other nodes to this one.
pub(super) struct Target<'a> {
    pub(super) table: &'a mut Table,
    pub(super) pacing: &'a mut Pacing,
    pub(super) core: &'a mut Core,
}

impl Target<'_> {
    fn steps(&mut self) -> Steps<'_> {
        Steps { table: self.table, pacing: self.pacing, core: self.core }
    }

    /// A node offers a child.
    pub(super) fn offered(&mut self, from: NodeRun, offer: Offer) {
        let child = offer.ownership.spec.id().clone();
        let epoch = offer.ownership.epoch;
        if let Some(reason) = self.refusal(from, &offer) {
            let word = HandoverWord::Refuse { child, epoch, reason };
            self.core.send(from.node, PeerMessage::Handover(word));
            return;
        }
        let Offer { ownership, state, with_state, .. } = offer;
        let successor = Successor::new(from, ownership, state, with_state);
        if let Some(older) = self.table.expect(child.clone(), successor) {
            let epoch = older.attempt();
            self.core.order(ChildOrder::Discard { child: child.clone(), epoch });
        }
        let word = HandoverWord::Accept { child: child.clone(), epoch };
        self.core.send(from.node, PeerMessage::Handover(word));
        if with_state {
            // The source's deadlines are the ones that count; this one is for a source that
            // forgot.
            let (options, _) = options(self.core);
            let wait = (options.child_migration_timeout + options.retention) * 10
                + Core::time_for(self.core.config.settings.state_limit as u64);
            self.core.timer(wait, Timer::Target(child, epoch));
        } else {
            self.step(&child, &TargetInput::State);
        }
    }

    fn refusal(&self, from: NodeRun, offer: &Offer) -> Option<RefuseReason> {
        let Offer { ownership, state_version, with_state, view, .. } = offer;
        let core = &*self.core;
        let child = ownership.spec.id();
        let epoch = ownership.epoch;
        let Some(kind) = core.config.kinds.get(ownership.spec.kind()) else {
            return Some(RefuseReason::UnknownKind);
        };
        let (oldest, newest) = (kind.oldest_state_version, kind.state_version);
        if *with_state && !(oldest..=newest).contains(state_version) {
            return Some(RefuseReason::StateVersion { oldest, newest });
        }
        if core.emptying {
            return Some(RefuseReason::Leaving);
        }
        // Two nodes with different views may each find that the child belongs to the other: it would go
        // back and forth.
        if *view != core.view_id || !core.settled {
            return Some(RefuseReason::View);
        }
        if core.belongs(ownership, &Default::default()) != Some(core.me.node) {
            return Some(RefuseReason::NotMine);
        }
        let older = |successor: &Successor| {
            successor.from() == from
                && successor.attempt() < epoch
                && successor.stage() < TargetStage::Opening
        };
        let most = core.config.settings.moves.saturating_mul(SUCCESSORS_PER_MOVE);
        let busy = self.table.instance(child).is_some()
            || core.promises.binds(child)
            || self.table.successor(child).is_some_and(|successor| !older(successor))
            || !epoch.can_follow(core.registry.highest_epoch(child))
            || self.table.successor_count() >= most;
        busy.then_some(RefuseReason::Busy)
    }

    /// A report or arrival for a move. Tells whether it was awaited.
    pub(super) fn input(&mut self, child: &ChildId, attempt: Epoch, input: &TargetInput) -> bool {
        let is_awaited = |successor: &Successor| successor.attempt() == attempt;
        if !self.table.successor(child).is_some_and(is_awaited) {
            return false;
        }
        self.step(child, input);
        true
    }

    /// An input for a child's move.
    pub(super) fn step(&mut self, child: &ChildId, input: &TargetInput) {
        let Some(target) = self.table.successor_mut(child) else { return };
        let before = target.stage();
        let (stage, step) = handover::target(before, input);
        target.enter(stage);
        let (from, attempt) = (target.from(), target.attempt());
        let epoch = target.ownership().epoch;
        let core = &mut *self.core;
        let failed = |BuildFailure { reason, lasts }, gone| {
            let (child, epoch) = (child.clone(), attempt);
            PeerMessage::Handover(HandoverWord::Failed { child, epoch, reason, gone, lasts })
        };
        match step {
            TargetStep::Nothing => {}
            TargetStep::Build => core.order(ChildOrder::Build {
                spec: target.ownership().spec.clone(),
                epoch: attempt,
                from,
                with_state: target.with_state(),
            }),
            TargetStep::SayReady => {
                let word = HandoverWord::Ready { child: child.clone(), epoch: attempt };
                core.send(from.node, PeerMessage::Handover(word));
            }
            TargetStep::WarnFailed(reason) => {
                core.send(from.node, failed(BuildFailure::passing(reason), false));
            }
            TargetStep::Fail(failure) => {
                core.order(ChildOrder::Discard { child: child.clone(), epoch: attempt });
                let Some(target) = self.table.remove_successor(child) else { return };
                let is_own = before >= TargetStage::Opening && !core.is_live(from);
                if target.is_recovered() || is_own {
                    self.begin_again(target);
                } else {
                    core.send(from.node, failed(failure, true));
                }
            }
            TargetStep::SayFailed(reason) => {
                core.send(from.node, failed(BuildFailure::passing(reason), true));
                self.try_later(child);
            }
            TargetStep::TryLater => self.try_later(child),
            TargetStep::Review => core.news.push_back(News::Changed { child: child.clone() }),
            TargetStep::ParkAndBegin => self.park_and_begin(child),
            TargetStep::Refuse(reason) => {
                self.table.remove_successor(child);
                let word = HandoverWord::Refuse { child: child.clone(), epoch: attempt, reason };
                core.send(from.node, PeerMessage::Handover(word));
            }
            TargetStep::Drop => {
                core.order(ChildOrder::Discard { child: child.clone(), epoch: attempt });
                self.table.remove_successor(child);
            }
            TargetStep::Park => self.park(child, BEGUN_ANEW),
            TargetStep::Open => {
                core.order(ChildOrder::Open { child: child.clone(), built: attempt, epoch });
            }
            TargetStep::Own => self.own(child),
        }
    }

    /// Nobody else has the state that came, and the child goes on without it, or not at all.
    pub(super) fn park(&mut self, child: &ChildId, reason: &str) {
        let Some(successor) = self.table.remove_successor(child) else { return };
        let built = successor.attempt();
        if !successor.with_state() {
            return self.core.order(ChildOrder::Discard { child: child.clone(), epoch: built });
        }
        let (run, epoch) = (successor.from(), successor.state());
        let key = ParkedKey { child: child.clone(), run, epoch };
        let kind = successor.ownership().spec.kind().clone();
        let reason = reason.to_owned();
        self.core.news.push_back(News::Parks { key: key.clone(), other: OtherHolder::None });
        self.core.order(ChildOrder::ParkBuilt { key, kind, built, reason });
    }

    /// The successor runs: this node owns the child, and its entry says so.
    fn own(&mut self, child: &ChildId) {
        let Some(successor) = self.table.remove_successor(child) else { return };
        let (from, came, recovered) =
            (successor.from().node, successor.came(), successor.is_recovered());
        let (ownership, stops) = successor.into_owner();
        // A roll call took the rest of it from the entry of an owner that had failed.
        let ownership = Ownership { failure: None, ..ownership };
        let (kind, epoch) = (ownership.spec.kind().clone(), ownership.epoch);
        self.core.write(child, Entry::Owned(ownership.clone()));
        let instance = Instance::opened(self.core, ownership, came, stops);
        let is_to_stop = instance.is_to_stop();
        let superseded = self.table.put(child.clone(), instance);
        debug_assert!(superseded.is_none(), "the successor was taken out");
        if recovered {
            self.core.recovered(child.clone(), epoch, true);
        } else {
            self.core.emit(HubEvent::TakenOver { child: child.clone(), kind, from, epoch });
        }
        if is_to_stop {
            self.steps().stop(child);
        } else {
            self.core.news.push_back(News::Changed { child: child.clone() });
        }
    }

    /// Begins a child anew that a node which is gone has committed to this one, if nothing of it is here.
    pub(super) fn revive_lost(&mut self, child: &ChildId) {
        let core = &*self.core;
        let Some(best) = core.registry.best(child) else { return };
        if best.writer == core.me || !core.is_live(best.writer) {
            self.revive_if_missing(child);
        }
    }

    /// The source of a child that it has committed to this node has nothing left of it. A state that is kept is
    /// tried again, as that of a source that is gone; if there is none either the child begins anew.
    pub(super) fn source_lost(&mut self, from: NodeRun, child: &ChildId, attempt: Epoch) {
        let is_it =
            |successor: &&mut Successor| successor.from() == from && successor.attempt() == attempt;
        let best = self.core.registry.best(child);
        let is_committed = best.is_some_and(|best| (best.writer, best.epoch) == (from, attempt));
        match self.table.successor_mut(child).filter(is_it) {
            Some(successor) => successor.lose_source(),
            None if is_committed => self.revive_if_missing(child),
            None => {}
        }
    }

    /// Begins a child of this node anew if nothing of it is here.
    fn revive_if_missing(&mut self, child: &ChildId) {
        let core = &*self.core;
        // What was promised to a roll call is for its home to decide.
        if self.table.instance(child).is_some()
            || self.table.successor(child).is_some()
            || core.promises.binds(child)
            || core.registry.best(child).is_none_or(|best| best.owner != core.me)
        {
            return;
        }
        if let Some((_, ownership)) = core.registry.owner(child) {
            let ownership = ownership.clone();
            self.revive(ownership, Vec::new());
        }
    }

    /// Starts a child of this node anew, as nothing is left of it here or at its last owner.
    pub(super) fn revive(&mut self, ownership: Ownership, stops: Vec<StopOrder>) {
        let highest = self.core.registry.highest_epoch(ownership.spec.id());
        let epoch = highest.max(ownership.epoch).next_attempt();
        let Ownership { spec, pinned, origin, .. } = ownership;
        self.steps().begin(Start { spec, epoch, pinned, origin, stops }, Begin::Recovered);
    }

    /// A source asks after its successor.
    pub(super) fn queried(&mut self, from: NodeRun, child: ChildId, epoch: Epoch) {
        let is_it = |successor: &Successor| successor.attempt() == epoch;
        let held = self.table.successor(&child).is_some_and(is_it)
            || self.table.instance(&child).is_some();
        // Somebody's higher entry will tell the source.
        if held || self.core.registry.highest_epoch(&child) > epoch {
            return;
        }
        let reason = "nothing is left of the successor".to_owned();
        let word = HandoverWord::Failed { child, epoch, reason, gone: true, lasts: false };
        self.core.send(from.node, PeerMessage::Handover(word));
    }

    /// A member went: moves from it.
    pub(super) fn peer_changed(&mut self, node: NodeId) {
        let is_from = |successor: &Successor| {
            successor.from().node == node && !self.core.is_live(successor.from())
        };
        let from = self.table.successors().filter(|(_, successor)| is_from(successor));
        let from: Vec<ChildId> = from.map(|(child, _)| child.clone()).collect();
        for child in from {
            self.step(&child, &TargetInput::SourceGone);
        }
    }

    /// This node takes no children any more: not even those that it has said it would.
    pub(super) fn take_no_more(&mut self) {
        // A source that lives goes on with its actor when it hears that its successor did not start.
        let is_kept_for_source = |successor: &Successor| {
            let stage = successor.stage();
            matches!(stage, TargetStage::Kept | TargetStage::Rebuilding)
                && successor.source_lives(self.core)
        };
        let successors = self.table.successors().filter(|(_, it)| !is_kept_for_source(it));
        let children: Vec<ChildId> = successors.map(|(child, _)| child.clone()).collect();
        for child in children {
            self.step(&child, &TargetInput::Leaving);
        }
    }
}
