//! What the endpoint knows, for people.

use std::fmt::Display;

use crate::{
    client::{Client, query},
    follow,
    options::{ChildrenFilter, EventsFilter, HandoversFilter},
    paint::{Paint, Tone},
    problem::Failure,
    reply::{
        Child, Departed, Event, Handover, Instance, Node, Page, ParkedState, Settings, State,
        Unheard, Who,
    },
    screen::Screen,
    table::{Cell, Column, Table},
    text::{
        Text, UNKNOWN, bytes, clock, count, date, encode, escape, known, short, span, width, wrap,
    },
};

pub(crate) fn nodes(client: &Client, screen: Screen) -> Result<(), Failure> {
    if screen.json {
        return pages_as_json(client, screen, "nodes", &[], true);
    }
    let nodes = all_nodes(client)?;
    screen.print_table(&node_table(&nodes))?;
    for trouble in troubles(&nodes) {
        let lines = screen.width().map_or(vec![trouble.clone()], |width| wrap(&trouble, width));
        for line in lines {
            screen.print(&screen.paint.on(Tone::Warn, &line))?;
        }
    }
    Ok(())
}

/// The nodes that went, and what that cost all others together.
pub(crate) fn departed(client: &Client, screen: Screen) -> Result<(), Failure> {
    let reply = client.get("departed")?;
    if screen.json {
        return Ok(screen.print_json(&reply)?);
    }
    let page: Page<Departed> = reply.read()?;
    if page.items.is_empty() {
        screen.note(Tone::Faint, "no node went in the last hour");
    } else {
        screen.print_table(&departed_table(&page.items))?;
    }
    if let Some(unknown) = unreachable(&page, "what it cost the children") {
        screen.note(Tone::Warn, &unknown);
    }
    Ok(())
}

fn departed_table(nodes: &[Departed]) -> Table {
    let mut table = Table::new([
        Column::node("NODE"),
        Column::text("HOW"),
        Column::text("WHEN"),
        Column::text("CAME BACK").goes(2),
        Column::number("BEGAN ANEW"),
        Column::number("WENT ON").goes(1),
        Column::number("MOVED").goes(3),
        Column::number("PARKED").goes(4),
    ]);
    for node in nodes {
        table.row([
            node.who.to_string().into(),
            Cell::state(known(node.how.as_ref())),
            known(node.at.as_ref().map(clock)).into(),
            node.came_back_at.as_ref().map_or("no".to_owned(), clock).into(),
            known(node.begun_anew).into(),
            known(node.recovered).into(),
            known(node.moved).into(),
            known(node.parked).into(),
        ]);
    }
    table
}

/// So many of the children that are left on a node are named.
const NAMED: usize = 3;

/// What is left on a node that hands its children over, with the reasons of the first.
fn left_on(node: &Node) -> Option<String> {
    let left = node.left.as_ref().filter(|left| left.children != Some(0))?;
    let first = left.first.iter().take(NAMED);
    let mut named: Vec<_> =
        first.map(|one| format!("{} ({})", one.child, known(one.reason.as_ref()))).collect();
    if let more @ 1.. = left.children.unwrap_or(0).saturating_sub(named.len() as u64) {
        named.push(format!("{more} more"));
    }
    Some(format!("{} left on {}: {}", children_of(left.children), node.who, named.join(", ")))
}

/// The state of a node in a word: a member that is heard may be drained.
fn state_of(node: &Node) -> String {
    let is_alive = node.state.as_ref().is_some_and(|state| state.0 == "alive");
    let is_empty = node.left.as_ref().is_some_and(|left| left.children == Some(0));
    match (node.draining, is_alive, is_empty) {
        (Some(true), true, true) => "drained".to_owned(),
        (Some(true), true, false) => "draining".to_owned(),
        _ => known(node.state.as_ref()),
    }
}

