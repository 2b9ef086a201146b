"""`built_plan`: the plan of a bundle on this machine, found or built.

TensorRT's builder needs more memory than the runtime and gives little of it back, so it runs in a process of its own; one that is killed
for want of memory is an error here, not the end of the program.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import IO

from edgepose.engines.bundle import Bundle
from edgepose.engines.errors import BackendUnavailable, BundleStale, EngineLoadError
from edgepose.engines.gpu import Gpu
from edgepose.engines.target import Precision
from edgepose.engines.tensorrt_.bindings import TensorRt, import_tensorrt
from edgepose.engines.tensorrt_.plan import FOLDER, BuildSettings, Plan, PlanFolder
from edgepose.engines.tensorrt_.plan_from_onnx import plan_from_onnx
from edgepose.engines.user_cache import user_cache

_EXIT = {3: EngineLoadError, 4: BackendUnavailable}
_KEPT_LINES = 3
_ARITHMETIC = {"Int8": "i8", "Half": "f16", "FP16": "f16", "BFloat16": "bf16", "Float": "f32", "FP32": "f32"}
Say = Callable[[str], None]
Tick = Callable[[str, int, int], None]


def built_plan(
    bundle: Bundle,
    tensorrt: TensorRt,
    gpu: Gpu,
    settings: BuildSettings,
    build: bool = True,
    batch: int | None = None,
    say: Say = lambda _: None,
    tick: Tick = lambda *_: None,
) -> Plan:
    """The bundle's plan for this TensorRT and GPU; built where there is none, unless `build` is False.

    With `batch` a plan of other settings will do that takes it: what runs a bundle takes what `pose-build` made. `say` is told why each
    plan that is there cannot be used; `tick` (phase, done, all) while the builder works. Raises BundleStale where nothing fits and nothing
    may be built, EngineLoadError with the builder's last words, SinkError.
    """
    plans = PlanFolder.of(bundle)
    key = plans.key(str(tensorrt), gpu.compute_capability, gpu.name, settings)
    plan, reasons = plans.find(key, batch)
    if plan is not None:
        return plan
    for reason in reasons:
        say(f"not used: {reason}")
    if not build:
        raise BundleStale(
            f"{bundle.path}: no plan for this machine ({'; '.join(reasons) or 'none built yet'}): run pose-build {bundle.path}"
        )
    say(f"{tensorrt} builds {bundle.path.name} for {gpu.name} (compute capability {gpu.compute_capability})")
    log = plans.folder / f"{key.fingerprint}.log"

    def make(path: Path) -> dict[str, int]:
        return run_builder(bundle.model_path, bundle.target.precision, settings, path, log, tick)

    return plans.store(key, log.name, make)


def run_builder(onnx: Path, precision: Precision, settings: BuildSettings, plan: Path, log: Path, tick: Tick) -> dict[str, int]:
    """Runs the builder in a child process, its log to a file; gives the plan's layers by arithmetic.

    Raises EngineLoadError or BackendUnavailable.
    """
    request = {
        "onnx": str(onnx),
        "precision": precision,
        "settings": settings.model_dump(mode="json"),
        "plan": str(plan),
        "timing_cache": str(timing_cache()),
    }
    with log.open("w", encoding="utf-8") as written, tempfile.TemporaryFile("w+") as errors:
        command = [sys.executable, "-m", __name__, json.dumps(request)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, encoding="utf-8") as child:
            try:
                last, layers = _followed(child, written, tick)
                status = child.wait()
            finally:
                child.kill()
        errors.seek(0)
        if status:
            raise _failure(status, [*last, *errors.read().splitlines()], log)
    return dict(layers)


def timing_cache() -> Path:
    """Tactic timings of this machine, which make the next build faster; TensorRT checks that they are its own."""
    return user_cache() / "tensorrt" / "timing.cache"


def _followed(child: subprocess.Popen[str], written: IO[str], tick: Tick) -> tuple[list[str], Counter[str]]:
    """Sorts the child's lines into log and progress; gives its last errors, and the plan's layers."""
    last: deque[str] = deque(maxlen=_KEPT_LINES)
    layers: Counter[str] = Counter()
    assert child.stdout is not None
    for line in child.stdout:
        try:
            told = json.loads(line)
        except ValueError:  # a vendor library that writes to stdout itself
            told = {"severity": "info", "message": line.rstrip()}
        if "phase" in told:
            tick(told["phase"], told["done"], told["all"])
        else:
            written.write(f"{told['severity']}: {told['message']}\n")
            if told["severity"] == "error":
                last.append(" ".join(told["message"].split()))
            if told["severity"] == "layer" and (arithmetic := layer_arithmetic(told["message"])):
                layers[arithmetic] += 1
    return list(last), layers


def layer_arithmetic(line: str) -> str | None:
    """What a convolution or matrix product in TensorRT's list of layers computes in: the type of its first input.

    TensorRT names a fused layer by its parts (`__myl_CorrElu`, `__myl_FcAddRelu`).
    """
    kind = re.search(r"LayerType: (\w+)", line)
    first = re.search(r"Inputs: \[ \{.*?(?:Datatype|Format/Datatype): ([^},]+)", line)
    fused = re.search(r"Name: __\w+?_(Fc|Corr|Conv|Gemm)", line)
    if not kind or not first or not (fused or re.search(r"conv|correl|gemm|matmul|matrix", kind.group(1), re.IGNORECASE)):
        return None
    return next((name for word, name in _ARITHMETIC.items() if word in first.group(1)), None)


def _failure(status: int, lines: list[str], log: Path) -> Exception:
    where = f"the whole log is in {FOLDER}/{log.name}"
    if status == -signal.SIGKILL:
        return EngineLoadError(f"the builder was killed, which is what Linux does when memory runs out: try --low-memory; {where}")
    if status < 0:
        return EngineLoadError(f"the builder died of {signal.Signals(-status).name}: report this with the log; {where}")
    kind = _EXIT.get(status, EngineLoadError)
    return kind("; ".join(line for line in lines if line.strip()) or f"the builder ended with status {status}: {where}")


def _child(request: str) -> int:
    """What the child process does."""
    asked = json.loads(request)

    def tell(**what: object) -> None:
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()

    def step(phase: str, done: int, all_: int) -> bool:
        tell(phase=phase, done=done, all=all_)
        return True

    try:
        plan = plan_from_onnx(
            Path(asked["onnx"]),
            import_tensorrt(),
            asked["precision"],
            BuildSettings.parse(asked["settings"], "settings"),
            Path(asked["timing_cache"]),
            lambda severity, message: tell(severity=severity, message=message),
            step,
        )
    except tuple(_EXIT.values()) as error:
        tell(severity="error", message=str(error))
        return next(status for status, kind in _EXIT.items() if isinstance(error, kind))
    Path(asked["plan"]).write_bytes(plan)
    return 0


if __name__ == "__main__":
    raise SystemExit(_child(sys.argv[1]))
