from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepose.engines import Fit, ModelContract
from edgepose.engines.errors import ShapeMismatch
from edgepose.engines.fake import FakeEngine, block_means
from edgepose.engines.preprocess_reference import fitted, network_input
from edgepose.engines.skeleton import Limb, Skeleton
from edgepose.runtime.estimator import PoseEstimator
from edgepose.runtime.paf_parameters import PafParameters
from edgepose.runtime.preprocess import fit_into


@pytest.mark.parametrize("fit", list(Fit))
def test_host_preprocessing_is_within_one_level_of_the_reference(tiny_model: Any, fit: Fit) -> None:
    contract = tiny_model.contract.input.model_copy(update={"fit": fit, "pad_value": (10, 20, 30)})

    @settings(max_examples=40, deadline=None)
    @given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 2**31))
    def check(w: int, h: int, seed: int) -> None:
        picture = np.random.default_rng(seed).integers(0, 256, (h, w, 3), np.uint8)
        target = np.full((contract.height, contract.width, 3), 77, np.uint8)
        fit_into(target, picture, contract)
        assert np.abs(target - fitted(picture, contract)).max() <= 1.0

    check()


def test_the_reference_orders_channels_normalises_and_pads_in_the_networks_order(tiny_model: Any) -> None:
    contract = tiny_model.contract.input.model_copy(update={"fit": Fit.PAD_RIGHT_BOTTOM, "pad_value": (10, 20, 30)})
    picture = np.empty((24, 24, 3), np.uint8)
    picture[:] = 1, 2, 3  # blue, green, red
    seen = network_input(picture, contract)
    mean, std = np.array(contract.mean), np.array(contract.std)
    np.testing.assert_allclose(seen[:, 5, 5], ([3, 2, 1] - mean) / std)
    np.testing.assert_allclose(seen[:, 5, 30], ([10, 20, 30] - mean) / std)


def test_the_reference_resizes_as_pytorch_does(tiny_model: Any) -> None:
    torch = pytest.importorskip("torch")
    contract = tiny_model.contract.input.model_copy(update={"fit": Fit.STRETCH})
    picture = np.random.default_rng(1).integers(0, 256, (51, 47, 3), np.uint8)
    tensor = torch.from_numpy(picture.astype(np.float64)).permute(2, 0, 1)[None]
    theirs = torch.nn.functional.interpolate(tensor, (24, 32), mode="bilinear", align_corners=False)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(fitted(picture, contract), theirs, atol=1e-9)


def test_what_is_not_a_colour_picture_is_refused(tiny_model: Any) -> None:
    target = np.empty((24, 32, 3), np.uint8)
    for shape, kind in (((5, 5), np.uint8), ((5, 5, 4), np.uint8), ((5, 5, 3), np.float32)):
        with pytest.raises(ShapeMismatch):
            fit_into(target, np.zeros(shape, kind), tiny_model.contract.input)


def dot_contract(tiny_model: Any, fit: Fit) -> ModelContract:
    data = tiny_model.contract.model_dump()
    data["input"] |= {"fit": fit, "height": 256, "width": 456}
    data["output"] |= {"stride": 8}
    data["skeleton"] = Skeleton(name="dots", keypoints=("blue", "green"), limbs=(Limb(start=0, end=1, x=0, y=1),)).model_dump()
    return ModelContract.parse(data, "dots")


def picture_of_dots(size_wh: tuple[int, int], centres: Any, radii_xy: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Blue and green Gaussian dots at continuous positions: pixel (i, j) is sampled at (j + 0.5, i + 0.5)."""
    y, x = np.mgrid[0 : size_wh[1], 0 : size_wh[0]] + 0.5
    picture = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    for channel, (cx, cy) in enumerate(centres):
        exponent = ((x - cx) / radii_xy[0]) ** 2 + ((y - cy) / radii_xy[1]) ** 2
        picture[..., channel] = np.round(255 * np.exp(-0.5 * exponent))
    return picture


@pytest.mark.parametrize("fit", list(Fit))
@pytest.mark.parametrize("size_wh", [(456, 256), (1280, 720), (333, 517), (200, 150)])
def test_a_bright_dot_comes_back_where_it_was_drawn(tiny_model: Any, fit: Fit, size_wh: tuple[int, int]) -> None:
    """Through resize, padding, identity maps, parser and back: within 0.02 cell, without systematic offset, for every fit."""
    contract = dot_contract(tiny_model, fit)
    place = contract.input.place(size_wh)
    estimator = PoseEstimator(FakeEngine(contract, lambda p: block_means(p, contract)), PafParameters(minimum_keypoints=2))
    cell_px = contract.output.stride / place.scale_xy
    rng = np.random.default_rng(5)
    errors = []
    for _ in range(12):
        start = rng.uniform(0.2, 0.4, 2) * size_wh
        centres = np.array([start, start + (0.35 * size_wh[0], 0)])
        poses = estimator.estimate(picture_of_dots(size_wh, centres, 1.5 * cell_px))
        assert len(poses) == 1
        errors.append((poses.keypoints[0, :, :2] - centres) / cell_px)
    assert np.abs(errors).max() < 0.02
    assert np.abs(np.mean(errors, (0, 1))).max() < 0.005
