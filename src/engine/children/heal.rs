//! Looks at one child after the registry changed, and carries out what the table of
//! [`divergence`](super::divergence) says: is a move committed or given up, does its successor run,
//! was it removed, and are there two live owners?

use std::time::Duration;

use super::{
    Children, Instance, Phase,
    divergence::{self, Doing, Life, Seen, Step, Winner, rank},
};
use crate::engine::{
    core::{Core, News, OtherHolder, Timer},
    handover::{SourceInput, SourceStage, TargetInput, TargetStage},
    io::ChildOrder,
    registry::Best,
};
use crate::model::{
    child::{Entry, Epoch, Ownership, Route, Taken},
    event::HubEvent,
    id::{ChildId, KindName, NodeRun},
    message::{HandoverWord, PeerMessage},
    parked::{ParkedInfo, ParkedKey},
};

/// How often a yielding owner offers its state until it is taken.
const OFFER_EVERY: Duration = Duration::from_secs(2);

/// Why a committed move has failed.
const BEGUN_ANEW: &str =
    "another node began the child anew and had not heard that the successor ran";

impl Children {
    /// Looks at one child after what is known of it changed.
    pub(crate) fn look(&mut self, core: &mut Core, child: &ChildId) {
        self.look_at_target(core, child);
        self.look_at_instance(core, child);
        self.start_again(core, child);
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
                if core.promises.binds(child) {
                    return;
                }
                TargetInput::Committed
            }
            Some((_, entry)) if entry.epoch() >= attempt => TargetInput::Aborted,
            // The source's entry may have been dropped as a higher one of another log stands.
            _ if core.registry.highest_epoch(child) > attempt => TargetInput::Aborted,
            _ => return,
        };
        let other_life = core
            .registry
            .owner(child)
            .filter(|(_, theirs)| theirs.born != target.ownership.born)
            .map(|(owner, _)| owner);
        let input = match other_life {
            Some(owner) if input == TargetInput::Aborted && target.stage == TargetStage::Ready => {
                // Who has just come back may hear of the owner before it hears that the source is
                // gone; and then a roll call may still want what stands here.
                if !core.settled || !core.is_live(from) && !core.is_live(owner) {
                    return;
                }
                match core.is_live(from) {
                    true => TargetInput::Aborted,
                    false => TargetInput::BegunAnew,
                }
            }
            _ => input,
        };
        self.target_step(core, child, &input);
    }

    fn look_at_instance(&mut self, core: &mut Core, child: &ChildId) {
        let Some((seen, above)) = self.seen(core, child) else { return };
        self.meet(core, child, seen, above);
    }

    /// What the registry says of a child of this node, and the highest epoch there.
    fn seen(&self, core: &Core, child: &ChildId) -> Option<(Seen, Epoch)> {
        let instance = self.instances.get(child)?;
        let Best { owner, epoch, entry, .. } = core.registry.best(child)?;
        let own = &instance.ownership;
        if let Some(by) = self.taken_by(core, child) {
            return Some((Seen::Taken { by }, epoch));
        }
        let live = core.is_live(owner);
        let other = |theirs: &Ownership| {
            let here = rank(core.me, own) < rank(owner, theirs);
            let life = Life { run: owner, born: theirs.born };
            Seen::Other { life, winner: if here { Winner::Here } else { Winner::There } }
        };
        let seen = match (&instance.phase, entry) {
            (Phase::Moving(moving), _) if moving.stage == SourceStage::Committed => {
                let attempt = moving.ownership.epoch;
                // An epoch alone does not tell whether anything of this copy is in what runs there:
                // while this node was away, it may have begun from nothing. Without a state to hand
                // over, every successor does.
                let same = |theirs: &Ownership| theirs.born == own.born || !moving.with_state;
                match entry {
                    Entry::Owned(theirs)
                        if owner == moving.to && epoch >= attempt && same(theirs) =>
                    {
                        Seen::Successor
                    }
                    _ if owner == core.me || epoch <= attempt => Seen::Nothing,
                    Entry::Removed { .. } => Seen::Removed,
                    // Taken over elsewhere, or already handed on by the successor.
                    Entry::Owned(theirs) | Entry::Moved { ownership: theirs, .. }
                        if live && same(theirs) =>
                    {
                        Seen::Successor
                    }
                    Entry::Owned(theirs) if live && core.settled => other(theirs),
                    Entry::Owned(_) | Entry::Moved { .. } => Seen::Nothing,
                }
            }
            (_, Entry::Owned(_) | Entry::Moved { .. }) if owner == core.me => {
                if core.settled {
                    Seen::Own
                } else {
                    Seen::Nothing
                }
            }
            _ if epoch < own.epoch => Seen::Nothing,
            (_, Entry::Removed { .. }) => Seen::Removed,
            (_, Entry::Owned(theirs)) if live && core.settled => other(theirs),
            (_, Entry::Owned(_) | Entry::Moved { .. }) => Seen::Nothing,
        };
        let held = matches!(instance.phase.doing(), Doing::Committed | Doing::Yielding { .. });
        match seen {
            // A roll call may be about to give the child to another that holds a newer state.
            Seen::Own | Seen::Other { winner: Winner::Here, .. }
                if held && core.promises.binds(child) =>
            {
                Some((Seen::Nothing, epoch))
            }
            seen => Some((seen, epoch)),
        }
    }

    /// Which live owner has taken the state that this node offers, by its entry.
    fn taken_by(&self, core: &Core, child: &ChildId) -> Option<NodeRun> {
        let Some(Instance { phase: Phase::Yielding { offered, .. }, .. }) =
            self.instances.get(child)
        else {
            return None;
        };
        let mine = Taken { from: core.me, epoch: *offered };
        let has_it = |entry: &Entry| entry.ownership().is_some_and(|own| own.taken.contains(mine));
        let mut entries = core.registry.entries_of(child);
        let found = entries.find(|(run, entry)| core.is_live(*run) && has_it(entry));
        found.map(|(run, _)| run)
    }

    /// Does what the table says about what is seen at the epoch `above`.
    fn meet(&mut self, core: &mut Core, child: &ChildId, seen: Seen, above: Epoch) {
        let Some(instance) = self.instances.get_mut(child) else { return };
        let (doing, step) = divergence::step(instance.phase.doing(), seen);
        match step {
            Step::Nothing => {}
            Step::End => self.end(core, child),
            Step::Finish => self.source_step(core, child, &SourceInput::Opened),
            Step::Drop => {
                self.drop_move(core, child, "the child is stopped");
                self.remove(core, child);
                core.order(ChildOrder::Stop { child: child.clone(), epoch: above });
            }
            Step::Abort => {
                self.source_step(core, child, &SourceInput::Overtaken("another node owns it too"));
                self.meet(core, child, seen, above);
            }
            Step::GoOn => {
                let held = instance.phase.doing() == Doing::Committed;
                self.drop_move(core, child, BEGUN_ANEW);
                let Some(instance) = self.instances.get_mut(child) else { return };
                // Who yielded runs again; who is being started is awaited as ever.
                instance.stop_yielding(core);
                // Also above what is promised: that term is for the home to give.
                let promised = Epoch { term: core.promises.term(child).unwrap_or(0), attempt: 0 };
                instance.raise(above.max(promised).next_term());
                let epoch = instance.ownership.epoch;
                core.write(child, Entry::Owned(instance.ownership.clone()));
                core.order(instance.go_on());
                if held && instance.has_actor() {
                    let child = child.clone();
                    core.emit(HubEvent::Recovered { child, epoch, with_state: true });
                }
            }
            Step::Offer => {
                let Doing::Yielding { to } = doing else { return };
                if !instance.has_actor() {
                    // It was handed over without one: there is no state to offer.
                    return self.end(core, child);
                }
                self.drop_move(core, child, BEGUN_ANEW);
                let Some(instance) = self.instances.get_mut(child) else { return };
                let epoch = instance.ownership.epoch;
                instance.phase = Phase::Yielding { to, offered: epoch };
                core.order(ChildOrder::SendDiverged {
                    child: child.clone(),
                    epoch,
                    to: to.run,
                    life: to.born,
                });
                core.timer(OFFER_EVERY, Timer::Yield(child.clone(), epoch));
            }
            Step::GiveWay => {
                if let Seen::Taken { by } = seen
                    && let Phase::Yielding { offered, .. } = instance.phase
                {
                    self.yielded(core, by, child, offered);
                }
            }
        }
    }

    /// A yielding owner has heard nothing: it offers its state again, to whoever owns it now.
    pub(crate) fn yield_again(&mut self, core: &mut Core, child: &ChildId, epoch: Epoch) {
        let Some(Instance { phase: Phase::Yielding { to, offered }, .. }) =
            self.instances.get_mut(child)
        else {
            return;
        };
        if *offered != epoch {
            return;
        }
        if let Some((owner, theirs)) = core.registry.owner(child)
            && owner != core.me
            && core.is_live(owner)
        {
            let life = theirs.born;
            *to = Life { run: owner, born: life };
            core.order(ChildOrder::SendDiverged { child: child.clone(), epoch, to: owner, life });
        }
        core.timer(OFFER_EVERY, Timer::Yield(child.clone(), epoch));
    }

    /// The state of an owner that gave way to this `life` arrived.
    pub(crate) fn diverged(
        &mut self,
        core: &mut Core,
        from: NodeRun,
        child: &ChildId,
        epoch: Epoch,
        life: Epoch,
    ) {
        // It was offered again meanwhile; what becomes of it is told when it has ended.
        if self.merges.is_under_way(child, epoch) {
            return;
        }
        if self.merges.parked(child, epoch).is_some() {
            core.order(ChildOrder::Discard { child: child.clone(), epoch });
            return;
        }
        let Some(instance) = self.instances.get(child) else {
            core.order(ChildOrder::Discard { child: child.clone(), epoch });
            return;
        };
        if instance.owns() && instance.ownership.taken.contains(Taken { from, epoch }) {
            core.order(ChildOrder::Discard { child: child.clone(), epoch });
            let word = HandoverWord::Taken { child: child.clone(), epoch };
            core.send(from.node, PeerMessage::Handover(word));
            return;
        }
        // One that was offered to an actor that has ended since may be going on instead.
        let may = matches!(instance.phase, Phase::Running)
            && instance.ownership.born == life
            && core.is_live(from)
            && self.merges.begin(child, epoch, from);
        core.order(if may {
            ChildOrder::Merge { child: child.clone(), epoch }
        } else {
            // It is offered again when this node's actor is at rest.
            ChildOrder::Discard { child: child.clone(), epoch }
        });
    }

    /// The state of an owner that gave way was merged, or could not be.
    pub(crate) fn merged(
        &mut self,
        core: &mut Core,
        child: &ChildId,
        epoch: Epoch,
        outcome: Result<(), String>,
    ) {
        if !self.merges.is_under_way(child, epoch) {
            return;
        }
        match outcome {
            Ok(()) => {
                let Some(from) = self.merges.end(child, epoch) else { return };
                self.took(core, child, epoch, from);
                let key = ParkedKey { child: child.clone(), run: from, epoch };
                core.news.push_back(News::Merged { key });
                core.emit(HubEvent::DivergenceMerged { child: child.clone(), from: from.node });
            }
            Err(reason) => self.parks(core, child, epoch, reason),
        }
    }

    /// Nobody merges this state: it is parked here. Who offered it is not answered before it is known to
    /// be on two nodes: this one may crash in that time.
    fn parks(&mut self, core: &mut Core, child: &ChildId, epoch: Epoch, reason: String) {
        let Some(instance) = self.instances.get(child) else { return };
        let Some(from) = self.merges.park(child, epoch) else { return };
        let key = ParkedKey { child: child.clone(), run: from, epoch };
        let kind = instance.ownership.spec.kind().clone();
        core.news.push_back(News::Parks { key: key.clone(), other: OtherHolder::Offers });
        core.order(ChildOrder::Park { key, kind, reason });
    }

    /// Tells who offered this state, and is not answered, that it is parked here: it parks it, too.
    pub(crate) fn tell_parked(&self, core: &mut Core, info: &ParkedInfo) {
        let ParkedInfo { key, reason, at, .. } = info;
        if self.merges.parked(&key.child, key.epoch) == Some(key.run) {
            let (child, reason) = (key.child.clone(), reason.clone());
            let word = HandoverWord::Parks { child, epoch: key.epoch, reason, at: *at };
            core.send(key.run.node, PeerMessage::Handover(word));
        }
    }

    /// A state that nobody merged is safe without the owner that offered it.
    pub(crate) fn parked(&mut self, core: &mut Core, key: &ParkedKey) {
        if self.ends_parked(key) {
            self.took(core, &key.child, key.epoch, key.run);
        }
    }

    /// A state that nobody merged is here no more: its owner offers it again.
    pub(crate) fn not_parked(&mut self, key: &ParkedKey) {
        self.ends_parked(key);
    }

    fn ends_parked(&mut self, key: &ParkedKey) -> bool {
        self.merges.parked(&key.child, key.epoch) == Some(key.run)
            && self.merges.end(&key.child, key.epoch).is_some()
    }

    /// Answers the owner that offered this state.
    fn took(&mut self, core: &mut Core, child: &ChildId, epoch: Epoch, from: NodeRun) {
        if let Some(instance) = self.instances.get_mut(child) {
            let theirs = core.registry.entries_of(child).find(|(run, _)| *run == from);
            let with = theirs.and_then(|(_, entry)| entry.ownership()).map(|own| own.taken.clone());
            let with = with.unwrap_or_default();
            instance.ownership.taken.add(Taken { from, epoch }, &with);
            // The entry is the answer; the word is only faster.
            if matches!(instance.phase, Phase::Running | Phase::Yielding { .. }) {
                core.write(child, Entry::Owned(instance.ownership.clone()));
            }
        }
        let word = HandoverWord::Taken { child: child.clone(), epoch };
        core.send(from.node, PeerMessage::Handover(word));
    }

    /// The kind of a child whose state this node offers under that name.
    pub(crate) fn offers(&self, core: &Core, key: &ParkedKey) -> Option<&KindName> {
        let instance = self.instances.get(&key.child)?;
        let Phase::Yielding { offered, .. } = instance.phase else { return None };
        let is_it = offered == key.epoch && key.run == core.me;
        is_it.then(|| instance.ownership.spec.kind())
    }

    /// The owner that goes on has taken this node's state.
    pub(crate) fn yielded(
        &mut self,
        core: &mut Core,
        from: NodeRun,
        child: &ChildId,
        epoch: Epoch,
    ) {
        let Some(Instance { phase: Phase::Yielding { offered, .. }, .. }) =
            self.instances.get(child)
        else {
            return;
        };
        if *offered != epoch {
            return;
        }
        let route =
            core.registry.owner(child).map_or(Route { owner: from, epoch }, |(owner, theirs)| {
                Route { owner, epoch: theirs.epoch }
            });
        self.remove(core, child);
        core.order(ChildOrder::MovedAway {
            child: child.clone(),
            to: route.owner,
            epoch: route.epoch,
        });
        core.order(ChildOrder::End { child: child.clone() });
        core.emit(HubEvent::DivergenceYielded { child: child.clone(), to: from.node });
    }
}
