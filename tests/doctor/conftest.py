"""Tests of the doctor: on hosts of our making with exactly one fault, and on recorded evidence."""

import sys

if sys.platform != "linux":
    collect_ignore_glob = ["test_on_*.py"]
