//! One actor behind its door: built, run, frozen, held, ended; and the inbox inside its context.
//!
//! The door's queue is the inbox: an `ActorFuture` in the actor's own context drains it and calls
//! the handlers. What is not drained is simply still queued, so that a freeze has nothing to
//! replay and a restart nothing to restore.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::{Duration, Instant},
};

use actix::{fut::ActorFuture, prelude::*};
use bytes::Bytes;
use tokio::sync::oneshot;

use super::{
    codec::{self, Rules},
    doors::HeldDoor,
    envelope::{Envelope, Ran},
    hot_swap::{ChildContext, HotSwap, MergeOutcome},
    kind::{Delivered, Kind},
    panics::{guarded, panic_message},
    parcel::Parcel,
    parked_requests::ParkParcel,
    state::{encode_state, read_state},
    thread::Tag,
    topics::{child::ChildSubscriber, instance::InstanceTopics},
    trace::handling_from,
    watches::instance::InstanceWatches,
    worker::{Bench, Peeked},
};
use crate::{
    delivery::{
        door::{Door, Item, Task},
        gate::Ticket,
    },
    engine::io::{BuildFailure, ChildReport, Exit, FreezeFailure},
    model::{
        child::{ChildOrigin, ChildSpec, Epoch},
        frame::ReplyFailure,
        id::{KindName, NodeRun},
        message::BulkHeader,
        observe::{MOST_SHOWN, StateUnknown},
        parked::{ApplyFailed, ParkedKey},
        words::brief,
    },
};

/// Messages that are handled before the other tasks of the arbiter have a turn.
const TURN: u32 = 64;
/// How long handling goes on at most before they have, but for the handler that is under way.
const TURN_TIME: Duration = Duration::from_micros(200);
/// How long a forced freeze waits for an actor that holds its own context after `retention`.
const FORCED_GRACE: Duration = Duration::from_secs(1);

/// What an actor is made from.
#[derive(Clone)]
pub(crate) struct Maker {
    pub(crate) spec: Arc<ChildSpec>,
    pub(crate) epoch: Epoch,
    pub(crate) origin: ChildOrigin,
    pub(crate) parcel: Option<Parcel>,
    /// What the instance listens to.
    pub(crate) topics: Arc<InstanceTopics>,
    /// Whom it watches.
    pub(crate) watches: Arc<InstanceWatches>,
}

/// Which order a start answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    Start,
    Open,
}

/// A successor that is built and does not run.
pub(crate) trait Built {
    /// The state that it was made of, if it was.
    fn parcel(self: Box<Self>) -> Option<Parcel>;
    /// Runs it; its door opens when `started()` has returned.
    fn open(self: Box<Self>, epoch: Epoch, opening: Opening) -> Rc<dyn Instance>;
}

/// Where a state goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Handover,
    Diverged {
        to: NodeRun,
        /// When the life began that may take it in.
        life: Epoch,
    },
    /// Nowhere yet: it is parked on this node, and the actor ends.
    Park,
    /// Nowhere yet: the hub is shut down.
    Rest,
}

/// A freeze that is under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FreezeOrder {
    pub(crate) epoch: Epoch,
    pub(crate) retention: Duration,
    pub(crate) forced: bool,
    pub(crate) with_state: bool,
    pub(crate) purpose: Purpose,
}

/// A parked state that an actor is to take in.
#[derive(Clone, Debug)]
pub(crate) struct ApplyOrder {
    pub(crate) key: ParkedKey,
    pub(crate) kind: KindName,
    pub(crate) parcel: Parcel,
    /// The actor's own is replaced, and parked under this name.
    pub(crate) exchange: Option<ParkedKey>,
    /// Nobody waits for it any longer.
    pub(crate) until: Option<Instant>,
}

/// How an actor is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Its successor runs, or the hub stops.
    Quiet,
    /// For good; the order is answered.
    Stop(Epoch),
}

/// A running actor without its type. All on its own arbiter.
pub(crate) trait Instance {
    fn freeze(self: Rc<Self>, order: FreezeOrder);
    fn thaw(&self, epoch: Epoch);
    fn parcel(&self) -> Option<Parcel>;
    fn end(&self, ending: Ending);
    fn merge(&self, epoch: Epoch, parcel: Parcel);
    /// Takes a parked state in, between two handlers; each order is answered, also if it ends.
    fn apply(&self, order: ApplyOrder);
    /// Tells the state, between two messages; not while the actor is held. Dropped if it ends.
    fn peek(&self, tell: oneshot::Sender<Result<Peeked, StateUnknown>>);
    /// Brings the actor to rest for good, whatever is under way: see [`Rest`](super::worker::Rest).
    fn rest(self: Rc<Self>, retention: Duration, tell: oneshot::Sender<Result<(), String>>);
    /// Tells the state of an actor at rest.
    fn surrender(&self, tell: oneshot::Sender<Result<Peeked, String>>);
}

/// Who may wait at a time for the state of one child.
const MOST_PEEKS: usize = 16;

fn make<A: HotSwap>(kind: &Kind<A>, bench: &Bench, maker: &Maker) -> Result<A, BuildFailure> {
    make_with(kind, bench, maker, || maker.parcel.as_ref().map(read_state::<A>).transpose())
}

