//! The segments whose members a segment leaves out, and its priority: what is checked once its row, and
//! all rows of the same statement, are written.

use pgrx::datum::Uuid;
use pgrx::prelude::*;
use pgrx::spi::SpiHeapTupleData;

use super::row::{NewRow, Row, is_endless, is_restored, json, new_row, set_of, text};
use crate::catalog::queries;
use crate::catalog::query::Query;
use crate::catalog::relation_set::RelationSet;
use crate::config::{self, ConfigError, Excluded, MatchColumn, Subject, exclusion};
use crate::error::{self, Error, Report};
use crate::pg::exec::lock;
use crate::pg::exec::role;
use crate::pg::exec::snapshot::Active;
use crate::pg::format::json::JsonbText;

pub(super) fn check_exclusion(trigger: &PgTrigger<'_>) -> error::Result<()> {
    let set = set_of(trigger)?;
    let new = new_row(trigger)?;
    if !is_endless(new.get_by_name("actual_end")?) || is_restored(&set) {
        return Ok(());
    }
    let Some(id) = new.get_by_name::<Uuid>("id")? else { return Ok(()) };
    let name = text(&new, "name")?.unwrap_or_default();
    let subject = Subject::Segment(&name);
    let old = trigger.old();
    let has_owner = |old: &Row<'_>| old.get_by_name::<pg_sys::Oid>("owner");
    let is_given = match &old {
        Some(old) => has_owner(old)? != new.get_by_name::<pg_sys::Oid>("owner")?,
        None => false,
    };
    if is_given || is_new(old.as_ref(), &new, "exclude")? {
        check_excluded(&set, (&new, id), subject)?;
    }
    if is_new(old.as_ref(), &new, "exempt")? {
        check_exempt(&set, (&new, id), subject)?;
    }
    check_suppression(&set, (&new, old.as_ref()), subject)?;
    check_priority(&set, (&new, id), subject)?;
    let cycle: Vec<String> = ask(&set, &queries::config::exclusion::LIST_CYCLE, id)?;
    match cycle.is_empty() {
        true => Ok(()),
        false => Err(Error::Cycle { segment: name, cycle }),
    }
}

/// Whether a row has other names in a column than before, or is active only now: lists that have gone since
/// keep no other change back.
fn is_new(old: Option<&Row<'_>>, new: &NewRow<'_>, column: &str) -> error::Result<bool> {
    let Some(old) = old else { return Ok(true) };
    Ok(old.get_by_name::<JsonbText>(column)? != new.get_by_name::<JsonbText>(column)?
        || !is_endless(old.get_by_name("actual_end")?))
}

fn ask(set: &RelationSet, query: &Query, id: Uuid) -> error::Result<Vec<String>> {
    set.as_owner(|| {
        // Rows that this statement has changed are seen.
        Spi::connect_mut(|client| {
            let sql = exclusion::sql(set, query);
            let row = client.update(&sql, Some(1), &[id.into()])?.first();
            Ok(row.get_one::<Vec<String>>()?.unwrap_or_default())
        })
    })
}

/// A segment that a row names.
struct Named {
    name: String,
    id: Option<Uuid>,
    is_suppression: bool,
    is_known: bool,
    may_read: bool,
    is_family: bool,
}

impl Named {
    fn read(row: &SpiHeapTupleData<'_>) -> error::Result<Self> {
        let is = |column: &str| Ok::<_, Error>(row.get_by_name::<bool, _>(column)? == Some(true));
        let oid = |column: &str| {
            Ok::<_, Error>(row.get_by_name::<pg_sys::Oid, _>(column)?.unwrap_or_default())
        };
        let sees_all = || Ok::<_, Error>(exclusion::sees_all(oid("reader")?, oid("table_oid")?));
        let may_read = is("may_read")? && (is("is_open")? || sees_all()?);
        Ok(Self {
            name: row.get_by_name("name")?.unwrap_or_default(),
            id: row.get_by_name("id")?,
            is_suppression: is("is_suppression")?,
            is_known: is("is_known")?,
            may_read,
            is_family: is("is_family")?,
        })
    }
}

fn named(
    set: &RelationSet,
    id: Uuid,
    names: Vec<String>,
    columns: Vec<String>,
) -> error::Result<Vec<Named>> {
    let args = [id.into(), names.into(), role::current().into(), columns.into()];
    set.as_owner(|| {
        Spi::connect_mut(|client| {
            let sql = set.sql(&queries::config::exclusion::LIST_RIGHTS, &[]);
            client.update(&sql, None, &args)?.map(|row| Named::read(&row)).collect()
        })
    })
}

