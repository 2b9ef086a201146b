from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgepose.calibration.oks import agreement
from edgepose.engines import ModelContract, contract_from_json, open_bundle, open_engine
from edgepose.engines.errors import ConfigError, ExportError, ParityError, ShapeMismatch, SinkError
from edgepose.engines.target import target_named
from edgepose.export import exporter
from edgepose.export.exporter import export_bundles
from edgepose.export.network import Network, network_from_ir, network_from_model
from edgepose.export.onnx_file import contract_in, external_files, load_onnx, opset_of, save_onnx
from edgepose.export.onnx_from_torch import program_from_module
from edgepose.export.parity import Tolerance
from edgepose.export.stage import OnnxStage
from edgepose.runtime.estimator import PoseEstimator
from edgepose.runtime.paf_parameters import PafParameters
from edgepose.runtime.sources import open_source

TARGETS = {name: target_named(name) for name in ("onnx", "ov-fp32", "ov-fp16", "ov-bf16", "ov-int8")}


def test_a_bundle_says_everything_about_itself(small_bundles: Any, small_network: Network) -> None:
    bundle = small_bundles["ov-fp32"].bundle
    assert bundle.path.name == "build-24x32.ov-fp32.pose"
    manifest = bundle.manifest
    assert manifest.contract == small_network.contract and manifest.opset == 17 and manifest.batch == "dynamic"
    assert set(manifest.files) == {"model.xml", "model.bin"} and {"torch", "openvino", "onnx"} <= set(manifest.tools)
    assert [hop.hop for hop in manifest.parity] == [
        "torch -> onnx", "onnx -> simplified", "simplified -> ov-fp32", "torch -> ov-fp32"
    ]  # fmt: skip


def test_each_trt_target_has_hops_of_its_own_name(tiny_bundles: dict[str, Path]) -> None:
    hops = [hop.hop for hop in open_bundle(tiny_bundles["trt-fp32"]).manifest.parity]
    assert hops == ["onnx -> simplified", "simplified -> trt-fp32", "onnx -> trt-fp32"]


def test_the_onnx_carries_contract_and_origin_and_only_operators_of_opset_17(small_bundles: Any, small_network: Network) -> None:
    model = load_onnx(small_bundles["onnx"].bundle.model_path)
    assert contract_in(model) == small_network.contract
    assert opset_of(model) == 17 and [entry.domain for entry in model.opset_import] == [""]
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert "my_networks:build" in properties["edgepose.source"] and "torch=" in properties["edgepose.tools"]


@pytest.mark.parametrize("target", ["onnx", "ov-fp32"])
def test_a_dynamic_bundle_runs_in_any_batch(small_bundles: Any, target: str, random_pictures: Any) -> None:
    pictures = random_pictures(3, 24, 32)
    path = small_bundles[target].bundle.path
    slot, single = open_engine(path, batch=3).slots[0], open_engine(path).slots[0]
    slot.pictures[:], single.pictures[:] = pictures, pictures[2:]
    slot.start()
    single.start()
    np.testing.assert_allclose(slot.wait().heatmaps[2:], single.wait().heatmaps, atol=1e-5)


def test_a_fixed_batch_is_exported_and_proven(small_network: Network, tmp_path: Path) -> None:
    (made,) = export_bundles(small_network, [TARGETS["ov-fp32"]], tmp_path, 2)
    assert made.bundle.manifest.batch == 2
    assert open_engine(made.bundle).slots[0].pictures.shape[0] == 2


def test_fp16_weights_halve_the_file(small_bundles: Any) -> None:
    sizes = {t: small_bundles[t].bundle.manifest.files["model.bin"].bytes for t in ("ov-fp32", "ov-fp16")}
    assert sizes["ov-fp16"] < 0.6 * sizes["ov-fp32"]


def test_an_ir_in_fp32_becomes_one_in_fp16(small_bundles: Any, tmp_path: Path) -> None:
    """It was copied as it was, under the name of the other target."""
    given = small_bundles["ov-fp32"].bundle
    (made,) = export_bundles(network_from_ir(given.model_path, given.contract), [TARGETS["ov-fp16"]], tmp_path)
    assert made.bundle.manifest.files["model.bin"] == small_bundles["ov-fp16"].bundle.manifest.files["model.bin"]


