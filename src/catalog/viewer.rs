//! What a role may see of segments that are not its own: their figures, if it monitors the server.

use pgrx::prelude::*;

use super::relation_set::RelationSet;
use crate::pg::exec::role;

/// A role that looks at a set.
#[derive(Clone, Copy)]
pub struct Viewer {
    pub role: pg_sys::Oid,
    /// Whether it sees figures and statuses of all segments: it has the rights of pg_monitor, or no
    /// policy hides config rows from it. Queries, texts of errors, answers of consumers and payloads
    /// stay those of the roles that they belong to.
    pub sees_figures: bool,
    /// Whether policies hide config rows of other roles from it.
    pub is_limited: bool,
}

impl Viewer {
    /// The current role.
    pub fn current(set: &RelationSet) -> Self {
        let role = role::current();
        let is_limited = role::is_limited_by_policies(role, set.segments());
        Self { role, is_limited, sees_figures: !is_limited || role::is_monitor(role) }
    }

    /// The role to whose segments a list is limited; none: it is not limited.
    pub fn reader(&self) -> Option<pg_sys::Oid> {
        (!self.sees_figures).then_some(self.role)
    }
}
