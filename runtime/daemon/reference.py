"""The reference page of the configuration, made from its models.

python -m edgepose.runtime.daemon.reference > docs/daemon-settings.md
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from edgepose.engines.default_bundle import default_bundle
from edgepose.engines.record import models_in
from edgepose.runtime.daemon.config import DaemonSettings

_TYPES = {"integer": "whole number", "number": "number", "boolean": "true or false", "string": "text", "array": "list"}
_RANGES = (("minimum", "maximum", ""), ("minLength", "maxLength", " characters"), ("minItems", "maxItems", " of them"))
_HEAD = """# Settings of `pose-daemon`

<!-- Made from the models by `python -m edgepose.runtime.daemon.reference`: change those, not this page. -->

`pose-daemon --config pose.toml --check` says what a file means and what is wrong with it; [deploy/pose.toml](../deploy/pose.toml) has
every key. An unknown key is an error. Lists count from 0 in messages: `cameras.1.source` is the second camera's.

What the command line says goes before an environment variable, that before the file, that before the default. The variable of `port` in
`[server]` is `EDGEPOSE_SERVER_PORT`, that of `device` is `EDGEPOSE_DEVICE`; lists (`cameras`, `auth.tokens`) have none. Relative paths, a
variable's too, start at the file's folder.
"""


def settings_page() -> str:
    """Markdown: a table a section."""
    return "\n".join([_HEAD, *_section("", DaemonSettings)])


def keys(model: type[BaseModel] = DaemonSettings, place: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """(`server.port`, its field) for all that is no section, in the order of the page; lists of sections as `cameras.name`."""
    sections = list[tuple[str, type[BaseModel]]]()
    for name, field in model.model_fields.items():
        inner = models_in(field.annotation)
        sections += [(f"{place}{name}.", each) for each in inner]
        if not inner:
            yield f"{place}{name}", field
    for prefix, each in sections:
        yield from keys(each, prefix)


def _section(place: str, model: type[BaseModel]) -> Iterator[str]:
    schema = model.model_json_schema()["properties"]
    plain = [name for name, field in model.model_fields.items() if not models_in(field.annotation)]
    plain.sort(key=lambda name: name != "kind")
    if plain:
        yield "| Key | What it may be | Default | Meaning |"
        yield "|---|---|---|---|"
        yield from (_row(name, model.model_fields[name], schema[name]) for name in plain)
        yield ""
    for name, field in model.model_fields.items():
        inner = models_in(field.annotation)
        several = get_origin(field.annotation) is tuple
        where = f"{place}{name}"
        if inner:
            yield f"## `[[{where}]]`\n" if several else f"## `[{where}]`\n"
        for each in inner:
            if len(inner) > 1:
                yield f"### `[[{where}]]` with `kind = {json.dumps(_kind_of(each))}`\n"
            yield _said_of(each) + (" Nothing of it where the section is missing.\n" if field.default is None else "\n")
            yield from _section(f"{where}.", each)


def _row(name: str, field: FieldInfo, schema: dict[str, Any]) -> str:
    default = "required" if field.is_required() else _toml(field.get_default(call_default_factory=True))
    cells = (f"`{name}`", _words(schema), default, field.description or "")
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _words(schema: dict[str, Any]) -> str:
    """What JSON Schema says, for people."""
    if "anyOf" in schema:
        schema = next(each for each in schema["anyOf"] if each.get("type") != "null")
    if choices := schema.get("enum") or [schema[key] for key in ("const",) if key in schema]:
        return " or ".join(f"`{json.dumps(choice)}`" for choice in choices)
    words = ["path" if schema.get("format") == "path" else _TYPES[schema["type"]]]
    words += [_range(schema, *keys) for keys in _RANGES if set(schema) & set(keys)]
    words += [f"more than {_number(schema['exclusiveMinimum'])}"] if "exclusiveMinimum" in schema else []
    words += [f"`{schema['pattern']}`"] if "pattern" in schema else []
    return ", ".join(words)


def _range(schema: dict[str, Any], least: str, most: str, unit: str) -> str:
    if least in schema and most in schema:
        return f"{_number(schema[least])} to {_number(schema[most])}{unit}"
    return f"at least {_number(schema[least])}{unit}" if least in schema else f"at most {_number(schema[most])}{unit}"


def _number(value: float) -> str:
    return f"{value:g}" if abs(value) < 1e6 else f"{value:,.0f}".replace(",", " ")


def _toml(value: object) -> str:
    if value is None:
        return "none"
    if value == default_bundle():
        return "edgepose-s"  # it is installed in another place on every machine
    return f"`{json.dumps(list(value) if isinstance(value, tuple) else value)}`"


def _kind_of(model: type[BaseModel]) -> str:
    annotation = model.model_fields["kind"].annotation
    assert get_origin(annotation) is Literal
    kind: str = get_args(annotation)[0]
    return kind


def _said_of(model: type[BaseModel]) -> str:
    return " ".join((inspect.getdoc(model) or "").split())


if __name__ == "__main__":
    sys.stdout.write(settings_page())