def test_an_ir_that_does_not_take_one_picture_tensor_is_refused(small_network: Network, tmp_path: Path) -> None:
    import openvino as ov

    shape, free = ov.PartialShape([1, 3, 24, 32]), ov.PartialShape.dynamic()
    for count, kind, shapes, words in (
        (2, np.float32, shape, r"it takes \[1,3,24,32\], \[1,3,24,32\]: wanted one picture tensor"),
        (1, np.float32, free, r"it takes \[\.\.\.\]: wanted one picture tensor"),
        (1, np.uint8, shape, "its input is u8: wanted floating-point numbers"),
    ):
        taken = [ov.opset13.parameter(shapes, kind, name=f"in{index}") for index in range(count)]
        ov.save_model(ov.Model([ov.opset13.relu(each) for each in taken], taken, "odd"), tmp_path / "odd.xml")
        with pytest.raises(ConfigError, match=words):
            network_from_ir(tmp_path / "odd.xml", small_network.contract)


def test_a_hop_beyond_its_tolerance_leaves_no_bundle(small_network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(exporter.TOLERANCES, "ov-fp16", Tolerance(1e-9, 0.999))
    with pytest.raises(ParityError, match="hop simplified -> ov-fp16"):
        export_bundles(small_network, [TARGETS["ov-fp16"]], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_exported_program_and_an_existing_onnx_give_the_same_maps(
    small_network: Network, small_bundles: Any, tmp_path: Path, random_pictures: Any
) -> None:
    assert small_network.module is not None
    torch.export.save(program_from_module(small_network.module, small_network.contract, 1), tmp_path / "small.pt2")
    program = network_from_model(str(tmp_path / "small.pt2"), None, small_network.contract)
    assert program.batch == 1
    from_onnx = network_from_model(str(small_bundles["onnx"].bundle.model_path), None, None)
    assert from_onnx.contract == small_network.contract and from_onnx.batch == "dynamic"
    pictures = random_pictures(1, 24, 32)
    maps = []
    for network in (program, from_onnx):
        (made,) = export_bundles(network, [TARGETS["onnx"]], tmp_path / network.name, network.batch or 1)
        slot = open_engine(made.bundle).slots[0]
        slot.pictures[:] = pictures
        slot.start()
        maps.append(slot.wait().heatmaps)
    np.testing.assert_allclose(maps[0], maps[1], atol=1e-6)


def test_an_onnx_without_contract_asks_for_one(small_bundles: Any, tmp_path: Path) -> None:
    model = load_onnx(small_bundles["onnx"].bundle.model_path)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "bare.onnx")
    with pytest.raises(ConfigError, match="--contract FILE"):
        network_from_model(str(tmp_path / "bare.onnx"), None, None)


def test_models_above_the_protobuf_limit_keep_their_weights_beside_them(small_bundles: Any, tmp_path: Path) -> None:
    model = load_onnx(small_bundles["onnx"].bundle.model_path)
    files = save_onnx(model, tmp_path / "model.onnx", external_above_bytes=100)
    assert [file.name for file in files] == ["model.onnx", "model.onnx.data"]
    again = load_onnx(tmp_path / "model.onnx")
    assert {w.name: w.raw_data for w in again.graph.initializer} == {
        w.name: w.raw_data for w in load_onnx(small_bundles["onnx"].bundle.model_path).graph.initializer
    }


def test_the_digest_of_an_onnx_covers_the_weights_that_lie_beside_it(small_bundles: Any, tmp_path: Path) -> None:
    save_onnx(load_onnx(small_bundles["onnx"].bundle.model_path), tmp_path / "model.onnx", external_above_bytes=100)
    given = network_from_model(str(tmp_path / "model.onnx"), None, None).source
    data = bytearray((tmp_path / "model.onnx.data").read_bytes())
    data[0] ^= 1
    (tmp_path / "model.onnx.data").write_bytes(data)
    assert network_from_model(str(tmp_path / "model.onnx"), None, None).source.sha256 != given.sha256


def test_constants_beside_an_onnx_are_weights_too(tmp_path: Path) -> None:
    value = numpy_helper.from_array(np.ones(400, np.float32), "value")
    node, y = helper.make_node("Constant", [], ["y"], value=value), helper.make_tensor_value_info("y", TensorProto.FLOAT, [400])
    model = helper.make_model(helper.make_graph([node], "constant", [], [y]))
    onnx.save_model(
        model, str(tmp_path / "m.onnx"), save_as_external_data=True, location="m.data", size_threshold=0, convert_attribute=True
    )
    assert external_files(tmp_path / "m.onnx") == ["m.data"]


def test_a_scratch_folder_without_room_is_told_in_one_line(small_bundles: Any) -> None:
    with pytest.raises(SinkError, match="/dev/full: No space left on device: a model cannot be written there"):
        save_onnx(load_onnx(small_bundles["onnx"].bundle.model_path), Path("/dev/full"))


def test_an_onnx_whose_metadata_or_input_is_damaged_is_refused(small_bundles: Any, tmp_path: Path) -> None:
    model = load_onnx(small_bundles["onnx"].bundle.model_path)
    (entry,) = (entry for entry in model.metadata_props if entry.key == "edgepose.contract")
    for damaged in ('{"a": 1}', "{"):
        entry.value = damaged
        onnx.save(model, tmp_path / "damaged.onnx")
        with pytest.raises(ConfigError, match=r"contract in the model's metadata is damaged .*--contract FILE"):
            network_from_model(str(tmp_path / "damaged.onnx"), None, None)
    del model.graph.input[:]
    onnx.save(model, tmp_path / "damaged.onnx")
    with pytest.raises(ConfigError, match=r"damaged\.onnx: it has no input of a known shape"):
        network_from_model(str(tmp_path / "damaged.onnx"), None, small_bundles["onnx"].bundle.contract)


def test_an_onnx_that_lists_its_weights_among_its_inputs_is_taken_by_its_picture(small_bundles: Any, tmp_path: Path) -> None:
    """As files did before IR version 4, the batch then being the first weights' number of channels."""
    bundle = small_bundles["onnx"].bundle
    model = load_onnx(bundle.model_path)
    picture = model.graph.input.pop()
    for weights in model.graph.initializer:
        model.graph.input.append(onnx.helper.make_tensor_value_info(weights.name, weights.data_type, weights.dims))
    model.graph.input.append(picture)
    onnx.save(model, tmp_path / "old.onnx")
    assert network_from_model(str(tmp_path / "old.onnx"), None, None).batch == "dynamic"


def test_an_onnx_whose_input_has_another_name_than_the_contract_says_is_refused(small_bundles: Any) -> None:
    """It ran on the CPU, and the plan made of it on the board was refused."""
    bundle = small_bundles["onnx"].bundle
    data = bundle.contract.model_dump()
    data["input"]["name"] = "data"
    with pytest.raises(ConfigError, match=f"its input is '{bundle.contract.input.name}', the contract's input.name is 'data'"):
        network_from_model(str(bundle.model_path), None, ModelContract.parse(data, "contract"))


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("output", {"heatmaps": "heat"}, "Invalid output name:heat: .* gives heat_out "),
        ("output", {"heatmaps": "paf_out", "pafs": "heat_out"}, r"output '\w+' is \(2, 6, 8\), the contract wants \(3, 6, 8\)"),
        ("output", {"paf_channels": 4}, r"output '\w+' is \(2, 6, 8\), the contract wants \(4, 6, 8\)"),
        ("output", {"stride": 8}, r"output '\w+' is \(3, 6, 8\), the contract wants \(3, 3, 4\)"),
        ("input", {"height": 48}, r"invalid dimensions .* takes picture \['?\w+'?, 3, 24, 32\]"),
    ],
    ids=["name", "exchanged", "channels", "stride", "size"],
)
def test_an_onnx_that_the_contract_does_not_describe_is_refused_when_it_is_opened(
    small_bundles: Any, part: str, change: dict[str, Any], words: str
) -> None:
    bundle = small_bundles["onnx"].bundle
    data = bundle.contract.model_dump()
    data[part] |= change
    with pytest.raises(ShapeMismatch, match=words) as caught:
        OnnxStage("onnx", bundle.model_path, ModelContract.parse(data, "contract"), 1)
    assert "\n" not in str(caught.value)


