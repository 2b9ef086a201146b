"""Weights from a checkpoint file: `load_state_dict` reads it, `load_weights` puts it into a network. Whatever does not fit is an error.
`save_content` writes such a file."""

from __future__ import annotations

import io
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgepose.engines.errors import CheckpointError
from edgepose.export.networks.catalogue import ARCHITECTURES, Architecture
from edgepose.runtime.complete_file import write_complete

Kinds = dict[str, str]
"""Name of a tensor -> its shape, and its type where that is not floating-point, in words."""

WRAPPERS = ("state_dict", "model_state_dict", "model")
PARALLEL_PREFIX = "module."
COUNTER = "num_batches_tracked"
NAMES_SHOWN = 3
# A network is worth naming where at least this share of all keys and shapes agrees.
NEAR = 0.5
# A file of a few bytes can ask for any amount of memory: a tensor may say of one stored value that it is repeated.
REPEATED_AT_MOST = 1 << 24
# What torch.load lets through from its unpickler and zip reader for files that are torn, foreign or hostile.
_UNREADABLE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
)


def load_state_dict(path: Path) -> dict[str, Tensor]:
    """Names and weights of a file that torch.save wrote, on the CPU; floating-point ones in float32.

    The tensors may lie in a wrapper ({"state_dict": ...} and the like) and all names may begin with DataParallel's `module.`. No code
    in the file is run. Raises CheckpointError.
    """
    named = _without_parallel_prefix(_unwrapped(path, content_of(path)))
    return {name: _float32(path, name, tensor) for name, tensor in named.items()}


def content_of(path: Path) -> Any:
    """What torch.save wrote, on the CPU: tensors, numbers, texts and containers of them. No code in the file is run. Raises
    CheckpointError."""
    _refuse_foreign(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise CheckpointError(f"{path}: {_unreadable(error)}") from error


def save_content(path: Path, content: Any) -> None:
    """What `content_of` reads; the file is complete or as it was. Raises SinkError.

    By way of memory: of a full disk torch's own writer says only that its position is unexpected.
    """
    written = io.BytesIO()
    torch.save(content, written)
    write_complete(path, written.getvalue())


def load_weights(architecture: Architecture, state: Mapping[str, Tensor]) -> nn.Module:
    """The network with these weights (copied), in evaluation mode, without gradients. Raises CheckpointError as `fit_state` does."""
    with torch.device("meta"):
        module = architecture.build(state)
    fitting = fit_state(state, module.state_dict(), architecture.name)
    module.to_empty(device="cpu").load_state_dict(fitting)
    return module.eval().requires_grad_(False)


def architecture_of(state: Mapping[str, Tensor]) -> Architecture:
    """The known network that these weights fit. Raises CheckpointError that names the nearest."""
    found = _kinds(state)
    with torch.device("meta"):
        for known in ARCHITECTURES:
            if _kinds(known.build(state).state_dict()) == found:
                return known
    raise CheckpointError(f"checkpoint fits no known network: {_advice('', state)}")


def fit_state(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], network: str) -> dict[str, Tensor]:
    """`state` as a network called `network` with the state_dict `wanted` can load it.

    `num_batches_tracked` is of no use here: it may be absent and is set to 0. Raises CheckpointError that lists what is missing, unknown
    or of another shape, and names the known network that is nearest.
    """
    difference = _difference(_kinds(wanted), _kinds(state))
    if difference.found:
        raise CheckpointError(f"checkpoint does not fit {network}: {difference.in_words()}; {_advice(network, state)}")
    return {name: state[name] if _is_used(name) else torch.zeros((), dtype=torch.int64) for name in wanted}


@dataclass(frozen=True, slots=True)
class Difference:
    """What separates a checkpoint from a network."""

    missing: list[str]
    unknown: list[str]
    reshaped: list[str]
    agreement: float
    """Share of all names, of either side, that both have with the same shape."""

    @property
    def found(self) -> bool:
        return bool(self.missing or self.unknown or self.reshaped)

    def in_words(self) -> str:
        counts = ((self.missing, "missing"), (self.unknown, "unknown"), (self.reshaped, "of another kind"))
        return ", ".join(f"{len(names)} {what} ({_first(names)})" for names, what in counts if names)


def _difference(wanted: Kinds, found: Kinds) -> Difference:
    both = wanted.keys() & found.keys()
    changed = sorted(name for name in both if wanted[name] != found[name])
    return Difference(
        missing=[name for name in wanted if name not in found],
        unknown=[name for name in found if name not in wanted],
        reshaped=[f"{name}: found {found[name]}, wanted {wanted[name]}" for name in changed],
        agreement=(len(both) - len(changed)) / max(1, len(wanted.keys() | found.keys())),
    )


def _advice(tried: str, state: Mapping[str, Tensor]) -> str:
    """Names the network whose names and shapes agree best with the checkpoint."""
    found = _kinds(state)
    with torch.device("meta"):
        ranked = [(_difference(_kinds(known.build(state).state_dict()), found).agreement, known.name) for known in ARCHITECTURES]
    agreement, name = max(ranked)
    if agreement < NEAR:
        return f"no known network is near it (the nearest, {name}, shares {agreement:.0%}): is it a checkpoint of another project?"
    if name == tried:
        return f"this is the nearest known network ({agreement:.0%} agrees): the checkpoint is incomplete or its network was changed"
    return f"the nearest known network is {name} ({agreement:.0%} agrees): pass that name"


def _kinds(state: Mapping[str, Tensor]) -> Kinds:
    return {name: _kind(tensor) for name, tensor in state.items() if _is_used(name)}


