//! Both sides go on.

use super::PartitionTolerance;
use crate::model::member::View;

/// Both sides of a split go on; when they meet again the state of the owner that gives way is
/// offered to the one that goes on. The default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Divergence;

impl PartitionTolerance for Divergence {
    fn may_act(&self, _: &View) -> bool {
        true
    }
}
