//! How the nodes of a world live: what they are told, and what they want done.

use super::*;

impl World {
    /// No word is held back for longer, so that nobody is silent for a window.
    pub(super) const MEANEST: Duration = Duration::from_millis(900);

    pub(super) fn new(seed: u64, count: usize) -> Self {
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
            far: BTreeMap::new(),
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
    pub(super) fn add(&mut self) -> usize {
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
            said: 0,
        });
        self.drain(index);
        index
    }

    /// One more node, with links to these alone.
    pub(super) fn add_beside(&mut self, peers: &[usize]) -> usize {
        let index = self.add();
        for other in (0..index).filter(|other| !peers.contains(other)) {
            self.cut(index, other);
        }
        let wanted: Vec<NodeId> = peers.iter().map(|peer| self.nodes[*peer].id).collect();
        self.nodes[index].wants.extend(wanted);
        index
    }

    /// A mesh that has formed.
    pub(super) fn formed(seed: u64, count: usize) -> Self {
        let mut world = Self::new(seed, count);
        world.run_until_equal(20 * SECOND);
        world
    }

    pub(super) fn membership(&mut self, id: NodeId) -> Membership {
        self.nonces += 1;
        let started = 1_000 + self.now.duration_since(self.start).as_millis() as u64;
        let me = Member {
            id,
            incarnation: Incarnation { started, nonce: self.nonces },
            name: NodeName::new("node").expect("a plain word"),
            addresses: vec![format!("/memory/{}", id.key()[0])],
            weight: 1,
            state: MemberState::Alive,
            draining: false,
            labels: Default::default(),
            revision: 0,
        };
        let seeds = (0..SEEDS).map(|seed| seed.to_string()).collect();
        Membership::alone(me, &self.settings, Founding::Seeds(seeds), self.now)
    }

    /// The first two nodes are everybody's seeds.
    pub(super) fn seek_a_seed(&mut self, index: usize) {
        let seeds: Vec<NodeId> = self.nodes.iter().take(SEEDS).map(|node| node.id).collect();
        let node = &mut self.nodes[index];
        node.wants.extend(seeds.into_iter().filter(|seed| *seed != node.id));
        if index < SEEDS {
            self.tell(index, Input::Seed(index, SeedOutcome::Itself));
        }
    }

    /// What came of a dial, if it was of a seed.
    pub(super) fn seed(&mut self, index: usize, to: usize, outcome: SeedOutcome) {
        if to < SEEDS {
            self.tell(index, Input::Seed(to, outcome));
        }
    }

    pub(super) fn index(&self, id: NodeId) -> usize {
        id.key()[0] as usize - 1
    }

    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    pub(super) fn step(&mut self) {
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

    pub(super) fn settle(&mut self, index: usize) {
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

    pub(super) fn run_until(
        &mut self,
        what: &str,
        limit: Duration,
        mut is: impl FnMut(&Self) -> bool,
    ) {
        let end = self.now + limit;
        while !is(self) {
            if self.now >= end {
                self.fail(what);
            }
            self.step();
        }
    }

    pub(super) fn tell(&mut self, index: usize, input: Input) {
        let now = self.now;
        self.nodes[index].inbox.push_back((now, input));
    }

    /// One node handles what has come and what is due.
    pub(super) fn live(&mut self, index: usize) {
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
    pub(super) fn word(&mut self, index: usize, from: NodeRun, message: PeerMessage) {
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
    pub(super) fn put(&mut self, index: usize, effect: Option<Effect>) {
        let Some(Effect::Send { to, message }) = effect else { return };
        let node = &mut self.nodes[index];
        if node.mute || node.words_left == Some(0) {
            return;
        }
        node.said += 1;
        if let Some(left) = &mut node.words_left {
            *left -= 1;
        }
        let ends = [index, self.index(to)];
        let far: Duration = ends.iter().filter_map(|end| self.far.get(end)).sum();
        let mut at = self.now + far + self.chance.between(self.delay.0, self.delay.1);
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

    pub(super) fn drain(&mut self, index: usize) {
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

    pub(super) fn clear_events(&mut self) {
        for node in &mut self.nodes {
            node.events.clear();
        }
    }

    pub(super) fn alive(&self) -> Vec<usize> {
        let here = |index: &usize| self.nodes[*index].alive && !self.nodes[*index].left;
        (0..self.nodes.len()).filter(here).collect()
    }

    pub(super) fn pick(&mut self, limit: usize) -> usize {
        self.chance.below(limit as u64) as usize
    }
}
