-- Views that show the set that the session works on.
create view segmenter_lineage as
select l.segment, l.reads, l.kind, l.via
from segmenter_list_lineage() l;
comment on view segmenter_lineage is 'what each active segment reads, in the relation set that the session works on';
comment on column segmenter_lineage.segment is 'the segment';
comment on column segmenter_lineage.reads is 'what it reads: the name of a segment, or the qualified name of a relation or function';
comment on column segmenter_lineage.kind is 'segment, table, view or function';
comment on column segmenter_lineage.via is 'the view or function that names it; null: the segment itself';
create view segmenter_audiences as
select a.consumer, a.target, a.audience, a.external_id, a.state, a.members, a.size, a.match_rate, a.drift, a.reported_at
from segmenter_list_audiences() a;
comment on view segmenter_audiences is 'the audiences of consumers, compared with what these have reported, in the relation set that the session works on';
comment on column segmenter_audiences.consumer is 'the consumer';
comment on column segmenter_audiences.target is 'the target system; null: not reported';
comment on column segmenter_audiences.audience is 'the name of the audience';
comment on column segmenter_audiences.external_id is 'its id in the target system';
comment on column segmenter_audiences.state is 'known: it was reported; missing: it was not, and should be there; foreign: it was, and no subscription has it; unreported: the consumer has not reported since it was handed over';
comment on column segmenter_audiences.members is 'the members that were handed over; null: not known, or the subscription gets events';
comment on column segmenter_audiences.size is 'the members that the consumer reported';
comment on column segmenter_audiences.match_rate is 'the share of the members that the target system could match, as reported, or else size by members';
comment on column segmenter_audiences.drift is 'how far size is from members, as a share of the latter';
comment on column segmenter_audiences.reported_at is 'when the consumer last reported; null: never';
create view segmenter_stat as
select
    n.segment, n.ok, n.failed, n.refused, n.waiting, n.skipped, n.rows_received, n.added, n.removed, n.changed, n.excluded,
    n.total_elapsed, n.mean_elapsed, n.last_elapsed, n.messages_written, n.failures_in_a_row, n.staleness, n.stats_reset
from segmenter_list_stat() n;
comment on view segmenter_stat is 'cumulative figures of the active segments, in the relation set that the session works on';
comment on column segmenter_stat.segment is 'the segment';
comment on column segmenter_stat.ok is 'refreshes that succeeded';
comment on column segmenter_stat.failed is 'refreshes that failed, or were interrupted';
comment on column segmenter_stat.refused is 'refreshes that a guard refused';
comment on column segmenter_stat.waiting is 'how often the segment began to wait for its sources';
comment on column segmenter_stat.skipped is 'refreshes that were skipped, because the segment was busy';
comment on column segmenter_stat.rows_received is 'rows that the refresher returned, in refreshes that succeeded';
comment on column segmenter_stat.added is 'members that were added';
comment on column segmenter_stat.removed is 'members that were removed, by refreshes and by lists that gained them';
comment on column segmenter_stat.changed is 'members that were changed';
comment on column segmenter_stat.excluded is 'rows that were left out, because other segments have their members, or the people are kept out';
comment on column segmenter_stat.total_elapsed is 'the time of refreshes that succeeded';
comment on column segmenter_stat.mean_elapsed is 'the mean of it; null: there were none';
comment on column segmenter_stat.last_elapsed is 'that of the last one; null: there were none';
comment on column segmenter_stat.messages_written is 'messages that were written for consumers';
comment on column segmenter_stat.failures_in_a_row is 'refreshes that failed since the last one that did not; not reset';
comment on column segmenter_stat.staleness is 'the time since the last refresh began that succeeded; null: none has; not reset';
comment on column segmenter_stat.stats_reset is 'when the figures were last reset; null: never';
create view segmenter_stat_subscriptions as
select
    n.consumer, n.segment, n.target, n.messages_written, n.messages_delivered, n.members_handed_over, n.attempts, n.failed,
    n.failures_in_a_row, n.lag, n.stats_reset
from segmenter_list_stat_subscriptions() n;
comment on view segmenter_stat_subscriptions is 'cumulative figures of the active subscriptions, in the relation set that the session works on';
comment on column segmenter_stat_subscriptions.consumer is 'the consumer';
comment on column segmenter_stat_subscriptions.segment is 'the segment';
comment on column segmenter_stat_subscriptions.target is 'the target system';
comment on column segmenter_stat_subscriptions.messages_written is 'messages that were written for the consumer';
comment on column segmenter_stat_subscriptions.messages_delivered is 'messages that were delivered';
comment on column segmenter_stat_subscriptions.members_handed_over is 'members, or events, in the messages that were written';
comment on column segmenter_stat_subscriptions.attempts is 'attempts to deliver that have ended: acknowledgements and failures';
comment on column segmenter_stat_subscriptions.failed is 'attempts that failed';
comment on column segmenter_stat_subscriptions.failures_in_a_row is 'attempts that failed since the last one that did not, or since an operator cleared the failure; not reset';
comment on column segmenter_stat_subscriptions.lag is 'for how long the first message has been waiting that could be delivered; null: none waits; not reset';
comment on column segmenter_stat_subscriptions.stats_reset is 'when the figures were last reset; null: never';
create view segmenter_progress as
select
    p.pid, p.segment, p.phase, p.rows_received, p.rows_before, p.rows_written, p.messages_written,
    p.started_at, p.phase_started_at, p.estimated_fraction
from segmenter_list_progress() p;
comment on view segmenter_progress is 'refreshes and deliveries that are going on, in the relation set that the session works on; empty where the library is not preloaded';
comment on column segmenter_progress.pid is 'the process, as in pg_stat_activity';
comment on column segmenter_progress.segment is 'the segment';
comment on column segmenter_progress.phase is 'waiting for lock, checking sources, reading members, comparing, applying, handing over, delivering';
comment on column segmenter_progress.rows_received is 'rows that the refresher has returned';
comment on column segmenter_progress.rows_before is 'members of the segment that were read, or are known to be there, before the refresh';
comment on column segmenter_progress.rows_written is 'members that were added, removed or changed';
comment on column segmenter_progress.messages_written is 'messages that were written; by a delivery: that were delivered, or tried';
comment on column segmenter_progress.started_at is 'when the refresh or the delivery began';
comment on column segmenter_progress.phase_started_at is 'when the phase began; of a delivery: the message';
comment on column segmenter_progress.estimated_fraction is 'how much of the rows is done, from 0 to 1, by what the planner expects of the query; null: nothing is expected yet';
