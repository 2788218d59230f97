//! The figures of segments that are not the caller's, for roles that monitor the server. What is
//! members', queries' or consumers' is not among them.

use std::collections::HashMap;

use pgrx::datum::{TimestampWithTimeZone, Uuid};
use pgrx::prelude::*;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::catalog::viewer::Viewer;
use crate::error::{Error, Result};
use crate::pg::clock;
use crate::schedule::due;
use segmenter_core::due::Due;

/// A row of the status view, as far as it has figures.
pub struct FigureRow {
    pub id: Uuid,
    pub name: String,
    pub table: pg_sys::Oid,
    pub refresh_auto: bool,
    pub refresh_cron: Option<String>,
    pub last_refresh: Option<TimestampWithTimeZone>,
    pub last_status: Option<String>,
    pub next_refresh: Option<TimestampWithTimeZone>,
    pub coverage: Option<i64>,
    pub added: Option<i64>,
    pub removed: Option<i64>,
    pub changed: Option<i64>,
    pub update_consumer: Option<String>,
    pub update_target: Option<String>,
    pub update_name: Option<String>,
    pub update_cron: Option<String>,
    pub update_status: Option<String>,
    pub pending_messages: Option<i64>,
    pub last_delivery: Option<TimestampWithTimeZone>,
    pub excluded: Option<i64>,
    pub subscription: Option<Uuid>,
    pub hold_until: Option<TimestampWithTimeZone>,
}

/// The figures of the segments that policies hide from the caller, if it may see them all the same.
pub fn hidden(set: &RelationSet) -> Result<Vec<FigureRow>> {
    let viewer = Viewer::current(set);
    if !viewer.is_limited || !viewer.sees_figures {
        return Ok(Vec::new());
    }
    let items = due::items(set, None, None)?;
    let next: HashMap<_, _> = items
        .into_iter()
        .filter_map(|item| Some((item.name, item.due.and_then(Due::at).map(clock::timestamp)?)))
        .collect();
    set.as_owner(|| {
        Spi::connect(|client| {
            let sql = set.sql(&queries::schedule::LIST_FIGURES, &[]);
            let missing = |column| move || Error::MissingValue(column);
            let rows = client.select(&sql, None, &[viewer.role.into()])?.map(|row| {
                let name: String = row.get_by_name("name")?.ok_or_else(missing("name"))?;
                Ok(FigureRow {
                    id: row.get_by_name("id")?.ok_or_else(missing("id"))?,
                    table: row.get_by_name("table_oid")?.unwrap_or(pg_sys::InvalidOid),
                    refresh_auto: row.get_by_name("refresh_auto")?.unwrap_or_default(),
                    refresh_cron: row.get_by_name("refresh_cron")?,
                    last_refresh: row.get_by_name("last_refresh")?,
                    last_status: row.get_by_name("last_status")?,
                    next_refresh: next.get(&name).copied(),
                    coverage: row.get_by_name("coverage")?,
                    added: row.get_by_name("added")?,
                    removed: row.get_by_name("removed")?,
                    changed: row.get_by_name("changed")?,
                    update_consumer: row.get_by_name("update_consumer")?,
                    update_target: row.get_by_name("update_target")?,
                    update_name: row.get_by_name("update_name")?,
                    update_cron: row.get_by_name("update_cron")?,
                    update_status: row.get_by_name("update_status")?,
                    pending_messages: row.get_by_name("pending_messages")?,
                    last_delivery: row.get_by_name("last_delivery")?,
                    excluded: row.get_by_name("excluded")?,
                    subscription: row.get_by_name("subscription_id")?,
                    hold_until: row.get_by_name("hold_until")?,
                    name,
                })
            });
            rows.collect()
        })
    })
}
