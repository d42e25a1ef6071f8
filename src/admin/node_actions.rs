//! Actions on a node: leave and stay, drain and undrain; each can be asked what it would
//! do.

use actix_web::{HttpResponse, http::StatusCode, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Desk,
    nodes::{DryRun, NodeName, NodePath, find, not_asked},
    problem::{Acting, Problem},
};
use crate::{
    hub::observe::{Unanswered, can_leave},
    model::{
        id::NodeId,
        member::{Member, MemberState},
        observe::{Answer, Question},
    },
};

/// Outcome of an action on a node.
#[derive(Serialize, ToSchema)]
pub(crate) struct NodeActionView {
    /// Present, and true, if nothing was done.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    /// `leaving`, `draining`, `resumed` (it is not to hand its children over any more) or
    /// `unchanged` (it was not to); not in a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "leaving")]
    outcome: Option<&'static str>,
    node: NodeName,
    /// Number of its children.
    children: u64,
    /// Description in words of what happens, or would.
    text: String,
}

fn counted(children: u64) -> String {
    match children {
        1 => "1 child".to_owned(),
        children => format!("{children} children"),
    }
}

/// A member, as the node that answers knows it.
struct Found {
    id: NodeId,
    name: NodeName,
    member: Member,
    children: u64,
    /// True if it has no children, or another node takes some of them.
    can_empty: bool,
}

impl Found {
    async fn find(desk: &Desk, node: &str) -> Result<Self, Problem> {
        let id = find(desk, node).await?;
        let name = NodeName::of(desk, id);
        let found = desk.look(move |running| {
            let member = running.engine.view().member(id)?.clone();
            let (children, can_empty) = can_leave(running, member.run());
            Some((member, children, can_empty))
        });
        let Some((member, children, can_empty)) = found.await? else {
            return Err(Problem::conflict(format!("{} is not in the cluster", name.name)));
        };
        Ok(Self { id, name, member, children, can_empty })
    }

    fn is_leaving(&self) -> bool {
        self.member.state == MemberState::Leaving
    }

    fn nobody(&self, children: u64, instead: &str) -> Problem {
        Problem::conflict(format!(
            "{} has {} and no other node takes any; {instead}start another node first",
            self.name.name,
            counted(children)
        ))
    }

    fn silent(&self, silent: &Unanswered, may: &str) -> Problem {
        match silent {
            Unanswered::NotAsked => not_asked(&self.name),
            _ => Problem::timeout(format!("{} did not answer; it may {may}", self.name.name)),
        }
    }

    /// What would be done.
    fn would(self, text: String) -> HttpResponse {
        let Self { name: node, children, .. } = self;
        let view = NodeActionView { dry_run: true, outcome: None, node, children, text };
        HttpResponse::Ok().json(view)
    }

    /// What was done, or begins.
    fn done(
        self,
        status: StatusCode,
        outcome: &'static str,
        children: u64,
        text: String,
    ) -> HttpResponse {
        let outcome = Some(outcome);
        let view = NodeActionView { dry_run: false, outcome, node: self.name, children, text };
        HttpResponse::build(status).json(view)
    }
}

/// Asks a node to hand its children over and go. It begins; `GET /nodes` shows how far it is.
#[utoipa::path(
    post, path = "/nodes/{node}/leave", operation_id = "leave_node", tag = "nodes",
    params(
        ("node" = String, Path, description = "Its id, or its name if only one has it"),
        DryRun,
        ("X-Actix-Hub" = String, Header, description = "Any value: an action needs it"),
    ),
    responses(
        (status = 200, body = NodeActionView, description = "A dry run"),
        (status = 202, body = NodeActionView),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        Acting,
    ),
)]
pub(crate) async fn leave(
    desk: web::Data<Desk>,
    path: web::Path<NodePath>,
    query: web::Query<DryRun>,
) -> Result<HttpResponse, Problem> {
    let found = Found::find(&desk, &path.node).await?;
    let (name, instead) = (found.name.name.clone(), "stop it instead, or ");
    if query.dry_run {
        if !found.can_empty {
            return Err(found.nobody(found.children, instead));
        }
        let text = format!("{name} would hand {} over and leave.", counted(found.children));
        return Ok(found.would(text));
    }
    match desk.ask(found.id, Question::Leave).await {
        Ok(Answer::Leave { children, begins: true }) => {
            let text = format!("{name} hands {} over and leaves.", counted(children));
            Ok(found.done(StatusCode::ACCEPTED, "leaving", children, text))
        }
        Ok(Answer::Leave { children, begins: false }) => Err(found.nobody(children, instead)),
        Ok(_) => Err(found.silent(&Unanswered::Silent, "leave")),
        Err(silent) => Err(found.silent(&silent, "leave")),
    }
}

