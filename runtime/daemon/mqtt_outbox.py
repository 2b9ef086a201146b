"""`Outbox`: messages that have to arrive, in order, and `Board`: messages of which the last one on each topic counts."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

_UNDER_WAY = 16


@dataclass(frozen=True, slots=True)
class Message:
    topic: str
    payload: bytes


@dataclass(slots=True, eq=False)
class Parcel:
    """Messages that say the same thing, on several topics; `unconfirmed` are the numbers of those that were sent."""

    messages: tuple[Message, ...]
    unconfirmed: set[int] = field(default_factory=set)


class Outbox:
    """At most `size` parcels, which may change; the oldest gives way, counted in `dropped`. For one thread."""

    def __init__(self, size: int) -> None:
        self.dropped, self.delivered = 0, 0
        self.size, self._waiting, self._under_way = size, deque[Parcel](), list[Parcel]()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._under_way)

    def add(self, *messages: Message) -> None:
        self._waiting.append(Parcel(messages))
        while len(self) > self.size and len(self._waiting) > 1:
            self._waiting.popleft()
            self.dropped += 1

    def next(self) -> Parcel | None:
        """The oldest that was not sent yet, which is under way from now on; None where there is none, or 16 are under way."""
        if not self._waiting or len(self._under_way) >= _UNDER_WAY:
            return None
        parcel = self._waiting.popleft()
        self._under_way.append(parcel)
        return parcel

    def confirm(self, number: int) -> None:
        """The broker has message `number`."""
        for parcel in self._under_way:
            if number in parcel.unconfirmed:
                parcel.unconfirmed.discard(number)
                if not parcel.unconfirmed:
                    self._under_way.remove(parcel)
                    self.delivered += 1
                return

    def recall(self) -> None:
        """The connection is gone: what was not confirmed is sent again, before everything else."""
        self._waiting.extendleft(Parcel(parcel.messages) for parcel in reversed(self._under_way))
        self._under_way.clear()


class Board:
    """Retained messages by topic. An empty one takes down what the broker has. For one thread."""

    def __init__(self) -> None:
        self._posted: dict[str, bytes] = {}
        self._changed: dict[str, None] = {}

    def __contains__(self, topic: str) -> bool:
        return topic in self._posted

    def post(self, topic: str, payload: bytes) -> None:
        if self._posted.get(topic) != payload:
            self._posted[topic] = payload
            self._changed[topic] = None

    def take_down(self, topic: str) -> None:
        self.post(topic, b"")

    def post_again(self, topic: str) -> None:
        """One that somebody else has overwritten."""
        if topic in self._posted:
            self._changed[topic] = None

    def post_all_again(self) -> None:
        """For a broker that may have forgotten them."""
        self._changed = dict.fromkeys(self._posted)

    def next(self) -> Message | None:
        """What has to be sent, once."""
        if not self._changed:
            return None
        topic = next(iter(self._changed))
        del self._changed[topic]
        payload = self._posted[topic] or self._posted.pop(topic)
        return Message(topic, payload)
