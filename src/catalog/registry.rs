//! The registry of relation sets: which relations each was made of, and whose it is.

use pgrx::prelude::*;
use pgrx::spi::SpiHeapTupleData;

use crate::catalog::extension::Extension;
use crate::catalog::queries;
use crate::catalog::relation_set::{RELATIONS, VIEWS};
use crate::error::{Error, Result, SetError};
use crate::pg::exec::role;
use crate::pg::system_catalog;

/// A relation set as the registry knows it, without reading anything of the set itself.
#[derive(Clone, Copy)]
pub struct RegisteredSet {
    pub mart: pg_sys::Oid,
    /// None: there is no role of its owner's name.
    pub owner: Option<pg_sys::Oid>,
    /// It is the extension's own.
    pub is_own: bool,
    pub segments: pg_sys::Oid,
    pub outbox: pg_sys::Oid,
}

/// A row of the registry: a relation of a set, with what is registered of the set.
pub(super) struct RegisteredRelation {
    /// None: the set is the extension's, or its owner was dropped.
    pub(super) owner: Option<pg_sys::Oid>,
    pub(super) owner_name: Option<String>,
    pub(super) is_own: bool,
    pub(super) version: i32,
    pub(super) kind: String,
    pub(super) oid: pg_sys::Oid,
    pub(super) registered_name: String,
    /// None: the relation was dropped.
    pub(super) name: Option<String>,
    pub(super) relation_owner: Option<pg_sys::Oid>,
    /// Whether it is still a table, or a view, as it was made.
    pub(super) is_kind: bool,
}

impl RegisteredRelation {
    fn read(row: &SpiHeapTupleData<'_>) -> Result<Self> {
        let missing = |column| move || Error::MissingValue(column);
        Ok(Self {
            owner: row.get_by_name("owner")?,
            owner_name: row.get_by_name("owner_name")?,
            is_own: row.get_by_name("is_own")?.ok_or_else(missing("is_own"))?,
            version: row.get_by_name("schema_version")?.ok_or_else(missing("schema_version"))?,
            kind: row.get_by_name("kind")?.ok_or_else(missing("kind"))?,
            oid: row.get_by_name("relation")?.ok_or_else(missing("relation"))?,
            registered_name: row
                .get_by_name("registered_name")?
                .ok_or_else(missing("registered_name"))?,
            name: row.get_by_name("name")?,
            relation_owner: row.get_by_name("relation_owner")?,
            is_kind: row.get_by_name("is_kind")?.unwrap_or_default(),
        })
    }
}

/// The criterion by which a set is looked up.
pub(super) enum Lookup {
    Default,
    ByMart(pg_sys::Oid),
    /// The set that this relation belongs to.
    ByMember(pg_sys::Oid),
}

/// The rows of the registry for a set; none: it is not registered.
pub(super) fn registered_relations(
    extension: &Extension,
    which: Lookup,
) -> Result<Vec<RegisteredRelation>> {
    extension.as_owner(|| {
        Spi::connect(|client| {
            let mart_of = |relation: Option<pg_sys::Oid>| {
                let statement = extension.kept(&queries::catalog::FIND_MART);
                let row = client.select(statement, Some(1), &[relation.into()])?.first();
                Ok::<_, Error>(if row.is_empty() { None } else { row.get_one::<pg_sys::Oid>()? })
            };
            let mart = match which {
                Lookup::Default => mart_of(None)?,
                Lookup::ByMart(mart) => Some(mart),
                Lookup::ByMember(relation) => mart_of(Some(relation))?,
            };
            let Some(mart) = mart else { return Ok(Vec::new()) };
            let statement = extension.kept(&queries::catalog::FIND_SET);
            let rows = client.select(statement, None, &[mart.into()])?;
            rows.map(|row| RegisteredRelation::read(&row)).collect()
        })
    })
}

/// The name of a set: that of its mart.
pub(super) fn name_of(rows: &[RegisteredRelation]) -> String {
    let mart = rows.iter().find(|row| row.kind == "mart");
    let name = mart.map(|row| row.name.as_ref().unwrap_or(&row.registered_name));
    name.cloned().unwrap_or_default()
}

/// Makes the owner of all relations of a set its owner. The caller must be able to act as that role.
pub fn adopt(cfg_table: &str) -> Result<()> {
    let extension = Extension::current()?;
    let unknown = || SetError::Unknown(cfg_table.to_owned());
    let mart = system_catalog::relation_named(cfg_table)?.ok_or_else(unknown)?;
    let rows = registered_relations(&extension, Lookup::ByMart(mart))?;
    let set = name_of(&rows);
    match rows.first() {
        None => return Err(unknown().into()),
        Some(row) if row.is_own => return Err(SetError::Own(set).into()),
        Some(_) => {}
    }
    let mut owners = Vec::new();
    for row in &rows {
        let known = RELATIONS.iter().find(|(kind, _)| *kind == row.kind);
        let relation = known.map_or("relation", |(kind, _)| kind);
        match (&row.name, row.relation_owner) {
            (Some(name), _) if !row.is_kind => {
                return Err(SetError::OtherKind { set, relation, name: name.clone() }.into());
            }
            (Some(_), Some(owner)) if !owners.contains(&owner) => owners.push(owner),
            (Some(_), _) => {}
            (None, _) if VIEWS.contains(&row.kind.as_str()) => {}
            (None, _) => return Err(SetError::Broken { set, relation }.into()),
        }
    }
    let [owner] = owners[..] else {
        let mut owners: Vec<_> = owners.into_iter().map(role::name).collect();
        owners.sort_unstable();
        return Err(SetError::ManyOwners { set, owners }.into());
    };
    if !role::may_act_as(role::current(), owner) {
        return Err(SetError::NotOwner(set).into());
    }
    extension.as_owner(|| {
        let sql = extension.sql(&queries::catalog::ADOPT_SET, &[]);
        Ok::<_, Error>(Spi::run_with_args(&sql, &[mart.into(), owner.into()])?)
    })?;
    system_catalog::invalidate(extension.registry()?);
    Ok(())
}
