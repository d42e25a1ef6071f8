//! Leaving: everything is handed over, everybody knows, and then this node says Bye.

use std::time::Duration;

use super::{
    children::Children,
    core::{Core, Timer},
    io::{Effect, LeaveFailed, Reply},
    membership::Membership,
};
use crate::model::{event::HubEvent, id::RequestId, member::MemberState};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Children are handed over, and the others learn where they are.
    Handing,
    /// Peers get the last answers.
    Draining,
    /// It said Bye.
    Gone,
}

/// Whether this node leaves, and how far it is.
#[derive(Debug, Default)]
pub(crate) struct Leave {
    stage: Option<Stage>,
    requests: Vec<RequestId>,
}

impl Leave {
    /// Whether this node hands its children over, or has.
    pub(crate) fn is_under_way(&self) -> bool {
        self.stage.is_some()
    }

    /// Whether this node has left.
    pub(crate) fn is_over(&self) -> bool {
        self.stage == Some(Stage::Gone)
    }

    /// Somebody asks this node to leave.
    pub(crate) fn request(
        &mut self,
        id: RequestId,
        timeout: Duration,
        core: &mut Core,
        membership: &mut Membership,
        children: &mut Children,
    ) {
        match self.stage {
            Some(Stage::Gone) => reply(core, id, Ok(())),
            Some(_) => self.requests.push(id),
            None => {
                let owned = children.owned();
                let others = core.placeable.iter().any(|member| member.id != core.me.node);
                if owned > 0 && !others {
                    return reply(core, id, Err(LeaveFailed::NoSuccessor { children: owned }));
                }
                self.requests.push(id);
                self.stage = Some(Stage::Handing);
                core.leaving = true;
                core.timer(timeout, Timer::Leave);
                membership.start_leaving(core.now);
                children.leave(core);
            }
        }
    }

    /// The time to leave is over.
    pub(crate) fn expired(
        &mut self,
        core: &mut Core,
        membership: &mut Membership,
        children: &Children,
        waits_for: Option<String>,
    ) {
        // With nothing left to be handed over it only waits for peers, which has its own bounds.
        if self.stage == Some(Stage::Handing) {
            let children = children.owned() + children.targets.len();
            self.stay(core, membership, LeaveFailed::Timeout { children, waits_for });
        }
    }

    fn stay(&mut self, core: &mut Core, membership: &mut Membership, why: LeaveFailed) {
        self.stage = None;
        core.leaving = false;
        membership.cancel_leaving(core.now);
        core.emit(HubEvent::LeaveFailed { reason: why.to_string() });
        for request in std::mem::take(&mut self.requests) {
            reply(core, request, Err(why.clone()));
        }
    }

    /// Goes on when nothing is left here and everybody knows.
    pub(crate) fn go_on(
        &mut self,
        core: &mut Core,
        membership: &mut Membership,
        children: &Children,
    ) {
        if self.stage != Some(Stage::Handing) {
            return;
        }
        let others = core.placeable.iter().any(|member| member.id != core.me.node);
        let owned = children.owned();
        if owned > 0 && core.settled && !(others && children.has_successors(core)) {
            return self.stay(core, membership, LeaveFailed::NoSuccessor { children: owned });
        }
        if !children.is_empty() {
            return;
        }
        let version = core.registry.version();
        let known = core
            .view
            .members
            .values()
            .filter(|member| member.id != core.me.node && member.state != MemberState::Suspect)
            .all(|member| core.registry.acked(member.id, core.me) >= version);
        if known {
            self.stage = Some(Stage::Draining);
            core.effects.push_back(Effect::DrainLinks);
        }
    }

    /// Every answer to a peer was received by it.
    pub(crate) fn drained(&mut self, core: &mut Core, membership: &mut Membership) {
        if self.stage != Some(Stage::Draining) {
            return;
        }
        self.stage = Some(Stage::Gone);
        membership.bye(core.now);
    }

    /// Who asked is told that it is over; after everything else was said.
    pub(crate) fn answer(&mut self, core: &mut Core) {
        if self.is_over() {
            for request in std::mem::take(&mut self.requests) {
                reply(core, request, Ok(()));
            }
        }
    }
}

fn reply(core: &mut Core, request: RequestId, outcome: Result<(), LeaveFailed>) {
    core.effects.push_back(Effect::Reply { request, reply: Reply::Left(outcome) });
}
