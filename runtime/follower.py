"""`Follower`: who the people of one camera are, and how they move."""

from __future__ import annotations

from dataclasses import replace

from edgepose.runtime.inferences import Result
from edgepose.runtime.smoothing import PoseSmoother
from edgepose.runtime.tracking import PoseTracker


class Follower:
    """Ids that stay, and keypoints that are calm where `smoothed`; one for each source, fed with its results in order."""

    def __init__(self, keypoints: int, smoothed: bool) -> None:
        self._tracker = PoseTracker(keypoints)
        self._smoother = PoseSmoother(keypoints) if smoothed else None

    def follow(self, result: Result) -> Result:
        frame, poses = result.frame, result.poses
        time_s = frame.captured_ns / 1e9 if frame.time_s is None else frame.time_s
        poses = replace(poses, ids=self._tracker.update(poses, time_s))
        return replace(result, poses=self._smoother.update(poses, time_s) if self._smoother else poses)
