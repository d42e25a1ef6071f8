//! One peer, as all threads see it: whether a link to it is wanted, and the one that stands.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::{control::CloseWord, greet::Greeted, outbox::Outbox};
use crate::model::id::NodeId;

/// How many connections of one peer may be in their greeting or wait to be judged.
const CANDIDATES: usize = 4;

#[derive(Default)]
struct State {
    /// Where to dial it, if a link is wanted.
    wanted: Option<Vec<String>>,
    /// Why the link is to be closed, if it is.
    unwanted: Option<String>,
    /// Forget the backoff.
    hurry: bool,
    /// Ask whether the link still works.
    doubt: bool,
    /// The link that stands.
    outbox: Option<Arc<Outbox>>,
}

/// What changed for the keeper since it last looked.
pub(super) struct Wish {
    /// Why the link is to be closed, if it is.
    pub(super) unwanted: Option<String>,
    /// Dial at once.
    pub(super) hurry: bool,
    /// Ask whether the link still works.
    pub(super) doubt: bool,
}

/// One peer, as all threads see it.
pub(super) struct Peer {
    pub(super) node: NodeId,
    /// Connections that were greeted, for the keeper to judge.
    candidates: mpsc::Sender<Box<Greeted>>,
    /// Cancelled when the keeper has ended.
    pub(super) finished: CancellationToken,
    state: Mutex<State>,
    changed: Notify,
}

impl Peer {
    /// The peer, and the connections that its keeper is offered.
    pub(super) fn new(node: NodeId) -> (Arc<Self>, mpsc::Receiver<Box<Greeted>>) {
        let (candidates, offered) = mpsc::channel(CANDIDATES);
        let peer = Self {
            node,
            candidates,
            finished: CancellationToken::new(),
            state: Mutex::default(),
            changed: Notify::new(),
        };
        (Arc::new(peer), offered)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Offers a connection. Without room it is dropped, which closes it: as many of this peer wait
    /// already.
    pub(super) fn offer(&self, greeted: Greeted) {
        let _ = self.candidates.try_send(Box::new(greeted));
    }

    /// A link is wanted.
    pub(super) fn want(&self, addresses: Vec<String>) {
        let mut state = self.state();
        // A link that is being closed on request is not wanted back sooner than that.
        if state.wanted.as_ref() != Some(&addresses) {
            state.wanted = Some(addresses);
            state.hurry = true;
            drop(state);
            self.changed.notify_one();
        }
    }

    /// No link is wanted; the one there is is closed.
    pub(super) fn unwant(&self, reason: &str) {
        let mut state = self.state();
        state.wanted = None;
        self.close(state, reason);
    }

    /// No link may be; the one there is is closed. It stays wanted, for when it may be.
    pub(super) fn sever(&self, reason: &str) {
        self.close(self.state(), reason);
    }

    /// Closes the link, to be dialled anew at these addresses, unless a byte has come over it since
    /// this was asked before. Whether it is closed.
    pub(super) fn renew_if_silent(&self, addresses: Vec<String>, reason: &str) -> bool {
        let mut state = self.state();
        let is_silent = state.outbox.as_ref().is_some_and(|outbox| outbox.is_silent());
        if is_silent {
            state.wanted = Some(addresses);
            state.hurry = true;
            self.close(state, reason);
        }
        is_silent
    }

    fn close(&self, mut state: MutexGuard<'_, State>, reason: &str) {
        if let Some(outbox) = state.outbox.take() {
            outbox.close(CloseWord::Closed(reason.to_owned()), false);
        }
        state.unwanted = Some(reason.to_owned());
        drop(state);
        self.changed.notify_one();
    }

    /// Dial at once, if at all.
    pub(super) fn hurry(&self) {
        self.state().hurry = true;
        self.changed.notify_one();
    }

    /// Ask whether the link still works, and dial anew if it does not.
    pub(super) fn doubt(&self) {
        self.state().doubt = true;
        self.changed.notify_one();
    }

    /// Where to dial it, if a link is wanted.
    pub(super) fn wanted(&self) -> Option<Vec<String>> {
        self.state().wanted.clone()
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.state().wanted.is_some()
    }

    /// Whether a link is wanted and there is an address to dial.
    pub(super) fn can_be_dialled(&self) -> bool {
        self.state().wanted.as_ref().is_some_and(|addresses| !addresses.is_empty())
    }

    /// Waits until what is wished of the keeper changed.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What is wished of the keeper since the last call.
    pub(super) fn take_wish(&self) -> Wish {
        let mut state = self.state();
        let unwanted = state.unwanted.take();
        let hurry = std::mem::take(&mut state.hurry) && state.wanted.is_some();
        let doubt = std::mem::take(&mut state.doubt);
        Wish { unwanted, hurry, doubt }
    }

    /// What waits to be sent, if a link stands.
    pub(super) fn outbox(&self) -> Option<Arc<Outbox>> {
        self.state().outbox.clone()
    }

    /// A link stands, or none any more.
    pub(super) fn set_outbox(&self, outbox: Option<Arc<Outbox>>) {
        self.state().outbox = outbox;
    }
}
