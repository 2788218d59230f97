//! Names of audiences. Many target systems know an audience by its name: before a new audience takes a
//! name, the one that had it has given it up.

use pgrx::datum::Uuid;
use pgrx::spi::SpiClient;

use crate::catalog::queries;
use crate::catalog::relation_set::RelationSet;
use crate::catalog::state;
use crate::error::{Error, Result};
use crate::pg::exec::snapshot::Active;
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::refresh::publish::outbox;
use crate::refresh::publish::payload::{Origin, PayloadInput};
use crate::refresh::publish::subscription::{self, Subscription};
use crate::refresh::segment_lock::acquire;
use segmenter_core::sync_plan::SyncAction;

/// A subscription whose audience has a name at the consumer.
struct Holder {
    id: Uuid,
    segment: Uuid,
    segment_name: String,
}

/// Has other audiences give up the name that a new one of the same consumer and target takes: the end
/// or the new name of each is handed over first. Those in `actions` follow by themselves. Returns the
/// number of messages; none: a name is still taken, since another session holds the segment of its
/// audience. An audience that keeps its name keeps no other back: audiences may share one.
pub fn free(
    client: &mut SpiClient<'_>,
    source: &PayloadInput<'_>,
    subscription: &Subscription,
    actions: &[(Subscription, SyncAction)],
) -> Result<Option<u64>> {
    let mut messages = 0;
    for holder in holders(client, source.set, subscription)? {
        if actions.iter().any(|(known, _)| known.id == holder.id) {
            continue;
        }
        let freed = in_subtransaction(OnSuccess::Commit, || {
            let is_same = holder.segment == subscription.segment;
            let _held = match is_same {
                true => None,
                false => Some(acquire(source.set, holder.segment, &holder.segment_name)?),
            };
            let _snapshot = Active::fresh();
            let found = subscription::find(source.set, None, None, Some(holder.id))?;
            let owed = found.into_iter().filter_map(|found| {
                let action = found.pending_action(false)?;
                let gives_up = matches!(action, SyncAction::Delete | SyncAction::Rename);
                gives_up.then_some((found, action))
            });
            let owed: Vec<_> = owed.collect();
            if owed.is_empty() {
                return Ok(0);
            }
            // Neither has members, so that the table is not read.
            let table = Err(Error::MissingValue("members").report());
            let source = PayloadInput {
                table,
                delta: None,
                origin: Origin::Refresh,
                reason: None,
                at: None,
                summing: None,
                ..*source
            };
            let handed = outbox::hand_over(client, &source, owed)?;
            state::count_handover(source.set, holder.segment)?;
            Ok(handed.messages)
        });
        match freed {
            Ok(freed) => messages += freed,
            Err(Error::Busy { .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(Some(messages))
}

fn holders(
    client: &SpiClient<'_>,
    set: &RelationSet,
    subscription: &Subscription,
) -> Result<Vec<Holder>> {
    let args = [subscription.id.into(), subscription.audience.as_str().into()];
    set.as_owner(|| {
        let sql = set.sql(&queries::refresh::publish::LIST_NAME_HOLDERS, &[]);
        let rows = client.select(&sql, None, &args)?.map(|row| {
            let missing = |column| move || Error::MissingValue(column);
            Ok(Holder {
                id: row.get_by_name("id")?.ok_or_else(missing("id"))?,
                segment: row.get_by_name("segment_id")?.ok_or_else(missing("segment_id"))?,
                segment_name: row.get_by_name("segment")?.unwrap_or_default(),
            })
        });
        rows.collect()
    })
}
