//! Events as they come, over broken connections too.

use std::{
    sync::mpsc::{RecvTimeoutError, SendError, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

use crate::{
    client::{Client, Parameters},
    interrupt,
    options::EventsFilter,
    paint::Tone,
    problem::Failure,
    reply::{Event, Missed},
    screen::Screen,
    show::event_line,
    sse::Parser,
    text::{count, json_line},
    watch::Summary,
};

/// So much news may wait; whoever has more waits too.
pub(crate) const WAITING: usize = 256;
/// Between two tries to open a stream, unless the endpoint asks for another time.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// A stream that lasted so long was a good one.
const GOOD: Duration = Duration::from_secs(10);
/// The stream does not say where the replay ends; after such a silence it has.
const QUIET: Duration = Duration::from_millis(700);

/// What a follower is told.
#[derive(Debug)]
pub(crate) enum News {
    /// A stream has begun.
    Open,
    /// An event, in JSON.
    Event(String),
    /// So many events are not kept any more.
    Missed(Option<u64>),
    /// The stream broke; it is opened again after the time.
    Lost { failure: Failure, wait: Duration },
    /// The stream cannot be opened, or not again.
    Ended(Failure),
    /// How the cluster stands.
    Summary(Result<Box<Summary>, Failure>),
    /// The user has seen enough.
    Stop,
}

/// Shows the latest events; with `follow` also those that come.
pub(crate) fn events(
    client: &Client,
    screen: Screen,
    filter: &EventsFilter,
) -> Result<(), Failure> {
    let EventsFilter { replay, follow, .. } = *filter;
    let (tell, news) = sync_channel(WAITING);
    interrupt::watch(tell.clone());
    spawn(client.clone(), parameters(filter), replay, tell);
    let (mut is_open, mut left, mut is_lost) = (false, replay, false);
    loop {
        let news = if is_open && !follow {
            match news.recv_timeout(QUIET) {
                Ok(news) => news,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(()),
            }
        } else {
            news.recv().unwrap_or(News::Stop)
        };
        match news {
            News::Open => {
                is_open = true;
                if std::mem::take(&mut is_lost) {
                    screen.note(Tone::Faint, "connected again");
                }
            }
            News::Event(json) if screen.json => screen.print(&json_line(&json))?,
            News::Event(json) => screen.print(&event_line(&read(client, &json)?, screen.paint))?,
            News::Missed(missed) => screen.note(Tone::Warn, &missed_text(missed)),
            News::Lost { failure, .. } if !follow => return Err(failure),
            News::Lost { failure, wait } => {
                is_lost = true;
                screen.note(Tone::Warn, &lost_text(&failure, wait));
            }
            News::Ended(failure) => return Err(failure),
            News::Summary(_) => continue,
            News::Stop => return Ok(()),
        }
        if is_open && !follow {
            if left == 0 {
                return Ok(());
            }
            left -= 1;
        }
    }
}

pub(crate) fn read(client: &Client, json: &str) -> Result<Event, Failure> {
    serde_json::from_str(json).map_err(|error| client.odd(&error.to_string()))
}

pub(crate) fn missed_text(missed: Option<u64>) -> String {
    match missed {
        Some(number) => format!("{} not kept any more", count(number, "event is", "events are")),
        None => "some events are not kept any more".to_owned(),
    }
}

pub(crate) fn lost_text(failure: &Failure, wait: Duration) -> String {
    let reason = match failure {
        Failure::Unreachable { reason, .. } => reason.clone(),
        failure => failure.to_string().replace("\n ", ":"),
    };
    format!("the events broke off: {reason}; next try in {:.1} s", wait.as_secs_f64())
}

/// Tells the events of a node until nobody listens or the endpoint refuses for good.
pub(crate) fn spawn(client: Client, filter: Parameters, replay: u32, tell: SyncSender<News>) {
    thread::spawn(move || Follower::new(client, filter, replay, tell).run());
}

/// What is asked for, as the endpoint names it.
pub(crate) fn parameters(filter: &EventsFilter) -> Parameters {
    vec![
        ("level", filter.level.map(|level| format!("{level:?}").to_lowercase())),
        ("text", filter.contains.clone()),
        ("child", filter.child.clone()),
        ("type", filter.kind.clone()),
    ]
}

struct Follower {
    client: Client,
    filter: Parameters,
    replay: u32,
    tell: SyncSender<News>,
    /// Behind which event a new stream goes on.
    last_id: Option<String>,
    first_wait: Duration,
    /// Tries since the last good stream.
    tries: u32,
    was_open: bool,
}

impl Follower {
    fn new(client: Client, filter: Parameters, replay: u32, tell: SyncSender<News>) -> Self {
        let first_wait = FIRST_WAIT;
        Self { client, filter, replay, tell, last_id: None, first_wait, tries: 0, was_open: false }
    }

    fn run(mut self) -> Result<(), SendError<News>> {
        loop {
            let failure = self.stream()?;
            if !self.was_open || !failure.may_pass() {
                return self.tell.send(News::Ended(failure));
            }
            let wait = wait(self.first_wait, self.tries);
            self.tries += 1;
            self.tell.send(News::Lost { failure, wait })?;
            thread::sleep(wait);
        }
    }

    /// Reads one stream; how it ended.
    fn stream(&mut self) -> Result<Failure, SendError<News>> {
        let mut stream =
            match self.client.events(&self.filter, self.replay, self.last_id.as_deref()) {
                Ok(stream) => stream,
                Err(failure) => return Ok(failure),
            };
        self.was_open = true;
        let mut is_told = false;
        let begin = Instant::now();
        let mut parser = Parser::behind(self.last_id.take());
        let failure = loop {
            let frames = match stream.next() {
                Ok([]) => break self.client.broken("the stream ended"),
                Ok(bytes) => {
                    // Only now: a proxy may send the head long before the first word.
                    if !std::mem::replace(&mut is_told, true) {
                        self.tell.send(News::Open)?;
                    }
                    parser.handle(bytes)
                }
                Err(error) => break self.client.broken(&error.to_string()),
            };
            let frames = match frames {
                Ok(frames) => frames,
                Err(error) => break self.client.odd(&error.to_string()),
            };
            let mut is_over = false;
            for frame in frames {
                match frame.event.as_str() {
                    "hub" => self.tell.send(News::Event(frame.data))?,
                    "missed" => {
                        let missed = serde_json::from_str(&frame.data).ok();
                        let missed = missed.and_then(|missed: Missed| missed.count);
                        self.tell.send(News::Missed(missed))?;
                    }
                    "bye" => is_over = true,
                    // An event of a later version.
                    _ => {}
                }
            }
            if is_over {
                break self.client.broken("the hub has stopped");
            }
        };
        self.last_id = parser.last_id;
        self.first_wait = parser.retry.unwrap_or(self.first_wait);
        if begin.elapsed() >= GOOD {
            self.tries = 0;
        }
        Ok(failure)
    }
}

/// Twice as long at each try.
fn wait(first: Duration, tries: u32) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(tries)).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_become_rarer_up_to_a_limit() {
        let waits = [0, 1, 2, 4, 5, 31, u32::MAX].map(|tries| wait(FIRST_WAIT, tries).as_secs());
        assert_eq!(waits, [1, 2, 4, 10, 10, 10, 10]);
        assert_eq!(wait(Duration::MAX, u32::MAX), LONGEST_WAIT);
    }
}
