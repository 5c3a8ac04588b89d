"""One fault each, made on purpose: it is found, and nothing else is said to be wrong."""

from __future__ import annotations

import shutil
import socket
import struct
from collections.abc import Callable

import pytest
from doctor.consulting import (
    BOTH,
    GROUP4,
    GROUP6,
    codes,
    consult,
    errors,
    sending,
    the,
    warnings,
)
from namespaces.network import Card, Host, Network, wait_until

USERS = ["root", "ordinary"]
FAR_AWAY = "192.0.2.7"

as_any_user = pytest.mark.parametrize("user", USERS)
for_both = pytest.mark.parametrize("group", BOTH)
needs_nft = pytest.mark.skipif(shutil.which("nft") is None, reason="nftables is not installed")


def nft(host: Host, rules: str) -> None:
    host.command("nft", "-f", "-", input=rules)


def drop(family: str, hook: str, match: str) -> str:
    """A chain of nftables that drops what matches."""
    return (
        f"table {family} filter {{\n chain bouncer {{\n"
        f"  type filter hook {hook} priority 0; policy accept;\n  {match} drop\n }}\n}}\n"
    )


def give_source(card: Card, address: str) -> None:
    """An address that the other end of the cable has no route to."""
    card.add_address(f"{address}/32")


# --- Healthy --------------------------------------------------------------------------------------


@as_any_user
@for_both
def test_a_healthy_machine_that_hears_its_group_has_nothing_but_good_news(
    here: Card, there: Card, udp_port: int, user: str, group: str
) -> None:
    with sending(there.talker(group, udp_port)):
        found = consult(here.host, user, group, port=udp_port)
    assert errors(found) == warnings(found) == []
    heard = the("datagrams-arrive", found)
    assert "on eth0" in heard.summary
    assert there.ipv4 in heard.evidence[0] or there.ipv6 in heard.evidence[0]


@as_any_user
def test_a_healthy_machine_that_is_asked_for_no_group_has_no_error(here: Card, user: str) -> None:
    found = consult(here.host, user)
    assert errors(found) == warnings(found) == []


@as_any_user
@for_both
def test_where_nobody_sends_that_is_said(here: Card, udp_port: int, user: str, group: str) -> None:
    found = consult(here.host, user, group, port=udp_port)
    assert errors(found) == []
    assert warnings(found) == ["nothing-sent"]
    assert "eth0" in the("nothing-sent", found).summary


def test_what_an_ordinary_user_cannot_see_is_said_with_how_to_see_it(
    here: Card, udp_port: int
) -> None:
    found = consult(here.host, "ordinary", GROUP4, port=udp_port)
    limits = the("limited-view", found)
    assert limits.severity == "info"
    assert "firewall" in limits.summary
    assert limits.remedy == f"sudo trio-mcast doctor {GROUP4} --port {udp_port}"
    assert "limited-view" not in codes(consult(here.host, "root", GROUP4, port=udp_port))


def test_the_doctor_leaves_no_membership_and_no_socket_behind(here: Card, udp_port: int) -> None:
    before = here.host.groups("eth0"), here.host.bound_udp_ports()
    consult(here.host, "root", *BOTH, port=udp_port)
    assert (here.host.groups("eth0"), here.host.bound_udp_ports()) == before


