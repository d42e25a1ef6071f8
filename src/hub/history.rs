//! The latest handovers of a node: few, so that they are kept whether anybody looks or not.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::observe::unix_millis;
use crate::model::{
    event::{HandoverPhases, HubEvent},
    id::{ChildId, NodeId},
    observe::{HandoverReport, HandoverStatus},
};

/// Handovers that are kept, and children of which it is known how they came.
const KEPT: usize = 1_000;

#[derive(Default)]
struct Kept {
    /// Those that this node was the source of, the latest first.
    gave: VecDeque<HandoverReport>,
    came: BTreeMap<ChildId, HandoverReport>,
    came_order: VecDeque<ChildId>,
}

/// The latest handovers of a node.
pub(crate) struct History {
    me: NodeId,
    kept: Mutex<Kept>,
}

impl History {
    pub(crate) fn new(me: NodeId) -> Self {
        Self { me, kept: Mutex::default() }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something happened.
    pub(crate) fn event(&self, event: &HubEvent) {
        let Some(report) = report(self.me, event) else { return };
        let mut kept = self.kept();
        if report.from == self.me {
            kept.gave.push_front(report);
            kept.gave.truncate(KEPT);
            return;
        }
        let child = report.child.clone();
        if kept.came.insert(child.clone(), report).is_none() {
            kept.came_order.push_back(child);
        }
        if kept.came_order.len() > KEPT
            && let Some(oldest) = kept.came_order.pop_front()
        {
            kept.came.remove(&oldest);
        }
    }

    /// The latest handovers that this node was the source of, the latest first.
    pub(crate) fn latest(&self, limit: usize) -> Vec<HandoverReport> {
        self.kept().gave.iter().take(limit).cloned().collect()
    }

    /// How a child came to this node.
    pub(crate) fn came(&self, child: &ChildId) -> Option<HandoverReport> {
        self.kept().came.get(child).cloned()
    }
}

/// The handover that an event ends, if it ends one.
pub(crate) fn report(me: NodeId, event: &HubEvent) -> Option<HandoverReport> {
    let ended = |child: &ChildId, from, to, epoch, status, took: Duration| HandoverReport {
        child: child.clone(),
        kind: None,
        from,
        to,
        epoch,
        status,
        bytes: None,
        began: unix_millis(took),
        took,
        phases: HandoverPhases::default(),
    };
    Some(match event {
        HubEvent::HandedOver { child, to, epoch, bytes, took, phases } => HandoverReport {
            bytes: Some(*bytes),
            phases: *phases,
            ..ended(child, me, *to, *epoch, HandoverStatus::Done, *took)
        },
        HubEvent::HandoverFailed { child, to, epoch, reason, bytes, phases } => {
            let took = phases.named().iter().filter_map(|(_, took)| *took).sum();
            let status = HandoverStatus::Failed { reason: reason.clone() };
            HandoverReport {
                bytes: (*bytes > 0).then_some(*bytes),
                phases: *phases,
                ..ended(child, me, *to, *epoch, status, took)
            }
        }
        HubEvent::TakenOver { child, from, epoch } => {
            ended(child, *from, me, *epoch, HandoverStatus::Done, Duration::ZERO)
        }
        _ => return None,
    })
}
