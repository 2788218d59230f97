//! Snapshots: which state of the database statements see.

use pgrx::prelude::*;

/// Keeps a snapshot active until it is dropped.
pub struct Active(());

impl Active {
    /// Sees what has been committed and what this transaction has done so far; at REPEATABLE READ
    /// and above, it is the transaction's own snapshot.
    pub fn fresh() -> Self {
        // SAFETY: needs a transaction, in which SQL functions and jobs run. A snapshot that is pushed
        // is copied or counted, and popped in `drop` or by the abort.
        unsafe {
            pg_sys::CommandCounterIncrement();
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        }
        Self(())
    }

    /// Sees what has been committed, at every isolation level.
    pub fn latest() -> Self {
        // SAFETY: needs a transaction that is not parallel and has a snapshot already: callers have
        // an active one. It is popped in `drop` or by the abort.
        unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot()) };
        Self(())
    }

    /// The snapshot for look-ups in the catalogs. The transaction's own snapshot is not taken yet.
    pub fn catalog() -> Self {
        // SAFETY: needs a connection to a database. Pushing copies the snapshot, which the next
        // invalidation would change. It is popped in `drop` or by the abort.
        unsafe {
            pg_sys::PushActiveSnapshot(pg_sys::GetCatalogSnapshot(pg_sys::InvalidOid));
        }
        Self(())
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        // While an error unwinds, other snapshots may be above this one: the abort pops all of
        // them.
        if !std::thread::panicking() {
            // SAFETY: active snapshots are a stack, and values of this type are dropped in reverse
            // order: this is the last one pushed.
            unsafe { pg_sys::PopActiveSnapshot() };
        }
    }
}

/// The oldest transaction (as `xid8`) that some open snapshot may not see.
pub fn horizon() -> u64 {
    // SAFETY: needs a process in the shared array of processes, as every backend and worker is.
    // Without a relation (the null pointer) all databases count.
    let (oldest, next) = unsafe {
        let oldest = pg_sys::GetOldestNonRemovableTransactionId(std::ptr::null_mut());
        (oldest, pg_sys::ReadNextFullTransactionId().value)
    };
    let age = (next as u32).wrapping_sub(oldest.into_inner());
    next.saturating_sub(age.into())
}

/// Whether the transaction keeps one snapshot for all its statements: REPEATABLE READ and above.
pub fn is_kept() -> bool {
    // SAFETY: a variable of this process's only thread.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 }
}