@for_both
def test_the_doctor_sends_nothing_to_the_group(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    listener = there.listener(group, udp_port)
    local = here.listener(group, udp_port)
    consult(here.host, "root", group, port=udp_port)
    here.talker(group, udp_port).send(b"the first that was sent")
    assert listener.receive_data() == b"the first that was sent"
    assert local.receive_data() == b"the first that was sent"


# --- Reverse path filtering -----------------------------------------------------------------------


@as_any_user
@pytest.mark.parametrize("who", ["all", "eth0"])
def test_a_strict_reverse_path_filter_is_found(
    network: Network, here: Card, there: Card, udp_port: int, user: str, who: str
) -> None:
    network.link(here.host, "eth1", network.host("elsewhere"), "eth0")
    here.host.ip(f"route add {FAR_AWAY} dev eth1")
    give_source(there, FAR_AWAY)
    here.host.sysctl(f"net.ipv4.conf.{who}.rp_filter", 1)
    talker = there.talker(GROUP4, udp_port, source=FAR_AWAY)
    with sending(talker):
        found = consult(here.host, user, GROUP4, port=udp_port, source=FAR_AWAY)
        assert errors(found) == ["reverse-path-filter"]
        finding = the("reverse-path-filter", found)
        assert FAR_AWAY in finding.summary
        assert "eth1" in finding.summary
        assert finding.remedy == "sudo sysctl -w net.ipv4.conf.eth0.rp_filter=2"
        here.host.command(*finding.remedy.split()[1:])
        assert errors(consult(here.host, user, GROUP4, port=udp_port, source=FAR_AWAY)) == []


@as_any_user
def test_a_strict_filter_is_found_without_knowing_the_sender(
    network: Network, here: Card, there: Card, udp_port: int, user: str
) -> None:
    network.link(here.host, "eth1", network.host("elsewhere"), "eth0")
    here.host.ip(f"route add {FAR_AWAY} dev eth1")
    give_source(there, FAR_AWAY)
    here.host.sysctl("net.ipv4.conf.eth0.rp_filter", 1)
    with sending(there.talker(GROUP4, udp_port, source=FAR_AWAY)):
        found = consult(here.host, user, GROUP4, port=udp_port)
    assert errors(found) == ["reverse-path-filter"]


def test_where_several_interfaces_may_have_filtered_all_are_named(
    network: Network, here: Card, there: Card, udp_port: int
) -> None:
    network.link(here.host, "eth1", network.host("elsewhere"), "eth0")
    here.host.ip(f"route add {FAR_AWAY} dev eth1")
    give_source(there, FAR_AWAY)
    here.host.sysctl("net.ipv4.conf.all.rp_filter", 1)
    with sending(there.talker(GROUP4, udp_port, source=FAR_AWAY)):
        found = consult(here.host, "ordinary", GROUP4, port=udp_port)
        assert errors(found) == ["reverse-path-filter"]
        finding = the("reverse-path-filter", found)
        assert finding.summary.startswith("eth0 or eth1 drops")
        here.host.command(*finding.remedy.split()[1:])
        assert errors(consult(here.host, "ordinary", GROUP4, port=udp_port)) == []


@as_any_user
def test_loose_beats_strict(
    network: Network, here: Card, there: Card, udp_port: int, user: str
) -> None:
    network.link(here.host, "eth1", network.host("elsewhere"), "eth0")
    here.host.ip(f"route add {FAR_AWAY} dev eth1")
    give_source(there, FAR_AWAY)
    here.host.sysctl("net.ipv4.conf.all.rp_filter", 2)
    here.host.sysctl("net.ipv4.conf.eth0.rp_filter", 1)
    with sending(there.talker(GROUP4, udp_port, source=FAR_AWAY)):
        found = consult(here.host, user, GROUP4, port=udp_port, source=FAR_AWAY)
    assert errors(found) == []
    assert "datagrams-arrive" in codes(found)


@as_any_user
@pytest.mark.parametrize("named", [True, False])
def test_a_source_that_no_route_leads_to_is_found_behind_a_loose_filter(
    here: Card, there: Card, udp_port: int, user: str, named: bool
) -> None:
    give_source(there, FAR_AWAY)
    here.host.sysctl("net.ipv4.conf.eth0.rp_filter", 2)
    with sending(there.talker(GROUP4, udp_port, source=FAR_AWAY)):
        found = consult(here.host, user, GROUP4, port=udp_port, source=FAR_AWAY if named else None)
        assert errors(found) == ["source-unroutable"]
        if named:
            finding = the("source-unroutable", found)
            assert finding.remedy == f"sudo ip route add {FAR_AWAY} dev eth0"
            here.host.ip(finding.remedy.removeprefix("sudo ip "))
            found = consult(here.host, user, GROUP4, port=udp_port, source=FAR_AWAY)
            assert errors(found) == []


@as_any_user
def test_an_unroutable_source_does_no_harm_where_nothing_is_filtered(
    here: Card, there: Card, udp_port: int, user: str
) -> None:
    give_source(there, FAR_AWAY)
    with sending(there.talker(GROUP4, udp_port, source=FAR_AWAY)):
        found = consult(here.host, user, GROUP4, port=udp_port, source=FAR_AWAY)
    assert errors(found) == warnings(found) == []


@pytest.mark.parametrize(("user", "named"), [("root", False), ("root", True), ("ordinary", True)])
def test_a_source_address_of_this_host_is_found(
    here: Card, there: Card, udp_port: int, user: str, named: bool
) -> None:
    give_source(there, here.ipv4)
    with sending(there.talker(GROUP4, udp_port, source=here.ipv4)):
        options = {"source": here.ipv4} if named else {}
        found = consult(here.host, user, GROUP4, port=udp_port, **options)
        assert errors(found) == ["own-source-address"]
        remedy = the("own-source-address", found).remedy
        assert remedy == "sudo sysctl -w net.ipv4.conf.eth0.accept_local=1"
        here.host.command(*remedy.split()[1:])
        assert errors(consult(here.host, user, GROUP4, port=udp_port, **options)) == []


def test_datagrams_without_a_source_address_are_found(
    here: Card, there: Card, udp_port: int
) -> None:
    there.host.ip(f"addr del {there.ipv4}/24 dev eth0")
    with sending(there.talker(GROUP4, udp_port)):
        found = consult(here.host, "root", GROUP4, port=udp_port)
    assert errors(found) == ["source-unroutable"]
    assert "0.0.0.0" in the("source-unroutable", found).summary


# --- Firewalls ------------------------------------------------------------------------------------


@needs_nft
@as_any_user
@for_both
@pytest.mark.parametrize("hook", ["prerouting", "input"])
def test_a_firewall_that_drops_what_comes_in_is_found_with_its_hook(
    here: Card, there: Card, udp_port: int, user: str, group: str, hook: str
) -> None:
    nft(here.host, drop("inet", hook, f"udp dport {udp_port}"))
    sender = there.ipv4 if group == GROUP4 else there.ipv6
    with sending(there.talker(group, udp_port)):
        found = consult(here.host, user, group, port=udp_port, source=sender)
        if user == "ordinary" and (group, hook) != (GROUP4, "input"):
            # The counters are the whole host's, and leave more than one possible cause.
            assert (errors(found), warnings(found)) == ([], ["datagrams-lost"])
            assert "firewall" in " ".join(the("datagrams-lost", found).evidence)
            return
        assert errors(found) == ["firewall-drop"]
        finding = the("firewall-drop", found)
        assert f"in {hook}" in finding.summary
        if user == "root":
            protocol = "ip" if group == GROUP4 else "ip6"
            assert finding.remedy == (
                f"sudo nft insert rule inet filter bouncer {protocol} daddr {group} "
                f"udp dport {udp_port} accept"
            )
            here.host.command(*finding.remedy.split()[1:])
            assert errors(consult(here.host, user, group, port=udp_port)) == []
        else:
            assert any("only for root" in line for line in finding.evidence)


@needs_nft
@pytest.mark.parametrize("group", BOTH)
def test_what_is_dropped_before_it_is_counted_is_found_by_a_capture(
    here: Card, there: Card, udp_port: int, group: str
) -> None:
    nft(
        here.host,
        "table netdev filter {\n chain bouncer {\n  type filter hook ingress device eth0 "
        f"priority 0; policy accept;\n  udp dport {udp_port} drop\n }}\n}}\n",
    )
    with sending(there.talker(group, udp_port)):
        found = consult(here.host, "root", group, port=udp_port)
    assert errors(found) == ["firewall-drop"]
    assert "in ingress" in the("firewall-drop", found).summary


@needs_nft
@as_any_user
@for_both
def test_a_firewall_that_drops_what_is_sent_is_found(
    here: Card, udp_port: int, user: str, group: str
) -> None:
    protocol = "ip" if group == GROUP4 else "ip6"
    nft(here.host, drop("inet", "output", f"{protocol} daddr {group} meta l4proto udp"))
    found = consult(here.host, user, group, port=udp_port)
    assert errors(found) == ["firewall-drop"]
    assert "in output" in the("firewall-drop", found).summary


# --- Interfaces -----------------------------------------------------------------------------------


@as_any_user
@for_both
@pytest.mark.parametrize("named", [True, False])
def test_an_interface_that_is_down_is_found(
    here: Card, udp_port: int, user: str, group: str, named: bool
) -> None:
    here.down()
    found = consult(here.host, user, group, port=udp_port, interface="eth0" if named else None)
    assert errors(found)[0] == "interface-down"
    assert set(errors(found)) <= {"interface-down", "interface-no-address", "ipv6-disabled"}
    finding = the("interface-down", found)
    assert finding.remedy == "sudo ip link set dev eth0 up"
    here.up()
    assert errors(consult(here.host, user, group, port=udp_port)) == []


def test_another_interface_that_is_down_is_no_error(
    network: Network, here: Card, there: Card, udp_port: int
) -> None:
    spare, _ = network.link(here.host, "eth1", there.host, "eth1")
    spare.down()
    assert errors(consult(here.host, "root", GROUP4, port=udp_port)) == []


@as_any_user
@for_both
def test_an_interface_without_carrier_is_found(
    here: Card, udp_port: int, user: str, group: str
) -> None:
    here.unplug()
    found = consult(here.host, user, group, port=udp_port, interface="eth0")
    assert errors(found) == ["interface-no-carrier"]
    here.plug()
    assert errors(consult(here.host, user, group, port=udp_port, interface="eth0")) == []


@as_any_user
@for_both
def test_an_interface_that_is_not_set_to_multicast_is_found(
    here: Card, udp_port: int, user: str, group: str
) -> None:
    here.set("multicast off")
    found = consult(here.host, user, group, port=udp_port, interface="eth0")
    assert errors(found) == ["interface-not-multicast"]
    here.host.ip(the("interface-not-multicast", found).remedy.removeprefix("sudo ip "))
    assert errors(consult(here.host, user, group, port=udp_port, interface="eth0")) == []


@as_any_user
def test_an_interface_without_an_ipv4_address_is_found(
    network: Network, udp_port: int, user: str
) -> None:
    here, _ = network.pair(ipv4=False)
    found = consult(here.host, user, GROUP4, port=udp_port, interface="eth0")
    assert errors(found) == ["interface-no-address"]
    assert errors(consult(here.host, user, GROUP6, port=udp_port, interface="eth0")) == []


@as_any_user
def test_ipv6_that_is_switched_off_is_found(network: Network, udp_port: int, user: str) -> None:
    here, _ = network.pair(ipv6=False)
    found = consult(here.host, user, GROUP6, port=udp_port, interface="eth0")
    assert errors(found) == ["ipv6-disabled"]
    here.host.command(*the("ipv6-disabled", found).remedy.split()[1:])
    assert errors(consult(here.host, user, GROUP6, port=udp_port, interface="eth0")) == []


def test_an_mtu_too_small_for_ipv6_is_found(here: Card, udp_port: int) -> None:
    here.set("mtu 1200")
    found = consult(here.host, "root", GROUP6, port=udp_port, interface="eth0")
    assert errors(found) == ["ipv6-disabled"]
    assert "mtu 1500" in the("ipv6-disabled", found).remedy


@as_any_user
def test_loopback_without_a_route_for_ipv6_groups_is_found(
    here: Card, udp_port: int, user: str
) -> None:
    found = consult(here.host, user, GROUP6, port=udp_port, interface="lo")
    assert errors(found) == ["no-local-route-v6"]
    here.host.ip(the("no-local-route-v6", found).remedy.removeprefix("sudo ip "))
    with sending(here.host.lo.talker(GROUP6, udp_port)):
        found = consult(here.host, user, GROUP6, port=udp_port, interface="lo")
    assert errors(found) == []
    assert "datagrams-arrive" in codes(found)


def test_a_route_on_loopback_of_the_wrong_type_is_found_and_remedied(
    here: Card, udp_port: int
) -> None:
    here.host.ip("-6 route add ff00::/8 dev lo table local")
    found = consult(here.host, "root", GROUP6, port=udp_port, interface="lo")
    assert errors(found) == ["no-local-route-v6"]
    for line in the("no-local-route-v6", found).remedy.splitlines():
        here.host.ip(line.removeprefix("sudo ip "))
    assert errors(consult(here.host, "root", GROUP6, port=udp_port, interface="lo")) == []


def test_loopback_needs_no_route_for_ipv4_groups(here: Card, udp_port: int) -> None:
    with sending(here.host.lo.talker(GROUP4, udp_port)):
        found = consult(here.host, "root", GROUP4, port=udp_port, interface="lo")
    assert errors(found) == warnings(found) == []


@as_any_user
@for_both
def test_a_group_that_arrives_on_another_interface_than_named_is_found(
    network: Network, here: Card, there: Card, udp_port: int, user: str, group: str
) -> None:
    network.link(here.host, "eth1", there.host, "eth1")
    with sending(there.talker(group, udp_port)):
        found = consult(here.host, user, group, port=udp_port, interface="eth1")
        assert errors(found) == ["wrong-interface"]
        assert "arrives on eth0" in the("wrong-interface", found).summary
        assert errors(consult(here.host, user, group, port=udp_port, interface="eth0")) == []


@as_any_user
@for_both
def test_a_group_that_arrives_on_another_interface_than_programs_joined_is_found(
    network: Network, here: Card, there: Card, udp_port: int, user: str, group: str
) -> None:
    other, _ = network.link(here.host, "eth1", there.host, "eth1")
    other.listener(group, udp_port)
    with sending(there.talker(group, udp_port)):
        found = consult(here.host, user, group, port=udp_port)
    assert errors(found) == ["wrong-interface"]


# --- Ports, sockets, memberships ------------------------------------------------------------------


@as_any_user
@for_both
def test_datagrams_at_another_port_are_found(
    here: Card, there: Card, udp_port: int, user: str, group: str
) -> None:
    other = udp_port - 1
    with sending(there.talker(group, other)):
        found = consult(here.host, user, group, port=udp_port)
    assert errors(found) == ["port-mismatch"]
    if user == "root":
        assert f"at port {other}" in the("port-mismatch", found).summary


@as_any_user
@for_both
def test_a_program_that_listens_at_another_port_is_found(
    here: Card, there: Card, udp_port: int, user: str, group: str
) -> None:
    here.listener(group, udp_port - 1)
    with sending(there.talker(group, udp_port)):
        found = consult(here.host, user, group, port=udp_port)
    assert errors(found) == ["port-mismatch"]


@as_any_user
@for_both
def test_a_port_that_is_not_shared_is_found_with_who_holds_it(
    here: Card, udp_port: int, user: str, group: str
) -> None:
    six = group == GROUP6
    held = here.host.socket(socket.AF_INET6 if six else socket.AF_INET)
    held.bind(("::" if six else "", udp_port))
    found = consult(here.host, user, group, port=udp_port)
    assert errors(found) == ["port-held-exclusively"]
    assert "(pid " in the("port-held-exclusively", found).summary
    held.close()
    assert errors(consult(here.host, user, group, port=udp_port)) == []


@as_any_user
def test_a_limit_on_memberships_is_found(here: Card, udp_port: int, user: str) -> None:
    here.host.sysctl("net.ipv4.igmp_max_memberships", 0)
    found = consult(here.host, user, GROUP4, port=udp_port)
    assert errors(found) == ["membership-limit"]
    here.host.command(*the("membership-limit", found).remedy.split()[1:])
    assert errors(consult(here.host, user, GROUP4, port=udp_port)) == []


def test_more_groups_than_one_socket_may_join_are_worth_a_warning(
    here: Card, udp_port: int
) -> None:
    groups = [f"233.252.0.{number}" for number in range(1, 22)]
    found = consult(here.host, "ordinary", *groups, port=udp_port)
    assert errors(found) == []
    assert "membership-limit" in warnings(found)
    assert "membership-limit" not in codes(
        consult(here.host, "ordinary", *groups[:20], port=udp_port)
    )


@as_any_user
def test_a_membership_that_the_kernel_has_lost_is_found(
    here: Card, udp_port: int, user: str
) -> None:
    here.listener(GROUP6, udp_port)
    assert "membership-lost" not in codes(consult(here.host, user, GROUP6, port=udp_port))
    here.set("mtu 1200")
    here.set("mtu 1500")
    here.up()
    found = consult(here.host, user, GROUP6, port=udp_port)
    assert errors(found) == ["membership-lost"]
    assert "pid" in the("membership-lost", found).summary


@as_any_user
def test_a_membership_on_an_interface_that_was_made_anew_is_found(
    here: Card, udp_port: int, user: str
) -> None:
    here.listener(GROUP4, udp_port)
    here.delete()
    here.create()
    found = consult(here.host, user, GROUP4, port=udp_port)
    assert errors(found) == ["membership-lost"]


@for_both
def test_a_membership_waits_for_an_interface_that_is_down_and_is_not_lost(
    here: Card, udp_port: int, group: str
) -> None:
    here.listener(group, udp_port)
    here.down()
    assert "membership-lost" not in codes(consult(here.host, "root", group, port=udp_port))


@as_any_user
@for_both
def test_a_program_that_does_not_read_fast_enough_is_found(
    here: Card, there: Card, udp_port: int, user: str, group: str
) -> None:
    sleeper = here.listener(group, udp_port)
    sleeper.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    with sending(there.talker(group, udp_port)):
        found = consult(here.host, user, group, port=udp_port)
    assert errors(found) == ["receive-buffer-full"]
    assert "pid" in the("receive-buffer-full", found).summary


@as_any_user
@for_both
def test_a_sender_other_than_the_one_named_is_found(
    here: Card, there: Card, udp_port: int, user: str, group: str
) -> None:
    named = "10.77.1.9" if group == GROUP4 else "fd77:0:0:1::9"
    with sending(there.talker(group, udp_port)):
        found = consult(here.host, user, group, port=udp_port, source=named)
    assert errors(found) == ["source-filtered"]


@as_any_user
@for_both
def test_a_source_that_a_program_filters_out_is_found(
    here: Card, there: Card, udp_port: int, user: str, group: str
) -> None:
    here.listener(group, udp_port, source="10.77.1.9" if group == GROUP4 else "fd77:0:0:1::9")
    with sending(there.talker(group, udp_port)):
        found = consult(here.host, user, group, port=udp_port)
    assert errors(found) == ["source-filtered"]
    assert "mcfilter" in the("source-filtered", found).evidence[0]


@as_any_user
@for_both
def test_bad_checksums_are_found(
    here: Card, there: Card, udp_port: int, user: str, group: str, tmp_path: object
) -> None:
    raw = RawTalker(there, group, udp_port)
    with sending(raw):  # type: ignore[arg-type]
        found = consult(here.host, user, group, port=udp_port)
    assert errors(found) == ["checksum-errors"]


class RawTalker:
    """Sends UDP datagrams with a checksum that is wrong."""

    def __init__(self, card: Card, group: str, port: int) -> None:
        six = ":" in group
        self._to = (group, 0, 0, card.index) if six else (group, 0)
        make = card.host.call
        self._socket = make(
            socket.socket,
            socket.AF_INET6 if six else socket.AF_INET,
            socket.SOCK_RAW,
            socket.IPPROTO_UDP,
        )
        card.host.network.sockets.append(self._socket)
        if six:
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, card.index)
        else:
            index = struct.pack("=4s4si", bytes(4), bytes(4), card.index)
            self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, index)
        self._datagram = struct.pack("!HHHH", 4000, port, 13, 0xBAD) + b"wrong"

    def send(self, _: bytes) -> None:
        self._socket.sendto(self._datagram, self._to)


