//! The background workers: a launcher starts a scheduler for each database that is to have one, a
//! scheduler starts a refresher for each refresh. No rules here: when a segment is due says `due`,
//! what comes after what says `run`.

use std::time::Duration;

use pgrx::prelude::*;

use crate::error::{Report, say};
use crate::pg::{board, process};

mod launcher;
mod refresher;
mod scheduler;

const LAUNCHER: &str = "segmenter launcher";
const SCHEDULER: &str = "segmenter scheduler";
const WORKER: &str = "segmenter worker";

/// Called when the library is loaded: registers the launcher, where the server is just starting.
pub fn init() {
    if process::is_preloading() {
        board::init();
        process::register(LAUNCHER, "segmenter_launcher", Duration::from_secs(1));
    }
}

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn segmenter_launcher(_argument: pg_sys::Datum) {
    launcher::main();
}

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn segmenter_scheduler(argument: pg_sys::Datum) {
    scheduler::main(pg_sys::Oid::from(argument.value() as u32));
}

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn segmenter_worker(argument: pg_sys::Datum) {
    refresher::main(board::Ticket::from_datum(argument));
}

/// Writes to the server's log what went wrong with a piece of our own work.
fn complain(what: &str, report: &Report) {
    say(
        PgLogLevel::WARNING,
        format!("segmenter: {what}: {}", report.to_line()),
        report.hint.as_deref(),
    );
}
