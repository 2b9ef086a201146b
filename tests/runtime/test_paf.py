"""The native parser agrees with its NumPy twin bit for bit, on every instruction set of this processor."""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgepose.engines.errors import ConfigError, ShapeMismatch
from edgepose.engines.skeleton import COCO18, TRT_POSE18, Limb, Skeleton
from edgepose.runtime.paf import INSTRUCTION_SETS, PafParser
from edgepose.runtime.paf_parameters import PafParameters
from edgepose.runtime.paf_reference import poses_from_maps
from edgepose.runtime.poses import Poses

EXAMPLES = int(os.environ.get("EDGEPOSE_EXAMPLES", "2000"))
ODD = np.array([np.nan, np.inf, -np.inf, 1e7, 1e30, -1e30, 0.5, 0.5, 0.5, 0.0, -0.0, 1e-40], np.float32)
TREE = ((0, 1), (1, 2), (1, 3), (3, 4))


def skeleton(pairs: Any, keypoints: int) -> Skeleton:
    limbs = tuple(Limb(start=a, end=b, x=2 * k + 1, y=2 * k) for k, (a, b) in enumerate(pairs))
    return Skeleton(name="test", keypoints=tuple(f"k{k}" for k in range(keypoints)), limbs=limbs)


def assert_same(found: Poses, expected: Poses) -> None:
    np.testing.assert_array_equal(found.keypoints, expected.keypoints)
    np.testing.assert_array_equal(found.scores, expected.scores)


@st.composite
def skeletons(draw: Any) -> Skeleton:
    """Trees, rings, islands and repeated limbs."""
    keypoints = draw(st.integers(1, 6))
    pair = st.tuples(st.integers(0, keypoints - 1), st.integers(0, keypoints - 1)).filter(lambda p: p[0] != p[1])
    return skeleton(draw(st.lists(pair, max_size=7)) if keypoints > 1 else [], keypoints)


parameters = st.builds(
    PafParameters,
    threshold=st.sampled_from([0.0, 0.07, 0.3]),
    samples=st.integers(1, 9),
    along=st.sampled_from([0.0, 0.05, 0.2]),
    share=st.sampled_from([0.0, 0.5, 0.6, 0.8, 1.0]),
    near=st.sampled_from([0.0, 2.0, 4.0, 100.0]),
    length_cost=st.sampled_from([0.0, 0.006, 0.1]),
    reach=st.sampled_from([0.0, 0.5, 1.0, 10.0]),
    minimum_keypoints=st.integers(1, 3),
    minimum_score=st.sampled_from([0.0, 0.02]),
    maximum_peaks=st.sampled_from([1, 3, 128]),
    maximum_persons=st.sampled_from([1, 2, 128]),
)


def made_maps(bones: Skeleton, height: int, width: int, seed: int, kind: str) -> tuple[Any, Any]:
    """Noise, few levels (ties and plateaus), constants, people, or values that no network should give."""
    rng = np.random.default_rng(seed)
    shape = (len(bones.keypoints), height, width)
    heat = rng.random(shape, np.float32)
    paf = (rng.random((max(bones.paf_channels, 1), height, width), np.float32) - np.float32(0.3)) * np.float32(rng.choice([0.5, 1, 2]))
    if kind == "levels":
        heat, paf = np.round(heat * 4) / np.float32(4), np.round(paf * 3) / np.float32(3)
    elif kind == "flat":
        heat[:], paf[:] = 0.5, rng.choice([-0.5, 0.0, 0.5])
    elif kind == "blobs":
        heat = heat**12
    elif kind == "hostile":
        heat[rng.random(shape) < 0.2] = rng.choice(ODD)
        paf[rng.random(paf.shape) < 0.1] = rng.choice(ODD)
    return heat, paf


def test_it_agrees_with_the_reference() -> None:
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(
        skeletons(),
        parameters,
        *(st.integers(0, 9), st.sampled_from([0, 1, 2, 3, 5, 8, 9, 17, 18, 19, 21]), st.integers(0, 2**32 - 1)),
        st.sampled_from(["noise", "levels", "flat", "blobs", "hostile"]),
    )
    def agree(bones: Skeleton, p: PafParameters, height: int, width: int, seed: int, kind: str) -> None:
        heat, paf = made_maps(bones, height, width, seed, kind)
        expected = poses_from_maps(heat, paf, bones, p)
        for instructions in INSTRUCTION_SETS:
            assert_same(PafParser(bones, p, instructions).parse(heat, paf), expected)

    agree()


