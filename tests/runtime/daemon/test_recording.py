"""Segments that no crash tears, on disks that fill up and come back."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from daemon_results import eventually, result

from edgepose.engines.errors import SinkError
from edgepose.engines.skeleton import Limb, Skeleton
from edgepose.runtime.complete_file import hidden
from edgepose.runtime.daemon.camera_result import CameraResult
from edgepose.runtime.daemon.event import Event
from edgepose.runtime.daemon.hub import Hub
from edgepose.runtime.daemon.recording import Recorder
from edgepose.runtime.daemon.recording_settings import RecordingSettings
from edgepose.runtime.daemon.segment import free_name, order_of, segment_path
from edgepose.runtime.daemon.shelf import Shelf

SKELETON = Skeleton(name="dumbbell", keypoints=("left", "right"), limbs=(Limb(start=0, end=1, x=0, y=1),))
TESTS = Path(__file__).resolve().parents[2]


class Recording:
    """A recorder and what feeds it."""

    def __init__(self, folder: Path, retry_s: float = 0.05, clock: Any = None, **settings: Any) -> None:
        self.results, self.events, self.published = Hub[CameraResult](), Hub[Event](), 0
        made = RecordingSettings(folder=folder, **settings)
        more = {} if clock is None else {"clock": clock}
        self.recorder = Recorder(made, SKELETON, self.results, self.events, retry_s=retry_s, **more)

    def publish(self, *cameras: str, people: int = 1) -> None:
        for camera in cameras:
            self.results.publish(result(camera, self.published, people=people))
            self.published += 1

    def event(self, camera: str, **more: Any) -> None:
        self.events.publish(Event(camera, "fall", "started", 1_800_000_000.0, **more))
        self.published += 1

    def status(self) -> dict[str, Any]:
        return dict(self.recorder.status())

    def settled(self) -> dict[str, Any]:
        """When everything published is accounted for."""
        eventually(lambda: sum(self.status()[key] for key in ("written", "lost", "dropped")) == self.published)
        return self.status()


@contextmanager
def recording(folder: Path, **settings: Any) -> Iterator[Recording]:
    made = Recording(folder, **settings)
    made.recorder.start()
    try:
        eventually(lambda: bool(made.status()["recording"] or made.status()["pauses"]))
        yield made
    finally:
        made.recorder.stop(10)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As a full disk does, the system takes a part of what is written beyond, and refuses the rest."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real one of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)  # whoever still has a file open there may close it later


def lines(folder: Path, pattern: str = "*/*.jsonl") -> list[dict[str, Any]]:
    """Of all complete segments, by name; every one is whole."""
    texts = [path.read_text() for path in sorted(folder.glob(pattern)) if not path.name.startswith(".")]
    assert all(text.endswith("\n") for text in texts)
    return [json.loads(line) for text in texts for line in text.splitlines()]


def parts(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("*/.*")]


def test_an_event_that_has_no_json_is_lost_and_nothing_pauses(tmp_path: Path) -> None:
    deep: dict[str, Any] = {}
    for _ in range(300):
        deep = {"deep": deep}
    with recording(tmp_path) as made:
        made.event("yard", detail=deep)
        made.event("yard", person=3)
        made.publish("yard")
        status = made.settled()
    assert (status["written"], status["lost"], status["pauses"], status["errors"]) == (2, 1, 0, 0)
    assert [line["person"] for line in lines(tmp_path, "yard/*.events.jsonl")] == [3]


def test_every_result_and_event_is_in_a_complete_file_of_its_camera(tmp_path: Path) -> None:
    with recording(tmp_path / "new") as made:
        made.publish("door", "yard", "door")
        made.event("yard", person=3)
        assert made.settled()["written"] == 4
        assert not lines(tmp_path), "open segments have no name yet"
    assert [line["index"] for line in lines(tmp_path, "new/door/*.jsonl")] == [0, 2]
    (found,) = lines(tmp_path, "new/yard/*Z.jsonl")
    assert found == json.loads(result("yard", 1).as_json())
    (event,) = lines(tmp_path, "new/yard/*Z.events.jsonl")
    assert (event["kind"], event["person"]) == ("fall", 3)
    assert not parts(tmp_path / "new") and all(order_of(path.name) for path in tmp_path.glob("new/*/*"))
    assert made.status()["recording"] is False and made.status()["reason"] == "stopped"


def test_parquet_has_a_row_a_person_and_the_skeleton(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    with recording(tmp_path, format="parquet") as made:
        made.publish("door", people=2)
        made.publish("door", people=0)
        made.publish("door")
        made.event("door")
        assert made.settled()["written"] == 4
    (path,) = tmp_path.glob("door/*Z.parquet")
    table = pq.read_table(path)
    assert table.column("index").to_pylist() == [0, 0, 2] and table.column("id").to_pylist() == [1, 2, 1]
    assert table.column("camera").to_pylist() == ["door"] * 3 and table.column("x").to_pylist()[2] == [2.0, None]
    assert table.column("at").to_pylist()[0].timestamp() == 1_800_000_000
    assert table.schema.metadata[b"skeleton"] == b"dumbbell" and table.schema.metadata[b"keypoints"] == b"left,right"
    assert len(lines(tmp_path, "door/*.events.jsonl")) == 1


@pytest.mark.parametrize("format_", ["jsonl", "parquet"])
def test_a_segment_ends_after_its_time_even_if_its_camera_is_silent(tmp_path: Path, format_: str) -> None:
    with recording(tmp_path, format=format_, segment_s=1) as made:
        made.publish("door")
        eventually(lambda: made.status()["segments"] == 1)
        made.publish("door")
        eventually(lambda: made.status()["segments"] == 2)
    assert len(list(tmp_path.glob(f"door/*.{format_}"))) == 2


def test_a_clock_set_back_overwrites_nothing_and_makes_nothing_old(tmp_path: Path) -> None:
    clock = iter([1_800_000_000, 1_800_000_000, 1_700_000_000, 0, *[1_700_000_000] * 9])
    for index in range(6):
        with recording(tmp_path, clock=lambda: next(clock)) as made:
            made.publish(*["door"] * (index + 1))
            made.settled()
    names = {path.name: len(path.read_text().splitlines()) for path in tmp_path.glob("door/*.jsonl")}
    stems = {"2027-01-15T08-00-00Z": 1, "2027-01-15T08-00-00Z-2": 2, "2023-11-14T22-13-20Z": 3, "1970-01-01T00-00-00Z": 4}
    assert names == {f"{stem}.jsonl": n for stem, n in {**stems, "2023-11-14T22-13-20Z-2": 5, "2023-11-14T22-13-20Z-3": 6}.items()}


def test_the_quota_deletes_what_was_recorded_first_though_the_clock_was_set_back(tmp_path: Path) -> None:
    shelf, times = Shelf(tmp_path, quota=250), [1_800_000_000, 1_800_000_060, 1_000_000_000]
    shelf.open()
    (tmp_path / "door").mkdir()
    made = [segment_path(tmp_path / "door", at, ".jsonl") for at in times]
    for path in made:
        path.write_bytes(b"x" * 100)
        shelf.add(path, 100)
        shelf.make_room(beside=0)
    shelf.close()
    assert [path.exists() for path in made] == [False, True, True] and (shelf.size, shelf.deleted) == (200, 1)


def test_the_quota_holds_over_all_cameras_and_leaves_other_files_alone(tmp_path: Path) -> None:
    (tmp_path / "yard").mkdir()
    others = [tmp_path / "yard" / "notes.jsonl", tmp_path / "2020-01-01T00-00-00Z.jsonl", tmp_path / "yard" / "2020-01-01T00-00-00Z.mp4"]
    for path in others:
        path.write_bytes(b"x" * 2_000_000)
    old = tmp_path / "yard" / "2020-01-01T00-00-00Z.events.jsonl"
    old.write_text('{"old": 1}\n')
    with recording(tmp_path, quota_mb=1, depth=100_000) as made:
        for _ in range(60):
            made.publish(*["door", "yard"] * 10, people=20)
            made.settled()
            whole = sum(path.stat().st_size for path in tmp_path.glob("*/*") if order_of(path.name) or path.name.startswith(".2"))
            assert whole < 1_100_000
        status = made.status()
    assert status["deleted"] > 1 and not old.exists() and all(path.exists() for path in others)
    assert status["written"] == 1200 and 500_000 < status["bytes"] <= 1_000_000
    kept = [line["index"] for line in lines(tmp_path, "[dy]*/2*Z*.jsonl")]
    assert max(kept) == 1199 and min(kept) > 0, "the newest are kept"


@pytest.mark.needs("tmpfs")
@pytest.mark.parametrize("format_", ["jsonl", "parquet"])
def test_a_full_disk_pauses_the_recording_which_goes_on_when_there_is_room(small_disk: Path, format_: str) -> None:
    filler = small_disk / "filler"
    with recording(small_disk, format=format_, segment_s=3600) as made:
        made.publish(*["door"] * 5)
        made.event("door")
        made.settled()
        fill(filler)
        while not made.status()["pauses"]:
            made.publish("door", people=100)
            made.event("door")
            made.settled()
        full = made.status()
        assert any(why in full["reason"] for why in ("No space left on device", "0.0 MB are free, wanted 1.0"))
        assert not full["recording"] and full["lost"] > 0 and full["pauses"] == 1
        made.publish("door")
        assert made.settled()["lost"] == full["lost"] + 1, "nothing else waits for the disk"
        filler.unlink()
        eventually(lambda: bool(made.status()["recording"]))
        made.publish("door", "door")
        made.event("door")
        status = made.settled()
        assert status["lost"] == full["lost"] + 1 and status["reason"] == "" and status["errors"] == 0
    assert not parts(small_disk)
    if format_ == "jsonl":
        assert len(lines(small_disk)) == status["written"], "all whole lines written before were saved"
    else:
        assert len(lines(small_disk)) + rows(small_disk) == status["written"]


@pytest.mark.needs("tmpfs")
def test_a_segment_that_cannot_be_deleted_pauses_once_and_leaves_no_crumbs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "door").mkdir()
    old = tmp_path / "door" / "2020-01-01T00-00-00Z.jsonl"
    old.write_bytes(b"{}\n" * 400_000)
    subprocess.run(["mount", "--bind", str(old), str(old)], check=True)
    try:
        with recording(tmp_path, retry_s=0.01, quota_mb=1) as made:

            def another_try() -> None:
                before = made.recorder._next_try_s
                eventually(lambda: made.recorder._next_try_s > before)

            for _ in range(3):
                another_try()
                made.publish("door")
                made.settled()
            assert made.status()["pauses"] == 1 and "busy" in str(made.status()["reason"])
    finally:
        subprocess.run(["umount", str(old)], check=True)
    assert [path.name for path in (tmp_path / "door").iterdir()] == [old.name]
    assert caplog.text.count("paused") == 1
    with recording(tmp_path, quota_mb=1) as made:
        made.publish("door")
        assert made.settled()["written"] == 1 and not old.exists()


def rows(folder: Path) -> int:
    """Results with one person or more, of all tables."""
    pq = pytest.importorskip("pyarrow.parquet")
    return sum(len(set(pq.read_table(path).column("index").to_pylist())) for path in folder.glob("*/2*.parquet"))


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))


@pytest.mark.parametrize("format_", ["jsonl", "parquet"])
def test_a_write_that_is_cut_short_leaves_no_torn_line(tmp_path: Path, format_: str, caplog: pytest.LogCaptureFixture) -> None:
    with recording(tmp_path, format=format_, segment_s=3600, depth=10_000) as made:
        with files_of_at_most(20_000):
            while not made.status()["pauses"]:
                made.publish(*["door"] * 50, people=20)
                made.settled()
            assert "File too large" in caplog.text  # the status may be of the next try already, which goes well for a while
        eventually(lambda: bool(made.status()["recording"]))
        made.publish("door")
        status = made.settled()
    assert not parts(tmp_path) and status["lost"] > 0
    assert status["written"] == (len(lines(tmp_path)) if format_ == "jsonl" else rows(tmp_path))


def test_a_folder_that_is_no_folder_yet_is_waited_for(tmp_path: Path) -> None:
    blocked = tmp_path / "poses"
    blocked.write_text("in the way")
    with recording(blocked) as made:
        made.publish("door")
        assert made.settled()["lost"] == 1 and "is there a file of that name" in made.status()["reason"]
        blocked.unlink()
        eventually(lambda: bool(made.status()["recording"]))
        made.publish("door")
        assert made.settled()["written"] == 1
    assert len(lines(blocked)) == 1


def test_a_folder_that_is_cleared_away_under_the_recorder_is_made_again(tmp_path: Path) -> None:
    with recording(tmp_path / "poses", segment_s=1) as made:
        made.publish("door")
        made.settled()
        shutil.rmtree(tmp_path / "poses")
        eventually(lambda: made.status()["pauses"] == 1)
        assert (made.status()["written"], made.status()["lost"]) == (0, 1), "what was in it is not counted as kept"
        eventually(lambda: bool(made.status()["recording"]))
        made.publish("door")
        made.settled()
    assert len(lines(tmp_path / "poses")) == 1


def test_a_camera_that_is_no_name_goes_nowhere(tmp_path: Path) -> None:
    with recording(tmp_path / "poses") as made:
        made.event("../elsewhere")
        made.event("")
        assert made.settled()["lost"] == 2
    assert not (tmp_path / "elsewhere").exists() and made.status()["pauses"] == 0


def test_one_folder_is_for_one_daemon(tmp_path: Path) -> None:
    with recording(tmp_path) as first:
        first.publish("door")
        first.settled()
        with recording(tmp_path) as second:
            assert "another pose-daemon records there" in second.status()["reason"]
            assert parts(tmp_path), "what the other has open is left alone"
            with pytest.raises(SinkError):
                Shelf(tmp_path, 1).open()
    assert len(lines(tmp_path)) == 1


def test_who_is_slower_than_the_cameras_drops_and_counts(tmp_path: Path) -> None:
    made = Recording(tmp_path, depth=3)
    made.recorder.start()
    eventually(lambda: bool(made.status()["recording"]))
    made.publish(*["door"] * 3000)
    status = made.settled()
    made.recorder.stop(10)
    assert status["written"] + status["dropped"] == 3000 and status["dropped"] > 0
    assert lines(tmp_path)[-1]["index"] == 2999, "the newest are kept"


def test_stopping_writes_what_was_published_and_leaves_no_thread(tmp_path: Path) -> None:
    with recording(tmp_path, depth=5000) as made:
        made.publish(*["door", "yard"] * 1000)
    assert len(lines(tmp_path)) == 2000 and made.status()["written"] == 2000
    assert not [thread for thread in threading.enumerate() if thread.name == "edgepose recording"]
    assert not made.results.subscriptions and not made.events.subscriptions
    made.recorder.stop(1)


def test_events_are_kept_after_the_results_have_ended_and_nobody_spins(tmp_path: Path) -> None:
    with recording(tmp_path) as made:
        made.results.close()
        before = time.process_time()
        made.event("door")
        assert made.settled()["written"] == 1
        threading.Event().wait(0.5)
        assert time.process_time() - before < 0.4, "half a second of waiting costs nothing"
    assert len(lines(tmp_path)) == 1


KILLED = """
import sys
from pathlib import Path
from test_recording import Recording
made = Recording(Path(sys.argv[1]), format=sys.argv[2], segment_s=1)
made.recorder.start()
while True:
    made.publish("door", "yard")
    status = made.settled()
    print(status["written"], status["completed"], flush=True)
