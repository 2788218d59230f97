//! All that needs `unsafe`: the places where PostgreSQL's C interface is called directly.
//! Everything exported from here is safe to call.

pub mod activity;
pub mod attempt;
pub mod background;
pub mod board;
pub mod catalog;
pub mod clock;
pub mod json;
pub mod jsonb;
pub mod lock;
pub mod portal;
pub mod prints;
pub mod process;
mod receiver;
pub mod relation;
pub mod role;
pub mod setting;
pub mod snapshot;
pub mod statement;
pub mod transition;
pub mod version;
