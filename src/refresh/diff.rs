//! What a refresh would change, member by member: its steps are taken and undone.

use pgrx::datum::{Timestamp, Uuid};
use pgrx::prelude::*;
use pgrx::spi::SpiClient;

use super::{RefreshRequest, apply, attempt, family, may_refresh};
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::catalog::visibility;
use crate::config::segment_table::Column;
use crate::config::{Key, Segment};
use crate::error::{Error, Result, emit};
use crate::pg::exec::result_set::ResultSet;
use crate::pg::exec::role;
use crate::pg::exec::snapshot::Active;
use crate::pg::format::uuid;
use crate::pg::system_catalog;
use crate::refresh::delta::{Delta, DeltaTarget};
use crate::refresh::outcome;

/// Writes the members that a refresh would add, remove or change into the result of a function. `query`: a
/// one-off query in place of the segment's refresher. Nothing is changed. A guard that would refuse the
/// refresh is named in a NOTICE. The caller must be able to act as the segment's owner, as for a
/// refresh, and to read the segment's table.
pub fn list(set: &RelationSet, name: &str, query: Option<&str>, result: &ResultSet) -> Result<()> {
    let unknown = || set.unknown_segment(name);
    let segment = Segment::find_bare(set, Key::Name(name))?.ok_or_else(unknown)?;
    let caller = role::current();
    match may_refresh(set, &segment, caller) {
        Err(Error::NotPermitted { .. }) => return Err(unknown()),
        permitted => permitted?,
    }
    check_may_read(set, &segment, caller)?;
    let request = RefreshRequest {
        query,
        dry_run: true,
        shows: Some(result),
        ..RefreshRequest::by_hand(Key::Name(name), name, uuid::time_ordered())
    };
    let (mut found, mut reads) = (None, None);
    attempt(set, (&request, &family::Rows::new()), &mut found, &mut reads)
        .map(drop)
        .map_err(|error| outcome::explain(error, found.as_ref()))
}

/// Checks that a role may read the members of a segment.
pub fn check_may_read(set: &RelationSet, segment: &Segment, role: pg_sys::Oid) -> Result<()> {
    match visibility::may_read(set, (segment.table, segment.owner), role)? {
        true => Ok(()),
        false => Err(Error::MayNotRead { segment: segment.name.clone(), role: role::name(role) }),
    }
}

/// Says that a guard would refuse the refresh.
pub(super) fn say_refused(segment: &Segment, error: &Error) {
    let message = format!("a refresh of segment \"{}\" would be refused: {error}", segment.name);
    emit(PgLogLevel::NOTICE, message, None);
}

/// Shows a delta. `written`: the table holds its result already; otherwise it is applied where that decides
/// what the values are. Runs with the rights of the segment's owner, within the SPI connection of the
/// delta; `client` is that connection.
pub(super) fn show(
    client: &mut SpiClient<'_>,
    (delta, side): (&Delta, &DeltaTarget<'_>),
    (at, written): (Timestamp, bool),
    result: &ResultSet,
) -> Result<()> {
    let table = side.table;
    // Defaults, generated columns, columns that stay, and triggers.
    let is_stored = delta.figures.added + delta.figures.changed > 0
        && (!side.receives_all()
            || system_catalog::physical(table.oid).is_some_and(|physical| physical.may_alter_rows));
    if is_stored && !written {
        apply::apply(client, side, delta.figures, at)?;
    }
    // This snapshot sees what was applied.
    let _snapshot = (is_stored || written).then(Active::fresh);
    show_values(side, is_stored, result)
}

/// Shows a delta that only removes members.
pub(super) fn show_removed(side: &DeltaTarget<'_>, result: &ResultSet) -> Result<()> {
    show_values(side, false, result)
}

fn show_values(side: &DeltaTarget<'_>, is_stored: bool, result: &ResultSet) -> Result<()> {
    let DeltaTarget { set, table, segment, .. } = side;
    let columns = || table.columns.iter().zip(1..);
    let list = |value: &dyn Fn(&Column, usize) -> String| -> String {
        let values = columns()
            .map(|(column, number)| format!("{} as {}", value(column, number), column.quoted()));
        values.collect::<Vec<_>>().join(", ")
    };
    let old = list(&|_, number| format!("d.o{number}"));
    let new = list(&|column, number| match is_stored {
        true => format!("t.{}", column.quoted()),
        false if side.receives(number) => format!("d.n{number}"),
        false => format!("d.o{number}"),
    });
    let delta = match is_stored {
        true => set.sql(
            &queries::refresh::publish::DELTA_WITH_STORED,
            &[
                ("delta", "segmenter_delta"),
                ("table", table.name.as_str()),
                ("collation", table.id_collation.as_str()),
            ],
        ),
        false => "segmenter_delta as d".into(),
    };
    set.as_table_owner(table.owner, || {
        role::read_only(|| {
            let parts = [("delta", delta.as_str()), ("old", &old), ("new", &new)];
            let sql = set.sql(&queries::refresh::diff::LIST_DELTA, &parts);
            let segment: Uuid = *segment;
            result.append(&sql, &[segment.into()])
        })
    })
}
