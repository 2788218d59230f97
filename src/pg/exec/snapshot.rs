//! Which state of the database work sees.

use pgrx::prelude::*;

/// Makes a snapshot the active one for as long as it lives.
pub struct Active(());

impl Active {
    /// What is committed by now and what this transaction did so far; at REPEATABLE READ and
    /// above the transaction's own snapshot.
    pub fn fresh() -> Self {
        // SAFETY: a snapshot that is pushed is popped in `drop`, or by the abort.
        unsafe {
            pg_sys::CommandCounterIncrement();
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        }
        Self(())
    }

    /// What is committed by now, at every isolation level.
    pub fn latest() -> Self {
        // SAFETY: as above.
        unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot()) };
        Self(())
    }

    /// What the catalogues are looked at with: the transaction has not begun to look at anything.
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
        // While an error unwinds, snapshots of others may lie above ours: the abort pops them all.
        if !std::thread::panicking() {
            // SAFETY: ours is the last one pushed.
            unsafe { pg_sys::PopActiveSnapshot() };
        }
    }
}

/// The oldest transaction, as `xid8` counts them, that some open snapshot may not see.
pub fn horizon() -> u64 {
    // SAFETY: reads shared memory; without a relation all databases count.
    let (oldest, next) = unsafe {
        let oldest = pg_sys::GetOldestNonRemovableTransactionId(std::ptr::null_mut());
        (oldest, pg_sys::ReadNextFullTransactionId().value)
    };
    let age = (next as u32).wrapping_sub(oldest.into_inner());
    next.saturating_sub(age.into())
}

/// Whether the transaction keeps one snapshot from its first statement on.
pub fn is_kept() -> bool {
    // SAFETY: reads a global of the backend.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 }
}
