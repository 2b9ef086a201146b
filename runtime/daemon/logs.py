"""What the daemon says: lines on stderr, for people or for programs, and the last of them for the page. Without secrets."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections import deque
from collections.abc import Mapping
from datetime import datetime, timezone
from itertools import islice
from threading import Lock
from typing import TextIO

import orjson

from edgepose.runtime.daemon.log_settings import LogSettings
from edgepose.runtime.ffmpeg_link import without_password

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_TOKEN = re.compile(r"\bepd_[A-Za-z0-9_-]+")
_AUTHORIZATION = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9+/=_.~-]{8,}")
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
"""Of syslog, which journald takes from `<N>` at the beginning of a line."""


class LogTail(logging.Handler):
    """The last lines, as they are said, without their priorities. May be asked from any thread."""

    def __init__(self, length: int, formatter: logging.Formatter) -> None:
        super().__init__()
        self._lines, self._guard = deque[str](maxlen=length), Lock()
        self.setFormatter(formatter)

    def resize(self, length: int) -> None:
        """Keeps the last lines."""
        with self._guard:
            self._lines = deque(self._lines, maxlen=length)

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        with self._guard:
            self._lines.extend(text.splitlines())

    def lines(self, count: int) -> list[str]:
        """At most `count`, oldest first."""
        with self._guard:
            return list(islice(self._lines, max(0, len(self._lines) - max(0, count)), None))


class TextLines(logging.Formatter):
    """`2026-11-22 05:17:18.042 WARNING runtime.live: door: lost`; in UTC, as names of segments are. Of a traceback each line."""

    def __init__(self, prioritised: bool = False) -> None:
        super().__init__()
        self._prioritised = prioritised

    def format(self, record: logging.LogRecord) -> str:
        """With priorities journald has the time already."""
        text = f"{record.levelname} {_name(record)}: {_message(record)}"
        text = text if self._prioritised else f"{_time(record):%Y-%m-%d %H:%M:%S}.{int(record.msecs):03d} {text}"
        lines = [text, *_traceback(self, record)]
        return "\n".join(f"<{_priority(record)}>{line}" if self._prioritised else line for line in lines)


class JsonLines(logging.Formatter):
    """An object a line: at (ISO 8601, UTC), level, logger, thread, message, and exception where there is one."""

    def __init__(self, prioritised: bool = False) -> None:
        super().__init__()
        self._prioritised = prioritised

    def format(self, record: logging.LogRecord) -> str:
        about = {"at": _time(record).isoformat(timespec="milliseconds"), "level": record.levelname.lower(), "logger": _name(record)}
        value = {**about, "thread": record.threadName, "message": _message(record)}
        if trace := _traceback(self, record):
            value["exception"] = "\n".join(trace)
        text = orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS, default=str).decode()
        return f"<{_priority(record)}>{text}" if self._prioritised else text


def start_logging(
    settings: LogSettings, stream: TextIO | None = None, environment: Mapping[str, str] = os.environ, tail: LogTail | None = None
) -> LogTail:
    """Has everything that is logged go to `stream` (stderr) and into the tail, which is returned. Takes the place of what was set before.

    Warnings of Python's go the same way. Lines have priorities where systemd's journal reads `stream`. `tail` is one that goes on, at a
    reload.
    """
    stream = stream or sys.stderr
    kind = JsonLines if settings.format == "json" else TextLines
    lines = logging.StreamHandler(stream)
    lines.setFormatter(kind(prioritised=read_by_journal(stream, environment)))
    tail = tail or LogTail(settings.tail, TextLines())
    tail.resize(settings.tail)
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
        handler.close()
    root.addHandler(lines)
    root.addHandler(tail)
    root.setLevel(settings.level.upper())
    logging.captureWarnings(True)
    return tail


def read_by_journal(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether `JOURNAL_STREAM` (device:inode) names this very stream: it may have been redirected since systemd opened it."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def redacted(text: str) -> str:
    """Without passwords in URLs, tokens, and what comes after Bearer or Basic."""
    return _AUTHORIZATION.sub(r"\1 ***", _TOKEN.sub("epd_***", without_password(text)))


def _message(record: logging.LogRecord) -> str:
    """One line, whatever a stranger sent: who asks must not be able to write lines of their own into a log."""
    try:
        message = record.getMessage()
    except (TypeError, ValueError, KeyError) as error:  # arguments that do not fit
        message = f"{record.msg!r} with {record.args!r} ({error})"
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), redacted(message))


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    text = formatter.formatException(record.exc_info) if record.exc_info and record.exc_info[0] else ""
    return [_CONTROL.sub(" ", line) for line in redacted(text).splitlines()]


def _name(record: logging.LogRecord) -> str:
    return record.name.removeprefix("edgepose.")


def _time(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, timezone.utc)


def _priority(record: logging.LogRecord) -> int:
    return next((priority for level, priority in _PRIORITIES if record.levelno >= level), 7)
