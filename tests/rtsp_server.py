"""An RTSP camera of GStreamer's rtsp-server: a bouncing ball in H.264. Run by the system's Python, which has GStreamer's bindings:

    python3 rtsp_server.py PORT WIDTHxHEIGHT [SHARE OF BYTES TO BREAK]

Says "ready PORT" when it listens; PORT 0 asks for any.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

SOURCE = (
    "( videotestsrc is-live=true pattern=ball ! video/x-raw,width={0},height={1},framerate=25/1"
    " ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10 bitrate=500 {2} ! rtph264pay name=pay0 config-interval=1 )"
)


def main() -> None:
    Gst.init(None)
    port, size = sys.argv[1], sys.argv[2].split("x")
    breaking = f"! breakmydata probability={sys.argv[3]} skip=4000" if len(sys.argv) > 3 else ""
    server, factory = GstRtspServer.RTSPServer(), GstRtspServer.RTSPMediaFactory()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory.set_launch(SOURCE.format(*size, breaking))
    factory.set_shared(True)
    server.get_mount_points().add_factory("/live", factory)
    assert server.attach(None), f"port {port} is taken"
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    GLib.MainLoop().run()


main()
