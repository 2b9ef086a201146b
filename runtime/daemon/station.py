"""`Station`: one engine and the cameras that it looks through; both may be exchanged while it runs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from threading import Event, Lock, Thread
from time import perf_counter, perf_counter_ns

import numpy as np
from numpy.typing import NDArray

from edgepose.engines.engine import Engine, Execution
from edgepose.engines.errors import EdgePoseError, InferenceFailed
from edgepose.engines.skeleton import Skeleton
from edgepose.runtime.captures import Captures
from edgepose.runtime.daemon.camera import Camera
from edgepose.runtime.daemon.camera_result import CameraResult
from edgepose.runtime.daemon.camera_settings import CameraSettings
from edgepose.runtime.daemon.hub import Hub
from edgepose.runtime.daemon.inquiries import Inquiries
from edgepose.runtime.inferences import Inferences, Result
from edgepose.runtime.intake import Intake, Policy
from edgepose.runtime.paf_parameters import PafParameters

logger = logging.getLogger(__name__)
_PAUSES_S = (0.2, 1.0, 5.0, 15.0)
_STEADY_S = 30.0
"""An engine that ran for so long is opened anew at once when it fails; one that fails sooner is waited for."""
_LEAVE_S = 2.0
"""For a camera that does not come back."""


@dataclass(frozen=True, slots=True)
class Works:
    """An engine, how to open it again should it fail, and how its maps are parsed."""

    engine: Engine
    opened: Callable[[], Engine]
    parameters: PafParameters


class Station:
    """Results are published by one thread, each camera's in order. An engine that fails is opened anew, after growing pauses; cameras
    go on.

    `exchange` and `watch` are for one thread at a time, everything else for any.
    """

    def __init__(self, works: Works) -> None:
        self.results = Hub[CameraResult]()
        self.failures, self.trouble, self.delivered = 0, "", 0
        self._works = self._next = self._replaced = works
        self._intake = Intake(Policy.LATEST, standing=True)
        self._captures = Captures(self._intake, _mistaken)
        self._inquiries = Inquiries(self._intake)
        self._cameras: dict[str, Camera] = {}
        self._watched: dict[int, Camera] = {}
        self._lock, self._stopping, self._exchanged = Lock(), Event(), Event()
        self._inferences: Inferences | None = None
        self._thread = Thread(target=self._run, name="edgepose results", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 4.0) -> None:
        """Closes the engine and the hub. What does not come back in time, camera or engine, is left behind and logged."""
        until = perf_counter() + timeout_s
        self._stopping.set()
        self._captures.halt()
        self._interrupt()
        self._thread.join(timeout_s / 2)
        self._captures.stop(max(0.1, until - perf_counter()))
        if self._thread.is_alive():
            logger.error("the engine does not stop: it is left behind")
        else:
            self._works.engine.close()
        self.results.close()

    @property
    def skeleton(self) -> Skeleton:
        return self._works.engine.contract.skeleton

    @property
    def execution(self) -> Execution:
        return self._works.engine.execution

    @property
    def cameras(self) -> tuple[Camera, ...]:
        """In the configuration's order."""
        return tuple(self._cameras.values())

    def camera(self, name: str) -> Camera:
        """Raises KeyError."""
        return self._cameras[name]

    def infer(self, picture: NDArray[np.uint8], timeout_s: float) -> CameraResult:
        """The people in a (H, W, 3) BGR picture, in turn with the cameras. Raises InferenceFailed."""
        if self.trouble:
            raise InferenceFailed(f"the engine failed ({self.trouble}): it is being opened again")
        result = self._inquiries.ask(picture, timeout_s)
        return CameraResult("", result, time.time() - (perf_counter_ns() - result.frame.captured_ns) / 1e9)

    def watch(self, settings: Sequence[CameraSettings]) -> list[str]:
        """Opens, changes and closes cameras until these are watched; those that stay as they are notice nothing. Gives what was done, a
        line each."""
        before, after, changes = self._cameras, dict[str, Camera](), []
        for each in settings:
            camera = before.get(each.name)
            if camera is None or not camera.opens_as(each):
                changes.append(f"camera {each.name}: {'added' if camera is None else 'opened anew'}")
                after[each.name] = Camera(each, self._keypoints)
                continue
            if camera.settings != each:
                changes.append(f"camera {each.name}: changed, without opening it anew")
                camera.adjust(each, self._keypoints)
            after[each.name] = camera
        changes += [f"camera {name}: removed" for name in before if name not in after]
        self._cameras = after
        for camera in before.values():
            if camera is not after.get(camera.settings.name):
                self._close(camera)  # before any is opened: a device gives its picture to one
        for camera in after.values():
            if camera.settings.enabled and camera.number is None:
                self._open(camera)
        return changes

    def exchange(self, works: Works) -> Works:
        """Goes on with another engine or other parameters; no camera notices. Gives what ran until now, whose engine is the caller's to
        close or to go back to."""
        with self._lock:
            self._next = works
            self._exchanged.clear()
        self._interrupt()
        self._exchanged.wait()
        return self._replaced

    @property
    def works(self) -> Works:
        return self._works

    @property
    def _keypoints(self) -> int:
        return len(self.skeleton.keypoints)

    def _open(self, camera: Camera) -> None:
        camera.number = self._captures.add(camera.source, admitted=lambda number: self._admit(number, camera))

    def _admit(self, number: int, camera: Camera) -> None:
        self._watched[number] = camera
        camera.count = self._intake.count(number)

    def _close(self, camera: Camera) -> None:
        if camera.number is not None:
            self._watched.pop(camera.number, None)
            self._captures.remove(camera.number, _LEAVE_S)

    def _interrupt(self) -> None:
        with self._lock:
            if self._inferences is not None:
                self._inferences.halt()

    def _run(self) -> None:
        while (inferences := self._begun()) is not None:
            began = perf_counter()
            try:
                for result in inferences:
                    self._deliver(result)
            except Exception as error:  # the top of the thread; whatever it was, the cameras are to be seen again
                logger.error("the engine failed: %s", error, exc_info=None if isinstance(error, EdgePoseError) else error)
                inferences.stop()
                self._fail(error, perf_counter() - began)
            else:
                inferences.stop()

    def _begun(self) -> Inferences | None:
        """The next to run; nothing once the station stops."""
        with self._lock:
            if self._stopping.is_set():
                self._exchanged.set()
                return None
            keypoints, self._replaced, self._works = self._keypoints, self._works, self._next
            if self._replaced.engine is not self._works.engine:
                self.trouble = ""
            if keypoints != self._keypoints:
                for camera in self._cameras.values():
                    camera.follow_anew(self._keypoints)
            self._inferences = Inferences(self._works.engine, self._intake, self._works.parameters)
            self._inferences.start()
            self._exchanged.set()
            return self._inferences

    def _deliver(self, result: Result) -> None:
        self.delivered += 1
        if result.source == self._inquiries.number:
            self._inquiries.answer(result)
        elif (camera := self._watched.get(result.source)) is not None:
            self.results.publish(camera.take(result))

    def _fail(self, error: Exception, ran_s: float) -> None:
        """Opens the engine anew, or waits until another comes."""
        self.failures, self.trouble = self.failures + 1, " ".join(str(error).split()) or type(error).__name__
        self._inquiries.fail(self.trouble)
        pauses = list(_PAUSES_S if ran_s < _STEADY_S else (0.0, *_PAUSES_S))
        while not self._stopping.wait(pauses[0]) and self._next is self._works:
            pauses = pauses[1:] or pauses
            try:
                self._works.engine.close()
                engine = self._works.opened()
            except EdgePoseError as again:
                self.trouble = " ".join(str(again).split())
                logger.error("the engine cannot be opened: %s", self.trouble)
                continue
            with self._lock:
                if self._next is self._works:
                    self._works = self._next = replace(self._works, engine=engine)
                else:
                    engine.close()
            self.trouble = ""
            logger.warning("the engine was opened anew")
            return


def _mistaken(number: int, error: Exception) -> None:
    """A patient source ends with no error of its own."""
    logger.error("capture %d ended: a mistake in edgepose, please report it", number, exc_info=error)
