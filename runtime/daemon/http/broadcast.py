"""`Broadcast`: results and events, from the pipeline's threads to everybody who watches over HTTP.

One subscription for all of them; JSON is made once, and only where somebody watches. Every client has a queue of its own, in which the
newest win, so that who is slow loses some and nobody else notices.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from edgepose.runtime.daemon.camera_result import CameraResult
from edgepose.runtime.daemon.event import Event
from edgepose.runtime.daemon.http.inbox import Inbox
from edgepose.runtime.daemon.hub import Hub, Subscription
from edgepose.runtime.daemon.site import Site

logger = logging.getLogger(__name__)
_INBOX = 256
_EVENTS_WAITING = 1000
_WAKE_S = 5.0

Kind = Literal["poses", "event", "picture"]


@dataclass(frozen=True, slots=True)
class Item:
    """What goes to a client: JSON, or a picture with its header before it. `drawn` tells two pictures of a frame apart."""

    kind: Kind
    camera: str
    data: bytes
    drawn: bool = False


@dataclass(slots=True, eq=False)
class Outlet:
    """One client's queue. For the event loop only. `camera` None wants all of them; `drawn` is asked of pictures only."""

    name: str
    kinds: frozenset[Kind]
    camera: str | None
    depth: int
    drawn: bool = False
    dropped: int = 0
    closed: bool = False
    spoken_to: bool = False
    _items: deque[Item] = field(default_factory=deque)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def wants(self, item: Item) -> bool:
        return item.kind in self.kinds and self.camera in (None, item.camera) and (item.kind != "picture" or item.drawn == self.drawn)

    def offer(self, item: Item) -> None:
        """A picture replaces the one of its camera that still waits; of the others the oldest goes where there are too many."""
        if item.kind == "picture":
            self._replace_picture(item)
        else:
            self._items.append(item)
        if len(self._items) > self.depth:
            self._items.popleft()
            self.dropped += 1
        self._changed.set()

    def _replace_picture(self, item: Item) -> None:
        for waiting in self._items:
            if waiting.kind == "picture" and waiting.camera == item.camera:
                self._items.remove(waiting)
                self.dropped += 1
                break
        self._items.append(item)

    def close(self) -> None:
        self.closed = True
        self._changed.set()

    def wake(self) -> None:
        """Has `take` return, so that its reader can look whether it is still wanted."""
        self._changed.set()

    async def take(self) -> Item | None:
        """The oldest; None where the outlet was woken for nothing, or closed."""
        if not self._items and not self.closed:
            self._changed.clear()
            await self._changed.wait()
        return self._items.popleft() if self._items and not self.closed else None


class Broadcast:
    """`watch` is called in the subscription's thread with every result, `seen` in the event loop."""

    def __init__(self, site: Site, depth: int, watch: Callable[[CameraResult], None]) -> None:
        self._site, self._depth, self._watch = site, depth, watch
        self._outlets: set[Outlet] = set()
        self._inbox, self._event_inbox = Inbox[CameraResult](_INBOX), Inbox[Event](_EVENTS_WAITING)
        self._scheduled = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._subscriptions: list[Subscription[CameraResult] | Subscription[Event]] = []
        self._threads: list[threading.Thread] = []
        self.seen: list[Callable[[CameraResult], None]] = []
        self.sent, self.errors, self._dropped_before = 0, 0, 0

    @property
    def outlets(self) -> tuple[Outlet, ...]:
        return tuple(self._outlets)

    @property
    def dropped(self) -> int:
        """Of all clients, those that have left too, and what the event loop was too slow for."""
        inside = self._inbox.dropped + self._event_inbox.dropped
        return inside + self._dropped_before + sum(outlet.dropped for outlet in self.outlets)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._wake()
        self._follow("http results", self._site.results, 64)
        self._follow("http events", self._site.events, _EVENTS_WAITING)

    def stop(self, timeout_s: float) -> None:
        """Outlets are closed by `close`, in the event loop."""
        for subscription in self._subscriptions:
            subscription.close()
        for thread in self._threads:
            thread.join(timeout_s)

    def open(self, name: str, kinds: frozenset[Kind], camera: str | None, drawn: bool = False) -> Outlet:
        outlet = Outlet(name, kinds, camera, self._depth, drawn)
        self._outlets.add(outlet)
        return outlet

    def leave(self, outlet: Outlet) -> None:
        if outlet in self._outlets:
            self._outlets.remove(outlet)
            self._dropped_before += outlet.dropped

    def close(self) -> None:
        """Has every stream end."""
        for outlet in self.outlets:
            outlet.close()

    def give(self, item: Item) -> None:
        """To everybody who wants it. In the event loop."""
        for outlet in self._outlets:
            if outlet.wants(item):
                outlet.offer(item)
                self.sent += 1

    def _wake(self) -> None:
        """One timer for all: `asyncio.wait_for` would make a task for every result of every client."""
        assert self._loop is not None
        for outlet in self._outlets:
            outlet.wake()
        self._loop.call_later(_WAKE_S, self._wake)

    def _follow(self, name: str, hub: Hub[CameraResult] | Hub[Event], depth: int) -> None:
        subscription = hub.subscribe(name, depth)
        self._subscriptions.append(subscription)
        thread = threading.Thread(target=self._pass_on, args=(subscription,), name=f"edgepose {name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _pass_on(self, subscription: Subscription[CameraResult] | Subscription[Event]) -> None:
        while not subscription.closed:
            try:
                thing = subscription.get(1.0)
                if thing is not None:
                    self._take_in(thing)
            except Exception:  # the top of a thread: one odd result must not end the streams
                self.errors += 1
                logger.exception("%s: a result could not be passed on", subscription.name)

    def _take_in(self, thing: CameraResult | Event) -> None:
        if isinstance(thing, CameraResult):
            self._watch(thing)
            if any("poses" in outlet.kinds for outlet in self.outlets):
                thing.as_json()
            self._inbox.put(thing)
        else:
            self._event_inbox.put(thing)
        if not self._scheduled and self._loop is not None and not self._loop.is_closed():
            self._scheduled = True
            self._loop.call_soon_threadsafe(self._give_out)

    def _tell(self, event: Event) -> None:
        try:
            item = Item("event", event.camera, event.as_json())
        except (TypeError, RecursionError):
            self.errors += 1
            logger.exception("camera %s: an event that JSON has no words for", event.camera)
            return
        self.give(item)

    def _give_out(self) -> None:
        self._scheduled = False
        while event := self._event_inbox.take():
            self._tell(event)
        while result := self._inbox.take():
            for seen in self.seen:
                seen(result)
            if self._outlets:
                self.give(Item("poses", result.camera, result.as_json()))
