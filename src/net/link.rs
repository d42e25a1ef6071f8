//! One link: the streams of one connection, from `Linked` to `Unlinked`.
//!
//! The control stream carries words and the data stream user messages, both ways, each with a
//! reader and a writer of its own; bulk transfers have further streams (see [`super::bulk`]). A
//! reader waits when whoever it reads for has no room, and holds up nothing but its own stream.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};

use super::{
    DataPlane, NetEvent, bulk,
    carrier::{Connection, Stream, Streams},
    control::{BULK_STREAM, CloseWord, ControlReader, DATA_STREAM, Frame, put_frame},
    greet::{Greeted, LINGER},
    intake::Intake,
    outbox::{Next, Outbox},
    room::Room,
};
use crate::wire;

/// How much data is asked for, written and read at once.
const TARGET: usize = 64 * 1024;
/// A write buffer that grew above this is given back.
const KEPT: usize = 1024 * 1024;
/// How many streams for bulk transfers a peer may have open.
const BULK_STREAMS: usize = 8;

/// What a link needs of its node.
#[derive(Clone)]
pub(super) struct LinkContext {
    pub(super) data: Arc<dyn DataPlane>,
    pub(super) events: mpsc::Sender<NetEvent>,
    pub(super) frame_limit: usize,
    pub(super) bulk_limit: usize,
    /// How long a stream may take to say what it is for.
    pub(super) deadline: Duration,
}

/// How one of a link's tasks ended.
#[derive(Debug)]
enum Ended {
    /// The peer closed the link and said why.
    Told(CloseWord),
    /// A stream ended or failed.
    Broken(&'static str, io::Error),
    /// The peer did what it must not; it is told.
    Protocol(String),
    /// The hub takes no more events.
    NobodyListens,
    /// A stream for bulk transfers is done.
    BulkStream,
    /// A writer has written everything, for the link is being closed.
    Written,
    /// The data stream was read to its end.
    DataRead,
}

impl Ended {
    /// An error is either the peer's fault or the connection's.
    fn of(what: &'static str, error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::InvalidData {
            Self::Protocol(format!("{what}: {error}"))
        } else {
            Self::Broken(what, error)
        }
    }
}

/// Runs a link from `Linked` to `Unlinked`. Returns when it is closed and everything of it was
/// told; `outbox` is closed then at the latest.
pub(super) async fn run(context: LinkContext, greeted: Greeted, outbox: Arc<Outbox>) {
    let run = outbox.run;
    let Greeted { reader, writer, connection, hello, .. } = greeted;
    context.data.linked(run);
    tracing::info!(peer = %run.node.short(), address = %connection.address, "linked");
    let local = connection.is_local();
    let reason = if context.events.send(NetEvent::Linked { hello, local }).await.is_err() {
        "the hub has stopped".to_owned()
    } else {
        let intake = Arc::new(Intake::default());
        let mut link = Link {
            context: context.clone(),
            outbox: Arc::clone(&outbox),
            connection,
            intake: Arc::clone(&intake),
            bulk: 0,
            told: false,
        };
        let mut readers = JoinSet::new();
        let mut writers = JoinSet::new();
        let (events, own) = (context.events.clone(), Arc::clone(&outbox));
        readers.spawn(read_control(reader, events, own, intake));
        writers.spawn(write_control(writer, Arc::clone(&outbox)));
        let (streams, own) = (Arc::clone(&link.connection.streams), Arc::clone(&outbox));
        readers.spawn(async { Ended::of("bulk", bulk::send_small(streams, own).await) });
        let (streams, own) = (Arc::clone(&link.connection.streams), Arc::clone(&outbox));
        readers.spawn(async {
            bulk::send_large(streams, own).await;
            Ended::BulkStream
        });
        let (reason, word) = link.serve(&mut readers, &mut writers).await;
        // The first reason stands; from here on nothing is taken in.
        outbox.close(word, false);
        readers.shutdown().await;
        link.end(writers).await;
        reason
    };
    outbox.close(CloseWord::Closed(reason.clone()), false);
    outbox.fail_bulk();
    context.data.unlinked(run);
    tracing::info!(peer = %run.node.short(), reason, "unlinked");
    let _ = context.events.send(NetEvent::Unlinked { run, reason }).await;
}

