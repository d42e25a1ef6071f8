//! CBOR with limits.

use std::io;

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::model::words::brief;

/// Why a value was not encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EncodeFailure {
    TooLarge { size: usize, limit: usize },
    Encoder(String),
}

impl std::fmt::Display for EncodeFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLarge { size, limit } => {
                write!(f, "it has {size} bytes, the limit is {limit}")
            }
            Self::Encoder(reason) => f.write_str(reason),
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

/// Encodes a value of at most `limit` bytes.
pub(crate) fn encode<T: Serialize + ?Sized>(
    value: &T,
    limit: usize,
) -> Result<Bytes, EncodeFailure> {
    let mut writer = Bounded { bytes: Vec::new(), size: 0, limit };
    ciborium::into_writer(value, &mut writer)
        .map_err(|error| EncodeFailure::Encoder(brief(error.to_string())))?;
    if writer.size > limit {
        return Err(EncodeFailure::TooLarge { size: writer.size, limit });
    }
    Ok(writer.bytes.into())
}

/// Decodes a value and refuses what is left over behind it.
pub(crate) fn decode<T: DeserializeOwned>(mut bytes: &[u8]) -> Result<T, String> {
    let value = ciborium::from_reader(&mut bytes).map_err(|error| brief(error.to_string()))?;
    if bytes.is_empty() { Ok(value) } else { Err(format!("{} bytes are left over", bytes.len())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_above_the_limit_is_refused_with_its_size() {
        let text = "x".repeat(100);
        assert_eq!(encode(&text, 50), Err(EncodeFailure::TooLarge { size: 102, limit: 50 }));
        assert!(encode(&text, 102).is_ok());
    }

    #[test]
    fn bytes_that_are_left_over_are_refused() {
        let mut bytes = encode(&7_u8, 10).expect("it encodes").to_vec();
        bytes.push(0);
        assert!(decode::<u8>(&bytes).is_err());
    }
}
