"""Hosts, cables and switches for tests, made of network namespaces (Linux).

A test host is a network namespace, held open by a file descriptor. What shall happen on the host
runs in a thread that has entered its namespace with setns(2): that moves one thread, not the
process. A socket keeps the namespace it was made in, so a plain socket made on one host may be used
from the thread of another, and most tests can be read from top to bottom:

    def test_a_datagram_arrives(network, udp_port):
        here, there = network.link(network.host("a"), "eth0", network.host("b"), "eth0")
        talker = there.talker("233.252.0.1", udp_port)

        async def main():
            async with trio_mcast.open_receiver("233.252.0.1", port=udp_port) as receiver:
                talker.send(b"hello")
                assert (await receiver.receive()).data == b"hello"

        here.host.run(main)

Making two hosts with a cable between them takes some 6 milliseconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import ipaddress
import itertools
import os
import resource
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Generic, TypeVar

import trio
from patience import PATIENCE

T = TypeVar("T")

# linux/sched.h
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
# linux/sockios.h, linux/if.h
SIOCGIFFLAGS, SIOCSIFFLAGS = 0x8913, 0x8914
IFF_UP, IFF_RUNNING = 0x1, 0x40
# linux/if_addr.h
IFA_F_DADFAILED, IFA_F_TENTATIVE = 0x08, 0x40
# linux/in.h, linux/in6.h: what the socket module of Python 3.11 lacks
MCAST_JOIN_GROUP, MCAST_JOIN_SOURCE_GROUP = 42, 46
IP_PKTINFO, IP_RECVTTL, IP_RECVTOS, IP_MULTICAST_ALL = 8, 12, 13, 49

_libc = ctypes.CDLL(None, use_errno=True)


def _system_call(name: str, *args: int) -> None:
    if getattr(_libc, name)(*args):
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")


# --- Whether this machine lets us -----------------------------------------------------------------


def why_no_namespaces() -> str | None:
    """Gain the right to make network namespaces; or say why that is impossible.

    Root has it. An ordinary user gets it by moving this process into a user namespace of its own,
    in which it is root (as `unshare --user --map-root-user` does). The kernel grants that to
    processes of a single thread only, so this must be called before anything starts one. A forked
    child tries first, for there is no way back when half of it succeeds.
    """
    if shutil.which("ip") is None:
        return "the program `ip` (iproute2) is not installed"
    if _child_can(lambda: _system_call("unshare", CLONE_NEWNET)) is None:
        return None
    if len(os.listdir("/proc/self/task")) > 1:
        return (
            "this user may not make network namespaces, and a process with several threads cannot "
            "enter a user namespace: try `unshare --user --map-root-user pytest`"
        )

    def become_root_and_try() -> None:
        _become_root_of_a_user_namespace()
        _system_call("unshare", CLONE_NEWNET)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True, capture_output=True)

    if (refusal := _child_can(become_root_and_try)) is not None:
        return f"this user may not make network namespaces ({refusal})"
    _become_root_of_a_user_namespace()
    return None


def _child_can(action: Callable[[], None]) -> str | None:
    """Do something in a forked child. Returns None when it worked, else the error as text."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            action()
        except BaseException as error:
            os.write(writer, f"{error}".encode()[:500] or b"?")
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        complaint = pipe.read()
    os.waitpid(child, 0)
    return complaint or None


def _become_root_of_a_user_namespace() -> None:
    user, group = os.geteuid(), os.getegid()
    _system_call("unshare", CLONE_NEWUSER)
    for path, text in (
        ("/proc/self/setgroups", "deny"),
        ("/proc/self/uid_map", f"0 {user} 1"),
        ("/proc/self/gid_map", f"0 {group} 1"),
    ):
        with open(path, "w") as file:
            file.write(text)


# --- Waiting --------------------------------------------------------------------------------------


def wait_until(condition: Callable[[], T], what: str, *, patience: float = PATIENCE) -> T:
    """Ask until the answer is true, and return it. It is meant for what the kernel does soon."""
    deadline = time.monotonic() + patience
    while True:
        if answer := condition():
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: still not so after {patience} seconds")
        time.sleep(0.001)


