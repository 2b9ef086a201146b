"""`Hub`: one who tells, many who listen, none of whom can hold it up."""

from __future__ import annotations

from collections import deque
from threading import Condition, Lock
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Subscription(Generic[T]):
    """What was published and not yet taken, at most `depth` of it: who is slow loses the oldest, counted in `dropped`."""

    def __init__(self, hub: Hub[T], name: str, depth: int) -> None:
        self.name, self.dropped = name, 0
        self._hub, self._waiting, self._closed = hub, deque[T](maxlen=depth), False
        self._changed = Condition()

    def get(self, timeout_s: float | None = None) -> T | None:
        """The oldest; None where nothing came in time or the subscription is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed, timeout_s)
            return self._waiting.popleft() if self._waiting else None

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Nothing more comes; whoever waits is woken. Allowed twice, from any thread."""
        self._hub.forget(self)
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def offer(self, thing: T) -> None:
        """For the hub."""
        with self._changed:
            self.dropped += len(self._waiting) == self._waiting.maxlen
            self._waiting.append(thing)
            self._changed.notify()

    def __enter__(self) -> Subscription[T]:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class Hub(Generic[T]):
    """Publishes to every subscription, and never waits. `kept` is how many it remembers for who comes late."""

    def __init__(self, kept: int = 0) -> None:
        self._lock, self._subscriptions, self._newest = Lock(), list[Subscription[T]](), deque[T](maxlen=kept)

    @property
    def newest(self) -> tuple[T, ...]:
        """The last that were published, oldest first."""
        with self._lock:
            return tuple(self._newest)

    @property
    def subscriptions(self) -> tuple[Subscription[T], ...]:
        with self._lock:
            return tuple(self._subscriptions)

    def subscribe(self, name: str, depth: int) -> Subscription[T]:
        """`name` is for logs and metrics."""
        subscription = Subscription(self, name, depth)
        with self._lock:
            self._subscriptions.append(subscription)
        return subscription

    def publish(self, thing: T) -> None:
        with self._lock:
            self._newest.append(thing)
        for subscription in self.subscriptions:
            subscription.offer(thing)

    def forget(self, subscription: Subscription[T]) -> None:
        """For the subscription that closes."""
        with self._lock:
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)

    def close(self) -> None:
        """Closes all subscriptions."""
        for subscription in self.subscriptions:
            subscription.close()
