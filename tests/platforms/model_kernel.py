"""A kernel as a model: what each system refuses, and what it delivers to whom.

It reads the bytes of socket options by the layouts of the headers, as the kernel does, and answers
with that system's numbers. What was learned of each system stands beside the rule; "unknown" marks
what nobody has told, where the model does the worst that it could mean for the library.
"""

from __future__ import annotations

import ctypes
import os
import re
import struct
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, TypeAlias

import trio

from trio_mcast._base.interface import Interface
from trio_mcast._interfaces.following import Event, LinkGone, LinkSeen
from trio_mcast._machine.machine import Changes
from trio_mcast._machine.winsock import (
    SIO_UDP_CONNRESET,
    SIO_UDP_NETRESET,
    WSABUF,
    WSAMSG,
)

from .systems import System

IPAddress: TypeAlias = IPv4Address | IPv6Address
Key: TypeAlias = tuple[int, bytes]
"""The index of an interface, and a packed group."""

_LARGEST = 65507
_EVERYONE = IPv4Address("224.0.0.1").packed


@dataclass
class Filter:
    """Which sources a membership hears."""

    mode: str = "exclude"
    sources: set[bytes] = field(default_factory=set)

    def passes(self, source: bytes) -> bool:
        return (source in self.sources) == (self.mode == "include")


@dataclass(frozen=True)
class Packet:
    """A datagram in a socket's queue, or on its way there.

    Attributes:
      is_own: this host has sent it
    """

    data: bytes
    destination: IPAddress
    port: int
    index: int
    source: tuple[Any, ...]
    is_own: bool = False
    hop_limit: int = 1
    traffic_class: int = 0

    @property
    def sender(self) -> bytes:
        return ip_address(self.source[0]).packed


@dataclass(frozen=True)
class Sent:
    """What left the host, or tried to."""

    packet: Packet
    loopback: bool


