//! The explicit table of kinds: how each is made, and which messages it takes, by name.

use std::{
    any::{Any, TypeId},
    collections::{BTreeMap, HashMap},
    marker::PhantomData,
    sync::Arc,
};

use actix::{dev::MessageResponse, prelude::*};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use tokio::sync::oneshot::{self, error::TryRecvError};

use super::{
    blocking::BlockingCodec,
    codec::{self, Rules},
    demand::Demand,
    envelope::{Envelope, Slot, Traced},
    hot_swap::{ChildContext, HotSwap, HubMessage, StartFailure},
    instance::{Built, Maker},
    takes::Takes,
    worker::Bench,
};
use crate::{
    engine::io::{BuildFailure, KindInfo},
    error::StartHubError,
    model::{
        child::ChildSpec,
        frame::ReplyFailure,
        id::{ChildId, InvalidId, KindName},
        settings::InvalidSetting,
    },
};

/// How the children of one kind are made and encoded; see
/// [`HubBuilder::child_kind`](crate::HubBuilder::child_kind). Its messages are registered already.
pub struct KindBuilder<A: HotSwap> {
    messages: Vec<(TypeId, Accepted, Deliver<A>)>,
    blocking: Option<BlockingCodec<A>>,
    make: Option<Make<A>>,
    demand: Option<Demand>,
}

/// Makes the actors of a kind in the place of `from_args`.
type Make<A> = Arc<MakeFn<A>>;
type MakeFn<A> =
    dyn Fn(<A as HotSwap>::Args, &ChildContext<A>) -> Result<A, StartFailure> + Send + Sync;

impl<A: HotSwap> KindBuilder<A> {
    pub(crate) fn new() -> Self {
        Self { messages: Vec::new(), blocking: None, make: None, demand: None }
    }

