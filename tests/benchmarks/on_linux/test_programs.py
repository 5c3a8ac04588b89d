"""Each program of the benchmarks runs for a blink and tells figures, however good they are."""

from __future__ import annotations

import math
import sys
import xml.etree.ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("the benchmarks need Linux", allow_module_level=True)

from benchmarks.goals import GOALS
from benchmarks.hosts import Hosts, NamespacesError, open_hosts
from benchmarks.measuring import Bench, Effort
from benchmarks.plot import FIGURES, write_plots
from benchmarks.programs import Launcher, compile_programs, find_compiler
from benchmarks.results import Results
from benchmarks.rows import RECEIVERS, SENDERS, Row
from benchmarks.scenarios import (
    GROUP_COUNTS,
    QUICK,
    SCENARIOS,
    Idling,
    Receiving,
    Scenario,
    Sending,
    Traffic,
)
from benchmarks.table import COLUMNS, rows_of, write_tables

BLINK = Effort(rounds=1, scale=1.0)
PYTHON = next(row for row in RECEIVERS if row.key == "python")


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    try:
        with open_hosts() as hosts:
            yield hosts
    except NamespacesError as error:
        pytest.skip(f"no network namespaces here: {error}")


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Launcher:
    if find_compiler() is None:
        return Launcher(None)
    folder = tmp_path_factory.mktemp("compiled")
    compile_programs(folder)
    return Launcher(folder)


def measure(hosts: Hosts, launcher: Launcher, scenario: Scenario, row: Row) -> dict[str, float]:
    if (obstacle := row.find_obstacle(find_compiler() is not None)) is not None:
        pytest.skip(obstacle)
    results = Results()
    Bench(hosts, launcher, BLINK, results).measure(scenario, [row])
    assert results.skipped == {}
    figures = {name: runs[0] for name, runs in results.figures[scenario.key][row.key].items()}
    assert all(math.isfinite(value) for value in figures.values())
    return figures


@pytest.mark.parametrize("row", RECEIVERS, ids=lambda row: row.key)
def test_a_receiver_tells_what_it_received(hosts: Hosts, launcher: Launcher, row: Row) -> None:
    groups = 1 if "--one-by-one" in row.arguments else 3
    scenario = Receiving(
        *("blink", "", (), ()),
        Traffic(groups=groups, rate=1000, burst=10),
        seconds=0.03,
        timing=True,
        ticking=row.can_tick,
    )
    figures = measure(hosts, launcher, scenario, row)
    assert figures["cpu"] > 0
    assert figures["loss"] == 0
    assert 0 < figures["delay-median"] <= figures["delay-p99"]
    assert ("lateness-p99" in figures) == row.can_tick


def test_a_receiver_can_be_held_until_its_queue_is_full(hosts: Hosts, launcher: Launcher) -> None:
    scenario = Receiving("blink", "", (), (), Traffic(), seconds=1, limit=100, stopped=True)
    assert measure(hosts, launcher, scenario, PYTHON)["loss"] == 0


def test_traffic_can_come_by_a_cable(hosts: Hosts, launcher: Launcher) -> None:
    scenario = Receiving("blink", "", (), (), Traffic(), link="veth", seconds=1, limit=100)
    assert measure(hosts, launcher, scenario, PYTHON)["loss"] == 0


def test_a_receiver_tells_what_waiting_costs(hosts: Hosts, launcher: Launcher) -> None:
    scenario = Idling("blink", "", (), (), groups=3, seconds=0.01)
    figures = measure(hosts, launcher, scenario, PYTHON)
    assert figures["opening"] > 0
    assert figures["memory"] >= 0
    assert 0 <= figures["idle"] <= 1


@pytest.mark.parametrize("row", SENDERS, ids=lambda row: row.key)
def test_a_sender_tells_what_it_sent(hosts: Hosts, launcher: Launcher, row: Row) -> None:
    figures = measure(hosts, launcher, Sending("blink", "", (), (), size=64, count=1000), row)
    assert figures["cpu"] > 0
    assert figures["rate"] > 0


def test_the_sender_in_python_stands_in_for_the_one_in_c(hosts: Hosts) -> None:
    scenario = Receiving("blink", "", (), (), Traffic(rate=1000, burst=10), seconds=0.03)
    assert measure(hosts, Launcher(None), scenario, PYTHON)["loss"] == 0


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.key)
def test_scenarios_name_rows_and_columns_that_exist(scenario: Scenario) -> None:
    assert rows_of(scenario)
    assert set(scenario.columns) <= set(COLUMNS)


def test_selections_of_scenarios_exist() -> None:
    known = {scenario.key for scenario in SCENARIOS}
    assert known >= QUICK
    assert known >= set(GROUP_COUNTS.values())


def test_goals_are_about_rows_that_are_measured() -> None:
    measured = {(scenario.key, key) for scenario in SCENARIOS for key in scenario.rows}
    assert {pair for goal in GOALS for pair in goal.needs()} <= measured


@pytest.fixture
def made_up_results() -> Results:
    results = Results({"date": "today", "processor": "2 x <fast>"})
    for scenario in SCENARIOS:
        for number, row in enumerate(rows_of(scenario), 1):
            for _ in range(3):
                results.add(scenario.key, row.key, dict.fromkeys(COLUMNS, number / 8))
    return results


def test_everything_measured_is_in_the_tables(made_up_results: Results) -> None:
    text = write_tables(made_up_results)
    for scenario in SCENARIOS:
        assert scenario.title in text
    for row in (*RECEIVERS, *SENDERS):
        assert row.title in text


def test_results_survive_being_written(made_up_results: Results, tmp_path: Path) -> None:
    made_up_results.write(tmp_path / "results.json")
    assert Results.read(tmp_path / "results.json") == made_up_results


def test_plots_are_well_formed(made_up_results: Results, tmp_path: Path) -> None:
    paths = list(write_plots(made_up_results, tmp_path))
    assert {path.stem for path in paths} == set(FIGURES)
    for path in paths:
        assert xml.etree.ElementTree.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_goals_that_were_not_measured_are_unknown() -> None:
    assert all(goal.judge(Results()).startswith("unknown") for goal in GOALS)
