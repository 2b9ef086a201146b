"""What `pose-daemon --check` tells people: what a configuration means on this machine, and what is wrong with it here."""

from __future__ import annotations

import ast
import errno
import os
import shutil
import socket
import ssl
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from edgepose.engines.bundle import Bundle, open_bundle
from edgepose.engines.errors import ConfigError, EdgePoseError
from edgepose.engines.skeleton import Skeleton
from edgepose.runtime.daemon.camera_settings import CameraSettings
from edgepose.runtime.daemon.config import DaemonSettings
from edgepose.runtime.daemon.events.watch import CameraWatch
from edgepose.runtime.daemon.hook_settings import HookSettings
from edgepose.runtime.daemon.http.settings import ServerSettings
from edgepose.runtime.daemon.mqtt_settings import MqttSettings
from edgepose.runtime.daemon.recording_settings import RecordingSettings
from edgepose.runtime.daemon.secret import secret_from
from edgepose.runtime.ffmpeg_link import without_password
from edgepose.runtime.sources import open_source


@dataclass(frozen=True, slots=True)
class Finding:
    """`wrong`: the daemon would not do what the configuration asks for; `note`: it would, and somebody should know this."""

    verdict: Literal["ok", "note", "wrong"]
    text: str

    def __str__(self) -> str:
        return f"{self.verdict:5}  {self.text}"


def explained(settings: DaemonSettings) -> list[str]:
    """`findings` as lines for people."""
    return [str(finding) for finding in findings(settings)]


def findings(settings: DaemonSettings) -> list[Finding]:
    """What was looked at and found: files, folders, the port. Connects to no camera and no broker, starts no engine, writes nothing."""
    try:
        bundle = open_bundle(settings.bundle)
        skeleton, found = bundle.contract.skeleton, [_of_bundle(bundle, settings)]
    except EdgePoseError as error:
        skeleton, found = None, [Finding("wrong", f"bundle: {error}")]
    for camera in settings.cameras:
        found += _of_camera(camera)
        found += _of_events(camera, skeleton) if skeleton else []
    if not settings.cameras:
        found.append(Finding("note", "cameras: none; only POST /api/infer finds people"))
    found += _of_server(settings.server, len(settings.auth.tokens))
    found += _of_mqtt(settings.mqtt) if settings.mqtt else []
    found += _of_recording(settings.recording) if settings.recording else []
    found += _of_hook(settings.hook) if settings.hook else []
    return found


def _of_bundle(bundle: Bundle, settings: DaemonSettings) -> Finding:
    manifest, wanted = bundle.manifest, bundle.contract.input
    network = f"{manifest.name}, {manifest.target}, {wanted.width} x {wanted.height}, skeleton {bundle.contract.skeleton.name}"
    slots = "" if settings.slots is None else f", {settings.slots} slots"
    return Finding("ok", f"bundle: {network}; whole and unchanged; device {settings.device}{slots}")


def _of_camera(camera: CameraSettings) -> Iterator[Finding]:
    name = f"camera {camera.name}"
    try:
        source = open_source(camera.address())
        _check_device(camera.source)
    except (EdgePoseError, OSError) as error:
        yield Finding("wrong" if camera.enabled else "note", f"{name}: {error}")
        return
    does = ["connected to when the daemon starts" if source.is_live else "shown over and over"]
    does += ["off"] * (not camera.enabled) + ["not required"] * (not camera.required)
    does += ["ids that stay"] * (camera.track or camera.smooth) + ["calmed"] * camera.smooth
    does += [f"at most {camera.max_fps:g} frames/s"] if camera.max_fps else []
    does += [f"{event.kind} in {', '.join(event.zones) or 'the whole picture'}" for event in camera.events]
    yield Finding("ok", f"{name}: {without_password(camera.source)}: {'; '.join(does)}")
    if without_password(camera.source) != camera.source:
        yield Finding("note", f"{name}: its password is in the configuration: password_file or password_env keep it out")
    yield from _of_secret_file(camera.password_file, name)


def _of_events(camera: CameraSettings, skeleton: Skeleton) -> Iterator[Finding]:
    """Of a camera that is off too: the daemon refuses them all alike."""
    try:
        CameraWatch(camera, skeleton)
    except ConfigError as error:
        yield Finding("wrong", f"camera {camera.name}: {error}")


