//! Server-Sent Events (HTML standard, section 9.2.6).

use std::{mem, time::Duration};

/// The longest event, in bytes. A server that sends more is not ours.
const LONGEST: usize = 4 << 20;

/// One event.
#[derive(Debug, PartialEq)]
pub(crate) struct Frame {
    pub(crate) event: String,
    pub(crate) data: String,
}

/// An event is longer than what is held in memory for one.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("an event is longer than {LONGEST} bytes")]
pub(crate) struct TooLong;

/// Cuts bytes into events, however they are split.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    /// The next `\n` belongs to the `\r` before it.
    after_return: bool,
    /// A byte order mark may only stand at the beginning.
    begun: bool,
    event: String,
    data: String,
    has_data: bool,
    id: Option<String>,
    /// Behind which event a new stream has to go on.
    pub(crate) last_id: Option<String>,
    /// How long the server asks to wait before a new stream.
    pub(crate) retry: Option<Duration>,
}

impl Parser {
    /// For a stream that goes on behind this event.
    pub(crate) fn behind(last_id: Option<String>) -> Self {
        Self { last_id, ..Self::default() }
    }

    /// Takes bytes in; the events that they complete.
    ///
    /// # Errors
    /// [`TooLong`], after which the stream cannot be read on.
    pub(crate) fn handle(&mut self, bytes: &[u8]) -> Result<Vec<Frame>, TooLong> {
        let mut frames = Vec::new();
        for &byte in bytes {
            let is_second = mem::replace(&mut self.after_return, byte == b'\r') && byte == b'\n';
            match byte {
                b'\n' if is_second => {}
                b'\n' | b'\r' => frames.extend(self.end_line()),
                _ => self.line.push(byte),
            }
            if self.line.len() + self.data.len() > LONGEST {
                return Err(TooLong);
            }
        }
        Ok(frames)
    }

    fn end_line(&mut self) -> Option<Frame> {
        let line = mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        let begun = mem::replace(&mut self.begun, true);
        let line = if begun { &*line } else { line.trim_start_matches('\u{feff}') };
        if line.is_empty() {
            return self.end_event();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event),
            "data" => {
                if mem::replace(&mut self.has_data, true) {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            "retry" if value.bytes().all(|b| b.is_ascii_digit()) => {
                self.retry = value.parse().ok().map(Duration::from_millis).or(self.retry);
            }
            // A comment, or a field of a later version.
            _ => {}
        }
        None
    }

    fn end_event(&mut self) -> Option<Frame> {
        if let Some(id) = self.id.take() {
            self.last_id = (!id.is_empty()).then_some(id);
        }
        let (event, data) = (mem::take(&mut self.event), mem::take(&mut self.data));
        let event = if event.is_empty() { "message".to_owned() } else { event };
        // Without data it is no event, but `bye` needs none to be understood.
        (mem::take(&mut self.has_data) || event == "bye").then_some(Frame { event, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "\u{feff}retry: 2000\r\n\r\n: alive\n\nid: x-1\nevent: hub\n\
        data: {\"text\":\n data: \ndata:\"é\"}\n\nid:x-2\rdata: a\r\rid: x-3\nevent: bye\n\n\
        id: x-4\ndata: never ended";

    fn frame(event: &str, data: &str) -> Frame {
        Frame { event: event.into(), data: data.into() }
    }

    #[test]
    fn events_are_read_with_any_kind_of_line_end() {
        let mut parser = Parser::default();
        let expected =
            [frame("hub", "{\"text\":\n\"é\"}"), frame("message", "a"), frame("bye", "")];
        assert_eq!(parser.handle(STREAM.as_bytes()), Ok(expected.into()));
        assert_eq!(parser.retry, Some(Duration::from_secs(2)));
    }

    #[test]
    fn how_the_bytes_are_split_makes_no_difference() {
        let whole = Parser::default().handle(STREAM.as_bytes());
        let mut parser = Parser::default();
        let frames: Vec<_> =
            STREAM.bytes().flat_map(|byte| parser.handle(&[byte]).expect("short")).collect();
        assert_eq!(Ok(frames), whole);
    }

    #[test]
    fn a_stream_goes_on_behind_the_last_event_that_was_complete() {
        let mut parser = Parser::default();
        parser.handle(STREAM.as_bytes()).expect("short");
        assert_eq!(parser.last_id.as_deref(), Some("x-3"));
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut parser = Parser::default();
        let part = vec![b'x'; LONGEST / 2];
        assert_eq!(parser.handle(&part), Ok(vec![]));
        assert_eq!(parser.handle(&part), Ok(vec![]));
        assert_eq!(parser.handle(&part), Err(TooLong));
    }
}
