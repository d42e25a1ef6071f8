//! Which children of this node ought to be elsewhere, and when their moves begin: by the distribution,
//! or as somebody asked.

use std::collections::BTreeSet;

use super::{
    attempts::MoveBackoff,
    instance::Instance,
    merges::Merges,
    moving::{Move, Plan, options},
    pacing::Pacing,
    phase::Phase,
    source::Source,
    steps::Steps,
    table::Table,
};
use crate::{
    engine::core::{Core, News, Timer},
    model::{
        child::{Entry, Ownership},
        id::{ChildId, NodeId, NodeRun, RequestId},
        message::{HandoverWord, PeerMessage},
        report::MigrateOutcome,
    },
};

/// The children of this node that are to go.
pub(super) struct Rebalance<'a> {
    pub(super) table: &'a mut Table,
    pub(super) pacing: &'a mut Pacing,
    pub(super) merges: &'a Merges,
    pub(super) core: &'a mut Core,
}

/// Whether children are here, and no other node would take any of them.
pub(super) fn is_stranded(table: &Table, core: &Core) -> bool {
    table.to_hand_over() > 0 && !table.any_to_hand_over(|instance| instance.has_successor(core))
}

/// Queues a child for a move if it belongs elsewhere.
pub(super) fn enqueue(table: &Table, pacing: &mut Pacing, core: &Core, child: &ChildId) {
    let Some(instance) = table.instance(child) else { return };
    // Who was given up goes where somebody sends it; else it is started here first, unless this
    // node is to be empty.
    let given_up = instance.ownership().is_given_up() && !core.emptying;
    if !instance.may_move() || given_up || instance.attempts().backoff().is_some() {
        return;
    }
    match instance.belongs(core) {
        Some(node) if node != core.me.node => pacing.belongs_elsewhere(child),
        _ => pacing.belongs_here(child),
    }
}

/// A migration that was asked for while its child could not go is offered once it can.
pub(super) fn want_again(table: &Table, pacing: &mut Pacing, child: &ChildId) {
    let is_asked = table.instance(child).map(Instance::attempts).is_some_and(|attempts| {
        attempts.wanted().is_some() && attempts.backoff() != Some(MoveBackoff::Retry)
    });
    if is_asked {
        pacing.ask(child);
    }
}

/// What is next for a child.
enum Next {
    /// It is offered there.
    Offer(Place),
    /// It is bound to no node any more.
    Release,
}

/// Where an offer goes, and why there.
struct Place {
    node: NodeId,
    /// The run that takes children there.
    to: Option<NodeRun>,
    is_asked: bool,
}