def test_an_onnx_whose_maps_are_in_another_precision_is_refused_when_it_is_opened(small_bundles: Any, tmp_path: Path) -> None:
    """ONNX Runtime gives float64 as it is, which the parser refuses at every picture, and TensorRT refuses the plan."""
    bundle = small_bundles["onnx"].bundle
    model = load_onnx(bundle.model_path)
    for output in model.graph.output:
        node = next(node for node in model.graph.node if output.name in node.output)
        node.output[:] = [f"{output.name}_single"]
        model.graph.node.append(onnx.helper.make_node("Cast", [f"{output.name}_single"], [output.name], to=onnx.TensorProto.DOUBLE))
        output.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    onnx.save(model, tmp_path / "double.onnx")
    with pytest.raises(ShapeMismatch, match=r"double\.onnx: its outputs are float64: wanted float32"):
        OnnxStage("onnx", tmp_path / "double.onnx", bundle.contract, 1)


ODD_NETWORKS = """
from torch import nn


class Odd(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.heat, self.paf = (nn.Conv2d(3, channels, 4, 4) for channels in (3, 2))

    def forward(self, picture):
        heat, paf = self.heat(picture), self.paf(picture)
        return {
            "one": heat,
            "three": (heat, paf, paf),
            "table": {"heat": heat, "paf": paf},
            "exchanged": (paf, heat),
            "half": (heat.bfloat16(), paf.bfloat16()),
            "excited": (heat * heat.mean((2, 3), keepdim=True).sigmoid(), paf / paf.norm(dim=1, keepdim=True)),
        }[self.kind]


class ByName(Odd):
    def forward(self, *, picture):
        return super().forward(picture)


def one(): return Odd("one")
def three(): return Odd("three")
def table(): return Odd("table")
def exchanged(): return Odd("exchanged")
def half(): return Odd("half")
def excited(): return Odd("excited")
"""


