"""Tests on the real kernel: hosts are network namespaces, cables are veth pairs.

They need Linux, the program `ip` (iproute2), and the right to make network namespaces. Root has
that right. For an ordinary user this file moves the pytest process into a user namespace of its own
(what `unshare --user --map-root-user` does), if the system lets it: plain `pytest` then does
everything. The process is "root" afterwards, but over nothing except the namespaces that these
tests make; its own network is still the machine's, with the rights it had. Where neither works,
tests that ask for the `network` fixture are skipped, with the reason.

The move is possible only while the process has a single thread, hence not in a worker of
pytest-xdist: run `unshare --user --map-root-user pytest -n 4` for that.
"""

import sys
from collections.abc import Iterator

import pytest

if sys.platform != "linux":
    collect_ignore_glob = ["*"]
else:
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
