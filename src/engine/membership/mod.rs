//! Who is in the cluster, at which incarnation: joining, suspicion, verdicts, leaving, pauses.
//!
//! Full mesh, in the spirit of SWIM (Das, Gupta, Motivala 2002) with Lifeguard's care for one's own
//! slowness (Dadgar, Phillips, Currey 2018). Each node judges by the links it has itself. What others
//! say of a third node is a hint to dial or to ask, never an admission and never a verdict; only
//! one's own vote binds. So what an isolated node concluded stays with it when it comes back.

mod ballot;
mod fences;
mod hearsay;
mod joining;
mod pause;
mod peer;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use self::{
    ballot::{Deferred, Vote},
    fences::Fences,
    pause::Check,
    peer::{Link, Peer},
};
use super::io::EngineConfig;
use crate::model::{
    child::Epoch,
    event::HubEvent,
    id::{Incarnation, NodeId, NodeRun},
    member::{Hello, Member, MemberState, View, ViewId},
    message::MemberWord,
    settings::Settings,
};

/// At most this many members travel in one word or Hello; as many nodes at most are dialled that
/// are no members.
const MEMBERS_LIMIT: usize = 1_024;
/// At most this many addresses are kept for a node, each of at most [`ADDRESS_LIMIT`] bytes.
const ADDRESSES_LIMIT: usize = 16;
const ADDRESS_LIMIT: usize = 256;
/// For how many suspicion windows a node that somebody named is dialled before it is forgotten; it
/// is dialled again when it is named again.
const HINT_WINDOWS: u32 = 10;

/// What the membership wants done, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberOutput {
    /// Say this. `to` is a member or was one a moment ago, linked or not: without a link
    /// `Members`, `Leaving`, `Bye` and `Down` are worth relaying, the others must be dropped.
    Send {
        /// The node.
        to: NodeId,
        /// The word.
        word: MemberWord,
    },
    /// Keep a link to this node: dial it, with backoff, whenever there is none.
    Connect {
        /// The node.
        node: NodeId,
        /// Where it may be; replaces what was said before.
        addresses: Vec<String>,
    },
    /// Close the link to this node and dial it no more. A `Connect` may follow at once.
    /// No word comes over the link to this node, though others hear it: close it and dial again,
    /// unless anything has come over it since this was said before.
    Silent {
        /// The node.
        node: NodeId,
        /// Where it may be.
        addresses: Vec<String>,
    },
    /// Have no link to this node; close the one there is.
    Disconnect {
        /// The node.
        node: NodeId,
        /// Why, for the log.
        reason: String,
    },
    /// Hellos tell this from now on. Comes before everything else that one call gives.
    Announce {
        /// This node.
        me: Member,
        /// The other members.
        known: Vec<Member>,
        /// Lives that are over.
        fenced: Vec<(NodeId, Incarnation)>,
    },
    /// Tell whoever listens.
    Event(HubEvent),
    /// [`Membership::view`] has another [`View::id`], or [`Membership::settled_enough`] became
    /// true. Comes after everything else that one call gives.
    ViewChanged,
    /// This run is out.
    Gone {
        /// The run.
        run: NodeRun,
        /// Whether it said `Bye`; otherwise it went down.
        left: bool,
    },
    /// [`Membership::incarnation`] rose and the run is the same: what this node owns has to be
    /// published again. The peers are told, no link need be closed.
    Renewed,
    /// Whether gates may start handlers and let replies out.
    Gates {
        /// Whether they may.
        valid: bool,
    },
}

/// The members of the cluster as this node sees them, and what it takes to see them rightly.
///
/// Each call that takes `now` may leave outputs; drain [`next_output`](Self::next_output) after it.
#[derive(Clone, Debug)]
pub struct Membership {
    me: NodeId,
    heartbeat: Duration,
    window: Duration,
    forget_after: Duration,
    /// With seeds: when this node acts alone if none answers.
    alone_at: Option<Instant>,
    settled: bool,
    linked_once: bool,
    ended: bool,
    view: View,
    /// One for each member of the view but this node; after `bye` those there were.
    peers: BTreeMap<NodeId, Peer>,
    fences: Fences,
    /// Nodes that somebody named and that are dialled.
    hints: BTreeMap<NodeId, Dialled>,
    /// Nodes that went down and are dialled, so that a split heals whoever comes back first.
    lost: BTreeMap<NodeId, Dialled>,
    votes: BTreeMap<NodeId, Vote>,
    deferred: BTreeMap<(NodeId, NodeId), Deferred>,
    ballots: u64,
    check: Option<Check>,
    /// When this node began.
    began: Instant,
    /// The latest `now`.
    now: Instant,
    heartbeat_at: Instant,
    heartbeat_sent: Instant,
    out: VecDeque<MemberOutput>,
    /// Where the outputs of the current call begin.
    mark: usize,
    announce_due: bool,
    /// Something that [`View::id`] depends on may have changed in the current call.
    view_touched: bool,
    /// `ViewChanged` is due whether or not it did.
    settled_now: bool,
    /// The view's id when the latest call ended.
    view_id: ViewId,
}

