//! Doors of three nodes for one child on a model network: random interleavings of calls, frames,
//! broken links, moves, aborts and crashes. Messages are numbers, so that loss, doubling and a
//! broken order show.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;
use proptest::prelude::*;

use super::{
    Body, How, Limits, Payload, SendFailure,
    door::{Door, Item, Signal},
};
use crate::model::{
    child::{Epoch, Route},
    frame::DataFrame,
    id::{ChildId, LaneId, NodeId, NodeRun},
};

const NODES: usize = 3;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Call(u64);

impl Payload for Call {
    fn body(&mut self) -> Result<Body, String> {
        Ok(Body { name: "call".into(), bytes: Bytes::copy_from_slice(&self.0.to_le_bytes()) })
    }
}

fn limits() -> Limits {
    Limits {
        mailbox: 64,
        waiting: 64,
        window_messages: 4,
        window_bytes: 1_024,
        reply_cache: 1_000,
        reply_cache_bytes: 1 << 20,
    }
}

fn run_of(node: usize) -> NodeRun {
    NodeRun { node: NodeId::from_key([node as u8 + 1; 32]), nonce: node as u64 }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Ask(usize),
    Tell(usize),
    /// The owner's actor handles one message.
    Handle,
    /// The oldest asynchronous handler is resolved.
    Resolve,
    Write(usize, usize),
    Deliver(usize, usize),
    Break(usize, usize),
    Link(usize, usize),
    Freeze(usize),
    Abort,
    Commit,
    /// The registry tells a node where the child is.
    Tells(usize),
    Wait,
}

fn step() -> impl Strategy<Value = Step> {
    let node = 0..NODES;
    let pair = (0..NODES, 0..NODES);
    prop_oneof![
        6 => node.clone().prop_map(Step::Ask),
        4 => node.clone().prop_map(Step::Tell),
        10 => Just(Step::Handle),
        3 => Just(Step::Resolve),
        12 => pair.clone().prop_map(|(a, b)| Step::Write(a, b)),
        12 => pair.clone().prop_map(|(a, b)| Step::Deliver(a, b)),
        1 => pair.clone().prop_map(|(a, b)| Step::Break(a, b)),
        2 => pair.prop_map(|(a, b)| Step::Link(a, b)),
        2 => node.clone().prop_map(Step::Freeze),
        1 => Just(Step::Abort),
        3 => Just(Step::Commit),
        2 => node.prop_map(Step::Tells),
        1 => Just(Step::Wait),
    ]
}

struct Model {
    now: Instant,
    doors: Vec<Door<Call>>,
    links: BTreeSet<(usize, usize)>,
    wires: BTreeMap<(usize, usize), VecDeque<DataFrame>>,
    owner: usize,
    epoch: Epoch,
    attempt: u64,
    /// The move under way: to whom, at which epoch.
    moving: Option<(usize, Epoch)>,
    /// Started and unresolved handlers of the owner.
    started: VecDeque<(super::gate::Ticket, u64, bool)>,
    next: u64,
    sent: Vec<Vec<u64>>,
    asked: BTreeSet<u64>,
    /// What the child has handled, in order: its state.
    handled: Vec<u64>,
    replied: BTreeMap<u64, Result<u64, SendFailure>>,
    local: BTreeSet<u64>,
}

impl Model {
    fn new() -> Self {
        let child = ChildId::new("c").expect("a valid id");
        let mut doors: Vec<Door<Call>> = (0..NODES)
            .map(|node| Door::new(run_of(node), child.clone(), LaneId(node as u64 + 1), limits()))
            .collect();
        let epoch = Epoch { term: 1, attempt: 0 };
        doors[0].open(epoch, &[]);
        let mut model = Self {
            now: Instant::now(),
            doors,
            links: BTreeSet::new(),
            wires: BTreeMap::new(),
            owner: 0,
            epoch,
            attempt: 0,
            moving: None,
            started: VecDeque::new(),
            next: 1,
            sent: vec![Vec::new(); NODES],
            asked: BTreeSet::new(),
            handled: Vec::new(),
            replied: BTreeMap::new(),
            local: BTreeSet::new(),
        };
        for a in 0..NODES {
            for b in 0..a {
                model.link(a, b);
            }
            model.tell_route(a);
        }
        model
    }

