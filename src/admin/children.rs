//! The children: where each is, what it does, and what it went through.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
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
    hub::system::Running,
    model::{
        child::{ChildFailure, Ownership, RestartRule, Role},
        event::HandoverPhases,
        id::{ChildId, NodeId, NodeRun},
        member::Member,
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
    is_moving: bool,
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

fn state_of(is_live: bool, is_moving: bool, failure: Option<&ChildFailure>) -> ChildState {
    match failure {
        _ if !is_live => ChildState::Orphaned,
        _ if is_moving => ChildState::Moving,
        Some(failure) if failure.is_given_up() => ChildState::Failed,
        Some(_) => ChildState::Waiting,
        None => ChildState::Running,
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
            state_of(is_live, is_moving || told_moving, ownership.failure.as_ref())
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
    /// The page behind this child, one more to know whether there are more, and how many children
    /// there are on all pages.
    fn page(
        &self,
        running: &Running,
        moving: &BTreeSet<ChildId>,
        after: Option<&ChildId>,
        limit: usize,
    ) -> (Vec<Row>, usize) {
        let registry = running.engine.registry();
        let nodes = self.node.as_deref().map(|wanted| {
            let members = running.engine.view().members.values();
            let is_wanted = |member: &&Member| {
                member.name.as_str() == wanted || member.id.to_string() == wanted
            };
            members.filter(is_wanted).map(|member| member.id).collect::<BTreeSet<NodeId>>()
        });
        let stands = |child: &ChildId, owner: NodeRun, ownership: &Ownership| {
            let is_moving = running.engine.is_moving(child) || moving.contains(child);
            let is_live = running.engine.view().is_live(owner);
            state_of(is_live, is_moving, ownership.failure.as_ref())
        };
        let fits = |&(child, owner, ownership): &(&ChildId, NodeRun, &Ownership)| {
            self.fits(nodes.as_ref(), child, owner, ownership)
                && self.state.is_none_or(|state| state == stands(child, owner, ownership))
        };
        let rows = registry.children_behind(after).filter(fits).take(limit + 1);
        let rows = rows.map(|(child, owner, ownership)| Row {
            // What was asked for is what is shown, whatever the owner says a moment later.
            state: self.state,
            ..Row::of(running, child, owner, ownership)
        });
        let total = if self.is_empty() {
            registry.len()
        } else {
            registry.children_behind(None).filter(fits).count()
        };
        (rows.collect(), total)
    }

    fn is_empty(&self) -> bool {
        self.text.is_none()
            && self.tag.is_none()
            && self.node.is_none()
            && self.kind.is_none()
            && self.state.is_none()
    }

    fn fits(
        &self,
        nodes: Option<&BTreeSet<NodeId>>,
        child: &ChildId,
        owner: NodeRun,
        ownership: &Ownership,
    ) -> bool {
        let spec = &ownership.spec;
        nodes.is_none_or(|nodes| nodes.contains(&owner.node))
            && self.kind.as_ref().is_none_or(|kind| spec.kind().as_str() == kind)
            && self.text.as_ref().is_none_or(|text| child.as_str().contains(text.as_str()))
            && self.tag.as_ref().is_none_or(|tag| spec.tags().iter().any(|t| t.as_str() == tag))
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
    let (mut rows, total) =
        desk.look(move |running| filter.page(running, &moving, after.as_ref(), limit)).await?;
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
    let views = events.into_iter().map(|(_, node, event)| EventView::of(desk, node, child, event));
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
