"""`Shelf`: the complete segments of all cameras, oldest first, and no more of them than the quota allows."""

from __future__ import annotations

import fcntl
import logging
import os
from collections import deque
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

import orjson

from edgepose.engines.errors import SinkError
from edgepose.runtime.complete_file import make_folder
from edgepose.runtime.daemon.segment import order_of, publish

logger = logging.getLogger(__name__)
_LOCK = ".pose-daemon.lock"
_HIDDEN = ".part"


class Shelf:
    """`folder/CAMERA/SEGMENT`. Opened by one process at a time. Segments are told from other files by their name; only they are deleted.

    Oldest is what was put in first, and of what was there before, what its name says: a clock that is set back makes nothing old.
    """

    def __init__(self, folder: Path, quota: int) -> None:
        self._folder, self._quota = folder, quota
        self._lock: FileIO | None = None
        self._segments = deque[tuple[Path, int]]()
        self.size, self.recovered, self.deleted = 0, 0, 0

    @property
    def is_open(self) -> bool:
        return self._lock is not None

    def __len__(self) -> int:
        return len(self._segments)

    def open(self, room: int = 0) -> None:
        """Completes what a crash left, looks at what is there and makes room. Raises OSError, also for what cannot be deleted, and
        SinkError, also where `room` bytes are not free."""
        make_folder(self._folder)
        space = os.statvfs(self._folder)
        if (free := space.f_bavail * space.f_frsize) < room:
            raise SinkError(f"{self._folder}: {free / 1e6:.1f} MB are free, wanted {room / 1e6:.1f}")
        lock = self._locked()
        try:
            for path in sorted(self._folder.glob(f"*/.*{_HIDDEN}.*")):
                self._recover(path)
            self._segments = deque(sorted(self._found(), key=lambda each: order_of(each[0].name) or ("", 0)))
            self.size = sum(size for _, size in self._segments)
            self.make_room(0)
        except BaseException:
            lock.close()
            raise
        self._lock = lock

    def close(self) -> None:
        """Lets another process in. Allowed twice."""
        if self._lock is not None:
            self._lock.close()
        self._lock = None

    def add(self, path: Path, size: int) -> None:
        self._segments.append((path, size))
        self.size += size

    def make_room(self, beside: int) -> None:
        """Deletes the oldest until the rest and `beside` bytes of open segments are within the quota. Raises OSError."""
        if self.size + beside > self._quota:
            self._segments = deque(each for each in self._segments if each[0].exists())  # somebody may have cleared up by hand
            self.size = sum(size for _, size in self._segments)
        while self._segments and self.size + beside > self._quota:
            path, size = self._segments[0]
            path.unlink(missing_ok=True)
            self._segments.popleft()
            self.size, self.deleted = self.size - size, self.deleted + 1

    def _locked(self) -> FileIO:
        lock = FileIO(self._folder / _LOCK, "a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise SinkError(f"{self._folder}: another pose-daemon records there: give this one a folder of its own") from error
        return lock

    def _found(self) -> Iterator[tuple[Path, int]]:
        for path in self._folder.glob("*/*Z*"):
            if order_of(path.name) and path.is_file():
                yield path, path.stat().st_size

    def _recover(self, path: Path) -> None:
        """A hidden segment of a process that is gone: its whole lines get its name. Of Parquet nothing can be read without its end."""
        named = path.with_name(path.name.removeprefix(".").replace(f"{_HIDDEN}.", "."))
        if order_of(named.name) is None:
            return
        lines = _whole_lines(path) if path.suffix == ".jsonl" else 0
        if not lines:
            path.unlink()
            logger.warning("%s: left open by a crash, nothing in it can be read: removed", path)
            return
        with path.open("r+b") as file:
            lost = os.fstat(file.fileno()).st_size - lines
            file.truncate(lines)
            os.fsync(file.fileno())
        self.recovered += 1
        logger.warning("%s: left open by a crash, completed; %d bytes of a torn line are gone", publish(named), lost)


def _whole_lines(path: Path) -> int:
    """How many bytes from the start are whole lines of JSON: after a power cut a file may also end in zeros."""
    whole = 0
    with path.open("rb") as file:
        for line in file:
            try:
                orjson.loads(line)
            except orjson.JSONDecodeError:
                break
            whole += len(line) * line.endswith(b"\n")
    return whole
