"""The table of the system we run on, against that: Python's module, the C headers, the kernel.

The tables are literal numbers, so something must notice if one is wrong or a system differs.
"""

import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface
from itertools import pairwise
from pathlib import Path

import pytest
from plan.platform_table import constants, option_names

from trio_mcast._base.interface import Interface
from trio_mcast._base.source_filter import SourceFilter
from trio_mcast._plan.joining import plan_filter_change, plan_leave
from trio_mcast._plan.linux import LINUX, LINUX_32BIT
from trio_mcast._plan.macos import MACOS
from trio_mcast._plan.options import (
    SocketOption,
    pack_group_filter,
    pack_group_req,
    pack_group_source_req,
    pack_ip_mreq,
    pack_ip_mreqn,
    pack_ipv6_mreq,
)
from trio_mcast._plan.packet_info import (
    PACKET_INFO,
    AncillaryData,
    packet_info_options,
    read_ancillary_untrusted,
)
from trio_mcast._plan.platforms import Platform
from trio_mcast._plan.receiver_plan import plan_receiver
from trio_mcast._plan.sender_plan import plan_sender
from trio_mcast._plan.socket_plan import SocketPlan
from trio_mcast._plan.windows import WINDOWS, WINDOWS_32BIT


def own_platform() -> Platform | None:
    wide = struct.calcsize("P") == 8
    return {
        "linux": LINUX if wide else LINUX_32BIT,
        "darwin": MACOS,
        "win32": WINDOWS if wide else WINDOWS_32BIT,
    }.get(sys.platform)


OWN = own_platform()

pytestmark = pytest.mark.skipif(OWN is None, reason=f"there is no table for {sys.platform}")


@pytest.fixture
def platform() -> Platform:
    assert OWN is not None
    return OWN


# --- Python's socket module --------------------------------------------------------------------


def test_the_socket_module_agrees(platform: Platform) -> None:
    ours = constants(platform)
    theirs = {name: getattr(socket, name) for name in ours if hasattr(socket, name)}
    assert {name: ours[name] for name in theirs} == theirs
    assert {"AF_INET6", "SOL_SOCKET", "IP_MULTICAST_IF", "IPV6_MULTICAST_HOPS"} <= theirs.keys()


# --- The C headers -----------------------------------------------------------------------------

# The C library's and the kernel's own headers cannot be included together: each is tried by
# itself, for each knows names that the other lacks.
LIBC_HEADERS = ["stddef.h", "stdio.h", "sys/socket.h", "netinet/in.h", "netinet/udp.h"]
KERNEL_HEADERS = ["stddef.h", "stdio.h", "linux/in.h", "linux/in6.h", "linux/udp.h", "asm/socket.h"]

INDEX = 7
GROUP4, SOURCE4 = IPv4Address("232.1.2.3"), IPv4Address("192.0.2.55")
GROUP6, SOURCE6 = IPv6Address("ff35::1234"), IPv6Address("2001:db8::5")
ADDRESS4 = IPv4Address("10.77.0.1")


def number_lines(platform: Platform) -> str:
    return "".join(
        f'#ifdef {name}\n printf("{name}=%lld\\n", (long long) {name});\n#endif\n'
        for name in sorted(constants(platform))
    )


