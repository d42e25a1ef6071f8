//! Carries out what the tables of [`handover`](crate::engine::handover) say, for many children at a time.

use std::{collections::BTreeSet, time::Duration};

use super::{Begin, Children, Instance, Move, Phase, Rest, Target, Trouble, Wanted};
use crate::engine::{
    core::{Core, News, OtherHolder, Timer},
    handover::{
        self, Again, SourceInput, SourceStage, SourceStep, TargetInput, TargetStage, TargetStep,
    },
    io::{BuildFailure, ChildOrder, FreezeFailure},
};
use crate::model::{
    child::{Entry, Epoch, Ownership},
    event::HubEvent,
    id::{ChildId, NodeId, NodeRun, RequestId},
    member::ViewId,
    message::{HandoverWord, PeerMessage, RefuseReason},
    parked::ParkedKey,
    report::MigrateOutcome,
    settings::{HotSwapOptions, Migration},
    words::brief,
};

/// Moves that may be under way before any has ended; each that ends well allows one more.
const FIRST_MOVES: usize = 16;
/// How long a move that failed for a passing reason waits before it is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// How often that doubles on a node that is emptying, for a reason that lasts.
const DOUBLINGS: u32 = 8;
/// How often a committed source asks after a successor that it does not see.
const QUERY_AFTER: Duration = Duration::from_secs(1);

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

fn options(core: &Core) -> (HotSwapOptions, bool) {
    match &core.config.settings.migration {
        Migration::HotSwap(options) => (options.clone(), options.handover),
        Migration::ColdSwap => (HotSwapOptions::default(), false),
    }
}

impl Children {
    /// What was found out of a child of this node under an earlier view is void. Where it belongs now is
    /// looked at next.
    pub(crate) fn view_settled(&mut self, core: &mut Core, child: &ChildId) {
        if let Some(instance) = self.instances.get_mut(child) {
            instance.retries = 0;
            instance.rest = None;
            instance.not.clear();
        }
        self.give_another_try(core, child);
        self.want_again(child);
    }

    /// Who could be reached by a state is asked anew for every child.
    pub(crate) fn forget_ways(&mut self) {
        self.without_way.clear();
    }

    /// A migration that was asked for while its child could not go is offered once it can.
    pub(crate) fn want_again(&mut self, child: &ChildId) {
        let asked = self.instances.get(child).is_some_and(|instance| {
            instance.wanted.is_some() && instance.rest != Some(Rest::Retry)
        });
        if asked {
            self.turns.ask(child);
        }
    }

    /// Queues a child for a move if it belongs elsewhere.
    pub(crate) fn enqueue(&mut self, core: &Core, child: &ChildId) {
        let Some(instance) = self.instances.get(child) else { return };
        // Who was given up goes where somebody sends it; else it is started here first, unless this
        // node is to be empty.
        let given_up = instance.ownership.is_given_up() && !core.emptying;
        if !instance.may_move() || given_up || instance.rest.is_some() {
            return;
        }
        match core.belongs(&instance.ownership, instance.not.nodes()) {
            Some(node) if node != core.me.node => {
                self.turns.belongs_elsewhere(child);
            }
            _ => {
                self.turns.belongs_here(child);
            }
        }
    }

    /// Starts as many moves as are allowed.
    pub(crate) fn pump(&mut self, core: &mut Core) {
        self.give_room(core);
        if !core.settled {
            return;
        }
        self.allowed = self.allowed.max(FIRST_MOVES);
        let limit = self.allowed.min(core.config.settings.moves);
        while self.moving < limit {
            let Some(child) = self.turns.next() else { break };
            self.offer(core, &child);
        }
    }

