//! The cluster at a glance, again and again.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::OpenOptions,
    io::{self, IsTerminal as _, Write as _},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{
    client::{Client, Reply},
    follow::{self, News, WAITING, lost_text, missed_text},
    interrupt,
    paint::{Paint, Tone},
    problem::Failure,
    reply::{Event, Handover, Node, Page},
    screen::Screen,
    show::{children_of, event_line, handover_table, node_table, troubles, unreachable},
    table::Table,
    text::{count, cut, known},
};

/// Between two looks, and two drawings.
const LOOK: Duration = Duration::from_secs(1);
/// A summary that is older is called old.
const OLD: Duration = Duration::from_secs(4);
/// So many of the latest events come first.
const REPLAY: u32 = 20;
/// More events fit into no terminal.
const KEPT: usize = 200;

/// How the cluster stands, as one node sees it.
#[derive(Debug)]
pub(crate) struct Summary {
    nodes: Page<Node>,
    running: Page<Handover>,
}

impl Summary {
    /// On one line.
    fn line(&self) -> String {
        let mut states = BTreeMap::<String, u64>::new();
        for node in &self.nodes.items {
            *states.entry(known(node.state.as_ref())).or_default() += 1;
        }
        let states: Vec<_> = states.iter().map(|(state, n)| format!("{n} {state}")).collect();
        let nodes = self.nodes.total.unwrap_or(self.nodes.items.len() as u64);
        let children: Option<u64> = self.nodes.items.iter().map(|node| node.children).sum();
        format!(
            "{} ({}), {}, {} running",
            count(nodes, "node", "nodes"),
            states.join(", "),
            children_of(children),
            match self.running.total {
                Some(number) => count(number, "handover", "handovers"),
                None => "? handovers".to_owned(),
            }
        )
    }
}

pub(crate) fn watch(client: &Client, screen: Screen) -> Result<(), Failure> {
    if screen.json {
        return Err(Failure::Usage("watch has no JSON; hubctl --json events --follow has".into()));
    }
    let (tell, news) = sync_channel(WAITING);
    interrupt::watch(tell.clone());
    follow::spawn(client.clone(), Vec::new(), REPLAY, tell.clone());
    look(client.clone(), tell);
    let mut view = View::new(client, screen);
    let mut full = None;
    let mut drawn = Instant::now();
    loop {
        let left = LOOK.saturating_sub(drawn.elapsed());
        let news = match news.recv_timeout(left) {
            Ok(News::Stop) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Ok(news) => Some(news),
            Err(RecvTimeoutError::Timeout) => None,
        };
        let is_summary = matches!(news, Some(News::Summary(_)));
        if let Some(news) = news {
            view.handle(news)?;
        }
        if !is_summary && drawn.elapsed() < LOOK {
            continue;
        }
        drawn = Instant::now();
        if let Some((width, height)) = screen.size() {
            if view.summary.is_none() {
                continue;
            }
            let full = match &mut full {
                Some(full) => full,
                none => none.insert(FullScreen::open()?),
            };
            full.draw(&view.lines(width, height), height)?;
        }
    }
}

/// Asks again and again how the cluster stands, until nobody listens.
fn look(client: Client, tell: SyncSender<News>) {
    thread::spawn(move || {
        let mut nodes = Question::new("nodes?limit=1000");
        let mut running = Question::new("handovers?status=running&limit=1000");
        let mut summary = || {
            Ok(Box::new(Summary {
                nodes: nodes.ask(&client)?.read()?,
                running: running.ask(&client)?.read()?,
            }))
        };
        while tell.send(News::Summary(summary())).is_ok() {
            thread::sleep(LOOK);
        }
    });
}

/// A question whose answer is sent only when it has changed.
struct Question {
    path: &'static str,
    last: Option<Reply>,
}

impl Question {
    fn new(path: &'static str) -> Self {
        Self { path, last: None }
    }

