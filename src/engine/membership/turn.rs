//! Whether a member takes children, as it says itself, and what is told when that changes.

use crate::model::{
    event::HubEvent,
    id::NodeId,
    member::{Member, MemberState},
};

/// What a member turned to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It hands its children over, to go.
    Leaves,
    /// It takes children again.
    Resumes,
}

impl Turn {
    /// How a node that comes in differs from one that takes children.
    pub(super) fn of(member: &Member) -> Option<Self> {
        (member.state == MemberState::Leaving).then_some(Self::Leaves)
    }

    /// What a member turned to that was, and is, so.
    pub(super) fn between(was: &Member, is: &Member) -> Option<Self> {
        let (before, now) = (Self::of(was), Self::of(is));
        if before == now { None } else { Some(now.unwrap_or(Self::Resumes)) }
    }

    pub(super) fn event(self, node: NodeId) -> HubEvent {
        match self {
            Self::Leaves => HubEvent::NodeLeaving { node },
            Self::Resumes => HubEvent::NodeResumed { node },
        }
    }
}
