//! The doors of one node. Plays `hub/doors.rs` and `hub/data_plane.rs` around the real doors, peers,
//! exchanges and paths; each method is named like the one that it plays.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, Weak},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};

use super::call::{Call, Slot};
use crate::{
    delivery::{
        Gone, How, Limits, SendFailure, Side,
        door::{Door, Signal},
        path::PathLimits,
        transfer::Arrived,
    },
    error::{MaybeHandled, NotHandled},
    hub::{
        exchange::{Exchange, Way},
        paths::{Neighbours, Over, PathNews, Paths},
        peers::{Change, Peers},
        writes::Writes,
    },
    model::{
        child::Route,
        frame::{DataFrame, PathClosed, PathId, Refusal},
        id::{ChildId, LaneId, NodeRun},
        message::BulkHeader,
        report::StartFailed,
    },
    net::BulkDone,
    wire,
};

/// What doors want of the node around them.
#[derive(Debug)]
pub(super) enum Want {
    /// `DoorCell::actor.wake()`.
    Wake(ChildId),
    /// `Doors::system.do_send(Locate)`.
    Locate(ChildId),
    /// `Network::data_ready`.
    Data(NodeRun),
    /// `PathReport::Lost`.
    Lost { to: NodeRun, by: NodeRun },
    /// `PathReport::State`.
    State { from: NodeRun, path: PathId, arrived: Arrived },
    /// The peer broke the protocol: its link is closed.
    Broken { peer: NodeRun, why: String },
}

/// What a door wants, when its lock is released.
enum Wish {
    Wake,
    Ready(Side, NodeRun),
    Locate,
}

type Sink = Arc<Mutex<Vec<(Arc<Cell>, Wish)>>>;

/// `DoorCell`.
pub(super) struct Cell {
    pub(super) child: ChildId,
    inner: Mutex<Inner>,
    sink: Sink,
}

struct Inner {
    door: Door<Call>,
    waiters: Vec<Arc<Slot>>,
}

impl Cell {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nobody panics with it")
    }

    /// `DoorCell::with`.
    pub(super) fn with<R>(self: &Arc<Self>, act: impl FnOnce(&mut Door<Call>) -> R) -> R {
        let mut inner = self.lock();
        let result = act(&mut inner.door);
        self.finish(inner);
        result
    }

    /// All of the door, for who looks for a fault.
    pub(super) fn show(&self) -> String {
        format!("{:?}", self.lock().door)
    }

    /// Messages go on to the actor.
    pub(super) fn is_open(&self) -> bool {
        self.lock().door.is_open()
    }

    /// `DoorCell::finish`.
    fn finish(self: &Arc<Self>, mut inner: MutexGuard<'_, Inner>) {
        let mut signals = Vec::new();
        while let Some(signal) = inner.door.next_signal() {
            signals.push(signal);
        }
        drop(inner);
        let mut sink = self.sink.lock().expect("nobody panics with it");
        for signal in signals {
            let wish = match signal {
                Signal::Wake => Wish::Wake,
                Signal::Ready(side, run) => Wish::Ready(side, run),
                Signal::Locate => Wish::Locate,
                // All doors are swept every so often.
                Signal::Sweep(_) => continue,
                Signal::Resolved { payload, outcome } => {
                    payload.settle(outcome);
                    continue;
                }
            };
            sink.push((self.clone(), wish));
        }
    }

    /// `DoorCell::enter`.
    fn enter(self: &Arc<Self>, call: Call, how: How) {
        let mut inner = self.lock();
        let (slot, is_asked) = (call.slot.clone(), call.is_asked());
        let rejected = match inner.door.enter(call, is_asked, how) {
            Ok(()) => {
                if is_asked {
                    inner.waiters.push(slot);
                }
                None
            }
            Err(rejected) => Some(rejected),
        };
        self.finish(inner);
        if let Some(rejected) = rejected {
            rejected.payload.settle(Err(SendFailure::NotHandled(rejected.reason)));
        }
    }

    /// `DoorCell::cut_off`.
    pub(super) fn cut_off(self: &Arc<Self>) {
        let mut inner = self.lock();
        inner.door.cut_off();
        let started: Vec<_> =
            inner.waiters.iter().filter(|slot| slot.has_started()).cloned().collect();
        self.finish(inner);
        for slot in started {
            slot.complete(Err(SendFailure::MaybeHandled(MaybeHandled::NoReply)));
        }
    }

    /// `DoorCell::sweep`.
    fn sweep(self: &Arc<Self>, now: Instant) {
        let mut inner = self.lock();
        let mut expired = Vec::new();
        inner.waiters.retain(|slot| {
            let over = slot.deadline.is_some_and(|at| at <= now);
            if over && !slot.is_done() {
                expired.push(slot.clone());
            }
            !over && !slot.is_done()
        });
        if inner.door.next_deadline().is_some_and(|at| at <= now) {
            inner.door.sweep(now);
        }
        self.finish(inner);
        for slot in expired {
            slot.end(NotHandled::Timeout, MaybeHandled::Timeout);
        }
    }

    /// `DoorCell::abandon`.
    fn abandon(self: &Arc<Self>) {
        let mut inner = self.lock();
        inner.door.vacate(&NotHandled::HubStopped);
        let waiters = std::mem::take(&mut inner.waiters);
        self.finish(inner);
        for slot in waiters {
            slot.end(NotHandled::HubStopped, MaybeHandled::HubStopped);
        }
    }
}

