//! Starts, stops and migrations: asked for on any node, serialised at each child's home.
//!
//! The *requester* side keeps what its users asked for until every child has an outcome or the
//! time is over, and asks again when a home changes. The *home* side orders one thing at a time
//! for each child and answers everybody who asked for it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{
    answers::{Answer, parts},
    children::begun,
    core::{Core, Fault, News, Timer},
    io::{Effect, Reply, Request},
    outcomes::Outcomes,
};
use crate::model::{
    child::{ChildSpec, Entry, Epoch, Ownership, Role, Route, TakenIn},
    id::{ChildId, NodeId, NodeRun, Origin, RequestId},
    member::Member,
    message::{ChildOutcome, HomeWord, PeerMessage},
    quota::Quota,
    report::{MigrateOutcome, StartFailed, StartOutcome, StartReport, StopOutcome, StopReport},
    settings::OnFailure,
};

/// Bytes of starts, stops and questions that are kept for one node until they are answered.
const KEPT: usize = 128 << 20;
/// About what is kept with each of them besides its texts and arguments.
const EACH: usize = 256;

#[derive(Debug)]
enum Pending {
    Start {
        specs: Vec<Arc<ChildSpec>>,
        outcomes: Outcomes<StartOutcome>,
        on_failure: OnFailure,
    },
    Stop {
        children: Vec<ChildId>,
        outcomes: Outcomes<StopOutcome>,
        /// Where children were when they were asked for: a later "not found" may be one's own doing,
        /// as an order may have been carried out while its home changed.
        seen: BTreeMap<ChildId, NodeId>,
        /// The failed start for which these are stopped again.
        rollback: Option<(RequestId, StartReport)>,
    },
    Migrate {
        child: ChildId,
        to: NodeId,
        forced: bool,
        /// The owner that was asked.
        asked: Option<Placed>,
        /// The number of the last question before it: only answers to later ones count.
        since: u64,
    },
}

#[derive(Debug)]
struct Asked {
    pending: Pending,
    wait: Duration,
}

#[derive(Debug)]
enum Order {
    Run { spec: Arc<ChildSpec>, origin: Origin, executor: NodeRun },
    Halt { owner: Option<NodeRun> },
}

#[derive(Debug)]
struct Ordered {
    epoch: Epoch,
    order: Order,
    /// Who asked, with the bytes that are kept for it.
    waiters: BTreeMap<Asker, usize>,
}

impl Ordered {
    /// Whether this is what was asked for.
    fn is_for(&self, what: &What) -> bool {
        matches!(
            (&self.order, what),
            (Order::Run { .. }, What::Start(_)) | (Order::Halt { .. }, What::Stop(_))
        )
    }
}

/// Who asked for something, and under which number.
type Asker = (NodeRun, RequestId);

#[derive(Debug)]
struct Waiting {
    asker: Asker,
    wait: Duration,
    /// Bytes that are kept for the asker's node. None for this one's.
    bytes: usize,
    what: What,
}

#[derive(Debug)]
enum What {
    Start(Arc<ChildSpec>),
    Stop(ChildId),
}

impl What {
    fn child(&self) -> &ChildId {
        match self {
            Self::Start(spec) => spec.id(),
            Self::Stop(child) => child,
        }
    }

    /// Whether both are starts, or both stops.
    fn is_like(&self, other: &Self) -> bool {
        matches!(self, Self::Start(_)) == matches!(other, Self::Start(_))
    }

    fn bytes(&self) -> usize {
        let spec = match self {
            Self::Start(spec) => spec.size(),
            Self::Stop(child) => child.as_str().len(),
        };
        EACH + spec
    }
}

/// Requests of this node's users, and the orders of this node as a home.
#[derive(Debug)]
pub(crate) struct Homes {
    asked: BTreeMap<RequestId, Asked>,
    /// The migrations among them, by child.
    migrations: BTreeMap<ChildId, BTreeSet<RequestId>>,
    /// Children for which messages of this node wait: their homes are asked where they are. With
    /// the number of the last question before: only answers to later ones say that there is none.
    seeks: BTreeMap<ChildId, u64>,
    /// How many questions were asked.
    pub(super) questions: u64,
    /// Whether [`Timer::Seek`] is set.
    seeking: bool,
    /// Numbers of requests that the engine makes itself, from the top downwards.
    own_requests: u64,
    orders: BTreeMap<ChildId, Ordered>,
    /// What came before this view was settled, or while another order for the child is under way; by
    /// child, in the order in which it came.
    waiting: BTreeMap<ChildId, VecDeque<Waiting>>,
    /// Who asked meanwhile where a child is, and the number of the question.
    finds: BTreeMap<ChildId, BTreeMap<NodeId, u64>>,
    /// What is kept of others in `orders`, `waiting` and `finds`.
    pub(super) quota: Quota,
}

impl Default for Homes {
    fn default() -> Self {
        Self {
            asked: BTreeMap::new(),
            migrations: BTreeMap::new(),
            seeks: BTreeMap::new(),
            questions: 0,
            seeking: false,
            own_requests: 0,
            orders: BTreeMap::new(),
            waiting: BTreeMap::new(),
            finds: BTreeMap::new(),
            quota: Quota::new(KEPT),
        }
    }
}

