//! Published messages in the queue of a child.

use std::{any::Any, sync::Arc, time::Instant};

use actix::prelude::*;
use bytes::Bytes;

use super::{Subscriber, Topics, tally::Fate};
use crate::{
    delivery::{Body, SendFailure},
    error::NotHandled,
    hub::{
        codec::Rules,
        doors::HeldDoor,
        envelope::{Call, Envelope, Ran},
        hot_swap::HotSwap,
        kind::{Delivered, Kind},
        trace::{TracePropagator, handling_from},
        validity::Validity,
    },
    model::{frame::ReplyFailure, id::ChildId, topic::Publication},
};

/// A child that listens to topics. What is published enters its door while the child is behind that, and
/// ends when the child goes to another node: it listens there by itself.
pub(crate) struct ChildSubscriber<A: HotSwap> {
    shared: Arc<OfChild<A>>,
}

struct OfChild<A: HotSwap> {
    cell: HeldDoor,
    kind: Kind<A>,
    topics: Arc<Topics>,
    propagator: Option<Arc<dyn TracePropagator>>,
    rules: Rules,
}

impl<A: HotSwap> ChildSubscriber<A> {
    pub(crate) fn new(
        cell: HeldDoor,
        kind: Kind<A>,
        topics: Arc<Topics>,
        propagator: Option<Arc<dyn TracePropagator>>,
        rules: Rules,
    ) -> Self {
        Self { shared: Arc::new(OfChild { cell, kind, topics, propagator, rules }) }
    }
}

impl<A: HotSwap> Subscriber for ChildSubscriber<A> {
    fn offer(&self, publication: &Arc<Publication>) {
        if !self.shared.kind.takes(&publication.name) {
            return self.shared.topics.tally.count(Fate::NotTaken);
        }
        let (child, publication) = (self.shared.clone(), publication.clone());
        // What is refused is counted when it is resolved.
        let message = Published { child, publication, is_counted: false };
        self.shared.cell.enter_here(Envelope::of(message));
    }
}

/// A published message for one child on this node.
struct Published<A: HotSwap> {
    child: Arc<OfChild<A>>,
    publication: Arc<Publication>,
    is_counted: bool,
}

impl<A: HotSwap> Published<A> {
    fn count(&mut self, fate: Fate) {
        if !std::mem::replace(&mut self.is_counted, true) {
            self.child.topics.tally.count(fate);
        }
    }

    fn unsendable() -> NotHandled {
        NotHandled::Encode("a published message stays on its node".to_owned())
    }
}

impl<A: HotSwap> Call for Published<A> {
    fn encode(&mut self) -> Result<Bytes, NotHandled> {
        Err(Self::unsendable())
    }

    fn body(&mut self) -> Result<Body, NotHandled> {
        Err(Self::unsendable())
    }

    fn untold(&self) -> Option<&str> {
        // It is counted, and not told one by one.
        None
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn stays(&self) -> bool {
        true
    }

    fn resolve(&mut self, outcome: Result<Bytes, SendFailure>) {
        self.count(match outcome {
            Err(SendFailure::NotHandled(NotHandled::Busy)) => Fate::SubscriberFull,
            _ => Fate::SubscriberGone,
        });
    }

    fn run(
        &mut self,
        child: &ChildId,
        actor: &mut dyn Any,
        ctx: &mut dyn Any,
        _: &Validity,
    ) -> Ran {
        let (Some(actor), Some(ctx)) =
            (actor.downcast_mut::<A>(), ctx.downcast_mut::<Context<A>>())
        else {
            // A child of its id has been started of another kind since.
            self.count(Fate::SubscriberGone);
            return Ran::Done;
        };
        let Publication { trace, name, body, .. } = &*self.publication;
        let OfChild { kind, propagator, rules, .. } = &*self.child;
        let span = handling_from(propagator.as_deref(), *trace, child, name);
        let delivered = span.in_scope(|| kind.deliver(name, body, false, *rules, actor, ctx));
        match delivered {
            Delivered::Now(Err(ReplyFailure::Decode(_) | ReplyFailure::NotRegistered(_))) => {
                self.count(Fate::NotTaken);
                Ran::Done
            }
            Delivered::Now(_) => {
                self.count(Fate::Delivered);
                Ran::Done
            }
            Delivered::Later(handler) => {
                self.count(Fate::Delivered);
                Ran::Later(Box::pin(async move {
                    // Nobody waits for its reply, but a move waits for its end.
                    let _ = handler.await;
                    drop(span);
                    let nothing: Box<dyn FnOnce() + Send> = Box::new(|| {});
                    nothing
                }))
            }
        }
    }
}

impl<A: HotSwap> Drop for Published<A> {
    fn drop(&mut self) {
        self.count(Fate::SubscriberGone);
    }
}
