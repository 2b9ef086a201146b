"""What the configuration file may say, and what somebody is told who got it wrong."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ports import free_port

from edgepose.engines.errors import ConfigError
from edgepose.runtime.daemon.config import DaemonSettings, settings_from_file, settings_from_toml, variables, without_secrets
from edgepose.runtime.daemon.explanation import findings

BUNDLE = 'bundle = "net.pose"\n'
CAMERA = '[[cameras]]\nname = "door"\nsource = "test:pattern"\n'
PRESENCE = '[[cameras.events]]\nkind = "presence"\n'
FALL = '[[cameras.events]]\nkind = "fall"\n'
ZONE = '[[cameras.zones]]\nname = "stairs"\npolygon = [[0, 0], [1, 0], [1, 1]]\n'
TOKEN = f'[[auth.tokens]]\nname = "kitchen"\nrole = "read"\nhash = "sha256:{"0" * 32}:{"1" * 64}"\n'
EXAMPLE = Path(__file__).resolve().parents[3] / "deploy" / "pose.toml"
NOTHING_SAID: dict[str, str] = {}


def settings(text: str, folder: Path = Path("/box"), **environment: str) -> DaemonSettings:
    return settings_from_toml(text, "pose.toml", folder, environment)


def test_the_shortest_configuration_is_a_bundle_and_listens_to_this_machine_only() -> None:
    made = settings(BUNDLE)
    assert made.bundle == Path("/box/net.pose")
    assert (made.server.host, made.server.port) == ("127.0.0.1", 8700)
    assert made.mqtt is made.recording is made.hook is None


def test_every_path_is_taken_from_the_folder_of_the_configuration(tmp_path: Path) -> None:
    text = BUNDLE + '[recording]\nfolder = "poses"\n[mqtt]\nhost = "b"\nusername = "u"\npassword_file = "/run/secret"\n'
    file = tmp_path / "pose.toml"
    file.write_text("\ufeff" + text + '[[cameras]]\nname = "a"\nsource = "film.mp4"\n', encoding="utf-8")
    made = settings_from_file(file, NOTHING_SAID)
    assert made.bundle == tmp_path / "net.pose"
    assert made.recording is not None and made.recording.folder == tmp_path / "poses"
    assert made.mqtt is not None and made.mqtt.password_file == Path("/run/secret")
    assert made.cameras[0].source == str(tmp_path / "film.mp4")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "pose.toml: names neither cameras nor a bundle"),
        ("bundle = [[\n", "not TOML"),
        (BUNDLE + "[server\n", "(at line 2, column 8)"),
        (BUNDLE + "slots = " + "1" * 5000, "not TOML"),
        (BUNDLE + "slots = " + "[" * 5000, "not TOML"),
        ("#" * 1_000_001, "1000001 characters: wanted at most 1000000"),
        ('bundle = "a\\u0000b"', "NUL"),
        ('bundel = "a"', "unknown key 'bundel' (did you mean 'bundle'?)"),
        (BUNDLE + "[recordings]\n", "unknown key 'recordings' (did you mean 'recording'?)"),
        (BUNDLE + "[server]\nprot = 1\n", "unknown key 'server.prot' (did you mean 'port'?)"),
        (BUNDLE + '[mqtt]\nhost = "b"\npasword_file = "x"\n', "unknown key 'mqtt.pasword_file' (did you mean 'password_file'?)"),
        (BUNDLE + CAMERA + '[[cameras]]\nname = "b"\nsorce = "x"\n', "unknown key 'cameras.1.sorce' (did you mean 'source'?)"),
        (BUNDLE + CAMERA + FALL + "aftr_s = 1\n", "unknown key 'cameras.0.events.0.aftr_s' (did you mean 'after_s'?)"),
        (BUNDLE + CAMERA + ZONE + "polygone = 1\n", "unknown key 'cameras.0.zones.0.polygone' (did you mean 'polygon'?)"),
        (BUNDLE + CAMERA + '[[cameras.events]]\nkind = "presense"\n', "cameras.0.events.0.kind: 'presense' is not one of presence, "),
        (BUNDLE + CAMERA + '[[cameras.events]]\nkind = "presense"\n', "(did you mean 'presence'?)"),
        (BUNDLE + CAMERA + "[[cameras.events]]\nafter_s = 1\n", "cameras.0.events.0.kind: missing"),
        (BUNDLE + CAMERA + FALL + "after_s = -1\n", "cameras.0.events.0.after_s: Input should be greater than or equal to 0, found -1"),
        (BUNDLE + "[server]\nport = 70000\n", "server.port: Input should be less than or equal to 65535, found 70000"),
        (BUNDLE + '[log]\nlevel = "warn"\n', "log.level: 'warn' is not one of debug, info, warning, error (did you mean 'warning'?)"),
        (BUNDLE + "server = 8700\n", "server: wanted a table of keys, found 8700"),
        (BUNDLE + '[cameras]\nname = "a"\n', "cameras: wanted a list"),
        (BUNDLE + '[[cameras]]\nname = "../a"\nsource = "x"\n', "cameras.0.name: String should match pattern"),
        (BUNDLE + '[[cameras]]\nname = "é"\nsource = "x"\n', "cameras.0.name: String should match pattern"),
        (BUNDLE + f'[[cameras]]\nname = "{"a" * 65}"\nsource = "x"\n', "cameras.0.name: String should match pattern"),
        (BUNDLE + '[[cameras]]\nname = "a\\n"\nsource = "x"\n', "cameras.0.name: String should match pattern"),
        (BUNDLE + "[recording]\nfolder = 'x'\nsegment_s = nan\n", "recording.segment_s: Input should be "),
    ],
)
def test_a_mistake_is_named_with_file_key_and_remedy_in_one_line(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as raised:
        settings(text)
    assert told in str(raised.value)
    assert str(raised.value).startswith("pose.toml") and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (CAMERA + CAMERA.replace("door", "Door"), "cameras: 2 are named 'door'"),
        (CAMERA + ZONE + FALL + 'zones = ["stair"]\n', "event 'fall' names zone 'stair' (did you mean 'stairs'?): its zones are stairs"),
        (CAMERA + "track = false\n" + FALL, "camera door: event 'fall' wants track = true"),
        (CAMERA + FALL + 'zones = ["stairs"]\n', "it has no [[cameras.zones]]"),
        (CAMERA + ZONE + ZONE, "camera door: two zones named 'stairs'"),
        ('[server]\nhost = "0.0.0.0"\n', "server.host: 0.0.0.0 is reached from other machines"),
        ('[server]\nhost = "::"\n', "server.host: :: is reached from other machines"),
        ('[server]\nhost = "box.lan"\n', "make one with `pose-daemon token`"),
        ('[server]\ntls_key = "k"\n', "server.tls_key: wants server.tls_certificate too"),
        ('[server]\ntls_certificate = "c"\n', "server.tls_certificate: wants server.tls_key too"),
        (TOKEN + TOKEN, "auth.tokens: 2 are named 'kitchen'"),
        ('[mqtt]\nhost = "b"\npassword_env = "P"\n', "mqtt: a password without a username: add username"),
        (CAMERA + 'password_env = "P"\n', "a password wants a source that names the user and no password"),
    ],
)
def test_what_contradicts_itself_is_refused(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as raised:
        settings(BUNDLE + text)
    assert told in str(raised.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_this_machine_needs_no_token(host: str) -> None:
    assert settings(BUNDLE + f'[server]\nhost = "{host}"\n').server.host == host


def test_a_token_opens_the_server_to_other_machines() -> None:
    assert settings(BUNDLE + '[server]\nhost = "0.0.0.0"\n' + TOKEN).auth.tokens[0].role == "read"


def test_the_command_line_goes_before_the_environment_and_that_before_the_file() -> None:
    text = BUNDLE + "[server]\nport = 1000\n"
    assert settings(text).server.port == 1000
    assert settings(text, EDGEPOSE_SERVER_PORT="2000").server.port == 2000
    environment = {"EDGEPOSE_SERVER_PORT": "2000"}
    assert settings_from_toml(text, "t", environment=environment, options={"server.port": 3000}).server.port == 3000


def test_the_environment_reaches_every_scalar_and_makes_a_section_that_the_file_lacks() -> None:
    made = settings("", EDGEPOSE_BUNDLE="n.pose", EDGEPOSE_MQTT_HOST="broker", EDGEPOSE_SERVER_PAGE="false", EDGEPOSE_POSE_MIN_SCORE="0.5")
    assert made.mqtt is not None and made.mqtt.host == "broker"
    assert (made.bundle, made.server.page, made.pose.min_score) == (Path("/box/n.pose"), False, 0.5)
    named = variables()
    assert not [name for name in named if "CAMERAS" in name or "TOKENS" in name]
    assert {"EDGEPOSE_SLOTS", "EDGEPOSE_RECORDING_QUOTA_MB", "EDGEPOSE_HOOK_FILE", "EDGEPOSE_LOG_LEVEL"} <= named.keys()


def test_a_wrong_variable_is_named_and_somebody_elses_left_alone() -> None:
    with pytest.raises(ConfigError, match="unknown variable EDGEPOSE_SERVER_PROT \\(did you mean 'EDGEPOSE_SERVER_PORT'\\?\\)"):
        settings(BUNDLE, EDGEPOSE_SERVER_PROT="1")
    with pytest.raises(ConfigError, match=r"pose.toml with EDGEPOSE_SERVER_PORT: server.port: .*'many'"):
        settings(BUNDLE, EDGEPOSE_SERVER_PORT="many")
    assert settings(BUNDLE, EDGEPOSE_ASSETS="somewhere")


def test_nothing_secret_is_in_what_is_shown_or_in_an_error() -> None:
    text = BUNDLE + '[[cameras]]\nname = "a"\nsource = "rtsp://viewer:hunter2@cam/x?token=hunter2&passphrase=hunter2"\n' + TOKEN
    shown = json.dumps(without_secrets(settings(text)))
    assert "hunter2" not in shown and "1" * 64 not in shown
    assert "viewer:***@cam" in shown and "kitchen" in shown
    for wrong in ('password = "hunter2"\n', 'password_env = "hunter2!"\n', "password_file = 7\n"):
        with pytest.raises(ConfigError) as raised:
            settings(BUNDLE + '[mqtt]\nhost = "b"\nusername = "u"\n' + wrong)
        assert "hunter2" not in str(raised.value)


def test_a_cameras_password_comes_from_a_file_or_the_environment(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("p@ss/word\nsecond line\n")
    camera = '[[cameras]]\nname = "a"\nsource = "rtsp://viewer@cam/stream"\n'
    made = settings(BUNDLE + camera + 'password_file = "secret"\n', tmp_path).cameras[0]
    assert made.address() == "rtsp://viewer:p%40ss%2Fword@cam/stream"
    (tmp_path / "secret").write_bytes(b"\xef\xbb\xbfsaved-by-notepad\r\n")
    assert made.address() == "rtsp://viewer:saved-by-notepad@cam/stream"
    made = settings(BUNDLE + camera + 'password_env = "DOOR"\n').cameras[0]
    assert made.address({"DOOR": "x"}) == "rtsp://viewer:x@cam/stream"
    for source in ("http://me@mail.com@cam:80/x?to=a@b", "http://me%40mail.com@cam:80/x?to=a@b"):
        made = settings(BUNDLE + camera.replace("rtsp://viewer@cam/stream", source) + 'password_env = "DOOR"\n').cameras[0]
        assert made.address({"DOOR": "x"}) == "http://me%40mail.com:x@cam:80/x?to=a@b"
    with pytest.raises(ConfigError, match=r"camera a.password_env: no environment variable DOOR"):
        made.address({})


@pytest.mark.parametrize(
    ("content", "told"), [(None, "No such file"), (b"\xff\xfe\n", "not UTF-8 text"), (b"\nlater\n", "its first line is empty")]
)
def test_a_password_file_without_a_password_is_told(tmp_path: Path, content: bytes | None, told: str) -> None:
    if content is not None:
        (tmp_path / "secret").write_bytes(content)
    text = BUNDLE + '[[cameras]]\nname = "a"\nsource = "rtsp://viewer@cam/stream"\npassword_file = "secret"\n'
    with pytest.raises(ConfigError, match=f"camera a.password_file: .*{told}"):
        settings(text, tmp_path).cameras[0].address()


def test_a_file_that_is_missing_or_no_text_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.toml: No such file"):
        settings_from_file(tmp_path / "none.toml", NOTHING_SAID)
    (tmp_path / "latin.toml").write_bytes(b'bundle = "caf\xe9"')
    with pytest.raises(ConfigError, match=r"latin.toml: not UTF-8 text \(byte 13\)"):
        settings_from_file(tmp_path / "latin.toml", NOTHING_SAID)


def said(made: DaemonSettings, verdict: str) -> str:
    return "\n".join(finding.text for finding in findings(made) if finding.verdict == verdict)


def test_a_check_says_what_each_part_is(tiny_bundles: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "hook.py").write_text("def on_poses(result):\n    pass\n")
    text = f'bundle = "{tiny_bundles["ov-fp32"]}"\n[server]\nport = {free_port()}\n'
    text += '[recording]\nfolder = "new/poses"\n[hook]\nfile = "hook.py"\n'
    made = settings(text + CAMERA + ZONE + PRESENCE + 'zones = ["stairs"]\n', tmp_path)
    assert not said(made, "wrong")
    told = said(made, "ok")
    assert "ov-fp32, 32 x 24, skeleton dumbbell" in told and "camera door: test:pattern" in told and "presence in stairs" in told
    assert "free; no token wanted" in told and "made at the start" in told and "hook.py" in told
    assert not (tmp_path / "new").exists(), "a check writes nothing"


def test_a_check_refuses_events_that_the_network_cannot_give(tiny_bundles: dict[str, Path]) -> None:
    made = settings(f'bundle = "{tiny_bundles["ov-fp32"]}"\n[server]\nport = {free_port()}\n{CAMERA}{FALL}')
    assert said(made, "wrong").startswith("camera door: event 'fall' needs the shoulders of people, and skeleton 'dumbbell' has no")


def test_a_check_finds_what_this_machine_lacks(tmp_path: Path) -> None:
    (tmp_path / "hook.py").write_text("def on_poses(:\n")
    (tmp_path / "file").write_text("")
    (tmp_path / "key.pem").write_text("no key")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = f'[server]\nport = {taken.getsockname()[1]}\ntls_certificate = "key.pem"\ntls_key = "key.pem"\n'
        rest = '[recording]\nfolder = "file/poses"\n[hook]\nfile = "hook.py"\n[mqtt]\nhost = "b"\nusername = "u"\npassword_file = "none"\n'
        cameras = '[[cameras]]\nname = "a"\nsource = "none.mp4"\n[[cameras]]\nname = "b"\nsource = "v4l2:///dev/video999"\n'
        made = settings(BUNDLE + server + rest + cameras + '[[cameras]]\nname = "c"\nsource = "smb://x/y"\n', tmp_path)
        wrong = said(made, "wrong")
    for told in (
        "net.pose: not a bundle",
        "is taken",
        "do not open",
        "file: is no folder",
        "hook.py: invalid syntax",
        "mqtt.password_file",
    ):
        assert told in wrong
    assert "camera a: " in wrong and "camera b: " in wrong and "camera c: smb://x/y: smb:// is unknown" in wrong


def test_a_check_says_what_cannot_be_looked_at() -> None:
    """As in somebody else's home, but for root too: no file system has names so long."""
    far = f"/{'x' * 300}/there"
    made = settings(f'bundle = "{far}"\n[[cameras]]\nname = "a"\nsource = "{far}.mp4"\n[recording]\nfolder = "{far}"\n')
    wrong = said(made, "wrong")
    assert all(told in wrong for told in (f"bundle: {far}: ", f"camera a: {far}.mp4: ", f"recording: {far}: File name too long"))


