"""Tests of the doctor: on hosts of our making with exactly one fault, and on recorded evidence."""

import sys
from collections.abc import Iterator

import pytest

if sys.platform == "linux":
    from kernel.network import Network, open_network, why_no_namespaces

    REFUSAL = pytest.StashKey[str | None]()

    def pytest_configure(config: pytest.Config) -> None:
        config.stash[REFUSAL] = why_no_namespaces()

    @pytest.fixture
    def network(request: pytest.FixtureRequest) -> Iterator[Network]:
        """An empty network, to be filled with hosts; gone after the test. See `kernel.network`."""
        refusal = request.config.stash[REFUSAL]
        if refusal is not None:
            pytest.skip(refusal)
        with open_network() as network:
            yield network

else:
    collect_ignore_glob = ["test_on_*.py"]
