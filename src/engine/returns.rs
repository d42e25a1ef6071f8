//! Nodes that come back after removals were forgotten, and what they ask before anybody acts.
//!
//! Each member names with its `In` the runs in the view that were away for longer than it remembers
//! removals, and those that are new to it while anybody is away: they may have been with that one. Who is
//! named asks everybody about its children, and about those that it knows from the logs of runs that are gone
//! ([`Doubt`]). Those that some member has known and nobody knows any more were stopped meanwhile: they are
//! retired. A child that started after the cut, or that somebody knows, goes on, and is told anew to who has
//! forgotten it; of children whose owner is gone the members decide, as others may know them by the same old
//! log. All wait for that before the view is settled: a child that is started anew meanwhile would end with
//! the one of before.
//!
//! [`Doubt`]: SyncWord::Doubt

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound::{Excluded, Unbounded},
    time::{Duration, Instant},
};

use super::{children::Children, core::Core};
use crate::model::{
    id::{ChildId, NodeRun},
    message::{Absence, Doubtful, PeerMessage, Recall, SyncWord, Watermark},
};

/// Children that one question is about.
const BATCH: usize = 512;
/// Absences that one member names.
const MOST_NAMED: usize = 1_024;
/// For how many suspicion windows a member is waited for that does not answer: what it was not heard of
/// lives.
const SILENT_WINDOWS: u32 = 2;
/// For how many a view waits for members that have come back: some may wait for others that are silent.
const BACK_WINDOWS: u32 = 6;

/// A child of which no member but this node says anything.
#[derive(Debug)]
struct Doubted {
    first: Watermark,
    since: Watermark,
    /// It is known by the word of a run that is gone, and not by this node's own.
    is_third: bool,
    /// Members that have known it, and do no more.
    forgotten: usize,
    /// Members that know it.
    known: usize,
    /// A member has never heard of it.
    is_unheard: bool,
    /// A member has not answered that may know it.
    is_spared: bool,
}

impl Doubted {
    /// Whether it goes on. A child that this node has does if anybody knows it. Of one whose owner is gone
    /// nobody has anything: it was stopped unless more know it, this node among them, than do no more.
    fn lives(&self) -> bool {
        let known_by_more =
            if self.is_third { self.known + 1 > self.forgotten } else { self.known > 0 };
        self.is_spared || known_by_more
    }

    /// Whether somebody does not know it who has to: what a node has written itself all have heard.
    fn is_missed(&self) -> bool {
        self.forgotten > 0 || self.is_spared || self.is_third && self.is_unheard
    }

    /// Whether it is to be asked who else knows it.
    fn is_open(&self) -> bool {
        self.is_missed() && (self.is_third || !self.lives())
    }
}

/// What one member is asked.
#[derive(Debug)]
struct Asked {
    batch: u64,
    /// The children of this batch. Empty: it has answered all.
    children: Vec<Doubtful>,
    since: Instant,
}

/// The questions of this node.
#[derive(Debug)]
struct Check {
    /// Which absences it is about.
    absences: Vec<Absence>,
    doubted: BTreeMap<ChildId, Doubted>,
    asked: BTreeMap<NodeRun, Asked>,
    /// Those who have named this node have answered: the others are asked about what is forgotten.
    is_second: bool,
}

impl Check {
    /// The next children that a member is asked about, behind this one.
    fn batch(&self, behind: Option<&ChildId>) -> Vec<Doubtful> {
        let behind = (behind.map_or(Unbounded, Excluded), Unbounded);
        let doubted = self.doubted.range::<ChildId, _>(behind);
        let open = doubted.filter(|(_, it)| !self.is_second || it.is_open());
        let doubtful = open.map(|(child, it)| Doubtful {
            child: child.clone(),
            first: it.first,
            since: it.since,
        });
        doubtful.take(BATCH).collect()
    }

    /// The children that somebody does not know, and whether they go on.
    fn missed(self) -> impl Iterator<Item = (ChildId, bool)> {
        let missed = self.doubted.into_iter().filter(|(_, it)| it.is_missed());
        missed.map(|(child, it)| (child, it.lives()))
    }
}

