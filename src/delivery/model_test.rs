//! Doors of three nodes for one child on a model network: random interleavings of calls, frames,
//! broken links, detours, moves, aborts, stops, later lives and crashes. Messages are numbers, so that
//! loss, doubling and a broken order show. A door is asked to write, to handle and to sweep only when it has said that
//! it wants to be.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use proptest::prelude::*;

use super::{
    Body, Gone, How, Limits, Payload, SendFailure, Side,
    door::{Door, Item, Signal},
    gate::Ticket,
};
use crate::{
    error::{MaybeHandled, NotHandled},
    model::{
        child::{Epoch, Route},
        frame::DataFrame,
        id::{ChildId, LaneId, NodeId, NodeRun},
        message::LaneMark,
    },
};

const NODES: usize = 3;
/// So many rounds must pass after the last message was answered, each longer than a retry waits at
/// first, before it is sure that nothing comes any more.
const QUIET: usize = 8;

/// Until when a caller waits.
type Shared = Arc<Mutex<Option<Instant>>>;

#[derive(Debug, Clone)]
struct Call(u64, Shared);

impl Payload for Call {
    fn body(&mut self) -> Result<Body, NotHandled> {
        Ok(Body {
            name: "call".into(),
            bytes: Bytes::copy_from_slice(&self.0.to_le_bytes()),
            trace: None,
        })
    }

    fn deadline(&self) -> Option<Instant> {
        *self.1.lock().expect("nobody panics with it")
    }
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
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
    /// The first frame from one node to another that is on this one of the pipes between them.
    Deliver(usize, usize, usize),
    Break(usize, usize),
    Link(usize, usize),
    /// A node's messages for another go by a path of their own from now on, or over the link again.
    Detour(usize, usize, bool),
    /// A path is over at the end of its origin, and what the other end has sent is lost.
    LoseNear(usize, usize),
    /// A path is over at the other end, and what the origin has sent is lost.
    LoseFar(usize, usize),
    /// What is on a path that is not used any more is lost.
    Forget(usize, usize),
    Freeze(usize),
    /// The successor is built and says so.
    Ready,
    Abort,
    Commit,
    /// The new owner's actor has started.
    Open,
    /// The new owner's actor could not start, and the child is the old owner's again.
    Fail,
    /// What was built for a move that failed is dropped.
    Discard,
    /// The registry tells a node where the child is.
    Tells(usize),
    /// A child's home answers a node that has asked.
    Located(usize),
    /// A caller changes its mind on how long it waits.
    Redate(u64, u64),
    Suspend(usize, bool),
    /// A door in which nothing is left is forgotten and made anew.
    Prune(usize),
    Wait(u64),
    /// The child is stopped for good.
    Stop,
    /// A child of the same id begins on a node.
    Begin(usize),
    Panic,
    /// A node that does not own the child leaves in order.
    Leave(usize),
    Kill(usize),
    /// A node hears that another is down.
    Hear(usize),
    /// A node is declared down while it was only cut off.
    Fence(usize),
}

fn calm_step() -> impl Strategy<Value = Step> {
    let node = 0..NODES;
    let pair = (0..NODES, 0..NODES);
    prop_oneof![
        8 => node.clone().prop_map(Step::Ask),
        5 => node.clone().prop_map(Step::Tell),
        14 => Just(Step::Handle),
        4 => Just(Step::Resolve),
        16 => pair.clone().prop_map(|(a, b)| Step::Write(a, b)),
        16 => (0..NODES, 0..NODES, 0..3_usize).prop_map(|(a, b, n)| Step::Deliver(a, b, n)),
        1 => pair.clone().prop_map(|(a, b)| Step::Break(a, b)),
        2 => pair.clone().prop_map(|(a, b)| Step::Link(a, b)),
        3 => (0..NODES, 0..NODES, any::<bool>()).prop_map(|(a, b, l)| Step::Detour(a, b, l)),
        1 => pair.clone().prop_map(|(a, b)| Step::LoseNear(a, b)),
        1 => pair.clone().prop_map(|(a, b)| Step::LoseFar(a, b)),
        1 => pair.prop_map(|(a, b)| Step::Forget(a, b)),
        2 => node.clone().prop_map(Step::Freeze),
        3 => Just(Step::Ready),
        1 => Just(Step::Abort),
        3 => Just(Step::Commit),
        3 => Just(Step::Open),
        2 => Just(Step::Fail),
        3 => Just(Step::Discard),
        3 => node.clone().prop_map(Step::Tells),
        3 => node.clone().prop_map(Step::Located),
        1 => (node.clone(), any::<bool>()).prop_map(|(n, s)| Step::Suspend(n, s)),
        1 => node.prop_map(Step::Prune),
        2 => (1..300_u64).prop_map(Step::Wait),
    ]
}

fn stops_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => calm_step(),
        1 => Just(Step::Stop),
        2 => (0..NODES).prop_map(Step::Begin),
    ]
}

fn rough_step() -> impl Strategy<Value = Step> {
    let node = 0..NODES;
    prop_oneof![
        40 => stops_step(),
        1 => Just(Step::Panic),
        1 => node.clone().prop_map(Step::Leave),
        1 => node.clone().prop_map(Step::Kill),
        2 => node.clone().prop_map(Step::Hear),
        1 => node.prop_map(Step::Fence),
        3 => (1..20_u64, 1..5_000_u64).prop_map(|(back, millis)| Step::Redate(back, millis)),
    ]
}

/// A move that is not committed.
#[derive(Clone, Copy, Debug)]
struct Moving {
    to: usize,
    epoch: Epoch,
    ready: bool,
}

