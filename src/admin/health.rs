//! Health, fit for the probes of Kubernetes.

use std::time::Duration;

use actix_web::{HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::Desk;

/// How long a hub may take to answer before it counts as dead.
const ALIVE_WITHIN: Duration = Duration::from_secs(2);

/// Whether a node is well.
#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    /// `up` or `down`.
    #[schema(value_type = String, example = "up")]
    status: &'static str,
    checks: Checks,
}

/// What was looked at; null: not known.
#[derive(Serialize, ToSchema)]
pub(crate) struct Checks {
    /// Whether the hub answers.
    hub: bool,
    /// Whether all members agree on who is in, and this node has the registry of each.
    settled: Option<bool>,
    /// Whether this side of a split may act.
    quorate: Option<bool>,
    /// Whether the node hands its children over.
    leaving: Option<bool>,
}

async fn check(desk: &Desk) -> Checks {
    let looked = desk.look(|running| {
        let engine = &running.engine;
        (engine.is_settled(), engine.may_act(), engine.is_leaving())
    });
    match tokio::time::timeout(ALIVE_WITHIN, looked).await {
        Ok(Ok((settled, quorate, leaving))) => Checks {
            hub: true,
            settled: Some(settled),
            quorate: Some(quorate),
            leaving: Some(leaving),
        },
        _ => Checks { hub: false, settled: None, quorate: None, leaving: None },
    }
}

fn respond(up: bool, checks: Checks) -> HttpResponse {
    let mut response = if up { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    response.json(Health { status: if up { "up" } else { "down" }, checks })
}

/// Whether the hub answers: if not, the process should be restarted.
#[utoipa::path(
    get, path = "/health/live", tag = "health",
    responses((status = 200, body = Health), (status = 503, body = Health)),
)]
pub(crate) async fn live(desk: web::Data<Desk>) -> HttpResponse {
    let checks = check(&desk).await;
    respond(checks.hub, checks)
}

/// Whether the node is a member of a cluster that may act, has its registry, and is not leaving:
/// if not, no traffic should be sent to it.
#[utoipa::path(
    get, path = "/health/ready", tag = "health",
    responses((status = 200, body = Health), (status = 503, body = Health)),
)]
pub(crate) async fn ready(desk: web::Data<Desk>) -> HttpResponse {
    let checks = check(&desk).await;
    let up = checks.settled == Some(true)
        && checks.quorate == Some(true)
        && checks.leaving == Some(false);
    respond(up, checks)
}