/// Makes an actor; `state` is asked for when that was done.
fn make_with<A: HotSwap>(
    kind: &Kind<A>,
    bench: &Bench,
    maker: &Maker,
    state: impl FnOnce() -> Result<Option<A::State>, BuildFailure>,
) -> Result<A, BuildFailure> {
    let (spec, origin) = (maker.spec.clone(), maker.origin);
    let (topics, watches) = (maker.topics.clone(), maker.watches.clone());
    let hub = bench.hub.clone();
    let child = ChildContext::<A>::new(hub, spec, maker.epoch, origin, topics, watches);
    let made = guarded(|| {
        let args = codec::decode(&maker.spec.args).map_err(|reason| {
            BuildFailure::passing(format!("its arguments could not be decoded: {reason}"))
        })?;
        let mut actor =
            kind.make(args, &child).map_err(|failure| BuildFailure::passing(failure.reason()))?;
        if let Some(state) = state()? {
            actor.alter_handover_state(state);
        }
        Ok(actor)
    });
    let made = made.unwrap_or_else(|panic| {
        Err(BuildFailure::passing(format!("it panicked while it was made: {panic}")))
    });
    made.map_err(|failure| BuildFailure { reason: brief(failure.reason), ..failure })
}

/// Makes an actor, on a blocking thread as far as its kind says so.
async fn make_later<A: HotSwap>(
    kind: &Kind<A>,
    bench: &Bench,
    maker: &Maker,
) -> Result<A, BuildFailure> {
    let (Some(blocking), Some(parcel)) = (kind.blocking, &maker.parcel) else {
        return make::<A>(kind, bench, maker);
    };
    let state = blocking.decode(parcel.clone()).await;
    make_with(kind, bench, maker, || state.map(Some))
}

struct Ready<A: HotSwap> {
    actor: A,
    kind: Kind<A>,
    bench: Bench,
    maker: Maker,
}

/// Makes an actor and does not run it.
pub(crate) fn build<A: HotSwap>(
    kind: Kind<A>,
    bench: &Bench,
    maker: Maker,
) -> Result<Box<dyn Built>, BuildFailure> {
    let actor = make::<A>(&kind, bench, &maker)?;
    Ok(Box::new(Ready { actor, kind, bench: bench.clone(), maker }))
}

/// The same with a state that is decoded on a blocking thread.
pub(crate) async fn build_later<A: HotSwap>(
    kind: Kind<A>,
    bench: Bench,
    maker: Maker,
) -> Result<Box<dyn Built>, BuildFailure> {
    let actor = make_later::<A>(&kind, &bench, &maker).await?;
    Ok(Box::new(Ready { actor, kind, bench, maker }))
}

impl<A: HotSwap> Built for Ready<A> {
    fn parcel(self: Box<Self>) -> Option<Parcel> {
        self.maker.parcel
    }

    fn open(self: Box<Self>, epoch: Epoch, opening: Opening) -> Rc<dyn Instance> {
        let Self { actor, kind, bench, maker } = *self;
        let seat = Rc::new(Seat::<A> {
            cell: HeldDoor::new(bench.hub.shared().doors.cell(maker.spec.id())),
            tag: Tag::of(maker.spec.id()),
            watches: maker.watches.clone(),
            kind,
            bench,
            stage: RefCell::new(Stage::Running),
            running: Cell::new(false),
            in_user: Cell::new(false),
            dead: Cell::new(false),
            closing: Cell::new(false),
            epoch: Cell::new(epoch),
            freezes: Cell::new(0),
            next_freeze: Cell::new(None),
            ending: Cell::new(None),
            merges: RefCell::default(),
            applies: RefCell::default(),
            peeks: RefCell::default(),
            untried: Cell::new(false),
            at_rest: Cell::new(None),
            surrender: Cell::new(None),
        });
        actix_rt::spawn(seat.clone().live(actor, maker, epoch, opening));
        seat
    }
}

enum Stage<S> {
    Running,
    /// The door is closed; started handlers are waited for.
    Closing(FreezeOrder),
    /// The freeze failed and the door is still closed.
    Aborted,
    /// The context is held and the state is on a blocking thread.
    Encoding {
        /// The freeze was taken back meanwhile: the context goes on when the state is back.
        thawed: bool,
    },
    /// The context is held.
    Held {
        state: Option<S>,
        parcel: Option<Parcel>,
    },
    /// The context is about to go on.
    Released {
        state: Option<S>,
    },
}

struct Seat<A: HotSwap> {
    cell: HeldDoor,
    tag: Tag,
    /// Whose ends it is told of.
    watches: Arc<InstanceWatches>,
    kind: Kind<A>,
    bench: Bench,
    stage: RefCell<Stage<A::State>>,
    /// Whether `started()` has returned.
    running: Cell<bool>,
    /// Set while code of the user runs: still set when we are polled, that code has panicked.
    in_user: Cell<bool>,
    dead: Cell<bool>,
    closing: Cell<bool>,
    epoch: Cell<Epoch>,
    freezes: Cell<u64>,
    /// Came before the context went on after the last one.
    next_freeze: Cell<Option<FreezeOrder>>,
    ending: Cell<Option<Ending>>,
    merges: RefCell<VecDeque<(Epoch, Parcel)>>,
    /// As many as the engine lets a node's children take in at a time, at most.
    applies: RefCell<VecDeque<ApplyOrder>>,
    peeks: RefCell<Vec<oneshot::Sender<Result<Peeked, StateUnknown>>>>,
    /// Its state is tried as soon as the actor is at rest.
    untried: Cell<bool>,
    /// Who is told that it has come to rest for good.
    at_rest: Cell<Option<oneshot::Sender<Result<(), String>>>>,
    /// Who is told its state then.
    surrender: Cell<Option<oneshot::Sender<Result<Peeked, String>>>>,
}

