from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

CODE = """
import sys
sys.path[:0] = sys.argv[1:3]
from edgevand.errors import EdgevandError
from edgevand_runtime.sources import open_source
for uri in sys.argv[3:]:
    try:
        for _ in open_source(uri, open_timeout=0.5):
            pass
    except EdgevandError:
        print("told")
"""


def run(repository: Path, uris: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    """Open sources in a process of its own, as the command line does."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("OPENCV_")}
    command = [sys.executable, "-c", CODE, str(repository), str(repository / "runtime"), *uris]
    return subprocess.run(command, capture_output=True, text=True, check=True, env={**clean, **variables})


@pytest.fixture
def bad_sources(tmp_path: Path, silent_server: str) -> list[str]:
    """Sources about which OpenCV and FFmpeg have a lot to say."""
    (tmp_path / "a.mp4").write_bytes(b"text" * 500)
    (tmp_path / "a.avi").write_bytes(b"RIFF" + bytes(2000))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    names = [str(tmp_path / name) for name in ("a.mp4", "a.avi", "a.png")]
    return [*names, f"http://{silent_server}/x", "rtsp://127.0.0.1:1/x", "63"]


def test_only_our_own_sentences_reach_the_user(repository: Path, bad_sources: list[str]) -> None:
    done = run(repository, bad_sources)
    assert done.stderr == ""
    assert done.stdout == "told\n" * len(bad_sources)


def test_who_asks_opencv_to_speak_hears_it(repository: Path, bad_sources: list[str]) -> None:
    assert "VIDEOIO" in run(repository, bad_sources[:1], OPENCV_LOG_LEVEL="WARNING").stderr


def test_a_program_ends_cleanly_while_a_live_source_is_open_and_its_server_hangs(
    repository: Path, silent_server: str
) -> None:
    code = """
import sys, threading
sys.path[:0] = sys.argv[1:3]
from edgevand_runtime.sources import open_source
threading.Thread(target=open_source, args=(sys.argv[3],), kwargs={"open_timeout": 30}, daemon=True).start()
threading.Event().wait(0.3)
"""
    command = [sys.executable, "-c", code, str(repository), str(repository / "runtime"), f"rtsp://{silent_server}/x"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=25)
    assert (done.returncode, done.stderr) == (0, "")
