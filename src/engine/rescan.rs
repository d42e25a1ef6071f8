//! Looks at every child after a view has settled, some at a time: a node with many must hear its peers
//! meanwhile. A child of which something else is known in between is looked at anyhow.

use super::{children::Children, core::Core, roll_call::Rolls};
use crate::model::id::{ChildId, NodeRun};

/// So many children are looked at between two events: some milliseconds.
const AT_ONCE: usize = 512;

/// How far it is. A view that settles begins it anew.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum Rescan {
    /// Everybody was looked at.
    #[default]
    Done,
    /// Children that were promised to roll calls, behind this one: is what was promised kept?
    Promised(Option<ChildId>),
    /// Children of owners that are not live, behind this one of this owner: who is theirs to call?
    Orphaned(Option<(NodeRun, ChildId)>),
    /// Children that are this node's by the registry, behind this one: is each of them here?
    Owned(Option<ChildId>),
    /// Children that are here, behind this one: where does each belong now?
    Here(Option<ChildId>),
}

impl Rescan {
    /// A view has settled.
    pub(crate) fn begin(&mut self, children: &mut Children) {
        children.forget_ways();
        *self = Self::Promised(None);
    }

    /// Whether some are still to be looked at.
    pub(crate) fn is_under_way(&self) -> bool {
        *self != Self::Done
    }

