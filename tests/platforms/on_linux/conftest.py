"""Each test here runs the library against models of all three systems.

The models wait by eventfd(2), so it takes Linux.
"""

from __future__ import annotations

import pytest
from platforms.systems import SYSTEMS, System


@pytest.fixture(params=SYSTEMS, ids=str)
def system(request: pytest.FixtureRequest) -> System:
    """Each of the systems in turn."""
    found: System = request.param
    return found
