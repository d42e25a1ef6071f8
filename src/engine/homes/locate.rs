//! Where a child is: its home is asked when this node has heard nothing of it, and says so when it is
//! sure.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map},
    time::Instant,
};

use super::asker::EACH;
use crate::{
    engine::{
        core::{Core, Fault, News, Timer},
        io::Effect,
    },
    model::{
        child::Route,
        id::{ChildId, NodeId},
        message::{HomeWord, PeerMessage},
        quota::Quota,
    },
};

/// Questions of this node, and of others to this node as a home.
///
/// Questions are numbered: an answer to an earlier one says where a child is, but only an answer to a
/// later one that there is none.
#[derive(Debug, Default)]
pub(super) struct Locate {
    /// Children for which messages of this node wait, with the number of the last question before, and since
    /// when.
    open: BTreeMap<ChildId, (u64, Instant)>,
    /// Children that are watched here, with the number of the last question before, or of the last one to
    /// which the answer was that there is one. They are asked for until this node has heard of them, or they
    /// are said not to be.
    sought: BTreeMap<ChildId, u64>,
    /// How many questions were asked.
    questions: u64,
    /// Whether [`Timer::Locate`] is set.
    is_timed: bool,
    /// Who asked while this node was not sure, and the number of the question.
    askers: BTreeMap<ChildId, BTreeMap<NodeId, u64>>,
}

impl Locate {
    /// How many questions were asked: only answers to later ones say that there is no such child.
    pub(super) fn questions(&self) -> u64 {
        self.questions
    }

    /// Messages of this node wait for a child that nobody here has heard of.
    pub(super) fn locate(&mut self, core: &mut Core, child: ChildId) {
        if core.route(&child).is_some() {
            core.effects.push_back(Effect::Located { child, found: true });
        } else if let btree_map::Entry::Vacant(vacant) = self.open.entry(child.clone()) {
            vacant.insert((self.questions, core.now));
            self.ask(core, &child);
        }
    }

    /// Somebody watches a child that nobody here has heard of: answered as [`News::Sought`].
    pub(super) fn seek(&mut self, core: &mut Core, child: ChildId) {
        if let btree_map::Entry::Vacant(vacant) = self.sought.entry(child.clone()) {
            vacant.insert(self.questions);
            self.ask(core, &child);
        }
    }

    /// Nobody wants to know any more what was sought.
    pub(super) fn seek_no_more(&mut self, child: &ChildId) {
        self.sought.remove(child);
    }

    /// Asks a child's home where it is; again with each heartbeat while anybody wants to know.
    pub(super) fn ask(&mut self, core: &mut Core, child: &ChildId) {
        if let Some(home) = core.home(child) {
            self.questions += 1;
            let word = HomeWord::Locate { child: child.clone(), question: self.questions };
            core.send(home, PeerMessage::Home(word));
        }
        self.keep_asking(core);
    }

    /// Open questions are asked again with the next heartbeat.
    pub(super) fn keep_asking(&mut self, core: &mut Core) {
        if !self.is_timed {
            self.is_timed = true;
            core.timer(core.config.settings.heartbeat, Timer::Locate);
        }
    }

    /// A question or its answer may have been lost: asks anew for all for which messages wait, and all that
    /// are sought.
    pub(super) fn ask_again(&mut self, core: &mut Core) {
        let wanted: BTreeSet<ChildId> = self.wanted().cloned().collect();
        wanted.iter().for_each(|child| self.ask(core, child));
    }

    fn wanted(&self) -> impl Iterator<Item = &ChildId> {
        self.open.keys().chain(self.sought.keys())
    }

    /// The time to ask again has come: for all for which messages wait, all that are sought, and these others.
    pub(super) fn timer_passed(&mut self, core: &mut Core, others: impl Iterator<Item = ChildId>) {
        self.is_timed = false;
        self.give_up(core);
        let children: BTreeSet<ChildId> = self.wanted().cloned().chain(others).collect();
        children.iter().for_each(|child| self.ask(core, child));
    }

    /// Homes that have not answered for as long as a caller waits who has not said how long.
    fn give_up(&mut self, core: &mut Core) {
        let (now, patience) = (core.now, core.config.settings.send_timeout);
        self.open.retain(|child, (_, since)| {
            let is_over = now.saturating_duration_since(*since) >= patience;
            if is_over {
                core.effects.push_back(Effect::LocateOver { child: child.clone() });
            }
            !is_over
        });
    }

    /// A child's home says where it is; `None`: there is none.
    pub(super) fn located(
        &mut self,
        core: &mut Core,
        child: ChildId,
        question: u64,
        route: Option<Route>,
    ) {
        if let Some(since) = self.sought.get_mut(&child)
            && (route.is_some() || question > *since)
        {
            match route {
                // The home may not have heard yet that it was stopped, which this node has: it is asked again.
                Some(_) => *since = question.max(*since),
                None => drop(self.sought.remove(&child)),
            }
            core.news.push_back(News::Sought { child: child.clone(), route });
        }
        if let Some((since, _)) = self.open.get(&child)
            && (route.is_some() || question > *since)
        {
            self.open.remove(&child);
            core.effects.push_back(Effect::Located { child, found: route.is_some() });
        }
    }

