"""How a receiver is left and closed: whole, also when Ctrl-C comes just then."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable

import pytest
import trio

import trio_mcast
from trio_mcast._machine.current import machine_in_force
from trio_mcast._machine.receiving import ReceivingSocket
from trio_mcast._plan.socket_plan import SocketPlan
from trio_mcast.testing import MemoryNetwork, make_interface
from trio_mcast.testing.machine import MemoryMachine
from trio_mcast.testing.receiving import MemoryReceiver, MemoryReceivingSocket

GROUP = "233.252.0.1"


class WatchingMachine(MemoryMachine):
    """Notes whether Ctrl-C is kept away each time that a socket is left."""

    def __init__(self) -> None:
        super().__init__((make_interface(),))
        self.is_protected: list[bool] = []

    def _open_receiving_socket(
        self, receiver: MemoryReceiver, plan: SocketPlan, port: int
    ) -> ReceivingSocket:
        machine = self

        class WatchingSocket(MemoryReceivingSocket):
            __slots__ = ()

            def _leave(self) -> None:
                machine.is_protected.append(trio.lowlevel.currently_ki_protected())
                super()._leave()

        sock = super()._open_receiving_socket(receiver, plan, port)
        sock.__class__ = WatchingSocket
        return sock


async def do_nothing(_receiver: trio_mcast.MulticastReceiver) -> None:
    """The end of the block closes it."""


WAYS: dict[str, Callable[[trio_mcast.MulticastReceiver], Awaitable[None]]] = {
    "leave": lambda receiver: receiver.leave(GROUP),
    "aclose": lambda receiver: receiver.aclose(),
    "the block ends": do_nothing,
}


@pytest.mark.parametrize("way", WAYS)
async def test_ctrl_c_does_not_leave_it_half_done(way: str) -> None:
    machine = WatchingMachine()
    with machine_in_force(machine):
        async with trio_mcast.open_receiver(GROUP, port=5000) as receiver:
            await WAYS[way](receiver)
    assert machine.is_protected == [True]


@pytest.mark.parametrize("own_error", [None, ValueError("the program's own")])
def test_ctrl_c_while_closing_comes_out_alone(own_error: ValueError | None) -> None:
    """Trio delivers it in the nursery that is just ending, which wraps it in a group."""

    class Interrupting(MemoryReceivingSocket):
        __slots__ = ()

        def _leave(self) -> None:
            signal.raise_signal(signal.SIGINT)
            super()._leave()

    async def main() -> None:
        network = MemoryNetwork()
        async with network.open_receiver(GROUP, port=5000):
            (receiver,) = network._machine.receivers
            receiver.sockets[0].__class__ = Interrupting
            if own_error is not None:
                raise own_error

    with pytest.raises(KeyboardInterrupt) as caught:
        trio.run(main)
    assert caught.value.__context__ is own_error
