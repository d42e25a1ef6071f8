//! Golden files: states of older releases, to be read by newer ones.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::round_trip::{RoundTripError, state_of};
use crate::{
    HotSwap,
    hub::{panics::guarded, parcel::Parcel, state::read_state},
};

/// Text at the begin of each file, so that another file is not taken for one.
const FORMAT: &str = "actix-hub golden state";
/// Version of the format.
const VERSION: u32 = 1;

/// Why a golden file was not written, or gives no state.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GoldenError {
    /// The file, or its folder, cannot be read or written. A golden file that exists is never overwritten:
    /// it is the state of a release that is out.
    #[error("golden file {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The actor's state cannot be written.
    #[error("golden file {path}: {source}")]
    State {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: RoundTripError,
    },
    /// The file is no golden file, or damaged.
    #[error("{path} is no golden file: {reason}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file holds the state of another kind.
    #[error("golden file {path} is of kind `{found}`, not `{kind}`")]
    Kind {
        /// The file.
        path: PathBuf,
        /// Kind in the file.
        found: String,
        /// Kind of the actor.
        kind: &'static str,
    },
    /// The kind says that it does not read states of that version.
    #[error("golden file {path} is of version {version}; kind `{kind}` reads {oldest} to {newest}")]
    Version {
        /// The file.
        path: PathBuf,
        /// Version in the file.
        version: u32,
        /// Kind of the actor.
        kind: &'static str,
        /// [`HotSwap::OLDEST_STATE_VERSION`].
        oldest: u32,
        /// [`HotSwap::STATE_VERSION`].
        newest: u32,
    },
    /// The kind does not read the state, which it says it does. While a release with this code is rolled
    /// out, children of nodes with the older one could not move to the newer ones.
    #[error("golden file {path}, of version {version}, is not read: {reason}")]
    NotRead {
        /// The file.
        path: PathBuf,
        /// Version in the file.
        version: u32,
        /// Path to what does not fit, and why.
        reason: String,
    },
}

/// As it stands in the file.
#[derive(Serialize, Deserialize)]
struct Record {
    format: String,
    version: u32,
    kind: String,
    state_version: u32,
    state: Bytes,
    checksum: u64,
}

/// Writes the state of an actor into a new file, as this release of its kind hands it over.
///
/// Done once for each [`STATE_VERSION`](HotSwap::STATE_VERSION), before the first release that has it, and
/// once more when a field is added; the file is committed beside the tests, which read it from then on with
/// [`read_golden`]. Missing folders are made. The actor keeps its state.
///
/// A file is one CBOR map: `format` (`actix-hub golden state`), `version` of the format (1), `kind`,
/// `state_version`, `state` (CBOR as a byte string) and `checksum` (XXH3-64 of `state`). It is binary: where
/// Git rewrites the ends of lines, `*.golden -text` in `.gitattributes` leaves it alone.
///
/// # Errors
/// [`GoldenError::Io`]: the file exists (`AlreadyExists`), or cannot be written. [`GoldenError::State`]: the
/// state cannot be encoded.
pub fn write_golden<A: HotSwap>(path: impl AsRef<Path>, actor: &mut A) -> Result<(), GoldenError> {
    let path = path.as_ref();
    let failed = |source| GoldenError::Io { path: path.to_owned(), source };
    let state =
        state_of(actor).map_err(|source| GoldenError::State { path: path.to_owned(), source })?;
    let record = Record {
        format: FORMAT.to_owned(),
        version: VERSION,
        kind: A::KIND.to_owned(),
        state_version: A::STATE_VERSION,
        checksum: xxh3_64(&state),
        state,
    };
    let mut bytes = Vec::new();
    ciborium::into_writer(&record, &mut bytes).expect("texts, numbers and bytes have a CBOR");
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(failed)?;
    file.write_all(&bytes).map_err(failed)
}