/// What the new owner's actor starts from.
#[derive(Clone, Debug)]
enum From {
    State(Vec<LaneMark>),
    /// The old actor, which was held.
    Held,
    Nothing,
}

/// What travels between two ends.
#[derive(Clone, Debug)]
enum Piece {
    Frame(DataFrame),
    /// The origin's lanes come this way from here on.
    Begin(u64),
    /// The path is over.
    End,
}

/// One way of the frames of a node's lanes to another, and of the answers back.
#[derive(Debug, Default)]
struct Pipe {
    /// The number of a path by a third node; `None`: the link, on which each `Begin` has its own.
    path: Option<u64>,
    forth: VecDeque<Piece>,
    back: VecDeque<Piece>,
}

/// The number of a path, and whether it is the link.
type Used = (u64, bool);

/// A fault besides moves, broken links and detours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// Nothing: nothing is lost.
    None,
    /// The child is stopped, and begins anew: what no life of it has handled is refused.
    Stops,
    /// Stops, crashes and deadlines.
    All,
}

struct Model {
    now: Instant,
    trouble: Trouble,
    rough: bool,
    limits: Limits,
    doors: Vec<Door<Call>>,
    alive: BTreeSet<usize>,
    lanes: u64,
    links: BTreeSet<(usize, usize)>,
    /// Between the origin and the target of calls.
    pipes: BTreeMap<(usize, usize), Vec<Pipe>>,
    paths: u64,
    /// By which path each origin sends to each target.
    used: BTreeMap<(usize, usize), Used>,
    /// By which path each target takes the calls of each origin, as it has heard.
    heard: BTreeMap<(usize, usize), Used>,
    /// Whose lanes lead to which door, by whatever path.
    leads: BTreeSet<(usize, usize)>,
    /// What the doors have asked for.
    ready: BTreeSet<(Side, usize, usize)>,
    woken: BTreeSet<usize>,
    sweeps: BTreeMap<usize, Instant>,
    /// Who has asked where the child is.
    locating: BTreeSet<usize>,
    /// How long callers wait.
    deadlines: BTreeMap<u64, (usize, Shared)>,
    owner: usize,
    epoch: Epoch,
    term: u64,
    attempt: u64,
    moving: Option<Moving>,
    /// The owner's actor does not run yet.
    opening: Option<From>,
    /// Who holds the old actor until the new one runs.
    held: Option<usize>,
    /// Successors that are not wanted any more.
    unwanted: VecDeque<(usize, Epoch)>,
    /// The owner by the registry. `None`: the child was stopped.
    registry: Option<Route>,
    /// The node that has stopped the child and not read so in the registry.
    ended: Option<usize>,
    /// Who has yet to hear that a node is out, and whether it left.
    unheard: BTreeMap<(usize, usize), bool>,
    /// Started and unresolved handlers of the owner.
    started: VecDeque<(Ticket, u64, bool)>,
    next: u64,
    sent: Vec<Vec<u64>>,
    asked: BTreeSet<u64>,
    /// What was handled, in order, by all lives of the child.
    handled: Vec<u64>,
    replied: BTreeMap<u64, Result<u64, SendFailure>>,
    local: BTreeSet<u64>,
}

impl Model {
    fn new(trouble: Trouble) -> Self {
        let rough = trouble == Trouble::All;
        let limits = Limits {
            mailbox: 12,
            waiting: 8,
            window_messages: 4,
            window_bytes: 1_024,
            reply_cache: if rough { 3 } else { 1_000 },
            reply_cache_bytes: 1 << 20,
        };
        let epoch = Epoch { term: 1, attempt: 0 };
        let mut model = Self {
            now: Instant::now(),
            trouble,
            rough,
            limits,
            doors: Vec::new(),
            alive: (0..NODES).collect(),
            lanes: 0,
            links: BTreeSet::new(),
            pipes: BTreeMap::new(),
            paths: 0,
            used: BTreeMap::new(),
            heard: BTreeMap::new(),
            leads: BTreeSet::new(),
            ready: BTreeSet::new(),
            woken: BTreeSet::new(),
            sweeps: BTreeMap::new(),
            locating: BTreeSet::new(),
            deadlines: BTreeMap::new(),
            owner: 0,
            epoch,
            term: 1,
            attempt: 0,
            moving: None,
            opening: None,
            held: None,
            unwanted: VecDeque::new(),
            registry: Some(Route { owner: run_of(0), epoch }),
            ended: None,
            unheard: BTreeMap::new(),
            started: VecDeque::new(),
            next: 1,
            sent: vec![Vec::new(); NODES],
            asked: BTreeSet::new(),
            handled: Vec::new(),
            replied: BTreeMap::new(),
            local: BTreeSet::new(),
        };
        for node in 0..NODES {
            let door = model.door(node);
            model.doors.push(door);
        }
        model.doors[0].open(epoch, &[]);
        for a in 0..NODES {
            for b in 0..a {
                model.link(a, b);
            }
        }
        model
    }

    fn door(&mut self, node: usize) -> Door<Call> {
        self.lanes += 1;
        let child = ChildId::new("c").expect("a valid id");
        Door::new(run_of(node), child, LaneId(self.lanes), self.limits)
    }

    fn is_linked(&self, a: usize, b: usize) -> bool {
        self.links.contains(&(a.min(b), a.max(b)))
    }

    fn knows(&self, a: usize, b: usize) -> bool {
        self.alive.contains(&a) && !self.unheard.contains_key(&(a, b))
    }

    fn link(&mut self, a: usize, b: usize) {
        if a == b || !self.knows(a, b) || !self.knows(b, a) {
            return;
        }
        self.links.insert((a.min(b), a.max(b)));
        for (origin, target) in [(a, b), (b, a)] {
            if !self.used.contains_key(&(origin, target)) {
                self.detour(origin, target, true);
            }
        }
    }

