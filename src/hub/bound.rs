//! The hub to which references are bound that are read.
//!
//! A reference is written as the name of its child, so whoever reads it must know in which hub. Threads
//! of a hub's own know that for ever; others for as long as something is read in its name.

use std::{
    cell::RefCell,
    sync::{Arc, Weak},
};

use super::Shared;

thread_local! {
    // Weak: a thread must not keep a hub.
    static HUB: RefCell<Weak<Shared>> = const { RefCell::new(Weak::new()) };
}

/// The hub in whose name this thread reads, if there is one.
fn current() -> Option<Arc<Shared>> {
    HUB.with_borrow(Weak::upgrade)
}

/// The same, for a reference that is read.
pub(crate) fn reader<E: serde::de::Error>() -> Result<Arc<Shared>, E> {
    current().ok_or_else(|| {
        E::custom("a reference to a child can be read by a child, or inside `Hub::bind`, only")
    })
}

/// The hub in whose name this thread reads, for another thread that does so for it.
pub(crate) fn of_thread() -> Weak<Shared> {
    HUB.with_borrow(Weak::clone)
}

/// From now on this thread reads in the name of this hub.
pub(crate) fn bind_thread(hub: &Weak<Shared>) {
    HUB.set(hub.clone());
}

/// Reads in the name of this hub until it is dropped; then what was before counts again.
#[must_use = "it ends when it is dropped"]
pub(crate) struct Bound(Weak<Shared>);

impl Bound {
    pub(crate) fn to(hub: &Weak<Shared>) -> Self {
        Self(HUB.replace(hub.clone()))
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        HUB.set(std::mem::take(&mut self.0));
    }
}
