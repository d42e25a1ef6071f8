//! What goes wrong in a run: a list that is made first, so that one can be left out of it.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::{
    ledger::Ledger,
    troubles::Cannot,
    worker::Kind,
    world::{What, World},
};
use crate::{
    engine::{chance::Chance, io::Request},
    model::id::ChildId,
};

/// One thing that goes wrong, or that somebody does. Nodes and children by their numbers; one that is
/// not there is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Join,
    Leave(usize),
    Drain(usize),
    Undrain(usize),
    Migrate {
        child: usize,
        to: usize,
        forced: bool,
    },
    Kill(usize),
    Restart(usize),
    Panic(usize),
    /// The link breaks, and does not stand again before the fault ends.
    Unlink(usize, usize),
    Cut {
        from: usize,
        to: usize,
        both: bool,
    },
    /// Nodes are on one of so many sides.
    Split {
        sides: usize,
        by: u64,
    },
    LoseWords,
    BreakStates,
    SlowStates,
    Pause(usize),
    Jump(usize),
    Trouble(usize, Cannot),
    Stop(usize),
    Start(usize),
    Apply(usize, bool),
}

/// A fault, when it begins, and how long it lasts if it does.
#[derive(Clone, Copy)]
pub(super) struct Timed {
    pub(super) at: Duration,
    pub(super) lasts: Duration,
    pub(super) fault: Fault,
}

impl fmt::Debug for Timed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {:?} for {:?}: {:?}", self.at, self.lasts, self.fault)
    }
}

/// A run: with this it is the same again.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) nodes: usize,
    pub(super) children: usize,
    pub(super) kind: Kind,
    /// Pairs whose link never stands.
    pub(super) unlinked: Vec<(usize, usize)>,
    pub(super) faults: Vec<Timed>,
}

const CANNOT: [Cannot; 7] = [
    Cannot::Make,
    Cannot::Start,
    Cannot::Read,
    Cannot::Prepare,
    Cannot::HandleSoon,
    Cannot::MergeSoon,
    Cannot::FindRoom,
];

/// Within this time two nodes have met again after a link broke, and heard each other.
const ONE_BREAK: Duration = Duration::from_secs(1);
/// When the faults begin.
const SETTLED: Duration = Duration::from_secs(3);

impl Plan {
    fn of(seed: u64, dice: &mut Chance) -> Self {
        let kind = Kind { merges: !dice.one_in(3), blocking: dice.one_in(3) };
        let (nodes, children) = (2 + dice.pick(3), 1 + dice.pick(3));
        Self { seed, nodes, children, kind, unlinked: Vec::new(), faults: Vec::new() }
    }

    fn draw(
        &mut self,
        dice: &mut Chance,
        count: usize,
        within: u64,
        draw: fn(&mut Chance) -> Fault,
    ) {
        for _ in 0..count {
            let at = Duration::from_millis(dice.below(within));
            let lasts = Duration::from_millis(match dice.below(3) {
                0 => dice.below(300),
                1 => dice.below(2_000),
                _ => dice.below(7_000),
            });
            let fault = draw(dice);
            // Nobody is suspected for that.
            let lasts = match fault {
                Fault::Unlink(..) => lasts.min(Duration::from_millis(dice.below(400))),
                _ => lasts,
            };
            self.faults.push(Timed { at, lasts, fault });
        }
        self.faults.sort_by_key(|one| one.at);
    }

    /// Nodes come and go in order, and children are moved.
    pub(super) fn orderly(seed: u64) -> Self {
        let mut dice = Chance(seed ^ 0x91a);
        let mut plan = Self::of(seed, &mut dice);
        let count = 1 + dice.pick(5);
        plan.draw(&mut dice, count, 3_000, orderly);
        plan
    }

