//! The end of an app's hub: leaves, forces what does not go in time, and says what came of all.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use actix::prelude::*;
use bytes::Bytes;
use futures_util::{
    StreamExt,
    future::{join, join_all},
    stream,
};
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    Hub, Shared,
    clock::unix_now,
    effects::worker_of,
    ends::Patience,
    farewell::say_bye,
    left_state::{LeftState, sync_folder},
    requests::HubStopped,
    system::{HubSystem, Running, SystemReply},
    worker::{Rest, Surrender},
};
use crate::{
    engine::io::{LeaveFailed, Reply, Request},
    model::{
        child::{ChildSpec, Epoch},
        id::{ChildId, Incarnation},
        member::NodeState,
        parked::{ParkedInfo, ParkedKey},
        report::{ChildLeft, MOST_LEFT, named},
        settings::Migration,
    },
};

/// How long the engine's answer may be late.
const LATE: Duration = Duration::from_millis(250);
/// How long after the deadline the engine may take to say what is left.
const SEIZE: Duration = Duration::from_millis(1_500);
/// How long an actor may take to come to rest when its handlers are cut off: it may hold its own
/// context, or its thread.
const CUT_OFF: Duration = Duration::from_millis(1_250);
/// How long the others may take to hear the last answers.
const WORDS: Duration = Duration::from_millis(750);
/// How long after the deadline states may be written.
const WRITING: Duration = Duration::from_millis(2_750);
/// How long after its deadline a shutdown may end, whatever handlers do: what stands above, and more
/// than a second for the network and the threads.
pub(super) const OVERTIME: Duration = Duration::from_secs(4);
/// How often is looked whether somebody takes children who did not a moment ago.
const LOOK: Duration = Duration::from_millis(50);
/// Children that a report names in its line.
const NAMED: usize = 3;
/// States that are encoded and written at a time.
const AT_ONCE: usize = 8;

/// What came of a shutdown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// How many children other nodes have taken over.
    pub handed_over: u64,
    /// Children that nobody took, and whose states are in files now, by id; then parked states that no
    /// other node has.
    pub written: Vec<WrittenState>,
    /// Children whose states ended with this node, each with the reason, by id; then parked states.
    pub lost: Vec<ChildLeft>,
    /// Whether the deadline passed, so that what was left was forced.
    pub forced: bool,
    /// Whether the hub did not say in time what was left: more may be lost than is named.
    pub incomplete: bool,
    /// How long it took until the hub began to stop.
    pub took: Duration,
}

/// In one line, for a log; the first three that were lost are named.
///
/// ```
/// # use actix_hub::ShutdownReport;
/// let text = ShutdownReport::default().to_string();
/// assert_eq!(text, "0 children handed over in 0.0 s");
/// ```
impl fmt::Display for ShutdownReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let children = if self.handed_over == 1 { "child" } else { "children" };
        let took = self.took.as_secs_f64();
        write!(f, "{} {children} handed over in {took:.1} s", self.handed_over)?;
        if let written @ 1.. = self.written.len() {
            write!(f, ", {written} written into files")?;
        }
        if let lost @ 1.. = self.lost.len() {
            write!(f, ", {lost} lost{}", named(lost, &self.lost[..lost.min(NAMED)]))?;
        }
        if self.forced {
            f.write_str("; the deadline passed")?;
        }
        if self.incomplete {
            f.write_str("; what else was lost is not known")?;
        }
        Ok(())
    }
}

/// A state that was written into a file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WrittenState {
    /// The child.
    pub child: ChildId,
    /// The file; [`LeftState::read`] reads it.
    pub path: PathBuf,
    /// Why the child was not handed over.
    pub reason: String,
}

/// A child that is left when its node ends.
#[derive(Clone, Debug)]
pub(crate) struct Leftover {
    pub(crate) spec: Arc<ChildSpec>,
    pub(crate) epoch: Epoch,
    /// Why it is left.
    pub(crate) reason: String,
}

impl Leftover {
    fn lost(&self, why: Option<String>) -> ChildLeft {
        let reason = match why {
            Some(why) => format!("{}; {why}", self.reason),
            None => self.reason.clone(),
        };
        ChildLeft { child: self.spec.id().clone(), reason }
    }
}

/// What a node still had when its engine ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seized {
    left: Vec<Leftover>,
    /// Parked states that no other node has.
    parked: Vec<(ParkedInfo, Bytes)>,
    /// Nobody else was in.
    is_alone: bool,
    /// Children that others own, and have not said that they run.
    committed: u64,
    life: Option<Incarnation>,
}

