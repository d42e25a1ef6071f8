//! What the machines of one engine share: the time, the view, the registry, the way out.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    answers::{Answer, Answers, Safe},
    distribution::home,
    io::{ChildOrder, Effect, EngineConfig},
    promises::Promises,
    registry::Registry,
};
use crate::model::{
    child::{ChildSpec, Entry, Epoch, Ownership, Route},
    event::HubEvent,
    id::{ChildId, KindName, NodeId, NodeRun, Origin, RequestId},
    member::{Member, MemberState, View, ViewId},
    message::PeerMessage,
    parked::ParkedKey,
    report::{MigrateOutcome, StartOutcome, StopOutcome},
};

/// For how many suspicion windows a user's answer waits while no member takes anything of this node's
/// log in.
const UNHEARD_WINDOWS: u32 = 2;

/// The longest wait that a timer takes.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(86_400);

/// What a deadline is for. A timer that is no longer wanted fires and finds nothing to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A child's start must have been answered.
    Start(ChildId, Epoch),
    /// A move must be over, at its source.
    Source(ChildId, Epoch),
    /// The state must have arrived, at the target.
    Target(ChildId, Epoch),
    /// A committed source asks after its successor.
    Query(ChildId, Epoch),
    /// A move is tried again.
    Retry(ChildId),
    /// A node that was passed over for a child may be tried again.
    PassedOver(ChildId),
    /// A child that has no actor is started again.
    Restart(ChildId),
    /// A yielding owner asks again.
    Yield(ChildId, Epoch),
    /// A child whose state is to be parked is asked again to come to rest.
    Rest(ChildId, Epoch),
    /// A request's time is over.
    Request(RequestId),
    /// A home gives an order up.
    Order(ChildId, Epoch),
    /// Homes that were asked where children are, and have not answered, are asked again.
    Locate,
    /// The time of a request to leave is over.
    Leave(RequestId),
    /// The time of a request to be drained is over.
    Drain(RequestId),
    /// In is said for the view of now.
    SayIn,
    /// A view that is not settled says In again; an unanswered roll call is repeated.
    Settle,
}

/// What one machine tells another.
#[derive(Clone, Debug)]
pub(crate) enum News {
    /// A start that a home ordered has ended.
    Ran { home: NodeId, child: ChildId, epoch: Epoch, outcome: StartOutcome },
    /// A stop that a home ordered has ended.
    Halted { home: NodeId, child: ChildId, epoch: Epoch, outcome: StopOutcome },
    /// A move that was asked for has ended.
    Migrated { waiters: Vec<(NodeId, RequestId)>, child: ChildId, outcome: MigrateOutcome },
    /// Nothing is left of a child on this node, or the owner here changed: look again.
    Changed { child: ChildId },
    /// A start that a home had ordered while its child was handed over: it has begun elsewhere, or begins
    /// here.
    StartNow { home: NodeId, spec: Arc<ChildSpec>, epoch: Epoch, origin: Origin },
    /// A state is about to be parked here.
    Parks { key: ParkedKey, other: OtherHolder },
    /// A child of this node has merged a state: if it is parked anywhere, it is wanted no more.
    Merged { key: ParkedKey },
    /// A child of this node goes on with a state that it had offered: who has parked it keeps it no more.
    TakenBack { key: ParkedKey },
    /// The home of a child that is watched here, and that nobody here had heard of, has answered: where it
    /// is, and `None` if there is none.
    Sought { child: ChildId, route: Option<Route> },
}

/// Who has a state, too, that is about to be parked here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OtherHolder {
    /// Nobody.
    None,
    /// The owner whose it is: it offers it, and parks it when it is told that this node does.
    Offers,
    /// The owner to whom this node has offered it: that one parks it, and tells so.
    Parks,
}

