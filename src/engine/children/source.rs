//! A move at its old owner: carries out what the source's table of [`handover`] says, for many
//! children at a time.

use std::{collections::VecDeque, time::Duration};

use super::{
    attempts::{MoveBackoff, Wanted},
    moving::{Move, options},
    pacing::Pacing,
    retry::{self, Failed, Next},
    steps::Steps,
    table::Table,
};
use crate::{
    engine::{
        core::{Core, News, Timer},
        handover::{self, Again, SourceInput, SourceStage, SourceStep},
        io::{ChildOrder, FreezeFailure},
    },
    model::{
        child::{Entry, Epoch},
        event::HubEvent,
        id::{ChildId, NodeId, NodeRun},
        message::{HandoverWord, PeerMessage},
        report::MigrateOutcome,
        words::brief,
    },
};

/// How often a committed source asks after a successor that it does not see.
const QUERY_AFTER: Duration = Duration::from_secs(1);

/// The moves of children of this node to others.
///
/// A move that ends makes room for others: whoever has called it starts them afterwards.
pub(super) struct Source<'a> {
    pub(super) table: &'a mut Table,
    pub(super) pacing: &'a mut Pacing,
    pub(super) core: &'a mut Core,
}

impl Source<'_> {
    fn steps(&mut self) -> Steps<'_> {
        Steps { table: self.table, pacing: self.pacing, core: self.core }
    }

    /// A word or report about a move. What another run of the target says is of no consequence: it does
    /// not know what the one before it has done.
    pub(super) fn input(
        &mut self,
        child: &ChildId,
        epoch: Epoch,
        from: Option<NodeRun>,
        input: &SourceInput,
    ) {
        let Some(moving) = self.table.moving(child) else { return };
        // A word of an older attempt was overtaken by an abort: that attempt has an epoch of its own,
        // and what came of it is decided.
        if moving.epoch() != epoch || from.is_some_and(|from| from != moving.to()) {
            return;
        }
        if let SourceInput::Frozen(outcome) = input
            && moving.with_state()
        {
            self.note_state(child, outcome);
        }
        self.step(child, input.clone());
    }

    /// The target of a committed attempt has no successor: it is told if the actor that was kept for that has
    /// ended, too.
    pub(super) fn tell_lost(&mut self, to: NodeRun, child: &ChildId, epoch: Epoch) {
        let is_here = self.table.instance(child).is_some() || self.table.successor(child).is_some();
        let best = self.core.registry.best(child);
        let is_committed = best.is_some_and(|best| {
            let is_moved = matches!(best.entry, Entry::Moved { .. });
            is_moved && (best.owner, best.writer, best.epoch) == (to, self.core.me, epoch)
        });
        if is_committed && !is_here {
            let word = HandoverWord::Lost { child: child.clone(), epoch };
            self.core.send(to.node, PeerMessage::Handover(word));
        }
    }

    /// The state of a child that runs here was encoded, or could not be.
    pub(super) fn tried(
        &mut self,
        child: &ChildId,
        epoch: Epoch,
        outcome: &Result<u64, FreezeFailure>,
    ) {
        // What an actor had that ended meanwhile says nothing of the one that came after it.
        if self.table.instance(child).is_some_and(|instance| instance.epoch() == epoch) {
            self.note_state(child, outcome);
        }
    }

    fn note_state(&mut self, child: &ChildId, outcome: &Result<u64, FreezeFailure>) {
        let Some(instance) = self.table.instance_mut(child) else { return };
        if let Some(reason) = instance.note_state(outcome) {
            self.core.emit(HubEvent::ChildCannotMove { child: child.clone(), reason });
        }
    }

    /// An input for a child's move. What it causes follows in the same call.
    pub(super) fn step(&mut self, child: &ChildId, input: SourceInput) {
        let mut inputs = VecDeque::from([(child.clone(), input)]);
        while let Some((child, input)) = inputs.pop_front() {
            self.one_step(&child, &input, &mut inputs);
        }
    }

    fn one_step(
        &mut self,
        child: &ChildId,
        input: &SourceInput,
        then: &mut VecDeque<(ChildId, SourceInput)>,
    ) {
        let is_bound = self.core.promises.binds(child);
        let now = self.core.now;
        let Some(moving) = self.table.moving_mut(child) else { return };
        let before = moving.stage();
        // A target that needs no state stands at once, perhaps before started handlers are resolved
        // here. It says so once: without this note the move would wait for it until its deadline.
        if *input == SourceInput::Ready && before < SourceStage::Sent {
            moving.set_ready();
        }
        let (mut stage, mut step) = handover::source(before, input);
        if step == SourceStep::Commit
            && let Some(instead) = not_committed(self.core, moving.to(), is_bound)
        {
            (stage, step) = handover::source(before, &instead);
        }
        // What is held was told to the home, which may give the child to another: it goes on only if
        // the home says so, whatever has become of the successor. Otherwise two of them would run, this
        // one with what the other has not seen.
        if is_bound && moving.is_committed() && matches!(step, SourceStep::Abort { .. }) {
            return;
        }
        moving.enter(stage, now);
        match step {
            SourceStep::Nothing => {}
            SourceStep::Freeze => then.extend(self.freeze(child)),
            SourceStep::AskRoom => {
                if let SourceInput::Frozen(Ok(size)) = input {
                    moving.set_bytes(*size);
                }
                self.pacing.wait_for_room(child);
                self.give_room(then);
            }
            SourceStep::SendState => then.extend(self.send_state(child)),
            SourceStep::Commit => self.commit(child),
            SourceStep::Finish => self.finish(child),
            SourceStep::Abort { thaw, again, reason } => self.abort(child, thaw, again, reason),
        }
    }

    /// The target will take it: the gate is closed, and what has started comes to its end.
    fn freeze(&mut self, child: &ChildId) -> Option<(ChildId, SourceInput)> {
        let moving = self.table.moving(child)?;
        let (epoch, with_state, forced) = (moving.epoch(), moving.with_state(), moving.is_forced());
        let (kind, to) = (moving.kind().clone(), moving.to().node);
        self.core.emit(HubEvent::HandoverStarted { child: child.clone(), kind, to, epoch });
        if moving.waits().is_some() {
            // No handler runs, and its gate is closed already.
            return Some((child.clone(), SourceInput::Frozen(Ok(0))));
        }
        let retention = options(self.core).0.retention;
        let child = child.clone();
        self.core.order(ChildOrder::Freeze { child, epoch, retention, forced, with_state });
        None
    }

    /// Lets states go, in order, while there is room for their bytes.
    fn give_room(&mut self, then: &mut VecDeque<(ChildId, SourceInput)>) {
        let most = self.core.config.settings.move_bytes as u64;
        let table = &*self.table;
        let bytes = |child: &ChildId| table.moving(child).map(Move::bytes);
        while let Some(child) = self.pacing.next_to_send(most, bytes) {
            then.push_back((child, SourceInput::Room));
        }
    }

    /// Room may have come free: lets states go.
    pub(super) fn send_next(&mut self) {
        let mut inputs = VecDeque::new();
        self.give_room(&mut inputs);
        while let Some((child, input)) = inputs.pop_front() {
            self.one_step(&child, &input, &mut inputs);
        }
    }

    fn send_state(&mut self, child: &ChildId) -> Option<(ChildId, SourceInput)> {
        let moving = self.table.moving(child)?;
        let (epoch, to) = (moving.epoch(), moving.to());
        if moving.with_state() {
            self.core.order(ChildOrder::SendState { child: child.clone(), epoch, to });
        }
        let (options, _) = options(self.core);
        // All that is on its way shares the links.
        let wait = options.handover_data_wait
            + options.child_migration_timeout
            + Core::time_for(self.pacing.bytes());
        self.core.timer(wait, Timer::Source(child.clone(), epoch));
        moving.is_ready().then(|| (child.clone(), SourceInput::Ready))
    }

    /// From here on the successor owns the child.
    fn commit(&mut self, child: &ChildId) {
        let Some(moving) = self.table.moving(child) else { return };
        let (epoch, to, ownership) = (moving.epoch(), moving.to(), moving.ownership().clone());
        // The entry first: whoever is sent on finds no node that still says that it is the owner, and
        // never none at all.
        self.core.write(child, Entry::Moved { to, ownership });
        self.core.order(ChildOrder::MovedAway { child: child.clone(), to, epoch });
        self.core.timer(QUERY_AFTER, Timer::Query(child.clone(), epoch));
    }

    /// The successor runs: nothing needs the old actor any more.
    fn finish(&mut self, child: &ChildId) {
        let Some(mut moving) = self.steps().end_move(child) else { return };
        // Who asked meanwhile for yet another place asks the new owner again.
        let ended = self.table.remove(child);
        self.core.news.extend(ended.and_then(|mut ended| ended.take_start()));
        let (to, epoch, now) = (moving.to().node, moving.epoch(), self.core.now);
        let waiters = moving.take_waiters();
        self.core.order(ChildOrder::End { child: child.clone() });
        self.core.emit(HubEvent::HandedOver {
            child: child.clone(),
            kind: moving.kind().clone(),
            to,
            epoch,
            bytes: moving.bytes(),
            took: now.saturating_duration_since(moving.started()),
            phases: moving.phases(now),
        });
        // One that has gone on from there meanwhile need not be where somebody has asked for since.
        let is_there = self.core.registry.best(child).is_some_and(|best| best.owner.node == to);
        if !waiters.is_empty() && is_there {
            let (child, outcome) = (child.clone(), MigrateOutcome::Moved { node: to, epoch });
            self.core.news.push_back(News::Migrated { waiters, child, outcome });
        }
        self.pacing.succeeded(self.core.config.settings.moves);
    }

    /// Gives a move up: the child goes on here. When it is tried again, and where, is decided at once.
    fn abort(&mut self, child: &ChildId, thaw: bool, again: Again, reason: String) {
        // A peer may have said it.
        let reason = brief(reason);
        let Some(mut moving) = self.steps().end_move(child) else { return };
        let core = &mut *self.core;
        let Some(instance) = self.table.instance_mut(child) else { return };
        if thaw {
            // Its own entry, above the attempt: wherever the target hears it, by word or by log, it
            // means the abort, and a word of that attempt which is still on its way means nothing.
            instance.raise_attempt();
            core.write(child, Entry::Owned(instance.ownership().clone()));
            core.order(instance.go_on());
        } else if moving.waits().is_some() {
            // The time for its next start may have come meanwhile.
            core.news.push_back(News::Changed { child: child.clone() });
        }
        let to = moving.to().node;
        instance.attempts_mut().note_trouble(to, reason.clone());
        let passing = again == Again::Soon;
        if !passing || thaw {
            core.emit(HubEvent::HandoverFailed {
                child: child.clone(),
                kind: moving.kind().clone(),
                to,
                epoch: moving.epoch(),
                reason: reason.clone(),
                // Also after the commit: then the successor itself has said that it did not start.
                may_have_run: false,
                bytes: moving.bytes(),
                phases: moving.phases(core.now),
            });
        }
        let (waiters, forced) = (moving.take_waiters(), moving.is_forced());
        let asks_on = passing && instance.attempts().wanted().is_none();
        let is_told = !waiters.is_empty() && !asks_on;
        if is_told {
            let (child, outcome) = (child.clone(), MigrateOutcome::Failed { reason });
            core.news.push_back(News::Migrated { waiters, child, outcome });
        } else if !waiters.is_empty() {
            instance.attempts_mut().want_again(Wanted { to: Some(to), forced, waiters });
        }
        let start = if instance.is_to_stop() { None } else { instance.take_start() };
        if start.is_some() {
            return core.news.extend(start);
        }
        self.plan_next(child, to, again, is_told);
    }

    /// When a child whose move failed is tried again. `is_told`: whoever asked for the move knows that it
    /// has failed.
    fn plan_next(&mut self, child: &ChildId, to: NodeId, again: Again, is_told: bool) {
        let core = &mut *self.core;
        let Some(instance) = self.table.instance_mut(child) else { return };
        let is_to_stop = instance.is_to_stop();
        let attempts = instance.attempts_mut();
        match again {
            Again::Soon => {}
            Again::Counted | Again::NextView => attempts.count_failure(),
            Again::Elsewhere => attempts.refused_by(to),
            Again::PassOver => attempts.pass_over(core, child, to),
        }
        let failed = Failed {
            again,
            is_to_stop,
            is_wanted: attempts.wanted().is_some(),
            is_told,
            is_emptying: core.emptying,
            failures: attempts.failures(),
            most: core.config.settings.move_retries,
        };
        match retry::next(&failed) {
            Next::Stop => self.steps().stop(child),
            Next::Ask => self.pacing.ask(child),
            Next::Retry(after) => {
                attempts.back_off(MoveBackoff::Retry);
                core.timer(after, Timer::Retry(child.clone()));
            }
            Next::View => attempts.back_off(MoveBackoff::View),
            Next::Stay => {}
        }
    }

    /// A source whose commit is not answered asks after its successor.
    pub(super) fn query(&mut self, child: &ChildId, epoch: Epoch) {
        let Some(moving) = self.table.moving(child) else { return };
        if moving.is_committed() && moving.epoch() == epoch {
            let word = HandoverWord::Query { child: child.clone(), epoch };
            self.core.send(moving.to().node, PeerMessage::Handover(word));
            self.core.timer(QUERY_AFTER, Timer::Query(child.clone(), epoch));
        }
    }

    /// The deadline of a move passed.
    pub(super) fn expired(&mut self, child: &ChildId, epoch: Epoch) {
        let Some(moving) = self.table.moving(child) else { return };
        if moving.epoch() != epoch {
            return;
        }
        // The first deadline was set before the size was known; the second one counts.
        let (options, _) = options(self.core);
        let allowed = options.child_migration_timeout + Core::time_for(moving.bytes());
        let took = self.core.now.saturating_duration_since(moving.started());
        if moving.stage() == SourceStage::Sent && took < allowed {
            self.core.timer(allowed - took, Timer::Source(child.clone(), epoch));
            return;
        }
        self.step(child, SourceInput::Expired);
    }

    /// A member went, or began to leave: moves to it.
    pub(super) fn peer_changed(&mut self, node: NodeId) {
        let member = self.core.view.member(node);
        let is_emptying = member.is_some_and(|member| !member.takes_children());
        let moves = self.table.moves().filter(|(_, moving)| moving.to().node == node);
        let inputs: Vec<(ChildId, SourceInput)> = moves
            .filter_map(|(child, moving)| {
                let input = if !self.core.is_live(moving.to()) {
                    SourceInput::TargetGone
                } else if is_emptying && moving.stage() == SourceStage::Offered {
                    SourceInput::TargetLeaving
                } else {
                    return None;
                };
                Some((child.clone(), input))
            })
            .collect();
        for (child, input) in inputs {
            self.step(&child, input);
        }
    }

    /// The link to this run broke. What is not committed begins again on the next one: a frozen
    /// child must not wait for words that were lost.
    pub(super) fn link_lost(&mut self, run: NodeRun) {
        let moves = self.table.moves().filter(|(_, moving)| moving.to() == run);
        let children: Vec<ChildId> = moves.map(|(child, _)| child.clone()).collect();
        for child in children {
            self.step(&child, SourceInput::LinkLost);
        }
    }
}

/// Why a move to this run is not committed now. Until then the child is this node's.
fn not_committed(core: &Core, to: NodeRun, is_bound: bool) -> Option<SourceInput> {
    // A home was told that the child runs here, and may give it to another by that: it would have two
    // owners then.
    if is_bound {
        return Some(SourceInput::Promised);
    }
    // Who goes says Bye only when its own children are out, and would take this one along; who is gone
    // never opens it.
    let member = core.view.member(to.node).filter(|member| member.run() == to);
    match member {
        Some(member) if member.takes_children() => None,
        Some(_) => Some(SourceInput::TargetLeaving),
        None => Some(SourceInput::TargetGone),
    }
}
