//! The children: where each is and why, what it does; start, stop and migrate.

use std::collections::{BTreeMap, BTreeSet};

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::{
    Desk, diagnostic,
    events::EventView,
    handovers::HandoverView,
    lists::{self, Page},
    nodes::{self, DryRun, NodeName, time_of},
    problem::Problem,
};
use crate::{
    engine::explain::{Rule, Why},
    error::{MigrateError, StartChildError, StopChildError},
    hub::{observe::unix_millis, system::Running},
    model::{
        child::{ChildSpec, Ownership, RestartRule, Role},
        id::{ChildId, KindName, NodeId, NodeName as Name, NodeRun},
        member::Member,
        observe::{Answer, ChildPhase, Question, RuntimeReport, StateUnknown},
    },
};

/// Events of a child that are shown with it.
const HISTORY: usize = 50;

/// A child, as the node that answers knows it.
#[derive(Serialize, ToSchema)]
pub(crate) struct ChildView {
    /// Its identity.
    id: String,
    /// Its kind.
    kind: String,
    /// What it does; `orphaned`: its node went, and it is not started elsewhere yet.
    state: ChildState,
    /// Where its instances are.
    nodes: Vec<InstanceView>,
    /// The epoch of its ownership.
    epoch: String,
    /// The node to which somebody sent it on purpose.
    pinned: Option<String>,
    tags: BTreeSet<String>,
    metadata: BTreeMap<String, String>,
    /// What it does, as its node says; null: it did not say in time.
    runtime: Option<RuntimeView>,
}

/// One instance of a child.
#[derive(Serialize, ToSchema)]
pub(crate) struct InstanceView {
    id: String,
    name: String,
    /// `active` or `passive`.
    #[schema(value_type = String, example = "active")]
    role: &'static str,
}

/// What a child does.
#[derive(Serialize, ToSchema)]
pub(crate) struct RuntimeView {
    /// `starting`, `running`, `moving`, `stopping` or `yielding`.
    #[schema(value_type = String, example = "running")]
    phase: &'static str,
    /// How often it was restarted since it came to its node.
    restarts: u64,
    /// Messages that wait for it there.
    mailbox: u64,
    /// Handlers that were started there.
    handled: u64,
    /// Since when it has been there.
    running_since: String,
    /// How it came there; null: its node does not remember.
    last_handover: Option<HandoverView>,
}

/// A child with all that is known of it.
#[derive(Serialize, ToSchema)]
pub(crate) struct ChildDetail {
    #[serde(flatten)]
    child: ChildView,
    spec: SpecView,
    why: WhyView,
    /// What happened to it on the node that answers, the latest first.
    history: Vec<EventView>,
}

/// How a child was asked for.
#[derive(Serialize, ToSchema)]
pub(crate) struct SpecView {
    /// `permanent`, `transient` or `temporary`.
    #[schema(value_type = String, example = "permanent")]
    restart: &'static str,
    /// So many restarts are allowed ...
    restarts: u32,
    /// ... within so many seconds.
    within_seconds: f64,
    /// Bytes of its arguments in CBOR.
    args_bytes: usize,
}

/// Where a child is, and why.
#[derive(Serialize, ToSchema)]
pub(crate) struct WhyView {
    child: String,
    /// `distribution`, `pinned`, `elsewhere` (where it belongs it was refused) or `waiting` (it
    /// belongs elsewhere and has not moved yet).
    #[schema(value_type = String, example = "distribution")]
    rule: &'static str,
    /// The same in words.
    text: String,
    /// Whose it is.
    owner: NodeName,
    /// Where it belongs.
    belongs: Option<NodeName>,
    /// Where its starts, stops and takeovers are serialised.
    home: Option<NodeName>,
    /// The epoch of its ownership.
    epoch: String,
    /// Since which epoch its state goes back without a break.
    born: String,
    /// The epoch at which its state last came from a copy.
    copied: String,
    /// The nodes that were to choose from.
    candidates: Vec<CandidateView>,
}

