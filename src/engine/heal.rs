//! Looks at one child after the registry changed: is a move committed or given up, does its
//! successor run, was it removed, and are there two live owners?
//!
//! Two owners meet when a split heals. The lower `born` goes on, then the lower `copied`, then
//! the higher epoch, then the lower node: an actor that lived on beats one that began anew. The
//! other is frozen and offers its state, and ends only when that was taken.

use std::{cmp::Reverse, time::Duration};

use super::{
    children::{Children, Instance, Phase},
    core::{Core, Timer},
    handover::{SourceInput, SourceStage, TargetInput},
    io::ChildOrder,
};
use crate::model::{
    child::{Entry, Epoch, Ownership, Route},
    event::HubEvent,
    id::{ChildId, NodeId, NodeRun},
    message::{HandoverWord, PeerMessage},
};

/// How often a yielding owner offers its state until it is taken.
const OFFER_EVERY: Duration = Duration::from_secs(2);

/// The order of owners that meet: the least goes on.
fn rank(run: NodeRun, ownership: &Ownership) -> (Epoch, Epoch, Reverse<Epoch>, NodeRun) {
    (ownership.born, ownership.copied, Reverse(ownership.epoch), run)
}

impl Children {
    /// Looks at one child after what is known of it changed.
    pub(crate) fn look(&mut self, core: &mut Core, child: &ChildId) {
        self.look_at_target(core, child);
        self.look_at_instance(core, child);
        self.want_again(child);
    }

    fn look_at_target(&mut self, core: &mut Core, child: &ChildId) {
        let Some(target) = self.targets.get(child) else { return };
        let (attempt, from) = (target.attempt, target.from);
        let removed =
            core.registry.owner(child).is_none() && core.registry.highest_epoch(child) >= attempt;
        let said = core.registry.entries_of(child).find(|(run, _)| *run == from);
        let input = match said {
            _ if removed => TargetInput::Aborted,
            Some((_, Entry::Moved { to, ownership }))
                if *to == core.me && ownership.epoch == attempt =>
            {
                if self.promised.contains_key(child) {
                    return;
                }
                TargetInput::Committed
            }
            Some((_, entry)) if entry.epoch() >= attempt => TargetInput::Aborted,
            // The source's entry may have been dropped as a higher one of another log stands.
            _ if core.registry.highest_epoch(child) > attempt => TargetInput::Aborted,
            _ => return,
        };
        self.target_step(core, child, &input);
    }

    fn look_at_instance(&mut self, core: &mut Core, child: &ChildId) {
        let Some(instance) = self.instances.get(child) else { return };
        let highest = core.registry.highest_epoch(child);
        let best =
            core.registry.best(child).map(|best| (best.owner, best.epoch, best.entry.clone()));
        let Some((owner, epoch, entry)) = best else { return };
        if let Phase::Moving(moving) = &instance.phase
            && moving.stage == SourceStage::Committed
        {
            let attempt = moving.ownership.epoch;
            let runs = matches!(entry, Entry::Owned(_)) && epoch >= attempt && owner == moving.to;
            if runs {
                self.source_step(core, child, &SourceInput::Opened);
            } else if epoch > attempt && owner != core.me {
                // Removed, taken over elsewhere, or already handed on by the successor.
                match entry {
                    Entry::Moved { .. } | Entry::Owned(_) if core.is_live(owner) => {
                        self.source_step(core, child, &SourceInput::Opened);
                    }
                    Entry::Removed { .. } => {
                        self.drop_move(core, child, "the child is stopped");
                        self.instances.remove(child);
                        core.order(ChildOrder::Stop { child: child.clone(), epoch: highest });
                    }
                    _ => {}
                }
            }
            return;
        }
        let mine = owner == core.me && !matches!(entry, Entry::Removed { .. });
        if matches!(instance.phase, Phase::Stopping) || mine || epoch < instance.ownership.epoch {
            return;
        }
        match entry {
            Entry::Removed { .. } => self.end(core, child),
            Entry::Owned(theirs) if owner != core.me && core.is_live(owner) && core.settled => {
                self.meet(core, child, owner, &theirs);
            }
            _ => {}
        }
    }

