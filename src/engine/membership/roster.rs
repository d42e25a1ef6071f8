//! Whom this node knows: itself, the members, and everybody whom it hears or has a link to.

use std::{collections::BTreeMap, time::Instant};

use super::{
    bounds::described, contact::Contact, outputs::Outputs, pace::Pace, timing::Timing, turn::Turn,
    voice::Voice,
};
use crate::model::{
    id::{Incarnation, Life, NodeId, NodeRun},
    member::{Member, MemberState, View},
    message::MemberWord,
    tags::LISTED,
};

/// The view, and the contacts. The view holds this node, and of others only contacts.
///
/// After a call that changes what is in the view, [`moved`](Self::moved) is due before anything else
/// is judged.
#[derive(Clone, Debug)]
pub(super) struct Roster {
    me: NodeId,
    view: View,
    contacts: BTreeMap<NodeId, Contact>,
}

/// What was learned of a node that described itself anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Learned {
    /// It is in a later life of the same run.
    pub(super) is_back: bool,
    /// Where it is now, if that is not where it was.
    pub(super) moved_to: Option<Vec<String>>,
    /// It is a member, so that the view has moved.
    pub(super) is_member: bool,
    /// It is one, and whether it takes children has changed.
    pub(super) turn: Option<Turn>,
}

/// A node that is no contact any more.
#[derive(Clone, Debug)]
pub(super) struct Forgotten {
    pub(super) member: Member,
    /// It was a member, so that the view has moved.
    pub(super) was_in: bool,
}

impl Roster {
    /// This node alone.
    pub(super) fn new(me: Member) -> Self {
        let (id, view) = (me.id, View { members: BTreeMap::from([(me.id, me)]) });
        Self { me: id, view, contacts: BTreeMap::new() }
    }

    pub(super) fn id(&self) -> NodeId {
        self.me
    }

    pub(super) fn me(&self) -> &Member {
        self.view.members.get(&self.me).expect("a view holds its own node from the start")
    }

    pub(super) fn incarnation(&self) -> Incarnation {
        self.me().incarnation
    }

    pub(super) fn view(&self) -> &View {
        &self.view
    }

    pub(super) fn is_member(&self, node: NodeId) -> bool {
        self.view.members.contains_key(&node)
    }

    pub(super) fn contacts(&self) -> &BTreeMap<NodeId, Contact> {
        &self.contacts
    }

    pub(super) fn contact(&self, node: NodeId) -> Option<&Contact> {
        self.contacts.get(&node)
    }

    /// The contact, if it is known in this run.
    pub(super) fn contact_of(&self, run: NodeRun) -> Option<&Contact> {
        self.contact(run.node).filter(|contact| contact.run() == run)
    }

    pub(super) fn contact_mut(&mut self, node: NodeId) -> Option<&mut Contact> {
        self.contacts.get_mut(&node)
    }

    pub(super) fn contacts_mut(&mut self) -> impl Iterator<Item = (NodeId, &mut Contact)> {
        self.contacts.iter_mut().map(|(node, contact)| (*node, contact))
    }

    /// The members, and all who are told of them.
    pub(super) fn telling(
        &mut self,
    ) -> (&BTreeMap<NodeId, Member>, impl ExactSizeIterator<Item = (&NodeId, &mut Contact)>) {
        (&self.view.members, self.contacts.iter_mut())
    }

    /// Contacts that are no members.
    pub(super) fn outsiders(&self) -> impl Iterator<Item = (NodeId, &Contact)> {
        let outside = |(node, _): &(&NodeId, &Contact)| !self.view.members.contains_key(*node);
        self.contacts.iter().filter(outside).map(|(node, contact)| (*node, contact))
    }

    /// Where this contact says that it is.
    pub(super) fn addresses_of(&self, node: NodeId) -> Vec<String> {
        self.contact(node).map(|contact| contact.member().addresses.clone()).unwrap_or_default()
    }

