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
_STOPPING = "the daemon is stopping"
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

    `exchange`, `parse_with` and `watch` are for one thread at a time, everything else for any.
    """

    def __init__(self, works: Works) -> None:
        self.results = Hub[CameraResult]()
        self.failures, self.trouble, self.delivered = 0, "", 0
        self._works = self._next = works
        self._replaced: Works | None = None
        self._intake = Intake(Policy.LATEST, standing=True)
        self._captures = Captures(self._intake, _mistaken)
        self._inquiries = Inquiries(self._intake)
        self._cameras: dict[str, Camera] = {}
        self._watched: dict[int, Camera] = {}
        self._lock, self._stopping, self._exchanged, self._disturbed = Lock(), Event(), Event(), Event()
        self._inferences: Inferences | None = None
        self._thread = Thread(target=self._run, name="edgepose results", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 4.0) -> None:
        """Closes the engine and the hub. What does not come back in time, camera or engine, is left behind and logged."""
        until = perf_counter() + timeout_s
        self._stopping.set()
        self._captures.halt()
        with self._lock:
            self._disturb()
        self._inquiries.fail(_STOPPING)
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
        gone = [camera for camera in before.values() if camera is not after.get(camera.settings.name)]
        for camera in gone:
            camera.source.stop()  # all are told before any is waited for
        for camera in gone:
            self._close(camera)  # before any is opened: a device gives its picture to one
        for camera in after.values():
            if camera.settings.enabled and camera.number is None:
                self._open(camera)
        return changes

    def exchange(self, works: Works) -> Works:
        """Goes on with another engine; no camera notices. Gives what ran until now, whose engine is the caller's to close or to go back to.
        Raises InferenceFailed where the station is stopping: the other engine was then not taken."""
        with self._lock:
            if self._stopping.is_set():
                raise InferenceFailed(_STOPPING)
            self._next, self._replaced = works, None
            self._exchanged.clear()
            self._disturb()
        self._exchanged.wait()
        if self._replaced is None:
            raise InferenceFailed(_STOPPING)
        return self._replaced

    def parse_with(self, parameters: PafParameters) -> None:
        """From the next frame on, and with whatever engine runs then: one that failed may just be opened anew."""
        with self._lock:
            if parameters != self._next.parameters:
                self._works = self._next = replace(self._next, parameters=parameters)
                self._disturb()

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

    def _disturb(self) -> None:
        """Has what runs end, or what waits wait no longer. With the lock."""
        self._disturbed.set()
        if self._inferences is not None:
            self._inferences.halt()

    def _run(self) -> None:
        while not self._stopping.is_set():
            began = perf_counter()
            try:
                self._look()
            except Exception as error:  # the top of the thread; whatever it was, the cameras are to be seen again
                logger.error("the engine failed: %s", error, exc_info=None if isinstance(error, EdgePoseError) else error)
                self._fail(error, perf_counter() - began)
        with self._lock:
            self._exchanged.set()  # nobody is to wait for what does not come any more

    def _look(self) -> None:
        """Until the engine fails, or gives way to another or to the end."""
        inferences = self._begun()
        try:
            for result in inferences:
                self._deliver(result)
        finally:
            inferences.stop()

    def _begun(self) -> Inferences:
        """With the works that are next. In one piece, so that whoever asks for others after it finds something to halt."""
        with self._lock:
            keypoints = self._keypoints
            if self._next is not self._works:
                self._replaced, self._works, self.trouble = self._works, self._next, ""
            self._disturbed.clear()
            self._exchanged.set()
            if keypoints != self._keypoints:
                for camera in self._cameras.values():
                    camera.follow_anew(self._keypoints)
            self._inferences = Inferences(self._works.engine, self._intake, self._works.parameters)
            self._inferences.start()
            return self._inferences

    def _deliver(self, result: Result) -> None:
        self.delivered, self.trouble = self.delivered + 1, ""
        if result.source == self._inquiries.number:
            self._inquiries.answer(result)
        elif (camera := self._watched.get(result.source)) is not None:
            self.results.publish(camera.take(result))

    def _fail(self, error: Exception, ran_s: float) -> None:
        """Opens the engine anew, or waits until another comes."""
        self.failures, self.trouble = self.failures + 1, " ".join(str(error).split()) or type(error).__name__
        self._inquiries.fail(self.trouble)
        pauses = list(_PAUSES_S if ran_s < _STEADY_S else (0.0, *_PAUSES_S))
        while not self._disturbed.wait(pauses[0]) and not self._stopping.is_set():
            pauses = pauses[1:] or pauses
            if self._opened_anew():
                return

    def _opened_anew(self) -> bool:
        try:
            self._works.engine.close()
            engine = self._works.opened()
        except Exception as error:  # the top of the thread too: a library that fails in its own way must not end it
            self.trouble = " ".join(str(error).split()) or type(error).__name__
            known = isinstance(error, EdgePoseError)
            logger.error("the engine cannot be opened: %s", self.trouble, exc_info=None if known else error)
            return False
        with self._lock:
            if self._next is not self._works:  # another came meanwhile
                engine.close()
                return True
            self._works = self._next = replace(self._works, engine=engine)
        self.trouble = ""
        logger.warning("the engine was opened anew")
        return True


def _mistaken(number: int, error: Exception) -> None:
    """A patient source ends with no error of its own."""
    logger.error("capture %d ended: a mistake in edgepose, please report it", number, exc_info=error)
