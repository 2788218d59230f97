"""Random rounds of pg_test/cluster/take: the files of psql's \\copy are parsed with the csv module, and changes folded over
what was taken before; disclosures are compared with a replay of all messages."""

import csv
import os
import random
import subprocess
import sys

import psycopg

rounds, seed = int(sys.argv[1]), int(sys.argv[2])
print(f"# seed {seed}")
chance = random.Random(seed)
file = os.path.join(os.environ["SCRATCH"], "audience.csv")
shop = psycopg.connect("dbname=shop", autocommit=True)
failures = 0

# Each audience: its params, and the condition that its members fulfil.
AUDIENCES = {
    "all": ('{"fields": {"id": "id", "name": "full name", "city": "city"}}', "true"),
    "oslo": ("""{"fields": {"id": "id", "name": "full name", "city": "city"}, "where": "city = 'Oslo'"}""", "city = 'Oslo'"),
    "replaced": ('{"fields": {"id": "id", "name": "full name", "city": "city"}, "mode": "replace"}', "true"),
}
FIELDS = '"full name" varchar, id varchar, city varchar'
CITIES = ["Oslo", "Rome", None, 'a "b", c\nd']
NAMES = ["anna", "=1+1", "-7", "", None, "emil\r\nx", "Zoë 日本", "'", "a,b"]


def check(what, wanted, got):
    global failures
    if wanted != got:
        failures += 1
        print(f"not ok {what}: expected {wanted!r}, got {got!r}")


def one(sql, *args):
    row = shop.execute(sql, args).fetchone()
    return row and row[0]


