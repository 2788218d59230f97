//! Being a background worker: the process, the jobs in shared memory, what other sessions do.

pub mod activity;
pub mod job_table;
pub mod process;
pub mod thread;
