//! Who is in segments: their members, and how segments overlap. The segment tables are read with the rights
//! of the caller, whose policies apply, so that nothing is shown that it could not select itself.

use std::collections::{HashMap, HashSet};

use pgrx::datum::{Timestamp, TimestampWithTimeZone, Uuid};
use pgrx::prelude::*;

use crate::catalog::queries;
use crate::catalog::query::Query;
use crate::catalog::relation_set::RelationSet;
use crate::config::segment_table::{Holder, Table};
use crate::error::{Error, Result};
use crate::pg::exec::result_set::ResultSet;
use crate::pg::exec::role;
use crate::pg::exec::statement;
use crate::pg::system_catalog;

/// A segment whose members are read, and the time.
struct Source {
    id: Uuid,
    name: String,
    oid: pg_sys::Oid,
    /// Qualified and quoted.
    table: String,
    owner: pg_sys::Oid,
    /// In the zone of the members' times; none: now.
    at: Option<Timestamp>,
}

/// The members of a segment, now or at a time, as the rows of a function.
pub fn list(
    set: &RelationSet,
    name: &str,
    at: Option<TimestampWithTimeZone>,
    result: &ResultSet,
) -> Result<()> {
    for source in find(set, &[name.to_owned()], at)? {
        let keeps_history = source.keeps_history(set)?;
        set.extension.as_caller(|| {
            Spi::connect(|_| {
                source.check_known(set, keeps_history)?;
                let period = source.period(set, "$2");
                let parts = [("table", source.table.as_str()), ("period", &period)];
                let sql = set.sql(&queries::ops::members::LIST_MEMBERS, &parts);
                result.append(&sql, &[source.id.into(), source.at.into()])
            })
        })?;
    }
    Ok(())
}

/// The people who are in exactly these segments, by their numbers in the list of names.
pub struct Region {
    pub segments: Vec<usize>,
    pub members: i64,
}

/// Divides the members of segments into regions, now or at a time. A name that is given twice is an error.
pub fn regions(
    set: &RelationSet,
    names: &[String],
    at: Option<TimestampWithTimeZone>,
) -> Result<Vec<Region>> {
    let mut seen = HashSet::new();
    if let Some(twice) = names.iter().find(|name| !seen.insert(*name)) {
        return Err(Error::Argument {
            name: "segments",
            problem: format!("segment \"{twice}\" is named twice"),
            hint: "Name each segment once.",
        });
    }
    let sources = find(set, names, at)?;
    if sources.is_empty() {
        return Ok(Vec::new());
    }
    let histories: Vec<bool> =
        sources.iter().map(|source| source.keeps_history(set)).collect::<Result<_>>()?;
    let ids: Vec<Uuid> = sources.iter().map(|source| source.id).collect();
    let times: Vec<Option<Timestamp>> = sources.iter().map(|source| source.at).collect();
    let rows = set.extension.as_caller(|| {
        Spi::connect(|client| {
            for (source, keeps_history) in sources.iter().zip(&histories) {
                source.check_known(set, *keeps_history)?;
            }
            let sql = regions_sql(set, &sources);
            let args = [ids.into(), times.into()];
            let rows = client.select(&sql, None, &args)?;
            rows.map(|row| {
                let words: Option<Vec<i64>> = row.get_by_name("words")?;
                let members: Option<i64> = row.get_by_name("members")?;
                Ok::<_, Error>((words.unwrap_or_default(), members.unwrap_or_default()))
            })
            .collect::<Result<Vec<_>>>()
        })
    })?;
    let region = |(words, members): (Vec<i64>, i64)| Region { segments: numbers(&words), members };
    let mut regions: Vec<Region> = rows.into_iter().map(region).collect();
    regions.sort_unstable_by(|one, other| one.segments.cmp(&other.segments));
    Ok(regions)
}

/// How two segments overlap.
pub struct Overlap {
    /// Their numbers in the list of names.
    pub pair: (usize, usize),
    pub members: (i64, i64),
    pub common: i64,
}

