"""Exchanged ids are counted, and both ways of making pairs are asked about the same people."""

from __future__ import annotations

import numpy as np
import pytest

from edgepose.benchmarks import tracking
from edgepose.benchmarks.tracking import cost_case, id_cases


def test_people_who_cross_slowly_keep_their_ids_by_either_method() -> None:
    runs: list[None] = []
    cases = id_cases(3, 30, 60, 2, lambda: runs.append(None))
    assert [(case.pairs, case.switches) for case in cases] == [("best pairs", (0, 0)), ("Hungarian", (0, 0))]
    assert len(runs) == 4


def test_six_people_who_cross_keep_their_ids_as_by_the_hungarian_method() -> None:
    ours, hungarian = id_cases(6, 30, 500, 3, lambda: None)
    assert max(ours.switches) <= 1
    assert ours.per_thousand_frames <= hungarian.per_thousand_frames + 1


def test_ids_that_are_given_anew_in_every_frame_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "best_pairs", lambda _: (np.empty(0, np.intp),) * 2)
    case = id_cases(2, 30, 40, 1, lambda: None)[0]
    assert case.switches[0] > 60
    assert case.per_thousand_frames == 1000 * case.switches[0] / 40


def test_the_cost_is_of_all_people() -> None:
    one, many = cost_case(1, 30), cost_case(20, 30)
    assert 0 < one.tracking_us_p50 < many.tracking_us_p90