STRUCTURES = r"""
static void show(const char *name, const void *data, size_t size) {
  printf("%s=", name);
  for (size_t i = 0; i < size; i++) printf("%02x", ((const unsigned char *) data)[i]);
  printf("\n");
}

#define V4(where, text) do { \
  struct sockaddr_in a; memset(&a, 0, sizeof a); a.sin_family = AF_INET; \
  inet_pton(AF_INET, text, &a.sin_addr); memcpy(where, &a, sizeof a); } while (0)
#define V6(where, text) do { \
  struct sockaddr_in6 a; memset(&a, 0, sizeof a); a.sin6_family = AF_INET6; \
  inet_pton(AF_INET6, text, &a.sin6_addr); memcpy(where, &a, sizeof a); } while (0)
#define CLEAR(name) memset(&name, 0, sizeof name)

static void structures(void) {
  struct ip_mreq m; CLEAR(m);
  inet_pton(AF_INET, "232.1.2.3", &m.imr_multiaddr);
  inet_pton(AF_INET, "10.77.0.1", &m.imr_interface);
  show("ip_mreq", &m, sizeof m);
  struct ip_mreqn n; CLEAR(n);
  inet_pton(AF_INET, "232.1.2.3", &n.imr_multiaddr);
  n.imr_ifindex = 7;
  show("ip_mreqn", &n, sizeof n);
  struct ipv6_mreq m6; CLEAR(m6);
  inet_pton(AF_INET6, "ff35::1234", &m6.ipv6mr_multiaddr);
  m6.ipv6mr_interface = 7;
  show("ipv6_mreq", &m6, sizeof m6);
  struct group_req g; CLEAR(g); g.gr_interface = 7;
  V4(&g.gr_group, "232.1.2.3");
  show("group_req_v4", &g, sizeof g);
  CLEAR(g); g.gr_interface = 7;
  V6(&g.gr_group, "ff35::1234");
  show("group_req_v6", &g, sizeof g);
  struct group_source_req gs; CLEAR(gs); gs.gsr_interface = 7;
  V4(&gs.gsr_group, "232.1.2.3"); V4(&gs.gsr_source, "192.0.2.55");
  show("group_source_req_v4", &gs, sizeof gs);
  CLEAR(gs); gs.gsr_interface = 7;
  V6(&gs.gsr_group, "ff35::1234"); V6(&gs.gsr_source, "2001:db8::5");
  show("group_source_req_v6", &gs, sizeof gs);
#ifdef GROUP_FILTER_SIZE
  struct group_filter f; CLEAR(f);
  f.gf_interface = 7; f.gf_fmode = MCAST_INCLUDE; f.gf_numsrc = 1;
  V4(&f.gf_group, "232.1.2.3"); V4(&f.gf_slist[0], "192.0.2.55");
  show("group_filter_v4", &f, GROUP_FILTER_SIZE(1));
#endif
  printf("cmsghdr=%d,%d,%d\n", (int) sizeof(struct cmsghdr), (int) CMSG_LEN(0),
         (int) (CMSG_SPACE(1) - CMSG_LEN(0)));
}
"""


