"""Compares docs/reference.md with the catalogue, the settings and the sources: what is in one and
not in the other, or differs, is said. What else the documentation names, and where its links lead,
must exist as well.

    reference.py FILE …     the documentation, from the root of the repository; PGHOST, PGUSER and
                            PGDATABASE name a server and an empty database

What reference.md must look like:

    ```sql signature        functions, "name(arguments) → result"; procedures begin with "call"
    ### segmenter_…         a relation, where a table follows with the columns "column", "type" and,
                            if any has one, "default"
    ## Settings             a table of "setting", "default" (as SHOW tells it) and "context"
    ## Errors               a table of "SQLSTATE"

What is documented is created beside what there is, so that PostgreSQL itself compares them.
"""

import re
import subprocess
import sys
from os import environ
from pathlib import Path

import psycopg
from blocks import REFERENCE, blocks_of

# In no catalogue: what exists during a refresh only, and a check that segment tables get.
ELSEWHERE = {"segmenter_delta", "segmenter_parts", "segmenter_located", "segmenter_excluded", "segmenter_listed",
             "segmenter_ids", "segmenter_former", "segmenter_own_segment"}
# Raised where nothing went wrong.
NO_ERROR = {"ERRCODE_SUCCESSFUL_COMPLETION"}

FUNCTIONS = """
select concat_ws(' ', prokind, proname || '(' || pg_catalog.pg_get_function_arguments(oid) || ')', '→',
    pg_catalog.pg_get_function_result(oid))
from pg_catalog.pg_proc where proname ~ '^segmenter' and pronamespace = %s::regnamespace"""
COLUMNS = """
select concat_ws(' ', c.relname || '.' || a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod),
    'default ' || pg_catalog.pg_get_expr(d.adbin, d.adrelid), 'identity ' || nullif(a.attidentity::text, ''))
from pg_catalog.pg_class c
join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
left join pg_catalog.pg_attrdef d on (d.adrelid, d.adnum) = (a.attrelid, a.attnum) and a.attgenerated = ''
where c.relname ~ '^segmenter' and c.relkind in ('r', 'v') and c.relnamespace = %s::regnamespace"""
SETTINGS = """
select concat_ws(' | ', name, current_setting(name), context)
from pg_catalog.pg_settings where name like 'segmenter.%'"""
NAMES = """
select proname from pg_catalog.pg_proc union all select relname from pg_catalog.pg_class
union all select conname from pg_catalog.pg_constraint union all select polname from pg_catalog.pg_policy
union all select name from pg_catalog.pg_settings union all select fdwname from pg_catalog.pg_foreign_data_wrapper"""


def sections(text: str) -> dict[str, list[dict[str, str]]]:
    """The rows of the tables under each heading, by the names of their columns, without backticks."""
    result: dict[str, list[dict[str, str]]] = {}
    heading, columns = "", None
    for line in text.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("#").strip()
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not line.startswith("|"):
            columns = None
        elif columns is None:
            columns = cells
        elif not re.fullmatch(r"[-:|\s]+", line):
            row = dict(zip(columns, cells, strict=True))
            result.setdefault(heading, []).append({key: value.strip("`") for key, value in row.items()})
    return result


def document(connection: psycopg.Connection, tables: dict[str, list[dict[str, str]]]) -> None:
    """Creates in the schema "documented" what the reference says there is."""
    connection.execute("create schema documented; set check_function_bodies = off")
    for block in blocks_of(REFERENCE):
        if block.kind == "sql signature":
            for signature in re.findall(r"^\S.*(?:\n\s.*)*", "\n".join(block.text), re.MULTILINE):
                kind = "procedure" if signature.startswith("call ") else "function"
                declared = signature.removeprefix("call ").replace("→", "returns")
                connection.execute(f"create {kind} documented.{declared} language plpgsql as 'begin end'")
    for heading, rows in tables.items():
        if heading.startswith("segmenter") and all({"column", "type"} <= row.keys() for row in rows):
            columns = []
            for row in rows:
                default = row.get("default", "")
                default = "generated always as identity" if default == "identity" else default and f"default {default}"
                columns.append(f"{row['column']} {row['type']} {default}")
            connection.execute(f"create table documented.{heading} ({', '.join(columns)})")


