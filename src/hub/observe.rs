//! Answers who looks at the cluster: from this node's engine and doors, or by asking another node.

use actix::prelude::*;
use futures_util::future::{LocalBoxFuture, ready};
use tokio::sync::oneshot;

use super::{
    Hub,
    effects::worker_of,
    system::{HubSystem, Running},
    worker::Peek,
};
use crate::{
    engine::{
        children::{Move, Phase},
        io::Way,
    },
    error::ApplyError,
    model::{
        id::{ChildId, NodeId, NodeRun},
        member::{Member, NodePath},
        observe::{
            Answer, ChildPhase, HandoverReport, HandoverStatus, HandoversReport, LeftReport,
            LinkReport, MOST_ASKED, MOST_EVENTS, MOST_SHOWN, NodeReport, ObserveWord, ParkedReport,
            Question, RuntimeReport, StateReport, StateUnknown,
        },
        parked::{ApplyAnswer, ParkedInfo},
        words::cut,
    },
};

/// Questions to other nodes that may be open.
const MOST_OPEN: usize = 4_096;
/// Those of them whose answers may be long.
const MOST_LONG: usize = 16;
/// The largest state that is shown by way of a third node, in bytes.
const MOST_RELAYED: usize = 64 << 10;

/// Bytes of the reason of a parked state in a list.
const SHOWN_REASON: usize = 256;

/// Asks a node, this one or another. It may never answer: whoever asks sets the deadline.
#[derive(Message)]
#[rtype(result = "Result<Answer, Unanswered>")]
pub(crate) struct Observe {
    pub(crate) node: NodeId,
    pub(crate) question: Question,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// The node was not asked: no link leads to it, or too many questions are open.
    NotAsked,
    /// The node did not answer in time, or went.
    Silent,
}

/// A question to another node that is open.
pub(crate) struct Open {
    /// Who was asked.
    pub(crate) asked: NodeRun,
    /// On which ways; an answer comes back on one of them.
    ways: Vec<Way>,
    /// Whether its answer may be long.
    is_long: bool,
    asker: oneshot::Sender<Answer>,
}

impl Open {
    /// Whether an answer of this run that comes on this way is one to it.
    fn waits_for(&self, from: NodeRun, way: Way) -> bool {
        self.asked == from && self.ways.contains(&way)
    }
}

#[test]
fn an_answer_counts_only_from_the_run_that_was_asked_on_a_way_on_which_it_was() {
    let [asked, other] = [1, 2].map(|key| NodeId::from_key([key; 32]));
    let asked = NodeRun { node: asked, nonce: 7 };
    let (asker, _told) = oneshot::channel();
    let ways = vec![Way::By(other), Way::Straight];
    let open = Open { asked, ways, is_long: false, asker };
    assert!(open.waits_for(asked, Way::Straight) && open.waits_for(asked, Way::By(other)));
    assert!(!open.waits_for(asked, Way::By(asked.node)));
    assert!(!open.waits_for(NodeRun { nonce: 8, ..asked }, Way::Straight));
    assert!(!open.waits_for(NodeRun { node: other, nonce: 7 }, Way::Straight));
}

/// Has a look at what a hub that runs has. `None` if it does not run.
pub(crate) struct Look<R>(pub(crate) Box<dyn FnOnce(&Running) -> R + Send>);

impl<R: Send + 'static> Message for Look<R> {
    type Result = Option<R>;
}

impl<R: Send + 'static> Handler<Look<R>> for HubSystem {
    type Result = Option<R>;

    fn handle(&mut self, Look(look): Look<R>, _: &mut Context<Self>) -> Self::Result {
        self.running.as_ref().map(look)
    }
}

impl Handler<Observe> for HubSystem {
    type Result = ResponseFuture<Result<Answer, Unanswered>>;

