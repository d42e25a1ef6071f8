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
    /// Whether the node has come into a cluster and has had its registry since.
    synced: Option<bool>,
    /// Whether all members agree on who is in right now, and this node has the registry of each.
    /// Each change of the view ends that for a moment; starts and moves wait for it, messages do
    /// not.
    settled: Option<bool>,
    /// Whether this side of a split may act.
    quorate: Option<bool>,
    /// Whether the node hands its children over.
    leaving: Option<bool>,
}

async fn check(desk: &Desk) -> Checks {
    let looked = desk.look(|running| {
        let engine = &running.engine;
        Checks {
            hub: true,
            synced: Some(engine.is_synced()),
            settled: Some(engine.is_settled()),
            quorate: Some(engine.may_act()),
            leaving: Some(engine.is_leaving()),
        }
    });
    match tokio::time::timeout(ALIVE_WITHIN, looked).await {
        Ok(Ok(checks)) => checks,
        _ => Checks { hub: false, synced: None, settled: None, quorate: None, leaving: None },
    }
}

fn respond(up: bool, checks: Checks) -> HttpResponse {
    let mut response = if up { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    response.json(Health { status: if up { "up" } else { "down" }, checks })
}

/// Whether the hub answers: if not, the process should be restarted.
#[utoipa::path(
    get, path = "/health/live", operation_id = "get_liveness", tag = "health",
    responses((status = 200, body = Health), (status = 503, body = Health)),
)]
pub(crate) async fn live(desk: web::Data<Desk>) -> HttpResponse {
    let checks = check(&desk).await;
    respond(checks.hub, checks)
}

/// Whether the node has come into a cluster that may act, has had its registry since, and is not
/// leaving: if not, no traffic should be sent to it. That others join, leave or die does not change
/// it.
#[utoipa::path(
    get, path = "/health/ready", operation_id = "get_readiness", tag = "health",
    responses((status = 200, body = Health), (status = 503, body = Health)),
)]
pub(crate) async fn ready(desk: web::Data<Desk>) -> HttpResponse {
    let checks = check(&desk).await;
    let up = checks.synced == Some(true)
        && checks.quorate == Some(true)
        && checks.leaving == Some(false);
    respond(up, checks)
}
