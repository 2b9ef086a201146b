"""What goes wrong with a daemon in the field, done to a real one in a process of its own, with real servers around it.

With EDGEPOSE_FAULTS=FILE what was seen (seconds until healthy, frames and results lost) is added to that file, a JSON object a line:
docs/daemon.md's table comes from there.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from daemon_process import PATIENCE_S, DaemonProcess, until
from mqtt_broker import Broker
from rtsp_camera import RtspCamera

PATTERN = '[[cameras]]\nname = "hall"\nsource = "test:pattern?width=320&height=180&fps=20"\n'
DOOR = '[[cameras]]\nname = "door"\nsource = "test:pattern?width=320&height=180&fps=20&seed=1"\n'
BOX = 2_000_000
"""Bytes of the disk that is filled."""

_ON_THEIR_WAY = 5
"""Four inferences in flight and one frame that waits."""
Bundles = dict[str, Path]


def tell(fault: str, **figures: object) -> None:
    if place := os.environ.get("EDGEPOSE_FAULTS"):
        with Path(place).open("a") as file:
            file.write(json.dumps({"fault": fault, **figures}) + "\n")


def lost(before: dict[str, Any], after: dict[str, Any]) -> dict[str, int]:
    """Of a camera's frames between two looks at it: dropped for newer ones, and gone without a word (up to five are on their way)."""
    inside = after["captured"] - after["dropped"] - after["results"]
    return {"frames_dropped": after["dropped"] - before["dropped"], "frames_unaccounted_for": max(0, inside - _ON_THEIR_WAY)}


@pytest.fixture
def daemon(tmp_path: Path, painted_bundles: Bundles) -> Iterator[Callable[..., DaemonProcess]]:
    """Makes daemons, which are killed at the end."""
    made: list[DaemonProcess] = []

    def make(body: str, bundle: Path | None = None, **options: Any) -> DaemonProcess:
        made.append(DaemonProcess(tmp_path, bundle or painted_bundles["ov-fp32"], body, **options))
        return made[-1]

    yield make
    for each in made:
        each.kill()


@pytest.fixture
def rtsp() -> Iterator[RtspCamera]:
    camera = RtspCamera()
    camera.start()
    yield camera
    camera.kill()


def watching(camera: RtspCamera) -> str:
    return f'[[cameras]]\nname = "gate"\nsource = "{camera.url}"\n'


def lines_of(folder: Path, pattern: str = "*.jsonl") -> list[dict[str, Any]]:
    """Of all completed segments, each of which must be whole."""
    return [
        json.loads(line)
        for path in sorted(folder.rglob(pattern))
        if not path.name.startswith(".")
        for line in path.read_text().splitlines()
    ]


@pytest.mark.needs("rtsp-server")
def test_a_camera_that_is_killed_and_comes_back_disturbs_no_other(daemon: Callable[..., DaemonProcess], rtsp: RtspCamera) -> None:
    with daemon(PATTERN + watching(rtsp)) as ours:
        rtsp.kill()
        lost_s = until(lambda: ours.camera("gate")["condition"] == "lost", "the loss is noticed")
        assert "gate: lost" in ours.refused("/readyz", "GET", b"")[1]["error"]
        ours.moves("hall")
        rtsp.start("320x240")
        back_s = until(ours.is_ready, "the camera is back")
        gate = ours.camera("gate")
        assert gate["size_wh"] == [320, 240] and gate["reconnections"] >= 1
        assert ours.camera("hall")["reconnections"] == 0
    tell("camera killed and back", noticed_s=lost_s, healthy_s=back_s)


@pytest.mark.needs("rtsp-server")
def test_a_camera_that_hangs_is_opened_anew(daemon: Callable[..., DaemonProcess], rtsp: RtspCamera) -> None:
    with daemon(PATTERN + watching(rtsp)) as ours:
        rtsp.send(signal.SIGSTOP)
        lost_s = until(lambda: ours.camera("gate")["reconnections"] >= 1, "the connection is given up")
        ours.moves("hall")
        rtsp.send(signal.SIGCONT)
        back_s = until(ours.is_ready, "the camera is back")
    tell("RTSP server frozen", noticed_s=lost_s, healthy_s=back_s)


