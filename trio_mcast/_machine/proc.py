"""What Linux tells in /proc, to any user unless said otherwise (proc_net(5)).

``/proc/net`` is the network namespace of the process' first thread; the one of the calling thread
is ``/proc/thread-self/net``. The tables of ``/proc/sys/net`` are always the calling thread's.

The tables are read as bytes: names of interfaces may hold any but ``/``, ``:`` and white space
(dev_valid_name in net/core/dev.c), and what counts as white space in text is more than that.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Final

import trio

from .._base.snapshot import FilteredSource, Holder, Joined, UdpSocket
from .machine import UdpErrors

assert not TYPE_CHECKING or sys.platform == "linux"

_NET: Final = "/proc/thread-self/net"
_CAP_SYS_PTRACE: Final = 19  # linux/capability.h
_FIRST_PID_NAMESPACE: Final = 0xEFFFFFFC  # PROC_PID_INIT_INO in linux/proc_ns.h


def read_counters() -> dict[str, int]:
    """The counters of IP and UDP: ``Udp.IgnoredMulti``, ``Ip6InReceives``.

    Those of IPv6 also for each interface: ``Ip6InReceives%eth0``.
    """
    found = {**_read_pairs("snmp"), **_read_pairs("netstat"), **_read_columns("snmp6")}
    for interface in _list(f"{_NET}/dev_snmp6"):
        for name, value in _read_columns(f"dev_snmp6/{interface}").items():
            found[f"{name}%{interface}"] = value
    return found


def _read_pairs(table: str) -> dict[str, int]:
    """Of a table whose lines come in pairs: names, then values."""
    found = {}
    lines = _lines(table)
    for names, values in zip(lines[::2], lines[1::2], strict=False):
        group, _, words = names.partition(b":")
        for name, value in zip(words.split(), values.split()[1:], strict=False):
            found[f"{group.decode()}.{name.decode()}"] = int(value)
    return found


def _read_columns(table: str) -> dict[str, int]:
    found = {}
    for line in _lines(table):
        name, value = line.split()
        found[name.decode()] = int(value)
    return found


def read_udp_errors() -> UdpErrors | None:
    """What became of datagrams that had come as far as UDP; None if that is not known."""
    if not os.path.exists(f"{_NET}/snmp6"):  # no IPv6
        ipv6 = {}
    elif not (ipv6 := _read_columns("snmp6")):
        return None
    ipv4 = _read_pairs("snmp")
    if "Udp.RcvbufErrors" not in ipv4:
        return None
    return UdpErrors(
        ipv4["Udp.RcvbufErrors"] + ipv6.get("Udp6RcvbufErrors", 0),
        ipv4.get("Udp.InCsumErrors", 0) + ipv6.get("Udp6InCsumErrors", 0),
    )


def read_groups() -> tuple[Joined, ...]:
    """Every group that is joined on this host, on which interface, by how many sockets.

    Raises:
      OSError: that is not known: there is no /proc, or only a part of it, or no descriptor left
    """
    return tuple(
        Joined(str(ip_address(packed)), index, users) for index, packed, users in _group_rows()
    )


def read_packed_groups() -> frozenset[tuple[int, bytes]]:
    """As `read_groups`, of many groups in a tenth of the time: interface index, packed group.

    Raises:
      OSError: also if there is none at all, or one that is no group. Each interface that is up has
        224.0.0.1 or ff02::1, so such a table is not this host's: an emulator of Linux makes
        it up, or hands that of a host with the other byte order on
    """
    groups = frozenset((index, packed) for index, packed, _users in _group_rows())
    if not groups or not all(_is_multicast(packed) for _index, packed in groups):
        raise OSError(errno.ENOENT, "there is no table of groups")
    return groups


def _is_multicast(packed: bytes) -> bool:
    return packed[0] == 0xFF if len(packed) == 16 else packed[0] >> 4 == 0xE


def _group_rows() -> Iterator[tuple[int, bytes, int]]:
    interface = 0
    for line in _split_lines(_read_bytes(f"{_NET}/igmp"))[1:]:
        words = line.split()
        if not line.startswith(b"\t"):
            interface = int(words[0])
        else:
            yield interface, _packed_ipv4(words[0]), int(words[1])
    try:
        ipv6 = _split_lines(_read_bytes(f"{_NET}/igmp6"))
    except FileNotFoundError:  # no IPv6
        ipv6 = []
    for line in filter(None, ipv6):
        words = line.split()
        yield int(words[0]), bytes.fromhex(words[2].decode()), int(words[3])


def read_igmp_versions() -> dict[int, int]:
    """The version of IGMP that is spoken on each interface, for the sake of its querier."""
    found = {}
    for line in _lines("igmp")[1:]:
        if not line.startswith(b"\t") and (match := re.match(rb"(\d+).*V(\d)\s*$", line)):
            found[int(match[1])] = int(match[2])
    return found


def read_source_filters() -> tuple[FilteredSource, ...]:
    """The sources that memberships of this host include or exclude."""
    found = []
    for line in _lines("mcfilter")[1:]:
        # The name of a device may run into what is before or behind it: the five last are sure.
        *head, group, source, included, excluded = line.split()
        found.append(
            FilteredSource(
                str(IPv4Address(int(group, 16))),
                int(head[0]),
                str(IPv4Address(int(source, 16))),
                int(included),
                int(excluded),
            )
        )
    for line in _lines("mcfilter6")[1:]:
        *head, group, source, included, excluded = line.split()
        found.append(
            FilteredSource(_ipv6(group), int(head[0]), _ipv6(source), int(included), int(excluded))
        )
    return tuple(found)


def read_udp_sockets() -> tuple[UdpSocket, ...]:
    """Every UDP socket of this host that is bound, without the programs that have it."""
    found = []
    for version, table in ((4, "udp"), (6, "udp6")):
        for line in _lines(table)[1:]:
            words = line.split()
            address, _, port = words[1].partition(b":")
            found.append(
                UdpSocket(
                    version,
                    _ipv4(address) if version == 4 else _ipv6_in_words(address),
                    int(port, 16),
                    int(words[7]),
                    int(words[9]),
                    int(words[12]),
                )
            )
    return tuple(found)


def find_holders(inodes: set[int]) -> tuple[dict[int, list[Holder]], bool]:
    """The programs that have these sockets open, by inode.

    Returns:
      Them, and whether those without a program have none, as the kernel's own: an ordinary user
      sees into its own programs only, and /proc may hide what there is
    """
    found: dict[int, list[Holder]] = {}
    pids = [name for name in _list("/proc") if name.isdecimal()]
    is_complete = _are_all_listed(pids) and _is_in_first_pid_namespace()
    for pid in pids:
        try:
            descriptors = os.listdir(f"/proc/{pid}/fd")
        except PermissionError:
            is_complete = False
            continue
        except OSError:  # it has ended
            continue
        for descriptor in descriptors:
            try:
                target = os.readlink(f"/proc/{pid}/fd/{descriptor}")
            except PermissionError:  # of the same user, and more privileged
                is_complete = False
                break
            except OSError:  # it was closed
                continue
            if target.startswith("socket:[") and (inode := int(target[8:-1])) in inodes:
                holder = Holder(int(pid), _read(f"/proc/{pid}/comm").strip())
                if holder not in found.setdefault(inode, []):
                    found[inode].append(holder)
    is_closed = {0}  # the number of a socket that no program has any more
    return found, is_complete or inodes - is_closed <= found.keys()


def _are_all_listed(pids: list[str]) -> bool:
    """Whether /proc lists the processes of others (proc(5), hidepid)."""
    if "1" not in pids:  # which there always is
        return False
    # Number 1 may be this user's own, as in a container, while others are hidden.
    is_hiding = any(
        option.startswith(b"hidepid=") and option not in (b"hidepid=0", b"hidepid=off")
        for option in _mount_options("/proc")
    )
    return not is_hiding or _has_capability(_CAP_SYS_PTRACE)


def _mount_options(path: str) -> list[bytes]:
    """The options of the file system that is mounted there; of several, the one on top."""
    options: list[bytes] = []
    try:
        lines = _split_lines(_read_bytes("/proc/self/mountinfo"))
    except OSError:
        return options
    for line in lines:
        mount, _, file_system = line.partition(b" - ")
        if mount.split()[4:5] == [path.encode()]:
            options = file_system.split()[-1].split(b",")
    return options


def _has_capability(number: int) -> bool:
    match = re.search(r"^CapEff:\s*([0-9a-f]+)$", _read("/proc/thread-self/status"), re.MULTILINE)
    return match is not None and bool(int(match[1], 16) >> number & 1)


def _is_in_first_pid_namespace() -> bool:
    """Whether programs of containers, which may share this network, are listed here as well."""
    try:
        return os.readlink("/proc/self/ns/pid") == f"pid:[{_FIRST_PID_NAMESPACE}]"
    except OSError:
        return False


def read_setting(name: str) -> int | None:
    """A kernel setting, its parts separated by slashes (``net/ipv4/conf/eth0/rp_filter``)."""
    text = _read(f"/proc/sys/{name}").strip()
    return int(text) if text.lstrip("-").isdecimal() else None


def find_container() -> str:
    """The kind of container that this process is in, as far as it shows; empty: none."""
    if os.path.exists("/.dockerenv"):
        return "docker"
    if os.path.exists("/run/.containerenv"):
        return "podman"
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return "kubernetes"
    control_groups = _read("/proc/self/cgroup")
    return next((kind for kind in ("kubepods", "docker", "lxc") if kind in control_groups), "")


def find_wsl() -> int:
    """The version of Windows Subsystem for Linux that this is; 0: none."""
    release = _read("/proc/sys/kernel/osrelease").lower()
    if "microsoft" not in release:
        return 0
    return 2 if "wsl2" in release or "microsoft-standard" in release else 1


def _lines(table: str) -> list[bytes]:
    """The lines of a table; none if there is no such table, as without IPv6."""
    try:
        return _split_lines(_read_bytes(f"{_NET}/{table}"))
    except OSError:
        return []


def _split_lines(text: bytes) -> list[bytes]:
    return text.removesuffix(b"\n").split(b"\n")


def _read(path: str) -> str:
    """A file's text; empty if there is none, as of a program that has ended."""
    try:
        return _read_bytes(path).decode(errors="surrogateescape")
    except OSError:
        return ""


@trio.lowlevel.enable_ki_protection
def _read_bytes(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _list(path: str) -> Iterator[str]:
    try:
        yield from os.listdir(path)
    except OSError:
        return


def _ipv4(text: bytes) -> str:
    return str(IPv4Address(_packed_ipv4(text)))


def _packed_ipv4(text: bytes) -> bytes:
    """An address as the kernel prints it: the number that its bytes are on this machine."""
    return int(text, 16).to_bytes(4, sys.byteorder)


def _ipv6(text: bytes) -> str:
    return str(IPv6Address(bytes.fromhex(text.decode())))


def _ipv6_in_words(text: bytes) -> str:
    """As `_ipv4`, of four numbers."""
    words = (int(text[i : i + 8], 16).to_bytes(4, sys.byteorder) for i in range(0, 32, 8))
    return str(IPv6Address(b"".join(words)))