impl<A: HotSwap> Seat<A> {
    /// The actor's task, from its first poll to its end.
    async fn live(self: Rc<Self>, actor: A, mut maker: Maker, epoch: Epoch, opening: Opening) {
        let mut actor = Some(actor);
        let mut tries = if maker.parcel.is_some() { 2 } else { 1 };
        let exit = loop {
            let made = match actor.take() {
                Some(actor) => Ok(actor),
                None => make_later::<A>(&self.kind, &self.bench, &maker).await,
            };
            tries -= 1;
            let exit = match made {
                Ok(actor) => self.run(actor, &mut maker, epoch, opening).await,
                Err(failure) => Exit::Panicked { message: failure.reason },
            };
            let again = !self.running.get() && self.ending.get().is_none() && tries > 0;
            if !again || exit == Exit::Stopped {
                break exit;
            }
            // `started()` panicked and the state is still at hand: once more.
            self.in_user.set(false);
            self.dead.set(false);
        };
        self.dead.set(true);
        self.finish(exit, maker, epoch, opening);
    }

    async fn run(
        self: &Rc<Self>,
        actor: A,
        maker: &mut Maker,
        epoch: Epoch,
        opening: Opening,
    ) -> Exit {
        let mut ctx = Context::new();
        ctx.spawn(Inbox { seat: self.clone(), queue_first: Cell::new(false) });
        let mut running = ctx.into_future(actor);
        let exit = poll_fn(|cx| {
            self.cell.actor.register(cx.waker());
            if self.ending.get().is_some() && !self.running.get() {
                // So that its drop does not start it.
                running.ctx().terminate();
                return Poll::Ready(Exit::Stopped);
            }
            let turn = AssertUnwindSafe(|| Pin::new(&mut running).poll(cx));
            match self.bench.thread.run(self.tag, || catch_unwind(turn)) {
                // Its own `ctx.wait` keeps it from ending itself: it ends by being dropped.
                Ok(Poll::Pending) if self.ending.get().is_some() => Poll::Ready(Exit::Stopped),
                Ok(Poll::Pending) => {
                    if !self.running.replace(true) {
                        self.opened(maker, epoch, opening);
                    }
                    Poll::Pending
                }
                Ok(Poll::Ready(())) => Poll::Ready(Exit::Stopped),
                Err(panic) => {
                    self.dead.set(true);
                    Poll::Ready(Exit::Panicked { message: panic_message(&*panic) })
                }
            }
        })
        .await;
        // The drop of a context polls it once more; what panics there is of no consequence.
        let _ = self.bench.thread.run(self.tag, || guarded(|| drop(running)));
        exit
    }

    /// `started()` has returned: the bytes that the actor was made of are given back, as it is not made
    /// again.
    fn opened(&self, maker: &mut Maker, epoch: Epoch, opening: Opening) {
        let parcel = maker.parcel.take();
        self.bench.release(&self.cell.child);
        let marks = parcel.as_ref().map_or(&[][..], |parcel| &parcel.lanes);
        let is_open = self.cell.with(|door| door.open(self.epoch.get(), marks));
        self.cell.set_here(is_open);
        maker.topics.begin(Arc::new(self.subscriber()));
        let cell = self.cell.clone();
        self.watches.begin(Arc::new(move || cell.actor.wake()));
        self.answer(epoch, opening, Ok(()));
        let verify = self.bench.hub.settings().verify_encoding;
        if A::PREPARE_ONLY_READS && verify && parcel.is_none() {
            self.untried.set(true);
            self.cell.actor.wake();
        }
    }

    fn subscriber(&self) -> ChildSubscriber<A> {
        let shared = self.bench.hub.shared();
        ChildSubscriber::new(
            self.cell.clone(),
            self.kind.clone(),
            shared.doors.topics.clone(),
            shared.propagator.clone(),
            Rules::of_messages(&shared.settings),
        )
    }

    fn answer(&self, epoch: Epoch, opening: Opening, outcome: Result<(), String>) {
        let child = self.cell.child.clone();
        self.bench.reports.tell(match opening {
            Opening::Start => ChildReport::Started { child, epoch, outcome },
            Opening::Open => ChildReport::Opened { child, epoch, outcome },
        });
    }

    /// The actor has ended, whatever for.
    fn finish(self: &Rc<Self>, exit: Exit, maker: Maker, epoch: Epoch, opening: Opening) {
        maker.topics.end();
        self.watches.end();
        let child = self.cell.child.clone();
        let instance: Rc<dyn Instance> = self.clone();
        self.bench.forget(&child, &instance);
        // What was not merged is offered again, to whoever owns the child then.
        self.merges.take();
        for order in self.applies.take() {
            self.applied(order.key, Err(ApplyFailed::NotRunning));
        }
        match self.ending.get() {
            Some(Ending::Quiet) => {}
            Some(Ending::Stop(epoch)) => {
                self.bench.reports.tell(ChildReport::Stopped { child, epoch });
            }
            None if !self.running.get() => {
                let reason = match exit {
                    Exit::Stopped => "it stopped itself while it started".to_owned(),
                    Exit::Panicked { message } => message,
                };
                if let Some(parcel) = maker.parcel {
                    self.bench.keep(&self.cell.child, maker.epoch, parcel);
                }
                self.answer(epoch, opening, Err(reason));
            }
            None => {
                self.cell.with(|door| door.crashed());
                let epoch = self.epoch.get();
                self.bench.reports.tell(ChildReport::Exited { child, epoch, exit });
            }
        }
    }

