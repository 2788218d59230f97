//! Hashes of keys and rows.

use std::hash::{BuildHasher, Hasher};

use foldhash::quality::FixedState;
use pgrx::prelude::*;

use crate::pg::exec::receiver::with_bytes;

/// The hash functions for rows that have the key in the first column and values in the others.
pub(in crate::pg) struct Hashing {
    key: FixedState,
    row: FixedState,
    /// For each column: its length as in `pg_type`, and whether it is passed by value.
    columns: Vec<(i16, bool)>,
}

impl Hashing {
    /// The sums of hashes are kept from one refresh to the next, and with them the seed. Another hash
    /// function needs another [`segmenter_core::content::VERSION`].
    pub(in crate::pg) fn new(types: impl Iterator<Item = pg_sys::Oid>, seed: u64) -> Self {
        let (key, row) = (FixedState::with_seed(seed), FixedState::with_seed(!seed));
        Self { key, row, columns: lengths(types) }
    }

    /// The hashes of the key and of the row.
    ///
    /// # Safety
    ///
    /// The values have the types that the hashing was made for, and are live.
    pub(in crate::pg) unsafe fn hash(
        &self,
        values: &[pg_sys::Datum],
        nulls: &[bool],
    ) -> (u64, u64) {
        let values = values.iter().copied().zip(nulls.iter().copied());
        // SAFETY: as the caller promises.
        unsafe { self.hash_each(values) }
    }

    /// The same for values that are not side by side, each with whether it is null.
    ///
    /// # Safety
    ///
    /// As for [`Self::hash`].
    #[inline]
    pub(in crate::pg) unsafe fn hash_each(
        &self,
        values: impl Iterator<Item = (pg_sys::Datum, bool)>,
    ) -> (u64, u64) {
        let (mut key, mut row) = (self.key.build_hasher(), self.row.build_hasher());
        for (at, (&(length, by_value), (value, is_null))) in
            self.columns.iter().zip(values).enumerate()
        {
            if is_null {
                row.write_u64(u64::MAX);
                continue;
            }
            if by_value {
                row.write_u64(1);
                row.write_u64(value.value() as u64);
                continue;
            }
            let write = |bytes: &[u8]| {
                if at == 0 {
                    key.write(bytes);
                }
                row.write_u64(bytes.len() as u64);
                row.write(bytes);
            };
            // SAFETY: as the caller promises; the value is not null and not passed by value.
            unsafe {
                match length {
                    -1 => with_bytes(value, write),
                    _ => with_plain_bytes(value, length, write),
                }
            }
        }
        (key.finish(), row.finish())
    }
}

/// Calls `look` with the bytes of a value that is neither passed by value nor of variable length.
///
/// # Safety
///
/// The value is not null, is live, and has a type of that length.
#[inline(never)]
unsafe fn with_plain_bytes(value: pg_sys::Datum, length: i16, look: impl FnOnce(&[u8])) {
    // SAFETY: it points to a C string (-2), or to as many bytes as the length of its type says.
    let bytes = unsafe {
        match length {
            -2 => std::ffi::CStr::from_ptr(value.cast_mut_ptr()).to_bytes(),
            _ => std::slice::from_raw_parts(value.cast_mut_ptr(), length as usize),
        }
    };
    look(bytes);
}

/// A hash of a text.
pub fn hash_text(text: &str, seed: u64) -> u64 {
    let mut hasher = FixedState::with_seed(seed).build_hasher();
    hasher.write(text.as_bytes());
    hasher.finish()
}

/// A seed that was not used before.
pub fn new_seed() -> u64 {
    foldhash::quality::RandomState::default().build_hasher().finish()
}

/// For each type: its length as in `pg_type`, and whether it is passed by value.
pub(in crate::pg) fn lengths(types: impl Iterator<Item = pg_sys::Oid>) -> Vec<(i16, bool)> {
    let length = |column| {
        let (mut length, mut by_value) = (0, false);
        // SAFETY: looks up the type in the catalogs, in the transaction of the query whose columns
        // have it; both results are places of their own.
        unsafe { pg_sys::get_typlenbyval(column, &mut length, &mut by_value) };
        (length, by_value)
    };
    types.map(length).collect()
}
