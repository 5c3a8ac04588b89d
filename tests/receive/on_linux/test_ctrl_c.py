"""Ctrl-C at any instant comes out, and leaves no descriptor and no membership."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from namespaces.network import Card
from namespaces.receiving import BOTH
from patience import PATIENCE

PROGRAM = Path(__file__).with_name("interrupting.py")
"""In a process of its own, for signals come to the main thread only."""

OPERATIONS = [
    *("closing", "joining", "leaving", "joining_for_a_block", "changing_sources"),
    *("receiving", "receiving_batches", "running", "sending"),
    *("opening", "ending", "closing_sender", "sending_batches", "finding_the_address"),
]

MOST = 30
"""Instants that are tried of each operation, of up to 3,000."""


@pytest.mark.parametrize("group", BOTH)
def test_ctrl_c_leaves_nothing(here: Card, udp_port: int, group: str) -> None:
    argv = [str(PROGRAM), group, str(udp_port), str(MOST), *OPERATIONS]
    done = here.host.call(
        lambda: subprocess.run(
            [sys.executable, "-W", "error", *argv],
            capture_output=True,
            text=True,
            timeout=6 * PATIENCE,
        )
    )
    assert not done.stderr, done.stderr
    assert done.stdout == "fine\n"
