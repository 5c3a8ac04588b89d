"""Bad input is refused with an error that shows it, before any socket is opened."""

import sys
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest
import trio
from namespaces.network import open_descriptors
from namespaces.receiving import GROUP4, GROUP6

import trio_mcast
from trio_mcast import AddressError, InterfaceNotFoundError

PORT = 5000  # nothing is ever opened on it
ON_LO = {"port": PORT, "interface": "lo"}
"""For senders: an interface that is named need not be found by way of the routes."""

sockets_made = 0


def _count_sockets(event: str, args: tuple[Any, ...]) -> None:
    """Count all sockets but those of netlink (address family 16), which only look at interfaces."""
    global sockets_made
    if event == "socket.__new__" and args[1] != 16:
        sockets_made += 1


sys.addaudithook(_count_sockets)  # for good: an audit hook cannot be taken back


def has_in_message(error: BaseException, value: object) -> bool:
    """Whether an error's text shows the value that was wrong."""
    return str(value) in str(error) or repr(value) in str(error)


async def refuses(
    open_: Callable[..., Any],
    groups: tuple[object, ...],
    options: dict[str, object],
    error: type[Exception],
    value: object,
    *,
    counted: bool = True,
) -> None:
    descriptors, sockets = open_descriptors(), sockets_made
    with pytest.raises(error) as caught:
        async with open_(*groups, **options):
            pytest.fail("it opened")
    assert open_descriptors() == descriptors
    if counted:
        assert sockets_made == sockets, "it had opened a socket by then"
    assert has_in_message(caught.value, value), str(caught.value)
    assert not isinstance(caught.value, BaseExceptionGroup)


def test_the_counter_counts() -> None:
    import socket

    before = sockets_made
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()
    assert sockets_made == before + 1


WRONG_GROUPS = [
    ("", AddressError),
    ("nonsense", AddressError),
    ("192.0.2.1", AddressError),
    ("255.255.255.255", AddressError),
    ("223.255.255.255", AddressError),
    ("240.0.0.1", AddressError),
    ("0.0.0.0", AddressError),
    ("fe80::1", AddressError),
    ("::ffff:233.252.0.1", AddressError),
    ("233.252.0", AddressError),
    ("233.252.0.256", AddressError),
    ("233.252.0.1/32", AddressError),
    ("233.252.0.1:5000", AddressError),
    ("[ff15::1]", AddressError),
    (" 233.252.0.1 x", AddressError),
    (b"\xe9\xfc\x00\x01", TypeError),
    (3925606401, TypeError),
    (None, TypeError),
    (1.5, TypeError),
    (["233.252.0.1"], TypeError),
    (ip_network("233.252.0.0/24"), TypeError),
]


@pytest.mark.parametrize(("group", "error"), WRONG_GROUPS)
async def test_open_receiver_refuses_what_is_no_group(
    group: object, error: type[Exception]
) -> None:
    await refuses(trio_mcast.open_receiver, (GROUP4, group), {"port": PORT}, error, group)


@pytest.mark.parametrize(("group", "error"), WRONG_GROUPS)
async def test_open_sender_refuses_what_is_no_group(group: object, error: type[Exception]) -> None:
    await refuses(trio_mcast.open_sender, (group,), {"port": PORT}, error, group)


@pytest.mark.parametrize("group", ["ff00::1", "ff0f::5", "ff10::1", "ff1f::1"])
async def test_open_sender_refuses_the_reserved_scopes(group: str) -> None:
    """RFC 4291: groups of scope 0 and F must not be used as destinations."""
    await refuses(trio_mcast.open_sender, (group,), ON_LO, AddressError, group)


WRONG_PORTS = [
    (0, ValueError),
    (-1, ValueError),
    (65536, ValueError),
    ("5000", TypeError),
    (5000.0, TypeError),
    (None, TypeError),
    (True, TypeError),
]


@pytest.mark.parametrize(("port", "error"), WRONG_PORTS)
async def test_open_receiver_refuses_what_is_no_port(port: object, error: type[Exception]) -> None:
    await refuses(trio_mcast.open_receiver, (GROUP4,), {"port": port}, error, port)
    await refuses(trio_mcast.open_receiver, (), {"port": port}, error, port)


@pytest.mark.parametrize(("port", "error"), WRONG_PORTS)
async def test_open_sender_refuses_what_is_no_port(port: object, error: type[Exception]) -> None:
    await refuses(trio_mcast.open_sender, (GROUP4,), {"port": port}, error, port)


def test_the_port_must_be_given_by_name() -> None:
    with pytest.raises(TypeError):
        trio_mcast.open_receiver(GROUP4)
    with pytest.raises(TypeError):
        trio_mcast.open_sender(GROUP4)
    with pytest.raises(TypeError):
        trio_mcast.open_sender(GROUP4, 5000)


