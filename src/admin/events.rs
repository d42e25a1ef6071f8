//! What happens on this node, as Server-Sent Events with ids and resume.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use bytes::Bytes;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;
use utoipa::{IntoParams, ToSchema};

use super::{
    Desk,
    journal::{EVENTS, Place, STREAMS},
    nodes::{NodeName as Named, time_of},
    problem::{Problem, Reading},
};
use crate::{
    hub::clock::unix_now,
    model::{
        event::HubEvent,
        id::{ChildId, NodeId, NodeName},
        observe::EventReport,
        report::ChildLeft,
    },
};

/// How many of the latest events a client may ask for.
const REPLAY: usize = 1_000;
/// Events that are written at a time.
const AT_ONCE: usize = 500;
/// How long a stream waits for further events before it tells the first.
const GATHER: Duration = Duration::from_millis(50);
/// How often a stream without events says that it lives.
const ALIVE: Duration = Duration::from_secs(15);

/// All types of events.
pub(crate) const EVENT_TYPES: &[&str] = &[
    "founded",
    "waiting_for_seeds",
    "join_delayed",
    "link_missing",
    "link_restored",
    "unsettled",
    "node_joined",
    "node_suspected",
    "node_recovered",
    "node_leaving",
    "node_left",
    "leave_failed",
    "node_draining",
    "drained",
    "drain_failed",
    "node_resumed",
    "node_down",
    "rejoined",
    "peer_refused",
    "key_in_use",
    "words_refused",
    "child_started",
    "child_stopped",
    "child_restarted",
    "child_given_up",
    "child_cannot_move",
    "handover_started",
    "handed_over",
    "handover_failed",
    "taken_over",
    "recovered",
    "message_dropped",
    "divergence_merged",
    "divergence_yielded",
    "state_parked",
    "parked_state_applied",
    "parked_state_discarded",
    "parked_state_dropped",
];

/// An event as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct EventRecord {
    pub(crate) number: u64,
    pub(crate) at: u64,
    pub(crate) kind: &'static str,
    pub(crate) child: Option<ChildId>,
    level: &'static str,
    text: String,
    fields: BTreeMap<&'static str, Value>,
}

/// Something that happened on the node that tells it.
#[derive(Serialize, ToSchema)]
pub(crate) struct EventView {
    /// Names it, to resume behind it.
    id: String,
    /// When.
    at: String,
    /// What kind of event.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "handed_over")]
    kind: Cow<'static, str>,
    /// The node that saw it.
    node: Named,
    /// The child that it is about, if it is about one.
    child: Option<String>,
    /// `info`, `warn` or `error`.
    #[schema(value_type = String, example = "info")]
    level: Cow<'static, str>,
    /// What happened, in words.
    text: String,
    /// The same, for programs.
    #[schema(value_type = Object)]
    fields: Value,
}

/// Children that were not handed over, with the reasons.
fn left_of(left: &[ChildLeft]) -> Value {
    left.iter()
        .map(|left| json!({ "child": left.child.to_string(), "reason": left.reason }))
        .collect()
}

impl EventView {
    /// What a node remembers of a child.
    pub(crate) fn of(desk: &Desk, node: NodeId, child: &ChildId, report: EventReport) -> Self {
        Self {
            id: report.id,
            at: time_of(report.at),
            kind: report.kind.into(),
            node: Named::of(desk, node),
            child: Some(child.to_string()),
            level: report.level.into(),
            text: report.text,
            fields: serde_json::from_str(&report.fields).unwrap_or_else(|_| json!({})),
        }
    }
}

