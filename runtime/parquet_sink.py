"""`ParquetSink`: poses as a table that pandas, DuckDB and Spark read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgepose.engines.errors import BackendUnavailable
from edgepose.engines.skeleton import Skeleton
from edgepose.runtime.complete_file import hidden, told
from edgepose.runtime.poses import Poses
from edgepose.runtime.sinks import FileSink, check_keypoints
from edgepose.runtime.sources import Frame

_ROWS = 4096
"""A row group: what is kept in memory before it is written."""


class ParquetSink(FileSink):
    """A row a person: `name`, `index` and `time_s` of the frame, `id` (null where not tracked), `score`, and `x`, `y` and `confidence` as
    lists in the network's order, in picture pixels of our convention, x and y null where absent. The skeleton and its keypoints' names are
    in the file's metadata. Frames without people leave no row. Raises BackendUnavailable without pyarrow."""

    def __init__(self, path: Path, skeleton: Skeleton) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise BackendUnavailable("Parquet files need pyarrow: pip install 'edgepose[batch]'") from error
        super().__init__(path, skeleton)
        self._arrow = pyarrow
        self._rows: list[dict[str, Any]] = []
        with self._claim.opening():
            self._file: Any = pyarrow.parquet.ParquetWriter(hidden(path), self._schema())

    def write(self, frame: Frame, poses: Poses) -> None:
        check_keypoints(poses, self._skeleton)
        about = {"name": frame.name, "index": frame.index, "time_s": frame.time_s}
        self._rows += [about | person for person in people_as_rows(poses)]
        if len(self._rows) >= _ROWS:
            self._finish()

    def _finish(self) -> None:
        rows, self._rows = self._rows, []
        with told(self._path):
            self._file.write_table(self._arrow.Table.from_pylist(rows, self._schema()))

    def _schema(self) -> Any:
        pa = self._arrow
        return schema_of_people(self._skeleton, {"name": pa.string(), "index": pa.int64(), "time_s": pa.float64()})


def people_as_rows(poses: Poses) -> list[dict[str, Any]]:
    """A row a person: id, score, and x, y and confidence as lists, x and y None where absent."""
    ids = [None] * len(poses) if poses.ids is None else poses.ids.tolist()
    xy = np.where(poses.present[..., None], poses.keypoints[..., :2], np.nan).astype(object)
    xy[~poses.present] = None
    people = zip(ids, poses.scores.tolist(), xy.swapaxes(1, 2).tolist(), poses.keypoints[..., 2].tolist(), strict=True)
    return [{"id": person, "score": score, "x": x, "y": y, "confidence": confidence} for person, score, (x, y), confidence in people]


def schema_of_people(skeleton: Skeleton, first: dict[str, Any]) -> Any:
    """Arrow's schema of `people_as_rows`, after the columns `first`; the skeleton is in its metadata."""
    import pyarrow as pa

    lists = dict.fromkeys(("x", "y", "confidence"), pa.list_(pa.float32()))
    fields = {**first, "id": pa.int64(), "score": pa.float32(), **lists}
    return pa.schema(list(fields.items()), metadata={"skeleton": skeleton.name, "keypoints": ",".join(skeleton.keypoints)})
