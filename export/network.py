"""`Network`: what is to be exported, in the form it was given: a PyTorch module, an exported program, an ONNX file or an IR."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from edgepose.engines.bundle import SourceRecord, record_of
from edgepose.engines.contract import ModelContract
from edgepose.engines.errors import BackendUnavailable, ConfigError, ExportError
from edgepose.engines.openvino_ import read_model
from edgepose.engines.skeleton import Skeleton
from edgepose.export.onnx_file import contract_in, external_files, load_onnx
from edgepose.export.onnx_from_torch import Batch

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Network:
    """Exactly one of `module`, `program`, `onnx` and `ir` is set.

    `size_multiple` divides every input size it accepts; `batch` is that of a form whose batch is settled, else None.
    """

    name: str
    contract: ModelContract
    source: SourceRecord
    module: torch.nn.Module | None = None
    program: torch.export.ExportedProgram | None = None
    onnx: Path | None = None
    ir: Path | None = None
    size_multiple: int = 1
    batch: Batch | None = None

    def resized(self, height: int, width: int) -> Network:
        """The same network for another input size. Raises ConfigError where the network does not allow it."""
        if self.module is None and (height, width) != (self.contract.input.height, self.contract.input.width):
            raise ConfigError(f"{self.source.network} has a fixed input size: only --arch and module:factory networks can be resized")
        if height % self.size_multiple or width % self.size_multiple:
            raise ConfigError(f"input size {height}x{width}: {self.name} wants multiples of {self.size_multiple}")
        return replace(self, contract=self.contract.resized(height, width))


def network_from_architecture(name: str, weights: Path | None = None, skeleton: Skeleton | None = None) -> Network:
    """One of our architectures with a public checkpoint, or with the weights that come along. Raises ConfigError or CheckpointError."""
    import_torch()
    from edgepose.export.checkpoint import load_state_dict, load_weights
    from edgepose.export.networks.catalogue import architecture_named, packaged_weights

    architecture = architecture_named(name)
    weights = weights or packaged_weights(name)
    state = load_state_dict(weights)
    module = load_weights(architecture, state)
    contract = architecture.contract(state, skeleton)
    return Network(name, contract, _source(name, weights), module=module, size_multiple=architecture.size_multiple)


def network_from_factory(spec: str, weights: Path | None, contract: ModelContract) -> Network:
    """`package.module:factory`, called without arguments, gives a module that returns (heatmaps, pafs)."""
    torch = import_torch()
    module = _imported(spec)()
    if not isinstance(module, torch.nn.Module):
        raise ConfigError(f"{spec} returned {type(module).__name__}: wanted a torch.nn.Module")
    if weights:
        _load_into(module, weights, spec)
    source = _source(spec, weights) if weights else SourceRecord(network=spec, weights="as built by the factory", sha256="")
    return Network(spec.rsplit(":", 1)[-1], contract, source, module=module.float().eval())


def network_from_program(path: Path, contract: ModelContract) -> Network:
    """A `.pt2` file written by `torch.export.save`."""
    torch = import_torch()
    _require_file(path)
    try:
        program = torch.export.load(path)
    except Exception as error:  # torch raises whatever its archive reader meets
        raise ExportError(
            f"{path}: not an exported program ({' '.join(str(error).split())[:120]}): save it with torch.export.save"
        ) from error
    positional, named = program.example_inputs or ([], {})
    if named or [isinstance(value, torch.Tensor) for value in positional] != [True]:
        raise ConfigError(
            f"{path}: exported with {len(positional)} inputs by position and {len(named)} by name: wanted one picture tensor by position"
        )
    example = positional[0]
    traced = next(node for node in program.graph.nodes if node.name in program.graph_signature.user_inputs).meta["val"].shape[0]
    batch: Batch = int(example.shape[0]) if isinstance(traced, int) else "dynamic"
    return Network(path.stem, contract, _source(path.name, path), program=program, batch=batch)


def network_from_onnx(path: Path, contract: ModelContract | None) -> Network:
    """An ONNX file; one that we wrote carries its own contract."""
    _require_file(path)
    model = load_onnx(path)
    contract = contract or contract_in(model)
    if contract is None:
        raise ConfigError(f"{path}: its metadata holds no contract: give one with --contract FILE (see docs/contracts.md)")
    weights = {tensor.name for tensor in model.graph.initializer}  # old files list them among the inputs
    taken = next((entry for entry in model.graph.input if entry.name not in weights), None)
    axes = taken.type.tensor_type.shape.dim if taken else ()
    if not taken or not axes:
        raise ConfigError(f"{path}: it has no input of a known shape: wanted one picture tensor, (N, 3, height, width)")
    if taken.name != contract.input.name:  # which TensorRT goes by
        raise ConfigError(
            f"{path}: its input is {taken.name!r}, the contract's input.name is {contract.input.name!r}: correct the contract"
        )
    source = _source(path.name, path, [path.parent / name for name in external_files(path)])
    return Network(path.stem, contract, source, onnx=path, batch=axes[0].dim_value or "dynamic")


def network_from_ir(path: Path, contract: ModelContract) -> Network:
    """An OpenVINO IR (.xml with its .bin beside it); but for `ov-fp16`, whose weights are FP16, it is taken as it is."""
    _require_file(path)
    _require_file(path.with_suffix(".bin"))
    inputs = read_model(path).inputs
    shapes = [each.get_partial_shape() for each in inputs]
    if [not shape.rank.is_dynamic and len(shape) == 4 for shape in shapes] != [True]:
        found = ", ".join(map(str, shapes)) or "nothing"
        raise ConfigError(f"{path}: it takes {found}: wanted one picture tensor, (N, 3, height, width)")
    if not inputs[0].get_element_type().is_real():
        kind = inputs[0].get_element_type().get_type_name()
        raise ConfigError(
            f"{path}: its input is {kind}: wanted floating-point numbers, because what the contract's mean and std give is none"
        )
    first = shapes[0][0]
    batch: Batch = "dynamic" if first.is_dynamic else first.get_length()
    return Network(path.stem, contract, _source(path.name, path.with_suffix(".bin")), ir=path, batch=batch)


def network_from_model(spec: str, weights: Path | None, contract: ModelContract | None) -> Network:
    """What `--model` names, by its form. Raises ConfigError where the form is unknown or a contract is missing."""
    path = Path(spec)
    if weights and path.suffix in (".onnx", ".pt2", ".xml"):
        raise ConfigError(f"{weights}: {spec} holds its own weights: leave --weights out, or give the factory that they are for")
    if path.suffix == ".onnx":
        return network_from_onnx(path, contract)
    if contract is None:
        raise ConfigError(f"{spec}: give its contract with --contract FILE (see docs/contracts.md)")
    if path.suffix == ".pt2":
        return network_from_program(path, contract)
    if path.suffix == ".xml":
        return network_from_ir(path, contract)
    if ":" in spec:
        return network_from_factory(spec, weights, contract)
    raise ConfigError(f"model {spec!r}: wanted package.module:factory, a .pt2, an .onnx or an OpenVINO .xml file")


def import_torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise BackendUnavailable("PyTorch is not installed: pip install 'edgepose[export]'") from error
    return torch


def _load_into(module: torch.nn.Module, weights: Path, spec: str) -> None:
    from edgepose.export.checkpoint import fit_state, load_state_dict

    module.load_state_dict(fit_state(load_state_dict(weights), module.state_dict(), spec))


def _imported(spec: str) -> Callable[[], object]:
    module, _, name = spec.partition(":")
    if (here := str(Path.cwd())) not in sys.path:  # a console script has its own folder there, and not the one it was called in
        sys.path.append(here)
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:  # the last two: a relative name, an empty one
        raise ConfigError(f"model {spec!r}: {error}: wanted package.module:factory that can be imported from here") from error
    if not callable(found):
        raise ConfigError(f"model {spec!r}: {name} is not callable")
    try:
        inspect.signature(found).bind()
    except (TypeError, ValueError) as error:  # ValueError: something built-in, which tells no signature
        raise ConfigError(f"model {spec!r}: {error}: wanted a factory that is called without arguments") from error
    return cast("Callable[[], object]", found)


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")


def _source(network: str, weights: Path, beside: Sequence[Path] = ()) -> SourceRecord:
    """Where weights lie in further files `beside`, the digest is that of all files' digests."""
    digests = [record_of(path).sha256 for path in (weights, *beside)]
    digest = hashlib.sha256("".join(digests).encode()).hexdigest() if beside else digests[0]
    return SourceRecord(network=network, weights=weights.name, sha256=digest)
