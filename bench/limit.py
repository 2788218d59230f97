"""What a refresh costs at the limit: for each changed id of an incremental one, in a full pass of a segment that
watches its tables, and where half of all members have changed. All times are processor times of one session that has done the
same before: without parallel workers, and without a checkpoint in between."""

import json

import shop
from measure import Server, median
from report import Table, ratio, seconds

SQL = "select c.id, c.hash_email, c.hash_phone from {customers} c join changed using (id) where c.spent >= 500"

# A table that triggers of statements maintain, written by hand for this query.
TRIGGER = """
create function shop.maintain() returns trigger language plpgsql as $$
begin
    delete from shop.maintained m using old_rows o
    where o.spent >= 500 and m.id = o.id::varchar
      and not exists (select from new_rows n where n.id = o.id and n.spent >= 500);
    insert into shop.maintained as m (segment_id, id, hash_email, hash_phone)
    select '00000000-0000-0000-0000-000000000000', n.id, n.hash_email, n.hash_phone from new_rows n where n.spent >= 500
    on conflict (id) do update set hash_email = excluded.hash_email, hash_phone = excluded.hash_phone, processed = now()
    where (m.hash_email, m.hash_phone) is distinct from (excluded.hash_email, excluded.hash_phone);
    return null;
end
$$;
create trigger maintain after update on shop.triggered
referencing old table as old_rows new table as new_rows for each statement execute function shop.maintain();
"""


def measure(socket, scale, rounds, say):
    """The tables, and what is wrong."""
    tables, wrong = [], []
    size = max(int(1_000_000 * scale), 20_000)
    for case in (per_id, full_passes, half):
        Server(socket, "postgres").do("create database at_the_limit")
        server = Server(socket, "at_the_limit")
        server.do("create extension segmenter; create schema shop; set max_parallel_workers_per_gather = 0")
        table, found = case(server, size, rounds, say)
        tables.append(table)
        wrong += found
        server.session.close()
        Server(socket, "postgres").do("drop database at_the_limit with (force)")
    return tables, wrong


def incremental(server, name, customers, way):
    """An incremental segment of customers, loaded."""
    params = {"incremental": {**way, "sql": SQL.format(customers=customers)}}
    shop.segment(server, name, shop.query(customers), params=json.dumps(params))
    refresh(server, name)
    server.do(f"vacuum analyze shop.{name}")


def refresh(server, name, arguments=""):
    """The processor time of a refresh, which must come through."""
    time, rows = server.timed(f"select status, detail from segmenter_refresh('{name}'{arguments})")
    if rows[0][0] != "ok":
        raise RuntimeError(f"segment {name}: {rows[0]}")
    return time


def compare(server, what, members, customers):
    expected = shop.fingerprint(server, shop.query(customers))
    found = shop.fingerprint(server, members)
    return [] if found == expected else [f"{what}: {found[0]:,} members, not the same as the {expected[0]:,} of the query"]


def rotated(items, turn):
    turn %= len(items)
    return items[turn:] + items[:turn]


def per_id(server, size, rounds, say):
    """One customer in a hundred changes: what each of them costs, whoever pays for it."""
    changed = size // 100
    say(f"{changed:,} of {size:,} customers change, per id")
    ways = {"nobody": "shop.plain", "watch": "shop.watched", "changed": "shop.dated", "trigger": "shop.triggered"}
    titles = {"nobody": "nothing is kept (floor)", "watch": "incremental, watch", "changed": "incremental, changed",
              "trigger": "a table maintained by triggers, by hand", "ivm": "pg_ivm"}
    if server.value("select exists (select from pg_available_extensions where name = 'pg_ivm')"):
        ways["ivm"] = "shop.for_ivm"
    for customers in ways.values():
        shop.load(server, customers, size)
    server.do("select segmenter_watch('shop.watched', 'id')")
    incremental(server, "watch", "shop.watched", {"watch": ["shop.watched"]})
    incremental(server, "changed", "shop.dated", {"changed": "select id from shop.dated where updated_at > $1"})
    server.do(shop.TABLE.format(name="shop.maintained", unique=", unique (id)"))
    server.do("insert into shop.maintained (segment_id, id, hash_email, hash_phone) select"
              f" '00000000-0000-0000-0000-000000000000', id, hash_email, hash_phone from ({shop.query('shop.triggered')}) q"
              " order by id::varchar")
    server.do(TRIGGER)
    members = {"watch": shop.members("watch"), "changed": shop.members("changed"), "trigger": "select * from shop.maintained"}
    kept = {"watch": "shop.watch", "changed": "shop.changed", "trigger": "shop.maintained"}
    if "ivm" in ways:
        server.do("create extension pg_ivm")
        schema = server.value("select n.nspname from pg_proc p join pg_namespace n on n.oid = p.pronamespace where proname = 'create_immv'")
        server.do(f"select {schema}.create_immv('shop.immv', $q${shop.query('shop.for_ivm')}$q$)")
        members["ivm"], kept["ivm"] = "select * from shop.immv", "shop.immv"
    for table in kept.values():
        server.do(f"vacuum analyze {table}")
    writes, refreshes, wrong = {way: [] for way in ways}, {way: [] for way in ways}, []
    for turn in range(rounds + 1):
        for way in rotated(list(ways), turn):
            time, _ = server.timed(shop.CHANGE.format(customers=ways[way], step=100, number=turn, which=turn * 7 % 100))
            again = refresh(server, way) if way in ("watch", "changed") else 0.0
            # The first time plans, and reads what the next ones find in memory.
            if turn:
                writes[way].append(time)
                refreshes[way].append(again)
            if way in members:
                wrong += compare(server, titles[way], members[way], ways[way])
                server.do(f"vacuum {kept[way]}")
            server.do(f"vacuum analyze {ways[way]}")
    table = Table(
        f"{changed:,} of {size:,} customers change: what each of them costs, in processor time",
        ["", "the writer", "more than without", "the refresh", "together, µs an id"],
    )
    floor = median(writes["nobody"])
    for way in ways:
        more, again = median(writes[way]) - floor, median(refreshes[way])
        table.rows.append([
            titles[way], seconds(median(writes[way])), "–" if way == "nobody" else f"{more * 1e6 / changed:.1f} µs an id",
            f"{again * 1e6 / changed:.1f} µs an id" if again else "–", "–" if way == "nobody" else f"{(more + again) * 1e6 / changed:.1f}",
        ])
    if "ivm" not in ways:
        table.notes.append("pg_ivm is not installed here.")
    return table, wrong


