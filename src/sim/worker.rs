//! The workers of one node. Plays `hub/worker.rs`; orders are carried out one by one, each worker's in
//! the order in which they were given.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::{
    actor::State,
    doors::Doors,
    ledger::Ledger,
    node::{Input, Out, Thread},
    seat::{
        ApplyOrder, Ending, FreezeOrder, Opening, Purpose, Ready, Resolution, STATE_VERSION, Seat,
    },
    troubles::Troubles,
};
use crate::{
    delivery::gate::Ticket,
    engine::{
        chance::Chance,
        io::{BuildFailure, ChildOrder, ChildReport, Event, FreezeFailure},
    },
    error::NotHandled,
    hub::parcel::Parcel,
    model::{
        child::{Epoch, Route},
        id::{ChildId, KindName, NodeRun},
        message::{BulkHeader, LaneMark},
        parked::{ApplyFailed, ParkedKey},
    },
};
use bytes::Bytes;

/// `HotSwapOptions::retention` of all nodes.
pub(super) const RETENTION: Duration = Duration::from_secs(1);

/// What all children of a run are like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// Whether it merges the states of owners that gave way; they are parked else.
    pub(super) merges: bool,
    /// Whether its states are encoded and decoded on a blocking thread.
    pub(super) blocking: bool,
}

/// What a child's code may touch.
pub(super) struct Around<'a> {
    pub(super) me: NodeRun,
    pub(super) now: Instant,
    /// `Uptime::now`, by which the engine judges.
    pub(super) uptime: Instant,
    pub(super) kind: Kind,
    pub(super) doors: &'a mut Doors,
    pub(super) dice: &'a mut Chance,
    pub(super) ledger: &'a mut Ledger,
    pub(super) troubles: &'a mut Troubles,
    pub(super) out: &'a mut Vec<Out>,
}

impl Around<'_> {
    /// `Reports::tell`.
    pub(super) fn tell(&mut self, report: ChildReport) {
        self.out.push(Out::Mail(Thread::System, Input::Outcome(Event::Child(report))));
    }

    /// `Reports::park`.
    pub(super) fn park(&mut self, key: ParkedKey, kind: KindName, parcel: Option<Parcel>) {
        self.out.push(Out::Mail(Thread::System, Input::Park { key, kind, parcel }));
    }

    /// `Bench::send_bulk`.
    pub(super) fn send_bulk(&mut self, to: NodeRun, header: BulkHeader, body: Bytes) {
        self.out.push(Out::SendState { to, header, body });
    }

    /// Something that a task of the child's arbiter does after a time.
    pub(super) fn later(&mut self, child: &ChildId, after: Duration, task: Task) {
        let thread = Thread::of(child);
        let input = Input::Task { child: child.clone(), task };
        self.out.push(Out::After(after, thread, input));
    }

    /// Something that the child's arbiter does when it comes to it.
    pub(super) fn soon(&mut self, child: &ChildId, task: Task) {
        let input = Input::Task { child: child.clone(), task };
        self.out.push(Out::Mail(Thread::of(child), input));
    }

    /// The child's code keeps its arbiter for so long.
    pub(super) fn block(&mut self, child: &ChildId, time: Duration) {
        self.out.push(Out::Block(Thread::of(child), time));
    }
}

/// What a task of an arbiter does.
#[derive(Debug)]
pub(super) enum Task {
    Poll {
        seat: u64,
    },
    Retention {
        seat: u64,
        freeze: u64,
        grace: bool,
    },
    Encoded {
        seat: u64,
        order: FreezeOrder,
    },
    Resolve {
        seat: u64,
        ticket: Ticket,
    },
    Reply {
        seat: u64,
        resolution: Resolution,
    },
    /// `Bench::build_later` has its state.
    Decoded {
        epoch: Epoch,
        parcel: Parcel,
    },
}

/// `worker::Slot`.
#[derive(Default)]
struct Slot {
    instance: Option<u64>,
    built: BTreeMap<Epoch, Ready>,
    building: BTreeSet<Epoch>,
    kept: BTreeMap<Epoch, Parcel>,
}