    fn frozen(&self, order: FreezeOrder, outcome: Result<u64, FreezeFailure>) {
        let child = self.cell.child.clone();
        match order.purpose {
            Purpose::Handover => {
                let epoch = order.epoch;
                self.bench.reports.tell(ChildReport::Frozen { child, epoch, outcome });
            }
            Purpose::Rest => {
                if let Some(tell) = self.at_rest.take() {
                    // Whoever asked may not wait any more.
                    let _ = tell.send(outcome.map(drop).map_err(|error| error.to_string()));
                }
            }
            Purpose::Park => {
                let epoch = order.epoch;
                self.bench.reports.tell(ChildReport::Tried { child, epoch, outcome });
            }
            // It is asked for again until it is taken.
            Purpose::Diverged { to, life } => {
                match &outcome {
                    Ok(_) => self.send_diverged(order.epoch, to, life),
                    Err(error) => {
                        tracing::warn!(%child, %error, "the state of a diverged child is not offered");
                    }
                }
                let epoch = order.epoch;
                self.bench.reports.tell(ChildReport::Tried { child, epoch, outcome });
            }
        }
    }

    fn send_diverged(&self, epoch: Epoch, to: NodeRun, life: Epoch) {
        if let Some(parcel) = self.parcel() {
            let child = self.cell.child.clone();
            let state_version = parcel.state_version;
            let header = BulkHeader::Diverged { child, epoch, state_version, life };
            self.bench.send_bulk(to, header, parcel.bytes);
        }
    }

    /// The time for started handlers is over.
    fn retention_over(self: &Rc<Self>, freeze: u64, grace: bool) {
        if self.freezes.get() != freeze {
            return;
        }
        let order = match &*self.stage.borrow() {
            Stage::Closing(order) => *order,
            _ => return,
        };
        if order.forced && !grace {
            self.cell.cut_off();
            self.cell.actor.wake();
            self.after(FORCED_GRACE, freeze, true);
            return;
        }
        self.closing.set(false);
        self.stage.replace(Stage::Aborted);
        let (unresolved, longest) =
            self.cell.with(|door| (door.unresolved(), door.longest(Instant::now())));
        let longest = longest.unwrap_or_default();
        self.frozen(order, Err(FreezeFailure::Retention { unresolved, longest }));
    }

    fn after(self: &Rc<Self>, time: Duration, freeze: u64, grace: bool) {
        let seat = Rc::downgrade(self);
        actix_rt::spawn(async move {
            tokio::time::sleep(time).await;
            if let Some(seat) = seat.upgrade() {
                seat.retention_over(freeze, grace);
            }
        });
    }

    /// All started handlers are resolved: takes the state and holds the context.
    fn take_state(self: &Rc<Self>, order: FreezeOrder, actor: &mut A, ctx: &mut Context<A>) {
        self.closing.set(false);
        if !order.with_state {
            self.stage.replace(Stage::Held { state: None, parcel: None });
            ctx.wait(Hold { seat: self.clone() });
            return self.frozen(order, Ok(0));
        }
        let state = match self.prepare(actor) {
            Ok(state) => state,
            Err(message) => {
                self.stage.replace(Stage::Aborted);
                return self.frozen(order, Err(FreezeFailure::Panicked { message }));
            }
        };
        let rules = Rules::of_states(self.bench.hub.settings());
        let Some(blocking) = self.kind.blocking else {
            let encoded = encode_state::<A>(&state, rules);
            ctx.wait(Hold { seat: self.clone() });
            return self.hold(order, Some(state), encoded);
        };
        self.stage.replace(Stage::Encoding { thawed: false });
        ctx.wait(Hold { seat: self.clone() });
        let seat = self.clone();
        actix_rt::spawn(async move {
            let (state, encoded) = blocking.encode(state, rules).await;
            let thawed = matches!(*seat.stage.borrow(), Stage::Encoding { thawed: true });
            if thawed {
                // Nobody waits for the bytes any more, and the actor may miss its state.
                seat.stage.replace(Stage::Released { state });
                seat.cell.actor.wake();
            } else {
                seat.hold(order, state, encoded);
            }
        });
    }

    /// The state was encoded, or could not be. The context is held either way.
    fn hold(
        &self,
        order: FreezeOrder,
        state: Option<A::State>,
        encoded: Result<Bytes, FreezeFailure>,
    ) {
        let mut parcel = None;
        let outcome = encoded.map(|bytes| {
            let size = bytes.len() as u64;
            let lanes = self.cell.with(|door| door.marks());
            parcel = Some(Parcel { state_version: A::STATE_VERSION, lanes, bytes });
            size
        });
        self.stage.replace(Stage::Held { state, parcel });
        self.frozen(order, outcome);
        if let Some(tell) = self.at_rest.take() {
            // It was wanted at rest while its state was on its way back.
            let _ = tell.send(Ok(()));
        }
    }

    fn prepare(&self, actor: &mut A) -> Result<A::State, String> {
        self.in_user.set(true);
        let prepared = guarded(|| actor.prepare_handover_state());
        self.in_user.set(false);
        prepared
    }

