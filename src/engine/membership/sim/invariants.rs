//! What holds after each step, and in the end.

use super::*;

impl World {
    pub(super) fn fail(&self, what: &str) -> ! {
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

    /// What holds after each step.
    pub(super) fn check(&mut self) {
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
    pub(super) fn components(&self) -> Vec<BTreeSet<usize>> {
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
    pub(super) fn is_good(&self) -> bool {
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

    pub(super) fn run_until_good(&mut self, limit: Duration) {
        let end = self.now + limit;
        while !self.is_good() {
            if self.now >= end {
                self.fail("the components are not clusters each");
            }
            self.step();
        }
    }

    /// Whether a node is in somebody else's view.
    pub(super) fn is_in(&self, index: usize) -> bool {
        let id = self.nodes[index].id;
        let others = self.alive().into_iter().filter(|other| *other != index);
        others.into_iter().any(|other| self.nodes[other].membership.view().member(id).is_some())
    }

    /// None of these has declared another of them down.
    pub(super) fn expect_together(&self, healthy: &[usize]) {
        let ids: Vec<NodeId> = healthy.iter().map(|index| self.nodes[*index].id).collect();
        let parted =
            |event: &HubEvent| matches!(event, HubEvent::NodeDown { node } if ids.contains(node));
        if healthy.iter().any(|index| self.nodes[*index].events.iter().any(parted)) {
            self.fail("healthy members parted");
        }
    }

    pub(super) fn are_equal(&self) -> bool {
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

    pub(super) fn run_until_equal(&mut self, limit: Duration) {
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

    pub(super) fn run_until_gone(&mut self, gone: usize, watchers: &[usize], limit: Duration) {
        let id = self.nodes[gone].id;
        let end = self.now + limit;
        while watchers.iter().any(|i| self.nodes[*i].membership.view().member(id).is_some()) {
            if self.now >= end {
                self.fail("a dead node is still in");
            }
            self.step();
        }
    }

    pub(super) fn expect_nobody_down(&self) {
        let down = |event: &HubEvent| matches!(event, HubEvent::NodeDown { .. });
        if self.nodes.iter().any(|node| node.events.iter().any(down)) {
            self.fail("a live node was declared down");
        }
    }
}
