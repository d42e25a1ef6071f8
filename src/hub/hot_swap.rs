//! What an actor implements to become a child, and what it is given.

use std::{fmt, marker::PhantomData};

use actix::prelude::*;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Hub,
    child_ref::ChildRef,
    codec,
    topics::instance::InstanceTopics,
    watches::{instance::InstanceWatches, terminated::Terminated},
};
use crate::{
    error::{ChildSpecError, SubscribeError},
    model::{
        child::{ChildOrigin, ChildSpec, Epoch, Role},
        id::{ChildId, KindName, TopicName},
    },
};

/// What a message may be answered with: anything that serde can carry.
///
/// Implemented for all such types. CBOR would read `Some(None)` and `Some(())` back as `None`: what
/// holds them is refused when it is encoded, and told with the path to it. Bytes belong into
/// `serde_bytes`; a bare `Vec<u8>` is an array of numbers, fifty times slower.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the reply of a hub message",
    label = "a reply must be `Serialize + DeserializeOwned + Send + 'static`"
)]
pub trait HubReply: Serialize + DeserializeOwned + Send + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + 'static> HubReply for T {}

/// An Actix message that may cross to another node.
///
/// ```
/// use actix::prelude::*;
/// use actix_hub::prelude::*;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Message, Serialize, Deserialize)]
/// #[rtype(result = "u64")]
/// struct Add(u64);
///
/// impl HubMessage for Add {
///     const NAME: &'static str = "counter.add";
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a hub message",
    label = "no `impl HubMessage for {Self}`",
    note = "a message that may go to another node has a name: `impl HubMessage for {Self} {{ const NAME: &'static str = \"name\"; }}`",
    note = "and it derives `Message`, `Serialize` and `Deserialize`"
)]
pub trait HubMessage:
    Message<Result: HubReply> + Serialize + DeserializeOwned + Send + 'static
{
    /// Its name on the wire: 1 to 255 bytes, once for each kind, the same on every node.
    const NAME: &'static str;
}

/// An actor whose state can go to another node.
///
/// ```
/// use actix::prelude::*;
/// use actix_hub::prelude::*;
///
/// #[derive(Default)]
/// struct Counter {
///     value: u64,
/// }
///
/// impl Actor for Counter {
///     type Context = Context<Self>;
/// }
///
/// impl HotSwap for Counter {
///     const KIND: &'static str = "counter";
///     type Args = ();
///     type State = u64;
///
///     fn from_args((): (), _: &ChildContext<Self>) -> Result<Self, StartFailure> {
///         Ok(Self::default())
///     }
///     fn prepare_handover_state(&mut self) -> u64 {
///         self.value
///     }
///     fn alter_handover_state(&mut self, state: u64) {
///         self.value = state;
///     }
/// }
/// ```
///
/// The messages of its children are listed beside it, `takes!(Counter: [Add, Read])`: see
/// [`takes!`](crate::takes).
///
/// # In which order a move calls what
///
/// On the old node [`prepare_handover_state`](Self::prepare_handover_state); on the new one
/// [`from_args`](Self::from_args), [`alter_handover_state`](Self::alter_handover_state) and `started`;
/// and only then, on the old one, `stopped`: until the successor runs the old actor is the one that goes
/// on if the move fails. So what two cannot hold at a time (a lock, a port, a lease) is released in
/// `prepare_handover_state`, not in `stopped`, and taken again in `started` of the successor, or in
/// [`resume_after_abort`](Self::resume_after_abort) if the move has failed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a child of a hub",
    label = "neither `hot_swap!` nor `impl HotSwap` for it",
    note = "if its own serde form is its state: `hot_swap!({Self}, kind = \"name\", messages = [Message, ..])`"
)]
pub trait HotSwap: Actor<Context = Context<Self>> {
    /// The name under which nodes agree on this sort of actor, 1 to 128 bytes.
    const KIND: &'static str;
    /// The version of [`State`](Self::State). Raise it when its CBOR changes its meaning.
    const STATE_VERSION: u32 = 1;
    /// The oldest version that [`upgrade_state`](Self::upgrade_state) reads.
    const OLDEST_STATE_VERSION: u32 = Self::STATE_VERSION;
    /// Whether [`prepare_handover_state`](Self::prepare_handover_state) only reads the actor, so that it
    /// may be called at any time, with [`resume_after_abort`](Self::resume_after_abort) after it. Then
    /// the state of each child is tried when it has started, where
    /// [`Settings::verify_encoding`](crate::Settings::verify_encoding) is on. `true` with
    /// [`hot_swap!`](crate::hot_swap).
    const PREPARE_ONLY_READS: bool = false;
    /// What a fresh start gets. CBOR on the wire, so it need not be `Send`.
    type Args: Serialize + DeserializeOwned + 'static;
    /// What a handover carries. CBOR on the wire, so it need not be `Send`.
    ///
    /// While releases are rolled out, the newer one reads what the older one wrote. A field that is new
    /// needs `#[serde(default)]`, or a higher [`STATE_VERSION`](Self::STATE_VERSION) and
    /// [`upgrade_state`](Self::upgrade_state): a node that cannot read a state takes no such child.
    type State: Serialize + DeserializeOwned + 'static;

