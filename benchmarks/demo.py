"""What `make demo` looks at: a picture and a clip, rendered from a photograph that matplotlib carries.

python -m edgepose.benchmarks.demo FOLDER
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from numpy.typing import NDArray

from edgepose.engines import console
from edgepose.engines.errors import BackendUnavailable, SinkError
from edgepose.runtime.complete_file import make_folder, told
from edgepose.runtime.sources import picture_from_file

Picture = NDArray[np.uint8]

PHOTO_HW, CLIP_HW = (720, 1280), (360, 640)
CLIP_FPS = 25
CLIP_FRAMES = 150
_BITS_PER_S = 1_500_000


@dataclass(frozen=True, slots=True)
class Print:
    """Where a print of the photograph hangs on the lower edge of a frame: its middle and its height, in shares of the frame."""

    x: float
    height: float
    mirrored: bool

    def matrix(self, photograph_hw: tuple[int, int], frame_hw: tuple[int, int]) -> NDArray[np.float64]:
        """(2, 3), from pixels of the photograph (mirrored, where it is) to pixels of the frame, both corner-based."""
        zoom = self.height * frame_hw[0] / photograph_hw[0]
        left = self.x * frame_hw[1] - zoom * photograph_hw[1] / 2
        return np.array([[zoom, 0, left], [0, zoom, frame_hw[0] - zoom * photograph_hw[0]]])


def photograph() -> Path:
    """Rear Admiral Grace Hopper, by James S. Davis for the US Navy, in the public domain: 512 x 600, one person from the waist up.

    Raises BackendUnavailable where matplotlib is not installed.
    """
    try:
        from matplotlib import cbook
    except ImportError as error:
        raise BackendUnavailable("the demo's photograph comes with matplotlib: pip install matplotlib") from error
    return Path(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))


def prints(turn: float) -> tuple[Print, Print]:
    """Two, one of them mirrored, that wander and come nearer as people before a camera do; `turn` 1 is as 0."""
    angle = 2 * math.pi * turn
    return (
        Print(0.27 + 0.04 * math.sin(angle), 0.66 + 0.08 * math.cos(angle), False),
        Print(0.74 + 0.05 * math.cos(angle), 0.6 + 0.06 * math.sin(2 * angle), True),
    )


def frame(photograph: Picture, hw: tuple[int, int], turn: float) -> Picture:
    """The prints before a wall of the photograph's own colours, out of focus."""
    h, w = hw
    small = cv2.GaussianBlur(cv2.resize(photograph, (w // 8, h // 8), interpolation=cv2.INTER_AREA), (0, 0), w / 8 / 16)
    seen = np.asarray(cv2.resize(small, (w, h), interpolation=cv2.INTER_CUBIC), np.uint8)
    for each in prints(turn):
        _hang(seen, photograph[:, ::-1] if each.mirrored else photograph, each)
    return seen


def clip(photograph: Picture) -> Iterator[Picture]:
    """One turn."""
    return (frame(photograph, CLIP_HW, number / CLIP_FRAMES) for number in range(CLIP_FRAMES))


def write_clip(path: Path, photograph: Picture) -> None:
    """H.264 in MP4."""
    import av

    with av.open(path, "w") as file:
        stream = file.add_stream("libx264", CLIP_FPS, options={"preset": "veryfast"})
        stream.height, stream.width = CLIP_HW
        stream.pix_fmt, stream.bit_rate, stream.time_base = "yuv420p", _BITS_PER_S, Fraction(1, CLIP_FPS)
        for each in clip(photograph):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(each, format="bgr24")))
        file.mux(stream.encode())


def _hang(seen: Picture, picture: Picture, where: Print) -> None:
    h, w = seen.shape[:2]
    matrix = where.matrix(picture.shape[:2], (h, w))
    zoom = matrix[0, 0]
    matrix[:, 2] += (zoom - 1) / 2  # OpenCV counts from pixels' centres
    soft = cv2.GaussianBlur(picture, (0, 0), max(0.1, 0.5 / zoom))
    cv2.warpAffine(soft, matrix, (w, h), dst=seen, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_TRANSPARENT)


app = typer.Typer(name="edgepose.benchmarks.demo", add_completion=False, pretty_exceptions_enable=False)


@app.command()
def write(folder: Annotated[Path, typer.Argument(help="Gets photo.jpg and clip.mp4")]) -> None:
    """Writes what the demo looks at."""
    make_folder(folder)
    picture = picture_from_file(photograph())
    still, moving = folder / "photo.jpg", folder / "clip.mp4"
    if not cv2.imwrite(str(still), frame(picture, PHOTO_HW, 0.5)):
        raise SinkError(f"{still}: cannot be written; is there a folder of that name?")
    with told(moving):
        write_clip(moving, picture)


if __name__ == "__main__":
    console.run(app)