"""


@pytest.mark.parametrize("format_", ["jsonl", "parquet"])
def test_a_killed_process_loses_at_most_the_open_segment(tmp_path: Path, format_: str) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path), format_]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": f"{TESTS}:{Path(__file__).parent}"}) as process:
        assert process.stdout is not None
        told = next(line for line in process.stdout if int(line.split()[1]) >= 2)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    written = int(told.split()[0])
    torn = parts(tmp_path)
    assert torn, "it was killed in the middle of a segment"
    complete = len(lines(tmp_path)) if format_ == "jsonl" else rows(tmp_path)
    with recording(tmp_path, format=format_) as made:
        status = made.status()
    assert not parts(tmp_path)
    if format_ == "jsonl":
        assert status["recovered"] > 0 and len(lines(tmp_path)) >= written, "not one line is lost"
    else:
        assert status["recovered"] == 0 and rows(tmp_path) == complete > 0


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (b'{"a": 1}\n{"a": 2}\n{"a": ', 2),
        (b'{"a": 1}\n{"a": 2}\n', 2),
        (b'{"a": 1}\n{"a": 2}', 1),
        (b'{"a": 1}\n' + bytes(4096), 1),
        (b'{"a": 1}\n' + bytes(100) + b'\n{"a": 3}\n', 1),
        (b'{"a"', 0),
        (b"", 0),
    ],
)
@pytest.mark.parametrize("suffix", [".jsonl", ".events.jsonl"])
def test_what_a_crash_left_open_is_completed_up_to_its_last_whole_line(tmp_path: Path, content: bytes, kept: int, suffix: str) -> None:
    path = tmp_path / "door" / f"2026-11-22T05-17-18Z{suffix}"
    path.parent.mkdir()
    hidden(path).write_bytes(content)
    with recording(tmp_path) as made:
        assert made.status()["recovered"] == (kept > 0)
    assert not parts(tmp_path) and path.exists() == (kept > 0)
    assert len(lines(tmp_path)) == kept


def test_what_is_recovered_takes_no_other_segments_name(tmp_path: Path) -> None:
    path = tmp_path / "door" / "2026-11-22T05-17-18Z.jsonl"
    path.parent.mkdir()
    path.write_text('{"first": 1}\n')
    hidden(path).write_text('{"second": 2}\n')
    stranger = path.parent / ".notes.part.jsonl"
    stranger.write_text("not ours")
    with recording(tmp_path):
        pass
    assert path.read_text() == '{"first": 1}\n' and stranger.exists()
    assert path.with_name("2026-11-22T05-17-18Z-2.jsonl").read_text() == '{"second": 2}\n'


def test_names_sort_by_time_and_number() -> None:
    names = [
        "2026-11-22T05-17-18Z-10.jsonl",
        "2026-11-22T05-17-18Z-2.parquet",
        "2026-11-22T05-17-18Z.jsonl",
        "2026-11-22T05-17-17Z.events.jsonl",
    ]
    assert sorted(names, key=lambda name: order_of(name) or ("", 0)) == names[::-1]
    for other in ("notes.jsonl", "2026-11-22T05-17-18Z.mp4", ".2026-11-22T05-17-18Z.part.jsonl", "2026-11-22T05-17-18Z-.jsonl"):
        assert order_of(other) is None


def test_a_free_name_is_found_after_a_hundred(tmp_path: Path) -> None:
    names = [free_name(tmp_path / "2026-11-22T05-17-18Z.events.jsonl")]
    for _ in range(100):
        names[-1].touch()
        names.append(free_name(names[0]))
    assert names[0].name == "2026-11-22T05-17-18Z.events.jsonl" and names[100].name == "2026-11-22T05-17-18Z-101.events.jsonl"


def test_poses_of_numpy_types_are_written_as_they_are(tmp_path: Path) -> None:
    with recording(tmp_path) as made:
        made.publish("door")
        made.settled()
    keypoints = lines(tmp_path)[0]["people"][0]["keypoints"]
    assert np.allclose(keypoints[0], [0, 7, 0.5]) and keypoints[1] is None
