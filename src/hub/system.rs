//! The Actix actor behind a hub: whatever happens becomes an event of the engine, whatever the
//! engine wants is carried out in `effects`.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use actix::prelude::*;
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use tokio::sync::{mpsc, oneshot};

use super::{
    Hub,
    arrivals::{Arrivals, Kept},
    builder::HubBuilder,
    clock::unix_now,
    data_plane::state_taken,
    doors::{Locate, PathReport, Unsendable},
    expected::Expected,
    fair::{Bill, Fair, Hold},
    observe::Open,
    parcel::Parcel,
    parked::{ParkedState, ParkedStore, shown},
    reach::Reach,
    requests::{
        Admit, ChildInfo, Children, Drain, HubStopped, Inspect, Inspection, Leave, Lookup, Migrate,
        NodeInfo, Nodes, Release, Scope, SeedInfo, StartChildren, Stay, StopChildren, Undrain,
    },
    topics::TopicsChanged,
    watches::WatchesChanged,
};
use crate::{
    engine::{
        Engine,
        explain::Seen,
        io::{EngineConfig, Event, LeaveFailed, Reply, Request},
    },
    error::{DrainError, LeaveError, MigrateError, StartHubError},
    model::{
        child::{Epoch, Ownership},
        event::HubEvent,
        id::{ChildId, KindName, NodeId, NodeRun, RequestId},
        member::NodePath,
        message::{BulkHeader, PeerMessage},
        parked::{ParkedInfo, ParkedKey},
        report::{MigrateOutcome, StartReport, StopReport},
        words::brief,
    },
    net::{NetEvent, Place},
    wire,
};

/// The actor of a hub. Made with [`HubSystem::builder`]; its address is `Hub::system`.
///
/// Its messages are `StartChildren`, `StopChildren`, `Migrate`, `Leave`, `Stay`, `Drain`,
/// `Undrain` and `Inspect`. Messages
/// to children do not pass through it.
pub struct HubSystem {
    pub(crate) hub: Hub,
    pub(crate) running: Option<Running>,
    /// The engine of a hub that ends with something left: it has a last word to say.
    pub(crate) parting: Option<Engine>,
}

impl fmt::Debug for HubSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubSystem").field("hub", &self.hub).finish_non_exhaustive()
    }
}

/// The answer of the engine.
pub(crate) type SystemReply = LocalBoxFuture<'static, Result<Reply, HubStopped>>;

/// What a hub that runs has.
pub(crate) struct Running {
    pub(crate) engine: Engine,
    pub(crate) requests: BTreeMap<RequestId, oneshot::Sender<Reply>>,
    /// Questions to other nodes.
    pub(crate) questions: BTreeMap<u64, Open>,
    pub(crate) next_request: u64,
    /// How much of the engine's time each peer takes.
    pub(crate) fair: Fair,
    /// What that time is measured by.
    pub(crate) clock: Box<dyn Fn() -> Instant>,
    reach: Reach,
    timer: Option<(Instant, SpawnHandle)>,
    pub(crate) arrivals: Arrivals,
    pub(crate) parked: ParkedStore,
    /// So many nodes have to be in before this one is ready.
    pub(crate) expected: Expected,
    /// The hub stops, as another process with its key was there first.
    gives_way: bool,
}

impl HubSystem {
    /// Begins to describe a hub. Only nodes with the same hub name become one cluster.
    pub fn builder(name: impl AsRef<str>) -> HubBuilder {
        HubBuilder::new(name.as_ref())
    }

    pub(crate) fn new(hub: Hub) -> Self {
        Self { hub, running: None, parting: None }
    }

    /// Puts events into the engine and carries out what it wants.
    pub(crate) fn take(
        &mut self,
        events: impl IntoIterator<Item = Event>,
        ctx: &mut Context<Self>,
    ) {
        self.take_from(events, Vec::new(), ctx);
    }

