//! Parked states: listed, shown, given to their children, discarded.

use std::{collections::BTreeMap, time::Duration};

use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Desk, lists,
    nodes::{DryRun, NodeName, time_of},
    problem::{Acting, Problem, Reading},
    state::{Cbor, StateView, respond},
};
use crate::{
    hub::observe::Unanswered,
    model::{
        id::NodeId,
        observe::{Answer, ParkedReport, Question, StateUnknown},
        parked::{ApplyAnswer, ApplyFailed, ParkedKey},
    },
};

/// How long a child may take to take a parked state in.
const APPLY: Duration = Duration::from_secs(20);
/// How much later its node may say so.
const LATER: Duration = Duration::from_secs(2);

/// A parked state, without its bytes.
#[derive(Serialize, ToSchema)]
pub(crate) struct ParkedView {
    /// Its name.
    key: String,
    /// The child whose state it is.
    child: String,
    /// The child's kind.
    kind: String,
    /// The node whose actor had it.
    node: NodeName,
    /// The epoch at which that actor lived.
    epoch: String,
    /// The version of the state.
    state_version: u32,
    /// Its bytes of CBOR.
    bytes: u64,
    /// When it was parked.
    parked_at: String,
    /// Why it was not merged.
    reason: String,
    /// The nodes that hold it, by id.
    holders: Vec<NodeName>,
}

/// The parked states, the latest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct ParkedStates {
    /// The items of this page.
    items: Vec<ParkedView>,
    /// How many items the filters match.
    total: usize,
    /// Where the next page begins; null on the last.
    next_cursor: Option<String>,
    /// Nodes that did not answer: what they alone hold is not known.
    unreachable: Vec<NodeName>,
}

/// Which parked states are wanted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ParkedFilter {
    /// Those of this child.
    child: Option<String>,
    /// How many at most, 1 to 1,000. Default 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Where the page begins.
    cursor: Option<String>,
}

/// A parked state and who holds it.
struct Row {
    report: ParkedReport,
    holders: Vec<NodeId>,
}

impl Row {
    /// Where it stands in the list.
    fn place(&self) -> (std::cmp::Reverse<u64>, ParkedKey) {
        (std::cmp::Reverse(self.report.info.at), self.report.info.key.clone())
    }
}

/// What the nodes hold, each state once, the latest first; and which nodes did not answer.
async fn all(desk: &Desk) -> Result<(Vec<Row>, Vec<NodeId>), Problem> {
    let asked = desk
        .members()
        .await?
        .into_iter()
        .map(|run| async move { (run.node, desk.ask(run.node, Question::Parked).await) });
    let (mut rows, mut unreachable) = (BTreeMap::<ParkedKey, Row>::new(), Vec::new());
    for (node, answer) in join_all(asked).await {
        let Ok(Answer::Parked(reports)) = answer else {
            unreachable.push(node);
            continue;
        };
        for report in reports {
            let row = rows
                .entry(report.info.key.clone())
                .or_insert_with(|| Row { report, holders: Vec::new() });
            row.holders.push(node);
        }
    }
    let mut rows: Vec<Row> = rows.into_values().collect();
    rows.sort_by_cached_key(Row::place);
    Ok((rows, unreachable))
}

fn view(desk: &Desk, Row { report, mut holders }: Row) -> ParkedView {
    holders.sort();
    let ParkedReport { info, bytes } = report;
    ParkedView {
        key: info.key.to_string(),
        child: info.key.child.to_string(),
        kind: info.kind.to_string(),
        node: NodeName::of(desk, info.key.run.node),
        epoch: info.key.epoch.to_string(),
        state_version: info.state_version,
        bytes,
        parked_at: time_of(info.at),
        reason: info.reason,
        holders: holders.into_iter().map(|node| NodeName::of(desk, node)).collect(),
    }
}

/// The parked states of all nodes, each once, the latest first.
#[utoipa::path(
    get, path = "/parked", operation_id = "list_parked", tag = "parked", params(ParkedFilter),
    responses(
        (status = 200, body = ParkedStates),
        (status = 304, description = "As the entity tag says"),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        Reading,
    ),
)]
pub(crate) async fn list(
    desk: web::Data<Desk>,
    query: web::Query<ParkedFilter>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let limit = lists::limit(query.limit)?;
    let after = lists::key(query.cursor.as_deref())?;
    let after = after.map(|after| place_of(&after)).transpose()?;
    let (mut rows, unreachable) = all(&desk).await?;
    let is_of = |row: &Row, child: &str| row.report.info.key.child.as_str() == child;
    rows.retain(|row| query.child.as_ref().is_none_or(|child| is_of(row, child)));
    let total = rows.len();
    if let Some(after) = after {
        rows.retain(|row| row.place() > after);
    }
    let more = rows.len() > limit;
    rows.truncate(limit);
    let last = rows.last().filter(|_| more).map(|row| &row.report.info);
    let next_cursor = last.map(|info| lists::cursor(&format!("{} {}", info.at, info.key)));
    let page = ParkedStates {
        items: rows.into_iter().map(|row| view(&desk, row)).collect(),
        total,
        next_cursor,
        unreachable: unreachable.into_iter().map(|node| NodeName::of(&desk, node)).collect(),
    };
    let tag = lists::tag(&page);
    Ok(lists::tagged(&request, &page, tag))
}

