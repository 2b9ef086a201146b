"""`MqttSettings`: `[mqtt]` of the daemon's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from edgepose.engines.record import Record


class MqttSettings(Record):
    """The MQTT broker that poses and events go to."""

    host: str = Field(min_length=1, max_length=253, description="The broker's name or address")
    port: int = Field(default=1883, ge=1, le=65535, description="The broker's TCP port; 8883 is usual with tls")
    username: str | None = Field(default=None, min_length=1, max_length=1024, description="Who we are to the broker")
    password_file: Path | None = Field(default=None, description="File whose first line is the password; wants username")
    password_env: str | None = Field(
        default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="Environment variable with the password, instead of password_file"
    )
    topic: str = Field(
        default="edgepose",
        pattern=r"^[^+#\x00/$][^+#\x00]*$",
        max_length=256,
        description="What the topics of this daemon begin with; another one for each daemon at a broker",
    )
    qos: Literal[0, 1] = Field(default=1, description="0: a message may be lost; 1: it is sent until the broker confirms it")
    discovery: bool = Field(default=True, description="Whether Home Assistant is told of the cameras and events")
    discovery_prefix: str = Field(
        default="homeassistant", pattern=r"^[^+#\x00/$][^+#\x00]*$", max_length=256, description="Topic under which Home Assistant looks"
    )
    poses_per_s: float = Field(
        default=5.0, ge=0, le=120, description="Poses sent a second and camera, at most; 0: none, only events and availability"
    )
    buffer: int = Field(
        default=1000,
        ge=1,
        le=1_000_000,
        description="Events kept while the broker is away; then the oldest are dropped and counted. Poses are never kept",
    )
    tls: bool = Field(default=False, description="Whether the connection is encrypted and the broker's certificate verified")
    ca_file: Path | None = Field(
        default=None, description="PEM file of who signed the broker's certificate, if not the system's; wants tls"
    )
    keepalive_s: int = Field(default=30, ge=5, le=3600, description="Longest silence after which the connection counts as lost, in seconds")

    @model_validator(mode="after")
    def _consistent(self) -> MqttSettings:
        if self.password_file is not None and self.password_env is not None:
            raise ValueError("password_file and password_env: wanted one of them")
        if (self.password_file or self.password_env) and self.username is None:
            raise ValueError("a password without a username: add username")
        if self.ca_file is not None and not self.tls:
            raise ValueError("ca_file without tls: set tls = true")
        return self
