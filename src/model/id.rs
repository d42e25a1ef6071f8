//! Identities. Each is a type of its own that checks its shape once.

use std::{cmp::Ordering, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// A text or key that does not have the shape of the identity it was meant for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} is not valid: {rule}")]
#[non_exhaustive]
pub struct InvalidId {
    /// What the value was meant to be, for example `child id`.
    pub what: &'static str,
    /// The value that was refused, at most its first 64 characters.
    pub value: String,
    /// The shape that is asked for.
    pub rule: &'static str,
}

impl InvalidId {
    fn new(what: &'static str, value: &str, rule: &'static str) -> Self {
        Self { what, value: value.chars().take(64).collect(), rule }
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $limit:literal, $fits:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the shape and wraps the text.
            ///
            /// # Errors
            /// [`InvalidId`] when the text does not have the shape named above.
            pub fn new(text: impl AsRef<str>) -> Result<Self, InvalidId> {
                let text = text.as_ref();
                let fits: fn(&str) -> bool = $fits;
                if text.is_empty() || text.len() > $limit || !fits(text) {
                    return Err(InvalidId::new($what, text, $rule));
                }
                Ok(Self(text.into()))
            }

            /// The text itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = InvalidId;
            fn try_from(text: &str) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

fn plain(text: &str) -> bool {
    text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.'))
}

fn printable(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

/// Programs that read a URL take these two out of its path, however they are written.
fn addressable(text: &str) -> bool {
    printable(text) && text != "." && text != ".."
}

text_id! {
    /// The name of a hub: nodes with another hub name are not admitted.
    ///
    /// 1 to 64 bytes of `A-Z a-z 0-9 _ - .`.
    HubName, "hub name", 64, plain, "1 to 64 characters of A-Z a-z 0-9 _ - ."
}
text_id! {
    /// A name for people, shown wherever a node is shown; it identifies nothing.
    ///
    /// 1 to 64 bytes of UTF-8 without control characters.
    NodeName, "node name", 64, printable, "1 to 64 bytes without control characters"
}
text_id! {
    /// The identity of a child in its hub, the same wherever it runs.
    ///
    /// 1 to 256 bytes of UTF-8 without control characters, and neither `.` nor `..`, which no URL can
    /// name.
    ChildId, "child id", 256, addressable,
    "1 to 256 bytes without control characters, and neither . nor .."
}
text_id! {
    /// The name under which nodes agree on what sort of actor a child is.
    ///
    /// 1 to 128 bytes of UTF-8 without control characters.
    KindName, "kind", 128, printable, "1 to 128 bytes without control characters"
}
text_id! {
    /// A word by which children can be found.
    ///
    /// 1 to 128 bytes of UTF-8 without control characters.
    Tag, "tag", 128, printable, "1 to 128 bytes without control characters"
}
text_id! {
    /// The name of a topic: what is published under it goes to whoever has subscribed to it.
    ///
    /// 1 to 255 bytes of UTF-8 without control characters.
    TopicName, "topic", 255, printable, "1 to 255 bytes without control characters"
}

/// The identity of a node: its ed25519 public key.
///
/// Displayed and parsed as the libp2p peer id (`12D3KooW…`, base58). Ordered by the key's bytes,
/// which is also the order of the peer ids' bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NodeId(#[serde(with = "serde_bytes")] [u8; 32]);

/// What stands before the key in the identity multihash that a peer id is.
const PEER_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

impl NodeId {
    /// Wraps the 32 bytes of an ed25519 public key.
    #[must_use]
    pub const fn from_key(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// The 32 bytes of the key.
    #[must_use]
    pub const fn key(&self) -> &[u8; 32] {
        &self.0
    }

    fn first_word(&self) -> u64 {
        self.0.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
    }

    /// The bytes of the peer id: an identity multihash of the encoded key.
    #[must_use]
    pub fn peer_id_bytes(&self) -> [u8; 38] {
        let mut bytes = [0; 38];
        bytes[..6].copy_from_slice(&PEER_ID_PREFIX);
        bytes[6..].copy_from_slice(&self.0);
        bytes
    }

    /// The last eight characters of the peer id, to tell nodes apart in a log line.
    #[must_use]
    pub fn short(&self) -> String {
        let text = self.to_string();
        text[text.len().saturating_sub(8)..].to_owned()
    }
}

impl PartialOrd for NodeId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for NodeId {
    fn cmp(&self, other: &Self) -> Ordering {
        // Keys are random: all but equal ones differ in the first word, and maps by nodes are
        // searched at every turn.
        self.first_word().cmp(&other.first_word()).then_with(|| self.0.cmp(&other.0))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bs58::encode(self.peer_id_bytes()).into_string())
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

impl FromStr for NodeId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let refused = || InvalidId::new("node id", text, "a base58 peer id of an ed25519 key");
        let bytes = bs58::decode(text).into_vec().map_err(|_| refused())?;
        let key = bytes.strip_prefix(&PEER_ID_PREFIX).ok_or_else(refused)?;
        Ok(Self(key.try_into().map_err(|_| refused())?))
    }
}

/// One run of a node, from its start to its end: the node and the nonce it drew when it started.
///
/// Ownership is tied to a run, not to a node: after a restart nothing of the old run is alive.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeRun {
    /// The node.
    pub node: NodeId,
    /// Drawn at random when the process started.
    pub nonce: u64,
}

impl fmt::Debug for NodeRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}#{:04x}", self.node, self.nonce & 0xffff)
    }
}

