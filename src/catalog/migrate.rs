//! Brings relation sets to the current version of their definition: all sets of the database when
//! the extension is updated, or one set.
//!
//! A set is migrated with the rights of its owner, restricted: code that the owner has attached to
//! the set gains nothing. It is migrated outside of the extension's script, so that new relations
//! belong to the owner and not to the extension. The extension's own set is migrated by the script.

use pgrx::prelude::*;
use pgrx::spi::{quote_identifier, quote_literal, quote_qualified_identifier};

use crate::catalog::change_readers;
use crate::catalog::definitions;
use crate::catalog::extension::Extension;
use crate::catalog::manage_sets::{find_taken_name, stem};
use crate::catalog::queries;
use crate::catalog::relation_set::{RelationSet, names_of};
use crate::error::{Error, Report, Result, SCHEMA_VERSION, SetError, emit_warning};
use crate::pg::bgw::activity;
use crate::pg::exec::role;
use crate::pg::exec::statement;
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::pg::system_catalog;

/// The kinds of relations that version 2 adds to a set.
const ADDED: [&str; 12] = [
    "handovers",
    "withheld",
    "reports",
    "state",
    "counts",
    "attempts",
    "alerts",
    "alert_states",
    "definitions",
    "secret",
    "kept_out",
    "current",
];

/// Migrates every set of an older version, the extension's own first. A set that cannot be migrated
/// is named in a WARNING and stays as it was. An error of the extension's own set is returned.
pub fn migrate_all() -> Result<()> {
    let extension = Extension::current()?;
    let sql = &queries::catalog::migrate::LIST_OUTDATED_SETS;
    let outdated: Option<Vec<pg_sys::Oid>> = extension.read(sql, &[SCHEMA_VERSION.into()])?;
    for mart in outdated.unwrap_or_default() {
        let found = RelationSet::of_any_version(extension.clone(), mart);
        let is_own = found.as_ref().is_ok_and(|set| set.is_own);
        match found.and_then(|set| migrate(&set)) {
            Err(error) if is_own => return Err(error),
            Err(error) => {
                let set = system_catalog::display_name(mart);
                let report = error.report();
                let hints = report.hint.clone().into_iter().chain([SetError::migrate_hint(&set)]);
                let hint = Some(hints.collect::<Vec<_>>().join(" "));
                let report = Report { hint, ..report };
                emit_warning(&format!("relation set {set} was not migrated"), &report);
            }
            Ok(()) => {}
        }
    }
    Ok(())
}

/// Migrates one set; its owner and superusers may. Returns whether it had an older version.
pub fn migrate_set(cfg_table: &str) -> Result<bool> {
    let unknown = || SetError::Unknown(cfg_table.to_owned());
    let mart = system_catalog::relation_named(cfg_table)?.ok_or_else(unknown)?;
    let set = RelationSet::of_any_version(Extension::current()?, mart)?;
    if !role::owns_table(role::current(), set.mart()) {
        return Err(SetError::NotOwner(set.name().to_owned()).into());
    }
    if set.version >= SCHEMA_VERSION {
        return Ok(false);
    }
    if set.is_own {
        return Err(SetError::OtherVersion {
            set: set.name().to_owned(),
            version: set.version,
            is_own: true,
        }
        .into());
    }
    migrate(&set)?;
    Ok(true)
}

/// Migrates a set, or changes nothing and returns the error.
fn migrate(set: &RelationSet) -> Result<()> {
    let steps = || {
        in_subtransaction(OnSuccess::Commit, || {
            migrate_from_1(set)?;
            change_readers::record_all(&RelationSet::of_mart(set.extension.clone(), set.mart())?)
        })
    };
    match set.is_own {
        true => steps(),
        false => system_catalog::outside_extension_script(steps),
    }?;
    system_catalog::invalidate(set.extension.registry()?);
    Ok(())
}