/// A node that is no member and is dialled.
#[derive(Clone, Debug)]
struct Dialled {
    incarnation: Incarnation,
    addresses: Vec<String>,
    since: Instant,
}

impl Membership {
    /// A cluster of this node alone. The first output announces it.
    #[must_use]
    pub fn new(config: &EngineConfig, now: Instant) -> Self {
        let me = Member {
            id: config.node,
            incarnation: config.incarnation,
            name: config.name.clone(),
            addresses: config.addresses.clone(),
            weight: config.settings.weight,
            state: MemberState::Alive,
        };
        Self::alone(me, &config.settings, config.has_seeds, now)
    }

    fn alone(mut me: Member, settings: &Settings, has_seeds: bool, now: Instant) -> Self {
        me.addresses = usable(me.addresses);
        let view = View { members: BTreeMap::from([(me.id, me.clone())]) };
        let mut membership = Self {
            me: me.id,
            heartbeat: settings.heartbeat,
            window: settings.suspicion_window(),
            forget_after: settings.forget_after,
            alone_at: has_seeds.then(|| now + settings.alone_after),
            settled: !has_seeds,
            linked_once: false,
            ended: false,
            view_id: view.id(),
            view,
            peers: BTreeMap::new(),
            fences: Fences::default(),
            hints: BTreeMap::new(),
            lost: BTreeMap::new(),
            votes: BTreeMap::new(),
            deferred: BTreeMap::new(),
            ballots: 0,
            check: None,
            began: now,
            now,
            heartbeat_at: now + settings.heartbeat,
            heartbeat_sent: now,
            out: VecDeque::new(),
            mark: 0,
            announce_due: true,
            view_touched: false,
            settled_now: false,
        };
        membership.finish();
        membership
    }

    /// Who is in, this node included.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// This node as it tells others.
    #[must_use]
    pub fn me(&self) -> &Member {
        self.view.members.get(&self.me).expect("a view holds its own node from the start")
    }