impl Writes for Cell {
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
        self.with(|door| door.write(now, side, to, budget, out))
    }
}

/// `Validity`, by the clock of the engine.
#[derive(Debug)]
pub(super) struct Validity {
    length: Duration,
    open: bool,
    until: Instant,
}

impl Validity {
    pub(super) fn holds(&self, uptime: Instant) -> bool {
        self.open && uptime < self.until
    }

    /// `Validity::renew`: whether it had lapsed.
    fn renew(&mut self, uptime: Instant) -> bool {
        let lapsed = self.open && self.until <= uptime;
        if self.open {
            self.until = uptime + self.length;
        }
        lapsed
    }
}

/// `Doors`.
pub(super) struct Doors {
    me: NodeRun,
    limits: Limits,
    cells: BTreeMap<ChildId, Arc<Cell>>,
    pub(super) routes: BTreeMap<ChildId, Route>,
    peers: Peers<Cell>,
    paths: Paths<Cell>,
    lanes: BTreeMap<LaneId, Weak<Cell>>,
    next_lane: u64,
    pub(super) validity: Validity,
    pub(super) closed: bool,
    sink: Sink,
    wants: Vec<Want>,
}

impl Doors {
    pub(super) fn new(
        me: NodeRun,
        limits: Limits,
        paths: PathLimits,
        length: Duration,
        uptime: Instant,
    ) -> Self {
        Self {
            me,
            limits,
            cells: BTreeMap::new(),
            routes: BTreeMap::new(),
            peers: Peers::default(),
            paths: Paths::new(me, paths),
            lanes: BTreeMap::new(),
            next_lane: 1,
            validity: Validity { length, open: true, until: uptime + length },
            closed: false,
            sink: Sink::default(),
            wants: Vec::new(),
        }
    }

    /// What doors want now.
    pub(super) fn wants(&mut self) -> Vec<Want> {
        loop {
            let wishes = std::mem::take(&mut *self.sink.lock().expect("nobody panics with it"));
            if wishes.is_empty() {
                return std::mem::take(&mut self.wants);
            }
            for (cell, wish) in wishes {
                match wish {
                    Wish::Wake => self.wants.push(Want::Wake(cell.child.clone())),
                    Wish::Locate => self.wants.push(Want::Locate(cell.child.clone())),
                    Wish::Ready(side, run) => self.ready(cell, side, run),
                }
            }
        }
    }

    /// `Doors::cell`.
    pub(super) fn cell(&mut self, child: &ChildId) -> Arc<Cell> {
        if let Some(cell) = self.known(child) {
            return cell;
        }
        let lane = LaneId(self.next_lane);
        self.next_lane += 1;
        let mut door = Door::new(self.me, child.clone(), lane, self.limits);
        for exchange in self.peers.exchanges() {
            door.linked(exchange.side, exchange.peer, exchange.number);
        }
        door.route(self.routes.get(child).copied());
        door.suspend(!self.validity.open);
        let inner = Mutex::new(Inner { door, waiters: Vec::new() });
        let cell = Arc::new(Cell { child: child.clone(), inner, sink: self.sink.clone() });
        self.cells.insert(child.clone(), cell.clone());
        self.lanes.insert(lane, Arc::downgrade(&cell));
        cell
    }

