//! Bulk transfers over a path: the sending and the receiving end, as machines over bytes.
//!
//! A transfer is the header's length (u32, little endian), the body's length (u64), the header, the
//! body, and the xxh3 of the body (u64), one after another. Each is answered in order: a zero, or a
//! one, a length (u16) and a reason. It is the form of transfers over a link.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use xxhash_rust::xxh3::xxh3_64;

use super::Violation;

/// Lengths of header and body.
const HEAD: usize = 12;
const CHECKSUM: usize = 8;
/// The longest reason in bytes.
const REASON: usize = 512;
/// Memory for a body that is taken before any of it has arrived; from there on it doubles.
const FIRST: usize = 64 << 10;

/// A transfer with its answer.
pub(crate) type Answered<T> = (T, Result<(), String>);

/// One transfer that waits or is being sent. `T` is what its answer is told to.
#[derive(Debug)]
struct Outgoing<T> {
    /// Its bytes in order; the first one is cut as it is sent.
    parts: VecDeque<Bytes>,
    token: T,
}

/// The end that sends transfers, one after another.
#[derive(Debug)]
pub(crate) struct Sender<T> {
    waiting: VecDeque<Outgoing<T>>,
    /// Whole on their way, in order.
    unanswered: VecDeque<T>,
    /// An answer that is not whole yet.
    answer: BytesMut,
}

impl<T> Default for Sender<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), unanswered: VecDeque::new(), answer: BytesMut::new() }
    }
}

impl<T> Sender<T> {
    /// Transfers that are not answered.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + self.unanswered.len()
    }

    /// Whether there are bytes to be sent.
    pub(crate) fn has_bytes(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Queues a transfer. The encoded header has less than 4 GiB.
    pub(crate) fn push(&mut self, header: Bytes, body: Bytes, token: T) {
        let mut head = BytesMut::with_capacity(HEAD + header.len());
        head.put_u32_le(u32::try_from(header.len()).unwrap_or(u32::MAX));
        head.put_u64_le(body.len() as u64);
        head.put_slice(&header);
        let checksum = Bytes::copy_from_slice(&xxh3_64(&body).to_le_bytes());
        let parts = [head.freeze(), body, checksum];
        let parts = parts.into_iter().filter(|part| !part.is_empty()).collect();
        self.waiting.push_back(Outgoing { parts, token });
    }

    /// The next bytes, at most so many.
    pub(crate) fn next(&mut self, most: usize) -> Option<Bytes> {
        let transfer = self.waiting.front_mut().filter(|_| most > 0)?;
        let part = transfer.parts.front_mut()?;
        let bytes = part.split_to(part.len().min(most));
        if part.is_empty() {
            transfer.parts.pop_front();
        }
        if transfer.parts.is_empty()
            && let Some(sent) = self.waiting.pop_front()
        {
            self.unanswered.push_back(sent.token);
        }
        Some(bytes)
    }

    /// Takes bytes of answers in; gives the transfers that are answered by them.
    pub(crate) fn answered(&mut self, bytes: &[u8]) -> Result<Vec<Answered<T>>, Violation> {
        self.answer.extend_from_slice(bytes);
        let mut answered = Vec::new();
        loop {
            let outcome = match *self.answer {
                [] => return Ok(answered),
                [0, ..] => {
                    self.answer.advance(1);
                    Ok(())
                }
                [1, low, high, ..] => {
                    let length = usize::from(u16::from_le_bytes([low, high]));
                    if length > REASON {
                        return Err(Violation(format!("a reason of {length} bytes")));
                    }
                    if self.answer.len() < 3 + length {
                        return Ok(answered);
                    }
                    self.answer.advance(3);
                    Err(String::from_utf8_lossy(&self.answer.split_to(length)).into_owned())
                }
                [1, ..] => return Ok(answered),
                [other, ..] => {
                    return Err(Violation(format!("{other} is no answer to a bulk transfer")));
                }
            };
            let Some(token) = self.unanswered.pop_front() else {
                return Err(Violation("an answer to no transfer".to_owned()));
            };
            answered.push((token, outcome));
        }
    }

    /// All transfers that are not answered: the path is over.
    pub(crate) fn into_unanswered(self) -> impl Iterator<Item = T> {
        self.unanswered.into_iter().chain(self.waiting.into_iter().map(|one| one.token))
    }
}