def test_a_camera_that_is_not_there_at_first_is_waited_for(daemon: Callable[..., DaemonProcess], tmp_path: Path) -> None:
    ours = daemon(PATTERN + f'[[cameras]]\nname = "late"\nsource = "{tmp_path / "late.png"}"\nrequired = false\n')
    ours.start()
    assert ours.camera("late")["condition"] == "connecting" and "no such file" in ours.camera("late")["reason"]
    import cv2
    import painted_people

    cv2.imwrite(str(tmp_path / "late.png"), painted_people.painted_pictures(1)[0])
    until(lambda: ours.camera("late")["condition"] == "live", "the file is found")


def test_a_kill_tears_no_segment_and_costs_the_open_one_at_most(daemon: Callable[..., DaemonProcess], tmp_path: Path) -> None:
    recording = '[recording]\nfolder = "rec"\nsegment_s = 2\n'
    ours = daemon(PATTERN + recording)
    ours.start()
    until(lambda: len([p for p in (tmp_path / "rec").rglob("*.jsonl") if not p.name.startswith(".")]) >= 1, "a segment is complete")
    given = ours.results("hall")
    ours.kill()
    again_s = ours.start()
    ours.terminate()
    indices = [line["index"] for line in lines_of(tmp_path / "rec")]
    again = next(place for place in range(1, len(indices)) if indices[place] < indices[place - 1])
    first_run = indices[:again]
    assert first_run == sorted(set(first_run)), "no line twice, none torn"
    lost = max(0, given - len(first_run))
    assert lost <= 2 * 20 + 5, "at most the open segment"
    tell("SIGKILL and restart", healthy_s=again_s, results_given=given, results_lost=lost)


def test_an_end_under_load_is_quick_and_leaves_complete_files(daemon: Callable[..., DaemonProcess], tmp_path: Path) -> None:
    ours = daemon(PATTERN + DOOR + '[recording]\nfolder = "rec"\n')
    ours.start()
    ours.moves("door")
    took_s = ours.terminate()
    assert took_s < 5
    hidden = [path for path in (tmp_path / "rec").rglob(".*") if path.suffix != ".lock"]
    indices = {name: [line["index"] for line in lines_of(tmp_path / "rec" / name)] for name in ("hall", "door")}
    assert not hidden and all(found and found == sorted(set(found)) for found in indices.values())
    tell("SIGTERM under load", ended_s=took_s, torn_files=len(hidden))


def test_a_reload_touches_what_changed_and_nothing_else(daemon: Callable[..., DaemonProcess]) -> None:
    with daemon(PATTERN + DOOR) as ours:
        before = ours.camera("hall")
        new = ours.configure(PATTERN + DOOR.replace("seed=1", "seed=2") + '[[cameras]]\nname = "roof"\nsource = "test:pattern?fps=10"\n')
        began = time.monotonic()
        report = ours.ask("/api/config", "PUT", new.encode())
        took_s = time.monotonic() - began
        assert report["applied"] and report["changes"] == ["camera door: opened anew", "camera roof: added"]
        ours.moves("hall")
        loss = lost(before, ours.camera("hall"))
        assert loss["frames_unaccounted_for"] == 0
        assert ours.config.read_text() == new
        assert [camera["name"] for camera in ours.ask("/api/cameras")] == ["hall", "door", "roof"]
    tell("reload, good", healthy_s=took_s, **loss)


def test_a_reload_that_is_not_valid_changes_nothing(daemon: Callable[..., DaemonProcess]) -> None:
    with daemon(PATTERN) as ours:
        text = ours.config.read_text()
        status, answer = ours.refused("/api/config", "PUT", (text + "[sever]\nport = 1\n").encode())
        assert status == 422 and "unknown key 'sever' (did you mean 'server'?)" in answer["error"]
        ours.config.write_text("this is no TOML")
        ours.send(signal.SIGHUP)
        until(lambda: "reload refused" in ours.log.read_text(), "SIGHUP is refused")
        ours.moves("hall")
        ours.config.write_text(text)