def run_probe(folder: Path, headers: list[str], extra: str, body: str) -> dict[str, str]:
    """Compile a program and return the names and values that it prints.

    Raises:
      subprocess.CalledProcessError: the compiler refuses
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    source, program = folder / "probe.c", folder / "probe"
    includes = "".join(f"#include <{header}>\n" for header in headers)
    source.write_text(
        "#define _GNU_SOURCE\n#define __APPLE_USE_RFC_3542\n"
        f"{includes}{extra}\nint main(void) {{\n{body}\nreturn 0; }}\n"
    )
    subprocess.run([compiler, "-w", source, "-o", program], check=True, capture_output=True)
    printed = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    return dict(line.split("=", 1) for line in printed.splitlines())


@pytest.fixture
def header_numbers(platform: Platform, tmp_path: Path) -> dict[str, int]:
    sets = [LIBC_HEADERS, KERNEL_HEADERS] if sys.platform == "linux" else [LIBC_HEADERS]
    found: dict[str, int] = {}
    for number, headers in enumerate(sets):
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            printed = run_probe(folder, headers, "", number_lines(platform))
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no headers: {error.stderr.decode()[:200]}")
        for name, value in printed.items():
            assert found.setdefault(name, int(value)) == int(value), name
    return found


@pytest.mark.skipif(sys.platform == "win32", reason="the probe is written for Unix headers")
def test_the_headers_have_every_number(platform: Platform, header_numbers: dict[str, int]) -> None:
    assert header_numbers == constants(platform)


@pytest.mark.skipif(sys.platform == "win32", reason="the probe is written for Unix headers")
def test_the_headers_have_the_same_bytes(platform: Platform, tmp_path: Path) -> None:
    headers = [*LIBC_HEADERS[:-1], "arpa/inet.h", "string.h"]
    try:
        printed = run_probe(tmp_path, headers, STRUCTURES, "structures();")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no headers: {error.stderr.decode()[:200]}")
    control = printed.pop("cmsghdr")
    packed = {
        "ip_mreq": pack_ip_mreq(GROUP4, ADDRESS4.packed),
        "ip_mreqn": pack_ip_mreqn(INDEX, group=GROUP4),
        "ipv6_mreq": pack_ipv6_mreq(GROUP6, INDEX),
        "group_req_v4": pack_group_req(platform, INDEX, GROUP4),
        "group_req_v6": pack_group_req(platform, INDEX, GROUP6),
        "group_source_req_v4": pack_group_source_req(platform, INDEX, GROUP4, SOURCE4),
        "group_source_req_v6": pack_group_source_req(platform, INDEX, GROUP6, SOURCE6),
    }
    if platform.ipv4.membership.set_filter is not None:
        packed["group_filter_v4"] = pack_group_filter(platform, INDEX, GROUP4, "include", [SOURCE4])
    if platform.sockaddr_has_length:  # the probe does not fill it in
        pytest.skip("the length in sockaddr is not probed")
    assert printed == {name: value.hex() for name, value in packed.items()}
    layout = platform.control
    sizes = (struct.calcsize(layout.header), layout.payload_offset, layout.alignment)
    assert tuple(map(int, control.split(","))) == sizes


# --- The kernel --------------------------------------------------------------------------------

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="written for Linux' loopback")


@pytest.fixture
def loopback() -> Interface:
    return Interface(
        name="lo",
        index=socket.if_nametoindex("lo"),
        friendly_name="lo",
        addresses=(ip_interface("127.0.0.1/8"), ip_interface("::1/128")),
        is_up=True,
        is_loopback=True,
        supports_multicast=False,
        mtu=65536,
    )


@pytest.fixture
def open_plan() -> Iterator[Callable[[SocketPlan], socket.socket]]:
    """Carry plans out; as an ordinary user would see it, optional options may be refused."""
    opened: list[socket.socket] = []

    def open_one(plan: SocketPlan) -> socket.socket:
        sock = socket.socket(plan.family, socket.SOCK_DGRAM)
        opened.append(sock)
        sock.settimeout(5)
        for option in plan.before_bind:
            set_option(sock, option)
        if plan.bind is not None:
            sock.bind(plan.bind)
        for option in plan.after_bind:
            set_option(sock, option)
        return sock

    yield open_one
    for sock in opened:
        sock.close()


def set_option(sock: socket.socket, option: SocketOption) -> None:
    try:
        sock.setsockopt(option.level, option.option, option.value)
    except OSError:
        if not option.optional:
            raise


OpenPlan = Callable[[SocketPlan], socket.socket]


@only_linux
def test_ipv4_goes_from_a_planned_sender_to_a_planned_receiver(
    platform: Platform, loopback: Interface, udp_port: int, open_plan: OpenPlan
) -> None:
    group = "233.252.0.101"
    receiver = open_plan(
        plan_receiver(platform, group, udp_port, loopback, packet_info=PACKET_INFO)
    )
    for option in packet_info_options(platform, 4, (), destination=True):
        set_option(receiver, option)
    sending = plan_sender(platform, group, udp_port, loopback, hop_limit=7, traffic_class=0xB8)
    assert sending.destination is not None
    before = time.time_ns()
    open_plan(sending).sendto(b"hello", sending.destination)
    data, messages, _, source = receiver.recvmsg(100, 200)
    assert (data, source[0]) == (b"hello", "127.0.0.1")
    found = read_ancillary_untrusted(platform, messages)
    assert before <= (found.timestamp or 0) <= time.time_ns()
    assert found._replace(timestamp=None) == AncillaryData(
        hop_limit=7,
        traffic_class=0xB8,
        destination=IPv4Address(group).packed,
        interface_index=loopback.index,
    )


@only_linux
def test_ipv6_control_messages_are_read(
    platform: Platform, loopback: Interface, udp_port: int, open_plan: OpenPlan
) -> None:
    # Multicast on Linux' lo needs a route for IPv6; what comes by unicast is told in the same way.
    plan = plan_receiver(platform, "ff11::101", udp_port, loopback, packet_info=PACKET_INFO)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(5)
        options = (*plan.before_bind, *packet_info_options(platform, 6, (), destination=True))
        for option in options:
            set_option(receiver, option)
        receiver.bind(("::1", udp_port))
        sender = open_plan(plan_sender(platform, "ff11::101", 9, loopback, traffic_class=0xB8))
        before = time.time_ns()
        sender.sendto(b"hello", ("::1", udp_port))
        _, messages, _, _ = receiver.recvmsg(100, 200)
    found = read_ancillary_untrusted(platform, messages)
    assert before <= (found.timestamp or 0) <= time.time_ns()
    assert found._replace(timestamp=None) == AncillaryData(
        hop_limit=64,
        traffic_class=0xB8,
        destination=IPv6Address("::1").packed,
        interface_index=loopback.index,
    )


@only_linux
@pytest.mark.parametrize(
    ("group", "source"), [("232.252.0.1", "127.0.0.1"), ("ff31::8000:1", "::1")]
)
def test_the_kernel_takes_a_join_with_a_source_and_a_leave(
    platform: Platform,
    loopback: Interface,
    udp_port: int,
    open_plan: OpenPlan,
    group: str,
    source: str,
) -> None:
    sock = open_plan(plan_receiver(platform, group, udp_port, loopback, sources=source))
    left = ip_address(group)
    set_option(sock, plan_leave(platform, left, loopback, (ip_address(source),)))
    with pytest.raises(OSError, match="assign requested address"):
        set_option(sock, plan_leave(platform, left, loopback))


@only_linux
@pytest.mark.parametrize(
    ("group", "source"), [("233.252.0.102", "127.0.0.1"), ("ff11::102", "::1")]
)
def test_the_kernel_takes_changes_of_the_filter(
    platform: Platform,
    loopback: Interface,
    udp_port: int,
    open_plan: OpenPlan,
    group: str,
    source: str,
) -> None:
    sock = open_plan(plan_receiver(platform, group, udp_port, loopback))
    everyone = SourceFilter("exclude")
    all_but_one = SourceFilter("exclude", (ip_address(source),))
    one = SourceFilter("include", (ip_address(source),))
    for old, new in pairwise([everyone, all_but_one, everyone, one]):
        option = plan_filter_change(platform, ip_address(group), loopback, old, new)
        assert option is not None
        set_option(sock, option)


@only_linux
def test_a_program_that_only_reuses_the_port_is_got_on_with(
    platform: Platform, loopback: Interface, udp_port: int
) -> None:
    plan = plan_receiver(platform, "233.252.0.103", udp_port, loopback)
    assert plan.bind is not None
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("", udp_port))
        for option in plan.before_bind:
            set_option(sock, option)
        with pytest.raises(OSError, match="in use"):
            sock.bind(plan.bind)
        for option in plan.if_address_in_use:
            set_option(sock, option)
        sock.bind(plan.bind)
        for option in (*plan.after_second_bind, *plan.after_bind):
            set_option(sock, option)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 0


@only_linux
def test_every_option_can_be_read_back_or_is_known_not_to(
    platform: Platform, udp_port: int
) -> None:
    """A number that the kernel does not know at its level is answered with ENOPROTOOPT."""
    write_only = {
        name
        for name in constants(platform)
        if name.startswith(("MCAST_", "SO_RCVBUFFORCE", "SO_SNDBUFFORCE"))
        or name.endswith(("ADD_MEMBERSHIP", "DROP_MEMBERSHIP"))
    }
    for family in (socket.AF_INET, socket.AF_INET6):
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            for option in option_names(platform):
                other_family = option.level == (41 if family == socket.AF_INET else 0)
                if option.name not in write_only and not other_family:
                    sock.getsockopt(option.level, option.number, 64)
