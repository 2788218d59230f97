"""What is done by hand, and by other tools, to segment tables and sources.

An actor here may leave what it has done where a pause begins: then it is mended there, or it is no damage.
"""
from __future__ import annotations

from checks import Connection, rows, value

from actors import Actor, action
from world import SEGMENTS, Set, World

# Which rows a policy hides.
POLICY = "id::int % 10 <> 3"


# --- Members --------------------------------------------------------------------------

class HandEditor(Actor):
    """Members come, go and change by hand, a table is emptied or is what it was an hour ago: the next refresh of all ids mends the
    segment, and its audiences. (What the history of one segment was is looked at: nobody edits that one.)"""
    rest = 0.8
    COPIED = ("latest", "shared", "dated", "watching_too")

    def edit(self, statement: str) -> None:
        """A statement about one of the segments: {table}, {segment}, {some} and {new} are filled in."""
        if segment := self.segment("name ~ '^(latest|shared|kept|watching|dated|edited|town |place )'"):
            number = self.dice.randrange(50)
            for word, to in {"table": f"{self.of.home}.{SEGMENTS[segment['name']][1]}", "segment": f"'{segment['id']}'", "new": f"'{-next(self.world.ids)}'",
                             "some": f"where segment_id = '{segment['id']}' and actual_end = 'infinity' and id::int % 50 = {number}"}.items():
                statement = statement.replace("{" + word + "}", to)
            self.world.edit(segment["name"])
            self.write(statement)

    @action(6, "55000", "23505")
    def a_few(self) -> None:
        self.edit(self.dice.choice([
            "update {table} set hash_email = 'by hand' {some}", "update {table} set note = 'by hand' {some}", "delete from {table} {some}",
            "update {table} set actual_end = timezone('UTC', clock_timestamp()) {some}", "update {table} set city = null, spent = -1 {some}",
            # (The default is a local time of the session, whose zone is any.)
            "insert into {table} (segment_id, id, hash_email, actual_begin) values ({segment}, {new}, 'by hand', timezone('UTC', clock_timestamp()))",
            "insert into {table} (segment_id, id, actual_begin, actual_end) values ({segment}, {new}, '2001-01-01', '2002-01-01')"]))

    @action(3, "55000")
    def one_for_another(self) -> None:
        """As many members as before."""
        self.edit("with gone as (delete from {table} where ctid = (select max(ctid) from {table} where segment_id = {segment} and actual_end = 'infinity') returning 1)"
                  " insert into {table} (segment_id, id, hash_email, actual_begin) select {segment}, {new}, 'for another', timezone('UTC', clock_timestamp()) from gone")

    @action(1, "55000")
    def everybody(self) -> None:
        self.edit(self.dice.choice(["delete from {table} where segment_id = {segment}",
                                    "update {table} set actual_end = timezone('UTC', clock_timestamp()) where segment_id = {segment} and actual_end = 'infinity'"]))

    @action(1)
    def truncate(self) -> None:
        table = self.dice.choice(self.COPIED)
        self.edit_table(table)
        self.write(f"truncate {self.of.home}.{table}")

    @action(1, "42P07", "42P01", "42701", "42703", "42804", "42601", "23505")
    def restore(self) -> None:
        """The table as it was when it was copied; the copy may have other columns by now."""
        table = self.dice.choice(self.COPIED)
        if self.value("select to_regclass(%s) is null", f"{self.of.home}.{table}_copy"):
            self.execute(f"create table {self.of.home}.{table}_copy as table {self.of.home}.{table}")
            return
        self.edit_table(table)
        columns = "segment_id, id, hash_email, hash_phone, actual_begin, actual_end, processed, city, spent, note"
        with self.db.transaction():
            self.execute(f"truncate {self.of.home}.{table}")
            # Nobody brings back who was erased meanwhile. (An erasure waits for this lock.)
            self.execute(f"insert into {self.of.home}.{table} ({columns}) select {columns} from {self.of.home}.{table}_copy"
                         " where id is null or not id = any (%s)", sorted(self.world.erased))
            self.execute(f"drop table {self.of.home}.{table}_copy")

    # Of PostgreSQL: a table that is published stays logged.
    @action(1, "0A000", "22023", "55000")
    def unlogged(self) -> None:
        """A crash empties it."""
        table = self.dice.choice(("edited", "edited_kept", "latest"))
        self.edit_table(table)
        self.write(f"alter table {self.of.home}.{table} set {self.dice.choice(['unlogged', 'unlogged', 'logged'])}")

    def edit_table(self, table: str) -> None:
        for name, spec in SEGMENTS.items():
            if spec[1] == table:
                self.world.edit(name)


