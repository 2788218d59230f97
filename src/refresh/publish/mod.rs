//! Writes messages for subscribers into the outbox, in the transaction of the refresh.

mod field_types;
pub mod filter;
pub mod hold;
mod names;
pub mod outbox;
pub mod payload;
mod record;
pub mod stats;
pub mod subscription;