async def wait_until_async(
    condition: Callable[[], T], what: str, *, patience: float = PATIENCE
) -> T:
    """As `wait_until`, while the other tasks of this trio loop go on."""
    deadline = trio.current_time() + patience
    while True:
        if answer := condition():
            return answer
        if trio.current_time() > deadline:
            raise AssertionError(f"{what}: still not so after {patience} seconds")
        await trio.sleep(0.001)


def open_descriptors() -> dict[int, str]:
    """The open file descriptors of this process and what each of them is."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one that listed the folder
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


# --- Hosts ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    """For this whole process: nothing can be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unused = os.dup(0)
    os.close(unused)
    resource.setrlimit(resource.RLIMIT_NOFILE, (unused, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class TaskStatus:
    """What a function given to `Host.start` calls when it is ready, as trio's own."""

    def __init__(self) -> None:
        self.ready = threading.Event()
        self.value: Any = None

    def started(self, value: Any = None) -> None:
        self.value = value
        self.ready.set()


class HostTask(Generic[T]):
    """An async function that runs in a trio loop and a thread of its own on a test host."""

    def __init__(
        self, host: Host, async_function: Callable[[], Awaitable[T]], status: TaskStatus
    ) -> None:
        self._host = host
        self._async_function = async_function
        self._status = status
        self._token: trio.lowlevel.TrioToken | None = None
        self._running = threading.Event()
        self._scope = trio.CancelScope()
        self._value: T
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._thread_main, name=host.name, daemon=True)
        self._thread.start()

    def _thread_main(self) -> None:
        try:
            self._host.enter()
            trio.run(self._main)
        except BaseException as error:
            self._error = error
        finally:
            self._running.set()
            self._status.ready.set()

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._running.set()
        with trio.fail_after(PATIENCE), self._scope:
            self._value = await self._async_function()

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def result(self) -> T:
        """Wait for its end. Returns what it returned, raises what it raised."""
        self._thread.join(PATIENCE + 1)
        assert self.done, f"a task on {self._host.name} does not end"
        if self._error is not None:
            raise self._error
        assert not self._scope.cancelled_caught, f"the task on {self._host.name} was cancelled"
        return self._value

    def wait_until_started(self) -> Any:
        """Wait for `task_status.started(value)`. Returns the value, or raises what it raised."""
        assert self._status.ready.wait(PATIENCE + 1), f"a task on {self._host.name} does not start"
        if self._error is not None:
            raise self._error
        return self._status.value

    def cancel(self) -> None:
        """Cancel it and wait for its end."""
        self._running.wait(PATIENCE)
        if self._token is not None:
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._scope.cancel)
        self._thread.join(PATIENCE + 1)
        assert not self._thread.is_alive(), f"a task on {self._host.name} ignores cancellation"


