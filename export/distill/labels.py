"""`CocoPeople`: people whom somebody has marked, as maps that correct the teacher's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ConfigDict
from torch import Tensor

from edgepose.engines.contract import Finite, ModelContract
from edgepose.engines.errors import ConfigError
from edgepose.engines.record import Record, read_json
from edgepose.engines.skeleton import Limb, Skeleton
from edgepose.export.distill.album import Album
from edgepose.export.distill.augment import View

Points = NDArray[np.float64]

_SPREAD_PX = 7.0
"""Standard deviation of a keypoint's peak in input pixels, and half the width of a limb in map cells: what OpenPose's descendants train
with (D. Osokin, arXiv:1811.12004)."""
_LIMB_CELLS = 1.0
_SMALLEST_PX = 64.0
"""People whose marked keypoints lie in a smaller box, by its longer side, are left to the teacher: peaks so wide would cover them."""
_NECK = "neck"
_COCO_CENTRE = (0.5, 0.5, 0)
"""What our coordinates are more than COCO's, which count a pixel's centre as a whole number; see `edgepose.runtime.coco`."""


class CocoPeople:
    """Labels of those pictures of an album that lie in the folder `images` and that an annotation file names. Raises ConfigError."""

    def __init__(self, annotations: Path, images: Path, album: Album, contract: ModelContract) -> None:
        self._contract = contract
        self._people = _people_from_json(annotations, images, album, contract.skeleton)

    def __len__(self) -> int:
        return len(self._people)

    def knows(self, picture: int) -> bool:
        return picture in self._people

    def correct(self, maps: Tensor, picture: int, view: View) -> None:
        """Adds to a crop's maps (channels, h, w) what somebody marked and the teacher did not see so clearly.

        Where label and teacher disagree, the stronger one holds: people whom nobody marked stay as the teacher sees them.
        """
        output = self._contract.output
        people = view.on_crop(self._people[picture], self._contract.skeleton)
        people = people[_extents(people) >= _SMALLEST_PX]
        if not len(people):
            return
        keypoints = output.heatmap_channels - output.background
        heat = torch.from_numpy(_heatmaps(people, output.stride, tuple(maps.shape[1:]))).to(maps)
        torch.maximum(maps[:keypoints], heat, out=maps[:keypoints])
        if output.background:
            maps[keypoints] = torch.minimum(maps[keypoints], 1 - heat.amax(0))
        fields = maps[output.heatmap_channels :]
        for limb in self._contract.skeleton.limbs:
            _correct_limb(fields, people, limb, output.stride)


def _extents(people: Points) -> Points:
    """(P, K, 3) -> (P,): the longer side of the box around the visible keypoints."""
    seen = people[:, :, 2:] > 0
    low, high = (np.where(seen, people[:, :, :2], edge) for edge in (np.inf, -np.inf))
    return np.asarray((high.max(1) - low.min(1)).max(1), np.float64)


def _heatmaps(people: Points, stride: int, cells_hw: tuple[int, ...]) -> NDArray[np.float32]:
    """(P, K, 3) crop pixels -> (K, h, w): a Gaussian at each keypoint in the crop; the nearest person's where they overlap."""
    x, y = (stride * (np.arange(n) + 0.5) for n in cells_hw[::-1])
    inside = ((people[..., :2] >= 0) & (people[..., :2] < np.array(cells_hw[::-1]) * stride)).all(-1)
    distance = (x[None, None, None, :] - people[:, :, 0, None, None]) ** 2 + (y[None, None, :, None] - people[:, :, 1, None, None]) ** 2
    peaks = np.exp(-distance / (2 * _SPREAD_PX**2)) * (inside & (people[:, :, 2] > 0))[:, :, None, None]
    return np.asarray(peaks.max(0), np.float32)


def _correct_limb(fields: Tensor, people: Points, limb: Limb, stride: int) -> None:
    """Writes the unit vector along the limb where the teacher's field is shorter than what the labels give."""
    h, w = fields.shape[1:]
    y, x = np.mgrid[:h, :w] + 0.5
    total, count = np.zeros((2, h, w)), np.zeros((h, w))
    for person in people:
        start, end = person[limb.start], person[limb.end]
        if min(start[2], end[2]) <= 0:
            continue
        a, b = start[:2] / stride, end[:2] / stride
        length = float(np.hypot(*(b - a)))
        if length < 1e-3:
            continue
        unit = (b - a) / length
        along = (x - a[0]) * unit[0] + (y - a[1]) * unit[1]
        across = np.abs((x - a[0]) * unit[1] - (y - a[1]) * unit[0])
        inside = (along >= -_LIMB_CELLS) & (along <= length + _LIMB_CELLS) & (across <= _LIMB_CELLS)
        total += unit[:, None, None] * inside
        count += inside
    if not count.any():
        return
    field = torch.from_numpy(total / np.maximum(count, 1)).to(fields)
    stronger = field.square().sum(0) > fields[limb.x].square() + fields[limb.y].square()
    fields[limb.x] = torch.where(stronger, field[0], fields[limb.x])
    fields[limb.y] = torch.where(stronger, field[1], fields[limb.y])


