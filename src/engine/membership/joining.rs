//! Who comes in: concluding that somebody does, and following who concluded.
//!
//! Membership is agreed, links are transport. A life that is heard and in no view is *joining*: it
//! is in nobody's way. It comes in when all who would be members hear each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use super::{
    contact::{Contact, Lives},
    dialling::Dialling,
    fences::Fences,
    founding::Founder,
    mute::Mute,
    outputs::Outputs,
    pace::Pace,
    roster::Roster,
    timing::Timing,
    turn::Turn,
    voice::Voice,
};
use crate::model::{
    event::HubEvent,
    id::{Incarnation, Life, NodeId},
    member::Member,
};

/// A node that is heard and not in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Joiner {
    /// The node as it describes itself.
    pub(crate) member: Member,
    /// Since when it has been met.
    pub(crate) since: Instant,
    /// Who does not hear whom: the first does not hear the second.
    pub(crate) missing: Vec<(NodeId, NodeId)>,
}

/// Who comes in now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Comers {
    nodes: Vec<NodeId>,
    /// Another node has concluded that they do.
    follows: bool,
    /// Nobody else is on the way.
    are_all: bool,
}

impl Comers {
    /// How many this node has concluded to take in, and whether nobody else is on the way; `None` if
    /// nobody comes in, or another node has concluded it.
    pub(super) fn concluded(&self) -> Option<(usize, bool)> {
        (!self.nodes.is_empty() && !self.follows).then_some((self.nodes.len(), self.are_all))
    }

    /// Takes them in.
    pub(super) fn come_in(
        self,
        roster: &mut Roster,
        founder: &mut Founder,
        voice: &mut Voice,
        out: &mut Outputs,
        pace: &mut Pace,
    ) {
        let me = roster.id();
        let mut moved = false;
        for node in self.nodes {
            let Some(member) = roster.admit(node) else { continue };
            tracing::debug!(node = %me, peer = %node, "a node joined");
            out.event(HubEvent::NodeJoined { node, name: member.name.clone() });
            if let Some(turn) = Turn::of(member) {
                out.event(turn.event(node));
            }
            founder.taken_in();
            moved = true;
        }
        if moved {
            roster.moved(voice, out, pace);
            if self.follows {
                voice.follows();
            }
        }
    }
}

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
    pub(super) dialling: &'a Dialling,
    pub(super) mute: &'a Mute,
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

    /// Those of them that this node tells others.
    pub(super) fn listed(&self) -> impl Iterator<Item = &Contact> {
        self.joining().filter(|contact| self.is_ripe(contact))
    }

    /// Who went down again and again has to show that it lives on: a node that crashes as soon as
    /// it starts would else be taken in each time.
    /// So must one that was mute, for longer each time.
    fn is_ripe(&self, contact: &Contact) -> bool {
        let lived = self.now.saturating_duration_since(contact.since());
        let is_steady = !self.dialling.is_unsteady(self.now, contact.life().node)
            || lived >= self.timing.heartbeat;
        is_steady && !self.mute.is_held_off(self.now, contact.run())
    }

    /// Who comes in. Who `waits` concludes nothing.
    pub(super) fn comers(&self, waits: bool) -> Comers {
        let mut lives = self.follow(waits);
        let follows = lives != *self.view;
        if !waits && !follows {
            lives = self.conclude();
        }
        let nodes: Vec<NodeId> =
            lives.into_keys().filter(|node| !self.view.contains_key(node)).collect();
        let are_all =
            !nodes.is_empty() && self.listed().all(|other| nodes.contains(&other.life().node));
        Comers { nodes, follows, are_all }
    }

    /// How many members that are heard come before this one; at most 3.
    pub(super) fn rank(&self) -> u32 {
        let mine = seniority(&self.me);
        let before = lives(self.view).filter(|life| seniority(life) < mine && self.hears(*life));
        before.take(3).fold(0, |rank, _| rank + 1)
    }

    /// Nodes that are heard and not in, and why they are not.
    pub(super) fn joiners(&self) -> Vec<Joiner> {
        let joiner = |contact: &Contact| Joiner {
            member: contact.member().clone(),
            since: contact.since(),
            missing: self.missing(contact.life()),
        };
        self.joining().map(joiner).collect()
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
            let known = self.contacts.get(&q.node).filter(|contact| contact.life() == q);
            return self.hears(q) && known.is_some_and(|contact| self.is_ripe(contact));
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
    fn conclude(&self) -> Lives {
        let mut view = self.view.clone();
        // What a member said before it fell silent is no consent: the dead are out first.
        if self.unheard().next().is_some() {
            return view;
        }
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
    /// heard here: else the view of one who has not heard of a verdict yet brings its dead back. Who
    /// waits follows only into a cluster that it hears as a whole: two newcomers that were cut off
    /// together would else bring each other in as each goes back to waiting, and be a cluster that
    /// nobody founded.
    fn follow(&self, waits: bool) -> Lives {
        let mut view = self.view.clone();
        for contact in self.contacts.values() {
            let Some(theirs) = contact.view() else { continue };
            // Most have the view that this node has, and then it is kept once.
            if std::ptr::eq(&raw const **theirs, self.view) {
                continue;
            }
            if theirs.get(&self.me.node) != Some(&self.me.incarnation)
                || !self.hears(contact.life())
                || (waits && !lives(theirs).all(|life| self.hears(life)))
            {
                continue;
            }
            for life in lives(theirs) {
                // One that has been mute still has this node in the view of its former life.
                let is_mute = self.mute.is_held_off(self.now, life.incarnation.run_of(life.node));
                if !view.contains_key(&life.node) && self.hears(life) && !is_mute {
                    view.insert(life.node, life.incarnation);
                }
            }
        }
        view
    }

    /// Members that are not heard.
    fn unheard(&self) -> impl Iterator<Item = Life> + '_ {
        lives(self.view).filter(|life| !self.hears(*life))
    }

    /// Why a life is not in: who does not hear whom.
    pub(super) fn missing(&self, life: Life) -> Vec<(NodeId, NodeId)> {
        /// So many pairs are enough to see what is wrong.
        const MOST: usize = 16;
        match self.group(life) {
            Some(group) => {
                let unheard = self.unheard().map(|other| (self.me, other));
                let deaf = unheard.chain(self.deaf(self.view, &group));
                deaf.take(MOST).map(|(p, q)| (p.node, q.node)).collect()
            }
            None => {
                let unheard = self.around(life).into_iter().filter(|other| !self.hears(*other));
                unheard.take(MOST).map(|other| (self.me.node, other.node)).collect()
            }
        }
    }

    /// The life, who is in its view, who is in theirs, as far as that is known.
    fn around(&self, life: Life) -> BTreeSet<Life> {
        let mut around = BTreeSet::new();
        let mut open = vec![life];
        while let Some(life) = open.pop() {
            if around.insert(life) {
                open.extend(self.view_of(life).into_iter().flat_map(lives));
            }
        }
        around
    }
}

