"""Who may ask the daemon: tokens in the configuration as hashes, compared in constant time."""

from __future__ import annotations

import hmac
import secrets
from hashlib import sha256
from typing import Annotated, Literal

from pydantic import Field

from edgepose.engines.record import Record

Role = Literal["read", "admin"]
ROLES: tuple[Role, ...] = ("read", "admin")
"""Each may what those before it may."""

_PREFIX = "epd_"
_NAME = r"^[A-Za-z0-9_-]{1,64}$"
_HASH = r"^sha256:[0-9a-f]{32}:[0-9a-f]{64}$"


class TokenSettings(Record):
    """One who may ask, as `pose-daemon token` prints it."""

    name: Annotated[str, Field(pattern=_NAME)] = Field(description="Who holds the token: letters, digits, - and _, at most 64; logs say it")
    role: Role = Field(description="read: everything but changes; admin: changes of the configuration too")
    hash: Annotated[str, Field(pattern=_HASH)] = Field(
        description="The token's hash, from `pose-daemon token`; the token is not in the file"
    )


class AuthSettings(Record):
    """Who may ask. Without a token everybody on this machine may, and the server listens to no other."""

    tokens: tuple[TokenSettings, ...] = Field(default=(), max_length=256, description="Tokens that are taken")


class Authority:
    """Tells who holds a token. May be used from any thread."""

    def __init__(self, settings: AuthSettings) -> None:
        self._tokens = settings.tokens

    @property
    def is_open(self) -> bool:
        """Whether nobody has to show a token."""
        return not self._tokens

    def holder(self, token: str) -> TokenSettings | None:
        """Whose it is; None for nobody's. Takes as long for a wrong one as for a right one: every hash is made and compared."""
        found = None
        for each in self._tokens:
            if _matches(token, each.hash):
                found = each
        return found


def may(holder: TokenSettings, wanted: Role) -> bool:
    """Whether a role suffices: admin may all that read may."""
    return ROLES.index(holder.role) >= ROLES.index(wanted)


def new_token(name: str, role: Role) -> tuple[str, str]:
    """A token, which is nowhere else, and the lines of TOML that let it in. Raises ConfigError for a name or role that cannot be."""
    token = _PREFIX + secrets.token_urlsafe(32)
    settings = TokenSettings.parse({"name": name, "role": role, "hash": hash_of_token(token)}, "token")
    return token, "\n".join(["[[auth.tokens]]", *(f'{key} = "{value}"' for key, value in settings.model_dump().items())])


def hash_of_token(token: str) -> str:
    """`sha256:SALT:DIGEST`.

    A slow hash is for what people think up; these tokens have 256 random bits, which nobody searches at any speed, and every request
    costs one hash a token: scrypt would hand whoever sends wrong tokens a lever on the daemon's processor.
    """
    return _salted(token, secrets.token_bytes(16))


def _salted(token: str, salt: bytes) -> str:
    return f"sha256:{salt.hex()}:{sha256(salt + token.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _matches(token: str, known: str) -> bool:
    salt = bytes.fromhex(known.split(":")[1])
    return hmac.compare_digest(_salted(token, salt), known)
