//! Rows and values in PostgreSQL's binary formats.

pub mod fingerprint;
pub mod json;
pub mod members;
pub mod transition;
pub mod uuid;
