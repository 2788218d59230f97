//! Segmenter: marketing segments that are computed, stored and handed over inside PostgreSQL.
//!
//! The modules, each using only those before it: `error`, `pg` (everything that calls PostgreSQL's
//! C functions), `catalog` (the relation sets, their log, the settings), `config` (validated config
//! rows), `refresh` (one refresh of one segment), `delivery` (messages to consumers), `schedule`
//! (what is due, and runs of it), `ops` (creating, subscribing, erasing, health checks), and two
//! entry points: `worker` (background processes) and `api` (SQL functions and triggers). The crate
//! `segmenter-core` holds what needs no server.
//!
//! A refresh takes these steps: check the sources, compute the delta, check the guards, apply the
//! delta, write messages into the outbox, write the log.

#![deny(clippy::unwrap_used, clippy::expect_used)]
#![deny(ffi_unwind_calls)]

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

#[cfg(feature = "pg_test")]
#[path = "../pg_test/rust/mod.rs"]
#[allow(clippy::expect_used)]
mod pg_test;

pgrx::pg_module_magic!();

extension_sql_file!("../sql/tables.sql", name = "tables", bootstrap);
extension_sql_file!("../sql/set.sql", name = "set", requires = ["tables"]);
extension_sql_file!(
    "../sql/procedures.sql",
    name = "procedures",
    requires = [
        api::segmenter_run_check,
        api::segmenter_run_id,
        api::segmenter_run_plan,
        api::segmenter_run_step,
        api::segmenter_run_prune
    ]
);
extension_sql_file!(
    "../sql/views.sql",
    name = "views",
    requires = [
        api::lineage::segmenter_list_lineage,
        api::progress::segmenter_list_progress,
        api::stat::segmenter_list_stat,
        api::stat::segmenter_list_stat_subscriptions
    ]
);
extension_sql_file!(
    "../sql/connectors.sql",
    name = "connectors",
    requires = [
        "tables",
        api::connectors::segmenter_http_validator,
        api::connectors::segmenter_builtin_connectors,
        api::connectors::segmenter_check_connector
    ]
);
extension_sql_file!("../sql/privileges.sql", name = "privileges", finalize);

#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    catalog::settings::init(catalog::relation_set::is_set);
    worker::init();
}