class Kernel:
    """One host.

    Attributes:
      interfaces: by index
      sockets: those that are open
      opened: how many there have been
      sent: what was sent, in order
      faults: for a step (the name of an option, "bind", "sendto", "socket") the errors that come
        next, before anything is done
      delivers_to_bystanders: Windows only, unknown: whether a socket bound to the wildcard gets
        groups that only others have joined
      log: every step of every socket, as ``(number of the socket, step, value)``
    """

    def __init__(self, system: System, interfaces: Iterable[Interface]) -> None:
        self.system = system
        self.interfaces = {interface.index: interface for interface in interfaces}
        self.sockets: list[ModelSocket] = []
        self.opened = 0
        self.sent: list[Sent] = []
        self.faults: dict[str, list[str]] = {}
        self.delivers_to_bystanders = True
        self.log: list[tuple[int, str, Any]] = []
        self._changes: list[ModelChanges] = []
        self._next_port = 49152

    # What the library asks of the system

    def open_socket(self, family: int, kind: int) -> ModelSocket:
        self.strike("socket")
        self.opened += 1
        sock = ModelSocket(self, family, self.opened)
        self.sockets.append(sock)
        return sock

    def list_interfaces(self) -> tuple[Interface, ...]:
        return tuple(self.interfaces[index] for index in sorted(self.interfaces))

    def list_groups(self) -> frozenset[Key] | None:
        if self.system.name != "linux":
            return None
        return frozenset(key for sock in self.sockets for key in sock.memberships)

    def open_changes(self) -> ModelChanges:
        changes = ModelChanges(self)
        self._changes.append(changes)
        return changes

    def control(
        self, sock: ModelSocket, code: int, request: bytes = b"", answer_size: int = 0
    ) -> bytes:
        """WSAIoctl."""
        if code in (SIO_UDP_CONNRESET, SIO_UDP_NETRESET) and len(request) == 4:
            if not any(request):
                sock.silenced.add(code)
            return b""
        raise self.refusal("EOPNOTSUPP")

    def receive_message(self, handle: int, message: WSAMSG) -> tuple[int, int]:
        """WSARecvMsg."""
        (sock,) = (sock for sock in self.sockets if sock.fileno() == handle)
        if not sock.queue:
            return 0, self.system.errors["EWOULDBLOCK"]
        packet = sock.pop()
        if isinstance(packet, str):
            return 0, self.system.errors[packet]
        name = self._socket_name(packet.source)
        control = b"".join(
            struct.pack("=Qii", 16 + len(payload), level, kind) + payload + bytes(-len(payload) % 8)
            for level, kind, payload in sock.control_messages(packet)
        )
        buffer = WSABUF.from_address(message.lpBuffers)
        for address, size, data in (
            (message.name, message.namelen, name),
            (message.Control.buf, message.Control.len, control),
            (buffer.buf, buffer.len, packet.data),
        ):
            assert len(data) <= size
            ctypes.memmove(address, data, len(data))
        message.namelen, message.Control.len = len(name), len(control)
        return len(packet.data), 0

    def _socket_name(self, source: tuple[Any, ...]) -> bytes:
        packed = ip_address(source[0]).packed
        head = struct.pack("=H", self.system.constants[f"AF_INET{'6' * (len(packed) == 16)}"])
        head += struct.pack(">H", source[1])
        if len(packed) == 4:
            return head + packed + bytes(8)
        return head + struct.pack(">I", source[2]) + packed + struct.pack("=I", source[3])

    # What happens to the host

    def add_interface(self, interface: Interface) -> None:
        """One that comes, or is different from now on."""
        self.interfaces[interface.index] = interface
        self._announce(LinkSeen(interface.index, has_carrier=interface.is_up))

    def remove_interface(self, index: int) -> None:
        """It goes, and all memberships on it with it."""
        del self.interfaces[index]
        for sock in self.sockets:
            for key in [key for key in sock.memberships if key[0] == index]:
                del sock.memberships[key]
        self._announce(LinkGone(index))

    def _announce(self, event: Event) -> None:
        for changes in self._changes:
            changes.put(event)

    def arrive(self, packet: Packet) -> None:
        """By an interface, from the network or, if it is this host's own, from inside."""
        if packet.index not in self.interfaces:
            return
        if packet.destination.is_multicast:
            targets = [sock for sock in self.sockets if sock.hears(packet)]
        else:  # to this host: one of the sockets that fit, which is undefined. Here, the last
            targets = [sock for sock in self.sockets if sock.is_bound_for(packet, unicast=True)]
            targets = targets[-1:]
        for sock in targets:
            sock.put(packet)

    def report_unreachable(self, error: str = "ECONNRESET") -> None:
        """An ICMP error arrives about something that each socket has sent before."""
        code = SIO_UDP_CONNRESET if error == "ECONNRESET" else SIO_UDP_NETRESET
        for sock in self.sockets:
            if self.system.name == "win32" and code not in sock.silenced:
                sock.put(error)

    def is_wanted(self, key: Key) -> bool:
        """Whether anyone on the host has joined the group there."""
        return key[1] == _EVERYONE or any(key in sock.memberships for sock in self.sockets)

    # Helpers

    def refusal(self, name: str) -> OSError:
        return self.system.refusal(name)

    def strike(self, step: str) -> None:
        if errors := self.faults.get(step):
            raise self.refusal(errors.pop(0))

    def choose_port(self) -> int:
        self._next_port += 1
        return self._next_port


class ModelChanges(Changes):
    """Announcements: all that matters from Linux, from others only that there was something."""

    def __init__(self, kernel: Kernel) -> None:
        self.is_complete = kernel.system.name == "linux"
        self._kernel = kernel
        self._events: list[Event] = []
        self._waiting = trio.lowlevel.ParkingLot()
        self._is_closed = False

    def put(self, event: Event) -> None:
        self._events.append(event)
        self._waiting.unpark_all()

    def look(self) -> list[Event]:
        return [LinkSeen(index) for index in self._kernel.interfaces] if self.is_complete else []

    async def wait(self) -> None:
        while not self._events:
            if self._is_closed:
                raise trio.ClosedResourceError
            await self._waiting.park()

    def read(self) -> list[Event]:
        events, self._events = self._events, []
        return events if self.is_complete else []

    def close(self) -> None:
        self._is_closed = True
        self._waiting.unpark_all()


