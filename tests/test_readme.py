"""The README's commands do what it says, in a folder that holds what it assumes."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def commands(program: str) -> list[list[str]]:
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL)).replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in blocks.splitlines() if line.split(" ")[0] == program]


def test_the_commands_run_as_they_stand(assets: Path, tmp_path: Path) -> None:
    (tmp_path / "human-pose-estimation-0001.pth").symlink_to(assets / "weights" / "human-pose-estimation-0001.pth")
    (tmp_path / "val.json").symlink_to(assets / "coco" / "val.json")
    (tmp_path / "photos").symlink_to(assets / "coco" / "val")
    (tmp_path / "photo.jpg").symlink_to(assets / "coco" / "val" / "000000009590.jpg")
    (tmp_path / "video.mp4").symlink_to(assets / "video" / "single_360x360.mp4")
    todo = [*commands("pose-export"), *commands("pose-run"), *commands("pose-bench")]
    assert len(todo) == 5
    for command in todo:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        done = subprocess.run(command, cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"
    written = {str(p.relative_to(tmp_path / "poses")) for p in (tmp_path / "poses").iterdir()}
    assert written == {"photo.jpg", "video.mp4", "openpose", "coco_results.json"}


def test_make_knows_every_target_and_every_link_leads_somewhere() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`?make (\w+)", README):
        assert f"\n{target}:" in makefile, target
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / link).exists(), link
    for results in re.findall(r"`(benchmarks/results/[^`]+)`", README):
        assert (ROOT / results).is_file(), results
