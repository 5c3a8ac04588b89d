"""Payloads for people to read. They are strangers' bytes: none may reach a terminal as it is."""

from __future__ import annotations

from collections.abc import Iterator

_BYTES_SHOWN = 32
_ESCAPES = str.maketrans({"\t": "\\t", "\r": "\\r", "\n": "\\n"})


def read_text(data: bytes) -> str | None:
    """The text in it: UTF-8 of printable characters, tabs and ends of lines; else None."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    return text if text.translate(_ESCAPES).isprintable() else None


def show_in_line(data: bytes) -> str:
    r"""Text as it is, with ``\n`` for the end of a line; other bytes in hex, the first 32."""
    text = read_text(data)
    if text is not None:
        return text.translate(_ESCAPES)
    rest = len(data) - _BYTES_SHOWN
    return data[:_BYTES_SHOWN].hex(" ") + (f" ... {rest} more" if rest > 0 else "")


def hexdump(data: bytes) -> Iterator[str]:
    """Offset, sixteen bytes in hex, the same in ASCII, for each line."""
    for start in range(0, len(data), 16):
        part = data[start : start + 16]
        ascii_ = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        yield f"  {start:04x}  {part[:8].hex(' '):23}  {part[8:].hex(' '):23}  |{ascii_}|"
