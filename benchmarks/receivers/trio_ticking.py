"""A task that wants to run every millisecond, for programs on trio."""

from __future__ import annotations

import time

import trio

from .meter import Meter

PAUSE = 0.001


async def tick(meter: Meter) -> None:
    while True:
        began = time.perf_counter()
        await trio.sleep(PAUSE)
        meter.note_lateness(time.perf_counter() - began - PAUSE)