    fn handle(&mut self, message: Observe, ctx: &mut Context<Self>) -> Self::Result {
        let Observe { node, question } = message;
        let not_asked = || Box::pin(ready(Err(Unanswered::NotAsked)));
        let Some(running) = &mut self.running else {
            return not_asked();
        };
        if node == running.engine.me().node {
            let answer = self.answer(question);
            return Box::pin(async move { Ok(answer.await) });
        }
        running.questions.retain(|_, open| !open.asker.is_closed());
        let Some(asked) = running.engine.view().member(node).map(Member::run) else {
            return not_asked();
        };
        if running.questions.len() >= MOST_OPEN {
            return not_asked();
        }
        let is_long = matches!(question, Question::State { .. } | Question::ParkedState { .. });
        if is_long && running.questions.values().filter(|open| open.is_long).count() >= MOST_LONG {
            return Box::pin(ready(Ok(Answer::State(Err(StateUnknown::Busy)))));
        }
        let mut ways = running.engine.ways_to(node);
        if ways.is_empty() {
            return not_asked();
        }
        if question.acts() {
            // The second time it would be told that it is under way, or done.
            ways.truncate(1);
        }
        running.next_request += 1;
        let request = running.next_request;
        for way in &ways {
            let question = question.clone();
            running.engine.observe(asked, *way, ObserveWord::Ask { request, question });
        }
        let (asker, told) = oneshot::channel();
        running.questions.insert(request, Open { asked, ways, is_long, asker });
        self.perform(ctx);
        Box::pin(async move { told.await.map_err(|_| Unanswered::Silent) })
    }
}

impl HubSystem {
    /// A member asks, or answers.
    pub(crate) fn observed(
        &mut self,
        from: NodeRun,
        way: Way,
        word: ObserveWord,
        ctx: &mut Context<Self>,
    ) {
        let Some(running) = &mut self.running else {
            return;
        };
        match word {
            ObserveWord::Tell { request, answer } => {
                if running.questions.get(&request).is_some_and(|open| open.waits_for(from, way))
                    && let Some(open) = running.questions.remove(&request)
                {
                    // Whoever asked may have gone.
                    let _ = open.asker.send(answer);
                }
            }
            ObserveWord::Ask { request, question } => {
                let answer = self.answer(question);
                ctx.spawn(answer.into_actor(self).map(move |answer, system, ctx| {
                    system.tell(from, way, request, answer, ctx);
                }));
            }
        }
    }

    fn tell(
        &mut self,
        to: NodeRun,
        way: Way,
        request: u64,
        mut answer: Answer,
        ctx: &mut Context<Self>,
    ) {
        let Some(running) = &mut self.running else {
            return;
        };
        let (hop, limit) = match way {
            Way::Straight => (to.node, MOST_SHOWN),
            Way::By(node) => (node, MOST_RELAYED),
        };
        if let Answer::State(Ok(report)) = &answer {
            let network = self.hub.shared().doors.network.get();
            let queued = network
                .and_then(|network| {
                    network.traffic().into_iter().find(|link| link.peer.node == hop)
                })
                .map_or(0, |link| link.queued);
            let (size, limit) = (report.state.len() as u64, limit as u64);
            // What is looked at must not crowd out what the cluster has to say.
            if size > limit {
                answer = Answer::State(Err(StateUnknown::TooLarge { size, limit }));
            } else if queued > MOST_SHOWN as u64 {
                answer = Answer::State(Err(StateUnknown::Busy));
            }
        }
        let began = (running.clock)();
        running.engine.observe(to, way, ObserveWord::Tell { request, answer });
        self.perform(ctx);
        if let Some(running) = &mut self.running {
            let now = (running.clock)();
            running.fair.count(now, hop, now.saturating_duration_since(began));
        }
    }

