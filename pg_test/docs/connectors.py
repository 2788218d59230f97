"""Compares connectors/schema.json with what Segmenter accepts.

    connectors.py           from the root of the repository; PGHOST, PGUSER and PGDATABASE name a server
                            and a database without the extension

The specs of connectors/ and of docs/connectors.md fit the schema and are accepted. Each is then broken at
every place: a key is added, a key is left out, a value gets another type. What the schema refuses Segmenter
must refuse; what Segmenter refuses for its form the schema must refuse. (The schema does not know what is
referred to.)
"""
from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import psycopg
from example import documented_spec
from jsonschema import Draft202012Validator

SCHEMA = Path("connectors/schema.json")
# How serde says that the form is wrong.
FORM = re.compile(r"unknown (field|variant)|missing field|invalid (type|value|length)|duplicate field|did not match any variant")
# Below these keys any JSON is a template; a null is as good as nothing where a key may be left out.
TEMPLATES = {"templates", "when", "json", "form", "headers", "query", "text", "row", "claims", "key", "signature", "value"}


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The places of a spec, templates as a whole; of the items of a list the first is enough."""
    yield path
    # The conditions of an answer are no template.
    if path and path[-1] in TEMPLATES and not (path[-1] == "json" and "answers" in path):
        return
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*path, key))
    elif isinstance(value, list):
        for number, item in enumerate(value[:1] if "operations" not in path else value):
            yield from places(item, (*path, number))


def broken(spec: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The spec with one thing wrong, or odd, and what that is."""

    def changed(path: tuple[str | int, ...], change: Any) -> Any:
        copy = deepcopy(spec)
        inner: Any = copy
        for key in path[:-1]:
            inner = inner[key]
        change(inner, path[-1])
        return copy

    def put(value: Any) -> Any:
        return lambda inner, key: inner.__setitem__(key, value)

    for path in places(spec):
        where = "/".join(map(str, path))
        found: Any = spec
        for key in path:
            found = found[key]
        if isinstance(found, dict):
            yield f"{where}: another key", changed((*path, "colour"), put("red")) if path else {**spec, "colour": "red"}
        if path:
            yield f"{where}: left out", changed(path, lambda inner, key: inner.pop(key))
            for value in ("Other Text", 0, -1, 1.5, True, [], {}, ["/x"], {"header": "x"}):
                # serde reads a list, too, where it expects an object of certain keys.
                if not (isinstance(found, dict) and isinstance(value, list)):
                    yield f"{where}: {json.dumps(value)}", changed(path, put(value))


def main() -> bool:
    validator = Draft202012Validator(json.loads(SCHEMA.read_text()))
    Draft202012Validator.check_schema(validator.schema)
    specs = {path.name: json.loads(path.read_text()) for path in sorted(SCHEMA.parent.glob("*.json")) if path != SCHEMA}
    specs["docs/connectors.md"] = documented_spec()
    problems: list[str] = []
    tried = refused = 0
    with psycopg.connect() as connection:
        connection.execute("create extension segmenter")

        def problem_of(spec: Any) -> str | None:
            try:
                with connection.transaction(force_rollback=True):
                    connection.execute("insert into segmenter_connectors (name, spec) values ('tried', %s)", (json.dumps(spec),))
            except psycopg.Error as error:
                return str(error.diag.message_primary)
            return None

        for name, spec in specs.items():
            problems += [f"{name}: {error.json_path}: {error.message}" for error in validator.iter_errors(spec)]
            if problem := problem_of(spec):
                problems.append(f"{name}: {problem}")
            seen: set[str] = set()
            for what, changed in broken(spec):
                if (text := json.dumps(changed)) in seen:
                    continue
                seen.add(text)
                tried += 1
                fits, problem = validator.is_valid(changed), problem_of(changed)
                refused += not fits
                if not fits and problem is None:
                    problems.append(f"{name}: {what}: the schema refuses what Segmenter accepts")
                elif fits and problem is not None and FORM.search(problem):
                    problems.append(f"{name}: {what}: the schema accepts what Segmenter refuses: {problem}")
        connection.rollback()
    if not 0 < refused < tried:
        problems.append(f"{refused} of {tried} changed specs were refused, which shows nothing")
    for problem in problems[:40]:
        print(f"not ok connectors/schema.json: {problem}")
    if not problems:
        print(f"ok {len(specs)} connectors fit their schema, which refuses {refused} of {tried} changed ones as Segmenter does")
    return not problems


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
