"""This library, in each of its forms."""

from __future__ import annotations

import functools

import trio
import trio.testing

import trio_mcast

from .meter import Job, Meter, start
from .trio_ticking import tick


async def receive_each(receiver: trio_mcast.MulticastReceiver, meter: Meter) -> None:
    async for datagram in receiver:
        meter.datagrams += 1
        if meter.timing:
            meter.note_delay(datagram.data)


async def receive_batch(receiver: trio_mcast.MulticastReceiver, meter: Meter) -> None:
    while True:
        for datagram in await receiver.receive_batch():
            meter.datagrams += 1
            if meter.timing:
                meter.note_delay(datagram.data)


async def receive_batches(receiver: trio_mcast.MulticastReceiver, meter: Meter) -> None:
    async for batch in receiver.batches():
        for datagram in batch:
            meter.datagrams += 1
            if meter.timing:
                meter.note_delay(datagram.data)


FORMS = {"each": receive_each, "batch": receive_batch, "batches": receive_batches}


async def receive(job: Job, meter: Meter) -> None:
    open_receiver = functools.partial(
        trio_mcast.open_receiver,
        *job.groups,
        port=job.port,
        interfaces=job.interface,
        receive_buffer=job.receive_buffer,
        packet_info=("hop_limit", "timestamp") if job.packet_info else (),
    )
    if job.exact_losses:  # which an older version to compare with may not know
        open_receiver = functools.partial(open_receiver, exact_losses=True)
    async with open_receiver() as receiver:
        await trio.testing.wait_all_tasks_blocked()
        meter.end_opening()
        await FORMS[job.form](receiver, meter)


async def receive_from_channel(job: Job, meter: Meter) -> None:
    send_channel, receive_channel = trio.open_memory_channel[list[trio_mcast.Datagram]](16)
    run_receiver = functools.partial(
        trio_mcast.run_receiver,
        send_channel,
        *job.groups,
        port=job.port,
        interfaces=job.interface,
        receive_buffer=job.receive_buffer,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(run_receiver)
        meter.end_opening()
        async for batch in receive_channel:
            for datagram in batch:
                meter.datagrams += 1
                if meter.timing:
                    meter.note_delay(datagram.data)


async def main() -> None:
    job, meter = start()
    meter.begin_opening()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive_from_channel if job.form == "channel" else receive, job, meter)
        if job.ticking:
            nursery.start_soon(tick, meter)


if __name__ == "__main__":
    trio.run(main)
