//! `hot_swap!`: a kind whose actor's own serde form is its state.

use super::{hot_swap::HotSwap, kind::KindBuilder};

/// An actor that [`hot_swap!`](crate::hot_swap) was used for: it knows its own messages.
pub trait AutoKind: HotSwap {
    /// Registers them.
    fn register(kind: KindBuilder<Self>) -> KindBuilder<Self>;
}

/// Makes an actor that is `Default + Serialize + Deserialize` a child: its own serde form is its
/// state. It is registered with `.child::<Counter>()`.
///
/// ```
/// use actix::prelude::*;
/// use actix_hub::prelude::*;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Default, Serialize, Deserialize)]
/// struct Counter {
///     value: u64,
/// }
/// impl Actor for Counter {
///     type Context = Context<Self>;
/// }
///
/// #[derive(Message, Serialize, Deserialize)]
/// #[rtype(result = "u64")]
/// struct Add(u64);
/// impl HubMessage for Add {
///     const NAME: &'static str = "counter.add";
/// }
/// impl Handler<Add> for Counter {
///     type Result = u64;
///     fn handle(&mut self, Add(n): Add, _: &mut Context<Self>) -> u64 {
///         self.value += n;
///         self.value
///     }
/// }
///
/// hot_swap!(Counter, kind = "counter", messages = [Add]);
/// ```
///
/// After a split the state of the actor that gives way is parked; `merge` says how the one that goes
/// on takes it in instead, a function of `&mut Self` and `Self`:
///
/// ```
/// # use actix::prelude::*;
/// # use actix_hub::prelude::*;
/// # use serde::{Deserialize, Serialize};
/// #[derive(Default, Serialize, Deserialize)]
/// struct Highest {
///     value: u64,
/// }
/// # impl Actor for Highest {
/// #     type Context = Context<Self>;
/// # }
/// impl Highest {
///     fn merge(&mut self, other: Self) {
///         self.value = self.value.max(other.value);
///     }
/// }
///
/// hot_swap!(Highest, kind = "highest", messages = [], merge = Highest::merge);
///
/// let mut here = Highest { value: 2 };
/// let there = Snapshot::of(&Highest { value: 5 });
/// assert_eq!(here.merge_diverged_state(there), MergeOutcome::Merged);
/// assert_eq!(here.value, 5);
/// ```
#[macro_export]
macro_rules! hot_swap {
    (
        $actor:ty,
        kind = $kind:expr,
        messages = [$($message:ty),* $(,)?]
        $(, merge = $merge:expr)?
        $(,)?
    ) => {
        impl $crate::HotSwap for $actor {
            const KIND: &'static str = $kind;
            const PREPARE_ONLY_READS: bool = true;
            type Args = ();
            type State = $crate::Snapshot<Self>;

            fn from_args(
                (): (),
                _: &$crate::ChildContext<Self>,
            ) -> ::core::result::Result<Self, $crate::StartFailure> {
                ::core::result::Result::Ok(::core::default::Default::default())
            }

            fn prepare_handover_state(&mut self) -> $crate::Snapshot<Self> {
                $crate::Snapshot::of(self)
            }

            fn alter_handover_state(&mut self, state: $crate::Snapshot<Self>) {
                if let ::core::option::Option::Some(value) = state.into_value() {
                    *self = value;
                }
            }

            $(
                fn merge_diverged_state(
                    &mut self,
                    other: $crate::Snapshot<Self>,
                ) -> $crate::MergeOutcome {
                    let merge: fn(&mut Self, Self) = $merge;
                    match other.into_value() {
                        ::core::option::Option::Some(value) => {
                            merge(self, value);
                            $crate::MergeOutcome::Merged
                        }
                        ::core::option::Option::None => $crate::MergeOutcome::Parked,
                    }
                }
            )?
        }

        impl $crate::AutoKind for $actor {
            fn register(kind: $crate::KindBuilder<Self>) -> $crate::KindBuilder<Self> {
                kind$(.message::<$message>())*
            }
        }
    };
}
