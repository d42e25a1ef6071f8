//! A child's state in bytes: what the code of users does with it, with their panics caught.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

use bytes::Bytes;

use super::{
    codec::{self, EncodeFailure, Rules},
    hot_swap::{HotSwap, StateVersionError},
    parcel::Parcel,
};
use crate::{
    engine::io::{BuildFailure, FreezeFailure},
    model::words::brief,
};

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    brief(text.unwrap_or_else(|| "something that is no text".to_owned()))
}

/// Runs code of users.
pub(crate) fn guarded<T>(act: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(act)).map_err(|panic| panic_message(&*panic))
}

/// Encodes a state. Its `Serialize` is the user's.
pub(crate) fn encode_state<A: HotSwap>(
    state: &A::State,
    rules: Rules,
) -> Result<Bytes, FreezeFailure> {
    let encoded = guarded(|| codec::encode_by(state, rules));
    let encoded = encoded
        .unwrap_or_else(|panic| Err(EncodeFailure::Encoder(format!("it panicked: {panic}"))));
    encoded.map_err(|failure| match failure {
        EncodeFailure::TooLarge { size, limit } => {
            FreezeFailure::TooLarge { size: size as u64, limit: limit as u64 }
        }
        EncodeFailure::Encoder(message) => FreezeFailure::Encode { message },
        EncodeFailure::NotReadBack(message) => FreezeFailure::NotReadBack { message },
    })
}

const HINT: &str = "; a field that is new needs `#[serde(default)]`, or a higher `STATE_VERSION` and \
                    `upgrade_state`";

/// Decodes a state, of an older version too if its kind reads that. Its `Deserialize` is the user's.
/// What this node cannot read now it will not read later.
pub(crate) fn read_state<A: HotSwap>(parcel: &Parcel) -> Result<A::State, BuildFailure> {
    let version = parcel.state_version;
    if version == A::STATE_VERSION {
        return codec::decode(&parcel.bytes).map_err(|reason| {
            let hint = if reason.contains("missing field") { HINT } else { "" };
            let kind = A::KIND;
            BuildFailure::lasting(format!(
                "the state of kind {kind}, version {version}, could not be decoded: {reason}{hint}"
            ))
        });
    }
    if !(A::OLDEST_STATE_VERSION..A::STATE_VERSION).contains(&version) {
        return Err(BuildFailure::lasting(format!("the state is of version {version}")));
    }
    A::upgrade_state(version, &parcel.bytes)
        .map_err(|error: StateVersionError| BuildFailure::lasting(error.to_string()))
}