    fn offer(&mut self, core: &mut Core, child: &ChildId) {
        // What is merged now would be in the state, and not in the ownership that was offered.
        let waits = core.promises.binds(child) || self.merges.is_merging(child);
        let Some(instance) = self.instances.get_mut(child) else { return };
        if !instance.may_move() || waits {
            return;
        }
        let belongs = core.belongs(&instance.ownership, instance.not.nodes());
        let node = match (&instance.wanted, belongs) {
            (Some(wanted), _) => wanted.to,
            (None, Some(node)) => node,
            (None, None) => return,
        };
        let to = core.placeable.iter().find(|member| member.id == node).map(|m| m.run());
        if let Some(to) = to.filter(|to| *to != core.me && !core.reaches(*to)) {
            // The state could not go there. It is offered when it can.
            self.without_way.entry(to).or_default().insert(child.clone());
            return;
        }
        let wanted = instance.wanted.take();
        instance.rest = None;
        if node == core.me.node
            && let Some(wanted) = wanted
        {
            return self.pin(core, child, wanted.waiters);
        }
        let (waiters, forced) = wanted
            .as_ref()
            .map_or((Vec::new(), false), |wanted| (wanted.waiters.clone(), wanted.forced));
        let Some(to) = to.filter(|to| *to != core.me) else {
            if !waiters.is_empty() {
                let outcome = MigrateOutcome::NoSuchNode;
                core.news.push_back(News::Migrated { waiters, child: child.clone(), outcome });
            }
            return;
        };
        let waits = match instance.phase {
            Phase::Waiting(wait) => Some(wait),
            _ => None,
        };
        let (options, with_state) = options(core);
        let with_state = with_state && waits.is_none();
        let epoch = instance.burn();
        // A pin tells the target, whose view is the same, that the child was sent there on purpose.
        let usual = core.belongs(&instance.ownership, &BTreeSet::new());
        let on_purpose = wanted.is_some() || usual != Some(node);
        let pinned = if on_purpose {
            Some(node)
        } else {
            instance.ownership.pinned.filter(|pin| *pin == node)
        };
        let state = instance.ownership.epoch;
        let ownership = Ownership { epoch, pinned, failure: None, ..instance.ownership.clone() };
        let state_version =
            core.config.kinds.get(ownership.spec.kind()).map_or(1, |kind| kind.state_version);
        instance.phase = Phase::Moving(Box::new(Move {
            to,
            ownership: ownership.clone(),
            stage: SourceStage::Offered,
            entered: [(SourceStage::Offered, core.now)].into(),
            with_state,
            forced,
            started: core.now,
            bytes: 0,
            ready: false,
            waiters,
            waits,
        }));
        self.moving += 1;
        let view = core.view_id;
        core.send(
            node,
            PeerMessage::Handover(HandoverWord::Offer {
                ownership,
                state,
                state_version,
                with_state,
                view,
            }),
        );
        core.timer(options.child_migration_timeout, Timer::Source(child.clone(), epoch));
    }

    /// Whether children are here, and no other node would take any of them.
    pub(crate) fn is_stranded(&self, core: &Core) -> bool {
        self.instances.to_hand_over() > 0
            && !self.instances.any_to_hand_over(|instance| self.has_successor(core, instance))
    }

    /// Whether there is a place for this child elsewhere. Who could not make it may be able to later.
    pub(crate) fn has_successor(&self, core: &Core, instance: &Instance) -> bool {
        let mut not = instance.not.lasting();
        // A node that is emptying is not among those that take children.
        if !core.emptying {
            not.insert(core.me.node);
        }
        core.belongs(&instance.ownership, &not).is_some()
    }

    /// Somebody asks this node once more to hand its children over: those that rest after a move that
    /// failed are offered at once.
    pub(crate) fn try_again(&mut self, core: &mut Core) {
        let children: Vec<ChildId> = self.instances.behind(None).cloned().collect();
        for child in children {
            if let Some(instance) = self.instances.get_mut(&child) {
                (instance.retries, instance.rest) = (0, None);
            }
            self.enqueue(core, &child);
        }
        self.pump(core);
    }

