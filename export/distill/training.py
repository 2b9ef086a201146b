"""`Training`: everything that changes while a student learns, one step at a time; saved as a whole and continued from there."""

from __future__ import annotations

import copy
import math
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgepose.engines.contract import ModelContract
from edgepose.engines.errors import CheckpointError, ConfigError
from edgepose.export.checkpoint import content_of, save_content
from edgepose.export.distill.augment import Camera
from edgepose.export.distill.clock import WorkingClock
from edgepose.export.distill.optimiser import Muon, learning_rate
from edgepose.export.distill.pupil import Losses, Pupil, losses
from edgepose.export.distill.settings import Settings
from edgepose.export.distill.supply import Stock, Supply
from edgepose.export.distill.teacher import Lesson

_VERSION = 2
_BATCHES_STOCKED_FIRST = 8
_AVERAGED_STEPS = 1000
_LONGEST_GRADIENT = 1.0


class Training:
    """A pupil, its average, optimisers and counters. Raises ConfigError where the teacher's maps do not suit the student."""

    def __init__(self, pupil: Pupil, teacher: ModelContract, student: ModelContract, settings: Settings, device: torch.device) -> None:
        self._settings, self._device = settings, device
        self.pooling = map_pooling(teacher, student)
        self._background = student.output.heatmap_channels - 1 if student.output.background else None
        self._mean, self._std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (student.input.mean, student.input.std))
        self.pupil = pupil.to(device, memory_format=torch.channels_last).train()
        self.average = copy.deepcopy(self.pupil).eval().requires_grad_(False)
        self._optimisers = _optimisers(self.pupil, settings)
        self._run: Any = torch.compile(self.pupil) if settings.compile else self.pupil
        self._random = torch.Generator().manual_seed(settings.seed)
        self._camera = Camera(settings.seed + 1)
        self._stock: Stock
        self.clock = self._clock(0.0)
        self.step = self.pictures = 0
        self._crops = 0
        """Batches of crops taken from the supply."""
        self._owed = 0.0

    @property
    def progress(self) -> float:
        """0 to 1; beyond 1 the training is over."""
        if self._settings.steps is not None:
            return self.step / self._settings.steps
        return self.clock.worked_s / (60 * self._settings.minutes)

    def first_crops(self, batch: int) -> int:
        """The number that a supply in batches of this size must begin with: the oldest of those that the stock held."""
        return max(0, self._crops - math.ceil(self._settings.stock / batch))

    def fill(self, supply: Supply, stop: threading.Event) -> None:
        """Before the first step: what the stock held when the training was saved, so that it goes on as if never stopped; at its
        beginning, some batches. Ends early when `stop` is set."""
        self._stock = Stock(self._settings.stock, supply.first * supply.batch_size)
        self._crops = self._crops or math.ceil(_BATCHES_STOCKED_FIRST * self._settings.batch / supply.batch_size)
        for _ in range(supply.first, self._crops):
            if stop.is_set():
                return
            self._stock.add(supply.next())

    def learn(self, supply: Supply) -> Losses:
        """One step, after `fill`. The losses are those before it, without gradients. Raises ConfigError where the training diverges."""
        self._restock(supply)
        batch = self._stock.draw(self._settings.batch, self._random)
        rate = learning_rate(self._settings.learning_rate, self.step, self.progress)
        for optimiser in self._optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.zero_grad(set_to_none=True)
        pictures = self._normalised(self._camera.shoot(self._floats(batch.pictures)))
        wanted = self.suited(batch.lesson)
        with supply.turn if self._device.type == "cpu" else nullcontext():
            loss = self._descend(pictures, wanted)
        self.step += 1
        self.pictures += self._settings.batch
        self._follow()
        return Losses(loss.maps.detach(), loss.guess.detach(), loss.features.detach())

    def _descend(self, pictures: Tensor, wanted: Lesson) -> Losses:
        with self._autocast():
            found = self._run(pictures)
        loss = losses(found, wanted, self._background)
        loss.total.backward()
        norm = nn.utils.clip_grad_norm_(self.pupil.parameters(), _LONGEST_GRADIENT)
        if not norm.isfinite():  # a step along it would make every weight NaN, and the next save would keep them
            found = f"loss of maps {loss.maps:.3g}, of features {loss.features:.3g}"
            raise ConfigError(
                f"step {self.step + 1}: the gradient is {norm:.3g} ({found}): what was saved before stays: try a smaller --learning-rate,"
                " with another --out if it does not recover"
            )
        for optimiser in self._optimisers:
            optimiser.step()
        return loss

    def seen_by_average(self, pictures: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 BGR -> maps (N, channels, h, w) of the averaged student."""
        with torch.no_grad(), self._autocast():
            heatmaps, pafs = self.average.student(self._normalised(self._floats(pictures)))
        return torch.cat([heatmaps, pafs], 1).float()

    def suited(self, lesson: Lesson) -> Lesson:
        """On the training device, with the student's cells."""
        tensors = [t.to(self._device) for t in (lesson.maps, *lesson.features)]
        if self.pooling > 1:
            tensors = [nn.functional.avg_pool2d(t.float(), self.pooling) for t in tensors]
        return Lesson(tensors[0], tuple(tensors[1:]))

    def save(self, path: Path) -> None:
        """The whole state; the file is complete or not there. Raises SinkError."""
        state = {
            "version": _VERSION,
            "student": self._settings.student,
            "pupil": self.pupil.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self._optimisers],
            "random": self._random.get_state(),
            "camera": self._camera.random.get_state(),
            "step": self.step,
            "pictures": self.pictures,
            "crops": self._crops,
            "owed": self._owed,
            "worked_s": self.clock.worked_s,
        }
        save_content(path, state)

    def load(self, path: Path) -> None:
        """Raises CheckpointError for a file that `save` did not write, and ConfigError where it belongs to another training."""
        state = _state_from_file(path)
        if state["student"] != self._settings.student:
            raise ConfigError(f"{path}: holds a training of {state['student']}, asked for {self._settings.student}: give another --out")
        try:
            self.pupil.load_state_dict(state["pupil"])
            self.average.load_state_dict(state["average"])
            for optimiser, kept in zip(self._optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(kept)
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:160]
            raise ConfigError(f"{path}: belongs to another teacher or optimiser ({reason}): give those again, or another --out") from error
        self._random.set_state(state["random"])
        self._camera.random.set_state(state["camera"])
        self.step, self.pictures = state["step"], state["pictures"]
        self._crops, self._owed = state["crops"], state["owed"]
        self.clock = self._clock(state["worked_s"])

    def _restock(self, supply: Supply) -> None:
        """A labelled crop arrives for every `reuse` that are drawn."""
        self._owed += self._settings.batch / self._settings.reuse
        while self._owed >= supply.batch_size:
            self._stock.add(supply.next())
            self._owed -= supply.batch_size
            self._crops += 1

    def _clock(self, worked_s: float) -> WorkingClock:
        """On a CPU the time of its cores, since another program may have them for a while; on a GPU that of the wall."""
        if self._device.type != "cpu":
            return WorkingClock(worked_s)
        return WorkingClock(worked_s, lambda: time.process_time() / torch.get_num_threads())

    def _floats(self, pictures: Tensor) -> Tensor:
        return pictures.to(self._device).permute(0, 3, 1, 2).float()

    def _normalised(self, pictures: Tensor) -> Tensor:
        return ((pictures - self._mean) / self._std).contiguous(memory_format=torch.channels_last)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._device.type, dtype=torch.bfloat16)

    def _follow(self) -> None:
        """An exponential moving average over about the last thousand steps."""
        share = 1 / min(_AVERAGED_STEPS, 1 + self.step / 10)
        pairs = list(zip(self.average.state_dict().values(), self.pupil.state_dict().values(), strict=True))
        kept, new = zip(*[(a, b) for a, b in pairs if a.is_floating_point()], strict=True)
        with torch.no_grad():
            torch._foreach_lerp_(list(kept), list(new), share)


