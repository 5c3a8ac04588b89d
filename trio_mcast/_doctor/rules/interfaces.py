"""The interfaces, and by which one datagrams come."""

from __future__ import annotations

from collections.abc import Iterator

from ..._base.remedies import ADVICE
from ..case import Case
from ..finding import Finding, Severity, make_finding


def find_interface_down(case: Case) -> Iterator[Finding]:
    for link in case.chosen():
        crucial = any(case.is_crucial(link, version) for version in case.versions())
        if not link.is_up and (crucial or link.addresses):
            yield make_finding(
                "interface-down",
                "error" if crucial else "info",
                f"{link.name} is switched off",
                [f"netlink: {link.name} has no IFF_UP"],
                interface=link.name,
            )


def find_no_carrier(case: Case) -> Iterator[Finding]:
    for link in case.chosen():
        crucial = any(case.is_crucial(link, version) for version in case.versions())
        if link.is_up and link.has_carrier is False and (crucial or link.addresses):
            yield make_finding(
                "interface-no-carrier",
                "error" if crucial else "info",
                f"{link.name} has no carrier: nothing is at the other end of the cable",
                [f"netlink: {link.name} has IFF_UP but no IFF_LOWER_UP"],
                interface=link.name,
            )


def find_not_multicast(case: Case) -> Iterator[Finding]:
    for link in case.chosen():
        if link.is_up and not link.supports_multicast and not link.is_loopback:
            crucial = any(case.is_crucial(link, version) for version in case.versions())
            yield make_finding(
                "interface-not-multicast",
                "error" if crucial else "info",
                f"{link.name} is not set to carry multicast",
                [f"netlink: {link.name} has no IFF_MULTICAST"],
                interface=link.name,
            )


def find_no_address(case: Case) -> Iterator[Finding]:
    if 4 not in case.versions():
        return
    for link in case.chosen():
        if link.is_up and link.supports_multicast and not link.addresses_of(4):
            crucial = case.is_crucial(link, 4) and bool(case.question.groups)
            yield make_finding(
                "interface-no-address",
                "error" if crucial else "info",
                f"{link.name} has no IPv4 address: receivers pass it over, and what is sent by it "
                "has another's address or none",
                [f"netlink: the addresses of {link.name}: {', '.join(link.addresses) or 'none'}"],
                interface=link.name,
            )


def find_ipv6_disabled(case: Case) -> Iterator[Finding]:
    if 6 not in case.versions():
        return
    for link in case.chosen():
        if link.ipv6 not in ("disabled", "absent"):
            continue
        crucial = case.is_crucial(link, 6) and bool(case.question.groups)
        severity: Severity = "error" if crucial else "info"
        if link.ipv6 == "absent" and link.mtu < 1280:
            yield make_finding(
                "ipv6-disabled",
                severity,
                f"{link.name} has an MTU of {link.mtu}: IPv6 needs 1280, and is off there",
                [f"netlink: the MTU of {link.name} is {link.mtu}"],
                f"sudo ip link set dev {link.name} mtu 1500",
            )
        else:
            yield make_finding(
                "ipv6-disabled",
                severity,
                f"IPv6 is switched off on {link.name}",
                [f"netlink: IPv6 on {link.name} is {link.ipv6}"],
                interface=link.name,
            )


def find_no_local_route(case: Case) -> Iterator[Finding]:
    observation = case.observed
    chosen = {link.index for link in case.chosen()}
    for route in observation.local_routes:
        if route.kind == "local" or route.interface not in chosen:
            continue
        name = case.snapshot.name(route.interface)
        what = (
            "no route leads there: sending fails with ENETUNREACH"
            if route.kind == "none"
            else "the route is not of type local: what is sent vanishes"
        )
        remedy = None
        if route.kind != "none":
            remedy = (
                f"sudo ip -6 route flush root ff00::/8 dev {name} table local\n"
                f"{ADVICE['no-local-route-v6'].remedy.format(interface=name)}"
            )
        yield make_finding(
            "no-local-route-v6",
            "error",
            f"IPv6 groups do not work on {name}: {what}",
            [f"netlink: the route to {route.group} by {name}: {route.kind}"],
            remedy,
            interface=name,
        )


def find_wrong_interface(case: Case) -> Iterator[Finding]:
    for group in case.question.groups:
        streams = case.arrivals_of(group) + case.sightings_of(group)
        where = {stream.interface for stream in streams}
        wanted = set(case.question.interfaces) or {
            row.interface for row in case.snapshot.joined if row.group == group
        }
        if not where or not wanted or where & wanted:
            continue
        names = " and ".join(case.snapshot.name(index) for index in sorted(where))
        wanted_names = " and ".join(case.snapshot.name(index) for index in sorted(wanted))
        how = "you listen" if case.question.interfaces else "programs of this host have joined it"
        yield make_finding(
            "wrong-interface",
            "error",
            f"{group} arrives on {names}, but {how} on {wanted_names}",
            case.show_streams(streams, "seen"),
            interface=names,
        )
