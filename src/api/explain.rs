//! The SQL functions that say why a person is in segments.

use pgrx::datum::{TimestampWithTimeZone, Uuid};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::require_arg;
use crate::catalog::relation_set::RelationSet;
use crate::ops::explain::{self, Step};
use crate::ops::timeline::{self, Event};

/// Why a person is in a segment, or is not.
///
/// - `name`: the segment.
/// - `id`: the person.
/// - `at`: the time to answer for; by default now.
///
/// Returns a row for each thing that decides it: `table`, `refresh`, `query`, `excluded`, `priority`, `reads` (for each
/// segment that it reads), `captured`, `delivered` (for each subscription). The caller must be able to act as the
/// segment's owner, and to read its table.
///
/// ```sql
/// select step, verdict, since, detail from segmenter_explain('vip', '42');
/// ```
#[pg_extern]
#[allow(clippy::type_complexity)]
fn segmenter_explain(
    name: Option<&str>,
    id: Option<&str>,
    at: default!(Option<TimestampWithTimeZone>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(step, String),
            name!(verdict, String),
            name!(since, Option<TimestampWithTimeZone>),
            name!(detail, Option<String>),
        ),
    >,
    ErrorReport,
> {
    let (name, id) = (require_arg("name", name)?, require_arg("id", id)?);
    let steps = explain::explain(&RelationSet::current()?, name, id, at)?;
    Ok(TableIterator::new(
        steps
            .into_iter()
            .map(|Step { step, verdict, since, detail }| (step.to_owned(), verdict, since, detail)),
    ))
}

/// What happened to a person, in order: in each segment whose owner the caller may act as and whose table it may
/// read.
///
/// - `id`: the person.
///
/// Returns a row for each event (`entered`, `exited`, `changed`, `excluded`, `handed over`, `erased`), with the run and the
/// reason as far as the log has them.
///
/// ```sql
/// select at, event, segment, reason from segmenter_timeline('42');
/// ```
#[pg_extern(stable)]
#[allow(clippy::type_complexity)]
fn segmenter_timeline(
    id: Option<&str>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(at, TimestampWithTimeZone),
            name!(event, String),
            name!(segment, Option<String>),
            name!(run_id, Option<Uuid>),
            name!(reason, Option<String>),
            name!(detail, Option<String>),
        ),
    >,
    ErrorReport,
> {
    let events = timeline::list(&RelationSet::current()?, require_arg("id", id)?)?;
    Ok(TableIterator::new(events.into_iter().map(
        |Event { at, event, segment, run, reason, detail }| {
            (at, event.to_owned(), segment, run, reason, detail)
        },
    )))
}
