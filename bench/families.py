"""What a family costs: one query for many segments, against one segment with the same rows. Times are processor times of one session
that has done the same before, without parallel workers and without a checkpoint in between."""

import json

import shop
from limit import refresh, rotated
from measure import Server, median
from report import Table, ratio, seconds

# Each customer is in one of the segments.
SQL = "select c.id, c.hash_email, c.hash_phone, 'segment ' || c.id % {segments} as segment from shop.customers c"


def measure(socket, scale, rounds, say):
    """The table, and what is wrong."""
    size = max(int(1_000_000 * scale), 20_000)
    say(f"families of {size:,} members")
    Server(socket, "postgres").do("create database families")
    server = Server(socket, "families")
    server.do("create extension segmenter; create schema shop; set max_parallel_workers_per_gather = 0; set client_min_messages = error")
    shop.load(server, "shop.customers", size)
    server.do("select segmenter_watch('shop.customers', 'id')")
    shop.segment(server, "one", "select c.id, c.hash_email, c.hash_phone from shop.customers c")
    refresh(server, "one")
    table = Table(
        f"A family of {size:,} members in all, against one segment with the same rows, in processor time",
        ["segments", "nothing changed", "× one", "1 % changed", "× one", "one alone", "incremental, 1 % changed", "× one"],
    )
    wrong = []
    numbers = [10, 100, 500, *([5000] if scale >= 1 else [])]
    for segments in numbers:
        say(f"{segments:,} segments")
        turns = rounds if segments < 5000 else 1
        for name, refresher in (
            ("query", {"query": {"family": True, "sql": SQL.format(segments=segments)}}),
            ("watch", {"incremental": {"family": True, "watch": ["shop.customers"], "sql": SQL.format(segments=segments) + " join changed using (id)"}}),
        ):
            family = f"{name} {segments}"
            server.do(
                f"select segmenter_put_segment('{family}', refresh_params => $p${json.dumps(refresher)}$p$, table_name => 'shop.\"{family}\"', history => false)"
            )
            server.do(
                "insert into segmenter_segments (name, table_name, refresh_params) select 'segment ' || n,"
                f" 'shop.\"{family}\"', '{{\"family\": \"{family}\"}}' from generate_series(0, {segments - 1}) n"
            )
            refresh(server, family)
            server.do(f'vacuum analyze shop."{family}"')
            if name == "query":
                nothing, one = [], []
                for turn in range(turns + 1):
                    times = {which: refresh(server, which) for which in rotated(["one", family], turn)}
                    if turn:
                        nothing.append(times[family]), one.append(times["one"])
            changed, against, alone = [], [], []
            for turn in range(turns + 1):
                shop.change(server, "shop.customers", 100, turn)
                times = {which: refresh(server, which) for which in rotated(["one", family], turn)}
                wrong += compare(server, family, segments)
                if turn:
                    changed.append(times[family]), against.append(times["one"])
                for kept in ("one", family):
                    server.do(f'vacuum shop."{kept}"')
                # What each refresh writes besides.
                server.do("vacuum segmenter_state, segmenter_attempts, segmenter_counts, segmenter_log, segmenter_change_readers")
            if name == "query":
                alone = [refresh(server, "segment 1") for _ in range(turns)]
                row = [f"{segments:,}", seconds(median(nothing)), ratio(median(nothing) / median(one)), seconds(median(changed)),
                       ratio(median(changed) / median(against)), seconds(median(alone))]
            else:
                row += [seconds(median(changed)), ratio(median(changed) / median(against))]
            server.do(f"update segmenter_segments set actual_end = now() where refresh_params ->> 'family' = '{family}'")
            server.do(f"update segmenter_segments set actual_end = now() where name = '{family}'")
        table.rows.append(row)
    server.session.close()
    Server(socket, "postgres").do("drop database families with (force)")
    return [table], wrong


def compare(server, family, segments):
    """Whether the members of each segment are those of a query of its own."""
    wrong = server.value(
        f"""with kept as (
            select s.name, m.id, m.hash_email from shop."{family}" m join segmenter_segments s on s.id = m.segment_id
        ), wanted as (
            select 'segment ' || id % {segments}, id::varchar, hash_email from shop.customers
        )
        select (select count(*) from (table kept except table wanted) a) + (select count(*) from (table wanted except table kept) b)"""
    )
    return [f"{family}: {wrong} members are wrong"] if wrong else []
