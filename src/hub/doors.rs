//! The doors of a hub: one for each child that this node runs, has run or sends to.
//!
//! A door is a pure machine behind a lock. Whatever it wants done (callers to answer, an actor to
//! wake, a peer to write to) is done after the lock is released.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    ops::Deref,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, TryLockError, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    Shared,
    bound::Bound,
    demand::Demand,
    envelope::{Envelope, Waiter},
    exchange::{Exchange, Way},
    paths::{Neighbours, Over, Paths},
    peers::{Change, Peers, TooOften},
    topics::{Topics, outgoing::Queued, tally::Fate},
    uptime::Uptime,
    validity::Validity,
    writes::Writes,
};
use crate::{
    delivery::{
        Gone, How, Limits, SendFailure, Side,
        door::{Door, Signal},
        path::PathLimits,
        transfer::Arrived,
    },
    error::{MaybeHandled, NotHandled},
    model::{
        child::{ChildSpec, Route},
        frame::{DataFrame, PathClosed, PathId},
        id::{ChildId, LaneId, NodeId, NodeRun},
        message::BulkHeader,
        report::StartFailed,
        topic::Publication,
    },
    net::{BulkDone, Network},
    wire,
};
use actix::prelude::*;
use futures_util::task::AtomicWaker;

/// The longest time that a caller may wait.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(86_400);

/// How late an expired wait may be seen.
pub(crate) const TICK: Duration = Duration::from_millis(20);

/// How late what a door itself ends may be seen.
const DOOR_TICK: u64 = 100;

/// Callers of one door that are kept before those that are done are looked for.
const ENOUGH: usize = 128;

/// So many doors are forgotten at once.
const AT_ONCE: usize = 1_024;

const NEVER: u64 = u64::MAX;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic under a lock is a defect of ours; the others go on.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The same if nobody holds it.
fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Messages wait for a child of which nobody here has heard.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Locate {
    pub(crate) child: ChildId,
    /// The start of it, if there is none.
    pub(crate) start: Option<Arc<ChildSpec>>,
}

/// A message that was taken in while its child was here cannot be given to the child's next node, and
/// nobody waits for its reply.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Unsendable {
    pub(crate) child: ChildId,
    pub(crate) message: String,
    pub(crate) reason: NotHandled,
}

/// What paths by a third member have to tell.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum PathReport {
    /// Messages for `to` cannot go by this member any more, or not at all.
    Lost { to: NodeRun, by: NodeRun },
    /// A state arrived by this path. Nothing more arrives by it until it was taken.
    State { from: NodeRun, path: PathId, arrived: Arrived },
}

/// One door with what surrounds it.
pub(crate) struct DoorCell {
    pub(crate) child: ChildId,
    doors: Weak<Doors>,
    inner: Mutex<Inner>,
    /// The task of the actor behind the door, if it is here.
    pub(crate) actor: AtomicWaker,
    /// Whether the child is elsewhere, as far as is known: a message is then encoded before the
    /// door is locked.
    remote: AtomicBool,
    /// How many messages waited here when the door was last locked.
    held: AtomicUsize,
    /// How many handlers had been started here by then.
    handled: AtomicU64,
    /// When the sweeper has something to do, in milliseconds since the hub began.
    due: AtomicU64,
    swept: AtomicBool,
    /// How the child is started when a message comes and there is none.
    demand: OnceLock<Arc<Demand>>,
}

struct Inner {
    door: Door<Envelope>,
    /// Callers in the order in which they came.
    waiters: VecDeque<Arc<dyn Waiter>>,
    /// How many of them are kept before those that are done are looked for.
    enough: usize,
}

impl Inner {
    fn add(&mut self, waiter: Arc<dyn Waiter>) {
        while self.waiters.front().is_some_and(|waiter| waiter.is_done()) {
            self.waiters.pop_front();
        }
        // One that waits long in front must not keep all those behind it.
        if self.waiters.len() >= self.enough {
            self.waiters.retain(|waiter| !waiter.is_done());
            self.enough = (2 * self.waiters.len()).max(ENOUGH);
        }
        self.waiters.push_back(waiter);
    }
}

impl DoorCell {
    /// Does something with the door, and then what the door wants done.
    pub(crate) fn with<R>(self: &Arc<Self>, act: impl FnOnce(&mut Door<Envelope>) -> R) -> R {
        let mut inner = lock(&self.inner);
        let result = act(&mut inner.door);
        self.finish(inner);
        result
    }

