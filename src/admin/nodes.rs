//! The nodes: who is in, and how each is.

use std::{
    collections::BTreeMap,
    time::{Duration, UNIX_EPOCH},
};

use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Desk,
    lists::{self, Page},
    problem::{Problem, Reading},
};
use crate::{
    engine::explain::Seen,
    model::{
        id::{self, NodeId},
        member::{self, NodePath as Way},
        observe::{Answer, LeftReport, LinkReport, NodeReport, Question},
        report::{ChildLeft, MOST_LEFT},
    },
};

/// The last millisecond of the year 9999, behind which RFC 3339 has no words. A clock may tell more.
const LAST_MILLIS: u64 = 253_402_300_799_999;

/// A time in RFC 3339, from milliseconds since 1970.
pub(crate) fn time_of(millis: u64) -> String {
    let since = Duration::from_millis(millis.min(LAST_MILLIS));
    humantime::format_rfc3339_millis(UNIX_EPOCH + since).to_string()
}

#[test]
fn a_time_that_no_calendar_has_is_told_as_the_last_one() {
    assert_eq!(time_of(u64::MAX), "9999-12-31T23:59:59.999Z");
}

/// A node by its id and its name for people.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = NodeRef)]
pub(crate) struct NodeName {
    /// Its identity.
    pub(crate) id: String,
    /// Its name; the end of its id when the name is not known.
    pub(crate) name: String,
}

impl NodeName {
    pub(crate) fn of(desk: &Desk, node: NodeId) -> Self {
        let name = if node == desk.hub.node_id() {
            desk.hub.node_name().to_string()
        } else {
            desk.journal.name(node).map_or_else(|| node.short(), |name| name.to_string())
        };
        Self { id: node.to_string(), name }
    }
}

/// A node that is in, or wants to come in, as the one that answers sees it.
#[derive(Clone, Serialize, ToSchema)]
pub(crate) struct NodeView {
    /// Its identity.
    id: String,
    /// Its name for people.
    name: String,
    /// Whether it is the one that answers.
    is_self: bool,
    /// How it is seen.
    state: NodeState,
    /// Whether it is drained: it hands its children over, takes none, and stays in.
    draining: bool,
    /// What it still has to hand over; null: it neither leaves nor is drained, or did not say.
    left: Option<Left>,
    /// Multiaddrs at which it can be reached.
    addresses: Vec<String>,
    /// Its labels, which say where it is and what it has: values by key.
    labels: BTreeMap<String, String>,
    /// Which life of it.
    incarnation: String,
    /// When that life began, by its own clock.
    started_at: String,
    /// How long its hub has run; null: it did not say.
    uptime_seconds: Option<f64>,
    /// The version of its crate; null: it did not say.
    version: Option<String>,
    /// Its share of the children relative to the others, as it is set.
    weight: u32,
    /// How many children it owns.
    children: usize,
    /// Its share of all children, 0 to 1.
    share: f64,
    /// What it has to do; null: it did not say in time.
    load: Option<Load>,
    /// The link to it from the node that answers.
    link: Link,
    /// The members that do not hear it, or are not heard by it, as far as this one knows.
    suspected_by: Vec<NodeName>,
    /// Why a node that wants to come in is not in: who does not hear whom.
    missing: Vec<Unheard>,
    /// What the node that answers waits for, in words: a seed, or what keeps the members from
    /// agreeing. Null for the others, and when it is settled.
    waits_for: Option<String>,
    /// Its own links to the others, as it sees them; null: they were not asked for, or it did not say.
    links: Option<Vec<LinkTo>>,
}

/// One node does not hear another.
#[derive(Clone, Serialize, ToSchema)]
pub(crate) struct Unheard {
    /// The one that does not hear.
    node: NodeName,
    /// The one that it does not hear.
    unheard: NodeName,
}

/// A link from one node to another.
#[derive(Clone, Serialize, ToSchema)]
pub(crate) struct LinkTo {
    to: NodeName,
    #[serde(flatten)]
    link: Link,
}

/// What a node still has to hand over.
#[derive(Clone, Serialize, ToSchema)]
#[schema(as = NodeLeft)]
pub(crate) struct Left {
    /// How many children. At 0 nothing is on it that would be lost.
    children: u64,
    /// The first 16 of them.
    first: Vec<WhyLeft>,
}

/// A child that is still on its node.
#[derive(Clone, Serialize, ToSchema)]
pub(crate) struct WhyLeft {
    child: String,
    /// Why it is there, in words.
    reason: String,
}

impl Left {
    fn of(report: LeftReport) -> Self {
        let first = report.first.into_iter().take(MOST_LEFT);
        let why =
            |ChildLeft { child, reason }: ChildLeft| WhyLeft { child: child.to_string(), reason };
        Self { children: report.children, first: first.map(why).collect() }
    }
}