def copied(target, changes, ends="commit"):
    """What \\copy writes into a file; the SQLSTATE where it is refused."""
    columns = f"change text, {FIELDS}" if changes else FIELDS
    call = f"select * from segmenter_take('anna', 'vip', '{target}', {changes}) as t ({columns})"
    script = f"\\set VERBOSITY sqlstate\nbegin;\n\\copy ({call}) to '{file}' csv header null '(null)'\n{ends};\n"
    command = [os.environ["PSQL"], "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "shop", "-f", "-"]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    if done.returncode:
        return done.stderr.split("ERROR:")[-1].strip()[:5]
    with open(file, newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    return [{name: None if value == "(null)" else value for name, value in row.items()} for row in rows]


def folded(audience, rows):
    """What a person makes of the changes. None of them may contradict what there was."""
    audience = dict(audience)
    for row in rows:
        person, change = row["id"], row["change"]
        member = (row["full name"], row["city"])
        check(f"{change} {person}: was there", change != "added", person in audience)
        if change == "removed":
            check(f"the values of {person}", audience.get(person), member)
            audience.pop(person, None)
        else:
            check(f"{person} has changed", True, audience.get(person) != member)
            audience[person] = member
    return audience


def whole(rows):
    return {row["id"]: (row["full name"], row["city"]) for row in rows}


def in_table(condition):
    rows = shop.execute(f"select id, name, city from vip where actual_end = 'infinity' and ({condition})")
    return {person: (name, city) for person, name, city in rows}


def take(target, taken):
    """Takes changes, or all members where they are not known. Now and then it is rolled back before."""
    if chance.random() < 0.3:
        first = copied(target, True, "rollback")
        again = copied(target, True)
        check(f"{target}: what is rolled back is there again", first, again)
    else:
        again = copied(target, True)
    if isinstance(again, list):
        return folded(taken, again)
    check(f"{target}: the SQLSTATE", "55000", again)
    return whole(copied(target, False))


def change_people():
    for _ in range(chance.randrange(6)):
        person = str(chance.randrange(30))
        if chance.random() < 0.4:
            shop.execute("delete from people where id = %s", (person,))
        else:
            shop.execute(
                "insert into people values (%s, %s, %s) on conflict (id) do update set name = excluded.name, city = excluded.city",
                (person, chance.choice(NAMES), chance.choice(CITIES)),
            )


def replayed():
    """The periods of each person at each subscription, by all messages."""
    periods = {}
    rows = shop.execute(
        """select u.target, o.run_id, min(o.created_at), array_agg(o.operation order by o.id), array_agg(o.payload -> 'members' order by o.id)
        from segmenter_outbox o join segmenter_subscriptions u on u.id = o.subscription_id
        group by u.target, o.run_id, o.created_at order by min(o.id)"""
    )
    present = {}
    for target, _, at, operations, parts in rows:
        had = present.setdefault(target, set())
        has = set(had)
        for number, (operation, members) in enumerate(zip(operations, parts)):
            ids = {member["id"] for member in members}
            if operation == "add":
                has |= ids
            elif operation == "remove":
                has -= ids
            elif operation == "replace":
                has = ids if "replace" not in operations[:number] else has | ids
            elif operation == "delete":
                has = set()
        for person in has - had:
            periods.setdefault((target, person), []).append([at, None])
        for person in had - has:
            periods[target, person][-1][1] = at
        present[target] = has
    return periods


shop.execute("create table people (id text primary key, name text, city text)")
shop.execute("select segmenter_create_segment('vip', 'select id, name, city from people', table_name => 'public.vip')")
shop.execute("""update segmenter_segments set guards = '{"allow_empty": true}'""")
change_people()
shop.execute("select segmenter_refresh('vip')")
for name, (params, _) in AUDIENCES.items():
    shop.execute("select segmenter_subscribe('anna', 'vip', %s, %s)", (name, params))
shop.execute("select * from segmenter_run()")
taken = {target: whole(copied(target, True)) for target in AUDIENCES}
for target, (_, condition) in AUDIENCES.items():
    check(f"{target}: the first changes are all members", in_table(condition), taken[target])

for number in range(rounds):
    change_people()
    check("the refresh", "ok", one("select status from segmenter_refresh('vip')"))
    if chance.random() < 0.05:
        shop.execute("select segmenter_resync('anna', 'vip', 'all')")
    if chance.random() < 0.05:
        # By hand: the next refresh notices it.
        shop.execute("update vip set name = 'by hand' where actual_end = 'infinity' and id = (select min(id) from vip where actual_end = 'infinity')")
        check("the refresh", "ok", one("select status from segmenter_refresh('vip')"))
    for target, (_, condition) in AUDIENCES.items():
        if chance.random() < 0.5:
            taken[target] = take(target, taken[target])
            check(f"{target}, round {number}", in_table(condition), taken[target])
        if chance.random() < 0.1:
            taken[target] = whole(copied(target, False))
            check(f"{target}, all members, round {number}", in_table(condition), taken[target])
            check(f"{target}: nothing is left", [], copied(target, True))
for target, (_, condition) in AUDIENCES.items():
    taken[target] = take(target, taken[target])
    check(f"{target}, at the end", in_table(condition), taken[target])

# The takes of all members are hand-overs of their own; without them the log and the messages tell the same.
shop.execute("delete from segmenter_log where params @> '{\"operation\": \"take\"}'")
periods = replayed()
for person in map(str, range(30)):
    for target in AUDIENCES:
        rows = shop.execute(
            "select since, until, still_there, complete from segmenter_disclosures(%s) where target = %s order by since", (person, target)
        ).fetchall()
        known = periods.get((target, person), [])
        check(f"disclosures of {person} for {target}", [(since, until, until is None) for since, until in known], [row[:3] for row in rows])
        check(f"disclosures of {person} for {target} are complete", {True}, {row[3] for row in rows} | {True})
print(f"# {len(periods)} people and audiences, {sum(map(len, periods.values()))} periods")
check("many periods", True, sum(map(len, periods.values())) > rounds)
if not failures:
    print("ok the files are the audiences, and the disclosures those of the messages")
sys.exit(failures > 0)