impl EventRecord {
    pub(crate) fn of(
        number: u64,
        me: NodeId,
        event: &HubEvent,
        names: impl Fn(NodeId) -> Option<NodeName>,
    ) -> Self {
        let name =
            |node: &NodeId| names(*node).map_or_else(|| node.short(), |name| name.to_string());
        let here = name(&me);
        let mut fields = BTreeMap::new();
        let mut child = None;
        let mut level = "info";
        let (kind, text) = match event {
            HubEvent::NodeJoined { node, name } => {
                fields.insert("node", json!(node.to_string()));
                ("node_joined", format!("{name} came in"))
            }
            HubEvent::Founded => ("founded", format!("{here} founded a cluster")),
            HubEvent::WaitingForSeeds { seeds } => {
                level = "warn";
                let told: Vec<String> =
                    seeds.iter().map(|(seed, outcome)| format!("{seed} ({outcome})")).collect();
                fields.insert("seeds", json!(told));
                ("waiting_for_seeds", format!("{here} waits for a seed: {}", told.join(", ")))
            }
            HubEvent::JoinDelayed { node, missing } => {
                level = "warn";
                fields.insert("node", json!(node.to_string()));
                let pairs = missing.iter().map(|(deaf, unheard)| {
                    format!("{} does not hear {}", name(deaf), name(unheard))
                });
                let pairs: Vec<String> = pairs.collect();
                fields.insert("missing", json!(pairs));
                ("join_delayed", format!("{} is not in yet: {}", name(node), pairs.join(", ")))
            }
            HubEvent::LinkMissing { node, addresses } => {
                level = "warn";
                fields.insert("node", json!(node.to_string()));
                fields.insert("addresses", json!(addresses));
                let tried = addresses.join(", ");
                let text = format!("{here} has no working link to {}, tried {tried}", name(node));
                ("link_missing", text)
            }
            HubEvent::LinkRestored { node } => {
                fields.insert("node", json!(node.to_string()));
                ("link_restored", format!("the link from {here} to {} works again", name(node)))
            }
            HubEvent::Unsettled { reason } => {
                level = "warn";
                fields.insert("reason", json!(reason));
                ("unsettled", format!("the cluster is not settled: {reason}"))
            }
            HubEvent::NodeSuspected { node } => {
                level = "warn";
                fields.insert("node", json!(node.to_string()));
                ("node_suspected", format!("{} is silent, or its link broke", name(node)))
            }
            HubEvent::NodeRecovered { node } => {
                fields.insert("node", json!(node.to_string()));
                ("node_recovered", format!("{} was heard again", name(node)))
            }
            HubEvent::NodeLeaving { node } => {
                fields.insert("node", json!(node.to_string()));
                ("node_leaving", format!("{} hands its children over", name(node)))
            }
            HubEvent::NodeLeft { node } => {
                fields.insert("node", json!(node.to_string()));
                ("node_left", format!("{} has left", name(node)))
            }
            HubEvent::LeaveFailed { reason, children, left } => {
                level = "warn";
                fields.insert("reason", json!(reason));
                fields.insert("children", json!(children));
                fields.insert("left", left_of(left));
                ("leave_failed", format!("{here} has not left: {reason}"))
            }
            HubEvent::NodeDraining { node } => {
                fields.insert("node", json!(node.to_string()));
                let text =
                    format!("{} is drained: it hands its children over and stays", name(node));
                ("node_draining", text)
            }
            HubEvent::Drained => ("drained", format!("{here} is drained and has no children left")),
            HubEvent::DrainFailed { reason, children, left } => {
                level = "warn";
                fields.insert("reason", json!(reason));
                fields.insert("children", json!(children));
                fields.insert("left", left_of(left));
                ("drain_failed", format!("{here} is not empty: {reason}"))
            }
            HubEvent::NodeResumed { node } => {
                fields.insert("node", json!(node.to_string()));
                ("node_resumed", format!("{} takes children again", name(node)))
            }
            HubEvent::NodeDown { node } => {
                level = "error";
                fields.insert("node", json!(node.to_string()));
                ("node_down", format!("{} is down; its children are started elsewhere", name(node)))
            }
            HubEvent::Rejoined => {
                level = "warn";
                ("rejoined", format!("{here} was declared down while it lived, and came back"))
            }
            HubEvent::PeerRefused { node, reason } => {
                level = "warn";
                fields.insert("node", json!(node.map(|node| node.to_string())));
                fields.insert("reason", json!(reason));
                let peer = node.map_or_else(|| "a peer".to_owned(), |node| name(&node));
                ("peer_refused", format!("{peer} was not admitted: {reason}"))
            }
            HubEvent::KeyInUse { address, by } => {
                level = "error";
                fields.insert("address", json!(address));
                fields.insert("node", json!(by.map(|node| node.to_string())));
                let text = format!(
                    "another process runs with the key of {here}, at {address}, and was there \
                     first: {here} stops"
                );
                ("key_in_use", text)
            }
            HubEvent::WordsRefused { node, reason } => {
                level = "warn";
                fields.insert("node", json!(node.to_string()));
                fields.insert("reason", json!(reason));
                ("words_refused", format!("words of {} were refused: {reason}", name(node)))
            }
            HubEvent::ChildStarted { child: id, kind, epoch } => {
                child = Some(id.clone());
                fields.insert("kind", json!(kind.as_str()));
                fields.insert("epoch", json!(epoch.to_string()));
                ("child_started", format!("{id} was started on {here}"))
            }
            HubEvent::ChildStopped { child: id } => {
                child = Some(id.clone());
                ("child_stopped", format!("{id} was stopped on {here}"))
            }
            HubEvent::ChildRestarted { child: id, reason, restarts, after } => {
                child = Some(id.clone());
                level = "warn";
                fields.insert("reason", json!(reason));
                fields.insert("restarts", json!(restarts));
                fields.insert("after_seconds", json!(after.as_secs_f64()));
                (
                    "child_restarted",
                    format!("{id} ended and is started again in {after:.1?}: {reason}"),
                )
            }
            HubEvent::ChildCannotMove { child: id, reason } => {
                child = Some(id.clone());
                level = "warn";
                fields.insert("reason", json!(reason));
                ("child_cannot_move", format!("{id} cannot move: {reason}"))
            }
            HubEvent::ChildGivenUp { child: id, reason } => {
                child = Some(id.clone());
                level = "error";
                fields.insert("reason", json!(reason));
                ("child_given_up", format!("{id} was given up: {reason}"))
            }
            HubEvent::HandoverStarted { child: id, kind, to, epoch } => {
                child = Some(id.clone());
                fields.insert("kind", json!(kind.as_str()));
                fields.insert("to", json!(to.to_string()));
                fields.insert("epoch", json!(epoch.to_string()));
                ("handover_started", format!("{id} goes from {here} to {}", name(to)))
            }
            HubEvent::HandedOver { child: id, kind, to, epoch, bytes, took, phases } => {
                child = Some(id.clone());
                fields.insert("kind", json!(kind.as_str()));
                fields.insert("to", json!(to.to_string()));
                fields.insert("epoch", json!(epoch.to_string()));
                fields.insert("bytes", json!(bytes));
                fields.insert("took_ms", json!(millis(*took)));
                for (phase, took) in phases.named() {
                    fields.insert(phase, json!(took.map(millis)));
                }
                let text = format!(
                    "{id} was handed over from {here} to {} in {:.1} ms",
                    name(to),
                    millis(*took)
                );
                ("handed_over", text)
            }
            HubEvent::HandoverFailed {
                child: id, kind, to, epoch, reason, may_have_run, ..
            } => {
                child = Some(id.clone());
                level = "warn";
                fields.insert("kind", json!(kind.as_str()));
                fields.insert("to", json!(to.to_string()));
                fields.insert("epoch", json!(epoch.to_string()));
                fields.insert("reason", json!(reason));
                fields.insert("may_have_run", json!(may_have_run));
                ("handover_failed", format!("{id} stays on {here}, not {}: {reason}", name(to)))
            }
            HubEvent::TakenOver { child: id, kind, from, epoch } => {
                child = Some(id.clone());
                fields.insert("kind", json!(kind.as_str()));
                fields.insert("from", json!(from.to_string()));
                fields.insert("epoch", json!(epoch.to_string()));
                ("taken_over", format!("{id} came from {} with its state", name(from)))
            }
            HubEvent::Recovered { child: id, epoch, with_state } => {
                child = Some(id.clone());
                level = "warn";
                fields.insert("epoch", json!(epoch.to_string()));
                fields.insert("with_state", json!(with_state));
                let state = if *with_state { "with its state" } else { "from nothing" };
                ("recovered", format!("{id} was started on {here} {state}: its owner went down"))
            }
            HubEvent::MessageDropped { child: id, message, reason } => {
                child = Some(id.clone());
                level = "error";
                fields.insert("message", json!(message));
                fields.insert("reason", json!(reason));
                ("message_dropped", format!("a {message} to {id} could not go along: {reason}"))
            }
            HubEvent::DivergenceMerged { child: id, from } => {
                child = Some(id.clone());
                level = "warn";
                fields.insert("from", json!(from.to_string()));
                ("divergence_merged", format!("{id} took in the state it had on {}", name(from)))
            }
            HubEvent::DivergenceYielded { child: id, to } => {
                child = Some(id.clone());
                level = "warn";
                fields.insert("to", json!(to.to_string()));
                ("divergence_yielded", format!("{id} gave way to the one on {}", name(to)))
            }
            HubEvent::StateParked { child: id, key, reason } => {
                child = Some(id.clone());
                level = "error";
                fields.insert("key", json!(key.to_string()));
                fields.insert("reason", json!(reason));
                ("state_parked", format!("a state of {id} is parked on {here}: {reason}"))
            }
            HubEvent::ParkedStateDiscarded { child: id, key } => {
                child = Some(id.clone());
                level = "warn";
                fields.insert("key", json!(key.to_string()));
                ("parked_state_discarded", format!("a parked state of {id} was discarded"))
            }
            HubEvent::ParkedStateApplied { child: id, key, replaced } => {
                child = Some(id.clone());
                level = "warn";
                fields.insert("key", json!(key.to_string()));
                fields.insert("replaced", json!(replaced));
                let how = match replaced {
                    true => "put in the place of its own, which is parked now",
                    false => "merged into it",
                };
                ("parked_state_applied", format!("a parked state of {id} was {how}"))
            }
            HubEvent::ParkedStateDropped { child: id, reason } => {
                child = Some(id.clone());
                level = "error";
                fields.insert("reason", json!(reason));
                ("parked_state_dropped", format!("a parked state of {id} is lost: {reason}"))
            }
        };
        Self { number, at: unix_now(), kind, child, level, text, fields }
    }

