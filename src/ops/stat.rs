//! Cumulative figures of segments and subscriptions: kept in their states, counted from the last reset.

use pgrx::datum::{Interval, TimestampWithTimeZone, Uuid};
use pgrx::prelude::*;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::error::{Error, Result};
use crate::pg::exec::role;

/// The figures of a segment.
pub struct SegmentStat {
    pub id: Uuid,
    pub segment: String,
    /// Refreshes, by how they ended: ok, failed, refused, waiting, skipped.
    pub refreshes: [i64; 5],
    pub rows_received: i64,
    pub added: i64,
    pub removed: i64,
    pub changed: i64,
    pub excluded: i64,
    pub total_elapsed: Interval,
    pub mean_elapsed: Option<Interval>,
    pub last_elapsed: Option<Interval>,
    pub messages_written: i64,
    pub failures_in_a_row: i64,
    pub staleness: Option<Interval>,
    pub stats_reset: Option<TimestampWithTimeZone>,
    pub members: Option<i64>,
    /// What a reset records, as JSON.
    totals: Option<String>,
}

/// The figures of a subscription.
pub struct SubscriptionStat {
    pub id: Uuid,
    segment_id: Uuid,
    pub consumer: String,
    pub segment: String,
    pub target: String,
    pub messages_written: i64,
    pub messages_delivered: i64,
    pub members_handed_over: i64,
    pub attempts: i64,
    pub failed: i64,
    pub failures_in_a_row: i64,
    pub lag: Option<Interval>,
    pub stats_reset: Option<TimestampWithTimeZone>,
    totals: Option<String>,
}

/// The figures of the active segments whose owner `reader` is a member of (none: of all), ordered by name.
pub fn segments(set: &RelationSet, reader: Option<pg_sys::Oid>) -> Result<Vec<SegmentStat>> {
    find_segments(set, reader, None, false)
}

fn find_segments(
    set: &RelationSet,
    reader: Option<pg_sys::Oid>,
    name: Option<&str>,
    with_totals: bool,
) -> Result<Vec<SegmentStat>> {
    let args = [reader.into(), name.into(), with_totals.into()];
    set.as_owner(|| {
        let sql = set.sql(&queries::ops::stat::LIST_SEGMENTS, &[]);
        Spi::connect(|client| {
            let rows = client.select(&sql, None, &args)?.map(|row| {
                // By their places in the header of the query: looking up names takes longer than the rest.
                let count = |place| Ok::<_, Error>(row.get::<i64>(place)?.unwrap_or_default());
                let missing = |column| move || Error::MissingValue(column);
                Ok(SegmentStat {
                    id: row.get(1)?.ok_or_else(missing("id"))?,
                    segment: row.get(2)?.unwrap_or_default(),
                    refreshes: [count(3)?, count(4)?, count(5)?, count(6)?, count(7)?],
                    rows_received: count(8)?,
                    added: count(9)?,
                    removed: count(10)?,
                    changed: count(11)?,
                    excluded: count(12)?,
                    total_elapsed: row.get(13)?.ok_or_else(missing("total_elapsed"))?,
                    mean_elapsed: row.get(14)?,
                    last_elapsed: row.get(15)?,
                    messages_written: count(16)?,
                    failures_in_a_row: count(17)?,
                    staleness: row.get(18)?,
                    stats_reset: row.get(19)?,
                    members: row.get(20)?,
                    totals: row.get(21)?,
                })
            });
            rows.collect()
        })
    })
}

/// The figures of the active subscriptions to segments whose owner `reader` is a member of, or to consumers
/// whose role it is a member of (none: of all), ordered by names.
pub fn subscriptions(
    set: &RelationSet,
    reader: Option<pg_sys::Oid>,
) -> Result<Vec<SubscriptionStat>> {
    find_subscriptions(set, reader, None, false)
}

fn find_subscriptions(
    set: &RelationSet,
    reader: Option<pg_sys::Oid>,
    segments: Option<Vec<Uuid>>,
    with_totals: bool,
) -> Result<Vec<SubscriptionStat>> {
    let args = [reader.into(), set.owner.into(), segments.into(), with_totals.into()];
    set.as_owner(|| {
        let sql = set.sql(&queries::ops::stat::LIST_SUBSCRIPTIONS, &[]);
        Spi::connect(|client| {
            let rows = client.select(&sql, None, &args)?.map(|row| {
                let count = |place| Ok::<_, Error>(row.get::<i64>(place)?.unwrap_or_default());
                let text = |place| Ok::<_, Error>(row.get::<String>(place)?.unwrap_or_default());
                let missing = |column| move || Error::MissingValue(column);
                Ok(SubscriptionStat {
                    id: row.get(1)?.ok_or_else(missing("id"))?,
                    segment_id: row.get(2)?.ok_or_else(missing("segment_id"))?,
                    consumer: text(3)?,
                    segment: text(4)?,
                    target: text(5)?,
                    messages_written: count(6)?,
                    messages_delivered: count(7)?,
                    members_handed_over: count(8)?,
                    attempts: count(9)?,
                    failed: count(10)?,
                    failures_in_a_row: count(11)?,
                    lag: row.get(12)?,
                    stats_reset: row.get(13)?,
                    totals: row.get(14)?,
                })
            });
            rows.collect()
        })
    })
}

/// Sets the figures of a segment and of its subscriptions to 0, or those of all segments whose owner the
/// caller is a member of. What a refresh or a delivery adds that is going on counts after it.
pub fn reset(set: &RelationSet, name: Option<&str>) -> Result<()> {
    let segments = find_segments(set, Some(role::current()), name, true)?;
    if let (Some(name), true) = (name, segments.is_empty()) {
        return Err(set.unknown_segment(name));
    }
    let ids = segments.iter().map(|found| found.id).collect();
    let subscriptions = find_subscriptions(set, None, Some(ids), true)?;
    let of_segments = segments.into_iter().map(|found| (found.id, None, found.totals));
    let of_subscriptions =
        subscriptions.into_iter().map(|found| (found.segment_id, Some(found.id), found.totals));
    let (mut ids, mut subscriptions, mut bases) = (Vec::new(), Vec::new(), Vec::new());
    for (segment, subscription, totals) in of_segments.chain(of_subscriptions) {
        ids.push(segment);
        subscriptions.push(subscription);
        bases.push(totals);
    }
    set.as_owner(|| {
        let sql = set.sql(&queries::ops::stat::RESET, &[]);
        Ok(Spi::run_with_args(&sql, &[ids.into(), subscriptions.into(), bases.into()])?)
    })
}
