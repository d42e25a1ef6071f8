//! What this node orders as a home, and awaits: one thing at a time for each child.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::asker::{Asker, EACH};
use crate::{
    engine::{
        answers::Answer,
        children::begun,
        core::{Core, Fault, Timer},
    },
    model::{
        child::{ChildSpec, Entry, Epoch, Ownership, Role, TakenIn},
        id::{ChildId, NodeRun, Origin},
        member::Member,
        message::{HomeWord, PeerMessage},
        quota::Quota,
        report::{StartFailed, StartOutcome, StopOutcome},
    },
};

/// What is asked of a home for one child.
#[derive(Debug)]
pub(super) enum What {
    Start(Arc<ChildSpec>),
    Stop(ChildId),
}

impl What {
    fn child(&self) -> &ChildId {
        match self {
            Self::Start(spec) => spec.id(),
            Self::Stop(child) => child,
        }
    }

    /// Whether both are starts, or both stops.
    fn is_like(&self, other: &Self) -> bool {
        matches!(self, Self::Start(_)) == matches!(other, Self::Start(_))
    }

    fn bytes(&self) -> usize {
        let spec = match self {
            Self::Start(spec) => spec.size(),
            Self::Stop(child) => child.as_str().len(),
        };
        EACH + spec
    }
}

#[derive(Debug)]
enum Order {
    Run { spec: Arc<ChildSpec>, origin: Origin, executor: NodeRun },
    Halt { owner: Option<NodeRun> },
}

#[derive(Debug)]
struct Ordered {
    epoch: Epoch,
    order: Order,
    /// Who asked, with the bytes that are kept for it.
    waiters: BTreeMap<Asker, usize>,
}

impl Ordered {
    /// Whether this is what was asked for.
    fn is_for(&self, what: &What) -> bool {
        matches!(
            (&self.order, what),
            (Order::Run { .. }, What::Start(_)) | (Order::Halt { .. }, What::Stop(_))
        )
    }
}

/// What waits for its turn.
#[derive(Debug)]
struct Waiting {
    asker: Asker,
    wait: Duration,
    /// Bytes that are kept for the asker's node. None for this one's.
    bytes: usize,
    what: What,
}

/// Starts and stops that this node orders as a home.
#[derive(Debug, Default)]
pub(super) struct Orders {
    orders: BTreeMap<ChildId, Ordered>,
    /// What came before this view was settled, or while another order for the child is under way; by
    /// child, in the order in which it came.
    waiting: BTreeMap<ChildId, VecDeque<Waiting>>,
    /// Children whose orders have ended: what waits for them is to be taken in.
    ended: VecDeque<ChildId>,
    /// Children whose orders have ended, for who asks where they are.
    free: Vec<ChildId>,
}

impl Orders {
    /// Whether something is ordered for a child.
    pub(super) fn has(&self, child: &ChildId) -> bool {
        self.orders.contains_key(child)
    }

    /// Children whose orders have ended since this was asked last.
    pub(super) fn take_free(&mut self) -> Vec<ChildId> {
        std::mem::take(&mut self.free)
    }

    /// The view changed: of what this node is not the home any more, or nobody waits, nothing is kept.
    pub(super) fn reset(&mut self, core: &Core, quota: &mut Quota) {
        self.waiting.retain(|child, waiting| {
            let is_mine = core.is_home(child);
            waiting.retain(|Waiting { asker, bytes, .. }| {
                let keep = is_mine && core.is_live(asker.run);
                if !keep {
                    quota.give(asker.run.node, *bytes);
                }
                keep
            });
            !waiting.is_empty()
        });
        self.orders.retain(|child, ordered| {
            let keep = core.is_home(child);
            if !keep {
                for (asker, bytes) in &ordered.waiters {
                    quota.give(asker.run.node, *bytes);
                }
            }
            keep
        });
    }

    /// The view is settled: takes in what waits.
    pub(super) fn serve(&mut self, core: &mut Core, quota: &mut Quota) {
        for waiting in std::mem::take(&mut self.waiting).into_values().flatten() {
            self.admit(core, quota, waiting);
        }
        self.go_on(core, quota);
    }

