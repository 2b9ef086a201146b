"""`EventSettings` and `ZoneSettings`: what a camera watches for, and where in its picture."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgepose.engines.record import Record

Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class ZoneSettings(Record):
    """A part of the picture."""

    name: Name = Field(description="What events call it: letters, digits, - and _, at most 64")
    polygon: tuple[tuple[Share, Share], ...] = Field(
        min_length=3, max_length=64, description="Corners [x, y] as fractions of the picture's width and height, from its upper left corner"
    )


class _Watched(Record):
    """Where, and for how long before it is said."""

    zones: tuple[Name, ...] = Field(default=(), max_length=64, description="Names of this camera's zones; none: the whole picture")
    after_s: float = Field(default=0.5, ge=0, le=3600, description="How long it must last before it is said to have started, in seconds")
    until_s: float = Field(default=2.0, ge=0, le=3600, description="How long it must be over before it is said to have ended, in seconds")


class PresenceSettings(_Watched):
    """Somebody is there, and how many."""

    kind: Literal["presence"] = Field(description="Somebody is there, and how many")


class FallSettings(_Watched):
    """Somebody fell and stays down."""

    kind: Literal["fall"] = Field(description="Somebody fell and stays down; wants track")
    after_s: float = Field(default=2.0, ge=0, le=3600, description="How long somebody must stay down, in seconds")
    until_s: float = Field(default=3.0, ge=0, le=3600, description="How long they must be upright again, or not be seen, in seconds")
    speed: float = Field(
        default=0.5,
        ge=0,
        le=5,
        description="Least speed of the trunk on the way down, in body heights a second; 0: who lies down slowly, too",
    )
    angle: float = Field(default=55.0, ge=30, le=85, description="Least angle of the torso from the vertical of who is down, in degrees")


class HandRaisedSettings(_Watched):
    """Somebody raises a hand."""

    kind: Literal["hand_raised"] = Field(description="Somebody holds a hand above the head; wants track")
    until_s: float = Field(default=1.0, ge=0, le=3600, description="How long it must be down again, or not be seen, in seconds")
    margin: float = Field(default=0.1, ge=-1, le=2, description="How far above the nose the wrist must be, in lengths of the torso")


EventSettings = Annotated[PresenceSettings | FallSettings | HandRaisedSettings, Field(discriminator="kind")]
