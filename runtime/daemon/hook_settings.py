"""`HookSettings`: `[hook]` of the daemon's configuration."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from edgepose.engines.record import Record


class HookSettings(Record):
    """A Python file of the user's own, which runs in a process of its own."""

    file: Path = Field(description="Python file with a function on_poses")
    timeout_s: float = Field(
        default=5.0, gt=0, le=600, description="How long one call may take, in seconds; then its process is ended and started anew"
    )
    depth: int = Field(
        default=16, ge=1, le=10_000, description="Results kept while the hook is busy; then the oldest are dropped and counted"
    )
    memory_mb: int | None = Field(
        default=None, ge=64, le=1_000_000, description="Address space that its process may have, in MB; by default as much as it wants"
    )
