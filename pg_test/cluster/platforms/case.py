"""What the tests of the servers have in common."""
from __future__ import annotations

import http.client
import unittest
from typing import Any

from .server import Platform


class Case(unittest.TestCase):
    """A test with servers of its own; a fault that it does not expect fails it."""

    def serve(self, platform: Platform) -> Any:
        platform.start()
        self.addCleanup(platform.stop)
        return platform

    def broken(self, call: Any) -> None:
        """The call gets no whole answer."""
        with self.assertRaises((OSError, http.client.HTTPException)):
            call()

    def no_faults(self, platform: Platform) -> None:
        self.assertEqual(platform.faults, [])

    def bug(self, platform: Platform, pattern: str) -> None:
        """The last request was noted as one of a faulty client."""
        self.assertTrue(platform.faults, f"no fault like {pattern}")
        self.assertRegex(platform.faults.pop(), pattern)
        self.no_faults(platform)
