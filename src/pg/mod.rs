//! All code that needs `unsafe`: calls of PostgreSQL's C interface. Other rooms call safe functions
//! only.

pub mod bgw;
pub mod clock;
pub mod exec;
pub mod format;
pub mod settings;
pub mod system_catalog;
pub mod version;
