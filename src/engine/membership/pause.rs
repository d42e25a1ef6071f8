//! What a node does when it finds that it did not run for a while.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::{MemberOutput, Membership};
use crate::model::{id::NodeId, message::MemberWord};

/// Peers are asked whether this life still counts.
///
/// A heartbeat that is read after a pause proves nothing, it may have waited in a buffer since
/// before the peer gave this node up. So each peer is asked about this node itself, and only the
/// answer to that question counts.
#[derive(Clone, Debug)]
pub(super) struct Check {
    ballot: u64,
    /// Who has not answered.
    waiting: BTreeSet<NodeId>,
    /// Whether anybody has.
    confirmed: bool,
    asked_at: Instant,
    /// If nobody confirms and nobody is left to ask, this node goes on from then on.
    alone_at: Instant,
    /// Whoever has been heard, is not suspect by then and still gives no answer is not waited for:
    /// had it closed the link before, that would have been read by now.
    ends_at: Instant,
}

impl Check {
    pub(super) fn deadline(&self, heartbeat: Duration) -> Instant {
        if self.waiting.is_empty() {
            return self.alone_at;
        }
        self.ends_at.min(self.asked_at + heartbeat)
    }
}

impl Membership {
    /// Peers may not have heard this node for the suspicion window: they may have declared it down.
    pub(super) fn start_check(&mut self, now: Instant) {
        tracing::warn!(node = %self.me, "this node did not run for longer than the suspicion window");
        self.ballots += 1;
        let ballot = self.ballots;
        let mut waiting = BTreeSet::new();
        for (node, peer) in &mut self.peers {
            // That nothing was heard meanwhile is nobody's fault but ours.
            peer.heard = now;
            if let Some(suspicion) = &mut peer.suspicion {
                suspicion.restart(now, 0);
            } else {
                waiting.insert(*node);
            }
            if let Some(rival) = &mut peer.rival {
                (rival.since, rival.until) = (now, now + self.heartbeat + self.heartbeat / 2);
            }
        }
        self.deferred.clear();
        if self.check.is_none() {
            self.out.push_back(MemberOutput::Gates { valid: false });
        }
        self.check = Some(Check {
            ballot,
            waiting,
            confirmed: false,
            asked_at: now,
            alone_at: now + self.window,
            ends_at: now + self.window * 2,
        });
        self.send_heartbeats(now);
        self.ask_about_me();
    }

    /// The pause was shorter, but what peers sent meanwhile has not been read yet: each gets at
    /// least one heartbeat before it is suspected.
    pub(super) fn forgive_lateness(&mut self, now: Instant) {
        let latest = self.window.saturating_sub(self.heartbeat);
        for peer in self.peers.values_mut() {
            if peer.suspicion.is_none() && peer.silent_for(now) > latest {
                peer.heard = now.checked_sub(latest).unwrap_or(now);
            }
        }
    }

    pub(super) fn confirm(&mut self, voter: NodeId, ballot: u64) {
        if let Some(check) = &mut self.check
            && check.ballot == ballot
            && check.waiting.remove(&voter)
        {
            check.confirmed = true;
        }
    }

    /// A link to this peer stands again: what was asked over the old one may be lost.
    pub(super) fn ask_about_me_again(&mut self, node: NodeId) {
        let incarnation = self.incarnation();
        if let Some(check) = self.check.as_ref().filter(|check| check.waiting.contains(&node)) {
            let word = MemberWord::Ask { about: self.me, incarnation, ballot: check.ballot };
            self.send(node, word);
        }
    }

    pub(super) fn settle_check(&mut self, now: Instant) {
        let Some(check) = &mut self.check else { return };
        check
            .waiting
            .retain(|node| self.peers.get(node).is_some_and(|peer| peer.suspicion.is_none()));
        let done = check.waiting.is_empty() && (check.confirmed || now >= check.alone_at);
        if done || now >= check.ends_at {
            self.end_check();
        } else if now >= check.asked_at + self.heartbeat {
            check.asked_at = now;
            self.ask_about_me();
        }
    }

    pub(super) fn end_check(&mut self) {
        if self.check.take().is_some() {
            self.out.push_back(MemberOutput::Gates { valid: true });
        }
    }

    fn ask_about_me(&mut self) {
        let Some(check) = &self.check else { return };
        for node in check.waiting.clone() {
            if self.is_linked(node) {
                self.ask_about_me_again(node);
            }
        }
    }
}
