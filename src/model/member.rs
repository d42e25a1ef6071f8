//! Members: the nodes of a cluster as one of them sees it.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::{
    address::is_loopback,
    id::{HubName, Incarnation, Life, NodeId, NodeName, NodeRun},
    labels::Labels,
};

/// The version of the words that nodes exchange. Nodes of another version are not admitted.
pub const WIRE_VERSION: u16 = 1;

/// How a member is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum MemberState {
    /// It is in, and takes children unless it is drained.
    Alive,
    /// Nothing was heard of it for the suspicion window; it is still in.
    Suspect,
    /// It hands its children over and takes no new ones; it is in until its `Bye`, or until it is
    /// told to stay.
    Leaving,
}

/// How a node is seen that is in the cluster, or wants to come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum NodeState {
    /// It is heard, and in no view with the node that tells it; or it is that node itself, which
    /// waits for a seed. It is in nobody's way and has no children.
    Joining,
    /// It is in, and takes children unless it is drained.
    Alive,
    /// It is in, and it does not hear, or is not heard by, the node that tells it.
    Suspect,
    /// It hands its children over and takes no new ones; it is in until it has gone, or is told to
    /// stay ([`Hub::stay`](crate::Hub::stay)).
    Leaving,
}

impl From<MemberState> for NodeState {
    fn from(state: MemberState) -> Self {
        match state {
            MemberState::Alive => Self::Alive,
            MemberState::Suspect => Self::Suspect,
            MemberState::Leaving => Self::Leaving,
        }
    }
}

/// How a node is reached by the one that tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum NodePath {
    /// It is the one that tells it.
    Itself,
    /// Over a link that works in both directions.
    Link,
    /// By way of this node.
    By(NodeId),
    /// Not at all.
    None,
}

impl NodePath {
    /// The node by way of which, if it is reached so.
    #[must_use]
    pub fn by(self) -> Option<NodeId> {
        match self {
            Self::By(node) => Some(node),
            Self::Itself | Self::Link | Self::None => None,
        }
    }
}

/// A node that is in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The node.
    pub id: NodeId,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// Its name for people.
    pub name: NodeName,
    /// Multiaddrs at which it can be reached, best first, at most 16.
    pub addresses: Vec<String>,
    /// Its share of the children relative to the others; 1 is usual, 0 takes none.
    pub weight: u32,
    /// How it is seen.
    pub state: MemberState,
    /// Whether it is drained: it hands its children over, takes no new ones, and stays in.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
    /// Labels that say where it is and what it has; the same for the whole of one life.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Rises with each change of what the node says of itself in one life; the highest counts,
    /// whoever tells it.
    pub revision: u64,
}

impl Member {
    /// The run this member is.
    #[must_use]
    pub fn run(&self) -> NodeRun {
        self.incarnation.run_of(self.id)
    }

    /// The life this member is in.
    #[must_use]
    pub fn life(&self) -> Life {
        Life { node: self.id, incarnation: self.incarnation }
    }

    /// Forgets its addresses on loopback, which lead other machines elsewhere.
    pub(crate) fn forget_loopback(&mut self) {
        self.addresses.retain(|address| !is_loopback(address));
    }

    /// Whether it hands over the children that it has: it leaves, or is drained.
    #[must_use]
    pub fn is_emptying(&self) -> bool {
        self.state == MemberState::Leaving || self.draining
    }

    /// Whether children may be placed there: whatever starts, moves or is taken over goes to such
    /// nodes only.
    #[must_use]
    pub fn takes_children(&self) -> bool {
        !self.is_emptying() && self.weight > 0
    }
}

/// What opens each link, sent by both ends before anything else.
///
/// CBOR, at most 64 KiB. A hub name or wire version other than one's own closes the link with a
/// clear error on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`WIRE_VERSION`] of the sender.
    pub version: u16,
    /// The sender's hub.
    pub hub: HubName,
    /// The sender as it describes itself.
    pub me: Member,
    /// The highest incarnation of the receiver that the sender knows to be fenced, if any: the
    /// receiver must come with a higher one.
    pub fenced: Option<Incarnation>,
    /// The members that the sender knows, at most 1,024; a hint to dial, no admission.
    pub known: Vec<Member>,
    /// The multiaddr at which the sender has reached the receiver, if it dialled: the receiver
    /// may not know it, behind port forwarding for example.
    pub dialled: Option<String>,
    /// Where the connection comes from, as the sender sees it, if the receiver has dialled over a
    /// network: behind a translator it may not know that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<IpAddr>,
    /// How long the sender's run has been up, in milliseconds: of two runs with one key the one that
    /// has been up for less long is the second.
    pub up: u64,
    /// Whether the sender has a link to the receiver, besides this connection.
    pub linked: bool,
}

/// Names a view: equal views have equal ids on every node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ViewId(pub u64);

impl fmt::Debug for ViewId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0 >> 32)
    }
}

/// Who is in, as one node sees it, itself included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The members by their id.
    pub members: BTreeMap<NodeId, Member>,
}

impl View {
    /// The view's identity: who is in, in which incarnation, and who takes children. Suspicion, names
    /// and addresses do not count, so that equal clusters have equal ids. Labels need not: an
    /// incarnation has the same for as long as it lasts.
    #[must_use]
    pub fn id(&self) -> ViewId {
        let mut hash = Xxh3::new();
        for member in self.members.values() {
            hash.update(member.id.key());
            hash.update(&member.incarnation.started.to_le_bytes());
            hash.update(&member.incarnation.nonce.to_le_bytes());
            hash.update(&member.weight.to_le_bytes());
            let is_leaving = member.state == MemberState::Leaving;
            hash.update(&[u8::from(is_leaving) | u8::from(member.draining) << 1]);
        }
        ViewId(hash.digest())
    }

    /// Whether this run is in.
    #[must_use]
    pub fn is_live(&self, run: NodeRun) -> bool {
        self.members.get(&run.node).is_some_and(|member| member.incarnation.nonce == run.nonce)
    }

    /// The member that is this node, if it is in.
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.get(&node)
    }
}
