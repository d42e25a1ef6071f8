//! What unit tests of machines stand on: a node without a network.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;

use super::{
    core::Core,
    distribution::ConsistentHashing,
    io::{EngineConfig, KindInfo},
    membership::founding::Founding,
    partition::Divergence,
    redundancy::Singularity,
};
use crate::model::{
    access::AccessList,
    child::ChildSpec,
    id::{ChildId, Incarnation, KindName, NodeId, NodeName},
    member::{Member, MemberState, View},
    settings::Settings,
};

/// A member, as it is at first.
pub(super) fn member(n: u8) -> Member {
    Member {
        id: NodeId::from_key([n; 32]),
        incarnation: Incarnation { started: 100, nonce: u64::from(n) },
        name: NodeName::new(format!("node-{n}")).expect("a plain word"),
        addresses: Vec::new(),
        weight: 1,
        state: MemberState::Alive,
        draining: false,
        labels: Default::default(),
        revision: 0,
    }
}

pub(super) fn kind() -> KindName {
    KindName::new("set").expect("a valid name")
}

pub(super) fn child(n: usize) -> ChildId {
    ChildId::new(format!("c{n}")).expect("a valid id")
}

pub(super) fn spec(n: usize) -> Arc<ChildSpec> {
    Arc::new(ChildSpec::from_parts(child(n), kind(), Bytes::new()))
}

/// Node 1 in a settled view of these, which includes it.
pub(super) fn core(members: &[u8]) -> Core {
    let info = KindInfo { state_version: 1, oldest_state_version: 1 };
    let config = EngineConfig {
        node: member(1).id,
        incarnation: member(1).incarnation,
        name: member(1).name,
        addresses: Vec::new(),
        labels: Default::default(),
        settings: Settings::default(),
        kinds: [(kind(), info)].into(),
        founding: Founding::Found,
        access: AccessList::open(),
        seed: 1,
        distribution: Arc::new(ConsistentHashing),
        redundancy: Arc::new(Singularity),
        partition: Arc::new(Divergence),
    };
    let mut core = Core::new(config, Instant::now());
    core.adopt(View { members: members.iter().map(|n| (member(*n).id, member(*n))).collect() });
    core.settled = true;
    core.effects.clear();
    core
}