    /// Looks at the next ones.
    pub(crate) fn go_on(&mut self, core: &mut Core, children: &mut Children, rolls: &mut Rolls) {
        if !core.settled {
            // The next view that settles begins anew.
            *self = Self::Done;
        }
        let mut left = AT_ONCE;
        if let Self::Promised(behind) = self {
            let promised: Vec<ChildId> =
                core.promises.behind(behind.as_ref()).take(left).cloned().collect();
            left -= promised.len();
            for child in &promised {
                core.settle_promise(child);
                if core.promises.is_unmet(child) {
                    children.call_again(core, child);
                }
            }
            *self = match promised.into_iter().next_back() {
                Some(last) if left == 0 => Self::Promised(Some(last)),
                _ => Self::Orphaned(None),
            };
        }
        if let Self::Orphaned(behind) = self {
            let is_live = |run| core.is_live(run);
            let orphans = core.registry.orphans_behind(is_live, behind.as_ref()).take(left);
            let orphans: Vec<(NodeRun, ChildId)> =
                orphans.map(|(owner, child)| (owner, child.clone())).collect();
            left -= orphans.len();
            orphans.iter().for_each(|(_, child)| rolls.child_changed(core, child));
            *self = match orphans.into_iter().next_back() {
                Some(last) if left == 0 => Self::Orphaned(Some(last)),
                _ => Self::Owned(None),
            };
        }
        if let Self::Owned(behind) = self {
            let owned = core.registry.owned_behind(core.me, behind.as_ref()).take(left);
            let owned: Vec<ChildId> = owned.map(|(child, _)| child.clone()).collect();
            left -= owned.len();
            owned.iter().for_each(|child| children.revive_lost(core, child));
            *self = match owned.into_iter().next_back() {
                Some(last) if left == 0 => Self::Owned(Some(last)),
                _ => Self::Here(None),
            };
        }
        if let Self::Here(behind) = self {
            let here: Vec<ChildId> = children.behind(behind.as_ref()).take(left).cloned().collect();
            let is_full = here.len() == left;
            here.iter().for_each(|child| children.view_settled(core, child));
            let last = here.last().or(behind.as_ref()).cloned();
            core.touched.extend(here);
            *self = if is_full { Self::Here(last) } else { Self::Done };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::Arc};

    use bytes::Bytes;

    use super::*;
    use crate::{
        engine::tests::{core, kind},
        model::{
            child::{ChildSpec, Entry, Epoch, Ownership},
            id::NodeId,
            message::{LogEntry, PeerMessage, RollWord},
        },
    };

    fn id(n: usize) -> ChildId {
        ChildId::new(format!("c{n:05}")).expect("a valid id")
    }

    fn spec(n: usize) -> Arc<ChildSpec> {
        Arc::new(ChildSpec::from_parts(id(n), kind(), Bytes::new()))
    }

    /// A node that is in no more.
    fn gone() -> NodeRun {
        NodeRun { node: NodeId::from_key([9; 32]), nonce: 9 }
    }

    /// A node with so many children that it owns, of which every third one was lost.
    fn node(count: usize) -> (Core, Children) {
        let (mut core, mut children) = (core(&[1]), Children::default());
        for n in 0..count {
            let epoch = Epoch { term: 1, attempt: 0 };
            children.begin(&mut core, spec(n), epoch);
            if n % 3 == 0 {
                children.lose(&id(n));
            }
        }
        core.touched.clear();
        core.effects.clear();
        (core, children)
    }

    #[test]
    fn every_child_is_looked_at_once_and_never_many_at_a_time() {
        for count in [0, 1, AT_ONCE, AT_ONCE + 1, 3_000] {
            let (mut core, mut children) = node(count);
            let (mut rescan, mut rolls) = (Rescan::default(), Rolls::default());
            rescan.begin(&mut children);
            let (mut steps, mut seen) = (0, BTreeSet::new());
            while rescan.is_under_way() {
                steps += 1;
                rescan.go_on(&mut core, &mut children, &mut rolls);
                let touched = std::mem::take(&mut core.touched);
                assert!(touched.len() <= AT_ONCE, "{} of {count}", touched.len());
                seen.extend(touched);
            }
            assert_eq!(seen.len(), count);
            let here = children.instances().count();
            assert_eq!(here, count, "what was lost has begun anew");
            assert!(steps <= 2 * count / AT_ONCE + 2, "{steps} for {count}");
            rescan.go_on(&mut core, &mut children, &mut rolls);
            assert!(core.touched.is_empty(), "it is done");
        }
    }

    /// What was said to this node as a home: how many children are to be called, and how often again.
    fn calls(core: &mut Core) -> (usize, usize) {
        let (mut claimed, mut again) = (0, 0);
        for message in core.loopback.drain(..) {
            match message {
                PeerMessage::Roll(RollWord::Call { claims, .. }) => claimed += claims.len(),
                PeerMessage::Roll(RollWord::Again { .. }) => again += 1,
                message => panic!("{message:?}"),
            }
        }
        (claimed, again)
    }

    #[test]
    fn promises_and_orphans_are_looked_at_once_and_never_many_at_a_time() {
        for count in [0, 1, AT_ONCE, AT_ONCE + 1, 3_000] {
            // This node owns some; others are a dead node's; some were promised, of which nobody knows.
            let (mut core, mut children) = node(count);
            let entry = |n: usize| LogEntry {
                version: n as u64 + 1,
                child: id(count + n),
                entry: Entry::Owned(Ownership {
                    spec: spec(count + n),
                    ..core.registry.owner(&id(0)).expect("there is one").1.clone()
                }),
            };
            let entries: Vec<LogEntry> = (0..count).map(entry).collect();
            core.registry.apply_changes(gone(), 0, count as u64, entries);
            for n in (0..count).chain(2 * count..3 * count) {
                core.promises.give(gone(), &id(n), 7).expect("there is room");
            }
            let (mut rescan, mut rolls) = (Rescan::default(), Rolls::default());
            rescan.begin(&mut children);
            let (mut claimed, mut again) = (0, 0);
            while rescan.is_under_way() {
                let before = core.promises.behind(None).count();
                rescan.go_on(&mut core, &mut children, &mut rolls);
                rolls.call(&mut core);
                let released = before - core.promises.behind(None).count();
                let (step_claimed, step_again) = calls(&mut core);
                assert!(released + step_again + step_claimed <= AT_ONCE);
                claimed += step_claimed;
                again += step_again;
            }
            assert_eq!((claimed, again), (count, count), "each once");
            assert_eq!(core.promises.behind(None).count(), count, "of what is known of alone");
        }
    }

    #[test]
    fn a_view_that_does_not_stay_settled_is_not_gone_on_with_and_the_next_begins_anew() {
        let (mut core, mut children) = node(2_000);
        let (mut rescan, mut rolls) = (Rescan::default(), Rolls::default());
        rescan.begin(&mut children);
        rescan.go_on(&mut core, &mut children, &mut rolls);
        core.settled = false;
        core.touched.clear();
        rescan.go_on(&mut core, &mut children, &mut rolls);
        assert!(!rescan.is_under_way() && core.touched.is_empty());
        core.settled = true;
        rescan.begin(&mut children);
        while rescan.is_under_way() {
            rescan.go_on(&mut core, &mut children, &mut rolls);
        }
        let entries = core.registry.owned_by(core.me).count();
        assert_eq!((entries, children.instances().count()), (2_000, 2_000));
        let is_owned =
            |child| matches!(core.registry.best(child).map(|b| b.entry), Some(Entry::Owned(_)));
        assert!(children.instances().all(|(child, _)| is_owned(child)));
    }
}
