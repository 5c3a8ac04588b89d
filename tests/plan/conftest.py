"""Interfaces to plan for."""

from ipaddress import ip_interface

import pytest

from trio_mcast._base.interface import Interface


@pytest.fixture
def eth0() -> Interface:
    return Interface(
        name="eth0",
        index=2,
        friendly_name="eth0",
        addresses=(ip_interface("192.0.2.10/24"), ip_interface("fe80::1/64")),
        is_up=True,
        is_loopback=False,
        supports_multicast=True,
        mtu=1500,
    )
