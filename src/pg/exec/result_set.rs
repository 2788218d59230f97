//! The rows that a function returns as a set: they go into a tuplestore as the executor gives them, and
//! spill to disk.

use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;

use crate::error::{Error, Result};
use crate::pg::exec::receiver::Receiver;
use crate::pg::exec::statement::{Prepared, ResultColumn};
use crate::pg::exec::tuplestore::StoreReceiver;

/// The result of the function that is being called. It belongs to the query that calls it, and so
/// outlives subtransactions of the function.
pub struct ResultSet {
    store: *mut pg_sys::Tuplestorestate,
    columns: Vec<ResultColumn>,
}

impl ResultSet {
    /// The result of a call, which has no rows yet. `call` is the argument that PostgreSQL has given to
    /// the function, whose own result is void.
    pub fn of(call: pg_sys::FunctionCallInfo) -> Result<Self> {
        let unfit = Error::MissingValue("result set");
        // SAFETY: PostgreSQL gives a function the data of its call, which are live until it returns. Where
        // it accepts a set, they refer to the place of the result, whose tag says what it is. The store
        // and the descriptor are made in the memory of the query, which ends them; the files of the
        // store belong to the resource owner of the caller.
        unsafe {
            let Some(place) = call.as_ref().and_then(|call| {
                let place = call.resultinfo.cast::<pg_sys::ReturnSetInfo>();
                place.as_mut().filter(|place| place.type_ == pg_sys::NodeTag::T_ReturnSetInfo)
            }) else {
                return Err(unfit);
            };
            let mode = pg_sys::SetFunctionReturnMode::SFRM_Materialize;
            if place.allowedModes & mode as i32 == 0 || place.expectedDesc.is_null() {
                return Err(unfit);
            }
            let memory = (*place.econtext).ecxt_per_query_memory;
            let outer = pg_sys::MemoryContextSwitchTo(memory);
            let is_random =
                place.allowedModes & pg_sys::SetFunctionReturnMode::SFRM_Materialize_Random as i32;
            let store = pg_sys::tuplestore_begin_heap(is_random != 0, false, pg_sys::work_mem);
            let desc = pg_sys::CreateTupleDescCopy(place.expectedDesc);
            pg_sys::MemoryContextSwitchTo(outer);
            place.returnMode = mode;
            place.setResult = store;
            place.setDesc = desc;
            let attributes = pgrx::PgTupleDesc::from_pg_copy(desc);
            let columns = attributes.iter().map(|column| ResultColumn {
                name: column.name().to_owned(),
                type_oid: column.type_oid().value(),
                modifier: column.type_mod(),
                collation: column.attcollation,
            });
            Ok(Self { store, columns: columns.collect() })
        }
    }

    /// Whether a call says which columns its result has: that of a function that returns records has them
    /// in the query.
    pub fn has_columns(call: pg_sys::FunctionCallInfo) -> bool {
        // SAFETY: as for `of`.
        unsafe {
            let place = call.as_ref().map(|call| call.resultinfo.cast::<pg_sys::ReturnSetInfo>());
            place.and_then(|place| place.as_ref()).is_some_and(|place| {
                place.type_ == pg_sys::NodeTag::T_ReturnSetInfo && !place.expectedDesc.is_null()
            })
        }
    }

    /// Its columns.
    pub fn columns(&self) -> &[ResultColumn] {
        &self.columns
    }

    /// The number of its rows.
    pub fn rows(&self) -> u64 {
        // SAFETY: the store is live as long as the function that is being called.
        unsafe { pg_sys::tuplestore_tuple_count(self.store) as u64 }
    }

    /// Removes all rows.
    pub fn clear(&self) {
        // SAFETY: the store is live as long as the function that is being called, and nothing reads it
        // before that has returned.
        unsafe { pg_sys::tuplestore_clear(self.store) };
    }

    /// Runs a query with the active snapshot, read-only, and appends its rows. Needs an SPI connection.
    pub fn append(&self, sql: &str, args: &[DatumWithOid<'_>]) -> Result<()> {
        let query = Prepared::new(sql, args)?;
        let given = query.columns();
        let given = given.iter().map(|column| column.type_oid);
        if !given.eq(self.columns.iter().map(|column| column.type_oid)) {
            return Err(Error::MissingValue("column of the result set"));
        }
        let mut keeping = Receiver::new(StoreReceiver { store: self.store });
        query.execute(args, keeping.destination())
    }
}
