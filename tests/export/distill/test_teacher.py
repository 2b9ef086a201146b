"""What teaches: bundles and checkpoints, their maps and features, and what cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import painted_people
import pytest
import torch

from edgepose.engines.contract import ModelContract
from edgepose.engines.errors import CheckpointError, ConfigError
from edgepose.engines.openvino_ import compile_model
from edgepose.export.checkpoint import architecture_of, load_state_dict
from edgepose.export.distill.accuracy import model_from_module
from edgepose.export.distill.course import save_weights
from edgepose.export.distill.features import bottlenecks
from edgepose.export.distill.pupil import Pupil, losses
from edgepose.export.distill.teacher import OpenVinoTeacher, TorchTeacher, open_teacher
from edgepose.export.distill.training import map_pooling
from edgepose.export.networks.edgepose import SIZES, EdgePose
from edgepose.export.networks.human_pose_estimation_0001 import HumanPoseEstimation0001

CPU = torch.device("cpu")
SIDE = 64


def test_the_features_of_a_teacher_are_those_that_all_its_outputs_depend_on() -> None:
    torch.manual_seed(0)
    network = HumanPoseEstimation0001().eval()
    contract = architecture_of(network.state_dict()).contract({}, None).resized(SIDE, SIDE)
    model = model_from_module(network, contract, 1)
    middle, last = bottlenecks(model, (8, 8))
    model.add_outputs([middle, last])
    pictures = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3), np.uint8)

    found = OpenVinoTeacher(_compiled(model, contract), contract, 2, "").teach(pictures)
    wanted = TorchTeacher(network, contract, CPU).teach(pictures)

    assert TorchTeacher(network, contract, CPU).feature_channels == (128, 128)
    for a, b in zip((found.maps, *found.features), (wanted.maps, *wanted.features), strict=True):
        assert torch.corrcoef(torch.stack([a.float().ravel(), b.float().ravel()]))[0, 1] > 0.99


def test_a_teacher_with_one_bottleneck_has_one_feature_and_its_outputs_are_none() -> None:
    """The maps of a trt_pose network grow in its heads."""

    class Teacher(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.far, self.heat = (torch.nn.Conv2d(a, b, 3, stride, 1) for a, b, stride in ((3, 7, 4), (7, 9, 2), (9, 3, 1)))
            self.paf = torch.nn.Conv2d(3, 2, 1)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            heat = torch.nn.functional.interpolate(self.heat(self.far(self.stem(x))), scale_factor=2.0)
            return heat, self.paf(heat)

    contract = painted_people.CONTRACT.resized(SIDE, SIDE)
    model = model_from_module(Teacher().eval(), contract, 2)

    found = bottlenecks(model, contract.map_hw)

    assert [tensor.get_partial_shape()[1].get_length() for tensor in found] == [7]
    model.add_outputs(list(found))
    assert OpenVinoTeacher(_compiled(model, contract, 2), contract, len(found), "").feature_channels == (7,)


def test_one_of_our_own_family_teaches_in_pytorch_what_a_pupil_compares() -> None:
    torch.manual_seed(0)
    network = EdgePose(SIZES["n"]).eval()
    teacher = TorchTeacher(network, architecture_of(network.state_dict()).contract({}, None).resized(SIDE, SIDE), CPU)
    pupil = Pupil(EdgePose(SIZES["n"]), 57, teacher.feature_channels)
    lesson = teacher.teach(np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8))

    found = losses(pupil(torch.zeros(2, 3, SIDE, SIDE)), lesson, background=18)

    assert teacher.feature_channels == (48, 48) and found.total.isfinite()


def _compiled(model: Any, contract: ModelContract, count: int = 1) -> Any:
    return compile_model(model, contract, "fp32", "CPU", 1, count)[0]


def test_a_bundle_teaches_at_another_size_than_it_was_made_for(teacher: OpenVinoTeacher) -> None:
    pictures = np.ascontiguousarray(painted_people.painted_pictures(4)[:, :SIDE, :SIDE])

    lesson = teacher.teach(pictures)

    assert lesson.maps.shape == (4, 5, SIDE // 4, SIDE // 4) and lesson.maps.dtype == torch.float16
    assert len(lesson.features) == 2 and teacher.feature_channels == tuple(f.shape[1] for f in lesson.features)
    assert float(lesson.maps[:, :2].max()) > 0.5


def test_a_teacher_of_coarser_maps_is_refused(teacher: OpenVinoTeacher) -> None:
    contract = architecture_of(HumanPoseEstimation0001().state_dict()).contract({}, None)
    coarse = contract.model_copy(update={"output": contract.output.model_copy(update={"stride": 16})})

    assert map_pooling(teacher.contract, contract) == 2
    with pytest.raises(ConfigError, match="the teacher's maps have stride 16, the student's 8: wanted a divisor of 8"):
        map_pooling(coarse, contract)


def test_a_checkpoint_is_known_by_its_weights(assets: Path) -> None:
    state = load_state_dict(assets / "weights" / "human-pose-estimation-0001.pth")

    assert architecture_of(state).name == "human-pose-estimation-0001"
    del state["stem.weight"]
    with pytest.raises(CheckpointError, match="fits no known network: the nearest known network is human-pose-estimation-0001"):
        architecture_of(state)


def test_what_is_no_teacher_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file or bundle: wanted a bundle made by pose-export, or a checkpoint"):
        open_teacher(tmp_path / "none.pth", 4, SIDE, CPU)


def test_a_checkpoint_of_another_skeleton_is_to_be_exported_first(tmp_path: Path) -> None:
    save_weights(tmp_path / "own.pth", EdgePose(SIZES["n"], heatmaps=3, pafs=2), {})

    with pytest.raises(ConfigError, match=r"own.pth: .* but skeleton 'coco18' has 18 .*: a teacher of another skeleton .* give its bundle"):
        open_teacher(tmp_path / "own.pth", 4, SIDE, CPU)


def test_crops_that_a_teacher_cannot_take_are_told_as_such(assets: Path) -> None:
    with pytest.raises(ConfigError, match=r"mobilenet_v2_small wants pictures in multiples of 16: --crop 72 is none"):
        open_teacher(assets / "weights" / "mobilenet_v2_small.pth", 4, 72, CPU)
