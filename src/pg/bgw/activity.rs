//! What other sessions are doing.

use pgrx::prelude::*;

/// Has `pg_stat_activity` look again: a transaction otherwise keeps what it saw there first.
pub fn clear_activity_snapshot() {
    // SAFETY: drops a copy that is made anew when it is needed.
    unsafe { pg_sys::pgstat_clear_backend_activity_snapshot() };
}

/// The number of this database cluster: a copy that is restored elsewhere has another one.
pub fn cluster() -> u64 {
    // SAFETY: reads shared memory.
    unsafe { pg_sys::GetSystemIdentifier() }
}