/// The labels of a node, as they are set.
fn labels_of(node: &Node) -> String {
    let label = |(key, value): (&String, &Text)| match value.0.as_str() {
        "" => escape(key).into_owned(),
        _ => format!("{}={value}", escape(key)),
    };
    known(node.labels.as_ref().map(|labels| labels.iter().map(label).collect::<Vec<_>>().join(",")))
}

/// What is not as it should be: what the node that answers waits for, who is not in, who suspects
/// whom, whose messages go by way of others, which children are left on nodes that are emptied.
pub(crate) fn troubles(nodes: &[Node]) -> Vec<String> {
    let mut troubles = Vec::new();
    for node in nodes {
        let who = &node.who;
        if let Some(reason) = &node.waits_for {
            troubles.push(format!("{who} {reason}"));
        }
        if !node.missing.is_empty() {
            let pairs = node.missing.iter();
            let pairs: Vec<_> = pairs
                .map(|Unheard { node, unheard }| format!("{node} does not hear {unheard}"))
                .collect();
            troubles.push(format!("{who} is not in: {}", pairs.join(", ")));
        }
        if !node.suspected_by.is_empty() {
            let by: Vec<_> = node.suspected_by.iter().map(ToString::to_string).collect();
            troubles.push(format!("{who} is suspected by {}", by.join(", ")));
        }
        if let Some(by) = node.link.as_ref().and_then(|link| link.by.as_ref()) {
            troubles.push(format!("messages for {who} go by way of {by}"));
        }
        troubles.extend(left_on(node));
    }
    troubles
}

pub(crate) fn all_nodes(client: &Client) -> Result<Vec<Node>, Failure> {
    let mut nodes = Vec::new();
    let limit = Some("1000".to_owned());
    pages(client, "nodes", &[("limit", limit)], |mut page: Page<Node>| {
        nodes.append(&mut page.items);
        Ok(true)
    })?;
    Ok(nodes)
}

pub(crate) fn node_table(nodes: &[Node]) -> Table {
    let mut nodes: Vec<_> = nodes.iter().collect();
    nodes.sort_by(|a, b| (&a.who.name.0, &a.who.id.0).cmp(&(&b.who.name.0, &b.who.id.0)));
    let mut table = Table::new([
        Column::node("NODE"),
        Column::text("STATE"),
        Column::text("LINK"),
        Column::number("CHILDREN"),
        Column::number("SHARE").goes(4),
        Column::number("QUEUED"),
        Column::number("MOVING").goes(1),
        Column::number("RTT").goes(2),
        Column::number("UPTIME").goes(3),
        Column::number("HANDLED").goes(5),
        Column::number("WEIGHT").goes(7),
        Column::text("VERSION").goes(6),
        Column::text("LABELS").cut_to(12).goes(8),
        Column::text("ADDRESSES").cut_to(20).goes(9),
    ]);
    for node in nodes {
        let load = |value: fn(&crate::reply::Load) -> Option<u64>| {
            known(node.load.as_ref().and_then(value)).into()
        };
        let link = node.link.as_ref();
        let is_self = node.is_self == Some(true);
        let rtt = link.and_then(|link| link.rtt_ms).map(|rtt| span(rtt / 1e3));
        let addresses = node.addresses.as_ref().map(|addresses| join(addresses, " "));
        table.row([
            node.who.to_string().into(),
            Cell::state(state_of(node)),
            Cell::state(known(link.and_then(|link| link.state.as_ref()))),
            known(node.children).into(),
            node.share.map_or(UNKNOWN.into(), |share| format!("{:.0} %", share * 100.0)).into(),
            load(|load| load.queued),
            load(|load| load.running_handovers),
            // There is no link to itself to measure.
            if is_self && rtt.is_none() { "-".to_owned() } else { known(rtt) }.into(),
            known(node.uptime_seconds.map(span)).into(),
            load(|load| load.handled),
            known(node.weight).into(),
            known(node.version.as_ref()).into(),
            labels_of(node).into(),
            known(addresses).into(),
        ]);
    }
    table
}

