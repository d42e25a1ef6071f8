//! One actor behind its door. Plays `hub/instance.rs`: each method is named like the one of `Seat`,
//! `Inbox` or `Hold` that it plays.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    actor::State,
    call::{Slot, number},
    doors::Cell,
    worker::{Around, Task as Later},
};
use crate::{
    delivery::{
        SendFailure,
        door::{Item, Task},
        gate::Ticket,
    },
    engine::io::{ChildReport, Exit, FreezeFailure},
    error::MaybeHandled,
    hub::parcel::Parcel,
    model::{
        child::Epoch,
        frame::ReplyFailure,
        id::{ChildId, KindName, NodeRun},
        message::BulkHeader,
        parked::{ApplyFailed, ParkedKey},
    },
};

/// `instance::FORCED_GRACE`.
const FORCED_GRACE: Duration = Duration::from_secs(1);
/// The version of a state's form.
pub(super) const STATE_VERSION: u32 = 1;

/// `instance::Opening`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    Start,
    Open,
}

/// `instance::Purpose`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Handover,
    Diverged { to: NodeRun, life: Epoch },
    Park,
}

/// `instance::FreezeOrder`.
#[derive(Clone, Copy, Debug)]
pub(super) struct FreezeOrder {
    pub(super) epoch: Epoch,
    pub(super) retention: Duration,
    pub(super) forced: bool,
    pub(super) with_state: bool,
    pub(super) purpose: Purpose,
}

/// `instance::ApplyOrder`.
#[derive(Clone, Debug)]
pub(super) struct ApplyOrder {
    pub(super) key: ParkedKey,
    pub(super) kind: KindName,
    pub(super) parcel: Parcel,
    pub(super) exchange: Option<ParkedKey>,
    pub(super) until: Instant,
}

/// `instance::Ending`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Quiet,
    Stop(Epoch),
}

/// `instance::Stage`.
#[derive(Debug)]
enum Stage {
    Running,
    Closing(FreezeOrder),
    Aborted,
    Encoding { thawed: bool, state: Option<State> },
    Held { state: Option<State>, parcel: Option<Parcel> },
    Released { state: Option<State> },
}

/// A handler that has started and is not done.
#[derive(Debug)]
struct UnderWay {
    ticket: Ticket,
    update: u64,
    /// Where a caller of this node waits.
    slot: Option<Arc<Slot>>,
    /// Of another node, and its reply is waited for.
    wants_reply: bool,
    /// The update is applied when the handler ends, not when it begins.
    at_the_end: bool,
}

/// A handler that is done, and whose reply waits until replies may go out.
#[derive(Debug)]
pub(super) struct Resolution {
    ticket: Ticket,
    slot: Option<Arc<Slot>>,
    outcome: Option<Result<Bytes, ReplyFailure>>,
}

impl Resolution {
    /// The caller is told.
    pub(super) fn tell(self, cell: &Arc<Cell>) {
        if let Some(slot) = self.slot {
            slot.complete(Ok(()));
        }
        cell.with(|door| door.resolved(self.ticket, self.outcome));
    }
}

/// A successor that is built; `instance::Ready`.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) state: State,
    pub(super) parcel: Option<Parcel>,
}

/// `instance::Seat`, and the actor in it.
pub(super) struct Seat {
    pub(super) number: u64,
    pub(super) cell: Arc<Cell>,
    /// `None`: it was moved out by `prepare_handover_state`.
    actor: Option<State>,
    stage: Stage,
    running: bool,
    dead: bool,
    closing: bool,
    epoch: Epoch,
    freezes: u64,
    next_freeze: Option<FreezeOrder>,
    ending: Option<Ending>,
    merges: VecDeque<(Epoch, NodeRun, Parcel)>,
    applies: VecDeque<ApplyOrder>,
    opening: (Opening, Epoch),
    parcel: Option<Parcel>,
    /// A poll is on its way.
    polled: bool,
    under_way: Vec<UnderWay>,
    /// Of handlers that would have ended while the context is held.
    put_off: Vec<Ticket>,
}

