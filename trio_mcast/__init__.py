"""UDP multicast for trio programs.

A receiver is a channel; a membership is a task; listening is a cancel scope::

    import trio, trio_mcast

    async def main():
        async with trio_mcast.open_receiver("239.1.2.3", port=5000) as receiver:
            async for datagram in receiver:
                print(datagram.source, datagram.group, datagram.interface.name, datagram.data)

    trio.run(main)

Everything is here but two namespaces: `trio_mcast.lowlevel`, for those who do in part themselves
what this library does, and `trio_mcast.testing`, for the tests of programs that use it.
"""

from ._addresses.classification import Classification as Classification
from ._addresses.classify import classify as classify
from ._addresses.groups import (
    embedded_rp_groups as embedded_rp_groups,
    ethernet_address as ethernet_address,
    ethernet_aliases as ethernet_aliases,
    glop_block as glop_block,
    ipv4_embedded_group as ipv4_embedded_group,
    link_scoped_groups as link_scoped_groups,
    random_group as random_group,
    sacn_group as sacn_group,
    scope_relative_group as scope_relative_group,
    solicited_node_group as solicited_node_group,
    unicast_prefix_groups as unicast_prefix_groups,
)
from ._addresses.parsing import GroupLike as GroupLike, SourceLike as SourceLike
from ._base.datagram import Datagram as Datagram, SocketAddress as SocketAddress
from ._base.errors import (
    AddressError as AddressError,
    InterfaceNotFoundError as InterfaceNotFoundError,
    MulticastError as MulticastError,
    NotSupportedError as NotSupportedError,
    SendError as SendError,
    SocketSetupError as SocketSetupError,
)
from ._base.interface import Interface as Interface
from ._base.source_filter import FilterMode as FilterMode
from ._base.status import (
    MembershipState as MembershipState,
    MembershipStatistics as MembershipStatistics,
    MembershipStatus as MembershipStatus,
    ReceiverStatistics as ReceiverStatistics,
    SenderStatistics as SenderStatistics,
)
from ._base.version import __version__ as __version__
from ._doctor.finding import Finding as Finding
from ._doctor.public import diagnose as diagnose
from ._interfaces.selection import (
    InterfaceSelector as InterfaceSelector,
    InterfacesLike as InterfacesLike,
)
from ._machine.current import (
    default_interface as default_interface,
    list_interfaces as list_interfaces,
)
from ._machine.interface_changes import (
    InterfaceChange as InterfaceChange,
    wait_for_interface as wait_for_interface,
    watch_interfaces as watch_interfaces,
)
from ._machine.sending import Payload as Payload
from ._plan.packet_info import PacketInfoName as PacketInfoName
from ._receive.delivery import Overflow as Overflow
from ._receive.events import EventStream as EventStream
from ._receive.receiver import (
    MulticastReceiver as MulticastReceiver,
    open_receiver as open_receiver,
    run_receiver as run_receiver,
)
from ._receive.running_receiver import Listener as Listener, RunningReceiver as RunningReceiver
from ._send.answers import Answer as Answer
from ._send.sender import (
    MulticastSender as MulticastSender,
    open_sender as open_sender,
)

# Tracebacks, reprs and documentation show the names that programs use.
for _name, _value in list(globals().items()):
    if getattr(_value, "__module__", "").startswith("trio_mcast._"):
        _value.__module__ = __name__
del _name, _value
