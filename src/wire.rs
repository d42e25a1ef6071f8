//! Bytes between nodes: words, Hellos and bulk headers as CBOR behind a version byte; data frames
//! in a compact form of their own.
//!
//! Whatever comes from a peer is bounded before it is decoded, decodes without panic, and must be
//! used up to the last byte.

use std::{cell::Cell, sync::Arc, time::Duration};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Serialize, de::DeserializeOwned};

use crate::model::{
    child::{Epoch, Route},
    frame::{DataFrame, PathClosed, PathId, PathStream, PathWord, Refusal, ReplyFailure},
    id::{ChildId, KindName, LaneId, NodeId, NodeRun, TopicName},
    member::Hello,
    message::{BulkHeader, PeerMessage},
    topic::Publication,
    trace::TraceContext,
};

/// The largest word, in bytes.
pub const CONTROL_LIMIT: usize = 4 << 20;
/// The largest Hello, in bytes.
pub const HELLO_LIMIT: usize = 64 << 10;
/// The largest header of a bulk transfer, in bytes.
pub const BULK_HEADER_LIMIT: usize = 1 << 20;
/// What a data frame takes beside the body of its message, at most.
pub const FRAME_OVERHEAD: usize = 1_024;

/// The first byte of every word, Hello and header.
const VERSION: u8 = 1;

/// Bodies below this many bytes are copied out of the buffer that they were read into: as a slice, a
/// body of a few bytes would keep the whole buffer for as long as its message waits. A longer one
/// fills most of its buffer.
const COPIED_BELOW: usize = 64 << 10;

/// Bytes that are not what they should be. The link they came by is closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// Larger than its limit.
    #[error("{what} has {size} bytes, the limit is {limit}")]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// Its bytes.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// Of another version.
    #[error("{what} is of wire version {version}, this node speaks {VERSION}")]
    Version {
        /// What it is.
        what: &'static str,
        /// The version it says.
        version: u8,
    },
    /// It does not decode.
    #[error("{what} does not decode: {reason}")]
    Malformed {
        /// What it is.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// It decodes and breaks the protocol.
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
    /// It could not be encoded.
    #[error("{what} could not be encoded: {reason}")]
    Encode {
        /// What it is.
        what: &'static str,
        /// What the encoder said.
        reason: String,
    },
}

