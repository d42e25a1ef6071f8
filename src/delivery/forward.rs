//! The paths of others that this node forwards, and what waits for each of its neighbours.
//!
//! Of each path and direction at most a [window](PathStream::window) of each stream is held, for the
//! ends send no more without credit of each other. A path holds nothing else here, and what it holds
//! is given back when it is closed, by whomever.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::BytesMut;

use super::Violation;
use crate::model::{
    frame::{PathClosed, PathId, PathStream, PathWord},
    id::NodeRun,
};

/// The most paths of one origin that are forwarded: 96 MiB at worst, all windows being full.
const PATHS: usize = 64;
/// The most words beside bytes and credit that wait for one neighbour.
const WORDS: usize = 1_024;

/// What is held of one direction.
#[derive(Debug, Default)]
struct Held {
    messages: Stream,
    states: Stream,
}

#[derive(Debug, Default)]
struct Stream {
    /// Bytes that wait, copied: a slice would keep the whole buffer that it was read into.
    bytes: BytesMut,
    /// Credit that waits.
    credit: u32,
}

impl Held {
    fn of(&mut self, stream: PathStream) -> &mut Stream {
        match stream {
            PathStream::Messages => &mut self.messages,
            PathStream::States => &mut self.states,
        }
    }
}

#[derive(Debug)]
struct Forwarded {
    target: NodeRun,
    /// On its way to the target.
    forth: Held,
    /// On its way to the origin.
    back: Held,
}

/// What waits for one neighbour.
#[derive(Debug, Default)]
struct Waiting {
    words: VecDeque<(PathId, PathWord)>,
    /// Paths with credit for it.
    credits: BTreeSet<PathId>,
    /// Paths with bytes for it, each once; they take turns.
    messages: VecDeque<PathId>,
    states: VecDeque<PathId>,
}

impl Waiting {
    fn of(&mut self, stream: PathStream) -> &mut VecDeque<PathId> {
        match stream {
            PathStream::Messages => &mut self.messages,
            PathStream::States => &mut self.states,
        }
    }

    fn is_empty(&self) -> bool {
        self.words.is_empty()
            && self.credits.is_empty()
            && self.messages.is_empty()
            && self.states.is_empty()
    }
}

/// The paths of others that this node forwards, and what it has to say about its own.
#[derive(Debug, Default)]
pub(crate) struct Forwarder {
    paths: BTreeMap<PathId, Forwarded>,
    waiting: BTreeMap<NodeRun, Waiting>,
    /// Neighbours for which something has come.
    news: BTreeSet<NodeRun>,
}

impl Forwarder {
    /// Whether nothing is forwarded and nothing waits.
    pub(crate) fn is_idle(&self) -> bool {
        self.paths.is_empty() && self.waiting.is_empty()
    }

    /// The neighbours for which something has come, taken.
    pub(crate) fn take_news(&mut self) -> BTreeSet<NodeRun> {
        std::mem::take(&mut self.news)
    }

    /// Bytes that wait for others.
    #[cfg(test)]
    fn held(&self) -> usize {
        let held = self.paths.values().flat_map(|path| [&path.forth, &path.back]);
        held.map(|held| held.messages.bytes.len() + held.states.bytes.len()).sum()
    }

    /// A neighbour begins a path. `fit` says whether its target can be reached.
    ///
    /// # Errors
    /// The neighbour broke the protocol.
    pub(crate) fn open(
        &mut self,
        from: NodeRun,
        path: PathId,
        target: NodeRun,
        fit: Result<(), PathClosed>,
    ) -> Result<(), Violation> {
        if path.origin != from || self.paths.contains_key(&path) {
            return Err(Violation("a path that is another's, or not new".to_owned()));
        }
        let of_origin = self.paths.keys().filter(|known| known.origin == from).count();
        let fit = fit.and(if of_origin < PATHS { Ok(()) } else { Err(PathClosed::TooMany) });
        if let Err(why) = fit {
            return self.refuse(from, path, why);
        }
        let forwarded = Forwarded { target, forth: Held::default(), back: Held::default() };
        self.paths.insert(path, forwarded);
        self.say(target, path, PathWord::Open { to: target });
        Ok(())
    }