/// What a receiver may be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TransferLimits {
    /// The largest header in bytes.
    pub(crate) header: usize,
    /// The largest body in bytes; a larger one is refused, and read to its end unkept.
    pub(crate) body: usize,
}

#[derive(Debug)]
enum Stage {
    Head,
    Header {
        length: usize,
        body: u64,
    },
    Body {
        header: Bytes,
        length: usize,
        body: BytesMut,
    },
    Checksum {
        header: Bytes,
        body: Bytes,
    },
    /// The rest of one that was refused.
    Skip(u64),
}

/// A transfer that arrived whole, and waits for [`Receiver::answer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arrived {
    /// Its encoded header.
    pub(crate) header: Bytes,
    /// Its body.
    pub(crate) body: Bytes,
}

/// The end that receives transfers. Takes nothing in between a whole transfer and its answer.
#[derive(Debug)]
pub(crate) struct Receiver {
    limits: TransferLimits,
    stage: Stage,
    /// Received and not looked at; the sender's window bounds it.
    input: BytesMut,
    /// Of lengths, header or checksum.
    part: BytesMut,
    /// A whole transfer is with somebody.
    waits: bool,
    /// Answers to be sent.
    answers: BytesMut,
}

impl Receiver {
    pub(crate) fn new(limits: TransferLimits) -> Self {
        Self {
            limits,
            stage: Stage::Head,
            input: BytesMut::new(),
            part: BytesMut::new(),
            waits: false,
            answers: BytesMut::new(),
        }
    }

    /// Puts bytes behind those that wait.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// Whether there are bytes of answers to be sent.
    pub(crate) fn has_answers(&self) -> bool {
        !self.answers.is_empty()
    }

    /// The next bytes of answers, at most so many.
    pub(crate) fn next_answer(&mut self, most: usize) -> Option<Bytes> {
        let most = most.min(self.answers.len());
        (most > 0).then(|| self.answers.split_to(most).freeze())
    }

    /// What became of the transfer that arrived.
    pub(crate) fn answer(&mut self, outcome: Result<(), &str>) {
        if std::mem::take(&mut self.waits) {
            self.put_answer(outcome);
        }
    }

    fn put_answer(&mut self, outcome: Result<(), &str>) {
        match outcome {
            Ok(()) => self.answers.put_u8(0),
            Err(reason) => {
                let reason = &reason.as_bytes()[..reason.len().min(REASON)];
                self.answers.put_u8(1);
                self.answers.put_u16_le(u16::try_from(reason.len()).unwrap_or(u16::MAX));
                self.answers.put_slice(reason);
            }
        }
    }

    /// Goes on reading; `read` counts the bytes that were taken in. Stops at a whole transfer.
    pub(crate) fn read(&mut self, read: &mut usize) -> Result<Option<Arrived>, Violation> {
        while !self.waits {
            // Answers that nobody reads are no reason to take memory.
            if self.answers.len() > FIRST {
                return Err(Violation("transfers whose answers are not read".to_owned()));
            }
            match self.step(read)? {
                Step::More => {}
                Step::Starved => return Ok(None),
                Step::Arrived(arrived) => {
                    self.waits = true;
                    return Ok(Some(arrived));
                }
            }
        }
        Ok(None)
    }

