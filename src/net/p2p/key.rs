//! The node's key: its identity.

use std::{
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use libp2p::PeerId;

use super::key_pair;
use crate::model::id::NodeId;

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// It cannot be read or written.
    #[error("key file {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It does not hold a key; it was left as it is.
    #[error("key file {path} has {size} bytes instead of 32")]
    Shape {
        /// The file.
        path: PathBuf,
        /// Its size, as far as it was read.
        size: usize,
    },
    /// The system gave no random bytes.
    #[error("no random bytes for a key: {0}")]
    Random(String),
}

/// Reads the ed25519 secret key (32 bytes, raw) of a node from a file, or makes one and writes it
/// there, readable for its owner alone.
///
/// # Errors
/// [`KeyFileError`] when the file cannot be read or written or is no key.
pub fn load_or_create_key(path: impl AsRef<Path>) -> Result<[u8; 32], KeyFileError> {
    let path = path.as_ref();
    let failed = |source| KeyFileError::Io { path: path.to_owned(), source };
    match read_key(path) {
        Err(KeyFileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        read => return read,
    }
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| KeyFileError::Random(error.to_string()))?;
    // Written beside it and linked into place, so that nobody ever reads half a key, and of two
    // processes that start at once one wins.
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let written = path.with_file_name(name);
    let outcome = write_key(&written, &key).and_then(|()| fs::hard_link(&written, path));
    let _ = fs::remove_file(&written);
    match outcome {
        Ok(()) => Ok(key),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => read_key(path),
        Err(error) => Err(failed(error)),
    }
}

fn read_key(path: &Path) -> Result<[u8; 32], KeyFileError> {
    let failed = |source| KeyFileError::Io { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(failed)?;
    file.take(33).read_to_end(&mut bytes).map_err(failed)?;
    let size = bytes.len();
    bytes.try_into().map_err(|_| KeyFileError::Shape { path: path.to_owned(), size })
}

fn write_key(path: &Path, key: &[u8; 32]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(key)?;
    file.sync_all()
}

/// The node that an ed25519 secret key belongs to.
#[must_use]
pub fn node_id(secret_key: &[u8; 32]) -> NodeId {
    let public = key_pair(secret_key).public();
    let public = public.try_into_ed25519().expect("the pair was made of an ed25519 key");
    NodeId::from_key(public.to_bytes())
}

/// The node of a peer id, if its key is ed25519.
pub(super) fn from_peer_id(peer: &PeerId) -> Option<NodeId> {
    peer.to_base58().parse().ok()
}

/// The peer id of a node.
pub(super) fn to_peer_id(node: NodeId) -> PeerId {
    PeerId::from_bytes(&node.peer_id_bytes()).expect("a node id holds the bytes of a peer id")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_id_is_the_peer_id_of_its_key() {
        let peer = key_pair(&[3; 32]).public().to_peer_id();
        let node = node_id(&[3; 32]);
        assert_eq!(node.to_string(), peer.to_base58());
        assert_eq!(to_peer_id(node), peer);
        assert_eq!(from_peer_id(&peer), Some(node));
    }

    #[test]
    fn a_key_file_is_made_once_and_read_back() {
        let name = format!("actix-hub-key-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_file(&path);
        let made = load_or_create_key(&path).expect("made");
        assert_eq!(load_or_create_key(&path).expect("read"), made);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(&path).expect("it is there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        fs::write(&path, [1; 31]).expect("written");
        let refused = load_or_create_key(&path).expect_err("no key");
        assert!(refused.to_string().contains("31 bytes"));
        fs::remove_file(&path).expect("removed");
    }
}
