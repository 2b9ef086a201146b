"""The programs as a user meets them: exit status, one line on stderr, nothing half-written, files where they were promised."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgepose.runtime.sources import open_source

BIN = Path(sys.executable).parent
PROGRAMS = {
    "pose-bench": "edgepose.benchmarks.cli",
    "pose-build": "edgepose.engines.build_cli",
    "pose-daemon": "edgepose.runtime.daemon.cli",
    "pose-distill": "edgepose.export.distill_cli",
    "pose-doctor": "edgepose.engines.doctor_cli",
    "pose-export": "edgepose.export.cli",
    "pose-run": "edgepose.runtime.cli",
}


@dataclass(frozen=True)
class Done:
    """How a program ended and what it printed."""

    status: int
    stdout: str
    stderr: str


Call = Callable[..., Done]


def process(program: str, *arguments: Any, **environment: str) -> Done:
    """The installed program in a process of its own."""
    command = [str(BIN / program), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """The same `main` in this process: starting Python and its libraries anew takes seconds each time."""

    def call_(program: str, *arguments: Any) -> Done:
        monkeypatch.setattr(sys, "argv", [program, *map(str, arguments)])
        capsys.readouterr()
        status = 0
        try:
            importlib.import_module(PROGRAMS[program]).main()
        except SystemExit as end:
            status = int(end.code or 0)
        return Done(status, *capsys.readouterr())

    return call_


def refused(done: Done, *words: str) -> None:
    assert done.status == 1, done.stderr
    (line,) = done.stderr.strip().splitlines()
    for word in words:
        assert word in line
    assert done.stdout == ""


@pytest.fixture(scope="module")
def bundle(tiny_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle made without PyTorch, straight from an ONNX file and its contract."""
    folder = tmp_path_factory.mktemp("cli")
    tiny_model.write_onnx(folder / "tiny.onnx")
    (folder / "contract.json").write_text(tiny_model.contract.model_dump_json())
    done = process(
        "pose-export", "--model", folder / "tiny.onnx", "--contract", folder / "contract.json", "--target", "onnx", "--target", "ov-fp32",
        "--out", folder / "out", "--json",
    )  # fmt: skip
    assert done.status == 0, done.stderr
    made = json.loads(done.stdout)
    assert [one["target"] for one in made] == ["onnx", "ov-fp32"] and made[1]["executed"]["precisions"] == {"f32": 2}
    assert made[0]["parity"][0]["noise"] is True
    return Path(made[1]["bundle"])


def picture(path: Path) -> Path:
    import cv2
    import numpy as np

    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8))
    return path


def test_the_programs_explain_themselves() -> None:
    for program, words in (("pose-export", ["--arch", "--verify", "ov-fp32"]), ("pose-run", ["--bundle", "--threshold", "--device"])):
        done = process(program, "--help", COLUMNS="200")
        assert done.status == 0 and all(word in done.stdout for word in words)


def test_wrong_usage_ends_with_2(call: Call) -> None:
    assert call("pose-export").status == 2
    assert call("pose-export", "--target", "onnx").status == 2
    assert call("pose-run").status == 2
    assert call("pose-daemon").status == 2


