//! One child's door on its owner: what may come in, what waits, what was started, what is answered.
//!
//! A message is *accepted* when its handler starts. What is still queued when the gate closes is
//! not accepted: a remote sender's lane still holds it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{Limits, Payload, Violation};
use crate::model::{
    child::{Epoch, Route},
    frame::{DataFrame, Refusal, ReplyFailure},
    id::{LaneId, NodeRun},
    message::LaneMark,
    trace::TraceContext,
};

/// Whether a gate lets messages in, and lets them go on to the actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GateState {
    /// There is no child here, and has not been since the last was stopped.
    Absent,
    /// A successor is built: messages of exactly this epoch queue.
    Expecting,
    /// Messages queue and are handled.
    Open,
    /// Messages queue: the child is frozen, or is started again.
    Closed,
    /// The child was given up: messages are refused.
    GivenUp,
    /// The child was handed over.
    Moved(Route),
}

/// A handler that has started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// What a queue holds.
#[derive(Debug)]
pub(crate) enum Queued<P> {
    /// Of this node.
    Local { payload: P, wants_reply: bool },
    /// Of another node.
    Remote(RemoteItem),
}

/// A message of another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RemoteItem {
    pub(crate) run: NodeRun,
    pub(crate) lane: LaneId,
    pub(crate) number: u64,
    pub(crate) wants_reply: bool,
    pub(crate) deadline: Option<Instant>,
    pub(crate) trace: Option<TraceContext>,
    pub(crate) name: Arc<str>,
    pub(crate) body: Bytes,
}

#[derive(Debug)]
enum Started {
    Local,
    Remote { run: NodeRun, lane: LaneId, number: u64, wants_reply: bool },
}

/// One lane as its child's owner sees it.
#[derive(Debug, Default)]
struct LaneIn {
    session: u64,
    /// Whether messages of the session are taken.
    ok: bool,
    /// All numbers up to this one have been started, here or at an owner before.
    accepted: u64,
    /// The highest number that was started here.
    started: u64,
    /// Told to the lane.
    told: u64,
    /// What was started here and is still to be told, when marks have gone beyond it since.
    owed: Option<u64>,
    /// The highest number that was queued in the session.
    last: u64,
    queued: usize,
    queued_bytes: usize,
    /// Started and not resolved.
    pending: BTreeSet<u64>,
    replies: BTreeMap<u64, Result<Bytes, ReplyFailure>>,
    reply_bytes: usize,
    unsent: BTreeSet<u64>,
    /// Everything below has its reply.
    acknowledged_upto: u64,
    refusal: Option<Refusal>,
    /// Since when its node is known to have no path here while others went.
    absent: Option<Instant>,
    /// Its node is out: no reply is kept for it until it is heard of again.
    gone: bool,
    /// Its node was out since it opened its last session: nothing that it says of this lane leads here until it
    /// opens the next one, so nobody waits for that.
    severed: bool,
    /// Its node uses it no more.
    over: bool,
}

impl LaneIn {
    fn keep(&mut self, number: u64, outcome: Result<Bytes, ReplyFailure>, limits: &Limits) {
        self.reply_bytes += outcome.as_ref().map_or(0, Bytes::len);
        self.replies.insert(number, outcome);
        self.unsent.insert(number);
        // The oldest that were written go first. Who still waits for one is told `MaybeHandled`
        // by its own deadline.
        while self.replies.len() > 1
            && (self.replies.len() > limits.reply_cache
                || self.reply_bytes > limits.reply_cache_bytes)
        {
            let written = self.replies.keys().find(|n| !self.unsent.contains(n)).copied();
            let Some(number) = written.or_else(|| self.replies.keys().next().copied()) else {
                return;
            };
            self.drop_reply(number);
            self.unsent.remove(&number);
        }
    }

    fn drop_reply(&mut self, number: u64) {
        if let Some(outcome) = self.replies.remove(&number) {
            self.reply_bytes -= outcome.map_or(0, |body| body.len());
        }
    }

    fn acknowledged(&mut self, upto: u64) {
        self.acknowledged_upto = self.acknowledged_upto.max(upto);
        while let Some((number, _)) = self.replies.first_key_value() {
            let number = *number;
            if number >= self.acknowledged_upto {
                break;
            }
            self.drop_reply(number);
            self.unsent.remove(&number);
        }
    }

