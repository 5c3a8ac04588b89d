"""Runs a command on another Linux kernel: ``python kernels.py CACHE KERNEL COMMAND...``.

The kernels are Debian's own, with all their modules, in QEMU. The machine that they run has the
files of this one, read-only, under a layer in memory, and no network but what the command makes
itself. So whatever Python is installed for here runs there as well.

QEMU emulates the processor, since KVM is seldom to be had; TRIO_MCAST_ACCELERATOR may name another
way (``kvm``). Emulated, programs take some ten times as long as here.
"""

from __future__ import annotations

import lzma
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from debian import Archive

SUITES: Final = {"5.10": "bullseye", "6.1": "bookworm", "6.12": "trixie", "newest": "sid"}
"""Which of Debian's releases has which kernel."""

TOOLS_SUITE: Final = "bookworm"
TOOLS: Final = ("qemu-system-x86", "busybox-static", "kmod")
BOOT_MODULES: Final = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
INIT: Final = Path(__file__).with_name("kernel_init.sh")


def main(cache: Path, name: str, command: list[str]) -> int:
    if name not in SUITES:
        raise SystemExit(f"there is no kernel {name!r}; there are {', '.join(SUITES)}")
    cache = cache.resolve()
    tools = Tools(cache / "tools")
    Archive(cache, TOOLS_SUITE).fill(tools.folder, *TOOLS)
    kernel = cache / f"kernel-{name}"
    Archive(cache, SUITES[name]).fill(kernel, "linux-image-amd64", only="linux-")
    kept = [f"{key}={value}" for key, value in os.environ.items() if key.startswith("TRIO_MCAST")]
    here = shlex.quote(os.getcwd())
    return run(tools, kernel, f"cd {here} && exec env {shlex.join([*kept, *command])}")


class Tools:
    """Programs out of Debian's packages, with the libraries that belong to them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._libraries = folder / "usr/lib/x86_64-linux-gnu"
        self.environment = {**os.environ, "QEMU_MODULE_DIR": str(self._libraries / "qemu")}

    def command(self, path: str, name: str) -> list[str]:
        """How to run a program under a name."""
        loader = f"{self.folder}/lib64/ld-linux-x86-64.so.2"
        libraries = f"{self._libraries}:{self._libraries}/pulseaudio"
        return [loader, "--library-path", libraries, "--argv0", name, f"{self.folder}/{path}"]


def run(tools: Tools, kernel: Path, command: str) -> int:
    """Run a shell command on a kernel, its output on ours; return its exit status."""
    (release,) = (path.name for path in (kernel / "lib/modules").iterdir())
    if not (kernel / "lib/modules" / release / "modules.dep").exists():
        depmod = tools.command("usr/bin/kmod", "depmod")
        subprocess.run([*depmod, "-b", str(kernel), release], check=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image, status = folder / "initramfs", folder / "status"
        image.write_bytes(make_initramfs(tools, kernel, release, command, folder / "root"))
        accelerator = os.environ.get("TRIO_MCAST_ACCELERATOR", "tcg,thread=multi")
        qemu = [
            *tools.command("usr/bin/qemu-system-x86_64", "qemu-system-x86_64"),
            *("-L", f"{tools.folder}/usr/share/qemu", "-L", f"{tools.folder}/usr/share/seabios"),
            *("-accel", accelerator, "-cpu", "host" if accelerator == "kvm" else "max"),
            *("-smp", "2", "-m", "3072", "-no-reboot", "-nodefaults", "-display", "none"),
            *("-serial", "stdio", "-serial", f"file:{status}"),
            *("-kernel", str(find_image(kernel)), "-initrd", str(image)),
            *("-append", "console=ttyS0 quiet panic=-1 tsc=reliable mitigations=off"),
            "-virtfs",
            "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap",
        ]
        subprocess.run(qemu, stdin=subprocess.DEVNULL, env=tools.environment, check=False)
        if not status.exists() or not (text := status.read_text().strip()):
            raise SystemExit(f"Linux {release} ended without saying how the command did")
        return int(text)


def find_image(kernel: Path) -> Path:
    """The kernel itself: in /boot, or among its modules since Debian 14."""
    return next(path for path in kernel.rglob("vmlinuz*") if path.is_file())


def make_initramfs(tools: Tools, kernel: Path, release: str, command: str, root: Path) -> bytes:
    """The kernel's first root: a shell, and the modules by which it reaches the real one."""
    modules = kernel / "lib/modules" / release
    order = modules_for_boot(modules)
    settings = f"KERNEL={shlex.quote(str(kernel))}\nTOOLS={shlex.quote(str(tools.folder))}\n"
    files = {
        "bin/busybox": (tools.folder / "usr/bin/busybox").read_bytes(),
        "init": INIT.read_bytes(),
        "settings": settings.encode(),
        "command": f"{command}\n".encode(),
        "modules/order": "".join(f"{name}\n" for name in order).encode(),
    }
    for name, path in order.items():
        data = (modules / path).read_bytes()
        files[f"modules/{name}"] = lzma.decompress(data) if path.endswith(".xz") else data
    for folder in ("bin", "dev", "proc", "modules"):
        (root / folder).mkdir(parents=True)
    for name, data in files.items():
        (root / name).write_bytes(data)
        (root / name).chmod(0o755)
    listing = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    cpio = [f"{tools.folder}/usr/bin/busybox", "cpio", "-o", "-H", "newc"]
    done = subprocess.run(cpio, cwd=root, input=listing.encode(), capture_output=True, check=True)
    return done.stdout


def modules_for_boot(modules: Path) -> dict[str, str]:
    """`BOOT_MODULES` and what they need, in the order to load them: the file of each."""
    needs = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, needed = line.partition(":")
        needs[path] = needed.split()
    files = {module_name(path): path for path in needs}
    order: dict[str, str] = {}
    for name in BOOT_MODULES:
        if name in files:  # otherwise it is built in
            # A line names what depends on others before those.
            for path in [*reversed(needs[files[name]]), files[name]]:
                order.setdefault(module_name(path), path)
    return order


def module_name(path: str) -> str:
    """The name of a module, of whose file the contents may be compressed."""
    return Path(path).name.partition(".")[0]


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
