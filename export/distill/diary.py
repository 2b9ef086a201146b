"""`Diary`: the run log beside the weights, JSON Lines, to be committed with them."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepose.engines.errors import SinkError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_DIGITS = 6


class Diary:
    """Appends one line an event and closes the file again, so that a killed training leaves whole lines."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, event: str, values: DataclassInstance | dict[str, Any]) -> None:
        """Raises SinkError."""
        known = values if isinstance(values, dict) else asdict(values)
        line = {"event": event, "at": datetime.now(timezone.utc).isoformat(timespec="seconds"), **known}
        rounded = {key: round(value, _DIGITS) if isinstance(value, float) else value for key, value in line.items()}
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(rounded) + "\n")
        except OSError as error:
            raise SinkError(f"{self._path}: cannot be written ({error.strerror or error})") from error
