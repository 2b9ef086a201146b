"""uvicorn with our protocols, started and stopped from another thread."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading

import uvicorn

from edgepose.engines.errors import ConfigError
from edgepose.runtime.daemon.http.app import application
from edgepose.runtime.daemon.http.parts import Parts
from edgepose.runtime.daemon.http.protocol import Deadlines, protocols
from edgepose.runtime.daemon.http.settings import ServerSettings

_HEADERS_BYTES = 16 * 1024
_MESSAGE_BYTES = 1024
_KEEP_ALIVE_S = 15
_CLOSE_S = 2
_BACKLOG = 512


class WatchedServer(uvicorn.Server):
    """Ends the streams before it waits for requests to end, and gives a TLS handshake no longer than a header."""

    def __init__(self, config: uvicorn.Config, parts: Parts) -> None:
        super().__init__(config)
        self._parts = parts
        self._ready: threading.Event | None = None

    async def serve_on(self, listener: socket.socket, ready: threading.Event) -> None:
        """`ready` is set once it listens."""
        self._ready = ready
        await self._serve([listener])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        assert sockets is not None and self._ready is not None
        await self.lifespan.startup()
        loop, config = asyncio.get_running_loop(), self.config
        handshake_s = self._parts.settings.header_timeout_s if config.ssl else None

        def protocol() -> asyncio.Protocol:
            made: asyncio.Protocol = config.http_protocol_class(config=config, server_state=self.server_state, app_state={})  # type: ignore[call-arg]
            return made

        self.servers = [
            await loop.create_server(protocol, sock=sockets[0], ssl=config.ssl, backlog=config.backlog, ssl_handshake_timeout=handshake_s)
        ]
        self.started = True
        self._ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._parts.broadcast.close()
        await super().shutdown(sockets)


def watched_server(settings: ServerSettings, parts: Parts) -> WatchedServer:
    """Raises ConfigError for certificates that cannot be used."""
    check_certificate(settings)
    deadlines = Deadlines(settings.header_timeout_s, settings.request_timeout_s, settings.send_timeout_s)
    http, websocket = protocols(parts.connections, deadlines)
    config = uvicorn.Config(
        application(parts),
        http=http,
        ws=websocket,
        lifespan="off",
        log_config=None,
        log_level=logging.ERROR,  # what is no HTTP would fill the log
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_CLOSE_S,
        h11_max_incomplete_event_size=_HEADERS_BYTES,
        ws_max_size=_MESSAGE_BYTES,
        ws_per_message_deflate=False,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
    )
    config.load()
    return WatchedServer(config, parts)


def check_certificate(settings: ServerSettings) -> None:
    """Raises ConfigError where it or its key cannot be used; a passphrase is asked of nobody."""
    if settings.tls_certificate is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_certificate, settings.tls_key, password=lambda: b"")
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"server.tls_certificate: {settings.tls_certificate}, tls_key: {settings.tls_key}: {error.strerror or error}"
        ) from error
