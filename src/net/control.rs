//! Frames of the control stream: the greeting, the words of engines, and what keeps a link.
//!
//! A frame is its length (u32, little endian, tag included), a tag byte and a body.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::room::Room;
use crate::model::id::Incarnation;

/// The first byte of a control stream.
pub(super) const CONTROL_STREAM: u8 = 1;
/// The first byte of the stream of user messages.
pub(super) const DATA_STREAM: u8 = 2;
/// The first byte of a stream of bulk transfers.
pub(super) const BULK_STREAM: u8 = 3;

/// What both ends of a control stream begin with; a u16 follows, the wire version. It stands
/// outside the frames, so that nodes of different versions can name the difference.
const MAGIC: [u8; 4] = *b"ahub";

/// How much is read at once at most.
const READ: usize = 16 * 1024;
/// The longest text of a [`CloseWord`] in bytes.
const TEXT: usize = 512;

const HELLO: u8 = 1;
const USE: u8 = 2;
const USING: u8 = 3;
const CLOSE: u8 = 4;
const WORD: u8 = 5;
const PING: u8 = 6;
const PONG: u8 = 7;

/// One frame of the control stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// An encoded Hello.
    Hello(Bytes),
    /// The node with the lower id chooses this connection.
    Use,
    /// The other agrees; the link stands.
    Using,
    /// The last frame: why this connection is closed.
    Close(CloseWord),
    /// An encoded word for the engine.
    Word(Bytes),
    /// Asks whether the reader of this stream is alive.
    Ping(u64),
    /// Answers.
    Pong(u64),
}

/// Why a node closes a connection, told to the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CloseWord {
    /// A link that stood is closed.
    Closed(String),
    /// The other end is not admitted.
    Refused(String),
    /// The other end's incarnation is fenced up to this one.
    Fenced(Incarnation),
    /// Another connection of the same two runs is in use.
    Duplicate,
    /// Another run with the other end's key, at this address, is linked, answers, and was there
    /// first.
    Twin(String),
}

impl CloseWord {
    /// The reason for logs.
    pub(super) fn reason(&self) -> String {
        match self {
            Self::Closed(text) | Self::Refused(text) => text.clone(),
            Self::Fenced(incarnation) => {
                format!("the incarnation is fenced up to {}", incarnation.started)
            }
            Self::Duplicate => "another connection of the same nodes is in use".to_owned(),
            Self::Twin(address) => format!("another process with the same key, at {address}"),
        }
    }
}

/// The bytes that open a control stream, for one end.
pub(super) fn put_preface(buffer: &mut BytesMut, version: u16) {
    buffer.put_slice(&MAGIC);
    buffer.put_u16_le(version);
}

/// The length that stands before a body of that many bytes, and the tag.
fn put_head(buffer: &mut BytesMut, tag: u8, body: usize) {
    // Bodies are at most a few MiB: words are checked when they are encoded, texts are cut.
    buffer.put_u32_le(u32::try_from(body + 1).unwrap_or(u32::MAX));
    buffer.put_u8(tag);
}

/// Appends a frame.
pub(super) fn put_frame(buffer: &mut BytesMut, frame: &Frame) {
    match frame {
        Frame::Hello(bytes) => put_body(buffer, HELLO, bytes),
        Frame::Use => put_body(buffer, USE, &[]),
        Frame::Using => put_body(buffer, USING, &[]),
        Frame::Close(word) => put_close(buffer, word),
        Frame::Word(bytes) => put_body(buffer, WORD, bytes),
        Frame::Ping(number) => put_body(buffer, PING, &number.to_le_bytes()),
        Frame::Pong(number) => put_body(buffer, PONG, &number.to_le_bytes()),
    }
}

fn put_body(buffer: &mut BytesMut, tag: u8, body: &[u8]) {
    put_head(buffer, tag, body.len());
    buffer.put_slice(body);
}

fn put_close(buffer: &mut BytesMut, word: &CloseWord) {
    let mut body = Vec::new();
    match word {
        CloseWord::Closed(text) => put_text(&mut body, 0, text),
        CloseWord::Refused(text) => put_text(&mut body, 1, text),
        CloseWord::Fenced(incarnation) => {
            body.push(2);
            body.extend_from_slice(&incarnation.started.to_le_bytes());
            body.extend_from_slice(&incarnation.nonce.to_le_bytes());
        }
        CloseWord::Duplicate => body.push(3),
        CloseWord::Twin(address) => put_text(&mut body, 4, address),
    }
    put_body(buffer, CLOSE, &body);
}

fn put_text(body: &mut Vec<u8>, code: u8, text: &str) {
    body.push(code);
    body.extend_from_slice(&text.as_bytes()[..text.len().min(TEXT)]);
}

fn take_text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(TEXT)]);
    // It ends up in logs: nobody else writes lines there.
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn take_close(mut body: Bytes) -> Option<CloseWord> {
    match body.try_get_u8().ok()? {
        0 => Some(CloseWord::Closed(take_text(&body))),
        1 => Some(CloseWord::Refused(take_text(&body))),
        2 => {
            let started = body.try_get_u64_le().ok()?;
            let nonce = body.try_get_u64_le().ok()?;
            Some(CloseWord::Fenced(Incarnation { started, nonce }))
        }
        3 => Some(CloseWord::Duplicate),
        4 => Some(CloseWord::Twin(take_text(&body))),
        _ => None,
    }
}

fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

fn parse(tag: u8, mut body: Bytes) -> io::Result<Frame> {
    let malformed = || invalid(format!("control frame {tag} is malformed"));
    let number = |body: &mut Bytes| body.try_get_u64_le().map_err(|_| malformed());
    match tag {
        HELLO => Ok(Frame::Hello(body)),
        USE => Ok(Frame::Use),
        USING => Ok(Frame::Using),
        CLOSE => take_close(body).map(Frame::Close).ok_or_else(malformed),
        WORD => Ok(Frame::Word(body)),
        PING => Ok(Frame::Ping(number(&mut body)?)),
        PONG => Ok(Frame::Pong(number(&mut body)?)),
        _ => Err(invalid(format!("control frame {tag} is unknown"))),
    }
}

/// Reads the frames of a control stream. Memory is taken as bytes arrive, not as they are claimed.
pub(super) struct ControlReader<R> {
    reader: R,
    buffer: BytesMut,
    room: Room,
    limit: usize,
}

impl<R: AsyncRead + Unpin> ControlReader<R> {
    /// `limit` is that of a frame's body.
    pub(super) fn new(reader: R, limit: usize) -> Self {
        Self { reader, buffer: BytesMut::new(), room: Room::up_to(READ), limit }
    }

    /// From now on bodies may be that large.
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Reads the bytes that open the stream, and tells the other end's wire version.
    pub(super) async fn preface(&mut self) -> io::Result<u16> {
        while self.buffer.len() < MAGIC.len() + 2 {
            self.more().await?;
        }
        if self.buffer.split_to(MAGIC.len())[..] != MAGIC {
            return Err(invalid("the other end speaks no words of this crate"));
        }
        Ok(self.buffer.get_u16_le())
    }

    /// The next frame. Loses nothing when it is cancelled.
    pub(super) async fn next(&mut self) -> io::Result<Frame> {
        loop {
            if let Some(frame) = self.take()? {
                return Ok(frame);
            }
            self.more().await?;
        }
    }

    fn take(&mut self) -> io::Result<Option<Frame>> {
        let Some(head) = self.buffer.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*head) as usize;
        if length == 0 || length > self.limit.saturating_add(1) {
            return Err(invalid(format!(
                "a control frame of {length} bytes, the limit is {}",
                self.limit
            )));
        }
        if self.buffer.len() < 4 + length {
            return Ok(None);
        }
        self.buffer.advance(4);
        let tag = self.buffer.get_u8();
        parse(tag, self.buffer.split_to(length - 1).freeze()).map(Some)
    }

    async fn more(&mut self) -> io::Result<()> {
        self.room.make(&mut self.buffer);
        match self.reader.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            bytes => {
                self.room.came(bytes);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Frame> {
        let incarnation = Incarnation { started: 7, nonce: u64::MAX };
        vec![
            Frame::Hello(Bytes::from_static(b"hello")),
            Frame::Use,
            Frame::Using,
            Frame::Word(Bytes::from(vec![9; 70_000])),
            Frame::Ping(1),
            Frame::Pong(u64::MAX),
            Frame::Close(CloseWord::Closed("bye".into())),
            Frame::Close(CloseWord::Refused(String::new())),
            Frame::Close(CloseWord::Fenced(incarnation)),
            Frame::Close(CloseWord::Duplicate),
            Frame::Close(CloseWord::Twin("/ip4/10.0.0.1/tcp/1".into())),
        ]
    }

    #[tokio::test]
    async fn frames_read_back_in_order() {
        let mut buffer = BytesMut::new();
        put_preface(&mut buffer, 3);
        all().iter().for_each(|frame| put_frame(&mut buffer, frame));
        let mut reader = ControlReader::new(&buffer[..], 100_000);
        assert_eq!(reader.preface().await.expect("a preface"), 3);
        for frame in all() {
            assert_eq!(reader.next().await.expect("a frame"), frame);
        }
        let end = reader.next().await.expect_err("the end");
        assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn a_frame_above_the_limit_is_refused_before_it_is_read() {
        let mut buffer = BytesMut::new();
        put_head(&mut buffer, WORD, 1_001);
        let mut reader = ControlReader::new(&buffer[..], 1_000);
        let error = reader.next().await.expect_err("too large");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains("1000"));
    }

    #[tokio::test]
    async fn a_reason_is_cut_and_cannot_write_lines_into_a_log() {
        let mut buffer = BytesMut::new();
        let long = format!("a\nb{}", "é".repeat(1_000));
        put_frame(&mut buffer, &Frame::Close(CloseWord::Refused(long)));
        let mut reader = ControlReader::new(&buffer[..], 1_000);
        let Frame::Close(CloseWord::Refused(text)) = reader.next().await.expect("a frame") else {
            panic!("not a refusal");
        };
        assert!(text.starts_with("a b") && text.len() < 520);
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, tag: u8) {
            let _ = parse(tag, Bytes::from(bytes.clone()));
            let mut reader = ControlReader::new(&[][..], 1_000);
            reader.buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = reader.take() {}
        }
    }
}
