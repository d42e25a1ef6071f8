//! A state there and back.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    HotSwap, Settings,
    hub::{
        codec::{self, EncodeFailure},
        panics::guarded,
    },
};

/// Why a state does not go there and back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RoundTripError {
    /// A hook panicked. One that panics in a hub fails the move, or the start of the successor.
    #[error("`{hook}` panicked: {message}")]
    Panicked {
        /// Name of the method of [`HotSwap`].
        hook: &'static str,
        /// What the panic said.
        message: String,
    },
    /// The state has no CBOR, or has more than the default of
    /// [`Settings::state_limit`](crate::Settings::state_limit). Such a child cannot move.
    #[error("the state could not be encoded: {reason}")]
    Encode {
        /// Path to what is wrong, and what it is.
        reason: String,
    },
    /// The encoded state cannot be read, or comes back as another one.
    #[error("the state does not come back as it was: {reason}")]
    NotReadBack {
        /// Path to what does not come back, and what becomes of it.
        reason: String,
    },
    /// The state arrives, but the successor, asked for its own state, gives another one:
    /// [`prepare_handover_state`](HotSwap::prepare_handover_state) or
    /// [`alter_handover_state`](HotSwap::alter_handover_state) forgets something.
    #[error("the successor has another state than it was given: {reason}")]
    NotTaken {
        /// Path to what the successor does not have, and what it has.
        reason: String,
    },
}

/// Hands the state of an actor to a successor as a move does, by way of its CBOR, and gives the successor.
///
/// `successor` is an actor as it is made for a move, of its arguments alone. Both states are compared in
/// their encoded form, numbers included: everything that the state holds must be in the successor's state
/// too. The order of elements is not compared, as sets and maps may have another one each time. What is not
/// in the state at all (`#[serde(skip)]`, a field that a `HotSwap` by hand leaves out) is not missed: compare
/// the successor with `assert_eq!` for that.
///
/// The actor is given its state back by [`resume_after_abort`](HotSwap::resume_after_abort), as after a move
/// that has failed, and can be used on. A state that holds the time that is left until something happens
/// is another one each time, which is told as [`RoundTripError::NotTaken`].
///
/// ```
/// use actix::prelude::*;
/// use actix_hub::{prelude::*, testkit::{RoundTripError, round_trip}};
///
/// #[derive(Debug, Default)]
/// struct Cart {
///     items: Vec<String>,
///     paid: u64,
/// }
/// # impl Actor for Cart { type Context = Context<Self>; }
///
/// impl HotSwap for Cart {
///     const KIND: &'static str = "cart";
///     type Args = ();
///     type State = (Vec<String>, u64);
///
///     fn from_args((): (), _: &ChildContext<Self>) -> Result<Self, StartFailure> {
///         Ok(Self::default())
///     }
///     fn prepare_handover_state(&mut self) -> Self::State {
///         (self.items.clone(), self.paid)
///     }
///     fn alter_handover_state(&mut self, (items, _): Self::State) {
///         self.items = items; // and `paid`?
///     }
/// }
///
/// let mut cart = Cart { items: vec!["tea".to_owned()], paid: 0 };
/// let moved = round_trip(&mut cart, Cart::default())?;
/// assert_eq!(moved.items, ["tea"]);
///
/// cart.paid = 5;
/// let lost = round_trip(&mut cart, Cart::default()).unwrap_err();
/// assert!(matches!(lost, RoundTripError::NotTaken { .. }));
/// assert!(lost.to_string().ends_with("[1]: a number comes back as another"));
/// # Ok::<(), RoundTripError>(())
/// ```
///
/// # Errors
/// [`RoundTripError`]: what did not come back, with the path to it. The actor has its state, unless
/// `prepare_handover_state` panicked; the successor is dropped.
pub fn round_trip<A: HotSwap>(actor: &mut A, mut successor: A) -> Result<A, RoundTripError> {
    let sent = state_of(actor)?;
    let state: A::State = read(&sent)?;
    let again = encode(&read::<A::State>(&sent)?)?;
    if let Some(reason) = codec::exact_difference(&sent, &again) {
        return Err(RoundTripError::NotReadBack { reason });
    }
    hook("alter_handover_state", || successor.alter_handover_state(state))?;
    let taken = state_of(&mut successor)?;
    match codec::exact_difference(&sent, &taken) {
        Some(reason) => Err(RoundTripError::NotTaken { reason }),
        None => Ok(successor),
    }
}

/// An actor's state as a move would carry it; the actor has it afterwards as before.
pub(super) fn state_of<A: HotSwap>(actor: &mut A) -> Result<Bytes, RoundTripError> {
    let state = hook("prepare_handover_state", || actor.prepare_handover_state())?;
    let encoded = encode(&state);
    hook("resume_after_abort", || actor.resume_after_abort(state))?;
    encoded
}

fn hook<T>(hook: &'static str, call: impl FnOnce() -> T) -> Result<T, RoundTripError> {
    guarded(call).map_err(|message| RoundTripError::Panicked { hook, message })
}

fn encode<T: Serialize + DeserializeOwned>(state: &T) -> Result<Bytes, RoundTripError> {
    codec::encode(state, Settings::default().state_limit).map_err(|failure| match failure {
        EncodeFailure::NotReadBack(reason) => RoundTripError::NotReadBack { reason },
        EncodeFailure::Encoder(_) | EncodeFailure::TooLarge { .. } => {
            RoundTripError::Encode { reason: failure.to_string() }
        }
    })
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, RoundTripError> {
    codec::decode(bytes).map_err(|reason| RoundTripError::NotReadBack { reason })
}
