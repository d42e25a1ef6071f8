//! One connection: byte pipes that a cut holds up.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use async_trait::async_trait;
use futures_util::task::AtomicWaker;
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    sync::mpsc,
};

use crate::{
    model::id::NodeId,
    net::carrier::{Connection, INCOMING_STREAMS, Stream, Streams},
};

/// How many bytes a stream holds that were written and not read.
const PIPE: usize = 256 * 1024;

/// One connection; side 0 has dialled.
pub(super) struct Wire {
    ends: [NodeId; 2],
    lives: [u64; 2],
    /// Whether what this side sends is held.
    cut: [AtomicBool; 2],
    /// Whether this side has closed it.
    closed: [AtomicBool; 2],
    reset: AtomicBool,
    state: Mutex<WireState>,
}

#[derive(Default)]
struct WireState {
    /// To each side, until it sees the end.
    incoming: [Option<mpsc::Sender<Stream>>; 2],
    /// Streams that a cut keeps from a side.
    held: [Vec<Stream>; 2],
    sleepers: Vec<Weak<Sleeper>>,
}

/// Who waits on one end of a stream.
#[derive(Default)]
struct Sleeper {
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl Wire {
    pub(super) fn new(
        ends: [NodeId; 2],
        lives: [u64; 2],
    ) -> (Arc<Self>, [mpsc::Receiver<Stream>; 2]) {
        let (to_dialler, of_dialler) = mpsc::channel(INCOMING_STREAMS);
        let (to_listener, of_listener) = mpsc::channel(INCOMING_STREAMS);
        let incoming = [Some(to_dialler), Some(to_listener)];
        let wire = Self {
            ends,
            lives,
            cut: Default::default(),
            closed: Default::default(),
            reset: AtomicBool::new(false),
            state: Mutex::new(WireState { incoming, ..WireState::default() }),
        };
        (Arc::new(wire), [of_dialler, of_listener])
    }

    /// One end of it as a connection.
    pub(super) fn connection(
        wire: &Arc<Self>,
        side: usize,
        address: String,
        incoming: mpsc::Receiver<Stream>,
    ) -> Connection {
        Connection {
            peer: wire.ends[1 - side],
            address,
            dialled: side == 0,
            streams: Arc::new(End { wire: Arc::clone(wire), side }),
            incoming,
        }
    }

    /// The nodes; the first has dialled.
    pub(super) fn ends(&self) -> [NodeId; 2] {
        self.ends
    }

    /// Holds what these sides send, or lets it go, and brings about all that changed.
    pub(super) fn set_cuts(&self, cut: [bool; 2]) {
        for (side, cut) in cut.into_iter().enumerate() {
            self.cut[side].store(cut, Ordering::Release);
        }
        self.propagate();
    }

    /// Breaks it, from the next [`set_cuts`](Self::set_cuts) on.
    pub(super) fn reset(&self) {
        self.reset.store(true, Ordering::Release);
    }

    /// Closes the ends of a life, from the next [`set_cuts`](Self::set_cuts) on.
    pub(super) fn close_life(&self, life: u64) {
        for (side, of) in self.lives.iter().enumerate() {
            if *of == life {
                self.closed[side].store(true, Ordering::Release);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, WireState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing arrives at this side.
    fn is_deaf(&self, side: usize) -> bool {
        self.cut[1 - side].load(Ordering::Acquire)
    }

    fn is_closed(&self, side: usize) -> bool {
        self.closed[side].load(Ordering::Acquire)
    }

    /// How this side sees that the connection is over, if it does.
    fn end(&self, side: usize) -> Option<io::ErrorKind> {
        if self.is_closed(side) {
            return Some(io::ErrorKind::NotConnected);
        }
        let is_over = self.reset.load(Ordering::Acquire) || self.is_closed(1 - side);
        (is_over && !self.is_deaf(side)).then_some(io::ErrorKind::ConnectionReset)
    }

    /// Brings about what a change means for the streams.
    fn propagate(&self) {
        let mut state = self.state();
        let mut dropped = Vec::new();
        for side in 0..2 {
            if !self.is_deaf(side) {
                for stream in std::mem::take(&mut state.held[side]) {
                    if let Some(incoming) = &state.incoming[side] {
                        // Without room it is dropped, like one too many over libp2p.
                        dropped.extend(incoming.try_send(stream).err());
                    }
                }
            }
            if self.end(side).is_some() {
                state.incoming[side] = None;
            }
        }
        state.sleepers.retain(|sleeper| sleeper.strong_count() > 0);
        let sleepers: Vec<_> = state.sleepers.iter().filter_map(Weak::upgrade).collect();
        drop(state);
        for sleeper in sleepers {
            sleeper.reader.wake();
            sleeper.writer.wake();
        }
    }

    fn pipe(self: &Arc<Self>, side: usize, inner: DuplexStream) -> Stream {
        let sleeper = Arc::new(Sleeper::default());
        self.state().sleepers.push(Arc::downgrade(&sleeper));
        Box::new(Pipe { wire: Arc::clone(self), side, inner, sleeper })
    }
}

/// One end of a connection.
struct End {
    wire: Arc<Wire>,
    side: usize,
}

#[async_trait]
impl Streams for End {
    async fn open(&self) -> io::Result<Stream> {
        if let Some(end) = self.wire.end(self.side) {
            return Err(end.into());
        }
        let (mine, theirs) = tokio::io::duplex(PIPE);
        let mine = self.wire.pipe(self.side, mine);
        let theirs = self.wire.pipe(1 - self.side, theirs);
        self.wire.state().held[1 - self.side].push(theirs);
        self.wire.propagate();
        Ok(mine)
    }

    fn close(&self) {
        self.wire.closed[self.side].store(true, Ordering::Release);
        self.wire.propagate();
    }
}

/// One end of a stream.
struct Pipe {
    wire: Arc<Wire>,
    side: usize,
    inner: DuplexStream,
    sleeper: Arc<Sleeper>,
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Before the look, so that a change after it wakes.
        self.sleeper.reader.register(cx.waker());
        if self.wire.is_closed(self.side) {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        }
        if self.wire.is_deaf(self.side) {
            return Poll::Pending;
        }
        if self.wire.reset.load(Ordering::Acquire) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        match Pin::new(&mut self.inner).poll_read(cx, buffer) {
            // What was written before the other end closed is still read.
            Poll::Pending => match self.wire.end(self.side) {
                Some(end) => Poll::Ready(Err(end.into())),
                None => Poll::Pending,
            },
            ready => ready,
        }
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.sleeper.writer.register(cx.waker());
        if let Some(end) = self.wire.end(self.side) {
            return Poll::Ready(Err(end.into()));
        }
        match Pin::new(&mut self.inner).poll_write(cx, bytes) {
            // The other end dropped the stream; across a cut that is not to be seen.
            Poll::Ready(Err(_)) if self.wire.is_deaf(self.side) => Poll::Pending,
            written => written,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What is written is on its way.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
