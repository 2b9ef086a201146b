"""`pose-distill` from its command line: a student learns, is killed, continues, and is exported."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import painted_people
import pytest
import torch
from torch.nn.functional import avg_pool2d
from typer.testing import CliRunner, Result

from edgepose.engines.target import target_named
from edgepose.export.checkpoint import content_of, load_state_dict
from edgepose.export.distill.course import save_weights
from edgepose.export.distill.diary import Diary
from edgepose.export.distill.distiller import Request
from edgepose.export.distill.distiller import distill as run_distillation
from edgepose.export.distill.settings import Settings
from edgepose.export.distill.teacher import open_teacher
from edgepose.export.distill_cli import _stopped_by_signals, app
from edgepose.export.exporter import export_bundles
from edgepose.export.network import network_from_architecture
from edgepose.export.networks.edgepose import SIZES, EdgePose

STEPS = 160


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number, picture in enumerate(painted_people.painted_pictures(16)):
        cv2.imwrite(str(folder / f"{number}.png"), picture)
    return folder


@pytest.fixture(scope="module")
def options(painted_bundles: dict[str, Path], photos: Path) -> list[str]:
    named = {"teacher": painted_bundles["ov-fp32"], "images": photos, "student": "edgepose-n", "crop": 64, "batch": 8, "steps": STEPS}
    return [text for key, value in named.items() for text in (f"--{key}", str(value))]


def distill(*arguments: Any) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def diary(weights: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in weights.with_suffix(".jsonl").read_text().splitlines()]


def distance(weights: Path, bundles: dict[str, Path]) -> float:
    """Mean squared difference of a student's maps from its teacher's, on painted people that it never saw."""
    pictures = np.ascontiguousarray(painted_people.painted_pictures(8, seed=7)[:, :, :96])
    wanted = avg_pool2d(open_teacher(bundles["ov-fp32"], 8, 96, torch.device("cpu")).teach(pictures).maps.float(), 2)
    student = network_from_architecture("edgepose-n", weights, painted_people.CONTRACT.skeleton).module
    assert student is not None
    with torch.no_grad():
        found = student((torch.from_numpy(pictures).permute(0, 3, 1, 2).float() - 128) / 255)
    return float((torch.cat(found, 1) - wanted).square().mean())


@pytest.fixture(scope="module")
def uninterrupted(options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    weights = tmp_path_factory.mktemp("whole") / "student.pth"
    done = distill(*options, "--out", weights, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["step"] == STEPS
    return weights


def test_a_short_distillation_brings_the_student_near_its_teacher(
    uninterrupted: Path, painted_bundles: dict[str, Path], tmp_path: Path
) -> None:
    save_weights(tmp_path / "untrained.pth", EdgePose(SIZES["n"], heatmaps=3, pafs=2), {})

    assert distance(uninterrupted, painted_bundles) < 0.3 * distance(tmp_path / "untrained.pth", painted_bundles)


def test_a_short_distillation_leaves_weights_log_state_and_sheets(uninterrupted: Path) -> None:
    began, *progress, finished = diary(uninterrupted)

    assert [line["event"] for line in (began, *progress, finished)] == ["began", "progress", "finished"]
    assert began["features"] and began["pictures"] == 16 and began["set_steps"] == STEPS
    assert finished["pictures"] == 8 * STEPS and finished["maps"] > 0
    sheets = sorted(uninterrupted.with_suffix(".sheets").iterdir())
    assert [s.name for s in sheets] == [f"{STEPS:07d}.jpg"]
    assert cv2.imread(str(sheets[0])).shape == (4 * 64, 6 * 64, 3)
    state = torch.load(uninterrupted, weights_only=True)
    assert state["cfg"]["arch"] == "edgepose-n" and state["cfg"]["skeleton"] == "dumbbell"
    assert all(v.dtype == torch.float16 for v in state["state_dict"].values() if v.ndim == 4)
    assert sorted(p.name for p in uninterrupted.parent.iterdir() if p.name.startswith(".")) == []


def test_the_weights_become_a_bundle_that_finds_people(uninterrupted: Path, tmp_path: Path) -> None:
    skeleton = painted_people.CONTRACT.skeleton
    network = network_from_architecture("edgepose-n", uninterrupted, skeleton).resized(painted_people.HEIGHT, painted_people.WIDTH)
    pictures = painted_people.painted_pictures(4, seed=9)

    (made,) = export_bundles(network, [target_named("ov-fp32")], tmp_path, pictures=pictures)

    assert made.bundle.contract.output.stride == 8
    assert made.bundle.contract.skeleton == painted_people.CONTRACT.skeleton


def test_the_same_command_again_has_nothing_left_to_do(options: list[str], uninterrupted: Path) -> None:
    before = load_state_dict(uninterrupted)

    done = distill(*options, "--out", uninterrupted, "--json")

    assert done.exit_code == 0, done.output
    assert "NaN" not in done.stdout and json.loads(done.stdout)["maps"] is None
    assert diary(uninterrupted)[-1]["maps"] is None
    assert [line["event"] for line in diary(uninterrupted)][-2:] == ["resumed", "finished"]
    assert all(torch.equal(value, before[name]) for name, value in load_state_dict(uninterrupted).items())


def test_a_killed_training_continues_and_ends_as_an_uninterrupted_one_does(options: list[str], uninterrupted: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle, then the same command again: the same weights to the bit."""
    weights = tmp_path / "student.pth"
    command = [str(Path(sys.executable).parent / "pose-distill"), *options, "--out", str(weights), "--checkpoint-minutes", "0.01"]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not weights.exists() and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate()
    assert weights.exists() and not any(line["event"] == "finished" for line in diary(weights))

    done = distill(*options, "--out", weights)

    assert done.exit_code == 0, done.output
    events = {line["event"]: line for line in diary(weights)}
    assert 0 < events["resumed"]["step"] < STEPS and events["finished"]["step"] == STEPS
    wanted = load_state_dict(uninterrupted)
    assert all(torch.equal(value, wanted[name]) for name, value in load_state_dict(weights).items())