class ModelSocket:
    """A UDP socket, which event loops can wait for: its descriptor is an eventfd.

    Attributes:
      memberships: of this socket
      options: what was set, by name, as a number or bytes
      silenced: ioctls by which ICMP errors were switched off
    """

    def __init__(self, kernel: Kernel, family: int, number: int) -> None:
        self.family = family
        self.memberships: dict[Key, Filter] = {}
        self.options: dict[str, Any] = {}
        self.silenced: set[int] = set()
        self.queue: deque[Packet | str] = deque()
        self.name: tuple[Any, ...] = ()
        self._kernel = kernel
        self._number = number
        self._has_asked_for_multicast = False
        self._interface_index: int | None = None
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK)
        constants = kernel.system.constants
        self.version = {constants["AF_INET"]: 4, constants["AF_INET6"]: 6}[family]
        level = {4: 0, 6: 41}[self.version]
        self._names: dict[tuple[int, int], str] = {}
        for name, value in constants.items():
            prefix = name.partition("_")[0]
            levels = {"SO": constants["SOL_SOCKET"], "IP": 0, "IPV6": 41, "UDP": 17, "MCAST": level}
            if prefix in levels:
                self._names.setdefault((levels[prefix], value), name)

    # What any socket has

    def __enter__(self) -> ModelSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        return self._descriptor

    def setblocking(self, flag: bool) -> None:
        assert not flag

    def close(self) -> None:
        if self._descriptor != -1:
            os.close(self._descriptor)
            self._descriptor = -1
            self._kernel.sockets.remove(self)

    def getsockname(self) -> tuple[Any, ...]:
        wildcard = ("0.0.0.0", 0) if self.version == 4 else ("::", 0, 0, 0)
        return self.name or wildcard

    def getsockopt(self, level: int, option: int, size: int = 0) -> Any:
        if size:
            return bytes(size)
        return self.options.get(self._names[level, option], 0)

    # Options

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        name = self._names.get((level, option))
        self._kernel.log.append((self._number, name or f"{level}/{option}", value))
        if name is None:
            raise self._refusal("ENOPROTOOPT")
        self._kernel.strike(name)
        if name.startswith("MCAST_") or name.endswith(("_MEMBERSHIP", "_GROUP")):
            self._has_asked_for_multicast = True
            self._change_membership(name, value)
        elif name in ("IP_MULTICAST_IF", "IPV6_MULTICAST_IF"):
            self._has_asked_for_multicast = True
            self._interface_index = self._read_interface(value)
        elif name == "SO_BINDTOIFINDEX":
            self.options[name] = self._existing(int.from_bytes(value, "little"), "ENODEV")
        elif name in ("SO_RCVBUFFORCE", "SO_SNDBUFFORCE"):
            raise self._refusal("EPERM")  # of an ordinary user
        elif name == "UDP_GRO":
            raise self._refusal("ENOPROTOOPT")  # Linux 4
        else:
            if len(value) not in (1, 4):
                raise self._refusal("EINVAL")
            self.options[name] = int.from_bytes(value, "little")

    def _existing(self, index: int, error: str) -> int:
        if index not in self._kernel.interfaces:
            raise self._refusal(error)
        return index

    def _read_interface(self, value: bytes) -> int:
        system = self._kernel.system.name
        unknown = "ENODEV" if system == "linux" and self.version == 6 else "EADDRNOTAVAIL"
        if self.version == 6:
            return self._existing(struct.unpack("=I", value)[0], unknown)
        if len(value) == 12 and system != "win32":  # ip_mreqn
            return self._existing(struct.unpack("=8xi", value)[0], unknown)
        if len(value) != 4:
            raise self._refusal("EINVAL")
        index = int.from_bytes(value, "big")
        if value[0] == 0 and system != "linux":  # 0.0.0.N
            return self._existing(index, unknown)
        for interface in self._kernel.interfaces.values():
            if any(address.ip.packed == value for address in interface.addresses):
                return interface.index
        raise self._refusal("EADDRNOTAVAIL")

    # Memberships

    def _change_membership(self, name: str, value: bytes) -> None:
        index, group, sources, mode = self._parse_request(name, value)
        system = self._kernel.system.name
        if not ip_address(group).is_multicast:
            raise self._refusal("EINVAL")
        if system == "win32" and not self.name:
            raise self._refusal("EINVAL")  # joined before it was bound
        leaves = "LEAVE" in name or "DROP" in name
        interface = self._kernel.interfaces.get(index)
        if interface is None and not leaves:
            raise self._refusal("ENODEV" if system == "linux" else "EADDRNOTAVAIL")
        if system == "darwin" and interface is not None and not interface.supports_multicast:
            raise self._refusal("EADDRNOTAVAIL")
        key = (index, group)
        match name:
            case "MCAST_JOIN_GROUP" | "IP_ADD_MEMBERSHIP" | "IPV6_JOIN_GROUP":
                self._join(key)
            case "MCAST_LEAVE_GROUP" | "IP_DROP_MEMBERSHIP" | "IPV6_LEAVE_GROUP":
                if self.memberships.pop(key, None) is None:
                    raise self._refusal("EINVAL" if system == "win32" else "EADDRNOTAVAIL")
            case "MCAST_JOIN_SOURCE_GROUP":
                self._join_source(key, sources[0])
            case "MCAST_LEAVE_SOURCE_GROUP":
                self._leave_source(key, sources[0])
            case "MCAST_BLOCK_SOURCE" | "MCAST_UNBLOCK_SOURCE":
                self._block(key, sources[0], name == "MCAST_BLOCK_SOURCE")
            case "MCAST_MSFILTER":
                if key not in self.memberships:
                    raise self._refusal("EINVAL")
                self.memberships[key] = Filter(mode, set(sources))
                if mode == "include" and not sources:
                    del self.memberships[key]

    def _join(self, key: Key) -> None:
        system = self._kernel.system.name
        known = self.memberships.get(key)
        if known is not None:
            if system == "darwin" and known.mode == "include":
                raise self._refusal("EINVAL")
            raise self._refusal("EADDRNOTAVAIL" if system == "win32" else "EADDRINUSE")
        if system == "linux" and self.version == 4 and len(self.memberships) >= 20:
            raise self._refusal("ENOBUFS")  # igmp_max_memberships
        self.memberships[key] = Filter()

    def _join_source(self, key: Key, source: bytes) -> None:
        system = self._kernel.system.name
        known = self.memberships.setdefault(key, Filter("include"))
        if known.mode == "exclude":
            if system == "linux":  # silently turns the membership around
                known = self.memberships[key] = Filter("include")
            else:
                raise self._refusal("EINVAL" if system == "darwin" else "EADDRNOTAVAIL")
        if source in known.sources:
            raise self._refusal("EADDRNOTAVAIL")
        most = {"linux": 10 if self.version == 4 else 64, "darwin": 128}.get(system, 1 << 30)
        if len(known.sources) >= most:
            raise self._refusal("ENOBUFS")
        known.sources.add(source)

    def _leave_source(self, key: Key, source: bytes) -> None:
        known = self.memberships.get(key)
        if known is None or source not in known.sources or known.mode == "exclude":
            raise self._refusal("EADDRNOTAVAIL")
        known.sources.remove(source)
        if not known.sources and self._kernel.system.name != "darwin":
            del self.memberships[key]  # there an empty membership stays

    def _block(self, key: Key, source: bytes, block: bool) -> None:
        known = self.memberships.get(key)
        if known is None or known.mode == "include" or (source in known.sources) == block:
            error = "EINVAL" if self._kernel.system.name == "win32" else "EADDRNOTAVAIL"
            raise self._refusal(error)
        known.sources ^= {source}

    def _parse_request(self, name: str, value: bytes) -> tuple[int, bytes, list[bytes], str]:
        """Interface, group, sources, filter mode."""
        if name in ("IP_ADD_MEMBERSHIP", "IP_DROP_MEMBERSHIP"):
            if len(value) != 8:
                raise self._refusal("EINVAL")
            return self._read_interface(value[4:]), value[:4], [], ""
        if name in ("IPV6_JOIN_GROUP", "IPV6_LEAVE_GROUP"):
            return struct.unpack_from("=I", value, 16)[0], value[:16], [], ""
        kind, prefix = "group_req", "gr"
        if "SOURCE" in name:
            kind, prefix = "group_source_req", "gsr"
        elif name == "MCAST_MSFILTER":
            kind, prefix = "group_filter", "gf"
        layout = self._kernel.system.structs[kind]
        offsets = {key: row["offset"] for key, row in layout["fields"].items()}
        if kind != "group_filter" and len(value) != layout["size"]:
            raise self._refusal("EINVAL")
        index = struct.unpack_from("=I", value, offsets[f"{prefix}_interface"])[0]
        group = self._read_address(value[offsets[f"{prefix}_group"] :])
        if kind == "group_source_req":
            return index, group, [self._read_address(value[offsets["gsr_source"] :])], ""
        if kind == "group_req":
            return index, group, [], ""
        mode, count = struct.unpack_from("=II", value, offsets["gf_fmode"])
        start = offsets["gf_slist"]
        places = range(start, start + 128 * count, 128)
        includes = mode == self._kernel.system.constants["MCAST_INCLUDE"]
        sources = [self._read_address(value[place:]) for place in places]
        return index, group, sources, "include" if includes else "exclude"

    def _read_address(self, value: bytes) -> bytes:
        size, place = (16, slice(4, 8)) if self.version == 4 else (28, slice(8, 24))
        if self._kernel.system.name == "darwin":
            is_right = value[0] == size and value[1] == self.family
        else:
            is_right = struct.unpack_from("=H", value)[0] == self.family
        if not is_right:
            raise self._refusal("EINVAL")
        return value[place]

    # Binding

    def bind(self, address: tuple[Any, ...]) -> None:
        self._kernel.log.append((self._number, "bind", address))
        self._kernel.strike("bind")
        host, port = ip_address(address[0]), address[1] or self._kernel.choose_port()
        system = self._kernel.system.name
        if host.is_multicast:
            if system == "win32":
                raise self._refusal("EADDRNOTAVAIL")
            is_local = host.version == 6 and host.packed[1] & 0xF in (1, 2)
            if is_local and address[3] not in self._kernel.interfaces:
                raise self._refusal("EINVAL" if system == "linux" else "EADDRNOTAVAIL")
        elif not host.is_unspecified and not self._is_own(host):
            raise self._refusal("EADDRNOTAVAIL")
        for other in self._kernel.sockets:
            is_rival = other.name and other.name[1] == port and other.version == self.version
            if is_rival and not (self._shares_port(host) and other._shares_port(host)):
                raise self._refusal("EADDRINUSE")
        self.name = (str(host), port, *address[2:])

    def _shares_port(self, host: IPAddress) -> bool:
        """With macOS a socket bound to the wildcard needs SO_REUSEPORT, others either option."""
        if self._kernel.system.name == "darwin" and host.is_unspecified:
            return bool(self.options.get("SO_REUSEPORT"))
        return bool(self.options.get("SO_REUSEADDR") or self.options.get("SO_REUSEPORT"))

    def _is_own(self, host: IPAddress) -> bool:
        listing = self._kernel.interfaces.values()
        return any(address.ip == host for i in listing for address in i.addresses)

    def connect(self, address: tuple[Any, ...]) -> None:
        interface = self._kernel.interfaces[self._interface_index or 0]
        own = [a.ip for a in interface.addresses if a.version == self.version]
        self.name = (str(own[0]), self._kernel.choose_port(), *address[2:])

    # Receiving

    def is_bound_for(self, packet: Packet, *, unicast: bool = False) -> bool:
        if not self.name or packet.destination.version != self.version:
            return False
        kept_to = self.options.get("SO_BINDTOIFINDEX")
        if self.name[1] != packet.port or kept_to not in (None, packet.index):
            return False
        own = ip_address(self.name[0])
        # udp6_input does not compare the address.
        ignores_address = self._kernel.system.name == "darwin" and self.version == 6 and not unicast
        return own.is_unspecified or own == packet.destination or ignores_address

    def hears(self, packet: Packet) -> bool:
        """Whether the system delivers a datagram for a group to this socket."""
        if not self.is_bound_for(packet):
            return False
        key = (packet.index, packet.destination.packed)
        known = self.memberships.get(key)
        match self._kernel.system.name:
            case "linux":
                everything = self.options.get(f"IP{'V6' * (self.version == 6)}_MULTICAST_ALL", 1)
                if known is None and self.version == 6:  # interfaces are not told apart
                    known = next((f for k, f in self.memberships.items() if k[1] == key[1]), None)
                if known is None:
                    return bool(everything) and self._kernel.is_wanted(key)
            case "darwin":
                if self.version == 4 and key[1] == _EVERYONE:
                    return True
                if self.version == 6 and not self._has_asked_for_multicast:
                    return self._kernel.is_wanted(key)
                if known is None:
                    return False
            case "win32":
                # Microsoft: the option must be set on the receiving socket.
                name = f"IP{'V6' * (self.version == 6)}_MULTICAST_LOOP"
                if packet.is_own and not self.options.get(name, 1):
                    return False
                if known is None:  # unknown
                    return self._kernel.delivers_to_bystanders and self._kernel.is_wanted(key)
        return known is not None and known.passes(packet.sender)

    def put(self, packet: Packet | str) -> None:
        self.queue.append(packet)
        os.eventfd_write(self._descriptor, 1)

    def pop(self) -> Packet | str:
        packet = self.queue.popleft()
        if not self.queue:
            os.eventfd_read(self._descriptor)
        return packet

    def _next(self) -> Packet:
        if not self.queue:
            raise self._refusal("EWOULDBLOCK" if self._kernel.system.name == "win32" else "EAGAIN")
        packet = self.pop()
        if isinstance(packet, str):
            raise self._refusal(packet)
        return packet

    def recvfrom_into(self, buffer: memoryview) -> tuple[int, tuple[Any, ...]]:
        packet = self._next()
        buffer[: len(packet.data)] = packet.data
        return len(packet.data), packet.source

    def recvfrom(self, size: int) -> tuple[bytes, tuple[Any, ...]]:
        packet = self._next()
        return packet.data[:size], packet.source

    def recvmsg(self, _size: int, _ancillary: int, _flags: int) -> Any:
        """Of the queue of errors, in which nothing ever is here."""
        raise BlockingIOError

    def recvmsg_into(
        self, buffers: Sequence[memoryview], size: int
    ) -> tuple[int, list[tuple[int, int, bytes]], int, tuple[Any, ...]]:
        assert self._kernel.system.name != "win32", "Python has no recvmsg there"
        packet = self._next()
        (buffer,) = buffers
        buffer[: len(packet.data)] = packet.data
        return len(packet.data), self.control_messages(packet), 0, packet.source

    def control_messages(self, packet: Packet) -> list[tuple[int, int, bytes]]:
        """Those that were asked for, as that system writes them."""
        return [
            (level, kind, _write_payload(payload, name, packet))
            for name, (level, kind, payload) in self._kernel.system.control_messages.items()
            if self.options.get(name) and name.startswith("IPV6" if self.version == 6 else "IP_")
        ]

    # Sending

    def sendto(self, data: bytes, address: tuple[Any, ...]) -> int:
        self._kernel.log.append((self._number, "sendto", address))
        self._kernel.strike("sendto")
        system = self._kernel.system.name
        largest = self.options.get("SO_SNDBUF", 9216) if system == "darwin" else _LARGEST
        if len(data) > min(largest, _LARGEST):
            raise self._refusal("EMSGSIZE")
        interface = self._kernel.interfaces.get(self._interface_index or 0)
        if interface is None:
            raise self._refusal("ENODEV" if system == "linux" else "EHOSTUNREACH")
        own = [a.ip for a in interface.addresses if a.version == self.version]
        if not self.name:
            self.bind(self.getsockname())
        if not ip_address(self.name[0]).is_unspecified:
            own = [ip_address(self.name[0])]  # type: ignore[list-item]
        if not own:
            raise self._refusal("EADDRNOTAVAIL")
        group = ip_address(address[0])
        key = (interface.index, group.packed)
        if system == "win32" and interface.is_loopback and not self._kernel.is_wanted(key):
            raise self._refusal("ENETUNREACH")
        suffix = "" if self.version == 4 else "V6"
        packet = Packet(
            bytes(data),
            group,
            address[1],
            interface.index,
            (str(own[0]), self.name[1], *((0, 0) if self.version == 6 else ())),
            is_own=True,
            hop_limit=self.options.get("IPV6_MULTICAST_HOPS" if suffix else "IP_MULTICAST_TTL", 1),
            traffic_class=self.options.get("IPV6_TCLASS" if suffix else "IP_TOS", 0),
        )
        loops = bool(self.options.get(f"IP{suffix}_MULTICAST_LOOP", 1))
        self._kernel.sent.append(Sent(packet, loops))
        if loops or system == "win32":
            self._kernel.arrive(packet)
        return len(data)

    def sendmsg(
        self, buffers: Sequence[bytes], ancillary: Any, flags: int, address: tuple[Any, ...]
    ) -> int:
        """With UDP_SEGMENT only."""
        assert self._kernel.system.name == "linux"
        ((_level, _kind, size),) = ancillary
        (segment,) = struct.unpack("=H", size)
        data = b"".join(buffers)
        for start in range(0, len(data), segment):
            self.sendto(data[start : start + segment], address)
        return len(data)

    def _refusal(self, name: str) -> OSError:
        return self._kernel.refusal(name)


_FORMATS = {"i32": "i", "u32": "I", "u8": "B", "4s": "4s", "16s": "16s"}


def _write_payload(payload: str, name: str, packet: Packet) -> bytes:
    """A payload from words such as ``ifindex:i32, spec_dst:4s, addr:4s`` or ``i32``."""
    values: dict[str, Any] = {
        "ifindex": packet.index,
        "addr": packet.destination.packed,
        "spec_dst": bytes(4),
        "": packet.traffic_class if "TOS" in name or "TCLASS" in name else packet.hop_limit,
    }
    data = b""
    for part in payload.split(", "):
        what, _colon, kind = part.rpartition(":")
        code = _FORMATS[re.match(r"\w+", kind)[0]]  # type: ignore[index]
        data += struct.pack(f"={code}", values[what])
    return data