    /// Orders, and answers to them, may have been lost: everything is ordered again.
    pub(super) fn repeat(&mut self, core: &mut Core, quota: &mut Quota) {
        let children: Vec<ChildId> = self.orders.keys().cloned().collect();
        for child in children {
            self.repeat_one(core, quota, &child);
            self.go_on(core, quota);
        }
    }

    fn repeat_one(&mut self, core: &mut Core, quota: &mut Quota, child: &ChildId) {
        let Some(ordered) = self.orders.get(child) else { return };
        let epoch = ordered.epoch;
        let Order::Run { spec, origin, executor } = &ordered.order else {
            return self.halt(core, quota, child);
        };
        let (spec, origin, executor) = (spec.clone(), *origin, *executor);
        let known = core.registry.owner(child);
        // Somebody has it by now: it was sent there, or an earlier home's order has come through.
        let elsewhere = known.filter(|(owner, _)| *owner != executor && core.is_live(*owner));
        // The executor went before it answered. If it wrote, the roll call has the child.
        let written = known.filter(|_| !core.is_live(executor));
        if let Some((owner, ownership)) = elsewhere.or(written) {
            let outcome = begun(owner.node, ownership, origin);
            return self.end_run(core, quota, child, epoch, outcome);
        }
        if core.is_live(executor) {
            let word = HomeWord::Run { spec, epoch, origin };
            return core.send(executor.node, PeerMessage::Home(word));
        }
        if let Some(ordered) = self.orders.remove(child) {
            for (asker, bytes) in ordered.waiters {
                let wait = core.config.settings.request_timeout;
                let what = What::Start(spec.clone());
                self.admit(core, quota, Waiting { asker, wait, bytes, what });
            }
            // It may have been answered at once, and what waited behind it goes on.
            self.ended.push_back(child.clone());
        }
    }

    /// Keeps one child's start or stop until it is answered, if there is room for it.
    pub(super) fn receive(
        &mut self,
        core: &mut Core,
        quota: &mut Quota,
        asker: Asker,
        wait: Duration,
        what: What,
    ) {
        let ordered = self.orders.get(what.child());
        let same =
            |ordered: &Ordered| ordered.is_for(&what) && ordered.waiters.contains_key(&asker);
        let queue = self.waiting.get(what.child()).into_iter().flatten();
        let mut waits = queue.filter(|waiting| waiting.asker == asker);
        if ordered.is_some_and(same) || waits.any(|waiting| waiting.what.is_like(&what)) {
            // It asks again, and is answered when its turn has come.
            return;
        }
        let (node, me) = (asker.run.node, core.me.node);
        // This node keeps what it has asked for itself, as long as its own users wait.
        let bytes = if node == me { 0 } else { what.bytes() };
        if let Err(over) = quota.take(node, bytes) {
            core.fault(node, Fault::Quota, || over.to_string());
            match what {
                What::Start(spec) => {
                    let outcome = StartOutcome::Failed { reason: StartFailed::Busy { node: me } };
                    answer_start(core, asker, spec.id().clone(), outcome);
                }
                What::Stop(child) => {
                    answer_stop(core, asker, child, StopOutcome::Busy { node: me });
                }
            }
            return;
        }
        self.admit(core, quota, Waiting { asker, wait, bytes, what });
        self.go_on(core, quota);
    }

    /// Takes one child's start or stop in, if this node is its home and nothing else is under way.
    fn admit(&mut self, core: &mut Core, quota: &mut Quota, waiting: Waiting) {
        let child = waiting.what.child().clone();
        if !core.settled {
            self.waiting.entry(child).or_default().push_back(waiting);
            return;
        }
        let Waiting { asker, bytes, .. } = waiting;
        if !core.is_home(&child) {
            quota.give(asker.run.node, bytes);
            return;
        }
        if let Some(ordered) = self.orders.get_mut(&child) {
            if !ordered.is_for(&waiting.what) {
                self.waiting.entry(child).or_default().push_back(waiting);
            } else if let Some(before) = ordered.waiters.insert(asker, bytes) {
                // It asked again.
                quota.give(asker.run.node, before);
            }
            return;
        }
        match &waiting.what {
            What::Start(spec) => {
                let spec = spec.clone();
                self.start(core, quota, waiting, spec);
            }
            What::Stop(_) => self.stop(core, quota, waiting, child),
        }
    }

