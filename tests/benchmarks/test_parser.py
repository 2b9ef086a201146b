"""The parser on synthetic people: what `pose-bench parser` reports, and the accuracy it must keep. Speed is never tested here."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgepose.benchmarks.parser import Workload, parser_case
from edgepose.engines.errors import ConfigError
from edgepose.runtime.paf_parameters import PafParameters

# Recall of the raw-grid prototype (shared/paf/README.md), and the extra persons a frame that are allowed.
PROTOTYPE = {"trt56": {1: 0.876, 5: 0.897, 10: 0.880, 30: 0.868}, "op32x57": {1: 0.888, 5: 0.877, 10: 0.902, 30: 0.853}}
EXTRA = {1: 0.1, 5: 0.1, 10: 0.3, 30: 1.0}


@pytest.fixture(scope="session")
def workload(assets: Path) -> Workload:
    return Workload(assets.parent / "paf")


@pytest.mark.parametrize("name", ["trt56", "op32x57"])
@pytest.mark.parametrize("persons", [1, 5, 10, 30])
def test_people_are_found_few_are_made_up_and_256_levels_change_nothing(workload: Workload, name: str, persons: int) -> None:
    case = parser_case(workload, name, persons, 24, 5, PafParameters())
    assert case.recall >= PROTOTYPE[name][persons] - 0.005
    assert case.location_error <= 0.055
    assert abs(case.recall - case.recall_levels) <= 0.003
    if name == "op32x57":
        assert case.extra_persons <= EXTRA[persons]
    assert case.one_pass_us > 0
    assert case.multiple == pytest.approx(case.parse_us / case.one_pass_us)


def test_fragments_left_apart_cost_recall_and_make_extra_persons(workload: Workload) -> None:
    joined, apart = (parser_case(workload, "op32x57", 5, 12, 5, PafParameters(reach=reach)) for reach in (1, 0))
    assert apart.recall < joined.recall - 0.02
    assert apart.extra_persons > joined.extra_persons + 0.3


def test_a_folder_without_the_workload_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"workload\.py: not there"):
        Workload(tmp_path)