@pytest.mark.parametrize("bones", [COCO18, TRT_POSE18], ids=lambda s: s.name)
def test_it_agrees_on_maps_of_a_real_size(bones: Skeleton) -> None:
    for seed in range(2):
        heat, paf = made_maps(bones, 46, 83, seed, "blobs")
        expected = poses_from_maps(heat, paf, bones, PafParameters())
        assert len(expected) > 10
        for instructions in INSTRUCTION_SETS:
            assert_same(PafParser(bones, instructions=instructions).parse(heat, paf), expected)


@pytest.mark.parametrize("kind", ["noise", "levels", "flat", "blobs", "hostile"])
def test_half_precision_gives_what_its_values_give_in_single(kind: str) -> None:
    bones = skeleton(TREE, 5)
    with np.errstate(over="ignore"):
        heat, paf = (m.astype(np.float16) for m in made_maps(bones, 13, 35, 7, kind))
    for instructions in INSTRUCTION_SETS:
        parser = PafParser(bones, instructions=instructions)
        assert_same(parser.parse(heat, paf), parser.parse(heat.astype(np.float32), paf.astype(np.float32)))


def test_every_half_is_widened_exactly() -> None:
    """A row of single cells, each under a lower one, reports its own value as its confidence."""
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves) & (halves > 0.07)]
    bones = skeleton([(0, 1)], 2)
    for instructions in INSTRUCTION_SETS:
        parser = PafParser(bones, PafParameters(minimum_keypoints=2, length_cost=0, maximum_peaks=1024), instructions)
        for values in np.array_split(halves, 60):
            heat = np.zeros((2, 3, 2 * len(values) + 1), np.float16)
            heat[0, 1, 1::2] = heat[1, 1, 1::2] = values
            paf = np.ones((2, *heat.shape[1:]), np.float16)
            found = parser.parse(heat, paf).keypoints[..., 2]
            assert set(found[found > 0].tolist()) <= set(values.astype(np.float32).tolist())
            same = parser.parse(heat.astype(np.float32), paf.astype(np.float32)).keypoints
            np.testing.assert_array_equal(parser.parse(heat, paf).keypoints, same)


def test_rows_and_channels_may_lie_apart() -> None:
    bones = skeleton(TREE, 5)
    heat, paf = made_maps(bones, 12, 21, 3, "blobs")
    parser = PafParser(bones)
    expected = parser.parse(heat, paf)
    for height, width, more in ((12, 64, 0), (20, 21, 3), (13, 22, 1)):
        wide_heat, wide_paf = (np.full((len(m) + more, height, width), np.nan, np.float32) for m in (heat, paf))
        wide_heat[:5, :12, :21], wide_paf[:8, :12, :21] = heat, paf
        assert_same(parser.parse(wide_heat[:, :12, :21], wide_paf[:, :12, :21]), expected)


def test_read_only_maps_are_read_in_place() -> None:
    bones = skeleton(TREE, 5)
    heat, paf = made_maps(bones, 12, 21, 3, "blobs")
    heat.setflags(write=False)
    paf.setflags(write=False)
    assert len(PafParser(bones, PafParameters(minimum_keypoints=2)).parse(heat, paf))


def test_what_it_cannot_read_is_refused_with_the_reason() -> None:
    parser = PafParser(skeleton(TREE, 5))
    heat, paf = np.zeros((5, 6, 7), np.float32), np.zeros((8, 6, 7), np.float32)
    for wrong_heat, wrong_paf, why in (
        (heat[:4], paf, "at least 5 heatmaps"),
        (heat, paf[:7], "8 PAF channels"),
        (heat, paf[:, :5], "same h and w"),
        (heat.astype(np.float64), paf.astype(np.float64), "float32 or both float16"),
        (heat.astype(np.float16), paf, "float32 or both float16"),
        (heat.transpose(0, 2, 1), paf.transpose(0, 2, 1), "side by side"),
        (heat[:, ::-1], paf[:, ::-1], "in order"),
        (np.broadcast_to(heat[:, :1, :1], (5, 1, 1 << 23)), np.broadcast_to(paf[:, :1, :1], (8, 1, 1 << 23)), "side by side"),
    ):
        with pytest.raises(ShapeMismatch, match=why):
            parser.parse(wrong_heat, wrong_paf)
    with pytest.raises(ShapeMismatch, match=r"heatmaps of shape \(6, 7\): wanted an array \(channels, h, w\) of one picture"):
        parser.parse(heat[0], paf[0])
    for rounds, repeats in ((0, 1), (1, 0)):
        with pytest.raises(ShapeMismatch, match="at least one round and one repeat"):
            parser.microseconds(heat, paf, rounds, repeats)
    with pytest.raises(ConfigError, match="this processor has"):
        PafParser(skeleton(TREE, 5), instructions="mmx")


