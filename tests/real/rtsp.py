"""The fixture ``rtsp_camera``: a real RTSP server (GStreamer's) that a test starts, kills and starts again.

Import the fixture into a test module: ``from tests.real.rtsp import rtsp_camera``; see ``RtspCamera`` for what it does.
"""

from __future__ import annotations

import selectors
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["RtspCamera", "free_port", "rtsp_camera"]

SERVER = Path(__file__).with_name("rtsp_server.py")
SYSTEM_PYTHON = "/usr/bin/python3"
_PROBE = (
    "import gi; [gi.require_version(name, '1.0') for name in ('Gst', 'GstApp', 'GstRtsp', 'GstRtspServer')]; "
    "from gi.repository import Gst; Gst.init(None); "
    "missing = [name for name in ('x264enc', 'rtph264pay', 'decodebin') if not Gst.ElementFactory.find(name)]; "
    "raise SystemExit(f'GStreamer has no {missing}' if missing else 0)"
)
_START_SECONDS = 30


def free_port() -> int:
    """A port of the loopback device that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RtspCamera:
    """One camera behind a real RTSP server. The port stays the same over restarts.

    Attributes:
        url: its address, with user and password where they are asked for.
        open_url: its address without them.
    """

    def __init__(
        self,
        video: Path,
        *,
        user: str | None = None,
        password: str | None = None,
        digest: bool = False,
        fps: float = 25,
    ) -> None:
        """Start nothing yet.

        Args:
            video: the file that is served over and over.
            user: asked for together with ``password`` where given.
            password: see ``user``.
            digest: ask for them by digest instead of basic authentication.
            fps: frames a second.
        """
        port = free_port()
        login = f"{user}:{password}@" if user else ""
        self.url = f"rtsp://{login}127.0.0.1:{port}/camera"
        self.open_url = f"rtsp://127.0.0.1:{port}/camera"
        self._command = [SYSTEM_PYTHON, str(SERVER), str(video), str(port), "--fps", str(fps)]
        if user and password:
            self._command += ["--user", user, "--password", password, *(["--digest"] if digest else [])]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> RtspCamera:
        """Start the server and wait until it accepts connections."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            ready = selector.select(_START_SECONDS) and self._process.stdout.readline() == b"ready\n"
        if not ready:
            self.kill()
            pytest.fail("the RTSP server of the test did not start")
        return self

    def kill(self) -> None:
        """Kill the server at once, as a camera whose plug is pulled."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None

    def restart(self, after: float = 0.0) -> None:
        """Kill the server and start it again on the same port ``after`` seconds."""
        self.kill()
        time.sleep(after)
        self.start()


@pytest.fixture
def rtsp_camera() -> Iterator[Callable[..., RtspCamera]]:
    """A maker of started ``RtspCamera``s (its arguments), killed at the test's end. Skips without GStreamer."""
    if shutil.which(SYSTEM_PYTHON) is None:
        pytest.skip(f"no {SYSTEM_PYTHON} to run a GStreamer RTSP server with")
    probe = subprocess.run([SYSTEM_PYTHON, "-c", _PROBE], capture_output=True, text=True, check=False)
    if probe.returncode:
        reason = probe.stderr.strip().splitlines()[-1] if probe.stderr.strip() else "unknown reason"
        pytest.skip(f"no GStreamer RTSP server for {SYSTEM_PYTHON} (python3-gi, gir1.2-gst-rtsp-server-1.0): {reason}")
    cameras: list[RtspCamera] = []

    def make(video: Path, **options: Any) -> RtspCamera:
        cameras.append(RtspCamera(video, **options))
        return cameras[-1].start()

    yield make
    for camera in cameras:
        camera.kill()
