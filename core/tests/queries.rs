//! Compares docs/queries.md with the headers of `sql/query`. `make docs` writes the page (`UPDATE=1
//! cargo test -p segmenter-core --test queries`).

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use segmenter_core::query_file::{QueryFile, ROLES, WORDS};

const INTRODUCTION: &str = "\
# Statements

The statements that Segmenter runs on its own relations and on segment tables, and the role that
runs each. The page is made of the headers in `sql/query` (`make docs`), where the texts are. A test
compares it, and every test fails if a statement runs as another role than its header says.

| role | which it is | restricted |
| --- | --- | --- |
| extension owner | the owner of the extension | no |
| set owner | the owner of the relation set; of the extension's own set the extension's owner | in sets other than the extension's own |
| segment owner | the column `owner` of the segment | yes, unless the session is its own |
| table owner | the owner of the segment table | yes, unless the session is its own |
| consumer role | the column `role` of the consumer | yes, unless the session is its own |
| caller | the role that calls the function | yes, unless the session is its own |

*Restricted* is PostgreSQL's security-restricted operation: the role cannot be changed, and no
temporary object or deferred trigger is left behind. Relations are named as in the extension's own
set. Placeholders that are not relations (a segment's query, a source) are explained in the files.
Users' own SQL (queries, procedures, source checks, functions of consumers) is not in this list: see
[security](security.md#whose-rights-sql-gets).
";

/// The relation of a placeholder.
fn relation(word: &str) -> Option<String> {
    match word {
        "schema" | "membership" => None,
        "mart" => Some("segmenter".into()),
        "table" => Some("*segment table*".into()),
        _ if WORDS.contains(&word) => Some(format!("segmenter_{word}")),
        _ => None,
    }
}

/// The relations that a statement writes, and those that it only reads.
fn relations(file: &QueryFile) -> (BTreeSet<String>, BTreeSet<String>) {
    let words: Vec<&str> = file.text.split_whitespace().collect();
    let mut written = BTreeSet::new();
    for (at, word) in words.iter().enumerate() {
        let mut target = match *word {
            "update" | "into" => at + 1,
            "table" if file.is_command() => at + 1,
            // DROP POLICY name ON relation.
            "policy" => match words[at..].iter().position(|word| *word == "on") {
                Some(on) => at + on + 1,
                None => continue,
            },
            "delete" if words.get(at + 1) == Some(&"from") => at + 2,
            _ => continue,
        };
        if words.get(target) == Some(&"only") {
            target += 1;
        }
        let is_command = *word == "table";
        // DROP TABLE and LOCK TABLE take a list.
        let last = if is_command { words.len() } else { target + 1 };
        for word in words.get(target..last).unwrap_or_default() {
            let name = word.trim_matches(|c| c == ',' || c == '(' || c == ';');
            let name = name.strip_prefix('@').and_then(|name| name.strip_suffix('@'));
            written.extend(name.and_then(relation));
        }
    }
    let read = file.placeholders().into_iter().filter_map(relation);
    let read = read.filter(|relation| !written.contains(relation)).collect();
    (written, read)
}

fn page(files: &[QueryFile]) -> String {
    let mut page = INTRODUCTION.to_owned();
    let list = |names: &BTreeSet<String>| {
        names
            .iter()
            .map(|name| if name.starts_with('*') { name.clone() } else { format!("`{name}`") })
            .collect::<Vec<_>>()
            .join(", ")
    };
    let mut room = "";
    for file in files.iter().filter(|file| !file.runs_as.is_empty()) {
        let (in_room, name) = file.name.split_once('/').unwrap();
        if in_room != room {
            room = in_room;
            let _ = write!(
                page,
                "\n## {room}\n\n| statement | role | writes | reads | what it does |\n| --- | --- | --- | --- | --- |\n"
            );
        }
        let (written, read) = relations(file);
        let mut about = file.about.replace('|', "\\|");
        for (number, (name, _)) in file.params.iter().enumerate().rev() {
            about = about.replace(&format!("${}", number + 1), &format!("`{name}`"));
        }
        let roles = file.runs_as.join(", ");
        let _ = writeln!(
            page,
            "| `{name}` | {roles} | {} | {} | {about} |",
            list(&written),
            list(&read)
        );
    }
    page
}

fn files() -> Vec<QueryFile> {
    QueryFile::read_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../sql/query")).unwrap()
}

#[test]
fn the_page_agrees_with_the_headers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/queries.md");
    let page = page(&files());
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "docs/queries.md is not what the headers say: run make docs");
}

#[test]
fn every_role_and_every_written_relation_is_found() {
    let files = files();
    let roles: BTreeSet<&str> =
        files.iter().flat_map(|file| &file.runs_as).map(String::as_str).collect();
    assert_eq!(roles, BTreeSet::from(ROLES));
    // A statement that begins with a verb that writes has a relation that it writes.
    for file in &files {
        let writes = ["insert", "update", "delete", "drop", "lock"];
        if writes.iter().any(|verb| file.text.starts_with(verb)) {
            assert!(!relations(file).0.is_empty(), "{}", file.name);
        }
    }
}

/// Every file is in a room: none is at the top.
/// What a backslash in a literal means depends on standard_conforming_strings, which is the session's
/// where a statement runs as the caller.
#[test]
fn no_statement_depends_on_how_the_session_reads_sql() {
    for file in files() {
        assert!(!file.text.contains('\\'), "{} contains a backslash: use decode()", file.name);
    }
}

#[test]
fn every_file_is_in_a_room() {
    let rooms = ["catalog", "config", "refresh", "delivery", "schedule", "ops"];
    for file in files() {
        let room = file.name.split('/').next().unwrap_or_default().to_owned();
        assert!(rooms.contains(&room.as_str()) && file.name.contains('/'), "{}", file.name);
    }
}
