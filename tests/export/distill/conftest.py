"""A teacher that finds painted people, and pictures of them."""

from __future__ import annotations

from pathlib import Path

import painted_people
import pytest
import torch

from edgepose.export.distill.album import Album
from edgepose.export.distill.teacher import OpenVinoTeacher, open_teacher

CPU = torch.device("cpu")
SIDE = 64
HERE = Path("folder")


@pytest.fixture(scope="module")
def teacher(painted_bundles: dict[str, Path]) -> OpenVinoTeacher:
    opened = open_teacher(painted_bundles["ov-fp32"], 4, SIDE, CPU)
    assert isinstance(opened, OpenVinoTeacher)
    return opened


@pytest.fixture
def album() -> Album:
    pictures = tuple(painted_people.painted_pictures(6))
    return Album(tuple(HERE / f"{n}.png" for n in range(6)), pictures, (1.0,) * 6)
