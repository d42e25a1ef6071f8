//! What must hold after each step, and what must be reached when the faults have ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::world::World;
use crate::{
    delivery::How,
    model::id::{ChildId, NodeId},
};

/// How much later than its deadline a caller may be answered.
const LATE: Duration = Duration::from_millis(500);
/// How long it takes at most until all is as it should be, when the faults have ended.
const CALM_WITHIN: Duration = Duration::from_secs(40);
/// How long the last questions wait.
const LAST_WAIT: Duration = Duration::from_secs(3);

impl World {
    /// No child has two active owners, unless something has happened that allows it.
    pub(super) fn check_owners(&mut self) {
        if !self.is_calm {
            return;
        }
        let mut owners: BTreeMap<&ChildId, Vec<usize>> = BTreeMap::new();
        for (at, node) in self.nodes() {
            for seat in node.host.seats.values().filter(|seat| seat.is_active()) {
                if seat.cell.is_open() {
                    owners.entry(seat.child()).or_default().push(at);
                }
            }
        }
        let two = owners.into_iter().find(|(_, nodes)| nodes.len() > 1);
        if let Some(two) = two.map(|(child, nodes)| format!("{child} has two owners: {nodes:?}")) {
            self.ledger.violations.push(two);
        }
    }

    /// Each acknowledged update is in some copy of its child's state.
    pub(super) fn check_copies(&mut self) {
        let mut missing = BTreeSet::new();
        let mut violations = Vec::new();
        for (child, acked) in &self.ledger.acked {
            if self.stopped.contains(child) {
                continue;
            }
            let mut lost = acked.clone();
            for (_, node) in self.nodes() {
                if lost.is_empty() {
                    break;
                }
                let there = node.updates(child);
                lost.retain(|id| !there.contains(id));
            }
            missing.extend(lost.iter().copied());
            lost.retain(|id| self.missing.contains(id));
            if !lost.is_empty() {
                violations.push(format!("{child}: acknowledged and in no copy: {lost:?}"));
            }
        }
        self.missing = missing;
        self.ledger.violations.extend(violations);
    }

    /// Nobody waits for longer than was said.
    pub(super) fn check_answers(&mut self) {
        let mut late = Vec::new();
        for (id, deadline) in &self.ledger.open {
            let sent = &self.ledger.sent[id];
            let paused =
                self.place_of(sent.client.node).is_some_and(|at| self.places[at].is_paused());
            if *deadline + LATE < self.now && !paused {
                late.push(format!("{}: {id} is not answered", sent.child));
            }
        }
        self.ledger.violations.extend(late);
    }

    /// What is not yet as it should be when nothing happens any more.
    fn unrest(&self) -> Option<String> {
        let alive: BTreeSet<NodeId> =
            self.alive().into_iter().map(|at| self.run_of(at).node).collect();
        let nodes: Vec<_> = self.nodes().collect();
        let view = nodes.first()?.1.engine.view().id();
        for (at, node) in &nodes {
            let members: BTreeSet<NodeId> = node.engine.view().members.keys().copied().collect();
            if members != alive || node.engine.view().id() != view || !node.engine.is_settled() {
                let waits = node.engine.waits_for();
                return Some(format!("n{at} is not settled: {waits:?}"));
            }
            if node.is_going() || node.engine.is_leaving() {
                return Some(format!("n{at} leaves"));
            }
            // What its children were sent meanwhile fills their queues, and the lanes that lead there.
            if self.places[*at].is_held_up(self.now) {
                return Some(format!("a thread of n{at} is held by a child"));
            }
            if let Some(left) = node.leftovers().first() {
                return Some(format!("n{at} has {left}"));
            }
            for seat in node.host.seats.values() {
                if let Some(unrest) = seat.unrest() {
                    return Some(format!("{} on n{at} is {unrest}", seat.child()));
                }
            }
        }
        for child in &self.children {
            let seats = |at: &(usize, &super::node::Node)| {
                at.1.host.seats.values().filter(|seat| seat.child() == child).count()
            };
            let owners: Vec<usize> =
                nodes.iter().flat_map(|node| vec![node.0; seats(node)]).collect();
            let is_stopped = self.stopped.contains(child) && owners.is_empty();
            if owners.len() != 1 && !is_stopped {
                return Some(format!("{child} runs on {owners:?}"));
            }
            for (at, node) in &nodes {
                let route = node.doors.routes.get(child).copied();
                let owner = route.map(|route| route.owner);
                let expected = owners.first().map(|at| self.run_of(*at));
                if owner != expected {
                    return Some(format!("n{at} is told that {child} is at {owner:?}"));
                }
                if let Some(owner) = owners.first()
                    && owner == at
                {
                    let runs = node.engine.registry().owner(child).map(|(run, _)| run);
                    if runs != Some(node.run()) {
                        return Some(format!("n{at} runs {child} and says {runs:?}"));
                    }
                }
            }
        }
        None
    }

