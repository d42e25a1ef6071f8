//! The guide: from a first program to a cluster that is upgraded while it runs.
//!
//! Each page is a module without code. Its examples are compiled, and most of them run, with the
//! tests of this crate.
//!
//! | page | what it is about |
//! |---|---|
//! | [`quick_start`] | What a hub is for, a first program, two processes that share a child |
//! | [`messages`] | Children, kinds, references, sending, topics, watches, gateways |

pub mod quick_start {
    #![doc = include_str!("quick_start.md")]
}
pub mod messages {
    #![doc = include_str!("messages.md")]
}
