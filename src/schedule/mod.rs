//! What is due and in which order it runs.

pub mod alerts;
pub mod due;
pub mod figures;
pub mod run;
