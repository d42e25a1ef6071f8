//! A message on its way, without its type; and the place where its caller waits.

use std::{
    any::Any,
    marker::PhantomData,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use actix::{dev::MessageResponse, prelude::*};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use tokio::sync::oneshot::{self, error::TryRecvError};
use tracing::Span;

use super::{
    codec::{self, EncodeFailure, Rules},
    hot_swap::{HotSwap, HubMessage, HubReply},
    trace::handling,
    validity::Validity,
};
use crate::{
    delivery::{Body, Payload, SendFailure},
    error::{HubSendError, MaybeHandled, NotHandled},
    model::{
        id::{ChildId, KindName},
        trace::TraceContext,
    },
};

/// Not written to a peer, its handler not started.
const QUEUED: u8 = 0;
/// Written to a peer at least once.
const SENT: u8 = 1;
/// Its handler has started here.
const STARTED: u8 = 2;
/// The caller has been answered.
const DONE: u8 = 3;

/// Where a caller waits. The first answer counts, later ones are dropped.
pub(crate) struct Slot<R> {
    pub(crate) child: ChildId,
    phase: AtomicU8,
    /// When the hub began.
    began: Instant,
    /// In milliseconds since then.
    deadline: AtomicU64,
    answer: Mutex<Answer<R>>,
}

struct Answer<R> {
    value: Option<Result<R, HubSendError>>,
    waker: Option<Waker>,
}

impl<R> Slot<R> {
    pub(crate) fn new(child: ChildId, began: Instant, deadline: u64) -> Self {
        Self {
            child,
            began,
            phase: AtomicU8::new(QUEUED),
            deadline: AtomicU64::new(deadline),
            answer: Mutex::new(Answer { value: None, waker: None }),
        }
    }

    pub(crate) fn set_deadline(&self, deadline: u64) {
        self.deadline.store(deadline, Ordering::Release);
    }

    /// Answers the caller, unless that was done already.
    pub(crate) fn complete(&self, value: Result<R, HubSendError>) {
        if self.phase.swap(DONE, Ordering::AcqRel) != DONE {
            self.put(value);
        }
    }

    fn put(&self, value: Result<R, HubSendError>) {
        let waker = {
            let mut answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
            answer.value = Some(value);
            answer.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) fn fail(&self, failure: SendFailure) {
        self.complete(Err(error(&self.child, failure)));
    }

    /// Moves on from QUEUED or SENT. `false` if the caller has been answered meanwhile.
    fn advance(&self, to: u8) -> bool {
        self.phase
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |phase| {
                (phase != DONE).then_some(to)
            })
            .is_ok()
    }

    pub(crate) fn poll(&self, waker: &Waker) -> Poll<Result<R, HubSendError>> {
        let mut answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        match answer.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                match &mut answer.waker {
                    Some(known) => known.clone_from(waker),
                    none => *none = Some(waker.clone()),
                }
                Poll::Pending
            }
        }
    }
}

/// A caller who waits, without the type of the reply.
pub(crate) trait Waiter: Send + Sync {
    fn is_done(&self) -> bool;
    fn has_started(&self) -> bool;
    fn deadline(&self) -> u64;
    fn fail_with(&self, failure: SendFailure);
    /// Nobody waits any more: says what is known.
    fn end(&self, not: NotHandled, maybe: MaybeHandled);
}

impl<R: Send> Waiter for Slot<R> {
    fn is_done(&self) -> bool {
        self.phase.load(Ordering::Acquire) == DONE
    }

    fn has_started(&self) -> bool {
        self.phase.load(Ordering::Acquire) == STARTED
    }

    fn deadline(&self) -> u64 {
        self.deadline.load(Ordering::Acquire)
    }

    fn fail_with(&self, failure: SendFailure) {
        self.fail(failure);
    }

    fn end(&self, not: NotHandled, maybe: MaybeHandled) {
        let failure = match self.phase.swap(DONE, Ordering::AcqRel) {
            DONE => return,
            // Whoever comes to it from now on skips it.
            QUEUED => SendFailure::NotHandled(not),
            _ => SendFailure::MaybeHandled(maybe),
        };
        self.put(Err(error(&self.child, failure)));
    }
}

/// The public error of a failure.
pub(crate) fn error(child: &ChildId, failure: SendFailure) -> HubSendError {
    let child = child.clone();
    match failure {
        SendFailure::NotHandled(reason) => HubSendError::NotHandled { child, reason },
        SendFailure::MaybeHandled(reason) => HubSendError::MaybeHandled { child, reason },
    }
}

