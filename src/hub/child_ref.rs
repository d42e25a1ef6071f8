//! The typed way to a child, wherever it runs.

use std::{
    fmt,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::{Duration, Instant},
};

use actix::prelude::*;
use tracing::Span;

use super::{
    Shared,
    codec::Rules,
    doors::{HeldDoor, LONGEST_WAIT},
    envelope::{Envelope, Slot, Traced, encode_message, error},
    hot_swap::{HotSwap, HubMessage},
    kind::KindEntry,
    recorder::Sent,
    trace::sending,
};
use crate::{
    delivery::{How, SendFailure, door::Door},
    error::{HubSendError, NotHandled},
    model::id::{ChildId, KindName},
};

/// A reference to a child of kind `A`: the same wherever the child runs, and while it moves.
///
/// Messages sent through one reference and its clones, from one task, are handled in the order in
/// which they were sent. It may be made before the child exists and outlives every move.
///
/// ```
/// # use actix::prelude::*;
/// # use actix_hub::prelude::*;
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Default, Serialize, Deserialize)]
/// # struct Counter(u64);
/// # impl Actor for Counter { type Context = Context<Self>; }
/// # #[derive(Message, Serialize, Deserialize)]
/// # #[rtype(result = "u64")]
/// # struct Add(u64);
/// # impl HubMessage for Add { const NAME: &'static str = "add"; }
/// # impl Handler<Add> for Counter {
/// #     type Result = u64;
/// #     fn handle(&mut self, Add(n): Add, _: &mut Context<Self>) -> u64 { self.0 += n; self.0 }
/// # }
/// # hot_swap!(Counter, kind = "counter", messages = [Add]);
/// # #[actix::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let hub = HubSystem::builder("doc").child::<Counter>().start().await?;
/// hub.start_child(ChildSpec::new::<Counter>("counter-1", ())?).await?;
///
/// let counter: ChildRef<Counter> = hub.child("counter-1");
/// assert_eq!(counter.send(Add(2)).await?, 2);
/// counter.do_send(Add(3))?;
/// assert_eq!(counter.send(Add(0)).await?, 5);
/// hub.stop().await;
/// # Ok(())
/// # }
/// ```
pub struct ChildRef<A: HotSwap> {
    hub: Arc<Shared>,
    child: ChildId,
    // `None`: the text that was given is no child id, so there is no such child.
    cell: Option<HeldDoor>,
    kind: Option<Arc<KindEntry>>,
    actor: PhantomData<fn() -> A>,
}

impl<A: HotSwap> ChildRef<A> {
    pub(crate) fn new(hub: Arc<Shared>, id: &str) -> Self {
        let (child, cell) = match ChildId::new(id) {
            Ok(child) => {
                let cell = HeldDoor::new(hub.doors.cell(&child));
                (child, Some(cell))
            }
            Err(_) => (presentable(id), None),
        };
        let kind = hub.kinds.get(A::KIND).map(|kind| kind.entry().clone());
        Self { hub, child, cell, kind, actor: PhantomData }
    }

    /// The child.
    #[must_use]
    pub fn id(&self) -> &ChildId {
        &self.child
    }

    /// Sends a message and waits for its reply, `Settings::send_timeout` long unless
    /// [`timeout`](ChildRequest::timeout) says otherwise.
    ///
    /// The message takes its place in the order when this is called, not when the future is
    /// polled. It waits for room in a full queue, and while the child moves. Dropping the future
    /// cancels nothing: the message is handled, its reply is dropped.
    ///
    /// # Errors
    /// [`HubSendError`] says whether the message may have been handled.
    #[must_use = "a future does nothing but send unless it is awaited; use `do_send` for that"]
    pub fn send<M>(&self, message: M) -> ChildRequest<M>
    where
        M: HubMessage,
        A: Handler<M>,
    {
        let now = Instant::now();
        let deadline = self.hub.doors.millis(now + self.hub.settings.send_timeout) + 1;
        let slot = Arc::new(Slot::new(self.child.clone(), self.hub.doors.began, deadline));
        let span = sending(&self.child, M::NAME);
        match self.envelope(message, Some(slot.clone()), &span) {
            Ok((cell, envelope)) => {
                // A rejection is told through the slot.
                let _ = cell.enter(envelope, How::Send, Some(slot.clone()));
            }
            Err(reason) => slot.fail(SendFailure::NotHandled(reason)),
        }
        ChildRequest {
            hub: self.hub.clone(),
            cell: self.cell.clone(),
            slot,
            sent: now,
            _span: span,
        }
    }

    /// Sends a message and does not wait for its reply, nor for room.
    ///
    /// `Ok` means that it was taken in behind everything sent before, not that it was handled: it
    /// is lost if the child's node goes down first, or if no node knows of such a child. While the
    /// child is on this node its messages are not encoded; one that is larger than
    /// `Settings::message_limit`, or cannot be encoded, is lost if the child moves before it comes to
    /// it, as [`HubEvent::MessageDropped`](crate::HubEvent::MessageDropped) tells.
    ///
    /// # Errors
    /// [`HubSendError::NotHandled`]: the queue is full ([`NotHandled::Busy`]), or the message
    /// cannot be sent at all.
    pub fn do_send<M>(&self, message: M) -> Result<(), HubSendError>
    where
        M: HubMessage,
        A: Handler<M>,
    {
        if let Some(cell) = &self.cell
            && cell.looks_full(self.hub.settings.mailbox)
            && !self.hub.doors.is_closed()
        {
            let taken = Err(NotHandled::Busy);
            self.told(&taken);
            return taken.map_err(|reason| error(&self.child, SendFailure::NotHandled(reason)));
        }
        let taken = self
            .envelope(message, None, &sending(&self.child, M::NAME))
            .and_then(|(cell, envelope)| cell.enter(envelope, How::Try, None));
        self.told(&taken);
        taken.map_err(|reason| error(&self.child, SendFailure::NotHandled(reason)))
    }

