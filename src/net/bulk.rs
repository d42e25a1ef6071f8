//! Bulk transfers: states of children, beside the words and never in their way.
//!
//! A transfer is the header's length (u32, little endian), the body's length (u64), the header, the
//! body, and the xxh3 of the body (u64). It is answered on the same stream, in order: a zero, or a
//! one, a length (u16) and a reason. Small transfers share one long-lived stream, one after
//! another; each larger one has a stream of its own, four at a time.

use std::{io, sync::Arc, time::Duration};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
    task::JoinSet,
};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::{
    NetEvent,
    carrier::{Stream, Streams},
    control::BULK_STREAM,
    intake::Intake,
    outbox::{Done, Outbox, SMALL_BULK, Transfer},
};
use crate::wire;

/// How many large transfers are under way to one peer.
const LARGE_AT_ONCE: usize = 4;
/// How many small transfers may wait for their answer.
const UNANSWERED: usize = 1_024;
/// How much is written or read at once.
const CHUNK: usize = 64 * 1024;
/// The longest reason in bytes.
const REASON: usize = 512;
/// The most that is read of a transfer that was refused.
const ON_THE_WAY: u64 = 4 * 1024 * 1024;
const HEAD: usize = 12;

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Header and lengths of a transfer.
fn head(transfer: &Transfer) -> Result<Vec<u8>, String> {
    let header = wire::encode_bulk_header(&transfer.header).map_err(|error| error.to_string())?;
    let length = u32::try_from(header.len()).map_err(|error| error.to_string())?;
    let mut bytes = Vec::with_capacity(HEAD + header.len());
    bytes.put_u32_le(length);
    bytes.put_u64_le(transfer.body.len() as u64);
    bytes.put_slice(&header);
    Ok(bytes)
}

