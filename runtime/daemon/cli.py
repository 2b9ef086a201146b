"""`pose-daemon`: cameras in, people out, for months."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from types import FrameType
from typing import Annotated

import typer

from edgepose.engines import console
from edgepose.engines.errors import ConfigError, EdgePoseError
from edgepose.runtime.daemon.auth import Role, new_token
from edgepose.runtime.daemon.config import DaemonSettings, settings_from_file, settings_from_toml
from edgepose.runtime.daemon.daemon import Daemon
from edgepose.runtime.daemon.explanation import findings
from edgepose.runtime.daemon.heartbeat import Heartbeat
from edgepose.runtime.daemon.logs import start_logging
from edgepose.runtime.daemon.memory import keep_memory_compact
from edgepose.runtime.daemon.notify import Notifier

app = typer.Typer(name="pose-daemon", add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")
logger = logging.getLogger(__name__)
_LOOK_S = 1.0


def main() -> None:
    console.run(app)


@app.callback(invoke_without_command=True)
def daemon(
    context: typer.Context,
    config: Annotated[Path | None, typer.Option(help="A configuration file; docs/daemon-settings.md has every key")] = None,
    check: Annotated[bool, typer.Option("--check", help="Say what the configuration means here and what is wrong with it")] = False,
    bundle: Annotated[
        Path | None,
        typer.Option(help="The network, a bundle made by pose-export; instead of the file's, or of edgepose-s, which comes along"),
    ] = None,
    camera: Annotated[list[str] | None, typer.Option(help="NAME=SOURCE, any number of times; instead of a configuration file")] = None,
    device: Annotated[str | None, typer.Option(help="auto, CPU, GPU, ...; instead of the file's")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; instead of the file's")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port to listen on; instead of the file's")] = None,
) -> None:
    """Finds people in the pictures of cameras, shows them on a page, and tells who asks: HTTP, WebSocket, MQTT, files, a hook of your own.

    SIGHUP reads the configuration again; SIGTERM and Ctrl-C end it with complete files.
    """
    if context.invoked_subcommand is not None:
        return
    given = {"bundle": bundle and str(bundle.absolute()), "device": device, "server.host": host, "server.port": port}
    options: dict[str, object] = {key: value for key, value in given.items() if value is not None}
    settings = _settings(config, camera or [], options)
    if check:
        _explain(settings)
        return
    _run(settings, config, options)


@app.command()
def token(
    name: Annotated[str, typer.Option(help="Who will hold it: it says so in logs")],
    role: Annotated[Role, typer.Option(help="read: see everything; admin: change the configuration too")] = "read",
) -> None:
    """Makes a token for the HTTP server: it is said once, and only its hash goes into the configuration."""
    secret, lines = new_token(name, role)
    messages = console.messages()
    messages.print("Keep this token, it is not said again:", highlight=False)
    typer.echo(secret)
    messages.print(f"\nAdd to the configuration file:\n\n{lines}", highlight=False, markup=False)


def _settings(config: Path | None, cameras: list[str], options: dict[str, object]) -> DaemonSettings:
    """Raises ConfigError, and BadParameter for options that do not go together."""
    if config is not None:
        if cameras:
            raise typer.BadParameter("cameras are in the configuration file: use --config or --camera")
        return settings_from_file(config, options=options)
    if not cameras and "bundle" not in options:
        raise typer.BadParameter("wanted --config FILE or --camera NAME=SOURCE; for pictures by HTTP alone --bundle NAME.pose")
    pairs = [each.partition("=") for each in cameras]
    if wrong := [name for name, equals, source in pairs if not (name and equals and source)]:
        raise typer.BadParameter(f"--camera {wrong[0]}: wanted NAME=SOURCE")
    table = [{"name": name, "source": source} for name, _, source in pairs]
    return settings_from_toml("", "command line", options={**options, "cameras": table})


def _explain(settings: DaemonSettings) -> None:
    found = findings(settings)
    for each in found:
        typer.echo(str(each))
    if wrong := sum(each.verdict == "wrong" for each in found):
        raise ConfigError(f"{wrong} of {len(found)} findings would keep the daemon from doing what the configuration asks for")


def _run(settings: DaemonSettings, config: Path | None, options: dict[str, object]) -> None:
    keep_memory_compact()
    log_tail = start_logging(settings.log)
    notifier = Notifier()
    notifier.status("opening the engine")
    asked = _Asked()
    with _heard({signal.SIGHUP: asked.reload_anew}):  # an engine may take minutes to open, and nobody is to end it by asking for a reload
        daemon = Daemon(settings, config, options, log_tail)
        with _heard({signal.SIGTERM: asked.end_now, signal.SIGINT: asked.end_now}):
            _live(daemon, asked, notifier)


def _live(daemon: Daemon, asked: _Asked, notifier: Notifier) -> None:
    daemon.start()
    logger.info("%s (%s); %d cameras; %s", daemon.execution, daemon.execution.why, len(daemon.cameras()), daemon.url)
    notifier.ready(daemon.url)
    try:
        _watch(daemon, asked, notifier)
    finally:
        notifier.stopping("completing files")
        began = time.perf_counter()
        daemon.stop()
        logger.info("stopped in %.1f s", time.perf_counter() - began)


def _watch(daemon: Daemon, asked: _Asked, notifier: Notifier) -> None:
    """Until somebody asks for the end."""
    heartbeat, said = Heartbeat(daemon.station), ""
    while not asked.end:
        if asked.reload_within(min(_LOOK_S, notifier.watchdog_interval_s() or _LOOK_S)):
            Thread(target=_reload, args=(daemon, notifier), name="edgepose reload", daemon=True).start()
        daemon.refresh()
        if heartbeat.beats():
            notifier.watchdog()
        states = daemon.cameras()
        status = f"{sum(s.condition == 'live' for s in states)} of {len(states)} cameras live, {sum(s.fps for s in states):.1f} results/s"
        if status != said:
            notifier.status(status)
            said = status


def _reload(daemon: Daemon, notifier: Notifier) -> None:
    notifier.reloading("reading the configuration again")
    try:
        report = daemon.reload()
        if not report.applied:
            logger.error("reload refused: %s", report.reason)
    except EdgePoseError as error:
        logger.error("reload refused: %s", error)
    except Exception:  # the top of a thread
        logger.exception("reload failed")
    finally:
        notifier.ready(daemon.url)  # systemd waits for it


class _Asked:
    """What signals asked for. A handler runs wherever its thread is, also where that holds the lock of an Event, for which the handler
    would wait without end; a SimpleQueue's `put` is made for that."""

    def __init__(self) -> None:
        self.end = False
        self._signals = SimpleQueue[signal.Signals]()

    def end_now(self, number: int, _: object) -> None:
        """The second SIGTERM or Ctrl-C ends the process at once."""
        if self.end:
            os._exit(128 + number)
        self.end = True
        self._signals.put(signal.Signals(number))

    def reload_anew(self, number: int, _: object) -> None:
        self._signals.put(signal.Signals(number))

    def reload_within(self, seconds: float) -> bool:
        """Waits for a signal; whether one of those that have come wants a reload, however many do."""
        found = set()
        with suppress(Empty):
            found.add(self._signals.get(timeout=seconds))
            while True:
                found.add(self._signals.get_nowait())
        return signal.SIGHUP in found


@contextmanager
def _heard(acts: Mapping[signal.Signals, Callable[[int, FrameType | None], None]]) -> Iterator[None]:
    before = {number: signal.signal(number, act) for number, act in acts.items()}
    try:
        yield
    finally:
        for number, act in before.items():
            signal.signal(number, act)