impl Homes {
    /// A user of this node asks for something that is done with children.
    pub(crate) fn request(&mut self, core: &mut Core, id: RequestId, request: Request) {
        let (pending, wait) = match request {
            Request::Start { specs, on_failure, timeout } => {
                let outcomes = Outcomes::new(specs.iter().map(|spec| spec.id()));
                let pending = Pending::Start { specs, outcomes, on_failure };
                (pending, timeout)
            }
            Request::Stop { children, timeout } => (
                Pending::Stop {
                    outcomes: Outcomes::new(&children),
                    children,
                    seen: BTreeMap::new(),
                    rollback: None,
                },
                timeout,
            ),
            Request::Migrate { child, to, forced, timeout } => {
                let since = self.questions;
                (Pending::Migrate { child, to, forced, asked: None, since }, timeout)
            }
            Request::Leave { .. }
            | Request::Stay
            | Request::Drain { .. }
            | Request::Undrain
            | Request::ApplyParked { .. }
            | Request::DiscardParked { .. } => {
                return;
            }
        };
        self.ask(core, id, Asked { pending, wait });
    }

    fn ask(&mut self, core: &mut Core, id: RequestId, asked: Asked) {
        core.timer(asked.wait, Timer::Request(id));
        if let Pending::Migrate { child, .. } = &asked.pending {
            self.migrations.entry(child.clone()).or_default().insert(id);
        }
        self.asked.insert(id, asked);
        self.send_request(core, id, false, |_| true);
        self.finish(core, id);
    }

    /// Sends what has no outcome yet to those of the homes, or the owner, of this view that `to`
    /// names.
    fn send_request(
        &mut self,
        core: &mut Core,
        id: RequestId,
        again: bool,
        to: impl Fn(NodeId) -> bool,
    ) {
        let Some(Asked { pending, wait }) = self.asked.get_mut(&id) else { return };
        let wait = *wait;
        match pending {
            Pending::Start { specs, outcomes, .. } => {
                let mut homes: BTreeMap<NodeId, Vec<Arc<ChildSpec>>> = BTreeMap::new();
                for spec in specs.iter().filter(|spec| outcomes.is_open(spec.id())) {
                    if let Some(home) = core.home(spec.id()).filter(|home| to(*home)) {
                        homes.entry(home).or_default().push(spec.clone());
                    }
                }
                for (home, specs) in homes {
                    for specs in parts(specs, |spec| spec.args.len() + 256) {
                        let word = HomeWord::Start { request: id, specs, wait };
                        core.send(home, PeerMessage::Home(word));
                    }
                }
            }
            Pending::Stop { children, outcomes, seen, .. } => {
                let mut homes: BTreeMap<NodeId, Vec<ChildId>> = BTreeMap::new();
                for child in children.iter().filter(|child| outcomes.is_open(child)) {
                    if let Some((owner, _)) = core.registry.owner(child) {
                        seen.insert(child.clone(), owner.node);
                    }
                    if let Some(home) = core.home(child).filter(|home| to(*home)) {
                        homes.entry(home).or_default().push(child.clone());
                    }
                }
                for (home, children) in homes {
                    for children in parts(children, |child| child.as_str().len() + 16) {
                        let word = HomeWord::Stop { request: id, children, wait };
                        core.send(home, PeerMessage::Home(word));
                    }
                }
            }
            Pending::Migrate { child, asked, .. } => {
                let Some(owner) = placed(core, child) else {
                    let child = child.clone();
                    self.find(core, &child);
                    return;
                };
                if *asked != Some(owner) || again && to(owner.run.node) {
                    self.send_migration(core, id, owner);
                }
            }
        }
    }

    /// Asks this owner to move the child.
    fn send_migration(&mut self, core: &mut Core, id: RequestId, owner: Placed) {
        let Some(Asked { pending: Pending::Migrate { child, to, forced, asked, .. }, wait }) =
            self.asked.get_mut(&id)
        else {
            return;
        };
        *asked = Some(owner);
        let word = HomeWord::Migrate {
            request: id,
            child: child.clone(),
            to: *to,
            forced: *forced,
            wait: *wait,
        };
        core.send(owner.run.node, PeerMessage::Home(word));
    }

    /// Messages of this node wait for a child that nobody here has heard of.
    pub(crate) fn seek(&mut self, core: &mut Core, child: ChildId) {
        if core.route(&child).is_some() {
            core.effects.push_back(Effect::Sought { child, found: true });
        } else if !self.seeks.contains_key(&child) {
            self.seeks.insert(child.clone(), self.questions);
            self.find(core, &child);
        }
    }

    fn find(&mut self, core: &mut Core, child: &ChildId) {
        if let Some(home) = core.home(child) {
            self.questions += 1;
            let word = HomeWord::Find { child: child.clone(), question: self.questions };
            core.send(home, PeerMessage::Home(word));
        }
        if !self.seeking {
            self.seeking = true;
            core.timer(core.config.settings.heartbeat, Timer::Seek);
        }
    }

    /// A word may have been lost with its link.
    pub(crate) fn seek_again(&mut self, core: &mut Core) {
        self.seeking = false;
        let lost = self.migrations.keys().filter(|child| placed(core, child).is_none());
        let children: BTreeSet<ChildId> = self.seeks.keys().chain(lost).cloned().collect();
        for child in children {
            self.find(core, &child);
        }
    }

    fn found(&mut self, core: &mut Core, child: ChildId, question: u64, route: Option<Route>) {
        if let Some(route) = route {
            core.hint(&child, route);
        }
        let migrations: Vec<RequestId> =
            self.migrations.get(&child).into_iter().flatten().copied().collect();
        for id in migrations {
            let Some(Asked { pending: Pending::Migrate { since, .. }, .. }) = self.asked.get(&id)
            else {
                continue;
            };
            match route {
                _ if placed(core, &child).is_some() => {}
                Some(route) => {
                    let owner = Placed { run: route.owner, is_running: true, born: Epoch::ZERO };
                    self.send_migration(core, id, owner);
                }
                None if question > *since => {
                    self.migrated(core, id, &child, MigrateOutcome::NotFound);
                }
                None => {}
            }
        }
        if let Some(since) = self.seeks.get(&child)
            && (route.is_some() || question > *since)
        {
            self.seeks.remove(&child);
            core.effects.push_back(Effect::Sought { child, found: route.is_some() });
        }
    }

