//! Running SQL: the role, the snapshot and the subtransaction of a statement, and where its rows
//! go.

pub mod analysis;
pub mod at_commit;
pub mod call;
pub mod commit;
pub mod dependency;
mod distributed;
pub mod durable;
pub mod expression;
mod function;
pub mod implied;
pub mod kept;
pub mod lock;
pub(in crate::pg) mod memory;
pub mod notification;
pub mod parts;
pub mod portal;
pub(in crate::pg) mod receiver;
pub mod result_set;
pub mod role;
pub mod seen;
pub mod segment_calls;
pub mod session;
pub mod snapshot;
pub mod statement;
pub mod subtransaction;
pub mod table_scan;
pub(in crate::pg) mod time_limit;
pub mod tuplestore;
mod type_parts;
pub mod user_mapping;
