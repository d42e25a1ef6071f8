//! One message of a client, and the place where the client waits. Plays `hub/envelope.rs`.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Instant,
};

use bytes::Bytes;

use crate::{
    delivery::{Body, Payload, SendFailure},
    error::{MaybeHandled, NotHandled},
};

/// How far a message is, as its caller may be told; `envelope::Slot::phase`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Queued,
    Sent,
    Started,
    Done,
}

/// What a client is told.
pub(super) type Outcome = Result<(), SendFailure>;

#[derive(Debug)]
struct Place {
    phase: Phase,
    outcome: Option<Outcome>,
}

/// Where a caller waits; `envelope::Slot`. Of a tell it keeps what became of the message, which its
/// sender does not learn.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) id: u64,
    pub(super) deadline: Option<Instant>,
    place: Mutex<Place>,
    news: Arc<Mutex<News>>,
}

/// What has become of messages since this was last read.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) answered: Vec<u64>,
    /// Thrown away while their callers waited.
    pub(super) dropped: Vec<u64>,
}

impl Slot {
    pub(super) fn new(id: u64, deadline: Option<Instant>, news: Arc<Mutex<News>>) -> Arc<Self> {
        let place = Place { phase: Phase::Queued, outcome: None };
        Arc::new(Self { id, deadline, place: Mutex::new(place), news })
    }

    fn lock(&self) -> MutexGuard<'_, Place> {
        self.place.lock().expect("nobody panics with it")
    }

    /// `Slot::advance`: `false` if the caller was answered meanwhile.
    fn advance(&self, to: Phase) -> bool {
        let mut place = self.lock();
        let goes_on = place.phase != Phase::Done;
        if goes_on {
            place.phase = to;
        }
        goes_on
    }

    /// `Slot::complete`.
    pub(super) fn complete(&self, outcome: Outcome) {
        let mut place = self.lock();
        if place.phase != Phase::Done {
            *place = Place { phase: Phase::Done, outcome: Some(outcome) };
            self.news.lock().expect("nobody panics with it").answered.push(self.id);
        }
    }

    /// `Waiter::end`.
    pub(super) fn end(&self, not: NotHandled, maybe: MaybeHandled) {
        let phase = self.lock().phase;
        self.complete(Err(match phase {
            Phase::Queued => SendFailure::NotHandled(not),
            _ => SendFailure::MaybeHandled(maybe),
        }));
    }

    /// `Waiter::has_started`.
    pub(super) fn has_started(&self) -> bool {
        self.lock().phase == Phase::Started
    }

    /// `Message::run` begins: `false` if nobody waits for it any more.
    pub(super) fn start(&self) -> bool {
        self.advance(Phase::Started)
    }

    pub(super) fn is_done(&self) -> bool {
        self.lock().phase == Phase::Done
    }

    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.lock().outcome.clone()
    }
}

/// An update of a counter; `envelope::Message`.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) slot: Arc<Slot>,
    /// Bytes beside its number.
    pub(super) padding: usize,
    /// It is its handler that answers.
    pub(super) has_started: bool,
}

impl Call {
    /// Whether its client waits for a reply.
    pub(super) fn is_asked(&self) -> bool {
        self.slot.deadline.is_some()
    }

    /// `Envelope::settle`.
    pub(super) fn settle(self, outcome: Result<Bytes, SendFailure>) {
        self.slot.complete(outcome.map(drop));
    }
}

impl Drop for Call {
    /// `Message::drop`: only what a stopping hub throws away comes here with its caller waiting.
    fn drop(&mut self) {
        if self.is_asked() && !self.has_started && !self.slot.is_done() {
            self.slot.news.lock().expect("nobody panics with it").dropped.push(self.slot.id);
        }
    }
}

impl Payload for Call {
    fn body(&mut self) -> Result<Body, NotHandled> {
        if self.is_asked() && !self.slot.advance(Phase::Sent) {
            return Err(NotHandled::Timeout);
        }
        let mut bytes = self.slot.id.to_le_bytes().to_vec();
        bytes.resize(8 + self.padding, 0);
        Ok(Body { name: "add".into(), bytes: bytes.into(), trace: None })
    }

    fn deadline(&self) -> Option<Instant> {
        self.slot.deadline
    }
}

/// The number of the update that came as these bytes.
pub(super) fn number(bytes: &[u8]) -> u64 {
    let head = bytes.first_chunk::<8>().expect("an update has a number");
    u64::from_le_bytes(*head)
}
