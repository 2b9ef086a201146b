"""A small trained-looking PyTorch network, exported once for all tests of this folder."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgepose.engines import ModelContract
from edgepose.engines.target import target_named
from edgepose.export.exporter import Export, export_bundles
from edgepose.export.network import Network, network_from_factory

FACTORY = '''
import torch
from torch import nn


class Small(nn.Module):
    """Two strided convolutions and a head each; weights from a seed."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)
        self.heat, self.paf = nn.Conv2d(8, 3, 1), nn.Conv2d(8, 2, 1)

    def forward(self, x):
        x = torch.relu(self.second(torch.relu(self.first(x))))
        return self.heat(x), self.paf(x)


def build():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Small()


def not_a_module():
    return 5
'''


@pytest.fixture(scope="session")
def factory_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder on sys.path with a user's own network in `my_networks.py`."""
    folder = tmp_path_factory.mktemp("factory")
    (folder / "my_networks.py").write_text(FACTORY)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    yield folder
    sys.path.remove(str(folder))


@pytest.fixture(scope="session")
def small_network(factory_folder: Path, tiny_model: Any) -> Network:
    assert factory_folder
    return network_from_factory("my_networks:build", None, tiny_model.contract)


@pytest.fixture(scope="session")
def small_bundles(small_network: Network, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Export]:
    """The small network for every target, dynamic batch, compared on structured noise."""
    out = tmp_path_factory.mktemp("small")
    names = ["onnx", "ov-fp32", "ov-fp16"]
    made = export_bundles(small_network, [target_named(n) for n in names], out, "dynamic")
    return dict(zip(names, made, strict=True))


@pytest.fixture(scope="session")
def real_contract(real_network: Network) -> ModelContract:
    return real_network.contract
