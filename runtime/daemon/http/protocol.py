"""uvicorn's protocols with what they lack: a limit of connections, and deadlines for whoever sends or takes too slowly.

uvicorn's own time-outs begin once a request was answered: a client that sends a header every few seconds would hold its connection for
ever, and so would one that never reads its answer.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from edgepose.runtime.daemon.http.connections import Client, Connections

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent

_TOO_MANY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 61\r\n"
    b"Retry-After: 5\r\nConnection: close\r\n\r\n"
    b'{"error": "too many connections: try again in a few seconds"}'
)
_WRITE_BUFFER = 64 * 1024


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds for the headers of a request, for all of it, and for taking something of what is sent."""

    headers_s: float
    request_s: float
    send_s: float


class Stall:
    """Cuts off a client that takes nothing for too long. asyncio says when its buffer is full and when it has room again."""

    def __init__(self, transport: asyncio.Transport, connections: Connections, limit_s: float) -> None:
        transport.set_write_buffer_limits(high=_WRITE_BUFFER)
        self._transport, self._connections, self._limit_s = transport, connections, limit_s
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._limit_s, self._cut)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _cut(self) -> None:
        self._connections.stalled += 1
        self._transport.abort()


def protocols(connections: Connections, deadlines: Deadlines) -> tuple[type[H11Protocol], type[WebSocketsSansIOProtocol]]:
    """For `uvicorn.Config(http=..., ws=...)`."""

    class Http(WatchedHttp):
        watch = connections, deadlines

    class WebSocket(WatchedWebSocket):
        watch = connections, deadlines

    return Http, WebSocket


class _Unstalled(asyncio.BaseProtocol):
    """What asyncio says of its buffer, told to the stall."""

    _stall: Stall | None = None

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stall:
            self._stall.begin()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall:
            self._stall.end()


class WatchedHttp(_Unstalled, H11Protocol):
    """HTTP/1.1 whose requests must arrive in time."""

    watch: tuple[Connections, Deadlines]
    _late: asyncio.TimerHandle | None = None
    _receiving_since: float = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        connections, deadlines = self.watch
        self._stall = Stall(transport, connections, deadlines.send_s)
        if not connections.admit(_client(transport), transport.abort):
            transport.write(_TOO_MANY)
            transport.close()
            return
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        if self._stall:
            self._stall.end()
        self.watch[0].leave(_client(self.transport))
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._late is None:
            self._expect()
        super().data_received(data)
        if self.transport.get_protocol() is not self or self._arrived:
            self._forget()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._arrived:
            self._forget()

    def send_400_response(self, msg: str) -> None:
        """In the form of all errors."""
        del msg
        body = b'{"error": "this is no HTTP request"}'
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), (b"connection", b"close")]
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            for event in (h11.Response(status_code=400, headers=headers, reason=b"Bad Request"), h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event))
        self.transport.close()

    @property
    def _arrived(self) -> bool:
        """Whether nothing is awaited of a request that began."""
        return self.conn.their_state not in (h11.IDLE, h11.SEND_BODY) or (
            self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]
        )

    def _expect(self) -> None:
        self._receiving_since = self.loop.time()
        self._late = self.loop.call_later(self.watch[1].headers_s, self._check)

    def _check(self) -> None:
        """After the time for headers, and again after the time for all of the request."""
        rest = self._receiving_since + self.watch[1].request_s - self.loop.time()
        if self.conn.their_state is h11.SEND_BODY and rest > 0:
            self._late = self.loop.call_later(rest, self._check)
            return
        self.watch[0].late += 1
        self._late = None
        self.transport.abort()

    def _forget(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class WatchedWebSocket(_Unstalled, WebSocketsSansIOProtocol):
    """A WebSocket whose client must take what it asked for."""

    watch: tuple[Connections, Deadlines]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._stall = Stall(self.transport, self.watch[0], self.watch[1].send_s)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._stall:
            self._stall.end()
        self.watch[0].leave(_client(self.transport))
        super().connection_lost(exc)

    async def send(self, message: ASGISendEvent) -> None:
        """What uvicorn takes for mistakes of the application, and logs, strangers bring about: a handshake that is refused, and a result on
        its way to who answered no ping or sent what is no frame."""
        try:
            await super().send(message)
        except RuntimeError as error:
            if not self.close_sent:
                raise
            raise ClientDisconnected from error
        if message["type"] == "websocket.http.response.body":
            self.handshake_complete = True


def _client(transport: asyncio.Transport) -> Client:
    name: Any = transport.get_extra_info("peername") or ("", id(transport))
    return str(name[0]), int(name[1])
