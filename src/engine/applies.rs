//! Parked states that are being given to their children: who asked for it here, and which of them are
//! with children of this node.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    children::Children,
    core::{Core, Timer},
    io::{ApplyOutcome, ChildOrder, Effect, ParkedOrder, Reply},
    parked::{Around, Parked},
};
use crate::model::{
    child::Entry,
    event::HubEvent,
    id::{NodeRun, RequestId},
    message::PeerMessage,
    parked::{ApplyFailed, ParkedInfo, ParkedKey, ParkedUse, ParkedWord},
};

/// Parked states that one node applies at a time, and that children of one node take in.
const MOST_APPLIED: usize = 64;
/// A child that has not answered so long after nobody waits any more never does: its actor holds its
/// own context.
const GIVEN_UP: Duration = Duration::from_secs(60);
/// The longest that a child is given.
const LONGEST: Duration = Duration::from_secs(3_600);

/// How a state is applied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Apply {
    pub(crate) request: RequestId,
    pub(crate) replace: bool,
    pub(crate) wait: Duration,
}

/// A request of this node.
#[derive(Debug)]
struct Asked {
    key: ParkedKey,
    /// The child's owner.
    to: NodeRun,
}

/// One that a child of this node is to take in.
#[derive(Debug)]
struct Given {
    asker: NodeRun,
    request: RequestId,
    replace: bool,
    /// Until when an answer of the child is awaited.
    until: Instant,
}

/// Parked states on their way to their children.
#[derive(Debug, Default)]
pub(crate) struct Applies {
    asked: BTreeMap<RequestId, Asked>,
    given: BTreeMap<ParkedKey, Given>,
}

impl Applies {
    /// Somebody on this node wants a parked state given to its child.
    pub(crate) fn request(
        &mut self,
        core: &mut Core,
        parked: &Parked,
        children: &mut Children,
        key: &ParkedKey,
        apply: Apply,
    ) {
        let Some(info) = parked.info(key).cloned() else {
            let outcome = match parked.is_dropped(key) {
                true => ApplyOutcome::Failed(ApplyFailed::Gone),
                false => ApplyOutcome::NotHeld { holder: parked.holders(key).next() },
            };
            return reply(core, apply.request, outcome);
        };
        let owner = core.registry.owner(&key.child).map(|(owner, _)| owner);
        let Some(to) = owner.filter(|owner| core.is_live(*owner)) else {
            return reply(core, apply.request, ApplyOutcome::Failed(ApplyFailed::NoSuchChild));
        };
        let is_asked = self.asked.values().any(|asked| asked.key == *key);
        if is_asked || self.asked.len() >= MOST_APPLIED {
            return reply(core, apply.request, ApplyOutcome::Failed(ApplyFailed::Busy));
        }
        self.asked.insert(apply.request, Asked { key: key.clone(), to });
        core.timer(apply.wait, Timer::Request(apply.request));
        if to == core.me {
            return self.came(core, parked, children, to, &info, apply);
        }
        let Apply { request, replace, wait } = apply;
        let purpose = ParkedUse::Apply { request, replace, wait };
        let order = ParkedOrder::Send { key: key.clone(), to, purpose };
        core.effects.push_back(Effect::Parked(order));
    }

    /// One for a child of this node is here.
    pub(crate) fn came(
        &mut self,
        core: &mut Core,
        parked: &Parked,
        children: &mut Children,
        from: NodeRun,
        info: &ParkedInfo,
        apply: Apply,
    ) {
        let key = &info.key;
        let given = self.give(core, parked, children, from, info, apply);
        if let Err(failed) = given {
            if from != core.me {
                let order = ParkedOrder::Refuse { key: key.clone(), from };
                core.effects.push_back(Effect::Parked(order));
            }
            self.answer(core, from, apply.request, Err(failed));
        }
    }

