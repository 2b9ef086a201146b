import numpy as np
from numpy.typing import NDArray

MOST_PEAKS: int
MOST_LIMBS: int

def instruction_sets() -> list[str]: ...

class Parser:
    def __init__(
        self,
        types: int,
        limbs: list[tuple[int, int, int, int]],
        *,
        threshold: float,
        most_peaks: int,
        samples: int,
        along: float,
        share: float,
        near: float,
        length_cost: float,
        reach: float,
        minimum_keypoints: int,
        minimum_score: float,
        most_persons: int,
        instructions: str,
    ) -> None: ...
    @property
    def instructions(self) -> str: ...
    def parse(self, heatmaps: NDArray[np.floating], pafs: NDArray[np.floating]) -> tuple[NDArray[np.float32], NDArray[np.float32]]: ...
    def microseconds(self, heatmaps: NDArray[np.float32], pafs: NDArray[np.float32], rounds: int, repeats: int) -> tuple[float, float]: ...
