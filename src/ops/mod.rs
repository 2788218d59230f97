//! Operations that people call: creating segments, subscribing consumers, erasing a person, cancelling
//! refreshes, health checks.

pub mod alert;
pub mod cancel;
pub mod create_segment;
pub mod disclosures;
pub mod doctor;
pub mod drop_segment;
pub mod erase;
pub mod explain;
pub mod lineage;
pub mod members;
pub mod metrics;
mod new_table;
pub mod person;
pub mod preview;
pub mod progress;
pub mod put_segment;
pub mod report;
pub mod restore_definition;
pub mod stat;
pub mod subscribe;
pub mod timeline;
