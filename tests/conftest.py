"""What tests of every folder may use.

Those that ask for `network` need Linux, the program `ip` (iproute2), and the right to make network
namespaces. Root has that right. For an ordinary user this file moves the pytest process into a user
namespace of its own (what `unshare --user --map-root-user` does), if the system lets it: plain
`pytest` then does everything. The process is "root" afterwards, but over nothing except the
namespaces that these tests make; its own network is still the machine's, with the rights it had.
Where neither works, those tests are skipped, with the reason.

The move is possible only while the process has a single thread, hence not in a worker of
pytest-xdist: run `unshare --user --map-root-user pytest -n 4` for that.
"""

import socket
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings
from patience import SLOWNESS

if SLOWNESS > 1:  # the examples of one run are as good as those of another
    settings.register_profile("slow", max_examples=20)
    settings.load_profile("slow")

# The folders of tests that run on one system only.
_FOLDERS = {"on_linux": "linux", "on_windows": "win32"}
collect_ignore_glob = [f"*/{name}/*" for name, own in _FOLDERS.items() if sys.platform != own]


@pytest.fixture
def udp_port() -> int:
    """A UDP port that nothing on this machine is using, a new one each time."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        probe.bind(("::", 0))
        return int(probe.getsockname()[1])


if sys.platform == "linux":
    from namespaces.network import Card, Network, open_network, why_no_namespaces
    from namespaces.opening import Hear
    from namespaces.sandbox import hush_news_of_groups

    REFUSAL = pytest.StashKey[str | None]()

    def pytest_configure(config: pytest.Config) -> None:
        config.stash[REFUSAL] = why_no_namespaces()

    @pytest.fixture
    def network(request: pytest.FixtureRequest) -> Iterator[Network]:
        """An empty network, to be filled with hosts; gone after the test."""
        refusal = request.config.stash[REFUSAL]
        if refusal is not None:
            pytest.skip(refusal)
        with open_network() as network:
            yield network

    @pytest.fixture
    def pair(network: Network) -> tuple[Card, Card]:
        """The two ends of a cable between two hosts."""
        return network.pair()

    @pytest.fixture
    def here(pair: tuple[Card, Card]) -> Card:
        """The end at the host that the library under test runs on."""
        return pair[0]

    @pytest.fixture
    def there(pair: tuple[Card, Card]) -> Card:
        """The other end."""
        return pair[1]

    @pytest.fixture(params=["announced", "not announced"])
    def ends_of_groups(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        """Linux announces that a group has ended since 6.15. Before, it has to be looked for."""
        if request.param == "not announced":
            hush_news_of_groups(monkeypatch)

    @pytest.fixture
    def hear(here: Card, udp_port: int) -> Hear:
        """Runs a function with a receiver that is open here."""
        return Hear(here, udp_port)
