from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from http_served import ADMIN, Served, received, served, tokens
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_site import SmallSite

PATHS = (
    "/",
    "/api/cameras",
    "/api/poses/latest",
    "/api/infer",
    "/api/snapshot/{}.jpg",
    "/api/stream/{}.mjpg",
    "/api/poses/stream",
    "/api/events",
)
PATHS += (
    "/api/config",
    "/api/logs",
    "/api/session",
    "/api/login",
    "/api/logout",
    "/api/skeleton",
    "/api/status",
    "/metrics",
    "/{}",
    "/page/{}",
)
NAMES = st.one_of(st.sampled_from(["camera", "lines", "limit", "skeleton", "events", "pictures"]), st.text(max_size=8))
VALUES = st.one_of(st.sampled_from(["camera-7", "1", "-1", "0", "99999999999999999999", "NaN", "true", "", "%00"]), st.text(max_size=30))
HEADERS = st.sampled_from(
    ["", "Cookie: edgepose-0=x.1.y\r\n", "Cookie: =;=\xff\r\n", "Origin: http://[\r\n", "Content-Length: 5\r\n", "If-None-Match: \xfc\r\n"]
    + [
        "Upgrade: websocket\r\nConnection: Upgrade\r\n",
        "Upgrade: h2c\r\nConnection: Upgrade\r\n",
        "Range: bytes=0-\r\n",
        "Expect: 100-continue\r\n",
    ]
    + ["Transfer-Encoding: chunked\r\n", "Authorization: \xff\xff\r\n", "Sec-Fetch-Site: none\r\n", "Content-Type: multipart/form-data\r\n"]
)
METHODS = st.sampled_from(["GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE", "PATCH", "TRACE", "CONNECT", "X"])


@pytest.fixture(scope="module")
def here(site: SmallSite) -> Iterator[Served]:
    with served(site, tokens(), header_timeout_s=0.3, request_timeout_s=0.3) as running:
        yield running


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_no_request_makes_the_server_fail(here: Served, data: Any) -> None:
    """Names of cameras that are not there: streams would go on."""
    path = data.draw(st.sampled_from(PATHS)).format(quote(data.draw(VALUES), safe=data.draw(st.sampled_from(["", "/", "%/.."]))))
    query = data.draw(st.dictionaries(NAMES, VALUES, max_size=2)) | {"camera": "camera-7"}
    body: bytes = data.draw(st.binary(max_size=60))
    token = f"Authorization: Bearer {ADMIN}\r\n" if data.draw(st.booleans()) else ""
    asked = "&".join(f"{quote(name)}={quote(value)}" for name, value in query.items())
    head = f"{data.draw(METHODS)} {path}?{asked} HTTP/1.1\r\nHost: localhost\r\n{token}{data.draw(HEADERS)}"
    answer = _asked(here, (head + "Connection: close\r\n\r\n").encode("latin-1") + body)
    status = int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 400
    assert status < 500, answer[:300]
    if status >= 400 and answer and not head.startswith("HEAD"):
        assert b'{"error":' in answer and b"Traceback" not in answer


def _asked(here: Served, request: bytes) -> bytes:
    with here.connected() as connection:
        connection.sendall(request)
        try:
            return received(connection)
        except TimeoutError:
            pytest.fail(f"no answer and no end: {request[:300]!r}")


def test_after_all_that_it_works_as_before(here: Served) -> None:
    assert here.number("errors") == 0 and here.number("streams") == 0
    assert here.client.get("/api/cameras", headers={"Authorization": f"Bearer {ADMIN}"}).status_code == 200
