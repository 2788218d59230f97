//! People who were erased and are kept out: of them a hash is left, by which refreshes know them.

use std::collections::BTreeSet;

use pgrx::datum::{DatumWithOid, Uuid};
use pgrx::prelude::*;
use serde_json::json;

use crate::catalog::log::{self, Action, Entry, LogCounts, LogStatus};
use crate::catalog::queries;
use crate::catalog::query::Query;
use crate::catalog::relation_set::{Relation, RelationSet};
use crate::error::{Result, SetError};
use crate::pg::clock;
use crate::pg::exec::durable;
use crate::pg::exec::role;
use segmenter_core::reason::Reason;

/// Keeps a person out of the segments of every role that the caller may act as, and, if that is the owner
/// of the set, of the whole set. `ids`: the id, and what tables hold as equal to it.
pub(super) fn keep_out(set: &RelationSet, ids: &BTreeSet<String>, run_id: Uuid) -> Result<()> {
    let ids: Vec<String> = ids.iter().cloned().collect();
    if write(set, &queries::ops::erase::KEEP_OUT, ids.into())? != Some(true) {
        return Err(SetError::NoSecret(set.display_name(Relation::Secret)).into());
    }
    log_entry(set, Action::KeepOut, "a person was erased and is kept out", run_id)
}

/// Readmits a person to the segments of every role that the caller may act as, and, if that is the owner of
/// the set, to the whole set. Returns whether the person was kept out of any.
pub fn readmit(set: &RelationSet, id: &str, run_id: Uuid) -> Result<bool> {
    durable::flush_at_commit();
    let was_kept_out = write(set, &queries::ops::erase::READMIT, id.into())? == Some(true);
    if was_kept_out {
        log_entry(set, Action::Readmit, "a person who was kept out was readmitted", run_id)?;
    }
    Ok(was_kept_out)
}

fn write(set: &RelationSet, query: &Query, ids: DatumWithOid<'_>) -> Result<Option<bool>> {
    let caller = role::current();
    let args = [ids, role::may_act_as(caller, set.owner).into(), caller.into()];
    set.as_owner(|| {
        let key = set.sql(&queries::catalog::SECRET_KEY, &[]);
        let sql = set.sql(query, &[("secret_key", &key)]);
        Spi::connect_mut(|client| Ok(client.update(&sql, None, &args)?.first().get_one()?))
    })
}

/// The entry is about no segment, and names neither the person nor a hash.
fn log_entry(set: &RelationSet, action: Action, message: &str, run_id: Uuid) -> Result<()> {
    let entry = Entry {
        run_id: Some(run_id),
        action,
        status: LogStatus::Ok,
        segment: (None, ""),
        subscription: None,
        counts: LogCounts::default(),
        began: clock::now(),
        elapsed: None,
        message: Some(message),
        error: None,
        params: json!({ "role": role::name(role::current()) }),
        reason: matches!(action, Action::KeepOut).then_some(Reason::Erased),
    };
    log::write(set, entry)
}
