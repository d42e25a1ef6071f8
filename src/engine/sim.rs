//! Whole clusters of engines on a seeded network with delay, loss of links, partition, pause and
//! crash. Children are sets of numbers, so that a lost or doubled update shows.
//!
//! A failing run prints its seed; `SIM_SEED=number` replays that one, `SIM_TRACE=1` prints what
//! every engine does. `SIM_SEEDS=1000` runs every test with so many.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    Engine,
    chance::Chance,
    children::{Instance, Phase},
    distribution::ConsistentHashing,
    io::{
        BuildFailure, ChildOrder, ChildReport, Effect, EngineConfig, Event, Exit, FreezeFailure,
        KindInfo, LeaveFailed, Reply, Request, Way,
    },
    membership::{self, founding::Founding},
    partition::Divergence,
    redundancy::Singularity,
};
use crate::model::{
    access::AccessList,
    child::{ChildSpec, Epoch, Route},
    event::HubEvent,
    id::{
        ChildId, HubName, Incarnation, KindName, NodeId, NodeName, NodeRun, RequestId, TopicName,
    },
    labels::Labels,
    member::{Hello, Member, MemberState, WIRE_VERSION},
    message::{BulkHeader, ChildOutcome, HomeWord, PeerMessage},
    observe::{Answer, ObserveWord, Question},
    parked::{ParkedInfo, ParkedKey},
    report::{MigrateOutcome, StartOutcome},
    settings::{OnFailure, Settings},
    topic::TopicChange,
    watch::Sighting,
};

mod attacks;
mod divergence;
mod draining;
mod failures;
mod farewells;
mod joining;
mod leaving;
mod links;
mod looking;
mod many;
mod moves;
mod overstated;
mod parked;
mod releases;
mod reopen;
mod restarts;
mod returns;
mod roll_call;
mod rules;
mod starts;
mod third_logs;
mod topics;
mod waits;
mod watches;

type State = BTreeSet<u64>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    Open,
    Closed,
    Moved,
}

/// What a node cannot do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cannot {
    /// Actors cannot be made, from nothing or from a state.
    Make,
    /// They can be made, and their `started` panics.
    Start,
    /// Their states cannot be read.
    Read,
}

#[derive(Debug)]
struct Actor {
    epoch: Epoch,
    gate: Gate,
    state: State,
}

#[derive(Debug, Default)]
struct Runtime {
    actors: BTreeMap<ChildId, Actor>,
    built: BTreeMap<(ChildId, Epoch), State>,
    /// Who sent a state, and the state.
    bytes: BTreeMap<(ChildId, Epoch), (NodeRun, State)>,
    /// Parked states, and those that arrived and are not disposed of.
    parked: BTreeMap<ParkedKey, (ParkedInfo, State)>,
    parked_came: BTreeMap<(ParkedKey, NodeRun), (ParkedInfo, State)>,
}

struct Node {
    engine: Engine,
    runtime: Runtime,
    routes: BTreeMap<ChildId, Route>,
    /// By whom states for others go.
    paths: BTreeMap<NodeRun, NodeRun>,
    /// How often it was told to send by another one.
    detours: usize,
    locating: BTreeSet<ChildId>,
    /// How many of them were not answered in time.
    unanswered: usize,
    alive: bool,
    paused_until: Option<Instant>,
    backlog: VecDeque<Input>,
    me: Member,
    known: Vec<Member>,
    fenced: Vec<(NodeId, Incarnation)>,
    wanted: BTreeSet<NodeId>,
    valid: bool,
    replies: BTreeMap<RequestId, Reply>,
    left: bool,
    /// Handovers that were told to have started, and not yet how they ended.
    handovers: BTreeSet<(ChildId, Epoch)>,
    /// Handovers that failed, or were refused for a lasting reason.
    failures: BTreeMap<ChildId, usize>,
    /// Failed moves of which is said that the successor may have run.
    may_have_run: BTreeSet<ChildId>,
    /// How often children were said to be recovered with their state.
    recovered: usize,
    /// When each child's handovers began.
    attempts: BTreeMap<ChildId, Vec<Instant>>,
    /// How often it was told that the node did not leave.
    stayed: usize,
    /// Words of who looked at the cluster.
    observed: Vec<(NodeRun, Way, ObserveWord)>,
    /// What it makes of the words that its engine says, by whatever path they go.
    lie: Option<fn(&mut PeerMessage)>,
    /// Faults of others that it told.
    faults: Vec<(NodeId, String)>,
    /// Why it told that it was not settled.
    unsettled: Vec<String>,
    /// Runs of which it was told that they are out.
    gone: Vec<NodeRun>,
    /// Those of them whose link stood then, and stands still: nothing is sent over it any more.
    unused: BTreeSet<NodeRun>,
    /// The topics that have subscribers on others, as it was told.
    subscribed: BTreeMap<NodeRun, BTreeSet<TopicName>>,
    /// Those that have some here, and their version.
    topics: (BTreeSet<TopicName>, u64),
    /// What it was told of children that are watched.
    sighted: BTreeMap<ChildId, Vec<Sighting>>,
}

#[derive(Debug)]
enum Input {
    Event(Event),
    /// A frame of a link; dropped when that link is no more.
    Word {
        link: u64,
        event: Event,
    },
    Bulk {
        link: u64,
        header: BulkHeader,
        from: NodeRun,
        state: State,
    },
    /// Part of a state that takes long.
    Piece {
        link: u64,
    },
    Dial {
        to: usize,
    },
    Runtime(ChildReport),
}

/// What came over one end of a link.
#[derive(Debug, Default)]
struct Traffic {
    /// How many frames and pieces of states.
    came: u64,
    /// That, when the engine last said that no words come.
    looked_at: Option<u64>,
}

