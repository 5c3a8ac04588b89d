"""What a datagram can tell beside its payload: how to ask for it, and how to read the answer.

The kernel answers with control messages (cmsg(3)). A system's `Platform` lists those that we read;
what is not listed, or has another length than listed, is passed over. Nothing here raises: the
contents are a stranger's, and a receiver must outlive them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import repeat
from struct import Struct
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_args

from .._base.errors import NotSupportedError
from .._base.interface import IPVersion
from .options import SocketOption, int_option
from .platforms import AncillaryFormat, OptionName, Platform

PacketInfoName: TypeAlias = Literal["hop_limit", "timestamp", "traffic_class"]

PACKET_INFO: Final[tuple[PacketInfoName, ...]] = get_args(PacketInfoName)

ControlMessage: TypeAlias = tuple[int, int, bytes]
"""Level, type, payload, as `socket.recvmsg` gives them."""


class AncillaryData(NamedTuple):
    """What came with a datagram; None for what did not.

    Attributes:
      hop_limit: the hops it had left (IPv4: TTL)
      timestamp: when the kernel got it, in nanoseconds since 1970
      traffic_class: the byte with DSCP and ECN
      destination: where it was sent to, packed as `IPv4Address.packed` is: comparing bytes is all
        that sorting strays out takes, and an address object costs more than the comparison
      interface_index: by which interface it came
      segment_size: the datagrams are this long each (the last may be shorter), for several came as
        one (UDP_GRO)
    """

    hop_limit: int | None = None
    timestamp: int | None = None
    traffic_class: int | None = None
    destination: bytes | None = None
    interface_index: int | None = None
    segment_size: int | None = None


def parse_packet_info(value: object) -> frozenset[PacketInfoName]:
    """What a caller wants to know of each datagram: one name, or several.

    Raises:
      ValueError: an unknown name
      TypeError: something else than names
    """
    if isinstance(value, str):
        return frozenset({_parse_name(value)})
    if not isinstance(value, Iterable):
        raise TypeError(f"packet_info={value!r} is not a name or several names")
    return frozenset(_parse_name(name) for name in value)


def _parse_name(name: object) -> PacketInfoName:
    if not isinstance(name, str):
        raise TypeError(f"packet_info has names in it, not {name!r}")
    for known in PACKET_INFO:
        if name == known:
            return known
    raise ValueError(f"packet_info {name!r} is unknown; there are: {', '.join(PACKET_INFO)}")


def packet_info_options(
    platform: Platform,
    version: IPVersion,
    names: Iterable[PacketInfoName],
    *,
    destination: bool = False,
) -> tuple[SocketOption, ...]:
    """The options that ask for what is named and, if wanted, for destination and interface.

    Raises:
      NotSupportedError: the system cannot tell
    """
    family = platform.family(version)
    wanted = set(names)
    asking: dict[PacketInfoName, OptionName | None] = {
        "hop_limit": family.receive_hop_limit,
        "traffic_class": family.receive_traffic_class,
        "timestamp": platform.receive_timestamp,
    }
    options = [int_option(name, 1) for name in family.receive_destination if destination]
    for name, option in asking.items():
        if name not in wanted:
            continue
        if option is None:
            raise NotSupportedError(f"{platform.name} does not tell the {name} of a datagram")
        options.append(int_option(option, 1))
    return tuple(options)


_Values: TypeAlias = list[int | bytes | None]

_Reader: TypeAlias = tuple[int, Callable[[_Values, bytes], None]]
"""The payload's length, and what puts its values into their places."""

_PLACES: Final = {name: place for place, name in enumerate(AncillaryData._fields)}

_FRACTIONS: Final = {"microseconds": 1_000, "nanoseconds": 1}

_new_tuple: Final = tuple.__new__  # spares NamedTuple's own __new__, written in Python


def read_ancillary_untrusted(
    platform: Platform, messages: Iterable[ControlMessage]
) -> AncillaryData:
    """What the control messages of one datagram say."""
    readers = _readers(platform)
    values: _Values = [None, None, None, None, None, None]
    for level, kind, payload in messages:
        reader = readers.get((level, kind))
        if reader is not None and len(payload) == reader[0]:
            reader[1](values, payload)
    return _new_tuple(AncillaryData, values)


@cache
def _readers(platform: Platform) -> dict[tuple[int, int], _Reader]:
    return {(row.level, row.type): _reader(row) for row in platform.ancillary}


def _reader(row: AncillaryFormat) -> _Reader:
    layout = Struct(row.layout)
    unpack = layout.unpack
    if row.fields[0] == "seconds":
        place, factor = _PLACES["timestamp"], _FRACTIONS[row.fields[1]]

        def read(values: _Values, payload: bytes) -> None:
            seconds, fraction = unpack(payload)
            values[place] = seconds * 1_000_000_000 + fraction * factor

    elif len(row.fields) == 1:
        place = _PLACES[row.fields[0]]

        def read(values: _Values, payload: bytes) -> None:
            (values[place],) = unpack(payload)

    else:
        first, second = (_PLACES[name] for name in row.fields)

        def read(values: _Values, payload: bytes) -> None:
            values[first], values[second] = unpack(payload)

    return layout.size, read


def choose_interface(platform: Platform, version: IPVersion, index: int) -> ControlMessage:
    """To be sent along with a datagram: the interface that it is to leave by (RFC 3542 s6.2)."""
    level = platform.family(version).hop_limit.level
    row = next(r for r in platform.ancillary if r.level == level and "interface_index" in r.fields)
    nowhere = bytes(4 if version == 4 else 16)
    values = (index if field == "interface_index" else nowhere for field in row.fields)
    return (level, row.type, Struct(row.layout).pack(*values))


