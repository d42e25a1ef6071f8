//! The worker of one arbiter: it starts, builds, freezes and ends the children that run there.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, HashMap},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::prelude::*;
use bytes::Bytes;
use tokio::sync::oneshot;

use super::{
    Hub,
    instance::{ApplyOrder, Built, Ending, FreezeOrder, Instance, Maker, Opening, Purpose},
    kind::Building,
    parcel::Parcel,
    parked_requests::ParkParcel,
    system::{HubSystem, Outcome},
    thread::{Tag, WorkerThread},
    topics::instance::InstanceTopics,
    watches::instance::InstanceWatches,
};
use crate::{
    engine::io::{BuildFailure, ChildOrder, ChildReport, Event, FreezeFailure},
    error::NotHandled,
    model::{
        child::{ChildOrigin, Epoch, Route},
        id::{ChildId, NodeRun},
        message::{BulkHeader, LaneMark},
        observe::StateUnknown,
        parked::ApplyFailed,
        settings::Migration,
    },
};

/// What a worker's children share. All of one arbiter.
#[derive(Clone)]
pub(crate) struct Bench {
    pub(crate) hub: Hub,
    pub(crate) reports: Reports,
    pub(crate) thread: Arc<WorkerThread>,
    slots: Rc<RefCell<HashMap<ChildId, Slot>>>,
}

/// What a worker holds of one child.
#[derive(Default)]
struct Slot {
    instance: Option<Rc<dyn Instance>>,
    built: BTreeMap<Epoch, Box<dyn Built>>,
    /// Successors whose states are on a blocking thread.
    building: BTreeSet<Epoch>,
    /// States of successors that could not start, by the attempt, until they are discarded or one runs.
    kept: BTreeMap<Epoch, Parcel>,
}

impl Slot {
    fn is_empty(&self) -> bool {
        self.instance.is_none()
            && self.built.is_empty()
            && self.building.is_empty()
            && self.kept.is_empty()
    }
}

impl Bench {
    /// An instance has ended.
    pub(crate) fn forget(&self, child: &ChildId, instance: &Rc<dyn Instance>) {
        let mut slots = self.slots.borrow_mut();
        if let Some(slot) = slots.get_mut(child) {
            if slot.instance.as_ref().is_some_and(|known| Rc::ptr_eq(known, instance)) {
                slot.instance = None;
            }
            if slot.is_empty() {
                slots.remove(child);
            }
        }
    }

    /// A successor could not start: what it was made of is kept.
    pub(crate) fn keep(&self, child: &ChildId, attempt: Epoch, parcel: Parcel) {
        let mut slots = self.slots.borrow_mut();
        slots.entry(child.clone()).or_default().kept.insert(attempt, parcel);
    }

    /// The child runs: what it could not be started of before is wanted no more.
    pub(crate) fn release(&self, child: &ChildId) {
        if let Some(slot) = self.slots.borrow_mut().get_mut(child) {
            slot.kept.clear();
        }
    }

    fn kept(&self, child: &ChildId, attempt: Epoch) -> Option<Parcel> {
        self.slots.borrow().get(child)?.kept.get(&attempt).cloned()
    }

    /// A successor was built, or could not be.
    fn built(
        &self,
        child: ChildId,
        epoch: Epoch,
        marks: &[LaneMark],
        built: Result<Box<dyn Built>, BuildFailure>,
    ) {
        let outcome = built.map(|built| {
            self.hub.shared().doors.cell(&child).with(|door| door.expect(epoch, marks));
            let mut slots = self.slots.borrow_mut();
            slots.entry(child.clone()).or_default().built.insert(epoch, built);
        });
        self.reports.tell(ChildReport::Built { child, epoch, outcome });
    }

