"""Tests of the examples, run as they are. They need what the tests in `kernel` need."""

import sys

if sys.platform != "linux":
    collect_ignore_glob = ["*"]
