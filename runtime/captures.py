"""`Captures`: sources, each read by a thread of its own into one intake."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Thread, current_thread
from time import perf_counter

from edgepose.runtime.intake import Intake, Policy
from edgepose.runtime.sources import Source, Stoppable

logger = logging.getLogger(__name__)
STOP_S = 15.0


class Captures:
    """Sources may come and go while it runs. `failed` is told of the error that ended one, in the thread of that source."""

    def __init__(self, intake: Intake, failed: Callable[[int, Exception], None]) -> None:
        self._intake, self._failed = intake, failed
        self._running: dict[int, tuple[Source, Thread]] = {}

    def add(self, source: Source, policy: Policy | None = None, admitted: Callable[[int], object] = lambda _: None) -> int:
        """Begins to read it; gives its number in the intake, which `admitted` is told before the first frame comes."""
        number = self._intake.add(policy)
        admitted(number)
        thread = Thread(target=self._capture, args=(number, source), name=f"edgepose capture {number}", daemon=True)
        self._running[number] = source, thread
        thread.start()
        return number

    def remove(self, number: int, patience_s: float = STOP_S) -> None:
        """Ends a source and waits for its thread, as `stop` does."""
        source, thread = self._running.pop(number)
        self._intake.remove(number)
        _halt(source)
        _join(thread, patience_s)

    def halt(self) -> None:
        """Has all sources end as soon as they can, and returns at once."""
        self._intake.stop()
        for source, _ in tuple(self._running.values()):
            _halt(source)

    def stop(self, patience_s: float = STOP_S) -> None:
        """Waits for all sources; one that does not come back in time is left behind and logged."""
        self.halt()
        until = perf_counter() + patience_s
        for _, thread in tuple(self._running.values()):
            _join(thread, max(0.0, until - perf_counter()))

    def _capture(self, number: int, source: Source) -> None:
        try:
            for frame in source.frames():
                if not self._intake.put(number, frame):
                    return
        except Exception as error:  # the top of a thread: whoever owns the captures decides what it means
            logger.debug("capture %d failed", number, exc_info=True)
            self._failed(number, error)
        finally:
            self._intake.end(number)


def _halt(source: Source) -> None:
    if isinstance(source, Stoppable):
        source.stop()


def _join(thread: Thread, patience_s: float) -> None:
    if thread is not current_thread():
        thread.join(patience_s)
    if thread.is_alive():
        logger.error("%s does not stop: it is left behind", thread.name)
