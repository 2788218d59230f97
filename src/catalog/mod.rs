//! The extension's own relations: which sets of them there are, as which role they are used, the log.

pub mod log;
pub mod manage_sets;
pub mod relation_set;
pub mod settings;
