//! Code of users that may panic.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

use crate::model::words::brief;

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    brief(text.unwrap_or_else(|| "something that is no text".to_owned()))
}

/// Runs code of users.
///
/// # Errors
/// It panicked, with what the panic said.
pub(crate) fn guarded<T>(act: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(act)).map_err(|panic| panic_message(&*panic))
}