impl fmt::Display for NodeRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{:016x}", self.node, self.nonce)
    }
}

/// Which life of a node is meant. A later one is higher.
///
/// `started` is milliseconds since 1970, at least one above what a peer last knew of the node.
/// A node that was declared down while it lived renews `started` and keeps its nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Incarnation {
    /// Milliseconds since 1970, or one above the highest that a peer knew.
    pub started: u64,
    /// Drawn at random when the process started.
    pub nonce: u64,
}

impl Incarnation {
    /// The run of `node` that this incarnation belongs to.
    #[must_use]
    pub const fn run_of(&self, node: NodeId) -> NodeRun {
        NodeRun { node, nonce: self.nonce }
    }
}

/// One life of a node: the node in one of its incarnations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Life {
    /// The node.
    pub node: NodeId,
    /// Which life of it.
    pub incarnation: Incarnation,
}

/// Names one request to an engine, so that its answer can be told from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId(pub u64);

/// Which request a child was begun for, of all nodes and their runs: a hash of both. It goes with the
/// child, in 8 bytes, so that who asks again is told that its child was started, and who came second
/// that it exists, by whichever home.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Origin(pub u64);

impl Origin {
    /// The origin of children that this request of this run begins.
    #[must_use]
    pub fn of(run: NodeRun, request: RequestId) -> Self {
        let mut bytes = [0; 48];
        bytes[..32].copy_from_slice(run.node.key());
        bytes[32..40].copy_from_slice(&run.nonce.to_le_bytes());
        bytes[40..].copy_from_slice(&request.0.to_le_bytes());
        Self(xxh3_64(&bytes))
    }
}

/// Names one lane of one node run: its ordered way to one child. Later lanes have higher numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LaneId(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_id_reads_back_from_its_peer_id() {
        let id = NodeId::from_key([7; 32]);
        assert!(id.to_string().starts_with("12D3KooW"));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("12D3KooW".parse::<NodeId>().is_err());
        assert!("".parse::<NodeId>().is_err());
    }

    #[test]
    fn a_text_outside_its_shape_is_refused_by_name() {
        assert!(HubName::new("my hub").is_err());
        assert!(ChildId::new("").is_err());
        assert!(ChildId::new("x".repeat(257)).is_err());
        assert!(ChildId::new("line\nbreak").is_err());
        let error = HubName::new("a b").expect_err("a space is not allowed");
        assert!(error.to_string().contains("hub name"));
    }

    #[test]
    fn a_text_from_the_wire_is_checked_too() {
        let mut bytes = Vec::new();
        ciborium::into_writer("", &mut bytes).expect("a string encodes");
        assert!(ciborium::from_reader::<ChildId, _>(&bytes[..]).is_err());
    }
}
