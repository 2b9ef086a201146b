from __future__ import annotations

import asyncio
import json
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from http_served import Served, eventually, received, served
from small_site import SmallSite, stamped
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as connected

from edgepose.runtime.daemon.camera_result import CameraResult
from edgepose.runtime.daemon.event import Event
from edgepose.runtime.daemon.http.broadcast import Broadcast, Item, Outlet
from edgepose.runtime.daemon.http.pictures import Pictures
from edgepose.runtime.daemon.http.protocol import WatchedWebSocket
from edgepose.runtime.daemon.http.settings import ServerSettings
from edgepose.runtime.daemon.hub import Hub

PATIENCE_S = 15.0
POSES = "/api/poses/stream"


@pytest.fixture(scope="module")
def here(site: SmallSite) -> Iterator[Served]:
    with served(site) as running:
        yield running


def connect(url: str, **more: Any) -> ClientConnection:
    """Closes without ado: what was not read would be in the way of a polite end."""
    return connected(url, close_timeout=0.1, **more)


def messages(socket: ClientConnection, count: int) -> list[dict[str, object]]:
    return [json.loads(socket.recv(timeout=PATIENCE_S)) for _ in range(count)]


def test_a_websocket_gives_every_result_in_order(here: Served) -> None:
    with connect(here.websocket(POSES)) as socket:
        results = messages(socket, 60)
    for camera in ("camera-0", "camera-1"):
        indices = [result["index"] for result in results if result["camera"] == camera]
        assert len(indices) > 20 and all(b > a for a, b in pairwise(indices))  # type: ignore[operator]
    assert all({"people", "stages_ms", "age_ms", "at", "size"} <= set(result) for result in results)


def test_a_websocket_may_ask_for_one_camera(here: Served) -> None:
    with connect(here.websocket(f"{POSES}?camera=camera-1")) as socket:
        assert {result["camera"] for result in messages(socket, 10)} == {"camera-1"}


def test_server_sent_events_give_the_same_at_the_same_address(here: Served) -> None:
    with here.client.stream("GET", f"{POSES}?camera=camera-0") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.iter_lines()
        data = [line for line in (next(lines) for _ in range(20)) if line.startswith("data: ")]
    assert len(data) >= 4 and all(json.loads(line[6:])["camera"] == "camera-0" for line in data)


def test_events_come_with_the_people_to_who_asks_for_them(site: SmallSite, here: Served) -> None:
    with connect(here.websocket(f"{POSES}?events=1")) as asked, connect(here.websocket(POSES)) as not_asked:
        messages(asked, 1), messages(not_asked, 1)
        site.events.publish(Event("camera-0", "fall", "started", 5.0, person=3))
        assert any(message.get("kind") == "fall" for message in messages(asked, 30))
        assert all("people" in message for message in messages(not_asked, 30))


def test_an_event_that_has_no_json_spoils_no_other(site: SmallSite) -> None:
    deep: dict[str, object] = {}
    for _ in range(300):
        deep = {"deep": deep}
    with served(site) as here:
        for kind, detail in (("odd", deep), ("fall", {})):
            site.events.publish(Event("camera-0", kind, "started", 5.0, detail=detail))
        eventually(lambda: here.number("errors") == 1, "counted")
        assert here.client.get("/api/events?limit=1").raise_for_status().json()[0]["kind"] == "fall"


def test_pictures_come_with_the_number_of_their_people(here: Served) -> None:
    people, pictures = set[tuple[str, int]](), dict[tuple[str, int], bytes]()
    with connect(here.websocket(f"{POSES}?pictures=1"), max_size=None) as socket:
        while len(pictures) < 10:
            message = socket.recv(timeout=PATIENCE_S)
            if isinstance(message, str):
                result = json.loads(message)
                people.add((result["camera"], result["index"]))
            else:
                length = struct.unpack_from(">I", message)[0]
                header = json.loads(message[4 : 4 + length])
                pictures[header["camera"], header["index"]] = message[4 + length :]
    assert {key for key in pictures if key not in people} <= {next(iter(pictures))}, "people come before their picture"
    for (camera, index), jpeg in pictures.items():
        picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert np.abs(picture.astype(int) - stamped(int(camera[-1]), index)).mean() < 5


