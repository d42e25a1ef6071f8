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
    /// Why the node is not ready, in words; null when it is.
    reason: Option<String>,
    /// How many nodes are expected before this one is ready; null: not known.
    nodes: Option<Nodes>,
    /// The seeds, while the node waits to be taken in by one of them.
    seeds: Vec<Seed>,
}

/// The nodes that are expected.
#[derive(Clone, Copy, Serialize, ToSchema)]
pub(crate) struct Nodes {
    /// How many have to be in at once.
    expected: usize,
    /// The most that were in at once.
    seen: usize,
}

/// A seed that is waited for.
#[derive(Serialize, ToSchema)]
pub(crate) struct Seed {
    /// Its multiaddr, or the name of its SRV record.
    seed: String,
    /// What came of the latest attempt to reach it, in words.
    outcome: String,
}

/// What was looked at; null: not known.
#[derive(Default, Serialize, ToSchema)]
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
    /// Whether the node is in no cluster and waits for a seed.
    waiting: Option<bool>,
    /// Whether as many nodes as are expected have been in.
    complete: Option<bool>,
}

/// What a hub says of itself.
#[derive(Default)]
struct Told {
    checks: Checks,
    waits_for: Option<String>,
    nodes: Option<Nodes>,
    seeds: Vec<Seed>,
}

async fn check(desk: &Desk) -> Told {
    let looked = desk.look(|running| {
        let engine = &running.engine;
        let expected = &running.expected;
        let seeds = running.seeds().into_iter();
        Told {
            checks: Checks {
                hub: true,
                synced: Some(engine.is_synced()),
                settled: Some(engine.is_settled()),
                quorate: Some(engine.may_act()),
                leaving: Some(engine.is_leaving()),
                waiting: Some(engine.is_waiting()),
                complete: Some(expected.is_met()),
            },
            waits_for: engine.waits_for(),
            nodes: Some(Nodes { expected: expected.nodes(), seen: expected.seen() }),
            seeds: seeds
                .map(|info| Seed { seed: info.seed, outcome: info.outcome.to_string() })
                .collect(),
        }
    });
    match tokio::time::timeout(ALIVE_WITHIN, looked).await {
        Ok(Ok(told)) => told,
        _ => Told::default(),
    }
}

/// Why a node is not ready; `None`: it is.
fn unready(told: &Told) -> Option<String> {
    let Told { checks, waits_for, nodes, .. } = told;
    if !checks.hub {
        return Some("the hub does not answer, or has stopped".to_owned());
    }
    if checks.leaving == Some(true) {
        return Some("the node hands its children over and leaves".to_owned());
    }
    if checks.synced != Some(true) || checks.quorate != Some(true) {
        let reason = waits_for.clone();
        return Some(reason.unwrap_or_else(|| "this side of a split may not act".to_owned()));
    }
    let missing = nodes.filter(|nodes| nodes.seen < nodes.expected);
    missing.map(|nodes| format!("{} of {} expected nodes were in", nodes.seen, nodes.expected))
}

fn respond(up: bool, reason: Option<String>, told: Told) -> HttpResponse {
    let mut response = if up { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    let Told { checks, nodes, seeds, .. } = told;
    let status = if up { "up" } else { "down" };
    response.json(Health { status, checks, reason, nodes, seeds })
}

/// Whether the hub answers: if not, the process should be restarted.
#[utoipa::path(
    get, path = "/health/live", operation_id = "get_liveness", tag = "health",
    responses((status = 200, body = Health), (status = 503, body = Health)),
)]
pub(crate) async fn live(desk: web::Data<Desk>) -> HttpResponse {
    let told = check(&desk).await;
    respond(told.checks.hub, unready(&told), told)
}

/// Whether the node has come into a cluster that may act, has had its registry since, has seen as
/// many nodes in as are expected, and is not leaving: if not, no traffic should be sent to it, and
/// the reason is told. That others join, leave or die does not change it.
#[utoipa::path(
    get, path = "/health/ready", operation_id = "get_readiness", tag = "health",
    responses((status = 200, body = Health), (status = 503, body = Health)),
)]
pub(crate) async fn ready(desk: web::Data<Desk>) -> HttpResponse {
    let told = check(&desk).await;
    let reason = unready(&told);
    respond(reason.is_none(), reason, told)
}
