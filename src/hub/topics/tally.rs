//! What became of published messages, counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// What became of published messages on one node since its hub began.
///
/// ```
/// # use actix_hub::prelude::*;
/// # #[actix::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let hub = HubSystem::builder("doc").start().await?;
/// let counts = hub.topic_counts();
/// assert_eq!((counts.published, counts.dropped.total()), (0, 0));
/// # hub.stop().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicCounts {
    /// Topics that have subscribers on this node now.
    pub topics: u64,
    /// Messages that were published on this node.
    pub published: u64,
    /// Messages that came from other nodes.
    pub received: u64,
    /// Messages that were handed to subscribers on this node; each subscriber counts.
    pub delivered: u64,
    /// Messages that were not.
    pub dropped: TopicDrops,
}

/// Published messages that did not get to a subscriber, or to a node with subscribers, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicDrops {
    /// As much as may wait for another node waited for it; each node counts.
    pub node_full: u64,
    /// There was no path to another node, or it broke before they were written; each node counts.
    pub node_unreachable: u64,
    /// As much as may wait of one node, this one included, waited to be handed out here; each message
    /// counts once.
    pub origin_full: u64,
    /// A subscriber's queue was full; each subscriber counts.
    pub subscriber_full: u64,
    /// A subscriber had gone, or moved, before it came to them; each subscriber counts.
    pub subscriber_gone: u64,
    /// A child's kind has not registered the message, or a subscriber could not decode it; each subscriber
    /// counts.
    pub not_taken: u64,
}

impl TopicDrops {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.by_reason().iter().map(|(_, count)| count).sum()
    }

    /// Each reason by its name, with its count.
    pub(crate) fn by_reason(&self) -> [(&'static str, u64); 6] {
        [
            ("node_full", self.node_full),
            ("node_unreachable", self.node_unreachable),
            ("origin_full", self.origin_full),
            ("subscriber_full", self.subscriber_full),
            ("subscriber_gone", self.subscriber_gone),
            ("not_taken", self.not_taken),
        ]
    }
}

/// Counts what becomes of published messages.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    published: AtomicU64,
    received: AtomicU64,
    delivered: AtomicU64,
    node_full: AtomicU64,
    node_unreachable: AtomicU64,
    origin_full: AtomicU64,
    subscriber_full: AtomicU64,
    subscriber_gone: AtomicU64,
    not_taken: AtomicU64,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Published,
    Received,
    Delivered,
    NodeFull,
    NodeUnreachable,
    OriginFull,
    SubscriberFull,
    SubscriberGone,
    NotTaken,
}

impl Tally {
    pub(crate) fn count(&self, fate: Fate) {
        self.count_many(fate, 1);
    }

    pub(crate) fn count_many(&self, fate: Fate, messages: usize) {
        let counter = match fate {
            Fate::Published => &self.published,
            Fate::Received => &self.received,
            Fate::Delivered => &self.delivered,
            Fate::NodeFull => &self.node_full,
            Fate::NodeUnreachable => &self.node_unreachable,
            Fate::OriginFull => &self.origin_full,
            Fate::SubscriberFull => &self.subscriber_full,
            Fate::SubscriberGone => &self.subscriber_gone,
            Fate::NotTaken => &self.not_taken,
        };
        counter.fetch_add(messages as u64, Ordering::Relaxed);
    }

    /// With so many topics.
    pub(crate) fn counts(&self, topics: usize) -> TopicCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        TopicCounts {
            topics: topics as u64,
            published: read(&self.published),
            received: read(&self.received),
            delivered: read(&self.delivered),
            dropped: TopicDrops {
                node_full: read(&self.node_full),
                node_unreachable: read(&self.node_unreachable),
                origin_full: read(&self.origin_full),
                subscriber_full: read(&self.subscriber_full),
                subscriber_gone: read(&self.subscriber_gone),
                not_taken: read(&self.not_taken),
            },
        }
    }
}
