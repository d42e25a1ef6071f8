//! Keeps at most one link to a peer, and at least one if it is wanted.

use std::{net::IpAddr, sync::Arc, time::Duration};

use tokio::{
    io::AsyncWriteExt,
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    NetEvent,
    addresses::Addresses,
    backoff::{Backoff, HIGHER_WAITS},
    birth::Age,
    carrier::DialFailure,
    control::{CloseWord, Frame, put_frame},
    dialler::Dialler,
    greet::{GreetFailure, Greeted, Greeter, say_and_close},
    link::{self, LinkContext},
    outbox::Outbox,
    peer::{Peer, Wish},
    peers::Peers,
    teller::Teller,
};
use crate::model::{address::ip_of, id::NodeId};

/// What a keeper needs of its node.
#[derive(Clone)]
pub(super) struct Means {
    pub(super) me: NodeId,
    pub(super) peers: Arc<Peers>,
    pub(super) dialler: Arc<Dialler>,
    pub(super) greeter: Arc<Greeter>,
    pub(super) teller: Arc<Teller>,
    pub(super) addresses: Arc<Addresses>,
    pub(super) context: LinkContext,
    /// How long an old link may take to show that it is alive.
    pub(super) patience: Duration,
    /// Nobody dials or listens any more; what is queued is flushed.
    pub(super) stop: CancellationToken,
}

/// A link that stands.
struct Standing {
    outbox: Arc<Outbox>,
    task: JoinHandle<()>,
    since: Instant,
    /// How old the peer's run was then.
    age: Age,
    /// Where the peer is, as it says.
    address: String,
    /// The other end's address, while the peer says that it has it.
    remote: Option<IpAddr>,
}

impl Standing {
    /// To a peer that says it has these addresses, over a connection to that one.
    fn new(
        outbox: Arc<Outbox>,
        task: JoinHandle<()>,
        age: Age,
        addresses: &[String],
        connected: &str,
    ) -> Self {
        let remote = ip_of(connected).filter(|ip| is_among(*ip, addresses));
        let address = addresses.first().map_or(connected, String::as_str).to_owned();
        Self { outbox, task, since: Instant::now(), age, address, remote }
    }

    /// How old the peer's run is by now.
    fn age(&self) -> Age {
        self.age.after(self.since.elapsed())
    }

    /// Whether the peer itself has no such link any more, as it says in a Hello of `greeted`. What it
    /// said before the link stood on both ends says nothing of it.
    fn is_lost(&self, greeted: &Greeted, patience: Duration) -> bool {
        let hello = &greeted.hello;
        let stood = self.since.elapsed().saturating_sub(greeted.since());
        hello.me.run() == self.outbox.run && !hello.linked && stood > patience
    }

    /// Whether the peer had the address at which the link ends, and has it no more. Once.
    fn has_moved(&mut self, addresses: &[String]) -> bool {
        let moved = self.remote.is_some_and(|ip| !is_among(ip, addresses));
        if moved {
            self.remote = None;
        }
        moved
    }
}

fn is_among(ip: IpAddr, addresses: &[String]) -> bool {
    addresses.iter().any(|address| ip_of(address) == Some(ip))
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
    means: Means,
    peer: Arc<Peer>,
    link: Option<Standing>,
    dial: Option<JoinHandle<Result<(), DialFailure>>>,
    /// When to dial next, if a link is wanted and there is none.
    next_dial: Instant,
    backoff: Backoff,
}

/// Keeps the one link to this peer, until there is nothing left to keep.
pub(super) async fn keep(
    means: Means,
    peer: Arc<Peer>,
    mut candidates: mpsc::Receiver<Box<Greeted>>,
) {
    let _finished = peer.finished.clone().drop_guard();
    let mut keeper = Keeper {
        means,
        peer,
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
                let stop = keeper.means.stop.clone();
                tokio::select! {
                    biased;
                    () = keeper.judge(*greeted) => {}
                    () = stop.cancelled() => return keeper.stop().await,
                }
            }
            Wake::LinkEnded => keeper.link_ended(),
            Wake::Dialled(outcome) => keeper.dialled(outcome).await,
            Wake::Dial => keeper.start_dial(),
            Wake::Changed => {
                let stop = keeper.means.stop.clone();
                tokio::select! {
                    biased;
                    () = keeper.changed() => {}
                    () = stop.cancelled() => return keeper.stop().await,
                }
            }
        }
        if keeper.link.is_none() && keeper.dial.is_none() {
            let peer = &keeper.peer;
            let is_idle = || candidates.is_empty() && !peer.is_wanted();
            if keeper.means.peers.forget(peer.node, is_idle) {
                return;
            }
        }
    }
}

