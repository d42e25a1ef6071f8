//! One end of a path by a third member: windows, the cutting of frames into bytes and back, and the
//! transfers beside them.
//!
//! Each end may send [`PathStream::window`] bytes of a stream, then as many as the other end gives
//! credit for. So the member between never holds more than a window for each stream and direction.

use bytes::{Buf, Bytes, BytesMut};

use super::{
    Violation,
    transfer::{Arrived, Receiver, Sender, TransferLimits},
};
use crate::model::frame::PathStream;

/// The windows of one stream at one end.
#[derive(Debug)]
struct Flow {
    stream: PathStream,
    /// Bytes that may still be sent.
    room: usize,
    /// Received and not taken in.
    unread: usize,
    /// Taken in, and the other end was not told.
    owed: usize,
}

impl Flow {
    fn new(stream: PathStream) -> Self {
        Self { stream, room: stream.window(), unread: 0, owed: 0 }
    }

    fn credited(&mut self, bytes: u32) -> Result<(), Violation> {
        let room = self.room.saturating_add(bytes as usize);
        if room > self.stream.window() {
            return Err(Violation("credit for more than was sent".to_owned()));
        }
        self.room = room;
        Ok(())
    }

    fn received(&mut self, bytes: usize) -> Result<(), Violation> {
        self.unread += bytes;
        if self.unread + self.owed > self.stream.window() {
            return Err(Violation("more bytes than the path's window".to_owned()));
        }
        Ok(())
    }

    fn taken(&mut self, bytes: usize) {
        self.unread -= bytes;
        self.owed += bytes;
    }

    /// What the other end is told, a quarter of the window at a time.
    fn credit(&mut self) -> Option<u32> {
        if self.owed < self.stream.window() / 4 {
            return None;
        }
        u32::try_from(std::mem::take(&mut self.owed)).ok()
    }
}

/// What came of bytes that were taken in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Delivery<T> {
    /// A data frame, without its length.
    Frame(Bytes),
    /// A whole transfer; [`PathEnd::answer`] says what became of it.
    State(Arrived),
    /// A transfer of this end was answered.
    Answered(T, Result<(), String>),
}

#[derive(Debug)]
enum Role<T> {
    Origin(Sender<T>),
    Target(Receiver),
}

/// What the end of a path takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PathLimits {
    /// The largest data frame in bytes.
    pub(crate) frame: usize,
    /// The largest transfer.
    pub(crate) transfer: TransferLimits,
}

/// One end of a path. `T` is what the answer to a transfer is told to.
#[derive(Debug)]
pub(crate) struct PathEnd<T> {
    frame_limit: usize,
    messages: Flow,
    states: Flow,
    /// Frames behind their lengths that are to be sent.
    staged: BytesMut,
    /// A frame that is not whole yet.
    partial: BytesMut,
    role: Role<T>,
}

impl<T> PathEnd<T> {
    /// The end whose lanes use the path.
    pub(crate) fn origin(limits: PathLimits) -> Self {
        Self::new(limits, Role::Origin(Sender::default()))
    }

    /// The other end.
    pub(crate) fn target(limits: PathLimits) -> Self {
        Self::new(limits, Role::Target(Receiver::new(limits.transfer)))
    }

    fn new(limits: PathLimits, role: Role<T>) -> Self {
        Self {
            frame_limit: limits.frame,
            messages: Flow::new(PathStream::Messages),
            states: Flow::new(PathStream::States),
            staged: BytesMut::new(),
            partial: BytesMut::new(),
            role,
        }
    }

    /// How many more bytes of frames are worth staging.
    pub(crate) fn room(&self) -> usize {
        self.messages.room.saturating_sub(self.staged.len())
    }

    /// Where frames go, each behind its length.
    pub(crate) fn staged(&mut self) -> &mut BytesMut {
        &mut self.staged
    }

    /// Whether [`next`](Self::next) would give bytes.
    pub(crate) fn has_bytes(&self, stream: PathStream) -> bool {
        match stream {
            PathStream::Messages => self.messages.room > 0 && !self.staged.is_empty(),
            PathStream::States => {
                self.states.room > 0
                    && match &self.role {
                        Role::Origin(sender) => sender.has_bytes(),
                        Role::Target(receiver) => receiver.has_answers(),
                    }
            }
        }
    }