    /// Somebody asked for a move, on this node or another.
    pub(crate) fn migrate(
        &mut self,
        core: &mut Core,
        child: &ChildId,
        to: NodeId,
        forced: bool,
        waiter: (NodeId, RequestId),
    ) {
        let Some(instance) = self.instances.get_mut(child).filter(|instance| instance.owns())
        else {
            return;
        };
        let mut answer = |outcome| {
            core.news.push_back(News::Migrated {
                waiters: vec![waiter],
                child: child.clone(),
                outcome,
            });
        };
        if !core.placeable.iter().any(|member| member.id == to) {
            return answer(MigrateOutcome::NoSuchNode);
        }
        if to == core.me.node && instance.may_move() {
            return self.pin(core, child, vec![waiter]);
        }
        if let Phase::Moving(moving) = &mut instance.phase
            && moving.to.node == to
            && moving.ownership.pinned == Some(to)
        {
            if !moving.waiters.contains(&waiter) {
                moving.waiters.push(waiter);
            }
            return;
        }
        match &mut instance.wanted {
            Some(wanted) if wanted.to == to => {
                if !wanted.waiters.contains(&waiter) {
                    wanted.waiters.push(waiter);
                }
            }
            wanted => {
                let before = wanted.replace(Wanted { to, forced, waiters: vec![waiter] });
                if let Some(before) = before {
                    core.news.push_back(News::Migrated {
                        waiters: before.waiters,
                        child: child.clone(),
                        outcome: MigrateOutcome::Failed {
                            reason: "another migration of it was asked for".to_owned(),
                        },
                    });
                }
            }
        }
        if instance.may_move() {
            self.turns.ask(child);
            self.pump(core);
        }
    }

    /// A child that shall be here is here: it stays, whatever the distribution says.
    fn pin(&mut self, core: &mut Core, child: &ChildId, waiters: Vec<(NodeId, RequestId)>) {
        let Some(instance) = self.instances.get_mut(child) else { return };
        let node = core.me.node;
        let epoch = instance.ownership.epoch;
        if instance.ownership.pinned != Some(node) {
            instance.ownership.pinned = Some(node);
            core.write(child, Entry::Owned(instance.ownership.clone()));
        }
        self.turns.belongs_here(child);
        self.give_another_try(core, child);
        let outcome = MigrateOutcome::Moved { node, epoch };
        core.news.push_back(News::Migrated { waiters, child: child.clone(), outcome });
    }

    /// A word or report for a move at its source. What another run of the target says is of no
    /// consequence: it does not know what the one before it has done.
    pub(crate) fn source_input(
        &mut self,
        core: &mut Core,
        child: &ChildId,
        epoch: Epoch,
        from: Option<NodeRun>,
        input: &SourceInput,
    ) {
        let Some(Instance { phase: Phase::Moving(moving), .. }) = self.instances.get(child) else {
            return;
        };
        if moving.ownership.epoch != epoch || from.is_some_and(|from| from != moving.to) {
            return;
        }
        if let SourceInput::Frozen(outcome) = input
            && moving.with_state
        {
            self.note_state(core, child, outcome);
        }
        self.source_step(core, child, input);
    }

    /// The state of a child that runs here was encoded, or could not be.
    pub(crate) fn tried(
        &mut self,
        core: &mut Core,
        child: &ChildId,
        epoch: Epoch,
        outcome: &Result<u64, FreezeFailure>,
    ) {
        // What an actor had that ended meanwhile says nothing of the one that came after it.
        if self.instances.get(child).is_some_and(|i| i.ownership.epoch == epoch) {
            self.note_state(core, child, outcome);
        }
    }

    fn note_state(
        &mut self,
        core: &mut Core,
        child: &ChildId,
        outcome: &Result<u64, FreezeFailure>,
    ) {
        let Some(instance) = self.instances.get_mut(child) else { return };
        if let Some(reason) = instance.immovable.note(outcome) {
            core.emit(HubEvent::ChildCannotMove { child: child.clone(), reason });
        }
    }