def _kind(tensor: Tensor) -> str:
    shape = "x".join(map(str, tensor.shape)) or "scalar"
    return shape if tensor.is_floating_point() else f"{shape} of {tensor.dtype}"


def _is_used(name: str) -> bool:
    return not name.endswith(COUNTER)


def _refuse_foreign(path: Path) -> None:
    """Recognises what people give by mistake. Raises CheckpointError."""
    try:
        with path.open("rb") as file:
            head = file.read(256)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}: wanted a checkpoint file that torch.save wrote") from error
    if not head:
        raise CheckpointError(f"{path}: empty file: wanted a checkpoint that torch.save wrote; copy or download it again")
    if path.suffix == ".safetensors" or head[8:10] == b'{"':
        raise CheckpointError(
            f"{path}: a safetensors file: wanted torch's format; torch.save(safetensors.torch.load_file(...)) converts it"
        )
    if _is_text(head):
        start = head.decode("ascii", "replace").strip().split("\n")[0][:40]
        raise CheckpointError(
            f"{path}: a text file that begins {start!r} (a download page or a Git LFS pointer?): wanted a checkpoint that torch.save wrote"
        )
    if head.startswith(b"PK"):
        _refuse_odd_archive(path)


def _is_text(head: bytes) -> bool:
    return all(byte in b"\t\n\r\f" or 32 <= byte < 127 for byte in head) or head.lstrip().lower().startswith((b"<!doctype", b"<html"))


def _refuse_odd_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names, damaged = archive.namelist(), _damaged(archive)
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: torn ({path.stat().st_size} bytes, no end of archive): copy or download it again") from error
    if any(name.endswith("/constants.pkl") for name in names):
        raise CheckpointError(f"{path}: a TorchScript archive: wanted weights only; save model.state_dict() and give that file")
    if damaged:
        raise CheckpointError(f"{path}: torn (the bytes of {damaged!r} are not those that were saved): copy or download it again")


def _damaged(archive: zipfile.ZipFile) -> str | None:
    """The first member whose bytes are not those of its checksum, which torch.load does not look at."""
    if not any(member.CRC for member in archive.infolist()):
        return None  # torch can be told to save without checksums
    try:
        return archive.testzip()
    except (zlib.error, EOFError, NotImplementedError, RuntimeError):  # compressed or encrypted, as torch never writes
        return archive.filename


def _unreadable(error: BaseException) -> str:
    """What torch.load's complaint, often a page long, means."""
    refused = re.search(r"GLOBAL ([\w.]+)", str(error))
    if refused:
        return f"holds a pickled object ({refused[1]}), not only weights: save model.state_dict() and give that file"
    reason = str(error).strip().split("\n")[0][:120] or type(error).__name__
    return f"torn, or not a checkpoint that torch.save wrote ({reason}): copy or download it again"


def _unwrapped(path: Path, content: Any) -> dict[str, Any]:
    """The mapping from names to tensors inside the usual wrappers."""
    opened: list[object] = []
    while isinstance(content, Mapping):
        inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None or any(inner is wrapper for wrapper in opened):  # a pickle can contain itself
            break
        opened.append(inner)
        content = inner
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path}: holds one {type(content).__name__}: wanted a state_dict; save model.state_dict() and give that file"
        )
    if not content:
        raise CheckpointError(f"{path}: holds no weights at all: wanted a state_dict; save model.state_dict() of the trained network")
    strangers = [f"{name!r}: {type(value).__name__}" for name, value in content.items() if not _is_weight(name, value)]
    if strangers:
        raise CheckpointError(
            f"{path}: {len(strangers)} of {len(content)} entries are not named tensors ({_first(strangers)}): wanted a state_dict;"
            " save model.state_dict() and give that file"
        )
    return dict(content)


def _is_weight(name: object, value: object) -> bool:
    return isinstance(name, str) and isinstance(value, Tensor)


def _without_parallel_prefix(named: dict[str, Any]) -> dict[str, Any]:
    """Takes off `module.`, which DataParallel puts before every name, as often as all names have it."""
    while all(name.startswith(PARALLEL_PREFIX) for name in named):
        named = {name.removeprefix(PARALLEL_PREFIX): value for name, value in named.items()}
    return named


def _float32(path: Path, name: str, tensor: Tensor) -> Tensor:
    """The tensor, in float32 if it is floating-point. Raises CheckpointError for other kinds and for NaN and infinity."""
    if tensor.is_quantized or tensor.is_meta or tensor.is_complex() or tensor.layout is not torch.strided:
        kind = "quantised" if tensor.is_quantized else "without values (meta)" if tensor.is_meta else f"{tensor.dtype}, {tensor.layout}"
        raise CheckpointError(f"{path}: {name!r} is {kind}: wanted dense real weights; save the network before it is converted")
    stored = tensor.untyped_storage().nbytes() // tensor.element_size()
    if tensor.numel() > max(stored, REPEATED_AT_MOST):
        raise CheckpointError(
            f"{path}: {name!r} repeats {stored} stored values to {tensor.numel()}: wanted dense weights, as networks have"
        )
    if not tensor.is_floating_point():
        return tensor.detach()
    dense = tensor.detach().to(torch.float32).contiguous()
    strange = int(dense.numel() - dense.isfinite().sum())
    if strange:
        raise CheckpointError(f"{path}: {strange} of {dense.numel()} weights of {name!r} are NaN or infinite: take an earlier checkpoint")
    return dense


def _first(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:NAMES_SHOWN]) + (", ..." if len(listed) > NAMES_SHOWN else "")
