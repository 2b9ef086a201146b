"""`Event`: something that an operator asked to be told of."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import orjson


@dataclass(frozen=True, slots=True)
class Event:
    """`kind` is presence, fall, hand_raised, or what a hook calls its own; `zone` is None for the whole picture; `at_s` Unix time.

    `state`: started and ended for what lasts, changed where `count` did, happened for what is over at once. `person` is the tracked id.
    """

    camera: str
    kind: str
    state: Literal["started", "ended", "changed", "happened"]
    at_s: float
    zone: str | None = None
    person: int | None = None
    count: int | None = None
    detail: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> bytes:
        value = asdict(self)
        return orjson.dumps({"at": round(value.pop("at_s"), 4), **value})
