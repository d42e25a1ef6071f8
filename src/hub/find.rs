//! Finding children, in pages.

use std::{collections::BTreeSet, sync::Arc};

use actix::prelude::*;

use super::{
    Hub,
    hot_swap::HotSwap,
    requests::{ChildInfo, HubStopped},
    system::{HubSystem, Running, child_info},
};
use crate::{
    engine::registry::{Among, Searched},
    model::{
        child::{ChildFailure, Ownership},
        id::{ChildId, InvalidId, KindName, NodeId, NodeRun, Tag},
    },
};

/// The children of a page unless somebody says.
const LIMIT: usize = 100;
/// The most children of a page.
const MOST: usize = 1_000;

/// What a child does, as far as the node that tells it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ChildState {
    /// It has an actor, or is being started.
    Running,
    /// It is being handed over. Before the move is committed only its own node knows that.
    Moving,
    /// Its node is gone, and it is not started elsewhere yet.
    Orphaned,
    /// It ended, or could not start, and is started again after a pause.
    Waiting,
    /// It did so too often and was given up.
    Failed,
}

impl ChildState {
    pub(crate) fn of(is_live: bool, is_moving: bool, failure: Option<&ChildFailure>) -> Self {
        match failure {
            _ if !is_live => Self::Orphaned,
            _ if is_moving => Self::Moving,
            Some(failure) if failure.is_given_up() => Self::Failed,
            Some(_) => Self::Waiting,
            None => Self::Running,
        }
    }
}

/// Which children are meant: those to which everything applies that is said here. All, if nothing is.
///
/// [`Hub::find`] gives them in pages, [`Hub::tell_all`] tells them something.
///
/// ```
/// # use actix::prelude::*;
/// # use actix_hub::{InvalidId, prelude::*};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Default, Serialize, Deserialize)]
/// # struct Room;
/// # impl Actor for Room { type Context = Context<Self>; }
/// # hot_swap!(Room, kind = "room", messages = []);
/// let rooms = ChildFilter::default().kind::<Room>()?;
/// let open_rooms = rooms.tag("open")?.text("garden");
/// # let _ = open_rooms;
/// # Ok::<(), InvalidId>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChildFilter {
    kind: Option<KindName>,
    tags: BTreeSet<Tag>,
    nodes: Option<BTreeSet<NodeId>>,
    text: Option<String>,
    state: Option<ChildState>,
    after: Option<ChildId>,
    limit: Option<usize>,
}

impl ChildFilter {
    /// Those of this kind; the last one that is named counts.
    ///
    /// # Errors
    /// [`InvalidId`]: `A::KIND` does not have the shape of a kind.
    pub fn kind<A: HotSwap>(mut self) -> Result<Self, InvalidId> {
        self.kind = Some(KindName::new(A::KIND)?);
        Ok(self)
    }

    /// The same by the name of the kind.
    #[must_use]
    pub fn kind_named(mut self, kind: KindName) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Those with this tag, besides others that are named. Of all that can be said this narrows a search
    /// down the most: children are kept by their tags.
    ///
    /// # Errors
    /// [`InvalidId`]: the word does not have the shape of a tag.
    pub fn tag(mut self, tag: impl AsRef<str>) -> Result<Self, InvalidId> {
        self.tags.insert(Tag::new(tag)?);
        Ok(self)
    }

    /// Those of this node, or of another one that is named.
    #[must_use]
    pub fn node(mut self, node: NodeId) -> Self {
        self.nodes.get_or_insert_default().insert(node);
        self
    }

    /// Those of one of these nodes, and none if there is none.
    #[must_use]
    pub(crate) fn nodes(mut self, nodes: BTreeSet<NodeId>) -> Self {
        self.nodes = Some(nodes);
        self
    }

    /// Those whose id contains this; the last text counts. Upper and lower case differ.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }

    /// Those in this state; the last one counts.
    #[must_use]
    pub fn state(mut self, state: ChildState) -> Self {
        self.state = Some(state);
        self
    }

    /// Those with ids behind this one, as a page says ([`ChildPage::next`]).
    #[must_use]
    pub fn after(mut self, child: ChildId) -> Self {
        self.after = Some(child);
        self
    }