    /// The same, with the places of what came from peers. They are given back when everything is
    /// done, and a peer whose words took too much of the engine's time has to wait.
    fn take_from(
        &mut self,
        events: impl IntoIterator<Item = Event>,
        places: Vec<(NodeId, Place)>,
        ctx: &mut Context<Self>,
    ) {
        let Some(running) = &mut self.running else {
            return;
        };
        let doors = &self.hub.shared().doors;
        let (now, mut bill) = (doors.uptime.now(), Bill::default());
        let mut read = (running.clock)();
        for event in events {
            let peer = charged(&event);
            running.engine.handle(now, event);
            let before = std::mem::replace(&mut read, (running.clock)());
            bill.event(peer, read.saturating_duration_since(before));
            if !running.engine.is_waiting() {
                running.expected.note(running.engine.view().members.len());
            }
        }
        self.perform(ctx);
        // After what it has said of a pause was carried out.
        self.hub.shared().doors.renew_validity();
        self.charge(bill, read, &places);
        self.set_timer(ctx);
        if let Some(running) = &self.running {
            self.hub.shared().progress.turned(running.engine.is_settled());
        }
    }

    /// Charges peers for what their words took; `since` then it was carried out.
    fn charge(&mut self, mut bill: Bill, since: Instant, places: &[(NodeId, Place)]) {
        let Some(running) = &mut self.running else {
            return;
        };
        let now = (running.clock)();
        places.iter().for_each(|(peer, place)| bill.before(*peer, place.spent()));
        let mut holds = BTreeMap::<NodeId, Hold>::new();
        for (peer, took) in bill.shared(now.saturating_duration_since(since)) {
            if let Some(hold) = running.fair.charge(now, peer, took) {
                if hold.is_first {
                    tracing::warn!(%peer, "a peer takes more than its share of the engine and is slowed");
                }
                holds.insert(peer, hold);
            }
        }
        for peer in holds.keys() {
            running.engine.held(*peer);
        }
        for (peer, place) in places {
            place.pace(holds.get(peer).map(|hold| hold.wait));
        }
    }

    fn set_timer(&mut self, ctx: &mut Context<Self>) {
        let Some(running) = &mut self.running else {
            return;
        };
        let Some(deadline) = running.engine.deadline() else {
            return;
        };
        if let Some((at, handle)) = running.timer {
            // One that comes too early finds nothing to do; cancelling costs more.
            if at <= deadline {
                return;
            }
            ctx.cancel_future(handle);
        }
        let wait = deadline.saturating_duration_since(self.hub.shared().doors.uptime.now());
        let handle = ctx.run_later(wait, |system, ctx| {
            if let Some(running) = &mut system.running {
                running.timer = None;
            }
            system.take([Event::Tick], ctx);
        });
        running.timer = Some((deadline, handle));
    }

    /// What an event of the network is for the engine. Its place, if it has one, goes to the others.
    fn network(&mut self, event: NetEvent, places: &mut Vec<(NodeId, Place)>) -> Option<Event> {
        Some(match event {
            NetEvent::Addresses { listening, told } => {
                self.hub.shared().listening(listening);
                let addresses = self.running.as_mut()?.reach.told(told);
                Event::Addresses { addresses }
            }
            NetEvent::Linked { hello, local } => Event::Linked { hello, local },
            NetEvent::Unlinked { run, reason } => {
                tracing::debug!(peer = %run, %reason, "link closed");
                Event::Unlinked { run }
            }
            NetEvent::Refused { node, address, reason } => {
                // A stranger has no name but its address.
                let reason = match (node, address) {
                    (None, Some(address)) => format!("{address}: {reason}"),
                    _ => reason,
                };
                self.hub.shared().emit(HubEvent::PeerRefused { node, reason });
                return None;
            }
            NetEvent::Seed { seed, outcome } => Event::Seed { seed, outcome },
            NetEvent::Twin { address, by, is_second: true } => {
                self.give_way(address, by);
                return None;
            }
            NetEvent::Twin { address, .. } => {
                self.tell_of_twin(&address);
                return None;
            }
            NetEvent::Fenced { incarnation } => Event::Fenced { incarnation },
            NetEvent::Unreachable { node, refused } => Event::Unreachable { node, refused },
            NetEvent::Control { from, message, place } => {
                places.push((from.node, place));
                Event::Peer { from, message }
            }
            NetEvent::Bulk { from, header, body, place } => {
                places.push((from.node, place));
                self.bulk(from, header, body)?
            }
        })
    }