impl Seat {
    /// `Ready::open`.
    pub(super) fn open(
        around: &mut Around<'_>,
        number: u64,
        child: &ChildId,
        ready: Ready,
        epoch: Epoch,
        opening: Opening,
    ) -> Self {
        let mut seat = Self {
            number,
            cell: around.doors.cell(child),
            actor: Some(ready.state),
            stage: Stage::Running,
            running: false,
            dead: false,
            closing: false,
            epoch,
            freezes: 0,
            next_freeze: None,
            ending: None,
            merges: VecDeque::new(),
            applies: VecDeque::new(),
            opening: (opening, epoch),
            parcel: ready.parcel,
            polled: true,
            under_way: Vec::new(),
            put_off: Vec::new(),
        };
        // `started()` takes its time.
        let takes = around.troubles.start_time(around.dice);
        around.later(child, takes, Later::Poll { seat: seat.number });
        seat.polled = true;
        seat
    }

    /// What it was made of, if it ended before it ran: `Bench::keep` keeps that.
    pub(super) fn take_unopened(&mut self) -> Option<Parcel> {
        let is_failed = self.dead && !self.running && self.ending.is_none();
        self.parcel.take().filter(|_| is_failed)
    }

    pub(super) fn child(&self) -> &ChildId {
        &self.cell.child
    }

    /// Whether the actor runs and its stage lets messages be handled.
    pub(super) fn is_active(&self) -> bool {
        self.running && !self.dead && matches!(self.stage, Stage::Running)
    }

    /// What is not as it is when nothing is under way.
    pub(super) fn unrest(&self) -> Option<String> {
        let rests = self.is_active()
            && self.ending.is_none()
            && self.under_way.is_empty()
            && self.merges.is_empty()
            && self.applies.is_empty();
        let stage = match &self.stage {
            Stage::Held { .. } => "held",
            Stage::Running => "running",
            Stage::Closing(_) => "closing",
            Stage::Aborted => "aborted",
            Stage::Encoding { .. } => "encoding",
            Stage::Released { .. } => "released",
        };
        (!rests).then(|| format!("{stage}, started {}, ending {:?}", self.running, self.ending))
    }

    /// What it has taken in, wherever it is kept.
    pub(super) fn states(&self) -> impl Iterator<Item = &State> {
        let kept = match &self.stage {
            Stage::Held { state, .. }
            | Stage::Released { state }
            | Stage::Encoding { state, .. } => state.as_ref(),
            _ => None,
        };
        self.actor.iter().chain(kept)
    }

    pub(super) fn wake(&mut self, around: &mut Around<'_>) {
        if !self.polled {
            self.polled = true;
            around.soon(&self.cell.child, Later::Poll { seat: self.number });
        }
    }

    /// The actor's task is polled: `Seat::run`. `false`: it has ended.
    pub(super) fn poll(&mut self, around: &mut Around<'_>) -> bool {
        self.polled = false;
        if self.dead {
            return false;
        }
        if self.ending.is_some() {
            self.finish(around, Exit::Stopped);
            return false;
        }
        if !self.running {
            if around.troubles.cannot_start(around.now) {
                let message = "started() panicked".to_owned();
                self.finish(around, Exit::Panicked { message });
                return false;
            }
            self.running = true;
            self.opened(around);
            return true;
        }
        if matches!(self.stage, Stage::Held { .. } | Stage::Encoding { .. }) {
            return true;
        }
        if matches!(self.stage, Stage::Released { .. }) {
            self.go_on_from_hold(around);
        }
        if !self.poll_inbox(around) {
            return false;
        }
        true
    }

    /// `Seat::opened`.
    fn opened(&mut self, around: &mut Around<'_>) {
        let parcel = self.parcel.take();
        let marks = parcel.as_ref().map_or(&[][..], |parcel| &parcel.lanes);
        self.cell.with(|door| door.open(self.epoch, marks));
        self.answer(around, Ok(()));
    }

    /// `Seat::answer`.
    fn answer(&self, around: &mut Around<'_>, outcome: Result<(), String>) {
        let (opening, epoch) = self.opening;
        let child = self.child().clone();
        around.tell(match opening {
            Opening::Start => ChildReport::Started { child, epoch, outcome },
            Opening::Open => ChildReport::Opened { child, epoch, outcome },
        });
    }

