//! What waits to be sent over one link.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{BulkDone, LinkTraffic, SendRefused, control::CloseWord};
use crate::model::{id::NodeRun, message::BulkHeader};

/// The most bytes of words that wait; one more closes the link, for the peer does not read.
pub(super) const CONTROL_QUEUE: usize = 64 * 1024 * 1024;
/// While more bytes of words wait, none of other nodes are passed on.
const PASSED_ON: usize = 1024 * 1024;
/// The most bulk transfers that wait; one more is answered with an error.
const BULK_QUEUE: usize = 65_536;
/// Transfers up to this size share one stream.
pub(super) const SMALL_BULK: usize = 256 * 1024;

/// Calls a [`BulkDone`] exactly once, whatever becomes of the transfer.
pub(super) struct Done(Option<BulkDone>);

impl Done {
    pub(super) fn new(done: BulkDone) -> Self {
        Self(Some(done))
    }

    pub(super) fn call(mut self, outcome: Result<(), String>) {
        if let Some(done) = self.0.take() {
            done(outcome);
        }
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            done(Err("the link closed before it was delivered".to_owned()));
        }
    }
}

/// A bulk transfer that waits.
pub(super) struct Transfer {
    pub(super) header: BulkHeader,
    pub(super) body: Bytes,
    pub(super) done: Done,
}

/// How a link is to be closed.
#[derive(Debug, Clone)]
pub(super) struct Closing {
    /// What the peer is told.
    pub(super) word: CloseWord,
    /// Whether what is queued is sent first.
    pub(super) flush: bool,
}

/// What the control writer is to do next.
#[derive(Debug)]
pub(super) enum Next {
    /// Write these.
    Batch(Batch),
    /// Write this last.
    Close(CloseWord),
}

/// Frames to be written together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) ping: Option<u64>,
    pub(super) pong: Option<u64>,
    pub(super) words: Vec<Bytes>,
}

#[derive(Default)]
struct State {
    words: VecDeque<Bytes>,
    /// Of the words that wait or are being written.
    bytes: usize,
    ping: Option<u64>,
    pong: Option<u64>,
    pings: u64,
    /// The bytes that had come by the time somebody last asked whether the link is silent.
    looked_at: Option<u64>,
    small: VecDeque<Transfer>,
    large: VecDeque<Transfer>,
    closing: Option<Closing>,
}

/// What waits to be sent over one link. Any thread puts in, the link's tasks take out.
pub(super) struct Outbox {
    /// The peer's run.
    pub(super) run: NodeRun,
    state: Mutex<State>,
    control: Notify,
    small: Notify,
    large: Notify,
    /// Wakes the data writer.
    pub(super) data: Notify,
    /// Set as soon as the link is to be closed.
    pub(super) closing: CancellationToken,
    pongs: watch::Sender<u64>,
    /// Bytes that were written and read since the link stands.
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
    /// What has come waits for the hub, and nothing more is read.
    pub(super) waits: AtomicBool,
}

