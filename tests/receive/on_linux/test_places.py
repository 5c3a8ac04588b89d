"""A receiver stays where it was opened: in its network namespace, and on its own interfaces."""

from __future__ import annotations

import errno

import pytest
import trio
import trio.testing
from namespaces.network import Card, Network, wait_until_async
from namespaces.receiving import BOTH, GROUP4, everything
from namespaces.sandbox import refuse_call
from patience import SOON

import trio_mcast
from trio_mcast import MulticastReceiver, SocketSetupError

each_group = pytest.mark.parametrize("group", BOTH)


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked(0.01)


def states(receiver: MulticastReceiver) -> list[tuple[str, str]]:
    return [(m.interface.name, m.state) for m in receiver.memberships()]


# --- Namespaces -----------------------------------------------------------------------------------


@each_group
@pytest.mark.parametrize("options", [{"interfaces": "eth0"}, {}, {"follow": False}])
def test_a_receiver_stays_in_the_namespace_where_it_was_opened(
    network: Network, udp_port: int, group: str, options: dict[str, object]
) -> None:
    here, there = network.pair()
    elsewhere, _ = network.pair()  # which has an eth0 too
    talker = there.talker(group, udp_port)

    async def main() -> None:
        async with trio_mcast.open_receiver(group, port=udp_port, **options) as receiver:  # type: ignore[arg-type]
            elsewhere.host.enter()
            here.add_address("10.66.0.1/24")
            await settle()
            assert states(receiver) == [("eth0", "joined")]
            assert receiver.memberships()[0].interface.index == here.index
            assert not elsewhere.host.has_joined(group)
            talker.send(b"picture")
            assert (await receiver.receive()).data == b"picture"
            assert receiver.statistics().host_checksum_errors == 0
            if options.get("follow", True) and options:
                here.delete()
                await settle()
                assert states(receiver) == [("eth0", "waiting")]
                here.create()
                await wait_until_async(
                    lambda: states(receiver) == [("eth0", "joined")], "it is joined again"
                )
                there.talker(group, udp_port).send(b"again")
                assert (await receiver.receive()).data == b"again"
            other = "233.252.0.77"
            await receiver.join(other, interfaces="eth0")
            assert here.host.has_joined(other)
            assert not elsewhere.host.has_joined(other)
            # What is opened now is opened where the thread is now.
            async with trio_mcast.open_receiver(other, port=udp_port, interfaces="eth0"):
                assert elsewhere.host.has_joined(other)

    here.host.run(main)


def test_who_may_not_go_back_is_told_so_and_joins_nothing_elsewhere(
    network: Network, udp_port: int
) -> None:
    here, there = network.pair()
    elsewhere, _ = network.pair()
    talker = there.talker(GROUP4, udp_port)
    other = "233.252.0.77"

    async def main(task_status: trio.TaskStatus[None]) -> None:
        async with trio_mcast.open_receiver(GROUP4, port=udp_port, interfaces="eth0") as receiver:
            elsewhere.host.enter()
            refuse_call("setns", errno.EPERM)
            task_status.started()
            await wait_until_async(
                lambda: receiver.memberships()[0].error is not None, "it says what it cannot do"
            )
            (membership,) = receiver.memberships()
            assert (membership.state, membership.interface.index) == ("joined", here.index)
            assert isinstance(membership.error, SocketSetupError)
            assert membership.error.errno == errno.EPERM
            assert "namespace where this was opened" in str(membership.error)
            with pytest.raises(SocketSetupError, match="namespace where this was opened"):
                await receiver.join(other, interfaces="eth0")
            talker.send(b"picture")
            assert (await receiver.receive()).data == b"picture"

    task = here.host.start(main)
    here.add_address("10.66.0.1/24")
    task.result()
    assert not elsewhere.host.has_joined(other)
    assert not here.host.has_joined(GROUP4)


# --- Indexes --------------------------------------------------------------------------------------


