"""What grows with the number of customers: the first refresh, a refresh with 1 % changed, an incremental pass of
10,000 ids; on one machine, and with the customers in partitions by postgres_fdw and on Citus (where it is installed),
whose servers are clusters of their own on the same machine."""

import json
import os
import subprocess
import traceback
from pathlib import Path

import shop
from measure import Server, median
from report import Table, megabytes, ratio, seconds

CLUSTER = Path(__file__).parent.parent / "bin" / "cluster"
HEADER = ["time", "× bare query", "memory, MB", "WAL, MB", "and whole pages, MB"]
SHARDS = ["bench_shard_1", "bench_shard_2"]
# The most customers for the engines, which hold them a second time.
MOST_BY_ENGINE = 4_000_000
SHARED = ["shared_buffers = '1GB'", "max_wal_size = '8GB'", "checkpoint_timeout = '1d'", "autovacuum = off"]
CITUS = ["citus.node_conninfo = 'sslmode=disable'", "citus.enable_statistics_collection = off", "max_prepared_transactions = 20"]

SQL = "select c.id, c.hash_email, c.hash_phone from shop.customers c join changed using (id) where c.spent >= 500"
# The ids as a list, which postgres_fdw sends along.
SQL_FOR_FDW = (
    "select c.id, c.hash_email, c.hash_phone from shop.customers c"
    " where c.id = any (array(select id from changed)) and c.spent >= 500"
)


