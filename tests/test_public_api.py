"""The names, arguments and results that programs are written against."""

from __future__ import annotations

import dataclasses
import enum
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

import trio_mcast
from trio_mcast import lowlevel, testing
from trio_mcast.testing import make_datagram

# The contract: add to it, do not take away.
NAMES = """
    Answer Classification Datagram EventStream Finding Interface InterfaceChange Listener
    MembershipStatistics MembershipStatus MulticastReceiver MulticastSender ReceiverStatistics
    RunningReceiver SenderStatistics AddressError InterfaceNotFoundError MulticastError
    NotSupportedError SendError SocketSetupError classify default_interface diagnose
    embedded_rp_groups ethernet_address ethernet_aliases glop_block ipv4_embedded_group
    link_scoped_groups list_interfaces open_receiver open_sender random_group run_receiver
    sacn_group scope_relative_group solicited_node_group unicast_prefix_groups wait_for_interface
    watch_interfaces __version__
"""
TYPE_NAMES = """
    FilterMode GroupLike InterfaceSelector InterfacesLike MembershipState Overflow PacketInfoName
    Payload SocketAddress SourceLike
"""
ALIASES = {"Listener": "RunningReceiver"}
LOWLEVEL_NAMES = """
    LINUX LINUX_32BIT MACOS WINDOWS Platform SocketOption SocketPlan current_platform
    open_planned_socket plan_receiver plan_sender Group parse_group parse_sources find_interfaces
    Case Question Snapshot MembershipChange MembershipWatch parse_question examine judge
    take_snapshot
"""
TESTING_NAMES = """
    FakeSender MemoryNetwork SentDatagram make_datagram make_interface open_fake_receiver
    open_fake_sender
"""
NAMESPACES = [
    (trio_mcast, NAMES + TYPE_NAMES),
    (lowlevel, LOWLEVEL_NAMES),
    (testing, TESTING_NAMES),
]

FINAL = [trio_mcast.MulticastReceiver, trio_mcast.MulticastSender]
NOT_TO_BE_MADE = [*FINAL, trio_mcast.RunningReceiver]
FROZEN = [
    trio_mcast.Classification,
    trio_mcast.Interface,
    trio_mcast.InterfaceChange,
    trio_mcast.MembershipStatistics,
    trio_mcast.MembershipStatus,
    trio_mcast.ReceiverStatistics,
    trio_mcast.SenderStatistics,
    lowlevel.Platform,
    lowlevel.SocketOption,
    lowlevel.SocketPlan,
]


def public(namespace: types.ModuleType) -> dict[str, Any]:
    """What a namespace has to offer, without the modules that importing it leaves there."""
    return {
        name: value
        for name, value in vars(namespace).items()
        if not name.startswith("_")
        and not isinstance(value, types.ModuleType)
        and getattr(value, "__module__", "trio_mcast").startswith("trio_mcast")
    }


def objects() -> Iterator[tuple[str, Any]]:
    """Every public function and class."""
    for namespace, _names in NAMESPACES[:2]:
        for name, value in public(namespace).items():
            if callable(value):
                yield name, value
    for name in TESTING_NAMES.split():
        yield name, getattr(testing, name)


def methods() -> Iterator[tuple[str, Any]]:
    for name, kind in objects():
        if isinstance(kind, type) and not dataclasses.is_dataclass(kind):
            for attribute, value in vars(kind).items():
                if not attribute.startswith("_") and (
                    inspect.isfunction(value) or isinstance(value, property)
                ):
                    yield f"{name}.{attribute}", value


OBJECTS, METHODS = dict(objects()), dict(methods())
each_object = pytest.mark.parametrize("value", OBJECTS.values(), ids=OBJECTS.keys())
each_method = pytest.mark.parametrize("value", METHODS.values(), ids=METHODS.keys())


# --- Names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("namespace", "names"), NAMESPACES, ids=[namespace.__name__ for namespace, _ in NAMESPACES]
)
def test_every_name_of_the_contract_is_there(namespace: types.ModuleType, names: str) -> None:
    assert [name for name in names.split() if not hasattr(namespace, name)] == []


def test_the_names_of_the_contract_are_all_there_are() -> None:
    for namespace, names in NAMESPACES:
        assert {*public(namespace)} <= {*names.split()}


def test_the_types_of_every_name_are_tried() -> None:
    tried = (Path(__file__).parent / "typing" / "api.py").read_text()
    for namespace, names in NAMESPACES:
        prefix = namespace.__name__.rpartition(".")[2]
        assert [name for name in names.split() if f"{prefix}.{name}" not in tried] == []


