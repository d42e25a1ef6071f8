//! What goes into an engine and what comes out of it.

mod config;
mod effect;
mod event;
mod order;
mod report;
mod request;

pub use self::{
    config::{EngineConfig, KindInfo},
    effect::{Effect, Way},
    event::Event,
    order::{ChildOrder, ParkedOrder},
    report::{BuildFailure, ChildReport, Exit, FreezeFailure},
    request::{ApplyOutcome, LeaveFailed, Reply, Request},
};
