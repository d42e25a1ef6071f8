//! One message for many children.

use std::{collections::BTreeSet, sync::Arc};

use actix::prelude::*;

use super::{
    Hub,
    bound::Bound,
    codec::{self, Rules},
    find::ChildFilter,
    hot_swap::HubMessage,
    kind::check_message_name,
    outlet::Outlet,
    system::HubSystem,
};
use crate::{
    engine::registry::Searched,
    error::{HubSendError, PublishError},
    model::id::{ChildId, KindName},
};

/// Refusals that are told one by one.
const MOST_TOLD: usize = 16;

/// Children that are told something before other tasks of the caller's thread have a turn.
const TURN: usize = 256;

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

/// A child that is meant, and its kind.
type Meant = (ChildId, KindName);

/// One step of a search for those that are meant; `None`: the hub has stopped.
#[derive(Message)]
#[rtype(result = "Option<Searched<Meant>>")]
struct Matching {
    filter: Arc<ChildFilter>,
    behind: Option<ChildId>,
    most: usize,
}

impl Handler<Matching> for HubSystem {
    type Result = Option<Searched<Meant>>;

    fn handle(
        &mut self,
        Matching { filter, behind, most }: Matching,
        _: &mut Context<Self>,
    ) -> Self::Result {
        let running = self.running.as_ref()?;
        Some(filter.search(
            running,
            &BTreeSet::new(),
            behind.as_ref(),
            most,
            |child, _, ownership| (child.clone(), ownership.spec.kind().clone()),
        ))
    }
}

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
        // All of them first: a child that is told may start others.
        let children = self.meant(filter).await.ok_or(PublishError::HubStopped)?;
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

    /// The children that are meant, by id.
    async fn meant(&self, filter: ChildFilter) -> Option<Vec<Meant>> {
        let (filter, mut children) = (Arc::new(filter), Vec::new());
        let mut behind = filter.behind().cloned();
        loop {
            let (filter, most) = (filter.clone(), filter.most() - children.len());
            if most == 0 {
                return Some(children);
            }
            let step = self.system().send(Matching { filter, behind, most }).await;
            let Searched { found, next } = step.ok().flatten()?;
            children.extend(found);
            behind = match next {
                Some(next) => Some(next),
                None => return Some(children),
            };
        }
    }
}