impl Outbox {
    pub(super) fn new(run: NodeRun) -> Self {
        Self {
            run,
            state: Mutex::default(),
            control: Notify::new(),
            small: Notify::new(),
            large: Notify::new(),
            data: Notify::new(),
            closing: CancellationToken::new(),
            pongs: watch::Sender::new(0),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            waits: AtomicBool::new(false),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count_sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn count_received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// What went over the link.
    pub(super) fn traffic(&self) -> LinkTraffic {
        LinkTraffic {
            peer: self.run,
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
            queued: self.state().bytes as u64,
        }
    }

    /// Whether not a byte has come since this was asked before; `false` the first time.
    pub(super) fn is_silent(&self) -> bool {
        let received = self.received.load(Ordering::Relaxed);
        self.state().looked_at.replace(received) == Some(received)
    }

    /// Queues an encoded word.
    pub(super) fn push_word(&self, word: Bytes) -> Result<(), SendRefused> {
        let mut state = self.state();
        if state.closing.is_some() {
            return Err(SendRefused::NoLink);
        }
        if state.bytes.saturating_add(word.len()) > CONTROL_QUEUE {
            drop(state);
            self.close(CloseWord::Closed("the control queue is full".to_owned()), false);
            return Err(SendRefused::Full);
        }
        state.bytes += word.len();
        state.words.push_back(word);
        drop(state);
        self.control.notify_one();
        Ok(())
    }

    /// Queues a word of another node that is passed on. Such words are said again, and one node's must
    /// not stand in the way of this node's own: they are refused while more waits than a few.
    pub(super) fn push_passed_on(&self, word: Bytes) -> Result<(), SendRefused> {
        if self.state().bytes > PASSED_ON {
            return Err(SendRefused::Busy);
        }
        self.push_word(word)
    }

    /// Queues a bulk transfer.
    pub(super) fn push_bulk(&self, transfer: Transfer) -> Result<(), (Done, &'static str)> {
        let mut state = self.state();
        if state.closing.is_some() {
            return Err((transfer.done, "no link"));
        }
        let is_small = transfer.body.len() <= SMALL_BULK;
        let queue = if is_small { &mut state.small } else { &mut state.large };
        if queue.len() >= BULK_QUEUE {
            return Err((transfer.done, "the bulk queue is full"));
        }
        queue.push_back(transfer);
        drop(state);
        if is_small {
            self.small.notify_one()
        } else {
            self.large.notify_one()
        }
        Ok(())
    }

    /// The next transfer of those that share a stream.
    pub(super) async fn next_small(&self) -> Transfer {
        loop {
            if let Some(transfer) = self.take_small() {
                return transfer;
            }
            self.small.notified().await;
        }
    }

    /// The next transfer of those that share a stream, if one waits.
    pub(super) fn take_small(&self) -> Option<Transfer> {
        self.state().small.pop_front()
    }

    /// The next transfer that gets a stream of its own.
    pub(super) async fn next_large(&self) -> Transfer {
        loop {
            let next = self.state().large.pop_front();
            if let Some(transfer) = next {
                return transfer;
            }
            self.large.notified().await;
        }
    }

    /// What the control writer writes next; `written` are the bytes of words that it is done with.
    pub(super) async fn next(&self, mut written: usize) -> Next {
        loop {
            if let Some(next) = self.take(std::mem::take(&mut written)) {
                return next;
            }
            self.control.notified().await;
        }
    }

    /// The same, if there is something now.
    pub(super) fn take(&self, written: usize) -> Option<Next> {
        /// As much is written at once.
        const BATCH: usize = 64 * 1024;
        let mut state = self.state();
        state.bytes = state.bytes.saturating_sub(written);
        if let Some(closing) = state.closing.clone().filter(|c| !c.flush || state.words.is_empty())
        {
            return Some(Next::Close(closing.word));
        }
        let mut batch =
            Batch { ping: state.ping.take(), pong: state.pong.take(), words: Vec::new() };
        let mut bytes = 0;
        while bytes < BATCH {
            let Some(word) = state.words.pop_front() else {
                break;
            };
            bytes += word.len();
            batch.words.push(word);
        }
        let is_empty = batch.ping.is_none() && batch.pong.is_none() && batch.words.is_empty();
        (!is_empty).then_some(Next::Batch(batch))
    }

    /// Whether what was asked for has arrived: a Ping of the peer.
    pub(super) fn pinged(&self, number: u64) {
        self.state().pong = Some(number);
        self.control.notify_one();
    }

    /// A Pong arrived.
    pub(super) fn ponged(&self, number: u64) {
        self.pongs.send_replace(number);
    }

    /// Whether the peer answers on this link within `patience`, or anything else comes from it. While
    /// this node itself reads nothing, as its hub is busy, nothing is concluded.
    pub(super) async fn probe(&self, patience: Duration) -> bool {
        let mut pongs = self.pongs.subscribe();
        let before = self.received.load(Ordering::Relaxed);
        let number = {
            let mut state = self.state();
            state.pings += 1;
            state.ping = Some(state.pings);
            state.pings
        };
        self.control.notify_one();
        tokio::select! {
            biased;
            () = self.closing.cancelled() => false,
            answer = tokio::time::timeout(patience, pongs.wait_for(|n| *n >= number)) => {
                matches!(answer, Ok(Ok(_)))
                    || self.received.load(Ordering::Relaxed) != before
                    || self.waits.load(Ordering::Relaxed)
            }
        }
    }

    /// Closes the link. The first reason stands.
    pub(super) fn close(&self, word: CloseWord, flush: bool) {
        self.state().closing.get_or_insert(Closing { word, flush });
        self.closing.cancel();
        self.control.notify_one();
        self.data.notify_one();
    }

    /// How it is to be closed, once it is.
    pub(super) fn how_to_close(&self) -> Option<Closing> {
        self.state().closing.clone()
    }

    /// Answers all bulk transfers that wait; the link is closed.
    pub(super) fn fail_bulk(&self) {
        let mut state = self.state();
        let failed = (std::mem::take(&mut state.small), std::mem::take(&mut state.large));
        // Each one's `Done` is called when it is dropped, which must not happen under the lock.
        drop(state);
        drop(failed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::NodeId;

    fn outbox() -> Outbox {
        Outbox::new(NodeRun { node: NodeId::from_key([2; 32]), nonce: 1 })
    }

    #[test]
    fn words_of_others_are_refused_where_much_waits_and_own_ones_are_not() {
        let outbox = outbox();
        assert_eq!(outbox.push_passed_on(Bytes::from(vec![0; PASSED_ON])), Ok(()));
        assert_eq!(outbox.push_word(Bytes::from_static(b"own")), Ok(()));
        assert_eq!(outbox.push_passed_on(Bytes::new()), Err(SendRefused::Busy));
        assert_eq!(outbox.push_word(Bytes::from_static(b"own")), Ok(()));
        while outbox.take(PASSED_ON + 6).is_some() {}
        assert_eq!(outbox.push_passed_on(Bytes::new()), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_from_which_anything_comes_is_alive_and_who_does_not_read_concludes_nothing() {
        let patience = Duration::from_secs(1);
        let outbox = outbox();
        assert!(!outbox.probe(patience).await);
        let (alive, ()) = tokio::join!(outbox.probe(patience), async { outbox.count_received(1) });
        assert!(alive);
        assert!(!outbox.probe(patience).await, "that was before");
        outbox.waits.store(true, Ordering::Relaxed);
        assert!(outbox.probe(patience).await);
        outbox.close(CloseWord::Closed("over".to_owned()), false);
        assert!(!outbox.probe(patience).await);
    }
}
