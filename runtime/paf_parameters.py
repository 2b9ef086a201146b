"""`PafParameters`: what decides whether a blob is a keypoint, a field a limb, and a group a person."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from edgepose.engines.record import Record

Share = Annotated[float, Field(ge=0, le=1)]
Cells = Annotated[float, Field(ge=0, le=1e6)]


class PafParameters(Record):
    """Defaults are those with which the trained networks at hand give the best COCO AP (docs/parser.md)."""

    threshold: Share = 0.07
    """Least confidence of a keypoint's cell."""
    samples: Annotated[int, Field(ge=1, le=64)] = 5
    """Points along a limb at which its field is read."""
    along: Share = 0.05
    """Least component of the field along the limb for a sample to agree."""
    share: Share = 0.6
    """Least share of samples that agree."""
    near: Cells = 4.0
    """Limbs longer than so many cells need a field that points within 45 degrees of the limb at both keypoints."""
    length_cost: Annotated[float, Field(ge=0, le=1)] = 0.006
    """Taken from a limb's weight (its mean field) per cell of length: of two equally good fields the nearer keypoint is the likelier."""
    reach: Annotated[float, Field(ge=0, le=100)] = 1.0
    """Longest gap that a hidden keypoint may leave between fragments of one body, as a multiple of the sum of their extents; 0: none."""
    minimum_keypoints: Annotated[int, Field(ge=1)] = 3
    """Smaller groups are dropped; of a skeleton that has fewer, groups that are not whole."""
    minimum_score: Annotated[float, Field(ge=0)] = 0.0
    """Persons below this score are dropped."""
    maximum_peaks: Annotated[int, Field(ge=1, le=1024)] = 128
    """Keypoints of one type that are looked at, the strongest: bounds time and memory on maps full of noise."""
    maximum_persons: Annotated[int, Field(ge=1, le=1_000_000)] = 128
    """Persons that are reported, the best."""
