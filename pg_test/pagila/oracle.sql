-- The oracle: keeps images of the segment tables before and after a refresh, and works out from
-- them, and from fresh runs of the segments' queries, what must have happened. It knows nothing of
-- how Segmenter computes.

create table oracle.round (
    seed int, round int, mode text, quiet boolean, caller text, zone text,
    began timestamp, log_id bigint
);
-- Which segments this round refreshes.
create table oracle.todo (position int, name text primary key);
-- What the refreshes gave back.
create table oracle.results (
    segment text, status text, added bigint, removed bigint, changed bigint, excluded bigint, coverage bigint,
    messages bigint, elapsed interval, detail text, dry_run boolean
);
-- The rows of the segment tables before and after.
create table oracle.image (
    stage text, segment text, tid tid, inserter text, locker text, id text, actual boolean,
    row jsonb,  -- all of it
    data jsonb  -- what is not Segmenter's own
);
-- How often the tables were written to, before.
create table oracle.writes (segment_table regclass primary key, writes bigint);
-- Who was a member, after each round.
create table oracle.moments (round int, at timestamp, segment text, id text, data jsonb);
create index on oracle.moments (segment, round);

grant select on oracle.todo, oracle.segments to marketing;
grant insert on oracle.results to marketing;

create function oracle.utc() returns timestamp language sql volatile as $$
    select clock_timestamp() at time zone 'UTC'
$$;

create function oracle.writes(segment_table regclass) returns bigint language sql volatile as $$
    select pg_stat_get_tuples_inserted(segment_table) + pg_stat_get_tuples_updated(segment_table)
        + pg_stat_get_tuples_deleted(segment_table)
$$;

create function oracle.tables() returns table (name text, segment_id uuid, segment_table regclass)
language sql stable as $$
    select o.name, s.id, s.table_name
    from oracle.segments o
    join segmenter_segments s on s.name = o.name and s.actual_end = 'infinity'
    order by o.position
$$;

create procedure oracle.fail(segment text, why text, variadic arguments text[] default '{}')
language plpgsql as $$
declare
    r oracle.round;
begin
    select * into r from oracle.round;
    raise exception 'seed %, round % (% as %), segment "%": %',
        r.seed, r.round, r.mode, r.caller, segment, format(why, variadic arguments);
end
$$;

-- Decides what the round does. Round 0 loads everything.
create procedure oracle.begin_round(seed int, round int) language plpgsql as $$
begin
    truncate oracle.round, oracle.todo, oracle.results, oracle.image, oracle.writes;
    insert into oracle.round values (
        seed, round,
        (array['run', 'refresh', 'run_each'])[1 + round % 3],
        round % 5 = 4,
        case when round % 2 = 0 then 'postgres' else 'marketing' end,
        (array['Asia/Tokyo', 'UTC', 'America/Los_Angeles', 'Europe/Berlin'])[1 + round % 4]
    );
    insert into oracle.todo
    select s.position, s.name
    from oracle.segments s, oracle.round r
    where case when r.mode = 'refresh' then
        -- Some only; what they are built on may be older then.
        r.round < 5 or hashtextextended(s.name, r.seed * 1000 + r.round) % 4 <> 0
        else s.auto
    end;
end
$$;

create procedure oracle.keep_image(at_stage text) language plpgsql as $$
declare
    s record;
begin
    for s in select * from oracle.tables() loop
        execute format($sql$
            insert into oracle.image
            select %L, %L, t.ctid, t.xmin::text, t.xmax::text, t.id, t.actual_end = 'infinity',
                to_jsonb(t),
                to_jsonb(t) - '{segment_id,id,actual_begin,actual_end,processed}'::text[]
            from only %s t where t.segment_id = %L
            $sql$, at_stage, s.name, s.segment_table, s.segment_id);
    end loop;
    analyze oracle.image;
end
$$;

create procedure oracle.before() language plpgsql as $$
begin
    call oracle.keep_image('before');
    insert into oracle.writes
    select segment_table, oracle.writes(segment_table)
    from (select distinct segment_table from oracle.tables()) t;
    update oracle.round
    set began = oracle.utc(), log_id = (select coalesce(max(id), 0) from segmenter_log);
end
$$;

-- Members against a fresh run of the query, as multisets and in the types of the table.
create procedure oracle.compare_with_query(segment text) language plpgsql as $$
declare
    s record;
    casts text;
    plain text;
    query text;
    extra text;
    missing text;
