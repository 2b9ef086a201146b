"""Speed and accuracy of the PAF parser on synthetic people.

The workload and its scorer lie beside the project (`shared/paf`: workload.py, score.py); speed is given as a multiple of one pass over the
same maps, measured in the same run, so that the machine cancels out.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepose.engines.errors import BackendUnavailable, ConfigError
from edgepose.engines.skeleton import COCO18, TRT_POSE18, Skeleton
from edgepose.runtime.paf import PafParser
from edgepose.runtime.paf_parameters import PafParameters
from edgepose.runtime.poses import Poses

Maps = tuple[NDArray[np.float32], NDArray[np.float32]]
_SKELETONS = {"trt": TRT_POSE18, "op": COCO18}
_NOISE = {"trt": 0.01, "op": 0.008}


@dataclass(frozen=True, slots=True)
class ParserCase:
    """One row: `persons` people a frame. Times are CPU microseconds, medians over the frames; positions in cells.

    `python_us` is what a call from Python takes longer, the result object included. `recall_levels` is the recall on maps of 256 levels.
    """

    workload: str
    persons: int
    frames: int
    one_pass_us: float
    parse_us: float
    multiple: float
    python_us: float
    recall: float
    recall_levels: float
    extra_persons: float
    location_error: float


class Workload:
    """The synthetic people of a folder that holds workload.py and score.py. Raises ConfigError, and BackendUnavailable without SciPy."""

    def __init__(self, folder: Path) -> None:
        self._maker, self._scorer = _module(folder / "workload.py"), _module(folder / "score.py")
        self.names = tuple(self._maker.CONFIGS)

    def frames(self, name: str, persons: int, count: int, seed: int) -> tuple[list[Maps], list[Any], Skeleton]:
        """Maps, true people, skeleton."""
        layout, height, width = self._maker.CONFIGS[name]
        rng = np.random.default_rng([seed, persons, height])
        scenes = [self._maker.scene(rng, persons, height, width) for _ in range(count)]
        maps = [self._maker.render(rng, scene, height, width, layout, _NOISE[layout]) for scene in scenes]
        truth = [[[[*xy, int(v)] for xy, v in zip(k.tolist(), visible, strict=True)] for k, visible in scene] for scene in scenes]
        return maps, truth, _SKELETONS[layout]

    def score(self, people: Sequence[Poses], truth: list[Any], skeleton: Skeleton) -> dict[str, float]:
        """recall, extra persons a frame, location error."""
        order = range(18) if skeleton is TRT_POSE18 else np.argsort(self._maker.OP2TRT)
        frames = [[[None if not p[k, 2] else p[k].tolist() for k in order] for p in poses.keypoints] for poses in people]
        found = self._scorer.score(frames, truth)
        return {"recall": found["recall"], "extra": found["false_persons_per_frame"], "error": found["loc_err_cells"] or 0.0}


def parser_case(
    workload: Workload, name: str, persons: int, frames: int, seed: int, parameters: PafParameters, instructions: str = "auto"
) -> ParserCase:
    """Checks what the parser finds, then times it."""
    maps, truth, skeleton = workload.frames(name, persons, frames, seed)
    parser = PafParser(skeleton, parameters, instructions)
    found = workload.score([parser.parse(*m) for m in maps], truth, skeleton)
    levels = workload.score([parser.parse(_levels(heat), _levels(paf)) for heat, paf in maps], truth, skeleton)
    times = [parser.microseconds(*m) for m in maps]
    python = [_python_us(parser, m) - parse for m, (parse, _) in zip(maps, times, strict=True)]
    parse_us, one_pass_us = statistics.median(t for t, _ in times), statistics.median(t for _, t in times)
    return ParserCase(
        workload=name,
        persons=persons,
        frames=frames,
        one_pass_us=one_pass_us,
        parse_us=parse_us,
        multiple=parse_us / one_pass_us,
        python_us=statistics.median(python),
        recall=found["recall"],
        recall_levels=levels["recall"],
        extra_persons=found["extra"],
        location_error=found["error"],
    )


def _levels(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rounded to 256 levels over the range of all channels, as one INT8 tensor would be."""
    low, high = float(maps.min()), float(maps.max())
    step = (high - low) / 255
    return (np.round((maps - low) / step) * step + low).astype(np.float32)


def _python_us(parser: PafParser, maps: Maps, rounds: int = 9, repeats: int = 20) -> float:
    times = []
    for _ in range(rounds):
        begin = time.thread_time_ns()
        for _ in range(repeats):
            parser.parse(*maps)
        times.append((time.thread_time_ns() - begin) / repeats / 1e3)
    return statistics.median(times)


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"edgepose_workload_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigError(f"{path}: not there: --workload wants the folder with workload.py and score.py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        raise BackendUnavailable(f"{path.name} needs {error.name}: pip install 'edgepose[bench]'") from error
    return module