    /// The same, while links break and nodes cannot do what they are asked for.
    pub(super) fn hindered(seed: u64) -> Self {
        let mut dice = Chance(seed ^ 0x91a);
        let mut plan = Self::of(seed, &mut dice);
        let (moves, hindrances) = (1 + dice.pick(4), 1 + dice.pick(4));
        plan.draw(&mut dice, moves, 2_000, orderly);
        // What is accepted just before a child goes, and not told, is sent again.
        for Timed { at, .. } in plan.faults.clone() {
            if dice.one_in(2) {
                let at = at + dice.ms(0, 60);
                let fault = Fault::Unlink(dice.pick(8), dice.pick(8));
                plan.faults.push(Timed { at, lasts: dice.ms(100, 400), fault });
            }
        }
        plan.draw(&mut dice, hindrances, 2_500, hindrance);
        plan
    }

    /// Everything, mixed.
    pub(super) fn rough(seed: u64) -> Self {
        let mut dice = Chance(seed ^ 0x91a);
        let mut plan = Self::of(seed, &mut dice);
        if dice.one_in(6) && plan.nodes > 2 {
            plan.unlinked.push((1, 2));
        }
        let (count, within) = (1 + dice.pick(6), 500 + dice.below(5_000));
        plan.draw(&mut dice, count, within, any);
        plan
    }
}

fn orderly(dice: &mut Chance) -> Fault {
    match dice.below(8) {
        0 | 1 => Fault::Join,
        2 => Fault::Leave(dice.pick(8)),
        3 => Fault::Drain(dice.pick(8)),
        4 => Fault::Undrain(dice.pick(8)),
        _ => Fault::Migrate { child: dice.pick(8), to: dice.pick(8), forced: dice.one_in(8) },
    }
}

fn hindrance(dice: &mut Chance) -> Fault {
    match dice.below(8) {
        0..5 => Fault::Unlink(dice.pick(8), dice.pick(8)),
        5 => Fault::BreakStates,
        6 => Fault::SlowStates,
        _ => Fault::Trouble(dice.pick(8), CANNOT[dice.pick(CANNOT.len())]),
    }
}

fn any(dice: &mut Chance) -> Fault {
    let (a, b) = (dice.pick(8), dice.pick(8));
    match dice.below(30) {
        0..6 => orderly(dice),
        6 => hindrance(dice),
        7 | 8 => Fault::Kill(a),
        9 | 10 => Fault::Restart(a),
        11 | 12 => Fault::Panic(a),
        13 | 14 => Fault::Unlink(a, b),
        15..18 => Fault::Cut { from: a, to: b, both: dice.one_in(2) },
        18..21 => Fault::Split { sides: 2 + dice.pick(2), by: dice.next() },
        21 => Fault::LoseWords,
        22 => Fault::BreakStates,
        23 => Fault::SlowStates,
        24 => Fault::Pause(a),
        25 => Fault::Jump(a),
        26 | 27 => Fault::Trouble(a, CANNOT[dice.pick(CANNOT.len())]),
        28 => match dice.one_in(2) {
            true => Fault::Stop(a),
            false => Fault::Start(a),
        },
        _ => Fault::Apply(a, dice.one_in(2)),
    }
}

impl World {
    fn some_child(&self, number: usize) -> ChildId {
        self.children[number % self.children.len()].clone()
    }

    fn some_node(&self, number: usize) -> usize {
        let alive = self.alive();
        alive[number % alive.len()]
    }

    fn two_nodes(&self, a: usize, b: usize) -> (usize, usize) {
        let count = self.places.len();
        let a = a % count;
        (a, (a + 1 + b % (count - 1).max(1)) % count)
    }

    /// Pairs of nodes on different sides of a split; those that come later are on the first.
    fn sides(&self, sides: usize, by: u64) -> Vec<(usize, usize)> {
        let side = |node: usize| (by >> (4 * node)) as usize % 16 % sides;
        let count = self.plan.nodes + 3;
        let pairs = (0..count).flat_map(|a| (0..count).map(move |b| (a, b)));
        pairs.filter(|(a, b)| side(*a) != side(*b)).collect()
    }