    fn forget_replies(&mut self) {
        self.replies.clear();
        self.reply_bytes = 0;
        self.unsent.clear();
        self.refusal = None;
        self.told = self.accepted;
        self.owed = None;
    }

    /// Whether its node may not know yet what was started here. Nobody else could tell it once the child
    /// has ended, and it would take that for refused.
    fn is_unheard(&self) -> bool {
        self.started > 0 && self.started >= self.acknowledged_upto
    }

    /// Whether somebody may ask for what is kept of it.
    fn is_owed(&self) -> bool {
        self.has_news() || !self.severed && (self.is_unheard() || !self.replies.is_empty())
    }

    fn has_news(&self) -> bool {
        self.refusal.is_some()
            || self.owed.is_some()
            || self.told < self.accepted
            || !self.unsent.is_empty()
    }
}

/// One child's door on its owner.
#[derive(Debug)]
pub(crate) struct Gate<P> {
    limits: Limits,
    state: GateState,
    epoch: Epoch,
    /// The lowest epoch it has held since it opened: an abort closes nobody out.
    since: Epoch,
    suspended: bool,
    /// The child was stopped here at this epoch.
    ended: Option<Epoch>,
    pub(crate) queue: VecDeque<Queued<P>>,
    lanes: BTreeMap<(NodeRun, LaneId), LaneIn>,
    /// The number of the path by which the lanes of each run come.
    paths: BTreeMap<NodeRun, u64>,
    /// Handlers that have started and are not resolved, each with when it started.
    started: BTreeMap<Ticket, (Instant, Started)>,
    tickets: u64,
    /// Runs for which there is something to write.
    news: BTreeSet<NodeRun>,
}

