"""`CameraSettings`: one `[[cameras]]` of the daemon's configuration."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

from pydantic import Field

from edgepose.engines.record import Record, did_you_mean
from edgepose.runtime.daemon.events.settings import EventSettings, PresenceSettings, ZoneSettings
from edgepose.runtime.daemon.secret import secret_from
from edgepose.runtime.sources import is_uri


class CameraSettings(Record):
    """A camera, stream, video file or folder of pictures."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
        description="What addresses, topics, files and logs call it: letters, digits, - and _, at most 64",
    )
    source: str = Field(
        min_length=1,
        max_length=4096,
        description="rtsp://..., http://..., v4l2:///dev/video0, csi://0, gst:..., test:pattern?people=3, or a file, shown over and over",
    )
    password_file: Path | None = Field(
        default=None,
        description="File whose first line is the password for source, which then says the user alone: rtsp://viewer@camera/stream",
    )
    password_env: str | None = Field(
        default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="Environment variable with the password, instead of password_file"
    )
    enabled: bool = Field(default=True, description="Whether it is opened at all")
    required: bool = Field(default=True, description="Whether the daemon counts as ready only while this camera gives results")
    track: bool = Field(default=True, description="Whether each person gets an id that stays")
    smooth: bool = Field(default=False, description="Whether trembling keypoints are calmed; tracks too")
    max_fps: float | None = Field(
        default=None,
        gt=0,
        le=1000,
        description="Most frames a second that are looked at; the others are dropped; none: all that the engine can",
    )
    zones: tuple[ZoneSettings, ...] = Field(default=(), max_length=64, description="Parts of the picture that events may name")
    events: tuple[EventSettings, ...] = Field(default=(), max_length=64, description="What is watched for")

    def address(self, environment: Mapping[str, str] = os.environ) -> str:
        """`source` with its password, for `open_source` and nobody else. Raises ConfigError where the password is not to be had."""
        password = secret_from(self.password_file, self.password_env, f"camera {self.name}", environment)
        if password is None:
            return self.source
        scheme, user, place = _parts(self.source)
        return f"{scheme}://{quote(user, safe='%')}:{quote(password, safe='')}@{place}"

    def placed(self, folder: Path) -> CameraSettings:
        """The same camera; a file's path is taken from `folder` on."""
        return self if is_uri(self.source) else self.model_copy(update={"source": str(folder / self.source)})

    def contradictions(self) -> Iterator[str]:
        """What cannot be meant, a line each."""
        zones = [zone.name for zone in self.zones]
        yield from (f"two zones named {name!r}: wanted names that differ" for name in sorted({n for n in zones if zones.count(n) > 1}))
        for event in self.events:
            if not isinstance(event, PresenceSettings) and not (self.track or self.smooth):
                yield f"event {event.kind!r} wants track = true: it follows people from frame to frame"
            for name in event.zones:
                if name not in zones:
                    here = f"its zones are {', '.join(zones)}" if zones else "it has no [[cameras.zones]]"
                    yield f"event {event.kind!r} names zone {name!r}{did_you_mean(name, zones)}: {here}"
        if self.password_file and self.password_env:
            yield "password_file and password_env: wanted one of them"
        if (self.password_file or self.password_env) and not _names_user_alone(self.source):
            yield "a password wants a source that names the user and no password: rtsp://viewer@camera/stream"


def _names_user_alone(source: str) -> bool:
    _, user, _ = _parts(source)
    return bool(user) and ":" not in user


def _parts(source: str) -> tuple[str, str, str]:
    """(scheme, user, host and the rest) of SCHEME://USER@HOST/...; the user, who may have an @ (of a mail address), is empty where there is
    none."""
    scheme, _, rest = source.partition("://")
    user = re.split("[/?#]", rest, maxsplit=1)[0].rpartition("@")[0]
    return scheme, user, rest[len(user) :].removeprefix("@")