/// Checks the segments that the column `exclude` names: they exist, and the segment's owner may read
/// their members.
fn check_excluded(
    set: &RelationSet,
    (row, id): (&NewRow<'_>, Uuid),
    subject: Subject<'_>,
) -> error::Result<()> {
    let invalid = |column, problem, hint: &str| {
        Err(Error::Config(ConfigError::new(column, subject, problem, hint)))
    };
    let excluded = config::exclude(json(row, "exclude", subject)?, subject)?;
    let columns = |excluded: &Excluded| {
        let names: Vec<&str> = excluded.by.iter().map(|by: &MatchColumn| by.name()).collect();
        names.join(",")
    };
    let names = excluded.iter().map(|excluded| excluded.segment.clone()).collect();
    for list in named(set, id, names, excluded.iter().map(columns).collect())? {
        let Named { name, id: list_id, is_known, may_read, is_family, .. } = list;
        if list_id == Some(id) {
            return invalid("exclude", "a segment cannot leave out its own members".to_owned(), "");
        }
        if list_id.is_none() || !is_known {
            return Err(Error::UnknownList(name));
        }
        if !may_read {
            let owner = row.get_by_name::<pg_sys::Oid>("owner")?.unwrap_or(pg_sys::InvalidOid);
            return Err(Error::MayNotRead { segment: name, role: role::name(owner) });
        }
        if is_family {
            // Whose members it leaves out: there are none.
            error::emit_warning(&subject.to_string(), &Error::IsFamily(name).report());
        }
    }
    Ok(())
}

/// Checks that the segments which the column `exempt` names exist. One that is no suppression list is a
/// WARNING.
fn check_exempt(
    set: &RelationSet,
    (row, id): (&NewRow<'_>, Uuid),
    subject: Subject<'_>,
) -> error::Result<()> {
    let exempt = config::exempt(json(row, "exempt", subject)?, subject)?;
    let names: Vec<String> = exempt.keys().cloned().collect();
    let columns = names.iter().map(|_| "id".to_owned()).collect();
    for list in named(set, id, names, columns)? {
        // Suppression lists are those of the whole set: their names are no secret.
        if list.id.is_none() || !list.is_known && !list.is_suppression {
            return Err(Error::UnknownExemption(list.name, subject.to_string()));
        }
        if !list.is_suppression {
            let problem = format!(
                "segment \"{}\", from which it is exempt, is no suppression list",
                list.name
            );
            let report = Report::new(PgSqlErrorCode::ERRCODE_WARNING, problem, None);
            error::emit_warning(&subject.to_string(), &report);
        }
    }
    Ok(())
}

/// Checks that a role which makes a segment a suppression list may act as the owner of the set: the list
/// holds for the segments of all roles.
fn check_suppression(
    set: &RelationSet,
    (new, old): (&NewRow<'_>, Option<&Row<'_>>),
    subject: Subject<'_>,
) -> error::Result<()> {
    let is_list = new.get_by_name::<bool>("is_suppression")? == Some(true);
    let was_list = old.map(|old| old.get_by_name::<bool>("is_suppression")).transpose()?.flatten();
    if !is_list || was_list == Some(true) || role::may_act_as(role::current(), set.owner) {
        return Ok(());
    }
    Err(Error::MayNotSuppress { subject: subject.to_string(), owner: role::name(set.owner) })
}

/// Checks that no other active segment has the priority. The role that gives it must be able to act as the
/// owners of all segments of the group, since it decides which of them keep their members; and each owner
/// must be able to read the members of the segments that come before its own.
fn check_priority(
    set: &RelationSet,
    (row, id): (&NewRow<'_>, Uuid),
    subject: Subject<'_>,
) -> error::Result<()> {
    let priority = row.get_by_name::<i32>("priority")?;
    let Some((group, priority)) =
        config::priority(text(row, "priority_group")?, priority, subject)?
    else {
        return Ok(());
    };
    // Until the transaction ends, no other session gives a priority. What this statement has written is
    // seen, and what others have committed.
    lock::lock_priorities(set.segments());
    let _own = Active::fresh();
    let _snapshot = Active::latest();
    let caller = role::current();
    let args = [id.into(), group.as_str().into(), priority.into(), caller.into()];
    let (same, is_strange, unread) = set.as_owner(|| {
        Spi::connect(|client| {
            let sql = set.sql(&queries::config::exclusion::LIST_RIVALS, &[]);
            let row = client.select(&sql, Some(1), &args)?.first();
            let same: Option<String> = row.get_by_name("same")?;
            let is_strange = row.get_by_name::<bool, _>("is_strange")? == Some(true);
            let unread: Option<String> = row.get_by_name("unread")?;
            let reader = row.get_by_name::<pg_sys::Oid, _>("reader")?;
            Ok::<_, Error>((same, is_strange, unread.zip(reader)))
        })
    })?;
    if is_strange && !role::may_act_as(caller, set.owner) {
        return Err(Error::OthersGroup { subject: subject.to_string(), group });
    }
    if let Some((segment, reader)) = unread {
        return Err(Error::MayNotRead { segment, role: role::name(reader) });
    }
    match same {
        Some(other) => {
            let problem =
                format!("segment \"{other}\" has priority {priority} in group \"{group}\"");
            let hint =
                "Give each segment of a group a priority of its own; the lowest comes first.";
            Err(Error::Config(ConfigError::new("priority", subject, problem, hint)))
        }
        None => Ok(()),
    }
}