    /// The view changed: homes may be other nodes now.
    pub(crate) fn reset(&mut self, core: &mut Core) {
        let Self { waiting, finds, orders, quota, .. } = self;
        let is_mine = |child: &ChildId| core.home(child) == Some(core.me.node);
        waiting.retain(|child, waiting| {
            let is_mine = is_mine(child);
            waiting.retain(|Waiting { asker: (run, _), bytes, .. }| {
                let keep = is_mine && core.is_live(*run);
                if !keep {
                    quota.give(run.node, *bytes);
                }
                keep
            });
            !waiting.is_empty()
        });
        finds.retain(|child, askers| {
            let is_mine = is_mine(child);
            askers.retain(|node, _| {
                let keep = is_mine && core.view.member(*node).is_some();
                if !keep {
                    quota.give(*node, find_bytes(core, *node, child));
                }
                keep
            });
            !askers.is_empty()
        });
        orders.retain(|child, ordered| {
            let keep = is_mine(child);
            if !keep {
                ordered.waiters.iter().for_each(|(asker, bytes)| quota.give(asker.0.node, *bytes));
            }
            keep
        });
        self.ask_again(core, |_| true);
    }

    /// The view is settled: this node serves what it is the home of.
    pub(crate) fn serve(&mut self, core: &mut Core) {
        for waiting in std::mem::take(&mut self.waiting).into_values().flatten() {
            self.admit(core, waiting);
        }
        for (child, askers) in std::mem::take(&mut self.finds) {
            for (from, question) in askers {
                self.quota.give(from, find_bytes(core, from, &child));
                self.look_up(core, from, child.clone(), question);
            }
        }
        let children: Vec<ChildId> = self.orders.keys().cloned().collect();
        for child in children {
            self.repeat(core, &child);
        }
        let migrations: Vec<RequestId> = self.migrations.values().flatten().copied().collect();
        for id in migrations {
            self.send_request(core, id, true, |_| true);
        }
    }

    fn ask_again(&mut self, core: &mut Core, to: impl Fn(NodeId) -> bool) {
        let ids: Vec<RequestId> = self.asked.keys().copied().collect();
        for id in ids {
            self.send_request(core, id, true, &to);
        }
        let seeks: Vec<ChildId> = self.seeks.keys().cloned().collect();
        for child in seeks {
            self.find(core, &child);
        }
    }

    /// A member is reached, or in another way than before: what it was asked, ordered or answered
    /// may have been lost.
    pub(crate) fn reached(&mut self, core: &mut Core, run: NodeRun) {
        self.ask_again(core, |node| node == run.node);
        if core.settled {
            let children: Vec<ChildId> = self.orders.keys().cloned().collect();
            for child in children {
                self.repeat(core, &child);
            }
        }
    }

    fn repeat(&mut self, core: &mut Core, child: &ChildId) {
        let Some(ordered) = self.orders.get(child) else { return };
        // Somebody has it by now: it was sent there, or an earlier home's order has come through.
        if let Order::Run { origin, executor, .. } = &ordered.order
            && let Some((owner, ownership)) = core.registry.owner(child)
            && owner != *executor
            && core.is_live(owner)
        {
            let (outcome, epoch) = (begun(owner.node, ownership, *origin), ordered.epoch);
            return self.ran(core, child, epoch, outcome);
        }
        match &ordered.order {
            Order::Run { spec, origin, executor } if core.is_live(*executor) => {
                let (spec, origin) = (spec.clone(), *origin);
                let word = HomeWord::Run { spec, epoch: ordered.epoch, origin };
                core.send(executor.node, PeerMessage::Home(word));
            }
            Order::Run { spec, origin, .. } => {
                // The executor went before it answered. If it wrote, the roll call has the child.
                let (spec, epoch) = (spec.clone(), ordered.epoch);
                if let Some((owner, ownership)) = core.registry.owner(child) {
                    let outcome = begun(owner.node, ownership, *origin);
                    self.ran(core, child, epoch, outcome);
                } else if let Some(ordered) = self.orders.remove(child) {
                    for (asker, bytes) in ordered.waiters {
                        let wait = core.config.settings.request_timeout;
                        let what = What::Start(spec.clone());
                        self.admit(core, Waiting { asker, wait, bytes, what });
                    }
                    // It may have been answered at once, and what waited behind it goes on.
                    self.next_for(core, child);
                }
            }
            Order::Halt { .. } => self.halt(core, child),
        }
    }

