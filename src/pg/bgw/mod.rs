//! Background workers: processes, threads, the job table in shared memory, activity of other
//! sessions.

pub mod activity;
pub mod job_table;
pub mod process;
pub mod thread;
