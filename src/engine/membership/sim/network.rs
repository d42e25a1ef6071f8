//! The network of a world: links, what is on its way over them, and who dials.

use super::*;

impl World {
    pub(super) fn passes(&self, from: usize, to: usize) -> bool {
        !self.cuts.contains(&(from, to)) && !self.nodes[from].off && !self.nodes[to].off
    }

    /// Moves what can arrive at the other ends of this node's links. A dead process sends what its
    /// system still holds: the end of the stream.
    pub(super) fn deliver(&mut self, from: usize) {
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
    pub(super) fn lose(&mut self, index: usize, peer: NodeId) {
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
    pub(super) fn close(&mut self, index: usize, peer: NodeId) {
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

    pub(super) fn is_closing(&self, index: usize, peer: NodeId) -> bool {
        self.nodes[index]
            .ends
            .get(&peer)
            .is_some_and(|end| end.flow.iter().any(|(_, flow)| matches!(flow, Flow::Closed)))
    }

    /// A link that breaks on the way: both ends notice.
    pub(super) fn break_link(&mut self, a: usize, b: usize) {
        let (first, second) = (self.nodes[a].id, self.nodes[b].id);
        if self.nodes[a].ends.contains_key(&second) && !self.is_closing(a, second) {
            self.lose(a, second);
            self.lose(b, first);
        }
    }

    pub(super) fn dial(&mut self, index: usize) {
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

    pub(super) fn shake_hands(&mut self, a: usize, b: usize) {
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

    pub(super) fn hello(&self, from: usize, to: usize) -> Hello {
        let (me, known, fenced) = &self.nodes[from].announcement;
        Hello {
            version: WIRE_VERSION,
            hub: HubName::new("sim").expect("a plain word"),
            me: me.clone(),
            fenced: fenced.get(&self.nodes[to].id).copied(),
            known: known.clone(),
            dialled: None,
            seen: None,
            up: 0,
            linked: false,
        }
    }
}
