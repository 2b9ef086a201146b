"""The parser's core by itself, without Python: see runtime/_native/checks. Sanitizers, NEON and the fuzzer run in `make check-native`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

NATIVE = Path(__file__).resolve().parents[2] / "runtime" / "_native"


@pytest.fixture(scope="module")
def checks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    build = tmp_path_factory.mktemp("native")
    for command in (
        ["cmake", "-S", NATIVE, "-B", build, "-DEDGEPOSE_PYTHON=OFF", "-DEDGEPOSE_CHECKS=ON"],
        ["cmake", "--build", build, "-j2"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return build / "checks"


@pytest.mark.needs("cmake")
@pytest.mark.parametrize("program", ["agreement", "allocation", "threads"])
def test_the_core_passes_its_own_check(checks: Path, program: str) -> None:
    done = subprocess.run([checks / program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