    /// The origin's messages for the target go by a new path, or over the link.
    fn detour(&mut self, origin: usize, target: usize, link: bool) {
        let known = self.knows(origin, target) && self.knows(target, origin);
        if origin == target || !known || link && !self.is_linked(origin, target) {
            return;
        }
        self.paths += 1;
        let number = self.paths;
        let pipes = self.pipes.entry((origin, target)).or_default();
        let pipe = match pipes.iter_mut().find(|pipe| link && pipe.path.is_none()) {
            Some(pipe) => pipe,
            None => {
                let path = (!link).then_some(number);
                pipes.push(Pipe { path, ..Pipe::default() });
                pipes.last_mut().expect("pushed above")
            }
        };
        pipe.forth.push_back(Piece::Begin(number));
        self.used.insert((origin, target), (number, link));
        self.ready.remove(&(Side::Calls, origin, target));
        self.doors[origin].linked(Side::Calls, run_of(target), number);
        self.settle();
    }

    /// The origin has no path to the target any more.
    fn lose_calls(&mut self, origin: usize, target: usize) {
        if let Some((number, _)) = self.used.remove(&(origin, target)) {
            self.ready.remove(&(Side::Calls, origin, target));
            self.doors[origin].unlinked(Side::Calls, run_of(target), number);
        }
    }

    /// The target has no path of the origin's calls any more.
    fn lose_answers(&mut self, origin: usize, target: usize) {
        if let Some((number, _)) = self.heard.remove(&(origin, target)) {
            self.ready.remove(&(Side::Answers, target, origin));
            self.doors[target].unlinked(Side::Answers, run_of(origin), number);
        }
    }

    fn pipe(&mut self, origin: usize, target: usize, (number, link): Used) -> Option<&mut Pipe> {
        let path = (!link).then_some(number);
        self.pipes.get_mut(&(origin, target))?.iter_mut().find(|pipe| pipe.path == path)
    }

    fn lose_near(&mut self, origin: usize, target: usize) {
        if let Some(used @ (_, false)) = self.used.get(&(origin, target)).copied() {
            self.lose_calls(origin, target);
            if let Some(pipe) = self.pipe(origin, target, used) {
                pipe.back.clear();
                pipe.forth.push_back(Piece::End);
            }
            self.settle();
        }
    }

    fn lose_far(&mut self, origin: usize, target: usize) {
        if let Some(heard @ (_, false)) = self.heard.get(&(origin, target)).copied() {
            self.lose_answers(origin, target);
            if let Some(pipe) = self.pipe(origin, target, heard) {
                pipe.forth.clear();
                pipe.back.push_back(Piece::End);
            }
            self.settle();
        }
    }

    fn forget(&mut self, origin: usize, target: usize) {
        let used = self.used.get(&(origin, target)).copied();
        if let Some(pipes) = self.pipes.get_mut(&(origin, target)) {
            pipes.retain(|pipe| match pipe.path {
                None => true,
                Some(path) => used == Some((path, false)),
            });
        }
    }

    /// Everything between two nodes breaks.
    fn cut(&mut self, a: usize, b: usize) {
        self.links.remove(&(a.min(b), a.max(b)));
        for (origin, target) in [(a, b), (b, a)] {
            self.pipes.remove(&(origin, target));
            self.lose_calls(origin, target);
            self.lose_answers(origin, target);
        }
        self.settle();
    }

    /// The link between two nodes breaks; their paths by others stand.
    fn break_link(&mut self, a: usize, b: usize) {
        if !self.links.remove(&(a.min(b), a.max(b))) {
            return;
        }
        for (origin, target) in [(a, b), (b, a)] {
            if let Some(pipes) = self.pipes.get_mut(&(origin, target)) {
                pipes.retain(|pipe| pipe.path.is_some());
            }
            if matches!(self.used.get(&(origin, target)), Some((_, true))) {
                self.lose_calls(origin, target);
            }
            if matches!(self.heard.get(&(origin, target)), Some((_, true))) {
                self.lose_answers(origin, target);
            }
        }
        self.settle();
    }

    fn tell_route(&mut self, node: usize) {
        // A node reads its own log first.
        if self.ended == Some(node) {
            self.ended = None;
            self.doors[node].route(None);
        }
        self.doors[node].route(self.registry);
        self.settle();
    }

    fn owned(&mut self, owner: usize) -> Route {
        let route = Route { owner: run_of(owner), epoch: self.epoch };
        self.registry = Some(route);
        route
    }

    fn is_stopped(&self) -> bool {
        self.registry.is_none()
    }

    /// Takes what the doors have to say.
    fn settle(&mut self) {
        for node in 0..NODES {
            while let Some(signal) = self.doors[node].next_signal() {
                match signal {
                    Signal::Wake => {
                        self.woken.insert(node);
                    }
                    Signal::Ready(side, run) => {
                        let to = (0..NODES).find(|n| run_of(*n) == run).expect("a known node");
                        let has_path = match side {
                            Side::Calls => self.used.contains_key(&(node, to)),
                            Side::Answers => self.heard.contains_key(&(to, node)),
                        };
                        if has_path {
                            self.ready.insert((side, node, to));
                        }
                    }
                    Signal::Sweep(at) => {
                        let sweep = self.sweeps.entry(node).or_insert(at);
                        *sweep = at.min(*sweep);
                    }
                    Signal::Locate => {
                        assert!(self.locating.insert(node), "asked again before the answer");
                    }
                    Signal::Resolved { payload: Call(call, _), outcome } => {
                        self.answer(call, outcome.map(|body| number(&body)));
                    }
                }
            }
        }
    }

