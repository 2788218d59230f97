//! Creates, lists and drops relation sets under names that the user chooses.

use pgrx::prelude::*;
use pgrx::spi::{quote_identifier, quote_qualified_identifier};

use crate::catalog::change_readers;
use crate::catalog::extension::Extension;
use crate::catalog::queries;
use crate::catalog::registry::RegisteredSet;
use crate::catalog::relation_set::{OWN_CHECK, RelationSet, names_of, render};
use crate::error::{Error, Result, SCHEMA_VERSION, SetError};
use crate::pg::exec::role;
use crate::pg::exec::statement;
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::pg::exec::table_scan;
use crate::pg::system_catalog;
use crate::pg::system_catalog::MAX_NAME;

/// The length of the longest suffix after the mart's name in names of indexes and constraints.
const MAX_ENDING: usize = "_subscriptions_actual_check".len();
/// The number of bytes of a long mart name that those names keep, before a hash of the whole name.
const STEM: usize = 27;

/// A name, split into its parts as PostgreSQL does.
struct Name {
    schema: String,
    relation: String,
}

impl Name {
    /// Parses a name. Without a schema it gets the first schema of the caller's search_path.
    /// Temporary and system schemas are refused.
    fn parse(text: &str) -> Result<Self> {
        let refuse = |code, problem: String, hint| {
            Err(SetError::Name { code, name: text.to_owned(), problem, hint }.into())
        };
        let sql = queries::catalog::PARSE_NAME.text();
        let parts: Option<Vec<String>> = in_subtransaction(OnSuccess::Commit, || {
            Spi::connect(|_| statement::read_one(sql, &[text.into()]))
        })
        .map_err(|error| {
            match error.is_code(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE) {
                true => Error::NotAName(text.to_owned()),
                false => error,
            }
        })?;
        let (schema, relation) = match parts.unwrap_or_default().as_slice() {
            [relation] => {
                let sql = queries::catalog::CURRENT_SCHEMA.text();
                let schema = Spi::connect(|_| statement::read_one::<String>(sql, &[]))?;
                let Some(schema) = schema else {
                    return refuse(
                        PgSqlErrorCode::ERRCODE_INVALID_SCHEMA_NAME,
                        "no schema has been selected to create it in".into(),
                        "Set search_path, or give the name with a schema.",
                    );
                };
                (schema, relation.clone())
            }
            [schema, relation] => (schema.clone(), relation.clone()),
            _ => {
                return refuse(
                    PgSqlErrorCode::ERRCODE_INVALID_NAME,
                    "it has more parts than a schema and a name".into(),
                    "Give it as \"schema\".\"name\".",
                );
            }
        };
        if schema.starts_with("pg_") || schema == "information_schema" {
            return refuse(
                PgSqlErrorCode::ERRCODE_INVALID_SCHEMA_NAME,
                format!("schema \"{schema}\" is for temporary objects or belongs to PostgreSQL"),
                "Give the name of another schema.",
            );
        }
        Ok(Self { schema, relation })
    }

    fn quoted(&self) -> String {
        quote_qualified_identifier(&self.schema, &self.relation)
    }
}

