"""Cameras that run while a module's tests do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from http_served import PATIENCE_S
from small_site import SmallSite


@pytest.fixture(scope="module")
def site() -> Iterator[SmallSite]:
    with SmallSite() as running, running.results.subscribe("test", 64) as results:
        seen = set[str]()
        while seen != set(running.names):
            result = results.get(PATIENCE_S)
            assert result is not None, "the cameras give nothing"
            seen.add(result.camera)
        results.close()
        yield running
