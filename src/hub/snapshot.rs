//! A value's own serde form as a handover state.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned, ser};

use super::{codec, hot_swap::StateVersionError};

/// The whole of a value as a handover state: encoded in place, so that the value need not be
/// cloned; decoded when it is read.
///
/// On the wire: one CBOR byte string that holds the value's CBOR.
pub struct Snapshot<T>(Form<T>);

enum Form<T> {
    Encoded(Bytes),
    Failed(String),
    Value(T),
}

/// The value's own CBOR. Its limit is that of the state around it.
fn encode_whole<T: Serialize + DeserializeOwned>(value: &T) -> Result<Bytes, String> {
    codec::encode(value, usize::MAX).map_err(|failure| failure.to_string())
}

impl<T: Serialize + DeserializeOwned> Snapshot<T> {
    /// Encodes a value. What cannot be encoded, or would come back as another value, shows when the
    /// snapshot is encoded.
    pub fn of(value: &T) -> Self {
        Self(match encode_whole(value) {
            Ok(bytes) => Form::Encoded(bytes),
            Err(reason) => Form::Failed(reason),
        })
    }
}

/// A value that is encoded when the snapshot is: for states that are encoded on a blocking thread.
impl<T> From<T> for Snapshot<T> {
    fn from(value: T) -> Self {
        Self(Form::Value(value))
    }
}

impl<T> Snapshot<T> {
    /// The value. `None` if it could not be encoded, or what was encoded does not read back; a
    /// snapshot that came from another node has been read already and has its value.
    #[must_use]
    pub fn into_value(self) -> Option<T>
    where
        T: DeserializeOwned,
    {
        match self.0 {
            Form::Value(value) => Some(value),
            Form::Encoded(bytes) => codec::decode(&bytes).ok(),
            Form::Failed(_) => None,
        }
    }

    /// What `upgrade` makes of the snapshot of another type, for `hot_swap!`.
    #[doc(hidden)]
    pub fn upgraded(
        from: u32,
        cbor: &[u8],
        upgrade: fn(u32, &[u8]) -> Result<T, StateVersionError>,
    ) -> Result<Self, StateVersionError> {
        let inner: serde_bytes::ByteBuf = decode_state(cbor)?;
        upgrade(from, &inner).map(|value| Self(Form::Value(value)))
    }
}

/// Decodes a state of an older version, in [`HotSwap::upgrade_state`](crate::HotSwap::upgrade_state)
/// and in the `upgrade` of [`hot_swap!`](crate::hot_swap).
///
/// # Errors
/// The bytes are no CBOR of a `T`; the reason names the path to what does not fit.
pub fn decode_state<T: DeserializeOwned>(cbor: &[u8]) -> Result<T, StateVersionError> {
    codec::decode(cbor).map_err(StateVersionError::new)
}

impl<T> fmt::Debug for Snapshot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").finish_non_exhaustive()
    }
}

impl<T: Serialize + DeserializeOwned> Serialize for Snapshot<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Form::Encoded(bytes) => serializer.serialize_bytes(bytes),
            Form::Failed(reason) => Err(ser::Error::custom(reason)),
            Form::Value(value) => {
                let bytes = encode_whole(value).map_err(ser::Error::custom)?;
                serializer.serialize_bytes(&bytes)
            }
        }
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Snapshot<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes: serde_bytes::ByteBuf = Deserialize::deserialize(deserializer)?;
        let value = codec::decode(&bytes).map_err(serde::de::Error::custom)?;
        Ok(Self(Form::Value(value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_reads_back_what_was_encoded_in_place() {
        let value = vec![1_u64, 2, 3];
        let bytes = codec::encode(&Snapshot::of(&value), 1 << 20).expect("it encodes");
        let read: Snapshot<Vec<u64>> = codec::decode(&bytes).expect("it decodes");
        assert_eq!(read.into_value(), Some(value));
    }

    #[test]
    fn a_snapshot_of_garbage_does_not_decode() {
        let garbage = serde_bytes::ByteBuf::from(b"\xff\xff");
        let bytes = codec::encode(&garbage, 64).expect("it encodes");
        assert!(codec::decode::<Snapshot<u64>>(&bytes).is_err());
    }
}