fn encode<T: Serialize>(what: &'static str, value: &T, limit: usize) -> Result<Bytes, WireError> {
    /// As much room is kept for the next one.
    const KEPT: usize = 64 << 10;
    thread_local! {
        // The encoder writes a few bytes at a time: what it writes into has grown before.
        static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    let mut bytes = SCRATCH.take();
    bytes.clear();
    bytes.push(VERSION);
    let encoded = ciborium::into_writer(value, &mut bytes);
    let result = match encoded {
        Err(error) => Err(WireError::Encode { what, reason: error.to_string() }),
        Ok(()) if bytes.len() > limit => {
            Err(WireError::TooLarge { what, size: bytes.len(), limit })
        }
        Ok(()) => Ok(Bytes::copy_from_slice(&bytes)),
    };
    if bytes.capacity() <= KEPT {
        SCRATCH.set(bytes);
    }
    result
}

fn decode<T: DeserializeOwned>(
    what: &'static str,
    bytes: &[u8],
    limit: usize,
) -> Result<T, WireError> {
    if bytes.len() > limit {
        return Err(WireError::TooLarge { what, size: bytes.len(), limit });
    }
    match bytes.split_first() {
        Some((&VERSION, rest)) => decode_cbor(what, rest),
        Some((&version, _)) => Err(WireError::Version { what, version }),
        None => Err(WireError::Malformed { what, reason: "it is empty".to_owned() }),
    }
}

/// Decodes CBOR and refuses what is left over behind it.
pub(crate) fn decode_cbor<T: DeserializeOwned>(
    what: &'static str,
    mut bytes: &[u8],
) -> Result<T, WireError> {
    let value = ciborium::from_reader(&mut bytes)
        .map_err(|error| WireError::Malformed { what, reason: error.to_string() })?;
    if bytes.is_empty() {
        Ok(value)
    } else {
        let reason = format!("{} bytes are left over", bytes.len());
        Err(WireError::Malformed { what, reason })
    }
}

/// A word as CBOR, at most [`CONTROL_LIMIT`].
///
/// # Errors
/// [`WireError::TooLarge`] when it is larger, [`WireError::Encode`] when serde refuses it.
pub fn encode_message(message: &PeerMessage) -> Result<Bytes, WireError> {
    encode("word", message, CONTROL_LIMIT)
}

/// Reads a word.
///
/// # Errors
/// Whatever is wrong with the bytes.
pub fn decode_message(bytes: &[u8]) -> Result<PeerMessage, WireError> {
    decode("word", bytes, CONTROL_LIMIT)
}

/// A Hello as CBOR, at most [`HELLO_LIMIT`].
///
/// # Errors
/// [`WireError::TooLarge`] when it is larger, [`WireError::Encode`] when serde refuses it.
pub fn encode_hello(hello: &Hello) -> Result<Bytes, WireError> {
    encode("Hello", hello, HELLO_LIMIT)
}

/// Reads a Hello.
///
/// # Errors
/// Whatever is wrong with the bytes.
pub fn decode_hello(bytes: &[u8]) -> Result<Hello, WireError> {
    decode("Hello", bytes, HELLO_LIMIT)
}

/// A bulk header as CBOR, at most [`BULK_HEADER_LIMIT`].
///
/// # Errors
/// [`WireError::TooLarge`] when it is larger, [`WireError::Encode`] when serde refuses it.
pub fn encode_bulk_header(header: &BulkHeader) -> Result<Bytes, WireError> {
    encode("bulk header", header, BULK_HEADER_LIMIT)
}

/// Reads a bulk header.
///
/// # Errors
/// Whatever is wrong with the bytes.
pub fn decode_bulk_header(bytes: &[u8]) -> Result<BulkHeader, WireError> {
    decode("bulk header", bytes, BULK_HEADER_LIMIT)
}

const OPEN: u8 = 1;
const MESSAGE: u8 = 2;
const SETTLED: u8 = 3;
const ACCEPTED: u8 = 4;
const REPLY: u8 = 5;
const REFUSED: u8 = 6;
const LAST: u8 = 7;
const LAST_HEARD: u8 = 8;
const BUDGET: u8 = 9;
const DIRECT: u8 = 10;
const PATH: u8 = 11;
const CLOSED: u8 = 12;
const PUBLISHED: u8 = 13;

const WANTS_REPLY: u8 = 1;
const HAS_BUDGET: u8 = 2;
const HAS_TRACE: u8 = 4;

/// Appends a data frame behind its length: `u32` little-endian, then the frame.
pub fn append_frame(buffer: &mut BytesMut, frame: &DataFrame) {
    let at = buffer.len();
    buffer.put_u32_le(0);
    match frame {
        DataFrame::Open { lane, session, child, epoch } => {
            buffer.put_u8(OPEN);
            buffer.put_u64_le(lane.0);
            buffer.put_u64_le(*session);
            put_epoch(buffer, *epoch);
            put_text(buffer, child.as_str());
        }
        DataFrame::Message {
            lane,
            session,
            number,
            acknowledged,
            wants_reply,
            budget,
            trace,
            name,
            body,
        } => {
            buffer.put_u8(MESSAGE);
            let flags = if *wants_reply { WANTS_REPLY } else { 0 }
                | if budget.is_some() { HAS_BUDGET } else { 0 }
                | if trace.is_some() { HAS_TRACE } else { 0 };
            buffer.put_u8(flags);
            buffer.put_u64_le(lane.0);
            buffer.put_u64_le(*session);
            buffer.put_u64_le(*number);
            buffer.put_u64_le(*acknowledged);
            if let Some(budget) = budget {
                put_budget(buffer, *budget);
            }
            put_trace(buffer, trace.as_ref());
            put_text(buffer, name);
            buffer.put_slice(body);
        }
        DataFrame::Published(Publication { topic, known, trace, name, body }) => {
            buffer.put_u8(PUBLISHED);
            buffer.put_u8(if trace.is_some() { HAS_TRACE } else { 0 });
            buffer.put_u64_le(*known);
            put_trace(buffer, trace.as_ref());
            put_text(buffer, topic.as_str());
            put_text(buffer, name);
            buffer.put_slice(body);
        }
        DataFrame::Budget { lane, session, number, budget } => {
            buffer.put_u8(BUDGET);
            buffer.put_u64_le(lane.0);
            buffer.put_u64_le(*session);
            buffer.put_u64_le(*number);
            put_budget(buffer, *budget);
        }
        DataFrame::Acknowledged { lane, upto } => {
            buffer.put_u8(SETTLED);
            buffer.put_u64_le(lane.0);
            buffer.put_u64_le(*upto);
        }
        DataFrame::Closed { lane } => {
            buffer.put_u8(CLOSED);
            buffer.put_u64_le(lane.0);
        }
        DataFrame::Accepted { lane, upto } => {
            buffer.put_u8(ACCEPTED);
            buffer.put_u64_le(lane.0);
            buffer.put_u64_le(*upto);
        }
        DataFrame::Reply { lane, number, outcome } => {
            buffer.put_u8(REPLY);
            buffer.put_u64_le(lane.0);
            buffer.put_u64_le(*number);
            match outcome {
                Ok(body) => {
                    buffer.put_u8(0);
                    buffer.put_slice(body);
                }
                Err(ReplyFailure::NotRegistered(kind)) => {
                    buffer.put_u8(1);
                    put_text(buffer, kind.as_str());
                }
                Err(ReplyFailure::Decode(reason)) => {
                    buffer.put_u8(2);
                    put_text(buffer, reason);
                }
                Err(ReplyFailure::Expired) => buffer.put_u8(3),
                Err(ReplyFailure::Dropped) => buffer.put_u8(4),
                Err(ReplyFailure::Lost(reason)) => {
                    buffer.put_u8(5);
                    put_text(buffer, reason);
                }
            }
        }
        DataFrame::Refused { lane, session, why } => {
            buffer.put_u8(REFUSED);
            buffer.put_u64_le(lane.0);
            buffer.put_u64_le(*session);
            match why {
                Refusal::Moved(Route { owner, epoch }) => {
                    buffer.put_u8(0);
                    put_run(buffer, *owner);
                    put_epoch(buffer, *epoch);
                }
                Refusal::Stale(epoch) => {
                    buffer.put_u8(1);
                    put_epoch(buffer, *epoch);
                }
                Refusal::NotHere => buffer.put_u8(2),
                Refusal::Stopped => buffer.put_u8(3),
                Refusal::Full => buffer.put_u8(4),
                Refusal::GivenUp => buffer.put_u8(5),
            }
        }
        DataFrame::Last => buffer.put_u8(LAST),
        DataFrame::LastHeard => buffer.put_u8(LAST_HEARD),
        DataFrame::Direct { number } => {
            buffer.put_u8(DIRECT);
            buffer.put_u64_le(*number);
        }
        DataFrame::Path { path, word } => {
            buffer.put_u8(PATH);
            put_run(buffer, path.origin);
            buffer.put_u64_le(path.number);
            put_path_word(buffer, word);
        }
    }
    let length = u32::try_from(buffer.len() - at - 4).expect("a frame is far below 4 GiB");
    buffer[at..at + 4].copy_from_slice(&length.to_le_bytes());
}

fn put_path_word(buffer: &mut BytesMut, word: &PathWord) {
    let stream_of = |stream| match stream {
        PathStream::Messages => 0,
        PathStream::States => 1,
    };
    match word {
        PathWord::Open { to } => {
            buffer.put_u8(0);
            put_run(buffer, *to);
        }
        PathWord::Bytes { stream, bytes } => {
            buffer.put_u8(1);
            buffer.put_u8(stream_of(*stream));
            buffer.put_slice(bytes);
        }
        PathWord::Credit { stream, bytes } => {
            buffer.put_u8(2);
            buffer.put_u8(stream_of(*stream));
            buffer.put_u32_le(*bytes);
        }
        PathWord::Closed { why } => {
            buffer.put_u8(3);
            buffer.put_u8(match why {
                PathClosed::Replaced => 0,
                PathClosed::Stranger => 1,
                PathClosed::NoLink => 2,
                PathClosed::TooMany => 3,
                PathClosed::Protocol => 4,
            });
        }
    }
}

fn put_run(buffer: &mut BytesMut, run: NodeRun) {
    buffer.put_slice(run.node.key());
    buffer.put_u64_le(run.nonce);
}

fn put_epoch(buffer: &mut BytesMut, epoch: Epoch) {
    buffer.put_u64_le(epoch.term);
    buffer.put_u64_le(epoch.attempt);
}

fn put_trace(buffer: &mut BytesMut, trace: Option<&TraceContext>) {
    if let Some(trace) = trace {
        buffer.put_slice(&trace.trace_id);
        buffer.put_slice(&trace.span_id);
        buffer.put_u8(trace.flags);
    }
}

fn put_budget(buffer: &mut BytesMut, budget: Duration) {
    buffer.put_u32_le(u32::try_from(budget.as_millis()).unwrap_or(u32::MAX));
}

/// A text of at most 65,535 bytes; a longer one is cut at a character.
fn put_text(buffer: &mut BytesMut, text: &str) {
    let mut end = text.len().min(usize::from(u16::MAX));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    buffer.put_u16_le(u16::try_from(end).expect("cut above"));
    buffer.put_slice(&text.as_bytes()[..end]);
}

fn malformed(reason: &str) -> WireError {
    WireError::Malformed { what: "data frame", reason: reason.to_owned() }
}

struct Reader(Bytes);

impl Reader {
    fn need(&self, bytes: usize) -> Result<(), WireError> {
        if self.0.remaining() < bytes { Err(malformed("it ends too early")) } else { Ok(()) }
    }

    fn u8(&mut self) -> Result<u8, WireError> {
        self.need(1)?;
        Ok(self.0.get_u8())
    }

    fn u32(&mut self) -> Result<u32, WireError> {
        self.need(4)?;
        Ok(self.0.get_u32_le())
    }

    fn u64(&mut self) -> Result<u64, WireError> {
        self.need(8)?;
        Ok(self.0.get_u64_le())
    }

    fn budget(&mut self) -> Result<Duration, WireError> {
        self.u32().map(|millis| Duration::from_millis(u64::from(millis)))
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let mut bytes = [0; N];
        for byte in &mut bytes {
            *byte = self.u8()?;
        }
        Ok(bytes)
    }

    fn trace(&mut self) -> Result<TraceContext, WireError> {
        let (trace_id, span_id, flags) = (self.bytes()?, self.bytes()?, self.u8()?);
        Ok(TraceContext { trace_id, span_id, flags })
    }

    fn lane(&mut self) -> Result<LaneId, WireError> {
        self.u64().map(LaneId)
    }

    fn epoch(&mut self) -> Result<Epoch, WireError> {
        let epoch = Epoch { term: self.u64()?, attempt: self.u64()? };
        if epoch.is_plausible() { Ok(epoch) } else { Err(malformed("an absurd epoch")) }
    }

    fn text(&mut self) -> Result<String, WireError> {
        self.need(2)?;
        let length = usize::from(self.0.get_u16_le());
        self.need(length)?;
        String::from_utf8(self.0.split_to(length).into()).map_err(|_| malformed("text is no UTF-8"))
    }

    fn run(&mut self) -> Result<NodeRun, WireError> {
        self.need(32)?;
        let mut key = [0; 32];
        self.0.copy_to_slice(&mut key);
        Ok(NodeRun { node: NodeId::from_key(key), nonce: self.u64()? })
    }

    fn route(&mut self) -> Result<Route, WireError> {
        Ok(Route { owner: self.run()?, epoch: self.epoch()? })
    }

    fn stream(&mut self) -> Result<PathStream, WireError> {
        match self.u8()? {
            0 => Ok(PathStream::Messages),
            1 => Ok(PathStream::States),
            _ => Err(malformed("unknown stream")),
        }
    }

    fn path_word(&mut self) -> Result<PathWord, WireError> {
        Ok(match self.u8()? {
            0 => PathWord::Open { to: self.run()? },
            1 => {
                let stream = self.stream()?;
                let bytes = std::mem::take(&mut self.0);
                if bytes.len() > PathWord::LONGEST {
                    return Err(malformed("too many bytes of a path at once"));
                }
                PathWord::Bytes { stream, bytes }
            }
            2 => PathWord::Credit { stream: self.stream()?, bytes: self.u32()? },
            3 => PathWord::Closed {
                why: match self.u8()? {
                    0 => PathClosed::Replaced,
                    1 => PathClosed::Stranger,
                    2 => PathClosed::NoLink,
                    3 => PathClosed::TooMany,
                    4 => PathClosed::Protocol,
                    _ => return Err(malformed("unknown reason")),
                },
            },
            _ => return Err(malformed("unknown word of a path")),
        })
    }

    /// What is left, as bytes that hold about as much memory as they are long.
    fn rest(self) -> Bytes {
        if self.0.len() < COPIED_BELOW { Bytes::copy_from_slice(&self.0) } else { self.0 }
    }

    fn end(self, frame: DataFrame) -> Result<DataFrame, WireError> {
        if self.0.is_empty() { Ok(frame) } else { Err(malformed("bytes are left over")) }
    }
}

/// Reads a data frame, without its length. Bodies of messages and replies are copies if they are
/// shorter than 64 KiB, and slices of `bytes` if not; the bytes of a path are a slice.
///
/// # Errors
/// [`WireError::Malformed`] says what is wrong.
pub fn decode_frame(bytes: Bytes) -> Result<DataFrame, WireError> {
    let mut reader = Reader(bytes);
    match reader.u8()? {
        OPEN => {
            let (lane, session, epoch) = (reader.lane()?, reader.u64()?, reader.epoch()?);
            let child = ChildId::new(reader.text()?).map_err(|e| malformed(&e.to_string()))?;
            reader.end(DataFrame::Open { lane, session, child, epoch })
        }
        MESSAGE => {
            let flags = reader.u8()?;
            if flags & !(WANTS_REPLY | HAS_BUDGET | HAS_TRACE) != 0 {
                return Err(malformed("unknown flags"));
            }
            let (lane, session) = (reader.lane()?, reader.u64()?);
            let (number, acknowledged) = (reader.u64()?, reader.u64()?);
            let budget = if flags & HAS_BUDGET == 0 { None } else { Some(reader.budget()?) };
            let trace = if flags & HAS_TRACE == 0 { None } else { Some(reader.trace()?) };
            let name: Arc<str> = reader.text()?.into();
            Ok(DataFrame::Message {
                lane,
                session,
                number,
                acknowledged,
                wants_reply: flags & WANTS_REPLY != 0,
                budget,
                trace,
                name,
                body: reader.rest(),
            })
        }
        PUBLISHED => {
            let flags = reader.u8()?;
            if flags & !HAS_TRACE != 0 {
                return Err(malformed("unknown flags"));
            }
            let known = reader.u64()?;
            let trace = if flags & HAS_TRACE == 0 { None } else { Some(reader.trace()?) };
            let topic = TopicName::new(reader.text()?).map_err(|e| malformed(&e.to_string()))?;
            let name: Arc<str> = reader.text()?.into();
            let body = reader.rest();
            Ok(DataFrame::Published(Publication { topic, known, trace, name, body }))
        }
        BUDGET => {
            let (lane, session) = (reader.lane()?, reader.u64()?);
            let (number, budget) = (reader.u64()?, reader.budget()?);
            reader.end(DataFrame::Budget { lane, session, number, budget })
        }
        SETTLED => {
            let frame = DataFrame::Acknowledged { lane: reader.lane()?, upto: reader.u64()? };
            reader.end(frame)
        }
        CLOSED => {
            let frame = DataFrame::Closed { lane: reader.lane()? };
            reader.end(frame)
        }
        ACCEPTED => {
            let frame = DataFrame::Accepted { lane: reader.lane()?, upto: reader.u64()? };
            reader.end(frame)
        }
        REPLY => {
            let (lane, number) = (reader.lane()?, reader.u64()?);
            let failure = match reader.u8()? {
                0 => {
                    let outcome = Ok(reader.rest());
                    return Ok(DataFrame::Reply { lane, number, outcome });
                }
                1 => {
                    let kind =
                        KindName::new(reader.text()?).map_err(|e| malformed(&e.to_string()))?;
                    ReplyFailure::NotRegistered(kind)
                }
                2 => ReplyFailure::Decode(reader.text()?),
                3 => ReplyFailure::Expired,
                4 => ReplyFailure::Dropped,
                5 => ReplyFailure::Lost(reader.text()?),
                _ => return Err(malformed("unknown outcome")),
            };
            reader.end(DataFrame::Reply { lane, number, outcome: Err(failure) })
        }
        REFUSED => {
            let (lane, session) = (reader.lane()?, reader.u64()?);
            let why = match reader.u8()? {
                0 => Refusal::Moved(reader.route()?),
                1 => Refusal::Stale(reader.epoch()?),
                2 => Refusal::NotHere,
                3 => Refusal::Stopped,
                4 => Refusal::Full,
                5 => Refusal::GivenUp,
                _ => return Err(malformed("unknown refusal")),
            };
            reader.end(DataFrame::Refused { lane, session, why })
        }
        LAST => reader.end(DataFrame::Last),
        LAST_HEARD => reader.end(DataFrame::LastHeard),
        DIRECT => {
            let frame = DataFrame::Direct { number: reader.u64()? };
            reader.end(frame)
        }
        PATH => {
            let path = PathId { origin: reader.run()?, number: reader.u64()? };
            let frame = DataFrame::Path { path, word: reader.path_word()? };
            reader.end(frame)
        }
        _ => Err(malformed("unknown tag")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{
        id::Incarnation,
        member::ViewId,
        message::{MemberWord, Pulse},
    };

    fn epoch() -> impl Strategy<Value = Epoch> {
        (0..=Epoch::LIMIT, 0..=Epoch::LIMIT).prop_map(|(term, attempt)| Epoch { term, attempt })
    }

    fn run() -> impl Strategy<Value = NodeRun> {
        (any::<[u8; 32]>(), any::<u64>())
            .prop_map(|(key, nonce)| NodeRun { node: NodeId::from_key(key), nonce })
    }

    fn route() -> impl Strategy<Value = Route> {
        (run(), epoch()).prop_map(|(owner, epoch)| Route { owner, epoch })
    }

    fn path_word() -> impl Strategy<Value = PathWord> {
        let stream = || prop_oneof![Just(PathStream::Messages), Just(PathStream::States)];
        let why = prop_oneof![
            Just(PathClosed::Replaced),
            Just(PathClosed::Stranger),
            Just(PathClosed::NoLink),
            Just(PathClosed::TooMany),
            Just(PathClosed::Protocol),
        ];
        prop_oneof![
            run().prop_map(|to| PathWord::Open { to }),
            (stream(), body()).prop_map(|(stream, bytes)| PathWord::Bytes { stream, bytes }),
            (stream(), any::<u32>()).prop_map(|(stream, bytes)| PathWord::Credit { stream, bytes }),
            why.prop_map(|why| PathWord::Closed { why }),
        ]
    }

    fn body() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..64).prop_map(Bytes::from)
    }

    fn failure() -> impl Strategy<Value = ReplyFailure> {
        prop_oneof![
            "[a-z]{1,9}"
                .prop_map(|k| ReplyFailure::NotRegistered(KindName::new(k).expect("valid"))),
            ".{0,9}".prop_map(ReplyFailure::Decode),
            Just(ReplyFailure::Expired),
            Just(ReplyFailure::Dropped),
            ".{0,9}".prop_map(ReplyFailure::Lost),
        ]
    }

    fn frame() -> impl Strategy<Value = DataFrame> {
        let lane = any::<u64>().prop_map(LaneId);
        prop_oneof![
            (lane.clone(), any::<u64>(), "[a-z]{1,20}", epoch()).prop_map(
                |(lane, session, child, epoch)| {
                    let child = ChildId::new(child).expect("a valid id");
                    DataFrame::Open { lane, session, child, epoch }
                }
            ),
            (
                lane.clone(),
                any::<u64>(),
                any::<u64>(),
                any::<u64>(),
                any::<bool>(),
                proptest::option::of(any::<u32>()),
                proptest::option::of(any::<([u8; 16], [u8; 8], u8)>()),
                ".{0,20}",
                body()
            )
                .prop_map(
                    |(
                        lane,
                        session,
                        number,
                        acknowledged,
                        wants_reply,
                        budget,
                        trace,
                        name,
                        body,
                    )| {
                        let trace = trace.map(|(trace_id, span_id, flags)| TraceContext {
                            trace_id,
                            span_id,
                            flags,
                        });
                        let budget = budget.map(|ms| Duration::from_millis(ms.into()));
                        DataFrame::Message {
                            lane,
                            session,
                            number,
                            acknowledged,
                            wants_reply,
                            budget,
                            trace,
                            name: name.into(),
                            body,
                        }
                    }
                ),
            (lane.clone(), any::<u64>())
                .prop_map(|(lane, upto)| DataFrame::Acknowledged { lane, upto }),
            (lane.clone(), any::<u64>(), any::<u64>(), any::<u32>()).prop_map(
                |(lane, session, number, millis)| DataFrame::Budget {
                    lane,
                    session,
                    number,
                    budget: Duration::from_millis(u64::from(millis)),
                }
            ),
            (lane.clone(), any::<u64>())
                .prop_map(|(lane, upto)| DataFrame::Accepted { lane, upto }),
            (lane.clone(), any::<u64>(), proptest::result::maybe_ok(body(), failure()))
                .prop_map(|(lane, number, outcome)| DataFrame::Reply { lane, number, outcome }),
            (
                lane,
                any::<u64>(),
                prop_oneof![
                    route().prop_map(Refusal::Moved),
                    epoch().prop_map(Refusal::Stale),
                    Just(Refusal::NotHere),
                    Just(Refusal::Stopped),
                    Just(Refusal::Full),
                    Just(Refusal::GivenUp)
                ]
            )
                .prop_map(|(lane, session, why)| DataFrame::Refused {
                    lane,
                    session,
                    why
                }),
            Just(DataFrame::Last),
            any::<u64>().prop_map(|lane| DataFrame::Closed { lane: LaneId(lane) }),
            (
                "[a-z. ]{1,20}",
                any::<u64>(),
                proptest::option::of(any::<([u8; 16], [u8; 8], u8)>()),
                "[a-z.]{1,20}",
                body()
            )
                .prop_map(|(topic, known, trace, name, body)| {
                    let topic = TopicName::new(topic).expect("a valid name");
                    let trace = trace.map(|(trace_id, span_id, flags)| TraceContext {
                        trace_id,
                        span_id,
                        flags,
                    });
                    DataFrame::Published(Publication {
                        topic,
                        known,
                        trace,
                        name: name.into(),
                        body,
                    })
                }),
            Just(DataFrame::LastHeard),
            any::<u64>().prop_map(|number| DataFrame::Direct { number }),
            (run(), any::<u64>(), path_word()).prop_map(|(origin, number, word)| DataFrame::Path {
                path: PathId { origin, number },
                word
            }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn a_frame_reads_back(frame in frame()) {
            let mut buffer = BytesMut::new();
            append_frame(&mut buffer, &frame);
            let length = u32::from_le_bytes(buffer[..4].try_into().expect("four bytes"));
            prop_assert_eq!(length as usize, buffer.len() - 4);
            prop_assert_eq!(decode_frame(buffer.freeze().slice(4..)), Ok(frame));
        }

        #[test]
        fn no_bytes_make_a_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_message(&bytes);
            let _ = decode_hello(&bytes);
            let _ = decode_bulk_header(&bytes);
            let _ = decode_frame(bytes.into());
        }

        #[test]
        fn a_cut_frame_is_refused(frame in frame(), cut in 1_usize..8) {
            let mut buffer = BytesMut::new();
            append_frame(&mut buffer, &frame);
            let bytes = buffer.freeze().slice(4..);
            let has_rest = matches!(
                frame,
                DataFrame::Message { .. }
                    | DataFrame::Published(_)
                    | DataFrame::Reply { outcome: Ok(_), .. }
                    | DataFrame::Path { word: PathWord::Bytes { .. }, .. }
            );
            if !has_rest && cut < bytes.len() {
                prop_assert!(decode_frame(bytes.slice(..bytes.len() - cut)).is_err());
            }
        }
    }

    #[test]
    fn a_short_body_does_not_keep_the_buffer_that_it_was_read_into() {
        for (length, is_copied) in
            [(0, true), (64, true), (COPIED_BELOW - 1, true), (COPIED_BELOW, false)]
        {
            let body = Bytes::from(vec![7; length]);
            for frame in [
                DataFrame::Message {
                    lane: LaneId(1),
                    session: 1,
                    number: 1,
                    acknowledged: 1,
                    wants_reply: true,
                    budget: None,
                    trace: None,
                    name: "add".into(),
                    body: body.clone(),
                },
                DataFrame::Reply { lane: LaneId(1), number: 1, outcome: Ok(body.clone()) },
                DataFrame::Published(Publication {
                    topic: TopicName::new("news").expect("a valid name"),
                    known: 1,
                    trace: None,
                    name: "add".into(),
                    body: body.clone(),
                }),
            ] {
                let mut buffer = BytesMut::with_capacity(2 * COPIED_BELOW);
                append_frame(&mut buffer, &frame);
                buffer.advance(4);
                let read = buffer.split().freeze();
                let decoded = decode_frame(read.clone()).expect("it decodes");
                assert_eq!(decoded, frame);
                drop(buffer);
                assert_eq!(read.is_unique(), is_copied, "{length} bytes");
            }
        }
    }

    fn word() -> PeerMessage {
        PeerMessage::Member(MemberWord::Heartbeat {
            incarnation: Incarnation { started: 1, nonce: 2 },
            number: 7,
            next: 1_000,
            wants_all: false,
            view: ViewId(3),
            pulse: Pulse { sent: 4, echo: Some(5), held: 6 },
            hears: None,
            fence: None,
            version: 0,
            revision: 0,
            status: None,
        })
    }

    #[test]
    fn a_word_reads_back_and_nothing_may_be_left_over() {
        let bytes = encode_message(&word()).expect("it encodes");
        assert_eq!(decode_message(&bytes), Ok(word()));
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert!(matches!(decode_message(&longer), Err(WireError::Malformed { .. })));
    }

    #[test]
    fn another_version_is_named() {
        let mut bytes = encode_message(&word()).expect("it encodes").to_vec();
        bytes[0] = 9;
        assert_eq!(decode_message(&bytes), Err(WireError::Version { what: "word", version: 9 }));
    }

    #[test]
    fn a_word_above_its_limit_is_refused_before_it_is_decoded() {
        let error = decode_hello(&vec![1; HELLO_LIMIT + 1]).expect_err("too large");
        let size = HELLO_LIMIT + 1;
        assert_eq!(error, WireError::TooLarge { what: "Hello", size, limit: HELLO_LIMIT });
    }
}
