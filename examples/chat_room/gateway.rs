//! The gateway: a plain actor on each node for each room that is shown there.
//!
//! It listens to the room's topic and tells the pages of this node. When it has missed a line, which
//! shows in the numbers, it asks the room; once a second it does so anyway, as the line that it
//! missed may be the last one. It keeps what it has seen; should the room's node die without a
//! hand-over, the room begins a new life with no lines, and each gateway gives it back what it knows.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use actix::prelude::*;
use actix_hub::prelude::*;
use serde::Serialize;
use tokio::sync::{mpsc, watch};

use crate::{
    node::Cluster,
    room::{BATCH, Feed, Line, Room, Said, Say, Since, Status, What},
};

/// Between two looks at the picture of the cluster.
const LOOK: Duration = Duration::from_millis(100);
/// Between two questions to the room when nothing is known to be missing.
const ASK: Duration = Duration::from_secs(1);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(2);
/// How long a line is tried before its writer is told. The room takes it once in any case.
const TRY: Duration = Duration::from_secs(10);
/// Lines kept here.
const KEPT: usize = 1_000;
/// Rooms shown by one node.
const ROOMS: usize = 200;
/// Pages of one room on one node.
const PAGES: usize = 200;
/// Words that wait for a page; one that reads slower is closed, and comes back.
const UNREAD: usize = 256;

/// What a page is told, as JSON.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum Tell<'a> {
    /// Further lines. With another life than before: forget the lines you have.
    Lines { life: u64, lines: Vec<&'a Line> },
    /// Where the room runs, and who is in it.
    Room(&'a Status),
    /// The nodes, and what runs on them.
    Cluster(&'a Cluster),
    /// The room does not answer. Nothing is lost; lines wait. Once it answers, a `Room` follows.
    Trouble { message: String },
    /// This node lives. A page hears no pings, so it is told in words.
    Alive,
    /// What you asked for is not done, and never will be; `id` names the line if it was one.
    Error { id: Option<&'a str>, message: String },
    /// This node is gone; go to another.
    Bye,
}

impl Tell<'_> {
    pub(crate) fn json(&self) -> Arc<str> {
        serde_json::to_string(self).expect("plain data is always JSON").into()
    }
}

/// The gateways of a node.
#[derive(Clone)]
pub(crate) struct Gateways {
    hub: Hub,
    cluster: watch::Receiver<Cluster>,
    arbiter: ArbiterHandle,
    all: Arc<Mutex<HashMap<String, Addr<Gateway>>>>,
}

impl Gateways {
    pub(crate) fn new(hub: Hub, cluster: watch::Receiver<Cluster>) -> Self {
        Self { hub, cluster, arbiter: Arbiter::current(), all: Arc::default() }
    }

    /// The gateway of a room, which starts the room if nobody did so far.
    pub(crate) fn open(&self, room: &str) -> Result<Addr<Gateway>, String> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gateway) = all.get(room) {
            return Ok(gateway.clone());
        }
        if all.len() >= ROOMS {
            return Err(format!("this node shows {ROOMS} rooms already"));
        }
        let (hub, cluster, name) = (self.hub.clone(), self.cluster.clone(), room.to_owned());
        let gateway =
            Gateway::start_in_arbiter(&self.arbiter, |_| Gateway::new(hub, cluster, name));
        all.insert(room.to_owned(), gateway.clone());
        Ok(gateway)
    }

    /// Tells every page to go to another node.
    pub(crate) fn bye(&self) {
        for gateway in self.all.lock().unwrap_or_else(PoisonError::into_inner).values() {
            gateway.do_send(Bye);
        }
    }
}

struct Page {
    user: String,
    words: mpsc::Sender<Arc<str>>,
}

pub(crate) struct Gateway {
    hub: Hub,
    cluster: watch::Receiver<Cluster>,
    id: String,
    child: ChildRef<Room>,
    /// The room's life as far as it is known here; 0 before the first answer.
    life: watch::Sender<u64>,
    lines: VecDeque<Line>,
    status: Option<Status>,
    asking: bool,
    asked: Instant,
    answered: Instant,
    /// The pages were told that the room does not answer.
    troubled: bool,
    pages: BTreeMap<u64, Page>,
    next_page: u64,
}

