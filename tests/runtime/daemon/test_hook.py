"""A user's file runs in its own process, and nothing that it does reaches ours."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from camera_results import EPOCH_S, camera_result, poses_of, result_of

from edgepose.engines.errors import ConfigError
from edgepose.engines.skeleton import COCO18
from edgepose.runtime.daemon import hook
from edgepose.runtime.daemon.camera_result import CameraResult
from edgepose.runtime.daemon.event import Event
from edgepose.runtime.daemon.hook import HookProcess
from edgepose.runtime.daemon.hook_settings import HookSettings
from edgepose.runtime.daemon.hub import Hub, Subscription

ROOT = Path(__file__).resolve().parents[3]
PATIENCE_S = 15.0


class Bench:
    """A hook with its hubs."""

    def __init__(self, settings: HookSettings) -> None:
        self.results, self.hub = Hub[CameraResult](), Hub[Event]()
        self.events: Subscription[Event] = self.hub.subscribe("test", 1000)
        self.process = HookProcess(settings, COCO18, self.results, self.hub)

    def give(self, *results: CameraResult) -> None:
        for result in results:
            self.results.publish(result)

    def event(self) -> Event:
        event = self.events.get(PATIENCE_S)
        assert event is not None, self.process.status()
        return event

    def until(self, holds: Callable[[dict[str, object]], bool]) -> dict[str, object]:
        return wait_until(self.process.status, holds)

    def ready(self) -> None:
        """The process runs, and takes what is given from now on."""
        self.until(lambda status: status["pid"] is not None)


def wait_until(look: Callable[[], dict[str, object]], holds: Callable[[dict[str, object]], bool]) -> dict[str, object]:
    until = time.monotonic() + PATIENCE_S
    while not holds(seen := look()):
        assert time.monotonic() < until, seen
        time.sleep(0.01)
    return seen


@contextmanager
def hooked(tmp_path: Path, code: str, **settings: object) -> Iterator[Bench]:
    file = tmp_path / "hook.py"
    file.write_text(code)
    bench = Bench(HookSettings.parse({"file": file, **settings}, "hook"))
    bench.process.start()
    try:
        yield bench
    finally:
        began = time.monotonic()
        bench.process.stop(5)
        assert time.monotonic() - began < 4
        assert not bench.process._thread.is_alive()


def feed(bench: Bench, count: int = 1, first: int = 0) -> None:
    """Until one more call is made than before: what comes while the process starts is skipped."""
    calls = bench.process.status()["calls"]
    until = time.monotonic() + PATIENCE_S
    while bench.process.status()["calls"] == calls:
        assert time.monotonic() < until, bench.process.status()
        bench.give(*(camera_result(index=first + i) for i in range(count)))
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hook, "_PAUSES_S", (0.05, 0.1))


def test_what_the_hook_returns_becomes_events_of_that_camera_and_time(tmp_path: Path) -> None:
    code = "def on_poses(camera, poses):\n    return [{'kind': 'seen', 'count': len(poses['people']), 'detail': {'size': poses['size']}}]\n"
    with hooked(tmp_path, code) as bench:
        feed(bench, first=7)
        event = bench.event()
    assert (event.camera, event.kind, event.state, event.count) == ("door", "seen", "happened", 1)
    assert event.at_s == pytest.approx(EPOCH_S + 0.7, abs=0.01)
    assert event.detail == {"size": [640, 360]}


def test_keypoints_come_by_name_and_absent_ones_do_not(tmp_path: Path) -> None:
    code = "def on_poses(camera, poses):\n    yield {'kind': 'k', 'detail': {'points': poses['people'][0]['keypoints']}}\n"
    with hooked(tmp_path, code) as bench:
        person = {"nose": (10.0, 20.0), "left_wrist": (5.5, 6.5)}
        until = time.monotonic() + PATIENCE_S
        while (event := bench.events.get(0.05)) is None:
            assert time.monotonic() < until
            bench.give(result_of(poses_of([person])))
    assert event.detail["points"] == {"nose": [10.0, 20.0, 0.9], "left_wrist": [5.5, 6.5, 0.9]}


def test_on_start_gets_the_skeleton_and_prints_go_to_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    code = (
        "import os\n"
        "def on_start(s):\n    print('start', s['skeleton'], len(s['keypoints']))\n    os.write(1, b'raw\\n')\n"
        "def on_poses(c, p):\n    return [{'kind': 'ok'}]\n"
    )
    with caplog.at_level(logging.INFO), hooked(tmp_path, code) as bench:
        feed(bench)
        assert bench.event().kind == "ok"
    assert "hook: start coco18 18" in caplog.text and "hook: raw" in caplog.text


def test_an_exception_is_told_with_the_users_traceback_and_the_next_call_comes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    code = "def on_poses(camera, poses):\n    if poses['index'] % 2 == 0:\n        raise KeyError('oh no')\n    return [{'kind': 'odd'}]\n"
    with hooked(tmp_path, code) as bench:
        feed(bench, 2)
        assert bench.event().kind == "odd"
        status = bench.until(lambda s: bool(s["exceptions"]))
        assert status["restarts"] == 0
    assert "KeyError: 'oh no'" in caplog.text and 'hook.py", line 3, in on_poses' in caplog.text
    assert "hook_host" not in caplog.text


def test_a_hook_that_never_returns_is_killed_and_started_anew(tmp_path: Path) -> None:
    code = "def on_poses(camera, poses):\n    while poses['index'] == 0:\n        pass\n    return [{'kind': 'ok'}]\n"
    with hooked(tmp_path, code, timeout_s=0.3) as bench:
        feed(bench)
        first = bench.until(lambda s: s["timeouts"] == 1)
        assert "no answer within 0.3 s" in str(first["last_error"])
        feed(bench, first=1)
        assert bench.event().kind == "ok"
        assert bench.process.status()["restarts"] == 1


@pytest.mark.parametrize(
    ("crash", "told"),
    [
        ("import sys; sys.exit(3)", "ended itself with status 3"),
        ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
        ("import os; os._exit(0)", "ended itself with status 0"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", "SIGTERM"),
    ],
)
def test_a_hook_that_ends_its_process_is_started_anew(tmp_path: Path, crash: str, told: str) -> None:
    code = f"def on_poses(camera, poses):\n    if poses['index'] == 0:\n        {crash}\n    return [{{'kind': 'ok'}}]\n"
    with hooked(tmp_path, code) as bench:
        feed(bench)
        assert told in str(bench.until(lambda s: bool(s["last_error"]))["last_error"])
        feed(bench, first=1)
        assert bench.event().kind == "ok"
        assert bench.process.status()["timeouts"] == 0


def test_a_hook_that_wants_too_much_memory_gets_a_memory_error(tmp_path: Path) -> None:
    code = "def on_poses(camera, poses):\n    if poses['index'] == 0:\n        bytearray(2**30)\n    return [{'kind': 'ok'}]\n"
    with hooked(tmp_path, code, memory_mb=256) as bench:
        feed(bench)
        assert "MemoryError" in str(bench.until(lambda s: bool(s["exceptions"]))["last_error"])
        feed(bench, first=1)
        assert bench.event().kind == "ok"


def test_a_slow_hook_gets_the_newest_and_the_rest_is_counted(tmp_path: Path) -> None:
    code = "import time\ndef on_poses(camera, poses):\n    time.sleep(0.05)\n    yield {'kind': 'seen', 'count': poses['index']}\n"
    with hooked(tmp_path, code, depth=2) as bench:
        feed(bench)
        began = time.monotonic()
        bench.give(*(camera_result(index=i) for i in range(100, 200)))
        assert time.monotonic() - began < 0.5, "publishing waits for nobody"
        seen = [bench.event().count]
        while seen[-1] != 199:
            seen.append(bench.event().count)
        assert 198 in seen and len([index for index in seen if index is not None and index >= 100]) <= 4
        dropped = bench.process.status()["dropped"]
        assert isinstance(dropped, int) and dropped >= 96


def nested(depth: int) -> str:
    return f"{{'kind': 'x', 'detail': __import__('functools').reduce(lambda d, _: {{'d': d}}, range({depth}), {{}})}}"


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        ("[{'kind': 'no spaces please'}]", "kind"),
        ("[{'knd': 'x', 'kind': 'y'}]", "did you mean 'kind'"),
        ("['fall']", "none"),
        ("[{'kind': 'x', 'detail': {'o': object()}}]", "cannot be part of an event"),
        ("7", "not iterable"),
        ("[{'kind': 'x', 'detail': {'v': float('nan')}}]", "not JSON compliant"),
        ("[{'kind': 'x', 'detail': {'t': '\\ud83d'}}]", "surrogates not allowed"),
        ("(_ for _ in ()).throw(ValueError('half \\ud83d'))", "ValueError: half \\ud83d"),
        (f"[{nested(300)}]", "cannot be told on"),
        (f"[{nested(700)}]", "cannot be told on"),
        (f"__import__('sys').setrecursionlimit(9000) or [{nested(1100)}]", "no JSON"),
    ],
)
def test_what_is_no_event_is_said_and_not_published(tmp_path: Path, returned: str, told: str) -> None:
    code = f"def on_poses(camera, poses):\n    return {returned} if poses['index'] == 0 else [{{'kind': 'ok'}}]\n"
    with hooked(tmp_path, code) as bench:
        feed(bench)
        assert told in str(bench.until(lambda s: bool(s["exceptions"]))["last_error"])
        feed(bench, first=1)
        assert bench.event().kind == "ok"
        assert bench.process.status()["restarts"] == 0


def test_events_beyond_the_hundredth_of_a_call_are_counted_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    code = "def on_poses(c, p):\n    return [{'kind': 'many'}] * 250 if p['index'] == 0 else []\n"
    with hooked(tmp_path, code) as bench:
        feed(bench)
        status = bench.until(lambda s: bool(s["left_out"]))
        calls = 250 * (int(str(status["published"])) // 100)
        assert status["published"] == calls * 2 // 5 and status["left_out"] == calls * 3 // 5
    assert caplog.text.count("more than 100 events in one call") == 1


def test_secrets_in_a_traceback_are_not_in_the_status(tmp_path: Path) -> None:
    code = "def on_poses(c, p):\n    raise OSError('https://bot:hunter2@chat.example/?token=abcdef failed: Bearer abcdefgh12345678')\n"
    with hooked(tmp_path, code) as bench:
        feed(bench)
        told = str(bench.until(lambda s: bool(s["exceptions"]))["last_error"])
    assert "OSError" in told and not any(secret in told for secret in ("hunter2", "abcdef"))


def test_numpy_in_events_is_taken(tmp_path: Path) -> None:
    code = "import numpy as np\ndef on_poses(c, p):\n    return [{'kind': 'n', 'count': np.int64(3), 'detail': {'a': np.arange(2)}}]\n"
    with hooked(tmp_path, code) as bench:
        feed(bench)
        event = bench.event()
    assert (event.count, event.detail) == (3, {"a": [0, 1]})


def test_a_file_without_the_function_is_said_and_tried_again_when_it_is_reloaded(tmp_path: Path) -> None:
    with hooked(tmp_path, "x = 1\n") as bench:
        assert "no function on_poses" in str(bench.until(lambda s: bool(s["last_error"]))["last_error"])
        (tmp_path / "hook.py").write_text("def on_poses(c, p):\n    return [{'kind': 'new'}]\n")
        bench.process.reload()
        feed(bench)
        assert bench.event().kind == "new"


def test_the_file_is_read_again_on_reload_and_a_broken_one_leaves_the_old_running(tmp_path: Path) -> None:
    with hooked(tmp_path, "def on_poses(c, p):\n    return [{'kind': 'old'}]\n") as bench:
        feed(bench)
        assert bench.event().kind == "old"
        (tmp_path / "hook.py").write_text("def on_poses(c, p:\n")
        with pytest.raises(ConfigError, match="not Python"):
            bench.process.reload()
        feed(bench)
        assert bench.event().kind == "old"


def test_a_missing_file_is_an_error_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"hook\.file: .*No such file"):
        Bench(HookSettings(file=tmp_path / "gone.py"))


def test_a_hook_that_prints_a_lot_at_once_answers_in_time(tmp_path: Path) -> None:
    code = "import sys\ndef on_poses(camera, poses):\n    sys.stderr.write('x' * 10_000_000)\n    return [{'kind': 'done'}]\n"
    with hooked(tmp_path, code, timeout_s=2) as bench:
        bench.ready()
        feed(bench)
        assert bench.event().kind == "done" and not bench.process.status()["timeouts"]


def test_a_hook_that_prints_without_end_fills_no_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    code = "def on_poses(camera, poses):\n    for i in range(20000):\n        print('noise', i)\n    return [{'kind': 'done'}]\n"
    with caplog.at_level(logging.INFO), hooked(tmp_path, code) as bench:
        feed(bench)
        assert bench.event().kind == "done"
    assert caplog.text.count("noise") <= 500


def test_the_users_children_end_with_it(tmp_path: Path) -> None:
    code = (
        "import subprocess\n"
        "def on_poses(c, p):\n"
        "    child = subprocess.Popen(['sleep', '600'])\n"
        "    yield {'kind': 'child', 'count': child.pid}\n"
    )
    with hooked(tmp_path, code) as bench:
        feed(bench)
        pid = bench.event().count
        assert pid is not None
    wait_until(lambda: {"alive": _alive(pid)}, lambda seen: not seen["alive"])


DAEMON = """
import sys, threading
sys.path.insert(0, {tests!r})
from camera_results import camera_result
from edgepose.engines.skeleton import COCO18
from edgepose.runtime.daemon.hook import HookProcess
from edgepose.runtime.daemon.hook_settings import HookSettings
from edgepose.runtime.daemon.hub import Hub
results = Hub()
process = HookProcess(HookSettings(file={file!r}, timeout_s=600), COCO18, results, Hub())
process.start()
while not process.status()["calls"]:
    results.publish(camera_result())
    threading.Event().wait(0.02)
