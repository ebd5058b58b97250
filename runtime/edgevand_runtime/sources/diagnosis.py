"""Why a stream could not be opened. FFmpeg only says no; one question to the server tells the person what to mend."""

from __future__ import annotations

import base64
import hashlib
import http.client
import re
import socket
import ssl
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit

from edgevand_runtime.sources.redact import redact

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["explain_refusal"]

_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443, "rtmp": 1935, "rtmps": 443}
_UNAUTHORISED = 401
_FORBIDDEN = 403
_MISSING = {404, 410, 454}
_FAILED = 400
_LONGEST_HEAD = 65536


def explain_refusal(url: str, timeout: float) -> str:
    """Ask the server itself and put its answer into a sentence.

    Args:
        url: the address that could not be opened.
        timeout: seconds for each step: connecting, and each of at most two questions.

    Returns:
        One sentence without any password.
    """
    parts = urlsplit(url)
    name = redact(url)
    try:
        return _judge(name, parts, *_ask(parts, timeout))
    except (OSError, http.client.HTTPException, ValueError) as error:
        return _unreachable(name, parts, error)


def _ask(parts: SplitResult, timeout: float) -> tuple[int, str]:
    """What the server says: a status code (200 where its kind has none) and a content type."""
    if parts.scheme == "rtsp":
        return _ask_rtsp(parts, timeout)
    if parts.scheme in {"http", "https"}:
        return _ask_http(parts, timeout)
    if parts.scheme not in {"udp", "srt"}:
        _connect(parts, timeout).close()
    return 200, ""


def _unreachable(name: str, parts: SplitResult, error: Exception) -> str:
    """The sentence for a server that gave no answer."""
    if isinstance(error, socket.gaierror):
        return f"The source {name} cannot be reached because the host {parts.hostname} is unknown: check its name."
    if isinstance(error, ConnectionRefusedError):
        return (
            f"The source {name} cannot be reached because nothing accepts connections at port {_port(parts)} of "
            f"{parts.hostname}: check that the camera is running and the port is right."
        )
    if isinstance(error, TimeoutError):
        return (
            f"The source {name} was expected to answer but {parts.hostname} does not: check the camera and the network."
        )
    reason = " ".join(str(getattr(error, "strerror", None) or error).split()).rstrip(".") or type(error).__name__
    return f"The source {name} cannot be read ({redact(reason)}): check its address and the network."


def _judge(name: str, parts: SplitResult, status: int, content: str) -> str:
    """The sentence for a status code and a content type."""
    if status in {_UNAUTHORISED, _FORBIDDEN}:
        if not parts.username:
            return (
                f"The source {name} asks for a user and a password: write them into the address, "
                f"{parts.scheme}://USER:PASSWORD@{parts.hostname}/…"
            )
        return f"The source {name} refuses the password or the user name: check both."
    if status in _MISSING:
        path = parts.path or "/"
        return f"The source {name} is not there: {parts.hostname} answers but knows no {path}, check the path."
    if status >= _FAILED:
        return (
            f"The source {name} cannot be read because {parts.hostname} answers with error {status}: check the camera."
        )
    if content.startswith("text/html"):
        return f"The source {name} was expected to be a video stream but is a web page: give the address of the stream."
    return _no_video(name)


def _no_video(name: str) -> str:
    """The sentence for a server that answers and still shows nothing."""
    return (
        f"The source {name} answers but was expected to send video that can be decoded: "
        "check that it is a stream in H.264, H.265 or MJPEG."
    )


def _port(parts: SplitResult) -> int:
    """The port that is asked."""
    return parts.port or _PORTS.get(parts.scheme, 0)


def _connect(parts: SplitResult, timeout: float) -> socket.socket:
    """A TCP connection to the server."""
    return socket.create_connection((parts.hostname or "", _port(parts)), timeout)


def _login(parts: SplitResult) -> tuple[str, str]:
    """User and password as they are meant, without percent signs."""
    return unquote(parts.username or ""), unquote(parts.password or "")


def _basic(parts: SplitResult) -> str:
    """The value of an Authorization header (RFC 7617)."""
    return "Basic " + base64.b64encode(":".join(_login(parts)).encode()).decode()


def _ask_http(parts: SplitResult, timeout: float) -> tuple[int, str]:
    """Status and content type of a GET, whose body is not read."""
    secure = parts.scheme == "https"
    # FFmpeg does not check a camera's certificate, hence neither does the question why it failed.
    connection = (
        http.client.HTTPSConnection(parts.netloc.rpartition("@")[2], timeout=timeout, context=_lenient())
        if secure
        else http.client.HTTPConnection(parts.netloc.rpartition("@")[2], timeout=timeout)
    )
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", target, headers={"Authorization": _basic(parts)} if parts.username else {})
        response = connection.getresponse()
        return response.status, response.getheader("Content-Type", "").lower()
    finally:
        connection.close()


def _lenient() -> ssl.SSLContext:
    """TLS without a check of the certificate: cameras sign their own."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _ask_rtsp(parts: SplitResult, timeout: float) -> tuple[int, str]:
    """Status and content type of a DESCRIBE (RFC 2326), asked a second time with the password where one is wanted."""
    address = f"rtsp://{parts.netloc.rpartition('@')[2]}{parts.path}" + (f"?{parts.query}" if parts.query else "")
    with _connect(parts, timeout) as connection:
        status, headers = _describe(connection, address, 1, None)
        if status == _UNAUTHORISED and parts.username:
            challenges = [value for key, value in headers if key == "www-authenticate"]
            status, headers = _describe(connection, address, 2, _answer(parts, address, challenges))
    return status, dict(headers).get("content-type", "")


def _describe(
    connection: socket.socket, address: str, number: int, authorization: str | None
) -> tuple[int, list[tuple[str, str]]]:
    """Send one DESCRIBE; the status and the headers of its answer."""
    lines = [f"DESCRIBE {address} RTSP/1.0", f"CSeq: {number}", "Accept: application/sdp"]
    lines += [f"Authorization: {authorization}"] if authorization else []
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.recv(4096)
        if not piece or len(head) > _LONGEST_HEAD:
            raise ConnectionError("it closed the connection without an answer")
        head += piece
    first, *rest = head.partition(b"\r\n\r\n")[0].decode("utf-8", "replace").split("\r\n")
    match = re.match(r"RTSP/\d\.\d (\d{3})", first)
    if match is None:
        raise ValueError("it does not speak RTSP")
    pairs = (line.partition(":") for line in rest)
    return int(match[1]), [(key.strip().lower(), value.strip()) for key, _, value in pairs]


def _answer(parts: SplitResult, address: str, challenges: Sequence[str]) -> str:
    """The Authorization header for the server's challenge: digest (RFC 2069, as cameras use it) before basic."""
    digest = next((text for text in challenges if text.lower().startswith("digest")), None)
    if digest is None:
        return _basic(parts)
    fields = dict(re.findall(r'(\w+)="([^"]*)"', digest))
    realm, nonce = fields.get("realm", ""), fields.get("nonce", "")
    user, password = _login(parts)
    response = _md5(f"{_md5(f'{user}:{realm}:{password}')}:{nonce}:{_md5(f'DESCRIBE:{address}')}")
    return f'Digest username="{user}", realm="{realm}", nonce="{nonce}", uri="{address}", response="{response}"'


def _md5(text: str) -> str:
    """What the digest scheme prescribes; nothing is kept safe by it here."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
