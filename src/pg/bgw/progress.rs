//! The progress of refreshes and deliveries in shared memory, for all processes to read. It is there if the
//! library was preloaded.
//!
//! Each refresh has a place, which its process alone writes, and no lock: what belongs together is written
//! between two changes of a counter, as PostgreSQL does it for `pg_stat_activity`, and figures are stored
//! one by one. A place becomes free at the end of its refresh, whatever ends it; at the exit of its process;
//! and after a crash with all others, since the server then initialises its shared memory again.

use std::cell::Cell;
use std::ffi::c_int;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::atomic::{Ordering, fence};

use pgrx::datum::{TimestampWithTimeZone, Uuid};
use pgrx::prelude::*;
use pgrx::{PgSharedMemoryInitialization, pg_shmem_init};

use crate::pg::bgw::process::process_id;
use crate::pg::clock;
pub use segmenter_core::progress::Phase;
use segmenter_core::progress::{Expectation, least_written};

/// What a place is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Refresh,
    /// Members are handed over, or leave because of lists, without a refresh.
    HandOver,
    Delivery,
}

const KINDS: [Kind; 3] = [Kind::Refresh, Kind::HandOver, Kind::Delivery];

/// The place of a refresh. Zero everywhere is a free one.
#[repr(C, align(64))]
struct Place {
    /// The process; 0: the place is free.
    pid: AtomicI32,
    /// Odd while what follows, up to the figures, is written.
    changes: AtomicU32,
    database: AtomicU32,
    set: AtomicU32,
    segment: [AtomicU64; 2],
    kind: AtomicU32,
    phase: AtomicU32,
    started_at: AtomicI64,
    phase_started_at: AtomicI64,
    /// 1: something is expected.
    is_expected: AtomicU32,
    floor: AtomicU64,
    rows: AtomicU64,
    later: AtomicU64,
    /// The figure of the phase when it began.
    base: AtomicU64,

    before: AtomicU64,
    received: AtomicU64,
    written: AtomicU64,
    messages: AtomicU64,

    /// The role that has cancelled the refresh; 0: none. Other processes write it.
    cancelled_by: AtomicU32,
}

impl Place {
    /// Changes what belongs together.
    fn change(&self, write: impl FnOnce(&Self)) {
        let changes = self.changes.load(Ordering::Relaxed);
        self.changes.store(changes.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        write(self);
        self.changes.store(changes.wrapping_add(2), Ordering::Release);
    }

    /// The figure that a phase counts; none: it counts nothing that is expected.
    fn figure(&self, phase: Phase) -> Option<&AtomicU64> {
        match phase {
            Phase::ReadingMembers => Some(&self.before),
            Phase::Comparing => Some(&self.received),
            Phase::Applying => Some(&self.written),
            Phase::WaitingForLock
            | Phase::CheckingSources
            | Phase::HandingOver
            | Phase::Delivering => None,
        }
    }

    fn phase(&self) -> Phase {
        let phase = self.phase.load(Ordering::Relaxed) as usize;
        Phase::ALL.get(phase).copied().unwrap_or(Phase::WaitingForLock)
    }

    /// What is expected, and how much of it the phase has done.
    fn expectation(&self) -> Option<(Expectation, u64)> {
        if self.is_expected.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let expectation = Expectation {
            floor: f64::from_bits(self.floor.load(Ordering::Relaxed)),
            rows: self.rows.load(Ordering::Relaxed),
            later: self.later.load(Ordering::Relaxed),
        };
        let done = self.figure(self.phase()).map_or(0, |figure| figure.load(Ordering::Relaxed));
        Some((expectation, done.saturating_sub(self.base.load(Ordering::Relaxed))))
    }

    /// Enters a phase. `expected`: its rows, and those of later phases; none: nothing new is known, and the
    /// fraction stays as it is.
    fn enter(&self, phase: Phase, expected: Option<(u64, u64)>) {
        let before = self.expectation();
        let floor = before.map_or(0.0, |(before, done)| before.fraction(done));
        let (rows, later) = expected.unwrap_or_default();
        let base = self.figure(phase).map_or(0, |figure| figure.load(Ordering::Relaxed));
        let is_expected = before.is_some() || expected.is_some();
        let is_other = self.phase() != phase;
        self.change(|place| {
            place.phase.store(phase as u32, Ordering::Relaxed);
            if is_other {
                place.phase_started_at.store(clock::micros(), Ordering::Relaxed);
            }
            place.is_expected.store(is_expected.into(), Ordering::Relaxed);
            place.floor.store(floor.to_bits(), Ordering::Relaxed);
            place.rows.store(rows, Ordering::Relaxed);
            place.later.store(later, Ordering::Relaxed);
            place.base.store(base, Ordering::Relaxed);
        });
    }

    fn set_segment(&self, segment: Uuid) {
        let (high, low) = halves(segment);
        self.segment[0].store(high, Ordering::Relaxed);
        self.segment[1].store(low, Ordering::Relaxed);
    }
}

fn halves(segment: Uuid) -> (u64, u64) {
    let number = u128::from_be_bytes(*segment.as_bytes());
    ((number >> 64) as u64, number as u64)
}

/// The places in shared memory: as many as processes can have connections.
struct Places {
    first: AtomicPtr<Place>,
    count: AtomicUsize,
}

static PLACES: Places =
    Places { first: AtomicPtr::new(std::ptr::null_mut()), count: AtomicUsize::new(0) };

impl Places {
    fn all(&self) -> &'static [Place] {
        let first = self.first.load(Ordering::Relaxed);
        if first.is_null() {
            return &[];
        }
        // SAFETY: `on_shmem_startup` has set both, to memory of this size that is initialised, belongs to
        // nothing else, and is mapped as long as the process lives. Its fields are atomics.
        unsafe { std::slice::from_raw_parts(first, self.count.load(Ordering::Relaxed)) }
    }
}