/// A node that a child could be on.
#[derive(Serialize, ToSchema)]
pub(crate) struct CandidateView {
    id: String,
    name: String,
    takes_children: bool,
    /// Why it takes none, or not this one.
    reason: Option<String>,
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Active => "active",
        Role::Passive => "passive",
    }
}

/// A child as this node's registry has it.
struct Row {
    child: ChildId,
    owner: NodeRun,
    is_live: bool,
    is_moving: bool,
    ownership: Ownership,
}

impl Row {
    fn of(running: &Running, child: &ChildId, owner: NodeRun, ownership: &Ownership) -> Self {
        let engine = &running.engine;
        Self {
            child: child.clone(),
            owner,
            is_live: engine.view().is_live(owner),
            is_moving: engine.is_moving(child),
            ownership: ownership.clone(),
        }
    }
}

/// What a child does, as far as the registry tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum ChildState {
    Running,
    Moving,
    Orphaned,
}

fn state_of(is_live: bool, is_moving: bool) -> ChildState {
    match (is_live, is_moving) {
        (false, _) => ChildState::Orphaned,
        (true, true) => ChildState::Moving,
        (true, false) => ChildState::Running,
    }
}

fn view(desk: &Desk, row: Row, runtime: Option<RuntimeReport>) -> ChildView {
    let Row { child, owner, is_live, is_moving, ownership } = row;
    let told_moving = runtime.as_ref().is_some_and(|r| r.phase == ChildPhase::Moving);
    let node = NodeName::of(desk, owner.node);
    ChildView {
        id: child.to_string(),
        kind: ownership.spec.kind().to_string(),
        state: state_of(is_live, is_moving || told_moving),
        nodes: vec![InstanceView { id: node.id, name: node.name, role: role_name(ownership.role) }],
        epoch: ownership.epoch.to_string(),
        pinned: ownership.pinned.map(|node| node.to_string()),
        tags: ownership.spec.tags().iter().map(ToString::to_string).collect(),
        metadata: ownership.spec.metadata().clone(),
        runtime: runtime.map(|report| RuntimeView {
            phase: match report.phase {
                ChildPhase::Starting => "starting",
                ChildPhase::Running => "running",
                ChildPhase::Moving => "moving",
                ChildPhase::Stopping => "stopping",
                ChildPhase::Yielding => "yielding",
            },
            restarts: report.restarts,
            mailbox: report.mailbox,
            handled: report.handled,
            running_since: time_of(unix_millis(report.since)),
            last_handover: report.came.map(|report| HandoverView::of(desk, report)),
        }),
    }
}

/// What the owners of these children say of them.
async fn runtimes(desk: &Desk, rows: &[Row]) -> BTreeMap<ChildId, RuntimeReport> {
    let mut by_node = BTreeMap::<NodeId, Vec<ChildId>>::new();
    for row in rows.iter().filter(|row| row.is_live) {
        by_node.entry(row.owner.node).or_default().push(row.child.clone());
    }
    let asked = by_node.into_iter().map(|(node, ids)| desk.ask(node, Question::Children { ids }));
    let mut reports = BTreeMap::new();
    for answer in join_all(asked).await {
        if let Some(Answer::Children(told)) = answer {
            reports.extend(told.into_iter().map(|report| (report.child.clone(), report)));
        }
    }
    reports
}

/// Which children are wanted.
#[derive(Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ChildFilter {
    /// Children whose id contains this.
    text: Option<String>,
    /// Children with this tag.
    tag: Option<String>,
    /// Children of this node, by id or name.
    node: Option<String>,
    /// Children of this kind.
    kind: Option<String>,
    /// Children in this state.
    #[param(inline)]
    state: Option<ChildState>,
    /// How many at most, 1 to 1,000. Default 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Where the page begins.
    cursor: Option<String>,
}

