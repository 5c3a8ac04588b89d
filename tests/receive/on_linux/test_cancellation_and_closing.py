"""Cancellation loses no datagram, and nothing is left behind however a block is left."""

import gc
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
import trio
import trio.testing
from namespaces.network import Card, Network, open_descriptors, wait_until_async
from namespaces.opening import Hear
from namespaces.receiving import BOTH, GROUP4, GROUP6, collect, everything
from patience import LONG

import trio_mcast
from trio_mcast import MulticastReceiver


@asynccontextmanager
async def nothing_left_behind() -> AsyncIterator[None]:
    """What is open and what runs at the end is what was open and ran at the beginning."""
    descriptors = open_descriptors()
    tasks = trio.lowlevel.current_statistics().tasks_living
    yield
    await trio.testing.wait_all_tasks_blocked()
    assert open_descriptors() == descriptors
    assert trio.lowlevel.current_statistics().tasks_living == tasks


async def cancel_after_checkpoints(
    count: int, async_function: Callable[[], Awaitable[object]]
) -> bool:
    """Cancel a function after so many turns of the loop. Returns whether it was still running."""
    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        async def cancel() -> None:
            for _ in range(count):
                await trio.lowlevel.checkpoint()
            scope.cancel()

        nursery.start_soon(cancel)
        with scope:
            await async_function()
        nursery.cancel_scope.cancel()
    return scope.cancelled_caught


# --- Cancelling ----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["receive", "receive_batch", "receive_batch(1)", "async for"])
def test_a_cancelled_consumer_loses_nothing(
    there: Card, hear: Hear, udp_port: int, way: str
) -> None:
    """The datagram comes before, at, or after the moment of cancellation; it is never gone."""
    talker = there.talker(GROUP4, udp_port)

    async def main(receiver: MulticastReceiver) -> None:
        got: list[bytes] = []

        async def consume() -> None:
            match way:
                case "receive":
                    while True:
                        got.append((await receiver.receive()).data)
                case "receive_batch":
                    while True:
                        got.extend(d.data for d in await receiver.receive_batch())
                case "receive_batch(1)":
                    while True:
                        got.extend(d.data for d in await receiver.receive_batch(1))
                case _:
                    async for datagram in receiver:
                        got.append(datagram.data)

        sent: list[bytes] = []
        for turns_before in range(4):
            for turns_after in range(8):
                for burst in (1, 3, 100):
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(consume)
                        for _ in range(turns_before):
                            await trio.lowlevel.checkpoint()
                        payloads = [b"%d" % (len(sent) + number) for number in range(burst)]
                        sent += payloads
                        talker.send(*payloads)
                        for _ in range(turns_after):
                            await trio.lowlevel.checkpoint()
                        nursery.cancel_scope.cancel()
        got += [d.data for d in await everything(receiver)]
        assert got == sent

    hear(main, GROUP4)


@pytest.mark.parametrize("overflow", ["wait", "drop-oldest"])
def test_a_cancelled_call_takes_nothing(
    there: Card, hear: Hear, udp_port: int, overflow: str
) -> None:
    talker = there.talker(GROUP4, udp_port)

    async def main(receiver: MulticastReceiver) -> None:
        talker.send(b"a", b"b")
        await wait_until_async(
            lambda: receiver.statistics().datagrams_buffered == 2, "they were read"
        )
        for call in (
            receiver.receive,
            receiver.receive_batch,
            receiver.batches().__anext__,
            receiver.__anext__,
        ):
            with trio.CancelScope() as scope:
                scope.cancel()
                await call()
                pytest.fail("it was not cancelled")
        assert [d.data for d in await collect(receiver, 2)] == [b"a", b"b"]

    hear(main, GROUP4, overflow=overflow, max_buffered=10)


