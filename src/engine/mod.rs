//! The cluster's decisions, sans-io: events in, effects out, one deadline to wake for.
//!
//! [`Engine`] only routes. Who is there is decided by `membership`; how words get there, `relay`; who
//! owns what is kept by `registry` and passed on by `sync`; when a view may be acted on, `settle`;
//! what a newcomer is told before that, `probation`; starts and stops, `homes`; when what became of them
//! may be told, `answers`; the children of this node, their moves and two owners that meet, `children`,
//! with the tables of `handover`; what is left of a dead node's children, `roll_call` and `promises`;
//! states that nobody merges, `parked` and `applies`; how a node goes, `leave`; how it is emptied and
//! stays, `drain`.

use std::{collections::BTreeSet, time::Instant};

mod answers;
mod applies;
mod away;
mod backoff;
#[cfg(test)]
mod chance;
pub(crate) mod children;
mod core;
pub mod distribution;
mod drain;
pub(crate) mod explain;
mod farewell;
mod gone_logs;
pub(crate) mod handover;
mod homes;
pub mod io;
mod leave;
mod local_links;
pub(crate) mod membership;
mod outcomes;
mod parked;
pub mod partition;
mod probation;
mod promises;
pub mod redundancy;
pub(crate) mod registry;
pub(crate) mod relay;
mod repeats;
mod rescan;
pub(crate) mod restart;
mod returns;
mod roll_call;
mod settle;
#[cfg(test)]
mod sim;
#[cfg(feature = "bench-internals")]
pub mod step_costs;
pub(crate) mod sync;
mod wants;

use self::{
    applies::{Applies, Apply},
    children::{Children, Offer},
    core::{Core, Fault, News, OtherHolder, Timer},
    drain::Drain,
    handover::{SourceInput, TargetInput},
    homes::Homes,
    io::{ChildReport, Effect, EngineConfig, Event, Request, Way},
    leave::Leave,
    local_links::LocalLinks,
    membership::{MemberOutput, Membership},
    parked::{Around, Parked},
    probation::Probation,
    registry::Registry,
    relay::{Detours, Reached},
    rescan::Rescan,
    returns::Returns,
    roll_call::Rolls,
    settle::{Missing, Said, Settle},
    sync::Sync,
};
use crate::model::{
    access::AccessList,
    event::HubEvent,
    id::{ChildId, NodeId, NodeRun, RequestId},
    member::{Member, MemberState, View},
    message::{BulkHeader, HandoverWord, HomeWord, PeerMessage, RollWord, SyncWord},
    observe::ObserveWord,
    parked::{ApplyFailed, ParkedInfo, ParkedKey, ParkedUse, ParkedWord},
    words::brief,
};

/// One node's decisions.
///
/// ```text
/// loop {
///     engine.handle(now, event);
///     while let Some(effect) = engine.next_effect() { perform(effect) }
///     wake_at(engine.deadline());
/// }
/// ```
#[derive(Debug)]
pub struct Engine {
    core: Core,
    /// Whose words count.
    access: AccessList,
    membership: Membership,
    sync: Sync,
    settle: Settle,
    homes: Homes,
    children: Children,
    rolls: Rolls,
    parked: Parked,
    applies: Applies,
    leave: Leave,
    rescan: Rescan,
    returns: Returns,
    drain: Drain,
    probation: Probation,
    reached: Reached,
    detours: Detours,
    /// Somebody may be reached in another way.
    ways_changed: bool,
    /// Who may be told addresses on loopback.
    local_links: LocalLinks,
    /// How many ways were named to who looks at the cluster.
    looks: usize,
    dirty: bool,
}

/// So many members are named as what is waited for.
const MOST_NAMED: usize = 8;
/// On so many ways at a time a member is asked that cannot be asked straight.
const MOST_WAYS: usize = 3;

impl Engine {
    /// An engine that knows nobody but itself.
    #[must_use]
    pub fn new(config: EngineConfig, now: Instant) -> Self {
        let membership = Membership::new(&config, now);
        let detours = Detours::new(config.settings.heartbeat);
        let sync = Sync::new(config.settings.digest, config.seed);
        let room = config.settings.move_bytes.max(config.settings.state_limit) as u64;
        let parked = Parked::new(room, config.settings.forget_after);
        let mut engine = Self {
            access: config.access.clone(),
            core: Core::new(config, now),
            membership,
            sync,
            settle: Settle::default(),
            homes: Homes::default(),
            children: Children::default(),
            rolls: Rolls::default(),
            parked,
            applies: Applies::default(),
            leave: Leave::default(),
            rescan: Rescan::default(),
            returns: Returns::default(),
            drain: Drain::default(),
            probation: Probation::default(),
            reached: Reached::default(),
            detours,
            ways_changed: true,
            looks: 0,
            local_links: LocalLinks::default(),
            dirty: true,
        };
        engine.adopt_view();
        engine.run();
        engine
    }