class Host:
    """A network namespace with `lo` up and no other interface yet. Made by `Network.host`."""

    def __init__(self, network: Network, name: str) -> None:
        self.name = name
        self.network = network
        self._namespace = _in_thread(_make_namespace)
        self.lo = Card(self, "lo", ipv4="127.0.0.1", ipv6="::1")

    def __repr__(self) -> str:
        return f"<Host {self.name}>"

    def close(self) -> None:
        os.close(self._namespace)

    # Running things here

    def enter(self) -> None:
        """Move the calling thread to this host, for good."""
        _system_call("setns", self._namespace, CLONE_NEWNET)

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Call a plain function on this host."""

        def enter_and_call() -> T:
            self.enter()
            return function(*args)

        return _in_thread(enter_and_call)

    def run(self, async_function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """`trio.run` on this host. Returns what the function returned, raises what it raised."""
        return self.start_soon(async_function, *args).result()

    def start_soon(self, async_function: Callable[..., Awaitable[T]], *args: Any) -> HostTask[T]:
        """`trio.run` on this host while the test goes on; cancelled at the test's end."""
        task = HostTask(self, lambda: async_function(*args), TaskStatus())
        self.network.tasks.append(task)
        return task

    def start(self, async_function: Callable[..., Awaitable[T]], *args: Any) -> HostTask[T]:
        """As `start_soon`, and wait until the function calls its `task_status.started()`."""
        status = TaskStatus()
        task = HostTask(self, lambda: async_function(*args, task_status=status), status)
        self.network.tasks.append(task)
        task.wait_until_started()
        return task

    def command(self, *argv: str, input: str | None = None) -> str:
        """Run a program here and return its standard output; it must succeed."""
        return self.call(self._command, argv, input)

    def _command(self, argv: tuple[str, ...], input: str | None) -> str:
        done = subprocess.run(
            argv,
            input=input,
            text=True,
            capture_output=True,
            pass_fds=self.network.namespaces(),
            timeout=PATIENCE,
        )
        if done.returncode:
            raise AssertionError(
                f"{' '.join(argv)} on {self.name} failed ({done.returncode}): "
                f"{done.stderr.strip()}\n{input or ''}"
            )
        return done.stdout

    def ip(self, *commands: str) -> str:
        """`ip` with one or several commands: ``host.ip("link set eth0 down")``."""
        if len(commands) == 1:
            return self.command("ip", *commands[0].split())
        return self.command("ip", "-batch", "-", input="\n".join(commands) + "\n")

    def program(self, *argv: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start a program here that goes on; it is killed at the test's end."""
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE} | options
        process = self.call(lambda: subprocess.Popen(argv, **options))
        self.network.programs.append(process)
        return process

    def sysctl(self, name: str, value: object) -> None:
        """Write a kernel setting of this host: ``host.sysctl("net.ipv4.conf.all.rp_filter", 2)``.

        An interface's name with a dot in it is not provided for.
        """

        def write() -> None:
            with open("/proc/sys/" + name.replace(".", "/"), "w") as file:
                file.write(str(value))

        self.call(write)

    def let_ipv6_multicast_use_lo(self) -> None:
        """Without this route every IPv6 group is unreachable through `lo`."""
        self.ip("-6 route add local ff00::/8 dev lo")

    def socket(self, family: int, kind: int = socket.SOCK_DGRAM) -> socket.socket:
        """A plain socket of this host, usable from any thread, closed at the test's end."""
        made = self.call(socket.socket, family, kind)
        self.network.sockets.append(made)
        return made

    # What the kernel says

    def read(self, name: str) -> str:
        """A file of this host's /proc/net."""

        def read() -> str:
            with open(f"/proc/thread-self/net/{name}") as file:
                return file.read()

        return self.call(read)

    def groups(self, interface: str) -> set[IPv4Address | IPv6Address]:
        """The groups that an interface of this host has joined, as the kernel tells."""
        joined: set[IPv4Address | IPv6Address] = set()
        current = ""
        for line in self.read("igmp").splitlines()[1:]:
            words = line.split()
            if not line.startswith("\t"):
                current = words[1].rstrip(":")
            elif current == interface:
                joined.add(IPv4Address(struct.pack("=I", int(words[0], 16))))
        for line in self.read("igmp6").splitlines():
            words = line.split()
            if words[1] == interface:
                joined.add(IPv6Address(bytes.fromhex(words[2])))
        return joined

    def has_joined(self, group: str, interface: str = "eth0") -> bool:
        return ipaddress.ip_address(group) in self.groups(interface)

    def bound_udp_ports(self) -> set[int]:
        """The local ports of this host's UDP sockets."""
        lines = [*self.read("udp").splitlines()[1:], *self.read("udp6").splitlines()[1:]]
        return {int(line.split()[1].rpartition(":")[2], 16) for line in lines}


def _in_thread(function: Callable[[], T]) -> T:
    """Call a function in a new thread, which may go to another namespace and not come back."""
    value: T
    error: BaseException | None = None

    def main() -> None:
        nonlocal value, error
        try:
            value = function()
        except BaseException as caught:
            error = caught

    thread = threading.Thread(target=main, daemon=True)
    thread.start()
    thread.join()
    if error is not None:
        raise error
    return value


