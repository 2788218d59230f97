//! Incremental segments: what their refreshes miss, and the captured changes.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;

use super::findings::Findings;
use super::rows;
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::catalog::viewer::Viewer;
use crate::config::{Key, Refresher, Segment};
use crate::error::Result;
use crate::pg::clock;
use crate::pg::exec::role;
use crate::pg::exec::statement;
use crate::refresh::incremental::capture::{self, Why};
use crate::refresh::incremental::gaps;
use crate::schedule::due::Item;

/// The size from which captured changes are reported, in bytes.
const MAX_SIZE: i64 = 256 * 1024 * 1024;

pub(super) fn examine(
    found: &mut Findings,
    set: &RelationSet,
    viewer: Viewer,
    items: &[Item],
) -> Result<()> {
    last_refreshes(found, set, viewer)?;
    blind_spots(found, set, items);
    found.close_segments("incremental", "incremental refreshes find all changes");
    captured_changes(found, set)?;
    found.close("captured changes", "what is captured is read, and then deleted");
    Ok(())
}

/// What the last refreshes have reported.
fn last_refreshes(found: &mut Findings, set: &RelationSet, viewer: Viewer) -> Result<()> {
    let sql = &queries::ops::doctor::INCREMENTAL_FINDINGS;
    for [name, missed, kept, incomplete, why, full_at] in
        rows(set, sql, &[viewer.role.into(), viewer.sees_figures.into()])?
    {
        let name = name.unwrap_or_default();
        if let Some(missed) = missed {
            let at = full_at.unwrap_or_default();
            found.problem(
                "incremental",
                format!("the full pass over segment \"{name}\" at {at} found {missed} changes that earlier passes had missed"),
                "Its query \"changed\" must return every id that changes, also those of deleted rows: see the reference on \"changed\".",
            );
        }
        if let Some(kept) = kept {
            found.warn(
                "incremental",
                format!("the watermark of segment \"{name}\" stays where it is: {kept}"),
                "Each refresh compares more ids until it moves again.",
            );
        }
        if let Some(table) = incomplete {
            let why = why.and_then(|why| serde_json::from_value(why.into()).ok());
            let (what, hint) = why.unwrap_or(Why::Trigger).explain(&table);
            found.problem(
                "incremental",
                format!("segment \"{name}\": {what}: each refresh compares all ids"),
                hint,
            );
        }
    }
    Ok(())
}

/// What the refreshers do not notice. A segment whose queries cannot be analysed fails, and is
/// reported for that.
fn blind_spots(found: &mut Findings, set: &RelationSet, items: &[Item]) {
    for item in items.iter().filter(|item| role::may_act_as(role::current(), item.owner)) {
        pgrx::check_for_interrupts!();
        let Ok(Some(segment)) = Segment::find(set, Key::Id(item.id)) else { continue };
        let Some(Refresher::Incremental(incremental)) = &segment.refresher else { continue };
        if !role::exists(segment.owner) {
            continue;
        }
        for gap in gaps::find(set, segment.owner, incremental).unwrap_or_default() {
            let detail = format!("segment \"{}\": {}", segment.name, gap.problem);
            found.warn("incremental", detail, gap.hint);
        }
    }
}

/// Captured changes that no segment reads, or that are not deleted.
fn captured_changes(found: &mut Findings, set: &RelationSet) -> Result<()> {
    let check = "captured changes";
    let watched: Option<Vec<pg_sys::Oid>> = set.as_owner(|| {
        let sql = set.sql(&queries::ops::doctor::WATCHED_TABLES, &[]);
        Spi::connect(|_| statement::read_one(&sql, &[]))
    })?;
    let args = [role::current().into(), watched.unwrap_or_default().into()];
    let unread: Option<Vec<String>> =
        set.extension.read(&queries::ops::doctor::UNREAD_CAPTURES, &args)?;
    for table in unread.unwrap_or_default() {
        let name = pgrx::spi::quote_literal(&table);
        found.warn(
            check,
            format!("changes of {table} are captured, and no segment reads them"),
            format!(
                "Have a segment watch the table, or end the capture: select segmenter_unwatch({name})."
            ),
        );
    }
    let since = capture::retained_since().map(clock::timestamp);
    let since = since.unwrap_or(TimestampWithTimeZone::negative_infinity());
    let figures = set.extension.as_owner(|| {
        Spi::connect(|client| -> Result<_> {
            let sql = set.extension.sql(&queries::ops::doctor::CAPTURED_CHANGES, &[]);
            let row = client.select(&sql, Some(1), &[role::current().into(), since.into()])?;
            let row = row.first();
            if row.is_empty() {
                return Ok(None);
            }
            let size: Option<i64> = row.get_by_name("size")?;
            let is_expired: Option<bool> = row.get_by_name("is_expired")?;
            Ok(size.zip(is_expired))
        })
    })?;
    let Some((size, is_expired)) = figures else { return Ok(()) };
    let prune = "Call segmenter_prune() regularly, or have segmenter_run() or the background workers do so. What an open transaction may not have seen yet stays until it ends.";
    if is_expired {
        found.warn(
            check,
            "captured changes are kept for longer than segmenter.capture_retention".into(),
            prune,
        );
    } else if capture::is_backlog(capture::count_read(&set.extension)?) {
        found.warn(
            check,
            "more captured changes that no segment reads any more are kept than one call deletes"
                .into(),
            prune,
        );
    }
    if size > MAX_SIZE {
        found.warn(
            check,
            format!("captured changes take {} MB", size / (1024 * 1024)),
            "See which table is written that much, and which segment does not read: segmenter_change_readers.read_at.",
        );
    }
    Ok(())
}
