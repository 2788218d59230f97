//! The process of a background worker: signals, waiting, connecting, transactions.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_int};
use std::panic::AssertUnwindSafe;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime};
use pgrx::prelude::*;

use crate::error::{Error, Report, Result};
use crate::pg::exec::role::has_own_session;
use crate::pg::exec::subtransaction::ErrorTrace;
use crate::pg::exec::time_limit::discard_cancel;
use crate::pg::version::{self, Timeout, pqsignal};

const LIBRARY: &str = "segmenter";

/// The id of this process.
pub fn process_id() -> i32 {
    // SAFETY: a variable that is set once, when the process starts.
    unsafe { pg_sys::MyProcPid }
}

/// Whether libraries are being preloaded by a server that will run, not by pg_upgrade.
pub fn is_preloading() -> bool {
    // SAFETY: two variables of the process's only thread.
    unsafe { pg_sys::process_shared_preload_libraries_in_progress && !pg_sys::IsBinaryUpgrade }
}

/// Whether the server runs for pg_upgrade, which makes the objects of a database one by one.
pub fn is_upgrading() -> bool {
    // SAFETY: a variable of the process's only thread.
    unsafe { pg_sys::IsBinaryUpgrade }
}

/// Whether the server is in recovery, as a standby is.
pub fn is_in_recovery() -> bool {
    // SAFETY: needs shared memory, to which every process that can run our code is attached.
    unsafe { pg_sys::RecoveryInProgress() }
}

/// Refuses to write on a standby, where PostgreSQL would only say what it cannot assign.
pub fn must_not_be_in_recovery() -> Result<()> {
    if is_in_recovery() { Err(Error::InRecovery) } else { Ok(()) }
}

/// Registers a worker that the server starts at the end of recovery, and again after `restart` if
/// it fails.
pub fn register(kind: &str, function: &str, restart: Duration) {
    BackgroundWorkerBuilder::new(kind)
        .set_library(LIBRARY)
        .set_function(function)
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(Some(restart))
        .load();
}

/// Requests a worker. It wakes this process when it starts and when it exits. Returns false if the
/// server has no free worker slot.
pub fn spawn(kind: &str, name: &str, function: &str, argument: pg_sys::Datum) -> bool {
    BackgroundWorkerBuilder::new(&truncate_utf8(name, pg_sys::BGW_MAXLEN as usize))
        .set_type(kind)
        .set_library(LIBRARY)
        .set_function(function)
        .set_argument(Some(argument))
        .enable_spi_access()
        .set_notify_pid(process_id())
        .load_dynamic()
        .is_ok()
}

/// Truncates a text so that it fits into a C string of `size` bytes.
fn truncate_utf8(text: &str, size: usize) -> String {
    text[..text.floor_char_boundary(size - 1)].to_owned()
}

/// Installs the signal handlers. SIGTERM ends the process at its next interrupt, also during a
/// query; SIGHUP requests a reload of the configuration.
pub fn start() {
    // SAFETY: called once, at the start of a worker, while its signals are blocked. The handlers are
    // the server's own.
    unsafe {
        pqsignal(pg_sys::SIGHUP as c_int, Some(version::reload_later));
        pqsignal(pg_sys::SIGTERM as c_int, Some(version::die));
        pg_sys::BackgroundWorkerUnblockSignals();
    }
}

/// Connects to a database as a role (`None`: the bootstrap superuser), or to no database. The process
/// is this role from then on; if it cannot be, it ends.
pub fn connect(database: Option<pg_sys::Oid>, role: Option<pg_sys::Oid>) {
    use pgrx::bgworkers::BackgroundWorker;
    match database {
        Some(_) => BackgroundWorker::connect_worker_to_spi_by_oid(database, role),
        None => BackgroundWorker::connect_worker_to_spi(None, None),
    }
    let role = role.unwrap_or(pg_sys::Oid::from(pg_sys::BOOTSTRAP_SUPERUSERID));
    if database.is_some() {
        reset_role(role);
    }
    check_role(role);
    // Settings of the role or the database must not change this: the transactions write, and each
    // statement sees what has been committed.
    set(c"default_transaction_read_only", c"off");
    set(c"default_transaction_isolation", c"read committed");
}

