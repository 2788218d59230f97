//! The log: one entry for everything that happened.

use std::time::Duration;

use pgrx::JsonB;
use pgrx::datum::{Interval, Uuid};
use pgrx::prelude::*;
use serde_json::Value;

use crate::error::{Report, Result};
use crate::guards::Figures;
use crate::service::Service;

/// How something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Ok,
    Skipped,
    Waiting,
    Refused,
    Failed,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Skipped => "skipped",
            Status::Waiting => "waiting",
            Status::Refused => "refused",
            Status::Failed => "failed",
        }
    }
}

/// An entry of the log.
pub struct Entry<'a> {
    pub run_id: Option<Uuid>,
    pub action: &'a str,
    pub status: Status,
    pub segment: (Option<Uuid>, &'a str),
    pub figures: Option<Figures>,
    pub elapsed: Duration,
    pub message: Option<&'a str>,
    pub error: Option<&'a Report>,
    pub params: Value,
}

/// Writes an entry in the current transaction.
pub fn write(service: &Service, entry: Entry<'_>) -> Result<()> {
    let sql = service.sql(include_str!("../sql/query/log.sql"), &[]);
    let figure = |of: fn(&Figures) -> u64| entry.figures.as_ref().map(|figures| of(figures) as i64);
    let args = [
        entry.run_id.into(),
        entry.action.into(),
        entry.status.as_str().into(),
        entry.segment.0.into(),
        entry.segment.1.into(),
        figure(|f| f.received).into(),
        figure(|f| f.invalid).into(),
        figure(|f| f.added).into(),
        figure(|f| f.removed).into(),
        figure(|f| f.changed).into(),
        figure(Figures::coverage).into(),
        interval(entry.elapsed).into(),
        entry.message.into(),
        entry.error.map(|report| JsonB(report.to_json())).into(),
        JsonB(entry.params).into(),
    ];
    service.run_as_owner(|| Ok(Spi::run_with_args(&sql, &args)?))
}

/// Whether a segment has been waiting for its sources since its last attempt.
pub fn is_waiting(service: &Service, segment: Uuid) -> Result<bool> {
    let sql = service.sql(include_str!("../sql/query/last_status.sql"), &[]);
    let last = service.run_as_owner(|| {
        Spi::connect(|client| {
            let row = client.select(&sql, Some(1), &[segment.into()])?.first();
            if row.is_empty() { Ok(None) } else { row.get_one::<String>() }
        })
    })?;
    Ok(last.as_deref() == Some(Status::Waiting.as_str()))
}

/// A duration as PostgreSQL keeps it.
pub fn interval(duration: Duration) -> Interval {
    Interval::from_micros(duration.as_micros() as i64)
}
