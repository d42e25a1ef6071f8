//! Who is reached in another way than before is told again what may have been lost.

use crate::{
    engine::{
        children::Children, core::Core, homes::Homes, io::Effect, membership::Membership,
        parked::Parked, settle::Settle, sync::Sync, topics::Topics, ways::Ways,
    },
    model::id::NodeRun,
};

/// The machines that say again what may have been lost.
#[derive(Debug)]
pub(crate) struct ToldAgain<'a> {
    pub(crate) core: &'a mut Core,
    pub(crate) membership: &'a mut Membership,
    pub(crate) ways: &'a mut Ways,
    pub(crate) sync: &'a mut Sync,
    pub(crate) settle: &'a mut Settle,
    pub(crate) homes: &'a mut Homes,
    pub(crate) children: &'a mut Children,
    pub(crate) parked: &'a mut Parked,
    pub(crate) topics: &'a mut Topics,
}

impl ToldAgain<'_> {
    /// Looks how everybody is reached now.
    pub(crate) fn refresh(&mut self) {
        let core = &mut *self.core;
        let now = self.ways.refresh(core.now, self.membership, &core.view, core.me.node);
        for (to, by) in now.paths {
            core.effects.push_back(Effect::Path { to, by });
        }
        let before = std::mem::replace(&mut core.reachable, now.reachable);
        // States may find a way again while words have gone the same way all along.
        let again: Vec<NodeRun> = core.reachable.difference(&before).copied().collect();
        for run in again.into_iter().filter(|run| !now.words.iter().any(|(other, _)| other == run))
        {
            self.children.reached(core, run);
            self.parked.reached(run);
        }
        for (run, way) in now.words {
            self.children.link_lost(core, run);
            if way.is_some() {
                self.sync.reached(core.now, run.node, &core.registry);
                self.settle.reached(core, run);
                self.homes.reached(core, run);
                self.children.reached(core, run);
                self.parked.reached(run);
                self.topics.reached(run);
            }
        }
    }
}
