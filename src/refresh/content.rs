//! What the segment's table held after the last refresh, compared with what it holds before the next
//! one: rows that were changed by hand are noticed, so that the audiences follow.

use pgrx::datum::Uuid;
use pgrx::spi::SpiTupleTable;

use crate::catalog::relation_set::RelationSet;
use crate::config::segment_table::Table;
use crate::error::Result;
use crate::pg::format::fingerprint;
use crate::pg::format::json::JsonbText;
use crate::pg::system_catalog;
use crate::refresh::delta::{Delta, DeltaTarget};
use segmenter_core::content::{Checksum, Content, Edited, Known};

/// The largest table, in blocks, that an incremental pass reads as a whole to see whether its rows
/// were changed by hand: it costs about a millisecond.
const SMALL: u32 = 128;

/// What is known of the members after the last refresh.
pub struct LastContent {
    known: Known,
    /// The seed of the members' fingerprints: the one that is known, or a new one.
    pub seed: u64,
    /// The segment was refreshed successfully before.
    pub is_refreshed: bool,
    /// The hash of the refresher that the last refresh ran with; none: not known.
    pub ran_with: Option<String>,
    /// The version of the segment's state, which each refresh, hand-over and erasure writes.
    pub version: Option<String>,
}

impl LastContent {
    /// Reads it from a row with the columns `members` and `content` of the state.
    pub fn read(row: &SpiTupleTable<'_>) -> Result<Self> {
        let members = row.get_by_name::<i64, _>("members")?;
        let content = row.get_by_name::<JsonbText, _>("content")?;
        let content = content.and_then(|json| serde_json::from_str::<Content>(&json.0).ok());
        let known = Known::new(members.map(|members| members as u64), content);
        let seed = known.content.as_ref().map(|content| content.hashed.seed);
        Ok(Self {
            known,
            seed: seed.unwrap_or_else(fingerprint::new_seed),
            is_refreshed: row.get_by_name("is_refreshed")? == Some(true),
            ran_with: row.get_by_name("ran_with")?,
            version: row.get_by_name("version")?,
        })
    }

    /// The number of members, if it is known.
    pub fn members(&self) -> Option<u64> {
        self.known.members
    }

    /// The columns that the members' hashes cover.
    pub fn names(&self) -> &[String] {
        self.known.content.as_ref().map_or(&[], |content| &content.names)
    }

    /// Whether rows were changed by hand, as far as the refresh has read the table.
    pub fn edited(&self, delta: &Delta, side: &DeltaTarget<'_>) -> Option<Edited> {
        self.known.edited(delta.found.as_ref()?, &side.hashed())
    }

    /// Whether an incremental pass must read all members to see whether rows were changed by hand: the
    /// table is small, its file is another one, or it is read anyway once rows were written.
    pub fn must_read(&self, table: &Table) -> bool {
        let Some(physical) = system_catalog::physical(table.oid) else { return false };
        let is_other = |known: &Content| known.storage != physical.storage;
        let known = self.known.content.as_ref();
        physical.blocks <= SMALL || physical.may_alter_rows || known.is_some_and(is_other)
    }

    /// Whether the members that were found are others than those that are known.
    pub fn is_edited(&self, found: &Checksum, side: &DeltaTarget<'_>) -> bool {
        self.known.edited(found, &side.hashed()).is_some()
    }

    /// What is known once a consumer was given the members that were found, before a refresh has noticed that
    /// rows were changed by hand: if they are changed back, the next refresh must notice them
    /// nevertheless. None: they are as the last refresh left them.
    pub fn doubted(&self, found: &Checksum, side: &DeltaTarget<'_>) -> Option<Content> {
        let content = self.known.content.as_ref()?;
        self.is_edited(found, side).then(|| content.clone().doubted())
    }

    /// Whether the sums of the members are known.
    pub fn has_sums(&self) -> bool {
        self.known.content.is_some()
    }

    /// The members with this id, which are about to be deleted: their number, and what the table holds
    /// without them. Runs with the rights of the table's owner, within an SPI connection, with the
    /// active snapshot.
    pub fn without(
        &self,
        (set, table): (&RelationSet, &Table),
        segment: Uuid,
        id: &str,
    ) -> Result<(u64, Option<Content>)> {
        let side = DeltaTarget::of_names((set, table), (segment, self.seed), self.names());
        let gone = side.sum_member(id)?;
        Ok((gone.members, self.known.without(gone, &side.hashed())))
    }

    /// What the table holds after the delta was applied. It is read again only where triggers or rules can
    /// have made other rows of those that were written, and all members were found before: otherwise the
    /// delta only removes members, and a change by hand before it stays a difference. Runs with the rights of the
    /// segment's owner, within an SPI connection; the active snapshot sees the applied delta.
    pub fn after(&self, delta: &Delta, side: &DeltaTarget<'_>) -> Result<Option<Content>> {
        let Some(physical) = system_catalog::physical(side.table.oid) else { return Ok(None) };
        let (found, change) = match delta.found {
            Some(_) if physical.may_alter_rows => (Some(side.sum_members()?), Default::default()),
            found => (found, delta.change),
        };
        let hashed = (side.hashed(), side.hashed_names());
        Ok(self.known.after(found, change, hashed, physical.storage))
    }
}
