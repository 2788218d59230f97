"""Checks the form of the Markdown files: the width of prose, and words that plain English does without.

    style.py [FILE …]       from the root of the repository; all Markdown files by default

Prose is at most 100 characters wide. Tables, fenced blocks and a line that is a single link or URL may
be longer. The words are looked for outside of fenced blocks, code spans and link targets; tables count.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

WIDTH = 100
# Folders with files of others.
SKIPPED = {"target", "dist", "node_modules"}
# Files that are not checked, and why.
EXEMPT = {
    Path("CHANGELOG.md"): "entries of releases stay as they were published",
    Path("bench/results.md"): "it is written by the benchmark",
}

# What to avoid, as a regular expression, and what to write.
WORDS = {
    r"(some|any|every)body": 'name the role, process or person: "a session", "every role"',
    r"nobody": 'name what does not: "no role", "no process"',
    r"who(m)?ever": 'name the role: "a role that …"',
    r"he|him|his|himself|she|her|hers|herself": 'a role or process is "it", people are "they"',
    r"told": '"notified", "reported", "distinguished"',
    r"owed?|owes|owing": '"pending"',
    r"anew|afresh": '"again"',
    r"stands?|stood": '"is", "is stored", "represents"',
    r"look(s|ed|ing)? (a?round|after)|go(es)? round|went round": '"checks", "maintains"',
    r"over there": '"in the target system"',
    r"in hand": '"leased", "locked", "running"',
    r"speak(s|ing)? (of|for)": '"names", "may act as"',
    r"complain(s|ed|ing)?|complaints?": '"reports an error"',
    r"mend(s|ed|ing)?": '"fix", "correct"',
    r"reckon(s|ed)?": '"calculate"',
    r"meddle(s|d)?": '"change"',
    r"troubles?|troubled": '"error", "problem"',
    r"pass(es|ed)? over": '"skip"',
    r"c[oa]mes? (through|along)": '"succeeds", "is included"',
    r"time and again": '"repeatedly"',
    r"there(in|of|upon|with)|where(by|upon)|lest|hitherto": "a plain sentence",
    r"seamless(ly)?|effortless(ly)?|blazing(ly)?|cutting-edge|world-class": "nothing: it is hype",
}
AVOIDED = [(re.compile(rf"(?<![\w-])(?:{words})(?![\w-])", re.IGNORECASE), instead) for words, instead in WORDS.items()]

# A code span ends with its paragraph at the latest.
CODE = re.compile(r"(?<!`)(`+)(?!`)(?:(?!\n\s*\n).)*?(?<!`)\1(?!`)", re.DOTALL)
TARGET = re.compile(r"(?<=\])\([^)\s]*\)|^\s*\[[^\]]+\]: .*|<?https?://\S+", re.MULTILINE)
# A list item or a quotation may begin the line, a punctuation mark end it.
ONLY_A_LINK = re.compile(r"\s*(?:[-*>]|\d+\.)?\s*(?:!?\[[^\]]*\](?:\([^)]*\)|: \S+)|\S*https?://\S+)\S*")


def prose(text: str) -> str:
    """The text without fenced blocks, all else in the lines where it was."""
    lines, fence = [], ""
    for line in text.splitlines():
        mark = re.match(r"\s*(```+|~~~+)", line)
        if mark and not fence:
            fence = mark[1]
        elif mark and mark[1].startswith(fence):
            fence, line = "", ""
        lines.append("" if fence else line)
    return "\n".join(lines)


def blank(found: re.Match[str]) -> str:
    """The same number of characters and lines, with nothing to read."""
    return re.sub(r"[^\n]", " ", found[0])


def problems(text: str) -> Iterator[tuple[int, str]]:
    """What is wrong, by the number of its line."""
    text = prose(text)
    for number, line in enumerate(text.splitlines(), start=1):
        if len(line) > WIDTH and not line.lstrip().startswith("|") and not ONLY_A_LINK.fullmatch(line):
            yield number, f"{len(line)} characters wide, more than {WIDTH}"
    text = TARGET.sub(blank, CODE.sub(blank, text))
    for word, instead in AVOIDED:
        # A paragraph may break between the words.
        for found in re.finditer(word.pattern.replace(" ", r"\s+"), text, word.flags):
            yield text.count("\n", 0, found.start()) + 1, f'"{" ".join(found[0].split())}": write {instead}'


# What must be found, and what must not, so that a check that finds nothing says something.
SAMPLE = f"""{"wide " * 21}
|{"a table " * 20}|
```text
whoever {"wide " * 21}
```
[a link {"x" * 100}](https://example.org/whoever)
`whoever`, `` `told` ``, `who
ever` and whomsoever
Whoever looks
after it
| a cell | told |
"""
FOUND = [(1, "105 characters"), (9, '"Whoever"'), (9, '"looks after"'), (11, '"told"')]


def check_sample() -> None:
    found = sorted(problems(SAMPLE))
    if len(found) != len(FOUND) or any(
        line != wanted or not problem.startswith(start) for (line, problem), (wanted, start) in zip(found, FOUND, strict=True)
    ):
        sys.exit(f"style.py does not find in its sample what is there: {found}")


def all_files() -> list[Path]:
    files = (path for path in Path().rglob("*.md") if not any(part in SKIPPED or part[0] == "." for part in path.parts))
    return sorted(files)


def main() -> bool:
    check_sample()
    files = [Path(name) for name in sys.argv[1:]] or all_files()
    checked = [path for path in files if path not in EXEMPT]
    if not files:
        sys.exit("there are no Markdown files here")
    for path in set(files) - set(checked):
        print(f"# {path} is not checked: {EXEMPT[path]}")
    count = 0
    for path in checked:
        for line, problem in sorted(problems(path.read_text())):
            print(f"not ok {path}:{line}: {problem}")
            count += 1
    if not count:
        print(f"ok {len(checked)} files are in plain words, and no wider than {WIDTH} characters")
    return not count


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
