"""The body of a request, no larger than allowed."""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect, Request

from edgepose.runtime.daemon.http.gate import Refusal

_LINGER_S = 2.0
_LINGER_BYTES = 64 * 1024 * 1024


async def body_of(request: Request, most: int) -> bytes:
    """At most `most` bytes are held, whatever the header says or does not. Raises Refusal; ClientDisconnect where the client is gone."""
    said = request.headers.get("content-length", "")
    if said.isdecimal() and int(said) > most:
        await _refuse(request, most)
    parts, size = list[bytes](), 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            parts.clear()
            await _refuse(request, most)
        parts.append(part)
    return b"".join(parts)


async def _refuse(request: Request, most: int) -> None:
    """Reads and forgets for a moment: a connection that is closed while the other side still sends loses the answer on its way.

    Nothing is read for a client that waits to be told to go on.
    """
    if request.headers.get("expect", "").lower() != "100-continue":
        try:
            await asyncio.wait_for(_forget(request), _LINGER_S)
        except (asyncio.TimeoutError, ClientDisconnect):
            pass
    raise Refusal(413, f"a body of more than {most} bytes: wanted at most that", (("connection", "close"),))


async def _forget(request: Request) -> None:
    size = 0
    while size < _LINGER_BYTES:
        message = await request.receive()
        size += len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return
