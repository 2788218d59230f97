//! Running SQL: as which role, in which snapshot and subtransaction, and where its rows go.

pub mod lock;
pub mod portal;
pub(in crate::pg) mod receiver;
pub mod role;
pub mod snapshot;
pub mod statement;
pub mod subtransaction;
pub mod tuplestore;
