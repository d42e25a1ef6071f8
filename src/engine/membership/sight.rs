//! Contacts over time: who is suspect, whose link is broken, who is heard no more and forgotten.

use std::{collections::BTreeSet, time::Instant};

use super::{
    contact::Contact, dialling::Dialling, outputs::Outputs, roster::Roster, routes::Routes,
    timing::Timing,
};
use crate::model::{
    event::HubEvent,
    id::{Life, NodeId},
};

/// What it takes to keep contacts in sight.
pub(super) struct Sight<'a> {
    pub(super) timing: &'a Timing,
    pub(super) dialling: &'a mut Dialling,
    pub(super) routes: &'a mut Routes,
    pub(super) roster: &'a mut Roster,
    pub(super) out: &'a mut Outputs,
}

impl Sight<'_> {
    /// Who does not hear, or is not heard, is suspect.
    pub(super) fn regard(&mut self, now: Instant) {
        let me = self.roster.id();
        for (node, is_suspicious) in self.roster.regard(now, self.timing) {
            tracing::debug!(node = %me, peer = %node, is_suspicious, "regarded otherwise");
            self.out.event(if is_suspicious {
                HubEvent::NodeSuspected { node }
            } else {
                HubEvent::NodeRecovered { node }
            });
            self.out.regarded();
        }
    }

    /// Of whom somebody does not hear this node wants every heartbeat: it votes by that. Whether anybody
    /// has to be told so.
    pub(super) fn look_at_questions(&mut self, now: Instant) -> bool {
        let contacts = self.roster.contacts().values();
        let asked: BTreeSet<Life> = contacts.flat_map(Contact::asks_about).collect();
        let mut is_news = false;
        for (_, contact) in self.roster.contacts_mut() {
            let is_asked_about = asked.contains(&contact.life());
            is_news |= contact.beats_mut().ask_about(now, is_asked_about);
        }
        is_news
    }

    /// Tells what there is to do about links that carry nothing.
    pub(super) fn look_at_links(&mut self, now: Instant) {
        let me = self.roster.id();
        for (node, contact) in self.roster.contacts_mut() {
            let news = contact.look_at_link(now, self.timing);
            let addresses = &contact.member().addresses;
            if news.is_silent {
                self.out.silent(node, addresses.clone());
            }
            if news.is_missing {
                tracing::debug!(node = %me, peer = %node, ?addresses, "there is no working link");
                self.out.event(HubEvent::LinkMissing { node, addresses: addresses.clone() });
            }
            if news.is_restored {
                self.out.event(HubEvent::LinkRestored { node });
            }
        }
    }

    /// Forgets outsiders of whom nothing comes any more.
    pub(super) fn forget_old(&mut self, now: Instant) {
        for node in self.dialling.forget_old(now) {
            if self.roster.contact(node).is_none() {
                self.out.disconnect(node, "it was not reached for long");
            }
        }
        let outsiders = self.roster.outsiders();
        let silent: Vec<NodeId> = outsiders
            .filter(|(_, contact)| !contact.is_linked() && !contact.is_heard(now, self.timing))
            .map(|(node, _)| node)
            .collect();
        silent.into_iter().for_each(|node| self.lose(now, node));
        // A link to a host that was switched off and is back carries nothing, and nobody but a member
        // is suspected: without a new one neither end would learn of the other.
        let outsiders = self.roster.outsiders();
        let stale: Vec<NodeId> = outsiders
            .filter(|(_, contact)| contact.is_stale(now, self.timing))
            .map(|(node, _)| node)
            .collect();
        for node in stale {
            let addresses = self.roster.addresses_of(node);
            self.out.disconnect(node, "nothing comes over it");
            self.lose(now, node);
            if self.dialling.holds(node) {
                self.out.connect(node, addresses);
            }
        }
    }

    /// Nothing that comes from contacts without a link counts any more.
    pub(super) fn lose_unlinked(&mut self, now: Instant) {
        let unlinked = self.roster.outsiders().filter(|(_, contact)| !contact.is_linked());
        let unlinked: Vec<NodeId> = unlinked.map(|(node, _)| node).collect();
        unlinked.into_iter().for_each(|node| self.lose(now, node));
    }

    /// An outsider is no contact any more, is dialled on for a while, and met again when it answers.
    fn lose(&mut self, now: Instant, node: NodeId) {
        let Some(forgotten) = self.roster.forget(node) else { return };
        self.routes.changed();
        self.dialling.name(now, &forgotten.member);
        if !self.dialling.holds(node) {
            self.out.disconnect(node, "there is no room for so many nodes");
        }
    }
}
