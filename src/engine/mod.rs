//! The cluster's decisions, sans-io: events in, effects out, one deadline to wake for.
//!
//! [`Engine`] only routes: it has the machines, and hands each event to those that it is for; what is for
//! several of them goes by `routes`. Which machine decides what: the first table of ARCHITECTURE.md.

use std::time::Instant;

mod answers;
mod applies;
mod away;
mod backoff;
#[cfg(test)]
pub(crate) mod chance;
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
mod met;
mod outcomes;
mod parked;
mod parking;
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
mod routes;
mod settle;
#[cfg(test)]
mod sim;
#[cfg(feature = "bench-internals")]
pub mod step_costs;
mod subscriptions;
pub(crate) mod sync;
#[cfg(test)]
mod tests;
mod topics;
mod waits_for;
mod wants;
mod watches;
mod ways;

use self::{
    applies::Applies,
    children::Children,
    core::Core,
    drain::Drain,
    homes::Homes,
    io::{Effect, EngineConfig, Event},
    leave::Leave,
    membership::Membership,
    met::MetRuns,
    parked::Parked,
    probation::Probation,
    rescan::Rescan,
    returns::Returns,
    roll_call::Rolls,
    routes::{
        Deadlines, Links, Listeners, Outgoing, Reports, Requests, ToldAgain, Transfers, Views,
        Words,
    },
    settle::Settle,
    sync::Sync,
    topics::Topics,
    watches::Watches,
    ways::Ways,
};
use crate::model::{access::AccessList, id::NodeId};

/// The machines of an engine that somebody is lent, by name.
macro_rules! lend {
    ($engine:ident, $to:ident, $($machine:ident),+) => {
        $to { $($machine: &mut $engine.$machine),+ }
    };
}

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
    ways: Ways,
    met: MetRuns,
    sync: Sync,
    settle: Settle,
    probation: Probation,
    homes: Homes,
    children: Children,
    rescan: Rescan,
    returns: Returns,
    rolls: Rolls,
    parked: Parked,
    applies: Applies,
    topics: Topics,
    watches: Watches,
    leave: Leave,
    drain: Drain,
    /// Events were taken in since the effects of all before were collected.
    dirty: bool,
}

impl Engine {
    /// An engine that knows nobody but itself.
    #[must_use]
    pub fn new(config: EngineConfig, now: Instant) -> Self {
        let settings = &config.settings;
        let room = settings.move_bytes.max(settings.state_limit) as u64;
        let mut engine = Self {
            access: config.access.clone(),
            membership: Membership::new(&config, now),
            ways: Ways::new(settings.heartbeat),
            met: MetRuns::default(),
            sync: Sync::new(settings.digest, config.seed),
            settle: Settle::default(),
            probation: Probation::default(),
            homes: Homes::default(),
            children: Children::default(),
            rescan: Rescan::default(),
            returns: Returns::default(),
            rolls: Rolls::default(),
            parked: Parked::new(room, settings.forget_after),
            applies: Applies::default(),
            topics: Topics::new(settings.digest),
            watches: Watches::default(),
            leave: Leave::default(),
            drain: Drain::default(),
            core: Core::new(config, now),
            dirty: true,
        };
        engine.views().adopt();
        engine.run();
        engine
    }

    /// Takes one event in.
    pub fn handle(&mut self, now: Instant, event: Event) {
        self.core.now = self.core.now.max(now);
        let now = self.core.now;
        self.membership.tick(now);
        self.ways.tick(now);
        self.dirty |= self.deadlines().pass();
        self.run();
        self.route(now, event);
        self.rescan.go_on(&mut self.core, &mut self.children, &mut self.rolls);
        self.run();
        self.dirty = true;
    }

    fn route(&mut self, now: Instant, event: Event) {
        match event {
            Event::Tick => {}
            Event::Linked { hello, local } => self.links().stands(hello, local),
            Event::Unlinked { run } => self.links().gone(run),
            Event::PathLost { to, by } => self.ways.path_lost(now, to, by),
            Event::Seed { seed, outcome } => self.membership.seed(now, seed, outcome),
            Event::Addresses { addresses } => self.membership.set_addresses(now, addresses),
            Event::Fenced { incarnation } => self.membership.told_fenced(now, incarnation),
            Event::Allowed { node } => drop(self.access.allow(node)),
            Event::Blocked { node } => drop(self.access.block(node)),
            Event::Unreachable { node, refused } => self.membership.unreachable(now, node, refused),
            Event::Peer { from, .. } if !self.access.admits(from.node) => {}
            Event::Peer { from, message } => {
                self.membership.heard(now, from);
                self.words().hear(from, message);
            }
            Event::Bulk { from, header, size } => self.transfers().arrived(from, header, size),
            Event::NoRoom { from, header } => self.transfers().no_room(from, header),
            Event::BulkFailed { child, epoch, reason } => {
                self.transfers().not_sent(&child, epoch, reason);
            }
            Event::Parked { info, size } => self.transfers().parked(info, size),
            Event::NotParked { key, reason } => self.transfers().not_parked(&key, reason),
            Event::ParkedNotSent { key, to, purpose } => {
                self.transfers().parked_not_sent(&key, to, &purpose);
            }
            Event::Request { id, request } => self.requests().take(id, request),
            Event::Locate { child, start } => self.homes.locate(&mut self.core, child, start),
            Event::Topics { version, changes } => self.topics.change(version, changes),
            Event::Watch { child, id } => {
                self.watches.watch(&mut self.core, &mut self.homes, child, id);
            }
            Event::Child(report) => self.reports().take(report),
            Event::LinksDrained => {
                self.leave.drained(&mut self.core, &mut self.membership);
                self.run();
                self.leave.answer(&mut self.core);
            }
        }
    }