def test_pictures_give_drawings_and_both_result_files(call: Call, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    picture(tmp_path / "in" / "7.png")
    picture(tmp_path / "in" / "8.png")
    done = call("pose-run", tmp_path / "in", "--bundle", bundle, "--out", tmp_path / "out")
    assert done.status == 0, done.stderr
    assert "OpenVINO" in done.stderr and "2 frames" in done.stderr
    found = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert found == {"7.jpg", "8.jpg", "openpose/7_keypoints.json", "openpose/8_keypoints.json", "coco_results.json"}
    assert isinstance(json.loads((tmp_path / "out" / "coco_results.json").read_text()), list)


def test_where_nobody_is_found_it_says_what_to_try(call: Call, tmp_path: Path) -> None:
    done = call("pose-run", picture(tmp_path / "a.png"), "--out", tmp_path / "out")
    assert done.status == 0 and "nobody was found: --min-score 0" in done.stderr and "--bundle takes a better network" in done.stderr


def test_a_camera_of_synthetic_people_is_tracked_into_a_video_and_json_lines(call: Call, bundle: Path, tmp_path: Path) -> None:
    camera = "test:pattern?width=96&height=64&frames=20&pace=free"
    done = call("pose-run", camera, "--bundle", bundle, "--out", tmp_path, "--max-frames", 3, "--smooth", "--jsonl", "--no-openpose")
    assert done.status == 0, done.stderr
    assert {p.name for p in tmp_path.iterdir()} == {"test-pattern.mp4", "coco_results.json", "poses.jsonl"}
    lines = [json.loads(line) for line in (tmp_path / "poses.jsonl").read_text().splitlines()]
    assert [line["index"] for line in lines] == [0, 1, 2]
    assert all(isinstance(person["id"], int) for line in lines for person in line["people"])


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("live", [True, False])
def test_an_interruption_leaves_complete_files(bundle: Path, tmp_path: Path, ending: signal.Signals, live: bool) -> None:
    """A camera, which has no end, or frames that have one, in a process of its own; Ctrl-C, `docker stop` or a closed terminal when the
    first people are there."""
    source = "test:pattern?width=96&height=64&fps=200" + ("" if live else "&pace=free&frames=100000")
    words = [source, "--bundle", str(bundle), "--out", str(tmp_path), "--jsonl", "--no-openpose"]
    command = [sys.executable, "-c", "from edgepose.runtime.cli import main; main()", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "200"}) as running:
        assert running.stderr is not None
        told = next(line for line in running.stderr if "OpenVINO" in line)
        running.send_signal(ending)
        told += running.stderr.read()
    assert running.returncode == (0 if live else 128 + ending), told
    assert "interrupted" in told and "frames/s" in told
    assert {p.name for p in tmp_path.iterdir()} == {"test-pattern.mp4", "coco_results.json", "poses.jsonl"}
    lines = [json.loads(line) for line in (tmp_path / "poses.jsonl").read_text().splitlines()]
    assert lines and isinstance(json.loads((tmp_path / "coco_results.json").read_text()), list)
    assert len(list(open_source(tmp_path / "test-pattern.mp4").frames())) == len(lines)


@pytest.mark.parametrize(
    ("name", "content"), [("text.jpg", b"not a picture"), ("empty.jpg", b""), ("text.mp4", b"not a video"), ("empty.mp4", b"")]
)
def test_a_source_that_is_not_one_is_refused_and_nothing_is_written(
    call: Call, bundle: Path, tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    refused(call("pose-run", tmp_path / name, "--bundle", bundle, "--out", tmp_path / "out"), name)
    assert not [p for p in (tmp_path / "out").rglob("*") if p.is_file()]


def test_pose_run_refuses_what_cannot_work(call: Call, bundle: Path, tmp_path: Path) -> None:
    source = picture(tmp_path / "a.png")
    refused(call("pose-run", tmp_path / "none.png", "--bundle", bundle), "none.png")
    refused(call("pose-run", source, "--bundle", tmp_path / "none.pose"), "not a bundle")
    refused(call("pose-run", source, "--bundle", bundle, "--device", "NPU9"), "NPU9", "not on this machine")
    (tmp_path / "file").touch()
    refused(call("pose-run", source, "--bundle", bundle, "--out", tmp_path / "file" / "out"), "file")


def test_what_was_found_before_an_error_is_kept(call: Call, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    picture(tmp_path / "in" / "1.png")
    (tmp_path / "in" / "2.png").write_bytes((tmp_path / "in" / "1.png").read_bytes()[:90])
    done = call("pose-run", tmp_path / "in", "--bundle", bundle, "--out", tmp_path / "out", "--jsonl")
    assert done.status == 1 and "2.png: not a picture" in done.stderr and "frames before this error are in the results: 1" in done.stderr
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"1.jpg", "openpose", "coco_results.json", "poses.jsonl"}
    assert len((tmp_path / "out" / "poses.jsonl").read_text().splitlines()) == 1


def test_pose_run_never_overwrites_what_its_input_links_to(call: Call, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    source = picture(tmp_path / "photos" / "a.jpg")
    before = source.read_bytes()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").symlink_to(source)
    refused(call("pose-run", tmp_path / "in", "--bundle", bundle, "--out", tmp_path / "photos"), "would overwrite")
    assert source.read_bytes() == before


def test_pose_run_never_overwrites_its_own_input(call: Call, bundle: Path, tmp_path: Path) -> None:
    source = picture(tmp_path / "a.jpg")
    before = source.read_bytes()
    refused(call("pose-run", source, "--bundle", bundle, "--out", tmp_path), "would overwrite")
    assert source.read_bytes() == before


def test_pose_export_refuses_what_cannot_work(call: Call, tmp_path: Path, bundle: Path) -> None:
    (tmp_path / "text.pth").write_text("these are no weights")
    arch = ("pose-export", "--arch", "mobilenet_v2_small", "--out", tmp_path / "out")
    refused(call(*arch, "--weights", tmp_path / "none.pth", "--target", "onnx"), "none.pth")
    refused(call(*arch, "--weights", tmp_path / "text.pth", "--target", "onnx"), "text.pth")
    refused(call(*arch, "--weights", tmp_path / "text.pth", "--target", "ov-fp23"), "did you mean 'ov-fp32'")
    refused(
        call("pose-export", "--arch", "resnet18_baselin_att", "--weights", tmp_path / "text.pth", "--target", "onnx"),
        "resnet18_baseline_att",
    )
    model = bundle.parent.parent / "tiny.onnx"
    contract = bundle.parent.parent / "contract.json"
    (tmp_path / "file").touch()
    exists = ("pose-export", "--model", model, "--contract", contract, "--target", "ov-fp32")
    refused(call(*exists, "--out", tmp_path / "file" / "out"), "cannot be written there")
    refused(call(*exists, "--out", tmp_path / "out", "--verify", tmp_path / "nowhere"), "nowhere")
    refused(call(*exists, "--out", tmp_path / "out", "--input-size", "32x32"), "fixed input size")
    refused(call(*exists, "--out", tmp_path / "out", "--weights", tmp_path / "text.pth"), "tiny.onnx holds its own weights")
    refused(call("pose-export", "--model", model, "--target", "ov-fp32"), "--contract FILE")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--min-oks", "0.9", "wants --calib, an INT8 target"),
        ("--calibrator", "entropy", "wants --calib, an INT8 target"),
        ("--coco", "val.json", "wants --calib, an INT8 target"),
        ("--min-oks", "75", "wanted an OKS from 0 to 1"),
        ("--min-oks", "nan", "wanted an OKS from 0 to 1"),
        ("--input-size", "²x²", "wanted HEIGHTxWIDTH"),
        ("--batch", "³", "wanted a number"),
        ("--skeleton", "coco18", "the contract of --model says its skeleton"),
        ("--opset", "13", "a model file keeps its own"),
    ],
)
def test_pose_export_ends_with_2_for_an_option_that_says_nothing(
    call: Call, bundle: Path, tmp_path: Path, option: str, value: str, words: str
) -> None:
    folder = bundle.parent.parent
    given = ("--model", folder / "tiny.onnx", "--contract", folder / "contract.json", "--target", "onnx", "--out", tmp_path)
    done = call("pose-export", *given, option, value)
    assert done.status == 2 and option in done.stderr and words in " ".join(done.stderr.replace("│", " ").split())