    fn tell_of_twin(&self, address: &str) {
        let node = Some(self.hub.node_id());
        let reason = format!("another process at {address} runs with this node's key");
        self.hub.shared().emit(HubEvent::PeerRefused { node, reason });
    }

    /// Another process with this node's key was there first: two runs of a node cannot both be in.
    /// The hub stops, unless it is in with others: then the other one comes back from a cut or a long
    /// pause, and its place is taken.
    fn give_way(&mut self, address: String, by: Option<NodeId>) {
        let Some(running) = &mut self.running else {
            return;
        };
        if running.engine.view().members.len() > 1 && running.engine.is_synced() {
            self.tell_of_twin(&address);
            return;
        }
        if std::mem::replace(&mut running.gives_way, true) {
            return;
        }
        let hub = self.hub.clone();
        let error = StartHubError::KeyInUse { address: address.clone(), by };
        tracing::error!(hub = %hub.name(), node = %hub.node_name(), %error, "the hub stops");
        hub.shared().emit(HubEvent::KeyInUse { address, by });
        // It ends with this arbiter, when all that is to be told has been told.
        actix_rt::spawn(async move { hub.stop().await });
    }

    fn bulk(&mut self, from: NodeRun, header: BulkHeader, body: Bytes) -> Option<Event> {
        let size = body.len() as u64;
        let arrivals = &mut self.running.as_mut()?.arrivals;
        match arrivals.keep(Instant::now(), from, &header, body) {
            Kept::Yes => Some(Event::Bulk { from, header, size }),
            Kept::NoRoom => Some(Event::NoRoom { from, header }),
            Kept::Not => None,
        }
    }

    /// Asks the engine for somebody; the answer comes when it has one.
    pub(crate) fn ask(&mut self, request: Request, ctx: &mut Context<Self>) -> SystemReply {
        if self.hub.shared().ends.is_shutting_down() {
            return Box::pin(async { Err(HubStopped) });
        }
        self.ask_engine(request, ctx)
    }

    /// The same, also while the hub is shut down.
    pub(crate) fn ask_engine(&mut self, request: Request, ctx: &mut Context<Self>) -> SystemReply {
        let Some(running) = &mut self.running else {
            return Box::pin(async { Err(HubStopped) });
        };
        let (answer, answered) = oneshot::channel();
        running.next_request += 1;
        let id = RequestId(running.next_request);
        running.requests.insert(id, answer);
        self.take([Event::Request { id, request }], ctx);
        Box::pin(async move { answered.await.map_err(|_| HubStopped) })
    }
}

impl Running {
    /// Parks a state that arrived; what the engine is told of it.
    pub(crate) fn park(&mut self, key: ParkedKey, kind: KindName, reason: String) -> Event {
        match self.arrivals.take(&(key.child.clone(), key.epoch)) {
            Some(arrived) => self.hold_parked(key, kind, reason, None, arrived.parcel),
            None => Event::NotParked { key, reason: "the state is gone".to_owned() },
        }
    }

    /// Parks a state; what the engine is told of it.
    pub(crate) fn hold_parked(
        &mut self,
        key: ParkedKey,
        kind: KindName,
        reason: String,
        at: Option<u64>,
        Parcel { state_version, bytes, .. }: Parcel,
    ) -> Event {
        let (at, size) = (at.unwrap_or_else(unix_now), bytes.len() as u64);
        let info = ParkedInfo { key, kind, state_version, at, reason: brief(reason) };
        self.parked.hold(info.clone(), bytes);
        Event::Parked { info, size }
    }

    /// The parked states of this node, the oldest first.
    pub(crate) fn parked_states(&self) -> Vec<ParkedState> {
        let states = self.parked.iter();
        let mut states: Vec<ParkedState> = states
            .map(|(info, bytes)| shown(info, bytes, self.engine.parked_holders(&info.key)))
            .collect();
        states.sort_by_key(|state| state.parked_at);
        states
    }

