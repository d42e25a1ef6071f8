//! Views: what membership wants and says, what a view means for each machine when it is adopted, and
//! when it is settled.

use std::collections::BTreeSet;

use crate::{
    engine::{
        applies::Applies,
        children::Children,
        core::Core,
        homes::Homes,
        io::Effect,
        membership::{MemberOutput, Membership},
        met::MetRuns,
        parked::{Around, Parked},
        probation::Probation,
        relay,
        rescan::Rescan,
        returns::Returns,
        roll_call::Rolls,
        settle::Settle,
        sync::Sync,
        topics::{self, Topics},
        watches::Watches,
        ways::Ways,
    },
    model::{
        id::{NodeId, NodeRun},
        member::{Member, View},
        message::PeerMessage,
    },
};

/// The machines for which a view means something.
#[derive(Debug)]
pub(crate) struct Views<'a> {
    pub(crate) core: &'a mut Core,
    pub(crate) membership: &'a mut Membership,
    pub(crate) probation: &'a mut Probation,
    pub(crate) ways: &'a mut Ways,
    pub(crate) met: &'a mut MetRuns,
    pub(crate) sync: &'a mut Sync,
    pub(crate) settle: &'a mut Settle,
    pub(crate) returns: &'a mut Returns,
    pub(crate) homes: &'a mut Homes,
    pub(crate) children: &'a mut Children,
    pub(crate) rolls: &'a mut Rolls,
    pub(crate) parked: &'a mut Parked,
    pub(crate) applies: &'a mut Applies,
    pub(crate) topics: &'a mut Topics,
    pub(crate) watches: &'a mut Watches,
    pub(crate) rescan: &'a mut Rescan,
}

impl Views<'_> {
    /// Carries out what membership wants.
    pub(crate) fn carry_out(&mut self, output: MemberOutput) {
        let effects = &mut self.core.effects;
        match output {
            MemberOutput::Send { to, word } => {
                effects.push_back(Effect::Send { to, message: PeerMessage::Member(word) });
            }
            MemberOutput::Probe { to, word } => {
                effects.push_back(Effect::Probe { to, message: PeerMessage::Member(word) });
            }
            MemberOutput::Greet { to, word } => {
                let message = PeerMessage::Member(word);
                let effect = match self.core.linked.contains(&to) {
                    true => Some(Effect::Send { to: to.node, message }),
                    false => relay::greet(self.membership, self.core.me, to, message),
                };
                effects.extend(effect);
            }
            MemberOutput::Connect { node, addresses } => {
                effects.push_back(Effect::Connect { node, addresses });
            }
            MemberOutput::Silent { node, addresses } => {
                effects.push_back(Effect::Silent { node, addresses });
            }
            MemberOutput::Disconnect { node, reason } => {
                effects.push_back(Effect::Disconnect { node, reason });
            }
            MemberOutput::Announce { me, known, fenced } => {
                effects.push_back(Effect::Announce { me, known, fenced });
            }
            MemberOutput::Event(event) => self.core.emit(event),
            MemberOutput::Gone { run, left } => {
                self.met.told(run);
                effects.push_back(Effect::Gone { run, left });
                if left {
                    self.core.registry.gone(run.node);
                }
                self.core.forgive(run.node);
            }
            MemberOutput::ViewChanged | MemberOutput::Regarded => self.adopt(),
            MemberOutput::Reached => self.ways.may_differ(),
            // The log goes on under the same run, and membership tells the event.
            MemberOutput::Renewed => self.core.synced = false,
            MemberOutput::Gates { valid } => effects.push_back(Effect::Gates { valid }),
        }
    }

    /// Takes membership's view over: with the same members, or others.
    pub(crate) fn adopt(&mut self) {
        self.ways.may_differ();
        let view = self.membership.view().clone();
        if view.id() == self.core.view_id {
            self.core.adopt(view);
            // Somebody may be heard again.
            self.parked.viewed(&Around::of(self.core));
        } else {
            self.change(view);
        }
    }

    fn change(&mut self, view: View) {
        if self.membership.is_waiting() {
            self.probation.clear();
        }
        let before = std::mem::take(&mut self.core.view);
        self.core.adopt(view);
        self.core.settled = false;
        self.core.see_returns(&before);
        self.returns.viewed(self.core);
        let view = &self.core.view;
        if joins(self.core.me.node, &before, view) {
            self.core.synced = false;
        }
        let changed = changed(&before, view);
        self.rolls.reset();
        for node in changed {
            self.children.peer_changed(self.core, node);
        }
        self.parked.viewed(&Around::of(self.core));
        self.applies.viewed(self.core);
        self.topics.viewed(&topics::Around::of(self.core));
        self.homes.reset(self.core);
        self.watches.viewed(self.core, self.homes, &before);
        self.settle.adopted(self.core, self.membership.patience());
        let members: Vec<NodeRun> = self.core.view.members.values().map(Member::run).collect();
        for run in members {
            self.met.meet(run);
            ask_for_gone(self.core, self.settle, self.sync, run);
        }
    }

    /// Whether this node may act on the view from now on.
    pub(crate) fn may_settle(&mut self) -> bool {
        let lacks_nothing = !self.core.settled
            && !self.membership.is_waiting()
            && self.core.config.partition.may_act(&self.core.view)
            && self.settle.is_complete(self.core);
        if !lacks_nothing {
            return false;
        }
        let waited = self.settle.waited(self.core);
        let settles = self.returns.is_over(self.core, self.children, waited);
        if self.returns.take_news() {
            self.settle.say_again(self.core);
        }
        settles
    }

    /// Everybody has adopted the view, and their logs are here.
    pub(crate) fn settled(&mut self) {
        let core = &mut *self.core;
        core.settled = true;
        core.synced = true;
        core.registry.away.settled();
        self.met.tell_gone(core);
        self.membership.settled(core.now);
        for run in core.view.members.values().map(Member::run) {
            self.membership.is_not_mute(run);
        }
        self.parked.settled(&Around::of(core));
        self.topics.settled(&topics::Around::of(core));
        self.homes.serve(core);
        core.touched.extend(self.children.successors().cloned());
        self.rescan.begin(self.children);
        self.rescan.go_on(core, self.children, self.rolls);
    }
}