    /// The current life of this node.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.me().incarnation
    }

    /// Whether this run is in; suspects and leaving ones are.
    #[must_use]
    #[cfg(test)]
    pub fn is_live(&self, run: NodeRun) -> bool {
        self.view.is_live(run)
    }

    /// Whether there is a link to this member.
    #[must_use]
    pub fn is_linked(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_some_and(Peer::is_linked)
    }

    /// Whether something came from this member lately.
    #[must_use]
    pub fn is_heard(&self, now: Instant, node: NodeId) -> bool {
        self.peers.get(&node).is_some_and(|peer| peer.silent_for(now) < self.window)
    }

    /// How long a word takes to this member and back, smoothed; `None` before the second heartbeat
    /// of a link.
    #[must_use]
    pub fn round_trip(&self, node: NodeId) -> Option<Duration> {
        self.peers.get(&node).filter(|peer| peer.is_linked())?.round_trip
    }

    /// Whether this life is over: its words and frames are refused.
    #[must_use]
    #[cfg(test)]
    pub fn fenced(&self, node: NodeId, incarnation: Incarnation) -> bool {
        self.fences.covers(node, incarnation)
    }

    /// Whether this node may start children: it has no seeds, or one has answered, or
    /// `Settings::alone_after` has passed. Never turns false again.
    #[must_use]
    pub fn settled_enough(&self) -> bool {
        self.settled
    }

    /// Whether any node was ever linked.
    #[must_use]
    #[cfg(test)]
    pub fn has_heard_a_seed(&self) -> bool {
        self.linked_once
    }

    /// The next thing to be done.
    pub fn next_output(&mut self) -> Option<MemberOutput> {
        self.out.pop_front()
    }

    /// When [`tick`](Self::tick) is due; always after the latest `now` once it was called.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if self.ended {
            return None;
        }
        let heartbeat = (!self.peers.is_empty()).then_some(self.heartbeat_at);
        let alone = self.alone_at.filter(|_| !self.settled);
        let hints = self.hints.values().map(|hint| hint.since + self.window * HINT_WINDOWS);
        let lost = self.lost.values().map(|lost| lost.since + self.forget_after);
        let check = self.check.as_ref().map(|check| check.deadline(self.heartbeat));
        heartbeat
            .into_iter()
            .chain(alone)
            .chain(hints)
            .chain(lost)
            .chain(check)
            .chain(self.ballot_deadline())
            .min()
    }

    /// A link stands; both Hellos were exchanged. Its node is a member at once, unless this life of
    /// it is over or another run of it answers.
    pub fn linked(&mut self, now: Instant, hello: Hello) {
        if !self.begin(now) {
            return;
        }
        self.take_hello(now, hello);
        self.settle(now);
        self.finish();
    }

    /// The link of this run broke.
    pub fn unlinked(&mut self, now: Instant, run: NodeRun) {
        if !self.begin(now) {
            return;
        }
        let current = self.view.is_live(run);
        if let Some(peer) = self.peers.get_mut(&run.node) {
            if current {
                peer.link = Link::Down { since: now, refused: false };
                if let Some(rival) = peer.rival.take() {
                    self.replace(now, rival.hello);
                }
            } else if peer.rival.as_ref().is_some_and(|rival| rival.hello.me.run() == run) {
                peer.rival = None;
            }
        }
        self.settle(now);
        self.finish();
    }

    /// A dial failed. `refused`: its host says that nobody listens there any more.
    pub fn unreachable(&mut self, now: Instant, node: NodeId, refused: bool) {
        if !self.begin(now) {
            return;
        }
        if refused
            && let Some(Peer { link: Link::Down { refused, .. }, .. }) = self.peers.get_mut(&node)
        {
            *refused = true;
        }
        self.settle(now);
        self.finish();
    }

    /// A peer did not admit this node because this life of it, or a later one, is over there.
    pub fn told_fenced(&mut self, now: Instant, incarnation: Incarnation) {
        if !self.begin(now) {
            return;
        }
        self.renew_above(incarnation);
        self.finish();
    }

    /// Something came over the link of this run. Call it for each word of every kind that was not
    /// relayed, before the word is handled.
    pub fn heard(&mut self, now: Instant, from: NodeRun) {
        if !self.begin(now) {
            return;
        }
        self.note_heard(now, from);
        self.finish();
    }

    /// A word came from this run, by its link or relayed.
    pub fn handle(&mut self, now: Instant, from: NodeRun, word: MemberWord) {
        if !self.begin(now) {
            return;
        }
        let known = self.view.is_live(from) && from.node != self.me;
        match word {
            MemberWord::Fenced { incarnation } => self.renew_above(incarnation),
            MemberWord::Heartbeat { incarnation, .. } if !known => {
                self.tell_fenced(from.node, incarnation);
            }
            MemberWord::Ask { about, incarnation, .. } if !known && about == from.node => {
                self.tell_fenced(about, incarnation);
            }
            _ if !known => {}
            MemberWord::Heartbeat { incarnation, view, pulse } => {
                self.note_heard(now, from);
                let clock = now.saturating_duration_since(self.began);
                if let Some(peer) = self.peers.get_mut(&from.node) {
                    peer.take_pulse(now, clock, pulse);
                }
                self.take_heartbeat(now, from, incarnation, view);
            }
            MemberWord::Members { members } => self.take_members(now, from, members),
            MemberWord::Ask { about, incarnation, ballot } => {
                self.take_ask(now, from.node, about, incarnation, ballot);
                self.settle(now);
            }
            MemberWord::Answer { about, incarnation, ballot, heard } => {
                self.take_answer(now, from.node, about, incarnation, ballot, heard);
                self.settle(now);
            }
            MemberWord::Down { about, incarnation, voters } => {
                self.take_verdict(now, about, incarnation, &voters);
                self.settle(now);
            }
            MemberWord::Leaving { incarnation } if incarnation.nonce == from.nonce => {
                self.note_state(from.node, MemberState::Leaving);
            }
            MemberWord::Bye { incarnation } if incarnation.nonce == from.nonce => {
                self.remove(now, from.node, Out::Left);
                self.settle(now);
            }
            MemberWord::Leaving { .. } | MemberWord::Bye { .. } => {}
        }
        self.finish();
    }

    /// Time has passed. If the latest heartbeat is long overdue, this node was paused.
    pub fn tick(&mut self, now: Instant) {
        if !self.begin(now) {
            return;
        }
        if now >= self.heartbeat_at {
            self.send_heartbeats(now);
        }
        self.settle(now);
        self.finish();
    }

    /// Announces that this node takes no new children; it stays in.
    pub fn start_leaving(&mut self, now: Instant) {
        if !self.begin(now) {
            return;
        }
        if self.me().state != MemberState::Leaving {
            self.change_me(|me| me.state = MemberState::Leaving);
            let incarnation = self.incarnation();
            self.send_to_all(&MemberWord::Leaving { incarnation });
        }
        self.finish();
    }

    /// Takes [`start_leaving`](Self::start_leaving) back.
    pub fn cancel_leaving(&mut self, now: Instant) {
        if !self.begin(now) {
            return;
        }
        if self.me().state == MemberState::Leaving {
            self.change_me(|me| me.state = MemberState::Alive);
            self.send_to_all(&MemberWord::Members { members: vec![self.me().clone()] });
        }
        self.finish();
    }

    /// Says `Bye` to all members; from then on this node is alone and every input is ignored. The
    /// links stand, also for [`is_linked`](Self::is_linked), until the transport ends: it sends
    /// first what is queued.
    pub fn bye(&mut self, now: Instant) {
        if !self.begin(now) {
            return;
        }
        let incarnation = self.incarnation();
        self.send_to_all(&MemberWord::Bye { incarnation });
        self.ended = true;
        let me = self.me;
        self.view.members.retain(|node, _| *node == me);
        self.check = None;
        self.view_touched = true;
        self.finish();
    }

    /// Opens a call; `false` after [`bye`](Self::bye).
    fn begin(&mut self, now: Instant) -> bool {
        self.mark = self.out.len();
        if self.ended {
            return false;
        }
        let gap = now.saturating_duration_since(self.now);
        self.now = self.now.max(now);
        // Without members there is no heartbeat to be late for, and nobody who declares us down.
        if !self.peers.is_empty() {
            // What counts is how long the peers may not have heard us, and that began before the
            // pause; the latest heartbeat may have been cut short by it.
            let unheard = now.saturating_duration_since(self.heartbeat_sent);
            if unheard >= self.window - self.heartbeat / 2 {
                self.start_check(now);
            } else if gap > self.heartbeat + self.heartbeat / 2 {
                self.forgive_lateness(now);
            }
        }
        true
    }

    fn finish(&mut self) {
        if std::mem::take(&mut self.announce_due) {
            let announce = MemberOutput::Announce {
                me: self.me().clone(),
                known: self.members_but(self.me),
                fenced: self.fences.list(),
            };
            self.out.insert(self.mark, announce);
        }
        let view_id = self.current_view_id();
        self.view_touched = false;
        if std::mem::take(&mut self.settled_now) || view_id != self.view_id {
            self.view_id = view_id;
            self.out.push_back(MemberOutput::ViewChanged);
        }
    }

    /// Everything that follows from what is known now.
    fn settle(&mut self, now: Instant) {
        self.settle_rivals(now);
        self.settle_suspects(now);
        self.settle_deferred(now);
        self.settle_check(now);
        self.forget_old(now);
        if !self.settled && (self.linked_once || self.alone_at.is_some_and(|at| now >= at)) {
            self.settled = true;
            self.settled_now = true;
        }
    }

    /// Takes a member out of the view and ends its life.
    fn remove(&mut self, now: Instant, node: NodeId, out: Out) {
        let Some(member) = self.view.members.remove(&node) else {
            return;
        };
        let rival = self.peers.remove(&node).and_then(|peer| peer.rival);
        self.fences.raise(node, member.incarnation);
        self.votes.remove(&node);
        self.deferred.retain(|(about, asker), _| *about != node && *asker != node);
        self.drop_voter(node);
        self.changed();
        let left = out == Out::Left;
        let event = if left { HubEvent::NodeLeft { node } } else { HubEvent::NodeDown { node } };
        self.out.push_back(MemberOutput::Event(event));
        self.out.push_back(MemberOutput::Gone { run: member.run(), left });
        tracing::info!(node = %self.me, peer = %node, left, "a node is out");
        if out == Out::Replaced {
            return;
        }
        if let Some(rival) = rival {
            if !self.turn_away(&rival.hello) {
                self.admit(now, rival.hello);
            }
            return;
        }
        self.disconnect(node, if left { "it left" } else { "it was declared down" });
        if out == Out::Down {
            self.dial_lost(now, node, member.incarnation, member.addresses);
        }
    }

    fn dial_lost(
        &mut self,
        now: Instant,
        node: NodeId,
        incarnation: Incarnation,
        addresses: Vec<String>,
    ) {
        if self.lost.len() < MEMBERS_LIMIT && !addresses.is_empty() {
            self.connect(node, addresses.clone());
            self.lost.insert(node, Dialled { incarnation, addresses, since: now });
        }
    }

    fn note_heard(&mut self, now: Instant, from: NodeRun) {
        if !self.view.is_live(from) {
            return;
        }
        let Some(peer) = self.peers.get_mut(&from.node) else {
            return;
        };
        if peer.is_linked() {
            peer.heard = now;
            self.recover(from.node);
        }
    }

    fn tell_fenced(&mut self, node: NodeId, incarnation: Incarnation) {
        if let Some(fenced) = self.fences.of(node).filter(|fenced| incarnation <= *fenced) {
            self.send(node, MemberWord::Fenced { incarnation: fenced });
        }
    }

    fn change_me(&mut self, change: impl FnOnce(&mut Member)) {
        if let Some(me) = self.view.members.get_mut(&self.me) {
            change(me);
        }
        self.changed();
    }

    fn changed(&mut self) {
        self.announce_due = true;
        self.view_touched = true;
    }

    /// Hashing the view for each heartbeat of each peer would cost its square.
    fn current_view_id(&self) -> ViewId {
        if self.view_touched { self.view.id() } else { self.view_id }
    }

    fn members_but(&self, node: NodeId) -> Vec<Member> {
        let others = self.view.members.values().filter(|member| member.id != node);
        others.take(MEMBERS_LIMIT).cloned().collect()
    }

    fn linked_peers(&self) -> Vec<NodeId> {
        let linked = self.peers.iter().filter(|(_, peer)| peer.is_linked());
        linked.map(|(node, _)| *node).collect()
    }

    fn send_heartbeats(&mut self, now: Instant) {
        (self.heartbeat_sent, self.heartbeat_at) = (now, now + self.heartbeat);
        let (incarnation, view) = (self.incarnation(), self.current_view_id());
        let clock = now.saturating_duration_since(self.began);
        for to in self.linked_peers() {
            let pulse = self.peers.get(&to).map(|peer| peer.pulse(now, clock));
            let pulse = pulse.unwrap_or_default();
            self.send(to, MemberWord::Heartbeat { incarnation, view, pulse });
        }
    }

    fn send_to_all(&mut self, word: &MemberWord) {
        for to in self.peers.keys().copied().collect::<Vec<_>>() {
            self.send(to, word.clone());
        }
    }

    fn send(&mut self, to: NodeId, word: MemberWord) {
        self.out.push_back(MemberOutput::Send { to, word });
    }

    fn connect(&mut self, node: NodeId, addresses: Vec<String>) {
        if !addresses.is_empty() {
            self.out.push_back(MemberOutput::Connect { node, addresses });
        }
    }

    fn disconnect(&mut self, node: NodeId, reason: &str) {
        self.out.push_back(MemberOutput::Disconnect { node, reason: reason.to_owned() });
    }
}

/// How a member goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Out {
    /// It said `Bye`.
    Left,
    /// It was declared down, and is dialled in case it lives.
    Down,
    /// Another run of its node took its place.
    Replaced,
}

/// A number that can be the outcome of a history, with room above it to be renewed for ever.
fn is_plausible(incarnation: Incarnation) -> bool {
    incarnation.started <= Epoch::LIMIT
}

fn usable(mut addresses: Vec<String>) -> Vec<String> {
    addresses.retain(|address| address.len() <= ADDRESS_LIMIT);
    addresses.truncate(ADDRESSES_LIMIT);
    addresses
}
