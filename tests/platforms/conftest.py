"""Each test here runs the library against models of all three systems, on any of them but Windows.

The models wait by eventfd(2), so it takes Linux.
"""

from __future__ import annotations

import sys

import pytest

if sys.platform != "linux":
    collect_ignore_glob = ["test_*.py"]
else:
    from .systems import SYSTEMS, System

    @pytest.fixture(params=SYSTEMS, ids=str)
    def system(request: pytest.FixtureRequest) -> System:
        """Each of the systems in turn."""
        found: System = request.param
        return found
