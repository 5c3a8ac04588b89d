"""Everything that must hold: `nox` runs it, `nox -l` lists it."""

from __future__ import annotations

import os
from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "types", "tests", "wheel"]

PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT)
PLATFORMS = ("linux", "darwin", "win32")

# What runs on every system. The folders `on_linux` and `on_windows` inside see to themselves.
PORTABLE_TESTS = tuple(
    f"tests/{room}"
    for room in (
        *("addresses", "base", "cli", "interfaces", "machine", "plan", "platforms", "receive"),
        *("send", "testing"),
    )
)
# What depends on the kernel, its devices and its version.
KERNEL_TESTS = tuple(
    f"tests/{room}/on_linux"
    for room in ("machine", "receive", "send", "doctor", "examples", "namespaces")
)
# Of these, what old kernels lack and what this machine's may not have: in ten minutes, emulated.
SHORT_KERNEL_TESTS = tuple(
    f"tests/{path}.py"
    for path in (
        *("receive/on_linux/test_devices", "receive/on_linux/test_faulty_cables"),
        *("receive/on_linux/test_sandboxes", "machine/on_linux/test_watch_interfaces"),
    )
)
KERNELS = ("5.10", "6.1", "6.12", "newest")

# What runs on an emulated processor: QEMU passes few socket options on to the kernel.
EMULATED_TESTS = (
    *(path for path in PORTABLE_TESTS if path != "tests/cli"),
    "tests/receive/on_linux/test_loopback.py",
    *("--ignore-glob", "*/on_linux/*"),
    *("--ignore", "tests/plan/test_abi.py", "--ignore", "tests/machine/test_sockets.py"),
)
USERLANDS = {"python3.14": (), "i386": (), "s390x": EMULATED_TESTS}

FORMATTED = ("trio_mcast", "tests", "examples", "benchmarks", "noxfile.py")


def group(name: str) -> list[str]:
    return list(nox.project.dependency_groups(PROJECT, name))


@nox.session
def lint(session: nox.Session) -> None:
    """Format, lint, spelling, and which module may import which."""
    session.install(*group("lint"), ".[cli]")
    there = [path for path in FORMATTED if Path(path).exists()]
    session.run("ruff", "format", "--check", *there)
    session.run("ruff", "check", *there)
    session.run("codespell", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs", *there)
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """Type-check for three systems from one machine, and what users see of the installed wheel."""
    session.install(*group("types"), ".[cli,test]")
    for platform in PLATFORMS:
        session.run("mypy", f"--platform={platform}", "--python-version=3.11")
    session.run("mypy", "--platform=linux", "tests/typing")
    session.run("pyright", "--verifytypes", "trio_mcast", "--ignoreexternal", env=_outside())


@nox.session
def tests(session: nox.Session) -> None:
    """The test suite; `nox -s tests -- ARGS` passes arguments on to pytest."""
    session.install("-e", ".[cli,test]")
    session.run("pytest", *session.posargs)


@nox.session(name="tests-all", python=PYTHONS)
def tests_all(session: nox.Session) -> None:
    """The test suite on every supported Python that this machine has."""
    session.install(".[cli,test]")
    session.run("pytest", *session.posargs)


@nox.session(name="tests-portable")
def tests_portable(session: nox.Session) -> None:
    """What runs on macOS and Windows, too."""
    # Without the extra `test`: multicast-expert is for comparisons on Linux, and its dependency
    # netifaces has to be compiled.
    session.install(".[cli]", "pytest", "pytest-trio", "hypothesis")
    session.run("pytest", *PORTABLE_TESTS, *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Branch coverage of the whole suite."""
    session.install("coverage[toml]", "-e", ".[cli,test]")
    session.run("coverage", "run", "-m", "pytest", *session.posargs)
    session.run("coverage", "report", "--skip-covered", "--show-missing")


@nox.session
def bench(session: nox.Session) -> None:
    """The benchmarks; `nox -s bench -- --quick` takes about a minute, `-- --list` lists them."""
    session.install("-e", ".", "multicast_expert", "uvloop", "anyio")
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session
def wheel(session: nox.Session) -> None:
    """The wheel works from an empty directory, without the checkout and without the extra."""
    session.install("build")
    dist = Path(session.create_tmp())
    session.run("python", "-m", "build", "--wheel", "--outdir", str(dist), silent=True)
    newest = max(dist.glob("*.whl"), key=lambda path: path.stat().st_mtime)
    session.install("--force-reinstall", "--no-deps", str(newest))
    session.install("trio", "ifaddr")
    session.chdir(dist)
    session.run("python", "-W", "error", "-c", "import trio_mcast; print(trio_mcast.__version__)")
    session.run("python", "-c", "import trio_mcast as t; print(t.list_interfaces())")


@nox.session
@nox.parametrize("kernel", KERNELS)
def kernels(session: nox.Session, kernel: str) -> None:
    """The tests that need a kernel, on others than this machine's; docs/platforms-verified.

    `nox -s "kernels(kernel='6.1')"` takes one of them, `nox -s kernels -- --short` the tests of
    devices alone. Other arguments are passed on to pytest.
    """
    session.install(".[cli,test]")
    tests = session.posargs or ["-q", *KERNEL_TESTS]
    if tests == ["--short"]:
        tests = ["-q", *SHORT_KERNEL_TESTS]
    cache = Path(session.cache_dir, "kernels").resolve()
    python = str(Path(session.bin, "python").absolute())
    command = [python, "-m", "pytest", "-p", "no:cacheprovider", *tests]
    slowly = {"TRIO_MCAST_TEST_SLOWNESS": "8"}
    session.run("python", "tests/platforms/kernels.py", str(cache), kernel, *command, env=slowly)


@nox.session
@nox.parametrize("userland", tuple(USERLANDS))
def userlands(session: nox.Session, userland: str) -> None:
    """The tests on Pythons and processors that this machine lacks; docs/platforms-verified.

    `nox -s "userlands(userland='i386')"` takes one of them. Arguments are passed on to pytest.
    """
    tests = session.posargs or ["-q", *USERLANDS[userland]]
    slowly = {"TRIO_MCAST_TEST_SLOWNESS": "8"} if userland == "s390x" else {}
    cache = Path(session.cache_dir, "userlands").resolve()
    script = "tests/platforms/userlands.py"
    session.run("python", script, str(cache), userland, *tests, env=slowly)


@nox.session
def windows(session: nox.Session) -> None:
    """The wheel on Windows' Python under Wine (wine, wine64, unshare, ip); docs/platforms-verified.

    `nox -s windows -- ARGS` passes arguments on to pytest instead of what runs otherwise.
    """
    session.install("build")
    dist = Path(session.create_tmp())
    session.run("python", "-m", "build", "--wheel", "--outdir", str(dist), silent=True)
    newest = max(dist.glob("*.whl"), key=lambda path: path.stat().st_mtime)
    cache = Path(session.cache_dir, "windows").resolve()
    tests = session.posargs or ["-q", *PORTABLE_TESTS]
    session.run("python", "tests/platforms/wine.py", str(cache), str(newest), *tests)


def _outside() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": ""}
