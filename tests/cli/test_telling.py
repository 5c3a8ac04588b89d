"""`trio-mcast interfaces`, `classify` and `plan`: nothing is sent."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import trio_mcast
from trio_mcast.__main__ import main
from trio_mcast.lowlevel import LINUX, MACOS, WINDOWS, plan_receiver, plan_sender

REGISTRY = Path(__file__).parent.parent / "data" / "multicast_registry.json"


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert main([*arguments, "--json"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    return [json.loads(line) for line in shown.out.splitlines()]


# --- interfaces ----------------------------------------------------------------------------------


def test_interfaces_are_the_library_s_own(capsys: pytest.CaptureFixture[str]) -> None:
    shown = run_json(capsys, "interfaces")
    listing = trio_mcast.list_interfaces()
    assert [i["name"] for i in shown] == [i.name for i in listing]
    for one, interface in zip(shown, listing, strict=True):
        assert one["addresses"] == [str(address) for address in interface.addresses]
        assert (one["index"], one["mtu"]) == (interface.index, interface.mtu)
    default = trio_mcast.default_interface()
    assert [i["name"] for i in shown if 4 in i["default_for"]] == (
        [] if default is None else [default.name]
    )


# --- classify ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "facts"),
    [
        ("224.0.0.251", ["mDNS", "5353", "no router passes it on", "01:00:5e:00:00:fb"]),
        ("239.1.2.3", ["inside one administrative domain", "Administratively Scoped Block"]),
        ("232.1.2.3", ["source-specific", "together with a source"]),
        ("233.252.0.1", ["documentation", "MCAST-TEST-NET"]),
        ("ff02::fb", ["mDNS", "Link-Local", "ff02::fb%eth0", "33:33:00:00:00:fb"]),
        ("ff3e::8000:1", ["source-specific", "free to any host"]),
        ("ff7e:140:2001:db8::1", ["rendezvous point", "2001:db8::1"]),
        ("ff10::1", ["scope 0 is reserved"]),
        ("10.1.2.3", ["unicast"]),
        ("::ffff:224.0.0.1", ["224.0.0.1", "mapped"]),
    ],
)
def test_an_address_is_explained(
    address: str, facts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["classify", address]) == 0
    shown = capsys.readouterr().out
    for fact in facts:
        assert fact in shown


def test_every_address_of_the_registry_can_be_explained(
    capsys: pytest.CaptureFixture[str],
) -> None:
    vectors = json.loads(REGISTRY.read_text())
    addresses = sorted(_addresses(vectors))
    assert len(addresses) > 100
    assert main(["classify", *addresses]) == 0
    paragraphs = capsys.readouterr().out.split("\n\n")
    assert len(paragraphs) == len(addresses)
    shown = run_json(capsys, "classify", *addresses)
    names = [field.name for field in fields(trio_mcast.Classification)]
    for address, one in zip(addresses, shown, strict=True):
        assert list(one) == names
        expected = trio_mcast.classify(address)
        assert one["address"] == str(expected.address)
        problems = expected.problems
        assert one["problems"] == (None if problems is None else list(problems))
        assert one["flags"] == (None if expected.flags is None else dict(expected.flags))


def _addresses(vectors: Any) -> set[str]:
    """Whatever is under a key "address" and is one."""
    found: set[str] = set()
    if isinstance(vectors, dict):
        if isinstance(address := vectors.get("address"), str) and "expected" in vectors:
            found.add(address)
        vectors = list(vectors.values())
    if isinstance(vectors, list):
        for value in vectors:
            found |= _addresses(value)
    return found


# --- plan ----------------------------------------------------------------------------------------

PLATFORMS = {"linux": LINUX, "macos": MACOS, "windows": WINDOWS}


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_plan_lists_every_call_in_its_order(
    platform: str, capsys: pytest.CaptureFixture[str]
) -> None:
    interface = trio_mcast.list_interfaces()[0]
    for group in ("239.1.2.3", "ff15::1:2"):
        plan = plan_receiver(PLATFORMS[platform], group, 5000, interface)
        arguments = ("plan", group, "5000", "--platform", platform, "-i", interface.name)
        shown = run_json(capsys, *arguments)
        assert [call["call"] for call in shown] == [
            "socket",
            *["setsockopt"] * len(plan.before_bind),
            "bind",
            *["setsockopt"] * len(plan.after_bind),
        ]
        made = [c for c in shown if c["call"] == "setsockopt"]
        assert [(c["level"], c["option"], bytes.fromhex(c["value"])) for c in made] == [
            (option.level, option.option, option.value) for option in plan.options
        ]
        assert plan.bind is not None
        assert shown[1 + len(plan.before_bind)]["address"] == list(plan.bind)

        assert main([*arguments]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith("socket ")
        positions = [_find(lines, option.label) for option in plan.before_bind]
        positions += [_find(lines, "bind ")]
        positions += [_find(lines, option.label) for option in plan.after_bind]
        assert positions == sorted(positions)


def _find(lines: list[str], text: str) -> int:
    return next(number for number, line in enumerate(lines) if text in line)


def test_a_sender_is_planned_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    interface = trio_mcast.list_interfaces()[0]
    plan = plan_sender(LINUX, "239.1.2.3", 5000, interface, hop_limit=8)
    shown = run_json(
        capsys,
        "plan",
        "239.1.2.3",
        "5000",
        "--platform",
        "linux",
        "--sender",
        "--hop-limit",
        "8",
        "--interface",
        interface.name,
    )
    assert [c["label"] for c in shown if c["call"] == "setsockopt"] == [
        option.label for option in plan.options
    ]
    assert shown[-1] == {"call": "sendto", "address": ["239.1.2.3", 5000]}


def test_bytes_of_zero_are_summed_up(capsys: pytest.CaptureFixture[str]) -> None:
    interface = trio_mcast.list_interfaces()[0].name
    assert main(["plan", "239.1.2.3", "5000", "--platform", "linux", "-i", interface]) == 0
    (joined,) = (line for line in capsys.readouterr().out.splitlines() if "MCAST_JOIN" in line)
    assert joined.endswith(" 00000000 02000000 ef010203 (120 zero bytes)")
