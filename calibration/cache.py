"""`CalibrationCache`: what a calibration found, kept under a key that names everything it depends on."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgepose.engines.errors import SinkError


def default_cache() -> Path:
    """`$XDG_CACHE_HOME/edgepose/calibration`, by default under `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgepose" / "calibration"


class CalibrationCache:
    """One folder an entry, written beside its place and renamed, so that an entry that exists is complete.

    An entry's name is the sha256 of its key: a JSON value with the network's and the pictures' digests, the contract, the settings and
    the versions of the libraries that computed it. Entries are never changed; deleting the folder is always safe.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def entry(self, key: dict[str, Any], make: Callable[[Path], object]) -> Path:
        """The entry's folder; `make` fills it where it is not there yet. Raises SinkError where the cache cannot be written."""
        place = self._folder / hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
        if place.is_dir():
            return place
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            scratch = Path(tempfile.mkdtemp(prefix=".part-", dir=self._folder))
        except OSError as error:
            raise SinkError(f"{self._folder}: {error.strerror}: give another place with --calib-cache") from error
        try:
            make(scratch)
            (scratch / "key.json").write_text(json.dumps(key, indent=1))
            try:
                scratch.rename(place)
            except OSError:
                if not place.is_dir():  # another run was first
                    raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return place