pub(crate) fn children(
    client: &Client,
    screen: Screen,
    filter: ChildrenFilter,
) -> Result<(), Failure> {
    let ChildrenFilter { tag, node, kind, state, text, limit, all } = filter;
    let limit = limit.or(all.then_some(1_000));
    let parameters = [
        ("tag", tag),
        ("node", node.map(|node| filter_node(client, screen, node)).transpose()?),
        ("kind", kind),
        ("state", state.map(|state| format!("{state:?}").to_lowercase())),
        ("text", text),
        ("limit", limit.map(|limit| limit.to_string())),
    ];
    if screen.json {
        return pages_as_json(client, screen, "children", &parameters, all);
    }
    let mut table = Table::new([
        Column::text("CHILD").cut_to(20),
        Column::text("KIND").cut_to(8),
        Column::text("STATE"),
        Column::node("NODE"),
        Column::text("OTHERS").cut_to(12).goes(6),
        Column::number("MAILBOX").goes(1),
        Column::number("HANDLED").goes(2),
        Column::number("RESTARTS").goes(3),
        Column::text("EPOCH").goes(4),
        Column::text("TAGS").cut_to(10).goes(5),
    ]);
    let (mut shown, mut total, mut more) = (0, None, false);
    pages(client, "children", &parameters, |page: Page<Child>| {
        shown += page.items.len() as u64;
        (total, more) = (page.total, page.next_cursor.is_some());
        for child in &page.items {
            let runtime = child.runtime.as_ref();
            let (active, others) = instances(&child.nodes);
            table.row([
                child.id.to_string().into(),
                known(child.kind.as_ref()).into(),
                Cell::state(known(child.state.as_ref())),
                known(active).into(),
                others.into(),
                known(runtime.and_then(|runtime| runtime.mailbox)).into(),
                known(runtime.and_then(|runtime| runtime.handled)).into(),
                known(runtime.and_then(|runtime| runtime.restarts)).into(),
                known(child.epoch.as_ref()).into(),
                join(&child.tags, ",").into(),
            ]);
        }
        Ok(all)
    })?;
    if shown == 0 {
        screen.note(Tone::Faint, "there is no such child");
        return Ok(());
    }
    screen.print_table(&table)?;
    if more && !all {
        let note = format!("{shown} of {} are shown; --all shows all", children_of(total));
        screen.note(Tone::Faint, &note);
    }
    Ok(())
}

pub(crate) fn handovers(
    client: &Client,
    screen: Screen,
    filter: HandoversFilter,
) -> Result<(), Failure> {
    let HandoversFilter { status, node, child, limit, all } = filter;
    let limit = limit.or(all.then_some(1_000));
    let parameters = [
        ("status", status.map(|status| format!("{status:?}").to_lowercase())),
        ("node", node.map(|node| filter_node(client, screen, node)).transpose()?),
        ("child", child),
        ("limit", limit.map(|limit| limit.to_string())),
    ];
    if screen.json {
        return pages_as_json(client, screen, "handovers", &parameters, all);
    }
    let (mut handovers, mut total, mut more, mut unknown) = (Vec::new(), None, false, None);
    pages(client, "handovers", &parameters, |mut page: Page<Handover>| {
        handovers.append(&mut page.items);
        (total, more) = (page.total, page.next_cursor.is_some());
        unknown = unreachable(&page, "handovers").or(unknown.take());
        Ok(all)
    })?;
    if handovers.is_empty() {
        screen.note(Tone::Faint, "there is no such handover");
    } else {
        screen.print_table(&handover_table(&handovers))?;
    }
    if more && !all {
        let shown = handovers.len();
        let note = format!("{shown} of {} handovers are shown; --all shows all", known(total));
        screen.note(Tone::Faint, &note);
    }
    if let Some(note) = unknown {
        screen.note(Tone::Warn, &note);
    }
    Ok(())
}

/// A word of warning when some nodes did not tell what they have of these.
pub(crate) fn unreachable<T>(page: &Page<T>, what: &str) -> Option<String> {
    let nodes: Vec<_> = page.unreachable.iter().map(ToString::to_string).collect();
    (!nodes.is_empty()).then(|| format!("unknown, no answer: {what} of {}", nodes.join(", ")))
}

