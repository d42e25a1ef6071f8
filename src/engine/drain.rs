//! Draining: a node is emptied and stays in. It takes no children; it is home, votes and routes.

use std::{collections::BTreeSet, time::Duration};

use super::{
    children::{Children, Left},
    core::{Core, Timer},
    io::{Effect, LeaveFailed, Reply},
    membership::Membership,
};
use crate::model::{event::HubEvent, id::RequestId};

/// Whether this node is drained.
///
/// A deadline is that of who asked; when it has passed the node goes on draining.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    is_on: bool,
    /// Who waits until nothing is left.
    requests: BTreeSet<RequestId>,
    /// It was told that nothing is left.
    is_told: bool,
}

impl Drain {
    /// Somebody asks for this node to be drained, perhaps once more.
    pub(crate) fn request(
        &mut self,
        id: RequestId,
        timeout: Duration,
        core: &mut Core,
        membership: &mut Membership,
        children: &mut Children,
    ) {
        let others = core.placeable.iter().any(|member| member.id != core.me.node);
        // Before a view is settled it is not known who has registered what.
        if (core.settled || !others) && children.is_stranded(core) {
            let Left { children, first: left } = children.left(core, None);
            let why = LeaveFailed::NoSuccessor { children, left };
            if self.is_on {
                tell(core, &why);
            }
            return reply(core, id, Err(why));
        }
        self.requests.insert(id);
        core.timer(timeout, Timer::Drain(id));
        if std::mem::replace(&mut self.is_on, true) {
            return children.try_again(core);
        }
        core.emptying = true;
        membership.set_draining(core.now, true);
        children.take_no_more(core);
    }

    /// Takes it back: this node takes children again, unless it leaves.
    pub(crate) fn undo(&mut self, id: RequestId, core: &mut Core, membership: &mut Membership) {
        (self.is_on, self.is_told) = (false, false);
        membership.set_draining(core.now, false);
        self.fail(core, &LeaveFailed::Stayed);
        core.effects.push_back(Effect::Reply { request: id, reply: Reply::Undrained });
    }

    /// The time of a request is over.
    pub(crate) fn expired(
        &mut self,
        core: &mut Core,
        children: &Children,
        id: RequestId,
        waits_for: Option<String>,
    ) {
        if self.requests.remove(&id) {
            let Left { children, first: left } = children.left(core, waits_for.as_deref());
            let why = LeaveFailed::Timeout { children, left, waits_for };
            tell(core, &why);
            reply(core, id, Err(why));
        }
    }

    /// Answers when nothing is left, or nobody is who could take it.
    pub(crate) fn go_on(&mut self, core: &mut Core, children: &Children) {
        if !self.is_on {
            return;
        }
        let is_empty = children.is_empty();
        if !std::mem::replace(&mut self.is_told, is_empty) && is_empty {
            core.emit(HubEvent::Drained);
        }
        if is_empty {
            for request in std::mem::take(&mut self.requests) {
                reply(core, request, Ok(()));
            }
        } else if !self.requests.is_empty() && core.settled && children.is_stranded(core) {
            let Left { children, first: left } = children.left(core, None);
            let why = LeaveFailed::NoSuccessor { children, left };
            tell(core, &why);
            self.fail(core, &why);
        }
    }

    fn fail(&mut self, core: &mut Core, why: &LeaveFailed) {
        for request in std::mem::take(&mut self.requests) {
            reply(core, request, Err(why.clone()));
        }
    }
}

/// Tells whoever listens that this node is not empty.
fn tell(core: &mut Core, why: &LeaveFailed) {
    let (children, left) = why.left();
    let left = left.to_vec();
    core.emit(HubEvent::DrainFailed { reason: why.to_string(), children, left });
}

fn reply(core: &mut Core, request: RequestId, outcome: Result<(), LeaveFailed>) {
    core.effects.push_back(Effect::Reply { request, reply: Reply::Drained(outcome) });
}
