//! Weighted rendezvous hashing.

use super::{Distribution, score};
use crate::model::{child::ChildSpec, id::NodeId, member::Member};

/// Each child belongs to the nodes with the highest score for it. The default.
///
/// The score is xxh3-64 of the child's id and the node's key. A node of weight `w` draws `w`
/// times and keeps its best, so that its share is in proportion; weights above 1,000 count as
/// 1,000. A node that comes takes children from all others and moves none between them; one that
/// goes gives its children to all others and moves none of theirs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsistentHashing;

impl Distribution for ConsistentHashing {
    fn owners(&self, spec: &ChildSpec, members: &[Member], count: usize) -> Vec<NodeId> {
        let best = |member: &Member| {
            (0..member.weight.min(1_000)).map(|salt| score(spec.id(), member.id, salt)).max()
        };
        let mut scored: Vec<(u64, NodeId)> = members
            .iter()
            .filter_map(|member| best(member).map(|score| (score, member.id)))
            .collect();
        if count == 1 {
            return scored.into_iter().max().map(|(_, node)| node).into_iter().collect();
        }
        scored.sort_unstable_by(|a, b| b.cmp(a));
        scored.into_iter().map(|(_, node)| node).take(count).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        engine::distribution::check_distribution,
        model::{
            id::{ChildId, Incarnation, KindName, NodeName},
            member::MemberState,
        },
    };

    fn member(n: u8, weight: u32) -> Member {
        Member {
            id: NodeId::from_key([n; 32]),
            incarnation: Incarnation { started: 1, nonce: 1 },
            name: NodeName::new("n").expect("a valid name"),
            addresses: Vec::new(),
            weight,
            state: MemberState::Alive,
            draining: false,
            labels: Default::default(),
            revision: 0,
        }
    }

    fn owner(n: usize, members: &[Member]) -> NodeId {
        let id = ChildId::new(format!("child-{n}")).expect("a valid id");
        let kind = KindName::new("k").expect("a valid kind");
        let spec = ChildSpec::from_parts(id, kind, Default::default());
        ConsistentHashing.owners(&spec, members, 1)[0]
    }

    #[test]
    fn it_keeps_the_law() {
        assert_eq!(check_distribution(&ConsistentHashing), Ok(()));
    }

    #[test]
    fn a_node_of_twice_the_weight_has_twice_the_share() {
        let members = [member(1, 1), member(2, 2), member(3, 1)];
        let count = (0..8_000).filter(|n| owner(*n, &members) == members[1].id).count();
        assert!((3_700..4_300).contains(&count), "{count} of 8,000, half was due");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn a_node_that_goes_moves_only_its_own_children(gone in 0_usize..5, first in 0_usize..1_000) {
            let all: Vec<Member> = (1..6).map(|n| member(n, 1)).collect();
            let mut rest = all.clone();
            let gone = rest.remove(gone).id;
            for n in first..first + 50 {
                let before = owner(n, &all);
                if before != gone {
                    prop_assert_eq!(before, owner(n, &rest));
                }
            }
        }
    }
}