impl Gateway {
    fn new(hub: Hub, cluster: watch::Receiver<Cluster>, room: String) -> Self {
        // The prefix keeps rooms apart from other children of this hub.
        let id = format!("room/{room}");
        Self {
            child: hub.child(&id),
            hub,
            cluster,
            id,
            life: watch::Sender::new(0),
            lines: VecDeque::new(),
            status: None,
            asking: false,
            asked: Instant::now(),
            answered: Instant::now(),
            troubled: false,
            pages: BTreeMap::new(),
            next_page: 1,
        }
    }

    fn ask(&mut self, ctx: &mut Context<Self>) {
        if self.asking {
            return;
        }
        (self.asking, self.asked) = (true, Instant::now());
        let since = Since {
            life: *self.life.borrow(),
            after: self.lines.back().map_or(0, |line| line.number),
            node: (self.hub.node_id().to_string(), self.hub.node_name().to_string()),
            users: self.pages.values().map(|page| page.user.clone()).collect(),
        };
        let answer = self.child.send(since).timeout(ANSWER);
        ctx.spawn(answer.into_actor(self).map(|answer, me, ctx| {
            me.asking = false;
            match answer {
                Ok(feed) => {
                    me.answered = Instant::now();
                    if feed.life != *me.life.borrow() && !me.lines.is_empty() {
                        me.give_back(feed.life, ctx);
                    } else {
                        me.take(feed, ctx);
                    }
                }
                // Asked again soon, wherever the room is then.
                Err(error) => me.trouble(error.to_string()),
            }
        }));
    }

    /// Takes in what follows the last line that is known, and asks if there is more.
    fn take(&mut self, mut feed: Feed, ctx: &mut Context<Self>) {
        let is_new =
            self.life.send_if_modified(|known| std::mem::replace(known, feed.life) != feed.life);
        let last = |me: &Self| me.lines.back().map_or(0, |line| line.number);
        let known = last(self);
        feed.lines.retain(|line| line.number > known);
        if !feed.lines.is_empty() || is_new {
            self.tell(&Tell::Lines { life: feed.life, lines: feed.lines.iter().collect() });
        }
        self.lines.extend(feed.lines);
        self.lines.drain(..self.lines.len().saturating_sub(KEPT));
        if let Some(status) = feed.status {
            if std::mem::take(&mut self.troubled) || self.status.as_ref() != Some(&status) {
                self.tell(&Tell::Room(&status));
            }
            self.status = Some(status);
        }
        if last(self) < feed.last {
            self.ask(ctx);
        }
    }

    /// The room began anew. It gets the lines that were seen here; then all are read again, so that
    /// every page shows the one order that the room gives them.
    fn give_back(&mut self, life: u64, ctx: &mut Context<Self>) {
        let child = self.child.clone();
        let lines = self.lines.make_contiguous();
        let batches: Vec<Vec<Line>> = lines.chunks(BATCH).map(<[Line]>::to_vec).collect();
        self.asking = true;
        let give = async move {
            for lines in batches {
                if child.send(Say { life, lines }).timeout(ANSWER).await? == Said::OtherLife {
                    return Ok(false);
                }
            }
            Ok::<bool, HubSendError>(true)
        };
        ctx.spawn(give.into_actor(self).map(move |given, me, ctx| {
            me.asking = false;
            if let Ok(true) = given {
                me.lines.clear();
                me.life.send_replace(life);
                me.tell(&Tell::Lines { life, lines: Vec::new() });
                me.ask(ctx);
            }
        }));
    }

    fn trouble(&mut self, message: String) {
        // Moves and fail-overs take less; who sees a notice for each of them learns to ignore it.
        if self.answered.elapsed() > ANSWER {
            self.troubled = true;
            self.tell(&Tell::Trouble { message });
        }
    }

    fn tell(&mut self, word: &Tell<'_>) {
        let word = word.json();
        self.pages.retain(|_, page| page.words.try_send(word.clone()).is_ok());
    }
}

impl Actor for Gateway {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        match self.hub.subscribe(&self.id, ctx.address().recipient::<Feed>()) {
            Ok(subscription) => subscription.detach(), // until this actor ends
            Err(error) => tracing::warn!(%error, id = self.id, "it asks once a second"),
        }
        self.ask(ctx);
        ctx.run_interval(LOOK, |me, ctx| {
            let changed = me.cluster.has_changed().unwrap_or(false);
            if changed {
                let cluster = me.cluster.borrow_and_update().clone();
                me.tell(&Tell::Cluster(&cluster));
            }
            // The room may have moved.
            if changed || me.asked.elapsed() >= ASK {
                me.ask(ctx);
            }
        });
    }
}