@each_group
@pytest.mark.parametrize("follow", [True, False])
@pytest.mark.parametrize("pace", ["noticed", "at once", "unread"])
def test_an_index_given_to_another_interface_brings_nothing_from_there(
    network: Network, udp_port: int, group: str, follow: bool, pace: str
) -> None:
    """The kernel lets the old socket hear what a program has joined on the new interface."""
    here, there = network.pair()
    host = here.host

    async def main() -> None:
        async with trio_mcast.open_receiver(
            group, port=udp_port, interfaces="eth0", follow=follow
        ) as receiver:
            await settle()
            there.talker(group, udp_port).send(b"own")
            assert (await receiver.receive()).data == b"own"
            index = here.index
            here.delete()
            if pace == "noticed":
                await settle()
            stranger, beyond = make_stranger(network, here, index)
            beside = stranger.listener(group, udp_port)
            beyond.talker(group, udp_port).send(b"foreign")
            assert beside.receive_data() == b"foreign"
            if pace == "unread":
                await settle()
            if follow:
                with trio.move_on_after(0.01) as scope:
                    await receiver.receive()
                assert scope.cancelled_caught
                assert await everything(receiver) == []
            else:
                with pytest.raises(trio.BrokenResourceError), trio.fail_after(SOON):
                    await receiver.receive()
            assert states(receiver) == [("eth0", "waiting")]

    host.run(main)


def make_stranger(network: Network, here: Card, index: int) -> tuple[Card, Card]:
    """Another interface that gets the index, and the other end of its cable."""
    stranger = Card(here.host, "wlan7", ipv4="10.99.0.1", ipv6="fd99::1", mac="02:00:00:00:99:01")
    beyond = Card(network.host(), "eth0", ipv4="10.99.0.2", ipv6="fd99::2", mac="02:00:00:00:99:02")
    stranger.peer, beyond.peer = beyond, stranger
    stranger.create(with_index=index)
    return stranger, beyond


@pytest.mark.usefixtures("ends_of_groups")
@each_group
def test_interfaces_that_exchange_their_indexes_keep_a_membership_each(
    network: Network, udp_port: int, group: str
) -> None:
    host = network.host()
    cards = [network.link(host, f"eth{n}", network.host(f"beyond{n}"), "eth0")[0] for n in range(2)]
    first, second = cards

    async def main() -> None:
        async with trio_mcast.open_receiver(
            group, port=udp_port, interfaces=["eth0", "eth1"]
        ) as receiver:
            await settle()
            indexes = first.index, second.index
            first.delete()
            second.delete()
            first.create(with_index=indexes[1])
            second.create(with_index=indexes[0])
            wanted = [("eth0", "joined"), ("eth1", "joined")]
            await wait_until_async(lambda: sorted(states(receiver)) == wanted, "both are joined")
            await settle()
            assert sorted(states(receiver)) == wanted
            await wait_until_async(
                lambda: all(host.has_joined(group, card.name) for card in cards), "both are joined"
            )
            for card in cards:
                assert card.peer is not None
                card.peer.talker(group, udp_port).send(card.name.encode())
            received = {d.data: d.interface.name for d in await everything(receiver)}
            assert received == {b"eth0": "eth0", b"eth1": "eth1"}

    host.run(main)


# --- Cancellation ---------------------------------------------------------------------------------


@each_group
def test_in_a_shielded_scope_a_receiver_hears_and_follows_after_a_cancellation(
    network: Network, udp_port: int, group: str
) -> None:
    """A program that is told to stop may have to hear the answers to its goodbye."""
    here, there = network.pair()
    talker = there.talker(group, udp_port)

    async def main() -> None:
        with trio.CancelScope() as outer:
            async with trio_mcast.open_receiver(
                group, port=udp_port, interfaces="eth0"
            ) as receiver:
                await settle()
                outer.cancel()
                with trio.CancelScope(shield=True), trio.fail_after(SOON):
                    await settle()
                    talker.send(b"goodbye")
                    assert (await receiver.receive()).data == b"goodbye"
                    here.flap()
                    there.talker(group, udp_port).send(b"again")
                    assert (await receiver.receive()).data == b"again"
                await trio.lowlevel.checkpoint()
        assert outer.cancelled_caught
        assert not here.host.has_joined(group)

    here.host.run(main)
