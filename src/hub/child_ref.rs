//! The typed way to a child, wherever it runs.

use std::{
    fmt,
    hash::{Hash, Hasher},
    marker::PhantomData,
    sync::Arc,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    Shared, bound,
    child_recipient::ChildRecipient,
    hot_swap::HotSwap,
    outlet::{ChildRequest, Outlet},
    takes::TakenBy,
    watches::stream::ChildWatch,
};
use crate::{error::HubSendError, model::id::ChildId};

/// A reference to a child of kind `A`: the same wherever the child runs, and while it moves.
///
/// Messages sent through one reference and its clones, from one task, are handled in the order in
/// which they were sent. It may be made before the child exists and outlives every move.
///
/// It takes the messages that its kind lists ([`Takes`](crate::Takes)); any other does not compile.
///
/// It can be sent to children, put into states and stored: with serde it is the text of the child's id.
/// Whoever reads it gets a reference of its own hub; see [`Hub::bind`](crate::Hub::bind). Two are equal
/// if they lead to one child of one cluster.
///
/// ```
/// # use actix::prelude::*;
/// # use actix_hub::prelude::*;
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Default, Serialize, Deserialize)]
/// # struct Counter(u64);
/// # impl Actor for Counter { type Context = Context<Self>; }
/// # #[derive(Message, Serialize, Deserialize)]
/// # #[rtype(result = "u64")]
/// # struct Add(u64);
/// # impl HubMessage for Add { const NAME: &'static str = "add"; }
/// # impl Handler<Add> for Counter {
/// #     type Result = u64;
/// #     fn handle(&mut self, Add(n): Add, _: &mut Context<Self>) -> u64 { self.0 += n; self.0 }
/// # }
/// # hot_swap!(Counter, kind = "counter", messages = [Add]);
/// # #[actix::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let hub = HubSystem::builder("doc").child::<Counter>().start().await?;
/// hub.start_child(ChildSpec::new::<Counter>("counter-1", ())?).await?;
///
/// let counter: ChildRef<Counter> = hub.child("counter-1");
/// assert_eq!(counter.send(Add(2)).await?, 2);
/// counter.do_send(Add(3))?;
/// assert_eq!(counter.send(Add(0)).await?, 5);
/// hub.stop().await;
/// # Ok(())
/// # }
/// ```
pub struct ChildRef<A: HotSwap> {
    outlet: Outlet,
    actor: PhantomData<fn() -> A>,
}

impl<A: HotSwap> ChildRef<A> {
    pub(crate) fn new(hub: Arc<Shared>, id: &str) -> Self {
        Self { outlet: Outlet::new(hub, id, A::KIND), actor: PhantomData }
    }

    /// The child.
    #[must_use]
    pub fn id(&self) -> &ChildId {
        self.outlet.child()
    }

    /// Sends a message and waits for its reply, `Settings::send_timeout` long unless
    /// [`timeout`](ChildRequest::timeout) says otherwise.
    ///
    /// The message takes its place in the order when this is called, not when the future is
    /// polled. It waits for room in a full queue, and while the child moves. Dropping the future
    /// cancels nothing: the message is handled, its reply is dropped.
    ///
    /// # Errors
    /// [`HubSendError`] says whether the message may have been handled.
    #[must_use = "a future does nothing but send unless it is awaited; use `do_send` for that"]
    pub fn send<M: TakenBy<A>>(&self, message: M) -> ChildRequest<M> {
        self.outlet.send(A::KIND, message)
    }

    /// Sends a message and does not wait for its reply, nor for room.
    ///
    /// `Ok` means that it was taken in behind everything sent before, not that it was handled: it
    /// is lost if the child's node goes down first, or if no node knows of such a child. While the
    /// child is on this node its messages are not encoded; one that is larger than
    /// `Settings::message_limit`, or cannot be encoded, is lost if the child moves before it comes to
    /// it, as [`HubEvent::MessageDropped`](crate::HubEvent::MessageDropped) tells.
    ///
    /// # Errors
    /// [`HubSendError::NotHandled`]: the queue is full ([`NotHandled::Busy`](crate::NotHandled::Busy)), or the message
    /// cannot be sent at all.
    pub fn do_send<M: TakenBy<A>>(&self, message: M) -> Result<(), HubSendError> {
        self.outlet.do_send(A::KIND, message)
    }

