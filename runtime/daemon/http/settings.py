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
    port: int = Field(default=8700, ge=0, le=65535, description="TCP port to listen on; 0 takes a free one")
    tls_certificate: Path | None = Field(
        default=None, description="PEM file with the certificate and its chain: HTTPS instead of HTTP; wants tls_key"
    )
    tls_key: Path | None = Field(default=None, description="PEM file with the certificate's private key, without a passphrase")
    page: bool = Field(default=True, description="Whether the page for people is at /")
    session_minutes: float = Field(
        default=60.0, gt=0, le=60 * 24 * 30, description="How long a login on the page holds after it was last used, in minutes"
    )
    max_picture_mb: float = Field(default=16.0, gt=0, le=512, description="Largest picture that POST /api/infer takes, in MB of its file")
    max_megapixels: float = Field(default=40.0, gt=0, le=1000, description="Largest picture that POST /api/infer takes, once decoded")
    max_inferences: int = Field(
        default=2, ge=1, le=64, description="Pictures of POST /api/infer that are held at a time; for others it answers 503"
    )
    requests_per_minute: int = Field(
        default=600, ge=1, le=1_000_000, description="Requests that one address may make in a minute; more are answered with 429"
    )
    max_clients: int = Field(default=512, ge=1, le=10_000, description="Connections at a time; more are refused with 503")
    max_clients_per_address: int = Field(
        default=256, ge=1, le=10_000, description="Connections of one address at a time; more are refused with 503"
    )
    header_timeout_s: float = Field(
        default=5.0, gt=0, le=60, description="How long the headers of a request may take to arrive, in seconds"
    )
    request_timeout_s: float = Field(
        default=20.0, gt=0, le=600, description="How long a request may take to arrive, and an answer of the engine to be made, in seconds"
    )
    send_timeout_s: float = Field(
        default=10.0, gt=0, le=600, description="A client that takes nothing of what is sent to it for so long is disconnected, in seconds"
    )
    stream_depth: int = Field(
        default=16, ge=1, le=1024, description="Results that wait for one client of a stream; the newest win, what is dropped is counted"
    )
    picture_fps: float = Field(default=10.0, gt=0, le=120, description="Most pictures a second and camera in /api/stream and on the page")
    picture_width: int = Field(default=960, ge=64, le=7680, description="Wider pictures are made so wide in /api/stream and on the page")
    picture_quality: int = Field(default=75, ge=10, le=100, description="JPEG quality of the pictures that the server sends")
