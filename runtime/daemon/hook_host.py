"""Runs a user's hook file in a process of its own, for `hook.HookProcess`. Started as a program; imports nothing of edgepose.

    python hook_host.py FILE PARENT_PID

JSON Lines on stdin and stdout: in comes `{"settings": ...}`, then `{"n": 1, "result": ...}` one at a time; out goes `{"ready": true}`, then
`{"n": 1, "events": [...]}` or `{"n": 1, "error": TRACEBACK}`. What the user's code prints goes to stderr, and what it reads from stdin is
empty.
"""

import ctypes
import json
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import module_from_spec
from pathlib import Path
from typing import Any, TextIO

_PR_SET_PDEATHSIG = 1
_LIBRARY = __file__
Namespace = dict[str, Any]


def main() -> None:
    file, parent = sys.argv[1], int(sys.argv[2])
    sys.path[0] = str(Path(file).resolve().parent)  # not this folder, which has modules called as the standard library's
    questions, answers = _own_pipes()
    _die_with(parent)
    settings = json.loads(questions.readline())["settings"]
    _be_modest(settings.get("memory_mb"))
    sys.argv = [file]
    on_poses = _loaded(file, settings, answers)
    if on_poses is None:
        raise SystemExit(1)
    _say(answers, {"ready": True})
    for line in questions:
        question = json.loads(line)
        try:
            found = on_poses(question["result"]["camera"], _named(question["result"], settings["keypoints"]))
            _say(answers, {"n": question["n"], "events": list(found or ())})
        except Exception as error:  # the user's: told with the traceback, and the next call comes
            _say(answers, {"n": question["n"], "error": _told(error)})


def _own_pipes() -> tuple[TextIO, TextIO]:
    """stdin and stdout under other numbers, so that neither print nor input, nor a library in C, gets into the protocol."""
    questions, answers = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return questions, answers


def _die_with(parent: int) -> None:
    """However the daemon ends, and whatever the hook is doing then."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        raise SystemExit(1)


def _be_modest(memory_mb: "int | None") -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(5)
    if memory_mb is not None:
        resource.setrlimit(resource.RLIMIT_AS, (memory_mb * 2**20, memory_mb * 2**20))


def _loaded(file: str, settings: Namespace, answers: TextIO) -> "Callable[[str, Namespace], Any] | None":
    try:
        loader = SourceFileLoader("edgepose_hook", file)
        module = module_from_spec(ModuleSpec("edgepose_hook", loader, origin=file))
        module.__file__, sys.modules["edgepose_hook"] = file, module
        loader.exec_module(module)
        on_poses: Callable[[str, Namespace], Any] | None = getattr(module, "on_poses", None)
        on_start = getattr(module, "on_start", None)
        if not callable(on_poses):
            _say(answers, {"fatal": f"{file} has no function on_poses(camera, poses)"})
            return None
        if callable(on_start):
            on_start(settings)
    except Exception as error:
        _say(answers, {"fatal": _told(error)})
        return None
    return on_poses


def _named(result: Namespace, names: "list[str]") -> Namespace:
    """With keypoints by name, those that were found only."""
    for person in result["people"]:
        person["keypoints"] = {name: tuple(xyc) for name, xyc in zip(names, person["keypoints"], strict=True) if xyc is not None}
    return {key: result[key] for key in ("index", "at", "size", "people")}


def _say(answers: TextIO, value: Namespace) -> None:
    line = json.dumps(value, default=_plain, allow_nan=False, ensure_ascii=False)  # whole or not at all
    answers.write(line + "\n")  # a half of a surrogate pair is an error before anything is written
    answers.flush()


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays, tuples' kin."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} {value!r} cannot be part of an event: wanted what JSON has")


def _told(error: BaseException) -> str:
    """The user's part of the traceback."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith((_LIBRARY, "<frozen importlib")):
        trace = trace.tb_next
    text = "".join(traceback.format_exception(type(error), error, trace)).rstrip()
    return text.encode("utf-8", "backslashreplace").decode()  # what stands in it may be what could not be said


if __name__ == "__main__":
    main()
