from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from http_served import Served, eventually, served
from small_site import SmallSite, people_of, stamped

from edgepose.runtime.daemon.event import Event


@pytest.fixture(scope="module")
def here(site: SmallSite) -> Iterator[Served]:
    with served(site) as running:
        yield running


def jpeg(picture: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes()


def test_cameras_say_how_they_are(here: Served) -> None:
    cameras = here.client.get("/api/cameras").json()
    assert [camera["name"] for camera in cameras] == ["camera-0", "camera-1"]
    for camera in cameras:
        assert camera["condition"] == "live" and camera["size_wh"] == [640, 360]
        assert camera["captured"] >= camera["results"] > 0


def test_the_latest_people_are_where_they_really_are(here: Served) -> None:
    found = here.client.get("/api/poses/latest", params={"camera": "camera-1"}).json()
    assert found["camera"] == "camera-1" and found["size"] == [640, 360]
    truth = people_of(1).at(found["index"] / 20)
    necks = sorted(person["keypoints"][1][:2] for person in found["people"])
    wanted = sorted(person[1, :2].tolist() for person in truth.keypoints if person[1, 2])
    np.testing.assert_allclose(necks, wanted, atol=2)
    assert sum(found["stages_ms"].values()) == pytest.approx(found["age_ms"], abs=0.1)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/poses/latest?camera=camera-9", 404),
        ("/api/poses/latest", 422),
        ("/api/poses/stream?camera=camera-9", 404),
        ("/api/snapshot/camera-9.jpg", 404),
        ("/api/stream/camera-9.mjpg", 404),
        ("/api/events?limit=100000", 422),
        ("/api/logs?lines=-1", 422),
        ("/api/nothing", 404),
        ("/docs", 404),
    ],
)
def test_what_is_not_there_is_an_error_in_one_form(here: Served, path: str, status: int) -> None:
    answer = here.client.get(path)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"] and "\n" not in answer.json()["error"]


def test_a_wrong_method_is_an_error_in_the_same_form(here: Served) -> None:
    answer = here.client.delete("/api/cameras")
    assert answer.status_code == 405 and list(answer.json()) == ["error"]


def test_monitors_may_ask_without_wanting_a_body(site: SmallSite, here: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ("/healthz", "/readyz"):
        answer = here.client.head(path)
        assert (answer.status_code, answer.content) == (200, b"")
    monkeypatch.setattr(site, "missing", "door: lost")
    assert here.client.head("/readyz").status_code == 503


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_a_picture_gives_its_people(here: Served, suffix: str) -> None:
    data = cv2.imencode(suffix, stamped(1, 33))[1].tobytes()
    answer = here.client.post("/api/infer", content=data)
    truth = people_of(1).at(33 / 20)
    assert answer.status_code == 200
    assert len(answer.json()["people"]) == len(truth)
    for neck in truth.keypoints[:, 1, :2].tolist():
        assert any(np.allclose(person["keypoints"][1][:2], neck, atol=2) for person in answer.json()["people"])


def test_an_engine_that_fails_is_said_and_is_no_crash(site: SmallSite, here: Served) -> None:
    site.broken = "the engine reports a failure"
    try:
        answer = here.client.post("/api/infer", content=jpeg(stamped(0, 1)))
    finally:
        site.broken = ""
    assert answer.status_code == 503 and answer.json() == {"error": "the engine reports a failure"}


def test_a_snapshot_is_the_picture_and_with_a_skeleton_another(here: Served) -> None:
    plain = here.client.get("/api/snapshot/camera-0.jpg")
    picture = cv2.imdecode(np.frombuffer(plain.content, np.uint8), cv2.IMREAD_COLOR)
    truth = stamped(0, int(plain.headers["x-index"]))
    assert plain.headers["content-type"] == "image/jpeg"
    assert np.abs(picture.astype(int) - truth).mean() < 4
    drawn = here.client.get("/api/snapshot/camera-0.jpg?skeleton=1")
    picture = cv2.imdecode(np.frombuffer(drawn.content, np.uint8), cv2.IMREAD_COLOR)
    changed = np.abs(picture.astype(int) - stamped(0, int(drawn.headers["x-index"]))).max(-1) > 60
    assert 300 < changed.sum() < changed.size / 10


def test_many_who_ask_for_a_snapshot_share_one_encoding(site: SmallSite) -> None:
    with served(site) as here, ThreadPoolExecutor(20) as threads:
        index = [answer.headers["x-index"] for answer in threads.map(lambda _: here.client.get("/api/snapshot/camera-0.jpg"), range(100))]
        assert here.number("pictures") == len(set(index)) < 100


def test_health_runs_the_engine_but_not_for_everybody_who_asks(site: SmallSite) -> None:
    with served(site) as here, ThreadPoolExecutor(10) as threads:
        before, began = site.inferences, time.monotonic()
        answers = list(threads.map(lambda _: here.client.get("/healthz"), range(60)))
        seconds = time.monotonic() - began
        assert {answer.status_code for answer in answers} == {200}
        assert answers[0].json()["infer_ms"] > 0
        assert 1 <= site.inferences - before <= 1 + seconds


def test_health_says_that_the_engine_fails_and_that_it_is_well_again(site: SmallSite) -> None:
    with served(site) as here:
        site.broken = "the engine reports a failure"
        try:
            answer = here.client.get("/healthz")
        finally:
            site.broken = ""
        assert answer.status_code == 503 and answer.json()["error"] == "the engine reports a failure"
        eventually(lambda: here.client.get("/healthz").status_code == 200, "healthy again")


def test_ready_says_what_is_missing(site: SmallSite, here: Served) -> None:
    assert here.client.get("/readyz").json() == {"status": "ready"}
    site.missing = "camera-1 has given no result for 12 s"
    try:
        answer = here.client.get("/readyz")
    finally:
        site.missing = ""
    assert answer.status_code == 503 and answer.json() == {"error": "camera-1 has given no result for 12 s"}


def test_metrics_are_what_prometheus_reads(here: Served) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    text = here.client.get("/metrics").text
    samples = {(s.name, *sorted(s.labels.items())): s.value for family in text_string_to_metric_families(text) for s in family.samples}
    camera = ("camera", "camera-0")
    assert samples["edgepose_camera_results_total", camera] > 0
    assert samples["edgepose_camera_condition", camera, ("condition", "live")] == 1
    assert samples["edgepose_camera_condition", camera, ("condition", "lost")] == 0
    for stage in ("waiting", "preprocessing", "inference", "parsing"):
        assert samples["edgepose_stage_seconds_count", camera, ("stage", stage)] > 0
    assert samples["edgepose_result_age_seconds_count", camera] > 0
    assert samples["edgepose_people", camera] in (1, 2)
    assert samples["process_resident_memory_bytes",] > 1e6 and samples["process_open_fds",] > 3
    assert samples["edgepose_ready",] == 1
    assert samples["edgepose_service", ("number", "clients"), ("service", "http")] >= 1


def test_status_and_skeleton_describe_what_runs(here: Served) -> None:
    status = here.client.get("/api/status").json()
    assert status["engine"]["backend"] == "fake" and len(status["cameras"]) == 2
    assert status["services"]["http"]["clients"] >= 1
    skeleton = here.client.get("/api/skeleton").json()
    assert skeleton["keypoints"][1] == "neck" and all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in skeleton["colours"])