begin
    select o.*, t.segment_id, t.segment_table into s
    from oracle.segments o join oracle.tables() t using (name)
    where o.name = segment;
    select coalesce(string_agg(format(', q.%I::%s', a.attname, format_type(a.atttypid, a.atttypmod)), '' order by c.n), ''),
        coalesce(string_agg(format(', t.%I', a.attname), '' order by c.n), '')
    into casts, plain
    from unnest(s.columns) with ordinality c (name, n)
    join pg_attribute a on a.attrelid = s.segment_table and a.attname = c.name;

    query := regexp_replace(s.query, ';.*$', '');
    execute format($sql$
        with fresh as (
            select q.id::text%2$s from (%1$s) q where q.id is not null
        ), kept as (
            select t.id::text%3$s from only %4$s t where t.segment_id = %5$L and t.actual_end = 'infinity'
        )
        select
            (select string_agg(x::text, ' ') from (table kept except all table fresh limit 3) x),
            (select string_agg(x::text, ' ') from (table fresh except all table kept limit 3) x)
        $sql$, query, casts, plain, s.segment_table, s.segment_id) into extra, missing;
    if extra is not null or missing is not null then
        call oracle.fail(segment, 'its members are not what its query gives; too many: %s; missing: %s',
            coalesce(extra, 'none'), coalesce(missing, 'none'));
    end if;
end
$$;

-- The figures against the true difference.
create procedure oracle.compare_figures(segment text) language plpgsql as $$
declare
    r     oracle.round := (select r from oracle.round r);
    truth record;
    entry segmenter_log;
    n     bigint;
    got   record;
    query text;
begin
    select
        count(*) filter (where b.id is null) as added,
        count(*) filter (where a.id is null) as removed,
        count(*) filter (where a.data <> b.data) as changed,
        count(a.id) as coverage
    into truth
    from (select * from oracle.image i where i.stage = 'before' and i.actual and i.segment = compare_figures.segment) b
    full join (select * from oracle.image i where i.stage = 'after' and i.actual and i.segment = compare_figures.segment) a
        on a.id = b.id;

    select count(*) into n from segmenter_log l
    where l.id > r.log_id and l.segment_name = segment;
    if n <> 1 then
        call oracle.fail(segment, 'one refresh left %s entries in the log', n::text);
    end if;
    select * into entry from segmenter_log l where l.id > r.log_id and l.segment_name = segment;
    if entry.status <> 'ok' then
        call oracle.fail(segment, 'its refresh ended as %s: %s', entry.status, coalesce(entry.error::text, entry.message));
    end if;
    if (entry.added, entry.removed, entry.changed, entry.coverage)
        is distinct from (truth.added, truth.removed, truth.changed, truth.coverage)
    then
        call oracle.fail(segment, 'the log says %s of added, removed, changed, coverage; the truth is %s',
            (entry.added, entry.removed, entry.changed, entry.coverage)::text, truth::text);
    end if;

    query := regexp_replace(oracle.query_of(segment), ';.*$', '');
    execute format('select count(*) as received, count(*) filter (where q.id is null) as invalid from (%s) q', query) into got;
    -- A procedure's rows are those it leaves in the table.
    if (entry.num_received, entry.num_invalid) is distinct from (got.received, got.invalid) then
        call oracle.fail(segment, 'the log says %s of num_received, num_invalid; the query gives %s',
            (entry.num_received, entry.num_invalid)::text, got::text);
    end if;
    if entry.action <> 'refresh' or entry.elapsed is null or entry.run_id is null or entry.segment_id is null
        or entry.params is null or entry.error is not null
        or entry.processed at time zone 'UTC' not between r.began and oracle.utc()
    then
        call oracle.fail(segment, 'its entry in the log is not complete: %s', entry::text);
    end if;

    -- What the functions gave back; the procedure segmenter_run_each gives nothing.
    if r.mode <> 'run_each' then
        for n in select 1 loop
            select count(*) filter (where not q.dry_run and (q.status, q.added, q.removed, q.changed, q.excluded, q.coverage)
                    is not distinct from ('ok', truth.added, truth.removed, truth.changed, 0::bigint, truth.coverage)) as real,
                count(*) filter (where q.dry_run and (q.status, q.added, q.removed, q.changed, q.excluded, q.coverage)
                    is not distinct from ('ok', truth.added, truth.removed, truth.changed, 0::bigint, truth.coverage)) as dry,
                string_agg(q::text, ' ') as all
            into got
            from oracle.results q where q.segment = compare_figures.segment;
            if got.real <> 1 or got.dry <> (r.mode = 'refresh')::int then
                call oracle.fail(segment, 'the function gave %s; the truth is %s', coalesce(got.all, 'nothing'), truth::text);
            end if;
        end loop;
    end if;

    select count(*) into n from segmenter_status v
    where v.name = segment and v.last_status = 'ok' and v.last_refresh = entry.processed
        and (v.added, v.removed, v.changed, v.coverage)
            is not distinct from (truth.added, truth.removed, truth.changed, truth.coverage);
    if n <> 1 then
        call oracle.fail(segment, 'segmenter_status does not show the refresh');
    end if;
