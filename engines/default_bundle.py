"""The network that comes with edgepose."""

from __future__ import annotations

from pathlib import Path


def default_bundle() -> Path:
    """The bundle that is taken where nobody names one: edgepose-s in INT8 for OpenVINO, at 256 x 456; docs/edgepose.md is its card."""
    return Path(__file__).parent / "networks" / "edgepose-s-256x456.ov-int8.pose"
