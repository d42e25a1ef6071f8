//! The latest handovers of a node: few, so that they are kept whether anybody looks or not.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::clock::unix_now;
use crate::model::{
    event::{HandoverPhases, HubEvent},
    id::{ChildId, KindName, NodeId},
    observe::{HandoverReport, HandoverStatus},
};

/// Handovers that are kept.
const KEPT: usize = 1_000;

/// The latest handovers from a node and to it, the latest first.
pub(crate) struct History {
    me: NodeId,
    ended: Mutex<VecDeque<HandoverReport>>,
}

impl History {
    pub(crate) fn new(me: NodeId) -> Self {
        Self { me, ended: Mutex::default() }
    }

    fn ended(&self) -> MutexGuard<'_, VecDeque<HandoverReport>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something happened.
    pub(crate) fn event(&self, event: &HubEvent) {
        if let Some(report) = report(self.me, event) {
            let mut ended = self.ended();
            ended.push_front(report);
            ended.truncate(KEPT);
        }
    }

    /// The latest handovers, the latest first.
    pub(crate) fn latest(&self, limit: usize) -> Vec<HandoverReport> {
        self.ended().iter().take(limit).cloned().collect()
    }
}

/// The handover that an event ends, if it ends one.
pub(crate) fn report(me: NodeId, event: &HubEvent) -> Option<HandoverReport> {
    let now = unix_now();
    let ended = |child: &ChildId, kind: &KindName, epoch, status, took: Duration| HandoverReport {
        child: child.clone(),
        kind: kind.clone(),
        from: me,
        to: me,
        epoch,
        status,
        bytes: None,
        began: now.saturating_sub(u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
        took,
        phases: HandoverPhases::default(),
    };
    Some(match event {
        HubEvent::HandedOver { child, kind, to, epoch, bytes, took, phases } => HandoverReport {
            to: *to,
            bytes: Some(*bytes),
            phases: *phases,
            ..ended(child, kind, *epoch, HandoverStatus::Done, *took)
        },
        HubEvent::HandoverFailed { child, kind, to, epoch, reason, bytes, phases } => {
            let took = phases.named().iter().filter_map(|(_, took)| *took).sum();
            let status = HandoverStatus::Failed { reason: reason.clone() };
            HandoverReport {
                to: *to,
                bytes: (*bytes > 0).then_some(*bytes),
                phases: *phases,
                ..ended(child, kind, *epoch, status, took)
            }
        }
        HubEvent::TakenOver { child, kind, from, epoch } => HandoverReport {
            from: *from,
            ..ended(child, kind, *epoch, HandoverStatus::Done, Duration::ZERO)
        },
        _ => return None,
    })
}
