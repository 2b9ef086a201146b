"""Only what differs by more than its own rounds is called different, and only on one machine."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepose.benchmarks.compare import comparisons
from edgepose.benchmarks.environment import environment
from edgepose.engines.errors import ConfigError

HERE = {"processor": "A", "cores": 2, "machine": "x86_64", "arithmetic": ["avx_vnni"], "power_mode": "performance"}


def engine_file(path: Path, rates: list[float], **environment: Any) -> Path:
    path.write_text(json.dumps({"environment": {**HERE, **environment}, "cases": [{"bundle": "a.pose", "per_second": rates}]}))
    return path


def noisy(rate: float, seed: int) -> list[float]:
    return (rate * (1 + 0.05 * np.random.default_rng(seed).standard_normal(20))).tolist()


def test_a_difference_within_the_noise_is_none_and_one_beyond_it_is(tmp_path: Path) -> None:
    base, same, slow = (engine_file(tmp_path / f"{i}.json", noisy(rate, i)) for i, rate in enumerate((100, 100.5, 85)))
    [alike], [slower], [faster] = comparisons(base, same), comparisons(base, slow), comparisons(slow, base)
    assert (alike.verdict, slower.verdict, faster.verdict) == ("no difference to be seen", "slower", "faster")
    assert slower.low < slower.ratio < slower.high and slower.ratio == pytest.approx(0.85, abs=0.05)


@pytest.mark.parametrize("change", [{"processor": "B"}, {"power_mode": "powersave"}, {"cores": 4}])
def test_two_machines_or_power_modes_are_not_compared_unless_told_to(change: dict[str, Any], tmp_path: Path) -> None:
    here, there = engine_file(tmp_path / "a.json", noisy(1, 1)), engine_file(tmp_path / "b.json", noisy(1, 2), **change)
    with pytest.raises(ConfigError, match=f"{next(iter(change))} .* --anyway"):
        comparisons(here, there)
    assert comparisons(here, there, anyway=True)


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    good = engine_file(tmp_path / "good.json", noisy(1, 1))
    empty = {"environment": HERE, "cases": [], "report": {"rounds": [{}]}}
    shapes: list[dict[str, Any]] = [{}, empty, {"report": {"rounds": 6}}, {"report": [1]}, {"report": {"rounds": [1]}}, {"cases": [1, 2]}]
    shapes += [{"cases": [{"bundle": "a.pose", "per_second": rates}]} for rates in (5, "12345", ["1"] * 5, [0.0] * 5, [float("nan")] * 5)]
    turn = {"count": 1, "seconds": 0}
    shapes += [{"report": {"rounds": [dict.fromkeys(("engine", "memory", "file", "sequential"), turn)] * 5}}]
    for content, says in (([], "wanted a results file"), *(({"environment": HERE, **shape}, "wanted a file of") for shape in shapes)):
        (tmp_path / "bad.json").write_text(json.dumps(content))
        with pytest.raises(ConfigError, match=says):
            comparisons(good, tmp_path / "bad.json")
    with pytest.raises(ConfigError, match="fewer than 5 rounds"):
        comparisons(good, engine_file(tmp_path / "short.json", [1.0, 2.0]))


def test_bundles_of_one_name_in_different_folders_meet_their_own_like(tmp_path: Path) -> None:
    cases = [{"bundle": "a.pose", "per_second": noisy(rate, rate)} for rate in (50, 100)]
    (tmp_path / "two.json").write_text(json.dumps({"environment": HERE, "cases": cases}))
    found = comparisons(tmp_path / "two.json", tmp_path / "two.json")
    assert [(each.figure, each.ratio) for each in found] == [("a.pose", 1), ("a.pose (2)", 1)]
    assert found[1].first > 1.5 * found[0].first


def test_the_cores_are_those_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    assert environment()["cores"] == 1
