//! The filter of a subscription, `where` in its params: a condition on the columns of the segment table.
//! Its audience are the members for whom it is true. It is the user's SQL, so it is analysed and
//! evaluated with the rights of the segment's owner, not with those of the owner of the table.

use std::collections::{BTreeMap, HashMap};
use std::ffi::CStr;

use pgrx::datum::{Timestamp, Uuid};
use pgrx::prelude::*;
use pgrx::spi::quote_identifier;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::config::Subject;
use crate::config::segment_table::{Column, Table};
use crate::error::{Error, Report, Result};
use crate::pg::exec::expression::{self, Unfit};
use crate::pg::exec::role;
use crate::pg::exec::statement::{Prepared, read_one};
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::pg::exec::tuplestore::Relation;
use crate::pg::system_catalog;
use crate::refresh::advise;
use crate::refresh::delta::DeltaTarget;
use crate::refresh::publish::payload::{Members, PayloadInput, segment_arg, table};
use crate::refresh::publish::subscription::Subscription;
use segmenter_core::sync_plan::SyncAction;

/// Those of the members that messages are about who fulfil the filter.
const AUDIENCE: &CStr = c"segmenter_audience";

/// A filter that was analysed for a segment table.
pub struct Filter {
    /// The condition in parentheses.
    condition: String,
    /// The places of the columns that it uses among those of the table.
    columns: Vec<usize>,
}

/// Columns with their types: what a filter means, and what values look like, depends on them.
pub type ColumnTypes = BTreeMap<String, String>;

impl Filter {
    /// Analyses the filter of a subscription. One that is not a condition on the columns of the table
    /// alone is an error that names the subscription.
    pub fn analyse(
        set: &RelationSet,
        (table, owner): (&Table, pg_sys::Oid),
        text: &str,
        subject: Subject<'_>,
    ) -> Result<Self> {
        let analysed = set.as_segment_owner(owner, || {
            in_subtransaction(OnSuccess::Commit, || {
                Spi::connect(|_| Self::analysed(set, table, text))
            })
        });
        analysed.map_err(|error| describe(advise(error), owner, subject))
    }

    fn analysed(set: &RelationSet, table: &Table, text: &str) -> Result<Self> {
        expression::check_is_one(text)?;
        let condition = format!("(\n{text}\n)");
        let all: Vec<usize> = (0..table.columns.len()).collect();
        let member = member(table, &all, "t.id", |_, column| format!("t.{}", column.quoted()));
        let parts = [("filter", condition.as_str()), ("member", &member), ("table", &table.name)];
        let sql = set.sql(&queries::refresh::publish::filter::ANALYSE, &parts);
        let before = sql.find(&condition).unwrap_or_default() + "(\n".len();
        let before = sql.get(..before).map_or(0, |before| before.chars().count());
        let query = in_subtransaction(OnSuccess::Commit, || Prepared::new(&sql, &[]))
            .map_err(|error| error.in_part(before, text))?;
        let uses = expression::uses(&query, &sql);
        if let Some(unfit) = uses.unfit {
            return Err(refused(unfit));
        }
        let given = query.columns().first().map(|column| column.type_oid);
        if given != Some(pg_sys::BOOLOID) {
            let given = given.map(system_catalog::format_type).unwrap_or_default();
            return Err(Error::Query {
                code: PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
                problem: format!("it is of type {given}, not boolean"),
                detail: None,
                hint: Some("Give a condition, such as \"city = 'Oslo'\".".into()),
            });
        }
        // What its owner may not call is found where its execution would begin.
        let sql = set.sql(&queries::refresh::CHECK_RIGHTS, &[("query", &sql)]);
        Spi::connect_mut(|client| client.update(&sql, None, &[]).map(drop))?;
        // The first column of a member is its id.
        let columns = uses.columns.iter().filter_map(|column| column.checked_sub(1)).collect();
        Ok(Self { condition, columns })
    }

    /// The columns that it uses, with their types.
    pub fn types(&self, table: &Table) -> ColumnTypes {
        let used = self.columns.iter().filter_map(|place| table.columns.get(*place));
        used.map(|column| (column.name.clone(), column.described())).collect()
    }