def test_a_stopped_training_goes_on_with_the_crops_that_its_stock_held(
    painted_bundles: dict[str, Path], photos: Path, tmp_path: Path
) -> None:
    """A stock that is long full, and not of whole batches."""
    settings = Settings("edgepose-n", steps=40, batch=8, crop=64, reuse=1, stock=40)

    def trained(name: str, stop_at: int) -> Path:
        stop, out = threading.Event(), tmp_path / name / "student.pth"
        out.parent.mkdir(exist_ok=True)
        request = Request(painted_bundles["ov-fp32"], (photos,), out, settings, device="cpu")
        run_distillation(request, lambda _: None, lambda report: stop.set() if report.step == stop_at else None, stop)
        return out

    whole = load_state_dict(trained("whole", 40))
    trained("stopped", 25)
    continued = trained("stopped", 40)

    assert [line["step"] for line in diary(continued) if line["event"] in ("stopped", "resumed")] == [25, 25]
    assert diary(continued)[-1]["pictures"] == 320
    assert all(torch.equal(value, whole[name]) for name, value in load_state_dict(continued).items())


def test_a_training_stopped_before_its_first_step_leaves_older_weights_alone(
    painted_bundles: dict[str, Path], photos: Path, tmp_path: Path
) -> None:
    out, stop = tmp_path / "student.pth", threading.Event()
    out.write_bytes(b"of yesterday")
    stop.set()

    request = Request(painted_bundles["ov-fp32"], (photos,), out, Settings("edgepose-n", steps=5, batch=8, crop=64), device="cpu")
    done = run_distillation(request, lambda _: None, lambda _: None, stop)

    assert done.report.step == 0 and diary(out)[-1]["event"] == "stopped"
    assert out.read_bytes() == b"of yesterday" and not out.with_suffix(".state.pt").exists()


def test_a_signal_ends_the_program_before_the_first_step_and_the_training_after_it() -> None:
    learning = threading.Event()
    with pytest.raises(KeyboardInterrupt), _stopped_by_signals(learning):
        signal.raise_signal(signal.SIGINT)

    learning.set()
    with _stopped_by_signals(learning) as stop:
        signal.raise_signal(signal.SIGTERM)

    assert stop.is_set()


def test_a_state_of_another_student_or_of_nothing_is_refused(options: list[str], uninterrupted: Path, tmp_path: Path) -> None:
    weights = tmp_path / "student.pth"
    state = weights.with_suffix(".state.pt")
    state.write_bytes(uninterrupted.with_suffix(".state.pt").read_bytes())
    refused(distill(*options, "--out", weights, "--student", "edgepose-s"), "holds a training of edgepose-n, asked for edgepose-s")
    refused(distill(*options, "--out", weights, "--optimiser", "adamw"), "belongs to another teacher or optimiser")
    state.write_bytes(state.read_bytes()[:1000])
    refused(distill(*options, "--out", weights), "not a training that pose-distill saved", "remove it to begin anew")


