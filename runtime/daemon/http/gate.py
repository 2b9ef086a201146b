"""`Gate`: who is let in, and who is who. `Guard`: has every request go through it, and gives every answer its security headers."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

import orjson
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgepose.runtime.daemon.auth import Authority, AuthSettings, Role, TokenSettings, may
from edgepose.runtime.daemon.http.loopback import is_loopback
from edgepose.runtime.daemon.http.rate_limit import RateLimit
from edgepose.runtime.daemon.http.sessions import Sessions
from edgepose.runtime.daemon.http.settings import ServerSettings

_SAFE = ("GET", "HEAD", "OPTIONS")
_LONGEST_TOKEN = 512
_FAILURES_PER_MINUTE = 10
_HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks. `name` is None for nobody known; `left_s` how long a login still holds, None where it does not end."""

    name: str | None
    holder: TokenSettings | None
    is_local: bool = False
    left_s: float | None = None

    def may(self, wanted: Role) -> bool:
        return self.is_local or (self.holder is not None and may(self.holder, wanted))

    @property
    def role(self) -> Role | None:
        return "admin" if self.is_local else self.holder.role if self.holder else None


class Refusal(Exception):
    """An answer instead of what was asked for."""

    def __init__(self, status: int, error: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(error)
        self.status, self.error, self.headers = status, error, headers


class Gate:
    """For the server's event loop only."""

    def __init__(self, auth: AuthSettings, settings: ServerSettings) -> None:
        self._authority = Authority(auth)
        self.sessions = Sessions(auth, settings.session_minutes * 60)
        self.is_open, self._secure = self._authority.is_open, settings.tls_certificate is not None
        self._cookie_name = (
            f"{'__Host-' if self._secure else ''}edgepose-{settings.port}"  # a browser keeps one jar for all ports of a host
        )
        self.requests = RateLimit(settings.requests_per_minute, settings.requests_per_minute)
        self._failures = RateLimit(_FAILURES_PER_MINUTE, _FAILURES_PER_MINUTE)
        self.refused = 0

    def enter(self, connection: HTTPConnection) -> Visitor:
        """Raises Refusal."""
        address = connection.client.host if connection.client else ""
        if wait_s := self.requests.take(address):
            raise Refusal(429, f"too many requests from {address}: wait {math.ceil(wait_s)} s", _retry_after(wait_s))
        self._check_host(connection)
        _check_origin(connection)
        if self.is_open:
            return Visitor("local", None, is_local=True)
        if "authorization" in connection.headers:
            scheme, _, token = connection.headers["authorization"].partition(" ")
            return self.visitor_with(token.strip() if scheme.lower() == "bearer" else "", address)
        return self._visitor_with_cookie(connection)

    def visitor_with(self, token: str, address: str) -> Visitor:
        """Raises Refusal for a token that is nobody's. Only those have a rate: a stranger may share an address with who has a token."""
        holder = self._authority.holder(token) if 0 < len(token) <= _LONGEST_TOKEN else None
        if holder is not None:
            return Visitor(holder.name, holder)
        if wait_s := self._failures.take(address):
            raise Refusal(429, f"too many wrong tokens from {address}: wait {math.ceil(wait_s)} s", _retry_after(wait_s))
        raise Refusal(401, "this token is nobody's: wanted 'Authorization: Bearer TOKEN' with one of [auth]", _CHALLENGE)

    def cookie(self, value: str, seconds: float) -> str:
        """The header that sets the cookie; `seconds` 0 forgets it."""
        flags = "; Secure" if self._secure else ""
        return f"{self._cookie_name}={value}; Path=/; Max-Age={int(seconds)}; HttpOnly; SameSite=Strict{flags}"

    def renewed(self, visitor: Visitor) -> str | None:
        """A new cookie where half of the old one's time is over."""
        if visitor.holder is None or visitor.left_s is None or visitor.left_s > self.sessions.seconds / 2:
            return None
        return self.cookie(self.sessions.begin(visitor.holder), self.sessions.seconds)

    def _visitor_with_cookie(self, connection: HTTPConnection) -> Visitor:
        try:
            jar = SimpleCookie(connection.headers.get("cookie", ""))
        except CookieError:
            return Visitor(None, None)
        found = self.sessions.holder(jar[self._cookie_name].value) if self._cookie_name in jar else None
        return Visitor(found[0].name, found[0], left_s=found[1]) if found else Visitor(None, None)

    def _check_host(self, connection: HTTPConnection) -> None:
        """A page on the web can have its own name point here and would then be let in: see DNS rebinding."""
        if self.is_open and not is_loopback(_host_without_port(connection.headers.get("host", ""))):
            raise Refusal(403, "this name is not this machine's own: ask for 127.0.0.1 or localhost, or set a token in [auth]")


def _check_origin(connection: HTTPConnection) -> None:
    """Other pages in the same browser may neither change nor read anything."""
    method = "WEBSOCKET" if connection.scope["type"] == "websocket" else connection.scope["method"]
    origin, host = connection.headers.get("origin"), connection.headers.get("host", "")
    if method not in _SAFE and origin is not None and _netloc(origin) != host.lower():
        raise Refusal(403, "asked for by another page: only this server's own may")
    site, mode = connection.headers.get("sec-fetch-site"), connection.headers.get("sec-fetch-mode")
    if site in ("cross-site", "same-site") and mode != "navigate":
        raise Refusal(403, "asked for by another page: only this server's own may")


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _host_without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0] if "]" in host else ""
    return host.partition(":")[0]