def test_a_skeleton_of_two_keypoints_is_found_with_the_usual_parameters() -> None:
    """Groups below `minimum_keypoints` are dropped; where a body has no more, a whole one is kept and a lone keypoint is not."""
    heat, paf = np.zeros((2, 7, 20), np.float32), np.zeros((2, 7, 20), np.float32)
    paf[1] = 1
    heat[0, 3, 2] = heat[1, 3, 12] = heat[0, 5, 2] = 0.6
    assert len(PafParser(skeleton([(0, 1)], 2)).parse(heat, paf)) == 1


def test_a_plateau_is_one_peak_whatever_its_shape() -> None:
    bones = skeleton([(0, 1)], 2)
    shapes = ([(2, 2), (2, 3)], [(2, 3), (3, 2), (3, 3)], [(1, 3), (2, 2), (3, 1)], [(1, 1), (1, 2), (1, 3), (2, 1), (2, 3)], [(2, 2)])
    for shape in shapes:
        heat, paf = np.zeros((2, 7, 20), np.float32), np.zeros((2, 7, 20), np.float32)
        paf[1] = 1
        for y, x in shape:
            heat[0, y, x], heat[1, y, x + 12] = 0.6, 0.6
        poses = PafParser(bones, PafParameters(minimum_keypoints=2)).parse(heat, paf)
        assert len(poses) == 1, shape
        if len(shape) > 2:
            centre = np.mean(shape, 0)[::-1] + 0.5
            np.testing.assert_allclose(poses.keypoints[0, 0, :2], centre, atol=1e-5)


def test_a_shelf_beside_a_higher_cell_is_no_peak() -> None:
    bones = skeleton([(0, 1)], 2)
    heat, paf = np.zeros((2, 7, 20), np.float32), np.zeros((2, 7, 20), np.float32)
    paf[1] = 1
    heat[:, 3, 2:6], heat[:, 3, 6] = 0.5, 0.9
    poses = PafParser(bones, PafParameters(minimum_keypoints=1)).parse(heat, paf)
    assert (poses.keypoints[..., 2][poses.present] == np.float32(0.9)).all()


@pytest.mark.parametrize("x", [0.12, 0.3, 0.5, 2.61, 6.4, 6.9])
@pytest.mark.parametrize("y", [0.2, 0.5, 3.37, 4.9])
def test_a_round_blob_is_placed_to_a_hundredth_of_a_cell_also_at_the_border(x: float, y: float) -> None:
    rows, columns = np.mgrid[0:5, 0:7] + 0.5
    other = np.array([3.5, 2.5])
    heat = np.stack([0.8 * np.exp(-((columns - px) ** 2 + (rows - py) ** 2) / 1.5) for px, py in ((x, y), other)]).astype(np.float32)
    unit = (other - (x, y)) / np.linalg.norm(other - (x, y))
    paf = np.broadcast_to(unit[::-1, None, None], (2, 5, 7)).astype(np.float32)
    poses = PafParser(skeleton([(0, 1)], 2), PafParameters(minimum_keypoints=2)).parse(heat, paf)
    corner = (x < 1 or x > 6) and (y < 1 or y > 4)  # neither axis can lend the other its curvature
    np.testing.assert_allclose(poses.keypoints[0, :, :2], [(x, y), other], atol=0.5 if corner else 0.01)