struct Link {
    context: LinkContext,
    outbox: Arc<Outbox>,
    connection: Connection,
    intake: Arc<Intake>,
    /// Streams for bulk transfers that the peer has open.
    bulk: usize,
    /// Whether the peer has closed the link, and so waits for nothing.
    told: bool,
}

impl Link {
    /// Serves the link until it is to be closed. Tells why, and what the peer is told.
    async fn serve(
        &mut self,
        readers: &mut JoinSet<Ended>,
        writers: &mut JoinSet<Ended>,
    ) -> (String, CloseWord) {
        let closed = |reason: String| (reason.clone(), CloseWord::Closed(reason));
        let mut has_data = false;
        if self.connection.dialled {
            match timeout(self.context.deadline, open_data(&*self.connection.streams)).await {
                Ok(Ok(stream)) => self.start_data(stream, readers, writers),
                Ok(Err(error)) => return closed(why_broken("data", &error, readers).await),
                Err(_) => return closed("the data stream was not opened in time".to_owned()),
            }
            has_data = true;
        }
        let outbox = Arc::clone(&self.outbox);
        let (mut opening, mut incoming_ended) = (JoinSet::new(), false);
        loop {
            let ended = tokio::select! {
                biased;
                () = outbox.closing.cancelled() => {
                    let word = outbox.how_to_close().map(|closing| closing.word);
                    let word = word.unwrap_or_else(|| CloseWord::Closed("closed".to_owned()));
                    return (word.reason(), word);
                }
                Some(ended) = readers.join_next() => ended,
                Some(ended) = writers.join_next() => ended,
                stream = self.connection.incoming.recv(), if !incoming_ended => {
                    match stream {
                        // Each stream gets its own time to say what it is for.
                        Some(stream) if opening.len() < BULK_STREAMS => {
                            opening.spawn(timeout(self.context.deadline, identify(stream)));
                        }
                        Some(_) => return closed("the peer opened too many streams".to_owned()),
                        None => incoming_ended = true,
                    }
                    continue;
                }
                Some(opened) = opening.join_next() => match opened {
                    Ok(Ok(Ok((DATA_STREAM, stream)))) if !has_data => {
                        has_data = true;
                        self.start_data(stream, readers, writers);
                        continue;
                    }
                    Ok(Ok(Ok((BULK_STREAM, stream)))) if self.bulk < BULK_STREAMS => {
                        self.bulk += 1;
                        self.start_bulk(stream, readers);
                        continue;
                    }
                    Ok(Ok(Ok((tag, _)))) => {
                        return closed(format!("the peer opened a stream {tag} out of turn"));
                    }
                    // It said nothing, or ended before it did: it is dropped.
                    _ => continue,
                },
            };
            return match ended {
                Ok(Ended::BulkStream) => {
                    self.bulk = self.bulk.saturating_sub(1);
                    continue;
                }
                Ok(Ended::Told(word)) => {
                    self.told = true;
                    drain_data(readers).await;
                    let reason = match word {
                        CloseWord::Closed(reason) | CloseWord::Refused(reason) => reason,
                        word => word.reason(),
                    };
                    closed(format!("closed by the peer: {reason}"))
                }
                Ok(Ended::Protocol(reason)) => closed(reason),
                Ok(Ended::NobodyListens) => closed("the hub has stopped".to_owned()),
                Ok(Ended::Written) => closed("closed".to_owned()),
                // The peer's last words may still be there to read.
                Ok(Ended::DataRead) => closed(match last_words(readers).await {
                    Some(reason) => format!("closed by the peer: {reason}"),
                    None => "the connection ended".to_owned(),
                }),
                Ok(Ended::Broken(what, error)) => closed(why_broken(what, &error, readers).await),
                Err(error) => closed(format!("a task of the link failed: {error}")),
            };
        }
    }

