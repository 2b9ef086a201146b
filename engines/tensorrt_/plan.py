"""`Plan`: what TensorRT built from a bundle on one device, kept in the bundle's `plans/` and vouched for by a record.

A plan is good for one ONNX file, one TensorRT, one kind of GPU and one set of build settings; these make its key, and the key's digest its
name. A plan that is found under another key, torn or changed is never loaded: `find` says why.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from edgepose.engines.bundle import Bundle, FileRecord, record_of
from edgepose.engines.errors import EdgePoseError, SinkError
from edgepose.engines.record import Record, read_json

FOLDER = "plans"
_AMPERE = 8.0


class BuildSettings(Record):
    """What a plan is built with. Sizes are MiB.

    `low_memory` is for boards of 4 or 8 GB: a smaller workspace and fewer tactics tried. `dla_core` runs what it can on that DLA core;
    what it cannot ends the build unless `gpu_fallback` allows it. `batches` (least, best, most) is for a dynamic batch, three times its
    size for a fixed one. `hardware_compatible` plans run on every GPU from Ampere on (NVIDIA: not with JetPack), `version_compatible` ones
    in later TensorRTs; both are slower.
    """

    workspace_mib: Annotated[int, Field(ge=1, le=1 << 20)] = 1024
    low_memory: bool = False
    dla_core: Annotated[int, Field(ge=0, le=1)] | None = None
    gpu_fallback: bool = False
    batches: tuple[int, int, int] = (1, 1, 1)
    hardware_compatible: bool = False
    version_compatible: bool = False


class PlanKey(Record):
    """Everything a plan depends on."""

    onnx_sha256: str
    tensorrt: str
    compute_capability: str
    gpu: str
    settings: BuildSettings

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()[:32]


class PlanRecord(Record):
    """`NAME.json` beside `NAME.plan`; `log` names the builder's log in the same folder, `seconds` is how long the build took.

    `layers` counts the convolutions and matrix products of the plan by arithmetic, from the builder's list; empty where it gave none.
    """

    key: PlanKey
    plan: FileRecord
    log: str
    seconds: float
    layers: dict[str, int] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan that was whole and unchanged when it was found."""

    path: Path
    record: PlanRecord


@dataclass(frozen=True, slots=True)
class PlanFolder:
    """The plans of one bundle."""

    folder: Path
    onnx_sha256: str

    @staticmethod
    def of(bundle: Bundle) -> PlanFolder:
        return PlanFolder(bundle.path / FOLDER, bundle.manifest.files[bundle.manifest.model].sha256)

    def key(self, tensorrt: str, compute_capability: str, gpu: str, settings: BuildSettings) -> PlanKey:
        return PlanKey(onnx_sha256=self.onnx_sha256, tensorrt=tensorrt, compute_capability=compute_capability, gpu=gpu, settings=settings)

    def find(self, key: PlanKey, batch: int | None = None) -> tuple[Plan | None, list[str]]:
        """The plan of this key, or None and one line for each plan that is there: why it cannot be used.

        With `batch`, a plan of other settings will do as long as it takes that batch; the newest is taken.
        """
        reasons = []
        for path in sorted(self.folder.glob("*.plan"), key=lambda path: -path.stat().st_mtime_ns):
            reason, record = _checked(path, key, batch)
            if record is not None:
                return Plan(path, record), []
            reasons.append(f"{FOLDER}/{path.name}: {reason}")
        return None, reasons

    def store(self, key: PlanKey, log: str, build: Callable[[Path], dict[str, int]]) -> Plan:
        """Has `build` write the plan to a path beside its place and tell its layers, then puts plan and record in place, the record last.

        Raises SinkError where the bundle cannot be written to; what `build` raises leaves nothing behind.
        """
        path = self.folder / f"{key.fingerprint}.plan"
        part = path.with_suffix(".plan.part")
        try:
            self.folder.mkdir(exist_ok=True)
            path.with_suffix(".json").unlink(missing_ok=True)
            begin = time.perf_counter()
            try:
                layers = build(part)
                _durable(part, path)
            finally:
                part.unlink(missing_ok=True)
            record = PlanRecord(key=key, plan=record_of(path), log=log, seconds=time.perf_counter() - begin, layers=layers)
            written = path.with_suffix(".json.part")
            written.write_text(json.dumps(record.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")
            _durable(written, path.with_suffix(".json"))
        except OSError as error:
            raise SinkError(f"{error.filename or self.folder}: {error.strerror or error}: a plan cannot be kept in the bundle") from error
        return Plan(path, record)


def _checked(path: Path, wanted: PlanKey, batch: int | None) -> tuple[str, PlanRecord | None]:
    """Why a plan cannot be used, or its record."""
    try:
        record = PlanRecord.parse(read_json(path.with_suffix(".json")), path.with_suffix(".json").name)
    except EdgePoseError as error:
        return f"its record cannot be read ({error})", None
    reason = next(_faults(path, record, wanted, batch), None)
    return (reason, None) if reason else ("", record)


def _faults(path: Path, record: PlanRecord, wanted: PlanKey, batch: int | None) -> Iterator[str]:
    key = record.key
    if key.onnx_sha256 != wanted.onnx_sha256:
        yield f"it was built from another model.onnx (sha256 {key.onnx_sha256[:12]}..., wanted {wanted.onnx_sha256[:12]}...)"
    if key.tensorrt != wanted.tensorrt and not (key.settings.version_compatible and _is_later(wanted.tensorrt, key.tensorrt)):
        yield f"it was built by {key.tensorrt}, this machine has {wanted.tensorrt}"
    travels = key.settings.hardware_compatible and float(wanted.compute_capability) >= _AMPERE
    if key.compute_capability != wanted.compute_capability and not travels:
        yield f"it was built for compute capability {key.compute_capability}, this GPU has {wanted.compute_capability}"
    if key.gpu != wanted.gpu and not travels:
        yield f"it was built on {key.gpu}, this is {wanted.gpu}"
    least, _, most = key.settings.batches
    if batch is None and key.settings != wanted.settings:
        yield f"it was built with other settings ({_difference(key.settings, wanted.settings)})"
    if batch is not None and not least <= batch <= most:
        yield f"it takes batches of {least} to {most}, wanted {batch}"
    if (size := path.stat().st_size) != record.plan.bytes:
        yield f"{size} bytes, wanted {record.plan.bytes}: torn"
    if record_of(path).sha256 != record.plan.sha256:
        yield "changed since it was built (sha256 differs)"


def _is_later(version: str, than: str) -> bool:
    """Of two TensorRTs, `TensorRT 10.3.0`."""
    (kind, a), (other, b) = (text.rsplit(" ", 1) for text in (version, than))
    return kind == other and [int(part) for part in a.split(".")] >= [int(part) for part in b.split(".")]


def _difference(found: BuildSettings, wanted: BuildSettings) -> str:
    pairs = ((name, getattr(found, name), getattr(wanted, name)) for name in BuildSettings.model_fields)
    return ", ".join(f"{name} {a}, wanted {b}" for name, a, b in pairs if a != b)


def _durable(part: Path, path: Path) -> None:
    with part.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(part, path)