    pub(crate) fn view(&self, desk: &Desk) -> EventView {
        EventView {
            id: desk.journal.id_of(self.number),
            at: time_of(self.at),
            kind: self.kind.into(),
            node: Named::of(desk, desk.hub.node_id()),
            child: self.child.as_ref().map(|child| child.to_string()),
            level: self.level.into(),
            text: self.text.clone(),
            fields: json!(self.fields),
        }
    }

    /// For another node.
    pub(crate) fn report(&self, id: String) -> EventReport {
        EventReport {
            id,
            at: self.at,
            kind: self.kind.to_owned(),
            level: self.level.to_owned(),
            text: self.text.clone(),
            fields: json!(self.fields).to_string(),
        }
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Replay {
    /// How many of the latest events come first, 0 to 1,000. Default 0.
    #[param(minimum = 0, maximum = 1000)]
    replay: Option<usize>,
}

/// What happens on this node from now on, or behind the event `Last-Event-ID`.
///
/// Events of type `hub`, with an id; `missed` when some are not kept any more: the latest 10,000 are;
/// `bye` when the hub has stopped. At most 256 streams are served at a time; beyond that the oldest
/// ends, once it has lasted a minute, and its client resumes.
#[utoipa::path(
    get, path = "/events", operation_id = "stream_events", tag = "events",
    params(Replay, ("Last-Event-ID" = Option<String>, Header, description = "Resumes behind it")),
    responses(
        (status = 200, body = String, content_type = "text/event-stream"),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        Reading,
    ),
)]
pub(crate) async fn stream(
    desk: web::Data<Desk>,
    query: web::Query<Replay>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let replay = query.replay.unwrap_or(0);
    if replay > REPLAY {
        return Err(Problem::bad_request(format!("replay is {replay}, allowed is 0 to {REPLAY}")));
    }
    let latest = desk.journal.watch().ok_or_else(Problem::stopped)?;
    let place = desk.journal.stream().ok_or_else(|| Problem::too_many_streams(STREAMS))?;
    let resumed = request.headers().get("last-event-id").and_then(|id| id.to_str().ok());
    let (from, lost) = match resumed.map(|id| desk.journal.after(id)) {
        Some(Some(number)) => (number, false),
        Some(None) => (desk.journal.last(EVENTS), true),
        None => (desk.journal.last(replay), false),
    };
    let state = Reader { desk, latest, from, lost, behind: true, ended: false, place };
    let frames = stream::unfold(state, |mut reader| async move {
        let frames = reader.next().await?;
        Some((Ok::<_, actix_web::Error>(Bytes::from(frames)), reader))
    });
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/event-stream"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        // Proxies that gather responses would hold events back.
        .insert_header(("x-accel-buffering", "no"))
        .streaming(frames))
}