def test_a_folder_whose_name_is_not_utf_8_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"pose.toml: a folder or file whose name is not UTF-8"):
        settings(BUNDLE + CAMERA, tmp_path / os.fsdecode(b"caf\xe9"))


def test_a_check_says_who_could_read_a_secret(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x\n")
    (tmp_path / "secret").chmod(0o644)
    text = '[[cameras]]\nname = "a"\nsource = "rtsp://viewer@cam/stream"\npassword_file = "secret"\n'
    text += '[[cameras]]\nname = "b"\nsource = "rtsp://viewer:hunter2@cam/stream"\n'
    told = said(settings(BUNDLE + text, tmp_path), "note")
    assert "others may read" in told and "camera b: its password is in the configuration" in told
    assert "hunter2" not in told


def test_a_host_that_is_no_name_is_told() -> None:
    assert "server: a..b: " in said(settings(BUNDLE + '[server]\nhost = "a..b"\n' + TOKEN), "wrong")


def refusal(text: str, options: dict[str, object]) -> str:
    """Nothing where it is taken."""
    try:
        settings_from_toml(text, "pose.toml", environment={}, options=options)
    except ConfigError as error:
        return str(error)
    return ""


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.lists(st.integers(), max_size=2), st.just({"a": [{}]})
)


@given(st.sampled_from(sorted(variables().values())), ODD)
def test_whatever_a_key_holds_it_is_taken_or_refused_in_one_line(key: str, value: object) -> None:
    """As a program that makes configurations might get it wrong."""
    told = refusal(BUNDLE, {key: value})
    assert not told or (told.startswith("pose.toml: ") and "\n" not in told)


@given(st.data())
def test_a_torn_file_is_taken_or_refused_in_one_line(data: st.DataObject) -> None:
    text = EXAMPLE.read_text()
    start = data.draw(st.integers(0, len(text)))
    torn = text[:start] + data.draw(st.text(max_size=5)) + text[start + data.draw(st.integers(0, 30)) :]
    told = refusal(torn, {})
    assert not told or (told.startswith("pose.toml: ") and "\n" not in told)
