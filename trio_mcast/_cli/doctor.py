"""`trio-mcast doctor`"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter

from trio_mcast import Finding
from trio_mcast.lowlevel import examine, judge, parse_question

from .errors import UsageError
from .groups import parse_group_spec
from .options import InterfacesOption, QuietOption
from .output import tell, to_json, write


async def doctor(
    groups: Annotated[tuple[str, ...], Parameter(name="GROUP")] = (),
    /,
    *,
    port: Annotated[int | None, Parameter(name=("--port", "-p"))] = None,
    interface: InterfacesOption = (),
    source: Annotated[tuple[str, ...], Parameter(name=("--source", "-s"))] = (),
    seconds: Annotated[float, Parameter(name=("--seconds", "-t"))] = 5.0,
    json: bool = False,
    quiet: QuietOption = False,
) -> int:
    """Find out why nothing arrives, and what to do about it.

    Without a GROUP it looks at this machine: interfaces, limits, bridges,
    what programs have joined. With a GROUP it also joins it for some
    seconds and watches which stage loses the datagrams, so somebody should
    be sending. It changes nothing, sends nothing and needs no privilege;
    root (sudo) is told more.

    Try:

        trio-mcast doctor
        trio-mcast doctor 239.1.2.3 --port 5000
        trio-mcast doctor 10.0.0.1@239.1.2.3%eth0 --port 5000

    What is found is told most probable cause first. Lines to paste are
    below "do"; those that begin with # are for you to read.

    Exit codes: 0 no error was found, 1 one was, 2 wrong usage.

    Args:
      groups: [SOURCE@]GROUP[%INTERFACE], the groups that should arrive
      port: the UDP port; otherwise the usual one of the group, if there is
        one
      interface: where they should arrive, if not just anywhere: a name,
        index, address or network; give it again for more
      source: the address of the sender that should be heard; give it again
        for more
      seconds: how long to listen; 0: do not (5)
      json: one JSON object a line: code, severity, summary, evidence,
        remedy, reference
      quiet: only errors
    """
    if not seconds >= 0:
        raise UsageError(f"--seconds {seconds:g} is below 0")
    addresses, sources = [], list(source)
    for spec in groups:
        group, own = parse_group_spec(spec)
        addresses.append(str(group))
        sources += own
    question = parse_question(addresses, port=port, interface=interface or None, source=sources)
    if groups and seconds and not quiet and not json:
        tell(f"listening to {', '.join(addresses)} for {seconds:g} s; somebody should be sending")
    findings = judge(await examine(question, seconds))
    has_errors = any(finding.severity == "error" for finding in findings)
    if quiet:
        findings = tuple(finding for finding in findings if finding.severity == "error")
    if json:
        write(to_json(asdict(finding)) for finding in findings)
    elif findings or not quiet:
        write(_show_all(findings))
    return 1 if has_errors else 0


def _show_all(findings: tuple[Finding, ...]) -> Iterator[str]:
    if all(finding.severity == "info" for finding in findings):
        yield "no fault was found on this machine"
    for finding in findings:
        yield from _show(finding)


def _show(finding: Finding) -> Iterator[str]:
    yield f"{finding.severity}: {finding.summary} [{finding.code}]"
    if finding.severity != "info":
        for line in finding.evidence:
            yield f"  seen  {line}"
    for number, line in enumerate(finding.remedy.split("\n") if finding.remedy else ()):
        yield f"  {'' if number else 'do':4}  {line}"
