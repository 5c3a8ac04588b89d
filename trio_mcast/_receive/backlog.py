"""What was read and not taken yet, bounded in datagrams and in bytes."""

from __future__ import annotations

from collections import deque
from itertools import islice

from .._base.datagram import Datagram


class Backlog(deque[Datagram]):
    """Datagrams in the order of reading. Whoever takes some takes them off the left end.

    To take one is the most frequent thing that a receiver does, so nothing is counted there: how
    many are gone follows from how many are left. So the bytes are known exactly between two reads
    that were taken whole, and of a read that was taken in part all its bytes count as held, until
    the exact number matters (`shed`).
    """

    def __init__(self, max_datagrams: int, max_bytes: int) -> None:
        super().__init__()
        self._max_datagrams = max_datagrams
        self._max_bytes = max_bytes
        self._came = 0  # datagrams, since it was last empty
        self._bytes_came = 0
        self._bytes_gone = 0  # with the last read that was taken whole
        self._reads: deque[tuple[int, int]] = deque()  # what had come after each but the last read

    def add(self, datagrams: list[Datagram], size: int) -> None:
        """Hold what one read brought.

        Args:
          size: the bytes of all payloads
        """
        if self:
            self._reads.append((self._came, self._bytes_came))
            self._came += len(datagrams)
            self._bytes_came += size
        else:
            if self._reads:
                self._reads.clear()
            self._bytes_gone = 0
            self._came = len(datagrams)
            self._bytes_came = size
        self.extend(datagrams)

    def room(self) -> int:
        """How many datagrams fit; 0 or less: none, perhaps because of the bytes."""
        return self._max_datagrams - len(self) if self.byte_room() > 0 else 0

    def byte_room(self) -> int:
        """How many bytes fit, or a few more."""
        return self._max_bytes - self._bytes_held()

    def _bytes_held(self) -> int:
        """Never too small, and too large by less than one read."""
        if not self:
            return 0
        gone, reads = self._came - len(self), self._reads
        while reads and reads[0][0] <= gone:
            self._bytes_gone = reads.popleft()[1]
        return self._bytes_came - self._bytes_gone

    def shed(self) -> list[Datagram]:
        """Give up the oldest: as many as are too much, and not one more."""
        shed = [self.popleft() for _ in range(len(self) - self._max_datagrams)]
        surplus = self._bytes_held() - self._max_bytes
        if surplus > 0:
            end_of_last = (self._came, self._bytes_came)
            count_after, bytes_after = self._reads[0] if self._reads else end_of_last
            left = islice(self, count_after - (self._came - len(self)))
            surplus -= bytes_after - self._bytes_gone - sum(len(d.data) for d in left)
        while surplus > 0:
            shed.append(self.popleft())
            surplus -= len(shed[-1].data)
        return shed