# --- The network around ---------------------------------------------------------------------------


@as_any_user
@pytest.mark.parametrize("kind", ["igmp", "mld"])
@pytest.mark.parametrize("who", ["all", "eth0"])
def test_a_forced_version_is_found(here: Card, user: str, kind: str, who: str) -> None:
    version = "ipv4" if kind == "igmp" else "ipv6"
    here.host.sysctl(f"net.{version}.conf.{who}.force_{kind}_version", 1)
    found = consult(here.host, user)
    assert (errors(found), warnings(found)) == ([], ["igmp-version-forced"])
    here.host.command(*the("igmp-version-forced", found).remedy.split()[1:])
    assert warnings(consult(here.host, user)) == []


def test_a_forced_version_is_an_error_for_who_wants_sources(
    here: Card, there: Card, udp_port: int
) -> None:
    here.host.sysctl("net.ipv4.conf.eth0.force_igmp_version", 2)
    found = consult(here.host, "root", "232.1.2.3", port=udp_port, source=there.ipv4)
    assert errors(found) == ["igmp-version-forced"]


@as_any_user
def test_a_source_beyond_a_router_is_told_of(
    here: Card, there: Card, udp_port: int, user: str
) -> None:
    here.host.ip(f"route add {FAR_AWAY} via {there.ipv4}")
    found = consult(here.host, user, GROUP4, port=udp_port, source=FAR_AWAY)
    assert errors(found) == []
    assert warnings(found) == ["hop-limit-one", "nothing-sent"]
    found = consult(here.host, user, GROUP4, port=udp_port, source=there.ipv4)
    assert warnings(found) == ["nothing-sent"]


