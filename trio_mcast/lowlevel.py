"""For those who do themselves what this library does, in part or whole.

`plan_receiver` and `plan_sender` return the socket calls of this library as values, a `SocketPlan`,
for any of the systems below and on any machine: print it to see what has to be done, or carry it
out with another event loop or none.

`parse_group`, `parse_sources` and `find_interfaces` read what users write as this library does.

`parse_question`, `examine` and `judge` are the steps of `trio_mcast.diagnose`: between the last two
a `Case` can be saved, and judged elsewhere. `take_snapshot` tells what this host says of itself,
and a `MembershipWatch` who joins and leaves.
"""

from __future__ import annotations

from ._addresses.parsing import (
    Group as Group,
    parse_group as parse_group,
    parse_sources as parse_sources,
)
from ._base.snapshot import Snapshot as Snapshot
from ._doctor.case import Case as Case, Question as Question
from ._doctor.diagnosis import (
    examine as examine,
    parse_question as parse_question,
    take_snapshot as take_snapshot,
)
from ._doctor.judging import judge as judge
from ._doctor.membership_watch import (
    MembershipChange as MembershipChange,
    MembershipWatch as MembershipWatch,
)
from ._machine.current import find_interfaces as find_interfaces
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