    /// Whether the delta shows every change of the columns that it uses. Of a column that the refresher
    /// does not give it shows none that was made by hand, nor of one that is generated from it.
    pub fn follows(&self, side: &DeltaTarget<'_>, table: &Table) -> bool {
        let is_received = |name: &str| side.received_columns().any(|(_, it)| it.name == name);
        let mut used = self.columns.iter().filter_map(|place| table.columns.get(*place));
        used.all(|column| match column.is_generated {
            false => is_received(&column.name),
            true => column.generated_from.iter().all(|name| name == "id" || is_received(name)),
        })
    }

    /// Whether it uses values that are read from the table, since the delta does not have the new ones.
    pub fn reads_stored(&self, side: &DeltaTarget<'_>) -> bool {
        self.columns
            .iter()
            .any(|place| side.received_columns().all(|(number, _)| number != place + 1))
    }

    /// Whether it is true for a member.
    pub fn has_member(
        &self,
        set: &RelationSet,
        (table, owner): (&Table, pg_sys::Oid),
        segment: Uuid,
        id: &str,
    ) -> Result<bool> {
        let member = self.member(table, "t.id", |_, column| format!("t.{}", column.quoted()));
        let has_member = || {
            let parts = [
                ("filter", self.condition.as_str()),
                ("member", &member),
                ("table", &table.name),
                ("collation", &table.id_collation),
            ];
            let sql = set.sql(&queries::refresh::publish::filter::HAS_MEMBER, &parts);
            Spi::connect(|_| read_one::<bool>(&sql, &[segment.into(), id.into()]))
        };
        let found = set.as_segment_owner(owner, || role::read_only(has_member))?;
        Ok(found.unwrap_or_default())
    }

    /// Whether it was true for a member at a local time; none: it was no member then, or that is not known.
    /// `is_cleared`: the columns of former members may have been cleared.
    pub fn had_member(
        &self,
        set: &RelationSet,
        (table, owner): (&Table, pg_sys::Oid),
        (segment, id): (Uuid, &str),
        (at, is_cleared): (Timestamp, bool),
    ) -> Result<Option<bool>> {
        let member = self.member(table, "t.id", |_, column| format!("t.{}", column.quoted()));
        let had_member = || {
            let parts = [
                ("filter", self.condition.as_str()),
                ("member", &member),
                ("table", &table.name),
                ("collation", &table.id_collation),
            ];
            let sql = set.sql(&queries::refresh::publish::filter::HAD_MEMBER, &parts);
            let keeps_history = table.kind.history;
            let args =
                [segment.into(), id.into(), at.into(), is_cleared.into(), keeps_history.into()];
            Spi::connect(|_| read_one::<bool>(&sql, &args))
        };
        set.as_segment_owner(owner, || role::read_only(had_member))
    }

    fn member(&self, table: &Table, id: &str, value: impl Fn(usize, &Column) -> String) -> String {
        member(table, &self.columns, id, value)
    }
}

/// The columns of a member that a condition uses, under their names. They have the types and the
/// collations of the table's, wherever the values come from, so that the condition always means the same.
fn member(
    table: &Table,
    columns: &[usize],
    id: &str,
    value: impl Fn(usize, &Column) -> String,
) -> String {
    let mut all =
        vec![format!("({id})::pg_catalog.\"varchar\" collate {} as id", table.id_collation)];
    for place in columns {
        let column = &table.columns[*place];
        let name = quote_identifier(&column.name);
        let cast = system_catalog::type_name(column.type_oid);
        let collation = column.collation().map(|it| format!(" collate {it}")).unwrap_or_default();
        all.push(format!("({})::{cast}{collation} as {name}", value(*place, column)));
    }
    all.join(", ")
}

