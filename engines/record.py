"""`Record`: a frozen value that comes from a JSON or TOML file, with errors a person can act on."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from edgepose.engines.errors import ConfigError

R = TypeVar("R", bound="Record")


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
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as cause:
        reason = cause.strerror if isinstance(cause, OSError) else f"not JSON ({cause})"
        raise error(f"{path}: {reason}") from cause


def did_you_mean(word: str, known: list[str]) -> str:
    """` (did you mean 'x'?)`, or nothing where no known word is near."""
    near = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _in_words(model: type[BaseModel], error: ValidationError) -> str:
    sentences = []
    for detail in error.errors(include_url=False):
        place = ".".join(str(part) for part in detail["loc"]) or "the whole value"
        if detail["type"] == "extra_forbidden":
            key = str(detail["loc"][-1])
            sentences.append(f"unknown key {place!r}{did_you_mean(key, _keys(model, detail['loc'][:-1]))}")
        else:
            sentences.append(f"{place}: {detail['msg']}")
    return "; ".join(sentences)


def _keys(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Field names of the model that `path` leads to, so that a suggestion speaks of the right level."""
    for part in path:
        field = model.model_fields.get(str(part))
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            return []
        model = field.annotation
    return list(model.model_fields)
