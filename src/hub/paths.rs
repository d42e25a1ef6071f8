//! The paths by a third member that this node has an end of or forwards, on the network's thread.
//!
//! A machine behind a lock: what follows from a word is given back as [`PathNews`] and done without
//! the lock.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use bytes::{Bytes, BytesMut};

use super::{
    exchange::{Exchange, Way},
    writes::Writes,
};
use crate::{
    delivery::{
        Side,
        forward::Forwarder,
        path::{Delivery, PathEnd, PathLimits},
        transfer::Arrived,
    },
    model::{
        frame::{DataFrame, PathClosed, PathId, PathStream, PathWord},
        id::NodeRun,
    },
    net::BulkDone,
    wire::{self, WireError},
};

/// What one path may write before the next one has its turn.
const TURN: usize = 32 << 10;
/// What all paths by one neighbour may write at once.
const TURNS: usize = 128 << 10;
/// Transfers that may wait on one path.
const TRANSFERS: usize = 65_536;

/// What follows from a word of a path.
pub(crate) enum PathNews<C> {
    /// A peer's lanes come by a member between.
    Came { by: NodeRun, path: PathId },
    /// A data frame, to be taken as one of this exchange.
    Frame { exchange: Arc<Exchange<C>>, frame: Bytes },
    /// A state arrived; [`Paths::state_taken`] says what became of it.
    State { path: PathId, arrived: Arrived },
    /// A transfer was answered.
    Answered(BulkDone, Result<(), String>),
    /// A path of this node is over.
    Over(Over<C>),
}

/// A path of this node that is over.
pub(crate) struct Over<C> {
    pub(crate) exchange: Arc<Exchange<C>>,
    pub(crate) why: PathClosed,
    /// Transfers without an answer.
    pub(crate) unanswered: Vec<BulkDone>,
}

struct End<C> {
    by: NodeRun,
    exchange: Arc<Exchange<C>>,
    end: PathEnd<BulkDone>,
}

struct State<C> {
    /// The runs that are in. Only between them paths are taken.
    members: BTreeSet<NodeRun>,
    forwarder: Forwarder,
    ends: BTreeMap<PathId, End<C>>,
    /// The path that had its turn last.
    turn: Option<PathId>,
}

/// The paths that this node has an end of or forwards.
pub(crate) struct Paths<C> {
    me: NodeRun,
    limits: PathLimits,
    state: Mutex<State<C>>,
    /// Whether there is any path: without one nobody takes the lock to write.
    used: AtomicBool,
}

/// The neighbours that have something to be written.
pub(crate) type Neighbours = BTreeSet<NodeRun>;

impl<C: Writes> Paths<C> {
    pub(crate) fn new(me: NodeRun, limits: PathLimits) -> Self {
        let state = State {
            members: [me].into(),
            forwarder: Forwarder::default(),
            ends: BTreeMap::new(),
            turn: None,
        };
        Self { me, limits, state: Mutex::new(state), used: AtomicBool::new(false) }
    }

