"""Tests on the real kernel: hosts are network namespaces, cables are veth pairs."""

import sys

if sys.platform != "linux":
    collect_ignore_glob = ["*"]
