//! The SQL functions that say why a person is in segments.

use pgrx::datum::{TimestampWithTimeZone, Uuid};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::require_arg;
use crate::catalog::relation_set::RelationSet;
use crate::ops::disclosures::{self, Disclosure};
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

/// To whom a person's data went: to which consumers, for which target systems, in each segment whose owner the caller
/// may act as and whose table it may read.
///
/// - `id`: the person.
///
/// Returns a row for each time during which a consumer had the person: the names of the fields that were handed over,
/// since when, until when it was told to remove the person (null: it was not), and whether it still has the person. A
/// message that still waits was not handed over. Consumers and subscriptions that have ended are included. `complete`
/// is false if there may be more: the log or the history does not reach back to the beginning of the subscription, the
/// table keeps no history, or it is not known for whom a condition was true.
///
/// ```sql
/// select consumer, target, fields, since, until, still_there, complete from segmenter_disclosures('42');
/// ```
#[pg_extern]
#[allow(clippy::type_complexity)]
fn segmenter_disclosures(
    id: Option<&str>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(consumer, Option<String>),
            name!(target, String),
            name!(fields, Vec<String>),
            name!(since, Option<TimestampWithTimeZone>),
            name!(until, Option<TimestampWithTimeZone>),
            name!(still_there, bool),
            name!(complete, bool),
        ),
    >,
    ErrorReport,
> {
    let found = disclosures::list(&RelationSet::current()?, require_arg("id", id)?)?;
    Ok(TableIterator::new(found.into_iter().map(
        |Disclosure { consumer, target, fields, since, until, still_there, complete }| {
            (consumer, target, fields, since, until, still_there, complete)
        },
    )))
}
