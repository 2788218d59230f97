-- The tables whose changes are captured and that no segment reads: none has done so, and they are not among
-- $2, the tables that segments watch, nor below one of those. Those whose owner $1 is a member of. A table
-- below another one is left out with it.
-- runs as: extension owner
-- params: reader oid, watched oid[]
-- row: tables text[]
with recursive captured as (
    select g.tgrelid as relation
    from pg_trigger g
    join pg_proc p on p.oid = g.tgfoid and p.proname = 'segmenter_capture'
    join pg_class e on e.oid = '@text:changes@'::regclass and e.relnamespace = p.pronamespace
    group by g.tgrelid
), used as (
    select w.relation from unnest($2) w (relation)
    union
    select i.inhrelid from used u join pg_inherits i on i.inhparent = u.relation
)
select array_agg(c.oid::regclass::text order by c.oid::regclass::text)
from captured t
join pg_class c on c.oid = t.relation
where pg_has_role($1, c.relowner, @membership@)
  and t.relation not in (select u.relation from used u)
  and not exists (
      select from @change_readers@ r
      where t.relation = any (r.sources) and exists (select from @registry@ s where s.mart = r.mart)
  )
  and not exists (
      select from pg_inherits i join captured n on n.relation = i.inhparent where i.inhrelid = t.relation
  )
