"""A suppression list that gains people, and many segments that leave them out."""

from measure import Server, median
from report import Table, ratio, seconds

SCHEMA = """
create extension segmenter;
create schema shop;
create table shop.people (id text primary key, is_out boolean not null default false);
insert into shop.people select g::text from generate_series(1, {people}) g;
"""


def measure(socket, scale, rounds, say):
    """The tables, and what is wrong."""
    segments, people, listed = 200, max(int(100_000 * scale), 4_000), 1_000
    Server(socket, "postgres").do("create database exclusion")
    server = Server(socket, "exclusion")
    server.do(SCHEMA.format(people=people))
    server.do("select segmenter_create_segment('opted out', 'select id from shop.people where is_out', null, 'shop.opted_out')")
    server.do("update segmenter_segments set is_suppression = true")
    say(f"{segments} segments of {people:,} members")
    for number in range(segments):
        server.do("select segmenter_create_segment(%s, 'select id from shop.people', null, %s)", f"s{number}", f"shop.s{number}")
    server.do("update segmenter_segments set refresh_auto = true")
    server.do("select * from segmenter_run(true)")
    server.do("vacuum analyze")

    wrong, at_once, all_of_them = [], [], []
    for number in range(rounds):
        out = f"id::int > {number * listed} and id::int <= {(number + 1) * listed}"
        server.do(f"update shop.people set is_out = true where {out}")
        server.do("vacuum analyze shop.people")
        at_once.append(server.measure("select * from segmenter_refresh('opted out')").seconds)
        remain = people - (number + 1) * listed
        left = server.value("select count(*) from segmenter_status where name <> 'opted out' and coverage <> %s", remain)
        if left:
            wrong.append(f"{left} segments have members that are on the list")
        all_of_them.append(server.measure("select * from segmenter_run(true)").seconds)
    table = Table(
        f"A suppression list gains {listed:,} people; {segments} segments of {people:,} members leave them out",
        ["", "time", "× refreshing them all"],
    )
    base = median(all_of_them)
    for title, times in (("at once, with the list's refresh", at_once), ("refreshing them all", all_of_them)):
        table.rows.append([title, seconds(median(times)), ratio(median(times) / base)])
    Server(socket, "postgres").do("drop database exclusion with (force)")
    return [table], wrong