@as_any_user
@for_both
def test_a_sender_here_whose_hop_limit_is_zero_is_told_of(
    here: Card, udp_port: int, user: str, group: str
) -> None:
    with sending(here.talker(group, udp_port, hop_limit=0)):
        found = consult(here.host, user, group, port=udp_port)
    assert (errors(found), warnings(found)) == ([], ["loopback-hop-limit"])
    with sending(here.talker(group, udp_port, hop_limit=1)):
        found = consult(here.host, user, group, port=udp_port)
    assert (errors(found), warnings(found)) == ([], [])


@as_any_user
def test_a_bridge_without_a_querier_that_does_not_flood_is_found(
    network: Network, user: str
) -> None:
    switch = network.switch(snooping=True, querier=False)
    switch.plug(network.host())
    found = consult(switch.host, user)
    assert errors(found) == []
    assert the("no-querier", found).severity == "info"
    switch.host.command("bridge", "link", "set", "dev", "port1", "mcast_flood", "off")
    found = consult(switch.host, user)
    assert errors(found) == ["no-querier"]
    remedy = the("no-querier", found).remedy.splitlines()[-1]
    switch.host.ip(remedy.removeprefix("sudo ip "))
    assert "no-querier" not in codes(consult(switch.host, user))


@as_any_user
def test_a_querier_that_has_fallen_silent_is_found(network: Network, user: str) -> None:
    switch = network.switch(snooping=True, querier=False)
    switch.set("mcast_querier_interval 20")  # hundredths of a second
    asker = switch.plug(network.host())
    ask_for_members(asker)
    wait_until(lambda: "querier-dead" in codes(consult(switch.host, user)), "the querier is dead")
    found = consult(switch.host, user)
    assert errors(found) == ["querier-dead"]
    assert "no-querier" not in codes(found)


