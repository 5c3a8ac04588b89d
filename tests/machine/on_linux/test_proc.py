"""What /proc hides is not taken for nothing."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from patience import LONG

if sys.platform != "linux":
    pytest.skip("/proc as it is here is Linux'", allow_module_level=True)

from trio_mcast._machine import proc

LOOK = """
import json, sys
from trio_mcast._machine import proc
holders, is_complete = proc.find_holders({int(sys.argv[1])})
print(json.dumps([[holder.pid for holder in holders.get(int(sys.argv[1]), [])], is_complete]))
"""
ORDINARY = "setpriv --bounding-set=-all --inh-caps=-all"


@pytest.fixture
def inode() -> Iterator[int]:
    """A socket of this process."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        yield os.fstat(sock.fileno()).st_ino


def look(inode: int, options: str, user: str) -> tuple[list[int], bool]:
    """`find_holders` in a process that has /proc mounted with these options."""
    if not all(map(shutil.which, ("unshare", "setpriv", "mount"))):
        pytest.skip("util-linux is not installed")
    as_user = ORDINARY if user == "ordinary" else ""
    script = f'mount -t proc -o {options} proc /proc && exec {as_user} "$@"'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, "-c", LOOK]
    done = subprocess.run([*command, str(inode)], capture_output=True, text=True, timeout=LONG)
    if "mount:" in done.stderr or "unshare:" in done.stderr:
        pytest.skip(f"this user may not mount /proc: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    holders, is_complete = json.loads(done.stdout)
    return holders, is_complete


@pytest.mark.parametrize("options", ["hidepid=0", "hidepid=1", "hidepid=2", "subset=pid"])
def test_an_ordinary_user_does_not_believe_to_see_every_program(inode: int, options: str) -> None:
    assert look(inode, options, "ordinary") == ([], False)


@pytest.mark.parametrize("options", ["hidepid=0", "hidepid=2", "subset=pid"])
def test_root_sees_every_program_whatever_is_hidden_from_others(inode: int, options: str) -> None:
    holders, is_complete = look(inode, options, "root")
    assert os.getpid() in holders
    assert is_complete


MOUNTS = """\
24 1 0:22 / /proc rw,nosuid shared:12 - proc proc rw
25 24 0:40 / /proc/acpi ro - tmpfs tmpfs ro,hidepid=2
{last}
"""


@pytest.mark.parametrize(
    ("last", "capabilities", "pids", "is_complete"),
    [
        ("", 0, ["1", "7"], True),
        ("", 0, ["7"], False),
        ("", 0, [], False),
        ("66 24 0:41 / /proc rw - proc proc rw,hidepid=invisible", 0, ["1", "7"], False),
        ("66 24 0:41 / /proc rw - proc proc rw,hidepid=4", 0, ["1", "7"], False),
        ("66 24 0:41 / /proc rw - proc proc rw,hidepid=off", 0, ["1", "7"], True),
        ("66 24 0:41 / /proc rw - proc proc rw,hidepid=2,gid=4", 1 << 19, ["1", "7"], True),
    ],
)
def test_whether_all_are_listed_is_told_by_number_1_and_by_how_proc_is_mounted(
    monkeypatch: pytest.MonkeyPatch,
    last: str,
    capabilities: int,
    pids: list[str],
    is_complete: bool,
) -> None:
    files = {
        "/proc/self/mountinfo": MOUNTS.format(last=last),
        "/proc/thread-self/status": f"Name:\tme\nCapEff:\t{capabilities:016x}\nSeccomp:\t0\n",
    }
    monkeypatch.setattr(proc, "_read_bytes", lambda path: files[path].encode())
    assert proc._are_all_listed(pids) is is_complete


@pytest.mark.parametrize("are_all_listed", [True, False])
@pytest.mark.parametrize("is_first", [True, False])
def test_a_socket_without_a_program_is_the_kernel_s_own_or_of_one_out_of_sight(
    monkeypatch: pytest.MonkeyPatch, inode: int, are_all_listed: bool, is_first: bool
) -> None:
    monkeypatch.setattr(proc, "_are_all_listed", lambda pids: are_all_listed)
    monkeypatch.setattr(proc, "_is_in_first_pid_namespace", lambda: is_first)
    monkeypatch.setattr(proc, "_list", lambda path: iter([str(os.getpid())]))
    nobody_s = 1
    holders, is_complete = proc.find_holders({inode, nobody_s})
    assert list(holders) == [inode]
    assert is_complete is (are_all_listed and is_first)
    assert proc.find_holders({inode, 0})[1]


# --- Groups ---------------------------------------------------------------------------------------

GROUPS = (
    b"Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n"
    b"1\tlo        :     1      V3\n"
    b"\t\t\t\t%s     1 0:00000000\t\t0\n"
)


def table_of_groups(monkeypatch: pytest.MonkeyPatch, igmp: bytes) -> None:
    tables = {"igmp": igmp, "igmp6": b""}
    monkeypatch.setattr(proc, "_read_bytes", lambda path: tables[path.rpartition("/")[2]])


def test_both_ways_to_read_the_groups_tell_the_same() -> None:
    packed = {(row.interface, ip_address(row.group).packed) for row in proc.read_groups()}
    assert proc.read_packed_groups() == packed


def test_a_table_of_the_other_byte_order_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """QEMU's emulation of a processor hands the table of the host on as it is."""
    order = sys.byteorder
    other = "big" if order == "little" else "little"
    all_hosts = bytes([224, 0, 0, 1])
    table_of_groups(monkeypatch, GROUPS % (b"%08X" % int.from_bytes(all_hosts, order)))
    assert proc.read_packed_groups() == {(1, all_hosts)}
    table_of_groups(monkeypatch, GROUPS % (b"%08X" % int.from_bytes(all_hosts, other)))
    with pytest.raises(OSError, match="no table"):
        proc.read_packed_groups()


def test_a_table_without_any_group_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    table_of_groups(monkeypatch, GROUPS.partition(b"\n")[0] + b"\n")
    with pytest.raises(OSError, match="no table"):
        proc.read_packed_groups()
