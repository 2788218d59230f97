//! Queries for ids: those that have changed, and those whose answer the clock changes.

use std::rc::Rc;

use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::prelude::*;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::error::{Error, Result};
use crate::pg::exec::statement::{self, Prepared, StatementKind};
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::pg::exec::tuplestore::Relation;
use crate::pg::system_catalog;
use crate::refresh::delta::{self, Source};

/// The ids of `expires`, in the type of the others.
pub const EXPIRED: &std::ffi::CStr = c"segmenter_expired";

/// The ids of a query that our statements cannot read.
const SINCE: &std::ffi::CStr = c"segmenter_since";

/// What a query for ids is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The key `changed`, or the captured changes.
    Changed,
    /// The key `expires`.
    Expires,
}

impl Purpose {
    fn as_str(self) -> &'static str {
        match self {
            Purpose::Changed => "the query of changed ids",
            Purpose::Expires => "the query of expiring ids",
        }
    }

    fn hint(self) -> &'static str {
        match self {
            Purpose::Changed => {
                "Give one SELECT of the ids that have changed since $1: select customer_id as id from ... where updated_at > $1."
            }
            Purpose::Expires => {
                "Give one SELECT of the ids whose answer changes between $1 and $2: select customer_id as id from ... where valid_until > $1 and valid_until <= $2."
            }
        }
    }

    fn refuse(self, code: PgSqlErrorCode, problem: &str) -> Error {
        Error::Query {
            code,
            problem: format!("{} {problem}", self.as_str()),
            detail: None,
            hint: Some(self.hint().into()),
        }
    }
}

/// A query for ids, checked. Its parameters are times.
pub struct IdQuery {
    purpose: Purpose,
    text: String,
    times: Vec<TimestampWithTimeZone>,
    /// The type of the ids, its name with the collation, and that for messages.
    type_oid: pg_sys::Oid,
    pub id_type: String,
    /// Whether ids of that type are equal exactly if their texts are.
    pub is_plain: bool,
    /// The rows that the text reads, if they are kept.
    _source: Option<Source>,
    /// The configured queries that are in it.
    configured: Vec<Configured>,
}

/// A configured query, analysed.
#[derive(Clone)]
struct Configured {
    query: Rc<Prepared>,
    text: String,
    times: Vec<TimestampWithTimeZone>,
}

/// Times as the parameters of a query.
pub fn args<'a>(times: &[TimestampWithTimeZone]) -> Vec<DatumWithOid<'a>> {
    times.iter().map(|time| (*time).into()).collect()
}

impl IdQuery {
    /// Checks a query of the configuration.
    pub fn configured(
        purpose: Purpose,
        text: &str,
        times: &[TimestampWithTimeZone],
    ) -> Result<Self> {
        let text = delta::parse_single_statement(text, StatementKind::Select)?.to_owned();
        let query = Prepared::analysed(&text, &args(times))?;
        let checked = Self::of_analysed(purpose, text.clone(), times, &query)?;
        let configured = vec![Configured { query, text, times: times.to_vec() }];
        Ok(Self { configured, ..checked })
    }

    /// Checks a query of ours.
    pub fn of(purpose: Purpose, text: String, times: &[TimestampWithTimeZone]) -> Result<Self> {
        let query = Prepared::new(&text, &args(times))?;
        Self::of_analysed(purpose, text, times, &query)
    }

    fn of_analysed(
        purpose: Purpose,
        text: String,
        times: &[TimestampWithTimeZone],
        query: &Prepared,
    ) -> Result<Self> {
        if !query.is_plain_select() {
            let code = PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED;
            return Err(purpose.refuse(code, "does more than read"));
        }
        let columns = query.columns();
        let id = columns.iter().find(|column| column.name == "id");
        let id = id.ok_or_else(|| {
            purpose.refuse(PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN, "gives no column \"id\"")
        })?;
        Ok(Self {
            purpose,
            text,
            times: times.to_vec(),
            type_oid: id.type_oid,
            id_type: system_catalog::type_with_collation(id.type_oid, id.collation)?,
            is_plain: system_catalog::is_plain_key(id.type_oid, id.collation),
            _source: None,
            configured: Vec::new(),
        })
    }

    /// The error that something which the configured queries read is newer than the active snapshot. To
    /// be asked after the query was run.
    fn check_seen(&self) -> Result<()> {
        self.configured
            .iter()
            .try_for_each(|it| Rc::clone(&it.query).check_seen(&it.text, &args(&it.times)))
    }

