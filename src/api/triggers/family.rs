//! Rows of families and of their segments: what is checked, and warned of, before they are written.

use pgrx::prelude::*;

use super::row::{NewRow, Row, is_endless, is_restored, json, text};
use super::segment::concerns_sql;
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::family::{self, Kinship};
use crate::config::{self, ConfigError, Key, Refresher, Segment, Subject};
use crate::error::{self, Error, Report};
use crate::pg::exec::role;
use crate::pg::exec::statement;
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::pg::format::json::JsonbText;

/// The refresher that the segment is refreshed with, which may be that of its family. A family can be made
/// later, or belong to a row that a dump brings later: then it is a WARNING that there is none.
pub(super) fn resolve(
    set: &RelationSet,
    trigger: &PgTrigger<'_>,
    row: &NewRow<'_>,
    refresher: Option<&Refresher>,
    name: &str,
) -> error::Result<(Option<Refresher>, Kinship)> {
    let Some(Refresher::Family(family)) = refresher else {
        return family::resolve(
            set,
            refresher.cloned(),
            (name, pg_sys::InvalidOid, pg_sys::InvalidOid),
        );
    };
    let is_same = match trigger.old() {
        Some(old) => !concerns_sql(&old, row)?,
        None => false,
    };
    if is_same || !is_endless(row.get_by_name("actual_end")?) || is_restored(set) {
        return Ok((refresher.cloned(), Kinship::None));
    }
    let oid = |column| -> error::Result<pg_sys::Oid> {
        Ok(row.get_by_name(column)?.unwrap_or(pg_sys::InvalidOid))
    };
    let owner = oid("owner")?;
    let members = count_members(set, name, owner)?;
    if members > 0 {
        let problem = format!(
            "a family cannot belong to a family, and {} to it",
            match members {
                1 => "1 segment belongs".to_owned(),
                members => format!("{members} segments belong"),
            }
        );
        let hint = "Have them belong to the other family, or to none.";
        let subject = Subject::Segment(name);
        return Err(ConfigError::new("refresh_params", subject, problem, hint).into());
    }
    let known = Segment::find_bare(set, Key::Name(family))?.filter(|found| found.owner == owner);
    match family::resolve(set, refresher.cloned(), (name, oid("table_name")?, owner)) {
        Err(error) if known.is_none() && family != name => {
            let what = format!("{} will not be refreshed", Subject::Segment(name));
            error::emit_warning(&what, &error.report());
            Ok((refresher.cloned(), Kinship::None))
        }
        resolved => resolved,
    }
}

/// The number of active segments of a family, which need not be there.
fn count_members(set: &RelationSet, family: &str, owner: pg_sys::Oid) -> error::Result<i64> {
    let members: Option<i64> = set.as_owner(|| {
        let sql = set.sql(&queries::config::COUNT_FAMILY, &[]);
        Spi::connect(|_| statement::read_one(&sql, &[family.into(), owner.into()]))
    })?;
    Ok(members.unwrap_or_default())
}

