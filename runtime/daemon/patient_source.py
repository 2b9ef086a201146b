"""`PatientSource`: a camera that never ends: what cannot be opened, ends or fails is tried again and again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from threading import Event
from time import perf_counter

from edgepose.engines.errors import EdgePoseError
from edgepose.runtime.live import Health, LiveSource
from edgepose.runtime.sources import Frame, Source, Stoppable

logger = logging.getLogger(__name__)
_PAUSES_S = (0.5, 1.0, 2.0, 5.0)
_PICTURE_S = 1.0
"""How long a picture without a time of its own is shown."""
_AGAIN_S, _LONGEST_AGAIN_S = 60.0, 3600.0
"""A camera that stays away for the same reason is complained of again after the first, then each time after twice as long, up to the last.
One that gave pictures for the first is a new matter."""


class PatientSource:
    """`opened` gives the source, anew each time. A file is shown at its own pace, over and over. Frames are counted and timed from the
    first on, whatever happens to the source; of more than `max_fps` a second the rest is left out."""

    count = None
    fps = None
    is_video = True
    is_live = True

    def __init__(self, name: str, opened: Callable[[], Source], max_fps: float | None = None) -> None:
        self.name, self.trouble = name, ""
        self._opened, self._least_s = opened, 1 / max_fps if max_fps else 0.0
        self._source: Source | None = None
        self._past = Health()
        self._stopped = Event()
        self._said, self._again_s, self._quiet_s = "", 0.0, _AGAIN_S

    @property
    def health(self) -> Health:
        """Of all its connections."""
        source, past = self._source, self._past  # the thread that reads may let go of it at any time
        now = source.health if isinstance(source, LiveSource) else Health()
        return Health(
            past.reconnections + now.reconnections, past.garbage + now.garbage, past.jumps + now.jumps, past.frozen + now.frozen, now.lost
        )

    def frames(self) -> Iterator[Frame]:
        """`time_s` is since the first frame; `trouble` says why none comes, where none does."""
        began, index, last_s, due_s, pause = perf_counter(), 0, -1.0, 0.0, 0
        while not self._stopped.is_set():
            shift_s, seen_s, mistake = perf_counter() - began, 0.0, None
            try:
                self._source = self._opened()
                for frame in self._paced(self._source):
                    if self._stopped.is_set():
                        return
                    self.trouble, pause, seen_s = "", 0, seen_s or perf_counter()
                    time_s = shift_s + (frame.time_s or 0.0)
                    if time_s >= due_s:
                        last_s, due_s = max(time_s, last_s + 1e-6), max(due_s + self._least_s, time_s)
                        yield replace(frame, name=f"{self.name}_{index:012d}", index=index, time_s=last_s)
                        index += 1
                if not self._source.is_live:
                    continue
                self.trouble = "the stream ended"
            except EdgePoseError as error:
                self.trouble = " ".join(str(error).split())
            except Exception as error:  # what this thread is for; a camera that trips over a mistake of ours must come back too
                self.trouble, mistake = f"internal error: {type(error).__name__}", error
            self._past = replace(self.health, reconnections=self.health.reconnections + 1)
            self._source = None
            self._complain(mistake, seen_s > 0 and perf_counter() - seen_s > _AGAIN_S)
            self._stopped.wait(_PAUSES_S[pause])
            pause = min(pause + 1, len(_PAUSES_S) - 1)

    def stop(self) -> None:
        """Has `frames` end as soon as the source lets it. From any thread, for good."""
        self._stopped.set()
        source = self._source
        if isinstance(source, Stoppable):
            source.stop()

    def _complain(self, mistake: Exception | None, steady: bool) -> None:
        """A camera that is down for days fills no log."""
        now = perf_counter()
        if steady or self.trouble != self._said:
            self._quiet_s = _AGAIN_S
        elif now < self._again_s:
            return
        self._said, self._again_s, self._quiet_s = self.trouble, now + self._quiet_s, min(2 * self._quiet_s, _LONGEST_AGAIN_S)
        if mistake is not None:
            logger.error("camera %s: a mistake in edgepose, please report it", self.name, exc_info=mistake)
        logger.warning("camera %s: %s: trying again", self.name, self.trouble)

    def _paced(self, source: Source) -> Iterator[Frame]:
        """A live source as it is, another at the pace of its own clock."""
        if source.is_live:
            yield from source.frames()
            return
        began = perf_counter()
        for index, frame in enumerate(source.frames()):
            due_s = index * _PICTURE_S if frame.time_s is None else frame.time_s
            if self._stopped.wait(max(0.0, began + due_s - perf_counter())):
                return
            yield Frame(frame.picture, frame.name, frame.index, due_s)
        self._stopped.wait(float(1 / source.fps) if source.fps else _PICTURE_S)  # the last one is shown too
