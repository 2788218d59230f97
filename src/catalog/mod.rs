//! The extension's own relations: which sets of them there are, as which role they are used, the log.

pub mod log;
pub mod manage_sets;
pub mod query;
pub mod relation_set;
pub mod settings;

/// A constant for each file of `sql/query`, in modules that are called like its directories.
pub mod queries {
    include!(concat!(env!("OUT_DIR"), "/queries.rs"));
}
