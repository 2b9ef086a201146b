"""What answers look like, for the OpenAPI description."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from edgepose.runtime.daemon.auth import Role
from edgepose.runtime.daemon.site import CameraCondition

_CAMERA = "entrance"


class Answer(BaseModel):
    """Frozen; made from dataclasses too."""

    model_config = ConfigDict(frozen=True, from_attributes=True)


class ErrorModel(Answer):
    """What every refusal and failure looks like."""

    error: str = Field(description="What was found, what was wanted and what to do, in one line", examples=["no camera 'entrnce'"])


class CameraModel(Answer):
    """`captured` = `dropped` + `results` + what is still inside."""

    name: str = Field(examples=[_CAMERA])
    condition: CameraCondition = Field(examples=["live"])
    reason: str = Field(description="Why it is not live", examples=[""])
    source: str = Field(description="Without a password", examples=["rtsp://viewer:***@10.0.0.7/stream"])
    fps: float = Field(description="Results a second over the last seconds", examples=[24.9])
    captured: int = Field(examples=[15012])
    dropped: int = Field(examples=[12])
    results: int = Field(examples=[14998])
    reconnections: int = Field(examples=[1])
    garbage: int = Field(description="Packets that could not be decoded", examples=[0])
    frozen: int = Field(description="How often the picture stood still for 10 s", examples=[0])
    size_wh: tuple[int, int] | None = Field(examples=[[1280, 720]])
    last_at_s: float | None = Field(description="Unix time of the newest result's capture", examples=[1789000000.25])
    age_ms: float | None = Field(description="From that frame's capture to its people", examples=[41.3])


class PersonModel(Answer):
    """`id` is null where people are not tracked. `keypoints`: [x, y, confidence] in picture pixels, in the skeleton's order, null where
    absent."""

    id: int | None = Field(examples=[7])
    score: float = Field(examples=[0.81])
    keypoints: list[tuple[float | None, float | None, float] | None] = Field(examples=[[[640.5, 121.25, 0.93], None]])


class PosesModel(Answer):
    """One frame's people. The milliseconds of `stages_ms` add up to `age_ms`, from capture to people."""

    camera: str = Field(description="Empty for a picture of POST /api/infer", examples=[_CAMERA])
    index: int = Field(examples=[4711])
    at: float = Field(description="Unix time of capture", examples=[1789000000.25])
    size: tuple[int, int] = Field(description="Width and height of the picture", examples=[[1280, 720]])
    people: list[PersonModel]
    age_ms: float = Field(examples=[41.3])
    stages_ms: dict[str, float] = Field(examples=[{"waiting": 3.1, "preprocessing": 1.9, "inference": 35.2, "parsing": 1.1}])


class EventModel(Answer):
    """Something that was watched for. `zone` is null for the whole picture."""

    at: float = Field(description="Unix time", examples=[1789000000.25])
    camera: str = Field(examples=[_CAMERA])
    kind: str = Field(examples=["fall"])
    state: Literal["started", "ended", "changed", "happened"] = Field(examples=["started"])
    zone: str | None = Field(examples=["stairs"])
    person: int | None = Field(examples=[7])
    count: int | None = Field(examples=[None])
    detail: dict[str, object] = Field(examples=[{}])


class LimbModel(Answer):
    """`start` and `end` are numbers of keypoints; `colour` is CSS."""

    start: int = Field(examples=[1])
    end: int = Field(examples=[2])
    colour: str = Field(examples=["#ff8f6b"])


class SkeletonModel(Answer):
    """Which keypoints the network finds, and which limbs are drawn between them."""

    name: str = Field(examples=["coco18"])
    keypoints: list[str] = Field(examples=[["nose", "neck"]])
    colours: list[str] = Field(description="One a keypoint, as CSS", examples=[["#5fd38d", "#5fd38d"]])
    limbs: list[LimbModel]


class EngineModel(Answer):
    backend: str = Field(examples=["OpenVINO 2026.4.1"])
    device: str = Field(examples=["CPU"])
    why: str = Field(examples=["asked for"])
    precisions: dict[str, int] = Field(description="Layers by arithmetic, as executed", examples=[{"u8": 56, "f32": 2}])


class StatusModel(Answer):
    """All there is to know at a glance."""

    version: str = Field(examples=["0.1.0"])
    uptime_s: float = Field(examples=[86400.5])
    ready: str = Field(description="Empty, or what is missing", examples=[""])
    engine: EngineModel
    cameras: list[CameraModel]
    temperature_c: float | None = Field(description="Of the hottest zone, where the system tells", examples=[54.2])
    services: dict[str, dict[str, object]] = Field(
        description="What the parts of the daemon tell of themselves", examples=[{"http": {"clients": 3, "dropped": 0}}]
    )


class HealthModel(Answer):
    status: Literal["ok"] = Field(examples=["ok"])
    infer_ms: float = Field(description="How long a picture took through the engine", examples=[12.5])


class ReadyModel(Answer):
    status: Literal["ready"] = Field(examples=["ready"])


class SessionModel(Answer):
    """`role` is null where a token is wanted first."""

    role: Role | None = Field(examples=["read"])
    name: str | None = Field(examples=["wall-display"])
    login: bool = Field(description="Whether this server knows tokens at all", examples=[True])


class ReloadModel(Answer):
    """What a new configuration changed."""

    applied: bool = Field(examples=[True])
    reason: str = Field(examples=[""])
    changes: list[str] = Field(examples=[["camera entrance: opened anew"]])


class LogModel(Answer):
    lines: list[str] = Field(examples=[["2026-11-22 05:40:01 INFO entrance: live"]])