    /// The actor's state as a handover would carry it; the actor goes on.
    fn peek_state(&self, actor: &mut A, rules: Rules) -> Result<Bytes, FreezeFailure> {
        let prepared = self.prepare(actor);
        let state = prepared.map_err(|message| FreezeFailure::Panicked { message })?;
        let encoded = encode_state::<A>(&state, rules);
        self.resume(state, actor);
        encoded
    }

    /// Gives the actor its state back. A panic ends it, like one in a handler.
    fn resume(&self, state: A::State, actor: &mut A) {
        self.in_user.set(true);
        actor.resume_after_abort(state);
        self.in_user.set(false);
    }

    /// Tells the state to who asked for it.
    fn show(&self, actor: &mut A) -> Result<Peeked, StateUnknown> {
        let rules = Rules { limit: MOST_SHOWN, read_back: false };
        match self.peek_state(actor, rules) {
            Ok(bytes) => Ok((A::STATE_VERSION, bytes)),
            Err(FreezeFailure::TooLarge { size, limit }) => {
                Err(StateUnknown::TooLarge { size, limit })
            }
            Err(failure) => Err(StateUnknown::Failed(failure.to_string())),
        }
    }

    /// Tells whether the state could go, before anybody wants that.
    fn try_state(&self, actor: &mut A) {
        let rules = Rules::of_states(self.bench.hub.settings());
        let outcome = self.peek_state(actor, rules).map(|bytes| bytes.len() as u64);
        let (child, epoch) = (self.cell.child.clone(), self.epoch.get());
        self.bench.reports.tell(ChildReport::Tried { child, epoch, outcome });
    }

    /// The state of an actor at rest, for good: it is not given back.
    fn give_up_state(&self, actor: &mut A) -> Result<Peeked, String> {
        let Stage::Held { state, parcel } = self.stage.replace(Stage::Aborted) else {
            return Err("it is not at rest".to_owned());
        };
        if let Some(kept) = &parcel {
            let told = (kept.state_version, kept.bytes.clone());
            self.stage.replace(Stage::Held { state, parcel });
            return Ok(told);
        }
        let rules = Rules::of_states(self.bench.hub.settings());
        self.in_user.set(true);
        let encoded = guarded(|| {
            let state = state.unwrap_or_else(|| actor.prepare_handover_state());
            encode_state::<A>(&state, rules).map_err(|failure| failure.to_string())
        });
        self.in_user.set(false);
        self.stage.replace(Stage::Held { state: None, parcel: None });
        let bytes = encoded.unwrap_or_else(|panic| Err(format!("it panicked: {panic}")))?;
        Ok((A::STATE_VERSION, bytes))
    }

    fn take_in(&self, epoch: Epoch, parcel: &Parcel, actor: &mut A) {
        self.in_user.set(true);
        let outcome = guarded(|| {
            let state = read_state::<A>(parcel).map_err(|failure| failure.reason)?;
            match actor.merge_diverged_state(state) {
                MergeOutcome::Merged => Ok(()),
                MergeOutcome::Parked => Err("it was not merged by its kind".to_owned()),
            }
        });
        self.in_user.set(false);
        let outcome = outcome.unwrap_or_else(|panic| Err(format!("it panicked: {panic}")));
        let child = self.cell.child.clone();
        self.bench.reports.tell(ChildReport::Merged { child, epoch, outcome });
    }

    /// Takes in the parked states that wait, those that replace the actor's own only when none of its
    /// handlers is under way.
    fn take_in_parked(&self, actor: &mut A, at_rest: bool) {
        let now = Instant::now();
        // One leaves the queue when it is its turn: should the actor panic, the rest is answered there.
        let waiting = self.applies.borrow().len();
        for _ in 0..waiting {
            let Some(order) = self.applies.borrow_mut().pop_front() else { break };
            if order.until.is_some_and(|until| until <= now) {
                let reason = "the child did not come to it in time".to_owned();
                self.applied(order.key, Err(ApplyFailed::Failed { reason }));
            } else if order.exchange.is_none() {
                let outcome = self.merge_parked(&order.parcel, actor);
                self.applied(order.key, outcome);
            } else if at_rest {
                self.replace_by(order, actor);
            } else {
                self.applies.borrow_mut().push_back(order);
            }
        }
    }

    fn applied(&self, key: ParkedKey, outcome: Result<(), ApplyFailed>) {
        self.bench.reports.tell(ChildReport::Applied { key, outcome });
    }

    /// Runs code of the user.
    fn in_user<T>(&self, act: impl FnOnce() -> T) -> Result<T, ApplyFailed> {
        self.in_user.set(true);
        let outcome = guarded(act);
        self.in_user.set(false);
        outcome.map_err(|panic| ApplyFailed::Failed { reason: format!("it panicked: {panic}") })
    }

    fn merge_parked(&self, parcel: &Parcel, actor: &mut A) -> Result<(), ApplyFailed> {
        let failed = |failure: BuildFailure| ApplyFailed::Failed { reason: brief(failure.reason) };
        let state = self.in_user(|| read_state::<A>(parcel))?.map_err(failed)?;
        match self.in_user(|| actor.merge_diverged_state(state))? {
            MergeOutcome::Merged => Ok(()),
            MergeOutcome::Parked => Err(ApplyFailed::NotMerged),
        }
    }

