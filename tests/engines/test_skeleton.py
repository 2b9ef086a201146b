from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgepose.engines.errors import ConfigError
from edgepose.engines.skeleton import BUILT_IN_SKELETONS, COCO18, TRT_POSE18, Skeleton, skeleton_from_json, skeleton_named


@pytest.mark.parametrize("skeleton", BUILT_IN_SKELETONS, ids=lambda s: s.name)
def test_built_in_skeletons_are_mirror_symmetric(skeleton: Skeleton) -> None:
    """Exchanging left and right maps the set of limbs onto itself: a slip in an index table breaks this."""

    def mirrored(name: str) -> str:
        side, _, rest = name.partition("_")
        return {"left": "right_", "right": "left_"}[side] + rest if side in ("left", "right") else name

    limbs = {frozenset((skeleton.keypoints[limb.start], skeleton.keypoints[limb.end])) for limb in skeleton.limbs}
    assert limbs == {frozenset(map(mirrored, pair)) for pair in limbs}
    assert set(skeleton.keypoints) == {mirrored(name) for name in skeleton.keypoints}


@pytest.mark.parametrize("skeleton", BUILT_IN_SKELETONS, ids=lambda s: s.name)
def test_built_in_skeletons_join_every_keypoint_and_fill_their_channels(skeleton: Skeleton) -> None:
    assert {k for limb in skeleton.limbs for k in (limb.start, limb.end)} == set(range(len(skeleton.keypoints)))
    assert sorted(c for limb in skeleton.limbs for c in (limb.x, limb.y)) == list(range(2 * len(skeleton.limbs)))


def test_trt_pose_stores_y_before_x() -> None:
    assert (TRT_POSE18.limbs[0].y, TRT_POSE18.limbs[0].x) == (0, 1)
    assert TRT_POSE18.limb_name(0) == "left_ankle-left_knee"


def test_openpose_channel_order_is_that_of_its_parameters_file() -> None:
    by_name = {COCO18.limb_name(i): limb.x for i, limb in enumerate(COCO18.limbs)}
    assert by_name["neck-right_hip"] == 0 and by_name["neck-right_shoulder"] == 12 and by_name["left_shoulder-left_ear"] == 26


def test_a_trt_pose_task_file_gives_the_built_in_skeleton(tmp_path: Path) -> None:
    pairs = [[limb.start + 1, limb.end + 1] for limb in TRT_POSE18.limbs]
    path = tmp_path / "human_pose.json"
    path.write_text(
        json.dumps({"supercategory": "person", "id": 1, "name": "trt_pose18", "keypoints": TRT_POSE18.keypoints, "skeleton": pairs})
    )
    assert skeleton_from_json(path) == TRT_POSE18


def test_our_own_json_goes_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / "coco18.json"
    path.write_text(COCO18.model_dump_json())
    assert skeleton_from_json(path) == COCO18


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"limbs": [{"start": 0, "end": 99, "x": 0, "y": 1}]}, "joins keypoint 99"),
        ({"limbs": [{"start": 0, "end": 0, "x": 0, "y": 1}]}, "to itself"),
        ({"limbs": [{"start": 0, "end": 1, "x": 0, "y": 0}]}, "share a PAF channel"),
        ({"limbs": [{"start": 0, "end": 1, "x": -1, "y": 0}]}, "negative"),
        ({"keypoints": ["nose"] * 18}, "occurs twice"),
        ({"keypoint": []}, "unknown key 'keypoint' (did you mean 'keypoints'?)"),
    ],
)
def test_impossible_skeletons_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Skeleton.parse({**COCO18.model_dump(), **change}, "s.json")
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_an_unknown_name_gets_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="did you mean 'trt_pose18'"):
        skeleton_named("trtpose18")