    /// `Seat::finish`.
    fn finish(&mut self, around: &mut Around<'_>, exit: Exit) {
        self.dead = true;
        self.merges.clear();
        for order in std::mem::take(&mut self.applies) {
            let outcome = Err(ApplyFailed::NotRunning);
            around.tell(ChildReport::Applied { key: order.key, outcome });
        }
        let child = self.child().clone();
        match self.ending {
            Some(Ending::Quiet) => {}
            Some(Ending::Stop(epoch)) => around.tell(ChildReport::Stopped { child, epoch }),
            None if !self.running => {
                let reason = match exit {
                    Exit::Stopped => "it stopped itself while it started".to_owned(),
                    Exit::Panicked { message } => message,
                };
                self.answer(around, Err(reason));
            }
            None => {
                for state in self.states() {
                    around.ledger.lose(state.counts.keys().copied());
                }
                self.cell.with(|door| door.crashed());
                around.tell(ChildReport::Exited { child, epoch: self.epoch, exit });
            }
        }
        // The tasks of its handlers find that there is no reply.
        for UnderWay { ticket, slot, wants_reply, .. } in std::mem::take(&mut self.under_way) {
            if let Some(slot) = slot {
                slot.complete(Err(SendFailure::MaybeHandled(MaybeHandled::NoReply)));
            }
            let outcome = wants_reply.then_some(Err(ReplyFailure::Dropped));
            self.cell.with(|door| door.resolved(ticket, outcome));
        }
    }

    /// `Seat::frozen`.
    fn frozen(
        &mut self,
        around: &mut Around<'_>,
        order: FreezeOrder,
        outcome: Result<u64, FreezeFailure>,
    ) {
        let (child, epoch) = (self.child().clone(), order.epoch);
        match order.purpose {
            Purpose::Handover => around.tell(ChildReport::Frozen { child, epoch, outcome }),
            Purpose::Diverged { to, life } => {
                if outcome.is_ok() {
                    self.send_diverged(around, epoch, to, life);
                }
                around.tell(ChildReport::Tried { child, epoch, outcome });
            }
            Purpose::Park => around.tell(ChildReport::Tried { child, epoch, outcome }),
        }
    }

    /// `Seat::send_diverged`.
    fn send_diverged(&self, around: &mut Around<'_>, epoch: Epoch, to: NodeRun, life: Epoch) {
        if let Some(parcel) = self.parcel() {
            let (child, state_version) = (self.child().clone(), STATE_VERSION);
            let header = BulkHeader::Diverged { child, epoch, state_version, life };
            around.send_bulk(to, header, parcel.bytes);
        }
    }

    /// `Seat::retention_over`.
    pub(super) fn retention_over(&mut self, around: &mut Around<'_>, freeze: u64, grace: bool) {
        let Stage::Closing(order) = self.stage else { return };
        if self.freezes != freeze || self.dead {
            return;
        }
        if order.forced && !grace {
            self.cell.cut_off();
            self.wake(around);
            let task = Later::Retention { seat: self.number, freeze, grace: true };
            return around.later(&self.cell.child, FORCED_GRACE, task);
        }
        self.closing = false;
        self.stage = Stage::Aborted;
        let unresolved = self.cell.with(|door| door.unresolved());
        let longest = order.retention;
        self.frozen(around, order, Err(FreezeFailure::Retention { unresolved, longest }));
    }

    /// `Seat::take_state`.
    fn take_state(&mut self, around: &mut Around<'_>, order: FreezeOrder) {
        self.closing = false;
        if !order.with_state {
            self.stage = Stage::Held { state: None, parcel: None };
            return self.frozen(around, order, Ok(0));
        }
        if around.troubles.cannot_prepare(around.now) {
            self.stage = Stage::Aborted;
            let message = "on purpose".to_owned();
            return self.frozen(around, order, Err(FreezeFailure::Panicked { message }));
        }
        let state = self.actor.take();
        if !around.kind.blocking {
            return self.hold(around, order, state);
        }
        self.stage = Stage::Encoding { thawed: false, state };
        let takes = around.dice.ms(1, 40);
        around.later(&self.cell.child, takes, Later::Encoded { seat: self.number, order });
    }

