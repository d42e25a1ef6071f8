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
    /// It gets everything, and nothing leaves it.
    mute: bool,
    /// So many more words leave it; with the last one it dies.
    words_left: Option<usize>,
    /// It said Bye.
    left: bool,
}

/// When a node is told that its view has settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settling {
    /// Never: something of it is missing.
    Never,
    /// As soon as it is in one with others.
    AtOnce,
    /// When all in it have the same one, as early as that can be.
    Together,
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
    step: Duration,
    settling: Settling,
    /// Words come just before, with or just after what their receiver waits for.
    is_mean: bool,
    /// Lives that everybody else has fenced.
    given_up: BTreeSet<(NodeId, Incarnation)>,
}

const STEP: Duration = Duration::from_millis(20);
/// So many nodes are seeds of all.
const SEEDS: usize = 2;

impl World {
    /// No word is held back for longer, so that nobody is silent for a window.
    const MEANEST: Duration = Duration::from_millis(900);

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
            step: STEP,
            settling: Settling::AtOnce,
            is_mean: false,
            given_up: BTreeSet::new(),
        };
        for _ in 0..count {
            let index = world.add();
            world.seek_a_seed(index);
        }
        world
    }

    /// One more node, that dials nobody yet.
    fn add(&mut self) -> usize {
        let index = self.nodes.len();
        let id = NodeId::from_key([index as u8 + 1; 32]);
        let membership = self.membership(id);
        self.nodes.push(Node {
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
            mute: false,
            words_left: None,
            left: false,
        });
        self.drain(index);
        index
    }

    /// One more node, with links to these alone.
    fn add_beside(&mut self, peers: &[usize]) -> usize {
        let index = self.add();
        for other in (0..index).filter(|other| !peers.contains(other)) {
            self.cut(index, other);
        }
        let wanted: Vec<NodeId> = peers.iter().map(|peer| self.nodes[*peer].id).collect();
        self.nodes[index].wants.extend(wanted);
        index
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
            eprintln!(
                "  waits {} joiners {:?} linked {:?} wants {:?}\n  status {:?}",
                node.membership.is_waiting(),
                node.membership
                    .joiners()
                    .iter()
                    .map(|joiner| (joiner.member.id.key()[0], joiner.missing.clone()))
                    .collect::<Vec<_>>(),
                node.ends.keys().map(|peer| peer.key()[0]).collect::<Vec<_>>(),
                node.wants.iter().map(|peer| peer.key()[0]).collect::<Vec<_>>(),
                node.membership.voice.status(),
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
        self.now += self.step;
        for index in 0..self.nodes.len() {
            self.deliver(index);
        }
        for index in 0..self.nodes.len() {
            self.dial(index);
        }
        for index in 0..self.nodes.len() {
            self.live(index);
            if self.nodes[index].alive && self.nodes[index].words_left == Some(0) {
                self.kill(index);
            }
        }
        if self.settling == Settling::Together {
            for index in self.alive() {
                self.settle(index);
            }
        }
        self.check();
    }

    fn settle(&mut self, index: usize) {
        let membership = &self.nodes[index].membership;
        let view = membership.view();
        if membership.is_proven() || view.members.len() == 1 {
            return;
        }
        let component = self.components().into_iter().find(|all| all.contains(&index));
        let agrees = |member: &Member| {
            let other = self.index(member.id);
            component.as_ref().is_some_and(|all| all.contains(&other))
                && self.nodes[other].membership.view().id() == view.id()
        };
        if !membership.is_proven() && view.members.values().all(agrees) {
            let now = self.now;
            self.nodes[index].membership.settled(now);
            self.drain(index);
        }
    }

    /// What holds after each step.
    fn check(&mut self) {
        for index in self.alive() {
            let membership = &self.nodes[index].membership;
            let members = &membership.view().members;
            if members.values().any(|m| membership.fenced(m.id, m.incarnation)) {
                self.fail("a life that is over is in a view");
            }
            if membership.is_waiting() && members.len() > 1 {
                self.fail("a node waits and is in a view");
            }
            let others = members.values().filter(|m| m.id != self.nodes[index].id);
            if others.into_iter().any(|m| self.given_up.contains(&(m.id, m.incarnation))) {
                self.fail("a life that was given up by all is in a view again");
            }
            let fences = &self.nodes[index].announcement.2;
            if fences.len() > self.nodes.len() || membership.status_len() > self.nodes.len() {
                self.fail("votes or fences are kept for lives that nobody has any more");
            }
        }
        for index in self.alive() {
            let (id, life) = (self.nodes[index].id, self.nodes[index].membership.incarnation());
            let mut others = self.alive().into_iter().filter(|other| *other != index).peekable();
            let some = others.peek().is_some();
            if some && others.all(|other| self.nodes[other].membership.fenced(id, life)) {
                self.given_up.insert((id, life));
            }
        }
    }

    /// The nodes that reach each other over whatever paths.
    fn components(&self) -> Vec<BTreeSet<usize>> {
        let speaks = |index: usize| !self.nodes[index].mute;
        let mut open: BTreeSet<usize> = self.alive().into_iter().collect();
        let mut components = Vec::new();
        while let Some(first) = open.pop_first() {
            let mut component = BTreeSet::from([first]);
            let mut edge = vec![first];
            while let Some(at) = edge.pop() {
                let reached = |other: &usize| {
                    self.passes(at, *other)
                        && self.passes(*other, at)
                        && speaks(at)
                        && speaks(*other)
                };
                let next: Vec<usize> = open.iter().copied().filter(reached).collect();
                for other in next {
                    open.remove(&other);
                    component.insert(other);
                    edge.push(other);
                }
            }
            components.push(component);
        }
        components
    }

    /// Whether each component that has a cluster is one, and nobody else is in.
    fn is_good(&self) -> bool {
        self.components().into_iter().all(|component| {
            let nodes = || component.iter().map(|index| &self.nodes[*index]);
            if nodes().all(|node| node.membership.is_waiting() || node.mute) {
                return true;
            }
            let expected: BTreeMap<NodeId, Incarnation> =
                nodes().map(|node| (node.id, node.membership.incarnation())).collect();
            nodes().all(|node| {
                let members = node.membership.view().members.values();
                let calm = members.clone().all(|member| member.state != MemberState::Suspect);
                let seen = members.map(|member| (member.id, member.incarnation));
                calm && node.gates
                    && node.membership.is_proven()
                    && seen.collect::<BTreeMap<_, _>>() == expected
            })
        })
    }

    fn run_until_good(&mut self, limit: Duration) {
        let end = self.now + limit;
        while !self.is_good() {
            if self.now >= end {
                self.fail("the components are not clusters each");
            }
            self.step();
        }
    }

    fn run_until(&mut self, what: &str, limit: Duration, mut is: impl FnMut(&Self) -> bool) {
        let end = self.now + limit;
        while !is(self) {
            if self.now >= end {
                self.fail(what);
            }
            self.step();
        }
    }

    /// Whether a node is in somebody else's view.
    fn is_in(&self, index: usize) -> bool {
        let id = self.nodes[index].id;
        let others = self.alive().into_iter().filter(|other| *other != index);
        others.into_iter().any(|other| self.nodes[other].membership.view().member(id).is_some())
    }

    /// None of these has declared another of them down.
    fn expect_together(&self, healthy: &[usize]) {
        let ids: Vec<NodeId> = healthy.iter().map(|index| self.nodes[*index].id).collect();
        let parted =
            |event: &HubEvent| matches!(event, HubEvent::NodeDown { node } if ids.contains(node));
        if healthy.iter().any(|index| self.nodes[*index].events.iter().any(parted)) {
            self.fail("healthy members parted");
        }
    }

    fn leave(&mut self, index: usize) {
        let now = self.now;
        self.nodes[index].membership.bye(now);
        self.drain(index);
        self.nodes[index].left = true;
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
        let node = &mut self.nodes[index];
        if node.mute || node.words_left == Some(0) {
            return;
        }
        if let Some(left) = &mut node.words_left {
            *left -= 1;
        }
        let mut at = self.now + self.chance.between(self.delay.0, self.delay.1);
        if self.is_mean && self.chance.one_in(2) {
            let receiver = &self.nodes[self.index(to)].membership;
            let latest = self.now + Self::MEANEST;
            let due = receiver.deadline().filter(|due| *due > self.now).unwrap_or(at).min(latest);
            at = [due - self.step, due, due + self.step][self.chance.pick(3)].max(self.now);
        }
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
                    let is_linked = self.nodes[index].ends.contains_key(&to.node)
                        && !self.is_closing(index, to.node);
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
                // Settling is the engine's.
                MemberOutput::ViewChanged => {
                    let now = self.now;
                    if self.settling == Settling::AtOnce {
                        self.nodes[index].membership.settled(now);
                    }
                }
                MemberOutput::Regarded
                | MemberOutput::Reached
                | MemberOutput::Gone { .. }
                | MemberOutput::Renewed => {}
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
        // It has forgotten all fences.
        self.given_up.clear();
        let membership = self.membership(id);
        let node = &mut self.nodes[index];
        node.announcement = (membership.me().clone(), Vec::new(), BTreeMap::new());
        node.membership = membership;
        (node.alive, node.off, node.gates) = (true, false, true);
        (node.mute, node.words_left, node.left) = (false, None, false);
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
        let here = |index: &usize| self.nodes[*index].alive && !self.nodes[*index].left;
        (0..self.nodes.len()).filter(here).collect()
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

/// Two windows and a second.
const LIVE: Duration = Duration::from_secs(7);

/// So many members that have formed, settle with each other, and are linked by what is not cut.
fn members(seed: u64, count: usize) -> World {
    let mut world = World::formed(seed, count);
    world.settling = Settling::Together;
    world.clear_events();
    world
}

#[test]
fn a_joiner_comes_in_by_whatever_links_it_has() {
    for (seed, peers) in [&[0][..], &[2], &[0, 2], &[1, 2], &[0, 1, 2]].into_iter().enumerate() {
        let mut world = members(seed as u64, 3);
        let first = world.add_beside(peers);
        world.run_until("it is not in", LIVE, |world| world.is_in(first));
        world.run_until_good(LIVE);
        // One that is linked with a joiner alone, beside it.
        let second = world.add_beside(&[first]);
        world.run_until("it is not in", LIVE, |world| world.is_in(second));
        world.run_until_good(LIVE);
        world.expect_nobody_down();
    }
}

#[test]
fn joiners_in_a_line_and_at_two_members_come_in_together() {
    for seed in 0..10 {
        let mut world = members(seed, 2);
        let first = world.add_beside(&[0]);
        world.add_beside(&[1]);
        world.add_beside(&[first]);
        world.run(2 * SECOND);
        world.run_until_good(LIVE);
        world.expect_nobody_down();
        let all = world.nodes[0].membership.view().members.len();
        assert_eq!(all, 5, "seed {seed}");
    }
}

#[test]
fn a_direction_that_fails_at_any_moment_of_a_join_parts_nobody() {
    // Which of the joiner's links, which direction, and when.
    for case in 0..18_u64 {
        let (peer, to_joiner, moment) = (case as usize % 3, case / 3 % 2 == 0, case / 6);
        let mut world = members(case, 3);
        let joiner = world.add_beside(&[0, 1, 2]);
        let cut = if to_joiner { (peer, joiner) } else { (joiner, peer) };
        match moment {
            0 => {}
            1 => world.run_until("nobody hears it", LIVE, |world| {
                world.alive().iter().any(|index| {
                    world.nodes[*index].membership.joiners().len() == 1 && *index != joiner
                })
            }),
            _ => world.run_until("it is not in", LIVE, |world| world.is_in(joiner)),
        }
        world.cuts.insert(cut);
        world.run(2 * SECOND);
        world.run_until_good(2 * LIVE);
        world.expect_nobody_down();
        world.run(20 * SECOND);
        world.expect_nobody_down();
        world.heal();
        world.run_until_good(2 * LIVE);
    }
}

#[test]
fn a_joiner_that_dies_after_any_word_holds_nobody_up() {
    for words in 0..40 {
        let mut world = members(words as u64, 2);
        world.step = 2 * MS;
        let peers = [&[0][..], &[0, 1]][words % 2];
        let joiner = world.add_beside(peers);
        world.nodes[joiner].words_left = Some(words);
        world.run_until("it says more", 40 * SECOND, |world| !world.nodes[joiner].alive);
        world.step = STEP;
        if words % 3 == 0 {
            world.switch_off(joiner);
        }
        world.run_until_good(LIVE);
        world.restart(joiner);
        let wanted: Vec<NodeId> = peers.iter().map(|peer| world.nodes[*peer].id).collect();
        world.nodes[joiner].wants.extend(wanted);
        world.run_until("it is not in", 2 * LIVE, |world| world.is_in(joiner));
        world.run_until_good(LIVE);
        world.expect_together(&[0, 1]);
    }
}

#[test]
fn a_hundred_lives_that_crash_one_after_the_other_part_nobody_and_leave_nothing_behind() {
    let heartbeat = Settings::default().heartbeat;
    let window = Settings::default().suspicion_window();
    for (seed, latency) in [MS, heartbeat, window - MS, window + MS].into_iter().enumerate() {
        let lives = if latency == MS { 100 } else { 15 };
        let mut world = members(seed as u64, 3);
        let joiner = world.add_beside(&[0, 1]);
        for _ in 0..lives {
            // The members stay quick; only the joiner is far away.
            let time = match latency == MS {
                true => world.chance.between(MS, 400 * MS),
                false => latency + world.chance.between(Duration::ZERO, 100 * MS),
            };
            world.run(time);
            world.kill(joiner);
            let wait = world.chance.between(MS, 300 * MS);
            world.run(wait);
            world.restart(joiner);
        }
        world.expect_together(&[0, 1, 2]);
        world.run_until_good(2 * LIVE);
        world.run(SECOND);
        for node in &world.nodes {
            assert_eq!(node.membership.status_len(), 0, "votes on lives that are over");
        }
    }
}

#[test]
fn latencies_around_every_deadline_bring_no_life_back() {
    let heartbeat = Settings::default().heartbeat;
    let window = Settings::default().suspicion_window();
    let around = [heartbeat, window];
    let latencies = around.into_iter().flat_map(|time| [time - MS, time, time + MS]);
    for (seed, latency) in latencies.enumerate() {
        let mut world = members(seed as u64, 3);
        world.delay = (latency, latency);
        world.run(30 * SECOND);
        if latency < 2 * heartbeat {
            world.expect_nobody_down();
        }
        world.delay = (MS, 30 * MS);
        world.run(10 * SECOND);
        world.run_until_good(4 * LIVE);
    }
}

#[test]
fn words_just_before_and_just_after_each_deadline_part_nobody() {
    for seed in 0..20 {
        let mut world = members(seed, 3);
        world.is_mean = true;
        for round in 0..6 {
            let peers = [&[0][..], &[0, 1], &[2]][round % 3];
            let joiner = world.add_beside(peers);
            let wait = world.chance.between(STEP, 5 * SECOND);
            world.run(wait);
            match world.pick(3) {
                0 => world.kill(joiner),
                1 => world.leave(joiner),
                _ => world.nodes[joiner].mute = true,
            }
            let wait = world.chance.between(STEP, 5 * SECOND);
            world.run(wait);
        }
        world.expect_together(&[0, 1, 2]);
        world.is_mean = false;
        world.run(SECOND);
        world.run_until_good(LIVE);
    }
}

#[test]
fn a_mute_joiner_never_comes_in_and_one_that_falls_mute_is_out_again() {
    for seed in 0..6 {
        let mut world = members(seed, 3);
        let joiner = world.add_beside(&[0, 1]);
        world.nodes[joiner].mute = true;
        for _ in 0..400 {
            world.step();
            if world.is_in(joiner) {
                world.fail("a node that says nothing is a member");
            }
        }
        world.nodes[joiner].mute = false;
        world.run_until("it is not in", 2 * LIVE, |world| world.is_in(joiner));
        // Between conclude and adopt, or after all have it.
        if seed % 2 == 0 {
            world.run_until_good(LIVE);
        }
        world.nodes[joiner].mute = true;
        world.run_until_good(LIVE);
        world.expect_together(&[0, 1, 2]);
    }
}

#[test]
fn a_mute_member_holds_up_a_join_for_two_windows_at_most() {
    for seed in 0..6 {
        let mut world = members(seed, 3);
        world.nodes[2].mute = true;
        let wait = world.chance.between(STEP, 2 * SECOND);
        world.run(wait);
        let joiner = world.add_beside(&[0, 1]);
        world.run_until("it is not in", LIVE, |world| world.is_in(joiner));
        world.run_until_good(LIVE);
        world.expect_together(&[0, 1]);
        world.nodes[2].mute = false;
        world.run(SECOND);
        world.run_until_good(2 * LIVE);
        assert_eq!(world.nodes[0].membership.view().members.len(), 4, "seed {seed}");
    }
}

#[test]
fn a_member_or_the_concluder_that_dies_in_the_middle_of_a_join_holds_nobody_up() {
    for seed in 0..24 {
        let mut world = members(seed, 3);
        world.step = MS;
        let joiner = world.add_beside(&[0, 1, 2]);
        world.run_until("it is not in", LIVE, |world| world.is_in(joiner));
        let id = world.nodes[joiner].id;
        let has = |index: &usize| world.nodes[*index].membership.view().member(id).is_some();
        let (have, lack): (Vec<usize>, Vec<usize>) = (0..3).partition(has);
        let victim = if seed % 2 == 0 { have[0] } else { lack.first().copied().unwrap_or(2) };
        if seed % 4 < 2 {
            world.kill(victim);
        } else {
            world.switch_off(victim);
        }
        world.step = STEP;
        world.run_until_good(LIVE);
        let healthy: Vec<usize> = (0..4).filter(|index| *index != victim).collect();
        world.expect_together(&healthy);
    }
}

#[test]
fn a_joiner_that_is_cut_off_right_after_it_was_taken_in_waits_again_and_fences_nobody() {
    for seed in 0..20 {
        let mut world = members(seed, 3);
        world.step = MS;
        let mut joiners = vec![world.add_beside(&[0, 1, 2])];
        if seed % 2 == 1 {
            joiners.push(world.add_beside(&[0, 1, 2, 3]));
        }
        // It knows that it is in, and has not settled.
        let first = joiners[0];
        world.run_until("it is not in", LIVE, |world| !world.nodes[first].membership.is_waiting());
        let mut all = joiners.iter();
        let was_proven = all.any(|index| world.nodes[*index].membership.is_proven());
        world.split(&joiners);
        world.step = STEP;
        world.run(LIVE);
        for joiner in joiners.iter().filter(|_| !was_proven) {
            let node = &world.nodes[*joiner].membership;
            if !node.is_waiting() {
                world.fail("it acts alone");
            }
            let lives = (0..3).map(|member| world.nodes[member].membership.me());
            if lives.into_iter().any(|member| node.fenced(member.id, member.incarnation)) {
                world.fail("it fenced a healthy member");
            }
        }
        world.run_until_good(LIVE);
        world.heal();
        world.run(SECOND);
        world.run_until_good(3 * LIVE);
        assert_eq!(world.nodes[0].membership.view().members.len(), 3 + joiners.len());
        world.expect_together(&[0, 1, 2]);
    }
}

#[test]
fn members_that_cuts_left_in_a_line_or_a_star_go_on_with_everything() {
    let line: &[(usize, usize)] = &[(0, 2), (0, 3), (1, 3)];
    let star: &[(usize, usize)] = &[(0, 1), (0, 3), (1, 3)];
    for (seed, cuts) in [line, star, line, star].into_iter().enumerate() {
        let mut world = members(seed as u64, 4);
        for (a, b) in cuts {
            world.cut(*a, *b);
            if seed >= 2 {
                world.break_link(*a, *b);
            }
        }
        world.run(10 * SECOND);
        world.run_until_good(SECOND);
        world.expect_nobody_down();
        // A joiner at an end, and one beside it.
        let joiner = world.add_beside(&[0]);
        world.run_until("it is not in", 2 * LIVE, |world| world.is_in(joiner));
        world.run_until_good(LIVE);
        world.expect_nobody_down();
        // It dies, and an end leaves.
        world.switch_off(joiner);
        world.run_until("it is still in", LIVE, |world| !world.is_in(joiner));
        world.run_until_good(LIVE);
        world.leave(3);
        world.run(SECOND);
        world.run_until_good(SECOND);
        world.expect_together(&[0, 1, 2]);
    }
}

#[test]
fn two_clusters_meet_over_one_link_that_may_go_again_and_past_the_dead() {
    for seed in 0..18_u64 {
        let (left, right) = (2 + seed as usize / 9, 2);
        let count = left + right;
        let mut world = members(seed, count);
        let side: Vec<usize> = (left..count).collect();
        world.split(&side);
        world.run(2 * LIVE);
        world.run_until_good(LIVE);
        world.clear_events();
        if seed % 3 == 1 {
            // Dead, and not declared yet when they meet.
            world.switch_off(count - 1);
        }
        let (a, b) = (1, left);
        world.cuts.remove(&(a, b));
        world.cuts.remove(&(b, a));
        let wait = world.chance.between(STEP, 3 * SECOND);
        world.run(wait);
        if seed % 3 == 2 {
            world.cut(a, b);
            world.break_link(a, b);
            world.run_until_good(2 * LIVE);
            world.cuts.remove(&(a, b));
            world.cuts.remove(&(b, a));
        }
        world.run(SECOND);
        // Dials of who was lost come every few seconds.
        world.run_until_good(3 * LIVE);
    }
}

#[test]
fn a_life_that_was_declared_wrongly_comes_back_though_only_a_third_can_tell_it() {
    for seed in 0..12 {
        let mut world = members(seed, 4);
        let victims: &[usize] = if seed % 3 == 0 { &[3] } else { &[2, 3] };
        world.split(victims);
        world.run(LIVE);
        // Of those who have put it out only node 1 has a link to it.
        world.heal();
        world.cut(0, 3);
        world.cut(2, 3);
        world.run(SECOND);
        world.run_until_good(3 * LIVE);
        assert_eq!(world.nodes[0].membership.view().members.len(), 4, "seed {seed}");
    }
}

#[test]
fn a_joiner_that_says_bye_to_one_while_another_still_adopts_it_is_out_everywhere() {
    for seed in 0..40 {
        let mut world = members(seed, 3);
        world.step = MS;
        let joiner = world.add_beside(&[0, 1]);
        world.run_until("it is not in", LIVE, |world| world.is_in(joiner));
        let wait = world.chance.between(Duration::ZERO, 40 * MS);
        world.run(wait);
        // Of its words one only arrives.
        world.nodes[joiner].words_left = Some(1 + seed as usize % 2);
        world.leave(joiner);
        world.nodes[joiner].mute = true;
        world.step = STEP;
        world.run(SECOND / 2);
        world.switch_off(joiner);
        world.run_until_good(LIVE);
        world.expect_together(&[0, 1, 2]);
    }
}

#[test]
fn nodes_that_all_wait_found_nothing_and_come_in_with_the_first_that_does() {
    for seed in 0..5 {
        let mut world = World::new(seed, 0);
        world.settling = Settling::Together;
        for _ in 0..2 {
            let index = world.add();
            world.nodes[index].wants.clear();
        }
        let (first, second) = (world.nodes[0].id, world.nodes[1].id);
        world.nodes[0].wants.insert(second);
        world.nodes[1].wants.insert(first);
        world.run(40 * SECOND);
        for node in &world.nodes {
            assert!(node.membership.is_waiting() && !node.membership.is_proven(), "seed {seed}");
        }
        world.seed(0, 0, SeedOutcome::Itself);
        world.seed(0, 1, SeedOutcome::Reached(second));
        world.run_until("nobody founds", LIVE, |world| world.nodes[0].membership.is_proven());
        world.run_until("it is not in", LIVE, |world| world.is_in(1));
        world.run_until_good(LIVE);
    }
}

#[test]
fn two_joiners_that_are_cut_off_together_are_no_cluster() {
    for seed in 0..20 {
        let mut world = members(seed, 1 + seed as usize % 3);
        let first = world.add_beside(&[0]);
        let second = world.add_beside(&[0, first]);
        world.settling = Settling::Never;
        world.run_until("they are not in", 2 * LIVE, |world| {
            let all = |index: usize| world.nodes[index].membership.view().members.len();
            all(first) == second + 1 && all(second) == second + 1
        });
        let wait = world.chance.between(Duration::ZERO, 2 * SECOND);
        world.run(wait);
        world.split(&[first, second]);
        world.settling = Settling::Together;
        world.run(2 * LIVE);
        for joiner in [first, second] {
            let node = &world.nodes[joiner].membership;
            if !node.is_waiting() || node.view().members.len() > 1 {
                world.fail("two that nobody holds in act as a cluster");
            }
        }
        world.heal();
        world.run(SECOND);
        world.run_until_good(3 * LIVE);
        assert_eq!(world.nodes[0].membership.view().members.len(), second + 1);
    }
}
