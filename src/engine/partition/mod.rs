//! Whether this side of a split may act.

mod divergence;

use std::fmt::Debug;

pub use self::divergence::Divergence;
use crate::model::member::View;

/// Says whether the nodes of this view may run children and take over those of others.
///
/// # Law
/// Must be pure: equal views give equal answers on every node.
///
/// ```
/// use actix_hub::{PartitionTolerance, View};
///
/// /// Acts only while two nodes see each other.
/// #[derive(Debug)]
/// struct Pair;
///
/// impl PartitionTolerance for Pair {
///     fn may_act(&self, view: &View) -> bool {
///         view.members.len() >= 2
///     }
/// }
/// assert!(!Pair.may_act(&View::default()));
/// ```
pub trait PartitionTolerance: Debug + Send + Sync + 'static {
    /// Whether starts, moves and takeovers are allowed in this view.
    fn may_act(&self, view: &View) -> bool;
}