def _retry_after(wait_s: float) -> tuple[tuple[str, str], ...]:
    return (("retry-after", str(math.ceil(wait_s))),)


_CHALLENGE = (("www-authenticate", "Bearer"),)


def wanted(role: Role) -> Callable[[HTTPConnection], Awaitable[None]]:
    """A dependency of routes. Raises Refusal."""

    async def check(connection: HTTPConnection) -> None:
        visitor: Visitor = connection.state.visitor
        if visitor.role is None:
            raise Refusal(401, "wanted 'Authorization: Bearer TOKEN', or a login by POST /api/login", _CHALLENGE)
        if not visitor.may(role):
            raise Refusal(403, f"wanted a token with role {role!r}: {visitor.name} has {visitor.role!r}")

    return check


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app, self._gate = app, gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = HTTPConnection(scope)
        try:
            visitor = self._gate.enter(connection)
        except Refusal as refusal:
            self._gate.refused += 1
            await refuse(refusal, scope, _with_headers(send, []))
            return
        connection.state.visitor = visitor
        cookie = self._gate.renewed(visitor)
        extra = [("set-cookie", cookie)] if cookie and scope["type"] == "http" else []
        await self._app(scope, receive, _with_headers(send, extra))


async def refuse(refusal: Refusal, scope: Scope, send: Send) -> None:
    """As JSON, to a request as to a WebSocket that wants to begin."""
    kind = "websocket.http" if scope["type"] == "websocket" else "http"
    body = orjson.dumps({"error": refusal.error})
    headers = [("content-type", "application/json"), ("content-length", str(len(body))), ("cache-control", "no-store"), *refusal.headers]
    await send({"type": f"{kind}.response.start", "status": refusal.status, "headers": _raw(headers)})
    await send({"type": f"{kind}.response.body", "body": body, "more_body": False})


def _with_headers(send: Send, extra: list[tuple[str, str]]) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            headers = list(message.get("headers", []))
            there = {name.lower() for name, _ in headers}
            more = [*_HEADERS.items(), ("cache-control", "no-store"), *extra]
            message["headers"] = headers + [(name, value) for name, value in _raw(more) if name not in there]
        await send(message)

    return sending


def _raw(headers: Iterable[tuple[str, str]]) -> Headers:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
