"""For those who set their sockets up themselves: the socket calls of this library, as values.

`plan_receiver` and `plan_sender` return a `SocketPlan`, for any of the systems below and on any
machine: print it to see what has to be done, or carry it out with another event loop or none.
"""

from __future__ import annotations

from ._plan.options import SocketOption as SocketOption
from ._plan.plan import SocketPlan as SocketPlan
from ._plan.plan import plan_receiver as plan_receiver
from ._plan.plan import plan_sender as plan_sender
from ._plan.platforms import LINUX as LINUX
from ._plan.platforms import LINUX_32BIT as LINUX_32BIT
from ._plan.platforms import MACOS as MACOS
from ._plan.platforms import WINDOWS as WINDOWS
from ._plan.platforms import Platform as Platform