/// Takes a leave back that is under way, or has failed: the node takes children again, unless it is
/// drained.
#[utoipa::path(
    post, path = "/nodes/{node}/stay", operation_id = "keep_node", tag = "nodes",
    params(
        ("node" = String, Path, description = "Its id, or its name if only one has it"),
        DryRun,
        ("X-Actix-Hub" = String, Header, description = "Any value: an action needs it"),
    ),
    responses(
        (status = 200, body = NodeActionView),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (
            status = 409, body = Problem, content_type = "application/problem+json",
            description = "Everything is handed over, or its app ends: it goes"
        ),
        Acting,
    ),
)]
pub(crate) async fn stay(
    desk: web::Data<Desk>,
    path: web::Path<NodePath>,
    query: web::Query<DryRun>,
) -> Result<HttpResponse, Problem> {
    let found = Found::find(&desk, &path.node).await?;
    let (name, children) = (found.name.name.clone(), found.children);
    let (is_leaving, is_drained) = (found.is_leaving(), found.member.draining);
    if query.dry_run {
        return Ok(found.would(match (is_leaving, is_drained) {
            (true, false) => format!("{name} would stay, and take children again."),
            (true, true) => format!("{name} would stay; it is drained, and takes no children."),
            (false, _) => format!("{name} does not leave; nothing would be done."),
        }));
    }
    match desk.ask(found.id, Question::Stay).await {
        Ok(Answer::Stay(true)) => {
            let (outcome, text) = match (is_leaving, is_drained) {
                (true, false) => ("resumed", format!("{name} stays, and takes children again.")),
                (true, true) => {
                    ("resumed", format!("{name} stays; it is drained, and takes no children."))
                }
                (false, _) => ("unchanged", format!("{name} did not leave; nothing was done.")),
            };
            Ok(found.done(StatusCode::OK, outcome, children, text))
        }
        Ok(Answer::Stay(false)) => {
            let why = "everything is handed over, or its app ends";
            Err(Problem::conflict(format!("{name} cannot stay any more: {why}")))
        }
        Ok(_) => Err(found.silent(&Unanswered::Silent, "stay")),
        Err(silent) => Err(found.silent(&silent, "stay")),
    }
}

/// Empties a node that stays in: it hands its children over and takes none. It begins; `GET /nodes`
/// shows how far it is, and a second request has it try again what could not go.
#[utoipa::path(
    post, path = "/nodes/{node}/drain", operation_id = "drain_node", tag = "nodes",
    params(
        ("node" = String, Path, description = "Its id, or its name if only one has it"),
        DryRun,
        ("X-Actix-Hub" = String, Header, description = "Any value: an action needs it"),
    ),
    responses(
        (status = 200, body = NodeActionView, description = "A dry run"),
        (status = 202, body = NodeActionView),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        Acting,
    ),
)]
pub(crate) async fn drain(
    desk: web::Data<Desk>,
    path: web::Path<NodePath>,
    query: web::Query<DryRun>,
) -> Result<HttpResponse, Problem> {
    let found = Found::find(&desk, &path.node).await?;
    let name = found.name.name.clone();
    if query.dry_run {
        if !found.can_empty {
            return Err(found.nobody(found.children, ""));
        }
        let children = counted(found.children);
        let text = format!("{name} would hand {children} over, take none, and stay in.");
        return Ok(found.would(text));
    }
    match desk.ask(found.id, Question::Drain { on: true }).await {
        Ok(Answer::Drain { children, begins: true }) => {
            let text =
                format!("{name} hands {} over, takes none, and stays in.", counted(children));
            Ok(found.done(StatusCode::ACCEPTED, "draining", children, text))
        }
        Ok(Answer::Drain { children, begins: false }) => Err(found.nobody(children, "")),
        Ok(_) => Err(found.silent(&Unanswered::Silent, "be drained")),
        Err(silent) => Err(found.silent(&silent, "be drained")),
    }
}

/// Takes a drain back: the node takes children again, unless it leaves.
#[utoipa::path(
    post, path = "/nodes/{node}/undrain", operation_id = "undrain_node", tag = "nodes",
    params(
        ("node" = String, Path, description = "Its id, or its name if only one has it"),
        DryRun,
        ("X-Actix-Hub" = String, Header, description = "Any value: an action needs it"),
    ),
    responses(
        (status = 200, body = NodeActionView, description = "A dry run, or it was not drained"),
        (status = 202, body = NodeActionView),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (
            status = 409, body = Problem, content_type = "application/problem+json",
            description = "It is not in, or more than one node has this name"
        ),
        Acting,
    ),
)]
pub(crate) async fn undrain(
    desk: web::Data<Desk>,
    path: web::Path<NodePath>,
    query: web::Query<DryRun>,
) -> Result<HttpResponse, Problem> {
    let found = Found::find(&desk, &path.node).await?;
    let name = found.name.name.clone();
    let (is_leaving, is_drained) = (found.is_leaving(), found.member.draining);
    if query.dry_run {
        return Ok(found.would(match (is_drained, is_leaving) {
            (true, false) => format!("{name} would take children again."),
            (true, true) => format!("{name} would not be drained any more, but leaves."),
            (false, _) => format!("{name} is not drained; nothing would be done."),
        }));
    }
    match desk.ask(found.id, Question::Drain { on: false }).await {
        Ok(Answer::Drain { children, .. }) => {
            let (status, outcome, text) = match (is_drained, is_leaving) {
                (true, false) => {
                    (StatusCode::ACCEPTED, "resumed", format!("{name} takes children again."))
                }
                (true, true) => {
                    let text = format!("{name} is not drained any more, but leaves.");
                    (StatusCode::ACCEPTED, "resumed", text)
                }
                (false, _) => {
                    let text = format!("{name} was not drained; nothing was done.");
                    (StatusCode::OK, "unchanged", text)
                }
            };
            Ok(found.done(status, outcome, children, text))
        }
        Ok(_) => Err(found.silent(&Unanswered::Silent, "take children again")),
        Err(silent) => Err(found.silent(&silent, "take children again")),
    }
}
