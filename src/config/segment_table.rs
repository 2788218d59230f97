//! Segment tables: the check that a table meets the contract, and attaching it to the mart.

use pgrx::datum::Uuid;
use pgrx::prelude::*;
use pgrx::spi::{SpiClient, quote_identifier};

use crate::catalog::queries;
use crate::catalog::relation_set::{OWN_CHECK, Relation, RelationSet};
use crate::config::SERVICE_COLUMNS;
use crate::error::{Error, Result};
use crate::pg::exec::lock;
use crate::pg::exec::role;
use crate::pg::exec::snapshot::Active;
use crate::pg::exec::subtransaction::{self, OnSuccess};
use crate::pg::system_catalog;

mod layout;
mod registration;

use layout::{UniqueIndex, check_columns, columns, kind, no_index, unique_indexes};
pub use registration::{holds_rows_of, release};

/// The mart's columns, their types, and whether they must be NOT NULL. All except the contacts are
/// service columns, which a segment's query must not return; the key `id` is the exception.
const MART: [(&str, &str, bool); 7] = [
    ("segment_id", "uuid", true),
    ("id", "character varying", false),
    ("hash_email", "character varying", false),
    ("hash_phone", "character varying", false),
    ("actual_begin", "timestamp without time zone", true),
    ("actual_end", "timestamp without time zone", true),
    ("processed", "timestamp without time zone", true),
];

/// How a table stores members, as its unique index determines it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableLayout {
    /// Several segments may share the table.
    pub shared: bool,
    /// Every membership period is a row of its own.
    pub history: bool,
}

/// The segment for which a table is checked.
#[derive(Clone, Copy)]
pub struct Holder<'a> {
    pub id: Uuid,
    pub name: &'a str,
    pub owner: pg_sys::Oid,
}

/// A column of a segment table.
#[derive(Clone, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    /// The column's type; of a domain, its base type.
    pub type_oid: pg_sys::Oid,
    pub modifier: i32,
    /// Whether the column's declared type is `type_oid`, not a domain over it.
    pub is_plain: bool,
    pub is_generated: bool,
    /// The columns that a generated one depends on.
    pub generated_from: Vec<String>,
    pub is_identity: bool,
    pub is_unique: bool,
    declared: String,
    collation: Option<String>,
    is_not_null: bool,
}

impl Column {
    /// Whether it is declared NOT NULL.
    pub fn is_not_null(&self) -> bool {
        self.is_not_null
    }

    /// The name, quoted where it needs to be.
    pub fn quoted(&self) -> String {
        quote_identifier(&self.name)
    }

    /// The collation, qualified and quoted; none: values of its type have none.
    pub fn collation(&self) -> Option<&str> {
        self.collation.as_deref()
    }

    /// The type, as it is declared.
    pub fn declared(&self) -> &str {
        &self.declared
    }

    /// The type and the collation, as they are declared.
    pub fn described(&self) -> String {
        match &self.collation {
            Some(collation) => format!("{} collate {collation}", self.declared),
            None => self.declared.clone(),
        }
    }
}

/// A table that meets the contract.
#[derive(Clone, PartialEq, Eq)]
pub struct Table {
    pub oid: pg_sys::Oid,
    /// Qualified and quoted.
    pub name: String,
    pub kind: TableLayout,
    /// All columns except the service columns.
    pub columns: Vec<Column>,
    /// The collation of the column `id`.
    pub id_collation: String,
    /// The table's owner, whose rights are used to write it.
    pub owner: pg_sys::Oid,
    /// Whether received rows have the column that names the segment of each.
    pub has_named_rows: bool,
    facts: Facts,
}

/// What is known of a relation without its columns and indexes.
#[derive(Clone, PartialEq, Eq)]
struct Facts {
    name: String,
    owner: pg_sys::Oid,
    /// Why it can hold no segment, whatever its columns are, and what to do.
    problem: Option<(&'static str, &'static str)>,
    is_unlogged: bool,
    may_write: bool,
    in_mart: bool,
    own_check: Option<String>,
    /// The constraints that are checked at the end of the transaction, as SQL.
    deferred: Option<String>,
    other_segment: Option<String>,
    /// The segment's owner and the table's owner, where row-level security hides rows from them.
    hidden_from: Vec<pg_sys::Oid>,
    /// The check of a mart that CREATE TABLE (LIKE …) has copied.
    copied_check: Option<String>,
}

