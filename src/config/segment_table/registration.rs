//! Registers the table of a segment in the mart, and releases it.

use pgrx::datum::Uuid;
use pgrx::prelude::*;
use pgrx::spi::{quote_identifier, quote_literal};

use super::{Holder, MOST_COLUMNS, Table, unfit};
use crate::catalog::queries;
use crate::catalog::relation_set::{OWN_CHECK, RelationSet};
use crate::error::{Error, Result, SetError, emit};
use crate::pg::exec::role;
use crate::pg::exec::statement;
use crate::pg::exec::subtransaction;

impl Table {
    /// Attaches the table to the mart. An unshared table also gets a check constraint that limits
    /// it to this segment's rows. `caller` must own the table where either has to be done.
    /// Repeating it changes nothing.
    pub fn register(
        &self,
        set: &RelationSet,
        holder: Holder<'_>,
        caller: pg_sys::Oid,
    ) -> Result<()> {
        let segment = &holder.id;
        self.facts.check_not_anothers(segment)?;
        if let Some((problem, hint)) = self.caution() {
            emit(PgLogLevel::WARNING, problem, Some(hint));
        }
        if !self.kind.shared
            && let Some(other) = &self.facts.other_segment
        {
            return Err(unfit(
                &self.name,
                &format!("it is segment \"{other}\"'s own"),
                Some("Segments share a table whose unique index is on (segment_id, id).".into()),
            ));
        }
        if self.columns.len() > MOST_COLUMNS {
            return Err(self.too_wide());
        }
        self.facts.check_visible()?;
        let claim = !self.kind.shared && self.facts.own_check.is_none();
        let is_altered = claim || !self.facts.in_mart || self.facts.copied_check.is_some();
        if is_altered && !role::owns_table(caller, self.oid) {
            return Err(Error::NotTableOwner(self.name.clone()));
        }
        if !role::owns_table(caller, self.oid) {
            self.facts.check_writable(holder.owner)?;
        }
        // The commands below run as the mart's owner, so that role must own the table too.
        if is_altered && !set.is_own && !role::owns_table(set.owner, self.oid) {
            return Err(SetError::NotTableOwner {
                set: set.name().to_owned(),
                owner: role::name(set.owner),
                table: self.name.clone(),
            }
            .into());
        }
        if let Some(check) = &self.facts.copied_check {
            let parts = [("table", self.name.as_str()), ("check", &quote_identifier(check))];
            set.as_owner(|| {
                Spi::run(&set.sql(&queries::config::segment_table::DROP_CHECK, &parts))
            })?;
        }
        if claim {
            self.add_own_check(set, segment)?;
        }
        if !self.facts.in_mart {
            set.as_owner(|| {
                Spi::run(
                    &set.sql(
                        &queries::config::segment_table::ATTACH_TABLE,
                        &[("table", &self.name)],
                    ),
                )
            })?;
        }
        Ok(())
    }

    fn add_own_check(&self, set: &RelationSet, segment: &Uuid) -> Result<()> {
        let claimed = subtransaction::in_subtransaction(subtransaction::OnSuccess::Commit, || {
            set.as_owner(|| {
                Ok(Spi::run(&set.sql(
                    &queries::config::segment_table::ADD_OWN_CHECK,
                    &[
                        ("table", &self.name),
                        ("check", OWN_CHECK),
                        ("segment_id", &quote_literal(segment.to_string())),
                    ],
                ))?)
            })
        });
        claimed.map_err(|error| match &error {
            Error::Postgres(report)
                if report.sqlstate == PgSqlErrorCode::ERRCODE_CHECK_VIOLATION as i32 =>
            {
                unfit(
                    &self.name,
                    "it holds rows of another segment",
                    Some("Remove them, or share the table: make its unique index one on (segment_id, id).".into()),
                )
            }
            _ => error,
        })
    }
}

/// Detaches a table from the mart, unless another segment is stored in it. That locks the table, so
/// it is left as it is if the caller may not write to it: the result is false then.
pub fn release(set: &RelationSet, table: pg_sys::Oid, segment: &Uuid) -> Result<bool> {
    let caller = role::current();
    set.as_owner(|| {
        Spi::connect_mut(|client| {
            let args = [table.into(), (*segment).into(), OWN_CHECK.into()];
            let commands: Vec<String> = client
                .update(
                    &set.sql(&queries::config::segment_table::LIST_DETACH_COMMANDS, &[]),
                    None,
                    &args,
                )?
                .map(|row| row.get::<String>(1)?.ok_or(Error::MissingValue("command")))
                .collect::<Result<_>>()?;
            if !commands.is_empty() && !role::may_use_table(caller, table)? {
                return Ok(false);
            }
            for command in commands {
                client.update(&command, None, &[])?;
            }
            Ok(true)
        })
    })
}

/// Whether a table has rows of a segment, ended membership periods included. Runs as the current
/// role, which must be able to read the table.
pub fn holds_rows_of(set: &RelationSet, table: &str, segment: &Uuid) -> Result<bool> {
    let sql = set.sql(&queries::config::segment_table::HAS_ROWS, &[("table", table)]);
    let found = Spi::connect(|_| statement::look_up::<bool>(sql, &[(*segment).into()]))?;
    Ok(found.unwrap_or_default())
}