    /// A state comes back from its blocking thread.
    pub(super) fn encoded(&mut self, around: &mut Around<'_>, order: FreezeOrder) {
        match std::mem::replace(&mut self.stage, Stage::Aborted) {
            Stage::Encoding { thawed: true, state } => {
                self.stage = Stage::Released { state };
                self.wake(around);
            }
            Stage::Encoding { thawed: false, state } => self.hold(around, order, state),
            other => self.stage = other,
        }
    }

    /// `Seat::hold`.
    fn hold(&mut self, around: &mut Around<'_>, order: FreezeOrder, state: Option<State>) {
        let bytes = state.as_ref().map(State::encode).unwrap_or_default();
        let size = bytes.len() as u64;
        let lanes = self.cell.with(|door| door.marks());
        let parcel = Some(Parcel { state_version: STATE_VERSION, lanes, bytes });
        self.stage = Stage::Held { state, parcel };
        self.frozen(around, order, Ok(size));
    }

    /// `Seat::take_in`.
    fn take_in(
        &mut self,
        around: &mut Around<'_>,
        (epoch, from, parcel): (Epoch, NodeRun, Parcel),
    ) {
        let outcome = match around.kind.merges {
            true => {
                self.merge_in(around, (from, epoch), &parcel);
                Ok(())
            }
            false => Err("it was not merged by its kind".to_owned()),
        };
        around.block(&self.cell.child, around.troubles.merge_time(around.now));
        let child = self.child().clone();
        around.tell(ChildReport::Merged { child, epoch, outcome });
    }

    fn merge_in(&mut self, around: &mut Around<'_>, of: (NodeRun, Epoch), parcel: &Parcel) {
        let state = State::decode(&parcel.bytes);
        let is_new = self.actor.as_mut().is_some_and(|actor| actor.merge(of, state));
        around.ledger.expect(is_new, || format!("{}: {of:?} was merged twice", self.cell.child));
    }

    /// `Seat::take_in_parked`, `merge_parked` and `replace_by`.
    fn take_in_parked(&mut self, around: &mut Around<'_>, at_rest: bool) {
        for _ in 0..self.applies.len() {
            let Some(order) = self.applies.pop_front() else { break };
            let key = order.key.clone();
            let outcome = if order.until <= around.now {
                let reason = "the child did not come to it in time".to_owned();
                Err(ApplyFailed::Failed { reason })
            } else if let Some(exchange) = order.exchange.clone() {
                if !at_rest {
                    self.applies.push_back(order);
                    continue;
                }
                let own = self.actor.replace(State::decode(&order.parcel.bytes));
                let bytes = own.unwrap_or_default().encode();
                let parcel = Parcel { state_version: STATE_VERSION, lanes: Vec::new(), bytes };
                around.park(exchange, order.kind, Some(parcel));
                Ok(())
            } else if around.kind.merges {
                self.merge_in(around, (key.run, key.epoch), &order.parcel);
                Ok(())
            } else {
                Err(ApplyFailed::NotMerged)
            };
            around.tell(ChildReport::Applied { key, outcome });
        }
    }

    /// `Inbox::poll`. `false`: the actor has ended.
    fn poll_inbox(&mut self, around: &mut Around<'_>) -> bool {
        match self.stage {
            Stage::Running => {}
            Stage::Closing(order) => {
                if self.cell.with(|door| door.unresolved()) == 0 {
                    self.take_state(around, order);
                }
                return true;
            }
            _ => return true,
        }
        while let Some(merge) = self.merges.pop_front() {
            self.take_in(around, merge);
        }
        let at_rest = self.cell.with(|door| door.unresolved()) == 0;
        let valid = around.doors.validity.holds(around.uptime);
        if valid {
            self.take_in_parked(around, at_rest);
        }
        // `instance::TURN`, and `TURN_TIME`, which may be over at any message.
        let turn = 1 + around.dice.below(4);
        let mut resolved: Option<Resolution> = None;
        for handled in 0.. {
            let go_on = valid && handled < turn;
            let done = resolved.take();
            let now = around.now;
            let (next, more) = self.cell.with(|door| {
                if let Some(done) = done {
                    door.resolved(done.ticket, done.outcome);
                }
                let next = if go_on { door.next_task(now) } else { None };
                (next, door.has_work())
            });
            let Some(task) = next else {
                if more && valid && !go_on {
                    self.wake(around);
                }
                return true;
            };
            match self.handle(around, task) {
                Handled::Done(resolution) => resolved = Some(resolution),
                Handled::Later => {}
                Handled::Panicked => {
                    self.finish(around, Exit::Panicked { message: "on purpose".to_owned() });
                    return false;
                }
            }
        }
        true
    }