/// From version 1, which derived the state of segments and hand-overs from the log.
fn migrate_from_1(set: &RelationSet) -> Result<()> {
    let describe = &queries::catalog::migrate::DESCRIBE_MART;
    let described: Option<Vec<String>> = set
        .extension
        .as_owner(|| Spi::connect(|_| statement::read_one(&set.sql(describe, &[]), &[])))?;
    let Some([schema, mart]) = described.as_ref().and_then(|names| names.first_chunk()) else {
        return Err(Error::MissingValue("mart"));
    };
    let added: Vec<(&str, String)> = added_names(mart)
        .map(|(kind, name)| (kind, quote_qualified_identifier(schema, &name)))
        .collect();
    let parts: Vec<(&str, &str)> =
        added.iter().map(|(kind, name)| (*kind, name.as_str())).collect();

    let (schemas, names) = added_names(mart).map(|(_, name)| (schema.clone(), name)).unzip();
    if let Some(relation) = find_taken_name(schemas, names)? {
        return Err(SetError::InTheWay { set: set.name().to_owned(), relation }.into());
    }

    let definition = set.extension.read::<String>(&queries::catalog::GET_DEFINITION, &[])?;
    let definition = definition.ok_or(Error::MissingValue("definition"))?;
    let stem = stem(mart)?;
    let place = quote_literal(activity::place());
    let [operation_check, segment_check] =
        ["outbox_operation_check", "subscriptions_segment_check"]
            .map(|check| quote_identifier(format!("{stem}_{check}")));
    let fill = |text: &str| {
        set.fill(text, |word| match word.strip_prefix(':') {
            Some(ending) => Some(quote_identifier(format!("{stem}_{ending}"))),
            None => {
                parts.iter().find(|(kind, _)| *kind == word).map(|(_, name)| (*name).to_owned())
            }
        })
    };
    set.as_owner(|| {
        Spi::connect_mut(|client| {
            let more = [
                ("place", place.as_str()),
                ("operation_check", &operation_check),
                ("segment_check", &segment_check),
            ];
            let added = [parts.as_slice(), more.as_slice()].concat();
            let mut commands = vec![set.sql(&queries::catalog::migrate::ADD_COLUMNS, &added)];
            commands.extend(statements(&definition).filter(|text| creates_added(text)).map(fill));
            commands.push(set.sql(&queries::catalog::migrate::GRANT_NEW, &parts));
            commands.push(set.sql(&queries::catalog::migrate::DROP_POLICIES, &parts));
            commands.extend(statements(&definition).filter(|text| is_replaced(text)).map(fill));
            if set.has_status() {
                let view = statements(&definition).find(|text| text.starts_with(VIEW));
                let view = view.ok_or(Error::MissingValue("status"))?;
                commands.push(fill(&view.replacen("create view", "create or replace view", 1)));
            }
            let comments = statements(&definition).filter(|text| text.starts_with("comment on "));
            commands.extend(
                comments.filter(|text| set.has_status() || !text.contains("@status@")).map(fill),
            );
            for query in [
                &queries::catalog::migrate::DERIVE_STATES,
                &queries::catalog::migrate::DERIVE_COUNTS,
                &queries::catalog::migrate::DERIVE_ATTEMPTS,
                &queries::catalog::migrate::DERIVE_HANDOVERS,
                &queries::catalog::migrate::DERIVE_DELIVERIES,
                &queries::catalog::migrate::MARK_ERASURES,
            ] {
                commands.push(set.sql(query, &parts));
            }
            // An owner that has locked its set must not hold up the update.
            if !set.is_own {
                client.update(queries::catalog::migrate::LIMIT_LOCKS.text(), None, &[])?;
            }
            for command in &commands {
                client.update(command, None, &[])?;
            }
            let sql = set.sql(&queries::catalog::migrate::RECORD_DEFINITIONS, &parts);
            role::with_timezone(definitions::ZONE, || client.update(&sql, None, &[]).map(drop))?;
            // In the end: the log is read by these indexes.
            for query in [
                &queries::catalog::migrate::LIST_OBSOLETE_INDEXES,
                &queries::catalog::migrate::LIST_GRANTS,
            ] {
                let listed = client.select(&set.sql(query, &[]), None, &[])?;
                let listed: Vec<Option<String>> = listed
                    .map(|row| row.get::<String>(1))
                    .collect::<std::result::Result<_, _>>()?;
                for command in listed.into_iter().flatten() {
                    client.update(&command, None, &[])?;
                }
            }
            Ok::<_, Error>(())
        })
    })?;
    let (kinds, names): (Vec<String>, Vec<String>) =
        added.iter().map(|(kind, name)| ((*kind).to_owned(), name.clone())).unzip();
    let args = [kinds.into(), names.into(), SCHEMA_VERSION.into()];
    set.extension.as_owner(|| {
        let sql = set.sql(&queries::catalog::migrate::REGISTER_RELATIONS, &[]);
        Ok(Spi::run_with_args(&sql, &args)?)
    })
}

/// The kinds and the names of the relations that version 2 adds.
fn added_names(mart: &str) -> impl Iterator<Item = (&'static str, String)> {
    names_of(mart, None).filter(|(kind, _)| ADDED.contains(kind))
}

const VIEW: &str = "create view @status@ ";

