//! Plain data that every layer shares: identities, children, members, the words nodes exchange.
//!
//! Nothing here decides, waits or performs input and output.

pub(crate) mod access;
pub mod address;
pub mod child;
pub mod departed;
pub mod event;
pub mod frame;
pub(crate) mod human;
pub mod id;
pub mod labels;
pub mod member;
pub mod message;
pub mod observe;
pub mod parked;
pub(crate) mod quota;
pub mod report;
pub mod secret;
pub mod settings;
pub mod tags;
pub mod topic;
pub mod trace;
pub(crate) mod variables;
pub mod watch;
pub(crate) mod words;
