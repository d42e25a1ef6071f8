//! Published messages for a local recipient: an actor of this process that is no child.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use actix::prelude::*;
use tokio::sync::Notify;

use super::{Subscriber, SubscriberId, Topics, queue::ByteQueue, tally::Fate};
use crate::{
    hub::{Shared, bound::Bound, codec, hot_swap::HubMessage},
    model::{id::TopicName, topic::Publication},
};

/// What waits for one recipient. An Actix mailbox is no bound, as each clone of an address has a place of
/// its own: so the next message is given when the handler of the one before has ended.
pub(super) struct RecipientQueue {
    /// The name of the messages that it takes.
    name: &'static str,
    topics: Arc<Topics>,
    /// `None`: nobody takes anything out any more.
    queue: Mutex<Option<ByteQueue<Arc<Publication>>>>,
    changed: Notify,
}

impl RecipientQueue {
    pub(super) fn new(name: &'static str, topics: Arc<Topics>) -> Arc<Self> {
        let queue = Mutex::new(Some(ByteQueue::new(topics.limit)));
        Arc::new(Self { name, topics, queue, changed: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Option<ByteQueue<Arc<Publication>>>> {
        // A panic under a lock is a defect of ours; the others go on.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next message. `None`: the subscription has ended.
    async fn next(&self) -> Option<Arc<Publication>> {
        loop {
            if let Some(publication) = self.lock().as_mut()?.pop() {
                return Some(publication);
            }
            // One that has come since has left its mark.
            self.changed.notified().await;
        }
    }
}

impl Subscriber for RecipientQueue {
    fn offer(&self, publication: &Arc<Publication>) {
        if *publication.name != *self.name {
            return;
        }
        let taken = self.lock().as_mut().map(|queue| {
            let size = publication.size();
            queue.push(publication.clone(), size)
        });
        match taken {
            Some(true) => self.changed.notify_one(),
            Some(false) => self.topics.tally.count(Fate::SubscriberFull),
            None => self.topics.tally.count(Fate::SubscriberGone),
        }
    }

    fn end(&self) {
        let left = self.lock().take().map_or(0, |queue| queue.len());
        self.topics.tally.count_many(Fate::SubscriberGone, left);
        self.changed.notify_one();
    }
}

/// How often it is looked whether the actor of a recipient to which nothing is given has ended.
const LOOK: Duration = Duration::from_secs(10);

/// Gives a recipient what waits for it, one after the other, until the subscription or its actor ends.
pub(super) async fn give<M: HubMessage>(
    hub: Weak<Shared>,
    recipient: Recipient<M>,
    queue: Arc<RecipientQueue>,
    topic: TopicName,
    id: SubscriberId,
) {
    loop {
        // An actor that ends says so to nobody: under a topic of its own nothing might come any more.
        let publication = match tokio::time::timeout(LOOK, queue.next()).await {
            Ok(Some(publication)) => publication,
            Ok(None) => break,
            Err(_) if recipient.connected() => continue,
            Err(_) => break,
        };
        let decoded = {
            let _bound = Bound::to(&hub);
            codec::decode::<M>(&publication.body)
        };
        let Ok(message) = decoded else {
            queue.topics.tally.count(Fate::NotTaken);
            continue;
        };
        let handled = recipient.send(message).await;
        // A handler may have dropped its reply; the actor goes on.
        if handled.is_err() && !recipient.connected() {
            queue.topics.tally.count(Fate::SubscriberGone);
            break;
        }
        queue.topics.tally.count(Fate::Delivered);
    }
    queue.end();
    queue.topics.unsubscribe(&topic, id);
}

/// A subscription of a local recipient: see [`Hub::subscribe`](crate::Hub::subscribe). It ends when this is
/// dropped, when the recipient's actor has ended, and when the hub stops.
#[must_use = "the subscription ends when this is dropped"]
pub struct Subscription {
    topic: TopicName,
    id: SubscriberId,
    queue: Option<Arc<RecipientQueue>>,
}

impl Subscription {
    pub(super) fn new(topic: TopicName, id: SubscriberId, queue: Arc<RecipientQueue>) -> Self {
        Self { topic, id, queue: Some(queue) }
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &TopicName {
        &self.topic
    }

    /// Leaves the subscription to its recipient: it ends with that one's actor, or with the hub. Like any
    /// address it keeps the actor, which ends by `ctx.stop()`; that it has ended shows with the next message, or
    /// within ten seconds.
    pub fn detach(mut self) {
        self.queue = None;
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take() {
            queue.topics.unsubscribe(&self.topic, self.id);
            queue.end();
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("topic", &self.topic).finish_non_exhaustive()
    }
}
