"""`PafParameters`: what decides whether a blob is a keypoint, a field a limb, and a group a person."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from edgepose.engines.record import Record

Share = Annotated[float, Field(ge=0, le=1)]


class PafParameters(Record):
    """Defaults are those with which human-pose-estimation-0001 gives the best COCO AP."""

    threshold: Share = 0.1
    """Least confidence of a keypoint's cell."""
    samples: Annotated[int, Field(ge=1, le=64)] = 10
    """Points along a limb at which its field is read."""
    along: Share = 0.05
    """Least component of the field along the limb for a sample to agree."""
    share: Share = 0.8
    """Least share of samples that agree."""
    minimum_keypoints: Annotated[int, Field(ge=1)] = 3
    """Smaller groups are dropped."""
    minimum_score: Annotated[float, Field(ge=0)] = 0.0
    """Persons below this score are dropped."""