def ask_for_members(card: Card) -> None:
    """Send an MLD query, as routers do."""
    raw = card.host.call(socket.socket, socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    card.host.network.sockets.append(raw)
    router_alert = bytes((58, 0, 5, 2, 0, 0, 1, 0))
    raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_HOPOPTS, router_alert)
    raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 1)
    raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, card.index)
    raw.bind((card.link_local, 0, 0, card.index))
    raw.sendto(
        struct.pack("!BBHHH16s", 130, 0, 0, 100, 0, bytes(16)), ("ff02::1", 0, 0, card.index)
    )


@pytest.mark.parametrize("routable", [True, False])
def test_a_querier_whose_queries_are_dropped_is_found(
    here: Card, there: Card, udp_port: int, routable: bool
) -> None:
    here.host.sysctl("net.ipv4.conf.eth0.rp_filter", 1)
    source = there.ipv4 if routable else FAR_AWAY
    if not routable:
        give_source(there, source)
    with sending(Querier(there, source), there.talker(GROUP4, udp_port)):  # type: ignore[arg-type]
        found = consult(here.host, "root", GROUP4, port=udp_port)
    assert errors(found) == ([] if routable else ["source-unroutable"])
    assert "datagrams-arrive" in codes(found)
    assert "no-querier" not in codes(found)