/// The number of columns besides the service columns that a table can have: the new and the old
/// values of all of them, the operation, the id and the place of the row are in one target list,
/// which PostgreSQL limits to 1664 entries.
pub const MOST_COLUMNS: usize = (1664 - 3) / 2;

/// What to do about a table that can hold no segment.
const ORDINARY: &str = "Give the segment an ordinary table, in a schema of your own.";
const LOCAL: &str = "Members are kept on one server: undistribute_table('...') brings the table back to this one, unless its schema is distributed. The segment's query may read distributed tables.";

/// What a segment's table is locked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To refresh the segment.
    Refresh,
    /// To read its members, or to delete rows of it. A table that is the segment's own serves even
    /// after its owner has taken the right to write from the segment's owner.
    Access,
}

/// Locks a segment's table as a writer does, until the (sub)transaction ends. Returns false if it
/// does not exist. The row of the segment is not trusted: a table that the set's owner could not
/// use, that is not part of the mart, or that the segment's owner may not write to, is not locked.
/// What was checked can change until the lock is granted: check the table after it.
pub fn lock(
    set: &RelationSet,
    table: pg_sys::Oid,
    holder: Holder<'_>,
    purpose: Purpose,
) -> Result<bool> {
    set.check_owner_can_act_as(holder.owner)?;
    // Whatever is wrong with a table that this transaction has locked before is found out by its check.
    if purpose == Purpose::Refresh && lock::is_table_locked(table) {
        return Ok(true);
    }
    let facts = subtransaction::in_subtransaction(OnSuccess::Commit, || {
        set.as_owner(|| Spi::connect(|client| Facts::read(client, set, table, holder)))
    });
    let facts = match facts {
        // It was dropped while it was being read: the snapshot still shows it.
        Err(_) if system_catalog::visible_name(table).is_none() => return Ok(false),
        facts => facts?,
    };
    let Some(facts) = facts else { return Ok(false) };
    if let Err(error) = facts.check_lockable(set, holder, purpose) {
        // What is wrong with its columns or indexes says more.
        Table::check(set, table, holder)?;
        return Err(error);
    }
    Ok(lock::lock_table(table))
}

impl Facts {
    /// None: the relation does not exist.
    fn read(
        client: &SpiClient<'_>,
        set: &RelationSet,
        table: pg_sys::Oid,
        holder: Holder<'_>,
    ) -> Result<Option<Self>> {
        let args = [table.into(), OWN_CHECK.into(), holder.id.into(), holder.owner.into()];
        let statement = set.kept(&queries::config::segment_table::DESCRIBE_TABLE);
        let facts = client.select(statement, Some(1), &args)?.first();
        let Some(name) = facts_name(&facts)? else { return Ok(None) };
        // The snapshot may still show a table that was dropped; privileges are looked up without it.
        let may_write = match facts.get_by_name("may_write")? {
            Some(may_write) => may_write,
            // A segment without an owner: no role is passed.
            None if holder.owner == pg_sys::InvalidOid => false,
            None => return Ok(None),
        };
        let is =
            |fact: &str| Ok::<_, Error>(facts.get_by_name::<bool, _>(fact)?.unwrap_or_default());
        let problem = if is("is_service")? || is("is_extension_member")? {
            Some(("it belongs to PostgreSQL or to an extension", ORDINARY))
        } else if is("in_other_mart")? {
            Some(("it belongs to another relation set", ORDINARY))
        } else if !is("is_ordinary")? {
            Some(("it is not an ordinary table", ORDINARY))
        } else if !is("is_kept")? {
            Some(("it is a temporary table", ORDINARY))
        } else if system_catalog::are_distributed(&[table]) {
            Some(("Citus distributes it", LOCAL))
        } else {
            None
        };
        Ok(Some(Self {
            name,
            owner: facts.get_by_name("owner")?.unwrap_or(pg_sys::InvalidOid),
            problem,
            is_unlogged: is("is_unlogged")?,
            may_write,
            in_mart: is("in_mart")?,
            own_check: facts.get_by_name("own_check")?,
            deferred: facts.get_by_name("deferred")?,
            other_segment: facts.get_by_name("other_segment")?,
            hidden_from: facts.get_by_name("hidden_from")?.unwrap_or_default(),
            copied_check: facts.get_by_name("copied_check")?,
        }))
    }