    /// Makes the actors of this kind with a closure, in the place of [`HotSwap::from_args`]: it may hold
    /// what belongs to this node and cannot be had from
    /// [`ChildContext::require`](crate::ChildContext::require). Fresh starts, restarts and successors are
    /// all made with it; a successor is given its state after that.
    ///
    /// ```
    /// # use actix::prelude::*;
    /// # use actix_hub::prelude::*;
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Default, Serialize, Deserialize)]
    /// # struct Order { items: Vec<String>, #[serde(skip)] shop: String }
    /// # impl Actor for Order { type Context = Context<Self>; }
    /// # hot_swap!(Order, kind = "order", messages = [], keep = [shop]);
    /// let shop = "in the corner".to_owned();
    /// let builder = HubSystem::builder("shop").child_kind::<Order>(|kind| {
    ///     kind.make_with(move |(), _| Ok(Order { items: Vec::new(), shop: shop.clone() }))
    /// });
    /// ```
    #[must_use]
    pub fn make_with(
        mut self,
        make: impl Fn(A::Args, &ChildContext<A>) -> Result<A, StartFailure> + Send + Sync + 'static,
    ) -> Self {
        self.make = Some(Arc::new(make));
        self
    }

    /// Starts a child of this kind when a message comes for it and there is none, with the arguments that
    /// `args` gives for its id. So there is no start to wait for: `hub.child::<Cart>("cart-of-ann").send(..)`
    /// is enough, from any node, by many at once; the child's home is asked for both in one word. What was
    /// stopped is started again by the next message; a message that comes while it is being stopped is
    /// refused as [`NotHandled::Stopped`](crate::NotHandled::Stopped), or starts it anew. One that was given up
    /// stays so where the sender's node has heard of that.
    ///
    /// It counts on the node that sends, so give it to all, and to a gateway with
    /// [`client_of_kind`](crate::HubBuilder::client_of_kind). What is published to a topic starts nobody, nor
    /// does a watch. If the start fails, messages that waited for it are refused as
    /// [`NotHandled::NotStarted`](crate::NotHandled::NotStarted), and the next one tries anew.
    ///
    /// `args` is called by whoever sends, or hears of the child: let it be short, and wait for nothing. Of
    /// several references to one id it is the kind of the first that says how the child starts. Anybody who may
    /// name a child makes one that stays: check ids that come from outside first.
    ///
    /// ```
    /// # use actix::prelude::*;
    /// # use actix_hub::prelude::*;
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Default, Serialize, Deserialize)]
    /// # struct Cart { items: Vec<String> }
    /// # impl Actor for Cart { type Context = Context<Self>; }
    /// # #[derive(Message, Serialize, Deserialize)]
    /// # #[rtype(result = "usize")]
    /// # struct Put(String);
    /// # impl HubMessage for Put { const NAME: &'static str = "put"; }
    /// # impl Handler<Put> for Cart {
    /// #     type Result = usize;
    /// #     fn handle(&mut self, Put(item): Put, _: &mut Context<Self>) -> usize {
    /// #         self.items.push(item);
    /// #         self.items.len()
    /// #     }
    /// # }
    /// # hot_swap!(Cart, kind = "cart", messages = [Put]);
    /// # #[actix::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let hub = HubSystem::builder("shop")
    ///     .child_kind::<Cart>(|kind| kind.on_demand(|_id| ()))
    ///     .start()
    ///     .await?;
    /// let cart: ChildRef<Cart> = hub.child("cart-of-ann");
    /// assert_eq!(cart.send(Put("tea".to_owned())).await?, 1);
    /// # hub.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn on_demand(mut self, args: impl Fn(&ChildId) -> A::Args + Send + Sync + 'static) -> Self {
        let spec = move |child: &ChildId| ChildSpec::new::<A>(child.as_str(), args(child));
        self.demand = Some(Demand::new(spec));
        self
    }

    /// Encodes and decodes states of this kind on a blocking thread, so that the other children of its
    /// arbiter go on meanwhile. On two cores that others used too, a state of 120 MiB kept a child beside
    /// it waiting for 480 ms where it was encoded and for 520 ms where it was decoded; with
    /// `hot_swap!(.., blocking = true)` for 190 ms (a clone is made there) and for 28 ms. The move
    /// itself took 1.2 s and 1 s. `cargo bench --bench neighbours` measures that.
    ///
    /// For states of some MiB and more: on those cores the move of 8 MiB took twice as long that way. The
    /// child itself is held either way, and all deadlines count on. A panic of the state's `Serialize`
    /// or `Deserialize` is a move that failed. The state of an owner that gives way after a split is
    /// encoded there too, and decoded on the arbiter of the one that goes on.
    #[must_use]
    pub fn encode_on_blocking_thread(mut self) -> Self
    where
        A::State: Send,
    {
        self.blocking = Some(BlockingCodec::new());
        self
    }

    /// Lets children of this kind be sent this message, from every node.
    pub(crate) fn message<M: HubMessage>(mut self) -> Self
    where
        A: Takes<M>,
    {
        let wrap: Wrap<M> = Envelope::new::<A, M>;
        let wrap_encoded: WrapEncoded = Envelope::encoded::<A, M>;
        let accepted = Accepted { name: M::NAME, wrap: Box::new(wrap), wrap_encoded };
        self.messages.push((TypeId::of::<M>(), accepted, deliver::<A, M>));
        self
    }

    pub(crate) fn build(self) -> Result<Kind<A>, StartHubError> {
        let name = KindName::new(A::KIND)?;
        let (mut by_type, mut by_name) = (HashMap::new(), BTreeMap::new());
        for (id, accepted, deliver) in self.messages {
            let message = accepted.name;
            check_message_name(message)?;
            if by_name.insert(message, deliver).is_some() {
                let name = message.to_owned();
                return Err(StartHubError::RegisteredTwice { what: "message", name });
            }
            let (name, Accepted { wrap, wrap_encoded, .. }) = (Arc::from(message), accepted);
            by_type.insert(id, Registered { name, wrap, wrap_encoded });
        }
        let demand = self.demand.map(Arc::new);
        let entry = Arc::new(KindEntry { name, by_type, demand });
        let (blocking, make) = (self.blocking, self.make);
        Ok(Kind { entry, by_name: Arc::new(by_name), blocking, make })
    }
}

impl<A: HotSwap> std::fmt::Debug for KindBuilder<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.messages.iter().map(|(_, accepted, _)| accepted.name).collect();
        f.debug_struct("KindBuilder").field("messages", &names).finish()
    }
}

/// The shape of [`HubMessage::NAME`].
pub(crate) fn check_message_name(name: &str) -> Result<(), InvalidId> {
    match name.len() {
        1..=255 => Ok(()),
        _ => Err(InvalidId {
            what: "message name",
            value: name.chars().take(64).collect(),
            rule: "1 to 255 bytes",
        }),
    }
}

/// A message that children of a kind take.
struct Accepted {
    name: &'static str,
    /// A [`Wrap`] of it.
    wrap: Box<dyn Any + Send + Sync>,
    wrap_encoded: WrapEncoded,
}

/// The same, by its type.
struct Registered {
    name: Arc<str>,
    wrap: Box<dyn Any + Send + Sync>,
    wrap_encoded: WrapEncoded,
}

/// Puts a message for a child of one kind into its envelope; see [`Envelope::new`].
pub(crate) type Wrap<M> = fn(
    M,
    Option<Bytes>,
    Arc<str>,
    KindName,
    Rules,
    Option<Arc<Slot<<M as Message>::Result>>>,
    Traced,
) -> Envelope;

/// The same for one that is known by its encoding alone; see [`Envelope::encoded`].
pub(crate) type WrapEncoded = fn(Bytes, Arc<str>, KindName, Rules, Traced) -> Envelope;