    /// A word for a home, or an answer from one.
    pub(crate) fn handle(&mut self, core: &mut Core, from: NodeRun, word: HomeWord) {
        let node = from.node;
        match word {
            HomeWord::Start { request, specs, wait } => {
                for spec in specs {
                    self.receive(core, (from, request), wait, What::Start(spec));
                }
            }
            HomeWord::Stop { request, children, wait } => {
                for child in children {
                    self.receive(core, (from, request), wait, What::Stop(child));
                }
            }
            HomeWord::Find { child, question } => self.look_up(core, node, child, question),
            HomeWord::Found { child, question, route } => {
                if core.home(&child) == Some(node)
                    && route.is_none_or(|route| core.is_possible(node, &child, route.epoch))
                {
                    self.found(core, child, question, route);
                }
            }
            HomeWord::Started { request, outcomes } => {
                for ChildOutcome { child, outcome } in &outcomes {
                    if let StartOutcome::Started { node: owner, epoch }
                    | StartOutcome::Exists { node: owner, epoch } = outcome
                        && let Some(owner) = core.view.member(*owner).map(Member::run)
                        && core.home(child) == Some(node)
                        && self.asked.contains_key(&request)
                        && core.is_possible(node, child, *epoch)
                    {
                        let route = Route { owner, epoch: *epoch };
                        core.hint(child, route);
                    }
                }
                if let Some(Asked { pending: Pending::Start { outcomes: known, .. }, .. }) =
                    self.asked.get_mut(&request)
                {
                    outcomes.into_iter().for_each(|one| known.note(one.child, one.outcome));
                }
                self.finish(core, request);
            }
            HomeWord::Stopped { request, outcomes } => {
                if let Some(Asked {
                    pending: Pending::Stop { outcomes: known, seen, .. }, ..
                }) = self.asked.get_mut(&request)
                {
                    for ChildOutcome { child, outcome } in outcomes {
                        let outcome = match (outcome, seen.get(&child)) {
                            (StopOutcome::NotFound, Some(node)) => {
                                StopOutcome::Stopped { node: *node }
                            }
                            (outcome, _) => outcome,
                        };
                        known.note(child, outcome);
                    }
                }
                self.finish(core, request);
            }
            HomeWord::Ran { child, epoch, outcome } => self.ran(core, &child, epoch, outcome),
            HomeWord::Halted { child, epoch, outcome } => self.halted(core, &child, epoch, outcome),
            HomeWord::Migrated { request, child, outcome } => {
                self.migrated(core, request, &child, outcome);
            }
            HomeWord::Run { .. } | HomeWord::Halt { .. } | HomeWord::Migrate { .. } => {}
        }
    }

    /// Keeps one child's start or stop until it is answered, if there is room for it.
    fn receive(&mut self, core: &mut Core, asker: Asker, wait: Duration, what: What) {
        let ordered = self.orders.get(what.child());
        let same =
            |ordered: &Ordered| ordered.is_for(&what) && ordered.waiters.contains_key(&asker);
        let queue = self.waiting.get(what.child()).into_iter().flatten();
        let mut waits = queue.filter(|waiting| waiting.asker == asker);
        if ordered.is_some_and(same) || waits.any(|waiting| waiting.what.is_like(&what)) {
            // It asks again, and is answered when its turn has come.
            return;
        }
        let (node, me) = (asker.0.node, core.me.node);
        // This node keeps what it has asked for itself, as long as its own users wait.
        let bytes = if node == me { 0 } else { what.bytes() };
        if let Err(over) = self.quota.take(node, bytes) {
            core.fault(node, Fault::Quota, || over.to_string());
            match what {
                What::Start(spec) => {
                    let outcome = StartOutcome::Failed { reason: StartFailed::Busy { node: me } };
                    answer_start(core, asker, spec.id().clone(), outcome);
                }
                What::Stop(child) => {
                    answer_stop(core, asker, child, StopOutcome::Busy { node: me });
                }
            }
            return;
        }
        self.admit(core, Waiting { asker, wait, bytes, what });
    }

    /// Takes one child's start or stop in, if this node is its home and nothing else is under way.
    fn admit(&mut self, core: &mut Core, waiting: Waiting) {
        let child = waiting.what.child().clone();
        if !core.settled {
            self.waiting.entry(child).or_default().push_back(waiting);
            return;
        }
        let Waiting { asker, bytes, wait, .. } = waiting;
        if !core.is_home(&child) {
            self.quota.give(asker.0.node, bytes);
            return;
        }
        if let Some(ordered) = self.orders.get_mut(&child) {
            if !ordered.is_for(&waiting.what) {
                self.waiting.entry(child).or_default().push_back(waiting);
            } else if let Some(before) = ordered.waiters.insert(asker, bytes) {
                // It asked again.
                self.quota.give(asker.0.node, before);
            }
            return;
        }
        match waiting.what {
            What::Start(spec) => self.start(core, asker, bytes, spec, wait),
            What::Stop(_) => self.stop(core, asker, bytes, child, wait),
        }
    }

    /// Says where a child is, once that is sure. Who finds no room to wait asks again with the next
    /// heartbeat.
    fn look_up(&mut self, core: &mut Core, from: NodeId, child: ChildId, question: u64) {
        if !core.settled || self.orders.contains_key(&child) && core.is_home(&child) {
            if let Some(last) = self.finds.get_mut(&child).and_then(|askers| askers.get_mut(&from))
            {
                *last = question.max(*last);
                return;
            }
            match self.quota.take(from, find_bytes(core, from, &child)) {
                Ok(()) => drop(self.finds.entry(child).or_default().insert(from, question)),
                Err(over) => core.fault(from, Fault::Quota, || over.to_string()),
            }
        } else if core.is_home(&child) {
            let route = core.route(&child);
            core.send(from, PeerMessage::Home(HomeWord::Found { child, question, route }));
        }
    }

