"""`Supply`: labelled crops from a thread of their own; `Stock`: those that the student draws from."""

from __future__ import annotations

import logging
import math
import queue
import threading
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from edgepose.export.distill.album import Album, Picture
from edgepose.export.distill.augment import Panel, View, crop_into, random_panels, random_view
from edgepose.export.distill.teacher import Lesson, Teacher

logger = logging.getLogger(__name__)
_AHEAD = 4


class Labels(Protocol):
    """What people have marked on some pictures of an album."""

    def knows(self, picture: int) -> bool: ...

    def correct(self, maps: Tensor, picture: int, view: View) -> None:
        """Writes what is marked into a crop's maps (channels, h, w), in place; they may be a part of larger ones."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Crops, (N, side, side, 3) uint8 BGR, and what the teacher (and the labels) say of them."""

    pictures: Tensor
    lesson: Lesson


@dataclass(frozen=True, slots=True)
class Crop:
    """What a panel shows: a picture of the album, by its place there, and how."""

    panel: Panel
    picture: int
    view: View


class Supply:
    """Batches from `first` on; the same seed and number give the same crops. A context manager: leaving it ends the thread.

    `turn` is held while the teacher works: where student and teacher share a processor, a step of each in turn is faster than both at
    once, because their threads would wait for one another.
    """

    def __init__(self, album: Album, teacher: Teacher, batch: int, seed: int, first: int = 0, labels: Labels | None = None) -> None:
        self._album, self._teacher, self._seed, self._labels = album, teacher, seed, labels
        self.batch_size, self.first = batch, first
        self.turn = threading.Lock()
        self._ready: queue.Queue[Batch | Exception] = queue.Queue(_AHEAD)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(first,), name="teacher", daemon=True)

    def __enter__(self) -> Supply:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        while self._thread.is_alive():
            self._drain()
            self._thread.join(0.05)

    def next(self) -> Batch:
        """Blocks until the next one is ready. Raises what the teacher's thread raised."""
        found = self._ready.get()
        if isinstance(found, Exception):
            raise found
        return found

    def batch(self, number: int) -> Batch:
        """The batch of this number, made at once in the caller's thread."""
        random = np.random.default_rng([self._seed, number])
        side = self._teacher.contract.input.height
        pictures = np.empty((self.batch_size, side, side, 3), np.uint8)
        collages = [[self._cropped(target, panel, random) for panel in random_panels(side, random)] for target in pictures]
        with self.turn:
            lesson = self._teacher.teach(pictures)
        for maps, collage in zip(lesson.maps, collages, strict=True):
            for crop in collage:
                self._correct(maps, crop)
        return Batch(torch.from_numpy(pictures), lesson)

    def _cropped(self, target: Picture, panel: Panel, random: np.random.Generator) -> Crop:
        crop = target[panel]
        chosen = int(random.integers(len(self._album)))
        picture = self._album.pictures[chosen]
        (h, w), (crop_h, crop_w) = picture.shape[:2], crop.shape[:2]
        smaller = math.sqrt(crop_h * crop_w) / len(target)
        view = random_view((w, h), (crop_w, crop_h), random, smaller, tile=not self._knows(chosen))
        crop_into(crop, picture, view)
        return Crop(panel, chosen, view)

    def _correct(self, maps: Tensor, crop: Crop) -> None:
        if self._labels and self._knows(crop.picture):
            stride = self._teacher.contract.output.stride
            rows, columns = (slice(part.start // stride, part.stop // stride) for part in crop.panel)
            self._labels.correct(maps[:, rows, columns], crop.picture, crop.view)

    def _knows(self, picture: int) -> bool:
        return self._labels is not None and self._labels.knows(picture)

    def _work(self, number: int) -> None:
        try:
            while not self._stop.is_set():
                self._ready.put(self.batch(number))
                number += 1
        except Exception as error:  # the student's thread raises it
            logger.exception("the teacher's thread ends")
            self._ready.put(error)

    def _drain(self) -> None:
        try:
            while True:
                self._ready.get_nowait()
        except queue.Empty:
            return


class Stock:
    """The newest crops, from which batches are drawn at random: labelling one costs as much as learning from it, so each serves a few
    times. Tensors stay on the CPU. `before` crops have come and gone: the next one stands where it would stand after them."""

    def __init__(self, capacity: int, before: int = 0) -> None:
        self._capacity, self._before, self._added = capacity, before, 0
        self._kept: list[Tensor] = []

    def __len__(self) -> int:
        return min(self._capacity, self._added)

    def add(self, batch: Batch) -> None:
        """Replaces the oldest."""
        arriving = [batch.pictures, batch.lesson.maps, *batch.lesson.features]
        if not self._kept:
            self._kept = [torch.empty(self._capacity, *t.shape[1:], dtype=t.dtype) for t in arriving]
        for one in range(len(batch.pictures)):
            place = (self._before + self._added) % self._capacity
            for kept, tensor in zip(self._kept, arriving, strict=True):
                kept[place] = tensor[one]
            self._added += 1

    def draw(self, count: int, random: torch.Generator) -> Batch:
        chosen = torch.randint(len(self), (count,), generator=random)
        pictures, maps, *features = (kept[chosen] for kept in self._kept)
        return Batch(pictures, Lesson(maps, tuple(features)))
