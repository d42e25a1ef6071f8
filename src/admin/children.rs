//! The children: where each is, what it does, and what it went through.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::future::{join, join_all};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Desk,
    events::EventView,
    handovers::{self, HandoverView},
    lists::{self, Page},
    nodes::{NodeName, time_of},
    problem::{Problem, Reading},
    why::{Whole, WhyView, whole, why_view},
};
use crate::{
    engine::registry::Searched,
    hub::{find, system::Running},
    model::{
        child::{Ownership, RestartRule, Role},
        event::HandoverPhases,
        id::{self, ChildId, KindName, NodeId, NodeRun},
        observe::{Answer, ChildPhase, HandoverReport, HandoverStatus, Question, RuntimeReport},
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
    /// The state it is in; `orphaned`: its node went, and it is not started elsewhere yet; `waiting`: it
    /// ended, or could not start, and is started again after a pause; `failed`: it did so too often
    /// and was given up.
    state: ChildState,
    /// Where its instances are.
    nodes: Vec<InstanceView>,
    /// The epoch of its ownership.
    epoch: String,
    /// The node to which somebody sent it on purpose.
    pinned: Option<String>,
    tags: BTreeSet<String>,
    metadata: BTreeMap<String, String>,
    /// The reason that it has no actor, if it failed; null: it has not.
    failure: Option<FailureView>,
    /// What it does, as its node says; null: it did not say in time.
    runtime: Option<RuntimeView>,
}

/// The reason that a child has no actor.
#[derive(Serialize, ToSchema)]
pub(crate) struct FailureView {
    /// The reason of its latest end, or of its failed start; at most 256 bytes.
    reason: String,
    /// The number of its restarts since it came to its node.
    restarts: u64,
    /// Whether it was given up. It is started again when somebody starts a child of its id, when
    /// somebody migrates it, and when a node comes or goes. Otherwise it is, after a pause.
    given_up: bool,
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
    /// `starting`, `running`, `waiting` (for its next start), `failed` (it was given up), `moving`,
    /// `stopping` or `yielding`.
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
    /// How it came there; null: it was started there.
    last_handover: Option<HandoverView>,
    /// Reason for which its state cannot go to another node; null: it can, or that was not tried yet.
    cannot_move: Option<String>,
}

/// A child with all that is known of it.
#[derive(Serialize, ToSchema)]
pub(crate) struct ChildDetail {
    #[serde(flatten)]
    child: ChildView,
    spec: SpecView,
    why: WhyView,
    /// What happened to it, as far as the nodes remember, the latest first by their clocks.
    history: Vec<EventView>,
    /// Nodes that did not tell what they saw of it: they did not answer, or do not record events as
    /// the endpoint is not mounted there.
    history_unknown: Vec<NodeName>,
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

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Active => "active",
        Role::Passive => "passive",
    }
}

/// A child as this node's registry has it.
pub(crate) struct Row {
    child: ChildId,
    pub(crate) owner: NodeRun,
    is_live: bool,
    pub(crate) is_moving: bool,
    /// How it stands, if that was settled before.
    state: Option<ChildState>,
    ownership: Ownership,
}

