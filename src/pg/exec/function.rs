//! What `pg_proc` says of a function that a query calls.

use std::ffi::{CStr, CString, c_char};

use pgrx::prelude::*;

use crate::pg::system_catalog;
use crate::pg::version;
use segmenter_core::clock_words::names_clock;

/// The language SQL, by its fixed OID in `pg_language`.
const SQL_LANGUAGE: u32 = 14;

/// A function.
pub(in crate::pg) struct Function {
    oid: pg_sys::Oid,
    name: String,
    schema: pg_sys::Oid,
    language: u32,
    is_immutable: bool,
    arguments: Vec<pg_sys::Oid>,
    result: pg_sys::Oid,
    source: String,
}

/// The body of an SQL function.
pub(in crate::pg) struct Body {
    /// Its queries, analysed and rewritten.
    pub queries: Vec<*mut pg_sys::Query>,
    /// The text that locations in them refer to; none: they have none.
    pub text: Option<String>,
}

impl Function {
    /// None: it does not exist.
    pub fn find(oid: pg_sys::Oid) -> Option<Self> {
        let tuple = Tuple::find(oid)?;
        // SAFETY: the tuple is held until `tuple` is dropped, and is one of `pg_proc`. The vector has
        // as many values as its dimension says.
        unsafe {
            let form = &*pg_sys::GETSTRUCT(tuple.0).cast::<pg_sys::FormData_pg_proc>();
            let arguments = form.proargtypes.values.as_slice(form.proargtypes.dim1.max(0) as usize);
            Some(Self {
                oid,
                name: CStr::from_ptr(form.proname.data.as_ptr()).to_string_lossy().into_owned(),
                schema: form.pronamespace,
                language: form.prolang.to_u32(),
                is_immutable: form.provolatile as u8 == pg_sys::PROVOLATILE_IMMUTABLE,
                arguments: arguments.to_vec(),
                result: form.prorettype,
                source: tuple.text(pg_sys::Anum_pg_proc_prosrc).unwrap_or_default(),
            })
        }
    }

    /// The name, with the schema unless the search_path finds the function without it.
    pub fn name(&self) -> String {
        // SAFETY: needs a transaction for its look-ups, in which SQL functions and jobs run.
        if unsafe { pg_sys::FunctionIsVisible(self.oid) } {
            return self.name.clone();
        }
        system_catalog::qualify(self.schema, &self.name)
    }

    pub fn is_immutable(&self) -> bool {
        self.is_immutable
    }

    /// Whether it has this name in this schema; neither is quoted.
    pub fn is_named(&self, schema: &str, name: &str) -> bool {
        self.name == name && system_catalog::schema_name(self.schema).as_deref() == Some(schema)
    }

    fn is_built_in(&self) -> bool {
        self.oid.to_u32() < pg_sys::FirstNormalObjectId
    }

    pub fn is_sql(&self) -> bool {
        self.language == SQL_LANGUAGE
    }

    /// Whether its result may depend on the clock, as far as its declaration shows. Of PostgreSQL's own
    /// functions those read the clock that give a time and need no argument. Of others it is known
    /// that they are not immutable and have to do with times, or that their body names a clock.
    pub fn may_read_clock(&self) -> bool {
        if self.is_built_in() {
            let gives_time = is_time(self.result) || self.oid.to_u32() == pg_sys::F_TIMEOFDAY;
            return !self.is_immutable && self.arguments.is_empty() && gives_time;
        }
        // Its time is an argument.
        if self.source == "segmenter_members_wrapper" {
            return false;
        }
        let is_of_time = is_time(self.result) || self.arguments.iter().any(|typ| is_time(*typ));
        (is_of_time && !self.is_immutable) || names_clock(&self.source)
    }

    /// Whether it brings together a time with a zone and one without, by the zone of the session.
    pub fn depends_on_zone(&self) -> bool {
        let mut types = self.arguments.iter().chain([&self.result]);
        self.is_built_in()
            && !self.is_immutable
            && types.clone().any(|typ| *typ == pg_sys::TIMESTAMPTZOID)
            && types.any(|typ| is_zoneless(*typ))
    }

