//! What the others are told when a node ends that has not handed everything over.
//!
//! Without a word they find it down, a suspicion window later, and whatever was on its way to it may
//! have been handled. Its Bye is the one of a node that leaves: believed only behind its last answer.

use std::time::Duration;

use actix::prelude::*;
use futures_util::future::join;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Hub, system::HubSystem};

/// How long replies to calls of this node, which are on their way, may take.
const REPLIES: Duration = Duration::from_millis(250);

/// Says Bye with an engine that decides nothing any more.
#[derive(Message)]
#[rtype(result = "()")]
struct SayBye;

impl Handler<SayBye> for HubSystem {
    type Result = ();

    fn handle(&mut self, _: SayBye, _: &mut Context<Self>) {
        let Some(engine) = self.parting.take() else { return };
        for effect in engine.farewell(self.hub.shared().doors.uptime.now()) {
            self.network_effect(effect);
        }
    }
}

/// Tells the others that this node ends: its last answer to each, and then Bye. Its engine was seized.
/// At `until` it goes without what was not heard by then.
pub(crate) async fn say_bye(hub: &Hub, until: Instant) {
    let doors = &hub.shared().doors;
    // Nothing begins from here on, be it on a thread that is held and comes free: what is not accepted
    // before the last answer is given to the child's next owner, and would be handled by both.
    doors.set_valid(false);
    // What comes now would be said to be on its way, and would go nowhere.
    doors.close();
    let calls = doors.finish(doors.calls_until_now());
    let both = join(timeout(REPLIES, calls), doors.drain());
    if timeout_at(until, both).await.is_err() {
        tracing::warn!(node = %hub.node_name(), "a peer did not hear the last answers in time");
    }
    // Who has not heard them takes what it has sent here for perhaps handled. If the actor is held, or
    // has ended, the others find out.
    let _ = timeout_at(until.max(Instant::now() + REPLIES), hub.system().send(SayBye)).await;
}
