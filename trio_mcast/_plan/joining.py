"""Options by which a socket joins and leaves a group, and changes whom of its senders it hears."""

from __future__ import annotations

from ipaddress import IPv6Address

from .._addresses.parsing import IPAddress, check_sources
from .._base.interface import Interface, ipv4_addresses
from .._base.source_filter import SourceFilter
from .options import (
    SocketOption,
    named_option,
    pack_group_filter,
    pack_group_req,
    pack_group_source_req,
    pack_index_as_address,
    pack_ip_mreq,
    pack_ip_mreqn,
    pack_ipv6_mreq,
)
from .platforms import OptionName, Platform
from .socket_plan import Target, show


def plan_join(target: Target, senders: tuple[IPAddress, ...]) -> tuple[SocketOption, ...]:
    """Join a group: with sources, or with none named, for every sender."""
    names = target.family.membership
    if not senders:
        return (_group_option(target, names.join_group, target.family.older_join),)
    return tuple(_source_option(target, names.join_source_group, sender) for sender in senders)


def plan_block(target: Target, source: IPAddress) -> SocketOption:
    """Do not hear one of those who send to a group that was joined without sources."""
    return _source_option(target, target.family.membership.block_source, source)


def plan_leave(
    platform: Platform,
    group: IPAddress,
    interface: Interface,
    sources: tuple[IPAddress, ...] = (),
) -> SocketOption:
    """Leave a group that was joined with these sources: all of them go with it.

    Not source by source: on macOS an empty membership would remain. It works also with the index of
    an interface that is gone.
    """
    target = Target.of(platform, group, interface)
    # What was joined with sources was not joined in the older way, so is not left in it either.
    older = None if sources else target.family.older_leave
    return _group_option(target, target.family.membership.leave_group, older)


def plan_filter_change(
    platform: Platform,
    group: IPAddress,
    interface: Interface,
    old: SourceFilter,
    new: SourceFilter,
) -> SocketOption | None:
    """Change the filter of a joined socket in one step that either happens whole or not at all.

    Returns:
      None where that cannot be: then plan new sockets, and leave with the old ones

    Raises:
      AddressError: a source of another IP version, or none where the group needs one
    """
    check_sources(group, new.mode, new.sources)
    target = Target.of(platform, group, interface)
    names, most = target.family.membership, target.family.most_sources
    if most is not None and max(len(old.sources), len(new.sources)) > most:
        return None
    if names.set_filter is not None:
        return _whole_filter(target, names.set_filter, new)
    # Without that, a source can be added or taken away by one option, and nothing else. The mode
    # cannot be changed so: Linux turns an any-source membership that is told to join one source
    # into one that hears only that source, and others refuse.
    if old.mode != new.mode:
        return None
    gone, came = set(old.sources) - set(new.sources), set(new.sources) - set(old.sources)
    if len(gone) + len(came) != 1:
        return None
    if new.mode == "include":
        name = names.join_source_group if came else names.leave_source_group
    else:
        name = names.block_source if came else names.unblock_source
    (source,) = came or gone
    return _source_option(target, name, source)


def _whole_filter(target: Target, name: OptionName, new: SourceFilter) -> SocketOption:
    """Replace the filter in one step.

    On Linux including nobody leaves the group, and the group must have been joined before.
    """
    listed = ", ".join(map(str, new.sources)) or "nobody"
    value = pack_group_filter(
        target.platform, target.interface.index, target.group, new.mode, new.sources
    )
    return named_option(name, value, f" {new.mode} {listed}: {target}")


def _group_option(target: Target, name: OptionName, older: OptionName | None) -> SocketOption:
    return named_option(
        name,
        pack_group_req(target.platform, target.interface.index, target.group),
        f" {target}",
        fallback=older and _older_group_option(target, older),
    )


def _older_group_option(target: Target, name: OptionName) -> SocketOption:
    """For systems without ``MCAST_*``: Wine 8 and QEMU's emulation of Linux.

    Wine takes no index for an address either.
    """
    subject = f" {target}"
    index = target.interface.index
    if isinstance(target.group, IPv6Address):
        return named_option(name, pack_ipv6_mreq(target.group, index), subject)
    group = target.group
    if target.family.interface_form == "ip_mreqn":
        return named_option(name, pack_ip_mreqn(index, group=group), subject)
    by_address = [
        named_option(name, pack_ip_mreq(group, address.packed), f" {group} on {address}")
        for address in ipv4_addresses(target.interface)[:1]
    ]
    return named_option(
        name,
        pack_ip_mreq(group, pack_index_as_address(index)),
        subject,
        fallback=by_address[0] if by_address else None,
    )


def _source_option(target: Target, name: OptionName, source: IPAddress) -> SocketOption:
    value = pack_group_source_req(target.platform, target.interface.index, target.group, source)
    return named_option(name, value, f" {target.text} from {source} on {show(target.interface)}")