pub(crate) fn parked(
    client: &Client,
    screen: Screen,
    child: Option<String>,
    limit: Option<u32>,
    all: bool,
) -> Result<(), Failure> {
    let limit = limit.or(all.then_some(1_000));
    let parameters = [("child", child), ("limit", limit.map(|limit| limit.to_string()))];
    if screen.json {
        return pages_as_json(client, screen, "parked", &parameters, all);
    }
    let mut table = Table::new([
        Column::text("CHILD").cut_to(16),
        Column::node("OF NODE"),
        Column::text("PARKED (UTC)").goes(1),
        Column::number("BYTES"),
        Column::text("HELD BY").cut_to(20),
        Column::text("WHY").cut_to(20).goes(2),
        Column::text("KEY").goes(3),
    ]);
    let (mut shown, mut total, mut more, mut unknown) = (0, None, false, None);
    pages(client, "parked", &parameters, |page: Page<ParkedState>| {
        shown += page.items.len();
        (total, more) = (page.total, page.next_cursor.is_some());
        unknown = unreachable(&page, "parked states").or(unknown.take());
        for state in &page.items {
            let holders: Vec<_> = state.holders.iter().map(ToString::to_string).collect();
            table.row([
                known(state.child.as_ref()).into(),
                known(state.node.as_ref()).into(),
                known(state.parked_at.as_ref().map(date)).into(),
                known(state.bytes.map(bytes)).into(),
                holders.join(", ").into(),
                known(state.reason.as_ref()).into(),
                state.key.to_string().into(),
            ]);
        }
        Ok(all)
    })?;
    if shown == 0 {
        screen.note(Tone::Faint, "no state is parked");
    } else {
        screen.print_table(&table)?;
    }
    if more && !all {
        let note = format!("{shown} of {} parked states are shown; --all shows all", known(total));
        screen.note(Tone::Faint, &note);
    }
    if let Some(note) = unknown {
        screen.note(Tone::Warn, &note);
    }
    Ok(())
}

pub(crate) fn parked_state(client: &Client, screen: Screen, key: &str) -> Result<(), Failure> {
    let key = find_parked(client, key)?;
    state_at(client, screen, &format!("parked/{}/state", encode(&key)))
}

/// The key of the only parked state of the child that is called so; else the text itself.
pub(crate) fn find_parked(client: &Client, called: &str) -> Result<String, Failure> {
    let parameters = [("child", Some(called.to_owned())), ("limit", Some("1000".to_owned()))];
    let page: Page<ParkedState> = client.get(&query("parked", &parameters))?.read()?;
    match &page.items[..] {
        [] => Ok(called.to_owned()),
        [one] => Ok(one.key.0.clone()),
        many => {
            let keys: Vec<_> = many.iter().map(|state| state.key.to_string()).collect();
            let (called, all) = (escape(called), keys.join("\n  "));
            Err(Failure::Usage(format!(
                "several states of {called} are parked; name one by its key:\n  {all}"
            )))
        }
    }
}

pub(crate) fn handover_table(handovers: &[Handover]) -> Table {
    let mut table = Table::new([
        Column::text("CHILD").cut_to(16),
        Column::node("FROM"),
        Column::node("TO"),
        Column::text("STATUS"),
        Column::number("TOOK"),
        Column::text("NOTE").cut_to(20),
        Column::number("BYTES").goes(1),
        Column::text("EPOCH").goes(3),
        Column::text("STARTED (UTC)").goes(2),
        Column::text("PHASES (ms)").cut_to(50).goes(4),
    ]);
    for handover in handovers {
        let is_running = handover.status.as_ref().is_some_and(|status| status.0 == "running");
        let phase = handover.phases.last().filter(|_| is_running);
        let note = match (&handover.reason, phase) {
            (Some(reason), _) => reason.to_string(),
            (None, Some(phase)) => format!("in {}", phase.name),
            (None, None) => String::new(),
        };
        let phases = handover.phases.iter().map(|phase| {
            format!("{} {}", phase.name, known(phase.took_ms.map(|took| format!("{took:.1}"))))
        });
        table.row([
            handover.child.to_string().into(),
            known(handover.from.as_ref()).into(),
            known(handover.to.as_ref()).into(),
            Cell::state(known(handover.status.as_ref())),
            known(handover.took_ms.map(|took| span(took / 1e3))).into(),
            note.into(),
            known(handover.bytes.map(bytes)).into(),
            known(handover.epoch.as_ref()).into(),
            known(handover.started_at.as_ref().or(handover.ended_at.as_ref()).map(date)).into(),
            phases.collect::<Vec<_>>().join(", ").into(),
        ]);
    }
    table
}