def test_types_that_signatures_name_can_be_used_when_a_program_runs() -> None:
    for name in TYPE_NAMES.split():
        optional = getattr(trio_mcast, name) | None
        assert type(None) in typing.get_args(optional)


def test_nothing_private_shows_in_the_name_of_a_public_object() -> None:
    shown = {name: value.__module__ for name, value in public(trio_mcast).items()}
    assert set(shown.values()) <= {"trio_mcast"}
    for name, value in public(trio_mcast).items():
        assert value.__qualname__ == ALIASES.get(name, name)


def test_everything_public_is_imported_under_its_own_name() -> None:
    """As type checkers want it of what is exported again."""
    for namespace in (trio_mcast, lowlevel):
        source = Path(namespace.__file__ or "").read_text()
        for name in public(namespace):
            assert f"{name} as {name}" in source


def test_the_version_is_text() -> None:
    assert trio_mcast.__version__.split(".")[0].isdigit()


# --- Documentation -----------------------------------------------------------------------------


@each_object
def test_every_function_and_class_is_documented(value: Any) -> None:
    first_line, _, _rest = (value.__doc__ or "").partition("\n")
    assert first_line.strip(), "it has no documentation of its own"
    assert first_line.rstrip()[-1] in ".:!", "its documentation begins with a sentence"
    assert not first_line.startswith(f"{value.__name__}("), "a generated signature is no sentence"


@each_method
def test_every_method_is_documented(value: Any) -> None:
    assert (value.__doc__ or "").strip()


@pytest.mark.parametrize("kind", FROZEN, ids=lambda kind: kind.__name__)
def test_every_field_of_a_value_is_documented(kind: Any) -> None:
    documentation = inspect.getdoc(kind) or ""
    for field in dataclasses.fields(kind):
        assert f"{field.name}" in documentation


def test_every_field_of_a_datagram_is_documented() -> None:
    for field in trio_mcast.Datagram._fields:
        assert re.search(rf"^ +{field}: ", trio_mcast.Datagram.__doc__ or "", re.M)


@pytest.mark.parametrize("name", ["open_receiver", "open_sender"])
def test_every_argument_is_documented(name: str) -> None:
    function = getattr(trio_mcast, name)
    for argument in inspect.signature(function).parameters:
        assert re.search(rf"^ +{argument}: ", function.__doc__, re.M)


# --- Kinds of objects --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", NOT_TO_BE_MADE)
def test_what_the_library_makes_cannot_be_made_otherwise(kind: Any) -> None:
    with pytest.raises(TypeError, match="no public constructor"):
        kind()
    with pytest.raises(TypeError, match="no public constructor"):
        kind(None, None)


@pytest.mark.parametrize("kind", FINAL)
def test_what_the_library_makes_cannot_be_derived_from(kind: Any) -> None:
    with pytest.raises(TypeError, match="final"):
        type("Derived", (kind,), {})


def test_receivers_and_senders_are_channels() -> None:
    assert issubclass(trio_mcast.MulticastReceiver, trio.abc.ReceiveChannel)
    assert issubclass(trio_mcast.MulticastReceiver, trio_mcast.RunningReceiver)
    assert issubclass(trio_mcast.MulticastSender, trio.abc.SendChannel)
    assert issubclass(trio_mcast.EventStream, trio.abc.ReceiveChannel)
    assert issubclass(testing.FakeSender, trio.abc.SendChannel)


@pytest.mark.parametrize("kind", FROZEN, ids=lambda kind: kind.__name__)
def test_values_are_frozen(kind: Any) -> None:
    assert dataclasses.is_dataclass(kind)
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]


def test_datagrams_are_cheap_values() -> None:
    assert trio_mcast.Datagram._fields == (
        "data",
        "source",
        "group",
        "port",
        "interface",
        "hop_limit",
        "timestamp",
        "traffic_class",
        "truncated",
    )
    datagram = make_datagram(b"x")
    assert datagram == make_datagram(b"x")
    assert hash(datagram) == hash(make_datagram(b"x"))
    for field in trio_mcast.Datagram._fields:
        changed: dict[str, Any] = {field: object()}
        assert datagram != datagram._replace(**changed)
    with pytest.raises(AttributeError):
        datagram.data = b"y"  # type: ignore[misc]
    assert "data=b'x'" in repr(datagram)


