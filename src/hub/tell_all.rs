//! One message for many children, by kind and tags.

use std::collections::BTreeSet;

use actix::prelude::*;

use super::{
    Hub,
    bound::Bound,
    codec::{self, Rules},
    hot_swap::{HotSwap, HubMessage},
    kind::check_message_name,
    outlet::Outlet,
};
use crate::{
    error::{HubSendError, PublishError},
    model::{
        child::ChildSpec,
        id::{ChildId, InvalidId, KindName, Tag},
    },
};

/// Refusals that are told one by one.
const MOST_TOLD: usize = 16;

/// Children that are told something before other tasks of the caller's thread have a turn.
const TURN: usize = 256;

/// Which children are meant: those to which everything applies that is said here. All, if nothing is.
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
/// let open_rooms = rooms.tag("open")?;
/// # let _ = open_rooms;
/// # Ok::<(), InvalidId>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChildFilter {
    kind: Option<KindName>,
    tags: BTreeSet<Tag>,
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

    /// Those with this tag, besides others that are named.
    ///
    /// # Errors
    /// [`InvalidId`]: the word does not have the shape of a tag.
    pub fn tag(mut self, tag: impl AsRef<str>) -> Result<Self, InvalidId> {
        self.tags.insert(Tag::new(tag)?);
        Ok(self)
    }

    /// Whether a child of this spec is meant.
    pub(crate) fn fits(&self, spec: &ChildSpec) -> bool {
        self.kind.as_ref().is_none_or(|kind| kind == spec.kind())
            && self.tags.is_subset(spec.tags())
    }
}

/// What became of a message for many children.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ToldAll {
    /// Children that it was taken in for.
    pub told: usize,
    /// Children that it was not taken in for.
    pub refused: usize,
    /// The first 16 of these, each with the reason.
    pub refusals: Vec<HubSendError>,
}

/// The children of all nodes that are meant, by id, each with its kind; `None`: the hub has stopped.
#[derive(Message)]
#[rtype(result = "Option<Vec<(ChildId, KindName)>>")]
pub(crate) struct Matching(pub(crate) ChildFilter);

impl Hub {
    /// Sends a message to each child that is meant, on whichever node, as far as this node knows of it now;
    /// nobody waits for the replies.
    ///
    /// To each of them it goes as by [`ChildRef::do_send`](crate::ChildRef::do_send): behind what this node
    /// has sent to it before, and with it when it moves. It is encoded once. A child whose queue is full, or
    /// whose kind has not registered the message, is counted as refused.
    ///
    /// For what many children want to hear again and again a topic is cheaper, as a node is sent it once:
    /// [`publish`](Self::publish). This one keeps a queue for each child until it has taken the message.
    ///
    /// Dropping the future leaves out those that were not told yet.
    ///
    /// ```
    /// # use actix::prelude::*;
    /// # use actix_hub::prelude::*;
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Default, Serialize, Deserialize)]
    /// # struct Room { closed: bool }
    /// # impl Actor for Room { type Context = Context<Self>; }
    /// #[derive(Message, Serialize, Deserialize)]
    /// #[rtype(result = "()")]
    /// struct Close;
    /// impl HubMessage for Close { const NAME: &'static str = "room.close"; }
    ///
    /// impl Handler<Close> for Room {
    ///     type Result = ();
    ///     fn handle(&mut self, _: Close, _: &mut Context<Self>) { self.closed = true; }
    /// }
    /// hot_swap!(Room, kind = "room", messages = [Close]);
    ///
    /// # #[actix::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let hub = HubSystem::builder("doc").child::<Room>().start().await?;
    /// for id in ["lobby", "garden"] {
    ///     hub.start_child(ChildSpec::new::<Room>(id, ())?.tag("public")?).await?;
    /// }
    /// hub.start_child(ChildSpec::new::<Room>("office", ())?).await?;
    ///
    /// let public = ChildFilter::default().kind::<Room>()?.tag("public")?;
    /// assert_eq!(hub.tell_all(public, Close).await?.told, 2);
    /// # hub.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`PublishError`]: nothing was sent to anybody.
    pub async fn tell_all<M: HubMessage>(
        &self,
        filter: ChildFilter,
        message: M,
    ) -> Result<ToldAll, PublishError> {
        check_message_name(M::NAME)?;
        let shared = self.shared();
        let rules = Rules::of_messages(&shared.settings);
        let encoded = {
            // What is encoded may be read back.
            let _bound = Bound::to(&std::sync::Arc::downgrade(shared));
            codec::encode_by(&message, rules)
        };
        drop(message);
        let bytes = encoded?;
        if shared.doors.is_closed() {
            return Err(PublishError::HubStopped);
        }
        let children = self.system().send(Matching(filter)).await;
        let children = children.ok().flatten().ok_or(PublishError::HubStopped)?;
        let mut all = ToldAll::default();
        for (number, (child, kind)) in children.into_iter().enumerate() {
            if number % TURN == TURN - 1 {
                tokio::task::yield_now().await;
            }
            let outlet = Outlet::new(shared.clone(), child.as_str(), kind.as_str());
            match outlet.do_send_encoded::<M>(kind.as_str(), bytes.clone()) {
                Ok(()) => all.told += 1,
                Err(error) => {
                    all.refused += 1;
                    if all.refusals.len() < MOST_TOLD {
                        all.refusals.push(error);
                    }
                }
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_meant_if_everything_that_is_said_applies_to_it() {
        let id = ChildId::new("c").expect("a valid id");
        let kind = KindName::new("room").expect("a valid name");
        let spec = ChildSpec::from_parts(id, kind.clone(), Vec::new().into());
        let spec = spec.tag("open").and_then(|spec| spec.tag("public")).expect("valid tags");
        let of = |name: &str, tags: &[&str]| {
            let kind = (!name.is_empty()).then(|| KindName::new(name).expect("a valid name"));
            let tags = tags.iter().map(|tag| Tag::new(tag).expect("a valid tag")).collect();
            ChildFilter { kind, tags }.fits(&spec)
        };
        assert!(of("", &[]) && of("room", &[]) && of("", &["open"]));
        assert!(of("room", &["open", "public"]));
        assert!(!of("house", &[]) && !of("room", &["closed"]) && !of("", &["open", "closed"]));
    }
}
