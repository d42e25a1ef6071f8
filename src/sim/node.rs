//! One node: the real engine between doors and workers. Plays `hub/system.rs` and `hub/effects.rs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    call::Call,
    doors::{Cell, Doors, Want, is_calling},
    ledger::Ledger,
    troubles::Troubles,
    worker::{Around, Host, Kind, RETENTION, Task, unparked},
};
use crate::{
    delivery::{How, Limits, door::Door, path::PathLimits, transfer::TransferLimits},
    engine::{
        Engine,
        chance::Chance,
        distribution::ConsistentHashing,
        io::{
            ChildOrder, ChildReport, Effect, EngineConfig, Event, KindInfo, ParkedOrder, Reply,
            Request,
        },
        membership::founding::Founding,
        partition::Divergence,
        redundancy::Singularity,
    },
    hub::{
        arrivals::{Arrivals, Kept},
        parcel::{MARKS_LIMIT, Parcel},
        parked::ParkedStore,
    },
    model::{
        access::AccessList,
        child::{ChildSpec, RestartPauses},
        event::HubEvent,
        id::{ChildId, Incarnation, KindName, NodeId, NodeName, NodeRun, RequestId},
        member::{Hello, Member, MemberState},
        message::{BulkHeader, PeerMessage},
        parked::{ParkedInfo, ParkedKey},
        settings::{HotSwapOptions, Migration, Settings},
    },
    net::BulkDone,
    wire,
};

/// The arbiters of children.
const WORKERS: u8 = 2;
/// `effects::DRAIN`.
const DRAIN: Duration = Duration::from_secs(5);
/// How often what waits for a time is looked at; `doors::TICK`.
const TICK: Duration = Duration::from_millis(20);
/// `ends::Patience::LONG`.
const QUEUES: Duration = Duration::from_secs(2);

/// Who does something. What comes to one thread is done in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Thread {
    Network,
    System,
    Worker(u8),
}

impl Thread {
    /// `effects::worker_of`.
    pub(super) fn of(child: &ChildId) -> Self {
        Self::Worker(
            child.as_str().bytes().fold(0, |sum: u8, byte| sum.wrapping_add(byte)) % WORKERS,
        )
    }
}

/// What comes to a node.
#[derive(Debug)]
pub(super) enum Input {
    /// To the engine, from its own node.
    Outcome(Event),
    /// `ParkParcel`.
    Park {
        key: ParkedKey,
        kind: KindName,
        parcel: Option<Parcel>,
    },
    /// To the engine, from the network.
    Net(Event),
    /// A state from the network.
    State {
        from: NodeRun,
        header: BulkHeader,
        body: Bytes,
    },
    /// An order for a child, with the state that belongs to it and who sent that.
    Order {
        order: ChildOrder,
        parcel: Option<(NodeRun, Parcel)>,
    },
    /// A task of a child's arbiter.
    Task {
        child: ChildId,
        task: Task,
    },
    /// A link's other end sends this frame.
    Frame {
        from: NodeRun,
        frame: Bytes,
    },
    /// The link's writer asks for frames for this peer.
    Fill {
        to: NodeRun,
    },
    /// `Validity::beat`, the sweeper, and what waits for its end.
    Beat,
    Sweep,
    Prune,
}

/// What a node wants of the world around it.
pub(super) enum Out {
    /// To one of its own threads, behind all that was sent there before.
    Mail(Thread, Input),
    /// To one of its own threads, after a time.
    After(Duration, Thread, Input),
    /// A thread does nothing else for so long.
    Block(Thread, Duration),
    Word {
        to: NodeId,
        message: PeerMessage,
    },
    SendState {
        to: NodeRun,
        header: BulkHeader,
        body: Bytes,
    },
    Bulk {
        to: NodeRun,
        header: BulkHeader,
        body: Bytes,
        done: BulkDone,
    },
    Frames {
        to: NodeRun,
        frames: Vec<Bytes>,
    },
    Connect(NodeId),
    Silent(NodeId),
    Disconnect(NodeId),
    /// It has left, and stops.
    Stopped,
}

/// How far the end of a node is that leaves.
enum Going {
    /// `Effect::DrainLinks`: calls of before are waited for.
    Calls {
        asked: Vec<(Arc<Cell>, u64)>,
        until: Instant,
    },
    Rest {
        asked: Vec<(Arc<Cell>, u64)>,
        until: Instant,
    },
    Answers {
        until: Instant,
    },
    /// `ends::stop_all`.
    Queues {
        until: Instant,
    },
}