/// What the machines of one engine share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) now: Instant,
    pub(crate) config: EngineConfig,
    pub(crate) me: NodeRun,
    pub(crate) view: View,
    pub(crate) view_id: ViewId,
    /// The members, this node included.
    pub(crate) known: BTreeSet<NodeId>,
    /// The other members, sorted.
    pub(crate) others: Vec<NodeId>,
    /// The members that take children, sorted by id.
    pub(crate) placeable: Vec<Member>,
    /// The kinds that each run has registered, as it said when it adopted a view.
    kinds: BTreeMap<NodeRun, BTreeSet<KindName>>,
    /// For each kind that some of `placeable` have registered and others not: who has.
    partial: BTreeMap<KindName, Vec<Member>>,
    /// Whether all members have adopted this view and their logs are here.
    pub(crate) settled: bool,
    /// Whether a view has been settled since this life began, or began anew.
    pub(crate) synced: bool,
    /// This node takes no children and hands over what it has.
    pub(crate) emptying: bool,
    /// Everything is handed over and this node goes: it starts nothing any more.
    pub(crate) closing: bool,
    /// Runs that this node has a link to.
    pub(crate) linked: BTreeSet<NodeRun>,
    /// Members to which messages and states can go: over their link, or by another one.
    pub(crate) reachable: BTreeSet<NodeRun>,
    pub(crate) registry: Registry,
    /// What was promised to roll calls.
    pub(crate) promises: Promises,
    /// Answers that wait for their entries.
    pub(crate) answers: Answers,
    /// Where messages go, as was told last.
    routes: BTreeMap<ChildId, Route>,
    /// Those of them that an answer said and the registry has not reached yet.
    hints: BTreeMap<ChildId, Route>,
    pub(crate) effects: VecDeque<Effect>,
    pub(crate) loopback: VecDeque<PeerMessage>,
    pub(crate) news: VecDeque<News>,
    pub(crate) touched: BTreeSet<ChildId>,
    timers: BTreeMap<(Instant, u64), Timer>,
    timer_count: u64,
    /// Faults that were told, by who made them.
    told: BTreeSet<(NodeId, Fault)>,
}

/// What a member must not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// An epoch far above all that is known of its child.
    Epoch,
    /// More than this node keeps for one other.
    Quota,
}

impl Core {
    pub(crate) fn new(config: EngineConfig, now: Instant) -> Self {
        let me = config.incarnation.run_of(config.node);
        Self {
            now,
            me,
            view: View::default(),
            view_id: ViewId(0),
            known: BTreeSet::new(),
            others: Vec::new(),
            placeable: Vec::new(),
            kinds: BTreeMap::from([(me, config.kinds.keys().cloned().collect())]),
            partial: BTreeMap::new(),
            settled: false,
            synced: false,
            emptying: false,
            closing: false,
            linked: BTreeSet::new(),
            reachable: BTreeSet::new(),
            registry: Registry::new(me),
            promises: Promises::default(),
            answers: Answers::default(),
            routes: BTreeMap::new(),
            hints: BTreeMap::new(),
            effects: VecDeque::new(),
            loopback: VecDeque::new(),
            news: VecDeque::new(),
            touched: BTreeSet::new(),
            timers: BTreeMap::new(),
            timer_count: 0,
            told: BTreeSet::new(),
            config,
        }
    }

    pub(crate) fn adopt(&mut self, view: View) {
        self.view_id = view.id();
        self.known = view.members.keys().copied().collect();
        self.emptying = view.member(self.me.node).is_some_and(Member::is_emptying);
        self.others = self.known.iter().copied().filter(|node| *node != self.me.node).collect();
        self.placeable =
            view.members.values().filter(|member| member.takes_children()).cloned().collect();
        let runs = |view: &View| view.members.values().map(Member::run).collect::<BTreeSet<_>>();
        let members = runs(&view);
        if members != runs(&self.view) {
            self.effects.push_back(Effect::Members { runs: members });
        }
        self.view = view;
        self.kinds.retain(|run, _| self.view.is_live(*run) || *run == self.me);
        self.sort_kinds();
        // What an answer said of a node that is gone, and the registry never did, is void.
        let void: Vec<ChildId> = self
            .hints
            .iter()
            .filter(|(_, route)| !self.view.is_live(route.owner))
            .map(|(child, _)| child.clone())
            .collect();
        for child in void {
            self.hints.remove(&child);
            self.tell_route(&child, self.route(&child));
        }
    }

