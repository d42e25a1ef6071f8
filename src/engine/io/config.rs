//! What an engine must know when it is made.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    engine::{
        distribution::Distribution, membership::founding::Founding, partition::PartitionTolerance,
        redundancy::Redundancy,
    },
    model::{
        access::AccessList,
        id::{Incarnation, KindName, NodeId, NodeName},
        labels::Labels,
        member::{Member, MemberState},
        settings::Settings,
    },
};

/// What an engine must know when it is made.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// This node.
    pub node: NodeId,
    /// Its first incarnation.
    pub incarnation: Incarnation,
    /// Its name for people.
    pub name: NodeName,
    /// Multiaddrs it tells others.
    pub addresses: Vec<String>,
    /// Labels that say where it is and what it has.
    pub labels: Labels,
    /// Checked settings.
    pub settings: Settings,
    /// The kinds it can run.
    pub kinds: BTreeMap<KindName, KindInfo>,
    /// Whether it founds a cluster, or waits for one.
    pub founding: Founding,
    /// Whom it hears.
    pub access: AccessList,
    /// Seeds the generator of chance.
    pub seed: u64,
    /// Where children belong.
    pub distribution: Arc<dyn Distribution>,
    /// How many instances a child has.
    pub redundancy: Arc<dyn Redundancy>,
    /// Whether this side of a split may act.
    pub partition: Arc<dyn PartitionTolerance>,
}

impl EngineConfig {
    /// This node as it describes itself at first.
    #[must_use]
    pub fn member(&self) -> Member {
        Member {
            id: self.node,
            incarnation: self.incarnation,
            name: self.name.clone(),
            addresses: self.addresses.clone(),
            weight: self.settings.weight,
            state: MemberState::Alive,
            draining: false,
            labels: self.labels.clone(),
            revision: 0,
        }
    }
}

/// What the engine must know of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindInfo {
    /// The version of the states it writes, and the newest it reads.
    pub state_version: u32,
    /// The oldest version it reads.
    pub oldest_state_version: u32,
}