    fn start(
        &mut self,
        core: &mut Core,
        asker: Asker,
        bytes: usize,
        spec: Arc<ChildSpec>,
        wait: Duration,
    ) {
        let (child, origin) = (spec.id().clone(), Origin::of(asker.0, asker.1));
        let quota = &mut self.quota;
        let mut answer = |core: &mut Core, outcome| {
            quota.give(asker.0.node, bytes);
            answer_start(core, asker, child.clone(), outcome);
        };
        let known = core.registry.owner(&child);
        // One that was given up is started by the node that owns it, from what is asked for now.
        let given_up = known.filter(|(run, own)| own.is_given_up() && core.is_live(*run));
        let given_up = given_up.map(|(run, _)| run);
        if let Some((run, ownership)) = known.filter(|_| given_up.is_none()) {
            let outcome = begun(run.node, ownership, origin);
            return answer(core, outcome);
        }
        let epoch = core.next_term(&child);
        let ownership = Ownership {
            epoch,
            born: epoch,
            copied: epoch,
            role: Role::Active,
            pinned: None,
            origin,
            taken: TakenIn::default(),
            failure: None,
            spec: spec.clone(),
        };
        let node = core.belongs(&ownership, &BTreeSet::new());
        let executor = node.and_then(|node| core.view.member(node)).map(Member::run);
        let executor = given_up.or(executor);
        let Some(executor) = executor else {
            let reason = match core.placeable.first() {
                Some(member) => StartFailed::UnknownKind { node: member.id },
                None => StartFailed::NoNode,
            };
            return answer(core, StartOutcome::Failed { reason });
        };
        self.orders.insert(
            child.clone(),
            Ordered {
                epoch,
                order: Order::Run { spec: spec.clone(), origin, executor },
                waiters: BTreeMap::from([(asker, bytes)]),
            },
        );
        core.timer(wait, Timer::Order(child, epoch));
        core.send(executor.node, PeerMessage::Home(HomeWord::Run { spec, epoch, origin }));
    }

    /// A start that this home ordered has ended.
    pub(crate) fn ran(
        &mut self,
        core: &mut Core,
        child: &ChildId,
        epoch: Epoch,
        outcome: StartOutcome,
    ) {
        let Some(ordered) = self.orders.get(child).filter(|ordered| ordered.epoch == epoch) else {
            return;
        };
        let Order::Run { origin, .. } = ordered.order else { return };
        let Some(ordered) = self.orders.remove(child) else { return };
        for (asker, bytes) in ordered.waiters {
            // Who came second to a start that went well finds the child there.
            let outcome = match &outcome {
                StartOutcome::Started { node, epoch } if Origin::of(asker.0, asker.1) != origin => {
                    StartOutcome::Exists { node: *node, epoch: *epoch }
                }
                outcome => outcome.clone(),
            };
            self.quota.give(asker.0.node, bytes);
            answer_start(core, asker, child.clone(), outcome);
        }
        self.next_for(core, child);
    }

    fn stop(
        &mut self,
        core: &mut Core,
        asker: Asker,
        bytes: usize,
        child: ChildId,
        wait: Duration,
    ) {
        if core.registry.owner(&child).is_none() {
            self.quota.give(asker.0.node, bytes);
            answer_stop(core, asker, child, StopOutcome::NotFound);
            return;
        }
        let epoch = core.next_term(&child);
        core.timer(wait, Timer::Order(child.clone(), epoch));
        self.orders.insert(
            child.clone(),
            Ordered {
                epoch,
                order: Order::Halt { owner: None },
                waiters: BTreeMap::from([(asker, bytes)]),
            },
        );
        self.halt(core, &child);
    }

    fn halt(&mut self, core: &mut Core, child: &ChildId) {
        let Some(Ordered { epoch, order: Order::Halt { owner }, .. }) = self.orders.get_mut(child)
        else {
            return;
        };
        let epoch = *epoch;
        match core.registry.owner(child).map(|(run, _)| run) {
            None => {
                let node = owner.map_or(core.me.node, |run| run.node);
                self.halted(core, child, epoch, StopOutcome::Stopped { node });
            }
            Some(run) if core.is_live(run) => {
                *owner = Some(run);
                let word = HomeWord::Halt { child: child.clone(), epoch };
                core.send(run.node, PeerMessage::Home(word));
            }
            Some(run) => {
                // Nobody runs it: the home removes it, and copies that are held obey.
                let epoch = epoch.max(core.next_term(child));
                core.write(child, Entry::Removed { epoch });
                let asked = self.orders.get(child).map_or(epoch, |ordered| ordered.epoch);
                self.halted(core, child, asked, StopOutcome::Stopped { node: run.node });
            }
        }
    }

    /// A stop that this home ordered has ended.
    pub(crate) fn halted(
        &mut self,
        core: &mut Core,
        child: &ChildId,
        epoch: Epoch,
        outcome: StopOutcome,
    ) {
        let ordered = self.orders.get(child);
        if !ordered.is_some_and(|o| o.epoch == epoch && matches!(o.order, Order::Halt { .. })) {
            return;
        }
        let Some(ordered) = self.orders.remove(child) else { return };
        for (asker, bytes) in ordered.waiters {
            self.quota.give(asker.0.node, bytes);
            answer_stop(core, asker, child.clone(), outcome.clone());
        }
        self.next_for(core, child);
    }

    /// Takes in what waited for this child's order to end.
    fn next_for(&mut self, core: &mut Core, child: &ChildId) {
        // Those behind one that has to wait stay behind it.
        while core.settled
            && let Some(next) = self.next_waiting(child)
        {
            self.admit(core, next);
        }
        for (from, question) in self.finds.remove(child).unwrap_or_default() {
            self.quota.give(from, find_bytes(core, from, child));
            self.look_up(core, from, child.clone(), question);
        }
    }