def mend_tables(db: Connection, world: World, of: Set) -> None:
    """Segment tables are logged. One that is not, and was empty after a crash, has been edited, in whichever round that was done."""
    for row in rows(db, of("""select s.name, c.oid::regclass::text as of from {segments} s join pg_class c on c.oid = s.table_name and c.relpersistence = 'u'""")):
        world.edit(row["name"])
        db.execute(f"alter table {row['of']} set logged")  # type: ignore[call-overload]


# --- What is hidden -------------------------------------------------------------------

def mend_policies(db: Connection, of: Set) -> None:
    """No rows of segment tables and of watched tables are hidden."""
    if value(db, "select relrowsecurity from pg_class where oid = 'shop.people'::regclass"):
        db.execute("alter table shop.people disable row level security")
    for table in {table for _, table, _, _ in SEGMENTS.values()}:
        if value(db, "select relrowsecurity or relforcerowsecurity from pg_class where oid = %s::regclass", of(f"{{home}}.{table}")):
            db.execute(of(f"alter table {{home}}.{table} no force row level security, disable row level security"))  # type: ignore[call-overload]


class PolicyChanger(Actor):
    """Row-level security of sources: an owner's query gives what the owner may see."""
    rest = 2.0

    # A role may have been renamed in between. Of PostgreSQL, where two sessions write to the table's row of the catalogue.
    @action(2, "42710", "42704", "XX000")
    def source(self) -> None:
        """A watched table may not be seen in part: its segments fail for so long."""
        table = self.dice.choice(["club", "club", "people"])
        condition = self.dice.choice(["id % 10 <> 3", "id % 10 <> coalesce(nullif(current_setting('app.shift', true), '')::int, 7)", "current_user <> 'anna'", "true"])
        self.world.is_unseen = True
        with self.db.transaction():
            self.execute(f"alter table shop.{table} enable row level security")
            self.execute(f"drop policy if exists seen on shop.{table}")
            self.execute(f"drop policy if exists loader on shop.{table}")
            self.execute(f'create policy loader on shop.{table} to "{self.world.roles["loader"]}" using (true)')
            self.execute(f"create policy seen on shop.{table} using ({condition})")

        if table == "people":
            self.sleep(self.dice.random() * 2)
            if not self.world.pausing.is_set():
                self.execute("alter table shop.people disable row level security")

    @action(1, "XX000")
    def off(self) -> None:
        self.world.is_unseen = True
        self.execute("alter table shop.club disable row level security")


class Hider(Actor):
    """Row-level security of segment tables, which hides members from the segment's owner: an obstacle with a name."""
    rest = 3.0

    @action(1, "42710", "XX000")
    def hide(self) -> None:
        table = f"{self.of.home}.{self.dice.choice(sorted({spec[1] for spec in SEGMENTS.values()}))}"
        with self.db.transaction():
            self.execute(f"alter table {table} enable row level security")
            self.execute(f"alter table {table} {self.dice.choice(['force', 'no force'])} row level security")
            self.execute(f"drop policy if exists seen on {table}")
            self.execute(f"create policy seen on {table} using ({POLICY})")
        self.sleep(self.dice.random() * 2)
        if not self.world.pausing.is_set():
            self.execute(f"alter table {table} no force row level security, disable row level security")