    /// A path of this neighbour is not taken.
    ///
    /// # Errors
    /// It goes on asking and does not read the answers.
    pub(crate) fn refuse(
        &mut self,
        from: NodeRun,
        path: PathId,
        why: PathClosed,
    ) -> Result<(), Violation> {
        if self.waiting.get(&from).is_some_and(|waiting| waiting.words.len() >= WORDS) {
            return Err(Violation("it opens paths and does not read the answers".to_owned()));
        }
        self.say(from, path, PathWord::Closed { why });
        Ok(())
    }

    /// Says a word about a path of this node's own.
    pub(crate) fn say(&mut self, to: NodeRun, path: PathId, word: PathWord) {
        let words = &mut self.waiting.entry(to).or_default().words;
        let opened = |word: &PathWord| matches!(word, PathWord::Open { .. });
        if matches!(word, PathWord::Closed { .. })
            && let Some(at) = words.iter().position(|(known, word)| *known == path && opened(word))
        {
            // It never began.
            words.remove(at);
        } else {
            words.push_back((path, word));
        }
        if self.waiting.get(&to).is_some_and(Waiting::is_empty) {
            self.waiting.remove(&to);
        } else {
            self.news.insert(to);
        }
    }

    /// A word of a path that this node forwards. One of a path that it does not know, or that does
    /// not come from one of its ends, is ignored.
    ///
    /// # Errors
    /// The neighbour broke the protocol.
    pub(crate) fn word(
        &mut self,
        from: NodeRun,
        path: PathId,
        word: PathWord,
    ) -> Result<(), Violation> {
        let Some(forwarded) = self.paths.get_mut(&path) else { return Ok(()) };
        let (to, held) = if from == path.origin {
            (forwarded.target, &mut forwarded.forth)
        } else if from == forwarded.target {
            (path.origin, &mut forwarded.back)
        } else {
            return Ok(());
        };
        let waiting = self.waiting.entry(to).or_default();
        let over = match word {
            PathWord::Open { .. } => true,
            PathWord::Bytes { bytes, .. } if bytes.is_empty() => false,
            PathWord::Bytes { stream, bytes } => {
                let one = held.of(stream);
                if one.bytes.is_empty() {
                    waiting.of(stream).push_back(path);
                }
                one.bytes.extend_from_slice(&bytes);
                one.bytes.len() > stream.window()
            }
            PathWord::Credit { stream, bytes } => {
                let one = held.of(stream);
                one.credit = one.credit.saturating_add(bytes);
                waiting.credits.insert(path);
                one.credit as usize > stream.window()
            }
            PathWord::Closed { why } => {
                self.close(path, why, &[to]);
                return Ok(());
            }
        };
        if over {
            self.close(path, PathClosed::Protocol, &[from, to]);
            return Err(Violation("more on a path than its window".to_owned()));
        }
        self.news.insert(to);
        Ok(())
    }

    /// Ends a path and tells these ends. What waits is dropped.
    fn close(&mut self, path: PathId, why: PathClosed, tell: &[NodeRun]) {
        let Some(forwarded) = self.paths.remove(&path) else { return };
        for end in [path.origin, forwarded.target] {
            let Some(waiting) = self.waiting.get_mut(&end) else { continue };
            waiting.credits.remove(&path);
            waiting.messages.retain(|known| *known != path);
            waiting.states.retain(|known| *known != path);
            if waiting.is_empty() {
                self.waiting.remove(&end);
            }
        }
        for end in tell {
            self.say(*end, path, PathWord::Closed { why });
        }
    }

    /// The link to this neighbour broke.
    pub(crate) fn link_lost(&mut self, run: NodeRun) {
        for (path, target) in self.ends() {
            if path.origin == run {
                self.close(path, PathClosed::NoLink, &[target]);
            } else if target == run {
                self.close(path, PathClosed::NoLink, &[path.origin]);
            }
        }
        self.waiting.remove(&run);
        self.news.remove(&run);
    }