struct World {
    seed: u64,
    /// Whether to print what every engine does: set by `SIM_TRACE`.
    trace: bool,
    began: Instant,
    now: Instant,
    dice: Chance,
    nodes: Vec<Node>,
    queue: BTreeMap<(Instant, u64), (usize, Input)>,
    count: u64,
    /// The link of each pair, and when the last frame in each direction arrives.
    links: BTreeMap<(usize, usize), u64>,
    /// Of the links that stand, by link and node.
    traffic: BTreeMap<(u64, usize), Traffic>,
    fifo: BTreeMap<(usize, usize), Instant>,
    cuts: BTreeSet<(usize, usize)>,
    acked: BTreeMap<ChildId, State>,
    children: Vec<ChildId>,
    removed: BTreeSet<ChildId>,
    updates: u64,
    requests: u64,
    /// Nothing has happened that allows two owners or a loss.
    calm: bool,
    /// Refuse some builds and freezes.
    faulty: bool,
    /// The kind does not merge: states of owners that give way are parked.
    unmerged: bool,
    /// Children never come to the parked states that they are given.
    never_applies: bool,
    /// Refuse all starts.
    refuse_starts: bool,
    /// Nodes on which actors cannot be made or started.
    cannot: BTreeMap<usize, Cannot>,
    /// When each node was told to start each child from nothing.
    starts: BTreeMap<(usize, ChildId), Vec<Instant>>,
    /// Nodes that read states of version 2 only; the others write version 1.
    newer: BTreeSet<usize>,
    /// Nodes that have not registered the kind.
    kindless: BTreeSet<usize>,
    /// Nodes whose engine says nothing but that it lives.
    mute: BTreeSet<usize>,
    /// Let all freezes fail, and with this.
    unfreezable: Option<FreezeFailure>,
    /// Children of which a handler never ends.
    stuck: BTreeSet<ChildId>,
    /// Bytes of one log that may be on their way to one node, if not as usual.
    log_window: Option<usize>,
    /// How often nodes compare what they have.
    digest: Duration,
    /// How long removals are remembered.
    forget_after: Duration,
    /// How long states are on their way, actors take to start, and to merge: milliseconds.
    bulk_ms: (u64, u64),
    start_ms: (u64, u64),
    merge_ms: (u64, u64),
    /// How often the state of which owner was merged into an actor.
    merges: BTreeMap<(usize, ChildId, NodeRun, Epoch), usize>,
    /// Since when two owners of a child yield to each other.
    at_odds: BTreeMap<(ChildId, usize, usize), Instant>,
    next_look: Instant,
}

/// Two that yield to each other have heard of it after so long, if their link works.
const AT_ODDS: Duration = Duration::from_secs(5);

impl Node {
    /// Makes of its own word what it makes of all of them; others' words it passes on as they are.
    fn lie_in(&self, message: &mut PeerMessage) {
        let Some(lie) = self.lie else { return };
        match message {
            PeerMessage::Relay { from, message, .. } if *from == self.me.run() => lie(message),
            PeerMessage::Relay { .. } => {}
            message => lie(message),
        }
    }
}

fn labels(index: usize) -> Labels {
    Labels::new([("node", index.to_string())]).expect("valid labels")
}

fn node_id(index: usize, generation: u64) -> NodeId {
    let mut key = [0; 32];
    key[0] = index as u8 + 1;
    key[1] = 7;
    key[8..16].copy_from_slice(&generation.to_le_bytes());
    // Scatter, so that the order of ids is not the order of indexes.
    key[0] = key[0].wrapping_mul(151);
    NodeId::from_key(key)
}

fn kind() -> KindName {
    KindName::new("set").expect("a valid name")
}

impl World {
    fn new(seed: u64, nodes: usize) -> Self {
        let now = Instant::now();
        let mut world = Self {
            seed,
            trace: std::env::var_os("SIM_TRACE").is_some(),
            began: now,
            now,
            dice: Chance(seed),
            nodes: Vec::new(),
            queue: BTreeMap::new(),
            count: 0,
            links: BTreeMap::new(),
            traffic: BTreeMap::new(),
            fifo: BTreeMap::new(),
            cuts: BTreeSet::new(),
            acked: BTreeMap::new(),
            children: Vec::new(),
            removed: BTreeSet::new(),
            updates: 0,
            requests: 0,
            calm: true,
            faulty: false,
            unmerged: false,
            never_applies: false,
            refuse_starts: false,
            cannot: BTreeMap::new(),
            starts: BTreeMap::new(),
            unfreezable: None,
            stuck: BTreeSet::new(),
            kindless: BTreeSet::new(),
            newer: BTreeSet::new(),
            mute: BTreeSet::new(),
            log_window: None,
            digest: Duration::from_millis(500),
            forget_after: Settings::default().forget_after,
            bulk_ms: (1, 30),
            start_ms: (0, 10),
            merge_ms: (0, 10),
            merges: BTreeMap::new(),
            at_odds: BTreeMap::new(),
            next_look: now,
        };
        for _ in 0..nodes {
            world.join();
        }
        world
    }

    fn make(&mut self, index: usize, started: u64) -> Node {
        let incarnation = Incarnation { started, nonce: self.dice.next() };
        let config = EngineConfig {
            node: node_id(index, 0),
            incarnation,
            name: NodeName::new(format!("n{index}")).expect("a valid name"),
            addresses: vec![format!("/memory/{index}")],
            labels: labels(index),
            settings: Settings {
                heartbeat: Duration::from_millis(200),
                digest: self.digest,
                forget_after: self.forget_after,
                ..Settings::default()
            },
            kinds: (!self.kindless.contains(&index))
                .then(|| {
                    let version = if self.newer.contains(&index) { 2 } else { 1 };
                    (kind(), KindInfo { state_version: version, oldest_state_version: version })
                })
                .into_iter()
                .collect(),
            founding: if index == 0 {
                Founding::Found
            } else {
                Founding::Seeds(vec!["seed".to_owned()])
            },
            access: AccessList::open(),
            seed: self.dice.next(),
            distribution: Arc::new(ConsistentHashing),
            redundancy: Arc::new(Singularity),
            partition: Arc::new(Divergence),
        };
        let me = Member {
            id: config.node,
            incarnation,
            name: config.name.clone(),
            addresses: config.addresses.clone(),
            weight: 1,
            state: MemberState::Alive,
            draining: false,
            labels: config.labels.clone(),
            revision: 0,
        };
        let mut engine = Engine::new(config, self.now);
        engine.sync.window = self.log_window.unwrap_or(engine.sync.window);
        Node {
            engine,
            runtime: Runtime::default(),
            routes: BTreeMap::new(),
            paths: BTreeMap::new(),
            detours: 0,
            locating: BTreeSet::new(),
            unanswered: 0,
            alive: true,
            paused_until: None,
            backlog: VecDeque::new(),
            me,
            known: Vec::new(),
            fenced: Vec::new(),
            wanted: BTreeSet::new(),
            valid: true,
            replies: BTreeMap::new(),
            left: false,
            handovers: BTreeSet::new(),
            attempts: BTreeMap::new(),
            failures: BTreeMap::new(),
            may_have_run: BTreeSet::new(),
            recovered: 0,
            observed: Vec::new(),
            lie: None,
            faults: Vec::new(),
            unsettled: Vec::new(),
            gone: Vec::new(),
            unused: BTreeSet::new(),
            subscribed: BTreeMap::new(),
            sighted: BTreeMap::new(),
            topics: (BTreeSet::new(), 0),
            stayed: 0,
        }
    }

