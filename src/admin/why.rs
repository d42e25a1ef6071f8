//! Where a child is, and why.

use std::time::Duration;

use actix_web::web;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Desk,
    children::{ChildPath, Row, child_id, no_such_child},
    nodes::NodeName,
    problem::{Problem, Reading},
};
use crate::{
    engine::explain::{Rule, Why},
    model::{
        child::ChildFailure,
        id::{ChildId, NodeId, NodeName as Name},
        member::{Member, MemberState},
    },
};

/// Where a child is, and why.
#[derive(Serialize, ToSchema)]
pub(crate) struct WhyView {
    child: String,
    /// `distribution`, `pinned`, `elsewhere` (where it belongs it was refused) or `waiting` (it
    /// belongs elsewhere and has not moved yet).
    #[schema(value_type = String, example = "distribution")]
    rule: &'static str,
    /// The same in words.
    text: String,
    /// Whose it is.
    owner: NodeName,
    /// Where it belongs.
    belongs: Option<NodeName>,
    /// Where its starts, stops and takeovers are serialised.
    home: Option<NodeName>,
    /// The epoch of its ownership.
    epoch: String,
    /// Since which epoch its state goes back without a break.
    born: String,
    /// The epoch at which its state last came from a copy.
    copied: String,
    /// The nodes that were to choose from.
    candidates: Vec<CandidateView>,
}

/// A node that a child could be on.
#[derive(Serialize, ToSchema)]
pub(crate) struct CandidateView {
    id: String,
    name: String,
    takes_children: bool,
    /// Why it takes none, or not this one.
    reason: Option<String>,
}

/// One child, and the reason for its place, as this node knows them.
pub(crate) struct Whole {
    pub(crate) row: Row,
    pub(crate) why: Why,
    pub(crate) candidates: Vec<Candidate>,
}

/// A node that may take a child, or why not.
pub(crate) struct Candidate {
    pub(crate) id: NodeId,
    name: Name,
    pub(crate) why_not: Option<&'static str>,
}

pub(crate) async fn whole(desk: &Desk, child: &ChildId) -> Result<Whole, Problem> {
    let wanted = child.clone();
    let found = desk
        .look(move |running| {
            let engine = &running.engine;
            let (owner, ownership) = engine.registry().owner(&wanted)?;
            let members = engine.view().members.values();
            Some(Whole {
                row: Row::of(running, &wanted, owner, ownership),
                why: engine.why((running.clock)(), &wanted)?,
                candidates: members
                    .map(|member| Candidate {
                        id: member.id,
                        name: member.name.clone(),
                        why_not: takes_none(member).or_else(|| {
                            let takes = engine.takes(ownership.spec.kind(), member.id);
                            (!takes).then_some("it has not registered the kind")
                        }),
                    })
                    .collect(),
            })
        })
        .await?;
    let whole = found.ok_or_else(|| no_such_child(child))?;
    Ok(whole)
}

