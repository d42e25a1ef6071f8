//! Actions: shown first, done when the user is sure.

use std::io::{self, IsTerminal as _, Write as _};

use serde_json::{Map, Value, json};

use crate::{
    client::{Action, Client},
    options::{NewChild, Sure},
    paint::Tone,
    problem::Failure,
    reply::Done,
    screen::Screen,
    show::{children_of, find_node, find_parked},
    text::{encode, escape, known},
};

pub(crate) fn start(
    client: &Client,
    screen: Screen,
    what: NewChild,
    sure: Sure,
) -> Result<(), Failure> {
    let NewChild { id, kind, args, tags, metadata, restart } = what;
    let mut body = json!({ "id": id, "kind": kind });
    let optional = [
        ("args", args),
        ("restart", restart.map(|rule| json!(format!("{rule:?}").to_lowercase()))),
        ("tags", (!tags.is_empty()).then(|| json!(tags))),
        (
            "metadata",
            (!metadata.is_empty()).then(|| {
                metadata
                    .into_iter()
                    .map(|(key, value)| (key, Value::from(value)))
                    .collect::<Map<_, _>>()
                    .into()
            }),
        ),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            body[name] = value;
        }
    }
    let action = Action::Post { path: "children".into(), body: Some(body.to_string()) };
    carry_out(client, screen, sure, &escape(&id), || Ok(action))
}

pub(crate) fn stop(client: &Client, screen: Screen, id: &str, sure: Sure) -> Result<(), Failure> {
    let action = Action::Delete { path: format!("children/{}", encode(id)) };
    carry_out(client, screen, sure, &escape(id), || Ok(action))
}

pub(crate) fn migrate(
    client: &Client,
    screen: Screen,
    child: &str,
    node: &str,
    forced: bool,
    sure: Sure,
) -> Result<(), Failure> {
    carry_out(client, screen, sure, &escape(child), || {
        let to = find_node(client, node)?.map_or_else(|| node.to_owned(), |who| who.id.0);
        let body = json!({ "to": to, "forced": forced }).to_string();
        Ok(Action::Post { path: format!("children/{}/migrate", encode(child)), body: Some(body) })
    })
}

pub(crate) fn release(
    client: &Client,
    screen: Screen,
    child: &str,
    sure: Sure,
) -> Result<(), Failure> {
    let path = format!("children/{}/release", encode(child));
    carry_out(client, screen, sure, &escape(child), || Ok(Action::Post { path, body: None }))
}

pub(crate) fn apply(
    client: &Client,
    screen: Screen,
    key: &str,
    replace: bool,
    sure: Sure,
) -> Result<(), Failure> {
    carry_out(client, screen, sure, &escape(key), || {
        let body = json!({ "replace": replace }).to_string();
        let path = format!("parked/{}/apply", encode(&find_parked(client, key)?));
        Ok(Action::Post { path, body: Some(body) })
    })
}

pub(crate) fn discard(
    client: &Client,
    screen: Screen,
    key: &str,
    sure: Sure,
) -> Result<(), Failure> {
    carry_out(client, screen, sure, &escape(key), || {
        let key = find_parked(client, key)?;
        Ok(Action::Delete { path: format!("parked/{}", encode(&key)) })
    })
}

/// `action`: the last part of its path, such as `leave`.
pub(crate) fn on_node(
    client: &Client,
    screen: Screen,
    action: &str,
    node: &str,
    sure: Sure,
) -> Result<(), Failure> {
    carry_out(client, screen, sure, &escape(node), || {
        let id = find_node(client, node)?.map_or_else(|| node.to_owned(), |who| who.id.0);
        Ok(Action::Post { path: format!("nodes/{}/{action}", encode(&id)), body: None })
    })
}

/// Shows what would be done, asks, and does it, as far as the user wants.
///
/// # Errors
/// [`Failure::Usage`] before anything is sent if nobody can be asked.
fn carry_out(
    client: &Client,
    screen: Screen,
    sure: Sure,
    name: &str,
    action: impl FnOnce() -> Result<Action, Failure>,
) -> Result<(), Failure> {
    if !sure.yes && !sure.dry_run && !io::stdin().is_terminal() {
        return Err(Failure::Usage(
            "nobody can be asked, as standard input is no terminal: \
             give --yes to act, or --dry-run to see what would be done"
                .into(),
        ));
    }
    let action = action()?;
    if !sure.yes {
        let reply = client.act(&action, true)?;
        if sure.dry_run && screen.json {
            return Ok(screen.print_json(&reply)?);
        }
        let text = told(&reply.read()?, name);
        if sure.dry_run {
            screen.print(&text)?;
            screen.note(Tone::Faint, "nothing was done: it is a dry run");
            return Ok(());
        }
        screen.note(Tone::Plain, &text);
        if !is_confirmed()? {
            return Err(Failure::Declined);
        }
    }
    let reply = client.act(&action, false).inspect_err(|failure| {
        if matches!(failure, Failure::Unreachable { sent: true, .. } | Failure::Odd { .. }) {
            screen
                .note(Tone::Warn, "it may have been done all the same; look before you try again");
        }
    })?;
    if screen.json {
        return Ok(screen.print_json(&reply)?);
    }
    Ok(screen.print(&told(&reply.read()?, name))?)
}

