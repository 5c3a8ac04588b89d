"""Lets trio start under Wine 8. It is `sitecustomize` of the Windows Python that tests run there.

Wine lacks two things that trio's event loop asks Windows for. Nothing of trio_mcast is touched.
"""

import ctypes
from ctypes import wintypes
from typing import Any

from trio._core import _io_windows
from trio._core._windows_cffi import WSAIoctls, ffi

_AFD = r"\Device\Afd\Trio"
_SYNCHRONIZE = 0x100000
_OBJ_CASE_INSENSITIVE = 0x40
_FILE_SHARE_READ_AND_WRITE = 3
_FILE_OPEN = 1


class UNICODE_STRING(ctypes.Structure):
    _fields_ = (
        ("Length", wintypes.USHORT),
        ("MaximumLength", wintypes.USHORT),
        ("Buffer", wintypes.LPWSTR),
    )


class OBJECT_ATTRIBUTES(ctypes.Structure):
    _fields_ = (
        ("Length", wintypes.ULONG),
        ("RootDirectory", wintypes.HANDLE),
        ("ObjectName", ctypes.POINTER(UNICODE_STRING)),
        ("Attributes", wintypes.ULONG),
        ("SecurityDescriptor", ctypes.c_void_p),
        ("SecurityQualityOfService", ctypes.c_void_p),
    )


class IO_STATUS_BLOCK(ctypes.Structure):
    _fields_ = (("Status", ctypes.c_void_p), ("Information", ctypes.c_void_p))


def open_afd() -> Any:
    r"""Open the driver by its own name: Wine has no \\.\GLOBALROOT for CreateFile."""
    name = UNICODE_STRING(2 * len(_AFD), 2 * len(_AFD) + 2, _AFD)
    attributes = OBJECT_ATTRIBUTES(
        ctypes.sizeof(OBJECT_ATTRIBUTES),
        None,
        ctypes.pointer(name),
        _OBJ_CASE_INSENSITIVE,
        None,
        None,
    )
    handle, status = wintypes.HANDLE(), IO_STATUS_BLOCK()
    code = ctypes.WinDLL("ntdll").NtCreateFile(
        ctypes.byref(handle),
        wintypes.DWORD(_SYNCHRONIZE),
        ctypes.byref(attributes),
        ctypes.byref(status),
        None,
        wintypes.ULONG(0),
        wintypes.ULONG(_FILE_SHARE_READ_AND_WRITE),
        wintypes.ULONG(_FILE_OPEN),
        wintypes.ULONG(0),
        None,
        wintypes.ULONG(0),
    )
    if code:
        raise OSError(f"NtCreateFile {_AFD}: status {code & 0xFFFFFFFF:#x}")
    return ffi.cast("HANDLE", handle.value)


_get_underlying_socket = _io_windows._get_underlying_socket


def get_underlying_socket(sock: Any, *, which: Any = WSAIoctls.SIO_BASE_HANDLE) -> Any:
    """Wine has no layered providers to ask for, so the base handle is the one to select by."""
    if which == WSAIoctls.SIO_BSP_HANDLE_SELECT:
        which = WSAIoctls.SIO_BASE_HANDLE
    return _get_underlying_socket(sock, which=which)


_io_windows._get_underlying_socket = get_underlying_socket
_io_windows._afd_helper_handle = open_afd