    /// The same as [`do_send`](Self::do_send), by the name it has on an `Addr` when the outcome
    /// matters.
    ///
    /// # Errors
    /// As there.
    pub fn try_send<M>(&self, message: M) -> Result<(), HubSendError>
    where
        M: HubMessage,
        A: Handler<M>,
    {
        self.do_send(message)
    }

    fn told(&self, taken: &Result<(), NotHandled>) {
        if let Some(recorder) = self.hub.recorder.get() {
            recorder.told(taken.is_ok());
            if let Err(reason) = taken {
                recorder.refused(reason);
            }
        }
    }

    fn envelope<M>(
        &self,
        message: M,
        slot: Option<Arc<Slot<M::Result>>>,
        span: &Span,
    ) -> Result<(&HeldDoor, Envelope), NotHandled>
    where
        M: HubMessage,
        A: Handler<M>,
    {
        let cell = self.cell.as_ref().ok_or(NotHandled::NoSuchChild)?;
        let unregistered = || match KindName::new(A::KIND) {
            Ok(kind) => NotHandled::NotRegistered { name: M::NAME.to_owned(), kind },
            Err(_) => NotHandled::NoSuchChild,
        };
        let kind = self.kind.as_ref().ok_or_else(unregistered)?;
        let name = kind.message::<M>().ok_or_else(unregistered)?;
        let rules = Rules::of_messages(&self.hub.settings);
        let bytes = if rules.read_back {
            Some(encode_message(&message, name, &kind.name, rules)?)
        } else {
            None
        };
        let propagator = self.hub.propagator.as_ref().filter(|_| !span.is_disabled());
        let context = propagator.and_then(|propagator| propagator.inject(span));
        let traced = Traced { span: span.clone(), context };
        let (name, kind) = (name.clone(), kind.name.clone());
        let envelope = Envelope::new::<A, M>(message, bytes, name, kind, rules, slot, traced);
        Ok((cell, envelope))
    }
}

/// A text that is no child id, made into one that an error can show.
pub(crate) fn presentable(text: &str) -> ChildId {
    let shown: String = text.chars().filter(|c| !c.is_control()).take(60).collect();
    ChildId::new(shown).or_else(|_| ChildId::new("(no id)")).expect("the text in brackets is an id")
}

impl<A: HotSwap> Clone for ChildRef<A> {
    fn clone(&self) -> Self {
        Self {
            hub: self.hub.clone(),
            child: self.child.clone(),
            cell: self.cell.clone(),
            kind: self.kind.clone(),
            actor: PhantomData,
        }
    }
}

impl<A: HotSwap> fmt::Debug for ChildRef<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildRef").field("kind", &A::KIND).field("child", &self.child).finish()
    }
}

/// The reply to a message that was sent with [`ChildRef::send`].
///
/// May be dropped at any time; the message is handled all the same.
#[must_use = "the reply arrives when this is awaited"]
pub struct ChildRequest<M: HubMessage> {
    hub: Arc<Shared>,
    cell: Option<HeldDoor>,
    slot: Arc<Slot<M::Result>>,
    sent: Instant,
    /// Ends with the request.
    _span: Span,
}

impl<M: HubMessage> ChildRequest<M> {
    /// Waits this long for the reply, counted from the call of `send`; at most a day. May be
    /// longer or shorter than `Settings::send_timeout`. Ends up to 20 ms late. A message whose
    /// time is over before its handler starts is not handled, on whichever node it waits.
    pub fn timeout(self, time: Duration) -> Self {
        let deadline = self.hub.doors.millis(self.sent + time.min(LONGEST_WAIT)) + 1;
        self.slot.set_deadline(deadline);
        if let Some(cell) = &self.cell {
            cell.watch(deadline);
            cell.with(Door::redate);
        }
        self
    }
}

impl<M: HubMessage> Future for ChildRequest<M> {
    type Output = Result<M::Result, HubSendError>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let polled = self.slot.poll(cx.waker());
        if let Poll::Ready(outcome) = &polled
            && let Some(recorder) = self.hub.recorder.get()
        {
            let sent = match outcome {
                Ok(_) => Sent::Ok,
                Err(HubSendError::NotHandled { reason, .. }) => {
                    recorder.refused(reason);
                    Sent::NotHandled
                }
                Err(HubSendError::MaybeHandled { reason, .. }) => {
                    recorder.unsure(reason);
                    Sent::MaybeHandled
                }
            };
            recorder.sent(sent, self.sent.elapsed());
        }
        polled
    }
}

impl<M: HubMessage> fmt::Debug for ChildRequest<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildRequest")
            .field("message", &M::NAME)
            .field("child", &self.slot.child)
            .finish_non_exhaustive()
    }
}
