//! Mistakes that do not compile, and what the compiler says of them.
//!
//! Each file of `compile_fail/` is a program. The `.stderr` beside one with a mistake has parts of what the
//! compiler says: each line is a part of a line, in this order, and no further errors come. All of it would
//! change with each release of the compiler. A program without one compiles.
//!
//! The programs are compiled against what this test was: nothing is built for them.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

/// What the programs use.
const CRATES: [&str; 3] = ["actix", "actix_hub", "serde"];

/// The libraries that this test was linked with, as arguments of `rustc`: cargo has them and says where.
fn libraries() -> Vec<String> {
    let active = [
        ("default", cfg!(feature = "default")),
        ("admin", cfg!(feature = "admin")),
        ("web", cfg!(feature = "web")),
        ("testkit", cfg!(feature = "testkit")),
        ("bench-internals", cfg!(feature = "bench-internals")),
    ];
    let active = active.iter().filter(|(_, is_active)| *is_active).map(|(name, _)| *name);
    let features = format!("--features={}", active.collect::<Vec<_>>().join(","));
    // `target/debug/deps/integration-..`
    let this = env::current_exe().expect("a test has a file");
    let deps = this.parent().expect("it is in a folder");
    let profile = match deps.parent().and_then(Path::file_name).and_then(|name| name.to_str()) {
        Some("debug") | None => None,
        Some(profile) => Some(format!("--profile={profile}")),
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = Command::new(cargo);
    // What cargo has told this test of its package would make build scripts run again that look at it.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_MANIFEST_", "CARGO_PKG_"].iter().any(|prefix| text.starts_with(prefix)) {
            cargo.env_remove(&name);
        }
    }
    let built = cargo
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["test", "--no-run", "--offline", "--test=integration", "--message-format=json"])
        .args(["--no-default-features", &features])
        .args(profile)
        .output()
        .expect("cargo runs");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let lines = String::from_utf8(built.stdout).expect("it is JSON");
    let told: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect();
    let libraries = |name: &str| {
        let is_it = |it: &&Value| {
            it["reason"] == "compiler-artifact"
                && it["target"]["name"] == name
                && it["target"]["kind"][0] == "lib"
        };
        told.iter().filter(is_it).cloned().collect::<Vec<Value>>()
    };
    let profile = &libraries("actix_hub")[0]["profile"];
    let mut args = vec![format!("-Ldependency={}", deps.display())];
    for name in CRATES {
        // What build scripts use is built in another way.
        let found: Vec<_> =
            libraries(name).into_iter().filter(|it| it["profile"] == *profile).collect();
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        let files = found[0]["filenames"].as_array().expect("it has files");
        let file = files.iter().filter_map(Value::as_str).find(|file| file.ends_with(".rlib"));
        args.push(format!("--extern={name}={}", file.expect("it is a library")));
    }
    args
}

fn compile(program: &Path, libraries: &[String]) -> Output {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    Command::new(rustc)
        .args(["--edition=2024", "--emit=metadata", "--color=never", "--diagnostic-width=200"])
        .arg(format!("--out-dir={}", env!("CARGO_TARGET_TMPDIR")))
        .args(libraries)
        .arg(program)
        .output()
        .expect("rustc runs")
}

/// The first of these lines that is not in `told`, in this order, or what was told beyond them.
fn difference(expected: &str, told: &str) -> Option<String> {
    let mut lines = told.lines();
    for part in expected.lines().map(str::trim).filter(|part| !part.is_empty()) {
        if !lines.any(|line| line.contains(part)) {
            return Some(format!("missing: {part}"));
        }
    }
    let errors = |text: &str| {
        let is_error = |line: &&str| line.starts_with("error") && !line.contains("aborting due to");
        text.lines().filter(is_error).count()
    };
    let (expected, told) = (errors(expected), errors(told));
    (expected != told).then(|| format!("{told} errors in the place of {expected}"))
}

#[test]
fn mistakes_do_not_compile_and_the_compiler_says_what_to_do() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/compile_fail");
    let mut programs: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the folder can be read")
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "rs"))
        .collect();
    programs.sort();
    let libraries = libraries();
    let mut wrong = String::new();
    for program in &programs {
        let output = compile(program, &libraries);
        let told = String::from_utf8_lossy(&output.stderr);
        let difference = match fs::read_to_string(program.with_extension("stderr")) {
            Ok(_) if output.status.success() => Some("it compiles".to_owned()),
            Ok(expected) => difference(&expected, &told),
            Err(_) => (!output.status.success()).then(|| "it does not compile".to_owned()),
        };
        if let Some(difference) = difference {
            wrong += &format!("\n{}: {difference}\n{told}", program.display());
        }
    }
    assert!(programs.len() > 5, "the programs were not found");
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn a_line_that_is_missing_and_an_error_more_are_told() {
    let told =
        "error[E1]: a\n  --> b.rs\n   = note: c\n\nerror: d\n\nerror: aborting due to 2 errors\n";
    assert_eq!(difference("error[E1]: a\nc\nerror: d", told), None);
    assert_eq!(difference("c\nerror[E1]: a\nerror: d", told), Some("missing: error[E1]: a".into()));
    assert_eq!(difference("error[E1]: a", told), Some("2 errors in the place of 1".into()));
}