/// Warns of what a family says of its own members, which there are none of, and of consumers that its new
/// segments are to be subscribed by and that are not there.
pub(super) fn warn_of_family(
    set: &RelationSet,
    trigger: &PgTrigger<'_>,
    row: &NewRow<'_>,
    refresher: &Refresher,
    subject: Subject<'_>,
) -> error::Result<()> {
    if !is_endless(row.get_by_name("actual_end")?) || is_restored(set) {
        return Ok(());
    }
    let old = trigger.old();
    let is_new = |column| -> error::Result<bool> {
        Ok(match &old {
            Some(old) => {
                old.get_by_name::<JsonbText>(column)? != row.get_by_name::<JsonbText>(column)?
            }
            None => true,
        })
    };
    let has_new_refresher = is_new("refresh_params")?;
    let mut own = Vec::new();
    for column in ["guards", "exclude", "exempt", "retention"] {
        let is_given = match json(row, column, subject)? {
            serde_json::Value::Object(keys) => !keys.is_empty(),
            serde_json::Value::Array(entries) => !entries.is_empty(),
            _ => false,
        };
        if is_given && (has_new_refresher || is_new(column)?) {
            own.push(column);
        }
    }
    let group = text(row, "priority_group")?;
    let before = old.as_ref().map(|old| old.get_by_name::<String>("priority_group")).transpose()?;
    if group.is_some() && (has_new_refresher || before.flatten() != group) {
        own.push("priority_group");
    }
    let warn = |what: String, report: &Report| error::emit_warning(&what, report);
    if !own.is_empty() {
        let problem = format!(
            "it is a family, which has no members of its own: its segments do not inherit {}",
            own.join(", ")
        );
        let hint =
            "Give each segment its own; \"create\": {\"guards\": ...} gives guards to new ones.";
        let code = PgSqlErrorCode::ERRCODE_WARNING;
        warn(subject.to_string(), &Report::new(code, problem, Some(hint.into())));
    }
    let Some(create) = refresher.create().filter(|_| has_new_refresher) else { return Ok(()) };
    let names = create.subscriptions.iter().map(|subscription| subscription.consumer.clone());
    let names: Vec<String> = names.collect();
    let owner = row.get_by_name::<pg_sys::Oid>("owner")?.unwrap_or(role::current());
    if names.is_empty() || !role::exists(owner) {
        return Ok(());
    }
    // What keeps it from looking is said where it creates one.
    let unknown = in_subtransaction(OnSuccess::Rollback, || {
        set.as_segment_owner(owner, || {
            Spi::connect(|client| {
                let sql = set.sql(&queries::config::LIST_UNKNOWN_CONSUMERS, &[]);
                let rows = client.select(&sql, None, &[names.into()])?;
                rows.map(|row| Ok(row.get_by_name::<String, _>("name")?.unwrap_or_default()))
                    .collect::<error::Result<Vec<_>>>()
            })
        })
    });
    for name in unknown.unwrap_or_default() {
        let report = Error::UnknownConsumer(name).report();
        warn(format!("{subject} will create no segments"), &report);
    }
    Ok(())
}

/// Warns that the segments of a family are refreshed no more, because it is none for them any more.
pub(super) fn warn_of_orphans(
    set: &RelationSet,
    old: &Row<'_>,
    new: &NewRow<'_>,
    refresher: Option<&Refresher>,
) -> error::Result<()> {
    let name = old.get_by_name::<String>("name")?.unwrap_or_default();
    let before = old.get_by_name::<JsonbText>("refresh_params")?;
    let before = config::parse("refresh_params", before, Subject::Segment(&name))
        .ok()
        .and_then(|json| config::refresher(json, Subject::Segment(&name)).ok().flatten());
    let is_same = |column| -> error::Result<bool> {
        Ok(old.get_by_name::<pg_sys::Oid>(column)? == new.get_by_name(column)?)
    };
    let was_family = before.is_some_and(|before| before.is_family());
    let is_family = refresher.is_some_and(Refresher::is_family);
    if !was_family || is_family && is_same("owner")? && is_same("table_name")? {
        return Ok(());
    }
    let owner = old.get_by_name::<pg_sys::Oid>("owner")?.unwrap_or(pg_sys::InvalidOid);
    let members = count_members(set, &name, owner)?;
    if members == 0 {
        return Ok(());
    }
    let problem = format!(
        "it is no longer the family of {}, which will not be refreshed",
        error::counted(members, "segment")
    );
    let hint = "Make it a family again (\"family\": true in its query) with the same owner and table, or give the segments another refresher.";
    let code = PgSqlErrorCode::ERRCODE_WARNING;
    let report = Report::new(code, problem, Some(hint.into()));
    error::emit_warning(&Subject::Segment(&name).to_string(), &report);
    Ok(())
}