/// The workers of a node.
#[derive(Default)]
pub(super) struct Host {
    slots: BTreeMap<ChildId, Slot>,
    /// All that have not ended, also those that are replaced.
    pub(super) seats: BTreeMap<u64, Seat>,
    /// Of which attempts they were made.
    attempts: BTreeMap<u64, Epoch>,
    next: u64,
}

impl Host {
    fn instance(&mut self, child: &ChildId) -> Option<&mut Seat> {
        let number = self.slots.get(child)?.instance?;
        self.seats.get_mut(&number)
    }

    fn slot(&mut self, child: &ChildId) -> &mut Slot {
        self.slots.entry(child.clone()).or_default()
    }

    /// Successors that were built and neither opened nor dropped.
    pub(super) fn built(&self) -> impl Iterator<Item = (&ChildId, &State)> {
        self.slots
            .iter()
            .flat_map(|(child, slot)| slot.built.values().map(move |ready| (child, &ready.state)))
    }

    /// Wakes the actors behind a door.
    pub(super) fn wake(&mut self, around: &mut Around<'_>, child: &ChildId) {
        for seat in self.seats.values_mut().filter(|seat| seat.child() == child) {
            seat.wake(around);
        }
    }

    /// A task of an arbiter has its turn.
    pub(super) fn task(&mut self, around: &mut Around<'_>, child: &ChildId, task: Task) {
        match task {
            Task::Poll { seat } => {
                let Some(it) = self.seats.get_mut(&seat) else { return };
                let goes_on = it.poll(around);
                // `Seat::opened` and `Seat::finish`, by `Bench::release` and `Bench::keep`.
                let unopened = if goes_on { None } else { it.take_unopened() };
                let is_open = it.is_active();
                let attempt = self.attempts.get(&seat).copied();
                let slot = self.slots.entry(child.clone()).or_default();
                if is_open {
                    slot.kept.clear();
                }
                slot.kept.extend(attempt.zip(unopened));
                if !goes_on {
                    self.attempts.remove(&seat);
                    self.forget(child, seat);
                }
            }
            Task::Retention { seat, freeze, grace } => {
                if let Some(seat) = self.seats.get_mut(&seat) {
                    seat.retention_over(around, freeze, grace);
                }
            }
            Task::Encoded { seat, order } => {
                if let Some(seat) = self.seats.get_mut(&seat) {
                    seat.encoded(around, order);
                }
            }
            Task::Resolve { seat, ticket } => {
                if let Some(seat) = self.seats.get_mut(&seat) {
                    seat.resolve(around, ticket);
                }
            }
            Task::Reply { seat, resolution } => match self.seats.get_mut(&seat) {
                Some(seat) => seat.reply_later(around, resolution),
                // Its task goes on without it.
                None if around.doors.validity.holds(around.uptime) => {
                    resolution.tell(&around.doors.cell(child));
                }
                None => {
                    let again = Duration::from_millis(5);
                    around.later(child, again, Task::Reply { seat, resolution });
                }
            },
            Task::Decoded { epoch, parcel } => {
                if self.slot(child).building.remove(&epoch) {
                    let state = State::decode(&parcel.bytes);
                    let marks = parcel.lanes.clone();
                    let ready = Ready { state, parcel: Some(parcel) };
                    self.built_one(around, child.clone(), epoch, &marks, Ok(ready));
                }
            }
        }
    }

    /// `Bench::forget`.
    fn forget(&mut self, child: &ChildId, number: u64) {
        self.seats.remove(&number);
        if let Some(slot) = self.slots.get_mut(child)
            && slot.instance == Some(number)
        {
            slot.instance = None;
        }
    }

    /// `Bench::built`.
    fn built_one(
        &mut self,
        around: &mut Around<'_>,
        child: ChildId,
        epoch: Epoch,
        marks: &[LaneMark],
        built: Result<Ready, BuildFailure>,
    ) {
        let outcome = built.map(|ready| {
            around.doors.cell(&child).with(|door| door.expect(epoch, marks));
            self.slot(&child).built.insert(epoch, ready);
        });
        around.tell(ChildReport::Built { child, epoch, outcome });
    }