def read_control_buffer_untrusted(
    platform: Platform, data: bytes | bytearray | memoryview
) -> list[ControlMessage]:
    """The messages in a raw control buffer, as recvmmsg(2) and WSARecvMsg fill it.

    Give it no more than the kernel has filled (msg_controllen). It stops at the first message that
    cannot be whole.
    """
    layout = platform.control
    header = _header(platform)
    messages: list[ControlMessage] = []
    start, end = 0, len(data)
    while end - start >= header.size:
        length, level, kind = header.unpack_from(data, start)
        if not layout.payload_offset <= length <= end - start:
            break
        payload = bytes(data[start + layout.payload_offset : start + length])
        messages.append((level, kind, payload))
        start += length + -length % layout.alignment
    return messages


@cache
def _header(platform: Platform) -> Struct:
    return Struct(platform.control.header)


class AncillaryColumns(NamedTuple):
    """`AncillaryData` of many datagrams, field by field: to be zipped with what else is known.

    What came with none of them is an endless row of None.
    """

    hop_limit: Iterable[int | None] = repeat(None)
    timestamp: Iterable[int | None] = repeat(None)
    traffic_class: Iterable[int | None] = repeat(None)
    destination: Iterable[bytes | None] = repeat(None)
    interface_index: Iterable[int | None] = repeat(None)
    segment_size: Iterable[int | None] = repeat(None)


def read_control_batch_untrusted(
    platform: Platform, data: bytes | bytearray | memoryview, stride: int, lengths: Sequence[int]
) -> AncillaryColumns:
    """What many raw control buffers say that lie one after the other, as for recvmmsg(2).

    A socket's control messages have the same shape each time. So it is learned from one buffer, and
    all are then taken apart by one call of the `struct` module: for 64 buffers in a tenth of the
    time that reading them singly takes. Few buffers, or such of different shapes, are read singly.

    Args:
      data: the buffers, each as long as the stride
      stride: how far apart they begin
      lengths: how much of each the kernel has filled
    """
    count = len(lengths)
    if count >= _WORTH_A_SHAPE and lengths.count(lengths[0]) == count:
        shapes = _shapes(platform)
        key = (stride, lengths[0])
        known = shapes.get(key)
        if known is not None and (columns := known.read(data, count)) is not None:
            return columns
        learned = _learn_shape(platform, bytes(data[: lengths[0]]), stride)
        if learned is not None and (columns := learned.read(data, count)) is not None:
            shapes[key] = learned
            return columns
    singly = [
        read_ancillary_untrusted(
            platform, read_control_buffer_untrusted(platform, data[start : start + length])
        )
        for start, length in zip(range(0, stride * count, stride), lengths, strict=True)
    ]
    return AncillaryColumns(*zip(*singly, strict=True))


_WORTH_A_SHAPE: Final = 3  # below, reading singly is quicker


class _Shape(NamedTuple):
    """A sequence of control messages: their headers, and where the payloads' values are.

    Attributes:
      layout: of one buffer, up to the next: headers as bytes, payloads as their formats say
      headers: places among the layout's values, and the bytes that must be there
      fields: for each payload that we read, its format's fields and the place of its first value
    """

    layout: Struct
    headers: tuple[tuple[int, bytes], ...]
    fields: tuple[tuple[tuple[str, ...], int], ...]

    def read(self, data: bytes | bytearray | memoryview, count: int) -> AncillaryColumns | None:
        """The values; None if any of the buffers has another shape."""
        buffers = self.layout.iter_unpack(data[: count * self.layout.size])
        values = tuple(zip(*buffers, strict=True))
        for place, header in self.headers:
            if values[place].count(header) != count:
                return None
        columns: dict[str, Any] = {}
        for names, place in self.fields:
            if names[0] == "seconds":
                factor = _FRACTIONS[names[1]]
                pairs = zip(values[place], values[place + 1], strict=True)
                columns["timestamp"] = [s * 1_000_000_000 + f * factor for s, f in pairs]
            else:
                columns.update(zip(names, values[place:], strict=False))
        return AncillaryColumns(**columns)


@cache
def _shapes(platform: Platform) -> dict[tuple[int, int], _Shape]:
    """Shapes met so far, by stride and length: a handful, for the system makes them."""
    return {}


def _learn_shape(platform: Platform, data: bytes, stride: int) -> _Shape | None:
    """The shape of this control buffer; None if it is not messages from end to end."""
    known = {(row.level, row.type, Struct(row.layout).size): row for row in platform.ancillary}
    offset, alignment = platform.control.payload_offset, platform.control.alignment
    layout, start, place = "=", 0, 0
    headers, fields = [], []
    for level, kind, payload in read_control_buffer_untrusted(platform, data):
        headers.append((place, data[start : start + offset]))
        layout += f"{offset}s"
        place += 1
        row = known.get((level, kind, len(payload)))
        if row is None:
            layout += f"{len(payload)}x"
        else:
            layout += row.layout.removeprefix("=")
            fields.append((row.fields, place))
            place += len(row.fields)
        length = offset + len(payload)
        layout += f"{-length % alignment}x"
        start += length + -length % alignment
    if len(data) - start >= _header(platform).size or start > stride:
        return None
    return _Shape(Struct(f"{layout}{stride - start}x"), tuple(headers), tuple(fields))
