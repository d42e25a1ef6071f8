//! Tests of children: states there and back, golden files of old states, clusters in one process.
//!
//! Behind the feature `testkit`, off by default. A dependency for tests turns it on:
//!
//! ```toml
//! [dev-dependencies]
//! actix-hub = { version = "0.1", features = ["testkit"] }
//! ```
//!
//! | what | finds |
//! |---|---|
//! | [`round_trip`] | fields that a move would lose |
//! | [`write_golden`], [`read_golden`] | a release that does not read the states of an older one |
//! | [`ChildContext::for_test`](crate::ChildContext::for_test) | mistakes where an actor is made |
//! | [`TestCluster`] | what moves, crashes and splits do |
//!
//! The guide's page on [testing](crate::guide::testing) says what each sort of test finds.

mod cluster;
mod context;
mod golden;
mod round_trip;

pub use self::{
    cluster::{TestCluster, TestClusterBuilder, TestClusterError, TestClusterSettled},
    golden::{GoldenError, read_golden, write_golden},
    round_trip::{RoundTripError, round_trip},
};