/// Leaves, for the shutdown that has begun.
#[derive(Message)]
#[rtype(result = "Result<Result<(), LeaveFailed>, HubStopped>")]
struct Wind {
    timeout: Duration,
}

impl Handler<Wind> for HubSystem {
    type Result = ResponseFuture<Result<Result<(), LeaveFailed>, HubStopped>>;

    fn handle(&mut self, Wind { timeout }: Wind, ctx: &mut Context<Self>) -> Self::Result {
        let answer: SystemReply = self.ask_engine(Request::Leave { timeout }, ctx);
        Box::pin(async move {
            match answer.await? {
                Reply::Left(outcome) => Ok(outcome),
                _ => Err(HubStopped),
            }
        })
    }
}

/// Ends the engine and says what is left. `None`: it has ended already.
#[derive(Message)]
#[rtype(result = "Option<Seized>")]
struct Seize;

impl Handler<Seize> for HubSystem {
    type Result = Option<Seized>;

    fn handle(&mut self, _: Seize, _: &mut Context<Self>) -> Self::Result {
        // From here on nobody tells a child to go on or to move.
        let Running { engine, parked, .. } = self.running.take()?;
        let engine = self.parting.insert(engine);
        let last = engine.last_parked();
        let last = last.iter().filter_map(|key| parked.find(key));
        let last = last.map(|(info, bytes)| (info.clone(), bytes.clone())).collect();
        let is_alone = engine.view().members.len() <= 1;
        let (left, committed) = engine.leftover();
        let left = left.into_iter();
        let left = left.map(|(spec, epoch, reason)| Leftover { spec, epoch, reason }).collect();
        let life = engine.view().member(engine.me().node).map(|member| member.incarnation);
        Some(Seized { left, parked: last, is_alone, committed, life })
    }
}

/// Shuts a hub down; its threads are ended by the caller, with this patience.
pub(crate) async fn shut_down(
    hub: &Hub,
    deadline: Duration,
) -> (Result<ShutdownReport, HubStopped>, Patience) {
    let shared = hub.shared();
    let began = Instant::now();
    let until = began + deadline;
    let before = shared.handed_over();
    // Heartbeats tell who takes children, and take others in. Half of the time is for what comes then.
    let soon = began + (2 * shared.settings.heartbeat).min(deadline / 2);
    let mut was_asked_again = false;
    let outcome = loop {
        let wind =
            hub.system().send(Wind { timeout: until.saturating_duration_since(Instant::now()) });
        let outcome = match timeout_at(until + LATE, wind).await {
            Ok(Ok(Ok(outcome))) => Some(outcome),
            // It has left, or was stopped, by somebody else's wish.
            Ok(_) if !shared.ends.has_left() => return (Err(HubStopped), Patience::long()),
            Ok(_) => Some(Ok(())),
            Err(_) => None,
        };
        let has_nobody = matches!(outcome, Some(Err(LeaveFailed::NoSuccessor { .. })));
        let somebody_comes = has_nobody
            && !was_asked_again
            && timeout_at(soon, takes_soon(hub)).await.unwrap_or(false);
        if !somebody_comes {
            break outcome;
        }
        was_asked_again = true;
    };
    let has_left = matches!(outcome, Some(Ok(())));
    // A hub that is behind is waited for: without its answer nothing of what is left can be kept.
    let seized = timeout_at(until + SEIZE, hub.system().send(Seize)).await;
    let incomplete = seized.is_err() && !has_left;
    let seized = seized.ok().and_then(Result::ok).flatten().unwrap_or_default();
    let mut report = ShutdownReport {
        handed_over: shared.handed_over().saturating_sub(before) + seized.committed,
        forced: !has_left && Instant::now() >= until,
        incomplete,
        ..ShutdownReport::default()
    };
    if has_left {
        report.took = began.elapsed();
        tell(shared, &report);
        return (Ok(report), Patience::long());
    }
    let rests = bring_to_rest(shared, &seized, until).await;
    let patience = match rests.iter().all(Result::is_ok) {
        true => Patience::at_rest(),
        // They do not end either, and the deadline has passed.
        false => Patience::short(),
    };
    let is_alone = seized.is_alone;
    let words = async {
        if !is_alone {
            say_bye(hub, Instant::now() + WORDS).await;
        }
    };
    // The others go on at once, while files are written.
    join(words, write_all(shared, seized, rests, until, &mut report)).await;
    report.took = began.elapsed();
    tell(shared, &report);
    (Ok(report), patience)
}

