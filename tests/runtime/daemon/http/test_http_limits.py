from __future__ import annotations

import struct
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import cv2
import numpy as np
import pytest
from http_served import Served, eventually, received, served
from small_site import SmallSite, stamped

from edgepose.runtime.daemon.http.connections import Connections
from edgepose.runtime.daemon.http.uploaded_picture import PictureRefused, picture_from_upload, size_wh

FORMATS = [".jpg", ".png", ".webp"]


@pytest.fixture(scope="module")
def here(site: SmallSite) -> Iterator[Served]:
    with served(site, max_picture_mb=0.5, max_megapixels=2, header_timeout_s=0.5, request_timeout_s=1.5) as running:
        yield running


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *more: bytes) -> bytes:
    """All black, so that a large one is a small file."""
    rows = zlib.compress(b"\0" * ((width * 3 + 1) * height), 9)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join([chunk(b"IHDR", header), *more, chunk(b"IDAT", rows), chunk(b"IEND", b"")])


def encoded(suffix: str, width: int, height: int) -> bytes:
    return cv2.imencode(suffix, np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8))[1].tobytes()


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(("width", "height"), [(1, 1), (17, 300), (640, 5)])
def test_the_size_is_read_from_the_header(suffix: str, width: int, height: int) -> None:
    data = encoded(suffix, width, height)
    assert size_wh(data) == (width, height)
    assert picture_from_upload(data, 1).shape == (height, width, 3)


