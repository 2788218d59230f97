//! Statements of our own that the session keeps with their plans.
//!
//! A refresh of a small segment consists mostly of planning the same few statements on the catalogs
//! and the service relations. PostgreSQL keeps their analysis and plans, and makes them anew when what
//! they depend on changes.

use std::cell::RefCell;
use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::rc::Rc;

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::{Oid, PgOid};
use pgrx::spi::{OwnedPreparedStatement, Query, SpiClient, SpiCursor, SpiResult, SpiTupleTable};

use crate::pg::exec::role;

/// The number of statements that a session keeps at most. A session that refreshes segments of one
/// set keeps about fifteen.
const LIMIT: usize = 128;

/// A statement that is kept, with one plan for all parameters: it reads or writes rows by their keys,
/// whichever of its parameters are null, and however many rows there were when it was planned.
/// The types of its parameters are those of the arguments.
pub struct Kept(String);

type Statements = HashMap<(String, Vec<Oid>), Rc<OwnedPreparedStatement>>;

thread_local! {
    // Without a destructor: it would run when the process ends, after PostgreSQL's own clean-up.
    static STATEMENTS: ManuallyDrop<RefCell<Statements>> = ManuallyDrop::default();
}

impl Kept {
    pub fn new(sql: impl Into<String>) -> Self {
        Self(sql.into())
    }

    /// The kept statement, prepared now if it is not kept yet. It lives until its last execution ends,
    /// even if the session forgets it meanwhile.
    fn prepared(
        self,
        client: &SpiClient<'_>,
        args: &[DatumWithOid<'_>],
    ) -> SpiResult<Rc<OwnedPreparedStatement>> {
        let types: Vec<Oid> = args.iter().map(DatumWithOid::oid).collect();
        let key = (self.0, types);
        if let Some(found) = STATEMENTS.with(|kept| kept.borrow().get(&key).cloned()) {
            return Ok(found);
        }
        let types: Vec<PgOid> = key.1.iter().map(|oid| PgOid::from(*oid)).collect();
        let prepared = Rc::new(client.prepare(key.0.as_str(), &types)?.keep());
        STATEMENTS.with(|kept| {
            let mut kept = kept.borrow_mut();
            if kept.len() >= LIMIT {
                kept.clear();
            }
            kept.insert(key, Rc::clone(&prepared));
        });
        Ok(prepared)
    }
}

impl<'conn> Query<'conn> for Kept {
    fn execute<'mcx>(
        self,
        client: &SpiClient<'conn>,
        limit: Option<libc::c_long>,
        args: &[DatumWithOid<'mcx>],
    ) -> SpiResult<SpiTupleTable<'conn>> {
        let prepared = self.prepared(client, args)?;
        role::by_index(|| (&*prepared).execute(client, limit, args))
    }

    fn try_open_cursor<'mcx>(
        self,
        client: &SpiClient<'conn>,
        args: &[DatumWithOid<'mcx>],
    ) -> SpiResult<SpiCursor<'conn>> {
        let prepared = self.prepared(client, args)?;
        role::by_index(|| (&*prepared).try_open_cursor(client, args))
    }
}