    /// Whether this node runs the child.
    pub(super) fn runs(&self, at: usize, child: &ChildId) -> bool {
        let node = self.places[at].node.as_ref();
        node.is_some_and(|node| node.host.seats.values().any(|seat| seat.child() == child))
    }

    /// Whether somebody runs the child.
    fn is_run(&self, child: &ChildId) -> bool {
        self.nodes().any(|(_, node)| node.host.seats.values().any(|seat| seat.child() == child))
    }

    /// Whether the cluster has gone with its last member, and all nodes wait to be taken into it: no node
    /// founds another one by itself. Only a crash can end a cluster like that.
    fn is_cluster_gone(&self) -> bool {
        self.has_crashed && self.nodes().all(|(_, node)| node.engine.is_waiting())
    }

    /// Somebody has a node found the cluster anew, and starts its children again: once, as it must last.
    fn found_anew(&mut self) {
        let Some(at) = self.alive().first().copied().filter(|_| !self.was_founded_anew) else {
            return;
        };
        self.was_founded_anew = true;
        self.crash(at);
        self.places[at].founds = true;
        self.begin(at);
        let is_wanted = |child: &&ChildId| !self.stopped.contains(*child);
        let children: Vec<ChildId> = self.children.iter().filter(is_wanted).cloned().collect();
        self.start(at, &children);
    }

    /// All faults have ended: everything comes to rest in time, and every node reaches every child.
    pub(super) fn check_end(&mut self) {
        let end = self.now + CALM_WITHIN;
        loop {
            self.run_for(Duration::from_millis(250));
            if !self.ledger.violations.is_empty() {
                return;
            }
            if self.is_cluster_gone() {
                self.found_anew();
            }
            match self.unrest() {
                None => break,
                Some(unrest) if self.now >= end => {
                    return self
                        .ledger
                        .violations
                        .push(format!("it never comes to rest: {unrest}"));
                }
                Some(_) => {}
            }
        }
        self.clients_send = false;
        self.run_for(Duration::from_millis(100));
        let first = self.ledger.sent.len() as u64 + 1;
        for at in self.alive() {
            for child in self.children.clone() {
                self.client(at, &child, Some(LAST_WAIT), How::Send);
            }
        }
        self.run_for(LAST_WAIT + LATE + LATE);
        if !self.ledger.violations.is_empty() {
            return;
        }
        let mut wrong = Vec::new();
        for (id, sent) in self.ledger.sent.range(first..) {
            let outcome = sent.slot.outcome();
            let is_reached = matches!(outcome, Some(Ok(())));
            if !is_reached && self.is_run(&sent.child) {
                wrong.push(format!("{}: at rest {id} came to {outcome:?}", sent.child));
                for (at, node) in self.nodes().filter(|_| self.trace) {
                    let door = node.doors.known(&sent.child).map(|cell| cell.show());
                    eprintln!("n{at}: {}", door.unwrap_or_default());
                }
            }
        }
        if let Some(unrest) = self.unrest() {
            wrong.push(format!("it does not stay at rest: {unrest}"));
        }
        for (id, sent) in &self.ledger.sent {
            let told = sent.slot.outcome().is_some();
            let runs = self
                .place_of(sent.client.node)
                .is_some_and(|at| self.places[at].node.is_some() && self.run_of(at) == sent.client);
            if self.ledger.is_gentle && runs && !told && self.ledger.times(*id) == 0 {
                wrong.push(format!("{}: {id} was taken in and never handled", sent.child));
            }
        }
        self.ledger.violations.extend(wrong);
        self.check_copies();
    }
}