    fn answer(&mut self, call: u64, outcome: Result<u64, SendFailure>) {
        let before = self.replied.insert(call, outcome);
        assert_eq!(before, None, "message {call} was settled twice");
    }

    fn call(&mut self, node: usize, ask: bool) {
        if !self.alive.contains(&node) {
            return;
        }
        let call = self.next;
        let how = if ask { How::Send } else { How::Try };
        let deadline = (self.rough && ask).then(|| {
            self.now + Duration::from_millis(if call.is_multiple_of(4) { 150 } else { 3_000 })
        });
        let shared = Arc::new(Mutex::new(deadline));
        match self.doors[node].enter(Call(call, shared.clone()), ask, how) {
            Ok(()) => {
                self.next += 1;
                self.sent[node].push(call);
                if ask {
                    self.asked.insert(call);
                }
                if let Some(deadline) = deadline {
                    self.deadlines.insert(call, (node, shared));
                    let sweep = self.sweeps.entry(node).or_insert(deadline);
                    *sweep = deadline.min(*sweep);
                }
            }
            Err(rejected) => assert_eq!(rejected.reason, NotHandled::Busy),
        }
        let all = self.limits.mailbox + self.limits.waiting;
        let most = 2 * all + NODES * self.limits.window_messages;
        assert!(self.doors[node].queued() <= most, "a queue grew over its bound");
        self.settle();
    }

    fn handle(&mut self) {
        if !self.woken.contains(&self.owner) {
            return;
        }
        let Some(task) = self.doors[self.owner].next_task(self.now) else {
            self.woken.remove(&self.owner);
            return self.settle();
        };
        let (call, remote) = match task.item {
            Item::Local(Call(call, _)) => {
                self.local.insert(call);
                (call, false)
            }
            Item::Remote { body, wants_reply, .. } => (number(&body), wants_reply),
        };
        assert!(self.opening.is_none() && self.moving.is_none(), "a handler started at a freeze");
        self.handled.push(call);
        // Every third handler is asynchronous.
        if call % 3 == 0 {
            self.started.push_back((task.ticket, call, remote));
        } else {
            self.resolve(task.ticket, call, remote);
        }
        self.settle();
    }

    fn resolve(&mut self, ticket: Ticket, call: u64, remote: bool) {
        let outcome = remote.then(|| Ok(Bytes::copy_from_slice(&call.to_le_bytes())));
        self.doors[self.owner].resolved(ticket, outcome);
        if self.local.contains(&call) && self.asked.contains(&call) {
            // The hub answers local callers itself.
            self.answer(call, Ok(call));
        }
    }

    fn resolve_one(&mut self) {
        if let Some((ticket, call, remote)) = self.started.pop_front() {
            self.resolve(ticket, call, remote);
            self.settle();
        }
    }

    fn write(&mut self, from: usize, to: usize) {
        for side in [Side::Answers, Side::Calls] {
            if !self.ready.contains(&(side, from, to)) {
                continue;
            }
            let used = match side {
                Side::Calls => self.used.get(&(from, to)),
                Side::Answers => self.heard.get(&(to, from)),
            };
            let used = *used.expect("nothing is ready without a path");
            let mut frames = VecDeque::new();
            let more =
                self.doors[from].write(self.now, side, (run_of(to), used.0), 200, &mut |frame| {
                    frames.push_back(Piece::Frame(frame));
                });
            if !more {
                self.ready.remove(&(side, from, to));
            }
            // Without a pipe they are lost.
            match side {
                Side::Calls => {
                    if let Some(pipe) = self.pipe(from, to, used) {
                        pipe.forth.extend(frames);
                    }
                }
                Side::Answers => {
                    if let Some(pipe) = self.pipe(to, from, used) {
                        pipe.back.extend(frames);
                    }
                }
            }
            self.settle();
        }
    }

    /// Whether something is on its way from one node to another.
    fn carries(&self, from: usize, to: usize) -> bool {
        let forth = self.pipes.get(&(from, to)).into_iter().flatten().map(|pipe| &pipe.forth);
        let back = self.pipes.get(&(to, from)).into_iter().flatten().map(|pipe| &pipe.back);
        forth.chain(back).any(|wire| !wire.is_empty())
    }