ERRORS = {
    "AddressError": ValueError,
    "InterfaceNotFoundError": LookupError,
    "NotSupportedError": Exception,
    "SocketSetupError": OSError,
    "SendError": OSError,
}


@pytest.mark.parametrize(("name", "base"), ERRORS.items())
def test_every_error_is_a_multicast_error_and_what_python_calls_it(name: str, base: type) -> None:
    error = getattr(trio_mcast, name)
    assert issubclass(error, trio_mcast.MulticastError)
    assert issubclass(error, base)


def test_no_error_is_another_but_the_common_one() -> None:
    for name in ERRORS:
        for other in ERRORS:
            kind, another = getattr(trio_mcast, name), getattr(trio_mcast, other)
            assert issubclass(kind, another) == (name == other)


# --- Signatures --------------------------------------------------------------------------------

REQUIRED = inspect.Parameter.empty
RECEIVING: dict[str, Any] = {
    "port": REQUIRED,
    "sources": (),
    "interfaces": None,
    "loopback": True,
    "packet_info": (),
    "overflow": "wait",
    "max_buffered": 4096,
    "receive_buffer": None,
    "follow": True,
    "exact_losses": False,
    "max_buffered_bytes": 64 * 2**20,
}
SENDING: dict[str, Any] = {
    "port": REQUIRED,
    "interface": None,
    "interfaces": None,
    "hop_limit": 1,
    "loopback": True,
    "traffic_class": None,
    "source": None,
    "source_port": 0,
    "send_buffer": None,
}


def by_name(function: Any) -> dict[str, Any]:
    """What can only be passed by name, and what it is otherwise."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def in_order(function: Any) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [str(p).partition(":")[0] for p in parameters if p.kind is not p.KEYWORD_ONLY]


def test_receivers_are_opened_with_the_arguments_of_the_contract() -> None:
    assert in_order(trio_mcast.open_receiver) == ["*groups"]
    assert by_name(trio_mcast.open_receiver) == RECEIVING
    assert in_order(trio_mcast.run_receiver) == ["send_channel", "*groups"]
    arguments = by_name(trio_mcast.run_receiver)
    assert arguments.pop("task_status") is trio.TASK_STATUS_IGNORED
    assert arguments == RECEIVING
    assert inspect.iscoroutinefunction(trio_mcast.run_receiver)


def test_senders_are_opened_with_the_arguments_of_the_contract() -> None:
    assert in_order(trio_mcast.open_sender) == ["group"]
    assert by_name(trio_mcast.open_sender) == SENDING


def test_sockets_are_planned_with_the_arguments_of_the_contract() -> None:
    target = ["platform", "group", "port", "interface"]
    assert in_order(lowlevel.plan_receiver) == target
    assert by_name(lowlevel.plan_receiver) == {
        "sources": (),
        "loopback": True,
        "packet_info": (),
        "receive_buffer": None,
        "exact_losses": False,
    }
    assert in_order(lowlevel.plan_sender) == target
    expected = {k: v for k, v in SENDING.items() if k not in ("port", "interface", "interfaces")}
    assert by_name(lowlevel.plan_sender) == expected
    assert in_order(lowlevel.open_planned_socket) == ["plan"]
    fields = [field.name for field in dataclasses.fields(lowlevel.SocketPlan)]
    assert fields[:4] == ["family", "before_bind", "bind", "after_bind"]
    fields = [field.name for field in dataclasses.fields(lowlevel.SocketOption)]
    assert fields[:4] == ["level", "option", "value", "label"]


METHODS_OF_RECEIVERS = {
    "receive": [],
    "receive_nowait": [],
    "receive_batch": ["max"],
    "batches": [],
    "aclose": [],
    "join": ["group", "sources", "interfaces"],
    "leave": ["group", "interfaces"],
    "joined": ["group", "sources", "interfaces"],
    "set_sources": ["group", "sources", "mode", "interfaces"],
    "add_source": ["group", "source", "interfaces"],
    "remove_source": ["group", "source", "interfaces"],
    "block_source": ["group", "source", "interfaces"],
    "unblock_source": ["group", "source", "interfaces"],
    "memberships": [],
    "statistics": [],
    "events": [],
}
METHODS_OF_SENDERS = {
    "send": ["value"],
    "send_batch": ["datagrams"],
    "send_to": ["data", "address"],
    "statistics": [],
    "aclose": [],
}
WAITING = {"receive", "receive_batch", "aclose", "join", "leave", "send", "send_batch", "send_to"}


@pytest.mark.parametrize(
    ("kind", "methods"),
    [
        (trio_mcast.MulticastReceiver, METHODS_OF_RECEIVERS),
        (trio_mcast.MulticastSender, METHODS_OF_SENDERS),
    ],
)
def test_methods_take_the_arguments_of_the_contract(
    kind: type, methods: dict[str, list[str]]
) -> None:
    for name, arguments in methods.items():
        method = getattr(kind, name)
        assert list(inspect.signature(method).parameters) == ["self", *arguments]
        assert inspect.iscoroutinefunction(method) == (name in WAITING)


@each_object
def test_every_argument_and_result_has_a_type(value: Any) -> None:
    functions = [value] if inspect.isfunction(value) else []
    if isinstance(value, type):
        functions = [f for f in vars(value).values() if inspect.isfunction(f)]
    for function in functions:
        if function.__module__.startswith("trio_mcast"):
            hints = function.__annotations__
            names = set(inspect.signature(function).parameters) - {"self", "cls", "_cls"}
            if not function.__name__.startswith("__") or function.__name__ == "__init__":
                assert names | {"return"} <= hints.keys(), function


@pytest.mark.parametrize("alias", ["Overflow", "FilterMode", "MembershipState", "PacketInfoName"])
def test_words_that_are_arguments_are_literals(alias: str) -> None:
    words = {
        "Overflow": ("wait", "drop-oldest"),
        "FilterMode": ("include", "exclude"),
        "MembershipState": ("joined", "waiting", "failed"),
        "PacketInfoName": ("hop_limit", "timestamp", "traffic_class"),
    }
    modules = ["_receive.delivery", "_base.source_filter", "_base.status", "_plan.packet_info"]
    for name in modules:
        module = importlib.import_module(f"trio_mcast.{name}")
        if hasattr(module, alias):
            assert typing.get_args(getattr(module, alias)) == words[alias]
            return
    raise AssertionError(f"{alias} is nowhere")


# --- What importing takes ----------------------------------------------------------------------

PURE_ROOMS = [f"trio_mcast.{room}" for room in ("_base", "_addresses", "_interfaces", "_plan")]
PURE = [
    f"{room}.{module.name}"
    for room in PURE_ROOMS
    for module in pkgutil.iter_modules(  # every one, also later ones
        importlib.import_module(room).__path__
    )
]
FORBIDDEN_TO_PURE = ["trio", "ifaddr", "socket", "_socket", "ctypes", "subprocess", "fcntl"]
HEAVY = """
    ifaddr cyclopts rich asyncio multiprocessing unittest argparse http email
    trio_mcast._cli trio_mcast.testing
