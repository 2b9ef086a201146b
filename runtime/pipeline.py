"""`Pipeline`: from cameras or files to people, every stage beside the others, so that the engine never waits for another stage.

    capture (one thread a source) -> intake -> feed (one thread): preprocess, start a slot -> whoever iterates: wait, parse, track

Slots go round: at most as many inferences are in flight as the engine has slots, results come in the order in which frames were taken, and
whoever is slow holds back what comes before it: the reader of results the engine, the engine the intake, which then has sources wait or
drops frames, as its policy says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType

from edgepose.engines.engine import Engine
from edgepose.engines.errors import EdgePoseError
from edgepose.runtime.captures import STOP_S, Captures
from edgepose.runtime.follower import Follower
from edgepose.runtime.inferences import Inferences, Result
from edgepose.runtime.intake import Count, Intake, Policy
from edgepose.runtime.paf_parameters import PafParameters
from edgepose.runtime.sources import Source


class Pipeline:
    """Runs an engine on sources. The engine is not closed.

        with Pipeline(engine, [open_source(path)]) as pipeline:
            for result in pipeline: ...

    Iterating raises the first error of any stage; a source's, after the people of all frames that were captured before it. Leaving the
    `with` stops what still runs.
    """

    def __init__(
        self,
        engine: Engine,
        sources: Sequence[Source],
        policy: Policy = Policy.EVERY,
        parameters: PafParameters | None = None,
        tracked: bool = False,
        smoothed: bool = False,
    ) -> None:
        self._intake, self._sources = Intake(policy), tuple(sources)
        self._captures = Captures(self._intake, self._failed)
        self._inferences = Inferences(engine, self._intake, parameters)
        keypoints = len(engine.contract.skeleton.keypoints)
        self._followers = [Follower(keypoints, smoothed) for _ in sources] if tracked or smoothed else []
        self._error: Exception | None = None
        self._entered = False

    @property
    def counts(self) -> tuple[Count, ...]:
        """Frames captured and dropped, by source."""
        return tuple(self._intake.count(number) for number in range(len(self._sources)))

    def __iter__(self) -> Iterator[Result]:
        if not self._entered:
            raise ValueError("iterate inside `with pipeline:`, which starts its stages")
        for result in self._inferences:
            yield self._followers[result.source].follow(result) if self._followers else result
        if self._error is not None:
            self.stop()
            raise self._error

    def __enter__(self) -> Pipeline:
        for source in self._sources:
            self._captures.add(source)
        if self._error is not None:  # one failed before the others were there
            self._intake.end()
        self._inferences.start()
        self._entered = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Stops all stages and waits for what is in flight; a source that does not come back within 15 s is left behind and logged."""
        self.halt()
        self._captures.stop(STOP_S)
        self._inferences.stop()

    def halt(self) -> None:
        """Has every stage return as soon as it can, and returns at once; results that wait can still be read. For a signal handler, say."""
        self._captures.halt()
        self._inferences.halt()

    def _failed(self, _: int, error: Exception) -> None:
        self._error = self._error or error
        if isinstance(error, EdgePoseError):
            self._intake.end()  # no reason to lose what was captured before
        else:
            self.halt()
