//! The files of `sql/query`. Each has one statement and a header: what it does, the role that it
//! runs as, its parameters and its row. The build script and the tests read them. (This file uses
//! `std` only, because the build script includes it.)
//!
//! ```text
//! -- What the statement does.
//! -- runs as: set owner
//! -- params: segment uuid, since timestamptz
//! -- row: id text, members bigint
//! -- @table@: the segment table, e.g. public.vip
//! select …
//! ```
//!
//! `params` and `row` are optional. If columns of the row depend on the segment, the list contains
//! `…`. A word of the relation set (`@log@`) needs no line. Every other placeholder needs one, with
//! an example that a test inserts. `part of:` in place of `runs as:` marks a fragment: text that is
//! inserted into other statements.

use std::fs;
use std::path::{Path, PathBuf};

/// The roles that a statement may run as.
pub const ROLES: [&str; 6] =
    ["extension owner", "set owner", "segment owner", "table owner", "consumer role", "caller"];

/// The placeholders that every statement may use: relations of the set and of the extension, the
/// extension's schema, and the kind of role membership that `pg_has_role` checks.
pub const WORDS: [&str; 28] = [
    "mart",
    "segments",
    "consumers",
    "subscriptions",
    "log",
    "outbox",
    "deliveries",
    "handovers",
    "state",
    "attempts",
    "definitions",
    "secret",
    "kept_out",
    "status",
    "current",
    "withheld",
    "reports",
    "counts",
    "alerts",
    "alert_states",
    "registry",
    "registry_relations",
    "change_readers",
    "changes",
    "connectors",
    "requests",
    "schema",
    "membership",
];

/// A column or parameter: its name and its type.
pub type Typed = (String, String);

/// A parsed file.
#[derive(Debug, Clone)]
pub struct QueryFile {
    /// The path below `sql/query` without `.sql`: `delivery/claim/lock_cursor`.
    pub name: String,
    /// What the statement does.
    pub about: String,
    /// The roles that it may run as; empty for a fragment.
    pub runs_as: Vec<String>,
    pub params: Vec<Typed>,
    pub row: Vec<Typed>,
    /// Whether the row has more columns, which depend on the segment.
    pub is_open: bool,
    /// The placeholders other than [`WORDS`], each with an example.
    pub parts: Vec<(String, String)>,
    /// The statement without its header.
    pub text: String,
}

impl QueryFile {
    /// Reads and checks all files below a directory, ordered by name. The error names the file.
    pub fn read_all(directory: &Path) -> Result<Vec<Self>, String> {
        let mut paths = Vec::new();
        collect(directory, &mut paths)?;
        paths.sort();
        let read = |path: &PathBuf| {
            let name = path.strip_prefix(directory).map_err(|error| error.to_string())?;
            let name = name.with_extension("").to_string_lossy().replace('\\', "/");
            let text = fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
            Self::parse(&name, &text).map_err(|problem| format!("sql/query/{name}.sql: {problem}"))
        };
        paths.iter().map(read).collect()
    }