    pub(crate) fn source_step(&mut self, core: &mut Core, child: &ChildId, input: &SourceInput) {
        let promised = core.promises.binds(child);
        let Some(Instance { phase: Phase::Moving(moving), .. }) = self.instances.get_mut(child)
        else {
            return;
        };
        let before = moving.stage;
        if *input == SourceInput::Ready && before < SourceStage::Sent {
            moving.ready = true;
        }
        let (stage, step) = handover::source(before, input);
        let to = moving.to;
        let fit = core
            .view
            .member(to.node)
            .is_some_and(|member| member.run() == to && member.takes_children());
        if step == SourceStep::Commit && (promised || !fit) {
            let input = if promised {
                SourceInput::Promised
            } else if core.is_live(to) {
                SourceInput::TargetLeaving
            } else {
                SourceInput::TargetGone
            };
            return self.source_step(core, child, &input);
        }
        // What is held was told to the home, which may give the child to another: it goes on only if
        // the home says so, whatever has become of the successor.
        if promised && before == SourceStage::Committed && matches!(step, SourceStep::Abort { .. })
        {
            return;
        }
        moving.stage = stage;
        moving.entered.entry(stage).or_insert(core.now);
        let epoch = moving.ownership.epoch;
        match step {
            SourceStep::Nothing => {}
            SourceStep::Freeze => {
                let (options, _) = options(core);
                let (with_state, forced) = (moving.with_state, moving.forced);
                let has_actor = moving.waits.is_none();
                let kind = moving.ownership.spec.kind().clone();
                core.emit(HubEvent::HandoverStarted {
                    child: child.clone(),
                    kind,
                    to: to.node,
                    epoch,
                });
                if !has_actor {
                    // No handler runs, and its gate is closed already.
                    return self.source_step(core, child, &SourceInput::Frozen(Ok(0)));
                }
                core.order(ChildOrder::Freeze {
                    child: child.clone(),
                    epoch,
                    retention: options.retention,
                    forced,
                    with_state,
                });
            }
            SourceStep::AskRoom => {
                if let SourceInput::Frozen(Ok(size)) = input {
                    moving.bytes = *size;
                }
                self.room.push_back(child.clone());
                self.give_room(core);
            }
            SourceStep::SendState => {
                let (with_state, ready) = (moving.with_state, moving.ready);
                if with_state {
                    core.order(ChildOrder::SendState { child: child.clone(), epoch, to });
                }
                let (options, _) = options(core);
                let wait = options.handover_data_wait
                    + options.child_migration_timeout
                    + Core::time_for(self.bytes_moving);
                core.timer(wait, Timer::Source(child.clone(), epoch));
                if ready {
                    self.source_step(core, child, &SourceInput::Ready);
                }
            }
            SourceStep::Commit => {
                let ownership = moving.ownership.clone();
                core.write(child, Entry::Moved { to, ownership });
                core.order(ChildOrder::MovedAway { child: child.clone(), to, epoch });
                core.timer(QUERY_AFTER, Timer::Query(child.clone(), epoch));
            }
            SourceStep::Finish => {
                let (bytes, took) =
                    (moving.bytes, core.now.saturating_duration_since(moving.started));
                let phases = moving.phases(core.now);
                let kind = moving.ownership.spec.kind().clone();
                let waiters = std::mem::take(&mut moving.waiters);
                core.order(ChildOrder::End { child: child.clone() });
                core.emit(HubEvent::HandedOver {
                    child: child.clone(),
                    kind,
                    to: to.node,
                    epoch,
                    bytes,
                    took,
                    phases,
                });
                if !waiters.is_empty() {
                    let outcome = MigrateOutcome::Moved { node: to.node, epoch };
                    core.news.push_back(News::Migrated { waiters, child: child.clone(), outcome });
                }
                self.allowed = self.allowed.saturating_add(1).min(core.config.settings.moves);
                self.forget_move(child);
                // Who asked meanwhile for yet another place asks the new owner again.
                self.remove(core, child);
                self.pump(core);
            }
            SourceStep::Abort { thaw, again, reason } => {
                self.abort(core, child, thaw, again, reason);
            }
        }
    }