    /// Whether another node than this one knows what there is: one that has just come does not, and with the
    /// last one that does everything is gone.
    fn another_knows(&self, at: usize) -> bool {
        self.nodes().any(|(other, node)| other != at && node.engine.is_synced())
    }

    pub(super) fn begins(&mut self, fault: Fault, lasts: Duration) {
        let alive = self.alive();
        match fault {
            Fault::Join => {
                if self.places.len() < self.plan.nodes + 3 {
                    self.join();
                }
            }
            Fault::Leave(node) => {
                if alive.len() > 1 {
                    let timeout = Duration::from_secs(20);
                    self.request(self.some_node(node), Request::Leave { timeout });
                }
            }
            Fault::Drain(node) => {
                let timeout = Duration::from_secs(20);
                self.request(self.some_node(node), Request::Drain { timeout });
            }
            Fault::Undrain(node) => {
                self.request(self.some_node(node), Request::Undrain);
            }
            Fault::Migrate { child, to, forced } => {
                // Handlers that take long are cut off.
                self.ledger.is_gentle &= !forced;
                let (child, asked) = (self.some_child(child), self.some_node(to / 2));
                let to = self.run_of(self.some_node(to)).node;
                let timeout = Duration::from_secs(5);
                self.request(asked, Request::Migrate { child, to, forced, timeout });
            }
            Fault::Kill(node) => {
                let at = self.some_node(node);
                if self.another_knows(at) {
                    self.crash(at);
                }
            }
            Fault::Restart(node) => {
                let at = node % self.places.len();
                if !alive.contains(&at) || self.another_knows(at) {
                    self.crash(at);
                    self.begin(at);
                }
            }
            Fault::Panic(child) => {
                self.ledger.is_gentle = false;
                let child = self.some_child(child);
                for place in &mut self.places {
                    if let Some(node) = &mut place.node {
                        node.troubles.let_panic(child.clone());
                    }
                }
            }
            Fault::Unlink(a, b) => {
                let (a, b) = self.two_nodes(a, b);
                // No third node hears both of two, and each break puts off the next dial: a link
                // that breaks again before long may be gone for as long as a node may be silent.
                let again = self.last_break.replace(self.now);
                let soon = again.is_some_and(|last| self.now - last < ONE_BREAK);
                if soon && self.alive().len() <= 2 {
                    (self.is_calm, self.ledger.is_gentle) = (false, false);
                }
                self.break_link(a, b);
                self.cut(a, b);
                self.cut(b, a);
                // The same two, whoever has come since.
                self.push(lasts, What::Ends(Fault::Unlink(a, b)));
            }
            Fault::Cut { from, to, both } => {
                (self.is_calm, self.ledger.is_gentle) = (false, false);
                let (from, to) = self.two_nodes(from, to);
                self.cut(from, to);
                if both {
                    self.cut(to, from);
                }
                self.push(lasts, What::Ends(Fault::Cut { from, to, both }));
            }
            Fault::Split { sides, by } => {
                (self.is_calm, self.ledger.is_gentle) = (false, false);
                for (a, b) in self.sides(sides, by) {
                    self.cut(a, b);
                }
            }
            Fault::LoseWords => {
                (self.is_calm, self.ledger.is_gentle) = (false, false);
                self.network.loses = Some(8);
            }
            Fault::BreakStates => self.network.breaks = true,
            Fault::SlowStates => self.network.state_ms = 3_000,
            Fault::Pause(node) => {
                (self.is_calm, self.ledger.is_gentle) = (false, false);
                let at = self.some_node(node);
                self.pause(at, lasts);
            }
            Fault::Jump(node) => {
                (self.is_calm, self.ledger.is_gentle) = (false, false);
                let at = self.some_node(node);
                if let Some(node) = &mut self.places[at].node {
                    node.ahead += lasts * 2;
                }
                self.settle(at);
            }
            Fault::Trouble(node, cannot) => {
                let at = self.some_node(node);
                if let Some(node) = &mut self.places[at].node {
                    // It is ended with the fault.
                    node.troubles.begin(cannot, self.now + Duration::from_secs(60));
                }
            }
            Fault::Stop(child) => {
                self.ledger.is_gentle = false;
                let child = self.some_child(child);
                self.stopped.insert(child.clone());
                self.ledger.lose_all_of(&child);
                let timeout = Duration::from_secs(5);
                let at = self.some_node(self.plan.children);
                self.request(at, Request::Stop { children: vec![child], timeout });
            }
            Fault::Start(child) => {
                let (at, child) = (self.some_node(child), self.some_child(child));
                self.start(at, &[child]);
            }
            Fault::Apply(node, replace) => {
                let at = self.some_node(node);
                let keys = self.places[at].node.as_ref().map(|node| node.parked_keys());
                if let Some(key) = keys.unwrap_or_default().into_iter().next() {
                    let timeout = Duration::from_secs(5);
                    self.request(at, Request::ApplyParked { key, replace, timeout });
                }
            }
        }
    }

