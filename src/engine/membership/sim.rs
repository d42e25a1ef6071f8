//! Many memberships on a network of chance: delays, cuts, breaks, pauses, crashes, restarts.
//!
//! The network behaves like a transport over TCP: one link for each pair, words in order, a cut
//! holds bytes back and breaks nothing, an end that closes is noticed by the other when a byte can
//! reach it. Each failure names its seed; the seed replays the run.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use super::{MemberOutput, Membership, founding::Founding};
use crate::engine::{chance::Chance, io::Effect, relay};
use crate::model::{
    address::SeedOutcome,
    event::HubEvent,
    id::{HubName, Incarnation, NodeId, NodeName, NodeRun},
    member::{Hello, Member, MemberState, WIRE_VERSION},
    message::PeerMessage,
    settings::Settings,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// What a transport tells a node.
#[derive(Clone, Debug)]
enum Input {
    Linked(Hello),
    Unlinked(NodeRun),
    Word(NodeRun, PeerMessage),
    Fenced(Incarnation),
    Unreachable(NodeId, bool),
    Seed(usize, SeedOutcome),
}

/// What is on its way from one end of a link to the other.
#[derive(Clone, Debug)]
enum Flow {
    Word(PeerMessage),
    Closed,
}

/// One end of a link.
struct End {
    link: u64,
    peer: NodeRun,
    /// How much has come over it, and had when it was looked at because it was silent.
    came: u64,
    looked_at: Option<u64>,
    /// What this end has sent and the other has not got; the time is the earliest it can arrive.
    flow: VecDeque<(Instant, Flow)>,
}

struct Node {
    id: NodeId,
    membership: Membership,
    announcement: (Member, Vec<Member>, BTreeMap<NodeId, Incarnation>),
    alive: bool,
    /// Switched off: its host answers nothing.
    off: bool,
    paused_until: Option<Instant>,
    wants: BTreeSet<NodeId>,
    redial: BTreeMap<NodeId, (Instant, Duration)>,
    ends: BTreeMap<NodeId, End>,
    inbox: VecDeque<(Instant, Input)>,
    events: Vec<HubEvent>,
    gates: bool,
}

struct World {
    seed: u64,
    chance: Chance,
    start: Instant,
    now: Instant,
    settings: Settings,
    delay: (Duration, Duration),
    nodes: Vec<Node>,
    /// Directions in which no byte passes.
    cuts: BTreeSet<(usize, usize)>,
    links: u64,
    nonces: u64,
}

const STEP: Duration = Duration::from_millis(20);
/// So many nodes are seeds of all.
const SEEDS: usize = 2;

impl World {
    fn new(seed: u64, count: usize) -> Self {
        let start = Instant::now();
        let settings = Settings::default();
        let mut world = Self {
            seed,
            chance: Chance(seed),
            start,
            now: start,
            settings,
            delay: (MS, 30 * MS),
            nodes: Vec::new(),
            cuts: BTreeSet::new(),
            links: 0,
            nonces: 0,
        };
        for index in 0..count {
            let id = NodeId::from_key([index as u8 + 1; 32]);
            let membership = world.membership(id);
            world.nodes.push(Node {
                id,
                announcement: (membership.me().clone(), Vec::new(), BTreeMap::new()),
                membership,
                alive: true,
                off: false,
                paused_until: None,
                wants: BTreeSet::new(),
                redial: BTreeMap::new(),
                ends: BTreeMap::new(),
                inbox: VecDeque::new(),
                events: Vec::new(),
                gates: true,
            });
            world.drain(index);
            world.seek_a_seed(index);
        }
        world
    }

    /// A mesh that has formed.
    fn formed(seed: u64, count: usize) -> Self {
        let mut world = Self::new(seed, count);
        world.run_until_equal(20 * SECOND);
        world
    }

    fn membership(&mut self, id: NodeId) -> Membership {
        self.nonces += 1;
        let started = 1_000 + self.now.duration_since(self.start).as_millis() as u64;
        let me = Member {
            id,
            incarnation: Incarnation { started, nonce: self.nonces },
            name: NodeName::new("node").expect("a plain word"),
            addresses: vec![format!("/memory/{}", id.key()[0])],
            weight: 1,
            state: MemberState::Alive,
            revision: 0,
        };
        let seeds = (0..SEEDS).map(|seed| seed.to_string()).collect();
        Membership::alone(me, &self.settings, Founding::Seeds(seeds), self.now)
    }

    /// The first two nodes are everybody's seeds.
    fn seek_a_seed(&mut self, index: usize) {
        let seeds: Vec<NodeId> = self.nodes.iter().take(SEEDS).map(|node| node.id).collect();
        let node = &mut self.nodes[index];
        node.wants.extend(seeds.into_iter().filter(|seed| *seed != node.id));
        if index < SEEDS {
            self.tell(index, Input::Seed(index, SeedOutcome::Itself));
        }
    }

    /// What came of a dial, if it was of a seed.
    fn seed(&mut self, index: usize, to: usize, outcome: SeedOutcome) {
        if to < SEEDS {
            self.tell(index, Input::Seed(to, outcome));
        }
    }

    fn index(&self, id: NodeId) -> usize {
        id.key()[0] as usize - 1
    }

    fn fail(&self, what: &str) -> ! {
        for node in &self.nodes {
            let members = &node.membership.view().members;
            let seen = members.values().map(|m| (m.id.key()[0], m.incarnation.started, m.state));
            eprintln!(
                "node {} alive {} off {} view {:?}\n  events {:?}",
                node.id.key()[0],
                node.alive,
                node.off,
                seen.collect::<Vec<_>>(),
                node.events,
            );
        }
        let passed = self.now.duration_since(self.start);
        panic!("seed {}: {what}, {passed:?} after the start", self.seed);
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    fn step(&mut self) {
        self.now += STEP;
        for index in 0..self.nodes.len() {
            self.deliver(index);
        }
        for index in 0..self.nodes.len() {
            self.dial(index);
        }
        for index in 0..self.nodes.len() {
            self.live(index);
        }
    }

    fn passes(&self, from: usize, to: usize) -> bool {
        !self.cuts.contains(&(from, to)) && !self.nodes[from].off && !self.nodes[to].off
    }

    /// Moves what can arrive at the other ends of this node's links. A dead process sends what its
    /// system still holds: the end of the stream.
    fn deliver(&mut self, from: usize) {
        let peers: Vec<NodeId> = self.nodes[from].ends.keys().copied().collect();
        for peer in peers {
            let to = self.index(peer);
            if !self.passes(from, to) {
                continue;
            }
            let id = self.nodes[from].id;
            loop {
                let end = self.nodes[from].ends.get_mut(&peer).expect("it was listed");
                if end.flow.front().is_none_or(|(at, _)| *at > self.now) {
                    break;
                }
                let (link, (_, flow)) = (end.link, end.flow.pop_front().expect("it was seen"));
                let other = &mut self.nodes[to];
                let same = other.ends.get(&id).is_some_and(|end| end.link == link);
                match flow {
                    Flow::Word(word) if same && other.alive => {
                        let end = other.ends.get_mut(&id).expect("it was seen");
                        end.came += 1;
                        let run = end.peer;
                        other.inbox.push_back((self.now, Input::Word(run, word)));
                    }
                    Flow::Word(_) => {}
                    Flow::Closed => {
                        self.nodes[from].ends.remove(&peer);
                        if same {
                            self.lose(to, id);
                        }
                        break;
                    }
                }
            }
        }
    }

    /// An end notices that the other is gone.
    fn lose(&mut self, index: usize, peer: NodeId) {
        let now = self.now;
        let node = &mut self.nodes[index];
        if let Some(end) = node.ends.remove(&peer)
            && node.alive
        {
            node.inbox.push_back((now, Input::Unlinked(end.peer)));
            node.redial.remove(&peer);
        }
    }

    /// This node closes its end.
    fn close(&mut self, index: usize, peer: NodeId) {
        let at = self.now + self.chance.between(self.delay.0, self.delay.1);
        let now = self.now;
        let node = &mut self.nodes[index];
        if let Some(end) = node.ends.get_mut(&peer) {
            if end.flow.iter().any(|(_, flow)| matches!(flow, Flow::Closed)) {
                return;
            }
            end.flow.push_back((at, Flow::Closed));
            if node.alive {
                node.inbox.push_back((now, Input::Unlinked(end.peer)));
            }
        }
    }

    fn is_closing(&self, index: usize, peer: NodeId) -> bool {
        self.nodes[index]
            .ends
            .get(&peer)
            .is_some_and(|end| end.flow.iter().any(|(_, flow)| matches!(flow, Flow::Closed)))
    }

    /// A link that breaks on the way: both ends notice.
    fn break_link(&mut self, a: usize, b: usize) {
        let (first, second) = (self.nodes[a].id, self.nodes[b].id);
        if self.nodes[a].ends.contains_key(&second) && !self.is_closing(a, second) {
            self.lose(a, second);
            self.lose(b, first);
        }
    }

    fn dial(&mut self, index: usize) {
        let node = &self.nodes[index];
        if !node.alive || node.off || node.paused_until.is_some() {
            return;
        }
        for peer in node.wants.clone() {
            if self.nodes[index].ends.contains_key(&peer) && !self.is_closing(index, peer) {
                continue;
            }
            let (at, pause) = match self.nodes[index].redial.get(&peer) {
                Some(redial) => *redial,
                None => {
                    let wait = self.chance.between(50 * MS, 300 * MS);
                    let redial = (self.now + wait, 100 * MS);
                    self.nodes[index].redial.insert(peer, redial);
                    redial
                }
            };
            if at > self.now {
                continue;
            }
            let jitter = self.chance.between(Duration::ZERO, pause / 2);
            let next = (self.now + pause + jitter, (pause * 2).min(5 * SECOND));
            self.nodes[index].redial.insert(peer, next);
            let to = self.index(peer);
            if !self.passes(index, to) || !self.passes(to, index) {
                self.tell(index, Input::Unreachable(peer, false));
                self.seed(index, to, SeedOutcome::Failed("no answer".to_owned()));
            } else if !self.nodes[to].alive {
                self.tell(index, Input::Unreachable(peer, true));
                self.seed(index, to, SeedOutcome::Failed("refused".to_owned()));
            } else if self.nodes[to].paused_until.is_some() {
                self.tell(index, Input::Unreachable(peer, false));
            } else {
                self.seed(index, to, SeedOutcome::Reached(peer));
                self.shake_hands(index, to);
            }
        }
    }

    fn tell(&mut self, index: usize, input: Input) {
        let now = self.now;
        self.nodes[index].inbox.push_back((now, input));
    }

    fn shake_hands(&mut self, a: usize, b: usize) {
        let (first, second) = (self.hello(a, b), self.hello(b, a));
        let fenced_at = |hello: &Hello, other: &Hello| {
            hello.fenced.filter(|fenced| other.me.incarnation <= *fenced)
        };
        let (a_fences, b_fences) = (fenced_at(&first, &second), fenced_at(&second, &first));
        if let Some(fenced) = b_fences {
            self.tell(a, Input::Fenced(fenced));
        }
        if let Some(fenced) = a_fences {
            self.tell(b, Input::Fenced(fenced));
        }
        if a_fences.is_some() || b_fences.is_some() {
            return;
        }
        // An end that is left over from an earlier link is given up before the new one stands.
        for (index, peer) in [(a, second.me.id), (b, first.me.id)] {
            if self.is_closing(index, peer) {
                self.nodes[index].ends.remove(&peer);
            } else {
                self.lose(index, peer);
            }
        }
        self.links += 1;
        let link = self.links;
        for (index, hello) in [(a, &second), (b, &first)] {
            let peer = hello.me.run();
            let end = End { link, peer, came: 0, looked_at: None, flow: VecDeque::new() };
            self.nodes[index].ends.insert(hello.me.id, end);
            self.nodes[index].redial.remove(&hello.me.id);
            self.tell(index, Input::Linked(hello.clone()));
        }
    }

    fn hello(&self, from: usize, to: usize) -> Hello {
        let (me, known, fenced) = &self.nodes[from].announcement;
        Hello {
            version: WIRE_VERSION,
            hub: HubName::new("sim").expect("a plain word"),
            me: me.clone(),
            fenced: fenced.get(&self.nodes[to].id).copied(),
            known: known.clone(),
            dialled: None,
        }
    }

    /// One node handles what has come and what is due.
    fn live(&mut self, index: usize) {
        let now = self.now;
        let node = &mut self.nodes[index];
        if !node.alive {
            return;
        }
        if node.paused_until.is_some_and(|until| now < until) {
            return;
        }
        node.paused_until = None;
        while let Some((_, input)) = self.nodes[index].inbox.pop_front() {
            let membership = &mut self.nodes[index].membership;
            match input {
                Input::Linked(hello) => membership.linked(now, hello),
                Input::Unlinked(run) => membership.unlinked(now, run),
                Input::Word(from, message) => {
                    membership.heard(now, from);
                    self.word(index, from, message);
                }
                Input::Seed(seed, outcome) => membership.seed(now, seed.to_string(), outcome),
                Input::Fenced(incarnation) => membership.told_fenced(now, incarnation),
                Input::Unreachable(node, refused) => membership.unreachable(now, node, refused),
            }
            self.drain(index);
        }
        if self.nodes[index].membership.deadline().is_some_and(|at| at <= now) {
            self.nodes[index].membership.tick(now);
            self.drain(index);
            if self.nodes[index].membership.deadline().is_some_and(|at| at <= now) {
                self.fail("a tick left its deadline in the past");
            }
        }
    }

    /// A word that came over a link: for this node, or to be passed on.
    fn word(&mut self, index: usize, from: NodeRun, message: PeerMessage) {
        let now = self.now;
        let membership = &mut self.nodes[index].membership;
        let me = membership.me().run();
        match message {
            PeerMessage::Member(word) => membership.handle(now, from, true, word),
            PeerMessage::Relay { from: origin, to, hops, message } if to != me => {
                let passed = relay::pass_on(membership, from.node, origin, to, hops, message);
                self.put(index, passed);
            }
            PeerMessage::Relay { from: origin, message, .. } => {
                if let PeerMessage::Member(word) = *message {
                    membership.handle(now, origin, false, word);
                }
            }
            _ => {}
        }
    }

    /// Puts a word onto the link that it goes by, if there is one.
    fn put(&mut self, index: usize, effect: Option<Effect>) {
        let Some(Effect::Send { to, message }) = effect else { return };
        let at = self.now + self.chance.between(self.delay.0, self.delay.1);
        if let Some(end) = self.nodes[index].ends.get_mut(&to) {
            let last = end.flow.back().map_or(at, |(last, _)| *last);
            end.flow.push_back((at.max(last), Flow::Word(message)));
        }
    }

    fn drain(&mut self, index: usize) {
        while let Some(output) = self.nodes[index].membership.next_output() {
            let me = self.nodes[index].membership.me().run();
            match output {
                MemberOutput::Send { to, word } => {
                    let message = PeerMessage::Member(word);
                    let membership = &mut self.nodes[index].membership;
                    let effect = relay::send(membership, me, to, message);
                    self.put(index, effect);
                }
                MemberOutput::Probe { to, word } => {
                    let message = PeerMessage::Member(word);
                    self.put(index, Some(Effect::Send { to, message }));
                }
                MemberOutput::Greet { to, word } => {
                    let message = PeerMessage::Member(word);
                    let is_linked = self.nodes[index].ends.contains_key(&to.node);
                    let membership = &mut self.nodes[index].membership;
                    let effect = if is_linked {
                        Some(Effect::Send { to: to.node, message })
                    } else {
                        relay::greet(membership, me, to, message)
                    };
                    self.put(index, effect);
                }
                MemberOutput::Connect { node, .. } => {
                    self.nodes[index].wants.insert(node);
                    self.nodes[index].redial.remove(&node);
                }
                MemberOutput::Disconnect { node, .. } => {
                    self.nodes[index].wants.remove(&node);
                    self.close(index, node);
                    let seed = self.index(node) < SEEDS;
                    if seed {
                        self.nodes[index].wants.insert(node);
                    }
                }
                MemberOutput::Silent { node, .. } => {
                    let Some(end) = self.nodes[index].ends.get_mut(&node) else { continue };
                    if end.looked_at.replace(end.came) == Some(end.came) {
                        self.close(index, node);
                        self.nodes[index].wants.insert(node);
                        self.nodes[index].redial.remove(&node);
                    }
                }
                MemberOutput::Announce { me, known, fenced } => {
                    let fenced = fenced.into_iter().collect();
                    self.nodes[index].announcement = (me, known, fenced);
                }
                MemberOutput::Event(event) => self.nodes[index].events.push(event),
                MemberOutput::Gates { valid } => self.nodes[index].gates = valid,
                // Settling is the engine's: here a node settles as soon as it is taken in.
                MemberOutput::ViewChanged => {
                    let now = self.now;
                    self.nodes[index].membership.settled(now);
                }
                MemberOutput::Regarded | MemberOutput::Gone { .. } | MemberOutput::Renewed => {}
            }
        }
    }

    /// The process is killed; its system closes its links.
    fn kill(&mut self, index: usize) {
        self.nodes[index].alive = false;
        let peers: Vec<NodeId> = self.nodes[index].ends.keys().copied().collect();
        for peer in peers {
            self.close(index, peer);
        }
        let node = &mut self.nodes[index];
        node.inbox.clear();
        node.wants.clear();
        node.redial.clear();
    }

    fn switch_off(&mut self, index: usize) {
        self.kill(index);
        self.nodes[index].off = true;
        self.nodes[index].ends.clear();
    }

    fn restart(&mut self, index: usize) {
        let id = self.nodes[index].id;
        let membership = self.membership(id);
        let node = &mut self.nodes[index];
        node.announcement = (membership.me().clone(), Vec::new(), BTreeMap::new());
        node.membership = membership;
        (node.alive, node.off, node.gates) = (true, false, true);
        node.ends.retain(|_, end| !end.flow.is_empty());
        self.drain(index);
        self.seek_a_seed(index);
    }

    fn pause(&mut self, index: usize, time: Duration) {
        self.nodes[index].paused_until = Some(self.now + time);
    }

    fn cut(&mut self, a: usize, b: usize) {
        self.cuts.extend([(a, b), (b, a)]);
    }

    /// Cuts each link between the two sides.
    fn split(&mut self, side: &[usize]) {
        for a in 0..self.nodes.len() {
            for b in 0..self.nodes.len() {
                if side.contains(&a) != side.contains(&b) {
                    self.cuts.insert((a, b));
                }
            }
        }
    }

    fn heal(&mut self) {
        self.cuts.clear();
    }

    fn clear_events(&mut self) {
        for node in &mut self.nodes {
            node.events.clear();
        }
    }

    fn alive(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|index| self.nodes[*index].alive).collect()
    }

    fn are_equal(&self) -> bool {
        let alive = self.alive();
        let expected: BTreeMap<NodeId, Incarnation> = alive
            .iter()
            .map(|index| (self.nodes[*index].id, self.nodes[*index].membership.incarnation()))
            .collect();
        alive.iter().all(|index| {
            let node = &self.nodes[*index];
            let view = node.membership.view();
            let seen = view.members.values().map(|member| (member.id, member.incarnation));
            let calm = view.members.values().all(|member| member.state == MemberState::Alive);
            let calm = calm && !node.membership.is_waiting();
            calm && node.gates && seen.collect::<BTreeMap<_, _>>() == expected
        })
    }

    fn run_until_equal(&mut self, limit: Duration) {
        let end = self.now + limit;
        while !self.are_equal() {
            if self.now >= end {
                self.fail("the views did not become equal");
            }
            self.step();
        }
        let ids: BTreeSet<_> =
            self.alive().iter().map(|i| self.nodes[*i].membership.view().id()).collect();
        if ids.len() != 1 {
            self.fail("equal views have different ids");
        }
    }

    fn run_until_gone(&mut self, gone: usize, watchers: &[usize], limit: Duration) {
        let id = self.nodes[gone].id;
        let end = self.now + limit;
        while watchers.iter().any(|i| self.nodes[*i].membership.view().member(id).is_some()) {
            if self.now >= end {
                self.fail("a dead node is still in");
            }
            self.step();
        }
    }

    fn expect_nobody_down(&self) {
        let down = |event: &HubEvent| matches!(event, HubEvent::NodeDown { .. });
        if self.nodes.iter().any(|node| node.events.iter().any(down)) {
            self.fail("a live node was declared down");
        }
    }

    fn pick(&mut self, limit: usize) -> usize {
        self.chance.below(limit as u64) as usize
    }
}

fn seeds(count: u64) -> impl Iterator<Item = (u64, usize)> {
    (0..count).map(|seed| (seed, 2 + seed as usize % 5))
}

#[test]
fn a_mesh_forms_from_one_seed_and_breaking_links_bring_nobody_down() {
    for (seed, count) in seeds(60) {
        let mut world = World::formed(seed, count);
        for _ in 0..15 {
            let (a, b) = (world.pick(count), world.pick(count));
            if a != b {
                world.break_link(a, b);
            }
            let wait = world.chance.between(STEP, 2 * SECOND);
            world.run(wait);
        }
        world.run_until_equal(10 * SECOND);
        world.expect_nobody_down();
    }
}

#[test]
fn slow_links_bring_nobody_down() {
    for (seed, count) in seeds(30) {
        let mut world = World::formed(seed, count);
        world.delay = (MS, 900 * MS);
        world.run(30 * SECOND);
        world.expect_nobody_down();
    }
}

#[test]
fn a_killed_process_is_down_everywhere_within_a_second() {
    for (seed, count) in seeds(60) {
        let mut world = World::formed(seed, count);
        let victim = world.pick(count);
        world.kill(victim);
        let alive = world.alive();
        world.run_until_gone(victim, &alive, SECOND);
        world.run_until_equal(SECOND);
    }
}

#[test]
fn two_processes_killed_at_once_are_down_everywhere_within_seconds() {
    for (seed, _) in seeds(40) {
        let count = 3 + seed as usize % 4;
        let mut world = World::formed(seed, count);
        let first = world.pick(count);
        let second = (first + 1) % count;
        world.kill(first);
        world.kill(second);
        let alive = world.alive();
        world.run_until_gone(first, &alive, 4 * SECOND);
        world.run_until_gone(second, &alive, 4 * SECOND);
    }
}

#[test]
fn a_host_that_falls_silent_is_down_everywhere_within_seconds() {
    for (seed, count) in seeds(60) {
        let mut world = World::formed(seed, count);
        let victim = world.pick(count);
        world.switch_off(victim);
        let alive = world.alive();
        // Two nodes wait twice the window: the survivor cannot know that it is not the one cut off.
        let limit = if count == 2 { 7 * SECOND } else { 5 * SECOND };
        world.run_until_gone(victim, &alive, limit);
        world.run_until_equal(SECOND);
    }
}

#[test]
fn a_process_that_restarts_at_once_is_one_that_died_and_one_that_joined() {
    for (seed, count) in seeds(60) {
        let mut world = World::formed(seed, count);
        let victim = world.pick(count);
        world.clear_events();
        world.kill(victim);
        let wait = world.chance.between(STEP, SECOND);
        world.run(wait);
        world.restart(victim);
        world.run_until_equal(20 * SECOND);
        let id = world.nodes[victim].id;
        for index in (0..count).filter(|index| *index != victim) {
            let events = &world.nodes[index].events;
            let died = events.iter().position(|e| *e == HubEvent::NodeDown { node: id });
            let came = |e: &HubEvent| matches!(e, HubEvent::NodeJoined { node, .. } if *node == id);
            let came = events.iter().rposition(came);
            if died.is_none() || died > came {
                world.fail("the old run did not go before the new one came");
            }
        }
    }
}

#[test]
fn a_cut_of_one_link_or_of_one_way_of_it_brings_nobody_down() {
    for (seed, _) in seeds(60) {
        let count = 3 + seed as usize % 3;
        let mut world = World::formed(seed, count);
        let a = world.pick(count);
        let b = (a + 1 + world.pick(count - 1)) % count;
        if seed % 2 == 0 {
            world.cut(a, b);
        } else {
            world.cuts.insert((a, b));
        }
        let break_too = world.pick(2) == 0;
        if break_too {
            world.break_link(a, b);
        }
        world.run(40 * SECOND);
        world.expect_nobody_down();
        world.heal();
        world.run_until_equal(15 * SECOND);
        world.expect_nobody_down();
    }
}

#[test]
fn a_node_that_was_cut_off_heals_and_brings_no_other_down() {
    for (seed, _) in seeds(100) {
        let count = 3 + seed as usize % 4;
        let mut world = World::formed(seed, count);
        world.clear_events();
        let lonely = world.pick(count);
        world.split(&[lonely]);
        let wait = world.chance.between(SECOND, 40 * SECOND);
        world.run(wait);
        world.heal();
        world.run_until_equal(30 * SECOND);
        world.run(5 * SECOND);
        world.run_until_equal(SECOND);
        let id = world.nodes[lonely].id;
        let wronged = |e: &HubEvent| matches!(e, HubEvent::NodeDown { node } if *node != id);
        for index in (0..count).filter(|index| *index != lonely) {
            if world.nodes[index].events.iter().any(wronged) {
                world.fail("the verdict of a lonely node brought another down");
            }
        }
    }
}

#[test]
fn two_nodes_that_lose_sight_of_each_other_for_less_than_two_windows_stay_together() {
    for seed in 0..40 {
        let mut world = World::formed(seed, 2);
        world.cut(0, 1);
        let wait = world.chance.between(3 * SECOND, 4 * SECOND);
        world.run(wait);
        world.heal();
        world.run_until_equal(5 * SECOND);
        world.expect_nobody_down();
    }
}

#[test]
fn a_node_that_leaves_is_neither_suspected_nor_down() {
    for (seed, count) in seeds(40) {
        let mut world = World::formed(seed, count);
        world.clear_events();
        let leaver = world.pick(count);
        let id = world.nodes[leaver].id;
        let now = world.now;
        world.nodes[leaver].membership.start_leaving(now);
        world.drain(leaver);
        world.run(2 * SECOND);
        let now = world.now;
        world.nodes[leaver].membership.bye(now);
        world.drain(leaver);
        world.run(SECOND / 2);
        world.kill(leaver);
        world.run(5 * SECOND);
        world.run_until_equal(SECOND);
        let expected = [HubEvent::NodeLeaving { node: id }, HubEvent::NodeLeft { node: id }];
        for index in (0..count).filter(|index| *index != leaver) {
            if world.nodes[index].events != expected {
                world.fail("a leave looked like something else");
            }
        }
        world.restart(leaver);
        world.run_until_equal(10 * SECOND);
    }
}

#[test]
fn both_sides_of_a_split_go_on_and_become_one_again() {
    for (seed, _) in seeds(100) {
        let count = 4 + seed as usize % 4;
        let mut world = World::formed(seed, count);
        let side: Vec<usize> = (0..count).filter(|_| world.chance.below(2) == 0).collect();
        world.split(&side);
        let wait = world.chance.between(SECOND, 30 * SECOND);
        world.run(wait);
        world.heal();
        world.run_until_equal(30 * SECOND);
    }
}

#[test]
fn a_paused_node_comes_back_and_opens_its_gates_only_as_a_life_that_counts() {
    for (seed, count) in seeds(150) {
        let mut world = World::formed(seed, count);
        let wait = world.chance.between(STEP, 2 * SECOND);
        world.run(wait);
        let sleeper = world.pick(count);
        let longest = if seed % 2 == 0 { 4 * SECOND } else { 12 * SECOND };
        let time = world.chance.between(SECOND, longest);
        world.pause(sleeper, time);
        let end = world.now + time + 30 * SECOND;
        let id = world.nodes[sleeper].id;
        let mut woke = None;
        while world.now < end {
            world.step();
            let awake = world.nodes[sleeper].paused_until.is_none();
            // One step of life tells it that it slept.
            let slept_well = woke.is_some_and(|at| world.now > at);
            if awake && woke.is_none() {
                woke = Some(world.now);
            }
            let node = &world.nodes[sleeper];
            let life = node.membership.incarnation();
            let others = (0..count).filter(|index| *index != sleeper);
            let mut fenced = others.map(|i| world.nodes[i].membership.fenced(id, life));
            if awake && slept_well && node.gates && fenced.any(|fenced| fenced) {
                world.fail("gates are open in a life that is over");
            }
        }
        world.run_until_equal(SECOND);
    }
}

#[test]
fn after_any_misfortune_the_views_become_equal() {
    for seed in 0..150 {
        let count = 2 + seed as usize % 6;
        let mut world = World::formed(seed, count);
        for _ in 0..12 {
            let (a, b) = (world.pick(count), world.pick(count));
            match world.chance.below(9) {
                0 if a != b => world.cut(a, b),
                1 if a != b => {
                    world.cuts.insert((a, b));
                }
                2 => world.split(&[a, b]),
                3 | 4 => world.heal(),
                5 if world.nodes[a].alive => world.kill(a),
                6 if world.nodes[a].alive => world.switch_off(a),
                7 if !world.nodes[a].alive => world.restart(a),
                8 if world.nodes[a].alive => {
                    let time = world.chance.between(SECOND, 8 * SECOND);
                    world.pause(a, time);
                }
                _ if a != b => world.break_link(a, b),
                _ => {}
            }
            let wait = world.chance.between(STEP, 6 * SECOND);
            world.run(wait);
        }
        world.heal();
        for index in 0..count {
            if !world.nodes[index].alive {
                world.restart(index);
            }
        }
        world.run_until_equal(60 * SECOND);
        world.run(10 * SECOND);
        world.run_until_equal(SECOND);
    }
}

#[test]
fn a_run_replays_from_its_seed() {
    let run = || {
        let mut world = World::formed(7, 5);
        world.split(&[0, 3]);
        world.run(10 * SECOND);
        world.heal();
        world.run_until_equal(30 * SECOND);
        let passed = world.now.duration_since(world.start);
        let events: Vec<_> = world.nodes.iter().map(|node| node.events.clone()).collect();
        (passed, events)
    };
    assert_eq!(run(), run());
}
