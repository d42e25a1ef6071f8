//! The handovers: those under way and the latest that have ended, of all nodes.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque, hash_map::Entry},
};

use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Desk, lists,
    nodes::{NodeName, time_of},
    problem::{Problem, Reading},
};
use crate::model::{
    child::Epoch,
    id::{ChildId, NodeId, NodeRun},
    observe::{Answer, HandoverReport, HandoverStatus, HandoversReport, MOST_ASKED, Question},
};

/// One handover, as its source knows it.
#[derive(Serialize, ToSchema)]
pub(crate) struct HandoverView {
    /// The child and the attempt's epoch.
    id: String,
    /// The child.
    child: String,
    /// Its kind.
    kind: String,
    /// The source.
    from: NodeName,
    /// The target.
    to: NodeName,
    /// The attempt.
    epoch: String,
    /// How it stands.
    status: Status,
    /// Why it failed.
    reason: Option<String>,
    /// Bytes of state; null: not known.
    bytes: Option<u64>,
    /// When it began, by the clock of the source; null: only the target tells of it.
    started_at: Option<String>,
    /// When it ended, by the clock of the node that tells of it; null while it is under way.
    ended_at: Option<String>,
    /// How long it took; null while it is under way, or when only the target remembers it.
    took_ms: Option<f64>,
    /// The phases that it came to, in order.
    phases: Vec<PhaseView>,
}

/// One phase of a handover.
#[derive(Serialize, ToSchema)]
pub(crate) struct PhaseView {
    /// `offer`, `freeze`, `wait`, `transfer` or `open`.
    #[schema(value_type = String, example = "freeze")]
    name: &'static str,
    /// When it began after the handover did.
    at_ms: f64,
    /// How long it took; null while it is under way.
    took_ms: Option<f64>,
}

/// How a handover stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Status {
    Running,
    Done,
    Failed,
}

impl Status {
    fn of(status: &HandoverStatus) -> Self {
        match status {
            HandoverStatus::Running => Self::Running,
            HandoverStatus::Done => Self::Done,
            HandoverStatus::Failed { .. } => Self::Failed,
        }
    }
}

impl HandoverView {
    pub(crate) fn of(desk: &Desk, report: HandoverReport) -> Self {
        let is_running = report.status == HandoverStatus::Running;
        let mut at = 0.0;
        let named = report.phases.named();
        let came_to: Vec<_> = named.iter().filter(|(_, took)| took.is_some()).collect();
        let last = came_to.len().saturating_sub(1);
        let mut phases = Vec::new();
        for (place, (name, took)) in came_to.into_iter().enumerate() {
            let took = took.unwrap_or_default().as_secs_f64() * 1_000.0;
            let under_way = is_running && place == last;
            phases.push(PhaseView { name, at_ms: at, took_ms: (!under_way).then_some(took) });
            at += took;
        }
        let known = !is_running && !report.took.is_zero();
        Self {
            id: format!("{}@{}", report.child, report.epoch),
            child: report.child.to_string(),
            kind: report.kind.to_string(),
            from: NodeName::of(desk, report.from),
            to: NodeName::of(desk, report.to),
            epoch: report.epoch.to_string(),
            status: Status::of(&report.status),
            reason: match report.status {
                HandoverStatus::Failed { reason } => Some(reason),
                _ => None,
            },
            bytes: report.bytes,
            started_at: (is_running || known).then(|| time_of(report.began)),
            ended_at: (!is_running).then(|| {
                let took = u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX);
                time_of(report.began.saturating_add(took))
            }),
            took_ms: known.then_some(report.took.as_secs_f64() * 1_000.0),
            phases,
        }
    }
}

/// The handovers, those under way first, then the latest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct Handovers {
    /// The items of this page.
    items: Vec<HandoverView>,
    /// How many items the filters match.
    total: usize,
    /// Where the next page begins; null on the last.
    next_cursor: Option<String>,
    /// Nodes that did not answer: their handovers are not known.
    unreachable: Vec<NodeName>,
}

/// Which handovers are wanted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct HandoverFilter {
    /// Handovers that stand so.
    #[param(inline)]
    status: Option<Status>,
    /// Handovers from or to this node, by id or name.
    node: Option<String>,
    /// Handovers of this child.
    child: Option<String>,
    /// How many at most, 1 to 1,000. Default 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Where the page begins.
    cursor: Option<String>,
}

/// The handovers that have ended, as far as the nodes have told already: each is asked for the
/// further ones only.
#[derive(Default)]
pub(crate) struct Told(BTreeMap<NodeRun, Ended>);

#[derive(Default)]
struct Ended {
    /// The latest first.
    reports: VecDeque<HandoverReport>,
    /// How many have ended in that life of the node.
    count: u64,
}

impl Told {
    /// How many of them are known.
    fn known(&self, run: NodeRun) -> u64 {
        self.0.get(&run).map_or(0, |ended| ended.count)
    }