fn refused(unfit: Unfit) -> Error {
    use PgSqlErrorCode as Code;
    const ONE_ROW: &str = "It is evaluated for each member alone: calculate the value in the segment's query, as a column of its table.";
    let (code, problem, hint) = match unfit {
        Unfit::NotImmutable(what) => (
            Code::ERRCODE_INVALID_OBJECT_DEFINITION,
            format!("{what} is not immutable"),
            "Its result may depend on a member's values alone, so that the audience changes only with them. Calculate anything else in the segment's query, as a column of its table.",
        ),
        Unfit::Subquery => {
            (Code::ERRCODE_FEATURE_NOT_SUPPORTED, "it has a subquery".into(), ONE_ROW)
        }
        Unfit::Aggregate => (Code::ERRCODE_GROUPING_ERROR, "it has an aggregate".into(), ONE_ROW),
        Unfit::WindowFunction => {
            (Code::ERRCODE_WINDOWING_ERROR, "it has a window function".into(), ONE_ROW)
        }
        Unfit::ReturnsSet => (
            Code::ERRCODE_FEATURE_NOT_SUPPORTED,
            "it has a function that returns a set".into(),
            ONE_ROW,
        ),
        Unfit::WholeRow => (
            Code::ERRCODE_FEATURE_NOT_SUPPORTED,
            "it uses the whole row".into(),
            "Name the columns that it depends on.",
        ),
        Unfit::Concatenation(operator) => (
            Code::ERRCODE_INVALID_OBJECT_DEFINITION,
            format!("operator {operator} is not immutable"),
            "It makes a text of any value, which may depend on settings: cast a number to text, and calculate anything else in the segment's query, as a column of its table.",
        ),
        Unfit::Domain { typ, domain } if typ == domain => (
            Code::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!("it casts to the domain {domain}"),
            "Checks of a domain need not be immutable: cast to its base type.",
        ),
        Unfit::Domain { typ, domain } => (
            Code::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!("it has a value of type {typ}, which holds the domain {domain}"),
            "Checks of a domain need not be immutable: use a type without domains, or calculate the value in the segment's query, as a column of its table.",
        ),
    };
    Error::Query { code, problem, detail: None, hint: Some(hint.into()) }
}

/// Says whose filter an error is about, and what it can use.
fn describe(error: Error, owner: pg_sys::Oid, subject: Subject<'_>) -> Error {
    use PgSqlErrorCode as Code;
    const COLUMNS: &str = "It can use id and the other columns of the segment's table by their names, except segment_id, actual_begin, actual_end and processed.";
    const ONE: &str = "Give one SQL condition on columns of the segment's table.";
    let Report { sqlstate, message, mut detail, mut hint, context, .. } = error.report();
    match PgSqlErrorCode::from(sqlstate) {
        Code::ERRCODE_UNDEFINED_COLUMN | Code::ERRCODE_UNDEFINED_TABLE => {
            hint = Some(COLUMNS.into());
        }
        Code::ERRCODE_SYNTAX_ERROR => hint = hint.or_else(|| Some(ONE.into())),
        Code::ERRCODE_INSUFFICIENT_PRIVILEGE => {
            let role = role::name(owner);
            let rights = format!("It is evaluated with the rights of role \"{role}\".");
            detail = detail.or(Some(rights));
        }
        _ => {}
    }
    let message = format!("\"where\" of {subject}: {message}");
    Error::Postgres(Box::new(Report { sqlstate, message, detail, hint, context, position: None }))
}

/// The members of an audience with a filter, as far as messages are about them: the relation that
/// [`crate::refresh::publish::payload::members_sql`] reads.
pub struct Audience {
    _relation: Relation,
    /// All of them, if the messages are about all.
    pub members: Option<u64>,
    /// How many more there are after the delta.
    pub growth: i64,
}

impl Audience {
    /// The relation, empty.
    pub fn relation() -> Relation {
        Relation::new(AUDIENCE)
    }

    /// Evaluates the filter of a subscription, for all members or for those of the delta.
    pub fn select(
        source: &PayloadInput<'_>,
        subscription: &Subscription,
        members: Members,
        filter: &Filter,
    ) -> Result<Self> {
        let relation = Self::relation();
        let growth = Self::fill(&relation, source, subscription, members, filter)?;
        let members = (members == Members::All).then(|| relation.rows());
        Ok(Self { _relation: relation, members, growth })
    }

    /// The same into a relation, which is made before: its files are those of the subtransaction that has
    /// made it. Returns how many more members there are after the delta.
    pub fn fill(
        relation: &Relation,
        source: &PayloadInput<'_>,
        subscription: &Subscription,
        members: Members,
        filter: &Filter,
    ) -> Result<i64> {
        let selected = source.set.as_segment_owner(subscription.segment_owner, || {
            role::read_only(|| Self::evaluate(relation, source, subscription, members, filter))
        });
        // The message is for all who see the subscription; what it was about is in the detail.
        selected.map_err(|error| match error {
            Error::Postgres(mut report) if !report.is_cancelled() => {
                let subject = Subject::Subscription(&subscription.target);
                let message = format!("\"where\" of {subject} cannot be evaluated");
                let cause = std::mem::replace(&mut report.message, message);
                report.detail = Some(match report.detail.take() {
                    Some(detail) => format!("{cause}: {detail}"),
                    None => cause,
                });
                Error::Postgres(report)
            }
            error => error,
        })
    }

