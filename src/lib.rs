//! Segmenter: marketing segments that are computed, kept and handed over inside PostgreSQL.
//!
//! One way through: `config → schedule → readiness → delta → guards → apply → audience → outbox →
//! log`. `refresh` names those steps for one segment, `run` goes through all that are due, `delivery`
//! gives out what the outbox holds, `api` and `trigger` are what SQL sees. A module uses only what
//! stands before it.

#![cfg_attr(not(any(test, feature = "pg_test")), deny(clippy::unwrap_used, clippy::expect_used))]

#[cfg(not(panic = "unwind"))]
compile_error!("PostgreSQL errors are Rust panics that unwind: build with panic = \"unwind\"");

use pgrx::prelude::*;

mod api;
mod catalog;
mod config;
mod delivery;
mod error;
mod ops;
mod pg;
mod refresh;
mod schedule;
mod worker;

#[cfg(any(test, feature = "pg_test"))]
#[path = "../pg_test/mod.rs"]
pub mod pg_test;

pgrx::pg_module_magic!();

extension_sql_file!("../sql/tables.sql", name = "tables", bootstrap);
extension_sql_file!("../sql/set.sql", name = "set", requires = ["tables"]);
extension_sql_file!(
    "../sql/procedures.sql",
    name = "procedures",
    requires = [api::segmenter_run_plan, api::segmenter_run_step, api::segmenter_prune]
);
extension_sql_file!("../sql/privileges.sql", name = "privileges", finalize);

#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    catalog::settings::init(catalog::relation_set::is_set);
    worker::init();
}
