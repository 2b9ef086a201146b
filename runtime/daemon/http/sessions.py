"""`Sessions`: signed cookies for browsers, whose pictures and WebSockets cannot carry a header."""

from __future__ import annotations

import base64
import hmac
import secrets
import time
from collections.abc import Callable
from hashlib import sha256

from edgepose.runtime.daemon.auth import AuthSettings, TokenSettings

_LONGEST = 512


class Sessions:
    """A cookie says whose it is and until when, signed with a key that this object alone has: it holds until the daemon is started anew,
    or the token's line in the configuration changes. Expiry goes by the monotonic clock, which nobody sets."""

    def __init__(self, auth: AuthSettings, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._tokens = {token.name: token for token in auth.tokens}
        self._key, self._clock, self.seconds = secrets.token_bytes(32), clock, seconds

    def begin(self, holder: TokenSettings) -> str:
        """The cookie's value."""
        said = f"{holder.name}.{int(1000 * (self._clock() + self.seconds))}"
        return f"{said}.{self._signature(said, holder)}"

    def holder(self, cookie: str) -> tuple[TokenSettings, float] | None:
        """Whose it is and how many seconds it still holds; None for one that was not made here or has run out."""
        said, _, signature = cookie[:_LONGEST].rpartition(".")
        name, _, until = said.rpartition(".")
        token = self._tokens.get(name)
        if token is None or not hmac.compare_digest(self._signature(said, token).encode(), signature.encode("utf-8", "surrogatepass")):
            return None
        left = int(until) / 1000 - self._clock()
        return (token, left) if left > 0 else None

    def _signature(self, said: str, holder: TokenSettings) -> str:
        """Of the token's hash and role too: a cookie does not outlive a token that was replaced."""
        message = "\0".join((said, holder.role, holder.hash)).encode("utf-8", "surrogatepass")
        return base64.urlsafe_b64encode(hmac.digest(self._key, message, sha256)).decode().rstrip("=")
