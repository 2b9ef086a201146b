"""What an MQTT broker is told, and what it keeps."""

from __future__ import annotations

import json
import time

import pytest
from camera_results import EPOCH_S, camera_result
from mqtt_broker import PATIENCE_S, Broker, wait_until
from mqtt_site import DOOR, YARD, BenchSite, apply, connected, event, listening

from edgepose.engines.errors import ConfigError
from edgepose.runtime.daemon.event import Event
from edgepose.runtime.daemon.mqtt_discovery import Watched
from edgepose.runtime.daemon.mqtt_lasting import Lasting
from edgepose.runtime.daemon.services import Services

pytestmark = pytest.mark.needs("mosquitto")


def test_home_assistant_is_told_of_each_camera_and_event(broker: Broker) -> None:
    with connected(BenchSite(DOOR, YARD), broker.port), listening(broker) as live:
        live.wait(lambda heard: len({topic for topic, _, _ in heard if topic.startswith("homeassistant/")}) == 11)
    with listening(broker, "homeassistant/#") as listener:
        listener.wait(lambda heard: len(heard) == 11)
        configs = {topic: json.loads(payload) for topic, payload, retained in listener.heard if retained and topic.endswith("/config")}
    assert set(configs) == {
        f"homeassistant/{each}/config"
        for each in (
            "sensor/edgepose/door_condition",
            "sensor/edgepose/door_people",
            "sensor/edgepose/yard_condition",
            "sensor/edgepose/yard_people",
            "binary_sensor/edgepose/door_presence_mat",
            "sensor/edgepose/door_presence_mat_people",
            "binary_sensor/edgepose/door_fall",
            "binary_sensor/edgepose/door_hand_raised",
            "binary_sensor/edgepose/yard_presence",
            "event/edgepose/door_fall_event",
            "event/edgepose/door_hand_raised_event",
        )
    }
    assert len({config["unique_id"] for config in configs.values()}) == len(configs)
    assert len({json.dumps(config["device"]) for config in configs.values()}) == 1
    fall = configs["homeassistant/binary_sensor/edgepose/door_fall/config"]
    assert (fall["state_topic"], fall["device_class"], fall["availability_mode"]) == ("edgepose/door/state/fall", "safety", "all")
    assert [each["topic"] for each in fall["availability"]] == ["edgepose/availability", "edgepose/door/condition"]
    assert configs["homeassistant/event/edgepose/door_fall_event/config"]["event_types"] == ["started", "ended"]


def test_states_follow_the_events_and_are_retained(broker: Broker) -> None:
    site = BenchSite()
    with connected(site, broker.port):
        site.give(camera_result(people=3))
        with listening(broker) as live:
            for topic, state in (("zone/mat/state/presence", b"OFF"), ("zone/mat/count", b"0"), ("state/fall", b"OFF"), ("count", b"3")):
                live.wait_for(f"edgepose/door/{topic}", state)
            live.wait_for("edgepose/door/condition", b"live")
            live.wait_for("edgepose/availability", b"online")
            site.events.publish(event(1, "started", "fall", person=1))
            site.events.publish(event(2, "started", "fall", person=2))
            site.events.publish(event(3, "ended", "fall", person=1))
            site.events.publish(event(3, "started", "presence", zone="mat", count=2))
            live.wait_for("edgepose/door/zone/mat/count", b"2")
            live.wait(lambda _: len(live.of("edgepose/events")) == 4)
            site.condition = "lost"
            live.wait_for("edgepose/door/condition", b"lost")
        with listening(broker, "edgepose/+/state/+", "edgepose/+/zone/#") as later:
            later.wait_for("edgepose/door/state/fall", b"ON")
            later.wait_for("edgepose/door/zone/mat/state/presence", b"ON")
            site.events.publish(event(4, "ended", "fall", person=2))
            later.wait_for("edgepose/door/state/fall", b"OFF")