    /// Makes the actor. It is not started yet: `started` comes when its context runs.
    ///
    /// # Errors
    /// Why it cannot be made; the starter is told.
    fn from_args(args: Self::Args, child: &ChildContext<Self>) -> Result<Self, StartFailure>;

    /// Gives the state that goes along. All started handlers are resolved; nothing runs any more
    /// unless the move fails, and then [`resume_after_abort`](Self::resume_after_abort) comes.
    fn prepare_handover_state(&mut self) -> Self::State;

    /// Takes the state over, after [`from_args`](Self::from_args) and before `started`.
    fn alter_handover_state(&mut self, state: Self::State);

    /// The move failed and the actor goes on here: gives back what
    /// [`prepare_handover_state`](Self::prepare_handover_state) gave, for actors that move data
    /// out there.
    fn resume_after_abort(&mut self, state: Self::State) {
        drop(state);
    }

    /// Tells a replica which role it has. Not called while a child has one instance only.
    fn redundancy_signal(&mut self, role: Role, ctx: &mut Context<Self>) {
        let _ = (role, ctx);
    }

    /// Takes in the state of an owner that lived on the other side of a split and gave way. Called
    /// once for each such state; a panic parks it.
    ///
    /// Unless implemented the state is parked: it stays as it is on this node and a second one, where
    /// [`Hub::parked_states`](crate::Hub::parked_states) fetches it, and
    /// [`HubEvent::StateParked`](crate::HubEvent::StateParked) tells of it.
    /// [`Hub::apply_parked`](crate::Hub::apply_parked) gives it to this method again.
    ///
    /// # What both have is counted twice by an addition
    /// Most often the two states have nothing in common, as one side of a split began the child from
    /// nothing. But where a copy was held when the cut came, as the child was being moved, both sides go on
    /// from it; and a parked state may be of a time from which the child has gone on elsewhere. `a + b` then
    /// counts twice what came before. Nobody can tell `merge_diverged_state` which of these it is, so it must
    /// be right for all: to take in a state that is in its own already must change nothing, and the order
    /// must not matter. What was done is kept by its id, and merged by union; or it is counted for each maker
    /// apart, and the larger count of each is kept. A maker is an actor as it was made once, on one node at
    /// one [`epoch`](ChildContext::epoch), and not a node: that may make the child again, from nothing.
    ///
    /// ```
    /// use std::collections::BTreeMap;
    ///
    /// use actix::prelude::*;
    /// use actix_hub::prelude::*;
    /// use serde::{Deserialize, Serialize};
    ///
    /// /// Likes, counted by who counted them: a grow-only counter.
    /// #[derive(Default, Serialize, Deserialize)]
    /// struct Likes {
    ///     counts: BTreeMap<String, u64>,
    ///     /// This actor's own name in `counts`: no other was made on this node at its epoch.
    ///     #[serde(skip)]
    ///     me: String,
    /// }
    ///
    /// impl Actor for Likes {
    ///     type Context = Context<Self>;
    /// }
    ///
    /// impl Likes {
    ///     fn make(_: (), child: &ChildContext<Self>) -> Result<Self, StartFailure> {
    ///         let me = format!("{} {}", child.hub().node_id(), child.epoch());
    ///         Ok(Self { counts: BTreeMap::new(), me })
    ///     }
    ///
    ///     fn like(&mut self) {
    ///         *self.counts.entry(self.me.clone()).or_default() += 1;
    ///     }
    ///
    ///     fn total(&self) -> u64 {
    ///         self.counts.values().sum()
    ///     }
    ///
    ///     fn merge(&mut self, other: Self) {
    ///         for (maker, count) in other.counts {
    ///             let own = self.counts.entry(maker).or_default();
    ///             *own = count.max(*own);
    ///         }
    ///     }
    /// }
    ///
    /// hot_swap!(
    ///     Likes,
    ///     kind = "likes",
    ///     messages = [],
    ///     make = Likes::make,
    ///     keep = [me],
    ///     merge = Likes::merge,
    /// );
    ///
    /// let made = |me: &str| Likes { me: me.to_owned(), ..Likes::default() };
    /// // Two likes before the split; both sides go on from them.
    /// let mut before = made("a 1.0");
    /// before.like();
    /// before.like();
    /// let (mut here, mut there) = (made("a 1.2"), made("b 2.0"));
    /// here.alter_handover_state(Snapshot::of(&before));
    /// there.alter_handover_state(Snapshot::of(&before));
    /// here.like();
    /// there.like();
    /// for _ in 0..2 {
    ///     // Once more changes nothing.
    ///     assert_eq!(here.merge_diverged_state(Snapshot::of(&there)), MergeOutcome::Merged);
    ///     assert_eq!(here.total(), 4, "an addition would have said 6");
    /// }
    /// ```
    ///
    /// Such a state has an entry for each time its actor was made: for each move and each start.
    fn merge_diverged_state(&mut self, other: Self::State) -> MergeOutcome {
        drop(other);
        MergeOutcome::Parked
    }

