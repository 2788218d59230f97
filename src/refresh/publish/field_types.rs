//! The types of the columns that members are handed over with. With another type a value has another text:
//! what a delta would remove or change is not what the consumer has.

use crate::catalog::queries;
use crate::config::Fields;
use crate::config::segment_table::Table;
use crate::error::Result;
use crate::refresh::publish::filter::ColumnTypes;
use crate::refresh::publish::payload::PayloadInput;
use crate::refresh::publish::subscription::Subscription;
use segmenter_core::sync_plan::SyncAction;

/// The types of the columns of fields; a column that the table does not have is left out.
pub fn of(table: &Table, fields: &Fields) -> ColumnTypes {
    let column = |name: &str| table.columns.iter().find(|column| column.name == name);
    let known = fields.iter().filter_map(|(name, _)| column(name));
    known.map(|column| (column.name.clone(), column.declared().to_owned())).collect()
}

/// Says which columns had other types when members were handed over last; none: none had, or that is not
/// known.
pub fn changed(source: &PayloadInput<'_>, subscription: &Subscription) -> Option<String> {
    let (Ok(table), Some(served)) = (&source.table, &subscription.served_types) else {
        return None;
    };
    let now = of(table, subscription.served_fields());
    let columns = now.iter().filter_map(|(column, now)| {
        let before = served.get(column).filter(|before| *before != now)?;
        Some(format!("column \"{column}\" was of type {before}, it is {now}"))
    });
    let columns: Vec<_> = columns.collect();
    (!columns.is_empty()).then(|| columns.join(", "))
}

/// The action for a subscription: all members in place of a delta where a column has another type than what
/// was handed over, and which.
pub fn action(
    source: &PayloadInput<'_>,
    subscription: &Subscription,
    action: SyncAction,
) -> (SyncAction, Option<String>) {
    match changed(source, subscription) {
        Some(columns) if action != action.with_all_members(subscription.params.mode) => {
            (SyncAction::FullSync, Some(columns))
        }
        _ => (action, None),
    }
}

/// Records the types with which a subscription is served, where they are not known yet: the present ones
/// count as those of what was handed over before.
pub fn note(source: &PayloadInput<'_>, subscription: &Subscription) -> Result<()> {
    let (Ok(table), None, true) =
        (&source.table, &subscription.served_types, subscription.has_audience())
    else {
        return Ok(());
    };
    let types = serde_json::json!(of(table, subscription.served_fields()));
    let args = [subscription.id.into(), pgrx::JsonB(types).into()];
    source.set.write(&queries::refresh::publish::RECORD_FIELD_TYPES, &args)
}