/// What the room publishes comes at most once: it may begin a life, or behind lines, that are not
/// known here.
impl Handler<Feed> for Gateway {
    type Result = ();

    fn handle(&mut self, feed: Feed, ctx: &mut Self::Context) {
        let next = self.lines.back().map_or(1, |line| line.number + 1);
        let follows = feed.lines.first().is_none_or(|line| line.number <= next);
        if feed.life == *self.life.borrow() && follows {
            self.take(feed, ctx);
        } else {
            self.ask(ctx);
        }
    }
}

/// A page came; it is told everything, and then what changes. Answered with its number.
#[derive(Message)]
#[rtype(result = "Result<(u64, mpsc::Receiver<Arc<str>>), String>")]
pub(crate) struct Join {
    pub user: String,
}

impl Handler<Join> for Gateway {
    type Result = Result<(u64, mpsc::Receiver<Arc<str>>), String>;

    fn handle(&mut self, Join { user }: Join, ctx: &mut Self::Context) -> Self::Result {
        if self.pages.len() >= PAGES {
            return Err(format!("this node has {PAGES} pages of this room already"));
        }
        let (words, receiver) = mpsc::channel(UNREAD);
        let mut first = vec![Tell::Cluster(&self.cluster.borrow()).json()];
        let life = *self.life.borrow();
        if let Some(status) = &self.status {
            first.push(Tell::Room(status).json());
            first.push(Tell::Lines { life, lines: self.lines.iter().collect() }.json());
        }
        for word in first {
            words.try_send(word).map_err(|_| "no room for the first words")?;
        }
        let number = self.next_page;
        self.next_page += 1;
        self.pages.insert(number, Page { user, words });
        self.ask(ctx);
        Ok((number, receiver))
    }
}

/// A page went.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Part(pub u64);

impl Handler<Part> for Gateway {
    type Result = ();

    fn handle(&mut self, Part(number): Part, ctx: &mut Self::Context) {
        self.pages.remove(&number);
        self.ask(ctx);
    }
}

/// Have a line said, however often that must be tried.
#[derive(Message)]
#[rtype(result = "Result<(), NotSaid>")]
pub(crate) struct Write {
    pub id: String,
    pub user: String,
    pub text: String,
}

/// Why a line was not said, as far as is known.
pub(crate) enum NotSaid {
    /// It never will be.
    Refused(String),
    /// The room did not answer in time. Trying again is safe: it takes the line once.
    Late(String),
}

impl Handler<Write> for Gateway {
    type Result = ResponseActFuture<Self, Result<(), NotSaid>>;

    fn handle(&mut self, Write { id, user, text }: Write, _: &mut Self::Context) -> Self::Result {
        let node = self.hub.node_name().to_string();
        let what = What::Said { user, node, text };
        let line = Line { number: 0, id, at: 0, what };
        Box::pin(say(self.child.clone(), self.life.subscribe(), line).into_actor(self))
    }
}

async fn say(
    child: ChildRef<Room>,
    mut life: watch::Receiver<u64>,
    line: Line,
) -> Result<(), NotSaid> {
    let end = Instant::now() + TRY;
    let mut problem = String::from("the room does not answer");
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()) {
        let known = *life.borrow_and_update();
        if known != 0 {
            let say = Say { life: known, lines: vec![line.clone()] };
            match child.send(say).timeout(left.min(ANSWER)).await {
                Ok(Said::Yes) => return Ok(()),
                Ok(Said::Refused(problem)) => return Err(NotSaid::Refused(problem)),
                Ok(Said::OtherLife) => {}
                Err(error) => problem = error.to_string(),
            }
        }
        // A new life shows here as soon as it is complete.
        let _ = tokio::time::timeout(LOOK, life.changed()).await;
    }
    Err(NotSaid::Late(problem))
}

/// The lines after `after`, as far as they are known on this node.
#[derive(Message)]
#[rtype(result = "Lines")]
pub(crate) struct Read {
    pub life: u64,
    pub after: u64,
}

/// The answer to [`Read`].
#[derive(MessageResponse, Serialize)]
pub(crate) struct Lines {
    /// 0 if nothing is known yet.
    life: u64,
    lines: Vec<Line>,
}

impl Handler<Read> for Gateway {
    type Result = Lines;