struct Reader {
    desk: web::Data<Desk>,
    latest: watch::Receiver<u64>,
    from: u64,
    /// The client resumes behind an event of another life of this node.
    lost: bool,
    /// There is something to be told at once.
    behind: bool,
    ended: bool,
    place: Place,
}

impl Reader {
    async fn next(&mut self) -> Option<String> {
        if self.ended {
            return None;
        }
        if !std::mem::take(&mut self.behind) {
            match tokio::time::timeout(ALIVE, self.latest.changed()).await {
                // When much happens, it is told in few words.
                Ok(Ok(())) => tokio::time::sleep(GATHER).await,
                Ok(Err(_)) => {
                    self.ended = true;
                    return Some("event: bye\ndata: {}\n\n".to_owned());
                }
                Err(_) => return self.place.is_kept().then(|| ": still here\n\n".to_owned()),
            }
        }
        if !self.place.is_kept() {
            return None;
        }
        self.latest.mark_unchanged();
        let mut text = String::from("retry: 2000\n\n");
        if std::mem::take(&mut self.lost) {
            text.push_str("event: missed\ndata: {\"count\":null}\n\n");
        }
        let (events, missed) = self.desk.journal.events_from(self.from, AT_ONCE);
        if missed > 0 {
            text.push_str(&format!("event: missed\ndata: {{\"count\":{missed}}}\n\n"));
        }
        if let Some(last) = events.last() {
            self.from = last.number + 1;
        }
        // There may be more already.
        self.behind = events.len() == AT_ONCE;
        for event in events {
            let view = event.view(&self.desk);
            if let Ok(data) = serde_json::to_string(&view) {
                text.push_str(&format!("id: {}\nevent: hub\ndata: {data}\n\n", view.id));
            }
        }
        Some(text)
    }
}