    /// What a node told that was asked for those behind the first `since`; all that are known of it.
    fn take(&mut self, run: NodeRun, since: u64, told: HandoversReport) -> Vec<HandoverReport> {
        let ended = self.0.entry(run).or_default();
        // Somebody else may have asked, too. What lies between would be missing.
        if ended.count >= since {
            let new = usize::try_from(told.count.saturating_sub(ended.count)).unwrap_or(usize::MAX);
            for report in told.ended.into_iter().take(new).rev() {
                ended.reports.push_front(report);
            }
            ended.reports.truncate(MOST_ASKED);
            ended.count = ended.count.max(told.count);
        }
        told.running.into_iter().chain(ended.reports.iter().cloned()).collect()
    }

    /// Forgets what nodes told that are not in any more.
    fn retain(&mut self, runs: &[NodeRun]) {
        self.0.retain(|run, _| runs.contains(run));
    }
}

/// What all nodes know of handovers, and which nodes did not answer.
async fn all(desk: &Desk) -> Result<(Vec<HandoverReport>, Vec<NodeId>), Problem> {
    let runs = desk.members().await?;
    desk.journal.handovers().retain(&runs);
    let asked = runs.into_iter().map(|run| async move {
        let since = desk.journal.handovers().known(run);
        (run, since, desk.ask(run.node, Question::Handovers { since }).await)
    });
    let (mut told, mut unreachable) = (Vec::new(), Vec::new());
    for (run, since, answer) in join_all(asked).await {
        match answer {
            Ok(Answer::Handovers(answer)) => {
                let reports = desk.journal.handovers().take(run, since, answer);
                told.extend(reports.into_iter().map(|report| (run.node, report)));
            }
            _ => unreachable.push(run.node),
        }
    }
    let mut reports = once_each(told);
    reports.sort_by_cached_key(place);
    Ok((reports, unreachable))
}

/// The children that move now, as their owners say.
pub(crate) async fn moving(desk: &Desk) -> Result<BTreeSet<ChildId>, Problem> {
    // None of those that have ended.
    let question = || Question::Handovers { since: u64::MAX };
    let asked = desk.members().await?.into_iter().map(|run| desk.ask(run.node, question()));
    let mut moving = BTreeSet::new();
    for answer in join_all(asked).await {
        if let Ok(Answer::Handovers(told)) = answer {
            moving.extend(told.running.into_iter().map(|report| report.child));
        }
    }
    Ok(moving)
}

/// Both ends tell of a handover. The source knows more; the target is there when it has gone.
fn once_each(told: Vec<(NodeId, HandoverReport)>) -> Vec<HandoverReport> {
    let mut reports = HashMap::<(ChildId, Epoch), HandoverReport>::with_capacity(told.len());
    for (by, report) in told {
        match reports.entry((report.child.clone(), report.epoch)) {
            Entry::Vacant(place) => {
                place.insert(report);
            }
            Entry::Occupied(mut place) if by == report.from => {
                place.insert(report);
            }
            Entry::Occupied(_) => {}
        }
    }
    reports.into_values().collect()
}

/// Where a handover stands in the list: those under way first, then the latest first.
type Place = (Reverse<bool>, Reverse<u64>, ChildId, Epoch);

fn place(report: &HandoverReport) -> Place {
    let is_running = report.status == HandoverStatus::Running;
    (Reverse(is_running), Reverse(report.began), report.child.clone(), report.epoch)
}

/// The place behind which a page begins.
fn place_of(cursor: &str) -> Result<Place, Problem> {
    let (is_running, began, child, epoch) =
        serde_json::from_str(cursor).map_err(|_| lists::no_cursor())?;
    Ok((Reverse(is_running), Reverse(began), child, epoch))
}

fn cursor_of(report: &HandoverReport) -> Result<String, Problem> {
    let (Reverse(is_running), Reverse(began), child, epoch) = place(report);
    let key = serde_json::to_string(&(is_running, began, child, epoch));
    key.map(|key| lists::cursor(&key)).map_err(|_| lists::no_cursor())
}