@pytest.fixture
def odd_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "odd_networks.py").write_text(ODD_NETWORKS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "odd_networks", raising=False)
    return importlib.import_module("odd_networks")


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("one", r"returns Tensor: wanted two tensors, \(heatmaps, pafs\)"),
        ("three", "returns Tensor, Tensor, Tensor: wanted two"),
        ("table", "returns dict: wanted two"),
        ("exchanged", r"the network: output '\w+' is \(2, 6, 8\), the contract wants \(3, 6, 8\)"),
        ("half", r"returns maps of torch.bfloat16: wanted torch.float32"),
    ],
)
def test_a_network_with_other_outputs_is_refused_before_it_is_converted(
    odd_networks: Any, tiny_model: Any, tmp_path: Path, factory: str, words: str
) -> None:
    assert odd_networks
    network = network_from_model(f"odd_networks:{factory}", None, tiny_model.contract)
    with pytest.raises(ShapeMismatch, match=words):
        export_bundles(network, [TARGETS["onnx"]], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_means_and_norms_are_written_with_operator_set_17(odd_networks: Any, tiny_model: Any, tmp_path: Path) -> None:
    """As in every squeeze-and-excitation block. The maps are proven by the export itself."""
    network = network_from_model("odd_networks:excited", None, tiny_model.contract)
    (made,) = export_bundles(network, [TARGETS["onnx"]], tmp_path / "out")
    assert odd_networks and made.bundle.manifest.opset == 17


def test_a_name_that_a_weight_of_the_network_has_is_refused(small_network: Network, tmp_path: Path) -> None:
    data = small_network.contract.model_dump()
    data["input"]["name"] = "second.bias"
    network = replace(small_network, contract=ModelContract.parse(data, "contract"))
    with pytest.raises(ExportError, match="cannot be written with operator set 17"):
        export_bundles(network, [TARGETS["onnx"]], tmp_path / "out")


def test_an_exported_program_of_another_size_or_with_named_inputs_is_refused(
    odd_networks: Any, small_network: Network, tmp_path: Path
) -> None:
    assert small_network.module is not None
    torch.export.save(program_from_module(small_network.module, small_network.contract, 1), tmp_path / "small.pt2")
    network = network_from_model(str(tmp_path / "small.pt2"), None, small_network.contract.resized(48, 32))
    with pytest.raises(ShapeMismatch, match=r"does not take \(1, 3, 48, 32\) \(.*24\): correct the contract"):
        export_bundles(network, [TARGETS["onnx"]], tmp_path / "out")
    by_name = torch.export.export(odd_networks.ByName("three"), (), {"picture": torch.zeros(1, 3, 24, 32)})
    torch.export.save(by_name, tmp_path / "named.pt2")
    with pytest.raises(ConfigError, match=r"named\.pt2: exported with 0 inputs by position and 1 by name"):
        network_from_model(str(tmp_path / "named.pt2"), None, small_network.contract)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("collections:namedtuple", "missing a required argument: 'typename': wanted a factory that is called without arguments"),
        ("my_networks:nothing", "wanted package.module:factory that can be imported"),
        ("no_such_module:build", "No module named"),
        ("./my_networks:build", "wanted package.module:factory that can be imported"),
        (":build", "wanted package.module:factory that can be imported"),
        ("my_networks:not_a_module", "wanted a torch.nn.Module"),
        ("network.bin", "wanted package.module:factory, a .pt2, an .onnx"),
        ("none.onnx", "no such file"),
    ],
)
def test_models_of_another_form_are_refused(factory_folder: Path, tiny_model: Any, spec: str, words: str) -> None:
    assert factory_folder
    with pytest.raises(ConfigError, match=words):
        network_from_model(spec, None, tiny_model.contract)