def test_pictures_to_judge_by_are_not_learned_from_though_they_lie_with_the_others(
    options: list[str], photos: Path, tmp_path: Path
) -> None:
    person = {"image_id": 0, "category_id": 1, "bbox": [0, 0, 50, 50], "area": 2500, "keypoints": [20, 30, 2] * 17}
    images = [{"id": number, "file_name": f"{number}.png", "height": 96} for number in range(16)]
    said = {"images": images, "annotations": [person], "categories": [{"id": 1, "name": "person"}]}
    (tmp_path / "val.json").write_text(json.dumps(said))

    done = distill(*options, "--out", tmp_path / "student.pth", "--coco", tmp_path / "val.json", "--val-images", photos)

    refused(done, "every picture is one to judge by: wanted others to learn from")


def test_weights_go_neither_to_a_folder_nor_over_their_teacher(options: list[str], tmp_path: Path) -> None:
    teacher = tmp_path / "teacher.pth"
    save_weights(teacher, EdgePose(SIZES["n"]), {})
    before = teacher.read_bytes()

    refused(distill(*options, "--out", tmp_path), "is a folder: wanted the name of a file for the weights")
    refused(distill(*options, "--teacher", teacher, "--out", tmp_path / "." / "teacher.pth"), "is the teacher", "give another --out")

    assert teacher.read_bytes() == before


def test_two_trainings_do_not_write_the_same_files_at_once(options: list[str], tmp_path: Path) -> None:
    weights = tmp_path / "student.pth"
    with Diary(weights.with_suffix(".jsonl")).claimed():
        refused(distill(*options, "--out", weights, "--steps", 1), "another pose-distill writes it at this moment", "give another --out")

    assert distill(*options, "--out", weights, "--steps", 1).exit_code == 0


@pytest.mark.parametrize("part", [".student.state.part.pt", ".student.part.pth"])
def test_a_full_disk_is_told_as_one_and_leaves_what_was_there(options: list[str], uninterrupted: Path, tmp_path: Path, part: str) -> None:
    weights, state = (Path(shutil.copy(file, tmp_path)) for file in (uninterrupted, uninterrupted.with_suffix(".state.pt")))
    (tmp_path / part).symlink_to("/dev/full")

    refused(distill(*options, "--out", weights), "cannot be written (No space left on device)")

    assert [load_state_dict(weights).keys(), content_of(state)["step"]] == [load_state_dict(uninterrupted).keys(), STEPS]


def test_a_training_that_diverges_ends_before_it_spoils_what_was_saved(options: list[str], uninterrupted: Path, tmp_path: Path) -> None:
    files = [uninterrupted, uninterrupted.with_suffix(".state.pt")]
    weights, state = (Path(shutil.copy(file, tmp_path)) for file in files)

    refused(distill(*options, "--out", weights, "--steps", STEPS + 50, "--learning-rate", "1e30"), "the gradient is nan", "--learning-rate")

    assert [weights.read_bytes(), state.read_bytes()] == [file.read_bytes() for file in files]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--student", "edgepose-x"], "student 'edgepose-x' is unknown (did you mean 'edgepose-s'?)"),
        (["--teacher", "none.pth"], "none.pth: no such file or bundle"),
        (["--images", "nowhere"], "nowhere"),
        (["--device", "tpu"], "device 'tpu': wanted auto, cpu or cuda"),
        (["--labels", "none.json", "--labelled-images", "."], "no picture in this folder"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(options: list[str], tmp_path: Path, change: list[str], words: str) -> None:
    refused(distill(*options, "--out", tmp_path / "student.pth", *change), words)


@pytest.mark.parametrize(
    "change", [["--crop", "100"], ["--crop", "1200"], ["--optimiser", "sgd"], ["--labels", "a.json"], ["--coco", "a.json"]]
)
def test_wrong_usage_ends_with_2(options: list[str], tmp_path: Path, change: list[str]) -> None:
    assert distill(*options, "--out", tmp_path / "student.pth", *change).exit_code == 2


def refused(done: Result, *words: str) -> None:
    """CliRunner does not go through `main`, which makes one line of an error."""
    assert done.exit_code == 1
    line = str(done.exception)
    assert "\n" not in line
    assert all(word in line for word in words), line
