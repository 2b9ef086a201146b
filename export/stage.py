"""`Stage`: one form of a network on its way to a target, able to show its maps and the tensors inside it.

All stages take the same (n, height, width, 3) BGR levels, already fitted to the contract's size, so that whatever differs between two
stages was changed by the conversion between them. The tensor "input" is what the network sees after normalisation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgepose.engines.contract import ModelContract
from edgepose.engines.engine import Engine, Maps, check_outputs
from edgepose.engines.errors import ShapeMismatch
from edgepose.engines.onnxruntime_ import OnnxRuntimeEngine, session_from_onnx
from edgepose.engines.openvino_ import compile_model, read_model
from edgepose.engines.preprocess_reference import normalised
from edgepose.engines.target import Precision
from edgepose.export.onnx_file import load_onnx

if TYPE_CHECKING:
    import torch

INPUT = "input"
Pictures = NDArray[np.uint8]
Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Node:
    """What computes tensor `tensor`: the operator's type and name in that stage's own graph."""

    tensor: str
    kind: str
    name: str


class Stage(Protocol):
    """See the module's docstring."""

    @property
    def name(self) -> str: ...

    @property
    def batch(self) -> int: ...

    def maps(self, pictures: Pictures) -> Maps:
        """Output maps of n pictures, in memory of their own."""

    def nodes(self) -> Sequence[Node]:
        """What can be probed besides "input", in the order of computation."""

    def probe(self, pictures: Pictures, tensors: Sequence[str]) -> Tensors:
        """Values of some tensors for the pictures of one batch."""


class TorchStage:
    """An exported program, run by PyTorch in float32. Raises ShapeMismatch for one that the contract does not describe."""

    def __init__(self, program: torch.export.ExportedProgram, contract: ModelContract, batch: int) -> None:
        self.name = "torch"
        self._module = program.module()
        self._contract = contract
        self.batch = batch
        _check_fit(self._run, contract, batch, "the network")

    def maps(self, pictures: Pictures) -> Maps:
        return in_batches(pictures, self.batch, self._run)

    def nodes(self) -> list[Node]:
        called = [node for node in self._module.graph.nodes if node.op == "call_function"]
        return [Node(node.name, str(node.target), node.name) for node in called]

    def probe(self, pictures: Pictures, tensors: Sequence[str]) -> Tensors:
        import torch

        kept: Tensors = {INPUT: self._tensor(pictures).numpy()}

        class Recorder(torch.fx.Interpreter):
            def run_node(self, n: torch.fx.Node) -> Any:
                result = super().run_node(n)
                if n.name in tensors and isinstance(result, torch.Tensor):
                    kept[n.name] = result.numpy().copy()
                return result

        with torch.inference_mode():
            Recorder(self._module).run(self._tensor(pictures))
        return kept

    def _run(self, pictures: Pictures) -> Maps:
        import torch

        seen = self._tensor(pictures)
        try:
            with torch.inference_mode():
                outputs = self._module(seen)
        except Exception as error:  # an exported program's guards and torch's operators raise unrelated types
            raise ShapeMismatch(f"the network does not take {tuple(seen.shape)} ({_first_line(error)}): correct the contract") from error
        several = outputs if isinstance(outputs, tuple | list) else ()
        if [isinstance(output, torch.Tensor) for output in several] != [True, True]:
            found = ", ".join(type(output).__name__ for output in several or (outputs,))
            raise ShapeMismatch(f"the network returns {found}: wanted two tensors, (heatmaps, pafs)")
        if other := [output.dtype for output in outputs if output.dtype is not torch.float32]:
            raise ShapeMismatch(f"the network returns maps of {other[0]}: wanted torch.float32; have its forward end with .float()")
        return Maps(*(output.numpy() for output in outputs))

    def _tensor(self, pictures: Pictures) -> torch.Tensor:
        import torch

        return torch.from_numpy(normalised(pictures, self._contract.input).astype(np.float32))


class OnnxStage:
    """An ONNX file, run by ONNX Runtime on the reference's normalised input. Raises ShapeMismatch for one that the contract does not
    describe."""

    def __init__(self, name: str, path: Path, contract: ModelContract, batch: int) -> None:
        self.name = name
        self._path = path
        self._contract = contract
        self.batch = batch
        self._session = session_from_onnx(path)
        _check_fit(self._run, contract, batch, path.name)

    def maps(self, pictures: Pictures) -> Maps:
        return in_batches(pictures, self.batch, self._run)

    def nodes(self) -> list[Node]:
        return _onnx_nodes(self._path)

    def probe(self, pictures: Pictures, tensors: Sequence[str]) -> Tensors:
        seen = normalised(pictures, self._contract.input).astype(np.float32)
        return {INPUT: seen, **_onnx_tensors(self._path, seen, tensors)}

    def _run(self, pictures: Pictures) -> Maps:
        output = self._contract.output
        tensor = normalised(pictures, self._contract.input).astype(np.float32)
        try:
            return Maps(*self._session.run([output.heatmaps, output.pafs], {self._session.get_inputs()[0].name: tensor}))
        except Exception as error:  # see session_from_onnx
            taken, given = (
                ", ".join(f"{t.name} {t.shape}" for t in ts) for ts in (self._session.get_inputs(), self._session.get_outputs())
            )
            raise ShapeMismatch(
                f"{self._path.name}: {_first_line(error).rpartition(' : ')[2]}: it takes {taken} and gives {given}: correct the contract"
            ) from error