def test_pictures_are_as_wide_and_as_frequent_as_allowed(site: SmallSite) -> None:
    with served(site, picture_width=200, picture_fps=4) as here, connect(here.websocket(f"{POSES}?pictures=1&camera=camera-0")) as socket:
        began, pictures = time.monotonic(), []
        while time.monotonic() - began < 2:
            message = socket.recv(timeout=PATIENCE_S)
            if isinstance(message, bytes):
                pictures.append(message[4 + struct.unpack_from(">I", message)[0] :])
    assert 6 <= len(pictures) <= 10
    assert cv2.imdecode(np.frombuffer(pictures[0], np.uint8), cv2.IMREAD_COLOR).shape == (112, 200, 3)


def test_motion_jpeg_is_a_picture_a_part(here: Served) -> None:
    with here.client.stream("GET", "/api/stream/camera-1.mjpg?skeleton=1") as stream:
        boundary = stream.headers["content-type"].split("boundary=")[1].encode()
        data = b""
        for part in stream.iter_bytes():
            data += part
            if data.count(boundary) > 5:
                break
    parts = data.split(b"--" + boundary + b"\r\n")[1:5]
    for part in parts:
        head, _, jpeg = part.partition(b"\r\n\r\n")
        assert f"Content-Length: {len(jpeg) - 2}".encode() in head
        assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (360, 640, 3)


def test_nothing_is_encoded_where_nobody_watches_and_once_where_many_do(site: SmallSite) -> None:
    with served(site, picture_fps=100) as here, connect(here.websocket(POSES)) as poses:
        messages(poses, 20)
        assert here.number("pictures") == 0
        with ExitStack() as stack:
            watching = [stack.enter_context(connect(here.websocket(f"{POSES}?pictures=1&camera=camera-0"))) for _ in range(5)]
            headers = [_picture_header(socket) for _ in range(4) for socket in watching]
            indices = [header["index"] for header in headers]
            assert len(set(indices)) < len(indices) == 20
            newest = site.latest("camera-0")
            assert newest is not None and here.number("pictures") <= newest.result.frame.index - min(indices) + 1


def _picture_header(socket: ClientConnection) -> dict[str, int]:
    while True:
        message = socket.recv(timeout=PATIENCE_S)
        if isinstance(message, bytes):
            header: dict[str, int] = json.loads(message[4 : 4 + struct.unpack_from(">I", message)[0]])
            return header


def test_nothing_is_kept_of_cameras_that_are_gone(site: SmallSite) -> None:
    async def kept() -> set[str]:
        broadcast = Broadcast(site, 16, lambda _: None)
        pictures = Pictures(site, ServerSettings(), broadcast)
        watching = broadcast.open("test", frozenset({"picture"}), None)
        result = site.latest("camera-0")
        assert result is not None
        for camera in (*(f"gone-{number}" for number in range(5)), "camera-0"):
            broadcast.seen[0](replace(result, camera=camera))
            assert await asyncio.wait_for(watching.take(), PATIENCE_S)
        pictures.close()
        return {key.camera for key in (*pictures._last, *pictures._due_s)}

    assert asyncio.run(kept()) == {"camera-0"}


def test_who_speaks_on_a_stream_is_disconnected(here: Served) -> None:
    with connect(here.websocket(POSES)) as socket:
        socket.send("hello")
        with pytest.raises(ConnectionClosed) as closed:
            messages(socket, 1000)
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1003


def test_a_message_without_end_is_not_kept(here: Served) -> None:
    with connect(here.websocket(POSES)) as socket, pytest.raises(ConnectionClosed) as closed:
        socket.send(b"x" * 100_000)
        messages(socket, 1000)
    assert closed.value.rcvd is None or closed.value.rcvd.code == 1009


