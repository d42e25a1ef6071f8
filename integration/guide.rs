//! Reads the guide and fails where it quotes what the source does not say.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Quotes that are put together by the program from several parts.
const COMPOSED: &[(&str, &str)] = &[
    ("the environment variable HUB_", "the environment variable {name}: {reason}"),
    ("was not handled: ", "was not handled: {reason}"),
    ("may have been handled: ", "may have been handled: {reason}"),
    ("no answer within the deadline: ", "no answer within the deadline{}"),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("its entries too").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The source with texts that go over several lines in one.
fn said() -> String {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let mut all = String::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("the file can be read");
        for line in text.lines() {
            match line.strip_suffix('\\') {
                Some(begun) => all.push_str(begun),
                None => {
                    all.push_str(line);
                    all.push('\n');
                }
            }
        }
    }
    // What was indented behind the end of a line.
    all.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// What stands between backticks in the first cell of each row.
fn quotes(page: &str) -> Vec<(usize, String)> {
    let rows = page.lines().enumerate().filter(|(_, line)| line.starts_with("| "));
    rows.flat_map(|(at, line)| {
        let cell = line.split(" | ").next().unwrap_or_default();
        let marks = if cell.contains("``") { "``" } else { "`" };
        let spans = cell.split(marks).skip(1).step_by(2).map(str::trim).map(str::to_owned);
        spans.map(move |span| (at + 1, span)).collect::<Vec<_>>()
    })
    .collect()
}

#[test]
fn what_troubleshooting_quotes_is_said_by_the_source() {
    let page = include_str!("../src/guide/troubleshooting.md");
    let said = said();
    let quotes = quotes(page);
    assert!(quotes.len() > 50, "{} quotes were found", quotes.len());
    for (_, written) in COMPOSED {
        assert!(said.contains(written), "no source says {written:?} any more");
    }
    let mut wrong = Vec::new();
    for (line, quote) in quotes {
        for part in quote.split("..") {
            let mut part = part.trim_matches([' ', ':', ',', '(', ')']).to_owned();
            for (begin, _) in COMPOSED {
                if let Some(rest) = format!("{part} ").strip_prefix(begin) {
                    part = rest.trim().to_owned();
                }
            }
            // Names of metrics have a prefix and labels besides.
            let name = part.strip_prefix("actix_hub_").unwrap_or(&part);
            let name = name.split('{').next().unwrap_or_default();
            let name = name.strip_suffix("_total").unwrap_or(name);
            if !said.contains(name) {
                wrong.push(format!("line {line}: {part:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "no source says {wrong:#?}");
}