    fn nodes(&self) -> Vec<NodeInfo> {
        let nodes = self.engine.nodes().into_iter();
        let info = |Seen { member, state, path, suspected_by, missing }| NodeInfo {
            id: member.id,
            name: member.name,
            state,
            is_draining: member.draining,
            addresses: member.addresses,
            labels: member.labels,
            incarnation: member.incarnation,
            is_self: path == NodePath::Itself,
            path,
            suspected_by,
            missing,
        };
        nodes.map(info).collect()
    }

    /// The seeds, while this node waits for one.
    pub(crate) fn seeds(&self) -> Vec<SeedInfo> {
        if !self.engine.is_waiting() {
            return Vec::new();
        }
        let seeds = self.engine.seeds();
        seeds
            .map(|(seed, outcome)| SeedInfo { seed: seed.clone(), outcome: outcome.clone() })
            .collect()
    }

    fn children(&self, scope: Scope) -> Vec<ChildInfo> {
        let me = self.engine.me();
        let children = self.engine.registry().children();
        children
            .filter(|(_, owner, _)| scope == Scope::Global || *owner == me)
            .map(|(child, owner, ownership)| child_info(child, owner, ownership))
            .collect()
    }
}

pub(crate) fn child_info(child: &ChildId, owner: NodeRun, ownership: &Ownership) -> ChildInfo {
    ChildInfo {
        id: child.clone(),
        kind: ownership.spec.kind().clone(),
        node: owner.node,
        epoch: ownership.epoch,
        failure: ownership.failure.clone(),
        tags: ownership.spec.tags().clone(),
        metadata: ownership.spec.metadata().clone(),
    }
}

impl Actor for HubSystem {
    type Context = Context<Self>;
}

impl Drop for HubSystem {
    /// Its arbiter ends, be it with the whole Actix system, or it panicked.
    fn drop(&mut self) {
        self.hub.shared().system_ended();
    }
}

/// The hub begins: the network listens, the workers stand.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Begin {
    pub(crate) config: EngineConfig,
    /// What the network has told already.
    pub(crate) told: Vec<NetEvent>,
    pub(crate) events: mpsc::Receiver<NetEvent>,
    /// Answered or dropped when the start of the hub has returned: events are taken from then on.
    pub(crate) returns: oneshot::Receiver<()>,
    pub(crate) reach: Reach,
    pub(crate) expected: Expected,
}

impl Handler<Begin> for HubSystem {
    type Result = ();

    fn handle(
        &mut self,
        Begin { config, told, mut events, returns, reach, expected }: Begin,
        ctx: &mut Context<Self>,
    ) {
        self.running = Some(Running {
            fair: Fair::new(self.hub.settings().heartbeat),
            clock: Box::new(Instant::now),
            engine: Engine::new(config, self.hub.shared().doors.uptime.now()),
            requests: BTreeMap::new(),
            questions: BTreeMap::new(),
            next_request: 0,
            reach,
            timer: None,
            arrivals: Arrivals::new(self.hub.settings()),
            parked: ParkedStore::default(),
            expected,
            gives_way: false,
        });
        let system = ctx.address();
        actix_rt::spawn(async move {
            let _ = returns.await;
            let mut batch = told;
            // The next batch is taken when this one has been dealt with: the channel is the bound.
            while !batch.is_empty() || events.recv_many(&mut batch, 256).await > 0 {
                if system.send(FromNetwork(std::mem::take(&mut batch))).await.is_err() {
                    return;
                }
            }
        });
        self.take([Event::Tick], ctx);
        // A node that is alone has no reason to look at the time.
        let beat = self.hub.shared().doors.validity.beat();
        ctx.run_interval(beat, |system, ctx| {
            if let Some(running) = &mut system.running {
                let doors = &system.hub.shared().doors;
                running.engine.in_use(doors.uptime.now(), doors.take_used());
            }
            system.take([Event::Tick], ctx);
            system.hub.shared().tell_moves();
        });
    }
}

/// The hub ends: whoever waits is told so.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct End;

impl Handler<End> for HubSystem {
    type Result = ();

    fn handle(&mut self, _: End, ctx: &mut Context<Self>) {
        self.running = None;
        ctx.stop();
    }
}

#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct FromNetwork(pub(super) Vec<NetEvent>);

