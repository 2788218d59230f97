"""The connector of docs/connectors.md, of a platform that does not exist: pg_test/cluster/platforms/example.py."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DOCUMENT = Path(__file__).parents[2] / "docs" / "connectors.md"


def documented_spec() -> dict[str, Any]:
    """The spec in the INSERT there, between $spec$ and $spec$."""
    _, spec, _ = DOCUMENT.read_text().split("$spec$")
    found: dict[str, Any] = json.loads(spec)
    return found
