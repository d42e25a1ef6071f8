//! What can be done with a parked state: given to its child, or discarded.

use std::{future::IntoFuture, time::Duration};

use actix::prelude::*;
use futures_util::future::BoxFuture;

use super::{Hub, parcel::Parcel, parked::ParkedState, requests::HubStopped, system::HubSystem};
use crate::{
    engine::io::{ApplyOutcome, Event, Reply, Request},
    error::{ApplyError, DiscardError},
    model::{id::KindName, parked::ParkedKey},
};

/// The parked states of this node.
#[derive(Message)]
#[rtype(result = "Result<Vec<ParkedState>, HubStopped>")]
pub(crate) struct Parked;

/// A parked state is to be given to its child.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), ApplyError>")]
pub(crate) struct ApplyParked {
    pub(crate) key: ParkedKey,
    pub(crate) replace: bool,
    pub(crate) timeout: Option<Duration>,
}

/// A parked state is not wanted any more.
#[derive(Message)]
#[rtype(result = "Result<(), DiscardError>")]
pub(crate) struct DiscardParked(pub(crate) ParkedKey);

/// A worker has a state that is to be parked. `None`: it is gone.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ParkParcel {
    pub(crate) key: ParkedKey,
    pub(crate) kind: KindName,
    pub(crate) reason: String,
    /// When it was parked by another node, in milliseconds since 1970. `None`: it is now.
    pub(crate) at: Option<u64>,
    pub(crate) parcel: Option<Parcel>,
}

impl Handler<Parked> for HubSystem {
    type Result = Result<Vec<ParkedState>, HubStopped>;

    fn handle(&mut self, _: Parked, _: &mut Context<Self>) -> Self::Result {
        self.running.as_ref().map(|running| running.parked_states()).ok_or(HubStopped)
    }
}

impl Handler<ParkParcel> for HubSystem {
    type Result = ();

    fn handle(&mut self, message: ParkParcel, ctx: &mut Context<Self>) {
        let ParkParcel { key, kind, reason, at, parcel } = message;
        let Some(running) = &mut self.running else {
            return;
        };
        let event = match parcel {
            Some(parcel) => running.hold_parked(key, kind, reason, at, parcel),
            None => Event::NotParked { key, reason: "the state is gone".to_owned() },
        };
        self.take([event], ctx);
    }
}

impl Handler<ApplyParked> for HubSystem {
    type Result = ResponseFuture<Result<(), ApplyError>>;

    fn handle(&mut self, message: ApplyParked, ctx: &mut Context<Self>) -> Self::Result {
        let ApplyParked { key, replace, timeout } = message;
        let timeout = timeout.unwrap_or(self.hub.settings().request_timeout);
        let answer = self.ask(Request::ApplyParked { key: key.clone(), replace, timeout }, ctx);
        Box::pin(async move {
            match answer.await {
                Ok(Reply::Applied(ApplyOutcome::Applied)) => Ok(()),
                Ok(Reply::Applied(ApplyOutcome::NotHeld { holder })) => {
                    Err(ApplyError::NotHeld { key, holder })
                }
                Ok(Reply::Applied(ApplyOutcome::Failed(reason))) => {
                    Err(ApplyError::Failed { key, reason })
                }
                Ok(Reply::Applied(ApplyOutcome::NoAnswer)) => Err(ApplyError::NoAnswer { key }),
                _ => Err(ApplyError::HubStopped),
            }
        })
    }
}

impl Handler<DiscardParked> for HubSystem {
    type Result = ResponseFuture<Result<(), DiscardError>>;

    fn handle(
        &mut self,
        DiscardParked(key): DiscardParked,
        ctx: &mut Context<Self>,
    ) -> Self::Result {
        let answer = self.ask(Request::DiscardParked { key: key.clone() }, ctx);
        Box::pin(async move {
            match answer.await {
                Ok(Reply::Discarded(Ok(()))) => Ok(()),
                Ok(Reply::Discarded(Err(holder))) => Err(DiscardError::NotHeld { key, holder }),
                _ => Err(DiscardError::HubStopped),
            }
        })
    }
}

/// A parked state that is to be given to its child. Nothing happens until it is awaited.
#[derive(Debug)]
#[must_use = "nothing is applied until it is awaited"]
pub struct ApplyRequest {
    hub: Hub,
    message: ApplyParked,
}

impl ApplyRequest {
    pub(crate) fn new(hub: Hub, key: ParkedKey) -> Self {
        let message = ApplyParked { key, replace: false, timeout: None };
        Self { hub, message }
    }

    /// Puts the state in the place of the child's own, by
    /// [`HotSwap::alter_handover_state`](crate::HotSwap::alter_handover_state), when none of its
    /// handlers is under way. The state that the child had is parked in exchange. Without this the two
    /// are merged by [`HotSwap::merge_diverged_state`](crate::HotSwap::merge_diverged_state).
    pub fn replace(mut self) -> Self {
        self.message.replace = true;
        self
    }

    /// How long to wait; `Settings::request_timeout` unless set.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.message.timeout = Some(timeout);
        self
    }
}

impl IntoFuture for ApplyRequest {
    type Output = Result<(), ApplyError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(
            async move { self.hub.ask(self.message).await.map_err(|_| ApplyError::HubStopped)? },
        )
    }
}
