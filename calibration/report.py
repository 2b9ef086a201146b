"""The calibration report: `calibration.json` for programs, `calibration.html` for people, both inside the bundle."""

from __future__ import annotations

import base64
import html
import json
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgepose.calibration.calibrator import Calibrator
from edgepose.calibration.plot import STYLE, svg_of
from edgepose.calibration.ranking import input_noise
from edgepose.calibration.search import Calibrated, Step
from edgepose.engines.bundle import AccuracyRecord, CalibrationRecord
from edgepose.engines.engine import Engine
from edgepose.engines.skeleton import Skeleton
from edgepose.runtime.overlay import draw_poses
from edgepose.runtime.poses import Poses

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WORST = 4
_PICTURE_HEIGHT = 260
_HISTOGRAM_PICTURES = 8


def write_report(calibrator: Calibrator, found: Calibrated, target: str, title: str, folder: Path) -> list[Path]:
    """Writes both files and returns them."""
    noise = layer_noise(calibrator, found, target)
    facts = report_facts(calibrator, found, target, noise)
    (folder / "calibration.json").write_text(json.dumps(facts, indent=1) + "\n")
    with closing(calibrator.quantiser(target).open(found.model)) as engine:
        page = _page(calibrator, found, facts, title, noise, engine)
    (folder / "calibration.html").write_text(page, encoding="utf-8")
    return [folder / "calibration.json", folder / "calibration.html"]


def calibration_records(calibrator: Calibrator, found: Calibrated, target: str) -> tuple[CalibrationRecord, AccuracyRecord]:
    """What the bundle's manifest keeps."""
    candidate, verdict, pictures = found.candidate, found.verdict, calibrator.pictures
    with closing(calibrator.quantiser(target).open(found.model)) as engine:
        executed = str(engine.execution)
    return CalibrationRecord(
        source=pictures.origin,
        pictures=len(pictures.pictures),
        fingerprint=pictures.fingerprint,
        calibrator=candidate.calibrator,
        floating=tuple(sorted(candidate.floating)),
        int8_share=calibrator.graph.int8_share(candidate.floating),
    ), AccuracyRecord(
        pictures=verdict.pictures,
        persons=verdict.persons,
        oks_mean=verdict.oks,
        missed=verdict.missed,
        extra=verdict.extra,
        ap=verdict.ap,
        ap_fp32=calibrator.judge.evaluation.accuracy.ap if calibrator.judge.evaluation else None,
        gate=str(calibrator.request.gate),
        executed=executed,
    )


def layer_noise(calibrator: Calibrator, found: Calibrated, target: str) -> dict[str, float]:
    """Layer in INT8 -> noise over signal, in power, of its quantised input."""
    layers = [layer for layer in calibrator.graph.layers if layer.name not in found.candidate.floating]
    ranges, levels = found.candidate.ranges, calibrator.quantiser(target).levels
    return {layer.name: input_noise(calibrator.statistics, ranges, layer.tensor, levels) for layer in layers}


def report_facts(calibrator: Calibrator, found: Calibrated, target: str, noise: dict[str, float]) -> dict[str, Any]:
    """Everything that was chosen and measured."""
    request, pictures, statistics = calibrator.request, calibrator.pictures, calibrator.statistics
    candidate = found.candidate
    return {
        "target": target,
        "calibration": {
            "source": pictures.origin,
            "pictures": len(pictures.pictures),
            "seed": request.seed,
            "fingerprint": pictures.fingerprint,
            "with_people": int(np.count_nonzero(statistics.people)),
            "people": int(statistics.people.sum()),
            "outliers": calibrator.outliers,
            "statistics_computed_by": statistics.arithmetic,
        },
        "asked": {"calibrator": request.calibrator, "gate": str(request.gate), "quantise_heads": request.quantise_heads},
        "chosen": {
            "calibrator": candidate.calibrator,
            "weight_bits": 7 if calibrator.quantiser(target).seven_bits else 8,
            "int8_share": calibrator.graph.int8_share(candidate.floating),
            "floating": sorted(candidate.floating),
            "ranges": {name: list(limits) for name, limits in candidate.ranges.items()},
        },
        "steps": [asdict(step) for step in found.steps],
        "input_noise_to_signal": noise,
    }


