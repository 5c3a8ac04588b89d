"""A nursery for background tasks that never raise."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def open_service_nursery() -> AsyncIterator[trio.Nursery]:
    """A nursery that ends with its block, and whose block's exception leaves it as it is.

    Trio wraps whatever leaves a nursery in an exception group, because a background task may have
    failed too. Ours deliver their failures in band and never raise, so the group would have one
    member, and every caller would have to take it apart.
    """
    raised: BaseException | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield nursery
        except BaseException as error:
            raised = error
        nursery.cancel_scope.cancel()
    if raised is not None:
        try:
            raise raised
        finally:
            del raised  # or the exception's traceback would hold this frame, and so itself