impl PgSharedMemoryInitialization for Places {
    type Value = ();

    unsafe fn on_shmem_request(&'static self) {
        // SAFETY: the server has computed `MaxBackends` before it calls this hook.
        unsafe {
            let count = pg_sys::MaxBackends as usize;
            self.count.store(count, Ordering::Relaxed);
            pg_sys::RequestAddinShmemSpace(count * size_of::<Place>());
        }
    }

    unsafe fn on_shmem_startup(&'static self, (): ()) {
        let size = self.count.load(Ordering::Relaxed) * size_of::<Place>();
        let mut is_found = false;
        // SAFETY: the space was requested above. The name is that of no other extension. The postmaster
        // calls this before it starts any process, so that nothing reads what is being initialised; zero
        // is a valid value of every field.
        unsafe {
            let name = c"segmenter progress".as_ptr();
            let first = pg_sys::ShmemInitStruct(name, size, &mut is_found).cast::<Place>();
            assert!(first.is_aligned(), "shared memory is not aligned");
            if !is_found {
                first.write_bytes(0, self.count.load(Ordering::Relaxed));
            }
            self.first.store(first, Ordering::Relaxed);
        }
    }
}

/// Requests the shared memory. It must be called while the library is being preloaded.
pub fn init() {
    pg_shmem_init!(PLACES = ());
}

