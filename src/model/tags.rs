//! Sets of lives and of nodes, each named by eight bytes instead of fifty.
//!
//! Nodes tell each other whom they hear at each change, so that in a mesh of n nodes that forms such
//! lists are told, taken apart and compared n² times with up to n entries. Who reads one knows the
//! lives that it asks about, and need not be told them in full.
//!
//! A name is a hash. Two different lives have the same one with a probability of 2⁻⁶⁴; two lives of
//! one node, 2⁻³². Then a life would be taken for heard by a node that hears another one.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use xxhash_rust::xxh3::xxh3_64;

use super::id::{Life, NodeId};

/// At most so many are in one set; more are left out.
pub const LISTED: usize = 1_024;
/// Bytes of one name.
const NAME: usize = 8;

/// The half of a life's name that all lives of a node share.
fn of_node(node: NodeId) -> u64 {
    xxh3_64(node.key()) & !u64::from(u32::MAX)
}

fn of_life(life: Life) -> u64 {
    let mut bytes = [0; 48];
    bytes[..32].copy_from_slice(life.node.key());
    bytes[32..40].copy_from_slice(&life.incarnation.started.to_le_bytes());
    bytes[40..].copy_from_slice(&life.incarnation.nonce.to_le_bytes());
    of_node(life.node) | (xxh3_64(&bytes) & u64::from(u32::MAX))
}

/// Names, sorted, each once. As CBOR: one byte string of eight bytes for each, little endian.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Names(Vec<u64>);

impl Names {
    fn collect(names: impl Iterator<Item = u64>) -> Self {
        let mut names: Vec<u64> = names.take(LISTED).collect();
        names.sort_unstable();
        names.dedup();
        Self(names)
    }

    fn has(&self, name: u64) -> bool {
        self.0.binary_search(&name).is_ok()
    }
}

impl Serialize for Names {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = self.0.iter().flat_map(|name| name.to_le_bytes()).collect();
        serializer.serialize_bytes(&bytes)
    }
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = serde_bytes::ByteBuf::deserialize(deserializer)?;
        let (names, []) = bytes.as_chunks::<NAME>() else {
            return Err(de::Error::custom("a set of names has a part of one at its end"));
        };
        Ok(Self::collect(names.iter().map(|name| u64::from_le_bytes(*name))))
    }
}

/// A set of lives; at most [`LISTED`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LifeSet(Names);

impl LifeSet {
    /// Whether this life is in it.
    #[must_use]
    pub fn contains(&self, life: Life) -> bool {
        !self.0.0.is_empty() && self.0.has(of_life(life))
    }

    /// Whether a life of this node is.
    #[must_use]
    pub fn has_life_of(&self, node: NodeId) -> bool {
        let first = of_node(node);
        let at = self.0.0.partition_point(|name| *name < first);
        self.0.0.get(at).is_some_and(|name| name & !u64::from(u32::MAX) == first)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.0.len()
    }
}

impl FromIterator<Life> for LifeSet {
    fn from_iter<T: IntoIterator<Item = Life>>(lives: T) -> Self {
        Self(Names::collect(lives.into_iter().map(of_life)))
    }
}

/// A set of nodes; at most [`LISTED`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSet(Names);

impl NodeSet {
    /// Whether this node is in it.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        !self.0.0.is_empty() && self.0.has(xxh3_64(node.key()))
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.0.len()
    }
}

impl FromIterator<NodeId> for NodeSet {
    fn from_iter<T: IntoIterator<Item = NodeId>>(nodes: T) -> Self {
        Self(Names::collect(nodes.into_iter().map(|node| xxh3_64(node.key()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::Incarnation;

    fn node(n: u16) -> NodeId {
        let mut key = [0; 32];
        key[..2].copy_from_slice(&n.to_le_bytes());
        NodeId::from_key(key)
    }

    fn life(n: u16, started: u64) -> Life {
        Life { node: node(n), incarnation: Incarnation { started, nonce: 7 } }
    }

    fn through_cbor<T: Serialize + de::DeserializeOwned>(value: &T) -> T {
        let mut bytes = Vec::new();
        ciborium::into_writer(value, &mut bytes).expect("it encodes");
        ciborium::from_reader(&bytes[..]).expect("it decodes")
    }

    #[test]
    fn a_set_has_what_was_put_in_and_nothing_else_also_after_travelling() {
        let lives: LifeSet = (0..500).map(|n| life(n, 1)).collect();
        for set in [lives.clone(), through_cbor(&lives)] {
            assert_eq!(set.len(), 500);
            assert!((0..500).all(|n| set.contains(life(n, 1)) && set.has_life_of(node(n))));
            assert!((0..500).all(|n| !set.contains(life(n, 2))), "another life");
            assert!((500..2_000).all(|n| !set.contains(life(n, 1)) && !set.has_life_of(node(n))));
        }
        let nodes: NodeSet = (0..500).map(node).collect();
        for set in [nodes.clone(), through_cbor(&nodes)] {
            assert!((0..1_000).all(|n| set.contains(node(n)) == (n < 500)));
        }
        assert!(
            !LifeSet::default().contains(life(1, 1)) && !LifeSet::default().has_life_of(node(1))
        );
    }

    #[test]
    fn a_set_is_bounded_and_what_a_peer_sends_is_put_in_order() {
        let many: NodeSet = (0..2_000).map(node).collect();
        assert_eq!(many.len(), LISTED);
        let decode = |bytes: Vec<u8>| -> Result<LifeSet, _> {
            let mut cbor = Vec::new();
            ciborium::into_writer(&serde_bytes::ByteBuf::from(bytes), &mut cbor).expect("it does");
            ciborium::from_reader(&cbor[..]).map_err(|error| error.to_string())
        };
        assert!(decode(vec![0; 9]).is_err_and(|error| error.contains("a part of one")));
        let name = of_life(life(1, 1)).to_le_bytes();
        let unsorted = [[0xff; 8], name, [0xff; 8]].concat();
        let set = decode(unsorted).expect("it decodes");
        assert!(set.len() == 2 && set.contains(life(1, 1)));
        assert_eq!(decode(vec![1; 8 * 2_000]).map(|set| set.len()), Ok(1));
    }
}