    /// A node goes without a word, and what was on it alone is lost.
    pub(super) fn crash(&mut self, at: usize) {
        self.ledger.is_gentle = false;
        self.has_crashed = true;
        // Of what was answered there, the answers have come.
        self.ledger.look();
        if let Some(node) = &self.places[at].node {
            let lost: Vec<_> = self.children.iter().map(|child| node.updates(child)).collect();
            self.ledger.lose(lost.into_iter().flatten());
        }
        self.kill(at);
    }

    pub(super) fn ends(&mut self, fault: Fault) {
        match fault {
            Fault::Unlink(a, b) => {
                self.mend(a, b);
                self.mend(b, a);
            }
            Fault::Cut { from, to, both } => {
                self.mend(from, to);
                if both {
                    self.mend(to, from);
                }
            }
            Fault::Split { sides, by } => {
                for (a, b) in self.sides(sides, by) {
                    self.mend(a, b);
                }
            }
            Fault::LoseWords => self.network.loses = None,
            Fault::BreakStates => self.network.breaks = false,
            Fault::SlowStates => self.network.state_ms = 0,
            Fault::Trouble(..) => {
                for place in &mut self.places {
                    if let Some(node) = &mut place.node {
                        node.troubles.end();
                    }
                }
            }
            _ => {}
        }
    }

    /// Whoever leaves or is drained is told to stay, and all links can stand.
    fn end_faults(&mut self) {
        for (a, b) in self.plan.unlinked.clone() {
            self.mend(a, b);
            self.mend(b, a);
        }
        for at in self.alive() {
            self.request(at, Request::Stay);
            self.request(at, Request::Undrain);
        }
    }
}

/// What a run has come to.
#[derive(Debug, Default)]
pub(super) struct Played {
    /// What must not be.
    pub(super) violations: Vec<String>,
    /// How often each thing was seen that the run is there for.
    pub(super) seen: BTreeMap<&'static str, u64>,
}

/// A cluster that has settled and runs its children; no fault has begun.
pub(super) fn settled(plan: &Plan) -> World {
    let mut world = World::new(plan);
    world.run_for(SETTLED);
    world.children =
        (0..plan.children).map(|n| ChildId::new(format!("c{n}")).expect("a valid id")).collect();
    let children = world.children.clone();
    world.start(plan.nodes - 1, &children);
    world.run_for(Duration::from_secs(1));
    world
}

/// Plays a plan.
pub(super) fn play(plan: &Plan) -> Played {
    let mut world = settled(plan);
    world.let_clients_send();
    let mut end = Duration::from_secs(1);
    for Timed { at, lasts, fault } in &plan.faults {
        world.push(*at, What::Begins(*fault, *lasts));
        if !matches!(fault, Fault::Unlink(..) | Fault::Cut { .. }) {
            world.push(*at + *lasts, What::Ends(*fault));
        }
        end = end.max(*at + *lasts + Duration::from_millis(1));
    }
    world.run_for(end);
    world.end_faults();
    world.check_end();
    let Ledger { violations, seen, .. } = world.ledger;
    Played { violations, seen }
}