    fn give(
        &mut self,
        core: &mut Core,
        parked: &Parked,
        children: &mut Children,
        from: NodeRun,
        info: &ParkedInfo,
        Apply { request, replace, wait }: Apply,
    ) -> Result<(), ApplyFailed> {
        let key = &info.key;
        if parked.is_dropped(key) {
            return Err(ApplyFailed::Gone);
        }
        // A peer may have said how long.
        let wait = wait.min(LONGEST);
        self.given.retain(|_, given| given.until > core.now);
        if self.given.contains_key(key) || self.given.len() >= MOST_APPLIED {
            return Err(ApplyFailed::Busy);
        }
        let bound = core.promises.binds(&key.child);
        let instance = children.instance_mut(&key.child);
        let Some(instance) = instance.filter(|i| i.is_running() && !bound) else {
            return Err(ApplyFailed::NotRunning);
        };
        if *instance.spec().kind() != info.kind {
            let reason = format!("the child is of kind {}", instance.spec().kind());
            return Err(ApplyFailed::Failed { reason });
        }
        let exchange = replace.then(|| {
            // What it has until then is parked under the epoch that it had; so no later state of it
            // can have the same name.
            let epoch = instance.epoch();
            instance.raise_attempt();
            core.write(&key.child, Entry::Owned(instance.ownership().clone()));
            core.order(instance.go_on());
            ParkedKey { child: key.child.clone(), run: core.me, epoch }
        });
        let until = core.now + wait + GIVEN_UP;
        self.given.insert(key.clone(), Given { asker: from, request, replace, until });
        let (key, kind) = (key.clone(), info.kind.clone());
        core.order(ChildOrder::Apply { key, kind, from, exchange, wait });
        Ok(())
    }

    /// A child of this node has taken one in, or could not. Who is to be told so, when it was told to
    /// all that nobody keeps it any more: who asked finds it gone.
    pub(crate) fn applied(
        &mut self,
        core: &mut Core,
        parked: &mut Parked,
        key: &ParkedKey,
        outcome: &Result<(), ApplyFailed>,
    ) -> Option<(NodeRun, RequestId)> {
        let Given { asker, request, replace, .. } = self.given.remove(key)?;
        if outcome.is_ok() {
            parked.dispose(&Around::of(core), key);
            let child = key.child.clone();
            let replaced = replace;
            core.emit(HubEvent::ParkedStateApplied { child, key: key.clone(), replaced });
        }
        Some((asker, request))
    }

    /// Tells who asked.
    pub(crate) fn answer(
        &mut self,
        core: &mut Core,
        to: NodeRun,
        request: RequestId,
        outcome: Result<(), ApplyFailed>,
    ) {
        if to == core.me {
            return self.answered(core, to, request, outcome);
        }
        let word = ParkedWord::Applied { request, outcome };
        core.send(to.node, PeerMessage::Parked(word));
    }

    /// The child's owner says what became of it.
    pub(crate) fn answered(
        &mut self,
        core: &mut Core,
        from: NodeRun,
        request: RequestId,
        outcome: Result<(), ApplyFailed>,
    ) {
        if self.asked.get(&request).is_some_and(|asked| asked.to == from) {
            let outcome = outcome.map_or_else(ApplyOutcome::Failed, |()| ApplyOutcome::Applied);
            self.end(core, request, outcome);
        }
    }

    /// It did not get there, or nobody heard that it did; or its time is over. `false`: there is no
    /// such request.
    pub(crate) fn no_answer(&mut self, core: &mut Core, request: RequestId) -> bool {
        self.end(core, request, ApplyOutcome::NoAnswer)
    }

    /// There is another view: who has gone does not answer.
    pub(crate) fn viewed(&mut self, core: &mut Core) {
        let gone = |asked: &Asked| !core.is_live(asked.to);
        let lost: Vec<RequestId> =
            self.asked.iter().filter(|(_, a)| gone(a)).map(|(request, _)| *request).collect();
        for request in lost {
            self.no_answer(core, request);
        }
    }

    fn end(&mut self, core: &mut Core, request: RequestId, outcome: ApplyOutcome) -> bool {
        let is_asked = self.asked.remove(&request).is_some();
        if is_asked {
            reply(core, request, outcome);
        }
        is_asked
    }
}

fn reply(core: &mut Core, request: RequestId, outcome: ApplyOutcome) {
    core.effects.push_back(Effect::Reply { request, reply: Reply::Applied(outcome) });
}