def test_a_webp_file_without_loss_says_its_size_elsewhere() -> None:
    data = cv2.imencode(".webp", np.zeros((33, 44, 3), np.uint8), [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()
    assert data[12:16] == b"VP8L" and size_wh(data) == (44, 33)


@pytest.mark.parametrize("suffix", FORMATS)
def test_no_piece_of_a_file_is_worse_than_refused(suffix: str) -> None:
    data, rng = encoded(suffix, 40, 30), np.random.default_rng(1)
    pieces = [data[:n] for n in range(0, len(data), max(1, len(data) // 60))]
    for _ in range(150):
        broken = bytearray(data)
        for at in rng.integers(0, min(len(data), 400), 3):
            broken[at] = rng.integers(256)
        pieces.append(bytes(broken))
    refused = 0
    for piece in pieces:
        try:
            assert picture_from_upload(piece, 0.01).size <= 3 * 10_000
        except PictureRefused:
            refused += 1
    assert 20 < refused <= len(pieces)


def test_a_small_file_with_a_huge_picture_is_refused_before_it_is_decoded(here: Served) -> None:
    bomb = png(6_000, 6_000)
    assert len(bomb) < 500_000
    tracemalloc.start()
    answer = here.client.post("/api/infer", content=bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert answer.status_code == 413 and "6000 x 6000" in answer.json()["error"]
    assert peak < 20e6


def test_what_a_png_file_packs_beside_its_picture_is_not_unpacked() -> None:
    """50 MB of text in 50 kB, ten times, and an animation's frames."""
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"\0" * 50_000_000, 9))
    frames = chunk(b"acTL", struct.pack(">II", 1000, 0))
    plain = png(30, 20)
    began = time.process_time()
    np.testing.assert_array_equal(picture_from_upload(png(30, 20, *[text] * 10, frames), 1), picture_from_upload(plain, 1))
    assert time.process_time() - began < 1


def test_a_jpeg_file_of_thousands_of_scans_is_refused() -> None:
    progressive = cv2.imencode(".jpg", np.zeros((64, 64, 3), np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    scan = progressive.index(b"\xff\xda")
    end = progressive.index(b"\xff", scan + 20)
    assert picture_from_upload(progressive, 1).shape == (64, 64, 3)
    with pytest.raises(PictureRefused, match="scans") as refused:
        picture_from_upload(progressive[:end] + progressive[scan:end] * 5000 + progressive[end:], 1)
    assert refused.value.too_large


@pytest.mark.parametrize(
    "data",
    [b"", b"hello", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF0000WEBP", b"GIF89a" + b"\0" * 50, b"\xff\xd8\xff\xe0" + b"\xff" * 999],
)
def test_what_is_no_picture_is_refused(here: Served, data: bytes) -> None:
    answer = here.client.post("/api/infer", content=data)
    assert answer.status_code == 422 and "picture" in answer.json()["error"]


def test_an_oversized_body_is_refused_whatever_its_header_says(here: Served) -> None:
    body = b"\xff\xd8\xff" + b"\0" * 600_000
    assert here.client.post("/api/infer", content=body).status_code == 413
    chunked = here.client.post("/api/infer", content=(body[at : at + 50_000] for at in range(0, len(body), 50_000)))
    assert chunked.status_code == 413
    assert "500000 bytes" in chunked.json()["error"]


def test_a_body_that_is_announced_too_large_is_refused_before_it_is_sent(here: Served) -> None:
    with here.connected() as connection:
        head = "POST /api/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99000000000\r\nExpect: 100-continue\r\n\r\n"
        connection.sendall(head.encode())
        assert received(connection).startswith(b"HTTP/1.1 413")


def test_a_body_without_end_is_not_kept(here: Served) -> None:
    with here.connected() as connection:
        connection.sendall(b"POST /api/infer HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        sent = 0
        try:
            while sent < 300e6:
                connection.sendall(b"10000\r\n" + b"\0" * 0x10000 + b"\r\n")
                sent += 0x10000
        except OSError:
            pass
        assert sent < 200e6, "it was read on and on"


def test_headers_that_come_slowly_are_not_waited_for(here: Served) -> None:
    """A byte every 50 ms: uvicorn by itself would wait for ever."""
    late = here.number("late")
    with here.connected() as connection:
        began = time.monotonic()
        try:
            for byte in b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"X-Slow: 1\r\n" * 1000:
                connection.sendall(bytes([byte]))
                time.sleep(0.05)
                assert time.monotonic() - began < 5, "it is still waited for"
        except OSError:
            pass
        assert 0.4 < time.monotonic() - began < 3
    eventually(lambda: here.number("late") == late + 1, "counted")


def test_a_second_request_may_not_be_slow_either(here: Served) -> None:
    with here.connected() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200" in connection.recv(65536)
        began = time.monotonic()
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHo")
        received(connection)
        assert time.monotonic() - began < 3


def test_a_body_that_comes_slowly_is_not_waited_for(here: Served) -> None:
    with here.connected() as connection:
        connection.sendall(b"POST /api/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
        began = time.monotonic()
        try:
            while time.monotonic() - began < 8:
                connection.sendall(b"\xff")
                time.sleep(0.05)
        except OSError:
            pass
        assert 1 < time.monotonic() - began < 5


def test_an_answer_that_takes_longer_than_a_request_may_is_not_cut_off(site: SmallSite) -> None:
    """Deadlines are for what is received; a stream goes on."""
    with served(site, header_timeout_s=0.3, request_timeout_s=0.3) as here, here.client.stream("GET", "/api/poses/stream") as stream:
        began = time.monotonic()
        for _ in stream.iter_lines():
            if time.monotonic() - began > 1.5:
                break
        assert time.monotonic() - began > 1.5 and here.number("late") == 0


def test_connections_have_a_limit_and_room_again_when_one_goes(site: SmallSite) -> None:
    with served(site, max_clients=5, header_timeout_s=30) as here:
        held = [here.connected() for _ in range(5)]
        eventually(lambda: here.number("clients") == 5, "five connections")
        with here.connected() as sixth:
            assert received(sixth).startswith(b"HTTP/1.1 503")
        held.pop().close()
        eventually(lambda: here.number("clients") == 4, "room")
        assert here.client.get("/healthz").status_code == 200
        for connection in held:
            connection.close()


def test_one_address_cannot_take_all_connections(site: SmallSite) -> None:
    with served(site, max_clients_per_address=2) as here:
        held = [here.connected() for _ in range(2)]
        eventually(lambda: here.number("clients") == 2, "two connections")
        with here.connected() as third:
            assert b"503" in received(third)
        for connection in held:
            connection.close()


def test_addresses_of_one_ipv6_network_share_its_connections() -> None:
    connections = Connections(100, 2)
    assert [connections.admit((f"2001:db8::{n}", 5000), print) for n in range(4)] == [True, True, False, False]
    assert connections.admit(("2001:db8:0:1::1", 5000), print), "another network"
    connections.leave(("2001:db8::3", 5000))
    assert not connections.admit(("2001:db8::3", 5000), print), "one that was never admitted makes no room"
    connections.leave(("2001:db8::0", 5000))
    assert connections.admit(("2001:db8::3", 5000), print)
    assert [connections.admit((address, 1), print) for address in ("10.0.0.9", "::ffff:10.0.0.9")] == [True, True]
    assert not connections.admit(("10.0.0.9", 2), print), "an IPv4 address in IPv6 is itself"


def test_requests_of_one_address_have_a_rate(site: SmallSite) -> None:
    with served(site, requests_per_minute=20) as here:
        answers = [here.client.get("/api/session") for _ in range(30)]
        assert [answer.status_code for answer in answers[:20]] == [200] * 20
        assert answers[-1].status_code == 429 and 1 <= int(answers[-1].headers["retry-after"]) <= 60


def test_headers_have_a_size(here: Served) -> None:
    with here.connected() as connection:
        with suppress(OSError):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"y" * 200_000)
        answer = received(connection)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4")


@pytest.mark.parametrize(
    "line",
    [
        b"\x16\x03\x01\x02\x00",
        b"GET\r\n\r\n",
        b"GET / HTTQ/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"\0" * 100 + b"\r\n",
    ],
)
def test_what_is_no_request_is_refused(here: Served, line: bytes) -> None:
    with here.connected() as connection:
        connection.sendall(line)
        answer = received(connection)
    assert answer == b"" or (answer.startswith(b"HTTP/1.1 400") and b'{"error":' in answer)


def test_so_many_pictures_are_looked_at_at_a_time_and_no_more(site: SmallSite) -> None:
    picture = cv2.imencode(".png", stamped(0, 7))[1].tobytes()
    with served(site, max_inferences=1) as here, ThreadPoolExecutor(12) as threads:
        statuses = list(threads.map(lambda _: here.client.post("/api/infer", content=picture).status_code, range(60)))
    assert set(statuses) == {200, 503}
