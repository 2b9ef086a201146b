"""The preprocessing kernel as an image that the driver loads: prebuilt when edgepose was installed, or compiled on first use and cached."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from edgepose.engines.errors import BackendUnavailable, EngineLoadError
from edgepose.engines.user_cache import user_cache

logger = logging.getLogger(__name__)

_SOURCES = ("preprocess.cu", "preprocess.cuh")
_PREBUILT = "preprocess.ptx"
_PLACES = (Path(__file__).parent / "cuda_sources", Path(__file__).parents[1] / "runtime" / "_native")
"""In an installed package; in a source tree."""
_TOOLKITS = ("/usr/local/cuda/bin/nvcc",)


def prebuilt_kernel() -> bytes | None:
    """The image that was made when edgepose was installed on a machine with nvcc: PTX, which the driver compiles for its GPU."""
    file = _PLACES[0] / _PREBUILT
    return file.read_bytes() if file.is_file() else None


def compiled_kernel(compute_capability: str) -> bytes:
    """Compiled by nvcc for one GPU (`8.7`), from the cache where that was done before.

    Raises BackendUnavailable without nvcc, EngineLoadError where it fails.
    """
    folder = _sources()
    digest = hashlib.sha256(b"".join((folder / name).read_bytes() for name in _SOURCES)).hexdigest()[:16]
    architecture = f"sm_{compute_capability.replace('.', '')}"
    cached = user_cache() / "cuda" / f"preprocess-{digest}-{architecture}.cubin"
    if cached.is_file():
        return cached.read_bytes()
    with tempfile.TemporaryDirectory() as scratch:
        part = Path(scratch) / cached.name
        _compile(folder / _SOURCES[0], architecture, part)
        image = part.read_bytes()
    _keep(image, cached)
    return image


def _keep(image: bytes, place: Path) -> None:
    """For the next time, where that can be."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=place.parent, delete=False) as part:
            part.write(image)
        os.replace(part.name, place)
    except OSError as error:
        logger.warning("%s: %s: the preprocessing kernel is compiled anew each time", place, error.strerror or error)


def find_nvcc() -> str | None:
    """The CUDA compiler: by CUDA_HOME, on the PATH, or where NVIDIA installs it."""
    home = os.environ.get("CUDA_HOME")
    places = [str(Path(home) / "bin" / "nvcc")] if home else []
    return next((found for place in (*places, "nvcc", *_TOOLKITS) if (found := shutil.which(place))), None)


def _sources() -> Path:
    for place in _PLACES:
        if all((place / name).is_file() for name in _SOURCES):
            return place
    raise BackendUnavailable(f"the kernel's sources ({', '.join(_SOURCES)}) are not in this installation: install edgepose again")


def _compile(source: Path, architecture: str, out: Path) -> None:
    nvcc = find_nvcc()
    if nvcc is None:
        raise BackendUnavailable(
            "CUDA preprocessing has no prebuilt kernel here and there is no nvcc to compile one:"
            " install the CUDA toolkit (on a Jetson: sudo apt install cuda-nvcc-12-6) or set CUDA_HOME"
        )
    done = subprocess.run(
        [nvcc, "-cubin", "-O3", "-std=c++17", f"-arch={architecture}", "-o", out, source], capture_output=True, text=True, check=False
    )
    if done.returncode:
        told = " ".join((done.stderr or done.stdout).split())[-400:]
        raise EngineLoadError(f"nvcc cannot compile {source.name} for {architecture} ({told}): is this toolkit made for this GPU?")
