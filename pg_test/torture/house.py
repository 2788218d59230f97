"""What the house does around the segments: settings of roles and databases, sources that are broken for a while.

What an actor here has done may last through a pause: then it is mended where the pause begins, or it is no damage.
"""
from __future__ import annotations

from typing import Any

import psycopg
from checks import Connection, value
from psycopg.types.json import Jsonb

from actors import Actor, action
from world import SEGMENTS, WATCH, Set, World

VIP = "select id from shop.people where spent % 3 < 2"


def mend_sources(db: Connection) -> None:
    """All sources are there, and can be read."""
    if value(db, "select to_regclass('shop.vip_away') is not null"):
        # Another actor may have made one in its place.
        is_there = value(db, "select to_regclass('shop.vip') is not null")
        db.execute("drop view shop.vip_away cascade" if is_there else "alter view shop.vip_away rename to vip")
    db.execute(f"create or replace view shop.vip as {VIP}")  # type: ignore[call-overload]
    # A connection that ended between the view and its grant has left it without.
    db.execute("grant select on shop.vip to public")


def mend_publications(db: Connection, of: Set, are_dropped: bool) -> None:
    """No publication keeps a segment table from being written to."""
    for table in {table for _, table, _, _ in SEGMENTS.values()}:
        db.execute(of(f"alter table {{home}}.{table} replica identity full"))  # type: ignore[call-overload]
    if are_dropped:
        db.execute("drop publication if exists everything, something")


def mend_row(db: Connection, world: World, of: Set) -> None:
    """The config row that was made invalid is what it was."""
    if odd := world.odd_rows[str(of)]:
        columns = ", ".join(f"{column} = %s" for column in odd)
        before = [Jsonb(one) if isinstance(one, (dict, list)) else one for one in odd.values()]
        db.execute(of(f"update {{segments}} set {columns} where name = 'odd'"), before)  # type: ignore[call-overload]
        odd.clear()


class Swapper(Actor):
    """A source is made anew beside the old one, which it replaces under its name, as dbt does: without triggers, and with other rows."""
    rest = 4.0

    # Of PostgreSQL, where a statement has found the old table by its name and locks it when it is gone.
    @action(1, "XX000", "42P01", "42P07", "42704")
    def swap(self) -> None:
        table, id = self.dice.choice([("people", "id"), ("orders", "customer_id")])
        some = self.dice.randrange(90)
        columns = {"people": f"id, email, phone, case when id % 90 = {some} then (city + 1) % 12 else city end, spent, is_left, updated_at", "orders": f"customer_id, (amount + {some}) % 100"}[table]
        with self.db.transaction():
            mend_sources(self.db)
            self.execute(f"lock table shop.{table} in access exclusive mode")
            self.execute(f"create table shop.{table}_new (like shop.{table} including all)")
            self.execute(f"insert into shop.{table}_new select {columns} from shop.{table} where {id} % 90 <> {89 - some}")
            self.execute(f"alter table shop.{table} rename to {table}_old")
            self.execute(f"alter table shop.{table}_new rename to {table}")
            names = {role: f'"{name}"' for role, name in self.world.roles.items()}
            self.execute(f"grant select on shop.{table} to {names['anna']}, {names['boris']}, mallory")
            self.execute(f"grant select, insert, update, delete, truncate on shop.{table} to {names['loader']}")
            if table == "people":
                self.execute("create trigger gone after delete on shop.people for each row execute function shop.gone()")
            else:
                self.execute("alter table shop.orders replica identity full")
            mend_sources(self.db)
            self.execute(f"drop table shop.{table}_old")
        self.watch_again()

    @action(1)
    def unwatch(self) -> None:
        """Segments that watch it fail for so long, and find afterwards what was not captured."""
        self.execute("select segmenter_unwatch(%s)", self.dice.choice(["shop.people", "shop.orders", "shop.visits", "shop.visits_far", "shop.visits_good"]))
        self.watch_again()

    def watch_again(self) -> None:
        self.sleep(self.dice.random() * 3)
        if not self.world.pausing.is_set():
            self.execute(WATCH)