    /// The first that waits for a child, if nothing is ordered or the same is.
    fn next_waiting(&mut self, child: &ChildId) -> Option<Waiting> {
        let waiting = self.waiting.get_mut(child)?;
        let fits = |next: &Waiting| {
            self.orders.get(child).is_none_or(|ordered| ordered.is_for(&next.what))
        };
        let next = if waiting.front().is_some_and(fits) { waiting.pop_front() } else { None };
        if waiting.is_empty() {
            self.waiting.remove(child);
        }
        next
    }

    /// The registry changed: a stop follows its child, a migration too.
    pub(crate) fn look(&mut self, core: &mut Core, child: &ChildId) {
        let owner = core.registry.owner(child).map(|(run, _)| run);
        if let Some(Ordered { order: Order::Halt { owner: asked }, .. }) = self.orders.get(child)
            && *asked != owner
        {
            self.halt(core, child);
        }
        let migrations: Vec<RequestId> =
            self.migrations.get(child).into_iter().flatten().copied().collect();
        for id in migrations {
            let Some(Asked { pending: Pending::Migrate { to, .. }, .. }) = self.asked.get(&id)
            else {
                continue;
            };
            match core.registry.owner(child) {
                // It is where it should go: the answer of the old owner says the same.
                Some((run, ownership)) if run.node == *to && ownership.pinned == Some(*to) => {}
                _ => self.send_request(core, id, false, |_| true),
            }
        }
    }

    /// A home's order took too long.
    pub(crate) fn order_expired(&mut self, core: &mut Core, child: &ChildId, epoch: Epoch) {
        match self.orders.get(child) {
            Some(Ordered { epoch: at, order: Order::Run { .. }, .. }) if *at == epoch => {
                let reason = StartFailed::Timeout { waits_for: None };
                self.ran(core, child, epoch, StartOutcome::Failed { reason });
            }
            Some(Ordered { epoch: at, order: Order::Halt { .. }, .. }) if *at == epoch => {
                self.halted(core, child, epoch, StopOutcome::Timeout);
            }
            _ => {}
        }
    }

    /// A migration that was asked for on this node has ended.
    pub(crate) fn migrated(
        &mut self,
        core: &mut Core,
        id: RequestId,
        child: &ChildId,
        outcome: MigrateOutcome,
    ) {
        let Some(Asked { pending: Pending::Migrate { child: asked, .. }, .. }) =
            self.asked.get(&id)
        else {
            return;
        };
        if asked == child {
            self.asked.remove(&id);
            self.forget_migration(child, id);
            core.effects.push_back(Effect::Reply { request: id, reply: Reply::Migrated(outcome) });
        }
    }

    fn forget_migration(&mut self, child: &ChildId, id: RequestId) {
        if let Some(ids) = self.migrations.get_mut(child) {
            ids.remove(&id);
            if ids.is_empty() {
                self.migrations.remove(child);
            }
        }
    }

    /// Answers a request whose children all have an outcome.
    fn finish(&mut self, core: &mut Core, id: RequestId) {
        let done = match self.asked.get(&id).map(|asked| &asked.pending) {
            Some(Pending::Start { outcomes, .. }) => outcomes.is_complete(),
            Some(Pending::Stop { outcomes, .. }) => outcomes.is_complete(),
            Some(Pending::Migrate { .. }) | None => false,
        };
        if done {
            self.reply(core, id, None);
        }
    }

    /// The time of a request is over. `waits_for`: what keeps the cluster unsettled.
    pub(crate) fn expired(&mut self, core: &mut Core, id: RequestId, waits_for: Option<String>) {
        self.reply(core, id, waits_for);
    }

    fn reply(&mut self, core: &mut Core, id: RequestId, waits_for: Option<String>) {
        let Some(Asked { pending, wait }) = self.asked.remove(&id) else { return };
        let reply = match pending {
            Pending::Start { specs, outcomes, on_failure, .. } => {
                let timeout = StartOutcome::Failed { reason: StartFailed::Timeout { waits_for } };
                let outcomes = specs
                    .iter()
                    .map(|spec| {
                        let child = spec.id().clone();
                        let outcome = outcomes.get(&child).unwrap_or(&timeout).clone();
                        (child, outcome)
                    })
                    .collect();
                let report = StartReport { outcomes };
                let failed = report.failures().next().is_some();
                if on_failure == OnFailure::Rollback && failed && report.started() > 0 {
                    return self.roll_back(core, id, report, wait);
                }
                Reply::Started(report)
            }
            Pending::Stop { children, outcomes, rollback, .. } => match rollback {
                Some((start, report)) => {
                    core.effects
                        .push_back(Effect::Reply { request: start, reply: Reply::Started(report) });
                    return;
                }
                None => {
                    let outcomes = children
                        .into_iter()
                        .map(|child| {
                            let outcome =
                                outcomes.get(&child).unwrap_or(&StopOutcome::Timeout).clone();
                            (child, outcome)
                        })
                        .collect();
                    Reply::Stopped(StopReport { outcomes })
                }
            },
            Pending::Migrate { child, .. } => {
                self.forget_migration(&child, id);
                Reply::Migrated(MigrateOutcome::Timeout)
            }
        };
        core.effects.push_back(Effect::Reply { request: id, reply });
    }

    fn roll_back(
        &mut self,
        core: &mut Core,
        id: RequestId,
        mut report: StartReport,
        wait: Duration,
    ) {
        let mut children = Vec::new();
        for (child, outcome) in &mut report.outcomes {
            if matches!(outcome, StartOutcome::Started { .. }) {
                children.push(child.clone());
                *outcome = StartOutcome::Failed { reason: StartFailed::RolledBack };
            }
        }
        self.own_requests += 1;
        let own = RequestId(u64::MAX - self.own_requests);
        let pending = Pending::Stop {
            outcomes: Outcomes::new(&children),
            children,
            seen: BTreeMap::new(),
            rollback: Some((id, report)),
        };
        self.ask(core, own, Asked { pending, wait });
    }

