"""`DaemonSettings`: what `pose-daemon --config pose.toml` reads.

What is said on the command line goes before an environment variable (`EDGEPOSE_SERVER_PORT` for `port` in `[server]`, `EDGEPOSE_DEVICE`
for `device`), that before the file, and that before the default.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast, get_origin

from pydantic import BaseModel, Field

from edgepose.engines.default_bundle import default_bundle
from edgepose.engines.errors import ConfigError
from edgepose.engines.record import Record, did_you_mean, models_in
from edgepose.runtime.daemon.auth import AuthSettings
from edgepose.runtime.daemon.camera_settings import CameraSettings
from edgepose.runtime.daemon.hook_settings import HookSettings
from edgepose.runtime.daemon.http.loopback import is_loopback
from edgepose.runtime.daemon.http.settings import ServerSettings
from edgepose.runtime.daemon.log_settings import LogSettings
from edgepose.runtime.daemon.mqtt_settings import MqttSettings
from edgepose.runtime.daemon.recording_settings import RecordingSettings
from edgepose.runtime.ffmpeg_link import without_password
from edgepose.runtime.paf_parameters import PafParameters

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

R = TypeVar("R", bound=Record)

PREFIX = "EDGEPOSE_"
_LARGEST = 1_000_000
_HIDDEN = "***"


class PoseSettings(Record):
    """Who counts as found."""

    threshold: float = Field(default=PafParameters().threshold, ge=0, le=1, description="Least confidence of a keypoint")
    min_score: float = Field(default=0.1, ge=0, le=100, description="Least score of a person; 0 shows everybody the parser suspects")


class DaemonSettings(Record):
    """The whole configuration. Paths are taken from the configuration file's folder on."""

    bundle: Path = Field(
        default_factory=default_bundle,
        description="The network: a bundle NAME.pose made by pose-export; by default edgepose-s, which comes along",
    )
    device: str = Field(default="auto", min_length=1, max_length=64, description="What runs the network: auto, CPU, GPU, ...")
    slots: int | None = Field(
        default=None, ge=1, le=64, description="Inferences in flight; by default what `pose-bench sweep` found for this machine, or 4"
    )
    build: bool = Field(default=True, description="Whether the TensorRT plan of a trt-* bundle is built where this device has none")
    pose: PoseSettings = Field(default_factory=PoseSettings, description="Who counts as found")
    cameras: tuple[CameraSettings, ...] = Field(default=(), max_length=256, description="What is looked at")
    server: ServerSettings = Field(default_factory=ServerSettings, description="The HTTP server")
    auth: AuthSettings = Field(default_factory=AuthSettings, description="Who may ask it")
    mqtt: MqttSettings | None = Field(default=None, description="The MQTT broker; none where the section is missing")
    recording: RecordingSettings | None = Field(default=None, description="Files with the results; none where the section is missing")
    hook: HookSettings | None = Field(default=None, description="A Python file of your own; none where the section is missing")
    log: LogSettings = Field(default_factory=LogSettings, description="What is said on stderr")

    @property
    def parameters(self) -> PafParameters:
        """For the parser."""
        return PafParameters(threshold=self.pose.threshold, minimum_score=self.pose.min_score)


