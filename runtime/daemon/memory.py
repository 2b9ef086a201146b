"""How glibc keeps memory, for a process that runs for months."""

from __future__ import annotations

import ctypes
import gc

_M_ARENA_MAX, _M_MMAP_THRESHOLD = -8, -3
_LARGE = 256 * 1024


def keep_memory_compact() -> None:
    """Before threads are started. Elsewhere than on glibc it does nothing.

    Few arenas: each new thread gets another else, and what is freed in one is not used by the others. Pictures are mapped one by one: glibc
    else raises its limit with the first that is freed, keeps them all in its heap, and each reload leaves holes between them that nothing
    fits into (a third of a megabyte a reload, with cameras of 640 x 360).
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_ARENA_MAX, 2)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE)


def give_memory_back() -> None:
    """To the system, what was freed: after a reload, which frees an engine, cameras or connections.

    What refers to itself in a circle, MQTT's client and its callbacks for one, is collected first: Python would do that only once a quarter
    of all its objects are new, for a daemon that is after hours.
    """
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
