//! Deadlines that have passed, and which machine waited for them.

use super::views;
use crate::{
    engine::{
        applies::Applies,
        children::Children,
        core::{Core, Timer},
        drain::Drain,
        homes::Homes,
        leave::Leave,
        membership::Membership,
        parked::Parked,
        returns::Returns,
        roll_call::Rolls,
        settle::Settle,
        sync::Sync,
        waits_for::{keeps, waits_for},
    },
    model::{event::HubEvent, id::NodeRun, member::Member},
};

/// The machines that wait.
#[derive(Debug)]
pub(crate) struct Deadlines<'a> {
    pub(crate) core: &'a mut Core,
    pub(crate) membership: &'a mut Membership,
    pub(crate) sync: &'a mut Sync,
    pub(crate) settle: &'a mut Settle,
    pub(crate) returns: &'a mut Returns,
    pub(crate) homes: &'a mut Homes,
    pub(crate) children: &'a mut Children,
    pub(crate) rolls: &'a mut Rolls,
    pub(crate) parked: &'a Parked,
    pub(crate) applies: &'a mut Applies,
    pub(crate) leave: &'a mut Leave,
    pub(crate) drain: &'a mut Drain,
}

impl Deadlines<'_> {
    /// What has been waited for long enough. Gives whether there was anything.
    pub(crate) fn pass(&mut self) -> bool {
        let mut any = false;
        while let Some(timer) = self.core.due_timer() {
            self.passed(timer);
            any = true;
        }
        any
    }

    fn passed(&mut self, timer: Timer) {
        let (core, children) = (&mut *self.core, &mut *self.children);
        match timer {
            Timer::Start(child, epoch) => children.start_expired(core, &child, epoch),
            Timer::Source(child, epoch) => children.source_expired(core, &child, epoch),
            Timer::Target(child, epoch) => children.target_expired(core, &child, epoch),
            Timer::Query(child, epoch) => children.query(core, &child, epoch),
            Timer::Retry(child) => children.retry(core, &child),
            Timer::PassedOver(child) => children.try_passed_over(core, &child),
            Timer::Restart(child) => children.start_again(core, &child),
            Timer::Yield(child, epoch) => children.yield_again(core, &child, epoch),
            Timer::Rest(child, epoch) => children.rest(core, &child, epoch),
            Timer::Request(id) if self.applies.no_answer(core, id) => {}
            Timer::Request(id) => {
                let waits_for = waits_for(core, self.membership, self.settle, self.returns);
                self.homes.expired(core, id, waits_for);
            }
            Timer::Order(child, epoch) => self.homes.order_expired(core, &child, epoch),
            Timer::Locate => self.homes.locate_again(core),
            Timer::Leave(id) => {
                let waits_for = waits_for(core, self.membership, self.settle, self.returns);
                let waits_for = waits_for.or_else(|| keeps(core, self.parked));
                self.leave.expired(core, children, id, waits_for);
            }
            Timer::Drain(id) => {
                let waits_for = waits_for(core, self.membership, self.settle, self.returns);
                self.drain.expired(core, children, id, waits_for);
            }
            Timer::SayIn => self.settle.say_what_is_owed(core),
            Timer::Settle => self.heartbeat_unsettled(),
        }
    }

    /// A view is not settled, or a roll call not answered, for another heartbeat.
    fn heartbeat_unsettled(&mut self) {
        let core = &mut *self.core;
        let calls = !self.rolls.is_idle() || !core.promises.are_called();
        let is_told = self.settle.tick(core, calls);
        // A link that carries nothing is found out before it holds up the view for long.
        self.membership.in_use(core.now, self.settle.doubted(core));
        self.rolls.repeat(core);
        self.returns.tick(core);
        // A question may be lost, and who does not answer is not waited for much longer.
        let members: Vec<NodeRun> = core.view.members.values().map(Member::run).collect();
        for run in members {
            views::ask_for_gone(core, self.settle, self.sync, run);
        }
        self.children.call_unmet(core);
        // A newcomer that hears nothing of all others had better doubt itself.
        if self.membership.is_proven() {
            for run in self.settle.overdue(core) {
                self.membership.is_mute(core.now, run);
            }
        }
        if is_told && let Some(reason) = waits_for(core, self.membership, self.settle, self.returns)
        {
            tracing::debug!(node = %core.me.node, reason, "the cluster is not settled");
            core.emit(HubEvent::Unsettled { reason });
        }
    }
}
