//! Requests of this node's users: kept until every child has an outcome, or the time is over.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::locate::Locate;
use crate::{
    engine::{
        answers::parts,
        core::{Core, Timer},
        io::{Effect, Reply, Request},
        outcomes::Outcomes,
    },
    model::{
        child::{ChildSpec, Entry, Epoch, Route},
        id::{ChildId, NodeId, NodeRun, RequestId},
        member::Member,
        message::{ChildOutcome, HomeWord, PeerMessage},
        report::{MigrateOutcome, StartFailed, StartOutcome, StartReport, StopOutcome, StopReport},
        settings::OnFailure,
    },
};

#[derive(Debug)]
enum Pending {
    Start {
        specs: Vec<Arc<ChildSpec>>,
        outcomes: Outcomes<StartOutcome>,
        on_failure: OnFailure,
    },
    /// Messages wait for a child that is started if there is none.
    Demand {
        spec: Arc<ChildSpec>,
        outcome: Option<StartOutcome>,
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
        to: Option<NodeId>,
        forced: bool,
        /// The owner that was asked.
        asked: Option<Placed>,
        /// The number of the last question before it: only answers to later ones count.
        since: u64,
    },
}

impl Pending {
    fn stop(children: Vec<ChildId>, rollback: Option<(RequestId, StartReport)>) -> Self {
        let outcomes = Outcomes::new(&children);
        Self::Stop { outcomes, children, seen: BTreeMap::new(), rollback }
    }
}

#[derive(Debug)]
struct Asked {
    pending: Pending,
    wait: Duration,
}

/// The owner of a child, for who asks it to move the child.
///
/// A wish lives in one instance: who runs the child keeps it until it has answered or the instance has
/// ended, and is asked once in each life of the child, also where the child is to be. So a wish that ends
/// with an instance finds the next one, whatever became of the move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Placed {
    run: NodeRun,
    /// It runs the child; else it is still to start it, and takes no wishes yet.
    is_running: bool,
    born: Epoch,
}

/// Requests of this node's users.
#[derive(Debug, Default)]
pub(super) struct UserRequests {
    asked: BTreeMap<RequestId, Asked>,
    /// The migrations among them, by child.
    migrations: BTreeMap<ChildId, BTreeSet<RequestId>>,
    /// Numbers of requests that the engine makes itself, from the top downwards.
    own: u64,
}

impl UserRequests {
    /// A user asks for something that is done with children.
    pub(super) fn ask(
        &mut self,
        core: &mut Core,
        locate: &mut Locate,
        id: RequestId,
        request: Request,
    ) {
        let (pending, wait) = match request {
            Request::Start { specs, on_failure, timeout } => {
                let outcomes = Outcomes::new(specs.iter().map(|spec| spec.id()));
                (Pending::Start { specs, outcomes, on_failure }, timeout)
            }
            Request::Stop { children, timeout } => (Pending::stop(children, None), timeout),
            Request::Migrate { child, to, forced, timeout } => {
                let (since, to) = (locate.questions(), Some(to));
                (Pending::Migrate { child, to, forced, asked: None, since }, timeout)
            }
            Request::Release { child, timeout } => {
                let (since, to, forced) = (locate.questions(), None, false);
                (Pending::Migrate { child, to, forced, asked: None, since }, timeout)
            }
            Request::Leave { .. }
            | Request::Stay
            | Request::Drain { .. }
            | Request::Undrain
            | Request::ApplyParked { .. }
            | Request::DiscardParked { .. } => return,
        };
        self.begin(core, locate, id, Asked { pending, wait });
    }

    /// Messages of this node wait for a child that is to be started if there is none: its home is asked for
    /// both in one word.
    pub(super) fn demand(&mut self, core: &mut Core, locate: &mut Locate, spec: Arc<ChildSpec>) {
        let id = self.own_id();
        // Not as long as messages wait: two waits of one length would decide by chance what is told.
        let wait = core.config.settings.request_timeout;
        self.begin(
            core,
            locate,
            id,
            Asked { pending: Pending::Demand { spec, outcome: None }, wait },
        );
    }