/// What a node keeps of a run of a hub.
pub(super) struct Node {
    pub(super) engine: Engine,
    pub(super) doors: Doors,
    pub(super) host: Host,
    pub(super) troubles: Troubles,
    pub(super) me: Member,
    pub(super) known: Vec<Member>,
    pub(super) fenced: Vec<(NodeId, Incarnation)>,
    pub(super) replies: BTreeMap<RequestId, Reply>,
    pub(super) kind: Kind,
    /// How much later it is by the engine's clock than by the world's.
    pub(super) ahead: Duration,
    dice: Chance,
    arrivals: Arrivals,
    parked: ParkedStore,
    /// What transfers came to.
    outcomes: Arc<Mutex<Vec<Event>>>,
    going: Option<Going>,
    /// What the engine has told, and was not counted.
    events: Vec<HubEvent>,
    /// For which peers the network's writer will ask.
    filling: BTreeSet<NodeRun>,
    out: Vec<Out>,
}

/// The kind of all children.
pub(super) fn kind_name() -> KindName {
    KindName::new("counter").expect("a valid name")
}

/// Children whose names begin so start when a message comes for them.
pub(super) const ON_DEMAND: &str = "wanted-";

/// How a child is started.
pub(super) fn spec(child: &ChildId) -> Arc<ChildSpec> {
    Arc::new(ChildSpec::from_parts(child.clone(), kind_name(), Bytes::new()))
}

/// The settings of all nodes.
pub(super) fn settings() -> Settings {
    Settings {
        heartbeat: Duration::from_millis(200),
        digest: Duration::from_millis(500),
        start_timeout: Duration::from_secs(2),
        pass_over: Duration::from_secs(1),
        migration: Migration::HotSwap(HotSwapOptions {
            retention: RETENTION,
            handover_data_wait: Duration::from_secs(1),
            child_migration_timeout: Duration::from_secs(4),
            ..HotSwapOptions::default()
        }),
        restart_pauses: RestartPauses {
            first: Duration::from_millis(50),
            longest: Duration::from_millis(400),
            healthy_after: Duration::from_secs(5),
        },
        ..Settings::default()
    }
}

/// `builder::limits`, small enough to be reached.
fn limits() -> Limits {
    Limits {
        mailbox: 12,
        waiting: 8,
        window_messages: 4,
        window_bytes: 1_024,
        reply_cache: 1_000,
        reply_cache_bytes: 1 << 20,
    }
}

/// `builder::path_limits`.
fn path_limits() -> PathLimits {
    let transfer = TransferLimits { header: 1 << 20, body: (4 << 20) + MARKS_LIMIT };
    PathLimits { frame: 64 << 10, transfer }
}

impl Node {
    /// A node begins: `Handler<Begin>`.
    pub(super) fn new(
        id: NodeId,
        incarnation: Incarnation,
        name: String,
        founds: bool,
        kind: Kind,
        seed: u64,
        now: Instant,
    ) -> Self {
        let settings = settings();
        let config = EngineConfig {
            node: id,
            incarnation,
            name: NodeName::new(name).expect("a valid name"),
            addresses: vec!["/memory/1".to_owned()],
            labels: Default::default(),
            kinds: [(kind_name(), KindInfo { state_version: 1, oldest_state_version: 1 })].into(),
            founding: match founds {
                true => Founding::Found,
                false => Founding::Seeds(vec!["seed".to_owned()]),
            },
            access: AccessList::open(),
            seed,
            distribution: Arc::new(ConsistentHashing),
            redundancy: Arc::new(Singularity),
            partition: Arc::new(Divergence),
            settings: settings.clone(),
        };
        let me = Member { state: MemberState::Alive, ..config.member() };
        let window = settings.suspicion_window();
        Self {
            doors: Doors::new(me.run(), limits(), path_limits(), window, now),
            engine: Engine::new(config, now),
            host: Host::default(),
            troubles: Troubles::default(),
            me,
            known: Vec::new(),
            fenced: Vec::new(),
            replies: BTreeMap::new(),
            kind,
            ahead: Duration::ZERO,
            dice: Chance(seed ^ 0x5eed),
            arrivals: Arrivals::new(&settings),
            parked: ParkedStore::default(),
            outcomes: Arc::default(),
            going: None,
            events: Vec::new(),
            filling: BTreeSet::new(),
            out: Vec::new(),
        }
    }

    pub(super) fn run(&self) -> NodeRun {
        self.me.run()
    }