    /// The link to this neighbour stands, and is not to be used: something swallows what it carries.
    pub(crate) fn link_unfit(&mut self, run: NodeRun) {
        for (path, target) in self.ends() {
            if path.origin == run || target == run {
                self.close(path, PathClosed::NoLink, &[path.origin, target]);
            }
        }
    }

    /// Ends the paths of which an end is no member.
    pub(crate) fn keep(&mut self, members: &BTreeSet<NodeRun>) {
        for (path, target) in self.ends() {
            if !members.contains(&path.origin) || !members.contains(&target) {
                self.close(path, PathClosed::Stranger, &[path.origin, target]);
            }
        }
    }

    fn ends(&self) -> Vec<(PathId, NodeRun)> {
        self.paths.iter().map(|(path, forwarded)| (*path, forwarded.target)).collect()
    }

    /// Gives what a neighbour is to have: words and credit, then bytes of this stream up to the
    /// budget. Tells whether there is more.
    pub(crate) fn write(
        &mut self,
        to: NodeRun,
        stream: PathStream,
        mut budget: usize,
        out: &mut dyn FnMut(PathId, PathWord),
    ) -> bool {
        let Some(waiting) = self.waiting.get_mut(&to) else { return false };
        for (path, word) in waiting.words.drain(..) {
            out(path, word);
        }
        for path in std::mem::take(&mut waiting.credits) {
            let Some(held) = held_for(&mut self.paths, path, to) else { continue };
            for stream in [PathStream::Messages, PathStream::States] {
                let bytes = std::mem::take(&mut held.of(stream).credit);
                if bytes > 0 {
                    out(path, PathWord::Credit { stream, bytes });
                }
            }
        }
        let queue = waiting.of(stream);
        while budget > 0
            && let Some(path) = queue.pop_front()
        {
            let Some(held) = held_for(&mut self.paths, path, to) else { continue };
            let waits = &mut held.of(stream).bytes;
            let bytes = waits.split_to(waits.len().min(PathWord::LONGEST)).freeze();
            if waits.is_empty() {
                *waits = BytesMut::new();
            } else {
                queue.push_back(path);
            }
            budget = budget.saturating_sub(bytes.len());
            out(path, PathWord::Bytes { stream, bytes });
        }
        let more = !queue.is_empty();
        if waiting.is_empty() {
            self.waiting.remove(&to);
        }
        more
    }
}

