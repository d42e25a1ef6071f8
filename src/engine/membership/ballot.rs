//! Suspicion, the ballot on a suspect, and the verdict.

use std::{collections::BTreeMap, time::Instant};

use super::{
    MemberOutput, Membership, Out,
    peer::{Link, Peer, Suspicion},
};
use crate::model::{
    event::HubEvent,
    id::{Incarnation, NodeId},
    member::MemberState,
    message::MemberWord,
};

/// At most this many nodes are remembered as voted against, and as many questions wait for their
/// answer; above it no vote is given.
const VOTES_LIMIT: usize = 4_096;

/// This node said that it does not hear a life; a verdict that counted on it binds.
#[derive(Clone, Debug)]
pub(super) struct Vote {
    incarnation: Incarnation,
    /// Who asked, and in which ballot: told when the node is heard after all.
    askers: BTreeMap<NodeId, u64>,
}

/// A question whose answer is not known yet: the link is being redialled.
#[derive(Clone, Debug)]
pub(super) struct Deferred {
    incarnation: Incarnation,
    ballot: u64,
    since: Instant,
}

impl Membership {
    /// When a suspicion, a ballot or a deferred answer is due.
    pub(super) fn ballot_deadline(&self) -> Option<Instant> {
        let trusted = self.peers.values().filter(|peer| peer.suspicion.is_none()).count();
        let peers = self.peers.values().map(|peer| {
            let due = match &peer.suspicion {
                None => peer.heard + self.window,
                Some(_) if trusted == 0 => self.lonely_verdict_at(peer),
                Some(suspicion) => suspicion.deadline(self.heartbeat, self.window),
            };
            peer.rival.as_ref().map_or(due, |rival| due.min(rival.until))
        });
        // The answer about a member is due with what happens to its link, or its suspicion.
        let deferred = self.deferred.iter().filter_map(|((about, _), deferred)| {
            let known = self.is_suspectable(*about, deferred.incarnation);
            (!known).then(|| deferred.since + self.window)
        });
        peers.chain(deferred).min()
    }

    fn is_suspectable(&self, about: NodeId, incarnation: Incarnation) -> bool {
        self.view.is_live(incarnation.run_of(about))
    }

    /// When a suspect is declared down if there is nobody to ask. All suspect at once means that
    /// this node may be the one that is slow or cut off, so the window is twice as long. A host
    /// that refused the redial is an answer; the node gets half a heartbeat to dial from its side.
    fn lonely_verdict_at(&self, peer: &Peer) -> Instant {
        let stretched = peer.heard + self.window * 2;
        match peer.link {
            Link::Down { since, refused: true } => stretched.min(since + self.heartbeat / 2),
            _ => stretched,
        }
    }