    fn handle(&mut self, Read { life, after }: Read, _: &mut Self::Context) -> Lines {
        let known = *self.life.borrow();
        let after = if life == known { after } else { 0 };
        let lines = self.lines.iter().filter(|line| line.number > after).cloned().collect();
        Lines { life: known, lines }
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Bye;

impl Handler<Bye> for Gateway {
    type Result = ();

    fn handle(&mut self, Bye: Bye, ctx: &mut Self::Context) {
        self.tell(&Tell::Bye);
        self.pages.clear();
        ctx.stop();
    }
}

#[cfg(test)]
mod tests {
    use actix_hub::Settings;

    use super::*;

    const WAIT: Duration = Duration::from_secs(60);

    fn line(id: usize, length: usize) -> Line {
        let (user, node) = ("ann".to_owned(), "a".to_owned());
        let what = What::Said { user, node, text: "x".repeat(length) };
        Line { number: 0, id: id.to_string(), at: 0, what }
    }

    /// The numbers of the lines that a page is told, up to this one.
    async fn numbers_to(page: &mut mpsc::Receiver<Arc<str>>, last: u64) -> Vec<u64> {
        let mut numbers = Vec::new();
        while numbers.last() != Some(&last) {
            let word = tokio::time::timeout(WAIT, page.recv()).await;
            let word = word.expect("the page is told").expect("the gateway is there");
            let word: serde_json::Value = serde_json::from_str(&word).expect("it is JSON");
            let lines = word["lines"].as_array().into_iter().flatten();
            numbers.extend(lines.map(|line| line["number"].as_u64().expect("a number")));
        }
        numbers
    }

    /// Has the room take lines while this thread, on which the gateway runs, is busy: of what is published
    /// meanwhile only the first message finds room in its queue.
    fn say_unheard(hub: &Hub, arbiter: &Arbiter, life: u64, batches: Vec<Vec<Line>>) {
        let (room, dropped) = (hub.child::<Room>("room/x"), batches.len() as u64 - 1);
        let dropped = hub.topic_counts().dropped.total() + dropped;
        let (done, all_said) = std::sync::mpsc::channel();
        arbiter.spawn(async move {
            for lines in batches {
                assert_eq!(room.send(Say { life, lines }).await, Ok(Said::Yes));
            }
            done.send(()).expect("the test waits");
        });
        all_said.recv_timeout(WAIT).expect("the room takes all");
        let end = Instant::now() + WAIT;
        while hub.topic_counts().dropped.total() < dropped {
            assert!(Instant::now() < end, "{:?}", hub.topic_counts());
            std::thread::yield_now();
        }
    }

    #[actix::test]
    async fn a_page_gets_every_line_once_also_those_that_the_topic_drops() {
        // Less than what is published at once, so that nothing more fits into the queue.
        let settings = Settings { topic_bytes: 64 << 10, ..Settings::default() };
        let builder = HubSystem::builder("test").settings(settings);
        let builder = builder.child_kind::<Room>(|kind| kind.on_demand(|_| ()));
        let hub = builder.start().await.expect("it starts");
        let (_cluster, watcher) = watch::channel(Cluster::default());
        let gateway = Gateways::new(hub.clone(), watcher).open("x").expect("there is room");
        let joined = gateway.send(Join { user: "ann".into() }).await.expect("it lives");
        let (_, mut page) = joined.expect("there is room");

        let room = hub.child::<Room>("room/x");
        let since = Since { life: 0, after: 0, node: ("b".into(), "b".into()), users: Vec::new() };
        let life = room.send(since).await.expect("it answers").life;
        let say = |id| room.send(Say { life, lines: vec![line(id, 9)] });
        let batch = |ids: std::ops::RangeInclusive<usize>| ids.map(|id| line(id, 2_000)).collect();
        let other = Arbiter::new();
        assert_eq!(say(1).await, Ok(Said::Yes));
        assert_eq!(numbers_to(&mut page, 1).await, [1]);

        // Those that came last: no later number gives away that they are missing.
        say_unheard(&hub, &other, life, vec![batch(2..=60), batch(61..=100), batch(101..=140)]);
        assert!(numbers_to(&mut page, 140).await.into_iter().eq(2..=140));
        // Those before another one.
        say_unheard(&hub, &other, life, vec![batch(141..=200), batch(201..=240)]);
        assert_eq!(say(241).await, Ok(Said::Yes));
        assert!(numbers_to(&mut page, 241).await.into_iter().eq(141..=241));
        hub.stop().await;
        other.stop();
    }
}