/// The place behind which a page begins.
fn place_of(cursor: &str) -> Result<(std::cmp::Reverse<u64>, ParkedKey), Problem> {
    let parse = || {
        let (at, key) = cursor.split_once(' ')?;
        Some((std::cmp::Reverse(at.parse().ok()?), key.parse().ok()?))
    };
    parse().ok_or_else(lists::no_cursor)
}

/// The path of one parked state.
#[derive(Deserialize)]
pub(crate) struct ParkedPath {
    key: String,
}

impl ParkedPath {
    fn key(&self) -> Result<ParkedKey, Problem> {
        self.key.parse().map_err(|_| no_such_state(&self.key))
    }
}

fn no_such_state(key: &impl std::fmt::Display) -> Problem {
    Problem::not_found(format!("there is no parked state {key}"))
}

/// The nodes that hold a parked state, this one first if it does.
async fn holders(desk: &Desk, key: &ParkedKey) -> Result<Vec<NodeId>, Problem> {
    let wanted = key.clone();
    let (is_here, others) = desk
        .look(move |running| {
            let is_here = running.parked.find(&wanted).is_some();
            (is_here, running.engine.parked_holders(&wanted))
        })
        .await?;
    let here = is_here.then(|| desk.hub.node_id());
    let mut holders: Vec<NodeId> = here.into_iter().chain(others).collect();
    if holders.is_empty() {
        // Who has just come in may not have heard of it yet.
        let (rows, _) = all(desk).await?;
        let row = rows.into_iter().find(|row| row.report.info.key == *key);
        holders = row.map(|row| row.holders).unwrap_or_default();
    }
    if holders.is_empty() { Err(no_such_state(key)) } else { Ok(holders) }
}

/// The first answer of a holder, one asked after the other. The last one's if none is as wanted.
async fn first_of(
    desk: &Desk,
    key: &ParkedKey,
    question: &Question,
    patience: Duration,
    is_wanted: impl Fn(&Answer) -> bool,
) -> Result<Answer, Problem> {
    let mut last = None;
    for node in holders(desk, key).await? {
        let answer = desk.ask_within(node, question.clone(), patience).await;
        match answer {
            Ok(answer) if is_wanted(&answer) => return Ok(answer),
            // It may have done it: no other one is asked.
            Err(Unanswered::Silent) => {
                let name = NodeName::of(desk, node).name;
                return Err(Problem::timeout(format!("{name} did not answer in time")));
            }
            Ok(answer) => last = Some(answer),
            Err(Unanswered::NotAsked) => {}
        }
    }
    let why = "no holder of it was asked: no link leads to one, or too many questions are open";
    last.ok_or_else(|| Problem::unavailable(why))
}

/// A parked state: as CBOR if that is accepted first, else in diagnostic notation and JSON. Only if the
/// options allow it.
#[utoipa::path(
    get, path = "/parked/{key}/state", operation_id = "get_parked_state", tag = "parked",
    params(("key" = String, Path, description = "Its key, percent-encoded")),
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
    path: web::Path<ParkedPath>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    if !desk.options.states {
        return Err(Problem::forbidden("states are not shown: AdminOptions::states is off"));
    }
    let key = path.key()?;
    let question = Question::ParkedState { key: key.clone() };
    let is_wanted = |answer: &Answer| matches!(answer, Answer::State(Ok(_)));
    match first_of(&desk, &key, &question, super::PATIENCE, is_wanted).await? {
        Answer::State(Ok(report)) => Ok(respond(&request, &key.child, report)),
        Answer::State(Err(error @ StateUnknown::TooLarge { .. })) => {
            Err(Problem::too_large(error.to_string()))
        }
        Answer::State(Err(StateUnknown::NotHere)) => Err(no_such_state(&key)),
        Answer::State(Err(error)) => Err(Problem::conflict(error.to_string())),
        _ => Err(Problem::unavailable("the holder did not answer what was asked")),
    }
}

/// What became of an action on a parked state.
#[derive(Serialize, ToSchema)]
pub(crate) struct ParkedActionView {
    /// Present, and true, if nothing was done.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    /// `applied` or `discarded`; not in a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "applied")]
    outcome: Option<&'static str>,
    key: String,
    child: String,
    /// What was done, or would be, in words.
    text: String,
}

impl ParkedActionView {
    fn respond(key: &ParkedKey, outcome: Option<&'static str>, text: String) -> HttpResponse {
        HttpResponse::Ok().json(Self {
            dry_run: outcome.is_none(),
            outcome,
            key: key.to_string(),
            child: key.child.to_string(),
            text,
        })
    }
}