/// Absences in this view.
#[derive(Debug, Default)]
pub(crate) struct Returns {
    /// Those that each member has named.
    named: BTreeMap<NodeRun, Vec<Absence>>,
    /// Those of each member that it has asked about, by who has named them.
    asked: BTreeMap<NodeRun, Vec<Absence>>,
    check: Option<Check>,
    batches: u64,
    /// What this node says of itself has changed.
    news: bool,
}

impl Returns {
    /// There is another view: every question begins anew.
    pub(crate) fn viewed(&mut self, core: &Core) {
        self.named.retain(|run, _| core.is_live(*run));
        self.asked.retain(|run, _| core.is_live(*run));
        self.check = None;
    }

    /// A member says who was away, and what it has asked itself.
    pub(crate) fn said(
        &mut self,
        core: &mut Core,
        from: NodeRun,
        mut away: Vec<Absence>,
        mut asked: Vec<Absence>,
    ) {
        away.truncate(MOST_NAMED);
        asked.truncate(MOST_NAMED);
        for absence in asked.iter().filter(|absence| absence.run == core.me) {
            core.registry.away.is_over(from, absence.number);
        }
        self.named.insert(from, away);
        self.asked.insert(from, asked);
    }

    /// A member asks.
    pub(crate) fn doubted(core: &mut Core, from: NodeRun, batch: u64, children: &[Doubtful]) {
        let is_live = |run| core.is_live(run);
        let recalls = children.iter().take(BATCH);
        let recalls = recalls.map(|child| core.registry.recall(from, child, is_live));
        let word = SyncWord::Recalled { batch, recalls: recalls.collect() };
        core.send(from.node, PeerMessage::Sync(word));
    }

    /// A member answers.
    pub(crate) fn recalled(
        &mut self,
        core: &mut Core,
        from: NodeRun,
        batch: u64,
        recalls: &[Recall],
    ) {
        let Some(check) = &mut self.check else { return };
        let Some(asked) = check.asked.get_mut(&from).filter(|asked| asked.batch == batch) else {
            return;
        };
        let children = std::mem::take(&mut asked.children);
        // An answer that is too short says nothing of the rest.
        let recalls = recalls.iter().copied().chain(std::iter::repeat(Recall::Known));
        for (Doubtful { child, .. }, recall) in children.iter().zip(recalls) {
            let Some(doubted) = check.doubted.get_mut(child) else { continue };
            match recall {
                Recall::Known => doubted.known += 1,
                Recall::Forgotten => doubted.forgotten += 1,
                Recall::Never => doubted.is_unheard = true,
                Recall::Heard => {}
            }
        }
        if let Some(Doubtful { child, .. }) = children.last() {
            self.ask(core, from, Some(child));
        }
    }

    /// Whether everybody who came back has asked, and this node has its answers. Called while a view lacks
    /// nothing else: all that others say of children is here.
    pub(crate) fn is_over(
        &mut self,
        core: &mut Core,
        children: &mut Children,
        waited: Duration,
    ) -> bool {
        if self.check.is_none() {
            self.begin(core);
        }
        while self.check.as_ref().is_some_and(|it| it.asked.values().all(Asked::is_answered)) {
            self.go_on(core, children);
        }
        let patience = core.config.settings.suspicion_window() * BACK_WINDOWS;
        self.check.is_none() && (waited >= patience || self.awaited(core).is_empty())
    }

    /// Whether what this node says of itself has changed since it was asked last.
    pub(crate) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    /// Members of which it is not known yet which of their children were stopped while they were away; this
    /// node, too.
    pub(crate) fn awaited(&self, core: &Core) -> BTreeSet<NodeRun> {
        let own = core.registry.away.of(|run| core.is_live(run));
        let own = own.into_iter().map(|absence| (core.me, absence));
        let named = self.named.iter().flat_map(|(by, all)| all.iter().map(|it| (*by, *it)));
        let open = own.chain(named).filter(|(by, Absence { run, number })| {
            let is_asked = |it: &Absence| it.run == *by && it.number == *number;
            match *run == core.me {
                true => !core.registry.away.is_asked(*by, *number),
                false => {
                    core.is_live(*run)
                        && !self.asked.get(run).is_some_and(|asked| asked.iter().any(is_asked))
                }
            }
        });
        open.map(|(_, absence)| absence.run).collect()
    }