class SettingsChanger(Actor):
    """What is set for roles and for the database decides what the owners' queries give."""
    rest = 1.5
    # A custom setting of the query's own, and settings that give its SQL another meaning.
    SETTINGS = {
        "app.shift": "01234", "app.tenant": "012", "transform_null_equals": ("on", "off"), "datestyle": ("German, DMY", "ISO, YMD"), "extra_float_digits": ("-3", "0"), "timezone": ("Asia/Tokyo",),
        "default_text_search_config": ("simple", "english"), "standard_conforming_strings": ("on", "off"), "array_nulls": ("on", "off"), "bytea_output": ("escape", "hex"),
        "enable_seqscan": ("off",), "row_security": ("on",),
    }

    def place(self) -> str:
        role = self.world.roles[self.dice.choice(["anna", "boris", "boris", "carla"])]
        return self.dice.choice([f'role "{role}"', f'role "{role}" in database {self.world.database}', f"database {self.world.database}"])

    # A role may have been renamed in between. Of PostgreSQL, where two sessions write to the same row of a catalogue.
    @action(4, "42704", "XX000")
    def set_one(self) -> None:
        self.world.is_unseen = True
        name = self.dice.choice(list(self.SETTINGS))
        self.execute(f"alter {self.place()} set {name} = '{self.dice.choice(self.SETTINGS[name])}'")

    @action(1, "42704", "XX000")
    def isolation(self) -> None:
        """Of the workers that are connected as it, too."""
        self.execute(f"""alter role "{self.world.roles[self.dice.choice(['anna', 'boris'])]}" set default_transaction_isolation = {self.dice.choice(['serializable', "'repeatable read'"])}""")

    @action(1, "42704", "XX000")
    def reset_all(self) -> None:
        self.world.is_unseen = True
        self.execute(f"alter {self.place()} reset all")


class SourceBreaker(Actor):
    """A view that queries read is not there, or fails, for a while."""
    rest = 3.0

    # Of PostgreSQL, where two grant at the same time; the next one that mends it grants again.
    @action(1, "42P01", "42P07", "42710", "23505", "XX000")
    def broken(self) -> None:
        self.execute("create or replace view shop.vip as select shop.fail() as id")
        self.stay()

    @action(1, "42P01", "42P07", "XX000")
    def away(self) -> None:
        self.execute("alter view shop.vip rename to vip_away")
        self.stay()

    @action(1, "42P01", "42P07", "XX000")
    def another(self) -> None:
        """A view of the same name that is another one."""
        self.execute("begin")
        self.execute("drop view shop.vip")
        self.execute(f"create view shop.vip as {VIP}")
        self.execute("grant select on shop.vip to public")
        self.sleep(self.dice.random())
        self.execute("commit")

    def stay(self) -> None:
        self.sleep(self.dice.random() * 3)
        # A pause that begins finds it as it is.
        if not self.world.pausing.is_set():
            mend_sources(self.db)


class Publisher(Actor):
    """What tools that capture changes do: publish all tables, or some, whether or not rows can be told apart there."""
    rest = 2.0

    # Of PostgreSQL, where a vacuum writes to the table's row of the catalogue at the same time.
    @action(2, "42710", "42704", "XX000")
    def everything(self) -> None:
        self.execute("create publication everything for all tables")
        self.stay("everything")

    # Nor does PostgreSQL publish a table that is unlogged for the moment; see HandEditor.unlogged.
    @action(2, "42710", "42704", "XX000", "22023", "0A000")
    def something(self) -> None:
        tables = [f"{self.of.home}.{table}" for table in self.dice.sample(sorted({table for _, table, _, _ in SEGMENTS.values()}), 3)]
        self.execute(f"create publication something for table {', '.join(tables)}, shop.people, {self.of('{outbox}')}")
        self.stay("something")

    @action(2, "XX000")
    def identity(self) -> None:
        _, table, _, _ = self.dice.choice(list(SEGMENTS.values()))
        self.execute(f"alter table {self.of.home}.{table} replica identity {self.dice.choice(['default', 'nothing', 'full'])}")

    def stay(self, publication: str) -> None:
        self.sleep(self.dice.random() * 2)
        if not self.world.pausing.is_set():
            self.execute(f"drop publication {publication}")


class RowBreaker(Actor):
    """A config row that no check has seen, as another version, a dump or a replica may leave it: its segment fails alone."""
    rest = 3.0
    WRONG = {"refresh_params": {"nested": 1}, "guards": [1], "sources": {"table": 7}, "refresh_cron": "soon", "refresh_timezone": "Mars/Olympus"}

    @action(1)
    def break_row(self) -> None:
        if row := self.some("select * from {segments} where name = 'odd'"):
            column = self.dice.choice(list(self.WRONG))
            self.world.broken.add("odd")
            # It may still be there, of one that could not be mended at once.
            self.world.odd_rows[str(self.of)].setdefault(column, row[column])
            wrong = self.WRONG[column]
            with self.db.transaction():
                self.execute("set local session_replication_role = replica")
                self.execute(f"update {{segments}} set {column} = %s where id = %s", wrong if isinstance(wrong, str) else Jsonb(wrong), row["id"])
            self.sleep(self.dice.random() * 3)
            if not self.world.pausing.is_set():
                mend_row(self.db, self.world, self.of)
