"""Two results files of one benchmark: which figures differ by more than their own rounds do."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgepose.engines.errors import ConfigError
from edgepose.engines.record import read_json

_SAME_MACHINE = ("processor", "cores", "machine", "arithmetic", "power_mode")
_DRAWS = 2000
_TURNS = ("engine", "memory", "file", "sequential")
_LEAST_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Comparison:
    """Medians of the rounds of both files; `ratio` is second over first, between `low` and `high` with 95 % confidence."""

    figure: str
    first: float
    second: float
    ratio: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        return "faster" if self.low > 1 else "slower" if self.high < 1 else "no difference to be seen"


def comparisons(first: Path, second: Path, anyway: bool = False) -> list[Comparison]:
    """Of files of `pose-bench pipeline --json` or `pose-bench engine --json`, in frames a second.

    The interval is the bootstrap's over rounds (B. Efron, R. Tibshirani, "An Introduction to the Bootstrap", 1993), each file's drawn for
    itself. Raises ConfigError for other files, too few rounds, and for two machines or power modes, unless `anyway`.
    """
    a, b = _read(first), _read(second)
    other = [key for key in _SAME_MACHINE if a["environment"].get(key) != b["environment"].get(key)]
    if other and not anyway:
        told = "; ".join(f"{key} {a['environment'].get(key)!r} and {b['environment'].get(key)!r}" for key in other)
        raise ConfigError(f"{first} and {second} were not measured alike ({told}): measure again, or compare --anyway")
    mine, theirs = _samples(a, first), _samples(b, second)
    if mine.keys() != theirs.keys():
        raise ConfigError(f"{first} holds {', '.join(mine)}, {second} {', '.join(theirs)}: wanted two files of the same command")
    return [_compared(name, mine[name], theirs[name]) for name in mine]


def _compared(name: str, first: Sequence[float], second: Sequence[float]) -> Comparison:
    rng = np.random.default_rng(0)
    drawn = [np.median(rng.choice(values, (_DRAWS, len(values))), axis=1) for values in (np.array(first), np.array(second))]
    low, high = np.percentile(drawn[1] / drawn[0], [2.5, 97.5]).tolist()
    a, b = float(np.median(first)), float(np.median(second))
    return Comparison(name, a, b, b / a, low, high)


def _read(path: Path) -> dict[str, Any]:
    data = read_json(path)
    if not isinstance(data, dict) or not isinstance(data.get("environment"), dict):
        raise ConfigError(f"{path}: wanted a results file, as pose-bench writes it with --json")
    return data


def _samples(data: dict[str, Any], path: Path) -> dict[str, list[float]]:
    """Figure -> its value in each round."""
    try:
        found = _rates(data)
        sound = all(math.isfinite(rate) and rate > 0 for rates in found.values() for rate in rates)
    except (ArithmeticError, KeyError, TypeError):  # a file of another shape
        sound = False
    if not sound:
        raise ConfigError(f"{path}: wanted a file of pose-bench pipeline or pose-bench engine, with rates above 0")
    if min(map(len, found.values())) < _LEAST_ROUNDS:
        raise ConfigError(f"{path}: fewer than {_LEAST_ROUNDS} rounds tell no noise: measure longer")
    return found


def _rates(data: dict[str, Any]) -> dict[str, list[float]]:
    """As the file has them: nothing is checked."""
    if data.get("cases"):
        names = _numbered(str(case["bundle"]) for case in data["cases"])
        return dict(zip(names, [case["per_second"] for case in data["cases"]], strict=True))
    return {name: [r[name]["count"] / r[name]["seconds"] for r in data["report"]["rounds"]] for name in _TURNS}


def _numbered(names: Iterable[str]) -> Iterator[str]:
    """Bundles in different folders may share a name: the second of it is "NAME (2)", so that it meets the other file's second."""
    seen: Counter[str] = Counter()
    for name in names:
        seen[name] += 1
        yield f"{name} ({seen[name]})" if seen[name] > 1 else name