    /// Puts a parked state in the place of the actor's own, which is parked in exchange.
    fn replace_by(&self, order: ApplyOrder, actor: &mut A) {
        let ApplyOrder { key, kind, parcel, exchange, .. } = order;
        let Some(exchange) = exchange else { return };
        let prepared = self.prepare_exchange(&parcel, actor);
        let (state, own, bytes) = match prepared {
            Ok(prepared) => prepared,
            Err((failed, own)) => {
                // Before the actor goes on, which it may do by a panic.
                self.applied(key, Err(failed));
                return own.into_iter().for_each(|own| self.resume(own, actor));
            }
        };
        let park = |reason: &str| {
            let parcel = Parcel { state_version: A::STATE_VERSION, lanes: Vec::new(), bytes };
            let reason = reason.to_owned();
            self.bench.reports.park(ParkParcel {
                key: exchange,
                kind,
                reason,
                at: None,
                parcel: Some(parcel),
            });
        };
        match self.in_user(|| actor.alter_handover_state(state)) {
            Ok(()) => {
                park("another parked state was put in its place");
                self.applied(key, Ok(()));
            }
            Err(failed) => {
                self.applied(key, Err(failed));
                // Nobody knows what it has now. It gets back what it had, and that is parked should it
                // not take it: then it has panicked, like in a handler.
                self.in_user.set(true);
                if let Err(panic) =
                    catch_unwind(AssertUnwindSafe(|| actor.alter_handover_state(own)))
                {
                    park("the child did not take it back");
                    resume_unwind(panic);
                }
                self.in_user.set(false);
            }
        }
    }

    /// The state that is to come, and the actor's own with its bytes. On failure the actor goes on, with
    /// its own state if there is one.
    #[expect(clippy::type_complexity, reason = "three states that are used at once")]
    fn prepare_exchange(
        &self,
        parcel: &Parcel,
        actor: &mut A,
    ) -> Result<(A::State, A::State, Bytes), (ApplyFailed, Option<A::State>)> {
        let failed = |failure: BuildFailure| ApplyFailed::Failed { reason: brief(failure.reason) };
        let read = self.in_user(|| read_state::<A>(parcel));
        let state = read.and_then(|read| read.map_err(failed)).map_err(|failed| (failed, None))?;
        let own =
            self.in_user(|| actor.prepare_handover_state()).map_err(|failed| (failed, None))?;
        let rules = Rules::of_states(self.bench.hub.settings());
        match encode_state::<A>(&own, rules) {
            Ok(bytes) => Ok((state, own, bytes)),
            Err(failure) => {
                let reason = brief(format!("the child's own state cannot be parked: {failure}"));
                Err((ApplyFailed::Failed { reason }, Some(own)))
            }
        }
    }

    /// Handles one message. `Some` if its handler is done.
    fn handle(
        self: &Rc<Self>,
        task: Task<Envelope>,
        actor: &mut A,
        ctx: &mut Context<A>,
    ) -> Option<Resolution> {
        let doors = &self.bench.hub.shared().doors;
        let ticket = task.ticket;
        match task.item {
            Item::Local(message) => {
                self.in_user.set(true);
                let ran = message.run(&self.cell.child, actor, ctx, &doors.validity);
                self.in_user.set(false);
                match ran {
                    Ran::Done => return Some((ticket, None)),
                    Ran::Reply(tell) => self.later(ticket, async move {
                        tell();
                        None
                    }),
                    Ran::Later(handler) => {
                        let seat = self.clone();
                        self.go_on(async move {
                            let tell = handler.await;
                            seat.until_valid().await;
                            tell();
                            (ticket, None)
                        });
                    }
                }
            }
            Item::Remote { name, body, wants_reply, trace } => {
                let shared = self.bench.hub.shared();
                let rules = Rules::of_messages(&shared.settings);
                let propagator = shared.propagator.as_deref();
                let span = handling_from(propagator, trace, &self.cell.child, &name);
                self.in_user.set(true);
                let delivered = span
                    .in_scope(|| self.kind.deliver(&name, &body, wants_reply, rules, actor, ctx));
                self.in_user.set(false);
                match delivered {
                    Delivered::Now(outcome) => {
                        let outcome = wants_reply.then_some(outcome);
                        if doors.validity.holds() {
                            return Some((ticket, outcome));
                        }
                        self.later(ticket, async move { outcome });
                    }
                    Delivered::Later(handler) => {
                        let seat = self.clone();
                        self.go_on(async move {
                            let outcome = handler.await;
                            drop(span);
                            seat.until_valid().await;
                            (ticket, wants_reply.then_some(outcome))
                        });
                    }
                }
            }
        }
        None
    }

    /// Resolves a handler when replies may go out again.
    fn later(
        self: &Rc<Self>,
        ticket: Ticket,
        outcome: impl Future<Output = Option<Result<Bytes, ReplyFailure>>> + 'static,
    ) {
        let seat = self.clone();
        self.go_on(async move {
            seat.until_valid().await;
            (ticket, outcome.await)
        });
    }

    fn go_on(self: &Rc<Self>, resolution: impl Future<Output = Resolution> + 'static) {
        let seat = self.clone();
        actix_rt::spawn(async move {
            let (ticket, outcome) = resolution.await;
            seat.cell.with(|door| door.resolved(ticket, outcome));
            let waits = !seat.peeks.borrow().is_empty() || !seat.applies.borrow().is_empty();
            if seat.closing.get() || waits {
                seat.cell.actor.wake();
            }
        });
    }

