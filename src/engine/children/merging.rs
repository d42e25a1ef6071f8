//! States that owners which gave way offer to children of this node: merged, or parked, and answered
//! when they are safe.

use super::{merges::Merges, table::Table};
use crate::{
    engine::{
        core::{Core, News, OtherHolder},
        io::ChildOrder,
    },
    model::{
        child::{Entry, Epoch, Taken},
        event::HubEvent,
        id::{ChildId, NodeRun},
        message::{HandoverWord, PeerMessage},
        parked::{ParkedInfo, ParkedKey},
    },
};

/// The owner that goes on, and the states that it is offered.
pub(super) struct Merging<'a> {
    pub(super) table: &'a mut Table,
    pub(super) merges: &'a mut Merges,
    pub(super) core: &'a mut Core,
}

/// The actor of a child has ended: what was to be merged into it is dropped, and offered again.
pub(super) fn forget(merges: &mut Merges, core: &mut Core, child: &ChildId) {
    for epoch in merges.forget(child) {
        core.order(ChildOrder::Discard { child: child.clone(), epoch });
    }
}

impl Merging<'_> {
    /// The state of an owner that gave way to this `life` arrived.
    pub(super) fn arrived(&mut self, from: NodeRun, child: &ChildId, epoch: Epoch, life: Epoch) {
        // It was offered again meanwhile; what becomes of it is told when it has ended.
        if self.merges.is_under_way(child, epoch) {
            return;
        }
        let discard = ChildOrder::Discard { child: child.clone(), epoch };
        let Some(instance) = self.table.instance(child) else {
            return self.core.order(discard);
        };
        // What was merged once and is merged again counts double: the answer was lost, not the state.
        if instance.owns() && instance.ownership().taken.contains(Taken { from, epoch }) {
            self.core.order(discard);
            return self.tell_taken(from, child, epoch);
        }
        // One that was offered to an actor that has ended since may be going on instead.
        let may = instance.is_running()
            && instance.ownership().born == life
            && self.core.is_live(from)
            && self.merges.begin(child, epoch, from);
        self.core.order(if may {
            ChildOrder::Merge { child: child.clone(), epoch }
        } else {
            // It is offered again until it is answered: one that is parked here when that is safe, any
            // other when this node's actor is free.
            discard
        });
    }

    /// The state of an owner that gave way was merged, or could not be.
    pub(super) fn merged(&mut self, child: &ChildId, epoch: Epoch, outcome: Result<(), String>) {
        if !self.merges.is_under_way(child, epoch) {
            return;
        }
        match outcome {
            Ok(()) => {
                let Some(from) = self.merges.end(child, epoch) else { return };
                self.answer(child, epoch, from);
                let key = ParkedKey { child: child.clone(), run: from, epoch };
                self.core.news.push_back(News::Merged { key });
                let (child, from) = (child.clone(), from.node);
                self.core.emit(HubEvent::DivergenceMerged { child, from });
            }
            Err(reason) => self.park(child, epoch, reason),
        }
    }

    /// Nobody merges this state: it is parked here. Who offered it is not answered before it is known to
    /// be on two nodes: this one may crash in that time.
    fn park(&mut self, child: &ChildId, epoch: Epoch, reason: String) {
        let Some(instance) = self.table.instance(child) else { return };
        let Some(from) = self.merges.park(child, epoch) else { return };
        let key = ParkedKey { child: child.clone(), run: from, epoch };
        let kind = instance.spec().kind().clone();
        let other = OtherHolder::Offers;
        self.core.news.push_back(News::Parks { key: key.clone(), other });
        self.core.order(ChildOrder::Park { key, kind, reason });
    }

    /// Tells who offered this state, and is not answered, that it is parked here: it parks it, too.
    pub(super) fn tell_parked(&mut self, info: &ParkedInfo) {
        let ParkedInfo { key, reason, at, .. } = info;
        if self.merges.parked(&key.child, key.epoch) == Some(key.run) {
            let (child, reason) = (key.child.clone(), reason.clone());
            let word = HandoverWord::Parks { child, epoch: key.epoch, reason, at: *at };
            self.core.send(key.run.node, PeerMessage::Handover(word));
        }
    }

    /// A state that nobody merged is safe without the owner that offered it.
    pub(super) fn parked(&mut self, key: &ParkedKey) {
        if self.merges.end_parked(key) {
            self.answer(&key.child, key.epoch, key.run);
        }
    }

    /// Answers the owner that offered this state.
    fn answer(&mut self, child: &ChildId, epoch: Epoch, from: NodeRun) {
        if let Some(instance) = self.table.instance_mut(child) {
            let registry = &self.core.registry;
            let theirs = registry.entries_of(child).find(|(run, _)| *run == from);
            let with = theirs.and_then(|(_, entry)| entry.ownership()).map(|own| own.taken.clone());
            instance.take_in(Taken { from, epoch }, &with.unwrap_or_default());
            // The entry is the answer; the word is only faster.
            if instance.is_running() || instance.offered().is_some() {
                self.core.write(child, Entry::Owned(instance.ownership().clone()));
            }
        }
        self.tell_taken(from, child, epoch);
    }

    fn tell_taken(&mut self, from: NodeRun, child: &ChildId, epoch: Epoch) {
        let word = HandoverWord::Taken { child: child.clone(), epoch };
        self.core.send(from.node, PeerMessage::Handover(word));
    }
}
