//! Nodes that were in and are not any more, and what that cost.

use serde::{Deserialize, Serialize};

use super::id::NodeId;

/// A node that was in, and went in the last hour, as the node saw it that tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DepartedNode {
    /// Its identity.
    pub id: NodeId,
    /// Its name for people; the end of its id when the name is not known.
    pub name: String,
    /// The way in which it went.
    pub how: Departure,
    /// The time at which it went, in milliseconds since 1970.
    pub at: u64,
    /// The time at which it came in again, in milliseconds since 1970, if it did.
    pub came_back: Option<u64>,
    /// The fate of its children on the node that tells of it.
    pub cost: DepartureCost,
}

/// The way in which a node went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Departure {
    /// It left: see [`HubEvent::NodeLeft`](crate::HubEvent::NodeLeft).
    Left,
    /// It was declared down: see [`HubEvent::NodeDown`](crate::HubEvent::NodeDown).
    Down,
}

/// The fate of the children of a node that went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DepartureCost {
    /// Children that it handed over with their states, since it began to hand them over.
    pub moved: u64,
    /// Children that went on with copies of their states.
    pub recovered: u64,
    /// Children that began anew, from their arguments: their states are lost.
    pub begun_anew: u64,
    /// States of its children that were parked, as nobody merged them when it was met again.
    pub parked: u64,
}

impl DepartureCost {
    /// What two nodes saw of one departure.
    #[cfg(feature = "admin")]
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            moved: self.moved.saturating_add(other.moved),
            recovered: self.recovered.saturating_add(other.recovered),
            begun_anew: self.begun_anew.saturating_add(other.begun_anew),
            parked: self.parked.saturating_add(other.parked),
        }
    }
}