def test_a_reload_that_does_not_become_healthy_is_rolled_back(daemon: Callable[..., DaemonProcess]) -> None:
    with daemon(PATTERN + DOOR) as ours:
        text = ours.config.read_text()
        before = ours.camera("hall")
        broken = text.replace("test:pattern?width=320&height=180&fps=20&seed=1", "rtsp://127.0.0.1:9/nobody")
        began = time.monotonic()
        status, answer = ours.refused("/api/config", "PUT", broken.encode())
        took_s = time.monotonic() - began
        assert status == 409 and "camera door" in json.dumps(answer)
        assert ours.config.read_text() == text and ours.camera("hall")["results"] > before["results"]
        healthy_s = until(ours.is_ready, "as before")
        loss = lost(before, ours.camera("hall"))
        assert loss["frames_unaccounted_for"] == 0
    tell("reload, bad: a camera that is not there", refused_after_s=took_s, healthy_s=healthy_s, **loss)


def test_a_reload_goes_through_while_a_camera_is_down(daemon: Callable[..., DaemonProcess], painted_pictures: list[Path]) -> None:
    shown = painted_pictures[0].parent / "shown.png"
    shutil.copy(painted_pictures[0], shown)
    dead = f'[[cameras]]\nname = "dead"\nsource = "{shown}"\n'
    with daemon(PATTERN + dead) as ours:
        shown.unlink()
        until(lambda: ours.camera("dead")["condition"] == "lost", "the camera is down")
        new = ours.configure(PATTERN + dead + DOOR)
        report = ours.ask("/api/config", "PUT", new.encode())
        assert report["applied"] and report["changes"] == ["camera door: added"]


