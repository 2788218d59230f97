-- Config rows are checked when they are written, and a segment's table is
-- registered with the mart once its row stands.

create trigger segmenter_check before insert or update on segmenter_segments
    for each row execute function segmenter_check_segment();
-- Only where the table is concerned: whatever else is wrong with it, the rest can be changed.
create trigger segmenter_register after insert or delete or update of table_name, actual_end on segmenter_segments
    for each row execute function segmenter_register_segment();
create trigger segmenter_notice after insert or update or delete or truncate on segmenter_segments
    for each statement execute function segmenter_notice_segments();
create trigger segmenter_check before insert or update on segmenter_consumers
    for each row execute function segmenter_check_consumer();
-- What delivering changes is no config: it must go on whatever is wrong with that.
create trigger segmenter_check before insert or delete
    or update of id, consumer_id, segment_id, target, name, params, cron, timezone, actual_begin, actual_end
    on segmenter_subscriptions
    for each row execute function segmenter_check_subscription();
create trigger segmenter_notice after insert or update or delete or truncate on segmenter_consumers
    for each statement execute function segmenter_notice_segments();
create trigger segmenter_notice after insert or delete or truncate
    or update of consumer_id, segment_id, target, name, params, cron, timezone, actual_begin, actual_end
    on segmenter_subscriptions
    for each statement execute function segmenter_notice_segments();
comment on trigger segmenter_check on segmenter_segments is 'validates the row and stamps the owner';
comment on trigger segmenter_register on segmenter_segments is 'brings the segment table into the mart, or takes it out when the row is deleted';
comment on trigger segmenter_notice on segmenter_segments is 'lets the scheduler know of the change';
comment on trigger segmenter_check on segmenter_consumers is 'validates the row';
comment on trigger segmenter_check on segmenter_subscriptions is 'validates the row, and says so where an audience would be forgotten';
comment on trigger segmenter_notice on segmenter_consumers is 'lets the scheduler know of the change';
comment on trigger segmenter_notice on segmenter_subscriptions is 'lets the scheduler know of the change';