def _make_namespace() -> int:
    """Move this thread to a new network namespace. Returns the descriptor that keeps it alive."""
    _system_call("unshare", CLONE_NEWNET)
    # Without duplicate address detection an IPv6 address can be used at once, not after a second.
    for interfaces in ("all", "default"):
        with open(f"/proc/sys/net/ipv6/conf/{interfaces}/accept_dad", "w") as file:
            file.write("0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("=16sH14x", b"lo", IFF_UP))
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


# --- Network cards --------------------------------------------------------------------------------


@dataclass(eq=False)
class Card:
    """A network interface of a test host, seen from outside: where it is plugged in, and its tools.

    Attributes:
      peer: the other end of the cable (a veth pair). Its `down` takes the carrier from this one
      ipv4, ipv6: its first addresses, as text, without prefix length. Empty if it has none; then
        IPv6 is switched off altogether (disable_ipv6)
    """

    host: Host
    name: str
    ipv4: str = ""
    ipv6: str = ""
    peer: Card | None = None
    master: str = ""
    mac: str = ""
    mtu: int = 1500
    index: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        if self.name == "lo":
            self.index = 1

    def __repr__(self) -> str:
        return f"<Card {self.name} of {self.host.name}>"

    @property
    def link_local(self) -> str:
        """Its fe80:: address, without zone."""
        for address in self._ipv6_addresses():
            if IPv6Address(address).is_link_local:
                return address
        raise AssertionError(f"{self} has no link-local address")

    # Things that happen to interfaces

    def set(self, what: str) -> None:
        """`ip link set`: ``card.set("mtu 1200")``."""
        self.host.ip(f"link set {self.name} {what}")

    def down(self) -> None:
        self.set("down")

    def up(self) -> None:
        """Switch it on, with the addresses it has lost, and wait until they can be used.

        Going down takes the IPv6 addresses away, moving to another host all of them.
        """
        self.configure()
        self.wait_until_ready()

    def unplug(self) -> None:
        """Take the carrier away; the interface itself stays up."""
        assert self.peer is not None
        self.peer.down()
        wait_until(lambda: not self._is_running(), f"{self} has lost its carrier")

    def plug(self) -> None:
        """Give the carrier back."""
        assert self.peer is not None
        self.peer.up()
        self.wait_until_ready()

    def flap(self) -> None:
        """Lose the carrier for a moment, as when a cable is moved to another socket."""
        self.unplug()
        self.plug()

    def add_address(self, address: str) -> None:
        """One more address: ``card.add_address("10.77.1.9/24")``."""
        self.host.ip(f"addr add {address} dev {self.name}" + (" nodad" if ":" in address else ""))

    def delete(self) -> None:
        """Remove the interface and, with it, the other end of its cable."""
        self.host.ip(f"link delete {self.name}")

    def create(self, *, with_index: int | None = None) -> None:
        """Make the interface (again) with the MAC and addresses that it has always had.

        The other end is made again as well. Without `with_index` the index is a new one.
        """
        here, there, network = self, self.peer, self.host.network
        assert there is not None
        index = with_index or network.new_index()
        here.host.ip(
            f"link add {here.name} index {index} mtu {here.mtu} address {here.mac} type veth "
            f"peer name {there.name} index {network.new_index()} mtu {there.mtu} "
            f"address {there.mac} netns {network.path_of(there.host)}"
        )
        for card in (here, there):
            card.configure()
        for card in (here, there):
            card.wait_until_ready()

    def move_to(self, host: Host) -> None:
        """Move it to another host, where it arrives down and without addresses.

        This card then stands for the interface on the new host; `up` makes it usable there.
        """
        self.host.ip(f"link set {self.name} netns {self.host.network.path_of(host)}")
        self.host = host
        self.index = host.call(socket.if_nametoindex, self.name)

    def configure(self) -> None:
        self.index = self.host.call(socket.if_nametoindex, self.name)
        if not self.ipv6:
            self.host.sysctl(f"net.ipv6.conf.{self.name}.disable_ipv6", 1)
        commands = []
        if self.ipv4:
            commands.append(f"addr replace {self.ipv4}/24 dev {self.name}")
        if self.ipv6:
            commands.append(f"addr replace {self.ipv6}/64 dev {self.name} nodad")
        if self.master:
            commands.append(f"link set {self.name} master {self.master}")
        self.host.ip(*commands, f"link set {self.name} up")

    def wait_until_ready(self) -> None:
        """Until carrier is there and every IPv6 address can be used."""

        def is_ready() -> bool:
            if not self._is_running():
                return bool(self.peer and not self.peer._is_up())
            if not self.ipv6:
                return True
            addresses = self._ipv6_addresses()
            return self.ipv6 in addresses and any(a.startswith("fe80:") for a in addresses)

        wait_until(is_ready, f"{self} is ready")

    def _flags(self) -> int:
        def ask() -> int:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
                request = struct.pack("=16sH14x", self.name.encode(), 0)
                answer = fcntl.ioctl(control, SIOCGIFFLAGS, request)
            return int(struct.unpack("=16xH14x", answer)[0])

        return self.host.call(ask)

    def _is_up(self) -> bool:
        return bool(self._flags() & IFF_UP)

    def _is_running(self) -> bool:
        return bool(self._flags() & IFF_RUNNING)

    def _ipv6_addresses(self) -> list[str]:
        """Its usable IPv6 addresses."""
        found = []
        for line in self.host.read("if_inet6").splitlines():
            address, _index, _prefix, _scope, flags, name = line.split()
            if name == self.name and not int(flags, 16) & (IFA_F_TENTATIVE | IFA_F_DADFAILED):
                found.append(str(IPv6Address(bytes.fromhex(address))))
        return found

    # Programs other than the one under test

    def talker(self, group: str, port: int, **options: Any) -> Talker:
        """A plain socket that sends to a group through this interface. See `Talker`."""
        return Talker(self, group, port, **options)

    def listener(self, group: str, port: int, *, source: str | None = None) -> Listener:
        """A plain socket that has joined a group on this interface. See `Listener`."""
        return Listener(self, group, port, source)


class Talker:
    """An independent sender: a plain blocking socket, with the interface chosen by index.

    Args:
      source: the address to send from, else the kernel chooses
      source_port: the port to send from, else the kernel chooses
    """

    def __init__(
        self,
        card: Card,
        group: str,
        port: int,
        *,
        source: str | None = None,
        source_port: int = 0,
        hop_limit: int = 1,
        traffic_class: int = 0,
    ) -> None:
        self.group = group
        six = ":" in group
        self._destination = (group, port, 0, card.index) if six else (group, port)
        self.socket = card.host.socket(socket.AF_INET6 if six else socket.AF_INET)
        self.socket.settimeout(PATIENCE)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        if six:
            ip, multicast_if = socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF
            self.socket.setsockopt(ip, socket.IPV6_MULTICAST_HOPS, hop_limit)
            self.socket.setsockopt(ip, socket.IPV6_TCLASS, traffic_class)
            interface = struct.pack("=i", card.index)
        else:
            ip, multicast_if = socket.IPPROTO_IP, socket.IP_MULTICAST_IF
            self.socket.setsockopt(ip, socket.IP_MULTICAST_TTL, hop_limit)
            self.socket.setsockopt(ip, socket.IP_TOS, traffic_class)
            interface = struct.pack("=4s4si", bytes(4), bytes(4), card.index)
        self.socket.setsockopt(ip, multicast_if, interface)
        if source is not None or source_port:
            zone = card.index if source is not None and source.startswith("fe80:") else 0
            self.socket.bind(
                (source or "::", source_port, 0, zone) if six else (source or "", source_port)
            )

    def send(self, *payloads: bytes) -> None:
        for data in payloads:
            assert self.socket.sendto(data, self._destination) == len(data)

    @property
    def port(self) -> int:
        """The port it has sent from."""
        return int(self.socket.getsockname()[1])

    def receive(self) -> tuple[bytes, str]:
        """An answer to one of its datagrams, and the address of who sent it."""
        data, address = self.socket.recvfrom(65536)
        return data, address[0]


@dataclass(frozen=True)
class Heard:
    """What a `Listener` has received, and what the kernel tells about it."""

    data: bytes
    source: str
    source_port: int
    group: str
    hop_limit: int
    traffic_class: int


class Listener:
    """An independent receiver: a plain socket bound to a group, a port and one interface."""

    def __init__(self, card: Card, group: str, port: int, source: str | None) -> None:
        six = ":" in group
        family = socket.AF_INET6 if six else socket.AF_INET
        self.socket = made = card.host.socket(family)
        made.settimeout(PATIENCE)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, card.name.encode())
        if six:
            ip = socket.IPPROTO_IPV6
            for option in (
                socket.IPV6_RECVPKTINFO,
                socket.IPV6_RECVHOPLIMIT,
                socket.IPV6_RECVTCLASS,
            ):
                made.setsockopt(ip, option, 1)
            made.bind((group, port, 0, card.index))
        else:
            ip = socket.IPPROTO_IP
            made.setsockopt(ip, IP_MULTICAST_ALL, 0)
            for option in (IP_PKTINFO, IP_RECVTTL, IP_RECVTOS):
                made.setsockopt(ip, option, 1)
            made.bind((group, port))
        if source is None:
            request = struct.pack("@I0P", card.index) + _sockaddr_storage(group)
            made.setsockopt(ip, MCAST_JOIN_GROUP, request)
        else:
            request = struct.pack("@I0P", card.index)
            request += _sockaddr_storage(group) + _sockaddr_storage(source)
            made.setsockopt(ip, MCAST_JOIN_SOURCE_GROUP, request)

    def receive(self) -> Heard:
        """The next datagram; TimeoutError if there is none for a long time."""
        data, ancillary, _flags, address = self.socket.recvmsg(65536, 512)
        group, hop_limit, traffic_class = "", -1, -1
        for level, kind, value in ancillary:
            match level, kind:
                case (socket.IPPROTO_IP, 8):  # IP_PKTINFO
                    group = socket.inet_ntop(socket.AF_INET, value[8:12])
                case socket.IPPROTO_IPV6, socket.IPV6_PKTINFO:
                    group = socket.inet_ntop(socket.AF_INET6, value[:16])
                case (socket.IPPROTO_IP, socket.IP_TTL) | (
                    socket.IPPROTO_IPV6,
                    socket.IPV6_HOPLIMIT,
                ):
                    hop_limit = struct.unpack("=i", value)[0]
                case socket.IPPROTO_IP, socket.IP_TOS:
                    traffic_class = value[0]
                case socket.IPPROTO_IPV6, socket.IPV6_TCLASS:
                    traffic_class = struct.unpack("=i", value)[0]
        source = address[0].partition("%")[0]
        return Heard(data, source, address[1], group, hop_limit, traffic_class)

    def receive_data(self) -> bytes:
        return self.receive().data


