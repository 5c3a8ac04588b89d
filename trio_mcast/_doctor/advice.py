"""What to do about findings: those that errors have remedies for as well, and the doctor's own."""

from __future__ import annotations

from typing import Final

from .._base import remedies
from .._base.remedies import Advice

ADVICE: Final[dict[str, Advice]] = {
    **remedies.ADVICE,
    "datagrams-lost": Advice(
        "# compare what is sent with what comes in:\n"
        "sudo tcpdump -vv -e -i any host {group}\n"
        "# and see which programs are in the way: sudo bpftool net; sudo bpftool cgroup tree;\n"
        "# sudo nft list ruleset; sudo tc filter show dev INTERFACE ingress",
        "docs/doctor.md",
    ),
}
"""By code. The order is that in which findings are told."""
