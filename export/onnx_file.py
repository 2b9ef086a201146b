"""ONNX files: saving (external data above protobuf's 2 GB), checking, simplifying, and the contract inside their metadata."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from edgepose.engines.contract import ModelContract
from edgepose.engines.errors import BackendUnavailable, ConfigError, ExportError, SinkError
from edgepose.engines.record import Record

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, TensorProto

EXTERNAL_ABOVE_BYTES = (1 << 31) - (1 << 24)
"""Protobuf refuses messages of 2 GiB; the margin leaves room for the graph itself."""
_CONTRACT_KEY = "edgepose.contract"


def import_onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise BackendUnavailable("onnx is not installed: pip install 'edgepose[export]'") from error
    return onnx


def load_onnx(path: Path) -> ModelProto:
    """Reads a model and its external data. Raises ExportError for what is not an ONNX file."""
    onnx = import_onnx()
    try:
        model = cast("ModelProto", onnx.load(str(path)))
    except Exception as error:  # protobuf's DecodeError shares no base class with OSError
        raise ExportError(f"{path}: not an ONNX model ({' '.join(str(error).split())[:120]})") from error
    if not model.graph.node:
        raise ExportError(f"{path}: not an ONNX model (it has no nodes)")
    return model


def external_files(path: Path) -> list[str]:
    """Names of the files beside a model that hold weights of it."""
    graph = import_onnx().load(str(path), load_external_data=False).graph
    return sorted({entry.value for tensor in _tensors(graph) for entry in tensor.external_data if entry.key == "location"})


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Weights, constants of nodes, and those of graphs inside."""
    yield from graph.initializer
    for attribute in (attribute for node in graph.node for attribute in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for inner in (attribute.g, *attribute.graphs):
            yield from _tensors(inner)


def save_onnx(model: ModelProto, path: Path, external_above_bytes: int = EXTERNAL_ABOVE_BYTES) -> list[Path]:
    """Writes and checks a model; returns the files written. Raises ExportError where the checker refuses it,
    SinkError where there is no room."""
    onnx = import_onnx()
    data = path.with_name(f"{path.name}.data")
    external = weights_bytes(model) > external_above_bytes
    try:
        onnx.save_model(model, str(path), save_as_external_data=external, location=data.name, size_threshold=1024)
    except OSError as error:
        raise SinkError(f"{path}: {error.strerror or error}: a model cannot be written there") from error
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except onnx.checker.ValidationError as error:
        raise ExportError(f"{path.name}: ONNX's checker refuses it: {' '.join(str(error).split())}") from error
    return [path, data] if external else [path]


def weights_bytes(model: ModelProto) -> int:
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer)


def opset_of(model: ModelProto) -> int:
    """Version of the default operator set."""
    return int(next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")))


def simplified(model: ModelProto) -> ModelProto:
    """onnxsim's result; the model itself where it is too large for protobuf. Raises ExportError."""
    try:
        import onnxsim
    except ImportError as error:
        raise BackendUnavailable("onnxsim is not installed: pip install 'edgepose[export]'") from error
    if weights_bytes(model) > EXTERNAL_ABOVE_BYTES:
        return model
    try:
        result, _ = onnxsim.simplify(model)
    except Exception as error:  # onnxsim raises bare RuntimeError and pybind exceptions
        raise ExportError(f"onnxsim fails: {' '.join(str(error).split())[:200]}") from error
    return result


def with_metadata(model: ModelProto, contract: ModelContract, source: Record, tools: dict[str, str]) -> ModelProto:
    """Writes contract, origin and tool versions into the model's metadata, so that the file explains itself anywhere."""
    import_onnx().helper.set_model_props(
        model,
        {
            _CONTRACT_KEY: contract.model_dump_json(),
            "edgepose.source": source.model_dump_json(),
            "edgepose.tools": " ".join(f"{name}={version}" for name, version in tools.items()),
        },
    )
    return model


def contract_in(model: ModelProto) -> ModelContract | None:
    """The contract that `with_metadata` wrote, if any. Raises ConfigError where it is damaged."""
    for entry in model.metadata_props:
        if entry.key == _CONTRACT_KEY:
            try:
                return ModelContract.parse(json.loads(entry.value), _CONTRACT_KEY)
            except (json.JSONDecodeError, ConfigError) as error:
                raise ConfigError(f"the contract in the model's metadata is damaged ({error}): give one with --contract FILE") from error
    return None