    fn start_data(
        &self,
        stream: Stream,
        readers: &mut JoinSet<Ended>,
        writers: &mut JoinSet<Ended>,
    ) {
        let (reader, writer) = tokio::io::split(stream);
        let limit = self.context.frame_limit;
        let own = Arc::clone(&self.outbox);
        readers.spawn(read_data(reader, Arc::clone(&self.context.data), own, limit));
        let (data, outbox) = (Arc::clone(&self.context.data), Arc::clone(&self.outbox));
        writers.spawn(write_data(writer, data, outbox));
    }

    fn start_bulk(&self, stream: Stream, readers: &mut JoinSet<Ended>) {
        let (own, limit) = (Arc::clone(&self.outbox), self.context.bulk_limit);
        let events = self.context.events.clone();
        let receive = bulk::receive(stream, own, limit, events, Arc::clone(&self.intake));
        readers.spawn(async {
            match receive.await {
                Ok(()) => Ended::BulkStream,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    Ended::of("bulk", error)
                }
                // A stream that broke off concerns its transfer alone.
                Err(_) => Ended::BulkStream,
            }
        });
    }

    /// Lets the writers finish and the peer read why, then closes the connection: at once for
    /// whoever waits, unless what is queued is to be flushed.
    async fn end(mut self, mut writers: JoinSet<Ended>) {
        let flush = self.outbox.how_to_close().is_some_and(|closing| closing.flush);
        let linger = async move {
            if !self.told {
                while self.connection.incoming.recv().await.is_some() {}
            }
        };
        if flush {
            // Bounded by the deadline of the shutdown.
            while writers.join_next().await.is_some() {}
            let _ = timeout(LINGER, linger).await;
        } else {
            tokio::spawn(timeout(LINGER, async move {
                while writers.join_next().await.is_some() {}
                linger.await;
            }));
        }
    }
}

async fn open_data(streams: &dyn Streams) -> io::Result<Stream> {
    let mut stream = streams.open().await?;
    stream.write_u8(DATA_STREAM).await?;
    stream.flush().await?;
    Ok(stream)
}

async fn identify(mut stream: Stream) -> io::Result<(u8, Stream)> {
    let tag = stream.read_u8().await?;
    Ok((tag, stream))
}

/// After the peer's last word: what it flushed before may still be on its way on the data stream.
async fn drain_data(readers: &mut JoinSet<Ended>) {
    let _ = timeout(LINGER, async {
        while let Some(ended) = readers.join_next().await {
            if matches!(ended, Ok(Ended::DataRead)) {
                break;
            }
        }
    })
    .await;
}

/// After a stream ended: the peer's last words may still be there to read.
async fn last_words(readers: &mut JoinSet<Ended>) -> Option<String> {
    let words = async {
        while let Some(ended) = readers.join_next().await {
            match ended {
                Ok(Ended::Told(word)) => return Some(word.reason()),
                Ok(Ended::Broken("control", _)) => return None,
                _ => {}
            }
        }
        None
    };
    timeout(LINGER, words).await.ok().flatten()
}

/// Why a link broke: what the peer said, or else what happened.
async fn why_broken(what: &str, error: &io::Error, readers: &mut JoinSet<Ended>) -> String {
    let words = match what {
        "control" => None,
        _ => last_words(readers).await,
    };
    match words {
        Some(reason) => format!("closed by the peer: {reason}"),
        None => format!("the connection broke: {what}: {error}"),
    }
}

async fn read_control(
    mut reader: ControlReader<ReadHalf<Stream>>,
    events: mpsc::Sender<NetEvent>,
    outbox: Arc<Outbox>,
    intake: Arc<Intake>,
) -> Ended {
    loop {
        match reader.next().await {
            Ok(Frame::Word(bytes)) => {
                outbox.count_received(bytes.len());
                let began = Instant::now();
                match wire::decode_message(&bytes) {
                    Ok(message) => {
                        // Meanwhile nothing is read.
                        outbox.waits.store(true, Ordering::Relaxed);
                        let place = intake.enter(began.elapsed()).await;
                        outbox.waits.store(false, Ordering::Relaxed);
                        let event = NetEvent::Control { from: outbox.run, message, place };
                        if events.send(event).await.is_err() {
                            return Ended::NobodyListens;
                        }
                    }
                    Err(error) => return Ended::Protocol(format!("a malformed word: {error}")),
                }
            }
            Ok(Frame::Ping(number)) => outbox.pinged(number),
            Ok(Frame::Pong(number)) => outbox.ponged(number),
            Ok(Frame::Close(word)) => return Ended::Told(word),
            Ok(Frame::Hello(_) | Frame::Use | Frame::Using) => {
                return Ended::Protocol("a greeting on a link that stands".to_owned());
            }
            Err(error) => return Ended::of("control", error),
        }
    }
}

