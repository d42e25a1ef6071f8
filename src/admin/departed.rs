//! The nodes that went in the last hour.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, btree_map::Entry},
};

use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::future::join_all;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Desk, lists,
    nodes::{NodeName, time_of},
    problem::{Problem, Reading},
};
use crate::model::{
    departed::{DepartedNode, Departure},
    id::NodeId,
    observe::{Answer, Question},
};

/// A node that was in, and went in the last hour.
#[derive(Serialize, ToSchema)]
pub(crate) struct DepartedView {
    /// Its identity.
    id: String,
    /// Its name for people; the end of its id when the name is not known.
    name: String,
    /// `left`, or `down`: it was declared down.
    #[schema(value_type = String, example = "down")]
    how: &'static str,
    /// The time at which it went.
    at: String,
    /// The time at which it came in again; null: it did not.
    came_back_at: Option<String>,
    /// Children that it handed over with their states, since it began to hand them over.
    moved: u64,
    /// Children of it that went on with copies of their states.
    recovered: u64,
    /// Children of it that began anew, from their arguments: their states are lost.
    begun_anew: u64,
    /// States of its children that were parked, as nobody merged them when it was met again.
    parked: u64,
}

impl From<DepartedNode> for DepartedView {
    fn from(told: DepartedNode) -> Self {
        Self {
            id: told.id.to_string(),
            name: told.name,
            how: match told.how {
                Departure::Left => "left",
                Departure::Down => "down",
            },
            at: time_of(told.at),
            came_back_at: told.came_back.map(time_of),
            moved: told.cost.moved,
            recovered: told.cost.recovered,
            begun_anew: told.cost.begun_anew,
            parked: told.cost.parked,
        }
    }
}

/// The nodes that went in the last hour, with what that cost all nodes together.
#[derive(Serialize, ToSchema)]
pub(crate) struct DepartedNodes {
    /// The latest first.
    items: Vec<DepartedView>,
    /// Nodes that did not answer: what became of children there is not counted.
    unreachable: Vec<NodeName>,
}

/// What nodes tell of those that went, put together: each sees only what becomes of children on itself.
/// How and when a node went is told by the first that knows it, so this node comes first.
fn together(told: impl IntoIterator<Item = Vec<DepartedNode>>) -> Vec<DepartedNode> {
    let mut all: BTreeMap<NodeId, DepartedNode> = BTreeMap::new();
    for one in told.into_iter().flatten() {
        match all.entry(one.id) {
            Entry::Vacant(place) => {
                place.insert(one);
            }
            Entry::Occupied(mut place) => {
                let known = place.get_mut();
                known.cost = known.cost.and(one.cost);
                known.came_back = known.came_back.or(one.came_back);
            }
        }
    }
    let mut all: Vec<_> = all.into_values().collect();
    all.sort_by_key(|one| Reverse(one.at));
    all
}

/// The nodes that went in the last hour, the latest first, at most 256 of each node: how and when they
/// went, whether they came back, and what became of their children.
#[utoipa::path(
    get, path = "/departed", operation_id = "list_departed_nodes", tag = "nodes",
    responses(
        (status = 200, body = DepartedNodes),
        (status = 304, description = "As the entity tag says"),
        Reading,
    ),
)]
pub(crate) async fn list(
    desk: web::Data<Desk>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let me = desk.hub.node_id();
    let mut nodes: Vec<NodeId> = desk.members().await?.into_iter().map(|run| run.node).collect();
    nodes.sort_by_key(|node| *node != me);
    let asked = nodes.into_iter().map(|node| {
        let answer = desk.ask(node, Question::Departed);
        async move { (node, answer.await) }
    });
    let (mut told, mut unreachable) = (Vec::new(), Vec::new());
    for (node, answer) in join_all(asked).await {
        match answer {
            Ok(Answer::Departed(departed)) => told.push(departed),
            _ => unreachable.push(NodeName::of(&desk, node)),
        }
    }
    let items = together(told).into_iter().map(Into::into).collect();
    let page = DepartedNodes { items, unreachable };
    let tag = lists::tag(&page);
    Ok(lists::tagged(&request, &page, tag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::departed::DepartureCost;

    #[test]
    fn what_each_node_saw_is_counted_together_and_the_latest_comes_first() {
        let node = |n: u8| NodeId::from_key([n; 32]);
        let told = |n, at, came_back, begun_anew| DepartedNode {
            id: node(n),
            name: format!("n{n}"),
            how: Departure::Down,
            at,
            came_back,
            cost: DepartureCost { begun_anew, recovered: 1, ..DepartureCost::default() },
        };
        let all = together([
            vec![told(1, 10, None, 3), told(2, 20, None, 0)],
            vec![told(1, 12, Some(30), 4)],
            Vec::new(),
        ]);
        let shown: Vec<_> = all
            .iter()
            .map(|one| (one.id, one.at, one.came_back, one.cost.begun_anew, one.cost.recovered))
            .collect();
        assert_eq!(shown, [(node(2), 20, None, 0, 1), (node(1), 10, Some(30), 7, 2)]);
    }
}
