//! One node's ordered way to one remote child: what is held until the owner has accepted it, and
//! what waits for its reply.
//!
//! A message is *free* when no owner can have it: it was never written, or was positively refused.
//! A lane that holds only free messages may take another way; one that holds others may not, until
//! their owner refuses them or is gone.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{Body, Limits, Payload, SendFailure};
use crate::{
    error::{MaybeHandled, NotHandled},
    model::{
        child::{Epoch, Route},
        frame::{DataFrame, Refusal, ReplyFailure},
        id::{ChildId, LaneId, NodeRun},
    },
};

/// How long a lane waits before it asks an owner again that did not have the child yet.
const FIRST_RETRY: Duration = Duration::from_millis(20);
/// How long an owner waits to hear that its replies arrived, if no message tells it before.
const ACKNOWLEDGE_AFTER: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_millis(500);

/// A message that was not accepted yet.
#[derive(Debug)]
struct Held<P> {
    number: u64,
    /// `None` once its caller was told that its time is over; the owner may still have it.
    payload: Option<P>,
    wants_reply: bool,
    size: usize,
    /// Some owner may have it.
    written: bool,
    /// The deadline that was told with it.
    said: Option<Instant>,
}

impl<P: Payload> Held<P> {
    fn deadline(&self) -> Option<Instant> {
        self.payload.as_ref()?.deadline()
    }
}

#[derive(Debug)]
struct Awaiting<P> {
    payload: P,
    owner: NodeRun,
}

/// What a message came to.
pub(crate) type Outcome<P> = (P, Result<Bytes, SendFailure>);

/// One node's ordered way to one remote child.
#[derive(Debug)]
pub(crate) struct Lane<P> {
    id: LaneId,
    limits: Limits,
    /// The number of the next message.
    next: u64,
    held: VecDeque<Held<P>>,
    awaiting: BTreeMap<u64, Awaiting<P>>,
    /// The owner as this lane believes.
    target: Option<Route>,
    /// The number of the path to each run that can be reached.
    paths: BTreeMap<NodeRun, u64>,
    /// The runs that were told of the lane.
    opened_at: BTreeSet<NodeRun>,
    session: u64,
    /// Whether the session's `Open` was written.
    opened: bool,
    /// How many of `held`, from the front, were written in this session, and their bytes.
    cursor: usize,
    in_flight: usize,
    /// A caller changed its mind on how long it waits: the owner may have to be told.
    redated: bool,
    /// The target did not have the child: another route, or the same one later.
    retry: Option<Instant>,
    backoff: Duration,
    /// Owners that accepted something, and when they are told at the latest up to where all of it is
    /// acknowledged. Usually the next message tells them. `None`: at the end of the session, as they
    /// keep no reply until then.
    unacknowledged: BTreeMap<NodeRun, Option<Instant>>,
    /// Up to where owners were told that all is acknowledged which were not told all, as something still waits
    /// for its reply. It may wait at another owner.
    capped: BTreeMap<NodeRun, u64>,
    /// Whether `retry` or `unacknowledged` has changed: a sweep must come in time.
    pub(crate) timed: bool,
    /// What messages came to, for the door to pass on.
    pub(crate) outcomes: Vec<Outcome<P>>,
}

impl<P: Payload> Lane<P> {
    pub(crate) fn new(id: LaneId, limits: Limits) -> Self {
        Self {
            id,
            limits,
            next: 1,
            held: VecDeque::new(),
            awaiting: BTreeMap::new(),
            target: None,
            paths: BTreeMap::new(),
            opened_at: BTreeSet::new(),
            session: 0,
            opened: false,
            cursor: 0,
            in_flight: 0,
            redated: false,
            retry: None,
            backoff: FIRST_RETRY,
            unacknowledged: BTreeMap::new(),
            capped: BTreeMap::new(),
            timed: false,
            outcomes: Vec::new(),
        }
    }

    pub(crate) fn id(&self) -> LaneId {
        self.id
    }