/// The statements of a definition, without the comments before them.
fn statements(definition: &str) -> impl Iterator<Item = &str> {
    definition.split(";\n").map(|text| {
        let mut text = text.trim();
        while text.starts_with("--") {
            text = text.split_once('\n').map_or("", |(_, rest)| rest.trim_start());
        }
        text
    })
}

/// What begins the statements that create a part of a relation.
const PARTS: [&str; 3] = ["create policy ", "create index ", "create unique index "];

/// Whether a statement of the definition creates a relation of [`ADDED`], a part of one, or a row.
fn creates_added(text: &str) -> bool {
    let is_part = PARTS.iter().any(|part| text.starts_with(part));
    ADDED.iter().any(|kind| {
        ["create table", "create view", "alter table", "insert into"]
            .iter()
            .any(|command| text.starts_with(&format!("{command} @{kind}@ ")))
            || is_part && text.contains(&format!(" on @{kind}@"))
    })
}

/// The relations whose policies version 2 replaces.
const REPLACED: [&str; 4] = ["subscriptions", "mart", "log", "deliveries"];
/// The triggers and indexes that version 1 lacks, or has in another form.
const OBJECTS: [&str; 13] = [
    "create index @:segments_exclude_idx@ ",
    "create index @:segments_suppression_idx@ ",
    "create index @:segments_priority_idx@ ",
    "create trigger segmenter_register ",
    "create trigger segmenter_exclude ",
    "create trigger segmenter_version ",
    "create trigger segmenter_version_change ",
    "create trigger segmenter_check_delivery ",
    "create trigger segmenter_check before insert or update or delete on @segments@",
    "create trigger segmenter_check before insert or update or delete on @consumers@",
    "create trigger segmenter_check before insert or update or delete on @alerts@",
    "create trigger segmenter_end ",
    "create trigger segmenter_notice after insert or update or delete or truncate on @alerts@",
];

/// Whether a statement of the definition creates a policy, a trigger or an index that version 1 lacks,
/// or has in another form.
fn is_replaced(text: &str) -> bool {
    OBJECTS.iter().any(|object| text.starts_with(object))
        || text.starts_with("create policy ")
            && REPLACED.iter().any(|kind| text.contains(&format!(" on @{kind}@")))
}

#[cfg(feature = "pg_test")]
mod tests {
    use pgrx::prelude::*;

    use super::*;

    #[pg_extern]
    fn a_definition_is_split_into_statements() {
        let definition = include_str!("../../sql/set.sql");
        let created = statements(definition).filter(|text| creates_added(text));
        let created: Vec<&str> =
            created.filter_map(|text| text.split_whitespace().nth(2)).collect();
        assert_eq!(
            created,
            [
                "@handovers@",
                "@withheld@",
                "@reports@",
                "@state@",
                "@counts@",
                "@:counts_segment_idx@",
                "@attempts@",
                "@alerts@",
                "index",
                "@alert_states@",
                "@definitions@",
                "@secret@",
                "@secret@",
                "@kept_out@",
                "index",
                "@:kept_out_owner_idx@",
                "@current@",
                "@reports@",
                "segmenter_consumer",
                "@handovers@",
                "segmenter_member",
                "@alerts@",
                "segmenter_member",
                "segmenter_consumer",
                "segmenter_end",
                "@alert_states@",
                "segmenter_member",
                "@withheld@",
                "@counts@",
                "@state@",
                "segmenter_member",
                "@attempts@",
                "segmenter_member",
                "@definitions@",
                "segmenter_member",
                "@secret@",
                "@kept_out@"
            ]
        );
        let replaced = statements(definition).filter(|text| is_replaced(text));
        let replaced: Vec<&str> =
            replaced.filter_map(|text| text.split_whitespace().nth(2)).collect();
        assert_eq!(
            replaced,
            [
                "@:segments_exclude_idx@",
                "@:segments_suppression_idx@",
                "@:segments_priority_idx@",
                "segmenter_check",
                "segmenter_register",
                "segmenter_exclude",
                "segmenter_version",
                "segmenter_version_change",
                "segmenter_check",
                "segmenter_check_delivery",
                "segmenter_check",
                "segmenter_end",
                "segmenter_notice",
                "segmenter_member",
                "segmenter_consumer",
                "segmenter_end",
                "segmenter_member",
                "segmenter_member",
                "segmenter_consumer",
                "segmenter_consumer"
            ]
        );
        assert_eq!(statements(definition).filter(|text| text.starts_with(VIEW)).count(), 1);
        assert_eq!(statements("a;\n\n-- b: c\n-- d\ne f;\n").collect::<Vec<_>>(), ["a", "e f", ""]);
    }
}
