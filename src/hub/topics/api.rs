//! What users do with topics.

use std::sync::Arc;

use actix::prelude::*;

use super::{
    Since, TopicCounts,
    outgoing::Queued,
    recipient::{RecipientQueue, Subscription, give},
    tally::Fate,
};
use crate::{
    error::{PublishError, SubscribeError},
    hub::{
        Hub,
        bound::Bound,
        codec::{self, Rules},
        hot_swap::HubMessage,
        kind::check_message_name,
        trace::publishing,
    },
    model::{id::TopicName, topic::Publication},
};

/// To whom a message goes that was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// How many other nodes it goes to: those with subscribers of its topic, as far as this node knows.
    pub nodes: usize,
    /// How many subscribers the topic has on this node.
    pub here: usize,
}

impl Hub {
    /// Publishes a message under a topic: it goes to all who have subscribed to that, on whichever node.
    ///
    /// Subscribers are children, by [`ChildSpec::subscribe`](crate::ChildSpec::subscribe) or
    /// [`ChildContext::subscribe`](crate::ChildContext::subscribe), and local actors, by
    /// [`Hub::subscribe`]. A topic needs no other preparation, and may carry messages of several types:
    /// each subscriber is given those that it takes.
    ///
    /// **At most once.** No message is sent twice, and none is given to a child twice, be it moved
    /// meanwhile; nobody waits for an answer. Whatever there is no room for is dropped, for that subscriber
    /// or node alone, and counted ([`Hub::topic_counts`]). What is published while a child moves, from its
    /// freeze until the other nodes have heard that it runs where it is now, is lost to it and may not be
    /// counted. What must not be lost is sent with [`ChildRef::send`](crate::ChildRef::send), or asked for
    /// again by its number.
    ///
    /// **In order**: what one node publishes under one topic, one call after the other, each subscriber is
    /// given in that order, with gaps where something was dropped. Messages of two nodes, or under two
    /// topics, have no order.
    ///
    /// **Cost**: the message is encoded once, and goes once to each other node that has subscribers, with
    /// the messages for children. All who wait for it share its bytes, and each decodes it when its turn
    /// comes, on this node, too: so what waits is bounded in bytes (`Settings::topic_bytes`), messages need
    /// no `Clone`, and tests on one node find what would be lost on the way to another. This call waits for
    /// nobody.
    ///
    /// `Ok` says where it goes, not that it arrives. Another node hears of the first subscriber of a topic
    /// here within a round trip or so; until then it sends nothing.
    ///
    /// ```
    /// # use actix::prelude::*;
    /// # use actix_hub::prelude::*;
    /// # use serde::{Deserialize, Serialize};
    /// #[derive(Message, Serialize, Deserialize)]
    /// #[rtype(result = "()")]
    /// struct Price(u64);
    /// impl HubMessage for Price { const NAME: &'static str = "price"; }
    ///
    /// #[derive(Default, Serialize, Deserialize)]
    /// struct Trader { price: u64 }
    /// # impl Actor for Trader { type Context = Context<Self>; }
    /// impl Handler<Price> for Trader {
    ///     type Result = ();
    ///     fn handle(&mut self, Price(price): Price, _: &mut Context<Self>) { self.price = price; }
    /// }
    /// # #[derive(Message, Serialize, Deserialize)]
    /// # #[rtype(result = "u64")]
    /// # struct Get;
    /// # impl HubMessage for Get { const NAME: &'static str = "get"; }
    /// # impl Handler<Get> for Trader {
    /// #     type Result = u64;
    /// #     fn handle(&mut self, _: Get, _: &mut Context<Self>) -> u64 { self.price }
    /// # }
    /// hot_swap!(Trader, kind = "trader", messages = [Price, Get]);
    ///
    /// # #[actix::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let hub = HubSystem::builder("doc").child::<Trader>().start().await?;
    /// let ann = ChildSpec::new::<Trader>("ann", ())?.subscribe("prices.acme")?;
    /// hub.start_child(ann).await?;
    ///
    /// assert_eq!(hub.publish("prices.acme", Price(42))?.here, 1);
    /// # let ann = hub.child::<Trader>("ann");
    /// # while ann.send(Get).await? != 42 {}
    /// # assert_eq!(hub.topic_counts().delivered, 1);
    /// # hub.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`PublishError`]: nothing was sent to anybody.
    pub fn publish<M: HubMessage>(
        &self,
        topic: impl AsRef<str>,
        message: M,
    ) -> Result<Published, PublishError> {
        let topic = TopicName::new(topic)?;
        check_message_name(M::NAME)?;
        let shared = self.shared();
        let doors = &shared.doors;
        if doors.is_closed() {
            return Err(PublishError::HubStopped);
        }
        let rules = Rules::of_messages(&shared.settings);
        let encoded = {
            // What is encoded may be read back.
            let _bound = Bound::to(&Arc::downgrade(shared));
            codec::encode_by(&message, rules)
        };
        let body = encoded?;
        let span = publishing(&topic, M::NAME);
        let propagator = shared.propagator.as_ref().filter(|_| !span.is_disabled());
        let trace = propagator.and_then(|propagator| propagator.inject(&span));
        let topics = &doors.topics;
        topics.tally.count(Fate::Published);
        let (elsewhere, known) = topics.elsewhere(&topic);
        let publication = Publication { topic, known, trace, name: M::NAME.into(), body };
        let mut nodes = 0;
        for (run, known) in elsewhere {
            match doors.publish(run, Publication { known, ..publication.clone() }) {
                Queued::Yes => nodes += 1,
                Queued::Full => topics.tally.count(Fate::NodeFull),
                Queued::Over => topics.tally.count(Fate::NodeUnreachable),
            }
        }
        Ok(Published { nodes, here: topics.published(publication) })
    }