/// What a node has to do.
#[derive(Clone, Serialize, ToSchema)]
pub(crate) struct Load {
    /// Messages that wait.
    queued: u64,
    /// Handlers that it has started since its doors were made.
    handled: u64,
    /// Children that it hands over now.
    running_handovers: u64,
}

/// A link, as one end of it sees it.
#[derive(Clone, Serialize, ToSchema)]
pub(crate) struct Link {
    /// `self`; `up`: it works in both directions; or `down`.
    #[schema(value_type = String, example = "up")]
    state: &'static str,
    /// Who takes messages there while it is down; null: nobody.
    by: Option<NodeName>,
    /// How long a word takes there and back; null: not measured yet.
    rtt_ms: Option<f64>,
}

/// How a node is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NodeState {
    Joining,
    Alive,
    Suspect,
    Leaving,
}

impl NodeState {
    fn of(state: member::NodeState) -> Self {
        match state {
            member::NodeState::Joining => Self::Joining,
            member::NodeState::Alive => Self::Alive,
            member::NodeState::Suspect => Self::Suspect,
            member::NodeState::Leaving => Self::Leaving,
        }
    }
}

/// A node as this one's engine knows it.
struct Known {
    seen: Seen,
    round_trip: Option<Duration>,
    children: usize,
    waits_for: Option<String>,
}

async fn known(desk: &Desk) -> Result<(Vec<Known>, usize), Problem> {
    let (known, total) = desk
        .look(|running| {
            let engine = &running.engine;
            let registry = engine.registry();
            let known: Vec<Known> = engine
                .nodes()
                .into_iter()
                .map(|seen| Known {
                    round_trip: engine.round_trip(seen.member.id),
                    children: registry.count_of(seen.member.run()),
                    waits_for: engine.waits_for().filter(|_| seen.path == Way::Itself),
                    seen,
                })
                .collect();
            (known, registry.len())
        })
        .await?;
    desk.journal.learn(known.iter().map(Known::name));
    Ok((known, total))
}

impl Known {
    fn name(&self) -> (NodeId, id::NodeName) {
        (self.seen.member.id, self.seen.member.name.clone())
    }
}

impl NodeView {
    /// What counts as a change: not each second that goes by, nor a round trip that takes a little
    /// longer.
    fn rounded(&self) -> Self {
        let mut rounded = self.clone();
        rounded.uptime_seconds = rounded.uptime_seconds.map(|seconds| (seconds / 10.0).floor());
        let links = rounded.links.iter_mut().flatten().map(|link| &mut link.link);
        for link in links.chain([&mut rounded.link]) {
            link.rtt_ms = link.rtt_ms.map(|millis| millis.log2().round());
        }
        rounded
    }
}

impl Link {
    fn of(desk: &Desk, path: Way, round_trip: Option<Duration>) -> Self {
        Self {
            state: match path {
                Way::Itself => "self",
                Way::Link => "up",
                Way::By(_) | Way::None => "down",
            },
            by: path.by().map(|node| NodeName::of(desk, node)),
            rtt_ms: round_trip.map(|time| time.as_secs_f64() * 1_000.0),
        }
    }
}

async fn view(desk: &Desk, known: Known, total: usize, links: bool) -> NodeView {
    let Known { seen, round_trip, children, waits_for } = known;
    let Seen { member, state, path, suspected_by, missing } = seen;
    let named = |node| NodeName::of(desk, node);
    let report: Option<NodeReport> = match desk.ask(member.id, Question::Node { links }).await {
        Ok(Answer::Node(report)) => Some(report),
        _ => None,
    };
    NodeView {
        id: member.id.to_string(),
        name: member.name.to_string(),
        is_self: path == Way::Itself,
        state: NodeState::of(state),
        draining: member.draining,
        left: report.as_ref().and_then(|report| report.left.clone()).map(Left::of),
        addresses: member.addresses,
        labels: member.labels.iter().map(|(key, value)| (key.into(), value.into())).collect(),
        incarnation: format!("{:x}-{:x}", member.incarnation.started, member.incarnation.nonce),
        started_at: time_of(member.incarnation.started),
        uptime_seconds: report.as_ref().map(|report| report.uptime.as_secs_f64()),
        version: report.as_ref().map(|report| report.version.clone()),
        weight: member.weight,
        children,
        share: if total == 0 { 0.0 } else { children as f64 / total as f64 },
        load: report.as_ref().map(|report| Load {
            queued: report.queued,
            handled: report.handled,
            running_handovers: report.handovers,
        }),
        link: Link::of(desk, path, round_trip),
        suspected_by: suspected_by.into_iter().map(named).collect(),
        missing: missing
            .into_iter()
            .map(|(node, unheard)| Unheard { node: named(node), unheard: named(unheard) })
            .collect(),
        waits_for,
        links: report.filter(|_| links).map(|report| {
            let told = report.links.into_iter();
            let link_to = |LinkReport { to, up, by, round_trip }| {
                let path = if up { Way::Link } else { by.map_or(Way::None, Way::By) };
                LinkTo { to: named(to), link: Link::of(desk, path, round_trip) }
            };
            told.map(link_to).collect()
        }),
    }
}