"""


def modules_after(program: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after running a program."""
    program += "\nimport sys; print(*sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-I", "-c", program], check=True, capture_output=True, text=True
    )
    return set(answer.stdout.split())


def roots() -> str:
    """Make the package importable in isolation, without running its `__init__`."""
    root = Path(trio_mcast.__file__ or "").parent
    return (
        "import sys, types\n"
        "package = types.ModuleType('trio_mcast')\n"
        f"package.__path__ = [{str(root)!r}]\n"
        "sys.modules['trio_mcast'] = package\n"
    )


def test_pure_modules_import_no_event_loop_and_no_operating_system() -> None:
    assert "trio_mcast._plan.receiver_plan" in PURE
    imports = "\n".join(f"import {name}" for name in PURE)
    loaded = modules_after(roots() + imports)
    assert set(PURE) <= loaded
    assert loaded.isdisjoint(FORBIDDEN_TO_PURE)
    ours = {name for name in loaded if name.startswith("trio_mcast")}
    assert ours == {"trio_mcast", *PURE_ROOMS, *PURE}


def test_importing_the_package_loads_little_beyond_trio() -> None:
    root = Path(trio_mcast.__file__ or "").parent.parent
    of_trio = modules_after("import trio")
    of_ours = modules_after(f"import sys; sys.path.insert(0, {str(root)!r}); import trio_mcast")
    assert of_ours.isdisjoint(set(HEAVY.split()) - of_trio)
    beyond = {name for name in of_ours - of_trio if not name.startswith("trio_mcast")}
    assert len(beyond) <= 12, sorted(beyond)


def test_no_public_value_is_an_enumeration() -> None:
    """Words are literals here: they need no import, and read the same when printed."""
    for value in OBJECTS.values():
        assert not (isinstance(value, type) and issubclass(value, enum.Enum))