    /// Asks those who have named this node, if any has and was not asked.
    fn begin(&mut self, core: &mut Core) {
        let named = self.named.iter().flat_map(|(by, all)| all.iter().map(|it| (*by, *it)));
        let own = named
            .filter(|(by, it)| it.run == core.me && !core.registry.away.is_asked(*by, it.number));
        let absences: Vec<Absence> =
            own.map(|(run, Absence { number, .. })| Absence { run, number }).collect();
        if absences.is_empty() {
            return;
        }
        let doubtful = core.registry.doubtful(|run| core.is_live(run));
        let doubted = doubtful.map(|Doubtful { child, first, since }| {
            let is_third = since.log != core.me;
            // All that members say of it is here. Who says it of one of a third run knows it when asked.
            let is_known = !is_third
                && core
                    .registry
                    .entries_of(&child)
                    .any(|(run, _)| run != core.me && core.is_live(run));
            let doubted = Doubted {
                first,
                since,
                is_third,
                forgotten: 0,
                known: usize::from(is_known),
                is_unheard: false,
                is_spared: false,
            };
            (child, doubted)
        });
        let doubted = doubted.collect();
        let runs: Vec<NodeRun> = absences.iter().map(|absence| absence.run).collect();
        let asked = BTreeMap::new();
        self.check = Some(Check { absences, doubted, asked, is_second: false });
        runs.into_iter().for_each(|run| self.ask(core, run, None));
    }

    /// Asks a member about the children behind this one.
    fn ask(&mut self, core: &mut Core, run: NodeRun, behind: Option<&ChildId>) {
        let Some(check) = &mut self.check else { return };
        self.batches += 1;
        let (batch, children) = (self.batches, check.batch(behind));
        let asked = Asked { batch, children, since: core.now };
        asked.say(core, run);
        check.asked.insert(run, asked);
    }

    /// All who were asked have answered.
    fn go_on(&mut self, core: &mut Core, children: &mut Children) {
        let Some(check) = &mut self.check else { return };
        if !check.is_second {
            check.is_second = true;
            let members = core.view.members.values().map(|member| member.run());
            let others: Vec<NodeRun> =
                members.filter(|run| *run != core.me && !check.asked.contains_key(run)).collect();
            return others.into_iter().for_each(|run| self.ask(core, run, None));
        }
        let Some(check) = self.check.take() else { return };
        for Absence { run, number } in &check.absences {
            core.registry.away.ask_over(*run, *number);
        }
        self.news = true;
        for (child, lives) in check.missed() {
            let Core { registry, view, .. } = &mut *core;
            match lives {
                // Who has stopped it would not hear of it any more.
                true => drop(registry.say_anew(&child, |run| view.is_live(run))),
                false => children.retire(core, &child),
            }
        }
    }

    /// Asks again what was not answered, and goes on without those who have not answered for long.
    pub(crate) fn tick(&mut self, core: &mut Core) {
        let patience = core.config.settings.suspicion_window() * SILENT_WINDOWS;
        let Some(check) = &mut self.check else { return };
        for (run, asked) in &mut check.asked {
            if core.now.saturating_duration_since(asked.since) < patience {
                asked.say(core, *run);
                continue;
            }
            if let Some(Doubtful { child, .. }) = asked.children.first() {
                let rest = check.doubted.range_mut::<ChildId, _>(child..);
                // It may have forgotten them: they are told anew, and live.
                rest.for_each(|(_, it)| it.is_spared = true);
                asked.children.clear();
            }
        }
    }
}

impl Asked {
    fn is_answered(&self) -> bool {
        self.children.is_empty()
    }

    fn say(&self, core: &mut Core, to: NodeRun) {
        if !self.is_answered() {
            let (batch, children) = (self.batch, self.children.clone());
            core.send(to.node, PeerMessage::Sync(SyncWord::Doubt { batch, children }));
        }
    }
}
