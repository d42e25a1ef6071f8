//! One child as one node sees it: its gate if it is here, the node's lane to it if it is not.
//!
//! A message of this node enters the gate only while the lane is empty, so that nothing overtakes
//! what is still on its way to an owner before. At a commit the gate's queue becomes the lane's,
//! in one call.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    Gone, How, Limits, Payload, SendFailure, Side, Violation,
    gate::{Gate, GateState, Queued, Ticket},
    lane::{Answered, Lane},
};
use crate::{
    error::NotHandled,
    model::{
        child::{Epoch, Route},
        frame::{DataFrame, ReplyFailure},
        id::{ChildId, LaneId, NodeRun},
        message::LaneMark,
        report::StartFailed,
        trace::TraceContext,
    },
};

/// A message that was not taken in; its caller is told at once.
#[derive(Debug)]
pub(crate) struct Rejected<P> {
    pub(crate) payload: P,
    pub(crate) reason: NotHandled,
}

/// A message whose handler starts now.
#[derive(Debug)]
pub(crate) struct Task<P> {
    pub(crate) ticket: Ticket,
    pub(crate) item: Item<P>,
}

/// What a handler is started with.
#[derive(Debug)]
pub(crate) enum Item<P> {
    /// A message of this node.
    Local(P),
    /// A message of another node.
    Remote {
        /// Its registered name.
        name: Arc<str>,
        /// Its CBOR.
        body: Bytes,
        /// Whether its reply is waited for.
        wants_reply: bool,
        /// Where it belongs in a distributed trace.
        trace: Option<TraceContext>,
    },
}

/// What a door wants done.
#[derive(Debug)]
pub(crate) enum Signal<P> {
    /// The child has messages to handle.
    Wake,
    /// There are frames for this peer: call [`Door::write`].
    Ready(Side, NodeRun),
    /// [`Door::sweep`] has something to do at that time. Said for what the door times itself; who
    /// lets a message in knows its deadline.
    Sweep(Instant),
    /// Nobody here knows where the child is, and messages wait for it: ask its home, then call
    /// [`Door::located`]. Asked for once until then.
    Locate,
    /// A message has its reply, or will have none.
    Resolved {
        /// The message.
        payload: P,
        /// CBOR of its result, or why there is none.
        outcome: Result<Bytes, SendFailure>,
    },
}

/// One child as one node sees it.
#[derive(Debug)]
pub(crate) struct Door<P> {
    me: NodeRun,
    child: ChildId,
    limits: Limits,
    gate: Gate<P>,
    lane: Lane<P>,
    route: Option<Route>,
    /// The child's home is asked where it is. The number is that of the first message that came
    /// after the question: an answer that there is no such child says nothing about it.
    locating: Option<u64>,
    /// The open question asks for a start, too.
    is_demanded: bool,
    /// Messages that were refused as the child has ended or did not start, while that question is open; at
    /// most as many as the child's queue holds.
    unstarted: Vec<P>,
    /// Where the registry said last that the child is.
    said: Option<Route>,
    /// Whose refusal named `route`, if the registry has not said it yet.
    redirected_by: Option<NodeRun>,
    /// The owner that a refusal named did not have the child.
    doubt: bool,
    /// The life of the child on this node that the registry said was over: a start that takes longer than
    /// its node waits for opens the door of nobody.
    over: Option<Epoch>,
    ready: BTreeSet<(Side, NodeRun)>,
    signals: VecDeque<Signal<P>>,
}

impl<P: Payload> Door<P> {
    pub(crate) fn new(me: NodeRun, child: ChildId, lane: LaneId, limits: Limits) -> Self {
        Self {
            me,
            child,
            limits,
            gate: Gate::new(limits),
            lane: Lane::new(lane, limits),
            route: None,
            locating: None,
            is_demanded: false,
            unstarted: Vec::new(),
            said: None,
            redirected_by: None,
            doubt: false,
            over: None,
            ready: BTreeSet::new(),
            signals: VecDeque::new(),
        }
    }

