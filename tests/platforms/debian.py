"""Folders filled with Debian's packages, which need not be installed for that, nor root.

A kernel, an emulator or the whole userland of another processor comes to this machine this way. It
needs `apt-get`, `dpkg-deb` and the keys of Debian's archive: on Debian they are there, on Ubuntu
the package debian-archive-keyring has the keys.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

MIRROR: Final = "http://deb.debian.org"  # what it sends is checked against the keys
CAUTION: Final = (  # whatever this machine's own settings say
    *("-o", "APT::Get::AllowUnauthenticated=false"),
    *("-o", "Acquire::AllowInsecureRepositories=false"),
    *("-o", "APT::Update::Post-Invoke=", "-o", "APT::Update::Post-Invoke-Success="),
)
KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"


class Archive:
    """A release of Debian for one architecture. This machine's own apt is left as it is.

    Args:
      cache: where the lists are kept
      suite: the release's name, ``"bookworm"`` say
      architecture: by Debian's name, ``"amd64"`` say
    """

    def __init__(self, cache: Path, suite: str, architecture: str = "amd64") -> None:
        for program in ("apt-get", "dpkg-deb"):
            if shutil.which(program) is None:
                raise SystemExit(f"this needs `{program}`: Debian, Ubuntu or their kin")
        if not Path(KEYRING).exists():
            raise SystemExit(f"{KEYRING} is not there: `apt-get install debian-archive-keyring`")
        self._name = f"{suite}-{architecture}"
        self._folder = folder = cache.resolve() / f"apt-{self._name}"
        # What apt finds in its own archives it does not list as needed, so nothing is put there.
        for name in ("lists/partial", "archives/partial", "packages"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "status").touch()
        deb = f"deb [signed-by={KEYRING}] {MIRROR}"
        sources = [f"{deb}/debian {suite} main"]
        if suite != "sid":
            sources.append(f"{deb}/debian-security {suite}-security main")
        (folder / "sources.list").write_text("\n".join(sources) + "\n")
        (folder / "apt.conf").write_text(
            f'APT::Architecture "{architecture}"; APT::Architectures {{ "{architecture}"; }};'
            f'Dir::Etc::SourceList "{folder}/sources.list"; Dir::Etc::SourceParts "/dev/null";'
            'Dir::Etc::Preferences "/dev/null"; Dir::Etc::PreferencesParts "/dev/null";'
            f'Dir::State::Lists "{folder}/lists"; Dir::State::status "{folder}/status";'
            f'Dir::Cache "{folder}"; Debug::NoLocking "true"; APT::Sandbox::User "";'
            'Acquire::Languages "none"; Acquire::Retries "3";'
        )

    def _apt(self, *arguments: str) -> str:
        done = subprocess.run(
            ["apt-get", "-qq", *CAUTION, *arguments],
            env={**os.environ, "APT_CONFIG": str(self._folder / "apt.conf"), "LC_ALL": "C"},
            cwd=self._folder / "packages",
            stdout=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"apt-get {' '.join(arguments)} failed ({done.returncode})")
        return done.stdout

    def needed_by(self, *packages: str) -> list[str]:
        """The files of these packages and of all that they depend on, by their names."""
        arguments = ("--print-uris", "--yes", "--no-install-recommends", "install", *packages)
        return [line.split()[1] for line in self._apt(*arguments).splitlines() if "_" in line]

    def fill(self, folder: Path, *packages: str, only: str = "") -> None:
        """Unpack packages and what they depend on, once; nothing of theirs is run.

        Args:
          only: those alone whose name begins with it
        """
        with open(self._folder.with_name("lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # several kernels may be started at once
            self._fill(folder, packages, only)

    def _fill(self, folder: Path, packages: tuple[str, ...], only: str) -> None:
        done = folder / ".packages"
        wanted = f"{self._name}: {' '.join(packages)} {only}\n"
        if done.exists() and done.read_text().startswith(wanted):
            return
        self._apt("update")
        files = [name for name in self.needed_by(*packages) if name.startswith(only)]
        self._apt("download", *(name.partition("_")[0] for name in files))
        shutil.rmtree(folder, ignore_errors=True)
        # As on every Debian of today. Older packages carry files in /bin and /lib themselves.
        for name in ("bin", "sbin", "lib", "lib64"):
            (folder / "usr" / name).mkdir(parents=True)
            (folder / name).symlink_to(f"usr/{name}")
        for package in files:
            path = self._folder / "packages" / package
            tar = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", path], stdout=subprocess.PIPE)
            with tar:
                subprocess.run(
                    ["tar", "-x", "--no-same-owner", "--keep-directory-symlink", "-C", folder],
                    stdin=tar.stdout,
                    check=True,
                )
            if tar.returncode:
                raise SystemExit(f"{path} cannot be unpacked")
            path.unlink()
        done.write_text(wanted + "\n".join(files) + "\n")
