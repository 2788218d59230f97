"""A suppression list that gains people, and many segments that leave them out; and groups of segments with
priorities."""

from measure import Server, median
from report import Table, ratio, seconds

PEOPLE = """
create extension segmenter;
create schema shop;
create table shop.people (id text primary key, is_out boolean not null default false);
insert into shop.people select g::text from generate_series(1, {people}) g;
"""


def measure(socket, scale, rounds, say):
    """The tables, and what is wrong."""
    tables, wrong = [], []
    for case in (suppression, priorities):
        Server(socket, "postgres").do("create database exclusion")
        table, found = case(Server(socket, "exclusion"), scale, rounds, say)
        tables.append(table)
        wrong += found
        Server(socket, "postgres").do("drop database exclusion with (force)")
    return tables, wrong


def create(server, name, query, *, history=True):
    table = "shop." + name.replace(" ", "_")
    server.do("select segmenter_create_segment(%s, %s, null, %s, history => %s)", name, query, table, history)


def suppression(server, scale, rounds, say):
    segments, people, listed = 200, max(int(100_000 * scale), 4_000), 1_000
    server.do(PEOPLE.format(people=people))
    create(server, "opted out", "select id from shop.people where is_out")
    server.do("update segmenter_segments set is_suppression = true")
    say(f"{segments} segments of {people:,} members")
    for number in range(segments):
        # Half of them keep history.
        create(server, f"s{number}", "select id from shop.people", history=number % 2 == 0)
    server.do("update segmenter_segments set refresh_auto = true")
    server.do("select * from segmenter_run(true)")
    server.do("vacuum analyze")

    wrong, plain, at_once, all_of_them = [], [], [], []
    some = lambda first: f"id::int > {first} and id::int <= {first + listed}"
    # As many people, whose rows lie as the others' do, and who stay.
    others = lambda number: some(min(5 * listed, people - rounds * listed) + number * listed)
    for number in range(rounds):
        out = some(number * listed)
        server.do(f"update shop.people set is_out = true where {out}")
        server.do("vacuum analyze shop.people")
        server.do(f"create table shop.others as select id::varchar from shop.people where {others(number)}")
        plain.append(server.measure(by_hand(segments)).seconds)
        server.do("drop table shop.others")
        at_once.append(server.measure("select * from segmenter_refresh('opted out')").seconds)
        remain = people - (number + 1) * listed
        left = server.value("select count(*) from segmenter_status where name <> 'opted out' and coverage <> %s", remain)
        if left:
            wrong.append(f"{left} segments have members that are on the list")
        all_of_them.append(server.measure("select * from segmenter_run(true)").seconds)
    table = Table(
        f"A suppression list gains {listed:,} people; {segments} segments of {people:,} members leave them out",
        ["", "time", "× UPDATE", "× refreshing them all"],
    )
    floor, base = median(plain), median(all_of_them)
    for title, times in (
        ("one UPDATE of as many rows for each segment, rolled back (floor)", plain),
        ("at once, with the list's refresh", at_once),
        ("refreshing them all", all_of_them),
    ):
        table.rows.append([title, seconds(median(times)), ratio(median(times) / floor), ratio(median(times) / base)])
    return table, wrong


def by_hand(segments):
    """What somebody would write: one statement for each segment."""
    updates = [
        f"update shop.s{number} set actual_end = localtimestamp, processed = localtimestamp"
        " where actual_end = 'infinity' and id = any (array(select id from shop.others))"
        for number in range(segments)
    ]
    return "; ".join(["begin", *updates, "rollback"])


def priorities(server, scale, rounds, say):
    people, sizes = 4_000, (50, 100, 200)
    server.do(PEOPLE.format(people=people))
    table = Table(
        "A run over a priority group; the query of each segment gives 200 people, half of them those of the one before",
        ["segments", "a segment", "without priorities", "× without priorities"],
    )
    wrong = []
    say(f"priority groups of {', '.join(map(str, sizes))} segments")
    for size in sizes:
        for number in range(size):
            first = number * 100 % people
            create(server, f"p{number}", f"select id from shop.people where id::int > {first} and id::int <= {first + 200}")
        server.do("update segmenter_segments set refresh_auto = true")
        server.do("select * from segmenter_run(true)")
        times = {}
        for is_group in (False, True):
            if is_group:
                server.do("update segmenter_segments set priority_group = 'g', priority = substr(name, 2)::int")
                server.do("select * from segmenter_run(true)")
            server.do("vacuum analyze")
            run = "select * from segmenter_run(true)"
            times[is_group] = median([server.measure(run).seconds for _ in range(rounds)]) / size
        twice = server.value(
            "select count(*) from (select from segmenter where actual_end = 'infinity' group by id having count(*) > 1) m"
        )
        if twice:
            wrong.append(f"{twice} people are in several segments of a group of {size}")
        table.rows.append([str(size), seconds(times[True]), seconds(times[False]), ratio(times[True] / times[False])])
        server.do("update segmenter_segments set priority_group = null, priority = null")
        server.do("select count(segmenter_drop_segment(name, true)) from segmenter_segments")
    return table, wrong
