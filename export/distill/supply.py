"""`Supply`: labelled crops from a thread of their own; `Stock`: those that the student draws from."""

from __future__ import annotations

import logging
import queue
import threading
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from edgepose.export.distill.album import Album, Picture
from edgepose.export.distill.augment import View, crop_into, random_view
from edgepose.export.distill.teacher import Lesson, Teacher

logger = logging.getLogger(__name__)
_AHEAD = 4


class Labels(Protocol):
    """What people have marked on some pictures of an album."""

    def knows(self, picture: int) -> bool: ...

    def correct(self, maps: Tensor, picture: int, view: View) -> None:
        """Writes what is marked into a crop's maps (channels, h, w), in place."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Crops, (N, side, side, 3) uint8 BGR, and what the teacher (and the labels) say of them."""

    pictures: Tensor
    lesson: Lesson


class Supply:
    """Batches from `first` on; the same seed and number give the same crops. A context manager: leaving it ends the thread.

    `turn` is held while the teacher works: where student and teacher share a processor, a step of each in turn is faster than both at
    once, because their threads would wait for one another.
    """

    def __init__(self, album: Album, teacher: Teacher, batch: int, seed: int, first: int = 0, labels: Labels | None = None) -> None:
        self._album, self._teacher, self._seed, self._labels = album, teacher, seed, labels
        self.batch_size = batch
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
        chosen = [self._cropped(target, random) for target in pictures]
        with self.turn:
            lesson = self._teacher.teach(pictures)
        for maps, (picture, view) in zip(lesson.maps, chosen, strict=True):
            if self._labels and self._labels.knows(picture):
                self._labels.correct(maps, picture, view)
        return Batch(torch.from_numpy(pictures), lesson)

    def _cropped(self, target: Picture, random: np.random.Generator) -> tuple[int, View]:
        chosen = int(random.integers(len(self._album)))
        picture = self._album.pictures[chosen]
        h, w = picture.shape[:2]
        labelled = self._labels is not None and self._labels.knows(chosen)
        view = random_view((w, h), target.shape[0], random, may_tile=not labelled)
        crop_into(target, picture, view)
        return chosen, view

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
    times. Tensors stay on the CPU."""

    def __init__(self, capacity: int) -> None:
        self._capacity, self._filled, self._place = capacity, 0, 0
        self._kept: list[Tensor] = []

    def __len__(self) -> int:
        return self._filled

    def add(self, batch: Batch) -> None:
        """Replaces the oldest."""
        arriving = [batch.pictures, batch.lesson.maps, *batch.lesson.features]
        if not self._kept:
            self._kept = [torch.empty(self._capacity, *t.shape[1:], dtype=t.dtype) for t in arriving]
        for one in range(len(batch.pictures)):
            for kept, tensor in zip(self._kept, arriving, strict=True):
                kept[self._place] = tensor[one]
            self._place = (self._place + 1) % self._capacity
            self._filled = min(self._capacity, self._filled + 1)

    def draw(self, count: int, random: torch.Generator) -> Batch:
        chosen = torch.randint(self._filled, (count,), generator=random)
        pictures, maps, *features = (kept[chosen] for kept in self._kept)
        return Batch(pictures, Lesson(maps, tuple(features)))
