"""A machine for the library to stand on, with a model of a kernel beneath."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from trio_mcast._base.interface import Interface
from trio_mcast._machine.current import machine_in_force
from trio_mcast._machine.machine import Machine
from trio_mcast._machine.read_recvmsg import ReadBuffer, RecvmsgSocket
from trio_mcast._machine.read_wsarecvmsg import WinsockBuffer, WinsockSocket
from trio_mcast._machine.receiving import Origin, ReceivingSocket, ReceivingSockets
from trio_mcast._machine.sending import SystemSendingSocket
from trio_mcast._machine.sockets import carry_out
from trio_mcast._machine.winsock import Winsock, WSARecvMsg
from trio_mcast._plan.socket_plan import SocketPlan

from .model_kernel import Kernel, ModelChanges
from .systems import System


class ModelMachine(Machine):
    """Plans, the opening of sockets, reading, tasks and following are the real ones.

    On Linux plain recvmsg stands in for recvmmsg, which no model can serve.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.platform = kernel.system.platform
        self.winsock = ModelWinsock(kernel)
        self._windows = WinsockBuffer(self.platform, self.winsock)
        self._others = ReadBuffer(self.platform)

    def list_interfaces(self) -> tuple[Interface, ...]:
        return self.kernel.list_interfaces()

    def list_groups(self) -> frozenset[tuple[int, bytes]] | None:
        return self.kernel.list_groups()

    def open_changes(self) -> ModelChanges:
        return self.kernel.open_changes()

    def open_receiving_sockets(self) -> ReceivingSockets:
        return ReceivingSockets(self._open_receiving_socket)

    def _open_receiving_socket(self, plan: SocketPlan, port: int) -> ReceivingSocket:
        sock, origin = carry_out(plan, self.platform, self._make_socket), Origin.of(plan, port)
        if self.kernel.system.name == "win32":
            return WinsockSocket(self._windows, sock, plan, origin)
        return RecvmsgSocket(self._others, sock, plan, origin)

    def open_sending_socket(self, plan: SocketPlan) -> SystemSendingSocket:
        return SystemSendingSocket(plan, self.platform, self._make_socket, self._may_segment)

    def _make_socket(self, family: int) -> Any:
        sock = self.kernel.open_socket(family, 2)
        if self.kernel.system.name == "win32":
            self.winsock.silence_resets(sock)  # type: ignore[arg-type]
        return sock

    def _may_segment(self, _interface: Interface) -> bool:
        return self.kernel.system.name == "linux"


class ModelWinsock(Winsock):
    """Answers with what the model kernel does, and refuses what a test says.

    Attributes:
      refuses: names of methods that fail
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.refuses: set[str] = set()

    def control(self, sock: Any, code: int, request: bytes = b"", answer_size: int = 0) -> bytes:
        if "control" in self.refuses:
            raise self._kernel.refusal("EOPNOTSUPP")
        return self._kernel.control(sock, code, request, answer_size)

    def load_wsarecvmsg(self, family: int) -> WSARecvMsg:
        if "load_wsarecvmsg" in self.refuses:
            raise self._kernel.refusal("EOPNOTSUPP")
        return self._kernel.receive_message

    def make_error(self, number: int) -> OSError:
        names = {number: name for name, number in self._kernel.system.errors.items()}
        return self._kernel.refusal(names[number])


@contextmanager
def standing_on(system: System, interfaces: Iterable[Interface]) -> Iterator[ModelMachine]:
    """Everything of the library stands on a model of a system while this lasts."""
    machine = ModelMachine(Kernel(system, interfaces))
    with machine_in_force(machine):
        yield machine