    fn finish(self: &Arc<Self>, mut inner: MutexGuard<'_, Inner>) {
        let mut wake = false;
        let mut wants = Vec::new();
        while let Some(signal) = inner.door.next_signal() {
            match signal {
                Signal::Wake => wake = true,
                other => wants.push(other),
            }
        }
        self.held.store(inner.door.queued(), Ordering::Relaxed);
        self.handled.store(inner.door.handled(), Ordering::Relaxed);
        drop(inner);
        if wake {
            self.actor.wake();
        }
        for signal in wants {
            match signal {
                Signal::Wake => {}
                Signal::Ready(side, run) => {
                    if let Some(doors) = self.doors.upgrade() {
                        doors.ready(self, side, run);
                    }
                    self.watch(0);
                }
                Signal::Sweep(at) => {
                    if let Some(doors) = self.doors.upgrade() {
                        self.watch(doors.millis(at));
                    }
                }
                Signal::Locate => self.locate(),
                Signal::Resolved { payload, outcome } => {
                    if let Err(SendFailure::NotHandled(reason)) = &outcome
                        && reason.is_unsendable()
                        && let Some(message) = payload.untold()
                    {
                        self.tell_unsendable(message.to_owned(), reason.clone());
                    }
                    // A reply is decoded, on whichever thread this is.
                    let _bound = outcome.is_ok().then(|| self.bound());
                    payload.resolve(outcome);
                }
            }
        }
    }

    /// Asks for the child, or for its start if its kind starts on demand.
    fn locate(self: &Arc<Self>) {
        let Some(doors) = self.doors.upgrade() else { return };
        let start = self.demand.get().map(|demand| demand.spec(&self.child)).transpose();
        if matches!(start, Ok(Some(_))) {
            self.with(Door::demand);
        }
        match (start, doors.system.get()) {
            (Ok(start), Some(system)) => {
                // A hub that has ended answers whoever waits.
                let (child, start) = (self.child.clone(), start.map(Arc::new));
                system.do_send(Locate { child, start });
            }
            (Ok(_), None) => {}
            (Err(reason), _) => doors.not_started(&self.child, StartFailed::Refused { reason }),
        }
    }

    /// From now on the child is started when a message comes and there is none.
    pub(crate) fn on_demand(&self, demand: &Arc<Demand>) {
        // Whose reference was first says how.
        let _ = self.demand.set(demand.clone());
    }

    /// What is read meanwhile on this thread is read in the name of this door's hub.
    fn bound(&self) -> Option<Bound> {
        self.doors.upgrade()?.hub.get().map(Bound::to)
    }

    fn tell_unsendable(&self, message: String, reason: NotHandled) {
        if let Some(doors) = self.doors.upgrade()
            && let Some(unsendable) = doors.unsendable.get()
        {
            unsendable.do_send(Unsendable { child: self.child.clone(), message, reason });
        }
    }

    /// Whether a message that does not wait for room would be refused, as far as can be seen
    /// without the lock. Who asks in a loop then does not get in the way of the child.
    pub(crate) fn looks_full(&self, mailbox: usize) -> bool {
        self.held.load(Ordering::Relaxed) >= mailbox
    }

    /// Messages that wait here, and handlers that were started here, a moment ago.
    pub(crate) fn tally(&self) -> (u64, u64) {
        (self.held.load(Ordering::Relaxed) as u64, self.handled.load(Ordering::Relaxed))
    }

    /// Lets a message in, with its caller if one waits for a reply.
    pub(crate) fn enter(
        self: &Arc<Self>,
        mut message: Envelope,
        how: How,
        waiter: Option<Arc<dyn Waiter>>,
    ) -> Result<(), NotHandled> {
        // What is refused here is told by the message's drop, too.
        let Some(doors) = self.doors.upgrade() else {
            return Err(NotHandled::HubStopped);
        };
        let encoded = match self.remote.load(Ordering::Acquire) {
            true => {
                // What is encoded may be read back.
                let _bound = self.bound();
                message.encode()
            }
            false => Ok(()),
        };
        if let Err(reason) = encoded {
            message.resolve(Err(SendFailure::NotHandled(reason.clone())));
            return Err(reason);
        }
        let due = waiter.as_ref().map(|waiter| waiter.deadline());
        let mut inner = lock(&self.inner);
        // Under the lock: who looks at the door after it was closed sees all that was let in.
        if doors.is_closed() {
            drop(inner);
            message.resolve(Err(SendFailure::NotHandled(NotHandled::HubStopped)));
            return Err(NotHandled::HubStopped);
        }
        let entered = inner.door.enter(message, waiter.is_some(), how);
        let rejected = match entered {
            Ok(()) => {
                if let Some(waiter) = waiter {
                    inner.add(waiter);
                }
                None
            }
            Err(rejected) => Some(rejected),
        };
        self.finish(inner);
        if let Some(rejected) = rejected {
            let failure = SendFailure::NotHandled(rejected.reason.clone());
            rejected.payload.resolve(Err(failure));
            return Err(rejected.reason);
        }
        if let Some(due) = due {
            self.watch(due);
        }
        Ok(())
    }

