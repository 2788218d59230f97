//! What the segments of a run in one transaction have read of captured changes. Those that watch the same
//! tables, and have got as far, read the same: the first of them reads it for all.

use std::cell::RefCell;

use pgrx::prelude::*;

use super::capture::{CAPTURED, Captured, Position, Sources};
use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::error::{Error, Result};
use crate::pg::exec::tuplestore::{Place, Relation, usual_memory};

/// Fewer ids are read in the time that it takes to find out that they are the same.
const LEAST_KEPT: u64 = 1000;

/// The number of readings that are kept, each of them in memory up to `work_mem`.
const MOST_KEPT: usize = 4;

/// What a run has read, the latest last.
pub struct Readings {
    place: Place,
    kept: RefCell<Vec<Reading>>,
}

/// The ids that were captured between two positions.
struct Reading {
    sources: Sources,
    from: Position,
    to: Position,
    ids: Relation,
}

/// Captured ids that statements read as the relation [`CAPTURED`], until this is dropped.
pub(super) struct CapturedIds<'a> {
    readings: &'a Readings,
    reading: Option<Reading>,
}

impl Readings {
    /// For what is read within the current (sub)transaction.
    pub fn within_current() -> Self {
        Self { place: Place::current(), kept: RefCell::default() }
    }

    /// Reads the ids that were captured between two positions, unless this was done. The later one is that
    /// of the active snapshot. Runs within an SPI connection.
    pub(super) fn read(
        &self,
        set: &RelationSet,
        (from, to): (&Captured, &Captured),
    ) -> Result<CapturedIds<'_>> {
        let sources = to.sources();
        let mut kept = self.kept.take();
        let mut found = None;
        for (at, reading) in kept.iter().enumerate() {
            if reading.sources == sources
                && reading.is_same(set, (from.position(), to.position()))?
            {
                found = Some(at);
            }
        }
        let found = found.map(|at| kept.remove(at));
        self.kept.replace(kept);
        let reading = match found {
            Some(reading) => {
                reading.ids.publish();
                reading
            }
            None => {
                let ids = Relation::at(self.place, CAPTURED, usual_memory());
                super::capture::keep_captured(set, (from, to), &ids)?;
                Reading { sources, from: from.position().clone(), to: to.position().clone(), ids }
            }
        };
        Ok(CapturedIds { readings: self, reading: Some(reading) })
    }

    /// Keeps a reading for segments to come.
    fn keep(&self, reading: Reading) {
        if reading.ids.rows() < LEAST_KEPT {
            return;
        }
        let mut kept = self.kept.borrow_mut();
        if kept.len() == MOST_KEPT {
            kept.remove(0);
        }
        kept.push(reading);
    }
}

impl Reading {
    /// Whether it has what was captured between these positions of the same sources.
    fn is_same(&self, set: &RelationSet, (from, to): (&Position, &Position)) -> Result<bool> {
        let (_, sources, columns) = &self.sources;
        let args = [
            sources.clone().into(),
            columns.clone().into(),
            self.from.snapshot.as_str().into(),
            self.from.own.as_deref().into(),
            self.to.snapshot.as_str().into(),
            from.snapshot.as_str().into(),
            from.own.as_deref().into(),
            to.own.as_deref().into(),
        ];
        let is_same = set.extension.as_owner(|| {
            let sql = set.kept(&queries::refresh::incremental::capture::IS_SAME_READING);
            Spi::connect(|client| {
                Ok::<_, Error>(client.select(sql, Some(1), &args)?.first().get_one::<bool>()?)
            })
        })?;
        Ok(is_same == Some(true))
    }
}

impl Drop for CapturedIds<'_> {
    fn drop(&mut self) {
        // While an error unwinds, the abort of the subtransaction ends what it has made.
        if std::thread::panicking() {
            return;
        }
        if let Some(reading) = self.reading.take() {
            reading.ids.withdraw();
            self.readings.keep(reading);
        }
    }
}