end
$$;

-- That exactly the right rows were written, and rightly.
create procedure oracle.compare_rows(segment text) language plpgsql as $$
declare
    r        oracle.round := (select r from oracle.round r);
    history  boolean := (select s.history from oracle.segments s where s.name = segment);
    expected bigint;
    written  bigint;
    at       timestamp;
    wrong    text;
begin
    create temp table moved on commit drop as
    select coalesce(a.id, b.id) as id,
        case when b.id is null then 'added' when a.id is null then 'removed' else 'changed' end as what,
        b.row as old, a.row as new
    from (select * from oracle.image i where i.stage = 'before' and i.actual and i.segment = compare_rows.segment) b
    full join (select * from oracle.image i where i.stage = 'after' and i.actual and i.segment = compare_rows.segment) a
        on a.id = b.id
    where a.id is null or b.id is null or a.data <> b.data;
    create temp table written on commit drop as
    select a.*, m.what, m.old
    from oracle.image a
    left join moved m on m.id = a.id
    where a.stage = 'after' and a.segment = compare_rows.segment
        and not exists (
            select from oracle.image b
            where b.stage = 'before' and b.segment = a.segment
                and b.tid = a.tid and b.inserter = a.inserter and b.row = a.row
        );

    select count(*) filter (where what <> 'changed') + count(*) filter (where what = 'changed') * (1 + history::int)
    into expected from moved;
    select count(*), min(w.row ->> 'processed') into written, at from written w;
    if written <> expected then
        select string_agg(coalesce(w.what, 'unchanged') || ' ' || w.row::text, ' ') into wrong
        from (select * from written order by what nulls first limit 3) w;
        call oracle.fail(segment, '%s rows were written, %s had to be: %s', written::text, expected::text, coalesce(wrong, 'none'));
    end if;
    if at not between r.began and oracle.utc() then
        call oracle.fail(segment, 'rows are stamped %s, the refresh came after %s', at::text, r.began::text);
    end if;

    select string_agg(w.what || ' ' || w.row::text, ' ') into wrong
    from written w
    where (w.row ->> 'processed')::timestamp is distinct from at
        or w.actual and not case
            when w.what = 'added' then (w.row ->> 'actual_begin')::timestamp = at
            when w.what = 'changed' and history then (w.row ->> 'actual_begin')::timestamp = at
            when w.what = 'changed' then w.row -> 'actual_begin' = w.old -> 'actual_begin'
            else false
        end
        -- A closed row is as it was, but for its end.
        or not w.actual and (
            (w.row ->> 'actual_end')::timestamp is distinct from at
            or w.row - '{actual_end,processed}'::text[] is distinct from w.old - '{actual_end,processed}'::text[]
        );
    if wrong is not null then
        call oracle.fail(segment, 'rows were written wrongly at %s: %s', at::text, left(wrong, 500));
    end if;
    drop table moved, written;
end
$$;

-- That nothing of it was touched.
create procedure oracle.compare_untouched(segment text) language plpgsql as $$
declare
    n bigint;
begin
    select count(*) into n from (
        (
            select tid, inserter, locker, row from oracle.image i where i.stage = 'before' and i.segment = compare_untouched.segment
            except all
            select tid, inserter, locker, row from oracle.image i where i.stage = 'after' and i.segment = compare_untouched.segment
        )
        union all
        (
            select tid, inserter, locker, row from oracle.image i where i.stage = 'after' and i.segment = compare_untouched.segment
            except all
            select tid, inserter, locker, row from oracle.image i where i.stage = 'before' and i.segment = compare_untouched.segment
        )
    ) x;
    if n > 0 then
        call oracle.fail(segment, '%s rows were touched although nothing changed', n::text);
    end if;
end
$$;

create procedure oracle.compare_history() language plpgsql as $$
declare
    s     record;
    wrong record;
