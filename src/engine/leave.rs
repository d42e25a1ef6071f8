//! Leaving: everything is handed over, everybody knows, and then this node says Bye.
//!
//! A deadline is that of who asked. When it has passed, or nobody is left who could take what is
//! here, the node goes on as one that leaves: it takes no children, hands over what it can, and is in.
//! It says Bye only for somebody who waits; that is who asks again. What was handed over stays out.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    children::{Children, Left},
    core::{Core, LONGEST_WAIT, Timer},
    io::{Effect, LeaveFailed, Reply},
    membership::Membership,
    parked::{Around, Parked},
};
use crate::model::{event::HubEvent, id::RequestId, member::MemberState};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Children are handed over, and the others learn where they are.
    Handing,
    /// Nothing is left here. Replies and answers are waited for; there is no way back.
    Closing,
    /// It said Bye.
    Gone,
}

/// Whether this node leaves, and how far it is.
#[derive(Debug, Default)]
pub(crate) struct Leave {
    stage: Option<Stage>,
    /// Who waits for it, and until when.
    requests: BTreeMap<RequestId, Instant>,
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

    /// Somebody asks this node to leave, perhaps once more.
    pub(crate) fn request(
        &mut self,
        id: RequestId,
        timeout: Duration,
        core: &mut Core,
        membership: &mut Membership,
        children: &mut Children,
    ) {
        if self.is_over() {
            return reply(core, id, Ok(()));
        }
        let begins = !self.is_under_way();
        let others = core.placeable.iter().any(|member| member.id != core.me.node);
        // Before a view is settled it is not known who has registered what.
        if (core.settled || !others) && children.is_stranded(core) {
            let Left { children, first: left } = children.left(core, None);
            let why = LeaveFailed::NoSuccessor { children, left };
            if !begins {
                tell(core, &why);
            }
            return reply(core, id, Err(why));
        }
        self.requests.insert(id, core.now + timeout.min(LONGEST_WAIT));
        core.timer(timeout, Timer::Leave(id));
        if begins {
            self.stage = Some(Stage::Handing);
            core.emptying = true;
            membership.start_leaving(core.now);
            children.take_no_more(core);
        } else if self.stage == Some(Stage::Handing) {
            children.try_again(core);
        }
    }

    /// The time of a request is over. Once nothing is left here it ends by itself, and is answered
    /// then.
    pub(crate) fn expired(
        &mut self,
        core: &mut Core,
        children: &Children,
        id: RequestId,
        waits_for: Option<String>,
    ) {
        if self.stage == Some(Stage::Handing) && self.requests.remove(&id).is_some() {
            let Left { children, first: left } = children.left(core, waits_for.as_deref());
            let why = LeaveFailed::Timeout { children, left, waits_for };
            tell(core, &why);
            reply(core, id, Err(why));
        }
    }

    /// Somebody wants this node to take children again.
    pub(crate) fn stay(&mut self, id: RequestId, core: &mut Core, membership: &mut Membership) {
        let stays = !matches!(self.stage, Some(Stage::Closing | Stage::Gone));
        if stays && self.stage.take().is_some() {
            membership.cancel_leaving(core.now);
            self.fail(core, &LeaveFailed::Stayed);
        }
        core.effects.push_back(Effect::Reply { request: id, reply: Reply::Stays(stays) });
    }

    fn fail(&mut self, core: &mut Core, why: &LeaveFailed) {
        for request in std::mem::take(&mut self.requests).into_keys() {
            reply(core, request, Err(why.clone()));
        }
    }

    /// Goes on when nothing is left here and everybody knows.
    pub(crate) fn go_on(&mut self, core: &mut Core, children: &Children, parked: &Parked) {
        if self.stage != Some(Stage::Handing) || self.requests.is_empty() {
            return;
        }
        if core.settled && children.is_stranded(core) {
            let Left { children, first: left } = children.left(core, None);
            let why = LeaveFailed::NoSuccessor { children, left };
            tell(core, &why);
            return self.fail(core, &why);
        }
        if !children.is_empty() || parked.at_risk(&Around::of(core)) > 0 {
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
            self.stage = Some(Stage::Closing);
            core.closing = true;
            let until = self.requests.values().max().copied().unwrap_or(core.now);
            let calls = until.saturating_duration_since(core.now);
            core.effects.push_back(Effect::DrainLinks { calls });
        }
    }

    /// Every answer to a peer was received by it.
    pub(crate) fn drained(&mut self, core: &mut Core, membership: &mut Membership) {
        if self.stage != Some(Stage::Closing) {
            return;
        }
        self.stage = Some(Stage::Gone);
        membership.bye(core.now);
    }

    /// Who asked is told that it is over; after everything else was said.
    pub(crate) fn answer(&mut self, core: &mut Core) {
        if self.is_over() {
            for request in std::mem::take(&mut self.requests).into_keys() {
                reply(core, request, Ok(()));
            }
        }
    }
}

/// Tells whoever listens that this node has not left.
fn tell(core: &mut Core, why: &LeaveFailed) {
    let (children, left) = why.left();
    let left = left.to_vec();
    core.emit(HubEvent::LeaveFailed { reason: why.to_string(), children, left });
}

fn reply(core: &mut Core, request: RequestId, outcome: Result<(), LeaveFailed>) {
    core.effects.push_back(Effect::Reply { request, reply: Reply::Left(outcome) });
}
