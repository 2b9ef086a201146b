from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from http_served import ADMIN, READ, Served, eventually, received, served, tokens
from ports import free_port
from small_site import SmallSite
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from edgepose.engines.errors import ConfigError
from edgepose.runtime.daemon.auth import AuthSettings
from edgepose.runtime.daemon.http.rate_limit import RateLimit
from edgepose.runtime.daemon.http.server import HttpServer
from edgepose.runtime.daemon.http.sessions import Sessions
from edgepose.runtime.daemon.http.settings import ServerSettings

FOR_READERS = ("/api/cameras", "/api/poses/latest?camera=camera-0", "/api/events", "/api/snapshot/camera-0.jpg", "/api/status", "/metrics")
FOR_ADMINS = ("/api/config", "/api/logs")


@pytest.fixture(scope="module")
def guarded(site: SmallSite) -> Iterator[Served]:
    with served(site, tokens()) as running:
        yield running


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_without_a_token_nothing_is_told_but_that_it_works(guarded: Served) -> None:
    for path in (*FOR_READERS, *FOR_ADMINS, "/api/skeleton", "/api/poses/stream", "/api/stream/camera-0.mjpg"):
        answer = guarded.client.get(path)
        assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer", path
    assert guarded.client.post("/api/infer", content=b"x").status_code == 401
    assert guarded.client.put("/api/config", content=b"x").status_code == 401
    for path in ("/", "/page/main.js", "/healthz", "/readyz", "/api/session"):
        assert guarded.client.get(path).status_code == 200


def test_who_is_not_known_hears_no_reasons(site: SmallSite, guarded: Served) -> None:
    site.missing = "camera-1 in the vault is lost"
    try:
        assert "vault" not in guarded.client.get("/readyz").text
        assert "vault" in guarded.client.get("/readyz", headers=bearer(READ)).text
    finally:
        site.missing = ""


def test_a_reader_reads_and_an_admin_does_all(guarded: Served) -> None:
    for path in FOR_READERS:
        assert guarded.client.get(path, headers=bearer(READ)).status_code == 200
        assert guarded.client.get(path, headers=bearer(ADMIN)).status_code == 200
    for path in FOR_ADMINS:
        assert guarded.client.get(path, headers=bearer(READ)).status_code == 403
        assert guarded.client.get(path, headers=bearer(ADMIN)).status_code == 200
    assert guarded.client.put("/api/config", content=b'bundle = "x"', headers=bearer(READ)).status_code == 403
    assert guarded.client.put("/api/config", content=b'bundle = "x"', headers=bearer(ADMIN)).status_code == 200


@pytest.mark.parametrize("path", ["/api/config%0a", "/api/config/", "/api//config", "/API/CONFIG", "/api/config%00", "/api/./config"])
def test_no_spelling_of_a_path_makes_a_reader_an_admin(guarded: Served, path: str) -> None:
    with guarded.connected() as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {READ}\r\nConnection: close\r\n\r\n".encode())
        status = received(connection).split()[1]
    assert status in (b"403", b"404")


def test_a_websocket_wants_a_token_too(guarded: Served) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(guarded.websocket("/api/poses/stream"))
    assert refused.value.response.status_code == 401
    with connect(guarded.websocket("/api/poses/stream"), additional_headers=bearer(READ)) as socket:
        assert '"people"' in str(socket.recv(timeout=10))


@pytest.mark.parametrize("header", ["Bearer wrong", "Bearer", "Basic " + READ, "Bearer " + "x" * 5000, READ, "Bearer " + READ[:-1]])
def test_a_wrong_token_is_refused(site: SmallSite, header: str) -> None:
    with served(site, tokens()) as here:
        answer = here.client.get("/api/cameras", headers={"Authorization": header})
    assert answer.status_code == 401
    assert "nobody's" in answer.json()["error"] and READ not in answer.text


