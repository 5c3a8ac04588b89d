"""What the doctor itself loses under a flood is nobody's fault."""

from trio_mcast._base.snapshot import UdpSocket
from trio_mcast._doctor.observing import _find_losses


def bound(inode: int, drops: int) -> UdpSocket:
    return UdpSocket(4, "239.1.2.3", 5000, 0, inode, drops)


def test_only_what_others_have_lost_meanwhile_is_told() -> None:
    before = [bound(1, 5), bound(2, 0), bound(3, 0)]
    after = [bound(1, 5), bound(2, 7), bound(3, 9), bound(4, 2)]
    assert list(_find_losses(before, after, own={3})) == [bound(2, 7), bound(4, 2)]