def full_passes(server, size, rounds, say):
    """Full passes against a refresh of the same members by a query."""
    say(f"full passes over {size:,} customers")
    customers = "shop.customers"
    shop.load(server, customers, size)
    server.do(f"select segmenter_watch('{customers}', 'id')")
    shop.segment(server, "query", shop.query(customers))
    refresh(server, "query")
    server.do("vacuum analyze shop.query")
    incremental(server, "watch", customers, {"watch": [customers]})
    incremental(server, "changed", customers, {"changed": f"select id from {customers} where updated_at > $1"})
    titles = {"query": "query", "watch": "a full pass, watch", "changed": "a full pass, changed"}
    table = Table(
        f"Full passes over {size:,} customers against a refresh by a query, in processor time",
        ["", "nothing changed", "× query", "1 % changed", "× query"],
    )
    times, wrong = {}, []
    for step in (0, 100):
        floor = []
        times[step] = {name: [] for name in titles}
        for turn in range(rounds + 1):
            if step:
                shop.change(server, customers, step, turn)
            floor.append(server.timed(shop.floor(customers))[0])
            for name in rotated(list(titles), turn):
                time = refresh(server, name, "" if name == "query" else ", full => true")
                wrong += compare(server, titles[name], shop.members(name), customers)
                server.do(f"vacuum shop.{name}")
                if turn:
                    times[step][name].append(time)
        times[step]["floor"] = floor[1:]
    for name, title in {"floor": "the bare query (floor)", **titles}.items():
        cells = [title]
        for step in (0, 100):
            time = median(times[step][name])
            cells += [seconds(time), ratio(time / median(times[step]["query"]))]
        table.rows.append(cells)
    return table, wrong


def half(server, size, rounds, say):
    """Half of all members changed, against an UPDATE that brings a copy up to date."""
    say(f"half of {size // 2:,} members change")
    customers = "shop.customers"
    shop.load(server, customers, size)
    shop.segment(server, "latest", shop.query(customers))
    shop.segment(server, "history", shop.query(customers), history=True)
    server.do(shop.TABLE.format(name="shop.copied", unique=", unique (id)"))
    server.do(f"insert into shop.copied (segment_id, id, hash_email, hash_phone) select"
              f" '00000000-0000-0000-0000-000000000000', id, hash_email, hash_phone from ({shop.query(customers)}) q"
              ' order by id::varchar collate "C"')
    update = (
        "update shop.copied t set hash_email = c.hash_email, processed = now()"
        f" from {customers} c where t.id = c.id::varchar and t.hash_email <> c.hash_email"
    )
    names = ["copied", "latest", "history"]
    for name in names[1:]:
        refresh(server, name)
    for name in names:
        server.do(f"vacuum analyze shop.{name}")
    times, wrong = {name: [] for name in names}, []
    for turn in range(rounds + 1):
        server.do(f"update {customers} set hash_email = md5(hash_email) where hashint8(id + {turn}) % 2 = 0")
        server.do(f"vacuum analyze {customers}")
        for name in rotated(names, turn):
            time = server.timed(update)[0] if name == "copied" else refresh(server, name)
            wrong += compare(server, name, shop.members(name), customers)
            server.do(f"vacuum shop.{name}")
            if turn:
                times[name].append(time)
    table = Table(
        f"Half of {size // 2:,} members changed, against an UPDATE of a copy of them, in processor time",
        ["", "time", "× UPDATE"],
    )
    base = median(times["copied"])
    for name, title in zip(names, ("UPDATE from the customers", "segmenter_refresh(), latest state", "segmenter_refresh(), history")):
        table.rows.append([title, seconds(median(times[name])), ratio(median(times[name]) / base)])
    return table, wrong
