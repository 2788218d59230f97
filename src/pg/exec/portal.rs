//! Closes cursors that users' SQL leaves open.

use std::collections::HashSet;
use std::ffi::CString;

use pgrx::prelude::*;

use crate::error::Result;
use crate::pg::exec::kept::Kept;

/// On drop, closes the cursors that have been opened since it was made.
pub struct CursorScope {
    before: HashSet<String>,
}

impl CursorScope {
    pub fn begin() -> Result<Self> {
        Ok(Self { before: open()? })
    }
}

impl Drop for CursorScope {
    fn drop(&mut self) {
        // While an error unwinds, the abort closes the cursors.
        if std::thread::panicking() {
            return;
        }
        for name in open().unwrap_or_default().difference(&self.before) {
            let Ok(name) = CString::new(name.as_str()) else { continue };
            // SAFETY: the name is a C string. A portal that is found is live; one that is running must
            // not be closed, and is not.
            unsafe {
                let portal = pg_sys::SPI_cursor_find(name.as_ptr());
                if !portal.is_null() && (*portal).status != pg_sys::PortalStatus::PORTAL_ACTIVE {
                    pg_sys::SPI_cursor_close(portal);
                }
            }
        }
    }
}

fn open() -> Result<HashSet<String>> {
    Spi::connect(|client| {
        client
            .select(Kept::new("select c.name from pg_catalog.pg_cursor() c"), None, &[])?
            .filter_map(|row| row.get::<String>(1).transpose())
            .map(|name| Ok(name?))
            .collect()
    })
}