    /// Takes one event in.
    pub fn handle(&mut self, now: Instant, event: Event) {
        self.core.now = self.core.now.max(now);
        let now = self.core.now;
        self.membership.tick(now);
        self.ways_changed |= self.detours.deadline().is_some_and(|at| at <= now);
        self.timers();
        match event {
            Event::Tick => {}
            // Its link was let in before it was blocked, and is being closed.
            Event::Linked { hello, .. } if !self.access.admits(hello.me.id) => {}
            Event::Linked { hello, local } => {
                let run = hello.me.run();
                self.local_links.linked(run, local);
                self.membership.linked(now, hello);
                // Known before anybody learns that the way has changed: moves look at it.
                if self.membership.is_linked(run.node) {
                    self.core.linked.insert(run);
                }
                self.ways_changed = true;
            }
            Event::Unlinked { run } => {
                self.local_links.unlinked(run);
                self.core.linked.remove(&run);
                self.membership.unlinked(now, run);
                self.sync.unlinked(now, run.node);
                self.ways_changed = true;
            }
            Event::PathLost { to, by } => {
                self.detours.lost(now, to, by);
                self.ways_changed = true;
            }
            Event::Seed { seed, outcome } => self.membership.seed(now, seed, outcome),
            Event::Addresses { addresses } => self.membership.set_addresses(now, addresses),
            Event::Fenced { incarnation } => self.membership.told_fenced(now, incarnation),
            Event::Allowed { node } => drop(self.access.allow(node)),
            Event::Blocked { node } => drop(self.access.block(node)),
            Event::Unreachable { node, refused } => {
                self.membership.unreachable(now, node, refused);
            }
            Event::Peer { from, .. } if !self.access.admits(from.node) => {}
            Event::Peer { from, message } => {
                self.membership.heard(now, from);
                self.word(from, message);
            }
            Event::Bulk { from, header: BulkHeader::Parked { info, purpose }, size } => {
                self.parked_came(from, info, &purpose, size);
            }
            Event::Bulk { from, header, size: _ } => self.bulk(from, &header),
            Event::NoRoom { from, header: BulkHeader::Parked { info, purpose } } => {
                let word = match purpose {
                    ParkedUse::Keep => ParkedWord::NoRoom { key: info.key },
                    ParkedUse::Apply { request, .. } => {
                        let reason = "its node had no room for the state".to_owned();
                        let outcome = Err(ApplyFailed::Failed { reason });
                        ParkedWord::Applied { request, outcome }
                    }
                };
                self.core.send(from.node, PeerMessage::Parked(word));
            }
            Event::Parked { info, size } => {
                self.children.tell_parked(&mut self.core, &info);
                self.children.retired(&mut self.core, &info.key);
                self.parked.parked(&Around::of(&self.core), info, size);
            }
            Event::NotParked { key, reason } => self.parked.not_parked(&key, reason),
            Event::ParkedNotSent { key, to, purpose: ParkedUse::Keep } => {
                self.parked.not_sent(&Around::of(&self.core), &key, to);
            }
            Event::ParkedNotSent { purpose: ParkedUse::Apply { request, .. }, .. } => {
                // Its answer may be what was lost.
                self.applies.no_answer(&mut self.core, request);
            }
            // The state of an owner that gave way is offered again.
            Event::NoRoom { header: BulkHeader::Diverged { .. }, .. } => {}
            Event::NoRoom { from, header: BulkHeader::State { child, epoch, .. } } => {
                if self.core.is_live(from) {
                    let input = TargetInput::NoRoom;
                    self.children.target_input(&mut self.core, &child, epoch, &input);
                }
            }
            Event::BulkFailed { child, epoch, reason } => {
                let input = SourceInput::SendFailed(reason);
                self.children.source_input(&mut self.core, &child, epoch, None, &input);
            }
            Event::Request { id, request } => self.request(id, request),
            Event::Seek { child } => self.homes.seek(&mut self.core, child),
            Event::Child(report) => self.report(report),
            Event::LinksDrained => {
                self.leave.drained(&mut self.core, &mut self.membership);
                self.run();
                self.leave.answer(&mut self.core);
            }
        }
        self.rescan.go_on(&mut self.core, &mut self.children);
        self.run();
        self.dirty = true;
    }

    /// The next thing to be done. What the registry has to tell comes before every other word of
    /// the same batch; an answer whose entry has not left yet waits in [`answers`].
    pub fn next_effect(&mut self) -> Option<Effect> {
        if self.dirty {
            self.dirty = false;
            self.flush();
        }
        while let Some(effect) = self.core.effects.pop_front() {
            let effect = match effect {
                Effect::Send { to, message } => {
                    let me = self.core.me;
                    match relay::send(&mut self.membership, me, to, message) {
                        Some(effect) => effect,
                        None => continue,
                    }
                }
                effect => effect,
            };
            return Some(match effect {
                Effect::Send { to, message } => {
                    Effect::Send { to, message: self.local_links.told(to, message) }
                }
                Effect::Probe { to, message } => {
                    Effect::Probe { to, message: self.local_links.told(to, message) }
                }
                effect => effect,
            });
        }
        None
    }