    /// Lets a published message in, if the child is here; what is refused is resolved.
    pub(crate) fn enter_here(self: &Arc<Self>, message: Envelope) {
        let mut inner = lock(&self.inner);
        let is_closed = self.doors.upgrade().is_none_or(|doors| doors.is_closed());
        let refused = match is_closed {
            true => Some((message, NotHandled::HubStopped)),
            false => {
                let entered = inner.door.enter_here(message);
                entered.err().map(|rejected| (rejected.payload, rejected.reason))
            }
        };
        self.finish(inner);
        if let Some((message, reason)) = refused {
            message.resolve(Err(SendFailure::NotHandled(reason)));
        }
    }

    /// Has the sweeper look at this door at that time.
    pub(crate) fn watch(self: &Arc<Self>, due: u64) {
        if self.due.load(Ordering::Acquire) > due {
            self.due.fetch_min(due, Ordering::AcqRel);
        }
        if !self.swept.swap(true, Ordering::AcqRel)
            && let Some(doors) = self.doors.upgrade()
        {
            lock(&doors.sweeping).push(self.clone());
            doors.sweep_wanted.notify_one();
        }
    }

    /// Whether only the map of doors and whoever asks hold it.
    fn is_alone(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) <= 2
    }

    /// Ends what is over time. Tells whether the sweeper must come again.
    fn sweep(self: &Arc<Self>, now: Instant, millis: u64) -> bool {
        let due = self.due.load(Ordering::Acquire);
        if due > millis {
            // Its callers may have been answered long before their time is over.
            return !((self.is_alone() || due == NEVER) && self.rests());
        }
        self.due.store(NEVER, Ordering::Release);
        let mut inner = lock(&self.inner);
        let mut expired = Vec::new();
        let mut next = NEVER;
        inner.waiters.retain(|waiter| {
            if waiter.is_done() {
                return false;
            }
            let deadline = waiter.deadline();
            if deadline <= millis {
                expired.push(waiter.clone());
                return false;
            }
            next = next.min(deadline);
            true
        });
        inner.door.sweep(now);
        if let Some(deadline) = inner.door.next_deadline() {
            let wait = deadline.saturating_duration_since(now).as_millis();
            let wait = u64::try_from(wait).unwrap_or(NEVER).max(DOOR_TICK);
            next = next.min(millis.saturating_add(wait));
        }
        let again = next != NEVER;
        if !again {
            // Under the lock: whoever enters after this sees that nobody sweeps.
            self.swept.store(false, Ordering::Release);
        }
        self.finish(inner);
        for waiter in expired {
            waiter.end(NotHandled::Timeout, MaybeHandled::Timeout);
        }
        if again {
            self.due.fetch_min(next, Ordering::AcqRel);
        } else if self.due.load(Ordering::Acquire) != NEVER {
            // Somebody entered between.
            self.watch(NEVER);
        }
        again
    }

    /// Whether nobody waits and nothing is left to be swept; then the sweeper does not come again.
    fn rests(&self) -> bool {
        let mut inner = lock(&self.inner);
        if !inner.door.is_idle() || !inner.waiters.iter().all(|waiter| waiter.is_done()) {
            return false;
        }
        inner.waiters.clear();
        self.due.store(NEVER, Ordering::Release);
        // Under the lock: whoever enters after this sees that nobody sweeps.
        self.swept.store(false, Ordering::Release);
        true
    }

    /// Started handlers are no longer waited for: their callers are told so.
    pub(crate) fn cut_off(self: &Arc<Self>) {
        let mut inner = lock(&self.inner);
        inner.door.cut_off();
        let started: Vec<_> =
            inner.waiters.iter().filter(|waiter| waiter.has_started()).cloned().collect();
        self.finish(inner);
        for waiter in started {
            waiter.fail_with(SendFailure::MaybeHandled(MaybeHandled::NoReply));
        }
    }

    /// Whether a message of this node with a lower number than this is on its way to another, or waits
    /// for its reply there.
    fn is_calling_below(&self, number: u64) -> bool {
        lock(&self.inner).door.is_calling_below(number)
    }

    /// Whether messages of this node need no encoding, as far as is known.
    pub(crate) fn set_here(&self, here: bool) {
        self.remote.store(!here, Ordering::Release);
    }

    fn set_route(self: &Arc<Self>, route: Option<Route>, me: NodeRun) {
        self.remote.store(route.is_some_and(|route| route.owner != me), Ordering::Release);
        self.with(|door| door.route(route));
    }

    /// Answers every caller: the hub stops.
    fn abandon(self: &Arc<Self>) {
        let mut inner = lock(&self.inner);
        inner.door.abandon();
        let waiters = std::mem::take(&mut inner.waiters);
        self.finish(inner);
        for waiter in waiters {
            waiter.end(NotHandled::HubStopped, MaybeHandled::HubStopped);
        }
    }
}

/// A hold on a door, as long as somebody may use it. When the last one goes, and nothing is known of
/// its child and nothing waits, the door goes too: who is told by others which children to ask for must
/// not be filled with the doors of those that do not exist.
pub(crate) struct HeldDoor(Arc<DoorCell>);