impl Handler<FromNetwork> for HubSystem {
    type Result = ();

    fn handle(&mut self, FromNetwork(events): FromNetwork, ctx: &mut Context<Self>) {
        let mut places = Vec::new();
        let mut taken = Vec::with_capacity(events.len());
        for event in events {
            taken.extend(self.network(event, &mut places));
        }
        self.take_from(taken, places, ctx);
    }
}

/// What workers and tasks of the hub have to tell.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Outcome(pub(crate) Vec<Event>);

impl Handler<Outcome> for HubSystem {
    type Result = ();

    fn handle(&mut self, Outcome(events): Outcome, ctx: &mut Context<Self>) {
        if let Some(running) = &mut self.running {
            for event in &events {
                // What could not be merged is wanted once more, to park it.
                if let Event::Child(crate::engine::io::ChildReport::Merged {
                    child,
                    epoch,
                    outcome: Ok(()),
                }) = event
                {
                    running.arrivals.take(&(child.clone(), *epoch));
                }
            }
        }
        self.take(events, ctx);
    }
}

/// Whose time an event takes. Moves are nobody's: each was agreed on, and a node that leaves with all
/// its children must not be slowed.
fn charged(event: &Event) -> Option<NodeId> {
    match event {
        Event::Peer { message: PeerMessage::Handover(_), .. } => None,
        Event::Peer { from, .. } => Some(from.node),
        _ => None,
    }
}

impl Handler<Locate> for HubSystem {
    type Result = ();

    fn handle(&mut self, Locate { child, start }: Locate, ctx: &mut Context<Self>) {
        self.take([Event::Locate { child, start }], ctx);
    }
}

impl Handler<TopicsChanged> for HubSystem {
    type Result = ();

    fn handle(&mut self, _: TopicsChanged, ctx: &mut Context<Self>) {
        let (version, changes) = self.hub.shared().doors.topics.news();
        self.take([Event::Topics { version, changes }], ctx);
    }
}

impl Handler<WatchesChanged> for HubSystem {
    type Result = ();

    fn handle(&mut self, _: WatchesChanged, ctx: &mut Context<Self>) {
        let news = self.hub.shared().watches.news().into_iter();
        self.take(news.map(|(child, id)| Event::Watch { child, id }), ctx);
    }
}

impl Handler<Unsendable> for HubSystem {
    type Result = ();

    fn handle(&mut self, lost: Unsendable, _: &mut Context<Self>) {
        let Unsendable { child, message, reason } = lost;
        if let Some(recorder) = self.hub.shared().recorder.get() {
            recorder.refused(&reason);
        }
        let reason = reason.to_string();
        self.hub.shared().emit(HubEvent::MessageDropped { child, message, reason });
    }
}

impl Handler<PathReport> for HubSystem {
    type Result = ();

    fn handle(&mut self, report: PathReport, ctx: &mut Context<Self>) {
        match report {
            PathReport::Lost { to, by } => self.take([Event::PathLost { to, by }], ctx),
            PathReport::State { from, path, arrived } => {
                let refused = match wire::decode_bulk_header(&arrived.header) {
                    Ok(header) => {
                        let body = arrived.body;
                        let event = self.bulk(from, header, body);
                        self.take(event, ctx);
                        None
                    }
                    Err(error) => Some(error.to_string()),
                };
                let outcome = refused.as_deref().map_or(Ok(()), Err);
                state_taken(&self.hub.shared().doors, path, outcome);
            }
        }
    }
}

impl Handler<Admit> for HubSystem {
    type Result = Result<(), HubStopped>;

    fn handle(
        &mut self,
        Admit { node, is_admitted }: Admit,
        ctx: &mut Context<Self>,
    ) -> Self::Result {
        if self.running.is_none() {
            return Err(HubStopped);
        }
        if node == self.hub.node_id() {
            return Ok(());
        }
        // The engine first: it ignores links of whom it does not admit.
        let event = if is_admitted { Event::Allowed { node } } else { Event::Blocked { node } };
        self.take([event], ctx);
        if let Some(network) = self.hub.shared().doors.network.get() {
            if is_admitted {
                network.allow(node);
            } else {
                network.block(node);
            }
        }
        Ok(())
    }
}