/// Creates a relation set with the caller's rights, so that the caller owns it. `cfg_table` names
/// the mart, `log_table` the log (default: derived from the mart's name). Returns the mart's OID. A
/// name that is malformed, too long or already used is an error.
pub fn init(cfg_table: &str, log_table: Option<&str>) -> Result<pg_sys::Oid> {
    let extension = Extension::current()?;
    let mart = Name::parse(cfg_table)?;
    let log = log_table.map(Name::parse).transpose()?;
    let log_name = log.as_ref().map(|log| log.relation.as_str());
    let relations: Vec<(&str, Name)> = names_of(&mart.relation, log_name)
        .map(|(word, relation)| {
            let schema = match &log {
                Some(log) if word == "log" => &log.schema,
                _ => &mart.schema,
            };
            (word, Name { schema: schema.clone(), relation })
        })
        .collect();
    check_names_free(cfg_table, &relations)?;

    let definition = extension.read::<String>(&queries::catalog::GET_DEFINITION, &[])?;
    let stem = stem(&mart.relation)?;
    let sql = render(&definition.unwrap_or_default(), |word| match word.strip_prefix(':') {
        Some(ending) => Some(quote_identifier(format!("{stem}_{ending}"))),
        None if word == "schema" => Some(extension.schema().to_owned()),
        None => {
            let named = relations.iter().find(|(known, _)| *known == word);
            named.map(|(_, name)| name.quoted())
        }
    });
    extension.as_caller(|| Spi::connect_mut(|client| client.update(&sql, None, &[]).map(drop)))?;

    let (kinds, names): (Vec<String>, Vec<String>) =
        relations.iter().map(|(kind, name)| ((*kind).to_owned(), name.quoted())).unzip();
    forget_dropped(&extension)?;
    let sql = &queries::catalog::REGISTER_SET;
    let args = [kinds.into(), names.into(), SCHEMA_VERSION.into(), role::current().into()];
    let made: Option<pg_sys::Oid> = extension.write(sql, &args)?;
    system_catalog::invalidate(extension.registry()?);
    made.ok_or(Error::MissingValue("mart"))
}

/// Checks that the names of a set's relations are free and fit into PostgreSQL's limit of a name.
fn check_names_free(cfg_table: &str, relations: &[(&str, Name)]) -> Result<()> {
    let refuse = |code, problem: String, hint| {
        Err(SetError::Name { code, name: cfg_table.to_owned(), problem, hint }.into())
    };
    for (_, name) in relations {
        if name.relation.len() > MAX_NAME {
            return refuse(
                PgSqlErrorCode::ERRCODE_NAME_TOO_LONG,
                format!("\"{}\" has more than {MAX_NAME} bytes", name.relation),
                "Give cfg_table a name of at most 49 bytes, log_table one of at most 63.",
            );
        }
    }
    let (schemas, names): (Vec<String>, Vec<String>) =
        relations.iter().map(|(_, name)| (name.schema.clone(), name.relation.clone())).unzip();
    match find_taken_name(schemas, names)? {
        Some(taken) => refuse(
            PgSqlErrorCode::ERRCODE_DUPLICATE_TABLE,
            format!("{taken} exists already"),
            "Choose another name, or drop what has this one.",
        ),
        None => Ok(()),
    }
}

/// The first of the names that a relation or a type already has.
pub fn find_taken_name(schemas: Vec<String>, names: Vec<String>) -> Result<Option<String>> {
    let sql = &queries::catalog::FIND_TAKEN_NAME;
    Spi::connect(|_| statement::read_one(sql.text(), &[schemas.into(), names.into()]))
}

/// The prefix for names of indexes and constraints: the mart's name, or, where that is too long,
/// its beginning with a hash of the whole name.
pub fn stem(mart: &str) -> Result<String> {
    if mart.len() + MAX_ENDING <= MAX_NAME {
        return Ok(mart.to_owned());
    }
    let sql = queries::catalog::HASH_NAME.text();
    let hash: Option<String> = Spi::connect(|_| statement::read_one(sql, &[mart.into()]))?;
    Ok(format!("{}_{}", &mart[..mart.floor_char_boundary(STEM)], hash.unwrap_or_default()))
}

/// A row of `segmenter_sets`.
pub struct ListedSet {
    pub cfg_table: String,
    pub log_table: String,
    pub owner: String,
    /// The number of active segments whose owner the caller is a member of; none: a relation of the
    /// set is missing, or is locked.
    pub segments: Option<i64>,
    pub is_current: bool,
}

/// All sets, the extension's own first.
pub fn list() -> Result<Vec<ListedSet>> {
    let extension = Extension::current()?;
    let current =
        in_subtransaction(OnSuccess::Rollback, RelationSet::current).ok().map(|set| set.mart());
    let mut listed = Vec::new();
    for RegisteredSet { mart, .. } in extension.sets()? {
        let sql = &queries::catalog::DESCRIBE_SET;
        let names: Option<Vec<Option<String>>> = extension.read(sql, &[mart.into()])?;
        let mut names = names.unwrap_or_default().into_iter().map(Option::unwrap_or_default);
        let set = in_subtransaction(OnSuccess::Rollback, || {
            RelationSet::of_mart(extension.clone(), mart)
        });
        listed.push(ListedSet {
            cfg_table: names.next().unwrap_or_default(),
            log_table: names.next().unwrap_or_default(),
            owner: names.next().unwrap_or_default(),
            segments: set.ok().and_then(|set| visible_segments(&set)),
            is_current: current == Some(mart),
        });
    }
    Ok(listed)
}

