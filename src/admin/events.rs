//! What happens on this node, as Server-Sent Events with ids and resume.

use std::{
    borrow::Cow,
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use bytes::Bytes;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;
use utoipa::{IntoParams, ToSchema};

use super::{
    Desk,
    journal::{Place, STREAMS},
    nodes::{NodeName as Named, time_of},
    problem::{Problem, Reading},
};
use crate::{
    hub::clock::unix_now,
    model::{
        event::{EventLevel, HubEvent},
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

/// An event as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct EventRecord {
    pub(crate) number: u64,
    pub(crate) at: u64,
    pub(crate) kind: &'static str,
    pub(crate) child: Option<ChildId>,
    level: EventLevel,
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
        Self {
            number,
            at: unix_now(),
            kind: event.name(),
            child: event.child().cloned(),
            level: event.level(),
            text: event.words(&here, &name),
            fields: fields(event, &name),
        }
    }

    pub(crate) fn view(&self, desk: &Desk) -> EventView {
        EventView {
            id: desk.journal.id_of(self.number),
            at: time_of(self.at),
            kind: self.kind.into(),
            node: Named::of(desk, desk.hub.node_id()),
            child: self.child.as_ref().map(|child| child.to_string()),
            level: self.level.as_str().into(),
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
            level: self.level.to_string(),
            text: self.text.clone(),
            fields: json!(self.fields).to_string(),
        }
    }
}

/// The fields of an event, for programs.
fn fields(event: &HubEvent, name: &dyn Fn(&NodeId) -> String) -> BTreeMap<&'static str, Value> {
    let id = |node: &NodeId| json!(node.to_string());
    let each = |nodes: &BTreeMap<NodeId, usize>| {
        nodes.iter().map(|(node, count)| (node.to_string(), json!(count))).collect::<Value>()
    };
    let fields = match event {
        HubEvent::Founded
        | HubEvent::Drained
        | HubEvent::Rejoined
        | HubEvent::ChildStopped { .. } => Vec::new(),
        HubEvent::NodeJoined { node, .. }
        | HubEvent::LinkRestored { node }
        | HubEvent::NodeSuspected { node }
        | HubEvent::NodeRecovered { node }
        | HubEvent::NodeLeaving { node }
        | HubEvent::NodeLeft { node }
        | HubEvent::NodeDraining { node }
        | HubEvent::NodeResumed { node }
        | HubEvent::NodeDown { node } => vec![("node", id(node))],
        HubEvent::WaitingForSeeds { seeds } => {
            let told = seeds.iter().map(|(seed, outcome)| json!(format!("{seed} ({outcome})")));
            vec![("seeds", told.collect())]
        }
        HubEvent::JoinDelayed { node, missing } => {
            let pairs = missing.iter().map(|(deaf, unheard)| {
                json!(format!("{} does not hear {}", name(deaf), name(unheard)))
            });
            vec![("node", id(node)), ("missing", pairs.collect())]
        }
        HubEvent::LinkMissing { node, addresses } => {
            vec![("node", id(node)), ("addresses", json!(addresses))]
        }
        HubEvent::Unsettled { reason } => vec![("reason", json!(reason))],
        HubEvent::LeaveFailed { reason, children, left }
        | HubEvent::DrainFailed { reason, children, left } => {
            vec![("reason", json!(reason)), ("children", json!(children)), ("left", left_of(left))]
        }
        HubEvent::PeerRefused { node, reason } => {
            vec![("node", json!(node.map(|node| node.to_string()))), ("reason", json!(reason))]
        }
        HubEvent::KeyInUse { address, by } => {
            vec![("address", json!(address)), ("node", json!(by.map(|node| node.to_string())))]
        }
        HubEvent::WordsRefused { node, reason } => {
            vec![("node", id(node)), ("reason", json!(reason))]
        }
        HubEvent::ChildStarted { kind, epoch, .. } => {
            vec![("kind", json!(kind.as_str())), ("epoch", json!(epoch.to_string()))]
        }
        HubEvent::ChildRestarted { reason, restarts, after, .. } => vec![
            ("reason", json!(reason)),
            ("restarts", json!(restarts)),
            ("after_seconds", json!(after.as_secs_f64())),
        ],
        HubEvent::ChildCannotMove { reason, .. }
        | HubEvent::ChildGivenUp { reason, .. }
        | HubEvent::ParkedStateDropped { reason, .. } => vec![("reason", json!(reason))],
        HubEvent::HandoverStarted { kind, to, epoch, .. } => vec![
            ("kind", json!(kind.as_str())),
            ("to", id(to)),
            ("epoch", json!(epoch.to_string())),
        ],
        HubEvent::HandedOver { kind, to, epoch, bytes, took, phases, .. } => {
            let fields = [
                ("kind", json!(kind.as_str())),
                ("to", id(to)),
                ("epoch", json!(epoch.to_string())),
                ("bytes", json!(bytes)),
                ("took_ms", json!(millis(*took))),
            ];
            let phases = phases.named().map(|(phase, took)| (phase, json!(took.map(millis))));
            fields.into_iter().chain(phases).collect()
        }
        HubEvent::HandoverFailed { kind, to, epoch, reason, may_have_run, .. } => vec![
            ("kind", json!(kind.as_str())),
            ("to", id(to)),
            ("epoch", json!(epoch.to_string())),
            ("reason", json!(reason)),
            ("may_have_run", json!(may_have_run)),
        ],
        HubEvent::TakenOver { kind, from, epoch, .. } => vec![
            ("kind", json!(kind.as_str())),
            ("from", id(from)),
            ("epoch", json!(epoch.to_string())),
        ],
        HubEvent::Recovered { epoch, with_state, .. } => {
            vec![("epoch", json!(epoch.to_string())), ("with_state", json!(with_state))]
        }
        HubEvent::ChildrenMoved { moved, took } => vec![
            ("sent", each(&moved.sent)),
            ("bytes", json!(moved.bytes)),
            ("received", each(&moved.received)),
            ("recovered", json!(moved.recovered)),
            ("begun_anew", json!(moved.begun_anew)),
            ("failed", json!(moved.failed)),
            ("took_ms", json!(millis(*took))),
        ],
        HubEvent::AdminAction { action, address, access, status } => vec![
            ("action", json!(action)),
            ("address", json!(address)),
            ("access", json!(access)),
            ("status", json!(status)),
        ],
        HubEvent::MessageDropped { message, reason, .. } => {
            vec![("message", json!(message)), ("reason", json!(reason))]
        }
        HubEvent::DivergenceMerged { from, .. } => vec![("from", id(from))],
        HubEvent::DivergenceYielded { to, .. } => vec![("to", id(to))],
        HubEvent::StateParked { key, reason, .. } => {
            vec![("key", json!(key.to_string())), ("reason", json!(reason))]
        }
        HubEvent::ParkedStateDiscarded { key, .. } => vec![("key", json!(key.to_string()))],
        HubEvent::ParkedStateApplied { key, replaced, .. } => {
            vec![("key", json!(key.to_string())), ("replaced", json!(replaced))]
        }
    };
    fields.into_iter().collect()
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
/// Events of type `hub`, with an id; `missed` when some are not kept any more: the latest 2,000 that are
/// about nodes are, the latest 2,000 other warnings and errors, and 10,000 of the rest; `bye` when the hub has stopped. At most 256 streams are served at a time; beyond that the oldest
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
    let ((first, from), lost) = match resumed.map(|id| desk.journal.after(id)) {
        Some(Some(number)) => ((VecDeque::new(), number), false),
        Some(None) => (desk.journal.latest(usize::MAX), true),
        None => (desk.journal.latest(replay), false),
    };
    let state = Reader { desk, latest, first, from, lost, behind: true, ended: false, place };
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
    /// Events of before, which come first.
    first: VecDeque<Arc<EventRecord>>,
    /// The number of the event behind those.
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
        let events = if self.first.is_empty() {
            let part = self.desk.journal.events_from(self.from, AT_ONCE);
            if part.missed > 0 {
                let missed = part.missed;
                text.push_str(&format!("event: missed\ndata: {{\"count\":{missed}}}\n\n"));
            }
            self.from = part.next;
            // There may be more already.
            self.behind = part.items.len() == AT_ONCE;
            part.items
        } else {
            self.behind = true;
            self.first.drain(..AT_ONCE.min(self.first.len())).collect()
        };
        for event in events {
            let view = event.view(&self.desk);
            if let Ok(data) = serde_json::to_string(&view) {
                text.push_str(&format!("id: {}\nevent: hub\ndata: {data}\n\n", view.id));
            }
        }
        Some(text)
    }
}
