"""Tests of the program `trio-mcast`, run as people run it. See `cli.program`.

Those that ask for `network` need what the tests in `kernel` need, and are skipped otherwise.
"""

import sys

if sys.platform != "linux":
    collect_ignore = ["test_demo.py", "test_listen.py", "test_on_a_host.py", "test_send.py"]