    /// Who Hellos name. Newcomers are among them, unless this node `waits` itself: they learn of each
    /// other where they come in, so that they need not do so one by one.
    pub(super) fn others(&self, waits: bool) -> Vec<Member> {
        let others = self.view.members.values().filter(|member| member.id != self.me);
        let joining = self.outsiders().map(|(_, contact)| contact.member()).filter(|_| !waits);
        others.chain(joining).take(LISTED).cloned().map(described).collect()
    }

    /// Who says that it does not hear this member, this node included.
    pub(super) fn deaf_to(
        &self,
        now: Instant,
        timing: &Timing,
        node: NodeId,
    ) -> impl Iterator<Item = NodeId> + '_ {
        let life = self.view.members.get(&node).map(Member::life);
        let deaf = move |contact: &&Contact| {
            life.is_some_and(|life| contact.votes_against(life)) && contact.life().node != node
        };
        let hears = self.contact(node).is_some_and(|contact| contact.is_heard(now, timing));
        let me = (life.is_some() && !hears).then_some(self.me);
        self.contacts.values().filter(deaf).map(|contact| contact.life().node).chain(me)
    }

    /// A node becomes a contact.
    pub(super) fn meet(&mut self, now: Instant, member: Member, is_linked: bool) {
        self.contacts.insert(member.id, Contact::met(now, member, is_linked));
    }

    /// A contact comes in.
    pub(super) fn admit(&mut self, node: NodeId) -> Option<&Member> {
        let member = self.contacts.get(&node)?.member().clone();
        self.view.members.insert(node, member);
        self.view.members.get(&node)
    }

    /// A contact describes itself, or somebody tells how it did; `None` if nothing is new.
    pub(super) fn learn(&mut self, told: &Member) -> Option<Learned> {
        let contact = self.contacts.get_mut(&told.id)?;
        let before = contact.describe(told)?;
        let told = contact.member();
        let mut learned = Learned {
            is_back: before.incarnation != told.incarnation,
            moved_to: (before.addresses != told.addresses).then(|| told.addresses.clone()),
            is_member: false,
            turn: None,
        };
        if let Some(member) = self.view.members.get_mut(&told.id) {
            let is_leaving = told.state == MemberState::Leaving;
            let state = match (is_leaving, member.state) {
                (true, _) => MemberState::Leaving,
                (false, MemberState::Suspect) => MemberState::Suspect,
                (false, _) => MemberState::Alive,
            };
            learned.is_member = true;
            let now = Member { state, ..told.clone() };
            learned.turn = Turn::between(member, &now);
            *member = now;
        }
        Some(learned)
    }

    /// Who does not hear, or is not heard, is suspect. Whose state changed, and whether it is now.
    pub(super) fn regard(&mut self, now: Instant, timing: &Timing) -> Vec<(NodeId, bool)> {
        let mut changed = Vec::new();
        for (node, member) in &mut self.view.members {
            let Some(contact) = self.contacts.get(node) else { continue };
            let is_suspicious = contact.is_suspicious(now, timing);
            match (is_suspicious, member.state) {
                (true, MemberState::Alive) => member.state = MemberState::Suspect,
                (false, MemberState::Suspect) => member.state = MemberState::Alive,
                _ => continue,
            }
            changed.push((*node, is_suspicious));
        }
        changed
    }

    /// Outsiders that are heard, and for so long not in that this is to be told again.
    pub(super) fn take_delayed(&mut self, now: Instant, timing: &Timing) -> Vec<Life> {
        let members = &self.view.members;
        self.contacts
            .iter_mut()
            .filter(|(node, contact)| !members.contains_key(*node) && contact.is_heard(now, timing))
            .filter_map(|(_, contact)| contact.is_delayed(now, timing).then(|| contact.life()))
            .collect()
    }

    /// This node describes itself otherwise from now on.
    pub(super) fn change_me(&mut self, change: impl FnOnce(&mut Member)) {
        if let Some(me) = self.view.members.get_mut(&self.me) {
            change(me);
            me.revision += 1;
        }
    }

    /// A node is no contact any more, and no member.
    pub(super) fn forget(&mut self, node: NodeId) -> Option<Forgotten> {
        let member = self.contacts.remove(&node)?.member().clone();
        let was_in = self.view.members.remove(&node).is_some();
        Some(Forgotten { member, was_in })
    }

    /// Nobody but this node is in any more. The contacts stay.
    pub(super) fn withdraw(&mut self) {
        let me = self.me;
        self.view.members.retain(|node, _| *node == me);
    }

    /// What is in the view has changed: what follows in this call goes by the new one.
    pub(super) fn moved(&self, voice: &mut Voice, out: &mut Outputs, pace: &mut Pace) {
        out.announce();
        pace.news();
        voice.has_news();
        // How a member describes itself may have changed without a change of the view.
        out.regarded();
        if voice.set_view(&self.view) {
            out.view_changed();
        }
    }

    pub(super) fn send_to_all(&self, word: &MemberWord, out: &mut Outputs) {
        for to in self.contacts.keys() {
            out.send(*to, word.clone());
        }
    }

    /// When something about a contact is judged otherwise by time alone.
    pub(super) fn deadline(&self, now: Instant, timing: &Timing) -> Option<Instant> {
        let contacts = self.contacts.values().filter_map(|c| c.deadline(now, timing));
        let delayed = self.outsiders().map(|(_, contact)| contact.delay_told_at(timing));
        let steady = self.outsiders().map(|(_, contact)| contact.since() + timing.heartbeat);
        contacts.chain(delayed.chain(steady).filter(|at| *at > now)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            bench::{SECOND, TIMING, id, member},
            outputs::MemberOutput,
        },
        *,
    };

    /// Node 1, with 2 as a member and 3 as an outsider, both met at `now`.
    fn roster(now: Instant) -> Roster {
        let mut roster = Roster::new(member(1));
        roster.meet(now, member(2), true);
        roster.meet(now, member(3), true);
        assert_eq!(roster.admit(id(2)), Some(&member(2)));
        roster
    }

    fn members(roster: &Roster) -> Vec<NodeId> {
        roster.view().members.keys().copied().collect()
    }

    #[test]
    fn only_contacts_come_in_and_who_is_forgotten_is_out() {
        let mut roster = roster(Instant::now());
        assert!(roster.admit(id(4)).is_none() && !roster.is_member(id(3)));
        assert_eq!(roster.forget(id(2)).map(|gone| gone.was_in), Some(true));
        assert_eq!(roster.forget(id(3)).map(|gone| gone.was_in), Some(false));
        assert!(roster.forget(id(2)).is_none() && roster.contacts().is_empty());
        assert_eq!(members(&roster), [id(1)]);
    }

    #[test]
    fn who_withdraws_is_alone_in_its_view_and_knows_whom_it_knew() {
        let mut roster = roster(Instant::now());
        roster.withdraw();
        assert_eq!((members(&roster), roster.contacts().len()), (vec![id(1)], 2));
        assert_eq!(roster.outsiders().count(), 2);
    }

    #[test]
    fn what_a_member_says_of_itself_is_in_the_view_and_what_an_outsider_says_is_not() {
        let mut roster = roster(Instant::now());
        for n in [2, 3] {
            let (is_member, addresses) = (n == 2, vec!["/memory/9".to_owned()]);
            let state = MemberState::Leaving;
            let told = Member { revision: 1, state, addresses: addresses.clone(), ..member(n) };
            let learned = Learned {
                is_back: false,
                moved_to: Some(addresses),
                is_member,
                turn: is_member.then_some(Turn::Leaves),
            };
            assert_eq!(roster.learn(&told), Some(learned));
            assert_eq!(roster.learn(&told), None, "that is known");
            assert_eq!(roster.view().member(id(n)), is_member.then_some(&told));
            let told = Member { revision: 2, ..told };
            let learned = Learned { is_back: false, moved_to: None, is_member, turn: None };
            assert_eq!(roster.learn(&told), Some(learned), "it leaves on");
            let (revision, incarnation) = (3, Incarnation { started: 101, nonce: u64::from(n) });
            let learned = roster.learn(&Member { revision, incarnation, ..told });
            assert_eq!(learned.map(|learned| learned.is_back), Some(true));
        }
        assert_eq!(roster.learn(&member(4)), None, "nobody knows it");
    }

    #[test]
    fn a_suspect_stays_one_whatever_it_says_and_one_that_leaves_is_not_called_suspect() {
        let now = Instant::now();
        let mut roster = roster(now);
        let later = now + TIMING.window;
        assert_eq!(roster.regard(later - SECOND, &TIMING), []);
        assert_eq!(roster.regard(later, &TIMING), [(id(2), true)], "outsiders are no suspects");
        assert_eq!(roster.regard(later, &TIMING), [], "that is told once");
        let state = |roster: &Roster| roster.view().member(id(2)).map(|member| member.state);
        assert!(roster.learn(&Member { revision: 1, ..member(2) }).is_some());
        assert_eq!(state(&roster), Some(MemberState::Suspect));
        assert_eq!(roster.regard(now, &TIMING), [(id(2), false)]);
        let leaving = Member { revision: 2, state: MemberState::Leaving, ..member(2) };
        assert!(roster.learn(&leaving).is_some_and(|learned| learned.turn == Some(Turn::Leaves)));
        assert_eq!(roster.regard(later, &TIMING), []);
        assert_eq!(state(&roster), Some(MemberState::Leaving));
    }

    #[test]
    fn hellos_name_outsiders_unless_this_node_waits_and_suspects_as_alive() {
        let now = Instant::now();
        let mut roster = roster(now);
        roster.regard(now + TIMING.window, &TIMING);
        assert_eq!(roster.others(false), [member(2), member(3)]);
        assert_eq!(roster.others(true), [member(2)]);
    }

    #[test]
    fn an_outsider_that_is_heard_is_delayed_after_a_while_and_again() {
        let now = Instant::now();
        let mut roster = roster(now);
        let at = now + TIMING.join_timeout;
        let mut delayed = |now: Instant| {
            roster.contacts_mut().for_each(|(_, contact)| contact.excuse(now));
            roster.take_delayed(now, &TIMING)
        };
        assert_eq!(delayed(at - SECOND), []);
        assert_eq!(delayed(at), [member(3).life()]);
        assert_eq!(delayed(at + SECOND), []);
        assert_eq!(delayed(at + TIMING.join_timeout), [member(3).life()]);
        let silent = at + 3 * TIMING.join_timeout;
        assert_eq!(roster.take_delayed(silent, &TIMING), [], "nothing comes of it");
    }

    #[test]
    fn a_view_that_moves_is_announced_told_and_judged_by() {
        let now = Instant::now();
        let mut roster = roster(now);
        let mut voice = Voice::new(now, SECOND, roster.me(), &Roster::new(member(1)).view);
        let (mut out, mut pace) = (Outputs::default(), Pace::new(now));
        let mut moved = |roster: &Roster| {
            assert!(pace.take_news());
            out.begin();
            roster.moved(&mut voice, &mut out, &mut pace);
            out.close(|| MemberOutput::Renewed);
            assert_eq!(voice.view_id(), roster.view().id());
            std::iter::from_fn(|| out.next()).collect::<Vec<_>>()
        };
        assert_eq!(moved(&roster), [MemberOutput::Renewed, MemberOutput::ViewChanged]);
        roster.change_me(|me| me.addresses.clear());
        assert_eq!(roster.me().revision, 1);
        // Addresses are no part of what is agreed.
        assert_eq!(moved(&roster), [MemberOutput::Renewed, MemberOutput::Regarded]);
    }
}
