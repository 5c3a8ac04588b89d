"""State and MTU of Windows' adapters, by GetAdaptersAddresses (``iptypes.h``, ``ifdef.h``)."""

from __future__ import annotations

import ctypes
import sys
from ctypes import wintypes
from typing import TYPE_CHECKING, Final

from .link_state import LinkState

assert not TYPE_CHECKING or sys.platform == "win32"

AF_UNSPEC: Final = 0
GAA_FLAG_SKIP_EVERYTHING: Final = 0x1 | 0x2 | 0x4 | 0x8  # unicast, anycast, multicast, DNS servers
ERROR_BUFFER_OVERFLOW: Final = 111
ERROR_NO_DATA: Final = 232
IP_ADAPTER_NO_MULTICAST: Final = 0x10
IF_TYPE_SOFTWARE_LOOPBACK: Final = 24
IfOperStatusUp: Final = 1


class IP_ADAPTER_ADDRESSES(ctypes.Structure):
    """The head of the structure, as far as it is read here."""


IP_ADAPTER_ADDRESSES._fields_ = [
    ("Length", wintypes.ULONG),
    ("IfIndex", wintypes.DWORD),
    ("Next", ctypes.POINTER(IP_ADAPTER_ADDRESSES)),
    ("AdapterName", ctypes.c_char_p),
    ("FirstUnicastAddress", ctypes.c_void_p),
    ("FirstAnycastAddress", ctypes.c_void_p),
    ("FirstMulticastAddress", ctypes.c_void_p),
    ("FirstDnsServerAddress", ctypes.c_void_p),
    ("DnsSuffix", ctypes.c_wchar_p),
    ("Description", ctypes.c_wchar_p),
    ("FriendlyName", ctypes.c_wchar_p),
    ("PhysicalAddress", ctypes.c_ubyte * 8),
    ("PhysicalAddressLength", wintypes.ULONG),
    ("Flags", wintypes.ULONG),
    ("Mtu", wintypes.ULONG),
    ("IfType", wintypes.DWORD),
    ("OperStatus", ctypes.c_int),
    ("Ipv6IfIndex", wintypes.DWORD),
]


def list_links() -> list[LinkState]:
    library = ctypes.WinDLL("iphlpapi")
    size = wintypes.ULONG(15 * 1024)  # what Microsoft's documentation advises to begin with
    while True:
        buffer = ctypes.create_string_buffer(size.value)
        error = library.GetAdaptersAddresses(
            wintypes.ULONG(AF_UNSPEC),
            wintypes.ULONG(GAA_FLAG_SKIP_EVERYTHING),
            None,
            buffer,
            ctypes.byref(size),
        )
        if error == ERROR_NO_DATA:
            return []
        if error == 0:
            break
        if error != ERROR_BUFFER_OVERFLOW:
            raise ctypes.WinError(error)
    links = []
    entry = ctypes.cast(buffer, ctypes.POINTER(IP_ADAPTER_ADDRESSES))
    while entry:  # type: ignore[truthy-bool] # a null pointer is false
        adapter = entry.contents
        links.append(
            LinkState(
                adapter.IfIndex or adapter.Ipv6IfIndex,
                adapter.AdapterName.decode(),
                adapter.OperStatus == IfOperStatusUp,
                adapter.IfType == IF_TYPE_SOFTWARE_LOOPBACK,
                not adapter.Flags & IP_ADAPTER_NO_MULTICAST,
                adapter.Mtu,
                friendly_name=adapter.FriendlyName,
            )
        )
        entry = adapter.Next
    return links
