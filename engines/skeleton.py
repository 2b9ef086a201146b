"""`Skeleton`: which keypoints a network finds, which limbs join them, and where each limb's field lies among the PAF channels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import model_validator

from edgepose.engines.errors import ConfigError
from edgepose.engines.record import Record, did_you_mean, read_json


class Limb(Record):
    """A part affinity field that points from keypoint `start` to keypoint `end`; `x` and `y` are its channels in the PAF tensor."""

    start: int
    end: int
    x: int
    y: int


class Skeleton(Record):
    """Keypoint names in heatmap order and limbs in PAF order.

    Names are COCO's (`left_shoulder`, ...) wherever COCO has the keypoint, so that results of any network can be compared by name.
    """

    name: str
    keypoints: tuple[str, ...]
    limbs: tuple[Limb, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Skeleton:
        if len(set(self.keypoints)) != len(self.keypoints):
            raise ValueError("a keypoint name occurs twice")
        for index, limb in enumerate(self.limbs):
            for end in (limb.start, limb.end):
                if not 0 <= end < len(self.keypoints):
                    raise ValueError(f"limb {index} joins keypoint {end}, but there are {len(self.keypoints)} keypoints")
            if limb.start == limb.end:
                raise ValueError(f"limb {index} joins keypoint {limb.start} to itself")
            if min(limb.x, limb.y) < 0:
                raise ValueError(f"limb {index} has a negative PAF channel")
        channels = [c for limb in self.limbs for c in (limb.x, limb.y)]
        if len(set(channels)) != len(channels):
            raise ValueError("two limb components share a PAF channel")
        return self

    @property
    def paf_channels(self) -> int:
        """Least number of PAF channels that holds every limb."""
        return 1 + max((max(limb.x, limb.y) for limb in self.limbs), default=-1)

    def limb_name(self, index: int) -> str:
        limb = self.limbs[index]
        return f"{self.keypoints[limb.start]}-{self.keypoints[limb.end]}"


def skeleton_from_json(path: Path) -> Skeleton:
    """Reads our own JSON or trt_pose's `human_pose.json` (recognised by its `skeleton` key). Raises ConfigError."""
    data = read_json(path)
    if isinstance(data, dict) and "skeleton" in data:
        return skeleton_from_trt_pose(data, str(path))
    return Skeleton.parse(data, str(path))


def skeleton_from_trt_pose(data: dict[str, object], where: str) -> Skeleton:
    """From the content of a trt_pose task file: 1-based limbs, PAF channels (y, x) per limb in order.

    Source: trt_pose `coco_category_to_topology` (topology row = [2k, 2k + 1, a, b], first channel along rows).
    """
    keypoints, pairs = data.get("keypoints"), data.get("skeleton")
    if not isinstance(keypoints, list) or not isinstance(pairs, list) or not all(_is_pair(p) for p in pairs):
        raise ConfigError(f"{where}: wanted trt_pose's 'keypoints' (names) and 'skeleton' (pairs of 1-based numbers)")
    limbs = [{"start": a - 1, "end": b - 1, "x": 2 * k + 1, "y": 2 * k} for k, (a, b) in enumerate(pairs)]
    return Skeleton.parse({"name": str(data.get("name", "custom")), "keypoints": keypoints, "limbs": limbs}, where)


def skeleton_named(name: str) -> Skeleton:
    """One of the built-in skeletons. Raises ConfigError with the nearest name."""
    for skeleton in BUILT_IN_SKELETONS:
        if skeleton.name == name:
            return skeleton
    known = [s.name for s in BUILT_IN_SKELETONS]
    raise ConfigError(f"skeleton {name!r} is unknown{did_you_mean(name, known)}: wanted one of {', '.join(known)}, or a JSON file")


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(v, int) for v in value)


def _skeleton(name: str, keypoints: Sequence[str], pairs: Sequence[tuple[int, int]], x_channels: Sequence[int] | None = None) -> Skeleton:
    """x comes before y, as in OpenPose; without `x_channels` the limbs' channels follow one another."""
    xs = x_channels or [2 * k for k in range(len(pairs))]
    limbs = tuple(Limb(start=a, end=b, x=x, y=x + 1) for (a, b), x in zip(pairs, xs, strict=True))
    return Skeleton(name=name, keypoints=tuple(keypoints), limbs=limbs)


_ARMS = "right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist".split()
_LEGS = "right_hip right_knee right_ankle left_hip left_knee left_ankle".split()
_FACE = "right_eye left_eye right_ear left_ear".split()
_OPENPOSE18 = ["nose", "neck", *_ARMS, *_LEGS, *_FACE]
_COCO17 = (
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow "
    "left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle"
).split()

# OpenPose COCO: pairs and channels of its poseParameters.cpp; human-pose-estimation-0001 and lightweight OpenPose keep them.
COCO18 = _skeleton(
    "coco18",
    _OPENPOSE18,
    [(1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13)]
    + [(1, 0), (0, 14), (14, 16), (0, 15), (15, 17), (2, 16), (5, 17)],
    [12, 20, 14, 16, 22, 24, 0, 2, 4, 6, 8, 10, 28, 30, 34, 32, 36, 18, 26],
)
# trt_pose human_pose.json.
TRT_POSE18 = skeleton_from_trt_pose(
    {
        "name": "trt_pose18",
        "keypoints": [*_COCO17, "neck"],
        "skeleton": [[16, 14], [14, 12], [17, 15], [15, 13], [12, 13], [6, 8], [7, 9], [8, 10], [9, 11], [2, 3], [1, 2], [1, 3]]
        + [[2, 4], [3, 5], [4, 6], [5, 7], [18, 1], [18, 6], [18, 7], [18, 12], [18, 13]],
    },
    "trt_pose18",
)
# NVIDIA TAO BodyPoseNet: pose_configurations/bpnet_18joints.json of tao_tensorflow1_backend.
BODYPOSENET18 = _skeleton(
    "bodyposenet18",
    _OPENPOSE18,
    [(1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13), (1, 2), (2, 3), (3, 4), (2, 16), (1, 5), (5, 6), (6, 7), (5, 17)]
    + [(1, 0), (0, 14), (0, 15), (14, 16), (15, 17)],
)
# OpenPose MPI and BODY_25: POSE_BODY_PART_PAIRS and POSE_MAP_INDEX of its poseParameters.cpp.
MPII15 = _skeleton(
    "mpii15",
    ["head", "neck", *_ARMS, *_LEGS, "chest"],
    [(0, 1), (1, 2), (2, 3), (3, 4), (1, 5), (5, 6), (6, 7), (1, 14), (14, 8), (8, 9), (9, 10), (14, 11), (11, 12), (12, 13)],
)
BODY25 = _skeleton(
    "body25",
    ["nose", "neck", *_ARMS, "mid_hip", *_LEGS, *_FACE]
    + "left_big_toe left_small_toe left_heel right_big_toe right_small_toe right_heel".split(),
    [(1, 8), (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (8, 9), (9, 10), (10, 11), (8, 12), (12, 13), (13, 14), (1, 0), (0, 15)]
    + [(15, 17), (0, 16), (16, 18), (2, 17), (5, 18), (14, 19), (19, 20), (14, 21), (11, 22), (22, 23), (11, 24)],
    [0, 14, 22, 16, 18, 24, 26, 6, 2, 4, 8, 10, 12, 30, 32, 36, 34, 38, 20, 28, 40, 42, 44, 46, 48, 50],
)
BUILT_IN_SKELETONS = (COCO18, TRT_POSE18, BODYPOSENET18, MPII15, BODY25)
