//! Answers who looks at the cluster: from this node's engine and doors, or by asking another node.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use actix::prelude::*;
use futures_util::future::{LocalBoxFuture, ready};
use tokio::sync::oneshot;

use super::{
    effects::worker_of,
    system::{HubSystem, Running},
    worker::Peek,
};
use crate::{
    engine::children::{Move, Phase},
    model::{
        id::{ChildId, NodeId, NodeRun},
        message::PeerMessage,
        observe::{
            Answer, ChildPhase, HandoverReport, HandoverStatus, MOST_ASKED, MOST_SHOWN, NodeReport,
            ObserveWord, Question, RuntimeReport, StateReport, StateUnknown,
        },
    },
};

/// Questions to other nodes that may be open.
const MOST_OPEN: usize = 4_096;

/// Asks a node, this one or another. `None`: it was not asked, or it went before it answered. It
/// may never answer: whoever asks sets the deadline.
#[derive(Message)]
#[rtype(result = "Option<Answer>")]
pub(crate) struct Observe {
    pub(crate) node: NodeId,
    pub(crate) question: Question,
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
    type Result = ResponseFuture<Option<Answer>>;

    fn handle(&mut self, message: Observe, _: &mut Context<Self>) -> Self::Result {
        let Observe { node, question } = message;
        let Some(running) = &mut self.running else {
            return Box::pin(ready(None));
        };
        if node == running.engine.me().node {
            let answer = self.answer(question);
            return Box::pin(async move { Some(answer.await) });
        }
        running.questions.retain(|_, asker| !asker.is_closed());
        if running.questions.len() >= MOST_OPEN {
            return Box::pin(ready(None));
        }
        let (tell, told) = oneshot::channel();
        running.next_request += 1;
        let request = running.next_request;
        running.questions.insert(request, tell);
        let word = PeerMessage::Observe(ObserveWord::Ask { request, question });
        let network = self.hub.shared().doors.network.get();
        if network.is_none_or(|network| network.send(node, &word).is_err()) {
            return Box::pin(ready(None));
        }
        Box::pin(async move { told.await.ok() })
    }
}

impl HubSystem {
    /// A peer asks, or answers.
    pub(crate) fn observed(&mut self, from: NodeRun, word: ObserveWord) {
        let Some(running) = &mut self.running else {
            return;
        };
        if !running.engine.view().is_live(from) {
            return;
        }
        match word {
            ObserveWord::Tell { request, answer } => {
                if let Some(asker) = running.questions.remove(&request) {
                    // Whoever asked may have gone.
                    let _ = asker.send(answer);
                }
            }
            ObserveWord::Ask { request, question } => {
                let answer = self.answer(question);
                let doors = self.hub.shared().doors.clone();
                actix_rt::spawn(async move {
                    let mut answer = answer.await;
                    let network = doors.network.get();
                    let queued = network
                        .and_then(|n| n.traffic().into_iter().find(|link| link.peer == from))
                        .map_or(0, |link| link.queued);
                    // What is looked at must not crowd out what the cluster has to say.
                    if matches!(answer, Answer::State(Ok(_))) && queued > MOST_SHOWN as u64 {
                        answer = Answer::State(Err(StateUnknown::Busy));
                    }
                    let word = PeerMessage::Observe(ObserveWord::Tell { request, answer });
                    if let Some(network) = network
                        && let Err(error) = network.send(from.node, &word)
                    {
                        tracing::debug!(peer = %from, %error, "an answer was not sent");
                    }
                });
            }
        }
    }

    fn answer(&mut self, question: Question) -> LocalBoxFuture<'static, Answer> {
        let Some(running) = &self.running else {
            return Box::pin(std::future::pending());
        };
        let shared = self.hub.shared();
        let answer = match question {
            Question::Node => {
                let (queued, handled) = shared.doors.tally();
                Answer::Node(NodeReport {
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    uptime: shared.doors.began.elapsed(),
                    queued,
                    handled,
                    handovers: running.engine.moves().count() as u64,
                })
            }
            Question::Children { ids } => {
                let ids = ids.into_iter().take(MOST_ASKED);
                Answer::Children(ids.filter_map(|child| self.runtime(running, child)).collect())
            }
            Question::Handovers { limit } => {
                let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(MOST_ASKED);
                Answer::Handovers(self.handovers(running, limit))
            }
            Question::State { child } => return self.state(running, child),
            Question::Leave => {
                let (children, begins) = can_leave(running);
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

    fn runtime(&self, running: &Running, child: ChildId) -> Option<RuntimeReport> {
        let instance = running.engine.instance(&child)?;
        let shared = self.hub.shared();
        let (mailbox, handled) = shared.doors.known(&child).map_or((0, 0), |cell| cell.tally());
        Some(RuntimeReport {
            phase: match instance.phase {
                Phase::Starting(_) => ChildPhase::Starting,
                Phase::Running => ChildPhase::Running,
                Phase::Moving(_) => ChildPhase::Moving,
                Phase::Stopping => ChildPhase::Stopping,
                Phase::Yielding { .. } => ChildPhase::Yielding,
            },
            restarts: instance.restarted,
            mailbox,
            handled,
            since: Instant::now().saturating_duration_since(instance.since),
            came: shared.history.came(&child),
            child,
        })
    }

    fn handovers(&self, running: &Running, limit: usize) -> Vec<HandoverReport> {
        let me = running.engine.me().node;
        let mut reports: Vec<_> = running
            .engine
            .moves()
            .map(|(child, moving)| running_report(me, child, moving))
            .collect();
        reports.sort_by_key(|report| std::cmp::Reverse(report.began));
        reports.truncate(limit);
        reports.extend(self.hub.shared().history.latest(limit - reports.len()));
        reports
    }

    fn state(&self, running: &Running, child: ChildId) -> LocalBoxFuture<'static, Answer> {
        let Some(instance) = running.engine.instance(&child) else {
            return Box::pin(ready(Answer::State(Err(StateUnknown::NotHere))));
        };
        let epoch = instance.ownership.epoch;
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

/// How many children this node has, and whether there is somebody to take them.
pub(crate) fn can_leave(running: &Running) -> (u64, bool) {
    let engine = &running.engine;
    let me = engine.me();
    let children = engine.registry().owned_by(me).count() as u64;
    (children, children == 0 || engine.has_successors())
}

/// Milliseconds since 1970 of a moment so long ago.
pub(crate) fn unix_millis(ago: Duration) -> u64 {
    let at = SystemTime::now().checked_sub(ago).unwrap_or(UNIX_EPOCH);
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn running_report(from: NodeId, child: &ChildId, moving: &Move) -> HandoverReport {
    let now = Instant::now();
    let took = now.saturating_duration_since(moving.started);
    HandoverReport {
        child: child.clone(),
        kind: Some(moving.ownership.spec.kind().clone()),
        from,
        to: moving.to.node,
        epoch: moving.ownership.epoch,
        status: HandoverStatus::Running,
        bytes: (moving.bytes > 0).then_some(moving.bytes),
        began: unix_millis(took),
        took,
        phases: moving.phases(now),
    }
}