fn held_for(
    paths: &mut BTreeMap<PathId, Forwarded>,
    path: PathId,
    to: NodeRun,
) -> Option<&mut Held> {
    let forwarded = paths.get_mut(&path)?;
    Some(if to == path.origin { &mut forwarded.back } else { &mut forwarded.forth })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::NodeId;

    fn run(node: u8) -> NodeRun {
        NodeRun { node: NodeId::from_key([node; 32]), nonce: u64::from(node) }
    }

    fn path(origin: u8, number: u64) -> PathId {
        PathId { origin: run(origin), number }
    }

    fn bytes(length: usize) -> PathWord {
        PathWord::Bytes { stream: PathStream::Messages, bytes: vec![1; length].into() }
    }

    fn written(forwarder: &mut Forwarder, to: u8) -> Vec<(PathId, PathWord)> {
        let mut words = Vec::new();
        for stream in [PathStream::Messages, PathStream::States] {
            forwarder
                .write(run(to), stream, usize::MAX, &mut |path, word| words.push((path, word)));
        }
        words
    }

    /// A path from 1 to 2 that is open.
    fn open() -> Forwarder {
        let mut forwarder = Forwarder::default();
        forwarder.open(run(1), path(1, 1), run(2), Ok(())).expect("the protocol is kept");
        assert_eq!(forwarder.take_news(), [run(2)].into());
        assert_eq!(written(&mut forwarder, 2), [(path(1, 1), PathWord::Open { to: run(2) })]);
        forwarder
    }

    #[test]
    fn bytes_and_credit_go_to_the_other_end_in_order_and_are_not_kept() {
        let mut forwarder = open();
        for length in [3, 4] {
            forwarder.word(run(1), path(1, 1), bytes(length)).expect("it is taken");
        }
        forwarder.word(run(2), path(1, 1), bytes(5)).expect("it is taken");
        for _ in 0..2 {
            let credit = PathWord::Credit { stream: PathStream::States, bytes: 10 };
            forwarder.word(run(2), path(1, 1), credit).expect("it is taken");
        }
        assert_eq!(forwarder.held(), 12);
        let forth = written(&mut forwarder, 2);
        assert_eq!(forth, [(path(1, 1), bytes(7))]);
        let credit = PathWord::Credit { stream: PathStream::States, bytes: 20 };
        assert_eq!(written(&mut forwarder, 1), [(path(1, 1), credit), (path(1, 1), bytes(5))]);
        assert_eq!(forwarder.held(), 0);
        assert!(!forwarder.is_idle());
    }

    #[test]
    fn paths_to_one_neighbour_take_turns() {
        let mut forwarder = open();
        forwarder.open(run(3), path(3, 1), run(2), Ok(())).expect("the protocol is kept");
        written(&mut forwarder, 2);
        forwarder.word(run(1), path(1, 1), bytes(2 * PathWord::LONGEST)).expect("it is taken");
        forwarder.word(run(3), path(3, 1), bytes(5)).expect("it is taken");
        let turns: Vec<_> = written(&mut forwarder, 2).into_iter().map(|(path, _)| path).collect();
        assert_eq!(turns, [path(1, 1), path(3, 1), path(1, 1)]);
    }

    #[test]
    fn messages_go_before_states() {
        let mut forwarder = open();
        let state = PathWord::Bytes { stream: PathStream::States, bytes: vec![2; 9].into() };
        forwarder.word(run(1), path(1, 1), state.clone()).expect("it is taken");
        forwarder.word(run(1), path(1, 1), bytes(3)).expect("it is taken");
        assert_eq!(written(&mut forwarder, 2), [(path(1, 1), bytes(3)), (path(1, 1), state)]);
    }

    #[test]
    fn who_sends_more_than_a_window_loses_the_path_and_what_it_held() {
        let mut forwarder = open();
        let window = PathStream::Messages.window();
        forwarder.word(run(1), path(1, 1), bytes(window)).expect("a window is allowed");
        forwarder.word(run(1), path(1, 1), bytes(1)).expect_err("one more is not");
        assert_eq!(forwarder.held(), 0);
        let closed = (path(1, 1), PathWord::Closed { why: PathClosed::Protocol });
        assert_eq!(written(&mut forwarder, 1), std::slice::from_ref(&closed));
        assert_eq!(written(&mut forwarder, 2), [closed]);
        assert!(forwarder.is_idle());
        // What was on its way by then finds no path.
        forwarder.word(run(1), path(1, 1), bytes(1)).expect("it is ignored");
        assert!(forwarder.is_idle());
    }

    #[test]
    fn written_bytes_make_room_and_endless_credit_does_not() {
        let mut forwarder = open();
        let window = PathStream::Messages.window();
        for _ in 0..3 {
            forwarder.word(run(1), path(1, 1), bytes(window)).expect("a window is allowed");
            written(&mut forwarder, 2);
        }
        let credit = PathWord::Credit { stream: PathStream::Messages, bytes: window as u32 + 1 };
        forwarder.word(run(2), path(1, 1), credit).expect_err("so much was never sent");
    }

    #[test]
    fn a_broken_link_closes_the_path_at_the_other_end() {
        for (lost, other) in [(1, 2), (2, 1)] {
            let mut forwarder = open();
            forwarder.word(run(other), path(1, 1), bytes(7)).expect("it is taken");
            forwarder.link_lost(run(lost));
            let closed = PathWord::Closed { why: PathClosed::NoLink };
            assert_eq!(written(&mut forwarder, other), [(path(1, 1), closed)]);
            assert_eq!(written(&mut forwarder, lost), []);
            assert!(forwarder.is_idle());
        }
    }

    #[test]
    fn an_unfit_link_closes_the_path_at_both_ends() {
        for unfit in [1, 2] {
            let mut forwarder = open();
            forwarder.link_unfit(run(3));
            assert_eq!(written(&mut forwarder, 1), []);
            forwarder.link_unfit(run(unfit));
            let closed = (path(1, 1), PathWord::Closed { why: PathClosed::NoLink });
            assert_eq!(written(&mut forwarder, 1), std::slice::from_ref(&closed));
            assert_eq!(written(&mut forwarder, 2), [closed]);
        }
    }

    #[test]
    fn an_end_that_closes_takes_everything_with_it_and_one_that_never_began_is_not_told() {
        let mut forwarder = open();
        forwarder.word(run(1), path(1, 1), bytes(7)).expect("it is taken");
        let closed = PathWord::Closed { why: PathClosed::Replaced };
        forwarder.word(run(1), path(1, 1), closed.clone()).expect("it is taken");
        assert_eq!(written(&mut forwarder, 2), [(path(1, 1), closed.clone())]);
        forwarder.open(run(1), path(1, 2), run(2), Ok(())).expect("the protocol is kept");
        forwarder.word(run(1), path(1, 2), closed).expect("it is taken");
        assert_eq!(written(&mut forwarder, 2), []);
        assert!(forwarder.is_idle());
    }

    #[test]
    fn frames_of_others_and_of_unknown_paths_are_ignored() {
        let mut forwarder = open();
        forwarder.word(run(3), path(1, 1), bytes(7)).expect("it is ignored");
        let closed = PathWord::Closed { why: PathClosed::Replaced };
        forwarder.word(run(3), path(1, 1), closed).expect("it is ignored");
        forwarder.word(run(1), path(1, 9), bytes(7)).expect("it is ignored");
        assert_eq!(forwarder.held(), 0);
        assert_eq!(written(&mut forwarder, 2), []);
        forwarder.open(run(3), path(1, 2), run(2), Ok(())).expect_err("it is not its own");
        forwarder.open(run(1), path(1, 1), run(2), Ok(())).expect_err("it is not new");
    }

    #[test]
    fn paths_to_who_cannot_be_reached_and_too_many_are_refused() {
        let mut forwarder = open();
        let why = PathClosed::NoLink;
        forwarder.open(run(1), path(1, 2), run(4), Err(why)).expect("it is refused");
        assert_eq!(written(&mut forwarder, 1), [(path(1, 2), PathWord::Closed { why })]);
        for number in 3..70 {
            forwarder.open(run(1), path(1, number), run(2), Ok(())).expect("it is answered");
        }
        let refused = written(&mut forwarder, 1).len();
        assert_eq!(refused, 67 - (PATHS - 1));
        // Another origin has places of its own.
        forwarder.open(run(3), path(3, 1), run(2), Ok(())).expect("it is answered");
        assert_eq!(written(&mut forwarder, 3), []);
    }

    #[test]
    fn who_asks_without_reading_is_found_out() {
        let mut forwarder = Forwarder::default();
        let ask = |forwarder: &mut Forwarder, number| {
            forwarder.open(run(1), path(1, number), run(2), Err(PathClosed::NoLink))
        };
        for number in 0..WORDS as u64 {
            ask(&mut forwarder, number).expect("it is answered");
        }
        ask(&mut forwarder, 5_000).expect_err("it does not read");
    }

    #[test]
    fn a_path_ends_with_the_membership_of_an_end() {
        let mut forwarder = open();
        forwarder.keep(&[run(1), run(2)].into());
        assert_eq!(written(&mut forwarder, 1), []);
        forwarder.keep(&[run(1)].into());
        let closed = (path(1, 1), PathWord::Closed { why: PathClosed::Stranger });
        assert_eq!(written(&mut forwarder, 1), std::slice::from_ref(&closed));
        assert_eq!(written(&mut forwarder, 2), [closed]);
    }
}
