"""`Settings`: how a student is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Optimiser = Literal["muon", "adamw"]


@dataclass(frozen=True, slots=True)
class Settings:
    """`crop` is the side of the training pictures in pixels, `reuse` how often a labelled crop is shown on average, `stock` how many are
    kept. The training ends after `minutes` of work, pauses left out, or after `steps` if that is given; both count from its very
    beginning, over all resumed runs."""

    student: str
    minutes: float = 60.0
    steps: int | None = None
    batch: int = 32
    crop: int = 192
    reuse: int = 4
    stock: int = 4096
    learning_rate: float = 3e-3
    optimiser: Optimiser = "muon"
    seed: int = 0
    compile: bool = False
    checkpoint_minutes: float = 3.0
    sheet_minutes: float = 5.0
