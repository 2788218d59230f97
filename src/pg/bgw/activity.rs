//! `pg_stat_activity`, and the identifier of the cluster.

use pgrx::prelude::*;

/// Discards this transaction's copy of `pg_stat_activity`, so that the next query reads the present
/// state.
pub fn clear_activity_snapshot() {
    // SAFETY: has no precondition: a copy that is needed later is made again.
    unsafe { pg_sys::pgstat_clear_backend_activity_snapshot() };
}

/// The system identifier of this cluster. A cluster into which a dump is restored has another one;
/// a physical copy has the same.
pub fn cluster() -> u64 {
    // SAFETY: needs the control file in shared memory, which is read before any process starts.
    unsafe { pg_sys::GetSystemIdentifier() }
}

/// The cluster and the database, as a text: a copy of the database elsewhere has another one. A
/// database that is renamed keeps it.
pub fn place() -> String {
    // SAFETY: a variable of the process, which is set when it connects to a database.
    let database = unsafe { pg_sys::MyDatabaseId };
    format!("{}/{}", cluster(), database.to_u32())
}