print(process.status()["pid"], flush=True)
threading.Event().wait()
"""


@pytest.mark.parametrize("body", ["    while True:\n        pass\n", "    return None\n"], ids=["busy", "idle"])
def test_the_hook_dies_with_a_daemon_that_is_killed(tmp_path: Path, body: str) -> None:
    file = tmp_path / "hook.py"
    file.write_text(f"def on_poses(camera, poses):\n{body}")
    daemon = subprocess.Popen(
        [sys.executable, "-c", DAEMON.format(tests=str(ROOT / "tests"), file=str(file))], stdout=subprocess.PIPE, text=True
    )
    with daemon:
        assert daemon.stdout is not None
        pid = int(daemon.stdout.readline())
        assert _alive(pid)
        daemon.send_signal(signal.SIGKILL)
    wait_until(lambda: {"alive": _alive(pid)}, lambda seen: not seen["alive"])


def _alive(pid: int) -> bool:
    """Not there, or dead and not yet buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_the_example_in_deploy_works(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    akimbo = {
        **{"left_shoulder": (130.0, 100.0), "left_elbow": (160.0, 140.0), "left_wrist": (132.0, 165.0), "left_hip": (122.0, 170.0)},
        **{"right_shoulder": (90.0, 100.0), "right_elbow": (60.0, 140.0), "right_wrist": (88.0, 165.0), "right_hip": (98.0, 170.0)},
    }
    relaxed = {**akimbo, "left_wrist": (150.0, 200.0), "right_wrist": (70.0, 200.0)}
    with caplog.at_level(logging.INFO), hooked(tmp_path, (ROOT / "deploy" / "hook_example.py").read_text()) as bench:
        feed(bench)
        bench.give(
            result_of(poses_of([akimbo], ids=[5]), "yard", 0, -60.0), result_of(poses_of([], ids=[]), "yard", 1, -59.0)
        )  # gone again
        frames = [akimbo] * 11 + [relaxed]  # few enough that none is left out
        bench.give(*(result_of(poses_of([person], ids=[5]), "yard", i, i / 10) for i, person in enumerate(frames)))
        started, ended = bench.event(), bench.event()
    assert (started.kind, started.state, started.person, started.camera) == ("hands_on_hips", "started", 5, "yard")
    assert started.at_s == pytest.approx(EPOCH_S + 1.0, abs=0.01)
    assert (ended.state, ended.person) == ("ended", 5) and ended.at_s == pytest.approx(EPOCH_S + 1.1, abs=0.01)
    assert "watching for hands on hips with skeleton coco18" in caplog.text


def test_the_daemons_own_environment_is_not_in_the_way(tmp_path: Path) -> None:
    """Modules beside the hook can be imported; those beside its host, which are called as the standard library's, cannot."""
    (tmp_path / "friend.py").write_text("WORD = 'friend'\n")
    code = "import http.client, friend, os, sys\ndef on_poses(c, p):\n    return [{'kind': friend.WORD, 'count': len(sys.stdin.read())}]\n"
    with hooked(tmp_path, code) as bench:
        feed(bench)
        event = bench.event()
    assert (event.kind, event.count) == ("friend", 0)
    assert os.getpid() != bench.process.status()["pid"]
