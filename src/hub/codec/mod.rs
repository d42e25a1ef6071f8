//! CBOR with limits, of values that come back as they were.
//!
//! `Serialize` and `Deserialize` are the user's. They are called under locks and on the network's thread,
//! too, so a panic of theirs ends here and is a failure like any other.

mod compare;
mod strict;
#[cfg(test)]
mod tests;

use std::{io, marker::PhantomData};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};

use self::strict::{Nulls, Refusal, Watch};
use super::panics::guarded;
use crate::{
    error::PublishError,
    model::{settings::Settings, words::brief},
};

/// Why a value was not encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EncodeFailure {
    TooLarge {
        size: usize,
        limit: usize,
    },
    Encoder(String),
    /// It was encoded, and was another value, or none, when it was read back.
    NotReadBack(String),
}

impl std::fmt::Display for EncodeFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLarge { size, limit } => {
                write!(f, "it has {size} bytes, the limit is {limit}")
            }
            Self::Encoder(reason) | Self::NotReadBack(reason) => f.write_str(reason),
        }
    }
}

impl EncodeFailure {
    /// What is wrong, of something that was named before.
    pub(crate) fn sentence(&self) -> String {
        match self {
            Self::TooLarge { .. } => self.to_string(),
            Self::Encoder(reason) => format!("it could not be encoded: {reason}"),
            Self::NotReadBack(reason) => format!("it does not come back as it was: {reason}"),
        }
    }
}

impl From<EncodeFailure> for PublishError {
    fn from(failure: EncodeFailure) -> Self {
        match failure {
            EncodeFailure::TooLarge { size, limit } => Self::TooLarge { size, limit },
            failure => Self::Encode { reason: failure.sentence() },
        }
    }
}

/// Keeps up to the limit and counts on, so that the error can name the size.
struct Bounded {
    bytes: Vec<u8>,
    size: usize,
    limit: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        self.size = self.size.saturating_add(part.len());
        if self.size <= self.limit {
            self.bytes.extend_from_slice(part);
        } else {
            self.bytes = Vec::new();
        }
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How values are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// The most bytes.
    pub(crate) limit: usize,
    /// Whether each value is read back after it was encoded.
    pub(crate) read_back: bool,
}

impl Rules {
    /// For messages and replies.
    pub(crate) fn of_messages(settings: &Settings) -> Self {
        Self { limit: settings.message_limit, read_back: settings.verify_encoding }
    }

    /// For states.
    pub(crate) fn of_states(settings: &Settings) -> Self {
        Self { limit: settings.state_limit, read_back: settings.verify_encoding }
    }
}

/// Encodes a value as [`encode`] does, and reads it back if the rules say so.
pub(crate) fn encode_by<T: Serialize + DeserializeOwned>(
    value: &T,
    rules: Rules,
) -> Result<Bytes, EncodeFailure> {
    let bytes = encode(value, rules.limit)?;
    if rules.read_back {
        guarded(|| read_back::<T>(&bytes))
            .unwrap_or_else(|panic| Err(panicked(&panic)))
            .map_err(|reason| EncodeFailure::NotReadBack(brief(reason)))?;
    }
    Ok(bytes)
}

fn panicked(panic: &str) -> String {
    brief(format!("it panicked: {panic}"))
}

/// Decodes, encodes again, and compares. What is not encoded at all is not missed.
fn read_back<T: Serialize + DeserializeOwned>(sent: &[u8]) -> Result<(), String> {
    let value: T = read(sent)?;
    let back = write(&value, usize::MAX, &Watch::new(Nulls::Count));
    let back = back.map_err(|failure| failure.to_string())?;
    compare::difference(sent, &back).map_or(Ok(()), Err)
}

/// How the second encoding of a value differs from the first, numbers included, with the path to it;
/// `None` if it does not. The order of elements is not compared.
#[cfg(feature = "testkit")]
pub(crate) fn exact_difference(first: &[u8], second: &[u8]) -> Option<String> {
    compare::exact_difference(first, second)
}

