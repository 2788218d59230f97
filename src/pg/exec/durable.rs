//! Transactions that must outlive a crash.

use pgrx::pg_sys;

/// Has the current transaction wait, when it commits, until it is on disk, whatever
/// `synchronous_commit` says then. What is handed out must not be forgotten: a consumer would have
/// messages, or a lease, that the database does not know. Where `synchronous_commit` asks for more,
/// such as a standby, that applies too. Nothing of it is left after the transaction.
pub fn flush_at_commit() {
    // SAFETY: sets a flag of the current transaction, which the next one clears.
    unsafe { pg_sys::ForceSyncCommit() };
}
