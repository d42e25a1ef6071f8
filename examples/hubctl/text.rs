//! Text for people: what came from outside made safe, ids shortened, units put behind numbers.

use std::{borrow::Cow, fmt, fmt::Write as _, time::Duration};

use serde::Deserialize;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// What is shown for a value that is not known.
pub(crate) const UNKNOWN: &str = "?";

/// Text that the endpoint sent. Displayed, it cannot steer the terminal.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(transparent)]
pub(crate) struct Text(pub(crate) String);

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&escape(&self.0))
    }
}

/// Whether a terminal would obey the character, or show its neighbours in another order.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2066}'..='\u{2069}')
}

/// The text with each such character spelt out: `\n`, `\u{1b}`.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if steers(c) { safe.extend(c.escape_default()) } else { safe.push(c) }
    }
    Cow::Owned(safe)
}

/// JSON on one line with the same characters spelt out as JSON does it. Its value stays the same:
/// between tokens such characters can only be white space, within strings only an escape is left.
pub(crate) fn json_line(json: &str) -> String {
    let mut line = String::with_capacity(json.len());
    for (position, part) in json.trim().lines().enumerate() {
        line.push_str(if position == 0 { "" } else { " " });
        for c in part.trim().chars() {
            match c {
                '\r' | '\t' => line.push(' '),
                c if steers(c) => {
                    let _ = write!(line, "\\u{:04x}", u32::from(c));
                }
                c => line.push(c),
            }
        }
    }
    line
}

/// An id as one segment of a path or one value of a query.
pub(crate) fn encode(id: &str) -> String {
    // A dot segment would be taken for a step in the path.
    let is_step = matches!(id, "." | "..");
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_~".contains(&b) || (b == b'.' && !is_step);
    let mut encoded = String::with_capacity(id.len());
    for byte in id.bytes() {
        if plain(byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// The last 8 characters of a node's id: the first ones are the same for all.
pub(crate) fn short(id: &Text) -> String {
    let start = id.0.char_indices().rev().nth(7).map_or(0, |(at, _)| at);
    format!("…{}", escape(&id.0[start..]))
}

/// The value, or `?`.
pub(crate) fn known(value: Option<impl fmt::Display>) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), |value| value.to_string())
}

/// `2026-11-23T01:44:00.123Z` as `2026-11-23 01:44:00`; any other text as it is.
pub(crate) fn date(time: &Text) -> String {
    match parts(&time.0) {
        Some((date, clock)) => format!("{date} {}", &clock[..8]),
        None => time.to_string(),
    }
}

/// `2026-11-23T01:44:00.123Z` as `01:44:00.123`; any other text as it is.
pub(crate) fn clock(time: &Text) -> String {
    parts(&time.0).map_or_else(|| time.to_string(), |(_, clock)| clock.to_owned())
}

fn parts(time: &str) -> Option<(&str, &str)> {
    let (date, clock) = time.strip_suffix('Z')?.split_once('T')?;
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b"-:.".contains(&b));
    (date.len() == 10 && clock.len() >= 8 && plain(date) && plain(clock)).then_some((date, clock))
}

/// A span in its two largest units: `2d 03h`, `5m 09s`, `7.5 s`, `12.3 ms`.
pub(crate) fn span(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return UNKNOWN.to_owned();
    }
    let whole = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX).as_secs();
    let (minutes, hours, days) = (whole / 60 % 60, whole / 3_600 % 24, whole / 86_400);
    match whole {
        86_400.. => format!("{days}d {hours:02}h"),
        3_600.. => format!("{hours}h {minutes:02}m"),
        60.. => format!("{minutes}m {:02}s", whole % 60),
        10.. => format!("{whole} s"),
        1.. => format!("{seconds:.1} s"),
        0 if seconds >= 0.01 => format!("{:.0} ms", seconds * 1e3),
        0 => format!("{:.2} ms", seconds * 1e3),
    }
}

/// Bytes in powers of 1,000: `123 B`, `12.3 kB`.
pub(crate) fn bytes(count: u64) -> String {
    #[allow(clippy::cast_precision_loss)]
    let mut value = count as f64;
    if count < 1_000 {
        return format!("{count} B");
    }
    let mut unit = "";
    for next in ["kB", "MB", "GB", "TB"] {
        (value, unit) = (value / 1_000.0, next);
        if value < 999.95 {
            break;
        }
    }
    format!("{value:.1} {unit}")
}

/// `1 child`, `2 children`.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// How many columns of a terminal the text takes.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// The text in at most so many columns, with `…` for what is left out.
pub(crate) fn cut(text: &str, columns: usize) -> Cow<'_, str> {
    if width(text) <= columns {
        return Cow::Borrowed(text);
    }
    if columns == 0 {
        return Cow::Borrowed("");
    }
    let mut taken = 0;
    let end = text.char_indices().find(|(_, c)| {
        taken += c.width().unwrap_or(0);
        taken >= columns
    });
    Cow::Owned(format!("{}…", &text[..end.map_or(0, |(at, _)| at)]))
}

/// A node's name and the end of its id in at most so many columns: the end of the id stays.
pub(crate) fn cut_name(text: &str, columns: usize) -> Cow<'_, str> {
    let Some(end) = text.rfind('…').map(|at| &text[at..]).filter(|end| width(end) <= columns)
    else {
        return cut(text, columns);
    };
    if width(text) <= columns {
        return Cow::Borrowed(text);
    }
    // The … of the end tells that something is left out.
    let name = cut(text, columns - width(end) + 1);
    Cow::Owned(format!("{}{end}", name.trim_end_matches('…').trim_end()))
}

