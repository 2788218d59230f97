//! Segmenter's decisions and formats that need no PostgreSQL.
//!
//! This crate does not depend on pgrx. The compiler therefore guarantees that nothing here reads
//! the database, the server's clock or a setting: these values are arguments. `cargo test -p
//! segmenter-core` runs the tests of the crate in seconds.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]

pub mod alert;
pub mod audience_report;
pub mod bucket;
pub mod clock;
pub mod clock_words;
pub mod config;
pub mod connector;
pub mod content;
pub mod dependency_order;
pub mod due;
pub mod exclusion;
pub mod gaps;
pub mod guards;
pub mod http;
pub mod identifier;
pub mod job;
pub mod job_table;
pub mod jsonb;
pub mod metrics;
pub mod progress;
pub mod query_file;
pub mod queue;
pub mod reason;
pub mod receipt;
pub mod report;
pub mod schedule;
pub mod sync_plan;
pub mod tables_read;
pub mod text;
pub mod timetable;
pub mod unusual;
pub mod upstream;