    /// The members of this view that were not in the one before come in: what is known of their logs was
    /// not said by them since.
    pub(crate) fn see_returns(&mut self, before: &View) {
        self.registry.viewed(before, &self.view);
    }

    /// A member has said which kinds it has registered.
    pub(crate) fn learn_kinds(&mut self, run: NodeRun, kinds: Vec<KindName>) {
        let kinds: BTreeSet<KindName> = kinds.into_iter().collect();
        if self.kinds.get(&run) != Some(&kinds) {
            self.kinds.insert(run, kinds);
            self.sort_kinds();
        }
    }

    fn sort_kinds(&mut self) {
        let has = |member: &Member, kind: &KindName| {
            // Who has not spoken yet is asked nothing before it has: the view is not settled.
            self.kinds.get(&member.run()).is_none_or(|kinds| kinds.contains(kind))
        };
        let known: BTreeSet<&KindName> =
            self.placeable.iter().filter_map(|m| self.kinds.get(&m.run())).flatten().collect();
        self.partial = known
            .into_iter()
            .filter(|kind| !self.placeable.iter().all(|member| has(member, kind)))
            .map(|kind| {
                let members = self.placeable.iter().filter(|member| has(member, kind));
                (kind.clone(), members.cloned().collect())
            })
            .collect();
    }

    /// The members that take children of this kind. None, if no member is known to have it.
    pub(crate) fn takers(&self, kind: &KindName) -> &[Member] {
        if let Some(members) = self.partial.get(kind) {
            return members;
        }
        let has = |member: &Member| {
            self.kinds.get(&member.run()).is_none_or(|kinds| kinds.contains(kind))
        };
        if self.placeable.first().is_some_and(has) { &self.placeable } else { &[] }
    }

    pub(crate) fn send(&mut self, to: NodeId, message: PeerMessage) {
        if to == self.me.node {
            self.loopback.push_back(message);
        } else {
            self.effects.push_back(Effect::Send { to, message });
        }
    }

    /// Answers about a child, once what this node's log says of it is safe. Who is not there any more is
    /// not answered.
    pub(crate) fn answer(&mut self, to: NodeRun, child: ChildId, answer: Answer) {
        let (now, me, version) = (self.now, self.me, self.registry.own_version(&child));
        if let Err(over) = self.answers.hold(now, me, to, version, child, answer) {
            self.fault(to.node, Fault::Quota, || over.to_string());
        }
    }

    /// Sends the answers whose entries are safe by now; `sent`: up to which version this node's log was
    /// sent to a node.
    pub(crate) fn release_answers(&mut self, sent: impl Fn(NodeId) -> u64) {
        let mut answers = std::mem::take(&mut self.answers);
        let released = answers.release(self.now, self.me, |to| self.safe(to, sent(to.node)));
        self.answers = answers;
        for (to, word) in released {
            self.send(to, PeerMessage::Home(word));
        }
    }

    /// How far this node's log is safe for who is to be answered, if it was `sent` there up to some
    /// version. `None`: it is not there any more.
    pub(crate) fn safe(&self, to: NodeRun, sent: u64) -> Option<Safe> {
        let settings = &self.config.settings;
        if to != self.me {
            let patience = settings.request_timeout;
            return self.is_live(to).then_some(Safe { upto: sent, patience, regardless: false });
        }
        let others = self.view.members.values().filter(|member| {
            let is_there = member.state == MemberState::Alive && self.reaches(member.run());
            member.id != self.me.node && is_there
        });
        let acked = others.map(|member| self.registry.acked(member.id, self.me)).max();
        let patience = settings.suspicion_window() * UNHEARD_WINDOWS;
        Some(Safe { upto: acked.unwrap_or(u64::MAX), patience, regardless: true })
    }