impl HeldDoor {
    pub(crate) fn new(cell: Arc<DoorCell>) -> Self {
        Self(cell)
    }
}

impl Clone for HeldDoor {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl Deref for HeldDoor {
    type Target = Arc<DoorCell>;

    fn deref(&self) -> &Arc<DoorCell> {
        &self.0
    }
}

impl Drop for HeldDoor {
    fn drop(&mut self) {
        if let Some(doors) = self.0.doors.upgrade() {
            doors.release(&self.0);
        }
    }
}

impl Writes for DoorCell {
    fn child(&self) -> &ChildId {
        &self.child
    }

    fn write(
        self: &Arc<Self>,
        now: Instant,
        side: Side,
        to: (NodeRun, u64),
        budget: usize,
        out: &mut dyn FnMut(DataFrame),
    ) -> bool {
        // Messages are encoded that were not yet, and what is encoded may be read back.
        let _bound = self.bound();
        self.with(|door| door.write(now, side, to, budget, out))
    }
}

/// Transfers that nobody will answer any more.
fn fail(transfers: Vec<BulkDone>, why: PathClosed) {
    for done in transfers {
        done(Err(format!("the path is over: {why}")));
    }
}

#[derive(Default)]
struct Map {
    cells: HashMap<ChildId, Arc<DoorCell>>,
    routes: HashMap<ChildId, Route>,
    peers: Peers<DoorCell>,
}

/// Messages that wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// At children of this node.
    pub(crate) at_gates: i64,
    /// On their way to children elsewhere.
    pub(crate) in_lanes: i64,
    /// Children elsewhere to which something is on its way.
    pub(crate) lanes: i64,
}

/// All doors of a hub.
pub(crate) struct Doors {
    pub(crate) me: NodeRun,
    pub(crate) began: Instant,
    limits: Limits,
    map: RwLock<Map>,
    /// Held while a peer is reached another way, so that all doors hear of it in one order.
    changes: Mutex<()>,
    pub(crate) paths: Paths<DoorCell>,
    /// This node's lanes.
    lanes: RwLock<HashMap<LaneId, Weak<DoorCell>>>,
    next_lane: AtomicU64,
    pub(crate) network: OnceLock<Arc<dyn Network>>,
    /// Whose doors these are.
    pub(crate) hub: OnceLock<Weak<Shared>>,
    /// Who asks where children are.
    pub(crate) system: OnceLock<Recipient<Locate>>,
    pub(crate) unsendable: OnceLock<Recipient<Unsendable>>,
    /// Who is told what paths by a third member have to tell.
    pub(crate) reports: OnceLock<Recipient<PathReport>>,
    sweeping: Mutex<Vec<Arc<DoorCell>>>,
    pub(crate) sweep_wanted: tokio::sync::Notify,
    /// Nobody is let in any more: the hub leaves or stops.
    closed: AtomicBool,
    /// The nodes to which frames have gone over a link since they were last asked for.
    used: Mutex<BTreeSet<NodeId>>,
    /// Every caller was answered.
    stopped: AtomicBool,
    /// The clock by which the engine judges.
    pub(crate) uptime: Arc<Uptime>,
    /// Whether handlers may start and replies go out.
    pub(crate) validity: Validity,
    /// Told when a barrier comes down.
    pub(crate) drained: tokio::sync::Notify,
    /// What is published, and who listens.
    pub(crate) topics: Arc<Topics>,
}

