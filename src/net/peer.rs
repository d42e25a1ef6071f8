//! One peer: keeps at most one link to it, and at least one if it is wanted.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt,
    sync::{Notify, mpsc},
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    NetEvent,
    carrier::DialFailure,
    control::{CloseWord, Frame, put_frame},
    greet::{GreetFailure, Greeted},
    link,
    links::{Links, decline},
    outbox::Outbox,
};
use crate::model::id::NodeId;

/// How long the node with the higher id waits for the other to dial.
pub(super) const HIGHER_WAITS: Duration = Duration::from_millis(300);

/// Waits between dials: 100 ms at first, twice as long each time, 5 s at most, each up to a
/// quarter shorter or longer.
pub(super) struct Backoff {
    wait: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const LAST: Duration = Duration::from_secs(5);

    pub(super) fn new() -> Self {
        Self { wait: Self::FIRST }
    }

    /// How long to wait before the next dial.
    pub(super) fn next(&mut self) -> Duration {
        let wait = self.wait;
        self.wait = (wait * 2).min(Self::LAST);
        // Without a source of chance, nodes dial in step: no harm.
        let chance = getrandom::u32().unwrap_or(u32::MAX / 2);
        wait.mul_f64(0.75 + 0.5 * f64::from(chance) / f64::from(u32::MAX))
    }
}

#[derive(Default)]
struct State {
    /// Where to dial it, if a link is wanted.
    wanted: Option<Vec<String>>,
    /// Why the link is to be closed, if it is.
    unwanted: Option<String>,
    /// Forget the backoff.
    hurry: bool,
    /// The link that stands.
    outbox: Option<Arc<Outbox>>,
}

/// One peer, as all threads see it.
pub(super) struct Peer {
    node: NodeId,
    /// Connections that were greeted, for the keeper to judge.
    pub(super) candidates: mpsc::Sender<Greeted>,
    /// Cancelled when the keeper has ended.
    pub(super) finished: CancellationToken,
    state: Mutex<State>,
    changed: Notify,
}