def measure(socket, sizes, scale, rounds, say):
    """The tables, and what is wrong."""
    ids = min(int(10_000 * scale), sizes[0] // 100)
    table = Table("Growth: an indexed table of customers, half of them members, on one machine", ["customers", "", *HEADER])
    wrong = []
    for size in sizes:
        server = database(socket, "scaled")
        say(f"{size:,} customers")
        shop.load(server, "shop.customers", size)
        rows, found = passes(server, size, ids, rounds, say)
        table.rows += [[f"{size:,}", *row] for row in rows]
        wrong += found
        drop(socket, server, "scaled")
    table.notes.append("The first refresh is measured once, the others as often as the rounds say.")
    engines, found = by_engine(socket, min(sizes[0], MOST_BY_ENGINE), ids, rounds, say)
    return [table, engines], wrong + found


def passes(server, size, ids, rounds, say, sql=SQL):
    """What is measured of customers that are loaded: rows of a table, and what is wrong."""
    floor, wrong = [server.measure(shop.floor()) for _ in range(2)], []
    params = {"incremental": {"changed": "select id from shop.customers where updated_at > $1", "sql": sql}}
    shop.segment(server, "full", shop.query())
    shop.segment(server, "changed", shop.query(), params=json.dumps(params))
    ways = {f"first refresh: {size // 2:,} members": [refresh(server, "full")]}
    refresh(server, "changed")
    for name in ("full", "changed"):
        server.do(f"vacuum analyze shop.{name}")
    number = 0
    for step, name, what in ((100, "full", "refresh, 1 % changed"), (size // ids, "changed", f"incremental, {ids:,} ids")):
        say(what)
        samples = ways[what] = []
        for _ in range(rounds):
            number += 1
            shop.change(server, "shop.customers", step, number)
            samples.append(refresh(server, name))
            expected, found = shop.fingerprint(server, shop.query()), shop.fingerprint(server, shop.members(name))
            if expected != found:
                wrong.append(f"{what}, {size:,} customers: {found[0]:,} members, not the same as the {expected[0]:,} of the query")
            server.do(f"vacuum shop.{name}")
        # The pass of ids has no other changes to look at.
        refresh(server, "changed")
    rows = [cells(what, samples, floor) for what, samples in {"bare query": floor, **ways}.items()]
    return rows, wrong


def cells(what, samples, floor):
    def middle(of, among):
        return median([getattr(sample, of) for sample in among])

    time, base = middle("seconds", samples), middle("seconds", floor)
    return [what, seconds(time), ratio(time / base), *(megabytes(middle(of, samples)) for of in ("memory", "wal", "images"))]


def refresh(server, name):
    sample = server.measure(f"select status, detail from segmenter_refresh('{name}')")
    if sample.rows[0][0] != "ok":
        raise RuntimeError(f"segment {name}: {sample.rows[0]}")
    return sample


def by_engine(socket, size, ids, rounds, say):
    """The same customers by postgres_fdw, and on Citus."""
    table = Table(
        f"Engines: {size:,} customers on two servers beside the one that has the segments, all on this machine",
        ["", "", *HEADER],
    )
    wrong = []
    engines = {"postgres_fdw": by_fdw}
    if (Path(subprocess.check_output([os.environ["PGRX_PG_CONFIG_PATH"], "--sharedir"], text=True).strip()) / "extension/citus.control").exists():
        engines["Citus"] = by_citus
    else:
        table.notes.append("Citus is not installed here.")
    for title, engine in engines.items():
        say(f"{title}: {size:,} customers")
        try:
            rows, found = engine(socket, size, ids, rounds, say)
        except Exception as error:  # The others are still worth knowing.
            traceback.print_exc()
            rows, found = [], [repr(error)]
        table.rows += [[title, *row] for row in rows]
        wrong += [f"{title}: {one}" for one in found]
    table.notes.append(
        "Time, memory and WAL are those of the server that has the segments. On Citus the bare query is counted on the other servers."
    )
    return table, wrong


def by_fdw(socket, size, ids, rounds, say):
    with_clusters = [start(name, SHARED) for name in SHARDS]
    try:
        server = database(socket, "sharded")
        server.do("create extension postgres_fdw")
        server.do("create table shop.customers (id bigint, hash_email varchar not null, hash_phone varchar not null,"
                  " spent int not null, updated_at timestamptz not null) partition by hash (id)")
        for place, other in enumerate(with_clusters):
            remote = Server(other, "postgres")
            remote.do("create table customers (id bigint primary key, hash_email varchar not null, hash_phone varchar not null,"
                      " spent int not null, updated_at timestamptz not null); create index on customers (updated_at)")
            server.do(f"create server s{place} foreign data wrapper postgres_fdw options (host '{other}', port '5432',"
                      " dbname 'postgres', fetch_size '10000', batch_size '1000', async_capable 'true', use_remote_estimate 'true')")
            server.do(f"create user mapping for postgres server s{place} options (user 'postgres')")
            server.do(f"create foreign table shop.customers_{place} partition of shop.customers for values with (modulus 2,"
                      f" remainder {place}) server s{place} options (schema_name 'public', table_name 'customers')")
        server.do(shop.ROWS.format(customers="shop.customers", count=size))
        for other in with_clusters:
            Server(other, "postgres").do("vacuum analyze customers")
        rows = passes(server, size, ids, rounds, say, SQL_FOR_FDW)
        drop(socket, server, "sharded")
        return rows
    finally:
        stop(SHARDS)


def by_citus(_, size, ids, rounds, say):
    coordinator = "bench_citus"
    workers = [start(name, [*SHARED, *CITUS, "shared_preload_libraries = 'citus'"]) for name in SHARDS]
    socket = start(coordinator, [*SHARED, *CITUS, "shared_preload_libraries = 'citus, segmenter'",
                                 "work_mem = '64MB'", "maintenance_work_mem = '512MB'", "max_worker_processes = 16"])
    try:
        for worker in workers:
            Server(worker, "postgres").do("create database scaled")
            Server(worker, "scaled").do("create extension citus")
        server = database(socket, "scaled", "citus")
        server.do(f"select citus_set_coordinator_host('{socket}', 5432)")
        for worker in workers:
            server.do(f"select citus_add_node('{worker}', 5432)")
        shop.load(server, "shop.customers", size, "select create_distributed_table('shop.customers', 'id')")
        return passes(server, size, ids, rounds, say)
    finally:
        stop([coordinator, *SHARDS])


def database(socket, name, *extensions):
    Server(socket, "postgres").do(f"create database {name}")
    server = Server(socket, name)
    for extension in (*extensions, "pg_walinspect", "segmenter"):
        server.do(f"create extension {extension}")
    server.do("create schema shop")
    return server


def drop(socket, server, name):
    server.session.close()
    Server(socket, "postgres").do(f"drop database {name} with (force)")


def start(name, settings):
    """Starts a cluster anew: the directory of its socket."""
    stop([name])
    subprocess.run([CLUSTER, "start", name, *settings], check=True)
    return subprocess.check_output([CLUSTER, "socket", name], text=True).strip()


def stop(names):
    for name in names:
        subprocess.run([CLUSTER, "drop", name], check=True)
