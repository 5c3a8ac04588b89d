"""For those who set their sockets up themselves: the socket calls of this library, as values.

`plan_receiver` and `plan_sender` return a `SocketPlan`, for any of the systems below and on any
machine: print it to see what has to be done, or carry it out with another event loop or none.
"""

from __future__ import annotations

from ._machine.sockets import (
    current_platform as current_platform,
    open_planned_socket as open_planned_socket,
)
from ._plan.linux import LINUX as LINUX, LINUX_32BIT as LINUX_32BIT
from ._plan.macos import MACOS as MACOS
from ._plan.options import SocketOption as SocketOption
from ._plan.platforms import Platform as Platform
from ._plan.receiver_plan import plan_receiver as plan_receiver
from ._plan.sender_plan import plan_sender as plan_sender
from ._plan.socket_plan import SocketPlan as SocketPlan
from ._plan.windows import WINDOWS as WINDOWS
