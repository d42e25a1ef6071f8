//! A child's state in bytes, and why it has none.

use bytes::Bytes;

use super::{
    codec::{self, EncodeFailure, Rules},
    hot_swap::{HotSwap, StateVersionError},
    parcel::Parcel,
};
use crate::engine::io::{BuildFailure, FreezeFailure};

/// Encodes a state.
pub(crate) fn encode_state<A: HotSwap>(
    state: &A::State,
    rules: Rules,
) -> Result<Bytes, FreezeFailure> {
    codec::encode_by(state, rules).map_err(|failure| match failure {
        EncodeFailure::TooLarge { size, limit } => {
            FreezeFailure::TooLarge { size: size as u64, limit: limit as u64 }
        }
        EncodeFailure::Encoder(message) => FreezeFailure::Encode { message },
        EncodeFailure::NotReadBack(message) => FreezeFailure::NotReadBack { message },
    })
}

const HINT: &str = "; a field that is new needs `#[serde(default)]`, or a higher `STATE_VERSION` and \
                    `upgrade_state`";

/// Decodes a state, of an older version too if its kind reads that. Its `upgrade_state` may panic.
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