/// Which nodes are wanted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeFilter {
    /// Nodes in this state.
    #[param(inline)]
    state: Option<NodeState>,
    /// Nodes whose name or id contains this.
    text: Option<String>,
    /// Whether each node is asked for its links, too. Default false.
    #[serde(default)]
    links: bool,
    /// How many at most, 1 to 1,000. Default 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Where the page begins.
    cursor: Option<String>,
}

/// The nodes that are in, and those that want to come in, by id. For the entity tag, uptimes count in steps of 10 s and round trips
/// in doublings.
#[utoipa::path(
    get, path = "/nodes", operation_id = "list_nodes", tag = "nodes", params(NodeFilter),
    responses(
        (status = 200, body = Page<NodeView>),
        (status = 304, description = "As the entity tag says"),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        Reading,
    ),
)]
pub(crate) async fn list(
    desk: web::Data<Desk>,
    query: web::Query<NodeFilter>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let limit = lists::limit(query.limit)?;
    let after = lists::key(query.cursor.as_deref())?;
    if after.as_ref().is_some_and(|after| after.parse::<NodeId>().is_err()) {
        return Err(lists::no_cursor());
    }
    let (mut known, children) = known(&desk).await?;
    known.retain(|known| {
        let member = &known.seen.member;
        let fits_state = query.state.is_none_or(|state| NodeState::of(known.seen.state) == state);
        let fits_text = query.text.as_ref().is_none_or(|text| {
            member.name.as_str().contains(text.as_str()) || member.id.to_string().contains(text)
        });
        fits_state && fits_text
    });
    known.sort_by_key(|known| known.seen.member.id.to_string());
    let total = known.len();
    if let Some(after) = after {
        known.retain(|known| known.seen.member.id.to_string() > after);
    }
    let more = known.len() > limit;
    known.truncate(limit);
    let next =
        known.last().filter(|_| more).map(|last| lists::cursor(&last.seen.member.id.to_string()));
    let items =
        join_all(known.into_iter().map(|known| view(&desk, known, children, query.links))).await;
    let tag = lists::tag(&(items.iter().map(NodeView::rounded).collect::<Vec<_>>(), total, &next));
    let page = Page { items, total, next_cursor: next };
    Ok(lists::tagged(&request, &page, tag))
}

/// The path of one node.
#[derive(Deserialize)]
pub(crate) struct NodePath {
    pub(crate) node: String,
}

/// A node by its id, or by its name if only one has it.
pub(crate) async fn find(desk: &Desk, node: &str) -> Result<NodeId, Problem> {
    let (known, _) = known(desk).await?;
    let fits: Vec<NodeId> = known
        .iter()
        .map(|known| &known.seen.member)
        .filter(|member| member.id.to_string() == node || member.name.as_str() == node)
        .map(|member| member.id)
        .collect();
    match fits[..] {
        [node] => Ok(node),
        [] => Err(Problem::not_found(format!("there is no node {node:?} in the cluster"))),
        _ => Err(Problem::conflict(format!("more than one node is named {node:?}: give the id"))),
    }
}

/// One node.
#[utoipa::path(
    get, path = "/nodes/{node}", operation_id = "get_node", tag = "nodes",
    params(("node" = String, Path, description = "Its id, or its name if only one has it")),
    responses(
        (status = 200, body = NodeView),
        (
            status = 409, body = Problem, content_type = "application/problem+json",
            description = "More than one node has this name"
        ),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        Reading,
    ),
)]
pub(crate) async fn one(
    desk: web::Data<Desk>,
    path: web::Path<NodePath>,
) -> Result<web::Json<NodeView>, Problem> {
    let wanted = find(&desk, &path.node).await?;
    let (known, total) = known(&desk).await?;
    let known = known.into_iter().find(|known| known.seen.member.id == wanted);
    let known = known.ok_or_else(|| Problem::not_found(format!("{:?} has gone", path.node)))?;
    Ok(web::Json(view(&desk, known, total, true).await))
}

/// Whether an action is only tried.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct DryRun {
    /// Nothing is done; the answer says what would be. Default false.
    #[serde(default)]
    pub(crate) dry_run: bool,
}

/// Nothing was asked of that node.
pub(crate) fn not_asked(node: &NodeName) -> Problem {
    let why = "no link leads to it, or too many questions are open";
    Problem::unavailable(format!("{} was not asked: {why}", node.name))
}