    /// Passes on what one machine told another.
    pub(crate) fn news(&mut self, core: &mut Core, news: News) {
        match news {
            News::Ran { home, child, epoch, outcome } if home == core.me.node => {
                self.ran(core, &child, epoch, outcome);
            }
            News::Ran { home, child, epoch, outcome } => {
                if let Some(home) = core.view.member(home).map(Member::run) {
                    core.answer(home, child, Answer::Ran { epoch, outcome });
                }
            }
            News::Halted { home, child, epoch, outcome } if home == core.me.node => {
                self.halted(core, &child, epoch, outcome);
            }
            News::Halted { home, child, epoch, outcome } => {
                if let Some(home) = core.view.member(home).map(Member::run) {
                    core.answer(home, child, Answer::Halted { epoch, outcome });
                }
            }
            News::Migrated { waiters, child, outcome } => {
                for (node, request) in waiters {
                    if let Some(waiter) = core.view.member(node).map(Member::run) {
                        let answer = Answer::Migrated { request, outcome: outcome.clone() };
                        core.answer(waiter, child.clone(), answer);
                    }
                }
            }
            News::Look { .. }
            | News::Parks { .. }
            | News::Merged { .. }
            | News::TakenBack { .. } => {}
        }
    }
}

fn answer_start(core: &mut Core, (run, request): Asker, child: ChildId, outcome: StartOutcome) {
    core.answer(run, child, Answer::Started { request, outcome });
}

fn answer_stop(core: &mut Core, (run, request): Asker, child: ChildId, outcome: StopOutcome) {
    core.answer(run, child, Answer::Stopped { request, outcome });
}

/// Who owns a child, for who asks it to move the child. It forgets what it was asked when the child
/// ends, so each life of the child is asked for anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Placed {
    run: NodeRun,
    /// Whether it runs the child or is still to start it: it takes migrations only then.
    is_running: bool,
    born: Epoch,
}

fn placed(core: &Core, child: &ChildId) -> Option<Placed> {
    let best = core.registry.best(child)?;
    let born = best.entry.ownership()?.born;
    let is_running = matches!(best.entry, Entry::Owned(_));
    Some(Placed { run: best.owner, is_running, born })
}