    fn answer(&mut self, question: Question) -> LocalBoxFuture<'static, Answer> {
        let Some(running) = &self.running else {
            return Box::pin(std::future::pending());
        };
        let shared = self.hub.shared();
        let answer = match question {
            Question::Node { links } => {
                let (queued, handled) = shared.doors.tally();
                Answer::Node(NodeReport {
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    uptime: shared.doors.began.elapsed(),
                    queued,
                    handled,
                    handovers: running.engine.moves().count() as u64,
                    links: if links { self.links(running) } else { Vec::new() },
                    left: running.engine.left().map(|left| LeftReport {
                        children: left.children as u64,
                        first: left.first,
                    }),
                })
            }
            Question::Children { ids } => {
                let ids = ids.into_iter().take(MOST_ASKED);
                Answer::Children(ids.filter_map(|child| self.runtime(running, child)).collect())
            }
            Question::Handovers { since } => {
                let (ended, count) = shared.history.since(since);
                let running = self.handovers(running);
                Answer::Handovers(HandoversReport { running, ended, count })
            }
            Question::State { child } => return self.state(running, child),
            Question::Parked => {
                let reports = running.parked.iter().map(|(info, state)| {
                    let reason = cut(info.reason.clone(), SHOWN_REASON);
                    let bytes = state.len() as u64;
                    ParkedReport { info: ParkedInfo { reason, ..info.clone() }, bytes }
                });
                Answer::Parked(reports.collect())
            }
            Question::ParkedState { key } => {
                let found = running.parked.find(&key);
                Answer::State(found.ok_or(StateUnknown::NotHere).and_then(|(info, state)| {
                    let (size, limit) = (state.len() as u64, MOST_SHOWN as u64);
                    if size > limit {
                        return Err(StateUnknown::TooLarge { size, limit });
                    }
                    let (epoch, state_version) = (key.epoch, info.state_version);
                    Ok(StateReport { epoch, state_version, state: state.clone() })
                }))
            }
            Question::ApplyParked { key, replace, wait } => {
                let mut request = self.hub.apply_parked(&key).timeout(wait);
                if replace {
                    request = request.replace();
                }
                return Box::pin(async move {
                    Answer::Applied(match request.await {
                        Ok(()) => ApplyAnswer::Applied,
                        Err(ApplyError::NotHeld { .. }) => ApplyAnswer::NotHeld,
                        Err(ApplyError::Failed { reason, .. }) => ApplyAnswer::Failed(reason),
                        Err(ApplyError::NoAnswer { .. } | ApplyError::HubStopped) => {
                            ApplyAnswer::NoAnswer
                        }
                    })
                });
            }
            Question::DiscardParked { key } => {
                let hub = self.hub.clone();
                return Box::pin(async move {
                    Answer::Discarded(hub.discard_parked(&key).await.is_ok())
                });
            }
            Question::History { child, limit } => {
                let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(MOST_EVENTS);
                let recorder = shared.recorder.get();
                Answer::History(recorder.map(|recorder| recorder.history(&child, limit)))
            }
            Question::Departed => Answer::Departed(shared.departed()),
            Question::Events { filter, before, limit } => {
                let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(MOST_EVENTS);
                let recorder = shared.recorder.get();
                Answer::Events(recorder.map(|recorder| recorder.events(&filter, before, limit)))
            }
            Question::Drain { on } => {
                let (children, could) = can_leave(running, running.engine.me());
                let begins = could || !on;
                if begins {
                    self.drain_or_not(on);
                }
                Answer::Drain { children, begins }
            }
            Question::Stay => {
                let hub = self.hub.clone();
                return Box::pin(async move { Answer::Stay(hub.stay().await.is_ok()) });
            }
            Question::Leave => {
                let (children, begins) = can_leave(running, running.engine.me());
                if begins {
                    // With the hub's own way: it stops when it has left.
                    let hub = self.hub.clone();
                    actix_rt::spawn(async move {
                        if let Err(error) = hub.leave().await {
                            tracing::warn!(hub = %hub.name(), %error, "the node did not leave");
                        }
                    });
                }
                Answer::Leave { children, begins }
            }
        };
        Box::pin(ready(answer))
    }

    /// Does what somebody has asked this node for; what comes of it is told as an event.
    fn drain_or_not(&self, on: bool) {
        let hub = self.hub.clone();
        actix_rt::spawn(async move {
            if !on {
                // An error means that it has stopped.
                let _ = hub.undrain().await;
            } else if let Err(error) = hub.drain().await {
                tracing::warn!(hub = %hub.name(), %error, "the node is not empty");
            }
        });
    }

    fn links(&self, running: &Running) -> Vec<LinkReport> {
        let engine = &running.engine;
        let others = engine.view().members.values().filter(|other| other.id != engine.me().node);
        let report = |other: &Member| {
            let path = engine.path_to(other.run());
            LinkReport {
                to: other.id,
                up: path == NodePath::Link,
                by: path.by(),
                round_trip: engine.round_trip(other.id),
            }
        };
        others.map(report).collect()
    }

    fn runtime(&self, running: &Running, child: ChildId) -> Option<RuntimeReport> {
        let instance = running.engine.instance(&child)?;
        let shared = self.hub.shared();
        let (mailbox, handled) = shared.doors.known(&child).map_or((0, 0), |cell| cell.tally());
        Some(RuntimeReport {
            phase: match instance.phase() {
                Phase::Starting { .. } => ChildPhase::Starting,
                Phase::Running => ChildPhase::Running,
                Phase::Waiting(_) if instance.ownership().is_given_up() => ChildPhase::Failed,
                Phase::Waiting(_) => ChildPhase::Waiting,
                Phase::Moving(_) => ChildPhase::Moving,
                Phase::Stopping | Phase::Retiring { .. } => ChildPhase::Stopping,
                Phase::Yielding { .. } => ChildPhase::Yielding,
            },
            restarts: instance.restarted(),
            mailbox,
            handled,
            since: shared.clock.at(instance.since()),
            came: instance.came(),
            immovable: instance.immovable().map(str::to_owned),
            child,
        })
    }

    fn handovers(&self, running: &Running) -> Vec<HandoverReport> {
        let me = running.engine.me().node;
        let moves = running.engine.moves().take(MOST_ASKED);
        moves.map(|(child, moving)| running_report(&self.hub, me, child, moving)).collect()
    }

    fn state(&self, running: &Running, child: ChildId) -> LocalBoxFuture<'static, Answer> {
        let Some(instance) = running.engine.instance(&child) else {
            return Box::pin(ready(Answer::State(Err(StateUnknown::NotHere))));
        };
        let epoch = instance.epoch();
        let workers = self.hub.shared().workers();
        let worker = workers.get(worker_of(&child, workers.len().max(1))).cloned();
        Box::pin(async move {
            let peeked = match worker {
                Some(worker) => worker.send(Peek { child }).await.ok().flatten(),
                None => None,
            };
            let peeked = peeked.unwrap_or(Err(StateUnknown::NotHere));
            Answer::State(peeked.map(|(state_version, state)| StateReport {
                epoch,
                state_version,
                state,
            }))
        })
    }
}

/// How many children a node has, and whether there is somebody to take them.
pub(crate) fn can_leave(running: &Running, run: NodeRun) -> (u64, bool) {
    let engine = &running.engine;
    let children = engine.registry().count_of(run) as u64;
    (children, children == 0 || engine.has_successors(run))
}

fn running_report(hub: &Hub, from: NodeId, child: &ChildId, moving: &Move) -> HandoverReport {
    let now = hub.shared().doors.uptime.now();
    HandoverReport {
        child: child.clone(),
        kind: moving.kind().clone(),
        from,
        to: moving.to().node,
        epoch: moving.epoch(),
        status: HandoverStatus::Running,
        bytes: (moving.bytes() > 0).then_some(moving.bytes()),
        began: hub.shared().clock.at(moving.started()),
        took: now.saturating_duration_since(moving.started()),
        phases: moving.phases(now),
    }
}
