"""Every name of TensorRT's Python module that our code uses exists in each era's, or is only used where it does.

`tensorrt_names.json` lists, by version and class, what the real modules of 8.5 and 8.6 hold and what the documentation of the others does;
the code is read, not run, since even TensorRT's builder needs a GPU.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import edgepose.engines.tensorrt_

NAMES: dict[str, dict[str, str]] = json.loads((Path(__file__).parent / "tensorrt_names.json").read_text())
CLASS_OF = {
    "builder": "Builder",
    "config": "IBuilderConfig",
    "entry": "ITensor",
    "flags": "NetworkDefinitionCreationFlag",
    "layer": "ILayer",
    "loaded": "ICudaEngine",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "profile": "IOptimizationProfile",
    "runtime": "Runtime",
    "self._context": "IExecutionContext",
}
"""By what the code calls an object."""
FROM_10 = {"IProgressMonitor", "IBuilderConfig.progress_monitor", "NetworkDefinitionCreationFlag.STRONGLY_TYPED"}
FROM_8_6 = {
    "BuilderFlag.VERSION_COMPATIBLE",
    "HardwareCompatibilityLevel",
    "HardwareCompatibilityLevel.AMPERE_PLUS",
    "IBuilderConfig.builder_optimization_level",
    "IBuilderConfig.hardware_compatibility_level",
    "PreviewFeature.PROFILE_SHARING_0806",
    "Runtime.engine_host_code_allowed",
}
UNTIL_10 = {
    "BuilderFlag.OBEY_PRECISION_CONSTRAINTS",
    "ILayer.precision",
    "ILayer.set_output_type",
    "NetworkDefinitionCreationFlag.EXPLICIT_BATCH",
    "PreviewFeature.PROFILE_SHARING_0806",
}
ABSENT = {
    "8.5.3.1": FROM_8_6 | FROM_10,
    "8.6.0": FROM_10,
    "10.13.3.9": set[str](),
    "10.16.1.11": set[str](),
    "11.4.0.106": UNTIL_10,
}
"""What the code asks `hasattr` for, or only does for networks that are not strongly typed."""


def used_names() -> Iterator[str]:
    for path in edgepose.engines.tensorrt_.__path__:
        for file in Path(path).glob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Attribute):
                    owner, _, rest = ast.unparse(node).replace("tensorrt.module.", "trt.").partition("trt.")
                    if rest and not owner:
                        yield rest.removesuffix(".__init__")
                    elif ast.unparse(node.value) in CLASS_OF and not node.attr.startswith("__"):
                        yield f"{CLASS_OF[ast.unparse(node.value)]}.{node.attr}"


def has(version: str, name: str) -> bool:
    owner, _, member = name.partition(".")
    listed = NAMES[version]
    if owner not in listed[""].split():
        return False
    kinds = ("ILayer", "IConstantLayer") if owner == "ILayer" else (owner,)
    return not member or any(member.split(".")[0] in listed[kind].split() for kind in kinds)


@pytest.mark.parametrize("version", NAMES)
def test_the_code_uses_no_name_that_an_era_lacks_unless_it_asks_first(version: str) -> None:
    used = set(used_names())

    assert {name for name in used if not has(version, name)} == ABSENT[version]


def test_the_code_is_really_read() -> None:
    assert {"Builder.create_network", "IExecutionContext.execute_async_v3", "ICudaEngine.get_tensor_name"} <= set(used_names())
