//! Prints the SQL objects that the library describes, in the order in which they can be created.
//!
//!     segmenter-schema SECTION CONTROL_FILE
//!
//! SECTION is a file with the content of the library's section `.pgrxsc`, into which pgrx's macros
//! write the descriptions.

use std::{env, fs, io};

use eyre::{OptionExt, Result, WrapErr};
use pgrx_sql_entity_graph::section::decode_entities;
use pgrx_sql_entity_graph::{ControlFile, PgrxSql, SqlGraphEntity};

fn main() -> Result<()> {
    let mut args = env::args().skip(1);
    let (section, control) =
        args.next().zip(args.next()).ok_or_eyre("usage: segmenter-schema SECTION CONTROL_FILE")?;
    let section = fs::read(&section).wrap_err(section)?;
    let control = ControlFile::from_path_with_cargo_version(control, env!("CARGO_PKG_VERSION"))?;
    let described = decode_entities(&section)?;
    let objects = std::iter::once(SqlGraphEntity::ExtensionRoot(control)).chain(described);
    PgrxSql::build(objects, "segmenter".into(), false)?.write(&mut io::stdout())
}