impl Keeper {
    async fn next(&mut self, candidates: &mut mpsc::Receiver<Box<Greeted>>) -> Wake {
        let may_dial = self.link.is_none()
            && self.dial.is_none()
            && self.peer.can_be_dialled()
            && self.means.greeter.refusal(self.peer.node).is_none();
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
            () = self.means.stop.cancelled() => Wake::Stop,
            () = link_ended => Wake::LinkEnded,
            Some(greeted) = candidates.recv() => Wake::Candidate(greeted),
            outcome = dialled => Wake::Dialled(outcome.unwrap_or_else(|error| {
                Err(DialFailure::Unreachable(error.to_string()))
            })),
            () = self.peer.changed() => Wake::Changed,
            () = sleep_until(self.next_dial), if may_dial => Wake::Dial,
        }
    }

    /// The lower id dials at once; the higher one gives the other a moment.
    fn dial_soon(&mut self) {
        self.backoff = Backoff::new();
        self.next_dial = Instant::now();
        if self.means.me > self.peer.node {
            self.next_dial += HIGHER_WAITS;
        }
    }

    fn start_dial(&mut self) {
        let Some(addresses) = self.peer.wanted() else {
            return;
        };
        let Means { dialler, greeter, teller, .. } = self.means.clone();
        let peer = Arc::clone(&self.peer);
        self.dial = Some(tokio::spawn(async move {
            let connection = dialler.dial(Some(peer.node), addresses).await?;
            let address = connection.address.clone();
            match greeter.greet(connection).await {
                Ok(greeted) => {
                    teller.greeted(peer.node);
                    peer.offer(greeted);
                }
                Err(failure) => teller.failed(peer.node, &address, &failure).await,
            }
            Ok(())
        }));
    }

    async fn dialled(&mut self, outcome: Result<(), DialFailure>) {
        self.dial = None;
        self.next_dial = Instant::now() + self.backoff.next();
        if let Err(failure) = outcome {
            // An older wish may have been withdrawn meanwhile.
            if self.link.is_none() && self.peer.is_wanted() {
                let refused = matches!(failure, DialFailure::Refused);
                let node = self.peer.node;
                self.means.teller.tell(NetEvent::Unreachable { node, refused }).await;
            }
        }
    }

    async fn changed(&mut self) {
        let Wish { unwanted, hurry, doubt } = self.peer.take_wish();
        if let Some(reason) = unwanted {
            if let Some(dial) = self.dial.take() {
                dial.abort();
            }
            if let Some(link) = &self.link {
                link.outbox.close(CloseWord::Closed(reason), false);
            }
        }
        if hurry {
            self.dial_soon();
        }
        let addresses = self.peer.wanted().filter(|addresses| !addresses.is_empty());
        let has_moved = match (&mut self.link, addresses) {
            (Some(link), Some(addresses)) => link.has_moved(&addresses),
            _ => false,
        };
        if doubt || has_moved {
            // Well within the time after which others take this node, or the other one, for dead.
            if let Some(link) = &self.link
                && !link.outbox.probe(self.means.patience / 2).await
            {
                let reason = "an address of one end is gone, and the peer does not answer";
                self.close_link(CloseWord::Closed(reason.to_owned()), false).await;
            }
            // The other end may not know, and will not dial.
            self.next_dial = Instant::now();
        }
    }

    fn link_ended(&mut self) {
        self.link = None;
        self.means.addresses.unseen(self.peer.node);
        self.peer.set_outbox(None);
        self.dial_soon();
        self.means.peers.changed();
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
        // Since it was greeted it may have been blocked.
        if let Some(reason) = self.means.greeter.refusal(self.peer.node) {
            let word = CloseWord::Closed(reason.to_owned());
            self.decline(greeted, word.clone(), &word.into()).await;
            return;
        }
        if let Some(link) = &self.link {
            let patience = self.means.patience;
            let is_lost = link.is_lost(&greeted, patience);
            if !is_lost && link.outbox.probe(patience).await {
                let another = || format!("another run of {} is linked and answers", self.peer.node);
                // Who is told that it is the second of two processes ends. So only who certainly is,
                // by the same measure on every node: two members may have met the two runs in
                // different order.
                let (word, failure) = if link.outbox.run == run {
                    (CloseWord::Duplicate, GreetFailure::Duplicate)
                } else if greeted.age().is_certainly_second_to(&link.age(), patience) {
                    let word = CloseWord::Twin(link.address.clone());
                    (word, GreetFailure::Refused(another()))
                } else {
                    (CloseWord::Refused(another()), GreetFailure::Refused(another()))
                };
                self.decline(greeted, word, &failure).await;
                return;
            }
            let reason = match is_lost {
                true => "the peer has lost it and comes by a newer connection",
                false => "a newer connection replaces it",
            };
            self.close_link(CloseWord::Closed(reason.to_owned()), false).await;
        }
        if let Err(failure) = self.agree(&mut greeted).await {
            let word = CloseWord::Closed("not agreed on in time".to_owned());
            self.decline(greeted, word, &failure).await;
            return;
        }
        let outbox = Arc::new(Outbox::new(run));
        let age = greeted.age();
        if let Some(ip) = greeted.hello.seen.filter(|_| greeted.connection.dialled) {
            self.means.addresses.seen(self.peer.node, ip);
        }
        let addresses = greeted.hello.me.addresses.clone();
        let connected = greeted.connection.address.clone();
        self.peer.set_outbox(Some(Arc::clone(&outbox)));
        let context = self.means.context.clone();
        let task = tokio::spawn(link::run(context, greeted, Arc::clone(&outbox)));
        self.link = Some(Standing::new(outbox, task, age, &addresses, &connected));
        self.means.peers.changed();
    }

    /// Closes a connection of which nothing was told yet.
    async fn decline(&self, greeted: Greeted, word: CloseWord, failure: &GreetFailure) {
        let Greeted { writer, connection, .. } = greeted;
        let address = connection.address.clone();
        tokio::spawn(say_and_close(connection, writer, bytes::BytesMut::new(), word));
        self.means.teller.failed(self.peer.node, &address, failure).await;
    }

    /// The lower id chooses, the higher one agrees.
    async fn agree(&self, greeted: &mut Greeted) -> Result<(), GreetFailure> {
        let chooses = self.means.me < self.peer.node;
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
        timeout(self.means.greeter.deadline, agreed).await.map_err(late)?
    }
}