class _Entry(Record):
    """What is read of an entry of a COCO file; real ones hold much else."""

    model_config = ConfigDict(extra="ignore")


class _Picture(_Entry):
    id: int | str
    file_name: str
    width: int | None = None
    height: int | None = None


class _Category(_Entry):
    id: int | str
    keypoints: tuple[str, ...] = ()


class _Marked(_Entry):
    """x, y and COCO's visibility mark of each keypoint; none for things that are not people."""

    image_id: int | str
    category_id: int | str | None = None
    keypoints: tuple[Finite, ...] | None = None
    iscrowd: int | None = None


def _people_from_json(path: Path, images: Path, album: Album, skeleton: Skeleton) -> dict[int, Points]:
    """Place in the album -> (P, K, 3) in the album's pixels, with visibility last."""
    data = read_json(path)
    if not isinstance(data, dict) or not all(isinstance(data.get(key), list) for key in ("images", "annotations", "categories")):
        raise ConfigError(f"{path}: wanted COCO keypoint annotations with images, annotations, categories")
    places = {file.name: place for place, file in enumerate(album.paths) if images in (file, file.parent)}  # others may have the same names
    pictures = [_Picture.parse(entry, f"{path}: images[{index}]") for index, entry in enumerate(data["images"])]
    place_of = {picture.id: places[picture.file_name] for picture in pictures if picture.file_name in places}
    if not place_of:
        raise ConfigError(
            f"{path}: none of its {len(pictures)} pictures is in {images} and to learn from (those that --coco judges by are not)"
        )
    for picture in pictures:
        if picture.id in place_of:
            _check_size(picture, album, place_of[picture.id], path)
    found = defaultdict(list)
    for image, person in _people(data, place_of, skeleton, path):
        found[place_of[image]].append(person * (*[album.scales[place_of[image]]] * 2, 1))
    if not found:
        raise ConfigError(
            f"{path}: nobody on the {len(place_of)} of its pictures that are in {images} has a keypoint that skeleton {skeleton.name!r}"
            f" knows ({', '.join(skeleton.keypoints[:3])}, ...): wanted keypoints of these names, marked as visible"
        )
    return {place: np.stack(people) for place, people in found.items()}


def _check_size(picture: _Picture, album: Album, place: int, path: Path) -> None:
    """A picture that was reduced or turned since it was labelled has its people elsewhere. Raises ConfigError."""
    (h, w), scale = album.pictures[place].shape[:2], album.scales[place]
    for found, said in ((w, picture.width), (h, picture.height)):
        if said and abs(said * scale - found) >= 1:
            raise ConfigError(
                f"{path}: {picture.file_name} is {picture.width} x {picture.height} pixels there, but the file, upright by its EXIF"
                f" orientation, about {w / scale:.0f} x {h / scale:.0f}: wanted the pictures as they were labelled"
            )


def _people(data: dict[str, Any], images: Container[int | str], skeleton: Skeleton, path: Path) -> Iterator[tuple[int | str, Points]]:
    """Image and (K, 3) in its pixels of each person on these images with a visible keypoint; what else the file holds is not looked at."""
    categories = [_Category.parse(entry, f"{path}: categories[{index}]") for index, entry in enumerate(data["categories"])]
    names: dict[int | str | None, tuple[str, ...]] = {category.id: category.keypoints for category in categories}
    for index, entry in enumerate(data["annotations"]):
        if isinstance(entry, dict) and isinstance(image := entry.get("image_id"), (int, str)) and image not in images:
            continue
        marked = _Marked.parse(entry, where := f"{path}: annotations[{index}]")
        if marked.keypoints and any(marked.keypoints[2::3]) and not marked.iscrowd:
            person = _ordered(marked, names.get(marked.category_id, ()), skeleton, where)
            if person[:, 2].any():
                yield marked.image_id, person


def _ordered(person: _Marked, names: Sequence[str], skeleton: Skeleton, where: str) -> Points:
    """(K, 3) in the skeleton's order; a neck is between the shoulders, what the labels do not have is not visible."""
    keypoints = person.keypoints or ()
    if len(keypoints) != 3 * len(names):
        raise ConfigError(
            f"{where}: a person has {len(keypoints)} numbers, three for each keypoint; its category names {len(names)} keypoints:"
            " correct the file"
        )
    marked = np.array(keypoints, np.float64).reshape(-1, 3) + _COCO_CENTRE
    by_name = dict(zip(names, marked, strict=True))
    if _NECK not in by_name and {"left_shoulder", "right_shoulder"} <= by_name.keys():
        shoulders = np.stack([by_name["left_shoulder"], by_name["right_shoulder"]])
        by_name[_NECK] = shoulders.mean(0) if shoulders[:, 2].all() else np.zeros(3)
    return np.stack([by_name.get(name, np.zeros(3)) for name in skeleton.keypoints])
