//! What steps of the engine cost: whole clusters of engines, without actors, sockets or waiting.
//!
//! Compiled with the feature `bench-internals` alone, for `benches/engine.rs`: the engine is no part of
//! the public API.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    Engine,
    distribution::ConsistentHashing,
    io::{
        ChildOrder, ChildReport, Effect, EngineConfig, Event, KindInfo, LeaveFailed, Reply, Request,
    },
    membership::founding::Founding,
    partition::Divergence,
    redundancy::Singularity,
};
use crate::model::{
    access::AccessList,
    child::ChildSpec,
    id::{ChildId, HubName, Incarnation, KindName, NodeId, NodeName, RequestId},
    member::{Hello, Member, WIRE_VERSION},
    message::BulkHeader,
    settings::{OnFailure, Settings},
};

/// Children of one request.
const BATCH: usize = 1_000;
/// A step that takes longer, in the cluster's own time, does not end.
const LONGEST: Duration = Duration::from_secs(3_600);
/// For how long nothing may happen to any child, in the cluster's own time, for a step to be over.
const QUIET: Duration = Duration::from_secs(2);

/// What one step has cost all engines together.
#[derive(Clone, Debug)]
pub struct StepCost {
    /// Which step.
    pub step: &'static str,
    /// How many children it was about.
    pub children: usize,
    /// Events that engines took in for it.
    pub events: u64,
    /// The time of all of them.
    pub total: Duration,
    /// The time of the longest.
    pub worst: Duration,
}

struct Node {
    engine: Engine,
    me: Member,
    is_alive: bool,
    replies: BTreeMap<RequestId, Reply>,
}

struct Cluster {
    /// Tells the time that engines take; theirs is another.
    clock: fn() -> Instant,
    began: Instant,
    now: Instant,
    nodes: Vec<Node>,
    links: BTreeSet<(usize, usize)>,
    queue: VecDeque<(usize, Event)>,
    requests: u64,
    /// When anything was last done to a child.
    last_order: Instant,
    cost: StepCost,
}

fn kind() -> KindName {
    KindName::new("bench").expect("a valid name")
}

impl Cluster {
    /// Nodes with these weights, of which the first founds the cluster.
    fn new(clock: fn() -> Instant, weights: &[u32]) -> Self {
        let now = clock();
        let cost = StepCost {
            step: "",
            children: 0,
            events: 0,
            total: Duration::ZERO,
            worst: Duration::ZERO,
        };
        let mut cluster = Self {
            clock,
            began: now,
            now,
            nodes: Vec::new(),
            links: BTreeSet::new(),
            queue: VecDeque::new(),
            requests: 0,
            last_order: now,
            cost,
        };
        for weight in weights {
            cluster.join(*weight);
            cluster.until_quiet();
        }
        cluster
    }

    fn join(&mut self, weight: u32) {
        let index = self.nodes.len();
        let number = u8::try_from(index + 1).expect("a few nodes");
        let info = KindInfo { state_version: 1, oldest_state_version: 1 };
        let config = EngineConfig {
            node: NodeId::from_key([number; 32]),
            incarnation: Incarnation { started: 1_000 + index as u64, nonce: u64::from(number) },
            name: NodeName::new(format!("n{index}")).expect("a valid name"),
            addresses: vec![format!("/memory/{index}")],
            labels: Default::default(),
            settings: Settings { weight, ..Settings::default() },
            kinds: BTreeMap::from([(kind(), info)]),
            founding: match index {
                0 => Founding::Found,
                _ => Founding::Seeds(vec!["seed".to_owned()]),
            },
            access: AccessList::open(),
            seed: u64::from(number),
            distribution: Arc::new(ConsistentHashing),
            redundancy: Arc::new(Singularity),
            partition: Arc::new(Divergence),
        };
        let me = config.member();
        let engine = Engine::new(config, self.now);
        self.nodes.push(Node { engine, me, is_alive: true, replies: BTreeMap::new() });
        self.drain(index);
        if index > 0 {
            self.link(index, 0);
        }
    }

    fn index_of(&self, id: NodeId) -> Option<usize> {
        self.nodes.iter().position(|node| node.me.id == id)
    }

    fn link(&mut self, a: usize, b: usize) {
        if a == b || !self.links.insert((a.min(b), a.max(b))) {
            return;
        }
        for (from, to) in [(a, b), (b, a)] {
            let hello = Hello {
                version: WIRE_VERSION,
                hub: HubName::new("bench").expect("a valid name"),
                me: self.nodes[from].me.clone(),
                fenced: None,
                known: Vec::new(),
                dialled: None,
                seen: None,
                up: 0,
                linked: false,
            };
            self.queue.push_back((to, Event::Linked { hello, local: true }));
        }
    }

