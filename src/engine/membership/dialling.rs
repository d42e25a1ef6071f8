//! Nodes that are no contacts and are dialled: because somebody named them, or because they went
//! down and may come back.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::outputs::Outputs;
use crate::model::{
    id::{NodeId, NodeRun},
    member::Member,
    message::LostNode,
    tags::LISTED,
};

/// At most this many nodes of each kind.
pub(super) const LIMIT: usize = 1_024;
/// As long as no more are lost, one is added of which others tell: they leave room for those that this
/// node loses itself.
const GOSSIP_LIMIT: usize = LIMIT / 2;
/// For how many suspicion windows a node that somebody named is dialled before it is forgotten; it
/// is dialled again when it is named again.
const NAMED_WINDOWS: u32 = 10;
/// After so many suspicion windows without another crash a node is steady again.
const STEADY_WINDOWS: u32 = 10;

#[derive(Clone, Debug)]
struct Dialled {
    /// As it described itself last.
    member: Member,
    since: Instant,
}

/// A node that went down.
#[derive(Clone, Debug)]
struct Lost {
    dialled: Dialled,
    /// Higher than that of all that were lost before.
    number: u64,
    /// This node has lost it itself, and knows better than others.
    is_mine: bool,
}

/// Nodes that are dialled and are no contacts.
#[derive(Clone, Debug)]
pub(super) struct Dialling {
    window: Duration,
    forget_after: Duration,
    named: BTreeMap<NodeId, Dialled>,
    lost: BTreeMap<NodeId, Lost>,
    /// The number of the one that was lost last; 0 before the first.
    lost_last: u64,
    /// How often in a row nodes ended without a word, and when last.
    crashes: BTreeMap<NodeId, (u32, Instant)>,
}

impl Dialling {
    pub(super) fn new(window: Duration, forget_after: Duration) -> Self {
        Self {
            window,
            forget_after,
            named: BTreeMap::new(),
            lost: BTreeMap::new(),
            lost_last: 0,
            crashes: BTreeMap::new(),
        }
    }

    /// Somebody names a node. Whether it has to be dialled, at other addresses than before.
    pub(super) fn name(&mut self, now: Instant, told: &Member) -> bool {
        let known = self.named.get(&told.id);
        let is_news = match known {
            Some(known) => {
                let known = &known.member;
                told.incarnation > known.incarnation || told.addresses != known.addresses
            }
            None => self.named.len() < LIMIT,
        };
        if !is_news || told.addresses.is_empty() {
            return false;
        }
        let dial = known.is_none_or(|known| known.member.addresses != told.addresses);
        let since = known.map_or(now, |known| known.since);
        self.named.insert(told.id, Dialled { member: told.clone(), since });
        dial
    }

    /// A node went down: it is dialled for a long time, so that a split heals whoever comes back
    /// first. `false`: there is no room, or no address.
    fn lose(&mut self, since: Instant, member: Member, is_mine: bool) -> bool {
        let has_room = self.lost.len() < LIMIT || self.lost.contains_key(&member.id);
        let takes = has_room && !member.addresses.is_empty();
        if takes {
            self.lost_last += 1;
            let (node, number) = (member.id, self.lost_last);
            self.lost.insert(node, Lost { dialled: Dialled { member, since }, number, is_mine });
        }
        takes
    }

    /// The same, and dials it.
    pub(super) fn dial_lost(&mut self, now: Instant, member: &Member, out: &mut Outputs) {
        if self.lose(now, member.clone(), true) {
            out.connect(member.id, member.addresses.clone());
        }
    }

    /// Somebody else tells of a node that went down. Whether it has to be dialled, which ends when it
    /// does there.
    pub(super) fn hear_of_lost(&mut self, now: Instant, told: LostNode) -> bool {
        let known = self.lost.get(&told.member.id);
        let is_news = known.is_none_or(|known| {
            !known.is_mine && told.member.incarnation > known.dialled.member.incarnation
        });
        let has_room = known.is_some() || self.lost.len() < GOSSIP_LIMIT;
        let ago = Duration::from_millis(told.ago);
        if !is_news || !has_room || ago >= self.forget_after {
            return false;
        }
        // Where time begins with the machine it may not go back so far.
        let since = now.checked_sub(ago).unwrap_or(now);
        self.lose(since, told.member, false)
    }

    /// The number of the node that was lost last; 0 if none ever was.
    pub(super) fn lost_last(&self) -> u64 {
        self.lost_last
    }

    /// The nodes that were lost after the one with this number, at most [`LISTED`].
    pub(super) fn lost_after(&self, now: Instant, number: u64) -> Vec<LostNode> {
        let lost = self.lost.values().filter(|lost| lost.number > number).take(LISTED);
        lost.map(|Lost { dialled, .. }| {
            let ago = now.saturating_duration_since(dialled.since).as_millis();
            let ago = u64::try_from(ago).unwrap_or(u64::MAX);
            LostNode { member: dialled.member.clone(), ago }
        })
        .collect()
    }

