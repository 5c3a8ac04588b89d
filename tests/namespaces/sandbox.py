"""What is refused: system calls, as by a container's seccomp profile, or what old kernels lack."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from typing import Final

import pytest

from trio_mcast._machine import changes_netlink, feed

_CALLS: Final = {
    "recvmmsg": {"x86_64": 299, "aarch64": 243},
    "setsockopt": {"x86_64": 54, "aarch64": 208},
    "getsockopt": {"x86_64": 55, "aarch64": 209},
    "socket": {"x86_64": 41, "aarch64": 198},
    "setns": {"x86_64": 308, "aarch64": 268},
    "epoll_ctl": {"x86_64": 233, "aarch64": 21},
}

# linux/prctl.h, linux/seccomp.h
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_SET_SECCOMP: Final = 22
_SECCOMP_MODE_FILTER: Final = 2
_SECCOMP_RET_ALLOW: Final = 0x7FFF0000
_SECCOMP_RET_ERRNO: Final = 0x00050000

# linux/bpf_common.h: load a word; jump if equal; return
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def refuse_call(call: str, number: int, **arguments: int) -> None:
    """Have a system call refused, for the calling thread and as long as that lives.

    Args:
      number: the error
      arguments: only with these values of its arguments, ``arg0=16`` say
    """
    call_number = _CALLS[call].get(platform.machine())
    if call_number is None or struct.calcsize("P") != 8:  # a program of 32 bit has other numbers
        pytest.skip(f"the numbers of system calls on {platform.machine()} are not known here")
    # seccomp_data: number, architecture, instruction pointer, six arguments of 8 bytes
    checks = [(0, call_number)]
    checks += [(16 + 8 * int(name[3:]), value) for name, value in arguments.items()]
    code = b""
    for i, (offset, value) in enumerate(checks):
        to_the_end = 2 * (len(checks) - i - 1) + 1
        code += struct.pack("=HBBI", _LOAD, 0, 0, offset)
        code += struct.pack("=HBBI", _JUMP_IF_EQUAL, 0, to_the_end, value)
    code += struct.pack("=HBBI", _RETURN, 0, 0, _SECCOMP_RET_ERRNO | number)
    code += struct.pack("=HBBI", _RETURN, 0, 0, _SECCOMP_RET_ALLOW)
    program = _Program(len(code) // 8, code)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program))


def hush_news_of_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """As before Linux 6.15: it is not announced which groups are joined and which have ended."""
    beyond_those_of_any_kernel = 1000
    monkeypatch.setattr(changes_netlink, "_RTNLGRP_IPV4_MCADDR", beyond_those_of_any_kernel)
    monkeypatch.setattr(feed, "_POLL_SECONDS", 0.1)  # so as not to wait for two seconds


def _prctl(option: int, *arguments: object) -> None:
    padded = [*arguments, *[0] * (4 - len(arguments))]
    if _libc.prctl(option, *padded):
        error = ctypes.get_errno()
        raise OSError(error, f"prctl: {os.strerror(error)}")