/// Takes back what `session_authorization` and `role` in the settings of the role or the database
/// have made of the process. The owner of the database can set these, and SQL in a process whose
/// current role is not that of its session could become the other one.
fn reset_role(role: pg_sys::Oid) {
    // SAFETY: the process has just connected, and no transaction is open. The look-up of the name and
    // the checks of the settings need one; the name is a C string in its memory, or null for a role
    // that does not exist.
    unsafe {
        // There is nothing to take back as a rule; and a role that is renamed now is not found by its name.
        if pg_sys::GetSessionUserId() == role && pg_sys::GetCurrentRoleId() == pg_sys::InvalidOid {
            return;
        }
        pg_sys::StartTransactionCommand();
        let name = pg_sys::GetUserNameFromId(role, true);
        if !name.is_null() {
            set(c"session_authorization", CStr::from_ptr(name));
            set(c"role", c"none");
        }
        pg_sys::CommitTransactionCommand();
    }
}

/// Ends the process if it is not the role that it connected as.
fn check_role(role: pg_sys::Oid) {
    if !has_own_session(role) {
        ereport!(
            PgLogLevel::FATAL,
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            "segmenter: the background worker is not the role that it connected as",
            "Its current role or that of its session is another one, so nothing is run."
        );
    }
}

/// Changes a setting for the rest of the process.
pub fn set(name: &CStr, value: &CStr) {
    // SAFETY: both are C strings, which are copied; a wrong value is raised.
    unsafe {
        pg_sys::SetConfigOption(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_OVERRIDE,
        );
    }
}

/// Sets the process's name and activity in `pg_stat_activity`; `None`: it is idle.
pub fn announce(application_name: &str, activity: Option<&str>) {
    let name = CString::new(application_name).unwrap_or_default();
    set(c"application_name", &name);
    let text = CString::new(activity.unwrap_or_default()).unwrap_or_default();
    let state = match activity {
        Some(_) => pg_sys::BackendState::STATE_RUNNING,
        None => pg_sys::BackendState::STATE_IDLE,
    };
    // SAFETY: a C string, which is copied. The process is connected: it has an entry to write to.
    unsafe { pg_sys::pgstat_report_activity(state, text.as_ptr()) };
}

/// Waits for the process's latch, at most for `limit` (1 ms to 1 hour), outside a transaction.
/// Interrupts are processed, except that a cancellation is discarded: there is nothing to cancel.
/// The process ends if the postmaster has died.
pub fn wait(limit: Duration) {
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
    // SAFETY: `MyLatch` is this process's own latch, which exists from its start to its end.
    unsafe {
        pg_sys::WaitLatch(
            pg_sys::MyLatch,
            events as c_int,
            limit.as_millis().clamp(1, 3_600_000) as _,
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    // Outside a transaction nothing would catch the error of a cancellation. One that arrives after
    // this cancels the next transaction.
    let _holdoff = CancelHoldoff::begin();
    pg_sys::check_for_interrupts!();
    discard_cancel();
}

/// Keeps cancellations pending until it is dropped. The end of the process is not delayed.
struct CancelHoldoff(());

impl CancelHoldoff {
    fn begin() -> Self {
        // SAFETY: a counter of this process that no signal handler writes; `drop` undoes this.
        unsafe { pg_sys::QueryCancelHoldoffCount += 1 };
        Self(())
    }
}

impl Drop for CancelHoldoff {
    fn drop(&mut self) {
        // SAFETY: as in `begin`. An error resets the counter: it must not become negative.
        unsafe {
            pg_sys::QueryCancelHoldoffCount = pg_sys::QueryCancelHoldoffCount.saturating_sub(1);
        }
    }
}

/// Reloads the configuration after a SIGHUP; returns whether there was one.
pub fn reload_config() -> bool {
    // SAFETY: a flag that a signal handler sets, a C `sig_atomic_t`. The files are read outside a
    // transaction, as the main loop of a worker does.
    unsafe {
        if (&raw const pg_sys::ConfigReloadPending).read_volatile() == 0 {
            return false;
        }
        (&raw mut pg_sys::ConfigReloadPending).write_volatile(0);
        pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
    }
    true
}

/// Runs `body` in a transaction of its own and commits it. If `body` or the commit fails, the
/// transaction is aborted and the error is returned.
pub fn transaction<T>(body: impl FnOnce() -> Result<T>) -> std::result::Result<T, Report> {
    // SAFETY: no transaction is open, as the main functions of the workers call this; it is ended
    // below in each case.
    unsafe {
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::StartTransactionCommand();
    }
    apply_invalidations();
    let trace = ErrorTrace::begin();
    let result = PgTryBuilder::new(AssertUnwindSafe(|| {
        // SAFETY: the transaction is open. The snapshot is popped below, or by the abort.
        unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot()) };
        let value = body().map_err(|error| error.report())?;
        // SAFETY: the active snapshot is ours: `body` has popped what it pushed. The transaction is the
        // one that was started above.
        unsafe {
            pg_sys::PopActiveSnapshot();
            pg_sys::CommitTransactionCommand();
        }
        Ok(value)
    }))
    .catch_others(|caught| Err(trace.report(&caught)))
    .catch_rust_panic(|caught| Err(trace.report(&caught)))
    .execute();
    drop(trace);
    if result.is_err() {
        // SAFETY: it aborts a transaction in whatever state it is, and does nothing without one.
        unsafe { pg_sys::AbortCurrentTransaction() };
    }
    // SAFETY: must not be called within a transaction: it was committed or aborted above.
    unsafe { pg_sys::pgstat_report_stat(false) };
    result
}

