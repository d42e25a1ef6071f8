//! `hot_swap!`: a kind whose actor's own serde form is its state.

use super::{hot_swap::HotSwap, kind::KindBuilder};

/// A kind that says which messages its children take: one of [`hot_swap!`](crate::hot_swap), or one whose
/// `HotSwap` was written by hand and that has a [`takes!`](crate::takes). Both implement it, nobody else does.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no list of messages that its children take",
    label = "neither `hot_swap!` nor `takes!` was used for it",
    note = "if its own serde form is its state: `hot_swap!({Self}, kind = \"name\", messages = [Message, ..])`",
    note = "where `HotSwap` is written by hand: `takes!({Self}: [Message, ..])`"
)]
pub trait AutoKind: HotSwap {
    /// Registers its messages.
    #[doc(hidden)]
    fn register(kind: KindBuilder<Self>) -> KindBuilder<Self>;
}

/// Makes an actor that is `Serialize + DeserializeOwned` a child: its own serde form is its state. It is
/// `Default`, or `make` says how it is made. It is registered with `.child::<Counter>()`. Its children can be
/// sent the `messages` and no others: with another one [`ChildRef::send`](crate::ChildRef::send) does not
/// compile, see [`Takes`](crate::Takes). For a `HotSwap` that is written by hand
/// [`takes!`](crate::takes) lists them.
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
/// # Options
/// They follow in any order, each at most once.
///
/// | option | what it is | without it |
/// |---|---|---|
/// | `version = 2` | the version of the state | 1 |
/// | `upgrade = path` | `fn(u32, &[u8]) -> Result<Self, StateVersionError>`: reads a state of an older version | older states are not read |
/// | `oldest = 1` | the oldest version that `upgrade` reads | 1 |
/// | `args = Type` | what a fresh start gets | `()` |
/// | `make = path` | `fn(Args, &ChildContext<Self>) -> Result<Self, StartFailure>`: makes the actor | `Default` |
/// | `keep = [field, ..]` | fields that are not in the state: they stay as the actor was made | they are as `Deserialize` has them |
/// | `blocking = true` | the state is a clone, encoded and decoded on a blocking thread; needs `Clone + Send` | it is encoded in place, on the arbiter |
/// | `merge = path` | `fn(&mut Self, Self)`: takes in the state of an owner that gave way | it is parked |
///
/// ## `version` and `upgrade`
/// A node that runs an older release hands its states to one that runs a newer one. A field that is new
/// then is missing. Give it `#[serde(default)]` if that is all; otherwise raise the version and say how
/// older states are read. Without either the newer node cannot read them, and no child moves there.
/// `upgrade` is given the version and the CBOR of the whole actor.
///
/// ```
/// # use actix::prelude::*;
/// # use actix_hub::prelude::*;
/// # use serde::{Deserialize, Serialize};
/// #[derive(Default, Serialize, Deserialize)]
/// struct Counter {
///     value: i64,
///     name: String,
/// }
/// # impl Actor for Counter {
/// #     type Context = Context<Self>;
/// # }
/// impl Counter {
///     fn upgrade(from: u32, cbor: &[u8]) -> Result<Self, StateVersionError> {
///         /// As it was in version 1.
///         #[derive(Deserialize)]
///         struct Old {
///             value: i64,
///         }
///         match from {
///             1 => {
///                 let Old { value } = decode_state(cbor)?;
///                 Ok(Self { value, name: "unnamed".to_owned() })
///             }
///             _ => Err(StateVersionError::new(format!("there is no version {from}"))),
///         }
///     }
/// }
///
/// hot_swap!(Counter, kind = "counter", messages = [], version = 2, upgrade = Counter::upgrade);
///
/// assert_eq!((Counter::STATE_VERSION, Counter::OLDEST_STATE_VERSION), (2, 1));
/// ```
///
/// ## `args`, `make` and `keep`
/// What is no part of the state, as it belongs to a node, is skipped by serde and made anew there.
/// `keep` names such fields; those that are not named are as `Deserialize` leaves them after a move.
///
/// ```
/// # use actix::prelude::*;
/// # use actix_hub::{ChildSpecError, prelude::*};
/// # use serde::{Deserialize, Serialize};
/// #[derive(Serialize, Deserialize)]
/// struct Mailer {
///     sent: u64,
///     /// Each node has its own.
///     #[serde(skip)]
///     server: String,
/// }
/// # impl Actor for Mailer {
/// #     type Context = Context<Self>;
/// # }
/// impl Mailer {
///     fn make(sent: u64, child: &ChildContext<Self>) -> Result<Self, StartFailure> {
///         Ok(Self { sent, server: format!("mail of {}", child.hub().node_id()) })
///     }
/// }
///
/// hot_swap!(
///     Mailer,
///     kind = "mailer",
///     messages = [],
///     args = u64,
///     make = Mailer::make,
///     keep = [server],
/// );
///
/// let spec = ChildSpec::new::<Mailer>("mailer-1", 7)?;
/// // What happens on the node that it moves to:
/// let mut made = Mailer { sent: 7, server: "mail of b".to_owned() };
/// made.alter_handover_state(Snapshot::of(&Mailer { sent: 9, server: "mail of a".to_owned() }));
/// assert_eq!((made.sent, made.server.as_str()), (9, "mail of b"));
/// # Ok::<(), ChildSpecError>(())
/// ```
///
/// ## `blocking`
/// While a large state is encoded or decoded, the other children of its arbiter wait. `blocking = true`
/// has it done on another thread, of a clone of the actor that is kept until the move has ended; see
/// [`KindBuilder::encode_on_blocking_thread`](crate::KindBuilder::encode_on_blocking_thread).
///
/// ```
/// # use actix::prelude::*;
/// # use actix_hub::prelude::*;
/// # use serde::{Deserialize, Serialize};
/// #[derive(Clone, Default, Serialize, Deserialize)]
/// struct Archive {
///     pages: Vec<String>,
/// }
/// # impl Actor for Archive {
/// #     type Context = Context<Self>;
/// # }
///
/// hot_swap!(Archive, kind = "archive", messages = [], blocking = true);
/// ```
///
/// ## `merge`
/// After a split the state of the actor that gives way is parked; `merge` says how the one that goes
/// on takes it in instead. The two may have the same past, which an addition counts twice:
/// [`merge_diverged_state`](crate::HotSwap::merge_diverged_state) has a counter that does not.
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
    (impl $($rest:tt)*) => { $crate::__hot_swap! { @generic } };
    (< $($rest:tt)*) => { $crate::__hot_swap! { @generic } };
    (
        $actor:ty,
        kind = $kind:expr,
        messages = [$($message:ty),* $(,)?]
        $(, $($options:tt)*)?
    ) => {
        $crate::__hot_swap! {
            @read {[$actor] [$kind] [$($message),*]} [] [] [] [] [] [] [] [] ; $($($options)*)?
        }
    };
    ($actor:ty, kind = $kind:expr $(,)?) => {
        ::core::compile_error! {
            "`messages` is left out: list what its children take after `kind`, as in \
            `hot_swap!(Counter, kind = \"counter\", messages = [Add, Read])`; `[]` if nothing"
        }
    };
    ($actor:ty, kind = $kind:expr, messages = $($rest:tt)*) => {
        ::core::compile_error! {
            "`messages` are types in brackets, and options follow a comma: \
            `hot_swap!(Counter, kind = \"counter\", messages = [Add, Read], version = 2)`"
        }
    };
    ($actor:ty, kind = $kind:expr, $($rest:tt)*) => {
        ::core::compile_error! {
            "`messages` come right after `kind`, and options after them: \
            `hot_swap!(Counter, kind = \"counter\", messages = [Add, Read], version = 2)`"
        }
    };
    ($($rest:tt)*) => {
        ::core::compile_error! {
            "the form is `hot_swap!(Counter, kind = \"counter\", messages = [Add, Read])`, and options after it"
        }
    };
}