    fn ask(&mut self, client: &Client) -> Result<Reply, Failure> {
        let tag = self.last.as_ref().and_then(|reply| reply.tag.as_deref());
        if let Some(reply) = client.get_if_changed(self.path, tag)? {
            self.last = Some(reply);
        }
        Ok(self.last.clone().expect("an answer without a change follows one that was kept"))
    }
}

struct View<'a> {
    client: &'a Client,
    screen: Screen,
    summary: Option<(Instant, Box<Summary>)>,
    /// Why there is no newer summary.
    silent: Option<String>,
    /// Why there are no newer events.
    lost: Option<String>,
    events: VecDeque<Shown>,
    /// The last line that was told where there is no terminal.
    told: String,
}

enum Shown {
    Event(Event),
    Note(String),
}

impl<'a> View<'a> {
    fn new(client: &'a Client, screen: Screen) -> Self {
        Self {
            client,
            screen,
            summary: None,
            silent: None,
            lost: None,
            events: VecDeque::new(),
            told: String::new(),
        }
    }

    fn handle(&mut self, news: News) -> Result<(), Failure> {
        match news {
            News::Open => {
                if self.lost.take().is_some() {
                    self.note(Tone::Faint, "connected again".to_owned());
                }
            }
            News::Event(json) => {
                let event = follow::read(self.client, &json)?;
                if self.screen.size().is_none() {
                    self.screen.print(&event_line(&event, self.screen.paint))?;
                }
                self.keep(Shown::Event(event));
            }
            News::Missed(missed) => {
                let text = missed_text(missed);
                self.keep(Shown::Note(text.clone()));
                self.note(Tone::Warn, text);
            }
            News::Lost { failure, wait } => {
                let text = lost_text(&failure, wait);
                self.lost = Some(text.clone());
                self.note(Tone::Warn, text);
            }
            News::Summary(Ok(summary)) => {
                if self.silent.take().is_some() {
                    self.note(Tone::Faint, "nodes and handovers are told again".to_owned());
                }
                let mut line = summary.line();
                if let Some(unknown) = unreachable(&summary.running, "handovers") {
                    line.push_str(&format!("; {unknown}"));
                }
                for trouble in troubles(&summary.nodes.items) {
                    line.push_str(&format!("; {trouble}"));
                }
                if self.screen.size().is_none() && self.told != line {
                    let text = format!("{}  {:<5}  {:<18}  {line}", now(), "now", "summary");
                    self.screen.print(&text)?;
                    self.told = line;
                }
                self.summary = Some((Instant::now(), summary));
            }
            News::Summary(Err(failure)) if self.summary.is_some() && failure.may_pass() => {
                let text = failure.to_string().replace("\n ", ":");
                if self.silent.as_ref() != Some(&text) {
                    self.note(Tone::Warn, text.clone());
                }
                self.silent = Some(text);
            }
            News::Summary(Err(failure)) | News::Ended(failure) => return Err(failure),
            News::Stop => {}
        }
        Ok(())
    }

    fn keep(&mut self, shown: Shown) {
        self.events.push_front(shown);
        self.events.truncate(KEPT);
    }

    /// On standard error, unless that would spoil what is drawn.
    fn note(&self, tone: Tone, text: String) {
        if self.screen.size().is_none() || !io::stderr().is_terminal() {
            self.screen.note(tone, &text);
        }
    }