    /// For a request that the engine makes itself.
    fn own_id(&mut self) -> RequestId {
        self.own += 1;
        RequestId(u64::MAX - self.own)
    }

    fn begin(&mut self, core: &mut Core, locate: &mut Locate, id: RequestId, asked: Asked) {
        core.timer(asked.wait, Timer::Request(id));
        if let Pending::Migrate { child, .. } = &asked.pending {
            self.migrations.entry(child.clone()).or_default().insert(id);
        }
        self.asked.insert(id, asked);
        self.send(core, locate, id, false, |_| true);
        self.finish(core, locate, id);
    }

    /// Children that are to be moved.
    pub(super) fn migrating(&self) -> impl Iterator<Item = &ChildId> {
        self.migrations.keys()
    }

    fn migrations_of(&self, child: &ChildId) -> Vec<RequestId> {
        self.migrations.get(child).into_iter().flatten().copied().collect()
    }

    /// Homes may be others now, or what was asked of those that `to` names may have been lost.
    pub(super) fn ask_again(
        &mut self,
        core: &mut Core,
        locate: &mut Locate,
        to: impl Fn(NodeId) -> bool,
    ) {
        let ids: Vec<RequestId> = self.asked.keys().copied().collect();
        for id in ids {
            self.send(core, locate, id, true, &to);
        }
    }

    /// The time to ask again has come for children that messages wait for.
    pub(super) fn demand_again(&mut self, core: &mut Core, locate: &mut Locate) {
        let open = |(_, asked): &(&RequestId, &Asked)| {
            matches!(asked.pending, Pending::Demand { outcome: None, .. })
        };
        let open: Vec<RequestId> = self.asked.iter().filter(open).map(|(id, _)| *id).collect();
        for id in open {
            self.send(core, locate, id, true, |_| true);
        }
    }

    /// The view is settled: owners may have refused to move what they are asked for again.
    pub(super) fn ask_owners_again(&mut self, core: &mut Core, locate: &mut Locate) {
        let migrations: Vec<RequestId> = self.migrations.values().flatten().copied().collect();
        for id in migrations {
            self.send(core, locate, id, true, |_| true);
        }
    }