    fn step(&mut self, read: &mut usize) -> Result<Step, Violation> {
        let stage = std::mem::replace(&mut self.stage, Stage::Head);
        let (stage, step) = match stage {
            Stage::Head => match self.whole(HEAD, read) {
                None => (Stage::Head, Step::Starved),
                Some(mut head) => {
                    let (length, body) = (head.get_u32_le() as usize, head.get_u64_le());
                    if length > self.limits.header {
                        return Err(Violation(format!("a bulk header of {length} bytes")));
                    }
                    (Stage::Header { length, body }, Step::More)
                }
            },
            Stage::Header { length, body: claimed } => match self.whole(length, read) {
                None => (Stage::Header { length, body: claimed }, Step::Starved),
                Some(header) => {
                    let limit = self.limits.body;
                    match usize::try_from(claimed).ok().filter(|length| *length <= limit) {
                        Some(length) => {
                            let body = BytesMut::with_capacity(length.min(FIRST));
                            (Stage::Body { header, length, body }, Step::More)
                        }
                        None => {
                            let reason =
                                format!("the transfer has {claimed} bytes, the limit is {limit}");
                            self.put_answer(Err(&reason));
                            let rest = claimed.saturating_add(CHECKSUM as u64);
                            (Stage::Skip(rest), Step::More)
                        }
                    }
                }
            },
            Stage::Body { header, length, mut body } => {
                match self.some(length - body.len(), read) {
                    _ if body.len() == length => {
                        (Stage::Checksum { header, body: body.freeze() }, Step::More)
                    }
                    None => (Stage::Body { header, length, body }, Step::Starved),
                    Some(bytes) => {
                        body.extend_from_slice(&bytes);
                        (Stage::Body { header, length, body }, Step::More)
                    }
                }
            }
            Stage::Checksum { header, body } => match self.whole(CHECKSUM, read) {
                None => (Stage::Checksum { header, body }, Step::Starved),
                Some(mut said) => {
                    if said.get_u64_le() == xxh3_64(&body) {
                        (Stage::Head, Step::Arrived(Arrived { header, body }))
                    } else {
                        self.put_answer(Err("the checksum is wrong"));
                        (Stage::Head, Step::More)
                    }
                }
            },
            Stage::Skip(0) => (Stage::Head, Step::More),
            Stage::Skip(rest) => {
                let most = usize::try_from(rest).unwrap_or(usize::MAX);
                match self.some(most, read) {
                    None => (Stage::Skip(rest), Step::Starved),
                    Some(bytes) => (Stage::Skip(rest - bytes.len() as u64), Step::More),
                }
            }
        };
        self.stage = stage;
        Ok(step)
    }

    /// So many bytes, once they are all here.
    fn whole(&mut self, length: usize, read: &mut usize) -> Option<Bytes> {
        while self.part.len() < length {
            let bytes = self.some(length - self.part.len(), read)?;
            self.part.extend_from_slice(&bytes);
        }
        Some(std::mem::take(&mut self.part).freeze())
    }

    /// The next bytes that are here, at most so many.
    fn some(&mut self, most: usize, read: &mut usize) -> Option<BytesMut> {
        let bytes = self.input.split_to(self.input.len().min(most));
        *read += bytes.len();
        (!bytes.is_empty()).then_some(bytes)
    }
}

enum Step {
    More,
    Starved,
    Arrived(Arrived),
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: TransferLimits = TransferLimits { header: 100, body: 1_000 };

    /// Carries everything from the one to the other, so many bytes at a time.
    fn carry(sender: &mut Sender<u8>, receiver: &mut Receiver, most: usize) -> Vec<Arrived> {
        let mut arrived = Vec::new();
        while let Some(bytes) = sender.next(most) {
            let (length, mut read) = (bytes.len(), 0);
            receiver.push(&bytes);
            while let Some(one) = receiver.read(&mut read).expect("the protocol is kept") {
                arrived.push(one);
                receiver.answer(Ok(()));
            }
            assert_eq!(read, length, "something was left");
        }
        arrived
    }

    fn answers(receiver: &mut Receiver, sender: &mut Sender<u8>) -> Vec<Answered<u8>> {
        let mut all = Vec::new();
        while let Some(bytes) = receiver.next_answer(2) {
            all.extend(sender.answered(&bytes).expect("the protocol is kept"));
        }
        all
    }