    /// The first ones by id, at most so many. For a page 1 to 1,000, into which it is brought, and 100
    /// unless set; [`Hub::tell_all`] tells all unless set.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = Some(limit);
        self
    }

    /// At most so many are meant.
    pub(crate) fn most(&self) -> usize {
        self.limit.unwrap_or(usize::MAX)
    }

    /// Those with ids behind this one are meant.
    pub(crate) fn behind(&self) -> Option<&ChildId> {
        self.after.as_ref()
    }

    /// Whether all children are meant, those of all pages.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self { after: self.after.clone(), limit: self.limit, ..Self::default() }
    }

    /// Whether a child is meant, whatever its id.
    fn fits(
        &self,
        child: &ChildId,
        owner: NodeRun,
        ownership: &Ownership,
        state: impl FnOnce() -> ChildState,
    ) -> bool {
        let spec = &ownership.spec;
        self.kind.as_ref().is_none_or(|kind| kind == spec.kind())
            && self.tags.is_subset(spec.tags())
            && self.nodes.as_ref().is_none_or(|nodes| nodes.contains(&owner.node))
            && self.text.as_ref().is_none_or(|text| child.as_str().contains(text.as_str()))
            && self.state.is_none_or(|wanted| wanted == state())
    }

    /// One step of a search by this filter, from behind an id on: what `take` makes of the children that
    /// are meant, `most` of it at most. `moving` are children that move, as others say.
    pub(crate) fn search<T>(
        &self,
        running: &Running,
        moving: &BTreeSet<ChildId>,
        behind: Option<&ChildId>,
        most: usize,
        mut take: impl FnMut(&ChildId, NodeRun, &Ownership) -> T,
    ) -> Searched<T> {
        let engine = &running.engine;
        let registry = engine.registry();
        let rarest = self.tags.iter().min_by_key(|tag| registry.count_tagged(tag));
        // Of nodes that own nothing, or that nobody knows, there are none.
        let runs: Option<BTreeSet<NodeRun>> = self
            .nodes
            .as_ref()
            .map(|nodes| nodes.iter().flat_map(|node| registry.runs_of(*node)).collect());
        let among = match (rarest, &runs) {
            (_, Some(runs)) if runs.is_empty() => Among::OwnedBy(runs),
            (Some(tag), _) => Among::Tagged(tag),
            (None, Some(runs)) => Among::OwnedBy(runs),
            (None, None) => Among::All,
        };
        registry.search(among, behind, most, |child, owner, ownership| {
            let state = || {
                let is_moving = engine.is_moving(child) || moving.contains(child);
                let is_live = engine.view().is_live(owner);
                ChildState::of(is_live, is_moving, ownership.failure.as_ref())
            };
            let fits = self.fits(child, owner, ownership, state);
            fits.then(|| take(child, owner, ownership))
        })
    }
}

/// Some of the children that a filter means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChildPage {
    /// The children, by id.
    pub children: Vec<ChildInfo>,
    /// What [`ChildFilter::after`] takes for the page behind this one; `None`: this is the last.
    pub next: Option<ChildId>,
}

/// One step of a search.
#[derive(Message)]
#[rtype(result = "Result<Searched<ChildInfo>, HubStopped>")]
struct Find {
    filter: Arc<ChildFilter>,
    behind: Option<ChildId>,
    most: usize,
}

impl Handler<Find> for HubSystem {
    type Result = Result<Searched<ChildInfo>, HubStopped>;

    fn handle(
        &mut self,
        Find { filter, behind, most }: Find,
        _: &mut Context<Self>,
    ) -> Self::Result {
        let running = self.running.as_ref().ok_or(HubStopped)?;
        Ok(filter.search(running, &BTreeSet::new(), behind.as_ref(), most, child_info))
    }
}

