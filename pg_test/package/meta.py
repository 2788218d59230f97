"""Checks META.json: what PGXN's specification 1.0.0 requires, and that versions and files are those of the repository.

Checks that every file which lists the supported versions of PostgreSQL agrees with the file `versions`.
"""

import json
import re
import sys
import tomllib
from pathlib import Path

SEMVER = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}(-[0-9A-Za-z-]+)?")

meta = json.loads(Path("META.json").read_text())
manifest = tomllib.loads(Path("Cargo.toml").read_text())
# What the package inherits is in the workspace.
cargo = manifest["package"] | manifest["workspace"]["package"]
wrong = [
    f"{key} is missing"
    for key in ("name", "version", "abstract", "maintainer", "license", "provides", "meta-spec")
    if not meta.get(key)
]
if meta["meta-spec"]["version"] != "1.0.0":
    wrong.append("meta-spec is not 1.0.0")
if meta["license"] != "postgresql" or cargo["license"] != "PostgreSQL":
    wrong.append("the licence is not PostgreSQL's")
if re.search(r"[\s/\\]", meta["name"]):
    wrong.append("the name holds what names of distributions must not")
versions = {"META.json": meta["version"]}
for name, extension in meta["provides"].items():
    versions[f"META.json, {name}"] = extension["version"]
    wrong += [f"{file} is not there" for key in ("file", "docfile") if not Path(file := extension[key]).is_file()]
for needed in meta["prereqs"]["runtime"]["requires"].values():
    if not SEMVER.fullmatch(needed):
        wrong.append(f"{needed} is no semantic version")
for where, version in versions.items():
    if version != cargo["version"] or not SEMVER.fullmatch(version):
        wrong.append(f"{where} says version {version}, Cargo.toml {cargo['version']}")
if not re.search(rf"^## {re.escape(cargo['version'])} ", Path("CHANGELOG.md").read_text(), re.M):
    wrong.append(f"CHANGELOG.md says nothing of {cargo['version']}")

servers = re.findall(r"^(\d+) (?:all|sql)$", Path("versions").read_text(), re.M)
if not servers or sorted(servers, key=int) != servers:
    wrong.append(f"versions lists {servers}: one version a line is expected, the oldest first")
features = [name[2:] for name in manifest["features"] if re.fullmatch(r"pg\d+", name)]
if features != servers:
    wrong.append(f"Cargo.toml has features for {features}, versions lists {servers}")
if manifest["features"]["default"] != [f"pg{servers[0]}"]:
    wrong.append(f"the default feature of Cargo.toml is not pg{servers[0]}")
if (oldest := meta["prereqs"]["runtime"]["requires"]["PostgreSQL"]) != f"{servers[0]}.0.0":
    wrong.append(f"META.json requires PostgreSQL {oldest}, the oldest of versions is {servers[0]}")
for file in ("README.md", "README.ru.md"):
    text = " ".join(Path(file).read_text().split())
    listed = re.findall(r"PostgreSQL (\d+(?:, \d+)*,? (?:and|or|и|или) \d+)", text)
    if not listed:
        wrong.append(f"{file} does not say which versions are supported, as in: PostgreSQL 15, 16 and 17")
    wrong += [
        f"{file} lists PostgreSQL {versions}, versions {', '.join(servers)}"
        for versions in listed
        if re.findall(r"\d+", versions) != servers
    ]

for problem in wrong:
    print(problem)
sys.exit(1 if wrong else 0)