@pytest.mark.parametrize(
    ("groups", "sources", "error", "shown"),
    [
        ((GROUP4,), ["nonsense"], AddressError, "nonsense"),
        ((GROUP4,), ["233.252.0.7"], AddressError, "233.252.0.7"),
        ((GROUP6,), ["ff15::7"], AddressError, "ff15::7"),
        ((GROUP4,), ["0.0.0.0"], AddressError, "0.0.0.0"),
        ((GROUP4,), ["255.255.255.255"], AddressError, "255.255.255.255"),
        ((GROUP6,), ["::"], AddressError, "::"),
        ((GROUP4,), ["192.0.2.1/24"], AddressError, "192.0.2.1/24"),
        ((GROUP4,), ["192.0.2.1", None], TypeError, None),
        ((GROUP4,), 5, TypeError, 5),
        ((GROUP4,), ["fd00::1"], ValueError, GROUP4),
        ((GROUP6,), ["192.0.2.1"], ValueError, GROUP6),
        ((GROUP4, GROUP6), ["192.0.2.1"], ValueError, GROUP6),
        ((GROUP4, GROUP6), ["fd00::1"], ValueError, GROUP4),
        (("232.1.2.3",), [], ValueError, "232.1.2.3"),
        (("ff3e::4d43:1",), (), ValueError, "ff3e::4d43:1"),
        (("ff35::8000:1",), (), ValueError, "ff35::8000:1"),
        ((GROUP4, "232.1.2.3"), [], ValueError, "232.1.2.3"),
        (("232.1.2.3", "ff3e::4d43:1"), ["192.0.2.1"], ValueError, "ff3e::4d43:1"),
    ],
)
async def test_open_receiver_refuses_wrong_or_missing_sources(
    groups: tuple[str, ...], sources: object, error: type[Exception], shown: object
) -> None:
    options = {"port": PORT, "sources": sources}
    await refuses(trio_mcast.open_receiver, groups, options, error, shown)


WRONG_SELECTORS = [
    ([], ValueError),
    ((), ValueError),
    ("", ValueError),
    (0, ValueError),
    (-1, ValueError),
    (1.5, TypeError),
    (True, TypeError),
    ([None], TypeError),
    (["lo", None], TypeError),
    (b"lo", TypeError),
    ([["lo"]], TypeError),
]


@pytest.mark.parametrize(("interfaces", "error"), WRONG_SELECTORS)
async def test_open_receiver_refuses_what_cannot_be_interfaces(
    interfaces: object, error: type[Exception]
) -> None:
    shown = "None" if isinstance(interfaces, list) and None in interfaces else interfaces
    if interfaces == [["lo"]]:
        shown = "['lo']"
    options = {"port": PORT, "interfaces": interfaces}
    await refuses(trio_mcast.open_receiver, (GROUP4,), options, error, shown)


@pytest.mark.parametrize(
    ("interfaces", "error"), [([], ValueError), ((), ValueError), (1.5, TypeError)]
)
async def test_open_sender_refuses_what_cannot_be_interfaces(
    interfaces: object, error: type[Exception]
) -> None:
    options = {"port": PORT, "interfaces": interfaces}
    await refuses(trio_mcast.open_sender, (GROUP4,), options, error, interfaces)


@pytest.mark.parametrize(
    ("interface", "error"),
    [("", ValueError), (0, ValueError), (1.5, TypeError), (True, TypeError), ([], Exception)],
)
async def test_open_sender_refuses_what_cannot_be_an_interface(
    interface: object, error: type[Exception]
) -> None:
    options = {"port": PORT, "interface": interface}
    await refuses(trio_mcast.open_sender, (GROUP4,), options, error, interface)


async def test_open_sender_takes_interface_or_interfaces_not_both() -> None:
    options = {"port": PORT, "interface": "lo", "interfaces": ["lo"]}
    await refuses(trio_mcast.open_sender, (GROUP4,), options, (ValueError, TypeError), "interface")


UNKNOWN_INTERFACES = [
    "nosuch0",
    999_999,
    "999999",
    "203.0.113.77",
    "2001:db8::77",
    "203.0.113.0/24",
    "2001:db8::/64",
    ip_network("203.0.113.0/24"),
]


@pytest.mark.parametrize("interface", UNKNOWN_INTERFACES)
@pytest.mark.parametrize("follow", [True, False])
async def test_open_receiver_does_not_find_unknown_interfaces(
    interface: object, follow: bool
) -> None:
    for interfaces in (interface, ["lo", interface]):
        options = {"port": PORT, "interfaces": interfaces, "follow": follow}
        await refuses(
            trio_mcast.open_receiver,
            (GROUP4,),
            options,
            InterfaceNotFoundError,
            interface,
            counted=False,
        )