    /// `Worker::run`.
    fn run(
        &mut self,
        around: &mut Around<'_>,
        child: &ChildId,
        ready: Ready,
        epoch: Epoch,
        opening: Opening,
    ) {
        self.next += 1;
        let number = self.next;
        let seat = Seat::open(around, number, child, ready, epoch, opening);
        self.seats.insert(number, seat);
        let older = self.slot(child).instance.replace(number);
        if let Some(older) = older.and_then(|older| self.seats.get_mut(&older)) {
            older.end(around, Ending::Quiet);
        }
    }

    /// `Worker::take_built`.
    fn take_built(
        &mut self,
        around: &mut Around<'_>,
        child: &ChildId,
        epoch: Epoch,
    ) -> Option<Ready> {
        if let Some(cell) = around.doors.known(child) {
            cell.with(|door| door.unexpect(epoch));
        }
        let slot = self.slots.get_mut(child)?;
        slot.building.remove(&epoch);
        slot.kept.remove(&epoch);
        slot.built.remove(&epoch)
    }

    /// `Worker::cut_short`.
    fn cut_short(&mut self, around: &mut Around<'_>, child: &ChildId) {
        if let Some(seat) = self.instance(child) {
            seat.end(around, Ending::Quiet);
        }
    }

    /// `Worker::carry_out`.
    pub(super) fn carry_out(
        &mut self,
        around: &mut Around<'_>,
        order: ChildOrder,
        parcel: Option<(NodeRun, Parcel)>,
    ) {
        match order {
            ChildOrder::Start { spec, epoch, .. } => {
                let child = spec.id().clone();
                if around.troubles.cannot_make(around.now) {
                    let outcome = Err("it does not want to".to_owned());
                    return around.tell(ChildReport::Started { child, epoch, outcome });
                }
                let ready = Ready { state: State::default(), parcel: None };
                self.run(around, &child, ready, epoch, Opening::Start);
            }
            ChildOrder::Freeze { child, epoch, retention, forced, with_state } => {
                let purpose = Purpose::Handover;
                let order = FreezeOrder { epoch, retention, forced, with_state, purpose };
                match self.instance(&child) {
                    Some(seat) => seat.freeze(around, order),
                    None => {
                        let outcome = Err(FreezeFailure::Gone);
                        around.tell(ChildReport::Frozen { child, epoch, outcome });
                    }
                }
            }
            ChildOrder::Thaw { child, epoch } => {
                if let Some(seat) = self.instance(&child) {
                    seat.thaw(around, epoch);
                }
            }
            ChildOrder::Wait { child, epoch } => {
                self.cut_short(around, &child);
                around.doors.cell(&child).with(|door| door.wait(epoch));
            }
            ChildOrder::GiveUp { child, epoch } => {
                self.cut_short(around, &child);
                around.doors.cell(&child).with(|door| door.give_up(epoch));
            }
            ChildOrder::SendState { child, epoch, to } => {
                match self.instance(&child).and_then(|seat| seat.parcel()) {
                    Some(parcel) => {
                        let (header, body) = parcel.pack(child, epoch);
                        around.send_bulk(to, header, body);
                    }
                    None => {
                        let reason = "the state is gone".to_owned();
                        let event = Event::BulkFailed { child, epoch, reason };
                        around.out.push(Out::Mail(Thread::System, Input::Outcome(event)));
                    }
                }
            }
            ChildOrder::Build { spec, epoch, with_state, .. } => {
                let child = spec.id().clone();
                let parcel = parcel.map(|(_, parcel)| parcel);
                let parcel = parcel.or_else(|| self.slot(&child).kept.get(&epoch).cloned());
                if with_state && parcel.is_none() {
                    let gone = Err(BuildFailure::passing("the state is gone"));
                    return self.built_one(around, child, epoch, &[], gone);
                }
                if around.troubles.cannot_read(around.now) {
                    let failed = Err(BuildFailure::lasting("it cannot be read"));
                    return self.built_one(around, child, epoch, &[], failed);
                }
                if around.troubles.cannot_make(around.now) {
                    let failed = Err(BuildFailure::passing("it cannot be made"));
                    return self.built_one(around, child, epoch, &[], failed);
                }
                match parcel {
                    Some(parcel) if around.kind.blocking => {
                        self.slot(&child).building.insert(epoch);
                        let takes = around.dice.ms(1, 40);
                        around.later(&child, takes, Task::Decoded { epoch, parcel });
                    }
                    parcel => {
                        let marks = parcel.as_ref().map(|parcel| parcel.lanes.clone());
                        let state = parcel.as_ref().map(|parcel| State::decode(&parcel.bytes));
                        let ready = Ready { state: state.unwrap_or_default(), parcel };
                        let marks = marks.unwrap_or_default();
                        self.built_one(around, child, epoch, &marks, Ok(ready));
                    }
                }
            }
            ChildOrder::Discard { child, epoch } => {
                self.take_built(around, &child, epoch);
            }
            ChildOrder::Open { child, built, epoch } => {
                match self.slot(&child).built.remove(&built) {
                    Some(ready) => {
                        self.attempts.insert(self.next + 1, built);
                        self.run(around, &child, ready, epoch, Opening::Open);
                    }
                    None => {
                        let outcome = Err("the successor is gone".to_owned());
                        around.tell(ChildReport::Opened { child, epoch, outcome });
                    }
                }
            }
            ChildOrder::MovedAway { child, to, epoch } => {
                let route = Route { owner: to, epoch };
                around.doors.cell(&child).with(|door| door.move_away(route));
            }
            ChildOrder::End { child } => {
                if let Some(seat) = self.instance(&child) {
                    seat.end(around, Ending::Quiet);
                }
            }
            ChildOrder::Stop { child, epoch } => {
                if let Some(cell) = around.doors.known(&child) {
                    cell.with(|door| door.vacate(&NotHandled::Stopped));
                }
                match self.instance(&child) {
                    Some(seat) => seat.end(around, Ending::Stop(epoch)),
                    None => around.tell(ChildReport::Stopped { child, epoch }),
                }
            }
            ChildOrder::SendDiverged { child, epoch, to, life } => {
                if let Some(seat) = self.instance(&child) {
                    let purpose = Purpose::Diverged { to, life };
                    let (retention, forced, with_state) = (RETENTION, false, true);
                    let order = FreezeOrder { epoch, retention, forced, with_state, purpose };
                    seat.freeze(around, order);
                }
            }
            ChildOrder::Rest { child, epoch } => {
                if let Some(seat) = self.instance(&child) {
                    let purpose = Purpose::Park;
                    let (retention, forced, with_state) = (RETENTION, false, true);
                    let order = FreezeOrder { epoch, retention, forced, with_state, purpose };
                    seat.freeze(around, order);
                }
            }
            ChildOrder::Merge { child, epoch } => match (self.instance(&child), parcel) {
                (Some(seat), Some((from, parcel))) => seat.merge(around, epoch, from, parcel),
                _ => {
                    let outcome = Err("the child does not run here".to_owned());
                    around.tell(ChildReport::Merged { child, epoch, outcome });
                }
            },
            ChildOrder::Park { .. } => {}
            ChildOrder::ParkBuilt { key, kind, built, .. } => {
                let kept = self.slot(&key.child).kept.get(&built).cloned();
                let ready = self.take_built(around, &key.child, built);
                around.park(key, kind, ready.and_then(|ready| ready.parcel).or(kept));
            }
            ChildOrder::ParkFrozen { key, kind, .. } => {
                let parcel = self.instance(&key.child).and_then(|seat| seat.parcel());
                around.park(key, kind, parcel);
            }
            ChildOrder::Apply { key, kind, exchange, wait, .. } => {
                let until = around.now + wait;
                match (self.instance(&key.child), parcel) {
                    (Some(seat), Some((_, parcel))) => {
                        seat.take(around, ApplyOrder { key, kind, parcel, exchange, until });
                    }
                    (instance, _) => {
                        let failed = match instance {
                            Some(_) => ApplyFailed::Gone,
                            None => ApplyFailed::NotRunning,
                        };
                        around.tell(ChildReport::Applied { key, outcome: Err(failed) });
                    }
                }
            }
        }
    }
}

/// A state that another node has parked is packed like any other.
pub(super) fn unparked(bytes: &Bytes) -> Parcel {
    Parcel { state_version: STATE_VERSION, lanes: Vec::new(), bytes: bytes.clone() }
}
