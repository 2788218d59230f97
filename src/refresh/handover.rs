//! Handing over without a refresh: for subscriptions that are new, were changed or ended.

use std::time::Instant;

use pgrx::datum::Uuid;
use pgrx::prelude::*;

use crate::catalog::log::{self, Action, Counts, Entry, Status};
use crate::catalog::relation_set::Service;
use crate::config::segment_table::Table;
use crate::config::{Key, Segment};
use crate::error::{Error, Report, Result, warn};
use crate::pg::clock;
use crate::pg::exec::lock;
use crate::pg::exec::role;
use crate::pg::exec::snapshot::Active;
use crate::pg::exec::subtransaction::{Keep, attempt};
use crate::refresh::publish::outbox::{self, HandedOver};
use crate::refresh::publish::payload::Source;
use crate::refresh::publish::subscription::{self, Subscription};
use crate::refresh::segment_lock::claim;
use crate::refresh::{self, Outcome, Request};
use segmenter_core::sync_plan::Handover;

/// Hands over what subscribers to a segment are owed though it is not refreshed. None: nothing.
pub fn hand_over(service: &Service, request: &Request<'_>) -> Result<Option<Outcome>> {
    let (began, timer) = (clock::now(), Instant::now());
    let Key::Id(segment) = request.segment else { return Ok(None) };
    let subscriptions = subscription::find(service, role::current(), Some(segment), None)?;
    if subscriptions.iter().all(|subscription| subscription.owed(false).is_none()) {
        return Ok(None);
    }
    let mut found = None;
    let handed = attempt(Keep::Changes, || {
        let segment = refresh::find(service, request, &mut found)?;
        refresh::may_refresh(service, segment, role::current())?;
        let _held = claim(service, segment.id, &segment.name)?;
        let (_snapshot, segment) = latest(service, segment.id)?;
        from_table(service, &segment, request.run_id, |subscription| subscription.owed(false), None)
    });
    let name = found.as_ref().map_or(request.name, |segment| segment.name.as_str());
    let outcome = |status, messages, detail| Outcome {
        segment: name.to_owned(),
        status,
        figures: None,
        messages,
        elapsed: timer.elapsed(),
        detail,
    };
    match handed {
        Ok(handed) if handed.messages == 0 && handed.failed == 0 => Ok(None),
        Ok(handed) => {
            let detail = handed.remark().unwrap_or_else(|| "handed over, not refreshed".into());
            Ok(Some(outcome(Status::Ok, Some(handed.messages as i64), Some(detail))))
        }
        Err(error @ Error::Busy { .. }) => {
            Ok(Some(outcome(Status::Skipped, None, Some(error.to_string()))))
        }
        Err(error) => {
            let report = error.report();
            warn(&format!("segment \"{name}\" was not handed over"), &report);
            let detail = report.to_line();
            let entry = Entry {
                run_id: Some(request.run_id),
                action: Action::HandOver,
                status: Status::Failed,
                segment: (found.as_ref().map(|segment| segment.id), name),
                subscription: None,
                counts: Counts::default(),
                began,
                elapsed: Some(timer.elapsed()),
                message: Some(&report.message),
                error: Some(&report),
                params: serde_json::json!({}),
            };
            log::write(service, entry)?;
            Ok(Some(outcome(Status::Failed, None, Some(detail))))
        }
    }
}

/// The segment as it is now that its lock is held, and the snapshot that shows it so.
pub fn latest(service: &Service, segment: Uuid) -> Result<(Active, Segment)> {
    let snapshot = Active::fresh();
    let found = Segment::find(service, Key::Id(segment))?;
    let segment = found.ok_or_else(|| service.unknown_segment(segment.to_string()))?;
    refresh::must_not_be_superseded(service, &segment)?;
    Ok((snapshot, segment))
}

/// Hands over what is `owed` from the members that the segment's table holds.
pub fn from_table(
    service: &Service,
    segment: &Segment,
    run_id: Uuid,
    owed: impl Fn(&Subscription) -> Option<Handover>,
    only: Option<Uuid>,
) -> Result<HandedOver> {
    let subscriptions = subscription::find(service, service.owner, Some(segment.id), only)?;
    let owed: Vec<_> = subscriptions
        .into_iter()
        .filter_map(|subscription| owed(&subscription).map(|handover| (subscription, handover)))
        .collect();
    if owed.is_empty() {
        return Ok(HandedOver::default());
    }
    let table = check_table(service, segment);
    let _snapshot = Active::fresh();
    let table = table.as_ref().map_err(Report::clone);
    Spi::connect_mut(|client| {
        outbox::hand_over(client, &Source { service, table, delta: None, run_id }, owed)
    })
}

/// The segment's table, locked, or why nothing can be read from it.
fn check_table(service: &Service, segment: &Segment) -> std::result::Result<Table, Report> {
    let checked = attempt(Keep::Changes, || {
        if !lock::lock_table(segment.table) {
            return Err(Error::TableDropped(segment.name.clone()));
        }
        let table = Table::check(service, segment.table, segment.holder())?;
        table.must_be_in_mart(service, segment.holder())?;
        Ok(table)
    });
    checked.map_err(|error| error.report())
}
