"""What the daemon costs over `pose-run`: the same camera, the same engine, results written as JSON Lines by both, in turns."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from edgepose.engines.bundle import Bundle
from edgepose.engines.engine import Execution
from edgepose.engines.errors import BackendUnavailable, InferenceFailed, SourceError
from edgepose.engines.registry import open_engine
from edgepose.runtime.daemon.config import settings_from_toml
from edgepose.runtime.daemon.daemon import Daemon
from edgepose.runtime.daemon.logs import LogTail, TextLines
from edgepose.runtime.ffmpeg_link import without_password
from edgepose.runtime.intake import Policy
from edgepose.runtime.pipeline import Pipeline
from edgepose.runtime.sinks import JsonLinesSink
from edgepose.runtime.sources import open_source

_WARM_UP_S = 1.0
_READER = """
import sys
from websockets.sync.client import connect
with connect(sys.argv[1], max_size=None) as page:
    page.recv()
    print("open", flush=True)
    while True:
        page.recv()
"""
"""What the page receives, from its one WebSocket: people, events and pictures. It draws nothing: a browser is another machine's."""


@dataclass(frozen=True, slots=True)
class Turn:
    """`cpu_ms` of this process for a result, of all threads, the camera's drawing included."""

    results_per_s: float
    cpu_ms: float


@dataclass(frozen=True, slots=True)
class DaemonReport:
    """Medians over the rounds; `ratio` is of results a second within a round, the daemon's over `pose-run`'s."""

    bundle: str
    execution: Execution
    source: str
    slots: int
    rounds: int
    seconds: float
    run: Turn
    daemon: Turn
    daemon_with_page: Turn
    ratio: float
    ratio_with_page: float


def daemon_report(
    bundle: Bundle, source: str, device: str, slots: int, rounds: int, seconds: float, tick: Callable[[], object] = lambda: None
) -> DaemonReport:
    """`source` is a live one, with more frames than the engine can.

    Raises BackendUnavailable without the daemon's libraries, SourceError for a source that ends.
    """
    _want_websockets()
    found: dict[str, list[Turn]] = {"run": [], "daemon": [], "page": []}
    with tempfile.TemporaryDirectory(prefix="edgepose-bench-") as folder:
        for _ in range(rounds):
            found["run"].append(_pose_run(bundle, source, device, slots, seconds, Path(folder)))
            with _daemon(bundle, source, device, slots, Path(folder)) as daemon:
                found["daemon"].append(_turn(daemon, seconds))
                with _page(daemon):
                    found["page"].append(_turn(daemon, seconds))
                execution = daemon.execution
            tick()

    def ratio(which: str) -> float:
        return statistics.median(turn.results_per_s / run.results_per_s for turn, run in zip(found[which], found["run"], strict=True))

    middle = {name: _middle(turns) for name, turns in found.items()}
    return DaemonReport(
        bundle=bundle.path.name,
        execution=execution,
        source=without_password(source),
        slots=slots,
        rounds=rounds,
        seconds=seconds,
        run=middle["run"],
        daemon=middle["daemon"],
        daemon_with_page=middle["page"],
        ratio=ratio("daemon"),
        ratio_with_page=ratio("page"),
    )


def _pose_run(bundle: Bundle, source: str, device: str, slots: int, seconds: float, folder: Path) -> Turn:
    """As `pose-run --jsonl` does it."""
    with ExitStack() as stack:
        engine = stack.enter_context(closing(open_engine(bundle, device, slots)))
        sink = stack.enter_context(JsonLinesSink(folder / "run.jsonl", engine.contract.skeleton))
        results = iter(stack.enter_context(Pipeline(engine, [open_source(source)], Policy.LATEST)))

        def take() -> None:
            result = next(results, None)
            if result is None:
                raise SourceError(f"{without_password(source)}: ended too early: wanted a live source that outlasts every turn")
            sink.write(result.frame, result.poses)

        _for(_WARM_UP_S, take)
        cpu, began = time.process_time(), time.perf_counter()
        return _turn_of(_for(seconds, take), began, cpu)


@contextmanager
def _daemon(bundle: Bundle, source: str, device: str, slots: int, folder: Path) -> Iterator[Daemon]:
    """One that watches the camera, tracks nobody and records."""
    options = {"bundle": str(bundle.path.absolute()), "device": device, "slots": slots, "server.port": _free_port()}
    cameras = [{"name": "camera", "source": source, "track": False}]
    settings = settings_from_toml("", "pose-bench", options={**options, "cameras": cameras, "recording.folder": str(folder / "recording")})
    daemon = Daemon(settings, None, {}, LogTail(10, TextLines()))
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.stop()


@contextmanager
def _page(daemon: Daemon) -> Iterator[None]:
    url = daemon.url.replace("http", "ws", 1) + "/api/poses/stream?events=1&pictures=1"
    with subprocess.Popen([sys.executable, "-c", _READER, url], stdout=subprocess.PIPE, text=True) as reader:
        try:
            if not reader.stdout or reader.stdout.readline() != "open\n":
                raise InferenceFailed("the daemon's page gets nothing: nothing is timed")
            yield
        finally:
            reader.kill()


def _turn(daemon: Daemon, seconds: float) -> Turn:
    time.sleep(_WARM_UP_S)
    cpu, began, before = time.process_time(), time.perf_counter(), daemon.station.delivered
    time.sleep(seconds)
    return _turn_of(daemon.station.delivered - before, began, cpu)


def _turn_of(count: int, began: float, cpu: float) -> Turn:
    if not count:
        raise InferenceFailed("the camera gave no result: is it live?")
    return Turn(count / (time.perf_counter() - began), 1e3 * (time.process_time() - cpu) / count)


def _for(seconds: float, do: Callable[[], object]) -> int:
    count, until = 0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        do()
        count += 1
    return count


def _middle(turns: list[Turn]) -> Turn:
    return Turn(statistics.median(t.results_per_s for t in turns), statistics.median(t.cpu_ms for t in turns))


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _want_websockets() -> None:
    if find_spec("websockets") is None:
        raise BackendUnavailable("the daemon's libraries are not installed: pip install 'edgepose[daemon]'")