pub(crate) fn state(client: &Client, screen: Screen, id: &str) -> Result<(), Failure> {
    state_at(client, screen, &format!("children/{}/state", encode(id)))
}

fn state_at(client: &Client, screen: Screen, path: &str) -> Result<(), Failure> {
    let reply = client.get(path)?;
    if screen.json {
        return Ok(screen.print_json(&reply)?);
    }
    let state: State = reply.read()?;
    let head = format!(
        "{}: version {}, {}, epoch {}",
        known(state.child.as_ref()),
        known(state.state_version),
        known(state.bytes.map(bytes)),
        known(state.epoch.as_ref())
    );
    screen.print(&screen.paint.on(Tone::Head, &head))?;
    let text = state.diagnostic.map(|text| text.to_string());
    screen.print(&text.unwrap_or_else(|| "it is not one value of CBOR".to_owned()))?;
    Ok(())
}

pub(crate) fn child(client: &Client, screen: Screen, id: &str) -> Result<(), Failure> {
    let reply = client.get(&format!("children/{}", encode(id)))?;
    if screen.json {
        return Ok(screen.print_json(&reply)?);
    }
    let child: Child = reply.read()?;
    let why = child.why.as_ref();
    let runtime = child.runtime.as_ref();
    let spec = child.spec.as_ref();
    let mut facts = Facts::new(screen);
    facts.add("child", &child.id);
    facts.add("kind", known(child.kind.as_ref()));
    let state = known(child.state.as_ref());
    facts.add_toned("state", Tone::of(&state), state.clone());
    if let Some(failure) = &child.failure {
        facts.add("failed", known(failure.reason.as_ref()));
    }
    let (active, others) = instances(&child.nodes);
    facts.add("node", known(active));
    if !others.is_empty() {
        facts.add("others", others);
    }
    facts.add("pinned to", child.pinned.as_ref().map_or("none".into(), |id| named(&child, id)));
    facts.add("epoch", known(child.epoch.as_ref()));
    facts.add("tags", some(&join(&child.tags, ", ")));
    let metadata: Vec<_> =
        child.metadata.iter().map(|(key, value)| format!("{}={value}", escape(key))).collect();
    facts.add("metadata", some(&metadata.join(", ")));
    facts.add("mailbox", known(runtime.and_then(|runtime| runtime.mailbox)));
    facts.add("handled", known(runtime.and_then(|runtime| runtime.handled)));
    facts.add("restarts", known(runtime.and_then(|runtime| runtime.restarts)));
    if let Some(reason) = runtime.and_then(|runtime| runtime.cannot_move.as_ref()) {
        facts.add("cannot move", known(Some(reason)));
    }
    facts.add("there since", known(runtime.and_then(|r| r.running_since.as_ref()).map(date)));
    facts.add(
        "came by",
        match runtime {
            None => UNKNOWN.to_owned(),
            Some(runtime) => {
                runtime.last_handover.as_ref().map_or("no handover".to_owned(), came_by)
            }
        },
    );
    facts.add(
        "restart",
        match spec {
            None => UNKNOWN.to_owned(),
            Some(spec) => format!(
                "{}, at most {} within {}",
                known(spec.restart.as_ref()),
                count_or_unknown(spec.restarts, "restart", "restarts"),
                known(spec.within_seconds.map(span))
            ),
        },
    );
    facts.add("arguments", known(spec.and_then(|spec| spec.args_bytes).map(bytes)));
    if let Some(why) = why {
        facts.begin("Why it is there");
        facts.add("rule", known(why.rule.as_ref()));
        facts.add("that is", known(why.text.as_ref()));
        facts.add("owner", known(why.owner.as_ref()));
        facts.add("belongs on", known(why.belongs.as_ref()));
        facts.add("home", known(why.home.as_ref()));
        facts.add("born at", known(why.born.as_ref()));
        facts.add("copied at", known(why.copied.as_ref()));
    }
    screen.print(&facts.text)?;
    if let Some(why) = why.filter(|why| !why.candidates.is_empty()) {
        let mut table = Table::new([
            Column::node("CANDIDATE"),
            Column::text("TAKES CHILDREN"),
            Column::text("WHY NOT").cut_to(12),
        ]);
        for candidate in &why.candidates {
            table.row([
                candidate.who.to_string().into(),
                known(candidate.takes_children.map(yes_or_no)).into(),
                candidate.reason.as_ref().map(ToString::to_string).unwrap_or_default().into(),
            ]);
        }
        screen.print("")?;
        screen.print_table(&table)?;
    }
    let head = screen.head("History, latest first");
    screen.print(&format!("\n{head}"))?;
    if !child.history_unknown.is_empty() {
        let nodes: Vec<_> = child.history_unknown.iter().map(ToString::to_string).collect();
        let nodes = nodes.join(", ");
        screen.note(Tone::Warn, &format!("unknown, not told: what {nodes} saw of it"));
    }
    if child.history.is_empty() {
        screen.print("none")?;
        return Ok(());
    }
    let mut table = Table::new([
        Column::text("AT (UTC)"),
        Column::text("LEVEL"),
        Column::text("EVENT").goes(1),
        Column::text("TEXT").cut_to(46),
    ]);
    for event in &child.history {
        table.row([
            known(event.at.as_ref().map(date)).into(),
            Cell::state(known(event.level.as_ref())),
            known(event.kind.as_ref()).into(),
            event.text.to_string().into(),
        ]);
    }
    screen.print_table(&table)?;
    Ok(())
}