    /// The view changed: who is not served here any more, or is out, is not answered.
    pub(super) fn reset(&mut self, core: &Core, quota: &mut Quota) {
        self.askers.retain(|child, askers| {
            let is_mine = core.is_home(child);
            askers.retain(|node, _| {
                let keep = is_mine && core.view.member(*node).is_some();
                if !keep {
                    quota.give(*node, bytes(core, *node, child));
                }
                keep
            });
            !askers.is_empty()
        });
    }

    /// Somebody asks where a child is: answered once that is sure. `is_ordered`: a start or a stop of it
    /// is under way. Who finds no room to wait asks again with the next heartbeat.
    pub(super) fn asked(
        &mut self,
        core: &mut Core,
        quota: &mut Quota,
        from: NodeId,
        child: ChildId,
        question: u64,
        is_ordered: bool,
    ) {
        let is_home = core.is_home(&child);
        if core.settled && !(is_ordered && is_home) {
            if is_home {
                let route = core.route(&child);
                core.send(from, PeerMessage::Home(HomeWord::Located { child, question, route }));
            }
            return;
        }
        if let Some(last) = self.askers.get_mut(&child).and_then(|askers| askers.get_mut(&from)) {
            *last = question.max(*last);
            return;
        }
        match quota.take(from, bytes(core, from, &child)) {
            Ok(()) => drop(self.askers.entry(child).or_default().insert(from, question)),
            Err(over) => core.fault(from, Fault::Quota, || over.to_string()),
        }
    }

    /// The view is settled: all who wait are answered, unless something is ordered.
    pub(super) fn serve(
        &mut self,
        core: &mut Core,
        quota: &mut Quota,
        is_ordered: impl Fn(&ChildId) -> bool,
    ) {
        let children: Vec<ChildId> = self.askers.keys().cloned().collect();
        for child in children {
            let is_ordered = is_ordered(&child);
            self.serve_one(core, quota, child, is_ordered);
        }
    }

    /// A child's order has ended: who asked meanwhile where it is hears that.
    pub(super) fn serve_one(
        &mut self,
        core: &mut Core,
        quota: &mut Quota,
        child: ChildId,
        is_ordered: bool,
    ) {
        for (from, question) in self.askers.remove(&child).unwrap_or_default() {
            quota.give(from, bytes(core, from, &child));
            self.asked(core, quota, from, child.clone(), question, is_ordered);
        }
    }
}

