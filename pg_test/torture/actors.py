"""Those who act, each in a thread of its own, with dice and a connection of its own.

An action is a method marked with `action`: how often it is taken, and with which SQLSTATEs it may fail, besides
those of crossing others' ways, and of a connection that was ended. Hard ones take the server down.
"""
from __future__ import annotations

import random
import sys
import threading
import time
import traceback
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.types.json import Jsonb

from audiences import FILTERS, Audiences
from checks import Connection, Row, Wrong, must, one, rows, value
from world import CALLERS, CITIES, CONSUMERS, CROSSED, FAMILIES, GROUP, LISTS, MEMBERS, OF_FAMILIES, PUBLICATION_GONE, READ, ROLES, SEGMENTS, SHARED, Set, World, make_query, query_of_member, refresher

# The connection's end, by somebody's command, a crash, a shutdown; or there is none yet.
CUT_OFF = {"57P01", "57P02", "57P03", "08000", "08001", "08003", "08006", "25P03"}


def action(weight: float, *states: str, is_hard: bool = False) -> Callable[[Any], Any]:
    def mark(method: Any) -> Any:
        method.weight, method.states, method.is_hard = weight, frozenset(states), is_hard
        return method
    return mark


class Actor(threading.Thread):
    user = "postgres"
    rest = 0.3  # seconds between two actions, at most
    is_odd = False  # whether its sessions have settings that no other session has, which may decide nothing
    may_forget = False  # whether a crash may take what its sessions have committed, but for what is handed out or erased

    def __init__(self, world: World, of: Set, name: str) -> None:
        super().__init__(name=f"{name}, {of}", daemon=True)
        self.world, self.of = world, of
        self.dice = random.Random(f"{world.seed} {self.name}")
        self.connection: Connection | None = None
        self.last_answer = time.monotonic()
        self.recent: deque[str] = deque(maxlen=12)
        self.is_resting = threading.Event()
        self.actions = [getattr(self, name) for name in sorted(dir(type(self))) if hasattr(getattr(type(self), name), "weight")]

    # Its life

    def run(self) -> None:
        while not self.world.ended.is_set():
            if self.world.pausing.is_set():
                self.is_resting.set()
                time.sleep(0.02)
                # It asks nothing, however long the look at everything takes.
                self.last_answer = time.monotonic()
                continue
            self.is_resting.clear()
            if self.world.pausing.is_set():
                continue
            self.act()
            time.sleep(self.dice.random() * self.rest)
        self.is_resting.set()
        self.disconnect()

    def act(self) -> None:
        possible = [method for method in self.actions if self.world.is_hard or not method.is_hard]
        chosen = self.dice.choices(possible, [method.weight for method in possible])[0]
        self.note(chosen.__name__)
        began = time.monotonic()
        try:
            try:
                if self.is_odd and self.dice.random() < 0.1:
                    self.set_some()
                chosen()
                self.last_answer = time.monotonic()
                self.world.count(f"{type(self).__name__}.{chosen.__name__}")
            finally:
                self.leave_transaction()
        except Wrong as wrong:
            self.world.fail(f"{self.name}, {chosen.__name__}: {wrong}")
        except psycopg.Error as error:
            self.judge(error, chosen)
        except Exception:
            self.world.fail(f"{self.name}, {chosen.__name__}: {traceback.format_exc()}")
        self.recent[-1] += f" {time.monotonic() - began:.2f} s" if self.recent else ""

    def judge(self, error: psycopg.Error, chosen: Any) -> None:
        self.note(f"{error.sqlstate} {str(error).splitlines()[0] if str(error) else error!r}")
        is_cut_off = error.sqlstate in CUT_OFF or (error.sqlstate is None and (self.connection is None or self.connection.closed))
        if is_cut_off:
            self.disconnect()
            must_answer = time.monotonic() - self.last_answer < 90 or self.world.pausing.is_set()
            if not must_answer:
                self.world.fail(f"{self.name}: the server has not answered for 90 s: {error}")
            self.world.count("connections lost")
            time.sleep(0.1)
        elif error.sqlstate in CROSSED or PUBLICATION_GONE in str(error) or error.sqlstate in chosen.states or (error.sqlstate == "42501" and self.user in MEMBERS):
            self.world.count(f"{type(self).__name__}.{chosen.__name__} → {error.sqlstate}")
        else:
            self.world.fail(f"{self.name}, {chosen.__name__}: {error.sqlstate} {error}\n{''.join(traceback.format_exception(error))[-1500:]}")

    def note(self, what: str) -> None:
        self.recent.append(f"{time.strftime('%H:%M:%S')} {what}")

    # Its connection

    @property
    def db(self) -> Connection:
        db = self.connection
        if db is None or db.closed or db.info.dbname != (self.of.database or self.world.database):
            self.disconnect()
            try:
                settings = self.some_settings() if self.is_odd and self.dice.random() < 0.5 else {}
                if self.may_forget and self.dice.random() < 0.5:
                    settings["synchronous_commit"] = "off"
                self.note(f"connects {settings or ''}")
                db = self.world.connect(self.user, self.name, self.of, settings=settings)
            except psycopg.OperationalError as error:
                # A role may have another name by now, or may not log in; the server may be down.
                self.note(f"no connection: {error}")
                raise psycopg.errors.ConnectionException(str(error)) from error
            self.connection, self.last_answer = db, time.monotonic()
        return db

    def some_settings(self) -> dict[str, str]:
        possible = [(name, to) for name, to, context in self.world.unusual if context == "user" or self.user == "postgres"]
        return dict(self.dice.sample(possible, self.dice.randint(1, 6)))

    def set_some(self, how: str = "set session") -> None:
        """For the session, or for a transaction; or none from now on."""
        if how == "set session" and self.dice.random() < 0.3:
            self.execute("reset all")
        for name, to in self.some_settings().items():
            self.execute(f"{how} {name} = {literal_for_psycopg(to)}")

    def disconnect(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.connection = None

    def leave_transaction(self) -> None:
        db = self.connection
        if db is not None and not db.closed and db.info.transaction_status not in (TransactionStatus.IDLE, TransactionStatus.UNKNOWN):
            db.rollback()

    def execute(self, query: str, *args: object) -> Any:
        query = self.of(query)
        self.note(f"{query.strip()[:150]} {args if args else ''}"[:300])
        return self.db.execute(query, args or None)  # type: ignore[call-overload]

    def rows(self, query: str, *args: object) -> list[Row]:
        return self.execute(query, *args).fetchall()  # type: ignore[no-any-return]

    def value(self, query: str, *args: object) -> Any:
        row = self.execute(query, *args).fetchone()
        return next(iter(row.values())) if row else None

    def some(self, query: str, *args: object) -> Row | None:
        """One of the rows, by the dice."""
        found = self.rows(query, *args)
        return self.dice.choice(found) if found else None

    def sleep(self, seconds: float) -> None:
        """Waits, but holds up no pause. (What an actor has damaged stays so where a pause begins: that is where it is mended.)"""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.world.pausing.is_set() and not self.world.ended.is_set():
            time.sleep(0.02)

    def segment(self, condition: str = "true") -> Row | None:
        """One of all but the victim's: what is done to that one would not be the hostile role's doing."""
        return self.some(f"select * from {{segments}} where actual_end = 'infinity' and name <> 'victim' and ({condition}) order by id")

    def write(self, statement: str, *args: object) -> None:
        """A statement in autocommit, or in a transaction that does not come to its end."""
        if self.dice.random() < 0.1:
            self.execute("begin")
            self.execute(statement, *args)
            self.sleep(self.dice.random())
            self.execute("rollback")
        else:
            self.execute(statement, *args)


# --- The sources ----------------------------------------------------------------------

class DataChanger(Actor):
    user = "loader"
    rest = 0.2
    is_odd = True
    may_forget = True

    def change(self, most: int) -> None:
        """A statement that concerns some people."""
        dice, many = self.dice, self.dice.randint(1, most)
        begin = dice.randint(1, 2000)
        some = f"id between {begin} and {begin + many}"
        kind = dice.choices(["insert", "email", "phone", "city", "spent", "leave", "delete", "order", "amount", "unorder", "visit", "visits", "moved"], [5, 3, 2, 4, 2, 3, 1, 4, 3, 2, 2, 3, 2])[0]
        if kind == "insert":
            people = [(next(self.world.ids), dice.randrange(CITIES)) for _ in range(min(many, 40))]
            self.execute("insert into shop.people (id, email, phone, city, spent) values " + ", ".join(
                f"({id}, 'p{id}@example.org', '{id % 7}', {city}, {id}.5)" for id, city in people))
        elif kind == "order":
            self.execute("insert into shop.orders select g, g % 100 from generate_series(%s::int, %s::int) g".replace("% 100", "%% 100"), begin, begin + many)
        elif kind == "visit":
            place = self.dice.choice(["visits", "visits_far", "visits_good"])
            self.execute(f"insert into shop.{place} select g, 2 + g %% 2, 50 + g %% 50 from generate_series(%s::int, %s::int) g", begin, begin + many)
        elif kind == "visits":
            place = self.dice.choice(["visits", "visits_far", "visits_good"])
            self.execute(dice.choice([f"update shop.{place} set customer_id = customer_id + 1 where customer_{some}", f"delete from shop.{place} where customer_{some} and stars % 3 = 0"]))
        elif kind == "moved":
            # From one partition to another one.
            self.execute(dice.choice([f"update shop.visits set place = (place + 1) % 4 where customer_{some}", f"update shop.visits_far set stars = (stars + 30) % 100 where customer_{some}"]))
        elif kind == "amount":
            self.execute(f"update shop.orders set amount = (amount + 13) % 100 where customer_{some}")
        elif kind == "unorder":
            self.execute(f"delete from shop.orders where customer_{some} and amount < {dice.randrange(50)}")
        elif kind == "delete":
            self.execute(f"delete from shop.people where id between {begin} and {begin + min(many, 20)}")
        else:
            change = {"email": f"email = '{dice.randrange(1000)}.' || id", "phone": f"phone = nullif('{dice.randrange(5)}', '0')",
                      "city": f"city = (city + {dice.randint(1, 5)}) % {CITIES}", "spent": "spent = spent + 0.1", "leave": "is_left = not is_left"}[kind]
            self.execute(f"update shop.people set {change}, updated_at = clock_timestamp() where {some}")

    @action(12)
    def small(self) -> None:
        self.change(20)

    @action(1)
    def big(self) -> None:
        self.change(700)

    @action(2)
    def rolled_back(self) -> None:
        self.execute("begin")
        self.change(300)
        self.execute("savepoint s")
        self.change(30)
        self.execute("rollback to s" if self.dice.random() < 0.5 else "release s")
        self.execute("rollback")

    @action(2)
    def long(self) -> None:
        self.execute("begin")
        for _ in range(self.dice.randint(2, 4)):
            self.change(10)
            self.sleep(self.dice.random())
        self.execute("commit" if self.dice.random() < 0.7 else "rollback")

    @action(1)
    def prepared(self) -> None:
        gid = f"{self.name} {self.dice.getrandbits(60)}"
        self.execute("begin")
        self.change(30)
        self.execute(f"prepare transaction '{gid}'")
        self.sleep(self.dice.random() * 2)
        self.execute(f"{self.dice.choice(['commit', 'commit', 'rollback'])} prepared '{gid}'")

    @action(0.1)
    def truncate(self) -> None:
        self.write(f"truncate shop.{self.dice.choice(['orders', 'visits', 'visits_far'])}")


# --- Config ---------------------------------------------------------------------------

class ConfigChanger(Actor):
    """As one of the owners, for segments of its own."""
    is_odd = True
    may_forget = True

    def __init__(self, world: World, of: Set, user: str) -> None:
        super().__init__(world, of, f"config of {user}")
        self.user = user
        self.made = 0

    def own(self, condition: str = "true") -> Row | None:
        return self.segment(f"owner = quote_ident(current_user)::regrole and name <> 'odd' and ({condition})")

    def way(self, name: str) -> str:
        return SEGMENTS[name][3] if name in SEGMENTS else "query"

    @action(5)
    def query(self) -> None:
        if segment := self.own(f"name !~ '^(reading|{OF_FAMILIES})'"):
            query = make_query(self.dice, self.way(segment["name"]), self.of)
            params = refresher(self.way(segment["name"]), query, segment["id"], self.of)
            self.write("update {segments} set context = %s, refresh_params = %s where id = %s", query, Jsonb(params), segment["id"])

    @action(2)
    def query_of_family(self) -> None:
        if segment := self.own(f"name = any ('{{{', '.join(FAMILIES)}}}')"):
            way = self.way(segment["name"])
            query = make_query(self.dice, way, self.of)
            with self.db.transaction():
                self.execute("update {segments} set context = %s, refresh_params = %s where id = %s", query, Jsonb(refresher(way, query, segment["id"], self.of)), segment["id"])
                for name, spec in SEGMENTS.items():
                    if spec[3] == f"of {segment['name']}":
                        self.execute("update {segments} set context = %s where name = %s", query_of_member(query, name), name)

    @action(1, "2BP01")
    def retire_family(self) -> None:
        """Not before its segments."""
        with self.db.transaction(force_rollback=True):
            if (segment := self.own(f"name = any ('{{{', '.join(FAMILIES)}}}')")) and self.rows("select from {segments} where refresh_params ->> 'family' = %s and actual_end = 'infinity'", segment["name"]):
                done = self.execute("update {segments} set actual_end = now() where id = %s", segment["id"])
                must(not done.rowcount, "a family was retired before its segments", segment["name"])

    @action(2)
    def way_of_refreshing(self) -> None:
        """As a query, and back."""
        if segment := self.own("name in ('watching', 'watching too', 'dated', 'kept 2', 'called')"):
            way = self.dice.choice(["query", self.way(segment["name"])])
            params = refresher(way, segment["context"], segment["id"], self.of)
            self.write("update {segments} set refresh_params = %s where id = %s", Jsonb(params), segment["id"])

    @action(3)
    def schedule(self) -> None:
        if segment := self.own():
            cron, zone = self.dice.choice([None, "1 second", "2 seconds", "@yearly", "*/5 * * * *"]), self.dice.choice([None, "Europe/Berlin"])
            self.write("update {segments} set refresh_auto = %s, refresh_cron = %s, refresh_timezone = %s where id = %s",
                       self.dice.random() < 0.7, cron, zone, segment["id"])

    @action(1)
    def guards(self) -> None:
        if segment := self.own():
            guards = self.dice.choice([{}, {"allow_empty": True}, {"max_change": 0.05}, {"max_added": 3, "max_removed": 3}, {"min_members": 100000}])
            self.write("update {segments} set guards = %s where id = %s", Jsonb(guards), segment["id"])

    @action(1)
    def sources(self) -> None:
        if segment := self.own():
            sources = self.dice.choice([[], [{"table": "shop.people", "min_rows": 10}], [{"table": "shop.people", "min_rows": 10**7}],
                                        [{"name": "never", "ready": "select false"}], [{"table": "shop.nowhere", "min_rows": 1}]])
            self.write("update {segments} set sources = %s where id = %s", Jsonb(sources), segment["id"])

    @action(2)
    def nonsense(self) -> None:
        """What must be refused, and said."""
        if segment := self.own():
            change = self.dice.choice(["refresh_cron = '61 * * * *'", "refresh_cron = 'soon'", "refresh_timezone = 'Mars/Olympus'", "guards = '{\"max_removd\": 1}'",
                                       "refresh_params = '{\"query\": 1}'", "refresh_params = '{\"incremental\": {\"sql\": \"select 1\"}}'", "sources = '[{}]'",
                                       "id = gen_random_uuid()", "owner = 'postgres'"])
            try:
                done = self.execute(f"update {{segments}} set {change} where id = %s", segment["id"])
            except psycopg.Error as error:
                if error.sqlstate not in ("22023", "42501"):
                    raise
            else:
                must(not done.rowcount, "it was not refused", change)

    @action(1)
    def broken(self) -> None:
        """A query that fails when it is run."""
        if segment := self.own(f"name !~ '^(reading|{OF_FAMILIES})'"):
            self.world.broken.add(segment["name"])
            query = self.dice.choice(["select id from shop.nowhere", "select 1 / 0 as id", "select 1 as id union all select 1", "select 1 as id, 2 as wrong"])
            self.execute("update {segments} set refresh_params = %s where id = %s", Jsonb({"query": {"sql": query}}), segment["id"])
            self.sleep(1)
            if self.world.pausing.is_set():
                return
            params = refresher(self.way(segment["name"]), segment["context"], segment["id"], self.of)
            self.execute("update {segments} set context = %s, refresh_params = %s where id = %s", segment["context"], Jsonb(params), segment["id"])

    # Its query may read what is away; see SourceBreaker.
    @action(1.5, "42501", "42P01")
    def create(self) -> None:
        count = self.value("select count(*) from {segments} where name like 'made%%'")
        if count < 8:
            self.made += 1
            name = f"made {self.user} {self.world.restored} {self.made} {self.dice.getrandbits(30)}"
            query = make_query(self.dice, "query", self.of)
            with self.db.transaction():
                id = self.value("select segmenter_create_segment(%s, %s, %s, %s, %s)", name, query, self.dice.choice([None, "1 second"]),
                                self.of(f'{{home}}."{name}"'), self.dice.random() < 0.5)
                self.execute("update {segments} set context = %s, guards = '{\"allow_empty\": true}' where id = %s", query, id)
                if self.dice.random() < 0.1:
                    raise psycopg.Rollback()

    @action(1, "42501", "23503")
    def drop(self) -> None:
        if segment := self.some("select * from {segments} where name like 'made%%' and owner = quote_ident(current_user)::regrole order by id"):
            with self.db.transaction():
                self.execute("delete from {subscriptions} where segment_id = %s", segment["id"])
                self.execute("delete from {segments} where id = %s", segment["id"])
                self.execute(f"drop table {self.of.home}.\"{segment['name']}\"")

    @action(1, "23503")
    def drop_followed(self) -> None:
        """Followed segments stay."""
        if segment := self.own("name like 'made%%' and exists (select from {subscriptions} u where u.segment_id = {segments}.id)"):
            self.execute("delete from {segments} where id = %s", segment["id"])

    @action(1.5, "42P16")
    def retire(self) -> None:
        """One that others read is refused, unless that is meant."""
        if segment := self.own(f"name <> all ('{{{', '.join(FAMILIES)}}}')"):
            is_read = segment["name"] in READ or segment["name"] in LISTS
            if is_read and self.dice.random() < 0.5:
                self.execute("begin")
                self.execute("set local segmenter.force_retire = on")
                self.execute("update {segments} set actual_end = now() where id = %s", segment["id"])
                self.execute("commit")
                return
            try:
                self.write("update {segments} set actual_end = now() where id = %s", segment["id"])
            except psycopg.errors.DependentObjectsStillExist:
                must(is_read, "a segment that nobody reads, or leaves out the members of, cannot be retired", segment["name"])

    # Another segment may have its name, its table or its priority by now, or a list of it was retired or may not be read.
    @action(3, "23505", "42P16", "22023", "42704", "42501")
    def revive(self) -> None:
        if segment := self.some("select * from {segments} where actual_end <> 'infinity' order by id"):
            self.write("update {segments} set actual_end = 'infinity' where id = %s", segment["id"])


class SubscriptionChanger(Actor):
    """With more rights than others, or as the segments' owner."""
    is_odd = True
    may_forget = True

    def __init__(self, world: World, of: Set, user: str, audiences: Audiences) -> None:
        super().__init__(world, of, f"subscriptions of {user}")
        self.user, self.audiences = user, audiences

    def subscription(self, condition: str = "true") -> Row | None:
        return self.some(f"""select u.*, g.name as segment from {{subscriptions}} u join {{segments}} g on g.id = u.segment_id
            where {condition} and g.name !~ '^(victim|hostile)' and pg_has_role(g.owner, 'member') order by u.id""")

    def params(self) -> Row:
        params: Row = {"batch_size": self.dice.choice([7, 50, 200, 10000])}
        if self.dice.random() < 0.2:
            params["mode"] = "replace"
        if self.dice.random() < 0.4:
            params["fields"] = self.dice.choice([["id"], ["id", "hash_email", "city", "spent"], {"id": "key", "hash_phone": "phone"}])
        if self.dice.random() < 0.3:
            params["where"] = self.dice.choice(list(FILTERS))
        if self.dice.random() < 0.2:
            params |= self.dice.choice([{"paused": True}, {"min_members": 200}, {"min_members": 100000}])
        return params

    # The condition is analysed as the segment's owner, whose rights may be gone.
    @action(4, "23505", "42704", "23503", "42501")
    def subscribe(self) -> None:
        if segment := self.segment():
            if segment["name"].startswith("hostile"):
                return
            consumer, target = self.dice.choice(list(CONSUMERS)), self.dice.choice(["first", "second"])
            # Whom they may not see they would make anew.
            if self.value("select count(*) from {consumers} where name = %s and actual_end = 'infinity'", consumer):
                self.write("select segmenter_subscribe(%s, %s, %s, %s)", consumer, segment["name"], target, Jsonb(self.params()))

    @action(2)
    def end(self) -> None:
        if found := self.subscription("u.actual_end = 'infinity'"):
            self.write("update {subscriptions} set actual_end = now() where id = %s", found["id"])

    @action(3, "23505", "42501")
    def revive(self) -> None:
        if found := self.subscription("u.actual_end <> 'infinity'"):
            self.write("update {subscriptions} set actual_end = 'infinity' where id = %s", found["id"])

    @action(2, "42501")
    def change(self) -> None:
        if found := self.subscription("u.actual_end = 'infinity'"):
            self.write("update {subscriptions} set params = %s, cron = %s where id = %s", Jsonb(self.params()),
                       self.dice.choice([None, None, "1 second"]), found["id"])

    @action(1, "22023")
    def passing_field(self) -> None:
        """A column that will be dropped some time: then it cannot be handed over, and others must not suffer."""
        if found := self.some("""select u.id, a.attname::text as column from {subscriptions} u join {segments} g on g.id = u.segment_id and pg_has_role(g.owner, 'member')
                join pg_attribute a on a.attrelid = g.table_name and a.attname like 'extra%%' order by 1, 2"""):
            self.execute("update {subscriptions} set params = %s where id = %s", Jsonb({"fields": ["id", found["column"]]}), found["id"])

    @action(1)
    def nonsense(self) -> None:
        if found := self.subscription():
            params = self.dice.choice(["[]", '{"mode": "some"}', '{"batch_size": 0}', '{"fields": []}', '{"fields": ["id", "segment_id"]}', '{"filds": 1}'])
            try:
                done = self.execute("update {subscriptions} set params = %s where id = %s", params, found["id"])
            except psycopg.errors.InvalidParameterValue:
                pass
            else:
                must(not done.rowcount, "it was not refused", params)

    @action(0.7)
    def delete(self) -> None:
        if found := self.subscription():
            self.write("delete from {subscriptions} where id = %s", found["id"])

    @action(2, "55000", "42703", "42704", "42501", "42P16")
    def resync(self) -> None:
        if found := self.subscription("u.actual_end = 'infinity'"):
            # What waits is dropped, though somebody may have applied it by now.
            with self.audiences.dropping(found["id"], lambda: self.newest(found["id"])), self.db.transaction():
                if self.dice.random() < 0.3:
                    self.value("select segmenter_skip(%s)", found["id"])
                self.value("select segmenter_resync(%s)", found["id"])

    def newest(self, subscription: uuid.UUID) -> int | None:
        """Its newest message, which a member of the owner's role may not see any more."""
        try:
            with self.world.connect(name=self.name, of=self.of) as db:
                return value(db, self.of("select max(id) from {outbox} where subscription_id = %s"), subscription)  # type: ignore[no-any-return]
        except psycopg.OperationalError as error:
            raise error if error.sqlstate else psycopg.errors.ConnectionException(str(error)) from error

    @action(2, "42704")
    def retry(self) -> None:
        if found := self.subscription("u.status = 'failed'") or self.subscription():
            with self.audiences.ending_leases(found["id"]):
                self.value("select segmenter_retry(%s)", found["id"])

    @action(0.5)
    def consumer(self) -> None:
        """Retired for a while."""
        if self.user == "postgres":
            name = self.dice.choice(list(CONSUMERS))
            self.execute("update {consumers} set actual_end = now() where name = %s", name)
            self.sleep(self.dice.random() * 2)
            self.execute("update {consumers} set actual_end = 'infinity' where name = %s", name)


class RoleChanger(Actor):
    rest = 2.0

    @action(2)
    def rename(self) -> None:
        role = self.dice.choice(ROLES)
        now = self.world.roles[role]
        then = role if now != role else f"{role}, the {self.dice.choice(['2nd', '3rd'])}"
        self.execute(f'alter role "{now}" rename to "{then}"')
        self.world.roles[role] = then

    # Of PostgreSQL, where a vacuum writes to the table's row of the catalogue at the same time.
    @action(2, "XX000")
    def revoke(self) -> None:
        """Segments fail for want of a right, and are well again."""
        role = self.world.roles[self.dice.choice(["anna", "boris"])]
        what = self.dice.choice(["select on shop.people", "select on shop.orders", "usage on schema shop", f"usage on schema {self.of.home}"])
        self.execute(f'revoke {what} from "{role}"')
        self.sleep(1.5)
        if not self.world.pausing.is_set():
            self.execute(f'grant {what} to "{role}"')

    @action(1)
    def login(self) -> None:
        role = self.world.roles[self.dice.choice(["anna", "boris", "crm"])]
        self.execute(f'alter role "{role}" nologin')
        self.sleep(1)
        if not self.world.pausing.is_set():
            self.execute(f'alter role "{role}" login')

    # A policy may hide the table's rows from the new owner; a list may be retired, a group be of other roles.
    @action(1, "42501", "42704", "22023")
    def owner(self) -> None:
        if segment := self.segment(f"name !~ '^(hostile|odd|{OF_FAMILIES})'"):
            role = self.world.roles[self.dice.choice(["anna", "boris"])]
            self.execute("update {segments} set owner = quote_ident(%s)::regrole where id = %s", role, segment["id"])


class MembershipChanger(Actor):
    """Grants and revokes memberships in the owners' roles, all the time: a right may go at any moment of a refresh."""
    rest = 0.1

    def pair(self) -> tuple[str, str]:
        owner = self.dice.choice(["anna", "boris"])
        # Each of the owners in the role of the other one, but not both.
        others = [*CALLERS, *CALLERS, "boris" if owner == "anna" else "anna"]
        return self.world.roles[owner], self.world.roles[self.dice.choice(others)]

    # A role may have been renamed in between; a membership would be a cycle.
    @action(4, "42704", "0LP01")
    def grant(self) -> None:
        owner, member = self.pair()
        self.execute(f'grant "{owner}" to "{member}"')

    @action(3, "42704")
    def revoke(self) -> None:
        owner, member = self.pair()
        self.execute(f'revoke "{owner}" from "{member}"')

    @action(3, "42704", "0LP01")
    def for_a_moment(self) -> None:
        owner, member = self.pair()
        self.execute(f'revoke "{owner}" from "{member}"')
        self.sleep(self.dice.random() * 0.1)
        self.execute(f'grant "{owner}" to "{member}"')

    @action(1, "42704", "0LP01")
    def not_at_all(self) -> None:
        owner, member = self.pair()
        self.execute("begin")
        self.execute(f'revoke "{owner}" from "{member}"')
        self.sleep(self.dice.random() * 0.1)
        self.execute("rollback")


class TableChanger(Actor):
    rest = 0.6

    def table(self) -> str:
        return f"{self.of.home}.{self.dice.choice([table for _, table, _, _ in SEGMENTS.values()])}"

    @action(1, "42P07")
    def index(self) -> None:
        table = self.table()
        self.write(f"create index {table.split('.')[1]}_more on {table} (city, id)")

    @action(1, "42704")
    def unindex(self) -> None:
        self.write(f"drop index {self.table()}_more")

    @action(1, "42701")
    def column(self) -> None:
        self.write(f"alter table {self.table()} add extra_{self.dice.randrange(3)} int default 7")

    @action(1, "42703")
    def uncolumn(self) -> None:
        self.write(f"alter table {self.table()} drop extra_{self.dice.randrange(3)}")

    @action(0.5)
    def key(self) -> None:
        """Without its unique index the table holds no segment."""
        name = self.dice.choice(["latest", "history", "shared", "dated"])
        _, table, keeps, _ = next(spec for spec in SEGMENTS.values() if spec[1] == name)
        self.world.broken.update(segment for segment, spec in SEGMENTS.items() if spec[1] == name)
        # Those that leave out its members cannot read them, either.
        self.world.broken.update(GROUP if name in GROUP else ())
        self.execute(f"drop index if exists {{home}}.{table}_key")
        self.sleep(0.5)
        if not self.world.pausing.is_set():
            self.put_key_back(table, keeps)

    def put_key_back(self, table: str, keeps: bool) -> None:
        key = "segment_id, id" if table == "shared" else "id"
        only = " where actual_end = 'infinity'" if keeps else ""
        self.execute(f"create unique index if not exists {table}_key on {{home}}.{table} ({key}){only}")

    @action(0.7)
    def pack(self) -> None:
        table = self.dice.choice([self.table(), self.table(), "shop.people", self.of("{outbox}"), self.of("{log}")])
        try:
            self.execute(f"vacuum (full, analyze) {table}")
        except psycopg.errors.DataCorrupted as error:
            # VACUUM FULL copies dead rows that are not dead for everybody, and a vacuum may have taken their long values
            # before, where it reckoned with fewer transactions. What is alive has to be whole.
            if "missing chunk number" not in str(error):
                raise
            self.execute(f"select sum(length(t::text)) from {table} t")
            self.world.count("dead rows that VACUUM FULL could not copy")

    @action(1)
    def vacuum(self) -> None:
        self.execute(f"vacuum (analyze) {self.dice.choice([self.table(), 'shop.people', 'shop.orders', self.of('{outbox}'), self.of('{deliveries}')])}")

    @action(0.7)
    def reindex(self) -> None:
        """Not concurrently where rows meet a key: PostgreSQL may then not find the index that ON CONFLICT names."""
        how = self.dice.choice([f"table {self.table()}", "table concurrently {log}", "table concurrently {outbox}", "table {subscriptions}"])
        self.execute(f"reindex {how}")


# --- Refreshes ------------------------------------------------------------------------

class Refresher(Actor):
    is_odd = True
    may_forget = True

    def __init__(self, world: World, of: Set, user: str) -> None:
        super().__init__(world, of, f"refreshes of {user}")
        self.user = user

    def refresh(self) -> None:
        if segment := self.segment():
            kind = self.dice.choices(["", ", dry_run => true", ", force => true", ", \"full\" => true", ", {}"], [6, 1, 1, 1, 1])[0]
            if segment["name"] in FAMILIES and "{}" in kind:
                kind = ""
            # Somebody who has all those of a city by hand; its own query has the last word.
            by_hand = "select p.id, md5(p.email) as hash_email, p.phone as hash_phone, p.city, p.spent from shop.people p where p.id % 7 = 3"
            row = self.execute(f"select * from segmenter_refresh(%s{kind.replace('{}', literal_for_psycopg(by_hand))})", segment["name"]).fetchone()
            must(row["status"] in ("ok", "refused", "failed", "waiting"), "a refresh", row)
            self.world.count(f"refreshes by hand: {row['status']}")

    @action(8, "42704")
    def by_hand(self) -> None:
        self.refresh()

    @action(1, "42704", "25006", "25P02")
    def in_a_transaction(self) -> None:
        self.execute("begin isolation level " + self.dice.choice(["read committed", "read committed", "repeatable read", "serializable"]))
        for _ in range(self.dice.randint(1, 3)):
            if self.dice.random() < 0.3:
                self.set_some("set local")
            self.refresh()
        self.sleep(self.dice.random())
        self.execute(self.dice.choice(["commit", "commit", "rollback"]))

    @action(2, "42704", "25006", "25P02", "42501")
    def under_settings(self) -> None:
        """Of the transaction; those too under which nothing else here would go on."""
        if segment := self.segment():
            self.execute("begin")
            self.set_some("set local")
            odd = [("search_path", to) for to in ("", "shop", "nowhere", f"pg_temp, shop, {self.of.home}")] + [("row_security", "off")]
            if self.user == "postgres":
                odd += [("session_replication_role", to) for to in ("replica", "local")]
            for name, to in self.dice.sample(odd, 2):
                self.execute(f"set local {name} = {literal_for_psycopg(to)}" if to else f"set local {name} = ''")
            extension = self.dice.choice(["public.segmenter_refresh", "public.segmenter_refresh", "public.segmenter_run", "public.segmenter_due"])
            self.rows(f"select * from {extension}(" + ("%s)" if extension.endswith("refresh") else ")"), *[segment["name"]] * extension.endswith("refresh"))
            self.execute(self.dice.choice(["commit", "commit", "rollback"]))

    @action(2)
    def run_all(self) -> None:
        self.rows("select * from segmenter_run()")

    @action(2)
    def run_each(self) -> None:
        self.execute("call segmenter_run_each()")

    @action(1)
    def look(self) -> None:
        self.rows(self.dice.choice(["select * from {status}", "select * from segmenter_due()", "select * from segmenter_doctor()",
                                    "select segment_id, count(*) from {mart} where actual_end = 'infinity' group by 1"]))

    @action(0.5)
    def prune(self) -> None:
        self.execute("select segmenter_prune()")

    @action(0.5, "42P16", "42501")
    def erase(self) -> None:
        """Somebody, by whom may erase everybody; from the sources first."""
        if self.user == "postgres" and (person := self.some("select id from shop.people where id > 50 order by id")):
            id = str(person["id"])
            # Known before others can meet what comes of it.
            self.world.erased.add(id)
            self.execute("delete from shop.people where id = %s", person["id"])
            self.execute("delete from shop.orders where customer_id = %s", person["id"])
            # A table that is altered meanwhile, or a deadlock, fails one segment.
            if all(row["status"] == "ok" for row in self.rows("select * from segmenter_erase(%s)", id)):
                self.world.surely_erased[str(self.of)].add(id)


class Caller(Refresher):
    """Refreshes segments of others, as long as it is a member of their roles."""
    rest = 0.1

    @action(8, "42704")
    def one_of_them(self) -> None:
        """One that it has seen, though it may not see it any more."""
        name = self.dice.choice(list(SEGMENTS))
        row = self.execute("select * from segmenter_refresh(%s)", name).fetchone()
        must(row["status"] in ("ok", "refused", "failed", "waiting"), "a refresh", row)
        self.world.count(f"refreshes by callers: {row['status']}")


class Forgetter(Actor):
    """Truncates the log, at any moment: nothing changes by it but what can be read."""
    rest = 3.0
    is_odd = True

    def forget(self) -> None:
        self.execute("truncate {log}")
        # What was written before may be told of by nothing. (Who writes to the log lets nobody truncate it.)
        sequence = self.value("select pg_get_serial_sequence(%s, 'id')", self.of.names["outbox"])
        last = self.value(f"select greatest(last_value, (select max(id) from {{outbox}})) from {sequence}")
        self.world.forgotten[str(self.of)] = max(last, self.world.forgotten[str(self.of)])

    @action(4)
    def truncate(self) -> None:
        with self.db.transaction():
            self.forget()

    @action(1)
    def not_at_all(self) -> None:
        self.execute("begin")
        self.forget()
        self.sleep(self.dice.random() * 0.5)
        self.execute("rollback")

    @action(2)
    def within_a_refresh(self) -> None:
        """Before or after it, in its transaction."""
        if segment := self.segment():
            with self.db.transaction():
                if self.dice.random() < 0.5:
                    self.forget()
                self.rows("select * from segmenter_refresh(%s)", segment["name"])
                self.forget()


def literal_for_psycopg(query: str) -> str:
    return "'" + query.replace("'", "''").replace("%", "%%") + "'"


class Steady(Refresher):
    """A session that lives long, whose memory is looked at, as that of the scheduler is."""
    rest = 0.05
    is_odd = False

    def __init__(self, world: World, of: Set) -> None:
        super().__init__(world, of, "postgres")
        self.name = f"steady, {of}"
        self.dice = random.Random(f"{world.seed} {self.name}")
        self.acts = 0

    def act(self) -> None:
        super().act()
        self.acts += 1
        if self.acts % 15 == 0 and self.connection is not None and not self.connection.closed:
            try:
                self.measure()
            except psycopg.Error as error:
                self.judge(error, self.look)

    def measure(self) -> None:
        pid = self.db.info.backend_pid
        memory = self.world.memory
        memory[f"contexts of session {pid}, kB"].append(float(value(self.db, "select sum(total_bytes) / 1024 from pg_backend_memory_contexts")))
        memory[f"session {pid}, kB"].append(resident(pid))
        for row in rows(self.db, "select pid, backend_type from pg_stat_activity where backend_type in ('segmenter scheduler', 'segmenter launcher')"):
            memory[f"{row['backend_type']} {row['pid']}, kB"].append(resident(row["pid"]))


def resident(pid: int) -> float:
    """Memory of the process's own."""
    try:
        with open(f"/proc/{pid}/status") as status:
            return next((float(line.split()[1]) for line in status if line.startswith("RssAnon:")), 0.0)
    except FileNotFoundError:
        return 0.0


# --- Consumers ------------------------------------------------------------------------

# What a consumer may answer that is no receipt.
ODD_RECEIPTS = ("[]", "7", "null", '"done"', '{"num_received": -1}', '{"num_received": 1e400}', '{"num_received": 99999999999999999999}', '{"num_invalid": 1.5}',
                '{"external_id": {"id": 1}}', '{"message": ["done"]}', '{"coverage": "many"}', "[" * 300 + "]" * 300, '{"a": ' + "[" * 300 + "]" * 300 + "}",
                '{"a": "' + "x" * 70000 + '"}')


class Claimer(Actor):
    """One of several who claim for a consumer."""
    user = "crm"
    rest = 0.15
    is_odd = True
    may_forget = True

    def __init__(self, world: World, of: Set, consumer: str, number: int, audiences: Audiences) -> None:
        super().__init__(world, of, f"claimer {number} of {consumer}")
        self.consumer, self.audiences = consumer, audiences

    def claim(self, most: int, seconds: float) -> list[Row]:
        return claim(self.db, self.audiences, self.consumer, most, seconds)

    def answer(self, query: str, message: Row, is_last: bool, *args: object) -> bool:
        """Whether the message was still ours."""
        settled = self.audiences.settled
        held_until = self.audiences.answering(message, is_last)
        try:
            self.execute(query, message["lease"], message["message_id"], *args)
            return True
        except psycopg.errors.ObjectNotInPrerequisiteState:
            # Unless the subscription was deleted.
            is_there = self.value("select count(*) from {subscriptions} where id = %s", message["subscription_id"])
            must(not is_there or not self.audiences.refused(message, held_until, settled), "a lease that is good was refused",
                 message["lease"], message["message_id"], message["subscription_id"])
            self.world.count("leases lost")
            return False

    def ack(self, message: Row, is_last: bool) -> None:
        receipt = {"external_id": str(message["subscription_id"]), "num_received": len(message["payload"]["members"])}
        if self.answer("select segmenter_ack(%s, %s, %s)", message, is_last, Jsonb(receipt)):
            self.audiences.acked(message)
            self.world.count("messages acknowledged")

    @action(8)
    def all_at_once(self) -> None:
        if messages := self.claim(self.dice.randint(1, 20), 5):
            for message in messages:
                self.audiences.apply(message)
            self.ack(messages[-1], True)

    @action(4)
    def one_by_one(self) -> None:
        messages = self.claim(self.dice.randint(1, 5), 5)
        for message in messages:
            self.audiences.apply(message)
            self.ack(message, message is messages[-1])
            self.sleep(self.dice.random() * 0.05)

    @action(1)
    def give_back(self) -> None:
        """Some of them, or all; some may have been applied all the same."""
        if messages := self.claim(self.dice.randint(1, 5), 5):
            done = self.dice.randrange(len(messages))
            for message in messages[:done]:
                self.audiences.apply(message)
                self.ack(message, False)
            if self.dice.random() < 0.5:
                self.audiences.apply(messages[done])
            self.answer("select segmenter_nack(%s, %s, %s, %s)", messages[done], True, "no", self.dice.choice([None, "0 s", "1 s"]))

    @action(1)
    def odd_receipt(self) -> None:
        """What is no receipt is refused as that, and the message stays with its lease."""
        if messages := self.claim(self.dice.randint(1, 5), 5):
            for message in messages:
                self.audiences.apply(message)
            odd = self.dice.choice(ODD_RECEIPTS)
            try:
                is_ours = self.answer("select segmenter_ack(%s, %s, %s)", messages[-1], False, odd)
            except psycopg.errors.InvalidParameterValue:
                self.world.count("receipts that were refused")
                self.ack(messages[-1], True)
            else:
                must(not is_ours, "a receipt that is none was taken", odd[:100])

    @action(1)
    def too_late(self) -> None:
        if messages := self.claim(self.dice.randint(1, 5), 0.5):
            self.audiences.apply(messages[0])
            self.sleep(self.dice.random() * 2)
            self.ack(messages[0], len(messages) == 1)

    @action(1)
    def die(self) -> None:
        """With messages in hand, before or after they were committed or applied."""
        in_hand = self.dice.random() < 0.5
        if in_hand:
            self.execute("begin")
            self.execute("select count(*) from segmenter_claim(%s, 3, '2 s')", self.consumer)
        elif messages := self.claim(3, 2):
            self.audiences.apply(messages[0])
        self.disconnect()


def claim(db: Connection, audiences: Audiences, consumer: str, most: int, seconds: float) -> list[Row]:
    acked, settled, began = audiences.known_acked(), audiences.settled, time.monotonic()
    messages = rows(db, "select * from segmenter_claim(%s, %s, %s)", consumer, most, f"{seconds} s")
    if messages:
        audiences.claimed(messages, began, seconds, acked.get(messages[0]["subscription_id"], 0), settled)
    return messages


# --- Sets -----------------------------------------------------------------------------

class SetMaker(Actor):
    """Sets of service relations come and go, with segments in them, and concern no others."""
    rest = 3.0

    @action(1)
    def come_and_go(self) -> None:
        name = f"three.s{self.dice.randrange(10**6)}"
        self.execute("create schema if not exists three")
        # What a lost connection has left.
        for row in self.rows("select cfg_table from segmenter_sets() where cfg_table like 'three.%%'"):
            self.drop(Set(row["cfg_table"], home="three"))
        self.execute("select segmenter_init(%s)", name)
        own = Set(name, home="three")
        try:
            self.begin(own)
        except psycopg.OperationalError as error:
            raise error if error.sqlstate else psycopg.errors.ConnectionException(str(error)) from error
        self.sleep(self.dice.random() * 3)
        self.drop(own)

    def begin(self, own: Set) -> None:
        with self.world.connect("postgres", self.name, own) as db:
            segment = f"of {own}"
            db.execute("select segmenter_create_segment(%s, 'select id from shop.people where city = 1', '1 second', %s)", [segment, f"{own}_members"])
            db.execute("select segmenter_subscribe('nobody', %s, 'nowhere')", [segment])
            row = one(db, "select * from segmenter_refresh(%s)", segment)
            must(row["status"] in ("ok", "failed"), "a refresh in a new set", row)

    def drop(self, own: Set) -> None:
        self.execute("select segmenter_drop_set(%s, force => true)", own.cfg_table)
        self.execute(f"drop table if exists {own.cfg_table}_members")
        left = self.value("select count(*) from segmenter_sets() where cfg_table::text = %s", own.cfg_table)
        must(left == 0 and self.value("select to_regclass(%s) is null", f"{own.cfg_table}_segments"), "a set that was dropped is there", own.cfg_table)


def whereabouts(actor: Actor) -> str:
    frame = sys._current_frames().get(actor.ident or 0)
    return "".join(traceback.format_stack(frame)[-4:]) if frame else ""