    fn kill(&mut self, index: usize) {
        self.nodes[index].is_alive = false;
        let run = self.nodes[index].me.run();
        let links = std::mem::take(&mut self.links);
        for (a, b) in links {
            match (a == index, b == index) {
                (true, _) => self.queue.push_back((b, Event::Unlinked { run })),
                (_, true) => self.queue.push_back((a, Event::Unlinked { run })),
                _ => drop(self.links.insert((a, b))),
            }
        }
    }

    /// Takes in what is queued, or lets time pass until an engine wants to be woken.
    fn go_on(&mut self) {
        if let Some((index, event)) = self.queue.pop_front() {
            return self.take(index, event);
        }
        let alive = self.nodes.iter().enumerate().filter(|(_, node)| node.is_alive);
        let wakes = alive.filter_map(|(index, node)| Some((node.engine.deadline()?, index)));
        let Some((at, index)) = wakes.min() else {
            // A node that is alone waits for nothing.
            self.now += Duration::from_secs(1);
            return;
        };
        self.now = self.now.max(at);
        self.take(index, Event::Tick);
    }

    fn take(&mut self, index: usize, event: Event) {
        if !self.nodes[index].is_alive {
            return;
        }
        let began = (self.clock)();
        self.nodes[index].engine.handle(self.now, event);
        let mut effects = Vec::new();
        while let Some(effect) = self.nodes[index].engine.next_effect() {
            effects.push(effect);
        }
        let took = (self.clock)().saturating_duration_since(began);
        self.cost.events += 1;
        self.cost.total += took;
        self.cost.worst = self.cost.worst.max(took);
        effects.into_iter().for_each(|effect| self.perform(index, effect));
    }

    fn drain(&mut self, index: usize) {
        while let Some(effect) = self.nodes[index].engine.next_effect() {
            self.perform(index, effect);
        }
    }

    fn perform(&mut self, index: usize, effect: Effect) {
        match effect {
            Effect::Send { to, message } | Effect::Probe { to, message } => {
                let Some(to) = self.index_of(to) else { return };
                if self.links.contains(&(index.min(to), index.max(to))) {
                    let from = self.nodes[index].me.run();
                    self.queue.push_back((to, Event::Peer { from, message }));
                }
            }
            Effect::Connect { node, .. } => match self.index_of(node) {
                Some(to) if self.nodes[to].is_alive => self.link(index, to),
                _ => self.queue.push_back((index, Event::Unreachable { node, refused: true })),
            },
            Effect::Announce { me, .. } => self.nodes[index].me = me,
            Effect::Child(order) => self.order(index, order),
            Effect::DrainLinks { .. } => self.queue.push_back((index, Event::LinksDrained)),
            Effect::Reply { request, reply } => {
                self.nodes[index].replies.insert(request, reply);
            }
            _ => {}
        }
    }

    /// Every actor does at once what it is told.
    fn order(&mut self, index: usize, order: ChildOrder) {
        self.last_order = self.now;
        let report = match order {
            ChildOrder::Start { spec, epoch, .. } => {
                let child = spec.id().clone();
                ChildReport::Started { child, epoch, outcome: Ok(()) }
            }
            ChildOrder::Freeze { child, epoch, .. } => {
                ChildReport::Frozen { child, epoch, outcome: Ok(64) }
            }
            ChildOrder::SendState { child, epoch, to } => {
                let Some(at) = self.index_of(to.node) else { return };
                let (state_version, lanes, marks) = (1, Vec::new(), 0);
                let header = BulkHeader::State { child, epoch, state_version, lanes, marks };
                let from = self.nodes[index].me.run();
                return self.queue.push_back((at, Event::Bulk { from, header, size: 64 }));
            }
            ChildOrder::Build { spec, epoch, .. } => {
                let child = spec.id().clone();
                ChildReport::Built { child, epoch, outcome: Ok(()) }
            }
            ChildOrder::Open { child, epoch, .. } => {
                ChildReport::Opened { child, epoch, outcome: Ok(()) }
            }
            ChildOrder::Stop { child, epoch } => ChildReport::Stopped { child, epoch },
            _ => return,
        };
        self.queue.push_back((index, Event::Child(report)));
    }

    fn request(&mut self, index: usize, request: Request) -> RequestId {
        self.requests += 1;
        let id = RequestId(self.requests);
        self.queue.push_back((index, Event::Request { id, request }));
        id
    }

    fn until(&mut self, is_over: impl Fn(&Self) -> bool) {
        let began = self.now;
        while !is_over(self) {
            let waited = self.now.saturating_duration_since(began);
            assert!(waited < LONGEST, "{} does not end", self.cost.step);
            self.go_on();
        }
    }

    fn answer(&mut self, index: usize, id: RequestId) -> Reply {
        self.until(|cluster| cluster.nodes[index].replies.contains_key(&id));
        self.nodes[index].replies.remove(&id).expect("it was seen")
    }