    fn abort(
        &mut self,
        core: &mut Core,
        child: &ChildId,
        thaw: bool,
        again: Again,
        reason: String,
    ) {
        // A peer may have said it.
        let reason = brief(reason);
        let Some(moving) = self.forget_move(child) else { return };
        let Some(instance) = self.instances.get_mut(child) else { return };
        if thaw {
            instance.ownership.epoch = instance.burn();
            core.write(child, Entry::Owned(instance.ownership.clone()));
            core.order(instance.go_on());
        } else if moving.waits.is_some() {
            // The time for its next start may have come meanwhile.
            core.news.push_back(News::Look { child: child.clone() });
        }
        let to = moving.to.node;
        instance.trouble = Some(Trouble { to, reason: reason.clone() });
        let passing = again == Again::Soon;
        let elsewhere = matches!(again, Again::Elsewhere | Again::PassOver);
        let mut retry = match again {
            Again::Soon => true,
            Again::Counted | Again::NextView => {
                instance.retries = instance.retries.saturating_add(1);
                let few = instance.retries <= core.config.settings.move_retries;
                core.emptying || again == Again::Counted && few
            }
            Again::Elsewhere => {
                instance.not.refused(to);
                true
            }
            Again::PassOver => {
                instance.pass_over(core, to);
                true
            }
        };
        if !passing || thaw {
            core.emit(HubEvent::HandoverFailed {
                child: child.clone(),
                kind: moving.ownership.spec.kind().clone(),
                to,
                epoch: moving.ownership.epoch,
                reason: reason.clone(),
                // Also after the commit: then the successor itself has said that it did not start.
                may_have_run: false,
                bytes: moving.bytes,
                phases: moving.phases(core.now),
            });
        }
        if !moving.waiters.is_empty() {
            if passing && instance.wanted.is_none() {
                instance.wanted =
                    Some(Wanted { to, forced: moving.forced, waiters: moving.waiters });
            } else {
                let outcome = MigrateOutcome::Failed { reason };
                core.news.push_back(News::Migrated {
                    waiters: moving.waiters,
                    child: child.clone(),
                    outcome,
                });
                // The child did not ask to go: it stays unless it belongs elsewhere.
                retry &= !elsewhere || core.emptying;
            }
        }
        if !instance.halts.is_empty() {
            self.end(core, child);
        } else if instance.wanted.is_some() && !passing {
            self.turns.ask(child);
        } else if retry {
            instance.rest = Some(Rest::Retry);
            // A node may be emptying for as long as one child cannot go, which each try freezes.
            let lasts = !passing && !elsewhere && core.emptying;
            let doublings = if lasts { instance.retries.saturating_sub(1) } else { 0 };
            let wait = RETRY_AFTER * (1 << doublings.min(DOUBLINGS));
            core.timer(wait, Timer::Retry(child.clone()));
        } else if !elsewhere {
            instance.rest = Some(Rest::View);
        }
        self.pump(core);
    }

    /// A move that failed is tried again.
    pub(crate) fn retry(&mut self, core: &mut Core, child: &ChildId) {
        let Some(instance) = self.instances.get_mut(child) else { return };
        instance.rest = instance.rest.filter(|rest| *rest != Rest::Retry);
        self.want_again(child);
        self.enqueue(core, child);
        self.pump(core);
    }

    /// The time is over for which a node was passed over.
    pub(crate) fn try_passed_over(&mut self, core: &mut Core, child: &ChildId) {
        let Some(instance) = self.instances.get_mut(child) else { return };
        let is_over = instance.not.try_again(core.now);
        instance.look_again(core);
        if is_over {
            self.enqueue(core, child);
            self.pump(core);
        }
    }

    /// A source whose commit is not answered asks after its successor.
    pub(crate) fn query(&mut self, core: &mut Core, child: &ChildId, epoch: Epoch) {
        let Some(Instance { phase: Phase::Moving(moving), .. }) = self.instances.get(child) else {
            return;
        };
        if moving.stage == SourceStage::Committed && moving.ownership.epoch == epoch {
            let word = HandoverWord::Query { child: child.clone(), epoch };
            core.send(moving.to.node, PeerMessage::Handover(word));
            core.timer(QUERY_AFTER, Timer::Query(child.clone(), epoch));
        }
    }

    /// The deadline of a move at its source passed.
    pub(crate) fn source_expired(&mut self, core: &mut Core, child: &ChildId, epoch: Epoch) {
        let Some(Instance { phase: Phase::Moving(moving), .. }) = self.instances.get(child) else {
            return;
        };
        if moving.ownership.epoch != epoch {
            return;
        }
        // The first deadline was set before the size was known; the second one counts.
        let (options, _) = options(core);
        let allowed = options.child_migration_timeout + Core::time_for(moving.bytes);
        let overdue = core.now.saturating_duration_since(moving.started) >= allowed;
        if moving.stage == SourceStage::Sent && !overdue {
            let left = allowed - core.now.saturating_duration_since(moving.started);
            core.timer(left, Timer::Source(child.clone(), epoch));
            return;
        }
        self.source_step(core, child, &SourceInput::Expired);
    }