    #[test]
    fn transfers_arrive_whole_and_in_order_however_they_are_cut() {
        for most in [1, 7, 5_000] {
            let (mut sender, mut receiver) = (Sender::default(), Receiver::new(LIMITS));
            let bodies: Vec<Bytes> =
                [0, 1, 1_000].map(|length| vec![length as u8; length].into()).into();
            for (token, body) in bodies.iter().enumerate() {
                sender.push(Bytes::from(vec![token as u8; token]), body.clone(), token as u8);
            }
            assert_eq!(sender.len(), 3);
            let arrived = carry(&mut sender, &mut receiver, most);
            let whole: Vec<_> = arrived.iter().map(|one| one.body.clone()).collect();
            assert_eq!(whole, bodies);
            assert_eq!(arrived[2].header, vec![2; 2]);
            let answers = answers(&mut receiver, &mut sender);
            assert_eq!(answers, [(0, Ok(())), (1, Ok(())), (2, Ok(()))]);
            assert_eq!(sender.len(), 0);
        }
    }

    #[test]
    fn one_that_is_too_large_is_refused_and_the_next_one_is_taken() {
        let (mut sender, mut receiver) = (Sender::default(), Receiver::new(LIMITS));
        sender.push(Bytes::new(), vec![1; 1_001].into(), 1);
        sender.push(Bytes::new(), vec![2; 10].into(), 2);
        assert_eq!(carry(&mut sender, &mut receiver, 64).len(), 1);
        let answers = answers(&mut receiver, &mut sender);
        assert_eq!(answers[0].0, 1);
        assert!(answers[0].1.as_ref().is_err_and(|reason| reason.contains("1001")));
        assert_eq!(answers[1], (2, Ok(())));
    }

    #[test]
    fn a_wrong_checksum_is_told() {
        let (mut sender, mut receiver) = (Sender::default(), Receiver::new(LIMITS));
        sender.push(Bytes::new(), vec![1; 10].into(), 1);
        let mut bytes = BytesMut::new();
        while let Some(part) = sender.next(100) {
            bytes.extend_from_slice(&part);
        }
        bytes[HEAD + 3] = 9;
        receiver.push(&bytes);
        assert_eq!(receiver.read(&mut 0), Ok(None));
        let answers = answers(&mut receiver, &mut sender);
        assert_eq!(answers, [(1, Err("the checksum is wrong".to_owned()))]);
    }

    #[test]
    fn nothing_is_taken_in_while_a_whole_one_waits() {
        let (mut sender, mut receiver) = (Sender::default(), Receiver::new(LIMITS));
        for token in 0..2 {
            sender.push(Bytes::new(), vec![token; 10].into(), token);
        }
        while let Some(part) = sender.next(100) {
            receiver.push(&part);
        }
        let mut read = 0;
        assert!(receiver.read(&mut read).expect("the protocol is kept").is_some());
        assert_eq!(read, HEAD + 10 + CHECKSUM);
        assert_eq!(receiver.read(&mut read), Ok(None));
        assert_eq!(read, HEAD + 10 + CHECKSUM);
        receiver.answer(Err("no room"));
        assert!(receiver.read(&mut read).expect("the protocol is kept").is_some());
        assert_eq!(read, 2 * (HEAD + 10 + CHECKSUM));
        assert_eq!(answers(&mut receiver, &mut sender), [(0, Err("no room".to_owned()))]);
        assert_eq!(sender.into_unanswered().collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn absurd_lengths_and_answers_are_refused() {
        let mut receiver = Receiver::new(LIMITS);
        receiver.push(&[101, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert!(receiver.read(&mut 0).is_err());
        let mut sender = Sender::<u8>::default();
        assert!(sender.answered(&[0]).is_err(), "nothing was asked");
        assert!(Sender::<u8>::default().answered(&[2]).is_err());
        assert!(Sender::<u8>::default().answered(&[1, 255, 255]).is_err());
    }

    #[test]
    fn answers_that_are_not_read_take_no_memory_without_end() {
        let mut receiver = Receiver::new(TransferLimits { header: 0, body: 0 });
        let mut refused = BytesMut::new();
        refused.put_slice(&[0; 4]);
        refused.put_u64_le(1);
        refused.put_slice(&[0; 9]);
        let over = (0..10_000).any(|_| {
            receiver.push(&refused);
            receiver.read(&mut 0).is_err()
        });
        assert!(over);
    }
}
