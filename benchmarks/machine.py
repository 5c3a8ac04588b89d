"""What was measured on."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from .programs import find_compiler

_PACKAGES: Final = ("trio-mcast", "trio", "multicast_expert", "uvloop", "anyio")


def describe_machine() -> dict[str, str]:
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{len(os.sched_getaffinity(0))} x {_read_processor()}",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": ", ".join(f"{name} {_find_version(name)}" for name in _PACKAGES),
        "compiler": _describe_compiler(),
        "receive buffers": f"up to {_read('/proc/sys/net/core/rmem_max')} bytes, "
        f"{_read('/proc/sys/net/core/rmem_default')} by default",
        "load before": _read("/proc/loadavg").rpartition(" ")[0],
    }


def _read(path: str) -> str:
    return Path(path).read_text().strip()


def _read_processor() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _find_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"


def _describe_compiler() -> str:
    if (compiler := find_compiler()) is None:
        return "none"
    done = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0]