impl Peer {
    pub(super) fn new(node: NodeId, candidates: mpsc::Sender<Greeted>) -> Self {
        Self {
            node,
            candidates,
            finished: CancellationToken::new(),
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// What waits to be sent, if a link stands.
    pub(super) fn outbox(&self) -> Option<Arc<Outbox>> {
        self.state().outbox.clone()
    }
}

/// A link that stands.
struct Standing {
    outbox: Arc<Outbox>,
    task: JoinHandle<()>,
}

/// What the keeper waits for.
enum Wake {
    Stop,
    Candidate(Box<Greeted>),
    LinkEnded,
    Dialled(Result<(), DialFailure>),
    Dial,
    Changed,
}

struct Keeper {
    links: Arc<Links>,
    peer: Arc<Peer>,
    link: Option<Standing>,
    dial: Option<JoinHandle<Result<(), DialFailure>>>,
    /// When to dial next, if a link is wanted and there is none.
    next_dial: Instant,
    backoff: Backoff,
}

impl Peer {
    /// Keeps the one link to this peer, until there is nothing left to keep.
    pub(super) async fn keep(
        self: Arc<Self>,
        links: Arc<Links>,
        mut candidates: mpsc::Receiver<Greeted>,
    ) {
        let mut keeper = Keeper {
            links,
            peer: self,
            link: None,
            dial: None,
            next_dial: Instant::now(),
            backoff: Backoff::new(),
        };
        keeper.dial_soon();
        loop {
            match keeper.next(&mut candidates).await {
                Wake::Stop => return keeper.stop().await,
                Wake::Candidate(greeted) => {
                    let stop = keeper.links.stop.clone();
                    tokio::select! {
                        biased;
                        () = keeper.judge(*greeted) => {}
                        () = stop.cancelled() => return keeper.stop().await,
                    }
                }
                Wake::LinkEnded => keeper.link_ended(),
                Wake::Dialled(outcome) => keeper.dialled(outcome).await,
                Wake::Dial => keeper.start_dial(),
                Wake::Changed => keeper.changed(),
            }
            if keeper.link.is_none() && keeper.dial.is_none() {
                let peer = &keeper.peer;
                let is_idle = || candidates.is_empty() && peer.state().wanted.is_none();
                if keeper.links.forget(peer.node, is_idle) {
                    return;
                }
            }
        }
    }
}

impl Keeper {
    async fn next(&mut self, candidates: &mut mpsc::Receiver<Greeted>) -> Wake {
        let may_dial = self.link.is_none() && self.dial.is_none() && {
            self.peer.state().wanted.as_ref().is_some_and(|addresses| !addresses.is_empty())
        };
        let link_ended = async {
            match &mut self.link {
                Some(link) => drop((&mut link.task).await),
                None => std::future::pending().await,
            }
        };
        let dialled = async {
            match &mut self.dial {
                Some(dial) => dial.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.links.stop.cancelled() => Wake::Stop,
            () = link_ended => Wake::LinkEnded,
            Some(greeted) = candidates.recv() => Wake::Candidate(Box::new(greeted)),
            outcome = dialled => Wake::Dialled(outcome.unwrap_or_else(|error| {
                Err(DialFailure::Unreachable(error.to_string()))
            })),
            () = self.peer.changed.notified() => Wake::Changed,
            () = sleep_until(self.next_dial), if may_dial => Wake::Dial,
        }
    }

    /// The lower id dials at once; the higher one gives the other a moment.
    fn dial_soon(&mut self) {
        self.backoff = Backoff::new();
        self.next_dial = Instant::now();
        if self.links.me > self.peer.node {
            self.next_dial += HIGHER_WAITS;
        }
    }

    fn start_dial(&mut self) {
        let Some(addresses) = self.peer.state().wanted.clone() else {
            return;
        };
        let (links, node) = (Arc::clone(&self.links), self.peer.node);
        self.dial = Some(tokio::spawn(async move {
            let connection = links.dial(Some(node), addresses).await?;
            let _ = links.admit(connection).await;
            Ok(())
        }));
    }

    async fn dialled(&mut self, outcome: Result<(), DialFailure>) {
        self.dial = None;
        self.next_dial = Instant::now() + self.backoff.next();
        if let Err(failure) = outcome {
            // An older wish may have been withdrawn meanwhile.
            if self.link.is_none() && self.peer.state().wanted.is_some() {
                let refused = matches!(failure, DialFailure::Refused);
                let node = self.peer.node;
                self.links.tell(NetEvent::Unreachable { node, refused }).await;
            }
        }
    }

    fn changed(&mut self) {
        let (unwanted, wanted, hurry) = {
            let mut state = self.peer.state();
            (state.unwanted.take(), state.wanted.is_some(), std::mem::take(&mut state.hurry))
        };
        if let Some(reason) = unwanted {
            if let Some(dial) = self.dial.take() {
                dial.abort();
            }
            if let Some(link) = &self.link {
                link.outbox.close(CloseWord::Closed(reason), false);
            }
        }
        if wanted && hurry {
            self.dial_soon();
        }
    }

    fn link_ended(&mut self) {
        self.link = None;
        self.peer.state().outbox = None;
        self.dial_soon();
        self.links.changes.send_modify(|changes| *changes += 1);
    }

    async fn close_link(&mut self, word: CloseWord, flush: bool) {
        if let Some(link) = &mut self.link {
            link.outbox.close(word, flush);
            let _ = (&mut link.task).await;
            self.link_ended();
        }
    }

    async fn stop(&mut self) {
        if let Some(dial) = self.dial.take() {
            dial.abort();
        }
        self.close_link(CloseWord::Closed("the node stops".to_owned()), true).await;
    }

    /// Takes a connection into use, or closes it. What a newer connection replaces must have
    /// proved dead: an older link that answers stays.
    async fn judge(&mut self, mut greeted: Greeted) {
        let run = greeted.hello.me.run();
        if let Some(link) = &self.link {
            if link.outbox.probe(self.links.probe_patience()).await {
                let word = if link.outbox.run == run {
                    CloseWord::Duplicate
                } else {
                    CloseWord::Refused(format!(
                        "another run of {} is linked and answers",
                        self.peer.node
                    ))
                };
                let failure = GreetFailure::from(word.clone());
                let address = greeted.connection.address.clone();
                tokio::spawn(decline(greeted, word));
                self.links.tell_failure(self.peer.node, &address, &failure).await;
                return;
            }
            let word = CloseWord::Closed("a newer connection replaces it".to_owned());
            self.close_link(word, false).await;
        }
        if let Err(failure) = self.agree(&mut greeted).await {
            let address = greeted.connection.address.clone();
            let word = CloseWord::Closed("not agreed on in time".to_owned());
            tokio::spawn(decline(greeted, word));
            self.links.tell_failure(self.peer.node, &address, &failure).await;
            return;
        }
        let outbox = Arc::new(Outbox::new(run));
        self.peer.state().outbox = Some(Arc::clone(&outbox));
        let context = self.links.context.clone();
        let task = tokio::spawn(link::run(context, greeted, Arc::clone(&outbox)));
        self.link = Some(Standing { outbox, task });
        self.links.changes.send_modify(|changes| *changes += 1);
    }

    /// The lower id chooses, the higher one agrees.
    async fn agree(&self, greeted: &mut Greeted) -> Result<(), GreetFailure> {
        let chooses = self.links.me < self.peer.node;
        let mut frame = bytes::BytesMut::new();
        put_frame(&mut frame, if chooses { &Frame::Use } else { &Frame::Using });
        let agreed = async {
            greeted.writer.write_all(&frame).await?;
            greeted.writer.flush().await?;
            if !chooses {
                return Ok(());
            }
            match greeted.reader.next().await? {
                Frame::Using => Ok(()),
                Frame::Close(word) => Err(word.into()),
                _ => Err(GreetFailure::Broken("another word than Using".to_owned())),
            }
        };
        let late = |_| GreetFailure::Broken("not agreed on within the deadline".to_owned());
        timeout(self.links.deadline(), agreed).await.map_err(late)?
    }
}
