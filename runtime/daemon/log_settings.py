"""`LogSettings`: `[log]` of the daemon's configuration."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgepose.engines.record import Record


class LogSettings(Record):
    """What is said on stderr, which is journald's under systemd."""

    format: Literal["text", "json"] = Field(default="text", description="Lines for people, or one JSON object a line")
    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="The least severe that is said")
    tail: int = Field(default=500, ge=10, le=10_000, description="Lines kept for the page")
