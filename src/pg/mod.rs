//! Everything that needs `unsafe`: calls of PostgreSQL's C interface. What is exported is safe to call.

pub mod bgw;
pub mod clock;
pub mod exec;
pub mod format;
pub mod settings;
pub mod system_catalog;
pub mod version;
