//! Actix actors that live on a cluster.
#![allow(dead_code)]
mod delivery;
mod engine;
mod error;
mod model;
mod net;
mod wire;
pub use engine::{distribution::*, partition::*, redundancy::*};
pub use model::{child::*, id::*, member::*};
