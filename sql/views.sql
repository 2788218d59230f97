-- Views that show the set that the session works on.
create view segmenter_lineage as
select l.segment, l.reads, l.kind, l.via
from segmenter_list_lineage() l;
comment on view segmenter_lineage is 'what each active segment reads, in the relation set that the session works on';
comment on column segmenter_lineage.segment is 'the segment';
comment on column segmenter_lineage.reads is 'what it reads: the name of a segment, or the qualified name of a relation or function';
comment on column segmenter_lineage.kind is 'segment, table, view or function';
comment on column segmenter_lineage.via is 'the view or function that names it; null: the segment itself';
