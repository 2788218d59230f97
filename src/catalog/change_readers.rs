//! How far segments have read the captured changes. It is kept in a relation of the extension, so that
//! deleting what all of them have read needs no look into their sets.

use pgrx::datum::Uuid;
use pgrx::prelude::*;
use serde_json::Value;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::error::{Error, Result, emit};

/// Records how far a segment has read, by the checkpoint of its refresh. The caller holds the
/// segment's lock.
pub fn record(set: &RelationSet, segment: Uuid, checkpoint: &Value) -> Result<()> {
    if !checkpoint["captured"].is_object() {
        return Ok(());
    }
    let args = [set.mart().into(), segment.into(), checkpoint.to_string().into()];
    set.extension.as_owner(|| {
        let sql = set.sql(&queries::catalog::change_readers::RECORD_READER, &[]);
        Ok(Spi::run_with_args(&sql, &args)?)
    })
}

/// Forgets a segment, or all of a set.
pub fn forget(set: &RelationSet, segment: Option<Uuid>) -> Result<()> {
    let args = [set.mart().into(), segment.into()];
    set.extension.as_owner(|| {
        let sql = set.sql(&queries::catalog::change_readers::FORGET_READERS, &[]);
        Ok(Spi::run_with_args(&sql, &args)?)
    })
}

/// Records all segments of a set that was migrated.
pub fn record_all(set: &RelationSet) -> Result<()> {
    let read = set.as_owner(|| {
        Spi::connect(|client| {
            let sql = set.sql(&queries::catalog::change_readers::LIST_POSITIONS, &[]);
            let rows = client.select(&sql, None, &[])?;
            let read = rows.map(|row| {
                let segment: Option<Uuid> = row.get_by_name("segment")?;
                let checkpoint: Option<String> = row.get_by_name("checkpoint")?;
                let missing = || Error::MissingValue("checkpoint");
                segment.zip(checkpoint).ok_or_else(missing)
            });
            read.collect::<Result<Vec<_>>>()
        })
    })?;
    for (segment, checkpoint) in read {
        // What cannot be read is no position to continue from: the segment makes a full pass.
        match serde_json::from_str(&checkpoint) {
            Ok(checkpoint) => record(set, segment, &checkpoint)?,
            Err(error) => emit(
                PgLogLevel::WARNING,
                format!("the checkpoint of segment {segment} cannot be read: {error}"),
                Some("Its next refresh compares all ids."),
            ),
        }
    }
    Ok(())
}