def _check_device(source: str) -> None:
    """A camera that is plugged in later is found then, but who asks now wants to know."""
    if source.startswith("v4l2://"):
        with open(urlsplit(source).path, "rb"):
            return


def _of_server(server: ServerSettings, tokens: int) -> Iterator[Finding]:
    scheme = "https" if server.tls_certificate else "http"
    host = f"[{server.host}]" if ":" in server.host else server.host
    who = f"{tokens} tokens" if tokens else "no token wanted"
    try:
        family, _, _, _, address = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        yield Finding("ok", f"server: {scheme}://{host}:{server.port}, free; {who}")
    except (OSError, UnicodeError) as error:  # the latter for names that no resolver takes
        taken = f"port {server.port} is taken; by the daemon itself where it runs already"
        reason = taken if isinstance(error, OSError) and error.errno == errno.EADDRINUSE else getattr(error, "strerror", None) or error
        yield Finding("wrong", f"server: {server.host}: {reason}")
    if server.tls_certificate and server.tls_key:
        yield _of_tls(server.tls_certificate, server.tls_key)


def _of_tls(certificate: Path, key: Path) -> Finding:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: b"")
    except (OSError, ssl.SSLError) as error:
        return Finding("wrong", f"server: {certificate} and {key} do not open ({error.strerror or error})")
    return Finding("ok", f"server: certificate {certificate} and its key fit")


def _of_mqtt(mqtt: MqttSettings) -> Iterator[Finding]:
    try:
        secret_from(mqtt.password_file, mqtt.password_env, "mqtt")
        if mqtt.ca_file:
            ssl.create_default_context(cafile=mqtt.ca_file)
    except (EdgePoseError, OSError) as error:
        yield Finding(
            "wrong", str(error) if isinstance(error, EdgePoseError) else f"mqtt.ca_file: {mqtt.ca_file}: {error.strerror or error}"
        )
        return
    how = "TLS" if mqtt.tls else "no TLS"
    yield Finding("ok", f"mqtt: {mqtt.host}:{mqtt.port}, {how}, user {mqtt.username or 'nobody'}, topics {mqtt.topic}/...; not tried")
    if mqtt.username and not mqtt.tls:
        yield Finding("note", "mqtt: the password goes over the network as it is: tls = true encrypts it")
    yield from _of_secret_file(mqtt.password_file, "mqtt")


def _of_recording(recording: RecordingSettings) -> Iterator[Finding]:
    if recording.format == "parquet" and find_spec("pyarrow") is None:
        yield Finding("wrong", "recording: Parquet files need pyarrow: pip install 'edgepose[daemon]'")
    try:
        there = next(folder for folder in (recording.folder, *recording.folder.absolute().parents) if _is_there(folder))
    except OSError as error:  # a folder above it that is somebody else's, say
        yield Finding("wrong", f"recording: {recording.folder}: {error.strerror}")
        return
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        yield Finding("wrong", f"recording: {there}: {'no permission to write there' if there.is_dir() else 'is no folder'}")
        return
    free_mb = shutil.disk_usage(there).free / 1e6
    place = f"recording: {recording.folder}, {'made at the start' if there != recording.folder else 'writable'}"
    yield Finding("ok", f"{place}; {recording.format}, a file every {recording.segment_s:g} s, {recording.quota_mb:g} MB of them")
    if free_mb < recording.quota_mb:
        yield Finding("note", f"recording: {free_mb:.0f} MB are free of the {recording.quota_mb:g} MB that it may take")


def _is_there(path: Path) -> bool:
    """Raises OSError where that cannot be known, which `exists` does not in every Python."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _of_hook(hook: HookSettings) -> Iterator[Finding]:
    try:
        tree = ast.parse(hook.file.read_bytes(), str(hook.file))
    except (OSError, SyntaxError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        yield Finding("wrong", f"hook: {hook.file}: {reason}")
        return
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    if "on_poses" not in functions:
        yield Finding("note", f"hook: {hook.file}: no function on_poses is written in it")
    yield Finding("ok", f"hook: {hook.file}, {hook.timeout_s:g} s a call; not run")


def _of_secret_file(file: Path | None, where: str) -> Iterator[Finding]:
    if file is not None and file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        yield Finding("note", f"{where}: others may read {file}: chmod 600 keeps them out")