/// Waits for another node that takes children. `false`: none comes in, and none was drained when this one
/// heard of it last.
async fn takes_soon(hub: &Hub) -> bool {
    loop {
        let Ok(nodes) = hub.nodes().await else { return false };
        let mut comes = false;
        for node in nodes.iter().filter(|node| !node.is_self) {
            match node.state {
                NodeState::Leaving => {}
                NodeState::Joining => comes = true,
                NodeState::Alive | NodeState::Suspect if node.is_draining => comes = true,
                NodeState::Alive | NodeState::Suspect => return true,
            }
        }
        if !comes {
            return false;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Brings what is left to rest; why what did not.
async fn bring_to_rest(
    shared: &Arc<Shared>,
    seized: &Seized,
    until: Instant,
) -> Vec<Result<(), String>> {
    let retention = match &shared.settings.migration {
        Migration::HotSwap(options) => options.retention,
        Migration::ColdSwap => Duration::ZERO,
    };
    // Handlers may end by themselves while there is time.
    let retention = retention.min(until.saturating_duration_since(Instant::now()));
    // Where others are in, replies go out for as long as the engine's last word holds, and no longer.
    let retention = match seized.is_alone {
        true => retention,
        false => retention.min(shared.settings.suspicion_window() / 2),
    };
    let rests = join_all(seized.left.iter().map(|left| rest(shared, left, retention)));
    // With nobody else in, the children are still this node's, and what they answer counts.
    match seized.is_alone {
        true => while_valid(shared, rests).await,
        false => rests.await,
    }
}

/// Has the states written of what has come to rest, and tells what became of all that is left.
async fn write_all(
    shared: &Arc<Shared>,
    seized: Seized,
    rests: Vec<Result<(), String>>,
    until: Instant,
    report: &mut ShutdownReport,
) {
    let each = seized.left.into_iter().zip(rests);
    let Some(folder) = &shared.leave_dir else {
        report.lost = each.map(|(left, rest)| left.lost(rest.err())).collect();
        report.lost.extend(seized.parked.iter().map(|(info, _)| parked_is_lost(info, None)));
        return;
    };
    let life = seized.life.unwrap_or(Incarnation { started: unix_now(), nonce: 0 });
    let stop_at = until + WRITING;
    let each = each.map(|(left, rest)| async move {
        let outcome = match rest {
            Ok(()) => timeout_at(stop_at, keep(shared, &left, folder, life))
                .await
                .unwrap_or_else(|_| Err("its state was not written in time".to_owned())),
            Err(why) => Err(format!("its state could not be had: {why}")),
        };
        (left, outcome)
    });
    let outcomes: Vec<_> = stream::iter(each).buffered(AT_ONCE).collect().await;
    for (left, outcome) in outcomes {
        match outcome {
            Ok(path) => {
                let (child, reason) = (left.spec.id().clone(), left.reason);
                report.written.push(WrittenState { child, path, reason });
            }
            Err(why) => report.lost.push(left.lost(Some(why))),
        }
    }
    for (info, state) in seized.parked {
        match timeout_at(stop_at, keep_parked(shared, &info, state, folder, life)).await {
            Ok(Ok(path)) => {
                let (child, reason) = (info.key.child, PARKED.to_owned());
                report.written.push(WrittenState { child, path, reason });
            }
            Ok(Err(why)) => report.lost.push(parked_is_lost(&info, Some(why))),
            Err(_) => {
                let why = "it was not written in time".to_owned();
                report.lost.push(parked_is_lost(&info, Some(why)));
            }
        }
    }
    if report.written.is_empty() {
        return;
    }
    let folder = folder.clone();
    let synced = tokio::task::spawn_blocking(move || sync_folder(&folder));
    // One that hangs is left behind.
    let _ = timeout_at(stop_at, synced).await;
}

/// Lets handlers answer meanwhile, as the engine would.
async fn while_valid<T>(shared: &Shared, act: impl Future<Output = T>) -> T {
    let mut act = std::pin::pin!(act);
    loop {
        shared.doors.renew_validity();
        match timeout(shared.doors.validity.beat(), &mut act).await {
            Ok(done) => return done,
            Err(_) => continue,
        }
    }
}

/// Why a parked state is among what is left.
const PARKED: &str = "it was parked here alone";

fn parked_is_lost(info: &ParkedInfo, why: Option<String>) -> ChildLeft {
    let why = why.map(|why| format!("; {why}")).unwrap_or_default();
    ChildLeft { child: info.key.child.clone(), reason: format!("a parked state: {PARKED}{why}") }
}

/// Writes a parked state.
async fn keep_parked(
    shared: &Shared,
    info: &ParkedInfo,
    state: Bytes,
    folder: &Path,
    life: Incarnation,
) -> Result<PathBuf, String> {
    let left_state = LeftState {
        hub: shared.name.clone(),
        node: shared.node_name.clone(),
        child: info.key.child.clone(),
        kind: info.kind.clone(),
        args: Bytes::new(),
        epoch: info.key.epoch,
        state_version: info.state_version,
        state,
        written: unix_now(),
    };
    write(left_state, folder, life, Some(info.key.clone())).await
}

async fn write(
    state: LeftState,
    folder: &Path,
    life: Incarnation,
    parked: Option<ParkedKey>,
) -> Result<PathBuf, String> {
    let folder = folder.to_owned();
    let write = move || state.write(&folder, life, parked.as_ref());
    let written = tokio::task::spawn_blocking(write).await;
    written.unwrap_or_else(|error| Err(format!("its state was not written: {error}")))
}

/// Waits for a child's started handlers, and then cuts them off.
async fn rest(shared: &Shared, left: &Leftover, retention: Duration) -> Result<(), String> {
    let child = left.spec.id();
    let at = worker_of(child, shared.workers().len());
    let Some(worker) = shared.workers().get(at) else {
        return Err("its thread has ended".to_owned());
    };
    let order = Rest { child: child.clone(), retention };
    match timeout(retention + CUT_OFF, worker.send(order)).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err("its thread has ended".to_owned()),
        Err(_) => Err(holder(shared, at, child)),
    }
}

/// Who holds the thread of this worker, as told of a child on it.
fn holder(shared: &Shared, worker: usize, child: &ChildId) -> String {
    let thread = &shared.threads()[worker];
    let name = thread.name();
    match thread.runs().and_then(|tag| shared.child_of(tag)) {
        Some(other) if other != *child => format!("a handler of {other} holds its thread ({name})"),
        Some(_) => format!("a handler holds its thread ({name})"),
        None => format!("its thread ({name}) is busy"),
    }
}

/// Takes the state of a child at rest and writes it.
async fn keep(
    shared: &Arc<Shared>,
    left: &Leftover,
    folder: &Path,
    life: Incarnation,
) -> Result<PathBuf, String> {
    let child = left.spec.id().clone();
    let workers = shared.workers();
    let worker = workers.get(worker_of(&child, workers.len())).ok_or("its thread has ended")?;
    let surrendered = worker.send(Surrender { child: child.clone() }).await;
    let (state_version, state) = surrendered.map_err(|_| "its thread has ended".to_owned())??;
    let left_state = LeftState {
        hub: shared.name.clone(),
        node: shared.node_name.clone(),
        child,
        kind: left.spec.kind().clone(),
        args: left.spec.args.clone(),
        epoch: left.epoch,
        state_version,
        state,
        written: unix_now(),
    };
    write(left_state, folder, life, None).await
}

fn tell(shared: &Shared, report: &ShutdownReport) {
    let ShutdownReport { handed_over, written, lost, forced, incomplete, took } = report;
    let (written, count) = (written.len(), lost.len());
    let (hub, node) = (&shared.name, &shared.node_name);
    if *incomplete {
        tracing::error!(%hub, %node, "the hub did not say what was left: more may be lost than is named");
    }
    if lost.is_empty() {
        tracing::info!(%hub, %node, handed_over, written, forced, ?took, "the node ends");
        return;
    }
    tracing::warn!(%hub, %node, handed_over, written, lost = count, forced, ?took, "the node ends");
    for ChildLeft { child, reason } in lost.iter().take(MOST_LEFT) {
        tracing::warn!(%hub, %node, %child, reason, "the state of a child ends with its node");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_one_line_that_names_the_first_that_were_lost() {
        let left = |n: usize| ChildLeft {
            child: ChildId::new(format!("c{n}")).expect("an id"),
            reason: "no other node takes children".into(),
        };
        let one = ShutdownReport { handed_over: 1, ..ShutdownReport::default() };
        assert_eq!(one.to_string(), "1 child handed over in 0.0 s");
        let report = ShutdownReport {
            handed_over: 7,
            written: vec![WrittenState {
                child: left(0).child,
                path: "c0".into(),
                reason: String::new(),
            }],
            lost: (1..=5).map(left).collect(),
            forced: true,
            incomplete: false,
            took: Duration::from_millis(25_040),
        };
        let why = "(no other node takes children)";
        assert_eq!(
            report.to_string(),
            format!(
                "7 children handed over in 25.0 s, 1 written into files, 5 lost: c1 {why}, c2 {why}, \
                 c3 {why}, 2 more; the deadline passed"
            )
        );
    }
}
