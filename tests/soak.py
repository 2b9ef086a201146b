"""Minutes of a real daemon: four cameras, a page open in Chromium, MQTT on, a reload every minute; what grows, and whether counters agree.

    python tests/soak.py BUNDLE --minutes 30 --out daemon-soak.json

Wants mosquitto and chromium; status 1 where something grows or does not agree.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from daemon_process import DaemonProcess, until
from mqtt_broker import Broker
from scipy.stats import linregress

_CAMERA = """[[cameras]]
name = "camera{0}"
source = "test:pattern?width=640&height=360&fps={1}&seed={0}"
[[cameras.events]]
kind = "presence"
"""
_FPS = 5
_SETTLED = 0.2
"""The share of the time after which what is loaded and pooled at first is there."""


@dataclass(frozen=True)
class Look:
    minute: float
    cameras: int
    memory_mib: float
    descriptors: int
    threads: int
    results: int
    fps: float


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--reload-s", type=float, default=60, help="how often it is reloaded")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgepose-soak-") as folder:
        report = _soak(Path(folder), asked.bundle.absolute(), asked.minutes, asked.reload_s / 60)
    asked.out.write_text(json.dumps(report, indent=1) + "\n")
    print({key: value for key, value in report.items() if key != "looks"})  # noqa: T201
    sys.exit(1 if report["problems"] else 0)


def _body(broker: int, turn: int) -> str:
    """Every other time one camera more, and another threshold."""
    cameras = "".join(_CAMERA.format(index, _FPS) for index in range(4 + turn % 2))
    recording = '[recording]\nfolder = "rec"\nsegment_s = 30\nquota_mb = 20\n'
    return f'[pose]\nthreshold = {0.07 + 0.01 * (turn % 3)}\n{cameras}[mqtt]\nhost = "127.0.0.1"\nport = {broker}\n{recording}'


def _soak(folder: Path, bundle: Path, minutes: float, reload_minutes: float) -> dict[str, Any]:
    broker = Broker(folder)
    broker.start()
    browser: subprocess.Popen[bytes] | None = None
    looks: list[Look] = []
    try:
        with DaemonProcess(folder, bundle, _body(broker.port, 0)) as daemon:
            browser = _browser(daemon.port, folder)
            until(lambda: daemon.service("http")["streams"] >= 1, "the page is open")
            _warm_up(daemon)
            began, turn = time.monotonic(), 0
            while (minute := (time.monotonic() - began) / 60) < minutes:
                if minute >= (turn + 1) * reload_minutes:
                    turn += 1
                    _reload(daemon, broker.port, turn)
                looks.append(_look(daemon, minute))
                time.sleep(2)
            if turn % 2:
                _reload(daemon, broker.port, turn + 1)
            cameras, status = daemon.ask("/api/cameras"), daemon.ask("/api/status")["services"]
            page_open = browser.poll() is None
            ended_s = daemon.terminate()
        return _report(looks, cameras, status, page_open, ended_s, turn)
    finally:
        if browser is not None:
            browser.kill()
            browser.wait()
        broker.stop()


def _warm_up(daemon: DaemonProcess) -> None:
    """Has the server's pools start the threads that they will ever have."""
    with ThreadPoolExecutor(32) as many:
        list(many.map(daemon.ask, ["/api/status"] * 200))


def _browser(port: int, folder: Path) -> subprocess.Popen[bytes]:
    command = [
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={folder / 'browser'}",
        "--remote-debugging-port=0",
    ]
    return subprocess.Popen([*command, f"http://127.0.0.1:{port}/"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _reload(daemon: DaemonProcess, broker_port: int, turn: int) -> None:
    text = daemon.configure(_body(broker_port, turn))
    report = daemon.ask("/api/config", "PUT", text.encode())
    assert report["applied"], report


def _look(daemon: DaemonProcess, minute: float) -> Look:
    memory, descriptors, threads = daemon.usage()
    cameras = daemon.ask("/api/cameras")
    return Look(minute, len(cameras), memory, descriptors, threads, sum(c["results"] for c in cameras), sum(c["fps"] for c in cameras))


def _report(looks: list[Look], cameras: list[Any], status: dict[str, Any], page_open: bool, ended_s: float, reloads: int) -> dict[str, Any]:
    """Growth over what is settled, in per cent: of the straight line through the least of each minute with the first cameras alone. What is
    there for a moment, a connection or a picture on its way, is no growth, and neither is a trend that chance gives once in a hundred
    times: descriptors are 16 or 17."""
    settled = [look for look in looks[int(len(looks) * _SETTLED) :] if look.cameras == looks[0].cameras]
    minutes = sorted({int(look.minute) for look in settled if look.minute < int(looks[-1].minute)})

    def growth(key: str) -> dict[str, float]:
        least = [min(getattr(look, key) for look in settled if int(look.minute) == minute) for minute in minutes]
        line = linregress(minutes, least)
        begin = line.intercept + line.slope * minutes[0]
        by_chance = 1.0 if len(set(least)) == 1 else float(line.pvalue)
        return {"percent": round(100 * line.slope * (minutes[-1] - minutes[0]) / begin, 2), "by_chance": round(by_chance, 4)}

    grown = {key: growth(key) for key in ("memory_mib", "descriptors", "threads")}
    problems = [f"{key} grew by {g['percent']} %" for key, g in grown.items() if g["percent"] > 1 and g["by_chance"] < 0.01]
    for camera in cameras:
        inside = camera["captured"] - camera["dropped"] - camera["results"]
        if not 0 <= inside <= 8:
            problems.append(f"{camera['name']}: {inside} frames unaccounted for")
    if status["recording"]["dropped"] or status["mqtt"]["dropped"] or status["events"]["errors"]:
        problems.append("something was dropped or failed: see status")
    if not page_open:
        problems.append("the browser ended")
    return {
        "minutes": round(looks[-1].minute, 1),
        "reloads": reloads,
        "growth": grown,
        "problems": problems,
        "results_per_s": round(median(look.fps for look in settled), 2),
        "ended_s": round(ended_s, 2),
        "cameras": cameras,
        "services": status,
        "looks": [{key: round(value, 2) for key, value in asdict(look).items()} for look in looks],
    }


if __name__ == "__main__":
    main()
