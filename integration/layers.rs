//! Reads `src/` and fails with file and line where a layer names one above it, where libp2p is
//! named outside its room, or where a sans-io layer names a clock, chance, actors or hash maps.

use std::{
    fs,
    path::{Path, PathBuf},
};

struct Rule {
    /// Path prefixes below `src/` that the rule is for.
    within: &'static [&'static str],
    /// What must not be named there.
    forbidden: &'static [&'static str],
    why: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        within: &["model/"],
        forbidden: &[
            "crate::engine",
            "crate::delivery",
            "crate::wire",
            "crate::net",
            "crate::hub",
            "crate::admin",
            "crate::error",
        ],
        why: "model uses nothing of ours",
    },
    Rule {
        within: &["engine/"],
        forbidden: &["crate::delivery", "crate::wire", "crate::net", "crate::hub", "crate::admin"],
        why: "engine uses model and error only",
    },
    Rule {
        within: &["delivery/"],
        forbidden: &["crate::engine", "crate::wire", "crate::net", "crate::hub", "crate::admin"],
        why: "delivery uses model and error only",
    },
    Rule {
        within: &["wire.rs"],
        forbidden: &[
            "crate::engine",
            "crate::delivery",
            "crate::net",
            "crate::hub",
            "crate::admin",
        ],
        why: "wire uses model and error only",
    },
    Rule {
        within: &["net/"],
        forbidden: &["crate::engine", "crate::delivery", "crate::hub", "crate::admin"],
        why: "net uses model, wire and error only",
    },
    Rule {
        within: &["hub/"],
        forbidden: &["crate::admin", "crate::web"],
        why: "hub does not know what serves it",
    },
    Rule { within: &["web/"], forbidden: &["crate::admin"], why: "web does not know admin" },
    Rule {
        within: &[
            "model/",
            "engine/",
            "delivery/",
            "wire.rs",
            "net/",
            "hub/",
            "admin/",
            "error.rs",
        ],
        forbidden: &["crate::sim"],
        why: "the simulation of whole nodes sits above them all",
    },
    Rule {
        within: &[
            "model/",
            "engine/",
            "delivery/",
            "wire.rs",
            "net/",
            "hub/",
            "web/",
            "admin/",
            "error.rs",
        ],
        forbidden: &["crate::testkit"],
        why: "what tests the library sits above it",
    },
    Rule {
        within: &["engine/", "delivery/"],
        forbidden: &[
            "actix::",
            "actix_rt::",
            "tokio::",
            "Instant::now()",
            "SystemTime::now()",
            "HashMap",
            "HashSet",
            "async fn",
            ".await",
            "rand::",
            "getrandom",
        ],
        why: "engine and delivery are sans-io and deterministic",
    },
    Rule {
        within: &["model/", "engine/", "delivery/", "wire.rs", "hub/", "admin/", "error.rs"],
        forbidden: &["libp2p::", "use libp2p"],
        why: "libp2p is named in net/p2p alone",
    },
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("src can be read") {
        let path = entry.expect("src can be read").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// The lines that are code of the library: no comments, and nothing from `#[cfg(test)] mod` on.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    text[..end]
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(number, line)| (number + 1, line))
}

/// Whether a line names a word, and not a longer one that begins with it.
fn names(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let next = line[at + word.len()..].chars().next();
        word.ends_with(':') || !next.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

#[test]
fn no_layer_names_one_above_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    assert!(files.len() > 20, "src was not found whole");
    let mut broken = Vec::new();
    for file in files {
        let name = file.strip_prefix(&src).expect("it is below src").to_string_lossy().into_owned();
        // Simulations and tests may use the clock as a starting point.
        let files = ["sim.rs", "tests.rs", "suite.rs", "_test.rs"];
        if files.iter().any(|ending| name.ends_with(ending))
            || ["/sim/", "/tests/"].iter().any(|folder| name.contains(folder))
        {
            continue;
        }
        if name.starts_with("net/") && !name.starts_with("net/p2p") {
            let text = fs::read_to_string(&file).expect("src can be read");
            for (number, line) in code(&text) {
                if line.contains("libp2p::") {
                    broken.push(format!("src/{name}:{number}: libp2p outside net/p2p: {line}"));
                }
            }
        }
        let text = fs::read_to_string(&file).expect("src can be read");
        for rule in RULES.iter().filter(|rule| rule.within.iter().any(|w| name.starts_with(w))) {
            for (number, line) in code(&text) {
                if let Some(word) = rule.forbidden.iter().find(|word| names(line, word)) {
                    broken.push(format!("src/{name}:{number}: names {word}: {}", rule.why));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