def test_pose_export_names_what_it_wrote_whatever_its_name(call: Call, bundle: Path, tmp_path: Path) -> None:
    """Rich takes what stands in brackets for markup."""
    folder = bundle.parent.parent
    given = ("--model", folder / "tiny.onnx", "--contract", folder / "contract.json", "--target", "onnx")
    done = call("pose-export", *given, "--out", tmp_path / "[b]" / "x[", "--name", "net[red]")
    assert done.status == 0, done.stderr
    assert str(tmp_path / "[b]" / "x[" / "net[red]-24x32.onnx.pose") in done.stderr


def test_pose_export_says_that_pictures_without_people_prove_no_pose(call: Call, bundle: Path, tmp_path: Path) -> None:
    import cv2
    import numpy as np

    cv2.imwrite(str(tmp_path / "wall.png"), np.full((48, 64, 3), 90, np.uint8))
    folder = bundle.parent.parent
    given = ("--model", folder / "tiny.onnx", "--contract", folder / "contract.json", "--target", "onnx", "--out", tmp_path)
    done = call("pose-export", *given, "--verify", tmp_path / "wall.png")
    assert done.status == 0, done.stderr
    assert "nobody is found on these pictures, so no pose was compared" in done.stderr and "1.0000" not in done.stderr


def test_pose_export_wants_a_drop_that_is_a_number_and_an_operator_set_that_there_is(call: Call, tmp_path: Path) -> None:
    arch = ("pose-export", "--arch", "edgepose-n", "--out", tmp_path)
    drop = call(*arch, "--target", "ov-int8", "--calib", "x", "--coco", "y", "--max-ap-drop", "nan")
    assert drop.status == 2 and "wanted a difference of AP" in drop.stderr
    contract = call(*arch, "--target", "onnx", "--contract", "mine.json")
    assert contract.status == 2 and "an --arch has its own" in contract.stderr
    opset = call(*arch, "--target", "onnx", "--opset", "99")
    assert opset.status == 2 and "the newest that onnx knows here" in opset.stderr