impl ChildFilter {
    fn fits(&self, running: &Running, nodes: &BTreeSet<NodeId>, row: &Found<'_>) -> bool {
        let Found { child, owner, ownership } = row;
        let spec = &ownership.spec;
        self.text.as_ref().is_none_or(|text| child.as_str().contains(text.as_str()))
            && self.tag.as_ref().is_none_or(|tag| spec.tags().iter().any(|t| t.as_str() == tag))
            && self.kind.as_ref().is_none_or(|kind| spec.kind().as_str() == kind)
            && (self.node.is_none() || nodes.contains(&owner.node))
            && self.state.is_none_or(|state| {
                let engine = &running.engine;
                state_of(engine.view().is_live(*owner), engine.is_moving(child)) == state
            })
    }
}

struct Found<'a> {
    child: &'a ChildId,
    owner: NodeRun,
    ownership: &'a Ownership,
}

/// The children of all nodes that the filters match, by id.
#[utoipa::path(
    get, path = "/children", tag = "children", params(ChildFilter),
    responses(
        (status = 200, body = Page<ChildView>),
        (status = 304, description = "As the entity tag says"),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 403, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list(
    desk: web::Data<Desk>,
    query: web::Query<ChildFilter>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let limit = lists::limit(query.limit)?;
    let after = lists::key(query.cursor.as_deref())?;
    let filter = query.into_inner();
    let (mut rows, total) = desk
        .look(move |running| {
            let wanted = filter.node.as_deref();
            let members = running.engine.view().members.values();
            let is_wanted = |member: &&Member| {
                wanted.is_some_and(|w| member.name.as_str() == w || member.id.to_string() == w)
            };
            let nodes: BTreeSet<NodeId> = members.filter(is_wanted).map(|m| m.id).collect();
            let (mut rows, mut total) = (Vec::new(), 0);
            for (child, owner, ownership) in running.engine.registry().children() {
                let found = Found { child, owner, ownership };
                if !filter.fits(running, &nodes, &found) {
                    continue;
                }
                total += 1;
                let behind = after.as_ref().is_none_or(|after| child.as_str() > after.as_str());
                // One more, to know whether there are more.
                if behind && rows.len() <= limit {
                    rows.push(Row::of(running, child, owner, ownership));
                }
            }
            (rows, total)
        })
        .await?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next_cursor = rows.last().filter(|_| more).map(|row| lists::cursor(row.child.as_str()));
    let mut reports = runtimes(&desk, &rows).await;
    let items = rows
        .into_iter()
        .map(|row| {
            let runtime = reports.remove(&row.child);
            view(&desk, row, runtime)
        })
        .collect();
    Ok(lists::tagged(&request, &Page { items, total, next_cursor }))
}

fn child_id(text: &str) -> Result<ChildId, Problem> {
    ChildId::new(text).map_err(|error| Problem::not_found(error.to_string()))
}

fn no_such_child(child: &ChildId) -> Problem {
    Problem::not_found(format!("there is no child {child}"))
}

/// One child, and the reason for its place, as this node knows them.
struct Whole {
    row: Row,
    why: Why,
    candidates: Vec<(NodeId, Name, bool)>,
}

async fn whole(desk: &Desk, child: &ChildId) -> Result<Whole, Problem> {
    let wanted = child.clone();
    let found = desk
        .look(move |running| {
            let engine = &running.engine;
            let (owner, ownership) = engine.registry().owner(&wanted)?;
            let members = engine.view().members.values();
            Some(Whole {
                row: Row::of(running, &wanted, owner, ownership),
                why: engine.why(&wanted)?,
                candidates: members
                    .map(|member| (member.id, member.name.clone(), member.takes_children()))
                    .collect(),
            })
        })
        .await?;
    let whole = found.ok_or_else(|| no_such_child(child))?;
    Ok(whole)
}

fn why_view(
    desk: &Desk,
    child: &ChildId,
    why: Why,
    candidates: Vec<(NodeId, Name, bool)>,
) -> WhyView {
    let owner = NodeName::of(desk, why.owner.node);
    let belongs = why.belongs.map(|node| NodeName::of(desk, node));
    let place = belongs.as_ref().map_or("nowhere", |node| &node.name);
    let text = if !why.is_live {
        format!("Its node {} went; its home starts it elsewhere.", owner.name)
    } else {
        match why.rule {
            Rule::Pinned => format!(
                "It was sent to {} on purpose and stays there until it is sent elsewhere or the \
                 node goes.",
                owner.name
            ),
            Rule::Distribution => {
                format!("The distribution puts it on {}, and there it is.", owner.name)
            }
            Rule::Elsewhere => format!(
                "The distribution puts it on {place}, which refused it; so it is on {}.",
                owner.name
            ),
            Rule::Waiting => format!(
                "It belongs on {place} and is still on {}: it moves when there is room and all \
                 nodes agree who is in, or when the view changes next if its moves have failed.",
                owner.name
            ),
        }
    };
    WhyView {
        child: child.to_string(),
        rule: match why.rule {
            Rule::Pinned => "pinned",
            Rule::Distribution => "distribution",
            Rule::Elsewhere => "elsewhere",
            Rule::Waiting => "waiting",
        },
        text,
        owner,
        belongs,
        home: why.home.map(|node| NodeName::of(desk, node)),
        epoch: why.epoch.to_string(),
        born: why.born.to_string(),
        copied: why.copied.to_string(),
        candidates: candidates
            .into_iter()
            .map(|(id, name, takes_children)| CandidateView {
                reason: if why.refused_by.contains(&id) {
                    Some("it refused this child".to_owned())
                } else if takes_children {
                    None
                } else {
                    Some("it is leaving, or its weight is 0".to_owned())
                },
                id: id.to_string(),
                name: name.to_string(),
                takes_children,
            })
            .collect(),
    }
}

/// One child with all that is known of it.
#[utoipa::path(
    get, path = "/children/{child}", tag = "children",
    params(("child" = String, Path, description = "Its id, percent-encoded")),
    responses(
        (status = 200, body = ChildDetail),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 403, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn one(
    desk: web::Data<Desk>,
    path: web::Path<String>,
) -> Result<web::Json<ChildDetail>, Problem> {
    let child = child_id(&path)?;
    let Whole { row, why, candidates } = whole(&desk, &child).await?;
    let spec = row.ownership.spec.clone();
    let intensity = spec.restart_intensity();
    let runtime = runtimes(&desk, std::slice::from_ref(&row)).await.remove(&child);
    let history = desk.journal.history(&child, HISTORY);
    Ok(web::Json(ChildDetail {
        child: view(&desk, row, runtime),
        spec: SpecView {
            restart: match spec.restart_rule() {
                RestartRule::Permanent => "permanent",
                RestartRule::Transient => "transient",
                RestartRule::Temporary => "temporary",
            },
            restarts: intensity.restarts,
            within_seconds: intensity.within.as_secs_f64(),
            args_bytes: spec.args.len(),
        },
        why: why_view(&desk, &child, why, candidates),
        history: history.into_iter().map(|event| event.view(&desk)).collect(),
    }))
}

/// Where a child is, and which rule put it there.
#[utoipa::path(
    get, path = "/children/{child}/why", tag = "children",
    params(("child" = String, Path, description = "Its id, percent-encoded")),
    responses(
        (status = 200, body = WhyView),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 403, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn why(
    desk: web::Data<Desk>,
    path: web::Path<String>,
) -> Result<web::Json<WhyView>, Problem> {
    let child = child_id(&path)?;
    let Whole { why, candidates, .. } = whole(&desk, &child).await?;
    Ok(web::Json(why_view(&desk, &child, why, candidates)))
}

/// The state of a child, as a handover would carry it.
#[derive(Serialize, ToSchema)]
pub(crate) struct StateView {
    child: String,
    /// The epoch at which it runs.
    epoch: String,
    /// The version of the state.
    state_version: u32,
    /// Its bytes of CBOR.
    bytes: usize,
    /// The state in diagnostic notation (RFC 8949, section 8); null: it is no CBOR.
    diagnostic: Option<String>,
    /// The state as JSON; null where JSON cannot say the same.
    #[schema(value_type = Option<Value>)]
    json: Option<Value>,
}

/// The state of a child: as CBOR if that is accepted first, else in diagnostic notation and JSON.
/// Only if the options allow it.
#[utoipa::path(
    get, path = "/children/{child}/state", tag = "children",
    params(("child" = String, Path, description = "Its id, percent-encoded")),
    responses(
        (status = 200, content((StateView = "application/json"), (Vec<u8> = "application/cbor"))),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 403, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 413, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json"),
        (status = 504, body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn state(
    desk: web::Data<Desk>,
    path: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    if !desk.options.states {
        return Err(Problem::forbidden("states are not shown: AdminOptions::states is off"));
    }
    let child = child_id(&path)?;
    let owner = whole(&desk, &child).await?.row.owner.node;
    let report = match desk.ask(owner, Question::State { child: child.clone() }).await {
        Some(Answer::State(Ok(report))) => report,
        Some(Answer::State(Err(error @ StateUnknown::NotHere))) => {
            return Err(Problem::conflict(error.to_string()));
        }
        Some(Answer::State(Err(error @ StateUnknown::TooLarge { .. }))) => {
            return Err(Problem::too_large(error.to_string()));
        }
        Some(Answer::State(Err(error @ StateUnknown::Failed(_)))) => {
            return Err(Problem::conflict(error.to_string()));
        }
        _ => {
            let name = NodeName::of(&desk, owner).name;
            return Err(Problem::timeout(format!("{child} on {name} did not answer in time")));
        }
    };
    let accepted = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if accepted.is_some_and(|accept| accept.trim_start().starts_with("application/cbor")) {
        return Ok(HttpResponse::Ok().content_type("application/cbor").body(report.state));
    }
    let value: Option<ciborium::Value> = ciborium::from_reader(&report.state[..]).ok();
    Ok(HttpResponse::Ok().json(StateView {
        child: child.to_string(),
        epoch: report.epoch.to_string(),
        state_version: report.state_version,
        bytes: report.state.len(),
        diagnostic: value.as_ref().map(diagnostic::notation),
        json: value.as_ref().and_then(diagnostic::json),
    }))
}

/// A child that is to be started.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StartBody {
    /// Its identity: 1 to 256 bytes without control characters.
    #[schema(min_length = 1, max_length = 256)]
    id: String,
    /// Its kind, which some node must have registered.
    #[schema(min_length = 1, max_length = 256)]
    kind: String,
    /// Its arguments as JSON, which is turned into CBOR; null if not given.
    #[schema(value_type = Option<Value>)]
    args: Option<Value>,
    /// Its arguments as CBOR in base64, instead.
    args_cbor: Option<String>,
    /// Words by which it can be found.
    #[serde(default)]
    tags: Vec<String>,
    /// What is noted about it.
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    /// Whether it is started again when it ends; permanent if not given.
    restart: Option<Restart>,
}

/// When a child that ended is started again: always, after a panic, or never.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Restart {
    Permanent,
    Transient,
    Temporary,
}

impl StartBody {
    fn spec(self) -> Result<ChildSpec, Problem> {
        let wrong = |error: &dyn std::fmt::Display| Problem::unprocessable(error.to_string());
        let id = ChildId::new(&self.id).map_err(|error| wrong(&error))?;
        let kind = KindName::new(&self.kind).map_err(|error| wrong(&error))?;
        let args = match (self.args, self.args_cbor) {
            (Some(_), Some(_)) => {
                return Err(Problem::unprocessable("give args or args_cbor, not both"));
            }
            (None, Some(text)) => {
                let wrong = |_| Problem::unprocessable("args_cbor is no base64");
                STANDARD.decode(text).map_err(wrong)?
            }
            (args, None) => {
                let mut bytes = Vec::new();
                ciborium::into_writer(&args.unwrap_or(Value::Null), &mut bytes)
                    .map_err(|error| wrong(&error))?;
                bytes
            }
        };
        let mut spec = ChildSpec::from_parts(id, kind, Bytes::from(args));
        for tag in self.tags {
            spec = spec.tag(tag).map_err(|error| wrong(&error))?;
        }
        for (key, value) in self.metadata {
            spec = spec.note(key, value);
        }
        Ok(spec.restart(match self.restart {
            None | Some(Restart::Permanent) => RestartRule::Permanent,
            Some(Restart::Transient) => RestartRule::Transient,
            Some(Restart::Temporary) => RestartRule::Temporary,
        }))
    }
}

/// What became of an action on a child.
#[derive(Serialize, ToSchema)]
pub(crate) struct ActionView {
    /// Present, and true, if nothing was done.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    /// `started`, `exists`, `stopped`, `moved` or `already_there`; not in a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "moved")]
    outcome: Option<&'static str>,
    child: String,
    /// Where it is now, or was, or would be.
    node: Option<NodeName>,
    /// Where it was before.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<NodeName>,
    /// The epoch at which it runs now.
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
    /// What was done, or would be, in words.
    text: String,
}

impl ActionView {
    fn new(child: &ChildId, text: String) -> Self {
        Self {
            dry_run: false,
            outcome: None,
            child: child.to_string(),
            node: None,
            from: None,
            epoch: None,
            text,
        }
    }
}

/// Starts a child where it belongs.
#[utoipa::path(
    post, path = "/children", tag = "children",
    params(
        DryRun,
        ("X-Actix-Hub" = String, Header, description = "Any value: an action needs it"),
    ),
    request_body = StartBody,
    responses(
        (status = 200, body = ActionView, description = "It was there already, or a dry run"),
        (status = 201, body = ActionView),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 403, body = Problem, content_type = "application/problem+json"),
        (status = 413, body = Problem, content_type = "application/problem+json"),
        (status = 415, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn start(
    desk: web::Data<Desk>,
    query: web::Query<DryRun>,
    body: web::Json<StartBody>,
) -> Result<HttpResponse, Problem> {
    let spec = body.into_inner().spec()?;
    let child = spec.id().clone();
    if query.dry_run {
        let known = desk.hub.lookup(child.as_str()).await;
        if let Some(known) = known {
            let node = NodeName::of(&desk, known.node);
            let text = format!("{child} is on {} already; nothing would be done.", node.name);
            let view =
                ActionView { dry_run: true, node: Some(node), ..ActionView::new(&child, text) };
            return Ok(HttpResponse::Ok().json(view));
        }
        let node = desk.look(move |running| running.engine.would_start(spec)).await?;
        let node = node.map(|node| NodeName::of(&desk, node));
        let Some(node) = node else {
            return Err(Problem::unprocessable("no node takes children"));
        };
        let text = format!("{child} would be started on {}.", node.name);
        let view = ActionView { dry_run: true, node: Some(node), ..ActionView::new(&child, text) };
        return Ok(HttpResponse::Ok().json(view));
    }
    match desk.hub.start_child(spec).await {
        Ok(started) => {
            let node = NodeName::of(&desk, started.node);
            let text = format!("{child} was started on {}.", node.name);
            Ok(HttpResponse::Created().json(ActionView {
                outcome: Some("started"),
                node: Some(node),
                epoch: Some(started.epoch.to_string()),
                ..ActionView::new(&child, text)
            }))
        }
        Err(StartChildError::Exists { node, .. }) => {
            let node = NodeName::of(&desk, node);
            let text = format!("{child} was on {} already.", node.name);
            Ok(HttpResponse::Ok().json(ActionView {
                outcome: Some("exists"),
                node: Some(node),
                ..ActionView::new(&child, text)
            }))
        }
        Err(StartChildError::HubStopped) => Err(Problem::stopped()),
        Err(error) => Err(Problem::unprocessable(error.to_string())),
    }
}

/// Stops a child for good, wherever it runs.
#[utoipa::path(
    delete, path = "/children/{child}", tag = "children",
    params(
        ("child" = String, Path, description = "Its id, percent-encoded"),
        DryRun,
        ("X-Actix-Hub" = String, Header, description = "Any value: an action needs it"),
    ),
    responses(
        (status = 200, body = ActionView),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 403, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json"),
        (status = 504, body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn stop(
    desk: web::Data<Desk>,
    path: web::Path<String>,
    query: web::Query<DryRun>,
) -> Result<HttpResponse, Problem> {
    let child = child_id(&path)?;
    if query.dry_run {
        let whole = whole(&desk, &child).await?;
        let node = NodeName::of(&desk, whole.row.owner.node);
        let text =
            format!("{child} on {} would be stopped for good; its state would be lost.", node.name);
        let view = ActionView { dry_run: true, node: Some(node), ..ActionView::new(&child, text) };
        return Ok(HttpResponse::Ok().json(view));
    }
    match desk.hub.stop_child(child.as_str()).await {
        Ok(node) => {
            let node = NodeName::of(&desk, node);
            let text = format!("{child} on {} was stopped for good.", node.name);
            Ok(HttpResponse::Ok().json(ActionView {
                outcome: Some("stopped"),
                node: Some(node),
                ..ActionView::new(&child, text)
            }))
        }
        Err(StopChildError::NotFound { .. }) => Err(no_such_child(&child)),
        Err(StopChildError::HubStopped) => Err(Problem::stopped()),
        Err(error) => Err(Problem::timeout(error.to_string())),
    }
}

/// Where a child is to go.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MigrateBody {
    /// The node, by id or name.
    to: String,
    /// Whether handlers that run on after `retention` are cut off. Default false.
    #[serde(default)]
    forced: bool,
}

/// Moves a child to a node with its state, and binds it there.
#[utoipa::path(
    post, path = "/children/{child}/migrate", tag = "children",
    params(
        ("child" = String, Path, description = "Its id, percent-encoded"),
        DryRun,
        ("X-Actix-Hub" = String, Header, description = "Any value: an action needs it"),
    ),
    request_body = MigrateBody,
    responses(
        (status = 200, body = ActionView),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 403, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 413, body = Problem, content_type = "application/problem+json"),
        (status = 415, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json"),
        (status = 504, body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn migrate(
    desk: web::Data<Desk>,
    path: web::Path<String>,
    query: web::Query<DryRun>,
    body: web::Json<MigrateBody>,
) -> Result<HttpResponse, Problem> {
    let child = child_id(&path)?;
    let Whole { row, candidates, .. } = whole(&desk, &child).await?;
    let to = nodes::find(&desk, &body.to)
        .await
        .map_err(|problem| Problem::unprocessable(problem.detail()))?;
    if !candidates.iter().any(|(id, _, takes_children)| *id == to && *takes_children) {
        return Err(Problem::conflict(format!(
            "{} takes no children: it is leaving, or its weight is 0",
            NodeName::of(&desk, to).name
        )));
    }
    let before = row.owner.node;
    let (from, node) = (NodeName::of(&desk, before), NodeName::of(&desk, to));
    if query.dry_run {
        let text = if before == to {
            format!("{child} is on {} already; it would be bound to it.", node.name)
        } else {
            format!(
                "{child} would move from {} to {} with its state, and stay there.",
                from.name, node.name
            )
        };
        let view = ActionView {
            dry_run: true,
            node: Some(node),
            from: Some(from),
            ..ActionView::new(&child, text)
        };
        return Ok(HttpResponse::Ok().json(view));
    }
    let mut request = desk.hub.migrate(child.as_str(), to);
    if body.forced {
        request = request.forced();
    }
    match request.await {
        Ok(epoch) => {
            let (outcome, text) = if before == to {
                ("already_there", format!("{child} was on {} already.", node.name))
            } else {
                ("moved", format!("{child} moved from {} to {}.", from.name, node.name))
            };
            Ok(HttpResponse::Ok().json(ActionView {
                outcome: Some(outcome),
                node: Some(node),
                from: Some(from),
                epoch: Some(epoch.to_string()),
                ..ActionView::new(&child, text)
            }))
        }
        Err(MigrateError::NotFound { .. }) => Err(no_such_child(&child)),
        Err(MigrateError::HubStopped) => Err(Problem::stopped()),
        Err(error @ MigrateError::Timeout { .. }) => Err(Problem::timeout(error.to_string())),
        Err(error) => Err(Problem::conflict(error.to_string())),
    }
}
