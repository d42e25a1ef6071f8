//! Which messages the children of a kind take, known to the compiler.

use actix::Handler;

use super::{auto_kind::AutoKind, hot_swap::HubMessage, kind::KindBuilder};

/// A kind whose children take messages of type `M`.
///
/// What [`ChildRef::send`](crate::ChildRef::send) and its kin ask for (as [`TakenBy`]): a message that is not in
/// the list of the kind does not compile. [`hot_swap!`](crate::hot_swap) implements it for each of its `messages`,
/// [`takes!`](crate::takes) for a kind whose `HotSwap` was written by hand, and both register the same list;
/// there is no other way to either. Code for many kinds names it as its bound:
///
/// ```
/// # use actix::prelude::*;
/// # use actix_hub::prelude::*;
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Message, Serialize, Deserialize)]
/// # #[rtype(result = "()")]
/// # struct Close;
/// # impl HubMessage for Close { const NAME: &'static str = "close"; }
/// async fn close<A: Takes<Close>>(hub: &Hub, id: &str) -> Result<(), HubSendError> {
///     hub.child::<A>(id).send(Close).await
/// }
/// ```
///
/// A list is that of one release, and some messages name no kind by its type: those of
/// [`Hub::tell_all`](crate::Hub::tell_all), and of a [`ChildRecipient`](crate::ChildRecipient) that was read.
/// So each is looked up by its name, too, and refused with
/// [`NotHandled::NotRegistered`](crate::NotHandled::NotRegistered) where the child's kind has it not.
#[diagnostic::on_unimplemented(
    message = "children of kind `{Self}` do not take `{M}`",
    label = "not in the list of messages of `{Self}`",
    note = "implement `Handler<{M}>` for `{Self}`, and list the message: `hot_swap!({Self}, .., messages = [.., {M}])`",
    note = "where `HotSwap` is written by hand: `takes!({Self}: [.., {M}])`"
)]
pub trait Takes<M: HubMessage>: AutoKind + Handler<M> {
    /// So that nobody writes it by hand, and the message is not registered.
    #[doc(hidden)]
    const LISTED_BY_MACRO: ();

    #[doc(hidden)]
    fn register_message(kind: KindBuilder<Self>) -> KindBuilder<Self> {
        kind.message::<M>()
    }
}

/// A message that children of kind `A` take: [`Takes`] seen from the other side, and implemented for all of
/// them. A method asks for it and not for `A: Takes<M>`, as the compiler would look at that before it knows `M`,
/// and say that `_` is not taken.
pub trait TakenBy<A>: HubMessage {}

impl<A: Takes<M>, M: HubMessage> TakenBy<A> for M {}

