//! The state of a child.

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    Desk,
    children::{ChildPath, child_id},
    diagnostic,
    nodes::{NodeName, not_asked},
    problem::{Problem, Reading},
    why::whole,
};
use crate::{
    hub::observe::Unanswered,
    model::{
        id::ChildId,
        observe::{Answer, Question, StateReport, StateUnknown},
    },
};

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
    /// The state in diagnostic notation (RFC 8949, section 8); null: it is not one value of CBOR.
    diagnostic: Option<String>,
    /// The state as JSON; null where JSON cannot say the same.
    #[schema(value_type = Option<Value>)]
    json: Option<Value>,
}

/// The bytes of the state.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[allow(dead_code, reason = "it describes a body that is bytes")]
pub(crate) struct Cbor(Vec<u8>);

/// The state of a child: as CBOR if that is accepted first, else in diagnostic notation and JSON.
/// Only if the options allow it.
#[utoipa::path(
    get, path = "/children/{child}/state", operation_id = "get_child_state", tag = "children",
    params(("child" = String, Path, description = "Its id, percent-encoded")),
    responses(
        (status = 200, content((StateView = "application/json"), (Cbor = "application/cbor"))),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 413, body = Problem, content_type = "application/problem+json"),
        (status = 504, body = Problem, content_type = "application/problem+json"),
        Reading,
    ),
)]
pub(crate) async fn state(
    desk: web::Data<Desk>,
    path: web::Path<ChildPath>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    if !desk.options.states {
        return Err(Problem::forbidden("states are not shown: AdminOptions::states is off"));
    }
    let child = child_id(&path.child)?;
    let owner = whole(&desk, &child).await?.row.owner.node;
    let report = match desk.ask(owner, Question::State { child: child.clone() }).await {
        Ok(Answer::State(Ok(report))) => report,
        Ok(Answer::State(Err(error @ StateUnknown::TooLarge { .. }))) => {
            return Err(Problem::too_large(error.to_string()));
        }
        Ok(Answer::State(Err(error))) => return Err(Problem::conflict(error.to_string())),
        Err(Unanswered::NotAsked) => return Err(not_asked(&NodeName::of(&desk, owner))),
        _ => {
            let name = NodeName::of(&desk, owner).name;
            return Err(Problem::timeout(format!("{child} on {name} did not answer in time")));
        }
    };
    Ok(respond(&request, &child, report))
}

/// A state as CBOR if that is accepted first, else in diagnostic notation and JSON.
pub(crate) fn respond(request: &HttpRequest, child: &ChildId, report: StateReport) -> HttpResponse {
    let accepted = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if accepted.is_some_and(|accept| accept.trim_start().starts_with("application/cbor")) {
        return HttpResponse::Ok().content_type("application/cbor").body(report.state);
    }
    let value = diagnostic::value(&report.state);
    HttpResponse::Ok().json(StateView {
        child: child.to_string(),
        epoch: report.epoch.to_string(),
        state_version: report.state_version,
        bytes: report.state.len(),
        diagnostic: value.as_ref().map(diagnostic::notation),
        json: value.as_ref().and_then(diagnostic::json),
    })
}
