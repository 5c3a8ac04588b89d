"""The doctor as programs call it.

Few programs ever do, so the rest of the doctor is imported by the call: it would take as long as a
third of everything else here.
"""

from __future__ import annotations

from collections.abc import Iterable

from .._addresses.parsing import GroupLike, SourceLike
from .._interfaces.selection import InterfacesLike
from .finding import Finding


async def diagnose(
    group: GroupLike | Iterable[GroupLike] | None = None,
    *,
    port: int | None = None,
    interface: InterfacesLike = None,
    source: SourceLike | Iterable[SourceLike] | None = None,
    watch: float = 3.0,
) -> tuple[Finding, ...]:
    """Find out why nothing arrives::

        for finding in await trio_mcast.diagnose("239.1.2.3", port=5000):
            print(finding.severity, finding.summary, finding.remedy)

    Without a group it looks at this machine only. Given groups it also joins them for some seconds,
    on every interface, and watches the kernel's counters and what arrives, so as to tell which
    stage loses the datagrams: for that, somebody has to send meanwhile. It changes nothing and
    sends nothing.

    Any user may call it. Root is told more: a packet capture then says what came in, and the
    firewall's chains have names. What could not be seen is a finding of its own.

    Linux tells almost everything, macOS and Windows little more than the state of interfaces.

    Args:
      group: the groups that should arrive
      port: the port; None: the one that usually goes with the group, or any
      interface: where they should arrive, if you care: a name, an index, an address, a network
      source: who should send them, if you know; it makes the answer more exact
      watch: seconds to listen; 0: do not

    Returns:
      What was found, the most probable cause first. Without a finding of severity ``"error"``
      this machine is well.

    Raises:
      AddressError: a group or source is no address
      InterfaceNotFoundError: an interface that is named does not exist
      ValueError, TypeError: another argument is wrong
    """
    from .diagnosis import examine, parse_question, parse_seconds
    from .judging import judge

    seconds = parse_seconds(watch)
    question = parse_question(group, port=port, interface=interface, source=source)
    return judge(await examine(question, seconds))
