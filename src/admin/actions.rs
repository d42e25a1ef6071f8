//! What may be done with a child: start, stop, migrate; each can be asked what it would do.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use actix_web::{HttpResponse, web};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    Desk,
    children::{ChildPath, child_id, no_such_child},
    nodes::{self, DryRun, NodeName},
    problem::{Acting, Problem},
    why::{Whole, whole},
};
use crate::{
    error::{MigrateError, StartChildError, StopChildError},
    model::{
        child::{ChildSpec, Epoch, Ownership, RestartRule},
        id::{ChildId, KindName, NodeId},
        member::Member,
        observe::{Answer, Question},
        report::StartFailed,
    },
};

/// How long this node may take to hear of a child that is there.
const CATCH_UP: Duration = Duration::from_secs(1);
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A child that is to be started.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StartBody {
    /// Its identity: 1 to 256 bytes without control characters.
    #[schema(min_length = 1, max_length = 256)]
    id: String,
    /// Its kind, which some node must have registered: 1 to 128 bytes.
    #[schema(min_length = 1, max_length = 128)]
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
    /// `started`, `exists`, `stopped`, `moved`, `already_there`, `released` or `not_bound`; not in a dry run.
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
    /// Present, and true, if its node went down meanwhile, and its state with it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    began_anew: bool,
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
            began_anew: false,
            text,
        }
    }
}

/// Where a child is, and how it was asked for.
async fn there(desk: &Desk, child: &ChildId) -> Result<Option<(NodeId, Arc<ChildSpec>)>, Problem> {
    let child = child.clone();
    desk.look(move |running| {
        let (owner, ownership) = running.engine.registry().owner(&child)?;
        Some((owner.node, ownership.spec.clone()))
    })
    .await
}

/// The owner of a child that was given up, as this node knows.
async fn given_up(desk: &Desk, child: &ChildId) -> Result<Option<NodeId>, Problem> {
    let child = child.clone();
    desk.look(move |running| {
        let (owner, ownership) = running.engine.registry().owner(&child)?;
        ownership.is_given_up().then_some(owner.node)
    })
    .await
}