    /// `Doors::known`.
    pub(super) fn known(&self, child: &ChildId) -> Option<Arc<Cell>> {
        self.cells.get(child).cloned()
    }

    /// `ChildRef::send` and `do_send`.
    pub(super) fn enter(&mut self, child: &ChildId, call: Call, how: How) {
        if self.closed {
            return call.settle(Err(SendFailure::NotHandled(NotHandled::HubStopped)));
        }
        self.cell(child).enter(call, how);
    }

    fn exchange(&self, side: Side, run: NodeRun) -> Option<Arc<Exchange<Cell>>> {
        self.peers.get(side, run)
    }

    fn over_link(&self, side: Side, run: NodeRun) -> Option<Arc<Exchange<Cell>>> {
        self.exchange(side, run).filter(|exchange| exchange.way == Way::Link)
    }

    pub(super) fn all(&self) -> Vec<Arc<Cell>> {
        self.cells.values().cloned().collect()
    }

    /// `Doors::ready`.
    fn ready(&mut self, cell: Arc<Cell>, side: Side, run: NodeRun) {
        let Some(exchange) = self.exchange(side, run) else { return };
        exchange.again(cell);
        self.wants.push(Want::Data(exchange.next_hop()));
    }

    fn wake(&mut self, neighbours: Neighbours) {
        self.wants.extend(neighbours.into_iter().map(Want::Data));
    }

    /// `Doors::route`.
    pub(super) fn route(&mut self, child: &ChildId, route: Option<Route>) {
        match route {
            Some(route) => drop(self.routes.insert(child.clone(), route)),
            None => drop(self.routes.remove(child)),
        }
        if let Some(cell) = self.known(child) {
            cell.with(|door| door.route(route));
        }
    }

    /// `Doors::located`.
    pub(super) fn located(&self, child: &ChildId, found: bool) {
        if let Some(cell) = self.known(child) {
            cell.with(|door| door.located(found));
        }
    }

    /// `Doors::not_started`.
    pub(super) fn not_started(&self, child: &ChildId, reason: StartFailed) {
        if let Some(cell) = self.known(child) {
            cell.with(|door| door.not_started(reason));
        }
    }

    /// `Doors::unanswered`.
    pub(super) fn unanswered(&self, child: &ChildId) {
        if let Some(cell) = self.known(child) {
            cell.with(|door| door.unanswered());
        }
    }

