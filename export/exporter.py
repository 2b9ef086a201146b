"""From a network to bundles: convert, compare every hop, write only what was proven."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgepose.engines.bundle import Bundle, HopParity, Manifest, bundle_directory, open_bundle, record_of, write_manifest
from edgepose.engines.engine import Engine, Execution
from edgepose.engines.errors import ConfigError, ExportError
from edgepose.engines.onnxruntime_ import engine_from_onnx
from edgepose.engines.openvino_ import engine_from_ir
from edgepose.engines.target import Precision, Target
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
    "ov-fp16": Tolerance(1e-2, 0.99),
    "ov-bf16": Tolerance(5e-2, 0.95, "mean"),
    "ov-int8": LOSSLESS,  # an IR that is taken as it is
}
_NOISE_PICTURES = 4
_TOOLS = ("edgepose", "torch", "onnx", "onnxscript", "onnxsim", "onnxruntime", "openvino", "numpy")
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Export:
    """A bundle that was written, and what its engine reported when it was proven."""

    bundle: Bundle
    execution: Execution


def export_bundles(
    network: Network,
    targets: Sequence[Target],
    out: Path,
    batch: Batch = 1,
    pictures: Pictures | None = None,
    opset: int = OPSET,
    say: Say = lambda _: None,
) -> list[Export]:
    """Writes one bundle a target, `out/<name>-<HxW>.<target>.pose`.

    `pictures` are fitted (n, height, width, 3) BGR levels for the comparison; without them structured noise is used. `say` is told
    each step as it begins. Raises ExportError, ParityError, SinkError, ConfigError or BackendUnavailable; a bundle that was not
    proven is not written.
    """
    _check_targets(network, targets)
    noise = pictures is None
    seen = structured_noise(network.contract, _NOISE_PICTURES) if pictures is None else pictures
    check = ParityCheck(network.contract, seen, noise)
    with tempfile.TemporaryDirectory(prefix="edgepose-export-") as scratch, ExitStack() as open_engines:
        chain = _Chain(network, batch, opset, check, Path(scratch), say, open_engines)
        chain.convert()
        return [chain.bundle(target, out) for target in targets]


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
        self, network: Network, batch: Batch, opset: int, check: ParityCheck, scratch: Path, say: Say, open_engines: ExitStack
    ) -> None:
        self._network, self._batch, self._opset, self._open_engines = network, batch, opset, open_engines
        self._check, self._scratch, self._say = check, scratch, say
        self._size = 1 if batch == "dynamic" else batch
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
            files = self._write(target, directory)
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
            )
            write_manifest(directory, manifest)
        return Export(open_bundle(out / f"{name}.{target.name}.pose"), engine.execution)

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

    def _write(self, target: Target, directory: Path) -> list[Path]:
        if self._network.ir:
            files = [self._network.ir, self._network.ir.with_suffix(".bin")]
            return [Path(shutil.copyfile(file, directory / f"model{file.suffix}")) for file in files]
        if target.backend == "openvino":
            return ir_from_onnx(self._onnx, directory / "model.xml", target.precision)
        return [Path(shutil.copyfile(file, directory / file.name)) for file in sorted(self._onnx.parent.iterdir())]

    def _opened(self, target: Target, model: Path) -> tuple[Stage, Engine]:
        """The engine on the bundle's own files, as a stage; it stays open until the export ends."""
        contract = self._network.contract
        if target.backend == "openvino":
            openvino = engine_from_ir(model, contract, target.precision, "CPU", 1, self._size)
            self._open_engines.callback(openvino.close)
            return IrStage(target.name, openvino, model, target.precision, self._size), openvino
        onnxruntime = engine_from_onnx(model, contract, "CPU", 1, self._size)
        self._open_engines.callback(onnxruntime.close)
        return OnnxEngineStage("bundle", onnxruntime, model, self._size), onnxruntime

    def _proven(self, target: Target, stage: Stage) -> tuple[HopParity, ...]:
        """The last hop, and the whole way from the first stage."""
        tolerance = TOLERANCES[target.name]
        hops = [*self._parity, self._check.compare(self._stages[-1], stage, tolerance)]
        if len(self._stages) > 1:
            hops.append(self._check.compare(self._stages[0], stage, tolerance))
        return tuple(hops)


def _module(network: Network) -> torch.nn.Module:
    assert network.module is not None
    return network.module


def _check_targets(network: Network, targets: Sequence[Target]) -> None:
    for target in targets:
        if network.ir and target.backend != "openvino":
            raise ConfigError(f"target {target.name!r} cannot be made from an OpenVINO IR: wanted an ov-* target")
        quantised = network.ir is not None and is_quantised(network.ir)
        if quantised and target.name != "ov-int8":
            raise ConfigError(f"{network.ir} carries INT8 quantisers, so its target is ov-int8, not {target.name}")
        if target.name == "ov-int8" and not quantised:
            raise ExportError("target 'ov-int8' is so far only made from an IR that has quantisers: calibration is not built yet")


def _tools() -> dict[str, str]:
    found = {"python": ".".join(str(n) for n in sys.version_info[:3])}
    for name in _TOOLS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