def test_events_are_kept_for_who_comes_later(site: SmallSite, here: Served) -> None:
    for number in range(300):
        site.events.publish(Event("camera-1", "presence", "changed", float(number), count=number))
    eventually(lambda: [event["count"] for event in here.client.get("/api/events?limit=1").json()] == [299], "the last event")
    assert [event["count"] for event in here.client.get("/api/events?limit=3").json()] == [299, 298, 297]
    assert len(here.client.get("/api/events?limit=200").json()) == 200
    assert here.client.get("/api/events?camera=camera-0").json() == []


def test_a_configuration_is_put_and_refused_as_the_site_says(here: Served) -> None:
    good = here.client.put("/api/config", content=b'bundle = "other.pose"')
    assert good.status_code == 200 and good.json() == {"applied": True, "reason": "", "changes": ["bundle: another"]}
    assert here.client.get("/api/config").json() == {"toml": 'bundle = "other.pose"'}
    back = here.client.put("/api/config", content=b'bundle = "torn.pose"')
    assert back.status_code == 409 and "put back" in back.json()["reason"]
    for wrong in (b"", b"\xff\xfe\x00", b"x = 1"):
        answer = here.client.put("/api/config", content=wrong)
        assert answer.status_code == 422 and list(answer.json()) == ["error"]
    assert here.client.put("/api/config", content=b"#" * 2_000_000).status_code == 413


def test_the_log_has_a_tail(here: Served) -> None:
    assert here.client.get("/api/logs?lines=3").json()["lines"][-1].endswith("camera-1: live")


def test_every_answer_carries_the_security_headers(here: Served) -> None:
    for path in ("/", "/api/cameras", "/nothing", "/page/main.js", "/metrics", "/api/snapshot/camera-0.jpg"):
        headers = here.client.get(path).headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"] and "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
        assert "server" not in headers and "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/page/../../../etc/passwd",
        "/page/%2e%2e/%2e%2e/settings.py",
        "/page//etc/passwd",
        "/api/snapshot/..%2f..%2fetc%2fpasswd.jpg",
    ]
    + ["/api/snapshot/../../x.jpg", "/api/stream/%2e%2e%2f.mjpg", "/page/main.js%00.css", "/page/%5c..%5cserver.py"],
)
def test_no_path_leads_to_a_file(here: Served, path: str) -> None:
    """By a raw socket: clients tidy paths up."""
    from http_served import received

    with here.connected() as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = received(connection)
    assert answer.startswith(b"HTTP/1.1 404") and b"root:" not in answer and b'{"error":' in answer


def test_the_openapi_description_has_examples_and_needs_nothing_from_elsewhere(here: Served) -> None:
    text = here.client.get("/openapi.json").text
    described = json.loads(text)
    assert {"/api/cameras", "/api/infer", "/api/poses/latest", "/healthz", "/metrics"} <= set(described["paths"])
    schemas = described["components"]["schemas"]
    assert schemas["PosesModel"]["properties"]["stages_ms"]["examples"]
    for name, schema in schemas.items():
        for field, said in schema.get("properties", {}).items():
            if name.endswith("Model") and "$ref" not in said and "$ref" not in said.get("items", {}):
                assert "examples" in said, f"{name}.{field}"


def test_nothing_is_left_when_the_server_stops(site: SmallSite) -> None:
    before = {thread.name for thread in threading.enumerate()}
    subscriptions = len(site.results.subscriptions)
    with served(site) as here:
        assert here.client.get("/healthz").status_code == 200
        stream = here.client.send(here.client.build_request("GET", "/api/poses/stream"), stream=True)
        began = time.monotonic()
        here.server.stop()
        assert time.monotonic() - began < 3
        stream.close()
    eventually(lambda: {thread.name for thread in threading.enumerate()} <= before, "no thread more than before")
    assert len(site.results.subscriptions) == subscriptions
    here.server.stop()