@pytest.mark.parametrize("group", BOTH)
def test_opening_can_be_cancelled_at_every_point(
    network: Network, udp_port: int, group: str
) -> None:
    here, _there = network.pair()

    async def open_and_wait() -> None:
        async with trio_mcast.open_receiver(group, "233.252.0.9", "ff12::9", port=udp_port):
            await trio.sleep_forever()

    async def main() -> None:
        for count in range(15):
            async with nothing_left_behind():
                assert await cancel_after_checkpoints(count, open_and_wait)
            await wait_until_async(lambda: not here.host.has_joined(group), "the group was left")

    here.host.run(main)


def test_joining_and_leaving_can_be_cancelled_at_every_point(
    here: Card, there: Card, hear: Hear, udp_port: int
) -> None:
    talker = there.talker("233.252.0.2", udp_port)

    async def main(receiver: MulticastReceiver) -> None:
        descriptors = open_descriptors()

        async def join_and_leave() -> None:
            await receiver.join("233.252.0.2")
            await receiver.leave("233.252.0.2")

        async def a_while_joined() -> None:
            async with receiver.joined("233.252.0.2"):
                await trio.lowlevel.checkpoint()

        for count in range(10):
            await cancel_after_checkpoints(count, join_and_leave)
            joined = {str(m.group) for m in receiver.memberships()}
            assert here.host.has_joined("233.252.0.2") == ("233.252.0.2" in joined)
            if "233.252.0.2" in joined:
                await receiver.leave("233.252.0.2")
            await cancel_after_checkpoints(count, a_while_joined)
            assert [str(m.group) for m in receiver.memberships()] == [GROUP4]
        assert open_descriptors() == descriptors
        await receiver.join("233.252.0.2")
        talker.send(b"still works")
        assert (await receiver.receive()).data == b"still works"

    hear(main, GROUP4)


def test_a_cancelled_scope_still_leaves_its_joined_group(network: Network, udp_port: int) -> None:
    here, _there = network.pair()

    async def main() -> None:
        async with trio_mcast.open_receiver(port=udp_port) as receiver:
            with trio.CancelScope() as scope:
                async with receiver.joined(GROUP4):
                    assert here.host.has_joined(GROUP4)
                    scope.cancel()
                    await trio.lowlevel.checkpoint()
            assert receiver.memberships() == ()
            assert not here.host.has_joined(GROUP4)

    here.host.run(main)


def test_sending_can_be_cancelled_and_then_has_not_happened(
    here: Card, there: Card, udp_port: int
) -> None:
    listener = there.listener(GROUP4, udp_port)

    async def main() -> None:
        async with trio_mcast.open_sender(GROUP4, port=udp_port, interface="eth0") as sender:
            with trio.CancelScope() as scope:
                scope.cancel()
                await sender.send(b"cancelled")
                pytest.fail("it was not cancelled")
            await sender.send(b"sent")
            assert listener.receive_data() == b"sent"
            assert sender.statistics().datagrams_sent == 1

    here.host.run(main)


def test_cancelling_run_receiver_leaves_nothing_behind(network: Network, udp_port: int) -> None:
    here, _there = network.pair()

    async def main() -> None:
        send_channel, receive_channel = trio.open_memory_channel[list[trio_mcast.Datagram]](0)
        async with send_channel, receive_channel:

            async def run() -> None:
                await trio_mcast.run_receiver(send_channel, GROUP4, GROUP6, port=udp_port)

            for count in range(12):
                async with nothing_left_behind():
                    assert await cancel_after_checkpoints(count, run)
        assert not here.host.has_joined(GROUP4)
        assert not here.host.has_joined(GROUP6)

    here.host.run(main)


# --- The caller's exceptions ----------------------------------------------------------------------


class Quit(BaseException):
    """As KeyboardInterrupt: no Exception."""


async def fail_in_receiver(port: int, error: BaseException) -> None:
    async with trio_mcast.open_receiver(GROUP4, GROUP6, port=port):
        raise error


async def fail_in_sender(port: int, error: BaseException) -> None:
    async with trio_mcast.open_sender(GROUP4, port=port, interface="eth0"):
        raise error


