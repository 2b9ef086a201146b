"""`Course`: a training from its beginning, or from where it was stopped, to its end; what happens meanwhile is told to a `Listener`."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import nn

from edgepose.engines.contract import ModelContract
from edgepose.export.checkpoint import save_content
from edgepose.export.distill.diary import Diary
from edgepose.export.distill.pupil import Losses
from edgepose.export.distill.settings import Settings
from edgepose.export.distill.sheet import write_sheet
from edgepose.export.distill.supply import Batch, Supply
from edgepose.export.distill.teacher import Lesson
from edgepose.export.distill.training import Training

_SHOWN = 6
_FIRST_SHEET = 1 << 40
"""Number of the batch that sheets show: one that no training reaches."""
_SMOOTHED_STEPS = 100


@dataclass(frozen=True, slots=True)
class Report:
    """`maps`, `guess` and `features` are losses averaged over about a hundred steps, NaN before the first step of this run; `rate` is
    pictures a second of work."""

    step: int
    pictures: int
    progress: float
    worked_s: float
    rate: float
    maps: float
    guess: float
    features: float

    @property
    def remaining_s(self) -> float:
        return self.worked_s * (1 / max(self.progress, 1e-6) - 1)

    def record(self) -> dict[str, float | None]:
        """For JSON, which knows no NaN."""
        return {key: None if math.isnan(value) else value for key, value in asdict(self).items()}


Listener = Callable[[Report], None]


@dataclass(frozen=True, slots=True)
class Files:
    """Everything that a training writes stands beside the weights: NAME.pth, NAME.state.pt to continue from, NAME.jsonl, NAME.sheets/."""

    weights: Path

    @property
    def state(self) -> Path:
        return self._beside(".state.pt")

    @property
    def diary(self) -> Path:
        return self._beside(".jsonl")

    @property
    def sheets(self) -> Path:
        return self._beside(".sheets")

    def _beside(self, suffix: str) -> Path:
        """A name like run-0.001 has no suffix: another training may be called run-0.002."""
        name = self.weights.stem if self.weights.suffix[1:].isalpha() else self.weights.name
        return self.weights.with_name(name + suffix)


class Course:
    """Runs a training to its end in the caller's thread; `stop` may be set from another one or by a signal."""

    def __init__(
        self,
        training: Training,
        settings: Settings,
        contract: ModelContract,
        files: Files,
        cfg: dict[str, str],
        stop: threading.Event,
    ) -> None:
        self._training, self._settings, self._contract, self._files = training, settings, contract, files
        self._cfg, self._stop = cfg, stop
        self._diary = Diary(files.diary)
        self._smooth: tuple[float, ...] = ()
        self._observed = 0
        self._since_save = self._since_sheet = 0.0
        self._rate_from = (training.clock.worked_s, training.pictures)

    def run(self, supply: Supply, listener: Listener) -> Report:
        """Learns until the time or the steps are over, or `stop` is set; then everything learned is saved. Raises SinkError."""
        training = self._training
        shown = supply.batch(_FIRST_SHEET)
        with supply:
            if training.progress < 1:
                training.fill(supply, self._stop)
            training.clock.restart()
            while training.progress < 1 and not self._stop.is_set():
                losses = training.learn(supply)
                taken = training.clock.tick()
                self._observe(losses)
                self._since_save += taken
                self._since_sheet += taken
                if training.step % _SMOOTHED_STEPS == 0:
                    self._diary.write("progress", self.report().record())
                if self._since_sheet >= 60 * self._settings.sheet_minutes:
                    self._sheet(shown)
                if self._since_save >= 60 * self._settings.checkpoint_minutes:
                    self.save()
                listener(self.report())
        if training.step:  # weights that have learned nothing are for nobody
            self._sheet(shown)
            self.save()
        self._diary.write("stopped" if training.progress < 1 else "finished", self.report().record())
        return self.report()

    def report(self) -> Report:
        training = self._training
        worked, pictures = self._rate_from
        rate = (training.pictures - pictures) / max(1e-9, training.clock.worked_s - worked)
        return Report(
            training.step, training.pictures, training.progress, training.clock.worked_s, rate, *(self._smooth or (math.nan,) * 3)
        )

    def save(self) -> None:
        """The state first: weights without it could not be continued. Raises SinkError."""
        self._training.save(self._files.state)
        save_weights(self._files.weights, self._training.average.student, self._cfg | {"steps": str(self._training.step)})
        self._since_save = 0.0

    def _observe(self, losses: Losses) -> None:
        new = (float(losses.maps), float(losses.guess), float(losses.features))
        self._observed += 1
        share = 1 / min(self._observed, _SMOOTHED_STEPS)
        self._smooth = tuple((1 - share) * a + share * b for a, b in zip(self._smooth or new, new, strict=True))

    def _sheet(self, batch: Batch) -> None:
        """Pictures that are never learned from, as the averaged student sees them now."""
        training = self._training
        few = Batch(batch.pictures[:_SHOWN], Lesson(batch.lesson.maps[:_SHOWN], ()))
        suited = Batch(few.pictures, training.suited(few.lesson))
        write_sheet(self._files.sheets / f"{training.step:07d}.jpg", suited, training.seen_by_average(few.pictures), self._contract)
        self._since_sheet = 0.0


def save_weights(path: Path, student: nn.Module, cfg: dict[str, str]) -> None:
    """What `pose-export --weights` reads: {"state_dict", "cfg"}; convolutions in FP16, a normalisation's few numbers, whose range is wide,
    in FP32. Raises SinkError."""
    state = {name: value.half() if value.ndim == 4 else value for name, value in student.state_dict().items()}
    kept = {name: value.contiguous().cpu() for name, value in state.items() if not name.endswith("num_batches_tracked")}
    save_content(path, {"state_dict": kept, "cfg": cfg})