    /// The next thing to be done. What the registry has to tell comes before every other word of
    /// the same batch; an answer whose entry has not left yet waits in [`answers`].
    pub fn next_effect(&mut self) -> Option<Effect> {
        if std::mem::take(&mut self.dirty) {
            self.flush();
        }
        while let Some(effect) = self.core.effects.pop_front() {
            let outward =
                self.ways.outward(self.core.now, &mut self.membership, self.core.me, effect);
            if outward.is_some() {
                return outward;
            }
        }
        None
    }

    /// The hub lets this peer wait, as it says too much: that its words come late is not its fault.
    pub(crate) fn held(&mut self, peer: NodeId) {
        self.membership.held(self.core.now, peer);
    }

    /// Messages of this node have gone to these members since this was said before.
    pub(crate) fn in_use(&mut self, now: Instant, members: impl IntoIterator<Item = NodeId>) {
        self.membership.in_use(self.core.now.max(now), members);
    }

    /// When the engine wants to be woken with a [`Event::Tick`] at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let goes_on = self.rescan.is_under_way() || self.core.registry.is_expiring();
        let at_once = goes_on.then_some(self.core.now);
        let own = [self.core.next_timer(), self.ways.deadline(), self.sync.deadline(), at_once];
        let others = [self.membership.deadline(), self.parked.deadline(), self.topics.deadline()];
        own.into_iter().chain(others).flatten().min()
    }

    /// Lets the machines talk to each other until nobody has anything to say.
    fn run(&mut self) {
        loop {
            if let Some(output) = self.membership.next_output() {
                self.views().carry_out(output);
            } else if let Some(message) = self.core.loopback.pop_front() {
                let me = self.core.me;
                self.words().hear(me, message);
            } else if let Some(child) = self.core.touched.pop_first() {
                self.listeners().child_changed(&child);
            } else if let Some(news) = self.core.news.pop_front() {
                self.listeners().tell(news);
            } else if self.ways.is_to_be_looked_at() {
                self.told_again().refresh();
            } else if self.views().may_settle() {
                self.views().settled();
            } else if let Some((from, message)) = self.probation.next(self.membership.is_proven()) {
                self.words().hear(from, message);
            } else {
                break;
            }
        }
        parking::go_on(&mut self.core, &mut self.parked, &mut self.children);
        subscriptions::go_on(&mut self.core, &mut self.topics);
        self.drain.go_on(&mut self.core, &self.children);
        self.leave.go_on(&mut self.core, &self.children, &self.parked);
    }

    /// Sends what was collected while a batch of events was handled.
    fn flush(&mut self) {
        let mut words = Vec::new();
        loop {
            self.outgoing().call_rolls();
            self.children.pump(&mut self.core);
            self.run();
            self.outgoing().tell_logs(&mut words);
            // What this node has told itself may lead to more.
            if self.core.loopback.is_empty() {
                break;
            }
        }
        self.core.put_first(words);
    }
}

/// Who needs several machines is lent them by name.
impl Engine {
    fn links(&mut self) -> Links<'_> {
        lend!(self, Links, core, access, membership, ways, met, sync)
    }

    fn outgoing(&mut self) -> Outgoing<'_> {
        lend!(self, Outgoing, core, rolls, settle, sync)
    }

    fn words(&mut self) -> Words<'_> {
        lend!(
            self, Words, core, access, membership, probation, sync, settle, returns, homes,
            children, rolls, parked, applies, topics
        )
    }

    fn views(&mut self) -> Views<'_> {
        lend!(
            self, Views, core, membership, probation, ways, met, sync, settle, returns, homes,
            children, rolls, parked, applies, topics, watches, rescan
        )
    }

    fn told_again(&mut self) -> ToldAgain<'_> {
        lend!(
            self, ToldAgain, core, membership, ways, sync, settle, homes, children, parked, topics
        )
    }

    fn listeners(&mut self) -> Listeners<'_> {
        lend!(self, Listeners, core, homes, children, rolls, parked, watches)
    }

    fn transfers(&mut self) -> Transfers<'_> {
        lend!(self, Transfers, core, children, parked, applies)
    }

    fn reports(&mut self) -> Reports<'_> {
        lend!(self, Reports, core, children, parked, applies)
    }

    fn requests(&mut self) -> Requests<'_> {
        lend!(self, Requests, core, membership, homes, children, parked, applies, leave, drain)
    }

    fn deadlines(&mut self) -> Deadlines<'_> {
        lend!(
            self, Deadlines, core, membership, sync, settle, returns, homes, children, rolls,
            parked, applies, leave, drain
        )
    }
}
