//! Generates a constant for each file of `sql/query`, and keeps the linker from removing the
//! descriptions of the SQL objects.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

#[path = "core/src/query_file.rs"]
#[allow(dead_code)]
mod query_file;

use query_file::QueryFile;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=core/src/query_file.rs");
    println!("cargo::rerun-if-changed=sql/query");
    queries();
    // The descriptions are in a section of the library to which nothing refers, so the linker needs
    // this flag to keep it.
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os != "macos") {
        println!("cargo::rustc-link-arg-cdylib=-Wl,--no-gc-sections");
    }
}

/// Writes the module `queries`, with a module for each directory and a constant for each file.
fn queries() {
    let files =
        QueryFile::read_all(Path::new("sql/query")).unwrap_or_else(|error| panic!("{error}"));
    let mut code = String::new();
    let mut open: Vec<&str> = Vec::new();
    for file in &files {
        let mut path: Vec<&str> = file.name.split('/').collect();
        let constant = path.pop().unwrap_or_default().to_uppercase();
        let common = open.iter().zip(&path).take_while(|(open, wanted)| open == wanted).count();
        while open.len() > common {
            open.pop();
            code.push_str("}\n");
        }
        for module in &path[common..] {
            let _ = writeln!(code, "pub mod {module} {{");
            open.push(module);
        }
        let _ = writeln!(code, "/// {}", file.about);
        let _ = writeln!(
            code,
            "pub const {constant}: crate::catalog::query::Query = crate::catalog::query::Query {{ name: {:?}, runs_as: &[",
            file.name
        );
        for role in &file.runs_as {
            let variant: String = role.split(' ').map(capitalized).collect();
            let _ = writeln!(code, "crate::catalog::query::RunsAs::{variant}, ");
        }
        // A fragment goes into another statement. Of all others the first line is a comment: it names the
        // file where a statement is shown, and `strip_own_context` knows our statements by it.
        let text = match file.runs_as.is_empty() {
            true => file.text.clone(),
            false => format!("-- segmenter: {}\n{}", file.name, file.text),
        };
        let _ = writeln!(code, "], text: {text:?} }};");
    }
    open.iter().for_each(|_| code.push_str("}\n"));
    let out = env::var("OUT_DIR").unwrap_or_default();
    fs::write(Path::new(&out).join("queries.rs"), code)
        .expect("the build's directory can be written to");
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
