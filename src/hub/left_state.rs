//! States that a node leaves behind in files when it ends and nobody takes them.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::model::{
    child::Epoch,
    id::{ChildId, HubName, Incarnation, KindName, NodeName},
    parked::ParkedKey,
};

/// What stands in each file, so that another one is not taken for it.
const FORMAT: &str = "actix-hub left state";
/// The version of the format.
const VERSION: u32 = 1;
/// How the files are named.
const EXTENSION: &str = "state";
/// Characters of the child's id that stand in the name of its file.
const SHOWN: usize = 64;

/// The state of a child that nobody took over, as a node that ended has written it.
///
/// Written by [`Hub::shutdown`](crate::Hub::shutdown) into
/// [`HubBuilder::leave_dir`](crate::HubBuilder::leave_dir), one file for each child, whole or not at
/// all. A file is one CBOR map:
///
/// | key | value |
/// |---|---|
/// | `format` | the text `actix-hub left state` |
/// | `version` | 1 |
/// | `hub`, `node` | the names of the hub and of the node, as texts |
/// | `child`, `kind` | the child's id and kind, as texts |
/// | `args` | CBOR of the kind's arguments, as a byte string |
/// | `epoch` | a map of `term` and `attempt`: at which epoch its owner lived |
/// | `state_version` | the kind's version of the state |
/// | `state` | CBOR of the state, as a byte string: what a handover would have carried |
/// | `checksum` | XXH3-64 of `state` |
/// | `written` | when, in milliseconds since 1970 |
///
/// The other nodes begin such a child anew; what its state is good for is for the app to say.
///
/// ```no_run
/// use actix_hub::LeftState;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// for path in LeftState::files("/var/lib/shop/left")? {
///     let left = LeftState::read(&path)?;
///     println!("{} of kind {}: {} bytes", left.child, left.kind, left.state.len());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeftState {
    /// The hub.
    pub hub: HubName,
    /// The node that wrote it.
    pub node: NodeName,
    /// The child.
    pub child: ChildId,
    /// Its kind.
    pub kind: KindName,
    /// CBOR of the kind's arguments. Empty if the state was parked: its child has others.
    pub args: Bytes,
    /// The epoch at which its owner lived.
    pub epoch: Epoch,
    /// The version of the state.
    pub state_version: u32,
    /// CBOR of the state.
    pub state: Bytes,
    /// When it was written, in milliseconds since 1970.
    pub written: u64,
}

/// Why a file gives no state.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeftStateError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is no such file, or damaged.
    #[error("{path} is no state of a child: {reason}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// As it stands in the file.
#[derive(Serialize, Deserialize)]
struct Record {
    format: String,
    version: u32,
    hub: String,
    node: String,
    child: String,
    kind: String,
    args: Bytes,
    epoch: At,
    state_version: u32,
    state: Bytes,
    checksum: u64,
    written: u64,
}

#[derive(Serialize, Deserialize)]
struct At {
    term: u64,
    attempt: u64,
}

impl LeftState {
    /// The files of a folder that are named like states, by name.
    ///
    /// # Errors
    /// [`LeftStateError::Io`]: the folder cannot be read.
    pub fn files(folder: impl AsRef<Path>) -> Result<Vec<PathBuf>, LeftStateError> {
        let folder = folder.as_ref();
        let failed = |source| LeftStateError::Io { path: folder.to_owned(), source };
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == EXTENSION) {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }

    /// Reads a file, whole, into memory.
    ///
    /// # Errors
    /// [`LeftStateError`]: it cannot be read, or is no such file.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, LeftStateError> {
        let path = path.as_ref();
        let bytes = fs::read(path)
            .map_err(|source| LeftStateError::Io { path: path.to_owned(), source })?;
        Self::decode(&bytes)
            .map_err(|reason| LeftStateError::Format { path: path.to_owned(), reason })
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let record: Record = ciborium::from_reader(bytes).map_err(|error| error.to_string())?;
        if record.format != FORMAT {
            return Err(format!("its format is {:?}", record.format));
        }
        if record.version != VERSION {
            return Err(format!("it is of version {}, known is {VERSION}", record.version));
        }
        if record.checksum != xxh3_64(&record.state) {
            return Err("the checksum of its state is wrong".to_owned());
        }
        let At { term, attempt } = record.epoch;
        let wrong = |error: &dyn std::fmt::Display| error.to_string();
        Ok(Self {
            hub: HubName::new(record.hub).map_err(|error| wrong(&error))?,
            node: NodeName::new(record.node).map_err(|error| wrong(&error))?,
            child: ChildId::new(record.child).map_err(|error| wrong(&error))?,
            kind: KindName::new(record.kind).map_err(|error| wrong(&error))?,
            args: record.args,
            epoch: Epoch { term, attempt },
            state_version: record.state_version,
            state: record.state,
            written: record.written,
        })
    }

    fn encode(self) -> Result<Vec<u8>, String> {
        let record = Record {
            format: FORMAT.to_owned(),
            version: VERSION,
            hub: self.hub.to_string(),
            node: self.node.to_string(),
            child: self.child.to_string(),
            kind: self.kind.to_string(),
            args: self.args,
            epoch: At { term: self.epoch.term, attempt: self.epoch.attempt },
            state_version: self.state_version,
            checksum: xxh3_64(&self.state),
            state: self.state,
            written: self.written,
        };
        let mut bytes = Vec::with_capacity(record.state.len() + 1_024);
        ciborium::into_writer(&record, &mut bytes).map_err(|error| error.to_string())?;
        Ok(bytes)
    }

    /// Writes it into a folder, whole or not at all; gives the path. `life` is that of the node: no
    /// other run of any node writes to the same file.
    /// `parked`: its name, if it was parked; its child may have another state.
    pub(crate) fn write(
        self,
        folder: &Path,
        life: Incarnation,
        parked: Option<&ParkedKey>,
    ) -> Result<PathBuf, String> {
        let name = match parked {
            Some(key) => format!("parked-{}", file_name(&self.child, &key.to_string(), life)),
            None => file_name(&self.child, self.child.as_str(), life),
        };
        let bytes = self.encode()?;
        let (path, part) = (folder.join(&name), folder.join(format!(".{name}.part")));
        let written = (|| {
            let mut file = private(&part)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&part, &path)
        })();
        if let Err(error) = written {
            // What there is of it is of no use.
            let _ = fs::remove_file(&part);
            return Err(format!("cannot write {}: {error}", path.display()));
        }
        Ok(path)
    }
}