    fn start(
        &mut self,
        core: &mut Core,
        quota: &mut Quota,
        waiting: Waiting,
        spec: Arc<ChildSpec>,
    ) {
        let Waiting { asker, bytes, wait, .. } = waiting;
        let child = spec.id().clone();
        let origin = Origin::of(asker.run, asker.request);
        let mut answer = |core: &mut Core, outcome| {
            quota.give(asker.run.node, bytes);
            answer_start(core, asker, child.clone(), outcome);
        };
        let known = core.registry.owner(&child);
        // One that was given up is started by the node that owns it, from what is asked for now.
        let given_up = known.filter(|(run, own)| own.is_given_up() && core.is_live(*run));
        let given_up = given_up.map(|(run, _)| run);
        if let Some((run, ownership)) = known.filter(|_| given_up.is_none()) {
            let outcome = begun(run.node, ownership, origin);
            return answer(core, outcome);
        }
        let epoch = core.next_term(&child);
        let ownership = Ownership {
            epoch,
            born: epoch,
            copied: epoch,
            role: Role::Active,
            pinned: None,
            origin,
            taken: TakenIn::default(),
            failure: None,
            spec: spec.clone(),
        };
        let node = core.belongs(&ownership, &BTreeSet::new());
        let executor = node.and_then(|node| core.view.member(node)).map(Member::run);
        let executor = given_up.or(executor);
        let Some(executor) = executor else {
            let reason = match core.placeable.first() {
                Some(member) => StartFailed::UnknownKind { node: member.id },
                None => StartFailed::NoNode,
            };
            return answer(core, StartOutcome::Failed { reason });
        };
        let order = Order::Run { spec: spec.clone(), origin, executor };
        let waiters = BTreeMap::from([(asker, bytes)]);
        self.orders.insert(child.clone(), Ordered { epoch, order, waiters });
        core.timer(wait, Timer::Order(child, epoch));
        core.send(executor.node, PeerMessage::Home(HomeWord::Run { spec, epoch, origin }));
    }

    fn stop(&mut self, core: &mut Core, quota: &mut Quota, waiting: Waiting, child: ChildId) {
        let Waiting { asker, bytes, wait, .. } = waiting;
        if core.registry.owner(&child).is_none() {
            quota.give(asker.run.node, bytes);
            answer_stop(core, asker, child, StopOutcome::NotFound);
            return;
        }
        let epoch = core.next_term(&child);
        core.timer(wait, Timer::Order(child.clone(), epoch));
        let order = Order::Halt { owner: None };
        let waiters = BTreeMap::from([(asker, bytes)]);
        self.orders.insert(child.clone(), Ordered { epoch, order, waiters });
        self.halt(core, quota, &child);
    }

    fn halt(&mut self, core: &mut Core, quota: &mut Quota, child: &ChildId) {
        let Some(Ordered { epoch, order: Order::Halt { owner }, .. }) = self.orders.get_mut(child)
        else {
            return;
        };
        let asked = *epoch;
        let node = match core.registry.owner(child).map(|(run, _)| run) {
            None => owner.map_or(core.me.node, |run| run.node),
            Some(run) if core.is_live(run) => {
                *owner = Some(run);
                let word = HomeWord::Halt { child: child.clone(), epoch: asked };
                return core.send(run.node, PeerMessage::Home(word));
            }
            Some(run) => {
                // Nobody runs it: the home removes it, and copies that are held obey.
                let epoch = asked.max(core.next_term(child));
                core.write(child, Entry::Removed { epoch });
                run.node
            }
        };
        self.end_halt(core, quota, child, asked, StopOutcome::Stopped { node });
    }

    /// A start that this home ordered has ended.
    pub(super) fn ran(
        &mut self,
        core: &mut Core,
        quota: &mut Quota,
        child: &ChildId,
        epoch: Epoch,
        outcome: StartOutcome,
    ) {
        self.end_run(core, quota, child, epoch, outcome);
        self.go_on(core, quota);
    }

