"""Real HTTP servers on the loopback device: an MJPEG camera, and a server that accepts and says nothing.

Import the fixtures into a test module: ``from tests.real.mjpeg import mjpeg_camera, silent_server``.
"""

from __future__ import annotations

import base64
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import cv2
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["MjpegCamera", "mjpeg_camera", "silent_server"]

_BOUNDARY = "frame"


class MjpegCamera:
    """A camera that sends JPEGs over HTTP, its pictures over and over.

    Attributes:
        url: its address, with user and password where they are asked for.
        open_url: its address without them.
        frozen: while set, connections stay open and nothing is sent.
    """

    def __init__(
        self,
        pictures: Sequence[NDArray[np.uint8]],
        *,
        fps: float = 25,
        login: str | None = None,
        limit: int | None = None,
    ) -> None:
        """Start to serve.

        Args:
            pictures: (H, W, 3) uint8 BGR each.
            fps: pictures a second.
            login: ``user:password`` that is asked for.
            limit: close each connection after so many pictures.
        """
        self.frozen = threading.Event()
        self._stop = threading.Event()
        self._jpegs = [cv2.imencode(".jpg", picture)[1].tobytes() for picture in pictures]
        self._fps, self._limit = fps, limit
        self._login = base64.b64encode(login.encode()).decode() if login else None
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                camera._answer(self)

            def log_message(self, *_: object) -> None:
                """Nothing on stderr."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{self._server.server_address[1]}/video.mjpg"
        self.open_url = f"http://{address}"
        self.url = f"http://{login}@{address}" if login else self.open_url

    def stop(self) -> None:
        """Close every connection and the port."""
        self._stop.set()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        """Refuse, or send pictures until the client goes."""
        if request.path == "/":
            self._head(request, 200, "text/html")
            return
        if request.path != "/video.mjpg":
            request.send_error(404)
            return
        if self._login and request.headers.get("Authorization") != f"Basic {self._login}":
            request.send_response(401)
            request.send_header("WWW-Authenticate", 'Basic realm="camera"')
            request.end_headers()
            return
        self._head(request, 200, f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
        number = 0
        while not self._stop.is_set() and number != self._limit:
            if not self.frozen.is_set():
                jpeg = self._jpegs[number % len(self._jpegs)]
                head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                try:
                    request.wfile.write(head.encode() + jpeg + b"\r\n")
                except OSError:  # the client has gone
                    return
                number += 1
            time.sleep(1 / self._fps)

    @staticmethod
    def _head(request: BaseHTTPRequestHandler, status: int, content: str) -> None:
        request.send_response(status)
        request.send_header("Content-Type", content)
        request.end_headers()


@pytest.fixture
def mjpeg_camera() -> Iterator[Callable[..., MjpegCamera]]:
    """A maker of running ``MjpegCamera``s (its arguments), stopped at the test's end."""
    cameras: list[MjpegCamera] = []

    def make(*args: object, **options: object) -> MjpegCamera:
        cameras.append(MjpegCamera(*args, **options))  # type: ignore[arg-type]
        return cameras[-1]

    yield make
    for camera in cameras:
        camera.stop()


@pytest.fixture
def silent_server() -> Iterator[str]:
    """``127.0.0.1:port`` of a server that accepts connections and never says a word."""
    connections: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            try:
                while True:
                    connections.append(server.accept()[0])
            except OSError:  # closed at the end
                return

        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
    for connection in connections:
        connection.close()
