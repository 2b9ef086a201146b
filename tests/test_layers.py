"""The rooms form a line: each imports only rooms to its left, and vendor libraries only where they are needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("engines", "runtime", "calibration", "export", "benchmarks")
VENDORS = frozenset("torch tensorrt openvino onnxruntime onnx onnxsim onnxscript nncf cuda pycuda paho fastapi uvicorn pycocotools".split())
FILES = [(room, path) for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def imported(path: Path) -> Iterator[tuple[str, bool]]:
    """(module, whether the import runs when the file is imported)."""
    tree = ast.parse(path.read_text())
    late = {id(n) for f in ast.walk(tree) if isinstance(f, (ast.FunctionDef, ast.AsyncFunctionDef)) for n in ast.walk(f)}
    late |= {id(n) for f in ast.walk(tree) if isinstance(f, ast.If) and "TYPE_CHECKING" in ast.dump(f.test) for n in ast.walk(f)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) not in late) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from ((f"{node.module}.{alias.name}", id(node) not in late) for alias in node.names)


@pytest.mark.parametrize(("room", "path"), FILES, ids=lambda v: v if isinstance(v, str) else v.name)
def test_a_room_imports_only_rooms_to_its_left(room: str, path: Path) -> None:
    allowed = ROOMS[: ROOMS.index(room) + 1]
    for module, _ in imported(path):
        if module.startswith("edgepose."):
            assert module.split(".")[1] in allowed, f"{path} imports {module}"


# FastAPI builds routes from declarations, so the files that declare them import it; the server's first lines import those in a function.
WITH_VENDORS = [path for room in ("export/networks", "export/distill", "runtime/daemon/http") for path in (ROOT / room).glob("*.py")]
WITHOUT = [f for f in FILES if f[1] not in WITH_VENDORS and f[1].name != "checkpoint.py"]


@pytest.mark.parametrize(("room", "path"), WITHOUT, ids=lambda v: v if isinstance(v, str) else v.name)
def test_vendor_libraries_are_imported_inside_functions(room: str, path: Path) -> None:
    early = {module.split(".")[0] for module, runs in imported(path) if runs}
    assert not early & VENDORS, f"{room}: {path} imports {early & VENDORS} at import time"


def test_every_room_that_stands_is_packaged() -> None:
    packaged = (ROOT / "pyproject.toml").read_text()
    for room in {room for room, _ in FILES}:
        assert f'"edgepose/{room}" = "{room}"' in packaged
        assert (ROOT / room / "py.typed").exists()
        assert (ROOT / ".pkg" / "edgepose" / room).resolve() == ROOT / room


def test_importing_engines_loads_numpy_and_pydantic_and_hardly_a_module_more() -> None:
    """What an import costs is what it loads; a clock would measure the machine."""
    code = "import sys; {}; print(*sys.modules)"

    def loaded(statement: str) -> set[str]:
        command = [sys.executable, "-c", code.format(statement)]
        return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())

    base = "import numpy; from pydantic import BaseModel; type('Model', (BaseModel,), {'__module__': __name__})"
    more = loaded("import edgepose.engines") - loaded(base)
    roots = {module.split(".")[0] for module in more}
    assert roots <= set(sys.stdlib_module_names) | {"edgepose", "numpy"}, roots
    assert len(more) < 40, more


def test_the_daemons_settings_and_server_can_be_imported_without_fastapi() -> None:
    modules = "edgepose.runtime.daemon.config, edgepose.runtime.daemon.http.server"
    command = [sys.executable, "-c", f"import sys, {modules}; print(*sys.modules)"]
    loaded = set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert not loaded & {"fastapi", "starlette", "uvicorn", "prometheus_client", "websockets"}