    pub(super) fn settle_suspects(&mut self, now: Instant) {
        let silent: Vec<NodeId> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.is_refused() || peer.silent_for(now) >= self.window)
            .map(|(node, _)| *node)
            .collect();
        for node in silent {
            self.suspect(now, node);
        }
        // A verdict changes who is asked about the next suspect.
        let suspects = self.peers.iter().filter(|(_, peer)| peer.suspicion.is_some());
        for node in suspects.map(|(node, _)| *node).collect::<Vec<_>>() {
            self.settle_suspect(now, node);
        }
    }

    fn suspect(&mut self, now: Instant, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        if peer.suspicion.is_some() {
            return;
        }
        peer.suspicion = Some(Suspicion::new(now));
        if let Some(member) = self.view.members.get_mut(&node)
            && member.state == MemberState::Alive
        {
            member.state = MemberState::Suspect;
        }
        tracing::debug!(node = %self.me, peer = %node, "a node is suspected");
        self.out.push_back(MemberOutput::Event(HubEvent::NodeSuspected { node }));
    }

    fn settle_suspect(&mut self, now: Instant, node: NodeId) {
        let Some(incarnation) = self.view.member(node).map(|member| member.incarnation) else {
            return;
        };
        let electors: Vec<NodeId> = self
            .peers
            .iter()
            .filter(|(voter, peer)| **voter != node && peer.suspicion.is_none())
            .map(|(voter, _)| *voter)
            .collect();
        let next_ballot = self.ballots + 1;
        let (heartbeat, window) = (self.heartbeat, self.window);
        let Some(peer) = self.peers.get(&node) else {
            return;
        };
        if electors.is_empty() {
            if now >= self.lonely_verdict_at(peer) {
                self.declare(now, node, incarnation, Vec::new());
            }
            return;
        }
        let Some(suspicion) = self.peers.get_mut(&node).and_then(|peer| peer.suspicion.as_mut())
        else {
            return;
        };
        if suspicion.vetoed_until.is_some_and(|until| now < until) {
            return;
        }
        // Answers are worth a window: what was true longer ago may not be true now.
        let opened_for = now.saturating_duration_since(suspicion.opened);
        if suspicion.ballot == 0 || suspicion.vetoed_until.is_some() || opened_for >= window {
            self.ballots = next_ballot;
            suspicion.restart(now, next_ballot);
        }
        if electors.iter().all(|voter| suspicion.against.contains(voter)) {
            self.declare(now, node, incarnation, electors);
            return;
        }
        let again = now.saturating_duration_since(suspicion.asked_at) >= heartbeat;
        if again {
            suspicion.asked_at = now;
        }
        let ballot = suspicion.ballot;
        let mut ask = Vec::new();
        for voter in electors {
            let first = suspicion.asked.insert(voter);
            if first || (again && !suspicion.against.contains(&voter)) {
                ask.push(voter);
            }
        }
        for voter in ask {
            self.send(voter, MemberWord::Ask { about: node, incarnation, ballot });
        }
    }

    fn declare(
        &mut self,
        now: Instant,
        node: NodeId,
        incarnation: Incarnation,
        mut voters: Vec<NodeId>,
    ) {
        voters.push(self.me);
        let others: Vec<NodeId> = self.peers.keys().copied().filter(|peer| *peer != node).collect();
        for to in others {
            let voters = voters.clone();
            self.send(to, MemberWord::Down { about: node, incarnation, voters });
        }
        self.remove(now, node, Out::Down);
    }

    /// Somebody asks whether this node hears that life.
    pub(super) fn take_ask(
        &mut self,
        now: Instant,
        asker: NodeId,
        about: NodeId,
        incarnation: Incarnation,
        ballot: u64,
    ) {
        if about == asker {
            // It asks whether its own life still counts; that it is a member says that it does,
            // unless the life that it names is not the member's.
            if self.fences.covers(about, incarnation) {
                self.tell_fenced(about, incarnation);
            } else {
                self.send(asker, MemberWord::Answer { about, incarnation, ballot, heard: true });
            }
            return;
        }
        // Asking again does not begin the wait anew: ballots are as long as a wait, so that a voter
        // that began anew with each would never answer.
        let asked = self.deferred.remove(&(about, asker));
        let since = asked.filter(|a| a.incarnation == incarnation).map_or(now, |a| a.since);
        if self.deferred.len() < VOTES_LIMIT {
            let deferred = Deferred { incarnation, ballot, since };
            self.deferred.insert((about, asker), deferred);
        }
    }

    /// Answers each question whose answer is known by now.
    pub(super) fn settle_deferred(&mut self, now: Instant) {
        let mut answers = Vec::new();
        for (key, deferred) in &self.deferred {
            if let Some(heard) = self.hears(now, key.0, deferred) {
                answers.push((*key, deferred.clone(), heard));
            }
        }
        for ((about, asker), Deferred { incarnation, ballot, .. }, heard) in answers {
            self.deferred.remove(&(about, asker));
            if !heard && !self.note_vote(about, incarnation, asker, ballot) {
                continue;
            }
            self.send(asker, MemberWord::Answer { about, incarnation, ballot, heard });
        }
    }

    /// Whether that life was heard within the window; `None` while a redial may still tell.
    fn hears(&self, now: Instant, about: NodeId, question: &Deferred) -> Option<bool> {
        if self.fences.covers(about, question.incarnation) {
            return Some(false);
        }
        if about == self.me {
            return Some(question.incarnation.nonce == self.incarnation().nonce);
        }
        let peer = self.peers.get(&about);
        let Some(peer) = peer.filter(|_| self.is_suspectable(about, question.incarnation)) else {
            // A node that joined a moment ago may be about to be linked.
            let waited = now.saturating_duration_since(question.since) >= self.window;
            return waited.then_some(false);
        };
        if peer.is_refused() || peer.silent_for(now) >= self.window {
            return Some(false);
        }
        peer.is_linked().then_some(true)
    }

    /// Remembers that a verdict on this life binds; `false` when there is no room, and so no vote.
    fn note_vote(
        &mut self,
        about: NodeId,
        incarnation: Incarnation,
        asker: NodeId,
        ballot: u64,
    ) -> bool {
        if self.fences.covers(about, incarnation) {
            return true;
        }
        if !self.votes.contains_key(&about) && self.votes.len() >= VOTES_LIMIT {
            return false;
        }
        let fresh = || Vote { incarnation, askers: BTreeMap::new() };
        let vote = self.votes.entry(about).or_insert_with(fresh);
        vote.incarnation = vote.incarnation.max(incarnation);
        vote.askers.insert(asker, ballot);
        true
    }

    pub(super) fn take_answer(
        &mut self,
        now: Instant,
        voter: NodeId,
        about: NodeId,
        incarnation: Incarnation,
        ballot: u64,
        heard: bool,
    ) {
        if about == self.me {
            if heard && incarnation == self.incarnation() {
                self.confirm(voter, ballot);
            }
            return;
        }
        if self.view.member(about).is_none_or(|member| member.incarnation != incarnation) {
            return;
        }
        let (heartbeat, window) = (self.heartbeat, self.window);
        let Some(peer) = self.peers.get_mut(&about) else {
            return;
        };
        let refused = peer.is_refused();
        let mut silent = false;
        let Some(suspicion) = peer.suspicion.as_mut().filter(|s| s.ballot == ballot) else {
            return;
        };
        if !heard {
            suspicion.against.insert(voter);
        } else if suspicion.vetoed_until.is_none() {
            // Something between may swallow what the link should carry: only a new one can tell.
            silent = peer.link == Link::Up;
            // The voter's own link may be about to break as well: its host's refusal is a strong
            // sign, so that is asked for again soon.
            suspicion.veto(now + if refused { heartbeat } else { window });
        }
        if silent && let Some(member) = self.view.member(about) {
            let addresses = member.addresses.clone();
            self.out.push_back(MemberOutput::Silent { node: about, addresses });
        }
    }

    /// Somebody says that a life is over.
    pub(super) fn take_verdict(
        &mut self,
        now: Instant,
        about: NodeId,
        incarnation: Incarnation,
        voters: &[NodeId],
    ) {
        if about == self.me {
            if incarnation.nonce == self.incarnation().nonce {
                self.renew_above(incarnation);
            }
            return;
        }
        if self.fences.covers(about, incarnation) {
            return;
        }
        let voted = self.votes.get(&about).is_some_and(|vote| incarnation <= vote.incarnation);
        let member = self.view.member(about).map(|member| member.incarnation);
        if voted && voters.contains(&self.me) {
            self.votes.remove(&about);
            if member.is_some_and(|member| member <= incarnation) {
                self.remove(now, about, Out::Down);
            }
            if self.fences.raise(about, incarnation) {
                self.announce_due = true;
            }
        } else if member.is_some_and(|member| member <= incarnation) {
            let Some(peer) = self.peers.get(&about) else {
                return;
            };
            if peer.is_linked() && peer.silent_for(now) < self.window {
                // It lives, and is refused wherever the verdict binds until it knows of it.
                self.send(about, MemberWord::Fenced { incarnation });
            } else {
                self.suspect(now, about);
            }
        }
    }

    /// A suspect was heard again. Who was told otherwise is told.
    pub(super) fn recover(&mut self, node: NodeId) {
        if let Some(vote) = self.votes.get_mut(&node) {
            let incarnation = vote.incarnation;
            for (asker, ballot) in std::mem::take(&mut vote.askers) {
                let heard = true;
                let answer = MemberWord::Answer { about: node, incarnation, ballot, heard };
                if self.peers.contains_key(&asker) {
                    self.send(asker, answer);
                }
            }
        }
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        if peer.suspicion.take().is_none() {
            return;
        }
        if let Some(member) = self.view.members.get_mut(&node)
            && member.state == MemberState::Suspect
        {
            member.state = MemberState::Alive;
        }
        self.out.push_back(MemberOutput::Event(HubEvent::NodeRecovered { node }));
    }

    /// A link to this voter stands again: what it was asked over the old one may be lost.
    pub(super) fn ask_again(&mut self, voter: NodeId) {
        for peer in self.peers.values_mut() {
            if let Some(suspicion) = &mut peer.suspicion {
                suspicion.asked.remove(&voter);
            }
        }
        self.ask_about_me_again(voter);
    }

    /// The suspect is another life now; what was answered was about the one before.
    pub(super) fn restart_ballot(&mut self, now: Instant, node: NodeId) {
        if let Some(suspicion) = self.peers.get_mut(&node).and_then(|p| p.suspicion.as_mut()) {
            suspicion.restart(now, 0);
        }
    }

    pub(super) fn drop_voter(&mut self, voter: NodeId) {
        for peer in self.peers.values_mut() {
            if let Some(suspicion) = &mut peer.suspicion {
                suspicion.forget(voter);
            }
        }
        for vote in self.votes.values_mut() {
            vote.askers.remove(&voter);
        }
    }
}
