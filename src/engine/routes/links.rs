//! Links: one stands, or is gone; and which machines reckon with it.

use crate::{
    engine::{core::Core, membership::Membership, met::MetRuns, sync::Sync, ways::Ways},
    model::{access::AccessList, id::NodeRun, member::Hello},
};

/// The machines that know of links.
#[derive(Debug)]
pub(crate) struct Links<'a> {
    pub(crate) core: &'a mut Core,
    pub(crate) access: &'a mut AccessList,
    pub(crate) membership: &'a mut Membership,
    pub(crate) ways: &'a mut Ways,
    pub(crate) met: &'a mut MetRuns,
    pub(crate) sync: &'a mut Sync,
}

impl Links<'_> {
    /// One stands; both Hellos were exchanged. `local`: see [`Event::Linked`](crate::engine::io::Event::Linked).
    pub(crate) fn stands(&mut self, hello: Hello, local: bool) {
        if !self.access.admits(hello.me.id) {
            // It was let in before it was blocked, and is being closed.
            return;
        }
        let run = hello.me.run();
        self.ways.linked(run, local);
        self.met.meet(run);
        // Also one that is no contact yet, as its node's last run seems to live: it comes in over this link,
        // and who were told before that it is out would send nothing over it.
        self.core.linked.insert(run);
        self.membership.linked(self.core.now, hello);
    }

    /// One is gone.
    pub(crate) fn gone(&mut self, run: NodeRun) {
        let now = self.core.now;
        self.ways.unlinked(run);
        self.core.linked.remove(&run);
        self.membership.unlinked(now, run);
        self.sync.unlinked(now, run.node);
        self.met.tell_gone(self.core);
    }
}
