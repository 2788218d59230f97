//! Checks the direction in which the rooms of `src/` use each other: a room uses only the rooms
//! before it. docs/architecture.md describes the rooms.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms, the lowest first. The crate segmenter-core is below all of them.
const ROOMS: [&str; 10] =
    ["error", "pg", "catalog", "config", "refresh", "delivery", "schedule", "ops", "worker", "api"];

/// `worker` and `api` are two entry points: neither uses the other.
const NEVER: [(&str, &str); 1] = [("api", "worker")];

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// The rooms that a text names as `crate::ROOM`, except in comments.
fn used(text: &str) -> BTreeSet<&str> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| line.split("crate::").skip(1))
        .map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or(""))
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn a_room_uses_only_the_rooms_before_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let (mut arrows, mut wrong) = (BTreeMap::<(&str, &str), usize>::new(), Vec::new());
    for file in &files {
        let path = file.strip_prefix(&src).unwrap();
        let first = path.components().next().unwrap().as_os_str().to_str().unwrap();
        if path.components().count() == 1 {
            assert_eq!(first, "lib.rs", "{} is in no room", path.display());
            continue;
        }
        let room = ROOMS.iter().position(|room| *room == first);
        let room = room.unwrap_or_else(|| panic!("{first} is not in the list of rooms"));
        let text = fs::read_to_string(file).unwrap();
        for name in used(&text) {
            let Some(other) = ROOMS.iter().position(|room| *room == name) else {
                wrong.push(format!("{}: crate::{name} is no room", path.display()));
                continue;
            };
            let is_never = NEVER.contains(&(ROOMS[room], ROOMS[other]));
            if other > room || is_never {
                wrong.push(format!("{}: {} must not use {name}", path.display(), ROOMS[room]));
            }
            if other != room {
                *arrows.entry((ROOMS[room], ROOMS[other])).or_default() += 1;
            }
        }
    }
    assert!(files.len() > 50 && arrows.len() > 15, "{} files, {arrows:?}", files.len());
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn names_are_found_in_code_and_not_in_comments() {
    let text =
        "use crate::pg::exec;\n// crate::api\nlet x = crate::error::raise(crate::refresh::find());";
    assert_eq!(used(text).into_iter().collect::<Vec<_>>(), ["error", "pg", "refresh"]);
}

/// A client whose encoding lacks a character of a message gets an error about that character instead.
#[test]
fn texts_for_clients_are_ascii() {
    let core = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&core.join("../src"), &mut files);
    sources(&core.join("src"), &mut files);
    let (mut found, mut lines) = (Vec::new(), 0);
    for file in files {
        // Its mark for further columns is read by the build only.
        if file.ends_with("tests.rs") || file.ends_with("core/src/query_file.rs") {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
            lines += 1;
            if !line.is_ascii() {
                found.push(format!("{}: {}", file.display(), line.trim()));
            }
        }
    }
    assert!(lines > 5000, "{lines} lines");
    assert!(found.is_empty(), "write \"...\" and the like:\n{}", found.join("\n"));
}

/// Only `pg` has `unsafe` code; the entry points of background workers need `#[unsafe(no_mangle)]`.
#[test]
fn unsafe_code_is_in_pg() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    for file in files.iter().filter(|file| !file.starts_with(src.join("pg"))) {
        let text = fs::read_to_string(file).unwrap();
        let found = text.lines().find(|line| {
            let code = line.split("//").next().unwrap_or("");
            code.contains("unsafe") && !code.contains("#[unsafe(no_mangle)]")
        });
        assert_eq!(found, None, "{}", file.display());
    }
}

/// A function that PostgreSQL calls, marked `#[pg_guard]`, turns an error of PostgreSQL into a jump to the
/// handler above. Called from Rust it would jump past Rust frames, which `in_subtransaction` may be among.
#[test]
fn what_postgresql_calls_is_called_by_nothing_else() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let (mut guarded, mut wrong) = (0, Vec::new());
    for file in &files {
        let text = fs::read_to_string(file).unwrap();
        let named = |rest: &str| Some(rest.split_once("fn ")?.1.split_once('(')?.0.to_owned());
        let names: Vec<String> = text.split("#[pg_guard]").skip(1).filter_map(named).collect();
        guarded += names.len();
        for (number, line) in text.lines().enumerate() {
            // Not a method of the name, nor a longer name.
            let is_other = |c: char| c.is_alphanumeric() || "_.:".contains(c);
            let calls = |name: &String| {
                let call = format!("{name}(");
                let mut before = line.match_indices(&call).map(|(at, _)| &line[..at]);
                before.any(|before| !before.ends_with("fn ") && !before.ends_with(is_other))
            };
            let is_code = !line.trim_start().starts_with("//");
            wrong.extend(names.iter().filter(|name| is_code && calls(name)).map(|name| {
                format!("{}:{}: {name}", file.strip_prefix(&src).unwrap().display(), number + 1)
            }));
        }
    }
    assert!(guarded > 5, "the functions that PostgreSQL calls are not found: {guarded}");
    assert!(wrong.is_empty(), "called from Rust, past pg_guard_ffi_boundary: {wrong:#?}");
}
