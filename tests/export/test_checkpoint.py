"""What checkpoint files are read, and what the others are told."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgepose.engines.errors import CheckpointError
from edgepose.export.checkpoint import fit_state, load_state_dict, load_weights
from edgepose.export.networks.catalogue import architecture_named

SMALL = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.num_batches_tracked": torch.tensor(5)}
INSIDE_ITSELF: dict[str, Any] = {}
INSIDE_ITSELF["model"] = INSIDE_ITSELF
HUMAN_POSE = architecture_named("human-pose-estimation-0001")


class Whole(nn.Linear):
    """A network that is pickled as a whole."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "weights.pth"


@pytest.fixture(scope="module")
def human_pose() -> dict[str, Tensor]:
    return HUMAN_POSE.build({}).state_dict()


def complaint(path: Path) -> str:
    """The one line with which reading `path` fails."""
    with pytest.raises(CheckpointError) as caught:
        load_state_dict(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def misfit(network: str, state: dict[str, Tensor]) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_weights(architecture_named(network), state)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        SMALL,
        OrderedDict(SMALL),
        {"state_dict": SMALL, "epoch": 3},
        {"model": SMALL},
        {"model_state_dict": SMALL, "optimizer_state_dict": {"state": {}}},
        {"model": {"state_dict": SMALL}},
        {f"module.{name}": value for name, value in SMALL.items()},
        {"state_dict": {f"module.{name}": value for name, value in SMALL.items()}},
        {name: nn.Parameter(value, requires_grad=value.is_floating_point()) for name, value in SMALL.items()},
    ],
    ids=["plain", "ordered", "state_dict", "model", "model_state_dict", "nested", "DataParallel", "wrapped DataParallel", "parameters"],
)
def test_wrappers_and_the_prefix_of_data_parallel_are_taken_off(file: Path, content: Any) -> None:
    torch.save(content, file)

    state = load_state_dict(file)

    assert state.keys() == SMALL.keys()
    assert all(torch.equal(state[name], value) and not state[name].requires_grad for name, value in SMALL.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_single_precision(file: Path, dtype: torch.dtype) -> None:
    torch.save({"a": torch.tensor([1.5, -2.0], dtype=dtype)}, file)

    state = load_state_dict(file)

    assert state["a"].dtype == torch.float32
    assert state["a"].tolist() == [1.5, -2.0]


def test_the_format_before_zip_files_is_read(file: Path) -> None:
    torch.save(SMALL, file, _use_new_zipfile_serialization=False)

    assert load_state_dict(file).keys() == SMALL.keys()


def test_a_prefix_that_only_some_names_have_is_kept(file: Path) -> None:
    torch.save({"module.a": torch.ones(1), "b": torch.ones(1)}, file)

    assert load_state_dict(file).keys() == {"module.a", "b"}


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "No such file" in complaint(tmp_path / "nothing.pth")


def test_a_directory_is_not_a_checkpoint(tmp_path: Path) -> None:
    assert "Is a directory" in complaint(tmp_path)


def test_an_empty_file_is_told_from_a_torn_one(file: Path) -> None:
    file.touch()

    assert "empty file" in complaint(file)


@pytest.mark.parametrize(
    "text", ["version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "\n<!DOCTYPE html><title>Fichier trop volumineux é</title>"]
)
def test_a_text_file_is_quoted(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")

    message = complaint(file)

    assert "a text file that begins" in message
    assert text.strip()[:12] in message


def test_a_pickled_network_is_refused_without_running_its_code(file: Path) -> None:
    torch.save(Whole(2, 2), file)

    message = complaint(file)

    assert "holds a pickled object" in message
    assert "Whole" in message
    assert "save model.state_dict()" in message


def test_a_torchscript_archive_is_refused(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("net/constants.pkl", b"")

    assert "a TorchScript archive" in complaint(file)


@pytest.mark.parametrize("part", [0.99, 0.5, 0.1])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_torn_file_is_recognised(file: Path, part: float, zipped: bool) -> None:
    torch.save({"a": torch.randn(1000)}, file, _use_new_zipfile_serialization=zipped)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * part)])

    assert "torn" in complaint(file)


def test_a_file_that_lost_bytes_in_the_middle_is_recognised(file: Path) -> None:
    """torch.load takes zeros for weights."""
    torch.save({"a": torch.randn(10_000)}, file)
    whole = bytearray(file.read_bytes())
    whole[20_000:24_000] = bytes(4_000)
    file.write_bytes(whole)

    assert "torn (the bytes of 'weights/data/0'" in complaint(file)


def test_a_file_saved_without_checksums_is_read(file: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(SMALL, file)
    finally:
        torch.serialization.set_crc32_options(True)

    assert load_state_dict(file).keys() == SMALL.keys()


def test_bytes_of_another_kind_are_not_a_checkpoint(file: Path) -> None:
    file.write_bytes(bytes(range(255, -1, -1)) * 8)

    assert "not a checkpoint that torch.save wrote" in complaint(file)


def test_safetensors_are_told_how_to_convert(tmp_path: Path) -> None:
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    for name in ("weights.safetensors", "weights.pth"):
        path = tmp_path / name
        path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
        assert "a safetensors file" in complaint(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (torch.ones(2), "holds one Tensor"),
        ([torch.ones(2)], "holds one list"),
        ({}, "holds no weights at all"),
        ({"a": torch.ones(1), "lr": 0.1}, "1 of 2 entries are not named tensors ('lr': float)"),
        ({"net": {"a": torch.ones(1)}}, "1 of 1 entries are not named tensors ('net': dict)"),
        (INSIDE_ITSELF, "1 of 1 entries are not named tensors ('model': dict)"),
        ({3: torch.ones(1)}, "are not named tensors (3: Tensor)"),
        ({"a": torch.ones(2, dtype=torch.complex64)}, "'a' is torch.complex64"),
        ({"a": torch.eye(2).to_sparse()}, "'a' is torch.float32, torch.sparse_coo"),
        ({"a": torch.ones(2, device="meta")}, "'a' is without values (meta)"),
        ({"a": torch.tensor([1.0, float("nan")])}, "1 of 2 weights of 'a' are NaN or infinite"),
        ({"fine": torch.ones(1), "b": torch.full((2,), -float("inf"))}, "2 of 2 weights of 'b' are NaN or infinite"),
        ({"a": torch.tensor([1e300], dtype=torch.float64)}, "1 of 1 weights of 'a' are NaN or infinite"),
        ({"a": torch.zeros(1).expand(10**9, 10**6)}, "'a' repeats 1 stored values to 1000000000000000"),
    ],
    ids=[
        "tensor",
        "list",
        "nothing",
        "number",
        "unknown wrapper",
        "inside itself",
        "number as name",
        "complex",
        "sparse",
        "meta",
        "NaN",
        "infinity",
        "overflow",
        "a petabyte",
    ],
)
def test_content_that_is_not_a_set_of_weights_is_described(file: Path, content: Any, words: str) -> None:
    torch.save(content, file)

    assert words in complaint(file)


def test_a_network_gets_its_weights_and_nothing_shares_memory_with_them(human_pose: dict[str, Tensor]) -> None:
    network = load_weights(HUMAN_POSE, human_pose)

    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    for name, value in network.state_dict().items():
        assert torch.equal(value, human_pose[name])
        assert value.data_ptr() != human_pose[name].data_ptr()


def test_counters_of_batch_normalisation_may_be_absent_or_left_over(assets: Path) -> None:
    architecture = architecture_named("mobilenet_v2_small")
    state = load_state_dict(assets / "weights" / "mobilenet_v2_small.pth")
    bare = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    x = torch.rand(1, 3, 32, 32)

    networks = [load_weights(architecture, given) for given in (state, bare, bare | {"folded.num_batches_tracked": torch.tensor(1)})]

    first, *others = (network(x) for network in networks)
    assert all(torch.equal(other[0], first[0]) and torch.equal(other[1], first[1]) for other in others)


def test_a_network_of_ones_own_is_fitted_in_the_same_way() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    state = {name: value for name, value in network.state_dict().items() if "tracked" not in name}

    network.load_state_dict(fit_state(state, network.state_dict(), "mine"))

    with pytest.raises(CheckpointError, match=r"^checkpoint does not fit mine: 5 missing \(0.bias, 1.weight, 1.bias, ...\); no known"):
        fit_state({"0.weight": state["0.weight"]}, network.state_dict(), "mine")


def test_what_does_not_fit_is_listed_with_numbers(human_pose: dict[str, Tensor]) -> None:
    state = dict(human_pose)
    for name in ("stem.weight", "stem.bias", "cpm.weight", "cpm.bias"):
        del state[name]
    state |= {"stranger": torch.ones(1), "red.bias": torch.ones(7), "align.bias": torch.ones(128, dtype=torch.int8)}

    message = misfit(HUMAN_POSE.name, state)

    assert "4 missing (stem.weight, stem.bias, cpm.weight, ...)" in message
    assert "1 unknown (stranger)" in message
    assert "2 of another kind (align.bias: found 128 of torch.int8, wanted 128, red.bias: found 7, wanted 128)" in message
    assert "the checkpoint is incomplete or its network was changed" in message


def test_a_checkpoint_of_another_known_network_names_that_network(assets: Path, tmp_path: Path) -> None:
    path = tmp_path / "resnet.pth"
    folder = assets / "checkpoints"
    command = [sys.executable, str(folder / "checkpoint_from_keys.py"), str(folder / "resnet18_baseline_att_224x224.keys.json"), str(path)]
    subprocess.run(command, check=True)
    state = load_state_dict(path)

    assert "the nearest known network is resnet18_baseline_att (100% agrees)" in misfit("densenet121_baseline_att", state)
    load_weights(architecture_named("resnet18_baseline_att"), state)


def test_a_checkpoint_of_no_known_network_is_said_to_be_foreign() -> None:
    assert "no known network is near it" in misfit("resnet18_baseline_att", {"encoder.weight": torch.ones(2, 2)})