    /// The next bytes to be sent, at most so many.
    pub(crate) fn next(&mut self, stream: PathStream, most: usize) -> Option<Bytes> {
        match stream {
            PathStream::Messages => {
                let most = most.min(self.messages.room).min(self.staged.len());
                self.messages.room -= most;
                (most > 0).then(|| self.staged.split_to(most).freeze())
            }
            PathStream::States => {
                let most = most.min(self.states.room);
                let bytes = match &mut self.role {
                    Role::Origin(sender) => sender.next(most),
                    Role::Target(receiver) => receiver.next_answer(most),
                }?;
                self.states.room -= bytes.len();
                Some(bytes)
            }
        }
    }

    /// The other end has taken so many bytes in.
    pub(crate) fn credited(&mut self, stream: PathStream, bytes: u32) -> Result<(), Violation> {
        match stream {
            PathStream::Messages => self.messages.credited(bytes),
            PathStream::States => self.states.credited(bytes),
        }
    }

    /// The credit that the other end is to be given now.
    pub(crate) fn credits(&mut self) -> impl Iterator<Item = (PathStream, u32)> {
        [&mut self.messages, &mut self.states]
            .into_iter()
            .filter_map(|flow| Some((flow.stream, flow.credit()?)))
    }

    /// Takes bytes of the other end in.
    pub(crate) fn received(
        &mut self,
        stream: PathStream,
        bytes: Bytes,
    ) -> Result<Vec<Delivery<T>>, Violation> {
        match stream {
            PathStream::Messages => {
                self.messages.received(bytes.len())?;
                self.messages.taken(bytes.len());
                self.partial.extend_from_slice(&bytes);
                let mut frames = Vec::new();
                while let Some(head) = self.partial.first_chunk::<4>() {
                    let length = u32::from_le_bytes(*head) as usize;
                    if length > self.frame_limit {
                        return Err(Violation(format!(
                            "a data frame of {length} bytes, the limit is {}",
                            self.frame_limit
                        )));
                    }
                    if self.partial.len() < 4 + length {
                        break;
                    }
                    self.partial.advance(4);
                    frames.push(Delivery::Frame(self.partial.split_to(length).freeze()));
                }
                Ok(frames)
            }
            PathStream::States => {
                self.states.received(bytes.len())?;
                match &mut self.role {
                    Role::Origin(sender) => {
                        self.states.taken(bytes.len());
                        let answered = sender.answered(&bytes)?;
                        Ok(answered
                            .into_iter()
                            .map(|(token, outcome)| Delivery::Answered(token, outcome))
                            .collect())
                    }
                    Role::Target(receiver) => {
                        receiver.push(&bytes);
                        self.read()
                    }
                }
            }
        }
    }

    fn read(&mut self) -> Result<Vec<Delivery<T>>, Violation> {
        let Role::Target(receiver) = &mut self.role else { return Ok(Vec::new()) };
        let mut taken = 0;
        let arrived = receiver.read(&mut taken);
        self.states.taken(taken);
        Ok(arrived?.map(Delivery::State).into_iter().collect())
    }

    /// Transfers of this end that are not answered.
    pub(crate) fn transfers(&self) -> usize {
        match &self.role {
            Role::Origin(sender) => sender.len(),
            Role::Target(_) => 0,
        }
    }

    /// Queues a transfer. Gives the token back at the end that does not send any.
    pub(crate) fn push(&mut self, header: Bytes, body: Bytes, token: T) -> Result<(), T> {
        match &mut self.role {
            Role::Origin(sender) => {
                sender.push(header, body, token);
                Ok(())
            }
            Role::Target(_) => Err(token),
        }
    }

    /// What became of the transfer that arrived; the next one may be here already.
    pub(crate) fn answer(
        &mut self,
        outcome: Result<(), &str>,
    ) -> Result<Vec<Delivery<T>>, Violation> {
        if let Role::Target(receiver) = &mut self.role {
            receiver.answer(outcome);
        }
        self.read()
    }