def settings_from_file(
    path: Path, environment: Mapping[str, str] = os.environ, options: Mapping[str, object] | None = None
) -> DaemonSettings:
    """Reads a configuration file; see `settings_from_toml`. Raises ConfigError."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start}): save it as UTF-8") from error
    return settings_from_toml(text, str(path), path.absolute().parent, environment, options)


def settings_from_toml(
    text: str,
    where: str,
    folder: Path = Path(),
    environment: Mapping[str, str] = os.environ,
    options: Mapping[str, object] | None = None,
) -> DaemonSettings:
    """A configuration, with what `environment` and then `options` ({"server.port": 8701}) say instead; paths start at `folder`.

    Raises ConfigError, in one line that `where` opens, with all that is wrong. Opens no file and looks at no device: that is `explained`.
    """
    data = _table_from_toml(text, where)
    said = _said_by(environment)
    for key, value in [*said.values(), *(options or {}).items()]:
        _put(data, key.split("."), value)
    where = f"{where} with {', '.join(said)}" if said else where
    settings = _placed(DaemonSettings.parse(data, where), folder)
    if not data.keys() & {"bundle", "cameras"}:  # what an editor leaves for a moment must not end all cameras
        raise ConfigError(f"{where}: names neither cameras nor a bundle: wanted [[cameras]], or a bundle for pictures by HTTP alone")
    try:
        shown = settings.model_dump_json()
    except ValueError as error:  # bytes of a file's name, which neither the page nor the log could show
        raise ConfigError(f"{where}: a folder or file whose name is not UTF-8: wanted another name") from error
    if "\\u0000" in shown:
        raise ConfigError(f"{where}: a text with a NUL character: no file or address has one")
    if problems := list(_contradictions(settings)):
        raise ConfigError(f"{where}: {'; '.join(problems)}")
    return settings


def without_secrets(settings: DaemonSettings) -> dict[str, object]:
    """For `/api/config` and logs: JSON without hashes of tokens and passwords of cameras."""
    value = settings.model_dump(mode="json")
    for token in value["auth"]["tokens"]:
        token["hash"] = _HIDDEN
    for camera in value["cameras"]:
        camera["source"] = without_password(camera["source"])
    return value


def variables() -> dict[str, str]:
    """Environment variable -> key (`server.port`), for every scalar outside of a list."""
    keys = list[str]()
    for name, field in DaemonSettings.model_fields.items():
        if get_origin(field.annotation) is not tuple:
            sections = models_in(field.annotation)
            keys += [f"{name}.{key}" for section in sections for key in _scalars(section)] if sections else [name]
    return {PREFIX + key.replace(".", "_").upper(): key for key in keys}


def _scalars(section: type[BaseModel]) -> list[str]:
    return [name for name, field in section.model_fields.items() if get_origin(field.annotation) is not tuple]


def _said_by(environment: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Variable -> (key, value). Variables with our prefix that name no section are somebody else's. Raises ConfigError."""
    known = variables()
    sections = tuple({f"{PREFIX}{key.partition('.')[0].upper()}_" for key in known.values() if "." in key})
    for name in sorted(environment):
        if name.startswith(sections) and name not in known:
            raise ConfigError(f"environment: unknown variable {name}{did_you_mean(name, list(known))}")
    return {name: (key, environment[name]) for name, key in known.items() if name in environment}


def _put(table: dict[str, Any], keys: list[str], value: object) -> None:
    """Sets a key in a table of tables; what is no table is left for the models to complain of."""
    for key in keys[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            return
    table[keys[-1]] = value


def _table_from_toml(text: str, where: str) -> dict[str, Any]:
    if len(text) > _LARGEST:
        raise ConfigError(f"{where}: {len(text)} characters: wanted at most {_LARGEST}")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits and lists in lists in lists as well as syntax
        raise ConfigError(f"{where}: not TOML: {error}") from error


def _placed(record: R, folder: Path) -> R:
    """The same settings with every path taken from `folder` on."""
    moved: dict[str, object] = {}
    for name in type(record).model_fields:
        value = getattr(record, name)
        if isinstance(value, Path):
            moved[name] = folder / value
        elif isinstance(value, Record):
            moved[name] = _placed(value, folder)
        elif isinstance(value, tuple):
            moved[name] = tuple(_placed(each, folder) if isinstance(each, Record) else each for each in value)
    placed = record.model_copy(update=moved)
    return cast(R, placed.placed(folder)) if isinstance(placed, CameraSettings) else placed


def _contradictions(settings: DaemonSettings) -> Iterator[str]:
    """What each key by itself allows and all together do not."""
    names = [camera.name for camera in settings.cameras]
    yield from _twice("cameras", [name.casefold() for name in names])
    for camera in settings.cameras:
        yield from (f"camera {camera.name}: {problem}" for problem in camera.contradictions())
    yield from _twice("auth.tokens", [token.name for token in settings.auth.tokens])
    server = settings.server
    if not is_loopback(server.host) and not settings.auth.tokens:
        yield (
            f"server.host: {server.host} is reached from other machines, and without a token by anybody: "
            "make one with `pose-daemon token`, or listen on 127.0.0.1"
        )
    if (server.tls_certificate is None) != (server.tls_key is None):
        there, missing = ("tls_certificate", "tls_key") if server.tls_key is None else ("tls_key", "tls_certificate")
        yield f"server.{there}: wants server.{missing} too"


def _twice(where: str, names: list[str]) -> Iterator[str]:
    """Capitals aside where the caller folded them: names of cameras are folders, on disks that do not tell them apart too."""
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"{where}: {names.count(name)} are named {name!r}: wanted names that differ"