/// The number of active segments whose owner the caller is a member of. A set of another role is
/// not queried for it: its policies would run, and could keep the caller waiting. None: it is locked.
fn visible_segments(set: &RelationSet) -> Option<i64> {
    let rows = table_scan::read(set.segments(), [c"owner", c"actual_end"])?;
    let caller = role::current();
    let count = rows.into_iter().filter(|[owner, actual_end]| {
        let owner = owner.map(|owner| pg_sys::Oid::from(owner.value() as u32));
        let is_active = actual_end.is_some_and(|end| end.value() as i64 == i64::MAX);
        is_active && owner.is_some_and(|owner| role::may_act_as(caller, owner))
    });
    i64::try_from(count.count()).ok()
}

/// Drops a set with everything in it. Segment tables are kept, as ordinary tables. Unless `force`
/// is set, active segments or undelivered messages are an error.
pub fn drop_set(cfg_table: &str, force: bool) -> Result<()> {
    let extension = Extension::current()?;
    let mart = system_catalog::relation_named(cfg_table)?;
    let unknown = || SetError::Unknown(cfg_table.to_owned());
    let set = RelationSet::of_any_version(extension, mart.ok_or_else(unknown)?)?;
    let set_name = || set.name().to_owned();
    if set.is_own {
        return Err(SetError::Own(set_name()).into());
    }
    if !role::owns_table(role::current(), set.mart()) {
        return Err(SetError::NotOwner(set_name()).into());
    }
    // The lock keeps the counts below valid until the relations are dropped.
    set.extension.as_caller(|| Spi::run(&set.sql(&queries::catalog::LOCK_SET, &[])))?;
    let (segments, messages) = in_use(&set, set.owner)?;
    if !force && (segments, messages) != (0, 0) {
        return Err(SetError::InUse { set: set_name(), segments, messages }.into());
    }
    set.extension.as_caller(|| {
        Spi::connect_mut(|client| {
            let args = [OWN_CHECK.into()];
            let commands = client
                .select(&set.sql(&queries::catalog::LIST_RELEASE_COMMANDS, &[]), None, &args)?
                .map(|row| row.get::<String>(1));
            let mut commands: Vec<Option<String>> =
                commands.collect::<std::result::Result<_, _>>()?;
            let sql = set.sql(&queries::catalog::LIST_DROP_COMMAND, &[]);
            commands.push(statement::read_one(&sql, &[])?);
            for command in commands.into_iter().flatten() {
                client.update(&command, None, &[])?;
            }
            Ok::<_, Error>(())
        })
    })?;
    forget_dropped(&set.extension)?;
    change_readers::forget(&set, None)?;
    system_catalog::invalidate(set.extension.registry()?);
    Ok(())
}

/// The number of active segments of a set whose owner `reader` is a member of, and the number of
/// undelivered messages.
fn in_use(set: &RelationSet, reader: pg_sys::Oid) -> Result<(i64, i64)> {
    let counts: Option<Vec<i64>> = set.as_owner(|| {
        Spi::connect(|_| {
            statement::read_one(&set.sql(&queries::catalog::COUNT_SET_USE, &[]), &[reader.into()])
        })
    })?;
    Ok(match counts.unwrap_or_default().as_slice() {
        [segments, messages] => (*segments, *messages),
        _ => (0, 0),
    })
}

/// Unregisters sets whose mart was dropped with DROP TABLE.
fn forget_dropped(extension: &Extension) -> Result<()> {
    Ok(extension
        .as_owner(|| Spi::run(&extension.sql(&queries::catalog::UNREGISTER_DROPPED_SETS, &[])))?)
}