    /// Whether the node is dialled.
    pub(super) fn holds(&self, node: NodeId) -> bool {
        self.named.contains_key(&node) || self.lost.contains_key(&node)
    }

    /// It was met. Where it was dialled.
    pub(super) fn met(&mut self, node: NodeId) -> Option<Vec<String>> {
        let lost = self.lost.remove(&node).map(|lost| lost.dialled);
        self.named.remove(&node).or(lost).map(|dialled| dialled.member.addresses)
    }

    /// A member ended without a word.
    pub(super) fn note_crash(&mut self, now: Instant, node: NodeId) {
        if self.crashes.len() >= LIMIT {
            let recent = self.window * STEADY_WINDOWS;
            self.crashes.retain(|_, (_, at)| now.saturating_duration_since(*at) < recent);
        }
        if self.crashes.len() < LIMIT {
            let before = if self.is_recent(now, node) { self.crashes[&node].0 } else { 0 };
            self.crashes.insert(node, (before + 1, now));
        }
    }

    /// Whether the node crashed more than once lately.
    pub(super) fn is_unsteady(&self, now: Instant, node: NodeId) -> bool {
        self.is_recent(now, node) && self.crashes.get(&node).is_some_and(|(count, _)| *count > 1)
    }

    fn is_recent(&self, now: Instant, node: NodeId) -> bool {
        let crash = self.crashes.get(&node);
        crash.is_some_and(|(_, at)| {
            now.saturating_duration_since(*at) < self.window * STEADY_WINDOWS
        })
    }

    /// Nodes that were not met within `patience`: greeted by way of others. Of whom one was put out
    /// it may hear in no other way that its life is over here.
    pub(super) fn unmet(
        &self,
        now: Instant,
        patience: Duration,
    ) -> impl Iterator<Item = NodeRun> + '_ {
        self.named
            .values()
            .chain(self.lost.values().map(|lost| &lost.dialled))
            .filter(move |dialled| now.saturating_duration_since(dialled.since) >= patience)
            .map(|dialled| dialled.member.run())
    }

    /// Forgets whoever was not met for long; they are dialled no more.
    pub(super) fn forget_old(&mut self, now: Instant) -> Vec<NodeId> {
        let mut old = take_older(&mut self.named, now, self.window * NAMED_WINDOWS, |named| named);
        old.extend(take_older(&mut self.lost, now, self.forget_after, |lost| &lost.dialled));
        old.retain(|node| !self.lost.contains_key(node) && !self.named.contains_key(node));
        old
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let named = self.named.values().map(|named| named.since + self.window * NAMED_WINDOWS);
        named.chain(self.lost.values().map(|lost| lost.dialled.since + self.forget_after)).min()
    }

    #[cfg(test)]
    pub(super) fn named_addresses(&self) -> Vec<usize> {
        self.named.values().map(|named| named.member.addresses.len()).collect()
    }
}

fn take_older<T>(
    nodes: &mut BTreeMap<NodeId, T>,
    now: Instant,
    age: Duration,
    dialled: fn(&T) -> &Dialled,
) -> Vec<NodeId> {
    let mut old = Vec::new();
    nodes.retain(|node, it| {
        let keep = now.saturating_duration_since(dialled(it).since) < age;
        if !keep {
            old.push(*node);
        }
        keep
    });
    old
}

#[cfg(test)]
mod tests {
    use super::{
        super::bench::{SECOND, id, member},
        *,
    };

    const WINDOW: Duration = Duration::from_secs(3);

    fn dialling() -> Dialling {
        Dialling::new(WINDOW, 100 * SECOND)
    }

    #[test]
    fn a_named_node_is_dialled_at_each_new_address_until_it_is_met_or_forgotten() {
        let now = Instant::now();
        let mut dialling = dialling();
        assert!(dialling.name(now, &member(2)) && !dialling.name(now, &member(2)));
        let moved = Member { addresses: vec!["/memory/9".to_owned()], ..member(2) };
        assert!(dialling.name(now, &moved) && dialling.holds(id(2)));
        assert_eq!(dialling.deadline(), Some(now + WINDOW * NAMED_WINDOWS));
        let mut met = dialling.clone();
        assert_eq!(met.met(id(2)), Some(moved.addresses));
        assert!(!met.holds(id(2)) && met.deadline().is_none());
        assert!(dialling.forget_old(now + WINDOW).is_empty());
        assert_eq!(dialling.forget_old(now + WINDOW * NAMED_WINDOWS), [id(2)]);
        let nowhere = Member { addresses: vec![], ..member(3) };
        assert!(!dialling.name(now, &nowhere) && !dialling.holds(id(3)));
    }

    #[test]
    fn a_lost_node_is_dialled_for_long_also_when_it_was_named_too() {
        let now = Instant::now();
        let mut dialling = dialling();
        let lost = member(2);
        assert!(dialling.lose(now, lost.clone(), true));
        dialling.name(now, &lost);
        assert!(dialling.forget_old(now + WINDOW * NAMED_WINDOWS).is_empty());
        assert_eq!(dialling.forget_old(now + 100 * SECOND), [id(2)]);
        assert!(!dialling.lose(now, Member { addresses: vec![], ..lost }, true));
    }

