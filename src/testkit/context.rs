//! The context of a child that does not run.

use std::sync::Arc;

use crate::{
    ChildContext, ChildOrigin, ChildSpec, Epoch, HotSwap, Hub,
    hub::{topics::instance::InstanceTopics, watches::instance::InstanceWatches},
};

impl<A: HotSwap> ChildContext<A> {
    /// The context of a child that does not run, for tests that make its actor themselves. With the feature
    /// `testkit`.
    ///
    /// The hub is that of the test, with its [`data`](crate::HubBuilder::data); the child is not started
    /// there, nor known. Its epoch is 1.0, its origin [`ChildOrigin::Fresh`] ([`with_origin`](Self::with_origin)
    /// gives it another one). What it subscribes to and watches it hears nothing of.
    ///
    /// ```
    /// # use actix::prelude::*;
    /// # use actix_hub::prelude::*;
    /// # use serde::{Deserialize, Serialize};
    /// #[derive(Clone)]
    /// struct Prices {
    ///     tea: u64,
    /// }
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct Cart {
    ///     price: u64,
    /// }
    /// # impl Actor for Cart { type Context = Context<Self>; }
    ///
    /// impl Cart {
    ///     fn make(pieces: u64, child: &ChildContext<Self>) -> Result<Self, StartFailure> {
    ///         Ok(Self { price: pieces * child.require::<Prices>()?.tea })
    ///     }
    /// }
    /// hot_swap!(Cart, kind = "cart", messages = [], args = u64, make = Cart::make);
    ///
    /// # #[actix::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let hub = HubSystem::builder("test").data(Prices { tea: 3 }).start().await?;
    /// let child = ChildContext::<Cart>::for_test(&hub, ChildSpec::new::<Cart>("cart-1", 2)?);
    /// assert_eq!(Cart::from_args(2, &child).map(|cart| cart.price), Ok(6));
    /// hub.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    /// The spec is one of another kind.
    #[must_use]
    #[track_caller]
    pub fn for_test(hub: &Hub, spec: ChildSpec) -> Self {
        let kind = spec.kind().as_str();
        assert!(kind == A::KIND, "the spec is of kind `{kind}`, not `{}`", A::KIND);
        let shared = hub.shared();
        let topics = InstanceTopics::new(shared.doors.topics.clone(), &spec);
        let watches = InstanceWatches::new(shared.watches.clone());
        let epoch = Epoch { term: 1, attempt: 0 };
        Self::new(hub.clone(), Arc::new(spec), epoch, ChildOrigin::Fresh, topics, watches)
    }

    /// The same context with another origin. With the feature `testkit`.
    ///
    /// ```
    /// # use actix::prelude::*;
    /// # use actix_hub::{ChildOrigin, prelude::*};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Default, Serialize, Deserialize)]
    /// # struct Cart;
    /// # impl Actor for Cart { type Context = Context<Self>; }
    /// # hot_swap!(Cart, kind = "cart", messages = []);
    /// # #[actix::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let hub = HubSystem::builder("test").start().await?;
    /// let child = ChildContext::<Cart>::for_test(&hub, ChildSpec::new::<Cart>("cart-1", ())?);
    /// let again = child.with_origin(ChildOrigin::Restarted);
    /// assert_eq!(again.origin(), ChildOrigin::Restarted);
    /// # hub.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_origin(&self, origin: ChildOrigin) -> Self {
        self.clone().originating(origin)
    }
}