pub(crate) fn why_view(
    desk: &Desk,
    child: &ChildId,
    why: Why,
    candidates: Vec<Candidate>,
) -> WhyView {
    let owner = NodeName::of(desk, why.owner.node);
    let belongs = why.belongs.map(|node| NodeName::of(desk, node));
    let place = belongs.as_ref().map_or("nowhere", |node| &node.name);
    let text = if !why.is_live && belongs.is_none() {
        format!("Its node {} went, and no other takes it: it waits for one that does.", owner.name)
    } else if !why.is_live {
        format!("Its node {} went; its home starts it elsewhere.", owner.name)
    } else {
        match why.rule {
            Rule::Pinned => format!(
                "It was sent to {} on purpose and stays there until it is sent elsewhere, or the \
                 node is drained or goes.",
                owner.name
            ),
            Rule::Distribution => {
                format!("The distribution puts it on {}, and there it is.", owner.name)
            }
            Rule::Elsewhere => format!(
                "The distribution puts it on {place}, which refused it; so it is on {}.",
                owner.name
            ),
            Rule::Waiting => format!(
                "It belongs on {place} and is still on {}: it moves when there is room and all \
                 nodes agree who is in, or when the view changes next if its moves have failed.",
                owner.name
            ),
        }
    };
    let text = match &why.failure {
        Some(failure) if why.is_live => format!("{text} {}", failed(failure, why.starts_in)),
        _ => text,
    };
    WhyView {
        child: child.to_string(),
        rule: match why.rule {
            Rule::Pinned => "pinned",
            Rule::Distribution => "distribution",
            Rule::Elsewhere => "elsewhere",
            Rule::Waiting => "waiting",
        },
        text,
        owner,
        belongs,
        home: why.home.map(|node| NodeName::of(desk, node)),
        epoch: why.epoch.to_string(),
        born: why.born.to_string(),
        copied: why.copied.to_string(),
        candidates: candidates
            .into_iter()
            .map(|Candidate { id, name, why_not }| CandidateView {
                reason: if why.refused_by.contains(&id) {
                    Some("it refused this child, or could not start it, lately".to_owned())
                } else {
                    why_not.map(str::to_owned)
                },
                id: id.to_string(),
                name: name.to_string(),
                takes_children: why_not.is_none(),
            })
            .collect(),
    }
}

/// Why a node takes no children at all.
fn takes_none(member: &Member) -> Option<&'static str> {
    match (member.state, member.draining, member.weight) {
        (MemberState::Leaving, ..) => Some("it leaves"),
        (_, true, _) => Some("it is drained"),
        (_, _, 0) => Some("its weight is 0"),
        (MemberState::Alive | MemberState::Suspect, false, _) => None,
    }
}

/// Why a child has no actor, and when it is started.
fn failed(failure: &ChildFailure, starts_in: Option<Duration>) -> String {
    let restarts = match failure.restarts() {
        1 => "1 restart".to_owned(),
        restarts => format!("{restarts} restarts"),
    };
    let after = match starts_in {
        Some(starts_in) => format!("waits {:.1} s for its next start", starts_in.as_secs_f64()),
        None if failure.is_given_up() => "was given up".to_owned(),
        None => "waits for its next start".to_owned(),
    };
    let hand = match starts_in {
        None if failure.is_given_up() => {
            " Start it again, or move it, when the cause is mended; it is also tried when a node \
             comes or goes."
        }
        _ => "",
    };
    format!("It {after} after {restarts}: {}.{hand}", failure.reason().trim_end_matches('.'))
}

#[test]
fn why_a_child_has_no_actor_is_said_with_its_next_start() {
    let waits = ChildFailure::new("it panicked: no database", 3, false);
    assert_eq!(
        failed(&waits, Some(Duration::from_millis(3_210))),
        "It waits 3.2 s for its next start after 3 restarts: it panicked: no database."
    );
    assert_eq!(
        failed(&waits, None),
        "It waits for its next start after 3 restarts: it panicked: no database."
    );
    let given_up = failed(&ChildFailure::new("boom", 1, true), None);
    assert!(given_up.starts_with("It was given up after 1 restart: boom. Start it"), "{given_up}");
}

/// Where a child is, and which rule put it there.
#[utoipa::path(
    get, path = "/children/{child}/why", operation_id = "explain_child", tag = "children",
    params(("child" = String, Path, description = "Its id, percent-encoded")),
    responses(
        (status = 200, body = WhyView),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        Reading,
    ),
)]
pub(crate) async fn why(
    desk: web::Data<Desk>,
    path: web::Path<ChildPath>,
) -> Result<web::Json<WhyView>, Problem> {
    let child = child_id(&path.child)?;
    let Whole { why, candidates, .. } = whole(&desk, &child).await?;
    Ok(web::Json(why_view(&desk, &child, why, candidates)))
}
