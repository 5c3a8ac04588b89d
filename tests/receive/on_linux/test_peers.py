"""Together with other people's programs: multicast_expert, socat, iperf 2, ffmpeg."""

import shutil
import socket
import struct
from collections.abc import Iterator

import pytest
from namespaces.network import Card, Network, wait_until
from namespaces.opening import Hear
from namespaces.receiving import BOTH, GROUP4, collect, everything
from patience import PATIENCE

import trio_mcast
from trio_mcast import MulticastReceiver

multicast_expert = pytest.importorskip("multicast_expert")


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        shutil.which(program) is None, reason=f"the program `{program}` is not installed"
    )


# --- multicast_expert -----------------------------------------------------------------------------


@pytest.fixture
def expert_transmitter(network: Network) -> Iterator[object]:
    """Opens a `McastTxSocket` on a card; closed after the test."""
    opened = []

    def open_(card: Card, group: str, port: int) -> object:
        family = socket.AF_INET6 if ":" in group else socket.AF_INET
        transmitter = multicast_expert.McastTxSocket(family, [group], iface=card.name)
        opened.append(card.host.call(transmitter.__enter__))
        return lambda data: transmitter.sendto(data, (group, port))

    def on_host(card: Card, group: str, port: int) -> object:
        return card.host.call(open_, card, group, port)

    yield on_host
    for transmitter in opened:
        transmitter.__exit__(None, None, None)


@pytest.fixture
def expert_receiver(network: Network) -> Iterator[object]:
    """Opens a `McastRxSocket` on a card; closed after the test."""
    opened = []

    def open_(card: Card, group: str, port: int, **options: object) -> object:
        family = socket.AF_INET6 if ":" in group else socket.AF_INET
        receiver = multicast_expert.McastRxSocket(
            family, [group], port=port, iface=card.name, timeout=PATIENCE, **options
        )
        opened.append(receiver.__enter__())
        return receiver

    def on_host(card: Card, group: str, port: int, **options: object) -> object:
        return card.host.call(lambda: open_(card, group, port, **options))

    yield on_host
    for receiver in opened:
        receiver.__exit__(None, None, None)


@pytest.mark.parametrize("group", BOTH)
def test_multicast_expert_hears_our_sender(
    here: Card, there: Card, udp_port: int, group: str, expert_receiver
) -> None:
    receiver = expert_receiver(there, group, udp_port)

    async def main() -> None:
        async with trio_mcast.open_sender(group, port=udp_port, interface="eth0") as sender:
            await sender.send(b"one")
            await sender.send_batch([b"two", b"three"])

    here.host.run(main)
    heard = [receiver.recvfrom() for _ in range(3)]
    assert [data for data, _address in heard] == [b"one", b"two", b"three"]
    assert {address[0] for _data, address in heard} == {here.ipv6 if ":" in group else here.ipv4}


@pytest.mark.parametrize("group", BOTH)
def test_our_receiver_hears_multicast_expert(
    there: Card, hear: Hear, udp_port: int, group: str, expert_transmitter
) -> None:
    send = expert_transmitter(there, group, udp_port)

    async def main(receiver: MulticastReceiver) -> None:
        for data in (b"one", b"", b"x" * 1472):
            send(data)
        assert [d.data for d in await collect(receiver, 3)] == [b"one", b"", b"x" * 1472]

    hear(main, group)


@pytest.mark.parametrize("group", BOTH)
def test_multicast_expert_shares_the_port_with_us_on_one_host(
    here: Card,
    there: Card,
    hear: Hear,
    udp_port: int,
    group: str,
    expert_receiver,
    expert_transmitter,
) -> None:
    """It binds IPv4 sockets to the wildcard address."""
    beside = expert_receiver(here, group, udp_port)
    send = expert_transmitter(there, group, udp_port)

    async def main(receiver: MulticastReceiver) -> None:
        send(b"to both")
        assert [d.data for d in await collect(receiver, 1)] == [b"to both"]
        assert beside.recv() == b"to both"
        assert await everything(receiver) == []

    hear(main, group)


def test_multicast_expert_filters_by_our_source(
    here: Card, there: Card, udp_port: int, expert_receiver
) -> None:
    here.add_address("10.77.1.77/24")
    receiver = expert_receiver(there, "232.1.2.3", udp_port, source_ips=["10.77.1.77"])

    async def main() -> None:
        for source in (here.ipv4, "10.77.1.77"):
            async with trio_mcast.open_sender(
                "232.1.2.3", port=udp_port, interface="eth0", source=source
            ) as sender:
                await sender.send(source.encode())

    here.host.run(main)
    assert receiver.recv() == b"10.77.1.77"


# --- socat ----------------------------------------------------------------------------------------


