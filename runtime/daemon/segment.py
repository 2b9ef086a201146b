"""Segments: the files of a recording, each written under a hidden name and complete when it has its own.

A line of JSON is with the system as soon as it is written, so that a killed process loses none; a crash of the whole machine may lose the
open segment. Parquet has its table of contents at the end: of an open segment nothing can be saved.
"""

from __future__ import annotations

import os
import re
import time
from abc import ABC, abstractmethod
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepose.engines.skeleton import Skeleton
from edgepose.runtime.complete_file import hidden
from edgepose.runtime.daemon.camera_result import CameraResult
from edgepose.runtime.daemon.event import Event
from edgepose.runtime.parquet_sink import people_as_rows, schema_of_people

if TYPE_CHECKING:
    from typing_extensions import Buffer

_ROWS = 4096
"""A row group: what is kept in memory before it is written."""
_NAME = re.compile(r"(\d+-\d\d-\d\dT\d\d-\d\d-\d\dZ)(?:-(\d+))?(\.events)?\.(jsonl|parquet)")


class Segment(ABC):
    """An open file. `size` in bytes on the disk, `count` of what it holds, `began_s` by the monotonic clock. Methods raise OSError."""

    def __init__(self, path: Path) -> None:
        self.path, self.size, self.count, self.began_s = path, 0, 0, time.monotonic()
        self._file = _WholeFile(hidden(path), "x")

    @abstractmethod
    def write(self, thing: CameraResult | Event) -> None: ...

    @abstractmethod
    def rescue(self) -> bool:
        """After an error: whether its whole lines could be completed. Else `count` is 0 where they are gone."""

    def complete(self) -> None:
        """Has the disk take it, and gives it its name; removes it where it holds nothing. Where this raises, `hidden(path)` is left."""
        try:
            if self.count:
                self._end()
                os.fsync(self._file.fileno())
        finally:
            self._file.close()
        if self.count:
            self.path = publish(self.path)
        else:
            hidden(self.path).unlink(missing_ok=True)

    @abstractmethod
    def _end(self) -> None: ...


class JsonLinesSegment(Segment):
    """A line each."""

    def write(self, thing: CameraResult | Event) -> None:
        self.size, self.count = self.size + self._file.write(thing.as_json() + b"\n"), self.count + 1

    def rescue(self) -> bool:
        if self._file.closed:
            return False
        self.complete()
        return self.count > 0

    def _end(self) -> None:
        self._file.truncate(self.size)  # a disk that is full took a part of a line


class ParquetSegment(Segment):
    """A row a person: camera, at (of capture, UTC), index, and the columns of `people_as_rows`. Wants pyarrow."""

    def __init__(self, path: Path, skeleton: Skeleton) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        first = {"camera": pa.dictionary(pa.int32(), pa.string()), "at": pa.timestamp("us", "UTC"), "index": pa.int64()}
        self._schema, self._rows, self._arrow = schema_of_people(skeleton, first), list[dict[str, Any]](), pa
        super().__init__(path)
        self._writer = pq.ParquetWriter(self._file, self._schema)

    def write(self, thing: CameraResult | Event) -> None:
        assert isinstance(thing, CameraResult)
        about = {"camera": thing.camera, "at": round(thing.at_s * 1e6), "index": thing.result.frame.index}
        self._rows += [about | person for person in people_as_rows(thing.result.poses)]
        if len(self._rows) >= _ROWS:
            self._flush()
        self.count += 1

    def rescue(self) -> bool:
        self.count, self._writer.is_open = 0, False
        self._file.close()
        hidden(self.path).unlink(missing_ok=True)
        return False

    def _flush(self) -> None:
        rows, self._rows = self._rows, []
        self._writer.write_table(self._arrow.Table.from_pylist(rows, self._schema))
        self.size = self._file.tell()

    def _end(self) -> None:
        self._flush()
        self._writer.close()
        self.size = self._file.tell()


class _WholeFile(FileIO):
    """Without a buffer, so that nothing is left to fail when it is closed; a disk that is nearly full takes a part, and says so then."""

    def write(self, data: Buffer, /) -> int:
        left = whole = memoryview(data).cast("B")
        while left:
            left = left[super().write(left) :]
        return len(whole)


def publish(path: Path) -> Path:
    """Gives a complete hidden file its name, or the next free one where somebody else took that; returns it when the disk has it."""
    free = path if not path.exists() else free_name(path)
    os.rename(hidden(path), free)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return free


def segment_path(folder: Path, at_s: float, suffix: str) -> Path:
    """`FOLDER/2026-11-22T05-17-18Z.jsonl` for a Unix time and `.jsonl` or `.events.jsonl`; a name that nothing has yet."""
    return free_name(folder / f"{time.strftime('%Y-%m-%dT%H-%M-%SZ', time.gmtime(at_s))}{suffix}")


def free_name(path: Path) -> Path:
    """The same second may come twice, on a clock that is set back: -2, -3, ... tell apart."""
    stem, dot, suffix = path.name.partition(".")
    stem, number = re.sub(r"(?<=Z)-\d+$", "", stem), 1
    while path.exists() or hidden(path).exists():
        number += 1
        path = path.with_name(f"{stem}-{number}{dot}{suffix}")
    return path


def order_of(name: str) -> tuple[str, int] | None:
    """Sorts names of segments by time; None for what is none of ours."""
    match = _NAME.fullmatch(name)
    return (match[1], int(match[2] or 1)) if match else None
