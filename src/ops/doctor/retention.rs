//! Whether the retention of former members can be applied.

use pgrx::datum::Uuid;
use pgrx::prelude::*;

use super::findings::Findings;
use crate::catalog::queries;
use crate::catalog::relation_set::{Relation, RelationSet};
use crate::catalog::viewer::Viewer;
use crate::config::segment_table::Holder;
use crate::config::{self, Subject};
use crate::error::{Error, Report, Result};
use crate::pg::exec::role;
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::pg::format::json::JsonbText;
use crate::refresh::retention;
use crate::schedule::run::PlannedRefresh;

/// A segment with a retention.
struct Retained {
    id: Uuid,
    name: String,
    table: pg_sys::Oid,
    owner: pg_sys::Oid,
    retention: Option<JsonbText>,
    error: Option<String>,
}

/// `is_served`: workers apply it, which are connected as the owners.
pub(super) fn check(
    found: &mut Findings,
    set: &RelationSet,
    viewer: Viewer,
    is_served: bool,
) -> Result<()> {
    for segment in list(set, viewer)? {
        let obstacle =
            in_subtransaction(OnSuccess::Rollback, || segment.obstacle(set, is_served)).err();
        let (message, hint) = match (obstacle.map(|error| error.report()), segment.error) {
            (Some(Report { message, hint, .. }), _) => (message, hint),
            (None, Some(error)) => (error, None),
            (None, None) => continue,
        };
        let detail = format!(
            "former members of segment \"{}\" are kept longer than its retention says: {message}",
            segment.name
        );
        let hint = hint.unwrap_or_else(|| {
            "The log has the error, under the action \"prune\". It is tried again each hour.".into()
        });
        found.problem("retention", detail, hint);
    }
    found.close_segments("retention", "the retention of former members can be applied");
    Ok(())
}

impl Retained {
    fn obstacle(&self, set: &RelationSet, is_served: bool) -> Result<()> {
        let subject = Subject::Segment(&self.name);
        let json = config::parse("retention", self.retention.clone(), subject)?;
        let retention = config::retention(json, subject)?;
        let holder = Holder { id: self.id, name: &self.name, owner: self.owner };
        retention::check(set, self.table, holder, &retention)?;
        if !role::exists(self.owner) {
            return Err(Error::OwnerDropped {
                segment: self.name.clone(),
                segments: set.display_name(Relation::Segments),
            });
        }
        let mut planned = PlannedRefresh::standalone(self.id, self.name.clone());
        planned.owner = self.owner;
        if is_served && let Some(error) = planned.blocking_error(set) {
            return Err(error);
        }
        retention::check_rights(set, self.table, holder, &retention)
    }
}

fn list(set: &RelationSet, viewer: Viewer) -> Result<Vec<Retained>> {
    let args = [viewer.role.into(), viewer.sees_figures.into()];
    set.as_owner(|| {
        Spi::connect(|client| {
            let sql = set.sql(&queries::ops::doctor::LIST_RETENTIONS, &[]);
            let rows = client.select(&sql, None, &args)?.map(|row| {
                Ok(Retained {
                    id: row.get_by_name("id")?.ok_or(Error::MissingValue("id"))?,
                    name: row.get_by_name("name")?.unwrap_or_default(),
                    table: row.get_by_name("table_oid")?.unwrap_or(pg_sys::InvalidOid),
                    owner: row.get_by_name("owner")?.unwrap_or(pg_sys::InvalidOid),
                    retention: row.get_by_name("retention")?,
                    error: row.get_by_name("error")?,
                })
            });
            rows.collect()
        })
    })
}