@pytest.mark.parametrize("query", ["camera=camera-9", "events=maybe", "camera=" + "x" * 100])
def test_a_websocket_that_asks_for_what_is_not_there_does_not_begin(here: Served, query: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(here.websocket(f"{POSES}?{query}"))
    assert refused.value.response.status_code in (404, 422)
    assert b'{"error":' in refused.value.response.body


def test_clients_that_never_read_cost_others_nothing_and_are_disconnected(site: SmallSite) -> None:
    """Pictures fill the kernel's buffers fast; their queues stay as short as they may be."""
    quick = {"picture_fps": 100, "picture_quality": 100, "send_timeout_s": 1.0, "stream_depth": 16}
    request = f"GET {POSES}?pictures=1 HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    request += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    with served(site, **quick) as here, connect(here.websocket(POSES)) as reader, ExitStack() as stack:
        broadcast = here.server._parts.broadcast
        subscription = next(each for each in site.results.subscriptions if each.name == "http results")
        deaf = [stack.enter_context(here.connected()) for _ in range(10)]
        for connection in deaf:
            connection.sendall(request.encode())
        eventually(lambda: here.number("streams") == 11, "all streams")
        while here.number("stalled") < 10:
            messages(reader, 5)
            assert all(len(outlet._items) <= 16 for outlet in broadcast.outlets)
        assert here.number("dropped") > 0
        eventually(lambda: here.number("streams") == 1, "only the reader is left")
        assert subscription.dropped == 0 and broadcast.outlets[0].dropped == 0, "the pipeline or the reader was held up"
        messages(reader, 20)


def test_a_client_that_never_reads_motion_jpeg_is_disconnected(site: SmallSite) -> None:
    with served(site, picture_fps=100, picture_quality=100, send_timeout_s=0.5) as here, here.connected() as connection:
        connection.sendall(b"GET /api/stream/camera-0.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
        eventually(lambda: here.number("stalled") == 1, "cut off")
        eventually(lambda: here.number("streams") == 0, "its stream ended")
        assert received(connection).startswith(b"HTTP/1.1 200")


def test_a_stream_ends_with_the_client(site: SmallSite) -> None:
    with served(site) as here:
        for path in (POSES, "/api/stream/camera-0.mjpg"):
            with here.connected() as connection:
                connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                assert connection.recv(4096)
                eventually(lambda: here.number("streams") == 1, "a stream")
            eventually(lambda: here.number("streams") == 0 and here.number("clients") == 0, "none")


def test_a_client_that_answers_no_ping_is_no_mistake_to_be_logged(site: SmallSite, caplog: pytest.LogCaptureFixture) -> None:
    with served(site) as here, connect(here.websocket(POSES)) as socket:
        messages(socket, 1)
        server, broadcast = here.server._server, here.server._parts.broadcast
        assert server is not None and broadcast._loop is not None

        def give_up() -> None:
            """With a result on its way."""
            broadcast.give(Item("poses", "camera-0", b"{}"))
            next(each for each in server.server_state.connections if isinstance(each, WatchedWebSocket)).keepalive_timeout()

        broadcast._loop.call_soon_threadsafe(give_up)
        eventually(lambda: here.number("streams") == 0 and here.number("clients") == 0, "it is gone")
    assert not caplog.messages


def test_a_websocket_that_is_refused_is_no_mistake_to_be_logged(site: SmallSite, caplog: pytest.LogCaptureFixture) -> None:
    with served(site) as here:
        with pytest.raises(InvalidStatus):
            connect(here.websocket(f"{POSES}?camera=nobody"))
        eventually(lambda: here.number("clients") == 0, "it is gone")
    assert not caplog.messages


def test_a_stream_ends_when_the_server_does(site: SmallSite) -> None:
    with served(site) as here, connect(here.websocket(POSES)) as socket:
        messages(socket, 1)
        began = time.monotonic()
        here.server.stop()
        with pytest.raises(ConnectionClosed):
            messages(socket, 1000)
        assert time.monotonic() - began < 3


def test_what_a_busy_event_loop_is_too_late_for_is_counted(site: SmallSite) -> None:
    result, watched, seen = site.latest("camera-0"), list[CameraResult](), list[CameraResult]()
    quiet: Any = SimpleNamespace(results=Hub[CameraResult](), events=Hub[Event]())
    broadcast = Broadcast(quiet, 16, watched.append)
    broadcast.seen.append(seen.append)

    async def run() -> None:
        broadcast.start(asyncio.get_running_loop())
        for taken in range(50, 301, 50):  # nothing is given out meanwhile
            for _ in range(50):
                quiet.results.publish(result)
            eventually(lambda wanted=taken: len(watched) == wanted, "in the inbox")
        while len(seen) + broadcast.dropped < 300:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(run(), PATIENCE_S))
    broadcast.stop(PATIENCE_S)
    assert broadcast.dropped >= 43 and len(seen) + broadcast.dropped == 300


def test_a_queue_keeps_the_newest_and_counts_the_rest() -> None:
    async def taken() -> list[bytes]:
        outlet = Outlet("test", frozenset({"poses", "picture"}), None, 3)
        for number in range(5):
            outlet.offer(Item("poses", "a", b"%d" % number))
        outlet.offer(Item("picture", "a", b"old"))
        outlet.offer(Item("picture", "a", b"new"))
        assert outlet.dropped == 4
        return [item.data for item in [await outlet.take() for _ in range(3)] if item]

    assert asyncio.run(taken()) == [b"3", b"4", b"new"]