    /// Adds a node whose seeds are the first ones that live.
    fn join(&mut self) -> usize {
        let index = self.nodes.len();
        let node = self.make(index, 1_000 + index as u64);
        self.nodes.push(node);
        self.drain(index);
        // Two seeds: one of them may be about to die.
        let seeds: Vec<usize> = (0..index).filter(|seed| self.nodes[*seed].alive).take(2).collect();
        for seed in seeds {
            self.dial(index, seed, Duration::ZERO);
        }
        index
    }

    fn restart(&mut self, index: usize) {
        let started = self.nodes[index].me.incarnation.started + 10;
        let node = self.make(index, started);
        self.nodes[index] = node;
        self.drain(index);
        if let Some(seed) = (0..self.nodes.len()).find(|s| *s != index && self.nodes[*s].alive) {
            self.dial(index, seed, Duration::ZERO);
        }
    }

    fn index_of(&self, node: NodeId) -> Option<usize> {
        self.nodes.iter().position(|n| n.me.id == node)
    }

    fn push(&mut self, after: Duration, to: usize, input: Input) {
        self.count += 1;
        self.queue.insert((self.now + after, self.count), (to, input));
    }

    fn dial(&mut self, from: usize, to: usize, after: Duration) {
        let wait = after + self.dice.ms(1, 20);
        self.push(wait, from, Input::Dial { to });
    }

    fn pair(a: usize, b: usize) -> (usize, usize) {
        (a.min(b), a.max(b))
    }

    fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts.contains(&(from, to))
    }

    /// Queues something behind what is on its way from one node to another. What a cut swallows
    /// is gone, as its link will be.
    fn carry(&mut self, from: usize, to: usize, input: Input) {
        if self.is_cut(from, to) {
            return;
        }
        let arrives = self.now + self.dice.ms(1, 8);
        let last = self.fifo.get(&(from, to)).copied().unwrap_or(arrives);
        let arrives = arrives.max(last);
        self.fifo.insert((from, to), arrives);
        self.count += 1;
        self.queue.insert((arrives, self.count), (to, input));
    }

    /// Whether a link between a node and that run stands.
    fn is_linked(&self, index: usize, run: NodeRun) -> bool {
        let other = self.nodes.iter().position(|node| node.me.run() == run);
        other.is_some_and(|other| self.links.contains_key(&Self::pair(index, other)))
    }

    fn unlink(&mut self, a: usize, b: usize) {
        let Some(link) = self.links.remove(&Self::pair(a, b)) else {
            return;
        };
        self.traffic.retain(|(number, _), _| *number != link);
        for (at, other) in [(a, b), (b, a)] {
            let run = self.nodes[other].me.run();
            self.nodes[at].unused.remove(&run);
            if self.nodes[at].alive {
                self.push(Duration::from_millis(1), at, Input::Event(Event::Unlinked { run }));
                if self.nodes[at].wanted.contains(&self.nodes[other].me.id) {
                    self.dial(at, other, Duration::from_millis(50));
                }
            }
        }
        for index in 0..self.nodes.len() {
            self.check_paths(index);
        }
    }

    /// The link to a node and the link from there to another, if both stand.
    fn path(&self, index: usize, to: NodeRun, by: NodeRun) -> Option<[(usize, usize); 2]> {
        let (to, by) = (self.index_of(to.node)?, self.index_of(by.node)?);
        let hops = [(index, by), (by, to)];
        hops.iter().all(|(a, b)| self.links.contains_key(&Self::pair(*a, *b))).then_some(hops)
    }

    /// Tells a node which of its paths are no more.
    fn check_paths(&mut self, index: usize) {
        let paths = self.nodes[index].paths.clone();
        for (to, by) in paths {
            if self.path(index, to, by).is_none() {
                self.nodes[index].paths.remove(&to);
                let event = Event::PathLost { to, by };
                self.push(Duration::from_millis(2), index, Input::Event(event));
            }
        }
    }

    fn hello(&self, from: usize, to: usize) -> Hello {
        let node = &self.nodes[from];
        let peer = self.nodes[to].me.id;
        Hello {
            version: WIRE_VERSION,
            hub: HubName::new("sim").expect("a valid name"),
            me: node.me.clone(),
            fenced: node.fenced.iter().find(|(id, _)| *id == peer).map(|(_, life)| *life),
            known: node.known.clone(),
            dialled: None,
            seen: None,
            up: 0,
            linked: false,
        }
    }

    fn dialled(&mut self, from: usize, to: usize) {
        if self.links.contains_key(&Self::pair(from, to)) {
            return;
        }
        let peer = self.nodes[to].me.id;
        let again = self.nodes[from].wanted.contains(&peer);
        if !self.nodes[to].alive {
            self.push(
                Duration::ZERO,
                from,
                Input::Event(Event::Unreachable { node: peer, refused: true }),
            );
            if again {
                self.dial(from, to, Duration::from_millis(300));
            }
            return;
        }
        if self.is_cut(from, to) || self.is_cut(to, from) || self.nodes[to].paused_until.is_some() {
            if again {
                self.dial(from, to, Duration::from_millis(300));
            }
            return;
        }
        for (a, b) in [(from, to), (to, from)] {
            let hello = self.hello(a, b);
            if let Some(life) = hello.fenced
                && life >= self.nodes[b].me.incarnation
            {
                self.push(Duration::ZERO, b, Input::Event(Event::Fenced { incarnation: life }));
                self.dial(from, to, Duration::from_millis(100));
                return;
            }
        }
        self.count += 1;
        let link = self.count;
        self.links.insert(Self::pair(from, to), link);
        self.traffic.extend([((link, from), Traffic::default()), ((link, to), Traffic::default())]);
        for (a, b) in [(from, to), (to, from)] {
            let hello = self.hello(a, b);
            self.carry(a, b, Input::Word { link, event: Event::Linked { hello, local: true } });
        }
    }

    /// Something arrives over a link. `false`: that link is no more.
    fn came(&mut self, link: u64, index: usize) -> bool {
        let traffic = self.traffic.get_mut(&(link, index));
        traffic.map(|traffic| traffic.came += 1).is_some()
    }

    /// A state is on its way for so long, ahead of all words that are said meanwhile.
    fn carry_long_state(&mut self, from: usize, to: usize, takes: Duration) {
        let link = self.links[&Self::pair(from, to)];
        let end = self.now + takes;
        let mut after = Duration::ZERO;
        while after < takes {
            self.push(after, to, Input::Piece { link });
            after += Duration::from_millis(100);
        }
        let last = self.fifo.get(&(from, to)).copied().unwrap_or(end);
        self.fifo.insert((from, to), end.max(last));
    }

    fn input(&mut self, index: usize, input: Input) {
        if !self.nodes[index].alive {
            return;
        }
        if self.nodes[index].paused_until.is_some() {
            self.nodes[index].backlog.push_back(input);
            return;
        }
        let event = match input {
            Input::Event(event) => event,
            Input::Word { link, event } => {
                if !self.came(link, index) {
                    return;
                }
                event
            }
            Input::Piece { link } => {
                self.came(link, index);
                return;
            }
            Input::Bulk { link, header, from, state } => {
                if !self.came(link, index) {
                    return;
                }
                let key = (header.child().clone(), header.epoch());
                if let BulkHeader::Parked { info, .. } = &header {
                    let came = &mut self.nodes[index].runtime.parked_came;
                    came.insert((info.key.clone(), from), (info.clone(), state));
                    let event = Event::Bulk { from, header, size: 8 };
                    self.nodes[index].engine.handle(self.now, event);
                    self.drain(index);
                    return;
                }
                let bytes = &mut self.nodes[index].runtime.bytes;
                // One of another node stands at the same epoch: this one is sent again.
                if bytes.get(&key).is_some_and(|(sender, _)| *sender != from) {
                    return;
                }
                bytes.insert(key, (from, state));
                Event::Bulk { from, header, size: 8 }
            }
            Input::Dial { to } => {
                self.dialled(index, to);
                return;
            }
            Input::Runtime(report) => {
                if let ChildReport::Merged { child, epoch, outcome: Ok(()) } = &report {
                    self.nodes[index].runtime.bytes.remove(&(child.clone(), *epoch));
                }
                Event::Child(report)
            }
        };
        self.nodes[index].engine.handle(self.now, event);
        self.drain(index);
    }

    fn drain(&mut self, index: usize) {
        while let Some(effect) = self.nodes[index].engine.next_effect() {
            self.perform(index, effect);
        }
    }

    fn perform(&mut self, index: usize, effect: Effect) {
        if self.trace {
            eprintln!("{:?} n{index} {effect:?}", self.now - self.began);
        }
        match effect {
            Effect::Send { to, mut message } | Effect::Probe { to, mut message } => {
                self.nodes[index].lie_in(&mut message);
                if self.mute.contains(&index) && !matches!(message, PeerMessage::Member(_)) {
                    return;
                }
                let Some(to) = self.index_of(to) else { return };
                let Some(link) = self.links.get(&Self::pair(index, to)).copied() else { return };
                let from = self.nodes[index].me.run();
                self.carry(index, to, Input::Word { link, event: Event::Peer { from, message } });
            }
            Effect::Connect { node, .. } => {
                self.nodes[index].wanted.insert(node);
                if let Some(to) = self.index_of(node) {
                    self.dial(index, to, Duration::ZERO);
                }
            }
            Effect::Silent { node, addresses } => {
                let link =
                    self.index_of(node).and_then(|to| self.links.get(&Self::pair(index, to)));
                let traffic = link.and_then(|link| self.traffic.get_mut(&(*link, index)));
                let Some(traffic) = traffic else { return };
                if traffic.looked_at.replace(traffic.came) == Some(traffic.came) {
                    self.perform(index, Effect::Disconnect { node, reason: String::new() });
                    self.perform(index, Effect::Connect { node, addresses });
                }
            }
            Effect::Disconnect { node, .. } => {
                self.nodes[index].wanted.remove(&node);
                if let Some(to) = self.index_of(node) {
                    self.unlink(index, to);
                }
            }
            Effect::Announce { me, known, fenced } => {
                let node = &mut self.nodes[index];
                node.me = me;
                node.known = known;
                node.fenced = fenced;
            }
            Effect::Child(order) => self.child(index, order),
            Effect::Parked(order) => self.parked(index, order),
            Effect::Route { child, route } => {
                let routes = &mut self.nodes[index].routes;
                match route {
                    Some(route) => routes.insert(child, route),
                    None => routes.remove(&child),
                };
            }
            Effect::Located { child, .. } | Effect::NotStarted { child, .. } => {
                assert!(
                    self.nodes[index].locating.remove(&child),
                    "seed {}: n{index} was answered about {child} and had not asked",
                    self.seed
                );
            }
            Effect::LocateOver { child } => {
                assert!(self.nodes[index].locating.remove(&child), "seed {}: {child}", self.seed);
                self.nodes[index].unanswered += 1;
            }
            Effect::Gates { valid } => self.nodes[index].valid = valid,
            Effect::DrainLinks { .. } => {
                let wait = self.dice.ms(1, 20);
                self.push(wait, index, Input::Event(Event::LinksDrained));
            }
            Effect::Reply { request, reply } => {
                if matches!(reply, Reply::Left(Ok(()))) {
                    self.nodes[index].left = true;
                }
                self.nodes[index].replies.insert(request, reply);
            }
            Effect::Emit(HubEvent::HandoverStarted { child, epoch, .. }) => {
                let now = self.now;
                self.nodes[index].attempts.entry(child.clone()).or_default().push(now);
                let first = self.nodes[index].handovers.insert((child.clone(), epoch));
                assert!(first, "seed {}: {child} began one move twice", self.seed);
            }
            Effect::Emit(HubEvent::HandedOver { child, epoch, .. }) => {
                self.nodes[index].handovers.remove(&(child, epoch));
            }
            Effect::Emit(HubEvent::HandoverFailed { child, epoch, may_have_run, .. }) => {
                *self.nodes[index].failures.entry(child.clone()).or_default() += 1;
                if may_have_run {
                    self.nodes[index].may_have_run.insert(child.clone());
                }
                // One that was refused had not started.
                self.nodes[index].handovers.remove(&(child, epoch));
            }
            Effect::Emit(HubEvent::ChildStopped { .. }) if self.refuse_starts => {
                panic!("seed {}: what never ran cannot stop", self.seed);
            }
            Effect::Emit(HubEvent::Recovered { with_state: true, .. }) => {
                self.nodes[index].recovered += 1;
            }
            Effect::Emit(HubEvent::LeaveFailed { .. }) => self.nodes[index].stayed += 1,
            Effect::Emit(HubEvent::WordsRefused { node, reason }) => {
                self.nodes[index].faults.push((node, reason));
            }
            Effect::Emit(HubEvent::Unsettled { reason }) => {
                self.nodes[index].unsettled.push(reason);
            }
            Effect::Observed { from, way, word } => {
                self.nodes[index].observed.push((from, way, word));
            }
            Effect::Path { to, by: None } => {
                self.nodes[index].paths.remove(&to);
            }
            Effect::Path { to, by: Some(by) } => {
                self.nodes[index].paths.insert(to, by);
                self.nodes[index].detours += 1;
                self.check_paths(index);
            }
            Effect::Gone { run, .. } => {
                let is_linked = self.is_linked(index, run);
                let node = &mut self.nodes[index];
                node.gone.push(run);
                if is_linked {
                    node.unused.insert(run);
                }
            }
            Effect::Unmet { run } => {
                if !self.is_linked(index, run) {
                    self.nodes[index].gone.push(run);
                }
            }
            Effect::Subscribed { run, changes, .. } => {
                let known = self.nodes[index].subscribed.entry(run).or_default();
                for change in changes {
                    match change.subscribed {
                        true => known.insert(change.topic),
                        false => known.remove(&change.topic),
                    };
                }
            }
            Effect::Unsubscribed { run } => drop(self.nodes[index].subscribed.remove(&run)),
            Effect::Sighted { child, sighting, .. } => {
                self.nodes[index].sighted.entry(child).or_default().push(sighting);
            }
            Effect::Members { .. } | Effect::Emit(_) => {}
        }
    }

    fn report(&mut self, index: usize, report: ChildReport) {
        let (least, most) = match report {
            ChildReport::Started { .. } | ChildReport::Opened { .. } => self.start_ms,
            ChildReport::Merged { .. } => self.merge_ms,
            _ => (0, 10),
        };
        let wait = self.dice.ms(least, most);
        self.push(wait, index, Input::Runtime(report));
    }

    fn send_state(&mut self, index: usize, header: BulkHeader, to: NodeRun, state: State) {
        let from = self.nodes[index].me.run();
        let target = self.index_of(to.node);
        let hops = match self.nodes[index].paths.get(&to) {
            Some(by) => self.path(index, to, *by).map(Vec::from),
            None => target.map(|to| vec![(index, to)]),
        };
        let link = |(a, b): &(usize, usize)| self.links.get(&Self::pair(*a, *b)).copied();
        let last = hops.as_ref().and_then(|hops| hops.last()).and_then(link);
        match (target, last) {
            (Some(to), Some(link)) => {
                // A bulk transfer is not in order with words: it goes by a clock of its own.
                if !hops.iter().flatten().any(|(a, b)| self.is_cut(*a, *b)) {
                    let wait = self.dice.ms(self.bulk_ms.0, self.bulk_ms.1);
                    self.push(wait, to, Input::Bulk { link, header, from, state });
                }
            }
            _ => {
                let (child, epoch) = (header.child().clone(), header.epoch());
                let reason = "no link".to_owned();
                let event = match header {
                    BulkHeader::Parked { info, purpose } => {
                        Event::ParkedNotSent { key: info.key, to, purpose }
                    }
                    _ => Event::BulkFailed { child, epoch, reason },
                };
                self.push(Duration::from_millis(1), index, Input::Event(event));
            }
        }
    }

    fn child(&mut self, index: usize, order: ChildOrder) {
        let fault = self.faulty && self.dice.one_in(6);
        let retention = FreezeFailure::Retention { unresolved: 1, longest: SECOND };
        let stuck =
            matches!(&order, ChildOrder::Freeze { child, .. } if self.stuck.contains(child));
        let unfreezable = self.unfreezable.clone().or(stuck.then_some(retention));
        let cannot = self.cannot.get(&index).copied();
        let Node { engine, runtime, .. } = &mut self.nodes[index];
        let starts = matches!(&order, ChildOrder::Thaw { child, .. } if matches!(
            engine.children.instance(child).map(Instance::phase),
            Some(Phase::Starting { .. })
        ));
        match order {
            ChildOrder::Start { spec, epoch, .. } => {
                let child = spec.id().clone();
                self.starts.entry((index, child.clone())).or_default().push(self.now);
                if self.refuse_starts || cannot.is_some() || self.kindless.contains(&index) {
                    let outcome = Err("it does not want to".to_owned());
                    self.report(index, ChildReport::Started { child, epoch, outcome });
                    return;
                }
                let actor = Actor { epoch, gate: Gate::Open, state: State::new() };
                runtime.actors.insert(child.clone(), actor);
                self.report(index, ChildReport::Started { child, epoch, outcome: Ok(()) });
            }
            ChildOrder::Freeze { child, epoch, .. } => {
                let outcome = match runtime.actors.get_mut(&child) {
                    Some(actor) => {
                        actor.gate = Gate::Closed;
                        if let Some(failure) = unfreezable {
                            Err(failure)
                        } else if fault {
                            Err(FreezeFailure::Retention { unresolved: 1, longest: SECOND })
                        } else {
                            Ok(8)
                        }
                    }
                    None => Err(FreezeFailure::Gone),
                };
                self.report(index, ChildReport::Frozen { child, epoch, outcome });
            }
            ChildOrder::Thaw { child, epoch } => match runtime.actors.get_mut(&child) {
                Some(actor) => {
                    actor.gate = Gate::Open;
                    actor.epoch = epoch;
                }
                // It could not start, and its engine has not heard of it yet.
                None => assert!(starts, "seed {}: {child} goes on and is not there", self.seed),
            },
            ChildOrder::Wait { child, .. } | ChildOrder::GiveUp { child, .. } => {
                // What is left of a start that failed.
                let actor = runtime.actors.get(&child);
                assert!(actor.is_none(), "seed {}: {child} waits and has an actor", self.seed);
            }
            ChildOrder::SendState { child, epoch, to } => {
                let Some(actor) = runtime.actors.get(&child) else { return };
                assert_eq!(actor.gate, Gate::Closed, "only a held state may be sent");
                let state = actor.state.clone();
                let header = BulkHeader::State {
                    child,
                    epoch,
                    state_version: 1,
                    lanes: Vec::new(),
                    marks: 0,
                };
                self.send_state(index, header, to, state);
            }
            ChildOrder::Build { spec, epoch, with_state, .. } => {
                let child = spec.id().clone();
                let key = (child.clone(), epoch);
                let outcome = match runtime.bytes.get(&key) {
                    _ if cannot == Some(Cannot::Make) => {
                        Err(BuildFailure::passing("it cannot be made"))
                    }
                    Some(_) if cannot == Some(Cannot::Read) => {
                        Err(BuildFailure::lasting("it cannot be read"))
                    }
                    None if !with_state => {
                        runtime.built.insert(key, State::new());
                        Ok(())
                    }
                    Some(_) if fault => Err(BuildFailure::passing("it panicked")),
                    Some((_, state)) => {
                        let state = state.clone();
                        runtime.built.insert(key, state);
                        Ok(())
                    }
                    None => Err(BuildFailure::passing("no state")),
                };
                self.report(index, ChildReport::Built { child, epoch, outcome });
            }
            ChildOrder::Discard { child, epoch } => {
                runtime.built.remove(&(child.clone(), epoch));
                runtime.bytes.remove(&(child, epoch));
            }
            ChildOrder::Open { child, built, epoch } => {
                let state = runtime.built.remove(&(child.clone(), built));
                let outcome = match state {
                    Some(_) if fault || cannot == Some(Cannot::Start) => {
                        Err("started panicked".to_owned())
                    }
                    Some(state) => {
                        runtime.bytes.remove(&(child.clone(), built));
                        let old = runtime
                            .actors
                            .insert(child.clone(), Actor { epoch, gate: Gate::Open, state });
                        assert!(old.is_none(), "seed {}: two of {child} on a node", self.seed);
                        Ok(())
                    }
                    None => Err("nothing was built".to_owned()),
                };
                self.report(index, ChildReport::Opened { child, epoch, outcome });
            }
            ChildOrder::MovedAway { child, .. } => {
                if let Some(actor) = runtime.actors.get_mut(&child) {
                    actor.gate = Gate::Moved;
                }
            }
            ChildOrder::End { child } => {
                runtime.actors.remove(&child);
            }
            ChildOrder::Stop { child, epoch } => {
                runtime.actors.remove(&child);
                self.report(index, ChildReport::Stopped { child, epoch });
            }
            ChildOrder::Rest { child, epoch } => {
                let Some(actor) = runtime.actors.get_mut(&child) else { return };
                actor.gate = Gate::Closed;
                let outcome = unfreezable.map_or(Ok(8), Err);
                self.report(index, ChildReport::Tried { child, epoch, outcome });
            }
            ChildOrder::SendDiverged { child, epoch, to, life } => {
                let Some(actor) = runtime.actors.get_mut(&child) else { return };
                actor.gate = Gate::Closed;
                if let Some(failure) = unfreezable {
                    let outcome = Err(failure);
                    return self.report(index, ChildReport::Tried { child, epoch, outcome });
                }
                let state = actor.state.clone();
                let header = BulkHeader::Diverged { child, epoch, state_version: 1, life };
                self.send_state(index, header, to, state);
            }
            ChildOrder::Merge { child, epoch } => {
                let other = runtime.bytes.get(&(child.clone(), epoch)).cloned();
                let outcome = match (runtime.actors.get_mut(&child), other) {
                    (Some(_), Some(_)) if self.unmerged => {
                        Err("its kind does not merge".to_owned())
                    }
                    (Some(actor), Some((from, other))) => {
                        actor.state.extend(other);
                        let key = (index, child.clone(), from, epoch);
                        *self.merges.entry(key).or_default() += 1;
                        Ok(())
                    }
                    _ => Err("nothing to merge".to_owned()),
                };
                self.report(index, ChildReport::Merged { child, epoch, outcome });
            }
            ChildOrder::ParkBuilt { key, kind, built, reason } => {
                let arrived = runtime.bytes.remove(&(key.child.clone(), built));
                let state = runtime.built.remove(&(key.child.clone(), built));
                let state = state.or(arrived.map(|(_, state)| state));
                let event = match state {
                    Some(state) => parked::hold(runtime, key, kind, reason, state),
                    None => Event::NotParked { key, reason: "it is gone".to_owned() },
                };
                self.push(Duration::ZERO, index, Input::Event(event));
            }
            ChildOrder::ParkFrozen { key, kind, reason, .. } => {
                let frozen = |actor: &&Actor| actor.gate == Gate::Closed;
                let state = runtime.actors.get(&key.child).filter(frozen);
                let event = match state.map(|actor| actor.state.clone()) {
                    Some(state) => parked::hold(runtime, key, kind, reason, state),
                    None => Event::NotParked { key, reason: "it is gone".to_owned() },
                };
                self.push(Duration::ZERO, index, Input::Event(event));
            }
            ChildOrder::Apply { key, from, exchange, .. } => {
                self.apply(index, key, from, exchange);
            }
            ChildOrder::Park { key, kind, reason } => {
                let arrived = runtime.bytes.remove(&(key.child.clone(), key.epoch));
                let event = match arrived {
                    Some((_, state)) => parked::hold(runtime, key, kind, reason, state),
                    None => Event::NotParked { key, reason: "it is gone".to_owned() },
                };
                self.push(Duration::ZERO, index, Input::Event(event));
            }
        }
    }

    /// A client on some node writes to some child, through its node's route.
    fn write(&mut self) {
        if self.children.is_empty() {
            return;
        }
        let client = self.dice.below(self.nodes.len() as u64) as usize;
        let child = self.children[self.dice.below(self.children.len() as u64) as usize].clone();
        let node = &self.nodes[client];
        if !node.alive || node.paused_until.is_some() {
            return;
        }
        let Some(route) = node.routes.get(&child).copied() else { return };
        let Some(owner) = self.index_of(route.owner.node) else { return };
        if owner != client && (self.is_cut(owner, client) || self.is_cut(client, owner)) {
            return;
        }
        let owner = &mut self.nodes[owner];
        if !owner.alive || owner.paused_until.is_some() || !owner.valid {
            return;
        }
        if let Some(actor) = owner.runtime.actors.get_mut(&child)
            && actor.gate == Gate::Open
            && route.epoch <= actor.epoch
        {
            self.updates += 1;
            actor.state.insert(self.updates);
            self.acked.entry(child).or_default().insert(self.updates);
        }
    }

    /// Lets time pass.
    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let next = self.queue.keys().next().map(|(at, _)| *at);
            let wake = self
                .nodes
                .iter()
                .filter(|node| node.alive && node.paused_until.is_none())
                .filter_map(|node| node.engine.deadline())
                .min();
            let resume = self.nodes.iter().filter_map(|node| node.paused_until).min();
            let next = [next, wake, resume].into_iter().flatten().min().unwrap_or(end);
            if next >= end {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            self.step();
        }
    }

    fn step(&mut self) {
        if let Some(entry) = self.queue.first_entry()
            && entry.key().0 <= self.now
        {
            let (index, input) = entry.remove();
            self.input(index, input);
        }
        for index in 0..self.nodes.len() {
            let node = &mut self.nodes[index];
            if node.paused_until.is_some_and(|until| until <= self.now) {
                node.paused_until = None;
                let backlog = std::mem::take(&mut node.backlog);
                for input in backlog {
                    self.input(index, input);
                }
            }
            let node = &self.nodes[index];
            if node.alive
                && node.paused_until.is_none()
                && node.engine.deadline().is_some_and(|at| at <= self.now)
            {
                self.nodes[index].engine.handle(self.now, Event::Tick);
                self.drain(index);
            }
        }
        if self.dice.one_in(3) {
            self.write();
        }
        self.check_owners();
        self.check_members();
        if self.next_look <= self.now {
            self.next_look = self.now + Duration::from_millis(100);
            self.check_yields();
            self.check_ways();
        }
    }

    /// Nobody yields to somebody who yields, but for as long as words are on their way.
    fn check_yields(&mut self) {
        let yields = |index: usize, child: &ChildId| {
            let node = &self.nodes[index];
            match *node.engine.children.instance(child)?.phase() {
                Phase::Yielding { to, .. } if node.alive && node.engine.core.is_live(to.run) => {
                    self.index_of(to.run.node)
                }
                _ => None,
            }
        };
        let mut at_odds = BTreeMap::new();
        for index in 0..self.nodes.len() {
            for (child, _) in self.nodes[index].engine.children.instances() {
                let Some(other) = yields(index, child).filter(|other| *other > index) else {
                    continue;
                };
                if yields(other, child) == Some(index) && self.links.contains_key(&(index, other)) {
                    let key = (child.clone(), index, other);
                    let since = self.at_odds.get(&key).copied().unwrap_or(self.now);
                    let seed = self.seed;
                    assert!(
                        self.now.saturating_duration_since(since) < AT_ODDS,
                        "seed {seed}: n{index} and n{other} yield {child} to each other"
                    );
                    at_odds.insert(key, since);
                }
            }
        }
        self.at_odds = at_odds;
    }

    /// An actor panics. `false`: there is none that has told that it runs.
    fn panic_child(&mut self, index: usize, child: &ChildId) -> bool {
        match self.nodes[index].engine.children.instance(child).map(Instance::phase) {
            None | Some(Phase::Starting { .. }) => return false,
            Some(_) => {}
        }
        let Some(actor) = self.nodes[index].runtime.actors.remove(child) else { return false };
        // What it told before came before; what it did not tell, it never does.
        self.queue.retain(|_, (to, input)| {
            let merged = matches!(input, Input::Runtime(ChildReport::Merged { child: of, .. })
                if of == child);
            !(*to == index && merged)
        });
        let exit = Exit::Panicked { message: "on purpose".to_owned() };
        let report = ChildReport::Exited { child: child.clone(), epoch: actor.epoch, exit };
        self.input(index, Input::Runtime(report));
        true
    }

    /// Two that have settled and hold each other have one view, and who has not settled yet hosts
    /// nothing.
    fn check_members(&self) {
        for (index, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.alive) {
            let core = &node.engine.core;
            let hosts = !node.runtime.actors.is_empty();
            let is_proven = node.engine.membership.is_proven() || node.left;
            assert!(is_proven || !hosts, "seed {}: n{index} hosts while it waits", self.seed);
            if !core.settled {
                continue;
            }
            for other in self.nodes[index + 1..].iter().filter(|other| other.alive) {
                let theirs = &other.engine.core;
                let hold = core.is_live(theirs.me) && theirs.is_live(core.me);
                assert!(
                    !hold || !theirs.settled || core.view_id == theirs.view_id,
                    "seed {}: {:?} and {:?} have settled on different views",
                    self.seed,
                    core.view,
                    theirs.view
                );
            }
        }
    }

    /// Messages go the way that everybody would choose who looked now: nothing that ways depend on changes
    /// without a look at them.
    fn check_ways(&self) {
        for (index, node) in self.nodes.iter().enumerate() {
            let is_due = node.engine.deadline().is_some_and(|at| at <= self.now);
            if node.alive && !is_due && !membership::is_many(self.nodes.len()) {
                let (seed, is_stale) = (self.seed, node.engine.has_stale_ways());
                assert!(!is_stale, "seed {seed}: n{index} would reach somebody in another way");
            }
        }
    }

    /// Neither of the two ever hears the other over a link of their own.
    fn never_link(&mut self, a: usize, b: usize) {
        self.cuts.extend([(a, b), (b, a)]);
    }

    fn check_owners(&self) {
        if !self.calm {
            return;
        }
        let mut owners: BTreeMap<&ChildId, usize> = BTreeMap::new();
        for node in self.nodes.iter().filter(|node| node.alive) {
            for (child, actor) in &node.runtime.actors {
                if actor.gate == Gate::Open {
                    *owners.entry(child).or_default() += 1;
                }
            }
        }
        for (child, count) in owners {
            assert!(count <= 1, "seed {}: {child} has {count} owners", self.seed);
        }
    }

    fn request(&mut self, index: usize, request: Request) -> RequestId {
        self.requests += 1;
        let id = RequestId(self.requests);
        self.nodes[index].engine.handle(self.now, Event::Request { id, request });
        self.drain(index);
        id
    }

    fn start(&mut self, index: usize, names: std::ops::Range<usize>) -> RequestId {
        let specs: Vec<_> = names
            .map(|n| {
                let id = ChildId::new(format!("c{n}")).expect("a valid id");
                if !self.children.contains(&id) {
                    self.children.push(id.clone());
                }
                Arc::new(ChildSpec::from_parts(id, kind(), Bytes::new()))
            })
            .collect();
        let timeout = Duration::from_secs(30);
        let on_failure = OnFailure::Continue;
        self.request(index, Request::Start { specs, on_failure, timeout })
    }

    fn crash(&mut self, index: usize) {
        self.nodes[index].alive = false;
        for other in 0..self.nodes.len() {
            if other != index {
                self.unlink(index, other);
            }
        }
    }

    fn cut(&mut self, side: &BTreeSet<usize>) {
        for a in 0..self.nodes.len() {
            for b in 0..self.nodes.len() {
                if side.contains(&a) != side.contains(&b) {
                    self.cuts.insert((a, b));
                }
            }
        }
    }

    fn heal(&mut self) {
        let cuts = std::mem::take(&mut self.cuts);
        // What a cut swallowed has broken the byte stream.
        for (a, b) in cuts {
            self.unlink(a, b);
        }
    }

    fn alive(&self) -> Vec<usize> {
        (0..self.nodes.len())
            .filter(|index| self.nodes[*index].alive && !self.nodes[*index].left)
            .collect()
    }

    /// Everybody agrees, nothing is under way, each child has one owner that has its state.
    fn check_end(&self, complete: bool) {
        let seed = self.seed;
        let alive = self.alive();
        let view = self.nodes[alive[0]].engine.view().id();
        for index in &alive {
            let engine = &self.nodes[*index].engine;
            assert_eq!(engine.view().members.len(), alive.len(), "seed {seed}: view of n{index}");
            assert_eq!(engine.view().id(), view, "seed {seed}: view of n{index}");
            for member in engine.view().members.values() {
                let node = self.index_of(member.id).map(labels);
                assert_eq!(Some(&member.labels), node.as_ref(), "seed {seed}: as n{index} knows");
            }
            assert!(engine.is_settled(), "seed {seed}: n{index} is not settled");
            assert!(engine.is_synced(), "seed {seed}: n{index} is settled and not synced");
            let unused = &self.nodes[*index].unused;
            let members = unused.iter().find(|run| engine.view().is_live(**run));
            assert_eq!(
                members, None,
                "seed {seed}: n{index} was told that it is out, and has it in"
            );
            let open = &self.nodes[*index].handovers;
            assert!(open.is_empty(), "seed {seed}: n{index} never told the end of {open:?}");
        }
        for child in &self.children {
            let holders: Vec<usize> = alive
                .iter()
                .copied()
                .filter(|index| self.nodes[*index].runtime.actors.contains_key(child))
                .collect();
            if self.removed.contains(child) {
                assert!(holders.is_empty(), "seed {seed}: {child} was removed, is on {holders:?}");
                continue;
            }
            assert_eq!(holders.len(), 1, "seed {seed}: {child} is on {holders:?}");
            for index in &alive {
                let binds = self.nodes[*index].engine.core.promises.binds(child);
                assert!(
                    !binds,
                    "seed {seed}: n{index} has promised {child} and waits for an owner"
                );
            }
            let actor = &self.nodes[holders[0]].runtime.actors[child];
            assert_eq!(actor.gate, Gate::Open, "seed {seed}: {child}");
            let children = &self.nodes[holders[0]].engine.children;
            let phase = children.instance(child).expect("it is here").phase();
            assert!(matches!(phase, Phase::Running), "seed {seed}: {child} is {phase:?}");
            for index in &alive {
                let route = self.nodes[*index].routes.get(child);
                let owner = route.map(|route| route.owner.node);
                let expected = self.nodes[holders[0]].me.id;
                assert_eq!(owner, Some(expected), "seed {seed}: route of {child} at n{index}");
                let epoch = route.map(|route| route.epoch);
                assert_eq!(epoch, Some(actor.epoch), "seed {seed}: epoch of {child} at n{index}");
            }
            if complete {
                let acked = self.acked.get(child).cloned().unwrap_or_default();
                let lost = acked.difference(&actor.state).count();
                assert_eq!(lost, 0, "seed {seed}: {child} lost acknowledged updates");
                assert_eq!(actor.state.len(), acked.len(), "seed {seed}: {child} has too many");
            }
        }
    }

    /// Who owns a child, as this node knows.
    fn owner(&self, index: usize, child: &ChildId) -> Option<usize> {
        let (run, _) = self.nodes[index].engine.registry().owner(child)?;
        self.index_of(run.node)
    }

    /// Which node runs a child.
    fn runner(&self, child: &ChildId) -> Option<usize> {
        (0..self.nodes.len()).find(|index| {
            self.nodes[*index].alive && self.nodes[*index].runtime.actors.contains_key(child)
        })
    }

    fn started(&self, index: usize, id: RequestId) -> usize {
        match self.nodes[index].replies.get(&id) {
            Some(Reply::Started(report)) => report.started(),
            other => panic!("seed {}: {other:?}", self.seed),
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn seeds(count: u64) -> impl Iterator<Item = u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("SIM_SEED");
    let count = number("SIM_SEEDS").unwrap_or(count);
    let replayed = first.into_iter();
    let fresh = if first.is_some() { 0..0 } else { 0..count };
    replayed.chain(fresh.map(|n| n.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ n))
}

fn cluster(seed: u64, nodes: usize, children: usize) -> World {
    let mut world = World::new(seed, nodes);
    world.run_for(3 * SECOND);
    let id = world.start(nodes - 1, 0..children);
    world.run_for(2 * SECOND);
    assert_eq!(world.started(nodes - 1, id), children, "seed {seed}");
    world.check_end(true);
    world
}

/// Asks on a node where a child is, as its doors do.
fn locate(world: &mut World, index: usize, child: &ChildId) {
    if world.nodes[index].locating.insert(child.clone()) {
        world.input(index, Input::Event(Event::Locate { child: child.clone(), start: None }));
    }
}

/// Asks on all ways, like the hub; how often the question came.
fn look(world: &mut World, asker: usize, asked: usize, request: u64) -> usize {
    let to = world.nodes[asked].me.run();
    let ask = ObserveWord::Ask { request, question: Question::Node { links: false } };
    for way in world.nodes[asker].engine.ways_to(to.node) {
        world.nodes[asker].engine.observe(to, way, ask.clone());
    }
    world.drain(asker);
    world.run_for(SECOND);
    let from = world.nodes[asker].me.run();
    let came = world.nodes[asked].observed.iter();
    came.filter(|(by, _, word)| *by == from && *word == ask).count()
}

/// One child, and of three nodes: the one that runs it, one that does not, and its home's run.
fn one_child(seed: u64) -> (World, ChildId, usize, usize, NodeRun) {
    let world = cluster(seed, 3, 1);
    let child = world.children[0].clone();
    let at = (0..3)
        .find(|index| world.nodes[*index].runtime.actors.contains_key(&child))
        .expect("somebody runs it");
    let home = world.nodes[0].engine.core.home(&child).expect("there is one");
    let home = world.index_of(home).expect("it is a node");
    let other = (0..3).find(|index| *index != at && *index != home).expect("there are three");
    let run = world.nodes[home].me.run();
    (world, child, at, other, run)
}

/// One child is sent from its owner to another node, until the target is `there` with it.
fn moving(seed: u64, there: impl Fn(&Runtime) -> bool) -> (World, usize, usize) {
    let mut world = cluster(seed, 3, 1);
    world.run_for(SECOND);
    let child = world.children[0].clone();
    let source = (0..3)
        .find(|index| world.nodes[*index].runtime.actors.contains_key(&child))
        .expect("somebody runs it");
    let target = (source + 1) % 3;
    let to = world.nodes[target].me.id;
    let timeout = 5 * SECOND;
    world.request(2, Request::Migrate { child, to, forced: false, timeout });
    for _ in 0..20_000 {
        if there(&world.nodes[target].runtime) {
            return (world, source, target);
        }
        world.run_for(Duration::from_micros(100));
    }
    panic!("seed {seed}: the state never arrived");
}

/// Children start on whatever node is asked, within this time.
fn expect_start(world: &mut World, index: usize, names: std::ops::Range<usize>) {
    let count = names.len();
    let id = world.start(index, names);
    world.run_for(2 * SECOND);
    let seed = world.seed;
    assert!(world.nodes[index].replies.contains_key(&id), "seed {seed}: n{index} did not answer");
    assert_eq!(world.started(index, id), count, "seed {seed}");
}
