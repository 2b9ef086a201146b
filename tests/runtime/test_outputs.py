"""Several sinks as one: what befalls one costs the others nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgepose.engines.errors import SinkError
from edgepose.engines.skeleton import COCO18
from edgepose.runtime.outputs import Outputs
from edgepose.runtime.poses import no_poses
from edgepose.runtime.sinks import CocoResultsSink, JsonLinesSink, Sink, VideoSink
from edgepose.runtime.sources import Frame

NOBODY = no_poses(18)


def sinks(folder: Path) -> Iterator[Sink]:
    yield VideoSink(folder / "a.mp4", 25, COCO18)
    yield CocoResultsSink(folder / "c.json", COCO18)
    yield JsonLinesSink(folder / "p.jsonl", COCO18)


def frame(index: int, side: int = 64) -> Frame:
    return Frame(np.zeros((side, side, 3), np.uint8), f"v_{index}", index, index / 25)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_one_that_cannot_be_written_is_dropped_and_the_others_are_completed(tmp_path: Path) -> None:
    outputs = Outputs(sinks(tmp_path))
    outputs.write(frame(0), NOBODY)
    with pytest.raises(SinkError, match="32 x 32 pixels in a video"):
        outputs.write(frame(1, side=32), NOBODY)
    outputs.close()
    assert names(tmp_path) == ["c.json", "p.jsonl"]
    assert len((tmp_path / "p.jsonl").read_text().splitlines()) == 1


def test_one_that_cannot_be_completed_is_told_after_the_others_are(tmp_path: Path) -> None:
    outputs = Outputs(sinks(tmp_path))
    outputs.write(frame(0), NOBODY)
    (tmp_path / "a.mp4").mkdir()
    with pytest.raises(SinkError, match=r"a\.mp4: cannot be written"):
        outputs.close()
    outputs.close()
    assert names(tmp_path) == ["a.mp4", "c.json", "p.jsonl"]
    assert json.loads((tmp_path / "c.json").read_text()) == []


def test_where_one_cannot_be_opened_the_others_leave_nothing(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").mkdir()
    with pytest.raises(SinkError, match="folder of that name"):
        Outputs(sinks(tmp_path))
    assert names(tmp_path) == ["p.jsonl"]


def test_without_a_frame_an_earlier_result_stands(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text("[1]")
    Outputs(sinks(tmp_path)).close()
    assert names(tmp_path) == ["c.json"]
    assert (tmp_path / "c.json").read_text() == "[1]"
