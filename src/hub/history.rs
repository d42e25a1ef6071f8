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
    observe::{HandoverReport, HandoverStatus, MOST_ASKED},
};

/// The latest handovers from a node and to it.
pub(crate) struct History {
    me: NodeId,
    ended: Mutex<Ended>,
}

#[derive(Default)]
struct Ended {
    /// The latest first.
    reports: VecDeque<HandoverReport>,
    /// How many there have been.
    count: u64,
}

impl History {
    pub(crate) fn new(me: NodeId) -> Self {
        Self { me, ended: Mutex::default() }
    }

    fn ended(&self) -> MutexGuard<'_, Ended> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something happened.
    pub(crate) fn event(&self, event: &HubEvent) {
        if let Some(report) = report(self.me, event) {
            let mut ended = self.ended();
            ended.reports.push_front(report);
            ended.reports.truncate(MOST_ASKED);
            ended.count += 1;
        }
    }

    /// Those behind the first so many, the latest first, and how many there have been.
    pub(crate) fn since(&self, known: u64) -> (Vec<HandoverReport>, u64) {
        let ended = self.ended();
        let new = usize::try_from(ended.count.saturating_sub(known)).unwrap_or(usize::MAX);
        (ended.reports.iter().take(new).cloned().collect(), ended.count)
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
        HubEvent::HandoverFailed { child, kind, to, epoch, reason, bytes, phases, .. } => {
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
