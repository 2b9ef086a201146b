"""The README's commands do what it says, in a folder that holds what it assumes."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import urllib.request
from pathlib import Path

from daemon_process import until
from demo_photograph import write_labels
from ports import free_port

from edgepose.benchmarks import demo

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def commands(program: str) -> list[list[str]]:
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL)).replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in blocks.splitlines() if line.split(" ")[0] == program]


def test_the_commands_run_as_they_stand(tmp_path: Path) -> None:
    """With what the project and its dependencies bring, and nothing else."""
    demo.write(tmp_path)
    (tmp_path / "clip.mp4").rename(tmp_path / "video.mp4")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "photo.jpg").symlink_to(tmp_path / "photo.jpg")
    write_labels(tmp_path / "val.json", "photo.jpg")
    todo = [*commands("pose-export"), *commands("pose-run"), *commands("pose-bench")]
    assert len(todo) == 5
    environment = {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    for command in todo:
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"
    written = {str(p.relative_to(tmp_path / "poses")) for p in (tmp_path / "poses").iterdir()}
    assert written == {"photo.jpg", "video.mp4", "openpose", "coco_results.json"}
    (command,) = commands("pose-daemon")
    watch_for_a_while(command, tmp_path, environment)


def watch_for_a_while(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    """Until the daemon says that both cameras give results, at another port than the usual, which may be taken."""
    port = free_port()

    def is_ready() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10):
                return True
        except OSError:
            return False

    with subprocess.Popen(command, cwd=folder, env={**environment, "EDGEPOSE_SERVER_PORT": str(port)}) as daemon:
        try:
            until(is_ready, "the daemon is ready")
        finally:
            daemon.terminate()
    assert daemon.returncode == 0


def test_make_knows_every_target_and_every_link_leads_somewhere() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`?make (\w+)", README):
        assert f"\n{target}:" in makefile, target
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / link).exists(), link
    for results in re.findall(r"`(benchmarks/results/[^`]+)`", README):
        assert (ROOT / results).is_file(), results