/// Bytes that are kept of a node's question where a child is.
fn find_bytes(core: &Core, from: NodeId, child: &ChildId) -> usize {
    if from == core.me.node { 0 } else { EACH + child.as_str().len() }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bytes::Bytes;

    use super::*;
    use crate::{
        engine::{
            distribution::ConsistentHashing,
            io::{EngineConfig, KindInfo},
            membership::founding::Founding,
            partition::Divergence,
            redundancy::Singularity,
        },
        model::{
            access::AccessList,
            id::{Incarnation, KindName, NodeName},
            member::{MemberState, View},
            settings::Settings,
        },
    };

    const SECOND: Duration = Duration::from_secs(1);

    fn kind() -> KindName {
        KindName::new("set").expect("a valid name")
    }

    fn member(n: u8) -> Member {
        Member {
            id: NodeId::from_key([n; 32]),
            incarnation: Incarnation { started: 100, nonce: u64::from(n) },
            name: NodeName::new(format!("node-{n}")).expect("a plain word"),
            addresses: Vec::new(),
            weight: 1,
            state: MemberState::Alive,
            draining: false,
            revision: 0,
        }
    }

    fn child(n: usize) -> ChildId {
        ChildId::new(format!("c{n}")).expect("a valid id")
    }

    fn spec(n: usize) -> Arc<ChildSpec> {
        Arc::new(ChildSpec::from_parts(child(n), kind(), Bytes::new()))
    }

    /// A node that is alone, and so the home of all children.
    struct Bench {
        core: Core,
        homes: Homes,
    }

    impl Bench {
        fn new() -> Self {
            let info = KindInfo { state_version: 1, oldest_state_version: 1 };
            let config = EngineConfig {
                node: member(1).id,
                incarnation: member(1).incarnation,
                name: member(1).name,
                addresses: Vec::new(),
                settings: Settings::default(),
                kinds: [(kind(), info)].into(),
                founding: Founding::Found,
                access: AccessList::open(),
                seed: 1,
                distribution: Arc::new(ConsistentHashing),
                redundancy: Arc::new(Singularity),
                partition: Arc::new(Divergence),
            };
            let mut core = Core::new(config, Instant::now());
            core.adopt(View { members: [(member(1).id, member(1))].into() });
            core.settled = true;
            Self { core, homes: Homes::default() }
        }

        fn receive(&mut self, request: u64, what: What) {
            let asker = (self.core.me, RequestId(request));
            self.homes.receive(&mut self.core, asker, 30 * SECOND, what);
        }

        /// What was ordered since this was asked last.
        fn orders(&mut self) -> Vec<(&'static str, ChildId, Epoch)> {
            let orders = std::mem::take(&mut self.core.loopback).into_iter();
            let order = |word| match word {
                PeerMessage::Home(HomeWord::Run { spec, epoch, .. }) => {
                    Some(("run", spec.id().clone(), epoch))
                }
                PeerMessage::Home(HomeWord::Halt { child, epoch }) => Some(("halt", child, epoch)),
                _ => None,
            };
            orders.filter_map(order).collect()
        }

        /// The owner writes, and says that it has started a child.
        fn ran(&mut self, n: usize, epoch: Epoch) {
            let ownership = Ownership {
                epoch,
                born: epoch,
                copied: epoch,
                role: Role::Active,
                pinned: None,
                origin: Origin::of(self.core.me, RequestId(1)),
                taken: TakenIn::default(),
                failure: None,
                spec: spec(n),
            };
            self.core.write(&child(n), Entry::Owned(ownership));
            let outcome = StartOutcome::Started { node: self.core.me.node, epoch };
            self.homes.ran(&mut self.core, &child(n), epoch, outcome);
        }

        fn halted(&mut self, n: usize, epoch: Epoch) {
            self.core.write(&child(n), Entry::Removed { epoch });
            let outcome = StopOutcome::Stopped { node: self.core.me.node };
            self.homes.halted(&mut self.core, &child(n), epoch, outcome);
        }

        /// What was answered to which request.
        fn answers(&mut self) -> Vec<u64> {
            let (now, me) = (self.core.now, self.core.me);
            let mut answers = std::mem::take(&mut self.core.answers);
            let words = answers.release(now, me, |to| self.core.safe(to, 0));
            self.core.answers = answers;
            let requests = words.into_iter().map(|(_, word)| match word {
                HomeWord::Started { request, .. } | HomeWord::Stopped { request, .. } => request.0,
                word => panic!("{word:?}"),
            });
            requests.collect()
        }
    }

    #[test]
    fn starts_and_stops_of_a_child_take_turns_and_those_of_one_kind_go_together() {
        let mut bench = Bench::new();
        bench.receive(1, What::Start(spec(0)));
        bench.receive(2, What::Stop(child(0)));
        bench.receive(3, What::Stop(child(0)));
        let [("run", _, first)] = bench.orders()[..] else { panic!("one start") };
        bench.ran(0, first);
        assert_eq!(bench.answers(), [1]);
        let [("halt", _, second)] = bench.orders()[..] else { panic!("one stop") };
        bench.receive(4, What::Start(spec(0)));
        bench.receive(5, What::Start(spec(0)));
        bench.receive(6, What::Stop(child(0)));
        bench.receive(7, What::Start(spec(0)));
        bench.halted(0, second);
        assert_eq!(bench.answers(), [2, 3, 6], "a stop goes with the one that is under way");
        let [("run", _, third)] = bench.orders()[..] else { panic!("one start") };
        assert!(first < second && second < third);
        bench.ran(0, third);
        assert_eq!(bench.answers(), [4, 5, 7]);
        assert_eq!(bench.orders(), []);
        assert!(bench.homes.waiting.is_empty());
    }

    #[test]
    fn who_asks_again_while_it_waits_is_kept_once() {
        let mut bench = Bench::new();
        bench.core.settled = false;
        for _ in 0..3 {
            bench.receive(1, What::Stop(child(0)));
            bench.receive(2, What::Start(spec(0)));
        }
        assert_eq!(bench.homes.waiting[&child(0)].len(), 2);
        bench.core.settled = true;
        bench.homes.serve(&mut bench.core);
        let [("run", _, epoch), ..] = bench.orders()[..] else { panic!("nothing to stop") };
        bench.ran(0, epoch);
        let mut answers = bench.answers();
        answers.sort_unstable();
        assert_eq!(answers, [1, 2]);
        assert_eq!(bench.orders(), [], "a stop that was answered is not carried out again");
    }

    #[test]
    fn what_waits_for_one_child_does_not_wait_for_another() {
        let mut bench = Bench::new();
        for n in 0..2 {
            bench.receive(1, What::Start(spec(n)));
            bench.receive(2, What::Stop(child(n)));
        }
        let orders = bench.orders();
        assert_eq!(orders.len(), 2);
        bench.ran(1, orders[1].2);
        assert!(matches!(&bench.orders()[..], [("halt", id, _)] if *id == child(1)));
        assert_eq!(bench.homes.waiting.len(), 1);
    }

    #[test]
    fn what_waits_is_kept_while_the_view_is_not_settled() {
        let mut bench = Bench::new();
        bench.receive(1, What::Start(spec(0)));
        bench.receive(2, What::Stop(child(0)));
        let epoch = bench.orders()[0].2;
        bench.core.settled = false;
        bench.ran(0, epoch);
        assert_eq!(bench.orders(), []);
        bench.core.settled = true;
        bench.homes.serve(&mut bench.core);
        let [("halt", _, epoch), ..] = bench.orders()[..] else { panic!("it is ordered") };
        bench.halted(0, epoch);
        assert_eq!(bench.answers(), [1, 2]);
    }

    #[test]
    fn a_request_is_answered_when_each_of_its_children_has_an_outcome() {
        let mut bench = Bench::new();
        let me = bench.core.me;
        let specs = vec![spec(0), spec(1)];
        let on_failure = OnFailure::Continue;
        let request = Request::Start { specs, on_failure, timeout: SECOND };
        bench.homes.request(&mut bench.core, RequestId(7), request);
        for n in [0, 1] {
            let outcome = StartOutcome::Failed { reason: StartFailed::NoNode };
            let outcomes = vec![ChildOutcome { child: child(n), outcome }];
            bench.core.effects.clear();
            let word = HomeWord::Started { request: RequestId(7), outcomes };
            bench.homes.handle(&mut bench.core, me, word);
            let replies = bench.core.effects.iter().filter(|e| matches!(e, Effect::Reply { .. }));
            assert_eq!(replies.count(), n);
        }
    }
}
