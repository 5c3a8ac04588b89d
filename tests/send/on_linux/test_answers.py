"""What comes back to a sender: who gets it, and when it ends."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from namespaces.network import Card
from namespaces.receiving import BOTH
from patience import SOON

import trio_mcast
from trio_mcast import MulticastSender


class Responder:
    """Answers what is sent to a group."""

    def __init__(self, card: Card, group: str, port: int) -> None:
        self._listener = card.listener(group, port)

    def answer(self, *answers: bytes) -> None:
        question = self._listener.receive()
        for data in answers:
            self._listener.socket.sendto(data, (question.source, question.source_port))


@pytest.mark.parametrize("group", BOTH)
def test_each_that_is_open_gets_every_answer_from_its_opening_on(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    responder = Responder(there, group, udp_port)

    async def main() -> None:
        async with (
            trio_mcast.open_sender(group, port=udp_port, interface="eth0") as sender,
            sender.open_answers() as first,
        ):
            await sender.send(b"who?")
            responder.answer(b"1")
            with trio.fail_after(SOON):
                assert (await first.receive()).data == b"1"
                async with sender.open_answers() as second:
                    await sender.send(b"who else?")
                    responder.answer(b"2")
                    assert (await first.receive()).data == b"2"
                    assert (await second.receive()).data == b"2"
                await sender.send(b"and now?")
                responder.answer(b"3")
                assert (await first.receive()).data == b"3"

    here.host.run(main)


@pytest.mark.parametrize("group", BOTH)
def test_what_came_while_none_was_open_is_nobodys(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    responder = Responder(there, group, udp_port)

    async def ask(sender: MulticastSender, answer: bytes) -> bytes:
        async with sender.open_answers() as answers:
            await sender.send(b"who?")
            responder.answer(answer)
            with trio.fail_after(SOON):
                return (await answers.receive()).data

    async def main() -> None:
        async with trio_mcast.open_sender(group, port=udp_port, interface="eth0") as sender:
            await sender.send(b"who?")
            responder.answer(b"before", b"all that")
            assert await ask(sender, b"1") == b"1"
            await sender.send(b"who?")
            responder.answer(b"in", b"between")
            assert await ask(sender, b"2") == b"2"

    here.host.run(main)


@pytest.mark.parametrize("group", BOTH)
def test_a_search_that_was_broken_off_does_not_make_the_next_deaf(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    responder = Responder(there, group, udp_port)

    async def main() -> None:
        async with trio_mcast.open_sender(group, port=udp_port, interface="eth0") as sender:
            async with sender.open_answers() as answers:
                await answers.aclose()
                await sender.send(b"who?")
                responder.answer(b"to nobody")
                await trio.testing.wait_all_tasks_blocked(0.01)
            await trio.testing.wait_all_tasks_blocked()
            async with sender.open_answers() as answers:
                await sender.send(b"who?")
                responder.answer(b"1")
                with trio.fail_after(SOON):
                    assert (await answers.receive()).data == b"1"

    here.host.run(main)


@pytest.mark.parametrize("group", BOTH)
def test_when_the_sender_is_closed_the_answers_end(here: Card, udp_port: int, group: str) -> None:
    async def main() -> None:
        async with (
            trio_mcast.open_sender(group, port=udp_port, interface="eth0") as sender,
            sender.open_answers() as answers,
            trio.open_nursery() as nursery,
        ):

            async def hear() -> None:
                assert [answer async for answer in answers] == []

            nursery.start_soon(hear)
            await trio.testing.wait_all_tasks_blocked()
            await sender.aclose()
            with trio.fail_after(SOON):
                await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio.ClosedResourceError):
                async with sender.open_answers():
                    pass

    here.host.run(main)
