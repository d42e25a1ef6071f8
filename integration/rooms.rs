//! Reads rooms of `src/` and fails where their files import each other in a ring: who reads one of
//! them would have to read all.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// Rooms whose files use what stands below them only, `mod.rs` on top.
const ROOMS: &[&str] = &[
    "delivery",
    "engine/children",
    "engine/homes",
    "engine/membership",
    "engine/parked",
    "engine/routes",
    "engine/topics",
    "hub/codec",
    "hub/topics",
    "model",
    "net",
    "testkit",
    "web",
];

/// Which files of a room each of them imports from; `mod` is its `mod.rs`.
type Imports = BTreeMap<String, BTreeSet<String>>;

/// The names right behind each `path::`, also behind `path::{`.
fn named_behind(code: &str, path: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices(path) {
        let before = code[..at].chars().next_back();
        // A longer path, of which this is the end, leads elsewhere.
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &code[at + path.len()..];
        let is_group = rest.starts_with('{');
        let (mut depth, mut begins) = (0, true);
        let mut name = String::new();
        for c in rest.chars() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            let is_name = c.is_alphanumeric() || c == '_' || c == '*';
            if is_name && begins && depth == usize::from(is_group) as i32 {
                name.push(c);
                continue;
            }
            if !name.is_empty() {
                names.insert(std::mem::take(&mut name));
                begins = false;
            }
            if c == ',' && depth == 1 {
                begins = true;
            }
            if !is_group || depth == 0 {
                break;
            }
        }
        names.extend(Some(name).filter(|name| !name.is_empty()));
    }
    names
}

/// The code of a file without comments and without its tests.
fn code(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let lines = text[..end].lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

fn imports(room: &str) -> Imports {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(room);
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(&folder).expect("the room can be read") {
        let path = entry.expect("the room can be read").path();
        if path.extension().is_some_and(|ending| ending == "rs") {
            let name = path.file_stem().expect("it has a name").to_string_lossy().into_owned();
            files.insert(name, code(&fs::read_to_string(&path).expect("it can be read")));
        }
    }
    let whole = format!("crate::{}::", room.replace('/', "::"));
    let mut imports = Imports::new();
    for (file, code) in &files {
        let here = if file == "mod" { "self::" } else { "super::" };
        let names = [here, &whole].into_iter().flat_map(|path| named_behind(code, path));
        // What is no file stands in `mod.rs`, as all that `*` may mean does.
        let name = |name: String| if files.contains_key(&name) { name } else { "mod".to_owned() };
        let used = names.map(name).filter(|used| used != file).collect();
        imports.insert(file.clone(), used);
    }
    imports
}

/// The files that are left when all are taken away, one after the other, that import nothing that is
/// left: each of them is in a ring, or imports one that is.
fn ring(mut imports: Imports) -> BTreeSet<String> {
    loop {
        let left: BTreeSet<String> = imports.keys().cloned().collect();
        imports.retain(|_, used| !used.is_disjoint(&left));
        if imports.len() == left.len() {
            return left;
        }
    }
}

#[test]
fn no_file_of_a_room_imports_another_in_a_ring() {
    for room in ROOMS {
        let imports = imports(room);
        assert!(imports.len() > 2, "src/{room} was not found whole");
        assert!(imports.values().any(|used| !used.is_empty()), "src/{room} was not read");
        assert_eq!(ring(imports), BTreeSet::new(), "src/{room}");
    }
}

#[test]
fn a_ring_is_found_by_whatever_path_it_goes() {
    let names = |code: &str| named_behind(code, "super::").into_iter().collect::<Vec<_>>();
    assert_eq!(names("use super::{a::{B, c::D}, e::F,\n    G};"), ["G", "a", "e"]);
    assert_eq!(names("let x = super::a::b(); use super::*;"), ["*", "a"]);
    assert_eq!(names("use super::super::a; pub(super) fn b() {}"), ["super"]);
    let room = |all: &[(&str, &[&str])]| -> Imports {
        let used = |used: &[&str]| used.iter().map(|name| (*name).to_owned()).collect();
        all.iter().map(|(file, names)| ((*file).to_owned(), used(names))).collect()
    };
    let line = room(&[("mod", &["a", "b"]), ("a", &["b"]), ("b", &["c"]), ("c", &[])]);
    assert!(ring(line).is_empty());
    let short = room(&[("mod", &["a"]), ("a", &["b"]), ("b", &["a"]), ("c", &[])]);
    assert_eq!(ring(short), ["a", "b", "mod"].map(str::to_owned).into());
    let by_mod = room(&[("mod", &["a"]), ("a", &["b"]), ("b", &["mod"])]);
    assert_eq!(ring(by_mod).len(), 3);
}