impl Overlap {
    /// The part of the first one's members that is in the other; none: it has no members.
    pub fn share(&self) -> Option<AnyNumeric> {
        ratio(self.common, self.members.0)
    }

    /// The common members as a part of all members of both; none: there are none.
    pub fn jaccard(&self) -> Option<AnyNumeric> {
        ratio(self.common, self.members.0 + self.members.1 - self.common)
    }
}

/// Counts what each pair of segments has in common, in the order of the names.
pub fn overlaps(
    set: &RelationSet,
    names: &[String],
    at: Option<TimestampWithTimeZone>,
) -> Result<Vec<Overlap>> {
    let regions = regions(set, names, at)?;
    let mut members = vec![0; names.len()];
    let mut common: HashMap<(usize, usize), i64> = HashMap::new();
    for region in &regions {
        for (place, number) in region.segments.iter().enumerate() {
            members[*number] += region.members;
            for other in &region.segments[place + 1..] {
                *common.entry((*number, *other)).or_default() += region.members;
            }
        }
    }
    let pairs = (0..names.len()).flat_map(|one| (one + 1..names.len()).map(move |two| (one, two)));
    let overlap = |pair: (usize, usize)| Overlap {
        pair,
        members: (members[pair.0], members[pair.1]),
        common: common.get(&pair).copied().unwrap_or_default(),
    };
    Ok(pairs.map(overlap).collect())
}

/// A part of a whole; none: the whole is 0.
pub fn ratio(part: i64, whole: i64) -> Option<AnyNumeric> {
    let ratio = (whole != 0).then(|| AnyNumeric::from(part) / AnyNumeric::from(whole))?;
    // Without zeros at its end.
    AnyNumeric::try_from(ratio.normalize()).ok()
}

/// The names of a list; a null is an error.
pub fn names(segments: Vec<Option<String>>) -> Result<Vec<String>> {
    segments.into_iter().collect::<Option<_>>().ok_or_else(|| Error::Argument {
        name: "segments",
        problem: "a name is null".into(),
        hint: "Give the names of segments.",
    })
}

/// Checks the time that is asked for.
pub fn check_finite(at: Option<TimestampWithTimeZone>) -> Result<()> {
    if at.is_some_and(|at| at.is_infinity() || at.is_neg_infinity()) {
        return Err(Error::Argument {
            name: "at",
            problem: "it is not a finite time".into(),
            hint: "Leave it out for the members of now.",
        });
    }
    Ok(())
}

/// Finds segments by their names, in this order. One that does not exist, or that the caller may not know,
/// is an error, and so are a family and a time that is not finite.
fn find(
    set: &RelationSet,
    names: &[String],
    at: Option<TimestampWithTimeZone>,
) -> Result<Vec<Source>> {
    check_finite(at)?;
    let args = [names.to_vec().into(), role::current().into()];
    let mut found: HashMap<String, Source> = set.as_owner(|| {
        Spi::connect(|client| {
            let sql = set.kept(&queries::ops::members::FIND_SEGMENTS);
            let rows = client.select(sql, None, &args)?;
            rows.map(|row| {
                let name: String = row.get_by_name("name")?.unwrap_or_default();
                if row.get_by_name("is_family")?.unwrap_or(false) {
                    return Err(Error::IsFamily(name));
                }
                let oid = row.get_by_name("table_oid")?.unwrap_or(pg_sys::InvalidOid);
                let table = system_catalog::qualified_name(oid);
                let zone: Option<String> = row.get_by_name("timezone")?;
                let source = Source {
                    id: row.get_by_name("id")?.ok_or(Error::MissingValue("id"))?,
                    table: table.ok_or_else(|| Error::TableDropped(name.clone()))?,
                    owner: row.get_by_name("owner")?.unwrap_or(pg_sys::InvalidOid),
                    at: localized(set, zone.as_deref(), at)?,
                    name: name.clone(),
                    oid,
                };
                Ok::<_, Error>((name, source))
            })
            .collect::<Result<_>>()
        })
    })?;
    names
        .iter()
        .map(|name| found.remove(name).ok_or_else(|| set.unknown_segment(name.clone())))
        .collect()
}