impl Row {
    pub(crate) fn of(
        running: &Running,
        child: &ChildId,
        owner: NodeRun,
        ownership: &Ownership,
    ) -> Self {
        let engine = &running.engine;
        Self {
            child: child.clone(),
            owner,
            is_live: engine.view().is_live(owner),
            is_moving: engine.is_moving(child),
            state: None,
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
    Waiting,
    Failed,
}

impl From<find::ChildState> for ChildState {
    fn from(state: find::ChildState) -> Self {
        match state {
            find::ChildState::Running => Self::Running,
            find::ChildState::Moving => Self::Moving,
            find::ChildState::Orphaned => Self::Orphaned,
            find::ChildState::Waiting => Self::Waiting,
            find::ChildState::Failed => Self::Failed,
        }
    }
}

impl From<ChildState> for find::ChildState {
    fn from(state: ChildState) -> Self {
        match state {
            ChildState::Running => Self::Running,
            ChildState::Moving => Self::Moving,
            ChildState::Orphaned => Self::Orphaned,
            ChildState::Waiting => Self::Waiting,
            ChildState::Failed => Self::Failed,
        }
    }
}

fn view(desk: &Desk, row: Row, runtime: Option<RuntimeReport>) -> ChildView {
    let Row { child, owner, is_live, is_moving, state, ownership } = row;
    let told_moving = runtime.as_ref().is_some_and(|r| r.phase == ChildPhase::Moving);
    let node = NodeName::of(desk, owner.node);
    ChildView {
        id: child.to_string(),
        kind: ownership.spec.kind().to_string(),
        state: state.unwrap_or_else(|| {
            let is_moving = is_moving || told_moving;
            find::ChildState::of(is_live, is_moving, ownership.failure.as_ref()).into()
        }),
        nodes: vec![InstanceView { id: node.id, name: node.name, role: role_name(ownership.role) }],
        epoch: ownership.epoch.to_string(),
        pinned: ownership.pinned.map(|node| node.to_string()),
        tags: ownership.spec.tags().iter().map(ToString::to_string).collect(),
        metadata: ownership.spec.metadata().clone(),
        failure: ownership.failure.as_ref().map(|failure| FailureView {
            reason: failure.reason().to_owned(),
            restarts: failure.restarts(),
            given_up: failure.is_given_up(),
        }),
        runtime: runtime.map(|report| RuntimeView {
            phase: match report.phase {
                ChildPhase::Starting => "starting",
                ChildPhase::Running => "running",
                ChildPhase::Waiting => "waiting",
                ChildPhase::Failed => "failed",
                ChildPhase::Moving => "moving",
                ChildPhase::Stopping => "stopping",
                ChildPhase::Yielding => "yielding",
            },
            restarts: report.restarts,
            mailbox: report.mailbox,
            handled: report.handled,
            running_since: time_of(report.since),
            cannot_move: report.immovable,
            last_handover: report.came.map(|(from, epoch)| {
                let arrival = HandoverReport {
                    child,
                    kind: ownership.spec.kind().clone(),
                    from,
                    to: owner.node,
                    epoch,
                    status: HandoverStatus::Done,
                    bytes: None,
                    began: report.since,
                    took: Duration::ZERO,
                    phases: HandoverPhases::default(),
                };
                HandoverView::of(desk, arrival)
            }),
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
        if let Ok(Answer::Children(told)) = answer {
            reports.extend(told.into_iter().map(|report| (report.child.clone(), report)));
        }
    }
    reports
}

/// Which children are wanted.
#[derive(Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
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
    /// The same as the hub takes it; `None`: no child can be meant. `nodes` are those that are in.
    fn for_hub(&self, nodes: &[(NodeId, id::NodeName)]) -> Option<find::ChildFilter> {
        let mut filter = find::ChildFilter::default();
        if let Some(kind) = &self.kind {
            filter = filter.kind_named(KindName::new(kind).ok()?);
        }
        if let Some(tag) = &self.tag {
            filter = filter.tag(tag).ok()?;
        }
        if let Some(wanted) = &self.node {
            let is_wanted = |(node, name): &&(NodeId, id::NodeName)| {
                name.as_str() == wanted || node.to_string() == *wanted
            };
            filter = filter.nodes(nodes.iter().filter(is_wanted).map(|(node, _)| *node).collect());
        }
        if let Some(text) = &self.text {
            filter = filter.text(text);
        }
        Some(match self.state {
            Some(state) => filter.state(state.into()),
            None => filter,
        })
    }
}

/// A search for children in steps, between which the hub goes on.
struct Search {
    filter: Arc<find::ChildFilter>,
    /// Children that move, as their owners say.
    moving: Arc<BTreeSet<ChildId>>,
    /// The state that was asked for: it is shown, whatever the owner says a moment later.
    state: Option<ChildState>,
}

impl Search {
    /// Up to `most` children behind this one.
    async fn rows(
        &self,
        desk: &Desk,
        mut behind: Option<ChildId>,
        most: usize,
    ) -> Result<Vec<Row>, Problem> {
        let mut rows = Vec::new();
        loop {
            let (filter, moving, state) = (self.filter.clone(), self.moving.clone(), self.state);
            let left = most - rows.len();
            let step = desk.look(move |running| {
                filter.search(running, &moving, behind.as_ref(), left, |child, owner, ownership| {
                    Row { state, ..Row::of(running, child, owner, ownership) }
                })
            });
            let Searched { found, next } = step.await?;
            rows.extend(found);
            if next.is_none() || rows.len() == most {
                return Ok(rows);
            }
            behind = next;
        }
    }

    /// The number of children on all pages.
    async fn total(&self, desk: &Desk) -> Result<usize, Problem> {
        if self.filter.is_empty() {
            return desk.look(|running| running.engine.registry().len()).await;
        }
        let (mut total, mut behind) = (0, None);
        loop {
            let (filter, moving) = (self.filter.clone(), self.moving.clone());
            let step = desk.look(move |running| {
                filter.search(running, &moving, behind.as_ref(), usize::MAX, |_, _, _| ())
            });
            let Searched { found, next } = step.await?;
            total += found.len();
            if next.is_none() {
                return Ok(total);
            }
            behind = next;
        }
    }
}

/// The children of all nodes that the filters match, by id.
#[utoipa::path(
    get, path = "/children", operation_id = "list_children", tag = "children", params(ChildFilter),
    responses(
        (status = 200, body = Page<ChildView>),
        (status = 304, description = "As the entity tag says"),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        Reading,
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
    let after =
        after.map(|after| ChildId::new(&after)).transpose().map_err(|_| lists::no_cursor())?;
    // Only its owner knows that a child moves, until the move is committed.
    let moving = match filter.state {
        Some(_) => handovers::moving(&desk).await?,
        None => BTreeSet::new(),
    };
    let nodes = desk.look(|running| {
        let members = running.engine.view().members.values();
        members.map(|member| (member.id, member.name.clone())).collect::<Vec<_>>()
    });
    let (mut rows, total) = match filter.for_hub(&nodes.await?) {
        Some(for_hub) => {
            let (for_hub, moving) = (Arc::new(for_hub), Arc::new(moving));
            let search = Search { filter: for_hub, moving, state: filter.state };
            (search.rows(&desk, after, limit + 1).await?, search.total(&desk).await?)
        }
        None => (Vec::new(), 0),
    };
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
    let page = Page { items, total, next_cursor };
    let tag = lists::tag(&page);
    Ok(lists::tagged(&request, &page, tag))
}

/// The path of one child; by name, as the scope's own path may have parameters, too.
#[derive(Deserialize)]
pub(crate) struct ChildPath {
    pub(crate) child: String,
}

pub(crate) fn child_id(text: &str) -> Result<ChildId, Problem> {
    ChildId::new(text).map_err(|error| Problem::not_found(error.to_string()))
}

pub(crate) fn no_such_child(child: &ChildId) -> Problem {
    Problem::not_found(format!("there is no child {child}"))
}

/// What the nodes saw of a child, and which of them did not tell.
async fn history(desk: &Desk, child: &ChildId) -> Result<(Vec<EventView>, Vec<NodeName>), Problem> {
    let asked = desk.members().await?.into_iter().map(|NodeRun { node, .. }| async move {
        let limit = u32::try_from(HISTORY).unwrap_or(u32::MAX);
        (node, desk.ask(node, Question::History { child: child.clone(), limit }).await)
    });
    let (mut events, mut unknown) = (Vec::new(), Vec::new());
    for (node, answer) in join_all(asked).await {
        match answer {
            Ok(Answer::History(Some(told))) => {
                events.extend(told.into_iter().map(|event| (event.at, node, event)));
            }
            _ => unknown.push(NodeName::of(desk, node)),
        }
    }
    // A stable sort: those of one node stay in their order.
    events.sort_by_key(|(at, ..)| Reverse(*at));
    events.truncate(HISTORY);
    let views = events.into_iter().map(|(_, node, event)| EventView::of(desk, node, event));
    Ok((views.collect(), unknown))
}

/// One child with all that is known of it.
#[utoipa::path(
    get, path = "/children/{child}", operation_id = "get_child", tag = "children",
    params(("child" = String, Path, description = "Its id, percent-encoded")),
    responses(
        (status = 200, body = ChildDetail),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        Reading,
    ),
)]
pub(crate) async fn one(
    desk: web::Data<Desk>,
    path: web::Path<ChildPath>,
) -> Result<web::Json<ChildDetail>, Problem> {
    let child = child_id(&path.child)?;
    let Whole { row, why, candidates } = whole(&desk, &child).await?;
    let spec = row.ownership.spec.clone();
    let intensity = spec.restart_intensity();
    // A node that is silent is waited for once.
    let (mut runtimes, history) =
        join(runtimes(&desk, std::slice::from_ref(&row)), history(&desk, &child)).await;
    let runtime = runtimes.remove(&child);
    let (history, history_unknown) = history?;
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
        history,
        history_unknown,
    }))
}