def test_a_factory_beside_the_one_who_calls_is_found(tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `pose-export` is installed, its folder is on Python's path and the current one is not."""
    (tmp_path / "beside.py").write_text("from torch import nn\n\n\ndef build(): return nn.Identity()\n")
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    monkeypatch.chdir(tmp_path)
    assert network_from_model("beside:build", None, tiny_model.contract).module is not None


@pytest.mark.needs("bf16")
def test_bf16_is_really_executed_in_bf16(small_network: Network, tmp_path: Path) -> None:
    (made,) = export_bundles(small_network, [TARGETS["ov-bf16"]], tmp_path)
    assert set(made.execution.precisions) == {"bf16"}


def test_every_hop_of_the_real_network_is_proven_on_real_pictures(real_bundles: Any) -> None:
    """The figures that the README states for human-pose-estimation-0001 at 256 x 456."""
    onnx_hop = real_bundles["onnx"].bundle.manifest.parity[0]
    assert onnx_hop.hop == "torch -> onnx" and not onnx_hop.noise and onnx_hop.pictures == 12
    assert all(t.relative_rmse < 1e-5 for t in onnx_hop.tensors)
    for target, rmse, oks in (("onnx", 1e-5, 0.999), ("ov-fp32", 1e-4, 0.999), ("ov-fp16", 1e-2, 0.99)):
        whole = real_bundles[target].bundle.manifest.parity[-1]
        assert whole.hop.startswith("torch -> ") and whole.poses.persons >= 15
        assert all(t.relative_rmse < rmse for t in whole.tensors)
        assert whole.poses.oks_min >= oks and whole.poses.missed == 0


def test_fp32_on_openvino_is_executed_in_fp32(real_bundles: Any) -> None:
    assert real_bundles["ov-fp32"].execution.precisions == {"f32": 58}


@pytest.mark.slow
def test_intels_own_ir_finds_the_same_poses_as_our_export(real_bundles: Any, real_contract: Any, assets: Path, tmp_path: Path) -> None:
    """The IR as shipped computes in INT8 and has its normalisation inside. Compared on the clear people of the exercise class: on people
    of a few pixels, which INT8 finds or loses by chance, the figure says nothing about the conversion."""
    data = real_contract.model_dump(mode="json")
    data["input"] |= {"mean": [0, 0, 0], "std": [1, 1, 1]}
    data["output"] |= {"heatmaps": "Mconv7_stage2_L2", "pafs": "Mconv7_stage2_L1"}
    (tmp_path / "contract.json").write_text(json.dumps(data))
    network = network_from_ir(assets / "weights" / "human-pose-estimation-0001.xml", contract_from_json(tmp_path / "contract.json"))
    with pytest.raises(ConfigError, match="its target is ov-int8"):
        export_bundles(network, [TARGETS["ov-fp32"]], tmp_path)
    (theirs,) = export_bundles(network, [TARGETS["ov-int8"]], tmp_path)
    assert {"u8", "i8"} & set(theirs.execution.precisions)
    frames = islice(open_source(assets / "video" / "exercise_1280x720.mp4").frames(), 0, None, 40)
    pictures = [(frame.picture, None) for frame in frames]
    found = []
    for bundle, least in ((real_bundles["ov-fp32"].bundle, 0.2), (theirs.bundle, 0.0)):
        estimator = PoseEstimator(open_engine(bundle), PafParameters(minimum_score=least))
        found.append([poses for _, poses in estimator.estimate_all(pictures)])
    agreed = agreement(*found, real_contract.skeleton)
    assert len(agreed.oks) >= 40 and np.mean(agreed.oks) >= 0.97 and agreed.missed == 0


def test_a_bundle_can_be_opened_from_where_it_was_moved(small_bundles: Any, tmp_path: Path) -> None:
    import shutil

    moved = Path(shutil.copytree(small_bundles["ov-fp32"].bundle.path, tmp_path / "elsewhere.pose"))
    assert open_bundle(moved).manifest == small_bundles["ov-fp32"].bundle.manifest