impl Handler<StartChildren> for HubSystem {
    type Result = ResponseFuture<Result<StartReport, HubStopped>>;

    fn handle(&mut self, message: StartChildren, ctx: &mut Context<Self>) -> Self::Result {
        let timeout = message.timeout.unwrap_or(self.hub.settings().request_timeout);
        let specs = message.specs.into_iter().map(std::sync::Arc::new).collect();
        let on_failure = message.on_failure;
        let answer = self.ask(Request::Start { specs, on_failure, timeout }, ctx);
        Box::pin(async move {
            match answer.await? {
                Reply::Started(report) => Ok(report),
                _ => Err(HubStopped),
            }
        })
    }
}

impl Handler<StopChildren> for HubSystem {
    type Result = ResponseFuture<Result<StopReport, HubStopped>>;

    fn handle(&mut self, message: StopChildren, ctx: &mut Context<Self>) -> Self::Result {
        let timeout = message.timeout.unwrap_or(self.hub.settings().request_timeout);
        let answer = self.ask(Request::Stop { children: message.children, timeout }, ctx);
        Box::pin(async move {
            match answer.await? {
                Reply::Stopped(report) => Ok(report),
                _ => Err(HubStopped),
            }
        })
    }
}

impl Handler<Migrate> for HubSystem {
    type Result = ResponseFuture<Result<Epoch, MigrateError>>;

    fn handle(&mut self, message: Migrate, ctx: &mut Context<Self>) -> Self::Result {
        let Migrate { child, to, forced, timeout } = message;
        let timeout = timeout.unwrap_or(self.hub.settings().request_timeout);
        let request = Request::Migrate { child: child.clone(), to, forced, timeout };
        let answer = self.ask(request, ctx);
        Box::pin(async move { migrated(answer.await, child, to) })
    }
}

impl Handler<Release> for HubSystem {
    type Result = ResponseFuture<Result<(), MigrateError>>;

    fn handle(&mut self, message: Release, ctx: &mut Context<Self>) -> Self::Result {
        let Release { child, timeout } = message;
        let timeout = timeout.unwrap_or(self.hub.settings().request_timeout);
        let node = self.hub.node_id();
        let answer = self.ask(Request::Release { child: child.clone(), timeout }, ctx);
        // It is sent to no node.
        Box::pin(async move { migrated(answer.await, child, node).map(drop) })
    }
}

/// What came of a migration, or a release.
fn migrated(
    answer: Result<Reply, HubStopped>,
    child: ChildId,
    to: NodeId,
) -> Result<Epoch, MigrateError> {
    let Ok(Reply::Migrated(outcome)) = answer else {
        return Err(MigrateError::HubStopped);
    };
    match outcome {
        MigrateOutcome::Moved { epoch, .. } => Ok(epoch),
        MigrateOutcome::Failed { reason } => Err(MigrateError::Failed { child, reason }),
        MigrateOutcome::NotFound => Err(MigrateError::NotFound { child }),
        MigrateOutcome::NoSuchNode => Err(MigrateError::NoSuchNode { node: to }),
        MigrateOutcome::Timeout => Err(MigrateError::Timeout { child }),
    }
}

/// Leaves, and stops the hub when it has left, whoever waits for that.
#[derive(Message)]
#[rtype(result = "Result<(), LeaveError>")]
pub(crate) struct Depart {
    pub(crate) timeout: Option<Duration>,
}

impl Handler<Depart> for HubSystem {
    type Result = ResponseFuture<Result<(), LeaveError>>;

    fn handle(&mut self, Depart { timeout }: Depart, ctx: &mut Context<Self>) -> Self::Result {
        let hub = self.hub.clone();
        let left = self.handle(Leave { timeout }, ctx);
        Box::pin(async move {
            left.await?;
            let shared = hub.shared();
            shared.ends.left(shared);
            Ok(())
        })
    }
}

impl Handler<Leave> for HubSystem {
    type Result = ResponseFuture<Result<(), LeaveError>>;

