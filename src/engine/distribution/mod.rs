//! Where children belong.

mod consistent_hashing;

use std::fmt::Debug;

use xxhash_rust::xxh3::Xxh3;

pub use self::consistent_hashing::ConsistentHashing;
use crate::model::{
    child::ChildSpec,
    id::{ChildId, NodeId},
    member::{Member, View},
};

/// Says on which nodes a child belongs.
///
/// # Law
/// Must be pure: equal specs and members give equal answers on every node, whatever happened
/// before. The answer names members only, each once, at most `count`, and is not empty while
/// there are members. [`check_distribution`] tests this.
///
/// ```
/// use actix_hub::{ChildSpec, Distribution, Member, NodeId, check_distribution};
///
/// /// Everything on the members with the lowest ids.
/// #[derive(Debug)]
/// struct Lowest;
///
/// impl Distribution for Lowest {
///     fn owners(&self, _: &ChildSpec, members: &[Member], count: usize) -> Vec<NodeId> {
///         members.iter().map(|member| member.id).take(count).collect()
///     }
/// }
///
/// check_distribution(&Lowest).unwrap();
/// ```
///
/// By the [`labels`](Member::labels) of nodes:
///
/// ```
/// use actix_hub::{ChildSpec, ConsistentHashing, Distribution, Member, NodeId, check_distribution};
///
/// /// A child with the note `zone` in that zone, as long as a node there takes children.
/// #[derive(Debug)]
/// struct InZone;
///
/// impl Distribution for InZone {
///     fn owners(&self, spec: &ChildSpec, members: &[Member], count: usize) -> Vec<NodeId> {
///         let zone = spec.metadata().get("zone").map(String::as_str);
///         let fits = |member: &&Member| zone.is_some() && member.labels.get("zone") == zone;
///         let there: Vec<Member> = members.iter().filter(fits).cloned().collect();
///         let chosen = if there.is_empty() { members } else { &there };
///         ConsistentHashing.owners(spec, chosen, count)
///     }
/// }
///
/// check_distribution(&InZone).unwrap();
/// ```
pub trait Distribution: Debug + Send + Sync + 'static {
    /// The `count` nodes on which this child belongs, the first one first.
    ///
    /// `members` are those that take children, sorted by id; each has its
    /// [`weight`](Member::weight) and its [`labels`](Member::labels).
    fn owners(&self, spec: &ChildSpec, members: &[Member], count: usize) -> Vec<NodeId>;
}

/// The score of a node for a child: the highest has it (rendezvous hashing, Thaler and
/// Ravishankar 1998).
pub(crate) fn score(child: &ChildId, node: NodeId, salt: u32) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(child.as_str().as_bytes());
    hash.update(&[0xff]);
    hash.update(node.key());
    if salt > 0 {
        hash.update(&salt.to_le_bytes());
    }
    hash.digest()
}

/// The home of a child: the member with the highest score, leaving ones included, whatever the
/// distribution. Its starts, stops and takeovers are serialised there.
pub(crate) fn home(child: &ChildId, view: &View) -> Option<NodeId> {
    view.members.keys().copied().max_by_key(|node| (score(child, *node, 0), *node))
}

/// Tests the law of [`Distribution`] on members and children made up for the purpose.
///
/// # Errors
/// Says which part of the law was broken, and by which answer.
pub fn check_distribution(distribution: &dyn Distribution) -> Result<(), String> {
    use crate::model::{
        id::{Incarnation, KindName, NodeName},
        labels::Labels,
        member::MemberState,
    };
    let labels = |n: u8| match n % 3 {
        0 => Labels::default(),
        n => Labels::new([("zone", format!("{n}"))]).expect("valid labels"),
    };
    let member = |n: u8| Member {
        id: NodeId::from_key([n.wrapping_mul(37); 32]),
        incarnation: Incarnation { started: u64::from(n), nonce: u64::from(n) },
        name: NodeName::new(format!("node-{n}")).expect("a valid name"),
        addresses: Vec::new(),
        weight: 1 + u32::from(n % 3),
        state: MemberState::Alive,
        draining: false,
        labels: labels(n),
        revision: 0,
    };
    for size in 0..8_u8 {
        let mut members: Vec<Member> = (1..=size).map(member).collect();
        members.sort_by_key(|member| member.id);
        for n in 0..50 {
            let id = ChildId::new(format!("child-{n}")).expect("a valid id");
            let kind = KindName::new("kind").expect("a valid kind");
            let spec = ChildSpec::from_parts(id.clone(), kind, Default::default());
            for count in 1..4 {
                let owners = distribution.owners(&spec, &members, count);
                let broken = |what: &str| {
                    Err(format!("{what}: {owners:?} for {id} among {size} members, {count} wanted"))
                };
                if owners != distribution.owners(&spec, &members, count) {
                    return broken("equal questions must have equal answers");
                }
                if owners.is_empty() != members.is_empty() {
                    return broken("the answer is empty when, and only when, there is no member");
                }
                if owners.len() > count {
                    return broken("more nodes than wanted");
                }
                if owners.iter().any(|node| !members.iter().any(|member| member.id == *node)) {
                    return broken("a node that is no member");
                }
                if owners.iter().enumerate().any(|(at, node)| owners[..at].contains(node)) {
                    return broken("a node named twice");
                }
            }
        }
    }
    Ok(())
}
