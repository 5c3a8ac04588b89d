"""What tests of every folder may use."""

import socket

import pytest


@pytest.fixture
def udp_port() -> int:
    """A UDP port that nothing on this machine is using, a new one each time."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        probe.bind(("::", 0))
        return int(probe.getsockname()[1])