async fn write_control(mut writer: WriteHalf<Stream>, outbox: Arc<Outbox>) -> Ended {
    let mut buffer = BytesMut::new();
    let mut next = outbox.next(0).await;
    loop {
        let (batch, is_last) = match next {
            Next::Batch(batch) => (batch, false),
            Next::Close(word) => {
                put_frame(&mut buffer, &Frame::Close(word));
                (Default::default(), true)
            }
        };
        batch.ping.into_iter().for_each(|n| put_frame(&mut buffer, &Frame::Ping(n)));
        batch.pong.into_iter().for_each(|n| put_frame(&mut buffer, &Frame::Pong(n)));
        let mut written = 0;
        for word in batch.words {
            written += word.len();
            put_frame(&mut buffer, &Frame::Word(word));
        }
        if let Err(error) = writer.write_all(&buffer).await {
            return Ended::of("control", error);
        }
        outbox.count_sent(buffer.len());
        buffer.clear();
        if buffer.capacity() > KEPT {
            buffer = BytesMut::new();
        }
        if is_last {
            let _ = writer.shutdown().await;
            return Ended::Written;
        }
        next = match outbox.take(written) {
            Some(next) => next,
            None => {
                if let Err(error) = writer.flush().await {
                    return Ended::of("control", error);
                }
                outbox.next(0).await
            }
        };
    }
}

async fn read_data(
    mut reader: ReadHalf<Stream>,
    data: Arc<dyn DataPlane>,
    outbox: Arc<Outbox>,
    limit: usize,
) -> Ended {
    let from = outbox.run;
    let mut buffer = BytesMut::new();
    let mut room = Room::up_to(TARGET);
    loop {
        while let Some(head) = buffer.first_chunk::<4>() {
            let length = u32::from_le_bytes(*head) as usize;
            if length > limit {
                let reason = format!("a data frame of {length} bytes, the limit is {limit}");
                return Ended::Protocol(reason);
            }
            if buffer.len() < 4 + length {
                break;
            }
            buffer.advance(4);
            if let Err(error) = data.frame(from, buffer.split_to(length).freeze()) {
                return Ended::Protocol(format!("a data frame: {error}"));
            }
        }
        room.make(&mut buffer);
        match reader.read_buf(&mut buffer).await {
            Ok(0) if buffer.is_empty() => return Ended::DataRead,
            Ok(0) => return Ended::of("data", io::ErrorKind::UnexpectedEof.into()),
            Ok(bytes) => {
                outbox.count_received(bytes);
                room.came(bytes);
            }
            Err(error) => return Ended::of("data", error),
        }
    }
}

async fn write_data(
    mut writer: WriteHalf<Stream>,
    data: Arc<dyn DataPlane>,
    outbox: Arc<Outbox>,
) -> Ended {
    let mut buffer = BytesMut::new();
    loop {
        let closing = outbox.how_to_close();
        if closing.as_ref().is_some_and(|closing| !closing.flush) {
            let _ = writer.shutdown().await;
            return Ended::Written;
        }
        let more = data.fill(outbox.run, &mut buffer, TARGET);
        if !buffer.is_empty() {
            if let Err(error) = writer.write_all(&buffer).await {
                return Ended::of("data", error);
            }
            outbox.count_sent(buffer.len());
            buffer.clear();
            if buffer.capacity() > KEPT {
                buffer = BytesMut::new();
            }
        }
        if more {
            // Others on this thread have their turn.
            tokio::task::yield_now().await;
            continue;
        }
        if let Err(error) = writer.flush().await {
            return Ended::of("data", error);
        }
        if closing.is_some() {
            let _ = writer.shutdown().await;
            return Ended::Written;
        }
        outbox.data.notified().await;
    }
}