    /// Ends the bookkeeping of a move whose child is stopped or has ended.
    pub(crate) fn drop_move(&mut self, core: &mut Core, child: &ChildId, why: &'static str) {
        let Some(moving) = self.forget_move(child) else { return };
        core.emit(HubEvent::HandoverFailed {
            child: child.clone(),
            kind: moving.ownership.spec.kind().clone(),
            to: moving.to.node,
            epoch: moving.ownership.epoch,
            reason: why.to_owned(),
            may_have_run: moving.stage == SourceStage::Committed,
            bytes: moving.bytes,
            phases: moving.phases(core.now),
        });
        if !moving.waiters.is_empty() {
            core.news.push_back(News::Migrated {
                waiters: moving.waiters,
                child: child.clone(),
                outcome: MigrateOutcome::Failed { reason: why.to_owned() },
            });
        }
    }

    /// Takes a move out of the counts. Its child is left as it was before: it runs, or waits for its
    /// next start.
    pub(crate) fn forget_move(&mut self, child: &ChildId) -> Option<Move> {
        let instance = self.instances.get_mut(child)?;
        let Phase::Moving(moving) = &instance.phase else { return None };
        let moving = (**moving).clone();
        instance.phase = moving.waits.map_or(Phase::Running, Phase::Waiting);
        self.moving = self.moving.saturating_sub(1);
        if matches!(moving.stage, SourceStage::Sent | SourceStage::Committed) {
            self.bytes_moving = self.bytes_moving.saturating_sub(moving.bytes);
        }
        self.room.retain(|waiting| waiting != child);
        Some(moving)
    }

    /// Lets states go, in order, while there is room for their bytes.
    pub(crate) fn give_room(&mut self, core: &mut Core) {
        while let Some(child) = self.room.front() {
            let bytes = match self.instances.get(child) {
                Some(Instance { phase: Phase::Moving(moving), .. }) => moving.bytes,
                _ => {
                    self.room.pop_front();
                    continue;
                }
            };
            let limit = core.config.settings.move_bytes as u64;
            if self.bytes_moving > 0 && self.bytes_moving.saturating_add(bytes) > limit {
                return;
            }
            let Some(child) = self.room.pop_front() else { return };
            self.bytes_moving += bytes;
            self.source_step(core, &child, &SourceInput::Room);
        }
    }

    /// A node offers a child.
    pub(crate) fn offered(&mut self, core: &mut Core, from: NodeRun, offer: Offer) {
        let child = offer.ownership.spec.id().clone();
        let epoch = offer.ownership.epoch;
        if let Some(reason) = self.refusal(core, from, &offer) {
            let word = HandoverWord::Refuse { child, epoch, reason };
            core.send(from.node, PeerMessage::Handover(word));
            return;
        }
        if let Some(older) = self.targets.remove(&child) {
            core.order(ChildOrder::Discard { child: child.clone(), epoch: older.attempt });
        }
        let Offer { ownership, state, with_state, .. } = offer;
        self.targets.insert(
            child.clone(),
            Target {
                from,
                attempt: epoch,
                state: state.min(epoch),
                ownership,
                with_state,
                stage: TargetStage::Accepted,
                recovered: false,
                halts: Vec::new(),
            },
        );
        let word = HandoverWord::Accept { child: child.clone(), epoch };
        core.send(from.node, PeerMessage::Handover(word));
        if with_state {
            // The source's deadlines are the ones that count; this one is for a source that
            // forgot.
            let (options, _) = options(core);
            let wait = (options.child_migration_timeout + options.retention) * 10
                + Core::time_for(core.config.settings.state_limit as u64);
            core.timer(wait, Timer::Target(child, epoch));
        } else {
            self.target_step(core, &child, &TargetInput::State);
        }
    }

    fn refusal(&self, core: &Core, from: NodeRun, offer: &Offer) -> Option<RefuseReason> {
        let Offer { ownership, state_version, with_state, view, .. } = offer;
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
        if *view != core.view_id || !core.settled {
            return Some(RefuseReason::View);
        }
        if core.belongs(ownership, &Default::default()) != Some(core.me.node) {
            return Some(RefuseReason::NotMine);
        }
        let older = |target: &Target| {
            target.from == from && target.attempt < epoch && target.stage < TargetStage::Opening
        };
        let busy = self.instances.contains_key(child)
            || core.promises.binds(child)
            || self.targets.get(child).is_some_and(|target| !older(target))
            || !epoch.can_follow(core.registry.highest_epoch(child))
            || self.targets.len() >= core.config.settings.moves.saturating_mul(64);
        busy.then_some(RefuseReason::Busy)
    }