/// The text in lines of at most so many columns, broken at spaces where there are some.
pub(crate) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(8);
    let mut lines = vec![String::new()];
    for word in text.trim_end().split(' ') {
        let mut word = word;
        loop {
            let line = lines.last_mut().expect("there is always a line");
            let gap = usize::from(!line.is_empty());
            if width(line) + gap + width(word) <= columns {
                line.push_str(if gap == 1 { " " } else { "" });
                line.push_str(word);
                break;
            }
            if gap == 1 {
                lines.push(String::new());
                continue;
            }
            let mut taken = 0;
            let end = word.char_indices().find(|(_, c)| {
                taken += c.width().unwrap_or(0);
                taken > columns
            });
            let (first, rest) = word.split_at(end.map_or(word.len(), |(at, _)| at));
            line.push_str(first);
            lines.push(String::new());
            word = rest;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Text {
        Text(text.into())
    }

    #[test]
    fn an_id_of_any_kind_is_one_segment_of_a_path() {
        assert_eq!(encode("room/lobby"), "room%2Flobby");
        assert_eq!(encode("a b?c#d%2F"), "a%20b%3Fc%23d%252F");
        assert_eq!(encode("é+&="), "%C3%A9%2B%26%3D");
        assert_eq!(encode("v1.2-x_~"), "v1.2-x_~");
        assert_eq!(encode(".."), "%2E%2E");
        assert_eq!(encode("."), "%2E");
    }

    #[test]
    fn what_would_steer_the_terminal_is_spelt_out() {
        assert_eq!(escape("plain é 漢"), "plain é 漢");
        assert_eq!(escape("\x1b[31mred\x07"), "\\u{1b}[31mred\\u{7}");
        assert_eq!(escape("a\nb\r\tc"), "a\\nb\\r\\tc");
        assert_eq!(escape("\u{9b}2J\u{7f}"), "\\u{9b}2J\\u{7f}");
        assert_eq!(escape("x\u{202e}y\u{2066}"), "x\\u{202e}y\\u{2066}");
        assert_eq!(format!("{:>5}|", text("\n")), "   \\n|");
    }

    #[test]
    fn json_stays_the_same_value_on_one_line() {
        let pretty = "{\n\t\"a\": \"\u{9b}2J\u{7f}\u{202e}\"\r\n}\n";
        let line = json_line(pretty);
        assert_eq!(line, r#"{ "a": "\u009b2J\u007f\u202e" }"#);
        let read = |json: &str| serde_json::from_str::<serde_json::Value>(json).expect("JSON");
        assert_eq!(read(&line), read(pretty));
    }

    #[test]
    fn a_node_is_told_by_the_end_of_its_id() {
        assert_eq!(short(&text("12D3KooWabcdefgh")), "…abcdefgh");
        assert_eq!(short(&text("abc")), "…abc");
        assert_eq!(short(&text("é\x1b345678")), "…é\\u{1b}345678");
    }

    #[test]
    fn times_that_have_another_form_are_shown_as_they_are() {
        let time = text("2026-11-23T01:44:00.123Z");
        assert_eq!(
            (date(&time).as_str(), clock(&time).as_str()),
            ("2026-11-23 01:44:00", "01:44:00.123")
        );
        for odd in ["", "now", "2026-11-23T01Z", "2026-11-2éT01:44:00Z"] {
            assert_eq!((date(&text(odd)), clock(&text(odd))), (odd.to_owned(), odd.to_owned()));
        }
    }

    #[test]
    fn numbers_have_units_that_people_read() {
        let spans = [0.000_42, 0.0123, 1.24, 42.9, 309.0, 7_380.0, 270_000.0, f64::NAN, -1.0];
        let shown = ["0.42 ms", "12 ms", "1.2 s", "42 s", "5m 09s", "2h 03m", "3d 03h", "?", "?"];
        assert_eq!(spans.map(span), shown);
        assert_eq!(
            [0, 999, 1_000, 999_999, 12_345_678].map(bytes),
            ["0 B", "999 B", "1.0 kB", "1.0 MB", "12.3 MB"]
        );
        assert_eq!(
            (count(1, "child", "children"), count(0, "child", "children")),
            ("1 child".into(), "0 children".into())
        );
    }

    #[test]
    fn a_value_that_is_not_known_is_never_a_zero() {
        assert_eq!(known(None::<u64>), "?");
        assert_eq!(known(Some(0)), "0");
    }

    #[test]
    fn a_cut_text_fits_and_says_so() {
        assert_eq!(cut("lobby", 5), "lobby");
        assert_eq!(cut("lobby", 4), "lob…");
        assert_eq!(cut("lobby", 1), "…");
        assert_eq!(cut("lobby", 0), "");
        assert_eq!(cut("漢字漢字", 5), "漢字…");
        assert_eq!(cut("漢字漢字", 4), "漢…");
    }

    #[test]
    fn a_cut_name_keeps_the_end_of_the_id() {
        assert_eq!(cut_name("node-in-eu …12345678", 20), "node-in-eu …12345678");
        assert_eq!(cut_name("node-in-eu …12345678", 14), "node-…12345678");
        assert_eq!(cut_name("node-in-eu …12345678", 9), "…12345678");
        assert_eq!(cut_name("node-in-eu …12345678", 5), "node…");
        assert_eq!(cut_name("?", 0), "");
    }

    #[test]
    fn long_text_is_broken_at_spaces_or_where_it_must() {
        assert_eq!(wrap("the child belongs", 10), ["the child", "belongs"]);
        assert_eq!(wrap("abcdefghijkl mn", 8), ["abcdefgh", "ijkl mn"]);
        assert_eq!(wrap("", 8), [""]);
    }
}
