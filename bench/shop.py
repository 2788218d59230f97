"""The data: customers who change, the query that chooses members among them, and those who keep a copy
of what it gives, each in its own way."""

QUERY = "select id, hash_email, hash_phone from {customers} where spent >= 500"

TABLE = """create table {name} (
    segment_id uuid not null, id varchar, hash_email varchar, hash_phone varchar,
    actual_begin timestamp not null default now(), actual_end timestamp not null default 'infinity',
    processed timestamp not null default now(){unique}
)"""


ROWS = """
    insert into {customers}
    select g, md5('e' || g), md5('p' || g), (hashint8(g) & 2147483647) % 1000, now() - interval '1 day'
    from generate_series(1, {count}) g
"""


def load(server, customers, count, prepare=None):
    """Makes customers, half of whom are members; `prepare` is what is done with the empty table."""
    server.do(f"""
        create table {customers} (
            id bigint primary key, hash_email varchar not null, hash_phone varchar not null,
            spent int not null, updated_at timestamptz not null
        )
    """)
    if prepare:
        server.do(prepare)
    server.do(ROWS.format(customers=customers, count=count))
    server.do(f"create index on {customers} (updated_at)")
    server.do(f"vacuum analyze {customers}")


# One customer in a number changes: of these a third join or leave, a third get another hash, and a third are
# touched only.
CHANGE = """
    update {customers} set
        spent = case when id / {step} % 3 = 0 then 1000 - spent else spent end,
        hash_email = case when id / {step} % 3 = 1 then md5('e' || id::text || ':{number}') else hash_email end,
        updated_at = now()
    where id % {step} = {which}
"""


def change(server, customers, step, number):
    """Changes one customer in `step`."""
    server.do(CHANGE.format(customers=customers, step=step, number=number, which=number * 7 % step))
    server.do(f"vacuum analyze {customers}")


def query(customers="shop.customers"):
    return QUERY.format(customers=customers)


def floor(customers="shop.customers"):
    """The bare query: every value is computed, none is sent."""
    return f"select count(id), count(hash_email), count(hash_phone) from ({query(customers)}) q"


def fingerprint(server, members):
    """How many members there are, and what is known of them, in one number."""
    return server.do(f"""
        select count(*), bit_xor(hashtextextended(id || ',' || hash_email || ',' || hash_phone, 0))
        from ({members}) m
    """)[0]


def segment(server, name, sql, history=False, params=None):
    """A segment and its table, created as anybody would."""
    server.do(
        "select segmenter_create_segment(%s, %s, null, %s, %s)", name, sql, f"shop.{name}", history
    )
    if params:
        server.do("update segmenter_segments set refresh_params = %s::jsonb where name = %s", params, name)


def members(name):
    return f"select id, hash_email, hash_phone from shop.{name} where actual_end = 'infinity'"


class Peer:
    """Keeps a copy of what the query gives: `begin` makes it, `refresh` brings it up to date."""

    def __init__(self, table, title, begin, refresh, is_view=False):
        self.table, self.title, self.begin, self.refresh = f"shop.{table}", title, begin, refresh
        self.is_view = is_view
        where = "" if is_view else " where actual_end = 'infinity'"
        self.members = f"select id, hash_email, hash_phone from {self.table}{where}"


def own(name, title, history=False):
    return Peer(
        name,
        title,
        lambda server: segment(server, name, query(), history),
        f"select status from segmenter_refresh('{name}')",
    )


def view(name, title, how):
    return Peer(
        name,
        title,
        lambda server: server.do(
            f"create materialized view shop.{name} as"
            f" select id::varchar as id, hash_email, hash_phone from ({query()}) q;"
            f" create unique index on shop.{name} (id)"
        ),
        f"refresh materialized view {how} shop.{name}",
        is_view=True,
    )


def by_hand(name, title, refresh):
    """A table like a segment's, with the same unique index."""
    return Peer(
        name,
        title,
        lambda server: server.do(TABLE.format(name=f"shop.{name}", unique=", unique (id)")),
        refresh.format(table=f"shop.{name}", query=query()),
    )


FULL = [
    own("latest", "segmenter_refresh(), latest state"),
    own("history", "segmenter_refresh(), history", history=True),
    view("concurrent", "REFRESH MATERIALIZED VIEW CONCURRENTLY", "concurrently"),
    view("plain", "REFRESH MATERIALIZED VIEW (locks readers out)", ""),
    by_hand(
        "merged",
        "MERGE from the query, then DELETE",
        """begin isolation level repeatable read;
        merge into {table} t
        using (select id::varchar as id, hash_email, hash_phone from ({query}) q) q on q.id = t.id
        when matched and (q.hash_email, q.hash_phone) is distinct from (t.hash_email, t.hash_phone) then
            update set hash_email = q.hash_email, hash_phone = q.hash_phone, processed = now()
        when not matched then
            insert (segment_id, id, hash_email, hash_phone)
            values ('00000000-0000-0000-0000-000000000000', q.id, q.hash_email, q.hash_phone);
        delete from {table} t
        where not exists (select from ({query}) q where q.id::varchar = t.id);
        commit""",
    ),
    by_hand(
        "replaced",
        "DELETE all, INSERT all",
        """begin;
        delete from {table};
        insert into {table} (segment_id, id, hash_email, hash_phone)
        select '00000000-0000-0000-0000-000000000000', id, hash_email, hash_phone from ({query}) q;
        commit""",
    ),
    by_hand(
        "rewritten",
        "rewriting processed of every member",
        """begin;
        insert into {table} (segment_id, id, hash_email, hash_phone)
        select '00000000-0000-0000-0000-000000000000', id, hash_email, hash_phone from ({query}) q
        on conflict (id) do update
        set hash_email = excluded.hash_email, hash_phone = excluded.hash_phone, processed = excluded.processed;
        delete from {table} where processed < localtimestamp;
        commit""",
    ),
]