    /// The same as [`do_send`](Self::do_send), by the name it has on an `Addr` when the outcome
    /// matters.
    ///
    /// # Errors
    /// As there.
    pub fn try_send<M: TakenBy<A>>(&self, message: M) -> Result<(), HubSendError> {
        self.do_send(message)
    }

    /// Watches the child, wherever it runs and while it moves: where it is, that it failed, began anew or moved,
    /// that its node went down, that it was given up or stopped. Any number may watch one child, on any node;
    /// it costs the child nothing, and other nodes are not told.
    ///
    /// What is told is what this node knows: it may come a little later than a message by which the child
    /// itself says so, and during a split each side tells what it sees. Of a child that nobody here has heard
    /// of its home node is asked, so that one whose start was answered is not said to be missing; nothing is
    /// told until that node has answered.
    ///
    /// [`ChildChange::Stopped`](crate::ChildChange::Stopped) is the last item. What is started under the same id
    /// later is another child, and watched anew. A start by hand of one that was given up is none: that child
    /// goes on. Where this node has not heard that it was given up, such a start is told as
    /// [`Stopped`](crate::ChildChange::Stopped), though.
    ///
    /// The other way round a node that has not heard yet of a child's end and its next start tells how the last
    /// one was, and [`Stopped`](crate::ChildChange::Stopped) when it hears of them.
    ///
    /// ```
    /// # use actix::prelude::*;
    /// # use actix_hub::prelude::*;
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Default, Serialize, Deserialize)]
    /// # struct Room;
    /// # impl Actor for Room { type Context = Context<Self>; }
    /// # hot_swap!(Room, kind = "room", messages = []);
    /// # #[actix::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let hub = HubSystem::builder("doc").child::<Room>().start().await?;
    /// let room = hub.child_or_start::<Room>("room-1", ()).await?;
    /// let mut watch = room.watch();
    /// let first = watch.next().await;
    /// assert!(matches!(first, Some(ChildChange::Running { node, .. }) if node == hub.node_id()));
    /// hub.stop_child("room-1").await?;
    /// assert_eq!(watch.next().await, Some(ChildChange::Stopped));
    /// assert_eq!(watch.next().await, None);
    /// # hub.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn watch(&self) -> ChildWatch {
        self.outlet.watch()
    }

    /// Whether the text that this was made of can be the id of a child.
    pub(crate) fn is_id(&self) -> bool {
        self.outlet.is_id()
    }

    /// A reference that takes messages of this type, without the kind of the child.
    #[must_use]
    pub fn recipient<M: TakenBy<A>>(&self) -> ChildRecipient<M> {
        ChildRecipient::new(self.outlet.clone(), A::KIND.into())
    }
}

impl<A: HotSwap> Clone for ChildRef<A> {
    fn clone(&self) -> Self {
        Self { outlet: self.outlet.clone(), actor: PhantomData }
    }
}

impl<A: HotSwap> PartialEq for ChildRef<A> {
    fn eq(&self, other: &Self) -> bool {
        self.outlet.leads_where(&other.outlet)
    }
}

impl<A: HotSwap> Eq for ChildRef<A> {}

impl<A: HotSwap> Hash for ChildRef<A> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id().hash(state);
    }
}

impl<A: HotSwap> fmt::Display for ChildRef<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id().fmt(f)
    }
}

impl<A: HotSwap> fmt::Debug for ChildRef<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildRef").field("kind", &A::KIND).field("child", self.id()).finish()
    }
}

impl<A: HotSwap> Serialize for ChildRef<A> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.id().serialize(serializer)
    }
}

impl<'de, A: HotSwap> Deserialize<'de> for ChildRef<A> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let child = ChildId::deserialize(deserializer)?;
        Ok(Self::new(bound::reader()?, child.as_str()))
    }
}