/// A fact of a child that this node will know soon; `None`: it does not within [`CATCH_UP`].
async fn soon<R>(
    desk: &Desk,
    child: &ChildId,
    look: impl Fn(&Ownership) -> Option<R> + Copy + Send + 'static,
) -> Result<Option<R>, Problem>
where
    R: Send + 'static,
{
    for _ in 0..CATCH_UP.as_millis() / LOOK_AGAIN.as_millis() {
        let child = child.clone();
        let seen = desk
            .look(move |running| {
                let (_, ownership) = running.engine.registry().owner(&child)?;
                look(ownership)
            })
            .await?;
        if seen.is_some() {
            return Ok(seen);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(None)
}

fn unknown_kind(kind: &KindName) -> Problem {
    Problem::unprocessable(format!("no node that takes children has registered the kind {kind}"))
}

fn nobody() -> Problem {
    Problem::unavailable("no node takes children")
}

/// The same request again is answered as before; another one for a taken id is refused.
fn same(asked: &ChildSpec, there: &ChildSpec, node: &NodeName) -> Result<(), Problem> {
    let mut differs = Vec::new();
    if asked.kind() != there.kind() {
        differs.push("kind");
    }
    if asked.args != there.args {
        differs.push("arguments");
    }
    if asked.tags() != there.tags() {
        differs.push("tags");
    }
    if asked.metadata() != there.metadata() {
        differs.push("metadata");
    }
    if asked.restart_rule() != there.restart_rule() {
        differs.push("restart rule");
    }
    if differs.is_empty() {
        return Ok(());
    }
    let (child, node) = (asked.id(), &node.name);
    let differs = differs.join(", ");
    Err(Problem::conflict(format!("{child} is on {node} already, and differs in: {differs}")))
}

/// Starts a child where it belongs.
#[utoipa::path(
    post, path = "/children", operation_id = "start_child", tag = "children",
    params(
        DryRun,
        ("X-Actix-Hub" = String, Header, description = "Any value: an action needs it"),
    ),
    request_body = StartBody,
    responses(
        (status = 200, body = ActionView, description = "It was there already, or a dry run"),
        (status = 201, body = ActionView),
        (
            status = 409, body = Problem, content_type = "application/problem+json",
            description = "Another child has this id"
        ),
        (status = 413, body = Problem, content_type = "application/problem+json"),
        (status = 415, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
        Acting,
    ),
)]
pub(crate) async fn start(
    desk: web::Data<Desk>,
    query: web::Query<DryRun>,
    body: web::Json<StartBody>,
) -> Result<HttpResponse, Problem> {
    let spec = body.into_inner().spec()?;
    let (child, kind) = (spec.id().clone(), spec.kind().clone());
    if query.dry_run {
        if let Some(node) = given_up(&desk, &child).await? {
            let node = NodeName::of(&desk, node);
            let text = format!("{child} was given up and would be started again on {}.", node.name);
            let view =
                ActionView { dry_run: true, node: Some(node), ..ActionView::new(&child, text) };
            return Ok(HttpResponse::Ok().json(view));
        }
        if let Some((node, there)) = there(&desk, &child).await? {
            let node = NodeName::of(&desk, node);
            same(&spec, &there, &node)?;
            let text = format!("{child} is on {} already; nothing would be done.", node.name);
            let view =
                ActionView { dry_run: true, node: Some(node), ..ActionView::new(&child, text) };
            return Ok(HttpResponse::Ok().json(view));
        }
        let node = desk.look(move |running| running.engine.would_start(spec)).await?;
        let node = node.map(|node| NodeName::of(&desk, node));
        let Some(node) = node else {
            let anybody = desk
                .look(|running| running.engine.view().members.values().any(Member::takes_children))
                .await?;
            return Err(if anybody { unknown_kind(&kind) } else { nobody() });
        };
        let text = format!("{child} would be started on {}.", node.name);
        let view = ActionView { dry_run: true, node: Some(node), ..ActionView::new(&child, text) };
        return Ok(HttpResponse::Ok().json(view));
    }
    match desk.hub.start_child(spec.clone()).await {
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
            let there = soon(&desk, &child, |ownership| Some(ownership.spec.clone())).await?;
            let there = there.ok_or_else(|| {
                Problem::unavailable(format!(
                    "there is a child {child}, but this node does not know yet how it was started; \
                     ask again"
                ))
            })?;
            same(&spec, &there, &node)?;
            let text = format!("{child} was on {} already.", node.name);
            Ok(HttpResponse::Ok().json(ActionView {
                outcome: Some("exists"),
                node: Some(node),
                ..ActionView::new(&child, text)
            }))
        }
        Err(StartChildError::HubStopped) => Err(Problem::stopped()),
        Err(StartChildError::Failed { reason: StartFailed::Timeout { waits_for }, .. }) => {
            let why = waits_for.map(|reason| format!("; the cluster {reason}")).unwrap_or_default();
            let text = format!("{child} was not started in time; it may be, all the same{why}");
            Err(Problem::timeout(text))
        }
        Err(StartChildError::Failed { reason: StartFailed::UnknownKind { .. }, .. }) => {
            Err(unknown_kind(&kind))
        }
        Err(StartChildError::Failed { reason: StartFailed::NoNode, .. }) => Err(nobody()),
        Err(
            error @ StartChildError::Failed {
                reason: StartFailed::Leaving | StartFailed::Busy { .. },
                ..
            },
        ) => Err(Problem::unavailable(error.to_string())),
        Err(error) => Err(Problem::unprocessable(error.to_string())),
    }
}

/// Stops a child for good, wherever it runs.
#[utoipa::path(
    delete, path = "/children/{child}", operation_id = "stop_child", tag = "children",
    params(
        ("child" = String, Path, description = "Its id, percent-encoded"),
        DryRun,
        ("X-Actix-Hub" = String, Header, description = "Any value: an action needs it"),
    ),
    responses(
        (status = 200, body = ActionView),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        Acting,
    ),
)]
pub(crate) async fn stop(
    desk: web::Data<Desk>,
    path: web::Path<ChildPath>,
    query: web::Query<DryRun>,
) -> Result<HttpResponse, Problem> {
    let child = child_id(&path.child)?;
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
        Err(error @ StopChildError::Busy { .. }) => Err(Problem::unavailable(error.to_string())),
        Err(error) => Err(Problem::timeout(error.to_string())),
    }
}

