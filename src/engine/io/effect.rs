//! What an engine wants done outside.

use std::{collections::BTreeSet, time::Duration};

#[cfg(doc)]
use super::Event;
use super::{
    order::{ChildOrder, ParkedOrder},
    request::Reply,
};
use crate::model::{
    child::Route,
    event::HubEvent,
    id::{ChildId, Incarnation, NodeId, NodeRun, RequestId},
    member::Member,
    message::PeerMessage,
    observe::ObserveWord,
    report::StartFailed,
    topic::TopicChange,
    watch::{Sighting, WatchId},
};

/// Something to be done outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Send a word. Dropped if there is no link: who needs it says it again.
    Send {
        /// The peer.
        to: NodeId,
        /// The word.
        message: PeerMessage,
    },
    /// Send a word over the link, though it seems not to work: to find out whether it does.
    Probe {
        /// The peer.
        to: NodeId,
        /// The word.
        message: PeerMessage,
    },
    /// Have a link to this node: dial it, with backoff, until it stands or is disconnected.
    Connect {
        /// The node.
        node: NodeId,
        /// Where it may be.
        addresses: Vec<String>,
    },
    /// No word comes over the link to this node, though others hear it: close it and dial again,
    /// unless bytes have come over it since this was said before. A long state may be on its way.
    Silent {
        /// The node.
        node: NodeId,
        /// Where it may be.
        addresses: Vec<String>,
    },
    /// Have no link to this node; close the one there is.
    Disconnect {
        /// The node.
        node: NodeId,
        /// Why, for the log.
        reason: String,
    },
    /// From now on Hellos tell this.
    Announce {
        /// What this node tells of itself and knows of others.
        me: Member,
        /// The members it knows.
        known: Vec<Member>,
        /// Lives that are fenced: told to the node when it comes back.
        fenced: Vec<(NodeId, Incarnation)>,
    },
    /// Do something to a child on this node.
    Child(ChildOrder),
    /// Do something with the bytes of a parked state.
    Parked(ParkedOrder),
    /// Messages for this child go there from now on.
    Route {
        /// The child.
        child: ChildId,
        /// Its owner; `None`: there is no such child.
        route: Option<Route>,
    },
    /// The child's home has answered [`Event::Locate`]. If there is such a child, a route was told
    /// before.
    Located {
        /// The child.
        child: ChildId,
        /// Whether there is one.
        found: bool,
    },
    /// The child that messages wait for could not be started, as [`Event::Locate`] wanted.
    NotStarted {
        /// The child.
        child: ChildId,
        /// Why.
        reason: StartFailed,
    },
    /// The child's home has not answered [`Event::Locate`] within [`Settings::send_timeout`]: what has waited
    /// since, and has no deadline of its own, ends.
    ///
    /// [`Settings::send_timeout`]: crate::Settings::send_timeout
    LocateOver {
        /// The child.
        child: ChildId,
    },
    /// This run is out. What was written to it and not accepted may have been handled if it went
    /// down, and was not handled if it left.
    Gone {
        /// The run.
        run: NodeRun,
        /// Whether it said Bye.
        left: bool,
    },
    /// This run was met, is no member, and has no link any more as far as the engine has heard: it is out as
    /// one that went down, unless a link to it stands again, of which the engine is told next.
    Unmet {
        /// The run.
        run: NodeRun,
    },
    /// User messages and states of this node for that run go by this member from now on, and not
    /// over its link even if there is one; [`Event::PathLost`] tells if they cannot. How the run's
    /// own messages come here is decided there.
    Path {
        /// The run that they are for.
        to: NodeRun,
        /// A member with a link to this node and to that run. `None`: its link, if there is one.
        by: Option<NodeRun>,
    },
    /// The runs that are in, this node's included. Paths of others are taken only if all three are.
    Members {
        /// All of them.
        runs: BTreeSet<NodeRun>,
    },
    /// Topics have subscribers on another node, or have none there any more.
    Subscribed {
        /// The run.
        run: NodeRun,
        /// The version of its set: what is published to it names this one.
        version: u64,
        /// What changed, in order.
        changes: Vec<TopicChange>,
    },
    /// No topic has subscribers on that run any more, as far as is known: it is out.
    Unsubscribed {
        /// The run.
        run: NodeRun,
    },
    /// Something else is known of a child that is watched on this node. Told only if it differs from what was
    /// told before under this number; [`Sighting::Gone`] ends the watch.
    Sighted {
        /// The child.
        child: ChildId,
        /// From [`Event::Watch`].
        id: WatchId,
        /// What is known.
        sighting: Sighting,
    },
    /// Whether gates may start handlers and let replies out; a pause makes them invalid until
    /// peers confirm that this incarnation still counts.
    Gates {
        /// Whether they may.
        valid: bool,
    },
    /// Get a reply to every message of this node that is on its way, and every answer to every peer;
    /// then say [`Event::LinksDrained`]. From here on this node ends, whatever comes.
    DrainLinks {
        /// How long the replies may take.
        calls: Duration,
    },
    /// Answer a request.
    Reply {
        /// From the request.
        request: RequestId,
        /// The answer.
        reply: Reply,
    },
    /// Tell whoever listens.
    Emit(HubEvent),
    /// A member looks at the cluster, or answers who does.
    Observed {
        /// The member.
        from: NodeRun,
        /// How it came; an answer goes back the same way.
        way: Way,
        /// The word.
        word: ObserveWord,
    },
}

/// The way of a word from member to member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Over their own link.
    Straight,
    /// By a member that has links to both.
    By(NodeId),
}