    /// A successor is built once its state is decoded, unless it is discarded before.
    fn build_later(&self, child: ChildId, maker: &Maker, building: Building) {
        let epoch = maker.epoch;
        let marks = maker.parcel.as_ref().map(|parcel| parcel.lanes.clone()).unwrap_or_default();
        self.slots.borrow_mut().entry(child.clone()).or_default().building.insert(epoch);
        let bench = self.clone();
        actix_rt::spawn(async move {
            let built = building.await;
            let mut slots = bench.slots.borrow_mut();
            let Some(slot) = slots.get_mut(&child) else { return };
            let wanted = slot.building.remove(&epoch);
            if slot.is_empty() {
                slots.remove(&child);
            }
            drop(slots);
            if wanted {
                bench.built(child, epoch, &marks, built);
            }
        });
    }

    /// Sends a state; a failure is told to the engine.
    pub(crate) fn send_bulk(&self, to: NodeRun, header: BulkHeader, body: Bytes) {
        let (child, epoch) = (header.child().clone(), header.epoch());
        let system = self.reports.0.system.clone();
        let done = Box::new(move |outcome: Result<(), String>| {
            if let Err(reason) = outcome {
                system.do_send(Outcome(vec![Event::BulkFailed { child, epoch, reason }]));
            }
        });
        self.hub.shared().doors.send_bulk(to, header, body, done);
    }
}

/// What children report, told to the system in batches.
#[derive(Clone)]
pub(crate) struct Reports(Rc<Pending>);

struct Pending {
    system: Addr<HubSystem>,
    events: RefCell<Vec<Event>>,
    scheduled: Cell<bool>,
}

impl Reports {
    /// A state of a child of this arbiter is to be parked. What is told afterwards comes afterwards.
    pub(crate) fn park(&self, message: ParkParcel) {
        self.0.system.do_send(message);
    }

    pub(crate) fn tell(&self, report: ChildReport) {
        self.0.events.borrow_mut().push(Event::Child(report));
        if self.0.scheduled.replace(true) {
            return;
        }
        let pending = self.0.clone();
        actix_rt::spawn(async move {
            // Whatever runs on this arbiter already may have something to report, too.
            tokio::task::yield_now().await;
            pending.scheduled.set(false);
            pending.system.do_send(Outcome(pending.events.take()));
        });
    }
}

/// Runs the children of one arbiter.
pub(crate) struct Worker {
    bench: Bench,
}

impl Actor for Worker {
    type Context = Context<Self>;
}

/// One order with the state that arrived for it.
pub(crate) struct Order {
    pub(crate) order: ChildOrder,
    pub(crate) parcel: Option<Parcel>,
}

/// Orders, in order.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Orders(pub(crate) Vec<Order>);

/// The hub stops: all children of this arbiter end.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Terminate;

impl Worker {
    pub(crate) fn new(hub: Hub, system: Addr<HubSystem>, thread: Arc<WorkerThread>) -> Self {
        let pending = Pending { system, events: RefCell::default(), scheduled: Cell::new(false) };
        let reports = Reports(Rc::new(pending));
        thread.begin();
        Self { bench: Bench { hub, reports, thread, slots: Rc::default() } }
    }

    fn instance(&self, child: &ChildId) -> Option<Rc<dyn Instance>> {
        self.bench.slots.borrow().get(child)?.instance.clone()
    }

    fn tell(&self, report: ChildReport) {
        self.bench.reports.tell(report);
    }