    /// Has an actor of this process, one that is no child, listen to a topic: it is given the messages of
    /// this type that are published under it, on whichever node. How they are delivered:
    /// [`publish`](Self::publish).
    ///
    /// The next message is given when the handler of the one before has ended, also one that answers with a
    /// future. Meanwhile up to `Settings::topic_bytes` wait for this recipient.
    ///
    /// Called on an Actix arbiter, as all code of actors and of `#[actix::main]` is: that arbiter hands the
    /// messages over.
    ///
    /// ```
    /// # use actix::prelude::*;
    /// # use actix_hub::prelude::*;
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Message, Serialize, Deserialize)]
    /// # #[rtype(result = "()")]
    /// # struct Price(u64);
    /// # impl HubMessage for Price { const NAME: &'static str = "price"; }
    /// /// One WebSocket.
    /// struct Session { hub: Hub, /* .. */ seen: tokio::sync::mpsc::UnboundedSender<u64> }
    ///
    /// impl Actor for Session {
    ///     type Context = Context<Self>;
    ///
    ///     fn started(&mut self, ctx: &mut Context<Self>) {
    ///         let prices = ctx.address().recipient::<Price>();
    ///         match self.hub.subscribe("prices.acme", prices) {
    ///             Ok(subscription) => subscription.detach(), // until this actor ends
    ///             Err(_) => ctx.stop(),
    ///         }
    ///     }
    /// }
    ///
    /// impl Handler<Price> for Session {
    ///     type Result = ();
    ///     fn handle(&mut self, Price(price): Price, _: &mut Context<Self>) {
    ///         // Written to the socket.
    /// #       self.seen.send(price).ok();
    ///     }
    /// }
    /// # #[actix::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let hub = HubSystem::builder("doc").start().await?;
    /// # let (seen, mut sees) = tokio::sync::mpsc::unbounded_channel();
    /// # let session = Session { hub: hub.clone(), seen }.start();
    /// # while hub.topic_counts().topics == 0 { tokio::task::yield_now().await; }
    /// # hub.publish("prices.acme", Price(42))?;
    /// # assert_eq!(sees.recv().await, Some(42));
    /// # drop(session);
    /// # hub.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`SubscribeError`]: it listens to nothing.
    pub fn subscribe<M: HubMessage>(
        &self,
        topic: impl AsRef<str>,
        recipient: Recipient<M>,
    ) -> Result<Subscription, SubscribeError> {
        let topic = TopicName::new(topic)?;
        check_message_name(M::NAME)?;
        let shared = self.shared();
        if shared.doors.is_closed() {
            return Err(SubscribeError::HubStopped);
        }
        let arbiter = Arbiter::try_current().ok_or(SubscribeError::NoArbiter)?;
        let topics = &shared.doors.topics;
        let queue = RecipientQueue::new(M::NAME, topics.clone());
        let id = topics.subscribe(&topic, queue.clone(), Since::Ever)?;
        let subscription = Subscription::new(topic.clone(), id, queue.clone());
        // Dropped on failure, which ends it.
        let gives = give(Arc::downgrade(shared), recipient, queue, topic, id);
        if !arbiter.spawn(gives) {
            return Err(SubscribeError::NoArbiter);
        }
        Ok(subscription)
    }

    /// What became of published messages on this node since the hub began.
    #[must_use]
    pub fn topic_counts(&self) -> TopicCounts {
        self.shared().doors.topics.counts()
    }
}