/// The order in which members conclude: who has been there longest comes first, so that it changes
/// little as others come in. Clocks may differ; this is about patience, and about nothing else.
pub(super) fn seniority(life: &Life) -> (u64, NodeId) {
    (life.incarnation.started, life.node)
}

fn lives(lives: &Lives) -> impl Iterator<Item = Life> + '_ {
    lives.iter().map(|(node, incarnation)| life(*node, *incarnation))
}

fn life(node: NodeId, incarnation: Incarnation) -> Life {
    Life { node, incarnation }
}

#[cfg(test)]
mod tests {
    use super::{
        super::bench::{Told, contacts, id, life_map, member},
        *,
    };
    use std::time::Duration;

    /// What node 1 makes of what others have said; some time ago.
    struct Case {
        view: Lives,
        contacts: BTreeMap<NodeId, Contact>,
        fences: Fences,
        dialling: Dialling,
        mute: Mute,
        now: Instant,
    }

    fn case(view: &[u8], told: &[Told<'_>]) -> Case {
        let now = Instant::now();
        Case {
            view: life_map(view),
            contacts: contacts(now, told),
            fences: Fences::default(),
            dialling: Dialling::new(super::super::bench::TIMING.window, Duration::from_secs(60)),
            mute: Mute::default(),
            now,
        }
    }

    impl Case {
        fn known(&self) -> Known<'_> {
            Known {
                now: self.now,
                timing: &super::super::bench::TIMING,
                me: member(1).life(),
                view: &self.view,
                contacts: &self.contacts,
                fences: &self.fences,
                dialling: &self.dialling,
                mute: &self.mute,
            }
        }

        fn concluded(&self) -> Vec<u8> {
            self.known().conclude().keys().map(|node| node.key()[0]).collect()
        }

        fn followed(&self) -> Vec<u8> {
            self.known().follow(false).keys().map(|node| node.key()[0]).collect()
        }
    }

    fn joiner<'a>(node: u8, alone: &'a [u8], joining: &'a [u8]) -> Told<'a> {
        Told { joining, ..Told::of(node, alone) }
    }

    #[test]
    fn each_pair_of_the_would_be_members_has_to_hear_each_other() {
        let all = |lists: [&[u8]; 2]| {
            let told = [joiner(2, &[1, 2], lists[0]), joiner(3, &[3], lists[1])];
            case(&[1, 2], &told).concluded()
        };
        assert_eq!(all([&[3], &[1, 2]]), [1, 2, 3]);
        assert_eq!(all([&[], &[1, 2]]), [1, 2], "a member does not hear it");
        assert_eq!(all([&[3], &[1]]), [1, 2], "it does not hear a member");
        assert_eq!(all([&[3], &[2]]), [1, 2], "it does not hear this node");
    }