    fn carry_out(&self, Order { order, parcel }: Order) {
        let doors = &self.bench.hub.shared().doors;
        match order {
            ChildOrder::Start { spec, epoch, origin } => {
                let child = spec.id().clone();
                let topics = InstanceTopics::new(doors.topics.clone(), &spec);
                let watches = InstanceWatches::new(self.bench.hub.shared().watches.clone());
                match self.build(Maker { spec, epoch, origin, parcel: None, topics, watches }) {
                    Ok(built) => self.run(child, built, epoch, Opening::Start),
                    Err(failure) => {
                        let outcome = Err(failure.reason);
                        self.tell(ChildReport::Started { child, epoch, outcome });
                    }
                }
            }
            ChildOrder::Freeze { child, epoch, retention, forced, with_state } => {
                let purpose = Purpose::Handover;
                let order = FreezeOrder { epoch, retention, forced, with_state, purpose };
                match self.instance(&child) {
                    Some(instance) => instance.freeze(order),
                    None => {
                        let outcome = Err(FreezeFailure::Gone);
                        self.tell(ChildReport::Frozen { child, epoch, outcome });
                    }
                }
            }
            ChildOrder::Thaw { child, epoch } => {
                if let Some(instance) = self.instance(&child) {
                    instance.thaw(epoch);
                }
            }
            ChildOrder::Wait { child, epoch } => {
                self.cut_short(&child);
                let cell = doors.cell(&child);
                cell.set_here(true);
                cell.with(|door| door.wait(epoch));
            }
            ChildOrder::GiveUp { child, epoch } => {
                self.cut_short(&child);
                let cell = doors.cell(&child);
                cell.set_here(true);
                cell.with(|door| door.give_up(epoch));
            }
            ChildOrder::SendState { child, epoch, to } => {
                match self.instance(&child).and_then(|instance| instance.parcel()) {
                    Some(parcel) => {
                        let (header, body) = parcel.pack(child, epoch);
                        self.bench.send_bulk(to, header, body);
                    }
                    None => {
                        let reason = "the state is gone".to_owned();
                        let event = Event::BulkFailed { child, epoch, reason };
                        self.bench.reports.0.system.do_send(Outcome(vec![event]));
                    }
                }
            }
            ChildOrder::Build { spec, epoch, from, with_state } => {
                let origin = ChildOrigin::HandedOver { from: from.node };
                let child = spec.id().clone();
                let parcel = parcel.or_else(|| self.bench.kept(&child, epoch));
                if with_state && parcel.is_none() {
                    let gone = Err(BuildFailure::passing("the state is gone"));
                    return self.bench.built(child, epoch, &[], gone);
                }
                let topics = InstanceTopics::new(doors.topics.clone(), &spec);
                let watches = InstanceWatches::new(self.bench.hub.shared().watches.clone());
                let maker = Maker { spec, epoch, origin, parcel, topics, watches };
                let kind = self.bench.hub.shared().kinds.hosted(maker.spec.kind().as_str());
                if let Some(later) = kind.and_then(|kind| kind.build_later(&self.bench, &maker)) {
                    return self.bench.build_later(child, &maker, later);
                }
                let lanes = maker.parcel.as_ref().map(|parcel| parcel.lanes.clone());
                let built = self.build(maker);
                self.bench.built(child, epoch, &lanes.unwrap_or_default(), built);
            }
            ChildOrder::Discard { child, epoch } => {
                self.take_built(&child, epoch);
            }
            ChildOrder::Open { child, built, epoch } => {
                let ready = self
                    .bench
                    .slots
                    .borrow_mut()
                    .get_mut(&child)
                    .and_then(|slot| slot.built.remove(&built));
                match ready {
                    Some(ready) => self.run(child, ready, epoch, Opening::Open),
                    None => {
                        let outcome = Err("the successor is gone".to_owned());
                        self.tell(ChildReport::Opened { child, epoch, outcome });
                    }
                }
            }
            ChildOrder::MovedAway { child, to, epoch } => {
                let cell = doors.cell(&child);
                cell.set_here(false);
                cell.with(|door| door.move_away(Route { owner: to, epoch }));
            }
            ChildOrder::End { child } => {
                if let Some(instance) = self.instance(&child) {
                    instance.end(Ending::Quiet);
                }
            }
            ChildOrder::Stop { child, epoch } => {
                if let Some(cell) = doors.known(&child) {
                    cell.with(|door| door.vacate(&NotHandled::Stopped));
                }
                match self.instance(&child) {
                    Some(instance) => instance.end(Ending::Stop(epoch)),
                    None => self.tell(ChildReport::Stopped { child, epoch }),
                }
            }
            ChildOrder::SendDiverged { child, epoch, to, life } => {
                self.hold(&child, epoch, Purpose::Diverged { to, life });
            }
            ChildOrder::Rest { child, epoch } => self.hold(&child, epoch, Purpose::Park),
            ChildOrder::Merge { child, epoch } => match (self.instance(&child), parcel) {
                (Some(instance), Some(parcel)) => instance.merge(epoch, parcel),
                _ => {
                    let outcome = Err("the child does not run here".to_owned());
                    self.tell(ChildReport::Merged { child, epoch, outcome });
                }
            },
            // The system keeps the bytes.
            ChildOrder::Park { .. } => {}
            ChildOrder::ParkBuilt { key, kind, built, reason } => {
                let kept = self.bench.kept(&key.child, built);
                let parcel = self.take_built(&key.child, built).and_then(|built| built.parcel());
                let parcel = parcel.or(kept);
                self.bench.reports.park(ParkParcel { key, kind, reason, at: None, parcel });
            }
            ChildOrder::ParkFrozen { key, kind, reason, at } => {
                let parcel = self.instance(&key.child).and_then(|instance| instance.parcel());
                self.bench.reports.park(ParkParcel { key, kind, reason, at, parcel });
            }
            ChildOrder::Apply { key, kind, exchange, wait, .. } => {
                match (self.instance(&key.child), parcel) {
                    (Some(instance), Some(parcel)) => {
                        let until = Instant::now().checked_add(wait);
                        instance.apply(ApplyOrder { key, kind, parcel, exchange, until });
                    }
                    (instance, _) => {
                        let failed = match instance {
                            Some(_) => ApplyFailed::Gone,
                            None => ApplyFailed::NotRunning,
                        };
                        self.tell(ChildReport::Applied { key, outcome: Err(failed) });
                    }
                }
            }
        }
    }

