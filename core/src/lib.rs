//! Segmenter's decisions and formats: what needs no PostgreSQL to be decided, and none to be tested.
//!
//! This crate does not depend on pgrx, so the compiler holds that nothing here reads the database, the
//! clock of the server or a setting: all of that comes as arguments. `cargo test -p segmenter-core` runs
//! its tests in seconds.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]

pub mod clock;
pub mod config;
pub mod dependency_order;
pub mod due;
pub mod guards;
pub mod http;
pub mod jsonb;
pub mod query_file;
pub mod queue;
pub mod receipt;
pub mod schedule;
pub mod sync_plan;
pub mod timetable;