/// The same with a time limit, after which the transaction is cancelled. If it is still open some
/// seconds later, the process ends.
pub fn transaction_within<T>(
    limit: Option<Duration>,
    body: impl FnOnce() -> Result<T>,
) -> std::result::Result<T, Report> {
    let _limit = Limit::begin(limit);
    transaction(body)
}

/// Runs `body` outside a transaction; an error that is raised in it is returned.
pub fn caught<T>(body: impl FnOnce() -> T) -> std::result::Result<T, Report> {
    let trace = ErrorTrace::begin();
    let result = PgTryBuilder::new(AssertUnwindSafe(|| Ok(body())))
        .catch_others(|caught| Err(trace.report(&caught)))
        .execute();
    drop(trace);
    if result.is_err() {
        // SAFETY: without a transaction it only releases what an error leaves behind.
        unsafe { pg_sys::AbortCurrentTransaction() };
    }
    result
}

/// Reports the statistics of this process now, so that autovacuum knows what it has written.
pub fn flush_statistics() {
    // SAFETY: must not be called within a transaction: a worker calls this between its transactions.
    unsafe { pg_sys::pgstat_report_stat(true) };
}

/// How long after its limit a transaction may still be open. SQL can catch the cancellation; what
/// has not ended by then has caught it.
pub const OVERRUN: Duration = Duration::from_secs(3);

/// A time limit, which ends when this is dropped. What is still running at the limit is cancelled.
/// If its SQL catches that, the process ends [`OVERRUN`] later, which nothing can catch.
struct Limit(Option<Timeout>);

static END: OnceLock<Timeout> = OnceLock::new();
/// The limit that the transaction has, in milliseconds.
static LIMIT: AtomicU64 = AtomicU64::new(0);
/// The process ends because of it.
static IS_OVERRUN: AtomicBool = AtomicBool::new(false);

/// The time limit that the transaction of this process has overrun, so that the process ends.
pub fn overrun() -> Option<Duration> {
    let limit = Duration::from_millis(LIMIT.load(Ordering::Relaxed));
    IS_OVERRUN.load(Ordering::Relaxed).then_some(limit)
}

/// PostgreSQL calls this within a signal handler.
unsafe extern "C-unwind" fn end_overrun() {
    IS_OVERRUN.store(true, Ordering::Relaxed);
    version::end_at_next_interrupt();
}

impl Limit {
    /// Begins in a process that is connected to a database.
    fn begin(limit: Option<Duration>) -> Self {
        let Some(limit) = limit else { return Self(None) };
        let milliseconds = |limit: Duration| limit.as_millis().clamp(1, i32::MAX as u128) as c_int;
        // SAFETY: registered once in the process. The handler only sets flags.
        let end = *END.get_or_init(|| unsafe { Timeout::register(end_overrun) });
        LIMIT.store(milliseconds(limit) as u64, Ordering::Relaxed);
        // SAFETY: callers are jobs and schedulers, which have connected to their database.
        unsafe {
            Timeout::CANCEL.enable(milliseconds(limit));
            end.enable(milliseconds(limit.saturating_add(OVERRUN)));
        }
        Self(Some(end))
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        if let Some(end) = self.0 {
            // SAFETY: enabled in `begin`.
            unsafe {
                end.disable();
                Timeout::CANCEL.disable();
            }
            // The limit may have passed since the transaction ended. Its cancellation would hit
            // whatever comes next. The end of the process is not taken back: it may have been
            // requested otherwise, too. It does not lose the transaction, which has ended.
            discard_cancel();
            IS_OVERRUN.store(false, Ordering::Relaxed);
        }
    }
}

/// All databases, by name. The shared catalog is read sequentially, because a process that is
/// connected to no database cannot rely on its indexes.
pub fn databases() -> HashMap<String, pg_sys::Oid> {
    let mut databases = HashMap::new();
    // SAFETY: needs a transaction, in which the launcher calls this. Rows of the catalog have the shape
    // of the struct, whose columns are never null, and are live until the next one is fetched. The
    // scan and the relation are closed in the order in which they were opened.
    unsafe {
        let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
        let relation = pg_sys::table_open(pg_sys::DatabaseRelationId, lock);
        let scan = pg_sys::table_beginscan_catalog(relation, 0, std::ptr::null_mut());
        loop {
            let row = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
            let Some(row) = row.as_ref() else { break };
            let data = row.t_data.cast::<u8>().add((*row.t_data).t_hoff.into());
            let database = &*data.cast::<pg_sys::FormData_pg_database>();
            let name = CStr::from_ptr(database.datname.data.as_ptr());
            databases.insert(name.to_string_lossy().into_owned(), database.oid);
        }
        pg_sys::heap_endscan(scan);
        pg_sys::table_close(relation, lock);
    }
    databases
}

