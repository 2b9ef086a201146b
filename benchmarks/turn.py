"""`Turn`: a stretch of steady work and what it cost; every comparison is made of turns that alternate in one run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Turn:
    """`count` things done in `seconds`; `cpu_ms` is this process's CPU time for each, of all threads."""

    count: int
    seconds: float
    cpu_ms: float

    @property
    def per_second(self) -> float:
        return self.count / self.seconds


def turn_of(do: Callable[[], object], seconds: float, warm_up: int = 1) -> Turn:
    """Does it over and over, for `seconds` at least, after `warm_up` that do not count."""
    for _ in range(warm_up):
        do()
    count, cpu, began = 0, time.process_time(), time.perf_counter()
    while (took := time.perf_counter() - began) < seconds or not count:
        do()
        count += 1
    return Turn(count, took, 1e3 * (time.process_time() - cpu) / count)


@dataclass(frozen=True, slots=True)
class Distribution:
    """Of `n` values in milliseconds."""

    n: int
    mean: float
    p50: float
    p90: float
    p99: float
    max: float


def distribution_of(milliseconds: Sequence[float]) -> Distribution:
    values = np.array(milliseconds)
    p50, p90, p99 = np.percentile(values, [50, 90, 99]).tolist()
    return Distribution(len(values), float(values.mean()), p50, p90, p99, float(values.max()))