    /// Reads a state of an older version.
    ///
    /// # Errors
    /// [`StateVersionError`] unless implemented: no older version is read.
    fn upgrade_state(from: u32, cbor: &[u8]) -> Result<Self::State, StateVersionError> {
        let _ = cbor;
        Err(StateVersionError::new(format!(
            "states of version {from} are not read, only of version {}",
            Self::STATE_VERSION
        )))
    }
}

/// What [`HotSwap::merge_diverged_state`] did with a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub enum MergeOutcome {
    /// It is in the actor's own state now.
    Merged,
    /// The actor has not taken it in: it is kept where it can be fetched.
    Parked,
}

/// Why an actor could not be made. Made from any error or text.
///
/// ```
/// use actix_hub::StartFailure;
///
/// fn port(text: &str) -> Result<u16, StartFailure> {
///     let port: u16 = text.parse()?;
///     if port == 0 {
///         return Err("port 0 means nothing here".into());
///     }
///     Ok(port)
/// }
/// assert!(port("x").is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartFailure {
    reason: String,
}

impl StartFailure {
    /// With this reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }

    /// The reason.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for StartFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

// No `Error` impl: it would forbid the conversion from every error.
impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> From<E> for StartFailure {
    fn from(error: E) -> Self {
        Self::new(error.into().to_string())
    }
}

/// A state of a version that is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct StateVersionError {
    reason: String,
}

impl StateVersionError {
    /// With this reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// What a child knows of itself. Handed to [`HotSwap::from_args`]; cheap to clone and keep.
pub struct ChildContext<A: HotSwap> {
    hub: Hub,
    spec: std::sync::Arc<ChildSpec>,
    epoch: Epoch,
    origin: ChildOrigin,
    topics: std::sync::Arc<InstanceTopics>,
    watches: std::sync::Arc<InstanceWatches>,
    actor: PhantomData<fn() -> A>,
}

impl<A: HotSwap> ChildContext<A> {
    pub(crate) fn new(
        hub: Hub,
        spec: std::sync::Arc<ChildSpec>,
        epoch: Epoch,
        origin: ChildOrigin,
        topics: std::sync::Arc<InstanceTopics>,
        watches: std::sync::Arc<InstanceWatches>,
    ) -> Self {
        Self { hub, spec, epoch, origin, topics, watches, actor: PhantomData }
    }

    /// With another origin.
    #[cfg(feature = "testkit")]
    pub(crate) fn originating(self, origin: ChildOrigin) -> Self {
        Self { origin, ..self }
    }

    /// The child's identity.
    #[must_use]
    pub fn id(&self) -> &ChildId {
        self.spec.id()
    }

    /// The hub it runs in.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// A reference to the child itself. Messages through it survive a move; messages through the
    /// `Addr` of its context do not.
    #[must_use]
    pub fn child_ref(&self) -> ChildRef<A> {
        self.hub.child(self.id())
    }

    /// What it was started from: id, tags, metadata.
    #[must_use]
    pub fn spec(&self) -> &ChildSpec {
        &self.spec
    }

    /// What its starter noted under this key.
    #[must_use]
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.spec.metadata().get(key).map(String::as_str)
    }