    /// Parses and checks the text of a file.
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        let (mut about, mut runs_as, mut is_fragment) = (Vec::new(), Vec::new(), false);
        let (mut params, mut row, mut is_open, mut parts) =
            (Vec::new(), Vec::new(), false, Vec::new());
        let mut rest = text;
        while let Some(line) = rest.lines().next().and_then(|line| line.strip_prefix("-- ")) {
            rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
            if let Some(roles) = line.strip_prefix("runs as: ") {
                runs_as = roles.split(", ").map(str::to_owned).collect();
            } else if line.starts_with("part of: ") {
                is_fragment = true;
            } else if let Some(list) = line.strip_prefix("params: ") {
                params = typed(list)?.0;
            } else if let Some(list) = line.strip_prefix("row: ") {
                (row, is_open) = typed(list)?;
            } else if let Some((word, says)) =
                line.strip_prefix('@').and_then(|line| line.split_once("@: "))
            {
                let (_, example) = says
                    .split_once("e.g. ")
                    .ok_or_else(|| format!("the placeholder @{word}@ has no example"))?;
                parts.push((word.to_owned(), example.to_owned()));
            } else if runs_as.is_empty() && !is_fragment {
                about.push(line);
            } else {
                return Err(format!("\"{line}\" belongs to nothing"));
            }
        }
        let file = Self {
            name: name.to_owned(),
            about: about.join(" "),
            runs_as,
            params,
            row,
            is_open,
            parts,
            text: rest.trim_end().to_owned(),
        };
        file.check(is_fragment)?;
        Ok(file)
    }

    fn check(&self, is_fragment: bool) -> Result<(), String> {
        if self.about.is_empty() {
            return Err("it does not say what it does".into());
        }
        if self.runs_as.is_empty() != is_fragment {
            return Err("it must have either \"runs as\" or \"part of\"".into());
        }
        if let Some(role) = self.runs_as.iter().find(|role| !ROLES.contains(&role.as_str())) {
            return Err(format!("there is no role \"{role}\""));
        }
        for word in self.placeholders() {
            let is_known = WORDS.contains(&word) || self.parts.iter().any(|(part, _)| part == word);
            if !is_known {
                return Err(format!("nothing says what @{word}@ is"));
            }
        }
        for (word, _) in &self.parts {
            if !self.placeholders().contains(&word.as_str()) {
                return Err(format!("@{word}@ does not occur"));
            }
        }
        let used = (1..).take_while(|n| self.text.contains(&format!("${n}"))).count();
        if !is_fragment && used > self.params.len() {
            return Err(format!("${used} has no parameter in the header"));
        }
        Ok(())
    }

    /// The placeholders of the text, each once. `@text:word@` counts as `@word@`.
    pub fn placeholders(&self) -> Vec<&str> {
        let mut words: Vec<&str> = Vec::new();
        let mut rest = self.text.as_str();
        while let Some((_, after)) = rest.split_once('@') {
            rest = after;
            let Some((word, after)) = rest.split_once('@') else { break };
            let is_word = |word: &str| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            let bare = word.strip_prefix("text:").unwrap_or(word);
            if !bare.is_empty() && is_word(bare) {
                rest = after;
                if !words.contains(&bare) {
                    words.push(bare);
                }
            }
        }
        words
    }

    /// Whether the statement is a utility command, which PostgreSQL cannot prepare.
    pub fn is_command(&self) -> bool {
        ["create", "alter", "drop", "lock", "revoke", "set"]
            .iter()
            .any(|verb| self.text.starts_with(verb))
    }
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) -> Result<(), String> {
    let entries = fs::read_dir(directory).map_err(|error| format!("{directory:?}: {error}"))?;
    for entry in entries {
        let path = entry.map_err(|error| error.to_string())?.path();
        if path.is_dir() {
            collect(&path, paths)?;
        } else if path.extension().is_some_and(|ending| ending == "sql") {
            paths.push(path);
        }
    }
    Ok(())
}

/// Parses a list of names with types; the flag says whether it contains `…`.
fn typed(list: &str) -> Result<(Vec<Typed>, bool), String> {
    let (mut columns, mut is_open) = (Vec::new(), false);
    for entry in list.split(", ") {
        match entry.split_once(' ') {
            _ if entry == "…" => is_open = true,
            Some((name, kind)) => columns.push((name.to_owned(), kind.to_owned())),
            None => return Err(format!("\"{entry}\" has no type")),
        }
    }
    Ok((columns, is_open))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_parsed() {
        let text = "-- Finds it,\n-- if it is there.\n-- runs as: set owner, caller\n-- params: id uuid, at \
                    timestamptz\n-- row: id text, …, place tid\n-- @table@: a table, e.g. public.vip\nselect \
                    1 from @table@, @log@, '@text:mart@' where $1 @> $2\n";
        let file = QueryFile::parse("a/find_it", text).unwrap();
        assert_eq!(file.about, "Finds it, if it is there.");
        assert_eq!(file.runs_as, ["set owner", "caller"]);
        assert_eq!(file.params[1], ("at".to_owned(), "timestamptz".to_owned()));
        assert_eq!((file.row.len(), file.is_open), (2, true));
        assert_eq!(file.parts, [("table".to_owned(), "public.vip".to_owned())]);
        assert_eq!(file.placeholders(), ["table", "log", "mart"]);
        assert!(file.text.starts_with("select") && !file.is_command());
    }

    #[test]
    fn an_invalid_header_is_refused() {
        for (text, problem) in [
            ("select 1", "what it does"),
            ("-- A.\nselect 1", "either"),
            ("-- A.\n-- runs as: anyone\nselect 1", "anyone"),
            ("-- A.\n-- runs as: caller\nselect @x@", "@x@"),
            ("-- A.\n-- runs as: caller\n-- @x@: a table\nselect @x@", "no example"),
            ("-- A.\n-- runs as: caller\n-- @x@: a table, e.g. t\nselect 1", "does not occur"),
            ("-- A.\n-- runs as: caller\nselect $1", "$1"),
            ("-- A.\n-- runs as: caller\n-- params: id\nselect $1", "no type"),
            ("-- A.\n-- runs as: caller\n-- more\nselect 1", "belongs to nothing"),
        ] {
            let error = QueryFile::parse("a", text).expect_err(text);
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}