def map_pooling(teacher: ModelContract, student: ModelContract) -> int:
    """How many of the teacher's cells make one of the student's, along each axis. Raises ConfigError."""
    fine, coarse = teacher.output.stride, student.output.stride
    if coarse % fine:
        raise ConfigError(f"the teacher's maps have stride {fine}, the student's {coarse}: wanted a divisor of {coarse}")
    return coarse // fine


def _optimisers(pupil: Pupil, settings: Settings) -> list[torch.optim.Optimizer]:
    """Muon takes the convolutions between the first one and the heads' last; AdamW everything else."""
    rate = settings.learning_rate
    if settings.optimiser == "adamw":
        return [torch.optim.AdamW(pupil.parameters(), rate, weight_decay=1e-4)]
    inner = [p for p in pupil.student.parameters() if p.ndim == 4 and p.shape[1] > 3 and p.shape[-1] > 1]
    chosen = {id(p) for p in inner}
    others = [p for p in pupil.parameters() if id(p) not in chosen]
    return [Muon(inner, rate, weight_decay=0.02), torch.optim.AdamW(others, rate, weight_decay=1e-4)]


def _state_from_file(path: Path) -> dict[str, Any]:
    try:
        state = content_of(path)
    except CheckpointError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise CheckpointError(f"{path}: not a training that pose-distill saved ({reason}): remove it to begin anew") from error
    if not isinstance(state, dict) or state.get("version") != _VERSION:
        raise CheckpointError(f"{path}: not a training of this version: remove it to begin anew, or give another --out")
    return state