    /// `Doors::change`.
    fn change<R>(&mut self, act: impl FnOnce(&mut Peers<Cell>) -> (Vec<Change<Cell>>, R)) -> R {
        let (changes, result) = act(&mut self.peers);
        let cells = self.all();
        let mut unanswered = Vec::new();
        for Change { old, new } in changes {
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
                let (transfers, neighbours) = self.paths.end(&old, PathClosed::Replaced);
                unanswered.extend(transfers);
                self.wake(neighbours);
            }
            if let Some(new) = new {
                let neighbours = self.paths.open(&new);
                self.wake(neighbours);
                self.wants.push(Want::Data(new.next_hop()));
            }
        }
        fail(unanswered, PathClosed::Replaced);
        result
    }

    /// `Doors::linked`.
    pub(super) fn linked(&mut self, run: NodeRun) {
        self.change(|peers| (peers.linked(run).into_iter().collect(), ()));
    }

    /// `Doors::unlinked`.
    pub(super) fn unlinked(&mut self, run: NodeRun) {
        self.change(|peers| (peers.unlinked(run), ()));
        let (over, neighbours) = self.paths.link_lost(run);
        self.wake(neighbours);
        for over in over {
            self.path_over(over);
        }
    }

    /// `Doors::detour`.
    pub(super) fn detour(&mut self, to: NodeRun, by: Option<NodeRun>) {
        let outcome = self.change(|peers| {
            let (change, outcome) = peers.detour(to, by);
            (change.into_iter().collect(), outcome)
        });
        if by.is_some() {
            let neighbours = self.paths.link_unfit(to);
            self.wake(neighbours);
        }
        if let Err(by) = outcome {
            self.wants.push(Want::Lost { to, by });
        }
    }

    /// `Doors::members`.
    pub(super) fn members(&mut self, members: BTreeSet<NodeRun>) {
        let neighbours = self.paths.members(members);
        self.wake(neighbours);
    }

    /// `Doors::came`: `false`: by a later one already.
    fn came(&mut self, now: Instant, run: NodeRun, number: u64, way: Way) -> Result<bool, String> {
        self.change(|peers| match peers.came(now, run, number, way) {
            Ok(change) => {
                let taken = change.is_some();
                (change.into_iter().collect(), Ok(taken))
            }
            Err(error) => (Vec::new(), Err(error.to_string())),
        })
    }

    /// `Doors::path_over`.
    fn path_over(&mut self, over: Over<Cell>) {
        let Over { exchange, why, unanswered } = over;
        let was_current = self.change(|peers| {
            let change = peers.over(&exchange);
            let current = change.is_some();
            (change.into_iter().collect(), current)
        });
        fail(unanswered, why);
        if let (true, Side::Calls, Way::By(by)) = (was_current, exchange.side, exchange.way) {
            self.wants.push(Want::Lost { to: exchange.peer, by });
        }
    }

    /// `Doors::send_bulk`; gives back what goes over a link.
    pub(super) fn send_bulk(
        &mut self,
        to: NodeRun,
        header: BulkHeader,
        body: Bytes,
        done: BulkDone,
    ) -> Option<(BulkHeader, Bytes, BulkDone)> {
        let Some(exchange) = self.exchange(Side::Calls, to) else {
            done(Err("no path".to_owned()));
            return None;
        };
        if exchange.way == Way::Link {
            return Some((header, body, done));
        }
        let header = wire::encode_bulk_header(&header).expect("it is small enough");
        match self.paths.send(&exchange, header, body, done) {
            Ok(()) => self.wants.push(Want::Data(exchange.next_hop())),
            Err((done, reason)) => done(Err(reason)),
        }
        None
    }

    /// `Doors::gone`.
    pub(super) fn gone(&mut self, now: Instant, run: NodeRun, left: bool) {
        let answered = self.change(|peers| {
            let answered = peers.has_finished(run);
            (peers.gone(run), left && answered)
        });
        for cell in self.all() {
            cell.with(|door| door.gone(now, run, Gone { left, answered }));
        }
    }

    /// `Doors::unmet`.
    pub(super) fn unmet(&mut self, now: Instant, run: NodeRun) {
        let is_out = self.change(|peers| match peers.is_linked(run) {
            true => (Vec::new(), false),
            false => (peers.gone(run), true),
        });
        if is_out {
            let gone = Gone { left: false, answered: false };
            self.all().iter().for_each(|cell| cell.with(|door| door.gone(now, run, gone)));
        }
    }

    /// `Doors::set_valid`.
    pub(super) fn set_valid(&mut self, uptime: Instant, valid: bool) {
        self.validity.open = valid;
        if valid {
            self.validity.until = uptime + self.validity.length;
        }
        self.tell_validity();
    }

    /// `Doors::renew_validity`.
    pub(super) fn renew_validity(&mut self, uptime: Instant) {
        if self.validity.renew(uptime) {
            self.tell_validity();
        }
    }

    fn tell_validity(&mut self) {
        let valid = self.validity.open;
        for cell in self.all() {
            cell.with(|door| door.suspend(!valid));
            if valid {
                self.wants.push(Want::Wake(cell.child.clone()));
            }
        }
    }

    /// Messages of this node that were not accepted yet; `Doors::queued`.
    pub(super) fn queued(&self) -> usize {
        self.cells.values().map(|cell| cell.lock().door.queued_here()).sum()
    }

    /// `Doors::calls_until_now`.
    pub(super) fn calls_until_now(&self) -> Vec<(Arc<Cell>, u64)> {
        let next = |cell: Arc<Cell>| {
            let next = cell.lock().door.next_call();
            (cell, next)
        };
        self.all().into_iter().map(next).filter(is_calling).collect()
    }

    /// `Doors::drain_members`, once: whether every peer has heard every answer.
    pub(super) fn drained(&mut self) -> bool {
        let answers = self.peers.exchanges().filter(|one| one.side == Side::Answers);
        let waiting: Vec<_> = answers.filter(|one| !one.is_drained()).cloned().collect();
        for exchange in &waiting {
            if exchange.want_last() {
                self.wants.push(Want::Data(exchange.next_hop()));
            }
        }
        let comes = |run: &NodeRun| self.exchange(Side::Answers, *run).is_some();
        waiting.is_empty() && self.paths.others().iter().all(comes)
    }

    /// `Doors::sweep`, of all doors.
    pub(super) fn sweep(&self, now: Instant) {
        for cell in self.cells.values() {
            cell.sweep(now);
        }
    }

    /// `Doors::prune` and `forget`.
    pub(super) fn prune(&mut self) {
        let mut closed = Vec::new();
        let peers = &self.peers;
        let lanes = &mut self.lanes;
        self.cells.retain(|child, cell| {
            let inner = cell.lock();
            if Arc::strong_count(cell) > 1 || !inner.door.is_idle() {
                return true;
            }
            let (lane, at) = inner.door.lane();
            closed.extend(at.iter().map(|run| (*run, lane)));
            lanes.remove(&lane);
            for lanes in peers.lanes() {
                lanes.lead_nowhere(child);
            }
            false
        });
        for (run, lane) in closed {
            self.close_lane(run, lane);
        }
    }

    fn close_lane(&mut self, peer: NodeRun, lane: LaneId) {
        if let Some(exchange) = self.exchange(Side::Calls, peer) {
            exchange.close(lane);
            self.wants.push(Want::Data(exchange.next_hop()));
        }
    }

    /// `Doors::stop`.
    pub(super) fn stop(&mut self) {
        self.closed = true;
        for cell in self.all() {
            cell.abandon();
        }
    }

    /// `Plane::fill`, as frames. Tells whether there is more.
    pub(super) fn fill(&mut self, now: Instant, to: NodeRun, target: usize) -> (Vec<Bytes>, bool) {
        let mut buffer = BytesMut::new();
        let mut more = false;
        for side in [Side::Answers, Side::Calls] {
            if let Some(exchange) = self.over_link(side, to) {
                let target = target.max(buffer.len() + 1);
                more |= exchange.write(now, &mut buffer, target);
            }
        }
        more |= self.paths.fill(now, to, &mut buffer);
        let mut bytes = buffer.freeze();
        let mut frames = Vec::new();
        while let Some(head) = bytes.first_chunk::<4>() {
            let length = u32::from_le_bytes(*head) as usize;
            frames.push(bytes.slice(4..4 + length));
            bytes = bytes.slice(4 + length..);
        }
        (frames, more)
    }

    /// `Plane::frame`.
    pub(super) fn frame(&mut self, now: Instant, from: NodeRun, frame: Bytes) {
        let taken = match wire::decode_frame(frame).expect("nodes of the simulation write frames") {
            DataFrame::Direct { number } => self.came(now, from, number, Way::Link).map(drop),
            DataFrame::Path { path, word } => {
                let calls = |run| self.exchange(Side::Calls, run);
                let is_linked = |run| calls(run).is_some_and(|exchange| exchange.way == Way::Link);
                match self.paths.word(from, path, word, is_linked) {
                    Ok((news, neighbours)) => {
                        self.wake(neighbours);
                        self.carry_out(now, news);
                        Ok(())
                    }
                    Err(error) => Err(error.to_string()),
                }
            }
            frame => match side_of(&frame).and_then(|side| self.over_link(side, from)) {
                Some(exchange) => self.take(now, &exchange, frame),
                None => Ok(()),
            },
        };
        if let Err(why) = taken {
            self.wants.push(Want::Broken { peer: from, why });
        }
    }

    /// `data_plane::take`.
    fn take(
        &mut self,
        now: Instant,
        exchange: &Arc<Exchange<Cell>>,
        frame: DataFrame,
    ) -> Result<(), String> {
        let mut answer = |frame| {
            exchange.say(frame).map_err(|bound| bound.to_string())?;
            self.wants.push(Want::Data(exchange.next_hop()));
            Ok(())
        };
        let cell = match &frame {
            DataFrame::Open { lane, session, child, .. } => {
                let (lane, session) = (*lane, *session);
                let Some(cell) = self.cells.get(child).cloned() else {
                    return answer(DataFrame::Refused { lane, session, why: Refusal::NotHere });
                };
                if !exchange.lanes.lead(lane, &cell) {
                    return answer(DataFrame::Refused { lane, session, why: Refusal::Full });
                }
                Some(cell)
            }
            DataFrame::Closed { lane } => exchange.lanes.forget(*lane),
            DataFrame::Message { lane, .. }
            | DataFrame::Budget { lane, .. }
            | DataFrame::Acknowledged { lane, .. } => exchange.lanes.door(*lane),
            DataFrame::Accepted { lane, .. }
            | DataFrame::Reply { lane, .. }
            | DataFrame::Refused { lane, .. } => {
                let cell = self.lanes.get(lane).and_then(Weak::upgrade);
                if cell.is_none() {
                    self.close_lane(exchange.peer, *lane);
                }
                cell
            }
            DataFrame::Last => {
                self.peers.finished(exchange);
                return answer(DataFrame::LastHeard);
            }
            DataFrame::LastHeard => {
                exchange.last_heard();
                return Ok(());
            }
            // Nobody publishes here.
            DataFrame::Direct { .. } | DataFrame::Path { .. } | DataFrame::Published(_) => None,
        };
        let Some(cell) = cell else { return Ok(()) };
        let from = (exchange.peer, exchange.number);
        cell.with(|door| door.frame(now, from, frame)).map_err(|violation| violation.0)
    }

    /// `data_plane::carry_out`.
    fn carry_out(&mut self, now: Instant, news: Vec<PathNews<Cell>>) {
        for one in news {
            match one {
                PathNews::Came { by, path } => {
                    let why = match self.came(now, path.origin, path.number, Way::By(by)) {
                        Ok(true) => continue,
                        Ok(false) => PathClosed::Replaced,
                        Err(_) => PathClosed::TooMany,
                    };
                    let neighbours = self.paths.refuse(by, path, why).expect("it came by there");
                    self.wake(neighbours);
                }
                PathNews::Frame { exchange, frame } => {
                    let frame = wire::decode_frame(frame).expect("an end writes frames");
                    if self.take(now, &exchange, frame).is_err() {
                        // `Doors::fail_path`.
                        let why = PathClosed::Protocol;
                        let (unanswered, neighbours) = self.paths.end(&exchange, why);
                        self.wake(neighbours);
                        self.path_over(Over { exchange, why, unanswered });
                    }
                }
                PathNews::State { path, arrived } => {
                    self.wants.push(Want::State { from: path.origin, path, arrived });
                }
                PathNews::Answered(done, outcome) => done(outcome),
                PathNews::Over(over) => self.path_over(over),
            }
        }
    }

    /// `data_plane::state_taken`.
    pub(super) fn state_taken(&mut self, now: Instant, path: PathId) {
        let (news, neighbours) = self.paths.state_taken(path, Ok(()));
        self.wake(neighbours);
        self.carry_out(now, news);
    }
}

/// `Doors::finish`, once: whether a call of before is still on its way.
pub(super) fn is_calling((cell, next): &(Arc<Cell>, u64)) -> bool {
    cell.lock().door.is_calling_below(*next)
}

/// `doors::fail`.
fn fail(transfers: Vec<BulkDone>, why: PathClosed) {
    for done in transfers {
        done(Err(format!("the path is over: {why}")));
    }
}

/// `data_plane::side_of`.
fn side_of(frame: &DataFrame) -> Option<Side> {
    match frame {
        DataFrame::Last => Some(Side::Calls),
        DataFrame::LastHeard => Some(Side::Answers),
        frame => Side::of(frame).map(|side| match side {
            Side::Calls => Side::Answers,
            Side::Answers => Side::Calls,
        }),
    }
}
