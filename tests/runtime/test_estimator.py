"""Pictures in, people out: whatever happens, every slot is idle after it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgepose.engines.errors import InferenceFailed
from edgepose.engines.fake import FakeEngine, block_means
from edgepose.runtime.estimator import PoseEstimator

PICTURES = [(np.full((24, 32, 3), level, np.uint8), level) for level in range(5)]


def engine_of(tiny_model: Any) -> FakeEngine:
    return FakeEngine(tiny_model.contract, lambda pictures: block_means(pictures, tiny_model.contract), slots=3)


@pytest.mark.parametrize("step", ["start", "wait"])
def test_after_a_failure_the_engine_works_as_before(tiny_model: Any, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    engine = engine_of(tiny_model)
    estimator = PoseEstimator(engine)
    whole, calls = getattr(type(engine.slots[0]), step), []

    def failing(slot: Any) -> Any:
        calls.append(slot)
        found = whole(slot) if step == "wait" or len(calls) < 3 else None
        if step == "wait" or len(calls) == 3:
            raise InferenceFailed("the device is gone")
        return found

    with monkeypatch.context() as broken:
        broken.setattr(type(engine.slots[0]), step, failing)
        with pytest.raises(InferenceFailed, match="the device is gone"):
            list(estimator.estimate_all(PICTURES))
    assert [level for _, level in estimator_results(estimator)] == list(range(5))


def estimator_results(estimator: PoseEstimator) -> list[tuple[Any, int]]:
    return [(poses, level) for level, poses in estimator.estimate_all(PICTURES)]


def test_a_closed_engine_is_told(tiny_model: Any) -> None:
    engine = engine_of(tiny_model)
    engine.close()
    with pytest.raises(InferenceFailed, match="the engine is closed"):
        PoseEstimator(engine).estimate(PICTURES[0][0])
