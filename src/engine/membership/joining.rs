//! Links that stand: newcomers, lives that are over, second processes with one key.

use std::{collections::BTreeSet, time::Instant};

use super::{
    MemberOutput, Membership, Out, is_plausible,
    peer::{Link, Peer, Rival},
    usable,
};
use crate::model::{
    event::HubEvent,
    id::NodeId,
    member::{Hello, MemberState},
    message::MemberWord,
};

impl Membership {
    pub(super) fn take_hello(&mut self, now: Instant, mut hello: Hello) {
        let (node, incarnation) = (hello.me.id, hello.me.incarnation);
        if node == self.me {
            self.disconnect(node, "it has this node's own key");
            return;
        }
        if !is_plausible(incarnation) {
            self.refuse(node, "its incarnation is absurd");
            return;
        }
        hello.me.addresses = usable(std::mem::take(&mut hello.me.addresses));
        if hello.me.state != MemberState::Leaving {
            hello.me.state = MemberState::Alive;
        }
        self.linked_once = true;
        if let Some(fenced) = hello.fenced {
            self.renew_above(fenced);
        }
        if self.turn_away(&hello) {
            return;
        }
        match self.view.members.get(&node).map(|member| member.incarnation.nonce) {
            None => self.admit(now, hello),
            Some(nonce) if nonce == incarnation.nonce => self.relink(now, hello),
            Some(_) => self.meet_rival(now, hello),
        }
    }

    /// Refuses a life that is over and says so; it comes back with a higher one.
    pub(super) fn turn_away(&mut self, hello: &Hello) -> bool {
        let (node, incarnation) = (hello.me.id, hello.me.incarnation);
        if !self.fences.covers(node, incarnation) {
            return false;
        }
        self.tell_fenced(node, incarnation);
        self.disconnect(node, "this life of it is over");
        self.dial_lost(self.now, node, incarnation, hello.me.addresses.clone());
        true
    }

    pub(super) fn admit(&mut self, now: Instant, hello: Hello) {
        let Hello { me: member, known, .. } = hello;
        let node = member.id;
        self.lost.remove(&node);
        let dialled = self.hints.remove(&node);
        if dialled.is_none_or(|hint| hint.addresses != member.addresses) {
            self.connect(node, member.addresses.clone());
        }
        self.out.push_back(MemberOutput::Event(HubEvent::NodeJoined {
            node,
            name: member.name.clone(),
        }));
        if member.state == MemberState::Leaving {
            self.out.push_back(MemberOutput::Event(HubEvent::NodeLeaving { node }));
        }
        tracing::info!(node = %self.me, peer = %node, "a node joined");
        let informed: BTreeSet<NodeId> = known.iter().map(|member| member.id).collect();
        let news = MemberWord::Members { members: vec![member.clone()] };
        self.view.members.insert(node, member);
        // Whom the newcomer knows it dials itself, so a mesh that forms at once is not flooded.
        for to in self.linked_peers() {
            if !informed.contains(&to) {
                self.send(to, news.clone());
            }
        }
        self.peers.insert(node, Peer::linked(now, self.heartbeat));
        if self.peers.len() == 1 {
            (self.heartbeat_sent, self.heartbeat_at) = (now, now + self.heartbeat);
        }
        self.changed();
        self.take_hints(now, known);
    }

    pub(super) fn relink(&mut self, now: Instant, hello: Hello) {
        let Hello { me: told, known, .. } = hello;
        let node = told.id;
        let leaving = told.state == MemberState::Leaving;
        let Some(member) = self.view.members.get_mut(&node) else {
            return;
        };
        let starts_leaving = leaving && member.state != MemberState::Leaving;
        let renewed = member.incarnation != told.incarnation;
        *member = told;
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.link = Link::Up;
            peer.heard = now;
            peer.refused_rival = None;
        }
        self.changed();
        if renewed {
            self.restart_ballot(now, node);
        }
        if starts_leaving {
            self.out.push_back(MemberOutput::Event(HubEvent::NodeLeaving { node }));
        }
        self.recover(node);
        self.ask_again(node);
        self.take_hints(now, known);
    }

    /// Another run of a member is linked: the old one is dead if its link is closed, or if it is
    /// silent for a heartbeat and a half from now.
    pub(super) fn meet_rival(&mut self, now: Instant, hello: Hello) {
        let node = hello.me.id;
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        let turned_away = peer.refused_rival == Some(hello.me.incarnation.nonce);
        if peer.silent_for(now) >= self.window || (!peer.is_linked() && !turned_away) {
            self.replace(now, hello);
        } else if peer.is_linked() && !turned_away {
            let until = now + self.heartbeat + self.heartbeat / 2;
            peer.rival = Some(Rival { hello, since: now, until });
        } else {
            self.refuse(node, "another process with the same key is alive");
        }
    }

    pub(super) fn settle_rivals(&mut self, now: Instant) {
        let due: Vec<NodeId> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.rival.as_ref().is_some_and(|rival| now >= rival.until))
            .map(|(node, _)| *node)
            .collect();
        for node in due {
            let Some(peer) = self.peers.get_mut(&node) else {
                continue;
            };
            let Some(rival) = peer.rival.take() else {
                continue;
            };
            if peer.heard <= rival.since {
                self.replace(now, rival.hello);
                continue;
            }
            peer.refused_rival = Some(rival.hello.me.incarnation.nonce);
            self.refuse(node, "another process with the same key is alive");
            let addresses = self.view.members.get(&node).map(|member| member.addresses.clone());
            self.connect(node, addresses.unwrap_or_default());
        }
    }

    /// The old run of this node is dead, the new one takes its place.
    pub(super) fn replace(&mut self, now: Instant, hello: Hello) {
        self.remove(now, hello.me.id, Out::Replaced);
        if !self.turn_away(&hello) {
            self.admit(now, hello);
        }
    }

    pub(super) fn refuse(&mut self, node: NodeId, reason: &str) {
        let refused = HubEvent::PeerRefused { node: Some(node), reason: reason.to_owned() };
        self.out.push_back(MemberOutput::Event(refused));
        self.disconnect(node, reason);
    }
}