/// Sends the small transfers of a link, one after another on one stream, which is opened for the
/// first of them. Ends with an error that closes the link.
pub(super) async fn send_small(streams: Arc<dyn Streams>, outbox: Arc<Outbox>) -> io::Error {
    let first = outbox.next_small().await;
    let stream = match streams.open().await {
        Ok(stream) => stream,
        Err(error) => return error,
    };
    let (read, write) = tokio::io::split(stream);
    let (unanswered, answers) = mpsc::channel(UNANSWERED);
    let ended = tokio::try_join!(
        write_small(write, first, &outbox, unanswered),
        take_answers(read, answers)
    );
    ended.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

async fn write_small(
    mut writer: impl AsyncWrite + Unpin,
    first: Transfer,
    outbox: &Outbox,
    unanswered: mpsc::Sender<Done>,
) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(2 * CHUNK);
    buffer.put_u8(BULK_STREAM);
    let mut next = Some(first);
    loop {
        while let Some(transfer) = next.take() {
            match head(&transfer) {
                Ok(head) => {
                    buffer.put_slice(&head);
                    buffer.put_slice(&transfer.body);
                    buffer.put_u64_le(xxh3_64(&transfer.body));
                    outbox.count_sent(head.len() + transfer.body.len());
                    if unanswered.try_reserve().is_err() {
                        // Answers only come for what was written.
                        writer.write_all(&buffer).await?;
                        writer.flush().await?;
                        buffer.clear();
                    }
                    if unanswered.send(transfer.done).await.is_err() {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(reason) => transfer.done.call(Err(reason)),
            }
            if buffer.len() < CHUNK {
                next = outbox.take_small();
            }
        }
        writer.write_all(&buffer).await?;
        buffer.clear();
        next = outbox.take_small();
        if next.is_none() {
            writer.flush().await?;
            next = Some(outbox.next_small().await);
        }
    }
}

async fn take_answers(
    reader: impl AsyncRead + Unpin,
    mut answers: mpsc::Receiver<Done>,
) -> io::Result<()> {
    let mut reader = tokio::io::BufReader::new(reader);
    while let Some(done) = answers.recv().await {
        done.call(read_answer(&mut reader).await?);
    }
    Ok(())
}

async fn read_answer(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<Result<(), String>> {
    match reader.read_u8().await? {
        0 => Ok(Ok(())),
        1 => {
            let length = usize::from(reader.read_u16_le().await?);
            if length > REASON {
                return Err(invalid(format!("a reason of {length} bytes")));
            }
            let mut reason = vec![0; length];
            reader.read_exact(&mut reason).await?;
            Ok(Err(String::from_utf8_lossy(&reason).into_owned()))
        }
        other => Err(invalid(format!("{other} is no answer to a bulk transfer"))),
    }
}

fn put_answer(buffer: &mut BytesMut, outcome: Result<(), &str>) {
    match outcome {
        Ok(()) => buffer.put_u8(0),
        Err(reason) => {
            let reason = &reason.as_bytes()[..reason.len().min(REASON)];
            buffer.put_u8(1);
            buffer.put_u16_le(reason.len() as u16);
            buffer.put_slice(reason);
        }
    }
}

/// Sends the large transfers of a link, some at a time, each on a stream of its own. One that
/// fails does not close the link.
pub(super) async fn send_large(streams: Arc<dyn Streams>, outbox: Arc<Outbox>) {
    let mut under_way = JoinSet::new();
    loop {
        if under_way.len() >= LARGE_AT_ONCE {
            under_way.join_next().await;
        }
        let transfer = outbox.next_large().await;
        under_way.spawn(send_one(Arc::clone(&streams), transfer, Arc::clone(&outbox)));
        while under_way.try_join_next().is_some() {}
    }
}

async fn send_one(streams: Arc<dyn Streams>, transfer: Transfer, outbox: Arc<Outbox>) {
    let outcome = match head(&transfer) {
        Ok(head) => match write_one(&*streams, &head, &transfer.body, &outbox).await {
            Ok(answer) => answer,
            Err(error) => Err(format!("the transfer broke off: {error}")),
        },
        Err(reason) => Err(reason),
    };
    transfer.done.call(outcome);
}

async fn write_one(
    streams: &dyn Streams,
    head: &[u8],
    body: &[u8],
    outbox: &Outbox,
) -> io::Result<Result<(), String>> {
    let (mut reader, mut writer) = tokio::io::split(streams.open().await?);
    let write = async {
        writer.write_u8(BULK_STREAM).await?;
        writer.write_all(head).await?;
        let mut checksum = Xxh3::new();
        for chunk in body.chunks(CHUNK) {
            checksum.update(chunk);
            writer.write_all(chunk).await?;
            outbox.count_sent(chunk.len());
        }
        writer.write_all(&checksum.digest().to_le_bytes()).await?;
        writer.flush().await
    };
    let answer = read_answer(&mut reader);
    tokio::pin!(answer);
    // A refusal comes before the body is written.
    let answer = tokio::select! {
        biased;
        early = &mut answer => return early,
        written = write => match written {
            Ok(()) => answer.await?,
            // The refusal may have come with the end of the stream.
            Err(error) => return answer.await.map_err(|_| error),
        },
    };
    let _ = writer.shutdown().await;
    Ok(answer)
}

/// Receives transfers from one stream until it ends. An error is the peer's fault and closes the
/// link.
pub(super) async fn receive(
    stream: Stream,
    outbox: Arc<Outbox>,
    limit: usize,
    events: mpsc::Sender<NetEvent>,
    intake: Arc<Intake>,
) -> io::Result<()> {
    let (reader, mut writer) = tokio::io::split(stream);
    let mut reader = tokio::io::BufReader::with_capacity(CHUNK, reader);
    let mut answers = BytesMut::new();
    loop {
        if reader.buffer().is_empty() && !answers.is_empty() {
            writer.write_all(&answers).await?;
            writer.flush().await?;
            answers.clear();
        }
        let mut head = [0; HEAD];
        match reader.read_exact(&mut head[..1]).await {
            Ok(_) => reader.read_exact(&mut head[1..]).await?,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut lengths = &head[..];
        let header_length = lengths.get_u32_le() as usize;
        let claimed = lengths.get_u64_le();
        if header_length > wire::BULK_HEADER_LIMIT {
            return Err(invalid(format!("a bulk header of {header_length} bytes")));
        }
        let header = read_exactly(&mut reader, header_length, &outbox).await?;
        let header =
            wire::decode_bulk_header(&header).map_err(|error| invalid(error.to_string()))?;
        let length = usize::try_from(claimed).ok().filter(|length| *length <= limit);
        let Some(length) = length else {
            let reason = format!("the transfer has {claimed} bytes, the limit is {limit}");
            put_answer(&mut answers, Err(&reason));
            if claimed <= SMALL_BULK as u64 {
                skip(&mut reader, claimed + 8).await?;
                continue;
            }
            writer.write_all(&answers).await?;
            writer.flush().await?;
            // The sender stops when it has read the answer; what it has written by then is read,
            // so that the answer is not lost with the stream.
            return skip(&mut reader, claimed.min(ON_THE_WAY)).await.or(Ok(()));
        };
        let body = read_exactly(&mut reader, length, &outbox).await?;
        let checksum = reader.read_u64_le().await?;
        if xxh3_64(&body) != checksum {
            put_answer(&mut answers, Err("the checksum is wrong"));
            continue;
        }
        let place = intake.enter(Duration::ZERO).await;
        let event = NetEvent::Bulk { from: outbox.run, header, body, place };
        if events.send(event).await.is_err() {
            return Ok(());
        }
        put_answer(&mut answers, Ok(()));
    }
}

/// Reads so many bytes; memory is taken, and they are counted, as they arrive.
async fn read_exactly(
    reader: &mut (impl AsyncRead + Unpin),
    length: usize,
    outbox: &Outbox,
) -> io::Result<Bytes> {
    let mut bytes = BytesMut::with_capacity(length.min(SMALL_BULK));
    let mut rest = reader.take(length as u64);
    while bytes.len() < length {
        if bytes.capacity() == bytes.len() {
            bytes.reserve(bytes.len().min(length - bytes.len()).max(1));
        }
        match rest.read_buf(&mut bytes).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => outbox.count_received(read),
        }
    }
    Ok(bytes.freeze())
}

async fn skip(reader: &mut (impl AsyncRead + Unpin), length: u64) -> io::Result<()> {
    tokio::io::copy(&mut reader.take(length), &mut tokio::io::sink()).await.map(drop)
}