def body(neck: bool, people: int = 1) -> tuple[Any, Any, Skeleton]:
    """People with a neck that joins head, arm and leg; without it the leg hangs on nothing."""
    bones = skeleton([(0, 1), (1, 2), (2, 3), (1, 4), (4, 5)], 6)  # head neck shoulder elbow hip knee
    heat, paf = np.zeros((6, 30, 40), np.float32), np.zeros((10, 30, 40), np.float32)
    rows, columns = np.mgrid[0:30, 0:40] + 0.5
    for person in range(people):
        points = np.array([(8.5, 3.5), (8.5, 6.5), (10.5, 7.5), (12.5, 10.5), (8.5, 14.5), (8.5, 20.5)]) + (18 * person, 0)
        for kind, (x, y) in enumerate(points):
            if neck or kind != 1:
                np.maximum(heat[kind], 0.9 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 1.5), out=heat[kind])
        for limb in bones.limbs:
            a, b = points[limb.start], points[limb.end]
            if neck or 1 not in (limb.start, limb.end):
                unit = (b - a) / np.linalg.norm(b - a)
                for t in np.linspace(0, 1, 30):
                    x, y = (a + t * (b - a)).astype(int)
                    paf[limb.x, y - 1 : y + 2, x - 1 : x + 2], paf[limb.y, y - 1 : y + 2, x - 1 : x + 2] = unit
    return heat, paf, bones


def test_fragments_of_a_body_without_a_neck_are_one_person() -> None:
    for people in (1, 2):
        heat, paf, bones = body(neck=False, people=people)
        joined = PafParser(bones).parse(heat, paf)
        assert joined.present.sum(-1).tolist() == [4] * people
        apart = PafParser(bones, PafParameters(reach=0, minimum_keypoints=2)).parse(heat, paf)
        assert apart.present.sum(-1).tolist() == [2] * 2 * people


def test_a_fragment_far_from_any_body_is_not_joined() -> None:
    heat, paf, bones = body(neck=False)
    for maps in (heat[4:], paf[8:]):
        maps[:, :, 20:40], maps[:, :, 0:20] = maps[:, :, 0:20].copy(), 0
    poses = PafParser(bones, PafParameters(minimum_keypoints=2)).parse(heat, paf)
    assert sorted(poses.present.sum(-1).tolist()) == [2, 2]


def test_the_best_persons_and_strongest_peaks_are_kept() -> None:
    heat, paf, bones = body(neck=True, people=2)
    heat[:, :, 20:] *= 0.9
    everyone = PafParser(bones).parse(heat, paf)
    assert len(everyone) == 2
    for limit in (PafParameters(maximum_persons=1), PafParameters(maximum_peaks=1)):
        best = PafParser(bones, limit).parse(heat, paf)
        assert_same(best, Poses(everyone.keypoints[:1], everyone.scores[:1]))


def test_maps_full_of_peaks_take_bounded_time() -> None:
    """Every other cell is a peak of every type and every pair a limb: minutes without the limits."""
    heat, paf = np.zeros((18, 100, 100), np.float32), np.full((38, 100, 100), 0.5, np.float32)
    heat[:, ::2, ::2] = np.random.default_rng(0).uniform(0.5, 1, (18, 50, 50))
    for _ in range(2):
        poses = PafParser(COCO18, PafParameters(near=1000)).parse(heat, paf)
        assert 0 < len(poses) <= 128


def test_eight_parsers_in_eight_threads_give_the_same() -> None:
    heat, paf = made_maps(COCO18, 46, 82, 0, "blobs")
    expected = PafParser(COCO18).parse(heat, paf)
    results: list[list[Poses]] = [[] for _ in range(8)]

    def work(into: list[Poses]) -> None:
        parser = PafParser(COCO18)
        into += [parser.parse(heat, paf) for _ in range(20)]

    threads = [threading.Thread(target=work, args=(r,)) for r in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for found in results:
        assert len(found) == 20
        for poses in found:
            assert_same(poses, expected)


def test_results_outlive_the_parser_and_the_next_frame() -> None:
    heat, paf, bones = body(neck=True)
    parser = PafParser(bones)
    first = parser.parse(heat, paf)
    kept = first.keypoints.copy()
    assert len(parser.parse(np.zeros_like(heat), paf)) == 0
    del parser
    np.testing.assert_array_equal(first.keypoints, kept)
    first.keypoints[:] = 0  # and belong to the caller