@pytest.mark.parametrize("interface", UNKNOWN_INTERFACES)
async def test_open_sender_does_not_find_unknown_interfaces(interface: object) -> None:
    for options in ({"interface": interface}, {"interfaces": [interface]}):
        await refuses(
            trio_mcast.open_sender,
            (GROUP4,),
            {"port": PORT} | options,
            InterfaceNotFoundError,
            interface,
            counted=False,
        )


async def test_an_unknown_zone_is_an_unknown_interface() -> None:
    for open_ in (trio_mcast.open_receiver, trio_mcast.open_sender):
        await refuses(
            open_,
            ("ff12::1%nosuch0",),
            {"port": PORT},
            InterfaceNotFoundError,
            "nosuch0",
            counted=False,
        )


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"packet_info": ["nonsense"]}, ValueError),
        ({"packet_info": ("hop_limit", "nonsense")}, ValueError),
        ({"packet_info": 5}, TypeError),
        ({"packet_info": [5]}, (TypeError, ValueError)),
        ({"overflow": "drop-newest"}, ValueError),
        ({"overflow": ""}, ValueError),
        ({"overflow": None}, (ValueError, TypeError)),
        ({"max_buffered": 0}, ValueError),
        ({"max_buffered": -1}, ValueError),
        ({"max_buffered": "10"}, TypeError),
        ({"max_buffered": 1.5}, TypeError),
        ({"max_buffered": None}, TypeError),
        ({"receive_buffer": 0}, ValueError),
        ({"receive_buffer": -1}, ValueError),
        ({"receive_buffer": 1 << 40}, ValueError),
        ({"receive_buffer": "1000"}, TypeError),
        ({"receive_buffer": 1.5}, TypeError),
    ],
    ids=str,
)
async def test_open_receiver_refuses_wrong_options(
    options: dict[str, object], error: type[Exception]
) -> None:
    (value,) = options.values()
    if options == {"packet_info": ("hop_limit", "nonsense")}:
        value = "nonsense"
    elif isinstance(value, list):
        (value,) = value
    await refuses(trio_mcast.open_receiver, (GROUP4,), {"port": PORT} | options, error, value)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"hop_limit": -1}, ValueError),
        ({"hop_limit": 256}, ValueError),
        ({"hop_limit": "1"}, TypeError),
        ({"hop_limit": 1.0}, TypeError),
        ({"hop_limit": None}, TypeError),
        ({"traffic_class": -1}, ValueError),
        ({"traffic_class": 256}, ValueError),
        ({"traffic_class": "EF"}, TypeError),
        ({"source": "nonsense"}, AddressError),
        ({"source": "233.252.0.1"}, AddressError),
        ({"source": "fd00::1"}, ValueError),
        ({"source": 5}, TypeError),
        ({"source_port": -1}, ValueError),
        ({"source_port": 65536}, ValueError),
        ({"source_port": "1"}, TypeError),
        ({"source_port": None}, TypeError),
        ({"send_buffer": 0}, ValueError),
        ({"send_buffer": -1}, ValueError),
        ({"send_buffer": "1000"}, TypeError),
    ],
    ids=str,
)
async def test_open_sender_refuses_wrong_options(
    options: dict[str, object], error: type[Exception]
) -> None:
    (value,) = options.values()
    await refuses(trio_mcast.open_sender, (GROUP4,), ON_LO | options, error, value)


async def test_run_receiver_refuses_the_same() -> None:
    send_channel, receive_channel = trio.open_memory_channel[list[trio_mcast.Datagram]](0)
    with send_channel, receive_channel:
        for groups, options, error in (
            (("192.0.2.1",), {"port": PORT}, AddressError),
            ((GROUP4,), {"port": 0}, ValueError),
            ((GROUP4,), {"port": PORT, "interfaces": []}, ValueError),
            (("232.1.2.3",), {"port": PORT}, ValueError),
            ((GROUP4,), {"port": PORT, "overflow": "nonsense"}, ValueError),
        ):
            descriptors, sockets = open_descriptors(), sockets_made
            with pytest.raises(error):
                await trio_mcast.run_receiver(send_channel, *groups, **options)
            assert (open_descriptors(), sockets_made) == (descriptors, sockets)


def test_errors_are_sorted_by_whose_doing_they_are() -> None:
    assert issubclass(AddressError, ValueError)
    assert issubclass(InterfaceNotFoundError, LookupError)
    assert issubclass(trio_mcast.SocketSetupError, OSError)
    assert issubclass(trio_mcast.SendError, OSError)
    for error in (
        AddressError,
        InterfaceNotFoundError,
        trio_mcast.NotSupportedError,
        trio_mcast.SocketSetupError,
        trio_mcast.SendError,
    ):
        assert issubclass(error, trio_mcast.MulticastError)