pub(crate) fn settings(client: &Client, screen: Screen) -> Result<(), Failure> {
    let reply = client.get("settings")?;
    if screen.json {
        return Ok(screen.print_json(&reply)?);
    }
    let settings: Settings = reply.read()?;
    let mut facts = Facts::new(screen);
    facts.add("hub", known(settings.hub.as_ref()));
    facts.add("node", known(settings.node.as_ref()));
    facts.add("version", known(settings.version.as_ref()));
    facts.begin("Strategies");
    for (name, value) in &settings.strategies {
        facts.add(&escape(name).replace('_', " "), value);
    }
    screen.print(&format!("{}\n", facts.text))?;
    let mut table = Table::new([
        Column::text("SETTING").cut_to(20),
        Column::text("VALUE").cut_to(12),
        Column::text("DEFAULT").cut_to(12),
        Column::text("CHANGED"),
    ]);
    for setting in &settings.settings {
        table.row([
            setting.name.to_string().into(),
            known(setting.value.as_ref()).into(),
            known(setting.default.as_ref()).into(),
            known(setting.changed.map(yes_or_no)).into(),
        ]);
    }
    screen.print_table(&table)?;
    let mut table = Table::new([
        Column::text("KIND").cut_to(12),
        Column::text("HOSTED"),
        Column::number("WRITES STATE"),
        Column::number("READS FROM"),
        Column::text("MESSAGES").cut_to(20),
    ]);
    for kind in &settings.kinds {
        table.row([
            kind.name.to_string().into(),
            known(kind.hosted.map(|hosted| if hosted { "yes" } else { "no" })).into(),
            known(kind.state_version).into(),
            known(kind.oldest_state_version).into(),
            join(&kind.messages, ", ").into(),
        ]);
    }
    screen.print("")?;
    screen.print_table(&table)?;
    Ok(())
}

