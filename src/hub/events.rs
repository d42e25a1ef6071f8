//! What happens in a hub, told to whoever listens.

use tokio::sync::broadcast::{self, error::RecvError};

use crate::model::event::HubEvent;

/// Events that a listener may lag behind before it misses some.
pub(crate) const BACKLOG: usize = 4_096;

/// The events of a hub since `Hub::events` was called.
///
/// Bounded: a listener that is 4,096 events late misses the oldest, and
/// [`missed`](Self::missed) counts them. The hub never waits for a listener.
#[derive(Debug)]
pub struct EventStream {
    events: Option<broadcast::Receiver<HubEvent>>,
    missed: u64,
}

impl EventStream {
    pub(crate) fn new(events: Option<broadcast::Receiver<HubEvent>>) -> Self {
        Self { events, missed: 0 }
    }

    /// The next event; `None` when the hub has stopped. May be cancelled without losing one.
    pub async fn next(&mut self) -> Option<HubEvent> {
        let events = self.events.as_mut()?;
        loop {
            match events.recv().await {
                Ok(event) => return Some(event),
                Err(RecvError::Lagged(count)) => self.missed += count,
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// How many events were missed since the stream began, as it was read too slowly.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed
    }
}