impl Source {
    /// The condition of the members.
    fn period(&self, set: &RelationSet, at: &str) -> String {
        period(set, self.at.map(|_| at))
    }

    /// Whether its table keeps all periods. Not asked for the members of now.
    fn keeps_history(&self, set: &RelationSet) -> Result<bool> {
        if self.at.is_none() {
            return Ok(true);
        }
        let holder = Holder { id: self.id, name: &self.name, owner: self.owner };
        Ok(Table::check(set, self.oid, holder)?.kind.history)
    }

    /// Checks that the members at the time are known. Of a member that has come back, a table without history
    /// has the last period only. Runs with the rights of the caller, within an SPI connection.
    fn check_known(&self, set: &RelationSet, keeps_history: bool) -> Result<()> {
        if keeps_history {
            return Ok(());
        }
        let parts = [("table", self.table.as_str())];
        let sql = set.sql(&queries::ops::members::HAS_LATER, &parts);
        match statement::read_one(&sql, &[self.id.into(), self.at.into()])? {
            Some(true) => Err(Error::NoHistory(self.name.clone())),
            _ => Ok(()),
        }
    }
}

/// A time as the local time of a zone, that of the members' times; none: `segmenter.timezone`.
pub fn localized(
    set: &RelationSet,
    zone: Option<&str>,
    at: Option<TimestampWithTimeZone>,
) -> Result<Option<Timestamp>> {
    let Some(at) = at else { return Ok(None) };
    // The operator AT TIME ZONE would take the names of some zones, such as CET, for abbreviations.
    set.in_zone(zone.unwrap_or(set.timezone()), || {
        let sql = queries::ops::members::LOCALIZE.text();
        Spi::connect(|_| statement::read_one(sql, &[at.into()]))
    })
}

/// The condition of the members at a time, which is an expression; none: now.
pub fn period(set: &RelationSet, at: Option<&str>) -> String {
    let fill = |query: &Query, parts: &[(&str, &str)]| set.sql(query, parts).trim_end().to_owned();
    match at {
        None => fill(&queries::ops::members::IS_CURRENT, &[]),
        Some(at) => fill(&queries::ops::members::IS_WITHIN, &[("at", at)]),
    }
}

/// The number of segments that one word of bits stands for.
const BITS: usize = 63;

/// The statement that counts the regions of segments.
fn regions_sql(set: &RelationSet, sources: &[Source]) -> String {
    let words = 1..=sources.len().div_ceil(BITS);
    let ids: Vec<String> = sources
        .iter()
        .enumerate()
        .map(|(place, source)| {
            let bits: String = words
                .clone()
                .map(|word| {
                    let is_its = place / BITS + 1 == word;
                    let bit = if is_its { 1_i64 << (place % BITS) } else { 0 };
                    format!(", {bit}::pg_catalog.int8 as w{word}")
                })
                .collect();
            let number = (place + 1).to_string();
            let period = source.period(set, &format!("($2)[{number}]"));
            let parts = [
                ("table", source.table.as_str()),
                ("number", &number),
                ("bits", &bits),
                ("period", &period),
            ];
            set.sql(&queries::ops::members::LIST_IDS, &parts)
        })
        .collect();
    let combined: String =
        words.clone().map(|word| format!(", pg_catalog.bit_or(i.w{word}) as w{word}")).collect();
    let words: Vec<String> = words.map(|word| format!("p.w{word}")).collect();
    let parts =
        [("ids", ids.join("union all\n")), ("combined", combined), ("words", words.join(", "))];
    let parts: Vec<_> = parts.iter().map(|(word, part)| (*word, part.as_str())).collect();
    set.sql(&queries::ops::members::COUNT_REGIONS, &parts)
}

/// The numbers of the bits that are set.
fn numbers(words: &[i64]) -> Vec<usize> {
    let bits = |(place, word): (usize, &i64)| {
        let word = *word;
        (0..BITS).filter(move |bit| word >> bit & 1 == 1).map(move |bit| place * BITS + bit)
    };
    words.iter().enumerate().flat_map(bits).collect()
}