/// An event on a line: when, how bad, what.
/// What all nodes saw, the latest last, as in the log of one.
pub(crate) fn events(
    client: &Client,
    screen: Screen,
    filter: &EventsFilter,
) -> Result<(), Failure> {
    let mut parameters = follow::parameters(filter);
    parameters.push(("limit", Some(filter.replay.clamp(1, 100).to_string())));
    if screen.json {
        return pages_as_json(client, screen, "events/latest", &parameters, false);
    }
    let (mut events, mut unknown) = (Vec::new(), None);
    pages(client, "events/latest", &parameters, |mut page: Page<Event>| {
        events.append(&mut page.items);
        unknown = unreachable(&page, "events");
        Ok(false)
    })?;
    for event in events.iter().rev() {
        let by = format!("(seen by {})", known(event.node.as_ref()));
        let line = event_line(event, screen.paint);
        screen.print(&format!("{line} {}", screen.paint.on(Tone::Faint, &by)))?;
    }
    if events.is_empty() {
        screen.note(Tone::Faint, "there is no such event");
    }
    if let Some(unknown) = unknown {
        screen.note(Tone::Warn, &unknown);
    }
    Ok(())
}

pub(crate) fn event_line(event: &Event, paint: Paint) -> String {
    let at = known(event.at.as_ref().map(clock));
    let level = known(event.level.as_ref());
    let kind = known(event.kind.as_ref());
    let gap = " ".repeat(5_usize.saturating_sub(width(&level)));
    let level = paint.on(Tone::of(&level), &level);
    let kind = format!("{kind:<18}");
    format!("{at}  {level}{gap}  {}  {}", paint.on(Tone::Faint, &kind), event.text)
}

/// The one node that is called so: by its id, its name, or the end of its id.
pub(crate) fn find_node(client: &Client, called: &str) -> Result<Option<Who>, Failure> {
    let end = called.trim_start_matches('…');
    let nodes = all_nodes(client)?;
    let fits = |fit: &dyn Fn(&Who) -> bool| -> Vec<Who> {
        nodes.iter().map(|node| &node.who).filter(|who| fit(who)).cloned().collect()
    };
    for found in [
        fits(&|who| who.id.0 == called),
        fits(&|who| who.name.0 == called),
        fits(&|who| end.len() >= 6 && who.id.0.ends_with(end)),
    ] {
        match &found[..] {
            [] => {}
            [one] => return Ok(Some(one.clone())),
            many => {
                let ids: Vec<_> = many.iter().map(|who| who.id.to_string()).collect();
                let called = escape(called);
                let all = ids.join("\n  ");
                return Err(Failure::Usage(format!(
                    "several nodes are called {called}; name one by its id:\n  {all}"
                )));
            }
        }
    }
    Ok(None)
}

/// The id of the node that is called so; else the text itself, and a word of warning: the endpoint
/// may know nodes that are not there any more.
fn filter_node(client: &Client, screen: Screen, called: String) -> Result<String, Failure> {
    if let Some(who) = find_node(client, &called)? {
        return Ok(who.id.0);
    }
    screen.note(Tone::Warn, &format!("no node is called {} now", escape(&called)));
    Ok(called)
}

/// Reads a list part by part, as long as `take` wants more.
fn pages<T: serde::de::DeserializeOwned>(
    client: &Client,
    path: &str,
    parameters: &[(&str, Option<String>)],
    mut take: impl FnMut(Page<T>) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let mut cursor = None;
    loop {
        let page: Page<T> = client.get(&at_cursor(path, parameters, cursor.clone()))?.read()?;
        let next = page.next_cursor.clone();
        if !take(page)? || next.is_none() {
            return Ok(());
        }
        if next == cursor {
            return Err(client.odd("a list does not go on where its cursor points"));
        }
        cursor = next;
    }
}

