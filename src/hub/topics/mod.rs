//! Topics: what is published goes to each node with subscribers once, encoded once, and there to each of
//! them.
//!
//! Who has subscribed is in `table`. What comes for this node, published here or elsewhere, waits in
//! `inbox` for a thread that hands it out, so that neither who publishes nor the network's thread waits
//! for many subscribers; it runs no code of users. A subscriber has a queue of its own: a child's is that
//! of its door (`child`), a local recipient's is in `recipient`. What waits for another node is in
//! `outgoing`, with the lanes' frames. Nothing is sent twice, and whatever there is no room for is dropped
//! and counted (`tally`).

use std::{
    sync::{
        Arc, Once, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use actix::prelude::*;

pub(crate) mod api;
pub(crate) mod child;
mod inbox;
pub(crate) mod instance;
pub(crate) mod outgoing;
mod queue;
pub(crate) mod recipient;
mod table;
pub(crate) mod tally;

pub(crate) use self::table::{Since, SubscriberId, TooManyTopics};
use self::{
    inbox::Inbox,
    table::Table,
    tally::{Fate, Tally, TopicCounts},
};
use crate::{
    error::SubscribeError,
    model::{
        id::{NodeRun, TopicName},
        topic::{MOST_TOPICS, Publication, TopicChange},
    },
};

impl From<TooManyTopics> for SubscribeError {
    fn from(_: TooManyTopics) -> Self {
        Self::TooManyTopics { limit: MOST_TOPICS }
    }
}

/// Topics have subscribers on this node, or have none any more: see [`Topics::news`].
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct TopicsChanged;

/// A subscriber of this node.
pub(crate) trait Subscriber: Send + Sync {
    /// Queues a message for it, or drops and counts it. Returns at once, and runs no code of users.
    fn offer(&self, publication: &Arc<Publication>);

    /// The hub has stopped: nothing is given to it any more.
    fn end(&self) {}
}

/// The topics of a hub.
pub(crate) struct Topics {
    me: NodeRun,
    /// Bytes that may wait, each time that such a bound is meant.
    pub(crate) limit: usize,
    table: RwLock<Table<Arc<dyn Subscriber>>>,
    inbox: Inbox,
    hands_out: Once,
    pub(crate) tally: Tally,
    /// Who is told that this node's topics have changed.
    pub(crate) listener: OnceLock<Recipient<TopicsChanged>>,
    /// It was told, and has not asked yet.
    told: AtomicBool,
}

impl Topics {
    pub(crate) fn new(me: NodeRun, limit: usize) -> Arc<Self> {
        Arc::new(Self {
            me,
            limit,
            table: RwLock::default(),
            inbox: Inbox::new(limit),
            hands_out: Once::new(),
            tally: Tally::default(),
            listener: OnceLock::new(),
            told: AtomicBool::new(false),
        })
    }

    fn read(&self) -> RwLockReadGuard<'_, Table<Arc<dyn Subscriber>>> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn edit(&self) -> RwLockWriteGuard<'_, Table<Arc<dyn Subscriber>>> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a subscriber of this node.
    pub(crate) fn subscribe(
        self: &Arc<Self>,
        topic: &TopicName,
        subscriber: Arc<dyn Subscriber>,
        since: Since,
    ) -> Result<SubscriberId, TooManyTopics> {
        self.hands_out.call_once(|| self.begin());
        let id = self.edit().subscribe(topic, subscriber, since)?;
        self.tell();
        Ok(id)
    }

    /// Removes one.
    pub(crate) fn unsubscribe(&self, topic: &TopicName, id: SubscriberId) {
        // Dropped without the lock: it holds a door, or an actor's address.
        let removed = self.edit().unsubscribe(topic, id);
        drop(removed);
        self.tell();
    }

    /// The listener is told of news, once until it asks for them.
    fn tell(&self) {
        if self.read().has_news()
            && !self.told.swap(true, Ordering::AcqRel)
            && let Some(listener) = self.listener.get()
        {
            // Of a hub that has ended nobody wants to know.
            listener.do_send(TopicsChanged);
        }
    }

    /// The version of this node's set of topics, and what changed since this was asked last.
    pub(crate) fn news(&self) -> (u64, Vec<TopicChange>) {
        // First: who changes something after this tells again.
        self.told.store(false, Ordering::Release);
        self.edit().news()
    }

    /// Topics have subscribers on another node, or have none there any more.
    pub(crate) fn learn(&self, run: NodeRun, version: u64, changes: Vec<TopicChange>) {
        self.edit().learn(run, version, changes);
    }

    /// Another node is out.
    pub(crate) fn forget(&self, run: NodeRun) {
        self.edit().forget(run);
    }

    /// The other nodes with subscribers of a topic, each with the version at which its set is known here,
    /// and the version of this node's own. At one moment: a child that has been given a message elsewhere
    /// and comes here before it is handed out here is not given it again.
    pub(crate) fn elsewhere(&self, topic: &TopicName) -> (Vec<(NodeRun, u64)>, u64) {
        let table = self.read();
        (table.elsewhere(topic), table.version())
    }

    /// Something was published here when the set of this node had the version that it names. Tells how many
    /// subscribers of this node it is for.
    pub(crate) fn published(&self, publication: Publication) -> usize {
        let subscribers = self.read().of(&publication.topic, publication.known).count();
        if subscribers == 0 {
            return 0;
        }
        match self.take_in(self.me, publication) {
            true => subscribers,
            false => 0,
        }
    }

    /// Something came from another node.
    pub(crate) fn arrived(&self, from: NodeRun, publication: Publication) {
        self.tally.count(Fate::Received);
        if self.read().count(&publication.topic) > 0 {
            self.take_in(from, publication);
        } else {
            // The last subscriber has gone since it was sent.
            self.tally.count(Fate::SubscriberGone);
        }
    }

    fn take_in(&self, origin: NodeRun, publication: Publication) -> bool {
        let taken = self.inbox.push(origin, Arc::new(publication));
        if !taken {
            self.tally.count(Fate::OriginFull);
        }
        taken
    }

    fn begin(self: &Arc<Self>) {
        let topics = self.clone();
        let hand_out = move || {
            while let Some(publication) = topics.inbox.next() {
                topics.hand_out(&publication);
            }
        };
        let thread = thread::Builder::new().name("actix-hub-topics".to_owned()).spawn(hand_out);
        if let Err(error) = thread {
            // What is published here and comes here is dropped when the inbox is full.
            tracing::error!(%error, "the thread that hands out published messages cannot be started");
        }
    }

    /// Hands a message to its subscribers here.
    fn hand_out(&self, publication: &Arc<Publication>) {
        // Locked meanwhile: who has unsubscribed is offered nothing that is handed out after that.
        for subscriber in self.read().of(&publication.topic, publication.known) {
            subscriber.offer(publication);
        }
    }

    pub(crate) fn counts(&self) -> TopicCounts {
        let topics = self.read().topics();
        self.tally.counts(topics)
    }

    /// The hub has stopped: nothing is handed out any more.
    pub(crate) fn end(&self) {
        self.inbox.end();
        // Ended and dropped without the lock: they hold doors, or actors' addresses.
        let all = self.edit().take_all();
        all.iter().for_each(|subscriber| subscriber.end());
    }
}

#[cfg(test)]
mod tests;
