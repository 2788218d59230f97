"""The settings that a session can change, and unusual values of each, for tests that run under them."""
from __future__ import annotations

from collections.abc import Iterator

import psycopg
from checks import Connection, Row, rows

# What a caller's setting may do, and what these tests therefore do not set.
LEFT_OUT = {
    "statement_timeout": "ends the caller's statement",
    "transaction_timeout": "ends the caller's transaction",
    "idle_session_timeout": "ends the caller's session",
    "idle_in_transaction_session_timeout": "ends the caller's session",
    "client_connection_check_interval": "is about the caller's connection",
    "default_transaction_read_only": "forbids the caller to write",
    "transaction_read_only": "forbids the caller to write",
    "transaction_deferrable": "is fixed when the transaction begins",
    "transaction_isolation": "is fixed when the transaction begins",
    "max_stack_depth": "limits the caller's process",
    "commit_delay": "delays each commit",
    "exit_on_error": "ends the caller's session at any error",
    "debug_discard_caches": "takes minutes",
    "wal_consistency_checking": "is for builds that check it",
    "dynamic_library_path": "hides our library from the server",
    "extension_destdir": "hides our library from the server (Debian has it)",
    "local_preload_libraries": "is read when a connection begins",
    "log_statement_stats": "excludes the other log_*_stats",
}
# Unusual values of settings that are texts; of others, that a later version or a library adds, one is tried.
TEXTS = {
    "application_name": ["", "x' or true --"],
    "client_encoding": ["LATIN1", "KOI8R", "WIN1251"],
    "datestyle": ["German, DMY", "SQL, DMY", "Postgres, MDY", "ISO, YMD"],
    "default_table_access_method": ["heap"],
    "default_tablespace": [""],
    "default_text_search_config": ["english", "pg_catalog.russian", "simple"],
    "lc_messages": ["POSIX", "C.UTF-8", "en_US.utf8"],
    "lc_monetary": ["POSIX", "C.UTF-8", "en_US.utf8"],
    "lc_numeric": ["POSIX", "C.UTF-8", "en_US.utf8"],
    "lc_time": ["POSIX", "C.UTF-8", "en_US.utf8"],
    "restrict_nonsystem_relation_kind": ["view", "view, foreign-table"],
    "search_path": ["", "shop", "pg_temp, shop, public", "nowhere"],
    "session_preload_libraries": ["", "auto_explain"],
    "temp_tablespaces": [""],
    "timezone": ["Asia/Kolkata", "America/St_Johns", "+3", "posix/Europe/Oslo"],
    "log_timezone": ["Asia/Kolkata"],
    "timezone_abbreviations": ["India", "Australia"],
    "plpgsql.extra_errors": ["all"],
    "plpgsql.extra_warnings": ["all"],
    "backtrace_functions": ["errfinish"],
    "event_source": ["x"],
    "createrole_self_grant": ["set, inherit"],
    "synchronized_standby_slots": [],
    "cluster_name": [],
}


def values_of(setting: Row) -> Iterator[str]:
    """The unusual values of a setting."""
    name, kind = setting["name"].lower(), setting["vartype"]
    if kind == "bool":
        yield "off" if setting["boot_val"] == "on" else "on"
    elif kind == "enum":
        yield from (x for x in setting["enumvals"] if x != setting["boot_val"])
    elif kind in ("integer", "real"):
        yield from (x for x in (setting["min_val"], setting["max_val"]) if x != setting["boot_val"])
    else:
        yield from TEXTS.get(name, ["x"])


def settings(db: Connection) -> list[Row]:
    return rows(db, """select name, vartype, context, boot_val, min_val, max_val, enumvals from pg_settings
        where context in ('user', 'superuser') and name not like 'segmenter.%' order by name""")


def can_be_set(db: Connection, name: str, new: str) -> bool:
    """Sets a value, unless the server has no such value."""
    try:
        # Before 'client_min_messages': the debug output of its lowest levels.
        db.execute("select set_config(%s, %s, false)", [name, new])
    except psycopg.Error:
        return False
    return True