    fn link(&mut self, a: usize, b: usize) {
        if a != b && self.links.insert((a.min(b), a.max(b))) {
            self.doors[a].linked(run_of(b));
            self.doors[b].linked(run_of(a));
            self.settle();
        }
    }

    fn cut(&mut self, a: usize, b: usize) {
        if self.links.remove(&(a.min(b), a.max(b))) {
            self.wires.remove(&(a, b));
            self.wires.remove(&(b, a));
            self.doors[a].unlinked(run_of(b));
            self.doors[b].unlinked(run_of(a));
            self.settle();
        }
    }

    fn tell_route(&mut self, node: usize) {
        let route = Route { owner: run_of(self.owner), epoch: self.epoch };
        self.doors[node].route(Some(route));
        self.settle();
    }

    /// Takes what the doors have to say about messages.
    fn settle(&mut self) {
        for node in 0..NODES {
            while let Some(signal) = self.doors[node].next_signal() {
                if let Signal::Settled { payload: Call(call), outcome } = signal {
                    let outcome = outcome
                        .map(|body| u64::from_le_bytes(body[..].try_into().expect("eight bytes")));
                    let before = self.replied.insert(call, outcome);
                    assert_eq!(before, None, "message {call} was settled twice");
                }
            }
        }
    }

    fn call(&mut self, node: usize, ask: bool) {
        let call = self.next;
        let how = if ask { How::Send } else { How::Try };
        match self.doors[node].enter(Call(call), ask, how, None) {
            Ok(()) => {
                self.next += 1;
                self.sent[node].push(call);
                if ask {
                    self.asked.insert(call);
                }
            }
            Err(rejected) => assert_eq!(rejected.reason, crate::error::NotHandled::Busy),
        }
        assert!(self.doors[node].queued() <= 128 + NODES * 4, "a queue grew over its bound");
        self.settle();
    }

    fn handle(&mut self) {
        let Some(task) = self.doors[self.owner].next_task(self.now) else { return };
        let (call, remote) = match task.item {
            Item::Local(Call(call)) => {
                self.local.insert(call);
                (call, false)
            }
            Item::Remote { body, wants_reply, .. } => {
                (u64::from_le_bytes(body[..].try_into().expect("eight bytes")), wants_reply)
            }
        };
        self.handled.push(call);
        // Every third handler is asynchronous.
        if call % 3 == 0 {
            self.started.push_back((task.ticket, call, remote));
        } else {
            self.resolve(task.ticket, call, remote);
        }
        self.settle();
    }

    fn resolve(&mut self, ticket: super::gate::Ticket, call: u64, remote: bool) {
        let outcome = remote.then(|| Ok(Bytes::copy_from_slice(&call.to_le_bytes())));
        self.doors[self.owner].resolved(ticket, outcome);
        if self.local.contains(&call) && self.asked.contains(&call) {
            // The hub answers local callers itself.
            let before = self.replied.insert(call, Ok(call));
            assert_eq!(before, None, "message {call} was settled twice");
        }
    }

    fn resolve_one(&mut self) {
        if let Some((ticket, call, remote)) = self.started.pop_front() {
            self.resolve(ticket, call, remote);
            self.settle();
        }
    }

    fn write(&mut self, from: usize, to: usize) {
        if from == to || !self.links.contains(&(from.min(to), from.max(to))) {
            return;
        }
        let wire = self.wires.entry((from, to)).or_default();
        self.doors[from].write(self.now, run_of(to), 200, &mut |frame| wire.push_back(frame));
        self.settle();
    }

    fn deliver(&mut self, from: usize, to: usize) {
        let Some(frame) = self.wires.get_mut(&(from, to)).and_then(VecDeque::pop_front) else {
            return;
        };
        self.doors[to]
            .frame(self.now, run_of(from), frame)
            .expect("doors keep to the protocol with each other");
        self.settle();
    }