impl Doors {
    /// `valid`: for how long one word of the engine lets handlers start. `published`: bytes of published
    /// messages that may wait, for each who is given some.
    pub(crate) fn new(
        me: NodeRun,
        limits: Limits,
        paths: PathLimits,
        valid: Duration,
        published: usize,
    ) -> Arc<Self> {
        let uptime = Arc::new(Uptime::new());
        Arc::new(Self {
            validity: Validity::new(uptime.clone(), valid),
            uptime,
            me,
            began: Instant::now(),
            limits,
            map: RwLock::default(),
            changes: Mutex::default(),
            paths: Paths::new(me, paths),
            lanes: RwLock::default(),
            next_lane: AtomicU64::new(1),
            network: OnceLock::new(),
            hub: OnceLock::new(),
            system: OnceLock::new(),
            unsendable: OnceLock::new(),
            reports: OnceLock::new(),
            sweeping: Mutex::default(),
            sweep_wanted: tokio::sync::Notify::new(),
            closed: AtomicBool::new(false),
            used: Mutex::default(),
            stopped: AtomicBool::new(false),
            drained: tokio::sync::Notify::new(),
            topics: Topics::new(me, published),
        })
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Map> {
        self.map.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn edit(&self) -> std::sync::RwLockWriteGuard<'_, Map> {
        self.map.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A time as the waiters count it.
    pub(crate) fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.began).as_millis()).unwrap_or(NEVER)
    }

    /// The door of a child; made when it is asked for the first time.
    pub(crate) fn cell(self: &Arc<Self>, child: &ChildId) -> Arc<DoorCell> {
        if let Some(cell) = self.known(child) {
            return cell;
        }
        let mut map = self.edit();
        if let Some(cell) = map.cells.get(child) {
            return cell.clone();
        }
        let lane = LaneId(self.next_lane.fetch_add(1, Ordering::Relaxed));
        let mut door = Door::new(self.me, child.clone(), lane, self.limits);
        for exchange in map.peers.exchanges() {
            door.linked(exchange.side, exchange.peer, exchange.number);
        }
        let route = map.routes.get(child).copied();
        door.route(route);
        door.suspend(!self.validity.is_open());
        let cell = Arc::new(DoorCell {
            child: child.clone(),
            doors: Arc::downgrade(self),
            inner: Mutex::new(Inner { door, waiters: VecDeque::new(), enough: ENOUGH }),
            actor: AtomicWaker::new(),
            remote: AtomicBool::new(route.is_some_and(|route| route.owner != self.me)),
            held: AtomicUsize::new(0),
            handled: AtomicU64::new(0),
            due: AtomicU64::new(NEVER),
            swept: AtomicBool::new(false),
            demand: OnceLock::new(),
        });
        map.cells.insert(child.clone(), cell.clone());
        self.lanes
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(lane, Arc::downgrade(&cell));
        cell
    }

    /// The door of a child, if there is one.
    pub(crate) fn known(&self, child: &ChildId) -> Option<Arc<DoorCell>> {
        self.read().cells.get(child).cloned()
    }

    /// The door that a lane of this node belongs to.
    pub(crate) fn own_lane(&self, lane: LaneId) -> Option<Arc<DoorCell>> {
        self.lanes.read().unwrap_or_else(PoisonError::into_inner).get(&lane)?.upgrade()
    }

    /// How many doors there are.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.read().cells.len()
    }

    /// How many lanes of this node there are.
    #[cfg(test)]
    pub(crate) fn lanes(&self) -> usize {
        self.lanes.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Messages that wait, and handlers that were started, at all doors.
    pub(crate) fn tally(&self) -> (u64, u64) {
        let map = self.read();
        map.cells
            .values()
            .map(|cell| cell.tally())
            .fold((0, 0), |(queued, handled), door| (queued + door.0, handled + door.1))
    }

    /// What waits at all doors. Locks each for a moment.
    pub(crate) fn waiting(&self) -> Waiting {
        let mut waiting = Waiting::default();
        for cell in self.all() {
            let inner = lock(&cell.inner);
            let (gate, lane) = inner.door.waiting();
            waiting.at_gates += gate as i64;
            waiting.in_lanes += lane as i64;
            waiting.lanes += i64::from(inner.door.is_calling());
        }
        waiting
    }

    /// What is exchanged with a peer on one side, by whatever path.
    pub(crate) fn exchange(&self, side: Side, run: NodeRun) -> Option<Arc<Exchange<DoorCell>>> {
        self.read().peers.get(side, run)
    }

    /// What is exchanged with a peer on one side over its link.
    pub(crate) fn over_link(&self, side: Side, run: NodeRun) -> Option<Arc<Exchange<DoorCell>>> {
        self.exchange(side, run).filter(|exchange| exchange.way == Way::Link)
    }

    pub(crate) fn all(&self) -> Vec<Arc<DoorCell>> {
        self.read().cells.values().cloned().collect()
    }

    /// A door has frames for a peer.
    fn ready(&self, cell: &Arc<DoorCell>, side: Side, run: NodeRun) {
        // Without a path there is nobody to write to; a new one begins anew.
        let Some(exchange) = self.exchange(side, run) else { return };
        exchange.again(cell.clone());
        self.data_ready(exchange.next_hop());
    }

    /// There is something to be written to these neighbours.
    pub(crate) fn wake(&self, neighbours: Neighbours) {
        for run in neighbours {
            self.data_ready(run);
        }
    }

    pub(crate) fn data_ready(&self, run: NodeRun) {
        if let Some(network) = self.network.get() {
            network.data_ready(run);
        }
    }

    /// The registry says where a child is.
    pub(crate) fn route(&self, child: &ChildId, route: Option<Route>) {
        let cell = {
            let mut map = self.edit();
            match route {
                Some(route) => {
                    map.routes.insert(child.clone(), route);
                }
                None => {
                    map.routes.remove(child);
                }
            }
            map.cells.get(child).cloned()
        };
        if let Some(cell) = cell {
            cell.set_route(route, self.me);
            self.release(&cell);
        }
    }

    /// The home of a child has not answered in time.
    pub(crate) fn unanswered(&self, child: &ChildId) {
        if let Some(cell) = self.known(child) {
            cell.with(|door| door.unanswered());
            self.release(&cell);
        }
    }

    /// The home of a child has answered the question where it is.
    pub(crate) fn located(&self, child: &ChildId, found: bool) {
        if let Some(cell) = self.known(child) {
            cell.with(|door| door.located(found));
            self.release(&cell);
        }
    }

    /// A child that messages wait for could not be started.
    pub(crate) fn not_started(&self, child: &ChildId, reason: StartFailed) {
        if let Some(cell) = self.known(child) {
            cell.with(|door| door.not_started(reason));
            self.release(&cell);
        }
    }

    /// Changes how a peer is reached, and tells all doors.
    fn change<R>(&self, act: impl FnOnce(&mut Peers<DoorCell>) -> (Vec<Change<DoorCell>>, R)) -> R {
        let guard = lock(&self.changes);
        let (changes, cells, result) = {
            let mut map = self.edit();
            let (changes, result) = act(&mut map.peers);
            let cells = match &*changes {
                [] => Vec::new(),
                _ => map.cells.values().cloned().collect(),
            };
            (changes, cells, result)
        };
        let mut unanswered = Vec::new();
        for Change { old, new } in changes {
            // Before any door may have something for it.
            if let Some(new) = &new {
                self.paths.begin(new);
            }
            for cell in &cells {
                cell.with(|door| match (&old, &new) {
                    (_, Some(new)) => door.linked(new.side, new.peer, new.number),
                    (Some(old), None) => door.unlinked(old.side, old.peer, old.number),
                    (None, None) => {}
                });
            }
            if let Some(old) = old {
                let unwritten = old.end_published();
                self.topics.tally.count_many(Fate::NodeUnreachable, unwritten);
                let (transfers, neighbours) = self.paths.end(&old, PathClosed::Replaced);
                unanswered.extend(transfers);
                self.wake(neighbours);
            }
            if let Some(new) = new {
                self.wake(self.paths.open(&new));
                self.data_ready(new.next_hop());
            }
        }
        drop(guard);
        fail(unanswered, PathClosed::Replaced);
        self.drained.notify_waiters();
        result
    }

    pub(crate) fn linked(&self, run: NodeRun) {
        self.change(|peers| (peers.linked(run).into_iter().collect(), ()));
    }

    pub(crate) fn unlinked(&self, run: NodeRun) {
        self.change(|peers| (peers.unlinked(run), ()));
        let (over, neighbours) = self.paths.link_lost(run);
        self.wake(neighbours);
        for over in over {
            self.path_over(over);
        }
    }

    /// Messages and states for this run go by that member from now on, or over its link if it has
    /// one.
    pub(crate) fn detour(&self, to: NodeRun, by: Option<NodeRun>) {
        let outcome = self.change(|peers| {
            let (change, outcome) = peers.detour(to, by);
            (change.into_iter().collect(), outcome)
        });
        if by.is_some() {
            // What this node does not use for itself it does not forward by.
            self.wake(self.paths.link_unfit(to));
        }
        if let Err(by) = outcome {
            self.report(PathReport::Lost { to, by });
        }
    }

    /// The runs that are in.
    pub(crate) fn members(&self, members: BTreeSet<NodeRun>) {
        self.wake(self.paths.members(members));
        // Who waits for answers to be heard waits for no member that is out.
        self.drained.notify_waiters();
    }

    /// A peer's lanes come by this path from now on. `false`: by a later one already.
    ///
    /// # Errors
    /// They do so too often.
    pub(crate) fn came(&self, run: NodeRun, number: u64, way: Way) -> Result<bool, TooOften> {
        let now = Instant::now();
        self.change(|peers| match peers.came(now, run, number, way) {
            Ok(change) => {
                let taken = change.is_some();
                (change.into_iter().collect(), Ok(taken))
            }
            Err(error) => (Vec::new(), Err(error)),
        })
    }

    /// A path is over, at the other end or between.
    pub(crate) fn path_over(&self, over: Over<DoorCell>) {
        let Over { exchange, why, unanswered } = over;
        let was_current = self.change(|peers| {
            let change = peers.over(&exchange);
            let current = change.is_some();
            (change.into_iter().collect(), current)
        });
        fail(unanswered, why);
        if let (true, Side::Calls, Way::By(by)) = (was_current, exchange.side, exchange.way) {
            tracing::debug!(peer = %exchange.peer, by = %by, %why, "a path is over");
            self.report(PathReport::Lost { to: exchange.peer, by });
        }
    }

    /// A peer broke the protocol on a path.
    pub(crate) fn fail_path(&self, exchange: Arc<Exchange<DoorCell>>) {
        let why = PathClosed::Protocol;
        let (unanswered, neighbours) = self.paths.end(&exchange, why);
        self.wake(neighbours);
        self.path_over(Over { exchange, why, unanswered });
    }

    pub(crate) fn report(&self, report: PathReport) {
        if let Some(reports) = self.reports.get() {
            reports.do_send(report);
        }
    }

    /// Sends a state on the way of the messages for that run.
    pub(crate) fn send_bulk(
        &self,
        to: NodeRun,
        header: BulkHeader,
        body: bytes::Bytes,
        done: BulkDone,
    ) {
        let Some(exchange) = self.exchange(Side::Calls, to) else {
            return done(Err("no path".to_owned()));
        };
        if exchange.way == Way::Link {
            if let Some(network) = self.network.get() {
                network.send_bulk(to, header, body, done);
            }
            return;
        }
        let header = match wire::encode_bulk_header(&header) {
            Ok(header) => header,
            Err(error) => return done(Err(error.to_string())),
        };
        match self.paths.send(&exchange, header, body, done) {
            Ok(()) => self.data_ready(exchange.next_hop()),
            Err((done, reason)) => done(Err(reason)),
        }
    }

    /// Sends a published message on the way of the messages for that run.
    pub(crate) fn publish(&self, to: NodeRun, publication: Publication) -> Queued {
        let Some(exchange) = self.exchange(Side::Calls, to) else { return Queued::Over };
        let queued = exchange.publish(publication, self.topics.limit);
        if queued == Queued::Yes {
            self.data_ready(exchange.next_hop());
        }
        queued
    }

    /// A peer has said on this path that it answers nothing more.
    pub(crate) fn finished(&self, exchange: &Exchange<DoorCell>) {
        self.edit().peers.finished(exchange);
    }

    /// A run is out. `left`: it said Bye.
    pub(crate) fn gone(&self, run: NodeRun, left: bool) {
        let now = Instant::now();
        // Its Bye may have come by another way than its answers.
        let answered = self.change(|peers| {
            let answered = peers.has_finished(run);
            (peers.gone(run), left && answered)
        });
        for cell in self.all() {
            cell.with(|door| door.gone(now, run, Gone { left, answered }));
        }
    }

    /// A run that is no member has no link, as the engine has heard. Whether it is out: a link that has come
    /// about since would lose its path, and nobody would make another.
    pub(crate) fn unmet(&self, run: NodeRun) -> bool {
        let is_out = self.change(|peers| match peers.is_linked(run) {
            true => (Vec::new(), false),
            false => (peers.gone(run), true),
        });
        if is_out {
            let (now, gone) = (Instant::now(), Gone { left: false, answered: false });
            self.all().iter().for_each(|cell| cell.with(|door| door.gone(now, run, gone)));
        }
        is_out
    }

    /// The engine says whether handlers may start and replies may go out.
    pub(crate) fn set_valid(&self, valid: bool) {
        if valid {
            self.validity.open();
        } else {
            self.validity.close();
        }
        self.tell_validity();
    }

    /// The engine has looked at the time, and has said before whatever follows from it.
    pub(crate) fn renew_validity(&self) {
        if self.validity.renew() {
            self.tell_validity();
        }
    }

    /// Actors that have something to do are woken, if they may go on.
    fn tell_validity(&self) {
        let valid = self.validity.is_open();
        for cell in self.all() {
            cell.with(|door| door.suspend(!valid));
            if valid {
                // It may have something else to do than messages.
                cell.actor.wake();
            }
        }
        self.validity.told();
    }

    /// Whether nobody is let in any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Frames go to this node over its link.
    pub(crate) fn use_link(&self, node: NodeId) {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(node);
    }

    /// The nodes to which frames have gone since this was asked before.
    pub(crate) fn take_used(&self) -> BTreeSet<NodeId> {
        std::mem::take(&mut self.used.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether every caller was answered, as the hub has stopped.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Lets nobody in any more: what is sent from now on is refused as [`NotHandled::HubStopped`].
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Waits until what was let in has been accepted, here or elsewhere. Meant for closed doors.
    pub(crate) async fn finish_queues(&self) {
        while self.queued() > 0 {
            tokio::time::sleep(TICK).await;
        }
    }

    /// Messages of this node that were not accepted yet.
    pub(crate) fn queued(&self) -> usize {
        let cells = self.all();
        cells.iter().map(|cell| lock(&cell.inner).door.queued_here()).sum()
    }

    /// The doors whose messages are on their way to another node, or wait for their replies from
    /// there; each with the number of the next one.
    pub(crate) fn calls_until_now(&self) -> Vec<(Arc<DoorCell>, u64)> {
        let next = |cell: Arc<DoorCell>| {
            let next = lock(&cell.inner).door.next_call();
            (cell, next)
        };
        let calling = |(cell, next): &(Arc<DoorCell>, u64)| cell.is_calling_below(*next);
        self.all().into_iter().map(next).filter(calling).collect()
    }

    /// Waits until these have come to an end.
    pub(crate) async fn finish(&self, mut calls: Vec<(Arc<DoorCell>, u64)>) {
        loop {
            calls.retain(|(cell, next)| cell.is_calling_below(*next));
            if calls.is_empty() {
                return;
            }
            tokio::time::sleep(TICK).await;
        }
    }

    /// Waits until every peer has heard every answer, or has gone. A peer whose lanes come by another
    /// path meanwhile is to hear them there.
    pub(crate) async fn drain(&self) {
        self.drain_of(Vec::new).await;
    }

    /// The same, and waits for each member whose lanes come by no path at the moment: its link has broken,
    /// and it takes another path, or goes. What it has sent here may have lost its answer with the link.
    pub(crate) async fn drain_members(&self) {
        self.drain_of(|| self.paths.others()).await;
    }

    async fn drain_of(&self, whom: impl Fn() -> Vec<NodeRun>) {
        loop {
            let heard = self.drained.notified();
            tokio::pin!(heard);
            heard.as_mut().enable();
            let whom = whom();
            let (waiting, is_cut_off): (Vec<_>, bool) = {
                let map = self.read();
                let answers = map.peers.exchanges().filter(|one| one.side == Side::Answers);
                let waiting = answers.filter(|one| !one.is_drained()).cloned().collect();
                let comes = |run: &NodeRun| map.peers.get(Side::Answers, *run).is_some();
                (waiting, !whom.iter().all(comes))
            };
            if waiting.is_empty() && !is_cut_off {
                return;
            }
            for exchange in waiting {
                if exchange.want_last() {
                    self.data_ready(exchange.next_hop());
                }
            }
            heard.await;
        }
    }

    /// Ends what is over time in all doors that have something to end. Tells whether any is left.
    pub(crate) fn sweep(&self, now: Instant) -> bool {
        let millis = self.millis(now);
        let cells = std::mem::take(&mut *lock(&self.sweeping));
        let (left, done): (Vec<_>, Vec<_>) =
            cells.into_iter().partition(|cell| cell.sweep(now, millis));
        let is_left = {
            let mut sweeping = lock(&self.sweeping);
            sweeping.extend(left);
            !sweeping.is_empty()
        };
        for cell in done {
            self.release(&cell);
        }
        is_left
    }

    /// Who calls this holds a door no longer: it is forgotten if nobody else does and there is no such
    /// child. The door of a child that is known is kept until [`prune`](Self::prune), as its lane
    /// would have to be opened anew for the next message.
    ///
    /// A reference may be dropped under the lock of another door, with the message that it stood in: so a
    /// door that is in use at the moment is left to [`prune`](Self::prune).
    pub(crate) fn release(&self, cell: &Arc<DoorCell>) {
        let is_of_nobody = || try_lock(&cell.inner).is_some_and(|inner| inner.door.is_of_nobody());
        if cell.is_alone() && is_of_nobody() {
            self.forget(std::slice::from_ref(cell));
        }
    }

    /// Forgets all doors that nobody holds and in which nothing is left.
    pub(crate) fn prune(&self) {
        let alone: Vec<_> = {
            let map = self.read();
            map.cells.values().filter(|cell| Arc::strong_count(cell) == 1).cloned().collect()
        };
        // Nobody gets to any door while the map is locked: never for long.
        for some in alone.chunks(AT_ONCE) {
            self.forget(some);
        }
    }

    /// Forgets those of these doors that nobody else holds and in which nothing is left, and tells those
    /// who keep something of their lanes.
    fn forget(&self, cells: &[Arc<DoorCell>]) {
        let mut closed = Vec::new();
        let mut map = self.edit();
        let mut lanes = self.lanes.write().unwrap_or_else(PoisonError::into_inner);
        // Nobody can get hold of a door while map and lanes are locked.
        for cell in cells {
            let is_known = map.cells.get(&cell.child).is_some_and(|known| Arc::ptr_eq(known, cell));
            // Not waited for: who is in a door may wait for the map.
            let Some(inner) = try_lock(&cell.inner) else { continue };
            if !is_known || !cell.is_alone() || !inner.door.is_idle() {
                continue;
            }
            let (lane, at) = inner.door.lane();
            closed.extend(at.iter().map(|run| (*run, lane)));
            drop(inner);
            lanes.remove(&lane);
            map.cells.remove(&cell.child);
            for lanes in map.peers.lanes() {
                lanes.lead_nowhere(&cell.child);
            }
        }
        drop((lanes, map));
        for (run, lane) in closed {
            self.close_lane(run, lane);
        }
    }

    /// Tells a peer that a lane of this node is used no more. Without a path, it is told when it answers
    /// on that lane again, or learns of it by a new lane or the end of this run.
    pub(crate) fn close_lane(&self, peer: NodeRun, lane: LaneId) {
        if let Some(exchange) = self.exchange(Side::Calls, peer) {
            exchange.close(lane);
            self.data_ready(exchange.next_hop());
        }
    }

    /// The hub stops: everybody who waits is answered, nobody is let in.
    pub(crate) fn stop(&self) {
        self.close();
        self.stopped.store(true, Ordering::Release);
        for cell in self.all() {
            cell.abandon();
        }
        lock(&self.sweeping).clear();
        self.topics.end();
    }
}