class EngineStage:
    """A bundle as users will run it: the engine that `open_engine` gives."""

    def __init__(self, name: str, engine: Engine, batch: int) -> None:
        self.name = name
        self._engine = engine
        self.batch = batch

    def maps(self, pictures: Pictures) -> Maps:
        return in_batches(pictures, self.batch, self.run)

    def run(self, pictures: Pictures) -> Maps:
        """One batch through the first slot."""
        slot = self._engine.slots[0]
        slot.pictures[:] = pictures
        slot.start()
        return slot.wait()


class OnnxEngineStage(EngineStage):
    """An `onnx` bundle; what the network sees is read from the slot."""

    def __init__(self, name: str, engine: OnnxRuntimeEngine, path: Path, batch: int) -> None:
        super().__init__(name, engine, batch)
        self._slot = engine.slots[0]
        self._path = path

    def nodes(self) -> list[Node]:
        return _onnx_nodes(self._path)

    def probe(self, pictures: Pictures, tensors: Sequence[str]) -> Tensors:
        self.run(pictures)
        seen = self._slot.tensor.copy()
        return {INPUT: seen, **_onnx_tensors(self._path, seen, tensors)}


class IrStage(EngineStage):
    """An `ov-*` bundle; probes compile the IR again with the asked tensors as further outputs."""

    def __init__(self, name: str, engine: Engine, path: Path, precision: Precision, batch: int) -> None:
        super().__init__(name, engine, batch)
        self._path = path
        self._precision: Precision = precision

    def nodes(self) -> list[Node]:
        ops = read_model(self._path).get_ordered_ops()
        outputs = [(op, output) for op in ops if op.get_type_name() not in ("Parameter", "Constant", "Result") for output in op.outputs()]
        return [Node(name, op.get_type_name(), op.get_friendly_name()) for op, output in outputs for name in sorted(output.get_names())]

    def probe(self, pictures: Pictures, tensors: Sequence[str]) -> Tensors:
        model = read_model(self._path)
        model.add_outputs([model.input()])
        seen = len(model.outputs) - 1
        own = {name for output in model.outputs for name in output.get_names()}
        model.add_outputs([name for name in tensors if name not in own])
        compiled, _ = compile_model(model, self._engine.contract, self._precision, "CPU", 1, self.batch)
        results = compiled(np.ascontiguousarray(pictures))
        return {INPUT: results[compiled.outputs[seen]], **{name: results[compiled.output(name)] for name in tensors}}


def _check_fit(run: Callable[[Pictures], Maps], contract: ModelContract, batch: int, where: str) -> None:
    """Runs a black batch, so that a contract of another network is told before anything is converted. Raises ShapeMismatch."""
    maps = run(np.zeros((batch, contract.input.height, contract.input.width, 3), np.uint8))
    if other := [found.dtype for found in (maps.heatmaps, maps.pafs) if found.dtype != np.float32]:
        raise ShapeMismatch(f"{where}: its outputs are {other[0]}: wanted float32, as every backend gives; convert them in the network")
    check_outputs(contract, maps.heatmaps.shape[1:], maps.pafs.shape[1:], where)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def in_batches(pictures: Pictures, size: int, run: Callable[[Pictures], Maps]) -> Maps:
    """Runs n pictures in batches of `size`; the last is filled up with repetitions, whose maps are dropped."""
    heatmaps, pafs = [], []
    for start in range(0, len(pictures), size):
        batch = pictures[start : start + size]
        maps = run(np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), 0)]))
        heatmaps.append(maps.heatmaps[: len(batch)].copy())
        pafs.append(maps.pafs[: len(batch)].copy())
    return Maps(np.concatenate(heatmaps), np.concatenate(pafs))


def _onnx_nodes(path: Path) -> list[Node]:
    return [Node(tensor, node.op_type, node.name) for node in load_onnx(path).graph.node for tensor in node.output if tensor]


def _onnx_tensors(path: Path, seen: NDArray[np.float32], tensors: Sequence[str]) -> Tensors:
    """Marks inner tensors as outputs of a copy of the model and runs it."""
    import onnx

    model = load_onnx(path)
    own = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors if name not in own)
    session = session_from_onnx(model.SerializeToString())
    values = session.run(list(tensors), {session.get_inputs()[0].name: seen}) if tensors else []
    return dict(zip(tensors, values, strict=True))