    /// What is drawn: half of the lines for the nodes, a quarter for the handovers, at least; what
    /// they leave is for the events.
    fn lines(&self, width: usize, height: usize) -> Vec<String> {
        let paint = self.screen.paint;
        let line = |tone, text: &str| paint.on(tone, &cut(text, width));
        let title = format!("{}  {} UTC  Ctrl-C ends", self.client.url(), &now()[..8]);
        let mut lines = vec![line(Tone::Faint, &title)];
        if let Some((at, summary)) = &self.summary {
            lines.push(line(Tone::Head, &summary.line()));
            if at.elapsed() > OLD {
                let old = format!("these numbers are {} s old", at.elapsed().as_secs());
                lines.push(line(Tone::Warn, &old));
            }
            if let Some(unknown) = unreachable(&summary.running, "handovers") {
                lines.push(line(Tone::Warn, &unknown));
            }
            for trouble in self.silent.iter().chain(&self.lost) {
                lines.push(line(Tone::Warn, trouble));
            }
            for trouble in troubles(&summary.nodes.items).iter().take(height / 4) {
                lines.push(line(Tone::Warn, trouble));
            }
            lines.push(String::new());
            let part = |table: &Table, room: usize| {
                let mut lines = table.lines(Some(width), paint);
                let hidden = (lines.len()).saturating_sub(room.max(2));
                if hidden > 0 {
                    lines.truncate(lines.len() - hidden - 1);
                    lines.push(line(Tone::Faint, &format!("… and {} more", hidden + 1)));
                }
                lines
            };
            lines.extend(part(&node_table(&summary.nodes.items), height / 2));
            if !summary.running.items.is_empty() {
                lines.push(String::new());
                lines.extend(part(&handover_table(&summary.running.items), height / 4));
            }
        }
        lines.push(String::new());
        lines.push(line(Tone::Head, "LATEST EVENTS of the node that answers"));
        for shown in self.events.iter().take(height.saturating_sub(lines.len())) {
            lines.push(match shown {
                Shown::Event(event) => {
                    let level = event.level.as_ref().map_or("", |level| &level.0);
                    let tone = match level {
                        "debug" | "info" => Tone::Plain,
                        level => Tone::of(level),
                    };
                    line(tone, &event_line(event, Paint(false)))
                }
                Shown::Note(text) => line(Tone::Warn, text),
            });
        }
        lines.truncate(height);
        lines
    }
}

/// The time of day, UTC.
fn now() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = now.as_secs();
    let (hours, minutes) = (seconds / 3_600 % 24, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{:03}", seconds % 60, now.subsec_millis())
}

/// The other screen of the terminal. The first one comes back as it was when this is dropped.
struct FullScreen;

impl FullScreen {
    fn open() -> io::Result<Self> {
        IS_FULL.store(true, Ordering::Relaxed);
        write_all("\x1b[?1049h\x1b[?25l")?;
        Ok(Self)
    }

    /// In place, without a blank moment between. Lines are not wrapped if the terminal just became
    /// narrower.
    fn draw(&mut self, lines: &[String], height: usize) -> io::Result<()> {
        let mut frame = "\x1b[?7l\x1b[H".to_owned();
        for row in 0..height {
            frame.push_str(if row == 0 { "" } else { "\r\n" });
            // Erased before it is written: behind a full line it would take the last character.
            frame.push_str("\x1b[K");
            frame.push_str(lines.get(row).map_or("", String::as_str));
        }
        frame.push_str("\x1b[?7h");
        write_all(&frame)
    }
}

impl Drop for FullScreen {
    fn drop(&mut self) {
        let _ = write_all(FIRST_SCREEN);
        IS_FULL.store(false, Ordering::Relaxed);
    }
}

/// Whether the terminal shows its other screen.
static IS_FULL: AtomicBool = AtomicBool::new(false);
const FIRST_SCREEN: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// Before the program is ended where it stands: brings the first screen back, unless the terminal
/// takes nothing any more. What holds standard output is not waited for.
pub(crate) fn leave_full_screen() {
    if !IS_FULL.load(Ordering::Relaxed) {
        return;
    }
    let (done, is_done) = sync_channel(1);
    thread::spawn(move || {
        if let Ok(mut terminal) = OpenOptions::new().write(true).open("/dev/tty") {
            let _ = terminal.write_all(FIRST_SCREEN.as_bytes());
        }
        done.send(())
    });
    let _ = is_done.recv_timeout(Duration::from_millis(300));
}

fn write_all(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