    /// Takes a successor that is not wanted, if it was built and not opened. Its door expects it no
    /// more either way: one that could not start was taken when it was opened.
    fn take_built(&self, child: &ChildId, epoch: Epoch) -> Option<Box<dyn Built>> {
        if let Some(cell) = self.bench.hub.shared().doors.known(child) {
            cell.with(|door| door.unexpect(epoch));
        }
        let mut slots = self.bench.slots.borrow_mut();
        let slot = slots.get_mut(child)?;
        let built = slot.built.remove(&epoch);
        slot.building.remove(&epoch);
        slot.kept.remove(&epoch);
        if slot.is_empty() {
            slots.remove(child);
        }
        built
    }

    fn build(&self, maker: Maker) -> Result<Box<dyn Built>, BuildFailure> {
        let kind = maker.spec.kind();
        let Some(kind) = self.bench.hub.shared().kinds.hosted(kind.as_str()) else {
            return Err(BuildFailure::passing(format!("kind {kind} is not registered")));
        };
        let child = Tag::of(maker.spec.id());
        self.bench.thread.run(child, || kind.build(&self.bench, maker))
    }

    /// Freezes a child for good, unless it is told to go on.
    fn hold(&self, child: &ChildId, epoch: Epoch, purpose: Purpose) {
        let Some(instance) = self.instance(child) else { return };
        let retention = match &self.bench.hub.settings().migration {
            Migration::HotSwap(options) => options.retention,
            Migration::ColdSwap => Duration::from_secs(5),
        };
        let (forced, with_state) = (false, true);
        instance.freeze(FreezeOrder { epoch, retention, forced, with_state, purpose });
    }

    /// Its start took too long and may still go on: it must not open the door any more.
    fn cut_short(&self, child: &ChildId) {
        if let Some(instance) = self.instance(child) {
            instance.end(Ending::Quiet);
        }
    }