    #[test]
    fn nobody_comes_in_past_silence_or_a_fence() {
        let told = [joiner(2, &[1, 2], &[3]), joiner(3, &[3], &[1, 2])];
        let mut case = case(&[1, 2], &told);
        case.fences.raise(id(3), member(3).incarnation);
        assert_eq!(case.concluded(), [1, 2]);
        case.fences = Fences::default();
        case.now += Duration::from_secs(3);
        assert_eq!(case.concluded(), [1, 2], "nothing was heard for a window");
        // Of the joiner there is a word, of the member none.
        case.contacts.insert(
            id(3),
            contacts(case.now, &[joiner(3, &[3], &[1, 2])]).remove(&id(3)).expect("it is there"),
        );
        assert_eq!(case.concluded(), [1, 2]);
        assert_eq!(case.known().missing(member(3).life()), [(id(1), id(2))]);
    }

    #[test]
    fn whole_clusters_come_in_with_their_members_and_theirs() {
        let mut told = [
            joiner(2, &[1, 2], &[3, 4, 5]),
            joiner(3, &[3, 4], &[1, 2, 5]),
            joiner(4, &[3, 4, 5], &[1, 2]),
            joiner(5, &[3, 4, 5], &[1, 2]),
        ];
        assert_eq!(case(&[1, 2], &told).concluded(), [1, 2, 3, 4, 5]);
        told[3].joining = &[1];
        assert_eq!(case(&[1, 2], &told).concluded(), [1, 2]);
        let missing = case(&[1, 2], &told).known().missing(member(3).life());
        assert_eq!(missing, [(id(5), id(2))]);
        let missing = case(&[1, 2], &told[..3]).known().missing(member(3).life());
        assert_eq!(missing, [(id(1), id(5))], "it is not heard here at all");
    }

    #[test]
    fn two_that_come_at_once_come_together_or_one_after_the_other() {
        let told = [joiner(2, &[2], &[1, 3]), joiner(3, &[3], &[1, 2])];
        assert_eq!(case(&[1], &told).concluded(), [1, 2, 3]);
        let told = [joiner(2, &[2], &[1]), joiner(3, &[3], &[1, 2])];
        assert_eq!(case(&[1], &told).concluded(), [1, 2], "node 2 does not hear node 3 yet");
    }

    #[test]
    fn followed_is_who_holds_this_life_and_only_to_whom_is_heard_here() {
        let told = [joiner(2, &[1, 2, 3, 4], &[]), joiner(3, &[3], &[])];
        let mut case = case(&[1, 2], &told);
        assert_eq!(case.followed(), [1, 2, 3], "node 4 is not heard");
        case.fences.raise(id(3), member(3).incarnation);
        assert_eq!(case.followed(), [1, 2]);
        case.fences = Fences::default();
        let told = [joiner(2, &[2, 3], &[]), joiner(3, &[3], &[])];
        case.contacts = contacts(case.now, &told);
        assert_eq!(case.followed(), [1, 2], "it has put this node out");
        let told = [joiner(2, &[1, 2, 3], &[]), joiner(3, &[3], &[])];
        case.contacts = contacts(case.now - Duration::from_secs(3), &told[..1]);
        case.contacts.extend(contacts(case.now, &told[1..]));
        assert_eq!(case.followed(), [1, 2], "who is not heard is not followed");
    }

    #[test]
    fn who_waits_follows_only_into_a_cluster_that_it_hears_as_a_whole() {
        let told = [joiner(2, &[1, 2, 3], &[]), joiner(3, &[3], &[])];
        let all = case(&[1], &told);
        assert_eq!(all.known().follow(true).len(), 3);
        let some = case(&[1], &told[..1]);
        assert_eq!((some.known().follow(true).len(), some.known().follow(false).len()), (1, 2));
    }

    #[test]
    fn who_crashed_again_and_again_is_listed_after_a_heartbeat_and_taken_in_after_it() {
        let mut case = case(&[1], &[joiner(2, &[2], &[1])]);
        case.dialling.note_crash(case.now, id(2));
        assert_eq!((case.known().listed().count(), case.concluded()), (1, vec![1, 2]));
        case.dialling.note_crash(case.now, id(2));
        assert_eq!((case.known().listed().count(), case.concluded()), (0, vec![1]));
        assert_eq!(case.known().joining().count(), 1, "it is heard all the same");
        case.now += Duration::from_secs(1);
        assert_eq!((case.known().listed().count(), case.concluded()), (1, vec![1, 2]));
    }
}