    /// The runs that were told of the lane, and keep something of it.
    pub(crate) fn opened_at(&self) -> &BTreeSet<NodeRun> {
        &self.opened_at
    }

    pub(crate) fn target(&self) -> Option<Route> {
        self.target
    }

    /// Messages that are not accepted.
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether nothing is held that was not accepted: then another way may be taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.held.is_empty() && self.awaiting.is_empty()
    }

    /// Whether a message with a lower number is not accepted, or has no reply.
    pub(crate) fn has_below(&self, number: u64) -> bool {
        self.held.front().is_some_and(|held| held.number < number)
            || self.awaiting.first_key_value().is_some_and(|(first, _)| *first < number)
    }

    /// Whether an owner is still to be told that its replies arrived, or that its word did after which it
    /// is asked no more.
    pub(crate) fn owes_acknowledgement(&self) -> bool {
        self.unacknowledged.values().any(Option::is_some)
    }

    /// The number that the next message will have.
    pub(crate) fn next_number(&self) -> u64 {
        self.next
    }

    /// Whether no owner is known that might take what is held.
    pub(crate) fn is_astray(&self) -> bool {
        self.target.is_none_or(|target| !self.paths.contains_key(&target.owner))
            || self.retry.is_some()
    }

    /// Forgets the way. Everything held must be free.
    pub(crate) fn forget(&mut self) {
        self.target = None;
        self.new_session();
        self.retry = None;
    }

    /// Whether no owner can have any of what is held.
    pub(crate) fn is_free(&self) -> bool {
        self.held.iter().all(|held| !held.written)
    }

    /// Takes a message in, behind all others.
    pub(crate) fn push(&mut self, payload: P, wants_reply: bool) {
        let number = self.next;
        self.next += 1;
        self.held.push_back(Held {
            number,
            payload: Some(payload),
            wants_reply,
            size: 0,
            written: false,
            said: None,
        });
    }

    /// Whether something can be written to this run.
    pub(crate) fn has_news_for(&self, run: NodeRun) -> bool {
        self.target.is_some_and(|target| target.owner == run)
            && self.paths.contains_key(&run)
            && self.retry.is_none()
            && (self.redated && self.cursor > 0 || self.cursor < self.held.len() && self.has_room())
    }

    /// A caller waits longer or shorter than was said when its message came in.
    pub(crate) fn redate(&mut self) {
        self.redated = self.cursor > 0;
    }

    /// Owners that are to be told up to where all replies are acknowledged.
    pub(crate) fn to_acknowledge(&self, now: Instant) -> Vec<NodeRun> {
        let is_due = |at: &Option<Instant>| at.is_some_and(|at| at <= now);
        self.unacknowledged.iter().filter(|(_, at)| is_due(at)).map(|(run, _)| *run).collect()
    }

    /// Room in the window for the next message. One that was encoded and did not fit is not tried
    /// again before there is some: its lane would be called ready, and the link woken, without end.
    fn has_room(&self) -> bool {
        let next = self.held.get(self.cursor).map_or(0, |held| held.size).max(1);
        self.cursor == 0
            || (self.cursor < self.limits.window_messages
                && self.in_flight + next <= self.limits.window_bytes)
    }

    /// Takes another way. Everything held must be free.
    pub(crate) fn adopt(&mut self, route: Route) {
        self.drop_ghosts();
        self.target = Some(route);
        self.new_session();
        self.retry = None;
    }

    fn new_session(&mut self) {
        self.session += 1;
        self.opened = false;
        self.cursor = 0;
        self.in_flight = 0;
        self.redated = false;
    }

    /// Drops the places of messages whose callers were told that their time is over.
    fn drop_ghosts(&mut self) {
        self.held.retain(|held| held.payload.is_some());
    }

    /// Gives back everything held, in order: the child is on this node now.
    pub(crate) fn pour(&mut self) -> Vec<(P, bool)> {
        self.new_session();
        self.retry = None;
        std::mem::take(&mut self.held)
            .into_iter()
            .filter_map(|held| Some((held.payload?, held.wants_reply)))
            .collect()
    }

    /// Fails everything that is held: there is no such child any more.
    pub(crate) fn fail(&mut self, why: &NotHandled) {
        self.fail_before(u64::MAX, why);
    }

    /// Fails what is held and has a lower number than this. Everything held must be free.
    pub(crate) fn fail_before(&mut self, number: u64, why: &NotHandled) {
        self.new_session();
        self.retry = None;
        while self.held.front().is_some_and(|held| held.number < number) {
            if let Some(Held { payload: Some(payload), .. }) = self.held.pop_front() {
                self.outcomes.push((payload, Err(SendFailure::NotHandled(why.clone()))));
            }
        }
    }

    /// Messages with lower numbers that nobody waits for are over time, if none of them was written.
    pub(crate) fn expire_before(&mut self, number: u64) {
        let (over, rest): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|held| held.number < number && !held.written && held.deadline().is_none());
        self.held = rest;
        for payload in over.into_iter().filter_map(|held| held.payload) {
            self.outcomes.push((payload, Err(SendFailure::NotHandled(NotHandled::Timeout))));
        }
    }

    /// The hub stops: everything ends. A message may hold references to children, and by them the hub.
    pub(crate) fn abandon(&mut self) {
        let maybe = || Err(SendFailure::MaybeHandled(MaybeHandled::HubStopped));
        for held in std::mem::take(&mut self.held) {
            let why = match held.written {
                true => maybe(),
                false => Err(SendFailure::NotHandled(NotHandled::HubStopped)),
            };
            self.outcomes.extend(held.payload.map(|payload| (payload, why)));
        }
        let awaiting = std::mem::take(&mut self.awaiting);
        self.outcomes.extend(awaiting.into_values().map(|awaiting| (awaiting.payload, maybe())));
        (self.cursor, self.in_flight) = (0, 0);
    }

    /// Whether this is the path to that run.
    pub(crate) fn goes_by(&self, run: NodeRun, path: u64) -> bool {
        self.paths.get(&run) == Some(&path)
    }

    /// Messages for this run go by this path from now on. One with a lower number than is known is
    /// ignored: the threads that tell may overtake each other.
    pub(crate) fn linked(&mut self, run: NodeRun, path: u64) {
        if self.paths.get(&run).is_some_and(|known| *known >= path) {
            return;
        }
        self.unlinked(run);
        self.paths.insert(run, path);
    }

    /// The path to this run is over: what is on its way is lost, or will be ignored there.
    pub(crate) fn unlinked(&mut self, run: NodeRun) {
        if self.paths.remove(&run).is_none() {
            return;
        }
        self.unacknowledged.remove(&run);
        self.capped.remove(&run);
        if self.target.is_some_and(|target| target.owner == run) {
            self.drop_ghosts();
            self.new_session();
        }
    }

    /// This run is out. What it may have had ends here; the rest may take another way.
    pub(crate) fn gone(&mut self, now: Instant, run: NodeRun, answered: bool) {
        self.unlinked(run);
        self.opened_at.remove(&run);
        let owner_gone = self.target.is_some_and(|target| target.owner == run);
        let down = || Err(SendFailure::MaybeHandled(MaybeHandled::NodeDown));
        let lost: Vec<u64> = self
            .awaiting
            .iter()
            .filter(|(_, awaiting)| awaiting.owner == run)
            .map(|(number, _)| *number)
            .collect();
        for number in lost {
            if let Some(awaiting) = self.awaiting.remove(&number) {
                self.outcomes.push((awaiting.payload, down()));
            }
        }
        self.uncap(now);
        if !owner_gone {
            return;
        }
        // The next way may have a lower epoch than the one that this owner named.
        self.target = None;
        for mut held in std::mem::take(&mut self.held) {
            // What was not accepted by who has answered everything before it went was not handled.
            // Without its last word an answer may have been lost with its path.
            if held.written && !answered {
                if let Some(payload) = held.payload {
                    self.outcomes.push((payload, down()));
                }
            } else if held.payload.is_some() {
                held.written = false;
                self.held.push_back(held);
            }
        }
    }

    /// What an owner says.
    pub(crate) fn answer(&mut self, now: Instant, from: NodeRun, frame: DataFrame) -> Answered {
        match frame {
            DataFrame::Accepted { upto, .. } => {
                self.accepted(from, upto);
                if self.opened && self.target.is_some_and(|target| target.owner == from) {
                    self.unacknowledged.entry(from).or_default();
                } else {
                    self.acknowledge(now, from);
                }
                Answered::Nothing
            }
            DataFrame::Reply { number, outcome, .. } => {
                self.accepted(from, number);
                self.reply(now, from, number, outcome);
                Answered::Nothing
            }
            DataFrame::Refused { session, why, .. } => {
                let is_capped =
                    self.capped.get(&from).is_some_and(|told| *told < self.acknowledged());
                if self.unacknowledged.contains_key(&from) || is_capped {
                    self.acknowledge(now, from);
                }
                let current = session == self.session
                    && self.target.is_some_and(|target| target.owner == from);
                if current { self.refused(now, why) } else { Answered::Nothing }
            }
            _ => Answered::Nothing,
        }
    }

    /// All up to this number is in the child's state: some owner accepted it.
    pub(crate) fn is_in_state(&mut self, upto: u64) {
        if let Some(target) = self.target {
            self.accepted(target.owner, upto);
        }
    }

    fn accepted(&mut self, from: NodeRun, upto: u64) {
        while self.held.front().is_some_and(|held| held.number <= upto) {
            let Some(held) = self.held.pop_front() else { return };
            // Only by something new: whoever refuses each session says first what it accepted long ago.
            self.backoff = FIRST_RETRY;
            if self.cursor > 0 {
                self.cursor -= 1;
                self.in_flight = self.in_flight.saturating_sub(held.size);
            }
            if held.wants_reply
                && let Some(payload) = held.payload
            {
                let awaiting = Awaiting { payload, owner: from };
                self.awaiting.insert(held.number, awaiting);
            }
        }
    }

    /// An owner is told soon up to where all is acknowledged, if no message tells it before.
    fn acknowledge(&mut self, now: Instant, owner: NodeRun) {
        let at = self.unacknowledged.entry(owner).or_default();
        if at.is_none() {
            *at = Some(now + ACKNOWLEDGE_AFTER);
            self.timed = true;
        }
    }

    /// What had no reply has one now, or nobody waits for it: owners that were told less than can be
    /// acknowledged now are told soon. The owner of the open session is told at its end, if not before.
    fn uncap(&mut self, now: Instant) {
        if self.capped.is_empty() {
            return;
        }
        let upto = self.acknowledged();
        let session = self.target.filter(|_| self.opened).map(|target| target.owner);
        let less = self.capped.iter().filter(|(run, told)| **told < upto && Some(**run) != session);
        let less: Vec<NodeRun> = less.map(|(run, _)| *run).collect();
        less.into_iter().for_each(|run| self.acknowledge(now, run));
    }

    /// An owner was told that all below this is acknowledged.
    fn acknowledged_to(&mut self, owner: NodeRun, upto: u64) {
        self.unacknowledged.remove(&owner);
        if upto < self.next {
            self.capped.insert(owner, upto);
        } else {
            self.capped.remove(&owner);
        }
    }

    fn reply(
        &mut self,
        now: Instant,
        from: NodeRun,
        number: u64,
        outcome: Result<Bytes, ReplyFailure>,
    ) {
        self.acknowledge(now, from);
        let Some(Awaiting { mut payload, .. }) = self.awaiting.remove(&number) else { return };
        let outcome = outcome.map_err(|failure| {
            let name = payload.body().map(|body| body.name).unwrap_or_default();
            SendFailure::from_reply(failure, &name)
        });
        self.outcomes.push((payload, outcome));
        self.uncap(now);
    }

    fn refused(&mut self, now: Instant, why: Refusal) -> Answered {
        for held in &mut self.held {
            held.written = false;
        }
        self.drop_ghosts();
        self.new_session();
        let at = self.target.map_or(Epoch::ZERO, |target| target.epoch);
        let why = match why {
            // Whoever says so would have the lane follow nobody else for ever.
            Refusal::Moved(route) if !route.epoch.can_follow(at) => Refusal::NotHere,
            Refusal::Stale(epoch) if epoch <= at || !epoch.can_follow(at) => Refusal::NotHere,
            why => why,
        };
        match why {
            Refusal::Moved(route) => Answered::Moved(route),
            Refusal::Stale(epoch) => {
                if let Some(target) = &mut self.target {
                    target.epoch = epoch;
                }
                Answered::Nothing
            }
            Refusal::NotHere => {
                self.retry = Some(now + self.backoff);
                self.timed = true;
                self.backoff = (self.backoff * 2).min(LONGEST_RETRY);
                Answered::NotHere
            }
            Refusal::Stopped => Answered::Stopped,
            Refusal::GivenUp => Answered::GivenUp,
            Refusal::Full => Answered::Full,
        }
    }

    /// The replies to all numbers below this are acknowledged, or nobody waits for them.
    fn acknowledged(&self) -> u64 {
        let awaiting = self.awaiting.keys().next().copied();
        let held = self.held.front().map(|held| held.number);
        awaiting.into_iter().chain(held).min().unwrap_or(self.next)
    }

    /// Tells the owner what callers have made of their deadlines, of messages that it has.
    fn write_budgets(&mut self, now: Instant, budget: &mut usize, out: &mut dyn FnMut(DataFrame)) {
        if !std::mem::take(&mut self.redated) {
            return;
        }
        let (lane, session) = (self.id, self.session);
        for held in self.held.iter_mut().take(self.cursor) {
            let deadline = held.deadline();
            if let Some(at) = deadline
                && held.said != deadline
            {
                held.said = deadline;
                let (number, budget_left) = (held.number, at.saturating_duration_since(now));
                out(DataFrame::Budget { lane, session, number, budget: budget_left });
                *budget = budget.saturating_sub(40);
            }
        }
    }

    /// The next message, encoded. Those before it that cannot be sent, or came too late, end here.
    fn next_body(&mut self, now: Instant) -> Option<Body> {
        loop {
            let held = self.held.get_mut(self.cursor)?;
            // One that was written before may be with its owner: that one says whether it was too late.
            let is_over = !held.written && held.deadline().is_some_and(|at| at <= now);
            let body = match held.payload.as_mut() {
                Some(payload) if !is_over => payload.body(),
                _ => Err(NotHandled::Timeout),
            };
            let reason = match body {
                Ok(body) => return Some(body),
                Err(reason) => reason,
            };
            let dropped = self.held.remove(self.cursor).and_then(|held| held.payload);
            let why = SendFailure::NotHandled(reason);
            self.outcomes.extend(dropped.map(|payload| (payload, Err(why))));
        }
    }

    /// Writes what this run is to have. Tells whether there is more.
    pub(crate) fn write(
        &mut self,
        now: Instant,
        child: &ChildId,
        to: NodeRun,
        budget: &mut usize,
        out: &mut dyn FnMut(DataFrame),
    ) -> bool {
        let (lane, session) = (self.id, self.session);
        let (mut said, mut told) = (false, 0);
        if self.target.is_some_and(|target| target.owner == to) {
            // Deadlines first: a message that waits at the gate must not begin for a caller who gave up while
            // others were written.
            self.write_budgets(now, budget, out);
            while *budget > 0 && self.has_news_for(to) && self.has_room() {
                let acknowledged = self.acknowledged();
                let Some(body) = self.next_body(now) else { break };
                let size = body.bytes.len();
                self.held[self.cursor].size = size;
                // One is always let through: it may be larger than the window.
                if self.cursor > 0 && self.in_flight + size > self.limits.window_bytes {
                    break;
                }
                // The session opens with its first message, so that a gate keeps nothing of those who have
                // nothing to say; and before it, as a message of a session that is not open is a violation.
                if !self.opened {
                    self.opened = true;
                    self.opened_at.insert(to);
                    let epoch = self.target.map_or(Epoch::ZERO, |target| target.epoch);
                    out(DataFrame::Open { lane, session, child: child.clone(), epoch });
                    *budget = budget.saturating_sub(64);
                }
                let held = &mut self.held[self.cursor];
                // From here on it may be with its owner: only that one's refusal, or its end, sends it
                // elsewhere.
                held.written = true;
                held.said = held.deadline();
                out(DataFrame::Message {
                    lane,
                    session,
                    number: held.number,
                    acknowledged,
                    wants_reply: held.wants_reply,
                    budget: held.said.map(|deadline| deadline.saturating_duration_since(now)),
                    trace: body.trace,
                    name: body.name,
                    body: body.bytes,
                });
                self.cursor += 1;
                self.in_flight += size;
                *budget = budget.saturating_sub(size + 48);
                (said, told) = (true, acknowledged);
            }
        }
        // A message says it on its way; without one it is said after a while.
        if said {
            self.acknowledged_to(to, told);
        } else if self.unacknowledged.get(&to).is_some_and(|at| at.is_some_and(|at| at <= now)) {
            let upto = self.acknowledged();
            self.acknowledged_to(to, upto);
            out(DataFrame::Acknowledged { lane, upto });
            *budget = budget.saturating_sub(24);
        }
        *budget == 0 && self.has_news_for(to)
    }

    /// Ends what is over time, and asks again where the child was not yet. Tells whether there may
    /// be something to write.
    pub(crate) fn sweep(&mut self, now: Instant) -> bool {
        let over = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        let late: Vec<u64> = self
            .awaiting
            .iter()
            .filter(|(_, awaiting)| over(awaiting.payload.deadline()))
            .map(|(number, _)| *number)
            .collect();
        for number in late {
            if let Some(awaiting) = self.awaiting.remove(&number) {
                let why = SendFailure::MaybeHandled(MaybeHandled::Timeout);
                self.outcomes.push((awaiting.payload, Err(why)));
                if self.paths.contains_key(&awaiting.owner) {
                    self.acknowledge(now, awaiting.owner);
                }
            }
        }
        self.uncap(now);
        let mut at = 0;
        while at < self.held.len() {
            let Some(held) = self.held.get_mut(at) else { break };
            if !over(held.deadline()) {
                at += 1;
            } else if held.written {
                // Its number stays on its way: the owner still counts it.
                if let Some(payload) = held.payload.take() {
                    let why = SendFailure::MaybeHandled(MaybeHandled::Timeout);
                    self.outcomes.push((payload, Err(why)));
                }
                at += 1;
            } else if let Some(held) = self.held.remove(at)
                && let Some(payload) = held.payload
            {
                let why = SendFailure::NotHandled(NotHandled::Timeout);
                self.outcomes.push((payload, Err(why)));
            }
        }
        if self.retry.is_some_and(|at| at <= now) {
            self.retry = None;
            return !self.held.is_empty();
        }
        false
    }

    /// When the lane itself has something to do, whatever its callers wait for.
    pub(crate) fn next_time(&self) -> Option<Instant> {
        self.retry.into_iter().chain(self.unacknowledged.values().copied().flatten()).min()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let awaiting = self.awaiting.values().filter_map(|awaiting| awaiting.payload.deadline());
        let held = self.held.iter().filter_map(Held::deadline);
        let told = self.unacknowledged.values().copied().flatten();
        awaiting.chain(held).chain(self.retry).chain(told).min()
    }
}

/// What the door does after an owner's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    /// Nothing more.
    Nothing,
    /// The child was handed over: everything held is free and goes there.
    Moved(Route),
    /// The child is not there: everything held is free.
    NotHere,
    /// The child was stopped.
    Stopped,
    /// The child was given up.
    GivenUp,
    /// The owner's node keeps as much for this one as it may.
    Full,
}