impl Rebalance<'_> {
    fn steps(&mut self) -> Steps<'_> {
        Steps { table: self.table, pacing: self.pacing, core: self.core }
    }

    fn enqueue(&mut self, child: &ChildId) {
        enqueue(self.table, self.pacing, self.core, child);
    }

    fn want_again(&mut self, child: &ChildId) {
        want_again(self.table, self.pacing, child);
    }

    /// What was found out of a child of this node under an earlier view is void. Where it belongs now is
    /// looked at next.
    pub(super) fn view_settled(&mut self, child: &ChildId) {
        if let Some(instance) = self.table.instance_mut(child) {
            instance.attempts_mut().view_settled();
        }
        self.steps().try_again(child);
        self.want_again(child);
    }

    /// Starts as many moves as are allowed.
    pub(super) fn pump(&mut self) {
        Source { table: self.table, pacing: self.pacing, core: self.core }.send_next();
        // By another view it may belong anywhere; who is offered a child under it refuses.
        if !self.core.settled {
            return;
        }
        let most = self.core.config.settings.moves;
        while let Some(child) = self.pacing.next(self.table.move_count(), most) {
            self.offer(&child);
        }
    }

    /// Where a child goes now, or is released to; `None`: nowhere.
    fn next(&self, child: &ChildId) -> Option<Next> {
        let core = &*self.core;
        let instance = self.table.instance(child)?;
        // What was promised to a roll call is what runs here; and what is merged now would be in the
        // state, and not in the ownership that was offered: it would be merged twice.
        if !instance.may_move() || core.promises.binds(child) || self.merges.is_merging(child) {
            return None;
        }
        let wanted = instance.attempts().wanted().map(|wanted| wanted.to);
        if wanted == Some(None) {
            return Some(Next::Release);
        }
        // Its turn may be that of a migration which a release has ended.
        let rests = instance.attempts().backoff().is_some();
        let node = wanted.flatten().or_else(|| instance.belongs(core).filter(|_| !rests))?;
        let to = core.placeable.iter().find(|member| member.id == node).map(|m| m.run());
        Some(Next::Offer(Place { node, to, is_asked: wanted.is_some() }))
    }

    fn offer(&mut self, child: &ChildId) {
        let Place { node, to, is_asked } = match self.next(child) {
            Some(Next::Offer(place)) => place,
            Some(Next::Release) => return self.release(child),
            None => return,
        };
        let core = &mut *self.core;
        if let Some(to) = to.filter(|to| *to != core.me && !core.reaches(*to)) {
            // The state could not go there. It is offered when it can.
            return self.pacing.waits_for_way(to, child);
        }
        let Some(instance) = self.table.instance_mut(child) else { return };
        instance.attempts_mut().begin();
        let wanted = instance.attempts_mut().take_wanted();
        let forced = wanted.as_ref().is_some_and(|wanted| wanted.forced);
        let waiters = wanted.map(|wanted| wanted.waiters).unwrap_or_default();
        if node == core.me.node && is_asked {
            return self.pin(child, waiters);
        }
        let Some(to) = to.filter(|to| *to != core.me) else {
            if !waiters.is_empty() {
                let (child, outcome) = (child.clone(), MigrateOutcome::NoSuchNode);
                core.news.push_back(News::Migrated { waiters, child, outcome });
            }
            return;
        };
        let waits = match instance.phase() {
            Phase::Waiting(wait) => Some(*wait),
            _ => None,
        };
        let (options, with_state) = options(core);
        let with_state = with_state && waits.is_none();
        let epoch = instance.burn();
        // A pin tells the target, whose view is the same, that the child was sent there on purpose.
        let own = instance.ownership();
        let usual = core.belongs(own, &BTreeSet::new());
        let on_purpose = is_asked || usual != Some(node);
        let pinned = if on_purpose { Some(node) } else { own.pinned.filter(|pin| *pin == node) };
        let state = own.epoch;
        let ownership = Ownership { epoch, pinned, failure: None, ..own.clone() };
        let kind = core.config.kinds.get(ownership.spec.kind());
        let state_version = kind.map_or(1, |kind| kind.state_version);
        let plan = Plan { to, ownership: ownership.clone(), with_state, forced, waiters, waits };
        instance.begin_move(Move::new(plan, core.now));
        let view = core.view_id;
        let word = HandoverWord::Offer { ownership, state, state_version, with_state, view };
        core.send(node, PeerMessage::Handover(word));
        core.timer(options.child_migration_timeout, Timer::Source(child.clone(), epoch));
    }

    /// A child that shall be here is here: it stays, whatever the distribution says.
    fn pin(&mut self, child: &ChildId, waiters: Vec<(NodeId, RequestId)>) {
        let Some(instance) = self.table.instance_mut(child) else { return };
        let node = self.core.me.node;
        let epoch = instance.epoch();
        if instance.pin(node) {
            self.core.write(child, Entry::Owned(instance.ownership().clone()));
        }
        self.pacing.belongs_here(child);
        self.steps().try_again(child);
        let (child, outcome) = (child.clone(), MigrateOutcome::Moved { node, epoch });
        self.core.news.push_back(News::Migrated { waiters, child, outcome });
    }

    /// A child of this node that is to be released is bound to no node any more: where it goes now the
    /// distribution says.
    fn release(&mut self, child: &ChildId) {
        let Some(instance) = self.table.instance_mut(child) else { return };
        let (node, epoch) = (self.core.me.node, instance.epoch());
        let wanted = instance.attempts_mut().take_wanted();
        if instance.unpin() {
            self.core.write(child, Entry::Owned(instance.ownership().clone()));
            // A move that failed says nothing of where it goes now.
            instance.attempts_mut().begin();
        }
        self.enqueue(child);
        let waiters = wanted.map(|wanted| wanted.waiters).unwrap_or_default();
        let (child, outcome) = (child.clone(), MigrateOutcome::Moved { node, epoch });
        self.core.news.push_back(News::Migrated { waiters, child, outcome });
    }

    /// Somebody asked for a move, on this node or another; `to` nowhere in particular: that the child is
    /// released.
    pub(super) fn migrate(
        &mut self,
        child: &ChildId,
        to: Option<NodeId>,
        forced: bool,
        waiter: (NodeId, RequestId),
    ) {
        // What is asked of an instance ends with it: whoever runs the child then is asked anew.
        let Some(instance) = self.table.instance_mut(child) else { return };
        let core = &mut *self.core;
        if to == Some(core.me.node) && instance.may_move() && instance.ownership().pinned == to {
            // Also where this node takes no children any more: then it goes on from here.
            self.pin(child, vec![waiter]);
            return self.enqueue(child);
        }
        if to.is_some_and(|to| !core.placeable.iter().any(|member| member.id == to)) {
            let (waiters, child) = (vec![waiter], child.clone());
            let outcome = MigrateOutcome::NoSuchNode;
            return core.news.push_back(News::Migrated { waiters, child, outcome });
        }
        if to == Some(core.me.node) && instance.may_move() {
            return self.pin(child, vec![waiter]);
        }
        if let Some(moving) = instance.moving_mut()
            && Some(moving.to().node) == to
            && moving.ownership().pinned == to
        {
            return moving.add_waiter(waiter);
        }
        if let Some(before) = instance.attempts_mut().want(to, forced, waiter) {
            let (waiters, child) = (before.waiters, child.clone());
            let reason = match to {
                Some(_) => "another migration of it was asked for".to_owned(),
                None => "it was released".to_owned(),
            };
            let outcome = MigrateOutcome::Failed { reason };
            core.news.push_back(News::Migrated { waiters, child, outcome });
        }
        match to {
            _ if !instance.may_move() => {}
            Some(_) => self.pacing.ask(child),
            None => self.release(child),
        }
    }

    /// Somebody asks this node once more to hand its children over: those that rest after a move that
    /// failed are offered at once.
    pub(super) fn try_again(&mut self) {
        let children: Vec<ChildId> = self.table.behind(None).cloned().collect();
        for child in children {
            if let Some(instance) = self.table.instance_mut(&child) {
                instance.attempts_mut().forget_failures();
            }
            self.enqueue(&child);
        }
    }

    /// A move that failed is tried again.
    pub(super) fn retry(&mut self, child: &ChildId) {
        let Some(instance) = self.table.instance_mut(child) else { return };
        instance.attempts_mut().retry();
        self.want_again(child);
        self.enqueue(child);
    }

    /// The time is over for which a node was passed over.
    pub(super) fn try_passed_over(&mut self, child: &ChildId) {
        let Some(instance) = self.table.instance_mut(child) else { return };
        if instance.attempts_mut().try_passed_over(self.core, child) {
            self.enqueue(child);
        }
    }

    /// States can go to this run: what belongs there goes.
    pub(super) fn reached(&mut self, run: NodeRun) {
        for child in self.pacing.way_found(run) {
            self.want_again(&child);
            self.enqueue(&child);
        }
    }
}
