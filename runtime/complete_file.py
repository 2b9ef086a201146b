"""Files that appear only when they are complete.

One is written under a hidden name in its own folder and gets its name at the end, so that nothing half-written is left under a name that
somebody reads.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import cv2
from av.error import FFmpegError

from edgepose.engines.errors import SinkError


class Closable(Protocol):
    def close(self) -> None: ...


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"{folder}: cannot be made ({error.strerror or error}); is there a file of that name?") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SinkError(f"{folder}: no permission to write in this folder")


def hidden(path: Path) -> Path:
    """Where a file is written until it is complete; the suffix stays last, because FFmpeg goes by it."""
    return path.with_name(f".{path.stem}.part{path.suffix}")


class Claim:
    """A hidden file, made or emptied, into which nobody else writes until it is released. Raises SinkError where somebody does."""

    def __init__(self, path: Path) -> None:
        if path.is_dir():
            raise SinkError(f"{path}: there is a folder of that name: remove it, or choose another place for results")
        with told(path):
            self._file = hidden(path).open("ab")
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not os.path.samestat(os.fstat(self._file.fileno()), hidden(path).stat()):
                    raise BlockingIOError  # it was completed in between
            except (BlockingIOError, FileNotFoundError) as error:
                self._file.close()
                raise SinkError(f"{path}: another program writes it at this moment: wait for that, or give another folder") from error
            self._file.truncate(0)
        self._path = path

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Around what opens the hidden file anew, to write into it: where that fails, nothing is left. Raises SinkError."""
        try:
            with told(self._path):
                yield
        except BaseException:
            drop(self._path, None)
            self.release()
            raise

    def release(self) -> None:
        self._file.close()


def write_complete(path: Path, data: bytes) -> None:
    with completed(path):
        hidden(path).write_bytes(data)


def replace_file(path: Path, data: bytes) -> None:
    """Another content under the same name, owner's rights included, which survives a loss of power whole, old or new. A link goes on
    pointing where it did. Raises SinkError."""
    path = Path(os.path.realpath(path))
    part = hidden(path)
    with told(path):
        try:
            mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
            with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
                os.fchmod(file.fileno(), mode)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def completed(path: Path) -> Iterator[None]:
    """Gives the hidden file its name at the end, drops it on an exception. Raises SinkError."""
    try:
        with told(path):
            yield
            os.replace(hidden(path), path)
    except BaseException:
        drop(path, None)
        raise


@contextmanager
def told(path: Path) -> Iterator[None]:
    """What the system, FFmpeg, OpenCV and PyArrow (which takes names in UTF-8 only) say, as a SinkError of one line."""
    try:
        yield
    except (OSError, FFmpegError, cv2.error, UnicodeEncodeError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise SinkError(f"{path}: cannot be written ({reason})") from error


def drop(path: Path, open_file: Closable | None) -> None:
    """Closes and removes the hidden file, whatever state it is in."""
    with suppress(OSError, FFmpegError):
        if open_file is not None:
            open_file.close()
    with suppress(OSError):
        hidden(path).unlink(missing_ok=True)
