-- The active segments, other than $1, that it is kept for: those that belong to it as a family, which is of the owner $6 (tie 1);
-- of the others those that leave out its members, or, if it is a suppression list, those that are exempt from it ($5) or are not
-- (tie 2); then those that read its table $2, or it under its name $3, as far as it is known, or whose sources name it (tie 3).
-- names: those whose owner the role $4 may act as; hidden: the number of the others.
-- runs as: set owner
-- params: segment uuid, table oid, name text, caller oid, exempt boolean, owner oid
-- row: tie integer, names text[], hidden bigint
select
    t.tie,
    coalesce(array_agg(s.name order by s.name) filter (where r.is_visible), '{}') as names,
    count(*) filter (where r.is_visible is not true) as hidden
from @segments@ s
left join @attempts@ k on k.segment_id = s.id
cross join lateral (select pg_has_role($4, s.owner, @membership@) as is_visible) r
cross join lateral (
    select case
        when s.refresh_params ->> 'family' = $3 and s.owner::oid = $6 then 1
        when s.exclude ? $3 or s.exclude @> jsonb_build_array(jsonb_build_object('segment', $3)) then 2
        when not s.is_suppression and s.exempt ? $3 = $5 then 2
        when (
            select format('%I.%I', n.nspname, c.relname)
            from pg_class c
            join pg_namespace n on n.oid = c.relnamespace
            where c.oid = $2
        ) = any (k.reads) then 3
        when k.lineage @> jsonb_build_array(jsonb_build_object('segment', $3)) then 3
        when s.sources @> jsonb_build_array(jsonb_build_object('segment', $3)) then 3
    end as tie
) t
where s.actual_end = 'infinity' and s.id <> $1 and t.tie is not null
group by t.tie
order by t.tie
