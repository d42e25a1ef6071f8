//! What an observer of a hub is told as it happens.

use std::{any::Any, time::Duration};

use crate::{
    error::{MaybeHandled, NotHandled},
    model::{
        event::HubEvent,
        id::ChildId,
        observe::{EventFilter, EventPlace, EventReport, EventsReport},
    },
};

/// How a `send` ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    Ok,
    NotHandled,
    MaybeHandled,
}

/// Takes in what happens; called where it happens, so it must be quick.
pub(crate) trait Recorder: Any + Send + Sync {
    /// Something happened.
    fn event(&self, event: &HubEvent);
    /// A `send` has its reply, or will have none.
    fn sent(&self, outcome: Sent, took: Duration);
    /// A `do_send` was taken in, or not.
    fn told(&self, taken: bool);
    /// A message was refused.
    fn refused(&self, reason: &NotHandled);
    /// Whether a message was handled is not known.
    fn unsure(&self, reason: &MaybeHandled);
    /// The latest events of a child, the latest first.
    fn history(&self, child: &ChildId, most: usize) -> Vec<EventReport>;
    /// The latest events that fit, the latest first.
    fn events(&self, filter: &EventFilter, before: Option<EventPlace>, most: usize)
    -> EventsReport;
    /// The hub has stopped.
    fn stopped(&self);
}
