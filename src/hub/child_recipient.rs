//! The way to a child for messages of one type, whatever its kind.

use std::{
    fmt,
    hash::{Hash, Hasher},
    marker::PhantomData,
    sync::Arc,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    bound,
    hot_swap::HubMessage,
    outlet::{ChildRequest, Outlet},
    watches::stream::ChildWatch,
};
use crate::{
    error::HubSendError,
    model::id::{ChildId, KindName},
};

/// A reference to a child that takes messages of type `M`, of whichever kind it is: what an actor
/// keeps of those who want to be told something. Made by [`ChildRef::recipient`](crate::ChildRef::recipient).
///
/// It can be sent to children, put into states and stored: with serde it is the child's kind and id.
/// Whoever reads it gets a reference of its own hub; see [`Hub::bind`](crate::Hub::bind). Two are equal
/// if they lead to one child of one cluster.
///
/// ```
/// # use actix::prelude::*;
/// # use actix_hub::{ChildRecipient, prelude::*};
/// # use serde::{Deserialize, Serialize};
/// #[derive(Clone, Message, Serialize, Deserialize)]
/// #[rtype(result = "()")]
/// struct Price(u64);
/// impl HubMessage for Price { const NAME: &'static str = "price"; }
///
/// #[derive(Message, Serialize, Deserialize)]
/// #[rtype(result = "()")]
/// struct Subscribe(ChildRecipient<Price>);
/// impl HubMessage for Subscribe { const NAME: &'static str = "subscribe"; }
///
/// #[derive(Default, Serialize, Deserialize)]
/// struct Stock { told: Vec<ChildRecipient<Price>> }
/// # impl Actor for Stock { type Context = Context<Self>; }
/// impl Handler<Subscribe> for Stock {
///     type Result = ();
///     fn handle(&mut self, Subscribe(who): Subscribe, _: &mut Context<Self>) {
///         who.do_send(Price(42)).ok();
///         self.told.push(who); // moves with the stock
///     }
/// }
/// hot_swap!(Stock, kind = "stock", messages = [Subscribe]);
///
/// #[derive(Default, Serialize, Deserialize)]
/// struct Trader { price: u64 }
/// # impl Actor for Trader { type Context = Context<Self>; }
/// # impl Handler<Price> for Trader {
/// #     type Result = ();
/// #     fn handle(&mut self, Price(price): Price, _: &mut Context<Self>) { self.price = price; }
/// # }
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
/// # let hub = HubSystem::builder("doc").child::<Stock>().child::<Trader>().start().await?;
/// # hub.start_child(ChildSpec::new::<Stock>("acme", ())?).await?;
/// # hub.start_child(ChildSpec::new::<Trader>("ann", ())?).await?;
/// let (stock, trader) = (hub.child::<Stock>("acme"), hub.child::<Trader>("ann"));
/// stock.send(Subscribe(trader.recipient())).await?;
/// # assert_eq!(trader.send(Get).await?, 42);
/// # hub.stop().await;
/// # Ok(())
/// # }
/// ```
pub struct ChildRecipient<M: HubMessage> {
    outlet: Outlet,
    kind: Arc<str>,
    message: PhantomData<fn(M)>,
}

impl<M: HubMessage> ChildRecipient<M> {
    pub(crate) fn new(outlet: Outlet, kind: Arc<str>) -> Self {
        Self { outlet, kind, message: PhantomData }
    }

    /// The child.
    #[must_use]
    pub fn id(&self) -> &ChildId {
        self.outlet.child()
    }

    /// The name of the child's kind.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Watches the child, as [`ChildRef::watch`](crate::ChildRef::watch) does.
    pub fn watch(&self) -> ChildWatch {
        self.outlet.watch()
    }

    /// Sends a message and waits for its reply, as [`ChildRef::send`](crate::ChildRef::send) does.
    ///
    /// # Errors
    /// [`HubSendError`] says whether the message may have been handled.
    #[must_use = "a future does nothing but send unless it is awaited; use `do_send` for that"]
    pub fn send(&self, message: M) -> ChildRequest<M> {
        self.outlet.send(&self.kind, message)
    }

    /// Sends a message and does not wait for its reply, as
    /// [`ChildRef::do_send`](crate::ChildRef::do_send) does.
    ///
    /// # Errors
    /// [`HubSendError::NotHandled`]: the queue is full, or the message cannot be sent at all.
    pub fn do_send(&self, message: M) -> Result<(), HubSendError> {
        self.outlet.do_send(&self.kind, message)
    }
}

impl<M: HubMessage> Clone for ChildRecipient<M> {
    fn clone(&self) -> Self {
        Self::new(self.outlet.clone(), self.kind.clone())
    }
}

impl<M: HubMessage> PartialEq for ChildRecipient<M> {
    fn eq(&self, other: &Self) -> bool {
        self.outlet.leads_where(&other.outlet)
    }
}

impl<M: HubMessage> Eq for ChildRecipient<M> {}

impl<M: HubMessage> Hash for ChildRecipient<M> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id().hash(state);
    }
}

impl<M: HubMessage> fmt::Display for ChildRecipient<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id().fmt(f)
    }
}

impl<M: HubMessage> fmt::Debug for ChildRecipient<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildRecipient")
            .field("message", &M::NAME)
            .field("kind", &self.kind)
            .field("child", self.id())
            .finish()
    }
}

/// As it is written.
#[derive(Serialize, Deserialize)]
struct Written {
    kind: KindName,
    child: ChildId,
}

impl<M: HubMessage> Serialize for ChildRecipient<M> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let kind = KindName::new(&*self.kind).map_err(serde::ser::Error::custom)?;
        Written { kind, child: self.id().clone() }.serialize(serializer)
    }
}

impl<'de, M: HubMessage> Deserialize<'de> for ChildRecipient<M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Written { kind, child } = Written::deserialize(deserializer)?;
        let outlet = Outlet::new(bound::reader()?, child.as_str(), kind.as_str());
        Ok(Self::new(outlet, kind.as_str().into()))
    }
}