def values(connection: psycopg.Connection, query: str, *parameters: str) -> set[str]:
    return {row[0] for row in connection.execute(query, parameters or None)}


def sqlstates() -> set[str]:
    """The codes that the sources raise or advise on, by PostgreSQL's list of them."""
    shared = subprocess.run([environ["PG_CONFIG"], "--sharedir"], capture_output=True, text=True, check=True).stdout
    codes = dict(
        (name, code)
        for code, name in re.findall(r"^(\w{5})\s+[ESW]\s+(\w+)", Path(shared.strip(), "errcodes.txt").read_text(), re.M)
    )
    sources = "".join(path.read_text() for path in Path("src").rglob("*.rs") if path.name != "tests.rs")
    return {codes[name] for name in set(re.findall(r"(?<!== PgSqlErrorCode::)\bERRCODE_\w+", sources)) - NO_ERROR}


def metrics() -> set[str]:
    """The metrics that are written."""
    source, _, _ = Path("core/src/metrics.rs").read_text().partition("#[cfg(test)]")
    return set(re.findall(r'"(segmenter_\w+)"', source))


def same(what: str, documented: set[str], actual: set[str]) -> bool:
    for missing in sorted(actual - documented):
        print(f"not ok {REFERENCE}: {what} not documented, or otherwise: {missing}")
    for wrong in sorted(documented - actual):
        print(f"not ok {REFERENCE}: {what} documented, and not there: {wrong}")
    if documented == actual:
        print(f"ok {len(actual)} {what} are documented as they are")
    return documented == actual


def names_exist(paths: list[str], names: set[str]) -> bool:
    """Whether functions, relations and settings that the documentation names are there."""
    well = True
    for path in paths:
        for number, line in enumerate(Path(path).read_text().splitlines(), start=1):
            for name in re.findall(r"(?<![\w/.-])segmenter[_.][a-z_]+\b(?![-.]\w)", line):
                if name not in names:
                    print(f"not ok {path}:{number}: there is no {name}")
                    well = False
    if well:
        print(f"ok what {len(paths)} files name is there")
    return well


def anchors(path: Path) -> set[str]:
    """The headings of a document as links name them."""
    headings = re.findall(r"^#+ (.*)", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def links_lead(paths: list[str]) -> bool:
    """Whether links within the repository lead somewhere."""
    well = True
    for path in map(Path, paths):
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            for target in re.findall(r"\]\((?!\w+:)([^)]+)\)", line):
                file, _, anchor = target.partition("#")
                leads_to = path.parent / file if file else path
                if not leads_to.exists() or (anchor and anchor not in anchors(leads_to)):
                    print(f"not ok {path}:{number}: {target} leads nowhere")
                    well = False
    if well:
        print(f"ok the links of {len(paths)} files lead somewhere")
    return well


def main() -> bool:
    tables = sections(Path(REFERENCE).read_text())
    with psycopg.connect() as connection:
        connection.execute("create extension segmenter")
        document(connection, tables)
        well = [
            same("functions", values(connection, FUNCTIONS, "documented"), values(connection, FUNCTIONS, "public")),
            same("columns", values(connection, COLUMNS, "documented"), values(connection, COLUMNS, "public")),
            same(
                "settings",
                {" | ".join([row["setting"], row["default"], row["context"]]) for row in tables["Settings"]},
                values(connection, SETTINGS),
            ),
            same("SQLSTATEs", {row["SQLSTATE"] for row in tables["Errors"]}, sqlstates()),
            same("metrics", {name for row in tables["segmenter_metrics"] for name in re.findall(r"segmenter_\w+", row["metric"])}, metrics()),
            names_exist(sys.argv[1:], values(connection, NAMES) | ELSEWHERE | metrics()),
            links_lead(sys.argv[1:]),
        ]
        connection.rollback()
    return all(well)


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