/// What a sender must know of a kind.
pub(crate) struct KindEntry {
    pub(crate) name: KindName,
    by_type: HashMap<TypeId, Registered>,
    /// How children are started that a message comes for, if they are.
    pub(crate) demand: Option<Arc<Demand>>,
}

impl KindEntry {
    /// The names of its messages, sorted.
    pub(crate) fn message_names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.by_type.values().map(|message| message.name.to_string()).collect();
        names.sort();
        names
    }

    /// The message's name and what puts it into an envelope, if it is registered.
    pub(crate) fn message<M: HubMessage>(&self) -> Option<(&Arc<str>, Wrap<M>)> {
        let Registered { name, wrap, .. } = self.by_type.get(&TypeId::of::<M>())?;
        Some((name, *wrap.downcast_ref()?))
    }

    /// The same for a message of this type that is known by its encoding alone.
    pub(crate) fn encoded<M: HubMessage>(&self) -> Option<(&Arc<str>, WrapEncoded)> {
        let Registered { name, wrap_encoded, .. } = self.by_type.get(&TypeId::of::<M>())?;
        Some((name, *wrap_encoded))
    }
}

/// A reply to a message of another node, now or later.
pub(crate) enum Delivered {
    Now(Result<Bytes, ReplyFailure>),
    Later(LocalBoxFuture<'static, Result<Bytes, ReplyFailure>>),
}

/// Decodes a message, hands it to the actor, encodes its reply if one is wanted, by these rules.
type Deliver<A> = fn(&[u8], bool, Rules, &mut A, &mut Context<A>) -> Delivered;

fn deliver<A, M>(
    body: &[u8],
    wants_reply: bool,
    rules: Rules,
    actor: &mut A,
    ctx: &mut Context<A>,
) -> Delivered
where
    A: HotSwap + Handler<M>,
    M: HubMessage,
{
    let message: M = match codec::decode(body) {
        Ok(message) => message,
        Err(reason) => return Delivered::Now(Err(ReplyFailure::Decode(reason))),
    };
    let encode = move |reply: M::Result| {
        if !wants_reply {
            return Ok(Bytes::new());
        }
        codec::encode_by(&reply, rules).map_err(|failure| ReplyFailure::Lost(failure.sentence()))
    };
    let (tx, mut rx) = oneshot::channel();
    actor.handle(message, ctx).handle(ctx, Some(tx));
    match rx.try_recv() {
        Ok(reply) => Delivered::Now(encode(reply)),
        Err(TryRecvError::Closed) => Delivered::Now(Err(ReplyFailure::Dropped)),
        Err(TryRecvError::Empty) => Delivered::Later(Box::pin(async move {
            match rx.await {
                Ok(reply) => encode(reply),
                Err(_) => Err(ReplyFailure::Dropped),
            }
        })),
    }
}

/// A kind with its actor's type.
pub(crate) struct Kind<A: HotSwap> {
    pub(crate) entry: Arc<KindEntry>,
    /// For states that are not encoded on the arbiter.
    pub(crate) blocking: Option<BlockingCodec<A>>,
    by_name: Arc<BTreeMap<&'static str, Deliver<A>>>,
    make: Option<Make<A>>,
}

impl<A: HotSwap> Clone for Kind<A> {
    fn clone(&self) -> Self {
        let (entry, by_name) = (self.entry.clone(), self.by_name.clone());
        Self { entry, by_name, blocking: self.blocking, make: self.make.clone() }
    }
}

impl<A: HotSwap> Kind<A> {
    /// Makes an actor.
    pub(crate) fn make(&self, args: A::Args, child: &ChildContext<A>) -> Result<A, StartFailure> {
        match &self.make {
            Some(make) => make(args, child),
            None => A::from_args(args, child),
        }
    }

    /// Whether it has registered a message of this name.
    pub(crate) fn takes(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// Hands a message to the actor that came as its CBOR.
    pub(crate) fn deliver(
        &self,
        name: &str,
        body: &[u8],
        wants_reply: bool,
        rules: Rules,
        actor: &mut A,
        ctx: &mut Context<A>,
    ) -> Delivered {
        match self.by_name.get(name) {
            Some(deliver) => deliver(body, wants_reply, rules, actor, ctx),
            None => {
                let failure = ReplyFailure::NotRegistered(self.entry.name.clone());
                Delivered::Now(Err(failure))
            }
        }
    }
}

/// A successor that is being built.
pub(crate) type Building = LocalBoxFuture<'static, Result<Box<dyn Built>, BuildFailure>>;

/// A kind without its actor's type.
pub(crate) trait AnyKind: Send + Sync {
    fn entry(&self) -> &Arc<KindEntry>;
    fn info(&self) -> KindInfo;
    fn build(&self, bench: &Bench, maker: Maker) -> Result<Box<dyn Built>, BuildFailure>;
    /// The same for a state that is decoded on a blocking thread; `None`: it is not.
    fn build_later(&self, bench: &Bench, maker: &Maker) -> Option<Building>;
}

struct Typed<A: HotSwap> {
    kind: Kind<A>,
    // `A` need not be `Send`: the table only makes it, on the arbiter where it stays.
    actor: PhantomData<fn() -> A>,
}

impl<A: HotSwap> AnyKind for Typed<A> {
    fn entry(&self) -> &Arc<KindEntry> {
        &self.kind.entry
    }

