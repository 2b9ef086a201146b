"""From a network to bundles: convert, compare every hop, write only what was proven."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgepose.calibration.calibrator import CalibrationRequest, Calibrator, Tick
from edgepose.calibration.report import calibration_records, write_report
from edgepose.engines.bundle import (
    AccuracyRecord,
    Bundle,
    CalibrationRecord,
    HopParity,
    Manifest,
    bundle_directory,
    open_bundle,
    record_of,
    write_manifest,
)
from edgepose.engines.contract import ModelContract
from edgepose.engines.engine import Engine, Execution
from edgepose.engines.errors import ConfigError
from edgepose.engines.onnxruntime_ import engine_from_onnx
from edgepose.engines.openvino_ import engine_from_ir
from edgepose.engines.preprocess_reference import normalised
from edgepose.engines.target import Precision, Target
from edgepose.export.fp16_from_onnx import fp16_from_onnx
from edgepose.export.ir_from_onnx import ir_from_onnx, is_quantised
from edgepose.export.network import Network
from edgepose.export.onnx_file import load_onnx, opset_of, save_onnx, simplified, with_metadata
from edgepose.export.onnx_from_torch import OPSET, Batch, onnx_from_program, program_from_module
from edgepose.export.parity import ParityCheck, Tolerance, structured_noise
from edgepose.export.stage import IrStage, OnnxEngineStage, OnnxStage, Pictures, Stage, TorchStage
from edgepose.runtime.preprocess import fit_into

if TYPE_CHECKING:
    import torch

LOSSLESS = Tolerance(1e-5, 0.999)
"""Conversions that only rewrite the graph: what remains is the order of additions in float32."""
TOLERANCES = {
    "onnx": LOSSLESS,
    "ov-fp32": Tolerance(1e-4, 0.999),
    "ov-fp16": Tolerance(3e-2, 0.95, "mean"),
    "ov-bf16": Tolerance(2e-1, 0.9, "mean"),
    "ov-int8": Tolerance(1.0, 0.0, "mean"),  # calibrated: the gate judges, this only notices a network that fell apart
    "trt-fp32": LOSSLESS,
    "trt-fp16": Tolerance(3e-2, 0.95, "mean"),
    "trt-int8": Tolerance(1.0, 0.0, "mean"),
}
_NOISE_PICTURES = 4
_CALIBRATION_PICTURES = 12
_HALF_RMSE = 1e-2
"""Nodes return to FP32 until the verified pictures' outputs are so near: well within the tolerance, because others will be farther off."""
_TOOLS = ("edgepose", "torch", "onnx", "onnxscript", "onnxsim", "onnxruntime", "openvino", "numpy")
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Export:
    """A bundle that was written, what its engine reported when it was proven, and what the pictures say against its contract."""

    bundle: Bundle
    execution: Execution
    doubts: tuple[str, ...] = ()


def export_bundles(
    network: Network,
    targets: Sequence[Target],
    out: Path,
    batch: Batch = 1,
    pictures: Pictures | None = None,
    opset: int = OPSET,
    say: Say = lambda _: None,
    calibration: CalibrationRequest | None = None,
    tick: Tick = lambda _, __: None,
) -> list[Export]:
    """Writes one bundle a target, `out/<name>-<HxW>.<target>.pose`.

    `pictures` are fitted (n, height, width, 3) BGR levels for the comparison; without them some of the calibration's, and without a
    calibration structured noise. `say` is told each step as it begins. `calibration` is what INT8 targets are made by; without labels its
    gate judges on `pictures`. `tick` is told (done, all) while its statistics are collected.

    Raises ExportError, ParityError, CalibrationError, AccuracyGateFailed, SinkError, ConfigError or BackendUnavailable; a bundle that was
    not proven is not written.
    """
    _check_targets(network, targets, calibration)
    with tempfile.TemporaryDirectory(prefix="edgepose-export-") as scratch, ExitStack() as open_engines:
        onnx, size = Path(scratch) / "simplified" / "model.onnx", _size(batch)
        calibrator = (
            open_engines.enter_context(Calibrator(onnx, network.contract, size, calibration, pictures, say, tick)) if calibration else None
        )
        check = _parity_check(network.contract, pictures, calibrator)
        chain = _Chain(network, batch, opset, check, calibrator, Path(scratch), say, open_engines)
        chain.convert()
        return [chain.bundle(target, out) for target in targets]


