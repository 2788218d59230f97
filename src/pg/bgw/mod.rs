//! Background workers: processes, threads, the job table and the progress in shared memory, activity of
//! other sessions.

pub mod activity;
pub mod job_table;
pub mod process;
pub mod progress;
pub mod thread;
