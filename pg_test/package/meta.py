"""Checks META.json: what PGXN's specification 1.0.0 wants, and that versions and files are those of the repository."""

import json
import re
import sys
import tomllib
from pathlib import Path

SEMVER = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}(-[0-9A-Za-z-]+)?")

meta = json.loads(Path("META.json").read_text())
cargo = tomllib.loads(Path("Cargo.toml").read_text())["package"]
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

for problem in wrong:
    print(problem)
sys.exit(1 if wrong else 0)