/// What became of a message that was handed to the actor of this node.
pub(crate) enum Ran {
    /// Its handler is done, and its caller was told.
    Done,
    /// Its handler is done; the caller is told by calling this.
    Reply(Box<dyn FnOnce() + Send>),
    /// Its handler goes on; the caller is told by the last step, when this is done.
    Later(LocalBoxFuture<'static, Box<dyn FnOnce() + Send>>),
}

/// A message without its type.
pub(crate) struct Envelope(Box<dyn Call>);

/// What follows a message through a trace.
pub(crate) struct Traced {
    /// From the call that sent it.
    pub(crate) span: Span,
    /// The same for another node.
    pub(crate) context: Option<TraceContext>,
}

/// What is done with a message, whatever its type.
pub(crate) trait Call: Send {
    fn encode(&mut self) -> Result<Bytes, NotHandled>;
    fn body(&mut self) -> Result<Body, NotHandled>;
    /// Its name, if nobody waits for its reply.
    fn untold(&self) -> Option<&str>;
    fn deadline(&self) -> Option<Instant>;
    /// Whether it is for the child on this node alone.
    fn stays(&self) -> bool {
        false
    }
    fn resolve(&mut self, outcome: Result<Bytes, SendFailure>);
    /// While replies are not `valid` the caller is not told; the answer says how to.
    fn run(
        &mut self,
        child: &ChildId,
        actor: &mut dyn Any,
        ctx: &mut dyn Any,
        valid: &Validity,
    ) -> Ran;
}

/// Encodes a message by the rules.
pub(crate) fn encode_message<M: HubMessage>(
    message: &M,
    name: &str,
    kind: &KindName,
    rules: Rules,
) -> Result<Bytes, NotHandled> {
    codec::encode_by(message, rules).map_err(|failure| match failure {
        EncodeFailure::TooLarge { size, limit } => NotHandled::TooLarge { size, limit },
        EncodeFailure::Encoder(reason) => NotHandled::Encode(reason),
        EncodeFailure::NotReadBack(reason) => {
            NotHandled::NotReadBack { name: name.to_owned(), kind: kind.clone(), reason }
        }
    })
}

impl Envelope {
    /// A message; `bytes` is its encoding if that is known, `slot` is where its caller waits, if one
    /// does.
    pub(crate) fn new<A, M>(
        message: M,
        bytes: Option<Bytes>,
        name: Arc<str>,
        kind: KindName,
        rules: Rules,
        slot: Option<Arc<Slot<M::Result>>>,
        traced: Traced,
    ) -> Self
    where
        A: HotSwap + Handler<M>,
        M: HubMessage,
    {
        Self(Box::new(Message::<A, M> {
            message: Some(message),
            bytes,
            name,
            kind,
            rules,
            slot,
            traced,
            actor: PhantomData,
        }))
    }

    /// A message that is known by its encoding alone, and whose reply nobody waits for.
    pub(crate) fn encoded<A, M>(
        bytes: Bytes,
        name: Arc<str>,
        kind: KindName,
        rules: Rules,
        traced: Traced,
    ) -> Self
    where
        A: HotSwap + Handler<M>,
        M: HubMessage,
    {
        Self(Box::new(Message::<A, M> {
            message: None,
            bytes: Some(bytes),
            name,
            kind,
            rules,
            slot: None,
            traced,
            actor: PhantomData,
        }))
    }

    /// A message of another sort.
    pub(crate) fn of(call: impl Call + 'static) -> Self {
        Self(Box::new(call))
    }

    /// Encodes the message, if that was not done yet.
    pub(crate) fn encode(&mut self) -> Result<(), NotHandled> {
        self.0.encode().map(drop)
    }

    /// Hands the message to the actor of this node.
    pub(crate) fn run(
        mut self,
        child: &ChildId,
        actor: &mut dyn Any,
        ctx: &mut dyn Any,
        valid: &Validity,
    ) -> Ran {
        self.0.run(child, actor, ctx, valid)
    }

    /// The message's name, if there is no caller to be told what becomes of it.
    pub(crate) fn untold(&self) -> Option<&str> {
        self.0.untold()
    }

    /// The message has its reply, or will have none.
    pub(crate) fn resolve(mut self, outcome: Result<Bytes, SendFailure>) {
        self.0.resolve(outcome);
    }
}

impl Payload for Envelope {
    fn body(&mut self) -> Result<Body, NotHandled> {
        self.0.body()
    }

    fn deadline(&self) -> Option<Instant> {
        self.0.deadline()
    }

