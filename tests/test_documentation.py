"""What the documents say is true: their programs run, their links lead somewhere.

Every block of Python in the README and in `docs` is run on a test host, with a network around it in
which somebody sends to every group that the block names, answers questions, and changes interfaces
where the block is about that. A block has passed when each of its lines has run. One that is but a
piece of a program finds `receiver` and `sender` open if it uses them.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import inspect
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

import pytest
import trio

import trio_mcast
import trio_mcast.lowlevel
import trio_mcast.testing
from trio_mcast._base.remedies import ADVICE

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(
    [
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        ROOT / "CONTRIBUTING.md",
        *ROOT.glob("docs/**/*.md"),
    ]
)
PATIENCE = 4.0


def name_of(document: Path) -> str:
    return document.relative_to(ROOT).as_posix()


@dataclass(frozen=True)
class Block:
    """A fenced block of a document."""

    document: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def blocks_of(document: Path) -> Iterator[Block]:
    pattern = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    text = document.read_text(encoding="utf-8")
    for found in pattern.finditer(text):
        line = text.count("\n", 0, found.start(2)) + 1
        yield Block(name_of(document), line, found[1], found[2])


BLOCKS = [block for document in DOCUMENTS for block in blocks_of(document)]
PYTHON = [block for block in BLOCKS if block.language == "python"]

# --- Python --------------------------------------------------------------------------------------


def compile_block(block: Block) -> CodeType:
    source = "\n" * (block.line - 1) + block.text
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code = compile(source, block.document, "exec", flags, dont_inherit=True)
    assert isinstance(code, CodeType)
    return code


def lines_of(code: CodeType, first: int) -> set[int]:
    # Code begins at its first line, not at line 1, where a module is said to.
    lines = {line for _start, _end, line in code.co_lines() if line and line >= first}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            lines |= lines_of(constant, first)
    return lines


def names_from_outside(text: str) -> set[str]:
    names = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)]
    own = {name.id for name in names if isinstance(name.ctx, ast.Store)}
    return {name.id for name in names} - own - set(vars(builtins))


def test_there_are_blocks_to_run() -> None:
    assert len(PYTHON) > 10
    assert {block.language for block in BLOCKS} <= {"python", "text", "sh"}


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_a_block_of_python_compiles(block: Block) -> None:
    assert lines_of(compile_block(block), block.line)


if sys.platform == "linux":
    from namespaces.network import Card, Network, open_network, why_no_namespaces

    # Here, since it works only while this process has a single thread.
    REFUSAL = why_no_namespaces()

    @pytest.mark.parametrize("block", PYTHON, ids=str)
    def test_every_line_of_a_block_of_python_runs(
        block: Block, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if REFUSAL is not None:
            pytest.skip(REFUSAL)
        with open_network() as network:
            stage = Stage(network, block)
            namespace: dict[str, Any] = {"trio": trio, "trio_mcast": trio_mcast}
            namespace["print"] = lambda *values, **_options: [str(value) for value in values]
            stage.host.run(stage.main, namespace)
        assert not stage.missing

    class Stage:
        """A host with two interfaces, and a world behind them."""

        def __init__(self, network: Network, block: Block) -> None:
            self.block = block
            self.network = network
            self.host, self.world = network.host("host"), network.host("world")
            self.cards = [
                network.link(self.host, name, self.world, name) for name in ("eth0", "eth1")
            ]
            self.sources: dict[str, list[str]] = {}
            for number, (here, there) in enumerate(self.cards, start=1):
                here.add_address(f"192.168.{number}.10/24")
                here.add_address(f"2001:db8:{number}::10/64")
                self.sources[there.name] = sources = [
                    f"192.168.{number}.20",
                    f"192.168.{number}.21",
                    f"2001:db8:{number}::20",
                ]
                for source in sources:
                    there.add_address(source + ("/64" if ":" in source else "/24"))
            self.host.ip(f"route add default via {self.cards[0][1].ipv4} src 192.168.1.10")
            self.host.ip(f"-6 route add default via {self.cards[0][1].ipv6} dev eth0")
            self.missing = lines_of(compile_block(block), block.line)
            self.listeners = [card.listener(group, port) for card, group, port in self._groups()]
            for listener in self.listeners:
                listener.socket.setblocking(False)

        async def main(self, namespace: dict[str, Any]) -> None:
            async with AsyncExitStack() as stack:
                outside = names_from_outside(self.block.text)
                if "receiver" in outside:
                    opening = trio_mcast.open_receiver("239.1.2.3", port=5000)
                    namespace["receiver"] = await stack.enter_async_context(opening)
                if "sender" in outside:
                    sending = trio_mcast.open_sender("239.1.2.3", port=5000)
                    namespace["sender"] = await stack.enter_async_context(sending)
                nursery = await stack.enter_async_context(trio.open_nursery())
                nursery.start_soon(self.talk)
                nursery.start_soon(self.answer)
                if re.search(r"events\(|watch_interfaces\(", self.block.text):
                    nursery.start_soon(self.change_interfaces)
                if "tun0" in self.block.text:
                    nursery.start_soon(self.bring_interface)
                with trio.move_on_after(PATIENCE) as scope:
                    nursery.start_soon(self.end_when_all_has_run, scope)
                    await self.run(namespace)
                nursery.cancel_scope.cancel()

        async def run(self, namespace: dict[str, Any]) -> None:
            programs: list[tuple[Any, ...]] = []
            if "trio.run(" in self.block.text:
                namespace["trio"] = pretended = ModuleType("trio")
                vars(pretended).update(vars(trio))
                pretended.run = lambda *call: programs.append(call)  # type: ignore[attr-defined]
            code = compile_block(self.block)
            before = sys.gettrace()
            sys.settrace(self.trace)
            sys.modules["trio"] = namespace["trio"]
            try:
                try:
                    running = eval(code, namespace)
                finally:
                    sys.modules["trio"] = trio
                if running is not None:
                    await running
                for function, *arguments in programs:
                    await function(*arguments)
            finally:
                sys.settrace(before)

        def trace(self, frame: FrameType, event: str, argument: object) -> Any:
            if frame.f_code.co_filename != self.block.document:
                return None
            self.missing.discard(frame.f_lineno)
            return self.trace

        async def end_when_all_has_run(self, scope: trio.CancelScope) -> None:
            while self.missing:  # noqa: ASYNC110 # the tracer cannot set an event
                await trio.sleep(0.002)
            scope.cancel()

        # The world

        def _groups(self) -> Iterator[tuple[Card, str, int]]:
            text = self.block.text
            ports = {int(port) for port in re.findall(r"port=(\d+)", text)} or {5000}
            groups = set(re.findall(r"2(?:2[4-9]|3\d)(?:\.\d+){3}|ff[\da-f]{2}::[\da-f:]+", text))
            for group in groups | {"239.1.2.3"}:
                for port in ports:
                    for _here, there in self.cards:
                        yield there, group, port

        async def talk(self) -> None:
            """Somebody sends to every group."""
            talkers = [
                card.talker(group, port, hop_limit=4, source=source)
                for card, group, port in self._groups()
                for source in self.sources[card.name]
                if (":" in source) == (":" in group)
            ]
            while True:
                for talker in talkers:
                    talker.send(b"hello")
                await trio.sleep(0.005)

        async def answer(self) -> None:
            """Somebody answers what is sent to a group, and hears what is sent to a host."""
            while True:
                for listener in self.listeners:
                    self._answer_all(listener.socket)
                await trio.sleep(0.002)

        def _answer_all(self, listener: socket.socket) -> None:
            own = {source for sources in self.sources.values() for source in sources}
            with contextlib.suppress(OSError):
                while True:
                    _data, source = listener.recvfrom(65536)
                    if source[0] not in own:
                        listener.sendto(b"me", source)

        async def change_interfaces(self) -> None:
            here, _there = self.cards[1]
            for number in range(100, 200):
                await trio.sleep(0.02)
                await trio.to_thread.run_sync(here.add_address, f"192.168.2.{number}/24")

        async def bring_interface(self) -> None:
            await trio.sleep(0.02)
            await trio.to_thread.run_sync(self.network.link, self.host, "tun0", self.world, "tun0")


# --- The two commands ----------------------------------------------------------------------------

INSTALL = re.compile(r"^ {4}(python3 -m venv .*)$", re.MULTILINE)


def test_the_readme_has_the_two_commands() -> None:
    demo, tests = INSTALL.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    assert demo.endswith("/trio-mcast demo")
    assert tests.endswith("/pytest")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "trio-mcast" in project["scripts"]
    for command in (demo, tests):
        (extras,) = re.findall(r"'\.\[(.*?)\]'", command)
        assert set(extras.split(",")) <= set(project["optional-dependencies"])


@pytest.mark.skipif(shutil.which("sed") is None, reason="there is no sed")
def test_ci_runs_the_command_of_the_readme_for_tests() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    (expression,) = re.findall(r"sed -n '(.*)' README\.md", script)
    done = subprocess.run(
        ["sed", "-n", expression, "README.md"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    _demo, tests = INSTALL.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    assert done.stdout.splitlines() == [tests]


# --- The command line ----------------------------------------------------------------------------


def commands_shown() -> dict[str, set[str]]:
    """The commands of `trio-mcast` that documents show, and the options of each."""
    shown: dict[str, set[str]] = {}
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for line in re.findall(r"(?:^\$ |`)trio-mcast ([a-z][^`\n]*)", text, re.MULTILINE):
            command, *arguments = line.split()
            options = {word for word in arguments if word.startswith("-") and word != "-"}
            shown.setdefault(command, set()).update(options)
    return shown


@pytest.mark.parametrize("command", sorted(commands_shown()))
def test_a_command_shown_exists_with_its_options(command: str) -> None:
    pytest.importorskip("cyclopts")
    done = subprocess.run(
        [sys.executable, "-m", "trio_mcast", command, "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for option in commands_shown()[command]:
        assert re.search(rf"(?<![\w-]){option}(?![\w-])", done.stdout), option


# --- Links, names, paths -------------------------------------------------------------------------


def without_blocks(document: Path) -> str:
    text = document.read_text(encoding="utf-8")
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors_of(document: Path) -> set[str]:
    """As GitHub makes them from headings."""
    headings = re.findall(r"^#+ (.*)$", without_blocks(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", without_blocks(document)):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path) if path else document
        assert target.exists(), link
        if anchor:
            assert anchor in anchors_of(target), link


def test_the_index_lists_every_document() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for document in (ROOT / "docs").glob("*.md"):
        if document.name != "README.md":
            assert f"({document.name})" in index


def public_names(module: ModuleType) -> set[str]:
    names = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not inspect.ismodule(value) and name != "annotations"
    }
    if module is trio_mcast.testing:  # the others are maps, in which every name is meant
        home = module.__name__
        return {n for n in names if getattr(getattr(module, n), "__module__", None) == home}
    return names


def words_of_documents() -> set[str]:
    text = "".join(document.read_text(encoding="utf-8") for document in DOCUMENTS)
    return set(re.findall(r"\w+", text))


@pytest.mark.parametrize(
    "module",
    [trio_mcast, trio_mcast.lowlevel, trio_mcast.testing],
    ids=lambda module: str(module.__name__),
)
def test_every_public_name_is_documented(module: ModuleType) -> None:
    assert public_names(module) - words_of_documents() == set()


@pytest.mark.parametrize(
    "of",
    [
        trio_mcast.MulticastReceiver,
        trio_mcast.MulticastSender,
        trio_mcast.Interface,
        trio_mcast.Datagram,
        trio_mcast.MembershipStatus,
        trio_mcast.ReceiverStatistics,
        trio_mcast.MembershipStatistics,
        trio_mcast.SenderStatistics,
    ],
    ids=lambda of: str(of.__name__),
)
def test_every_method_and_attribute_is_documented(of: type) -> None:
    own = [base for base in of.__mro__ if base.__module__.startswith("trio_mcast")]
    names = {name for base in own for name in vars(base) if not name.startswith("_")}
    names |= set(getattr(of, "__dataclass_fields__", ()))
    assert names - words_of_documents() == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_no_document_names_a_path_of_one_machine(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.])/(work|home|root|tmp|Users)/", text)
    assert "../" not in re.sub(r"\]\((\.\./)+", "](", text)


def test_the_python_that_documents_ask_for_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    least = project["requires-python"].removeprefix(">=")
    assert f"Python {least} or later" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_what_the_library_refers_to_is_there() -> None:
    for source in (ROOT / "trio_mcast").rglob("*.py"):
        for path in re.findall(r"docs/[\w-]+\.md", source.read_text(encoding="utf-8")):
            assert (ROOT / path).exists(), f"{path}, in {source.name}"


def test_every_finding_of_the_doctor_is_documented() -> None:
    found = set(re.findall(r"`([a-z0-9-]+)`", (ROOT / "docs" / "doctor.md").read_text("utf-8")))
    assert set(ADVICE) - found == set()