    /// Until everybody who lives has been settled for a while, and nothing has happened to any child.
    fn until_quiet(&mut self) {
        let (began, mut since) = (self.now, self.now);
        while self.now.saturating_duration_since(since) < QUIET {
            let waited = self.now.saturating_duration_since(began);
            assert!(waited < LONGEST, "{} does not come to rest", self.cost.step);
            self.go_on();
            let alive = || self.nodes.iter().filter(|node| node.is_alive);
            let count = alive().count();
            let is_steady = alive()
                .all(|node| node.engine.is_settled() && node.engine.view().members.len() == count);
            since = if is_steady { since.max(self.last_order) } else { self.now };
        }
    }

    fn begin(&mut self, step: &'static str, children: usize) {
        let (total, worst) = (Duration::ZERO, Duration::ZERO);
        self.cost = StepCost { step, children, events: 0, total, worst };
    }

    fn start(&mut self, count: usize) {
        for from in (0..count).step_by(BATCH) {
            let spec = |n: usize| {
                let id = ChildId::new(format!("child-{n}")).expect("a valid id");
                Arc::new(ChildSpec::from_parts(id, kind(), Bytes::new()))
            };
            let specs = (from..count.min(from + BATCH)).map(spec).collect();
            let (on_failure, timeout) = (OnFailure::Continue, Duration::from_secs(60));
            let id = self.request(0, Request::Start { specs, on_failure, timeout });
            let Reply::Started(report) = self.answer(0, id) else { panic!("it asked for a start") };
            assert_eq!(report.failures().count(), 0, "{:?}", report.failures().next());
        }
    }

    fn owned(&self, index: usize) -> usize {
        self.nodes[0].engine.registry().count_of(self.nodes[index].me.run())
    }
}

/// What the steps of a cluster with so many children cost by this clock, in the order in which they were
/// done:
///
/// - `start`: all of them, on two nodes, in requests of 1,000
/// - `idle`: a minute without any event, digests included
/// - `view`: a node that takes no children comes in
/// - `migrate`, `stop`: 1,000 of them
/// - `join`: a node comes in, and a third of the children goes there
/// - `down`: that node dies, and the others start its children anew
/// - `leave`: a node with nearly all of them hands them over to another and goes
///
/// # Panics
/// If a step does not end, or not well.
#[must_use]
pub fn step_costs(children: usize, clock: fn() -> Instant) -> Vec<StepCost> {
    let mut costs = Vec::new();
    let mut cluster = Cluster::new(clock, &[1, 1]);
    cluster.begin("start", children);
    cluster.start(children);
    costs.push(cluster.cost.clone());

    cluster.until_quiet();
    cluster.begin("idle", children);
    let from = cluster.now;
    cluster.until(|cluster| cluster.now - from >= Duration::from_secs(60));
    costs.push(cluster.cost.clone());

    cluster.begin("view", children);
    cluster.join(0);
    cluster.until_quiet();
    costs.push(cluster.cost.clone());

    let owner = cluster.nodes[0].me.run();
    let owned = cluster.nodes[0].engine.registry().owned_by(owner);
    let some: Vec<ChildId> = owned.take(BATCH).map(|(child, _)| child.clone()).collect();
    let timeout = Duration::from_secs(600);
    cluster.begin("migrate", some.len());
    let to = cluster.nodes[1].me.id;
    let asked: Vec<RequestId> = some
        .iter()
        .map(|child| {
            let child = child.clone();
            cluster.request(0, Request::Migrate { child, to, forced: false, timeout })
        })
        .collect();
    asked.into_iter().for_each(|id| drop(cluster.answer(0, id)));
    assert_eq!(cluster.owned(1) + cluster.owned(0), children);
    costs.push(cluster.cost.clone());

    cluster.begin("stop", some.len());
    let stopped = some.len();
    let id = cluster.request(0, Request::Stop { children: some, timeout });
    cluster.answer(0, id);
    costs.push(cluster.cost.clone());
    cluster.until_quiet();

    cluster.begin("join", 0);
    cluster.join(1);
    cluster.until_quiet();
    let moved = cluster.owned(3);
    cluster.cost.children = moved;
    costs.push(cluster.cost.clone());

    cluster.begin("down", moved);
    cluster.kill(3);
    cluster.until_quiet();
    assert_eq!(cluster.owned(0) + cluster.owned(1), children - stopped);
    costs.push(cluster.cost.clone());

    let mut cluster = Cluster::new(clock, &[1_000, 1]);
    cluster.start(children);
    cluster.until_quiet();
    cluster.begin("leave", cluster.owned(0));
    let id = cluster.request(0, Request::Leave { timeout });
    let left: Result<(), LeaveFailed> = match cluster.answer(0, id) {
        Reply::Left(outcome) => outcome,
        reply => panic!("it asked to leave: {reply:?}"),
    };
    assert_eq!(left, Ok(()), "after {:?}", cluster.now - cluster.began);
    costs.push(cluster.cost.clone());
    costs
}