    /// What this node's app has given to [`HubBuilder::data`](crate::HubBuilder::data), by its type.
    #[must_use]
    pub fn data<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.hub.data()
    }

    /// The same for an actor that cannot be made without it.
    ///
    /// # Errors
    /// There is none: a failure to hand on from [`HotSwap::from_args`], which names the type. The child
    /// is tried again after a pause, and by another node if one can make it.
    pub fn require<T: Send + Sync + 'static>(&self) -> Result<&T, StartFailure> {
        self.hub.shared().data.require().map_err(StartFailure::new)
    }

    /// Has this instance of the child listen to a topic, from when it has started until it ends: it is given
    /// what is published under that name, if its kind has registered the message. Called in
    /// [`HotSwap::from_args`], or in `started`, it moves with the child, as the successor calls it too;
    /// [`ChildSpec::subscribe`] does it without code. Once more for the same topic changes nothing. How that
    /// is delivered: [`Hub::publish`].
    ///
    /// ```
    /// # use actix::prelude::*;
    /// # use actix_hub::prelude::*;
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Message, Serialize, Deserialize)]
    /// # #[rtype(result = "()")]
    /// # struct Price(u64);
    /// # impl HubMessage for Price { const NAME: &'static str = "price"; }
    /// #[derive(Default, Serialize, Deserialize)]
    /// struct Trader { price: u64 }
    /// # impl Actor for Trader { type Context = Context<Self>; }
    /// # impl Handler<Price> for Trader {
    /// #     type Result = ();
    /// #     fn handle(&mut self, Price(price): Price, _: &mut Context<Self>) { self.price = price; }
    /// # }
    /// impl Trader {
    ///     fn make(stock: String, child: &ChildContext<Self>) -> Result<Self, StartFailure> {
    ///         child.subscribe(format!("prices.{stock}"))?;
    ///         Ok(Self::default())
    ///     }
    /// }
    /// hot_swap!(Trader, kind = "trader", messages = [Price], args = String, make = Trader::make);
    ///
    /// # #[actix::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let hub = HubSystem::builder("doc").child::<Trader>().start().await?;
    /// hub.start_child(ChildSpec::new::<Trader>("ann", "acme".to_owned())?).await?;
    /// assert_eq!(hub.publish("prices.acme", Price(42))?.here, 1);
    /// # hub.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`SubscribeError::Id`]: the name does not have the shape of a topic. [`SubscribeError::TooManyTopics`]
    /// of an instance that runs; one that is being started is started without the topic then, which the log
    /// says.
    pub fn subscribe(&self, topic: impl AsRef<str>) -> Result<(), SubscribeError> {
        Ok(self.topics.subscribe(TopicName::new(topic)?)?)
    }

    /// Has this instance listen to a topic no more, be it by its code or by its spec. What waits in its
    /// queue it is still given.
    pub fn unsubscribe(&self, topic: impl AsRef<str>) {
        self.topics.unsubscribe(topic.as_ref());
    }

    /// Has this instance of the child watch another child, wherever that runs: when the other one has ended,
    /// the instance is given a [`Terminated`], once for each watch, before the messages that wait in its
    /// queue; of several ends one comes before each message. It has ended when it was stopped for good or given up, or when its node went down; moves and
    /// restarts are no ends. One that does not exist has ended already. Of all that happens to a child,
    /// moves and restarts included, [`ChildRef::watch`](crate::ChildRef::watch) tells.
    ///
    /// The kind need not register the message: to implement its handler is enough. It has no reply that
    /// anybody waits for; a move waits for the end of a handler that answers with a future.
    ///
    /// The watch begins when this instance has started, and is over with it: called in
    /// [`HotSwap::from_args`], or in `started`, it moves with the child, as the successor calls it too. Of a
    /// child that was stopped or given up meanwhile the successor is told, unless it runs again by then; of a
    /// node that went down meanwhile it is not, as another node is about to start what was on it. The same
    /// holds when the watching child restarts. Those whom the state names are watched in `started`, when it is
    /// there.
    ///
    /// After [`Terminated`] the watch is over. Called again, also in the handler, it waits for the next end:
    /// one that is still given up, or was stopped, has ended, and that is told at once; one whose node went down
    /// has not, as another node is about to start it. Once more for a child that is watched changes nothing.
    ///
    /// The child of that id in the cluster of this child is watched, also if the reference is one of another
    /// hub in this process; [`ChildRef::watch`](crate::ChildRef::watch) asks the hub of the reference.
    ///
    /// ```
    /// # use actix::prelude::*;
    /// # use actix_hub::prelude::*;
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Default, Serialize, Deserialize)]
    /// # struct Player;
    /// # impl Actor for Player { type Context = Context<Self>; }
    /// # hot_swap!(Player, kind = "player", messages = []);
    /// /// Knows who plays.
    /// #[derive(Serialize, Deserialize)]
    /// struct Table {
    ///     players: Vec<ChildRef<Player>>,
    ///     #[serde(skip)]
    ///     child: Option<ChildContext<Table>>,
    /// }
    ///
    /// impl Table {
    ///     fn make(players: Vec<ChildRef<Player>>, child: &ChildContext<Self>) -> Result<Self, StartFailure> {
    ///         Ok(Self { players, child: Some(child.clone()) })
    ///     }
    /// }
    ///
    /// impl Actor for Table {
    ///     type Context = Context<Self>;
    ///
    ///     fn started(&mut self, _: &mut Context<Self>) {
    ///         // Also after a move, with the players of its state.
    ///         for player in &self.players {
    ///             self.child.iter().for_each(|child| child.watch(player));
    ///         }
    ///     }
    /// }
    ///
    /// impl Handler<Terminated> for Table {
    ///     type Result = ();
    ///     fn handle(&mut self, ended: Terminated, _: &mut Context<Self>) {
    ///         self.players.retain(|player| *player.id() != ended.child);
    ///     }
    /// }
    ///
    /// # #[derive(Message, Serialize, Deserialize)]
    /// # #[rtype(result = "usize")]
    /// # struct Count;
    /// # impl HubMessage for Count { const NAME: &'static str = "count"; }
    /// # impl Handler<Count> for Table {
    /// #     type Result = usize;
    /// #     fn handle(&mut self, _: Count, _: &mut Context<Self>) -> usize { self.players.len() }
    /// # }
    /// hot_swap!(
    ///     Table,
    ///     kind = "table",
    ///     messages = [Count],
    ///     args = Vec<ChildRef<Player>>,
    ///     make = Table::make,
    ///     keep = [child],
    /// );
    ///
    /// # #[actix::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let hub = HubSystem::builder("doc").child::<Player>().child::<Table>().start().await?;
    /// let ann = hub.child_or_start::<Player>("ann", ()).await?;
    /// let table = hub.child_or_start::<Table>("table-1", vec![ann]).await?;
    /// assert_eq!(table.send(Count).await?, 1);
    /// hub.stop_child("ann").await?;
    /// while table.send(Count).await? > 0 {} // it hears of it in a moment
    /// # hub.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn watch<B: HotSwap>(&self, other: &ChildRef<B>)
    where
        A: Handler<Terminated>,
    {
        self.watches.watch::<A>(other.id(), other.is_id());
    }

    /// Has this instance watch that child no more: it is given no [`Terminated`] of it, also if that was on its
    /// way.
    pub fn unwatch<B: HotSwap>(&self, other: &ChildRef<B>) {
        self.watches.unwatch(other.id());
    }

    /// The epoch at which this instance was made.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Why this instance was made: whether its state is gone, comes, or never was. The same in
    /// [`HotSwap::from_args`], and later through a clone that the actor keeps.
    #[must_use]
    pub fn origin(&self) -> ChildOrigin {
        self.origin
    }
}

