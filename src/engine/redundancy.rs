//! How many instances a child has, and which of them are active.

use std::{fmt::Debug, num::NonZeroUsize};

use crate::model::child::Role;

/// Says how many instances a child has, and what each of them does.
///
/// # Law
/// Must be pure. In each set of instances at least one is [`Role::Active`].
///
/// ```
/// use std::num::NonZeroUsize;
/// use actix_hub::{Redundancy, Role, Singularity};
///
/// assert_eq!(Singularity.instances(8), NonZeroUsize::MIN);
/// assert_eq!(Singularity.role(0), Role::Active);
/// ```
pub trait Redundancy: Debug + Send + Sync + 'static {
    /// How many instances a child has in a cluster of so many nodes that take children.
    fn instances(&self, nodes: usize) -> NonZeroUsize;
    /// What the instance on the `place`-th of its nodes does, counted from 0.
    fn role(&self, place: usize) -> Role;
}

/// One instance of each child. The default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Singularity;

impl Redundancy for Singularity {
    fn instances(&self, _: usize) -> NonZeroUsize {
        NonZeroUsize::MIN
    }

    fn role(&self, _: usize) -> Role {
        Role::Active
    }
}