impl<P: Payload> Gate<P> {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: GateState::Absent,
            epoch: Epoch::ZERO,
            since: Epoch::ZERO,
            suspended: false,
            ended: None,
            queue: VecDeque::new(),
            lanes: BTreeMap::new(),
            paths: BTreeMap::new(),
            started: BTreeMap::new(),
            tickets: 0,
            news: BTreeSet::new(),
        }
    }

    pub(crate) fn state(&self) -> GateState {
        self.state
    }

    /// How long the handler has run that was started first of those that are not resolved.
    pub(crate) fn longest(&self, now: Instant) -> Option<Duration> {
        let (_, (since, _)) = self.started.first_key_value()?;
        Some(now.saturating_duration_since(*since))
    }

    /// Handlers that were started here.
    pub(crate) fn handled(&self) -> u64 {
        self.tickets
    }

    pub(crate) fn unresolved(&self) -> usize {
        self.started.len()
    }

    /// Whether messages of this node queue here.
    pub(crate) fn is_here(&self) -> bool {
        matches!(self.state, GateState::Open | GateState::Closed)
    }

    /// Whether the actor has something to do.
    pub(crate) fn has_work(&self) -> bool {
        self.state == GateState::Open && !self.suspended && !self.queue.is_empty()
    }

    /// Whether nothing is kept that anybody may ask for.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.state, GateState::Absent | GateState::Moved(_))
            && self.queue.is_empty()
            && self.started.is_empty()
            && !self.lanes.values().any(LaneIn::is_owed)
    }

    pub(crate) fn suspend(&mut self, suspended: bool) {
        self.suspended = suspended;
    }

    /// The child runs at this epoch. `marks`: what its state contains.
    pub(crate) fn open(&mut self, epoch: Epoch, marks: &[LaneMark]) {
        self.take_marks(marks);
        if !matches!(self.state, GateState::Closed | GateState::Expecting | GateState::Open) {
            self.refuse_all(Refusal::NotHere);
        }
        if self.state != GateState::Open {
            self.since = epoch;
        }
        self.state = GateState::Open;
        self.epoch = epoch;
        self.ended = None;
    }

    /// A successor is built: messages of this epoch queue.
    pub(crate) fn expect(&mut self, epoch: Epoch, marks: &[LaneMark]) {
        self.take_marks(marks);
        self.refuse_all(Refusal::NotHere);
        self.state = GateState::Expecting;
        self.epoch = epoch;
        self.since = epoch;
        self.ended = None;
    }

    /// The successor of this epoch is dropped: what queued for it is refused. A later one is still
    /// expected.
    pub(crate) fn unexpect(&mut self, epoch: Epoch) {
        if self.state == GateState::Expecting && self.epoch == epoch {
            self.refuse_all(Refusal::NotHere);
            self.state = GateState::Absent;
        }
    }

    pub(crate) fn close(&mut self) {
        if self.state == GateState::Open {
            self.state = GateState::Closed;
        }
    }

    /// The freeze is given up, or the held copy is the newest after all.
    pub(crate) fn reopen(&mut self, epoch: Epoch) {
        if !self.is_here() {
            self.refuse_all(Refusal::NotHere);
            self.since = epoch;
        }
        self.state = GateState::Open;
        self.epoch = epoch;
    }

    fn take_marks(&mut self, marks: &[LaneMark]) {
        for mark in marks {
            // A node goes back to no lane: what is said of an older one than is known says nothing.
            match self.newest_lane(mark.run) {
                Some(newest) if newest > mark.lane => continue,
                Some(newest) if newest < mark.lane => {
                    self.forget_lanes(|run, lane| run == mark.run && lane.session == 0);
                }
                _ => {}
            }
            let lane = self.lanes.entry((mark.run, mark.lane)).or_default();
            // What was started elsewhere is told when the lane opens a session here, not before:
            // until then it asks there. What was started here is still told: a refusal may follow,
            // and the lane must not take it for refused.
            if lane.told < lane.accepted {
                lane.owed = Some(lane.accepted);
            }
            lane.accepted = lane.accepted.max(mark.accepted);
            lane.told = lane.accepted;
        }
    }

    fn newest_lane(&self, run: NodeRun) -> Option<LaneId> {
        let lanes = self.lanes.range((run, LaneId(0))..=(run, LaneId(u64::MAX)));
        lanes.map(|((_, id), _)| *id).next_back()
    }

    /// Forgets lanes that are over, with what is queued of them.
    fn forget_lanes(&mut self, is_over: impl Fn(NodeRun, &LaneIn) -> bool) {
        let mut queued = 0;
        self.lanes.retain(|(run, _), lane| {
            let over = is_over(*run, lane);
            if over {
                queued += lane.queued;
            }
            !over
        });
        if queued > 0 {
            let lanes = &self.lanes;
            self.queue.retain(|item| match item {
                Queued::Remote(remote) => lanes.contains_key(&(remote.run, remote.lane)),
                Queued::Local { .. } => true,
            });
        }
    }

    /// How far each lane's messages are in the state. Meant for a closed gate.
    pub(crate) fn marks(&self) -> Vec<LaneMark> {
        self.lanes
            .iter()
            .filter(|(_, lane)| lane.accepted > 0)
            .map(|((run, lane), state)| LaneMark {
                run: *run,
                lane: *lane,
                accepted: state.accepted,
            })
            .collect()
    }

    /// The commit. Remote messages that wait are refused, local ones are given back, in order.
    pub(crate) fn move_away(&mut self, route: Route) -> Vec<Queued<P>> {
        self.refuse_all(Refusal::Moved(route));
        self.state = GateState::Moved(route);
        std::mem::take(&mut self.queue).into()
    }

    /// The child was stopped for good. Local messages that wait are given back, in order.
    pub(crate) fn vacate(&mut self) -> Vec<Queued<P>> {
        self.drop_started();
        self.refuse_all(Refusal::Stopped);
        self.state = GateState::Absent;
        self.ended = Some(self.epoch);
        std::mem::take(&mut self.queue).into()
    }

    /// The child is started again at this epoch, or later: what comes is kept. If it was given up it
    /// is refused until then.
    pub(crate) fn wait(&mut self, epoch: Epoch) {
        self.drop_started();
        if !matches!(self.state, GateState::Open | GateState::Closed | GateState::GivenUp) {
            self.refuse_all(Refusal::NotHere);
            self.since = epoch;
        }
        if self.state != GateState::GivenUp {
            self.state = GateState::Closed;
        }
        self.epoch = epoch;
        self.ended = None;
    }

    /// The child was given up at this epoch. Local messages that wait are given back, in order.
    pub(crate) fn give_up(&mut self, epoch: Epoch) -> Vec<Queued<P>> {
        self.drop_started();
        self.refuse_all(Refusal::GivenUp);
        self.state = GateState::GivenUp;
        self.epoch = epoch;
        self.ended = None;
        std::mem::take(&mut self.queue).into()
    }

    /// Every session is refused, and the remote messages that wait with it. No session ends without
    /// a word while its path stands: its lane would wait for ever for who may have its messages.
    fn refuse_all(&mut self, why: Refusal) {
        for ((run, _), lane) in &mut self.lanes {
            if lane.ok {
                lane.ok = false;
                lane.refusal = Some(why);
                self.news.insert(*run);
            }
            lane.queued = 0;
            lane.queued_bytes = 0;
        }
        self.queue.retain(|item| matches!(item, Queued::Local { .. }));
    }

    /// Takes the messages of this node that wait, in order.
    pub(crate) fn take_local(&mut self) -> Vec<(P, bool)> {
        let is_local = |item: &Queued<P>| matches!(item, Queued::Local { .. });
        if !self.queue.iter().any(is_local) {
            return Vec::new();
        }
        let mut taken = Vec::new();
        for item in std::mem::take(&mut self.queue) {
            match item {
                Queued::Local { payload, wants_reply } => taken.push((payload, wants_reply)),
                remote @ Queued::Remote(_) => self.queue.push_back(remote),
            }
        }
        taken
    }

    /// The actor ended without being asked: started handlers have no reply, the queue is kept.
    pub(crate) fn crashed(&mut self) {
        self.drop_started();
        if matches!(self.state, GateState::Open | GateState::Closed) {
            self.state = GateState::Closed;
        }
    }

    fn drop_started(&mut self) {
        self.fail_started(&ReplyFailure::Dropped);
    }

    /// Started handlers are no longer waited for: no reply of theirs leaves.
    pub(crate) fn cut_off(&mut self) {
        self.fail_started(&ReplyFailure::Lost("the child was moved by force".to_owned()));
    }

    fn fail_started(&mut self, why: &ReplyFailure) {
        for (_, started) in std::mem::take(&mut self.started).into_values() {
            if let Started::Remote { run, lane, number, wants_reply: true } = started {
                self.answer(run, lane, number, Err(why.clone()));
            }
        }
    }

    /// The next message for the actor: taking it is accepting it. Those whose time is over are put
    /// into `expired`.
    pub(crate) fn next(
        &mut self,
        now: Instant,
        expired: &mut Vec<P>,
    ) -> Option<(Ticket, Queued<P>)> {
        if self.state != GateState::Open || self.suspended {
            return None;
        }
        while let Some(item) = self.queue.pop_front() {
            let started = match &item {
                Queued::Local { payload, .. } => {
                    if payload.deadline().is_some_and(|deadline| deadline <= now) {
                        if let Queued::Local { payload, .. } = item {
                            expired.push(payload);
                        }
                        continue;
                    }
                    Started::Local
                }
                Queued::Remote(remote) => {
                    let key = (remote.run, remote.lane);
                    let Some(lane) = self.lanes.get_mut(&key) else { continue };
                    lane.queued = lane.queued.saturating_sub(1);
                    lane.queued_bytes = lane.queued_bytes.saturating_sub(remote.body.len());
                    lane.accepted = lane.accepted.max(remote.number);
                    lane.started = remote.number;
                    self.news.insert(remote.run);
                    let (run, lane_id, number) = (remote.run, remote.lane, remote.number);
                    if remote.deadline.is_some_and(|deadline| deadline <= now) {
                        if remote.wants_reply {
                            self.answer(run, lane_id, number, Err(ReplyFailure::Expired));
                        }
                        continue;
                    }
                    if remote.wants_reply {
                        lane.pending.insert(number);
                    }
                    let wants_reply = remote.wants_reply;
                    Started::Remote { run, lane: lane_id, number, wants_reply }
                }
            };
            self.tickets += 1;
            let ticket = Ticket(self.tickets);
            self.started.insert(ticket, (now, started));
            return Some((ticket, item));
        }
        None
    }

    /// A handler starts of something that did not wait here.
    pub(crate) fn begin(&mut self, now: Instant) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.started.insert(ticket, (now, Started::Local));
        ticket
    }

    /// Whether handlers may start.
    pub(crate) fn is_open(&self) -> bool {
        self.state == GateState::Open && !self.suspended
    }

    /// A handler is done. `outcome` is the reply to a remote message that wants one.
    pub(crate) fn resolved(
        &mut self,
        ticket: Ticket,
        outcome: Option<Result<Bytes, ReplyFailure>>,
    ) {
        let Some((_, started)) = self.started.remove(&ticket) else { return };
        if let Started::Remote { run, lane, number, wants_reply: true } = started {
            self.answer(run, lane, number, outcome.unwrap_or(Err(ReplyFailure::Dropped)));
        }
    }

    fn answer(
        &mut self,
        run: NodeRun,
        lane: LaneId,
        number: u64,
        outcome: Result<Bytes, ReplyFailure>,
    ) {
        let Some(lane) = self.lanes.get_mut(&(run, lane)) else { return };
        lane.pending.remove(&number);
        if number >= lane.acknowledged_upto && !lane.gone {
            lane.keep(number, outcome, &self.limits);
            self.news.insert(run);
        }
    }

    /// A frame of a lane of another node.
    pub(crate) fn frame(
        &mut self,
        now: Instant,
        from: NodeRun,
        frame: DataFrame,
    ) -> Result<(), Violation> {
        match frame {
            DataFrame::Open { lane, session, epoch, .. } => {
                return self.session(from, lane, session, epoch);
            }
            DataFrame::Closed { lane } => {
                if let Some(lane) = self.lanes.get_mut(&(from, lane)) {
                    lane.over = true;
                    self.forget_lanes(|run, lane| run == from && lane.over);
                }
            }
            DataFrame::Message {
                lane,
                session,
                number,
                acknowledged: acknowledged_upto,
                wants_reply,
                budget,
                trace,
                name,
                body,
            } => {
                let deadline = budget.map(|budget| now + budget.min(LONGEST));
                let item = RemoteItem {
                    run: from,
                    lane,
                    number,
                    wants_reply,
                    deadline,
                    trace,
                    name,
                    body,
                };
                return self.message(session, acknowledged_upto, item);
            }
            DataFrame::Budget { lane, session, number, budget } => {
                self.redate(from, lane, session, number, now + budget.min(LONGEST));
            }
            DataFrame::Acknowledged { lane, upto } => {
                if let Some(lane) = self.lanes.get_mut(&(from, lane)) {
                    lane.acknowledged(upto);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The caller of a message that may still be queued waits until then, not as long as was said.
    fn redate(&mut self, run: NodeRun, id: LaneId, session: u64, number: u64, deadline: Instant) {
        if !self.lanes.get(&(run, id)).is_some_and(|lane| lane.ok && lane.session == session) {
            return;
        }
        for item in &mut self.queue {
            if let Queued::Remote(remote) = item
                && (remote.run, remote.lane, remote.number) == (run, id, number)
                && remote.deadline.is_some()
            {
                remote.deadline = Some(deadline);
            }
        }
    }

    fn session(
        &mut self,
        run: NodeRun,
        id: LaneId,
        session: u64,
        epoch: Epoch,
    ) -> Result<(), Violation> {
        // A node has one lane to a child at a time, and takes a new one when nothing of the last is
        // left: what is kept is bounded by the nodes, whatever they open.
        if let Some(newest) = self.newest_lane(run).filter(|newest| *newest != id) {
            let opened = self.lanes.get(&(run, newest)).is_some_and(|lane| lane.session > 0);
            if opened && newest > id {
                return Err(Violation("a lane was opened after a later one".to_owned()));
            }
            self.lanes.iter_mut().for_each(|((at, other), lane)| {
                lane.over |= *at == run && *other != id;
            });
            self.forget_lanes(|_, lane| lane.over);
        }
        let refusal = match self.state {
            // Another owner is known there: this gate was superseded, or is not told yet.
            _ if epoch > self.epoch && self.ended.is_none() => Some(Refusal::NotHere),
            GateState::Open | GateState::Closed => {
                (epoch < self.since).then_some(Refusal::Stale(self.epoch))
            }
            GateState::Expecting => (epoch != self.epoch).then_some(Refusal::NotHere),
            GateState::GivenUp => Some(Refusal::GivenUp),
            GateState::Moved(route) if epoch > route.epoch => Some(Refusal::NotHere),
            GateState::Moved(route) => Some(Refusal::Moved(route)),
            GateState::Absent => Some(match self.ended {
                Some(ended) if epoch <= ended => Refusal::Stopped,
                _ => Refusal::NotHere,
            }),
        };
        let lane = self.lanes.entry((run, id)).or_default();
        // A frame of an earlier link that comes late opens nothing: the lane has gone over to a later one.
        if session <= lane.session {
            return Ok(());
        }
        lane.session = session;
        (lane.gone, lane.severed) = (false, false);
        // All that was not accepted is written again on this session; what waits of the one before would be
        // handled twice.
        lane.last = lane.accepted;
        lane.queued = 0;
        lane.queued_bytes = 0;
        lane.ok = refusal.is_none();
        lane.refusal = refusal;
        // What was told on a link before may not have arrived.
        lane.told = 0;
        lane.owed = None;
        lane.unsent = lane.replies.keys().copied().collect();
        self.news.insert(run);
        self.queue.retain(|item| match item {
            Queued::Remote(remote) => (remote.run, remote.lane) != (run, id),
            Queued::Local { .. } => true,
        });
        Ok(())
    }

    fn message(
        &mut self,
        session: u64,
        acknowledged_upto: u64,
        item: RemoteItem,
    ) -> Result<(), Violation> {
        let run = item.run;
        let Some(lane) = self.lanes.get_mut(&(run, item.lane)) else {
            return Err(Violation("a message of a lane that was not opened".to_owned()));
        };
        // True of the lane, whatever becomes of the message.
        lane.acknowledged(acknowledged_upto);
        if session != lane.session || !lane.ok {
            return Ok(());
        }
        if item.number <= lane.accepted {
            lane.told = lane.told.min(item.number.saturating_sub(1));
            // The reply is kept by the node that ran the handler, which need not be this one.
            if lane.replies.contains_key(&item.number) {
                lane.unsent.insert(item.number);
            }
            self.news.insert(run);
            return Ok(());
        }
        if item.number <= lane.last {
            return Ok(());
        }
        let full = lane.queued >= self.limits.window_messages
            || (lane.queued > 0 && lane.queued_bytes + item.body.len() > self.limits.window_bytes);
        if full {
            return Err(Violation(format!(
                "more than {} messages or {} bytes are on their way in one lane",
                self.limits.window_messages, self.limits.window_bytes
            )));
        }
        lane.last = item.number;
        lane.queued += 1;
        lane.queued_bytes += item.body.len();
        self.queue.push_back(Queued::Remote(item));
        Ok(())
    }

    /// Whether the lanes of that run come by this path.
    pub(crate) fn comes_by(&self, run: NodeRun, path: u64) -> bool {
        self.paths.get(&run) == Some(&path)
    }

    /// The lanes of this run come by this path from now on, and are answered there: what may have been lost
    /// with the one before is told again, whether the child is still here or not. A path
    /// with a lower number than is known is ignored.
    pub(crate) fn linked(&mut self, run: NodeRun, path: u64) {
        if self.paths.get(&run).is_some_and(|known| *known >= path) {
            return;
        }
        self.unlinked(run);
        self.paths.insert(run, path);
        // The node's last run has ended and sends nothing again.
        self.forget_lanes(|at, _| at.node == run.node && at != run);
        for ((at, _), lane) in &mut self.lanes {
            if *at != run {
                continue;
            }
            (lane.gone, lane.absent) = (false, None);
            if lane.is_unheard() {
                lane.told = 0;
                self.news.insert(run);
            }
            if !lane.replies.is_empty() {
                lane.unsent = lane.replies.keys().copied().collect();
                self.news.insert(run);
            }
        }
    }

    /// The path of this run is over, and its sessions with it.
    pub(crate) fn unlinked(&mut self, run: NodeRun) {
        if self.paths.remove(&run).is_none() {
            return;
        }
        for ((at, _), lane) in &mut self.lanes {
            if *at == run {
                lane.ok = false;
                lane.queued = 0;
                lane.queued_bytes = 0;
                lane.refusal = None;
                // Whoever comes back opens a new session, and is told anew.
                lane.owed = None;
                lane.told = lane.accepted;
            }
        }
        self.queue.retain(|item| !matches!(item, Queued::Remote(remote) if remote.run == run));
        self.news.remove(&run);
    }

    /// This run is out: its replies are not kept any longer. If it went down it may come back as
    /// the same run, as one that only seemed dead does, and send again what was accepted: its marks
    /// are kept for [`FORGET_AFTER`], counted from the first that is out after it lost its path.
    pub(crate) fn gone(&mut self, now: Instant, run: NodeRun, left: bool) {
        self.unlinked(run);
        let paths = &self.paths;
        self.lanes.retain(|(at, _), lane| {
            if paths.contains_key(at) {
                lane.absent = None;
                return true;
            }
            if *at == run {
                lane.forget_replies();
                (lane.gone, lane.severed) = (true, true);
            }
            let absent = *lane.absent.get_or_insert(now);
            let over = now.saturating_duration_since(absent) >= FORGET_AFTER;
            !(left && *at == run || over && lane.pending.is_empty())
        });
    }

    /// Runs for which there is something to write, taken.
    pub(crate) fn take_news(&mut self) -> BTreeSet<NodeRun> {
        std::mem::take(&mut self.news)
    }

    /// Writes what this run is to be told. Tells whether there is more.
    pub(crate) fn write(
        &mut self,
        to: NodeRun,
        budget: &mut usize,
        out: &mut dyn FnMut(DataFrame),
    ) -> bool {
        for ((_, id), lane) in self.lanes.range_mut((to, LaneId(0))..=(to, LaneId(u64::MAX))) {
            let id = *id;
            if let Some(upto) = lane.owed.take() {
                out(DataFrame::Accepted { lane: id, upto });
                *budget = budget.saturating_sub(32);
            }
            if lane.told < lane.accepted {
                lane.told = lane.accepted;
                out(DataFrame::Accepted { lane: id, upto: lane.accepted });
                *budget = budget.saturating_sub(32);
            }
            while let Some(number) = lane.unsent.pop_first() {
                let Some(outcome) = lane.replies.get(&number).cloned() else { continue };
                *budget = budget.saturating_sub(32 + outcome.as_ref().map_or(0, Bytes::len));
                out(DataFrame::Reply { lane: id, number, outcome });
                if *budget == 0 {
                    return true;
                }
            }
            // After everything that was accepted: what follows was not handled.
            if let Some(why) = lane.refusal.take() {
                out(DataFrame::Refused { lane: id, session: lane.session, why });
                *budget = budget.saturating_sub(64);
            }
            if *budget == 0 {
                return true;
            }
        }
        false
    }

    /// Takes local messages out whose time is over.
    pub(crate) fn sweep(&mut self, now: Instant, expired: &mut Vec<P>) {
        let over = |item: &Queued<P>| match item {
            Queued::Local { payload, .. } => payload.deadline().is_some_and(|at| at <= now),
            Queued::Remote(_) => false,
        };
        if !self.queue.iter().any(over) {
            return;
        }
        for item in std::mem::take(&mut self.queue) {
            match item {
                Queued::Local { payload, .. } if payload.deadline().is_some_and(|at| at <= now) => {
                    expired.push(payload);
                }
                item => self.queue.push_back(item),
            }
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.queue
            .iter()
            .filter_map(|item| match item {
                Queued::Local { payload, .. } => payload.deadline(),
                Queued::Remote(_) => None,
            })
            .min()
    }
}

/// How long a node that went down may take to come back as the same run.
const FORGET_AFTER: Duration = Duration::from_secs(3_600);

/// The longest budget that a message may name.
const LONGEST: Duration = Duration::from_secs(86_400);
