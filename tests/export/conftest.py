"""A small trained-looking PyTorch network, exported once for all tests of this folder, and the real one from the assets."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgepose.engines import ModelContract
from edgepose.engines.target import target_named
from edgepose.export.cli import picture_sample
from edgepose.export.exporter import Export, export_bundles
from edgepose.export.network import Network, network_from_architecture, network_from_factory

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


@dataclass(frozen=True)
class Made:
    """The bundles of one export, by target."""

    by_target: dict[str, Export]
    folder: Path

    def __getitem__(self, target: str) -> Export:
        return self.by_target[target]


@pytest.fixture(scope="session")
def small_bundles(small_network: Network, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The small network for every target, dynamic batch, compared on structured noise."""
    out = tmp_path_factory.mktemp("small")
    names = ["onnx", "ov-fp32", "ov-fp16"]
    made = export_bundles(small_network, [target_named(n) for n in names], out, "dynamic")
    return Made(dict(zip(names, made, strict=True)), out)


@pytest.fixture(scope="session")
def real_network(assets: Path) -> Network:
    name = "human-pose-estimation-0001"
    return network_from_architecture(name, assets / "weights" / f"{name}.pth")


@pytest.fixture(scope="session")
def real_contract(real_network: Network) -> ModelContract:
    return real_network.contract


@pytest.fixture(scope="session")
def real_bundles(real_network: Network, assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """human-pose-estimation-0001 at 256 x 456, compared on real pictures."""
    out = tmp_path_factory.mktemp("real")
    names = ["onnx", "ov-fp32", "ov-fp16"]
    pictures = picture_sample(assets / "coco" / "val", 12, real_network)
    made = export_bundles(real_network, [target_named(n) for n in names], out, 1, pictures)
    return Made(dict(zip(names, made, strict=True)), out)