/// Reads the options of [`hot_swap!`] one by one, each into a place of its own, then writes the impls.
/// The places: version, oldest, upgrade, merge, args, make, keep, blocking.
#[doc(hidden)]
#[macro_export]
macro_rules! __hot_swap {
    (@read $fixed:tt [] $oldest:tt $upgrade:tt $merge:tt $args:tt $make:tt $keep:tt $blocking:tt ;
        version = $version:expr $(, $($rest:tt)*)?) => {
        $crate::__hot_swap! {
            @read $fixed [$version] $oldest $upgrade $merge $args $make $keep $blocking ; $($($rest)*)?
        }
    };
    (@read $fixed:tt $version:tt [] $upgrade:tt $merge:tt $args:tt $make:tt $keep:tt $blocking:tt ;
        oldest = $oldest:expr $(, $($rest:tt)*)?) => {
        $crate::__hot_swap! {
            @read $fixed $version [$oldest] $upgrade $merge $args $make $keep $blocking ; $($($rest)*)?
        }
    };
    (@read $fixed:tt $version:tt $oldest:tt [] $merge:tt $args:tt $make:tt $keep:tt $blocking:tt ;
        upgrade = $upgrade:expr $(, $($rest:tt)*)?) => {
        $crate::__hot_swap! {
            @read $fixed $version $oldest [$upgrade] $merge $args $make $keep $blocking ; $($($rest)*)?
        }
    };
    (@read $fixed:tt $version:tt $oldest:tt $upgrade:tt [] $args:tt $make:tt $keep:tt $blocking:tt ;
        merge = $merge:expr $(, $($rest:tt)*)?) => {
        $crate::__hot_swap! {
            @read $fixed $version $oldest $upgrade [$merge] $args $make $keep $blocking ; $($($rest)*)?
        }
    };
    (@read $fixed:tt $version:tt $oldest:tt $upgrade:tt $merge:tt [] $make:tt $keep:tt $blocking:tt ;
        args = $args:ty $(, $($rest:tt)*)?) => {
        $crate::__hot_swap! {
            @read $fixed $version $oldest $upgrade $merge [$args] $make $keep $blocking ; $($($rest)*)?
        }
    };
    (@read $fixed:tt $version:tt $oldest:tt $upgrade:tt $merge:tt $args:tt [] $keep:tt $blocking:tt ;
        make = $make:expr $(, $($rest:tt)*)?) => {
        $crate::__hot_swap! {
            @read $fixed $version $oldest $upgrade $merge $args [$make] $keep $blocking ; $($($rest)*)?
        }
    };
    (@read $fixed:tt $version:tt $oldest:tt $upgrade:tt $merge:tt $args:tt $make:tt [] $blocking:tt ;
        keep = [$($keep:ident),* $(,)?] $(, $($rest:tt)*)?) => {
        $crate::__hot_swap! {
            @read $fixed $version $oldest $upgrade $merge $args $make [$($keep)*] $blocking ; $($($rest)*)?
        }
    };
    (@read $fixed:tt $version:tt $oldest:tt $upgrade:tt $merge:tt $args:tt $make:tt $keep:tt [] ;
        blocking = true $(, $($rest:tt)*)?) => {
        $crate::__hot_swap! {
            @read $fixed $version $oldest $upgrade $merge $args $make $keep [true] ;
            $($($rest)*)?
        }
    };
    // What is no option, was there before, or does not have its shape.
    (@read $fixed:tt $version:tt $oldest:tt $upgrade:tt $merge:tt $args:tt $make:tt $keep:tt $blocking:tt ;
        version $($rest:tt)*) => { $crate::__hot_swap! { @refuse version $version "version = 2" } };
    (@read $fixed:tt $version:tt $oldest:tt $upgrade:tt $merge:tt $args:tt $make:tt $keep:tt $blocking:tt ;
        oldest $($rest:tt)*) => { $crate::__hot_swap! { @refuse oldest $oldest "oldest = 1" } };
    (@read $fixed:tt $version:tt $oldest:tt $upgrade:tt $merge:tt $args:tt $make:tt $keep:tt $blocking:tt ;
        upgrade $($rest:tt)*) => {
        $crate::__hot_swap! { @refuse upgrade $upgrade "upgrade = Counter::upgrade" }
    };
    (@read $fixed:tt $version:tt $oldest:tt $upgrade:tt $merge:tt $args:tt $make:tt $keep:tt $blocking:tt ;
        merge $($rest:tt)*) => { $crate::__hot_swap! { @refuse merge $merge "merge = Counter::merge" } };
    (@read $fixed:tt $version:tt $oldest:tt $upgrade:tt $merge:tt $args:tt $make:tt $keep:tt $blocking:tt ;
        args $($rest:tt)*) => { $crate::__hot_swap! { @refuse args $args "args = u64" } };
    (@read $fixed:tt $version:tt $oldest:tt $upgrade:tt $merge:tt $args:tt $make:tt $keep:tt $blocking:tt ;
        make $($rest:tt)*) => { $crate::__hot_swap! { @refuse make $make "make = Counter::make" } };
    (@read $fixed:tt $version:tt $oldest:tt $upgrade:tt $merge:tt $args:tt $make:tt $keep:tt $blocking:tt ;
        keep $($rest:tt)*) => { $crate::__hot_swap! { @refuse keep $keep "keep = [pool, cache]" } };
    (@read $fixed:tt $version:tt $oldest:tt $upgrade:tt $merge:tt $args:tt $make:tt $keep:tt $blocking:tt ;
        blocking $($rest:tt)*) => { $crate::__hot_swap! { @refuse blocking $blocking "blocking = true" } };
    (@read $fixed:tt $version:tt $oldest:tt $upgrade:tt $merge:tt $args:tt $make:tt $keep:tt $blocking:tt ;
        $option:tt $($rest:tt)*) => {
        ::core::compile_error! { ::core::concat!(
            "`", ::core::stringify!($option), "` is no option of `hot_swap!`; the options are `version`, ",
            "`upgrade`, `oldest`, `args`, `make`, `keep`, `blocking` and `merge`, with commas between them",
        ) }
    };
    (@refuse $option:ident [] $form:literal) => {
        ::core::compile_error! { ::core::concat!(
            "`", ::core::stringify!($option), "` does not have its shape, as in `", $form, "`",
        ) }
    };
    (@refuse $option:ident [$($given:tt)+] $form:literal) => {
        ::core::compile_error! { ::core::concat!(
            "`", ::core::stringify!($option), "` is given twice",
        ) }
    };
    (@generic) => {
        ::core::compile_error! {
            "`hot_swap!` takes no generics: name a type, as in \
            `hot_swap!(Store<u64>, kind = \"numbers\", messages = [Put<u64>])`, or write `HotSwap` by hand \
            and list its messages with `takes!(impl[T: Bound] Store<T>: [Put<T>])`"
        }
    };
    (@read $fixed:tt [] $oldest:tt [$upgrade:expr] $merge:tt $args:tt $make:tt $keep:tt $blocking:tt ;) => {
        ::core::compile_error! { "`upgrade` reads older versions: say `version = 2`, or higher" }
    };
    (@read $fixed:tt $version:tt [$oldest:expr] [] $merge:tt $args:tt $make:tt $keep:tt $blocking:tt ;) => {
        ::core::compile_error! { "`oldest` is for `upgrade`: say how older versions are read" }
    };
    (@read $fixed:tt $version:tt $oldest:tt $upgrade:tt $merge:tt [$args:ty] [] $keep:tt $blocking:tt ;) => {
        ::core::compile_error! { "`args` go to `make`: say how the actor is made of them" }
    };
    (@read {[$actor:ty] [$kind:expr] [$($message:ty),*]} [$($version:expr)?] $oldest:tt $upgrade:tt
        [$($merge:expr)?] $args:tt $make:tt [$($keep:ident)*] $blocking:tt ;) => {
        impl $crate::HotSwap for $actor {
            const KIND: &'static str = $kind;
            $(const STATE_VERSION: u32 = $version;)?
            const PREPARE_ONLY_READS: bool = true;
            type Args = $crate::__hot_swap!(@args $args);
            type State = $crate::Snapshot<Self>;

            fn from_args(
                args: Self::Args,
                child: &$crate::ChildContext<Self>,
            ) -> ::core::result::Result<Self, $crate::StartFailure> {
                $crate::__hot_swap!(@make $make args child)
            }

            fn prepare_handover_state(&mut self) -> $crate::Snapshot<Self> {
                $crate::__hot_swap!(@prepare $blocking self)
            }

            fn alter_handover_state(&mut self, state: $crate::Snapshot<Self>) {
                if let ::core::option::Option::Some(value) = state.into_value() {
                    #[allow(unused_mut, unused_variables)]
                    let mut made = ::core::mem::replace(self, value);
                    $(::core::mem::swap(&mut self.$keep, &mut made.$keep);)*
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

            $crate::__hot_swap! { @upgrade $oldest $upgrade }
        }

        $crate::__takes! {
            [] [$actor] [$($message),*] kind => $crate::__hot_swap!(@register $blocking kind)
        }
    };
    (@prepare [] $actor:ident) => { $crate::Snapshot::of($actor) };
    (@prepare [true] $actor:ident) => {
        $crate::Snapshot::from(::core::clone::Clone::clone($actor))
    };
    (@register [] $kind:ident) => { $kind };
    (@register [true] $kind:ident) => { $kind.encode_on_blocking_thread() };
    (@args []) => { () };
    (@args [$args:ty]) => { $args };
    (@make [] $args:ident $child:ident) => {{
        let ((), _) = ($args, $child);
        ::core::result::Result::Ok(::core::default::Default::default())
    }};
    (@make [$make:expr] $args:ident $child:ident) => {{
        let make: fn(
            Self::Args,
            &$crate::ChildContext<Self>,
        ) -> ::core::result::Result<Self, $crate::StartFailure> = $make;
        make($args, $child)
    }};
    (@upgrade [] []) => {};
    (@upgrade [] [$upgrade:expr]) => { $crate::__hot_swap! { @upgrade [1] [$upgrade] } };
    (@upgrade [$oldest:expr] [$upgrade:expr]) => {
        const OLDEST_STATE_VERSION: u32 = $oldest;

        fn upgrade_state(
            from: u32,
            cbor: &[u8],
        ) -> ::core::result::Result<$crate::Snapshot<Self>, $crate::StateVersionError> {
            let upgrade: fn(
                u32,
                &[u8],
            ) -> ::core::result::Result<Self, $crate::StateVersionError> = $upgrade;
            $crate::Snapshot::upgraded(from, cbor, upgrade)
        }
    };
}