def _sockaddr_storage(address: str) -> bytes:
    if ":" in address:
        packed = struct.pack(
            "=HHI16s", socket.AF_INET6, 0, 0, socket.inet_pton(socket.AF_INET6, address)
        )
    else:
        packed = struct.pack("=HH4s", socket.AF_INET, 0, socket.inet_aton(address))
    return packed.ljust(128, b"\0")


# --- The whole ------------------------------------------------------------------------------------


class Switch:
    """An Ethernet bridge in a namespace of its own, with any number of hosts plugged in."""

    def __init__(self, host: Host, subnet: int, *, snooping: bool, querier: bool) -> None:
        self.host = host
        self._subnet = subnet
        self._numbers = itertools.count(1)
        host.ip(
            f"link add br0 type bridge mcast_snooping {snooping:d} mcast_querier {querier:d}",
            "link set br0 up",
        )

    def plug(
        self, host: Host, interface: str = "eth0", *, ipv4: bool = True, ipv6: bool = True
    ) -> Card:
        """Give a host an interface on this switch, with addresses in the switch's networks."""
        number = next(self._numbers)
        address4, address6 = _addresses(self._subnet, number)
        card = Card(host, interface, address4 if ipv4 else "", address6 if ipv6 else "")
        card.mac = _mac(self._subnet, number)
        port = Card(self.host, f"port{number}", master="br0", peer=card)
        port.mac = _mac(self._subnet, number + 128)
        card.peer = port
        card.create()
        return card

    def set(self, what: str) -> None:
        """Change the bridge: ``switch.set("mcast_query_interval 100")`` (see ip-link(8))."""
        self.host.ip(f"link set br0 type bridge {what}")


