//! NOTIFY, as PostgreSQL itself sends it: no privilege on `pg_notify` is needed.

use std::ffi::CString;

use crate::pg::version;

/// The bytes that the payload of a notification may have.
const MAX_PAYLOAD: usize = 7999;

/// Sends a notification when the transaction commits. PostgreSQL sends equal ones of a transaction
/// once. A payload that is too long, or holds a null character, is not sent.
pub fn send(channel: &std::ffi::CStr, payload: &str) {
    let payload = CString::new(payload).ok().filter(|text| text.count_bytes() <= MAX_PAYLOAD);
    if let Some(payload) = payload {
        version::notify(channel, &payload);
    }
}