class Querier:
    """Asks who has joined what, of IPv4 (RFC 3376 s4.1)."""

    def __init__(self, card: Card, source: str) -> None:
        self._socket = card.host.call(
            socket.socket, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IGMP
        )
        card.host.network.sockets.append(self._socket)
        index = struct.pack("=4s4si", bytes(4), bytes(4), card.index)
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, index)
        self._socket.bind((source, 0))

    def send(self, _: bytes) -> None:
        query = struct.pack("!BBH4sBBH", 0x11, 100, 0, bytes(4), 0, 125, 0)
        total = sum(struct.unpack("!6H", query))
        checksum = ~(total + (total >> 16)) & 0xFFFF
        self._socket.sendto(query[:2] + struct.pack("!H", checksum) + query[4:], ("224.0.0.1", 0))


@pytest.mark.parametrize(
    ("group", "named"), [("232.1.2.3", "10.77.1.9"), ("ff3e::4d43:1", "fd77:0:0:1::9")]
)
def test_a_source_specific_group_sent_by_another_than_named_is_found(
    here: Card, there: Card, udp_port: int, group: str, named: str
) -> None:
    with sending(there.talker(group, udp_port)):
        found = consult(here.host, "root", group, port=udp_port, source=named)
        assert errors(found) == ["source-filtered"]
        true = there.ipv4 if group.startswith("232") else there.ipv6
        found = consult(here.host, "root", group, port=udp_port, source=true)
    assert (errors(found), warnings(found)) == ([], [])


