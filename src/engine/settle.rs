//! When a view may be acted on: all its members have adopted it, and their logs are here.

use std::collections::BTreeMap;

use super::core::{Core, Timer};
use crate::model::{
    id::{NodeId, NodeRun},
    member::ViewId,
    message::{PeerMessage, SyncWord},
};

/// Who has said In for which view, and at which version of its own log.
#[derive(Debug, Default)]
pub(crate) struct Settle {
    said: BTreeMap<NodeRun, (ViewId, u64)>,
    ticking: bool,
}

impl Settle {
    /// The view changed: says In for it, again and again until everybody has.
    pub(crate) fn adopted(&mut self, core: &mut Core) {
        self.said.retain(|run, _| core.view.is_live(*run));
        self.say(core, true);
        if !self.ticking {
            self.ticking = true;
            core.timer(core.config.settings.heartbeat, Timer::Settle);
        }
    }

    fn say(&self, core: &mut Core, wanted: bool) {
        let others: Vec<NodeRun> =
            core.view.members.values().map(|m| m.run()).filter(|run| *run != core.me).collect();
        for run in others {
            Self::say_to(core, run.node, wanted);
        }
    }

    fn say_to(core: &mut Core, to: NodeId, wanted: bool) {
        let word = SyncWord::In {
            view: core.view_id,
            version: core.registry.version(),
            wanted,
            kinds: core.config.kinds.keys().cloned().collect(),
        };
        core.send(to, PeerMessage::Sync(word));
    }

    /// A link stands again: what was said before may have been lost.
    pub(crate) fn linked(&self, core: &mut Core, run: NodeRun) {
        Self::say_to(core, run.node, !core.settled);
    }

    /// A member says In.
    pub(crate) fn heard(
        &mut self,
        core: &mut Core,
        from: NodeRun,
        view: ViewId,
        version: u64,
        wanted: bool,
    ) {
        if !core.view.is_live(from) {
            return;
        }
        self.said.insert(from, (view, version));
        if wanted && view == core.view_id {
            Self::say_to(core, from.node, false);
        }
    }

    /// Whether everybody is in and heard.
    pub(crate) fn is_complete(&self, core: &Core) -> bool {
        core.view.members.values().map(|m| m.run()).filter(|run| *run != core.me).all(|run| {
            self.said.get(&run).is_some_and(|(view, version)| {
                *view == core.view_id && core.registry.watermark(run) >= *version
            })
        })
    }

    /// The time to say it again has come.
    pub(crate) fn tick(&mut self, core: &mut Core, calls_open: bool) {
        self.ticking = false;
        if !core.settled {
            self.say(core, true);
        }
        if !core.settled || calls_open {
            self.ticking = true;
            core.timer(core.config.settings.heartbeat, Timer::Settle);
        }
    }

    /// Keeps the repeating timer going while something is unanswered.
    pub(crate) fn keep_ticking(&mut self, core: &mut Core) {
        if !self.ticking {
            self.ticking = true;
            core.timer(core.config.settings.heartbeat, Timer::Settle);
        }
    }
}