    /// The child's home has answered; where the child is, if it is anywhere, was told before with
    /// [`Door::route`]. If it is nowhere, what waited when the question was asked ends here.
    pub(crate) fn located(&mut self, found: bool) {
        self.answered((!found).then_some(NotHandled::NoSuchChild));
    }

    /// There is no such child, and it could not be started on demand.
    pub(crate) fn not_started(&mut self, reason: StartFailed) {
        self.answered(Some(NotHandled::NotStarted { reason }));
    }

    /// `absent`: why there is no such child.
    fn answered(&mut self, absent: Option<NotHandled>) {
        self.is_demanded = false;
        let why = absent.clone().filter(|why| matches!(why, NotHandled::NotStarted { .. }));
        self.resolve_unstarted(&why.unwrap_or(NotHandled::Stopped));
        if let Some(before) = self.locating.take()
            && let Some(why) = absent
            && self.is_lost()
        {
            (self.route, self.said) = (None, None);
            // What has come since the question was asked would have been started for, too.
            let all = matches!(why, NotHandled::NotStarted { .. });
            self.lane.fail_before(if all { u64::MAX } else { before }, &why);
        }
        self.doubt = false;
        self.finish();
    }

    /// The question that is open asks for a start of the child: if that fails the answer says why, which whoever
    /// was to run it does not.
    pub(crate) fn demand(&mut self) {
        self.is_demanded = self.locating.is_some();
    }

    /// These were not handled, as the child has ended, or did not start: that is told now, or with the answer
    /// that says why.
    fn stopped(&mut self, messages: Vec<(P, bool)>) {
        for (payload, _) in messages {
            if self.is_demanded && self.unstarted.len() < self.limits.mailbox {
                self.unstarted.push(payload);
            } else {
                let outcome = Err(SendFailure::NotHandled(NotHandled::Stopped));
                self.signals.push_back(Signal::Resolved { payload, outcome });
            }
        }
    }

    fn resolve_unstarted(&mut self, why: &NotHandled) {
        for payload in std::mem::take(&mut self.unstarted) {
            let outcome = Err(SendFailure::NotHandled(why.clone()));
            self.signals.push_back(Signal::Resolved { payload, outcome });
        }
    }

    /// The child's home has not answered for as long as messages wait that have no deadline of their own:
    /// those end that waited when it was asked. It is asked again for the rest.
    pub(crate) fn unanswered(&mut self) {
        self.is_demanded = false;
        self.resolve_unstarted(&NotHandled::Stopped);
        if let Some(before) = self.locating.take()
            && self.is_lost()
        {
            self.lane.expire_before(before);
        }
        self.finish();
    }

    /// Whether messages wait that have nowhere to go.
    fn is_lost(&self) -> bool {
        (self.route.is_none() || self.doubt)
            && !self.gate.is_here()
            && !self.lane.is_empty()
            && self.lane.is_free()
            && self.lane.is_astray()
    }

    /// Messages that wait here, for the actor or for an owner elsewhere.
    pub(crate) fn queued(&self) -> usize {
        self.gate.queue.len() + self.lane.len()
    }

    /// Messages of this node that wait here, for the actor or for an owner elsewhere.
    pub(crate) fn queued_here(&self) -> usize {
        let local = self.gate.queue.iter().filter(|item| matches!(item, Queued::Local { .. }));
        local.count() + self.lane.len()
    }

    /// Handlers that have started and are not resolved.
    pub(crate) fn unresolved(&self) -> usize {
        self.gate.unresolved()
    }

    /// How long the handler has run that was started first of them.
    pub(crate) fn longest(&self, now: Instant) -> Option<Duration> {
        self.gate.longest(now)
    }

