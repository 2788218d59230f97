//! Advisory locks in classes of their own, which ensure that a segment has one refresh at a time, and
//! that no session waits for another one to record an attempt.

use std::cell::RefCell;

use pgrx::prelude::*;

use crate::pg::format::fingerprint::hash_text;

/// The fourth field of these lock tags, shown as `objsubid` in pg_locks. PostgreSQL's own functions
/// use 1 and 2.
pub const CLASS: u16 = 1871;
/// The same for records of attempts.
const ATTEMPT_CLASS: u16 = 1872;
/// The same for sequences that are being lifted.
const SEQUENCE_CLASS: u16 = 1873;

/// The same for the priorities of segments.
const PRIORITY_CLASS: u16 = 1874;

/// The same for names of segments that are being created or put.
const NAME_CLASS: u16 = 1875;

/// The same for access tokens and requests of a user mapping.
const MAPPING_CLASS: u16 = 1876;

/// The same for alerts about a segment.
const ALERT_CLASS: u16 = 1877;

/// The same for the order of alerts.
const ALERT_ORDER_CLASS: u16 = 1878;

/// The two key fields of a lock, shown as `classid` and `objid` in pg_locks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key {
    pub high: u32,
    pub low: u32,
}

impl From<i64> for Key {
    fn from(key: i64) -> Self {
        Self { high: (key as u64 >> 32) as u32, low: key as u32 }
    }
}

thread_local! {
    /// The refreshes in progress in this backend. PostgreSQL grants a transaction a lock that it
    /// already holds, so only this list keeps a procedure from refreshing its own segment.
    static HELD: RefCell<Vec<Key>> = const { RefCell::new(Vec::new()) };
}

/// A lock in use. The lock itself is held until the (sub)transaction ends.
pub struct SegmentLockGuard(Key);

impl Drop for SegmentLockGuard {
    fn drop(&mut self) {
        HELD.with_borrow_mut(|held| held.retain(|key| *key != self.0));
    }
}

/// Takes the lock until the (sub)transaction ends. `None`: another session holds it, or this
/// backend is using it.
pub fn try_lock(key: Key) -> Option<SegmentLockGuard> {
    take(key, true)
}

/// Waits for the lock and takes it until the (sub)transaction ends. `None`: this backend is using
/// it.
pub fn lock(key: Key) -> Option<SegmentLockGuard> {
    take(key, false)
}

/// Whether this backend is using the lock.
pub fn is_held(key: Key) -> bool {
    HELD.with_borrow(|held| held.contains(&key))
}

fn take(key: Key, at_once: bool) -> Option<SegmentLockGuard> {
    if is_held(key) {
        return None;
    }
    acquire(CLASS, key, at_once).then(|| {
        HELD.with_borrow_mut(|held| held.push(key));
        SegmentLockGuard(key)
    })
}

/// Takes the right to record an attempt, until the (sub)transaction ends. False: a session that has
/// recorded one has not ended its transaction yet.
pub fn try_lock_attempt(key: Key) -> bool {
    acquire(ATTEMPT_CLASS, key, true)
}

/// Waits for the right to lift the sequence of a relation, and keeps it until the (sub)transaction
/// ends.
pub fn lock_sequence(relation: pg_sys::Oid) {
    acquire(SEQUENCE_CLASS, Key { high: relation.to_u32(), low: 0 }, false);
}

/// Waits for the right to give priorities to segments of a set, and keeps it until the (sub)transaction
/// ends.
pub fn lock_priorities(segments: pg_sys::Oid) {
    acquire(PRIORITY_CLASS, Key { high: segments.to_u32(), low: 0 }, false);
}

/// Waits for the right to create or put the segment of a name, and keeps it until the (sub)transaction ends.
pub fn lock_name(segments: pg_sys::Oid, name: &str) {
    let low = hash_text(name, 0) as u32;
    acquire(NAME_CLASS, Key { high: segments.to_u32(), low }, false);
}

/// Waits for the right to renew the access token of a user mapping and to count its requests, and keeps it
/// until the (sub)transaction ends.
pub fn lock_mapping(mapping: pg_sys::Oid) {
    acquire(MAPPING_CLASS, Key { high: mapping.to_u32(), low: 0 }, false);
}

/// Takes the right to report alerts about a segment of a set, until the (sub)transaction ends. False: another
/// session has it.
pub fn try_lock_alerts(segments: pg_sys::Oid, segment: &[u8; 16]) -> bool {
    let [a, b, c, d] = [0, 1, 2, 3].map(|at| {
        let at = 4 * at;
        u32::from_be_bytes([segment[at], segment[at + 1], segment[at + 2], segment[at + 3]])
    });
    acquire(ALERT_CLASS, Key { high: segments.to_u32(), low: a ^ b ^ c ^ d }, true)
}

/// Waits for the right to write the messages of alerts of a set, and keeps it until the (sub)transaction ends.
pub fn lock_alert_order(outbox: pg_sys::Oid) {
    acquire(ALERT_ORDER_CLASS, Key { high: outbox.to_u32(), low: 0 }, false);
}

fn acquire(class: u16, key: Key, at_once: bool) -> bool {
    // SAFETY: needs a transaction, which the lock is released with: callers are SQL functions and
    // jobs within one. Every field of the tag is set, and it is live during the call.
    unsafe {
        let tag = pg_sys::LOCKTAG {
            locktag_field1: pg_sys::MyDatabaseId.to_u32(),
            locktag_field2: key.high,
            locktag_field3: key.low,
            locktag_field4: class,
            locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
            locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
        };
        pg_sys::LockAcquire(&tag, pg_sys::ExclusiveLock as i32, false, at_once)
            != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
    }
}

/// Locks a table as a writer does (ROW EXCLUSIVE), so that it is not dropped or altered before the
/// transaction ends. False: it does not exist.
pub fn lock_table(table: pg_sys::Oid) -> bool {
    // SAFETY: needs a transaction, in which SQL functions and jobs run. A table that does not exist
    // gives a null pointer, which is not closed. Closed without a lock mode, an open relation keeps
    // its lock to the end of the transaction.
    unsafe {
        let relation = pg_sys::try_relation_open(table, pg_sys::RowExclusiveLock as i32);
        if relation.is_null() {
            return false;
        }
        pg_sys::relation_close(relation, pg_sys::NoLock as i32);
        true
    }
}

/// Whether this transaction has the lock of [`lock_table`], or a stronger one.
pub fn is_table_locked(table: pg_sys::Oid) -> bool {
    // SAFETY: needs a transaction, in which SQL functions and jobs run. A table that does not exist gives a
    // null pointer. (The function that needs no open relation is missing in some minor versions.)
    unsafe {
        let relation = pg_sys::RelationIdGetRelation(table);
        if relation.is_null() {
            return false;
        }
        let is_locked =
            pg_sys::CheckRelationLockedByMe(relation, pg_sys::RowExclusiveLock as i32, true);
        pg_sys::RelationClose(relation);
        is_locked
    }
}
