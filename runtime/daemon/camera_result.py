"""`CameraResult`: who was found in one frame of one camera, and how long that took."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from edgepose.runtime.inferences import Result
from edgepose.runtime.sinks import people_as_json


@dataclass(slots=True, eq=False)
class CameraResult:
    """`at_s` is the Unix time of capture."""

    camera: str
    result: Result
    at_s: float
    _json: bytes = field(default=b"", init=False, repr=False)

    @property
    def size_wh(self) -> tuple[int, int]:
        return self.result.frame.size_wh

    @property
    def age_ms(self) -> float:
        """From capture to people."""
        return (self.result.times.found - self.result.frame.captured_ns) / 1e6

    @property
    def stages_ms(self) -> dict[str, float]:
        """In the order in which a frame goes through them; their sum is `age_ms`."""
        captured, times = self.result.frame.captured_ns, self.result.times
        moments = (captured, times.taken, times.started, times.ready, times.found)
        names = ("waiting", "preprocessing", "inference", "parsing")
        return {name: (end - start) / 1e6 for name, start, end in zip(names, moments, moments[1:], strict=False)}

    def as_json(self) -> bytes:
        """One JSON object, made once however many read it: camera, index, at (Unix time), size [w, h], people as JSON Lines has them,
        age_ms and stages_ms."""
        if not self._json:
            frame = self.result.frame
            value: dict[str, Any] = {"camera": self.camera, "index": frame.index, "at": round(self.at_s, 4), "size": self.size_wh}
            value["people"] = people_as_json(self.result.poses)
            value |= {"age_ms": round(self.age_ms, 2), "stages_ms": {name: round(ms, 2) for name, ms in self.stages_ms.items()}}
            self._json = orjson.dumps(value)
        return self._json