def _parity_check(contract: ModelContract, pictures: Pictures | None, calibrator: Calibrator | None) -> ParityCheck:
    if pictures is None and calibrator:
        whole = calibrator.pictures.pictures
        pictures = whole[np.unique(np.linspace(0, len(whole) - 1, _CALIBRATION_PICTURES).round().astype(int))]
    noise = pictures is None
    return ParityCheck(contract, structured_noise(contract, _NOISE_PICTURES) if pictures is None else pictures, noise)


def steps(network: Network, targets: Sequence[Target]) -> int:
    """How often `export_bundles` will call `say`."""
    shared = 0 if network.ir else 2 if network.onnx else 4
    return shared + 2 * len(targets)


def fitted_pictures(pictures: Iterable[Pictures], network: Network) -> Pictures:
    """(H, W, 3) BGR pictures of any size -> (n, height, width, 3), as the runtime would fit them."""
    contract = network.contract.input
    fitted = []
    for picture in pictures:
        target = np.empty((contract.height, contract.width, 3), np.uint8)
        fit_into(target, picture, contract)
        fitted.append(target)
    return np.stack(fitted)


class _Chain:
    """The stages of one export, each compared with the one before as soon as it exists."""

    def __init__(
        self,
        network: Network,
        batch: Batch,
        opset: int,
        check: ParityCheck,
        calibrator: Calibrator | None,
        scratch: Path,
        say: Say,
        open_engines: ExitStack,
    ) -> None:
        self._network, self._batch, self._opset, self._open_engines = network, batch, opset, open_engines
        self._check, self._calibrator, self._scratch, self._say = check, calibrator, scratch, say
        self._size = _size(batch)
        self._stages: list[Stage] = []
        self._parity: list[HopParity] = []

    @property
    def _onnx(self) -> Path:
        return self._scratch / "simplified" / "model.onnx"

    def convert(self) -> None:
        """Everything that the targets share: up to the simplified ONNX."""
        network = self._network
        if network.ir:
            precision: Precision = "int8" if is_quantised(network.ir) else "fp32"
            engine = engine_from_ir(network.ir, network.contract, precision, "CPU", 1, self._size)
            self._open_engines.callback(engine.close)
            self._stages.append(IrStage("ir", engine, network.ir, precision, self._size))
            return
        raw = network.onnx or self._scratch / "raw" / "model.onnx"
        if not network.onnx:
            self._trace(raw)
        self._append(OnnxStage("onnx", raw, network.contract, self._size))
        self._say("simplify ONNX")
        model = with_metadata(simplified(load_onnx(raw)), network.contract, network.source, _tools())
        self._opset = opset_of(model)
        self._onnx.parent.mkdir()
        save_onnx(model, self._onnx)
        self._say("compare simplified ONNX")
        self._append(OnnxStage("simplified", self._onnx, network.contract, self._size))

    def bundle(self, target: Target, out: Path) -> Export:
        contract = self._network.contract
        name = f"{self._network.name}-{contract.input.height}x{contract.input.width}"
        with bundle_directory(out / f"{name}.{target.name}.pose") as directory:
            self._say(f"write {target.name}")
            files, calibration, accuracy = self._write(target, directory)
            self._say(f"compare {target.name}")
            stage, engine = self._opened(target, files[0])
            parity = self._proven(target, stage)
            manifest = Manifest(
                name=name,
                target=target.name,
                contract=contract,
                batch=self._batch,
                model=files[0].name,
                files={file.name: record_of(file) for file in files},
                source=self._network.source,
                tools=_tools(),
                opset=None if self._network.ir else self._opset,
                parity=parity,
                calibration=calibration,
                accuracy=accuracy,
            )
            write_manifest(directory, manifest)
        return Export(open_bundle(out / f"{name}.{target.name}.pose"), engine.execution, self._doubts)

    @cached_property
    def _doubts(self) -> tuple[str, ...]:
        return self._check.doubts(self._stages[0])

    def _trace(self, raw: Path) -> None:
        network = self._network
        self._say("trace with torch.export")
        program = network.program or program_from_module(_module(network), network.contract, self._batch)
        self._stages.append(TorchStage(program, network.contract, self._size))
        self._say("convert to ONNX")
        raw.parent.mkdir()
        save_onnx(onnx_from_program(program, network.contract, self._opset), raw)

    def _append(self, stage: Stage) -> None:
        if self._stages:
            self._parity.append(self._check.compare(self._stages[-1], stage, LOSSLESS))
        self._stages.append(stage)

    def _write(self, target: Target, directory: Path) -> tuple[list[Path], CalibrationRecord | None, AccuracyRecord | None]:
        """The bundle's files, the model first, and for a calibrated target what was chosen and measured."""
        if self._network.ir and target.precision == "fp16":
            return ir_from_onnx(self._network.ir, directory / "model.xml", target.precision), None, None
        if self._network.ir:
            files = [self._network.ir, self._network.ir.with_suffix(".bin")]
            return [Path(shutil.copyfile(file, directory / f"model{file.suffix}")) for file in files], None, None
        if target.precision == "int8":
            return self._calibrated(target, directory)
        if target.name == "trt-fp16":
            seen = normalised(self._check.pictures, self._network.contract.input).astype(np.float32)
            model, islands = fp16_from_onnx(self._onnx, seen, _HALF_RMSE)
            if islands:
                self._say(f"{len(islands)} nodes stay in FP32: {', '.join(islands[:3])}")
            return save_onnx(model, directory / "model.onnx"), None, None
        if target.backend == "openvino":
            return ir_from_onnx(self._onnx, directory / "model.xml", target.precision), None, None
        return [Path(shutil.copyfile(file, directory / file.name)) for file in sorted(self._onnx.parent.iterdir())], None, None

    def _calibrated(self, target: Target, directory: Path) -> tuple[list[Path], CalibrationRecord, AccuracyRecord]:
        assert self._calibrator is not None  # _check_targets
        found = self._calibrator.int8(target.name)
        if target.backend == "openvino":
            files = ir_from_onnx(found.model, directory / "model.xml", target.precision)
        else:
            files = save_onnx(load_onnx(found.model), directory / "model.onnx")
        self._say(f"report {target.name}")
        report = write_report(self._calibrator, found, target.name, f"{self._network.name}, {target.name}", directory)
        return [*files, *report], *calibration_records(self._calibrator, found, target.name)

    def _opened(self, target: Target, model: Path) -> tuple[Stage, Engine]:
        """The engine on the bundle's own files, as a stage; it stays open until the export ends."""
        contract = self._network.contract
        if target.backend == "openvino":
            openvino = engine_from_ir(model, contract, target.precision, "CPU", 1, self._size)
            self._open_engines.callback(openvino.close)
            return IrStage(target.name, openvino, model, target.precision, self._size), openvino
        onnxruntime = engine_from_onnx(model, contract, "CPU", 1, self._size, target.backend == "tensorrt")
        self._open_engines.callback(onnxruntime.close)
        name = "bundle" if target.name == "onnx" else target.name  # "onnx" is what PyTorch's exporter wrote
        return OnnxEngineStage(name, onnxruntime, model, self._size), onnxruntime

    def _proven(self, target: Target, stage: Stage) -> tuple[HopParity, ...]:
        """The last hop, and the whole way from the first stage."""
        tolerance = LOSSLESS if self._network.ir and target.precision == "int8" else TOLERANCES[target.name]
        hops = [*self._parity, self._check.compare(self._stages[-1], stage, tolerance)]
        if len(self._stages) > 1:
            hops.append(self._check.compare(self._stages[0], stage, tolerance))
        return tuple(hops)


def _size(batch: Batch) -> int:
    """The batch that is proven."""
    return 1 if batch == "dynamic" else batch


def _module(network: Network) -> torch.nn.Module:
    assert network.module is not None
    return network.module


def _check_targets(network: Network, targets: Sequence[Target], calibration: CalibrationRequest | None) -> None:
    for target in targets:
        if network.ir and target.backend != "openvino":
            raise ConfigError(f"target {target.name!r} cannot be made from an OpenVINO IR: wanted an ov-* target")
        quantised = network.ir is not None and is_quantised(network.ir)
        if quantised and target.name != "ov-int8":
            raise ConfigError(f"{network.ir} carries INT8 quantisers, so its target is ov-int8, not {target.name}")
        if target.precision == "int8" and not quantised and calibration is None:
            raise ConfigError(f"target {target.name!r} chooses its scales from pictures: give some with --calib")
        if target.precision == "int8" and not quantised and network.ir:
            raise ConfigError(f"{network.ir}: an IR is taken as it is: calibrate the PyTorch or ONNX network it came from")


def _tools() -> dict[str, str]:
    found = {"python": ".".join(str(n) for n in sys.version_info[:3])}
    for name in _TOOLS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
