"""Tests of the library on Windows, or on Wine (see `wine`). Traffic is on loopback only."""

import sys

if sys.platform != "win32":
    collect_ignore_glob = ["test_*.py"]
