# Sourced by the tests of what is delivered: segments that change, and how it stands with their consumers.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# The database shop, with the extension, people, and functions that make segments of them.
shop() {
    psql -d postgres -c "create database shop"
    psql -d shop <<'SQL'
create extension segmenter;
create table people (part text, id int, email text not null, phone text, round int not null default 0, primary key (part, id));

-- A segment with so many members, refreshed before anybody follows it.
create function segment(name text, members int default 50) returns void language plpgsql as $$
begin
    insert into people select name, g, name || g || '@example.com', nullif(g % 3, 0)::text from generate_series(1, members) g;
    perform segmenter_create_segment(name, format(
        'select id, md5(email) as hash_email, phone as hash_phone from public.people where part = %L', name));
    perform refresh(name);
end
$$;
create function refresh(name text) returns void language plpgsql as $$
declare
    said record;
begin
    select * into said from segmenter_refresh(name);
    if said.status <> 'ok' then raise 'refresh of %: %, %', name, said.status, said.detail; end if;
end
$$;
create function change(consumer text) returns void language plpgsql as $$
declare
    segment text := (select s.name from segmenter_status s where update_consumer = consumer);
    r int := (select max(round) + 1 from people where part = segment);
begin
    delete from people where part = segment and id % 7 = r % 7;
    update people set email = r || email, round = r where part = segment and id % 3 = r % 3;
    insert into people (part, id, email, round)
    select segment, last + g, last + g || '@example.org', r
    from (select max(id) as last from people where part = segment) l, generate_series(1, 10) g;
    perform refresh(segment);
end
$$;
create function segment_of(consumer text) returns setof segmenter language sql as $$
    select m.* from segmenter_subscriptions u
    join segmenter_consumers c on c.id = u.consumer_id and c.name = consumer
    join segmenter m on m.segment_id = u.segment_id and m.actual_end = 'infinity'
$$;
SQL
}

change() { # consumer: its segment changes, and is refreshed
    ask shop "select change('$1')" >/dev/null
}
subscription() { # consumer
    ask shop "select u.id from segmenter_subscriptions u join segmenter_consumers c on c.id = u.consumer_id where c.name = '$1'"
}
# As a superuser: a lease that nobody is left to use runs out now. A change of the configuration has the
# scheduler look.
end_lease() { # consumer
    ask shop "update segmenter_deliveries set leased_until = clock_timestamp() where subscription_id = '$(subscription "$1")'"
    ask shop "update segmenter_consumers set description = 'its lease was ended' where name = '$1'"
}
status() { # consumer: its subscription, messages that wait, attempts at the first of them
    ask shop "select update_status || ' ' || pending_messages || ' ' || coalesce(d.attempts, 0)
        from segmenter_status s join segmenter_consumers c on c.name = s.update_consumer
        join segmenter_subscriptions u on u.consumer_id = c.id left join segmenter_deliveries d on d.subscription_id = u.id
        where c.name = '$1'"
}
# Everything is delivered, or will not be.
is_settled() { # consumer
    [[ $(status "$1") =~ ^(uploaded 0 0|failed) ]]
}
problem() { # consumer: why it could not be delivered the last time
    ask shop "select delivery_error from segmenter_status where update_consumer = '$1'"
}
complains() { # consumer, pattern
    grep -qE -- "$2" <<<"$(problem "$1")"
}
log_of() { # consumer, condition: how many entries about deliveries to it
    ask shop "select count(*) from segmenter_log where action = 'deliver' and params ->> 'consumer' = '$1' and ${2:-true}"
}
worker_of() { # consumer
    ask postgres "select pid from pg_stat_activity where application_name = 'segmenter: $1'"
}
# What it is to have: the members of its segment, and the messages that there are for it.
members_of() { # consumer, how a member is written
    ask shop "select ${2:-row_to_json}(m)::text from (select hash_email, hash_phone, id from segment_of('$1')) m order by 1"
}
messages_of() { # consumer
    ask shop "select string_agg(o.id::text, ' ' order by o.id) from segmenter_outbox o join segmenter_consumers c on c.id = o.consumer_id where c.name = '$1'"
}