    fn check_kind(&self) -> Result<()> {
        match self.problem {
            Some((problem, hint)) => Err(unfit(&self.name, problem, Some(hint.into()))),
            None => Ok(()),
        }
    }

    fn check_lockable(
        &self,
        set: &RelationSet,
        holder: Holder<'_>,
        purpose: Purpose,
    ) -> Result<()> {
        self.check_kind()?;
        self.check_not_anothers(&holder.id)?;
        // Only the table's owner can have made it the segment's own.
        if purpose == Purpose::Access && self.own_check.is_some() {
            return Ok(());
        }
        if !self.in_mart {
            return Err(self.not_in_mart(set));
        }
        // A role that is gone gains nothing, and its members can be erased.
        match (role::exists(holder.owner), purpose) {
            (true, _) => self.check_writable(holder.owner),
            (false, Purpose::Access) => Ok(()),
            (false, Purpose::Refresh) => Err(Error::OwnerDropped {
                segment: holder.name.to_owned(),
                segments: set.display_name(Relation::Segments),
            }),
        }
    }

    fn not_in_mart(&self, set: &RelationSet) -> Error {
        Error::NotInMart {
            table: self.name.clone(),
            problem: match self.in_mart {
                true => "lacks the check segmenter_own_segment",
                false => "is not part of the mart",
            },
            segments: set.display_name(Relation::Segments),
        }
    }

    fn check_writable(&self, role: pg_sys::Oid) -> Result<()> {
        if self.may_write {
            return Ok(());
        }
        Err(Error::NotTableUser { table: self.name.clone(), role: role::name(role) })
    }

    /// Rows that its owner cannot see would be added again at each refresh, and never be removed.
    fn check_visible(&self) -> Result<()> {
        self.check_visible_to(|_| true)
    }

    fn check_visible_to(&self, is_concerned: impl Fn(pg_sys::Oid) -> bool) -> Result<()> {
        match self.hidden_from.iter().find(|role| is_concerned(**role)) {
            None => Ok(()),
            Some(role) => Err(Error::RowsHidden {
                table: self.name.clone(),
                role: role::name(*role),
                is_table_owner: *role == self.owner,
            }),
        }
    }

    fn check_not_anothers(&self, segment: &Uuid) -> Result<()> {
        match &self.own_check {
            Some(check) if !check.contains(&segment.to_string()) => Err(unfit(
                &self.name,
                "it is another segment's own",
                Some("Segments share a table whose unique index is on (segment_id, id); a table that was one segment's own stays it until that segment is deleted.".into()),
            )),
            _ => Ok(()),
        }
    }
}

impl Table {
    /// Checks a segment's table against the contract. The caller holds a lock on the table.
    pub fn check(set: &RelationSet, table: pg_sys::Oid, holder: Holder<'_>) -> Result<Table> {
        Self::read(set, table, holder, |name, columns, indexes| {
            check_columns(name, columns)?;
            kind(indexes).ok_or_else(|| no_index(name))
        })
    }

    /// Checks for another segment a table that was checked, and has been locked since then: its columns and indexes
    /// are the same.
    pub fn check_for(&self, set: &RelationSet, holder: Holder<'_>) -> Result<Table> {
        set.as_owner(|| {
            let _latest = Active::latest();
            Spi::connect(|client| {
                let facts = Facts::read(client, set, self.oid, holder)?;
                let facts = facts.ok_or_else(|| Error::TableDropped(holder.name.into()))?;
                facts.check_kind()?;
                Ok(Table { name: facts.name.clone(), owner: facts.owner, facts, ..self.clone() })
            })
        })
    }

    /// Checks that a person can be erased from a table, which needs the columns segment_id and id
    /// only. The flag says whether the rows have an end.
    pub fn check_erasable(
        set: &RelationSet,
        table: pg_sys::Oid,
        holder: Holder<'_>,
    ) -> Result<(Table, bool)> {
        let mut has_end = false;
        let table = Self::read(set, table, holder, |name, columns, indexes| {
            let has = |name: &str| columns.iter().any(|column| column.name == name);
            has_end = has("actual_end");
            for column in ["segment_id", "id"] {
                if !has(column) {
                    return Err(unfit(name, &format!("column \"{column}\" is missing"), None));
                }
            }
            Ok(kind(indexes).unwrap_or(TableLayout { shared: true, history: true }))
        })?;
        Ok((table, has_end))
    }

