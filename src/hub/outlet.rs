//! The way messages take to one child, without the child's type; and the reply that comes back.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tracing::Span;

use super::{
    Shared,
    bound::Bound,
    codec::Rules,
    doors::{HeldDoor, LONGEST_WAIT},
    envelope::{Envelope, Slot, Traced, encode_message, error},
    hot_swap::HubMessage,
    kind::KindEntry,
    recorder::Sent,
    trace::sending,
    watches::stream::ChildWatch,
};
use crate::{
    delivery::{How, SendFailure, door::Door},
    error::{HubSendError, NotHandled},
    model::id::{ChildId, KindName},
};

/// Takes messages for one child in, wherever it runs.
#[derive(Clone)]
pub(crate) struct Outlet {
    hub: Arc<Shared>,
    child: ChildId,
    // `None`: the text that was given is no child id, so there is no such child.
    cell: Option<HeldDoor>,
    // `None`: the hub of this node has no such kind.
    kind: Option<Arc<KindEntry>>,
}

impl Outlet {
    pub(crate) fn new(hub: Arc<Shared>, id: &str, kind: &str) -> Self {
        let (child, cell) = match ChildId::new(id) {
            Ok(child) => {
                let cell = HeldDoor::new(hub.doors.cell(&child));
                (child, Some(cell))
            }
            Err(_) => (presentable(id), None),
        };
        let kind = hub.kinds.get(kind).map(|kind| kind.entry().clone());
        let demand = kind.as_ref().and_then(|kind| kind.demand.as_ref());
        if let (Some(cell), Some(demand)) = (&cell, demand) {
            cell.on_demand(demand);
        }
        Self { hub, child, cell, kind }
    }

    pub(crate) fn child(&self) -> &ChildId {
        &self.child
    }

    /// Watches the child.
    pub(crate) fn watch(&self) -> ChildWatch {
        match self.is_id() {
            true => self.hub.watches.watch(&self.child),
            false => ChildWatch::of_nobody(self.child.clone(), self.hub.watches.clone()),
        }
    }

    /// Whether the text that was given can be the id of a child.
    pub(crate) fn is_id(&self) -> bool {
        self.cell.is_some()
    }

    /// Whether messages go to the same child of the same hub, from whichever node.
    pub(crate) fn leads_where(&self, other: &Self) -> bool {
        self.child == other.child && self.hub.name == other.hub.name
    }

    /// Sends a message and gives what its reply comes by. `kind` is the name of the child's kind.
    pub(crate) fn send<M: HubMessage>(&self, kind: &str, message: M) -> ChildRequest<M> {
        let now = Instant::now();
        let deadline = self.hub.doors.millis(now + self.hub.settings.send_timeout) + 1;
        let slot = Arc::new(Slot::new(self.child.clone(), self.hub.doors.began, deadline));
        let span = sending(&self.child, M::NAME);
        match self.envelope(kind, message, Some(slot.clone()), &span) {
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

    /// Sends a message whose reply nobody waits for.
    pub(crate) fn do_send<M: HubMessage>(
        &self,
        kind: &str,
        message: M,
    ) -> Result<(), HubSendError> {
        self.try_enter(|| self.envelope(kind, message, None, &sending(&self.child, M::NAME)))
    }

    /// The same for a message of type `M` that is known by its encoding alone.
    pub(crate) fn do_send_encoded<M: HubMessage>(
        &self,
        kind: &str,
        bytes: Bytes,
    ) -> Result<(), HubSendError> {
        self.try_enter(|| {
            let cell = self.cell.as_ref().ok_or(NotHandled::NoSuchChild)?;
            let unregistered = || unregistered::<M>(kind);
            let kind = self.kind.as_ref().ok_or_else(unregistered)?;
            let (name, wrap) = kind.encoded::<M>().ok_or_else(unregistered)?;
            let rules = Rules::of_messages(&self.hub.settings);
            let traced = self.traced(&sending(&self.child, M::NAME));
            Ok((cell, wrap(bytes, name.clone(), kind.name.clone(), rules, traced)))
        })
    }

    /// Lets a message in that waits for no room.
    fn try_enter<'a>(
        &'a self,
        envelope: impl FnOnce() -> Result<(&'a HeldDoor, Envelope), NotHandled>,
    ) -> Result<(), HubSendError> {
        let is_full = self.cell.as_ref().is_some_and(|cell| {
            cell.looks_full(self.hub.settings.mailbox) && !self.hub.doors.is_closed()
        });
        let taken = match is_full {
            true => Err(NotHandled::Busy),
            false => envelope().and_then(|(cell, envelope)| cell.enter(envelope, How::Try, None)),
        };
        self.told(&taken);
        taken.map_err(|reason| error(&self.child, SendFailure::NotHandled(reason)))
    }

    fn told(&self, taken: &Result<(), NotHandled>) {
        if let Some(recorder) = self.hub.recorder.get() {
            recorder.told(taken.is_ok());
            if let Err(reason) = taken {
                recorder.refused(reason);
            }
        }
    }

    fn envelope<M: HubMessage>(
        &self,
        kind: &str,
        message: M,
        slot: Option<Arc<Slot<M::Result>>>,
        span: &Span,
    ) -> Result<(&HeldDoor, Envelope), NotHandled> {
        let cell = self.cell.as_ref().ok_or(NotHandled::NoSuchChild)?;
        let unregistered = || unregistered::<M>(kind);
        let kind = self.kind.as_ref().ok_or_else(unregistered)?;
        let (name, wrap) = kind.message::<M>().ok_or_else(unregistered)?;
        let rules = Rules::of_messages(&self.hub.settings);
        let bytes = if rules.read_back {
            // It is read back here, too.
            let _bound = Bound::to(&Arc::downgrade(&self.hub));
            Some(encode_message(&message, name, &kind.name, rules)?)
        } else {
            None
        };
        let traced = self.traced(span);
        let (name, kind) = (name.clone(), kind.name.clone());
        Ok((cell, wrap(message, bytes, name, kind, rules, slot, traced)))
    }

    fn traced(&self, span: &Span) -> Traced {
        let propagator = self.hub.propagator.as_ref().filter(|_| !span.is_disabled());
        let context = propagator.and_then(|propagator| propagator.inject(span));
        Traced { span: span.clone(), context }
    }
}

/// Children of this kind do not take messages of this type.
fn unregistered<M: HubMessage>(kind: &str) -> NotHandled {
    match KindName::new(kind) {
        Ok(kind) => NotHandled::NotRegistered { name: M::NAME.to_owned(), kind },
        Err(_) => NotHandled::NoSuchChild,
    }
}

/// A text that is no child id, made into one that an error can show.
pub(crate) fn presentable(text: &str) -> ChildId {
    let shown: String = text.chars().filter(|c| !c.is_control()).take(60).collect();
    ChildId::new(shown).or_else(|_| ChildId::new("(no id)")).expect("the text in brackets is an id")
}

/// The reply to a message that was sent with [`ChildRef::send`](crate::ChildRef::send).
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