    fn freeze(&mut self, to: usize) {
        if self.moving.is_some() || to == self.owner {
            return;
        }
        self.attempt += 1;
        let epoch = Epoch { term: 1, attempt: self.attempt };
        self.doors[self.owner].close();
        self.moving = Some((to, epoch));
    }

    fn abort(&mut self) {
        if let Some((to, _)) = self.moving.take() {
            self.doors[to].unexpect();
            self.attempt += 1;
            self.epoch = Epoch { term: 1, attempt: self.attempt };
            self.doors[self.owner].reopen(self.epoch);
            self.settle();
        }
    }

    fn commit(&mut self) {
        let Some((to, epoch)) = self.moving else { return };
        while !self.started.is_empty() {
            self.resolve_one();
        }
        assert_eq!(self.doors[self.owner].unresolved(), 0);
        let marks = self.doors[self.owner].marks();
        self.doors[to].expect(epoch, &marks);
        self.moving = None;
        let before = self.owner;
        self.owner = to;
        self.epoch = epoch;
        self.doors[before].move_away(Route { owner: run_of(to), epoch });
        self.doors[to].open(epoch, &marks);
        self.settle();
    }

    fn wait(&mut self) {
        self.now += Duration::from_millis(600);
        for door in &mut self.doors {
            door.sweep(self.now);
        }
        self.settle();
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Ask(node) => self.call(node, true),
            Step::Tell(node) => self.call(node, false),
            Step::Handle => self.handle(),
            Step::Resolve => self.resolve_one(),
            Step::Write(a, b) => self.write(a, b),
            Step::Deliver(a, b) => self.deliver(a, b),
            Step::Break(a, b) => self.cut(a, b),
            Step::Link(a, b) => self.link(a, b),
            Step::Freeze(to) => self.freeze(to),
            Step::Abort => self.abort(),
            Step::Commit => self.commit(),
            Step::Tells(node) => self.tell_route(node),
            Step::Wait => self.wait(),
        }
    }

    /// Everything is linked, told and carried until nothing moves any more.
    fn come_to_rest(&mut self) {
        self.abort();
        for a in 0..NODES {
            for b in 0..a {
                self.link(a, b);
            }
        }
        for _ in 0..400 {
            for node in 0..NODES {
                self.tell_route(node);
            }
            for a in 0..NODES {
                for b in 0..NODES {
                    self.write(a, b);
                    while self.wires.get(&(a, b)).is_some_and(|wire| !wire.is_empty()) {
                        self.deliver(a, b);
                    }
                }
            }
            for _ in 0..40 {
                self.handle();
            }
            while !self.started.is_empty() {
                self.resolve_one();
            }
            self.wait();
        }
    }

    fn check(&self) {
        let mut seen = BTreeSet::new();
        for call in &self.handled {
            assert!(seen.insert(*call), "message {call} was handled twice");
        }
        for (node, sent) in self.sent.iter().enumerate() {
            let order: Vec<u64> =
                self.handled.iter().filter(|call| sent.contains(call)).copied().collect();
            assert_eq!(&order, sent, "the messages of node {node} were lost or reordered");
        }
        for call in &self.asked {
            assert_eq!(self.replied.get(call), Some(&Ok(*call)), "the reply to {call}");
        }
    }
}

#[test]
fn a_reply_lost_with_its_link_goes_again_though_the_child_has_moved() {
    let mut model = Model::new();
    let steps = [
        Step::Ask(1),
        Step::Write(1, 0),
        Step::Deliver(1, 0),
        Step::Deliver(1, 0),
        Step::Handle,
        Step::Freeze(2),
        Step::Write(0, 1),
        Step::Commit,
        Step::Break(0, 1),
        Step::Write(2, 1),
        Step::Deliver(2, 1),
        Step::Tells(1),
    ];
    for step in steps {
        model.step(step);
    }
    model.come_to_rest();
    model.check();
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: std::env::var("DOOR_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(400),
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn nothing_is_lost_doubled_or_reordered_while_owners_live(
        steps in proptest::collection::vec(step(), 1..300)
    ) {
        let mut model = Model::new();
        for step in steps {
            model.step(step);
        }
        model.come_to_rest();
        model.check();
    }
}
