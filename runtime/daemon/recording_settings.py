"""`RecordingSettings`: `[recording]` of the daemon's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from edgepose.engines.record import Record


class RecordingSettings(Record):
    """Results and events as files, FOLDER/CAMERA/TIME.jsonl and FOLDER/CAMERA/TIME.events.jsonl, each complete when it has its name."""

    folder: Path = Field(description="Where the files go, a folder a camera; made where it is missing; nothing else should be in it")
    format: Literal["jsonl", "parquet"] = Field(
        default="jsonl",
        description="jsonl: a line a frame, of which a crash loses the last; parquet: a row a person, of which a crash loses the open file",
    )
    segment_s: float = Field(default=60.0, ge=1, le=86400, description="How long a file goes on until the next is begun, in seconds")
    quota_mb: float = Field(default=1024.0, ge=1, le=1e9, description="Size of all files together, in MB; then the oldest are deleted")
    depth: int = Field(
        default=512, ge=1, le=100_000, description="Results kept while the disk is slow; then the oldest are dropped and counted"
    )