    /// A report or arrival for a move at its target. Tells whether it was awaited.
    pub(crate) fn target_input(
        &mut self,
        core: &mut Core,
        child: &ChildId,
        attempt: Epoch,
        input: &TargetInput,
    ) -> bool {
        if self.targets.get(child).is_none_or(|target| target.attempt != attempt) {
            return false;
        }
        self.target_step(core, child, input);
        true
    }

    pub(crate) fn target_step(&mut self, core: &mut Core, child: &ChildId, input: &TargetInput) {
        let Some(target) = self.targets.get_mut(child) else { return };
        let before = target.stage;
        let (stage, step) = handover::target(before, input);
        target.stage = stage;
        let (from, attempt) = (target.from, target.attempt);
        let epoch = target.ownership.epoch;
        let failed = |BuildFailure { reason, lasts }, gone| {
            let (child, epoch) = (child.clone(), attempt);
            PeerMessage::Handover(HandoverWord::Failed { child, epoch, reason, gone, lasts })
        };
        match step {
            TargetStep::Nothing => {}
            TargetStep::Build => core.order(ChildOrder::Build {
                spec: target.ownership.spec.clone(),
                epoch: attempt,
                from,
                with_state: target.with_state,
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
                let Some(target) = self.targets.remove(child) else { return };
                if target.recovered {
                    // Another node may hold an older copy: the home calls the roll again.
                    self.call_again(core, child, epoch.term);
                } else if before == TargetStage::Opening && !core.is_live(from) {
                    // It is this node's child and there is no other copy: it begins anew.
                    self.revive(core, target.ownership, target.halts);
                } else {
                    core.send(from.node, failed(failure, true));
                }
            }
            TargetStep::Refuse(reason) => {
                self.targets.remove(child);
                let word = HandoverWord::Refuse { child: child.clone(), epoch: attempt, reason };
                core.send(from.node, PeerMessage::Handover(word));
            }
            TargetStep::Drop => {
                core.order(ChildOrder::Discard { child: child.clone(), epoch: attempt });
                self.targets.remove(child);
            }
            TargetStep::Park => {
                let Some(target) = self.targets.remove(child) else { return };
                if !target.with_state {
                    core.order(ChildOrder::Discard { child: child.clone(), epoch: attempt });
                    return;
                }
                let key = ParkedKey { child: child.clone(), run: from, epoch: target.state };
                let kind = target.ownership.spec.kind().clone();
                let reason = BEGUN_ANEW.to_owned();
                core.news.push_back(News::Parks { key: key.clone(), other: OtherHolder::None });
                core.order(ChildOrder::ParkBuilt { key, kind, built: attempt, reason });
            }
            TargetStep::Open => {
                core.order(ChildOrder::Open { child: child.clone(), built: attempt, epoch })
            }
            TargetStep::Own => {
                let Some(target) = self.targets.remove(child) else { return };
                let kind = target.ownership.spec.kind().clone();
                // A roll call took the rest of it from the entry of an owner that had failed.
                let ownership = Ownership { failure: None, ..target.ownership };
                core.write(child, Entry::Owned(ownership.clone()));
                let mut instance = Instance::new(core, ownership, Phase::Running);
                instance.halts = target.halts;
                instance.came = (!target.recovered).then_some((from.node, epoch));
                let halted = !instance.halts.is_empty();
                self.instances.insert(child.clone(), instance);
                core.emit(if target.recovered {
                    HubEvent::Recovered { child: child.clone(), epoch, with_state: true }
                } else {
                    HubEvent::TakenOver { child: child.clone(), kind, from: from.node, epoch }
                });
                if halted {
                    self.end(core, child);
                } else {
                    core.news.push_back(News::Look { child: child.clone() });
                }
            }
        }
    }

    /// Begins a child anew that a node which is gone has committed to this one, if nothing of it is here.
    pub(crate) fn revive_lost(&mut self, core: &mut Core, child: &ChildId) {
        // What was promised to a roll call is for its home to decide.
        if self.instances.contains_key(child)
            || self.targets.contains_key(child)
            || core.promises.binds(child)
        {
            return;
        }
        let Some(best) = core.registry.best(child) else { return };
        if best.owner != core.me || best.writer != core.me && core.is_live(best.writer) {
            return;
        }
        if let Some((_, ownership)) = core.registry.owner(child) {
            let ownership = ownership.clone();
            self.revive(core, ownership, Vec::new());
        }
    }

    /// Starts a child of this node anew, as nothing is left of it here or at its last owner.
    pub(crate) fn revive(
        &mut self,
        core: &mut Core,
        ownership: Ownership,
        halts: Vec<(NodeId, Epoch)>,
    ) {
        let child = ownership.spec.id().clone();
        let epoch = core.registry.highest_epoch(&child).max(ownership.epoch).next_attempt();
        let why = Begin::Recovered;
        let Ownership { spec, pinned, origin, .. } = ownership;
        self.begin(core, spec, epoch, pinned, origin, why);
        if let Some(instance) = self.instances.get_mut(&child) {
            instance.halts = halts;
        }
    }

    /// A source asks after its successor.
    pub(crate) fn queried(&mut self, core: &mut Core, from: NodeRun, child: ChildId, epoch: Epoch) {
        let held = self.targets.get(&child).is_some_and(|target| target.attempt == epoch)
            || self.instances.contains_key(&child);
        // Somebody's higher entry will tell the source.
        if held || core.registry.highest_epoch(&child) > epoch {
            return;
        }
        let word = HandoverWord::Failed {
            child,
            epoch,
            reason: "nothing is left of the successor".to_owned(),
            gone: true,
            lasts: false,
        };
        core.send(from.node, PeerMessage::Handover(word));
    }

    /// A member went, or began to leave: moves to and from it.
    pub(crate) fn peer_changed(&mut self, core: &mut Core, node: NodeId) {
        let emptying = |run| {
            core.view
                .member(node)
                .is_some_and(|member| member.run() == run && !member.takes_children())
        };
        let inputs: Vec<(ChildId, SourceInput)> = self
            .instances
            .moving()
            .into_iter()
            .filter_map(|child| {
                let Phase::Moving(moving) = &self.instances.get(&child)?.phase else { return None };
                if moving.to.node != node {
                    None
                } else if !core.is_live(moving.to) {
                    Some((child, SourceInput::TargetGone))
                } else if emptying(moving.to) && moving.stage == SourceStage::Offered {
                    Some((child, SourceInput::TargetLeaving))
                } else {
                    None
                }
            })
            .collect();
        for (child, input) in inputs {
            self.source_step(core, &child, &input);
        }
        let from: Vec<ChildId> = self
            .targets
            .iter()
            .filter(|(_, target)| target.from.node == node && !core.is_live(target.from))
            .map(|(child, _)| child.clone())
            .collect();
        for child in from {
            self.target_step(core, &child, &TargetInput::SourceGone);
        }
    }

    /// This run is reached: what belongs there goes.
    pub(crate) fn reached(&mut self, core: &mut Core, run: NodeRun) {
        for child in self.without_way.remove(&run).unwrap_or_default() {
            self.want_again(&child);
            self.enqueue(core, &child);
        }
        self.pump(core);
    }

    /// The link to this run broke. What is not committed begins again on the next one: a frozen
    /// child must not wait for words that were lost.
    pub(crate) fn link_lost(&mut self, core: &mut Core, run: NodeRun) {
        for child in self.instances.moving() {
            if matches!(&self.instances.get(&child), Some(Instance { phase: Phase::Moving(moving), .. }) if moving.to == run)
            {
                self.source_step(core, &child, &SourceInput::LinkLost);
            }
        }
    }

    /// This node takes no children any more: not even those that it has said it would.
    pub(crate) fn take_no_more(&mut self, core: &mut Core) {
        let targets: Vec<ChildId> = self.targets.keys().cloned().collect();
        for child in targets {
            self.target_step(core, &child, &TargetInput::Leaving);
        }
    }
}
