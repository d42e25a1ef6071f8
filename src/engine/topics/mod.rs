//! Which topics have subscribers on which nodes, so that what is published goes to no other.
//!
//! Each node tells all members what changes in its own set, and the version at which it stands: in each
//! digest interval, when a view is settled, and when a member is reached in another way, as words may be
//! lost. Who has an earlier version asks for what came after it. Nodes that never had a subscriber say
//! nothing. What this node tells is in `own`; what others have told it, in `others`.
//!
//! The set has a version, and what is published to a node names the version that its sender knew. So a
//! child that has just begun to listen there is given nothing that was sent before it did: it may have
//! had that where it was before.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

mod others;
mod own;

use self::{
    others::{Learned, Others},
    own::Own,
};
use super::core::Core;
use crate::model::{
    id::{NodeId, NodeRun},
    member::{Member, View},
    topic::{TopicChange, TopicWord},
};

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Output {
    /// Say this.
    Send { to: NodeId, word: TopicWord },
    /// The set of a run is another one.
    Changed { run: NodeRun, version: u64, changes: Vec<TopicChange> },
    /// Nothing is known of the set of a run any more.
    Forgotten { run: NodeRun },
    /// A member says that it has more topics than anybody may.
    TooMany { node: NodeId },
}

/// What the machine must know of its surroundings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Around<'a> {
    pub(crate) now: Instant,
    pub(crate) me: NodeRun,
    pub(crate) view: &'a View,
}

impl<'a> Around<'a> {
    pub(crate) fn of(core: &'a Core) -> Self {
        Self { now: core.now, me: core.me, view: &core.view }
    }

    fn others(&self) -> impl Iterator<Item = NodeRun> + 'a {
        let me = self.me;
        self.view.members.values().map(Member::run).filter(move |run| *run != me)
    }
}

/// A run was asked for what is missing of its set.
#[derive(Clone, Copy, Debug)]
struct Asked {
    when: Instant,
    /// The latest version that it has named.
    upto: u64,
}

/// The topics that have subscribers, here and elsewhere.
#[derive(Debug)]
pub(crate) struct Topics {
    own: Own,
    others: Others,
    /// Who was asked, and has not told everything yet.
    asked: BTreeMap<NodeRun, Asked>,
    /// The version that was told to all members last.
    told: u64,
    interval: Duration,
    /// When all are told the version again.
    again: Option<Instant>,
    out: VecDeque<Output>,
}

impl Topics {
    /// All are told the version in this interval.
    pub(crate) fn new(interval: Duration) -> Self {
        Self {
            own: Own::default(),
            others: Others::default(),
            asked: BTreeMap::new(),
            told: 0,
            interval,
            again: None,
            out: VecDeque::new(),
        }
    }

    pub(crate) fn next_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When [`go_on`](Self::go_on) is wanted at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.again
    }

    /// The set of this node has changed, or a child has begun to listen.
    pub(crate) fn change(&mut self, version: u64, changes: Vec<TopicChange>) {
        self.own.change(version, changes);
    }

    /// Tells what has changed since this was called last, and again what may be lost.
    pub(crate) fn go_on(&mut self, around: &Around<'_>) {
        if self.told < self.own.version() {
            let words = self.own.since(self.told);
            for run in around.others() {
                self.say_all(run, &words);
            }
            self.told = self.own.version();
            self.again = Some(around.now + self.interval);
        }
        if self.again.is_some_and(|at| at <= around.now) {
            self.again = Some(around.now + self.interval);
            self.settled(around);
        }
    }

    /// A word of a member.
    pub(crate) fn word(&mut self, now: Instant, from: NodeRun, word: TopicWord) {
        let is_digest = matches!(word, TopicWord::Digest { .. });
        let upto = match word {
            TopicWord::Digest { version } | TopicWord::All { version, .. } => version,
            TopicWord::Changes { upto, .. } => upto,
            TopicWord::Ask { .. } => 0,
        };
        let learned = match word {
            TopicWord::Ask { from: version } => {
                let words = self.own.since(version);
                return self.say_all(from, &words);
            }
            TopicWord::Digest { version } => match version > self.others.version(from) {
                true => Learned::Gap,
                false => Learned::Known,
            },
            TopicWord::Changes { from: since, upto, changes } => {
                self.others.change(from, since, upto, changes)
            }
            TopicWord::All { version, topics, at, more } => {
                self.others.part(from, version, topics, (at, more))
            }
        };
        match learned {
            Learned::Changed { version, changes } => {
                if self.asked.get(&from).is_some_and(|asked| asked.upto <= version) {
                    self.asked.remove(&from);
                }
                self.out.push_back(Output::Changed { run: from, version, changes });
            }
            Learned::Gap => self.ask(now, from, upto, is_digest),
            Learned::Known | Learned::Part => {}
            Learned::TooMany => self.out.push_back(Output::TooMany { node: from.node }),
        }
    }

    /// Asks a run for what is missing of its set, which it has at this version or later. Each word behind a
    /// gap finds it, and each answer may be the whole set: so it is asked again only when it tells its
    /// version, or when that should have been told.
    fn ask(&mut self, now: Instant, run: NodeRun, upto: u64, is_digest: bool) {
        if let Some(asked) = self.asked.get_mut(&run) {
            asked.upto = asked.upto.max(upto);
            if !is_digest && now < asked.when + self.interval {
                return;
            }
        }
        let upto = self.asked.get(&run).map_or(upto, |asked| asked.upto);
        self.asked.insert(run, Asked { when: now, upto });
        let from = self.others.asks_from(run);
        self.say(run, TopicWord::Ask { from });
    }

    /// There is another view.
    pub(crate) fn viewed(&mut self, around: &Around<'_>) {
        for run in self.others.retain(|run| around.view.is_live(run)) {
            self.out.push_back(Output::Forgotten { run });
        }
        self.asked.retain(|run, _| around.view.is_live(*run));
    }

    /// All members have adopted this view: from now on each of them hears this node.
    pub(crate) fn settled(&mut self, around: &Around<'_>) {
        let runs: Vec<NodeRun> = around.others().collect();
        runs.into_iter().for_each(|run| self.reached(run));
    }

    /// This member is reached, or in another way than before: words to it may be lost.
    pub(crate) fn reached(&mut self, run: NodeRun) {
        let version = self.own.version();
        if version > 0 {
            self.say(run, TopicWord::Digest { version });
        }
    }

    fn say_all(&mut self, run: NodeRun, words: &[TopicWord]) {
        words.iter().for_each(|word| self.say(run, word.clone()));
    }

    fn say(&mut self, run: NodeRun, word: TopicWord) {
        self.out.push_back(Output::Send { to: run.node, word });
    }
}

#[cfg(test)]
mod tests;
