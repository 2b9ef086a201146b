"""What a COCO keypoint annotation file says: its pictures, the category of people, and their labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, FailFast, Field, StrictInt, model_validator

from edgepose.engines.contract import Finite, Positive
from edgepose.engines.errors import ConfigError
from edgepose.engines.record import R, Record, read_json
from edgepose.runtime.coco import COCO17_KEYPOINTS

_NEEDED = ("images", "annotations", "categories")
_PERSON = "person"
_NUMBERS = 3 * len(COCO17_KEYPOINTS)


class _CocoRecord(Record):
    """What is read of an entry of a COCO file; real ones hold much else (segmentation, license, ...)."""

    model_config = ConfigDict(extra="ignore")


class Picture(_CocoRecord):
    id: StrictInt
    file_name: str
    height: Positive


class Category(_CocoRecord):
    id: StrictInt
    name: str


class Label(_CocoRecord):
    """A person's or a crowd's annotation; `keypoints` are x, y and COCO's visibility mark of each of the 17."""

    image_id: StrictInt
    category_id: StrictInt
    bbox: tuple[Finite, Finite, Finite, Finite]
    area: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    keypoints: Annotated[list[Finite], FailFast(), Field(min_length=_NUMBERS, max_length=_NUMBERS)]
    iscrowd: int = 0
    num_keypoints: int | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Label:
        if self.labelled and not self.area:
            raise ValueError("area is 0, by which OKS is measured")
        return self

    @property
    def labelled(self) -> int:
        """How many keypoints have a label."""
        return sum(mark > 0 for mark in self.keypoints[2::3]) if self.num_keypoints is None else self.num_keypoints


@dataclass(frozen=True, slots=True)
class Annotations:
    """At least one of the `labels` is a person with keypoints on one of the `pictures`."""

    pictures: list[Picture]
    person: Category
    labels: list[Label]


def read_annotations(path: Path) -> Annotations:
    """Raises ConfigError, which names the first entry that is not as COCO has them."""
    data = read_json(path)
    if not isinstance(data, dict) or not all(isinstance(data.get(key), list) for key in _NEEDED):
        raise ConfigError(f"{path}: wanted COCO keypoint annotations with {', '.join(_NEEDED)}")
    pictures = _parsed(Picture, data["images"], f"{path}: images")
    person = _person(_parsed(Category, data["categories"], f"{path}: categories"), path)
    labels = _labels(data["annotations"], person, path)
    _require_somebody(labels, pictures, path)
    return Annotations(pictures, person, labels)


def _parsed(kind: type[R], entries: Sequence[object], where: str) -> list[R]:
    """Raises ConfigError that names the first bad entry."""
    return [kind.parse(entry, f"{where}[{index}]") for index, entry in enumerate(entries)]


def _person(categories: Sequence[Category], where: Path) -> Category:
    """The category of people: the one of that name, or the only one."""
    named = [category for category in categories if category.name.lower() == _PERSON]
    if not named and len(categories) != 1:
        found = ", ".join(category.name for category in categories) or "none"
        raise ConfigError(f"{where}: its categories are {found}: wanted one that is named {_PERSON!r}")
    return (named or categories)[0]


def _labels(entries: Sequence[Any], person: Category, where: Path) -> list[Label]:
    """Of people; those of other things are passed over."""
    others = [isinstance(entry, dict) and entry.get("category_id", person.id) != person.id for entry in entries]
    of_people = [(index, entry) for index, (entry, other) in enumerate(zip(entries, others, strict=True)) if not other]
    if all(isinstance(entry, dict) and "keypoints" not in entry for _, entry in of_people):
        raise ConfigError(f"{where}: its {len(of_people)} annotations of people hold no keypoints: wanted a person_keypoints file")
    return [Label.parse(entry, f"{where}: annotations[{index}]") for index, entry in of_people]


def _require_somebody(labels: Sequence[Label], pictures: Sequence[Picture], where: Path) -> None:
    """Where there is nobody to find, pycocotools tells an AP of -1, and no model loses anything. Raises ConfigError."""
    numbers = {picture.id for picture in pictures}
    wanted: tuple[tuple[str, Callable[[Label], object]], ...] = (
        (f"is on one of its {len(pictures)} pictures", lambda label: label.image_id in numbers),
        ("is of a single person (all are crowds)", lambda label: not label.iscrowd),
        ("has a labelled keypoint", lambda label: label.labelled),
    )
    kept = labels
    for words, holds in wanted:
        kept = [label for label in kept if holds(label)]
        if not kept:
            raise ConfigError(f"{where}: of its {len(labels)} annotations of people none {words}: wanted at least one person to find")