def test_without_privilege_or_a_name_a_loss_before_the_routes_is_a_guess_that_says_so(
    here: Card, there: Card, udp_port: int
) -> None:
    give_source(there, here.ipv4)
    with sending(there.talker(GROUP4, udp_port, source=here.ipv4)):
        found = consult(here.host, "ordinary", GROUP4, port=udp_port)
    assert (errors(found), warnings(found)) == ([], ["datagrams-lost"])
    assert "an address of this host" in " ".join(the("datagrams-lost", found).evidence)


def test_a_group_without_a_port_is_looked_for_at_every_port(
    here: Card, there: Card, udp_port: int
) -> None:
    with sending(there.talker(GROUP4, udp_port)):
        found = consult(here.host, "root", GROUP4)
        assert (errors(found), warnings(found)) == ([], [])
        assert f"port {udp_port}" in the("datagrams-arrive", found).evidence[0]
        found = consult(here.host, "ordinary", GROUP4)
        assert (errors(found), warnings(found)) == ([], ["port-mismatch"])


def test_what_other_groups_lose_is_not_taken_for_the_reason_by_root(
    here: Card, there: Card, udp_port: int
) -> None:
    give_source(there, FAR_AWAY)
    here.listener("233.252.0.9", udp_port)
    here.host.sysctl("net.ipv4.conf.eth0.rp_filter", 2)
    with sending(
        there.talker("233.252.0.9", udp_port, source=FAR_AWAY),  # filtered
        there.talker("233.252.0.10", udp_port),  # joined by nobody
    ):
        found = consult(here.host, "root", GROUP4, port=udp_port)
    assert (errors(found), warnings(found)) == ([], ["nothing-sent"])