    /// Whether it hands over its last, or has.
    pub(super) fn is_going(&self) -> bool {
        self.going.is_some()
    }

    /// When its engine wants to be woken, by the world's clock.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.engine.deadline().map(|at| at.checked_sub(self.ahead).unwrap_or(at))
    }

    /// What it wants of the world.
    pub(super) fn take_out(&mut self) -> Vec<Out> {
        std::mem::take(&mut self.out)
    }

    /// The states of its children, wherever they are kept: of actors, of successors, in bytes that
    /// arrived, and parked.
    pub(super) fn updates(&self, child: &ChildId) -> BTreeSet<u64> {
        let mut updates = BTreeSet::new();
        let seats = self.host.seats.values().filter(|seat| seat.child() == child);
        updates.extend(seats.flat_map(|seat| seat.states()).flat_map(|s| s.counts.keys()));
        let built = self.host.built().filter(|(of, _)| *of == child);
        updates.extend(built.flat_map(|(_, state)| state.counts.keys()));
        let arrived = self.arrivals.iter().filter(|((of, _), _)| of == child);
        let arrived = arrived.map(|(_, parcel)| &parcel.bytes);
        let parked = self.parked.iter().filter(|(info, _)| info.key.child == *child);
        for bytes in arrived.chain(parked.map(|(_, bytes)| bytes)) {
            updates.extend(super::actor::State::decode(bytes).counts.keys());
        }
        updates
    }

    /// States that nobody has come for.
    pub(super) fn leftovers(&self) -> Vec<String> {
        let built = self.host.built().map(|(child, _)| format!("a successor of {child}"));
        let arrived = self.arrivals.iter();
        let arrived = arrived.map(|((child, epoch), _)| format!("a state of {child} {epoch}"));
        built.chain(arrived).collect()
    }

    pub(super) fn parked_keys(&self) -> Vec<ParkedKey> {
        self.parked.iter().map(|(info, _)| info.key.clone()).collect()
    }

    /// Something comes.
    pub(super) fn input(&mut self, now: Instant, ledger: &mut Ledger, input: Input) {
        match input {
            Input::Outcome(event) => {
                if let Event::Child(ChildReport::Merged { child, epoch, outcome: Ok(()) }) = &event
                {
                    self.arrivals.take(&(child.clone(), *epoch));
                }
                self.take(now, Some(event));
            }
            Input::Park { key, kind, parcel } => {
                let event = match parcel {
                    Some(parcel) => self.hold_parked(key, kind, parcel),
                    None => Event::NotParked { key, reason: "the state is gone".to_owned() },
                };
                self.take(now, Some(event));
            }
            Input::Net(event) => self.take(now, Some(event)),
            Input::State { from, header, body } => {
                let event = self.bulk(now, from, header, body);
                self.take(now, event);
            }
            Input::Order { order, parcel } => {
                self.around(now, ledger, |host, around| {
                    host.carry_out(around, order, parcel);
                });
            }
            Input::Task { child, task } => {
                self.around(now, ledger, |host, around| {
                    host.task(around, &child, task);
                });
            }
            Input::Frame { from, frame } => self.doors.frame(now, from, frame),
            Input::Fill { to } => {
                self.filling.remove(&to);
                let target = if self.dice.one_in(4) { 200 } else { 64 << 10 };
                let (frames, more) = self.doors.fill(now, to, target);
                if more {
                    self.fill(to);
                }
                if !frames.is_empty() {
                    self.out.push(Out::Frames { to, frames });
                }
            }
            Input::Beat => {
                self.take(now, Some(Event::Tick));
                let beat = settings().suspicion_window() / 4;
                self.out.push(Out::After(beat, Thread::System, Input::Beat));
            }
            Input::Sweep => {
                self.doors.sweep(now);
                self.go(now);
                self.out.push(Out::After(TICK, Thread::System, Input::Sweep));
            }
            Input::Prune => {
                self.doors.prune();
                let wait = self.dice.ms(10, 500);
                self.out.push(Out::After(wait, Thread::System, Input::Prune));
            }
        }
        self.settle(now, ledger);
    }

    /// The links change: the network's thread.
    pub(super) fn linked(&mut self, hello: Hello) {
        self.doors.linked(hello.me.run());
        let event = Event::Linked { hello, local: true };
        self.out.push(Out::Mail(Thread::System, Input::Net(event)));
    }

    pub(super) fn unlinked(&mut self, run: NodeRun) {
        self.doors.unlinked(run);
        let event = Event::Unlinked { run };
        self.out.push(Out::Mail(Thread::System, Input::Net(event)));
    }

    /// A client sends.
    pub(super) fn send(&mut self, child: &ChildId, call: Call, how: How) {
        self.doors.enter(child, call, how);
    }

    /// Somebody asks the hub for something.
    pub(super) fn request(&mut self, now: Instant, id: RequestId, request: Request) {
        self.take(now, Some(Event::Request { id, request }));
    }

    /// Does what doors and transfers want now.
    pub(super) fn settle(&mut self, now: Instant, ledger: &mut Ledger) {
        for event in std::mem::take(&mut self.events) {
            match event {
                HubEvent::HandedOver { .. } => ledger.sees("handed over"),
                HubEvent::HandoverFailed { .. } => ledger.sees("handover failed"),
                HubEvent::Recovered { .. } => ledger.sees("recovered"),
                HubEvent::DivergenceMerged { .. } => ledger.sees("merged"),
                HubEvent::StateParked { .. } => ledger.sees("parked"),
                HubEvent::ChildRestarted { .. } => ledger.sees("restarted"),
                HubEvent::WordsRefused { node, reason } => {
                    ledger.expect(false, || format!("words of {node} are refused: {reason}"));
                }
                _ => {}
            }
        }
        loop {
            let events = std::mem::take(&mut *self.outcomes.lock().expect("nobody panics with it"));
            let wants = self.doors.wants();
            if wants.is_empty() && events.is_empty() {
                return;
            }
            for event in events {
                self.out.push(Out::Mail(Thread::System, Input::Outcome(event)));
            }
            for want in wants {
                match want {
                    Want::Wake(child) => self.around(now, ledger, |host, around| {
                        host.wake(around, &child);
                    }),
                    Want::Locate(child) => {
                        let on_demand = child.as_str().starts_with(ON_DEMAND);
                        let start = on_demand.then(|| spec(&child));
                        if on_demand && let Some(cell) = self.doors.known(&child) {
                            cell.with(Door::demand);
                        }
                        let event = Event::Locate { child, start };
                        self.out.push(Out::Mail(Thread::System, Input::Outcome(event)));
                    }
                    Want::Data(run) => self.fill(run),
                    Want::Lost { to, by } => {
                        let event = Event::PathLost { to, by };
                        self.out.push(Out::Mail(Thread::System, Input::Outcome(event)));
                    }
                    Want::State { from, path, arrived } => {
                        let header = wire::decode_bulk_header(&arrived.header);
                        let header = header.expect("an end writes headers");
                        let input = Input::State { from, header, body: arrived.body };
                        self.out.push(Out::Mail(Thread::System, input));
                        self.doors.state_taken(now, path);
                    }
                    Want::Broken { peer, why } => {
                        let me = self.run();
                        ledger.expect(false, || format!("{me:?} says {peer:?} broke it: {why}"));
                    }
                }
            }
        }
    }

    fn fill(&mut self, to: NodeRun) {
        if self.filling.insert(to) {
            self.out.push(Out::Mail(Thread::Network, Input::Fill { to }));
        }
    }

    fn around(
        &mut self,
        now: Instant,
        ledger: &mut Ledger,
        act: impl FnOnce(&mut Host, &mut Around<'_>),
    ) {
        let mut out = Vec::new();
        let mut around = Around {
            me: self.me.run(),
            now,
            uptime: now + self.ahead,
            kind: self.kind,
            doors: &mut self.doors,
            dice: &mut self.dice,
            ledger,
            troubles: &mut self.troubles,
            out: &mut out,
        };
        act(&mut self.host, &mut around);
        for one in out {
            match one {
                Out::SendState { to, header, body } => {
                    let (child, epoch) = (header.child().clone(), header.epoch());
                    let failed = move |reason| Event::BulkFailed { child, epoch, reason };
                    self.send_state(to, header, body, failed);
                }
                one => self.out.push(one),
            }
        }
    }

    /// `Bench::send_bulk`; a failure is told to the engine.
    fn send_state(
        &mut self,
        to: NodeRun,
        header: BulkHeader,
        body: Bytes,
        failed: impl FnOnce(String) -> Event + Send + 'static,
    ) {
        let outcomes = self.outcomes.clone();
        let done: BulkDone = Box::new(move |outcome: Result<(), String>| {
            if let Err(reason) = outcome {
                outcomes.lock().expect("nobody panics with it").push(failed(reason));
            }
        });
        if let Some((header, body, done)) = self.doors.send_bulk(to, header, body, done) {
            self.out.push(Out::Bulk { to, header, body, done });
        }
    }

    /// `HubSystem::take_from`.
    pub(super) fn take(&mut self, now: Instant, event: Option<Event>) {
        let uptime = now + self.ahead;
        if let Some(event) = event {
            self.engine.handle(uptime, event);
        }
        self.perform(now);
        self.doors.renew_validity(uptime);
    }

    /// `HubSystem::perform`.
    pub(super) fn perform(&mut self, now: Instant) {
        while let Some(effect) = self.engine.next_effect() {
            match effect {
                Effect::Child(order) => self.order(now, order),
                Effect::Reply { request, reply } => {
                    if matches!(reply, Reply::Left(Ok(()))) {
                        // `Ends::left`.
                        self.doors.closed = true;
                        self.going = Some(Going::Queues { until: now + QUEUES });
                    }
                    self.replies.insert(request, reply);
                }
                Effect::Parked(order) => self.parked(order),
                Effect::Route { child, route } => self.doors.route(&child, route),
                Effect::LocateOver { child } => self.doors.unanswered(&child),
                Effect::Located { child, found } => self.doors.located(&child, found),
                Effect::NotStarted { child, reason } => self.doors.not_started(&child, reason),
                Effect::Gone { run, left } => self.doors.gone(now, run, left),
                Effect::Unmet { run } => self.doors.unmet(now, run),
                Effect::Path { to, by } => self.doors.detour(to, by),
                Effect::Members { runs } => self.doors.members(runs),
                Effect::Gates { valid } => self.doors.set_valid(now + self.ahead, valid),
                Effect::DrainLinks { calls } => {
                    let asked = self.doors.calls_until_now();
                    self.going = Some(Going::Calls { asked, until: now + calls });
                }
                Effect::Send { to, message } | Effect::Probe { to, message } => {
                    self.out.push(Out::Word { to, message });
                }
                Effect::Connect { node, .. } => self.out.push(Out::Connect(node)),
                Effect::Silent { node, .. } => self.out.push(Out::Silent(node)),
                Effect::Disconnect { node, .. } => self.out.push(Out::Disconnect(node)),
                Effect::Announce { me, known, fenced } => {
                    (self.me, self.known, self.fenced) = (me, known, fenced);
                }
                Effect::Emit(event) => self.events.push(event),
                // Nobody publishes or watches here.
                Effect::Observed { .. }
                | Effect::Sighted { .. }
                | Effect::Subscribed { .. }
                | Effect::Unsubscribed { .. } => {}
            }
        }
    }

    /// The task of `Effect::DrainLinks`, and what follows when the node has left.
    fn go(&mut self, now: Instant) {
        let Some(going) = self.going.take() else { return };
        match going {
            Going::Calls { mut asked, until } => {
                asked.retain(is_calling);
                self.going = Some(if asked.is_empty() || until <= now {
                    self.doors.closed = true;
                    Going::Rest { asked: self.doors.calls_until_now(), until: now + DRAIN }
                } else {
                    Going::Calls { asked, until }
                });
            }
            Going::Rest { mut asked, until } => {
                asked.retain(is_calling);
                self.going = Some(match asked.is_empty() || until <= now {
                    true => Going::Answers { until: now + DRAIN },
                    false => Going::Rest { asked, until },
                });
            }
            Going::Answers { until } if self.doors.drained() || until <= now => {
                self.take(now, Some(Event::LinksDrained));
            }
            Going::Queues { until } if self.doors.queued() == 0 || until <= now => {
                self.doors.stop();
                self.out.push(Out::Stopped);
            }
            waits => self.going = Some(waits),
        }
    }

    /// `HubSystem::order`: puts the state that arrived beside the order that needs it.
    fn order(&mut self, now: Instant, order: ChildOrder) {
        let mut parcel = None;
        match &order {
            ChildOrder::Build { spec, epoch, with_state: true, .. } => {
                let arrived = self.arrivals.take(&(spec.id().clone(), *epoch));
                parcel = arrived.map(|arrived| (arrived.from, arrived.parcel));
            }
            ChildOrder::Discard { child, epoch } => {
                self.arrivals.take(&(child.clone(), *epoch));
            }
            ChildOrder::Merge { child, epoch } => {
                let arrived = self.arrivals.find(&(child.clone(), *epoch));
                parcel = arrived.map(|arrived| (arrived.from, arrived.parcel.clone()));
            }
            ChildOrder::Apply { key, from, .. } => {
                let state = match *from == self.engine.me() {
                    true => self.parked.find(key).map(|(_, bytes)| bytes.clone()),
                    false => self.arrivals.take_copy(key.clone(), *from).map(|(_, bytes)| bytes),
                };
                parcel = state.map(|bytes| (*from, unparked(&bytes)));
            }
            ChildOrder::Park { key, kind, .. } => {
                // `Running::park`.
                let event = match self.arrivals.take(&(key.child.clone(), key.epoch)) {
                    Some(arrived) => self.hold_parked(key.clone(), kind.clone(), arrived.parcel),
                    None => Event::NotParked {
                        key: key.clone(),
                        reason: "the state is gone".to_owned(),
                    },
                };
                return self.engine.handle(now + self.ahead, event);
            }
            _ => {}
        }
        let thread = Thread::of(child_of(&order));
        self.out.push(Out::Mail(thread, Input::Order { order, parcel }));
    }

    /// `Running::hold_parked`.
    fn hold_parked(&mut self, key: ParkedKey, kind: KindName, parcel: Parcel) -> Event {
        let (state_version, size) = (parcel.state_version, parcel.bytes.len() as u64);
        let reason = String::new();
        let info = ParkedInfo { key, kind, state_version, at: 0, reason };
        self.parked.hold(info.clone(), parcel.bytes);
        Event::Parked { info, size }
    }

    /// `HubSystem::parked`.
    fn parked(&mut self, order: ParkedOrder) {
        match order {
            ParkedOrder::Keep { key, from } => {
                if let Some((info, bytes)) = self.arrivals.take_copy(key, from) {
                    self.parked.hold(info, bytes);
                }
            }
            ParkedOrder::Refuse { key, from } => drop(self.arrivals.take_copy(key, from)),
            ParkedOrder::Forget { key } => self.parked.forget(&key),
            ParkedOrder::Send { key, to, purpose } => {
                let (not_key, not_purpose) = (key.clone(), purpose.clone());
                let not_sent =
                    move |_| Event::ParkedNotSent { key: not_key, to, purpose: not_purpose };
                let found = self.parked.find(&key);
                match found.map(|(info, bytes)| (info.clone(), bytes.clone())) {
                    Some((info, bytes)) => {
                        let header = BulkHeader::Parked { info, purpose };
                        self.send_state(to, header, bytes, not_sent);
                    }
                    None => {
                        let event = not_sent(String::new());
                        self.out.push(Out::Mail(Thread::System, Input::Outcome(event)));
                    }
                }
            }
        }
    }

    /// `HubSystem::bulk`.
    fn bulk(
        &mut self,
        now: Instant,
        from: NodeRun,
        header: BulkHeader,
        body: Bytes,
    ) -> Option<Event> {
        let size = body.len() as u64;
        if self.troubles.no_room(now) {
            return Some(Event::NoRoom { from, header });
        }
        match self.arrivals.keep(now, from, &header, body) {
            Kept::Yes => Some(Event::Bulk { from, header, size }),
            Kept::NoRoom => Some(Event::NoRoom { from, header }),
            Kept::Not => {
                let key = (header.child().clone(), header.epoch());
                let stands = self.arrivals.find(&key).is_some_and(|it| it.from != from);
                assert!(stands, "it was packed");
                None
            }
        }
    }
}

/// `effects::child_of`.
fn child_of(order: &ChildOrder) -> &ChildId {
    match order {
        ChildOrder::Start { spec, .. } | ChildOrder::Build { spec, .. } => spec.id(),
        ChildOrder::Freeze { child, .. }
        | ChildOrder::Thaw { child, .. }
        | ChildOrder::Wait { child, .. }
        | ChildOrder::GiveUp { child, .. }
        | ChildOrder::SendState { child, .. }
        | ChildOrder::Discard { child, .. }
        | ChildOrder::Open { child, .. }
        | ChildOrder::MovedAway { child, .. }
        | ChildOrder::End { child }
        | ChildOrder::Stop { child, .. }
        | ChildOrder::SendDiverged { child, .. }
        | ChildOrder::Rest { child, .. }
        | ChildOrder::Merge { child, .. } => child,
        ChildOrder::Park { key, .. }
        | ChildOrder::ParkBuilt { key, .. }
        | ChildOrder::ParkFrozen { key, .. }
        | ChildOrder::Apply { key, .. } => &key.child,
    }
}