/// Makes the names of files last that were written into this folder.
pub(crate) fn sync_folder(folder: &Path) {
    // A folder cannot be opened everywhere; then the system keeps it safe in its own way.
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
}

/// Makes the folder, if it is not there, and finds out whether files can be written into it.
pub(crate) fn check_folder(folder: &Path, life: Incarnation) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let probe = folder.join(format!(".probe-{:016x}", life.nonce));
    private(&probe)?.write_all(b"actix-hub")?;
    fs::remove_file(&probe)
}

/// A new file that only this user may read: states may be secret.
fn private(path: &Path) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Safe for file systems, whatever the id is: what can be shown of it, a hash of the whole name, and the
/// run of the node.
fn file_name(child: &ChildId, name: &str, life: Incarnation) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let shown: String = child.as_str().chars().take(SHOWN).map(plain).collect();
    let hash = xxh3_128(name.as_bytes());
    format!("{shown}-{hash:032x}-{}-{:016x}.{EXTENSION}", life.started, life.nonce)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Incarnation = Incarnation { started: 1_700_000_000_000, nonce: 7 };

    fn state(child: &str) -> LeftState {
        LeftState {
            hub: HubName::new("shop").expect("valid"),
            node: NodeName::new("a").expect("valid"),
            child: ChildId::new(child).expect("valid"),
            kind: KindName::new("cart").expect("valid"),
            args: Bytes::from_static(&[0xf6]),
            epoch: Epoch { term: 3, attempt: 9 },
            state_version: 2,
            state: Bytes::from(vec![7; 10_000]),
            written: 1_700_000_000_123,
        }
    }

    /// A folder of this test's own, removed at its end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("hub-{name}-{}", std::process::id()));
            check_folder(&path, LIFE).expect("it can be written to");
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_is_written_is_read_back_whatever_the_child_is_called() {
        let folder = Folder::new("left");
        let long = "ä/".repeat(85);
        let ids =
            ["a", "A", "../../etc/passwd", "room/lobby", "room_lobby", ".x", "a b\\c:*?", &long];
        for id in ids {
            let path = state(id).write(&folder.0, LIFE, None).expect("it is written");
            assert_eq!(path.parent(), Some(&*folder.0), "{id}");
            let name = path.file_name().and_then(|name| name.to_str()).expect("it is text");
            assert!(name.len() < 255 && !name.starts_with('.'), "{name}");
            assert!(
                name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)),
                "{name}"
            );
            assert_eq!(LeftState::read(&path).expect("it is read"), state(id));
        }
        let files = LeftState::files(&folder.0).expect("the folder is read");
        assert_eq!(files.len(), ids.len(), "each has a file, and nothing else is left: {files:?}");
        // Another run writes beside it, the same one in its place.
        state("a").write(&folder.0, LIFE, None).expect("it is written");
        state("a").write(&folder.0, Incarnation { nonce: 8, ..LIFE }, None).expect("it is written");
        assert_eq!(LeftState::files(&folder.0).expect("read").len(), ids.len() + 1);
    }

    #[test]
    fn what_is_damaged_or_something_else_is_refused() {
        let bytes = state("a").encode().expect("it is encoded");
        assert!(LeftState::decode(&bytes).is_ok());
        for cut in [0, 1, 100, bytes.len() - 1] {
            assert!(LeftState::decode(&bytes[..cut]).is_err(), "{cut}");
        }
        let at = bytes.windows(8).position(|part| part == [7; 8]).expect("the state is in it");
        let mut damaged = bytes.clone();
        damaged[at] = 8;
        let error = LeftState::decode(&damaged).expect_err("it is damaged");
        assert!(error.contains("checksum"), "{error}");
        let mut other = bytes;
        let at = other.windows(4).position(|part| part == b"left").expect("the format is in it");
        other[at] = b'L';
        assert!(LeftState::decode(&other).expect_err("another format").contains("format"));
        assert!(matches!(LeftState::read("/nowhere/at/all"), Err(LeftStateError::Io { .. })));
    }

    #[test]
    fn what_cannot_be_written_leaves_nothing_behind() {
        let folder = Folder::new("not-left");
        // A folder stands where the file should be.
        let path = folder.0.join(file_name(&ChildId::new("a").expect("valid"), "a", LIFE));
        fs::create_dir(&path).expect("it is made");
        fs::write(path.join("x"), "y").expect("it is written");
        assert!(state("a").write(&folder.0, LIFE, None).is_err());
        let left: Vec<_> = fs::read_dir(&folder.0).expect("it is read").collect();
        assert_eq!(left.len(), 1, "{left:?}");
        assert!(state("a").write(&folder.0.join("missing"), LIFE, None).is_err());
    }
}