    /// Another live node owns the child too.
    fn meet(&mut self, core: &mut Core, child: &ChildId, other: NodeRun, theirs: &Ownership) {
        let Some(instance) = self.instances.get(child) else { return };
        let mine = rank(core.me, &instance.ownership) < rank(other, theirs);
        if matches!(instance.phase, Phase::Moving(_)) {
            self.source_step(core, child, &SourceInput::Overtaken("another node owns it too"));
        }
        let Some(instance) = self.instances.get_mut(child) else { return };
        if mine {
            instance.raise(theirs.epoch.next_term());
            let epoch = instance.ownership.epoch;
            core.write(child, Entry::Owned(instance.ownership.clone()));
            core.order(ChildOrder::Thaw { child: child.clone(), epoch });
            return;
        }
        match instance.phase {
            Phase::Starting(_) => self.end(core, child),
            Phase::Running | Phase::Yielding { .. } => {
                let epoch = instance.ownership.epoch;
                let again = matches!(&instance.phase, Phase::Yielding { to } if *to == other);
                instance.phase = Phase::Yielding { to: other };
                if !again {
                    core.order(ChildOrder::SendDiverged { child: child.clone(), epoch, to: other });
                    core.timer(OFFER_EVERY, Timer::Yield(child.clone(), epoch));
                }
            }
            Phase::Moving(_) | Phase::Stopping => {}
        }
    }

    /// A yielding owner has heard nothing: it offers its state again, to whoever owns it now.
    pub(crate) fn yield_again(&mut self, core: &mut Core, child: &ChildId, epoch: Epoch) {
        let Some(Instance { phase: Phase::Yielding { to }, ownership, .. }) =
            self.instances.get_mut(child)
        else {
            return;
        };
        if ownership.epoch != epoch {
            return;
        }
        if let Some((owner, _)) = core.registry.owner(child)
            && owner != core.me
            && core.is_live(owner)
        {
            *to = owner;
            core.order(ChildOrder::SendDiverged { child: child.clone(), epoch, to: owner });
        }
        core.timer(OFFER_EVERY, Timer::Yield(child.clone(), epoch));
    }

    /// The state of an owner that gave way arrived. Whether it is going to be merged, as it can be if
    /// it `may`; that is told when it has ended.
    pub(crate) fn diverged(
        &mut self,
        core: &mut Core,
        child: &ChildId,
        epoch: Epoch,
        may: bool,
    ) -> bool {
        let running = self
            .instances
            .get(child)
            .is_some_and(|instance| matches!(instance.phase, Phase::Running));
        let merges = running && may;
        let order = if merges {
            ChildOrder::Merge { child: child.clone(), epoch }
        } else {
            // It is offered again when this node's actor is at rest.
            ChildOrder::Discard { child: child.clone(), epoch }
        };
        core.order(order);
        merges
    }

    /// The state of an owner that gave way was merged, or could not be.
    pub(crate) fn merged(
        &mut self,
        core: &mut Core,
        child: &ChildId,
        epoch: Epoch,
        from: Option<NodeId>,
        outcome: Result<(), String>,
    ) {
        let Some(from) = from else { return };
        let parked = outcome.err();
        if let Some(reason) = parked.clone() {
            core.order(ChildOrder::Park { child: child.clone(), epoch });
            core.emit(HubEvent::StateParked { child: child.clone(), reason });
        } else {
            core.emit(HubEvent::DivergenceMerged { child: child.clone(), from });
        }
        let word = HandoverWord::Merged { child: child.clone(), epoch, parked };
        core.send(from, PeerMessage::Handover(word));
    }

    /// The owner that goes on has taken this node's state.
    pub(crate) fn yielded(
        &mut self,
        core: &mut Core,
        from: NodeRun,
        child: &ChildId,
        epoch: Epoch,
    ) {
        let Some(Instance { phase: Phase::Yielding { .. }, ownership, .. }) =
            self.instances.get(child)
        else {
            return;
        };
        if ownership.epoch != epoch {
            return;
        }
        let route =
            core.registry.owner(child).map_or(Route { owner: from, epoch }, |(owner, theirs)| {
                Route { owner, epoch: theirs.epoch }
            });
        self.instances.remove(child);
        core.order(ChildOrder::MovedAway {
            child: child.clone(),
            to: route.owner,
            epoch: route.epoch,
        });
        core.order(ChildOrder::End { child: child.clone() });
        core.emit(HubEvent::DivergenceYielded { child: child.clone(), to: from.node });
    }
}
