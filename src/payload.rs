//! The members of messages, built by PostgreSQL: from the delta or from the segment's table, as objects
//! with the names that the subscription asks for, cut into parts.

use std::collections::BTreeSet;
use std::ffi::CStr;

use pgrx::JsonB;
use pgrx::datum::{DatumWithOid, Uuid};
use pgrx::spi::{SpiClient, quote_literal};
use serde_json::Value;

use crate::audience::Operation;
use crate::config::Fields;
use crate::delta::Side;
use crate::error::{Error, Report, Result};
use crate::guards::Figures;
use crate::pg::relation::Relation;
use crate::service::Service;
use crate::subscription::Subscription;
use crate::table::Table;

const PARTS: &CStr = c"segmenter_parts";

/// What is handed over from.
pub struct Source<'a> {
    pub service: &'a Service,
    /// The segment's table, or why it cannot be read.
    pub table: std::result::Result<&'a Table, Report>,
    /// The delta in the SPI connection, where there was a refresh.
    pub delta: Option<(&'a Side<'a>, Figures)>,
    pub run_id: Uuid,
}

/// Where the members of messages come from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Members {
    None,
    All,
    Changed,
}

/// The members of an operation, by parts, as the relation `segmenter_parts`.
pub struct Parts {
    relation: Relation,
    pub members: u64,
}

impl Parts {
    /// Builds them with the rights of the table's owner: it is his types that say how values show.
    pub fn build(
        client: &SpiClient<'_>,
        source: &Source<'_>,
        subscription: &Subscription,
        members: &str,
        batch_size: u32,
    ) -> Result<Self> {
        let sql =
            source.service.sql(include_str!("../sql/query/parts.sql"), &[("members", members)]);
        let [segment] = segment_arg(subscription);
        let relation = Relation::new(PARTS);
        source.service.run_as_user(table(source)?.owner, || {
            relation.keep(&sql, &[segment, i64::from(batch_size).into()])
        })?;
        let sql = "select pg_catalog.sum(p.members) from segmenter_parts as p";
        let members: Option<i64> = client.select(sql, Some(1), &[])?.first().get_one()?;
        Ok(Self { relation, members: members.unwrap_or_default() as u64 })
    }

    /// How many parts there are.
    pub fn count(&self) -> u64 {
        self.relation.rows()
    }

    /// One part with the members given.
    pub fn given(members: Vec<Value>) -> Result<Self> {
        let count = members.len();
        let relation = Relation::new(PARTS);
        let sql = "select 1 as part, $1 as members, $2 as payload";
        relation.keep(sql, &[(count as i32).into(), JsonB(Value::Array(members)).into()])?;
        Ok(Self { relation, members: count as u64 })
    }
}

/// A member as the segment's table `t` holds it: names and values in turn.
pub fn member_as_stored(table: &Table, fields: &Fields) -> Result<String> {
    let pairs = fields.iter().map(|(column, name)| {
        let column = match column {
            "id" => "id".to_owned(),
            _ => table.columns[position(table, column)?].quoted(),
        };
        Ok(format!("{}, t.{column}", quote_literal(name)))
    });
    Ok(pairs.collect::<Result<Vec<_>>>()?.join(", "))
}

fn position(table: &Table, column: &str) -> Result<usize> {
    let position = table.columns.iter().position(|known| known.name == column);
    position.ok_or_else(|| Error::MissingField { column: column.into(), table: table.name.clone() })
}

/// Whether a table has the columns that are to be handed over.
pub fn check_fields(table: &Table, fields: &Fields) -> Result<()> {
    member_as_stored(table, fields).map(drop)
}

/// The members that an operation is about, as objects with the names of `fields`.
pub fn members_sql(
    source: &Source<'_>,
    members: Members,
    operation: Operation,
    fields: &Fields,
) -> Result<String> {
    let (service, table) = (source.service, table(source)?);
    if members == Members::All {
        let now = member_as_stored(table, fields)?;
        let parts = [("table", table.name.as_str()), ("now", now.as_str())];
        return Ok(service.sql(include_str!("../sql/query/members_all.sql"), &parts));
    }
    let received: BTreeSet<usize> = match &source.delta {
        Some((side, _)) => side.received_columns().map(|(number, _)| number).collect(),
        None => BTreeSet::new(),
    };
    let (mut old, mut new) = (Vec::new(), Vec::new());
    let mut is_stored = false;
    for (column, name) in fields.iter() {
        let key = quote_literal(name);
        if column == "id" {
            old.push(format!("{key}, d.id"));
            new.push(format!("{key}, d.id"));
            continue;
        }
        let at = position(table, column)?;
        let number = at + 1;
        old.push(format!("{key}, d.o{number}"));
        if received.contains(&number) {
            new.push(format!("{key}, d.n{number}"));
        } else {
            new.push(format!("{key}, t.{}", table.columns[at].quoted()));
            is_stored = true;
        }
    }
    let delta = match is_stored {
        true => service.sql(
            include_str!("../sql/query/delta_stored.sql"),
            &[("table", table.name.as_str()), ("collation", table.id_collation.as_str())],
        ),
        false => "segmenter_delta as d".into(),
    };
    let (old, new) = (old.join(", "), new.join(", "));
    let (letter, member) = match operation {
        Operation::Remove => ("'r'::pg_catalog.\"char\"", &old),
        _ => ("'a'::pg_catalog.\"char\"", &new),
    };
    let parts = [
        ("delta", delta.as_str()),
        ("operation", letter),
        ("member", member),
        ("old", &old),
        ("new", &new),
    ];
    Ok(service.sql(include_str!("../sql/query/members_changed.sql"), &parts))
}

pub fn table<'a>(source: &Source<'a>) -> Result<&'a Table> {
    source.table.clone().map_err(|report| Error::Postgres(Box::new(report)))
}

pub fn segment_arg(subscription: &Subscription) -> [DatumWithOid<'static>; 1] {
    [subscription.segment.into()]
}