    fn handle(&mut self, message: Leave, ctx: &mut Context<Self>) -> Self::Result {
        let timeout = message.timeout.unwrap_or(self.hub.settings().leave_timeout);
        let answer = self.ask(Request::Leave { timeout }, ctx);
        Box::pin(async move {
            match answer.await {
                Ok(Reply::Left(outcome)) => outcome.map_err(not_left),
                _ => Err(LeaveError::HubStopped),
            }
        })
    }
}

fn not_left(why: LeaveFailed) -> LeaveError {
    match why {
        LeaveFailed::NoSuccessor { children, left } => LeaveError::NoSuccessor { children, left },
        LeaveFailed::Timeout { children, left, waits_for } => {
            LeaveError::Timeout { children, left, waits_for }
        }
        LeaveFailed::Stayed => LeaveError::Stayed,
    }
}

impl Handler<Drain> for HubSystem {
    type Result = ResponseFuture<Result<(), DrainError>>;

    fn handle(&mut self, message: Drain, ctx: &mut Context<Self>) -> Self::Result {
        let timeout = message.timeout.unwrap_or(self.hub.settings().leave_timeout);
        let answer = self.ask(Request::Drain { timeout }, ctx);
        Box::pin(async move {
            match answer.await {
                Ok(Reply::Drained(outcome)) => outcome.map_err(|why| match why {
                    LeaveFailed::NoSuccessor { children, left } => {
                        DrainError::NoSuccessor { children, left }
                    }
                    LeaveFailed::Timeout { children, left, waits_for } => {
                        DrainError::Timeout { children, left, waits_for }
                    }
                    LeaveFailed::Stayed => DrainError::Undrained,
                }),
                _ => Err(DrainError::HubStopped),
            }
        })
    }
}

impl Handler<Undrain> for HubSystem {
    type Result = ResponseFuture<Result<(), HubStopped>>;

    fn handle(&mut self, _: Undrain, ctx: &mut Context<Self>) -> Self::Result {
        let answer = self.ask(Request::Undrain, ctx);
        Box::pin(async move { answer.await.map(drop) })
    }
}

impl Handler<Stay> for HubSystem {
    type Result = ResponseFuture<Result<(), HubStopped>>;

    fn handle(&mut self, _: Stay, ctx: &mut Context<Self>) -> Self::Result {
        let answer = self.ask(Request::Stay, ctx);
        Box::pin(async move {
            match answer.await? {
                Reply::Stays(true) => Ok(()),
                _ => Err(HubStopped),
            }
        })
    }
}

impl Handler<Inspect> for HubSystem {
    type Result = Result<Inspection, HubStopped>;

    fn handle(&mut self, _: Inspect, _: &mut Context<Self>) -> Self::Result {
        let running = self.running.as_ref().ok_or(HubStopped)?;
        Ok(Inspection {
            nodes: running.nodes(),
            departed: self.hub.shared().departed(),
            children: running.children(Scope::Global),
            is_settled: running.engine.is_settled(),
            waits_for: running.engine.waits_for(),
            immovable: running.engine.immovable().map(|(c, why)| (c.clone(), why.into())).collect(),
            seeds: running.seeds(),
            topics: self.hub.topic_counts(),
        })
    }
}

impl Handler<Nodes> for HubSystem {
    type Result = Result<Vec<NodeInfo>, HubStopped>;

    fn handle(&mut self, _: Nodes, _: &mut Context<Self>) -> Self::Result {
        self.running.as_ref().map(Running::nodes).ok_or(HubStopped)
    }
}

impl Handler<Children> for HubSystem {
    type Result = Result<Vec<ChildInfo>, HubStopped>;

    fn handle(&mut self, Children(scope): Children, _: &mut Context<Self>) -> Self::Result {
        self.running.as_ref().map(|running| running.children(scope)).ok_or(HubStopped)
    }
}

impl Handler<Lookup> for HubSystem {
    type Result = Result<Option<ChildInfo>, HubStopped>;

    fn handle(&mut self, Lookup(child): Lookup, _: &mut Context<Self>) -> Self::Result {
        let owner = self.running.as_ref().ok_or(HubStopped)?.engine.registry().owner(&child);
        Ok(owner.map(|(owner, ownership)| child_info(&child, owner, ownership)))
    }
}