    fn stays(&self) -> bool {
        self.0.stays()
    }
}

struct Message<A, M: HubMessage> {
    message: Option<M>,
    bytes: Option<Bytes>,
    name: Arc<str>,
    kind: KindName,
    rules: Rules,
    slot: Option<Arc<Slot<M::Result>>>,
    traced: Traced,
    actor: PhantomData<fn() -> A>,
}

impl<A, M> Call for Message<A, M>
where
    A: HotSwap + Handler<M>,
    M: HubMessage,
{
    fn encode(&mut self) -> Result<Bytes, NotHandled> {
        if let Some(bytes) = &self.bytes {
            self.message = None;
            return Ok(bytes.clone());
        }
        let message = self
            .message
            .as_ref()
            .ok_or_else(|| NotHandled::Encode("the message was handled".to_owned()))?;
        let bytes = encode_message(message, &self.name, &self.kind, self.rules)?;
        self.bytes = Some(bytes.clone());
        self.message = None;
        Ok(bytes)
    }

    fn body(&mut self) -> Result<Body, NotHandled> {
        if let Some(slot) = &self.slot
            && !slot.advance(SENT)
        {
            // It was answered that its time is over, or that its hub has stopped.
            return Err(NotHandled::Timeout);
        }
        let bytes = self.encode()?;
        Ok(Body { name: self.name.clone(), bytes, trace: self.traced.context })
    }

    fn untold(&self) -> Option<&str> {
        self.slot.is_none().then_some(&self.name)
    }

    fn deadline(&self) -> Option<Instant> {
        let slot = self.slot.as_ref()?;
        Some(slot.began + Duration::from_millis(slot.deadline()))
    }

    fn resolve(&mut self, outcome: Result<Bytes, SendFailure>) {
        let Some(slot) = self.slot.take() else { return };
        match outcome {
            Ok(bytes) => match codec::decode(&bytes) {
                Ok(reply) => slot.complete(Ok(reply)),
                Err(reason) => {
                    let reason = format!("it could not be decoded: {reason}");
                    slot.fail(SendFailure::MaybeHandled(MaybeHandled::ReplyLost(reason)));
                }
            },
            Err(failure) => slot.fail(failure),
        }
    }

    fn run(
        &mut self,
        child: &ChildId,
        actor: &mut dyn Any,
        ctx: &mut dyn Any,
        valid: &Validity,
    ) -> Ran {
        let slot = self.slot.take();
        if let Some(slot) = &slot
            && !slot.advance(STARTED)
        {
            return Ran::Done;
        }
        let refuse = |reason| {
            if let Some(slot) = &slot {
                slot.fail(SendFailure::NotHandled(reason));
            }
            Ran::Done
        };
        let (Some(actor), Some(ctx)) =
            (actor.downcast_mut::<A>(), ctx.downcast_mut::<Context<A>>())
        else {
            return refuse(NotHandled::WrongKind { expected: self.kind.clone() });
        };
        let message = match (self.message.take(), &self.bytes) {
            (Some(message), _) => message,
            (None, Some(bytes)) => match codec::decode(bytes) {
                Ok(message) => message,
                Err(reason) => return refuse(NotHandled::Decode(reason)),
            },
            (None, None) => return Ran::Done,
        };
        // Told when it is dropped unanswered: by a panic, or an actor that ends.
        let reply = Unanswered { slot, rules: self.rules };
        let (tx, mut rx) = oneshot::channel();
        let span = handling(&self.traced.span, child, &self.name);
        span.in_scope(|| actor.handle(message, ctx).handle(ctx, Some(tx)));
        match rx.try_recv() {
            Ok(value) if valid.holds() => {
                reply.complete(value);
                Ran::Done
            }
            Ok(value) => Ran::Reply(Box::new(move || reply.complete(value))),
            Err(TryRecvError::Closed) => Ran::Done,
            Err(TryRecvError::Empty) => Ran::Later(Box::pin(async move {
                let answer = rx.await;
                drop(span);
                let tell: Box<dyn FnOnce() + Send> = match answer {
                    Ok(value) => Box::new(move || reply.complete(value)),
                    Err(_) => Box::new(move || drop(reply)),
                };
                tell
            })),
        }
    }
}

impl<A, M: HubMessage> Drop for Message<A, M> {
    fn drop(&mut self) {
        // Only what a stopping hub throws away comes here with its caller still waiting.
        if let Some(slot) = self.slot.take() {
            slot.end(NotHandled::HubStopped, MaybeHandled::HubStopped);
        }
    }
}

/// The caller of a handler that has started.
struct Unanswered<R> {
    slot: Option<Arc<Slot<R>>>,
    rules: Rules,
}

impl<R: HubReply> Unanswered<R> {
    fn complete(mut self, value: R) {
        let Some(slot) = self.slot.take() else { return };
        match self.lost(&value) {
            Some(reason) => slot.fail(SendFailure::MaybeHandled(MaybeHandled::ReplyLost(reason))),
            None => slot.complete(Ok(value)),
        }
    }

    /// Why a caller on another node would not get this reply, if that is asked for.
    fn lost(&self, value: &R) -> Option<String> {
        if !self.rules.read_back {
            return None;
        }
        codec::encode_by(value, self.rules).err().map(|failure| failure.sentence())
    }
}

impl<R> Drop for Unanswered<R> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            slot.fail(SendFailure::MaybeHandled(MaybeHandled::NoReply));
        }
    }
}
