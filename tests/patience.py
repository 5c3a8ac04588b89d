"""How long tests wait for what should happen, in seconds.

Nothing is awaited for longer, and a test that succeeds seldom waits for as long. Where programs run
many times as slowly as usual, as on an emulated processor, the environment variable
TRIO_MCAST_TEST_SLOWNESS says how many times as long tests should wait.
"""

import os

SLOWNESS = float(os.environ.get("TRIO_MCAST_TEST_SLOWNESS", "1"))
"""How many times as long as usual everything takes."""

SOON = 2 * SLOWNESS
"""For what nothing but this process has to do."""

PATIENCE = 5 * SLOWNESS
"""For what involves the kernel, other threads or other programs."""

LONG = 30 * SLOWNESS
"""For programs that have to start first, and for many things one after the other."""