    /// Analyses the body of an SQL function that is called by the expression `call`, which decides the
    /// types of polymorphic arguments. What cannot be analysed raises an error.
    ///
    /// # Safety
    ///
    /// `call` is null or a live expression.
    pub unsafe fn body(&self, call: *mut pg_sys::Node, collation: pg_sys::Oid) -> Body {
        let Some(tuple) = Tuple::find(self.oid) else {
            return Body { queries: Vec::new(), text: None };
        };
        // SAFETY: the tuple is held until the end. Nodes are made in the current memory context. The
        // settings of the function end with the level, or with the (sub)transaction.
        unsafe {
            if let Some(body) = tuple.text(pg_sys::Anum_pg_proc_prosqlbody) {
                let body = CString::new(body).unwrap_or_default();
                let node = pg_sys::stringToNode(body.as_ptr()).cast::<pg_sys::Node>();
                let queries = match (*node).type_ {
                    pg_sys::NodeTag::T_List => {
                        let statements = pgrx::PgList::<pg_sys::List>::from_pg(node.cast());
                        statements.get_ptr(0).unwrap_or(std::ptr::null_mut())
                    }
                    _ => pg_sys::lappend(std::ptr::null_mut(), node.cast()),
                };
                let queries = pgrx::PgList::<pg_sys::Query>::from_pg(queries);
                let rewritten = queries.iter_ptr().map(|query| {
                    pg_sys::AcquireRewriteLocks(query, true, false);
                    pg_sys::pg_rewrite_query(query)
                });
                return Body { queries: flatten(rewritten), text: None };
            }
            let source = CString::new(self.source.as_str()).unwrap_or_default();
            let level = pg_sys::NewGUCNestLevel();
            if let Some(settings) = tuple.attribute(pg_sys::Anum_pg_proc_proconfig) {
                pg_sys::ProcessGUCArray(
                    pg_sys::pg_detoast_datum(settings.cast_mut_ptr()).cast(),
                    pg_sys::GucContext::PGC_USERSET,
                    pg_sys::GucSource::PGC_S_SESSION,
                    pg_sys::GucAction::GUC_ACTION_SAVE,
                );
            }
            let statements = pg_sys::pg_parse_query(source.as_ptr());
            let statements = pgrx::PgList::<pg_sys::RawStmt>::from_pg(statements);
            let analysed = statements
                .iter_ptr()
                .map(|raw| version::analyze_function_body(raw, &source, tuple.0, call, collation));
            let queries = flatten(analysed);
            pg_sys::AtEOXact_GUC(false, level);
            Body { queries, text: Some(self.source.clone()) }
        }
    }
}

/// The queries of lists.
fn flatten(lists: impl Iterator<Item = *mut pg_sys::List>) -> Vec<*mut pg_sys::Query> {
    // SAFETY: lists of queries that were just made.
    let lists = lists.map(|list| unsafe { pgrx::PgList::<pg_sys::Query>::from_pg(list) });
    lists.flat_map(|list| list.iter_ptr().collect::<Vec<_>>()).collect()
}

/// A tuple of `pg_proc` in the cache, which is released when this is dropped.
struct Tuple(pg_sys::HeapTuple);

impl Tuple {
    fn find(oid: pg_sys::Oid) -> Option<Self> {
        // SAFETY: needs a transaction for its look-up. The cache's key is the OID.
        let tuple = unsafe {
            pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::PROCOID as i32, oid.into())
        };
        (!tuple.is_null()).then_some(Self(tuple))
    }

    /// The value of a column; none: it is null.
    fn attribute(&self, number: u32) -> Option<pg_sys::Datum> {
        let mut is_null = false;
        // SAFETY: the tuple is one of this cache, and held.
        let datum = unsafe {
            pg_sys::SysCacheGetAttr(
                pg_sys::SysCacheIdentifier::PROCOID as i32,
                self.0,
                number as i16,
                &mut is_null,
            )
        };
        (!is_null).then_some(datum)
    }

    /// A column of a text type.
    fn text(&self, number: u32) -> Option<String> {
        let datum = self.attribute(number)?;
        // SAFETY: the column is a text, or a pg_node_tree, which has the same form.
        unsafe {
            let text: *mut c_char = pg_sys::text_to_cstring(datum.cast_mut_ptr());
            let owned = CStr::from_ptr(text).to_string_lossy().into_owned();
            pg_sys::pfree(text.cast());
            Some(owned)
        }
    }
}

impl Drop for Tuple {
    fn drop(&mut self) {
        // While an error unwinds, the abort releases it.
        if !std::thread::panicking() {
            // SAFETY: it was found in the cache, and is released once.
            unsafe { pg_sys::ReleaseSysCache(self.0) };
        }
    }
}

/// Whether a type holds a time or a date, or ranges or arrays of them.
pub(in crate::pg) fn is_time(typ: pg_sys::Oid) -> bool {
    let (mut category, mut is_preferred) = (0, false);
    // SAFETY: needs a transaction for its look-ups. Both results are places of their own. A type that
    // is no range or array has no subtype (0). A missing type is raised; types of functions exist.
    unsafe {
        let mut typ = pg_sys::getBaseType(typ);
        for inner in [
            pg_sys::get_element_type(typ),
            pg_sys::get_multirange_range(typ),
            pg_sys::get_range_subtype(typ),
        ] {
            if inner != pg_sys::InvalidOid {
                typ = pg_sys::getBaseType(inner);
            }
        }
        let range = pg_sys::get_range_subtype(typ);
        let typ = if range == pg_sys::InvalidOid { typ } else { pg_sys::getBaseType(range) };
        pg_sys::get_type_category_preferred(typ, &mut category, &mut is_preferred);
    }
    category as u8 == pg_sys::TYPCATEGORY_DATETIME
}

/// Whether a type holds times without a time zone.
pub(in crate::pg) fn is_zoneless(typ: pg_sys::Oid) -> bool {
    matches!(typ, pg_sys::TIMESTAMPOID | pg_sys::DATEOID | pg_sys::TIMEOID)
}
