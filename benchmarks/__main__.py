"""What receiving and sending multicast costs, here and with other libraries.

Results are printed, and written as text, JSON and plots to a folder.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Final

from .goals import GOALS
from .hosts import NamespacesError, open_hosts
from .machine import describe_machine
from .measuring import Bench, Effort
from .plot import write_plots
from .programs import Launcher, compile_programs, find_compiler
from .results import Results
from .rows import RECEIVERS, SENDERS, Row, with_rows_of
from .scenarios import QUICK, SCENARIOS, Scenario
from .table import rows_of, write_tables

LONG: Final = Effort(rounds=9, scale=1.0)
SHORT: Final = Effort(rounds=5, scale=0.2)

Plan = list[tuple[Scenario, list[Row]]]


def main() -> int:
    arguments = _parse_arguments()
    if arguments.list:
        print(_list_everything())
        return 0
    if arguments.read is not None:
        results = Results.read(arguments.read)
    else:
        try:
            results = _measure(_make_plan(arguments), _choose_effort(arguments))
        except NamespacesError as error:
            print(f"no network namespaces, so nothing is measured: {error}", file=sys.stderr)
            return 1
    print(write_tables(results))
    if arguments.goals:
        print("Goals\n" + "\n".join(f"  {goal.judge(results)}" for goal in GOALS))
    _write_files(results, arguments.publish)
    return 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the short form: about a minute")
    parser.add_argument("--only", metavar="SCENARIO,...", help="these scenarios only")
    parser.add_argument("--rows", metavar="ROW,...", help="these rows only")
    parser.add_argument("--rounds", type=int, help="how often to measure each row")
    parser.add_argument("--scale", type=float, help="multiplies the length of each run")
    parser.add_argument("--goals", action="store_true", help="say which goals are met")
    parser.add_argument("--list", action="store_true", help="list scenarios and rows")
    parser.add_argument("--read", type=Path, metavar="JSON", help="show earlier results")
    parser.add_argument(
        "--against",
        type=Path,
        metavar="DIR",
        help="measure this library's rows of another checkout as well, an older one, say",
    )
    parser.add_argument(
        "--publish",
        type=Path,
        metavar="DIR",
        default=Path(__file__).parent / "results",
        help="the folder to write to, instead of benchmarks/results",
    )
    return parser.parse_args()


def _list_everything() -> str:
    lines = ["Scenarios (* in the short form)"]
    lines += [f"  {'*' if s.key in QUICK else ' '} {s.key:12} {s.title}" for s in SCENARIOS]
    for title, rows in (("Receivers", RECEIVERS), ("Senders", SENDERS)):
        lines += ["", title, *(f"    {row.key:14} {row.title}" for row in rows)]
    return "\n".join(lines)


def _choose_effort(arguments: argparse.Namespace) -> Effort:
    usual = SHORT if arguments.quick else LONG
    return Effort(arguments.rounds or usual.rounds, arguments.scale or usual.scale)


def _make_plan(arguments: argparse.Namespace) -> Plan:
    """Which rows of which scenarios to measure."""
    only = None if arguments.only is None else set(arguments.only.split(","))
    rows = None if arguments.rows is None else set(arguments.rows.split(","))
    needed = {pair for goal in GOALS for pair in goal.needs()}
    if only is None and arguments.goals:
        only = {scenario for scenario, _ in needed}
    elif only is None and arguments.quick:
        only = set(QUICK)
    _refuse_unknown(only, {scenario.key for scenario in SCENARIOS})
    _refuse_unknown(rows, {row.key for row in (*RECEIVERS, *SENDERS)})
    wanted = [
        (scenario, [row for row in rows_of(scenario) if rows is None or row.key in rows])
        for scenario in SCENARIOS
        if only is None or scenario.key in only
    ]
    if arguments.goals and rows is None:
        wanted = [
            (scenario, [row for row in found if (scenario.key, row.key) in needed])
            for scenario, found in wanted
        ]
    if arguments.against is not None:
        wanted = [(scenario, with_rows_of(rows, arguments.against)) for scenario, rows in wanted]
    return [(scenario, found) for scenario, found in wanted if found]


def _refuse_unknown(given: set[str] | None, known: set[str]) -> None:
    if unknown := (given or set()) - known:
        raise SystemExit(f"unknown: {', '.join(sorted(unknown))}; see --list")


def _measure(plan: Plan, effort: Effort) -> Results:
    results = Results(describe_machine())
    results.machine["runs"] = (
        f"medians of {effort.rounds} runs of each row, taken in turn, each {effort.scale:g} times "
        "the scenario's usual length"
    )
    compiler = find_compiler()
    with tempfile.TemporaryDirectory() as folder, open_hosts() as hosts:
        if compiler is not None:
            compile_programs(Path(folder))
        launcher = Launcher(Path(folder) if compiler is not None else None)
        bench = Bench(hosts, launcher, effort, results)
        for scenario, rows in plan:
            print(scenario.title, file=sys.stderr, flush=True)
            obstacles = {row.key: row.find_obstacle(compiler is not None) for row in rows}
            results.skipped |= {key: why for key, why in obstacles.items() if why is not None}
            bench.measure(scenario, [row for row in rows if obstacles[row.key] is None])
    results.machine["load after"] = describe_machine()["load before"]
    return results


def _write_files(results: Results, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    results.write(folder / "results.json")
    (folder / "results.txt").write_text(write_tables(results))
    for path in write_plots(results, folder):
        print(path, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
