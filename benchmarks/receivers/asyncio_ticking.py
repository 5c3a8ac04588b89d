"""A task that wants to run every millisecond, for programs on asyncio."""

from __future__ import annotations

import asyncio
import time

from .meter import Meter

PAUSE = 0.001


async def tick(meter: Meter) -> None:
    while True:
        began = time.perf_counter()
        await asyncio.sleep(PAUSE)
        meter.note_lateness(time.perf_counter() - began - PAUSE)
