//! The guide: from a first program to a cluster that is upgraded while it runs.
//!
//! Each page is a module without code. Its examples are compiled, and most of them run, with the
//! tests of this crate.
//!
//! | page | what it is about |
//! |---|---|
//! | [`quick_start`] | What a hub is for, a first program, two processes that share a child |
//! | [`messages`] | Children, kinds, references, sending, topics, watches, gateways |
//! | [`handover`] | What happens in a move, what a state may hold, how a node is emptied or ends |
//! | [`errors`] | Every public error, and what to do with it |
//! | [`configuration`] | Settings, files and `HUB_*` variables |
//! | [`strategies`] | Where children go, how they move and are restarted, what a split does |
//! | [`deployment`] | Containers, Kubernetes, systemd, signals, probes, sizing |
//! | [`security`] | Who may join, who may act, what is not protected |
//! | [`observability`] | Log, events, metrics, dashboard, tracing, alerts |
//! | [`testing`] | Several nodes in one test, without sleeping |
//! | [`failures`] | What is lost when, and for how long callers wait |
//! | [`upgrading`] | Rolling deploys: new fields, new messages, state versions |
//! | [`from_actix`] | From plain Actix to a hub, with the mistakes that are made on the way |
//! | [`from_process_hub`] | Where the options and hooks of Elixir's ProcessHub are here |
//! | [`troubleshooting`] | Symptom, cause, command |

pub mod quick_start {
    #![doc = include_str!("quick_start.md")]
}
pub mod messages {
    #![doc = include_str!("messages.md")]
}
pub mod handover {
    #![doc = include_str!("handover.md")]
}
pub mod errors {
    #![doc = include_str!("errors.md")]
}
pub mod configuration {
    #![doc = include_str!("configuration.md")]
}
pub mod strategies {
    #![doc = include_str!("strategies.md")]
}
pub mod deployment {
    #![doc = include_str!("deployment.md")]
}
pub mod security {
    #![doc = include_str!("security.md")]
}
pub mod observability {
    #![doc = include_str!("observability.md")]
}
pub mod testing {
    #![doc = include_str!("testing.md")]
}
pub mod failures {
    #![doc = include_str!("failures.md")]
}
pub mod upgrading {
    #![doc = include_str!("upgrading.md")]
}
pub mod from_actix {
    #![doc = include_str!("from_actix.md")]
}
pub mod from_process_hub {
    #![doc = include_str!("from_process_hub.md")]
}
pub mod troubleshooting {
    #![doc = include_str!("troubleshooting.md")]
}