/// Says which messages the children of a kind take whose [`HotSwap`](crate::HotSwap) was written by hand: the
/// `messages` of [`hot_swap!`](crate::hot_swap). Only these can be sent to them, and
/// [`HubBuilder::child`](crate::HubBuilder::child) registers them all.
///
/// ```
/// # use actix::prelude::*;
/// # use actix_hub::prelude::*;
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Message, Serialize, Deserialize)]
/// # #[rtype(result = "u64")]
/// # struct Add(u64);
/// # impl HubMessage for Add { const NAME: &'static str = "counter.add"; }
/// struct Counter(u64);
/// # impl Actor for Counter { type Context = Context<Self>; }
/// # impl Handler<Add> for Counter {
/// #     type Result = u64;
/// #     fn handle(&mut self, Add(n): Add, _: &mut Context<Self>) -> u64 { self.0 += n; self.0 }
/// # }
/// impl HotSwap for Counter {
///     const KIND: &'static str = "counter";
///     type Args = u64;
///     type State = u64;
///
///     fn from_args(first: u64, _: &ChildContext<Self>) -> Result<Self, StartFailure> {
///         Ok(Self(first))
///     }
///     fn prepare_handover_state(&mut self) -> u64 {
///         self.0
///     }
///     fn alter_handover_state(&mut self, state: u64) {
///         self.0 = state;
///     }
/// }
///
/// takes!(Counter: [Add]);
///
/// # #[actix::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let hub = HubSystem::builder("doc").child::<Counter>().start().await?;
/// let counter = hub.child_or_start::<Counter>("counter-1", 40).await?;
/// assert_eq!(counter.send(Add(2)).await?, 42);
/// # hub.stop().await;
/// # Ok(())
/// # }
/// ```
///
/// Generics come first, in brackets, with their bounds. Each type that is used is a kind of its own, and has
/// a [`KIND`](crate::HotSwap::KIND) of its own.
///
/// ```
/// # use actix::prelude::*;
/// # use actix_hub::prelude::*;
/// # use serde::{Deserialize, Serialize, de::DeserializeOwned};
/// # use std::marker::PhantomData;
/// /// What a store has.
/// trait Item: Default + Clone + Serialize + DeserializeOwned + Send + Unpin + 'static {
///     const KIND: &'static str;
/// }
/// # #[derive(Message, Serialize, Deserialize)]
/// # #[rtype(result = "()")]
/// # #[serde(bound = "")]
/// # struct Put<T: Item>(T);
/// # impl<T: Item> HubMessage for Put<T> { const NAME: &'static str = "put"; }
/// # struct Store<T>(T);
/// # impl<T: Item> Actor for Store<T> { type Context = Context<Self>; }
/// # impl<T: Item> Handler<Put<T>> for Store<T> {
/// #     type Result = ();
/// #     fn handle(&mut self, Put(item): Put<T>, _: &mut Context<Self>) { self.0 = item; }
/// # }
/// impl<T: Item> HotSwap for Store<T> {
///     const KIND: &'static str = T::KIND;
///     // ..
/// #   type Args = ();
/// #   type State = T;
/// #   fn from_args((): (), _: &ChildContext<Self>) -> Result<Self, StartFailure> { Ok(Self(T::default())) }
/// #   fn prepare_handover_state(&mut self) -> T { self.0.clone() }
/// #   fn alter_handover_state(&mut self, state: T) { self.0 = state; }
/// }
///
/// takes!(impl[T: Item] Store<T>: [Put<T>]);
/// # impl Item for u64 { const KIND: &'static str = "numbers"; }
/// # let _ = HubSystem::builder("doc").child::<Store<u64>>();
/// ```
#[macro_export]
macro_rules! takes {
    (impl [$($generics:tt)*] $actor:ty : [$($message:ty),* $(,)?]) => {
        $crate::__takes! { [$($generics)*] [$actor] [$($message),*] kind => kind }
    };
    (impl $($rest:tt)*) => {
        ::core::compile_error! {
            "generics stand in brackets: `takes!(impl[T: Bound] Actor<T>: [Message<T>, ..])`"
        }
    };
    ($actor:ty : [$($message:ty),* $(,)?]) => {
        $crate::__takes! { [] [$actor] [$($message),*] kind => kind }
    };
    ($($rest:tt)*) => {
        ::core::compile_error! {
            "the form is `takes!(Actor: [Message, ..])`; `[]` if it takes no messages"
        }
    };
}

/// Writes what both lists stand for: the marker and the registration of each message.
#[doc(hidden)]
#[macro_export]
macro_rules! __takes {
    ($generics:tt $actor:tt [$($message:ty),*] $kind:ident => $options:expr) => {
        $($crate::__takes! { @message $generics $actor $message })*
        $crate::__takes! { @kind $generics $actor [$($message),*] $kind => $options }
    };
    (@message [$($generics:tt)*] [$actor:ty] $message:ty) => {
        impl<$($generics)*> $crate::Takes<$message> for $actor {
            const LISTED_BY_MACRO: () = ();
        }
    };
    (@kind [$($generics:tt)*] [$actor:ty] [$($message:ty),*] $kind:ident => $options:expr) => {
        impl<$($generics)*> $crate::AutoKind for $actor {
            fn register($kind: $crate::KindBuilder<Self>) -> $crate::KindBuilder<Self> {
                $(let $kind = <Self as $crate::Takes<$message>>::register_message($kind);)*
                $options
            }
        }
    };
}