    fn end_run(
        &mut self,
        core: &mut Core,
        quota: &mut Quota,
        child: &ChildId,
        epoch: Epoch,
        outcome: StartOutcome,
    ) {
        let Some(ordered) = self.orders.get(child).filter(|ordered| ordered.epoch == epoch) else {
            return;
        };
        let Order::Run { origin, .. } = ordered.order else { return };
        for (asker, bytes) in self.end(child) {
            // Who came second to a start that went well finds the child there.
            let outcome = match &outcome {
                StartOutcome::Started { node, epoch }
                    if Origin::of(asker.run, asker.request) != origin =>
                {
                    StartOutcome::Exists { node: *node, epoch: *epoch }
                }
                outcome => outcome.clone(),
            };
            quota.give(asker.run.node, bytes);
            answer_start(core, asker, child.clone(), outcome);
        }
    }

    /// A stop that this home ordered has ended.
    pub(super) fn halted(
        &mut self,
        core: &mut Core,
        quota: &mut Quota,
        child: &ChildId,
        epoch: Epoch,
        outcome: StopOutcome,
    ) {
        self.end_halt(core, quota, child, epoch, outcome);
        self.go_on(core, quota);
    }

    fn end_halt(
        &mut self,
        core: &mut Core,
        quota: &mut Quota,
        child: &ChildId,
        epoch: Epoch,
        outcome: StopOutcome,
    ) {
        let ordered = self.orders.get(child);
        if ordered.is_some_and(|o| o.epoch == epoch && matches!(o.order, Order::Halt { .. })) {
            for (asker, bytes) in self.end(child) {
                quota.give(asker.run.node, bytes);
                answer_stop(core, asker, child.clone(), outcome.clone());
            }
        }
    }

    /// Ends what is ordered for a child. Gives who waited for it.
    fn end(&mut self, child: &ChildId) -> BTreeMap<Asker, usize> {
        let ordered = self.orders.remove(child);
        self.ended.push_back(child.clone());
        ordered.map(|ordered| ordered.waiters).unwrap_or_default()
    }

    /// Takes in what waited for orders that have ended, which may end others.
    fn go_on(&mut self, core: &mut Core, quota: &mut Quota) {
        while let Some(child) = self.ended.pop_front() {
            // Those behind one that has to wait stay behind it.
            while core.settled
                && let Some(next) = self.next_waiting(&child)
            {
                self.admit(core, quota, next);
            }
            self.free.push(child);
        }
    }

    /// The first that waits for a child, if nothing is ordered or the same is.
    fn next_waiting(&mut self, child: &ChildId) -> Option<Waiting> {
        let waiting = self.waiting.get_mut(child)?;
        let fits = |next: &Waiting| {
            self.orders.get(child).is_none_or(|ordered| ordered.is_for(&next.what))
        };
        let next = if waiting.front().is_some_and(fits) { waiting.pop_front() } else { None };
        if waiting.is_empty() {
            self.waiting.remove(child);
        }
        next
    }

    /// What is known of a child changed: a stop follows it.
    pub(super) fn child_changed(&mut self, core: &mut Core, quota: &mut Quota, child: &ChildId) {
        let owner = core.registry.owner(child).map(|(run, _)| run);
        if let Some(Ordered { order: Order::Halt { owner: asked }, .. }) = self.orders.get(child)
            && *asked != owner
        {
            self.halt(core, quota, child);
            self.go_on(core, quota);
        }
    }

    /// An order took too long.
    pub(super) fn expired(
        &mut self,
        core: &mut Core,
        quota: &mut Quota,
        child: &ChildId,
        epoch: Epoch,
    ) {
        // It is a start or a stop: the other one says nothing.
        let reason = StartFailed::Timeout { waits_for: None };
        self.end_run(core, quota, child, epoch, StartOutcome::Failed { reason });
        self.end_halt(core, quota, child, epoch, StopOutcome::Timeout);
        self.go_on(core, quota);
    }

    /// Who waits for a child's order to end, in their order.
    #[cfg(test)]
    pub(super) fn waiting(&self, child: &ChildId) -> usize {
        self.waiting.get(child).map_or(0, VecDeque::len)
    }
}

fn answer_start(core: &mut Core, asker: Asker, child: ChildId, outcome: StartOutcome) {
    core.answer(asker.run, child, Answer::Started { request: asker.request, outcome });
}

fn answer_stop(core: &mut Core, asker: Asker, child: ChildId, outcome: StopOutcome) {
    core.answer(asker.run, child, Answer::Stopped { request: asker.request, outcome });
}
