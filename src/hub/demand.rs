//! Children that are started when a message comes for them.

use super::panics::guarded;
use crate::{
    error::ChildSpecError,
    model::{child::ChildSpec, id::ChildId},
};

type Make = dyn Fn(&ChildId) -> Result<ChildSpec, ChildSpecError> + Send + Sync;

/// How children of a kind are started on demand: code of the user.
pub(crate) struct Demand(Box<Make>);

impl Demand {
    pub(crate) fn new(
        make: impl Fn(&ChildId) -> Result<ChildSpec, ChildSpecError> + Send + Sync + 'static,
    ) -> Self {
        Self(Box::new(make))
    }

    /// How this child is started.
    ///
    /// # Errors
    /// Why there is no saying.
    pub(crate) fn spec(&self, child: &ChildId) -> Result<ChildSpec, String> {
        let made = guarded(|| (self.0)(child));
        let made = made.map_err(|said| format!("what `on_demand` was given panicked: {said}"))?;
        made.map_err(|error| error.to_string())
    }
}