# --- Two at once ----------------------------------------------------------------------------------


def _forbid_ipv6(here: Card, _: Card) -> None:
    here.host.sysctl("net.ipv6.conf.eth0.disable_ipv6", 1)


def _filter_strictly(here: Card, there: Card) -> None:
    here.host.sysctl("net.ipv4.conf.eth0.rp_filter", 2)


@as_any_user
@pytest.mark.parametrize(
    ("make", "group", "code"),
    [
        (_forbid_ipv6, GROUP6, "ipv6-disabled"),
    ],
)
def test_two_faults_at_once_are_both_found(
    here: Card,
    there: Card,
    udp_port: int,
    user: str,
    make: Callable[[Card, Card], None],
    group: str,
    code: str,
) -> None:
    give_source(there, FAR_AWAY)
    _filter_strictly(here, there)
    make(here, there)
    with sending(there.talker(GROUP4, udp_port, source=FAR_AWAY)):
        found = consult(
            here.host, user, GROUP4, group, port=udp_port, source=FAR_AWAY, interface="eth0"
        )
    assert set(errors(found)) == {"source-unroutable", code}


@needs_nft
def test_two_senders_may_be_lost_at_two_stages(here: Card, there: Card, udp_port: int) -> None:
    give_source(there, FAR_AWAY)
    here.host.sysctl("net.ipv4.conf.eth0.rp_filter", 2)
    nft(here.host, drop("ip", "input", f"udp dport {udp_port}"))
    with sending(there.talker(GROUP4, udp_port, source=FAR_AWAY), there.talker(GROUP4, udp_port)):
        found = consult(here.host, "root", GROUP4, port=udp_port)
    assert set(errors(found)) == {"source-unroutable", "firewall-drop"}
    assert "in input" in the("firewall-drop", found).summary


@needs_nft
@as_any_user
def test_a_firewall_for_what_is_sent_and_one_for_what_comes_are_told_apart(
    here: Card, there: Card, udp_port: int, user: str
) -> None:
    nft(here.host, drop("ip", "input", f"udp dport {udp_port}"))
    nft(here.host, drop("ip6", "output", f"ip6 daddr {GROUP6}"))
    with sending(there.talker(GROUP4, udp_port)):
        found = consult(here.host, user, *BOTH, port=udp_port)
    assert errors(found) == ["firewall-drop", "firewall-drop"]
    first, second = (f.summary for f in found if f.code == "firewall-drop")
    assert {first[-6:], second[-6:]} == {"output", " input"}
