//! The nodes, the clock and what is under way between them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    call::Call,
    faults::{Fault, Plan},
    ledger::Ledger,
    network::{Network, Parcel, Piece},
    node::{Input, Node, Out, Thread, spec},
};
use crate::{
    delivery::How,
    engine::{
        chance::Chance,
        io::{Event, Request},
    },
    model::{
        id::{ChildId, Incarnation, NodeId, NodeRun, RequestId},
        member::Hello,
        settings::OnFailure,
    },
};

/// What happens at some time.
#[derive(Debug)]
pub(super) enum What {
    /// Something comes to a thread of the run that began so many lives ago.
    Node {
        at: usize,
        life: u64,
        thread: Thread,
        input: Input,
    },
    Arrives(Parcel),
    Opens {
        at: usize,
        other: usize,
        link: u64,
        hello: Hello,
    },
    Broken {
        at: usize,
        other: usize,
        link: u64,
    },
    Transferred {
        transfer: u64,
        outcome: Result<(), String>,
    },
    Dial {
        from: usize,
        to: usize,
    },
    /// A client sends something.
    Client,
    /// A fault begins, or ends.
    Begins(Fault, Duration),
    Ends(Fault),
    /// A process goes on that stood still; then one of its threads.
    Resumes {
        at: usize,
        life: u64,
        thread: Option<Thread>,
    },
}

impl What {
    /// The node and the thread that must run for it.
    fn needs(&self) -> Option<(usize, Thread)> {
        match self {
            Self::Node { at, thread, .. } => Some((*at, *thread)),
            Self::Opens { at, .. } | Self::Broken { at, .. } => Some((*at, Thread::Network)),
            Self::Arrives(parcel) => Some((parcel.to, Thread::Network)),
            _ => None,
        }
    }
}

/// Where a node runs, in one run after another.
pub(super) struct Place {
    pub(super) node: Option<Node>,
    run: NodeRun,
    /// How many runs there were.
    life: u64,
    started: u64,
    /// Its next run founds a cluster.
    pub(super) founds: bool,
    pub(super) wanted: BTreeSet<NodeId>,
    /// Nodes that are dialled for ever.
    pub(super) seeds: BTreeSet<usize>,
    /// The threads that stand still, each with what waits for it.
    asleep: BTreeMap<Thread, Vec<What>>,
    /// When its engine wants to be woken.
    deadline: Option<Instant>,
    /// When the last mail to each thread arrives.
    mail: BTreeMap<Thread, Instant>,
    busy: BTreeMap<Thread, Instant>,
    pub(super) has_left: bool,
}

pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) now: Instant,
    pub(super) began: Instant,
    pub(super) dice: Chance,
    clients: Chance,
    pub(super) places: Vec<Place>,
    queue: BTreeMap<(Instant, u64), What>,
    count: u64,
    pub(super) network: Network,
    pub(super) ledger: Ledger,
    pub(super) children: Vec<ChildId>,
    requests: u64,
    pub(super) clients_send: bool,
    /// Nothing has happened that allows two owners.
    pub(super) is_calm: bool,
    /// When a link was last broken.
    pub(super) last_break: Option<Instant>,
    /// A node has gone without a word.
    pub(super) has_crashed: bool,
    /// Somebody had a node found the cluster anew.
    pub(super) was_founded_anew: bool,
    /// Children that somebody has stopped at some time.
    pub(super) stopped: BTreeSet<ChildId>,
    pub(super) trace: bool,
    next_look: Instant,
    /// Updates that were in no copy when that was last looked at: some are between two threads.
    pub(super) missing: BTreeSet<u64>,
    pub(super) steps: u64,
}

fn node_id(index: usize) -> NodeId {
    let mut key = [7; 32];
    // The order of ids is not that of the indexes.
    key[0] = (index as u8 + 1).wrapping_mul(151);
    NodeId::from_key(key)
}

impl World {
    pub(super) fn new(plan: &Plan) -> Self {
        let now = Instant::now();
        let mut world = Self {
            plan: plan.clone(),
            now,
            began: now,
            dice: Chance(plan.seed),
            clients: Chance(plan.seed ^ 0xc11e),
            places: Vec::new(),
            queue: BTreeMap::new(),
            count: 0,
            network: Network::default(),
            ledger: Ledger::gentle(),
            children: Vec::new(),
            requests: 0,
            clients_send: false,
            // Two without a link are two clusters when nobody is left between them.
            is_calm: plan.unlinked.is_empty(),
            last_break: None,
            has_crashed: false,
            was_founded_anew: false,
            stopped: BTreeSet::new(),
            trace: std::env::var_os("SIM_TRACE").is_some(),
            next_look: now,
            missing: BTreeSet::new(),
            steps: 0,
        };
        for (a, b) in plan.unlinked.clone() {
            world.cut(a, b);
            world.cut(b, a);
        }
        for _ in 0..plan.nodes {
            world.join();
        }
        world
    }