    /// Writes to the table with its deferred constraints checked at once. At the end of the transaction
    /// the caller's rights would apply to what they run. If it fails, the caller's subtransaction
    /// undoes the change.
    pub fn with_constraints_at_once<T>(
        &self,
        set: &RelationSet,
        write: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let Some(constraints) = &self.facts.deferred else { return write() };
        let check = |when: &str| {
            let parts = [("constraints", constraints.as_str()), ("when", when)];
            let sql = set.sql(&queries::config::segment_table::SET_CONSTRAINTS, &parts);
            Ok(Spi::run(&sql)?)
        };
        set.as_table_owner(self.owner, || check("immediate"))?;
        let written = write()?;
        set.as_table_owner(self.owner, || check("deferred"))?;
        Ok(written)
    }

    /// The same for rows that have the column which names the segment of each, or have not.
    pub fn with_named_rows(self, has_named_rows: bool) -> Self {
        Self { has_named_rows, ..self }
    }

    pub fn too_wide(&self) -> Error {
        let (table, columns) = (self.name.clone(), self.columns.len());
        Error::TooManyColumns { table, columns, most: MOST_COLUMNS }
    }

    /// Whether the table is in the mart.
    pub fn is_in_mart(&self) -> bool {
        self.facts.in_mart
    }

    /// What is to be known of a table that may be used: it is unlogged. None: nothing.
    pub fn caution(&self) -> Option<(String, &'static str)> {
        self.facts.is_unlogged.then(|| {
            let problem = format!("table {} is unlogged: it is empty after a crash", self.name);
            (problem, "The next refresh fills it again, and each audience gets all members. To avoid that, make it logged: alter table ... set logged.")
        })
    }

    /// Reads what is known of a table; `layout` checks its columns and indexes.
    fn read(
        set: &RelationSet,
        table: pg_sys::Oid,
        holder: Holder<'_>,
        layout: impl FnOnce(&str, &[Column], &[UniqueIndex]) -> Result<TableLayout>,
    ) -> Result<Table> {
        set.as_owner(|| {
            // As it is now, which is how statements find it: it may have been altered, with a policy
            // for example, while its lock was waited for, after the snapshot of the caller.
            let _latest = Active::latest();
            Spi::connect(|client| {
                let Some(facts) = Facts::read(client, set, table, holder)? else {
                    return Err(Error::TableDropped(holder.name.into()));
                };
                facts.check_kind()?;
                let name = facts.name.clone();
                let columns = columns(client, table)?;
                let kind = layout(&name, &columns, &unique_indexes(client, table)?)?;
                let id_collation = columns
                    .iter()
                    .find(|column| column.name == "id")
                    .and_then(|column| column.collation.clone())
                    .unwrap_or_else(|| "pg_catalog.\"default\"".into());
                Ok(Table {
                    oid: table,
                    kind,
                    columns: columns
                        .into_iter()
                        .filter(|column| !SERVICE_COLUMNS.contains(&column.name.as_str()))
                        .collect(),
                    id_collation,
                    owner: facts.owner,
                    has_named_rows: false,
                    facts,
                    name,
                })
            })
        })
    }

    /// Checks that a refresh may use the table: it is in the mart, an unshared table belongs to
    /// this segment, and the segment's owner may write to it and sees all of its rows.
    pub fn check_usable(&self, set: &RelationSet, holder: Holder<'_>) -> Result<()> {
        self.check_in_mart(set, holder)?;
        self.facts.check_writable(holder.owner)?;
        if let Some(check) = &self.facts.copied_check {
            let hint =
                format!("alter table {} drop constraint {}", self.name, quote_identifier(check));
            return Err(unfit(
                &self.name,
                &format!("its check {check} lets no row in"),
                Some(hint),
            ));
        }
        self.facts.check_visible()
    }

    /// Checks that row-level security hides no rows from the segment's owner and the table's owner.
    pub fn check_visible_to_owners(&self) -> Result<()> {
        self.facts.check_visible()
    }

    /// Checks that row-level security hides no rows from the table's owner, as which members are handed
    /// over and erased.
    pub fn check_visible_to_owner(&self) -> Result<()> {
        self.facts.check_visible_to(|role| role == self.owner)
    }

