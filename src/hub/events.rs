//! What happens in a hub, told to whoever listens.

use std::{
    collections::{BTreeMap, VecDeque},
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::Stream;
use tokio::sync::broadcast::{self, Receiver, Sender, error::RecvError};
use tokio_util::sync::ReusableBoxFuture;

use crate::model::{
    event::HubEvent,
    id::{NodeId, NodeName},
};

/// Events that a listener may lag behind before it misses some.
const BACKLOG: usize = 4_096;

/// Those who listen, and the members that each new one is told of first.
pub(crate) struct Listeners {
    tell: Sender<HubEvent>,
    /// The other members, as the events so far have told.
    present: BTreeMap<NodeId, NodeName>,
}

impl Listeners {
    pub(crate) fn new() -> Self {
        Self { tell: broadcast::channel(BACKLOG).0, present: BTreeMap::new() }
    }

    /// Something happened.
    pub(crate) fn tell(&mut self, event: HubEvent) {
        match &event {
            HubEvent::NodeJoined { node, name } => {
                self.present.insert(*node, name.clone());
            }
            HubEvent::NodeLeft { node } | HubEvent::NodeDown { node } => {
                self.present.remove(node);
            }
            _ => {}
        }
        // An error means that nobody listens.
        let _ = self.tell.send(event);
    }

    /// The members that are present, then what happens from now on.
    pub(crate) fn listen(&self) -> EventStream {
        let joined = |(node, name): (&NodeId, &NodeName)| HubEvent::NodeJoined {
            node: *node,
            name: name.clone(),
        };
        let present = self.present.iter().map(joined).collect();
        EventStream { present, ..EventStream::new(Some(self.tell.subscribe())) }
    }
}

/// The members that were in when `Hub::events` was called, as [`HubEvent::NodeJoined`], then what has
/// happened since; a [`Stream`], too.
///
/// Bounded: a listener that is 4,096 events late misses the oldest, and
/// [`missed`](Self::missed) counts them. The hub never waits for a listener.
#[derive(Debug)]
pub struct EventStream {
    /// The members that are told of first.
    present: VecDeque<HubEvent>,
    /// `None` once the hub has stopped.
    receiving: Option<ReusableBoxFuture<'static, Received>>,
    missed: u64,
}

type Received = (Result<HubEvent, RecvError>, Receiver<HubEvent>);

async fn receive(mut events: Receiver<HubEvent>) -> Received {
    (events.recv().await, events)
}

impl EventStream {
    fn new(events: Option<Receiver<HubEvent>>) -> Self {
        let receiving = events.map(|events| ReusableBoxFuture::new(receive(events)));
        Self { present: VecDeque::new(), receiving, missed: 0 }
    }

    /// One of a hub that has stopped.
    pub(crate) fn ended() -> Self {
        Self::new(None)
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
        if let Some(event) = self.present.pop_front() {
            return Poll::Ready(Some(event));
        }
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

    fn suspected(n: u8) -> HubEvent {
        HubEvent::NodeSuspected { node: NodeId::from_key([n; 32]) }
    }

    #[tokio::test]
    async fn who_listens_is_told_first_of_the_members_that_are_in() {
        let node = |n: u8| NodeId::from_key([n; 32]);
        let joined = |n: u8| HubEvent::NodeJoined {
            node: node(n),
            name: NodeName::new(format!("n{n}")).expect("a plain word"),
        };
        let mut listeners = Listeners::new();
        for event in [joined(1), joined(2), joined(3), HubEvent::NodeLeft { node: node(1) }] {
            listeners.tell(event);
        }
        listeners.tell(HubEvent::NodeDown { node: node(3) });
        let stream = listeners.listen();
        listeners.tell(HubEvent::NodeDown { node: node(2) });
        drop(listeners);
        let told: Vec<HubEvent> = StreamExt::collect(stream).await;
        assert_eq!(told, [joined(2), HubEvent::NodeDown { node: node(2) }]);
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
