//! What the triggers of the config tables say about rows beyond their values: whether what they ask
//! for can work, and whether they may go.

use pgrx::datum::Uuid;
use pgrx::prelude::*;

use crate::catalog::queries;
use crate::catalog::query::Query;
use crate::catalog::relation_set::{Relation, RelationSet};
use crate::config::segment_table::Holder;
use crate::config::{ConsumerParams, Refresher, SourceCheck, Subject, Updater};
use crate::delivery::{connector, push};
use crate::error::{self, Error, Result};
use crate::pg::exec::role;
use crate::pg::exec::statement::read_one;
use crate::refresh::{self, analysis};

/// A segment's row as it is written, for warnings.
pub struct WrittenSegment<'a> {
    pub holder: Holder<'a>,
    pub table: pg_sys::Oid,
    pub refresher: Option<&'a Refresher>,
    /// Whether the rows of its query name segments.
    pub has_named_rows: bool,
    pub sources: &'a [SourceCheck],
    pub is_automatic: bool,
    /// Whether the row had another refresher before, for the same table.
    pub has_other_refresher: bool,
}

impl WrittenSegment<'_> {
    /// Warns of what will keep the segment from being refreshed: SQL that cannot be analysed, or no
    /// refresher. What the SQL refers to can be created later, so the row is written.
    pub fn warn(&self, set: &RelationSet) {
        let segment = self.holder.name;
        let what = format!("{} will not be refreshed", Subject::Segment(segment));
        if self.refresher.is_none() && self.is_automatic {
            let segments = set.display_name(Relation::Segments);
            let error = Error::NoRefresher { segment: segment.to_owned(), segments };
            error::emit_warning(&what, &error.report());
        }
        if !role::exists(self.holder.owner) {
            return;
        }
        let table = (self.table, self.has_named_rows);
        let errors = analysis::errors(set, self.holder, table, self.refresher, self.sources);
        if errors.is_empty() && self.has_other_refresher {
            self.say_kept(set);
        }
        for error in errors {
            error::emit_warning(&what, &error.report());
        }
    }

    /// Says which columns of the table the refresher does not give any more.
    fn say_kept(&self, set: &RelationSet) {
        let kept = analysis::no_longer_given(set, self.holder, self.table, self.refresher);
        if kept.is_empty() {
            return;
        }
        let what = Subject::Segment(self.holder.name);
        let message = format!("{what} no longer gives {}", refresh::columns_that_stay(&kept));
        let hint = "If it is not to be kept, take it out of the fields and the where of subscriptions, and drop it or empty it.";
        error::emit(PgLogLevel::NOTICE, message, Some(hint));
    }
}

/// Warns of what will keep a consumer from getting messages. A URL that is not allowed is no error,
/// since `segmenter.http_allow` is evaluated again when a message is sent, and a function can be
/// created later.
pub fn warn_of_consumer(
    set: &RelationSet,
    name: &str,
    role: Option<pg_sys::Oid>,
    params: &ConsumerParams,
) {
    let problem = match &params.updater {
        Updater::Pull => None,
        Updater::Http(http) if push::is_allowed(&http.url) => None,
        Updater::Http(http) => Some(Error::NotAllowed { url: http.url.to_string() }),
        Updater::Server(server) => connector::connect(set, role, server).err(),
        Updater::Function(function) => push::check_function(set, name, role, function).err(),
    };
    if let Some(problem) = problem {
        let what = format!("{} will get no messages", Subject::Consumer(name));
        error::emit_warning(&what, &problem.report());
    }
}

/// Refuses to delete a segment or a consumer that has subscriptions.
pub fn check_deleted(
    set: &RelationSet,
    subject: Subject<'_>,
    (segment, consumer): (Option<Uuid>, Option<Uuid>),
) -> Result<()> {
    let args = [segment.into(), consumer.into()];
    let counts: Option<Vec<i64>> = set.as_owner(|| {
        let sql = set.sql(&queries::config::COUNT_SUBSCRIPTIONS, &[]);
        Spi::connect(|_| read_one(&sql, &args))
    })?;
    let (active, ended) = match counts.as_deref() {
        Some([active, ended]) => (*active, *ended),
        _ => (0, 0),
    };
    if active + ended == 0 {
        return Ok(());
    }
    let hint = match (subject, segment) {
        (Subject::Segment(name), Some(_)) => format!(
            "select segmenter_drop_segment({}) ends them, has consumers delete their audiences, and deletes the segment. To keep its history, retire it: set actual_end = now().",
            pgrx::spi::quote_literal(name)
        ),
        _ => "Retire it instead: set actual_end = now(). Its row can be deleted after those of its subscriptions.".into(),
    };
    Err(Error::HasSubscriptions { subject: subject.to_string(), active, ended, hint })
}

/// Refuses a name that another active row has. `taken`: the query that asks for it. A new row is not
/// checked, since INSERT … ON CONFLICT finds the other one itself.
pub fn check_name_is_free(
    set: &RelationSet,
    taken: &Query,
    subject: Subject<'_>,
    (name, id): (&str, Uuid),
) -> Result<()> {
    let is_taken: Option<bool> = set.as_owner(|| {
        let sql = set.sql(taken, &[]);
        Spi::connect(|_| read_one(&sql, &[name.into(), id.into()]))
    })?;
    match is_taken {
        Some(true) => Err(Error::Exists {
            code: PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION,
            what: subject.to_string(),
            hint: "Names are unique among active rows, also those of other owners: choose another name, or retire the other one.".into(),
        }),
        _ => Ok(()),
    }
}