/// The database that this process is connected to, and its name.
pub fn current_database() -> (pg_sys::Oid, String) {
    // SAFETY: the variable is set when the process connects. The look-up needs a transaction, in which
    // SQL functions and jobs run; it gives a new C string, or null for a database that is gone.
    unsafe {
        let database = pg_sys::MyDatabaseId;
        let name = pg_sys::get_database_name(database);
        let name = if name.is_null() {
            String::new()
        } else {
            CStr::from_ptr(name).to_string_lossy().into_owned()
        };
        (database, name)
    }
}

/// Whether another session needs this database without connections: to drop, rename, move or copy
/// it.
pub fn is_database_wanted() -> bool {
    // SAFETY: every field of the tag is set, and it is live during the calls. A lock of a transaction
    // needs one: the check is made within it. What is taken is released again.
    unsafe {
        let tag = pg_sys::LOCKTAG {
            locktag_field1: 0,
            locktag_field2: pg_sys::DatabaseRelationId.to_u32(),
            locktag_field3: pg_sys::MyDatabaseId.to_u32(),
            locktag_field4: 0,
            locktag_type: pg_sys::LockTagType::LOCKTAG_OBJECT as u8,
            locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
        };
        let mode = pg_sys::RowExclusiveLock as i32;
        let taken = pg_sys::LockAcquire(&tag, mode, false, true);
        if taken == pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL {
            return true;
        }
        pg_sys::LockRelease(&tag, mode, false);
        false
    }
}

#[derive(Default)]
struct RelcacheEntry {
    /// An invalidation was received, possibly after the open transaction took its snapshot.
    pending: bool,
    /// An invalidation was received before that snapshot, which therefore sees the change.
    visible: bool,
}

thread_local! {
    static WATCHED: RefCell<HashMap<u32, RelcacheEntry>> = RefCell::default();
}

/// Registers the callback for invalidations, on which [`changed`] depends. It must be called once
/// in a process.
pub fn watch_relations() {
    // SAFETY: the callback has the required signature, and is never unloaded: PostgreSQL does not
    // unload libraries.
    unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(note_change), pg_sys::Datum::null()) };
}

/// Begins to watch a relation. It counts as changed in the next transaction, because earlier
/// invalidations were not recorded.
pub fn watch(relation: pg_sys::Oid) {
    let new = RelcacheEntry { pending: true, visible: false };
    WATCHED.with_borrow_mut(|watched| {
        watched.entry(relation.to_u32()).or_insert(new);
    });
}

/// Stops watching a relation.
pub fn unwatch(relation: pg_sys::Oid) {
    WATCHED.with_borrow_mut(|watched| {
        watched.remove(&relation.to_u32());
    });
}

/// Whether a relation was altered, dropped or otherwise invalidated since the last call, or is not
/// watched. A change that is made while the transaction runs is not visible to its snapshot; it is
/// reported in the next transaction.
pub fn changed(relation: pg_sys::Oid) -> bool {
    WATCHED.with_borrow_mut(|watched| {
        let watched = watched.get_mut(&relation.to_u32());
        watched.is_none_or(|watched| std::mem::take(&mut watched.visible))
    })
}

/// Makes [`changed`] return true for every watched relation in the next transaction.
pub fn invalidate_all() {
    note(|_| true);
}

/// Runs at the beginning of a transaction, before its snapshot is taken: changes whose
/// invalidations have been received are visible to that snapshot.
fn apply_invalidations() {
    WATCHED.with_borrow_mut(|watched| {
        for watched in watched.values_mut() {
            watched.visible |= std::mem::take(&mut watched.pending);
        }
    });
}

fn note(is_concerned: impl Fn(u32) -> bool) {
    WATCHED.with_borrow_mut(|watched| {
        for (relation, watched) in watched {
            watched.pending |= is_concerned(*relation);
        }
    });
}

/// PostgreSQL calls this for each invalidation that it receives.
#[pg_guard]
extern "C-unwind" fn note_change(_arg: pg_sys::Datum, relation: pg_sys::Oid) {
    note(|known| relation == pg_sys::InvalidOid || relation.to_u32() == known);
}