    fn evaluate(
        relation: &Relation,
        source: &PayloadInput<'_>,
        subscription: &Subscription,
        members: Members,
        filter: &Filter,
    ) -> Result<i64> {
        let (set, table) = (source.set, table(source)?);
        let args = segment_arg(subscription);
        let condition = ("filter", filter.condition.as_str());
        let side = match (&source.delta, members) {
            (Some((side, _)), Members::Changed) => side,
            _ => {
                let member =
                    filter.member(table, "t.id", |_, column| format!("t.{}", column.quoted()));
                let parts = [condition, ("member", &member), ("table", &table.name)];
                let sql = &queries::refresh::publish::filter::LIST_MEMBERS;
                relation.append(&set.sql(sql, &parts), &args)?;
                return Ok(0);
            }
        };
        let is_received =
            |place: usize| side.received_columns().any(|(number, _)| number == place + 1);
        let old = filter.member(table, "d.id", |place, _| format!("d.o{}", place + 1));
        let new = filter.member(table, "d.id", |place, column| match is_received(place) {
            true => format!("d.n{}", place + 1),
            false => format!("t.{}", column.quoted()),
        });
        let delta = match filter.reads_stored(side) {
            true => set.sql(
                &queries::refresh::publish::DELTA_WITH_STORED,
                &[
                    ("delta", "segmenter_delta"),
                    ("table", &table.name),
                    ("collation", &table.id_collation),
                ],
            ),
            false => "segmenter_delta as d".into(),
        };
        let parts = [condition, ("old", &old), ("new", &new), ("delta", &delta)];
        let sql = set.sql(&queries::refresh::publish::filter::LIST_CHANGES, &parts);
        let counts = relation.append_counted(&sql, &args, &[])?;
        Ok(counts.of(b'a') as i64 - counts.of(b'r') as i64)
    }
}

/// The filters of subscriptions whose members are handed over, analysed; of those that have none, nothing.
#[derive(Default)]
pub struct Filters(HashMap<Uuid, std::result::Result<(Filter, ColumnTypes), Report>>);

impl Filters {
    pub fn analyse<'a>(
        source: &PayloadInput<'_>,
        actions: impl IntoIterator<Item = (&'a Subscription, SyncAction)>,
    ) -> Self {
        let mut analysed = HashMap::new();
        for (subscription, action) in actions {
            let Some(text) = &subscription.params.selection.filter else { continue };
            if matches!(action, SyncAction::Delete | SyncAction::Select | SyncAction::Rename) {
                continue;
            }
            let filter = || {
                let table = table(source)?;
                // Members that the segment's owner does not see would be in no audience.
                table.check_visible_to_owners()?;
                let owner = subscription.segment_owner;
                let subject = Subject::Subscription(&subscription.target);
                let filter = Filter::analyse(source.set, (table, owner), text, subject)?;
                let columns = filter.types(table);
                Ok((filter, columns))
            };
            let filter = filter().map_err(|error: Error| error.report());
            analysed.insert(subscription.id, filter);
        }
        Self(analysed)
    }

    /// The filter of a subscription; none: it has none, or it is not needed. One that is not valid is an
    /// error.
    pub fn of(&self, subscription: &Subscription) -> Result<Option<&Filter>> {
        match self.0.get(&subscription.id) {
            None => Ok(None),
            Some(Ok((filter, _))) => Ok(Some(filter)),
            Some(Err(report)) => Err(Error::Postgres(Box::new(report.clone()))),
        }
    }

    /// The columns that the filter of a subscription uses.
    pub fn columns(&self, subscription: &Subscription) -> Option<&ColumnTypes> {
        self.0.get(&subscription.id)?.as_ref().ok().map(|(_, columns)| columns)
    }

    /// The action for a subscription: all members in place of a delta that does not show all that changes
    /// its audience.
    pub fn action(
        &self,
        source: &PayloadInput<'_>,
        subscription: &Subscription,
        action: SyncAction,
    ) -> SyncAction {
        let Some(Ok((filter, columns))) = self.0.get(&subscription.id) else { return action };
        let follows = match (&source.table, &source.delta) {
            (Ok(table), Some((side, _))) => filter.follows(side, table),
            _ => false,
        };
        match follows && subscription.is_served_by(columns) {
            true => action,
            false => action.with_all_members(subscription.params.mode),
        }
    }
}