    async fn until_valid(&self) {
        self.bench.hub.shared().doors.validity.until_it_holds().await;
    }
}

/// A handler that is done, with its reply if it goes to another node.
type Resolution = (Ticket, Option<Result<Bytes, ReplyFailure>>);

impl<A: HotSwap> Instance for Seat<A> {
    fn freeze(self: Rc<Self>, order: FreezeOrder) {
        if matches!(order.purpose, Purpose::Diverged { .. } | Purpose::Park) {
            match self.stage.replace(Stage::Aborted) {
                // There are no bytes to offer. The actor has back what it was held for, its gate stays
                // closed, and it is asked anew: what was wrong with its state may have passed.
                Stage::Held { state, parcel: None } => {
                    self.stage.replace(Stage::Released { state });
                    self.cell.actor.wake();
                }
                Stage::Held { state, parcel: Some(parcel) } => {
                    let size = parcel.bytes.len() as u64;
                    self.stage.replace(Stage::Held { state, parcel: Some(parcel) });
                    return match order.purpose {
                        Purpose::Diverged { to, life } => self.send_diverged(order.epoch, to, life),
                        _ => self.frozen(order, Ok(size)),
                    };
                }
                other => drop(self.stage.replace(other)),
            }
        }
        if matches!(*self.stage.borrow(), Stage::Released { .. } | Stage::Encoding { thawed: true })
        {
            // It goes on in a moment, and is frozen then.
            self.next_freeze.set(Some(order));
            return;
        }
        if !self.running.get() || !matches!(*self.stage.borrow(), Stage::Running | Stage::Aborted) {
            return self.frozen(order, Err(FreezeFailure::Gone));
        }
        self.cell.with(|door| door.close());
        self.stage.replace(Stage::Closing(order));
        self.closing.set(true);
        self.freezes.set(self.freezes.get() + 1);
        self.after(order.retention, self.freezes.get(), false);
        self.cell.actor.wake();
    }

    fn thaw(&self, epoch: Epoch) {
        self.epoch.set(epoch);
        if !self.running.get() {
            return;
        }
        self.closing.set(false);
        self.next_freeze.set(None);
        let next = match self.stage.replace(Stage::Running) {
            Stage::Held { state, .. } | Stage::Released { state } => Stage::Released { state },
            Stage::Encoding { .. } => Stage::Encoding { thawed: true },
            Stage::Running | Stage::Closing(_) | Stage::Aborted => Stage::Running,
        };
        self.stage.replace(next);
        self.cell.set_here(true);
        self.cell.with(|door| door.reopen(epoch));
        self.cell.actor.wake();
    }

    fn parcel(&self) -> Option<Parcel> {
        match &*self.stage.borrow() {
            Stage::Held { parcel, .. } => parcel.clone(),
            _ => None,
        }
    }

    fn end(&self, ending: Ending) {
        if !matches!(self.ending.get(), Some(Ending::Stop(_))) {
            self.ending.set(Some(ending));
        }
        self.cell.actor.wake();
    }

    fn merge(&self, epoch: Epoch, parcel: Parcel) {
        self.merges.borrow_mut().push_back((epoch, parcel));
        self.cell.actor.wake();
    }

    fn apply(&self, order: ApplyOrder) {
        self.applies.borrow_mut().push_back(order);
        self.cell.actor.wake();
    }

    fn peek(&self, tell: oneshot::Sender<Result<Peeked, StateUnknown>>) {
        let mut peeks = self.peeks.borrow_mut();
        peeks.retain(|asker| !asker.is_closed());
        if peeks.len() >= MOST_PEEKS {
            let _ = tell.send(Err(StateUnknown::Busy));
            return;
        }
        peeks.push(tell);
        self.cell.actor.wake();
    }

    fn rest(self: Rc<Self>, retention: Duration, tell: oneshot::Sender<Result<(), String>>) {
        if !self.running.get() {
            let _ = tell.send(Err("it was being started".to_owned()));
            return;
        }
        match self.stage.replace(Stage::Aborted) {
            // It was about to go on, and does not.
            Stage::Released { state } => {
                self.stage.replace(Stage::Held { state, parcel: None });
            }
            Stage::Encoding { .. } => {
                self.at_rest.set(Some(tell));
                self.stage.replace(Stage::Encoding { thawed: false });
                return;
            }
            Stage::Held { state, parcel } => {
                self.stage.replace(Stage::Held { state, parcel });
            }
            Stage::Running | Stage::Closing(_) | Stage::Aborted => {
                self.at_rest.set(Some(tell));
                let (epoch, purpose) = (self.epoch.get(), Purpose::Rest);
                let (forced, with_state) = (true, false);
                return self.freeze(FreezeOrder { epoch, retention, forced, with_state, purpose });
            }
        }
        let _ = tell.send(Ok(()));
    }

    fn surrender(&self, tell: oneshot::Sender<Result<Peeked, String>>) {
        self.surrender.set(Some(tell));
        self.cell.actor.wake();
    }
}

/// Drains the door into the handlers.
struct Inbox<A: HotSwap> {
    seat: Rc<Seat<A>>,
    /// The last thing handled was the end of a watched child: the next is from the queue, if it has any.
    queue_first: Cell<bool>,
}