    fn info(&self) -> KindInfo {
        KindInfo { state_version: A::STATE_VERSION, oldest_state_version: A::OLDEST_STATE_VERSION }
    }

    fn build(&self, bench: &Bench, maker: Maker) -> Result<Box<dyn Built>, BuildFailure> {
        super::instance::build::<A>(self.kind.clone(), bench, maker)
    }

    fn build_later(&self, bench: &Bench, maker: &Maker) -> Option<Building> {
        let (kind, bench, maker) = (self.kind.clone(), bench.clone(), maker.clone());
        let decodes = kind.blocking.is_some() && maker.parcel.is_some();
        decodes.then(|| -> Building { Box::pin(super::instance::build_later(kind, bench, maker)) })
    }
}

/// Every node is told all names, in one word.
const MOST_KINDS: usize = 1_024;

/// Whether children of a kind run on this node, or are sent messages only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Hosts,
    Client,
}

/// All kinds of a hub.
#[derive(Default)]
pub(crate) struct Kinds(BTreeMap<KindName, (Use, Arc<dyn AnyKind>)>);

impl Kinds {
    pub(crate) fn add<A: HotSwap>(
        &mut self,
        usage: Use,
        builder: KindBuilder<A>,
    ) -> Result<(), StartHubError> {
        let kind = builder.build()?;
        let name = kind.entry.name.clone();
        let typed: Arc<dyn AnyKind> = Arc::new(Typed { kind, actor: PhantomData });
        if self.0.insert(name.clone(), (usage, typed)).is_some() {
            let name = name.to_string();
            return Err(StartHubError::RegisteredTwice { what: "kind", name });
        }
        if self.0.len() > MOST_KINDS {
            return Err(StartHubError::Setting(InvalidSetting {
                field: "kinds",
                value: self.0.len().to_string(),
                allowed: "at most 1,024",
            }));
        }
        Ok(())
    }

    /// All kinds, by name.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Use, &Arc<dyn AnyKind>)> {
        self.0.values().map(|(usage, kind)| (*usage, kind))
    }

    /// A kind whose children can be sent messages.
    pub(crate) fn get(&self, name: &str) -> Option<&Arc<dyn AnyKind>> {
        self.0.get(name).map(|(_, kind)| kind)
    }

    /// A kind whose children run here.
    pub(crate) fn hosted(&self, name: &str) -> Option<&Arc<dyn AnyKind>> {
        self.0.get(name).filter(|(usage, _)| *usage == Use::Hosts).map(|(_, kind)| kind)
    }

    /// What the engine must know of the kinds whose children run here.
    pub(crate) fn infos(&self) -> BTreeMap<KindName, KindInfo> {
        let hosted = self.0.iter().filter(|(_, (usage, _))| *usage == Use::Hosts);
        hosted.map(|(name, (_, kind))| (name.clone(), kind.info())).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::hub::auto_kind::AutoKind;

    #[derive(Default, Serialize, Deserialize)]
    struct Room;
    impl Actor for Room {
        type Context = Context<Self>;
    }
    crate::hot_swap!(Room, kind = "room", messages = []);

    #[derive(Default, Serialize, Deserialize)]
    struct House;
    impl Actor for House {
        type Context = Context<Self>;
    }
    crate::hot_swap!(House, kind = "house", messages = []);

    #[test]
    fn a_kind_of_which_this_node_is_a_client_is_known_and_is_told_to_nobody() {
        let mut kinds = Kinds::default();
        kinds.add(Use::Hosts, Room::register(KindBuilder::new())).expect("it is new");
        kinds.add(Use::Client, House::register(KindBuilder::new())).expect("it is new");
        assert!(kinds.get("room").is_some() && kinds.hosted("room").is_some());
        assert!(kinds.get("house").is_some() && kinds.hosted("house").is_none());
        assert_eq!(kinds.infos().keys().map(KindName::as_str).collect::<Vec<_>>(), ["room"]);
        let again = kinds.add(Use::Hosts, House::register(KindBuilder::new()));
        assert!(matches!(again, Err(StartHubError::RegisteredTwice { what: "kind", .. })));
    }
}