    pub(super) fn number(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    pub(super) fn push(&mut self, after: Duration, what: What) {
        let number = self.number();
        self.queue.insert((self.now + after, number), what);
    }

    pub(super) fn run_of(&self, at: usize) -> NodeRun {
        self.places[at].run
    }

    pub(super) fn place_of(&self, node: NodeId) -> Option<usize> {
        self.places.iter().position(|place| place.run.node == node)
    }

    /// The nodes that run, and have not left.
    pub(super) fn alive(&self) -> Vec<usize> {
        let runs = |at: &usize| self.places[*at].node.is_some();
        (0..self.places.len()).filter(runs).collect()
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = (usize, &Node)> {
        self.places.iter().enumerate().filter_map(|(at, place)| Some((at, place.node.as_ref()?)))
    }

    /// A new node comes.
    pub(super) fn join(&mut self) -> usize {
        let at = self.places.len();
        let run = NodeRun { node: node_id(at), nonce: 0 };
        self.places.push(Place {
            node: None,
            run,
            life: 0,
            started: 1_000 + 100 * at as u64,
            founds: at == 0,
            wanted: BTreeSet::new(),
            seeds: (0..at).collect(),
            asleep: BTreeMap::new(),
            deadline: None,
            mail: BTreeMap::new(),
            busy: BTreeMap::new(),
            has_left: false,
        });
        self.begin(at);
        at
    }

    /// A run of a node begins.
    pub(super) fn begin(&mut self, at: usize) {
        let nonce = self.dice.next();
        let seed = self.dice.next();
        let place = &mut self.places[at];
        let founds = std::mem::take(&mut place.founds);
        place.life += 1;
        let place_life = place.life;
        place.started += 10;
        let incarnation = Incarnation { started: place.started, nonce };
        let id = place.run.node;
        let name = format!("n{at}");
        let node = Node::new(id, incarnation, name, founds, self.plan.kind, seed, self.now);
        place.run = node.run();
        place.node = Some(node);
        place.has_left = false;
        place.asleep.clear();
        place.wanted.clear();
        place.mail.clear();
        place.busy.clear();
        let node = place.node.as_mut().expect("it was put there");
        node.take(self.now, None);
        self.settle(at);
        for input in [Input::Beat, Input::Sweep, Input::Prune] {
            self.mail(at, Thread::System, input);
        }
        if place_life > 1 {
            let others = (0..self.places.len()).filter(|other| *other != at);
            self.places[at].seeds = others.collect();
        }
        for seed in self.places[at].seeds.clone() {
            self.dial(at, seed, Duration::ZERO);
        }
    }

    /// A process ends without a word.
    pub(super) fn kill(&mut self, at: usize) {
        let run = self.run_of(at);
        if self.places[at].node.take().is_none() {
            return;
        }
        self.ledger.forget_callers(run);
        self.places[at].asleep.clear();
        let peers: Vec<usize> = (0..self.places.len()).filter(|other| *other != at).collect();
        for other in peers {
            self.close_end(at, other);
            self.forget_link(at, other);
            let Some(end) = self.network.ends.get(&(other, at)).copied() else { continue };
            // What was sent last may still come before that, or be lost.
            let wait = self.dice.ms(1, 20);
            if self.is_cut(at, other) {
                self.send(at, other, Piece::Closed);
            } else {
                self.push(wait, What::Broken { at: other, other: at, link: end.link });
            }
        }
    }

    /// To a thread of a node, behind all that was sent there before.
    pub(super) fn mail(&mut self, at: usize, thread: Thread, input: Input) {
        let wait = Duration::from_micros(self.dice.below(1_000));
        let place = &mut self.places[at];
        let last = place.mail.entry(thread).or_insert(self.now);
        *last = (self.now + wait).max(*last);
        let (after, life) = (*last - self.now, place.life);
        self.push(after, What::Node { at, life, thread, input });
    }

    /// Something comes to a node now.
    pub(super) fn input(&mut self, at: usize, input: Input) {
        if let Some(node) = self.places[at].node.as_mut() {
            if self.trace {
                eprintln!("{:?} n{at} {input:?}", self.now - self.began);
            }
            node.input(self.now, &mut self.ledger, input);
        }
        self.drain(at);
    }

    /// Does what a node wants, when it was touched otherwise.
    pub(super) fn settle(&mut self, at: usize) {
        if let Some(node) = self.places[at].node.as_mut() {
            node.settle(self.now, &mut self.ledger);
        }
        self.drain(at);
    }

    fn drain(&mut self, at: usize) {
        let life = self.places[at].life;
        let Some(node) = self.places[at].node.as_mut() else { return };
        let outs = node.take_out();
        self.places[at].deadline = node.deadline();
        for out in outs {
            match out {
                Out::Mail(thread, input) => self.mail(at, thread, input),
                Out::After(after, thread, input) => {
                    self.push(after, What::Node { at, life, thread, input });
                }
                Out::Block(thread, time) => {
                    let until = self.now + time;
                    self.places[at].busy.insert(thread, until);
                }
                Out::Word { to, message } => {
                    if self.trace {
                        eprintln!("{:?} n{at} says {message:?}", self.now - self.began);
                    }
                    let lost = self.network.loses.is_some_and(|one| self.dice.one_in(one));
                    if let Some(to) = self.place_of(to)
                        && !lost
                    {
                        self.send(at, to, Piece::Word(message));
                    }
                }
                // Was made a `Bulk` by its node.
                Out::SendState { .. } => {}
                Out::Bulk { to, header, body, done } => {
                    let to = self.place_of(to.node);
                    self.send_state(at, to, header, body, done);
                }
                Out::Frames { to, frames } => self.send_frames(at, to, frames),
                Out::Connect(node) => {
                    self.places[at].wanted.insert(node);
                    if let Some(to) = self.place_of(node) {
                        self.dial(at, to, Duration::ZERO);
                    }
                }
                Out::Silent(node) => {
                    if let Some(other) = self.place_of(node) {
                        self.silent(at, other);
                    }
                }
                Out::Disconnect(node) => {
                    self.places[at].wanted.remove(&node);
                    if let Some(other) = self.place_of(node) {
                        self.close(at, other);
                    }
                }
                Out::Stopped => {
                    self.places[at].has_left = true;
                    for other in 0..self.places.len() {
                        if other != at {
                            self.send(at, other, Piece::Closed);
                        }
                    }
                    self.ledger.look();
                    self.kill(at);
                    return;
                }
            }
        }
    }

    fn send_frames(&mut self, at: usize, to: NodeRun, frames: Vec<Bytes>) {
        let Some(to) = self.place_of(to.node) else { return };
        for frame in frames {
            self.send(at, to, Piece::Frame(frame));
        }
    }

    pub(super) fn request(&mut self, at: usize, request: Request) -> RequestId {
        self.requests += 1;
        let id = RequestId(self.requests);
        if let Some(node) = self.places[at].node.as_mut() {
            node.request(self.now, id, request);
        }
        self.settle(at);
        id
    }

    pub(super) fn start(&mut self, at: usize, children: &[ChildId]) -> RequestId {
        let specs = children.iter().map(spec).collect();
        let (on_failure, timeout) = (OnFailure::Continue, Duration::from_secs(10));
        self.request(at, Request::Start { specs, on_failure, timeout })
    }

    /// Sends an update from a node to a child.
    pub(super) fn client(&mut self, at: usize, child: &ChildId, wait: Option<Duration>, how: How) {
        let padding = self.clients.pick(600);
        let Some(node) = self.places[at].node.as_mut() else { return };
        let deadline = wait.map(|wait| self.now + wait);
        let client = node.run();
        let slot = self.ledger.send(client, child, deadline);
        node.send(child, Call { slot, padding, has_started: false }, how);
        self.settle(at);
    }

    fn some_client(&mut self) {
        if self.clients_send {
            let wait = self.clients.ms(2, 24);
            self.push(wait, What::Client);
        }
        let at = self.clients.pick(self.places.len());
        let child = self.children[self.clients.pick(self.children.len())].clone();
        let wait = self.clients.ms(100, 4_000);
        let (asks, tries) = (!self.clients.one_in(4), self.clients.one_in(4));
        if self.places[at].is_paused() {
            return;
        }
        let how = if asks && !tries { How::Send } else { How::Try };
        self.client(at, &child, asks.then_some(wait), how);
    }

    pub(super) fn let_clients_send(&mut self) {
        self.clients_send = true;
        self.push(Duration::ZERO, What::Client);
    }

    /// Lets time pass, until something is seen that must not be.
    pub(super) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.ledger.violations.is_empty() {
            let next = self.queue.keys().next().map(|(at, _)| *at);
            let wake = self.places.iter().filter_map(Place::wakes).min();
            let next = [next, wake].into_iter().flatten().min().unwrap_or(end);
            if next >= end {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            self.step();
        }
    }

    fn step(&mut self) {
        self.steps += 1;
        if let Some(entry) = self.queue.first_entry()
            && entry.key().0 <= self.now
        {
            let what = entry.remove();
            self.happens(what);
        }
        for at in 0..self.places.len() {
            if self.places[at].wakes().is_some_and(|wakes| wakes <= self.now) {
                if let Some(node) = self.places[at].node.as_mut() {
                    node.take(self.now, Some(Event::Tick));
                }
                self.settle(at);
            }
        }
        self.ledger.look();
        self.check_owners();
        if self.next_look <= self.now {
            self.next_look = self.now + Duration::from_millis(200);
            self.check_copies();
            self.check_answers();
        }
    }

    fn happens(&mut self, what: What) {
        if let Some((at, thread)) = what.needs()
            && let Some(backlog) = self.places[at].asleep.get_mut(&thread)
        {
            return backlog.push(what);
        }
        match what {
            What::Node { at, life, thread, input } => {
                let place = &mut self.places[at];
                if place.life != life {
                    return;
                }
                if let Some(until) = place.busy.get(&thread).copied()
                    && self.now < until
                {
                    let after = until - self.now;
                    return self.push(after, What::Node { at, life, thread, input });
                }
                self.input(at, input);
            }
            What::Arrives(parcel) => self.arrives(parcel),
            What::Opens { at, other, link, hello } => self.opens(at, other, link, hello),
            What::Broken { at, other, link } => {
                if self.network.ends.get(&(at, other)).is_some_and(|end| end.link == link) {
                    self.close_end(at, other);
                }
            }
            What::Transferred { transfer, outcome } => self.transferred(transfer, outcome),
            What::Dial { from, to } => self.dialled(from, to),
            What::Client => self.some_client(),
            What::Begins(fault, lasts) => {
                if self.trace {
                    eprintln!("{:?} {fault:?} begins", self.now - self.began);
                }
                self.begins(fault, lasts);
            }
            What::Ends(fault) => self.ends(fault),
            What::Resumes { at, life, thread } => {
                if self.places[at].life == life {
                    self.resume(at, thread);
                }
            }
        }
    }

    /// A process stands still for so long, and its threads go on in any order.
    pub(super) fn pause(&mut self, at: usize, time: Duration) {
        let place = &mut self.places[at];
        if place.node.is_none() || place.is_paused() {
            return;
        }
        place.asleep = THREADS.into_iter().map(|thread| (thread, Vec::new())).collect();
        let life = place.life;
        self.push(time, What::Resumes { at, life, thread: None });
    }

    fn resume(&mut self, at: usize, thread: Option<Thread>) {
        let life = self.places[at].life;
        let Some(thread) = thread else {
            for thread in THREADS {
                let wait = Duration::from_micros(self.dice.below(4_000));
                self.push(wait, What::Resumes { at, life, thread: Some(thread) });
            }
            let run = self.run_of(at);
            return self.ledger.be_patient(run, self.now);
        };
        for what in self.places[at].asleep.remove(&thread).unwrap_or_default() {
            self.push(Duration::ZERO, what);
        }
    }
}

const THREADS: [Thread; 4] =
    [Thread::Network, Thread::System, Thread::Worker(0), Thread::Worker(1)];

impl Place {
    /// Whether the code of some child keeps a thread to itself.
    pub(super) fn is_held_up(&self, now: Instant) -> bool {
        self.busy.values().any(|until| *until > now)
    }

    pub(super) fn is_paused(&self) -> bool {
        !self.asleep.is_empty()
    }

    /// When its engine wants to be woken.
    fn wakes(&self) -> Option<Instant> {
        self.node.as_ref()?;
        self.deadline.filter(|_| !self.asleep.contains_key(&Thread::System))
    }
}
