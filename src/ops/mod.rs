//! What a person asks for: erasing, checking, creating, subscribing.

pub mod create_segment;
pub mod doctor;
pub mod erase;
pub mod subscribe;
