"""The weights that come with edgepose."""

from __future__ import annotations

import hashlib

import pytest
import torch

from edgepose.engines.bundle import open_bundle
from edgepose.engines.default_bundle import default_bundle
from edgepose.engines.errors import ConfigError
from edgepose.export.network import network_from_architecture
from edgepose.export.networks.catalogue import packaged_weights


def test_they_are_small_half_precision_and_what_the_default_bundle_was_made_of() -> None:
    path = packaged_weights("edgepose-s")
    state = torch.load(path, weights_only=True)["state_dict"]

    assert path.stat().st_size <= 3_000_000
    assert {tensor.dtype for tensor in state.values() if tensor.ndim == 4} == {torch.float16}
    assert open_bundle(default_bundle()).manifest.source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["edgepose-n", "edgepose-s"])
def test_an_architecture_takes_them_where_no_checkpoint_is_given(name: str) -> None:
    assert network_from_architecture(name).source.weights == f"{name}.pth"


def test_an_architecture_that_comes_without_says_so() -> None:
    with pytest.raises(ConfigError, match="mobilenet_v2_small comes without weights: give a checkpoint with --weights"):
        network_from_architecture("mobilenet_v2_small")
