//! The figures for Prometheus.

use std::collections::HashMap;

use pgrx::datum::Interval;

use super::stat;
use crate::catalog::relation_set::RelationSet;
use crate::catalog::settings;
use crate::catalog::viewer::Viewer;
use crate::error::Result;
use crate::pg::clock;
use crate::schedule::due;
use segmenter_core::metrics::{Figures, SegmentFigures, SubscriptionFigures, render};

/// The figures that the caller may see, in the text format of Prometheus.
pub fn text(set: &RelationSet) -> Result<String> {
    let reader = Viewer::current(set).reader();
    let items = due::items(set, reader, None)?;
    let now = clock::now();
    let overdue: HashMap<_, _> = items
        .iter()
        .filter_map(|item| Some((item.id, item.next(now)?)))
        .map(|(id, next)| (id, (now - next).as_seconds_f64().max(0.0)))
        .collect();
    let segments = stat::segments(set, reader)?.into_iter().map(|stat| {
        let [ok, failed, refused, waiting, skipped] = stat.refreshes;
        SegmentFigures {
            name: stat.segment,
            ok,
            failed,
            refused,
            waiting,
            skipped,
            rows_received: stat.rows_received,
            added: stat.added,
            removed: stat.removed,
            changed: stat.changed,
            excluded: stat.excluded,
            elapsed: seconds(stat.total_elapsed),
            last_elapsed: stat.last_elapsed.map(seconds),
            members: stat.members,
            failures_in_a_row: stat.failures_in_a_row,
            staleness: stat.staleness.map(seconds),
            overdue: overdue.get(&stat.id).copied(),
        }
    });
    let subscriptions =
        stat::subscriptions(set, reader)?.into_iter().map(|stat| SubscriptionFigures {
            consumer: stat.consumer,
            segment: stat.segment,
            target: stat.target,
            messages_written: stat.messages_written,
            messages_delivered: stat.messages_delivered,
            members_handed_over: stat.members_handed_over,
            attempts: stat.attempts,
            failed: stat.failed,
            failures_in_a_row: stat.failures_in_a_row,
            lag: stat.lag.map(seconds).unwrap_or_default(),
        });
    let figures = Figures {
        version: env!("CARGO_PKG_VERSION").into(),
        segments: segments.collect(),
        subscriptions: subscriptions.collect(),
    };
    Ok(render(figures, settings::metrics_segments()))
}

fn seconds(interval: Interval) -> f64 {
    interval.as_micros() as f64 / 1e6
}
