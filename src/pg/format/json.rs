//! Values of the type `jsonb` as text. Payloads and answers of consumers are passed on without
//! being parsed, however large or deep they are.

use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::datum::{FromDatum, IntoDatum};
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use pgrx::prelude::*;
use segmenter_core::text::json_problem;

/// A `jsonb` in PostgreSQL's text form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonbText(pub String);

impl JsonbText {
    /// The parsed value. PostgreSQL takes values that cannot be parsed here: the error says why one
    /// cannot.
    pub fn parse(&self) -> Result<serde_json::Value, String> {
        serde_json::from_str(&self.0).map_err(|error| json_problem(&error))
    }
}

impl FromDatum for JsonbText {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _: pg_sys::Oid,
    ) -> Option<Self> {
        if is_null {
            return None;
        }
        // What the function allocates goes with this context: the present one may live as long as the
        // transaction.
        let mut context = pgrx::PgMemoryContexts::new("segmenter JSON");
        // SAFETY: `jsonb_out` takes a jsonb that is not null: as the caller of this unsafe function
        // promises. The text is copied before its context is deleted.
        unsafe {
            context.switch_to(|_| {
                let args = [Some(datum)];
                let text = pgrx::direct_function_call::<&std::ffi::CStr>(pg_sys::jsonb_out, &args);
                text.map(|text| Self(text.to_string_lossy().into_owned()))
            })
        }
    }
}

// SAFETY: the value is owned: it does not depend on the life of the datum.
unsafe impl pgrx::datum::UnboxDatum for JsonbText {
    type As<'src>
        = JsonbText
    where
        Self: 'src;

    unsafe fn unbox<'src>(datum: pgrx::datum::Datum<'src>) -> JsonbText
    where
        Self: 'src,
    {
        // SAFETY: a jsonb that is not null, as the caller of this unsafe function promises.
        let text = unsafe { Self::from_datum(datum.sans_lifetime(), false) };
        text.unwrap_or_else(|| JsonbText("null".into()))
    }
}

impl IntoDatum for JsonbText {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        let text = std::ffi::CString::new(self.0).ok()?;
        // SAFETY: `jsonb_in` takes a C string, which is live during the call; what is no JSON is
        // raised.
        unsafe {
            pgrx::direct_function_call_as_datum(pg_sys::jsonb_in, &[text.as_c_str().into_datum()])
        }
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::JSONBOID
    }
}

// SAFETY: in SQL it is a jsonb, and is read and written as one above.
unsafe impl SqlTranslatable for JsonbText {
    const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!(JsonbText);
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::literal("jsonb"));
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> =
        Ok(ReturnsRef::One(SqlMappingRef::literal("jsonb")));
}

// SAFETY: the argument is a jsonb, as the SQL declaration has it.
unsafe impl<'fcx> ArgAbi<'fcx> for JsonbText {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        let index = arg.index();
        // SAFETY: the argument has the type of the SQL declaration, as the caller promises.
        match unsafe { arg.unbox_arg_using_from_datum() } {
            Some(value) => value,
            None => panic!("argument {index} must not be null"),
        }
    }
}

// SAFETY: the result is a jsonb, as the SQL declaration has it.
unsafe impl BoxRet for JsonbText {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> pgrx::datum::Datum<'fcx> {
        match self.into_datum() {
            // SAFETY: made in the current memory context, as a result has to be.
            Some(datum) => unsafe { fcinfo.return_raw_datum(datum) },
            None => fcinfo.return_null(),
        }
    }
}

/// A `jsonb` that is written as bytes, in the current memory context.
pub struct JsonbBytes(pg_sys::Datum);

impl JsonbBytes {
    /// `write` passes so many bytes on, which are those of a `jsonb` after its header.
    pub fn build(size: usize, write: impl FnOnce(&mut dyn FnMut(&[u8]))) -> Self {
        // SAFETY: `palloc` gives as much as was asked for, or raises. What is written stays within it, and
        // begins after the header; what is missing at the end is filled.
        unsafe {
            let start = pg_sys::palloc(pg_sys::VARHDRSZ + size).cast::<u8>();
            pgrx::set_varsize_4b(start.cast(), (pg_sys::VARHDRSZ + size) as i32);
            let (bytes, mut written) = (start.add(pg_sys::VARHDRSZ), 0);
            write(&mut |piece| {
                let length = piece.len().min(size - written);
                std::ptr::copy_nonoverlapping(piece.as_ptr(), bytes.add(written), length);
                written += length;
            });
            std::ptr::write_bytes(bytes.add(written), 0, size - written);
            Self(start.into())
        }
    }
}

// SAFETY: in SQL it is a jsonb, as which it was written.
unsafe impl SqlTranslatable for JsonbBytes {
    const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!(JsonbBytes);
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::literal("jsonb"));
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> =
        Ok(ReturnsRef::One(SqlMappingRef::literal("jsonb")));
}

// SAFETY: the result is a jsonb, as the SQL declaration has it.
unsafe impl BoxRet for JsonbBytes {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> pgrx::datum::Datum<'fcx> {
        // SAFETY: made in the current memory context, as a result has to be.
        unsafe { fcinfo.return_raw_datum(self.0) }
    }
}
