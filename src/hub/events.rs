//! What happens in a hub, told to whoever listens.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::Stream;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio_util::sync::ReusableBoxFuture;

use crate::model::event::HubEvent;

/// Events that a listener may lag behind before it misses some.
pub(crate) const BACKLOG: usize = 4_096;

/// The events of a hub since `Hub::events` was called; a [`Stream`], too.
///
/// Bounded: a listener that is 4,096 events late misses the oldest, and
/// [`missed`](Self::missed) counts them. The hub never waits for a listener.
#[derive(Debug)]
pub struct EventStream {
    /// `None` once the hub has stopped.
    receiving: Option<ReusableBoxFuture<'static, Received>>,
    missed: u64,
}

type Received = (Result<HubEvent, RecvError>, Receiver<HubEvent>);

async fn receive(mut events: Receiver<HubEvent>) -> Received {
    (events.recv().await, events)
}

impl EventStream {
    pub(crate) fn new(events: Option<Receiver<HubEvent>>) -> Self {
        let receiving = events.map(|events| ReusableBoxFuture::new(receive(events)));
        Self { receiving, missed: 0 }
    }

    /// The next event; `None` when the hub has stopped. May be cancelled without losing one.
    pub async fn next(&mut self) -> Option<HubEvent> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// How many events were missed since the stream began, as it was read too slowly.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed
    }
}

impl Stream for EventStream {
    type Item = HubEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<HubEvent>> {
        loop {
            let Some(receiving) = &mut self.receiving else { return Poll::Ready(None) };
            let (received, events) = ready!(receiving.poll(cx));
            receiving.set(receive(events));
            match received {
                Ok(event) => return Poll::Ready(Some(event)),
                Err(RecvError::Lagged(count)) => self.missed += count,
                Err(RecvError::Closed) => self.receiving = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt};
    use tokio::sync::broadcast;

    use super::*;
    use crate::model::id::NodeId;

    fn suspected(n: u8) -> HubEvent {
        HubEvent::NodeSuspected { node: NodeId::from_key([n; 32]) }
    }

    #[tokio::test]
    async fn a_cancelled_wait_loses_no_event_and_a_late_reader_knows_what_it_missed() {
        let (tell, events) = broadcast::channel(2);
        let mut stream = EventStream::new(Some(events));
        assert_eq!(stream.next().now_or_never(), None, "nothing has happened");
        for n in 1..=3 {
            let _ = tell.send(suspected(n));
        }
        assert_eq!(stream.next().await, Some(suspected(2)));
        assert_eq!(stream.missed(), 1);
        drop(tell);
        let rest: Vec<HubEvent> = StreamExt::collect(stream).await;
        assert_eq!(rest, [suspected(3)]);
    }
}