    /// `Seat::handle`, and the handler.
    fn handle(&mut self, around: &mut Around<'_>, task: Task<super::call::Call>) -> Handled {
        let ticket = task.ticket;
        let (update, slot, wants_reply) = match task.item {
            Item::Local(mut call) => {
                call.has_started = true;
                let is_asked = call.is_asked();
                // `Message::run`.
                if is_asked && !call.slot.start() {
                    return Handled::Done(Resolution { ticket, slot: None, outcome: None });
                }
                (call.slot.id, is_asked.then(|| call.slot.clone()), false)
            }
            Item::Remote { body, wants_reply, .. } => (number(&body), None, wants_reply),
        };
        let who = (around.me, self.number);
        let client = around.ledger.starts(update, &self.cell.child, who);
        match &mut self.actor {
            Some(actor) => {
                if let Err(before) = actor.start(client, update) {
                    let child = &self.cell.child;
                    let what = || format!("{child}: {update} of {client:?} comes after {before}");
                    around.ledger.expect(false, what);
                }
            }
            None => {
                let what = || format!("{}: an actor without its state handles", self.cell.child);
                around.ledger.expect(false, what);
            }
        }
        if around.troubles.panics(&self.cell.child) {
            if let Some(slot) = slot {
                slot.complete(Err(SendFailure::MaybeHandled(MaybeHandled::NoReply)));
            }
            return Handled::Panicked;
        }
        let takes = around.troubles.handler_time(around.now, around.dice);
        let Some(takes) = takes else {
            self.apply(update);
            let outcome = wants_reply.then(|| Ok(Bytes::new()));
            let resolution = Resolution { ticket, slot, outcome };
            if around.doors.validity.holds(around.uptime) {
                if let Some(slot) = &resolution.slot {
                    slot.complete(Ok(()));
                }
                return Handled::Done(resolution);
            }
            self.go_on(around, resolution);
            return Handled::Later;
        };
        let at_the_end = around.dice.one_in(2);
        if !at_the_end {
            self.apply(update);
        }
        self.under_way.push(UnderWay { ticket, update, slot, wants_reply, at_the_end });
        around.later(&self.cell.child, takes, Later::Resolve { seat: self.number, ticket });
        Handled::Later
    }

    fn apply(&mut self, update: u64) {
        if let Some(actor) = &mut self.actor {
            actor.apply(update);
        }
    }

    /// An asynchronous handler ends, unless the context is held.
    pub(super) fn resolve(&mut self, around: &mut Around<'_>, ticket: Ticket) {
        let Some(at) = self.under_way.iter().position(|one| one.ticket == ticket) else { return };
        let held = Stage::is_held(&self.stage);
        if held {
            return self.put_off.push(ticket);
        }
        let UnderWay { update, slot, wants_reply, at_the_end, .. } = self.under_way.remove(at);
        if at_the_end {
            self.apply(update);
        }
        let outcome = wants_reply.then(|| Ok(Bytes::new()));
        self.go_on(around, Resolution { ticket, slot, outcome });
    }

    /// `Seat::go_on` and `until_valid`.
    fn go_on(&mut self, around: &mut Around<'_>, resolution: Resolution) {
        if around.doors.validity.holds(around.uptime) {
            self.reply(around, resolution);
        } else {
            let again = Duration::from_millis(5);
            let task = Later::Reply { seat: self.number, resolution };
            around.later(&self.cell.child, again, task);
        }
    }

    /// A reply that waited may go out, or waits on.
    pub(super) fn reply_later(&mut self, around: &mut Around<'_>, resolution: Resolution) {
        self.go_on(around, resolution);
    }

