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
