from __future__ import annotations

from http_served import Served, eventually, received, served
from small_site import SmallSite


def make_the_loop_fail(here: Served) -> None:
    """asyncio then raises in the thread that runs it."""
    loop = here.server._parts.broadcast._loop
    assert loop is not None
    loop.call_soon_threadsafe(loop.stop)


def test_a_server_whose_loop_failed_says_so_and_another_can_take_its_place(site: SmallSite) -> None:
    with served(site) as first:
        assert first.client.get("/healthz").status_code == 200 and not first.server.failed
        make_the_loop_fail(first)
        eventually(lambda: first.server.failed, "failed")
        assert first.number("errors") == 1
        with served(site, port=first.server.port) as second:
            assert second.client.get("/healthz").status_code == 200 and not second.server.failed


def test_a_server_that_failed_holds_no_client(site: SmallSite) -> None:
    with served(site) as here, here.connected() as idle, here.connected() as watching:
        watching.sendall(b"GET /api/poses/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        eventually(lambda: here.number("streams") == 1, "a stream")
        make_the_loop_fail(here)
        assert received(watching).startswith(b"HTTP/1.1 200") and received(idle) == b""
        eventually(lambda: here.number("streams") == 0 and here.number("clients") == 0, "none")


def test_a_server_that_was_stopped_has_not_failed(site: SmallSite) -> None:
    with served(site) as here:
        here.server.stop()
        assert not here.server.failed and here.number("errors") == 0