    fn deliver(&mut self, from: usize, to: usize, pick: usize) {
        let mut wires: Vec<(Side, Option<u64>, &mut VecDeque<Piece>)> = Vec::new();
        if from == to {
            return;
        }
        for (ends, pipes) in &mut self.pipes {
            for pipe in pipes {
                let path = pipe.path;
                if *ends == (from, to) {
                    wires.push((Side::Calls, path, &mut pipe.forth));
                } else if *ends == (to, from) {
                    wires.push((Side::Answers, path, &mut pipe.back));
                }
            }
        }
        wires.retain(|(_, _, wire)| !wire.is_empty());
        if wires.is_empty() {
            return;
        }
        let pick = pick % wires.len();
        let (side, path, wire) = wires.swap_remove(pick);
        let Some(piece) = wire.pop_front() else { return };
        let frame = match piece {
            Piece::Begin(number) => {
                // It travels with what is behind it.
                let is_last = wire.is_empty();
                let known = self.heard.get(&(from, to));
                if known.is_none_or(|(known, _)| *known < number) {
                    self.heard.insert((from, to), (number, path.is_none()));
                    self.ready.remove(&(Side::Answers, to, from));
                    self.doors[to].linked(Side::Answers, run_of(from), number);
                    self.settle();
                }
                if !is_last {
                    self.deliver(from, to, pick);
                }
                return;
            }
            Piece::End => {
                match (side, path) {
                    (Side::Calls, Some(path))
                        if self.heard.get(&(from, to)) == Some(&(path, false)) =>
                    {
                        self.lose_answers(from, to);
                    }
                    (Side::Answers, Some(path))
                        if self.used.get(&(to, from)) == Some(&(path, false)) =>
                    {
                        self.lose_calls(to, from);
                    }
                    _ => {}
                }
                return self.settle();
            }
            Piece::Frame(frame) => frame,
        };
        let current = match side {
            Side::Calls => self.heard.get(&(from, to)),
            Side::Answers => self.used.get(&(to, from)),
        };
        // A path names itself. What comes over the link is taken if the link is used.
        let number = match (path, current) {
            (Some(path), _) => path,
            (None, Some((number, true))) => *number,
            (None, _) => return,
        };
        let is_current = current.is_some_and(|(current, _)| *current == number);
        match frame {
            DataFrame::Open { .. } if is_current => drop(self.leads.insert((from, to))),
            _ if side == Side::Calls && !self.leads.contains(&(from, to)) => return,
            DataFrame::Accepted { lane, .. }
            | DataFrame::Reply { lane, .. }
            | DataFrame::Refused { lane, .. }
                if lane != self.doors[to].lane().0 =>
            {
                // Its door was forgotten while there was no path to say so by.
                return self.close_lane(to, from, lane);
            }
            _ => {}
        }
        self.doors[to]
            .frame(self.now, (run_of(from), number), frame)
            .expect("doors keep to the protocol with each other");
        self.settle();
    }

    fn next_attempt(&mut self) -> Epoch {
        self.attempt += 1;
        Epoch { term: self.term, attempt: self.attempt }
    }

    fn freeze(&mut self, to: usize) {
        let busy = self.moving.is_some() || self.opening.is_some() || self.is_stopped();
        if busy || to == self.owner || !self.alive.contains(&to) {
            return;
        }
        let epoch = self.next_attempt();
        self.doors[self.owner].close();
        self.moving = Some(Moving { to, epoch, ready: false });
    }

    fn build(&mut self) {
        let Some(moving @ Moving { ready: false, .. }) = self.moving else { return };
        while !self.started.is_empty() {
            self.resolve_one();
        }
        assert_eq!(self.doors[self.owner].unresolved(), 0);
        let marks = self.doors[self.owner].marks();
        self.doors[moving.to].expect(moving.epoch, &marks);
        self.moving = Some(Moving { ready: true, ..moving });
        self.settle();
    }

    fn abort(&mut self) {
        if let Some(moving) = self.moving.take() {
            if moving.ready {
                self.unwanted.push_back((moving.to, moving.epoch));
            }
            self.epoch = self.next_attempt();
            self.owned(self.owner);
            self.doors[self.owner].reopen(self.epoch);
            self.settle();
        }
    }

    fn commit(&mut self) {
        let Some(Moving { to, epoch, ready: true }) = self.moving else { return };
        self.moving = None;
        let marks = self.doors[self.owner].marks();
        self.held = Some(self.owner);
        self.owner = to;
        self.epoch = epoch;
        let route = self.owned(to);
        let held = self.held.expect("set above");
        self.doors[held].move_away(route);
        self.opening = Some(From::State(marks));
        self.settle();
    }

    fn open(&mut self) {
        let Some(from) = self.opening.take() else { return };
        self.held = None;
        self.owned(self.owner);
        let door = &mut self.doors[self.owner];
        match from {
            From::State(marks) => assert!(door.open(self.epoch, &marks)),
            From::Held => door.reopen(self.epoch),
            From::Nothing => assert!(door.open(self.epoch, &[])),
        }
        self.settle();
    }

    fn fail(&mut self) {
        let (Some(From::State(_)), Some(held)) = (&self.opening, self.held) else { return };
        self.unwanted.push_back((self.owner, self.epoch));
        (self.opening, self.held, self.owner) = (None, None, held);
        self.epoch = self.next_attempt();
        self.owned(held);
        self.doors[held].reopen(self.epoch);
        self.settle();
    }

    fn discard(&mut self) {
        if let Some((node, epoch)) = self.unwanted.pop_front() {
            self.doors[node].unexpect(epoch);
            self.settle();
        }
    }

    fn located(&mut self, node: usize) {
        if self.locating.remove(&node) {
            self.tell_route(node);
            let found = !self.is_stopped();
            self.doors[node].located(found);
            self.settle();
        }
    }

    fn redate(&mut self, back: u64, millis: u64) {
        let Some((node, shared)) = self.deadlines.get(&self.next.saturating_sub(back)) else {
            return;
        };
        if self.alive.contains(node) {
            let deadline = self.now + Duration::from_millis(millis);
            *shared.lock().expect("nobody panics with it") = Some(deadline);
            let sweep = self.sweeps.entry(*node).or_insert(deadline);
            *sweep = deadline.min(*sweep);
            self.doors[*node].redate();
            self.settle();
        }
    }

    /// A node tells another that it uses a lane no more, if it can.
    fn close_lane(&mut self, origin: usize, target: usize, lane: LaneId) {
        if let Some(used) = self.used.get(&(origin, target)).copied()
            && let Some(pipe) = self.pipe(origin, target, used)
        {
            pipe.forth.push_back(Piece::Frame(DataFrame::Closed { lane }));
        }
    }

