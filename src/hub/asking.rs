//! Requests that are carried out whether or not whoever asked still waits.
//!
//! Actix skips a message whose sender does not wait any more when its turn comes: a future that was
//! dropped early would take its request back, and one that was dropped late would not.

use actix::{dev::MessageResponse, prelude::*};
use tokio::sync::oneshot;

use super::{Hub, requests::HubStopped, system::HubSystem};

/// A message that is handled in any case.
pub(crate) struct Surely<M: Message> {
    message: M,
    tell: oneshot::Sender<M::Result>,
}

impl<M: Message> Message for Surely<M> {
    type Result = ();
}

impl<M: Message> Handler<Surely<M>> for HubSystem
where
    Self: Handler<M>,
{
    type Result = ();

    fn handle(&mut self, Surely { message, tell }: Surely<M>, ctx: &mut Context<Self>) {
        <Self as Handler<M>>::handle(self, message, ctx).handle(ctx, Some(tell));
    }
}

impl Hub {
    /// Has a message handled by the hub's actor. Dropping the future does not take it back, once it was
    /// polled.
    pub(crate) async fn ask<M>(&self, message: M) -> Result<M::Result, HubStopped>
    where
        M: Message<Result: Send> + Send + 'static,
        HubSystem: Handler<M>,
    {
        let (tell, told) = oneshot::channel();
        // A hub that has ended drops it.
        self.system().do_send::<Surely<M>>(Surely { message, tell });
        told.await.map_err(|_| HubStopped)
    }
}