    /// The transfers that have no answer: the path is over.
    pub(crate) fn into_unanswered(self) -> Vec<T> {
        match self.role {
            Role::Origin(sender) => sender.into_unanswered().collect(),
            Role::Target(_) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;

    use super::*;

    const LIMITS: PathLimits =
        PathLimits { frame: 2 << 20, transfer: TransferLimits { header: 100, body: 4 << 20 } };

    fn ends() -> (PathEnd<u8>, PathEnd<u8>) {
        (PathEnd::origin(LIMITS), PathEnd::target(LIMITS))
    }

    fn stage(end: &mut PathEnd<u8>, frame: &[u8]) {
        end.staged().put_u32_le(frame.len() as u32);
        end.staged().put_slice(frame);
    }

    /// Carries all that may go of one stream.
    fn carry(
        stream: PathStream,
        from: &mut PathEnd<u8>,
        to: &mut PathEnd<u8>,
    ) -> (usize, Vec<Delivery<u8>>) {
        let (mut bytes, mut all) = (0, Vec::new());
        while let Some(part) = from.next(stream, 1_000) {
            bytes += part.len();
            all.extend(to.received(stream, part).expect("the protocol is kept"));
        }
        (bytes, all)
    }

    fn give_credit(from: &mut PathEnd<u8>, to: &mut PathEnd<u8>) -> usize {
        let credits: Vec<_> = from.credits().collect();
        for (stream, bytes) in &credits {
            to.credited(*stream, *bytes).expect("no more than was sent");
        }
        credits.len()
    }

    #[test]
    fn frames_come_out_whole_and_in_order_and_no_window_is_exceeded() {
        let (mut a, mut b) = ends();
        let stream = PathStream::Messages;
        // One frame is larger than the window.
        let frames: Vec<Vec<u8>> =
            [1, 2_000, 0, 1 << 20, 3].map(|length| vec![length as u8; length]).into();
        for frame in &frames {
            stage(&mut a, frame);
        }
        let mut seen = Vec::new();
        for _ in 0..10 {
            let (bytes, delivered) = carry(stream, &mut a, &mut b);
            assert!(bytes <= stream.window());
            seen.extend(delivered);
            give_credit(&mut b, &mut a);
        }
        let frames: Vec<_> = frames.into_iter().map(|f| Delivery::Frame(f.into())).collect();
        assert!(seen == frames);
        assert!(!a.has_bytes(stream));
    }

    #[test]
    fn without_credit_a_window_is_all_that_goes() {
        let (mut a, mut b) = ends();
        for stream in [PathStream::Messages, PathStream::States] {
            stage(&mut a, &vec![0; 1 << 20]);
            a.push(Bytes::new(), vec![0; 1 << 20].into(), 1).expect("the origin sends");
            let (bytes, _) = carry(stream, &mut a, &mut b);
            assert_eq!(bytes, stream.window());
            assert!(!a.has_bytes(stream));
        }
        assert_eq!(a.room(), 0);
    }

    #[test]
    fn who_sends_more_than_the_window_or_credits_more_than_was_sent_is_found_out() {
        let (mut a, mut b) = ends();
        a.credited(PathStream::Messages, 1).expect_err("nothing was sent");
        let stream = PathStream::States;
        // A transfer that waits for its answer takes nothing more in.
        a.push(Bytes::new(), Bytes::new(), 1).expect("the origin sends");
        let (_, delivered) = carry(stream, &mut a, &mut b);
        assert!(matches!(*delivered, [Delivery::State(_)]));
        let window = vec![0; stream.window()];
        b.received(stream, window.into()).expect_err("more than the window is unread");
    }

    #[test]
    fn a_state_beside_messages_is_credited_as_it_is_taken_in_and_answered() {
        let (mut a, mut b) = ends();
        let body = Bytes::from(vec![7; 2 << 20]);
        a.push(Bytes::from_static(b"head"), body.clone(), 9).expect("the origin sends");
        assert_eq!(a.transfers(), 1);
        let mut seen = Vec::new();
        while seen.is_empty() {
            seen = carry(PathStream::States, &mut a, &mut b).1;
            assert!(give_credit(&mut b, &mut a) > 0 || !seen.is_empty(), "it stands still");
        }
        let header = Bytes::from_static(b"head");
        assert!(seen == [Delivery::State(Arrived { header, body })]);
        assert!(b.answer(Ok(())).expect("the protocol is kept").is_empty());
        let (_, answers) = carry(PathStream::States, &mut b, &mut a);
        assert_eq!(answers, [Delivery::Answered(9, Ok(()))]);
        assert_eq!(a.transfers(), 0);
    }

    #[test]
    fn transfers_without_an_answer_are_given_back_at_the_end() {
        let (mut a, mut b) = ends();
        for token in 0..3 {
            a.push(Bytes::new(), Bytes::from_static(b"x"), token).expect("the origin sends");
        }
        a.next(PathStream::States, 50).expect("there are bytes");
        assert_eq!(a.into_unanswered(), [0, 1, 2]);
        assert_eq!(b.push(Bytes::new(), Bytes::new(), 1), Err(1));
        assert!(b.into_unanswered().is_empty());
    }

    #[test]
    fn a_frame_above_the_limit_ends_the_path() {
        let (_, mut b) = ends();
        let mut bytes = BytesMut::new();
        bytes.put_u32_le(LIMITS.frame as u32 + 1);
        b.received(PathStream::Messages, bytes.freeze()).expect_err("it is too large");
    }
}
