//! Messages for subscribers, written in the transaction of the refresh.

pub mod outbox;
pub mod payload;
pub mod subscription;