def test_a_torn_bundle_is_refused_and_the_engine_goes_on(
    daemon: Callable[..., DaemonProcess], painted_bundles: Bundles, tmp_path: Path
) -> None:
    bundle = tmp_path / "net.pose"
    shutil.copytree(painted_bundles["ov-fp32"], bundle)
    with daemon(PATTERN, bundle) as ours:
        weights = next(bundle.glob("*.bin"))
        whole = weights.read_bytes()
        weights.write_bytes(whole[: len(whole) // 2])
        before = ours.camera("hall")
        status, answer = ours.refused("/api/config", "PUT", ours.config.read_text().encode())
        assert status == 409 and "net.pose" in json.dumps(answer)
        ours.moves("hall")
        loss = lost(before, ours.camera("hall"))
        assert loss["frames_unaccounted_for"] == 0
        weights.write_bytes(whole)
        report = ours.ask("/api/config", "PUT", ours.config.read_text().encode())
        assert report["applied"] and "engine: opened anew" in report["changes"][0]
        ours.moves("hall")
    tell("bundle torn during reload", **loss)


FAILING = """
import sys, threading
from edgepose.engines import openvino_
from edgepose.engines.errors import InferenceFailed
from edgepose.runtime.daemon.cli import main
waited, real = [0], openvino_.OpenVinoSlot.wait

def wait(self):
    waited[0] += 1
    if waited[0] == 60:
        real(self)
        raise InferenceFailed("injected: the device was lost")
    return real(self)

openvino_.OpenVinoSlot.wait = wait
main()
"""


def test_an_engine_that_fails_is_opened_anew(daemon: Callable[..., DaemonProcess]) -> None:
    ours = daemon(PATTERN, program=FAILING)
    ours.start()
    until(lambda: ours.service("engine")["failures"] == 1, "the failure")
    healthy_s = ours.moves("hall")
    assert "injected: the device was lost" in ours.log.read_text()
    hall = ours.camera("hall")
    assert hall["reconnections"] == 0
    tell("engine error injected", healthy_s=healthy_s, frames_lost=hall["captured"] - hall["dropped"] - hall["results"])


def test_a_hook_that_throws_or_never_returns_does_no_harm(daemon: Callable[..., DaemonProcess], tmp_path: Path) -> None:
    hook = tmp_path / "hook.py"
    hook.write_text("def on_poses(camera, poses):\n    raise ZeroDivisionError('mine')\n")
    with daemon(PATTERN + f'[hook]\nfile = "{hook}"\ntimeout_s = 0.5\n') as ours:
        before = ours.camera("hall")
        until(lambda: ours.service("hook")["exceptions"] > 2, "the hook throws")
        assert "ZeroDivisionError" in ours.log.read_text()
        hook.write_text("def on_poses(camera, poses):\n    while True: pass\n")
        assert ours.ask("/api/config", "PUT", ours.config.read_text().encode())["applied"]
        until(lambda: ours.service("hook")["timeouts"] >= 1, "the hook is ended")
        fps = ours.camera("hall")["fps"]
        ours.moves("hall")
        hall = ours.camera("hall")
    tell("hook that throws, hook that never returns", camera_fps=fps, **lost(before, hall))


def test_two_hundred_clients_a_quarter_of_which_never_read(daemon: Callable[..., DaemonProcess]) -> None:
    from websockets.sync.client import connect

    with daemon(PATTERN) as ours, ExitStack() as stack:
        url = f"ws://127.0.0.1:{ours.port}/api/poses/stream"
        clients = [stack.enter_context(connect(url, open_timeout=30, close_timeout=0.1)) for _ in range(200)]
        before_mib, began = ours.usage()[0], time.monotonic()
        while time.monotonic() - began < 6:
            for client in clients[50:]:
                client.recv(timeout=10)
        fps, after_mib = ours.camera("hall")["fps"], ours.usage()[0]
        assert fps > 10
        assert after_mib - before_mib < 40
        ours.moves("hall")
    tell("200 WebSocket clients, 50 never read", camera_fps=fps, memory_growth_mib=round(after_mib - before_mib, 1))


@pytest.mark.needs("mosquitto")
def test_a_broker_that_goes_away_loses_no_event(daemon: Callable[..., DaemonProcess], tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    hook = tmp_path / "hook.py"
    hook.write_text("def on_poses(camera, poses):\n    return [{'kind': 'tick'}]\n")
    away_s = float(os.environ.get("EDGEPOSE_BROKER_AWAY_S", "3"))
    broker.start()
    try:
        with daemon(PATTERN + f'[mqtt]\nhost = "127.0.0.1"\nport = {broker.port}\nbuffer = 10000\n[hook]\nfile = "{hook}"\n') as ours:
            until(lambda: ours.service("mqtt")["connected"], "connected")
            until(lambda: ours.service("mqtt")["delivered"] > 5, "events arrive")
            broker.stop(signal.SIGKILL)
            until(lambda: not ours.service("mqtt")["connected"], "the loss is noticed")
            began = time.monotonic()
            while time.monotonic() - began < away_s:
                ours.moves("hall")
            broker.start()
            back_s = until(lambda: ours.service("mqtt")["connected"], "connected again", 90)
            published = ours.service("hook")["published"]
            until(lambda: ours.service("mqtt")["delivered"] >= published, "all events of that time are delivered")
            dropped = ours.service("mqtt")["dropped"]
            assert dropped == 0
        tell("MQTT broker down and back", away_s=away_s, healthy_s=back_s, events_delivered=published, events_lost=dropped)
    finally:
        broker.stop()


@pytest.mark.needs("tmpfs")
def test_a_full_disk_pauses_the_recording_and_nothing_else(daemon: Callable[..., DaemonProcess], tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={BOX}", "tmpfs", str(disk)], check=True)
    try:
        with daemon(PATTERN + f'[recording]\nfolder = "{disk}/rec"\nsegment_s = 2\n') as ours:
            (disk / "ballast").write_bytes(b"x" * (BOX - 40_000 - sum(p.stat().st_size for p in disk.rglob("*") if p.is_file())))
            until(lambda: not ours.service("recording")["recording"], "the full disk is noticed")
            ours.moves("hall")
            (disk / "ballast").unlink()
            back_s = until(lambda: ours.service("recording")["recording"], "the recording goes on")
            lost = ours.service("recording")["lost"]
            ours.terminate()
        lines_of(disk / "rec")
        tell("disk full", healthy_s=back_s, results_not_recorded=lost)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_clock_that_jumps_back_breaks_nothing(daemon: Callable[..., DaemonProcess], tmp_path: Path) -> None:
    """The time of day that the daemon is told, see tests/shifted_clock.cpp."""
    compiler, library, offset = shutil.which("c++"), tmp_path / "clock.so", tmp_path / "offset"
    if compiler is None:
        pytest.skip("no C++ compiler")
    source = Path(__file__).resolve().parents[2] / "shifted_clock.cpp"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-Wall", "-Werror", str(source), "-o", str(library)], check=True)
    offset.write_text("0")
    lies = {"LD_PRELOAD": str(library), "CLOCK_SHIFT": str(offset)}
    ours = daemon(PATTERN + '[recording]\nfolder = "rec"\nsegment_s = 1\n', environment=lies)
    ours.start()
    folder = tmp_path / "rec" / "hall"
    until(lambda: len(list(folder.glob("[0-9]*.jsonl"))) >= 2, "segments are complete")
    before = ours.camera("hall")
    offset.write_text("-10800")
    healthy_s = ours.moves("hall")
    assert ours.camera("hall")["last_at_s"] < before["last_at_s"] - 3600
    ours.moves("hall")
    ours.terminate()
    indices = sorted(line["index"] for line in lines_of(folder, "[0-9]*.jsonl"))
    assert indices == sorted(set(indices)), "nothing is written twice"
    tell("clock jumping three hours back", healthy_s=healthy_s, results_written=len(indices), frames_captured=indices[-1] + 1)


SLOW_TO_OPEN = """
import sys, time
from pathlib import Path
from edgepose.runtime.daemon import daemon
from edgepose.runtime.daemon.cli import main
opened, real = [], daemon.open_engine

def open_engine(*arguments, **options):
    opened.append(1)
    if len(opened) > 1:
        Path(sys.argv[-1]).with_name("opening").touch()
        time.sleep(3)
    return real(*arguments, **options)

daemon.open_engine = open_engine
main()
"""


def test_an_end_while_another_engine_is_opened_is_quick(daemon: Callable[..., DaemonProcess], tmp_path: Path) -> None:
    """A plan for TensorRT takes minutes."""
    ours = daemon(PATTERN, program=SLOW_TO_OPEN)
    ours.start()
    tried = "slots = 2\n" + ours.config.read_text()

    def put() -> None:
        with suppress(OSError):  # the connection ends with the daemon
            ours.ask("/api/config", "PUT", tried.encode())

    request = Thread(target=put)
    request.start()
    until((tmp_path / "opening").exists, "the engine is being opened")
    assert ours.terminate() < 5
    request.join(PATIENCE_S)
    assert not request.is_alive() and ours.config.read_text() != tried


ASKED_EARLY = """
import os, signal
from edgepose.runtime.daemon import daemon
from edgepose.runtime.daemon.cli import main
real = daemon.open_engine

def open_engine(*arguments, **options):
    os.kill(os.getpid(), signal.SIGHUP)
    return real(*arguments, **options)

daemon.open_engine = open_engine
main()
"""


def test_a_reload_that_is_asked_for_while_the_engine_is_opened_comes_after(daemon: Callable[..., DaemonProcess]) -> None:
    ours = daemon(PATTERN, program=ASKED_EARLY)
    ours.start()
    until(lambda: "reload: nothing changed" in ours.log.read_text(), "a reload")
    ours.terminate()
