"""What `make demo` looks at: a photograph that matplotlib carries, and a clip rendered from it. No file of anybody else's is in this project.

python -m edgepose.benchmarks.demo FOLDER
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgepose.engines.errors import BackendUnavailable
from edgepose.runtime.sources import picture_from_file

Picture = NDArray[np.uint8]

CLIP_HW = (360, 640)
CLIP_FPS = 25
CLIP_FRAMES = 150
_BITS_PER_S = 1_500_000


def photograph() -> Path:
    """Rear Admiral Grace Hopper, by James S. Davis for the US Navy, in the public domain: 512 x 600, one person from the waist up.

    Raises BackendUnavailable where matplotlib is not installed.
    """
    try:
        from matplotlib import cbook
    except ImportError as error:
        raise BackendUnavailable("the demo's photograph comes with matplotlib: pip install matplotlib") from error
    return Path(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))


def clip(picture: Picture) -> Iterator[Picture]:
    """Frames in which two prints of a picture, one of them mirrored, wander before a wall and grow and shrink, as people before a camera."""
    wall = _wall(picture)
    for frame in range(CLIP_FRAMES):
        turn = 2 * math.pi * frame / CLIP_FRAMES
        seen = wall.copy()
        _hang(seen, picture, 0.27 + 0.04 * math.sin(turn), 0.66 + 0.08 * math.cos(turn))
        _hang(seen, picture[:, ::-1], 0.74 + 0.05 * math.cos(turn), 0.6 + 0.06 * math.sin(2 * turn))
        yield seen


def write_clip(path: Path, picture: Picture) -> None:
    """H.264 in MP4."""
    import av

    with av.open(path, "w") as file:
        stream = file.add_stream("libx264", CLIP_FPS, options={"preset": "veryfast"})
        stream.height, stream.width = CLIP_HW
        stream.pix_fmt, stream.bit_rate, stream.time_base = "yuv420p", _BITS_PER_S, Fraction(1, CLIP_FPS)
        for frame in clip(picture):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")))
        file.mux(stream.encode())


def _wall(picture: Picture) -> Picture:
    """The picture's own colours, out of focus."""
    h, w = CLIP_HW
    return np.asarray(cv2.GaussianBlur(cv2.resize(picture, (w, h)), (0, 0), 40), np.uint8)


def _hang(seen: Picture, picture: Picture, x: float, height: float) -> None:
    """Draws the picture on the lower edge of the frame, its middle at `x` and so high, both in shares of the frame."""
    h, w = seen.shape[:2]
    zoom = height * h / picture.shape[0]
    left, top = x * w - zoom * picture.shape[1] / 2, h - zoom * picture.shape[0]
    matrix = np.array([[zoom, 0, left + (zoom - 1) / 2], [0, zoom, top + (zoom - 1) / 2]])  # OpenCV counts from pixels' centres
    soft = cv2.GaussianBlur(picture, (0, 0), 0.5 / zoom)
    cv2.warpAffine(soft, matrix, (w, h), dst=seen, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_TRANSPARENT)


def main(folder: Path) -> None:
    """Writes photo.jpg and clip.mp4."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "photo.jpg").write_bytes(photograph().read_bytes())
    write_clip(folder / "clip.mp4", picture_from_file(photograph()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