    fn reply(&mut self, around: &mut Around<'_>, resolution: Resolution) {
        resolution.tell(&self.cell);
        if self.closing || !self.applies.is_empty() {
            self.wake(around);
        }
    }

    /// `Hold::poll` lets the context go on.
    fn go_on_from_hold(&mut self, around: &mut Around<'_>) {
        let stage = std::mem::replace(&mut self.stage, Stage::Running);
        if let Stage::Released { state: Some(state) } = stage {
            // `resume_after_abort`.
            self.actor = Some(state);
        }
        for ticket in std::mem::take(&mut self.put_off) {
            self.resolve(around, ticket);
        }
        if let Some(order) = self.next_freeze.take() {
            self.freeze(around, order);
        }
    }

    /// `Instance::freeze`.
    pub(super) fn freeze(&mut self, around: &mut Around<'_>, order: FreezeOrder) {
        if order.purpose != Purpose::Handover {
            match std::mem::replace(&mut self.stage, Stage::Aborted) {
                Stage::Held { state, parcel: None } => {
                    self.stage = Stage::Released { state };
                    self.wake(around);
                }
                held @ Stage::Held { .. } => {
                    self.stage = held;
                    let size = self.parcel().map_or(0, |parcel| parcel.bytes.len() as u64);
                    return match order.purpose {
                        Purpose::Diverged { to, life } => {
                            self.send_diverged(around, order.epoch, to, life);
                        }
                        _ => self.frozen(around, order, Ok(size)),
                    };
                }
                other => self.stage = other,
            }
        }
        if matches!(self.stage, Stage::Released { .. } | Stage::Encoding { thawed: true, .. }) {
            self.next_freeze = Some(order);
            return;
        }
        if !self.running || !matches!(self.stage, Stage::Running | Stage::Aborted) {
            return self.frozen(around, order, Err(FreezeFailure::Gone));
        }
        self.cell.with(|door| door.close());
        self.stage = Stage::Closing(order);
        self.closing = true;
        self.freezes += 1;
        let task = Later::Retention { seat: self.number, freeze: self.freezes, grace: false };
        around.later(&self.cell.child, order.retention, task);
        self.wake(around);
    }

    /// `Instance::thaw`.
    pub(super) fn thaw(&mut self, around: &mut Around<'_>, epoch: Epoch) {
        self.epoch = epoch;
        if !self.running {
            return;
        }
        self.closing = false;
        self.next_freeze = None;
        self.stage = match std::mem::replace(&mut self.stage, Stage::Running) {
            Stage::Held { state, .. } | Stage::Released { state } => Stage::Released { state },
            Stage::Encoding { state, .. } => Stage::Encoding { thawed: true, state },
            Stage::Running | Stage::Closing(_) | Stage::Aborted => Stage::Running,
        };
        self.cell.with(|door| door.reopen(epoch));
        self.wake(around);
    }

    /// `Instance::parcel`.
    pub(super) fn parcel(&self) -> Option<Parcel> {
        match &self.stage {
            Stage::Held { parcel, .. } => parcel.clone(),
            _ => None,
        }
    }

    /// `Instance::end`.
    pub(super) fn end(&mut self, around: &mut Around<'_>, ending: Ending) {
        if !matches!(self.ending, Some(Ending::Stop(_))) {
            self.ending = Some(ending);
        }
        self.wake(around);
    }

    /// `Instance::merge`.
    pub(super) fn merge(
        &mut self,
        around: &mut Around<'_>,
        epoch: Epoch,
        from: NodeRun,
        parcel: Parcel,
    ) {
        self.merges.push_back((epoch, from, parcel));
        self.wake(around);
    }

    /// `Instance::apply`.
    pub(super) fn take(&mut self, around: &mut Around<'_>, order: ApplyOrder) {
        self.applies.push_back(order);
        self.wake(around);
    }
}

impl Stage {
    fn is_held(&self) -> bool {
        matches!(self, Self::Held { .. } | Self::Encoding { .. } | Self::Released { .. })
    }
}

enum Handled {
    Done(Resolution),
    Later,
    Panicked,
}
