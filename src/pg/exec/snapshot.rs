//! Snapshots: which state of the database statements see.

use pgrx::prelude::*;

/// Keeps a snapshot active until it is dropped.
pub struct Active(());

impl Active {
    /// Sees what has been committed and what this transaction has done so far; at REPEATABLE READ
    /// and above, it is the transaction's own snapshot.
    pub fn fresh() -> Self {
        // SAFETY: a snapshot that is pushed is popped in `drop`, or by the abort.
        unsafe {
            pg_sys::CommandCounterIncrement();
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        }
        Self(())
    }

    /// Sees what has been committed, at every isolation level.
    pub fn latest() -> Self {
        // SAFETY: as above.
        unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot()) };
        Self(())
    }

    /// The snapshot for look-ups in the catalogs. The transaction's own snapshot is not taken yet.
    pub fn catalog() -> Self {
        // SAFETY: as above.
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
            // SAFETY: ours is the last one pushed.
            unsafe { pg_sys::PopActiveSnapshot() };
        }
    }
}

/// The oldest transaction (as `xid8`) that some open snapshot may not see.
pub fn horizon() -> u64 {
    // SAFETY: reads shared memory; without a relation all databases count.
    let (oldest, next) = unsafe {
        let oldest = pg_sys::GetOldestNonRemovableTransactionId(std::ptr::null_mut());
        (oldest, pg_sys::ReadNextFullTransactionId().value)
    };
    let age = (next as u32).wrapping_sub(oldest.into_inner());
    next.saturating_sub(age.into())
}

/// Whether the transaction keeps one snapshot for all its statements: REPEATABLE READ and above.
pub fn is_kept() -> bool {
    // SAFETY: reads a global of the backend.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 }
}