    /// These come before all that waits.
    pub(crate) fn put_first(&mut self, effects: Vec<Effect>) {
        effects.into_iter().rev().for_each(|effect| self.effects.push_front(effect));
    }

    pub(crate) fn order(&mut self, order: ChildOrder) {
        self.effects.push_back(Effect::Child(order));
    }

    pub(crate) fn emit(&mut self, event: HubEvent) {
        self.effects.push_back(Effect::Emit(event));
    }

    /// Whether an epoch that a peer names can be what became of this child.
    pub(crate) fn is_possible(&mut self, from: NodeId, child: &ChildId, epoch: Epoch) -> bool {
        let possible = epoch.can_follow(self.registry.highest_epoch(child));
        if !possible {
            self.fault(from, Fault::Epoch, || {
                format!("{child} cannot be at epoch {epoch}: it jumps too far")
            });
        }
        possible
    }

    /// Tells of a fault of a member, once for each kind until it is gone.
    pub(crate) fn fault(&mut self, node: NodeId, fault: Fault, reason: impl FnOnce() -> String) {
        if node != self.me.node && self.told.insert((node, fault)) {
            self.emit(HubEvent::WordsRefused { node, reason: reason() });
        }
    }

    /// A member is gone: what it did wrong is told anew if it comes back.
    pub(crate) fn forgive(&mut self, node: NodeId) {
        self.told.retain(|(told, _)| *told != node);
    }

    /// Tells that a child went on here as its owner went down.
    pub(crate) fn recovered(&mut self, child: ChildId, epoch: Epoch, with_state: bool) {
        // What the owner said last is in its log, until all have heard who owns the child now.
        let owned = self.registry.entries_of(&child).filter_map(|(by, entry)| match entry {
            Entry::Owned(ownership) if by.node != self.me.node => Some((ownership.epoch, by.node)),
            _ => None,
        });
        let from = owned.max().map(|(_, node)| node);
        self.emit(HubEvent::Recovered { child, from, epoch, with_state });
    }

    /// Writes into this node's own log.
    pub(crate) fn write(&mut self, child: &ChildId, entry: Entry) {
        self.registry.write(child.clone(), entry);
        self.touched.insert(child.clone());
    }

    /// Where the registry says that a child is.
    pub(crate) fn route(&self, child: &ChildId) -> Option<Route> {
        match self.registry.best(child) {
            Some(best) if !matches!(best.entry, Entry::Removed { .. }) => {
                Some(Route { owner: best.owner, epoch: best.epoch })
            }
            _ => None,
        }
    }

    /// What the registry says of a child changed: messages follow it.
    pub(crate) fn reroute(&mut self, child: &ChildId) {
        // An answer may have said already where it is, or that it went on.
        let Some(best) = self.registry.best(child) else { return };
        if self.hints.get(child).is_some_and(|hint| hint.epoch > best.epoch) {
            return;
        }
        self.hints.remove(child);
        self.tell_route(child, self.route(child));
    }

    fn tell_route(&mut self, child: &ChildId, route: Option<Route>) {
        let before = match route {
            Some(route) => self.routes.insert(child.clone(), route),
            None => self.routes.remove(child),
        };
        if before != route {
            self.effects.push_back(Effect::Route { child: child.clone(), route });
        }
    }

    /// A route was told to messages for this child, by the registry or by a hint.
    pub(crate) fn has_route(&self, child: &ChildId) -> bool {
        self.routes.contains_key(child)
    }

