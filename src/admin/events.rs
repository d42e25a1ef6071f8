//! What happens on this node, as Server-Sent Events with ids and resume.

use std::{
    borrow::Cow,
    cmp::Reverse,
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use bytes::Bytes;
use futures_util::{future::join_all, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;
use utoipa::{IntoParams, ToSchema};

use super::{
    Desk,
    journal::{Place, STREAMS},
    lists,
    nodes::{NodeName, find, time_of},
    problem::{Problem, Reading},
};
use crate::{
    hub::clock::unix_now,
    model::{
        event::{EVENT_NAMES, EventLevel, HubEvent},
        id::{self, ChildId, NodeId},
        observe::{Answer, EventFilter, EventPlace, EventReport, MOST_EVENTS, Question},
        report::ChildLeft,
    },
};

/// How many of the latest events a client may ask for.
const REPLAY: usize = 1_000;
/// The longest text to be looked for, in bytes.
const TEXT: usize = 256;
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
    node: NodeName,
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
    /// What a node remembers.
    pub(crate) fn of(desk: &Desk, node: NodeId, report: EventReport) -> Self {
        Self {
            id: report.id,
            at: time_of(report.at),
            kind: report.kind.into(),
            node: NodeName::of(desk, node),
            child: report.child.map(|child| child.to_string()),
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
        names: impl Fn(NodeId) -> Option<id::NodeName>,
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

    /// Whether it is one of those that are wanted.
    pub(crate) fn fits(&self, filter: &EventFilter) -> bool {
        let EventFilter { level, text, child, kind, since, until } = filter;
        level.is_none_or(|level| self.level >= level)
            && since.is_none_or(|since| self.at >= since)
            && until.is_none_or(|until| self.at <= until)
            && child.as_ref().is_none_or(|child| self.child.as_ref() == Some(child))
            && kind.as_ref().is_none_or(|kind| self.kind == kind)
            && text
                .as_ref()
                .is_none_or(|text| self.text.to_lowercase().contains(&text.to_lowercase()))
    }

    pub(crate) fn view(&self, desk: &Desk) -> EventView {
        EventView {
            id: desk.journal.id_of(self.number),
            at: time_of(self.at),
            kind: self.kind.into(),
            node: NodeName::of(desk, desk.hub.node_id()),
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
            number: self.number,
            child: self.child.clone(),
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
        HubEvent::Recovered { from, epoch, with_state, .. } => vec![
            ("from", json!(from.map(|node| node.to_string()))),
            ("epoch", json!(epoch.to_string())),
            ("with_state", json!(with_state)),
        ],
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

/// How grave an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

impl From<Level> for EventLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::Debug => Self::Debug,
            Level::Info => Self::Info,
            Level::Warn => Self::Warn,
            Level::Error => Self::Error,
        }
    }
}

/// A filter as a client has it: each part is checked.
fn filter(
    level: Option<Level>,
    text: Option<&str>,
    child: Option<&str>,
    kind: Option<&str>,
) -> Result<EventFilter, Problem> {
    // A form sends what was left empty.
    let given = |part: Option<&str>| part.filter(|part| !part.is_empty()).map(str::to_owned);
    let (text, kind) = (given(text), given(kind));
    if let Some(text) = text.as_ref().filter(|text| text.len() > TEXT) {
        let bytes = text.len();
        return Err(Problem::bad_request(format!("text has {bytes} bytes, allowed are {TEXT}")));
    }
    if let Some(kind) = kind.as_ref().filter(|kind| !EVENT_NAMES.contains(&kind.as_str())) {
        return Err(Problem::bad_request(format!("no event has the type {kind:?}")));
    }
    let child = given(child).map(ChildId::new).transpose();
    let child = child.map_err(|error| Problem::bad_request(format!("child: {error}")))?;
    Ok(EventFilter { level: level.map(Into::into), text, child, kind, since: None, until: None })
}

/// A time of a client, in milliseconds since 1970.
fn millis_of(name: &str, time: Option<&str>) -> Result<Option<u64>, Problem> {
    let Some(time) = time.filter(|time| !time.is_empty()) else { return Ok(None) };
    let wrong = || {
        let words = "a time in RFC 3339, such as 2026-03-01T12:00:00Z";
        Problem::bad_request(format!("{name} is {time:?}, expected {words}"))
    };
    let parsed = humantime::parse_rfc3339(time).map_err(|_| wrong())?;
    let since = parsed.duration_since(UNIX_EPOCH).map_err(|_| wrong())?;
    u64::try_from(since.as_millis()).map(Some).map_err(|_| wrong())
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct StreamFilter {
    /// How many of the latest events that fit come first, 0 to 1,000. Default 0.
    #[param(minimum = 0, maximum = 1000)]
    replay: Option<usize>,
    /// Events that are at least as grave.
    #[param(inline)]
    level: Option<Level>,
    /// Events whose words contain this, in whichever case; at most 256 bytes.
    text: Option<String>,
    /// Events of this child.
    child: Option<String>,
    /// Events of this type, such as `node_down`.
    r#type: Option<String>,
}

/// What happens on this node from now on, or behind the event `Last-Event-ID`, as far as it fits the
/// filters.
///
/// Events of type `hub`, with an id; `missed` when some are not kept any more: the latest 2,000 that are
/// about nodes are, the latest 2,000 other warnings and errors, and 10,000 of the rest; `bye` when the hub has stopped. At most 256 streams are served at a time; beyond that the oldest
/// ends, once it has lasted a minute, and its client resumes.
#[utoipa::path(
    get, path = "/events", operation_id = "stream_events", tag = "events",
    params(StreamFilter, ("Last-Event-ID" = Option<String>, Header, description = "Resumes behind it")),
    responses(
        (status = 200, body = String, content_type = "text/event-stream"),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        Reading,
    ),
)]
pub(crate) async fn stream(
    desk: web::Data<Desk>,
    query: web::Query<StreamFilter>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let StreamFilter { level, ref text, ref child, ref r#type, .. } = *query;
    let filter = filter(level, text.as_deref(), child.as_deref(), r#type.as_deref())?;
    let replay = query.replay.unwrap_or(0);
    if replay > REPLAY {
        return Err(Problem::bad_request(format!("replay is {replay}, allowed is 0 to {REPLAY}")));
    }
    let latest = desk.journal.watch().ok_or_else(Problem::stopped)?;
    let place = desk.journal.stream().ok_or_else(|| Problem::too_many_streams(STREAMS))?;
    let resumed = request.headers().get("last-event-id").and_then(|id| id.to_str().ok());
    let ((first, from), lost) = match resumed.map(|id| desk.journal.after(id)) {
        Some(Some(number)) => ((VecDeque::new(), number), false),
        Some(None) => (desk.journal.latest(&filter, usize::MAX), true),
        None => (desk.journal.latest(&filter, replay), false),
    };
    let (behind, ended) = (true, false);
    let state = Reader { desk, filter, latest, first, from, lost, behind, ended, place };
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

/// Which events are wanted, of all nodes.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct LatestFilter {
    /// Events that are at least as grave.
    #[param(inline)]
    level: Option<Level>,
    /// Events whose words contain this, in whichever case; at most 256 bytes.
    text: Option<String>,
    /// Events that this node saw, by id, or by name if only one has it. Only that one is asked.
    node: Option<String>,
    /// Events of this child.
    child: Option<String>,
    /// Events of this type, such as `node_down`.
    r#type: Option<String>,
    /// Events at this time or later, in RFC 3339, by the clocks of the nodes.
    since: Option<String>,
    /// Events at this time or earlier, in RFC 3339, by the clocks of the nodes.
    until: Option<String>,
    /// How many at most, 1 to 100. Default 100.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<usize>,
    /// Where the page begins.
    cursor: Option<String>,
}

/// The latest events of the nodes.
#[derive(Serialize, ToSchema)]
pub(crate) struct LatestEvents {
    /// The items of this page, the latest first by the clocks of the nodes.
    items: Vec<EventView>,
    /// How many items the filters match.
    total: u64,
    /// Where the next page begins; null on the last.
    next_cursor: Option<String>,
    /// Nodes that did not answer, or do not record events, as no admin endpoint is mounted there.
    unreachable: Vec<NodeName>,
}

/// The events that the nodes which are in remember, the latest first.
///
/// Each node keeps the latest from when its admin endpoint was first mounted: 2,000 that are about nodes,
/// 2,000 other warnings and errors, and 10,000 of the rest.
#[utoipa::path(
    get, path = "/events/latest", operation_id = "list_events", tag = "events", params(LatestFilter),
    responses(
        (status = 200, body = LatestEvents),
        (status = 304, description = "As the entity tag says"),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (
            status = 404, body = Problem, content_type = "application/problem+json",
            description = "There is no such node"
        ),
        (
            status = 409, body = Problem, content_type = "application/problem+json",
            description = "More than one node has this name"
        ),
        Reading,
    ),
)]
pub(crate) async fn list(
    desk: web::Data<Desk>,
    query: web::Query<LatestFilter>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let LatestFilter { level, text, node, child, r#type, since, until, limit, cursor } =
        query.into_inner();
    let filter = EventFilter {
        since: millis_of("since", since.as_deref())?,
        until: millis_of("until", until.as_deref())?,
        ..filter(level, text.as_deref(), child.as_deref(), r#type.as_deref())?
    };
    let limit = limit.unwrap_or(MOST_EVENTS);
    if !(1..=MOST_EVENTS).contains(&limit) {
        let words = format!("limit is {limit}, allowed is 1 to {MOST_EVENTS}");
        return Err(Problem::bad_request(words));
    }
    let before: Option<EventPlace> = lists::key(cursor.as_deref())?
        .map(|key| serde_json::from_str(&key).map_err(|_| lists::no_cursor()))
        .transpose()?;
    let nodes = match node.filter(|node| !node.is_empty()) {
        Some(node) => vec![find(&desk, &node).await?],
        None => desk.members().await?.into_iter().map(|run| run.node).collect(),
    };
    desk.learn_names().await;
    let asked = nodes.into_iter().map(|node| {
        let limit = limit as u32;
        let answer = desk.ask(node, Question::Events { filter: filter.clone(), before, limit });
        async move { (node, answer.await) }
    });
    let (mut events, mut unreachable) = (Vec::new(), Vec::new());
    let (mut more, mut total) = (0, 0);
    for (node, answer) in join_all(asked).await {
        match answer {
            Ok(Answer::Events(Some(told))) => {
                (more, total) = (more + told.more, total + told.total);
                events.extend(told.events.into_iter().map(|event| {
                    let place = EventPlace { at: event.at, node, number: event.number };
                    (place, event)
                }));
            }
            _ => unreachable.push(NodeName::of(&desk, node)),
        }
    }
    events.sort_by_key(|(place, _)| Reverse(*place));
    let is_last = events.len() <= limit && more == 0;
    events.truncate(limit);
    let next_cursor = match events.last().filter(|_| !is_last) {
        Some((place, _)) => {
            let key = serde_json::to_string(place).map_err(|_| lists::no_cursor())?;
            Some(lists::cursor(&key))
        }
        None => None,
    };
    let items = events.into_iter().map(|(place, event)| EventView::of(&desk, place.node, event));
    let page = LatestEvents { items: items.collect(), total, next_cursor, unreachable };
    let tag = lists::tag(&page);
    Ok(lists::tagged(&request, &page, tag))
}

struct Reader {
    desk: web::Data<Desk>,
    filter: EventFilter,
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
            if self.filter != EventFilter::default() {
                // How many of them would have fitted is not known.
                if part.missed > 0 && self.desk.journal.has_lost(self.from, &self.filter) {
                    text.push_str("event: missed\ndata: {\"count\":null}\n\n");
                }
            } else if part.missed > 0 {
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
            if !event.fits(&self.filter) {
                continue;
            }
            let view = event.view(&self.desk);
            if let Ok(data) = serde_json::to_string(&view) {
                text.push_str(&format!("id: {}\nevent: hub\ndata: {data}\n\n", view.id));
            }
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u64, event: &HubEvent) -> EventRecord {
        let me = NodeId::from_key([1; 32]);
        let event = EventRecord::of(number, me, event, |_| id::NodeName::new("n1").ok());
        EventRecord { at: 1_000 * number, ..event }
    }

    #[test]
    fn a_filter_takes_what_fits_all_of_it() {
        let child = |name: &str| ChildId::new(name).expect("a valid id");
        let down = record(1, &HubEvent::NodeDown { node: NodeId::from_key([2; 32]) });
        let reason = "it PANICKED".to_owned();
        let given_up = record(2, &HubEvent::ChildGivenUp { child: child("a"), reason });
        let stopped = record(3, &HubEvent::ChildStopped { child: child("b") });
        let of = |level, text: &str, about: &str, kind: &str| {
            let filter = filter(level, Some(text), Some(about), Some(kind)).expect("a filter");
            [&down, &given_up, &stopped].map(|event| event.fits(&filter))
        };
        assert_eq!(of(None, "", "", ""), [true, true, true]);
        assert_eq!(of(Some(Level::Warn), "", "", ""), [true, true, false]);
        assert_eq!(of(None, "panicked", "", ""), [false, true, false]);
        assert_eq!(of(None, "", "b", ""), [false, false, true]);
        assert_eq!(of(None, "", "", "node_down"), [true, false, false]);
        assert_eq!(of(Some(Level::Error), "n1", "b", ""), [false, false, false]);
        let within = EventFilter { since: Some(1_001), until: Some(2_000), ..Default::default() };
        assert_eq!(
            [&down, &given_up, &stopped].map(|event| event.fits(&within)),
            [false, true, false]
        );
    }

    #[test]
    fn what_is_no_filter_is_told_with_what_would_be_one() {
        assert!(filter(None, Some(&"x".repeat(TEXT)), None, None).is_ok());
        assert!(filter(None, Some(&"x".repeat(TEXT + 1)), None, None).is_err());
        assert!(filter(None, None, None, Some("node_dwn")).is_err());
        assert!(filter(None, None, Some(&"x".repeat(5_000)), None).is_err());
        let millis = |time| millis_of("since", Some(time)).ok().flatten();
        assert_eq!(millis("1970-01-01T00:00:01.5Z"), Some(1_500));
        assert_eq!(millis_of("since", Some("")).ok(), Some(None));
        assert!(
            ["yesterday", "12", "2026-13-01T00:00:00Z"].map(millis).iter().all(Option::is_none)
        );
    }
}