@needs("socat")
@pytest.mark.parametrize("group", BOTH)
def test_our_receiver_hears_socat(there: Card, hear: Hear, udp_port: int, group: str) -> None:
    if group == GROUP4:
        target = f"UDP4-DATAGRAM:{group}:{udp_port},ip-multicast-if={there.ipv4}"
    else:
        target = f"UDP6-DATAGRAM:[{group}]:{udp_port}"  # the only interface with multicast

    async def main(receiver: MulticastReceiver) -> None:
        there.host.command("socat", "-u", "-", target, input="hello from socat")
        datagram = await receiver.receive()
        assert datagram.data == b"hello from socat"
        assert datagram.source[0] == (there.ipv4 if group == GROUP4 else there.ipv6)

    hear(main, group)


@needs("socat")
@pytest.mark.parametrize("group", BOTH)
def test_socat_hears_our_sender(here: Card, there: Card, udp_port: int, group: str) -> None:
    if group == GROUP4:
        address = f"UDP4-RECV:{udp_port},bind={group},ip-add-membership={group}:{there.ipv4}"
    else:
        address = f"UDP6-RECV:{udp_port},bind=[{group}],ipv6-join-group=[{group}]:eth0"
    socat = there.host.program("socat", "-u", address, "STDOUT")
    wait_until(lambda: there.host.has_joined(group), "socat has joined")

    async def main() -> None:
        async with trio_mcast.open_sender(group, port=udp_port, interface="eth0") as sender:
            await sender.send(b"hello, ")
            await sender.send(b"socat\n")

    here.host.run(main)
    assert socat.stdout is not None
    assert socat.stdout.readline() == b"hello, socat\n"


# --- iperf 2 --------------------------------------------------------------------------------------


@needs("iperf")
def test_our_receiver_hears_every_datagram_of_iperf(there: Card, hear: Hear, udp_port: int) -> None:
    """Its datagrams begin with a sequence number; the last ones are marked by negative ones."""
    there.host.ip(f"route add 233.252.0.0/24 dev {there.name}")

    async def main(receiver: MulticastReceiver) -> None:
        iperf = there.host.program(
            *f"iperf -c {GROUP4} -u -p {udp_port} -l 1000 -b 40m -n 200000 -T 1".split()
        )
        numbers = []
        while not numbers or numbers[-1] >= 0:
            datagram = await receiver.receive()
            assert len(datagram.data) == 1000
            numbers.append(struct.unpack_from("!i", datagram.data)[0])
        iperf.kill()
        sequence = [number for number in numbers if number >= 0]
        assert len(sequence) >= 190
        assert sequence == list(range(sequence[0], sequence[0] + len(sequence)))

    hear(main, GROUP4)


# --- ffmpeg ---------------------------------------------------------------------------------------

PICTURES = "-v error -re -f lavfi -i testsrc2=duration=0.5:size=320x240:rate=25 -c:v mpeg2video"


@needs("ffmpeg")
def test_our_receiver_hears_a_transport_stream_of_ffmpeg_whole(
    network: Network, here: Card, there: Card, hear: Hear, udp_port: int
) -> None:
    """Datagrams of seven packets of 188 bytes, whose continuity counters leave nothing out."""
    network.link(here.host, "eth1", network.host("elsewhere"), "eth0")

    async def main(receiver: MulticastReceiver) -> None:
        url = f"udp://{GROUP4}:{udp_port}?pkt_size=1316&ttl=1"
        there.host.ip(f"route add 233.252.0.0/24 dev {there.name}")
        there.host.command(*f"ffmpeg {PICTURES} -f mpegts {url}".split())
        datagrams = await everything(receiver)
        assert {d.interface.name for d in datagrams} == {here.name}
        packets = [
            d.data[start : start + 188] for d in datagrams for start in range(0, len(d.data), 188)
        ]
        assert len(packets) > 100
        assert all(len(packet) == 188 and packet[0] == 0x47 for packet in packets)
        last: dict[int, int] = {}
        for packet in packets:
            stream, flags = int.from_bytes(packet[1:3], "big") & 0x1FFF, packet[3]
            if flags & 0x10 and stream != 0x1FFF:  # it has a payload, so it counts
                assert flags & 15 == (last.get(stream, flags - 1) + 1) & 15
                last[stream] = flags & 15

    hear(main, GROUP4)


@needs("ffmpeg")
def test_our_receiver_hears_rtp_of_ffmpeg_in_order(there: Card, hear: Hear, udp_port: int) -> None:
    there.host.ip(f"route add 233.252.0.0/24 dev {there.name}")

    async def main(receiver: MulticastReceiver) -> None:
        url = f"rtp://{GROUP4}:{udp_port}?ttl=1"
        there.host.command(*f"ffmpeg {PICTURES} -f rtp_mpegts {url}".split())
        headers = [struct.unpack_from("!BBHII", d.data) for d in await everything(receiver)]
        numbers = [number for _v, _type, number, _time, _source in headers]
        assert len(numbers) > 10
        assert {version >> 6 for version, *_rest in headers} == {2}
        assert numbers == [(numbers[0] + i) & 0xFFFF for i in range(len(numbers))]

    hear(main, GROUP4)