/// How a parked state is given to its child.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApplyBody {
    /// Whether it takes the place of the child's own state, which is parked in exchange; else the kind
    /// merges the two. Default false.
    #[serde(default)]
    replace: bool,
}

/// Gives a parked state to its child, wherever that runs. Then nobody keeps it any more.
#[utoipa::path(
    post, path = "/parked/{key}/apply", operation_id = "apply_parked", tag = "parked",
    params(
        ("key" = String, Path, description = "Its key, percent-encoded"),
        DryRun,
        ("X-Actix-Hub" = String, Header, description = "Any value: an action needs it"),
    ),
    request_body = ApplyBody,
    responses(
        (status = 200, body = ParkedActionView),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 413, body = Problem, content_type = "application/problem+json"),
        (status = 415, body = Problem, content_type = "application/problem+json"),
        Acting,
    ),
)]
pub(crate) async fn apply(
    desk: web::Data<Desk>,
    path: web::Path<ParkedPath>,
    query: web::Query<DryRun>,
    body: web::Json<ApplyBody>,
) -> Result<HttpResponse, Problem> {
    let key = path.key()?;
    let (child, replace) = (key.child.clone(), body.replace);
    if query.dry_run {
        holders(&desk, &key).await?;
        let wanted = child.clone();
        let owner = desk
            .look(move |running| running.engine.registry().owner(&wanted).map(|(run, _)| run.node))
            .await?;
        let owner = owner.ok_or_else(|| no_child(&key))?;
        let name = NodeName::of(&desk, owner).name;
        let text = match replace {
            true => format!(
                "It would take the place of the state of {child} on {name}, which would be parked \
                 instead."
            ),
            false => format!("It would be merged into the state of {child} on {name}."),
        };
        return Ok(ParkedActionView::respond(&key, None, text));
    }
    let question = Question::ApplyParked { key: key.clone(), replace, wait: APPLY };
    let is_wanted = |answer: &Answer| !matches!(answer, Answer::Applied(ApplyAnswer::NotHeld));
    match first_of(&desk, &key, &question, APPLY + LATER, is_wanted).await? {
        Answer::Applied(ApplyAnswer::Applied) => {
            let text = match replace {
                true => format!("It took the place of the state of {child}, which is parked now."),
                false => format!("It was merged into the state of {child}."),
            };
            Ok(ParkedActionView::respond(&key, Some("applied"), text))
        }
        Answer::Applied(ApplyAnswer::NotHeld | ApplyAnswer::Failed(ApplyFailed::Gone)) => {
            Err(no_such_state(&key))
        }
        Answer::Applied(ApplyAnswer::Failed(ApplyFailed::NoSuchChild)) => Err(no_child(&key)),
        Answer::Applied(ApplyAnswer::Failed(error @ ApplyFailed::Busy)) => {
            Err(Problem::unavailable(error.to_string()))
        }
        Answer::Applied(ApplyAnswer::Failed(error)) => {
            Err(Problem::conflict(format!("{child} goes on as it was: {error}")))
        }
        Answer::Applied(ApplyAnswer::NoAnswer) => {
            let text = format!("the node of {child} did not answer in time; the child may have it");
            Err(Problem::timeout(text))
        }
        _ => Err(Problem::unavailable("the holder did not answer what was asked")),
    }
}

fn no_child(key: &ParkedKey) -> Problem {
    Problem::conflict(format!("there is no child {}: start it first", key.child))
}

/// Discards a parked state on all nodes.
#[utoipa::path(
    delete, path = "/parked/{key}", operation_id = "discard_parked", tag = "parked",
    params(
        ("key" = String, Path, description = "Its key, percent-encoded"),
        DryRun,
        ("X-Actix-Hub" = String, Header, description = "Any value: an action needs it"),
    ),
    responses(
        (status = 200, body = ParkedActionView),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        Acting,
    ),
)]
pub(crate) async fn discard(
    desk: web::Data<Desk>,
    path: web::Path<ParkedPath>,
    query: web::Query<DryRun>,
) -> Result<HttpResponse, Problem> {
    let key = path.key()?;
    let child = &key.child;
    if query.dry_run {
        holders(&desk, &key).await?;
        let text = format!("The parked state of {child} would be lost.");
        return Ok(ParkedActionView::respond(&key, None, text));
    }
    let question = Question::DiscardParked { key: key.clone() };
    let is_wanted = |answer: &Answer| matches!(answer, Answer::Discarded(true));
    match first_of(&desk, &key, &question, super::PATIENCE, is_wanted).await? {
        Answer::Discarded(true) => {
            let text = format!("The parked state of {child} was discarded.");
            Ok(ParkedActionView::respond(&key, Some("discarded"), text))
        }
        Answer::Discarded(false) => Err(no_such_state(&key)),
        _ => Err(Problem::unavailable("the holder did not answer what was asked")),
    }
}