impl<A: HotSwap> Clone for ChildContext<A> {
    fn clone(&self) -> Self {
        let (topics, watches) = (self.topics.clone(), self.watches.clone());
        let (hub, spec) = (self.hub.clone(), self.spec.clone());
        Self::new(hub, spec, self.epoch, self.origin, topics, watches)
    }
}

impl<A: HotSwap> fmt::Debug for ChildContext<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildContext")
            .field("child", self.id())
            .field("epoch", &self.epoch)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

/// Arguments travel with every entry of the registry: 256 KiB of CBOR are plenty.
const ARGS_LIMIT: usize = 256 << 10;

impl ChildSpec {
    /// What is needed to start a child of kind `A` from nothing. Arguments that hold references to children
    /// beside an `Option` in an `Option` are read back while they are encoded, and so made inside
    /// [`Hub::bind`](crate::Hub::bind), or by a child.
    ///
    /// # Errors
    /// [`ChildSpecError`] when the id has not its shape, or the arguments cannot be encoded or
    /// are larger than 256 KiB.
    pub fn new<A: HotSwap>(id: impl AsRef<str>, args: A::Args) -> Result<Self, ChildSpecError> {
        let id = ChildId::new(id)?;
        let kind = KindName::new(A::KIND)?;
        let args = codec::encode(&args, ARGS_LIMIT).map_err(|failure| match failure {
            codec::EncodeFailure::TooLarge { size, limit } => {
                ChildSpecError::TooLarge { size, limit }
            }
            codec::EncodeFailure::Encoder(reason) | codec::EncodeFailure::NotReadBack(reason) => {
                ChildSpecError::Args { reason }
            }
        })?;
        Ok(Self::from_parts(id, kind, args))
    }
}