    /// The members with a link to this node; they may have one to that node, too.
    fn go_betweens(&self, to: NodeId) -> impl Iterator<Item = NodeId> {
        let members = self.core.view.members.values();
        let others =
            members.filter(move |member| member.id != self.core.me.node && member.id != to);
        others
            .filter(|member| member.state != MemberState::Suspect)
            .map(|member| member.id)
            .filter(|id| self.membership.link_works(*id))
    }

    /// The ways on which a member can be asked by who looks at the cluster: its link, if something
    /// comes over it, or some members between; these may have no link to it, so other ones are named
    /// each time.
    pub(crate) fn ways_to(&mut self, to: NodeId) -> Vec<Way> {
        if self.core.view.member(to).is_none() {
            return Vec::new();
        }
        if self.membership.link_works(to) {
            return vec![Way::Straight];
        }
        let between: Vec<NodeId> = self.go_betweens(to).collect();
        let turn = self.looks % between.len().max(1);
        let mut ways: Vec<Way> = between
            .iter()
            .cycle()
            .skip(turn)
            .take(between.len().min(MOST_WAYS))
            .map(|id| Way::By(*id))
            .collect();
        if self.membership.is_linked(to) {
            ways.push(Way::Straight);
        }
        self.looks = self.looks.wrapping_add(MOST_WAYS);
        ways
    }

    /// Says a word of who looks at the cluster to a member.
    pub(crate) fn observe(&mut self, to: NodeRun, way: Way, word: ObserveWord) {
        let message = PeerMessage::Observe(word);
        match way {
            Way::Straight => self.core.send(to.node, message),
            Way::By(node) => {
                // One node between, and the answer comes back by the same one.
                let (from, message) = (self.core.me, Box::new(message));
                self.core.send(node, PeerMessage::Relay { from, to, hops: 1, message });
            }
        }
    }

    /// The hub lets this peer wait, as it says too much: that its words come late is not its fault.
    pub(crate) fn held(&mut self, peer: NodeId) {
        self.membership.held(self.core.now, peer);
    }