    /// Messages that wait for the actor, and for an owner elsewhere.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        (self.gate.queue.len(), self.lane.len())
    }

    /// Handlers that were started here.
    pub(crate) fn handled(&self) -> u64 {
        self.gate.handled()
    }

    /// Whether a message of this node is on its way to another, or waits for its reply there.
    pub(crate) fn is_calling(&self) -> bool {
        !self.lane.is_idle()
    }

    /// The number of the next message of this node to another.
    pub(crate) fn next_call(&self) -> u64 {
        self.lane.next_number()
    }

    /// Whether one with a lower number is on its way, or waits for its reply there.
    pub(crate) fn is_calling_below(&self, number: u64) -> bool {
        self.lane.has_below(number)
    }

    /// Whether nothing would be lost with it.
    pub(crate) fn is_idle(&self) -> bool {
        self.gate.is_idle()
            && self.lane.is_idle()
            && !self.lane.owes_acknowledgement()
            && self.locating.is_none()
            && self.unstarted.is_empty()
            && self.signals.is_empty()
    }

    /// Whether nothing would be lost with it, and nothing is known of its child: as far as this node
    /// can tell there is none.
    pub(crate) fn is_of_nobody(&self) -> bool {
        self.route.is_none() && self.is_idle()
    }

    /// This node's lane to the child, and the runs that keep something of it.
    pub(crate) fn lane(&self) -> (LaneId, &BTreeSet<NodeRun>) {
        (self.lane.id(), self.lane.opened_at())
    }

    /// The next thing that is wanted.
    pub(crate) fn next_signal(&mut self) -> Option<Signal<P>> {
        self.signals.pop_front()
    }

    /// Takes a message of this node in; its place is the one behind all before it.
    ///
    /// # Errors
    /// Gives the message back: the queue is full.
    pub(crate) fn enter(
        &mut self,
        payload: P,
        wants_reply: bool,
        how: How,
    ) -> Result<(), Rejected<P>> {
        let mine = self.route.is_some_and(|route| route.owner == self.me);
        let here = self.gate.is_here() || mine && !matches!(self.gate.state(), GateState::Moved(_));
        if mine && self.gate.state() == GateState::GivenUp {
            return Err(Rejected { payload, reason: NotHandled::GivenUp });
        }
        let to_gate = here && self.lane.is_empty();
        let held = if to_gate { self.gate.queue.len() } else { self.lane.len() };
        let room = match how {
            How::Try => self.limits.mailbox,
            How::Send => self.limits.mailbox + self.limits.waiting,
        };
        if held >= room {
            return Err(Rejected { payload, reason: NotHandled::Busy });
        }
        if to_gate {
            self.gate.queue.push_back(Queued::Local { payload, wants_reply });
        } else {
            if self.lane.is_empty() {
                if self.route.is_none() {
                    // Whoever had the child before may have forgotten that it was stopped.
                    self.lane.forget();
                }
                self.follow();
            }
            self.lane.push(payload, wants_reply);
        }
        self.finish();
        Ok(())
    }

    /// Takes a message in that is for the child only while that is here. It does not wait for what is on its
    /// way to an earlier owner: it is of another order.
    ///
    /// # Errors
    /// Gives the message back: the child is not here, or its queue is full.
    pub(crate) fn enter_here(&mut self, payload: P) -> Result<(), Rejected<P>> {
        if !self.gate.is_here() {
            return Err(Rejected { payload, reason: NotHandled::Stopped });
        }
        if self.gate.queue.len() >= self.limits.mailbox {
            return Err(Rejected { payload, reason: NotHandled::Busy });
        }
        self.gate.queue.push_back(Queued::Local { payload, wants_reply: false });
        self.finish();
        Ok(())
    }

    /// The caller of one of this node's messages waits longer or shorter than it said before.
    pub(crate) fn redate(&mut self) {
        self.lane.redate();
        self.finish();
    }

    /// The next message for the actor, if its gate is open: its handler starts now.
    pub(crate) fn next_task(&mut self, now: Instant) -> Option<Task<P>> {
        let mut expired = Vec::new();
        let next = self.gate.next(now, &mut expired);
        self.time_out(expired);
        let task = next.map(|(ticket, item)| Task {
            ticket,
            item: match item {
                Queued::Local { payload, .. } => Item::Local(payload),
                Queued::Remote(remote) => Item::Remote {
                    name: remote.name,
                    body: remote.body,
                    wants_reply: remote.wants_reply,
                    trace: remote.trace,
                },
            },
        });
        self.spread_news();
        task
    }

    /// The next thing for the actor that does not wait in its queue, if the gate is open: its handler starts
    /// now. `take` gives it, if there is one.
    pub(crate) fn own_task(
        &mut self,
        now: Instant,
        take: impl FnOnce() -> Option<P>,
    ) -> Option<Task<P>> {
        let payload = if self.gate.is_open() { take()? } else { return None };
        Some(Task { ticket: self.gate.begin(now), item: Item::Local(payload) })
    }

    /// A handler is done. `outcome` is the reply to a remote message that wants one; a local
    /// caller is answered by the hub.
    pub(crate) fn resolved(
        &mut self,
        ticket: Ticket,
        outcome: Option<Result<Bytes, ReplyFailure>>,
    ) {
        self.gate.resolved(ticket, outcome);
        self.spread_news();
    }

    /// Messages go on to the actor.
    #[cfg(test)]
    pub(crate) fn is_open(&self) -> bool {
        self.gate.state() == GateState::Open
    }

    /// Whether there is a message for the actor.
    pub(crate) fn has_work(&self) -> bool {
        self.gate.has_work()
    }

    /// The child runs here at this epoch, with what `marks` say in its state. `false`: the life of that
    /// epoch is over, and nobody is let in.
    pub(crate) fn open(&mut self, epoch: Epoch, marks: &[LaneMark]) -> bool {
        if self.over.is_some_and(|over| epoch <= over) {
            return false;
        }
        self.gate.open(epoch, marks);
        self.take_marks(marks);
        self.here(epoch);
        true
    }

    /// A successor is built here.
    pub(crate) fn expect(&mut self, epoch: Epoch, marks: &[LaneMark]) {
        self.gate.expect(epoch, marks);
        self.take_marks(marks);
        self.finish();
    }

    /// What of this node's own lane is in the state that came here. Its owner's word of that may
    /// have been lost, and what waits goes to the gate without its number.
    fn take_marks(&mut self, marks: &[LaneMark]) {
        let own = (self.me, self.lane.id());
        for mark in marks.iter().filter(|mark| (mark.run, mark.lane) == own) {
            self.lane.is_in_state(mark.accepted);
        }
    }

    /// The successor of this epoch is dropped, if it did not open.
    pub(crate) fn unexpect(&mut self, epoch: Epoch) {
        self.gate.unexpect(epoch);
        self.follow();
        self.finish();
    }

    /// A freeze begins: nothing more is started.
    pub(crate) fn close(&mut self) {
        self.gate.close();
    }

    /// A freeze is given up, or a held copy is the newest after all: the queue goes on.
    pub(crate) fn reopen(&mut self, epoch: Epoch) {
        self.gate.reopen(epoch);
        self.here(epoch);
    }

    fn here(&mut self, epoch: Epoch) {
        self.learn(Route { owner: self.me, epoch });
        self.follow();
        self.finish();
    }

    /// What of each lane is in the state. Meant for a closed gate.
    pub(crate) fn marks(&self) -> Vec<LaneMark> {
        self.gate.marks()
    }

    /// The commit: the child is `route.owner`'s. What is queued goes there, in order.
    pub(crate) fn move_away(&mut self, route: Route) {
        for item in self.gate.move_away(route) {
            if let Queued::Local { payload, wants_reply } = item {
                self.send_on(payload, wants_reply);
            }
        }
        self.learn(route);
        self.follow();
        self.finish();
    }

    /// The child was stopped for good: what is queued is refused.
    pub(crate) fn vacate(&mut self, reason: &NotHandled) {
        let queue = self.gate.vacate();
        self.refuse(queue, reason);
        self.finish();
    }

    /// The hub stops: nothing is kept, also not what waits for other nodes.
    pub(crate) fn abandon(&mut self) {
        self.lane.abandon();
        self.resolve_unstarted(&NotHandled::HubStopped);
        self.vacate(&NotHandled::HubStopped);
    }

    fn refuse(&mut self, queue: impl IntoIterator<Item = Queued<P>>, reason: &NotHandled) {
        for item in queue {
            if let Queued::Local { payload, .. } = item {
                let outcome = Err(SendFailure::NotHandled(reason.clone()));
                self.signals.push_back(Signal::Resolved { payload, outcome });
            }
        }
    }

    /// The child is this node's, has no actor, and is started again: what comes is kept.
    pub(crate) fn wait(&mut self, epoch: Epoch) {
        self.gate.wait(epoch);
        self.here(epoch);
    }

    /// The child is this node's and was given up: what is queued, and what comes, is refused.
    pub(crate) fn give_up(&mut self, epoch: Epoch) {
        let queue = self.gate.give_up(epoch);
        self.refuse(queue, &NotHandled::GivenUp);
        self.here(epoch);
    }

    /// The actor ended unasked: the queue is kept until it runs again.
    pub(crate) fn crashed(&mut self) {
        self.gate.crashed();
        self.finish();
    }

    /// Started handlers are no longer waited for.
    pub(crate) fn cut_off(&mut self) {
        self.gate.cut_off();
        self.finish();
    }

    /// Whether handlers may start: not during a pause.
    pub(crate) fn suspend(&mut self, suspended: bool) {
        self.gate.suspend(suspended);
        self.finish();
    }

    /// The registry says where the child is.
    pub(crate) fn route(&mut self, route: Option<Route>) {
        match route {
            Some(route) => self.learn(route),
            None => {
                let mine = self.said.filter(|said| said.owner == self.me);
                self.over = self.over.max(mine.map(|said| said.epoch));
                (self.route, self.said) = (None, None);
                if !self.gate.is_here() {
                    // What came while the child was about to be here, or to end.
                    let local = self.gate.take_local();
                    self.stopped(local);
                }
                if !self.gate.is_here() && self.locating.is_none() && self.lane.is_free() {
                    self.lane.fail(&NotHandled::Stopped);
                }
            }
        }
        self.follow();
        self.finish();
    }

    /// What this node itself knows of where the child is.
    fn learn(&mut self, route: Route) {
        self.said = Some(route);
        if self.route.is_none_or(|known| known.epoch <= route.epoch) {
            self.route = Some(route);
            (self.redirected_by, self.doubt) = (None, false);
        }
    }

    /// Lets the lane take the best way that is known, if nothing of it may be with another owner.
    fn follow(&mut self) {
        if !self.lane.is_free() {
            return;
        }
        // What this gate handed over long ago may have been stopped since.
        let Some(known) = self.route else { return self.take_back() };
        let moved = match self.gate.state() {
            GateState::Moved(route) => Some(route),
            _ => None,
        };
        // That the child went was known at once: another owner at the same epoch was told later.
        let best = moved.filter(|moved| moved.epoch > known.epoch).unwrap_or(known);
        if best.owner != self.me {
            self.take_back();
        }
        if best.owner == self.me {
            // Whatever waits for a child that is here waits at its gate.
            if self.lane.target() != Some(best) {
                self.lane.adopt(best);
            }
            if self.gate.state() == GateState::GivenUp {
                return self.lane.fail(&NotHandled::GivenUp);
            }
            for (payload, wants_reply) in self.lane.pour() {
                self.gate.queue.push_back(Queued::Local { payload, wants_reply });
            }
        } else if self
            .lane
            .target()
            .is_none_or(|target| replaces(best, target) || target.owner == self.me)
        {
            self.lane.adopt(best);
        }
    }

    /// Gives the lane what waits at the gate, unless the child is here: it came while the child was
    /// about to be. A later life of the child here would handle it after what came later.
    fn take_back(&mut self) {
        if self.gate.is_here() {
            return;
        }
        let earlier = self.gate.take_local();
        if earlier.is_empty() {
            return;
        }
        let later = self.lane.pour();
        for (payload, wants_reply) in earlier.into_iter().chain(later) {
            self.send_on(payload, wants_reply);
        }
    }

    /// What waited for the child here goes to where it is, unless it was for the child here alone.
    fn send_on(&mut self, payload: P, wants_reply: bool) {
        if payload.stays() {
            let outcome = Err(SendFailure::NotHandled(NotHandled::Stopped));
            self.signals.push_back(Signal::Resolved { payload, outcome });
        } else {
            self.lane.push(payload, wants_reply);
        }
    }

    /// The messages of this node's lane for that peer, or the answers to that peer's lanes, go by
    /// this path from now on: what was on another is void. Numbers rise; a lower one is ignored.
    pub(crate) fn linked(&mut self, side: Side, run: NodeRun, path: u64) {
        // What was ready for the path before was never asked for.
        self.ready.remove(&(side, run));
        match side {
            Side::Calls => self.lane.linked(run, path),
            Side::Answers => self.gate.linked(run, path),
        }
        self.finish();
    }

    /// A path to this peer, or of its lanes, is over.
    pub(crate) fn unlinked(&mut self, side: Side, run: NodeRun, path: u64) {
        match side {
            Side::Calls if self.lane.goes_by(run, path) => self.lane.unlinked(run),
            Side::Answers if self.gate.comes_by(run, path) => self.gate.unlinked(run),
            _ => return,
        }
        self.ready.remove(&(side, run));
        self.follow();
        self.finish();
    }

    /// This run is out: it went down, or left in order.
    pub(crate) fn gone(&mut self, now: Instant, run: NodeRun, how: Gone) {
        self.lane.gone(now, run, how.answered);
        self.gate.gone(now, run, how.left);
        self.ready.remove(&(Side::Calls, run));
        self.ready.remove(&(Side::Answers, run));
        if self.redirected_by == Some(run) {
            // Nobody else has said so, and nothing below it would be followed.
            (self.route, self.redirected_by, self.doubt) = (self.said, None, false);
            if self.lane.is_free() {
                self.lane.forget();
            }
        }
        self.follow();
        self.finish();
    }

    /// A frame of this peer, of its lane to the child or about this node's. What comes by a path
    /// that is not the current one is ignored: it was sent again, or will be.
    ///
    /// # Errors
    /// The peer broke the protocol; its link must be closed.
    pub(crate) fn frame(
        &mut self,
        now: Instant,
        (from, path): (NodeRun, u64),
        frame: DataFrame,
    ) -> Result<(), Violation> {
        let current = match Side::of(&frame) {
            Some(Side::Calls) => self.gate.comes_by(from, path),
            Some(Side::Answers) => self.lane.goes_by(from, path),
            None => false,
        };
        if !current {
            return Ok(());
        }
        let outcome = match frame {
            DataFrame::Open { .. }
            | DataFrame::Message { .. }
            | DataFrame::Budget { .. }
            | DataFrame::Closed { .. }
            | DataFrame::Acknowledged { .. } => self.gate.frame(now, from, frame),
            DataFrame::Accepted { .. } | DataFrame::Reply { .. } | DataFrame::Refused { .. } => {
                match self.lane.answer(now, from, frame) {
                    Answered::Nothing => {}
                    Answered::Moved(route) => {
                        if self.route.is_none_or(|known| known.epoch < route.epoch) {
                            self.route = Some(route);
                            self.redirected_by = Some(from);
                        }
                        self.follow();
                    }
                    Answered::NotHere => {
                        self.doubt = self.redirected_by.is_some();
                        self.follow();
                    }
                    Answered::Full => self.lane.fail(&NotHandled::Busy),
                    Answered::GivenUp => self.follow_or_fail(&NotHandled::GivenUp),
                    Answered::Stopped => self.follow_or_fail(&NotHandled::Stopped),
                }
                Ok(())
            }
            _ => Ok(()),
        };
        self.finish();
        outcome
    }

    /// The owner refuses all that waits: it goes on if the child was started again elsewhere, and ends
    /// with this reason if not.
    fn follow_or_fail(&mut self, reason: &NotHandled) {
        let target = self.lane.target();
        let is_newer = |target| self.route.is_some_and(|known| replaces(known, target));
        if target.is_some_and(is_newer) {
            self.follow();
        } else if *reason == NotHandled::Stopped && self.is_demanded {
            let held = self.lane.pour();
            self.stopped(held);
        } else {
            self.lane.fail(reason);
        }
    }

    /// Gives the frames that this peer is to have by this path, of about `budget` bytes. Tells
    /// whether there are more; if not, [`Signal::Ready`] says when there are again.
    pub(crate) fn write(
        &mut self,
        now: Instant,
        side: Side,
        (to, path): (NodeRun, u64),
        mut budget: usize,
        out: &mut dyn FnMut(DataFrame),
    ) -> bool {
        let more = match side {
            Side::Calls if self.lane.goes_by(to, path) => {
                self.lane.write(now, &self.child, to, &mut budget, out)
            }
            Side::Answers if self.gate.comes_by(to, path) => self.gate.write(to, &mut budget, out),
            // Another thread has gone over to another path since, where it will be asked.
            _ => return false,
        };
        if !more {
            self.ready.remove(&(side, to));
        }
        self.finish();
        more
    }

    /// Ends what is over time.
    pub(crate) fn sweep(&mut self, now: Instant) {
        let mut expired = Vec::new();
        self.gate.sweep(now, &mut expired);
        self.time_out(expired);
        self.lane.sweep(now);
        for run in self.lane.to_acknowledge(now) {
            if self.ready.insert((Side::Calls, run)) {
                self.signals.push_back(Signal::Ready(Side::Calls, run));
            }
        }
        self.follow();
        self.finish();
    }

    /// When a sweep has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        [self.gate.next_deadline(), self.lane.next_deadline()].into_iter().flatten().min()
    }

    fn time_out(&mut self, expired: Vec<P>) {
        for payload in expired {
            let outcome = Err(SendFailure::NotHandled(NotHandled::Timeout));
            self.signals.push_back(Signal::Resolved { payload, outcome });
        }
    }

    fn spread_news(&mut self) {
        for run in self.gate.take_news() {
            if self.ready.insert((Side::Answers, run)) {
                self.signals.push_back(Signal::Ready(Side::Answers, run));
            }
        }
    }

    fn finish(&mut self) {
        for (payload, outcome) in std::mem::take(&mut self.lane.outcomes) {
            self.signals.push_back(Signal::Resolved { payload, outcome });
        }
        if std::mem::take(&mut self.lane.timed)
            && let Some(at) = self.lane.next_time()
        {
            self.signals.push_back(Signal::Sweep(at));
        }
        self.spread_news();
        if let Some(target) = self.lane.target()
            && !self.ready.contains(&(Side::Calls, target.owner))
            && self.lane.has_news_for(target.owner)
        {
            self.ready.insert((Side::Calls, target.owner));
            self.signals.push_back(Signal::Ready(Side::Calls, target.owner));
        }
        if self.gate.has_work() {
            self.signals.push_back(Signal::Wake);
        }
        if self.locating.is_none() && self.is_lost() {
            self.locating = Some(self.lane.next_number());
            self.signals.push_back(Signal::Locate);
        }
    }
}

/// Whether a lane takes this route instead of the one that it has. Two sides of a split may have taken
/// the child over at one epoch: when they meet the registry names one of them, and who was told of the
/// other first would wait for it for ever.
fn replaces(route: Route, before: Route) -> bool {
    route.epoch > before.epoch || route.epoch == before.epoch && route.owner != before.owner
}
