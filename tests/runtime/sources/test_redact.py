from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevand_runtime.sources import redact


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rtsp://admin:geheim@10.0.0.5:554/s", "rtsp://admin:***@10.0.0.5:554/s"),
        ("rtsp://admin:a@b:c@10.0.0.5/s", "rtsp://admin:***@10.0.0.5/s"),
        ("rtsp://admin:a/b@10.0.0.5/s", "rtsp://admin:***@10.0.0.5/s"),
        ("rtsp://:geheim@10.0.0.5/s", "rtsp://:***@10.0.0.5/s"),
        ("http://cam/video?user=a&password=geheim&fps=5", "http://cam/video?user=a&password=***&fps=5"),
        ("http://cam/video?api_key=geheim", "http://cam/video?api_key=***"),
        (
            "gst:rtspsrc location=rtsp://a:geheim@h/s user-pw=geheim ! x",
            "gst:rtspsrc location=rtsp://a:***@h/s user-pw=*** ! x",
        ),
        ("The source rtsp://a:geheim@h/s: refused.", "The source rtsp://a:***@h/s: refused."),
    ],
)
def test_passwords_are_replaced(text: str, expected: str) -> None:
    assert redact(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://10.0.0.5:554/stream@1",
        "rtsp://admin@10.0.0.5/s",
        "http://[::1]:8080/video.mjpg?user=me",
        "/data/a:b@c.png",
        "test://conveyor?fps=5&seed=3",
        "0",
        "gst:videotestsrc ! videoconvert",
    ],
)
def test_what_holds_no_password_stays_as_it_is(text: str) -> None:
    assert redact(text) == text


@settings(deadline=None)
@given(
    password=st.text(
        st.characters(codec="ascii", exclude_characters=" \"'<>", categories=["L", "N", "P", "S"]), min_size=1
    )
)
def test_no_password_comes_through_whatever_it_holds(password: str) -> None:
    secret = f"Zq{password}9x"
    shown = redact(f"rtsp://admin:{secret}@camera/stream")
    assert secret not in shown
    assert shown.endswith("camera/stream")