impl<A: HotSwap> ActorFuture<A> for Inbox<A> {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut A,
        ctx: &mut Context<A>,
        task: &mut TaskContext<'_>,
    ) -> Poll<()> {
        let seat = &self.seat;
        // A context whose actor has panicked is polled once more when it is dropped: no handler starts
        // in an actor that is half done, and `accepted` is not told of a message that nobody handles.
        if seat.in_user.get() || seat.dead.get() {
            return Poll::Ready(());
        }
        // In the context's first poll `started()` has just run. The door opens, and the start is told,
        // when that poll has returned: nothing is merged or shown of an actor that may not count.
        if !seat.running.get() {
            return Poll::Pending;
        }
        // Before the queue: what is still in it belongs to the successor, or is refused by the door.
        if seat.ending.get().is_some() {
            // `stop()` would ask `stopping()`, which may refuse.
            ctx.terminate();
            return Poll::Ready(());
        }
        let closing = match &*seat.stage.borrow() {
            Stage::Running => None,
            Stage::Closing(order) => Some(*order),
            _ => return Poll::Pending,
        };
        if let Some(order) = closing {
            // The door was closed before this stage was entered, so the count only falls; a handler that
            // is not resolved may still change the state that would be on its way. Who resolves the last
            // one wakes this task (`go_on`).
            if seat.cell.with(|door| door.unresolved()) == 0 {
                seat.take_state(order, actor, ctx);
            }
            return Poll::Pending;
        }
        // After the freeze: a state that is merged once the own one was taken would be in neither.
        loop {
            let Some((epoch, parcel)) = seat.merges.borrow_mut().pop_front() else {
                break;
            };
            seat.take_in(epoch, &parcel, actor);
        }
        seat.peeks.borrow_mut().retain(|asker| !asker.is_closed());
        let at_rest = !ctx.waiting() && seat.cell.with(|door| door.unresolved()) == 0;
        if at_rest && seat.untried.replace(false) {
            seat.try_state(actor);
        }
        // Whether this node still counts is not known: like a message it waits.
        if seat.bench.hub.shared().doors.validity.holds() {
            seat.take_in_parked(actor, at_rest);
        }
        if at_rest && !seat.peeks.borrow().is_empty() {
            let shown = seat.show(actor);
            for tell in seat.peeks.take() {
                // Whoever asked may have gone.
                let _ = tell.send(shown.clone());
            }
        }
        let doors = &seat.bench.hub.shared().doors;
        let began = Instant::now();
        let mut now = began;
        let mut resolved: Option<Resolution> = None;
        for handled in 0.. {
            let done = resolved.take();
            // A wake comes when it holds again.
            let valid = doors.validity.holds();
            let go_on = valid
                && !ctx.waiting()
                && handled < TURN
                && now.saturating_duration_since(began) < TURN_TIME;
            // Ends of children that it watches come before the queue, but not two in a row: a handler that
            // watches again what has ended is given the next end at once, and would starve the queue.
            let has_due = seat.watches.has_due();
            let mut is_end = false;
            // One lock for both, which is what a message costs here. The reply leaves its handler before
            // the next one starts: whoever hears that the next was accepted has the reply, or can.
            let (next, more) = seat.cell.with(|door| {
                if let Some((ticket, outcome)) = done {
                    door.resolved(ticket, outcome);
                }
                let mut own = |door: &mut Door<Envelope>| {
                    let end = door.own_task(now, || seat.watches.next());
                    is_end = end.is_some();
                    end
                };
                let next = match go_on {
                    true if !has_due => door.next_task(now),
                    true if self.queue_first.get() => door.next_task(now).or_else(|| own(door)),
                    true => own(door).or_else(|| door.next_task(now)),
                    false => None,
                };
                (next, has_due || door.has_work())
            });
            let Some(message) = next else {
                // The door wakes this task for what comes to an empty queue, and not for what is left in
                // one. While the context waits, or nothing may start, the wake comes when that ends.
                if more && valid && !go_on && !ctx.waiting() {
                    task.waker().wake_by_ref();
                }
                return Poll::Pending;
            };
            self.queue_first.set(is_end);
            resolved = seat.handle(message, actor, ctx);
            now = Instant::now();
        }
        Poll::Pending
    }
}

/// Holds the context: neither messages nor timers of the actor go on.
struct Hold<A: HotSwap> {
    seat: Rc<Seat<A>>,
}

impl<A: HotSwap> ActorFuture<A> for Hold<A> {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut A,
        ctx: &mut Context<A>,
        _: &mut TaskContext<'_>,
    ) -> Poll<()> {
        let seat = &self.seat;
        if seat.in_user.get() || seat.dead.get() {
            return Poll::Ready(());
        }
        if seat.ending.get().is_some() {
            ctx.terminate();
            return Poll::Ready(());
        }
        if matches!(*seat.stage.borrow(), Stage::Held { .. } | Stage::Encoding { .. }) {
            if matches!(*seat.stage.borrow(), Stage::Held { .. })
                && let Some(tell) = seat.surrender.take()
            {
                // Whoever asked may not wait any more.
                let _ = tell.send(seat.give_up_state(actor));
            }
            return Poll::Pending;
        }
        if let Stage::Released { state: Some(state) } = seat.stage.replace(Stage::Running) {
            seat.resume(state, actor);
        }
        if let Some(order) = seat.next_freeze.take() {
            seat.clone().freeze(order);
        }
        Poll::Ready(())
    }
}