    /// When the engine wants to be woken with a [`Event::Tick`] at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let goes_on = self.rescan.is_under_way() || self.core.registry.is_expiring();
        let at_once = goes_on.then_some(self.core.now);
        let own = [self.core.next_timer(), self.detours.deadline(), at_once];
        let others = [self.membership.deadline(), self.sync.deadline(), self.parked.deadline()];
        let deadlines = own.into_iter().chain(others);
        deadlines.into_iter().flatten().min()
    }

    /// Who is in, as this node sees it.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.core.view
    }

    /// Who owns what, as this node knows it.
    #[must_use]
    pub(crate) fn registry(&self) -> &Registry {
        &self.core.registry
    }

    /// This node's run.
    #[must_use]
    pub fn me(&self) -> NodeRun {
        self.core.me
    }

    /// Whether all members have adopted this node's view and their logs are here.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.core.settled
    }

    /// Whether this node has come in and had the registry since it began, or came back.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.core.synced || self.core.settled
    }

    fn timers(&mut self) {
        while let Some(timer) = self.core.due_timer() {
            let core = &mut self.core;
            match timer {
                Timer::Start(child, epoch) => self.children.start_expired(core, &child, epoch),
                Timer::Source(child, epoch) => self.children.source_expired(core, &child, epoch),
                Timer::Target(child, epoch) => {
                    self.children.target_input(core, &child, epoch, &TargetInput::Expired);
                }
                Timer::Query(child, epoch) => self.children.query(core, &child, epoch),
                Timer::Retry(child) => self.children.retry(core, &child),
                Timer::PassedOver(child) => self.children.try_passed_over(core, &child),
                Timer::Restart(child) => self.children.start_again(core, &child),
                Timer::Yield(child, epoch) => self.children.yield_again(core, &child, epoch),
                Timer::Rest(child, epoch) => self.children.rest(core, &child, epoch),
                Timer::Request(id) if self.applies.no_answer(core, id) => {}
                Timer::Request(id) => {
                    let waits_for = self.waits_for();
                    self.homes.expired(&mut self.core, id, waits_for);
                }
                Timer::Order(child, epoch) => self.homes.order_expired(core, &child, epoch),
                Timer::Seek => self.homes.seek_again(core),
                Timer::Leave(id) => {
                    let waits_for = self.waits_for().or_else(|| self.keeps());
                    self.leave.expired(&mut self.core, &self.children, id, waits_for);
                }
                Timer::Drain(id) => {
                    let waits_for = self.waits_for();
                    self.drain.expired(&mut self.core, &self.children, id, waits_for);
                }
                Timer::SayIn => self.settle.say_what_is_owed(core),
                Timer::Settle => {
                    let calls = !self.rolls.is_idle() || !core.promises.are_called();
                    let is_told = self.settle.tick(core, calls);
                    self.rolls.repeat(core);
                    self.returns.tick(core);
                    self.children.call_unmet(core);
                    // A newcomer that hears nothing of all others had better doubt itself.
                    if self.membership.is_proven() {
                        for run in self.settle.overdue(&self.core) {
                            self.membership.is_mute(self.core.now, run);
                        }
                    }
                    if let Some(reason) = self.waits_for().filter(|_| is_told) {
                        tracing::warn!(node = %self.core.me.node, reason, "the cluster is not settled");
                        self.core.emit(HubEvent::Unsettled { reason });
                    }
                }
            }
            self.dirty = true;
        }
        self.run();
    }

    fn word(&mut self, from: NodeRun, message: PeerMessage) {
        self.word_by(Way::Straight, from, message);
    }

    fn word_by(&mut self, way: Way, from: NodeRun, message: PeerMessage) {
        let now = self.core.now;
        match message {
            PeerMessage::Relay { from: origin, to, hops, message } => {
                let about_members = matches!(*message, PeerMessage::Member(_));
                // Members alone speak for others; but words about members also go by, and to,
                // nodes that want to come in.
                let may_speak = about_members || self.core.is_live(from);
                if matches!(*message, PeerMessage::Relay { .. })
                    || origin == self.core.me
                    || !self.access.admits(origin.node)
                    || !may_speak
                {
                } else if to == self.core.me {
                    self.word_by(Way::By(from.node), origin, *message);
                } else if let Some(effect) =
                    relay::pass_on(&mut self.membership, from.node, origin, to, hops, message)
                {
                    self.core.effects.push_back(effect);
                }
                return;
            }
            PeerMessage::Member(word) => {
                self.membership.handle(now, from, way == Way::Straight, word);
                return;
            }
            _ => {}
        }
        // Whatever else is said counts only from who is in.
        if !self.core.is_live(from) {
            return;
        }
        if !self.membership.is_proven() && Probation::concerns(&message) {
            self.probation.hold(from, message);
            return;
        }
        let core = &mut self.core;
        match message {
            PeerMessage::Sync(SyncWord::In {
                view,
                adopted,
                echo,
                version,
                wanted,
                kinds,
                gone,
                away,
                asked,
            }) => {
                core.learn_kinds(from, kinds);
                self.returns.said(core, from, away, asked);
                self.settle.heard_of_gone(from, gone);
                self.settle.heard(core, from, Said { view, adopted, echo, version }, wanted);
                if self.settle.is_in(core, from) {
                    core.touched.extend(core.registry.correct(from, version));
                }
                self.sync.expect(now, from, version, &core.registry);
                self.ask_for_gone(from);
                let core = &self.core;
                if core.registry.watermark(from) >= version {
                    self.membership.is_not_mute(from);
                }
            }
            PeerMessage::Sync(SyncWord::Doubt { batch, children }) => {
                Returns::doubted(core, from, batch, &children);
            }
            PeerMessage::Sync(SyncWord::Recalled { batch, recalls }) => {
                self.returns.recalled(core, from, batch, &recalls);
            }
            PeerMessage::Sync(word) => {
                let changed = self.sync.handle(now, from, word, &core.view, &mut core.registry);
                core.touched.extend(changed);
                for (log, entries) in core.registry.take_refused() {
                    core.fault(log.node, Fault::Epoch, || {
                        format!("{entries} entries of its log cannot be true and are skipped")
                    });
                }
            }
            PeerMessage::Home(HomeWord::Run { spec, epoch, origin }) => {
                if core.home(spec.id()) == Some(from.node)
                    && core.is_possible(from.node, spec.id(), epoch)
                {
                    self.children.run(core, from.node, spec, epoch, origin);
                }
            }
            PeerMessage::Home(HomeWord::Halt { child, epoch }) => {
                if core.home(&child) == Some(from.node)
                    && core.is_possible(from.node, &child, epoch)
                {
                    self.children.halt(core, from.node, &child, epoch);
                }
            }
            PeerMessage::Home(HomeWord::Migrate { request, child, to, forced, .. }) => {
                self.children.migrate(core, &child, to, forced, (from.node, request));
            }
            PeerMessage::Home(word) => self.homes.handle(core, from, word),
            PeerMessage::Handover(word) => self.handover(from, word),
            PeerMessage::Roll(RollWord::Call { roll, claims }) => {
                self.children.called(core, from, roll, claims);
            }
            PeerMessage::Roll(RollWord::Answer { roll, holds }) => {
                self.rolls.answered(core, from, roll, holds);
            }
            PeerMessage::Roll(RollWord::Take { ownership, from: copy }) => {
                let home = core.home(ownership.spec.id());
                if home == Some(from.node)
                    && core.is_possible(from.node, ownership.spec.id(), ownership.epoch)
                {
                    self.children.take(core, from, ownership, copy);
                }
            }
            PeerMessage::Roll(RollWord::Again { child, term }) => {
                self.rolls.again(core, from, child, term);
            }
            PeerMessage::Parked(ParkedWord::Applied { request, outcome }) => {
                self.applies.answered(core, from, request, outcome);
            }
            PeerMessage::Parked(word) => self.parked.word(&Around::of(core), from, word),
            // Whoever looks at the cluster is answered by the hub.
            PeerMessage::Observe(word) => {
                core.effects.push_back(Effect::Observed { from, way, word });
            }
            PeerMessage::Member(_) | PeerMessage::Relay { .. } => {}
        }
    }

    fn handover(&mut self, from: NodeRun, word: HandoverWord) {
        let core = &mut self.core;
        let run = Some(from);
        match word {
            HandoverWord::Offer { ownership, state, state_version, with_state, view } => {
                let offer = Offer { ownership, state, state_version, with_state, view };
                self.children.offered(core, from, offer);
            }
            HandoverWord::Accept { child, epoch } => {
                self.children.source_input(core, &child, epoch, run, &SourceInput::Accepted);
            }
            HandoverWord::Refuse { child, epoch, reason } => {
                let input = SourceInput::Refused(reason);
                self.children.source_input(core, &child, epoch, run, &input);
            }
            HandoverWord::Ready { child, epoch } => {
                self.children.source_input(core, &child, epoch, run, &SourceInput::Ready);
            }
            HandoverWord::Failed { child, epoch, reason, gone, lasts } => {
                let input = SourceInput::Failed { reason, gone, lasts };
                self.children.source_input(core, &child, epoch, run, &input);
            }
            HandoverWord::Query { child, epoch } => {
                self.children.queried(core, from, child, epoch);
            }
            HandoverWord::Taken { child, epoch } => {
                self.children.yielded(core, from, &child, epoch);
            }
            HandoverWord::Parks { child, epoch, reason, at } => {
                let key = ParkedKey { child, run: core.me, epoch };
                self.parks_own(from, key, reason, at);
            }
        }
    }

    /// A state that this node offers is parked: it parks it, too, so that its actor can end.
    fn parks_own(&mut self, from: NodeRun, key: ParkedKey, reason: String, at: u64) {
        let core = &mut self.core;
        let Some(kind) = self.children.offers(core, &key).cloned() else { return };
        if !self.parked.says(from.node, &key) {
            self.parked.awaits(&Around::of(core), key.clone(), OtherHolder::Parks);
            let reason = brief(reason);
            core.order(io::ChildOrder::ParkFrozen { key, kind, reason, at: Some(at) });
        }
    }

    fn bulk(&mut self, from: NodeRun, header: &BulkHeader) {
        let core = &mut self.core;
        match header {
            BulkHeader::State { child, epoch, .. } => {
                let awaited = core.is_live(from)
                    && self.children.target_input(core, child, *epoch, &TargetInput::State);
                if !awaited {
                    core.order(io::ChildOrder::Discard { child: child.clone(), epoch: *epoch });
                }
            }
            BulkHeader::Diverged { child, epoch, life, .. } => {
                self.children.diverged(core, from, child, *epoch, *life);
                let key = ParkedKey { child: child.clone(), run: from, epoch: *epoch };
                if let Some(info) = self.parked.info(&key) {
                    // It offers it still: the word of it may be lost.
                    self.children.tell_parked(core, info);
                }
            }
            // Told apart by whoever calls.
            BulkHeader::Parked { .. } => {}
        }
    }

    /// A parked state arrived.
    fn parked_came(&mut self, from: NodeRun, info: ParkedInfo, purpose: &ParkedUse, size: u64) {
        let core = &mut self.core;
        match purpose {
            ParkedUse::Keep if core.is_live(from) => {
                self.parked.arrived(&Around::of(core), from, info, size);
            }
            ParkedUse::Apply { request, replace, wait } if core.is_live(from) => {
                let apply = Apply { request: *request, replace: *replace, wait: *wait };
                let (parked, children) = (&self.parked, &mut self.children);
                self.applies.came(core, parked, children, from, &info, apply);
            }
            _ => {
                let order = io::ParkedOrder::Refuse { key: info.key, from };
                core.effects.push_back(Effect::Parked(order));
            }
        }
    }

    /// Carries out what the machine of parked states wants.
    fn look_at_parked(&mut self) {
        self.parked.go_on(&Around::of(&self.core));
        let core = &mut self.core;
        while let Some(output) = self.parked.next_output() {
            match output {
                parked::Output::Send { to, word } => core.send(to, PeerMessage::Parked(word)),
                parked::Output::Order(order) => core.effects.push_back(Effect::Parked(order)),
                parked::Output::Emit(event) => core.emit(event),
                parked::Output::Safe(key) => self.children.parked(core, &key),
                parked::Output::Missing(key) => self.children.not_parked(&key),
                parked::Output::TooMany { node } => core.fault(node, Fault::Quota, || {
                    format!("it says that it holds more than {} parked states", parked::MOST_PARKED)
                }),
            }
        }
    }

    /// What this node alone keeps, so that it does not leave.
    fn keeps(&self) -> Option<String> {
        match self.parked.at_risk(&Around::of(&self.core)) {
            0 => None,
            1 => Some("has a parked state on this node alone".to_owned()),
            states => Some(format!("has {states} parked states on this node alone")),
        }
    }

    fn report(&mut self, report: ChildReport) {
        let core = &mut self.core;
        match report {
            ChildReport::Started { child, epoch, outcome } => {
                self.children.started(core, &child, epoch, outcome);
            }
            ChildReport::Frozen { child, epoch, outcome } => {
                let input = SourceInput::Frozen(outcome);
                self.children.source_input(core, &child, epoch, None, &input);
            }
            ChildReport::Tried { child, epoch, outcome } => {
                self.children.tried(core, &child, epoch, &outcome);
                self.children.rested(core, &child, epoch, &outcome);
            }
            ChildReport::Built { child, epoch, outcome } => {
                self.children.target_input(core, &child, epoch, &TargetInput::Built(outcome));
            }
            ChildReport::Opened { child, epoch, outcome } => {
                self.children.opened(core, &child, epoch, outcome);
            }
            ChildReport::Stopped { child, .. } => self.children.stopped(core, &child),
            ChildReport::Exited { child, epoch, exit } => {
                self.children.exited(core, &child, epoch, &exit);
            }
            ChildReport::Merged { child, epoch, outcome } => {
                self.children.merged(core, &child, epoch, outcome);
            }
            ChildReport::Applied { key, outcome } => {
                let asker = self.applies.applied(core, &mut self.parked, &key, &outcome);
                self.look_at_parked();
                if let Some((asker, request)) = asker {
                    self.applies.answer(&mut self.core, asker, request, outcome);
                }
            }
        }
    }

    fn request(&mut self, id: RequestId, request: Request) {
        let core = &mut self.core;
        match request {
            Request::Leave { timeout } => {
                let (members, children) = (&mut self.membership, &mut self.children);
                self.leave.request(id, timeout, core, members, children);
            }
            Request::Stay => self.leave.stay(id, core, &mut self.membership),
            Request::Drain { timeout } => {
                let (members, children) = (&mut self.membership, &mut self.children);
                self.drain.request(id, timeout, core, members, children);
            }
            Request::Undrain => self.drain.undo(id, core, &mut self.membership),
            Request::ApplyParked { key, replace, timeout } => {
                let apply = Apply { request: id, replace, wait: timeout };
                let (parked, children) = (&self.parked, &mut self.children);
                self.applies.request(core, parked, children, &key, apply);
            }
            Request::DiscardParked { key } => {
                let is_held = self.parked.discard(&Around::of(core), &key);
                let elsewhere = || self.parked.holders(&key).next();
                let outcome = if is_held { Ok(()) } else { Err(elsewhere()) };
                let reply = io::Reply::Discarded(outcome);
                core.effects.push_back(Effect::Reply { request: id, reply });
            }
            request => self.homes.request(core, id, request),
        }
    }

    /// What keeps this node from acting, if it may not act.
    pub(crate) fn waits_for(&self) -> Option<String> {
        if self.membership.is_waiting() {
            let seeds: Vec<String> = self
                .membership
                .seeds()
                .map(|(seed, outcome)| format!("{seed} ({outcome})"))
                .collect();
            return Some(format!("waits to be taken into a cluster by {}", seeds.join(", ")));
        }
        if self.core.settled {
            return None;
        }
        let name = |node: NodeId| match self.core.view.member(node) {
            Some(member) => member.name.to_string(),
            None => node.short(),
        };
        let missing = self.settle.missing(&self.core).into_iter().map(|missing| match missing {
            Missing::In(node) => {
                let deaf: Vec<String> = self.membership.deaf_to(node).map(name).collect();
                match &deaf[..] {
                    [] => format!("{}, which has not adopted the view", name(node)),
                    deaf => format!("{}, which {} cannot hear", name(node), deaf.join(" and ")),
                }
            }
            Missing::Log(node) => format!("the registry of {}", name(node)),
            Missing::Gone(node) => {
                format!("what {} knows of children of nodes that are gone", name(node))
            }
        });
        let missing: Vec<String> = missing.take(MOST_NAMED).collect();
        let back =
            self.returns.awaited(&self.core).into_iter().map(|run| match run == self.core.me {
                true => "asks which of its children were stopped while it was away".to_owned(),
                false => format!(
                    "waits for {}, which asks what was stopped while it was away",
                    name(run.node)
                ),
            });
        if let Some(back) = back.take(1).next().filter(|_| missing.is_empty()) {
            return Some(back);
        }
        Some(match missing.len() {
            0 => "this side of a split may not act".to_owned(),
            _ => format!("waits for {}", missing.join(", ")),
        })
    }

    /// Lets the machines talk to each other until nobody has anything to say.
    fn run(&mut self) {
        loop {
            if let Some(output) = self.membership.next_output() {
                self.member_output(output);
            } else if let Some(message) = self.core.loopback.pop_front() {
                self.word(self.core.me, message);
            } else if let Some(child) = self.core.touched.pop_first() {
                self.look(&child);
            } else if let Some(news) = self.core.news.pop_front() {
                self.tell(news);
            } else if std::mem::take(&mut self.ways_changed) {
                self.look_at_ways();
            } else if self.settles() {
                self.settled();
            } else if let Some((from, message)) = self.proven_order() {
                self.word(from, message);
            } else {
                break;
            }
        }
        self.look_at_parked();
        self.drain.go_on(&mut self.core, &self.children);
        self.leave.go_on(&mut self.core, &self.children, &self.parked);
    }

    fn proven_order(&mut self) -> Option<(NodeRun, PeerMessage)> {
        if self.membership.is_proven() { self.probation.release() } else { None }
    }

    /// Who is reached in another way than before is told again what may have been lost.
    fn look_at_ways(&mut self) {
        let (core, members) = (&mut self.core, &mut self.membership);
        let (me, now) = (core.me, core.now);
        let changed = self.reached.look(members, &core.view, me.node);
        for (to, by) in self.detours.look(now, members, &core.view, me.node) {
            core.effects.push_back(Effect::Path { to, by });
        }
        let now_reachable = self.detours.runs().chain(self.reached.linked()).collect();
        let before = std::mem::replace(&mut core.reachable, now_reachable);
        // States may find a way again while words have gone the same way all along.
        let again: Vec<NodeRun> = core.reachable.difference(&before).copied().collect();
        for run in again.into_iter().filter(|run| !changed.iter().any(|(other, _)| other == run)) {
            self.children.reached(core, run);
            self.parked.reached(run);
        }
        for (run, way) in changed {
            self.children.link_lost(core, run);
            if way.is_some() {
                self.sync.reached(now, run.node, &core.registry);
                self.settle.reached(core, run);
                self.homes.reached(core, run);
                self.children.reached(core, run);
                self.parked.reached(run);
            }
        }
    }

    fn settles(&mut self) -> bool {
        let lacks_nothing = !self.core.settled
            && !self.membership.is_waiting()
            && self.core.config.partition.may_act(&self.core.view)
            && self.settle.is_complete(&self.core);
        if !lacks_nothing {
            return false;
        }
        let waited = self.settle.waited(&self.core);
        let settles = self.returns.look(&mut self.core, &mut self.children, waited);
        if self.returns.take_news() {
            self.settle.say_again(&mut self.core);
        }
        settles
    }

    fn member_output(&mut self, output: MemberOutput) {
        match output {
            MemberOutput::Send { to, word } => {
                self.core
                    .effects
                    .push_back(Effect::Send { to, message: PeerMessage::Member(word) });
            }
            MemberOutput::Probe { to, word } => {
                let message = PeerMessage::Member(word);
                self.core.effects.push_back(Effect::Probe { to, message });
            }
            MemberOutput::Greet { to, word } => {
                let message = PeerMessage::Member(word);
                let me = self.core.me;
                let effect = match self.core.linked.contains(&to) {
                    true => Some(Effect::Send { to: to.node, message }),
                    false => relay::greet(&mut self.membership, me, to, message),
                };
                self.core.effects.extend(effect);
            }
            MemberOutput::Connect { node, addresses } => {
                self.core.effects.push_back(Effect::Connect { node, addresses });
            }
            MemberOutput::Silent { node, addresses } => {
                self.core.effects.push_back(Effect::Silent { node, addresses });
            }
            MemberOutput::Disconnect { node, reason } => {
                self.core.effects.push_back(Effect::Disconnect { node, reason });
            }
            MemberOutput::Announce { me, known, fenced } => {
                self.core.effects.push_back(Effect::Announce { me, known, fenced });
            }
            MemberOutput::Event(event) => self.core.emit(event),
            MemberOutput::Gone { run, left } => {
                if left {
                    self.core.registry.gone(run.node);
                }
                self.core.forgive(run.node);
                self.core.effects.push_back(Effect::Gone { run, left });
            }
            MemberOutput::ViewChanged | MemberOutput::Regarded => self.adopt_view(),
            MemberOutput::Reached => self.ways_changed = true,
            // The log goes on under the same run, and membership tells the event.
            MemberOutput::Renewed => self.core.synced = false,
            MemberOutput::Gates { valid } => {
                self.core.effects.push_back(Effect::Gates { valid });
            }
        }
    }

    fn adopt_view(&mut self) {
        self.ways_changed = true;
        let view = self.membership.view().clone();
        if view.id() == self.core.view_id {
            self.core.adopt(view);
            // Somebody may be heard again.
            self.parked.viewed(&Around::of(&self.core));
            return;
        }
        if self.membership.is_waiting() {
            self.probation.clear();
        }
        let before = std::mem::take(&mut self.core.view);
        self.core.adopt(view);
        self.core.settled = false;
        self.core.see_returns(&before);
        self.returns.viewed(&self.core);
        // Alone it had settled on its own registry; those it joins have been there for longer.
        let began = |view: &View| view.member(self.core.me.node).map(|me| me.incarnation.started);
        let joins = before.members.len() <= 1
            && self
                .core
                .view
                .members
                .values()
                .any(|member| Some(member.incarnation.started) < began(&self.core.view));
        if joins {
            self.core.synced = false;
        }
        self.rolls.reset();
        let changed: BTreeSet<NodeId> = before
            .members
            .values()
            .chain(self.core.view.members.values())
            .filter(|member| {
                let same = |m: &crate::model::member::Member| {
                    m.run() == member.run()
                        && m.state == member.state
                        && m.draining == member.draining
                };
                !before.member(member.id).is_some_and(same)
                    || !self.core.view.member(member.id).is_some_and(same)
            })
            .map(|member| member.id)
            .collect();
        for node in changed {
            self.children.peer_changed(&mut self.core, node);
        }
        self.parked.viewed(&Around::of(&self.core));
        self.applies.viewed(&mut self.core);
        self.homes.reset(&mut self.core);
        self.settle.adopted(&mut self.core, self.membership.patience());
        let members: Vec<NodeRun> = self.core.view.members.values().map(Member::run).collect();
        for run in members {
            self.ask_for_gone(run);
        }
    }

    /// Asks a member for what it has of the logs of those who are gone.
    fn ask_for_gone(&mut self, member: NodeRun) {
        if !self.core.settled {
            for mark in self.settle.lacking(&self.core, member) {
                self.sync.lacks(self.core.now, member.node, mark);
            }
        }
    }

    fn settled(&mut self) {
        self.core.settled = true;
        self.core.synced = true;
        self.core.registry.away.settled();
        self.membership.settled(self.core.now);
        for run in self.core.view.members.values().map(Member::run) {
            self.membership.is_not_mute(run);
        }
        self.parked.settled(&Around::of(&self.core));
        self.homes.serve(&mut self.core);
        self.rolls.scan(&self.core);
        self.core.settle_promises();
        self.children.call_unmet(&mut self.core);
        self.core.touched.extend(self.children.successors().cloned());
        self.rescan.begin(&mut self.children);
        self.rescan.go_on(&mut self.core, &mut self.children);
    }

    /// Looks at one child after what is known of it changed.
    fn look(&mut self, child: &ChildId) {
        self.core.reroute(child);
        self.core.look_at_promise(child);
        self.children.look(&mut self.core, child);
        self.homes.look(&mut self.core, child);
        if self.core.settled {
            self.rolls.look(&self.core, child);
            self.children.enqueue(&self.core, child);
        }
    }

    fn tell(&mut self, news: News) {
        match news {
            News::Look { child } => self.look(&child),
            News::Parks { key, other } => {
                self.parked.awaits(&Around::of(&self.core), key, other);
            }
            News::Merged { key } => self.parked.merged(&Around::of(&self.core), &key),
            News::TakenBack { key } => self.parked.taken_back(&Around::of(&self.core), &key),
            news => self.homes.news(&mut self.core, news),
        }
    }

    /// Sends what was collected while a batch of events was handled.
    fn flush(&mut self) {
        let mut words = Vec::new();
        loop {
            self.rolls.call(&mut self.core);
            if !self.rolls.is_idle() || !self.core.promises.are_called() {
                self.settle.keep_ticking(&mut self.core);
            }
            self.children.pump(&mut self.core);
            self.run();
            let now = self.core.now;
            let core = &mut self.core;
            core.registry.expire(now, &core.known, core.config.settings.forget_after);
            self.sync.tick(now, &core.others, &core.registry);
            self.sync.publish(now, &core.others, &core.registry);
            while let Some((to, word)) = self.sync.next_output() {
                words.push(Effect::Send { to, message: PeerMessage::Sync(word) });
            }
            self.release_answers();
            // What this node has told itself may lead to more.
            if self.core.loopback.is_empty() {
                break;
            }
        }
        for word in words.into_iter().rev() {
            self.core.effects.push_front(word);
        }
    }

    /// Sends the answers whose entries are safe by now.
    fn release_answers(&mut self) {
        let core = &mut self.core;
        let mut answers = std::mem::take(&mut core.answers);
        let (me, sync) = (core.me, &self.sync);
        let released = answers.release(core.now, me, |to| core.safe(to, sync.sent(to.node, me)));
        core.answers = answers;
        for (to, word) in released {
            core.send(to, PeerMessage::Home(word));
        }
    }
}
