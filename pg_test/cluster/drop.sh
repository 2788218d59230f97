# Part of the test restore: what DROP EXTENSION does to the segments of the original databases.

for schema in public crm; do
    original=in_$schema
    members() { # database
        psql -d "$1" -c "select * from seg.latest order by id" -c "select * from seg.extra order by id, actual_begin" -c "select * from seg.shared_history order by segment_id, id, actual_begin"
    }
    tables() { # database: the users' tables
        ask "$1" "select string_agg(c.oid::regclass::text, ' ' order by c.oid::regclass::text) from pg_class c
            where c.relkind = 'r' and c.relnamespace::regnamespace::text not in ('pg_catalog', 'information_schema', 'pg_toast')
                and c.relname !~ '^segmenter'"
    }
    all=$(tables "$original")

    copy=${original}_drop
    "$PGBIN/createdb" -T "$original" "$copy"
    before=$(members "$copy")
    fails "$copy: refused while segment tables exist" 'table seg\.latest depends on table .*segmenter' ask "$copy" 'drop extension segmenter'
    same "$copy: nothing is lost by the refusal" "$all" "$(tables "$copy")"

    # The clean way: end the segments, then drop.
    succeeds "$copy: segments deleted" ask "$copy" "
        set search_path = public, \"$schema\";
        delete from segmenter_subscriptions; delete from segmenter_segments" || true
    same "$copy: a deleted segment's table is out of the mart and nobody's" "0 0" "$(ask "$copy" "
        select (select count(*) from pg_inherits where inhparent = '\"$schema\".segmenter'::regclass) || ' ' ||
            (select count(*) from pg_constraint where conname like 'segmenter%' and conrelid::regclass::text !~ 'segmenter')")"
    succeeds "$copy: dropped once no segment is left" ask "$copy" 'drop extension segmenter' || true
    same "$copy: the segment tables stay" "$all" "$(tables "$copy")"
    same "$copy: and so do their rows" "$before" "$(members "$copy")"
    same "$copy: nothing else is left behind" "0" "$(ask "$copy" "
        select (select count(*) from pg_class where relname like 'segmenter%') + (select count(*) from pg_proc where proname like 'segmenter%')")"

    # Back again, with the segments' own numbers, so that their rows are theirs.
    again=$(ask "$original" "select format('insert into \"$schema\".segmenter_segments (id, name, table_name, owner, refresh_params, refresh_auto) values (%L, %L, %L, %L, %L, true);', id, name, table_name, owner, refresh_params) from \"$schema\".segmenter_segments where name in ('latest', 'extra', 'spent', 'stingy', 'nightly', 'waits', 'German') order by name")
    succeeds "$copy: created again, its segments entered again" psql -d "$copy" -c "create extension segmenter schema \"$schema\"" -c "grant usage on schema \"$schema\" to marketing" -c "$again" || true
    same "$copy: they know their members" "extra|0|0|0 German|0|0|0 latest|0|0|0" "$(ask "$copy" "
        set client_min_messages = error; set search_path = public, \"$schema\";
        select segment, added, removed, changed from segmenter_run() where segment in ('latest', 'extra', 'German') order by lower(segment)" | tr '\n' ' ' | sed 's/ $//')"

    # The way of who takes the tables out by hand.
    copy=${original}_detach
    "$PGBIN/createdb" -T "$original" "$copy"
    detach=$(ask "$copy" "select format('alter table %s no inherit \"$schema\".segmenter;', inhrelid::regclass) from pg_inherits where inhparent = '\"$schema\".segmenter'::regclass")
    succeeds "$copy: dropped once the tables are taken out by hand" psql -d "$copy" -c "$detach" -c 'drop extension segmenter' || true
    same "$copy: the segment tables stay" "$all" "$(tables "$copy")"
    same "$copy: and so do their rows" "$before" "$(members "$copy")"

    # The way of who wants to lose everything. CASCADE takes the segment tables along, and says so.
    copy=${original}_cascade
    "$PGBIN/createdb" -T "$original" "$copy"
    said=$(psql -d "$copy" -c 'drop extension segmenter cascade' 2>&1) || not_ok "$copy: cascade" "$said"
    for table in seg.latest seg.extra seg.shared_history seg.german '"Ta'; do
        if grep -qF -- "table $table" <<<"$said" || grep -qF -- "$table" <<<"$said"; then :; else not_ok "$copy: CASCADE names $table" "$said"; fi
    done
    same "$copy: CASCADE drops the segment tables and leaves the sources" "shop.people" "$(tables "$copy")"
    succeeds "$copy: created again" ask "$copy" "create extension segmenter schema \"$schema\"" || true
    same "$copy: a new one is empty" "0 0" "$(ask "$copy" "select (select count(*) from \"$schema\".segmenter_segments) || ' ' || (select count(*) from \"$schema\".segmenter_log)")"
    same "$copy: and works" "ok|20" "$(psql -d "$copy" -c "set search_path = public, \"$schema\"" -c "select segmenter_create_segment('s', 'select id from shop.people where id <= 20 and id % 50 <> 1 or id = 1', table_name => 'shop.s') is not null" -c "select status, coverage from segmenter_refresh('s')" | tail -n 1)"
    succeeds "$copy: dropped with its last segment table" psql -d "$copy" -c 'drop table shop.s' -c 'drop extension segmenter' || true
    succeeds "$copy: a database with the extension is dropped" "$PGBIN/dropdb" "$copy" || true
done
