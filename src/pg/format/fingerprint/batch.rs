//! A batch of rows to be compared, so that the processor waits for many memory accesses at once. A
//! refresh of two million unchanged members takes 2.1 s with batches and 3.1 s without.

use pgrx::prelude::*;

/// Copies of rows that will be compared together.
#[derive(Default)]
pub(in crate::pg) struct Batch {
    pub(in crate::pg) columns: Vec<(i16, bool)>,
    pub(in crate::pg) rows: Vec<(u64, u64)>,
    pub(in crate::pg) values: Vec<pg_sys::Datum>,
    pub(in crate::pg) nulls: Vec<bool>,
    /// What values point to, in words for alignment. It never grows beyond its first capacity, so
    /// the pointers stay valid.
    words: Vec<u64>,
}

/// The most rows and words in a batch. They fit into the processor's first-level cache.
const BATCH_ROWS: usize = 64;
const BATCH_WORDS: usize = 2048;

impl Batch {
    pub(in crate::pg) fn new(columns: Vec<(i16, bool)>) -> Self {
        Self {
            rows: Vec::with_capacity(BATCH_ROWS),
            values: Vec::with_capacity(BATCH_ROWS * columns.len()),
            nulls: Vec::with_capacity(BATCH_ROWS * columns.len()),
            words: Vec::with_capacity(BATCH_WORDS),
            columns,
        }
    }

    pub(in crate::pg) fn clear(&mut self) {
        self.rows.clear();
        self.values.clear();
        self.nulls.clear();
        self.words.clear();
    }

    /// Copies a row. False: there is no room for it, or a value is stored outside the row (TOAST).
    ///
    /// # Safety
    ///
    /// The values have the types of the columns, and are live.
    pub(in crate::pg) unsafe fn take(
        &mut self,
        hashes: (u64, u64),
        values: &[pg_sys::Datum],
        nulls: &[bool],
    ) -> bool {
        if self.rows.len() == BATCH_ROWS {
            return false;
        }
        let (row, words) = (self.values.len(), self.words.len());
        for ((&(length, by_value), value), is_null) in self.columns.iter().zip(values).zip(nulls) {
            if *is_null || by_value {
                self.values.push(*value);
                continue;
            }
            // SAFETY: the value points to as many bytes as its type's length says. The copy fits into
            // the capacity of `words`, and its last word is written as a whole before the bytes.
            unsafe {
                let from = value.cast_mut_ptr::<u8>();
                let bytes = match length {
                    -1 if pgrx::varatt_is_1b_e(from.cast()) => usize::MAX,
                    -1 => pgrx::varsize_any(from.cast()),
                    -2 => std::ffi::CStr::from_ptr(from.cast()).to_bytes_with_nul().len(),
                    _ => length as usize,
                };
                let at = self.words.len();
                let end = at.saturating_add(bytes.div_ceil(size_of::<u64>()));
                if end > BATCH_WORDS {
                    self.values.truncate(row);
                    self.words.truncate(words);
                    return false;
                }
                let to = self.words.as_mut_ptr().add(at);
                if end > at {
                    self.words.as_mut_ptr().add(end - 1).write(0);
                }
                std::ptr::copy_nonoverlapping(from, to.cast(), bytes);
                self.words.set_len(end);
                self.values.push(to.into());
            }
        }
        self.nulls.extend_from_slice(nulls);
        self.rows.push(hashes);
        true
    }
}
