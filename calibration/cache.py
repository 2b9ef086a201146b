"""`CalibrationCache`: what a calibration found, kept under a key that names everything it depends on."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgepose.engines.bundle import record_of
from edgepose.engines.errors import SinkError
from edgepose.engines.user_cache import user_cache

_log = logging.getLogger(__name__)
_LABEL = "key.json"


def default_cache() -> Path:
    """Among what is kept for this user."""
    return user_cache() / "calibration"


class CalibrationCache:
    """One folder an entry, written beside its place and renamed, so that an entry that exists is complete.

    An entry's name is the sha256 of its key: a JSON value with the network's and the pictures' digests, the contract, the settings and
    the versions of the libraries that computed it. `key.json` holds the key and each file's size and sha256, which are checked whenever
    the entry is asked for: what a disk lost or somebody changed is made anew. Deleting the folder is always safe.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def entry(self, key: dict[str, Any], make: Callable[[Path], object]) -> Path:
        """The entry's folder; `make` fills it where it is not there or not whole. Raises SinkError where the cache cannot be written."""
        place = self._folder / hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
        if _is_whole(place, key):
            return place
        if place.exists():
            _log.warning("%s: not as it was written: the calibration cache makes it anew", place)
            shutil.rmtree(place, ignore_errors=True)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".part-", dir=self._folder, ignore_cleanup_errors=True) as scratch:
                fresh = Path(scratch) / place.name
                fresh.mkdir()
                make(fresh)
                _seal(fresh, key)
                _put(fresh, place, key)
        except OSError as error:
            reason = error.strerror or error
            raise SinkError(
                f"{self._folder}: the calibration cache: {reason}: make room or give another place with --calib-cache"
            ) from error
        return place


def _is_whole(place: Path, key: dict[str, Any]) -> bool:
    try:
        return (place / _LABEL).read_text(encoding="utf-8") == _label(place, key)
    except (OSError, UnicodeDecodeError):
        return False


def _label(place: Path, key: dict[str, Any]) -> str:
    """The text of `key.json` for the files that are there."""
    files = sorted(path for path in place.iterdir() if path.name != _LABEL)
    return json.dumps({**key, "files": {path.name: record_of(path).model_dump() for path in files}}, indent=1)


def _seal(place: Path, key: dict[str, Any]) -> None:
    """Writes `key.json` and makes sure that all files have reached the disk."""
    (place / _LABEL).write_text(_label(place, key), encoding="utf-8")
    for path in place.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _put(fresh: Path, place: Path, key: dict[str, Any]) -> None:
    try:
        fresh.rename(place)
    except OSError:
        if not _is_whole(place, key):  # else another run was first
            raise
