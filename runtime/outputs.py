"""`Outputs`: several sinks as one."""

from __future__ import annotations

from collections.abc import Iterable

from edgepose.engines.errors import SinkError
from edgepose.runtime.poses import Poses
from edgepose.runtime.sinks import Sink
from edgepose.runtime.sources import Frame


class Outputs:
    """What befalls one sink, or the source, costs the others nothing: what was written to them is completed by `close`.

    Opens the sinks in turn; where one cannot be opened, the others leave nothing. `frames` were written. Raises SinkError.
    """

    def __init__(self, sinks: Iterable[Sink]) -> None:
        self._sinks: list[Sink] = []
        self.frames = 0
        try:
            for sink in sinks:  # a generator: each is opened as it comes
                self._sinks.append(sink)
        except BaseException:
            self._discard()
            raise

    def write(self, frame: Frame, poses: Poses) -> None:
        """Into all of them. One that cannot be written is discarded before its error is raised."""
        for sink in tuple(self._sinks):
            try:
                sink.write(frame, poses)
            except SinkError:
                self._sinks.remove(sink)
                sink.discard()
                raise
        self.frames += 1

    def close(self) -> None:
        """Completes all of them; the first error is raised after that. Without a single frame they are discarded: results of an earlier run
        stand. A second call does nothing."""
        if not self.frames:
            self._discard()
        sinks, self._sinks = self._sinks, []
        errors = [error for sink in sinks if (error := _closed(sink)) is not None]
        if errors:
            raise errors[0]

    def _discard(self) -> None:
        while self._sinks:
            self._sinks.pop().discard()


def _closed(sink: Sink) -> SinkError | None:
    try:
        sink.close()
    except SinkError as error:
        return error
    return None
