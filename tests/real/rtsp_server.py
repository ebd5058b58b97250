"""A real RTSP camera for tests: serves a video file over and over. Run by the system's Python, which has GStreamer.

Usage: rtsp_server.py VIDEO PORT [--user USER --password PASSWORD [--digest]] [--fps FPS]

Prints ``ready`` once it accepts connections at rtsp://127.0.0.1:PORT/camera and runs until it is killed. Every client
sees the video from its first frame; at the end it starts again, with time stamps going on.
"""

from __future__ import annotations

import argparse
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstApp, GstRtsp, GstRtspServer  # noqa: E402 - the versions come first

DECODE = (
    'filesrc location="{video}" ! decodebin ! videoconvert ! video/x-raw,format=I420 ! '
    "appsink name=out sync=false max-buffers=4"
)
ENCODE = (
    "( appsrc name=frames is-live=true format=time block=true max-bytes=4000000 ! videoconvert ! "
    "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 quantizer=18 pass=qual threads=1 ! "
    "rtph264pay name=pay0 pt=96 config-interval=1 )"
)


class Loop:
    """The frames of a file, decoded one by one, over and over, with running time stamps."""

    def __init__(self, video: str, fps: float) -> None:
        """Start to decode."""
        self.duration = int(Gst.SECOND / fps)
        self.count = 0
        self.pipeline = Gst.parse_launch(DECODE.format(video=video))
        self.sink = self.pipeline.get_by_name("out")
        self.pipeline.set_state(Gst.State.PLAYING)

    def push(self, source: GstApp.AppSrc, _length: int) -> None:
        """Hand the next frame to the encoder, which asked for it."""
        sample = self.sink.emit("pull-sample")
        if sample is None:
            self.pipeline.seek_simple(Gst.Format.TIME, Gst.SeekFlags.FLUSH, 0)
            sample = self.sink.emit("pull-sample")
        if sample is None:
            source.emit("end-of-stream")
            return
        if self.count == 0:
            source.set_property("caps", sample.get_caps())
        frame = sample.get_buffer().copy_deep()
        frame.pts = frame.dts = self.count * self.duration
        frame.duration = self.duration
        self.count += 1
        source.emit("push-buffer", frame)

    def stop(self, _media: GstRtspServer.RTSPMedia) -> None:
        """The client has gone."""
        self.pipeline.set_state(Gst.State.NULL)


def configure(media: GstRtspServer.RTSPMedia, video: str, fps: float) -> None:
    """Give a new client its own reader of the file."""
    loop = Loop(video, fps)
    media.get_element().get_by_name("frames").connect("need-data", loop.push)
    media.connect("unprepared", loop.stop)


def protect(
    server: GstRtspServer.RTSPServer, factory: GstRtspServer.RTSPMediaFactory, args: argparse.Namespace
) -> None:
    """Let in only who knows the password."""
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    if args.digest:
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(args.user, args.password, token)
    else:
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(args.user, args.password), token)
    server.set_auth(auth)
    allowed = "viewer, media.factory.access=(boolean)true, media.factory.construct=(boolean)true"
    factory.add_role_from_structure(Gst.Structure.new_from_string(allowed))


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("video")
    parser.add_argument("port")
    parser.add_argument("--user")
    parser.add_argument("--password")
    parser.add_argument("--digest", action="store_true")
    parser.add_argument("--fps", type=float, default=25.0)
    args = parser.parse_args()
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(args.port)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(ENCODE)
    factory.set_shared(False)
    factory.connect("media-configure", lambda _factory, media: configure(media, args.video, args.fps))
    if args.user:
        protect(server, factory, args)
    server.get_mount_points().add_factory("/camera", factory)
    if server.attach(None) == 0:
        raise SystemExit(f"port {args.port} cannot be served")
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