/// The replies as they came, one on a line.
fn pages_as_json(
    client: &Client,
    screen: Screen,
    path: &str,
    parameters: &[(&str, Option<String>)],
    all: bool,
) -> Result<(), Failure> {
    let mut cursor = None;
    loop {
        let reply = client.get(&at_cursor(path, parameters, cursor.clone()))?;
        screen.print_json(&reply)?;
        let next = reply.read::<Page<serde::de::IgnoredAny>>()?.next_cursor;
        if !all || next.is_none() {
            return Ok(());
        }
        if next == cursor {
            return Err(client.odd("a list does not go on where its cursor points"));
        }
        cursor = next;
    }
}

fn at_cursor(path: &str, parameters: &[(&str, Option<String>)], cursor: Option<String>) -> String {
    query(path, &[parameters, &[("cursor", cursor)]].concat())
}

/// Names and values below each other. Long values go on below themselves.
struct Facts {
    screen: Screen,
    text: String,
}

impl Facts {
    fn new(screen: Screen) -> Self {
        Self { screen, text: String::new() }
    }

    fn begin(&mut self, head: &str) {
        self.text.push_str(&format!("\n\n{}", self.screen.head(head)));
    }

    fn add(&mut self, name: &str, value: impl Display) {
        self.add_toned(name, Tone::Plain, value.to_string());
    }

    fn add_toned(&mut self, name: &str, tone: Tone, value: String) {
        const NAMES: usize = 20;
        let room = self.screen.width().map_or(usize::MAX, |width| width.saturating_sub(NAMES + 2));
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        let gap = " ".repeat(NAMES.saturating_sub(width(name)));
        self.text.push_str(&format!("{}{gap}  ", self.screen.paint.on(Tone::Faint, name)));
        let lines = wrap(&value, room);
        let lines: Vec<_> = lines.iter().map(|line| self.screen.paint.on(tone, line)).collect();
        self.text.push_str(&lines.join(&format!("\n{}", " ".repeat(NAMES + 2))));
    }
}

/// Where a child is active, and where else it is in which role.
fn instances(nodes: &[Instance]) -> (Option<&Who>, String) {
    let is_active = |instance: &&Instance| instance.role.as_ref().is_some_and(|r| r.0 == "active");
    let active = nodes.iter().find(is_active).map(|instance| &instance.who);
    let others = nodes.iter().filter(|instance| Some(&instance.who) != active);
    let others =
        others.map(|instance| format!("{} ({})", instance.who, known(instance.role.as_ref())));
    (active, others.collect::<Vec<_>>().join(", "))
}

/// The node with this id, named if the reply tells its name anywhere.
fn named(child: &Child, id: &Text) -> String {
    let why = child.why.as_ref();
    let candidates = why.into_iter().flat_map(|why| &why.candidates).map(|one| &one.who);
    let others = why.into_iter().flat_map(|why| [&why.owner, &why.belongs, &why.home]).flatten();
    let instances = child.nodes.iter().map(|instance| &instance.who);
    let who = candidates.chain(others).chain(instances).find(|who| who.id == *id);
    who.map_or_else(|| short(id), ToString::to_string)
}

fn came_by(handover: &Handover) -> String {
    format!(
        "a handover from {} to {}, {} in {}, {} of state, epoch {}",
        known(handover.from.as_ref()),
        known(handover.to.as_ref()),
        known(handover.status.as_ref()),
        known(handover.took_ms.map(|took| span(took / 1e3))),
        known(handover.bytes.map(bytes)),
        known(handover.epoch.as_ref()),
    )
}

fn join(texts: &[Text], between: &str) -> String {
    texts.iter().map(ToString::to_string).collect::<Vec<_>>().join(between)
}

fn some(text: &str) -> &str {
    if text.is_empty() { "none" } else { text }
}

fn yes_or_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

pub(crate) fn children_of(total: Option<u64>) -> String {
    count_or_unknown(total, "child", "children")
}

fn count_or_unknown(number: Option<u64>, one: &str, many: &str) -> String {
    number.map_or_else(|| format!("{UNKNOWN} {many}"), |number| count(number, one, many))
}