    fn told(n: u8, seconds_ago: u64) -> LostNode {
        LostNode { member: member(n), ago: seconds_ago * 1_000 }
    }

    #[test]
    fn what_was_lost_is_told_once_and_forgotten_everywhere_at_the_same_time() {
        let now = Instant::now() + 100 * SECOND;
        let mut first = dialling();
        assert_eq!((first.lost_last(), first.lost_after(now, 0)), (0, vec![]));
        first.lose(now, member(2), true);
        first.lose(now + 10 * SECOND, member(3), true);
        let now = now + 40 * SECOND;
        assert_eq!(first.lost_after(now, 0), [told(2, 40), told(3, 30)]);
        assert_eq!((first.lost_last(), first.lost_after(now, 1)), (2, vec![told(3, 30)]));
        let mut second = dialling();
        for lost in first.lost_after(now, 0) {
            assert!(second.hear_of_lost(now, lost.clone()) && !second.hear_of_lost(now, lost));
        }
        assert_eq!(second.lost_after(now, 0), first.lost_after(now, 0));
        for dialling in [&mut first, &mut second] {
            assert_eq!(dialling.forget_old(now + 60 * SECOND), [id(2)]);
            assert_eq!(dialling.forget_old(now + 70 * SECOND), [id(3)]);
        }
    }

    #[test]
    fn of_what_was_lost_long_ago_or_in_a_later_life_one_does_not_hear_again() {
        let now = Instant::now() + 100 * SECOND;
        let mut dialling = dialling();
        assert!(!dialling.hear_of_lost(now, told(2, 100)) && !dialling.holds(id(2)));
        assert!(!dialling.hear_of_lost(now, LostNode { ago: u64::MAX, ..told(2, 0) }));
        assert!(dialling.hear_of_lost(now, told(2, 99)));
        let mut later = told(2, 1);
        later.member.incarnation.started += 1;
        assert!(dialling.hear_of_lost(now, later.clone()));
        assert!(!dialling.hear_of_lost(now, told(2, 1)));
        assert_eq!(dialling.lost_after(now, 0), [later]);
    }

    #[test]
    fn who_was_named_and_not_met_in_time_is_greeted_in_the_run_that_was_named() {
        let now = Instant::now();
        let mut dialling = dialling();
        dialling.name(now, &member(2));
        assert_eq!(dialling.unmet(now, SECOND).count(), 0);
        let greeted: Vec<NodeRun> = dialling.unmet(now + SECOND, SECOND).collect();
        assert_eq!(greeted, [member(2).run()]);
        dialling.lose(now, member(3), true);
        let greeted: Vec<NodeRun> = dialling.unmet(now + SECOND, SECOND).collect();
        assert_eq!(greeted, [member(2).run(), member(3).run()], "and who was put out");
    }

    #[test]
    fn two_crashes_in_ten_windows_make_a_node_unsteady_and_ten_quiet_ones_steady() {
        let now = Instant::now();
        let mut dialling = dialling();
        dialling.note_crash(now, id(2));
        assert!(!dialling.is_unsteady(now, id(2)));
        dialling.note_crash(now + SECOND, id(2));
        assert!(dialling.is_unsteady(now + SECOND, id(2)) && !dialling.is_unsteady(now, id(3)));
        let later = now + SECOND + WINDOW * STEADY_WINDOWS;
        assert!(!dialling.is_unsteady(later, id(2)));
        dialling.note_crash(later, id(2));
        assert!(!dialling.is_unsteady(later, id(2)), "it counts from the beginning");
    }

    #[test]
    fn lost_nodes_of_which_others_tell_leave_room_for_those_that_this_node_loses_itself() {
        let now = Instant::now();
        let mut dialling = dialling();
        for n in 0..2_000_u32 {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&n.to_be_bytes());
            let member = Member { id: NodeId::from_key(key), ..member(2) };
            dialling.hear_of_lost(now, LostNode { member, ago: 0 });
        }
        assert_eq!(dialling.lost.len(), GOSSIP_LIMIT);
        assert!(dialling.lose(now, member(2), true), "there is room for it");
        let mut later = told(2, 0);
        later.member.incarnation.started += 1;
        later.member.addresses = vec!["/memory/9".to_owned()];
        assert!(!dialling.hear_of_lost(now, later), "and nobody says where that one is");
    }

    #[test]
    fn no_more_than_so_many_are_kept() {
        let now = Instant::now();
        let mut dialling = dialling();
        for n in 0..2_000_u32 {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&n.to_be_bytes());
            let told = Member { id: NodeId::from_key(key), ..member(2) };
            dialling.name(now, &told);
            dialling.note_crash(now, told.id);
            dialling.lose(now, told, true);
        }
        let kept = (dialling.named.len(), dialling.lost.len(), dialling.crashes.len());
        assert_eq!(kept, (LIMIT, LIMIT, LIMIT));
        dialling.note_crash(now + WINDOW * STEADY_WINDOWS, id(2));
        assert_eq!(dialling.crashes.len(), 1, "old ones give way");
    }
}
