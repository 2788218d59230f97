"""Runs the SQL of Markdown files in psql, and compares what it prints with what they say it does.

    blocks.py FILE …        from the root of the repository; the server is that of PGHOST and PGUSER

The SQL of a file is run in order, in one session, in a database of the file's own, where
pg_test/docs/<file>.sql, if there is one, sets the stage first. What a block says it is:

    ```sql                  is run, and must succeed
    ```text                 right after it: what is printed last. "…" stands for anything within a
                            line; uuids, times, blanks and the length of rulers do not count, but
                            times that are the same must be the same. With an "ERROR:" in it the
                            block before is expected to fail
    ```sql noexec: why      is not run, for the reason given
    ```sql signature        is compared with the catalogue, by reference.py
    ```json                 must be JSON; a JSON Schema must be the one in docs

Every block says what it is, be it another language.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
SCHEMA = Path("docs/payload.schema.json")
UUID = re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
TIME = re.compile(r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?([+-]\d\d(:\d\d)?)?")
KINDS = ("sql", "text", "json", "python", "sh", "ini", "sql signature")
NOEXEC = "sql noexec"
REFERENCE = "docs/reference.md"
MARK = "-- the block of line "


@dataclass
class Block:
    """A fenced block: its lines lie between two fences, the first of them at `line`."""

    line: int
    kind: str
    text: list[str]
    follows: bool = False  # directly on the block before


def blocks_of(path: str) -> list[Block]:
    blocks: list[Block] = []
    inside, between = False, False
    for number, line in enumerate(Path(path).read_text().splitlines(), start=1):
        if line.startswith("```"):
            inside = not inside
            if inside:
                blocks.append(Block(number, line[3:].strip(), [], follows=not between))
            between = False
        elif inside:
            blocks[-1].text.append(line)
        elif line.strip():
            between = True
    return blocks


def script(blocks: list[Block], expected: dict[int, Block]) -> str:
    """What psql runs. Every line is where it is in the document, so that errors tell its number."""
    lines: list[str] = []
    for block in blocks:
        lines += [""] * (block.line - 1 - len(lines))
        fails = block.line in expected and any("ERROR:" in line for line in expected[block.line].text)
        lines.append(f"\\set ON_ERROR_STOP {'off' if fails else 'on'} \\echo '{MARK}{block.line}'")
        lines += block.text
    return "\n".join(lines) + "\n"


def normal(lines: list[str]) -> list[str]:
    times: dict[str, str] = {}
    result = []
    for line in lines:
        line = re.sub(r"^psql:\S+:\d+: ", "", line)
        line = UUID.sub("<uuid>", line)
        line = TIME.sub(lambda found: times.setdefault(found[0], f"<time {len(times) + 1}>"), line)
        result.append(re.sub(r"\s+", " ", re.sub(r"-{2,}", "--", line)).strip())
    return result


def differs(expected: list[str], printed: list[str]) -> str | None:
    """Where the end of what was printed is not as expected: the first such line, and what came."""
    expected = [line for line in expected if line.strip()]
    lines = [line for line in printed if line.strip()][-len(expected) :]
    if len(lines) < len(expected):
        return "\n    ".join([f"{len(expected)} lines expected, printed:", *printed])
    for want, got in zip(normal(expected), normal(lines), strict=True):
        if not re.fullmatch(".*".join(re.escape(part) for part in want.split("…")), got):
            return "\n    ".join([f'expected "{want}", printed:', *printed])
    return None


def json_problem(text: str) -> str | None:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        return f"no JSON: {error}"
    if "$schema" in value and value != json.loads(SCHEMA.read_text()):
        return f"not what is in {SCHEMA}"
    return None


def psql(database: str, *options: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [os.environ["PSQL"], "-X", "-q", "-v", "ON_ERROR_STOP=1", "-P", "footer=off", "-d", database, *options]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=cwd, check=False)


def prepare(database: str) -> None:
    """A new database, and none of the roles that the file before has made."""
    roles = "select format('drop role %I', rolname) from pg_roles where rolname !~ '^pg_' and rolname <> current_user"
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(f"{roles} \\gexec\ncreate database {database};\n")
        file.flush()
        made = psql("postgres", "-f", file.name)
    if made.returncode == 0 and (setup := HERE / f"{database}.sql").exists():
        made = psql(database, "-o", os.devnull, "-f", str(setup))
    if made.returncode != 0:
        sys.exit(f"{database}: {made.stdout}")


def run(path: str, blocks: list[Block], expected: dict[int, Block]) -> tuple[dict[int, list[str]], list[str]]:
    """What each block has printed, by its line, as far as all went well; and what went wrong."""
    database = re.sub(r"\W+", "_", path.removesuffix(".md")).lower()
    prepare(database)
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch, path)
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(script(blocks, expected))
        ended = psql(database, "-f", path, cwd=Path(scratch))
    # Whoever holds a replication slot there has to go first.
    psql("postgres", "-c", f"select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = '{database}'")
    dropped = psql("postgres", "-c", f"drop database {database} with (force)")

    printed: dict[int, list[str]] = {}
    lines: list[str] = []
    for line in ended.stdout.splitlines():
        if line.startswith(MARK):
            lines = printed.setdefault(int(line.removeprefix(MARK)), [])
        else:
            lines.append(line)
    wrong = [f"{database}: {dropped.stdout}"] if dropped.returncode != 0 else []
    if ended.returncode != 0:
        wrong.append("\n    ".join((lines or [f"{path}: psql ended with {ended.returncode}"])[-8:]))
        printed = dict(list(printed.items())[:-1])
    return printed, wrong


def problem_of(block: Block, path: str) -> str | None:
    """What is wrong with a block that shows without running it."""
    if block.kind.startswith(NOEXEC):
        return None if block.kind.removeprefix(NOEXEC).strip(": ") else "noexec without a reason"
    if block.kind == "sql signature" and path != REFERENCE:
        return f"signatures are compared in {REFERENCE} only"
    if block.kind == "json":
        return json_problem("\n".join(block.text))
    return None if block.kind in KINDS else f'a block that is "{block.kind}": it must be one of {", ".join(KINDS)}'


def check(path: str) -> bool:
    blocks = blocks_of(path)
    wrong = [f"{path}:{block.line}: {problem}" for block in blocks if (problem := problem_of(block, path))]
    passed_by = [block for block in blocks if block.kind.startswith(NOEXEC)]
    for block in passed_by:
        print(f"# {path}:{block.line} is not run: {block.kind.removeprefix(NOEXEC).strip(': ')}")

    to_run = [block for block in blocks if block.kind == "sql"]
    expected = {
        before.line: block
        for before, block in zip(blocks, blocks[1:], strict=False)
        if before.kind == "sql" and block.kind == "text" and block.follows
    }
    if to_run:
        printed, failed = run(path, to_run, expected)
        wrong += failed
        for line in printed.keys() & expected.keys():
            if difference := differs(expected[line].text, printed[line]):
                wrong.append(f"{path}:{expected[line].line}: {difference}")

    for problem in wrong:
        print(f"not ok {problem}")
    if not wrong:
        print(f"ok {path}: {len(to_run)} blocks run, {len(expected)} outputs compared, {len(passed_by)} not run")
    return not wrong


if __name__ == "__main__":
    sys.exit(0 if all([check(path) for path in sys.argv[1:]]) else 1)