    /// An answer says where a child is, perhaps before the registry does.
    pub(crate) fn hint(&mut self, child: &ChildId, route: Route) {
        let newer = |known: Epoch| known >= route.epoch;
        if self.routes.get(child).is_some_and(|known| newer(known.epoch))
            || self.registry.best(child).is_some_and(|best| newer(best.epoch))
        {
            return;
        }
        self.hints.insert(child.clone(), route);
        self.tell_route(child, Some(route));
    }

    pub(crate) fn timer(&mut self, after: Duration, timer: Timer) {
        self.timer_count += 1;
        // A peer's word may name a wait; no deadline is further away than this.
        let at = self.now + after.min(LONGEST_WAIT);
        self.timers.insert((at, self.timer_count), timer);
    }

    pub(crate) fn due_timer(&mut self) -> Option<Timer> {
        let entry = self.timers.first_entry()?;
        (entry.key().0 <= self.now).then(|| entry.remove())
    }

    pub(crate) fn next_timer(&self) -> Option<Instant> {
        self.timers.keys().next().map(|(at, _)| *at)
    }

    pub(crate) fn is_live(&self, run: NodeRun) -> bool {
        self.view.is_live(run)
    }

    /// The first epoch of a term of a child that is above all that is known of it, and above what was
    /// promised to a roll call: that term is for the call to give, and what it gives must not stand
    /// above what comes later.
    pub(crate) fn next_term(&self, child: &ChildId) -> Epoch {
        let promised = Epoch { term: self.promises.term(child).unwrap_or(0), attempt: 0 };
        self.registry.highest_epoch(child).max(promised).next_term()
    }

    /// What is known of a child changed: is what was promised kept?
    pub(crate) fn review_promise(&mut self, child: &ChildId) {
        let Some(best) = self.registry.best(child) else { return };
        let is_removed = matches!(best.entry, Entry::Removed { .. });
        let lives = self.settled && self.view.is_live(best.owner);
        self.promises.child_changed(child, best.epoch.term, is_removed, lives);
    }

    /// The view is settled. A promise for a child that nobody has heard of by now is void: the child was
    /// removed long ago, or never was.
    pub(crate) fn settle_promise(&mut self, child: &ChildId) {
        match self.registry.best(child) {
            Some(_) => self.review_promise(child),
            None => self.promises.release(child),
        }
    }

    /// Whether states can go to this run: over its link, or by another member.
    pub(crate) fn reaches(&self, run: NodeRun) -> bool {
        self.reachable.contains(&run)
    }

    /// The home of a child: where its starts, stops and takeovers are serialised.
    pub(crate) fn home(&self, child: &ChildId) -> Option<NodeId> {
        home(child, &self.view)
    }

    pub(crate) fn is_home(&self, child: &ChildId) -> bool {
        self.home(child) == Some(self.me.node)
    }

    /// Where a child belongs by this view: its pin if that node takes children, else where the
    /// distribution puts it among the nodes that have registered its kind.
    pub(crate) fn belongs(&self, ownership: &Ownership, not: &BTreeSet<NodeId>) -> Option<NodeId> {
        let takers = self.takers(ownership.spec.kind());
        if let Some(pin) = ownership.pinned
            && takers.iter().any(|member| member.id == pin)
            && !not.contains(&pin)
        {
            return Some(pin);
        }
        let distribution = &self.config.distribution;
        let count = self.config.redundancy.instances(takers.len()).get();
        if !not.is_empty() {
            let members: Vec<Member> =
                takers.iter().filter(|member| !not.contains(&member.id)).cloned().collect();
            return distribution.owners(&ownership.spec, &members, count).first().copied();
        }
        distribution.owners(&ownership.spec, takers, count).first().copied()
    }

    /// Time for a state of this size on top of a fixed wait: one second for each 8 MiB.
    pub(crate) fn time_for(size: u64) -> Duration {
        Duration::from_millis(size / (8 << 20) * 1_000)
    }
}