def test_reloads_leave_what_lasts_in_undisturbed_cameras_alone(broker: Broker) -> None:
    """Applied, refused and put back, and with other settings of MQTT."""
    site, services = BenchSite(), Services()
    state, count = "edgepose/door/zone/mat/state/presence", "edgepose/door/zone/mat/count"
    apply(services, site, broker.port, DOOR)
    try:
        with listening(broker, state, count, "edgepose/door/state/fall", "edgepose/yard/state/+") as listener:
            site.events.publish(event(1, "started", "presence", zone="mat", count=2))
            site.events.publish(event(1, "changed", "presence", zone="mat", count=6))
            site.events.publish(event(2, "started", "fall", person=3))
            listener.wait_for(count, b"6")
            listener.wait_for("edgepose/door/state/fall", b"ON")
            listener.forget()
            client = services._running["mqtt"][1]
            site.events.publish(Event("yard", "presence", "started", EPOCH_S, count=1))  # while the configuration is tried
            assert not [change for change in apply(services, site, broker.port, DOOR, YARD) if change.startswith("mqtt")]
            listener.wait_for("edgepose/yard/state/presence", b"ON")
            assert not [change for change in apply(services, site, broker.port, DOOR) if change.startswith("mqtt")]
            listener.wait_for("edgepose/yard/state/presence", b"")
            assert "mqtt: adjusted" in apply(services, site, broker.port, DOOR, poses_per_s=1)
            wait_until(lambda: client.status()["connections"] == 2)
            listener.wait(lambda _: listener.of(count))
            assert set(listener.of(count)) == {b"6"} and set(listener.of(state) + listener.of("edgepose/door/state/fall")) == {b"ON"}
            with pytest.raises(ConfigError, match="No such file"):
                apply(services, site, broker.port, DOOR, username="u", password_file="/nowhere/secret")
            assert services._running["mqtt"][1] is client and client.status()["connections"] == 2
    finally:
        services.stop(5)


def test_a_change_lasts_though_its_beginning_was_lost(broker: Broker) -> None:
    site = BenchSite()
    with connected(site, broker.port), listening(broker, "edgepose/door/zone/mat/#") as listener:
        site.events.publish(event(1, "changed", "presence", zone="mat", count=2))
        listener.wait_for("edgepose/door/zone/mat/state/presence", b"ON")
        listener.wait_for("edgepose/door/zone/mat/count", b"2")
        site.events.publish(event(2, "ended", "presence", zone="mat", count=0))
        listener.wait_for("edgepose/door/zone/mat/count", b"0")


def test_a_hook_that_never_ends_anything_costs_no_memory() -> None:
    lasting = Lasting()
    for index in range(3000):
        lasting.note(Watched("door", "fall", None), event(index, "started", "fall", person=index))
        lasting.note(Watched("door", "fall", str(index)), event(index, "started", "fall"))
    assert len(lasting._doing) == 1000 == max(map(len, lasting._doing.values()))
    assert Watched("door", "fall", "2999") in lasting and Watched("door", "fall", "0") not in lasting


def test_events_come_as_json_on_both_topics(broker: Broker) -> None:
    site = BenchSite()
    with connected(site, broker.port), listening(broker, "edgepose/events", "edgepose/door/event/+") as listener:
        site.events.publish(event(1, "started", "fall", person=7, detail={"speed": 0.9}))
        heard = listener.wait(lambda heard: len(heard) == 2)
    (all_topic, everything, _), (own_topic, own, _) = heard
    assert (all_topic, own_topic) == ("edgepose/events", "edgepose/door/event/fall")
    assert json.loads(everything) == {
        **{"at": EPOCH_S + 1, "camera": "door", "kind": "fall", "state": "started", "zone": None, "person": 7, "count": None},
        "detail": {"speed": 0.9},
    }
    assert json.loads(own) == {"event_type": "started", **json.loads(everything)}


def test_poses_come_at_most_so_often(broker: Broker) -> None:
    site = BenchSite()
    with connected(site, broker.port, poses_per_s=10), listening(broker, "edgepose/door/poses") as listener:
        began = time.monotonic()
        index = 0
        while len(listener.of("edgepose/door/poses")) < 8:
            assert time.monotonic() - began < PATIENCE_S
            site.give(camera_result(index=index))
            index += 1
            time.sleep(0.01)
        took_s = time.monotonic() - began
        found = [json.loads(payload) for payload in listener.of("edgepose/door/poses")]
    assert took_s >= 7 / 10 - 0.15 and index > 20
    assert [pose["index"] for pose in found] == sorted(pose["index"] for pose in found)
    assert len(found[0]["people"]) == 1 and found[0]["camera"] == "door"


def test_no_poses_where_none_are_wanted(broker: Broker) -> None:
    site = BenchSite()
    with connected(site, broker.port, poses_per_s=0) as client, listening(broker, "edgepose/#") as listener:
        for index in range(20):
            site.give(camera_result(index=index))
        site.events.publish(event(1))
        listener.wait(lambda _: listener.of("edgepose/events"))
        assert not listener.of("edgepose/door/poses") and client.status()["poses_sent"] == 0


