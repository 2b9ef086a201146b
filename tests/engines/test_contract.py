from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepose.engines import Fit, ModelContract, contract_from_json
from edgepose.engines.errors import ConfigError
from edgepose.engines.skeleton import COCO18

SIZE = st.integers(1, 4000)


def input_contract(tiny_model: Any, fit: Fit, height: int = 24, width: int = 32) -> Any:
    return tiny_model.contract.input.model_copy(update={"fit": fit, "height": height, "width": width})


@pytest.mark.parametrize("fit", list(Fit))
def test_a_picture_lies_inside_the_input_and_keeps_its_shape_unless_stretched(tiny_model: Any, fit: Fit) -> None:
    contract = input_contract(tiny_model, fit, 256, 456)

    @given(SIZE, SIZE)
    def check(w: int, h: int) -> None:
        place = contract.place((w, h))
        (pw, ph), (left, top) = place.size_wh, place.offset_xy
        assert left >= 0 and top >= 0 and left + pw <= 456 and top + ph <= 256 and min(pw, ph) >= 1
        if fit is Fit.STRETCH:
            assert (pw, ph) == (456, 256)
        else:
            assert pw == 456 or ph == 256
            scale = min(456 / w, 256 / h)
            assert abs(pw - w * scale) <= 1 and abs(ph - h * scale) <= 1

    check()


@pytest.mark.parametrize("fit", list(Fit))
def test_coordinates_go_there_and_back(tiny_model: Any, fit: Fit) -> None:
    place = input_contract(tiny_model, fit, 256, 456).place((1283, 717))
    points = np.random.default_rng(0).uniform(0, 700, (50, 2))
    np.testing.assert_allclose(place.picture_from_network(place.network_from_picture(points)), points, atol=1e-9)
    corner = place.network_from_picture(np.array([1283.0, 717.0]))
    np.testing.assert_allclose(corner, np.add(place.offset_xy, place.size_wh))


def test_letterbox_centres_and_pad_right_bottom_does_not(tiny_model: Any) -> None:
    assert input_contract(tiny_model, Fit.LETTERBOX).place((10, 10)).offset_xy == (4, 0)
    assert input_contract(tiny_model, Fit.PAD_RIGHT_BOTTOM).place((10, 10)).offset_xy == (0, 0)


def write(path: Path, contract: ModelContract, **changes: Any) -> Path:
    path.write_text(json.dumps({**contract.model_dump(mode="json"), **changes}))
    return path


def test_a_contract_file_may_name_its_skeleton_or_a_file_beside_it(tiny_model: Any, tmp_path: Path) -> None:
    contract = tiny_model.contract
    (tmp_path / "dumbbell.json").write_text(contract.skeleton.model_dump_json())
    assert contract_from_json(write(tmp_path / "a.json", contract)) == contract
    assert contract_from_json(write(tmp_path / "b.json", contract, skeleton="dumbbell.json")) == contract
    output = {**contract.output.model_dump(), "heatmap_channels": 19, "paf_channels": 38}
    assert contract_from_json(write(tmp_path / "c.json", contract, skeleton="coco18", output=output)).skeleton == COCO18


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"output": {"heatmap_channels": 2}}, "2 heatmaps for a skeleton of 2 keypoints + background"),
        ({"output": {"paf_channels": 1}}, "limbs need 2"),
        ({"output": {"strides": 4}}, "unknown key 'output.strides' (did you mean 'stride'?)"),
        ({"input": {"height": 25}}, "not a multiple of the stride"),
        ({"input": {"channels": "GBR"}}, "input.channels"),
        ({"input": {"std": [1, 0, 1]}}, "input.std.1"),
        ({"input": {"mean": [float("nan"), 0, 1]}}, "input.mean.0"),
        ({"output": {"heatmaps": ""}}, "called 'picture', '', 'paf_out': wanted three different names"),
        ({"output": {"pafs": "heat_out"}}, "called 'picture', 'heat_out', 'heat_out': wanted three different names"),
        ({"output": {"pafs": "a\0b"}}, "called 'picture', 'heat_out', 'a\\x00b': wanted three different names"),
    ],
)
def test_impossible_contracts_are_refused(tiny_model: Any, changes: dict[str, Any], words: str) -> None:
    data = tiny_model.contract.model_dump(mode="json")
    for key, value in changes.items():
        data[key] |= value
    with pytest.raises(ConfigError) as caught:
        ModelContract.parse(data, "c.json")
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_contract_in_units_of_0_to_1_is_refused(tiny_model: Any, tmp_path: Path) -> None:
    """Its network would find nobody, without a word."""
    wrong = {**tiny_model.contract.input.model_dump(), "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    with pytest.raises(ConfigError, match=r"input\.std of 0\.229, 0\.224, 0\.225: wanted mean and std in 0-255 units"):
        contract_from_json(write(tmp_path / "c.json", tiny_model.contract, input=wrong))


def test_a_missing_file_and_a_file_that_is_not_json_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        contract_from_json(tmp_path / "none.json")
    (tmp_path / "text.json").write_text("mean = 5")
    with pytest.raises(ConfigError, match="not JSON"):
        contract_from_json(tmp_path / "text.json")
