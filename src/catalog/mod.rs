//! The extension's own relations: the relation sets, the roles that statements on them run as, the
//! log and the settings.

pub mod change_readers;
pub mod connectors;
pub mod definitions;
pub mod extension;
pub mod log;
pub mod manage_sets;
pub mod migrate;
pub mod query;
pub mod registry;
pub mod relation_set;
pub mod sequence;
pub mod session_settings;
pub mod settings;
pub mod state;
pub mod viewer;
pub mod visibility;

/// A constant for each file of `sql/query`, in modules named after its directories.
pub mod queries {
    include!(concat!(env!("OUT_DIR"), "/queries.rs"));
}
