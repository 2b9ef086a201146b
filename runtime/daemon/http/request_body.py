"""The body of a request, no larger than allowed."""

from __future__ import annotations

from starlette.requests import Request

from edgepose.runtime.daemon.http.gate import Refusal

_LINGER_BYTES = 64 * 1024 * 1024


async def body_of(request: Request, most: int) -> bytes:
    """At most `most` bytes are held, whatever the header says or does not. Raises Refusal; ClientDisconnect where the client is gone.

    Of a body that is a little too large the rest is read and forgotten: a connection that is closed while the other side still sends
    loses the answer on its way. Nothing is read of one that is far too large, or that waits to be asked for.
    """
    said = request.headers.get("content-length", "")
    announced = int(said[:20]) if said.isdecimal() else 0
    if announced > most and (announced > _LINGER_BYTES or request.headers.get("expect", "").lower() == "100-continue"):
        raise _too_large(most)
    parts, size = list[bytes](), 0
    async for part in request.stream():
        size += len(part)
        if size > _LINGER_BYTES + most:
            break
        if size > most:
            parts.clear()
        else:
            parts.append(part)
    if size > most:
        raise _too_large(most)
    return b"".join(parts)


def _too_large(most: int) -> Refusal:
    return Refusal(413, f"a body of more than {most} bytes: wanted at most that", (("connection", "close"),))
