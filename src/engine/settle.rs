//! When a view may be acted on: all its members have adopted it, and their logs are here.
//!
//! Each counts the views that it has adopted, and an `In` counts only if it answers to the current
//! count of who hears it. Else a view that is the same as an earlier one (a node came in and left
//! again) would be taken for settled by what was said in the earlier stay, while others are in the
//! view between.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::core::{Core, Timer};
use crate::model::{
    id::{NodeId, NodeRun},
    member::ViewId,
    message::{PeerMessage, SyncWord},
};

/// After how many suspicion windows it is told that a view is not settled; and again each time.
const TOLD_WINDOWS: u32 = 3;

/// What a member said last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said {
    pub(crate) view: ViewId,
    /// Its own count of views.
    pub(crate) adopted: u64,
    /// The count of this node that it answered to.
    pub(crate) echo: u64,
    pub(crate) version: u64,
}

/// Who has said In for which view, and at which version of its own log.
#[derive(Debug, Default)]
pub(crate) struct Settle {
    said: BTreeMap<NodeRun, Said>,
    /// How many views this node has adopted.
    adopted: u64,
    since: Option<Instant>,
    told: u32,
    ticking: bool,
}

impl Settle {
    /// The view changed: says In for it, again and again until everybody has.
    pub(crate) fn adopted(&mut self, core: &mut Core) {
        self.said.retain(|run, _| core.view.is_live(*run));
        self.adopted += 1;
        (self.since, self.told) = (Some(core.now), 0);
        for run in others(core) {
            self.say(core, run);
        }
        self.keep_ticking(core);
    }

    fn say(&self, core: &mut Core, to: NodeRun) {
        let word = SyncWord::In {
            view: core.view_id,
            adopted: self.adopted,
            echo: self.said.get(&to).map_or(0, |said| said.adopted),
            version: core.registry.version(),
            wanted: !self.is_in(core, to),
            kinds: core.config.kinds.keys().cloned().collect(),
        };
        core.send(to.node, PeerMessage::Sync(word));
    }

    /// A member is reached again, or in another way: what was said before may have been lost.
    pub(crate) fn reached(&self, core: &mut Core, run: NodeRun) {
        self.say(core, run);
    }

    /// A member says In.
    pub(crate) fn heard(&mut self, core: &mut Core, from: NodeRun, said: Said, wanted: bool) {
        if !core.view.is_live(from) {
            return;
        }
        let before = self.said.insert(from, said);
        let is_news = before.is_none_or(|before| before.adopted != said.adopted);
        // It waits for an answer to its count, or has not heard this node's own yet. Two that wait
        // for each other do not answer each other's answers for ever: each count is news once.
        if is_news || (wanted && self.is_in(core, from)) {
            self.say(core, from);
        }
    }

    fn is_in(&self, core: &Core, run: NodeRun) -> bool {
        self.said
            .get(&run)
            .is_some_and(|said| said.view == core.view_id && said.echo == self.adopted)
    }

    /// Whether everybody is in and heard.
    pub(crate) fn is_complete(&self, core: &Core) -> bool {
        others(core).all(|run| {
            self.is_in(core, run)
                && self.said.get(&run).is_some_and(|s| core.registry.watermark(run) >= s.version)
        })
    }

    /// Members that have not said In for this view, and members whose log is not here yet.
    pub(crate) fn missing(&self, core: &Core) -> Vec<Missing> {
        let missing = |run: NodeRun| {
            if !self.is_in(core, run) {
                return Some(Missing::In(run.node));
            }
            let said = self.said.get(&run)?;
            (core.registry.watermark(run) < said.version).then_some(Missing::Log(run.node))
        };
        others(core).filter_map(missing).collect()
    }

    /// For how long the view has not been settled.
    pub(crate) fn waited(&self, core: &Core) -> Duration {
        if core.settled {
            return Duration::ZERO;
        }
        self.since.map_or(Duration::ZERO, |since| core.now.saturating_duration_since(since))
    }

    /// The time to say it again has come. Whether it is time to tell that the view is not settled.
    pub(crate) fn tick(&mut self, core: &mut Core, calls_open: bool) -> bool {
        self.ticking = false;
        if !core.settled {
            for run in others(core) {
                if !self.is_in(core, run) {
                    self.say(core, run);
                }
            }
        }
        if !core.settled || calls_open {
            self.keep_ticking(core);
        }
        let patience = core.config.settings.suspicion_window() * TOLD_WINDOWS;
        let is_due = self.waited(core) >= patience * (self.told + 1);
        if is_due {
            self.told += 1;
        }
        is_due
    }

    /// Keeps the repeating timer going while something is unanswered.
    pub(crate) fn keep_ticking(&mut self, core: &mut Core) {
        if !self.ticking {
            self.ticking = true;
            core.timer(core.config.settings.heartbeat, Timer::Settle);
        }
    }
}

/// What a view that is not settled waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// This member has not said that it is in the same view.
    In(NodeId),
    /// This member's log is not here up to where it stands.
    Log(NodeId),
}

fn others(core: &Core) -> impl Iterator<Item = NodeRun> + use<> {
    let runs: Vec<NodeRun> =
        core.view.members.values().map(|m| m.run()).filter(|run| *run != core.me).collect();
    runs.into_iter()
}
