//! The SQL functions of connections to platforms.

use std::collections::BTreeMap;

use pgrx::JsonB;
use pgrx::datum::Uuid;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::require_arg;
use super::triggers::{NewRow, check_connector, check_options};
use crate::catalog::relation_set::RelationSet;
use crate::delivery::render;
use crate::error::{Error, raise};
use crate::pg::exec::result_set::ResultSet;
use segmenter_core::connector::builtin::BUILTIN;

/// The requests that the waiting messages of a subscription would make. Nothing is sent, and secrets are
/// masked.
///
/// - `subscription`: the id of a subscription whose consumer is served through a foreign server or an
///   URL. The caller must be a member of the consumer's role.
///
/// Returns a row for each request, in order: the message and the step, the method, the URL, the headers, and
/// the body as a text. What only the answer to an earlier request tells is shown as `{external_id}`,
/// `{taken.…}` or `{kept.…}`. Errors: an unknown subscription, a consumer that claims its messages, or a
/// server that cannot be used.
///
/// ```sql
/// select step, method, url, left(body, 100) from segmenter_render('c1f2a3b4-5d6e-4f70-8a9b-0c1d2e3f4a5b');
/// ```
#[pg_extern(sql = "
create function segmenter_render(subscription uuid)
returns table (message_id bigint, step text, method text, url text, headers jsonb, body text)
stable language c as 'MODULE_PATHNAME', '@FUNCTION_NAME@';
")]
fn segmenter_render(
    subscription: Option<Uuid>,
    call: pg_sys::FunctionCallInfo,
) -> Result<(), ErrorReport> {
    let result = ResultSet::of(call)?;
    let subscription = require_arg("subscription", subscription)?;
    render::render(&RelationSet::current()?, subscription, &result)?;
    Ok(())
}

/// Checks the options of a foreign server or a user mapping of `segmenter_http`, when they are written.
///
/// - `options`: each as `name=value`.
/// - `catalog`: what they belong to.
///
/// An unknown or invalid option is an error that names it, not its value. A connector that does not exist
/// is a WARNING, since a dump restores servers before connectors.
#[pg_extern(sql = "
create function segmenter_http_validator(options text[], catalog oid) returns void
language c as 'MODULE_PATHNAME', '@FUNCTION_NAME@';
")]
fn segmenter_http_validator(
    options: Option<Vec<Option<String>>>,
    catalog: Option<pg_sys::Oid>,
) -> Result<(), ErrorReport> {
    let options = options.unwrap_or_default().into_iter().flatten();
    let options: BTreeMap<String, String> = options
        .filter_map(|option| {
            option.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
        })
        .collect();
    Ok(check_options(&options, require_arg("catalog", catalog)?)?)
}

/// The connectors that come with this version of Segmenter; used by the scripts of the extension.
#[pg_extern(immutable)]
fn segmenter_builtin_connectors()
-> TableIterator<'static, (name!(name, String), name!(description, String), name!(spec, JsonB))> {
    TableIterator::new(BUILTIN.iter().map(|builtin| {
        let spec = serde_json::from_str(builtin.spec).unwrap_or_default();
        (builtin.name.to_owned(), builtin.description.to_owned(), JsonB(spec))
    }))
}

/// Before a connector is written or deleted: checks its spec, and that it may change.
#[pg_trigger]
fn segmenter_check_connector<'a>(trigger: &'a PgTrigger<'a>) -> Result<Option<NewRow<'a>>, Error> {
    check_connector(trigger).unwrap_or_else(|error| raise(error));
    let is_delete = matches!(trigger.op()?, PgTriggerOperation::Delete);
    let row = if is_delete { trigger.old() } else { trigger.new() };
    Ok(row.map(pgrx::heap_tuple::PgHeapTuple::into_owned))
}