    fn prune(&mut self, node: usize) {
        if !self.alive.contains(&node) || !self.doors[node].is_idle() {
            return;
        }
        let owns = node == self.owner && !self.is_stopped();
        if self.moving.is_some_and(|moving| moving.to == node) || owns {
            return;
        }
        if self.held == Some(node) {
            return;
        }
        // Lanes that led to it lead nowhere until they open another session.
        self.leads.retain(|(_, to)| *to != node);
        let (lane, at) = self.doors[node].lane();
        let at: Vec<usize> = (0..NODES).filter(|target| at.contains(&run_of(*target))).collect();
        for target in at {
            self.close_lane(node, target, lane);
        }
        self.ready.retain(|(_, from, _)| *from != node);
        self.doors[node] = self.door(node);
        for other in 0..NODES {
            if let Some((number, _)) = self.used.get(&(node, other)) {
                self.doors[node].linked(Side::Calls, run_of(other), *number);
            }
            if let Some((number, _)) = self.heard.get(&(other, node)) {
                self.doors[node].linked(Side::Answers, run_of(other), *number);
            }
        }
        self.tell_route(node);
    }

    fn wait(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
        for node in 0..NODES {
            if self.sweeps.get(&node).is_some_and(|at| *at <= self.now) {
                self.sweeps.remove(&node);
                self.doors[node].sweep(self.now);
                if let Some(at) = self.doors[node].next_deadline() {
                    self.sweeps.insert(node, at.max(self.now));
                }
            }
        }
        self.settle();
    }

    /// The actor has ended: the hub tells local callers whose handlers were started.
    fn drop_started(&mut self) {
        for (_, call, _) in std::mem::take(&mut self.started) {
            if self.local.contains(&call) && self.asked.contains(&call) {
                self.answer(call, Err(SendFailure::MaybeHandled(MaybeHandled::NoReply)));
            }
        }
    }

    fn stop(&mut self) {
        self.abort();
        if self.opening.is_some() || self.is_stopped() {
            return;
        }
        self.doors[self.owner].vacate(&NotHandled::Stopped);
        self.drop_started();
        self.woken.remove(&self.owner);
        (self.registry, self.ended) = (None, Some(self.owner));
        self.settle();
    }

    fn begin(&mut self, node: usize) {
        if !self.is_stopped() || !self.alive.contains(&node) {
            return;
        }
        if let Some(before) = self.ended {
            self.tell_route(before);
        }
        (self.term, self.attempt) = (self.term + 1, 0);
        (self.owner, self.epoch) = (node, Epoch { term: self.term, attempt: 0 });
        self.owned(node);
        self.opening = Some(From::Nothing);
        self.tell_route(node);
    }

    fn panic(&mut self) {
        if self.moving.is_some() || self.opening.is_some() || self.is_stopped() {
            return;
        }
        self.doors[self.owner].crashed();
        self.drop_started();
        self.epoch = self.next_attempt();
        self.opening = Some(From::Nothing);
        self.settle();
    }

    fn out(&mut self, node: usize, left: bool) {
        self.alive.remove(&node);
        self.woken.remove(&node);
        self.sweeps.remove(&node);
        for other in 0..NODES {
            self.cut(node, other);
            if self.alive.contains(&other) {
                self.unheard.insert((other, node), left);
            }
            self.unheard.remove(&(node, other));
        }
    }

    fn leave(&mut self, node: usize) {
        let moves = self.moving.is_some_and(|moving| moving.to == node);
        if !self.alive.contains(&node) || self.alive.len() < 2 || node == self.owner || moves {
            return;
        }
        if self.held == Some(node) {
            return;
        }
        // It answers everything before it goes.
        for _ in 0..50 {
            for other in 0..NODES {
                while self.carries(other, node) {
                    self.deliver(other, node, 0);
                }
                self.write(node, other);
                while self.carries(node, other) {
                    self.deliver(node, other, 0);
                }
            }
        }
        // Who has no path to it does not know that it has answered.
        let answered = |n: &usize| {
            let used = self.used.get(&(*n, node));
            used.is_some() && used == self.heard.get(&(*n, node))
        };
        let left: Vec<usize> = (0..NODES).filter(answered).collect();
        self.out(node, false);
        for other in left {
            self.unheard.insert((other, node), true);
        }
    }

    fn kill(&mut self, node: usize) {
        if !self.alive.contains(&node) || self.alive.len() < 2 {
            return;
        }
        let moving = self.moving;
        if let Some(moving) = moving
            && moving.to == node
        {
            self.abort();
        }
        self.out(node, false);
        if self.held == Some(node) {
            self.held = None;
        }
        if node != self.owner {
            return;
        }
        self.started.clear();
        self.moving = None;
        if self.ended == Some(node) {
            self.ended = None;
        }
        if self.is_stopped() {
            self.owner = *self.alive.first().expect("one is left");
            return;
        }
        self.term += 1;
        self.attempt = 0;
        let any = *self.alive.first().expect("one is left");
        let (taker, from) = match (moving, self.held.take()) {
            (Some(Moving { to, ready: true, .. }), _) => {
                (to, From::State(self.doors[node].marks()))
            }
            (_, Some(held)) if self.opening.is_some() => (held, From::Held),
            _ => (any, From::Nothing),
        };
        self.owner = taker;
        self.epoch = Epoch { term: self.term, attempt: 0 };
        self.opening = Some(from);
    }

    fn hear(&mut self, node: usize) {
        let news: Vec<_> = self.unheard.iter().filter(|((at, _), _)| *at == node).collect();
        if let Some((at, dead, left)) = news.first().map(|((at, dead), left)| (*at, *dead, **left))
        {
            self.unheard.remove(&(at, dead));
            self.leads.remove(&(dead, at));
            self.doors[at].gone(self.now, run_of(dead), Gone { left, answered: left });
            self.settle();
        }
    }

