"""`HttpServer`: the daemon's face to HTTP, in a thread with its own event loop."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from edgepose.engines.errors import BackendUnavailable, ConfigError
from edgepose.runtime.daemon.auth import AuthSettings
from edgepose.runtime.daemon.http.loopback import is_loopback
from edgepose.runtime.daemon.http.settings import ServerSettings
from edgepose.runtime.daemon.site import Site

if TYPE_CHECKING:
    from edgepose.runtime.daemon.http.metrics import Services
    from edgepose.runtime.daemon.http.parts import LogTail, Parts
    from edgepose.runtime.daemon.http.uvicorn_server import WatchedServer

logger = logging.getLogger(__name__)
_START_S = 15.0
_SEND_BUFFER = 256 * 1024
_GONE_AFTER_MS = 30_000


class HttpServer:
    """`start` listens and returns; `stop` ends all streams and connections. `services` tells the status of the daemon's other parts.

    Raises BackendUnavailable where FastAPI or uvicorn is missing, ConfigError where it would be open to others without a token.
    """

    def __init__(self, settings: ServerSettings, auth: AuthSettings, site: Site, log_tail: LogTail, services: Services = dict) -> None:
        if not auth.tokens and not is_loopback(settings.host):
            raise ConfigError(f"server.host: {settings.host} is reached from other machines: make a token with `pose-daemon token`")
        try:
            from edgepose.runtime.daemon.http.assembly import parts_for
        except ModuleNotFoundError as error:
            raise BackendUnavailable(f"{error.name} is not installed: pip install 'edgepose[daemon]'") from error
        self._settings = settings
        self._parts: Parts = parts_for(settings, auth, site, log_tail, lambda: {**services(), "http": self.status()})
        self._server: WatchedServer | None = None
        self._thread: threading.Thread | None = None
        self._started, self._error = threading.Event(), None
        self.port = settings.port
        self._failures, self._stopped = 0, False

    @property
    def url(self) -> str:
        """Where it listens, once it does."""
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        return f"{'https' if self._settings.tls_certificate else 'http'}://{host}:{self.port}"

    @property
    def failed(self) -> bool:
        """Whether its thread ended by itself: it listens no more, its port is free, and it cannot be started again."""
        return self._thread is not None and not self._stopped and not self._thread.is_alive()

    def start(self) -> None:
        """Returns once it listens. Raises ConfigError where it cannot: the address is taken, a certificate is wrong."""
        from edgepose.runtime.daemon.http.uvicorn_server import watched_server

        self._server = watched_server(self._settings, self._parts)
        listener = _listener(self._settings)
        self.port = listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, args=(self._server, listener), name="edgepose http", daemon=True)
        self._thread.start()
        if not self._started.wait(_START_S):
            raise ConfigError(f"{self.url}: the server did not start within {_START_S:g} s")
        logger.info("listening on %s", self.url)

    def stop(self, timeout_s: float = 5.0) -> None:
        """Allowed twice, and before `start`."""
        self._stopped = True
        self._parts.broadcast.stop(timeout_s / 2)
        if self._server is not None:
            self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                logger.error("the HTTP server does not stop: it is left behind")
        self._parts.close()

    def status(self) -> dict[str, object]:
        connections, broadcast, pictures = self._parts.connections, self._parts.broadcast, self._parts.pictures
        return {
            "url": self.url,
            "clients": len(connections),
            "streams": len(broadcast.outlets),
            "sent": broadcast.sent,
            "dropped": broadcast.dropped,
            "stalled": connections.stalled,
            "late": connections.late,
            "refused": connections.refused + self._parts.gate.refused,
            "pictures": pictures.encoded,
            "errors": broadcast.errors + pictures.errors + self._failures,
        }

    def _run(self, server: WatchedServer, listener: socket.socket) -> None:
        loop = asyncio.new_event_loop()
        loop.set_default_executor(ThreadPoolExecutor(2, thread_name_prefix="edgepose http loop"))
        try:
            loop.run_until_complete(self._serve(server, listener))
        except Exception:  # the top of a thread
            self._failures += 1
            logger.exception("the HTTP server failed")
        finally:
            loop.run_until_complete(self._end_all())
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()
            listener.close()

    async def _serve(self, server: WatchedServer, listener: socket.socket) -> None:
        self._parts.broadcast.start(asyncio.get_running_loop())
        await server.serve_on(listener, self._started)

    async def _end_all(self) -> None:
        """What a server that failed leaves behind: its clients would wait for ever."""
        self._parts.connections.cut()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)


def try_to_serve(settings: ServerSettings, own_port: int | None) -> None:
    """Raises ConfigError where a server could not listen there, or its certificate cannot be used. At `own_port`, where whoever asks
    listens already, only the host can be tried."""
    from edgepose.runtime.daemon.http.uvicorn_server import check_certificate

    check_certificate(settings)
    _listener(settings.model_copy(update={"port": 0}) if settings.port == own_port else settings).close()


def _listener(settings: ServerSettings) -> socket.socket:
    """The kernel's buffers are kept small, so that a client that does not read is noticed before megabytes are in them.

    Raises ConfigError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:  # the latter for names that no resolver takes
        raise ConfigError(f"server.host: {settings.host}: {getattr(error, 'strerror', None) or error}") from error
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _GONE_AFTER_MS)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise ConfigError(f"server: {settings.host} port {settings.port}: {error.strerror or error}") from error
    return listener