impl Hub {
    /// A page of the children of all nodes that are meant, by what this node knows; by id.
    ///
    /// However many children there are, the hub goes on with its work between steps that look at no more
    /// than 1,000 of them. With a tag it looks at the children with that tag alone. Between pages, and
    /// steps, children come and go: each that was there all the time is found once.
    ///
    /// May be cancelled.
    ///
    /// ```
    /// # use actix::prelude::*;
    /// # use actix_hub::prelude::*;
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Default, Serialize, Deserialize)]
    /// # struct Room;
    /// # impl Actor for Room { type Context = Context<Self>; }
    /// # hot_swap!(Room, kind = "room", messages = []);
    /// # #[actix::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let hub = HubSystem::builder("doc").child::<Room>().start().await?;
    /// for n in 0..5 {
    ///     hub.start_child(ChildSpec::new::<Room>(format!("room-{n}"), ())?.tag("open")?).await?;
    /// }
    /// let open = ChildFilter::default().tag("open")?.limit(3);
    /// let first = hub.find(open.clone()).await?;
    /// assert_eq!(first.children.len(), 3);
    /// let rest = hub.find(open.after(first.next.ok_or("there are more")?)).await?;
    /// assert_eq!(rest.children[1].id.as_str(), "room-4");
    /// assert!(rest.next.is_none());
    /// # hub.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The hub has stopped.
    pub async fn find(&self, filter: ChildFilter) -> Result<ChildPage, HubStopped> {
        let limit = filter.limit.unwrap_or(LIMIT).clamp(1, MOST);
        let (filter, mut children) = (Arc::new(filter), Vec::new());
        let mut behind = filter.after.clone();
        loop {
            // One more than is wanted says whether there are more.
            let (filter, most) = (filter.clone(), limit + 1 - children.len());
            let step = self.system().send(Find { filter, behind, most }).await;
            let Searched { found, next } = step.map_err(|_| HubStopped)??;
            children.extend(found);
            if children.len() > limit {
                children.truncate(limit);
                let next = children.last().map(|child: &ChildInfo| child.id.clone());
                return Ok(ChildPage { children, next });
            }
            if next.is_none() {
                return Ok(ChildPage { children, next: None });
            }
            behind = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::child::{ChildSpec, Epoch, Role, TakenIn};

    fn ownership() -> Ownership {
        let id = ChildId::new("c").expect("a valid id");
        let kind = KindName::new("room").expect("a valid name");
        let spec = ChildSpec::from_parts(id, kind, Vec::new().into());
        let spec = spec.tag("open").and_then(|spec| spec.tag("public")).expect("valid tags");
        let epoch = Epoch { term: 1, attempt: 0 };
        let (pinned, failure) = (None, None);
        let (origin, taken) = (Default::default(), TakenIn::default());
        let (born, copied, role, spec) = (epoch, epoch, Role::Active, Arc::new(spec));
        Ownership { epoch, born, copied, role, pinned, origin, taken, failure, spec }
    }

    #[test]
    fn a_child_is_meant_if_everything_that_is_said_applies_to_it() {
        let owner = NodeRun { node: NodeId::from_key([1; 32]), nonce: 1 };
        let other = NodeId::from_key([2; 32]);
        let child = ChildId::new("room/7").expect("a valid id");
        let is =
            |filter: ChildFilter| filter.fits(&child, owner, &ownership(), || ChildState::Moving);
        let all = ChildFilter::default;
        let kind = |name: &str| KindName::new(name).expect("a valid name");
        let tag = |tag: &str| all().tag(tag).expect("a valid tag");
        assert!(is(all()) && is(all().kind_named(kind("room"))) && is(tag("open")));
        assert!(is(tag("open").tag("public").expect("a valid tag").kind_named(kind("room"))));
        assert!(!is(all().kind_named(kind("house"))) && !is(tag("closed")));
        assert!(!is(tag("open").tag("closed").expect("a valid tag")));
        assert!(is(all().node(owner.node)) && is(all().node(other).node(owner.node)));
        assert!(!is(all().node(other)) && !is(all().nodes(BTreeSet::new())));
        assert!(is(all().text("om/7")) && !is(all().text("om/8")));
        assert!(is(all().state(ChildState::Moving)) && !is(all().state(ChildState::Running)));
    }

    #[test]
    fn where_a_page_begins_and_ends_leaves_out_no_child_of_all_pages() {
        let child = ChildId::new("c").expect("a valid id");
        let page = ChildFilter::default().after(child).limit(3);
        assert!(page.is_empty() && !page.text("").is_empty());
    }
}