thread_local! {
    /// The place of the innermost refresh of this process, and the members of its segment as they are known
    /// before they are read.
    static CURRENT: Cell<Option<(&'static Place, Option<u64>)>> = const { Cell::new(None) };
    /// The role that has cancelled the last refresh of this process.
    static CANCELLED_BY: Cell<u32> = const { Cell::new(0) };
    static IS_REGISTERED: Cell<bool> = const { Cell::new(false) };
}

/// The progress of a refresh or a delivery of this process; it ends when this is dropped. Those within it
/// have places of their own.
pub struct Tracker {
    own: Option<&'static Place>,
    outer: Option<(&'static Place, Option<u64>)>,
}

impl Tracker {
    /// Begins to show the progress. Without shared memory, or where all places are taken, nothing is shown.
    pub fn begin(kind: Kind, set: pg_sys::Oid, segment: Uuid, phase: Phase) -> Self {
        if kind == Kind::Refresh {
            CANCELLED_BY.set(0);
        }
        let own = claim();
        if let Some(place) = own {
            let database = own_database();
            let now = clock::micros();
            place.change(|place| {
                place.database.store(database, Ordering::Relaxed);
                place.set.store(set.to_u32(), Ordering::Relaxed);
                place.set_segment(segment);
                place.kind.store(kind as u32, Ordering::Relaxed);
                place.phase.store(phase as u32, Ordering::Relaxed);
                place.started_at.store(now, Ordering::Relaxed);
                place.phase_started_at.store(now, Ordering::Relaxed);
                place.is_expected.store(0, Ordering::Relaxed);
                for figure in [&place.before, &place.received, &place.written, &place.messages] {
                    figure.store(0, Ordering::Relaxed);
                }
                place.cancelled_by.store(0, Ordering::Relaxed);
            });
        }
        Self { own, outer: CURRENT.replace(own.map(|place| (place, None))) }
    }

    /// A delivery goes on with a message of this segment.
    pub fn deliver(&self, segment: Uuid) {
        if let Some(place) = self.own {
            place.change(|place| {
                place.set_segment(segment);
                place.phase_started_at.store(clock::micros(), Ordering::Relaxed);
            });
        }
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        CURRENT.set(self.outer);
        if let Some(place) = self.own {
            CANCELLED_BY.set(place.cancelled_by.load(Ordering::Relaxed));
            place.pid.store(0, Ordering::Release);
        }
    }
}

fn own_database() -> u32 {
    // SAFETY: a variable of the process, which is set when it connects to a database.
    unsafe { pg_sys::MyDatabaseId }.to_u32()
}

/// Takes a free place, the first one after that of its number.
fn claim() -> Option<&'static Place> {
    let places = PLACES.all();
    if places.is_empty() {
        return None;
    }
    if !IS_REGISTERED.replace(true) {
        // SAFETY: the callback has the required signature, and PostgreSQL does not unload libraries.
        unsafe { pg_sys::before_shmem_exit(Some(on_exit), pg_sys::Datum::null()) };
    }
    let pid = process_id();
    let (before, after) = places.split_at(pid as usize % places.len());
    after.iter().chain(before).find(|place| {
        let (taken, free) = (Ordering::Acquire, Ordering::Relaxed);
        place.pid.compare_exchange(0, pid, taken, free).is_ok()
    })
}

/// At exit: frees the places of this process, where no frame is unwound.
#[pg_guard]
extern "C-unwind" fn on_exit(_code: c_int, _arg: pg_sys::Datum) {
    let pid = process_id();
    for place in PLACES.all() {
        if place.pid.load(Ordering::Relaxed) == pid {
            place.pid.store(0, Ordering::Release);
        }
    }
}

/// Enters a phase of the refresh that is going on, of which nothing new is expected.
pub fn enter(phase: Phase) {
    if let Some((place, _)) = CURRENT.get() {
        place.enter(phase, None);
    }
}

/// Enters a phase of the refresh that is going on. `rows`: what it is expected to handle; `later`: what the
/// phases after it are.
pub fn enter_expecting(phase: Phase, rows: u64, later: u64) {
    if let Some((place, _)) = CURRENT.get() {
        place.enter(phase, Some((rows, later)));
    }
}

/// Records how many members the segment has, as far as it is known before they are read.
pub fn know_members(members: Option<u64>) {
    if let Some((place, _)) = CURRENT.get() {
        CURRENT.set(Some((place, members)));
    }
}

/// Begins to read the members, where the planner expects `received` rows of the query; none: it was not
/// asked.
pub fn enter_reading(received: Option<u64>) {
    let Some((place, members)) = CURRENT.get() else { return };
    let members = members.unwrap_or_default();
    let expected = received
        .map(|received| (members, received.saturating_add(least_written(members, received))));
    place.enter(Phase::ReadingMembers, expected);
}

/// Begins to receive rows, of which the planner expects `received`, and to compare them with the members that
/// were read.
pub fn enter_comparing(received: Option<u64>) {
    let Some((place, _)) = CURRENT.get() else { return };
    let before = place.before.load(Ordering::Relaxed);
    place.enter(
        Phase::Comparing,
        received.map(|received| (received, least_written(before, received))),
    );
}

/// A figure of the refresh that is going on.
#[derive(Clone, Copy)]
pub struct Figure(&'static AtomicU64);

/// Where figures go that are not shown.
static UNSEEN: AtomicU64 = AtomicU64::new(0);

impl Figure {
    fn of(figure: impl FnOnce(&'static Place) -> &'static AtomicU64) -> Self {
        Self(CURRENT.get().map_or(&UNSEEN, |(place, _)| figure(place)))
    }

    /// The members before the refresh.
    pub fn before() -> Self {
        Self::of(|place| &place.before)
    }

    /// The rows that the refresher has returned.
    pub fn received() -> Self {
        Self::of(|place| &place.received)
    }

    /// The members that were added, removed or changed.
    pub fn written() -> Self {
        Self::of(|place| &place.written)
    }

    /// The messages that were written or delivered.
    pub fn messages() -> Self {
        Self::of(|place| &place.messages)
    }

    /// Sets the figure, unless it is higher: what is counted again does not count twice. It costs two
    /// instructions on memory that no other process writes.
    #[inline]
    pub fn reach(self, count: u64) {
        if count > self.0.load(Ordering::Relaxed) {
            self.0.store(count, Ordering::Relaxed);
        }
    }

    pub fn add(self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// Sets the figure to what was found in the end.
    pub fn settle(self, count: u64) {
        self.0.store(count, Ordering::Relaxed);
    }
}

/// The role that has cancelled the last refresh of this process by [`cancel`]; none: it was not.
pub fn cancelled_by() -> Option<pg_sys::Oid> {
    let role = CANCELLED_BY.get();
    (role != 0).then(|| role.into())
}

/// What a place shows.
pub struct Shown {
    pub pid: i32,
    pub kind: Kind,
    pub set: pg_sys::Oid,
    pub segment: Uuid,
    pub phase: Phase,
    pub received: u64,
    pub before: u64,
    pub written: u64,
    pub messages: u64,
    pub started_at: TimestampWithTimeZone,
    pub phase_started_at: TimestampWithTimeZone,
    /// From 0 to 1; none: nothing is expected.
    pub fraction: Option<f64>,
}

/// How often a place is read that is being changed meanwhile. A change takes a few instructions.
const TRIES: u32 = 10_000;

impl Shown {
    /// Reads a place; none: it is free.
    fn read(place: &Place) -> Option<(u32, Self)> {
        for _ in 0..TRIES {
            let changes = place.changes.load(Ordering::Acquire);
            let pid = place.pid.load(Ordering::Acquire);
            if pid == 0 {
                return None;
            }
            let segment = place.segment.each_ref().map(|half| half.load(Ordering::Relaxed));
            let number = u128::from(segment[0]) << 64 | u128::from(segment[1]);
            let kind = place.kind.load(Ordering::Relaxed) as usize;
            let time = |time: &AtomicI64| clock::timestamp(clock::at(time.load(Ordering::Relaxed)));
            let shown = Self {
                pid,
                kind: KINDS.get(kind).copied().unwrap_or(Kind::Refresh),
                set: place.set.load(Ordering::Relaxed).into(),
                segment: Uuid::from_bytes(number.to_be_bytes()),
                phase: place.phase(),
                received: place.received.load(Ordering::Relaxed),
                before: place.before.load(Ordering::Relaxed),
                written: place.written.load(Ordering::Relaxed),
                messages: place.messages.load(Ordering::Relaxed),
                started_at: time(&place.started_at),
                phase_started_at: time(&place.phase_started_at),
                fraction: place.expectation().map(|(expected, done)| expected.fraction(done)),
            };
            let database = place.database.load(Ordering::Relaxed);
            fence(Ordering::Acquire);
            let is_whole =
                changes.is_multiple_of(2) && place.changes.load(Ordering::Relaxed) == changes;
            if is_whole && place.pid.load(Ordering::Relaxed) == pid {
                return Some((database, shown));
            }
            std::hint::spin_loop();
        }
        None
    }
}

/// What goes on in this database, in one relation set.
pub fn list(set: pg_sys::Oid) -> Vec<Shown> {
    PLACES.all().iter().filter_map(|place| shown_in(place, set)).collect()
}

fn shown_in(place: &Place, set: pg_sys::Oid) -> Option<Shown> {
    let own = own_database();
    Shown::read(place)
        .and_then(|(database, shown)| (database == own && shown.set == set).then_some(shown))
}

/// The process that refreshes a segment, and whose statement `end` cancels. `end` is called with its pid once
/// the refresh is marked as cancelled by `role`; if it fails, the mark is taken back. Returns whether there was
/// one.
pub fn cancel<E>(
    set: pg_sys::Oid,
    segment: Uuid,
    role: pg_sys::Oid,
    end: impl FnOnce(i32) -> Result<bool, E>,
) -> Result<bool, E> {
    let own = process_id();
    let refreshes = |place: &&Place| {
        shown_in(place, set).is_some_and(|shown| {
            shown.kind == Kind::Refresh && shown.segment == segment && shown.pid != own
        })
    };
    let Some(place) = PLACES.all().iter().find(refreshes) else { return Ok(false) };
    let pid = place.pid.load(Ordering::Relaxed);
    place.cancelled_by.store(role.to_u32(), Ordering::Relaxed);
    // It may have ended meanwhile: another refresh is not cancelled.
    if !refreshes(&place) || place.pid.load(Ordering::Relaxed) != pid {
        place.cancelled_by.store(0, Ordering::Relaxed);
        return Ok(false);
    }
    let ended = end(pid);
    if !matches!(ended, Ok(true)) {
        place.cancelled_by.store(0, Ordering::Relaxed);
    }
    ended
}