    fn run(&self, child: ChildId, built: Box<dyn Built>, epoch: Epoch, opening: Opening) {
        let instance = built.open(epoch, opening);
        let mut slots = self.bench.slots.borrow_mut();
        if let Some(older) = slots.entry(child).or_default().instance.replace(instance) {
            older.end(Ending::Quiet);
        }
    }
}

impl Handler<Orders> for Worker {
    type Result = ();

    fn handle(&mut self, Orders(orders): Orders, _: &mut Context<Self>) {
        for order in orders {
            self.carry_out(order);
        }
    }
}

/// What the state of a child is now. `None`: it ended before it could tell.
#[derive(Message)]
#[rtype(result = "Option<Result<Peeked, StateUnknown>>")]
pub(crate) struct Peek {
    pub(crate) child: ChildId,
}

/// How long a child that is asked for its state may take to come to rest.
const PEEK_WAIT: Duration = Duration::from_millis(800);

/// The version of a state and its CBOR.
pub(crate) type Peeked = (u32, Bytes);

impl Handler<Peek> for Worker {
    type Result = ResponseFuture<Option<Result<Peeked, StateUnknown>>>;

    fn handle(&mut self, Peek { child }: Peek, _: &mut Context<Self>) -> Self::Result {
        let Some(instance) = self.instance(&child) else {
            return Box::pin(std::future::ready(Some(Err(StateUnknown::NotHere))));
        };
        let (tell, told) = oneshot::channel();
        instance.peek(tell);
        Box::pin(async move {
            match tokio::time::timeout(PEEK_WAIT, told).await {
                Ok(told) => told.ok(),
                Err(_) => Some(Err(StateUnknown::Busy)),
            }
        })
    }
}

/// The hub is shut down: a child is to come to rest for good, with nothing under way. Its started
/// handlers may end by themselves for so long, and are then cut off. Tells why it did not.
#[derive(Message)]
#[rtype(result = "Result<(), String>")]
pub(crate) struct Rest {
    pub(crate) child: ChildId,
    pub(crate) retention: Duration,
}

impl Handler<Rest> for Worker {
    type Result = ResponseFuture<Result<(), String>>;

    fn handle(&mut self, Rest { child, retention }: Rest, _: &mut Context<Self>) -> Self::Result {
        let Some(instance) = self.instance(&child) else {
            return Box::pin(std::future::ready(Err("it does not run".to_owned())));
        };
        let (tell, told) = oneshot::channel();
        instance.rest(retention, tell);
        Box::pin(async move { told.await.unwrap_or_else(|_| Err("it ended".to_owned())) })
    }
}

/// Asks a child that has come to rest for its state. Tells why there is none.
#[derive(Message)]
#[rtype(result = "Result<Peeked, String>")]
pub(crate) struct Surrender {
    pub(crate) child: ChildId,
}

impl Handler<Surrender> for Worker {
    type Result = ResponseFuture<Result<Peeked, String>>;

    fn handle(&mut self, Surrender { child }: Surrender, _: &mut Context<Self>) -> Self::Result {
        let Some(instance) = self.instance(&child) else {
            return Box::pin(std::future::ready(Err("it does not run".to_owned())));
        };
        let (tell, told) = oneshot::channel();
        instance.surrender(tell);
        Box::pin(async move { told.await.unwrap_or_else(|_| Err("it ended".to_owned())) })
    }
}

impl Handler<Terminate> for Worker {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Terminate, _: &mut Context<Self>) -> ResponseFuture<()> {
        let slots = self.bench.slots.clone();
        for slot in slots.borrow_mut().values_mut() {
            slot.built.clear();
            slot.building.clear();
            if let Some(instance) = &slot.instance {
                instance.end(Ending::Quiet);
            }
        }
        Box::pin(async move {
            let running = || slots.borrow().values().any(|slot| slot.instance.is_some());
            while running() {
                tokio::task::yield_now().await;
            }
        })
    }
}