async def fail_while_joined(port: int, error: BaseException) -> None:
    async with trio_mcast.open_receiver(port=port) as receiver, receiver.joined(GROUP4):
        raise error


BLOCKS = [fail_in_receiver, fail_in_sender, fail_while_joined]


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize(
    "error",
    [
        KeyError("mine"),
        OSError(22, "mine"),
        Quit(),
        KeyboardInterrupt(),
        SystemExit(3),
        StopAsyncIteration(),
        GeneratorExit(),
        trio.ClosedResourceError(),
        trio_mcast.MulticastError("mine"),
        ExceptionGroup("mine", [KeyError(), ValueError()]),
        BaseExceptionGroup("mine", [Quit()]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_leaves_the_block_as_itself(
    network: Network,
    udp_port: int,
    block: Callable[[int, BaseException], Awaitable[None]],
    error: BaseException,
) -> None:
    here, _there = network.pair()

    async def main() -> None:
        async with nothing_left_behind():
            caught: BaseException | None = None
            try:
                await block(udp_port, error)
            except BaseException as whatever:
                caught = whatever
            assert caught is error

    here.host.run(main)


def test_an_exception_comes_out_while_datagrams_pour_in(
    here: Card, there: Card, udp_port: int
) -> None:
    talker = there.talker(GROUP4, udp_port)

    async def fail() -> None:
        async with trio_mcast.open_receiver(GROUP4, port=udp_port) as receiver:
            talker.send(*[b"x"] * 100)
            await receiver.receive()
            raise KeyError("mine")

    async def main() -> None:
        async with nothing_left_behind():
            with pytest.raises(KeyError, match="mine"):
                await fail()

    here.host.run(main)


@pytest.mark.parametrize("opened", ["receiver", "sender", "joined"])
def test_cancellation_passes_through_the_block(
    network: Network, udp_port: int, opened: str
) -> None:
    here, _there = network.pair()

    async def main() -> None:
        async with nothing_left_behind():
            with trio.CancelScope() as outer:
                block: AbstractAsyncContextManager[object]
                async with trio_mcast.open_receiver(GROUP4, port=udp_port) as receiver:
                    match opened:
                        case "sender":
                            block = trio_mcast.open_sender(GROUP4, port=udp_port, interface="eth0")
                        case "joined":
                            block = receiver.joined(GROUP6)
                        case _:
                            block = trio_mcast.open_receiver(GROUP6, port=udp_port)
                    async with block:
                        outer.cancel()
                        with pytest.raises(trio.Cancelled):
                            await trio.sleep_forever()
                        await trio.sleep_forever()
            assert outer.cancelled_caught

    here.host.run(main)


def test_a_deadline_inside_the_block_does_not_end_the_receiver(
    there: Card, hear: Hear, udp_port: int
) -> None:
    talker = there.talker(GROUP4, udp_port)

    async def main(receiver: MulticastReceiver) -> None:
        with trio.move_on_after(0.005):
            await receiver.receive()
        talker.send(b"later")
        assert (await receiver.receive()).data == b"later"

    hear(main, GROUP4)


def test_several_receivers_nest_and_overlap(here: Card, there: Card, udp_port: int) -> None:
    talker = there.talker(GROUP4, udp_port)

    async def main() -> None:
        async with nothing_left_behind():
            first = trio_mcast.open_receiver(GROUP4, port=udp_port)
            async with first as one:
                async with trio_mcast.open_receiver(GROUP4, port=udp_port) as two:
                    talker.send(b"both")
                    assert (await one.receive()).data == (await two.receive()).data == b"both"
                talker.send(b"one")
                assert (await one.receive()).data == b"one"

    here.host.run(main)


# --- Closing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["aclose", "the end of the block"])
def test_after_closing_every_call_of_a_receiver_says_so(
    here: Card, there: Card, udp_port: int, by: str
) -> None:
    talker = there.talker(GROUP4, udp_port)

    async def use(receiver: trio_mcast.MulticastReceiver) -> None:
        for call in (
            receiver.receive,
            receiver.receive_batch,
            receiver.__anext__,
            receiver.batches().__anext__,
            lambda: receiver.join(GROUP6),
            lambda: receiver.leave(GROUP4),
            lambda: receiver.joined(GROUP6).__aenter__(),
        ):
            with pytest.raises(trio.ClosedResourceError):
                await call()
        for plain_call in (
            receiver.receive_nowait,
            receiver.memberships,
            lambda: receiver.set_sources(GROUP4, ["192.0.2.1"]),
            lambda: receiver.add_source(GROUP4, "192.0.2.1"),
            lambda: receiver.remove_source(GROUP4, "192.0.2.1"),
            lambda: receiver.block_source(GROUP4, "192.0.2.1"),
            lambda: receiver.unblock_source(GROUP4, "192.0.2.1"),
        ):
            with pytest.raises(trio.ClosedResourceError):
                plain_call()
        await receiver.aclose()  # once more does no harm

    async def main() -> None:
        async with trio_mcast.open_receiver(GROUP4, port=udp_port) as receiver:
            talker.send(b"never taken")
            await trio.testing.wait_all_tasks_blocked()
            if by == "aclose":
                await receiver.aclose()
                await use(receiver)
        await use(receiver)

    here.host.run(main)


def test_after_closing_the_last_figures_can_still_be_read(
    here: Card, there: Card, udp_port: int
) -> None:
    listener = there.listener(GROUP4, udp_port)

    async def main() -> None:
        async with (
            trio_mcast.open_receiver(GROUP4, port=udp_port) as receiver,
            trio_mcast.open_sender(GROUP4, port=udp_port, interface="eth0") as sender,
        ):
            await sender.send(b"one")
            assert (await receiver.receive()).data == b"one"
            await sender.send_batch([b"two", b"three"])
            assert [listener.receive_data() for _ in range(3)] == [b"one", b"two", b"three"]
            await wait_until_async(
                lambda: receiver.statistics().datagrams_received == 3, "all were read"
            )
            received, sent = receiver.statistics(), sender.statistics()
        for _ in range(2):
            after = receiver.statistics()
            assert after.datagrams_received == received.datagrams_received == 3
            assert after.bytes_received == received.bytes_received == 11
            assert after.datagrams_buffered == 2, "they were never handed to the program"
            assert after.dropped_by_kernel == 0
            assert [m.datagrams_received for m in after.memberships] == [3]
            assert sender.statistics() == sent == trio_mcast.SenderStatistics(3, 11, 0)
            await receiver.aclose()
            await sender.aclose()

    here.host.run(main)


@pytest.mark.parametrize("by", ["aclose", "the end of the block"])
def test_after_closing_every_call_of_a_sender_says_so(
    network: Network, udp_port: int, by: str
) -> None:
    here, _there = network.pair()

    async def use(sender: trio_mcast.MulticastSender) -> None:
        for call in (
            lambda: sender.send(b"x"),
            lambda: sender.send_batch([b"x"]),
            lambda: sender.send_to(b"x", (GROUP4, udp_port)),
        ):
            with pytest.raises(trio.ClosedResourceError):
                await call()
        with pytest.raises(trio.ClosedResourceError):
            _ = sender.local_address
        await sender.aclose()

    async def main() -> None:
        async with trio_mcast.open_sender(GROUP4, port=udp_port, interface="eth0") as sender:
            if by == "aclose":
                await sender.aclose()
                await use(sender)
        await use(sender)

    here.host.run(main)


def test_closing_leaves_the_groups_at_once(network: Network, udp_port: int) -> None:
    here, _there = network.pair()

    async def main() -> None:
        async with (
            nothing_left_behind(),
            trio_mcast.open_receiver(GROUP4, GROUP6, port=udp_port) as receiver,
        ):
            assert here.host.has_joined(GROUP4)
            assert here.host.has_joined(GROUP6)
            await receiver.aclose()
            assert not here.host.has_joined(GROUP4)
            assert not here.host.has_joined(GROUP6)
            assert udp_port not in here.host.bound_udp_ports()

    here.host.run(main)


@pytest.mark.parametrize("way", ["receive", "receive_batch", "batches", "async for"])
def test_a_waiting_consumer_learns_of_the_closing(
    network: Network, udp_port: int, way: str
) -> None:
    here, _there = network.pair()

    async def main() -> None:
        async with trio_mcast.open_receiver(GROUP4, port=udp_port) as receiver:
            calls = {
                "receive": receiver.receive,
                "receive_batch": receiver.receive_batch,
                "batches": receiver.batches().__anext__,
                "async for": receiver.__anext__,
            }

            async def consume() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await calls[way]()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(consume)
                await trio.testing.wait_all_tasks_blocked()
                await receiver.aclose()

    here.host.run(main)


def test_closing_is_done_even_when_it_is_cancelled(network: Network, udp_port: int) -> None:
    here, _there = network.pair()

    async def main() -> None:
        async with (
            nothing_left_behind(),
            trio_mcast.open_receiver(GROUP4, port=udp_port) as receiver,
            trio_mcast.open_sender(GROUP4, port=udp_port, interface="eth0") as sender,
        ):
            with trio.CancelScope() as scope:
                scope.cancel()
                await receiver.aclose()
            with trio.CancelScope() as scope:
                scope.cancel()
                await sender.aclose()
            assert not here.host.has_joined(GROUP4)
            with pytest.raises(trio.ClosedResourceError):
                receiver.receive_nowait()
            with pytest.raises(trio.ClosedResourceError):
                await sender.send(b"x")

    here.host.run(main)


def test_async_with_on_the_receiver_itself_closes_it(network: Network, udp_port: int) -> None:
    """It is a channel of trio, and those are context managers."""
    here, _there = network.pair()

    async def main() -> None:
        async with trio_mcast.open_receiver(GROUP4, port=udp_port) as receiver:
            async with receiver:
                pass
            with pytest.raises(trio.ClosedResourceError):
                await receiver.receive()

    here.host.run(main)


def test_opening_and_closing_many_times_leaves_nothing(
    here: Card, there: Card, udp_port: int
) -> None:
    talker = there.talker(GROUP4, udp_port)

    async def main() -> None:
        async with nothing_left_behind():
            for _ in range(50):
                async with (
                    trio_mcast.open_receiver(*BOTH, port=udp_port) as receiver,
                    trio_mcast.open_sender(GROUP6, port=udp_port, interface="eth0") as sender,
                ):
                    talker.send(b"x")
                    await sender.send(b"x")
                    await collect(receiver, 2)
        gc.collect()

    here.host.run(main)


# --- Running out ----------------------------------------------------------------------------------


RUN_OUT_OF_DESCRIPTORS = textwrap.dedent(
    """
    import errno, os, resource, sys, trio, trio_mcast
    from trio.testing import wait_all_tasks_blocked

    groups = [f"233.252.0.{n}" for n in range(1, 41)]
    port = int(sys.argv[1])
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]

    def descriptors():
        return sorted(os.listdir("/proc/self/fd"))

    def allow_more(count):
        unused = os.dup(0)
        os.close(unused)
        resource.setrlimit(resource.RLIMIT_NOFILE, (unused + count, hard))

    def allow_all():
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    async def main():
        async with trio_mcast.open_receiver(groups[0], port=port):
            pass  # whatever is opened once and kept for good is open now
        before = descriptors()
        tasks = trio.lowlevel.current_statistics().tasks_living
        for spare in (0, 1, 2, 3, 10, 30):
            allow_more(spare)
            try:
                async with trio_mcast.open_receiver(*groups, port=port):
                    raise AssertionError("it opened")
            except OSError as error:
                assert error.errno == errno.EMFILE, error
                assert "Too many open files" in str(error), error
                if spare == 10:
                    assert isinstance(error, trio_mcast.SocketSetupError), error
                    assert error.__notes__, "no advice"
            finally:
                allow_all()
            await wait_all_tasks_blocked()
            assert descriptors() == before, (spare, before, descriptors())
            assert trio.lowlevel.current_statistics().tasks_living == tasks

        async with trio_mcast.open_receiver(groups[0], port=port) as receiver:
            before = descriptors()
            allow_more(0)
            try:
                await receiver.join(groups[1])
            except OSError as error:
                assert error.errno == errno.EMFILE, error
            else:
                raise AssertionError("it joined")
            finally:
                allow_all()
            await wait_all_tasks_blocked()
            assert descriptors() == before
            assert [str(m.group) for m in receiver.memberships()] == [groups[0]]
            await receiver.join(groups[1])

        before = descriptors()
        allow_more(0)
        try:
            async with trio_mcast.open_sender(groups[0], port=port, interface="eth0"):
                raise AssertionError("it opened")
        except OSError as error:
            assert error.errno == errno.EMFILE, error
        finally:
            allow_all()
        assert descriptors() == before
        print("fine")

    trio.run(main)
    """
)


def test_running_out_of_descriptors_says_so_and_leaks_nothing(
    network: Network, udp_port: int
) -> None:
    """In a process of its own, for the limit is the process's."""
    here, _there = network.pair()
    done = here.host.call(
        lambda: subprocess.run(
            [sys.executable, "-c", RUN_OUT_OF_DESCRIPTORS, str(udp_port)],
            capture_output=True,
            text=True,
            timeout=LONG,
        )
    )
    assert done.stdout == "fine\n", done.stderr


def test_running_out_of_memberships_is_raised_at_once(network: Network, udp_port: int) -> None:
    """ENOBUFS is a lack, not the refusal of one interface, though another one has been joined."""
    here, _there = network.pair()
    here.host.sysctl("net.ipv4.igmp_max_memberships", 0)

    async def main() -> None:
        async with nothing_left_behind():
            with pytest.raises(trio_mcast.SocketSetupError) as caught:
                async with trio_mcast.open_receiver(GROUP6, GROUP4, port=udp_port):
                    pytest.fail("it opened")
            assert caught.value.errno == 105  # ENOBUFS
            assert str(caught.value.group) == GROUP4
            assert caught.value.interface.name == "eth0"
            assert caught.value.step
            assert caught.value.__notes__
            assert not here.host.has_joined(GROUP6)

    here.host.run(main)


def test_hundreds_of_memberships_are_no_problem(here: Card, there: Card, udp_port: int) -> None:
    groups = [f"233.252.{high}.{low}" for high in (0, 1) for low in range(1, 201)]
    talkers = [there.talker(group, udp_port) for group in groups[::40]]

    async def main() -> None:
        async with (
            nothing_left_behind(),
            trio_mcast.open_receiver(*groups, port=udp_port) as receiver,
        ):
            assert {m.state for m in receiver.memberships()} == {"joined"}
            for talker in talkers:
                talker.send(talker.group.encode())
            datagrams = await collect(receiver, 10)
            assert all(str(d.group) == d.data.decode() for d in datagrams)

    here.host.run(main)


@pytest.mark.parametrize("group", BOTH)
def test_joining_while_the_block_ends_finds_it_closed(
    here: Card, udp_port: int, group: str
) -> None:
    async def join_again_and_again(receiver: MulticastReceiver) -> None:
        while True:
            await receiver.join(group)
            await receiver.leave(group)

    async def expect_the_end(receiver: MulticastReceiver) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await join_again_and_again(receiver)

    async def main() -> None:
        async with (
            trio.open_nursery() as nursery,
            trio_mcast.open_receiver(port=udp_port, interfaces="eth0") as receiver,
        ):
            nursery.start_soon(expect_the_end, receiver)
            await trio.lowlevel.checkpoint()

    for _ in range(20):
        here.host.run(main)