/// Reads a golden file as a node with this code reads the state of a child that comes from an older one
/// ([`upgrade_state`](HotSwap::upgrade_state) included), hands it to `successor`, and gives that.
///
/// `successor` is an actor as it is made for a move, of its arguments alone.
///
/// ```
/// use actix::prelude::*;
/// use actix_hub::{prelude::*, testkit::{GoldenError, read_golden, round_trip, write_golden}};
/// use serde::{Deserialize, Serialize};
/// # let folder = std::env::temp_dir().join(format!("actix-hub-golden-{}", std::process::id()));
///
/// // The release that is out has written `counter.v1.golden`.
/// mod old {
/// #   use actix::prelude::*;
/// #   use actix_hub::prelude::*;
/// #   use serde::{Deserialize, Serialize};
///     #[derive(Default, Serialize, Deserialize)]
///     pub struct Counter {
///         pub value: u32,
///     }
/// #   impl Actor for Counter { type Context = Context<Self>; }
///     hot_swap!(Counter, kind = "counter", messages = []);
/// }
/// write_golden(folder.join("counter.v1.golden"), &mut old::Counter { value: 7 })?;
///
/// // The next one has another field in the place of that.
/// #[derive(Default, Serialize, Deserialize)]
/// struct Counter {
///     total: u64,
/// }
/// # impl Actor for Counter { type Context = Context<Self>; }
/// impl Counter {
///     fn upgrade(_from: u32, cbor: &[u8]) -> Result<Self, StateVersionError> {
///         let old: old::Counter = decode_state(cbor)?;
///         Ok(Self { total: old.value.into() })
///     }
/// }
/// hot_swap!(Counter, kind = "counter", messages = [], version = 2, upgrade = Counter::upgrade);
///
/// let counter = read_golden(folder.join("counter.v1.golden"), Counter::default())?;
/// assert_eq!(counter.total, 7);
/// # std::fs::remove_dir_all(&folder).expect("it was made above");
/// # Ok::<(), GoldenError>(())
/// ```
///
/// # Errors
/// [`GoldenError`]: the file cannot be read, is of another kind or version, or its state is not read.
pub fn read_golden<A: HotSwap>(path: impl AsRef<Path>, mut successor: A) -> Result<A, GoldenError> {
    let path = path.as_ref();
    let bytes =
        fs::read(path).map_err(|source| GoldenError::Io { path: path.to_owned(), source })?;
    let record =
        decode(&bytes).map_err(|reason| GoldenError::Format { path: path.to_owned(), reason })?;
    if record.kind != A::KIND {
        return Err(GoldenError::Kind { path: path.to_owned(), found: record.kind, kind: A::KIND });
    }
    let version = record.state_version;
    if !(A::OLDEST_STATE_VERSION..=A::STATE_VERSION).contains(&version) {
        return Err(GoldenError::Version {
            path: path.to_owned(),
            version,
            kind: A::KIND,
            oldest: A::OLDEST_STATE_VERSION,
            newest: A::STATE_VERSION,
        });
    }
    let not_read = |reason| GoldenError::NotRead { path: path.to_owned(), version, reason };
    let parcel = Parcel { state_version: version, lanes: Vec::new(), bytes: record.state };
    let state = guarded(|| read_state::<A>(&parcel))
        .map_err(|panic| not_read(format!("`upgrade_state` panicked: {panic}")))?
        .map_err(|failure| not_read(failure.reason))?;
    guarded(|| successor.alter_handover_state(state))
        .map_err(|panic| not_read(format!("`alter_handover_state` panicked: {panic}")))?;
    Ok(successor)
}

fn decode(bytes: &[u8]) -> Result<Record, String> {
    let record: Record = ciborium::from_reader(bytes).map_err(|error| error.to_string())?;
    if record.format != FORMAT {
        return Err(format!("its format is {:?}", record.format));
    }
    if record.version != VERSION {
        return Err(format!("its format has version {}, known is {VERSION}", record.version));
    }
    if record.checksum != xxh3_64(&record.state) {
        return Err("the checksum of its state is wrong".to_owned());
    }
    Ok(record)
}
