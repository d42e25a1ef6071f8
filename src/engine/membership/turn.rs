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
    /// It is drained: it hands its children over and stays in.
    Drains,
    /// It takes children again.
    Resumes,
}

impl Turn {
    /// How a node that comes in differs from one that takes children.
    pub(super) fn of(member: &Member) -> Option<Self> {
        match member.state {
            MemberState::Leaving => Some(Self::Leaves),
            _ => member.draining.then_some(Self::Drains),
        }
    }

    /// What a member turned to that was, and is, so.
    pub(super) fn between(was: &Member, is: &Member) -> Option<Self> {
        let (before, now) = (Self::of(was), Self::of(is));
        if before == now { None } else { Some(now.unwrap_or(Self::Resumes)) }
    }

    pub(super) fn event(self, node: NodeId) -> HubEvent {
        match self {
            Self::Leaves => HubEvent::NodeLeaving { node },
            Self::Drains => HubEvent::NodeDraining { node },
            Self::Resumes => HubEvent::NodeResumed { node },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::bench::member, *};

    #[test]
    fn what_a_member_turns_to_is_told_once_and_a_leave_counts_before_a_drain() {
        let plain = member(2);
        let drained = Member { draining: true, ..member(2) };
        let leaving = Member { state: MemberState::Leaving, ..member(2) };
        let both = Member { draining: true, ..leaving.clone() };
        let suspect = Member { state: MemberState::Suspect, ..member(2) };
        let quiet = Member { state: MemberState::Suspect, ..drained.clone() };
        for (was, is, turn) in [
            (&plain, &drained, Some(Turn::Drains)),
            (&plain, &leaving, Some(Turn::Leaves)),
            (&drained, &plain, Some(Turn::Resumes)),
            (&leaving, &plain, Some(Turn::Resumes)),
            (&drained, &both, Some(Turn::Leaves)),
            (&both, &drained, Some(Turn::Drains)),
            (&both, &leaving, None),
            (&leaving, &both, None),
            (&plain, &suspect, None),
            (&drained, &quiet, None),
            (&quiet, &suspect, Some(Turn::Resumes)),
        ] {
            assert_eq!(Turn::between(was, is), turn, "{was:?} {is:?}");
            assert!(was.takes_children() == Turn::of(was).is_none());
        }
    }
}
