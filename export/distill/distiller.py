"""From a teacher, pictures and settings to a student's weights."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from edgepose.engines.bundle import MANIFEST, record_of
from edgepose.engines.contract import InputContract, ModelContract, OutputContract
from edgepose.engines.errors import BackendUnavailable, ConfigError
from edgepose.engines.record import did_you_mean
from edgepose.export.distill.album import Album, album_from_folders
from edgepose.export.distill.course import Course, Files, Listener, Report
from edgepose.export.distill.diary import Diary
from edgepose.export.distill.labels import CocoPeople
from edgepose.export.distill.pupil import Pupil
from edgepose.export.distill.settings import Settings
from edgepose.export.distill.supply import Supply
from edgepose.export.distill.teacher import Teacher, open_teacher
from edgepose.export.distill.training import Training
from edgepose.export.networks.edgepose import SIZES, EdgePose, Size, edgepose_input
from edgepose.runtime.complete_file import make_folder

Say = Callable[[str], None]

_TEACHER_BATCH = 16
_PREFIX = "edgepose-"
STUDENT_STRIDE = 8


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for. `labels` and `labelled_images` belong together; `out` gets the weights. Pictures in `held_out` are not learned
    from, in whichever folder they lie."""

    teacher: Path
    images: tuple[Path, ...]
    out: Path
    settings: Settings
    labels: Path | None = None
    labelled_images: Path | None = None
    device: str = "auto"
    held_out: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Distilled:
    """The student whose weights were written; nothing was where it was stopped before its first step."""

    module: EdgePose
    contract: ModelContract
    report: Report
    resumed_at: int


def distill(request: Request, say: Say, listener: Listener, stop: threading.Event) -> Distilled:
    """Trains until the end, or until `stop` is set; continues where the files beside `request.out` end.

    `say` is told what is being done before the first step. Raises ConfigError, SourceError, CheckpointError, BundleCorrupt,
    EngineLoadError, ShapeMismatch, BackendUnavailable or SinkError.
    """
    _check_place(request)
    size, device = SIZES[_size(request.settings.student)], _device(request.device)
    files = Files(request.out)
    make_folder(files.sheets)
    with Diary(files.diary).claimed():
        return _distilled(request, files, size, device, say, listener, stop)


def _distilled(
    request: Request, files: Files, size: Size, device: torch.device, say: Say, listener: Listener, stop: threading.Event
) -> Distilled:
    settings = request.settings
    say("open the teacher")
    teacher = open_teacher(request.teacher, _TEACHER_BATCH, settings.crop, device)
    contract = student_contract(teacher.contract)
    torch.manual_seed(settings.seed)
    network = EdgePose(size, contract.output.heatmap_channels, contract.output.paf_channels)
    maps = contract.output.heatmap_channels + contract.output.paf_channels
    training = Training(Pupil(network, maps, teacher.feature_channels), teacher.contract, contract, settings, device)
    if files.state.exists():
        say("read the training so far")
        training.load(files.state)
    album = _album(request, say)
    labels = None
    if request.labels and request.labelled_images:
        labels = CocoPeople(request.labels, request.labelled_images, album, teacher.contract)
    _begin_diary(request, files, teacher, album, labels, training)
    say("label crops again" if training.step else "label crops")
    supply = Supply(album, teacher, _TEACHER_BATCH, settings.seed, training.first_crops(_TEACHER_BATCH), labels)
    cfg = {"arch": settings.student, "teacher": request.teacher.name, "skeleton": contract.skeleton.name}
    resumed_at = training.step
    report = Course(training, settings, contract, files, cfg, stop).run(supply, listener)
    return Distilled(training.average.student.cpu(), contract, report, resumed_at)


def student_contract(teacher: ModelContract) -> ModelContract:
    """The family's own input at the teacher's size, and the teacher's channels and skeleton at the family's stride."""
    taken = InputContract(**{**edgepose_input().model_dump(), "height": teacher.input.height, "width": teacher.input.width})
    output = teacher.output
    given = OutputContract(
        heatmaps="heatmaps",
        pafs="pafs",
        heatmap_channels=output.heatmap_channels,
        paf_channels=output.paf_channels,
        stride=STUDENT_STRIDE,
        background=output.background,
    )
    return ModelContract(input=taken, output=given, skeleton=teacher.skeleton)


def _check_place(request: Request) -> None:
    out, teacher = request.out, request.teacher
    if out.is_dir():
        raise ConfigError(f"{out}: is a folder: wanted the name of a file for the weights, {out / 'student.pth'} say")
    if out.exists() and teacher.exists() and out.samefile(teacher):
        raise ConfigError(f"{out}: is the teacher, which the student's weights would replace: give another --out")


def _size(student: str) -> str:
    size = student.removeprefix(_PREFIX)
    if size not in SIZES or not student.startswith(_PREFIX):
        known = [_PREFIX + name for name in SIZES]
        raise ConfigError(f"student {student!r} is unknown{did_you_mean(student, known)}: wanted one of {', '.join(known)}")
    return size


def _device(asked: str) -> torch.device:
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if asked not in ("cpu", "cuda"):
        raise ConfigError(f"device {asked!r}: wanted auto, cpu or cuda")
    if asked == "cuda" and not torch.cuda.is_available():
        raise BackendUnavailable("device cuda: PyTorch finds no GPU here: install a CUDA build of PyTorch, or give --device cpu")
    return torch.device(asked)


def _album(request: Request, say: Say) -> Album:
    folders = list(request.images)
    if request.labelled_images and request.labelled_images not in folders:
        folders.append(request.labelled_images)
    return album_from_folders(folders, lambda done, whole: say(f"read pictures {done}/{whole}"), request.held_out)


def _begin_diary(request: Request, files: Files, teacher: Teacher, album: Album, labels: CocoPeople | None, training: Training) -> None:
    manifest = request.teacher / MANIFEST if request.teacher.is_dir() else request.teacher
    Diary(files.diary).write(
        "resumed" if training.step else "began",
        {
            "step": training.step,
            "worked_s": training.clock.worked_s,
            "teacher": request.teacher.name,
            "teacher_sha256": record_of(manifest).sha256,
            "teacher_runs": teacher.description,
            "features": list(teacher.feature_channels),
            "pictures": len(album),
            "labelled": len(labels) if labels else 0,
            "torch": torch.__version__,
            **{f"set_{name}": value for name, value in asdict(request.settings).items()},
        },
    )