/// Who handed a child over to this node at this epoch, if it says so.
async fn came_from(desk: &Desk, node: NodeId, child: &ChildId, epoch: Epoch) -> Option<NodeId> {
    let question = Question::Children { ids: vec![child.clone()] };
    let Ok(Answer::Children(reports)) = desk.ask(node, question).await else { return None };
    let (from, at) = reports.into_iter().find(|report| report.child == *child)?.came?;
    (at == epoch).then_some(from)
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
    post, path = "/children/{child}/migrate", operation_id = "migrate_child", tag = "children",
    params(
        ("child" = String, Path, description = "Its id, percent-encoded"),
        DryRun,
        ("X-Actix-Hub" = String, Header, description = "Any value: an action needs it"),
    ),
    request_body = MigrateBody,
    responses(
        (status = 200, body = ActionView),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 413, body = Problem, content_type = "application/problem+json"),
        (status = 415, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
        Acting,
    ),
)]
pub(crate) async fn migrate(
    desk: web::Data<Desk>,
    path: web::Path<ChildPath>,
    query: web::Query<DryRun>,
    body: web::Json<MigrateBody>,
) -> Result<HttpResponse, Problem> {
    let child = child_id(&path.child)?;
    let Whole { row, candidates, why } = whole(&desk, &child).await?;
    let (born, epoch_before) = (why.born, why.epoch);
    let to = nodes::find(&desk, &body.to).await.map_err(Problem::of_body)?;
    let why_not = match candidates.iter().find(|candidate| candidate.id == to) {
        Some(candidate) => candidate.why_not,
        None => Some("it is not in"),
    };
    if let Some(why_not) = why_not {
        let name = NodeName::of(&desk, to).name;
        return Err(Problem::conflict(format!("{name} cannot take {child}: {why_not}")));
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
            // Much may have happened since the look: its node may have gone, or sent it elsewhere.
            let born_now = soon(&desk, &child, move |ownership| {
                (ownership.epoch >= epoch).then_some(ownership.born)
            });
            let began_anew = born_now.await?.is_some_and(|now| now != born);
            let came = came_from(&desk, to, &child, epoch).await;
            let moved_from = came.map_or(from.clone(), |came| NodeName::of(&desk, came));
            let (outcome, text) = if began_anew {
                let text = format!(
                    "{child} is on {} now, but began anew: {} went down, and its state with it.",
                    node.name, from.name
                );
                ("moved", text)
            } else if before == to && epoch == epoch_before {
                ("already_there", format!("{child} was on {} already.", node.name))
            } else {
                ("moved", format!("{child} moved from {} to {}.", moved_from.name, node.name))
            };
            Ok(HttpResponse::Ok().json(ActionView {
                outcome: Some(outcome),
                node: Some(node),
                from: Some(moved_from),
                epoch: Some(epoch.to_string()),
                began_anew,
                ..ActionView::new(&child, text)
            }))
        }
        Err(MigrateError::NotFound { .. }) => Err(no_such_child(&child)),
        Err(MigrateError::HubStopped) => Err(Problem::stopped()),
        Err(error @ MigrateError::Timeout { .. }) => Err(Problem::timeout(error.to_string())),
        Err(error) => Err(Problem::conflict(error.to_string())),
    }
}

/// Binds a child to no node any more: it goes where the distribution has it.
#[utoipa::path(
    post, path = "/children/{child}/release", operation_id = "release_child", tag = "children",
    params(
        ("child" = String, Path, description = "Its id, percent-encoded"),
        DryRun,
        ("X-Actix-Hub" = String, Header, description = "Any value: an action needs it"),
    ),
    responses(
        (status = 200, body = ActionView),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        Acting,
    ),
)]
pub(crate) async fn release(
    desk: web::Data<Desk>,
    path: web::Path<ChildPath>,
    query: web::Query<DryRun>,
) -> Result<HttpResponse, Problem> {
    let child = child_id(&path.child)?;
    let Whole { row, why, .. } = whole(&desk, &child).await?;
    let node = NodeName::of(&desk, row.owner.node);
    let pinned = why.pinned.map(|pinned| NodeName::of(&desk, pinned));
    if query.dry_run {
        let free = child.clone();
        let belongs = desk.look(move |running| running.engine.would_belong(&free)).await?;
        let goes = match belongs {
            Some(to) if to != row.owner.node => {
                format!("move to {} with its state", NodeName::of(&desk, to).name)
            }
            _ => format!("stay on {}", node.name),
        };
        let text = match pinned {
            Some(pinned) => {
                format!("{child} would be bound to {} no more, and {goes}.", pinned.name)
            }
            None if row.is_moving => {
                format!("{child} moves, and would be bound to no node where it arrives.")
            }
            None => format!("{child} is bound to no node; nothing is to be done."),
        };
        let view = ActionView { dry_run: true, node: Some(node), ..ActionView::new(&child, text) };
        return Ok(HttpResponse::Ok().json(view));
    }
    // A migration that binds it may be under way, of which only its node knows.
    match desk.hub.release(child.as_str()).await {
        Ok(()) => {
            let (outcome, text) = match pinned {
                Some(pinned) => {
                    ("released", format!("{child} is bound to {} no more.", pinned.name))
                }
                None => ("not_bound", format!("{child} is bound to no node.")),
            };
            Ok(HttpResponse::Ok().json(ActionView {
                outcome: Some(outcome),
                node: Some(node),
                ..ActionView::new(&child, text)
            }))
        }
        Err(MigrateError::NotFound { .. }) => Err(no_such_child(&child)),
        Err(MigrateError::HubStopped) => Err(Problem::stopped()),
        Err(error @ MigrateError::Timeout { .. }) => Err(Problem::timeout(error.to_string())),
        Err(error) => Err(Problem::conflict(error.to_string())),
    }
}