begin
    for s in select t.*, o.history from oracle.tables() t join oracle.segments o using (name) loop
        execute format($sql$
            select string_agg(x.id || ' ' || x.actual_begin || ' ' || x.actual_end, ', ') as rows
            from (
                select *, lead(t.actual_begin) over (partition by t.id order by t.actual_begin, t.actual_end) as next_begin
                from only %s t where t.segment_id = %L
            ) x
            where x.next_begin < x.actual_end or x.actual_begin >= x.actual_end
            $sql$, s.segment_table, s.segment_id) into wrong;
        if wrong.rows is not null then
            call oracle.fail(s.name, 'empty or overlapping periods: %s', left(wrong.rows, 500));
        end if;
        continue when not s.history;
        execute format($sql$
            with then_kept as (
                select m.at, m.id, m.data from oracle.moments m where m.segment = %2$L
            ), periods as materialized (
                select t.id::text as id, t.actual_begin, t.actual_end,
                    to_jsonb(t) - '{segment_id,id,actual_begin,actual_end,processed}'::text[] as data
                from only %1$s t
                where t.segment_id = %3$L
            ), now_asked as (
                select m.at, p.id, p.data
                from (select distinct at from oracle.moments) m
                join periods p on p.actual_begin <= m.at and m.at < p.actual_end
            )
            select count(*) as n, min(at) as at, min(id) as id from (
                (table then_kept except all table now_asked) union all (table now_asked except all table then_kept)
            ) x
            $sql$, s.segment_table, s.name, s.segment_id) into wrong;
        if wrong.n > 0 then
            call oracle.fail(s.name, 'as of %s it has other members now than it had then (%s differences, such as id %s)',
                wrong.at::text, wrong.n::text, wrong.id);
        end if;
    end loop;
end
$$;

create procedure oracle.compare_mart() language plpgsql as $$
declare
    n     bigint;
    union_of_tables text;
begin
    select string_agg(format('select %1$L::regclass::oid, segment_id, id, hash_email, hash_phone, actual_begin, actual_end, processed from only %1$s', t), ' union all ')
    into union_of_tables
    from (select distinct segment_table as t from oracle.tables()) t;
    execute format($sql$
        with mart as (
            select m.tableoid, m.segment_id, m.id, m.hash_email, m.hash_phone, m.actual_begin, m.actual_end, m.processed
            from segmenter m
        ), tables as (%s)
        select count(*) from (
            (table mart except all table tables) union all (table tables except all table mart)
        ) x
        $sql$, union_of_tables) into n;
    if n > 0 then
        call oracle.fail('segmenter', 'the mart and the segment tables differ in %s rows', n::text);
    end if;
    if exists (select from only segmenter) then
        call oracle.fail('segmenter', 'the mart itself holds rows');
    end if;
end
$$;

create procedure oracle.after() language plpgsql as $$
declare
    r oracle.round := (select r from oracle.round r);
    s record;
    n bigint;
begin
    call oracle.keep_image('after');
    for s in
        select o.*, t.segment_table, d.name is not null as refreshed
        from oracle.segments o join oracle.tables() t using (name) left join oracle.todo d using (name)
        order by o.position
    loop
        if s.refreshed then
            call oracle.compare_figures(s.name);
            call oracle.compare_with_query(s.name);
            if s.merges and s.name <> 'loyal' then
                call oracle.compare_rows(s.name);
            end if;
        elsif exists (select from segmenter_log l where l.id > r.log_id and l.segment_name = s.name) then
            call oracle.fail(s.name, 'it was refreshed, though nobody asked for it');
        end if;
        if not s.refreshed or r.quiet and s.merges then
            call oracle.compare_untouched(s.name);
            -- A shared table is quiet when both of its segments are.
            if r.quiet then
                select oracle.writes(w.segment_table) - w.writes into n from oracle.writes w where w.segment_table = s.segment_table;
                if n <> 0 then
                    call oracle.fail(s.name, 'PostgreSQL counted %s written rows although nothing changed', n::text);
                end if;
            end if;
        end if;
    end loop;
    select count(distinct l.run_id) into n from segmenter_log l where l.id > r.log_id;
    if n <> (case when r.mode = 'refresh' then (select count(*) from oracle.todo) else 1 end) then
        call oracle.fail('all', 'the log shows %s runs', n::text);
    end if;

    insert into oracle.moments
    select r.round, oracle.utc(), i.segment, i.id, i.data
    from oracle.image i where i.stage = 'after' and i.actual;
    update oracle.moments m set at = (select max(at) from oracle.moments where round = r.round) where m.round = r.round;
    call oracle.compare_history();
    call oracle.compare_mart();
end
$$;
