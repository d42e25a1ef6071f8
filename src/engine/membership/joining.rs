//! Who comes in: concluding that somebody does, and following who concluded.
//!
//! Membership is agreed, links are transport. A life that is heard and in no view is *joining*: it
//! is in nobody's way. It comes in when all who would be members hear each other.

use std::{collections::BTreeMap, time::Instant};

use super::{
    contact::{Contact, Lives, Timing},
    fences::Fences,
};
use crate::model::id::{Incarnation, Life, NodeId};

/// What a node knows when it judges who comes in.
pub(super) struct Known<'a> {
    pub(super) now: Instant,
    pub(super) timing: &'a Timing,
    /// This node.
    pub(super) me: Life,
    /// Its view, itself included.
    pub(super) view: &'a Lives,
    pub(super) contacts: &'a BTreeMap<NodeId, Contact>,
    pub(super) fences: &'a Fences,
}

impl Known<'_> {
    /// Whether this life is heard now and not over.
    fn hears(&self, life: Life) -> bool {
        life == self.me
            || self.contacts.get(&life.node).is_some_and(|contact| {
                contact.life() == life && contact.is_heard(self.now, self.timing)
            }) && !self.fences.covers(life.node, life.incarnation)
    }

    /// Lives outside the view that are heard.
    pub(super) fn joining(&self) -> impl Iterator<Item = &Contact> {
        self.contacts.values().filter(|contact| {
            !self.view.contains_key(&contact.life().node) && self.hears(contact.life())
        })
    }

    fn view_of(&self, life: Life) -> Option<&Lives> {
        if life == self.me {
            return Some(self.view);
        }
        self.contacts.get(&life.node)?.view().map(|lives| &**lives)
    }

    /// Whether `p` says that it hears `q`, a life outside its view.
    fn lists(&self, p: Life, q: Life) -> bool {
        if p == self.me {
            return self.hears(q);
        }
        self.contacts.get(&p.node).is_some_and(|contact| contact.lists_joining(q))
    }

    /// The life and the views of all that belong to it; `None` if somebody of them is not heard.
    /// Clusters come in whole or not at all.
    fn group(&self, life: Life) -> Option<Lives> {
        let mut group = Lives::new();
        let mut open = vec![life];
        while let Some(life) = open.pop() {
            if self.view.get(&life.node) == Some(&life.incarnation)
                || group.get(&life.node) == Some(&life.incarnation)
            {
                continue;
            }
            if self.view.contains_key(&life.node)
                || group.contains_key(&life.node)
                || !self.hears(life)
            {
                return None;
            }
            group.insert(life.node, life.incarnation);
            open.extend(lives(self.view_of(life)?));
        }
        Some(group)
    }

    /// Who does not hear whom, of those in `view` and the newcomers of `group`: the first of each
    /// pair does not list the second.
    fn deaf<'b>(
        &'b self,
        view: &'b Lives,
        group: &'b Lives,
    ) -> impl Iterator<Item = (Life, Life)> + 'b {
        let old = lives(view).flat_map(move |p| lives(group).map(move |q| (p, q)));
        let new =
            lives(group).flat_map(move |p| lives(view).chain(lives(group)).map(move |q| (p, q)));
        old.chain(new).filter(|(p, q)| p != q && !self.counts_with(*p, *q))
    }

    fn counts_with(&self, p: Life, q: Life) -> bool {
        let Some(view) = self.view_of(p) else { return false };
        view.get(&q.node) == Some(&q.incarnation) || self.lists(p, q)
    }

    /// The view with everybody who comes in now. Any member may conclude, without leader or order;
    /// two conclusions at once meet as each [follows](Self::follow) the other.
    pub(super) fn conclude(&self) -> Lives {
        let mut view = self.view.clone();
        for contact in self.joining() {
            if view.contains_key(&contact.life().node) {
                continue;
            }
            // A mute or one-way joiner would become a member without the joiner's own half.
            if let Some(group) = self.group(contact.life())
                && group.keys().all(|node| !view.contains_key(node))
                && self.deaf(&view, &group).next().is_none()
            {
                view.extend(group);
            }
        }
        view
    }

    /// The view with everybody whom a node has taken in that has taken this one in. Each must be
    /// heard here: else the view of one who has not heard of a verdict yet brings its dead back.
    pub(super) fn follow(&self) -> Lives {
        let mut view = self.view.clone();
        for contact in self.contacts.values() {
            let Some(theirs) = contact.view() else { continue };
            if theirs.get(&self.me.node) != Some(&self.me.incarnation)
                || !self.hears(contact.life())
            {
                continue;
            }
            for life in lives(theirs) {
                if !view.contains_key(&life.node) && self.hears(life) {
                    view.insert(life.node, life.incarnation);
                }
            }
        }
        view
    }

    /// Why a life is not in: who does not hear whom.
    pub(super) fn missing(&self, life: Life) -> Vec<(NodeId, NodeId)> {
        /// So many pairs are enough to see what is wrong.
        const MOST: usize = 16;
        match self.group(life) {
            Some(group) => {
                self.deaf(self.view, &group).take(MOST).map(|(p, q)| (p.node, q.node)).collect()
            }
            None => {
                let theirs = self.view_of(life).into_iter().flat_map(lives);
                let unheard = theirs.filter(|other| !self.hears(*other));
                unheard.take(MOST).map(|other| (self.me.node, other.node)).collect()
            }
        }
    }
}

fn lives(lives: &Lives) -> impl Iterator<Item = Life> + '_ {
    lives.iter().map(|(node, incarnation)| life(*node, *incarnation))
}

fn life(node: NodeId, incarnation: Incarnation) -> Life {
    Life { node, incarnation }
}
