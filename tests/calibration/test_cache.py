"""What a calibration kept is taken again only as it was written."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from edgepose.calibration.cache import CalibrationCache, default_cache
from edgepose.engines.errors import SinkError

KEY = {"kind": "int8", "ranges": [0.5, 1.0]}
CONTENT = bytes(range(256)) * 100


def make(place: Path) -> None:
    (place / "model.onnx").write_bytes(CONTENT)
    (place / "statistics.npz").write_bytes(CONTENT[:1000])


def unwanted(place: Path) -> None:
    raise AssertionError(f"{place}: made twice")


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    first = CalibrationCache(tmp_path / "cache").entry(KEY, make)
    again = CalibrationCache(tmp_path / "cache").entry(KEY, unwanted)
    assert again == first and (again / "model.onnx").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [first.name]


@pytest.mark.parametrize("name", ["model.onnx", "key.json"])
@pytest.mark.parametrize(
    "damage",
    [
        Path.unlink,
        lambda path: os.truncate(path, 0),
        lambda path: os.truncate(path, path.stat().st_size // 2),
        lambda path: path.write_bytes(path.read_bytes()[:100] + bytes(20) + path.read_bytes()[120:]),
    ],
    ids=["removed", "emptied", "torn", "zeros inside"],
)
def test_a_damaged_entry_is_made_anew_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None], name: str
) -> None:
    cache = CalibrationCache(tmp_path)
    damage(cache.entry(KEY, make) / name)
    mended = cache.entry(KEY, make)
    assert (mended / "model.onnx").read_bytes() == CONTENT
    assert [record.levelname for record in caplog.records] == ["WARNING"] and str(mended) in caplog.text
    assert cache.entry(KEY, unwanted) == mended


def test_a_full_disk_is_said_to_be_the_caches(tmp_path: Path) -> None:
    def full(place: Path) -> None:
        make(place)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(SinkError, match=r"cache: .*No space left on device: .*--calib-cache") as caught:
        CalibrationCache(tmp_path / "cache").entry(KEY, full)
    assert str(tmp_path / "cache") in str(caught.value)
    assert list((tmp_path / "cache").iterdir()) == []


def test_of_two_runs_at_once_the_later_takes_what_the_first_made(tmp_path: Path) -> None:
    def overtaken(place: Path) -> None:
        CalibrationCache(tmp_path).entry(KEY, make)
        make(place)

    assert (CalibrationCache(tmp_path).entry(KEY, overtaken) / "model.onnx").read_bytes() == CONTENT
    assert len(list(tmp_path.iterdir())) == 1


def test_a_user_without_a_home_has_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert default_cache() == Path(tempfile.gettempdir()) / "edgepose" / "calibration"
