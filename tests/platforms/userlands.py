"""Runs tests on another Python or processor: ``python userlands.py CACHE USERLAND [ARGUMENTS]``.

A userland is a folder filled with Debian's packages that a command has for its root. The kernel is
this machine's, and the network is the command's own. Root is not needed, but the right to make user
namespaces is.

The arguments are pytest's. The Python packages that tests need are pure and come from PyPI, without
multicast-expert, which would have to be compiled: tests that compare with it skip.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from debian import Archive

TOOLS: Final = ("iproute2", "nftables", "procps", "bsdutils", "socat", "gcc", "libc6-dev")
REQUIREMENTS: Final = (
    *("trio", "ifaddr", "cyclopts>=4", "rich>=13"),
    *("pytest>=8", "pytest-trio>=0.8", "hypothesis>=6.100"),
)
EMULATORS_SUITE: Final = "sid"  # newer ones know more of the system calls


@dataclass(frozen=True)
class Userland:
    """What to fill a root with.

    Attributes:
      suite: of Debian
      architecture: as Debian calls it
      python: the package, and the program
      emulator: the program that is qemu for its processor; empty: this machine runs it
      magic: the first bytes of its programs, and which bits of them count, for binfmt_misc
    """

    suite: str
    architecture: str
    python: str
    emulator: str = ""
    magic: tuple[bytes, bytes] = (b"", b"")


# An ELF header: 64 bits, big-endian, System V or Linux, a program or a library, machine 22.
_S390X_MAGIC: Final = (
    b"\x7fELF\x02\x02\x01" + bytes(9) + b"\x00\x02\x00\x16",
    b"\xff\xff\xff\xff\xff\xff\xff\x00" + b"\xff" * 8 + b"\xff\xfe\xff\xff",
)

USERLANDS: Final = {
    "python3.14": Userland("sid", "amd64", "python3.14"),
    "i386": Userland("sid", "i386", "python3.14"),
    "s390x": Userland("bookworm", "s390x", "python3.11", emulator="qemu-s390x", magic=_S390X_MAGIC),
}


def main(cache: Path, name: str, arguments: list[str]) -> int:
    if name not in USERLANDS:
        raise SystemExit(f"there is no userland {name!r}; there are {', '.join(USERLANDS)}")
    cache = cache.resolve()
    userland = USERLANDS[name]
    root = cache / f"userland-{name}"
    archive = Archive(cache, userland.suite, userland.architecture)
    archive.fill(root, "base-files", "bash", "coreutils", userland.python, *TOOLS)
    packages = download_packages(cache)
    write_settings(root)
    pytest = [userland.python, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    new = shlex.quote(str(root))
    script = f"""
        set -e
        mount --bind {shlex.quote(str(Path.cwd()))} {new}/project
        mount --bind {shlex.quote(str(packages))} {new}/packages
        for each in proc sys dev; do mount --rbind /$each {new}/$each; done
        mount -t tmpfs none {new}/run
        ip link set lo up
        {register(cache, userland)}
        exec env -i {shlex.join(environment())} {shutil.which("chroot")} {new} \
            /bin/bash -c {shlex.quote("cd /project && exec " + shlex.join(pytest))}
    """
    spaces = ["--user", "--map-root-user", "--mount", "--net", "--propagation", "slave"]
    return subprocess.run(["unshare", *spaces, "sh", "-c", script], check=False).returncode


def environment() -> list[str]:
    kept = [f"{key}={value}" for key, value in os.environ.items() if key.startswith("TRIO_MCAST")]
    return [
        *("PATH=/usr/sbin:/usr/bin", "HOME=/root", "LANG=C.UTF-8", "TERM=dumb"),
        "PYTHONDONTWRITEBYTECODE=1",
        *kept,
    ]


def register(cache: Path, userland: Userland) -> str:
    """Have the kernel run the programs of another processor by the emulator.

    For this user namespace alone, which Linux can do since 6.7.
    """
    if not userland.emulator:
        return ""
    folder = cache / "emulators"
    Archive(cache, EMULATORS_SUITE).fill(folder, "qemu-user", only="qemu-user_")
    magic, mask = ("".join(f"\\x{byte:02x}" for byte in each) for each in userland.magic)
    rule = f":emulated:M::{magic}:{mask}:{folder}/usr/bin/{userland.emulator}:F"
    return (
        "mount -t binfmt_misc none /proc/sys/fs/binfmt_misc; "
        f"printf %s {shlex.quote(rule)} > /proc/sys/fs/binfmt_misc/register"
    )


def download_packages(cache: Path) -> Path:
    """The Python packages that run on every processor and Python, unpacked in a folder."""
    folder = cache / "packages"
    if not folder.exists():
        pure = ["--only-binary", ":all:", "--platform", "any", "--implementation", "py"]
        pip = [sys.executable, "-m", "pip", "--quiet", "install", *pure, "--abi", "none"]
        with tempfile.TemporaryDirectory(dir=cache) as unfinished:
            subprocess.run([*pip, "--target", f"{unfinished}/new", *REQUIREMENTS], check=True)
            os.rename(f"{unfinished}/new", folder)
    return folder


def write_settings(root: Path) -> None:
    """What Debian's installer, or a package's script, would have written."""
    for name in ("project", "packages", "proc", "sys", "dev", "run", "tmp", "root", "etc"):
        (root / name).mkdir(exist_ok=True)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/bash\n")
    (root / "etc/group").write_text("root:x:0:\n")
    # Where Debian's Pythons look, also those that heed no environment (-I).
    site = root / "usr/lib/python3/dist-packages"
    site.mkdir(parents=True, exist_ok=True)
    (site / "project.pth").write_text("/project\n/packages\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