    fn fence(&mut self, node: usize) {
        if node == self.owner || self.moving.is_some() || self.opening.is_some() {
            return;
        }
        for other in 0..NODES {
            if other != node && self.alive.contains(&other) && self.alive.contains(&node) {
                self.cut(node, other);
                self.leads.remove(&(node, other));
                self.doors[other].gone(
                    self.now,
                    run_of(node),
                    Gone { left: false, answered: false },
                );
            }
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
            Step::Deliver(a, b, pick) => self.deliver(a, b, pick),
            Step::Break(a, b) => self.break_link(a, b),
            Step::Link(a, b) => self.link(a, b),
            Step::Detour(a, b, link) => self.detour(a, b, link),
            Step::LoseNear(a, b) => self.lose_near(a, b),
            Step::LoseFar(a, b) => self.lose_far(a, b),
            Step::Forget(a, b) => self.forget(a, b),
            Step::Freeze(to) => self.freeze(to),
            Step::Ready => self.build(),
            Step::Abort => self.abort(),
            Step::Commit => self.commit(),
            Step::Open => self.open(),
            Step::Fail => self.fail(),
            Step::Discard => self.discard(),
            Step::Tells(node) => self.tell_route(node),
            Step::Located(node) => self.located(node),
            Step::Redate(back, millis) => self.redate(back, millis),
            Step::Suspend(node, suspended) => {
                self.doors[node].suspend(suspended);
                self.settle();
            }
            Step::Prune(node) => self.prune(node),
            Step::Wait(millis) => self.wait(millis),
            Step::Stop => self.stop(),
            Step::Begin(node) => self.begin(node),
            Step::Panic => self.panic(),
            Step::Leave(node) => self.leave(node),
            Step::Kill(node) => self.kill(node),
            Step::Hear(node) => self.hear(node),
            Step::Fence(node) => self.fence(node),
        }
    }

    /// Everything is linked, told and carried until nothing moves any more.
    fn come_to_rest(&mut self) {
        self.abort();
        self.open();
        while !self.unwanted.is_empty() {
            self.discard();
        }
        for node in 0..NODES {
            self.doors[node].suspend(false);
            for _ in 0..NODES {
                self.hear(node);
            }
        }
        let mut quiet = 0;
        for round in 0..120 {
            quiet = if self.is_at_rest() { quiet + 1 } else { 0 };
            if quiet > QUIET {
                return;
            }
            // A path that is lost is replaced when its origin hears of it.
            for a in 0..NODES {
                for b in 0..a {
                    self.link(a, b);
                }
            }
            for node in 0..NODES {
                self.tell_route(node);
                self.located(node);
            }
            for a in 0..NODES {
                for b in 0..NODES {
                    self.write(a, b);
                    while self.carries(a, b) {
                        self.deliver(a, b, 0);
                    }
                }
            }
            for _ in 0..40 {
                self.handle();
            }
            while !self.started.is_empty() {
                self.resolve_one();
            }
            self.wait(if round == 100 && self.rough { 10_000 } else { 120 });
        }
    }

    /// Whether everybody has been answered and no door holds anything.
    fn is_at_rest(&self) -> bool {
        let is_answered = |node: &usize| {
            let asked = self.sent[*node].iter().filter(|call| self.asked.contains(call));
            asked.into_iter().all(|call| self.replied.contains_key(call))
        };
        self.started.is_empty()
            && self.alive.iter().all(|node| {
                let door = &self.doors[*node];
                let idle = door.is_idle() || *node == self.owner;
                idle && door.queued() == 0 && is_answered(node)
            })
    }

    fn check(&self) {
        let mut seen = BTreeSet::new();
        for call in &self.handled {
            assert!(seen.insert(*call), "message {call} was handled twice");
        }
        for node in 0..NODES {
            let sent: BTreeSet<u64> = self.sent[node].iter().copied().collect();
            let order: Vec<u64> =
                self.handled.iter().filter(|call| sent.contains(call)).copied().collect();
            assert!(order.is_sorted(), "the messages of node {node} were reordered: {order:?}");
            if self.trouble == Trouble::None {
                assert_eq!(order, self.sent[node], "messages of node {node} were lost");
            }
            for call in sent.intersection(&self.asked) {
                let reply = self.replied.get(call);
                if self.alive.contains(&node) {
                    assert!(reply.is_some(), "the caller of {call} was never answered");
                }
                match (self.trouble, reply) {
                    (Trouble::None, reply) => assert_eq!(reply, Some(&Ok(*call)), "to {call}"),
                    // A handler that had started ended with its actor.
                    (Trouble::Stops, Some(Err(SendFailure::MaybeHandled(why)))) => {
                        assert_eq!(*why, MaybeHandled::NoReply, "to {call}");
                    }
                    _ => {}
                }
            }
        }
        for (call, reply) in &self.replied {
            match reply {
                Ok(value) => assert!(value == call && seen.contains(call), "a reply to {call}"),
                Err(SendFailure::NotHandled(why)) => {
                    assert!(!seen.contains(call), "{call} was handled, its caller heard: {why}");
                }
                Err(SendFailure::MaybeHandled(_)) => {}
            }
        }
        for node in &self.alive {
            assert_eq!(self.doors[*node].queued(), 0, "something is left at node {node}");
            let idle = self.doors[*node].is_idle();
            let door = &self.doors[*node];
            assert!(idle || *node == self.owner, "the door of node {node} is never idle: {door:?}");
        }
    }
}

fn play(trouble: Trouble, steps: Vec<Step>) {
    let mut model = Model::new(trouble);
    for step in steps {
        model.step(step);
    }
    model.come_to_rest();
    model.check();
}