def test_who_guesses_is_held_up_and_who_has_a_token_at_the_same_address_is_not(site: SmallSite) -> None:
    with served(site, tokens()) as here:
        answers = [here.client.get("/api/cameras", headers=bearer(f"guess {n}")) for n in range(15)]
        statuses = [answer.status_code for answer in answers]
        assert statuses[:10] == [401] * 10 and set(statuses[10:]) == {429}
        assert int(answers[-1].headers["retry-after"]) > 0
        assert here.client.post("/api/login", json={"token": "another guess"}).status_code == 429
        assert here.client.get("/api/cameras", headers=bearer(READ)).status_code == 200
        assert here.client.post("/api/login", json={"token": READ}).status_code == 200
        assert here.client.get("/api/cameras", headers=bearer("guess")).status_code == 429, "a right token lifts nothing for others"


def test_a_login_gives_a_cookie_that_scripts_cannot_read(site: SmallSite) -> None:
    with served(site, tokens()) as here:
        assert here.client.get("/api/session").json() == {"role": None, "name": None, "login": True}
        answer = here.client.post("/api/login", json={"token": READ})
        assert answer.status_code == 200 and answer.json()["role"] == "read"
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(answer.headers["set-cookie"].split("; "))
        assert READ not in answer.headers["set-cookie"]
        assert here.client.get("/api/session").json() == {"role": "read", "name": "reader", "login": True}
        assert here.client.get("/api/cameras").status_code == 200
        assert here.client.get("/api/config").status_code == 403
        cookie = f"edgepose-0={here.client.cookies['edgepose-0']}"
        with connect(here.websocket("/api/poses/stream"), additional_headers={"Cookie": cookie}) as socket:
            assert socket.recv(timeout=10)
        assert here.client.post("/api/logout").status_code == 200
        assert here.client.get("/api/cameras").status_code == 401


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'"x"', b'{"token": 5}', b'{"token": null}', b"\xff", b"[" * 3000])
def test_an_odd_login_is_refused(guarded: Served, body: bytes) -> None:
    answer = guarded.client.post("/api/login", content=body)
    assert answer.status_code == 422 and list(answer.json()) == ["error"]


def test_a_forged_or_old_cookie_is_nobodys() -> None:
    now = [0.0]
    auth = tokens()
    sessions = Sessions(auth, 60, lambda: now[0])
    cookie = sessions.begin(auth.tokens[0])
    held = sessions.holder(cookie)
    assert held is not None and held[0].name == "reader" and held[1] == 60
    name, until, signature = cookie.split(".")
    for forged in (
        f"boss.{until}.{signature}",
        f"{name}.99999999.{signature}",
        f"{name}.{until}.",
        "",
        ".",
        "..",
        f"{name}.x.{signature}",
        "ü.1.ü",
    ):
        assert sessions.holder(forged) is None
    assert Sessions(auth, 60, lambda: now[0]).holder(cookie) is None, "another server's key"
    now[0] = 60.001
    assert sessions.holder(cookie) is None


def test_a_login_that_is_used_goes_on_by_newer_cookies(site: SmallSite) -> None:
    with served(site, tokens(), session_minutes=3 / 60) as here:
        here.client.post("/api/login", json={"token": READ})
        first = here.client.cookies["edgepose-0"]
        eventually(
            lambda: here.client.get("/api/cameras").status_code == 200 and here.client.cookies["edgepose-0"] != first, "a newer cookie"
        )
        cookie, url = {"Cookie": f"edgepose-0={first}"}, f"{here.server.url}/api/session"
        eventually(lambda: httpx.get(url, headers=cookie, trust_env=False).json()["role"] is None, "the first cookie runs out")