/// Bytes that are kept of a node's question.
fn bytes(core: &Core, from: NodeId, child: &ChildId) -> usize {
    if from == core.me.node { 0 } else { EACH + child.as_str().len() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::tests::{child, core, member},
        model::{child::Epoch, id::NodeRun},
    };

    /// A node that is alone, and so the home of all children.
    struct Bench {
        core: Core,
        quota: Quota,
        locate: Locate,
    }

    impl Bench {
        fn new(members: &[u8]) -> Self {
            Self { core: core(members), quota: Quota::new(1_000), locate: Locate::default() }
        }

        /// The questions and answers that were sent since this was asked last.
        fn words(&mut self) -> Vec<(ChildId, u64)> {
            let words = self.core.loopback.drain(..).map(|message| match message {
                PeerMessage::Home(
                    HomeWord::Locate { child, question }
                    | HomeWord::Located { child, question, .. },
                ) => (child, question),
                message => panic!("{message:?}"),
            });
            words.collect()
        }

        /// Who waits for messages to be sent was told this.
        fn located(&mut self) -> Vec<bool> {
            let effects = self.core.effects.drain(..);
            let located = effects.filter_map(|effect| match effect {
                Effect::Located { found, .. } => Some(found),
                _ => None,
            });
            located.collect()
        }

        fn asked(&mut self, from: NodeId, question: u64, is_ordered: bool) {
            let (core, quota) = (&mut self.core, &mut self.quota);
            self.locate.asked(core, quota, from, child(0), question, is_ordered);
        }
    }

    fn route(owner: NodeRun) -> Option<Route> {
        Some(Route { owner, epoch: Epoch { term: 1, attempt: 0 } })
    }

    #[test]
    fn an_earlier_answer_says_where_a_child_is_and_only_a_later_one_that_there_is_none() {
        let mut bench = Bench::new(&[1]);
        bench.locate.ask(&mut bench.core, &child(0));
        bench.locate.locate(&mut bench.core, child(0));
        assert_eq!(bench.words(), [(child(0), 1), (child(0), 2)]);
        bench.locate.locate(&mut bench.core, child(0));
        assert_eq!(bench.words(), [], "it is asked for");
        bench.locate.located(&mut bench.core, child(0), 1, None);
        assert_eq!(bench.located(), [] as [bool; 0]);
        bench.locate.located(&mut bench.core, child(0), 2, None);
        assert_eq!(bench.located(), [false]);
        bench.locate.locate(&mut bench.core, child(0));
        let me = bench.core.me;
        bench.locate.located(&mut bench.core, child(0), 1, route(me));
        assert_eq!(bench.located(), [true]);
        bench.locate.located(&mut bench.core, child(0), 9, None);
        assert_eq!(bench.located(), [] as [bool; 0], "it is told once");
    }

    #[test]
    fn what_is_watched_is_asked_for_until_its_home_answers_or_nobody_wants_to_know() {
        let mut bench = Bench::new(&[1]);
        let sought = |bench: &mut Bench| -> Vec<(ChildId, bool)> {
            let news = bench.core.news.drain(..).map(|news| match news {
                News::Sought { child, route } => (child, route.is_some()),
                news => panic!("{news:?}"),
            });
            news.collect()
        };
        for n in [0, 0, 1] {
            bench.locate.seek(&mut bench.core, child(n));
        }
        bench.locate.locate(&mut bench.core, child(0));
        assert_eq!(bench.words(), [(child(0), 1), (child(1), 2), (child(0), 3)]);
        bench.locate.seek_no_more(&child(1));
        let patience = bench.core.config.settings.send_timeout;
        bench.core.now += patience;
        bench.locate.timer_passed(&mut bench.core, std::iter::empty());
        assert_eq!(bench.words(), [(child(0), 4)], "longer than messages wait");
        bench.locate.located(&mut bench.core, child(0), 0, None);
        assert_eq!(sought(&mut bench), [], "it was asked before");
        bench.locate.located(&mut bench.core, child(0), 4, None);
        bench.locate.located(&mut bench.core, child(1), 4, None);
        assert_eq!(sought(&mut bench), [(child(0), false)]);
        assert!(bench.locate.sought.is_empty());
    }

    #[test]
    fn what_is_watched_and_said_to_be_there_is_asked_for_until_this_node_has_heard_of_it() {
        let mut bench = Bench::new(&[1]);
        let me = bench.core.me;
        bench.locate.seek(&mut bench.core, child(0));
        for question in 1..=3 {
            assert_eq!(bench.words(), [(child(0), question)]);
            bench.locate.located(&mut bench.core, child(0), question, route(me));
            assert_eq!(bench.core.news.drain(..).count(), 1);
            bench.locate.timer_passed(&mut bench.core, std::iter::empty());
        }
        bench.locate.located(&mut bench.core, child(0), 3, None);
        assert_eq!(bench.core.news.drain(..).count(), 0, "it was there when that was asked");
        bench.locate.located(&mut bench.core, child(0), 4, None);
        assert_eq!(bench.core.news.drain(..).count(), 1);
        bench.words();
        bench.locate.timer_passed(&mut bench.core, std::iter::empty());
        assert_eq!(bench.words(), []);
    }

    #[test]
    fn what_is_sought_is_asked_for_again_with_each_heartbeat_and_one_timer() {
        let mut bench = Bench::new(&[1]);
        for n in [0, 1] {
            bench.locate.locate(&mut bench.core, child(n));
        }
        bench.words();
        let heartbeat = bench.core.config.settings.heartbeat;
        for _ in 0..3 {
            bench.core.now += heartbeat;
            assert_eq!(bench.core.due_timer(), Some(Timer::Locate));
            assert_eq!(bench.core.due_timer(), None);
            bench.locate.timer_passed(&mut bench.core, [child(1), child(2)].into_iter());
            let asked: Vec<ChildId> = bench.words().into_iter().map(|(child, _)| child).collect();
            assert_eq!(asked, [0, 1, 2].map(child));
        }
    }

    #[test]
    fn a_question_waits_while_this_node_is_not_sure_and_is_answered_by_its_latest_number() {
        let mut bench = Bench::new(&[1]);
        let me = bench.core.me.node;
        bench.asked(me, 1, false);
        assert_eq!(bench.words(), [(child(0), 1)]);
        bench.asked(me, 2, true);
        bench.asked(me, 3, true);
        bench.asked(me, 2, true);
        assert_eq!(bench.words(), [], "a start or a stop is under way");
        bench.locate.serve_one(&mut bench.core, &mut bench.quota, child(0), false);
        assert_eq!(bench.words(), [(child(0), 3)]);
        bench.core.settled = false;
        bench.asked(me, 4, false);
        assert_eq!(bench.words(), [], "others may know better");
        bench.core.settled = true;
        bench.locate.serve(&mut bench.core, &mut bench.quota, |_| false);
        assert_eq!(bench.words(), [(child(0), 4)]);
    }

    #[test]
    fn questions_of_others_are_bounded_and_given_back_when_they_go() {
        let mut bench = Bench::new(&[1, 2]);
        bench.core.settled = false;
        let second = member(2).id;
        for n in 0..10 {
            let (core, quota) = (&mut bench.core, &mut bench.quota);
            bench.locate.asked(core, quota, second, child(n), 1, false);
        }
        let each = bytes(&bench.core, second, &child(0));
        assert_eq!(bench.locate.askers.len(), 1_000 / each);
        assert_eq!(bench.quota.used(second), 1_000 / each * each);
        bench.core.adopt(core(&[1]).view);
        bench.locate.reset(&bench.core, &mut bench.quota);
        assert!(bench.locate.askers.is_empty());
        assert_eq!(bench.quota.used(second), 0);
    }
}
