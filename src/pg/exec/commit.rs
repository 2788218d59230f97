//! COMMIT within a procedure, whose failure is a result: in PL/pgSQL it would end the procedure.

use std::panic::AssertUnwindSafe;

use pgrx::callconv::{Arg, ArgAbi};
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use pgrx::prelude::*;

use crate::error::{Error, Report, Result};
use crate::pg::exec::snapshot::Active;
use crate::pg::exec::subtransaction::ErrorTrace;

/// The CALL of a procedure: an argument that its SQL declaration does not have.
pub struct Call {
    is_atomic: bool,
}

// SAFETY: no argument of the SQL declaration belongs to it.
unsafe impl SqlTranslatable for Call {
    const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!(Call);
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: std::result::Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::Skip);
    const RETURN_SQL: std::result::Result<ReturnsRef, ReturnsError> =
        Ok(ReturnsRef::One(SqlMappingRef::Skip));
}

// SAFETY: it takes nothing from the arguments.
unsafe impl<'fcx> ArgAbi<'fcx> for Call {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: the struct of the running function. Its context is null or a node, whose kind its tag
        // says.
        let may_end = unsafe {
            let call = pg_sys::FunctionCallInfo::unbox_arg_unchecked(arg);
            let context = (*call).context;
            !context.is_null()
                && (*context).type_ == pg_sys::NodeTag::T_CallContext
                && !(*context.cast::<pg_sys::CallContext>()).atomic
        };
        Self { is_atomic: !may_end }
    }

    fn is_virtual_arg() -> bool {
        true
    }
}

impl Call {
    /// Checks that the procedure may end transactions: it was called outside of a transaction block and
    /// of functions.
    pub fn check(&self) -> Result<()> {
        if self.is_atomic { Err(Error::InTransaction) } else { Ok(()) }
    }

    /// Commits the transaction and begins another one. If the commit fails, the transaction is undone,
    /// another one begins all the same, and the error is returned.
    pub fn commit(&self) -> std::result::Result<(), Report> {
        self.check().map_err(|error| error.report())?;
        let trace = ErrorTrace::begin();
        PgTryBuilder::new(AssertUnwindSafe(|| {
            // SAFETY: the procedure may end the transaction, and no snapshot, subtransaction or
            // connection of this process's Rust code is open. What the connection is made in outlives
            // the transaction. After a failure SPI has begun a transaction before it raises the error;
            // the connection is closed in both cases.
            unsafe {
                pg_sys::SPI_connect_ext(pg_sys::SPI_OPT_NONATOMIC as i32);
                pg_sys::SPI_commit();
            }
            Ok(())
        }))
        .catch_others(|caught| Err(trace.report(&caught)))
        .finally(|| {
            // SAFETY: it was opened above.
            unsafe { pg_sys::SPI_finish() };
        })
        .execute()
    }

    /// Runs `body` with a snapshot, which a new transaction does not have yet.
    pub fn with_snapshot<T>(&self, body: impl FnOnce() -> T) -> T {
        let _snapshot = Active::latest();
        body()
    }
}