def test_a_login_ends_none_at_another_daemon_of_the_same_machine(site: SmallSite) -> None:
    with ExitStack() as stack:
        one, other = (stack.enter_context(served(site, tokens(), port=free_port())) for _ in range(2))
        browser = stack.enter_context(httpx.Client(trust_env=False))
        for here, token in ((one, READ), (other, ADMIN)):
            browser.post(f"{here.server.url}/api/login", json={"token": token})
        assert [browser.get(f"{here.server.url}/api/session").json()["role"] for here in (one, other)] == ["read", "admin"]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8700", "10.0.0.1", "", "[::1", "%"])
def test_without_tokens_only_names_of_this_machine_are_answered(site: SmallSite, host: str) -> None:
    with served(site) as here:
        assert here.client.get("/api/cameras", headers={"Host": host}).status_code == 403
        for own in ("localhost", "localhost:1", "127.0.0.1:8700", "127.0.0.5", "[::1]:80", "LOCALHOST"):
            assert here.client.get("/api/cameras", headers={"Host": own}).status_code == 200


def test_other_pages_may_neither_change_nor_read(site: SmallSite) -> None:
    with served(site) as here:
        own = f"127.0.0.1:{here.server.port}"
        for origin in (
            "http://evil.example",
            "null",
            f"http://{own}.evil.example",
            "http://localhost:3000",
            "http://[",
            f"http://x@{own}.de",
        ):
            assert here.client.put("/api/config", content=b'bundle = "x"', headers={"Origin": origin}).status_code == 403
            with pytest.raises(InvalidStatus) as refused:
                connect(here.websocket("/api/poses/stream"), origin=origin)  # type: ignore[arg-type]
            assert refused.value.response.status_code == 403
        assert here.client.put("/api/config", content=b'bundle = "x"', headers={"Origin": f"http://{own}"}).status_code == 200
        for site_said in ("cross-site", "same-site"):
            answer = here.client.get("/api/snapshot/camera-0.jpg", headers={"Sec-Fetch-Site": site_said, "Sec-Fetch-Mode": "no-cors"})
            assert answer.status_code == 403
        assert (
            here.client.options("/api/cameras", headers={"Origin": "http://evil.example"}).headers.get("access-control-allow-origin")
            is None
        )


def test_other_machines_are_not_let_in_without_a_token(site: SmallSite) -> None:
    with pytest.raises(ConfigError, match="make a token"):
        HttpServer(ServerSettings(host="0.0.0.0"), AuthSettings(), site, None)  # type: ignore[arg-type]


def test_an_address_that_is_taken_is_said_in_one_line(site: SmallSite, guarded: Served) -> None:
    server = HttpServer(ServerSettings(port=guarded.server.port), tokens(), site, None)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=f"127.0.0.1 port {guarded.server.port}: Address already in use"):
        server.start()
    server.stop()


@pytest.mark.needs("openssl")
def test_with_a_certificate_it_speaks_tls_only_and_the_cookie_is_secure(site: SmallSite, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*made, *subject, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    trusted = ssl.create_default_context(cafile=str(certificate))
    with served(site, tokens(), tls_certificate=certificate, tls_key=key, header_timeout_s=0.5) as here:
        with httpx.Client(base_url=here.server.url, verify=trusted, trust_env=False) as client:
            assert client.get("/healthz").status_code == 200
            cookie = client.post("/api/login", json={"token": READ}).headers["set-cookie"]
            assert cookie.startswith("__Host-edgepose-0=") and cookie.endswith("Secure")
        with connect(here.websocket("/api/poses/stream"), ssl=trusted, additional_headers=bearer(READ)) as socket:
            assert socket.recv(timeout=10)
        with here.connected() as silent:
            assert received(silent) == b"", "a handshake that never comes is not waited for"
        with here.connected() as plain:
            plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"HTTP/1.1 200" not in received(plain)


def test_a_certificate_that_is_none_is_said_in_one_line(site: SmallSite, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("nothing")
    server = HttpServer(ServerSettings(port=0, tls_certificate=wrong, tls_key=wrong), tokens(), site, None)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"tls_certificate: .*wrong\.pem"):
        server.start()
    server.stop()


def test_a_rate_is_refilled_and_remembers_no_more_than_so_many() -> None:
    now = [0.0]
    rate = RateLimit(60, 3, lambda: now[0])
    assert [rate.take("10.0.0.1") for _ in range(4)] == [0, 0, 0, 1]
    assert rate.take("10.0.0.2") == 0
    now[0] = 2.0
    assert [rate.take("10.0.0.1") for _ in range(3)] == [0, 0, 1]
    for number in range(6000):
        rate.take(f"2001:db8:{number:x}::1")
    assert len(rate._left) == 4096
    assert rate.take("2001:db8:176f::2") == 0 and rate.take("2001:db8:176f:0:5::3") == 0
    assert rate.take("2001:db8:176f::4") == 1, "a network of 64 bits is one"
    assert rate.take("::ffff:10.0.0.9") == 0