/// Encodes a value of at most `limit` bytes. What would come back as another value, or not at all, is
/// refused, with the path to it.
pub(crate) fn encode<T: Serialize + DeserializeOwned>(
    value: &T,
    limit: usize,
) -> Result<Bytes, EncodeFailure> {
    let encoded = guarded(|| {
        let watch = Watch::new(Nulls::Refuse);
        write(value, limit, &watch).or_else(|failure| match watch.refusal() {
            Some(Refusal::SomeNull) => encode_nulls(value, limit).unwrap_or(Err(failure)),
            _ => Err(failure),
        })
    });
    encoded.unwrap_or_else(|panic| Err(EncodeFailure::Encoder(panicked(&panic))))
}

/// Encodes a value that writes `Some` of a null. Its own `Deserialize` may tell that from `None`, as
/// those do that leave out the field for `None`: then it writes the same when it was read back.
fn encode_nulls<T: Serialize + DeserializeOwned>(
    value: &T,
    limit: usize,
) -> Option<Result<Bytes, EncodeFailure>> {
    let (first, again) = (Watch::new(Nulls::Count), Watch::new(Nulls::Count));
    let bytes = match write(value, limit, &first) {
        Ok(bytes) => bytes,
        Err(failure) => return Some(Err(failure)),
    };
    let back: T = read(&bytes).ok()?;
    write(&back, limit, &again).ok()?;
    (first.some_nulls() == again.some_nulls()).then_some(Ok(bytes))
}

fn write<T: Serialize>(value: &T, limit: usize, watch: &Watch) -> Result<Bytes, EncodeFailure> {
    let mut writer = Bounded { bytes: Vec::new(), size: 0, limit };
    ciborium::into_writer(&watch.over(value), &mut writer).map_err(|error| {
        let reason = match error {
            ciborium::ser::Error::Value(reason) => reason,
            ciborium::ser::Error::Io(error) => error.to_string(),
        };
        EncodeFailure::Encoder(brief(at(&watch.path(), reason)))
    })?;
    if writer.size > limit {
        return Err(EncodeFailure::TooLarge { size: writer.size, limit });
    }
    Ok(writer.bytes.into())
}

/// A reason with the path to what it is about.
fn at(path: &str, reason: String) -> String {
    if path.is_empty() { reason } else { format!("{path}: {reason}") }
}

/// Decodes a value and refuses what is left over behind it. The reason of a failure names the path to
/// what does not fit.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    guarded(|| read(bytes)).unwrap_or_else(|panic| Err(panicked(&panic)))
}

fn read<T: DeserializeOwned>(mut bytes: &[u8]) -> Result<T, String> {
    use ciborium::de::Error;
    let whole = bytes;
    let value = ciborium::from_reader(&mut bytes).map_err(|error| {
        let reason = match error {
            Error::Semantic(_, reason) => reason,
            Error::Syntax(offset) => format!("byte {offset} is no CBOR"),
            Error::RecursionLimitExceeded => Refusal::Depth.to_string(),
            Error::Io(_) => "it ends too early".to_owned(),
        };
        let path = match ciborium::from_reader(whole) {
            Ok(Failing::<T>::At(path)) => path,
            _ => String::new(),
        };
        brief(at(&path, reason))
    })?;
    if bytes.is_empty() { Ok(value) } else { Err(format!("{} bytes are left over", bytes.len())) }
}

/// Where the decoding of a `T` fails. Slower than decoding: for what has failed already.
enum Failing<T> {
    Nowhere(PhantomData<fn() -> T>),
    At(String),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Failing<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut track = serde_path_to_error::Track::new();
        let tracked = serde_path_to_error::Deserializer::new(deserializer, &mut track);
        if T::deserialize(tracked).is_ok() {
            return Ok(Self::Nowhere(PhantomData));
        }
        let path = track.path();
        let is_whole = path.iter().next().is_none();
        Ok(Self::At(if is_whole { String::new() } else { path.to_string() }))
    }
}