fn is_confirmed() -> io::Result<bool> {
    let mut err = io::stderr();
    write!(err, "Shall it be done? [y/N] ")?;
    err.flush()?;
    let mut answer = String::new();
    if io::stdin().read_line(&mut answer)? == 0 {
        // The answer ended without a line of its own.
        writeln!(err)?;
    }
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// What was done, or would be, on one line.
fn told(done: &Done, name: &str) -> String {
    let node = known(done.node());
    let epoch = done.epoch.as_ref().map(|epoch| format!(", epoch {epoch}")).unwrap_or_default();
    match (done.outcome.as_ref().map(|outcome| outcome.0.as_str()), &done.text) {
        (Some("started"), _) => format!("started: {name} on {node}{epoch}"),
        (Some("exists"), _) => format!("exists already: {name} on {node}{epoch}"),
        (Some("stopped"), _) => format!("stopped: {name}, it was on {node}"),
        (Some("moved"), _) => format!("moved: {name} is on {node} now{epoch}"),
        (Some("already_there"), _) => format!("already there: {name} is on {node}{epoch}"),
        (Some(outcome @ ("leaving" | "draining")), _) => {
            let node = done.node().unwrap_or_else(|| name.to_owned());
            let children = children_of(done.children);
            format!("{outcome}: {node} hands {children} over; hubctl watch shows how far it is")
        }
        (Some(outcome @ ("resumed" | "unchanged" | "released")), Some(text)) => {
            format!("{outcome}: {text}")
        }
        (Some("not_bound"), Some(text)) => text.to_string(),
        (Some("applied"), Some(text)) => format!("applied: {text}"),
        (Some("discarded"), _) => format!("discarded: {name}"),
        (Some(other), _) => format!("{}: {name}", escape(other)),
        (None, Some(text)) => text.to_string(),
        (None, None) => "the endpoint does not say what would be done".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told_of(json: &str) -> String {
        told(&serde_json::from_str(json).expect("a reply"), "room/lobby")
    }

    #[test]
    fn what_was_done_is_told_in_a_line() {
        let node = r#""node":{"id":"xx12345678","name":"a"}"#;
        assert_eq!(
            told_of(&format!(r#"{{"outcome":"moved",{node},"epoch":"1.5"}}"#)),
            "moved: room/lobby is on a …12345678 now, epoch 1.5"
        );
        assert_eq!(
            told_of(&format!(r#"{{"outcome":"leaving",{node},"children":1}}"#)),
            "leaving: a …12345678 hands 1 child over; hubctl watch shows how far it is"
        );
        assert_eq!(
            told_of(&format!(r#"{{"outcome":"draining",{node},"children":2}}"#)),
            "draining: a …12345678 hands 2 children over; hubctl watch shows how far it is"
        );
        let done = r#"{"outcome":"resumed","text":"a takes children again."}"#;
        assert_eq!(told_of(done), "resumed: a takes children again.");
        let done = r#"{"outcome":"released","text":"x is bound to a no more."}"#;
        assert_eq!(told_of(done), "released: x is bound to a no more.");
        assert_eq!(told_of(r#"{"outcome":"stopped"}"#), "stopped: room/lobby, it was on ?");
        let text = "It was merged.";
        let done = format!(r#"{{"outcome":"applied","text":"{text}"}}"#);
        assert_eq!(told_of(&done), "applied: It was merged.");
        assert_eq!(told_of(r#"{"outcome":"discarded"}"#), "discarded: room/lobby");
        assert_eq!(told_of("{\"outcome\":\"\\u001b\"}"), "\\u{1b}: room/lobby");
    }

    #[test]
    fn a_dry_run_is_told_in_the_words_of_the_endpoint() {
        assert_eq!(told_of(r#"{"dry_run":true,"text":"it would start"}"#), "it would start");
        assert!(told_of(r#"{"dry_run":true}"#).contains("does not say"));
    }
}