    /// Sends what has no outcome yet to those of the homes, or the owner, of this view that `to`
    /// names.
    fn send(
        &mut self,
        core: &mut Core,
        locate: &mut Locate,
        id: RequestId,
        again: bool,
        to: impl Fn(NodeId) -> bool,
    ) {
        let Some(Asked { pending, wait }) = self.asked.get_mut(&id) else { return };
        let wait = *wait;
        match pending {
            Pending::Start { specs, outcomes, .. } => {
                let open = specs.iter().filter(|spec| outcomes.is_open(spec.id()));
                for (home, specs) in by_home(core, open, |spec| spec.id(), to) {
                    for specs in parts(specs, |spec| spec.args.len() + 256) {
                        let word = HomeWord::Start { request: id, specs, wait };
                        core.send(home, PeerMessage::Home(word));
                    }
                }
            }
            Pending::Demand { spec, outcome: None } => {
                if let Some(home) = core.home(spec.id()).filter(|home| to(*home)) {
                    let specs = vec![spec.clone()];
                    let word = HomeWord::Start { request: id, specs, wait };
                    core.send(home, PeerMessage::Home(word));
                }
            }
            Pending::Demand { outcome: Some(_), .. } => {}
            Pending::Stop { children, outcomes, seen, .. } => {
                let open = children.iter().filter(|child| outcomes.is_open(child));
                let owned = open
                    .clone()
                    .filter_map(|child| Some((child.clone(), core.registry.owner(child)?.0.node)));
                seen.extend(owned);
                for (home, children) in by_home(core, open, |child| child, to) {
                    for children in parts(children, |child| child.as_str().len() + 16) {
                        let word = HomeWord::Stop { request: id, children, wait };
                        core.send(home, PeerMessage::Home(word));
                    }
                }
            }
            Pending::Migrate { child, asked, .. } => match placed(core, child) {
                None => locate.ask(core, child),
                // It was handed over and is not started there yet: who gave it away keeps what it was
                // asked until it is, and takes it back if it cannot be.
                Some(owner) if !owner.is_running => {
                    if again && asked.is_some_and(|asked| to(asked.run.node)) {
                        // That may be lost.
                        *asked = None;
                    }
                }
                Some(owner) if *asked != Some(owner) || again && to(owner.run.node) => {
                    self.send_migration(core, id, owner);
                }
                Some(_) => {}
            },
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
        let (child, to, forced, wait) = (child.clone(), *to, *forced, *wait);
        let word = HomeWord::Migrate { request: id, child, to, forced, wait };
        core.send(owner.run.node, PeerMessage::Home(word));
    }

    /// A child's home says where it is; `None`: there is none.
    pub(super) fn located(
        &mut self,
        core: &mut Core,
        child: &ChildId,
        question: u64,
        route: Option<Route>,
    ) {
        for id in self.migrations_of(child) {
            let Some(Asked { pending: Pending::Migrate { since, .. }, .. }) = self.asked.get(&id)
            else {
                continue;
            };
            match route {
                _ if is_placed(core, child) => {}
                Some(route) => {
                    let owner = Placed { run: route.owner, is_running: true, born: Epoch::ZERO };
                    self.send_migration(core, id, owner);
                }
                None if question > *since => {
                    self.migrated(core, id, child, MigrateOutcome::NotFound);
                }
                None => {}
            }
        }
    }

    /// A home says what became of starts.
    pub(super) fn started(
        &mut self,
        core: &mut Core,
        locate: &mut Locate,
        home: NodeId,
        id: RequestId,
        outcomes: Vec<ChildOutcome<StartOutcome>>,
    ) {
        for ChildOutcome { child, outcome } in &outcomes {
            if let StartOutcome::Started { node: owner, epoch }
            | StartOutcome::Exists { node: owner, epoch } = outcome
                && let Some(owner) = core.view.member(*owner).map(Member::run)
                && core.home(child) == Some(home)
                && self.asked.contains_key(&id)
                && core.is_possible(home, child, *epoch)
            {
                core.hint(child, Route { owner, epoch: *epoch });
            }
        }
        match self.asked.get_mut(&id).map(|asked| &mut asked.pending) {
            Some(Pending::Start { outcomes: known, .. }) => {
                outcomes.into_iter().for_each(|one| known.note(one.child, one.outcome));
            }
            Some(Pending::Demand { spec, outcome }) => {
                let mine = outcomes.into_iter().find(|one| one.child == *spec.id());
                let is_placed = core.has_route(spec.id());
                let counts = |outcome: &StartOutcome| {
                    is_placed || matches!(outcome, StartOutcome::Failed { .. })
                };
                *outcome = mine.map(|one| one.outcome).filter(counts);
                if outcome.is_none() {
                    // Its home has not heard yet that it was stopped, or by whom it is run is not in here yet.
                    locate.keep_asking(core);
                }
            }
            _ => {}
        }
        self.finish(core, locate, id);
    }

    /// A home says what became of stops.
    pub(super) fn stopped(
        &mut self,
        core: &mut Core,
        locate: &mut Locate,
        id: RequestId,
        outcomes: Vec<ChildOutcome<StopOutcome>>,
    ) {
        if let Some(Asked { pending: Pending::Stop { outcomes: known, seen, .. }, .. }) =
            self.asked.get_mut(&id)
        {
            for ChildOutcome { child, outcome } in outcomes {
                let outcome = match (outcome, seen.get(&child)) {
                    (StopOutcome::NotFound, Some(node)) => StopOutcome::Stopped { node: *node },
                    (outcome, _) => outcome,
                };
                known.note(child, outcome);
            }
        }
        self.finish(core, locate, id);
    }

    /// A migration has ended.
    pub(super) fn migrated(
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

    /// What is known of a child changed: a migration follows it.
    pub(super) fn child_changed(&mut self, core: &mut Core, locate: &mut Locate, child: &ChildId) {
        for id in self.migrations_of(child) {
            self.send(core, locate, id, false, |_| true);
        }
    }

    /// Answers a request whose children all have an outcome.
    fn finish(&mut self, core: &mut Core, locate: &mut Locate, id: RequestId) {
        let done = match self.asked.get(&id).map(|asked| &asked.pending) {
            Some(Pending::Start { outcomes, .. }) => outcomes.is_complete(),
            Some(Pending::Demand { outcome, .. }) => outcome.is_some(),
            Some(Pending::Stop { outcomes, .. }) => outcomes.is_complete(),
            Some(Pending::Migrate { .. }) | None => false,
        };
        if done {
            self.reply(core, locate, id, None);
        }
    }

    /// The time of a request is over. `waits_for`: what keeps the cluster unsettled.
    pub(super) fn expired(
        &mut self,
        core: &mut Core,
        locate: &mut Locate,
        id: RequestId,
        waits_for: Option<String>,
    ) {
        self.reply(core, locate, id, waits_for);
    }

    fn reply(
        &mut self,
        core: &mut Core,
        locate: &mut Locate,
        id: RequestId,
        waits_for: Option<String>,
    ) {
        let Some(Asked { pending, wait }) = self.asked.remove(&id) else { return };
        let (request, reply) = match pending {
            Pending::Start { specs, outcomes, on_failure } => {
                let timeout = StartOutcome::Failed { reason: StartFailed::Timeout { waits_for } };
                let report = start_report(&specs, &outcomes, &timeout);
                let failed = report.failures().next().is_some();
                if on_failure == OnFailure::Rollback && failed && report.started() > 0 {
                    return self.roll_back(core, locate, id, report, wait);
                }
                (id, Reply::Started(report))
            }
            Pending::Demand { spec, outcome } => {
                let child = spec.id().clone();
                core.effects.push_back(match outcome {
                    None => Effect::LocateOver { child },
                    Some(StartOutcome::Failed { reason }) => Effect::NotStarted { child, reason },
                    Some(StartOutcome::Started { .. } | StartOutcome::Exists { .. }) => {
                        Effect::Located { child, found: true }
                    }
                });
                return;
            }
            Pending::Stop { rollback: Some((start, report)), .. } => {
                (start, Reply::Started(report))
            }
            Pending::Stop { children, outcomes, rollback: None, .. } => {
                let outcome = |child: ChildId| {
                    let outcome = outcomes.get(&child).unwrap_or(&StopOutcome::Timeout).clone();
                    (child, outcome)
                };
                let outcomes = children.into_iter().map(outcome).collect();
                (id, Reply::Stopped(StopReport { outcomes }))
            }
            Pending::Migrate { child, .. } => {
                self.forget_migration(&child, id);
                (id, Reply::Migrated(MigrateOutcome::Timeout))
            }
        };
        core.effects.push_back(Effect::Reply { request, reply });
    }

    /// Stops what a failed start has started itself, and answers then.
    fn roll_back(
        &mut self,
        core: &mut Core,
        locate: &mut Locate,
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
        let own = self.own_id();
        let pending = Pending::stop(children, Some((id, report)));
        self.begin(core, locate, own, Asked { pending, wait });
    }
}

/// Children, or what is to be started, by the home that is to serve each.
fn by_home<'a, T: Clone + 'a>(
    core: &Core,
    all: impl Iterator<Item = &'a T>,
    child: impl Fn(&T) -> &ChildId,
    to: impl Fn(NodeId) -> bool,
) -> BTreeMap<NodeId, Vec<T>> {
    let mut homes: BTreeMap<NodeId, Vec<T>> = BTreeMap::new();
    for one in all {
        if let Some(home) = core.home(child(one)).filter(|home| to(*home)) {
            homes.entry(home).or_default().push(one.clone());
        }
    }
    homes
}

fn start_report(
    specs: &[Arc<ChildSpec>],
    outcomes: &Outcomes<StartOutcome>,
    missing: &StartOutcome,
) -> StartReport {
    let outcome = |spec: &Arc<ChildSpec>| {
        let child = spec.id().clone();
        let outcome = outcomes.get(&child).unwrap_or(missing).clone();
        (child, outcome)
    };
    StartReport { outcomes: specs.iter().map(outcome).collect() }
}

fn placed(core: &Core, child: &ChildId) -> Option<Placed> {
    let best = core.registry.best(child)?;
    let born = best.entry.ownership()?.born;
    let is_running = matches!(best.entry, Entry::Owned(_));
    Some(Placed { run: best.owner, is_running, born })
}

/// Whether it is known who owns a child.
pub(super) fn is_placed(core: &Core, child: &ChildId) -> bool {
    placed(core, child).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::tests::{child, core, member, spec},
        model::{
            child::{Ownership, Role, TakenIn},
            id::Origin,
            message::LogEntry,
        },
    };

    const SECOND: Duration = Duration::from_secs(1);
    const ID: RequestId = RequestId(7);

    /// A node that is alone, and so the home of all children.
    struct Bench {
        core: Core,
        locate: Locate,
        requests: UserRequests,
    }

    impl Bench {
        fn new(members: &[u8]) -> Self {
            let (locate, requests) = (Locate::default(), UserRequests::default());
            Self { core: core(members), locate, requests }
        }

        fn ask(&mut self, request: Request) {
            self.requests.ask(&mut self.core, &mut self.locate, ID, request);
        }

        fn start(&mut self, children: &[usize], on_failure: OnFailure) {
            let specs = children.iter().map(|n| spec(*n)).collect();
            self.ask(Request::Start { specs, on_failure, timeout: SECOND });
        }

        fn started(&mut self, n: usize, outcome: StartOutcome) {
            let home = self.core.me.node;
            let outcomes = vec![ChildOutcome { child: child(n), outcome }];
            self.requests.started(&mut self.core, &mut self.locate, home, ID, outcomes);
        }

        fn words(&mut self) -> Vec<HomeWord> {
            let words = self.core.loopback.drain(..).map(|message| match message {
                PeerMessage::Home(word) => word,
                message => panic!("{message:?}"),
            });
            words.collect()
        }

        fn replies(&mut self) -> Vec<(RequestId, Reply)> {
            let replies = self.core.effects.drain(..).filter_map(|effect| match effect {
                Effect::Reply { request, reply } => Some((request, reply)),
                _ => None,
            });
            replies.collect()
        }

        /// A node says that it owns a child that began there at this term.
        fn owned(&mut self, n: usize, term: u64, pinned: Option<NodeId>) {
            let epoch = Epoch { term, attempt: 0 };
            let ownership = Ownership {
                epoch,
                born: epoch,
                copied: epoch,
                role: Role::Active,
                pinned,
                origin: Origin::default(),
                taken: TakenIn::default(),
                failure: None,
                spec: spec(n),
            };
            self.core.write(&child(n), Entry::Owned(ownership));
            self.requests.child_changed(&mut self.core, &mut self.locate, &child(n));
        }

        /// The first thing that another node says of a child, or one more of this node's own.
        fn log_says(&mut self, n: u8, entry: Entry) {
            let run = member(n).run();
            if run == self.core.me {
                self.core.write(&child(0), entry);
            } else {
                let entry = LogEntry { version: 1, child: child(0), entry };
                self.core.registry.apply_changes(run, 0, 1, vec![entry]);
            }
            self.requests.child_changed(&mut self.core, &mut self.locate, &child(0));
        }

        /// The nodes that were asked to move a child.
        fn asked(&mut self) -> Vec<NodeId> {
            let me = self.core.me.node;
            let own =
                self.words().into_iter().filter(|word| matches!(word, HomeWord::Migrate { .. }));
            let own: Vec<NodeId> = own.map(|_| me).collect();
            let others = self.core.effects.drain(..).filter_map(|effect| match effect {
                Effect::Send { to, message: PeerMessage::Home(HomeWord::Migrate { .. }) } => {
                    Some(to)
                }
                _ => None,
            });
            own.into_iter().chain(others).collect()
        }

        /// It runs here, and somebody wants it on node 2: what is said when it is handed over, and
        /// when it goes on here after all.
        fn wanted_there(&mut self) -> (Entry, Entry) {
            let to = member(2);
            self.owned(0, 1, None);
            self.ask(Request::Migrate {
                child: child(0),
                to: to.id,
                forced: false,
                timeout: SECOND,
            });
            assert_eq!(self.asked(), [self.core.me.node]);
            let own = self.core.registry.owner(&child(0)).expect("it is there").1.clone();
            let epoch = own.epoch.next_attempt();
            let there = Ownership { pinned: Some(to.id), epoch, ..own.clone() };
            let back = Ownership { epoch: epoch.next_attempt(), ..own };
            (Entry::Moved { to: to.run(), ownership: there }, Entry::Owned(back))
        }
    }

    fn failed() -> StartOutcome {
        StartOutcome::Failed { reason: StartFailed::NoNode }
    }

    fn well(bench: &Bench) -> StartOutcome {
        StartOutcome::Started { node: bench.core.me.node, epoch: Epoch { term: 1, attempt: 0 } }
    }

    #[test]
    fn what_has_an_outcome_is_not_asked_for_again_and_what_has_none_times_out() {
        let mut bench = Bench::new(&[1]);
        bench.start(&[0, 1], OnFailure::Continue);
        assert_eq!(bench.words().len(), 1, "one word to one home");
        bench.started(0, failed());
        assert_eq!(bench.replies(), []);
        bench.requests.ask_again(&mut bench.core, &mut bench.locate, |_| true);
        let [HomeWord::Start { specs, .. }] = &bench.words()[..] else { panic!("one word") };
        assert_eq!(specs.iter().map(|spec| spec.id()).collect::<Vec<_>>(), [&child(1)]);
        bench.requests.ask_again(&mut bench.core, &mut bench.locate, |_| false);
        assert_eq!(bench.words(), [], "only whoever is named");
        let waits_for = Some("it waits".to_owned());
        bench.requests.expired(&mut bench.core, &mut bench.locate, ID, waits_for.clone());
        let timeout = StartOutcome::Failed { reason: StartFailed::Timeout { waits_for } };
        let outcomes = vec![(child(0), failed()), (child(1), timeout)];
        assert_eq!(bench.replies(), [(ID, Reply::Started(StartReport { outcomes }))]);
        bench.started(1, failed());
        assert_eq!(bench.replies(), [], "it was answered");
    }

    #[test]
    fn a_failed_start_of_all_or_none_stops_what_it_started_itself_and_answers_then() {
        let mut bench = Bench::new(&[1]);
        bench.start(&[0, 1, 2], OnFailure::Rollback);
        bench.words();
        let outcome = well(&bench);
        bench.started(0, outcome);
        let (node, epoch) = (bench.core.me.node, Epoch { term: 1, attempt: 0 });
        bench.started(1, StartOutcome::Exists { node, epoch });
        bench.started(2, failed());
        assert_eq!(bench.replies(), []);
        let [HomeWord::Stop { request, children, .. }] = &bench.words()[..] else {
            panic!("one is stopped")
        };
        assert_eq!(*children, [child(0)]);
        let outcomes = vec![ChildOutcome { child: child(0), outcome: StopOutcome::NotFound }];
        bench.requests.stopped(&mut bench.core, &mut bench.locate, *request, outcomes);
        let rolled_back = StartOutcome::Failed { reason: StartFailed::RolledBack };
        let exists = StartOutcome::Exists { node, epoch };
        let outcomes = vec![(child(0), rolled_back), (child(1), exists), (child(2), failed())];
        assert_eq!(bench.replies(), [(ID, Reply::Started(StartReport { outcomes }))]);
    }

    #[test]
    fn a_child_that_messages_wait_for_is_asked_for_and_started_in_one_word() {
        let (me, epoch) = (Bench::new(&[1]).core.me.node, Epoch { term: 1, attempt: 0 });
        let located = Effect::Located { child: child(0), found: true };
        let reason = StartFailed::NoNode;
        let not_started = Effect::NotStarted { child: child(0), reason };
        for (outcome, told) in [
            (StartOutcome::Started { node: me, epoch }, located.clone()),
            (StartOutcome::Exists { node: me, epoch }, located),
            (failed(), not_started),
        ] {
            let mut bench = Bench::new(&[1]);
            bench.requests.demand(&mut bench.core, &mut bench.locate, spec(0));
            let [HomeWord::Start { request, specs, .. }] = &bench.words()[..] else {
                panic!("one word")
            };
            assert_eq!(specs.iter().map(|spec| spec.id()).collect::<Vec<_>>(), [&child(0)]);
            let request = *request;
            bench.requests.ask_again(&mut bench.core, &mut bench.locate, |_| true);
            assert_eq!(bench.words().len(), 1, "its home may not have heard it");
            let outcomes = vec![ChildOutcome { child: child(0), outcome }];
            let (core, locate) = (&mut bench.core, &mut bench.locate);
            bench.requests.started(core, locate, me, request, outcomes.clone());
            let tells: Vec<Effect> = core.effects.drain(..).collect();
            let is_route = |effect: &Effect| matches!(effect, Effect::Route { .. });
            let routes = tells.iter().filter(|effect| is_route(effect)).count();
            assert_eq!(tells.last(), Some(&told), "after where it is");
            assert_eq!(routes, usize::from(matches!(told, Effect::Located { .. })));
            bench.requests.started(core, locate, me, request, outcomes);
            assert!(!core.effects.contains(&told), "it is told once");
            bench.requests.ask_again(&mut bench.core, &mut bench.locate, |_| true);
            assert_eq!(bench.words(), []);
        }
    }

    #[test]
    fn an_answer_that_there_is_one_and_not_where_is_none_and_asked_for_again_with_the_next_heartbeat()
     {
        let mut bench = Bench::new(&[1]);
        bench.requests.demand(&mut bench.core, &mut bench.locate, spec(0));
        let [HomeWord::Start { request, .. }] = bench.words()[..] else { panic!("one word") };
        let (me, epoch) = (bench.core.me.node, Epoch { term: 1, attempt: 0 });
        let away = member(2).id;
        let exists = |node| {
            vec![ChildOutcome { child: child(0), outcome: StartOutcome::Exists { node, epoch } }]
        };
        let (core, locate) = (&mut bench.core, &mut bench.locate);
        bench.requests.started(core, locate, me, request, exists(away));
        assert!(core.effects.is_empty(), "that one is not in");
        core.now += core.config.settings.heartbeat;
        assert_eq!(core.due_timer(), Some(Timer::Locate));
        bench.requests.demand_again(core, locate);
        assert_eq!(bench.words().len(), 1);
        let (core, locate) = (&mut bench.core, &mut bench.locate);
        bench.requests.started(core, locate, me, request, exists(me));
        let located = Effect::Located { child: child(0), found: true };
        assert_eq!(core.effects.pop_back(), Some(located));
    }

    #[test]
    fn messages_wait_for_a_start_on_demand_as_long_as_any_start_may_take() {
        let mut bench = Bench::new(&[1]);
        bench.requests.demand(&mut bench.core, &mut bench.locate, spec(0));
        let [HomeWord::Start { request, wait, .. }] = bench.words()[..] else { panic!("one word") };
        assert_eq!(wait, bench.core.config.settings.request_timeout);
        bench.core.now += wait;
        assert_eq!(bench.core.due_timer(), Some(Timer::Request(request)));
        bench.requests.expired(&mut bench.core, &mut bench.locate, request, None);
        let over = Effect::LocateOver { child: child(0) };
        assert_eq!(bench.core.effects.drain(..).collect::<Vec<_>>(), [over]);
    }

    #[test]
    fn a_stop_that_finds_nothing_where_a_child_was_has_stopped_it() {
        let mut bench = Bench::new(&[1]);
        bench.owned(0, 1, None);
        let children = vec![child(0), child(1)];
        bench.ask(Request::Stop { children, timeout: SECOND });
        let outcome = |n| ChildOutcome { child: child(n), outcome: StopOutcome::NotFound };
        let outcomes = vec![outcome(0), outcome(1)];
        bench.requests.stopped(&mut bench.core, &mut bench.locate, ID, outcomes);
        let node = bench.core.me.node;
        let stopped = (child(0), StopOutcome::Stopped { node });
        let outcomes = vec![stopped, (child(1), StopOutcome::NotFound)];
        assert_eq!(bench.replies(), [(ID, Reply::Stopped(StopReport { outcomes }))]);
    }

    #[test]
    fn a_migration_follows_its_child_and_asks_each_life_of_it_once() {
        let mut bench = Bench::new(&[1, 2]);
        let to = member(2).id;
        let migrate = Request::Migrate { child: child(0), to, forced: false, timeout: SECOND };
        bench.ask(migrate);
        bench.core.effects.clear();
        assert_eq!(bench.requests.migrating().count(), 1);
        let asked = |bench: &mut Bench| {
            let words = bench.words().into_iter();
            words.filter(|word| matches!(word, HomeWord::Migrate { .. })).count()
        };
        asked(&mut bench);
        bench.owned(0, 1, None);
        assert_eq!(asked(&mut bench), 1);
        bench.owned(0, 1, None);
        assert_eq!(asked(&mut bench), 0, "it was asked");
        bench.owned(0, 2, None);
        assert_eq!(asked(&mut bench), 1, "it began anew and forgot");
        bench.requests.migrated(&mut bench.core, ID, &child(1), MigrateOutcome::NotFound);
        assert_eq!(bench.replies(), [], "that is another child's");
        bench.requests.migrated(&mut bench.core, ID, &child(0), MigrateOutcome::NotFound);
        assert_eq!(bench.replies(), [(ID, Reply::Migrated(MigrateOutcome::NotFound))]);
        assert_eq!(bench.requests.migrating().count(), 0, "nothing is kept of it");
    }

    #[test]
    fn whoever_runs_the_child_is_asked_once_also_where_it_is_to_be() {
        let mut bench = Bench::new(&[1, 2]);
        let (gone, back) = bench.wanted_there();
        bench.log_says(1, gone);
        assert_eq!(bench.asked(), [], "who gives it away says what becomes of it");
        // Its successor does not start: that is the same instance, which was asked.
        bench.log_says(1, back.clone());
        assert_eq!(bench.asked(), []);
        let own = back.ownership().expect("it runs");
        let pinned = Some(member(2).id);
        let again = Ownership { epoch: own.epoch.next_attempt(), pinned, ..own.clone() };
        bench.log_says(1, Entry::Moved { to: member(2).run(), ownership: again.clone() });
        bench.log_says(2, Entry::Owned(again));
        assert_eq!(bench.asked(), [member(2).id], "the wish may have ended with the old instance");
        bench.requests.child_changed(&mut bench.core, &mut bench.locate, &child(0));
        assert_eq!(bench.asked(), []);
    }

    #[test]
    fn what_may_not_have_reached_who_gives_a_child_away_is_asked_again_if_it_goes_on_there() {
        let mut bench = Bench::new(&[1, 2]);
        let (gone, back) = bench.wanted_there();
        bench.log_says(1, gone);
        let me = bench.core.me.node;
        bench.requests.ask_again(&mut bench.core, &mut bench.locate, |node| node == me);
        assert_eq!(bench.asked(), [], "it can do nothing now");
        bench.log_says(1, back);
        assert_eq!(bench.asked(), [me]);
    }

    #[test]
    fn of_a_child_that_nobody_knows_a_migration_ends_with_the_answer_to_a_later_question() {
        let mut bench = Bench::new(&[1]);
        bench.locate.ask(&mut bench.core, &child(0));
        let to = member(1).id;
        bench.ask(Request::Migrate { child: child(0), to, forced: false, timeout: SECOND });
        bench.requests.located(&mut bench.core, &child(0), 1, None);
        assert_eq!(bench.replies(), [], "that was asked before");
        bench.requests.located(&mut bench.core, &child(0), 2, None);
        assert_eq!(bench.replies(), [(ID, Reply::Migrated(MigrateOutcome::NotFound))]);
    }
}
