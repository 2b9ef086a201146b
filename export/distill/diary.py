"""`Diary`: the run log beside the weights, JSON Lines, to be committed with them."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from io import BufferedRandom
from pathlib import Path
from typing import Any

from edgepose.engines.errors import SinkError
from edgepose.runtime.complete_file import told

_DIGITS = 6


class Diary:
    """Appends one line an event and closes the file again, so that a killed training leaves whole lines."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Meanwhile no other training writes this diary and the files beside it. Raises SinkError where one does."""
        with told(self._path):
            file = self._path.open("ab")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise SinkError(
                    f"{self._path}: another pose-distill writes it at this moment: wait for that, or give another --out"
                ) from error
            except OSError:  # a file system without locks: nobody there can say
                pass
            yield

    def write(self, event: str, values: Mapping[str, Any]) -> None:
        """Raises SinkError."""
        line = {"event": event, "at": datetime.now(timezone.utc).isoformat(timespec="seconds"), **values}
        rounded = {key: round(value, _DIGITS) if isinstance(value, float) else value for key, value in line.items()}
        with told(self._path), self._path.open("a+b") as file:
            file.write(_end_of_torn_line(file) + json.dumps(rounded).encode() + b"\n")


def _end_of_torn_line(file: BufferedRandom) -> bytes:
    """A full disk, or a loss of power, leaves half a line, which must not spoil the next one too."""
    if not file.seek(0, os.SEEK_END):
        return b""
    file.seek(-1, os.SEEK_END)
    return b"" if file.read(1) == b"\n" else b"\n"
