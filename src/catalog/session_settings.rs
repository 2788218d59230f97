//! The settings by ALTER DATABASE and ALTER ROLE. PostgreSQL gives them to a session when it connects:
//! a process that stays connected ends when they change, and its successor has the new ones.

use pgrx::prelude::*;

use super::queries;
use crate::error::Result;
use crate::pg::exec::statement::read_one_kept;

/// The settings that this process has, as they were read after it connected.
#[derive(PartialEq, Eq)]
pub struct SessionSettings(Vec<String>);

impl SessionSettings {
    /// Reads them as the active snapshot sees them. To be called right after the process has connected.
    pub fn read() -> Result<Self> {
        let sql = queries::catalog::LIST_SESSION_SETTINGS.text().to_owned();
        let listed: Option<Vec<String>> = Spi::connect(|_| read_one_kept(sql, &[]))?;
        Ok(Self(listed.unwrap_or_default()))
    }

    /// Whether a new session would have other ones.
    pub fn have_changed(&self) -> Result<bool> {
        Ok(Self::read()? != *self)
    }
}
