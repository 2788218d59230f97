"""The faults that a server can be told to have."""
from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from .message import Request

# Faults that are answered in the platform's own form, and nothing is done.
ANSWERED = {"rate_limit", "server_error", "token_expired", "revoked", "gone", "not_success_200"}
# Faults of the connection or of what stands between, each with whether the request is served nevertheless.
BROKEN = {"drop_before": False, "drop_after": True, "slow": True, "truncated": True, "huge": True,
          "redirect": False, "garbage": False}
# Faults of those routes only that say so.
SERVED = {"partial", "fail_processing"}


@dataclass
class Fault:
    """A fault that is ordered: for so many of the requests that match."""

    kind: str
    times: int
    path: str
    method: str | None
    how: dict[str, Any]

    def fits(self, request: Request) -> bool:
        return (self.method or request.method) == request.method and bool(re.search(self.path, request.path))
