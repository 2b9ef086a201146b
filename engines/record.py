"""`Record`: a frozen value that comes from a JSON or TOML file, with errors a person can act on."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from edgepose.engines.errors import ConfigError

R = TypeVar("R", bound="Record")
_WANTED = {"model_type": "wanted a table of keys", "tuple_type": "wanted a list", "list_type": "wanted a list"}
_SECRET = re.compile("pass|secret|token|hash|key|source|user")


class Record(BaseModel):
    """Frozen pydantic model; an unknown key is an error that names the nearest known key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def parse(cls: type[R], data: object, where: str) -> R:
        """Validates `data`; `where` (a file name, say) opens the message. Raises ConfigError."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise ConfigError(f"{where}: {_in_words(cls, error)}") from error


def read_json(path: Path, error: Callable[[str], Exception] = ConfigError) -> Any:
    """The value in a JSON file; a missing, unreadable or malformed file raises `error` with one line."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as cause:  # damaged files nest, and count, without end
        reason = cause.strerror if isinstance(cause, OSError) else f"not JSON ({cause})"
        raise error(f"{path}: {reason}") from cause


def did_you_mean(word: str, known: list[str]) -> str:
    """` (did you mean 'x'?)`, or nothing where no known word is near."""
    near = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _in_words(model: type[BaseModel], error: ValidationError) -> str:
    return "; ".join(_sentence(model, detail) for detail in error.errors(include_url=False))


def _sentence(model: type[BaseModel], detail: ErrorDetails) -> str:
    """What is wrong with one key; the value of an unknown key is never said, it may be a secret."""
    loc, kind, found = detail["loc"], detail["type"], detail["input"]
    if kind == "extra_forbidden":
        *parents, key = loc
        shown, models = _walked(model, tuple(parents))
        known = list(dict.fromkeys(name for each in models for name in each.model_fields))
        return f"unknown key {'.'.join([*shown, str(key)])!r}{did_you_mean(str(key), known)}"
    place = ".".join(_walked(model, loc)[0]) or "the whole value"
    if kind == "missing":
        return f"{place}: missing"
    if kind.startswith("union_tag"):
        tag = str(detail["ctx"]["discriminator"]).strip("'")
        place, found = f"{place}.{tag}", found.get(tag)
    if kind == "union_tag_not_found":
        return f"{place}: missing"
    if kind in ("literal_error", "union_tag_invalid") and isinstance(found, str):
        wanted = re.findall(r"'([^']*)'", str(detail["ctx"].get("expected") or detail["ctx"].get("expected_tags")))
        return f"{place}: {found!r} is not one of {', '.join(wanted)}{did_you_mean(found, wanted)}"
    return f"{place}: {_WANTED.get(kind) or detail['msg'].removeprefix('Value error, ')}{_found(place, found)}"


def _found(place: str, value: object) -> str:
    """A number, or a short text under a key that does not sound like a secret's."""
    told = isinstance(value, int | float) or (isinstance(value, str) and len(value) <= 64 and not _SECRET.search(place))
    return f", found {value!r}" if told else ""


def _walked(model: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[list[str], list[type[BaseModel]]]:
    """`loc` as a person would write it, and the models it leads to, so that a suggestion speaks of the right level.

    pydantic puts the tag of a union's member into `loc`, which is nowhere in the file: it chooses among the models and is left out.
    """
    shown, models = list[str](), [model]
    for part in loc:
        fields = [each.model_fields[part] for each in models if part in each.model_fields] if isinstance(part, str) else []
        tagged = [] if fields else [each for each in models if _is_tagged(each, part)]
        if fields:
            models = [inner for field in fields for inner in models_in(field.annotation)]
        models = tagged or models
        if not tagged:
            shown.append(str(part))
    return shown, models


def _is_tagged(model: type[BaseModel], tag: int | str) -> bool:
    return any(get_origin(field.annotation) is Literal and tag in get_args(field.annotation) for field in model.model_fields.values())


def models_in(annotation: object) -> list[type[BaseModel]]:
    """The models that a field holds, in a list, an optional or a union too."""
    if get_origin(annotation) is None and isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in models_in(inner)]