/// The handovers that the nodes which are in remember, those under way first. Of one whose source has
/// gone only the target tells, without phases.
#[utoipa::path(
    get, path = "/handovers", operation_id = "list_handovers", tag = "handovers", params(HandoverFilter),
    responses(
        (status = 200, body = Handovers),
        (status = 304, description = "As the entity tag says"),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        Reading,
    ),
)]
pub(crate) async fn list(
    desk: web::Data<Desk>,
    query: web::Query<HandoverFilter>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let limit = lists::limit(query.limit)?;
    let after = lists::key(query.cursor.as_deref())?.as_deref().map(place_of).transpose()?;
    let (mut reports, unreachable) = all(&desk).await?;
    let is_node = |node: NodeId, wanted: &str| {
        let name = NodeName::of(&desk, node);
        name.id == wanted || name.name == wanted
    };
    reports.retain(|report| {
        query.status.is_none_or(|status| Status::of(&report.status) == status)
            && query.child.as_ref().is_none_or(|child| report.child.as_str() == child)
            && query
                .node
                .as_ref()
                .is_none_or(|node| is_node(report.from, node) || is_node(report.to, node))
    });
    let total = reports.len();
    // What came in meanwhile is in front of it.
    let behind = after.map_or(0, |after| reports.partition_point(|report| place(report) <= after));
    let mut page = reports.split_off(behind);
    let more = page.len() > limit;
    page.truncate(limit);
    let next_cursor = page.last().filter(|_| more).map(cursor_of).transpose()?;
    let items = page.into_iter().map(|report| HandoverView::of(&desk, report)).collect();
    let unreachable = unreachable.into_iter().map(|node| NodeName::of(&desk, node)).collect();
    let list = Handovers { items, total, next_cursor, unreachable };
    let tag = lists::tag(&list);
    Ok(lists::tagged(&request, &list, tag))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{
        event::HandoverPhases,
        id::{Incarnation, KindName, NodeId},
    };

    fn report(child: &str, began: u64, status: HandoverStatus) -> HandoverReport {
        let node = NodeId::from_key([1; 32]);
        HandoverReport {
            child: ChildId::new(child).expect("an id"),
            kind: KindName::new("room").expect("a name"),
            from: node,
            to: node,
            epoch: Epoch { term: began, attempt: 0 },
            status,
            bytes: None,
            began,
            took: Duration::ZERO,
            phases: HandoverPhases::default(),
        }
    }

    #[test]
    fn what_a_node_has_told_is_not_told_again_whoever_asked() {
        let run = Incarnation { started: 1, nonce: 7 }.run_of(NodeId::from_key([1; 32]));
        let done = |n: u64| report(&format!("c{n}"), n, HandoverStatus::Done);
        // What a node tells that has ended so many.
        let tells = |since: u64, count: u64| HandoversReport {
            running: vec![report("r", 99, HandoverStatus::Running)],
            ended: (since..count).rev().take(MOST_ASKED).map(done).collect(),
            count,
        };
        let names = |reports: Vec<HandoverReport>| {
            reports.iter().map(|report| report.child.to_string()).collect::<Vec<_>>()
        };
        let mut told = Told::default();
        assert_eq!(told.known(run), 0);
        assert_eq!(names(told.take(run, 0, tells(0, 2))), ["r", "c1", "c0"]);
        // Two have asked at the same time; the answer to the later one comes first.
        let (early, late) = (tells(2, 3), tells(2, 4));
        assert_eq!(names(told.take(run, 2, late)), ["r", "c3", "c2", "c1", "c0"]);
        assert_eq!(names(told.take(run, 2, early)), ["r", "c3", "c2", "c1", "c0"]);
        assert_eq!(told.known(run), 4);
        // More than are kept.
        let kept = told.take(run, 4, tells(4, 5_000));
        assert_eq!((kept.len(), kept[1].began), (1 + MOST_ASKED, 4_999));
        // It was forgotten while somebody asked: the next one asks for all again.
        told.retain(&[]);
        assert_eq!(names(told.take(run, 5_000, tells(5_000, 5_001))), ["r"]);
        assert_eq!(told.known(run), 0);
    }

    #[test]
    fn of_two_reports_of_one_handover_that_of_its_source_counts() {
        let (source, target) = (NodeId::from_key([1; 32]), NodeId::from_key([2; 32]));
        let by_target = report("a", 5, HandoverStatus::Done);
        let by_source = HandoverReport { bytes: Some(7), ..by_target.clone() };
        let other = report("b", 5, HandoverStatus::Done);
        let both = [(source, by_source.clone()), (target, by_target)];
        let mut turned = both.to_vec();
        turned.reverse();
        for mut told in [both.to_vec(), turned] {
            told.push((target, other.clone()));
            let mut reports = once_each(told);
            reports.sort_by_key(|report| report.child.clone());
            assert_eq!(reports, [by_source.clone(), other.clone()]);
        }
    }

    #[test]
    fn a_page_begins_behind_its_cursor_whatever_came_in_or_ended_meanwhile() {
        let done = |child: &str, began| report(child, began, HandoverStatus::Done);
        let mut listed = [done("a", 5), report("b", 1, HandoverStatus::Running), done("c", 7)];
        listed.sort_by_cached_key(place);
        let order: Vec<&str> = listed.iter().map(|report| report.child.as_str()).collect();
        assert_eq!(order, ["b", "c", "a"]);
        let cursor = lists::key(cursor_of(&listed[1]).ok().as_deref()).ok().flatten();
        let after = place_of(&cursor.expect("a cursor")).expect("a place");
        assert_eq!(after, place(&listed[1]));
        // The one that the cursor names is forgotten, two came in, one has ended.
        let mut later = [done("a", 5), done("b", 1), done("d", 9), done("e", 8)];
        later.sort_by_cached_key(place);
        let behind = later.partition_point(|report| place(report) <= after);
        let rest: Vec<&str> = later[behind..].iter().map(|report| report.child.as_str()).collect();
        assert_eq!(rest, ["a", "b"]);
        assert!(place_of("lobby@1.0").is_err());
    }
}