def _page(calibrator: Calibrator, found: Calibrated, facts: dict[str, Any], title: str, noise: dict[str, float], engine: Engine) -> str:
    chosen, source = facts["chosen"], facts["calibration"]
    outliers = "".join(f"<li>{html.escape(line)}</li>" for line in source["outliers"])
    sections = [
        f"<p><b>{html.escape(str(found.verdict))}</b>; gate: {html.escape(facts['asked']['gate'])}.</p>",
        f"<p>Calibrator {chosen['calibrator']}, {chosen['int8_share']:.1%} of the multiplications in INT8,"
        f" {len(chosen['floating'])} layers in floating point: {html.escape(', '.join(chosen['floating']))}.</p>",
        f"<p>{source['pictures']} pictures of {html.escape(source['source'])} (seed {source['seed']}), people in {source['with_people']} of"
        f" them. Fingerprint {source['fingerprint'][:16]}.</p>",
        f"<p>Pictures that stretch the ranges:</p><ul>{outliers}</ul>" if outliers else "",
        "<h2>Steps</h2>" + _steps_table(found.steps),
        "<h2>Accuracy by step</h2>" + svg_of(lambda axes: _accuracy_bars(axes, found.steps)),
        "<h2>Noise that INT8 adds to each layer's input</h2>" + svg_of(lambda axes: _noise_bars(axes, noise)),
        "<h2>Heatmap values before and after</h2>" + svg_of(lambda axes: _histograms(axes, calibrator, engine)),
    ]
    if calibrator.request.report_pictures:
        sections.append("<h2>Pictures that agree least: FP32 left, INT8 right</h2>" + _worst(calibrator, found))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
        f"<h1>{html.escape(title)}</h1>{''.join(sections)}</html>\n"
    )


def _steps_table(steps: tuple[Step, ...]) -> str:
    cells = [
        (s.calibrator, s.action, f"{s.int8_share:.1%}", "calibration pictures" if s.quick else "gate's pictures", str(s.verdict))
        for s in steps
    ]
    rows = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in cells)
    return f"<table><tr><th>calibrator<th>step<th>INT8<th>judged on<th>found</tr>{rows}</table>"


def _accuracy_bars(axes: Axes, steps: tuple[Step, ...]) -> None:
    labels = [f"{i + 1} {s.calibrator}{'' if s.quick else ' *'}" for i, s in enumerate(steps)]
    axes.bar(labels, [s.verdict.oks for s in steps], color="#4477aa", label="mean OKS against FP32")
    judged = [(label, s.verdict.ap) for label, s in zip(labels, steps, strict=True) if s.verdict.ap is not None]
    if judged:
        axes.plot(*zip(*judged, strict=True), "D", color="#cc6677", label="COCO AP")
    axes.set_ylim(0, 1)
    axes.tick_params(axis="x", rotation=45)
    axes.legend(loc="upper right")
    axes.set_xlabel("step; * judged on the gate's pictures")


def _noise_bars(axes: Axes, noise: dict[str, float]) -> None:
    axes.bar(range(len(noise)), [10 * np.log10(max(value, 1e-12)) for value in noise.values()], color="#4477aa")
    axes.set_ylabel("noise / signal, dB")
    axes.set_xlabel("layers in INT8, in the order of computation")


def _histograms(axes: Axes, calibrator: Calibrator, engine: Engine) -> None:
    pictures = calibrator.pictures.pictures[:_HISTOGRAM_PICTURES]
    keypoints = len(engine.contract.skeleton.keypoints)
    for label, one, colour in (("FP32", calibrator.reference, "#4477aa"), ("INT8", engine, "#cc6677")):
        values = np.concatenate([_heatmaps(one, picture)[:keypoints].ravel() for picture in pictures])
        axes.hist(values, bins=120, range=(-0.1, 1.1), histtype="step", log=True, label=label, color=colour)
    axes.set_xlabel(f"value of a keypoint's heatmap, {len(pictures)} calibration pictures")
    axes.set_ylabel("cells")
    axes.legend(loc="upper right")


def _heatmaps(engine: Engine, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    slot = engine.slots[0]
    slot.pictures[:] = picture
    slot.start()
    return np.array(slot.wait().heatmaps[0], np.float32)


def _worst(calibrator: Calibrator, found: Calibrated) -> str:
    rows = []
    for picture, wanted, got, mark in calibrator.judge.worst(found.found, _WORST):
        pair = np.hstack([_small(picture, poses, calibrator.contract.skeleton) for poses in (wanted, got)])
        rows.append(f"<p>agreement {mark:.3f}: {len(wanted)} people in FP32, {len(got)} in INT8<br>{_image(pair)}</p>")
    return "".join(rows)


def _small(picture: NDArray[np.uint8], poses: Poses, skeleton: Skeleton) -> NDArray[np.uint8]:
    image = draw_poses(picture, poses, skeleton)
    width = round(image.shape[1] * _PICTURE_HEIGHT / image.shape[0])
    return np.asarray(cv2.resize(image, (width, _PICTURE_HEIGHT), interpolation=cv2.INTER_AREA), np.uint8)


def _image(picture: NDArray[np.uint8]) -> str:
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 80])
    return f'<img src="data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}" alt="people found">'
