//! The roll call: what is left of the children whose owner went down?
//!
//! The home of an orphaned child asks every live member what it holds of it, claiming a term
//! above any it has seen. Each answers once and promises to obey no lower claim: see
//! [`promises`](super::promises).
//! No timer skips anyone: a member answers, or goes down itself. Live beats all, then the highest
//! epoch; a fresh start only if there is nothing anywhere.

use std::collections::{BTreeMap, BTreeSet};

use super::core::Core;
use crate::model::{
    child::{Epoch, Ownership},
    id::{ChildId, NodeRun},
    message::{Claim, Copy, Held, PeerMessage, RollWord},
};

/// Children of one call, so that a word stays far below the frame limit.
const CALL_SIZE: usize = 1_000;

#[derive(Debug)]
struct Orphan {
    term: u64,
    best: Option<(Copy, Epoch, NodeRun, Epoch)>,
    /// A higher term was promised by somebody.
    outbid: u64,
}

#[derive(Debug)]
struct Roll {
    orphans: BTreeMap<ChildId, Orphan>,
    awaiting: BTreeSet<NodeRun>,
}

/// The roll calls of one home.
#[derive(Debug, Default)]
pub(crate) struct Rolls {
    rolls: BTreeMap<u64, Roll>,
    count: u64,
    /// Children that are in a call.
    busy: BTreeSet<ChildId>,
    /// Children to be called when the registry's batch is through.
    found: BTreeSet<ChildId>,
}

impl Rolls {
    /// The view changed: every call begins anew once the new view is settled.
    pub(crate) fn reset(&mut self) {
        self.rolls.clear();
        self.busy.clear();
        self.found.clear();
    }

    /// Whether a call is under way for this child.
    pub(crate) fn is_busy(&self, child: &ChildId) -> bool {
        self.busy.contains(child)
    }

    /// Looks for orphans among all children.
    pub(crate) fn scan(&mut self, core: &Core) {
        let orphans = core.registry.orphans(|run| core.is_live(run));
        self.found.extend(orphans.into_iter().filter(|child| core.is_home(child)));
    }

    /// Looks at one child after the registry changed.
    pub(crate) fn look(&mut self, core: &Core, child: &ChildId) {
        let Some((owner, _)) = core.registry.owner(child) else {
            self.found.remove(child);
            return;
        };
        if !core.is_live(owner) && core.is_home(child) && !self.is_busy(child) {
            self.found.insert(child.clone());
        }
    }

    /// Calls the roll for what was found.
    pub(crate) fn call(&mut self, core: &mut Core) {
        if !core.settled || self.found.is_empty() {
            return;
        }
        let found = std::mem::take(&mut self.found);
        let mut batch: BTreeMap<ChildId, Orphan> = BTreeMap::new();
        let mut batches = Vec::new();
        for child in found {
            if self.busy.contains(&child) {
                continue;
            }
            let term = core.registry.highest_epoch(&child).term.saturating_add(1);
            batch.insert(child, Orphan { term, best: None, outbid: 0 });
            if batch.len() == CALL_SIZE {
                batches.push(std::mem::take(&mut batch));
            }
        }
        if !batch.is_empty() {
            batches.push(batch);
        }
        for orphans in batches {
            self.start(core, orphans);
        }
    }

    fn start(&mut self, core: &mut Core, orphans: BTreeMap<ChildId, Orphan>) {
        self.count += 1;
        let roll = self.count;
        self.busy.extend(orphans.keys().cloned());
        let awaiting = core.view.members.values().map(|member| member.run()).collect();
        self.rolls.insert(roll, Roll { orphans, awaiting });
        self.say(core, roll);
    }

    fn say(&self, core: &mut Core, roll: u64) {
        let Some(Roll { orphans, awaiting }) = self.rolls.get(&roll) else { return };
        let claims: Vec<Claim> = orphans
            .iter()
            .map(|(child, orphan)| Claim { child: child.clone(), term: orphan.term })
            .collect();
        for run in awaiting {
            let word = RollWord::Call { roll, claims: claims.clone() };
            core.send(run.node, PeerMessage::Roll(word));
        }
    }

    /// Repeats what was not answered.
    pub(crate) fn repeat(&self, core: &mut Core) {
        let rolls: Vec<u64> = self.rolls.keys().copied().collect();
        for roll in rolls {
            self.say(core, roll);
        }
    }

    /// Whether any call is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.rolls.is_empty()
    }

    /// A member answers.
    pub(crate) fn answered(&mut self, core: &mut Core, from: NodeRun, roll: u64, holds: Vec<Held>) {
        let Some(call) = self.rolls.get_mut(&roll) else { return };
        if !call.awaiting.remove(&from) {
            return;
        }
        for held in holds {
            let Some(orphan) = call.orphans.get_mut(&held.child) else { continue };
            // A promise that nobody can outbid would leave the child without an owner for ever.
            if let Some(promised) = held.promised.map(|term| Epoch { term, attempt: 0 })
                && core.is_possible(from.node, &held.child, promised)
            {
                orphan.outbid = orphan.outbid.max(promised.term);
            }
            if held.copy == Copy::Nothing || !core.is_possible(from.node, &held.child, held.epoch) {
                continue;
            }
            let better = match &orphan.best {
                None => true,
                Some((copy, epoch, _, _)) => {
                    let live = |copy| copy == Copy::Live;
                    (live(held.copy), held.epoch, held.copy) > (live(*copy), *epoch, *copy)
                }
            };
            if better {
                orphan.best = Some((held.copy, held.epoch, from, held.born));
            }
        }
        if call.awaiting.is_empty()
            && let Some(call) = self.rolls.remove(&roll)
        {
            self.decide(core, call);
        }
    }

    fn decide(&mut self, core: &mut Core, call: Roll) {
        let mut again = BTreeMap::new();
        for (child, orphan) in call.orphans {
            self.busy.remove(&child);
            let Some((owner, ownership)) = core.registry.owner(&child) else { continue };
            if core.is_live(owner) {
                continue;
            }
            let highest = core.registry.highest_epoch(&child).term;
            if orphan.outbid > orphan.term || highest >= orphan.term {
                let term = orphan.outbid.max(highest).saturating_add(1);
                again.insert(child, Orphan { term, best: None, outbid: 0 });
                continue;
            }
            let epoch = Epoch { term: orphan.term, attempt: 0 };
            let mut next = Ownership { epoch, ..ownership.clone() };
            let (to, from) = match orphan.best {
                Some((copy, _, run, born)) => {
                    next.born = born;
                    if copy != Copy::Live {
                        next.copied = epoch;
                    }
                    (run.node, copy)
                }
                None => {
                    next.born = epoch;
                    next.copied = epoch;
                    match core.belongs(&next, &BTreeSet::new()) {
                        Some(node) => (node, Copy::Nothing),
                        // Nobody takes children now; the next view may.
                        None => continue,
                    }
                }
            };
            core.send(to, PeerMessage::Roll(RollWord::Take { ownership: next, from }));
        }
        if !again.is_empty() {
            self.start(core, again);
        }
    }
}
