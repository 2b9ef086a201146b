"""`Recorder`: results and events on the disk, in segments that a crash does not tear and a full disk does not stop."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from importlib.util import find_spec
from threading import Thread

from edgepose.engines.errors import BackendUnavailable, SinkError
from edgepose.engines.skeleton import Skeleton
from edgepose.runtime.complete_file import hidden, make_folder
from edgepose.runtime.daemon.camera_result import CameraResult
from edgepose.runtime.daemon.event import Event
from edgepose.runtime.daemon.hub import Hub, Subscription
from edgepose.runtime.daemon.recording_settings import RecordingSettings
from edgepose.runtime.daemon.segment import JsonLinesSegment, ParquetSegment, Segment, segment_path
from edgepose.runtime.daemon.shelf import Shelf

logger = logging.getLogger(__name__)
_TURN_S = 0.2
_EVENTS_WAITING = 1024
_ROOM = 1 << 20
"""Bytes free before a recording that was paused goes on, lest it stop again after three lines."""
_FOLDER = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Recorder:
    """Writes what the hubs publish, in a thread of its own: FOLDER/CAMERA/TIME.jsonl or .parquet, and FOLDER/CAMERA/TIME.events.jsonl.

    Where the disk fails or is full it pauses, saves what it can, says so, counts what is `lost`, and tries again every `retry_s`. A
    `clock` gives the Unix time that names go by; how long a segment lasts goes by the monotonic one.

    Raises BackendUnavailable for Parquet without pyarrow.
    """

    def __init__(
        self,
        settings: RecordingSettings,
        skeleton: Skeleton,
        results: Hub[CameraResult],
        events: Hub[Event] | None = None,
        *,
        retry_s: float = 5.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if settings.format == "parquet":
            _want_pyarrow()
        self._settings, self._skeleton, self._retry_s, self._clock = settings, skeleton, retry_s, clock
        self._hubs = results, events or Hub[Event]()
        self._quota = int(settings.quota_mb * 1e6)
        self._shelf = Shelf(settings.folder, self._quota)
        self._open = dict[tuple[str, str], Segment]()
        self._results: Subscription[CameraResult] | None = None
        self._events: Subscription[Event] | None = None
        self._thread: Thread | None = None
        self._paused, self._why, self._next_try_s = False, "not started", 0.0
        self._written = self._lost = self._completed = self._errors = self._pauses = 0

    def start(self) -> None:
        """Returns at once; a disk that is not there yet is one that is full."""
        results, events = self._hubs
        self._results = results.subscribe("recording", self._settings.depth)
        self._events = events.subscribe("recording", _EVENTS_WAITING)
        self._thread = Thread(target=self._run, args=(self._results, self._events), name="edgepose recording", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Writes what was published before, and completes all segments; a disk that does not answer in time is left behind, and logged."""
        if self._thread is None or self._results is None or self._events is None:
            return
        self._results.close()
        self._events.close()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            logger.error("recording: the disk does not answer within %g s: the open segments stay hidden until the next start", timeout_s)

    def status(self) -> dict[str, object]:
        """Of results and events together: published = `written` + `lost` (the disk refused) + `dropped` (it was too slow) + waiting.

        `segments` and `bytes` are on the disk and complete; `deleted` of them went by the quota, `recovered` ones a crash had left open.
        """
        dropped = sum(each.dropped for each in (self._results, self._events) if each is not None)
        counts = {"written": self._written, "lost": self._lost, "dropped": dropped, "completed": self._completed}
        disk = {"segments": len(self._shelf), "bytes": self._shelf.size, "deleted": self._shelf.deleted, "recovered": self._shelf.recovered}
        recording = self._shelf.is_open
        return {"recording": recording, "reason": self._why, "pauses": self._pauses, **counts, **disk, "errors": self._errors}

    def _run(self, results: Subscription[CameraResult], events: Subscription[Event]) -> None:
        going = True
        while going:
            try:
                going = self._turn(results, events)
            except (OSError, SinkError) as error:
                self._pause(error)
            except Exception as error:  # the top of a thread
                logger.exception("recording failed")
                self._errors += 1
                self._pause(error)
        self._pause(None)

    def _turn(self, results: Subscription[CameraResult], events: Subscription[Event]) -> bool:
        """False when there is nothing left and nothing more comes."""
        over = results.closed and events.closed
        self._resume()
        result = results.get(_TURN_S)
        if result is not None:
            self._keep(result, self._settings.format)
        wait_s = _TURN_S if results.closed and result is None else 0.0  # the one that is closed waits no more
        while (event := events.get(wait_s)) is not None:
            self._keep(event, "events.jsonl")
            wait_s = 0.0
        last = over and result is None
        if self._shelf.is_open:
            self._turn_over(last)
        return not last

    def _keep(self, thing: CameraResult | Event, kind: str) -> None:
        if not self._shelf.is_open or not _FOLDER.fullmatch(thing.camera):
            self._lost += 1
            return
        try:
            self._segment(thing.camera, kind).write(thing)
        except (TypeError, RecursionError) as error:  # it has no JSON, and nothing of it was written
            self._lost += 1
            if isinstance(thing, CameraResult):
                raise
            logger.error("recording: an event of camera %s is lost: %s", thing.camera, " ".join(str(error).split()))
            return
        except BaseException:
            self._lost += 1
            raise
        self._written += 1

    def _segment(self, camera: str, kind: str) -> Segment:
        if (camera, kind) not in self._open:
            folder = self._settings.folder / camera
            make_folder(folder)
            path = segment_path(folder, self._clock(), f".{kind}")
            self._open[camera, kind] = ParquetSegment(path, self._skeleton) if kind == "parquet" else JsonLinesSegment(path)
        return self._open[camera, kind]

    def _turn_over(self, last: bool) -> None:
        """Completes segments that lasted long enough, and the largest where the open ones have half of the quota; makes room."""
        for key, segment in list(self._open.items()):
            if last or time.monotonic() - segment.began_s >= self._settings.segment_s:
                self._complete(key)
        if self._open and sum(segment.size for segment in self._open.values()) > self._quota // 2:
            self._complete(max(self._open, key=lambda key: self._open[key].size))
        self._shelf.make_room(sum(segment.size for segment in self._open.values()))

    def _complete(self, key: tuple[str, str]) -> None:
        segment = self._open[key]
        segment.complete()
        del self._open[key]
        self._completed += 1
        self._shelf.add(segment.path, segment.size)

    def _resume(self) -> None:
        """Opens the shelf at the start, and again after a pause."""
        if self._shelf.is_open or time.monotonic() < self._next_try_s:
            return
        self._next_try_s = time.monotonic() + self._retry_s
        self._shelf.open(_ROOM)
        if self._paused:
            logger.warning("recording: goes on after %s; %d lost so far", self._why, self._lost)
        self._paused, self._why = False, ""

    def _pause(self, error: Exception | None) -> None:
        """Saves what can be saved of the open segments; None: for good."""
        for segment in self._open.values():
            self._rescue(segment)
        self._open.clear()
        self._shelf.close()
        reason = "stopped" if error is None else " ".join(str(error).split())
        if error is not None and reason != self._why:
            logger.error("recording: paused, tries again every %g s: %s", self._retry_s, reason)
        self._pauses += error is not None and not self._paused
        self._paused, self._why, self._next_try_s = True, reason, time.monotonic() + self._retry_s

    def _rescue(self, segment: Segment) -> None:
        """What stays hidden is completed when the recording goes on."""
        count = segment.count
        try:
            self._completed += segment.rescue()
        except OSError as error:
            logger.error("%s: stays open: %s", segment.path, error.strerror or error)
        if not segment.count or not (segment.path.exists() or hidden(segment.path).exists()):
            self._written, self._lost = self._written - count, self._lost + count


def _want_pyarrow() -> None:
    if find_spec("pyarrow") is None:
        raise BackendUnavailable("recording.format: Parquet files need pyarrow: pip install 'edgepose[daemon]'")