/// Whether this node was alone and joins nodes that have been there for longer. It had settled on its
/// own registry; theirs counts.
fn joins(me: NodeId, before: &View, now: &View) -> bool {
    let began = now.member(me).map(|me| me.incarnation.started);
    let is_elder = |member: &Member| Some(member.incarnation.started) < began;
    before.members.len() <= 1 && now.members.values().any(is_elder)
}

/// Nodes that are another run, or do something else, in one of these views than in the other.
fn changed(before: &View, now: &View) -> BTreeSet<NodeId> {
    let members = before.members.values().chain(now.members.values());
    let differs = |member: &&Member| {
        let is_same = |other: &Member| {
            other.run() == member.run()
                && other.state == member.state
                && other.draining == member.draining
        };
        [before, now].iter().any(|view| !view.member(member.id).is_some_and(is_same))
    };
    members.filter(differs).map(|member| member.id).collect()
}

/// Asks a member for what it has of the logs of those who are gone.
pub(super) fn ask_for_gone(core: &Core, settle: &Settle, sync: &mut Sync, member: NodeRun) {
    if !core.settled {
        for mark in settle.lacking(core, member) {
            sync.lacks(core.now, member.node, mark, core.config.settings.heartbeat);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        id::{Incarnation, NodeName},
        member::MemberState,
    };

    fn node(n: u8) -> NodeId {
        NodeId::from_key([n; 32])
    }

    fn member(n: u8, started: u64) -> Member {
        Member {
            id: node(n),
            incarnation: Incarnation { started, nonce: started },
            name: NodeName::new(format!("node-{n}")).expect("a plain word"),
            addresses: Vec::new(),
            weight: 1,
            state: MemberState::Alive,
            draining: false,
            labels: Default::default(),
            revision: 0,
        }
    }

    fn view(members: &[Member]) -> View {
        View { members: members.iter().map(|m| (m.id, m.clone())).collect() }
    }

    #[test]
    fn who_was_alone_and_finds_an_elder_joins_it() {
        let (elder, younger) = (member(1, 5), member(2, 9));
        let both = view(&[elder.clone(), younger.clone()]);
        let alone = view(&[younger]);
        assert!(joins(node(2), &alone, &both));
        assert!(joins(node(2), &View::default(), &both));
        assert!(!joins(node(1), &view(&[elder]), &both), "the other one is younger");
        assert!(!joins(node(2), &both, &both), "it was not alone");
        assert!(!joins(node(2), &View::default(), &alone));
    }

    #[test]
    fn who_came_went_restarted_or_does_something_else_has_changed() {
        let all: Vec<Member> = (1..=6).map(|n| member(n, 5)).collect();
        let mut now = all.clone();
        now[1] = member(2, 6);
        now[2].state = MemberState::Leaving;
        now[3].draining = true;
        now[4] = Member { weight: 7, revision: 3, ..all[4].clone() };
        now[5] = member(7, 5);
        let changed = changed(&view(&all), &view(&now));
        assert_eq!(changed, [2, 3, 4, 6, 7].map(node).into());
    }
}
