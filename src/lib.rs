//! Actix actors that live on a cluster.
//!
//! A [`Hub`] on each node supervises *children*: ordinary Actix actors that implement [`HotSwap`].
//! libp2p finds the other nodes. When a node joins or leaves, children move to where they now
//! belong, and their state goes with them. Callers keep one typed [`ChildRef`] and never see where
//! the actor runs. The [`guide`] leads from a first program to a cluster that is upgraded while it runs.
//!
//! ```
//! use actix::prelude::*;
//! use actix_hub::prelude::*;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Default, Serialize, Deserialize)]
//! struct Counter {
//!     value: u64,
//! }
//!
//! impl Actor for Counter {
//!     type Context = Context<Self>;
//! }
//!
//! #[derive(Message, Serialize, Deserialize)]
//! #[rtype(result = "u64")]
//! struct Add(u64);
//! impl HubMessage for Add {
//!     const NAME: &'static str = "counter.add";
//! }
//!
//! impl Handler<Add> for Counter {
//!     type Result = u64;
//!     fn handle(&mut self, Add(n): Add, _: &mut Self::Context) -> u64 {
//!         self.value += n;
//!         self.value
//!     }
//! }
//!
//! hot_swap!(Counter, kind = "counter", messages = [Add]);
//!
//! #[actix::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let hub = HubSystem::builder("my_hub").child::<Counter>().start().await?;
//!     hub.start_child(ChildSpec::new::<Counter>("counter-1", ())?).await?;
//!     let counter: ChildRef<Counter> = hub.child("counter-1");
//!     assert_eq!(counter.send(Add(2)).await?, 2); // wherever it runs
//!     hub.stop().await;
//!     Ok(())
//! }
//! ```
//!
//! # What is promised
//!
//! - A planned move (join, leave, migrate) loses nothing, and keeps the order of the messages that
//!   were sent through one reference.
//! - In a connected cluster a child has one active instance. Each ownership carries an epoch.
//! - Every [`send`](ChildRef::send) ends in a reply, or in a [`HubSendError`] that says whether the
//!   message may have been handled.
//! - Every queue is bounded; when it is full the sender is told.
//!
//! # What is not
//!
//! - A node that crashes takes the state of its children with it; they are started anew elsewhere.
//! - Messages through a raw `Addr` of a child bypass its hub: they are not carried over by a move.
//! - A handler that answers with a future delays a move until it is done, at most
//!   [`HotSwapOptions::retention`] long.

// What only the admin endpoint reads is not used without it.
#![cfg_attr(not(feature = "admin"), allow(dead_code))]

#[cfg(feature = "admin")]
pub mod admin;
mod delivery;
mod engine;
mod error;
pub mod guide;
mod hub;
mod model;
mod net;
#[cfg(test)]
mod sim;
#[cfg(feature = "testkit")]
pub mod testkit;
#[cfg(feature = "web")]
pub mod web;
mod wire;

pub use crate::{
    engine::{
        distribution::{ConsistentHashing, Distribution, check_distribution},
        partition::{Divergence, PartitionTolerance},
        redundancy::{Redundancy, Singularity},
    },
    error::{
        ApplyError, AskNodeError, ChildSpecError, DiscardError, DrainError, HubSendError,
        LeaveError, MaybeHandled, MigrateError, NotHandled, PublishError, StartChildError,
        StartHubError, StopChildError, SubscribeError, WaitError,
    },
    hub::{
        DrainRequest, Hub, MigrateRequest, ReleaseRequest, ShutdownRequest, StartRequest,
        StartedChild, StopRequest,
        auto_kind::AutoKind,
        builder::HubBuilder,
        child_recipient::ChildRecipient,
        child_ref::ChildRef,
        config::{ConfigError, HubConfig},
        events::EventStream,
        find::{ChildFilter, ChildPage, ChildState},
        hot_swap::{
            ChildContext, HotSwap, HubMessage, HubReply, MergeOutcome, StartFailure,
            StateVersionError,
        },
        kind::KindBuilder,
        left_state::{LeftState, LeftStateError},
        outlet::ChildRequest,
        parked::ParkedState,
        parked_requests::ApplyRequest,
        requests::{
            ChildInfo, Drain, HubStopped, Inspect, Inspection, Leave, Migrate, NodeInfo, Release,
            Scope, SeedInfo, StartChildren, Stay, StopChildren, Undrain,
        },
        shutdown::{ShutdownReport, WrittenState},
        snapshot::{Snapshot, decode_state},
        system::HubSystem,
        takes::{TakenBy, Takes},
        tell_all::ToldAll,
        topics::{
            api::Published,
            recipient::Subscription,
            tally::{TopicCounts, TopicDrops},
        },
        trace::TracePropagator,
        waits::{SettledRequest, WaitRequest},
        watches::{
            stream::ChildWatch,
            terminated::{Terminated, TerminatedReason},
        },
    },
    model::{
        address::{Endpoint, SeedOutcome},
        child::{
            ChildFailure, ChildOrigin, ChildSpec, Epoch, RestartIntensity, RestartPauses,
            RestartRule, Role,
        },
        departed::{DepartedNode, Departure, DepartureCost},
        event::{EventLevel, HandoverPhases, HubEvent, Moved},
        id::{
            ChildId, HubName, Incarnation, InvalidId, KindName, NodeId, NodeName, NodeRun, Tag,
            TopicName,
        },
        labels::{InvalidLabel, Labels},
        member::{Member, MemberState, NodePath, NodeState, View, ViewId},
        parked::{ApplyFailed, InvalidParkedKey, ParkedKey},
        report::{ChildLeft, StartFailed, StartOutcome, StartReport, StopOutcome, StopReport},
        secret::{InvalidSecret, Secret},
        settings::{HotSwapOptions, InvalidSetting, Migration, OnFailure, Settings},
        trace::{InvalidTraceParent, TraceContext},
        watch::ChildChange,
    },
    net::{Admission, memory::MemoryNetwork},
};

/// For this crate's own benches; not part of the public API, and may change in any way.
#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub mod bench_internals {
    pub use crate::engine::step_costs::{StepCost, step_costs};
}

/// What most programs need, to be imported beside `actix::prelude`.
pub mod prelude {
    pub use crate::{
        Admission, AutoKind, ChildChange, ChildContext, ChildFailure, ChildFilter, ChildId,
        ChildInfo, ChildLeft, ChildRef, ChildSpec, ChildWatch, DrainError, Epoch, EventStream,
        HotSwap, HotSwapOptions, Hub, HubBuilder, HubEvent, HubMessage, HubSendError, HubSystem,
        Inspection, LeaveError, MaybeHandled, MemoryNetwork, MergeOutcome, Migration, NodeId,
        NodeInfo, NodePath, NodeState, NotHandled, OnFailure, RestartIntensity, RestartPauses,
        RestartRule, Scope, Settings, Snapshot, StartChildError, StartFailure, StartReport,
        StateVersionError, Subscription, Takes, Terminated, TerminatedReason, decode_state,
        hot_swap, takes,
    };
}