    /// Checks that the ids of `expires` can be assigned to the type of these.
    pub fn check_expires(&self, expires: &Self) -> Result<()> {
        if !system_catalog::is_assignable(expires.type_oid, self.type_oid) {
            let (given, wanted) = (
                system_catalog::format_type(expires.type_oid),
                system_catalog::format_type(self.type_oid),
            );
            return Err(Error::Query {
                code: PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
                problem: format!(
                    "column \"id\" of {} is {given}, that of the changed ids {wanted}",
                    expires.purpose.as_str()
                ),
                detail: None,
                hint: Some(format!("Cast it: id::{wanted}.")),
            });
        }
        Ok(())
    }

    /// The same ids and those that `expires` returns, which are put into the relation `expired` in
    /// the type of the others.
    pub fn with_expired(
        self,
        set: &RelationSet,
        expires: &Self,
        expired: &Relation,
    ) -> Result<Self> {
        self.check_expires(expires)?;
        let parts = [("query", expires.text.as_str()), ("type", self.id_type.as_str())];
        expired.append(
            &set.sql(&queries::refresh::incremental::LIST_EXPIRED_IDS, &parts),
            &args(&expires.times),
        )?;
        let source = delta::localized(SINCE, self.text, &args(&self.times))?;
        let parts = [("query", source.sql.as_str())];
        let text = set.sql(&queries::refresh::incremental::ADD_EXPIRED_IDS, &parts);
        let all = Self::of(self.purpose, text, &self.times)?;
        let configured = [self.configured, expires.configured.clone()].concat();
        Ok(Self { _source: Some(source), configured, ..all })
    }

    /// Gives a relation the column of the query, and no row.
    pub fn give_columns(&self, set: &RelationSet, relation: &Relation) -> Result<()> {
        let none = &queries::refresh::incremental::LIST_NO_IDS;
        relation.take_columns(&set.sql(none, &[("query", &self.text)]), &args(&self.times))
    }

    /// Runs the query and stores each id once.
    pub fn materialize(&self, set: &RelationSet, relation: &Relation) -> Result<()> {
        let key = match self.is_plain {
            true => "s.id",
            false => "s.id, (s.id)::pg_catalog.text collate pg_catalog.\"C\"",
        };
        let parts = [("query", self.text.as_str()), ("key", key)];
        relation.append(
            &set.sql(&queries::refresh::incremental::LIST_CHANGED_IDS, &parts),
            &args(&self.times),
        )?;
        self.check_seen()
    }

    /// All its ids, and those of the segments' members: a member may no longer be among the query's
    /// ids. It is a query with one parameter.
    pub fn materialize_all(
        &self,
        set: &RelationSet,
        relation: &Relation,
        table: &str,
        segments: &[pgrx::datum::Uuid],
    ) -> Result<()> {
        let mut args = args(&self.times);
        let source = delta::localized(SINCE, self.text.clone(), &args)?;
        args.push(segments.to_vec().into());
        let parts =
            [("query", source.sql.as_str()), ("type", self.id_type.as_str()), ("table", table)];
        relation.append(&set.sql(&queries::refresh::incremental::LIST_ALL_IDS, &parts), &args)?;
        self.check_seen()
    }

    /// The same, without members whose ids are no values of the type of these ids: as such the member
    /// query cannot return them. Each member that is not among the ids is tried.
    pub fn materialize_all_castable(
        &self,
        set: &RelationSet,
        relation: &Relation,
        table: &str,
        segments: &[pgrx::datum::Uuid],
    ) -> Result<()> {
        let mut others_args = args(&self.times);
        others_args.push(segments.to_vec().into());
        let parts = [("query", self.text.as_str()), ("table", table)];
        let sql = set.sql(&queries::refresh::incremental::LIST_OTHER_MEMBERS, &parts);
        let others = statement::read_one::<Vec<String>>(&sql, &others_args)?.unwrap_or_default();
        let cast = set.sql(&queries::refresh::incremental::CAST_ID, &[("type", &self.id_type)]);
        let is_castable = |id: &String| {
            pgrx::check_for_interrupts!();
            let args = [id.as_str().into()];
            in_subtransaction(OnSuccess::Commit, || statement::read_one::<String>(&cast, &args))
                .is_ok()
        };
        let others: Vec<String> = others.into_iter().filter(is_castable).collect();
        let mut args = args(&self.times);
        args.push(others.into());
        let parts = [("query", self.text.as_str()), ("type", self.id_type.as_str())];
        let sql = set.sql(&queries::refresh::incremental::LIST_IDS_WITH_OTHERS, &parts);
        relation.append(&sql, &args)
    }
}