@pytest.mark.parametrize(("missing", "program"), [("openvino", "pose-run"), ("onnxruntime", "pose-export"), ("torch", "pose-export")])
def test_a_missing_extra_is_named_with_the_line_that_brings_it(bundle: Path, tmp_path: Path, missing: str, program: str) -> None:
    """The library is hidden from a real process by a module of that name that cannot be imported."""
    (tmp_path / f"{missing}.py").write_text(f"raise ImportError('no {missing} here')")
    weights = ("--weights", tmp_path / "w.pth", "--target", "onnx", "--out", tmp_path / "out")
    folder = bundle.parent.parent
    arguments = {
        "openvino": (picture(tmp_path / "a.png"), "--bundle", bundle, "--out", tmp_path / "out"),
        "onnxruntime": ("--model", folder / "tiny.onnx", "--contract", folder / "contract.json", *weights[2:]),
        "torch": ("--arch", "mobilenet_v2_small", *weights),
    }[missing]
    refused(process(program, *arguments, PYTHONPATH=str(tmp_path)), "pip install 'edgepose[")
    assert not [p for p in (tmp_path / "out").rglob("*") if p.is_file()]


def test_the_real_network_finds_the_people_of_a_video(call: Call, assets: Path, tmp_path: Path) -> None:
    """Intel's own IR, wrapped as it is, with its normalisation inside: no PyTorch on the way. Five to six people exercise."""
    contract = {
        "input": {"name": "data", "height": 256, "width": 456, "channels": "BGR", "mean": [0, 0, 0], "std": [1, 1, 1],
                  "fit": "pad_right_bottom", "pad_value": [128, 128, 128]},
        "output": {"heatmaps": "Mconv7_stage2_L2", "pafs": "Mconv7_stage2_L1", "heatmap_channels": 19, "paf_channels": 38, "stride": 8,
                   "background": True},
        "skeleton": "coco18",
    }  # fmt: skip
    (tmp_path / "contract.json").write_text(json.dumps(contract))
    xml = assets / "weights" / "human-pose-estimation-0001.xml"
    done = call("pose-export", "--model", xml, "--contract", tmp_path / "contract.json", "--target", "ov-int8", "--out", tmp_path, "--json")
    assert done.status == 0, done.stderr
    (made,) = json.loads(done.stdout)
    video = assets / "video" / "exercise_1280x720.mp4"
    done = call("pose-run", video, "--bundle", made["bundle"], "--out", tmp_path / "out", "--max-frames", 5)
    assert done.status == 0, done.stderr
    frames = [json.loads(p.read_text())["people"] for p in sorted((tmp_path / "out" / "openpose").iterdir())]
    assert len(frames) == 5 and all(5 <= len(people) <= 8 for people in frames)
    assert (tmp_path / "out" / "exercise_1280x720.mp4").stat().st_size > 10_000


@pytest.mark.slow
def test_pose_bench_measures_accuracy_and_agreement(call: Call, real_bundles: dict[str, Any], assets: Path, tmp_path: Path) -> None:
    bundle, val = real_bundles["ov-fp32"].bundle.path, assets / "coco" / "val"
    labels = json.loads((assets / "coco" / "val.json").read_text())
    labels["images"] = labels["images"][:3]
    kept = {image["id"] for image in labels["images"]}
    labels["annotations"] = [a for a in labels["annotations"] if a["image_id"] in kept]
    (tmp_path / "few.json").write_text(json.dumps(labels))
    done = call(
        "pose-bench",
        "accuracy",
        "--bundle",
        bundle,
        "--coco",
        tmp_path / "few.json",
        "--images",
        val,
        "--parser",
        "threshold=0.1",
        "--json",
    )
    assert done.status == 0, done.stderr
    (report,) = json.loads(done.stdout)["reports"]
    assert report["accuracy"]["pictures"] == 3
    assert report["parameters"]["threshold"] == 0.1
    assert "OpenVINO" in report["execution"]
    done = call("pose-bench", "agreement", "--reference", bundle, "--bundle", bundle, "--images", val / labels["images"][0]["file_name"])
    assert done.status == 0, done.stderr
    assert "OKS mean 1.0000" in done.stderr


def test_pose_bench_refuses_what_cannot_work(call: Call, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text("[]")
    wanted = ("accuracy", "--bundle", bundle, "--coco", tmp_path / "labels.json", "--images", tmp_path)
    refused(call("pose-bench", *wanted), "wanted COCO keypoint annotations")
    refused(call("pose-bench", *wanted, "--parser", "treshold=0.1"), "did you mean 'threshold'?")
    refused(call("pose-bench", *wanted, "--parser", "threshold=2"), "threshold", "less than or equal to 1")
    assert call("pose-bench", *wanted, "--parser", "threshold").status == 2
    refused(call("pose-bench", "parser", "--workload", tmp_path), "workload.py: not there")