    fn lock(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name of the path of an exchange.
    fn path_of(&self, exchange: &Exchange<C>) -> PathId {
        let origin = match exchange.side {
            Side::Calls => self.me,
            Side::Answers => exchange.peer,
        };
        PathId { origin, number: exchange.number }
    }

    /// The runs that are in.
    pub(crate) fn members(&self, members: BTreeSet<NodeRun>) -> Neighbours {
        let mut state = self.lock();
        state.forwarder.keep(&members);
        state.members = members;
        state.forwarder.take_news()
    }

    /// The runs that are in, but for this node.
    pub(crate) fn others(&self) -> Vec<NodeRun> {
        self.lock().members.iter().copied().filter(|run| *run != self.me).collect()
    }

    /// A path begins at this end. Does nothing for an exchange over a link.
    pub(crate) fn begin(&self, exchange: &Arc<Exchange<C>>) {
        let Way::By(by) = exchange.way else { return };
        let path = self.path_of(exchange);
        let end = match exchange.side {
            Side::Calls => PathEnd::origin(self.limits),
            Side::Answers => PathEnd::target(self.limits),
        };
        let mut state = self.lock();
        self.used.store(true, Ordering::Release);
        state.ends.insert(path, End { by, exchange: exchange.clone(), end });
    }

    /// All doors know of an exchange: what waits may be written, and the other end of its path may know of it.
    /// Both in one step, as bytes that came before the path's first word would be bytes of no path.
    pub(crate) fn open(&self, exchange: &Exchange<C>) -> Neighbours {
        let Way::By(by) = exchange.way else {
            exchange.open();
            return Neighbours::new();
        };
        let path = self.path_of(exchange);
        let mut state = self.lock();
        // It may have ended since.
        if exchange.side == Side::Calls && state.ends.contains_key(&path) {
            state.forwarder.say(by, path, PathWord::Open { to: exchange.peer });
        }
        exchange.open();
        state.forwarder.take_news()
    }

    /// This end has no use for the path any more. Gives back the transfers without an answer.
    pub(crate) fn end(
        &self,
        exchange: &Exchange<C>,
        why: PathClosed,
    ) -> (Vec<BulkDone>, Neighbours) {
        let path = self.path_of(exchange);
        let mut state = self.lock();
        let Some(end) = state.ends.remove(&path) else {
            return (Vec::new(), Neighbours::new());
        };
        state.forwarder.say(end.by, path, PathWord::Closed { why });
        (end.end.into_unanswered(), state.forwarder.take_news())
    }

    /// The link to a neighbour broke, and all paths by it with it.
    pub(crate) fn link_lost(&self, run: NodeRun) -> (Vec<Over<C>>, Neighbours) {
        let mut state = self.lock();
        state.forwarder.link_lost(run);
        let lost: Vec<PathId> =
            state.ends.iter().filter(|(_, end)| end.by == run).map(|(path, _)| *path).collect();
        let lost = lost.iter().filter_map(|path| state.ends.remove(path));
        let over = lost.map(|end| end.over(PathClosed::NoLink)).collect();
        (over, state.forwarder.take_news())
    }

    /// The link to a neighbour is not to be used, though it stands.
    pub(crate) fn link_unfit(&self, run: NodeRun) -> Neighbours {
        let mut state = self.lock();
        state.forwarder.link_unfit(run);
        state.forwarder.take_news()
    }

    /// Sends a state by a path.
    pub(crate) fn send(
        &self,
        exchange: &Exchange<C>,
        header: Bytes,
        body: Bytes,
        done: BulkDone,
    ) -> Result<(), (BulkDone, String)> {
        let limit = self.limits.transfer.body;
        if body.len() > limit {
            let size = body.len();
            return Err((done, format!("the transfer has {size} bytes, the limit is {limit}")));
        }
        let mut state = self.lock();
        match state.ends.get_mut(&self.path_of(exchange)) {
            None => Err((done, "the path is over".to_owned())),
            Some(end) if end.end.transfers() >= TRANSFERS => {
                Err((done, "too many transfers wait on the path".to_owned()))
            }
            Some(end) => end
                .end
                .push(header, body, done)
                .map_err(|done| (done, "the other end of the path sends states".to_owned())),
        }
    }

    /// What became of a state that arrived by a path; the next one may be here already.
    pub(crate) fn state_taken(
        &self,
        path: PathId,
        outcome: Result<(), &str>,
    ) -> (Vec<PathNews<C>>, Neighbours) {
        let mut state = self.lock();
        let Some(end) = state.ends.get_mut(&path) else {
            return (Vec::new(), Neighbours::new());
        };
        let (by, exchange) = (end.by, end.exchange.clone());
        let news = match end.end.answer(outcome) {
            Ok(delivered) => delivered.into_iter().map(|one| news(path, &exchange, one)).collect(),
            Err(violation) => {
                state.fail(path, &violation).map(PathNews::Over).into_iter().collect()
            }
        };
        let mut neighbours = state.forwarder.take_news();
        neighbours.insert(by);
        (news, neighbours)
    }

    /// A neighbour says something about a path. `is_linked` tells to whom this node has a fit link.
    ///
    /// # Errors
    /// The neighbour broke the protocol; its link must be closed.
    pub(crate) fn word(
        &self,
        from: NodeRun,
        path: PathId,
        word: PathWord,
        is_linked: impl Fn(NodeRun) -> bool,
    ) -> Result<(Vec<PathNews<C>>, Neighbours), WireError> {
        let mut state = self.lock();
        let protocol = |violation: crate::delivery::Violation| WireError::Protocol(violation.0);
        let mut told = Vec::new();
        let mut neighbours = Neighbours::new();
        if let PathWord::Open { to } = word {
            self.used.store(true, Ordering::Release);
            let known = |run| state.members.contains(&run);
            let known = known(from) && known(path.origin) && known(to);
            let fit = if known { Ok(()) } else { Err(PathClosed::Stranger) };
            if to != self.me {
                let reached = if is_linked(to) { Ok(()) } else { Err(PathClosed::NoLink) };
                let opened = state.forwarder.open(from, path, to, fit.and(reached));
                opened.map_err(protocol)?;
            } else if path.origin == from || path.origin == self.me {
                return Err(WireError::Protocol("a path by nobody".to_owned()));
            } else if let Err(why) = fit {
                state.forwarder.refuse(from, path, why).map_err(protocol)?;
            } else {
                told.push(PathNews::Came { by: from, path });
            }
        } else if let Some(end) = state.ends.get_mut(&path).filter(|end| end.by == from) {
            let exchange = end.exchange.clone();
            let outcome = match word {
                PathWord::Bytes { stream, bytes } => end.end.received(stream, bytes),
                PathWord::Credit { stream, bytes } => {
                    end.end.credited(stream, bytes).map(|()| Vec::new())
                }
                PathWord::Closed { why } => {
                    told.extend(state.ends.remove(&path).map(|end| PathNews::Over(end.over(why))));
                    Ok(Vec::new())
                }
                PathWord::Open { .. } => Ok(Vec::new()),
            };
            match outcome {
                Ok(delivered) => {
                    told.extend(delivered.into_iter().map(|one| news(path, &exchange, one)));
                }
                Err(violation) => told.extend(state.fail(path, &violation).map(PathNews::Over)),
            }
            // There may be room now, or credit to give.
            neighbours.insert(from);
        } else {
            state.forwarder.word(from, path, word).map_err(protocol)?;
        }
        neighbours.extend(state.forwarder.take_news());
        Ok((told, neighbours))
    }

    /// A path of a peer's that came is not taken.
    pub(crate) fn refuse(
        &self,
        by: NodeRun,
        path: PathId,
        why: PathClosed,
    ) -> Result<Neighbours, WireError> {
        let mut state = self.lock();
        let refused = state.forwarder.refuse(by, path, why);
        refused.map_err(|violation| WireError::Protocol(violation.0))?;
        Ok(state.forwarder.take_news())
    }

    /// Appends what a neighbour is to have of paths: words, credit and messages, and then some of
    /// the states, which never wait for messages without end. Tells whether there is more.
    pub(crate) fn fill(&self, now: Instant, to: NodeRun, buffer: &mut BytesMut) -> bool {
        if !self.used.load(Ordering::Acquire) {
            return false;
        }
        let mut guard = self.lock();
        let State { forwarder, ends, turn, .. } = &mut *guard;
        if ends.is_empty() && forwarder.is_idle() {
            // Under the lock: who begins a path after this sets it again.
            self.used.store(false, Ordering::Release);
            return false;
        }
        let end_at = buffer.len() + TURNS;
        let mut put = |path, word| wire::append_frame(buffer, &DataFrame::Path { path, word });
        let mut more = forwarder.write(to, PathStream::Messages, TURN, &mut put);
        more |= forwarder.write(to, PathStream::States, PathWord::LONGEST, &mut put);
        // Whoever was cut short the last time is the first now.
        let order: Vec<PathId> = {
            let of_neighbour = |(path, end): (&PathId, &End<C>)| (end.by == to).then_some(*path);
            let from = turn.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
            let later = ends.range((from, std::ops::Bound::Unbounded)).filter_map(of_neighbour);
            let earlier = ends.iter().filter_map(of_neighbour);
            let earlier = earlier.take_while(|path| turn.is_some_and(|turn| *path <= turn));
            later.chain(earlier).collect()
        };
        for path in order {
            if buffer.len() >= end_at {
                return true;
            }
            *turn = Some(path);
            if let Some(end) = ends.get_mut(&path) {
                more |= end.write(now, path, buffer);
            }
        }
        more
    }
}

impl<C: Writes> State<C> {
    /// Ends a path whose other end broke the protocol.
    fn fail(&mut self, path: PathId, violation: &crate::delivery::Violation) -> Option<Over<C>> {
        let end = self.ends.remove(&path)?;
        tracing::warn!(peer = %end.exchange.peer, by = %end.by, %violation, "a path is closed");
        self.forwarder.say(end.by, path, PathWord::Closed { why: PathClosed::Protocol });
        Some(end.over(PathClosed::Protocol))
    }
}

fn news<C>(path: PathId, exchange: &Arc<Exchange<C>>, delivery: Delivery<BulkDone>) -> PathNews<C> {
    match delivery {
        Delivery::Frame(frame) => PathNews::Frame { exchange: exchange.clone(), frame },
        Delivery::State(arrived) => PathNews::State { path, arrived },
        Delivery::Answered(done, outcome) => PathNews::Answered(done, outcome),
    }
}

impl<C: Writes> End<C> {
    fn over(self, why: PathClosed) -> Over<C> {
        Over { exchange: self.exchange, why, unanswered: self.end.into_unanswered() }
    }

    fn write(&mut self, now: Instant, path: PathId, buffer: &mut BytesMut) -> bool {
        if !self.exchange.is_open() {
            // The other end has not heard of it.
            return false;
        }
        let mut put = |word| wire::append_frame(buffer, &DataFrame::Path { path, word });
        for (stream, bytes) in self.end.credits() {
            put(PathWord::Credit { stream, bytes });
        }
        // Frames are taken from the doors when there is room for them only: what was not taken goes
        // by another path when this one is over.
        let room = self.end.room().min(TURN);
        let mut waits = false;
        if room > 0 {
            let staged = self.end.staged();
            let target = staged.len() + room;
            waits = self.exchange.write(now, staged, target);
        }
        for (stream, most) in
            [(PathStream::Messages, TURN), (PathStream::States, PathWord::LONGEST)]
        {
            let mut left = most;
            while left > 0
                && let Some(bytes) = self.end.next(stream, left.min(PathWord::LONGEST))
            {
                left -= bytes.len();
                put(PathWord::Bytes { stream, bytes });
            }
        }
        let has = |stream| self.end.has_bytes(stream);
        has(PathStream::Messages) || has(PathStream::States) || waits && self.end.room() > 0
    }
}
