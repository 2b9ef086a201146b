"""`ServerSettings`: `[server]` of the daemon's configuration."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from edgepose.engines.record import Record


class ServerSettings(Record):
    """The HTTP server. Another host than this machine's own needs a token in `[auth]`."""

    host: str = Field(
        default="127.0.0.1", min_length=1, max_length=253, description="Address to listen on; 0.0.0.0 or :: for all of this machine"
    )
    port: int = Field(default=8700, ge=1, le=65535, description="TCP port to listen on")
    tls_certificate: Path | None = Field(
        default=None, description="PEM file with the certificate and its chain: HTTPS instead of HTTP; wants tls_key"
    )
    tls_key: Path | None = Field(default=None, description="PEM file with the certificate's private key, without a passphrase")
    page: bool = Field(default=True, description="Whether the page for people is at /")
    max_picture_mb: float = Field(default=16.0, gt=0, le=512, description="Largest picture that POST /api/infer takes, in MB of its file")
    max_megapixels: float = Field(default=40.0, gt=0, le=1000, description="Largest picture that POST /api/infer takes, once decoded")
    requests_per_minute: int = Field(
        default=600, ge=1, le=1_000_000, description="Requests that one address may make in a minute; more are answered with 429"
    )
    max_clients: int = Field(default=256, ge=1, le=10_000, description="Connections at a time; more are refused with 503")
    request_timeout_s: float = Field(
        default=10.0, gt=0, le=600, description="How long a request may take to arrive, and an answer to be made, in seconds"
    )