#[test]
fn a_reply_lost_with_its_link_goes_again_though_the_child_has_moved() {
    play(
        Trouble::None,
        vec![
            Step::Ask(1),
            Step::Located(1),
            Step::Write(1, 0),
            Step::Deliver(1, 0, 0),
            Step::Deliver(1, 0, 0),
            Step::Handle,
            Step::Freeze(2),
            Step::Ready,
            Step::Write(0, 1),
            Step::Commit,
            Step::Open,
            Step::Break(0, 1),
            Step::Write(2, 1),
            Step::Deliver(2, 1, 0),
            Step::Tells(1),
        ],
    );
}

#[test]
fn what_was_accepted_is_told_though_the_child_is_already_on_its_way_back() {
    play(
        Trouble::None,
        vec![
            Step::Tell(2),
            Step::Tells(2),
            Step::Write(2, 0),
            Step::Deliver(2, 0, 0),
            Step::Deliver(2, 0, 0),
            Step::Handle,
            Step::Freeze(2),
            Step::Ready,
            Step::Commit,
            Step::Open,
            Step::Freeze(0),
            Step::Ready,
        ],
    );
}

#[test]
fn a_door_that_owes_an_owner_word_of_its_replies_is_not_dropped() {
    play(
        Trouble::None,
        vec![
            Step::Ask(2),
            Step::Located(2),
            Step::Write(2, 0),
            Step::Deliver(2, 0, 0),
            Step::Deliver(2, 0, 0),
            Step::Handle,
            Step::Write(0, 2),
            Step::Deliver(0, 2, 0),
            Step::Freeze(1),
            Step::Deliver(0, 2, 0),
            Step::Prune(2),
            Step::Ready,
            Step::Commit,
        ],
    );
}

#[test]
fn what_an_owner_before_accepted_and_then_forgot_is_not_handled_by_a_successor_here() {
    play(
        Trouble::None,
        vec![
            Step::Tell(1),
            Step::Located(1),
            Step::Write(1, 0),
            Step::Tell(1),
            Step::Deliver(1, 0, 0),
            Step::Deliver(1, 0, 0),
            Step::Handle,
            Step::Freeze(1),
            Step::Ready,
            Step::Commit,
            Step::Write(0, 1),
            Step::Break(0, 1),
            Step::Open,
            Step::Prune(0),
        ],
    );
}

#[test]
fn who_says_again_what_it_accepted_long_ago_does_not_keep_what_it_refuses() {
    play(
        Trouble::Stops,
        vec![
            Step::Stop,
            Step::Begin(1),
            Step::Open,
            Step::Tells(2),
            Step::Tell(2),
            Step::Write(2, 1),
            Step::Deliver(2, 1, 0),
            Step::Deliver(2, 1, 0),
            Step::Handle,
            Step::Stop,
            Step::Break(1, 2),
            Step::Begin(0),
            Step::Open,
            Step::Freeze(1),
            Step::Ready,
            Step::Stop,
            Step::Tell(2),
        ],
    );
}

#[test]
fn what_a_child_handled_before_it_was_stopped_is_told_who_comes_back_and_not_handled_by_the_next() {
    let steps = [
        Step::Stop,
        Step::Begin(1),
        Step::Tell(2),
        Step::Located(2),
        Step::Write(2, 1),
        Step::Open,
        Step::Deliver(2, 1, 0),
        Step::Deliver(2, 1, 0),
        Step::Handle,
        Step::Break(2, 1),
        Step::Stop,
        Step::Prune(1),
    ];
    play(Trouble::Stops, steps.into());
    play(Trouble::Stops, steps.into_iter().chain([Step::Begin(0), Step::Open]).collect());
}

#[test]
fn the_lane_of_a_node_that_was_out_and_is_back_keeps_no_gate_whose_child_has_gone() {
    play(
        Trouble::All,
        vec![
            Step::Tell(2),
            Step::Located(2),
            Step::Write(2, 0),
            Step::Deliver(2, 0, 0),
            Step::Deliver(2, 0, 0),
            Step::Handle,
            Step::Write(0, 2),
            Step::Deliver(0, 2, 0),
            Step::Fence(2),
            Step::Freeze(1),
            Step::Ready,
            Step::Commit,
            Step::Open,
        ],
    );
}

#[test]
fn an_owner_hears_that_all_is_acknowledged_though_another_had_owed_a_reply_when_it_asked() {
    play(
        Trouble::None,
        vec![
            Step::Ask(2),
            Step::Tell(2),
            Step::Tell(2),
            Step::Located(2),
            Step::Write(2, 0),
            Step::Deliver(2, 0, 0),
            Step::Deliver(2, 0, 0),
            Step::Handle,
            Step::Write(0, 2),
            Step::Deliver(0, 2, 0),
            Step::Break(0, 2),
            Step::Freeze(1),
            Step::Ready,
            Step::Commit,
            Step::Open,
            Step::Tells(2),
            Step::Write(2, 1),
            Step::Deliver(2, 1, 0),
            Step::Deliver(2, 1, 0),
            Step::Handle,
            Step::Write(1, 2),
            Step::Freeze(0),
            Step::Ready,
            Step::Commit,
        ],
    );
}

fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        cases: std::env::var("DOOR_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(400),
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn nothing_is_lost_doubled_or_reordered_while_owners_live(
        steps in proptest::collection::vec(calm_step(), 1..400)
    ) {
        play(Trouble::None, steps);
    }

    #[test]
    fn crashes_and_deadlines_double_nothing_and_every_answer_is_honest(
        steps in proptest::collection::vec(rough_step(), 1..400)
    ) {
        play(Trouble::All, steps);
    }

    #[test]
    fn who_is_refused_as_a_child_was_stopped_was_not_handled_by_any_life_of_it(
        steps in proptest::collection::vec(stops_step(), 1..400)
    ) {
        play(Trouble::Stops, steps);
    }
}