def test_what_is_no_longer_configured_is_taken_down_in_home_assistant(broker: Broker) -> None:
    site = BenchSite(DOOR, YARD)
    with listening(broker) as listener:
        listener.say("homeassistant/sensor/edgepose/left_by_an_earlier_run/config", b"{}", retain=True)
        with connected(site, broker.port):
            listener.wait_for("homeassistant/sensor/edgepose/left_by_an_earlier_run/config", b"")
            listener.wait(lambda _: listener.of("homeassistant/binary_sensor/edgepose/yard_presence/config"))
            site.configured = [DOOR]
            listener.wait_for("homeassistant/binary_sensor/edgepose/yard_presence/config", b"")
            listener.wait_for("homeassistant/sensor/edgepose/yard_people/config", b"")
            listener.wait_for("edgepose/yard/state/presence", b"")
    with listening(broker) as later:
        later.wait(lambda heard: any(topic.endswith("door_fall/config") for topic, _, _ in heard))
        assert not any("yard" in topic or "earlier" in topic for topic, _, _ in later.heard if topic.startswith("homeassistant/"))


def test_discovery_that_is_switched_off_takes_everything_down_in_home_assistant(broker: Broker) -> None:
    site = BenchSite(DOOR)
    with listening(broker, "homeassistant/#") as live, connected(site, broker.port):
        live.wait(lambda heard: len(heard) == 8)
    with listening(broker, "homeassistant/#") as live, connected(site, broker.port, discovery=False):
        live.wait(lambda heard: len({topic for topic, payload, _ in heard if not payload}) == 8)
    with listening(broker, "homeassistant/#", "edgepose/availability") as live:
        assert [topic for topic, _, _ in live.wait(len)] == ["edgepose/availability"]


def test_what_the_broker_keeps_of_removed_cameras_is_taken_down(broker: Broker) -> None:
    left = (
        "yard/condition",
        "yard/count",
        "yard/state/presence",
        "yard/zone/gate/state/fall",
        "yard/zone/gate/count",
        "door/state/presence",
    )
    others = {"edgepose/kitchen/state/condition": b"live", "edgepose/door/count": b"4", "edgepose/yard/mine": b"x"}
    with listening(broker) as listener:
        for topic in left:
            listener.say(f"edgepose/{topic}", b"1", retain=True)
        for topic, payload in others.items():
            listener.say(topic, payload, retain=True)
        site = BenchSite(DOOR, {**YARD, "name": "lawn"})
        site.last["lawn"] = camera_result("lawn")
        with connected(site, broker.port):
            for topic in left:
                listener.wait_for(f"edgepose/{topic}", b"")
            listener.wait(lambda _: listener.of("edgepose/lawn/count"))
            site.configured = [DOOR]
            for topic in ("condition", "count", "state/presence"):
                listener.wait_for(f"edgepose/lawn/{topic}", b"")
    with listening(broker, "edgepose/#") as later:
        later.say("edgepose/heard", b"everything")
        later.wait_for("edgepose/heard", b"everything")
        kept = {topic: payload for topic, payload, _ in later.heard}
    assert not [topic for topic in kept if "lawn" in topic or topic.removeprefix("edgepose/") in left]
    assert kept.items() >= others.items()


def test_home_assistants_birth_has_everything_sent_again(broker: Broker) -> None:
    both = ("homeassistant/binary_sensor/edgepose/door_fall/config", "edgepose/door/state/fall")
    with connected(BenchSite(), broker.port), listening(broker, *both) as listener:
        listener.wait(lambda heard: {topic for topic, _, _ in heard} == set(both))
        listener.forget()
        listener.say("homeassistant/status", b"online")
        heard = listener.wait(lambda heard: {topic for topic, _, _ in heard} == set(both))
        assert not any(retained for _, _, retained in heard), "sent anew, not from the broker's memory"


def test_a_slash_at_the_end_of_the_prefix_is_one_slash(broker: Broker) -> None:
    with connected(BenchSite(), broker.port, discovery_prefix="homeassistant/"), listening(broker, "homeassistant/#") as listener:
        listener.wait(lambda _: listener.of("homeassistant/binary_sensor/edgepose/door_fall/config"))