    /// Checks that the table is in the mart, and that an unshared table belongs to this segment.
    pub fn check_in_mart(&self, set: &RelationSet, holder: Holder<'_>) -> Result<()> {
        if !self.facts.in_mart || (!self.kind.shared && self.facts.own_check.is_none()) {
            return Err(self.facts.not_in_mart(set));
        }
        self.facts.check_not_anothers(&holder.id)
    }
}

/// What is known of a segment's table whose members are only read.
pub struct Readable {
    pub oid: pg_sys::Oid,
    /// Qualified and quoted.
    pub name: String,
    pub owner: pg_sys::Oid,
    /// The collation of the column `id`.
    pub id_collation: String,
    /// Whether ids that are equal in this collation are the same; false: it is not known.
    pub is_deterministic: bool,
}

/// Checks the tables of segments whose members are read with the rights of their owners, all at once: that
/// none is anything else than a segment table, that its owner may read it, and that row-level security hides
/// no rows from that role.
pub fn readable(set: &RelationSet, tables: &[(pg_sys::Oid, Holder<'_>)]) -> Result<Vec<Readable>> {
    if tables.is_empty() {
        return Ok(Vec::new());
    }
    let oids: Vec<pg_sys::Oid> = tables.iter().map(|(oid, _)| *oid).collect();
    let found = set.as_owner(|| {
        // As they are now, which is how statements find them.
        let _latest = Active::latest();
        Spi::connect(|client| {
            let statement = set.kept(&queries::config::segment_table::LIST_READABLE);
            let rows = client.select(statement, None, &[oids.into()])?;
            rows.map(|row| {
                let is_fit: Option<bool> = row.get(4)?;
                let (name, owner, id_collation) = (row.get(1)?, row.get(2)?, row.get(3)?);
                let is_deterministic = row.get(5)? == Some(true);
                let may_read = row.get(6)? == Some(true);
                let found = (name, owner, id_collation, is_deterministic);
                Ok((Some(found).filter(|_| is_fit == Some(true)), may_read))
            })
            .collect::<Result<Vec<_>>>()
        })
    })?;
    let found = found.into_iter().chain(std::iter::repeat((None, true)));
    tables
        .iter()
        .zip(found)
        .map(|((oid, holder), (found, may_read))| {
            if let (Some((Some(name), Some(owner), Some(id_collation), is_deterministic)), true) =
                (found, may_read)
            {
                return Ok(Readable { oid: *oid, name, owner, id_collation, is_deterministic });
            }
            // Says what is wrong with it.
            let checked = || {
                let table = Table::check(set, *oid, *holder)?;
                table.check_visible_to_owner()?;
                if !may_read {
                    let role = role::name(table.owner);
                    return Err(Error::CannotRead { table: table.name, role });
                }
                Ok(table)
            };
            let table = checked().map_err(|error| match error {
                error @ Error::TableDropped(_) => error,
                error => Error::ListTable { list: holder.name.into(), error: Box::new(error) },
            })?;
            let Table { oid, name, owner, id_collation, .. } = table;
            Ok(Readable { oid, name, owner, id_collation, is_deterministic: false })
        })
        .collect()
}

/// Checks that row-level security of a table, if it exists, hides no rows from the owner of its
/// segment.
pub fn check_visible(set: &RelationSet, table: pg_sys::Oid, holder: Holder<'_>) -> Result<()> {
    let facts = set.as_owner(|| Spi::connect(|client| Facts::read(client, set, table, holder)))?;
    facts.map_or(Ok(()), |facts| facts.check_visible())
}

/// The name of a table, qualified and quoted; none: it does not exist.
pub fn name(set: &RelationSet, table: pg_sys::Oid) -> Result<Option<String>> {
    set.as_owner(|| {
        Spi::connect(|client| {
            let args =
                [table.into(), OWN_CHECK.into(), None::<Uuid>.into(), role::current().into()];
            facts_name(
                &client
                    .select(
                        set.kept(&queries::config::segment_table::DESCRIBE_TABLE),
                        Some(1),
                        &args,
                    )?
                    .first(),
            )
        })
    })
}

fn facts_name(facts: &pgrx::spi::SpiTupleTable<'_>) -> Result<Option<String>> {
    if facts.is_empty() { Ok(None) } else { Ok(facts.get_by_name("name")?) }
}

fn unfit(table: &str, problem: &str, hint: Option<String>) -> Error {
    Error::Table { table: table.into(), problem: problem.into(), hint }
}
