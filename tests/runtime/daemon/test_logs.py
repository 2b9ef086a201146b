"""Lines that people, programs and journald read, and what is never in them."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgepose.runtime.daemon.log_settings import LogSettings
from edgepose.runtime.daemon.logs import LogTail, TextLines, redacted, start_logging

logger = logging.getLogger("edgepose.runtime.door")
SECRETS = "rtsp://viewer:hunter2@cam/x?token=hunter2 epd_hunter2-_x Authorization: Bearer hunter2hunter2 srt://h?passphrase=hunter2"


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    for handler in handlers:
        root.removeHandler(handler)
    yield
    logging.captureWarnings(False)
    root.handlers[:], root.level = handlers, level
    logging.getLogger(logger.name).setLevel(logging.NOTSET)


def said(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


def failing() -> None:
    raise ValueError("rtsp://viewer:hunter2@cam/x refuses")


def log_an_exception() -> None:
    try:
        failing()
    except ValueError:
        logger.exception("the camera failed")


def test_a_line_says_when_how_bad_who_and_what() -> None:
    stream = io.StringIO()
    tail = start_logging(LogSettings(), stream, {})
    logger.warning("lost after %d frames", 12)
    logger.debug("not said")
    (line,) = said(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} WARNING runtime.door: lost after 12 frames", line)
    assert tail.lines(10) == [line]


def test_json_has_an_object_a_line_with_the_traceback_in_it() -> None:
    stream = io.StringIO()
    tail = start_logging(LogSettings(format="json", level="debug"), stream, {})
    logger.debug("é \n %s", object)
    log_an_exception()
    first, second = (json.loads(line) for line in said(stream))
    assert (first["level"], first["logger"], first["thread"]) == ("debug", "runtime.door", "MainThread")
    assert first["message"] == "é \\n <class 'object'>" and first["at"].endswith("+00:00") and "exception" not in first
    assert second["exception"].startswith("Traceback") and "ValueError: rtsp://viewer:***@cam/x refuses" in second["exception"]
    assert any("ValueError" in line for line in tail.lines(100)), "the page shows text in any case"


@pytest.mark.parametrize("format_", ["text", "json"])
def test_nothing_secret_is_said(format_: str) -> None:
    stream = io.StringIO()
    tail = start_logging(LogSettings(format=format_), stream, {})
    logger.info("opening %s", SECRETS)
    log_an_exception()
    assert "hunter2" not in stream.getvalue() and not [line for line in tail.lines(100) if "hunter2" in line]
    assert "viewer:***@cam/x?token=*** epd_*** Authorization: Bearer *** srt://h?passphrase=***" in stream.getvalue()
    assert redacted("basic needs, a bearer of news, user=me") == "basic needs, a bearer of news, user=me"


def test_a_stranger_cannot_write_a_line_of_their_own() -> None:
    stream = io.StringIO()
    start_logging(LogSettings(), stream, {})
    logger.info("GET %s", "/\n2026-01-01 00:00:00 ERROR root: forged\x1b[2J\u2028\x00")
    assert len(said(stream)) == 1 and "\x1b" not in stream.getvalue()


def test_arguments_that_do_not_fit_lose_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    start_logging(LogSettings(), stream, {})
    logger.info("%d frames", "many")
    assert "'%d frames' with ('many',)" in said(stream)[0] and not capsys.readouterr().err


@pytest.mark.parametrize("format_", ["text", "json"])
def test_journald_gets_priorities_and_no_time_of_our_own(tmp_path: Path, format_: str) -> None:
    with (tmp_path / "journal").open("w+") as stream:
        status = os.fstat(stream.fileno())
        tail = start_logging(LogSettings(format=format_, level="debug"), stream, {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
        for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
            logger.log(level, "x")
        log_an_exception()
        stream.seek(0)
        lines = stream.read().splitlines()
    assert [line[:3] for line in lines[:5]] == ["<7>", "<6>", "<4>", "<3>", "<2>"]
    assert all(line.startswith("<3>") for line in lines[5:]), "each line of a traceback is one to journald"
    assert lines[0] == "<7>DEBUG runtime.door: x" if format_ == "text" else json.loads(lines[0][3:])["message"] == "x"
    assert not tail.lines(1)[0].startswith("<")


def test_a_stream_that_was_redirected_gets_no_priorities(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+") as stream:
        start_logging(LogSettings(), stream, {"JOURNAL_STREAM": "1:1"})
        logger.warning("x")
        stream.seek(0)
        assert stream.read()[0] != "<"


def test_the_tail_keeps_the_last_lines_only() -> None:
    tail = LogTail(10, TextLines())
    logger.addHandler(tail)
    logger.setLevel(logging.INFO)
    try:
        for index in range(25):
            logger.info("%d", index)
    finally:
        logger.removeHandler(tail)
    assert [line.rpartition(" ")[2] for line in tail.lines(3)] == ["22", "23", "24"]
    assert len(tail.lines(100)) == 10 and tail.lines(0) == tail.lines(-1) == []


def test_starting_again_replaces_what_was_there_and_takes_pythons_warnings() -> None:
    first, second = io.StringIO(), io.StringIO()
    start_logging(LogSettings(), first, {})
    start_logging(LogSettings(level="error"), second, {})
    logger.warning("not said")
    logger.error("said once")
    assert not first.getvalue() and len(said(second)) == 1
    start_logging(LogSettings(), second, {})
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old way", DeprecationWarning, stacklevel=1)
    assert "WARNING py.warnings: " in said(second)[-1] and "old way" in said(second)[-1]


def test_a_reload_keeps_the_tail_that_the_page_reads() -> None:
    tail = start_logging(LogSettings(tail=10), io.StringIO(), {})
    for index in range(10):
        logger.info("%d", index)
    assert start_logging(LogSettings(tail=12, format="json"), io.StringIO(), {}, tail) is tail
    for index in range(10, 15):
        logger.info("%d", index)
    assert [int(line.rpartition(" ")[2]) for line in tail.lines(100)] == list(range(3, 15))