def _addresses(subnet: int, number: int) -> tuple[str, str]:
    return f"10.77.{subnet}.{number}", f"fd77:0:0:{subnet:x}::{number:x}"


def _mac(subnet: int, number: int) -> str:
    return f"02:77:00:00:{subnet:02x}:{number:02x}"


class Network:
    """The hosts, cables and switches of one test, and everything that must be gone after it."""

    def __init__(self) -> None:
        self.tasks: list[HostTask[Any]] = []
        self.programs: list[subprocess.Popen[bytes]] = []
        self.sockets: list[socket.socket] = []
        self._hosts: list[Host] = []
        self._subnets = itertools.count(1)
        self._indexes = itertools.count(11)

    def new_index(self) -> int:
        """An interface index that nothing in this network has had.

        The two ends of a cable need different ones: the kernel hurries with news of the carrier
        only then, and otherwise takes up to a second (linkwatch_urgent_event in the kernel
        compares the index with the one at the other end).
        """
        return next(self._indexes)

    def host(self, name: str = "host") -> Host:
        """A new host with nothing but `lo`."""
        host = Host(self, name)
        self._hosts.append(host)
        return host

    def pair(self, **options: Any) -> tuple[Card, Card]:
        """Two new hosts, a and b, with a cable between their `eth0`. Options as for `link`."""
        return self.link(self.host("a"), "eth0", self.host("b"), "eth0", **options)

    def link(
        self,
        left: Host,
        left_name: str,
        right: Host,
        right_name: str,
        *,
        ipv4: bool = True,
        ipv6: bool = True,
        mtu: int = 1500,
    ) -> tuple[Card, Card]:
        """A cable between two hosts (or a host and itself), ready to carry datagrams.

        Each has its networks, 10.77.N.0/24 and fd77:0:0:N::/64; the left end is number 1 in them,
        the right one number 2. `ipv4=False` leaves out those addresses, `ipv6=False` switches IPv6
        off on both ends.
        """
        subnet = next(self._subnets)
        cards = []
        for number, host, name in ((1, left, left_name), (2, right, right_name)):
            address4, address6 = _addresses(subnet, number)
            card = Card(host, name, address4 if ipv4 else "", address6 if ipv6 else "", mtu=mtu)
            card.mac = _mac(subnet, number)
            cards.append(card)
        here, there = cards
        here.peer, there.peer = there, here
        here.create()
        return here, there

    def switch(self, *, snooping: bool = False, querier: bool = False) -> Switch:
        """A new switch. Plug hosts in with `Switch.plug`."""
        return Switch(self.host("switch"), next(self._subnets), snooping=snooping, querier=querier)

    def namespaces(self) -> tuple[int, ...]:
        """The descriptors of all hosts, for programs that move things between them."""
        return tuple(host._namespace for host in self._hosts)

    def path_of(self, host: Host) -> str:
        """What a program started by `Host.command` may call another host's namespace."""
        return f"/proc/self/fd/{host._namespace}"

    def close(self) -> None:
        """End every task and program, close every socket, let the namespaces go."""
        with contextlib.ExitStack() as stack:
            for host in self._hosts:
                stack.callback(host.close)
            for made in self.sockets:
                stack.callback(made.close)
            for process in self.programs:
                stack.callback(_end, process)
            for task in self.tasks:
                stack.callback(task.cancel)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


@contextlib.contextmanager
def open_network() -> Iterator[Network]:
    network = Network()
    try:
        yield network
    finally:
        network.close()
